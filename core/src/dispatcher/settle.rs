//! How an attempt ends: outcome → [`decide`] → transition → engine → events, waiters, hooks.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::hooks::End;
use super::lease::Inside;
use super::{Inner, closed};
use crate::engine::{Applied, Batch, BatchReceipt, Claim, Inserted, Located};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::job::{Extras, NewJob, State};
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, Outcome, Standing, Transition, decide};
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

/// Attempts on their way into the engine, and the buffers they need: kept by whoever settles often.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// What has ended; empty again once settled.
    pub(crate) ended: Vec<Ended>,
    /// Whether each answer counted, in the order of `ended`.
    pub(crate) answers: Vec<Answer>,
    transitions: Vec<Transition>,
    applied: Vec<Applied>,
}

impl Settling {
    /// One attempt to be settled.
    pub(crate) fn one(ended: Ended) -> Self {
        Self {
            ended: vec![ended],
            ..Self::default()
        }
    }

    /// Forgets the answers of the last time.
    pub(crate) fn clear(&mut self) {
        self.ended.clear();
        self.answers.clear();
    }
}

/// An attempt whose body has ended, or a waiting job that must not wait on.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) at: Standing,
    pub(crate) queue: QueueId,
    pub(crate) kind: KindId,
    pub(crate) started: Option<Timestamp>,
    pub(crate) extras: Option<Arc<Extras>>,
    pub(crate) outcome: Outcome,
    /// Why it ended badly, for those who are told of it: the engine takes the transition's own copy.
    pub(crate) failure: Option<Failure>,
    /// Whether a lease of this dispatcher ended with it.
    pub(crate) leased: bool,
}

impl Ended {
    /// A job that no local lease answers for: it waits, or its holder is gone.
    pub(crate) fn located(at: &Located, outcome: Outcome) -> Self {
        let standing = Standing {
            job: at.job,
            running: at.state == State::Running,
            attempt: at.attempt,
            max_attempts: if at.max_attempts == 0 {
                u32::MAX
            } else {
                at.max_attempts
            },
            cancel_requested: at.cancel_requested,
        };
        let (started, extras) = (at.started, at.extras.clone());
        Self {
            at: standing,
            queue: at.queue,
            kind: at.kind,
            started,
            extras,
            outcome,
            failure: None,
            leased: false,
        }
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
        self.settle_and_claim(settling, None)
    }

    /// Stores what became of one attempt.
    pub(crate) fn settle_one(&self, ended: Ended) -> Result<Answer> {
        let mut settling = Settling::one(ended);
        self.settle(&mut settling)?;
        Ok(settling.answers[0])
    }

    /// Stores what became of these attempts, and claims what is next in the same call to the engine.
    pub(crate) fn settle_and_claim(
        &self,
        settling: &mut Settling,
        claim: Option<&mut Claim<'_>>,
    ) -> Result<()> {
        let leased = settling.ended.iter().filter(|e| e.leased).count();
        let result = self.store(settling, claim);
        settling.ended.clear();
        // Only now is the attempt over for those who wait until nothing runs.
        self.settled(leased);
        result
    }

