//! Rules in force, on a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{KindOptions, QueueOptions};
use crate::{
    Answer, Consumer, Deadline, Dispatcher, ErrorKind, EventKind, JobId, KindSet, Lease, ManualClock, NewJob,
    Options, Outcome, RetryPolicy, ShedReason, State,
};

mod changes;

const NOW: Deadline = Deadline::NEVER;

struct Stand {
    d: Dispatcher,
    clock: Arc<ManualClock>,
    consumer: Consumer,
}

fn options(pairs: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    for (name, value) in pairs {
        options.set(name, value).expect("it is an option");
    }
    options
}

fn queue(pairs: &[(&str, &str)]) -> QueueOptions {
    let mut options = QueueOptions::new();
    for (name, value) in pairs {
        options.set(name, value).expect("it is an option");
    }
    options
}

fn kind(pairs: &[(&str, &str)]) -> KindOptions {
    let mut options = KindOptions::new();
    for (name, value) in pairs {
        options.set(name, value).expect("it is an option");
    }
    options
}

impl Stand {
    fn new(pairs: &[(&str, &str)]) -> Self {
        let clock = Arc::new(ManualClock::new());
        let d = Dispatcher::open_with_clock("memory:", options(pairs), clock.clone());
        let d = d.expect("the options fit");
        let consumer = d.consumer(Arc::new(KindSet::any()));
        Self { d, clock, consumer }
    }

    fn push(&self, kind: &str) -> JobId {
        self.d.push(NewJob::new(kind, ())).expect("the engine answers").id
    }

    fn push_many(&self, kind: &str, count: usize) -> Vec<JobId> {
        (0..count).map(|_| self.push(kind)).collect()
    }

    /// The names of what holds a job back.
    fn why(&self, id: JobId) -> Vec<&'static str> {
        let reasons = self.d.explain(id).expect("the engine answers").reasons;
        reasons.iter().map(crate::Why::name).collect()
    }

    /// Up to this many leases, without waiting.
    fn take(&mut self, most: usize) -> Vec<Lease> {
        let mut leases = Vec::new();
        let soon = Deadline::after(Duration::ZERO);
        self.consumer
            .next_many(most, soon, &mut leases)
            .expect("the engine answers");
        leases
    }

    /// Moves the clock; when upkeep wants to come again, from now on.
    fn pass(&self, ms: u64) -> Option<Duration> {
        self.clock.advance(Duration::from_millis(ms));
        let next = self.d.upkeep().expect("the engine answers");
        let now = self.d.now();
        (next < crate::Timestamp::MAX).then(|| next.since(now))
    }

    fn total(&self, name: &str) -> u64 {
        let totals = self.d.stats().expect("the engine answers").total().totals.named();
        totals
            .into_iter()
            .find(|(n, _)| *n == name)
            .expect("the engine answers")
            .1
    }

    fn check_balance(&self) {
        assert!(self.d.stats().expect("the engine answers").total().balanced());
        assert_eq!(self.d.stats().expect("the engine answers").bodies, 0);
    }
}

fn finish(leases: Vec<Lease>, outcome: impl Fn() -> Outcome) {
    for lease in leases {
        lease.complete(outcome()).expect("the engine answers");
    }
}

#[test]
fn a_queue_starts_no_faster_than_its_rate() {
    let mut s = Stand::new(&[]);
    s.d.configure_queue("default", queue(&[("rate", "10/s burst=2")]))
        .unwrap();
    let ids = s.push_many("k", 5);
    let leases = s.take(9);
    assert_eq!(leases.len(), 2);
    finish(leases, Outcome::done);
    assert_eq!(s.take(9).len(), 0);
    assert_eq!(s.why(ids[4]), ["no_handler", "rate"]);
    let queue = s.d.explain_queue("default").unwrap();
    assert!(
        queue
            .to_string()
            .contains("the rate of queue \"default\" allows the next start in 100ms")
    );
    assert_eq!(s.d.stats().unwrap().bodies, 0, "a limited job holds no slot");
    let ring = s.d.0.engine.signals().work.listen();
    assert_eq!(
        s.pass(99),
        Some(Duration::from_millis(1)),
        "the sweeper knows when"
    );
    assert!(!ring.wait(Deadline::after(Duration::ZERO)));
    let ring = s.d.0.engine.signals().work.listen();
    s.pass(1);
    assert!(ring.wait(Deadline::after(Duration::ZERO)), "and rings then");
    finish(s.take(9), Outcome::done);
    assert_eq!((s.total("succeeded"), s.take(9).len()), (3, 0));
    s.check_balance();
}

