//! How large the write-ahead log beside a file has been.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that looks a hundred times a second.
pub struct HighWater {
    most: Arc<AtomicU64>,
    enough: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl HighWater {
    /// Watches the log of the jobs in this folder, if there is one.
    pub fn watch(folder: &Path) -> Self {
        let log = folder.join("jobs.db-wal");
        let (most, enough) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (to, until) = (Arc::clone(&most), Arc::clone(&enough));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Acquire) {
                to.fetch_max(size(&log), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
            to.fetch_max(size(&log), Ordering::Relaxed);
        });
        Self { most, enough, thread }
    }

    /// The most that was seen, in megabytes.
    pub fn megabytes(self) -> f64 {
        self.enough.store(true, Ordering::Release);
        self.thread.join().expect("it only looks");
        self.most.load(Ordering::Relaxed) as f64 / 1e6
    }
}

fn size(log: &PathBuf) -> u64 {
    std::fs::metadata(log).map_or(0, |log| log.len())
}
