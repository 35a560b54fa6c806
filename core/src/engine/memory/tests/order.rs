//! Who is claimed next, room, and the litter of lanes.

use super::*;
use crate::engine::memory::lane::Lane;

#[test]
fn jobs_come_in_the_order_they_were_pushed() {
    let rig = Rig::new();
    // More than a chunk of every kind.
    let ids: Vec<u128> = (0..1500).map(|n| (n * 7919) % 4096).collect();
    rig.push_ids(ids.iter().copied());
    let mut all = Vec::new();
    while all.len() < ids.len() {
        all.extend(numbers(&rig.claim(7)));
    }
    assert_eq!(all, ids);
}

#[test]
fn a_batch_keeps_its_order_across_lanes() {
    let rig = Rig::new();
    let jobs: Vec<_> = (0..300u128)
        .map(|n| Insert {
            priority: (n % 3) as i8 - 1,
            ..plain(id(n * 11))
        })
        .collect();
    let mut receipt = Vec::new();
    rig.engine.insert(&jobs, rig.now(), &mut receipt).unwrap();
    let mut want: Vec<_> = jobs.iter().map(|j| (-j.priority, j.id.as_u128())).collect();
    want.sort_unstable();
    assert_eq!(
        rig.claim_all(),
        want.into_iter().map(|(_, n)| n).collect::<Vec<_>>()
    );
}

#[test]
fn high_priorities_go_first() {
    let rig = Rig::new();
    for (n, priority) in [(1, 0), (2, -128), (3, 127), (4, 5), (5, 127), (6, 0)] {
        rig.push(Insert {
            priority,
            ..plain(id(n))
        });
    }
    assert_eq!(rig.claim_kinds(&[9], 4), [3, 5, 4, 1]);
    rig.push(Insert {
        priority: 1,
        ..plain(id(7))
    });
    assert_eq!(rig.claim_all(), [7, 6, 2]);
}

#[test]
fn a_claim_takes_only_what_it_asked_for() {
    let rig = Rig::new();
    for n in 0..30 {
        rig.push(Insert {
            kind: KindId(n as u16 % 3),
            ..plain(id(n))
        });
    }
    assert_eq!(rig.claim_kinds(&[0, 2], 9), [1, 4]);
    assert_eq!(rig.claim_kinds(&[1, 0, 3], 3), [0, 2, 5]);
    assert_eq!(rig.claim_kinds(&[], 9), [0; 0]);
    assert_eq!(rig.claim_kinds(&[9, 9, 9], 0), [0; 0]);
    rig.push(plain(id(100)));
    assert_eq!(
        rig.claim_kinds(&[1, 1, 1], 9),
        [3, 7, 8],
        "those set aside come in turn"
    );
    assert_eq!(
        rig.claim_kinds(&[0, 9, 0], 9),
        (10..30).step_by(3).collect::<Vec<_>>()
    );
    let mut rest: Vec<u128> = (6..30).filter(|n| n % 3 == 0 || (n % 3 == 2 && *n > 8)).collect();
    rest.push(100);
    assert_eq!(rig.claim_all(), rest);
}

#[test]
fn setting_aside_calls_the_others_and_ends() {
    let rig = Rig::new();
    rig.push(Insert {
        kind: KindId(1),
        ..plain(id(1))
    });
    let heard = || {
        let listener = rig.engine.signals.work.listen();
        assert_eq!(rig.claim_kinds(&[9], 9), [0; 0]);
        listener.wait(crate::Deadline::after(Duration::ZERO))
    };
    assert!(heard());
    assert!(!heard(), "a claimer that set nothing aside calls nobody");
    assert_eq!(rig.claim_kinds(&[0, 1], 9), [1]);
}

#[test]
fn a_job_cancelled_while_aside_is_gone() {
    let rig = Rig::new();
    for n in 0..3 {
        rig.push(Insert {
            kind: KindId(1),
            ..plain(id(n))
        });
    }
    assert_eq!(rig.claim_kinds(&[9], 9), [0; 0]);
    rig.cancel(1);
    let lane = rig.engine.shared.queues.get(Q).lanes.lane(0);
    assert!(lane.has_aside());
    assert_eq!(rig.claim_all(), [0, 2]);
    assert!(!lane.has_aside());
    assert!(!lane.littered());
}

#[test]
fn a_retried_job_goes_to_the_end_of_its_lane() {
    let rig = Rig::new();
    rig.push_ids([1, 2]);
    let first = rig.claim_one();
    rig.apply(says(first.job, true, State::Scheduled));
    assert_eq!(rig.claim_all(), [2, 1]);
}

#[test]
fn a_waiting_job_can_be_moved_and_is_claimed_once() {
    let rig = Rig::new();
    rig.push_ids([1, 2]);
    for _ in 0..3 {
        assert_eq!(
            rig.apply(says(rig.waiting(1), false, State::Scheduled)),
            Applied::Yes
        );
    }
    let later = Transition {
        delay: us(5),
        ..says(rig.waiting(2), false, State::Scheduled)
    };
    rig.apply(later);
    assert_eq!(rig.claim_all(), [1], "its old tickets are worth nothing");
    rig.advance(5);
    assert_eq!(rig.claim_all(), [2]);
    let totals = rig.counts().totals;
    assert_eq!((totals.retried, totals.returned), (0, 0));
}

