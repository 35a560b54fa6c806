//! Bounds in bytes, jobs that are shed to make room, jobs that are shed as they come, and the newest first.

use super::*;
use crate::engine::memory::lane::Lane;
use crate::outcome::FailureKind;

const OLDEST: (Victim<'static>, ShedReason) = (Victim::Oldest, ShedReason::Oldest);

fn of(n: u128, payload: &Payload) -> Insert<'_> {
    Insert {
        payload: Parcel::Shared(payload),
        ..plain(id(n))
    }
}

fn bytes(count: usize) -> Payload {
    Payload::from(vec![7; count])
}

fn bounded<'p>(n: u128, payload: &'p Payload, capacity_bytes: usize) -> Insert<'p> {
    Insert {
        capacity_bytes,
        ..of(n, payload)
    }
}

impl Rig {
    fn evict_oldest(&self) -> Option<u128> {
        self.evict(OLDEST.0, OLDEST.1)
    }

    fn newest_first(&self, on: bool) {
        self.engine.set_newest_first(Q, on).unwrap();
    }
}

#[test]
fn not_one_byte_over_the_bound() {
    let (rig, ten, five) = (Rig::new(), bytes(10), bytes(5));
    assert_eq!(rig.push(of(1, &ten)), Inserted::New);
    assert_eq!(rig.load(), (1, 0), "nobody asked for bytes yet");
    assert_eq!(
        rig.push(bounded(2, &five, 14)),
        Inserted::FullBytes(10),
        "what was there before counts"
    );
    assert_eq!(rig.load(), (1, 10));
    assert_eq!(rig.push(bounded(2, &five, 15)), Inserted::New);
    assert_eq!(rig.push(bounded(3, &bytes(0), 15)), Inserted::New);
    assert_eq!(rig.push(bounded(4, &bytes(1), 15)), Inserted::FullBytes(15));
    assert_eq!(
        rig.push(bounded(2, &ten, 15)),
        Inserted::Duplicate,
        "known ones are not refused"
    );
    assert_eq!(rig.push(of(5, &ten)), Inserted::New, "this one has no bound");
    let counts = rig.counts();
    assert_eq!((rig.load(), counts.totals.refused), ((4, 25), 2));
}

#[test]
fn what_leaves_gives_its_bytes_back_and_what_comes_back_takes_them() {
    let (rig, ten) = (Rig::new(), bytes(10));
    for n in 1..=5 {
        assert_eq!(rig.push(bounded(n, &ten, 50)), Inserted::New);
    }
    let first = rig.claim_one();
    assert_eq!(rig.load(), (4, 40));
    assert_eq!(rig.push(bounded(6, &ten, 50)), Inserted::New);
    let again = Transition {
        delay: us(5),
        ..says(first.job, true, State::Scheduled)
    };
    assert_eq!(rig.apply(again), Applied::Yes);
    assert_eq!(rig.load(), (6, 60), "who comes back is not refused");
    rig.cancel(2);
    assert_eq!(rig.load(), (5, 50));
    assert_eq!(rig.evict_oldest(), Some(3));
    assert_eq!(rig.load(), (4, 40));
    rig.counts();
    rig.advance(10);
    assert_eq!(rig.claim_all(), [4, 5, 6, 1]);
    assert_eq!(rig.load(), (0, 0));
    rig.counts();
}

#[test]
fn an_object_of_the_host_has_no_length() {
    struct Object;
    impl crate::payload::HostObject for Object {
        fn encode(&self) -> crate::Result<crate::payload::Encoded> {
            unreachable!("nobody needs its bytes")
        }
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }
    let (rig, object) = (Rig::new(), Payload::host(Object));
    assert_eq!(rig.push(bounded(1, &object, 1)), Inserted::New);
    assert_eq!(rig.load(), (1, 0));
    rig.finish(&rig.claim_one());
    rig.counts();
}

