//! The life of a job as its owner sees it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Make;
use super::stage::{SECOND, Stage, at_once, job, soon};
use crate::dispatcher::{Answer, End, Hooks, Lease};
use crate::error::{Error, ErrorKind};
use crate::event::EventKind;
use crate::job::{Job, NewJob, State};
use crate::outcome::{FailureKind, Outcome};
use crate::payload::Payload;
use crate::{Deadline, Dispatcher, JSON, JobId, RetryPolicy, Timestamp};

/// Rows 1 and 6: right after its push a job is known and queued; then it runs; then it is over.
pub fn a_job_has_a_state_at_once(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    assert_eq!(stage.state(id), State::Queued);
    let lease = stage.take();
    assert_eq!((lease.id(), stage.state(id)), (id, State::Running));
    assert_eq!(
        (lease.attempt(), &*lease.queue(), &*lease.kind()),
        (1, "default", "k")
    );
    assert_eq!(
        lease.complete(Outcome::done()).unwrap(),
        Answer::Stored(State::Succeeded)
    );
    assert_eq!(stage.state(id), State::Succeeded);
    stage.check_balance();
}

/// Row 5: a success leaves its result, to be read by id.
pub fn a_result_is_read_by_id(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    stage.run(Outcome::Success(Payload::json(&[1, 2]).unwrap()));
    for job in [stage.get(id), stage.d.wait(id, at_once()).unwrap()] {
        let result = job.result.unwrap().encode().unwrap();
        assert_eq!((&result.bytes[..], &*result.content_type), (&b"[1,2]"[..], JSON));
        assert!(job.error.is_none());
    }
}

/// Row 5: a failure leaves its kind, text and attempt.
pub fn an_error_is_read_by_id(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().max_attempts(1));
    stage.run(Outcome::failed("connection refused"));
    let job = stage.get(id);
    let error = job.error.unwrap();
    assert_eq!(
        (error.kind, &*error.message, job.attempt),
        (FailureKind::Error, "connection refused", 1)
    );
    assert!(job.result.is_none());
}

/// whatever is asked of an unknown id, the answer is that it is not known.
pub fn an_unknown_id_is_not_found(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = JobId::new(stage.d.now());
    let errors = [
        stage.d.get(id).map(|_| ()).unwrap_err(),
        stage.d.state(id).map(|_| ()).unwrap_err(),
        stage.d.cancel(id).map(|_| ()).unwrap_err(),
        stage.d.explain(id).map(|_| ()).unwrap_err(),
        stage.d.wait(id, at_once()).map(|_| ()).unwrap_err(),
        stage.d.signal(id, "t").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
}

/// R-25 and row 8: with one slot, jobs start in the order they were pushed.
pub fn one_slot_keeps_the_order(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 1);
    let ids: Vec<JobId> = (0..6).map(|_| stage.push(job())).collect();
    let mut consumer = stage.consumer();
    let mut lease = consumer.next(at_once()).unwrap();
    let mut seen = Vec::new();
    while let Some(running) = lease {
        seen.push(running.id());
        lease = consumer.complete_and_next(running, Outcome::done()).unwrap().1;
    }
    assert_eq!(seen, ids);
}

/// Row 9: higher priorities first, equal ones in order, the default being zero.
pub fn priorities_count(make: Make<'_>) {
    let stage = Stage::new(make);
    let low = stage.push(job().priority(-1));
    let plain = [stage.push(job()), stage.push(job().priority(0))];
    let high = stage.push(job().priority(1));
    let seen: Vec<JobId> = (0..4)
        .map(|_| {
            let lease = stage.take();
            let id = lease.id();
            lease.complete(Outcome::done()).unwrap();
            id
        })
        .collect();
    assert_eq!(seen, [high, plain[0], plain[1], low]);
}

