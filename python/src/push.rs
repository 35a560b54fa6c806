//! Pushing: options from keywords, and the wait for room.

use std::time::Duration;

use forebay::{
    Deadline, Dispatcher, Durability, ErrorKind, JobId, KindId, Name, NewJob, OptionValue, Payload, Priority,
    PushManyError, Pushed, RetryPolicy, Timestamp,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString, PyTuple};

use crate::errors::{OrRaise, exception, invalid};
use crate::graveyard::{self, Near};
use crate::handle::Handle;
use crate::shared::{Kind, Shared};
use crate::{patience, read};

/// When something is to happen: after a time, or at an instant.
#[derive(Clone, Copy)]
enum When {
    After(Duration),
    At(Timestamp),
}

/// What a push says beside kind and payload.
#[derive(Clone, Default)]
pub struct PushOptions {
    id: Option<JobId>,
    queue: Option<String>,
    priority: Option<Priority>,
    run_at: Option<When>,
    deadline: Option<When>,
    key: Option<String>,
    concurrency_key: Option<String>,
    max_attempts: Option<u32>,
    timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
    headers: Vec<(String, String)>,
    waits_for: Vec<String>,
    durability: Option<Durability>,
    /// How long to wait for room; the queue's policy says if this does not.
    pub wait: Option<Duration>,
}

impl PushOptions {
    /// These, with what the keywords say. `None` leaves an option as it is.
    pub fn with<'py>(
        mut self,
        keywords: impl IntoIterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    ) -> PyResult<Self> {
        for (name, value) in keywords {
            if !value.is_none() {
                self.set(name.cast::<PyString>()?.to_str()?, &value)?;
            }
        }
        Ok(self)
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match name {
            "id" => self.id = Some(read::id(value)?),
            "queue" => self.queue = Some(read::text(name, value)?),
            "priority" => self.priority = Some(priority(value)?),
            "delay" => self.run_at = Some(When::After(read::duration(name, value)?)),
            "run_at" => self.run_at = Some(when(name, value)?),
            "deadline" => self.deadline = Some(when(name, value)?),
            "key" => self.key = Some(read::text(name, value)?),
            "concurrency_key" => self.concurrency_key = Some(read::text(name, value)?),
            "max_attempts" => self.max_attempts = Some(attempts(value)?),
            "timeout" => self.timeout = Some(read::duration(name, value)?),
            "retry" => self.retry = Some(retry(value)?),
            "headers" => self.headers = headers(value)?,
            "waits_for" => self.waits_for = waits_for(value)?,
            "durability" => self.durability = Some(durability(value)?),
            "wait" => self.wait = Some(read::duration(name, value)?),
            _ => {
                let text = format!(
                    "{name:?} is not an option of a push; there are: {}",
                    NAMES.join(", ")
                );
                return Err(PyTypeError::new_err(text));
            }
        }
        Ok(())
    }

    /// Whether the core may end such a job by itself, by its timeout or its deadline.
    pub fn may_expire(&self) -> bool {
        self.timeout.is_some() || self.deadline.is_some()
    }

    /// Whether such a job may start by itself later than it is pushed, or once more.
    pub fn may_wait(&self) -> bool {
        self.run_at.is_some() || self.timeout.is_some() || self.max_attempts.is_some_and(|runs| runs > 1)
    }

    /// The job that these options make of a kind and a payload.
    pub fn job<'a>(&'a self, kind: impl Into<Name<'a, KindId>>, payload: Payload) -> NewJob<'a> {
        let mut job = self.fill(NewJob::new(kind, payload));
        if let Some(queue) = &self.queue {
            job = job.queue(queue);
        }
        if let Some(key) = &self.key {
            job = job.key(key);
        }
        if let Some(key) = &self.concurrency_key {
            job = job.concurrency_key(key);
        }
        job
    }

    /// The same job, which needs these options no longer.
    pub fn owned(
        &self,
        core: &Dispatcher,
        kind: KindId,
        payload: Payload,
    ) -> forebay::Result<NewJob<'static>> {
        let mut job = self.fill(NewJob::new(kind, payload));
        if let Some(queue) = &self.queue {
            job = job.queue(core.queue(queue)?);
        }
        if let Some(key) = &self.key {
            job = job.key(key.clone());
        }
        if let Some(key) = &self.concurrency_key {
            job = job.concurrency_key(key.clone());
        }
        Ok(job)
    }

    /// Says everything that needs no text of these options.
    fn fill<'a>(&self, job: NewJob<'a>) -> NewJob<'a> {
        let mut job = job.priority(self.priority.unwrap_or(0));
        if let Some(id) = self.id {
            job = job.id(id);
        }
        job = match self.run_at {
            None => job,
            Some(When::After(delay)) => job.delay(delay),
            Some(When::At(at)) => job.run_at(at),
        };
        job = match self.deadline {
            None => job,
            Some(When::After(after)) => job.expires_after(after),
            Some(When::At(at)) => job.deadline(at),
        };
        if let Some(runs) = self.max_attempts {
            job = job.max_attempts(runs);
        }
        if let Some(timeout) = self.timeout {
            job = job.timeout(timeout);
        }
        if let Some(policy) = self.retry {
            job = job.retry(policy);
        }
        if let Some(level) = self.durability {
            job = job.durability(level);
        }
        job = self
            .headers
            .iter()
            .fold(job, |job, (name, text)| job.header(name, text));
        self.waits_for
            .iter()
            .fold(job, |job, token| job.waits_for(token.as_str()))
    }
}

