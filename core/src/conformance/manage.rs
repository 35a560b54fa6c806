//! What operators do: cancel, retry, pause, purge, count, explain.

use super::Make;
use super::stage::{SECOND, Stage, at_once, job, soon};
use crate::config::{KindOptions, QueueOptions};
use crate::dispatcher::{Answer, Why};
use crate::engine::Totals;
use crate::error::ErrorKind;
use crate::event::EventKind;
use crate::job::{NewJob, State};
use crate::outcome::{FailureKind, Outcome};
use crate::{RetryPolicy, StopReason};

/// Row 39: a waiting job is cancelled at once, in whatever way it waits, and never runs.
pub fn a_waiting_job_is_cancelled_at_once(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    let retrying = stage.push(job());
    stage.run(Outcome::failed("no"));
    let jobs = [
        retrying,
        stage.push(job()),
        stage.push(job().delay(SECOND)),
        stage.push(job().waits_for("t")),
    ];
    for id in jobs {
        assert_eq!(stage.d.cancel(id).unwrap(), State::Cancelled);
        let job = stage.get(id);
        assert_eq!(
            (job.state, job.error.unwrap().kind),
            (State::Cancelled, FailureKind::Cancelled)
        );
        assert_eq!(
            stage.d.cancel(id).unwrap(),
            State::Cancelled,
            "again changes nothing"
        );
    }
    stage.advance(SECOND * 10);
    assert!(stage.try_take().is_none());
    assert_eq!(
        (stage.counts().waiting(), stage.counts().totals.cancelled),
        (0, 4)
    );
    stage.check_balance();
}

/// Row 39: a running job is asked to stop, and is cancelled when its body ends, whatever the body says.
pub fn a_running_job_is_cancelled_when_its_body_ends(make: Make<'_>) {
    let stage = Stage::new(make);
    for outcome in [
        Outcome::done(),
        Outcome::failed("no"),
        Outcome::snooze(SECOND),
        Outcome::Cancelled("yes".into()),
    ] {
        let id = stage.push(job());
        let lease = stage.take();
        assert_eq!(stage.d.cancel(id).unwrap(), State::Running);
        assert_eq!(
            (lease.cancelled(), lease.stop_reason()),
            (true, Some(StopReason::Cancelled))
        );
        assert_eq!(
            (stage.state(id), stage.get(id).cancel_requested),
            (State::Running, true)
        );
        assert_eq!(
            stage.d.cancel(id).unwrap(),
            State::Running,
            "asking twice is asking once"
        );
        assert_eq!(lease.complete(outcome).unwrap(), Answer::Stored(State::Cancelled));
        let job = stage.get(id);
        assert!(job.result.is_none() && job.error.unwrap().kind == FailureKind::Cancelled);
    }
    assert!(stage.try_take().is_none());
    stage.check_balance();
}

/// A job that is over stays what it is.
pub fn a_finished_job_is_not_cancelled(make: Make<'_>) {
    let stage = Stage::new(make);
    let good = stage.push(job());
    stage.run(Outcome::done());
    let bad = stage.push(job());
    stage.run(Outcome::fatal("no"));
    assert_eq!(stage.d.cancel(good).unwrap(), State::Succeeded);
    assert_eq!(stage.d.cancel(bad).unwrap(), State::Failed);
    assert_eq!(
        (stage.state(good), stage.state(bad)),
        (State::Succeeded, State::Failed)
    );
}

/// A cancelled job that times out as well is cancelled, not retried.
pub fn a_cancelled_job_that_times_out_is_cancelled(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().timeout(SECOND));
    let lease = stage.take();
    stage.d.cancel(id).unwrap();
    stage.advance(SECOND);
    assert_eq!(stage.state(id), State::Cancelled);
    assert_eq!(lease.complete(Outcome::done()).unwrap(), Answer::Stale);
}