/// Row 4 and R-18: numbers, text and nesting of a JSON payload come through exactly.
pub fn json_comes_through_exactly(make: Make<'_>) {
    let stage = Stage::new(make);
    type Value = (f64, i64, u64, String, Vec<Option<(i64, bool)>>);
    let value: Value = (
        1.5,
        9_007_199_254_740_993,
        u64::MAX,
        "\u{0}\"é".into(),
        vec![None, Some((i64::MIN, true))],
    );
    let id = stage.push(NewJob::new("k", Payload::json(&value).unwrap()));
    let lease = stage.take();
    let seen: Value = lease.payload().parse().unwrap();
    assert_eq!(seen, value);
    let answer = Payload::json(&seen).unwrap();
    lease.complete(Outcome::Success(answer)).unwrap();
    assert_eq!(stage.get(id).result.unwrap().parse::<Value>().unwrap(), value);
}

/// D2 and D4: names of every kind of text are kept apart and given back; what cannot be a name is refused.
pub fn names_are_only_names(make: Make<'_>) {
    let stage = Stage::new(make);
    let long = "x".repeat(255);
    let names = [
        "../",
        "a:b",
        "{tag}",
        "q:stats",
        "'; drop table jobs; --",
        "%s%n",
        "名前",
        "\u{feff}a",
        "\u{202e}b",
        &long,
    ];
    for name in names {
        let id = stage.push(
            NewJob::new(name, ())
                .queue(name)
                .key(name)
                .header(name, "\u{1b}[31m\n"),
        );
        let job = stage.get(id);
        assert_eq!((&*job.queue, &*job.kind, job.key()), (name, name, Some(name)));
        assert_eq!(job.headers(), [(name.to_owned(), "\u{1b}[31m\n".to_owned())]);
    }
    assert_eq!(
        stage
            .d
            .stats()
            .unwrap()
            .queues
            .iter()
            .filter(|q| q.counts.queued == 1)
            .count(),
        names.len()
    );
    let before = stage.counts().totals.pushed;
    let longer = "x".repeat(256);
    for bad in ["", "\0", "a\nb", "\u{7f}", &longer] {
        for new in [
            NewJob::new(bad, ()),
            job().queue(bad),
            job().key(bad),
            job().header(bad, ""),
            job().waits_for(bad),
        ] {
            assert_eq!(
                stage.d.push(new).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{bad:?}"
            );
        }
    }
    assert_eq!(stage.counts().totals.pushed, before);
}

/// D1: payloads up to the limit are accepted, one byte more is refused; so is a result.
pub fn payloads_have_a_limit(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.max_payload = 1000);
    for len in [0, 1, 999, 1000] {
        let id = stage.push(NewJob::new("k", vec![7u8; len]));
        assert_eq!(stage.get(id).payload.len(), Some(len));
        stage.run(Outcome::Success(vec![7u8; len].into()));
        assert_eq!(stage.get(id).result.unwrap().len(), Some(len));
    }
    let refused = stage.d.push(NewJob::new("k", vec![7u8; 1001])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(
        refused.to_string().contains("1001") && refused.to_string().contains("1000"),
        "{refused}"
    );
    let payload = format!("{:?}", refused.into_job());
    assert!(payload.contains("1001 bytes"), "the job comes back: {payload}");
}

/// R-46 and C7: an answer that cannot be kept is a failed attempt with a reason, and is not lost.
pub fn a_bad_answer_is_a_failure_with_a_reason(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.max_payload = 10);
    let id = stage.push(job().max_attempts(1));
    stage.run(Outcome::Success(vec![0u8; 11].into()));
    let job = stage.get(id);
    assert_eq!(job.state, State::Failed);
    assert!(job.error.unwrap().message.contains("11 bytes"));
}

/// D6: a batch is checked first: with one bad job in it, none is accepted; an empty one is fine.
pub fn a_batch_is_checked_first(make: Make<'_>) {
    let stage = Stage::new(make);
    assert_eq!(stage.d.push_many(&[]).unwrap(), []);
    let mut jobs: Vec<NewJob<'_>> = (0..2000).map(|_| job()).collect();
    jobs[1999] = job().max_attempts(0);
    let error = stage.d.push_many(&jobs).unwrap_err();
    assert_eq!((error.pushed.len(), error.error.kind()), (0, ErrorKind::Invalid));
    assert_eq!(stage.counts().totals.pushed, 0);
    jobs.pop();
    assert_eq!(stage.d.push_many(&jobs).unwrap().len(), 1999);
    assert_eq!(stage.counts().queued, 1999);
}