/// The options of a push, for the error text.
const NAMES: &[&str] = &[
    "id",
    "queue",
    "priority",
    "delay",
    "run_at",
    "deadline",
    "key",
    "concurrency_key",
    "max_attempts",
    "timeout",
    "retry",
    "headers",
    "waits_for",
    "durability",
    "wait",
];

fn when(name: &str, value: &Bound<'_, PyAny>) -> PyResult<When> {
    match read::instant(name, value)? {
        Some(at) => Ok(When::At(at)),
        None => read::duration(name, value).map(When::After),
    }
}

fn priority(value: &Bound<'_, PyAny>) -> PyResult<Priority> {
    let (low, high) = (Priority::MIN, Priority::MAX);
    match value.extract() {
        Ok(priority) => Ok(priority),
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => {
            Err(read::wrong("priority", value, "a whole number"))
        }
        Err(_) => {
            let text = format!("priority is {value}; it must be from {low} to {high}");
            Err(invalid(value.py(), text))
        }
    }
}

/// How often a job may run: a number, or `"unlimited"`.
fn attempts(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let text = value.str()?;
    u32::read(text.to_str()?).map_err(|why| invalid(value.py(), format!("max_attempts: {why}")))
}

/// A retry policy in its text form.
fn retry(value: &Bound<'_, PyAny>) -> PyResult<RetryPolicy> {
    RetryPolicy::parse(&read::text("retry", value)?).or_raise(value.py())
}

fn durability(value: &Bound<'_, PyAny>) -> PyResult<Durability> {
    let text = read::text("durability", value)?;
    Durability::read(&text).map_err(|why| invalid(value.py(), format!("durability: {why}")))
}

fn headers(value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let Ok(headers) = value.cast::<PyMapping>() else {
        return Err(read::wrong("headers", value, "a mapping of texts to texts"));
    };
    let header = |item: Bound<'_, PyAny>| {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let name = read::text("the name of a header", &name)?;
        let value = read::text(&format!("the header {name:?}"), &value)?;
        Ok((name, value))
    };
    headers.items()?.iter().map(header).collect()
}

fn waits_for(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let wrong = || read::wrong("waits_for", value, "a list of tokens");
    if value.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    let tokens = value.try_iter().map_err(|_| wrong())?;
    tokens
        .map(|token| read::text("a token of waits_for", &token?))
        .collect()
}

