//! Batches: whole or not at all.

use super::*;
use crate::engine::{Batch, BatchReceipt};
use crate::job::Token;

fn commit(
    rig: &Rig,
    inserts: &[Insert<'_>],
    transitions: &mut [Transition],
    signals: &[(JobId, Token)],
) -> BatchReceipt {
    let mut receipt = BatchReceipt::default();
    let mut batch = Batch {
        inserts,
        transitions,
        signals,
        durability: Durability::Memory,
    };
    rig.engine.commit(&mut batch, rig.now(), &mut receipt).unwrap();
    rig.counts();
    receipt
}

#[test]
fn a_batch_is_applied_whole() {
    let rig = Rig::new();
    let waits = ["go".into()];
    rig.push_ids([1]);
    rig.push(Insert {
        waits: &waits,
        ..plain(id(2))
    });
    let running = rig.claim_one();
    let receipt = commit(
        &rig,
        &[plain(id(3)), plain(id(2))],
        &mut [says(running.job, true, State::Succeeded)],
        &[(id(2), "go".into()), (id(2), "go".into()), (id(77), "go".into())],
    );
    assert!(receipt.applied);
    assert_eq!(receipt.inserted, [Inserted::New, Inserted::Duplicate]);
    assert_eq!(receipt.transitions, [Applied::Yes]);
    assert_eq!(rig.state(1), Some(State::Succeeded));
    assert_eq!(rig.claim_all(), [3, 2]);
}

#[test]
fn one_refusal_refuses_all() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let running = rig.claim_one();
    let good = || says(running.job, true, State::Succeeded);
    let stale = || Transition {
        job: JobRef {
            fence: 9,
            ..running.job
        },
        ..good()
    };
    let waits = ["go".into()];
    rig.push(Insert {
        waits: &waits,
        extras: Some(&keyed("a", 1)),
        ..plain(id(2))
    });
    let signal = [(id(2), "go".into())];
    let refused = |inserts: &[Insert<'_>], transitions: &mut [Transition]| {
        let receipt = commit(&rig, inserts, transitions, &signal);
        assert!(!receipt.applied);
        assert_eq!(
            (rig.state(1), rig.state(2), rig.state(3)),
            (Some(State::Running), Some(State::Blocked), None)
        );
        receipt
    };
    let receipt = refused(&[plain(id(3))], &mut [good(), stale()]);
    assert_eq!(receipt.transitions, [Applied::Yes, Applied::Stale]);
    let (other, full) = (
        Insert {
            extras: Some(&keyed("a", 2)),
            ..plain(id(3))
        },
        Insert {
            capacity: 2,
            ..plain(id(4))
        },
    );
    let receipt = refused(&[plain(id(3)), full], &mut [good()]);
    assert_eq!(receipt.inserted, [Inserted::New, Inserted::Full(2)]);
    let receipt = refused(&[other], &mut [good()]);
    assert_eq!(receipt.inserted, [Inserted::Conflict(id(2))]);
    let totals = rig.counts().totals;
    assert_eq!((totals.stale, totals.refused, totals.pushed), (1, 1, 2));
    assert!(commit(&rig, &[plain(id(3))], &mut [good()], &signal).applied);
}

#[test]
fn a_batch_may_push_into_the_room_that_it_makes() {
    let rig = Rig::new();
    rig.push(Insert {
        extras: Some(&keyed("a", 1)),
        ..plain(id(1))
    });
    let job = |n| Insert {
        capacity: 1,
        ..plain(id(n))
    };
    let shed = || says(rig.waiting(1), false, State::Cancelled);
    assert!(
        !commit(&rig, &[job(2), job(3)], &mut [shed()], &[]).applied,
        "room for one"
    );
    let mine = keyed("a", 2);
    let keyed = Insert {
        extras: Some(&mine),
        ..job(2)
    };
    let receipt = commit(&rig, &[keyed], &mut [shed()], &[]);
    assert!(receipt.applied, "the key is free too");
    assert_eq!(rig.engine.keys.len(), 1);
    assert_eq!(rig.claim_all(), [2]);
}

#[test]
fn keys_within_a_batch_count() {
    let rig = Rig::new();
    let (one, two) = (keyed("a", 1), keyed("a", 2));
    let job = |n, extras| Insert {
        extras: Some(extras),
        ..plain(id(n))
    };
    let receipt = commit(&rig, &[job(1, &one), job(2, &one), job(1, &two)], &mut [], &[]);
    assert!(receipt.applied);
    assert_eq!(
        receipt.inserted,
        [Inserted::New, Inserted::Keyed(id(1)), Inserted::Duplicate]
    );
    let receipt = commit(&rig, &[job(5, &two)], &mut [], &[]);
    assert_eq!(
        (receipt.applied, receipt.inserted[0]),
        (false, Inserted::Conflict(id(1)))
    );
}

#[test]
fn tokens_are_delivered_one_by_one() {
    let rig = Rig::new();
    let waits: [Token; 3] = ["a".into(), "b".into(), "a".into()];
    rig.push(Insert {
        waits: &waits,
        run_at: rig.later(5),
        ..plain(id(1))
    });
    let deliver = |token: &str| assert!(commit(&rig, &[], &mut [], &[(id(1), token.into())]).applied);
    deliver("other");
    deliver("a");
    assert_eq!(&*rig.get(1).waits, &["b".into()]);
    rig.advance(1);
    assert_eq!(rig.state(1), Some(State::Blocked));
    deliver("b");
    assert_eq!(rig.state(1), Some(State::Scheduled));
    rig.advance(4);
    assert_eq!(rig.claim_all(), [1]);
    deliver("b");
}

#[test]
fn a_blocked_job_of_the_same_batch_gets_its_token() {
    let rig = Rig::new();
    let waits: [Token; 1] = ["a".into()];
    let job = Insert {
        waits: &waits,
        ..plain(id(1))
    };
    assert!(commit(&rig, &[job], &mut [], &[(id(1), "a".into())]).applied);
    assert_eq!(rig.claim_all(), [1]);
}

#[test]
fn many_batches_and_turns_at_once_stay_whole() {
    let rig = Rig::new();
    let (engine, now) = (&rig.engine, rig.now());
    // Pairs of jobs that are pushed and cancelled together: at every instant both or none wait.
    std::thread::scope(|scope| {
        for thread in 0..3u128 {
            scope.spawn(move || {
                for n in 0..500u128 {
                    let ids = [thread << 32 | n << 8, thread << 32 | n << 8 | 64].map(id);
                    let mut receipt = BatchReceipt::default();
                    let mut batch = Batch {
                        inserts: &ids.map(plain),
                        ..Batch::default()
                    };
                    engine.commit(&mut batch, now, &mut receipt).unwrap();
                    assert!(receipt.applied);
                    let at = |id| engine.standing(id).unwrap().unwrap().job;
                    let mut gone = ids.map(|id| says(at(id), false, State::Cancelled));
                    let mut batch = Batch {
                        transitions: &mut gone,
                        ..Batch::default()
                    };
                    engine.commit(&mut batch, now, &mut receipt).unwrap();
                    assert!(receipt.applied);
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..500 {
                let counts = engine.counts().unwrap().swap_remove(0);
                assert!(counts.balanced() && counts.queued % 2 == 0, "{counts:?}");
            }
        });
    });
    assert_eq!(rig.claim_all(), [0; 0]);
}
