//! How an attempt ends: outcome → [`decide`] → transition → engine → events, waiters, hooks.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::events::StorePlace;
use super::home::Spares;
use super::hooks::End;
use super::lease::{Body, Inside};
use super::queues::Bounds;
use super::slots::Baton;
use super::{Inner, closed};
use crate::durability::Durability;
use crate::engine::{Applied, Batch, BatchReceipt, Claim, Claimed, Inserted, Located};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::id::JobId;
use crate::job::{Extras, NewJob, State};
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, Outcome, Standing, Transition, decide};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

/// Whether an answer counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is stored; the job is now in this state. `Running` is the state of one whose answer is pending.
    Stored(State),
    /// The lease was lost before; nothing changed.
    Stale,
}

/// Attempts on their way into the engine, and the buffers they need: kept by whoever settles often, and
/// [lent](Settling::lent) to others.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// What has ended; empty again once settled.
    pub(crate) ended: Vec<Ended>,
    /// Whether each answer counted, in the order of `ended`.
    pub(crate) answers: Vec<Answer>,
    /// Whether the rules have learned from what has ended.
    heard: bool,
    transitions: Vec<Transition>,
    applied: Vec<Applied>,
    /// What leases were made of, for new ones, if whoever settles makes some.
    spares: Option<Spares>,
}

/// More attempts than this are settled in buffers of their own.
const LENT: usize = 1024;

impl Settling {
    /// Keeps what up to this many leases were made of.
    pub(super) fn keeping(spares: usize) -> Self {
        Self {
            spares: Some(Spares::keeping(spares)),
            ..Self::default()
        }
    }

    /// A body for a lease to come.
    pub(super) fn body(&mut self, inner: &Arc<Inner>) -> Box<Body> {
        self.spares.get_or_insert_with(|| Spares::keeping(0)).body(inner)
    }

    /// There will be no more leases.
    pub(super) fn dismiss(&mut self) {
        if let Some(spares) = self.spares.take() {
            spares.dismiss();
        }
    }

    /// Lends the buffers of this thread, which are empty, for one call.
    pub(super) fn lent<R>(call: impl FnOnce(&mut Self) -> R) -> R {
        thread_local!(static OWN: Cell<Option<Box<Settling>>> = const { Cell::new(None) });
        // A hook that answers for a job, and a thread that is ending, do without.
        let mut own = OWN.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let result = call(&mut own);
        own.clear();
        if own.ended.capacity() <= LENT {
            let _ = OWN.try_with(|kept| kept.set(Some(own)));
        }
        result
    }

    /// Forgets the answers of the last time.
    pub(crate) fn clear(&mut self) {
        self.heard = false;
        self.ended.clear();
        self.answers.clear();
    }

    /// Lets go of what has been settled.
    fn let_go(&mut self) {
        self.heard = false;
        for ended in self.ended.drain(..) {
            if let Of::Lease(body) = ended.of {
                put_away(body, &mut self.spares);
            }
        }
    }

    /// Keeps the body of a lease that has ended, for a new one.
    pub(super) fn take_back(&mut self, body: Box<Body>) {
        put_away(body, &mut self.spares);
    }
}

fn put_away(mut body: Box<Body>, spares: &mut Option<Spares>) {
    body.clear();
    let over = match spares {
        Some(spares) => spares.keep(body),
        None => body.go_home(),
    };
    if let Some(body) = over {
        body.retire();
    }
}

/// An attempt whose body has ended, or a waiting job that must not wait on.
#[derive(Debug)]
pub(crate) struct Ended {
    of: Of,
    outcome: Outcome,
    cancel_requested: bool,
    /// Why it ended badly, for those who are told of it: the engine takes the transition's own copy.
    failure: Option<Box<Failure>>,
}

/// Whose end it is.
#[derive(Debug)]
enum Of {
    /// That of a lease of this dispatcher.
    Lease(Box<Body>),
    /// That of a job that no local lease answers for: it waits, or its holder is gone.
    Job(Box<Located>),
}