/// One job of `push_many`.
pub struct Row<'py> {
    kind: Kind<'py>,
    payload: Payload,
    options: Option<PushOptions>,
}

impl<'py> Row<'py> {
    /// What a pair of kind and payload, or a mapping, says.
    pub fn read(shared: &Shared, row: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(pair) = row.cast::<PyTuple>() {
            let (kind, payload): (Bound<'py, PyString>, Bound<'py, PyAny>) = pair.extract()?;
            let kind = Kind::of(shared, kind);
            return Ok(Self {
                payload: shared.payload(row.py(), &kind, payload)?,
                kind,
                options: None,
            });
        }
        let Ok(mapping) = row.cast::<PyMapping>() else {
            let text = format!(
                "{} is not a job; give a pair (kind, payload) or a mapping",
                row.repr()?
            );
            return Err(PyTypeError::new_err(text));
        };
        let options = PyDict::new(row.py());
        options.update(mapping)?;
        let Some(kind) = options.get_item("kind")? else {
            return Err(invalid(row.py(), "a job of push_many has no \"kind\"".into()));
        };
        options.del_item("kind")?;
        let payload = options.call_method1("pop", ("payload", row.py().None()))?;
        let kind = Kind::of(shared, kind.cast_into()?);
        Ok(Self {
            payload: shared.payload(row.py(), &kind, payload)?,
            kind,
            options: Some(PushOptions::default().with(&options)?),
        })
    }

    /// The job that is pushed.
    pub fn job(&self) -> PyResult<NewJob<'_>> {
        let (kind, payload) = (self.kind.name()?, self.payload.clone());
        Ok(match &self.options {
            None => NewJob::new(kind, payload),
            Some(options) => options.job(kind, payload),
        })
    }

    /// It was accepted, so its kind has a number.
    pub fn note(&self, shared: &Shared) -> PyResult<()> {
        self.kind.note(shared)
    }
}

/// Pushes one job. Stays attached unless it has to wait, for room or for the store.
#[inline]
pub fn push(
    py: Python<'_>,
    shared: &std::sync::Arc<Shared>,
    job: NewJob<'_>,
    wait: Option<Duration>,
) -> PyResult<Py<Handle>> {
    if shared.push_hooks.none() {
        return Handle::new(py, shared, pushed(py, shared, job, wait)?);
    }
    let (job, listeners) = shared.push_hooks.ask(py, &shared.core, job);
    let answer = pushed(py, shared, job, wait).and_then(|pushed| Handle::new(py, shared, pushed));
    listeners.tell(py, answer.as_ref());
    answer
}

/// Pushes one job, calls no hook, and makes no handle.
#[inline]
pub fn pushed(
    py: Python<'_>,
    shared: &Shared,
    mut job: NewJob<'_>,
    wait: Option<Duration>,
) -> PyResult<Pushed> {
    graveyard::drain(py);
    let _near = Near::new(py);
    let waits = shared.push_waits(std::slice::from_ref(&job));
    match shared.detached_if(waits, py, |core| core.try_push_from(&mut job)) {
        Ok(pushed) => Ok(pushed),
        Err(refused) => Python::attach(|py| insist(py, shared, &job, wait, &refused)),
    }
}

/// Pushes a job that was refused once more if all that it lacks is room, as far as the caller's patience goes.
#[cold]
fn insist(
    py: Python<'_>,
    shared: &Shared,
    job: &NewJob<'_>,
    wait: Option<Duration>,
    refused: &forebay::Error,
) -> PyResult<Pushed> {
    let patience = match refused.kind() {
        ErrorKind::Full => wait.or_else(|| shared.core.patience(job)),
        _ => None,
    };
    match patience.filter(|p| !p.is_zero()) {
        None => Err(exception(py, refused)),
        Some(patience) => {
            let pushed = wait_for_room(py, shared, std::slice::from_ref(job), patience);
            pushed.map(|pushed| pushed[0]).map_err(|(_, error)| error)
        }
    }
}

