//! What an engine says when it stores, moves and gives back jobs.

use std::sync::Arc;
use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Spec, again, at_once, to, waiting};
use crate::bell::Bell;
use crate::engine::{Applied, Cause, Engine, Inserted, Restored};
use crate::job::{Attempt, Extras, Job, State};
use crate::names::QueueId;
use crate::outcome::{Failure, FailureKind, Transition};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;
use crate::{JSON, JobId};

/// A stored job is there at once, queued, and its receipt says that it is new.
pub fn insert_stores(make: Make<'_>) {
    let raw = Raw::new(make);
    let specs = raw.specs(3);
    assert_eq!(raw.put(&specs), [Inserted::New; 3]);
    for spec in &specs {
        let job = raw.get(spec.id);
        assert_eq!(
            (job.state, job.attempt, job.fence, job.id),
            (State::Queued, 0, 0, spec.id)
        );
        assert_eq!((&*job.queue, &*job.kind), ("q", "k"));
        assert_eq!(job.started.or(job.finished).or(job.lease_until), None);
        assert!(job.history.is_empty() && job.result.is_none() && job.error.is_none());
    }
}

/// Every field that a push set is given back as it was.
pub fn insert_keeps_every_field(make: Make<'_>) {
    let raw = Raw::new(make);
    let extras = Extras {
        key: Some("key".into()),
        fingerprint: 9,
        concurrency_key: None,
        retry: Some(RetryPolicy::linear(SECOND)),
        headers: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
    };
    let id = raw.add(Spec {
        payload: Payload::json(&[1.5, 2.5]).unwrap(),
        priority: -3,
        run_at: raw.in_(SECOND),
        max_attempts: 7,
        timeout: Some(SECOND * 9),
        deadline: raw.in_(SECOND * 60),
        extras: Some(Arc::new(extras.clone())),
        waits: vec!["x".into(), "y".into()],
        ..raw.spec()
    });
    let job = raw.get(id);
    assert_eq!(job.payload.as_bytes(), Some(&b"[1.5,2.5]"[..]));
    assert_eq!(job.payload.encode().unwrap().content_type, JSON);
    assert_eq!(
        (job.priority, job.max_attempts, job.timeout),
        (-3, Some(7), Some(SECOND * 9))
    );
    assert_eq!((job.created, job.run_at), (raw.now(), raw.in_(SECOND)));
    assert_eq!(job.deadline, Some(raw.in_(SECOND * 60)));
    assert_eq!(job.extras.as_deref(), Some(&extras));
    assert_eq!(job.waits, [Arc::from("x"), Arc::from("y")]);
    assert_eq!(job.state, State::Blocked);
    assert_eq!(raw.at(id).extras.as_deref(), Some(&extras));
}

/// A job of which nothing was said has nothing.
pub fn insert_adds_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    let job = raw.get(raw.add(Spec {
        max_attempts: 0,
        ..raw.spec()
    }));
    assert_eq!((job.max_attempts, job.timeout, job.deadline), (None, None, None));
    assert!(job.extras.is_none() && job.waits.is_empty() && !job.cancel_requested);
}

/// Whatever became of a job, its id is not taken twice.
pub fn a_known_id_is_a_duplicate(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = raw.spec();
    raw.add(spec.clone());
    let other = Spec {
        payload: Payload::from("other"),
        ..spec.clone()
    };
    let again = || raw.put(std::slice::from_ref(&other));
    assert_eq!(again(), [Inserted::Duplicate], "while it is queued");
    let claimed = raw.claim_one();
    assert_eq!(again(), [Inserted::Duplicate], "while it runs");
    raw.end(claimed.job, State::Failed);
    assert_eq!(again(), [Inserted::Duplicate], "when it is over");
    let job = raw.get(spec.id);
    assert_eq!(
        (job.payload.as_bytes(), job.state),
        (Some(&b"payload"[..]), State::Failed)
    );
    assert_eq!(raw.counts().totals.pushed, 1);
}

/// A batch may name a job twice: it is stored once.
pub fn a_batch_may_repeat_itself(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = raw.spec();
    let receipt = raw.put(&[spec.clone(), spec.clone(), raw.spec()]);
    assert_eq!(receipt, [Inserted::New, Inserted::Duplicate, Inserted::New]);
    assert_eq!(raw.counts().queued, 2);
}