/// D6: of a batch that is given away, the jobs that were not accepted are left, with all that they carry.
pub fn a_batch_that_is_given_away_keeps_what_was_not_taken(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 3);
    let carrying = |i| NewJob::new("k", format!("payload {i}")).header("number", format!("{i}"));
    let mut jobs: Vec<NewJob<'_>> = (0..5).map(carrying).collect();
    jobs[4] = carrying(4).max_attempts(0);
    let refused = stage.d.push_from(&mut jobs).unwrap_err();
    assert_eq!((refused.pushed.len(), jobs.len()), (0, 5), "it is checked first");
    jobs[4] = carrying(4);
    let refused = stage.d.push_from(&mut jobs).unwrap_err();
    assert_eq!((refused.pushed.len(), refused.error.kind()), (3, ErrorKind::Full));
    for (i, pushed) in refused.pushed.iter().enumerate() {
        let lease = stage.take();
        assert_eq!(lease.id(), pushed.id);
        assert_eq!(
            lease.payload().as_bytes(),
            Some(format!("payload {i}").as_bytes())
        );
        lease.complete(Outcome::done()).unwrap();
    }
    assert_eq!(stage.d.push_from_within(&mut jobs, SECOND * 60).unwrap().len(), 2);
    assert!(jobs.is_empty());
    for i in 3..5 {
        let lease = stage.take();
        assert_eq!(
            lease.payload().as_bytes(),
            Some(format!("payload {i}").as_bytes())
        );
        assert_eq!(lease.headers()[0].1, i.to_string());
        lease.complete(Outcome::done()).unwrap();
    }
    assert_eq!(stage.d.push_from(&mut jobs).unwrap(), []);
}

/// what one job brings along (headers, policy) is not seen by another.
pub fn nothing_leaks_between_jobs(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND * 7));
    let a = stage.push(job().header("secret", "A").retry(RetryPolicy::constant(SECOND)));
    let b = stage.push(job());
    let (first, second) = (stage.take(), stage.take());
    assert_eq!(first.headers(), [("secret".to_owned(), "A".to_owned())]);
    assert!(second.headers().is_empty() && stage.get(b).headers().is_empty());
    first.complete(Outcome::failed("no")).unwrap();
    second.complete(Outcome::failed("no")).unwrap();
    assert_eq!(stage.get(a).run_at, stage.d.now().after(SECOND));
    assert_eq!(
        stage.get(b).run_at,
        stage.d.now().after(SECOND * 7),
        "the default gap"
    );
}

/// A lease that is dropped without an answer is a failed attempt, not a lost job.
pub fn a_dropped_lease_is_a_failed_attempt(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().max_attempts(1));
    drop(stage.take());
    let job = stage.get(id);
    assert_eq!((job.state, job.attempt), (State::Failed, 1));
    assert!(job.error.unwrap().message.contains("without an answer"));
    assert_eq!(stage.d.stats().unwrap().bodies, 0, "the slot is free");
}

/// A handler may give up the job itself.
pub fn a_handler_may_cancel_its_job(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    assert_eq!(
        stage.run(Outcome::Cancelled("nobody wants it".into())),
        Answer::Stored(State::Cancelled)
    );
    let error = stage.get(id).error.unwrap();
    assert_eq!(
        (error.kind, &*error.message),
        (FailureKind::Cancelled, "nobody wants it")
    );
}

