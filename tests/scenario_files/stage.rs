//! One scenario on one engine: the dispatcher, and what the labels of the file stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay::{
    Dispatcher, Durability, Job, JobId, Lease, ManualClock, NewJob, Options, Pushed, RetryPolicy,
    Subscription, Ticket, Timestamp,
};
use forebay_tests::scratch::Scratch;
use serde_json::{Value, json};

use crate::fields::{Failure, Fields, Step, attempts, mistaken, object, payload, read, text};

/// An id that no job has.
const NOBODY: &str = "00000000-0000-7000-8000-000000000001";

/// An engine to run on: a line of `tests/engines.json`.
#[derive(serde::Deserialize)]
pub(crate) struct Place {
    pub(crate) engine: String,
    pub(crate) url: String,
    pub(crate) has: BTreeSet<String>,
}

/// One scenario on one engine.
pub(crate) struct Stage<'a> {
    pub(crate) place: &'a Place,
    pub(crate) scratch: Scratch,
    pub(crate) options: BTreeMap<String, String>,
    /// How far the clock has been moved.
    pub(crate) advanced: Duration,
    pub(crate) d: Option<Dispatcher>,
    pub(crate) events: Option<Subscription>,
    pub(crate) jobs: BTreeMap<String, JobId>,
    pub(crate) deliveries: BTreeMap<String, Ticket>,
}

