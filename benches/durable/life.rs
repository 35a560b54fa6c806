//! The whole way of a job: pushed, run, its end written down.

use std::time::Duration;

use forebay::{Durability, OnFull, Options};
use forebay_benches::arguments::Arguments;
use forebay_benches::figures::Figures;
use forebay_benches::measure::Sample;
use forebay_benches::stores::{Forebay, Scratch, Store, url};
use forebay_benches::syncs::syncs;
use forebay_benches::tally::Tally;

use crate::durable::wal::HighWater;

/// Longer than any run takes.
const AGES: Duration = Duration::from_secs(300);

/// Who pushes, how many at once, and what a push waits for.
struct Way {
    pushers: u64,
    batch: u64,
    level: Durability,
    jobs: u64,
    /// The most jobs that wait: a push waits while there are as many.
    capacity: usize,
}

impl Way {
    fn named(name: &str) -> Option<Self> {
        let way = |pushers, batch, level, jobs| {
            Some(Self {
                pushers,
                batch,
                level,
                jobs,
                capacity: if name.ends_with("-4096") { 4096 } else { 0 },
            })
        };
        match name {
            "64-pushers" => way(64, 1, Durability::Disk, 128_000),
            "many-64" => way(1, 64, Durability::Disk, 128_000),
            "4-many-64" => way(4, 64, Durability::Disk, 256_000),
            "many-1000" => way(1, 1000, Durability::Disk, 400_000),
            "64-pushers-os" => way(64, 1, Durability::Os, 256_000),
            "shared-64-pushers" => way(64, 1, Durability::Disk, 12_800),
            "shared-many-1000" => way(1, 1000, Durability::Disk, 40_000),
            "at-memory" | "memory-engine" | "at-memory-4096" | "memory-engine-4096" => {
                way(2, 1, Durability::Memory, 1_000_000)
            }
            _ => None,
        }
    }

    fn push(&self, store: &Forebay, jobs: u64) {
        let record: &[u8] = &[7; 100];
        let batch = vec![record; self.batch as usize];
        std::thread::scope(|scope| {
            for _ in 0..self.pushers {
                scope.spawn(|| {
                    for _ in 0..jobs / self.pushers / self.batch {
                        match self.batch {
                            1 => store.push(record),
                            _ => store.push_many(&batch),
                        }
                    }
                });
            }
        });
    }
}

/// From the first push until every outcome is on the disk.
pub fn pushed_run_done(name: &str, arguments: &Arguments) -> Figures {
    let folder = Scratch::new(arguments.text("folder"));
    let way = Way::named(name).expect("a way of this name");
    let mut options = Options::default();
    options.concurrency = 2;
    options.capacity = way.capacity;
    options.on_full = OnFull::Block(AGES);
    let url = match name.split('-').next() {
        Some("memory") => "memory:".to_owned(),
        Some("shared") => format!("{}?shared=true", url(folder.path())),
        _ => url(folder.path()),
    };
    let store = Forebay::with(&url, way.level, options);
    let tally = Tally::leaked();
    store.run(move |_: &[u8]| tally.count());
    let whole = way.pushers * way.batch;
    let mut so_far = 0;
    let mut run = |jobs| {
        so_far += jobs;
        way.push(&store, jobs);
        tally.wait_for(so_far);
        store.settle();
    };
    let jobs = (arguments.value("jobs", way.jobs) / whole).max(1) * whole;
    run((jobs / 10).div_ceil(whole) * whole);
    let wal = HighWater::watch(folder.path());
    let before = syncs();
    let sample = Sample::of(jobs, || run(jobs));
    let syncs = (syncs() - before) as f64;
    Figures::from([
        ("jobs/s".into(), sample.rate()),
        ("CPU µs/job".into(), sample.cpu_per_job()),
        ("syncs/job".into(), syncs / jobs as f64),
        ("WAL at most, MB".into(), wal.megabytes()),
    ])
}
