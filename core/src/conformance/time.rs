//! What time brings: due times, leases, timeouts, deadlines, retention.

use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Spec, Stage, again, at_once, job, to};
use crate::engine::{Applied, Cause, Held, Retention};
use crate::error::ErrorKind;
use crate::job::{Filter, State};
use crate::outcome::{FailureKind, Outcome};
use crate::time::{Deadline, Timestamp};
use crate::{Answer, JobId, RetryPolicy, StopReason};

/// Row 18: a scheduled job is never early, and is there when its time has come.
pub fn a_scheduled_job_is_never_early(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec()
    });
    assert_eq!((raw.state(id), raw.tick().promoted), (State::Scheduled, 0));
    assert_eq!(raw.tick().next, raw.in_(SECOND));
    raw.advance(SECOND - Duration::from_micros(1));
    raw.tick();
    assert!(raw.claim(1).is_empty(), "a microsecond early");
    raw.advance(Duration::from_micros(1));
    raw.tick();
    assert_eq!(raw.state(id), State::Queued);
    assert_eq!(raw.claimed_ids(1), [id]);
}

/// A start in the past means now.
pub fn a_start_in_the_past_means_now(make: Make<'_>) {
    let raw = Raw::new(make);
    for run_at in [
        Timestamp::EPOCH,
        Timestamp::from_micros(i64::MIN),
        Timestamp::from_micros(1),
    ] {
        let id = raw.add(Spec { run_at, ..raw.spec() });
        assert_eq!(raw.state(id), State::Queued);
    }
    assert_eq!(raw.claim(9).len(), 3);
}

/// Scheduled jobs are queued in the order of their time; those of one time in the order of their push (B4).
pub fn due_jobs_are_queued_in_order(make: Make<'_>) {
    let raw = Raw::new(make);
    let at = |ms: u64| raw.in_(Duration::from_millis(ms));
    let order = [30, 10, 20, 10, 30, 10];
    let specs: Vec<Spec> = order
        .iter()
        .map(|ms| Spec {
            run_at: at(*ms),
            ..raw.spec()
        })
        .collect();
    raw.put(&specs);
    raw.advance(SECOND);
    let tick = raw.engine.tick(2, raw.now()).unwrap();
    assert!(tick.promoted <= 2, "{tick:?}");
    raw.tick();
    assert_eq!(raw.claimed_ids(9), [1, 3, 5, 2, 0, 4].map(|i: usize| specs[i].id));
}

/// A job that is promoted stands behind those that were ready before it.
pub fn a_promoted_job_stands_behind(make: Make<'_>) {
    let raw = Raw::new(make);
    let late = raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec()
    });
    let first = raw.add(raw.spec());
    raw.advance(SECOND);
    raw.tick();
    let last = raw.add(raw.spec());
    assert_eq!(raw.claimed_ids(9), [first, late, last]);
}

/// A blocked job whose time has not come when its last token does is scheduled.
pub fn an_unblocked_job_still_waits_for_its_time(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = Spec {
        waits: vec!["t".into()],
        run_at: raw.in_(SECOND),
        ..raw.spec()
    };
    let id = raw.add(spec);
    raw.signal(id, "t");
    assert_eq!(raw.state(id), State::Scheduled);
    raw.advance(SECOND);
    raw.tick();
    assert_eq!(raw.claimed_ids(1), [id]);
}

/// The time of a blocked job does not unblock it.
pub fn time_does_not_unblock(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        waits: vec!["t".into()],
        run_at: raw.in_(SECOND),
        ..raw.spec()
    });
    raw.advance(SECOND * 5);
    raw.tick();
    assert_eq!(raw.state(id), State::Blocked);
    raw.signal(id, "t");
    raw.tick();
    assert_eq!(raw.claimed_ids(1), [id], "and once unblocked it starts at once");
}

/// The pause before another attempt is counted from the engine's now.
pub fn a_pause_counts_from_now(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    let job = raw.claim_one().job;
    raw.advance(SECOND);
    assert_eq!(raw.apply(again(job, SECOND * 2)), Applied::Yes);
    let found = raw.get(id);
    assert_eq!(
        (found.state, found.run_at, found.retrying()),
        (State::Scheduled, raw.in_(SECOND * 2), true)
    );
    assert_eq!(raw.tick().next, raw.in_(SECOND * 2));
    raw.advance(SECOND * 2);
    raw.tick();
    assert_eq!(raw.claimed_ids(1), [id]);
}

