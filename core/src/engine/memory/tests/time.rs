//! Delays, deadlines, timeouts, leases, and who is told.

use super::*;
use crate::engine::{Cause, Held};

fn leased(rig: &Rig, lease: Option<Duration>, timeout: Option<Duration>) -> Claimed {
    let mut kinds = [KindClaim {
        allowance: 1,
        max_attempts: 1,
        timeout,
    }];
    let mut out = Vec::new();
    let mut claim = Claim {
        queue: Q,
        kinds: &mut kinds,
        limit: 1,
        lease,
        node: &rig.node,
        worker: 0,
        keys: crate::engine::KeyLimits::default(),
        relays: false,
        out: &mut out,
    };
    let (mut applied, now) = (Vec::new(), rig.now());
    rig.engine
        .turn(&mut [], &mut applied, Some(&mut claim), now)
        .unwrap();
    assert_eq!(kinds[0].allowance, 0);
    out.pop().unwrap()
}

#[test]
fn scheduled_jobs_start_in_the_order_of_time_and_push() {
    let rig = Rig::new();
    for n in 0..200u128 {
        rig.push(Insert {
            run_at: rig.later(1 + (n as u64 * 37) % 10),
            ..plain(id(n * 13))
        });
    }
    let mut want: Vec<_> = (0..200u128).map(|n| (1 + (n * 37) % 10, n * 13)).collect();
    want.sort_by_key(|(at, _)| *at);
    assert_eq!(rig.claim_all(), [0; 0]);
    rig.advance(10);
    rig.push_ids([9999]);
    want.push((0, 9999));
    assert_eq!(
        rig.claim_all(),
        want.into_iter().map(|(_, n)| n).collect::<Vec<_>>()
    );
}

#[test]
fn a_tick_promotes_no_more_than_asked_and_knows_what_is_next() {
    let rig = Rig::new();
    let tick = |limit| {
        let tick = rig.engine.tick(limit, rig.now()).unwrap();
        (tick.promoted, tick.next)
    };
    assert_eq!(tick(9), (0, Timestamp::MAX));
    for n in 0..150 {
        rig.push(Insert {
            run_at: rig.later(5),
            ..plain(id(n))
        });
    }
    rig.push(Insert {
        run_at: rig.later(20),
        deadline: rig.later(9),
        ..plain(id(150))
    });
    let (five, nine) = (rig.later(5), rig.later(9));
    assert_eq!(tick(9), (0, five));
    rig.advance(5);
    assert_eq!(tick(0), (0, five));
    assert_eq!(tick(70), (70, five));
    assert_eq!(tick(100), (80, nine));
    assert_eq!(rig.claim(200).len(), 150);
    rig.cancel(150);
    assert_eq!(tick(1), (0, Timestamp::MAX));
}

#[test]
fn only_a_new_next_time_wakes_the_upkeep() {
    let rig = Rig::new();
    let upkeep = &rig.engine.signals.upkeep;
    let rings = |act: &dyn Fn()| {
        let listener = upkeep.listen();
        act();
        listener.wait(crate::Deadline::after(Duration::ZERO))
    };
    let at = |n: u128, run_at| {
        move |rig: &Rig| {
            rig.push(Insert {
                run_at,
                ..plain(id(n))
            });
        }
    };
    let (ten, twenty, thirty) = (rig.later(10), rig.later(20), rig.later(30));
    assert!(rings(&|| at(1, twenty)(&rig)));
    assert!(!rings(&|| at(2, thirty)(&rig)));
    assert!(rings(&|| at(3, ten)(&rig)));
    assert!(!rings(&|| at(4, ten)(&rig)));
    assert!(!rings(&|| rig.push_ids([5])));
    assert!(rings(&|| drop(leased(&rig, Some(us(5)), None))));
    assert!(rings(&|| {
        rig.push(Insert {
            deadline: rig.later(2),
            ..plain(id(6))
        });
    }));
}

#[test]
fn the_earlier_of_timeout_and_lease_is_the_cause() {
    let at = Some;
    for (lease, timeout, due, cause) in [
        (at(us(5)), None, 5, Some(Cause::Lease)),
        (None, at(us(6)), 6, Some(Cause::Timeout)),
        (at(us(5)), at(us(6)), 5, Some(Cause::Lease)),
        (at(us(6)), at(us(5)), 5, Some(Cause::Timeout)),
        (at(us(5)), at(us(5)), 5, Some(Cause::Timeout)),
        (None, None, 0, None),
    ] {
        let rig = Rig::new();
        rig.push_ids([1]);
        let claimed = leased(&rig, lease, timeout);
        let Some(cause) = cause else {
            assert_eq!(claimed.due, Timestamp::MAX);
            continue;
        };
        assert_eq!(claimed.due, rig.later(due));
        rig.advance(due - 1);
        assert!(rig.overdue().is_empty());
        rig.advance(1);
        for _ in 0..2 {
            let overdue = rig.overdue();
            assert_eq!((overdue.len(), overdue[0].cause), (1, cause));
            assert_eq!(
                (overdue[0].at.job, overdue[0].at.state),
                (claimed.job, State::Running)
            );
        }
        rig.apply(says(claimed.job, true, State::Scheduled));
        assert!(rig.overdue().is_empty());
        assert_eq!(rig.get(1).lease_until, None);
    }
}