#[test]
fn a_kind_at_its_rate_keeps_no_other_from_running() {
    let mut s = Stand::new(&[]);
    s.d.declare("slow", kind(&[("rate", "1/s")])).unwrap();
    for name in ["slow", "slow", "other", "slow", "other"] {
        s.push(name);
    }
    let leases = s.take(9);
    let kinds: Vec<_> = leases.iter().map(|lease| lease.kind().to_string()).collect();
    assert_eq!(kinds, ["slow", "other", "other"]);
    finish(leases, Outcome::done);
    assert_eq!(s.take(9).len(), 0);
    assert_eq!(s.pass(0), Some(Duration::from_secs(1)));
    s.pass(1000);
    let leases = s.take(9);
    assert_eq!(leases.len(), 1);
    finish(leases, Outcome::done);
}

#[test]
fn starts_that_found_no_job_are_given_back() {
    let mut s = Stand::new(&[]);
    s.d.configure_queue("default", queue(&[("rate", "1/h burst=3")]))
        .unwrap();
    s.d.declare("k", kind(&[("rate", "1/h burst=3")])).unwrap();
    s.push("other");
    assert_eq!(s.take(9).len(), 1);
    s.push("k");
    assert_eq!(s.take(9).len(), 1);
    s.push_many("k", 3);
    let left = s.take(9);
    assert_eq!(left.len(), 1, "of the queue's three");
    finish(left, Outcome::done);
}

#[test]
fn a_consumer_that_waits_for_a_rate_is_woken() {
    let s = Stand::new(&[]);
    s.d.configure_queue("default", queue(&[("rate", "1/s")])).unwrap();
    s.push_many("k", 2);
    let Stand {
        d,
        mut consumer,
        clock,
    } = s;
    finish(vec![consumer.next(NOW).unwrap().unwrap()], Outcome::done);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.next(Deadline::after(Duration::from_secs(60))));
        assert!(d.settle_to(1, Duration::from_secs(60)), "it waits");
        clock.advance(Duration::from_secs(1));
        d.upkeep().unwrap();
        assert!(waiting.join().unwrap().unwrap().is_some());
    });
}

#[test]
fn what_waited_too_long_in_an_overloaded_queue_is_shed() {
    let mut s = Stand::new(&[("delay_target", "50ms"), ("delay_interval", "100ms")]);
    let events = s.d.subscribe(100);
    let old: Vec<_> = (0..20).map(|_| s.push("k")).collect();
    s.pass(500);
    assert_eq!(s.take(1).len(), 1, "one long wait says nothing");
    s.pass(100);
    let fresh = s.push("k");
    assert_eq!(s.d.pressure("default").unwrap(), 1.0);
    let leases = s.take(1);
    let ids: Vec<_> = leases.iter().map(Lease::id).collect();
    assert_eq!(ids, [fresh], "all before it are shed, and the claim goes on");
    finish(leases, Outcome::done);
    assert_eq!(s.total("shed_delayed"), 19);
    let queue = s.d.explain_queue("default").unwrap();
    assert_eq!(queue.shed(), [(ShedReason::Delayed, 19)]);
    assert!(
        queue.to_string().ends_with("So far shed: 19 shed_delayed"),
        "{queue}"
    );
    let shed = s.d.get(old[5]).unwrap();
    assert_eq!((shed.state, shed.attempt), (State::Shed, 0));
    assert_eq!(shed.into_result().unwrap_err().kind(), ErrorKind::Shed);
    let told = events.drain().filter(|e| e.kind == EventKind::Shed);
    assert_eq!(told.count(), 19);
    s.check_balance();
}

#[test]
fn the_newest_first_until_nothing_is_left() {
    let mut s = Stand::new(&[("delay_target", "50ms"), ("newest_first", "true")]);
    s.push_many("k", 4);
    s.pass(60);
    finish(s.take(1), Outcome::done);
    s.pass(20);
    let before = s.push_many("k", 2);
    s.pass(80);
    let ids = |leases: &[Lease]| leases.iter().map(Lease::id).collect::<Vec<_>>();
    let first = s.take(1);
    assert_eq!((ids(&first), s.total("shed_delayed")), (before[..1].to_vec(), 3));
    let after = s.push_many("k", 3);
    assert_eq!(s.d.pressure("default").unwrap(), 1.0);
    let next = s.take(4);
    assert_eq!(ids(&next), [after[2], after[1], after[0], before[1]]);
    assert_eq!(s.take(1).len(), 0);
    let calm = s.push_many("k", 2);
    let last = s.take(2);
    assert_eq!(ids(&last), calm, "in order again");
    finish(first.into_iter().chain(next).chain(last).collect(), Outcome::done);
    s.check_balance();
}

