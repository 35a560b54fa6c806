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
use super::home::Home;
use super::settle::{Answer, Ended, Whose};
use super::slots::{Baton, Held};
use super::tickets::Ticket;
use crate::engine::{Claimed, Held as HeldLease};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::id::JobId;
use crate::job::{Extras, JobRef, NewJob, Priority, State};
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, FailureKind, Outcome, Standing};
use crate::panics::{let_go, panic_text};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

/// A running job. Whoever holds the lease answers once, by [`Lease::complete`]; a lease that is dropped
/// is a failed attempt, or goes back to the queue while the dispatcher stops.
///
/// Threads: any; one at a time.
pub struct Lease {
    /// `None` only in the call that ends it. In a box, because a lease passes through many hands.
    body: Option<Box<Body>>,
}

/// What a body holds before a job.
fn nothing() -> Claimed {
    Claimed {
        job: JobRef::default(),
        queue: QueueId(0),
        kind: KindId(0),
        priority: 0,
        attempt: 0,
        max_attempts: 0,
        created: Timestamp::EPOCH,
        ready: Timestamp::EPOCH,
        started: Timestamp::EPOCH,
        due: Timestamp::MAX,
        deadline: Timestamp::MAX,
        payload: Payload::empty(),
        extras: None,
    }
}

/// What a lease is made of. Whoever asks for work again and again uses that of an ended lease for the next.
#[derive(Debug)]
pub(super) struct Body {
    claimed: Claimed,
    inner: Arc<Inner>,
    pub(super) cell: Arc<Cell>,
    turn: u32,
    held: Held,
    /// Where it goes when it has ended somewhere else than with its consumer.
    home: Arc<Home>,
    /// What a drop answers, if more is known than that the lease was dropped.
    parting: OnceLock<Box<Outcome>>,
}

impl Lease {
    /// Begins a lease of a job that was just claimed, which it takes from where it stands. Its place among the
    /// active ones must have been counted.
    pub(super) fn begin(mut body: Box<Body>, claimed: &mut Claimed, held: Held, worker: u32) -> Self {
        std::mem::swap(&mut body.claimed, claimed);
        body.held = held;
        body.turn = body.inner.cells.begin(&body.cell, &body.claimed, worker);
        Self::begun(body)
    }

    /// The same with the body of a lease whose end has been stored, which still has its cell and held no permits but
    /// the one that all hold.
    #[inline]
    pub(super) fn follow(mut body: Box<Body>, claimed: &mut Claimed, worker: u32) -> Self {
        std::mem::swap(&mut body.claimed, claimed);
        body.turn = body.inner.cells.pass_on(&body.cell, &body.claimed, worker);
        Self::begun(body)
    }

    #[inline]
    fn begun(body: Box<Body>) -> Self {
        let inner = &*body.inner;
        if inner.stopping() {
            inner.cells.signal(body.claimed.job, StopReason::Stopping);
            // The stop may be waiting for just this one, to hand it back.
            inner.cells.idle.ring_all();
        }
        if inner.events.any_wanted() {
            inner.publish(EventKind::Started, body.whose(), None, body.claimed.started);
        }
        Self { body: Some(body) }
    }

    /// What it is made of, for whoever ends it in another way than by [`Lease::end`].
    #[inline]
    pub(super) fn into_body(mut self) -> Box<Body> {
        let body = self.body.take();
        // It has nothing left to drop.
        std::mem::forget(self);
        body.expect("whoever ends a lease has taken it")
    }

    #[inline]
    pub(super) fn body(&self) -> &Body {
        self.body.as_deref().expect("whoever ends a lease has taken it")
    }

    #[inline]
    fn claimed(&self) -> &Claimed {
        &self.body().claimed
    }

    /// The job under this claim.
    pub(super) fn job(&self) -> JobRef {
        self.claimed().job
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.body().inner
    }

    /// The job's id.
    #[must_use]
    #[inline]
    pub fn id(&self) -> JobId {
        self.claimed().job.id
    }

    /// The name of the job's queue.
    #[must_use]
    pub fn queue(&self) -> Arc<str> {
        self.inner().engine.names().queue_name(self.claimed().queue)
    }

    /// The name of the job's kind.
    #[must_use]
    pub fn kind(&self) -> Arc<str> {
        self.inner().engine.names().kind_name(self.claimed().kind)
    }

