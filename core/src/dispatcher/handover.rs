//! The most frequent turn of all: an attempt has succeeded, and its consumer takes the next job, while there is no rule
//! to ask and nobody to tell.
//!
//! It is what [`Consumer::complete_and_next`] does with any outcome of any number of leases, for one: without lists,
//! and without giving back what the next lease needs as well, its slot, its place among the active ones and its
//! body. Whether a turn is of that kind is asked first. Whatever is out of the ordinary later, as an answer that
//! comes too late, goes the general way from there.

use std::slice;
use std::sync::Arc;

use super::Inner;
use super::ask::Ask;
use super::consumer::Consumer;
use super::events::StorePlace;
use super::lease::{Body, Lease};
use super::settle::Answer;
use super::slots::{Baton, Place};
use crate::durability::Durability;
use crate::engine::{Applied, Claim, KeyLimits};
use crate::error::Result;
use crate::job::State;
use crate::names::QueueId;
use crate::outcome::{Outcome, Transition, decide};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

impl Consumer {
    /// Whether a success of this lease, with this result, can be stored by [`Consumer::hand_over`].
    #[inline]
    pub(super) fn can_hand_over(&self, lease: &Lease, result: &Payload) -> bool {
        let inner = &*self.inner;
        Arc::ptr_eq(&self.inner, lease.inner())
            && lease.body().is_plain()
            && inner.is_plain()
            && self.ask.is_plain(inner)
            && inner.takes(result)
    }

    /// Stores a success, and hands what the lease was made of to the next job, if there is one. The cell must have
    /// been said to be [passing](Body::begins_passing).
    pub(super) fn hand_over(&mut self, body: Box<Body>, result: Payload) -> Result<(Answer, Option<Lease>)> {
        let Self {
            inner,
            ask,
            settling,
            dry,
            ..
        } = self;
        let now = inner.now();
        let standing = body.standing(false);
        let mut transition = decide(&standing, Outcome::Success(result), &RetryPolicy::DEFAULT, 0.0);
        match ask.turn_over(inner, &mut transition, now) {
            Ok(Applied::Yes) => inner.note_end(),
            other => {
                body.leave_cell();
                let answer = inner.settle_otherwise(settling, body, transition, other, now);
                return self.go_on(answer);
            }
        }
        let answer = Answer::Stored(State::Succeeded);
        match ask.follow(inner, body) {
            Ok(next) => Ok((answer, Some(next))),
            Err(body) => {
                body.leave_cell();
                settling.take_back(body);
                if ask.known(inner) > 1 {
                    return self.go_on(Ok(answer));
                }
                *dry = true;
                drop(Baton::of_one(inner));
                Ok((answer, None))
            }
        }
    }

    /// Goes on after an end that has handed nothing over: begins the lease of what was claimed nevertheless, or looks
    /// into all queues. The permit and the place of the ended lease are there to be used.
    #[cold]
    fn go_on(&mut self, answer: Result<Answer>) -> Result<(Answer, Option<Lease>)> {
        let Self {
            inner,
            ask,
            settling,
            dry,
            ..
        } = self;
        let mut baton = Baton::of_one(inner);
        if ask.has_claimed() {
            baton.spend(1);
            let next = ask.follow(inner, settling.body(inner));
            // It must be run, whatever has become of the answer.
            return Ok((answer.unwrap_or(Answer::Stale), next.ok()));
        }
        let answer = answer?;
        settling.clear();
        let mut leases = std::mem::take(&mut ask.leases);
        let got = ask.claim(
            inner,
            settling,
            &mut baton,
            &mut Place::new(inner),
            1,
            &mut leases,
        );
        *dry = matches!(got, Ok(0));
        let next = leases.pop();
        ask.leases = leases;
        got.map(|_| (answer, next))
    }
}

