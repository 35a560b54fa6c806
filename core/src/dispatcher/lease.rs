//! A lease: one running attempt of one job, owned by whoever runs it.

use std::any::Any;
use std::cell::Cell as ThreadCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Inner;
use super::cells::{Cell, StopReason};
use super::settle::{Answer, Ended};
use super::slots::Held;
use crate::engine::{Claimed, Held as HeldLease};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::id::JobId;
use crate::job::{JobRef, NewJob, Priority, State};
use crate::outcome::{Failure, FailureKind, Outcome, Standing};
use crate::panics::{let_go, panic_text};
use crate::payload::Payload;
use crate::time::Timestamp;

/// A running job. Whoever holds the lease answers once, by [`Lease::complete`]; a lease that is dropped
/// is a failed attempt, or goes back to the queue while the dispatcher stops.
///
/// Threads: any; one at a time.
pub struct Lease {
    pub(crate) claimed: Claimed,
    pub(crate) inner: Arc<Inner>,
    /// `None` once ended.
    pub(super) live: Option<Live>,
    /// What a drop answers, if more is known than that the lease was dropped.
    parting: OnceLock<Outcome>,
}

/// What a lease holds until its body has ended.
pub(super) struct Live {
    pub(super) cell: Arc<Cell>,
    pub(super) turn: u32,
    held: Held,
}

impl Lease {
    pub(crate) fn new(inner: &Arc<Inner>, claimed: Claimed, held: Held) -> Self {
        let (cell, turn) = inner.cells.begin(claimed.job);
        if inner.stopping() {
            cell.signal(StopReason::Stopping);
        }
        let lease = Self {
            claimed,
            inner: inner.clone(),
            live: Some(Live { cell, turn, held }),
            parting: OnceLock::new(),
        };
        if inner.events.wanted() {
            inner.publish(
                EventKind::Started,
                &lease.ended(Outcome::LeaseLost),
                None,
                lease.claimed.started,
            );
        }
        lease
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.claimed.job.id
    }

    /// The name of the job's queue.
    #[must_use]
    pub fn queue(&self) -> Arc<str> {
        self.inner.engine.names().queue_name(self.claimed.queue)
    }

    /// The name of the job's kind.
    #[must_use]
    pub fn kind(&self) -> Arc<str> {
        self.inner.engine.names().kind_name(self.claimed.kind)
    }

    /// The name of the job's queue, where it stands: cheaper than [`Lease::queue`].
    #[must_use]
    pub fn queue_text(&self) -> &str {
        self.inner.engine.names().queue_text(self.claimed.queue)
    }

    /// The name of the job's kind, where it stands: cheaper than [`Lease::kind`].
    #[must_use]
    pub fn kind_text(&self) -> &str {
        self.inner.engine.names().kind_text(self.claimed.kind)
    }

    /// The number of the job's kind: cheaper than its name.
    #[must_use]
    pub fn kind_id(&self) -> crate::KindId {
        self.claimed.kind
    }