/// A restored job brings its attempts, fence, birth and history along (row 71).
pub fn a_restored_job_keeps_its_past(make: Make<'_>) {
    let raw = Raw::new(make);
    let attempt = Attempt {
        number: 3,
        node: "elsewhere".into(),
        worker: 4,
        started: raw.now(),
        ended: raw.in_(SECOND),
        failure: Some(Failure::new(FailureKind::Panic, "boom")),
    };
    let restored = Restored {
        attempt: 3,
        fence: 8,
        created: Timestamp::from_micros(5),
        crashes: 2,
        history: vec![attempt.clone()],
    };
    let id = raw.add(Spec {
        restored: Some(restored),
        ..raw.spec()
    });
    let job = raw.get(id);
    assert_eq!(
        (job.attempt, job.fence, job.created),
        (3, 8, Timestamp::from_micros(5))
    );
    assert_eq!(job.history, [attempt]);
    let claimed = raw.claim_one();
    assert_eq!((claimed.attempt, claimed.job.fence), (4, 9), "the fence grows on");
    assert_eq!(claimed.created, Timestamp::from_micros(5));
    let totals = raw.counts().totals;
    assert_eq!((totals.pushed, totals.restored), (0, 1));
}

/// an id that nobody pushed is not known, in whatever way it is asked for.
pub fn an_unknown_id_is_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    let id = JobId::new(raw.now());
    assert!(raw.engine.get(id).unwrap().is_none());
    assert!(raw.engine.standing(id).unwrap().is_none());
    let ghost = crate::engine::JobRef {
        id,
        fence: 1,
        ..Default::default()
    };
    assert!(!raw.engine.request_cancel(ghost).unwrap());
    assert_eq!(raw.end(ghost, State::Succeeded), Applied::Stale);
}

/// A success is stored with its result; the payload is let go (row 5).
pub fn a_success_is_kept(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    let claimed = raw.claim_one();
    assert_eq!(raw.end(claimed.job, State::Succeeded), Applied::Yes);
    let job = raw.get(id);
    assert_eq!((job.state, job.finished), (State::Succeeded, Some(raw.now())));
    assert_eq!(job.result.unwrap().as_bytes(), Some(&b"result"[..]));
    assert!(job.error.is_none() && job.payload.is_empty());
}

/// A failure is stored with its kind and text; the payload stays readable (row 5).
pub fn a_failure_is_kept(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    let claimed = raw.claim_one();
    let failure = Failure::new(FailureKind::Panic, "boom");
    let transition = Transition {
        failure: Some(failure.clone()),
        ..to(claimed.job, State::Failed)
    };
    assert_eq!(raw.apply(transition), Applied::Yes);
    let job = raw.get(id);
    assert_eq!(
        (job.state, job.error, job.finished),
        (State::Failed, Some(failure), Some(raw.now()))
    );
    assert_eq!(job.payload.as_bytes(), Some(&b"payload"[..]));
    assert!(job.result.is_none());
}

/// Every final state can be reached from running, and nothing leads out of it.
pub fn final_states_are_final(make: Make<'_>) {
    let raw = Raw::new(make);
    for state in [State::Succeeded, State::Failed, State::Cancelled, State::Expired] {
        let id = raw.add(raw.spec());
        let job = raw.claim_one().job;
        assert_eq!(raw.end(job, state), Applied::Yes, "{state}");
        for late in [
            State::Succeeded,
            State::Failed,
            State::Cancelled,
            State::Scheduled,
        ] {
            assert_eq!(raw.end(job, late), Applied::Stale, "{state} to {late}");
            assert_eq!(raw.apply(waiting(job, late)), Applied::Stale, "{state} to {late}");
        }
        assert_eq!(raw.state(id), state);
        assert!(raw.claim(9).is_empty());
    }
    let totals = raw.counts().totals;
    assert_eq!(
        (totals.succeeded, totals.failed, totals.cancelled, totals.expired),
        (1, 1, 1, 1)
    );
    assert_eq!(totals.stale, 4 * 8, "each refused answer is counted");
    assert!(raw.counts().balanced());
}

/// Row 22: a write under another fence changes nothing and says so.
pub fn a_stale_fence_changes_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    let first = raw.claim_one().job;
    assert_eq!(raw.apply(again(first, Duration::ZERO)), Applied::Yes);
    let second = raw.claim_one().job;
    assert!(second.fence > first.fence);
    for late in [
        State::Succeeded,
        State::Failed,
        State::Cancelled,
        State::Scheduled,
    ] {
        assert_eq!(raw.end(first, late), Applied::Stale);
    }
    let future = crate::engine::JobRef {
        fence: second.fence + 1,
        ..second
    };
    assert_eq!(raw.end(future, State::Succeeded), Applied::Stale);
    let job = raw.get(id);
    assert_eq!(
        (job.state, job.fence, job.attempt),
        (State::Running, second.fence, 2)
    );
    assert_eq!(raw.end(second, State::Succeeded), Applied::Yes);
}

