//! Defects that reviews found in the dispatcher, each shown once by what a user would have seen.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use forebay::{
    Answer, Clock, Deadline, Dispatcher, ErrorKind, Hooks, JobId, KindOptions, KindSet, Lease, NewJob,
    Options, Outcome, RetryPolicy, State, SystemClock, Timestamp, UnknownKinds,
};

const LONG: Duration = Duration::from_secs(60);

fn soon() -> Deadline {
    Deadline::after(LONG)
}

fn in_memory(set: impl FnOnce(&mut Options)) -> Dispatcher {
    let mut options = Options::default();
    set(&mut options);
    Dispatcher::open("memory:", options).expect("the options fit together")
}

/// A folder that is gone after the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The system's clock, that tells when the thread of the interval's dump asks for the time.
#[derive(Debug)]
struct TellsOfDumps(Mutex<mpsc::Sender<()>>);

impl Clock for TellsOfDumps {
    fn now(&self) -> Timestamp {
        if std::thread::current().name() == Some("forebay-dump") {
            let _ = self.0.lock().expect("nobody panics").send(());
        }
        SystemClock.now()
    }
}

/// Idle workers of a kind whose limit is reached sleep: they do not wake each other for ever.
#[test]
fn a_reached_limit_does_not_keep_idle_workers_awake() {
    let d = in_memory(|o| o.concurrency = 4);
    let (go, wait) = mpsc::channel::<()>();
    let (started, heard) = mpsc::channel();
    let wait = Mutex::new(wait);
    d.register_with("k", KindOptions::new().concurrency(1), move |_| {
        started.send(()).expect("the test listens");
        let _ = wait.lock().expect("nobody panics").recv();
    })
    .expect("a valid name");
    d.start().expect("threads can be had");
    d.push(NewJob::new("k", ())).expect("there is room");
    heard.recv_timeout(LONG).expect("the body starts");
    assert!(d.settle_to(3, LONG), "the other three fall asleep");
    let before = d.stats().expect("memory does not fail").sleeps;
    // Nothing happens, so nobody wakes: an event that must not come.
    let mut idle = d.consumer(Arc::new(KindSet::new()));
    assert!(
        idle.next(Deadline::after(Duration::from_millis(200)))
            .expect("the store works")
            .is_none()
    );
    let woken = d.stats().expect("memory does not fail").sleeps - before;
    assert!(woken < 50, "idle workers went to sleep {woken} times in 200 ms");
    drop(go);
    d.stop(LONG).expect("it ends");
}