#[test]
fn a_batch_keeps_to_the_bytes() {
    let (rig, ten) = (Rig::new(), bytes(10));
    assert_eq!(rig.push(of(1, &ten)), Inserted::New);
    let commit = |inserts: &[Insert<'_>], mut transitions: Vec<Transition>| {
        let mut batch = Batch {
            inserts,
            transitions: &mut transitions,
            ..Batch::default()
        };
        let mut receipt = BatchReceipt::default();
        rig.engine.commit(&mut batch, rig.now(), &mut receipt).unwrap();
        receipt
    };
    let two = [bounded(2, &ten, 25), bounded(3, &ten, 25)];
    let receipt = commit(&two, Vec::new());
    assert_eq!(receipt.inserted, [Inserted::New, Inserted::FullBytes(20)]);
    assert!(!receipt.applied);
    assert_eq!((rig.load(), rig.counts().totals.refused), ((1, 10), 1));
    let cancel = says(rig.waiting(1), false, State::Cancelled);
    assert!(commit(&two, vec![cancel]).applied, "a batch makes its own room");
    assert_eq!(rig.load(), (2, 20));
    let shed = [Insert {
        shed: Some(ShedReason::Sampled),
        ..bounded(4, &ten, 1)
    }];
    assert!(commit(&shed, Vec::new()).applied, "it takes no room");
    assert_eq!((rig.state(4), rig.load()), (Some(State::Shed), (2, 20)));
    assert_eq!(rig.counts().totals.shed_sampled, 1);
}

#[test]
fn the_oldest_goes_over_all_lanes() {
    let rig = Rig::new();
    for (n, priority) in [(1, 5), (2, 0), (3, 5), (4, -3)] {
        rig.push(Insert {
            priority,
            ..plain(id(n))
        });
        rig.advance(1);
    }
    rig.push(Insert {
        run_at: rig.later(10),
        ..plain(id(5))
    });
    rig.push(Insert {
        waits: &["token".into()],
        ..plain(id(6))
    });
    assert_eq!(
        [(); 5].map(|()| rig.evict_oldest()),
        [Some(1), Some(2), Some(3), Some(4), None]
    );
    assert_eq!(rig.state(5), Some(State::Scheduled));
    rig.advance(10);
    assert_eq!(rig.evict_oldest(), Some(5), "its time has come");
    let counts = rig.counts();
    assert_eq!(
        (counts.totals.shed_oldest, counts.blocked, counts.kept),
        (5, 1, 5)
    );
    assert!(rig.claim_all().is_empty());
}

#[test]
fn the_lowest_goes_if_it_is_low_enough() {
    let rig = Rig::new();
    for (n, priority) in [(1, 5), (2, 0), (3, -3), (4, -3), (5, 0)] {
        rig.push(Insert {
            priority,
            ..plain(id(n))
        });
    }
    let lowest = |below| rig.evict(Victim::Lowest { below }, ShedReason::Lowest);
    assert_eq!(lowest(-3), None);
    assert_eq!([lowest(0), lowest(0), lowest(0)], [Some(3), Some(4), None]);
    assert_eq!([lowest(1), lowest(127), lowest(127)], [Some(2), Some(5), Some(1)]);
    assert_eq!(lowest(127), None);
    assert_eq!(rig.counts().totals.shed_lowest, 5);
}

#[test]
fn a_shed_job_is_over_and_its_payload_is_gone() {
    let (rig, ten) = (Rig::new(), bytes(10));
    let extras = keyed("a", 7);
    let keyed = |n| Insert {
        extras: Some(&extras),
        ..of(n, &ten)
    };
    rig.push(keyed(1));
    let claim = rig.waiting(1);
    assert_eq!(rig.evict_oldest(), Some(1));
    let job = rig.get(1);
    assert_eq!((job.state, job.attempt), (State::Shed, 0));
    assert!(job.payload.is_empty() && job.finished == Some(rig.now()) && job.history.is_empty());
    let error = job.error.unwrap();
    assert_eq!(error.kind, FailureKind::Shed(ShedReason::Oldest));
    assert_eq!(
        rig.apply(says(claim, false, State::Cancelled)),
        Applied::Stale,
        "no edge leads out"
    );
    assert_eq!(rig.push(keyed(2)), Inserted::New, "its key is free");
    assert_eq!(rig.engine.keys.len(), 1);
    assert_eq!(rig.claim_all(), [2]);
    rig.counts();
}

