//! The one thread that writes: it takes what has changed since the last time as a group, writes the group in
//! one transaction, lets go of the jobs that were held for it, and wakes whoever waits.
//!
//! While it writes, others change jobs; that is the next group. So the more callers there are, the more share
//! a sync, without a timer. Only groups that nobody waits for are put off a little (`write_behind`), which
//! gives jobs time to end before they ever reach the disk.
//!
//! When the disk is full the new jobs of the group are withdrawn and the rest is written without them, if need
//! be into the space that was reserved for it. When the store breaks, nothing is acknowledged any more.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;

use super::gate::Gates;
use super::store::{Fault, Pause, Store};
use crate::durability::Durability;
use crate::engine::memory::MemoryEngine;
use crate::engine::memory::journal::{Change, Group, Put};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::panics::{let_go, panic_text};
use crate::time::{Deadline, Timestamp};

/// How long nothing must have come before the log is moved into the file.
const CALM: Duration = Duration::from_secs(1);
/// The pause before a group is tried again that could not be written.
const AGAIN: Duration = Duration::from_millis(100);

/// Why the writer wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// Somebody waits.
    Urgent,
    /// It is time for what nobody waits for.
    Due,
    /// The engine is being closed.
    Last,
}

/// What the writer and its callers share.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Where callers wait for their group.
    gates: Gates,
    /// The last group of which something could not be written.
    incomplete: AtomicU64,
    /// Why nothing can be written any more.
    broken: Mutex<Option<(ErrorKind, String)>>,
    is_broken: AtomicBool,
    /// Jobs whose push could not be kept, until their pusher has heard of it.
    withdrawn: Mutex<HashSet<JobId>>,
    withdrawn_count: AtomicUsize,
    /// Queues that were paused or resumed and not yet written.
    pauses: Mutex<Vec<Pause>>,
    /// The latest instant that a caller told of: the engine has no clock of its own.
    now: AtomicI64,
    closing: AtomicBool,
    /// Held while jobs are taken back from the file.
    pub(crate) refilling: Mutex<()>,
    /// The least fence of a job that is taken back: the former runs may have given lower ones.
    fences: AtomicU64,
}

impl Desk {
    /// Refuses to go on after the store broke.
    ///
    /// # Errors
    /// `Storage`, with what happened.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.is_broken.load(SeqCst) {
            return Ok(());
        }
        let why = self.why();
        let text = format!("the store failed and accepts nothing more until it is opened again: {why}");
        Err(Error::new(ErrorKind::Storage, text))
    }

    /// Returns when the group is written.
    ///
    /// # Errors
    /// `Unknown` if the store broke first.
    pub(crate) fn wait(&self, group: u64) -> Result<()> {
        if self.gates.wait(group) {
            return Ok(());
        }
        let why = self.why();
        let text = format!("whether it was kept shows when the store is opened again: {why}");
        Err(Error::new(ErrorKind::Unknown, text))
    }

    /// The same for all of it, and of all before.
    ///
    /// # Errors
    /// `Unknown` if the store broke first; `Full` if the disk is.
    pub(crate) fn wait_for_all(&self, group: u64) -> Result<()> {
        self.wait(group)?;
        if self.incomplete.load(SeqCst) < group {
            return Ok(());
        }
        let text =
            "the disk is full: not everything is written; it is tried again as long as the queue is open";
        Err(Error::new(ErrorKind::Full, text))
    }

    /// Whether the push of this job was withdrawn; asked once, by its pusher, after its group.
    pub(crate) fn was_withdrawn(&self, id: JobId) -> bool {
        if self.withdrawn_count.load(SeqCst) == 0 {
            return false;
        }
        let mut withdrawn = self.withdrawn.lock();
        let was = withdrawn.remove(&id);
        self.withdrawn_count.store(withdrawn.len(), SeqCst);
        was
    }

    fn note_withdrawn(&self, ids: Vec<JobId>) {
        let mut withdrawn = self.withdrawn.lock();
        withdrawn.extend(ids);
        self.withdrawn_count.store(withdrawn.len(), SeqCst);
    }

    /// Notes that a queue was paused or resumed.
    pub(crate) fn pause(&self, pause: Pause) {
        self.pauses.lock().push(pause);
    }

    /// Notes what time it is.
    pub(crate) fn saw(&self, now: Timestamp) {
        self.now.fetch_max(now.as_micros(), SeqCst);
    }

    /// The least fence of a job that is taken back.
    pub(crate) fn fences(&self) -> u64 {
        self.fences.load(SeqCst)
    }

    pub(crate) fn set_fences(&self, least: u64) {
        self.fences.store(least, SeqCst);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(SeqCst))
    }

    /// Tells the writer to write what is left and to end.
    pub(crate) fn close(&self, engine: &MemoryEngine) {
        self.closing.store(true, SeqCst);
        engine.news().ring_all();
    }

    fn finish(&self, group: u64) {
        self.gates.open(group);
    }

    fn poison(&self, error: &Error) {
        *self.broken.lock() = Some((error.kind(), error.to_string()));
        self.is_broken.store(true, SeqCst);
        self.gates.break_down();
    }

    fn why(&self) -> String {
        let broken = self.broken.lock();
        broken.as_ref().map_or(String::new(), |(_, why)| why.clone())
    }
}

