//! All that is kept about one job.
//!
//! A queued job of 100 bytes should cost a couple of hundred, so what most jobs do not have is behind one
//! pointer ([`Rare`]) or shares a field with what excludes it.

mod attempt;
mod shown;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(super) use attempt::Start;

use super::flags::{
    ANSWERED, CANCEL_REQUESTED, CRASHED, DIRTY, Flags, HAS_RESULT, HELD, JOINED, Listed, OWN_TIMEOUT, ROWED,
    SPILLED, TAKEN, TIMED,
};
use crate::engine::{Applied, Handle, Insert, JobRef, Restored};
use crate::id::JobId;
use crate::job::{Attempt, Extras, Job, Priority, State, Token};
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, Transition};
use crate::payload::Payload;
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// A place for one job, and the job in it if there is one.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// As bytes, because a 128-bit number would have to stand at a multiple of 16.
    id: [u8; 16],
    fence: u64,
    created: Timestamp,
    /// When the present or last attempt started; [`Timestamp::MAX`] before the first.
    started: Timestamp,
    /// While it runs: when it is overdue, by its timeout or its lease. Once it is over: when it ended. While
    /// it waits: its own timeout, if it has one.
    until: Timestamp,
    /// Its place among those it stands with: scheduled jobs by push, queued ones by lane. Once it is over:
    /// its own timeout, if it has one.
    order: u64,
    /// The payload; once it has succeeded, the result.
    content: Payload,
    rare: Option<Box<Rare>>,
    attempt: u32,
    max_attempts: u32,
    worker: u32,
    /// Grows when the job goes, so that an old handle is recognised even if a job with the same id comes
    /// here. Never 0: the handle that nobody was given is never valid.
    generation: u16,
    queue: QueueId,
    kind: KindId,
    node: u16,
    priority: Priority,
    state: State,
    flags: Flags,
}

/// What most jobs do not have.
#[derive(Clone, Debug)]
struct Rare {
    /// When it may start, if that is not when it was pushed.
    run_at: Timestamp,
    /// Since when it could have, but for others before it.
    ready: Timestamp,
    deadline: Timestamp,
    /// When the present attempt is overdue, if by its timeout and by its lease.
    ends: Option<Ends>,
    extras: Option<Arc<Extras>>,
    waits: Box<[Token]>,
    /// The attempts that count or failed, oldest first; at most [`Job::HISTORY`].
    attempts: VecDeque<Attempt>,
    /// Whether attempts were noted one by one; if not, a success leaves no trace.
    past: bool,
    /// Why the job ended, if that was not by an attempt.
    ending: Option<Failure>,
    /// How often its process died while it ran.
    crashes: u32,
    /// If it has a concurrency key: the number of its entry among the [flows](super::flows) while it is queued
    /// there, of its key while it runs.
    flow: u32,
}

/// When an attempt is overdue that has both a timeout and a lease with an end.
#[derive(Clone, Copy, Debug)]
struct Ends {
    timeout: Timestamp,
    lease: Timestamp,
}

/// What a job leaves behind when it is forgotten.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) id: JobId,
    pub(super) queue: QueueId,
    /// To be dropped once no lock is held: it may be an object of the host.
    pub(super) content: Payload,
    /// What holds its key, if it has one.
    pub(super) keyed: Option<Arc<Extras>>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            id: [0; 16],
            fence: 0,
            created: Timestamp::EPOCH,
            started: Timestamp::MAX,
            until: Timestamp::MAX,
            order: 0,
            content: Payload::empty(),
            rare: None,
            attempt: 0,
            max_attempts: 0,
            worker: 0,
            generation: 1,
            queue: QueueId(0),
            kind: KindId(0),
            node: 0,
            priority: 0,
            state: State::Blocked,
            flags: Flags::default(),
        }
    }
}

