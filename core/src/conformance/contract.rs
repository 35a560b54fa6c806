//! What an engine says when it moves jobs and gives them back.

use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Spec, again, to, waiting};
use crate::JobId;
use crate::engine::{Applied, Cause};
use crate::job::{Attempt, Job, State};
use crate::outcome::{Failure, FailureKind, Transition};
use crate::time::Timestamp;

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