#[test]
fn a_running_job_can_be_shed_and_gets_its_attempt_back() {
    let (rig, ten) = (Rig::new(), bytes(10));
    rig.push(bounded(1, &ten, 10));
    let claimed = rig.claim_one();
    let shed = Transition {
        refund: true,
        failure: Some(ShedReason::Delayed.failure()),
        ..says(claimed.job, true, State::Shed)
    };
    assert_eq!(rig.apply(shed), Applied::Yes);
    let job = rig.get(1);
    assert_eq!((job.state, job.attempt), (State::Shed, 0));
    assert!(job.payload.is_empty());
    assert_eq!((rig.counts().totals.shed_delayed, rig.load()), (1, (0, 0)));
}

#[test]
fn a_job_is_born_shed() {
    let (rig, ten, extras) = (Rig::keeping(2), bytes(10), keyed("a", 7));
    let shed = |n, reason| Insert {
        shed: Some(reason),
        capacity: 1,
        extras: Some(&extras),
        ..bounded(n, &ten, 5)
    };
    rig.push_ids([1]);
    assert_eq!(
        rig.push(shed(2, ShedReason::Newest)),
        Inserted::New,
        "there is no room"
    );
    assert_eq!(rig.push(shed(2, ShedReason::Newest)), Inserted::Duplicate);
    let job = rig.get(2);
    assert_eq!(
        job.error.as_ref().unwrap().kind,
        FailureKind::Shed(ShedReason::Newest)
    );
    assert!(job.payload.is_empty() && job.finished.is_some() && job.key() == Some("a"));
    assert_eq!((rig.load().0, rig.engine.keys.len()), (1, 0));
    assert_eq!(rig.push(shed(3, ShedReason::Sampled)), Inserted::New);
    assert_eq!(rig.push(shed(4, ShedReason::Lowest)), Inserted::New);
    assert_eq!(rig.state(2), None, "two are kept");
    let totals = rig.counts().totals;
    assert_eq!((totals.pushed, totals.refused), (4, 0));
    assert_eq!(
        (totals.shed_newest, totals.shed_sampled, totals.shed_lowest),
        (1, 1, 1)
    );
    rig.push(Insert {
        extras: Some(&extras),
        ..plain(id(5))
    });
    assert_eq!(rig.push(shed(6, ShedReason::Newest)), Inserted::Keyed(id(5)));
    assert_eq!(rig.claim_all(), [1, 5]);
}

#[test]
fn nothing_of_a_born_shed_job_is_kept_where_nothing_is() {
    let rig = Rig::keeping(0);
    let shed = Insert {
        shed: Some(ShedReason::Newest),
        deadline: rig.later(5),
        run_at: rig.later(3),
        ..plain(id(1))
    };
    assert_eq!(rig.push(shed), Inserted::New);
    rig.push_ids([2]);
    assert_eq!(rig.evict_oldest(), Some(2));
    assert_eq!((rig.state(1), rig.state(2)), (None, None));
    let counts = rig.counts();
    assert_eq!((counts.totals.shed(), counts.kept), (2, 0));
}

#[test]
fn a_ticket_of_one_that_was_shed_or_cancelled_is_passed_over() {
    let rig = Rig::new();
    let jobs = 3 * Lane::LITTER as u128;
    rig.push_ids(0..jobs);
    for n in (0..jobs).step_by(2) {
        rig.cancel(n);
    }
    let odd: Vec<u128> = (0..jobs).filter(|n| n % 2 == 1).collect();
    let half = odd.len() / 2;
    let shed: Vec<u128> = (0..half).map(|_| rig.evict_oldest().unwrap()).collect();
    assert_eq!(shed, odd[..half]);
    assert_eq!(rig.claim_all(), odd[half..]);
    let lane = rig.engine.shared.queues.get(Q).lanes.lane(0);
    assert_eq!((lane.len(), lane.stale()), (0, 0));
    rig.counts();
}

