//! What starts, and when, while there is more work than can be done: rates, delay control, retry budgets, breakers and
//! limits that adapt (rows 65, 66, 67 and 69).

use std::sync::Arc;
use std::time::Duration;

use super::Make;
use super::overflow::{offer, told};
use super::stage::{SECOND, Stage, at_once, job};
use crate::config::{KindOptions, QueueOptions};
use crate::dispatcher::{KindSet, Lease, Why};
use crate::event::EventKind;
use crate::job::{NewJob, State};
use crate::outcome::{FailureKind, Outcome, ShedReason};
use crate::{JobId, RetryPolicy};

const TENTH: Duration = Duration::from_millis(100);
const MICRO: Duration = Duration::from_micros(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Options of a queue by their names.
fn of_queue(stage: &Stage, queue: &str, options: &[(&str, &str)]) {
    let mut own = QueueOptions::new();
    options
        .iter()
        .for_each(|(name, value)| own.set(name, value).unwrap());
    stage.d.configure_queue(queue, own).unwrap();
}

/// Options of a kind by their names.
fn of_kind(stage: &Stage, kind: &str, options: &[(&str, &str)]) {
    let mut own = KindOptions::new();
    options
        .iter()
        .for_each(|(name, value)| own.set(name, value).unwrap());
    stage.d.declare(kind, own).unwrap();
}

/// Everything that may start now.
fn take_all(stage: &Stage) -> Vec<Lease> {
    let mut leases = Vec::new();
    stage
        .consumer()
        .next_many(usize::MAX, at_once(), &mut leases)
        .unwrap();
    leases
}

/// The same, run to this end; says which they were.
fn run_now(stage: &Stage, outcome: &Outcome) -> Vec<JobId> {
    let leases = take_all(stage);
    let ids = leases.iter().map(Lease::id).collect();
    leases.into_iter().for_each(|lease| {
        lease.complete(outcome.clone()).unwrap();
    });
    ids
}

fn push_all(stage: &Stage, count: usize) -> Vec<JobId> {
    (0..count).map(|_| stage.push(job())).collect()
}

/// The names of the rules that hold a job back. That nobody has told of its kind is not the question here.
fn why(stage: &Stage, id: JobId) -> Vec<&'static str> {
    names(&stage.d.explain(id).unwrap().reasons)
}

/// The names of the rules that hold a queue back.
fn why_none(stage: &Stage) -> Vec<&'static str> {
    names(&stage.d.explain_queue("default").unwrap().reasons)
}

fn names(reasons: &[Why]) -> Vec<&'static str> {
    let names = reasons.iter().map(Why::name);
    names.filter(|name| *name != "no_handler").collect()
}

// ---- not now ---------------------------------------------------------------------------------------------

/// `RateLimited` gives the attempt back and pauses, for as long as was said or as the policy says; it is no failure,
/// however often it happens.
pub fn not_now_is_no_failure(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::constant(SECOND * 3));
    let id = stage.push(job().max_attempts(1));
    for (after, pause) in [(Some(SECOND), SECOND), (None, SECOND * 3)].repeat(3) {
        stage.run(Outcome::RateLimited { after });
        let job = stage.get(id);
        assert_eq!((job.state, job.attempt, job.error), (State::Scheduled, 0, None));
        assert_eq!(job.run_at, stage.d.now().after(pause));
        stage.advance(pause - MICRO);
        assert!(stage.try_take().is_none(), "not before the pause is over");
        stage.advance(MICRO);
    }
    stage.run(Outcome::done());
    let totals = stage.counts().totals;
    assert_eq!(
        (totals.succeeded, totals.failed, totals.retried, totals.returned),
        (1, 0, 0, 6)
    );
    stage.check_balance();
}

// ---- rates -----------------------------------------------------------------------------------------------