#[test]
fn a_jobs_own_timeout_wins_over_its_kinds() {
    let rig = Rig::new();
    rig.push(Insert {
        timeout: Some(us(3)),
        max_attempts: 9,
        ..plain(id(1))
    });
    let claimed = leased(&rig, None, Some(us(50)));
    assert_eq!((claimed.due, claimed.max_attempts), (rig.later(3), 9));
    rig.push_ids([2]);
    let claimed = leased(&rig, None, Some(us(50)));
    assert_eq!((claimed.due, claimed.max_attempts), (rig.later(50), 1));
    let job = rig.get(2);
    assert_eq!((job.timeout, job.max_attempts), (None, Some(1)));
}

#[test]
fn an_extended_lease_ends_later_and_a_timeout_does_not() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let claimed = leased(&rig, Some(us(5)), Some(us(30)));
    rig.advance(4);
    let extend = |lease| {
        let mut held = Vec::new();
        let refs = [claimed.job, JobRef::default()];
        rig.engine.extend(&refs, lease, rig.now(), &mut held).unwrap();
        held
    };
    assert_eq!(extend(us(5)), [Held::Yes, Held::Lost]);
    assert_eq!(rig.get(1).lease_until, Some(rig.later(5)));
    rig.advance(4);
    assert!(rig.overdue().is_empty());
    assert_eq!(extend(us(500)), [Held::Yes, Held::Lost]);
    rig.advance(30);
    assert_eq!(rig.overdue()[0].cause, Cause::Timeout);
    rig.finish(&claimed);
    assert_eq!(extend(us(5))[0], Held::Lost);
}

#[test]
fn every_waiting_state_can_be_late() {
    let rig = Rig::new();
    let deadline = rig.later(5);
    let base = |n| Insert {
        deadline,
        ..plain(id(n))
    };
    rig.push(base(1));
    rig.push(Insert {
        run_at: rig.later(3),
        ..base(2)
    });
    rig.push(Insert {
        waits: &["t".into()],
        ..base(3)
    });
    let running = rig.claim_one();
    rig.advance(5);
    let mut late: Vec<_> = rig
        .overdue()
        .iter()
        .map(|o| (o.at.job.id.as_u128(), o.cause))
        .collect();
    late.sort_unstable_by_key(|(n, _)| *n);
    assert_eq!(late, [(2, Cause::Deadline), (3, Cause::Deadline)]);
    assert_eq!(
        rig.state(running.job.id.as_u128()),
        Some(State::Running),
        "who runs is in time"
    );
    let mut one = Vec::new();
    rig.engine.expired(1, rig.now(), &mut one).unwrap();
    assert_eq!(one.len(), 1);
}

#[test]
fn the_largest_delays_do_not_overflow() {
    let rig = Rig::new();
    rig.push(Insert {
        run_at: Timestamp::MAX,
        ..plain(id(1))
    });
    rig.push(Insert {
        timeout: Some(Duration::MAX),
        ..plain(id(2))
    });
    let claimed = leased(&rig, Some(Duration::MAX), None);
    assert_eq!(claimed.due, Timestamp::MAX);
    let forever = Transition {
        delay: Duration::MAX,
        ..says(claimed.job, true, State::Scheduled)
    };
    rig.apply(forever);
    assert_eq!(rig.counts().scheduled, 2);
    assert_eq!(rig.cancel(1), Applied::Yes);
}

/// A timeout too long to end keeps its length when a lease that ends is added to it.
#[test]
fn an_endless_timeout_outlives_an_extended_lease() {
    let rig = Rig::new();
    let job = Insert {
        timeout: Some(Duration::MAX),
        ..plain(id(1))
    };
    assert_eq!(rig.push(job), Inserted::New);
    let claimed = rig.claim_one();
    let mut held = Vec::new();
    rig.engine
        .extend(&[claimed.job], us(10), rig.now(), &mut held)
        .unwrap();
    assert!(
        rig.get(1).timeout > Some(us(1_000_000_000)),
        "{:?}",
        rig.get(1).timeout
    );
    assert_eq!(rig.get(1).lease_until, Some(rig.later(10)));
    assert_eq!(rig.apply(says(claimed.job, true, State::Queued)), Applied::Yes);
    assert!(
        rig.get(1).timeout > Some(us(1_000_000_000)),
        "{:?}",
        rig.get(1).timeout
    );
}

/// A lease is moved to never and back: the job is still reported once.
#[test]
fn a_lease_that_never_ended_for_a_while_is_reported_once() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let claimed = rig.claim_one();
    for lease in [us(10), Duration::MAX, us(10), Duration::MAX, us(10)] {
        let mut held = Vec::new();
        rig.engine
            .extend(&[claimed.job], lease, rig.now(), &mut held)
            .unwrap();
    }
    rig.advance(10);
    assert_eq!(rig.overdue().len(), 1);
    assert_eq!(rig.apply(says(claimed.job, true, State::Succeeded)), Applied::Yes);
    assert!(rig.overdue().is_empty());
}
