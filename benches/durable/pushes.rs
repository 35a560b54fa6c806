//! Pushes that return when they are durable.

use std::time::Duration;

use forebay_benches::arguments::Arguments;
use forebay_benches::figures::Figures;
use forebay_benches::measure::Sample;
use forebay_benches::stores::{Scratch, Store, open};
use forebay_benches::syncs::syncs;

/// Pushes from a number of callers at once, each as soon as its last one is on the disk.
pub fn by_callers(name: &str, callers: u64, arguments: &Arguments) -> Figures {
    let folder = Scratch::new(arguments.text("folder"));
    let store = open(name, folder.path()).expect("a store of this name");
    let default = if callers == 1 { 4_000 } else { 1_000 * callers };
    let jobs = arguments.value("jobs", default) / callers * callers;
    push(&*store, callers, jobs / 10);
    // What the warming up left to be written must not be written during the measurement.
    std::thread::sleep(Duration::from_millis(100));
    let before = syncs();
    let sample = Sample::of(jobs, || push(&*store, callers, jobs));
    let syncs = syncs() - before;
    Figures::from([
        ("jobs/s".into(), sample.rate()),
        ("CPU µs/job".into(), sample.cpu_per_job()),
        ("syncs/s".into(), syncs as f64 / sample.seconds),
        ("syncs/job".into(), syncs as f64 / jobs as f64),
    ])
}

fn push(store: &dyn Store, callers: u64, jobs: u64) {
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| (0..jobs / callers).for_each(|_| store.push(&[7; 100])));
        }
    });
}