/// Timeouts, leases and deadlines are reported with their cause, until a transition settles them.
pub fn overdue_jobs_are_reported(make: Make<'_>) {
    let raw = Raw::new(make);
    let slow = raw.add(Spec {
        timeout: Some(SECOND),
        ..raw.spec()
    });
    raw.claim_one();
    let lost = raw.add(raw.spec());
    raw.claim_leased(1, SECOND * 2);
    let late = raw.add(Spec {
        deadline: raw.in_(SECOND * 3),
        ..raw.spec()
    });
    let fine = raw.add(Spec {
        timeout: Some(SECOND * 100),
        deadline: raw.in_(SECOND * 100),
        ..raw.spec()
    });
    assert!(raw.causes().is_empty());
    for (id, cause) in [
        (slow, Cause::Timeout),
        (lost, Cause::Lease),
        (late, Cause::Deadline),
    ] {
        assert_eq!(raw.tick().next, raw.in_(SECOND));
        raw.advance(SECOND - Duration::from_micros(1));
        assert!(raw.causes().is_empty(), "{cause:?} is not early");
        raw.advance(Duration::from_micros(1));
        let before = raw.get(id);
        assert_eq!(raw.causes(), [(id, cause)]);
        assert_eq!(raw.causes(), [(id, cause)], "looking changes nothing");
        assert_eq!(raw.state(id), before.state);
        let at = raw.at(id);
        let transition = crate::Transition {
            running: cause != Cause::Deadline,
            ..to(at.job, State::Failed)
        };
        assert_eq!(raw.apply(transition), Applied::Yes);
        assert!(raw.causes().is_empty());
    }
    assert_eq!(raw.state(fine), State::Queued);
}

/// Overdue jobs of every kind are reported up to the limit, and with what a decision needs.
pub fn reports_keep_to_their_limit(make: Make<'_>) {
    let raw = Raw::new(make);
    for _ in 0..10 {
        raw.add(Spec {
            deadline: raw.in_(SECOND),
            ..raw.spec()
        });
    }
    raw.advance(SECOND);
    let mut out = Vec::new();
    raw.engine.expired(3, raw.now(), &mut out).unwrap();
    assert_eq!(out.len(), 3);
    for found in &out {
        assert_eq!(
            (found.at.queue, found.at.kind, found.at.state),
            (raw.queue, raw.kind, State::Queued)
        );
        assert_eq!((found.at.attempt, found.at.max_attempts), (0, 5));
        raw.apply(super::stage::waiting(found.at.job, State::Expired));
    }
    assert_eq!(raw.overdue().len(), 7);
}

/// Of two ends, the sooner one is the cause.
pub fn the_sooner_end_is_the_cause(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        timeout: Some(SECOND * 5),
        ..raw.spec()
    });
    raw.claim_leased(1, SECOND);
    raw.advance(SECOND * 2);
    assert_eq!(raw.causes(), [(id, Cause::Lease)]);
}

/// A deadline counts in whatever way the job waits: queued, scheduled, blocked, or between two attempts.
pub fn a_deadline_finds_every_waiting_job(make: Make<'_>) {
    let raw = Raw::new(make);
    let mortal = |raw: &Raw| Spec {
        deadline: raw.in_(SECOND),
        ..raw.spec()
    };
    let retrying = raw.add(mortal(&raw));
    raw.apply(again(raw.claim_one().job, SECOND * 9));
    let queued = raw.add(mortal(&raw));
    let scheduled = raw.add(Spec {
        run_at: raw.in_(SECOND * 9),
        ..mortal(&raw)
    });
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..mortal(&raw)
    });
    raw.advance(SECOND);
    let mut found: Vec<JobId> = raw.causes().into_iter().map(|(id, _)| id).collect();
    found.sort_unstable();
    let mut want = vec![retrying, queued, scheduled, blocked];
    want.sort_unstable();
    assert_eq!(found, want);
}

/// A deadline does not end an attempt that has started.
pub fn a_deadline_lets_the_attempt_end(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(Spec {
        deadline: raw.in_(SECOND),
        ..raw.spec()
    });
    let job = raw.claim_one().job;
    raw.advance(SECOND * 5);
    assert!(raw.causes().is_empty());
    assert_eq!(raw.end(job, State::Succeeded), Applied::Yes);
}