/// What is accepted while the last dump is being written is in it, or was not accepted.
#[test]
fn a_push_during_the_last_dump_is_refused() {
    let folder = Folder::new("last-dump");
    let open = || in_memory(|o| o.dump_file = Some(folder.0.join("jobs.dump")));
    let d = open();
    let (stopping, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let pusher = {
        let (d, stopping, accepted) = (d.clone(), stopping.clone(), accepted.clone());
        std::thread::spawn(move || {
            while d.push(NewJob::new("k", ())).is_ok() {
                accepted.fetch_add(1, SeqCst);
                stopping.store(1, SeqCst);
            }
        })
    };
    while stopping.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    d.stop(Duration::ZERO).expect("it stops");
    pusher.join().expect("it ends with the first refusal");
    drop(d);
    assert_eq!(
        open().len("default").expect("memory does not fail"),
        accepted.load(SeqCst) as u64
    );
}

/// A stop without a grace leaves no job running in the store: each is over or waits.
#[test]
fn a_stop_without_grace_leaves_nothing_running() {
    for round in 0..100 {
        let d = in_memory(|o| {
            o.concurrency = 6;
            o.max_attempts = 1;
        });
        d.register("k", |_| std::thread::yield_now())
            .expect("a valid name");
        d.start().expect("threads can be had");
        for _ in 0..50 {
            d.push(NewJob::new("k", ())).expect("there is room");
        }
        d.stop(Duration::ZERO).expect("it stops");
        let total = d.stats().expect("memory does not fail").total();
        assert_eq!(
            (total.running, total.balanced()),
            (0, true),
            "round {round}: {total:?}"
        );
    }
}

/// A second stop tells what the first one told.
#[test]
fn a_second_stop_does_not_hide_the_error_of_the_first() {
    let folder = Folder::new("second-stop");
    let d = in_memory(|o| o.dump_file = Some(folder.0.join("jobs.dump")));
    d.push(NewJob::new("k", ())).expect("there is room");
    std::fs::remove_dir_all(&folder.0).expect("it is ours");
    let kinds: Vec<_> = (0..2)
        .map(|_| d.stop(LONG).expect_err("the dump fails").kind())
        .collect();
    assert_eq!(kinds, [ErrorKind::Storage, ErrorKind::Storage]);
}

/// The last handle may go while the interval's dump is being written: its thread does not wait for itself.
#[test]
fn the_last_handle_may_go_during_a_dump() {
    let folder = Folder::new("interval");
    let path = folder.0.join("jobs.dump");
    let mut options = Options::default();
    options.dump_file = Some(path.clone());
    options.dump_interval = Some(Duration::from_millis(1));
    let (in_dump, seen) = mpsc::channel();
    let clock = Arc::new(TellsOfDumps(Mutex::new(in_dump)));
    let d = Dispatcher::open_with_clock("memory:", options, clock).expect("the options fit together");
    d.push(NewJob::new("k", ())).expect("there is room");
    seen.recv_timeout(LONG).expect("a dump is written");
    drop(d);
    let again = in_memory(|o| o.dump_file = Some(path.clone()));
    assert_eq!(again.len("default").expect("memory does not fail"), 1);
}

/// Numbers of another dispatcher are refused; they would name something else here, or nothing.
#[test]
fn numbers_of_another_dispatcher_are_refused() {
    let (d, other) = (in_memory(|_| ()), in_memory(|_| ()));
    for name in ["a", "b", "c"] {
        other.kind(name).expect("a valid name");
        other.queue(name).expect("a valid name");
    }
    let (kind, queue) = (
        other.kind("c").expect("it is there"),
        other.queue("c").expect("it is there"),
    );
    for job in [NewJob::new(kind, ()), NewJob::new("k", ()).queue(queue)] {
        assert_eq!(
            d.push(job).expect_err("it is not one of ours").kind(),
            ErrorKind::Invalid
        );
    }
}

/// Kinds that are refused take no numbers.
#[test]
fn refused_kinds_are_not_kept() {
    let d = in_memory(|o| o.unknown_kinds = UnknownKinds::Reject);
    for i in 0..100 {
        let error = d
            .push(NewJob::new(format!("unknown {i}"), ()))
            .expect_err("nobody handles it");
        assert_eq!(error.kind(), ErrorKind::UnknownKind);
    }
    assert_eq!(d.kind("first").expect("a valid name").index(), 0);
}

/// Follow-ups belong to the end that their attempt asked for, not to another one.
#[test]
fn follow_ups_go_with_the_end_they_were_meant_for() {
    let d = in_memory(|o| {
        o.max_payload = 4;
        o.retry = RetryPolicy::none();
    });
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let mut next = || {
        consumer
            .next(soon())
            .expect("the store works")
            .expect("there is a job")
    };
    let follow_up = [NewJob::new("next", ()).delay(LONG)];

    let pushed = d.push(NewJob::new("k", ())).expect("there is room");
    let lease = next();
    d.cancel(pushed.id).expect("it is known");
    let answer = lease
        .complete_and_push(Outcome::done(), &follow_up)
        .expect("the store works");
    assert_eq!(answer, Answer::Stored(State::Cancelled));

    d.push(NewJob::new("k", ())).expect("there is room");
    let too_long = Outcome::Success("too long".into());
    let answer = next()
        .complete_and_push(too_long, &follow_up)
        .expect("the store works");
    assert_eq!(answer, Answer::Stored(State::Queued), "a failed attempt");
    assert_eq!(
        d.stats().expect("memory does not fail").total().totals.pushed,
        2,
        "and no follow-up"
    );

    d.upkeep().expect("memory does not fail");
    next()
        .complete_and_push(Outcome::done(), &follow_up)
        .expect("the store works");
    assert_eq!(d.stats().expect("memory does not fail").total().totals.pushed, 3);
}

/// Two handlers that hold every slot and wait for each other are told so.
#[test]
fn handlers_that_wait_for_each_other_are_told() {
    let d = in_memory(|o| o.concurrency = 2);
    let (a, b) = (JobId::from_u128(1), JobId::from_u128(2));
    let (inner, both) = (d.clone(), Barrier::new(2));
    d.register("k", move |lease| {
        both.wait();
        let other = if lease.id() == a { b } else { a };
        match inner.wait(other, soon()) {
            Err(e) if e.kind() == ErrorKind::WouldDeadlock => Outcome::fatal("told"),
            other => Outcome::Success(format!("{other:?}").into()),
        }
    })
    .expect("a valid name");
    d.start().expect("threads can be had");
    for id in [a, b] {
        d.push(NewJob::new("k", ()).id(id)).expect("there is room");
    }
    d.drain(soon()).expect("they end");
    assert!(
        d.stats().expect("memory does not fail").total().totals.failed > 0,
        "one of them was told"
    );
    d.stop(LONG).expect("it ends");
}

/// Handlers that are futures.
mod futures {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .expect("threads can be had")
    }

    #[derive(Default)]
    struct Calls(AtomicUsize, AtomicUsize);

    impl Hooks for Calls {
        fn before(&self, _: &Lease) {
            self.0.fetch_add(1, SeqCst);
        }

        fn after(&self, _: &Lease, _: &Outcome, _: Duration) {
            self.1.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn both_hooks_are_called() {
        let (runtime, d, calls) = (runtime(), in_memory(|_| ()), Arc::<Calls>::default());
        d.add_hooks(calls.clone());
        d.register_async("k", KindOptions::new(), runtime.handle(), |_| async {})
            .expect("a valid name");
        let pushed = d.push(NewJob::new("k", ())).expect("there is room");
        d.wait(pushed.id, soon()).expect("it ends");
        assert_eq!((calls.0.load(SeqCst), calls.1.load(SeqCst)), (1, 1));
        d.stop(LONG).expect("it ends");
    }

    #[test]
    fn a_kept_lease_does_not_lose_the_answer() {
        let (runtime, d) = (runtime(), in_memory(|_| ()));
        let (keep, kept) = mpsc::channel();
        d.register_async("k", KindOptions::new(), runtime.handle(), move |lease| {
            keep.send(lease).expect("the test listens");
            async { Ok::<_, String>("answer") }
        })
        .expect("a valid name");
        let pushed = d.push(NewJob::new("k", ())).expect("there is room");
        let lease = kept.recv_timeout(LONG).expect("it starts");
        // The body has answered when only this clone is left.
        while Arc::strong_count(&lease) > 1 {
            std::thread::yield_now();
        }
        drop(lease);
        let job = d.wait(pushed.id, soon()).expect("it ends");
        assert_eq!((job.state, job.attempt), (State::Succeeded, 1));
        d.stop(LONG).expect("it ends");
    }

    #[test]
    fn a_second_listener_does_not_silence_the_first() {
        let (runtime, d) = (runtime(), in_memory(|_| ()));
        let (started, heard) = mpsc::channel();
        d.register_async("k", KindOptions::new(), runtime.handle(), move |lease| {
            let started = started.clone();
            async move {
                let second = tokio::spawn(async move { lease.stopped().await });
                tokio::task::yield_now().await;
                started.send(()).expect("the test listens");
                std::future::pending::<()>().await;
                drop(second);
            }
        })
        .expect("a valid name");
        let pushed = d.push(NewJob::new("k", ())).expect("there is room");
        heard.recv_timeout(LONG).expect("it starts");
        d.cancel(pushed.id).expect("it is known");
        assert_eq!(
            d.wait(pushed.id, soon()).expect("it ends").state,
            State::Cancelled
        );
        d.stop(LONG).expect("it ends");
    }

    #[test]
    fn a_second_handler_replaces_the_first() {
        let (runtime, d, old) = (runtime(), in_memory(|_| ()), Arc::new(AtomicUsize::new(0)));
        let count = old.clone();
        d.register_async("k", KindOptions::new(), runtime.handle(), move |_| {
            count.fetch_add(1, SeqCst);
            async {}
        })
        .expect("a valid name");
        d.register_async("k", KindOptions::new(), runtime.handle(), |_| async {})
            .expect("a valid name");
        for _ in 0..100 {
            d.push(NewJob::new("k", ())).expect("there is room");
        }
        d.drain(soon()).expect("they end");
        assert_eq!(old.load(SeqCst), 0, "the one that was replaced ran");
        d.stop(LONG).expect("it ends");
    }
}