/// Row 67: a queue starts its burst and then one by one, to the microsecond; who has to wait holds no slot, and
/// other queues go past it.
pub fn a_queue_starts_at_its_rate(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 3);
    of_queue(&stage, "default", &[("rate", "10/s burst=2")]);
    let ids = push_all(&stage, 6);
    assert_eq!(run_now(&stage, &Outcome::done()), ids[..2]);
    for id in &ids[2..4] {
        assert_eq!((why(&stage, *id), why_none(&stage)), (vec!["rate"], vec!["rate"]));
        stage.advance(TENTH - MICRO);
        assert!(take_all(&stage).is_empty(), "a microsecond early");
        stage.push(job().queue("free"));
        let past = stage.take();
        assert_eq!((&*past.queue(), stage.d.stats().unwrap().bodies), ("free", 1));
        past.complete(Outcome::done()).unwrap();
        stage.advance(MICRO);
        assert_eq!(run_now(&stage, &Outcome::done()), [*id]);
    }
    stage.advance(SECOND * 60);
    assert_eq!(
        run_now(&stage, &Outcome::done()),
        ids[4..],
        "no more than a burst is saved up"
    );
    of_queue(&stage, "default", &[("rate", "none")]);
    let free = push_all(&stage, 3);
    assert_eq!(
        run_now(&stage, &Outcome::done()),
        free,
        "without a rate all start"
    );
}

/// A kind has a rate of its own; kinds of the same queue go past it.
pub fn a_kind_starts_at_its_rate(make: Make<'_>) {
    let stage = Stage::new(make);
    of_kind(&stage, "slow", &[("rate", "2/s burst=1")]);
    let slow: Vec<JobId> = (0..3)
        .map(|_| stage.push(NewJob::new("slow", ()).priority(9)))
        .collect();
    let quick = push_all(&stage, 2);
    assert_eq!(run_now(&stage, &Outcome::done()), [slow[0], quick[0], quick[1]]);
    assert_eq!(
        (why(&stage, slow[1]), why_none(&stage)),
        (vec!["rate"], vec!["rate"])
    );
    stage.advance(ms(500) - MICRO);
    assert!(stage.try_take().is_none());
    stage.advance(MICRO);
    assert_eq!(run_now(&stage, &Outcome::done()), [slow[1]]);
    stage.advance(ms(500));
    assert_eq!(run_now(&stage, &Outcome::done()), [slow[2]]);
}

/// A claim that finds nothing, or less than it asked for, uses up nothing of a rate.
pub fn an_empty_claim_uses_up_no_rate(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 100);
    of_queue(&stage, "default", &[("rate", "1/s burst=3")]);
    of_kind(&stage, "k", &[("rate", "1/s burst=3")]);
    (0..20).for_each(|_| assert!(take_all(&stage).is_empty()));
    push_all(&stage, 1);
    assert_eq!(run_now(&stage, &Outcome::done()).len(), 1);
    push_all(&stage, 9);
    assert_eq!(
        run_now(&stage, &Outcome::done()).len(),
        2,
        "the rest of the burst"
    );
    stage.advance(SECOND);
    assert_eq!(run_now(&stage, &Outcome::done()).len(), 1);
}

/// Whoever waits for a rate is woken when its time has come, by upkeep and not by asking again.
pub fn a_rate_wakes_who_waits(make: Make<'_>) {
    let stage = Stage::new(make);
    of_queue(&stage, "default", &[("rate", "1/s burst=1")]);
    let ids = push_all(&stage, 2);
    assert_eq!(run_now(&stage, &Outcome::done()), ids[..1]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            stage
                .consumer()
                .next(super::stage::soon())
                .unwrap()
                .map(|l| l.id())
        });
        super::stage::until("the wait", || stage.d.0.engine.signals().work.waiting() > 0);
        stage.advance(SECOND);
        assert_eq!(waiter.join().unwrap(), Some(ids[1]));
    });
}

// ---- delay -----------------------------------------------------------------------------------------------

/// A queue that sheds what waits too long: target 50 ms, interval 100 ms.
fn delayed(make: Make<'_>) -> Stage {
    let stage = Stage::new(make);
    of_queue(
        &stage,
        "default",
        &[("delay_target", "50ms"), ("delay_interval", "100ms")],
    );
    stage
}