/// No attempt starts after the deadline, even before upkeep has seen it.
pub fn no_attempt_starts_after_the_deadline(make: Make<'_>) {
    let raw = Raw::new(make);
    let late = raw.add(Spec {
        deadline: raw.in_(SECOND),
        ..raw.spec()
    });
    let fine = raw.add(raw.spec());
    raw.advance(SECOND);
    assert_eq!(raw.claimed_ids(9), [fine], "the late one is passed over");
    assert_eq!(raw.causes(), [(late, Cause::Deadline)]);
    assert_eq!(
        raw.apply(super::stage::waiting(raw.at(late).job, State::Expired)),
        Applied::Yes
    );
    let counts = raw.counts();
    assert!(counts.balanced() && counts.totals.expired == 1, "{counts:?}");
}

/// An extended lease ends later; the timeout of the attempt stays where it was.
pub fn an_extended_lease_ends_later(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        timeout: Some(SECOND * 10),
        ..raw.spec()
    });
    let job = raw.claim_leased(1, SECOND * 2)[0].job;
    let extend = |lease| {
        let mut held = Vec::new();
        raw.engine.extend(&[job], lease, raw.now(), &mut held).unwrap();
        held
    };
    raw.advance(SECOND);
    assert_eq!(extend(SECOND * 4), [Held::Yes]);
    assert_eq!(raw.get(id).lease_until, Some(raw.in_(SECOND * 4)));
    raw.advance(SECOND * 3);
    assert!(raw.causes().is_empty());
    assert_eq!(raw.tick().next, raw.in_(SECOND));
    assert_eq!(extend(SECOND * 60), [Held::Yes]);
    raw.advance(SECOND * 6);
    assert_eq!(raw.causes(), [(id, Cause::Timeout)]);
}

/// A lease can be made to end sooner.
pub fn a_lease_can_be_shortened(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    let job = raw.claim_leased(1, SECOND * 60)[0].job;
    raw.engine
        .extend(&[job], SECOND, raw.now(), &mut Vec::new())
        .unwrap();
    raw.advance(SECOND);
    assert_eq!(raw.causes(), [(id, Cause::Lease)]);
}

/// A lease that is no longer held cannot be extended; a request to cancel is told (C1).
pub fn a_lost_lease_is_not_extended(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(3));
    let jobs: Vec<_> = raw.claim_leased(3, SECOND).into_iter().map(|c| c.job).collect();
    raw.end(jobs[0], State::Succeeded);
    raw.engine.request_cancel(jobs[1]).unwrap();
    let mut held = Vec::new();
    raw.engine.extend(&jobs, SECOND, raw.now(), &mut held).unwrap();
    assert_eq!(held, [Held::Lost, Held::CancelRequested, Held::Yes]);
    raw.apply(again(jobs[2], Duration::ZERO));
    let next = raw.claim_leased(1, SECOND)[0].job;
    held.clear();
    raw.engine
        .extend(&[jobs[2], next], SECOND, raw.now(), &mut held)
        .unwrap();
    assert_eq!(held, [Held::Lost, Held::Yes], "a former claim is not this one");
}

/// Row 53: finished jobs are forgotten by age, success and failure apart; unfinished ones never are.
pub fn finished_jobs_are_forgotten_by_age(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(6));
    let ids: Vec<JobId> = raw.claim(4).into_iter().map(|c| c.job.id).collect();
    for (id, state) in ids.iter().zip([State::Succeeded, State::Failed]) {
        raw.end(raw.at(*id).job, state);
    }
    raw.advance(SECOND * 10);
    raw.end(raw.at(ids[2]).job, State::Succeeded);
    raw.advance(SECOND * 10);
    let keep = Retention {
        succeeded_before: Timestamp::EPOCH,
        others_before: Timestamp::EPOCH,
        most: usize::MAX,
    };
    assert_eq!(raw.engine.prune(keep, 99, raw.now()).unwrap(), 0);
    let ended = |ago: u64| raw.now().as_micros() - Duration::from_secs(ago).as_micros() as i64;
    let keep = Retention {
        succeeded_before: Timestamp::from_micros(ended(15)),
        ..keep
    };
    assert_eq!(raw.engine.prune(keep, 99, raw.now()).unwrap(), 1);
    assert!(raw.engine.get(ids[0]).unwrap().is_none());
    let keep = Retention {
        others_before: Timestamp::MAX,
        succeeded_before: Timestamp::MAX,
        ..keep
    };
    assert_eq!(
        raw.engine.prune(keep, 1, raw.now()).unwrap(),
        1,
        "no more than the limit"
    );
    assert_eq!(raw.engine.prune(keep, 99, raw.now()).unwrap(), 1);
    let counts = raw.counts();
    assert_eq!((counts.kept, counts.running, counts.queued), (0, 1, 2));
    assert!(
        counts.balanced(),
        "what is forgotten is still counted: {counts:?}"
    );
}

