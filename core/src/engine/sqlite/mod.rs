//! The engine of `sqlite:PATH?shared=true`: the table is the truth, and any number of processes and threads
//! claim by SQL.
//!
//! # How it is built
//!
//! * A process writes on one [thread](writer), which commits in one transaction whatever calls came while it was
//!   busy with the last one: 64 callers share a sync. Looks go past it, on connections of their own ([view]).
//! * A job is claimed with a lease and a fence, both in its row. Every write to a job names its row, its id, the
//!   state it is expected in and the fence ([turn]): who lost the lease changes nothing.
//! * Every unfinished job is found by an index, by what is asked for: the first of a kind in a queue ([claim]),
//!   the next to start, the next that is overdue ([upkeep]). A backlog is never walked.
//! * Counts are a table, changed in the transaction of what they count ([tally]): at every instant they add up,
//!   for every process.
//! * Time is the latest instant that any process has worked at ([time]).
//! * Processes tell each other what became true through a small mapped file ([wake]), and look by themselves once
//!   a second while somebody waits.
//! * Which processes there are is in the table `nodes` ([nodes]); named leases that grow a term are in `terms`
//!   ([coordinator]).
//!
//! # Limits
//!
//! One machine: SQLite's locks and the mapped file mean nothing on a network file system. One process writes at a
//! time; the others wait for it, ten seconds at the most. At most 128 processes hear of each other at once,
//! others look twice a second. A claim looks at each *kind* of which jobs are queued in its queue, so thousands
//! of kinds in one queue are slow. Claims and ends of attempts are synced only with option `sync_done`: after a
//! power cut, not after the death of a process, the latest of them may be forgotten.

mod after;
mod batch;
mod claim;
mod connection;
mod coordinator;
mod gate;
mod insert;
mod nodes;
mod read;
mod tally;
mod time;
mod turn;
mod upkeep;
mod view;
mod wake;
mod work;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use self::after::After;
use self::claim::Ask;
use self::connection::Readers;
use self::insert::Draft;
use self::time::Time;
use self::wake::{Told, Wake};
use self::work::{Clock, Fault, Step, Work};
use self::writer::Writer;
use super::sql::failure;
use super::sql::lock::{Hold, Lock, one_by_one};
use super::sql::statements as sql;
use super::{
    Applied, Batch, BatchReceipt, Capabilities, Claim, Coordinator, Engine, Held, Insert, Inserted, JobRef,
    Load, Located, Overdue, QueueCounts, Retention, Signals, Tick,
};
use crate::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::Birth;
use crate::id::JobId;
use crate::job::{Filter, Job, Page};
use crate::names::{Names, QueueId};
use crate::outcome::Transition;
use crate::payload::Payload;
use crate::time::Timestamp;

/// How a file is opened to be shared.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// The most finished jobs to keep. With 0, a job is forgotten in the moment in which it ends.
    pub keep_finished: usize,
    /// The name of this node, if it was given one: two live ones of one name are refused.
    pub node: Option<String>,
    /// How safe ends of attempts are when they are answered.
    pub done: Durability,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            keep_finished: 100_000,
            node: None,
            done: Durability::Os,
        }
    }
}

/// Jobs in a file that several processes share. See the [module's text](self) for how.
#[derive(Debug)]
pub struct SqliteEngine {
    store: Arc<Store>,
    birth: Birth,
}

