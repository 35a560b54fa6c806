//! All that is kept about one job.
//!
//! A queued job of 100 bytes should cost a few hundred, so what most jobs do not have is behind one
//! pointer or shares a field with what excludes it.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::nodes::Nodes;
use crate::engine::{Applied, Cause, Insert, JobRef, Located, Restored};
use crate::id::JobId;
use crate::job::{Attempt, Extras, Filter, Job, Priority, State, Token};
use crate::names::{KindId, Names, QueueId};
use crate::outcome::{Failure, Transition};
use crate::payload::Payload;
use crate::time::Timestamp;

/// One job.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: JobId,
    pub(super) fence: u64,
    pub(super) created: Timestamp,
    pub(super) run_at: Timestamp,
    pub(super) deadline: Timestamp,
    /// When the present or last attempt started; [`Timestamp::MAX`] before the first.
    pub(super) started: Timestamp,
    /// When the present attempt has taken too long.
    pub(super) timeout_at: Timestamp,
    /// While it runs: when the lease ends. Once it is over: when it ended.
    pub(super) until: Timestamp,
    /// Its place among those it stands with: scheduled jobs by push, queued ones by lane, finished ones by
    /// end.
    pub(super) order: u64,
    timeout: Option<NonZeroU64>,
    /// The payload; once it has succeeded, the result.
    content: Payload,
    pub(super) extras: Option<Arc<Extras>>,
    pub(super) waits: Box<[Token]>,
    past: Option<Box<Past>>,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    node: u32,
    worker: u32,
    pub(super) queue: QueueId,
    pub(super) kind: KindId,
    pub(super) priority: Priority,
    pub(super) state: State,
    pub(super) listed: Listed,
    pub(super) cancel_requested: bool,
    has_result: bool,
}

/// Where a queued job can be found by a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listed {
    /// Nowhere: it is not queued, or its deadline has passed.
    No,
    /// In its lane.
    Lane,
    /// Among those set aside from its lane.
    Aside,
}

/// What only jobs have that did not succeed at once.
#[derive(Clone, Debug, Default)]
struct Past {
    /// The attempts that count or failed, oldest first; at most [`Job::HISTORY`].
    attempts: VecDeque<Attempt>,
    /// Why the job ended, if that was not by an attempt.
    ending: Option<Failure>,
}

impl Record {
    pub(super) fn new(job: &Insert<'_>, now: Timestamp) -> Self {
        let (attempt, fence, created, past) = match job.restored {
            None => (0, 0, now, None),
            Some(r) => (r.attempt, r.fence, r.created, Past::restored(&r.history)),
        };
        Self {
            id: job.id,
            fence,
            created,
            run_at: job.run_at,
            deadline: job.deadline,
            started: job.restored.map_or(Timestamp::MAX, last_start),
            timeout_at: Timestamp::MAX,
            until: Timestamp::MAX,
            order: 0,
            timeout: job.timeout.map(micros),
            content: job.payload.clone(),
            extras: job.extras.cloned(),
            waits: job.waits.into(),
            past,
            attempt,
            max_attempts: job.max_attempts,
            node: 0,
            worker: 0,
            queue: job.queue,
            kind: job.kind,
            priority: job.priority,
            state: State::Blocked,
            listed: Listed::No,
            cancel_requested: false,
            has_result: false,
        }
    }

    /// The idempotency key, if it has one.
    pub(super) fn key(&self) -> Option<&str> {
        self.extras.as_ref()?.key.as_deref()
    }

