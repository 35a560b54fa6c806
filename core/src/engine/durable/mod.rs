//! The durable engine of one process: the [memory engine](super::memory) with SQLite underneath.
//!
//! What survives what, and how, is told in `README.md` beside this file. In short: the tables in memory are
//! the truth, and a claim or an end costs what it costs in memory. Every change marks its record; one
//! [writer] takes what is marked, writes it in one transaction and wakes those who waited for it. A
//! [lock file](self::lock) keeps other processes out, a [flight table](self::flight) remembers what runs, and
//! [recovery] reads it all back.
//!
//! # Limits
//! One process owns the file. The file must be on a local disk: on a network file system neither locks nor
//! shared memory can be relied on.

pub(crate) mod desk;
#[cfg(test)]
mod faults;
pub(crate) mod flight;
mod gate;
mod reader;
mod recovery;
#[cfg(feature = "conformance")]
pub mod sim;
mod spilled;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use self::desk::Desk;
use self::flight::Table;
use self::reader::Reader;
use self::store::{Pause, Sqlite, Store};
use self::writer::Writer;
use super::memory::MemoryEngine;
pub(crate) use super::sql::lock;
use super::sql::lock::{Hold, Lock, one_by_one};
use super::{
    Applied, Batch, BatchReceipt, Capabilities, Claim, Coordinator, Engine, Held, Insert, Inserted, JobRef,
    KeyStanding, Load, Located, Overdue, Parcel, QueueCounts, Resident, Retention, Signals, Tick, Victim,
};
use crate::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::Birth;
use crate::id::JobId;
use crate::job::{Filter, Job, Page};
use crate::names::{Names, QueueId};
use crate::outcome::{ShedReason, Transition};
use crate::payload::Payload;
use crate::planted::{Bug, planted};
use crate::threads;
use crate::time::Timestamp;

/// How a durable engine is opened.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The most finished jobs that are kept.
    pub keep_finished: usize,
    /// The longest that a change waits that nobody waits for.
    pub write_behind: Duration,
    /// The most jobs of one queue that wait in memory; 0 is without bound.
    pub resident: usize,
}

/// Sets right what an owner left that died, so that the file can be shared: what ran is counted and marked as
/// when it is opened to be owned. Of many who come at once, one does so while the others wait.
///
/// # Errors
/// As [`DurableEngine::open`].
pub(crate) fn settle(path: &Path) -> Result<()> {
    let settings = Settings {
        keep_finished: usize::MAX,
        write_behind: Duration::ZERO,
        resident: 0,
    };
    one_by_one(path, || match recovery::died(path)? {
        true => DurableEngine::open(path, settings)?.close(),
        false => Ok(()),
    })
}

/// The durable engine of one process. See the [module's text](self).
pub struct DurableEngine {
    memory: Arc<MemoryEngine>,
    desk: Arc<Desk>,
    writer: Arc<Writer>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
    reader: Reader,
    birth: Birth,
}

impl DurableEngine {
    /// Opens the database at `path`, or makes it, and reads what is there.
    ///
    /// # Errors
    /// `AlreadyOpen` if a process has it; `Corrupt`, `FutureFormat`; of the store.
    pub fn open(path: &Path, settings: Settings) -> Result<Self> {
        let lock = Lock::take(path, Hold::Alone)?;
        let mut store = Sqlite::open(path)?;
        let table = Table::open(path)?;
        let opened = recovery::begin(&mut store, &table)?;
        let memory = MemoryEngine::journaled(settings.keep_finished, settings.resident, Box::new(table));
        recovery::load(&mut store, &memory, opened)?;
        store.restore_reserve();
        let engine = Self::with_store(memory, Box::new(store), path, settings)?;
        engine.desk.set_fences(opened.fences());
        *engine.lock.lock() = Some(lock);
        Ok(engine)
    }

    /// An engine over this store, whose jobs are already in memory.
    pub(crate) fn with_store(
        memory: MemoryEngine,
        store: Box<dyn Store>,
        path: &Path,
        settings: Settings,
    ) -> Result<Self> {
        let (memory, desk) = (Arc::new(memory), Arc::new(Desk::default()));
        let writer = Writer::new(memory.clone(), desk.clone(), store, settings.write_behind);
        let writer = Arc::new(writer);
        let own = writer.clone();
        let thread = threads::spawn("writer", move || own.run())?;
        Ok(Self {
            memory,
            desk,
            writer,
            thread: Mutex::new(Some(thread)),
            lock: Mutex::default(),
            reader: Reader::new(path),
            birth: Birth::here(),
        })
    }