/// Of a cancellation and a success that race, one wins, and what is told agrees with what is stored.
pub fn a_cancellation_races_a_success(make: Make<'_>) {
    let stage = Stage::new(make);
    for _ in 0..300 {
        let id = stage.push(job());
        let lease = stage.take();
        let (cancelled, answer) = std::thread::scope(|scope| {
            let d = stage.d.clone();
            let canceller = scope.spawn(move || d.cancel(id).unwrap());
            let answer = lease.complete(Outcome::done()).unwrap();
            (canceller.join().unwrap(), answer)
        });
        let state = stage.state(id);
        assert_eq!(answer, Answer::Stored(state));
        match cancelled {
            State::Running => assert_eq!(state, State::Cancelled, "the request was stored first"),
            seen => assert_eq!(seen, state),
        }
        assert_eq!(stage.get(id).result.is_some(), state == State::Succeeded);
    }
    stage.check_balance();
}

/// Row 38: a paused queue accepts jobs and starts none; other queues and running jobs go on.
pub fn a_paused_queue_starts_nothing(make: Make<'_>) {
    let stage = Stage::new(make);
    let running = stage.push(job().queue("q"));
    let body = stage.take();
    stage.d.pause("q").unwrap();
    let held = stage.push(job().queue("q"));
    let other = stage.push(job());
    assert_eq!(stage.take().id(), other);
    assert!(stage.try_take().is_none());
    assert_eq!(
        body.complete(Outcome::done()).unwrap(),
        Answer::Stored(State::Succeeded)
    );
    assert_eq!(
        (stage.state(running), stage.state(held)),
        (State::Succeeded, State::Queued)
    );
    assert!(stage.d.stats().unwrap().queue("q").unwrap().paused);
    stage.d.resume("q").unwrap();
    assert_eq!(stage.take().id(), held);
}

/// R-29: paused before the first claim, then workers, then resumed: runs once.
pub fn paused_before_the_first_claim(make: Make<'_>) {
    let stage = Stage::new(make);
    stage.d.pause("default").unwrap();
    let id = stage.push(job());
    std::thread::scope(|scope| {
        let mut consumer = stage.consumer();
        let worker = scope.spawn(move || {
            let lease = consumer.next(soon()).unwrap().expect("it runs when resumed");
            let id = lease.id();
            lease.complete(Outcome::done()).unwrap();
            id
        });
        assert!(stage.d.settle_to(1, std::time::Duration::from_secs(60)));
        stage.d.resume("default").unwrap();
        assert_eq!(worker.join().unwrap(), id);
    });
    assert_eq!(stage.counts().totals.claimed, 1);
}

/// What becomes ready in a paused queue waits too: scheduled jobs, retries.
pub fn a_pause_holds_what_becomes_ready(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    stage.push(job());
    stage.run(Outcome::failed("no"));
    stage.push(job().delay(SECOND));
    stage.d.pause("default").unwrap();
    stage.advance(SECOND * 5);
    assert!(stage.try_take().is_none());
    assert_eq!(stage.counts().queued, 2);
    stage.d.resume("default").unwrap();
    assert_eq!(
        (stage.try_take().is_some(), stage.try_take().is_some()),
        (true, true)
    );
}

/// R-48 and row 55: the length of a queue is what waits in it.
pub fn the_length_is_what_waits(make: Make<'_>) {
    let stage = Stage::new(make);
    assert_eq!(stage.d.len("default").unwrap(), 0);
    assert_eq!(stage.d.len("never named").unwrap(), 0);
    stage.push(job());
    assert_eq!(stage.d.len("default").unwrap(), 1);
    stage.push(job().delay(SECOND));
    stage.push(job().waits_for("t"));
    stage.push(job().queue("other"));
    assert_eq!(stage.d.len("default").unwrap(), 3);
    let mut consumer = stage.consumer().queues([stage.d.queue("default").unwrap()]);
    let lease = consumer.next(at_once()).unwrap().unwrap();
    assert_eq!(stage.d.len("default").unwrap(), 2, "what runs does not wait");
    lease.complete(Outcome::done()).unwrap();
    assert_eq!(stage.d.len("default").unwrap(), 2);
}

