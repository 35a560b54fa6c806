//! Jobs that a store underneath has, or is to have: they are held until it has them, or taken from it.

use std::sync::atomic::Ordering::SeqCst;

use super::super::finished::Fate;
use super::super::flags::{ANSWERED, HELD, ROWED};
use super::super::journal::Put;
use super::super::record::Record;
use super::Session;
use crate::durability::Durability;
use crate::engine::{Insert, Parcel, Resident, Restored};
use crate::id::JobId;
use crate::job::{Job, State};
use crate::names::{KindId, QueueId};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

impl Session<'_> {
    /// Holds a new job until the store underneath has it, if there is one and its push waits for that.
    pub(super) fn hold(&mut self, record: &mut Record, job: &Insert<'_>) {
        let Some(journal) = &self.engine.journal else {
            return;
        };
        let want = self.level.unwrap_or(job.durability);
        let waits = want > Durability::Memory;
        let waits_held = waits && !planted(Bug::HeldJobRuns);
        let queue = self.engine.shared.queues.get(record.queue());
        if job.restored.is_none() {
            queue.set_resident(job.resident);
        }
        if waits_held || journal.spill.wants(queue) {
            record.mark(HELD, true);
            record.mark(ANSWERED, !waits);
        }
        if waits {
            self.demand(want);
        }
    }

    /// Holds a job no longer: the store underneath has it.
    pub(in super::super) fn release(&mut self, slot: u32, id: JobId) {
        let record = self.engine.slab.lock(slot);
        let Some(mut record) = record.filter(|r| r.is(id) && r.marked(HELD)) else {
            return;
        };
        record.mark(HELD | ANSWERED, false);
        // The store has no clock: it is at least as late as when the job was pushed.
        self.now = self.now.max(record.created());
        if record.state() == State::Blocked && record.waits().is_empty() {
            self.line_up(&mut record, slot);
        }
    }

    /// Takes a held job away as if it had never been pushed: true if that was done. Any other job is noted as
    /// changed; one whose push was answered goes in line, unless others stand before it in the store only.
    pub(in super::super) fn withdraw(&mut self, put: &Put) -> bool {
        let slot = put.slot;
        let record = self.engine.slab.lock(slot);
        let Some(mut record) = record.filter(|r| r.is(put.job.id)) else {
            return false;
        };
        if put.new {
            // Its row was never written: it needs no removal, and is given again.
            record.mark(ROWED, false);
            if let Some(journal) = &self.engine.journal {
                journal.flight.leave(put.row);
            }
        }
        let held = record.marked(HELD) && record.state() == State::Blocked;
        let answered = record.marked(ANSWERED);
        if !held || put.joined || answered {
            // What came with a job of a batch has happened: it waits for space, held as it is. So does one that
            // was shed as it came.
            let shed = record.marked(HELD) && record.state() == State::Shed;
            record.mark(HELD, held || shed);
            self.joins = put.joined;
            self.touch(&mut record, slot);
            let behind = self.engine.shared.queues.get(record.queue()).spilled.load(SeqCst) > 0;
            drop(record);
            if answered && !behind {
                self.release(slot, put.job.id);
            }
            return false;
        }
        if planted(Bug::WithdrawnJobRuns) {
            record.mark(HELD, false);
            self.line_up(&mut record, slot);
            return true;
        }
        self.strike(&mut record, slot);
        if record.timed() {
            self.engine.agenda.set(slot, Timestamp::MAX, Timestamp::MAX, 0);
            record.set_timed(false);
        }
        let weight = self.weight(&record);
        let remains = record.vacate();
        drop(record);
        let tally = self.stripe.tally(remains.queue);
        tally.take(State::Blocked);
        tally.push(-1);
        tally.totals.refused += 1;
        let room = &self.engine.shared.queues.get(remains.queue).room;
        room.leave(self.number, 1, weight);
        self.after.room = true;
        self.bury(slot, remains);
        true
    }

    /// Takes a job as the store underneath has it; false, and nothing is changed, if there is one with its id.
    /// `enroll` gives it its row.
    pub(in super::super) fn load(
        &mut self,
        job: &Job,
        (queue, kind): (QueueId, KindId),
        enroll: impl FnOnce(&mut Record, u32),
    ) -> bool {
        let engine = self.engine;
        let restored = restored(job);
        let insert = Insert {
            id: job.id,
            fresh: false,
            queue,
            kind,
            payload: Parcel::Shared(&job.payload),
            priority: job.priority,
            run_at: job.run_at,
            max_attempts: job.max_attempts.unwrap_or(0),
            timeout: job.timeout,
            deadline: job.deadline.unwrap_or(Timestamp::MAX),
            extras: job.extras.as_ref(),
            waits: &job.waits,
            capacity: 0,
            capacity_bytes: 0,
            undecided: false,
            resident: Resident::default(),
            shed: None,
            durability: Durability::Memory,
            restored: restored.as_ref(),
        };
        let Some(slot) = engine.slab.take(&mut self.stripe.free) else {
            return false;
        };
        let Some(mut record) = engine.slab.lock(slot) else {
            return false;
        };
        record.fill(&insert, self.now);
        record.recall(job);
        enroll(&mut record, slot);
        drop(record);
        if !engine.index.insert((job.id, false), slot, &engine.slab) {
            self.discard_loaded(slot);
            return false;
        }
        self.settle_in(job, slot);
        true
    }

    /// Frees the slot of a job that was there already, and leaves its row alone.
    fn discard_loaded(&mut self, slot: u32) {
        if let Some(mut record) = self.engine.slab.lock(slot) {
            record.mark(ROWED, false);
        }
        self.discard(slot);
    }

    /// Counts a loaded job that was not counted before.
    pub(in super::super) fn count_in(&mut self, job: &Job, queue: QueueId) {
        let tally = self.stripe.tally(queue);
        if job.state.is_final() {
            return tally.keep(1);
        }
        tally.totals.restored += 1;
        // One that waits was counted out of this state when it was lined up.
        tally.add(if job.state.is_waiting() {
            State::Blocked
        } else {
            job.state
        });
        if job.state.is_waiting() {
            let weight = job.payload.len().unwrap_or(0);
            self.engine.shared.queues.get(queue).room.enter(weight);
        }
    }

    /// Puts a loaded job among those it stands with.
    fn settle_in(&mut self, job: &Job, slot: u32) {
        let Some(mut record) = self.engine.slab.lock(slot) else {
            return;
        };
        if job.state.is_final() {
            let end = (Fate::of(job.state), record.ended(), slot);
            drop(record);
            return self.keep(end);
        }
        if record.state() == State::Running {
            self.adopt_in_flow(&mut record);
            return self.watch(record, slot);
        }
        if record.waits().is_empty() {
            self.line_up(&mut record, slot);
        } else if job.deadline.is_some() {
            self.arm(&mut record, slot);
        }
    }
}

/// What an insert of a job from the store has to tell; nothing for one that never ran and may start.
fn restored(job: &Job) -> Option<Restored> {
    let plain = job.history.is_empty() && job.crashes == 0 && job.run_at == job.created;
    (!plain).then(|| Restored {
        attempt: job.attempt,
        fence: job.fence,
        created: job.created,
        crashes: job.crashes,
        history: job.history.clone(),
    })
}