    fn store(&self, settling: &mut Settling, claim: Option<&mut Claim<'_>>) -> Result<()> {
        let now = self.now();
        let Settling {
            ended,
            answers,
            transitions,
            applied,
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
        Ok(())
    }

    /// A request to cancel came between the decision and the write: decide again.
    fn cancel_instead(
        &self,
        ended: &mut Ended,
        transition: &mut Transition,
        now: Timestamp,
    ) -> Result<Applied> {
        ended.at.cancel_requested = true;
        *transition = self.decide(ended);
        let mut applied = Vec::with_capacity(1);
        self.engine
            .turn(std::slice::from_mut(transition), &mut applied, None, now)?;
        Ok(applied[0])
    }

    /// Stores an answer and its follow-up jobs in one write.
    pub(crate) fn settle_with(&self, ended: Ended, jobs: &[NewJob<'_>]) -> Result<Answer> {
        let leased = usize::from(ended.leased);
        let result = self.store_with(ended, jobs);
        self.settled(leased);
        result
    }

    fn store_with(&self, mut ended: Ended, jobs: &[NewJob<'_>]) -> Result<Answer> {
        let now = self.now();
        let prepared = jobs
            .iter()
            .map(|job| self.prepare(job, now))
            .collect::<Result<Vec<_>>>();
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.fail_follow_up(ended, error),
        };
        // Follow-ups belong to work that was accepted: a full queue does not refuse them.
        let inserts: Vec<_> = prepared.iter().map(|p| p.insert(0)).collect();
        let asked = Asked::by(&ended.outcome);
        let mut transition = self.decide(&mut ended);
        loop {
            let mut receipt = BatchReceipt::default();
            let mut batch = Batch {
                inserts: if asked.got(transition.to) { &inserts } else { &[] },
                transitions: std::slice::from_mut(&mut transition),
                signals: &[],
            };
            self.engine.commit(&mut batch, now, &mut receipt)?;
            if receipt.applied {
                for (prepared, inserted) in prepared.iter().zip(&receipt.inserted) {
                    if *inserted == Inserted::New {
                        self.announce_push(prepared, now);
                    }
                }
                return Ok(self.announce(&ended, &transition, Applied::Yes, now));
            }
            match receipt.transitions.first() {
                Some(Applied::CancelRequested) => {
                    ended.at.cancel_requested = true;
                    transition = self.decide(&mut ended);
                }
                Some(Applied::Stale) => return Ok(self.announce(&ended, &transition, Applied::Stale, now)),
                _ if receipt.inserted.contains(&Inserted::Sealed) => {
                    return self.fail_follow_up(ended, closed());
                }
                _ => {
                    let error = Error::new(ErrorKind::Conflict, "a follow-up's key belongs to another job");
                    return self.fail_follow_up(ended, error);
                }
            }
        }
    }

    fn fail_follow_up(&self, mut ended: Ended, error: Error) -> Result<Answer> {
        ended.outcome = Outcome::failed(format!("a follow-up job could not be pushed: {error}"));
        self.store(&mut Settling::one(ended), None)?;
        Err(error)
    }

    /// Takes the outcome out of `ended` and decides.
    fn decide(&self, ended: &mut Ended) -> Transition {
        let outcome = std::mem::replace(&mut ended.outcome, Outcome::LeaseLost);
        let transition = match self.bounded(outcome) {
            // The hot path: no policy is asked about a success.
            success @ Outcome::Success(_) => decide(&ended.at, success, &RetryPolicy::DEFAULT, 0.0),
            outcome => decide(
                &ended.at,
                outcome,
                &self.policy(ended.kind, ended.extras.as_deref()),
                random(),
            ),
        };
        if transition.failure.is_some() && (self.events.wanted() || self.hooks.present()) {
            ended.failure.clone_from(&transition.failure);
        }
        transition
    }

    /// A result above the limit is a failed attempt, not a lost one.
    fn bounded(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Success(result) if result.len().is_some_and(|n| n > self.options.max_payload) => {
                let (len, max) = (result.len().unwrap_or(0), self.options.max_payload);
                Outcome::failed(format!(
                    "the result has {len} bytes; option max_payload allows {max}"
                ))
            }
            outcome => outcome,
        }
    }

    /// The retry policy of a job: its own, its kind's, or the dispatcher's.
    fn policy(&self, kind: KindId, extras: Option<&Extras>) -> RetryPolicy {
        let own = extras.and_then(|e| e.retry);
        own.or_else(|| self.kinds.get(kind)?.options.retry)
            .unwrap_or(self.options.retry)
    }

    /// Tells whoever listens what became of an attempt.
    fn announce(&self, ended: &Ended, transition: &Transition, applied: Applied, now: Timestamp) -> Answer {
        if applied != Applied::Yes {
            self.publish(EventKind::Stale, ended, None, now);
            return Answer::Stale;
        }
        let state = transition.lands_in();
        if state.is_final() {
            self.end(ended, state);
        }
        if self.events.wanted() {
            let kind = match state {
                State::Succeeded => EventKind::Succeeded,
                State::Failed => EventKind::Failed,
                State::Cancelled => EventKind::Cancelled,
                State::Expired => EventKind::Expired,
                _ if transition.refund => EventKind::Returned,
                _ => EventKind::Retried,
            };
            self.publish(kind, ended, ended.failure.as_ref(), now);
        }
        Answer::Stored(state)
    }

    fn end(&self, ended: &Ended, state: State) {
        self.arm_prune();
        if !self.hooks.present() {
            return;
        }
        let end = End {
            id: ended.at.job.id,
            queue: ended.queue,
            kind: ended.kind,
            state,
            attempts: ended.at.attempt,
            failure: ended.failure.clone(),
        };
        // A hook runs where the job ends, which a stop or a wait in it would wait for.
        let _inside = Inside::of(self, end.id);
        if !self.hooks.call(|h| h.finished(&end)) {
            self.publish(EventKind::HookFailed, ended, None, self.now());
        }
    }

    pub(crate) fn publish(&self, kind: EventKind, about: &Ended, failure: Option<&Failure>, at: Timestamp) {
        if self.events.wanted() {
            self.events.publish(&Event {
                kind,
                id: about.at.job.id,
                queue: Some(about.queue),
                job_kind: Some(about.kind),
                attempt: about.at.attempt,
                at,
                took: about
                    .started
                    .filter(|_| kind != EventKind::Started)
                    .map(|s| at.since(s)),
                failure: failure.map(|f| f.kind),
            });
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

/// A number uniform in 0..1 for jitter: xorshift64*, seeded per thread from the system.
fn random() -> f64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0u8) | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    })
}