/// The fence only ever grows: not even an attempt that is given back takes it back.
pub fn the_fence_only_grows(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    let (mut last, mut earlier) = (0, None);
    for round in 0..20 {
        let claimed = raw.claim_one();
        assert!(claimed.job.fence > last, "round {round}");
        assert_eq!(claimed.attempt, 1, "the attempt is given back each time");
        if let Some(before) = earlier.replace(claimed.job) {
            // The same attempt by its number, and yet another claim.
            assert_eq!(raw.end(before, State::Succeeded), Applied::Stale);
        }
        last = claimed.job.fence;
        raw.apply(Transition {
            refund: true,
            ..again(claimed.job, Duration::ZERO)
        });
    }
}

/// A transition says where the job stands; it does not apply to one that stands elsewhere.
pub fn a_transition_names_where_the_job_stands(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    let queued = raw.at(id).job;
    assert_eq!(
        raw.end(queued, State::Cancelled),
        Applied::Stale,
        "it does not run"
    );
    let running = raw.claim_one().job;
    assert_eq!(
        raw.apply(waiting(running, State::Cancelled)),
        Applied::Stale,
        "it does not wait"
    );
    assert_eq!(
        raw.apply(waiting(queued, State::Cancelled)),
        Applied::Stale,
        "it was claimed since"
    );
    assert_eq!(raw.state(id), State::Running);
}

/// A waiting job can be ended, in whatever way it waits.
pub fn a_waiting_job_can_be_ended(make: Make<'_>) {
    let raw = Raw::new(make);
    let queued = raw.add(raw.spec());
    let scheduled = raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec()
    });
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    for (id, state) in [
        (queued, State::Cancelled),
        (scheduled, State::Expired),
        (blocked, State::Failed),
    ] {
        assert_eq!(raw.apply(waiting(raw.at(id).job, state)), Applied::Yes);
        let job = raw.get(id);
        assert_eq!((job.state, job.attempt), (state, 0));
    }
    raw.signal(blocked, "t");
    raw.advance(SECOND * 2);
    raw.tick();
    assert!(raw.claim(9).is_empty(), "none of them runs any more");
    let counts = raw.counts();
    assert!(counts.balanced() && counts.waiting() == 0, "{counts:?}");
}

/// A job that comes back without a delay is queued at once.
pub fn again_without_delay_is_queued(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    let job = raw.claim_one().job;
    assert_eq!(raw.apply(again(job, Duration::ZERO)), Applied::Yes);
    assert_eq!(raw.state(id), State::Queued);
    assert_eq!(
        raw.get(id).error.map(|e| e.kind),
        Some(FailureKind::Error),
        "the last failure shows"
    );
    assert_eq!(raw.claim_one().attempt, 2);
}

/// A job that was not tried stands where it stood, whoever came after it and in whatever order jobs come back.
pub fn a_job_that_keeps_its_place_stands_where_it_stood(make: Make<'_>) {
    let raw = Raw::new(make);
    let late = Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec()
    };
    let mut ids: Vec<JobId> = (0..4).map(|_| raw.add(raw.spec())).collect();
    ids.insert(3, raw.add(late));
    ids.insert(
        0,
        raw.add(Spec {
            priority: 3,
            ..raw.spec()
        }),
    );
    // The scheduled one becomes ready last, and stands last from then on.
    let late = ids.remove(4);
    raw.advance(SECOND);
    raw.tick();
    ids.push(late);
    ids.push(raw.add(raw.spec()));
    let before: Vec<Timestamp> = ids.iter().map(|id| raw.get(*id).run_at).collect();
    let claimed = raw.claim(6);
    raw.advance(SECOND);
    ids.push(raw.add(raw.spec()));
    for i in [2, 0, 5, 4, 1, 3] {
        let back = Transition {
            refund: true,
            keeps_place: true,
            failure: None,
            ..again(claimed[i].job, Duration::ZERO)
        };
        assert_eq!(raw.apply(back), Applied::Yes);
    }
    let mut exported = Vec::new();
    let each = &mut |job: Job| {
        exported.push(job.id);
        Ok(())
    };
    raw.engine.export(each).unwrap();
    assert_eq!(exported, ids, "a dump has them in that order");
    let job = raw.get(ids[0]);
    assert_eq!((job.state, job.attempt, job.history.len()), (State::Queued, 0, 0));
    let after: Vec<Timestamp> = ids.iter().map(|id| raw.get(*id).run_at).collect();
    assert_eq!(after[..before.len()], before, "and each its time");
    assert_eq!(raw.claimed_ids(10), ids);
    assert_eq!(raw.counts().totals.returned, 6);
}