    /// Whether this key is the job's. An entry for the key that says so may be older than the job, whose id
    /// an earlier job had.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.state != State::Cancelled && self.key() == Some(key)
    }

    /// The payload; once it has succeeded, the result.
    pub(super) fn content(&self) -> &Payload {
        &self.content
    }

    /// The payload or result, to be dropped once no lock is held: it may be an object of the host.
    pub(super) fn into_content(self) -> Payload {
        self.content
    }

    /// When it needs a decision because time has passed; [`Timestamp::MAX`] for never.
    pub(super) fn overdue_at(&self) -> Timestamp {
        match self.state {
            State::Running => self.timeout_at.min(self.until),
            s if s.is_waiting() => self.deadline,
            _ => Timestamp::MAX,
        }
    }

    /// Why it needs a decision when it is overdue.
    pub(super) fn cause(&self) -> Cause {
        match self.state {
            State::Running if self.timeout_at <= self.until => Cause::Timeout,
            State::Running => Cause::Lease,
            _ => Cause::Deadline,
        }
    }

    /// What would become of this transition, were the job in `state` (its own, or what an earlier
    /// transition of the same batch made of it).
    pub(super) fn verdict(&self, t: &Transition, state: State) -> Applied {
        let stands = if t.running {
            state == State::Running
        } else {
            state.is_waiting()
        };
        let possible = t.to.is_final() || matches!(t.to, State::Scheduled | State::Queued);
        if !stands || !possible || self.fence != t.job.fence {
            return Applied::Stale;
        }
        if self.cancel_requested && state == self.state && !t.answers_cancel {
            return Applied::CancelRequested;
        }
        Applied::Yes
    }

    /// Starts an attempt.
    pub(super) fn start(&mut self, start: &Start, now: Timestamp) {
        self.attempt = self.attempt.saturating_add(1);
        self.fence += 1;
        self.started = now;
        if self.max_attempts == 0 {
            self.max_attempts = start.max_attempts;
        }
        let timeout = self.timeout().or(start.timeout);
        self.timeout_at = timeout.map_or(Timestamp::MAX, |t| now.after(t));
        self.until = start.lease.map_or(Timestamp::MAX, |l| now.after(l));
        (self.node, self.worker) = (start.node, start.worker);
    }

    /// Ends the present attempt. A first attempt that succeeds leaves no trace: its entry is written when
    /// somebody asks. One that is given back without a failure did not happen.
    pub(super) fn end_attempt(&mut self, t: &mut Transition, now: Timestamp, nodes: &Nodes) {
        let failure = t.failure.take();
        let unremarkable = match t.to {
            State::Succeeded => self.past.is_none(),
            _ => t.refund && failure.is_none(),
        };
        if !unremarkable {
            let attempt = self.present(now, failure, nodes);
            self.past.get_or_insert_default().add(attempt);
        }
        if t.refund {
            self.attempt = self.attempt.saturating_sub(1);
        }
        self.cancel_requested = false;
        (self.timeout_at, self.until) = (Timestamp::MAX, Timestamp::MAX);
    }

    /// Ends a job that waits: no attempt is to be made up for it.
    pub(super) fn end_waiting(&mut self, t: &mut Transition) {
        let failure = t.failure.take();
        if failure.is_some() || t.to == State::Succeeded {
            self.past.get_or_insert_default().ending = failure;
        }
    }

    /// Notes the end of the job; returns what it no longer carries.
    pub(super) fn end(&mut self, t: &mut Transition, now: Timestamp, order: u64) -> Option<Payload> {
        (self.until, self.order, self.waits) = (now, order, Box::default());
        if t.to != State::Succeeded {
            return None;
        }
        self.has_result = t.result.is_some();
        let result = t.result.take().unwrap_or_default();
        Some(std::mem::replace(&mut self.content, result))
    }

    fn present(&self, ended: Timestamp, failure: Option<Failure>, nodes: &Nodes) -> Attempt {
        Attempt {
            number: self.attempt,
            node: nodes.name(self.node),
            worker: self.worker,
            started: self.started,
            ended,
            failure,
        }
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|us| Duration::from_micros(us.get()))
    }

    fn started(&self) -> Option<Timestamp> {
        (self.started != Timestamp::MAX).then_some(self.started)
    }

    fn history(&self, nodes: &Nodes) -> Vec<Attempt> {
        match &self.past {
            Some(past) => past.attempts.iter().cloned().collect(),
            None if self.state == State::Succeeded => vec![self.present(self.until, None, nodes)],
            None => Vec::new(),
        }
    }

    fn error(&self) -> Option<Failure> {
        let past = self.past.as_ref().filter(|_| self.state != State::Succeeded)?;
        let last = || past.attempts.back()?.failure.clone();
        past.ending.clone().or_else(last)
    }

    /// The job as others see it.
    pub(super) fn to_job(&self, names: &Names, nodes: &Nodes) -> Job {
        let over = self.state.is_final();
        let succeeded = self.state == State::Succeeded;
        let content = || self.content.clone();
        let but_never = |at: Timestamp| (at != Timestamp::MAX).then_some(at);
        Job {
            id: self.id,
            queue: names.queue_name(self.queue),
            kind: names.kind_name(self.kind),
            payload: if succeeded { Payload::empty() } else { content() },
            state: self.state,
            priority: self.priority,
            attempt: self.attempt,
            max_attempts: (self.max_attempts > 0).then_some(self.max_attempts),
            fence: self.fence,
            created: self.created,
            run_at: self.run_at,
            started: self.started(),
            finished: over.then_some(self.until),
            deadline: but_never(self.deadline),
            timeout: self.timeout(),
            lease_until: but_never(self.until).filter(|_| !over),
            extras: self.extras.clone(),
            waits: self.waits.to_vec(),
            cancel_requested: self.cancel_requested,
            result: (succeeded && self.has_result).then(content),
            error: self.error(),
            history: self.history(nodes),
        }
    }

    /// Where the job stands.
    pub(super) fn located(&self, job: JobRef) -> Located {
        Located {
            job,
            queue: self.queue,
            kind: self.kind,
            state: self.state,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            cancel_requested: self.cancel_requested,
            started: self.started().filter(|_| self.state == State::Running),
            extras: self.extras.clone(),
        }
    }

    /// Whether a listing with this filter counts the job. Queue and kind are given as numbers.
    pub(super) fn matches(&self, filter: &Filter, queue: Option<QueueId>, kind: Option<KindId>) -> bool {
        queue.is_none_or(|q| q == self.queue)
            && kind.is_none_or(|k| k == self.kind)
            && (filter.states.is_empty() || filter.states.contains(&self.state))
            && filter.key.as_deref().is_none_or(|k| self.key() == Some(k))
            && filter.created_from.is_none_or(|from| self.created >= from)
            && filter.created_before.is_none_or(|before| self.created < before)
    }
}

