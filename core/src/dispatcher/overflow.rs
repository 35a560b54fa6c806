//! A queue is full: its policy says whether the newcomer is refused, shed, or let in for another.

use super::prepared::Prepared;
use super::settle::{Ended, random};
use super::{Inner, Pushed};
use crate::admission::{OnFull, Overflow};
use crate::engine::{Applied, Inserted, Located, Victim};
use crate::error::{Error, ErrorKind, Result};
use crate::names::QueueId;
use crate::outcome::{Outcome, ShedReason};
use crate::payload::Payload;
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// What a push does next that found its queue full.
pub(super) enum Next {
    /// It fails, or waits for room.
    Refuse,
    /// It tries again: other jobs have made room.
    Again,
    /// It is stored as one that was shed.
    Shed(ShedReason),
}

impl Inner {
    /// What the policy of the queue says to newcomers that found it full, of whom `first` is the first and there
    /// are `count`.
    pub(super) fn overflow(&self, first: &Prepared<'_>, count: usize, now: Timestamp) -> Result<Next> {
        let Some(policy) = self.rules(first.queue).on_full else {
            return Ok(Next::Refuse);
        };
        // The dice are thrown for each of them.
        let count = if matches!(policy, OnFull::Sample(_)) {
            1
        } else {
            count
        };
        let mut step = policy.step(random());
        if let Overflow::MakeRoom(reason) = step {
            if self.make_room(first, reason, count, now)? {
                return Ok(Next::Again);
            }
            step = policy.otherwise();
        }
        Ok(match step {
            Overflow::ShedNewcomer(reason) => Next::Shed(reason),
            Overflow::Refuse | Overflow::MakeRoom(_) => Next::Refuse,
        })
    }

    /// Sheds up to `count` jobs that wait, for this reason; true if there was one.
    fn make_room(
        &self,
        newcomer: &Prepared<'_>,
        reason: ShedReason,
        count: usize,
        now: Timestamp,
    ) -> Result<bool> {
        let victim = match reason {
            ShedReason::Lowest => Victim::Lowest {
                below: newcomer.priority(),
            },
            ShedReason::Coalesced => match newcomer.concurrency_key() {
                Some(key) => Victim::OfKey(key),
                None => return Ok(false),
            },
            _ => Victim::Oldest,
        };
        // Only what stands for the oldest does not depend on who comes next.
        let count = if victim == Victim::Oldest { count } else { 1 };
        let mut made = false;
        for _ in 0..count {
            let Some(at) = self.engine.evict(newcomer.queue, victim, reason, now)? else {
                break;
            };
            self.announce_shed(&at, reason, now);
            made = true;
        }
        Ok(made)
    }

    /// Tells whoever listens that the engine has shed a job that stood there.
    fn announce_shed(&self, at: &Located, reason: ShedReason, now: Timestamp) {
        if planted(Bug::ShedInSilence) {
            return;
        }
        let mut ended = Ended::located(at, Outcome::Shed(reason));
        let transition = self.decide(&mut ended);
        self.announce(&ended, &transition, Applied::Yes, now);
        // Whoever waits for an empty queue should look again.
        self.cells.idle.ring_all();
    }

    /// Stores a newcomer as one that was shed.
    pub(super) fn shed_newcomer(
        &self,
        prepared: &Prepared<'_>,
        reason: ShedReason,
        now: Timestamp,
    ) -> Result<Pushed> {
        let empty = Payload::empty();
        let insert = prepared.shed(&empty, reason);
        let mut receipts = Vec::with_capacity(1);
        self.engine
            .insert(std::slice::from_ref(&insert), now, &mut receipts)?;
        let pushed = self.receive(prepared, receipts[0], now)?;
        if receipts[0] != Inserted::New {
            return Ok(pushed);
        }
        self.announce_shed(&prepared.standing_shed(), reason, now);
        Ok(Pushed {
            shed: Some(reason).filter(|_| !planted(Bug::ShedToldAccepted)),
            ..pushed
        })
    }