/// What is claimed to be passed on has no timeout, and its own again when it comes back.
pub fn what_is_passed_on_does_not_time_out(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        timeout: Some(SECOND),
        ..raw.spec()
    });
    let relayed = raw.claim_to_relay(1).remove(0);
    assert_eq!(relayed.due, Timestamp::MAX);
    raw.advance(SECOND * 100);
    assert!(raw.overdue().is_empty());
    assert_eq!(raw.state(id), State::Running);
    let job = raw.get(id);
    assert_eq!((job.timeout, job.lease_until), (Some(SECOND), None));
    let back = Transition {
        refund: true,
        keeps_place: true,
        failure: None,
        ..again(relayed.job, Duration::ZERO)
    };
    assert_eq!(raw.apply(back), Applied::Yes);
    assert_eq!(raw.get(id).timeout, Some(SECOND));
    assert_eq!(raw.claim_one().due, raw.in_(SECOND));
    raw.advance(SECOND);
    assert_eq!(raw.causes(), [(id, Cause::Timeout)]);
}

/// Each attempt leaves a line in the history, the last ones are kept (row 46).
pub fn attempts_leave_a_history(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        max_attempts: 100,
        ..raw.spec()
    });
    for i in 1..=(Job::HISTORY + 4) {
        let job = raw.claim_one().job;
        let failure = Failure::new(FailureKind::Error, format!("failure {i}"));
        raw.apply(Transition {
            failure: Some(failure),
            ..again(job, Duration::ZERO)
        });
    }
    raw.end(raw.claim_one().job, State::Succeeded);
    let history = raw.get(id).history;
    assert_eq!(history.len(), Job::HISTORY);
    let numbers: Vec<u32> = history.iter().map(|a| a.number).collect();
    let last = Job::HISTORY as u32 + 5;
    assert_eq!(
        numbers,
        (last + 1 - Job::HISTORY as u32..=last).collect::<Vec<_>>()
    );
    assert_eq!((&*history[0].node, history[0].worker), ("node", 7));
    assert_eq!(history[0].failure.as_ref().unwrap().message, "failure 6");
    assert!(
        history[Job::HISTORY - 1].failure.is_none(),
        "the last one went well"
    );
}

/// A job that succeeds at once has had one attempt, and says who ran it and when.
pub fn a_success_is_an_attempt(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    raw.end(raw.claim_one().job, State::Succeeded);
    let attempt = Attempt {
        number: 1,
        node: "node".into(),
        worker: 7,
        started: raw.now(),
        ended: raw.now(),
        failure: None,
    };
    assert_eq!(raw.get(id).history, [attempt]);
}

/// Transitions of one call are taken alone, and each is answered, in order.
pub fn a_turn_answers_each_transition(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(3));
    let jobs: Vec<_> = raw.claim(3).into_iter().map(|c| c.job).collect();
    let stale = crate::engine::JobRef { fence: 77, ..jobs[1] };
    let mut done = [
        to(jobs[0], State::Succeeded),
        to(stale, State::Succeeded),
        to(jobs[2], State::Failed),
    ];
    assert_eq!(
        raw.apply_all(&mut done),
        [Applied::Yes, Applied::Stale, Applied::Yes]
    );
    assert_eq!(raw.state(jobs[1].id), State::Running);
}

/// One call ends jobs and claims the next ones.
pub fn a_turn_ends_and_claims(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(3));
    let first = raw.claim_one();
    let (mut applied, mut out, mut kinds) = (Vec::new(), Vec::new(), raw.any());
    let mut claim = crate::engine::Claim {
        queue: raw.queue,
        kinds: &mut kinds,
        limit: 1,
        lease: None,
        node: &"node".into(),
        worker: 0,
        keys: crate::engine::KeyLimits::default(),
        relays: false,
        out: &mut out,
    };
    let mut done = [to(first.job, State::Succeeded)];
    raw.engine
        .turn(&mut done, &mut applied, Some(&mut claim), raw.now())
        .unwrap();
    assert_eq!((applied, out.len()), (vec![Applied::Yes], 1));
    let counts = raw.counts();
    assert_eq!(
        (counts.running, counts.queued, counts.totals.succeeded),
        (1, 1, 1)
    );
}

