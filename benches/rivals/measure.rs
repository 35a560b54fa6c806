//! What the rivals share, though each is a workspace of its own: a job, its count, and the line that tells.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many jobs have run.
pub static RUN: AtomicU64 = AtomicU64::new(0);

/// A payload of about 100 bytes as JSON.
pub const NOTE: &str =
    "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abc";

/// One run, from the first push.
pub struct Run {
    jobs: u64,
    cpu: f64,
    start: Instant,
}

impl Run {
    /// Begins.
    pub fn of(jobs: u64) -> Self {
        Self {
            jobs,
            cpu: cpu_seconds(),
            start: Instant::now(),
        }
    }

    /// Waits until every job has run, and tells what it took.
    pub async fn ended(self) {
        while RUN.load(Ordering::Relaxed) < self.jobs {
            assert!(
                self.start.elapsed() < Duration::from_secs(120),
                "jobs are missing"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (seconds, cpu) = (self.start.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        println!(
            r#"{{"jobs": {}, "seconds": {seconds}, "cpu": {cpu}, "peak": 0}}"#,
            self.jobs
        );
    }
}

/// The arguments: how many jobs, the file, and a word for the program.
pub fn arguments() -> (u64, String, String) {
    let mut given = std::env::args().skip(1);
    let mut next = |what: &str| {
        given
            .next()
            .unwrap_or_else(|| panic!("usage: JOBS FILE MODE; {what} is missing"))
    };
    let jobs = next("JOBS").parse().expect("a number of jobs");
    (jobs, next("FILE"), next("MODE"))
}

fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage fills the struct that it is given a valid pointer to.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