/// The thread's own.
pub(crate) struct Writer {
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) store: Box<dyn Store>,
    pub(crate) write_behind: Duration,
    /// Whether something was written that a power cut could take.
    pub(crate) unsynced: bool,
    /// Whether the last group was refused for want of space.
    pub(crate) full: bool,
}

impl Writer {
    /// Writes until it is told to close. If it cannot go on, nobody waits for it any more.
    pub(crate) fn run(mut self) {
        let desk = self.desk.clone();
        let ended = catch_unwind(AssertUnwindSafe(|| self.write_on()));
        if let Err(panic) = ended {
            let text = format!("the writer panicked: {}", panic_text(&*panic));
            desk.poison(&Error::new(ErrorKind::Panic, text));
            let_go(panic);
        }
    }

    fn write_on(&mut self) {
        while !self.desk.is_broken.load(SeqCst) {
            let news = self.wait();
            self.step(news == News::Due);
            if news == News::Last {
                break;
            }
        }
        if !self.desk.is_broken.load(SeqCst) {
            // Changes of the last moment: ends of jobs whose dispatcher has been sealed by now.
            self.step(false);
            if let Err(Fault::Full(e) | Fault::Busy(e) | Fault::Broken(e)) = self.store.close() {
                self.desk.poison(&e);
            }
        }
    }

    /// Returns when there is something to write.
    fn wait(&mut self) -> News {
        let mut behind = None;
        loop {
            let engine = self.engine.clone();
            let listener = engine.news().listen();
            let (noted, urgent) = engine.has_news();
            if self.desk.closing.load(SeqCst) {
                return News::Last;
            }
            if urgent {
                return News::Urgent;
            }
            if engine.is_hungry() {
                drop(listener);
                self.refill();
                continue;
            }
            let until = if noted {
                // A patient group leaves what is younger than this to the next one.
                *behind.get_or_insert_with(|| Deadline::after(self.write_behind / 2))
            } else if self.unsynced {
                Deadline::after(CALM)
            } else {
                Deadline::NEVER
            };
            if !listener.wait(until) {
                if noted {
                    return News::Due;
                }
                self.rest();
            }
        }
    }

    /// Nothing has come for a while.
    fn rest(&mut self) {
        let done = self.store.sync().and_then(|()| self.store.rest());
        match done {
            Ok(()) => self.unsynced = false,
            Err(Fault::Broken(e)) => self.desk.poison(&e),
            Err(Fault::Full(_) | Fault::Busy(_)) => {}
        }
    }