/// Row 66: jobs are shed only after a whole interval in which all had waited too long, and then only those that have
/// waited twice the target; no handler sees them, and their attempt is given back.
pub fn a_standing_queue_sheds(make: Make<'_>) {
    let stage = delayed(make);
    let events = stage.d.subscribe(64);
    let old = push_all(&stage, 4);
    stage.advance(ms(400));
    stage.run(Outcome::done());
    assert_eq!(
        stage.state(old[0]),
        State::Succeeded,
        "nothing is known of the queue yet"
    );
    stage.advance(ms(100) - MICRO);
    stage.run(Outcome::done());
    assert_eq!(stage.state(old[1]), State::Succeeded, "the interval is not over");
    stage.advance(MICRO);
    let young = stage.push(job());
    stage.advance(ms(100));
    let fresh = stage.push(job());
    stage.run(Outcome::done());
    assert_eq!(
        stage.state(young),
        State::Succeeded,
        "it has waited twice the target and no more"
    );
    for id in &old[2..] {
        let job = stage.get(*id);
        assert_eq!((job.state, job.attempt), (State::Shed, 0));
        assert_eq!(
            job.error.map(|e| e.kind),
            Some(FailureKind::Shed(ShedReason::Delayed))
        );
        assert_eq!(why(&stage, *id), ["over"]);
    }
    let why_shed = Some(FailureKind::Shed(ShedReason::Delayed));
    assert_eq!(told(events.drain()), [(old[2], why_shed), (old[3], why_shed)]);
    stage.run(Outcome::done());
    assert_eq!(stage.state(fresh), State::Succeeded);
    let told = stage.d.explain_queue("default").unwrap();
    assert_eq!(told.shed(), [(ShedReason::Delayed, 2)]);
    let totals = stage.counts().totals;
    assert_eq!((totals.shed_delayed, totals.shed(), totals.succeeded), (2, 2, 4));
    stage.check_balance();
}

/// It stops as soon as an interval has one short wait in it.
pub fn a_queue_that_recovers_sheds_no_more(make: Make<'_>) {
    let stage = delayed(make);
    let kinds = KindSet::new();
    kinds.add(stage.d.kind("k").unwrap());
    let mut consumer = stage.d.consumer(Arc::new(kinds));
    // Nobody asks for it, so the queue is never empty.
    stage.push(NewJob::new("strange", ()));
    let mut run = |waits: u64| {
        let id = stage.push(job());
        stage.advance(ms(waits));
        if let Some(lease) = consumer.next(at_once()).unwrap() {
            lease.complete(Outcome::done()).unwrap();
        }
        stage.state(id) == State::Shed
    };
    assert!(!run(300), "the first to be seen");
    assert!(run(300), "for an interval all have waited too long");
    assert!(run(101));
    assert!(!run(100), "not twice the target");
    assert!(!run(20), "a short wait; the interval it is in ends the overload");
    assert!(!run(300) && run(300), "and a new one takes an interval to begin");
    stage.check_balance();
}

/// A burst that is worked off is not an overload: its last waits are short.
pub fn a_burst_is_no_overload(make: Make<'_>) {
    let stage = delayed(make);
    for _ in 0..20 {
        let burst = push_all(&stage, 3);
        stage.advance(ms(40));
        stage.run(Outcome::done());
        stage.run(Outcome::done());
        let last = stage.push(job());
        stage.advance(ms(140));
        stage.run(Outcome::done());
        stage.run(Outcome::done());
        assert_eq!(
            (stage.state(burst[2]), stage.state(last)),
            (State::Succeeded, State::Succeeded)
        );
        let short = stage.push(job());
        stage.run(Outcome::done());
        assert_eq!(stage.state(short), State::Succeeded);
    }
    assert_eq!(stage.counts().totals.shed(), 0);
}

