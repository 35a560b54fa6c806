//! Pushing: [`MemoryEngine::store_all`] behind [`Engine::insert`](crate::engine::Engine::insert).

use super::MemoryEngine;
use super::after::After;
use super::lane::Lane;
use super::place::{Ticket, shard_of};
use super::queue::Queue;
use super::shards::Cursor;
use crate::engine::{Insert, Inserted};
use crate::id::JobId;
use crate::time::Timestamp;

/// The most tickets of a run: as many as there are ids in a row that share a shard.
const RUN: usize = 64;

/// Jobs in a row that share a shard and a lane. Their tickets go to the lane when the shard is unlocked: a
/// claimer that found one earlier would only wait for the lock.
struct Run<'a> {
    engine: &'a MemoryEngine,
    cursor: Cursor<'a>,
    shard: usize,
    line: Option<(&'a Queue, &'a Lane)>,
    tickets: [Ticket; RUN],
    len: usize,
}

impl MemoryEngine {
    /// Stores jobs in order until one is refused; a receipt for each, the refused one included.
    pub(super) fn store_all(
        &self,
        jobs: &[Insert<'_>],
        now: Timestamp,
        receipt: &mut Vec<Inserted>,
        after: &mut After,
    ) {
        receipt.reserve(jobs.len());
        let mut run = Run::new(self);
        for job in jobs {
            let inserted = match key(job) {
                None => run.store(job, now, after),
                Some(key) => self.store_keyed(&mut run, job, key, now, after),
            };
            receipt.push(inserted);
            if refused(inserted) {
                break;
            }
        }
        run.flush();
    }

    /// Stores a job that has a key. The key stays locked until the job is stored, so of many who push it
    /// at once one succeeds; the shards are locked one after the other, never two at a time.
    fn store_keyed<'a>(
        &'a self,
        run: &mut Run<'a>,
        job: &Insert<'_>,
        key: &str,
        now: Timestamp,
        after: &mut After,
    ) -> Inserted {
        run.flush();
        let mut holders = self.keys.lock(key);
        if self.shards.of(job.id).find(job.id).is_some() {
            return Inserted::Duplicate;
        }
        let holder = holders.get(key).copied();
        if let Some(answer) = holder.and_then(|holder| self.holds(holder, key, job)) {
            return answer;
        }
        let inserted = run.store(job, now, after);
        if inserted == Inserted::New {
            holders.insert(key.into(), job.id);
        }
        run.flush();
        inserted
    }

    /// What the holder of its key means for a job; `None` if the holder no longer is.
    fn holds(&self, holder: JobId, key: &str, job: &Insert<'_>) -> Option<Inserted> {
        let shard = self.shards.of(holder);
        let record = shard.find(holder).filter(|r| r.holds(key))?;
        let print = record.extras.as_ref().map(|e| e.fingerprint);
        let same = record.kind == job.kind && print == job.extras.map(|e| e.fingerprint);
        Some(keyed(holder, same))
    }
}

/// The receipt of a job whose key belongs to another.
pub(super) fn keyed(holder: JobId, same: bool) -> Inserted {
    if same {
        Inserted::Keyed(holder)
    } else {
        Inserted::Conflict(holder)
    }
}

/// Whether this is the end of a push of several jobs, or of a batch.
pub(super) fn refused(inserted: Inserted) -> bool {
    matches!(
        inserted,
        Inserted::Full(_) | Inserted::Conflict(_) | Inserted::Sealed
    )
}

/// The idempotency key, if the job has one.
pub(super) fn key<'j>(job: &Insert<'j>) -> Option<&'j str> {
    job.extras?.key.as_deref()
}

/// The most jobs that may wait, this one included; 0 if it is never refused.
pub(super) fn bound(job: &Insert<'_>) -> usize {
    match job.restored {
        None => job.capacity,
        Some(_) => 0,
    }
}

impl<'a> Run<'a> {
    fn new(engine: &'a MemoryEngine) -> Self {
        Self {
            engine,
            cursor: engine.shards.cursor(),
            shard: 0,
            line: None,
            tickets: [Ticket::default(); RUN],
            len: 0,
        }
    }

    fn store(&mut self, job: &Insert<'_>, now: Timestamp, after: &mut After) -> Inserted {
        let shared = &self.engine.shared;
        let number = shard_of(job.id);
        let queue = shared.queues.get(job.queue);
        let lane = queue.lanes.lane(job.priority);
        if self.len == RUN || number != self.shard || self.line.is_some_and(|(_, l)| !std::ptr::eq(l, lane)) {
            self.flush();
        }
        (self.shard, self.line) = (number, Some((queue, lane)));
        let shard = self.cursor.at(number);
        if shard.find(job.id).is_some() {
            return Inserted::Duplicate;
        }
        if shared.sealed() {
            return Inserted::Sealed;
        }
        if let Err(waiting) = queue.room.try_enter(bound(job)) {
            shard.refuse(job.queue);
            return Inserted::Full(waiting);
        }
        if let Some(ticket) = shard.store(job, now, shared, after) {
            self.tickets[self.len] = ticket;
            self.len += 1;
        }
        Inserted::New
    }

    /// Unlocks the shard and puts the tickets in their lane.
    fn flush(&mut self) {
        self.cursor.release();
        if let Some((queue, lane)) = self.line.take() {
            for ticket in &self.tickets[..self.len] {
                queue.lanes.push(lane, *ticket);
            }
        }
        self.len = 0;
    }
}