/// Beyond the most that are kept, the oldest finished jobs go first.
pub fn the_oldest_finished_jobs_go_first(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(10));
    let ids: Vec<JobId> = raw
        .claim(10)
        .into_iter()
        .map(|c| {
            raw.advance(SECOND);
            raw.end(c.job, State::Succeeded);
            c.job.id
        })
        .collect();
    let keep = Retention {
        succeeded_before: Timestamp::EPOCH,
        others_before: Timestamp::EPOCH,
        most: 4,
    };
    assert_eq!(raw.engine.prune(keep, 99, raw.now()).unwrap(), 6);
    let known: Vec<bool> = ids
        .iter()
        .map(|id| raw.engine.get(*id).unwrap().is_some())
        .collect();
    assert_eq!(known, [[false; 6].as_slice(), &[true; 4]].concat());
}

/// B1: a `now` that is earlier than one before harms nothing: leases and timeouts end when they would have.
pub fn a_now_that_goes_back_harms_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    let start = raw.now();
    let leased = raw.add(raw.spec());
    raw.claim_leased(1, SECOND * 10);
    let timed = raw.add(Spec {
        timeout: Some(SECOND * 20),
        ..raw.spec()
    });
    raw.claim_one();
    let scheduled = raw.add(Spec {
        run_at: raw.in_(SECOND * 30),
        ..raw.spec()
    });
    let raw = raw.at_time(Timestamp::from_micros(start.as_micros() - 3_600_000_000));
    assert!(raw.causes().is_empty() && raw.tick().promoted == 0);
    let between = raw.add(raw.spec());
    assert_eq!(raw.claimed_ids(9), [between], "what is ready is ready");
    let raw = raw.at_time(start.after(SECOND * 15));
    assert_eq!(raw.causes(), [(leased, Cause::Lease)]);
    let raw = raw.at_time(start.after(SECOND * 30));
    raw.tick();
    assert_eq!(raw.causes().len(), 2);
    assert_eq!(
        (raw.state(timed), raw.state(scheduled)),
        (State::Running, State::Queued)
    );
    assert!(raw.counts().balanced());
}

/// B1: a clock that jumps a year ahead ends what is due by then, each thing once.
pub fn a_clock_that_jumps_ahead_ends_what_is_due(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    let timed = stage.push(job().timeout(SECOND).max_attempts(1));
    let body = stage.take();
    let mortal = stage.push(job().expires_after(SECOND * 60));
    let delayed = stage.push(job().delay(SECOND * 60));
    stage.advance(Duration::from_secs(3600 * 24 * 365));
    assert_eq!(
        [stage.state(timed), stage.state(mortal), stage.state(delayed)],
        [State::Failed, State::Expired, State::Queued]
    );
    assert_eq!(body.complete(Outcome::done()).unwrap(), Answer::Stale);
    stage.check_balance();
}