impl Ask {
    /// Whether what it asks for is as it was when it last asked, and nothing but queue and kind decides what it gets.
    #[inline]
    fn is_plain(&self, inner: &Inner) -> bool {
        !self.relays && !self.sifts && self.limited.is_empty() && self.is_fresh(inner)
    }

    /// How many queues it asks.
    #[inline]
    fn known(&self, inner: &Inner) -> usize {
        match self.queues.len() {
            0 => inner.engine.names().queue_count(),
            some => some,
        }
    }

    /// Stores the end of one attempt, and claims the next job of the queue whose turn it is.
    #[inline]
    fn turn_over(&mut self, inner: &Inner, transition: &mut Transition, now: Timestamp) -> Result<Applied> {
        let place = match self.known(inner) {
            1 => 0,
            known => self.turn % known,
        };
        let queue = match self.queues.get(place) {
            None => QueueId(place as u16),
            Some(queue) => *queue,
        };
        let mut claim = Claim {
            queue,
            kinds: &mut self.claims,
            limit: 1,
            lease: self.lease,
            node: &inner.node,
            worker: self.worker,
            keys: KeyLimits::default(),
            relays: false,
            out: &mut self.claimed,
        };
        self.applied.clear();
        let done = slice::from_mut(transition);
        inner
            .engine
            .turn(done, &mut self.applied, Some(&mut claim), now)?;
        self.turn = place + self.claimed.len();
        Ok(self.applied[0])
    }

    fn has_claimed(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// Begins the lease of the job that was claimed; gives the body back if there was none.
    #[inline]
    fn follow(&mut self, inner: &Inner, body: Box<Body>) -> Result<Lease, Box<Body>> {
        let Some(claimed) = self.claimed.first_mut() else {
            return Err(body);
        };
        let kind = claimed.kind.index();
        self.claims[kind].allowance = self.asked[kind].claim.allowance;
        let lease = Lease::follow(body, claimed, self.worker);
        self.claimed.clear();
        inner.cells.hear(slice::from_ref(&lease));
        Ok(lease)
    }
}

impl Inner {
    /// Whether there is no rule to ask about an end or a claim, and nobody to tell.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.events.any_wanted()
            && !self.hooks.present()
            && self.gates.are_open()
            && !self.relays.any()
            && !self.slots.limits_queues()
            && !self.slots.all.wanted()
            && self.done_level() == Durability::Memory
    }

