//! Why is this job not running?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Dispatcher, Inner};
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Job, State, Token};
use crate::names::KindId;
use crate::outcome::Failure;
use crate::time::format_duration;

/// Where a job stands and what holds it back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// Which job.
    pub id: JobId,
    /// Its state.
    pub state: State,
    /// What holds it back, the most decisive first. One entry for a job that runs or is over.
    pub reasons: Vec<Why>,
}

/// One reason.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// It runs, for this long.
    Running(Duration),
    /// It runs and has been asked to stop.
    Stopping(Duration),
    /// It is over.
    Over(Option<Failure>),
    /// It waits for these tokens.
    Blocked(Vec<Token>),
    /// Its time comes after this long.
    NotYet {
        /// How long.
        after: Duration,
        /// Whether it waits for another attempt rather than for its first.
        retry: bool,
    },
    /// Its queue is paused.
    QueuePaused(Arc<str>),
    /// No handler for its kind is registered here.
    NoHandler(Arc<str>),
    /// The dispatcher is stopping.
    DispatcherStopping,
    /// As many bodies run as may, of this kind, in this queue, or in all.
    Limit {
        /// What is limited: `the dispatcher`, a queue or a kind.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// Nothing asks for work: no worker was started and no consumer waits.
    NoWorker,
    /// Nothing holds it back: it is next, or behind others.
    Waiting {
        /// Jobs that are queued in the same queue, itself among them.
        queued: u64,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |d: &Duration| format_duration(Duration::from_millis(d.as_millis() as u64));
        match self {
            Why::Running(d) => write!(f, "it has been running for {}", time(d)),
            Why::Stopping(d) => write!(f, "it has been running for {} and was asked to stop", time(d)),
            Why::Over(None) => f.write_str("it is over"),
            Why::Over(Some(failure)) => write!(f, "it is over ({failure})"),
            Why::Blocked(tokens) => write!(f, "it waits for {}", tokens.join(", ")),
            Why::NotYet { after, retry: false } => write!(f, "it is scheduled for {} from now", time(after)),
            Why::NotYet { after, retry: true } => {
                write!(f, "its next attempt starts {} from now", time(after))
            }
            Why::QueuePaused(queue) => write!(f, "queue {queue:?} is paused; resume it"),
            Why::NoHandler(kind) => write!(f, "no handler for kind {kind:?} is registered here"),
            Why::DispatcherStopping => f.write_str("the dispatcher is stopping and starts nothing"),
            Why::Limit { what, limit } => write!(f, "{what} runs as many bodies as it may ({limit})"),
            Why::NoWorker => f.write_str("nothing asks for work: start workers or a consumer"),
            Why::Waiting { queued } => write!(f, "nothing holds it back; {queued} jobs are queued with it"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} is {}: ", self.id, self.state)?;
        for (i, why) in self.reasons.iter().enumerate() {
            write!(f, "{}{why}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Dispatcher {
    /// Says why a job is not running, or how it ended.
    ///
    /// # Errors
    /// `NotFound` for an id that is unknown or forgotten; of the store.
    pub fn explain(&self, id: JobId) -> Result<Explanation> {
        let job = self.0.get(id)?;
        let now = self.now();
        let ran = || now.since(job.started.unwrap_or(now));
        let reasons = match job.state {
            State::Running if job.cancel_requested => vec![Why::Stopping(ran())],
            State::Running => vec![Why::Running(ran())],
            State::Blocked => vec![Why::Blocked(job.waits.clone())],
            State::Scheduled => vec![Why::NotYet {
                after: job.run_at.since(now),
                retry: job.attempt > 0,
            }],
            State::Queued => self.0.why_queued(&job)?,
            _ => vec![Why::Over(job.error.clone())],
        };
        Ok(Explanation {
            id,
            state: job.state,
            reasons,
        })
    }
}

impl Inner {
    fn why_queued(&self, job: &Job) -> Result<Vec<Why>> {
        let names = self.engine.names();
        let (queue, kind) = (names.queue(&job.queue)?, names.kind(&job.kind)?);
        let counts = self.engine.counts()?.into_iter().find(|c| c.queue == queue);
        let mut reasons = Vec::new();
        if self.stopping() {
            reasons.push(Why::DispatcherStopping);
        }
        if counts.as_ref().is_some_and(|c| c.paused) {
            reasons.push(Why::QueuePaused(job.queue.clone()));
        }
        if self.kinds.get(kind).is_none() {
            reasons.push(Why::NoHandler(job.kind.clone()));
        }
        reasons.extend(self.limits(job, kind, queue));
        if reasons.is_empty() && self.slots.all.used() == 0 && self.engine.signals().work.waiting() == 0 {
            reasons.push(Why::NoWorker);
        }
        if reasons.is_empty() {
            reasons.push(Why::Waiting {
                queued: counts.map_or(0, |c| c.queued),
            });
        }
        Ok(reasons)
    }

    fn limits(&self, job: &Job, kind: KindId, queue: crate::QueueId) -> Vec<Why> {
        let of_queue = self
            .slots
            .queue(queue)
            .map(|p| (format!("queue {:?}", job.queue), p.used(), p.limit()));
        let of_kind = self.kinds.get(kind).and_then(|e| e.permits.clone());
        let of_kind = of_kind.map(|p| (format!("kind {:?}", job.kind), p.used(), p.limit()));
        let all = (
            "the dispatcher".to_owned(),
            self.slots.all.used(),
            self.slots.all.limit(),
        );
        [of_queue, of_kind, Some(all)]
            .into_iter()
            .flatten()
            .filter(|(_, used, limit)| used >= limit)
            .map(|(what, _, limit)| Why::Limit { what, limit })
            .collect()
    }
}
