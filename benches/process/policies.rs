//! What the rules against overload cost a job that none of them stops: pushes with room, claims within every limit.

use std::sync::Arc;

use forebay::{Consumer, Deadline, Dispatcher, KindId, KindSet, Lease, NewJob, Options, Outcome};
use forebay_benches::figures::Figures;
use forebay_benches::measure::{median, seconds};

/// Jobs that wait at most: few enough to stay in the cache.
const SLICE: usize = 1000;
const SLICES: usize = 500;
const BATCH: usize = 64;

/// The options and the number of concurrency keys of a contender.
fn rules(name: &str) -> (&'static str, usize) {
    match name {
        "plain" => ("capacity=0", 0),
        "reject" => ("capacity=1000000", 0),
        "drop-oldest" => ("capacity=1000000&on_full=drop_oldest", 0),
        "bytes" => ("capacity_bytes=1000000000&on_full=drop_oldest", 0),
        "delay" => ("delay_target=1h&newest_first=true", 0),
        "budget" => ("retry_budget=share(0.2)", 0),
        "all" => (
            "capacity_bytes=1000000000&on_full=drop_oldest&delay_target=1h&retry_budget=share(0.2)",
            0,
        ),
        "keys-10" => ("key_concurrency=1000000", 10),
        "keys-1000" => ("key_concurrency=1000000", SLICE),
        _ => panic!("no contender is called {name:?}"),
    }
}

/// One thread that pushes a slice of jobs and runs them, over and over.
pub fn unstopped(name: &str) -> Figures {
    let (options, keys) = rules(name);
    let d = Dispatcher::open(
        &format!("memory:?concurrency={BATCH}&{options}"),
        Options::default(),
    );
    let d = d.expect("the options fit together");
    let kind = d.kind("noop").expect("a valid name");
    let keys: Vec<String> = (0..keys).map(|n| format!("key-{n}")).collect();
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let (mut pushing, mut running) = (Vec::new(), Vec::new());
    for slice in 0..2 * SLICES {
        let pushed = seconds(|| push_slice(&d, kind, &keys));
        let ran = seconds(|| run_slice(&mut consumer));
        // The first half warms up.
        if slice >= SLICES {
            pushing.push(pushed);
            running.push(ran);
        }
    }
    // The median: a slice during which others had the core says nothing.
    let per_job = |slices: Vec<f64>| median(slices).map_or(0.0, |seconds| 1e9 * seconds / SLICE as f64);
    Figures::from([
        ("ns/push".into(), per_job(pushing)),
        ("ns/claim and end".into(), per_job(running)),
    ])
}

fn push_slice(d: &Dispatcher, kind: KindId, keys: &[String]) {
    for number in 0..SLICE {
        let mut job = NewJob::new(kind, [7; 100].as_slice());
        if !keys.is_empty() {
            job = job.concurrency_key(keys[number % keys.len()].as_str());
        }
        d.push(job).expect("there is room");
    }
}

fn run_slice(consumer: &mut Consumer) {
    let (mut leases, mut next, mut left) = (Vec::new(), Vec::new(), SLICE);
    let first = consumer.next_many(BATCH, Deadline::NEVER, &mut leases);
    first.expect("memory does not fail");
    while left > 0 {
        left -= leases.len();
        let done = leases.drain(..).map(|lease: Lease| (lease, Outcome::done()));
        let claimed = consumer.complete_and_next_many(done, BATCH.min(left), &mut next);
        claimed.expect("memory does not fail");
        std::mem::swap(&mut leases, &mut next);
    }
}
