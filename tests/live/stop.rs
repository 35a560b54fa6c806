//! Stopping, with work under way and without.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use forebay::engine::Engine;
use forebay::engine::memory::MemoryEngine;
use forebay::{
    Clock, Deadline, Dispatcher, End, ErrorKind, EventKind, Hooks, KindSet, Lease, NewJob, Options, Outcome,
    State, SystemClock,
};

use crate::stage::*;

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
        // A body that has outlived the grace, which is none here, ends by itself.
        until(&format!("the end of round {round}, with nothing held,"), || {
            left.upgrade().is_none()
        });
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