    /// The end of an attempt has been stored.
    #[inline]
    fn note_end(&self) {
        self.note_store(StorePlace::Answers, None);
        if self.options.keep_finished > 0 {
            self.arm_prune();
        }
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::dispatcher::{Dispatcher, KindSet};
    use crate::time::Deadline;
    use crate::{NewJob, Options, StopReason};

    /// A dispatcher with so many jobs, a consumer of all, and its first lease.
    fn rig(jobs: usize) -> (Dispatcher, Consumer, Lease) {
        let d = Dispatcher::in_memory().expect("the options fit");
        for _ in 0..jobs {
            d.push(NewJob::new("k", ())).expect("it is open");
        }
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let lease = consumer.next(Deadline::NEVER).expect("it is open");
        (d, consumer, lease.expect("there is a job"))
    }

    fn can(consumer: &Consumer, lease: &Lease) -> bool {
        consumer.can_hand_over(lease, &Payload::empty())
    }

    fn succeed(consumer: &mut Consumer, lease: Lease) -> (Answer, Option<Lease>) {
        let answer = consumer.complete_and_next(lease, Outcome::done());
        answer.expect("the engine answers")
    }

    /// That what leases hold has been given back.
    fn assert_idle(d: &Dispatcher) {
        assert_eq!(
            (d.0.slots.all.used(), d.0.cells.active(), d.0.cells.live()),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_next_lease_has_the_place_and_a_ticket_of_its_own() {
        let (d, mut consumer, first) = rig(2);
        let (id, ticket) = (first.id(), first.ticket());
        assert!(can(&consumer, &first));
        let (answer, next) = succeed(&mut consumer, first);
        let second = next.expect("there is another job");
        assert_eq!(answer, Answer::Stored(State::Succeeded));
        assert_eq!(d.state(id).unwrap(), State::Succeeded);
        assert_eq!(
            (d.0.slots.all.used(), d.0.cells.active(), d.0.cells.live()),
            (1, 1, 1)
        );
        assert!(second.id() != id && second.ticket() != ticket);
        let late = d.finish([(ticket, Outcome::failed("late"))]).unwrap();
        assert_eq!(late, [Answer::Stale], "a ticket is good for one lease");
        assert!(can(&consumer, &second));
        let (answer, next) = succeed(&mut consumer, second);
        assert!(answer == Answer::Stored(State::Succeeded) && next.is_none());
        assert_idle(&d);
    }

    #[test]
    fn a_ticket_that_has_answered_before_is_believed() {
        let (d, mut consumer, first) = rig(2);
        let id = first.id();
        d.finish([(first.ticket(), Outcome::fatal("no"))]).unwrap();
        assert!(!can(&consumer, &first));
        let (answer, next) = succeed(&mut consumer, first);
        assert_eq!((answer, d.state(id).unwrap()), (Answer::Stale, State::Failed));
        assert!(next.as_ref().is_some_and(|next| can(&consumer, next)));
        succeed(&mut consumer, next.expect("asserted above"));
        assert_idle(&d);
    }

    #[test]
    fn an_answer_that_comes_in_between_is_believed_as_well() {
        let (d, mut consumer, first) = rig(2);
        let (id, ticket) = (first.id(), first.ticket());
        // As if it came after the look.
        let body = first.into_body();
        d.finish([(ticket, Outcome::fatal("no"))]).unwrap();
        let (answer, next) = consumer.hand_over(body, Payload::empty()).unwrap();
        assert_eq!((answer, d.state(id).unwrap()), (Answer::Stale, State::Failed));
        let next = next.expect("there is another job");
        assert!(can(&consumer, &next), "the answer was that of the last one");
        assert_eq!((d.0.cells.active(), d.0.cells.live()), (1, 1));
        succeed(&mut consumer, next);
        assert_idle(&d);
    }

    #[test]
    fn a_cancel_that_comes_in_between_counts() {
        for jobs in [1, 2] {
            let (d, mut consumer, first) = rig(jobs);
            let id = first.id();
            d.0.engine.request_cancel(first.job()).unwrap();
            assert!(can(&consumer, &first), "only the store knows");
            let (answer, next) = succeed(&mut consumer, first);
            assert_eq!(answer, Answer::Stored(State::Cancelled));
            assert_eq!(
                (d.state(id).unwrap(), next.is_some()),
                (State::Cancelled, jobs == 2)
            );
            next.map(|next| succeed(&mut consumer, next));
            assert_idle(&d);
        }
    }

    #[test]
    fn a_stop_sees_a_claim_that_is_under_way() {
        let (d, mut consumer, first) = rig(2);
        assert!(first.body().begins_passing());
        assert_eq!(
            (d.0.cells.active(), d.0.cells.live()),
            (1, 0),
            "there is something to wait for"
        );
        let (answer, next) = consumer.hand_over(first.into_body(), Payload::empty()).unwrap();
        assert!(answer == Answer::Stored(State::Succeeded) && next.is_some());
        assert_eq!((d.0.cells.active(), d.0.cells.live()), (1, 1));
        d.request_stop();
        let second = next.expect("asserted above");
        assert!(!second.body().begins_passing(), "nothing follows any more");
        assert_eq!(d.0.cells.live(), 1);
        succeed(&mut consumer, second);
        assert_idle(&d);
    }

    #[test]
    fn a_stop_that_waits_for_a_claim_hands_it_back() {
        let (d, mut consumer, first) = rig(2);
        assert!(first.body().begins_passing());
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| d.stop(std::time::Duration::ZERO).unwrap());
            while !d.stopping() {
                std::thread::yield_now();
            }
            let (_, next) = consumer.hand_over(first.into_body(), Payload::empty()).unwrap();
            let report = stop.join().unwrap();
            assert_eq!((report.handed_back, report.waiting), (1, 1));
            assert_eq!(
                succeed(&mut consumer, next.expect("it was claimed")).0,
                Answer::Stale
            );
        });
        assert!(d.stats().unwrap().total().balanced());
    }

