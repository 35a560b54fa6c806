//! Worker threads and handlers; full queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use forebay::{
    Clock, Dispatcher, Error, FailureKind, KindOptions, Lease, NewJob, Options, Payload, State, SystemClock,
    Why,
};

use crate::stage::*;

/// what was pushed before there were workers runs when they come.
#[test]
fn workers_run_what_was_pushed_before() {
    let d = open(|o| o.concurrency = 2);
    d.register("double", |lease| {
        lease.payload().parse::<i64>().map(|n| (n * 2).to_string())
    })
    .unwrap();
    let ids: Vec<_> = (0..100)
        .map(|n| {
            d.push(NewJob::new("double", Payload::json(&n).unwrap()))
                .unwrap()
                .id
        })
        .collect();
    d.start().unwrap();
    d.start().unwrap();
    for (n, id) in ids.into_iter().enumerate() {
        let job = d.wait(id, soon()).unwrap();
        assert_eq!(
            job.result.unwrap().as_bytes(),
            Some((n * 2).to_string().as_bytes())
        );
    }
    d.stop(LONG).unwrap();
}

/// Rows 11 and 43: a job starts within 50 ms of its push, and its end is told within 100 ms.
#[test]
fn an_idle_worker_starts_at_once() {
    let d = open(|_| ());
    let clock = SystemClock;
    d.register("now", |_| ()).unwrap();
    d.start().unwrap();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        assert!(d.settle_to(8, LONG));
        let pushed = clock.now();
        let id = d.push(NewJob::new("now", ())).unwrap().id;
        let job = d.wait(id, soon()).unwrap();
        ends.push(clock.now().since(job.finished.unwrap()));
        starts.push(job.started.unwrap().since(pushed));
    }
    // The median: a machine that is busy with something else may keep one of them waiting.
    starts.sort_unstable();
    ends.sort_unstable();
    assert!(starts[10] < Duration::from_millis(50), "{starts:?}");
    assert!(ends[10] < Duration::from_millis(100), "{ends:?}");
    d.stop(LONG).unwrap();
}

/// R-16 and C3: handlers that panic, with and without a timeout, cost an attempt each and nothing else.
#[test]
fn panics_cost_nothing_but_their_attempt() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in a drop");
            }
        }
    }
    let d = open(|o| o.concurrency = 1);
    d.register("good", |_| ()).unwrap();
    d.register("panics", |_| -> () { panic!("boom") }).unwrap();
    d.register("drops", |_| drop(Bomb)).unwrap();
    d.register("throws", |_| -> () { std::panic::panic_any(Bomb) })
        .unwrap();
    d.start().unwrap();
    for (kind, text) in [
        ("panics", "boom"),
        ("drops", "in a drop"),
        ("throws", "without a text"),
    ] {
        for timeout in [None, Some(Duration::from_secs(3600))] {
            let new = NewJob::new(kind, ()).max_attempts(1);
            let new = match timeout {
                Some(timeout) => new.timeout(timeout),
                None => new,
            };
            let job = d.wait(d.push(new).unwrap().id, soon()).unwrap();
            let error = job.error.unwrap();
            assert!(
                job.state == State::Failed && error.kind == FailureKind::Panic,
                "{error}"
            );
            assert!(error.message.contains(text), "{error}");
        }
    }
    for _ in 0..3 {
        let id = d.push(NewJob::new("good", ())).unwrap().id;
        assert_eq!(d.wait(id, soon()).unwrap().state, State::Succeeded);
    }
    d.stop(LONG).unwrap();
}

/// R-18 and row 56: a typed handler sees exactly the value that was pushed; what it cannot take is a failure.
#[test]
fn typed_handlers_see_exact_values() {
    let d = open(|_| ());
    d.register_typed("echo", KindOptions::new(), |value: (f64, i64)| {
        Ok::<_, Error>(value)
    })
    .unwrap();
    d.start().unwrap();
    let run = |payload: Payload| {
        d.wait(d.push(NewJob::new("echo", payload)).unwrap().id, soon())
            .unwrap()
    };
    let value = (1.5, 9_007_199_254_740_993_i64);
    let job = run(Payload::json(&value).unwrap());
    assert_eq!(job.result.unwrap().parse::<(f64, i64)>().unwrap(), value);
    for bad in ["[1.5]", "[1.5,2,3]", "[\"a\",2]", "{}", "", "[1.5,1e300]"] {
        let job = run(bad.into());
        assert_eq!(job.state, State::Failed, "{bad}");
        assert!(
            job.error
                .unwrap()
                .message
                .contains("not the JSON this handler takes"),
            "{bad}"
        );
    }
    d.stop(LONG).unwrap();
}