    /// The name of the job's queue, where it stands: cheaper than [`Lease::queue`].
    #[must_use]
    #[inline]
    pub fn queue_text(&self) -> &str {
        self.inner().engine.names().queue_text(self.claimed().queue)
    }

    /// The name of the job's kind, where it stands: cheaper than [`Lease::kind`].
    #[must_use]
    #[inline]
    pub fn kind_text(&self) -> &str {
        self.inner().engine.names().kind_text(self.claimed().kind)
    }

    /// The number of the job's kind: cheaper than its name.
    #[must_use]
    #[inline]
    pub fn kind_id(&self) -> KindId {
        self.claimed().kind
    }

    /// What the job carries.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &Payload {
        &self.claimed().payload
    }

    /// The number of this attempt, from 1.
    #[must_use]
    #[inline]
    pub fn attempt(&self) -> u32 {
        self.claimed().attempt
    }

    /// How often the job may run in all; `u32::MAX` is without limit.
    #[must_use]
    #[inline]
    pub fn max_attempts(&self) -> u32 {
        self.claimed().max_attempts
    }

    /// The job's priority.
    #[must_use]
    #[inline]
    pub fn priority(&self) -> Priority {
        self.claimed().priority
    }

    /// The fence of this claim: grows with every claim of the job, and lets whatever the handler writes
    /// to refuse a late writer.
    #[must_use]
    #[inline]
    pub fn fence(&self) -> u64 {
        self.claimed().job.fence
    }

    /// When the job was pushed.
    #[must_use]
    #[inline]
    pub fn created(&self) -> Timestamp {
        self.claimed().created
    }

    /// When the job was claimed for this attempt. Of a job that was claimed with the answer for another, the end of
    /// that one: whoever runs one after the other need not ask a clock.
    #[must_use]
    #[inline]
    pub fn started(&self) -> Timestamp {
        self.claimed().started
    }

    /// When this attempt is overdue, by its timeout or its lease, if it can be.
    #[must_use]
    #[inline]
    pub fn due(&self) -> Option<Timestamp> {
        (self.claimed().due != Timestamp::MAX).then_some(self.claimed().due)
    }

    /// The instant after which no attempt starts, if there is one.
    #[must_use]
    #[inline]
    pub fn deadline(&self) -> Option<Timestamp> {
        (self.claimed().deadline != Timestamp::MAX).then_some(self.claimed().deadline)
    }

    /// The retry policy of its own, if it was pushed with one.
    #[must_use]
    #[inline]
    pub fn retry(&self) -> Option<RetryPolicy> {
        self.claimed().extras.as_ref()?.retry
    }

    /// The headers the job was pushed with.
    #[must_use]
    #[inline]
    pub fn headers(&self) -> &[(String, String)] {
        self.claimed().extras.as_ref().map_or(&[], |e| &e.headers)
    }

    /// The idempotency key the job was pushed with.
    #[must_use]
    #[inline]
    pub fn key(&self) -> Option<&str> {
        self.claimed().extras.as_ref()?.key.as_deref()
    }

    /// The concurrency key the job was pushed with.
    #[must_use]
    #[inline]
    pub fn concurrency_key(&self) -> Option<&str> {
        self.claimed().extras.as_ref()?.concurrency_key.as_deref()
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
        self.body().cell.stop_reason()
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
        self.inner().extend(self.claimed().job, lease)
    }

    /// Whether the job's deadline has passed, so that it is not to be started any more: of a lease that has waited
    /// since it was claimed. The answer is [`Outcome::Expired`] then, and the attempt does not count.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        let deadline = self.claimed().deadline;
        deadline < Timestamp::MAX && deadline <= self.inner().now()
    }

    /// Whether the time of the attempt had passed before anything of it ran: of a lease that has waited since it was
    /// claimed. The answer is [`Outcome::TimedOut`] then; whoever tells of timeouts may have come before the lease
    /// began, and will not come again.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.due().is_some_and(|due| due <= self.inner().now())
    }

    /// Runs `body` as this job's handler, unless its deadline [has passed](Lease::is_expired): hooks before and after, a panic becomes a failed attempt with
    /// its text, and calls that would wait for the handler itself are refused meanwhile.
    pub fn run(&self, body: impl FnOnce(&Lease) -> Outcome) -> Outcome {
        if self.is_expired() {
            return Outcome::Expired;
        }
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
    #[inline]
    pub fn enter(&self) -> Inside {
        let inside = self.mark();
        if self.inner().hooks.present() && !self.inner().hooks.call(|h| h.before(self)) {
            self.hook_failed();
        }
        inside
    }

    /// Tells the hooks that the handler starts, which will run somewhere else. For callers that give the job to
    /// other threads, who answer by its ticket.
    pub fn hand_out(&self) {
        if self.hooked() {
            drop(self.enter());
        }
    }

    /// Marks this thread as running the handler until the guard is dropped, without telling the hooks: for a
    /// handler that goes on after it was suspended, and that [began](Lease::enter) before.
    pub fn go_on(&self) -> Inside {
        self.mark()
    }

    /// Marks this thread as running this job's handler until the guard is dropped.
    #[inline]
    pub(crate) fn mark(&self) -> Inside {
        Inside::of(self.inner(), self.id())
    }

    /// Whether anybody is told of its attempt by [`Lease::enter`] and [`Lease::leave`].
    #[inline]
    #[must_use]
    pub fn hooked(&self) -> bool {
        self.inner().hooks.present()
    }

    /// Tells the hooks what the handler answered. The counterpart of [`Lease::enter`].
    #[inline]
    pub fn leave(&self, outcome: &Outcome) {
        if self.hooked() {
            self.leave_hooks(outcome);
        }
    }

    #[inline(never)]
    fn leave_hooks(&self, outcome: &Outcome) {
        let took = self.inner().now().since(self.claimed().started);
        if !self.inner().hooks.call(|h| h.after(self, outcome, took)) {
            self.hook_failed();
        }
    }

    fn hook_failed(&self) {
        self.inner().publish(
            EventKind::HookFailed,
            self.body().whose(),
            None,
            self.inner().now(),
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
        self.inner().birth.check()?;
        let inner = self.inner().clone();
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
        self.inner().birth.check()?;
        let inner = self.inner().clone();
        match self.end_or_park(outcome.into()) {
            Ok(ended) => inner.settle_with(ended, jobs),
            Err(answer) => Ok(answer),
        }
    }

    /// Leaves an answer to be given when the lease is dropped: for a lease that others still hold.
    #[cfg(feature = "tokio")]
    pub(crate) fn answer_at_drop(&self, outcome: Outcome) {
        // A second answer would come too late anyway.
        let _ = self.body().parting.set(Box::new(outcome));
    }

    /// Ends the body, or parks the lease if its answer is pending. What is to be stored, or the answer if
    /// there is nothing to store.
    fn end_or_park(self, outcome: Outcome) -> Result<Ended, Answer> {
        match outcome {
            Outcome::Pending => Err(self.pending()),
            outcome => self.end(outcome).ok_or(Answer::Stale),
        }
    }

    /// The same; the permit of the body goes to `baton`.
    pub(super) fn pass_or_park(mut self, outcome: Outcome, baton: &mut Baton<'_>) -> Result<Ended, Answer> {
        if matches!(outcome, Outcome::Pending) {
            return Err(self.pending());
        }
        let ended = self
            .body
            .take()
            .and_then(|body| body.end(outcome, |_| baton.permits += 1));
        ended.ok_or(Answer::Stale)
    }

    /// Leaves the lease to its ticket.
    fn pending(self) -> Answer {
        self.park();
        Answer::Stored(State::Running)
    }

    /// Ends the body: frees the slot and hands the rest to whoever stores the outcome. `None` if its ticket
    /// has answered before.
    pub(crate) fn end(mut self, outcome: Outcome) -> Option<Ended> {
        self.body.take()?.end(outcome, Inner::give_permit)
    }
}

impl Body {
    /// For a lease to come.
    pub(super) fn new(inner: &Arc<Inner>, home: &Arc<Home>) -> Box<Self> {
        Box::new(Self {
            claimed: nothing(),
            home: home.clone(),
            inner: inner.clone(),
            cell: inner.cells.take(),
            turn: 0,
            held: Held::default(),
            parting: OnceLock::new(),
        })
    }

    /// Ends the body; `pass` gets its permit.
    fn end(self: Box<Self>, outcome: Outcome, pass: impl FnOnce(&Inner)) -> Option<Ended> {
        let inner = &*self.inner;
        let cancel_requested = self.cell.stop_reason() == Some(StopReason::Cancelled);
        let first = inner.cells.end(&self.cell);
        if inner.slots.release(&self.held) {
            inner.engine.signals().work.ring_all();
        }
        if !self.held.slotless {
            pass(inner);
        }
        if first {
            return Some(Ended::leased(self, outcome, cancel_requested));
        }
        inner.settled(1);
        self.retire();
        None
    }

    /// Whether it holds no permits but the one that all hold, and nobody else has said anything of its job.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        let Held {
            queue,
            kind,
            slotless,
        } = &self.held;
        let free = queue.is_none() && kind.is_none() && !slotless;
        free && self.cell.is_quiet() && self.parting.get().is_none()
    }

    /// Says that its cell is about to pass from its job to the next: a stop waits until it has. False if the
    /// dispatcher stops already, and then no job may follow.
    #[inline]
    pub(super) fn begins_passing(&self) -> bool {
        self.cell.begin_passing();
        let goes_on = !self.inner.stopping();
        if !goes_on {
            self.cell.stay();
        }
        goes_on
    }

    /// Gives up its cell, once its end has been stored: an answer of its ticket comes too late.
    pub(super) fn leave_cell(&self) {
        self.inner.cells.end(&self.cell);
    }

    /// Lets go of all that belonged to the job.
    pub(super) fn clear(&mut self) {
        self.claimed.payload = Payload::empty();
        self.claimed.extras = None;
        self.held = Held::default();
        self.parting = OnceLock::new();
    }

    /// Goes back to its consumer, or nowhere if that has enough.
    pub(super) fn go_home(self: Box<Self>) -> Option<Box<Self>> {
        self.home.clone().take_in(self)
    }

    /// Gives the cell of an ended lease back.
    #[expect(clippy::boxed_local, reason = "it goes as it stands, and is large")]
    pub(super) fn retire(self: Box<Self>) {
        let Self { inner, cell, .. } = *self;
        inner.cells.give(cell);
    }

    /// How far the job had come with this attempt.
    pub(super) fn standing(&self, cancel_requested: bool) -> Standing {
        Standing {
            job: self.claimed.job,
            running: true,
            attempt: self.claimed.attempt,
            max_attempts: self.claimed.max_attempts,
            cancel_requested,
        }
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.cell.ticket(self.turn)
    }

    pub(super) fn whose(&self) -> Whose {
        Whose {
            id: self.claimed.job.id,
            queue: self.claimed.queue,
            kind: self.claimed.kind,
            attempt: self.claimed.attempt,
            started: Some(self.claimed.started),
        }
    }

    /// Whether a handler ran whose end was not decided before: it took too long, or its lease was lost.
    pub(super) fn answer_counts(&self) -> bool {
        let over = [StopReason::TimedOut, StopReason::LeaseLost];
        let given_up = self.cell.stop_reason().is_some_and(|why| over.contains(&why));
        !given_up && !self.held.slotless
    }

    pub(super) fn extras(&self) -> Option<&Extras> {
        self.claimed.extras.as_deref()
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
        self.0.body().cell.listen(cx.waker());
        match self.0.stop_reason() {
            None | Some(StopReason::Stopping) => Poll::Pending,
            Some(reason) => Poll::Ready(reason),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| body.inner.birth.is_here()) else {
            return;
        };
        let inner = body.inner.clone();
        let outcome = if let Some(outcome) = body.parting.take() {
            *outcome
        } else if inner.stopping() {
            inner.interrupted()
        } else {
            Outcome::failed("the handler dropped its lease without an answer")
        };
        if let Some(ended) = body.end(outcome, Inner::give_permit) {
            // Nobody is left to hear of a store that fails here; the job's lease ends by itself.
            let _ = inner.settle_one(ended);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("claimed", self.claimed())
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
    #[inline]
    pub(crate) fn of(inner: &Inner, id: JobId) -> Self {
        let here = std::ptr::from_ref(inner) as usize;
        Self {
            before: HANDLING.replace((here, id)),
        }
    }
}

impl Drop for Inside {
    #[inline]
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