/// A stored request to cancel refuses a success that comes later, and admits the cancellation (row 39).
pub fn a_request_to_cancel_is_kept(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    assert!(
        !raw.engine.request_cancel(raw.at(id).job).unwrap(),
        "it does not run"
    );
    let job = raw.claim_one().job;
    assert!(raw.engine.request_cancel(job).unwrap());
    assert!(raw.get(id).cancel_requested && raw.at(id).cancel_requested);
    for late in [State::Succeeded, State::Failed, State::Scheduled] {
        assert_eq!(raw.end(job, late), Applied::CancelRequested);
        assert_eq!(raw.state(id), State::Running);
    }
    assert_eq!(raw.end(job, State::Cancelled), Applied::Yes);
    assert!(!raw.engine.request_cancel(job).unwrap(), "it is over");
}

/// A request to cancel one claim does not reach the next one.
pub fn a_request_to_cancel_names_a_claim(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    let first = raw.claim_one().job;
    raw.apply(again(first, Duration::ZERO));
    let second = raw.claim_one().job;
    assert!(!raw.engine.request_cancel(first).unwrap());
    assert_eq!(raw.end(second, State::Succeeded), Applied::Yes);
}

/// A batch is applied whole.
pub fn a_batch_is_applied_whole(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let job = raw.claim_one().job;
    let follow = raw.spec();
    let receipt = raw.commit(
        std::slice::from_ref(&follow),
        &mut [to(job, State::Succeeded)],
        &[(blocked, "t".into())],
    );
    assert!(receipt.applied);
    assert_eq!(
        (receipt.inserted, receipt.transitions),
        (vec![Inserted::New], vec![Applied::Yes])
    );
    assert_eq!(raw.state(job.id), State::Succeeded);
    assert_eq!(
        (raw.state(blocked), raw.state(follow.id)),
        (State::Queued, State::Queued)
    );
}

/// One refused part refuses the whole batch.
pub fn a_batch_is_refused_whole(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec().key("held", 1));
    let job = raw.claim_one().job;
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let other = raw.engine.names().queue("other").unwrap();
    let good = raw.spec();
    let signals = [(blocked, "t".into())];
    let full = Spec {
        queue: other,
        capacity: 1,
        ..raw.spec()
    };
    raw.add(full.clone());
    let stale = crate::engine::JobRef { fence: 99, ..job };
    for (what, bad, standing) in [
        ("a stale transition", raw.spec(), stale),
        ("a conflicting key", raw.spec().key("held", 2), job),
        (
            "a full queue",
            Spec {
                id: JobId::new(raw.now()),
                ..full.clone()
            },
            job,
        ),
    ] {
        let before = (raw.counts(), raw.counts_of(other).waiting());
        let mut transitions = [to(standing, State::Succeeded)];
        let receipt = raw.commit(&[good.clone(), bad.clone()], &mut transitions, &signals);
        assert!(!receipt.applied, "{what}");
        assert!(
            transitions[0].result.is_some(),
            "{what}: the result is still the caller's"
        );
        assert!(raw.engine.get(good.id).unwrap().is_none(), "{what}");
        assert!(raw.engine.get(bad.id).unwrap().is_none(), "{what}");
        assert_eq!(
            (raw.state(job.id), raw.state(blocked)),
            (State::Running, State::Blocked),
            "{what}"
        );
        let after = (raw.counts(), raw.counts_of(other).waiting());
        assert_eq!(
            (before.0.waiting(), before.1),
            (after.0.waiting(), after.1),
            "{what}"
        );
        assert!(raw.counts().balanced());
    }
}

/// A refused batch says which part was refused.
pub fn a_refused_batch_says_why(make: Make<'_>) {
    let raw = Raw::new(make);
    let holder = raw.add(raw.spec().key("held", 1));
    let job = raw.claim_one().job;
    let receipt = raw.commit(
        &[raw.spec().key("held", 2)],
        &mut [to(job, State::Succeeded)],
        &[],
    );
    assert_eq!(receipt.inserted, [Inserted::Conflict(holder)]);
    let stale = crate::engine::JobRef { fence: 99, ..job };
    let receipt = raw.commit(&[], &mut [to(stale, State::Succeeded)], &[]);
    assert_eq!(receipt.transitions, [Applied::Stale]);
    raw.engine.request_cancel(job).unwrap();
    let receipt = raw.commit(&[], &mut [to(job, State::Succeeded)], &[]);
    assert_eq!(
        (receipt.applied, receipt.transitions),
        (false, vec![Applied::CancelRequested])
    );
}

