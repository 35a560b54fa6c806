//! A bare log whose callers are grouped: whatever came during a sync is written together and synced once. This is
//! what anything durable with many callers is measured against, so it is written for speed: a mutex that is held
//! for a copy, one system call that wakes a whole group, buffers that are used again.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::Store;
use super::gate::{Gate, Passed};
use super::log::{Room, Sink, Tail, add};
use super::sqlite::Table;

/// Who writes a group.
pub trait Turns: Send + Sync + 'static {
    /// Whether a thread of the log's own does; otherwise one of the callers does, and hands over to one of those
    /// who came meanwhile.
    const OWN_THREAD: bool;
}

/// A thread of the log's own.
pub struct Writer;

/// One of the callers, who hands over to one of those who came meanwhile.
pub struct Follow;

impl Turns for Writer {
    const OWN_THREAD: bool = true;
}

impl Turns for Follow {
    const OWN_THREAD: bool = false;
}

/// The records that the next group is made of.
#[derive(Default)]
struct Gathering {
    records: Vec<u8>,
    group: Arc<Gate>,
    /// Somebody writes; or, with a thread of its own, the thread does not sleep.
    writing: bool,
    closed: bool,
}

struct Shared {
    gathering: Mutex<Gathering>,
    /// There is something for the thread, or it shall end.
    work: Condvar,
    /// Locked by whoever writes only.
    sink: Mutex<(Box<dyn Sink>, Vec<u8>)>,
}

/// The log.
pub struct GroupLog<T: Turns> {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    turns: PhantomData<T>,
}

impl<T: Turns> GroupLog<T> {
    /// A new log in the folder.
    pub fn open(folder: &Path, room: Room) -> Self {
        Self::over(Box::new(Tail::open(folder, room)))
    }

    /// The same over a bare SQLite table, a transaction per group.
    pub fn over_sqlite(folder: &Path) -> Self {
        Self::over(Box::new(Table::open(folder)))
    }

    fn over(sink: Box<dyn Sink>) -> Self {
        let shared = Arc::new(Shared {
            gathering: Mutex::default(),
            work: Condvar::new(),
            sink: Mutex::new((sink, Vec::new())),
        });
        let writer = Arc::clone(&shared);
        Self {
            thread: T::OWN_THREAD.then(|| std::thread::spawn(move || writer.write_for_ever())),
            shared,
            turns: PhantomData,
        }
    }
}

impl<T: Turns> Store for GroupLog<T> {
    fn push(&self, record: &[u8]) {
        self.push_many(&[record]);
    }

    fn push_many(&self, records: &[&[u8]]) {
        let mut gathering = self.shared.gathering.lock();
        for record in records {
            add(&mut gathering.records, record);
        }
        let group = Arc::clone(&gathering.group);
        let first = !std::mem::replace(&mut gathering.writing, true);
        drop(gathering);
        match (first, T::OWN_THREAD) {
            (true, true) => _ = self.shared.work.notify_one(),
            (true, false) => return self.shared.lead(),
            (false, _) => {}
        }
        if group.wait() == Passed::Alone {
            self.shared.lead();
        }
    }
}

impl<T: Turns> Drop for GroupLog<T> {
    fn drop(&mut self) {
        self.shared.gathering.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer does not panic");
        }
    }
}

impl Shared {
    /// Writes one group and lets one of the next group, if there is one, do the same.
    fn lead(&self) {
        self.write_group();
        let mut gathering = self.gathering.lock();
        gathering.writing = !gathering.records.is_empty();
        if gathering.writing {
            gathering.group.let_one();
        }
    }

    fn write_for_ever(&self) {
        loop {
            let mut gathering = self.gathering.lock();
            while gathering.records.is_empty() {
                if gathering.closed {
                    return;
                }
                gathering.writing = false;
                self.work.wait(&mut gathering);
            }
            drop(gathering);
            self.write_group();
        }
    }

    /// Takes what has been gathered, writes it, and lets go those who wait for it.
    fn write_group(&self) {
        let (sink, buffer) = &mut *self.sink.lock();
        let mut gathering = self.gathering.lock();
        buffer.clear();
        std::mem::swap(&mut gathering.records, buffer);
        let group = std::mem::take(&mut gathering.group);
        drop(gathering);
        sink.write(buffer);
        group.open();
    }
}