/// A retry waits from the end of its pause, a delayed job from its time: what they waited before is no sojourn.
pub fn a_sojourn_begins_when_a_job_may_start(make: Make<'_>) {
    let stage = delayed(make);
    stage
        .d
        .declare("k", KindOptions::new().retry(RetryPolicy::constant(SECOND)))
        .unwrap();
    let id = stage.push(job().delay(SECOND * 5));
    for _ in 0..4 {
        stage.advance(SECOND * 5);
        stage.run(Outcome::failed("again"));
        assert_eq!(stage.state(id), State::Scheduled);
        let gap = stage.get(id).run_at.since(stage.d.now());
        stage.advance(gap);
        stage.run(Outcome::snooze(SECOND * 5));
    }
    assert_eq!(stage.counts().totals.shed(), 0, "it never waited for a worker");
}

/// With `newest_first` an overloaded queue gives out the newest first, until nothing is left.
pub fn the_newest_go_first_while_overloaded(make: Make<'_>) {
    let stage = Stage::new(make);
    let options = [
        ("delay_target", "50ms"),
        ("delay_interval", "100ms"),
        ("newest_first", "true"),
    ];
    of_queue(&stage, "default", &options);
    let ids = push_all(&stage, 4);
    assert_eq!(stage.take().id(), ids[0], "in order as long as nothing is wrong");
    stage.advance(ms(300));
    assert_eq!(stage.take().id(), ids[1]);
    stage.advance(ms(100));
    let fresh = stage.push(job());
    assert_eq!(stage.take().id(), fresh, "those before it have waited too long");
    let more = push_all(&stage, 3);
    assert_eq!(stage.take().id(), more[2]);
    let newer = stage.push(job());
    assert_eq!(
        [stage.take().id(), stage.take().id(), stage.take().id()],
        [newer, more[1], more[0]]
    );
    assert!(
        stage.try_take().is_none(),
        "nothing is left: the overload is over"
    );
    let calm = push_all(&stage, 2);
    assert_eq!([stage.take().id(), stage.take().id()], [calm[0], calm[1]]);
    assert_eq!(stage.counts().totals.shed_delayed, 2);
}

// ---- retries ---------------------------------------------------------------------------------------------

/// Row 69: as many retries start as fresh work has paid for, exactly; the others are put off with their attempt, and
/// come when there is a budget again. None is lost.
pub fn retries_keep_to_their_budget(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 100);
    of_kind(
        &stage,
        "k",
        &[
            ("retry_budget", "share(0.5)"),
            ("retry", "none"),
            ("max_attempts", "9"),
        ],
    );
    let ids = push_all(&stage, 4);
    assert_eq!(run_now(&stage, &Outcome::failed("down")), ids);
    let retried = run_now(&stage, &Outcome::failed("down"));
    assert_eq!(retried, ids[..2], "four fresh starts have paid for two");
    for round in 0..5 {
        stage.advance(SECOND * 10);
        assert!(take_all(&stage).is_empty(), "round {round}");
    }
    for id in &ids {
        let job = stage.get(*id);
        assert_eq!(
            (job.state, job.attempt),
            (State::Scheduled, 1 + u32::from(retried.contains(id)))
        );
        assert!(
            why(&stage, *id).contains(&"retry_budget"),
            "{:?}",
            why(&stage, *id)
        );
    }
    let fresh = push_all(&stage, 2);
    assert_eq!(run_now(&stage, &Outcome::done()), fresh);
    stage.advance(SECOND * 10);
    assert_eq!(
        run_now(&stage, &Outcome::done()).len(),
        1,
        "two more have paid for one"
    );
    stage.advance(SECOND * 10);
    assert!(take_all(&stage).is_empty());
    of_kind(&stage, "k", &[("retry_budget", "none")]);
    stage.advance(SECOND * 10);
    assert_eq!(
        run_now(&stage, &Outcome::done()).len(),
        3,
        "without a budget all go"
    );
    let totals = stage.counts().totals;
    assert_eq!((totals.succeeded, totals.failed, totals.shed()), (6, 0, 0));
    stage.check_balance();
}