/// Pushes several jobs in order. What was accepted before a refusal is the attribute `pushed` of the
/// exception.
pub fn push_many(
    py: Python<'_>,
    shared: &std::sync::Arc<Shared>,
    jobs: &[NewJob<'_>],
    wait: Option<Duration>,
) -> PyResult<Vec<Py<Handle>>> {
    let (handles, error) = match shared.push_hooks.none() {
        true => push_rows(py, shared, jobs, wait)?,
        false => {
            let jobs = jobs.iter().cloned();
            let asked = jobs.map(|job| shared.push_hooks.ask(py, &shared.core, job));
            let (jobs, listeners): (Vec<_>, Vec<_>) = asked.unzip();
            let (handles, error) = push_rows(py, shared, &jobs, wait)?;
            for (i, listeners) in listeners.into_iter().enumerate() {
                match (handles.get(i), &error) {
                    (Some(handle), _) => listeners.tell(py, Ok(handle)),
                    (None, Some(error)) => listeners.tell(py, Err(error)),
                    (None, None) => {}
                }
            }
            (handles, error)
        }
    };
    match error {
        None => Ok(handles),
        Some(error) => {
            error.value(py).setattr("pushed", handles)?;
            Err(error)
        }
    }
}

/// The handles of the jobs that were accepted, and why the next one was not.
fn push_rows(
    py: Python<'_>,
    shared: &std::sync::Arc<Shared>,
    jobs: &[NewJob<'_>],
    wait: Option<Duration>,
) -> PyResult<(Vec<Py<Handle>>, Option<PyErr>)> {
    graveyard::drain(py);
    let _near = Near::new(py);
    let waits = shared.push_waits(jobs);
    let (pushed, error) = match shared.detached_if(waits, py, |core| core.try_push_many(jobs)) {
        Ok(pushed) => (pushed, None),
        Err(PushManyError { pushed, error }) => finish(py, shared, jobs, wait, pushed, &error),
    };
    let handles = pushed
        .into_iter()
        .map(|p| Handle::new(py, shared, p))
        .collect::<PyResult<Vec<_>>>()?;
    Ok((handles, error))
}

/// Goes on with the jobs that found no room, as far as the caller's patience goes.
fn finish(
    py: Python<'_>,
    shared: &Shared,
    jobs: &[NewJob<'_>],
    wait: Option<Duration>,
    mut pushed: Vec<Pushed>,
    error: &forebay::Error,
) -> (Vec<Pushed>, Option<PyErr>) {
    let rest = &jobs[pushed.len()..];
    let patience = rest
        .first()
        .and_then(|job| wait.or_else(|| shared.core.patience(job)));
    match patience.filter(|p| !p.is_zero() && error.kind() == ErrorKind::Full) {
        None => (pushed, Some(exception(py, error))),
        Some(patience) => {
            let (more, error) = match wait_for_room(py, shared, rest, patience) {
                Ok(more) => (more, None),
                Err((more, error)) => (more, Some(error)),
            };
            pushed.extend(more);
            (pushed, error)
        }
    }
}

/// Pushes jobs, waiting for room. Returns with an error what was accepted before it.
fn wait_for_room(
    py: Python<'_>,
    shared: &Shared,
    jobs: &[NewJob<'_>],
    patience: Duration,
) -> Result<Vec<Pushed>, (Vec<Pushed>, PyErr)> {
    let mut all = Vec::with_capacity(jobs.len());
    let result = patience::wait(py, shared, Deadline::after(patience), ErrorKind::Full, |until| {
        let left = until.left().unwrap_or(Duration::MAX);
        match shared.core.push_many_within(&jobs[all.len()..], left) {
            Ok(pushed) => {
                all.extend(pushed);
                Ok(())
            }
            Err(PushManyError { pushed, error }) => {
                all.extend(pushed);
                Err(error)
            }
        }
    });
    match result.and_then(|answer| answer.or_raise(py)) {
        Ok(()) => Ok(all),
        Err(error) => Err((all, error)),
    }
}