/// Which attempt of which job something is said about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose {
    pub(crate) id: JobId,
    pub(crate) queue: QueueId,
    pub(crate) kind: KindId,
    pub(crate) attempt: u32,
    pub(crate) started: Option<Timestamp>,
}

impl Whose {
    /// Of a job that stands there.
    pub(crate) fn located(at: &Located) -> Self {
        Self {
            id: at.job.id,
            queue: at.queue,
            kind: at.kind,
            attempt: at.attempt,
            started: at.started,
        }
    }
}

impl Ended {
    /// The attempt of a lease.
    pub(super) fn leased(body: Box<Body>, outcome: Outcome, cancel_requested: bool) -> Self {
        Self {
            of: Of::Lease(body),
            outcome,
            cancel_requested,
            failure: None,
        }
    }

    /// A job that no local lease answers for.
    pub(crate) fn located(at: &Located, outcome: Outcome) -> Self {
        Self {
            of: Of::Job(Box::new(at.clone())),
            outcome,
            cancel_requested: at.cancel_requested,
            failure: None,
        }
    }

    /// A job that was claimed and is not to run after all.
    pub(super) fn claimed(claimed: &Claimed, outcome: Outcome) -> Self {
        let at = Located {
            job: claimed.job,
            queue: claimed.queue,
            kind: claimed.kind,
            state: State::Running,
            attempt: claimed.attempt,
            max_attempts: claimed.max_attempts,
            cancel_requested: false,
            started: Some(claimed.started),
            extras: claimed.extras.clone(),
        };
        Self {
            of: Of::Job(Box::new(at)),
            outcome,
            cancel_requested: false,
            failure: None,
        }
    }

    /// What a handler came to, if that counts: not of a job that was cancelled, given up before, or passed on.
    pub(super) fn answered(&self) -> Option<&Outcome> {
        let counts = match &self.of {
            Of::Lease(body) => body.answer_counts(),
            Of::Job(_) => true,
        };
        (counts && !self.cancel_requested).then_some(&self.outcome)
    }

    fn standing(&self) -> Standing {
        match &self.of {
            Of::Lease(body) => body.standing(self.cancel_requested),
            Of::Job(at) => Standing {
                job: at.job,
                running: at.state == State::Running,
                attempt: at.attempt,
                // Before the first claim nobody has said how often it may run.
                max_attempts: match at.max_attempts {
                    0 => u32::MAX,
                    most => most,
                },
                cancel_requested: self.cancel_requested,
            },
        }
    }

    pub(super) fn whose(&self) -> Whose {
        match &self.of {
            Of::Lease(body) => body.whose(),
            Of::Job(at) => Whose::located(at),
        }
    }

    pub(super) fn extras(&self) -> Option<&Extras> {
        match &self.of {
            Of::Lease(body) => body.extras(),
            Of::Job(at) => at.extras.as_deref(),
        }
    }

    /// Whether a lease of this dispatcher ended with it.
    pub(super) fn is_leased(&self) -> bool {
        matches!(self.of, Of::Lease(_))
    }
}

impl Settling {
    /// What has ended, if the rules have not learned from it as yet.
    pub(super) fn unheard(&mut self) -> Option<&[Ended]> {
        (!std::mem::replace(&mut self.heard, true)).then_some(&self.ended)
    }
}

impl Inner {
    /// What became of this many ended bodies has been stored, or has failed to be.
    pub(super) fn settled(&self, count: usize) {
        self.cells.settled(count);
        if self.stopping() {
            // The stop may be waiting for just these.
            self.cells.idle.ring_all();
        }
    }

    /// Stores what became of these attempts; one answer per attempt.
    pub(crate) fn settle(&self, settling: &mut Settling) -> Result<()> {
        let mut baton = Baton::new(self);
        self.settle_and_claim(settling, None, &mut baton, self.now())
    }

