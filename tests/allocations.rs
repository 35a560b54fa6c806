//! How often a job allocates, from the push of a slice to the stored outcome. A program of its own, because it
//! counts with an allocator that serves everybody in the process.
//!
//! A table that grows allocates once for many jobs, so every bound is per thousand jobs, after as many jobs for
//! warming up.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Deadline, Dispatcher, KindSet, Lease, ManualClock, NewJob, Options, Outcome};

/// Counts what it hands out.
struct Counting;

static HANDED_OUT: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is from `System`, because all are.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`, and the block is from `System`.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Jobs that are counted.
const JOBS: u64 = 20_000;

/// What a job of 100 bytes is pushed with.
const PAYLOAD: [u8; 100] = [7; 100];

/// A way of getting jobs done, and how often a thousand of them may allocate.
struct Way {
    name: &'static str,
    /// Jobs that may run at once.
    concurrency: usize,
    work: fn(&Dispatcher, u64),
    bound: u64,
}

const WAYS: [Way; 6] = [
    Way {
        name: "a closure, one push per job",
        concurrency: 1,
        work: closures,
        bound: 100,
    },
    Way {
        name: "a closure, 64 jobs per push",
        concurrency: 1,
        work: closures_in_batches,
        bound: 200,
    },
    Way {
        name: "claimed one by one",
        concurrency: 1,
        work: claims,
        bound: 100,
    },
    Way {
        name: "claimed and completed 64 at a time",
        concurrency: 64,
        work: claims_in_batches,
        bound: 200,
    },
    Way {
        name: "left to its ticket and answered by that, 64 at a time",
        concurrency: 64,
        work: tickets_in_batches,
        bound: 200,
    },
    Way {
        name: "a closure, 64 jobs given away per push",
        concurrency: 1,
        work: given_in_batches,
        bound: 200,
    },
];

/// One test, so that no other one allocates meanwhile.
#[test]
fn a_job_allocates_as_often_as_stated() {
    let found: Vec<u64> = WAYS.iter().map(per_thousand).collect();
    for (Way { name, bound, .. }, found) in WAYS.iter().zip(&found) {
        println!("{name}: {found} allocations per 1000 jobs, the bound is {bound}");
    }
    assert!(WAYS.iter().zip(&found).all(|(way, found)| *found <= way.bound));
}

/// Runs the workload twice on one dispatcher and counts the second time.
fn per_thousand(way: &Way) -> u64 {
    let mut options = Options::default();
    options.concurrency = way.concurrency;
    // The memory of finished jobs is full when the counting begins.
    options.keep_finished = 1000;
    // A clock that stands still has no upkeep thread.
    let d = Dispatcher::open_with_clock("memory:", options, Arc::new(ManualClock::new()))
        .expect("fitting options");
    d.register("noop", |_| ()).expect("a valid name");
    (way.work)(&d, JOBS);
    let before = HANDED_OUT.load(Ordering::Relaxed);
    (way.work)(&d, JOBS);
    let handed_out = HANDED_OUT.load(Ordering::Relaxed) - before;
    let done = d.stats().expect("memory does not fail").total().totals.succeeded;
    assert_eq!(done, 2 * JOBS, "all of them ran");
    d.stop(Duration::ZERO).expect("nothing runs any more");
    handed_out * 1000 / JOBS
}

/// Handlers on threads of the dispatcher's.
fn closures(d: &Dispatcher, jobs: u64) {
    let kind = d.kind("noop").expect("a valid name");
    d.start().expect("a thread can be had");
    for _ in 0..jobs {
        d.push(NewJob::new(kind, &PAYLOAD)).expect("there is room");
    }
    d.drain(Deadline::after(Duration::from_secs(60)))
        .expect("no-op jobs end");
}

/// The same, with 64 jobs in a push.
fn closures_in_batches(d: &Dispatcher, jobs: u64) {
    d.start().expect("a thread can be had");
    push_in_batches(d, jobs);
    d.drain(Deadline::after(Duration::from_secs(60)))
        .expect("no-op jobs end");
}

/// A thread of the host's that answers for a job and asks for the next in one call.
fn claims(d: &Dispatcher, jobs: u64) {
    let kind = d.kind("noop").expect("a valid name");
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    for _ in 0..jobs {
        d.push(NewJob::new(kind, &PAYLOAD)).expect("there is room");
    }
    let mut next = consumer
        .next(Deadline::after(Duration::ZERO))
        .expect("memory does not fail");
    while let Some(lease) = next.take() {
        let outcome = lease.run(|_| Outcome::from(()));
        next = consumer
            .complete_and_next(lease, outcome)
            .expect("memory does not fail")
            .1;
    }
}

/// The same, 64 jobs at a time in every call.
fn claims_in_batches(d: &Dispatcher, jobs: u64) {
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    push_in_batches(d, jobs);
    let (mut leases, mut next) = (Vec::new(), Vec::new());
    consumer
        .next_many(64, Deadline::after(Duration::ZERO), &mut leases)
        .expect("memory does not fail");
    while !leases.is_empty() {
        let done = leases.drain(..).map(|lease| (lease, Outcome::from(())));
        consumer
            .complete_and_next_many(done, 64, &mut next)
            .expect("memory does not fail");
        std::mem::swap(&mut leases, &mut next);
    }
}

/// The same, with tickets, which any thread might answer.
fn tickets_in_batches(d: &Dispatcher, jobs: u64) {
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    push_in_batches(d, jobs);
    let mut leases = Vec::new();
    let at_once = Deadline::after(Duration::ZERO);
    while consumer
        .next_many(64, at_once, &mut leases)
        .expect("memory does not fail")
        > 0
    {
        let tickets = leases.drain(..).map(Lease::park);
        let tickets: Vec<_> = tickets.map(|ticket| (ticket, Outcome::from(()))).collect();
        d.finish(tickets).expect("memory does not fail");
    }
}

/// Closures, and batches whose payloads become the queue's.
fn given_in_batches(d: &Dispatcher, jobs: u64) {
    let kind = d.kind("noop").expect("a valid name");
    d.start().expect("a thread can be had");
    let mut batch = Vec::with_capacity(64);
    let mut left = jobs;
    while left > 0 {
        let size = left.min(64);
        batch.extend((0..size).map(|_| NewJob::new(kind, &PAYLOAD)));
        d.push_from(&mut batch).expect("there is room");
        left -= size;
    }
    d.drain(Deadline::after(Duration::from_secs(60)))
        .expect("no-op jobs end");
}

fn push_in_batches(d: &Dispatcher, jobs: u64) {
    let kind = d.kind("noop").expect("a valid name");
    let mut left = jobs;
    let mut batch = Vec::with_capacity(64);
    while left > 0 {
        let size = left.min(64);
        batch.clear();
        batch.extend((0..size).map(|_| NewJob::new(kind, &PAYLOAD)));
        d.push_many(&batch).expect("there is room");
        left -= size;
    }
}
