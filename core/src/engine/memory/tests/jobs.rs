//! One job's life: claims, answers, history, results, forgetting, looking.

use super::*;
use crate::engine::{Held, Restored, Retention};
use crate::job::{Attempt, Filter};

#[test]
fn a_success_keeps_the_result_and_drops_the_payload() {
    let rig = Rig::new();
    let payload = Payload::from("payload");
    rig.push(Insert {
        payload: Parcel::Shared(&payload),
        ..plain(id(1))
    });
    assert_eq!(rig.get(1).payload.len(), Some(7));
    rig.advance(5);
    let claimed = rig.claim_one();
    assert_eq!(
        (claimed.attempt, claimed.job.fence, claimed.max_attempts),
        (1, 1, 3)
    );
    assert_eq!((claimed.payload.len(), claimed.due), (Some(7), Timestamp::MAX));
    rig.advance(5);
    rig.finish(&claimed);
    let job = rig.get(1);
    assert!(job.payload.is_empty());
    assert_eq!(job.result.as_ref().unwrap().len(), Some(6));
    assert_eq!(
        (job.state, job.finished, job.error),
        (State::Succeeded, Some(rig.now()), None)
    );
    let entry = &job.history[0];
    assert_eq!((entry.number, &*entry.node, entry.worker), (1, "here", 7));
    assert_eq!((entry.started, entry.ended), (claimed.started, rig.now()));
    assert_eq!((job.history.len(), &entry.failure), (1, &None));
}

#[test]
fn a_success_without_a_result_has_none() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let done = Transition {
        result: None,
        ..says(rig.claim_one().job, true, State::Succeeded)
    };
    assert_eq!(rig.apply(done), Applied::Yes);
    assert!(rig.get(1).result.is_none());
}

#[test]
fn failures_make_a_history() {
    let rig = Rig::new();
    rig.push_ids([1]);
    for n in 1..=20 {
        let claimed = rig.claim_one();
        assert_eq!((claimed.attempt, claimed.job.fence), (n, u64::from(n)));
        assert_eq!(rig.apply(says(claimed.job, true, State::Scheduled)), Applied::Yes);
        let job = rig.get(1);
        assert_eq!((job.state, job.error.is_some()), (State::Queued, true));
    }
    let claimed = rig.claim_one();
    rig.finish(&claimed);
    let job = rig.get(1);
    assert_eq!(job.history.len(), Job::HISTORY);
    let numbers: Vec<u32> = job.history.iter().map(|a| a.number).collect();
    assert_eq!(numbers, (6..=21).collect::<Vec<_>>());
    assert!(job.history.iter().all(|a| a.failure.is_some() == (a.number < 21)));
    assert_eq!(job.error, None, "it ended well");
    assert_eq!(rig.counts().totals.retried, 20);
}

#[test]
fn an_attempt_given_back_does_not_count() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let snooze = |job| Transition {
        refund: true,
        failure: None,
        ..says(job, true, State::Scheduled)
    };
    for fence in 1..=3 {
        let claimed = rig.claim_one();
        assert_eq!((claimed.attempt, claimed.job.fence), (1, fence));
        rig.apply(snooze(claimed.job));
    }
    assert!(rig.get(1).history.is_empty(), "nothing failed");
    let interrupted = Transition {
        refund: true,
        ..says(rig.claim_one().job, true, State::Scheduled)
    };
    rig.apply(interrupted);
    let job = rig.get(1);
    assert_eq!((job.attempt, job.history.len(), job.fence), (0, 1, 4));
    let totals = rig.counts().totals;
    assert_eq!((totals.returned, totals.retried, totals.claimed), (4, 0, 4));
}

