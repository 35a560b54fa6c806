//! What a long queue does: to a claim, to the next start of the program, to memory.

use std::sync::Arc;

use forebay::{Consumer, Deadline, Durability, KindSet, Options};
use forebay_benches::arguments::Arguments;
use forebay_benches::figures::Figures;
use forebay_benches::measure::{Sample, resident_bytes};
use forebay_benches::round::in_process;
use forebay_benches::stores::{Forebay, Scratch, Store, url};

use crate::durable::wal::HighWater;

/// How many jobs wait in the tables of a long queue.
const MILLION: u64 = 1_000_000;

/// Pushes, claims and completes one job after the other while this many wait.
pub fn claims(name: &str, arguments: &Arguments) -> Figures {
    let folder = Scratch::new(arguments.text("folder"));
    let waiting: u64 = name.parse().expect("a number of jobs");
    let store = Forebay::open(&url(folder.path()), Durability::Memory);
    fill(&store, waiting);
    let mut consumer = store.dispatcher.consumer(Arc::new(KindSet::any()));
    let mut turn = |times: u64| {
        for _ in 0..times {
            store.push(&[7; 100]);
            let lease = consumer.next(Deadline::NEVER).expect("nobody stops it");
            let lease = lease.expect("a job waits");
            lease.complete(()).expect("the disk works");
        }
    };
    turn(10_000);
    let times = arguments.value("jobs", 100_000);
    let sample = Sample::of(times, || turn(times));
    Figures::from([
        ("µs per push, claim and completion".into(), 1e6 / sample.rate()),
        ("CPU µs/job".into(), sample.cpu_per_job()),
    ])
}

/// Opens a file with a million jobs that another process has left.
pub fn recovery(name: &str, arguments: &Arguments) -> Figures {
    if name == "fill" {
        return left_behind(arguments);
    }
    let folder = Scratch::new(arguments.text("folder"));
    let place = folder.path().to_str().expect("a path of ours");
    let jobs = arguments.value("jobs", MILLION);
    let command = [
        "--table", "recovery", "--alone", "fill", "--folder", place, "--jobs",
    ];
    let mut command = command.map(str::to_owned).to_vec();
    command.push(jobs.to_string());
    let filled: Figures = in_process(&command);
    let before = resident_bytes();
    let mut store = None;
    let sample = Sample::of(jobs, || {
        store = Some(Forebay::open(&url(folder.path()), Durability::Disk))
    });
    let store = store.expect("it was opened");
    let waiting = store.dispatcher.len("default").expect("it can be counted");
    assert_eq!(waiting, jobs, "every job is there");
    let resident = (resident_bytes() - before) as f64;
    let live = filled["live MB"];
    let mut figures = Figures::from([
        ("seconds".into(), sample.seconds),
        ("CPU s".into(), sample.cpu),
        ("peak RSS MB".into(), sample.peak as f64 / 1e6),
        ("RSS MB".into(), resident / 1e6),
        ("RSS / live data".into(), resident / 1e6 / live),
        ("peak RSS / live data".into(), sample.peak as f64 / 1e6 / live),
    ]);
    figures.extend(filled);
    figures
}

/// How many jobs of a queue that is far longer than its process should be stay in memory.
const RESIDENT: usize = 100_000;

/// Pushes ten million jobs, nearly all of which are in the file only, and takes some of them out again.
pub fn spilled(_: &str, arguments: &Arguments) -> Figures {
    let folder = Scratch::new(arguments.text("folder"));
    let mut options = Options::default();
    options.capacity = 0;
    options.resident = RESIDENT;
    let store = Forebay::with(&url(folder.path()), Durability::Disk, options);
    // What is needed once is there before the counting begins.
    fill(&store, 1000);
    let before = resident_bytes();
    let jobs = arguments.value("jobs", 10 * MILLION);
    let pushed = Sample::of(jobs, || fill(&store, jobs));
    let (after, spilled) = (resident_bytes(), jobs.saturating_sub(RESIDENT as u64).max(1));
    let mut consumer = store.dispatcher.consumer(Arc::new(KindSet::any()));
    let taken = Sample::of(jobs / 20, || take(&mut consumer, jobs / 20));
    Figures::from([
        ("pushes/s".into(), pushed.rate()),
        ("RSS MB".into(), after as f64 / 1e6),
        (
            "bytes per spilled job".into(),
            (after - before) as f64 / spilled as f64,
        ),
        ("claims and completions/s".into(), taken.rate()),
    ])
}

/// Claims and completes jobs, 64 at a time.
fn take(consumer: &mut Consumer, jobs: u64) {
    let (mut leases, mut left) = (Vec::new(), jobs as usize);
    while left > 0 {
        let claimed = consumer.next_many(left.min(64), Deadline::NEVER, &mut leases);
        claimed.expect("nobody stops it");
        left -= leases.len();
        for lease in leases.drain(..) {
            lease.complete(()).expect("the disk works");
        }
    }
}

/// Fills the file in the folder and dies as a process does that nobody asks.
fn left_behind(arguments: &Arguments) -> Figures {
    let folder = std::path::Path::new(arguments.text("folder").expect("a folder"));
    let jobs = arguments.value("jobs", MILLION);
    let wal = HighWater::watch(folder);
    let store = Forebay::open(&url(folder), Durability::Disk);
    let sample = Sample::of(jobs, || fill(&store, jobs));
    let size = |name| std::fs::metadata(folder.join(name)).map_or(0, |file| file.len()) as f64 / 1e6;
    let figures = Figures::from([
        ("pushes/s".into(), sample.rate()),
        ("live MB".into(), size("jobs.db")),
        ("WAL at most, MB".into(), wal.megabytes()),
    ]);
    std::mem::forget(store);
    figures
}

fn fill(store: &Forebay, jobs: u64) {
    let record: &[u8] = &[7; 100];
    let mut left = jobs;
    while left > 0 {
        let size = left.min(1000);
        store.push_many(&vec![record; size as usize]);
        left -= size;
    }
    store.dispatcher.flush().expect("the disk works");
}