/// a handler that is made anew for each run cannot carry anything from one job to the next.
#[test]
fn each_run_sees_a_fresh_handler() {
    let d = open(|o| o.concurrency = 1);
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    d.register_fresh("counts", KindOptions::new(), move || {
        count.fetch_add(1, Ordering::SeqCst);
        let mut field = 0;
        move |_: &Lease| {
            field += 1;
            Ok::<_, Error>(field.to_string())
        }
    })
    .unwrap();
    d.start().unwrap();
    for _ in 0..3 {
        let job = d
            .wait(d.push(NewJob::new("counts", ())).unwrap().id, soon())
            .unwrap();
        assert_eq!(job.result.unwrap().as_bytes(), Some(&b"1"[..]));
    }
    assert_eq!(made.load(Ordering::SeqCst), 3);
    d.stop(LONG).unwrap();
}

/// C19: a handler may be registered, and replaced, while workers run.
#[test]
fn handlers_come_and_change_while_workers_run() {
    let d = open(|o| o.concurrency = 2);
    d.start().unwrap();
    let first = d.push(NewJob::new("late", ())).unwrap().id;
    let answer = |text: &'static str| move |_: &Lease| Ok::<_, Error>(text);
    d.register("late", answer("first")).unwrap();
    assert_eq!(
        d.wait(first, soon()).unwrap().result.unwrap().as_bytes(),
        Some(&b"first"[..])
    );
    d.register("late", answer("second")).unwrap();
    let second = d.push(NewJob::new("late", ())).unwrap().id;
    assert_eq!(
        d.wait(second, soon()).unwrap().result.unwrap().as_bytes(),
        Some(&b"second"[..])
    );
    d.stop(LONG).unwrap();
}

/// C18 and R-17: of two dispatchers on one engine, the one that does not know a kind leaves it to the other.
#[test]
fn an_old_worker_leaves_new_kinds_alone() {
    let engine = memory();
    let open = || Dispatcher::with_engine(engine.clone(), Options::default()).unwrap();
    let (old, new) = (open(), open());
    old.register("old", |_| ()).unwrap();
    old.start().unwrap();
    let strange = old.push(NewJob::new("new", ())).unwrap().id;
    for _ in 0..20 {
        let id = old.push(NewJob::new("old", ())).unwrap().id;
        assert_eq!(old.wait(id, soon()).unwrap().state, State::Succeeded);
    }
    assert_eq!(
        old.explain(strange).unwrap().reasons,
        [Why::NoHandler("new".into())]
    );
    new.register("new", |_| ()).unwrap();
    new.start().unwrap();
    let job = old.wait(strange, soon()).unwrap();
    assert_eq!((job.state, job.attempt), (State::Succeeded, 1));
    new.stop(LONG).unwrap();
    old.stop(LONG).unwrap();
}

/// Row 54: `block` brakes the pushers to the pace of the workers, and loses nothing.
#[test]
fn a_full_queue_brakes_its_pushers() {
    let d = Dispatcher::open(
        "memory:?capacity=3&on_full=block(60s)&concurrency=2",
        Options::default(),
    )
    .unwrap();
    let sum = Arc::new(AtomicU64::new(0));
    let total = sum.clone();
    d.register_typed("add", KindOptions::new(), move |n: u64| {
        total.fetch_add(n, Ordering::SeqCst);
        Ok::<_, Error>(())
    })
    .unwrap();
    d.start().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n in 1..=100_u64 {
                    d.push(NewJob::new("add", Payload::json(&n).unwrap())).unwrap();
                    assert!(d.len("default").unwrap() <= 3);
                }
            });
        }
    });
    d.drain(soon()).unwrap();
    assert_eq!(sum.load(Ordering::SeqCst), 3 * 5050);
    d.stop(LONG).unwrap();
}
