//! The dispatcher over the engine in memory with everything real: worker threads, the upkeep thread, the
//! system's clock, files. What needs no threads of its own is a case of the engine suite.

// Helpers of a test fail as the test does: by a panic.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use forebay::conformance::wrap::{Call, Watched};
use forebay::engine::Engine;
use forebay::engine::memory::MemoryEngine;
use forebay::{
    Clock, Deadline, Dispatcher, Encoded, End, Error, ErrorKind, EventKind, FailureKind, Hooks, HostObject,
    KindOptions, KindSet, Lease, NewJob, Options, Outcome, Payload, RetryPolicy, State, SystemClock, Why,
};

/// Long enough for what must happen, on any machine.
const LONG: Duration = Duration::from_secs(20);
/// Long enough to notice what must not happen.
const SHORT: Duration = Duration::from_millis(200);

fn soon() -> Deadline {
    Deadline::after(LONG)
}

fn memory() -> Arc<MemoryEngine> {
    Arc::new(MemoryEngine::new(1000))
}

fn open(set: impl FnOnce(&mut Options)) -> Dispatcher {
    let mut options = Options::default();
    options.retry = RetryPolicy::none();
    set(&mut options);
    Dispatcher::open("memory:", options).unwrap()
}

/// A handler's door: it says that it has come, and waits until it is let in.
struct Door {
    come: Sender<u32>,
    open: Mutex<Receiver<()>>,
}

/// The other side of the door. When it goes, the door stands open.
struct Porter {
    come: Receiver<u32>,
    open: Sender<()>,
}

impl Porter {
    /// Waits until a handler stands at the door; the number of its attempt.
    fn meet(&self) -> u32 {
        self.come.recv_timeout(LONG).expect("a handler comes")
    }

    fn let_in(&self) {
        // A handler that was not waited for may be gone.
        let _ = self.open.send(());
    }
}

fn door() -> (Door, Porter) {
    let ((come, came), (open, opened)) = (mpsc::channel(), mpsc::channel());
    (
        Door {
            come,
            open: Mutex::new(opened),
        },
        Porter { come: came, open },
    )
}

impl Door {
    fn pass(&self, lease: &Lease) {
        self.come.send(lease.attempt()).unwrap();
        let _ = self.open.lock().unwrap().recv_timeout(LONG);
    }
}

/// A folder of a test's own, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-scenario-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("jobs.dump")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = soon();
    while !done() {
        assert!(!deadline.passed(), "{what} did not come to pass");
        std::thread::yield_now();
    }
}

// ---- worker threads ----------------------------------------------------------------------------------

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

// ---- time by itself ----------------------------------------------------------------------------------

/// Row 18 and R-27: a delayed job starts by itself, not early; text without a unit is refused.
#[test]
fn delayed_jobs_start_by_themselves() {
    let d = open(|_| ());
    d.register("k", |_| ()).unwrap();
    d.start().unwrap();
    let delay = forebay::parse_duration("30ms").unwrap();
    assert!(forebay::parse_duration("30").is_err());
    let job = d
        .wait(d.push(NewJob::new("k", ()).delay(delay)).unwrap().id, soon())
        .unwrap();
    let waited = job.started.unwrap().since(job.created);
    assert!(waited >= delay, "{waited:?} is early");
    assert_eq!(job.run_at, job.created.after(delay));
    d.stop(LONG).unwrap();
}

/// Row 12: retries come by themselves after their pause.
#[test]
fn retries_come_by_themselves() {
    let d = open(|o| o.retry = RetryPolicy::linear(Duration::from_millis(10)));
    d.register("flaky", |lease| {
        if lease.attempt() < 3 {
            Err("not yet")
        } else {
            Ok("done")
        }
    })
    .unwrap();
    d.start().unwrap();
    let job = d
        .wait(d.push(NewJob::new("flaky", ())).unwrap().id, soon())
        .unwrap();
    assert_eq!((job.state, job.attempt), (State::Succeeded, 3));
    let pauses: Vec<_> = job
        .history
        .windows(2)
        .map(|w| w[1].started.since(w[0].ended))
        .collect();
    assert!(
        pauses[0] >= Duration::from_millis(10) && pauses[1] >= Duration::from_millis(20),
        "{pauses:?}"
    );
    d.stop(LONG).unwrap();
}