impl<'a> Stage<'a> {
    /// Nothing open yet, with these options.
    pub(crate) fn new(place: &'a Place, options: BTreeMap<String, String>) -> Self {
        Self {
            place,
            scratch: Scratch::in_memory(),
            options,
            advanced: Duration::ZERO,
            d: None,
            events: None,
            jobs: BTreeMap::new(),
            deliveries: BTreeMap::new(),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.filled(&self.place.url)
    }

    pub(crate) fn filled(&self, text: &str) -> String {
        text.replace("{scratch}", &self.scratch.folder().display().to_string())
    }

    pub(crate) fn open(&mut self, url: &str) -> Step {
        let mut options = Options::default();
        let now = self.at(self.advanced).as_millis();
        options.set("clock", &format!("manual({now})"))?;
        for (name, value) in &self.options {
            options.set(name, &self.filled(value))?;
        }
        let opened = Dispatcher::open(url, options)?;
        (self.d, self.events) = (Some(opened), None);
        Ok(json!({}))
    }

    /// The instant that is so long after the beginning.
    pub(crate) fn at(&self, after: Duration) -> Timestamp {
        ManualClock::START.after(after)
    }

    pub(crate) fn d(&self) -> Result<&Dispatcher, Failure> {
        match &self.d {
            Some(d) => Ok(d),
            None => mistaken("no dispatcher is open"),
        }
    }

    pub(crate) fn id(&self, label: &str) -> Result<JobId, Failure> {
        match self.jobs.get(label) {
            Some(id) => Ok(*id),
            None if label == "nobody" => Ok(NOBODY.parse()?),
            None => mistaken(format!("no job is called {label:?}")),
        }
    }

    pub(crate) fn ticket(&self, label: &str) -> Result<Ticket, Failure> {
        match self.deliveries.get(label) {
            Some(ticket) => Ok(*ticket),
            None => mistaken(format!("no delivery is called {label:?}")),
        }
    }

    pub(crate) fn label(&self, id: JobId) -> &str {
        let found = self.jobs.iter().find(|(_, job)| **job == id);
        found.map_or("?", |(label, _)| label)
    }

    pub(crate) fn name(&mut self, label: Option<String>, id: JobId) {
        if let Some(label) = label.filter(|_| self.label(id) == "?") {
            self.jobs.insert(label, id);
        }
    }

    /// What is left until an instant, in milliseconds.
    pub(crate) fn until(&self, at: Timestamp) -> Result<u64, Failure> {
        let left = at.since(self.d()?.now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    // ---- jobs to be pushed

    /// A job, and the label it is to have.
    pub(crate) fn job(&mut self, fields: &mut Fields) -> Result<(NewJob<'static>, Option<String>), Failure> {
        let kind: String = fields.take("kind")?.unwrap_or_else(|| "k".to_owned());
        let mut job = NewJob::new(kind, payload(fields)?.unwrap_or_default());
        if let Some(queue) = fields.take::<String>("queue")? {
            job = job.queue(queue);
        }
        if let Some(priority) = fields.take("priority")? {
            job = job.priority(priority);
        }
        if let Some(delay) = fields.ms("delay_ms")? {
            job = job.delay(delay);
        }
        if let Some(after) = fields.ms("at_ms")? {
            job = job.run_at(self.d()?.now().after(after));
        }
        if let Some(timeout) = fields.ms("timeout_ms")? {
            job = job.timeout(timeout);
        }
        if let Some(after) = fields.ms("expires_ms")? {
            job = job.expires_after(after);
        }
        job = match fields.take("max_attempts")? {
            Some(Value::String(text)) if text == "unlimited" => job.max_attempts(u32::MAX),
            Some(number) => job.max_attempts(read("max_attempts", number)?),
            None => job,
        };
        if let Some(retry) = fields.take::<String>("retry")? {
            job = job.retry(RetryPolicy::parse(&retry)?);
        }
        if let Some(key) = fields.take::<String>("key")? {
            job = job.key(key);
        }
        if let Some(key) = fields.take::<String>("concurrency_key")? {
            job = job.concurrency_key(key);
        }
        for (name, value) in fields
            .take::<Vec<(String, String)>>("headers")?
            .unwrap_or_default()
        {
            job = job.header(name, value);
        }
        for token in fields.take::<Vec<String>>("waits_for")?.unwrap_or_default() {
            job = job.waits_for(token);
        }
        if let Some(level) = fields.take::<String>("durability")? {
            let found = Durability::from_name(&level);
            job = job.durability(found.ok_or_else(|| Failure::Mistaken(format!("no durability {level:?}")))?);
        }
        let label: Option<String> = fields.take("as")?;
        if let Some(id) = fields.take::<String>("id")? {
            let id = self.jobs.get(&id).map_or_else(|| id.parse(), |id| Ok(*id))?;
            self.name(label.clone(), id);
            job = job.id(id);
        }
        Ok((job, label))
    }

    /// Jobs with their labels.
    pub(crate) fn batch(
        &mut self,
        jobs: Option<Vec<Value>>,
    ) -> Result<Vec<(NewJob<'static>, Option<String>)>, Failure> {
        let job = |value| {
            let mut fields = Fields::of(value)?;
            let job = self.job(&mut fields)?;
            fields.end().map(|()| job)
        };
        jobs.unwrap_or_default().into_iter().map(job).collect()
    }

    pub(crate) fn pushed(&mut self, pushed: Pushed, label: Option<String>) -> Value {
        self.name(label, pushed.id);
        json!({
            "id": self.label(pushed.id),
            "created": pushed.created,
            "shed": pushed.shed.map(|reason| reason.name()),
            "durability": pushed.durability.name(),
        })
    }

    // ---- what is told of jobs

    pub(crate) fn delivery(&mut self, lease: Lease, label: Option<&str>) -> Result<Value, Failure> {
        self.name(label.map(str::to_owned), lease.id());
        let known = self.label(lease.id()).to_owned();
        let mut told = text(lease.payload());
        let due = lease.due().map(|at| self.until(at)).transpose()?;
        told.extend(object(json!({
            "id": known, "kind": lease.kind_text(), "queue": lease.queue_text(),
            "attempt": lease.attempt(), "max_attempts": attempts(lease.max_attempts()),
            "priority": lease.priority(), "key": lease.key(), "concurrency_key": lease.concurrency_key(),
            "headers": lease.headers(), "fence": lease.fence(), "due_ms": due,
        })));
        let ticket = lease.park();
        for label in label.map(str::to_owned).into_iter().chain([known]) {
            self.deliveries.insert(label, ticket);
        }
        Ok(told.into())
    }

    pub(crate) fn told(&self, job: &Job) -> Step {
        let failure = |failure: &Option<forebay::Failure>| match failure {
            Some(failure) => (json!(failure.kind.name()), json!(failure.message)),
            None => (Value::Null, Value::Null),
        };
        let history = job.history.iter().map(|attempt| {
            let (kind, text) = failure(&attempt.failure);
            json!({"number": attempt.number, "failure_kind": kind, "failure": text})
        });
        let (kind, text) = failure(&job.error);
        Ok(json!({
            "id": self.label(job.id), "kind": &*job.kind, "queue": &*job.queue, "state": job.state.name(),
            "priority": job.priority, "attempt": job.attempt,
            "max_attempts": job.max_attempts.map(attempts), "crashes": job.crashes, "key": job.key(),
            "concurrency_key": job.concurrency_key(), "headers": job.headers(),
            "waits_for": job.waits.iter().map(|token| &**token).collect::<Vec<&str>>(),
            "timeout_ms": job.timeout.map(|time| time.as_millis() as u64),
            "cancel_requested": job.cancel_requested, "due_ms": self.until(job.run_at)?,
            "failure_kind": kind, "failure": text, "history": history.collect::<Vec<Value>>(),
        }))
    }
}