/// A job that is given back and starts again is no fresh work: while what it calls refuses everybody the budget does
/// not grow.
pub fn who_is_told_to_wait_pays_once(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 100);
    let options = [
        ("retry_budget", "share(0.5)"),
        ("retry", "none"),
        ("max_attempts", "9"),
    ];
    of_kind(&stage, "k", &options);
    let ids = push_all(&stage, 2);
    let wait = Outcome::RateLimited { after: Some(SECOND) };
    for _ in 0..10 {
        assert_eq!(run_now(&stage, &wait), ids);
        stage.advance(SECOND);
    }
    assert_eq!(run_now(&stage, &Outcome::failed("down")), ids);
    assert_eq!(
        run_now(&stage, &Outcome::failed("down")).len(),
        1,
        "two fresh jobs have paid for one"
    );
    stage.advance(SECOND * 10);
    assert!(take_all(&stage).is_empty());
    stage.check_balance();
}

/// The floor lets a retry start now and then without any fresh work; the option of the dispatcher is the default.
pub fn a_budget_has_a_floor(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.set("retry_budget", "share(0, floor=1/10s)").unwrap();
        (o.retry, o.max_attempts) = (RetryPolicy::none(), 9);
    });
    push_all(&stage, 3);
    assert_eq!(run_now(&stage, &Outcome::failed("down")).len(), 3);
    let mut starts = Vec::new();
    for second in 0..60 {
        starts.extend(run_now(&stage, &Outcome::failed("down")).iter().map(|_| second));
        stage.advance(SECOND);
    }
    assert_eq!(starts.len(), 6, "one in ten seconds: {starts:?}");
    assert!(
        starts.windows(2).all(|pair| pair[1] - pair[0] >= 10),
        "{starts:?}"
    );
    stage.check_balance();
}

// ---- breakers --------------------------------------------------------------------------------------------

/// So many failures in a row open the breaker; nothing starts for its time, then a probe, which closes it or opens it
/// again. Other kinds are not concerned.
pub fn a_breaker_opens_probes_and_closes(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 100);
    of_kind(
        &stage,
        "k",
        &[
            ("breaker", "failures(3, open=10s, probes=1)"),
            ("max_attempts", "1"),
        ],
    );
    let events = stage.d.subscribe(256);
    let run = |outcome| stage.run(outcome);
    let turns = || -> Vec<EventKind> {
        let kinds = events.drain().map(|event| event.kind);
        kinds
            .filter(|kind| matches!(kind, EventKind::BreakerOpened | EventKind::BreakerClosed))
            .collect()
    };
    push_all(&stage, 12);
    run(Outcome::failed("1"));
    run(Outcome::failed("2"));
    run(Outcome::done());
    for outcome in [
        Outcome::failed("1"),
        Outcome::RateLimited {
            after: Some(SECOND * 900),
        },
        Outcome::failed("2"),
    ] {
        run(outcome);
        assert_eq!(turns(), []);
    }
    run(Outcome::failed("3"));
    assert_eq!(turns(), [EventKind::BreakerOpened]);
    for _ in 0..2 {
        let held = stage.push(job());
        assert_eq!(
            (why(&stage, held), why_none(&stage)),
            (vec!["breaker"], vec!["breaker"])
        );
        assert!(take_all(&stage).is_empty());
        stage.push(NewJob::new("other", ()));
        let other = stage.take();
        assert_eq!(&*other.kind(), "other");
        other.complete(Outcome::done()).unwrap();
        stage.advance(SECOND * 10 - MICRO);
        assert!(take_all(&stage).is_empty(), "a microsecond early");
        stage.advance(MICRO);
        let mut probes = take_all(&stage);
        assert_eq!(probes.len(), 1, "one probe, and no other beside it");
        probes.pop().unwrap().complete(Outcome::failed("still")).unwrap();
        assert_eq!(turns(), [EventKind::BreakerOpened]);
    }
    stage.advance(SECOND * 10);
    run(Outcome::done());
    assert_eq!(turns(), [EventKind::BreakerClosed]);
    assert_eq!(take_all(&stage).len(), 4, "all that is left");
    stage.check_balance();
}

