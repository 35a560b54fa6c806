//! What a pool costs that has nothing to do.

use std::time::Duration;

use forebay_benches::contenders::open;
use forebay_benches::figures::Figures;
use forebay_benches::measure::{cpu_seconds, switches_of_others};
use forebay_benches::tally::Tally;

/// Runs some jobs, waits until everything has calmed down, and watches the threads do nothing.
pub fn nothing_to_do(name: &str) -> Figures {
    let tally = Tally::leaked();
    let contender = open(name, 2, |_: &[u8]| tally.count()).expect("a contender");
    contender.produce(&[7; 100], 1000);
    tally.wait_for(1000);
    contender.settle();
    std::thread::sleep(Duration::from_millis(500));
    let window = Duration::from_secs(3);
    let (cpu, switches) = (cpu_seconds(), switches_of_others());
    std::thread::sleep(window);
    let (cpu, switches) = (cpu_seconds() - cpu, switches_of_others() - switches);
    Figures::from([
        ("wake-ups/s".into(), switches as f64 / window.as_secs_f64()),
        ("% of a core".into(), 100.0 * cpu / window.as_secs_f64()),
    ])
}