    /// Stores what became of one attempt.
    pub(crate) fn settle_one(&self, ended: Ended) -> Result<Answer> {
        Settling::lent(|settling| {
            settling.ended.push(ended);
            self.settle(settling)?;
            Ok(settling.answers[0])
        })
    }

    /// Stores what became of these attempts, and claims what is next in the same call to the engine. The
    /// places of the ended leases among the active ones go to `baton`.
    pub(super) fn settle_and_claim(
        &self,
        settling: &mut Settling,
        claim: Option<&mut Claim<'_>>,
        baton: &mut Baton<'_>,
        now: Timestamp,
    ) -> Result<()> {
        // Whatever happens, the attempts are over for those who wait until nothing runs when the baton goes.
        baton.places += settling.ended.iter().filter(|e| e.is_leased()).count();
        let result = self.store(settling, claim, now);
        if result.is_err() || !settling.ended.is_empty() {
            self.note_store(StorePlace::Answers, result.as_ref().err());
        }
        settling.let_go();
        result
    }

    fn store(&self, settling: &mut Settling, claim: Option<&mut Claim<'_>>, now: Timestamp) -> Result<()> {
        self.hear(settling, now);
        let Settling {
            ended,
            answers,
            transitions,
            applied,
            ..
        } = settling;
        transitions.clear();
        applied.clear();
        transitions.extend(ended.iter_mut().map(|e| self.decide(e)));
        self.engine.turn(transitions, applied, claim, now)?;
        for ((ended, transition), applied) in ended.iter_mut().zip(transitions).zip(applied) {
            if *applied == Applied::CancelRequested {
                *applied = self.cancel_instead(ended, transition, now)?;
            }
            answers.push(self.announce(ended, transition, *applied, now));
        }
        if self.done_level() == Durability::Memory || ended.is_empty() {
            return Ok(());
        }
        // Last, so that it covers what was decided again, too.
        self.engine
            .flush(self.done_level())
            .inspect_err(|_| answers.clear())
    }

    /// A request to cancel came between the decision and the write: decide again.
    fn cancel_instead(
        &self,
        ended: &mut Ended,
        transition: &mut Transition,
        now: Timestamp,
    ) -> Result<Applied> {
        ended.cancel_requested = true;
        *transition = self.decide(ended);
        let mut applied = Vec::with_capacity(1);
        self.engine
            .turn(std::slice::from_mut(transition), &mut applied, None, now)?;
        Ok(applied[0])
    }

    /// Goes on with one attempt whose success was not stored as such: it was asked to stop before, its lease was lost,
    /// or the store has failed.
    #[cold]
    pub(super) fn settle_otherwise(
        &self,
        settling: &mut Settling,
        body: Box<Body>,
        mut transition: Transition,
        stored: Result<Applied>,
        now: Timestamp,
    ) -> Result<Answer> {
        settling.clear();
        let mut ended = Ended::leased(body, Outcome::LeaseLost, false);
        let applied = match stored {
            Ok(Applied::CancelRequested) => self.cancel_instead(&mut ended, &mut transition, now),
            other => other,
        };
        self.note_store(StorePlace::Answers, applied.as_ref().err());
        let answer = applied.map(|applied| self.announce(&ended, &transition, applied, now));
        settling.ended.push(ended);
        settling.let_go();
        answer
    }