#[test]
fn late_answers_change_nothing() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let first = rig.claim_one();
    rig.apply(says(first.job, true, State::Scheduled));
    let second = rig.claim_one();
    assert_eq!(rig.apply(says(first.job, true, State::Succeeded)), Applied::Stale);
    assert_eq!(
        rig.apply(says(second.job, false, State::Cancelled)),
        Applied::Stale,
        "it runs"
    );
    for to in [State::Running, State::Blocked] {
        assert_eq!(
            rig.apply(says(second.job, true, to)),
            Applied::Stale,
            "no such edge"
        );
    }
    rig.finish(&second);
    assert_eq!(rig.apply(says(second.job, true, State::Failed)), Applied::Stale);
    assert_eq!(
        rig.apply(says(second.job, false, State::Cancelled)),
        Applied::Stale
    );
    assert_eq!(rig.counts().totals.stale, 6);
    assert_eq!(
        rig.apply(says(JobRef::default(), true, State::Failed)),
        Applied::Stale
    );
    assert_eq!(rig.counts().totals.stale, 6, "of an unknown job nobody counts");
}

#[test]
fn a_handle_dies_with_its_job() {
    let rig = Rig::keeping(0);
    rig.push_ids([1]);
    let old = rig.claim_one();
    rig.finish(&old);
    assert_eq!(rig.state(1), None, "nothing is kept");
    rig.push_ids([1]);
    let new = rig.claim_one();
    assert_eq!(new.job.fence, old.job.fence, "the id is used again");
    assert_eq!(rig.apply(says(old.job, true, State::Succeeded)), Applied::Stale);
    rig.finish(&new);
}

#[test]
fn a_request_to_cancel_stops_every_other_answer() {
    let rig = Rig::new();
    rig.push_ids([1]);
    assert!(
        !rig.engine.request_cancel(rig.waiting(1)).unwrap(),
        "it does not run"
    );
    let claimed = rig.claim_one();
    assert!(rig.engine.request_cancel(claimed.job).unwrap());
    let mut held = Vec::new();
    rig.engine
        .extend(&[claimed.job], us(9), rig.now(), &mut held)
        .unwrap();
    assert_eq!(held, [Held::CancelRequested]);
    for to in [State::Succeeded, State::Failed, State::Scheduled] {
        assert_eq!(rig.apply(says(claimed.job, true, to)), Applied::CancelRequested);
    }
    assert!(rig.get(1).cancel_requested);
    assert_eq!(rig.apply(says(claimed.job, true, State::Cancelled)), Applied::Yes);
    let job = rig.get(1);
    assert_eq!(
        (job.state, job.cancel_requested, job.history.len()),
        (State::Cancelled, false, 1)
    );
    assert_eq!(rig.counts().totals.stale, 0);
}

#[test]
fn a_job_that_ends_waiting_says_why() {
    let rig = Rig::new();
    rig.push_ids([1]);
    rig.apply(says(rig.claim_one().job, true, State::Scheduled));
    let why = Failure::new(FailureKind::Expired, "late");
    let expired = Transition {
        failure: Some(why.clone()),
        ..says(rig.waiting(1), false, State::Expired)
    };
    assert_eq!(rig.apply(expired), Applied::Yes);
    let job = rig.get(1);
    assert_eq!((job.error, job.history.len()), (Some(why), 1));
    assert_eq!(rig.claim_all(), [0; 0]);
}

#[test]
fn the_oldest_finished_jobs_are_forgotten() {
    for keep in [0, 1, 10, 100] {
        let rig = Rig::keeping(keep);
        rig.push_ids(0..300);
        for (i, claimed) in rig.claim(usize::MAX).iter().enumerate() {
            let to = [State::Succeeded, State::Failed, State::Cancelled][i % 3];
            assert_eq!(rig.apply(says(claimed.job, true, to)), Applied::Yes);
            assert!(rig.counts().kept <= keep as u64);
        }
        let known = (0..300).filter(|n| rig.state(*n).is_some()).collect::<Vec<_>>();
        let slack = keep / 16;
        assert!(
            known.len() >= keep - slack && known.len() <= keep,
            "{keep}: {}",
            known.len()
        );
        assert_eq!(known, (300 - known.len() as u128..300).collect::<Vec<_>>());
    }
}