impl Record {
    /// Puts a job here. Everything that the last one left is overwritten, but for the generation.
    #[inline(always)]
    pub(super) fn fill(&mut self, job: &Insert<'_>, now: Timestamp) {
        self.id = job.id.to_bytes();
        (self.attempt, self.fence, self.created) = (0, 0, now);
        (self.started, self.until, self.order) = (Timestamp::MAX, Timestamp::MAX, 0);
        self.content = job.payload.take();
        self.max_attempts = job.max_attempts;
        (self.queue, self.kind, self.priority) = (job.queue, job.kind, job.priority);
        (self.state, self.flags) = (State::Blocked, Flags(TAKEN));
        if let Some(timeout) = job.timeout {
            self.flags.set(OWN_TIMEOUT, true);
            self.until = Timestamp::from_micros(micros(timeout));
        }
        if let Some(restored) = job.restored {
            (self.attempt, self.fence, self.created) = (restored.attempt, restored.fence, restored.created);
            self.started = last_start(restored);
        }
        let special = job.run_at > now
            || job.restored.is_some()
            || job.deadline < Timestamp::MAX
            || job.extras.is_some()
            || !job.waits.is_empty();
        self.rare = special.then(|| Box::new(Rare::of(job, self.created)));
    }

    /// Takes the job away.
    #[inline(always)]
    pub(super) fn vacate(&mut self) -> Remains {
        self.flags.set(TAKEN, false);
        self.generation = self.generation.wrapping_add(1).max(1);
        let rare = self.rare.take();
        Remains {
            id: self.id(),
            queue: self.queue,
            content: std::mem::take(&mut self.content),
            keyed: rare.and_then(|r| r.extras).filter(|extras| extras.key.is_some()),
        }
    }

    pub(super) fn id(&self) -> JobId {
        JobId::from_bytes(self.id)
    }

    /// Whether there is a job, and it is this one.
    pub(super) fn is(&self, id: JobId) -> bool {
        self.taken() && self.id == id.to_bytes()
    }

    pub(super) fn taken(&self) -> bool {
        self.flags.has(TAKEN)
    }

    pub(super) fn queue(&self) -> QueueId {
        self.queue
    }

    pub(super) fn kind(&self) -> KindId {
        self.kind
    }

    pub(super) fn priority(&self) -> Priority {
        self.priority
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Enters another state; returns the one before. Whoever calls this counts it.
    pub(super) fn enter(&mut self, state: State) -> State {
        std::mem::replace(&mut self.state, state)
    }

    pub(super) fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn created(&self) -> Timestamp {
        self.created
    }

    /// When the present or last attempt started; [`Timestamp::MAX`] before the first.
    pub(super) fn started(&self) -> Timestamp {
        self.started
    }

    pub(super) fn run_at(&self) -> Timestamp {
        self.rare.as_ref().map_or(self.created, |r| r.run_at)
    }

    /// Changes when it may start.
    pub(super) fn set_run_at(&mut self, at: Timestamp) {
        let rare = self.rare();
        (rare.run_at, rare.ready) = (at, at);
    }

    /// Since when nothing but others before it has kept it from starting.
    pub(super) fn ready(&self) -> Timestamp {
        let ready = self.rare.as_ref().map_or(self.created, |r| r.ready);
        ready.max(self.created)
    }

    /// The bytes of its payload, which it has until it succeeds; none if that has no length.
    pub(super) fn weight(&self) -> usize {
        self.content.len().unwrap_or(0)
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.rare.as_ref().map_or(Timestamp::MAX, |r| r.deadline)
    }

    pub(super) fn extras(&self) -> Option<&Arc<Extras>> {
        self.rare.as_ref()?.extras.as_ref()
    }

    /// The concurrency key, if it has one.
    pub(super) fn concurrency_key(&self) -> Option<&str> {
        self.extras()?.concurrency_key.as_deref()
    }

    /// Its number among the flows.
    pub(super) fn flow(&self) -> u32 {
        self.rare.as_ref().map_or(0, |r| r.flow)
    }

    /// Notes its number among the flows.
    pub(super) fn set_flow(&mut self, number: u32) {
        self.rare().flow = number;
    }

    /// The tokens it waits for.
    pub(super) fn waits(&self) -> &[Token] {
        self.rare.as_ref().map_or(&[], |r| &r.waits)
    }

    /// Takes a token off its list; true if it was the last, for which it has waited until now.
    pub(super) fn arrived(&mut self, token: &str, now: Timestamp) -> bool {
        let Some(rare) = self
            .rare
            .as_mut()
            .filter(|r| r.waits.iter().any(|t| **t == *token))
        else {
            return false;
        };
        rare.waits = rare.waits.iter().filter(|t| ***t != *token).cloned().collect();
        rare.ready = rare.ready.max(now);
        rare.waits.is_empty()
    }

    /// Waits for no token any more.
    pub(super) fn wait_no_more(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.waits = Box::default();
        }
    }

