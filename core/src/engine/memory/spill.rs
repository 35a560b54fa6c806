//! Jobs that wait in the store underneath only.
//!
//! When more jobs of a queue wait than may be in memory, those that come after them are written and then
//! forgotten here, but for their row in the [tail](super::tail) of their lane. When a lane runs low, the
//! store's writer takes rows from its tail, reads them and [takes the jobs back](MemoryEngine::take_back). While
//! a lane has a tail, everything new goes behind it, and a claim that finds the lane empty goes no further: so
//! the order of priorities and of pushes is kept.
//!
//! Only plain jobs are spilled: ready to run, without an idempotency key, a concurrency key or a deadline. A job that
//! comes back for another attempt stands in memory, before those in the tail.

use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::MemoryEngine;
use super::after::After;
use super::flags::{HELD, SPILLED};
use super::journal::Put;
use super::lane::Lane;
use super::queue::Queue;
use super::record::Record;
use super::session::Session;
use crate::engine::Resident;
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Job, Priority, State};
use crate::names::QueueId;

/// A lane with fewer tickets than this is filled up, where so many may be in memory.
const LOW: usize = 1024;
/// How many jobs are taken back at once.
const REFILL: usize = 4096;

/// How much may wait in memory, and how much does not.
#[derive(Debug, Default)]
pub(super) struct Spill {
    /// The most jobs of one queue that wait in memory; 0 is without bound.
    pub(super) resident: usize,
    /// How many wait in the store only.
    pub(super) count: AtomicUsize,
}

impl Queue {
    /// A lane with fewer tickets than this is filled up.
    pub(super) fn low(&self) -> usize {
        match self.resident().jobs {
            0 => LOW,
            jobs => (jobs / 2).clamp(1, LOW),
        }
    }
}

impl Spill {
    /// Whether a job that comes to this queue now is to be spilled, unless it is special.
    pub(super) fn wants(&self, queue: &Queue) -> bool {
        let most = self.most(queue);
        if most == Resident::default() {
            return false;
        }
        let spilled = queue.spilled.load(SeqCst);
        let over = |there: usize, most: usize| most > 0 && there > most;
        spilled > 0
            || over(queue.room.waiting(), most.jobs)
            || over(
                queue.room.bytes().saturating_sub(queue.spilled_bytes()),
                most.bytes,
            )
    }

    /// The most of this queue that waits in memory.
    fn most(&self, queue: &Queue) -> Resident {
        let own = queue.resident();
        let least = |a: usize, b: usize| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
        Resident {
            jobs: least(own.jobs, self.resident),
            bytes: own.bytes,
        }
    }

    /// How many jobs of a lane that runs low are to be taken back.
    fn wanted(&self, queue: &Queue, lane: &Lane) -> usize {
        let most = self.most(queue);
        let spilled = queue.spilled.load(SeqCst);
        let there = queue.room.waiting().saturating_sub(spilled);
        let room = match most.jobs {
            0 => usize::MAX,
            jobs => jobs.saturating_sub(there),
        };
        // However many wait otherwise, for tokens or their time: this lane must go on.
        let (low, len) = (queue.low(), lane.len());
        let wanted = room.clamp(low - len.min(low - 1), REFILL.max(low));
        if most.bytes == 0 {
            return wanted;
        }
        // As many as have room if they are as long as those that are spilled are on average.
        let bytes = queue.spilled_bytes();
        let free = most
            .bytes
            .saturating_sub(queue.room.bytes().saturating_sub(bytes));
        let average = (bytes / spilled.max(1)).max(1);
        wanted.min((free / average).max(usize::from(len == 0)))
    }

    fn count(&self, queue: &Queue, lane: &Lane, weight: usize) {
        queue.spill_bytes(weight as isize);
        for count in [&self.count, &queue.spilled, &lane.spilled] {
            count.fetch_add(1, SeqCst);
        }
    }

    fn count_back(&self, queue: &Queue, lane: &Lane, weight: usize) {
        queue.spill_bytes(-(weight as isize));
        for count in [&self.count, &queue.spilled, &lane.spilled] {
            count.fetch_sub(1, SeqCst);
        }
    }
}

impl Session<'_> {
    /// Leaves a held job to the store, which has it now.
    pub(super) fn spill(&mut self, put: &Put) {
        let engine = self.engine;
        let record = engine.slab.lock(put.slot);
        let held = record.filter(|r| r.is(put.job.id) && r.marked(HELD));
        let Some(mut record) = held.filter(|r| r.state() == State::Blocked) else {
            // It was cancelled meanwhile.
            return self.release(put.slot, put.job.id);
        };
        let (queue, priority) = (record.queue(), record.priority());
        // Before the record goes: whoever does not find it must know that he has to look in the file.
        engine.append((queue, priority), put.row, record.weight());
        // Its row stays, so it is not struck.
        record.clear_marks();
        let remains = record.vacate();
        drop(record);
        self.stripe.tally(queue).step(State::Blocked, State::Queued);
        self.bury(put.slot, remains);
    }
}

