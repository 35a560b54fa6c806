//! What the writer and its callers share: which group is done, which jobs it could not keep, and whether it can
//! go on at all.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;

use super::gate::Gates;
use super::store::Pause;
use crate::engine::memory::MemoryEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::time::Timestamp;

/// What the writer and its callers share.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Where callers wait for their group.
    gates: Gates,
    /// The last group that is done.
    last: AtomicU64,
    /// The last group of which something could not be written.
    incomplete: AtomicU64,
    /// Why nothing can be written any more.
    broken: Mutex<Option<(ErrorKind, String)>>,
    is_broken: AtomicBool,
    /// Jobs whose push could not be kept, until their pusher has heard of it.
    withdrawn: Mutex<HashSet<JobId>>,
    withdrawn_count: AtomicUsize,
    /// The last group of which a push could not be kept.
    withdrew: AtomicU64,
    /// Queues that were paused or resumed and not yet written.
    pauses: Mutex<Vec<Pause>>,
    /// The latest instant that a caller told of: the engine has no clock of its own.
    now: AtomicI64,
    closing: AtomicBool,
    /// Whether no group will be written any more, because all are.
    is_shut: AtomicBool,
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

    /// Returns when the group is written, or when there is nothing to write any more.
    ///
    /// # Errors
    /// `Unknown` if the store broke first.
    pub(crate) fn wait(&self, group: u64) -> Result<()> {
        if self.gates.wait(group) || self.is_done(group) || self.is_shut.load(SeqCst) {
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

    /// Whether this group is done.
    pub(crate) fn is_done(&self, group: u64) -> bool {
        self.last() >= group
    }

    /// The last group that is done.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(SeqCst)
    }

    /// Whether a push of a group after this one was withdrawn.
    pub(crate) fn withdrew_since(&self, group: u64) -> bool {
        self.withdrew.load(SeqCst) > group
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

    pub(super) fn note_withdrawn(&self, group: u64, ids: Vec<JobId>) {
        if ids.is_empty() {
            return;
        }
        self.withdrew.store(group, SeqCst);
        let mut withdrawn = self.withdrawn.lock();
        withdrawn.extend(ids);
        self.withdrawn_count.store(withdrawn.len(), SeqCst);
    }

    /// Pauses or resumes a queue, and notes it: of two who do it at once, the same one is last in memory and in the
    /// file.
    pub(crate) fn pause(&self, pause: Pause, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut pauses = self.pauses.lock();
        act()?;
        pauses.push(pause);
        Ok(())
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

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(SeqCst))
    }

    /// Tells the writer to write what is left and to end.
    pub(crate) fn close(&self, engine: &MemoryEngine) {
        self.closing.store(true, SeqCst);
        engine.news().ring_all();
    }

    pub(super) fn finish(&self, group: u64) {
        self.last.store(group, SeqCst);
        self.gates.open(group);
    }

    /// Whether the store broke.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(SeqCst)
    }

    /// Whether the writer is to end.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// Some of this group could not be written.
    pub(super) fn leave_incomplete(&self, group: u64) {
        self.incomplete.fetch_max(group, SeqCst);
    }

    /// Whether some of the last group could not be written.
    pub(super) fn is_incomplete(&self) -> bool {
        let last = self.last.load(SeqCst);
        last > 0 && self.incomplete.load(SeqCst) >= last
    }

    /// Takes the queues that were paused or resumed.
    pub(super) fn take_pauses(&self) -> Vec<Pause> {
        std::mem::take(&mut *self.pauses.lock())
    }

    /// Puts those back that could not be written; later ones come after them.
    pub(super) fn return_pauses(&self, pauses: Vec<Pause>) {
        self.pauses.lock().splice(0..0, pauses);
    }

    /// Everything is written, and nothing will be any more: nobody waits for it.
    pub(super) fn shut(&self) {
        self.is_shut.store(true, SeqCst);
        self.gates.break_down();
    }

    pub(super) fn poison(&self, error: &Error) {
        *self.broken.lock() = Some((error.kind(), error.to_string()));
        self.is_broken.store(true, SeqCst);
        self.gates.break_down();
    }

    fn why(&self) -> String {
        let broken = self.broken.lock();
        broken.as_ref().map_or(String::new(), |(_, why)| why.clone())
    }
}
