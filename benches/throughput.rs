//! No-op jobs through every contender: all pushed by a number of producers, all run by a number of workers,
//! every run counted, every outcome stored. Forebay keeps an id, a state, attempts, times and a result per job;
//! the pools keep nothing, and that is the comparison.
//!
//! ```text
//! cargo bench -p forebay-benches --bench throughput [--features jemalloc,mimalloc,apalis] -- [options]
//!   --producers 1,2,4,8 --workers 1,2,4 --payload 1,100,10240   one table for each combination
//!   --only rayon,forebay     these contenders         --jobs 1000000  at a time
//!   --rounds 5               runs of each, in turn    --json          a line per table instead
//!   --warm 250000            jobs that are run before those that are measured
//!   --shared                 all in one process, to see what a heap that others have used does
//! ```

use std::hint::black_box;

use forebay_benches::allocator;
use forebay_benches::arguments::Arguments;
use forebay_benches::contenders::{CONTENDERS, Contender, open};
use forebay_benches::measure::Sample;
use forebay_benches::round::{in_process, in_turn};
use forebay_benches::summary::{Row, table};
use forebay_benches::tally::Tally;
use serde::Serialize;

/// What the contenders of one table have in common.
#[derive(Clone, Copy, Debug, Serialize)]
struct Shape {
    producers: u64,
    workers: usize,
    payload: usize,
    jobs: u64,
    warm: u64,
}

fn main() {
    let arguments = Arguments::of_process();
    if let Some(name) = arguments.text("alone") {
        let sample = measure(name, Shape::read(&arguments));
        println!(
            "{}",
            serde_json::to_string(&sample).expect("numbers can be written")
        );
        return;
    }
    for producers in arguments.list("producers", "2") {
        for workers in arguments.list("workers", "2") {
            for payload in arguments.list("payload", "100") {
                let shape = Shape::asked(&arguments, (producers, workers, payload));
                compare(&arguments, shape);
            }
        }
    }
}

/// How many jobs of a size fit in a gigabyte: a contender that cannot keep up with its producers must have room
/// for all of them.
fn most_jobs(payload: usize) -> u64 {
    (1 << 30) / (payload as u64).max(1)
}

/// Prints the table of one shape.
fn compare(arguments: &Arguments, shape: Shape) {
    let only: Vec<String> = arguments.list("only", "");
    let chosen: Vec<_> = CONTENDERS
        .iter()
        .filter(|(name, _)| only.is_empty() || only.iter().any(|wanted| wanted == name))
        .collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let rounds = arguments.value("rounds", 5);
    let shared = arguments.has("shared");
    let samples = in_turn(&names, rounds, |name| match shared {
        true => measure(name, shape),
        false => in_process(&shape.written(name)),
    });
    let rows: Vec<Row> = chosen
        .iter()
        .zip(samples)
        .filter_map(|((name, title), samples)| Row::of(name, title, &samples))
        .collect();
    if arguments.has("json") {
        let line = serde_json::json!({
            "table": "throughput", "allocator": allocator(), "rounds": rounds, "shape": shape, "rows": rows,
        });
        println!("{line}");
    } else {
        println!(
            "\n{shape}, {}, {rounds} rounds in turn, durability: memory\n",
            allocator()
        );
        print!("{}", table(&rows, &["rayon", "crossbeam"]));
    }
}

/// One run of one contender: after some jobs for warming up, so that threads, stacks and heap are there.
fn measure(name: &str, shape: Shape) -> Sample {
    let tally = Tally::leaked();
    let contender = open(name, shape.workers, move |payload: &[u8]| {
        touch(payload);
        tally.count();
    })
    .unwrap_or_else(|| panic!("no contender is called {name:?}"));
    let payload = vec![7; shape.payload];
    let mut so_far = 0;
    let mut run = |jobs| {
        so_far += jobs;
        produce(&*contender, &payload, jobs, shape.producers);
        tally.wait_for(so_far);
        contender.settle();
    };
    run(shape.warm / shape.producers * shape.producers);
    let jobs = shape.jobs / shape.producers * shape.producers;
    let mut sample = Sample::of(jobs, || run(jobs));
    // The fastest contenders would be done within a few slices of the scheduler.
    while sample.seconds < 0.25 {
        sample += Sample::of(jobs, || run(jobs));
    }
    sample
}

/// Pushes `jobs` jobs from `producers` threads.
fn produce(contender: &dyn Contender, payload: &[u8], jobs: u64, producers: u64) {
    std::thread::scope(|scope| {
        for _ in 0..producers {
            scope.spawn(|| contender.produce(payload, jobs / producers));
        }
    });
}

/// What the handler does with a payload: it looks at both ends.
#[inline]
fn touch(payload: &[u8]) {
    black_box((payload.first(), payload.last()));
}

impl Shape {
    /// The shape with these producers, workers and bytes of payload, and as many jobs as the arguments say.
    fn asked(arguments: &Arguments, (producers, workers, payload): (u64, usize, usize)) -> Self {
        let jobs = most_jobs(payload).min(arguments.value("jobs", 1_000_000));
        Self {
            producers,
            workers,
            payload,
            jobs,
            warm: arguments.value("warm", jobs / 4),
        }
    }

    /// The shape that [`Shape::written`] wrote.
    fn read(arguments: &Arguments) -> Self {
        let shape = (
            arguments.value("producers", 2),
            arguments.value("workers", 2),
            arguments.value("payload", 100),
        );
        Self::asked(arguments, shape)
    }

    /// The arguments with which one contender runs alone.
    fn written(&self, name: &str) -> Vec<String> {
        let pairs = [
            ("alone", name.to_owned()),
            ("producers", self.producers.to_string()),
            ("workers", self.workers.to_string()),
            ("payload", self.payload.to_string()),
            ("jobs", self.jobs.to_string()),
            ("warm", self.warm.to_string()),
        ];
        pairs
            .into_iter()
            .flat_map(|(name, value)| [format!("--{name}"), value])
            .collect()
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            producers,
            workers,
            payload,
            jobs,
            ..
        } = self;
        write!(
            f,
            "{jobs} no-op jobs of {payload} bytes, {producers} producers, {workers} workers"
        )
    }
}