/// a body that does not listen is timed out by itself; its slot is held, its late answer refused.
#[test]
fn a_deaf_body_is_timed_out() {
    let d = open(|o| o.concurrency = 1);
    let (door, porter) = door();
    d.register("deaf", move |lease| door.pass(lease)).unwrap();
    d.register("next", |_| ()).unwrap();
    d.start().unwrap();
    let slow = NewJob::new("deaf", ())
        .timeout(Duration::from_millis(20))
        .max_attempts(1);
    let id = d.push(slow).unwrap().id;
    porter.meet();
    let next = d.push(NewJob::new("next", ())).unwrap().id;
    let job = d.wait(id, soon()).unwrap();
    assert_eq!(
        (job.state, job.error.unwrap().kind),
        (State::Failed, FailureKind::TimedOut)
    );
    assert_eq!(
        d.wait(next, Deadline::after(SHORT)).unwrap_err().kind(),
        ErrorKind::Timeout,
        "the slot is held"
    );
    porter.let_in();
    assert_eq!(d.wait(next, soon()).unwrap().state, State::Succeeded);
    assert_eq!(
        (d.state(id).unwrap(), d.stats().unwrap().total().totals.stale),
        (State::Failed, 1)
    );
    assert_eq!(d.get(id).unwrap().attempt, 1, "it ran once");
    d.stop(LONG).unwrap();
}

/// Row 20: a handler that listens hears of its timeout and of a cancellation.
#[test]
fn a_handler_that_listens_stops() {
    let d = open(|o| o.concurrency = 1);
    let (said, heard) = mpsc::channel();
    d.register("listens", move |lease| {
        said.send(()).unwrap();
        until("the signal", || lease.cancelled());
        Err::<(), _>("stopped")
    })
    .unwrap();
    d.start().unwrap();
    let timed = NewJob::new("listens", ())
        .timeout(Duration::from_millis(10))
        .max_attempts(1);
    let job = d.wait(d.push(timed).unwrap().id, soon()).unwrap();
    assert_eq!(job.error.unwrap().kind, FailureKind::TimedOut);
    heard.recv_timeout(LONG).unwrap();
    let id = d.push(NewJob::new("listens", ())).unwrap().id;
    heard.recv_timeout(LONG).unwrap();
    assert_eq!(d.cancel(id).unwrap(), State::Running);
    assert_eq!(d.wait(id, soon()).unwrap().state, State::Cancelled);
    d.stop(LONG).unwrap();
}

/// Row 53: jobs expire, and are forgotten, by themselves.
#[test]
fn jobs_expire_by_themselves() {
    let d = open(|_| ());
    let id = d
        .push(NewJob::new("nobody's", ()).expires_after(Duration::from_millis(10)))
        .unwrap()
        .id;
    assert_eq!(d.wait(id, soon()).unwrap().state, State::Expired);
    d.drain(soon()).unwrap();
    d.stop(LONG).unwrap();
}