#[test]
fn a_paused_queue_gives_nothing_out() {
    let rig = Rig::new();
    rig.engine.set_paused(Q, true).unwrap();
    rig.push_ids([1]);
    assert_eq!(rig.claim_all(), [0; 0]);
    assert!(rig.counts().paused);
    let listener = rig.engine.signals.work.listen();
    rig.engine.set_paused(Q, false).unwrap();
    assert!(listener.wait(crate::Deadline::after(Duration::ZERO)));
    assert_eq!(rig.claim_all(), [1]);
}

#[test]
fn queues_are_apart() {
    let rig = Rig::new();
    rig.push(Insert {
        queue: QueueId(1),
        ..plain(id(1))
    });
    assert_eq!(rig.claim_all(), [0; 0]);
    let counts = rig.engine.counts().unwrap();
    assert_eq!((counts[0].queued, counts[1].queued), (0, 1));
}

#[test]
fn capacity_counts_those_who_wait() {
    let rig = Rig::new();
    let push = |n| {
        rig.push(Insert {
            capacity: 3,
            ..plain(id(n))
        })
    };
    let delayed = Insert {
        run_at: rig.later(9),
        capacity: 3,
        ..plain(id(1))
    };
    let blocked = Insert {
        waits: &["t".into()],
        capacity: 3,
        ..plain(id(2))
    };
    assert_eq!(
        (rig.push(delayed), rig.push(blocked)),
        (Inserted::New, Inserted::New)
    );
    assert_eq!((push(3), push(4)), (Inserted::New, Inserted::Full(3)));
    assert_eq!(push(3), Inserted::Duplicate, "who is here already is not refused");
    let space = rig.engine.signals.space.listen();
    let running = rig.claim_one();
    assert!(space.wait(crate::Deadline::after(Duration::ZERO)));
    assert_eq!((push(4), push(5)), (Inserted::New, Inserted::Full(3)));
    rig.apply(says(running.job, true, State::Scheduled));
    assert_eq!(rig.counts().waiting(), 4, "who comes back is not refused");
    let space = rig.engine.signals.space.listen();
    rig.cancel(2);
    assert!(space.wait(crate::Deadline::after(Duration::ZERO)));
    assert_eq!(push(5), Inserted::Full(3));
    rig.cancel(1);
    assert_eq!(push(5), Inserted::New);
    assert_eq!(rig.counts().totals.refused, 3);
}

#[test]
fn a_late_job_is_left_to_the_upkeep() {
    let rig = Rig::new();
    rig.push(Insert {
        deadline: rig.later(5),
        ..plain(id(1))
    });
    rig.push_ids([2]);
    rig.advance(5);
    assert_eq!(rig.claim_all(), [2]);
    assert_eq!((rig.state(1), rig.overdue().len()), (Some(State::Queued), 1));
    assert_eq!(rig.cancel(1), Applied::Yes);
    let lane = rig.engine.shared.queues.get(Q).lanes.lane(0);
    assert_eq!(lane.len(), 0);
}

/// Lanes count their places each for itself, so another lane's job may have the place and the slot of one
/// that is gone.
#[test]
fn a_stale_ticket_leads_to_no_job_of_another_lane() {
    let rig = Rig::keeping(0);
    rig.push(Insert {
        queue: QueueId(1),
        ..plain(id(1))
    });
    rig.cancel(1);
    rig.push_ids([2]);
    let claim = |queue, allowance| {
        let (mut kinds, mut out) = ([KindClaim::default()], Vec::new());
        kinds[0].allowance = allowance;
        let mut claim = Claim {
            queue,
            kinds: &mut kinds,
            limit: 9,
            lease: None,
            node: &rig.node,
            worker: 1,
            keys: crate::engine::KeyLimits::default(),
            relays: false,
            out: &mut out,
        };
        let now = rig.now();
        rig.engine
            .turn(&mut [], &mut Vec::new(), Some(&mut claim), now)
            .unwrap();
        numbers(&out)
    };
    assert_eq!(claim(QueueId(1), 9), [0; 0]);
    assert_eq!(claim(Q, 9), [2]);
    rig.push(Insert {
        priority: 5,
        ..plain(id(3))
    });
    rig.cancel(3);
    rig.push(Insert {
        priority: -5,
        ..plain(id(4))
    });
    rig.push_ids([5]);
    assert_eq!(rig.claim_all(), [5, 4], "nor is it claimed before its turn");
}