    /// Stores an answer and its follow-up jobs in one write.
    pub(crate) fn settle_with(&self, ended: Ended, jobs: &[NewJob<'_>]) -> Result<Answer> {
        Settling::lent(|settling| {
            let mut baton = Baton::new(self);
            // A body that still runs keeps its place.
            baton.places = usize::from(ended.is_leased());
            settling.ended.push(ended);
            let result = self.store_with(settling, jobs);
            settling.let_go();
            result
        })
    }

    fn store_with(&self, settling: &mut Settling, jobs: &[NewJob<'_>]) -> Result<Answer> {
        let now = self.now();
        self.hear(settling, now);
        let prepared = jobs
            .iter()
            .map(|job| self.prepare(job, now))
            .collect::<Result<Vec<_>>>();
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.fail_follow_up(settling, error),
        };
        // Follow-ups belong to work that was accepted: a full queue does not refuse them.
        let inserts: Vec<_> = prepared
            .iter()
            .map(|p| p.insert(p.shared(), Bounds::default()))
            .collect();
        let ended = &mut settling.ended[0];
        let asked = Asked::by(&ended.outcome);
        let mut transition = self.decide(ended);
        loop {
            let mut receipt = BatchReceipt::default();
            let mut batch = Batch {
                inserts: if asked.got(transition.to) { &inserts } else { &[] },
                transitions: std::slice::from_mut(&mut transition),
                signals: &[],
                durability: self.done_level(),
            };
            self.engine.commit(&mut batch, now, &mut receipt)?;
            if receipt.applied {
                for (prepared, inserted) in prepared.iter().zip(&receipt.inserted) {
                    if *inserted == Inserted::New {
                        self.announce_push(prepared, now);
                    }
                }
                return Ok(self.announce(ended, &transition, Applied::Yes, now));
            }
            match receipt.transitions.first() {
                Some(Applied::CancelRequested) => {
                    ended.cancel_requested = true;
                    transition = self.decide(ended);
                }
                Some(Applied::Stale) => return Ok(self.announce(ended, &transition, Applied::Stale, now)),
                _ if receipt.inserted.contains(&Inserted::Sealed) => {
                    return self.fail_follow_up(settling, closed());
                }
                _ => {
                    let error = Error::new(ErrorKind::Conflict, "a follow-up's key belongs to another job");
                    return self.fail_follow_up(settling, error);
                }
            }
        }
    }

    fn fail_follow_up(&self, settling: &mut Settling, error: Error) -> Result<Answer> {
        let text = format!("a follow-up job could not be pushed: {error}");
        settling.ended[0].outcome = Outcome::failed(text);
        self.store(settling, None, self.now())?;
        Err(error)
    }

    /// Takes the outcome out of `ended` and decides.
    #[inline]
    pub(super) fn decide(&self, ended: &mut Ended) -> Transition {
        let outcome = std::mem::replace(&mut ended.outcome, Outcome::LeaseLost);
        match outcome {
            // The hot path: no policy is asked about a success.
            Outcome::Success(result) if !ended.cancel_requested && self.takes(&result) => decide(
                &ended.standing(),
                Outcome::Success(result),
                &RetryPolicy::DEFAULT,
                0.0,
            ),
            outcome => self.decide_otherwise(ended, outcome),
        }
    }

    fn decide_otherwise(&self, ended: &mut Ended, outcome: Outcome) -> Transition {
        let transition = decide(
            &ended.standing(),
            self.bounded(outcome),
            &self.policy(ended.whose().kind, ended.extras()),
            random(),
        );
        if transition.failure.is_some() && (self.events.any_wanted() || self.hooks.present()) {
            ended.failure = transition.failure.clone().map(Box::new);
        }
        transition
    }

    /// Whether the engine keeps the result as it is.
    fn can_keep(&self, result: &Payload) -> bool {
        !self.encodes || result.as_bytes().is_some()
    }

    /// Whether this can be the result of a success.
    #[inline]
    pub(super) fn takes(&self, result: &Payload) -> bool {
        self.can_keep(result) && self.has_room_for(result)
    }

    fn has_room_for(&self, result: &Payload) -> bool {
        result.len().is_none_or(|len| len <= self.options.max_payload)
    }

    /// A result above the limit, or one that the store could not hold, is a failed attempt, not a lost one.
    fn bounded(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Success(result) if !self.can_keep(&result) => match result.encode() {
                // From now on it is bytes, as it will be when it is read again.
                Ok(encoded) => self.bounded(Outcome::Success(Payload::encoded(encoded))),
                Err(error) => Outcome::failed(format!("the result cannot be stored: {error}")),
            },
            Outcome::Success(result) if !self.has_room_for(&result) => {
                self.too_long(result.len().unwrap_or(0))
            }
            outcome => outcome,
        }
    }

