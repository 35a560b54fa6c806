//! What becomes of a failed attempt.

use std::time::Duration;

use super::Make;
use super::stage::{SECOND, Stage, job};
use crate::config::KindOptions;
use crate::error::ErrorKind;
use crate::job::{NewJob, State};
use crate::outcome::{FailureKind, Outcome};
use crate::{Answer, JobId, RetryPolicy};

/// Runs the next job of a stage whose policy is `policy`, failing each time; gives the seconds of the starts.
fn starts(make: Make<'_>, policy: RetryPolicy, attempts: u32) -> Vec<u64> {
    let stage = Stage::with(make, |o| o.retry = policy);
    let (id, start) = (stage.push(job().max_attempts(attempts)), stage.d.now());
    let mut starts = Vec::new();
    loop {
        let lease = stage.take();
        starts.push(stage.d.now().since(start).as_secs());
        lease.complete(Outcome::failed("no")).unwrap();
        assert_eq!(stage.d.stats().unwrap().bodies, 0, "a pause holds no slot");
        let job = stage.get(id);
        if job.state == State::Failed {
            assert_eq!(
                job.finished,
                Some(stage.d.now()),
                "no pause trails the last failure"
            );
            return starts;
        }
        let pause = job.run_at.since(stage.d.now());
        if pause > Duration::ZERO {
            assert!(job.retrying());
            stage.advance(pause - Duration::from_micros(1));
            assert!(stage.try_take().is_none(), "the pause is kept");
            stage.advance(Duration::from_micros(1));
        }
    }
}

/// Row 12: so many attempts as said, then failed.
pub fn three_attempts_are_three(make: Make<'_>) {
    assert_eq!(starts(make, RetryPolicy::constant(SECOND), 1), [0]);
    assert_eq!(starts(make, RetryPolicy::constant(SECOND), 3), [0, 1, 2]);
}

/// R-23 and row 16: linear backoff starts at 0, 1 and 3 seconds, and ends with the last failure.
pub fn linear_backoff_grows_by_the_gap(make: Make<'_>) {
    assert_eq!(starts(make, RetryPolicy::linear(SECOND), 3), [0, 1, 3]);
    assert_eq!(starts(make, RetryPolicy::linear(SECOND), 5), [0, 1, 3, 6, 10]);
}

/// Row 16: exponential backoff doubles, up to its cap.
pub fn exponential_backoff_doubles_to_its_cap(make: Make<'_>) {
    assert_eq!(
        starts(make, RetryPolicy::exponential(SECOND), 5),
        [0, 1, 3, 7, 15]
    );
    assert_eq!(
        starts(make, RetryPolicy::exponential(SECOND).capped(SECOND * 3), 5),
        [0, 1, 3, 6, 9]
    );
}

/// Row 16: without backoff the next attempt may start at once.
pub fn no_backoff_is_no_pause(make: Make<'_>) {
    assert_eq!(starts(make, RetryPolicy::none(), 4), [0, 0, 0, 0]);
}

/// Row 16: jitter takes its share of the pause and no more; jobs that failed together come back apart.
pub fn jitter_spreads_the_pauses(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.retry = RetryPolicy::constant(SECOND * 100).with_jitter(0.5);
        o.concurrency = 100;
    });
    let ids: Vec<JobId> = (0..50).map(|_| stage.push(job())).collect();
    for _ in &ids {
        stage.run(Outcome::failed("together"));
    }
    let mut pauses: Vec<Duration> = ids
        .iter()
        .map(|id| stage.get(*id).run_at.since(stage.d.now()))
        .collect();
    assert!(
        pauses.iter().all(|p| (SECOND * 50..=SECOND * 100).contains(p)),
        "{pauses:?}"
    );
    pauses.sort_unstable();
    pauses.dedup();
    assert!(pauses.len() > 40, "{} of 50 differ", pauses.len());
}

