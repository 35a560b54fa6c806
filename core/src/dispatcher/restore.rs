//! The dispatcher's side of dumps: what leaves, and how a restored job enters.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Dispatcher;
use super::settle::Ended;
use crate::durability::Durability;
use crate::engine::{Insert, Inserted, Located, Parcel, Restored};
use crate::error::{Error, Result};
use crate::id::JobId;
use crate::job::{Attempt, Extras, Job, JobRef, Name, NewJob, Priority, Rare, State, Token};
use crate::names::Names;
use crate::outcome::{Outcome, Standing, decide};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

/// A job as a dump tells of it.
#[derive(Debug)]
pub(crate) struct RestoredJob {
    pub(crate) id: JobId,
    pub(crate) queue: String,
    pub(crate) kind: String,
    pub(crate) payload: Payload,
    pub(crate) priority: Priority,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) fence: u64,
    pub(crate) created: Timestamp,
    pub(crate) run_at: Timestamp,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) extras: Option<Arc<Extras>>,
    pub(crate) waits: Vec<Token>,
    pub(crate) state: State,
    pub(crate) cancel_requested: bool,
    pub(crate) crashes: u32,
    pub(crate) history: Vec<Attempt>,
}

impl Dispatcher {
    pub(crate) fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.0.engine.export(each)
    }

    /// The names of the paused queues.
    pub(crate) fn paused_queues(&self) -> Result<Vec<String>> {
        Ok(self
            .stats()?
            .queues
            .iter()
            .filter(|q| q.counts.paused)
            .map(|q| q.name.to_string())
            .collect())
    }

    /// Accepts a job from a dump, and says what the engine made of it. A job that was running lost its lease
    /// with the process that held it: the attempt counts, and if it was the last one the job fails.
    pub(crate) fn accept_restored(&self, job: &RestoredJob) -> Result<Inserted> {
        self.0.check_open()?;
        let (inner, names) = (&self.0, self.0.engine.names());
        let restored = Restored {
            attempt: job.attempt,
            fence: job.fence,
            created: job.created,
            crashes: job.crashes,
            history: job.history.clone(),
        };
        // A job that is about to fail must not be claimed in the moment until it does.
        let over = job.lost_its_last_attempt();
        let insert = Insert {
            id: job.id,
            fresh: false,
            queue: names.queue(&job.queue)?,
            kind: names.kind(&job.kind)?,
            payload: Parcel::Shared(&job.payload),
            priority: job.priority,
            run_at: if over { Timestamp::MAX } else { job.run_at },
            max_attempts: job.max_attempts.unwrap_or(0),
            timeout: job.timeout,
            deadline: job.deadline.unwrap_or(Timestamp::MAX),
            extras: job.extras.as_ref(),
            waits: &job.waits,
            capacity: 0,
            capacity_bytes: 0,
            undecided: false,
            resident: crate::engine::Resident::default(),
            shed: None,
            // Whoever restores many flushes once.
            durability: Durability::Memory,
            restored: Some(&restored),
        };
        let mut receipt = Vec::with_capacity(1);
        inner.engine.insert(&[insert], self.now(), &mut receipt)?;
        match receipt[0] {
            Inserted::New if over => self.end_restored(job)?,
            Inserted::Sealed => return Err(super::closed()),
            _ => {}
        }
        Ok(receipt[0])
    }

    /// Checks that the names of these jobs and queues fit beside those in use, before any is given a number.
    pub(crate) fn check_names(&self, jobs: &[RestoredJob], queues: &[String]) -> Result<()> {
        let names = self.0.engine.names();
        let queues = jobs.iter().map(|j| &j.queue).chain(queues);
        let queues: HashSet<_> = queues.filter(|q| names.find_queue(q).is_none()).collect();
        let kinds = jobs.iter().map(|j| &j.kind);
        let kinds: HashSet<_> = kinds.filter(|k| names.find_kind(k).is_none()).collect();
        for (what, new, used) in [
            ("queues", queues.len(), names.queue_count()),
            ("kinds", kinds.len(), names.kind_count()),
        ] {
            let limit = Names::LIMIT;
            if new + used > limit {
                return Err(Error::invalid(format!(
                    "the dump names {new} new {what} and {used} are in use, which is more than {limit}; \
                     nothing was restored"
                )));
            }
        }
        Ok(())
    }

    /// Ends a restored job whose last attempt ended with its process.
    fn end_restored(&self, job: &RestoredJob) -> Result<()> {
        let Some(at) = self.0.engine.standing(job.id)? else {
            return Ok(());
        };
        let at = Located {
            cancel_requested: job.cancel_requested,
            ..at
        };
        self.0.settle_one(Ended::located(&at, Outcome::LeaseLost))?;
        Ok(())
    }
}

impl RestoredJob {
    /// The highest attempt that is believed.
    pub(crate) const MAX_ATTEMPT: u32 = i32::MAX as u32;
    /// The highest fence that is believed.
    pub(crate) const MAX_FENCE: u64 = i64::MAX as u64;

    /// Checks what a push would check, and the counters that only a dump tells of.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that names the field.
    pub(crate) fn check(&self) -> Result<()> {
        let extras = self.extras.as_deref();
        let mut job = NewJob {
            queue: Some(Name::from(&self.queue)),
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            ..NewJob::new(&self.kind, self.payload.clone())
        };
        *job.rare_mut() = Rare {
            key: extras.and_then(|e| e.key.as_deref()).map(Cow::Borrowed),
            retry: extras.and_then(|e| e.retry),
            headers: extras.map(|e| e.headers.clone()).unwrap_or_default(),
            waits: self.waits.clone(),
            ..Rare::default()
        };
        job.check(Payload::MAX_LEN)?;
        if self.attempt > Self::MAX_ATTEMPT {
            let (attempt, max) = (self.attempt, Self::MAX_ATTEMPT);
            return Err(Error::invalid(format!("attempt {attempt} is above {max}")));
        }
        if self.fence > Self::MAX_FENCE {
            let (fence, max) = (self.fence, Self::MAX_FENCE);
            return Err(Error::invalid(format!("fence {fence} is above {max}")));
        }
        Ok(())
    }

    /// The job as it stood when the dump was written, as far as a dump tells of it.
    pub(crate) fn into_job(self) -> Job {
        let last = self.history.last();
        let started = last.map(|attempt| attempt.started);
        let error = last.and_then(|attempt| attempt.failure.clone());
        Job {
            id: self.id,
            queue: self.queue.into(),
            kind: self.kind.into(),
            payload: self.payload,
            state: self.state,
            priority: self.priority,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            crashes: self.crashes,
            fence: self.fence,
            created: self.created,
            run_at: self.run_at,
            // When a running attempt started, a dump does not say.
            started: started.filter(|_| self.state != State::Running),
            finished: None,
            deadline: self.deadline,
            timeout: self.timeout,
            lease_until: None,
            extras: self.extras,
            waits: self.waits,
            cancel_requested: self.cancel_requested,
            result: None,
            error,
            history: self.history,
        }
    }

    /// Whether the job ran when the dump was written, and may not run again.
    fn lost_its_last_attempt(&self) -> bool {
        let at = Standing {
            job: JobRef::default(),
            running: false,
            attempt: self.attempt,
            max_attempts: self.max_attempts.unwrap_or(u32::MAX),
            cancel_requested: self.cancel_requested,
        };
        let then = decide(&at, Outcome::LeaseLost, &RetryPolicy::none(), 0.0);
        self.state == State::Running && then.to.is_final()
    }
}