    fn too_long(&self, len: usize) -> Outcome {
        let max = self.options.max_payload;
        Outcome::failed(format!(
            "the result has {len} bytes; option max_payload allows {max}"
        ))
    }

    /// The retry policy of a job: its own, its kind's, or the dispatcher's.
    pub(super) fn policy(&self, kind: KindId, extras: Option<&Extras>) -> RetryPolicy {
        let own = extras.and_then(|e| e.retry);
        own.or_else(|| self.kinds.get(kind)?.options.retry)
            .unwrap_or(self.options.retry)
    }

    /// Tells whoever listens what became of an attempt.
    pub(super) fn announce(
        &self,
        ended: &Ended,
        transition: &Transition,
        applied: Applied,
        now: Timestamp,
    ) -> Answer {
        if applied != Applied::Yes {
            if let Of::Lease(_) = ended.of {
                // It ended while somebody took it for one that had not begun.
                self.cells.forget(transition.job);
            }
            self.publish(EventKind::Stale, ended.whose(), None, now);
            return Answer::Stale;
        }
        let state = transition.lands_in();
        if state.is_final() {
            self.end(ended, state);
        } else if self.stopping() {
            // Nothing will run it again, and whoever waits for its end should hear that.
            self.engine.signals().finished.ring(ended.whose().id, None);
        }
        if self.events.any_wanted() {
            let kind = match state {
                State::Succeeded => EventKind::Succeeded,
                State::Failed => EventKind::Failed,
                State::Cancelled => EventKind::Cancelled,
                State::Expired => EventKind::Expired,
                State::Shed => EventKind::Shed,
                _ if transition.refund => EventKind::Returned,
                _ => EventKind::Retried,
            };
            self.publish(kind, ended.whose(), ended.failure.as_deref(), now);
        }
        Answer::Stored(state)
    }

    fn end(&self, ended: &Ended, state: State) {
        if self.options.keep_finished > 0 {
            self.arm_prune();
        }
        if self.hooks.present() {
            self.tell_hooks(ended, state);
        }
    }

    fn tell_hooks(&self, ended: &Ended, state: State) {
        let whose = ended.whose();
        let end = End {
            id: whose.id,
            queue: whose.queue,
            kind: whose.kind,
            state,
            attempts: whose.attempt,
            failure: ended.failure.as_deref().cloned(),
        };
        // A hook runs where the job ends, which a stop or a wait in it would wait for.
        let _inside = Inside::of(self, end.id);
        if !self.hooks.call(|h| h.finished(&end)) {
            self.publish(EventKind::HookFailed, whose, None, self.now());
        }
    }
}

/// What an answer with follow-ups asked for: they belong to that end of the attempt and to no other, such
/// as a cancel that came first or a result that was too large.
#[derive(Clone, Copy)]
enum Asked {
    Success,
    Cancel,
    Other,
}

impl Asked {
    fn by(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Success(_) => Asked::Success,
            Outcome::Cancelled(_) => Asked::Cancel,
            _ => Asked::Other,
        }
    }

    fn got(self, state: State) -> bool {
        match self {
            Asked::Success => state == State::Succeeded,
            Asked::Cancel => state == State::Cancelled,
            Asked::Other => state != State::Cancelled,
        }
    }
}

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0u8) | 1);
}

/// What `random` draws on this thread from now on.
pub(super) fn seed(seed: u64) {
    // Neighbouring seeds are spread, as their first numbers would be neighbours too; 0 would stay 0.
    STATE.set(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
}

/// A number uniform in 0..1 for jitter: xorshift64*, seeded per thread from the system.
pub(crate) fn random() -> f64 {
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    })
}