/// A failure that no retry mends, a cancellation, a snooze say nothing of what was called.
pub fn a_breaker_hears_only_of_what_was_called(make: Make<'_>) {
    let stage = Stage::new(make);
    of_kind(
        &stage,
        "k",
        &[("breaker", "failures(1, open=10s)"), ("max_attempts", "1")],
    );
    for outcome in [
        Outcome::fatal("bad input"),
        Outcome::Cancelled("not wanted".into()),
        Outcome::snooze(SECOND * 900),
        Outcome::RateLimited {
            after: Some(SECOND * 900),
        },
    ] {
        stage.push(job());
        stage.run(outcome);
    }
    stage.push(job());
    stage.run(Outcome::failed("down"));
    stage.push(job());
    assert!(stage.try_take().is_none());
}

// ---- limits that adapt -----------------------------------------------------------------------------------

/// However it goes, no more run than the ceiling and no fewer than the floor.
pub fn an_adaptive_limit_keeps_to_its_bounds(make: Make<'_>) {
    let limited = Outcome::RateLimited {
        after: Some(SECOND * 9000),
    };
    for law in ["aimd", "gradient"] {
        let stage = Stage::with(make, |o| o.concurrency = 100);
        of_kind(&stage, "k", &[("adaptive", &format!("{law}(min=2, max=5)"))]);
        push_all(&stage, 1600);
        let mut running = take_all(&stage);
        // As many as may run, each for the same time: how many those were.
        let mut work = |outcome: &Outcome, rounds: usize| -> Vec<usize> {
            let one = |_| {
                stage.advance(ms(10));
                for _ in 0..running.len() {
                    running.remove(0).complete(outcome.clone()).unwrap();
                    running.extend(take_all(&stage));
                    assert!((2..=5).contains(&running.len()), "{law}: {} run", running.len());
                }
                running.len()
            };
            (0..rounds).map(one).collect()
        };
        let low = work(&limited, 100).into_iter().min();
        let high = work(&Outcome::done(), 200).into_iter().max();
        // The gradient tries out what more does all the while, and takes its time.
        assert!(
            low == Some(2) || law == "gradient" && low < Some(5),
            "{law}: told to wait, {low:?} run"
        );
        assert_eq!(high, Some(5), "{law}: what goes well goes up to the ceiling");
        assert_eq!(why_none(&stage), ["adaptive_limit"], "{law}");
    }
}

/// With floor and ceiling the same it is a limit as any other.
pub fn an_adaptive_limit_may_be_fixed(make: Make<'_>) {
    for law in ["aimd(min=3, max=3)", "gradient(min=3, max=3)"] {
        let stage = Stage::with(make, |o| o.concurrency = 100);
        of_kind(&stage, "k", &[("adaptive", law)]);
        push_all(&stage, 10);
        let mut leases = take_all(&stage);
        assert_eq!((leases.len(), take_all(&stage).len()), (3, 0), "{law}");
        leases.pop().unwrap().complete(Outcome::failed("no")).unwrap();
        assert_eq!(take_all(&stage).len(), 1, "{law}");
        of_kind(&stage, "k", &[("adaptive", "none")]);
        assert_eq!(take_all(&stage).len(), 6, "{law}: without it all go");
    }
}

/// The number of a kind's bodies is the smaller of its own limit and the one that was found.
pub fn the_smaller_limit_of_a_kind_holds(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 100);
    let limits = |adaptive, own| of_kind(&stage, "k", &[("adaptive", adaptive), ("concurrency", own)]);
    push_all(&stage, 10);
    limits("aimd(min=6, max=6)", "2");
    let two = take_all(&stage);
    limits("aimd(min=4, max=4)", "9");
    let more = take_all(&stage);
    assert_eq!((two.len(), more.len()), (2, 2));
}

// ---- by key ----------------------------------------------------------------------------------------------