#[test]
fn retries_without_a_budget_are_put_off_and_not_lost() {
    let mut s = Stand::new(&[
        ("retry_budget", "share(0.5)"),
        ("retry", "none"),
        ("max_attempts", "3"),
    ]);
    let ids: Vec<_> = (0..4).map(|_| s.push("k")).collect();
    finish(s.take(9), || Outcome::failed("down"));
    let retries = s.take(9);
    assert_eq!(retries.len(), 2, "half of the four fresh ones");
    assert!(retries.iter().all(|lease| lease.attempt() == 2));
    finish(retries, Outcome::done);
    let put_off = ids
        .iter()
        .map(|id| s.d.get(*id).unwrap())
        .filter(|job| job.state == State::Scheduled);
    let put_off: Vec<_> = put_off.collect();
    assert_eq!(put_off.len(), 2);
    assert_eq!(s.why(put_off[0].id), ["not_yet", "retry_budget"]);
    assert!(
        put_off
            .iter()
            .all(|job| job.attempt == 1 && job.run_at == s.d.now().after(Duration::from_secs(1)))
    );
    s.pass(1000);
    assert_eq!(s.take(9).len(), 0, "still none left");
    s.push_many("k", 4);
    finish(s.take(9), Outcome::done);
    s.pass(1000);
    finish(s.take(9), Outcome::done);
    assert_eq!(s.total("succeeded"), 8);
    s.check_balance();
}

#[test]
fn an_adaptive_limit_follows_what_it_is_told() {
    let mut s = Stand::new(&[("concurrency", "100")]);
    s.d.declare(
        "k",
        kind(&[("adaptive", "aimd(min=2, max=50)"), ("concurrency", "40")]),
    )
    .unwrap();
    let ids = s.push_many("k", 400);
    let running = s.take(100);
    assert_eq!(
        (running.len(), s.why(ids[9])),
        (8, vec!["adaptive_limit"]),
        "where limits start"
    );
    finish(running, || Outcome::RateLimited { after: None });
    for _ in 0..40 {
        let leases = s.take(100);
        s.pass(10);
        finish(leases, || Outcome::RateLimited { after: None });
    }
    assert_eq!(s.take(100).len(), 2, "the floor");
    let job = s.d.list(&crate::Filter::default()).unwrap();
    assert!(job.jobs.iter().all(|job| job.error.is_none()), "it is no failure");
    s.check_balance();
}

#[test]
fn an_adaptive_limit_keeps_below_the_fixed_one() {
    let mut s = Stand::new(&[("concurrency", "100")]);
    s.d.declare("k", kind(&[("adaptive", "aimd"), ("concurrency", "12")]))
        .unwrap();
    s.push_many("k", 600);
    let (mut running, mut most) = (std::collections::VecDeque::new(), 0);
    for _ in 0..500 {
        running.extend(s.take(100));
        most = most.max(running.len());
        s.pass(1);
        finish(running.pop_front().into_iter().collect(), Outcome::done);
    }
    assert_eq!(most, 12);
}

#[test]
fn a_breaker_opens_probes_and_closes() {
    let mut s = Stand::new(&[("retry", "none"), ("max_attempts", "99")]);
    s.d.declare("k", kind(&[("breaker", "failures(3, open=10s, probes=1)")]))
        .unwrap();
    let events = s.d.subscribe(1000);
    let ids = s.push_many("k", 6);
    s.push("other");
    let leases = s.take(6);
    finish(leases, || Outcome::failed("down"));
    assert_eq!(s.why(ids[0]), ["breaker"]);
    let leases = s.take(9);
    assert_eq!(leases.len(), 1, "only what is of another kind");
    finish(leases, Outcome::done);
    s.pass(9_000);
    assert_eq!(s.take(9).len(), 0);
    s.pass(1_000);
    let probes = s.take(9);
    assert_eq!(probes.len(), 1);
    finish(probes, || Outcome::failed("still down"));
    assert_eq!(s.take(9).len(), 0);
    s.pass(10_000);
    finish(s.take(9), Outcome::done);
    let running = s.take(9);
    assert_eq!(running.len(), 5);
    let breaker = [EventKind::BreakerOpened, EventKind::BreakerClosed];
    let told: Vec<_> = events
        .drain()
        .map(|e| e.kind)
        .filter(|k| breaker.contains(k))
        .collect();
    let (opened, closed) = (EventKind::BreakerOpened, EventKind::BreakerClosed);
    assert_eq!(told, [opened, opened, closed]);
    drop(running);
}

