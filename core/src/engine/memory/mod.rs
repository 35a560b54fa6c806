//! The engine in this process: the fastest one, and the one that forgets when the process ends.
//!
//! # How it is built
//!
//! * A job is a [`Record`](record) in one of 16 [shards], chosen by its id. A [shard] has
//!   one lock, under which all that concerns its jobs changes together: states, counts, timers. With every
//!   shard locked, in order, the counts are true.
//! * Jobs that can be claimed have a ticket in a [lane], which is a lock-free line per queue and
//!   priority. Claiming is: pop a ticket, lock its shard, see whether the ticket is still good.
//! * A handle leads straight to the record, so finishing a job looks nothing up.
//! * What concerns a queue as a whole, its [room] and whether it is paused, is in atomics; so is the
//!   [next due time](due), which every push and turn compares with its own.
//!
//! A push, a claim and a finish take the lock of one shard each, and share it with the others of 64 jobs
//! that were pushed in a row. No lock is taken by all of them.
//!
//! # Order of locks
//!
//! A [key's](keys) lock, then shards by number, then a lane's store of jobs set aside. Bells ring, payloads
//! are dropped and keys are freed [after] all locks are gone.
//!
//! # Limits
//!
//! Memory that jobs once took is used again for jobs but not given back before the engine is dropped. A
//! queue costs about 2 kB in counters. The turn or push that finds many scheduled jobs due queues all of
//! them first, because they come first; [`Engine::tick`] in time spares it that.

mod after;
mod claim;
mod commit;
mod due;
mod finished;
mod insert;
mod keys;
mod lane;
mod nodes;
mod place;
mod queue;
mod record;
mod room;
mod shard;
mod shards;
mod shared;
mod slab;
mod table;
mod tally;
mod timers;
mod turn;
mod upkeep;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use self::after::{After, shout};
use self::keys::Keys;
use self::place::Place;
use self::shards::Shards;
use self::shared::Shared;
use super::{
    Applied, Batch, BatchReceipt, Capabilities, Claim, Engine, Held, Insert, Inserted, JobRef, Located,
    Overdue, QueueCounts, Retention, Signals, Tick,
};
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Filter, Job, Page};
use crate::names::{Names, QueueId};
use crate::outcome::Transition;
use crate::time::Timestamp;

/// Keeps jobs in this process. See the [module's text](self) for how.
#[derive(Default)]
pub struct MemoryEngine {
    names: Names,
    signals: Signals,
    keys: Keys,
    shards: Shards,
    shared: Shared,
}

impl MemoryEngine {
    /// An engine without jobs that keeps at most `keep_finished` finished jobs; the oldest go first. With
    /// 0, a job is forgotten in the moment in which it ends.
    #[must_use]
    pub fn new(keep_finished: usize) -> Self {
        Self {
            shared: Shared::new(keep_finished),
            ..Self::default()
        }
    }

    /// Does what a call has left for when it holds no lock.
    fn settle(&self, mut after: After) {
        after.ring(&self.signals);
        self.forget_excess(&mut after);
        for lane in std::mem::take(&mut after.littered) {
            if self.tidy(lane) {
                shout(&self.signals.work);
            }
        }
        self.free_keys(&after);
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEngine")
            .field("keep_finished", &self.shared.keep)
            .finish_non_exhaustive()
    }
}

impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            host_objects: true,
            ..Capabilities::default()
        }
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn insert(&self, jobs: &[Insert<'_>], now: Timestamp, receipt: &mut Vec<Inserted>) -> Result<()> {
        let mut after = After::default();
        self.promote(usize::MAX, now, &mut after);
        self.store_all(jobs, now, receipt, &mut after);
        self.settle(after);
        Ok(())
    }

    fn turn(
        &self,
        done: &mut [Transition],
        applied: &mut Vec<Applied>,
        claim: Option<&mut Claim<'_>>,
        now: Timestamp,
    ) -> Result<()> {
        let mut after = After::default();
        self.promote(usize::MAX, now, &mut after);
        let mut cursor = self.shards.cursor();
        self.apply_each(done, applied, &mut cursor, now, &mut after);
        if let Some(claim) = claim {
            self.claim(claim, &mut cursor, now, &mut after);
        }
        cursor.release();
        self.settle(after);
        Ok(())
    }

    fn commit(&self, batch: &mut Batch<'_>, now: Timestamp, receipt: &mut BatchReceipt) -> Result<()> {
        let mut after = After::default();
        self.promote(usize::MAX, now, &mut after);
        self.commit_all(batch, now, receipt, &mut after);
        self.settle(after);
        Ok(())
    }

    fn extend(&self, leases: &[JobRef], lease: Duration, now: Timestamp, held: &mut Vec<Held>) -> Result<()> {
        let mut after = After::default();
        self.extend_each(leases, lease, now, held, &mut after);
        self.settle(after);
        Ok(())
    }

    fn request_cancel(&self, job: JobRef) -> Result<bool> {
        Ok(self.shards.lock(job.handle.shard()).request_cancel(job))
    }

    fn tick(&self, limit: usize, now: Timestamp) -> Result<Tick> {
        let mut after = After::default();
        let tick = self.tick_to(limit, now, &mut after);
        self.settle(after);
        Ok(tick)
    }

    fn expired(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) -> Result<()> {
        self.find_overdue(limit, now, out);
        Ok(())
    }

    fn prune(&self, keep: Retention, limit: usize, _now: Timestamp) -> Result<usize> {
        let mut after = After::default();
        let count = self.forget(keep, limit, &mut after);
        self.settle(after);
        Ok(count)
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.job(id))
    }

    fn standing(&self, id: JobId) -> Result<Option<Located>> {
        Ok(self.shards.of(id).locate(id))
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        self.page(filter)
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.export_to(each)
    }

    fn counts(&self) -> Result<Vec<QueueCounts>> {
        Ok(self.count())
    }

    fn seal(&self) -> Result<()> {
        // With every shard locked, whoever has looked has also written.
        let shards = self.shards.lock_all();
        self.shared.seal();
        drop(shards);
        Ok(())
    }

    fn set_paused(&self, queue: QueueId, paused: bool) -> Result<()> {
        self.shared.queues.get(queue).pause(paused);
        let mut after = After::default();
        after.everyone = !paused;
        self.settle(after);
        Ok(())
    }
}