/// What a claim says about the attempt it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) max_attempts: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) lease: Option<Duration>,
    pub(super) node: u32,
    pub(super) worker: u32,
}

impl Past {
    fn restored(history: &[Attempt]) -> Option<Box<Self>> {
        if history.is_empty() {
            return None;
        }
        let mut past = Box::<Self>::default();
        history.iter().for_each(|attempt| past.add(attempt.clone()));
        Some(past)
    }

    fn add(&mut self, attempt: Attempt) {
        if self.attempts.len() == Job::HISTORY {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }
}

/// When the last attempt started that a restored job had.
fn last_start(restored: &Restored) -> Timestamp {
    restored
        .history
        .last()
        .map_or(Timestamp::MAX, |attempt| attempt.started)
}

/// In microseconds, rounded up so that no timeout becomes none.
fn micros(timeout: Duration) -> NonZeroU64 {
    let us = timeout.as_nanos().div_ceil(1000);
    NonZeroU64::new(u64::try_from(us).unwrap_or(u64::MAX)).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_compact() {
        assert!(size_of::<Record>() <= 208, "{}", size_of::<Record>());
        assert_eq!(size_of::<Option<Record>>(), size_of::<Record>());
    }

    #[test]
    fn timeouts_round_up() {
        for (ns, us) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(micros(Duration::from_nanos(ns)).get(), us);
        }
        assert_eq!(micros(Duration::MAX).get(), u64::MAX);
    }
}