/// Row 68: no more of one key run than its queue allows, others go past it, and who is passed over holds no slot.
pub fn a_queue_limits_its_keys(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 4);
    of_queue(&stage, "default", &[("key_concurrency", "1")]);
    let of = |key: &'static str| stage.push(job().concurrency_key(key));
    let [a1, a2, b1, c1] = ["a", "a", "b", "c"].map(of);
    let mut running = take_all(&stage);
    assert_eq!(running.iter().map(Lease::id).collect::<Vec<_>>(), [a1, b1, c1]);
    assert_eq!(stage.d.stats().unwrap().bodies, 3);
    assert_eq!(why(&stage, a2), ["limit"]);
    let text = stage.d.explain(a2).unwrap().to_string();
    assert!(text.contains("\"a\""), "{text}");
    running.remove(0).complete(Outcome::failed("again")).unwrap();
    running.push(stage.take());
    assert_eq!(running.last().map(Lease::id), Some(a2));
    of_queue(&stage, "default", &[("key_concurrency", "0")]);
    stage.advance(SECOND * 900);
    assert_eq!(
        stage.take().id(),
        a1,
        "its retry, beside the other: there is no limit any more"
    );
}

/// A queue may start the jobs of each key at a rate.
pub fn a_queue_has_a_rate_for_each_key(make: Make<'_>) {
    let stage = Stage::new(make);
    of_queue(&stage, "default", &[("key_rate", "10/s burst=1")]);
    let ids = ["a", "a", "b", "b"].map(|key| stage.push(job().concurrency_key(key)));
    assert_eq!(run_now(&stage, &Outcome::done()), [ids[0], ids[2]]);
    assert_eq!(why(&stage, ids[1]), ["rate"]);
    stage.advance(TENTH - MICRO);
    assert!(take_all(&stage).is_empty());
    stage.advance(MICRO);
    assert_eq!(run_now(&stage, &Outcome::done()), [ids[1], ids[3]]);
}

/// Each key has a breaker of its own; that of the kind hears of its jobs without one.
pub fn each_key_has_its_own_breaker(make: Make<'_>) {
    let stage = Stage::new(make);
    of_kind(
        &stage,
        "k",
        &[
            ("breaker", "failures(1, open=10s, probes=1)"),
            ("max_attempts", "1"),
        ],
    );
    let of = |key: &'static str| stage.push(job().concurrency_key(key));
    let (_, a2, a3) = (of("a"), of("a"), of("a"));
    stage.run(Outcome::failed("down"));
    let (b, plain) = (of("b"), stage.push(job()));
    let mut others = run_now(&stage, &Outcome::done());
    others.sort_unstable();
    assert_eq!(others, [b, plain]);
    assert_eq!(why(&stage, a2), ["breaker"]);
    stage.advance(SECOND * 10 - MICRO);
    assert!(take_all(&stage).is_empty());
    stage.advance(MICRO);
    let mut probes = take_all(&stage);
    assert_eq!(
        probes.iter().map(Lease::id).collect::<Vec<_>>(),
        [a2],
        "one probe"
    );
    probes.pop().unwrap().complete(Outcome::done()).unwrap();
    assert_eq!(run_now(&stage, &Outcome::done()), [a3]);
    stage.push(job());
    stage.run(Outcome::failed("down, without a key"));
    of("a");
    assert!(
        take_all(&stage).is_empty(),
        "the breaker of the kind holds back all of it"
    );
}

/// What waits too long is shed whosever turn it is, and its key's next job goes on.
pub fn a_key_whose_job_is_shed_goes_on(make: Make<'_>) {
    let stage = Stage::new(make);
    let options = [
        ("delay_target", "50ms"),
        ("delay_interval", "100ms"),
        ("key_concurrency", "1"),
    ];
    of_queue(&stage, "default", &options);
    let of = |key: &'static str| offer(&stage, job().concurrency_key(key)).id;
    let old = [of("a"), of("a"), of("b")];
    stage.advance(ms(300));
    stage.run(Outcome::done());
    stage.advance(ms(100));
    let fresh = [of("a"), of("b")];
    let mut ran = run_now(&stage, &Outcome::done());
    ran.sort_unstable();
    assert_eq!(ran, fresh);
    assert_eq!(
        old[1..]
            .iter()
            .filter(|id| stage.state(**id) == State::Shed)
            .count(),
        2
    );
    for key in ["a", "b"] {
        of(key);
    }
    assert_eq!(
        take_all(&stage).len(),
        2,
        "what was shed counts as running no more"
    );
    stage.check_balance();
}
