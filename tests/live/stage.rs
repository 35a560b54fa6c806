//! What the cases share: a dispatcher, doors for handlers, a folder, waits with a limit.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::engine::memory::MemoryEngine;
use forebay::{Deadline, Dispatcher, Error, Lease, Options, RetryPolicy};

/// Long enough for what must happen, on any machine.
pub const LONG: Duration = Duration::from_secs(60);
/// Long enough to notice what must not happen.
pub const SHORT: Duration = Duration::from_millis(200);

pub fn soon() -> Deadline {
    Deadline::after(LONG)
}

pub fn memory() -> Arc<MemoryEngine> {
    Arc::new(MemoryEngine::new(1000))
}

pub fn open(set: impl FnOnce(&mut Options)) -> Dispatcher {
    let mut options = Options::default();
    options.retry = RetryPolicy::none();
    set(&mut options);
    Dispatcher::open("memory:", options).unwrap()
}

/// A handler's door: it says that it has come, and waits until it is let in.
pub struct Door {
    come: Sender<u32>,
    open: Mutex<Receiver<()>>,
}

/// The other side of the door. When it goes, the door stands open.
pub struct Porter {
    come: Receiver<u32>,
    open: Sender<()>,
}

impl Porter {
    /// Waits until a handler stands at the door; the number of its attempt.
    pub fn meet(&self) -> u32 {
        self.come.recv_timeout(LONG).expect("a handler comes")
    }

    pub fn let_in(&self) {
        // A handler that was not waited for may be gone.
        let _ = self.open.send(());
    }
}

pub fn door() -> (Door, Porter) {
    let ((come, came), (open, opened)) = (mpsc::channel(), mpsc::channel());
    (
        Door {
            come,
            open: Mutex::new(opened),
        },
        Porter { come: came, open },
    )
}

impl Door {
    pub fn pass(&self, lease: &Lease) {
        self.come.send(lease.attempt()).unwrap();
        let _ = self.open.lock().unwrap().recv_timeout(LONG);
    }
}

/// A folder of a test's own, gone afterwards.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-scenario-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("jobs.dump")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = soon();
    while !done() {
        assert!(!deadline.passed(), "{what} did not come to pass");
        std::thread::yield_now();
    }
}

/// A dispatcher whose dump file is in this folder.
pub fn kept(folder: &Folder) -> Result<Dispatcher, Error> {
    let mut options = Options::default();
    options.dump_file = Some(folder.file());
    Dispatcher::open("memory:", options)
}
