//! Directories for tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of its own, removed with everything in it when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A directory on a disk.
    #[must_use]
    pub fn on_disk() -> Self {
        Self::under(&std::env::temp_dir())
    }

    /// A directory in memory, if the system has such: for tests that ask nothing of the disk.
    #[must_use]
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Self::under(memory)
        } else {
            Self::on_disk()
        }
    }

    fn under(parent: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("forebay-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for the test can be made");
        Self(path)
    }

    /// The directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