/// a job of which no number of attempts was said runs, and fails by the default.
pub fn the_default_number_of_attempts(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::none());
    let id = stage.push(job());
    assert_eq!(stage.get(id).max_attempts, None);
    for attempt in 1..=5 {
        let lease = stage.take();
        assert_eq!((lease.attempt(), lease.max_attempts()), (attempt, 5));
        lease.complete(Outcome::failed("no")).unwrap();
    }
    assert_eq!((stage.state(id), stage.get(id).attempt), (State::Failed, 5));
    assert!(stage.try_take().is_none());
}

/// Job over kind over dispatcher: whoever is nearer to the job decides about its attempts and pauses.
pub fn the_nearer_word_counts(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.max_attempts = 9;
        o.retry = RetryPolicy::constant(SECOND * 9);
    });
    let options = KindOptions::new()
        .max_attempts(4)
        .retry(RetryPolicy::constant(SECOND * 4));
    stage.d.declare("own", options.timeout(SECOND * 44)).unwrap();
    for (new, attempts, pause) in [
        (NewJob::new("k", ()), 9, 9),
        (NewJob::new("own", ()), 4, 4),
        (
            NewJob::new("own", ())
                .max_attempts(2)
                .retry(RetryPolicy::constant(SECOND * 2)),
            2,
            2,
        ),
    ] {
        let id = stage.push(new);
        let lease = stage.take();
        assert_eq!(lease.max_attempts(), attempts);
        lease.complete(Outcome::failed("no")).unwrap();
        assert_eq!(stage.get(id).run_at, stage.d.now().after(SECOND * pause));
    }
}

