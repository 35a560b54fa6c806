//! Exact counts of the hot path: what a job costs in readings of the clock, calls to the engine and sleeps, on any
//! machine. Nothing here is timed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use forebay::conformance::wrap::{Call, Watched};
use forebay::engine::memory::MemoryEngine;
use forebay::{Clock, Deadline, Dispatcher, KindSet, NewJob, Options, Outcome, SystemClock, Timestamp};

const JOBS: u64 = 10_000;

/// Longer than any of this takes on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

/// The system's clock, which counts how often it is asked. It has no upkeep thread.
#[derive(Debug, Default)]
struct CountingClock(AtomicU64);

impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        self.0.fetch_add(1, Ordering::Relaxed);
        SystemClock.now()
    }

    fn runs(&self) -> bool {
        false
    }
}

/// How often the clock is read by `work`, which does `JOBS` jobs.
fn readings(work: impl FnOnce(&Dispatcher)) -> u64 {
    let clock = Arc::new(CountingClock::default());
    let d =
        Dispatcher::open_with_clock("memory:", running_at_once(1), clock.clone()).expect("fitting options");
    let before = clock.0.load(Ordering::Relaxed);
    work(&d);
    clock.0.load(Ordering::Relaxed) - before
}

fn running_at_once(jobs: usize) -> Options {
    let mut options = Options::default();
    options.concurrency = jobs;
    options
}

fn push_all(d: &Dispatcher) {
    let kind = d.kind("noop").expect("a valid name");
    for _ in 0..JOBS {
        d.push(NewJob::new(kind, &[7; 100])).expect("there is room");
    }
}

fn push_in_batches(d: &Dispatcher) {
    let kind = d.kind("noop").expect("a valid name");
    let jobs: Vec<_> = (0..64).map(|_| NewJob::new(kind, &[7; 100])).collect();
    for start in (0..JOBS).step_by(64) {
        let size = (JOBS - start).min(64);
        d.push_many(&jobs[..size as usize]).expect("there is room");
    }
}

fn claim_all(d: &Dispatcher, batch: usize) {
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let (mut leases, mut next) = (Vec::new(), Vec::new());
    consumer
        .next_many(batch, Deadline::after(Duration::ZERO), &mut leases)
        .expect("memory does not fail");
    while !leases.is_empty() {
        let done = leases.drain(..).map(|lease| (lease, Outcome::from(())));
        consumer
            .complete_and_next_many(done, batch, &mut next)
            .expect("memory does not fail");
        std::mem::swap(&mut leases, &mut next);
    }
}

#[test]
fn a_push_reads_the_clock_once() {
    assert_eq!(readings(push_all), JOBS);
}

#[test]
fn a_push_of_many_reads_the_clock_once() {
    assert_eq!(readings(push_in_batches), JOBS.div_ceil(64));
}

#[test]
fn completing_a_job_and_claiming_the_next_reads_the_clock_once() {
    let all = readings(|d| {
        push_all(d);
        claim_all(d, 1);
    });
    let found = all - JOBS;
    assert!(found <= JOBS + 2, "{found} readings for {JOBS} jobs");
}

/// The calls to the engine while `work` runs.
fn calls(options: Options, work: impl FnOnce(&Dispatcher)) -> Vec<Call> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let engine = Watched::new(Arc::new(MemoryEngine::new(options.keep_finished)), move |call| {
        ear.lock().expect("nobody panics").push(call);
        Ok(())
    });
    // No upkeep thread, which has calls of its own to make.
    let clock = Arc::new(CountingClock::default());
    let d = Dispatcher::with_clock(engine, options, clock).expect("fitting options");
    heard.lock().expect("nobody panics").clear();
    work(&d);
    std::mem::take(&mut *heard.lock().expect("nobody panics"))
}

#[test]
fn the_engine_is_called_once_per_batch() {
    let found = calls(running_at_once(64), |d| {
        push_in_batches(d);
        claim_all(d, 64);
    });
    let batches = JOBS.div_ceil(64) as usize;
    let inserts = found
        .iter()
        .filter(|call| matches!(call, Call::Insert(_)))
        .count();
    let turns = found.iter().filter(|call| matches!(call, Call::Turn(..))).count();
    assert_eq!(inserts, batches);
    // A few more: to find that nothing is there, before and after.
    assert!(turns <= batches + 4, "{turns} turns for {batches} batches");
    assert_eq!(found.len(), inserts + turns, "and for nothing else");
}

/// Work that is pushed while the worker is busy: nobody is rung for it, and the worker does not sleep before all of
/// it is done.
#[test]
fn a_worker_with_work_neither_sleeps_nor_is_woken() {
    let d = Dispatcher::open("memory:", running_at_once(1)).expect("fitting options");
    let (started, begun) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    d.register("gate", move |_| {
        started.send(()).expect("the test listens");
        gate.lock()
            .expect("nobody panics")
            .recv()
            .expect("the test lets it go")
    })
    .expect("a valid name");
    let (switches, seen) = mpsc::channel();
    d.register("switches", move |_| {
        switches.send(voluntary_switches()).expect("the test listens")
    })
    .expect("a valid name");
    d.register("noop", |_| ()).expect("a valid name");
    d.start().expect("a thread can be had");
    d.push(NewJob::new("gate", ())).expect("there is room");
    begun.recv_timeout(LONG).expect("the body starts");
    let sleeps = d.stats().expect("memory does not fail").sleeps;
    d.push(NewJob::new("switches", ())).expect("there is room");
    push_all(&d);
    d.push(NewJob::new("switches", ())).expect("there is room");
    assert_eq!(d.stats().expect("memory does not fail").sleeps, sleeps);
    go.send(()).expect("the worker waits");
    let first = seen.recv_timeout(LONG).expect("it is the next job");
    let last = seen.recv_timeout(LONG).expect("it is the last job");
    let slept = d.stats().expect("memory does not fail").sleeps - sleeps;
    assert!(
        slept <= 1,
        "the worker slept {slept} times; after the last job it may"
    );
    // A lock that two threads want may put one of them to sleep for a moment; a sleep per job, or per thousand
    // jobs, is something else.
    assert!(
        last - first <= JOBS / 1000,
        "{} sleeps of the thread in {JOBS} jobs",
        last - first
    );
    d.stop(LONG).expect("it ends");
}

/// How often the calling thread has given up its processor to wait for something.
fn voluntary_switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux tells");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok())
        .expect("a number")
}