/// A batch that is repeated because its answer was lost stores nothing twice.
pub fn a_repeated_insert_is_no_conflict(make: Make<'_>) {
    let raw = Raw::new(make);
    let (plain, keyed) = (raw.spec(), raw.spec().key("key", 1));
    assert!(raw.commit(&[plain.clone(), keyed.clone()], &mut [], &[]).applied);
    let same_key = raw.spec().key("key", 1);
    let receipt = raw.commit(&[plain, keyed.clone(), same_key.clone()], &mut [], &[]);
    assert!(receipt.applied);
    assert_eq!(receipt.inserted[0], Inserted::Duplicate);
    assert_eq!(receipt.inserted[2], Inserted::Keyed(keyed.id));
    assert_eq!(raw.counts().queued, 2);
    assert!(raw.engine.get(same_key.id).unwrap().is_none());
}

/// A blocked job is queued by the last of its tokens, not before.
pub fn the_last_token_unblocks(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        waits: vec!["a".into(), "b".into()],
        ..raw.spec()
    });
    assert_eq!((raw.state(id), raw.counts().blocked), (State::Blocked, 1));
    assert!(raw.claim(1).is_empty());
    raw.signal(id, "a");
    assert_eq!(raw.get(id).waits, [Arc::from("b")]);
    raw.signal(id, "a");
    raw.signal(id, "never heard of");
    raw.signal(JobId::new(raw.now()), "b");
    assert_eq!(raw.state(id), State::Blocked);
    raw.signal(id, "b");
    assert_eq!(
        (raw.state(id), raw.counts().blocked, raw.counts().queued),
        (State::Queued, 0, 1)
    );
    assert_eq!(raw.claimed_ids(1), [id]);
    raw.signal(id, "b");
    assert_eq!(
        raw.state(id),
        State::Running,
        "a token that comes late changes nothing"
    );
}

/// One batch may bring several tokens, also for a job that it inserts.
pub fn one_batch_may_bring_all_tokens(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = Spec {
        waits: vec!["a".into(), "b".into()],
        ..raw.spec()
    };
    let signals = [(spec.id, "a".into()), (spec.id, "b".into())];
    assert!(raw.commit(std::slice::from_ref(&spec), &mut [], &signals).applied);
    assert_eq!(raw.state(spec.id), State::Queued);
}

fn heard<R>(bell: &Bell, what: &str, act: impl FnOnce() -> R) {
    let listener = bell.listen();
    act();
    assert!(listener.wait(at_once()), "{what} rings");
}

/// Whatever makes a job claimable rings for workers.
pub fn what_can_be_claimed_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    let work = &raw.engine.signals().work;
    heard(work, "an insert", || raw.put(&raw.specs(1)));
    let job = raw.claim_one().job;
    heard(work, "another attempt", || raw.apply(again(job, Duration::ZERO)));
    let job = raw.claim_one().job;
    let follow = raw.spec();
    heard(work, "a batch", || {
        raw.commit(&[follow], &mut [to(job, State::Succeeded)], &[])
    });
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    heard(work, "a last token", || raw.signal(blocked, "t"));
    raw.engine.set_paused(raw.queue, true).unwrap();
    heard(work, "a resumed queue", || {
        raw.engine.set_paused(raw.queue, false).unwrap()
    });
}

/// Every job that becomes claimable wakes a worker of its own.
pub fn each_job_rings_once(make: Make<'_>) {
    let raw = Raw::new(make);
    let work = &raw.engine.signals().work;
    let listeners = [work.listen(), work.listen(), work.listen()];
    raw.put(&raw.specs(3));
    assert!(listeners.into_iter().all(|l| l.wait(at_once())));
}

/// Whatever makes room rings for those who wait to push.
pub fn what_makes_room_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    let space = &raw.engine.signals().space;
    let full = |raw: &Raw| {
        let spec = Spec {
            capacity: 1,
            ..raw.spec()
        };
        assert_eq!(
            raw.put(&[
                spec.clone(),
                Spec {
                    id: JobId::new(raw.now()),
                    ..spec.clone()
                }
            ])
            .len(),
            2
        );
        spec.id
    };
    full(&raw);
    let mut claimed = None;
    heard(space, "a claim", || claimed = Some(raw.claim_one()));
    let id = full(&raw);
    heard(space, "a cancellation", || {
        raw.apply(waiting(raw.at(id).job, State::Cancelled))
    });
}