/// A queue that is paused and whose jobs are all cancelled must not fill the memory.
#[test]
fn litter_is_bounded() {
    let rig = Rig::keeping(100);
    rig.engine.set_paused(Q, true).unwrap();
    let lane = rig.engine.shared.queues.get(Q).lanes.lane(0);
    rig.push_ids([1_000_001]);
    let rounds = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    for n in 0..rounds {
        rig.push_ids([n]);
        rig.cancel(n);
        assert!(lane.len() <= 2 * Lane::LITTER, "{} tickets", lane.len());
    }
    rig.push_ids([1_000_002]);
    rig.engine.set_paused(Q, false).unwrap();
    assert_eq!(rig.claim_all(), [1_000_001, 1_000_002]);
    assert_eq!(
        (lane.len(), lane.stale()),
        (0, 0),
        "and what a claim pops is no longer counted"
    );
}

#[test]
fn tidying_keeps_the_order() {
    let rig = Rig::new();
    let all = 10 * Lane::LITTER as u128;
    rig.push_ids(0..all);
    for n in (0..all).filter(|n| n % 3 > 0) {
        rig.cancel(n);
    }
    let lane = rig.engine.shared.queues.get(Q).lanes.lane(0);
    assert!(lane.has_aside(), "it was tidied");
    rig.push_ids([all]);
    assert_eq!(
        rig.claim_all(),
        (0..all).step_by(3).chain([all]).collect::<Vec<_>>()
    );
}

#[test]
fn bells_ring_once_per_ready_job() {
    let rig = Rig::new();
    let work = &rig.engine.signals.work;
    let listeners: Vec<_> = (0..5).map(|_| work.listen()).collect();
    let mut receipt = Vec::new();
    let jobs = [1, 2, 3].map(|n| plain(id(n)));
    rig.engine.insert(&jobs, rig.now(), &mut receipt).unwrap();
    assert_eq!(work.waiting(), 2);
    rig.push(Insert {
        run_at: rig.later(5),
        ..plain(id(4))
    });
    assert_eq!(work.waiting(), 2, "nobody can claim it yet");
    rig.advance(5);
    rig.engine.tick(9, rig.now()).unwrap();
    assert_eq!(work.waiting(), 1);
    drop(listeners);
}

#[test]
fn whoever_waits_for_a_job_is_told_of_its_end() {
    let rig = Rig::new();
    rig.push_ids(0..5);
    let claimed = rig.claim(4);
    let answers = || {
        claimed
            .iter()
            .map(|c| says(c.job, true, State::Succeeded))
            .collect()
    };
    let wait = rig.engine.signals.finished.listen(id(2));
    let mut looks = 0;
    let seen = wait.until(crate::Deadline::after(Duration::from_secs(60)), || {
        looks += 1;
        if looks == 1 {
            // The listener is registered now; all end in one turn.
            rig.turn(answers(), None);
            return None;
        }
        rig.state(2)
    });
    assert_eq!((seen, looks), (Some(State::Succeeded), 2));
}

#[test]
fn a_push_of_many_stops_at_the_first_refusal() {
    let rig = Rig::new();
    rig.push(Insert {
        extras: Some(&keyed("a", 1)),
        ..plain(id(0))
    });
    let mine = keyed("a", 2);
    let conflict = Insert {
        extras: Some(&mine),
        ..plain(id(1))
    };
    let push = |jobs: &[Insert<'_>]| {
        let mut receipt = vec![Inserted::Duplicate];
        rig.engine.insert(jobs, rig.now(), &mut receipt).unwrap();
        receipt.split_off(1)
    };
    let jobs = [plain(id(2)), plain(id(0)), conflict, plain(id(3))];
    let want = [Inserted::New, Inserted::Duplicate, Inserted::Conflict(id(0))];
    assert_eq!(push(&jobs), want);
    let bounded = [4, 5, 6].map(|n| Insert {
        capacity: 3,
        ..plain(id(n))
    });
    assert_eq!(push(&bounded), [Inserted::New, Inserted::Full(3)]);
    assert_eq!(rig.claim_all(), [0, 2, 4]);
    assert_eq!(rig.counts().totals.refused, 1);
}

/// A dump that is written while jobs are passed on has them where they stood, as if nobody had them.
#[test]
fn what_is_passed_on_rests_where_it_stood() {
    let rig = Rig::new();
    rig.push_ids(1..=4);
    let seen = |rig: &Rig| {
        let mut seen = Vec::new();
        let each = &mut |job: Job| {
            seen.push((job.id.as_u128(), job.state, job.attempt));
            Ok(())
        };
        rig.engine.export(each).unwrap();
        seen
    };
    let before = seen(&rig);
    let relayed = rig.relay(2);
    assert_eq!(numbers(&relayed), [1, 2]);
    assert_eq!(rig.state(1), Some(State::Running), "whoever asks hears the truth");
    assert_eq!(seen(&rig), before);
    assert!(rig.engine.request_cancel(relayed[0].job).unwrap());
    let asked = seen(&rig);
    assert!(
        asked.contains(&(1, State::Running, 1)),
        "somebody has to answer that: {asked:?}"
    );
    rig.finish(&relayed[1]);
    assert_eq!(numbers(&rig.claim(1)), [3]);
    assert_eq!(seen(&rig)[1..], [(1, State::Running, 1), (3, State::Running, 1)]);
}
