//! Shedding: a queued job is taken out to make room, or a new one is stored as given up.
//!
//! Which job goes is asked for; that it is queued, and stays so until it is shed, is sure because its record is
//! locked from the look to the end. Its ticket may be in the hands of a claimer by then, who finds it stale. A job
//! that is shed ends as every other does, and its payload goes with it: it was given up to save what it takes.

use super::MemoryEngine;
use super::after::After;
use super::finished::Fate;
use super::flags::{HELD, Listed};
use super::lane::Lane;
use super::latch::MutexGuard;
use super::queue::Queue;
use super::record::Record;
use super::session::{Found, Session};
use crate::durability::Durability;
use crate::engine::{Insert, Inserted, JobRef, Load, Located, Victim};
use crate::job::{Priority, State};
use crate::names::QueueId;
use crate::outcome::{FailureKind, ShedReason, Transition};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

impl MemoryEngine {
    /// Ends one queued job as shed. Of a queue of which a part is in the store only, one that is in memory.
    pub(super) fn shed_one(
        &self,
        id: QueueId,
        victim: Victim<'_>,
        reason: ShedReason,
        (now, after): (Timestamp, &mut After),
    ) -> Option<Located> {
        let queue = self.shared.queues.find(id)?;
        let mut stripe = self.stripes.mine();
        if self.shared.sealed() {
            return None;
        }
        self.session(&mut stripe, after, now)
            .shed_victim(queue, victim, reason)
    }

    /// What waits in a queue.
    pub(super) fn load_of(&self, id: QueueId) -> Load {
        let queue = self.shared.queues.find(id);
        queue.map_or_else(Load::default, |queue| Load {
            jobs: queue.room.waiting(),
            bytes: queue.room.bytes(),
        })
    }

    /// Sees to it that the bytes of a queue are counted.
    #[inline]
    pub(super) fn weigh(&self, id: QueueId) {
        if !self.shared.queues.get(id).room.weighs() {
            let _all = self.stripes.lock_all();
            self.weigh_now(id);
        }
    }

    /// The same, with every stripe locked: nobody comes or goes while the bytes are added up.
    pub(super) fn weigh_now(&self, id: QueueId) {
        let queue = self.shared.queues.get(id);
        if queue.room.weighs() {
            return;
        }
        let records = self.records();
        let waiting = records.filter(|r| r.queue() == id && r.state().is_waiting());
        let resident: usize = waiting.map(|r| r.weight()).sum();
        queue.room.weigh(resident + queue.spilled_bytes());
    }
}

impl<'a> Session<'a> {
    fn shed_victim(&mut self, queue: &'a Queue, victim: Victim<'_>, reason: ShedReason) -> Option<Located> {
        match victim {
            Victim::Oldest => {
                let plain = queue.lanes.busy().map(Lane::live).sum();
                match self.first_of_long_flow(queue, plain) {
                    Some((slot, record)) => Some(self.shed(record, slot, reason)),
                    None => self
                        .shed_oldest(queue, reason)
                        .or_else(|| self.shed_some_keyed(queue, reason)),
                }
            }
            Victim::Lowest { below } => self.shed_lowest(queue, below, reason),
            Victim::OfKey(key) => {
                let (slot, record) = self.first_of_key(queue, key)?;
                Some(self.shed(record, slot, reason))
            }
        }
    }

    fn shed_oldest(&mut self, queue: &'a Queue, reason: ShedReason) -> Option<Located> {
        // Whoever comes in between takes the lane's last job: then another lane has the oldest.
        while let Some(lane) = self.oldest(queue) {
            let shed = self.shed_first(queue, lane, reason);
            if shed.is_some() {
                return shed;
            }
        }
        None
    }

    /// Of one priority, jobs without a key go first.
    fn shed_lowest(&mut self, queue: &'a Queue, below: Priority, reason: ShedReason) -> Option<Located> {
        let mut lanes: Vec<&Lane> = queue.lanes.busy().collect();
        lanes.reverse();
        for lane in lanes.into_iter().take_while(|lane| lane.priority() < below) {
            let keyed = self.shed_keyed(queue, lane.priority(), reason);
            let shed = keyed.or_else(|| self.shed_first(queue, lane, reason));
            if shed.is_some() {
                return shed;
            }
        }
        self.shed_keyed(queue, below, reason)
    }

    /// Sheds a job with a concurrency key of the lowest priority, if that is under `below`.
    fn shed_keyed(&mut self, queue: &'a Queue, below: Priority, reason: ShedReason) -> Option<Located> {
        let (slot, record) = self.first_of_lowest(queue, below)?;
        Some(self.shed(record, slot, reason))
    }

    /// Sheds a job with a concurrency key, if there is one: the longest flow may have been overlooked.
    fn shed_some_keyed(&mut self, queue: &'a Queue, reason: ShedReason) -> Option<Located> {
        let (slot, record) = self.first_of_some_flow(queue)?;
        Some(self.shed(record, slot, reason))
    }