/// Row 55: a purge ends what waits in a queue and says how many; the rest goes on.
pub fn a_purge_ends_what_waits(make: Make<'_>) {
    let stage = Stage::new(make);
    let running = stage.push(job());
    let body = stage.take();
    let ids = [
        stage.push(job()),
        stage.push(job().delay(SECOND)),
        stage.push(job().waits_for("t")),
    ];
    let other = stage.push(job().queue("other"));
    assert_eq!(stage.d.purge("default").unwrap(), 3);
    for id in ids {
        let job = stage.get(id);
        assert_eq!(
            (job.state, job.error.unwrap().kind),
            (State::Cancelled, FailureKind::Purged)
        );
    }
    assert_eq!(
        (stage.state(running), stage.state(other)),
        (State::Running, State::Queued)
    );
    assert_eq!(
        body.complete(Outcome::done()).unwrap(),
        Answer::Stored(State::Succeeded)
    );
    assert_eq!(stage.d.purge("default").unwrap(), 0);
    assert_eq!(stage.d.purge("never named").unwrap(), 0);
    stage.check_balance();
}

/// Row 55: a purge of more jobs than a page holds ends all of them.
pub fn a_purge_ends_all_pages(make: Make<'_>) {
    let stage = Stage::new(make);
    let jobs: Vec<NewJob<'_>> = (0..crate::Filter::MAX_LIMIT + 500).map(|_| job()).collect();
    stage.d.push_many(&jobs).unwrap();
    assert_eq!(stage.d.purge("default").unwrap(), jobs.len());
    assert_eq!(stage.d.len("default").unwrap(), 0);
}

/// Row 55: jobs that have waited long can be found by the time of their push.
pub fn long_waiting_jobs_are_found(make: Make<'_>) {
    let stage = Stage::new(make);
    let old = stage.push(job());
    stage.advance(SECOND * 60);
    stage.push(job());
    let waiting = crate::Filter {
        states: vec![State::Queued, State::Scheduled, State::Blocked],
        created_before: Some(stage.d.now()),
        ..crate::Filter::default()
    };
    let page = stage.d.list(&waiting).unwrap();
    assert_eq!((page.total, page.jobs[0].id), (1, old));
}

/// The counts of all queues add up, one by one and together, and are written for Prometheus.
pub fn stats_add_up(make: Make<'_>) {
    let stage = Stage::new(make);
    let name = "odd \"name\"\\";
    stage.push(job().queue(name));
    stage.push(job());
    stage.run(Outcome::done());
    stage.push(job());
    let body = stage.take();
    let stats = stage.d.stats().unwrap();
    let total = stats.total();
    assert_eq!(
        (
            total.totals.pushed,
            total.totals.succeeded,
            total.running,
            total.queued
        ),
        (3, 1, 1, 1)
    );
    assert_eq!((stats.bodies, stats.concurrency, stats.hook_failures), (1, 8, 0));
    assert!(stats.queues.iter().all(|q| q.counts.balanced()) && total.balanced());
    let text = stats.to_prometheus();
    assert!(
        text.contains("forebay_jobs_queued{queue=\"odd \\\"name\\\"\\\\\"} "),
        "{text}"
    );
    assert!(text.contains("forebay_bodies 1"), "{text}");
    let told = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(
        (told("# HELP "), told("# TYPE ")),
        (7 + Totals::COUNT, 7 + Totals::COUNT)
    );
    drop(body);
}

/// Row 70: every reason why a job does not run is given.
pub fn explain_says_why(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.concurrency = 2;
        o.retry = RetryPolicy::constant(SECOND * 5);
    });
    let why = |id| stage.d.explain(id).unwrap().reasons;
    stage.d.declare("k", KindOptions::new()).unwrap();
    let strange = stage.push(NewJob::new("strange", ()).priority(-9));
    assert_eq!(why(strange), [Why::NoHandler("strange".into())]);
    let scheduled = stage.push(job().delay(SECOND * 3));
    assert_eq!(
        why(scheduled),
        [Why::NotYet {
            after: SECOND * 3,
            retry: false
        }]
    );
    let blocked = stage.push(job().waits_for("t"));
    assert_eq!(why(blocked), [Why::Blocked(vec!["t".into()])]);
    let retrying = stage.push(job());
    assert_eq!(why(retrying), [Why::NoWorker]);
    stage.run(Outcome::failed("no"));
    assert_eq!(
        why(retrying),
        [Why::NotYet {
            after: SECOND * 5,
            retry: true
        }]
    );
    stage.d.pause("paused").unwrap();
    let paused = stage.push(job().queue("paused"));
    assert_eq!(why(paused), [Why::QueuePaused("paused".into())]);
    let running = stage.push(job());
    let body = stage.take();
    stage.advance(SECOND);
    assert_eq!(why(running), [Why::Running(SECOND)]);
    let next = stage.push(job().priority(-128));
    assert_eq!(why(next), [Why::Waiting { queued: 2 }]);
    let second = stage.push(job());
    let other = stage.take();
    assert_eq!(other.id(), second);
    let limit = |what: &str, limit| Why::Limit {
        what: what.into(),
        limit,
    };
    assert_eq!(why(next), [limit("the dispatcher", 2)]);
    stage.d.cancel(running).unwrap();
    assert_eq!(why(running), [Why::Stopping(SECOND)]);
    body.complete(Outcome::done()).unwrap();
    let over = why(running);
    assert!(
        matches!(&over[..], [Why::Over(Some(f))] if f.kind == FailureKind::Cancelled),
        "{over:?}"
    );
    other.complete(Outcome::done()).unwrap();
    assert_eq!(why(second), [Why::Over(None)]);
    let text = stage.d.explain(next).unwrap().to_string();
    assert!(
        text.contains("queued") && text.contains(&next.to_string()),
        "{text}"
    );
}