/// Follow-ups are stored with the answer, or neither is.
pub fn follow_ups_come_with_the_answer(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 1);
    let id = stage.push(job());
    let lease = stage.take();
    let answer = lease
        .complete_and_push(Outcome::done(), &[job(), job().key("key")])
        .unwrap();
    assert_eq!(answer, Answer::Stored(State::Succeeded));
    assert_eq!(
        (stage.state(id), stage.counts().queued),
        (State::Succeeded, 2),
        "capacity does not refuse them"
    );
    let lease = stage.take();
    let failed = lease.id();
    let conflict = [job(), NewJob::new("k", b"other").key("key")];
    let error = lease.complete_and_push(Outcome::done(), &conflict).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let failed = stage.get(failed);
    assert!(
        failed.retrying(),
        "the attempt has failed, and the job with its follow-up is not lost"
    );
    assert!(failed.error.unwrap().message.contains("follow-up"));
    assert_eq!(stage.counts().queued, 1);
}

/// A late answer stores no follow-ups.
pub fn a_late_answer_has_no_follow_ups(make: Make<'_>) {
    let stage = Stage::new(make);
    stage.push(job().timeout(SECOND).max_attempts(1));
    let lease = stage.take();
    stage.advance(SECOND);
    assert_eq!(
        lease.complete_and_push(Outcome::done(), &[job()]).unwrap(),
        Answer::Stale
    );
    assert_eq!((stage.counts().queued, stage.counts().totals.stale), (0, 1));
}

/// Row 46: the history tells of each attempt: node, worker, start, end, and what became of it.
pub fn the_history_tells_of_each_attempt(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.node = "here".into();
        o.retry = RetryPolicy::constant(SECOND);
    });
    let id = stage.push(job());
    let start = stage.d.now();
    let mut consumer = stage.consumer();
    for outcome in [Outcome::failed("first"), Outcome::retry(SECOND), Outcome::done()] {
        let lease = consumer.next(at_once()).unwrap().unwrap();
        stage.advance(SECOND);
        lease.complete(outcome).unwrap();
        stage.advance(SECOND);
    }
    let job = stage.get(id);
    assert_eq!(job.history.len(), 3);
    for (i, attempt) in job.history.iter().enumerate() {
        let started = start.after(SECOND * 2 * i as u32);
        assert_eq!(
            (attempt.number, &*attempt.node, attempt.worker),
            (i as u32 + 1, "here", consumer.worker())
        );
        assert_eq!((attempt.started, attempt.ended), (started, started.after(SECOND)));
    }
    let failures: Vec<_> = job
        .history
        .iter()
        .map(|a| a.failure.as_ref().map(|f| f.message.to_string()))
        .collect();
    assert_eq!(failures[0].as_deref(), Some("first"));
    assert!(failures[1].is_some() && failures[2].is_none());
}

/// What hooks were told.
#[derive(Default)]
struct Witness(Mutex<Vec<String>>);

impl Hooks for Witness {
    fn before(&self, lease: &Lease) {
        self.0.lock().push(format!("before {}", lease.attempt()));
    }

    fn after(&self, lease: &Lease, outcome: &Outcome, took: std::time::Duration) {
        let how = if matches!(outcome, Outcome::Success(_)) {
            "well"
        } else {
            "badly"
        };
        self.0
            .lock()
            .push(format!("after {} {how} {}s", lease.attempt(), took.as_secs()));
    }

    fn finished(&self, end: &End) {
        let why = end.failure.as_ref().map_or("", |f| f.kind.name());
        self.0
            .lock()
            .push(format!("finished {} {} {why}", end.state, end.attempts));
    }
}