/// Everyone who waits for room hears of it: they may wait for different queues.
pub fn room_is_announced_to_all(make: Make<'_>) {
    let raw = Raw::new(make);
    let space = &raw.engine.signals().space;
    let spec = Spec {
        capacity: 1,
        ..raw.spec()
    };
    raw.put(&[
        spec.clone(),
        Spec {
            id: JobId::new(raw.now()),
            ..spec
        },
    ]);
    let waiting = [space.listen(), space.listen()];
    raw.claim_one();
    assert!(
        waiting.into_iter().all(|l| l.wait(at_once())),
        "a claim made room in one queue"
    );
}

/// Whatever brings the next due time forward rings for upkeep.
pub fn an_earlier_due_time_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.tick();
    let upkeep = &raw.engine.signals().upkeep;
    let scheduled = Spec {
        run_at: raw.in_(SECOND * 50),
        ..raw.spec()
    };
    heard(upkeep, "a scheduled job", || raw.add(scheduled));
    raw.tick();
    let sooner = Spec {
        run_at: raw.in_(SECOND * 40),
        ..raw.spec()
    };
    heard(upkeep, "a sooner one", || raw.add(sooner));
    raw.tick();
    let mortal = Spec {
        deadline: raw.in_(SECOND * 30),
        ..raw.spec()
    };
    heard(upkeep, "a deadline", || raw.add(mortal));
    raw.tick();
    let mut claimed = Vec::new();
    heard(upkeep, "a lease", || claimed = raw.claim_leased(1, SECOND * 20));
    raw.tick();
    heard(upkeep, "a retry", || {
        raw.apply(again(claimed[0].job, SECOND * 10))
    });
    raw.tick();
    raw.add(Spec {
        timeout: Some(SECOND),
        ..raw.spec()
    });
    heard(upkeep, "a timeout", || raw.claim_one());
    assert_eq!(raw.tick().next, raw.in_(SECOND));
}

/// The end of a job wakes who waits for it, by its id.
pub fn the_end_of_a_job_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    for state in [State::Succeeded, State::Failed, State::Cancelled, State::Expired] {
        let id = raw.add(raw.spec());
        let wait = raw.engine.signals().finished.listen(id);
        let ended = std::thread::scope(|scope| {
            let job = raw.claim_one().job;
            let (engine, now) = (raw.engine.clone(), raw.now());
            scope.spawn(move || {
                engine
                    .turn(&mut [to(job, state)], &mut Vec::new(), None, now)
                    .unwrap();
            });
            wait.until(super::stage::soon(), || raw.state(id).is_final().then_some(()))
        });
        assert_eq!(ended, Some(()), "{state}");
    }
}

/// A paused queue takes jobs and gives none out; the others go on (row 38).
pub fn a_paused_queue_gives_nothing_out(make: Make<'_>) {
    let raw = Raw::new(make);
    let other = raw.engine.names().queue("other").unwrap();
    raw.engine.set_paused(raw.queue, true).unwrap();
    let held = raw.add(raw.spec());
    raw.add(Spec {
        queue: other,
        ..raw.spec()
    });
    assert!(raw.claim(9).is_empty());
    assert!(raw.counts().paused && !raw.counts_of(other).paused);
    assert_eq!(raw.state(held), State::Queued);
    raw.engine.set_paused(raw.queue, true).unwrap();
    raw.engine.set_paused(raw.queue, false).unwrap();
    assert_eq!(raw.claimed_ids(9), [held]);
    assert!(!raw.counts().paused);
}

/// The counts know each state, and add up.
pub fn counts_know_each_state(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(4));
    raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec()
    });
    raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let claimed = raw.claim(3);
    raw.end(claimed[0].job, State::Succeeded);
    raw.apply(again(claimed[1].job, SECOND));
    let c = raw.counts();
    assert_eq!(
        (c.blocked, c.scheduled, c.queued, c.running, c.kept),
        (1, 2, 1, 1, 1)
    );
    assert_eq!((c.totals.pushed, c.totals.claimed, c.totals.succeeded), (6, 3, 1));
    assert_eq!((c.totals.retried, c.totals.returned), (1, 0));
    raw.apply(Transition {
        refund: true,
        ..again(claimed[2].job, Duration::ZERO)
    });
    let c = raw.counts();
    assert_eq!((c.totals.retried, c.totals.returned, c.waiting()), (1, 1, 5));
    assert!(c.balanced());
}