    /// Notes its place in its lane, or among the scheduled ones.
    pub(super) fn line_up(&mut self, order: u64, listed: Listed) {
        self.order = order;
        self.flags.list(listed);
    }

    pub(super) fn listed(&self) -> Listed {
        self.flags.listed()
    }

    /// Notes where a claim can find it; returns where it could before.
    pub(super) fn list(&mut self, listed: Listed) -> Listed {
        let before = self.flags.listed();
        self.flags.list(listed);
        before
    }

    /// Whether it has a timer as a waiting job, or is noted as a running one that can be overdue.
    pub(super) fn timed(&self) -> bool {
        self.flags.has(TIMED)
    }

    pub(super) fn set_timed(&mut self, timed: bool) {
        self.flags.set(TIMED, timed);
    }

    /// The handle of its holders. `slot` is where it is.
    pub(super) fn job_ref(&self, slot: u32) -> JobRef {
        JobRef {
            id: self.id(),
            handle: super::place::handle(self.generation, slot),
            fence: self.fence,
        }
    }

    /// Whether the handle leads to the job that is here.
    pub(super) fn is_held_by(&self, job: JobRef) -> bool {
        self.is(job.id) && super::place::is_of(job.handle, self.generation)
    }

    /// Whether it runs under the claim with this handle and fence.
    pub(super) fn runs_as_of(&self, handle: Handle, fence: u64) -> bool {
        self.taken()
            && super::place::is_of(handle, self.generation)
            && self.state == State::Running
            && self.fence == fence
    }

    /// Whether it runs under this claim.
    pub(super) fn runs_as(&self, job: JobRef) -> bool {
        self.is_held_by(job) && self.state == State::Running && self.fence == job.fence
    }

    /// The idempotency key, if it has one.
    pub(super) fn key(&self) -> Option<&str> {
        self.extras()?.key.as_deref()
    }

    /// Whether this key is the job's. An entry for the key that says so may be older than the job, whose id
    /// an earlier job had.
    pub(super) fn holds(&self, key: &str) -> bool {
        !self.state.frees_key() && self.key() == Some(key)
    }

    /// Whether all of these marks are on it.
    pub(super) fn marked(&self, marks: u16) -> bool {
        self.flags.has(marks)
    }

    /// Puts these marks on it, or takes them off.
    pub(super) fn mark(&mut self, marks: u16, on: bool) {
        self.flags.set(marks, on);
    }

    /// Takes off the marks that are the store's.
    pub(super) fn clear_marks(&mut self) {
        self.flags.set(
            ROWED | DIRTY | HELD | CRASHED | JOINED | SPILLED | ANSWERED,
            false,
        );
    }

    /// When it ended; it is over.
    pub(super) fn ended(&self) -> Timestamp {
        self.until
    }