/// Zero attempts is an error, not a job that never runs.
pub fn zero_attempts_are_refused(make: Make<'_>) {
    let stage = Stage::new(make);
    let refused = stage.d.push(job().max_attempts(0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("at least 1"), "{refused}");
    assert_eq!(
        stage
            .d
            .declare("k", KindOptions::new().max_attempts(0))
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
}

/// Row 15: attempts without end need a pause; such a job goes on, and can be cancelled.
pub fn endless_attempts_need_a_pause(make: Make<'_>) {
    let stage = Stage::new(make);
    let endless = || job().max_attempts(u32::MAX);
    let refused = stage.d.push(endless().retry(RetryPolicy::none())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let id = stage.push(endless().retry(RetryPolicy::constant(SECOND)));
    for attempt in 1..=50 {
        let lease = stage.take();
        assert_eq!(lease.attempt(), attempt);
        lease.complete(Outcome::failed("no")).unwrap();
        assert!(stage.try_take().is_none());
        stage.advance(SECOND);
    }
    stage.d.pause("default").unwrap();
    assert!(stage.try_take().is_none());
    stage.d.resume("default").unwrap();
    assert_eq!(stage.d.cancel(id).unwrap(), State::Cancelled);
    assert!(stage.try_take().is_none());
}

/// The pause that endless attempts need is the one that will be kept: the job's, its kind's, the default.
pub fn the_pause_that_counts_is_checked(make: Make<'_>) {
    let stage = Stage::new(make);
    stage
        .d
        .declare("hasty", KindOptions::new().retry(RetryPolicy::none()))
        .unwrap();
    let refused = stage
        .d
        .push(NewJob::new("hasty", ()).max_attempts(u32::MAX))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let patient = KindOptions::new()
        .max_attempts(u32::MAX)
        .retry(RetryPolicy::constant(SECOND));
    stage.d.declare("patient", patient).unwrap();
    stage.push(NewJob::new("patient", ()));
    let refused = stage
        .d
        .push(NewJob::new("patient", ()).retry(RetryPolicy::none()))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let endless = stage.d.declare(
        "endless",
        KindOptions::new()
            .max_attempts(u32::MAX)
            .retry(RetryPolicy::none()),
    );
    assert_eq!(endless.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Row 14: a fatal failure ends the job, whatever attempts are left.
pub fn a_fatal_failure_ends_the_job(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().max_attempts(9));
    assert_eq!(
        stage.run(Outcome::fatal("no such address")),
        Answer::Stored(State::Failed)
    );
    let job = stage.get(id);
    assert_eq!(
        job.error.map(|e| (e.kind, e.message)),
        Some((FailureKind::Fatal, "no such address".into()))
    );
    assert_eq!(job.attempt, 1);
}

/// Rows 13 and 19: a handler that asks to run again sets the pause itself, once.
pub fn a_handler_may_ask_to_run_again(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    let id = stage.push(job().max_attempts(3));
    stage.run(Outcome::retry(SECOND * 7));
    assert_eq!(stage.get(id).run_at, stage.d.now().after(SECOND * 7));
    stage.advance(SECOND * 7);
    stage.run(Outcome::Retry {
        after: None,
        reason: "the policy's pause, then".into(),
    });
    assert_eq!(stage.get(id).run_at, stage.d.now().after(SECOND));
    stage.advance(SECOND);
    assert_eq!(stage.run(Outcome::retry(SECOND)), Answer::Stored(State::Failed));
    let error = stage.get(id).error.unwrap();
    assert_eq!(error.kind, FailureKind::OverMaxAttempts);
    assert!(error.message.contains("over max attempts"), "{error}");
}

/// A snoozed attempt does not count, however often it is snoozed.
pub fn a_snooze_does_not_count(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().max_attempts(1));
    for _ in 0..10 {
        stage.run(Outcome::snooze(SECOND));
        let job = stage.get(id);
        assert_eq!(
            (job.state, job.attempt, job.retrying()),
            (State::Scheduled, 0, false)
        );
        assert!(stage.try_take().is_none());
        stage.advance(SECOND);
    }
    assert_eq!(stage.run(Outcome::done()), Answer::Stored(State::Succeeded));
    assert_eq!((stage.get(id).attempt, stage.counts().totals.returned), (1, 10));
}

/// between two attempts the job is retrying, never failed.
pub fn between_attempts_a_job_is_retrying(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    let id = stage.push(job().timeout(SECOND).max_attempts(3));
    let mut seen = vec![stage.state(id)];
    let mut bodies = Vec::new();
    for _ in 0..12 {
        bodies.extend(stage.try_take());
        seen.push(stage.state(id));
        stage.advance(SECOND / 2);
        seen.push(stage.state(id));
    }
    seen.dedup();
    use State::{Failed, Queued, Running, Scheduled};
    let finals = seen.iter().filter(|s| s.is_final()).count();
    assert_eq!((finals, seen.last()), (1, Some(&Failed)), "{seen:?}");
    assert!(
        seen.iter()
            .all(|s| matches!(s, Queued | Running | Scheduled | Failed)),
        "{seen:?}"
    );
    assert_eq!(seen.iter().filter(|s| **s == Running).count(), 3);
}

/// B5: many jobs that fail together all come back, none early.
pub fn a_storm_of_retries_comes_back_whole(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.retry = RetryPolicy::exponential(SECOND).with_jitter(0.3);
        o.concurrency = 5000;
    });
    let jobs: Vec<_> = (0..3000).map(|_| job().max_attempts(2)).collect();
    stage.d.push_many(&jobs).unwrap();
    let mut consumer = stage.consumer();
    let mut leases = Vec::new();
    assert_eq!(
        consumer
            .next_many(5000, super::stage::at_once(), &mut leases)
            .unwrap(),
        3000
    );
    let failed = leases
        .drain(..)
        .map(|l| (l, Outcome::failed("together")))
        .collect::<Vec<_>>();
    assert_eq!(
        consumer
            .complete_and_next_many(failed, 0, &mut leases)
            .unwrap()
            .len(),
        3000
    );
    stage.advance(Duration::from_millis(699));
    assert_eq!(stage.counts().queued, 0, "none is early");
    stage.advance(Duration::from_millis(301));
    assert_eq!(stage.counts().queued, 3000, "none is late");
    stage.check_balance();
}