    #[test]
    fn a_cancel_between_the_claim_and_the_lease_is_heard() {
        let (d, mut consumer, first) = rig(2);
        let body = first.into_body();
        let inner = consumer.inner.clone();
        let (standing, outcome) = (body.standing(false), Outcome::done());
        let mut transition = decide(&standing, outcome, &RetryPolicy::DEFAULT, 0.0);
        let applied = consumer.ask.turn_over(&inner, &mut transition, inner.now());
        assert_eq!(applied.unwrap(), Applied::Yes);
        let second = consumer.ask.claimed[0].job.id;
        assert_eq!(d.cancel(second).unwrap(), State::Running);
        let lease = consumer.ask.follow(&inner, body).expect("it was claimed");
        assert_eq!(lease.stop_reason(), Some(StopReason::Cancelled));
        assert!(d.0.cells.nothing_unheard());
        succeed(&mut consumer, lease);
        assert_eq!(d.state(second).unwrap(), State::Cancelled);
        assert_idle(&d);
    }

    #[test]
    fn who_is_to_stop_is_asked_first() {
        let (d, mut consumer, first) = rig(2);
        d.cancel(first.id()).unwrap();
        assert_eq!(first.stop_reason(), Some(StopReason::Cancelled));
        assert!(!can(&consumer, &first));
        let (answer, next) = succeed(&mut consumer, first);
        assert_eq!(answer, Answer::Stored(State::Cancelled));
        let next = next.expect("there is another job");
        assert!(next.stop_reason().is_none() && can(&consumer, &next));
    }

    #[test]
    fn other_queues_are_looked_into() {
        let d = Dispatcher::in_memory().unwrap();
        for queue in ["a", "b", "b", "c"] {
            d.push(NewJob::new("k", ()).queue(queue)).unwrap();
        }
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let mut next = consumer.next(Deadline::NEVER).unwrap();
        let mut seen = Vec::new();
        while let Some(lease) = next {
            assert!(can(&consumer, &lease));
            seen.push(lease.queue().to_string());
            next = succeed(&mut consumer, lease).1;
        }
        seen.sort_unstable();
        assert_eq!(seen, ["a", "b", "b", "c"]);
        assert_idle(&d);
    }

    #[test]
    fn rules_and_listeners_are_not_passed_by() {
        let (d, consumer, lease) = rig(1);
        assert!(can(&consumer, &lease));
        let events = d.subscribe(16);
        assert!(!can(&consumer, &lease));
        drop(events);
        let limited = Dispatcher::open("memory:?delay_target=50ms", Options::default()).unwrap();
        limited.push(NewJob::new("k", ())).unwrap();
        let mut consumer = limited.consumer(Arc::new(KindSet::any()));
        let lease = consumer.next(Deadline::NEVER).unwrap().unwrap();
        assert!(!can(&consumer, &lease));
        assert!(!can(&rig(1).1, &lease), "nor is another dispatcher's lease taken");
    }

    #[test]
    fn who_waits_for_another_kind_gets_the_slot() {
        let d = Dispatcher::open("memory:?concurrency=1", Options::default()).unwrap();
        d.push(NewJob::new("k", ())).unwrap();
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let lease = consumer.next(Deadline::NEVER).unwrap().unwrap();
        assert!(can(&consumer, &lease));
        let mut place = Place::new(&d.0);
        place.patient = true;
        assert_eq!(place.take(1), 0, "it stands in line");
        assert!(!can(&consumer, &lease));
    }
}