/// Row 44: before and after each attempt, and once at the end, in whatever way a job ends.
pub fn hooks_see_each_attempt_and_the_end(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::none());
    let witness = Arc::new(Witness::default());
    stage.d.add_hooks(witness.clone());
    let seen = || std::mem::take(&mut *witness.0.lock());
    stage.push(job());
    for outcome in [Outcome::failed("no"), Outcome::done()] {
        let lease = stage.take();
        let outcome = lease.run(|_| {
            stage.clock.advance(SECOND);
            outcome
        });
        lease.complete(outcome).unwrap();
    }
    assert_eq!(
        seen(),
        [
            "before 1",
            "after 1 badly 1s",
            "before 2",
            "after 2 well 1s",
            "finished succeeded 2 "
        ]
    );
    let waiting = stage.push(job());
    stage.d.cancel(waiting).unwrap();
    assert_eq!(seen(), ["finished cancelled 0 cancelled"]);
    stage.push(job().expires_after(SECOND));
    stage.advance(SECOND);
    assert_eq!(seen(), ["finished expired 0 expired"]);
    stage.push(job().timeout(SECOND).max_attempts(1));
    let lease = stage.take();
    stage.advance(SECOND);
    assert_eq!(seen(), ["finished failed 1 timed_out"]);
    lease.complete(Outcome::done()).unwrap();
    assert!(seen().is_empty(), "the end comes once");
    stage.push(job());
    stage.d.purge("default").unwrap();
    assert_eq!(seen(), ["finished cancelled 0 purged"]);
}

/// A hook that panics, wherever it can.
struct Fragile;

impl Hooks for Fragile {
    fn before(&self, _: &Lease) {
        panic!("before");
    }
    fn after(&self, _: &Lease, _: &Outcome, _: std::time::Duration) {
        panic!("after");
    }
    fn finished(&self, _: &End) {
        panic!("finished");
    }
}

/// a hook that panics changes nothing for the job; it is counted and reported.
pub fn a_hook_that_panics_changes_nothing(make: Make<'_>) {
    let stage = Stage::new(make);
    let events = stage.d.subscribe(100);
    let witness = Arc::new(Witness::default());
    stage.d.add_hooks(Arc::new(Fragile));
    stage.d.add_hooks(witness.clone());
    let id = stage.push(job());
    let lease = stage.take();
    let outcome = lease.run(|_| Outcome::Success("fine".into()));
    assert_eq!(lease.complete(outcome).unwrap(), Answer::Stored(State::Succeeded));
    assert_eq!(stage.get(id).result.unwrap().as_bytes(), Some(&b"fine"[..]));
    assert_eq!(stage.d.stats().unwrap().hook_failures, 3);
    assert_eq!(
        events.drain().filter(|e| e.kind == EventKind::HookFailed).count(),
        3
    );
    assert_eq!(
        witness.0.lock().len(),
        3,
        "the other hooks are called all the same"
    );
}

/// A hook that would wait for the job it is told of.
struct Waiting(Dispatcher, Mutex<Vec<ErrorKind>>);

impl Waiting {
    fn try_all(&self) {
        let second = Deadline::after(SECOND);
        let errors = [
            self.0.stop(SECOND).map(|_| ()).unwrap_err(),
            self.0.drain(second).unwrap_err(),
        ];
        self.1.lock().extend(errors.iter().map(Error::kind));
    }
}

impl Hooks for Waiting {
    fn before(&self, _: &Lease) {
        self.try_all();
    }
    fn after(&self, _: &Lease, _: &Outcome, _: std::time::Duration) {
        self.try_all();
    }
    fn finished(&self, _: &End) {
        self.try_all();
    }
}

/// C12: a hook that would wait for the end it is told of is refused at once.
pub fn a_hook_may_not_wait_for_itself(make: Make<'_>) {
    let stage = Stage::new(make);
    let hook = Arc::new(Waiting(stage.d.clone(), Mutex::default()));
    stage.d.add_hooks(hook.clone());
    stage.push(job());
    let lease = stage.take();
    let outcome = lease.run(|_| Outcome::done());
    lease.complete(outcome).unwrap();
    stage.push(job().expires_after(SECOND));
    stage.advance(SECOND);
    assert_eq!(*hook.1.lock(), [ErrorKind::WouldDeadlock; 8]);
    stage.d.stop(SECOND).unwrap();
}

