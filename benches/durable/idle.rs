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
    (0..200).for_each(|_| store.push(&[7; 100]));
    tally.wait_for(200);
    store.settle();
    // Once nothing has come for a while, the engine puts its file in order.
    std::thread::sleep(Duration::from_millis(2500));
    let window = Duration::from_secs(3);
    let (cpu, switches) = (cpu_seconds(), switches_of_others());
    // Asking is a few reads itself.
    let asking = -(store_calls() - store_calls());
    let calls = store_calls();
    std::thread::sleep(window);
    let calls = store_calls() - calls - asking;
    let (cpu, switches) = (cpu_seconds() - cpu, switches_of_others() - switches);
    let seconds = window.as_secs_f64();
    Figures::from([
        ("store calls/s".into(), calls as f64 / seconds),
        ("wake-ups/s".into(), switches as f64 / seconds),
        ("% of a core".into(), 100.0 * cpu / seconds),
    ])
}

/// Reads, writes and syncs of this process so far.
fn store_calls() -> i64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("Linux tells");
    let of = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        line.and_then(|rest| rest.trim().parse::<i64>().ok())
            .expect("a number")
    };
    of("syscr:") + of("syscw:") + syncs() as i64
}