#[test]
fn the_claim_that_goes_with_the_last_failure_starts_nothing() {
    let mut s = Stand::new(&[("concurrency", "1"), ("max_attempts", "1")]);
    s.d.declare("k", kind(&[("breaker", "failures(3, open=1h)")]))
        .unwrap();
    s.push_many("k", 9);
    let mut next = s.take(1).pop();
    let mut ran = 0;
    while let Some(lease) = next {
        ran += 1;
        next = s
            .consumer
            .complete_and_next(lease, Outcome::failed("down"))
            .unwrap()
            .1;
    }
    assert_eq!((ran, s.total("failed")), (3, 3));
}

#[test]
fn timeouts_open_a_breaker_and_late_answers_do_not_count() {
    let mut s = Stand::new(&[("max_attempts", "1")]);
    s.d.declare("k", kind(&[("breaker", "failures(3)"), ("timeout", "1s")]))
        .unwrap();
    s.push_many("k", 5);
    let hung = s.take(2);
    s.pass(1_000);
    for lease in hung {
        assert_eq!(lease.complete(Outcome::done()).unwrap(), Answer::Stale);
    }
    finish(s.take(1), || Outcome::failed("down"));
    assert_eq!(
        s.take(9).len(),
        0,
        "the third in a row: no late success was between"
    );
}

/// Pushes a job with this concurrency key.
fn push_key(s: &Stand, key: &str) -> JobId {
    let job = NewJob::new("k", ()).concurrency_key(key);
    s.d.push(job).expect("there is room").id
}

fn keys(leases: &[Lease]) -> Vec<&str> {
    leases.iter().filter_map(Lease::concurrency_key).collect()
}

#[test]
fn a_key_that_fails_is_left_alone_and_others_go_on() {
    let mut s = Stand::new(&[("retry", "none"), ("max_attempts", "99")]);
    s.d.declare("k", kind(&[("breaker", "failures(2, open=5s)")]))
        .unwrap();
    let events = s.d.subscribe(1000);
    let bad: Vec<_> = (0..3).map(|_| push_key(&s, "bad")).collect();
    finish(s.take(2), || Outcome::failed("down"));
    let good = push_key(&s, "good");
    assert_eq!(s.why(bad[0]), ["breaker"]);
    assert!(
        s.d.explain(bad[0])
            .unwrap()
            .to_string()
            .contains("concurrency key \"bad\" is open for 5s")
    );
    let leases = s.take(9);
    assert_eq!(keys(&leases), ["good"]);
    finish(leases, Outcome::done);
    assert_eq!(s.d.state(good).unwrap(), State::Succeeded);
    assert_eq!(
        (s.pass(4_999), s.take(9).len()),
        (Some(Duration::from_millis(1)), 0)
    );
    s.pass(1);
    let probes = s.take(9);
    assert_eq!(keys(&probes), ["bad"], "one probe");
    finish(probes, Outcome::done);
    let leases = s.take(9);
    assert_eq!(leases.len(), 2);
    finish(leases, Outcome::done);
    let breaker = [EventKind::BreakerOpened, EventKind::BreakerClosed];
    let told: Vec<_> = events
        .drain()
        .map(|e| e.kind)
        .filter(|k| breaker.contains(k))
        .collect();
    assert_eq!(told, breaker);
}

#[test]
fn keys_of_which_nothing_is_to_be_remembered_are_forgotten() {
    let mut s = Stand::new(&[("concurrency", "100"), ("max_attempts", "1")]);
    s.d.declare(
        "k",
        kind(&[("adaptive", "aimd(per=key)"), ("breaker", "failures(2, open=5s)")]),
    )
    .unwrap();
    for key in 0..50 {
        push_key(&s, &key.to_string());
    }
    finish(s.take(100), || Outcome::failed("once"));
    assert_eq!(s.d.0.known_keys(), 50);
    for _ in 0..3 {
        s.pass(30_001);
    }
    assert_eq!(s.d.0.known_keys(), 0);
    let queue = s.d.queue("default").unwrap();
    let standing = s.d.0.engine.key_standing(queue, "7").unwrap();
    assert_eq!(
        standing.and_then(|standing| standing.limit),
        None,
        "nor is its limit"
    );
}