/// What the threads of the engine hold.
#[derive(Debug)]
struct Store {
    path: String,
    names: Names,
    signals: Signals,
    time: Time,
    wake: Wake,
    writer: Writer,
    readers: Readers,
    keep: usize,
    done: Durability,
    /// The number of this process among the nodes.
    node: AtomicI64,
    sealed: AtomicBool,
    /// The instants of the store at the last commit of this process that was synced: while they are the same, there is
    /// nothing that a sync would add, whoever commits.
    synced: Mutex<Option<Clock>>,
    closed: AtomicBool,
    lock: Mutex<Option<Lock>>,
    seat: Option<u32>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteEngine {
    /// Opens the file at `path`, or makes it, to share it with other processes.
    ///
    /// # Errors
    /// `AlreadyOpen` if a process owns the file, or another live node has this name; `Corrupt` and
    /// `FutureFormat` for a file that cannot be used; of the store.
    pub fn open(path: &Path, sharing: Sharing, now: Timestamp) -> Result<Self> {
        let lock = Lock::take(path, Hold::Shared)?;
        let seat = lock.sit();
        let text = path.display().to_string();
        // One after the other: what one has half made is no database of ours to another.
        let mut db = one_by_one(path, || connection::create(path, &text))?;
        let node = nodes::join(&mut db, &text, &lock, seat, sharing.node.as_deref(), now)?;
        let wake = Wake::open(path, seat, |seat| lock.is_taken(seat))?;
        let store = Arc::new(Store {
            names: Names::default(),
            signals: Signals::default(),
            time: Time::default(),
            wake,
            writer: Writer::default(),
            readers: Readers::new(PathBuf::from(path)),
            keep: sharing.keep_finished,
            done: sharing.done,
            node: AtomicI64::new(node),
            sealed: AtomicBool::new(false),
            synced: Mutex::default(),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            seat,
            watcher: Mutex::new(None),
            path: text,
        });
        let engine = Self {
            store: store.clone(),
            birth: Birth::here(),
        };
        store.learn_queues()?;
        Writer::start(&store, db)?;
        let watching = store.clone();
        let watcher = crate::threads::spawn("wake", move || watching.watch())?;
        *store.watcher.lock() = Some(watcher);
        Ok(engine)
    }

    /// The number of this process among all that ever opened the file: never used twice.
    #[must_use]
    pub fn node(&self) -> i64 {
        self.store.node()
    }
}

impl Drop for SqliteEngine {
    fn drop(&mut self) {
        if self.birth.is_here() {
            self.store.close();
        } else {
            // In the child of a fork, closing a connection would take the parent's locks and files away.
            std::mem::forget(self.store.clone());
        }
    }
}

impl Store {
    fn node(&self) -> i64 {
        self.node.load(SeqCst)
    }

    fn sealed(&self) -> bool {
        self.sealed.load(SeqCst)
    }

    fn failed(&self, fault: Fault) -> Error {
        match fault {
            Fault::Store(error) => failure(&error, &self.path),
            Fault::Other(error) => error,
        }
    }

    /// Looks at what is committed.
    fn look<T>(&self, look: impl FnOnce(&Connection) -> Step<T>) -> Result<T> {
        self.readers.with(look).map_err(|fault| self.failed(fault))
    }

    /// Says what a committed transaction has made true.
    fn announce(&self, after: &After) {
        after.ring(&self.signals, self.wake.sooner(after.due));
        self.wake.tell(after);
    }

    /// Names the queues that other processes have used, so that consumers of every queue ask for them.
    fn learn_queues(&self) -> Result<()> {
        let before = self.names.queue_count();
        self.look(|db| {
            let mut queues = db.prepare_cached(sql::QUEUES)?;
            for name in queues.query_map([], |row| row.get::<_, String>(0))? {
                self.names.queue(&name?)?;
            }
            Ok(())
        })?;
        if self.names.queue_count() > before {
            self.signals.work.ring_all();
        }
        Ok(())
    }

    /// Whether this process looks after what is overdue before the others do: the one with the lowest seat.
    fn leads(&self) -> bool {
        let (lock, seat) = (self.lock.lock(), self.seat);
        let lower = || 0..seat.unwrap_or(0);
        lock.as_ref()
            .is_none_or(|lock| !lower().any(|seat| lock.is_taken(seat)))
    }

    /// Hears of other processes until the engine is closed.
    fn watch(&self) {
        /// Rings that come together are handled together.
        const PAUSE: Duration = Duration::from_micros(200);
        let mut own = None;
        let mut version = 0;
        loop {
            let told = self.wake.sleep();
            if self.wake.closed() {
                return;
            }
            if told != Told::default() {
                self.hear(told);
                std::thread::sleep(PAUSE);
            } else if self.anybody_waits() {
                // What fails now is tried again in a second; whoever waits hears of it by its own calls.
                let now = self.version(&mut own).unwrap_or(version);
                if now != version {
                    version = now;
                    self.hear_everything();
                }
            }
        }
    }

    /// A number that changes when the file does, as one connection sees it.
    fn version(&self, own: &mut Option<Connection>) -> rusqlite::Result<i64> {
        let db = match own {
            Some(db) => db,
            None => own.insert(self.readers.open()?),
        };
        db.pragma_query_value(None, "data_version", |row| row.get(0))
    }

    fn anybody_waits(&self) -> bool {
        let s = &self.signals;
        let threads = s.work.waiting() + s.space.waiting() + s.upkeep.waiting();
        threads + s.finished.waiters() > 0
    }

