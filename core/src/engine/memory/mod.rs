//! The engine in this process: the fastest one, and the one that forgets when the process ends.
//!
//! # How it is built
//!
//! * A job is a [`Record`](record) in a [slab] of slots. Every record has a lock of its own, one byte beside
//!   it. A handle leads straight to the record, so finishing a job looks nothing up; ids are looked up in an
//!   [index].
//! * Jobs that can be claimed have a ticket in a [lane], which is a [line] per queue and
//!   priority. Claiming is: pop a ticket, lock its record, see whether the ticket is still good. Jobs with a
//!   concurrency key have theirs in the queue's [flows], which take turns with the lines.
//! * What would otherwise be shared by all threads (counts, free slots, what ended, what runs) is split into
//!   [stripes](stripe), one per thread. A call holds the lock of its stripe while it [changes](session) jobs.
//!   With every stripe locked the counts are true, and a [batch](commit) is alone with the jobs.
//! * What concerns a queue as a whole, its [room] and whether it is paused, is in atomics; so is the
//!   [next due time](due), which every push and turn compares with its own. Jobs that wait for a time have
//!   a timer in the [agenda].
//!
//! What costs is a cache line that moves from one core to another, so that is what a job's way is spared: a
//! pusher and a claimer of the same job meet at the record, at its place in the lane and nowhere else.
//!
//! # Order of locks
//!
//! A [key's](keys) lock, then stripes by number, then a table of the index, then one record, then one of: a
//! lane's store of jobs set aside, its line, a queue's [flows], a part of the agenda, a part of the finished jobs.
//! Bells ring, payloads are dropped and keys are freed [after] all locks are gone.
//!
//! # Limits
//!
//! There are at most 2^28 jobs. Memory that jobs once took is used again for jobs but not given back before
//! the engine is dropped. A queue costs about 5 kB in counters. The turn or push that finds many scheduled
//! jobs due queues all of them first, because they come first; [`Engine::tick`] in time spares it that.

mod after;
mod agenda;
mod claim;
mod commit;
mod due;
mod finished;
mod flags;
mod flows;
mod index;
mod insert;
#[cfg_attr(
    not(feature = "sqlite"),
    allow(dead_code, reason = "only a store underneath asks")
)]
pub(crate) mod journal;
mod keys;
mod lane;
mod latch;
mod line;
mod nodes;
mod place;
mod queue;
mod record;
mod room;
mod running;
mod session;
mod shared;
mod shed;
mod slab;
mod spill;
mod stripe;
mod table;
mod tail;
mod tally;
mod timers;
mod turn;
mod upkeep;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use self::after::{After, shout};
use self::agenda::Agenda;
use self::finished::Finished;
use self::index::Index;
use self::journal::{Flight, Journal};
use self::keys::Keys;
use self::latch::MutexGuard;
use self::session::Session;
use self::shared::Shared;
use self::slab::Slab;
use self::stripe::{Stripe, Stripes};
use super::terms::Terms;
use super::{
    Applied, Batch, BatchReceipt, Capabilities, Claim, Coordinator, Engine, Held, Insert, Inserted, JobRef,
    KeyStanding, Load, Located, Overdue, QueueCounts, Resident, Retention, Signals, Tick, Victim,
};
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Filter, Job, Page};
use crate::names::{Names, QueueId};
use crate::outcome::{ShedReason, Transition};
use crate::time::Timestamp;

/// Keeps jobs in this process. See the [module's text](self) for how.
#[derive(Default)]
pub struct MemoryEngine {
    names: Names,
    signals: Signals,
    keys: Keys,
    slab: Slab,
    index: Index,
    agenda: Agenda,
    finished: Finished,
    stripes: Stripes,
    shared: Shared,
    journal: Option<Journal>,
    terms: Terms,
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

    /// The same over a store that is told of every change; see [journal].
    pub(crate) fn journaled(keep_finished: usize, resident: usize, flight: Box<dyn Flight>) -> Self {
        Self {
            journal: Some(Journal::new(flight, resident)),
            ..Self::new(keep_finished)
        }
    }