    /// What the job carries.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.claimed.payload
    }

    /// The number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.claimed.attempt
    }

    /// How often the job may run in all; `u32::MAX` is without limit.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.claimed.max_attempts
    }

    /// The job's priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.claimed.priority
    }

    /// The fence of this claim: grows with every claim of the job, and lets whatever the handler writes
    /// to refuse a late writer.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.claimed.job.fence
    }

    /// When the job was pushed.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.claimed.created
    }

    /// When this attempt is overdue, by its timeout or its lease, if it can be.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        (self.claimed.due != Timestamp::MAX).then_some(self.claimed.due)
    }

    /// The headers the job was pushed with.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        self.claimed.extras.as_ref().map_or(&[], |e| &e.headers)
    }

    /// The idempotency key the job was pushed with.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.claimed.extras.as_ref()?.key.as_deref()
    }

    /// Whether the handler should stop: the job was cancelled, the attempt timed out, or the lease is
    /// lost. Costs one load; long handlers should ask often.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        !matches!(self.stop_reason(), None | Some(StopReason::Stopping))
    }

    /// Why the handler should stop, or might want to.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.live.as_ref()?.cell.stop_reason()
    }

    /// Resolves when the handler should stop ([`Lease::cancelled`]); needs no particular runtime.
    pub fn stopped(&self) -> Stopped<'_> {
        Stopped(self)
    }

    /// `Ok` while the handler may go on: for `lease.check()?` in long handlers.
    ///
    /// # Errors
    /// `Cancelled` when [`Lease::cancelled`].
    pub fn check(&self) -> Result<()> {
        match self.stop_reason() {
            None | Some(StopReason::Stopping) => Ok(()),
            Some(reason) => Err(Error::new(
                ErrorKind::Cancelled,
                format!("the job should stop: {}", reason.name()),
            )),
        }
    }

    /// Makes the lease end `lease` from now.
    ///
    /// # Errors
    /// `Stale` if it is no longer held; of the store.
    pub fn extend(&self, lease: Duration) -> Result<()> {
        self.inner.extend(self.claimed.job, lease)
    }

    /// Runs `body` as this job's handler: hooks before and after, a panic becomes a failed attempt with
    /// its text, and calls that would wait for the handler itself are refused meanwhile.
    pub fn run(&self, body: impl FnOnce(&Lease) -> Outcome) -> Outcome {
        let _inside = self.enter();
        let outcome = catch_unwind(AssertUnwindSafe(|| body(self)))
            .unwrap_or_else(|panic| Outcome::Failed(panicked(panic)));
        if !matches!(outcome, Outcome::Pending) {
            self.leave(&outcome);
        }
        outcome
    }

    /// Tells the hooks that the handler starts, and marks this thread as running it until the guard is
    /// dropped. For callers that run handlers by other means than [`Lease::run`].
    pub fn enter(&self) -> Inside {
        let inside = self.mark();
        if !self.inner.hooks.call(|h| h.before(self)) {
            self.hook_failed();
        }
        inside
    }

    /// Marks this thread as running this job's handler until the guard is dropped.
    pub(crate) fn mark(&self) -> Inside {
        Inside::of(&self.inner, self.id())
    }

    /// Tells the hooks what the handler answered. The counterpart of [`Lease::enter`].
    pub fn leave(&self, outcome: &Outcome) {
        if self.inner.hooks.present() {
            let took = self.inner.now().since(self.claimed.started);
            if !self.inner.hooks.call(|h| h.after(self, outcome, took)) {
                self.hook_failed();
            }
        }
    }

    fn hook_failed(&self) {
        self.inner.publish(
            EventKind::HookFailed,
            &self.ended(Outcome::LeaseLost),
            None,
            self.inner.now(),
        );
    }

    /// Answers: what became of the attempt. Frees the slot in any case.
    ///
    /// The [`Answer`] says whether it counted: the answer of a lease that was lost, timed out or handed
    /// back changes nothing and is counted as stale. [`Outcome::Pending`] is no answer yet: it parks the
    /// lease ([`Lease::park`]), and the job is said to be running.
    ///
    /// # Errors
    /// Of the store; then the attempt is unanswered and its lease ends by itself, if it has an end.
    pub fn complete(self, outcome: impl Into<Outcome>) -> Result<Answer> {
        self.inner.birth.check()?;
        let inner = self.inner.clone();
        match self.end_or_park(outcome.into()) {
            Ok(ended) => inner.settle_one(ended),
            Err(answer) => Ok(answer),
        }
    }

    /// Answers, and pushes follow-up jobs in the same write: either both are stored or neither.
    ///
    /// # Errors
    /// As [`Lease::complete`]; `Conflict` if a follow-up's key belongs to another job and `Invalid` if a
    /// follow-up is not valid: then the attempt has failed with that text.
    pub fn complete_and_push(self, outcome: impl Into<Outcome>, jobs: &[NewJob<'_>]) -> Result<Answer> {
        self.inner.birth.check()?;
        let inner = self.inner.clone();
        match self.end_or_park(outcome.into()) {
            Ok(ended) => inner.settle_with(ended, jobs),
            Err(answer) => Ok(answer),
        }
    }

    /// Leaves an answer to be given when the lease is dropped: for a lease that others still hold.
    #[cfg(feature = "tokio")]
    pub(crate) fn answer_at_drop(&self, outcome: Outcome) {
        // A second answer would come too late anyway.
        let _ = self.parting.set(outcome);
    }

    /// Ends the body, or parks the lease if its answer is pending. What is to be stored, or the answer if
    /// there is nothing to store.
    pub(crate) fn end_or_park(mut self, outcome: Outcome) -> Result<Ended, Answer> {
        if matches!(outcome, Outcome::Pending) {
            self.park();
            return Err(Answer::Stored(State::Running));
        }
        self.end(outcome).ok_or(Answer::Stale)
    }

    /// Ends the body: frees the slot and hands the rest to whoever stores the outcome. `None` if it has
    /// ended before, or its ticket has answered.
    pub(crate) fn end(&mut self, outcome: Outcome) -> Option<Ended> {
        let Live { cell, held, .. } = self.live.take()?;
        let mut ended = self.ended(outcome);
        ended.at.cancel_requested = cell.stop_reason() == Some(StopReason::Cancelled);
        let first = self.inner.cells.end(cell);
        if self.inner.slots.release(&held) {
            self.inner.engine.signals().work.ring_all();
        }
        if !first {
            self.inner.settled(1);
        }
        first.then_some(ended)
    }

    fn ended(&self, outcome: Outcome) -> Ended {
        let c = &self.claimed;
        Ended {
            at: Standing {
                job: c.job,
                running: true,
                attempt: c.attempt,
                max_attempts: c.max_attempts,
                cancel_requested: false,
            },
            queue: c.queue,
            kind: c.kind,
            started: Some(c.started),
            extras: c.extras.clone(),
            outcome,
            failure: None,
            leased: true,
        }
    }
}