    /// An engine without a thread, whose callers write their own groups: for a simulation.
    #[cfg(feature = "conformance")]
    pub(crate) fn simulated(memory: MemoryEngine, store: Box<dyn Store>, settings: Settings) -> Self {
        let (memory, desk) = (Arc::new(memory), Arc::new(Desk::default()));
        let writer = Writer::new(memory.clone(), desk.clone(), store, settings.write_behind).alone();
        Self {
            memory,
            desk,
            writer: Arc::new(writer),
            thread: Mutex::default(),
            lock: Mutex::default(),
            reader: Reader::new(Path::new("")),
            birth: Birth::here(),
        }
    }

    /// Writes what has changed, for a simulation.
    #[cfg(feature = "conformance")]
    pub(crate) fn write_now(&self) {
        self.writer.try_step();
    }

    /// Writes what is left and closes the store, for a simulation.
    ///
    /// # Errors
    /// Of the store.
    #[cfg(feature = "conformance")]
    pub(crate) fn stop_now(&self) -> Result<()> {
        self.desk.close(&self.memory);
        self.writer.run();
        self.desk.check()
    }

    /// Waits until the group is as safe as the jobs are to be, and finds out which of them were kept. `written` is
    /// the last group that was done before they came.
    fn answer(
        &self,
        jobs: &[Insert<'_>],
        receipt: &mut Vec<Inserted>,
        before: usize,
        (written, group): (u64, u64),
    ) -> Result<()> {
        let level = jobs.iter().map(|job| job.durability).max().unwrap_or_default();
        let known = |i: &Inserted| matches!(i, Inserted::Duplicate | Inserted::Keyed(_));
        // Somebody else's push, which may not be written yet.
        let last = if receipt[before..].iter().any(known) {
            self.memory.demand(level)
        } else {
            group
        };
        self.desk.wait(last)?;
        let (mut kept, mut lost) = (0, 0);
        for (job, inserted) in jobs.iter().zip(&receipt[before..]) {
            let was_lost = match inserted {
                Inserted::New if job.durability == Durability::Memory => continue,
                Inserted::New if !self.desk.is_done(group) => {
                    receipt.truncate(before);
                    return Err(Error::new(ErrorKind::Closed, "the store is closed"));
                }
                Inserted::New => self.desk.was_withdrawn(job.id),
                Inserted::Duplicate => self.lost_since(written, job.id)?,
                Inserted::Keyed(id) => self.lost_since(written, *id)?,
                _ => continue,
            };
            if was_lost {
                lost += 1;
            } else if *inserted == Inserted::New {
                kept += 1;
            }
        }
        if lost == 0 {
            return Ok(());
        }
        receipt.truncate(before);
        Err(if kept == 0 {
            Error::new(ErrorKind::Full, "the disk is full; nothing was accepted")
        } else {
            let text = format!("the disk is full: {kept} of the jobs were kept and {lost} were not");
            Error::new(ErrorKind::Unknown, text)
        })
    }

    /// Whether a job that was here after that group is not, because its push was withdrawn.
    fn lost_since(&self, written: u64, id: JobId) -> Result<bool> {
        Ok(self.desk.withdrew_since(written) && self.get(id)?.is_none())
    }
}

/// Payloads on their way in, as bytes, and what the caller gets back if the job is refused.
struct Carried<'a, 'j> {
    jobs: &'a [Insert<'j>],
    originals: Vec<Option<Payload>>,
}

impl<'a, 'j> Carried<'a, 'j> {
    /// Encodes what the host gave as objects, and keeps a reference to all that is given away.
    fn new(jobs: &'a [Insert<'j>]) -> Result<Self> {
        let mut originals = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Parcel::Given(cell) = job.payload else {
                originals.push(None);
                continue;
            };
            let payload = cell.take();
            let bytes = as_bytes(&payload);
            originals.push(Some(payload));
            match bytes {
                Ok(bytes) => cell.set(bytes),
                Err(error) => {
                    Self { jobs, originals }.give_back(&[]);
                    return Err(error);
                }
            }
        }
        Ok(Self { jobs, originals })
    }

    /// Gives the payloads back to those jobs that were not stored.
    fn give_back(&mut self, receipt: &[Inserted]) {
        for (n, (job, original)) in self.jobs.iter().zip(&mut self.originals).enumerate() {
            if receipt.get(n) == Some(&Inserted::New) {
                continue;
            }
            if let (Parcel::Given(cell), Some(original)) = (job.payload, original.take()) {
                cell.set(original);
            }
        }
    }
}