/// a wait returns when the job ends, or when its own time is over.
#[test]
fn a_wait_ends_in_time() {
    let d = open(|o| o.concurrency = 1);
    let (door, porter) = door();
    d.register("k", move |lease| door.pass(lease)).unwrap();
    d.start().unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    porter.meet();
    assert_eq!(
        d.wait(id, Deadline::after(SHORT)).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    porter.let_in();
    assert_eq!(d.wait(id, soon()).unwrap().state, State::Succeeded);
    d.stop(LONG).unwrap();
}

// ---- idle cost ---------------------------------------------------------------------------------------

/// An engine whose calls are told to a channel while somebody listens.
fn overheard() -> (Arc<dyn Engine>, Arc<AtomicBool>, Receiver<Call>) {
    let (listening, (said, heard)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
    let (armed, said) = (listening.clone(), Mutex::new(said));
    let engine = Watched::new(memory(), move |call| {
        if armed.load(Ordering::SeqCst) {
            // The test may have heard enough.
            let _ = said.lock().unwrap().send(call);
        }
        Ok(())
    });
    (engine, listening, heard)
}

/// Nobody calls the engine any more, but for those who were just about to: not once in more than half a second,
/// which a poll twice a second would not stand.
fn assert_silence(listening: &AtomicBool, heard: &Receiver<Call>) {
    listening.store(true, Ordering::SeqCst);
    until("silence", || {
        heard.recv_timeout(SHORT) == Err(RecvTimeoutError::Timeout)
    });
    let call = heard.recv_timeout(SHORT * 3);
    listening.store(false, Ordering::SeqCst);
    assert_eq!(call, Err(RecvTimeoutError::Timeout), "nobody calls");
}

/// R-38 and row 11: idle workers, an idle upkeep thread and finished jobs make no call to the engine at all.
#[test]
fn idle_workers_call_nobody() {
    let (engine, listening, heard) = overheard();
    let d = Dispatcher::with_engine(engine, Options::default()).unwrap();
    d.register("k", |_| ()).unwrap();
    d.start().unwrap();
    for _ in 0..20 {
        d.wait(d.push(NewJob::new("k", ())).unwrap().id, soon()).unwrap();
    }
    d.push(NewJob::new("k", ()).delay(Duration::from_secs(3600)))
        .unwrap();
    d.push(NewJob::new("unknown", ())).unwrap();
    assert_silence(&listening, &heard);
    let sleeps = d.stats().unwrap().sleeps;
    assert_silence(&listening, &heard);
    assert_eq!(d.stats().unwrap().sleeps, sleeps, "nobody even wakes");
    d.stop(LONG).unwrap();
}

/// with every slot taken and a backlog, nobody calls either; and a free slot is used at once.
#[test]
fn saturated_workers_call_nobody() {
    let (engine, listening, heard) = overheard();
    let mut options = Options::default();
    options.concurrency = 2;
    let d = Dispatcher::with_engine(engine, options).unwrap();
    let (door, porter) = door();
    d.register("k", move |lease| door.pass(lease)).unwrap();
    d.start().unwrap();
    let jobs: Vec<_> = (0..50).map(|_| NewJob::new("k", ())).collect();
    d.push_many(&jobs).unwrap();
    porter.meet();
    porter.meet();
    let mut idle = d.consumer(Arc::new(KindSet::any()));
    let waiter = std::thread::spawn(move || drop(idle.next(Deadline::NEVER)));
    assert!(d.settle_to(1, LONG));
    assert_silence(&listening, &heard);
    porter.let_in();
    until("the first end", || {
        d.stats().unwrap().total().totals.succeeded == 1
    });
    d.request_stop();
    drop(porter);
    d.stop(LONG).unwrap();
    waiter.join().unwrap();
}

// ---- stopping ----------------------------------------------------------------------------------------

/// What ended how, as hooks were told.
#[derive(Default)]
struct Ends(Mutex<Vec<(forebay::JobId, State)>>);

impl Hooks for Ends {
    fn finished(&self, end: &End) {
        self.0.lock().unwrap().push((end.id, end.state));
    }
}

/// a stop while one job runs and one waits: the first is recorded once, the second is not started, the
/// next process runs only the second; hooks are told once of each.
#[test]
fn the_next_process_runs_only_what_is_left() {
    let folder = Folder::new();
    let open = || {
        let mut options = Options::default();
        (options.concurrency, options.dump_file) = (1, Some(folder.file()));
        Dispatcher::open("memory:", options).unwrap()
    };
    let (first, ends) = (open(), Arc::new(Ends::default()));
    first.add_hooks(ends.clone());
    let (door, porter) = door();
    first.register("k", move |lease| door.pass(lease)).unwrap();
    first.start().unwrap();
    let one = first.push(NewJob::new("k", ())).unwrap().id;
    let two = first.push(NewJob::new("k", ())).unwrap().id;
    porter.meet();
    let report = std::thread::scope(|scope| {
        let stop = scope.spawn(|| first.stop(LONG).unwrap());
        until("the stop", || first.stopping());
        porter.let_in();
        stop.join().unwrap()
    });
    assert_eq!((report.handed_back, report.waiting), (0, 1));
    assert_eq!(*ends.0.lock().unwrap(), [(one, State::Succeeded)]);
    assert_eq!(first.stats().unwrap().total().totals.claimed, 1);
    drop(first);

    let (second, ran) = (open(), Arc::new(AtomicUsize::new(0)));
    second.add_hooks(ends.clone());
    let count = ran.clone();
    let run = move |_: &Lease| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    second.register("k", run).unwrap();
    second.start().unwrap();
    let job = second.wait(two, soon()).unwrap();
    assert_eq!((job.state, job.attempt), (State::Succeeded, 1));
    assert_eq!(second.state(one).unwrap_err().kind(), ErrorKind::NotFound);
    second.stop(LONG).unwrap();
    assert_eq!(
        *ends.0.lock().unwrap(),
        [(one, State::Succeeded), (two, State::Succeeded)]
    );
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

/// stopping twice with running work and a backlog: both return, and the backlog is there for others.
#[test]
fn a_stop_with_a_backlog_returns_twice() {
    let d = open(|o| o.concurrency = 2);
    let (door, porter) = door();
    d.register("k", move |lease| door.pass(lease)).unwrap();
    d.start().unwrap();
    for _ in 0..20 {
        d.push(NewJob::new("k", ())).unwrap();
    }
    porter.meet();
    porter.meet();
    let reports = std::thread::scope(|scope| {
        let stops = [(); 2].map(|()| scope.spawn(|| d.stop(SHORT).unwrap()));
        stops.map(|stop| stop.join().unwrap())
    });
    assert_eq!((reports[0].handed_back, reports[0].waiting), (2, 20));
    assert_eq!(reports[0], reports[1]);
    porter.let_in();
    porter.let_in();
}

/// R-37 and C2: a body that outlives the grace does not hold the stop up; the next process can claim its job at
/// once, and what the body answers at last counts for nothing.
#[test]
fn a_hung_body_does_not_hold_the_stop_up() {
    let folder = Folder::new();
    let d = kept(&folder).unwrap();
    let (door, porter) = door();
    d.register("k", move |lease| door.pass(lease)).unwrap();
    d.start().unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    porter.meet();
    let (clock, before) = (SystemClock, SystemClock.now());
    let report = d.stop(Duration::from_millis(50)).unwrap();
    let took = clock.now().since(before);
    assert!(
        (Duration::from_millis(50)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    assert_eq!((report.handed_back, report.waiting), (1, 1));
    let old = d.clone();
    drop(d);
    let events = old.subscribe(10);
    porter.let_in();
    let late = events.next(soon()).expect("the late answer is told");
    assert_eq!(
        (late.kind, late.id, old.state(id).unwrap()),
        (EventKind::Stale, id, State::Queued)
    );
    // The file is free when nothing of the first dispatcher is left, its hung thread included.
    drop((old, events));
    let mut next = None;
    until("the file is free", || {
        next = kept(&folder).ok();
        next.is_some()
    });
    let next = next.unwrap();
    let mut consumer = next.consumer(Arc::new(KindSet::any()));
    let lease = consumer
        .next(Deadline::after(Duration::ZERO))
        .unwrap()
        .expect("claimable at once");
    assert_eq!((lease.id(), lease.attempt()), (id, 1));
}

/// C21: dispatchers that are started and stopped, or just dropped, with work or without, leave nothing behind.
#[test]
fn nothing_is_left_behind() {
    for round in 0..40 {
        let engine = memory();
        let left: Weak<MemoryEngine> = Arc::downgrade(&engine);
        let d = Dispatcher::with_engine(engine, Options::default()).unwrap();
        d.register("k", |_| ()).unwrap();
        if round % 2 == 0 {
            d.start().unwrap();
        }
        for _ in 0..round % 5 {
            d.push(NewJob::new("k", ()).delay(Duration::from_millis(round % 3)))
                .unwrap();
        }
        let subscription = d.subscribe(1);
        if round % 3 == 0 {
            d.stop(LONG).unwrap();
        }
        drop(d);
        drop(subscription);
        assert!(
            left.upgrade().is_none(),
            "round {round}: a thread or a cycle still holds the engine"
        );
    }
}

/// C21: starting after a stop is refused; stopping before a start is fine.
#[test]
fn a_stop_is_for_good() {
    let d = open(|_| ());
    d.register("k", |_| ()).unwrap();
    d.stop(LONG).unwrap();
    assert_eq!(d.start().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        d.push(NewJob::new("k", ())).unwrap_err().kind(),
        ErrorKind::Closed
    );
    d.stop(LONG).unwrap();
}

/// A request to stop ends the waits for jobs that nothing will run, also for one that would have another attempt;
/// for one that runs the wait goes on.
#[test]
fn a_requested_stop_ends_hopeless_waits() {
    let engine = memory();
    let d = Dispatcher::with_engine(engine.clone(), Options::default()).unwrap();
    let [good, bad, idle] = [(); 3].map(|()| d.push(NewJob::new("k", ())).unwrap().id);
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let [succeeds, fails] = [(); 2].map(|()| consumer.next(soon()).unwrap().expect("there is a job"));
    assert_eq!((succeeds.id(), fails.id()), (good, bad));
    std::thread::scope(|scope| {
        let [good, bad, idle] = [good, bad, idle].map(|id| {
            let d = &d;
            scope.spawn(move || d.wait(id, soon()).map(|job| job.state).map_err(|e| e.kind()))
        });
        until("they wait", || engine.signals().finished.waiters() == 3);
        d.request_stop();
        assert_eq!(idle.join().unwrap(), Err(ErrorKind::Closed));
        fails.complete(Outcome::failed("no")).unwrap();
        assert_eq!(bad.join().unwrap(), Err(ErrorKind::Closed));
        succeeds.complete(Outcome::done()).unwrap();
        assert_eq!(good.join().unwrap(), Ok(State::Succeeded));
    });
}

// ---- calls from handlers (C12) -----------------------------------------------------------------------

/// Runs `body` in a handler of `d` and gives what it said.
fn inside<R: Send + 'static>(
    d: &Dispatcher,
    body: impl Fn(&Dispatcher, &Lease) -> R + Send + Sync + 'static,
) -> R {
    let (said, heard) = mpsc::channel();
    let (said, own) = (Mutex::new(said), d.clone());
    d.register("inside", move |lease| {
        said.lock().unwrap().send(body(&own, lease)).unwrap()
    })
    .unwrap();
    d.start().unwrap();
    d.push(NewJob::new("inside", ())).unwrap();
    heard.recv_timeout(LONG).expect("the handler does not hang")
}

/// Whatever would wait for the handler that asks is refused at once, by kind.
#[test]
fn a_handler_cannot_wait_for_itself() {
    let d = open(|o| o.concurrency = 2);
    let kinds = inside(&d, |d, lease| {
        [
            d.stop(LONG).map(|_| ()).map_err(|e| e.kind()),
            d.drain(soon()).map_err(|e| e.kind()),
            d.wait(lease.id(), soon()).map(|_| ()).map_err(|e| e.kind()),
            d.consumer(Arc::new(KindSet::any()))
                .next(Deadline::NEVER)
                .map(|_| ())
                .map_err(|e| e.kind()),
        ]
    });
    assert_eq!(kinds, [Err(ErrorKind::WouldDeadlock); 4]);
    d.stop(LONG).unwrap();
}

/// A handler that waits for a child has one slot too few if it is the only one, and none too few if not.
#[test]
fn a_handler_may_wait_for_a_child_if_there_is_a_slot() {
    for (slots, want) in [(1, Err(ErrorKind::WouldDeadlock)), (2, Ok(State::Succeeded))] {
        let d = open(|o| o.concurrency = slots);
        d.register("child", |_| ()).unwrap();
        let got = inside(&d, |d, _| {
            let child = d.push(NewJob::new("child", ())).unwrap().id;
            d.wait(child, soon()).map(|job| job.state).map_err(|e| e.kind())
        });
        assert_eq!(got, want, "{slots} slots");
        d.drain(soon()).unwrap();
        d.stop(LONG).unwrap();
    }
}

/// When every slot is held by a handler that waits, the last one is refused, and all end.
#[test]
fn handlers_that_all_wait_do_not_hang() {
    let d = open(|o| o.concurrency = 3);
    d.register("child", |_| ()).unwrap();
    let own = d.clone();
    d.register_with("parent", KindOptions::new().max_attempts(50), move |_| {
        let child = own.push(NewJob::new("child", ())).unwrap().id;
        own.wait(child, soon()).map(|_| ())
    })
    .unwrap();
    let parents: Vec<_> = (0..6)
        .map(|_| d.push(NewJob::new("parent", ())).unwrap().id)
        .collect();
    d.start().unwrap();
    for id in parents {
        assert!(d.wait(id, soon()).unwrap().state.is_final());
    }
    d.drain(soon()).unwrap();
    d.stop(LONG).unwrap();
}

/// A push from a handler into its own full queue is refused or gives up; it never hangs.
#[test]
fn a_handler_may_push_into_its_full_queue() {
    let d = open(|o| (o.capacity, o.concurrency) = (1, 1));
    let (door, porter) = door();
    let own = d.clone();
    d.register("k", move |lease| {
        door.pass(lease);
        let short = own.push_within(NewJob::new("k", ()), Duration::from_millis(10));
        let endless = own.push_within(NewJob::new("k", ()), Duration::MAX);
        let kinds = [short, endless].map(|r| r.map(|_| ()).map_err(|e| e.kind()));
        assert_eq!(kinds, [Err(ErrorKind::Full), Err(ErrorKind::WouldDeadlock)]);
    })
    .unwrap();
    d.start().unwrap();
    let id = d.push(NewJob::new("k", ()).max_attempts(1)).unwrap().id;
    porter.meet();
    d.push(NewJob::new("other", ())).unwrap();
    porter.let_in();
    let job = d.wait(id, soon()).unwrap();
    assert_eq!((job.state, job.error), (State::Succeeded, None));
    d.stop(LONG).unwrap();
}

/// Everything else is allowed in a handler: push, look, cancel, pause, register, dump, restore, request a stop.
#[test]
fn a_handler_may_do_everything_else() {
    let (folder, d) = (Folder::new(), open(|o| o.concurrency = 1));
    let file = folder.file();
    inside(&d, move |d, lease| {
        let id = d.push(NewJob::new("k", ()).queue("q")).unwrap().id;
        assert_eq!(d.get(lease.id()).unwrap().state, State::Running);
        d.pause("q").unwrap();
        d.resume("q").unwrap();
        d.register("k", |_| ()).unwrap();
        assert_eq!(d.dump(&file).unwrap().jobs, 2);
        assert_eq!(d.restore(&file).unwrap().known, 2);
        assert_eq!(d.cancel(id).unwrap(), State::Cancelled);
        assert_eq!(d.cancel(lease.id()).unwrap(), State::Running);
        assert!(lease.cancelled());
        assert!(!d.explain(lease.id()).unwrap().reasons.is_empty());
        assert!(d.upkeep().is_ok());
        d.request_stop();
    });
    let report = d.stop(LONG).unwrap();
    assert_eq!((report.handed_back, report.waiting), (0, 0));
}

/// A request to stop from a handler: it ends, is recorded, and whoever stops outside is not held up.
#[test]
fn a_handler_may_ask_for_the_stop() {
    let d = open(|o| o.concurrency = 2);
    inside(&d, |d, _| d.request_stop());
    d.push(NewJob::new("inside", ())).unwrap();
    let report = d.stop(LONG).unwrap();
    assert_eq!((report.handed_back, report.waiting), (0, 1));
    assert_eq!(d.stats().unwrap().total().totals.succeeded, 1);
}

/// A handler may drop the last handle: everything ends, and the dump is written.
#[test]
fn a_handler_may_drop_the_last_handle_and_the_dump_is_written() {
    let folder = Folder::new();
    let mut options = Options::default();
    options.dump_file = Some(folder.file());
    let d = Dispatcher::open("memory:", options.clone()).unwrap();
    let (give, take) = mpsc::channel::<Dispatcher>();
    let take = Mutex::new(take);
    d.register("k", move |_| {
        drop(take.lock().unwrap().recv_timeout(LONG).unwrap())
    })
    .unwrap();
    d.start().unwrap();
    d.push(NewJob::new("k", ())).unwrap();
    let left = d.push(NewJob::new("nobody's", ())).unwrap().id;
    give.send(d).unwrap();
    let mut again = None;
    until("the file is free", || {
        again = Dispatcher::open("memory:", options.clone()).ok();
        again.is_some()
    });
    assert_eq!(again.unwrap().state(left).unwrap(), State::Queued);
}

// ---- the dump file -----------------------------------------------------------------------------------

fn kept(folder: &Folder) -> Result<Dispatcher, Error> {
    let mut options = Options::default();
    options.dump_file = Some(folder.file());
    Dispatcher::open("memory:", options)
}

/// a dump file that is not there is a fresh start, and is there after the stop.
#[test]
fn an_absent_dump_file_is_a_fresh_start() {
    let folder = Folder::new();
    let d = kept(&folder).unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    assert!(!folder.file().exists());
    d.stop(LONG).unwrap();
    assert!(folder.file().exists());
    assert_eq!(kept(&folder).unwrap().state(id).unwrap(), State::Queued);
}

/// two jobs that ran to their end do not run again, however often one starts and stops.
#[test]
fn finished_jobs_do_not_run_again() {
    let (folder, ran) = (Folder::new(), Arc::new(AtomicU64::new(0)));
    for round in 0..3 {
        let d = kept(&folder).unwrap();
        let count = ran.clone();
        let run = move |_: &Lease| {
            count.fetch_add(1, Ordering::SeqCst);
        };
        d.register("k", run).unwrap();
        d.start().unwrap();
        if round == 0 {
            for _ in 0..2 {
                d.push(NewJob::new("k", ())).unwrap();
            }
        }
        d.drain(soon()).unwrap();
        d.stop(LONG).unwrap();
    }
    assert_eq!(ran.load(Ordering::SeqCst), 2);
}

/// Dropping the last handle writes the dump, too.
#[test]
fn dropping_the_last_handle_writes_the_dump() {
    let folder = Folder::new();
    let d = kept(&folder).unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    drop(d);
    assert_eq!(kept(&folder).unwrap().state(id).unwrap(), State::Queued);
}

/// A dump file has one owner at a time.
#[test]
fn a_dump_file_has_one_owner() {
    let folder = Folder::new();
    let first = kept(&folder).unwrap();
    let error = kept(&folder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    first.stop(LONG).unwrap();
    drop(first);
    kept(&folder).unwrap();
}

/// A damaged or newer dump file is a typed error, and is left alone.
#[test]
fn a_damaged_dump_file_is_left_alone() {
    let folder = Folder::new();
    for (text, kind) in [
        ("{\"forebay_dump\":1,\"created_us\":0}\n", ErrorKind::Corrupt),
        ("{\"forebay_dump\":99}\n", ErrorKind::FutureFormat),
    ] {
        std::fs::write(folder.file(), text).unwrap();
        assert_eq!(kept(&folder).unwrap_err().kind(), kind);
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), text);
    }
}

/// With an interval, the file follows the jobs without a stop.
#[test]
fn the_dump_is_written_at_its_interval() {
    let folder = Folder::new();
    let mut options = Options::default();
    (options.dump_file, options.dump_interval) = (Some(folder.file()), Some(Duration::from_millis(5)));
    let d = Dispatcher::open("memory:", options).unwrap();
    let holds = |id: forebay::JobId| {
        let text = std::fs::read_to_string(folder.file()).unwrap_or_default();
        text.contains(&id.to_string())
    };
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    until("the job is in the file", || holds(id));
    d.cancel(id).unwrap();
    until("the job is in the file no more", || !holds(id));
    d.stop(LONG).unwrap();
}

/// An object that cannot be encoded.
struct Socket;

impl HostObject for Socket {
    fn encode(&self) -> forebay::Result<Encoded> {
        Err(Error::new(ErrorKind::Encode, "$ is a socket"))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// With a dump file, nothing is accepted that it could not hold.
#[test]
fn what_cannot_be_dumped_is_not_accepted() {
    let folder = Folder::new();
    let d = kept(&folder).unwrap();
    assert_eq!(
        d.push(NewJob::new("k", Payload::host(Socket)))
            .unwrap_err()
            .kind(),
        ErrorKind::Encode
    );
    d.push(NewJob::new("k", ())).unwrap();
    d.stop(LONG).unwrap();
}

// ---- full queues -------------------------------------------------------------------------------------

/// Row 54: `block` brakes the pushers to the pace of the workers, and loses nothing.
#[test]
fn a_full_queue_brakes_its_pushers() {
    let d = Dispatcher::open(
        "memory:?capacity=3&on_full=block(20s)&concurrency=2",
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