/// Through the dispatcher: retention makes an id unknown, for each final state after its own time.
pub fn a_forgotten_job_is_not_found(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.retention = SECOND * 10;
        o.retention_failed = SECOND * 100;
    });
    let good = stage.push(job());
    stage.run(Outcome::done());
    let bad = stage.push(job());
    stage.run(Outcome::fatal("no"));
    let live = stage.push(job());
    stage.advance(SECOND * 9);
    assert_eq!(stage.state(good), State::Succeeded);
    stage.advance(SECOND * 4);
    assert_eq!(stage.d.get(good).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(stage.state(bad), State::Failed);
    stage.advance(SECOND * 200);
    assert_eq!(
        stage.d.wait(bad, at_once()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(stage.state(live), State::Queued, "live jobs never vanish");
    assert_eq!(stage.d.list(&Filter::default()).unwrap().total, 1);
    stage.check_balance();
}

/// Upkeep says when it wants to be called again.
pub fn upkeep_says_when_to_come_again(make: Make<'_>) {
    let stage = Stage::new(make);
    assert_eq!(stage.d.upkeep().unwrap(), Timestamp::MAX, "nothing is due, ever");
    stage.push(job().delay(SECOND * 30));
    assert_eq!(stage.d.upkeep().unwrap(), stage.d.now().after(SECOND * 30));
    stage.push(job().expires_after(SECOND * 20));
    assert_eq!(stage.d.upkeep().unwrap(), stage.d.now().after(SECOND * 20));
}

/// A delay, an absolute start and a start in the past, through the dispatcher (row 18, R-27).
pub fn delays_hold_no_slot(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 1);
    let delayed = stage.push(job().delay(SECOND * 5).priority(9));
    let at = stage.push(job().run_at(stage.d.now().after(SECOND * 3)).priority(9));
    let past = stage.push(job().run_at(Timestamp::EPOCH));
    stage.run(Outcome::done());
    assert_eq!(
        stage.state(past),
        State::Succeeded,
        "the waiting ones hold no slot"
    );
    assert!(stage.try_take().is_none());
    assert_eq!(
        (stage.state(delayed), stage.d.stats().unwrap().bodies),
        (State::Scheduled, 0)
    );
    stage.advance(SECOND * 3);
    stage.run(Outcome::done());
    assert_eq!(stage.state(at), State::Succeeded);
    stage.advance(SECOND * 2);
    let lease = stage.take();
    assert_eq!(
        (lease.id(), stage.get(delayed).started),
        (delayed, Some(stage.d.now()))
    );
}

/// Delays beyond every calendar are refused or kept, never wrapped (B4).
pub fn endless_delays_do_not_wrap(make: Make<'_>) {
    let stage = Stage::new(make);
    let ids = [
        stage.push(job().delay(Duration::MAX)),
        stage.push(job().run_at(Timestamp::MAX)),
        stage.push(job().run_at(Timestamp::from_micros(253_402_300_800_000_000))),
        stage.push(
            job()
                .expires_after(Duration::MAX)
                .delay(Duration::from_secs(u64::MAX)),
        ),
    ];
    stage.advance(Duration::from_secs(3600 * 24 * 365 * 50));
    assert!(stage.try_take().is_none());
    assert!(ids.iter().all(|id| stage.state(*id) == State::Scheduled));
}

/// Row 20: an attempt that takes too long is told, fails as timed out, and its answer comes too late.
pub fn an_attempt_that_takes_too_long(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    let id = stage.push(job().timeout(SECOND).max_attempts(2));
    let first = stage.take();
    assert_eq!(first.due(), Some(stage.d.now().after(SECOND)));
    stage.advance(SECOND / 2);
    assert!(!first.cancelled());
    stage.advance(SECOND / 2);
    assert_eq!(
        (first.cancelled(), first.stop_reason()),
        (true, Some(StopReason::TimedOut))
    );
    assert_eq!(first.check().unwrap_err().kind(), ErrorKind::Cancelled);
    let job = stage.get(id);
    assert!(job.retrying(), "the policy applies");
    assert_eq!(job.error.map(|e| e.kind), Some(FailureKind::TimedOut));
    assert_eq!(first.complete(Outcome::done()).unwrap(), Answer::Stale);
    assert_eq!(stage.state(id), State::Scheduled);
    stage.advance(SECOND);
    assert_eq!(stage.run(Outcome::done()), Answer::Stored(State::Succeeded));
    let history: Vec<_> = stage
        .get(id)
        .history
        .into_iter()
        .map(|a| a.failure.map(|f| f.kind))
        .collect();
    assert_eq!(history, [Some(FailureKind::TimedOut), None]);
    assert_eq!(stage.counts().totals.stale, 1);
}

/// a body that does not listen: one run, failed as timed out at its timeout, slot held until it ends.
pub fn a_timed_out_body_holds_its_slot(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 1);
    let id = stage.push(job().timeout(SECOND).max_attempts(1));
    let next = stage.push(job());
    let body = stage.take();
    stage.advance(SECOND);
    let ended = stage.get(id);
    assert_eq!(
        (ended.state, ended.finished),
        (State::Failed, Some(stage.d.now()))
    );
    assert_eq!(ended.error.unwrap().kind, FailureKind::TimedOut);
    stage.advance(SECOND * 13);
    assert!(stage.try_take().is_none(), "the body still runs");
    assert_eq!((stage.d.stats().unwrap().bodies, stage.counts().running), (1, 0));
    assert_eq!(
        body.complete(Outcome::done()).unwrap(),
        Answer::Stale,
        "the late result is refused"
    );
    assert_eq!(stage.state(id), State::Failed);
    assert_eq!(stage.take().id(), next);
    assert_eq!(stage.get(id).attempt, 1);
}

