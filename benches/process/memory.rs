//! The memory of jobs that wait.

use forebay_benches::contenders::open;
use forebay_benches::figures::Figures;
use forebay_benches::measure::resident_bytes;

const JOBS: u64 = 1_000_000;

/// Queues jobs behind one that does not end, and looks how much the process has grown.
pub fn queued(name: &str) -> Figures {
    let contender = open(name, 1, |_: &[u8]| {
        loop {
            std::thread::park();
        }
    })
    .expect("a contender");
    let payload = [7; 100];
    // So that what is needed once is there before the counting begins.
    contender.produce(&payload, 1000);
    let before = resident_bytes();
    contender.produce(&payload, JOBS);
    let after = resident_bytes();
    let figures = Figures::from([
        ("bytes per job".into(), (after - before) as f64 / JOBS as f64),
        ("RSS MB".into(), after as f64 / 1e6),
    ]);
    std::mem::forget(contender);
    figures
}