#[test]
fn prune_goes_by_age_and_by_number() {
    let rig = Rig::new();
    rig.push_ids(0..100);
    for (i, claimed) in rig.claim(usize::MAX).iter().enumerate() {
        let to = [State::Succeeded, State::Failed][i % 2];
        rig.apply(says(claimed.job, true, to));
        rig.advance(1);
    }
    let start = rig.now().as_micros() - 100;
    let keep = |succeeded, others, most| Retention {
        succeeded_before: Timestamp::from_micros(start + succeeded),
        others_before: Timestamp::from_micros(start + others),
        most,
    };
    let prune = |keep, limit| rig.engine.prune(keep, limit, rig.now()).unwrap();
    assert_eq!(prune(keep(0, 0, 100), 1000), 0);
    assert_eq!(prune(keep(50, 0, 100), 10), 10);
    assert_eq!(prune(keep(50, 0, 100), 1000), 15);
    assert_eq!(prune(keep(50, 11, 100), 1000), 5);
    assert_eq!(
        (rig.state(9), rig.state(11), rig.state(48)),
        (None, Some(State::Failed), None)
    );
    assert_eq!(prune(keep(0, 0, 40), 7), 7);
    assert_eq!(prune(keep(0, 0, 40), 1000), 23);
    assert_eq!(rig.counts().kept, 40);
    assert!(rig.state(99).is_some());
    assert_eq!(rig.counts().totals.succeeded, 50, "totals stay");
}

#[test]
fn a_restored_job_goes_on_where_it_was() {
    let rig = Rig::new();
    let attempt = Attempt {
        number: 2,
        node: "there".into(),
        worker: 1,
        started: Timestamp::EPOCH,
        ended: Timestamp::EPOCH,
        failure: Some(Failure::new(FailureKind::Error, "old")),
    };
    let restored = Restored {
        attempt: 2,
        fence: 9,
        created: Timestamp::EPOCH,
        crashes: 0,
        history: vec![attempt; 20],
    };
    rig.push_ids([5]);
    let full = Insert {
        capacity: 1,
        restored: Some(&restored),
        ..plain(id(1))
    };
    assert_eq!(rig.push(full), Inserted::New, "restored jobs are never refused");
    let job = rig.get(1);
    assert_eq!((job.fence, job.attempt, job.created), (9, 2, Timestamp::EPOCH));
    assert_eq!((job.history.len(), job.error.is_some()), (Job::HISTORY, true));
    let claimed = rig.claim(2).remove(1);
    assert_eq!((claimed.attempt, claimed.job.fence), (3, 10));
    let totals = rig.counts().totals;
    assert_eq!((totals.pushed, totals.restored), (1, 1));
}

#[test]
fn the_same_id_is_the_same_job() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let again = || rig.push(plain(id(1)));
    assert_eq!(again(), Inserted::Duplicate);
    let claimed = rig.claim_one();
    assert_eq!(again(), Inserted::Duplicate);
    rig.finish(&claimed);
    assert_eq!(again(), Inserted::Duplicate);
    assert_eq!(rig.counts().totals.pushed, 1);
    let mut receipt = Vec::new();
    rig.engine
        .insert(
            &[plain(id(2)), plain(id(2)), plain(id(3))],
            rig.now(),
            &mut receipt,
        )
        .unwrap();
    assert_eq!(receipt, [Inserted::New, Inserted::Duplicate, Inserted::New]);
    assert_eq!(rig.claim_all(), [2, 3]);
}