/// twenty bodies that all take too long are twenty timeouts.
pub fn every_slow_body_times_out(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 20);
    let ids: Vec<JobId> = (0..20)
        .map(|_| stage.push(job().timeout(Duration::from_millis(100)).max_attempts(1)))
        .collect();
    let mut bodies = Vec::new();
    stage.consumer().next_many(20, at_once(), &mut bodies).unwrap();
    stage.advance(Duration::from_millis(300));
    for body in bodies {
        assert_eq!(body.complete(Outcome::done()).unwrap(), Answer::Stale);
    }
    for id in ids {
        assert_eq!(stage.get(id).error.unwrap().kind, FailureKind::TimedOut);
    }
    assert_eq!(
        (stage.counts().totals.failed, stage.counts().totals.succeeded),
        (20, 0)
    );
}

/// Row 53: a job whose deadline passes before it starts has expired, with its reason.
pub fn a_job_past_its_deadline_expires(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().expires_after(SECOND));
    let at = stage.push(job().deadline(stage.d.now().after(SECOND)));
    let gone = stage.push(job().deadline(Timestamp::EPOCH));
    stage.advance(SECOND * 2);
    for id in [id, at, gone] {
        let job = stage.get(id);
        assert_eq!((job.state, job.attempt), (State::Expired, 0));
        assert_eq!(job.error.unwrap().kind, FailureKind::Expired);
    }
    assert!(stage.try_take().is_none());
    assert_eq!(stage.counts().totals.expired, 3);
}

/// An attempt that times out past the deadline of its job leaves nothing to wait for: both are seen at once.
pub fn an_attempt_that_ends_past_the_deadline_was_the_last(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    let id = stage.push(job().timeout(SECOND * 2).expires_after(SECOND).max_attempts(2));
    let body = stage.take();
    stage.advance(SECOND * 2);
    assert_eq!(body.stop_reason(), Some(StopReason::TimedOut));
    let ended = stage.get(id);
    assert_eq!((ended.state, ended.attempt), (State::Expired, 1));
    assert_eq!(ended.finished, Some(stage.d.now()));
}

/// Rows 17, 21 and R-26: a job that always loses its lease fails after its last attempt, as lease lost.
pub fn a_lost_lease_is_an_attempt(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.lease = Some(SECOND));
    let id = stage.push(job().max_attempts(3));
    let mut dead = Vec::new();
    for attempt in 1..=3 {
        let lease = stage.take();
        assert_eq!(
            (lease.attempt(), stage.get(id).attempt),
            (attempt, attempt),
            "stored before the body"
        );
        dead.push(lease);
        stage.advance(SECOND);
    }
    let job = stage.get(id);
    assert_eq!((job.state, job.attempt), (State::Failed, 3));
    assert_eq!(job.error.unwrap().kind, FailureKind::LeaseLost);
    assert_eq!(job.history.len(), 3);
    assert!(stage.try_take().is_none());
    for lease in dead {
        assert_eq!(lease.stop_reason(), Some(StopReason::LeaseLost));
        assert_eq!(lease.complete(Outcome::done()).unwrap(), Answer::Stale);
    }
}

/// C1: a handler that extends its lease keeps it; one that does not hears that it lost it.
pub fn a_slow_handler_extends_its_lease(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.lease = Some(SECOND));
    let id = stage.push(job());
    let lease = stage.take();
    for _ in 0..10 {
        stage.advance(SECOND / 2);
        lease.extend(SECOND).unwrap();
    }
    assert_eq!((stage.state(id), lease.cancelled()), (State::Running, false));
    stage.advance(SECOND);
    assert!(lease.cancelled());
    assert_eq!(lease.extend(SECOND).unwrap_err().kind(), ErrorKind::Stale);
    assert_eq!(lease.complete(Outcome::done()).unwrap(), Answer::Stale);
    assert_eq!(stage.state(id), State::Queued);
}

/// a wait that is too short says so, with the state.
pub fn a_wait_may_be_too_short(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    let lease = stage.take();
    let error = stage
        .d
        .wait(id, Deadline::after(Duration::from_millis(20)))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("running"), "{error}");
    lease.complete(Outcome::done()).unwrap();
    assert_eq!(stage.d.wait(id, at_once()).unwrap().state, State::Succeeded);
}