/// Row 70: limits of a queue and of a kind are named.
pub fn explain_names_the_limit(make: Make<'_>) {
    let stage = Stage::new(make);
    stage.d.declare("k", KindOptions::new().concurrency(1)).unwrap();
    stage
        .d
        .configure_queue("default", QueueOptions::new().concurrency(1))
        .unwrap();
    stage.push(job());
    let body = stage.take();
    let id = stage.push(job());
    let explanation = stage.d.explain(id).unwrap();
    let text = explanation.to_string();
    assert_eq!(explanation.reasons.len(), 2, "{text}");
    assert!(
        text.contains("queue \"default\"") && text.contains("kind \"k\""),
        "{text}"
    );
    stage.d.request_stop();
    assert_eq!(stage.d.explain(id).unwrap().reasons[0], Why::DispatcherStopping);
    drop(body);
}

/// A request to cancel is an event; so is the end it leads to.
pub fn cancelling_is_told(make: Make<'_>) {
    let stage = Stage::new(make);
    let events = stage.d.subscribe(10);
    let id = stage.push(job());
    stage.d.cancel(id).unwrap();
    let kinds: Vec<EventKind> = events.drain().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Pushed, EventKind::Cancelled]);
}

/// Bad names and options are refused where they are said.
pub fn bad_configuration_is_refused(make: Make<'_>) {
    let engine = make();
    for set in [
        |o: &mut crate::Options| o.concurrency = 0,
        |o: &mut crate::Options| o.max_attempts = 0,
        |o: &mut crate::Options| o.queue = String::new(),
        |o: &mut crate::Options| o.max_payload = usize::MAX,
        |o: &mut crate::Options| o.lease = Some(std::time::Duration::ZERO),
    ] {
        let mut options = crate::Options::default();
        set(&mut options);
        let refused = crate::Dispatcher::with_engine(engine.clone(), options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    let stage = Stage::new(make);
    assert_eq!(stage.d.pause("").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(
        stage.d.declare("", KindOptions::new()).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let spread = crate::RetryPolicy::DEFAULT.with_jitter(f64::NAN);
    let refused = stage
        .d
        .declare("k", KindOptions::new().retry(spread))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert_eq!(
        stage
            .d
            .configure_queue("\n", QueueOptions::new())
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
}

/// What holds a whole queue back: its pause, the kinds of its queued jobs that nobody takes, a limit.
pub fn explain_tells_of_a_queue(make: Make<'_>) {
    let stage = Stage::new(make);
    let why = |queue: &str| stage.d.explain_queue(queue).unwrap().reasons;
    let unknown = stage.d.explain_queue("mail").unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    stage.d.declare("k", KindOptions::new()).unwrap();
    let to_mail = || job().queue("mail");
    stage.push(to_mail().delay(SECOND));
    assert_eq!(why("mail"), [Why::NothingQueued]);
    stage.push(to_mail());
    assert_eq!(why("mail"), [Why::NoWorker]);
    stage.push(NewJob::new("strange", ()).queue("mail"));
    stage.push(NewJob::new("elsewhere", ()).queue("other"));
    assert_eq!(why("mail"), [Why::NoHandler("strange".into())]);
    stage.d.pause("mail").unwrap();
    assert_eq!(why("mail")[0], Why::QueuePaused("mail".into()));
    let told = stage.d.explain_queue("mail").unwrap();
    let counts = &told.queue.counts;
    assert_eq!((counts.queued, counts.scheduled, counts.paused), (2, 1, true));
    let (text, json) = (told.to_string(), told.to_json());
    assert!(
        text.contains("\"mail\" has 3 jobs that wait") && text.contains("resume it"),
        "{text}"
    );
    assert!(
        json.contains(r#""name":"queue_paused""#) && json.contains(r#""queued":2"#),
        "{json}"
    );
}

/// Row 35: a finished job runs again as a new one that does the same; the old one stays as it is.
pub fn a_finished_job_is_retried(make: Make<'_>) {
    let stage = Stage::new(make);
    let old = stage.push(
        NewJob::new("k", b"input")
            .queue("mail")
            .priority(7)
            .max_attempts(1)
            .timeout(SECOND)
            .retry(RetryPolicy::linear(SECOND))
            .expires_after(SECOND * 60)
            .key("order-17")
            .header("tenant", "a"),
    );
    stage.d.cancel(old).unwrap();
    stage.advance(SECOND * 120);
    let again = stage.d.retry(old, None).unwrap();
    assert!(again.created && again.id != old);
    let (was, is) = (stage.get(old), stage.get(again.id));
    assert_eq!((was.state, is.state), (State::Cancelled, State::Queued));
    assert_eq!((is.attempt, is.max_attempts, is.deadline), (0, Some(1), None));
    assert_eq!((&is.kind, &is.queue, is.priority), (&was.kind, &was.queue, 7));
    assert_eq!((is.timeout, is.headers()), (was.timeout, was.headers()));
    assert_eq!(
        is.extras.as_ref().unwrap().retry,
        was.extras.as_ref().unwrap().retry
    );
    assert_eq!(is.payload.as_bytes(), Some(&b"input"[..]));
    assert_eq!(is.key(), Some(&*format!("retry:{old}")));
    stage.check_balance();
}

/// Row 35: a repeated retry makes no second job, whatever has become of the first; another input is refused.
pub fn a_retry_is_made_once(make: Make<'_>) {
    let stage = Stage::new(make);
    let old = stage.push(job().max_attempts(1));
    stage.run(Outcome::failed("no"));
    let first = stage.d.retry(old, None).unwrap();
    let second = stage.d.retry(old, None).unwrap();
    assert_eq!((second.id, second.created), (first.id, false));
    let other = stage.d.retry(old, Some(b"other".into())).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert!(other.to_string().contains("another input"), "{other}");
    stage.run(Outcome::fatal("no"));
    assert_eq!(stage.d.retry(old, None).unwrap().id, first.id);
    let third = stage.d.retry(first.id, None).unwrap();
    assert!(third.created, "the retry that failed can be retried");
    stage.check_balance();
}

/// Row 35: the input of a retry is replaced exactly.
pub fn a_retry_may_have_another_input(make: Make<'_>) {
    let stage = Stage::new(make);
    let old = stage.push(job());
    stage.run(Outcome::done());
    let without = stage.d.retry(old, None).unwrap_err();
    assert_eq!(without.kind(), ErrorKind::Invalid, "a success keeps no payload");
    let input = b"\x00\xff{\"n\":1e400}";
    let again = stage.d.retry(old, Some(input.into())).unwrap();
    assert_eq!(stage.get(again.id).payload.as_bytes(), Some(&input[..]));
}

/// What is not over, or unknown, is not retried.
pub fn what_is_not_over_is_not_retried(make: Make<'_>) {
    let stage = Stage::new(make);
    let refused = |id| stage.d.retry(id, None).unwrap_err();
    let queued = stage.push(job());
    let scheduled = stage.push(job().delay(SECOND));
    for (id, state) in [(queued, "queued"), (scheduled, "scheduled")] {
        let error = refused(id);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(state), "{error}");
    }
    let body = stage.take();
    assert!(refused(queued).to_string().contains("running"));
    body.complete(Outcome::done()).unwrap();
    assert_eq!(refused(crate::JobId::NIL).kind(), ErrorKind::NotFound);
}