/// R-16 and row 3: a panic is a failed attempt with its text, and the next job runs.
pub fn a_panic_is_a_failed_attempt(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::none());
    let id = stage.push(job().max_attempts(2));
    for (attempt, state) in [(1, State::Queued), (2, State::Failed)] {
        let lease = stage.take();
        let outcome = lease.run(|_| panic!("boom {}", lease.attempt()));
        assert_eq!(lease.complete(outcome).unwrap(), Answer::Stored(state));
        let error = stage.get(id).error.unwrap();
        assert_eq!(
            (error.kind, &*error.message),
            (FailureKind::Panic, format!("boom {attempt}").as_str())
        );
    }
    for _ in 0..3 {
        stage.push(job());
        stage.run(Outcome::done());
    }
    let totals = stage.counts().totals;
    assert_eq!((totals.failed, totals.succeeded), (1, 3));
}

/// Panics without a text, and with a value that panics as it is dropped (C3).
pub fn a_panic_may_carry_anything(make: Make<'_>) {
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("and again");
            }
        }
    }
    let stage = Stage::with(make, |o| o.max_attempts = 1);
    let panics: [fn(); 4] = [
        || std::panic::panic_any(7),
        || std::panic::panic_any(String::from("owned")),
        || std::panic::panic_any(Mine),
        || panic!("static"),
    ];
    for (panic, want) in panics
        .into_iter()
        .zip(["without a text", "owned", "without a text", "static"])
    {
        let id = stage.push(job());
        let lease = stage.take();
        let outcome = lease.run(|_| {
            panic();
            Outcome::done()
        });
        lease.complete(outcome).unwrap();
        let error = stage.get(id).error.unwrap();
        assert!(
            error.kind == FailureKind::Panic && error.message.contains(want),
            "{error}"
        );
    }
    assert_eq!(stage.d.stats().unwrap().bodies, 0);
}

/// Row 45: events tell of a job's life in order, with queue, kind, attempt, time taken and failure.
pub fn events_tell_of_a_life(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND));
    let events = stage.d.subscribe(100);
    let id = stage.push(job().timeout(SECOND * 2));
    let lease = stage.take();
    stage.advance(SECOND);
    lease.complete(Outcome::failed("no")).unwrap();
    stage.advance(SECOND);
    let late = stage.take();
    stage.advance(SECOND * 2);
    late.complete(Outcome::done()).unwrap();
    stage.advance(SECOND * 2);
    stage.run(Outcome::snooze(SECOND));
    stage.advance(SECOND);
    let lease = stage.take();
    stage.d.cancel(id).unwrap();
    lease.complete(Outcome::done()).unwrap();
    use EventKind::*;
    let events: Vec<_> = events.drain().collect();
    let kinds: Vec<EventKind> = events.iter().map(|e| e.kind).collect();
    let want = [
        Pushed,
        Started,
        Retried,
        Started,
        Retried,
        Stale,
        Started,
        Returned,
        Started,
        CancelRequested,
        Cancelled,
    ];
    assert_eq!(kinds, want);
    let (queue, kind) = (stage.d.queue("default").unwrap(), stage.d.kind("k").unwrap());
    assert!(
        events
            .iter()
            .all(|e| (e.id, e.queue, e.job_kind) == (id, Some(queue), Some(kind)))
    );
    let retried = &events[2];
    assert_eq!(
        (retried.attempt, retried.took, retried.failure),
        (1, Some(SECOND), Some(FailureKind::Error))
    );
    assert_eq!(
        (events[4].took, events[4].failure),
        (Some(SECOND * 2), Some(FailureKind::TimedOut))
    );
    assert!(events.windows(2).all(|w| w[0].at <= w[1].at));
}

/// A listener that does not listen loses events, which are counted; the queue goes on.
pub fn a_full_event_buffer_brakes_nothing(make: Make<'_>) {
    let stage = Stage::new(make);
    let events = stage.d.subscribe(2);
    for _ in 0..5 {
        stage.push(job());
    }
    assert_eq!((events.drain().count(), events.dropped()), (2, 3));
}