/// Queues are counted apart.
pub fn queues_are_counted_apart(make: Make<'_>) {
    let raw = Raw::new(make);
    let other = raw.engine.names().queue("other").unwrap();
    raw.put(&raw.specs(2));
    raw.add(Spec {
        queue: other,
        ..raw.spec()
    });
    let of = |queue: QueueId| raw.counts_of(queue).queued;
    assert_eq!((of(raw.queue), of(other)), (2, 1));
}

/// Payloads of every kind of byte come back as they went (rows 4 and D2, D3 of the failure list).
pub fn payloads_come_back_as_they_went(make: Make<'_>) {
    let raw = Raw::new(make);
    let all: Vec<u8> = (0..=255).collect();
    let deep = "[".repeat(200_000);
    for bytes in [
        &[][..],
        b"\0",
        b"\xff\xfe\xed\xa0\x80",
        &all,
        b"NaN,1e400,{\"a\":1,\"a\":2}",
        deep.as_bytes(),
    ] {
        let id = raw.add(Spec {
            payload: Payload::from(bytes),
            ..raw.spec()
        });
        assert_eq!(raw.get(id).payload.as_bytes(), Some(bytes));
        let claimed = raw.claim_one();
        assert_eq!(claimed.payload.as_bytes(), Some(bytes));
        let result = Transition {
            result: Some(Payload::from(bytes)),
            ..to(claimed.job, State::Succeeded)
        };
        raw.apply(result);
        assert_eq!(raw.get(id).result.unwrap().as_bytes(), Some(bytes));
    }
}

/// A sealed engine changes nothing any more, and can still be read.
pub fn a_sealed_engine_changes_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(2));
    let job = raw.claim_one().job;
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let before = (
        raw.counts().waiting(),
        raw.counts().running,
        raw.counts().totals.pushed,
    );
    raw.engine.seal().unwrap();
    raw.engine.seal().unwrap();
    let late = raw.spec();
    assert_eq!(raw.put(&[late.clone(), raw.spec()]), [Inserted::Sealed]);
    assert_eq!(raw.end(job, State::Succeeded), Applied::Stale);
    let receipt = raw.commit(
        std::slice::from_ref(&late),
        &mut [to(job, State::Succeeded)],
        &[(blocked, "t".into())],
    );
    assert!(!receipt.applied);
    raw.signal(blocked, "t");
    let after = (
        raw.counts().waiting(),
        raw.counts().running,
        raw.counts().totals.pushed,
    );
    assert_eq!(before, after);
    assert!(raw.engine.get(late.id).unwrap().is_none());
    assert_eq!(
        (raw.state(job.id), raw.state(blocked)),
        (State::Running, State::Blocked)
    );
    let mut seen = 0;
    raw.engine
        .export(&mut |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, 3);
    assert!(raw.claim(9).is_empty(), "nothing is given out either");
}

/// What races with a seal is either refused or there to be read: nothing is accepted behind it.
pub fn a_seal_misses_nothing(make: Make<'_>) {
    for _ in 0..20 {
        let raw = Raw::new(make);
        let (engine, now) = (&raw.engine, raw.now());
        let (accepted, exported) = std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..2)
                .map(|_| {
                    let spec = raw.spec();
                    scope.spawn(move || {
                        let mut accepted = 0;
                        loop {
                            let mut receipt = Vec::new();
                            let id = JobId::new(now);
                            let job = Spec { id, ..spec.clone() };
                            engine.insert(&[job.insert()], now, &mut receipt).unwrap();
                            if receipt == [Inserted::Sealed] {
                                return accepted;
                            }
                            accepted += 1;
                        }
                    })
                })
                .collect();
            super::stage::until("some pushes", || raw.counts().queued > 50);
            engine.seal().unwrap();
            let mut exported = 0;
            engine
                .export(&mut |_| {
                    exported += 1;
                    Ok(())
                })
                .unwrap();
            let accepted: usize = pushers.into_iter().map(|p| p.join().unwrap()).sum();
            (accepted, exported)
        });
        assert_eq!(accepted, exported);
    }
}

/// Closing twice is closing once.
pub fn close_is_idempotent(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    raw.engine.close().unwrap();
    raw.engine.close().unwrap();
}

/// Engines made one after the other share nothing.
pub fn each_engine_is_empty(make: Make<'_>) {
    Raw::new(make).add(Raw::new(make).spec());
    let engine: Arc<dyn Engine> = make();
    assert!(
        engine
            .counts()
            .unwrap()
            .iter()
            .all(|c| c.totals.pushed == 0 && c.waiting() == 0)
    );
    assert_eq!(engine.list(&crate::Filter::default()).unwrap().total, 0);
}