    /// Takes over from the store what no insert tells of.
    pub(super) fn recall(&mut self, job: &Job) {
        (self.created, self.attempt, self.fence) = (job.created, job.attempt, job.fence);
        self.started = job.started.unwrap_or(self.started);
        self.flags.set(CANCEL_REQUESTED, job.cancel_requested);
        if job.state == State::Running {
            // Overdue at once, and yet with the timeout that its next attempt has.
            if let Some(timeout) = self.timeout() {
                let (timeout, lease) = (self.started.after(timeout), Timestamp::MAX);
                self.rare().ends = Some(Ends { timeout, lease });
            }
            (self.until, self.state) = (Timestamp::EPOCH, State::Running);
            self.flags.set(CRASHED, true);
        }
        if job.state.is_final() {
            self.order = self.until.as_micros().unsigned_abs();
            (self.until, self.state) = (job.finished.unwrap_or(job.created), job.state);
            let last = job.history.last().and_then(|attempt| attempt.failure.as_ref());
            let ending = job.error.clone().filter(|error| Some(error) != last);
            let rare = self.rare();
            (rare.past, rare.ending) = (true, ending);
            if job.state == State::Succeeded {
                self.flags.set(HAS_RESULT, job.result.is_some());
                self.content = job.result.clone().unwrap_or_default();
            }
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
        if !stands || !possible || (self.fence != t.job.fence && !planted(Bug::NoFence)) {
            return Applied::Stale;
        }
        if self.cancel_requested() && state == self.state && !t.answers_cancel {
            return Applied::CancelRequested;
        }
        Applied::Yes
    }

    /// Notes that it is asked to stop.
    pub(super) fn request_cancel(&mut self) {
        self.flags.set(CANCEL_REQUESTED, true);
    }

    /// Whether it was asked to stop.
    pub(super) fn cancel_requested(&self) -> bool {
        self.flags.has(CANCEL_REQUESTED)
    }

    /// Ends a job that waits: no attempt is to be made up for it.
    pub(super) fn end_waiting(&mut self, t: &mut Transition) {
        let failure = t.failure.take();
        if failure.is_some() || t.to == State::Succeeded {
            let rare = self.rare();
            (rare.past, rare.ending) = (true, failure);
        }
    }

    /// Notes the end of a job that waits or whose attempt has ended, before it enters its final state;
    /// returns what it no longer carries.
    pub(super) fn end(&mut self, t: &mut Transition, now: Timestamp) -> Option<Payload> {
        self.order = self.until.as_micros().unsigned_abs();
        self.until = now;
        self.wait_no_more();
        if t.to.keeps_payload() {
            return None;
        }
        self.flags.set(HAS_RESULT, t.result.is_some());
        let result = t.result.take().unwrap_or_default();
        Some(std::mem::replace(&mut self.content, result))
    }

    fn rare(&mut self) -> &mut Rare {
        let created = self.created;
        self.rare.get_or_insert_with(|| Box::new(Rare::new(created)))
    }

    fn has_past(&self) -> bool {
        self.rare.as_ref().is_some_and(|r| r.past)
    }

    /// Says that the payload is about to be needed.
    pub(super) fn fetch_payload(&self) {
        self.content.prefetch();
    }
}

impl Rare {
    fn new(run_at: Timestamp) -> Self {
        Self {
            run_at,
            ready: run_at,
            deadline: Timestamp::MAX,
            ends: None,
            extras: None,
            waits: Box::default(),
            attempts: VecDeque::new(),
            past: false,
            ending: None,
            crashes: 0,
            flow: 0,
        }
    }

    fn of(job: &Insert<'_>, created: Timestamp) -> Self {
        let run_at = match job.restored {
            None => job.run_at.max(created),
            Some(_) => job.run_at,
        };
        let mut rare = Self {
            deadline: job.deadline,
            extras: job.extras.cloned(),
            waits: job.waits.into(),
            crashes: job.restored.map_or(0, |r| r.crashes),
            ..Self::new(run_at)
        };
        let attempts = job.restored.map_or(&[][..], |r| &r.history);
        attempts.iter().for_each(|attempt| rare.add(attempt.clone()));
        rare
    }

    fn add(&mut self, attempt: Attempt) {
        self.past = true;
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
fn micros(timeout: Duration) -> i64 {
    let us = timeout.as_nanos().div_ceil(1000);
    i64::try_from(us).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests;