    fn hear(&self, told: Told) {
        if told.names {
            // What fails now is tried again with the next look by itself.
            let _ = self.learn_queues();
        }
        let after = After {
            ready: told.ready as usize,
            everyone: told.everyone,
            room: told.space,
            leases: told.leases,
            ..After::default()
        };
        after.ring(&self.signals, told.upkeep);
        if told.finished {
            self.signals.finished.ring_all();
        }
    }

    fn hear_everything(&self) {
        self.hear(Told {
            ready: 0,
            everyone: true,
            space: true,
            upkeep: true,
            finished: true,
            leases: true,
            names: true,
        });
    }

    fn close(&self) {
        if self.closed.swap(true, SeqCst) {
            return;
        }
        let node = self.node();
        // The row only says for people that the process ended in order; but a stop leaves nothing unsynced.
        let _ = self.writer.call(Durability::Disk, None, |work| {
            let now = work.now.as_micros();
            work.run(sql::LEAVE, (node, now))
        });
        self.writer.close();
        self.wake.close();
        if let Some(watcher) = self.watcher.lock().take() {
            crate::threads::join(watcher);
        }
        self.lock.lock().take();
    }
}

impl Engine for SqliteEngine {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: Durability::Disk,
            shared: true,
            weighs: true,
            ..Capabilities::default()
        }
    }

    fn names(&self) -> &Names {
        &self.store.names
    }

    fn signals(&self) -> &Signals {
        &self.store.signals
    }

    fn insert(&self, jobs: &[Insert<'_>], now: Timestamp, receipt: &mut Vec<Inserted>) -> Result<()> {
        let drafts = jobs.iter().map(Draft::of).collect::<Result<Vec<_>>>()?;
        let level = jobs.iter().map(|job| job.durability).max().unwrap_or_default();
        let call = |work: &mut Work<'_>| work.insert_all(&drafts);
        let inserted = self.store.writer.call(level, Some(now), call);
        receipt.extend(unless_closed(inserted, || {
            jobs.iter().map(|_| Inserted::Sealed).take(1).collect()
        })?);
        Ok(())
    }

    fn turn(
        &self,
        done: &mut [Transition],
        applied: &mut Vec<Applied>,
        claim: Option<&mut Claim<'_>>,
        now: Timestamp,
    ) -> Result<()> {
        let store = &self.store;
        let Some(claim) = claim else {
            let done = encoded(done)?;
            if !done.is_empty() {
                let fates = store
                    .writer
                    .call(store.done, Some(now), |work| work.apply_each(&done));
                applied.extend(unless_closed(fates, || vec![Applied::Stale; done.len()])?);
            }
            return Ok(());
        };
        let mut ask = Ask {
            queue: claim.queue,
            kinds: claim.kinds.to_vec(),
            limit: claim.limit,
            lease: claim.lease,
            node: claim.node.clone(),
            worker: claim.worker,
            relays: claim.relays,
        };
        if done.is_empty() && !store.anything_for(&ask, now)? {
            return Ok(());
        }
        let done = encoded(done)?;
        let turned = store.writer.call(store.done, Some(now), |work| {
            work.promote(Work::SOME)?;
            let fates = work.apply_each(&done)?;
            let claimed = work.claim(&mut ask)?;
            Ok((fates, claimed, std::mem::take(&mut ask.kinds)))
        });
        let nothing = || (vec![Applied::Stale; done.len()], Vec::new(), claim.kinds.to_vec());
        let (fates, claimed, kinds) = unless_closed(turned, nothing)?;
        applied.extend(fates);
        claim.kinds.copy_from_slice(&kinds);
        claim.out.extend(claimed);
        Ok(())
    }

    fn commit(&self, batch: &mut Batch<'_>, now: Timestamp, receipt: &mut BatchReceipt) -> Result<()> {
        let drafts = batch.inserts.iter().map(Draft::of).collect::<Result<Vec<_>>>()?;
        let transitions = encoded(batch.transitions)?;
        let signals = batch.signals;
        let call = |work: &mut Work<'_>| work.commit(&drafts, &transitions, signals);
        let committed = self.store.writer.call(batch.durability, Some(now), call);
        *receipt = unless_closed(committed, || BatchReceipt {
            applied: false,
            inserted: vec![Inserted::Sealed; drafts.len()],
            transitions: vec![Applied::Stale; transitions.len()],
        })?;
        Ok(())
    }

    fn extend(&self, leases: &[JobRef], lease: Duration, now: Timestamp, held: &mut Vec<Held>) -> Result<()> {
        let call = |work: &mut Work<'_>| work.extend(leases, lease);
        let extended = self.store.writer.call(Durability::Os, Some(now), call);
        held.extend(unless_closed(extended, || vec![Held::Lost; leases.len()])?);
        Ok(())
    }

    fn request_cancel(&self, job: JobRef) -> Result<bool> {
        let call = |work: &mut Work<'_>| work.request_cancel(job);
        unless_closed(self.store.writer.call(Durability::Os, None, call), || false)
    }

    fn tick(&self, limit: usize, now: Timestamp) -> Result<Tick> {
        let store = &self.store;
        store.wake.looks();
        let mut promoted = 0;
        let mut next = store.look(|db| store.next_due(db))?;
        if next <= store.time.present(now) {
            let call = |work: &mut Work<'_>| work.promote(limit);
            promoted = unless_closed(store.writer.call(Durability::Os, Some(now), call), || 0)?;
            next = store.look(|db| store.next_due(db))?;
        }
        store.wake.sooner(Some(next));
        let next = store.time.shown(next);
        Ok(Tick { promoted, next })
    }

    fn expired(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) -> Result<()> {
        let now = self.store.time.present(now);
        self.store.look(|db| self.store.overdue(db, limit, now, out))
    }

    fn prune(&self, keep: Retention, limit: usize, now: Timestamp) -> Result<usize> {
        let call = |work: &mut Work<'_>| work.prune(keep, limit);
        unless_closed(self.store.writer.call(Durability::Os, Some(now), call), || 0)
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        self.store.look(|db| self.store.find(db, id))
    }

    fn standing(&self, id: JobId) -> Result<Option<Located>> {
        self.store.look(|db| self.store.locate(db, id))
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        let size = filter.page_size()?;
        self.store.look(|db| self.store.page(db, filter, size))
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.store.look(|db| self.store.export_to(db, each))
    }

    fn counts(&self) -> Result<Vec<QueueCounts>> {
        self.store.look(|db| self.store.count(db))
    }

    fn load(&self, queue: QueueId) -> Result<Load> {
        let (jobs, bytes) = self
            .store
            .look(|db| tally::waiting(db, self.store.names.queue_text(queue)))?;
        Ok(Load {
            jobs: usize::try_from(jobs).unwrap_or(0),
            bytes: usize::try_from(bytes).unwrap_or(0),
        })
    }

    fn set_paused(&self, queue: QueueId, paused: bool) -> Result<()> {
        self.store.writer.call(Durability::Os, None, |work| {
            let name = work.queue_text(queue);
            work.run(sql::SET_PAUSED, (name, paused))?;
            work.after.everyone |= !paused;
            Ok(())
        })
    }

    fn coordinator(&self) -> &dyn Coordinator {
        self
    }

    fn seal(&self) -> Result<()> {
        // Among the calls: whoever wrote before has been answered, whoever comes later finds it sealed.
        let sealed = self.store.writer.call(Durability::Os, None, |work| {
            work.engine.sealed.store(true, SeqCst);
            Ok(())
        });
        self.store.sealed.store(true, SeqCst);
        unless_closed(sealed, || ())
    }

    fn flush(&self, level: Durability) -> Result<()> {
        let store = &self.store;
        if level < Durability::Disk || store.closed.load(SeqCst) {
            return Ok(());
        }
        // Every commit moves the clock, also those of other processes.
        let clock = store.look(work::clock)?;
        if *store.synced.lock() == Some(clock) {
            return Ok(());
        }
        // A transaction that is synced brings along all that were committed before it.
        unless_closed(store.writer.call(Durability::Disk, None, |_| Ok(())), || ())
    }

    fn close(&self) -> Result<()> {
        if self.birth.is_here() {
            self.store.close();
        }
        Ok(())
    }
}

/// What a call says, or what it would say behind a [seal](Engine::seal) if the engine has been closed.
fn unless_closed<T>(result: Result<T>, sealed: impl FnOnce() -> T) -> Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::Closed => Ok(sealed()),
        result => result,
    }
}

/// Transitions for the thread that writes: the results are bytes. The caller keeps its own.
fn encoded(transitions: &[Transition]) -> Result<Vec<Transition>> {
    let mut copies = transitions.to_vec();
    for t in &mut copies {
        if let Some(result) = t.result.as_mut().filter(|r| r.as_bytes().is_none()) {
            *result = Payload::encoded(result.encode()?);
        }
    }
    Ok(copies)
}