impl MemoryEngine {
    /// Whether a new job is to wait in the store only. The record is locked.
    pub(super) fn is_spillable(&self, record: &Record, job: &Job) -> bool {
        let keyed = job.key().is_some() || job.concurrency_key().is_some();
        let plain = job.state == State::Queued && !keyed && job.deadline.is_none();
        plain && record.marked(HELD) && self.journal().spill.wants(self.shared.queues.get(record.queue()))
    }

    /// Adds a row to the tail of its lane.
    fn append(&self, (queue, priority): (QueueId, Priority), row: i64, weight: usize) {
        let queue = self.shared.queues.get(queue);
        let lane = queue.lanes.lane(priority);
        lane.tail.lock().push(row);
        self.journal().spill.count(queue, lane, weight);
        // A claim must find the lane, even if nothing of it is in memory.
        queue.lanes.mark(lane);
    }

    /// A job that waited in the store only when the last run ended.
    pub(crate) fn adopt(
        &self,
        (row, weight): (i64, usize),
        (queue, kind): (&str, &str),
        priority: Priority,
    ) -> Result<()> {
        let queue = self.names.queue(queue)?;
        // Whoever asks for jobs of every kind must know of this one.
        self.names.kind(kind)?;
        self.skip_rows(row);
        let mut stripe = self.stripes.mine();
        let tally = stripe.1.tally(queue);
        tally.totals.restored += 1;
        tally.add(State::Queued);
        drop(stripe);
        self.shared.queues.get(queue).room.enter(weight);
        self.append((queue, priority), row, weight);
        Ok(())
    }

    /// How many jobs wait in the store only.
    pub(crate) fn spilled(&self) -> usize {
        self.journal().spill.count.load(SeqCst)
    }

    /// The rows to be read next, if a lane runs low. They must be [taken back](Self::take_back).
    pub(crate) fn next_rows(&self) -> Vec<i64> {
        let journal = self.journal();
        journal.hungry.store(false, SeqCst);
        if self.spilled() == 0 {
            return Vec::new();
        }
        for (id, _) in self.names.queues() {
            let Some(queue) = self.shared.queues.find(id) else {
                continue;
            };
            if let Some(lane) = queue.lanes.busy().find(|lane| lane.runs_low(queue)) {
                let most = journal.spill.wanted(queue, lane);
                let rows = lane.tail.lock().take(most);
                if !rows.is_empty() {
                    return rows;
                }
            }
        }
        Vec::new()
    }

    /// Takes one row out of the tail of its lane, to be taken back; false if it is not there.
    pub(crate) fn pick_row(&self, row: i64, queue: &str, priority: Priority) -> bool {
        let Some(queue) = self.names.find_queue(queue) else {
            return false;
        };
        let queue = self.shared.queues.get(queue);
        let lane = queue.lanes.lane(priority);
        lane.tail.lock().remove(row)
    }

    /// Takes a job back that waited in the store only: it stands at the end of what its lane has in memory.
    pub(crate) fn take_back(&self, row: i64, job: &Job) -> Result<bool> {
        let (queue, kind) = (self.names.queue(&job.queue)?, self.names.kind(&job.kind)?);
        let (mut after, mut stripe) = (After::default(), self.stripes.mine());
        let mut session = self.session(&mut stripe, &mut after, job.run_at);
        session.behind = true;
        let journal = self.journal();
        let loaded = session.load(job, (queue, kind), |record, slot| {
            journal.enroll(record, slot, row);
            record.mark(SPILLED, true);
        });
        if loaded {
            // It was counted as queued all the time.
            session.stripe.tally(queue).step(State::Queued, State::Blocked);
        }
        let found = self.shared.queues.get(queue);
        let weight = job.payload.len().unwrap_or(0);
        journal
            .spill
            .count_back(found, found.lanes.lane(job.priority), weight);
        drop(stripe);
        self.settle(&mut after);
        Ok(loaded)
    }

    /// How many of the jobs that match are in memory although their row says that they are spilled.
    pub(crate) fn taken_back(&self, filter: &crate::job::Filter) -> usize {
        self.count_marked(filter, SPILLED)
    }

    /// Whether the job with this id is in memory.
    pub(crate) fn knows(&self, id: JobId) -> bool {
        self.index.has(id, &self.slab)
    }
}

impl Lane {
    /// Whether jobs of this lane wait in the store, and few in memory.
    pub(super) fn runs_low(&self, queue: &Queue) -> bool {
        self.spilled.load(SeqCst) > 0 && self.len() < queue.low()
    }
}