#[test]
fn jobs_aside_are_the_oldest() {
    let rig = Rig::new();
    for n in 1..=6 {
        rig.push(Insert {
            kind: KindId(n as u16 % 2),
            ..plain(id(n))
        });
    }
    assert_eq!(rig.claim_kinds(&[9], 2), [2, 4], "1 and 3 are set aside");
    assert_eq!(
        [(); 5].map(|()| rig.evict_oldest()),
        [Some(1), Some(3), Some(5), Some(6), None]
    );
    assert!(!rig.engine.shared.queues.get(Q).lanes.lane(0).has_aside());
    rig.counts();
}

#[test]
fn one_that_was_sealed_sheds_nothing() {
    let rig = Rig::new();
    rig.push_ids([1]);
    rig.engine.seal().unwrap();
    assert_eq!(rig.evict_oldest(), None);
    let shed = Insert {
        shed: Some(ShedReason::Newest),
        ..plain(id(2))
    };
    assert_eq!(rig.push(shed), Inserted::Sealed);
}

#[test]
fn the_newest_come_first_while_it_is_asked_for() {
    let rig = Rig::new();
    rig.push_ids([1, 2]);
    rig.newest_first(true);
    rig.push_ids([3, 4, 5]);
    rig.cancel(4);
    assert_eq!(numbers(&rig.claim(1)), [5]);
    rig.push_ids([6]);
    rig.push(Insert {
        priority: -1,
        ..plain(id(7))
    });
    rig.push(Insert {
        run_at: rig.later(5),
        ..plain(id(8))
    });
    rig.advance(10);
    assert_eq!(rig.claim_all(), [8, 6, 3, 1, 2, 7], "priorities come before");
    rig.push_ids([9, 10]);
    rig.newest_first(false);
    rig.push_ids([11]);
    assert_eq!(rig.claim_all(), [9, 10, 11], "in the order of the pushes again");
    rig.counts();
}

#[test]
fn the_oldest_are_shed_and_the_newest_run() {
    let rig = Rig::new();
    rig.push_ids([1, 2]);
    rig.newest_first(true);
    rig.push_ids([3, 4]);
    assert_eq!([rig.evict_oldest(), rig.evict_oldest()], [Some(1), Some(2)]);
    assert_eq!(rig.evict_oldest(), Some(3));
    assert_eq!(rig.claim_all(), [4]);
    rig.counts();
}

#[test]
fn a_sojourn_begins_when_a_job_could_have_started() {
    let rig = Rig::new();
    rig.push(Insert {
        run_at: rig.later(5),
        ..plain(id(1))
    });
    rig.push(Insert {
        waits: &["token".into()],
        ..plain(id(2))
    });
    let pushed = rig.now();
    rig.push_ids([3]);
    rig.advance(20);
    let mut batch = Batch {
        signals: &[(id(2), "token".into())],
        ..Batch::default()
    };
    let mut receipt = BatchReceipt::default();
    rig.engine.commit(&mut batch, rig.now(), &mut receipt).unwrap();
    rig.advance(20);
    let mut ready: Vec<_> = rig
        .claim(9)
        .into_iter()
        .map(|c| (c.job.id.as_u128(), c.ready, c))
        .collect();
    ready.sort_unstable_by_key(|(n, ..)| *n);
    let (at, last) = (|us_later| pushed.after(us(us_later)), ready.pop().unwrap());
    assert_eq!((ready[0].1, ready[1].1, last.1), (at(5), at(20), at(0)));
    let again = Transition {
        delay: us(7),
        ..says(last.2.job, true, State::Scheduled)
    };
    assert_eq!(rig.apply(again), Applied::Yes);
    rig.advance(30);
    assert_eq!(rig.claim_one().ready, at(47));
}