    /// The lane of the job that has been ready longest; of two, the lower one.
    fn oldest(&mut self, queue: &'a Queue) -> Option<&'a Lane> {
        let mut oldest: Option<(Timestamp, &Lane)> = None;
        for lane in queue.lanes.busy() {
            if let Some((_, record)) = self.first(queue, lane)
                && oldest.is_none_or(|(ready, _)| record.ready() <= ready)
            {
                oldest = Some((record.ready(), lane));
            }
        }
        oldest.map(|(_, lane)| lane)
    }

    /// The first job of a lane that is in memory. Stale tickets before it are taken out.
    fn first(&self, queue: &'a Queue, lane: &'a Lane) -> Option<(Found<'a>, MutexGuard<'a, Record>)> {
        loop {
            let (ticket, listed) = lane.first()?;
            let found = Found {
                ticket,
                lane,
                lanes: &queue.lanes,
                listed,
                key: 0,
            };
            if let Some(record) = self.queued(found) {
                return Some((found, record));
            }
            if listed == Listed::Lane && lane.take_if_first(ticket) {
                lane.swept();
            }
        }
    }

    fn shed_first(&mut self, queue: &'a Queue, lane: &'a Lane, reason: ShedReason) -> Option<Located> {
        let Some((found, mut record)) = self.first(queue, lane) else {
            self.after.hungry_lane |= lane.runs_low(queue);
            return None;
        };
        let out = found.listed == Listed::Lane && !planted(Bug::EvictedJobRuns);
        if out && lane.take_if_first(found.ticket) {
            record.list(Listed::No);
        }
        Some(self.shed(record, found.ticket.slot(), reason))
    }

    /// Ends a queued job as shed.
    #[cold]
    pub(super) fn shed(
        &mut self,
        mut record: MutexGuard<'_, Record>,
        slot: u32,
        reason: ShedReason,
    ) -> Located {
        let mut t = given_up(record.job_ref(slot), reason);
        if planted(Bug::EvictedJobRuns) {
            let room = &self.engine.shared.queues.get(record.queue()).room;
            room.leave(self.number, 1, 0);
            return record.located(slot);
        }
        if !planted(Bug::ShedNotWritten) {
            self.touch(&mut record, slot);
        }
        self.count_shed(record.queue(), &t);
        self.leave(&mut record, slot, &mut t);
        let located = Located {
            state: State::Shed,
            ..record.located(slot)
        };
        self.finish(record, slot, &mut t);
        located
    }

    /// Counts a job by the reason for which it is shed, if it is.
    #[inline(always)]
    pub(super) fn count_shed(&mut self, queue: QueueId, t: &Transition) {
        if let Some(FailureKind::Shed(reason)) = t.failure.as_ref().map(|failure| failure.kind)
            && !planted(Bug::ShedNotCounted)
        {
            *self.stripe.tally(queue).totals.of_mut(reason) += 1;
        }
    }

    /// Stores a new job as one that was shed, if its id is new.
    #[cold]
    pub(super) fn insert_shed(&mut self, job: &Insert<'_>, reason: ShedReason) -> Inserted {
        let engine = self.engine;
        let Some(slot) = engine.slab.take(&mut self.stripe.free) else {
            self.refuse(job);
            return Inserted::Full(engine.shared.queues.get(job.queue).room.waiting());
        };
        let Some(mut record) = engine.slab.lock(slot) else {
            return Inserted::Duplicate;
        };
        record.fill(job, self.now);
        let mut t = given_up(record.job_ref(slot), reason);
        record.end_waiting(&mut t);
        let payload = record.end(&mut t, self.now);
        record.enter(State::Shed);
        self.promise(&mut record, job.durability);
        self.touch(&mut record, slot);
        drop(record);
        payload
            .into_iter()
            .for_each(|payload| self.after.drop_later(payload));
        if !engine.index.insert((job.id, job.fresh), slot, &engine.slab) {
            self.discard(slot);
            return Inserted::Duplicate;
        }
        self.count_new(job, State::Shed);
        *self.stripe.tally(job.queue).totals.of_mut(reason) += 1;
        self.after.end(job.id, State::Shed);
        self.stripe.tally(job.queue).keep(1);
        if engine.shared.keep == 0 {
            self.forget(slot);
        } else {
            self.keep((Fate::of(State::Shed), self.now, slot));
        }
        Inserted::New
    }

    /// Sees to it that a job which is over already reaches the store underneath, if its push waits for that.
    fn promise(&mut self, record: &mut Record, want: Durability) {
        let want = self.level.unwrap_or(want);
        if self.engine.journal.is_some() && want > Durability::Memory {
            record.mark(HELD, true);
            self.demand(want);
        }
    }
}

/// What becomes of a queued job that is shed.
fn given_up(job: JobRef, reason: ShedReason) -> Transition {
    Transition {
        job,
        running: false,
        to: State::Shed,
        delay: std::time::Duration::ZERO,
        refund: false,
        keeps_place: false,
        answers_cancel: true,
        result: None,
        failure: Some(reason.failure()),
    }
}