#[test]
fn a_key_that_was_left_alone_and_never_came_back_is_forgotten() {
    let mut s = Stand::new(&[("max_attempts", "1")]);
    s.d.declare("k", kind(&[("breaker", "failures(1, open=5s)")]))
        .unwrap();
    push_key(&s, "gone");
    finish(s.take(1), || Outcome::failed("down"));
    push_key(&s, "waits");
    finish(s.take(1), || Outcome::failed("down"));
    let waits = push_key(&s, "waits");
    s.pass(5_000);
    for _ in 0..3 {
        s.pass(60_000);
    }
    assert_eq!(s.d.0.known_keys(), 1, "only what has a job");
    assert_eq!(s.d.state(waits).unwrap(), State::Queued);
    s.d.declare("k", KindOptions::new()).unwrap();
    let queue = s.d.queue("default").unwrap();
    let standing = s.d.0.engine.key_standing(queue, "waits").unwrap();
    assert_eq!(
        standing.and_then(|standing| standing.limit),
        None,
        "the rule is gone, and its limit"
    );
}

#[test]
fn a_breaker_remembers_no_key_that_only_succeeds() {
    let mut s = Stand::new(&[]);
    s.d.declare("k", kind(&[("breaker", "failures(2)")])).unwrap();
    push_key(&s, "good");
    finish(s.take(9), Outcome::done);
    assert_eq!(s.d.0.known_keys(), 0);
}

#[test]
fn each_key_finds_its_own_limit() {
    let mut s = Stand::new(&[("concurrency", "100"), ("retry", "none")]);
    s.d.declare("k", kind(&[("adaptive", "aimd(min=2, max=20, per=key)")]))
        .unwrap();
    let slow: Vec<_> = (0..40).map(|_| push_key(&s, "slow")).collect();
    (0..40).for_each(|_| {
        push_key(&s, "fast");
    });
    // A key is limited from the first claim that meets it.
    finish(s.take(2), || Outcome::RateLimited { after: None });
    for _ in 0..200 {
        let leases = s.take(100);
        s.pass(10);
        for lease in leases {
            let limited = lease.concurrency_key() == Some("slow");
            let outcome = if limited {
                Outcome::RateLimited { after: None }
            } else {
                Outcome::snooze(Duration::ZERO)
            };
            lease.complete(outcome).unwrap();
        }
    }
    let leases = s.take(100);
    let slow_ones = keys(&leases).iter().filter(|key| **key == "slow").count();
    assert_eq!(
        (slow_ones, leases.len()),
        (2, 2 + 8),
        "the other stands where limits start"
    );
    assert!(slow.iter().any(|id| s.why(*id) == ["adaptive_limit"]));
}

#[test]
fn limits_of_keys_are_those_of_their_queue() {
    let mut s = Stand::new(&[("key_concurrency", "2"), ("concurrency", "100")]);
    s.d.configure_queue("paced", queue(&[("key_rate", "1/s")]))
        .unwrap();
    let ids: Vec<_> = (0..5).map(|_| push_key(&s, "a")).collect();
    push_key(&s, "b");
    let running = s.take(100);
    assert_eq!(keys(&running), ["a", "b", "a"], "in turns");
    assert_eq!(s.why(ids[4]), ["no_handler", "limit"]);
    finish(running, Outcome::done);
    finish(s.take(100), Outcome::done);
    finish(s.take(100), Outcome::done);
    for _ in 0..2 {
        s.d.push(NewJob::new("k", ()).queue("paced").concurrency_key("c"))
            .unwrap();
    }
    assert_eq!(s.take(100).len(), 1);
    assert_eq!(s.take(100).len(), 0);
    s.pass(1_000);
    assert_eq!(s.take(100).len(), 1);
}

#[test]
fn a_lease_past_its_deadline_is_not_run() {
    let mut s = Stand::new(&[]);
    let deadline = s.d.now().after(Duration::from_secs(1));
    let ids: Vec<_> = (0..2)
        .map(|_| s.d.push(NewJob::new("k", ()).deadline(deadline)).unwrap().id)
        .collect();
    let leases = s.take(2);
    let mut ran = 0;
    for lease in leases {
        let outcome = lease.run(|_| {
            ran += 1;
            Outcome::done()
        });
        lease.complete(outcome).unwrap();
        s.pass(1_000);
    }
    let ends: Vec<_> = ids.iter().map(|id| s.d.get(*id).unwrap()).collect();
    assert_eq!(ran, 1);
    let ends: Vec<_> = ends.iter().map(|job| (job.state, job.attempt)).collect();
    assert_eq!(ends, [(State::Succeeded, 1), (State::Expired, 0)]);
    s.check_balance();
}

#[test]
fn what_a_rule_does_not_concern_is_let_through() {
    let mut s = Stand::new(&[]);
    s.d.declare("k", KindOptions::new().retry(RetryPolicy::none()))
        .unwrap();
    s.push("k");
    let leases = s.take(9);
    finish(leases, Outcome::done);
    assert_eq!(s.total("succeeded"), 1);
    assert_eq!(ShedReason::Delayed.name(), "shed_delayed");
}