/// Whether the payload is bytes already.
fn is_bytes(payload: Parcel<'_>) -> bool {
    match payload {
        Parcel::Shared(payload) => payload.as_bytes().is_some(),
        Parcel::Given(cell) => {
            let payload = cell.take();
            let is = payload.as_bytes().is_some();
            cell.set(payload);
            is
        }
    }
}

/// The payload as bytes: a writer must not ask the host for them.
fn as_bytes(payload: &Payload) -> Result<Payload> {
    match payload.as_bytes() {
        Some(_) => Ok(payload.clone()),
        None => Ok(Payload::encoded(payload.encode()?)),
    }
}

impl Engine for DurableEngine {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: Durability::Disk,
            evicts: true,
            weighs: true,
            keys: true,
            ..Capabilities::default()
        }
    }

    fn names(&self) -> &Names {
        self.memory.names()
    }

    fn signals(&self) -> &Signals {
        self.memory.signals()
    }

    fn insert(&self, jobs: &[Insert<'_>], now: Timestamp, receipt: &mut Vec<Inserted>) -> Result<()> {
        self.desk.check()?;
        let level = jobs.iter().map(|job| job.durability).max().unwrap_or_default();
        let plain = || jobs.iter().all(|job| is_bytes(job.payload));
        if level == Durability::Memory && self.memory.spilled() == 0 && plain() {
            self.memory.insert_noted(jobs, now, receipt, false);
            return Ok(());
        }
        let before = receipt.len();
        let shared: Vec<Option<Payload>> = jobs
            .iter()
            .map(|job| match job.payload {
                Parcel::Shared(payload) if payload.as_bytes().is_none() => as_bytes(payload).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_>>()?;
        for job in jobs.iter().filter(|job| !job.fresh) {
            self.fetch(job.id)?;
        }
        let mut carried = Carried::new(jobs)?;
        let encoded: Vec<Insert<'_>>;
        let inserts = if shared.iter().any(Option::is_some) {
            encoded = jobs
                .iter()
                .zip(&shared)
                .map(|(job, bytes)| match bytes {
                    Some(bytes) => Insert {
                        payload: Parcel::Shared(bytes),
                        ..job.clone()
                    },
                    None => job.clone(),
                })
                .collect();
            &encoded[..]
        } else {
            jobs
        };
        self.desk.saw(now);
        let own = level > Durability::Memory && self.writer.is_lonely();
        let written = self.desk.last();
        let group = self.memory.insert_noted(inserts, now, receipt, own);
        carried.give_back(&receipt[before..]);
        if level == Durability::Memory {
            return Ok(());
        }
        if planted(Bug::AckBeforeCommit) {
            self.memory.announce(level);
            return Ok(());
        }
        if own && !self.writer.try_step() {
            self.memory.announce(level);
        }
        let answer = self.answer(jobs, receipt, before, (written, group));
        if answer.is_err() {
            carried.give_back(&[]);
        }
        answer
    }

    fn turn(
        &self,
        done: &mut [Transition],
        applied: &mut Vec<Applied>,
        claim: Option<&mut Claim<'_>>,
        now: Timestamp,
    ) -> Result<()> {
        self.desk.check()?;
        self.memory.turn(done, applied, claim, now)
    }

    fn commit(&self, batch: &mut Batch<'_>, now: Timestamp, receipt: &mut BatchReceipt) -> Result<()> {
        self.desk.check()?;
        let bytes: Vec<Payload> = batch
            .inserts
            .iter()
            .map(|job| match job.payload {
                Parcel::Shared(payload) => as_bytes(payload),
                Parcel::Given(cell) => {
                    let payload = cell.take();
                    let bytes = as_bytes(&payload);
                    cell.set(payload);
                    bytes
                }
            })
            .collect::<Result<_>>()?;
        let encoded: Vec<Insert<'_>> = batch
            .inserts
            .iter()
            .zip(&bytes)
            .map(|(job, bytes)| Insert {
                payload: Parcel::Shared(bytes),
                ..job.clone()
            })
            .collect();
        for job in encoded.iter().filter(|job| !job.fresh) {
            self.fetch(job.id)?;
        }
        let mut batch = Batch {
            inserts: &encoded,
            transitions: &mut *batch.transitions,
            signals: batch.signals,
            durability: batch.durability,
        };
        self.memory.commit_noted(&mut batch, now, receipt);
        match batch.durability {
            Durability::Memory => Ok(()),
            // It changed nothing.
            _ if !receipt.applied => Ok(()),
            level => self.flush(level).map_err(|error| match error.kind() {
                ErrorKind::Full => {
                    let text = "the disk is full: the batch is applied, and written as soon as there is room";
                    Error::new(ErrorKind::Unknown, text)
                }
                _ => error,
            }),
        }
    }

    fn extend(&self, leases: &[JobRef], lease: Duration, now: Timestamp, held: &mut Vec<Held>) -> Result<()> {
        self.memory.extend(leases, lease, now, held)
    }

    fn request_cancel(&self, job: JobRef) -> Result<bool> {
        self.desk.check()?;
        self.memory.request_cancel(job)
    }

    fn tick(&self, limit: usize, now: Timestamp) -> Result<Tick> {
        self.memory.tick(limit, now)
    }

    fn expired(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) -> Result<()> {
        self.memory.expired(limit, now, out)
    }

    fn prune(&self, keep: Retention, limit: usize, now: Timestamp) -> Result<usize> {
        self.desk.check()?;
        self.memory.prune(keep, limit, now)
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        match self.memory.get(id)? {
            None => self.peek(id),
            found => Ok(found),
        }
    }

    fn standing(&self, id: JobId) -> Result<Option<Located>> {
        self.fetch(id)?;
        self.memory.standing(id)
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        self.page(filter)
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.export_all(each)
    }

    fn limit_key(&self, queue: QueueId, key: &str, limit: Option<u32>) -> Result<()> {
        self.memory.limit_key(queue, key, limit)
    }

    fn key_standing(&self, queue: QueueId, key: &str) -> Result<Option<KeyStanding>> {
        self.memory.key_standing(queue, key)
    }

    fn load(&self, queue: QueueId) -> Result<Load> {
        Engine::load(&*self.memory, queue)
    }

    fn evict(
        &self,
        queue: QueueId,
        victim: Victim<'_>,
        reason: ShedReason,
        now: Timestamp,
    ) -> Result<Option<Located>> {
        self.desk.check()?;
        self.memory.evict(queue, victim, reason, now)
    }

    fn set_newest_first(&self, queue: QueueId, on: bool) -> Result<()> {
        self.memory.set_newest_first(queue, on)
    }

    fn set_resident(&self, queue: QueueId, most: Resident) -> Result<()> {
        self.memory.set_resident(queue, most)
    }

    fn counts(&self) -> Result<Vec<QueueCounts>> {
        self.memory.counts()
    }

    fn set_paused(&self, queue: QueueId, paused: bool) -> Result<()> {
        self.desk.check()?;
        let name = self.memory.names().queue_name(queue);
        let pause = Pause { queue: name, paused };
        self.desk.pause(pause, || self.memory.set_paused(queue, paused))?;
        // Written with the next group: whoever must know waits for it.
        self.memory.demand(Durability::Memory);
        Ok(())
    }

    fn coordinator(&self) -> &dyn Coordinator {
        self.memory.coordinator()
    }

    fn seal(&self) -> Result<()> {
        self.memory.seal()
    }

    fn flush(&self, level: Durability) -> Result<()> {
        self.desk.check()?;
        if planted(Bug::EarlyFlush) {
            self.memory.demand(Durability::Memory);
            return Ok(());
        }
        let group = self.memory.demand(level);
        if self.writer.is_alone() {
            self.writer.try_step();
        }
        self.desk.wait_for_all(group)
    }

    fn close(&self) -> Result<()> {
        if !self.birth.is_here() {
            return Ok(());
        }
        let Some(thread) = self.thread.lock().take() else {
            return self.desk.check();
        };
        self.desk.close(&self.memory);
        threads::join(thread);
        *self.lock.lock() = None;
        self.desk.check()
    }
}

impl Drop for DurableEngine {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; what was acknowledged is written.
        let _ = self.close();
    }
}

impl fmt::Debug for DurableEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableEngine").finish_non_exhaustive()
    }
}