#[test]
fn listings_are_paged_and_filtered() {
    let rig = Rig::new();
    for n in 0..200u128 {
        rig.push(Insert {
            kind: KindId(n as u16 % 2),
            ..plain(id(n))
        });
        rig.advance(1);
    }
    rig.claim(10);
    let start = Timestamp::from_micros(rig.now().as_micros() - 200);
    let page = |filter: Filter| {
        let page = rig.engine.list(&filter).unwrap();
        (
            page.total,
            page.jobs.iter().map(|j| j.id.as_u128()).collect::<Vec<_>>(),
        )
    };
    let all = Filter::default;
    assert_eq!(page(all()), (200, (180..200).rev().collect()));
    let next = Filter {
        after: Some(id(180)),
        limit: Some(2),
        ..all()
    };
    assert_eq!(page(next), (200, vec![179, 178]));
    let running = Filter {
        states: vec![State::Running, State::Failed],
        kind: Some("k1".into()),
        ..all()
    };
    assert_eq!(page(running), (5, vec![9, 7, 5, 3, 1]));
    let old = Filter {
        created_from: Some(start.after(us(3))),
        created_before: Some(start.after(us(5))),
        queue: Some("q".into()),
        ..all()
    };
    assert_eq!(page(old), (2, vec![4, 3]));
    for unknown in [
        Filter {
            queue: Some("nobody".into()),
            ..all()
        },
        Filter {
            key: Some("nobody".into()),
            ..all()
        },
    ] {
        assert_eq!(page(unknown), (0, vec![]));
    }
    let bad = Filter {
        limit: Some(0),
        ..all()
    };
    assert!(rig.engine.list(&bad).is_err());
}

#[test]
fn an_export_has_every_unfinished_job_in_the_order_of_their_starts() {
    let rig = Rig::new();
    rig.push_ids((0..300).rev());
    let claimed = rig.claim(10);
    rig.finish(&claimed[0]);
    let mut seen = Vec::new();
    rig.engine
        .export(&mut |job| {
            seen.push(job.id.as_u128());
            Ok(())
        })
        .unwrap();
    let (queued, running) = ((0..290).rev(), (290..299).rev());
    assert_eq!(seen, queued.chain(running).collect::<Vec<_>>());
    let stop = rig.engine.export(&mut |_| Err(crate::Error::invalid("enough")));
    assert!(stop.is_err());
}

/// Dropping an object of the host may call the engine, or wait for somebody who does.
#[test]
fn a_payload_of_the_host_is_dropped_without_a_lock() {
    struct Caller(std::sync::Weak<MemoryEngine>);
    impl crate::HostObject for Caller {
        fn encode(&self) -> crate::Result<crate::Encoded> {
            Err(crate::Error::invalid("no bytes"))
        }
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }
    impl Drop for Caller {
        fn drop(&mut self) {
            let engine = self.0.upgrade().expect("the test holds it");
            let (now, mut receipt) = (Timestamp::EPOCH, Vec::new());
            engine.counts().unwrap();
            engine.insert(&[plain(id(2))], now, &mut receipt).unwrap();
            assert_eq!(receipt, [Inserted::New]);
        }
    }
    for keep in [0, 10] {
        let engine = Arc::new(MemoryEngine::new(keep));
        engine.names.queue("q").unwrap();
        engine.names.kind("k").unwrap();
        let mut receipt = Vec::new();
        let payload = Payload::host(Caller(Arc::downgrade(&engine)));
        let job = Insert {
            payload: Parcel::Shared(&payload),
            ..plain(id(1))
        };
        engine.insert(&[job], Timestamp::EPOCH, &mut receipt).unwrap();
        drop(payload);
        let at = engine.standing(id(1)).unwrap().unwrap().job;
        let mut cancel = [says(at, false, State::Cancelled)];
        engine
            .turn(&mut cancel, &mut Vec::new(), None, Timestamp::EPOCH)
            .unwrap();
        let all = Retention {
            succeeded_before: Timestamp::MAX,
            others_before: Timestamp::MAX,
            most: 0,
        };
        engine.prune(all, 10, Timestamp::EPOCH).unwrap();
        assert!(engine.get(id(2)).unwrap().is_some());
    }
}

/// While it is being looked for, a job that is here already takes room, and others may hear that there is none.
#[test]
fn a_duplicate_that_took_room_for_a_moment_rings() {
    let rig = Rig::new();
    rig.push_ids([1]);
    let space = &rig.engine.signals.space;
    let listener = space.listen();
    let again = Insert {
        capacity: 2,
        ..plain(id(1))
    };
    assert_eq!(rig.push(again), Inserted::Duplicate);
    assert!(
        listener.wait(crate::Deadline::after(Duration::ZERO)),
        "it left again"
    );
}
