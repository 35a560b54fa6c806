//! An engine around another that tells of every call before it is made: to count calls, to make one fail, or
//! to hold one up. And of every look at a job before its answer is used, which is old by then.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::JobId;
use crate::durability::Durability;
use crate::engine::{
    Applied, Batch, BatchReceipt, Capabilities, Claim, Coordinator, Engine, Held, Insert, Inserted, JobRef,
    KeyStanding, Load, Located, Overdue, QueueCounts, Resident, Retention, Signals, Tick, Victim,
};
use crate::error::Result;
use crate::job::{Filter, Job, Page};
use crate::names::{Names, QueueId};
use crate::outcome::{ShedReason, Transition};
use crate::time::Timestamp;

/// A call to an engine that is about to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Call {
    /// `insert`, of so many jobs.
    Insert(usize),
    /// `turn`, with so many transitions and a claim of so many jobs.
    Turn(usize, usize),
    /// `commit`.
    Commit,
    /// Any other call that may change something, by its name.
    Write(&'static str),
    /// Any other call, by its name.
    Read(&'static str),
}

/// What is told of each call. An error is returned instead of making the call.
pub type Before = dyn Fn(Call) -> Result<()> + Send + Sync;

/// What is called when the engine has said where a job stands, before anybody hears it.
pub type Looked = dyn Fn() + Send + Sync;

/// The engine around another.
pub struct Watched {
    inner: Arc<dyn Engine>,
    before: Box<Before>,
    looked: Box<Looked>,
}

impl Watched {
    /// Tells `before` of every call to `inner`.
    pub fn new(
        inner: Arc<dyn Engine>,
        before: impl Fn(Call) -> Result<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            before: Box::new(before),
            looked: Box::new(|| ()),
        })
    }

    /// Calls `looked` after every call of `standing`.
    pub fn held_up(inner: Arc<dyn Engine>, looked: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            inner,
            before: Box::new(|_| Ok(())),
            looked: Box::new(looked),
        })
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.inner).finish()
    }
}

impl Engine for Watched {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn names(&self) -> &Names {
        self.inner.names()
    }

    fn signals(&self) -> &Signals {
        self.inner.signals()
    }

    fn insert(&self, jobs: &[Insert<'_>], now: Timestamp, receipt: &mut Vec<Inserted>) -> Result<()> {
        (self.before)(Call::Insert(jobs.len()))?;
        self.inner.insert(jobs, now, receipt)
    }

    fn turn(
        &self,
        done: &mut [Transition],
        applied: &mut Vec<Applied>,
        claim: Option<&mut Claim<'_>>,
        now: Timestamp,
    ) -> Result<()> {
        (self.before)(Call::Turn(done.len(), claim.as_ref().map_or(0, |c| c.limit)))?;
        self.inner.turn(done, applied, claim, now)
    }

    fn commit(&self, batch: &mut Batch<'_>, now: Timestamp, receipt: &mut BatchReceipt) -> Result<()> {
        (self.before)(Call::Commit)?;
        self.inner.commit(batch, now, receipt)
    }

    fn extend(&self, leases: &[JobRef], lease: Duration, now: Timestamp, held: &mut Vec<Held>) -> Result<()> {
        (self.before)(Call::Write("extend"))?;
        self.inner.extend(leases, lease, now, held)
    }

    fn request_cancel(&self, job: JobRef) -> Result<bool> {
        (self.before)(Call::Write("request_cancel"))?;
        self.inner.request_cancel(job)
    }

    fn tick(&self, limit: usize, now: Timestamp) -> Result<Tick> {
        (self.before)(Call::Write("tick"))?;
        self.inner.tick(limit, now)
    }

    fn expired(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) -> Result<()> {
        (self.before)(Call::Read("expired"))?;
        self.inner.expired(limit, now, out)
    }

    fn prune(&self, keep: Retention, limit: usize, now: Timestamp) -> Result<usize> {
        (self.before)(Call::Write("prune"))?;
        self.inner.prune(keep, limit, now)
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        (self.before)(Call::Read("get"))?;
        self.inner.get(id)
    }

    fn standing(&self, id: JobId) -> Result<Option<Located>> {
        (self.before)(Call::Read("standing"))?;
        let standing = self.inner.standing(id);
        (self.looked)();
        standing
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        (self.before)(Call::Read("list"))?;
        self.inner.list(filter)
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        (self.before)(Call::Read("export"))?;
        self.inner.export(each)
    }

    fn load(&self, queue: QueueId) -> Result<Load> {
        (self.before)(Call::Read("load"))?;
        self.inner.load(queue)
    }

    fn evict(
        &self,
        queue: QueueId,
        victim: Victim<'_>,
        reason: ShedReason,
        now: Timestamp,
    ) -> Result<Option<Located>> {
        (self.before)(Call::Write("evict"))?;
        self.inner.evict(queue, victim, reason, now)
    }

    fn set_newest_first(&self, queue: QueueId, on: bool) -> Result<()> {
        (self.before)(Call::Write("set_newest_first"))?;
        self.inner.set_newest_first(queue, on)
    }

    fn set_resident(&self, queue: QueueId, most: Resident) -> Result<()> {
        (self.before)(Call::Write("set_resident"))?;
        self.inner.set_resident(queue, most)
    }

    fn limit_key(&self, queue: QueueId, key: &str, limit: Option<u32>) -> Result<()> {
        (self.before)(Call::Write("limit_key"))?;
        self.inner.limit_key(queue, key, limit)
    }

    fn key_standing(&self, queue: QueueId, key: &str) -> Result<Option<KeyStanding>> {
        (self.before)(Call::Read("key_standing"))?;
        self.inner.key_standing(queue, key)
    }

    fn counts(&self) -> Result<Vec<QueueCounts>> {
        (self.before)(Call::Read("counts"))?;
        self.inner.counts()
    }

    fn seal(&self) -> Result<()> {
        (self.before)(Call::Write("seal"))?;
        self.inner.seal()
    }

    fn set_paused(&self, queue: QueueId, paused: bool) -> Result<()> {
        (self.before)(Call::Write("set_paused"))?;
        self.inner.set_paused(queue, paused)
    }

    fn coordinator(&self) -> &dyn Coordinator {
        self.inner.coordinator()
    }

    fn flush(&self, level: Durability) -> Result<()> {
        (self.before)(Call::Write("flush"))?;
        self.inner.flush(level)
    }

    fn close(&self) -> Result<()> {
        (self.before)(Call::Write("close"))?;
        self.inner.close()
    }
}
