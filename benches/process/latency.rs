//! The time from a push to the start of its handler, at a rate that leaves the workers idle in between: what is
//! measured is the waking of one of them. An open loop: a slow start does not hold back the next push.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forebay_benches::contenders::{Contender, open};
use forebay_benches::figures::{Figures, percentile};
use forebay_benches::measure::cpu_seconds;

/// How many jobs are pushed, and how many a second.
const JOBS: usize = 1500;
const PER_SECOND: u32 = 1000;

/// How many come at once around a job that blocks.
const BURST: usize = 200;

/// In the first byte of a payload: it blocks its worker.
const BLOCKS: u8 = 1;

/// How long each job was under way, in nanoseconds.
static UNDER_WAY: [AtomicU64; JOBS] = [const { AtomicU64::new(0) }; JOBS];
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Idle workers.
pub fn steady(name: &str) -> Figures {
    let contender = open(name, 2, start).expect("a contender");
    measure(&*contender, 0)
}

/// One of the two workers is in a handler that does not return for the length of the measurement. It came to it in
/// the middle of a burst, so that a contender that hands out jobs in batches would leave some of them behind it.
pub fn beside_a_blocked_handler(name: &str) -> Figures {
    let contender = open(name, 2, start).expect("a contender");
    let figures = measure(&*contender, BURST);
    std::mem::forget(contender);
    figures
}

/// The handler.
fn start(payload: &[u8]) {
    if payload[0] == BLOCKS {
        std::thread::sleep(Duration::from_millis(1000) + JOBS as u32 * Duration::from_secs(1) / PER_SECOND);
        return;
    }
    let pushed = u64::from_le_bytes(payload[8..16].try_into().expect("eight bytes"));
    UNDER_WAY[STARTED.fetch_add(1, Ordering::Relaxed) % JOBS].store(nanos() - pushed, Ordering::Release);
}

/// Pushes the jobs, the first `burst` of them at once and with one that blocks in their middle.
fn measure(contender: &dyn Contender, burst: usize) -> Figures {
    for _ in 0..50 {
        pause_until(nanos() + 1_000_000);
        push(contender);
    }
    STARTED.store(0, Ordering::Relaxed);
    let (cpu, begin) = (cpu_seconds(), nanos());
    let gap = 1_000_000_000 / u64::from(PER_SECOND);
    for job in 0..burst {
        if job == burst / 2 {
            contender.produce(&[BLOCKS; 100], 1);
        }
        push(contender);
    }
    for job in burst..JOBS {
        pause_until(begin + gap * (job - burst + 1) as u64);
        push(contender);
    }
    let cpu = cpu_seconds() - cpu;
    pause_until(nanos() + 100_000_000);
    // A job that has not started by then is late by as much as it has waited.
    let started = STARTED.load(Ordering::Relaxed).min(JOBS);
    let mut waited: Vec<f64> = UNDER_WAY[..started]
        .iter()
        .map(|n| n.load(Ordering::Acquire) as f64 / 1000.0)
        .collect();
    waited.resize(JOBS, 1e6);
    waited.sort_unstable_by(f64::total_cmp);
    Figures::from([
        ("p50 µs".into(), percentile(&waited, 0.5)),
        ("p99 µs".into(), percentile(&waited, 0.99)),
        ("worst µs".into(), percentile(&waited, 1.0)),
        ("CPU µs/job".into(), 1e6 * cpu / JOBS as f64),
    ])
}

fn push(contender: &dyn Contender) {
    let mut payload = [0; 100];
    payload[8..16].copy_from_slice(&nanos().to_le_bytes());
    contender.produce(&payload, 1);
}

fn pause_until(at: u64) {
    std::thread::sleep(Duration::from_nanos(at.saturating_sub(nanos())));
}

/// Nanoseconds since the first call.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is the one place that wants the real clock"
)]
fn nanos() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