    /// Takes jobs back that are in the file only, as far as lanes run low.
    fn refill(&mut self) {
        let (desk, engine) = (self.desk.clone(), self.engine.clone());
        loop {
            let _one = desk.refilling.lock();
            let rows = engine.next_rows();
            if rows.is_empty() {
                return;
            }
            let read = self.store.read(&rows, &mut |row, mut job| {
                job.fence = job.fence.max(desk.fences());
                engine.take_back(row, &job).map(drop)
            });
            if let Err(Fault::Full(e) | Fault::Busy(e) | Fault::Broken(e)) = read {
                return desk.poison(&e);
            }
        }
    }

    /// Writes one group.
    pub(crate) fn step(&mut self, patient: bool) {
        if self.engine.is_hungry() {
            self.refill();
        }
        let group = self.engine.collect(patient, self.desk.now());
        let pauses = std::mem::take(&mut *self.desk.pauses.lock());
        let changes: Vec<&Change> = group.changes.iter().collect();
        match self.put(&changes, &pauses, group.want) {
            Ok(()) => self.written(&group),
            Err(Fault::Full(_)) => self.write_without_new(&group, pauses),
            Err(Fault::Busy(e) | Fault::Broken(e)) => self.desk.poison(&e),
        }
    }

    /// Writes changes; waits for whoever else has the file.
    fn put(&mut self, changes: &[&Change], pauses: &[Pause], want: Durability) -> Result<(), Fault> {
        loop {
            let done = if changes.is_empty() && pauses.is_empty() {
                if want == Durability::Disk && self.unsynced {
                    self.store.sync()
                } else {
                    return Ok(());
                }
            } else {
                self.store.write(changes, pauses, want)
            };
            match done {
                Ok(()) => {
                    self.unsynced = want < Durability::Disk;
                    return Ok(());
                }
                Err(Fault::Busy(_)) if !self.desk.closing.load(SeqCst) => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    fn written(&mut self, group: &Group) {
        if std::mem::take(&mut self.full) {
            self.store.restore_reserve();
        }
        self.engine.release(puts(group), self.desk.now());
        self.desk.finish(group.number);
    }

    /// The disk is full: what was pushed is refused, what ended is written.
    fn write_without_new(&mut self, group: &Group, pauses: Vec<Pause>) {
        self.full = true;
        let old: Vec<&Change> = group
            .changes
            .iter()
            .filter(|change| !waits_for_space(change))
            .collect();
        let mut done = self.put(&old, &pauses, group.want);
        if matches!(done, Err(Fault::Full(_))) && self.store.give_up_reserve() {
            done = self.put(&old, &pauses, group.want);
        }
        let complete = done.is_ok();
        let rows = group.changes.iter().filter_map(|change| match change {
            Change::Remove { row, joined } if *joined || !complete => Some((*row, *joined)),
            _ => None,
        });
        self.engine.remove_again(rows);
        let left: Vec<&Put> = match done {
            Ok(()) => puts(group).filter(|put| put.new || put.joined).collect(),
            Err(Fault::Full(_)) => {
                self.desk.pauses.lock().splice(0..0, pauses);
                puts(group).collect()
            }
            Err(Fault::Busy(e) | Fault::Broken(e)) => return self.desk.poison(&e),
        };
        let (withdrawn, left) = (self.engine.withdraw(left.iter().copied()), left.len());
        if withdrawn.len() < left || !complete {
            self.desk.incomplete.fetch_max(group.number, SeqCst);
        }
        self.desk.note_withdrawn(withdrawn);
        self.desk.finish(group.number);
        // What is left is noted again: give the disk a moment.
        let listener = self.engine.news().listen();
        if !self.desk.closing.load(SeqCst) {
            listener.wait(Deadline::after(AGAIN));
        }
    }
}

/// Whether a change is not written while the disk is full: a new job, or what belongs to a batch, which is
/// written whole or not at all.
fn waits_for_space(change: &Change) -> bool {
    match change {
        Change::Put(put) => put.new || put.joined,
        Change::Remove { joined, .. } => *joined,
    }
}

fn puts(group: &Group) -> impl Iterator<Item = &Put> {
    group.changes.iter().filter_map(|change| match change {
        Change::Put(put) => Some(&**put),
        Change::Remove { .. } => None,
    })
}
