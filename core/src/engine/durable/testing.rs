//! What tests need of the engine beside its promises.

use std::sync::OnceLock;

/// The name of SQLite's file layer; tests put one underneath that fails.
static VFS: OnceLock<&'static str> = OnceLock::new();

/// From now on databases are opened through the file layer of this name, which is registered with SQLite. Once
/// per process; later calls change nothing.
#[cfg(feature = "conformance")]
pub fn set_vfs(name: &'static str) {
    let _ = VFS.set(name);
}

pub(super) fn vfs() -> &'static str {
    VFS.get().copied().unwrap_or("unix")
}

#[cfg(test)]
pub(crate) use folder::Folder;

#[cfg(test)]
mod folder {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// A directory of its own, gone with the test.
    #[derive(Debug)]
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let name = format!("forebay-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