/// R-45 and row 43: a wait returns the job as soon as it is over, well or badly.
pub fn a_wait_returns_at_the_end(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.max_attempts = 1);
    for (outcome, state) in [
        (Outcome::done(), State::Succeeded),
        (Outcome::failed("no"), State::Failed),
    ] {
        let id = stage.push(job());
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let d = stage.d.clone();
                    scope.spawn(move || d.wait(id, soon()).unwrap())
                })
                .collect();
            super::stage::until("three waiters", || {
                stage.d.0.engine.signals().finished.waiters() == 3
            });
            stage.run(outcome);
            for waiter in waiters {
                let job: Job = waiter.join().unwrap();
                assert_eq!((job.id, job.state), (id, state));
            }
        });
        assert_eq!(
            stage.d.wait(id, at_once()).unwrap().state,
            state,
            "and again, later"
        );
        assert_eq!(stage.d.0.engine.signals().finished.waiters(), 0);
    }
}

/// A wait also ends when the job is cancelled, purged or expires.
pub fn a_wait_ends_with_every_end(make: Make<'_>) {
    let stage = Stage::new(make);
    for end in ["cancel", "purge", "expire"] {
        let id = stage.push(job().expires_after(SECOND));
        std::thread::scope(|scope| {
            let d = stage.d.clone();
            let waiter = scope.spawn(move || d.wait(id, soon()).unwrap().state);
            super::stage::until("the waiter", || {
                stage.d.0.engine.signals().finished.waiters() == 1
            });
            match end {
                "cancel" => drop(stage.d.cancel(id)),
                "purge" => drop(stage.d.purge("default")),
                _ => stage.advance(SECOND),
            }
            assert!(waiter.join().unwrap().is_final(), "{end}");
        });
    }
}

/// Row 1: a push is accepted with an id that can be used at once, also if the caller made it.
pub fn the_pusher_may_make_the_id(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = JobId::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
    assert_eq!(stage.push(job().id(id)), id);
    assert_eq!(stage.get(id).id, id);
    assert_eq!(stage.take().id(), id);
}

/// C19: a kind may be declared after its jobs were pushed, and again while one runs.
pub fn a_kind_may_be_declared_late(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    stage
        .d
        .declare("k", crate::KindOptions::new().max_attempts(1))
        .unwrap();
    let lease = stage.take();
    assert_eq!(lease.max_attempts(), 1);
    stage
        .d
        .declare("k", crate::KindOptions::new().max_attempts(9))
        .unwrap();
    lease.complete(Outcome::failed("no")).unwrap();
    assert_eq!(stage.state(id), State::Failed, "a running job keeps its own");
    stage.push(job());
    assert_eq!(stage.take().max_attempts(), 9);
}

/// Row 2: the push of a kind nobody handles here is an error, if so configured, and names the known ones.
pub fn an_unknown_kind_may_be_refused(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.unknown_kinds = crate::UnknownKinds::Reject);
    stage.d.declare("known", crate::KindOptions::new()).unwrap();
    let refused = stage.d.push(NewJob::new("unknown", ())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownKind);
    let text = refused.to_string();
    assert!(
        text.contains("\"unknown\"") && text.contains("\"known\""),
        "{text}"
    );
    stage.push(NewJob::new("known", ()));
    assert_eq!(stage.counts().totals.pushed, 1);
}

/// A job may wait for tokens, and runs when the last has come.
pub fn a_job_may_wait_for_tokens(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().waits_for("paid").waits_for("packed"));
    assert_eq!(stage.state(id), State::Blocked);
    stage.d.signal(id, "packed").unwrap();
    assert!(stage.try_take().is_none());
    stage.d.signal(id, "paid").unwrap();
    assert_eq!(stage.take().id(), id);
}

/// Times of a job's life are those of the clock.
pub fn times_are_those_of_the_clock(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    let pushed = stage.d.now();
    stage.advance(SECOND);
    let lease = stage.take();
    assert_eq!(lease.created(), pushed);
    stage.advance(SECOND);
    lease.complete(Outcome::done()).unwrap();
    let job = stage.get(id);
    let want: [Timestamp; 3] = [pushed, pushed.after(SECOND), pushed.after(SECOND * 2)];
    assert_eq!([job.created, job.started.unwrap(), job.finished.unwrap()], want);
}