impl Inner {
    /// Makes the lease of this claim end `lease` from now.
    pub(super) fn extend(&self, job: JobRef, lease: Duration) -> Result<()> {
        let mut held = Vec::with_capacity(1);
        self.engine.extend(&[job], lease, self.now(), &mut held)?;
        match held.first() {
            Some(HeldLease::Yes) => Ok(()),
            Some(HeldLease::CancelRequested) => {
                self.cells.signal(job, StopReason::Cancelled);
                Ok(())
            }
            _ => {
                self.cells.signal(job, StopReason::LeaseLost);
                let text = format!("job {} is no longer leased to this caller", job.id);
                Err(Error::new(ErrorKind::Stale, text))
            }
        }
    }
}

/// The future of [`Lease::stopped`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Stopped<'a>(&'a Lease);

impl Future for Stopped<'_> {
    type Output = StopReason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        if let Some(live) = &self.0.live {
            live.cell.listen(cx.waker());
        }
        match self.0.stop_reason() {
            None | Some(StopReason::Stopping) => Poll::Pending,
            Some(reason) => Poll::Ready(reason),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.live.is_none() || !self.inner.birth.is_here() {
            return;
        }
        let outcome = if let Some(outcome) = self.parting.take() {
            outcome
        } else if self.inner.stopping() {
            self.inner.interrupted()
        } else {
            Outcome::failed("the handler dropped its lease without an answer")
        };
        if let Some(ended) = self.end(outcome) {
            // Nobody is left to hear of a store that fails here; the job's lease ends by itself.
            let _ = self.inner.settle_one(ended);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("claimed", &self.claimed)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// Which dispatcher's handler, and for which job, this thread runs: (0, nil) for none.
    static HANDLING: ThreadCell<(usize, JobId)> = const { ThreadCell::new((0, JobId::NIL)) };
}

/// Marks a thread as running a handler while it lives. Drop it on the same thread.
#[derive(Debug)]
#[must_use = "dropping the guard says that the handler has ended"]
pub struct Inside {
    before: (usize, JobId),
}

impl Inside {
    /// Marks this thread as running what belongs to this job of that dispatcher: its handler, or a hook.
    pub(crate) fn of(inner: &Inner, id: JobId) -> Self {
        let here = std::ptr::from_ref(inner) as usize;
        Self {
            before: HANDLING.replace((here, id)),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        HANDLING.set(self.before);
    }
}

/// The job whose handler this thread runs for that dispatcher, if it does.
pub(crate) fn handling(inner: &Inner) -> Option<JobId> {
    let (address, id) = HANDLING.get();
    (address == std::ptr::from_ref(inner) as usize).then_some(id)
}

/// A panic as the failure of an attempt.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Failure {
    let failure = Failure::new(FailureKind::Panic, panic_text(panic.as_ref()));
    let_go(panic);
    failure
}
