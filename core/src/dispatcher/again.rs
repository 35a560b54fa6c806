//! Running a job again that is over, by hand.

use super::Dispatcher;
use super::pushed::Pushed;
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Job, NewJob};
use crate::payload::Payload;

impl Dispatcher {
    /// Runs a finished job again: pushes a new job with the same kind, queue, priority, concurrency key, attempts,
    /// timeout, retry policy and headers, and with `input` instead of the old payload if there is one. The finished
    /// job stays as it is, since no edge leaves a final state.
    ///
    /// The new job has the idempotency key `retry:` and the old id, by which either can be found from the
    /// other; so the same retry twice makes one job, and tells of it. It starts at once and has no deadline.
    ///
    /// # Errors
    /// `NotFound` for an id that is unknown or forgotten; `Invalid` for a job that is not over, or one that
    /// succeeded or was shed and for which no `input` is given, as its payload is no longer kept; `Conflict` if the job
    /// was retried before with another input; as [`Dispatcher::push`] otherwise. Never waits for room.
    ///
    /// ```
    /// use forebay::{Dispatcher, NewJob, State};
    /// let d = Dispatcher::in_memory()?;
    /// let pushed = d.push(NewJob::new("mail", b"to: nobody"))?;
    /// d.cancel(pushed.id)?;
    /// let again = d.retry(pushed.id, Some(b"to: you".into()))?;
    /// assert_eq!(d.get(again.id)?.state, State::Queued);
    /// assert_eq!(d.retry(pushed.id, Some(b"to: you".into()))?.id, again.id);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn retry(&self, id: JobId, input: Option<Payload>) -> Result<Pushed> {
        let job = self.get(id)?;
        if !job.state.is_final() {
            let text = format!(
                "job {id} is {}; only a finished job can be retried, cancel it first",
                job.state
            );
            return Err(Error::invalid(text));
        }
        let payload = match input {
            Some(input) => input,
            None if !job.state.keeps_payload() => {
                let text = format!(
                    "job {id} has {} and its payload is no longer kept; give an input",
                    job.state
                );
                return Err(Error::invalid(text));
            }
            None => job.payload.clone(),
        };
        let pushed = self.try_push(again(&job, payload));
        pushed.map_err(|refused| match refused.kind() {
            ErrorKind::Conflict => {
                let text = format!("job {id} was retried before with another input");
                Error::new(ErrorKind::Conflict, text).caused_by(Error::from(refused))
            }
            _ => refused.into(),
        })
    }
}

/// The job that does what `job` did.
fn again(job: &Job, payload: Payload) -> NewJob<'_> {
    let mut new = NewJob::new(&*job.kind, payload)
        .queue(&*job.queue)
        .priority(job.priority)
        .key(format!("retry:{}", job.id));
    new.max_attempts = job.max_attempts;
    new.timeout = job.timeout;
    let rare = new.rare_mut();
    rare.concurrency_key = job.concurrency_key().map(Into::into);
    rare.retry = job.extras.as_ref().and_then(|e| e.retry);
    rare.headers = job.headers().to_vec();
    new
}
