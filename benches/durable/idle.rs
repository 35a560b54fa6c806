//! What a durable queue costs that has nothing to do.

use std::time::Duration;

use forebay::{Durability, Options};
use forebay_benches::arguments::Arguments;
use forebay_benches::figures::Figures;
use forebay_benches::measure::{cpu_seconds, switches_of_others};
use forebay_benches::stores::{Forebay, Scratch, Store, url};
use forebay_benches::syncs::syncs;
use forebay_benches::tally::Tally;

/// Runs some jobs, waits until everything has calmed down, and watches the threads and the file.
pub fn nothing_to_do(name: &str, arguments: &Arguments) -> Figures {
    let folder = Scratch::new(arguments.text("folder"));
    let mut options = Options::default();
    options.concurrency = 2;
    let mut address = url(folder.path());
    if name == "forebay-shared" {
        address.push_str("?shared=true");
    }
    let store = Forebay::with(&address, Durability::Disk, options);
    let tally = Tally::leaked();
    store.run(move |_: &[u8]| tally.count());
    (0..1000).for_each(|_| store.push(&[7; 100]));
    tally.wait_for(1000);
    store.settle();
    // Once nothing has come for a while, the engine puts its file in order.
    std::thread::sleep(Duration::from_millis(2500));
    let window = Duration::from_secs(3);
    let before = (cpu_seconds(), switches_of_others(), store_calls());
    std::thread::sleep(window);
    let after = (cpu_seconds(), switches_of_others(), store_calls());
    let seconds = window.as_secs_f64();
    Figures::from([
        ("store calls/s".into(), (after.2 - before.2) as f64 / seconds),
        ("wake-ups/s".into(), (after.1 - before.1) as f64 / seconds),
        ("% of a core".into(), 100.0 * (after.0 - before.0) / seconds),
    ])
}

/// Reads, writes and syncs of this process so far, without those with which it is asked.
fn store_calls() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("Linux tells");
    let of = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        line.and_then(|rest| rest.trim().parse::<u64>().ok())
            .expect("a number")
    };
    of("syscr:") + of("syscw:") + syncs()
}
