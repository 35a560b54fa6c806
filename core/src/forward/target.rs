//! Another dispatcher as a sink.

use std::time::Duration;

use super::sink::{Sink, SinkError};
use crate::config::Options;
use crate::dispatcher::{Dispatcher, Lease, PushManyError, Pushed};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{NewJob, State};
use crate::names::check_name;

/// How long a delivery waits for room in a full queue before it says so.
const PATIENCE: Duration = Duration::from_millis(200);

/// Another dispatcher, to pass jobs on to: one that is given, or one that is opened when the first job is there,
/// and again after it has failed.
///
/// A job goes with its id, kind, priority, payload and content type, headers, keys, deadline and retry policy of
/// its own. How often it may run there, and how long, is the target's to say.
///
/// ```no_run
/// # use forebay::{Dispatcher, ForwardOptions, Options, Target};
/// # let d = Dispatcher::in_memory()?;
/// let target = Target::url("sqlite:/mnt/share/central.db?shared=true", Options::default()).queue("incoming");
/// d.forward("outbox", target, ForwardOptions::default())?;
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Debug)]
pub struct Target {
    /// How to open it; `None` if it was given.
    address: Option<(String, Options)>,
    open: Option<Dispatcher>,
    queue: Option<String>,
}

impl Target {
    /// The dispatcher that `url` names, as in [`Dispatcher::open`].
    #[must_use]
    pub fn url(url: impl Into<String>, options: Options) -> Self {
        Self {
            address: Some((url.into(), options)),
            open: None,
            queue: None,
        }
    }

    /// This dispatcher.
    #[must_use]
    pub fn dispatcher(dispatcher: Dispatcher) -> Self {
        Self {
            address: None,
            open: Some(dispatcher),
            queue: None,
        }
    }

    /// The queue there, instead of the one of the same name. A name that no queue can have is an error of
    /// [`Dispatcher::forward`].
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    fn opened(&mut self) -> Result<&Dispatcher> {
        if self.open.is_none() {
            let (url, options) = self.address.as_ref().expect("one that was given is never let go");
            self.open = Some(Dispatcher::open(url, options.clone())?);
        }
        Ok(self.open.as_ref().expect("it has just been opened"))
    }

    fn push(&mut self, batch: &[Lease]) -> Result<(), SinkError> {
        let queue = self.queue.clone();
        let target = self.opened().map_err(|e| SinkError::down(0, e.to_string()))?;
        let jobs: Vec<_> = batch.iter().map(|lease| job(lease, queue.as_deref())).collect();
        let mut delivered = 0;
        // A batch with a job that is not valid is refused whole: then each goes by itself.
        let mut step = jobs.len();
        while delivered < jobs.len() {
            let end = (delivered + step).min(jobs.len());
            let (pushed, error) = match target.push_many_within(&jobs[delivered..end], PATIENCE) {
                Ok(pushed) => (pushed, None),
                Err(PushManyError { pushed, error }) => (pushed, Some(error)),
            };
            if pushed
                .iter()
                .zip(&batch[delivered..])
                .any(|(p, l)| is_the_same(target, *p, l))
            {
                let text = "the target is where the jobs come from; forward to another store";
                return Err(SinkError::down(delivered, text));
            }
            delivered += pushed.len();
            match error {
                None => {}
                Some(error) if is_final(&error) && step > 1 => step = 1,
                Some(error) => return Err(trouble(delivered, &error)),
            }
        }
        Ok(())
    }
}

impl Sink for Target {
    fn deliver(&mut self, batch: &[Lease]) -> Result<(), SinkError> {
        let result = self.push(batch);
        let down = matches!(&result, Err(e) if e.trouble == super::Trouble::Down);
        if down && self.address.is_some() {
            // Opened again when there is the next delivery.
            self.open = None;
        }
        result
    }

    fn check(&self) -> Result<()> {
        self.queue
            .as_deref()
            .map_or(Ok(()), |queue| check_name(queue, "queue"))
    }

    fn encodes(&self) -> bool {
        let given = self.open.as_ref().filter(|_| self.address.is_none());
        given.is_none_or(|target| !target.capabilities().host_objects)
    }

    fn name(&self) -> String {
        match (&self.address, &self.open) {
            (Some((url, _)), _) => url.clone(),
            (None, Some(target)) => format!("a dispatcher ({})", target.engine_name()),
            (None, None) => "a dispatcher".to_owned(),
        }
    }
}

/// The job as it is pushed to the target.
fn job<'l>(lease: &'l Lease, queue: Option<&'l str>) -> NewJob<'l> {
    let mut job = NewJob::new(lease.kind_text(), lease.payload().clone())
        .id(lease.id())
        .queue(queue.unwrap_or_else(|| lease.queue_text()))
        .priority(lease.priority());
    let rare = job.rare_mut();
    rare.headers = lease.headers().to_vec();
    rare.key = lease.key().map(Into::into);
    rare.concurrency_key = lease.concurrency_key().map(Into::into);
    rare.retry = lease.retry();
    if let Some(deadline) = lease.deadline() {
        job = job.deadline(deadline);
    }
    job
}

/// Whether no later push of the same job can be accepted.
fn is_final(error: &Error) -> bool {
    use ErrorKind::{Conflict, Encode, Invalid, UnknownKind};
    matches!(error.kind(), Invalid | Conflict | Encode | UnknownKind)
}

fn trouble(delivered: usize, error: &Error) -> SinkError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Full => SinkError::busy(delivered, None, text),
        _ if is_final(error) => SinkError::refused(delivered, text),
        _ => SinkError::down(delivered, text),
    }
}

/// Whether a job that was there already is the one that is being passed on: then it would never arrive.
fn is_the_same(target: &Dispatcher, pushed: Pushed, lease: &Lease) -> bool {
    if pushed.created || pushed.id != lease.id() {
        return false;
    }
    let there = target.get(pushed.id);
    there.is_ok_and(|job| {
        (job.state, job.fence, job.created) == (State::Running, lease.fence(), lease.created())
    })
}