    /// Whether one push could ever have room for these bytes.
    #[inline]
    pub(super) fn check_weight(&self, queue: QueueId, len: usize) -> Result<()> {
        match self.bounds(queue).bytes {
            most if most > 0 && len > most => {
                let name = self.engine.names().queue_name(queue);
                let text = format!(
                    "payload has {len} bytes; queue {name:?} takes {most} in all (option capacity_bytes)"
                );
                Err(Error::new(ErrorKind::Invalid, text))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use crate::{Dispatcher, ErrorKind, EventKind, NewJob, Options, ShedReason, State};

    fn full_queue(policy: &str) -> Dispatcher {
        let url = format!("memory:?capacity=2&on_full={policy}");
        let d = Dispatcher::open(&url, Options::default()).expect("the options fit");
        let two = [NewJob::new("k", b"1"), NewJob::new("k", b"2")];
        assert_eq!(d.push_many(&two).expect("there is room").len(), 2);
        d
    }

    /// What `refused` counts is what callers were told.
    #[test]
    fn a_refusal_is_counted_when_it_is_answered() {
        for (policy, refused) in [
            ("reject", 2),
            ("block(1ms)", 2),
            ("coalesce", 2),
            ("drop_newest", 0),
            ("drop_oldest", 0),
            ("drop_lowest", 0),
            ("sample(0.5)", 0),
        ] {
            let d = full_queue(policy);
            let one = d.push(NewJob::new("k", b"3")).map(|_| ()).map_err(|e| e.kind());
            let many = d.push_many(&[NewJob::new("k", b"4")]);
            let many = many.map(|_| ()).map_err(|e| e.error.kind());
            assert_eq!(one, many, "{policy}");
            assert_eq!(one.err(), (refused > 0).then_some(ErrorKind::Full), "{policy}");
            let counts = d.stats().unwrap().total();
            assert_eq!(counts.totals.refused, refused, "{policy}");
            assert!(counts.balanced() && counts.waiting() == 2, "{policy}: {counts:?}");
        }
    }

    #[test]
    fn who_waits_longer_than_the_policy_says_is_told_so() {
        let d = full_queue("reject");
        let refused = d.push_within(NewJob::new("k", b"3"), Duration::from_millis(1));
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("no room came in time"), "{error}");
        assert_eq!(
            error.into_job().payload.as_bytes(),
            Some(&b"3"[..]),
            "it comes back whole"
        );
        assert_eq!(d.stats().unwrap().total().totals.refused, 1);
    }

    #[test]
    fn a_large_batch_replaces_a_full_queue() {
        let d = full_queue("drop_oldest");
        let jobs: Vec<_> = (0..1000u32)
            .map(|n| NewJob::new("k", n.to_le_bytes().to_vec()))
            .collect();
        let pushed = d.push_many(&jobs).unwrap();
        assert_eq!(pushed.len(), 1000);
        let counts = d.stats().unwrap().total();
        assert_eq!((counts.waiting(), counts.totals.shed_oldest), (2, 1000));
        let states: Vec<_> = pushed[997..].iter().map(|p| d.state(p.id).unwrap()).collect();
        assert_eq!(
            states,
            [State::Shed, State::Queued, State::Queued],
            "the newest are left"
        );
    }

    #[test]
    fn a_shed_newcomer_is_told_of_where_nothing_is_remembered() {
        let url = "memory:?capacity=1&on_full=drop_newest&keep_finished=0";
        let d = Dispatcher::open(url, Options::default()).unwrap();
        d.push(NewJob::new("k", b"1")).unwrap();
        let events = d.subscribe(16);
        let shed = d.push(NewJob::new("k", b"2")).unwrap().id;
        let told: Vec<_> = events.drain().filter(|event| event.id == shed).collect();
        assert_eq!(
            told.last().map(|event| event.kind),
            Some(EventKind::Shed),
            "{told:?}"
        );
    }

    #[test]
    fn a_newcomer_that_is_shed_has_an_end() {
        let d = full_queue("drop_newest");
        let pushed = d.push(NewJob::new("k", b"3").key("order")).unwrap();
        assert_eq!((pushed.created, pushed.shed), (true, Some(ShedReason::Newest)));
        let error = d.get(pushed.id).unwrap().into_result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shed);
        assert!(error.to_string().contains("shed_newest"), "{error}");
        d.purge("default").unwrap();
        let again = d.push(NewJob::new("k", b"3").key("order")).unwrap();
        assert!(again.created && again.shed.is_none(), "its key is free");
    }

    fn totals(d: &Dispatcher) -> crate::engine::Totals {
        d.stats().expect("the engine answers").total().totals
    }

    #[test]
    fn a_share_is_kept_when_many_are_pushed_at_once() {
        let d = Dispatcher::open("memory:?capacity=100&on_full=sample(0.1)", Options::default()).unwrap();
        let jobs: Vec<_> = (0..4_100).map(|_| NewJob::new("k", ())).collect();
        d.push_many(&jobs).unwrap();
        let (shed, let_in) = (totals(&d).shed_sampled, totals(&d).shed_oldest);
        assert_eq!(shed + let_in, 4_000);
        // Ten times as far from 400 as chance goes.
        assert!((210..590).contains(&let_in), "{let_in} of 4000");
    }

    #[test]
    fn no_more_goes_than_has_to() {
        let d = Dispatcher::open("memory:?capacity=10&on_full=drop_oldest", Options::default()).unwrap();
        let job = |n: u32| NewJob::new("k", ()).key(n.to_string());
        let ten: Vec<_> = (0..10).map(job).collect();
        d.push_many(&ten).unwrap();
        let again: Vec<_> = std::iter::once(99).chain(5..10).map(job).collect();
        let pushed = d.push_many(&again).unwrap();
        assert_eq!(pushed.iter().filter(|p| p.created).count(), 1);
        assert_eq!(totals(&d).shed_oldest, 1, "the others were there");
        let url = "memory:?capacity_bytes=1000&on_full=drop_oldest";
        let d = Dispatcher::open(url, Options::default()).unwrap();
        for _ in 0..10 {
            d.push(NewJob::new("k", vec![0; 100])).unwrap();
        }
        let small: Vec<_> = (0..5).map(|_| NewJob::new("k", b"x")).collect();
        d.push_many(&small).unwrap();
        assert_eq!(totals(&d).shed_oldest, 1, "which made room for all five");
    }

    #[test]
    fn who_waits_for_room_hears_that_there_can_be_none() {
        let d = Dispatcher::open("memory:?capacity_bytes=100", Options::default()).unwrap();
        let push = || d.push_within(NewJob::new("k", vec![0; 80]), Duration::from_secs(600));
        push().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(push);
            while d.0.engine.signals().space.waiting() == 0 {
                std::thread::yield_now();
            }
            d.adjust_queue("default", |own| own.set("capacity_bytes", "50"))
                .unwrap();
            assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Invalid);
        });
    }
}
