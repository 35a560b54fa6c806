//! What one run takes: time on the wall, time on the processors, memory, sleeps.

use std::ops::AddAssign;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What one run took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// How many jobs ran.
    pub jobs: u64,
    /// From the first push to the last stored outcome.
    pub seconds: f64,
    /// On the processors, of all threads of the process.
    pub cpu: f64,
    /// The most memory that the process has ever had in the machine, in bytes.
    pub peak: u64,
}

impl Sample {
    /// Measures `work`, which runs `jobs` jobs.
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark is the one place that wants the real clock"
    )]
    pub fn of(jobs: u64, work: impl FnOnce()) -> Self {
        let (cpu, start) = (cpu_seconds(), Instant::now());
        work();
        Self {
            jobs,
            seconds: start.elapsed().as_secs_f64(),
            cpu: cpu_seconds() - cpu,
            peak: status("/proc/self/status", "VmHWM:") * 1024,
        }
    }

    /// Jobs per second.
    pub fn rate(&self) -> f64 {
        self.jobs as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Microseconds on the processors per job.
    pub fn cpu_per_job(&self) -> f64 {
        1e6 * self.cpu / self.jobs as f64
    }
}

impl AddAssign for Sample {
    fn add_assign(&mut self, more: Self) {
        self.jobs += more.jobs;
        self.seconds += more.seconds;
        self.cpu += more.cpu;
        self.peak = self.peak.max(more.peak);
    }
}

/// Seconds that the threads of this process have spent on the processors, in user and in kernel mode.
pub fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage fills the struct that it is given a valid pointer to.
    let usage = unsafe {
        let status = libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        assert_eq!(status, 0, "a process may always ask for its own usage");
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Memory of this process that is in the machine now, in bytes.
pub fn resident_bytes() -> u64 {
    let kilobytes = status("/proc/self/status", "VmRSS:");
    kilobytes * 1024
}

/// How often the other threads of this process have left a processor so far, by themselves or not: each time they
/// had been woken before.
pub fn switches_of_others() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux lists the threads");
    let me = format!("/proc/self/task/{}", std::process::id());
    threads
        .map(|thread| {
            format!(
                "/proc/self/task/{}",
                thread.expect("an entry").file_name().display()
            )
        })
        .filter(|thread| *thread != me)
        .map(|thread| {
            let file = format!("{thread}/status");
            status(&file, "voluntary_ctxt_switches:") + status(&file, "nonvoluntary_ctxt_switches:")
        })
        .sum()
}

/// The number after `label` in a status file of Linux's.
fn status(file: &str, label: &str) -> u64 {
    let text = std::fs::read_to_string(file).expect("Linux tells");
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a number")
}

/// How long something takes, in seconds.
pub fn seconds(of: impl FnOnce()) -> f64 {
    Sample::of(1, of).seconds
}

/// The middle one of some figures, or the mean of the two in the middle; `None` of none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    match figures.len() % 2 {
        0 => Some((figures[figures.len() / 2 - 1] + upper) / 2.0),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_the_time_of_all_threads() {
        let spin = || while cpu_seconds() < 0.05 {};
        let sample = Sample::of(10, spin);
        assert!(sample.cpu > 0.0 && sample.seconds > 0.0);
        assert!(sample.peak > resident_bytes() / 2);
        assert!((sample.rate() - 10.0 / sample.seconds).abs() < 1e-6);
    }

    #[test]
    fn an_even_number_of_figures_has_the_mean_of_the_middle_two() {
        assert_eq!(median([1.0, 4.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