    /// What a call does while it holds this stripe.
    fn session<'a>(
        &'a self,
        (number, stripe): &'a mut (usize, MutexGuard<'_, Stripe>),
        after: &'a mut After,
        now: Timestamp,
    ) -> Session<'a> {
        Session::new(self, (*number, stripe), after, now)
    }

    /// Stores jobs; returns the group of the store underneath that will have them. If it is to be quiet, the
    /// caller sees to it that the group begins.
    pub(crate) fn insert_noted(
        &self,
        jobs: &[Insert<'_>],
        now: Timestamp,
        receipt: &mut Vec<Inserted>,
        quiet: bool,
    ) -> u64 {
        let mut after = After::default();
        after.quiet = quiet;
        self.promote(usize::MAX, now, &mut after);
        self.store_all(jobs, now, receipt, &mut after);
        self.settle(&mut after);
        after.group
    }

    /// Applies a batch; returns the group of the store underneath that will have it, 0 if it changed nothing.
    pub(crate) fn commit_noted(
        &self,
        batch: &mut Batch<'_>,
        now: Timestamp,
        receipt: &mut BatchReceipt,
    ) -> u64 {
        let mut after = After::default();
        self.promote(usize::MAX, now, &mut after);
        let latch = self.journal.as_ref().map(Journal::batch);
        self.commit_all(batch, now, receipt, &mut after);
        drop(latch);
        self.settle(&mut after);
        after.group
    }

    /// Does what a call has left for when it holds no lock.
    #[inline]
    fn settle(&self, after: &mut After) {
        after.ring(&self.signals);
        self.make_room(after);
        if after.has_lists() {
            self.settle_lists(after);
        }
        if let Some(journal) = self.journal.as_ref() {
            if after.group > 0 && !after.quiet {
                journal.nudge(after.want);
            }
            if after.hungry_lane {
                journal.ask_for_more();
            }
        }
    }

    #[inline(never)]
    fn settle_lists(&self, after: &mut After) {
        for lane in after.take_littered() {
            if self.tidy(lane, after) {
                fence(Ordering::SeqCst);
                shout(&self.signals.work);
            }
        }
        self.free_keys(after);
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
            evicts: true,
            weighs: true,
            keys: true,
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
        self.insert_noted(jobs, now, receipt, false);
        Ok(())
    }

    fn insert_one(&self, job: &Insert<'_>, now: Timestamp) -> Result<Inserted> {
        let mut after = After::default();
        self.promote(usize::MAX, now, &mut after);
        let inserted = self.store_one(job, now, &mut after);
        self.settle(&mut after);
        Ok(inserted)
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
        let mut stripe = self.stripes.mine();
        let mut session = self.session(&mut stripe, &mut after, now);
        session.apply_each(done, applied);
        if let Some(claim) = claim {
            session.claim(claim);
        }
        drop(stripe);
        self.settle(&mut after);
        Ok(())
    }

    fn commit(&self, batch: &mut Batch<'_>, now: Timestamp, receipt: &mut BatchReceipt) -> Result<()> {
        self.commit_noted(batch, now, receipt);
        Ok(())
    }

    fn extend(&self, leases: &[JobRef], lease: Duration, now: Timestamp, held: &mut Vec<Held>) -> Result<()> {
        let (mut after, mut stripe) = (After::default(), self.stripes.mine());
        let mut session = self.session(&mut stripe, &mut after, now);
        held.extend(leases.iter().map(|job| session.extend(*job, lease)));
        drop(stripe);
        self.settle(&mut after);
        Ok(())
    }

    fn request_cancel(&self, job: JobRef) -> Result<bool> {
        // As every change of a job: a batch is alone with them, from its check to its last write.
        let (mut after, mut stripe) = (After::default(), self.stripes.mine());
        let mut session = self.session(&mut stripe, &mut after, Timestamp::EPOCH);
        let running = session.request_cancel(job);
        drop(stripe);
        self.settle(&mut after);
        Ok(running)
    }

    fn tick(&self, limit: usize, now: Timestamp) -> Result<Tick> {
        let mut after = After::default();
        let tick = self.tick_to(limit, now, &mut after);
        self.settle(&mut after);
        Ok(tick)
    }

    fn expired(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) -> Result<()> {
        self.find_overdue(limit, now, out);
        Ok(())
    }

    fn prune(&self, keep: Retention, limit: usize, _now: Timestamp) -> Result<usize> {
        let mut after = After::default();
        let count = self.forget(keep, limit, &mut after);
        self.settle(&mut after);
        Ok(count)
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.job(id))
    }

    fn standing(&self, id: JobId) -> Result<Option<Located>> {
        let found = self.index.find(id, &self.slab);
        Ok(found.map(|(slot, record)| record.located(slot)))
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        self.page(filter)
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.export_to(each)
    }

    fn limit_key(&self, queue: QueueId, key: &str, limit: Option<u32>) -> Result<()> {
        self.limit_flow(queue, key, limit);
        Ok(())
    }

    fn key_standing(&self, queue: QueueId, key: &str) -> Result<Option<KeyStanding>> {
        Ok(self.flow_standing(queue, key))
    }

    fn counts(&self) -> Result<Vec<QueueCounts>> {
        Ok(self.count())
    }

    fn load(&self, queue: QueueId) -> Result<Load> {
        Ok(self.load_of(queue))
    }

    fn evict(
        &self,
        queue: QueueId,
        victim: Victim<'_>,
        reason: ShedReason,
        now: Timestamp,
    ) -> Result<Option<Located>> {
        let mut after = After::default();
        self.promote(usize::MAX, now, &mut after);
        let shed = self.shed_one(queue, victim, reason, (now, &mut after));
        self.settle(&mut after);
        Ok(shed)
    }

    fn set_newest_first(&self, queue: QueueId, on: bool) -> Result<()> {
        self.shared.queues.get(queue).set_newest_first(on);
        Ok(())
    }

    fn set_resident(&self, queue: QueueId, most: Resident) -> Result<()> {
        if most.bytes > 0 {
            self.weigh(queue);
        }
        self.shared.queues.get(queue).set_resident(most);
        Ok(())
    }

    fn coordinator(&self) -> &dyn Coordinator {
        &self.terms
    }

    fn seal(&self) -> Result<()> {
        // With every stripe locked, whoever has looked has also written.
        let stripes = self.stripes.lock_all();
        self.shared.seal();
        drop(stripes);
        Ok(())
    }

    fn set_paused(&self, queue: QueueId, paused: bool) -> Result<()> {
        self.shared.queues.get(queue).pause(paused);
        let mut after = After::default();
        after.everyone = !paused;
        self.settle(&mut after);
        Ok(())
    }
}
