//! Idempotency keys.

use super::*;

fn push_key(rig: &Rig, n: u128, key: &str, print: u64) -> Inserted {
    rig.push(Insert {
        extras: Some(&keyed(key, print)),
        ..plain(id(n))
    })
}

#[test]
fn a_key_belongs_to_the_first() {
    let rig = Rig::new();
    assert_eq!(push_key(&rig, 1, "a", 7), Inserted::New);
    assert_eq!(push_key(&rig, 2, "a", 7), Inserted::Keyed(id(1)));
    assert_eq!(push_key(&rig, 2, "a", 8), Inserted::Conflict(id(1)));
    assert_eq!(
        push_key(&rig, 1, "a", 8),
        Inserted::Duplicate,
        "the id is looked at first"
    );
    let other_kind = Insert {
        kind: KindId(1),
        extras: Some(&keyed("a", 7)),
        ..plain(id(2))
    };
    assert_eq!(rig.push(other_kind), Inserted::Conflict(id(1)));
    let full = Insert {
        capacity: 1,
        extras: Some(&keyed("a", 7)),
        ..plain(id(2))
    };
    assert_eq!(rig.push(full), Inserted::Keyed(id(1)), "room is looked at last");
    rig.finish(&rig.claim_one());
    assert_eq!(
        push_key(&rig, 2, "a", 7),
        Inserted::Keyed(id(1)),
        "until it is forgotten"
    );
    assert_eq!(rig.counts().totals.pushed, 1);
}

#[test]
fn a_refused_job_does_not_get_the_key() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let extras = keyed("a", 7);
    let job = |n, capacity| Insert {
        capacity,
        extras: Some(&extras),
        ..plain(id(n))
    };
    assert_eq!(rig.push(job(2, 1)), Inserted::Full(1));
    assert_eq!(rig.push(job(3, 2)), Inserted::New);
}

#[test]
fn a_key_is_free_when_its_job_is_cancelled_or_forgotten() {
    let rig = Rig::keeping(1);
    push_key(&rig, 1, "a", 1);
    rig.cancel(1);
    assert_eq!(rig.engine.keys.len(), 0);
    assert_eq!(push_key(&rig, 2, "a", 2), Inserted::New);
    rig.finish(&rig.claim_one());
    assert_eq!(
        rig.state(1),
        None,
        "forgotten, and the key stays with its new holder"
    );
    assert_eq!(push_key(&rig, 3, "a", 2), Inserted::Keyed(id(2)));
    rig.push_ids([4]);
    rig.finish(&rig.claim_one());
    assert_eq!((rig.state(2), rig.engine.keys.len()), (None, 0));
    assert_eq!(push_key(&rig, 3, "a", 5), Inserted::New);
}

#[test]
fn a_cancelled_running_job_frees_its_key() {
    let rig = Rig::new();
    push_key(&rig, 1, "a", 1);
    let claimed = rig.claim_one();
    rig.apply(says(claimed.job, true, State::Cancelled));
    assert_eq!(push_key(&rig, 2, "a", 1), Inserted::New);
}

/// Between the end of a job and the freeing of its key, the same job may have been pushed again.
#[test]
fn a_key_is_not_freed_under_a_job_that_is_back() {
    let rig = Rig::new();
    push_key(&rig, 1, "a", 1);
    let mut after = crate::engine::memory::after::After::default();
    after.free(keyed("a", 1), id(1));
    rig.engine.free_keys(&after);
    assert_eq!(push_key(&rig, 2, "a", 1), Inserted::Keyed(id(1)));
}

#[test]
fn of_many_who_push_a_key_one_succeeds() {
    let rig = Rig::new();
    let (engine, now) = (&rig.engine, rig.now());
    for round in 0..50u128 {
        let key = round.to_string();
        let new: usize = std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..20u128)
                .map(|n| {
                    let key = &key;
                    scope.spawn(move || {
                        let (extras, mut receipt) = (keyed(key, 1), Vec::new());
                        let job = Insert {
                            extras: Some(&extras),
                            ..plain(id(round * 1000 + n * 64))
                        };
                        engine.insert(&[job], now, &mut receipt).unwrap();
                        usize::from(receipt[0] == Inserted::New)
                    })
                })
                .collect();
            pushers.into_iter().map(|p| p.join().unwrap()).sum()
        });
        assert_eq!(new, 1);
    }
}

/// Keys move from job to job while jobs are cancelled and forgotten: never two holders that live.
#[test]
fn keys_move_between_jobs_under_load() {
    let rig = Rig::keeping(2);
    let (engine, now) = (&rig.engine, rig.now());
    std::thread::scope(|scope| {
        for thread in 0..4u128 {
            scope.spawn(move || {
                for n in 0..2_000u128 {
                    let extras = keyed(if n % 2 == 0 { "a" } else { "b" }, 1);
                    let mut receipt = Vec::new();
                    let job = Insert {
                        extras: Some(&extras),
                        // Ids are used again once they are forgotten.
                        ..plain(id(thread << 64 | (n % 5) << 6))
                    };
                    engine.insert(&[job], now, &mut receipt).unwrap();
                    if receipt[0] == Inserted::New {
                        let at = engine.standing(id(thread << 64 | (n % 5) << 6)).unwrap().unwrap();
                        let mut done = [says(at.job, false, State::Cancelled)];
                        let mut applied = Vec::new();
                        engine.turn(&mut done, &mut applied, None, now).unwrap();
                        assert_eq!(applied, [Applied::Yes]);
                    }
                }
            });
        }
    });
    assert_eq!(rig.engine.keys.len(), 0);
    assert_eq!(rig.counts().waiting(), 0);
}
