//! An engine that only shows: jobs as they stand in a file, of which nothing can change.
//!
//! Where the jobs come from is a [`Shelf`]: the lines of a dump, or the rows of a database that is opened
//! for reading. Whatever would change something is refused as `Unsupported`; nothing is ever due, nobody is
//! rung.

pub(crate) mod lines;
#[cfg(feature = "sqlite")]
pub(crate) mod rows;

use std::fmt::Debug;
use std::time::Duration;

use super::{
    Applied, Batch, BatchReceipt, Capabilities, Claim, Coordinator, Engine, Held, Insert, Inserted, Located,
    Overdue, QueueCounts, Retention, Signals, Term, Tick,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Filter, Handle, Job, JobRef, Page, State};
use crate::names::{Names, QueueId};
use crate::outcome::{FailureKind, ShedReason, Transition};
use crate::time::Timestamp;

/// Where the jobs are that are shown.
pub(crate) trait Shelf: Send + Sync + Debug {
    /// What kind of thing it is, for people.
    fn name(&self) -> &'static str;
    /// As [`Engine::get`].
    fn get(&self, id: JobId) -> Result<Option<Job>>;
    /// As [`Engine::list`].
    fn list(&self, filter: &Filter) -> Result<Page>;
    /// As [`Engine::export`].
    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()>;
    /// How many jobs of each queue are in each state.
    fn counts(&self) -> Result<Vec<Counted>>;
    /// The names of the paused queues.
    fn paused(&self) -> Result<Vec<String>>;
}

/// Jobs of one queue and state.
#[derive(Debug)]
pub(crate) struct Counted {
    queue: String,
    state: State,
    /// Of those that were shed, for what.
    why: Option<FailureKind>,
    jobs: u64,
}

/// The engine. Its totals tell of the jobs that are there: those that were pushed are not known from those
/// that were restored.
#[derive(Debug)]
pub(crate) struct Still<S> {
    shelf: S,
    names: Names,
    signals: Signals,
}

impl<S: Shelf> Still<S> {
    pub(crate) fn new(shelf: S) -> Self {
        Self {
            shelf,
            names: Names::default(),
            signals: Signals::default(),
        }
    }

    /// The counts of a queue, to be added to.
    fn of_queue<'c>(&self, name: &str, counts: &'c mut Vec<QueueCounts>) -> Result<&'c mut QueueCounts> {
        let queue = self.names.queue(name)?;
        let at = counts.iter().position(|c| c.queue == queue);
        let at = at.unwrap_or_else(|| {
            counts.push(QueueCounts::new(queue));
            counts.len() - 1
        });
        Ok(&mut counts[at])
    }
}

/// Adds jobs of one state.
fn add(to: &mut QueueCounts, counted: &Counted) {
    let (state, jobs) = (counted.state, counted.jobs);
    to.totals.restored += jobs;
    let (count, kept) = match state {
        State::Blocked => (&mut to.blocked, 0),
        State::Scheduled => (&mut to.scheduled, 0),
        State::Queued => (&mut to.queued, 0),
        State::Running => (&mut to.running, 0),
        State::Succeeded => (&mut to.totals.succeeded, jobs),
        State::Failed => (&mut to.totals.failed, jobs),
        State::Cancelled => (&mut to.totals.cancelled, jobs),
        State::Expired => (&mut to.totals.expired, jobs),
        State::Shed => {
            let reason = match counted.why {
                Some(FailureKind::Shed(reason)) => reason,
                _ => ShedReason::Newest,
            };
            (to.totals.of_mut(reason), jobs)
        }
    };
    *count += jobs;
    to.kept += kept;
}

impl<S: Shelf> Coordinator for Still<S> {
    fn acquire(&self, _: &str, _: &str, _: Duration, _: Timestamp) -> Result<Option<Term>> {
        refused()
    }

    fn renew(&self, _: &Term, _: Duration, _: Timestamp) -> Result<Option<Term>> {
        refused()
    }

    fn release(&self, _: &Term) -> Result<bool> {
        refused()
    }
}

fn refused<T>() -> Result<T> {
    let text = "the file is only looked at, and nothing of it can change";
    Err(Error::new(ErrorKind::Unsupported, text))
}

impl<S: Shelf> Engine for Still<S> {
    fn name(&self) -> &'static str {
        self.shelf.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn insert(&self, _: &[Insert<'_>], _: Timestamp, _: &mut Vec<Inserted>) -> Result<()> {
        refused()
    }

    fn turn(
        &self,
        done: &mut [Transition],
        _: &mut Vec<Applied>,
        _: Option<&mut Claim<'_>>,
        _: Timestamp,
    ) -> Result<()> {
        // Whoever only looks for work finds none.
        if done.is_empty() { Ok(()) } else { refused() }
    }

    fn commit(&self, _: &mut Batch<'_>, _: Timestamp, _: &mut BatchReceipt) -> Result<()> {
        refused()
    }

    fn extend(&self, _: &[JobRef], _: Duration, _: Timestamp, _: &mut Vec<Held>) -> Result<()> {
        refused()
    }

    fn request_cancel(&self, _: JobRef) -> Result<bool> {
        refused()
    }

    fn tick(&self, _: usize, _: Timestamp) -> Result<Tick> {
        Ok(Tick {
            promoted: 0,
            next: Timestamp::MAX,
        })
    }

    fn expired(&self, _: usize, _: Timestamp, _: &mut Vec<Overdue>) -> Result<()> {
        Ok(())
    }

    fn prune(&self, _: Retention, _: usize, _: Timestamp) -> Result<usize> {
        Ok(0)
    }

    fn coordinator(&self) -> &dyn Coordinator {
        self
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        self.shelf.get(id)
    }

    fn standing(&self, id: JobId) -> Result<Option<Located>> {
        let Some(job) = self.shelf.get(id)? else {
            return Ok(None);
        };
        Ok(Some(Located {
            job: JobRef {
                id,
                handle: Handle(0),
                fence: job.fence,
            },
            queue: self.names.queue(&job.queue)?,
            kind: self.names.kind(&job.kind)?,
            state: job.state,
            attempt: job.attempt,
            max_attempts: job.max_attempts.unwrap_or(0),
            cancel_requested: job.cancel_requested,
            started: job.started,
            extras: job.extras,
        }))
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        self.shelf.list(filter)
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.shelf.export(each)
    }

    fn counts(&self) -> Result<Vec<QueueCounts>> {
        let mut counts = Vec::new();
        for counted in self.shelf.counts()? {
            add(self.of_queue(&counted.queue, &mut counts)?, &counted);
        }
        for queue in self.shelf.paused()? {
            self.of_queue(&queue, &mut counts)?.paused = true;
        }
        Ok(counts)
    }

    fn set_paused(&self, _: QueueId, _: bool) -> Result<()> {
        refused()
    }

    fn seal(&self) -> Result<()> {
        Ok(())
    }
}
