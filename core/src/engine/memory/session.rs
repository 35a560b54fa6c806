//! One call at work on jobs. Every change of a job's state is made here and in `stored`, together with its
//! count, its timers and its entry in a lane.
//!
//! A session has the lock of a stripe, and takes the lock of one record at a time.

mod stored;

use std::time::Duration;

use super::MemoryEngine;
use super::after::After;
use super::finished::Fate;
use super::flags::{HELD, Listed};
use super::lane::{Lane, Lanes};
use super::latch::MutexGuard;
use super::place::{Ticket, slot_of};
use super::record::{Record, Remains, Start};
use super::room::{Bound, Refused};
use super::stripe::Stripe;
use crate::durability::Durability;
use crate::engine::{Applied, Claim, Held, Insert, Inserted, JobRef, Overdue};
use crate::id::JobId;
use crate::job::State;
use crate::outcome::Transition;
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// A call that holds a stripe.
pub(super) struct Session<'a> {
    pub(super) engine: &'a MemoryEngine,
    /// Which stripe it holds.
    pub(super) number: usize,
    pub(super) stripe: &'a mut Stripe,
    pub(super) after: &'a mut After,
    pub(super) now: Timestamp,
    /// Whether it applies a batch, which is written whole.
    pub(super) joins: bool,
    /// What the jobs of a batch are to survive, however safe they want to be by themselves.
    pub(super) level: Option<Durability>,
    /// Whether jobs stand in line even where the newest are taken first: they are older than they look.
    pub(super) behind: bool,
}

/// A ticket that was taken out of its lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) ticket: Ticket,
    pub(super) lane: &'a Lane,
    pub(super) lanes: &'a Lanes,
    /// Out of which part of the lane.
    pub(super) listed: Listed,
    /// The number of its key, if it was in its flow.
    pub(super) key: u32,
}

/// What became of a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leased {
    /// The job is claimed.
    Yes,
    /// The claim has no slot for its kind: the job is set aside.
    Aside,
    /// Its deadline has passed: it stays where it is until somebody decides.
    Late,
    /// The job is no longer there.
    Gone,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        engine: &'a MemoryEngine,
        (number, stripe): (usize, &'a mut Stripe),
        after: &'a mut After,
        now: Timestamp,
    ) -> Self {
        Self {
            engine,
            number,
            stripe,
            after,
            now,
            joins: false,
            level: None,
            behind: false,
        }
    }

    /// Stores a job, if its id is new, the engine is not sealed and no more than `bound` wait then.
    pub(super) fn insert(&mut self, job: &Insert<'_>, bound: Bound) -> Inserted {
        let engine = self.engine;
        let known = || engine.index.has(job.id, &engine.slab);
        if engine.shared.sealed() {
            return if known() {
                Inserted::Duplicate
            } else {
                Inserted::Sealed
            };
        }
        if let Some(reason) = job.shed {
            return self.insert_shed(job, reason);
        }
        let room = &engine.shared.queues.get(job.queue).room;
        let weight = if room.weighs() { job.payload.weight() } else { 0 };
        if let Err(refused) = room.try_enter(bound, weight, self.number) {
            self.after.room |= matches!(refused, Refused::Raced(_));
            if known() {
                return Inserted::Duplicate;
            }
            self.refuse(job);
            return refused.into();
        }
        let Some(slot) = engine.slab.take(&mut self.stripe.free) else {
            self.give_up_room(job, weight);
            self.refuse(job);
            return Inserted::Full(room.waiting());
        };
        self.after.hungry = self.stripe.free.is_empty();
        if self.store(job, slot) {
            return Inserted::New;
        }
        self.give_up_room(job, weight);
        Inserted::Duplicate
    }

    /// Takes back the room of a job that is not stored. In between, another may have been told that there is none.
    fn give_up_room(&mut self, job: &Insert<'_>, weight: usize) {
        let room = &self.engine.shared.queues.get(job.queue).room;
        room.leave(self.number, 1, weight);
        self.after.room = true;
    }

    /// Counts a push that was refused because the queue is full.
    pub(super) fn refuse(&mut self, job: &Insert<'_>) {
        if job.undecided {
            return;
        }
        self.stripe.tally(job.queue).totals.refused += 1;
    }

    /// Keeps a job in this slot; false, and the slot is free again, if there is one with its id.
    fn store(&mut self, job: &Insert<'_>, slot: u32) -> bool {
        let engine = self.engine;
        let queue = engine.shared.queues.get(job.queue);
        let lanes = &queue.lanes;
        let lane = lanes.lane(job.priority);
        let Some(mut record) = engine.slab.lock(slot) else {
            return false;
        };
        record.fill(job, self.now);
        self.hold(&mut record, job);
        let state = match record.waits() {
            _ if record.marked(HELD) => State::Blocked,
            [] if job.run_at <= self.now => State::Queued,
            [] => State::Scheduled,
            _ => State::Blocked,
        };
        record.enter(state);
        self.touch(&mut record, slot);
        // It joins its flow when it is in the index, or it could be claimed before that has failed.
        let joins = state == State::Queued && record.concurrency_key().is_some();
        let order = match state {
            State::Queued if joins => 0,
            State::Queued => lane.next_order(),
            State::Scheduled => engine.shared.next_scheduled(),
            _ if record.marked(HELD) => engine.journal().next_held(),
            _ => 0,
        };
        let in_line = state == State::Queued && !joins && !queue.newest_first();
        record.line_up(order, if in_line { Listed::Lane } else { Listed::No });
        let joins = joins.then(|| record.job_ref(slot));
        drop(record);
        if !engine.index.insert((job.id, job.fresh), slot, &engine.slab) {
            self.discard(slot);
            return false;
        }
        self.count_new(job, state);
        if state == State::Scheduled || job.deadline < Timestamp::MAX {
            self.arm_new(job.id, slot);
        }
        if let Some(job) = joins {
            self.join_new(job);
        } else if state == State::Queued {
            if in_line {
                lanes.push(lane, Ticket::new(order, slot));
            } else {
                self.lay_on_top(job.id, (lanes, lane), Ticket::new(order, slot));
            }
            self.after.ready += 1;
        }
        true
    }

    /// Puts a job into its flow that others can already see, unless one of them has ended or moved it.
    fn join_new(&mut self, job: JobRef) {
        let slot = slot_of(job.handle);
        let record = self.engine.slab.lock(slot).filter(|r| r.is_held_by(job));
        let still = |r: &MutexGuard<'_, Record>| r.state() == State::Queued && r.listed() == Listed::No;
        if let Some(mut record) = record.filter(still) {
            self.join_flow(&mut record, slot, false);
        }
    }

    /// Puts a new job, which others can already see, where the newest are taken from, unless it has ended.
    fn lay_on_top(&self, id: JobId, (lanes, lane): (&Lanes, &Lane), ticket: Ticket) {
        let record = self.engine.slab.lock(ticket.slot()).filter(|r| r.is(id));
        let queued = |r: &MutexGuard<'_, Record>| r.state() == State::Queued && ticket.is_of(r.order());
        if let Some(mut record) = record.filter(queued) {
            record.list(Listed::Aside);
            lanes.set_aside(lane, record.kind(), record.order(), ticket);
        }
    }

    /// Sets the timers of a job that others can already see.
    fn arm_new(&mut self, id: JobId, slot: u32) {
        if let Some(mut record) = self.engine.slab.lock(slot).filter(|r| r.is(id)) {
            self.arm(&mut record, slot);
        }
    }

    pub(super) fn count_new(&mut self, job: &Insert<'_>, state: State) {
        let tally = self.stripe.tally(job.queue);
        match job.restored {
            None => tally.push(1),
            Some(_) => tally.totals.restored += 1,
        }
        tally.add(state);
    }

    pub(super) fn discard(&mut self, slot: u32) {
        if let Some(mut record) = self.engine.slab.lock(slot) {
            self.strike(&mut record, slot);
            self.after.drop_later(record.vacate().content);
        }
        self.engine.slab.give(slot, &mut self.stripe.free);
    }

    /// Claims the job of a ticket.
    pub(super) fn lease(&mut self, found: Found<'_>, claim: &mut Claim<'_>, node: u16) -> Leased {
        let slot = found.ticket.slot();
        let Some(mut record) = self.queued(found) else {
            return Leased::Gone;
        };
        record.fetch_payload();
        if record.deadline() <= self.now {
            record.list(Listed::No);
            return Leased::Late;
        }
        let kind = claim.kinds.get_mut(record.kind().index());
        let Some(kind) = kind.filter(|k| k.allowance > 0) else {
            set_aside(&mut record, found);
            return Leased::Aside;
        };
        kind.allowance -= 1;
        let start = Start {
            max_attempts: kind.max_attempts,
            timeout: kind.timeout,
            lease: claim.lease,
            node,
            worker: claim.worker,
            relays: claim.relays,
        };
        record.list(Listed::No);
        if found.listed == Listed::Flow {
            record.set_flow(found.key);
        }
        record.start(&start, self.now);
        if let Some(journal) = &self.engine.journal {
            journal.begins(&record, slot);
        }
        let from = record.enter(State::Running);
        let tally = self.stripe.tally(record.queue());
        tally.step(from, State::Running);
        tally.totals.claimed += 1;
        if record.timed() {
            self.arm(&mut record, slot);
        }
        claim.out.push(record.to_claimed(slot));
        if record.overdue_at() < Timestamp::MAX {
            self.watch(record, slot);
        }
        Leased::Yes
    }

    /// Notes a running job that can be overdue.
    fn watch(&mut self, mut record: MutexGuard<'_, Record>, slot: u32) {
        record.set_timed(true);
        let (claim, due) = (record.job_ref(slot), record.overdue_at());
        drop(record);
        if self.stripe.running.push(claim.handle, claim.fence) {
            let slab = &self.engine.slab;
            self.stripe.running.retain(|handle, fence| {
                slab.lock(slot_of(handle))
                    .is_some_and(|record| record.runs_as_of(handle, fence))
            });
        }
        self.after.sooner |= self.engine.shared.due.note(Timestamp::MAX, due);
    }

    /// Appends the jobs that were claimed here and are overdue, until `out` has `full` of them.
    pub(super) fn overdue(&mut self, full: usize, out: &mut Vec<Overdue>) {
        let (slab, now) = (&self.engine.slab, self.now);
        self.stripe.running.retain(|handle, fence| {
            let record = slab.lock(slot_of(handle)).filter(|r| r.runs_as_of(handle, fence));
            let Some(record) = record else { return false };
            if record.overdue_at() <= now && out.len() < full {
                out.push(overdue(&record, slot_of(handle)));
            }
            true
        });
    }

    /// When a job that was claimed here is overdue next.
    pub(super) fn next_end(&mut self) -> Timestamp {
        let (slab, mut next) = (&self.engine.slab, Timestamp::MAX);
        self.stripe.running.retain(|handle, fence| {
            let record = slab.lock(slot_of(handle)).filter(|r| r.runs_as_of(handle, fence));
            next = record.as_ref().map_or(next, |r| next.min(r.overdue_at()));
            record.is_some()
        });
        next
    }

    /// Applies a transition if the job stands where it says.
    pub(super) fn apply(&mut self, t: &mut Transition) -> Applied {
        let engine = self.engine;
        let slot = slot_of(t.job.handle);
        let held = engine.slab.lock(slot).filter(|record| record.is_held_by(t.job));
        let Some(mut record) = held.filter(|_| !engine.shared.sealed()) else {
            return Applied::Stale;
        };
        let verdict = record.verdict(t, record.state());
        if verdict == Applied::Stale {
            self.stripe.tally(record.queue()).totals.stale += 1;
        }
        if verdict == Applied::Yes {
            self.touch(&mut record, slot);
            self.count_shed(record.queue(), t);
            self.leave(&mut record, slot, t);
            if t.to.is_final() {
                self.finish(record, slot, t);
            } else if t.keeps_place && t.running {
                self.stand_again(&mut record, slot);
            } else {
                record.set_run_at(self.now.after(t.delay));
                record.wait_no_more();
                self.line_up(&mut record, slot);
            }
        }
        verdict
    }

    /// Counts an answer that came too late, if its job is still known.
    pub(super) fn count_stale(&mut self, job: JobRef) {
        let record = self.engine.slab.lock(slot_of(job.handle));
        if let Some(record) = record.filter(|r| r.is_held_by(job)) {
            self.stripe.tally(record.queue()).totals.stale += 1;
        }
    }

    /// Takes a token off a job's list; a job that waits for no more tokens is scheduled or queued.
    pub(super) fn deliver(&mut self, id: JobId, token: &str) {
        let engine = self.engine;
        let Some((slot, mut record)) = engine.index.find(id, &engine.slab) else {
            return;
        };
        if record.state() != State::Blocked {
            return;
        }
        let last = record.arrived(token, self.now);
        self.touch(&mut record, slot);
        if last && !record.marked(HELD) {
            self.line_up(&mut record, slot);
        }
    }

    /// Notes that a running job is asked to stop; false if it does not run under this claim.
    pub(super) fn request_cancel(&mut self, job: JobRef) -> bool {
        let slot = slot_of(job.handle);
        let record = self.engine.slab.lock(slot).filter(|r| r.runs_as(job));
        record.is_some_and(|mut record| {
            record.request_cancel();
            self.touch(&mut record, slot);
            true
        })
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&mut self, job: JobRef, lease: Duration) -> Held {
        let slot = slot_of(job.handle);
        let record = self.engine.slab.lock(slot).filter(|r| r.runs_as(job));
        let Some(mut record) = record else {
            return Held::Lost;
        };
        let asked = record.cancel_requested();
        record.extend(self.now.after(lease));
        let due = record.overdue_at();
        if record.timed() {
            self.after.sooner |= self.engine.shared.due.note(Timestamp::MAX, due);
        } else if due < Timestamp::MAX {
            self.watch(record, slot);
        }
        if asked { Held::CancelRequested } else { Held::Yes }
    }

    /// Queues a scheduled job whose time has come.
    pub(super) fn promote(&mut self, slot: u32) {
        if let Some(mut record) = self.engine.slab.lock(slot) {
            self.line_up(&mut record, slot);
        }
    }

    /// Sets the job of a ticket aside, whatever its kind, if the ticket is good.
    pub(super) fn tidy(&mut self, found: Found<'_>) -> bool {
        let record = self.queued(found);
        record.is_some_and(|mut record| {
            set_aside(&mut record, found);
            true
        })
    }

    /// Forgets a finished job that no line has any more.
    #[inline(always)]
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(mut record) = self.engine.slab.lock(slot) {
            self.strike(&mut record, slot);
            let remains = record.vacate();
            drop(record);
            self.stripe.tally(remains.queue).keep(-1);
            self.bury(slot, remains);
        }
    }

    /// The queued job that a ticket leads to, if it is still the job's.
    pub(super) fn queued(&self, found: Found<'_>) -> Option<MutexGuard<'a, Record>> {
        let record = self.engine.slab.lock(found.ticket.slot())?;
        let good = record.taken()
            && record.state() == State::Queued
            && record.listed() == found.listed
            && found.lane.is_for(record.queue(), record.priority())
            && found.ticket.is_of(record.order());
        good.then_some(record)
    }

    /// Counts the job in another state.
    fn enter(&mut self, record: &mut Record, state: State) {
        let from = record.enter(state);
        self.stripe.tally(record.queue()).step(from, state);
    }

    /// Sets the timers of a waiting job to what its state asks for; one that does not wait has none.
    fn arm(&mut self, record: &mut Record, slot: u32) {
        let waits = record.state().is_waiting();
        let end = if waits { record.deadline() } else { Timestamp::MAX };
        let start = match record.state() {
            State::Scheduled => record.run_at(),
            _ => Timestamp::MAX,
        };
        let wanted = start.min(end) < Timestamp::MAX;
        if wanted || record.timed() {
            self.engine.agenda.set(slot, start, end, record.order());
            record.set_timed(wanted);
        }
        if wanted {
            self.after.sooner |= self.engine.shared.due.note(start, end);
        }
    }

    /// Schedules or queues a job that nothing else blocks.
    fn line_up(&mut self, record: &mut Record, slot: u32) {
        let shared = &self.engine.shared;
        let queue = shared.queues.get(record.queue());
        let lanes = &queue.lanes;
        if record.run_at() > self.now {
            record.line_up(shared.next_scheduled(), Listed::No);
            self.enter(record, State::Scheduled);
            self.arm(record, slot);
            return;
        }
        if record.concurrency_key().is_some() {
            self.enter(record, State::Queued);
            self.join_flow(record, slot, false);
            self.arm(record, slot);
            return;
        }
        let lane = lanes.lane(record.priority());
        let on_top = queue.newest_first() && !self.behind;
        record.line_up(
            lane.next_order(),
            if on_top { Listed::Aside } else { Listed::Lane },
        );
        self.enter(record, State::Queued);
        self.arm(record, slot);
        let ticket = Ticket::new(record.order(), slot);
        if on_top {
            lanes.set_aside(lane, record.kind(), record.order(), ticket);
        } else {
            lanes.push(lane, ticket);
        }
        self.after.ready += 1;
    }

    /// Queues a job that ran where it stood: aside from its lane, since its ticket in the line is gone, or in its
    /// flow.
    fn stand_again(&mut self, record: &mut Record, slot: u32) {
        if record.concurrency_key().is_some() {
            self.enter(record, State::Queued);
            self.join_flow(record, slot, true);
            self.arm(record, slot);
            return;
        }
        let lanes = &self.engine.shared.queues.get(record.queue()).lanes;
        let lane = lanes.lane(record.priority());
        let (kind, order) = (record.kind(), record.order());
        record.list(Listed::Aside);
        self.enter(record, State::Queued);
        self.arm(record, slot);
        lanes.set_aside(lane, kind, order, Ticket::new(order, slot));
        self.after.ready += 1;
    }

    /// The bytes of a job's payload, if its queue counts them.
    fn weight(&self, record: &Record) -> usize {
        let queue = self.engine.shared.queues.get(record.queue());
        if queue.room.weighs() { record.weight() } else { 0 }
    }

    /// Takes a job out of the state in which a transition found it.
    #[inline(always)]
    pub(super) fn leave(&mut self, record: &mut Record, slot: u32, t: &mut Transition) {
        let shared = &self.engine.shared;
        if record.state() == State::Running {
            if let Some(journal) = &self.engine.journal {
                journal.ends(record, slot);
            }
            if record.timed() {
                self.stripe.running.remove(t.job.handle, t.job.fence);
                record.set_timed(false);
            }
            let counts = !(t.to == State::Failed && planted(Bug::KeyCountedUp));
            if record.concurrency_key().is_some() && counts {
                self.end_in_flow(record);
            }
            record.end_attempt(t, self.now, &shared.nodes);
            if !t.to.is_final() {
                let totals = &mut self.stripe.tally(record.queue()).totals;
                *(if t.refund {
                    &mut totals.returned
                } else {
                    &mut totals.retried
                }) += 1;
                shared.queues.get(record.queue()).room.enter(self.weight(record));
            }
            return;
        }
        self.unlist(record, slot);
        if t.to.is_final() {
            record.end_waiting(t);
            let room = &shared.queues.get(record.queue()).room;
            let kept = t.to == State::Cancelled && planted(Bug::BytesKept);
            room.leave(self.number, 1, if kept { 0 } else { self.weight(record) });
            self.after.room = true;
        }
    }

    /// Makes it impossible for a claim to find a job.
    fn unlist(&mut self, record: &mut Record, slot: u32) {
        let listed = record.list(Listed::No);
        match listed {
            Listed::No => return,
            Listed::Flow => return self.leave_flow(record, slot),
            Listed::Lane | Listed::Aside => {}
        }
        let lane = (record.queue(), record.priority());
        let line = self.engine.shared.queues.get(lane.0).lanes.lane(lane.1);
        if listed == Listed::Aside {
            line.forget_aside(record.kind(), record.order());
        } else if line.litter() {
            self.after.litter(lane);
        }
    }

    /// Ends a job for good.
    #[inline(always)]
    pub(super) fn finish(&mut self, mut record: MutexGuard<'_, Record>, slot: u32, t: &mut Transition) {
        if let Some(payload) = record.end(t, self.now) {
            self.after.drop_later(payload);
        }
        self.enter(&mut record, t.to);
        self.after.end(record.id(), t.to);
        if let Some(extras) = record.extras().filter(|e| t.to.frees_key() && e.key.is_some()) {
            self.after.free(extras.clone(), record.id());
        }
        if record.timed() {
            self.arm(&mut record, slot);
        }
        if self.engine.shared.keep == 0 {
            self.strike(&mut record, slot);
            let remains = record.vacate();
            drop(record);
            self.bury(slot, remains);
            return;
        }
        self.stripe.tally(record.queue()).keep(1);
        drop(record);
        self.keep((Fate::of(t.to), self.now, slot));
    }

    /// Puts a job that is over among the finished ones.
    #[inline(always)]
    pub(super) fn keep(&mut self, end: (Fate, Timestamp, u32)) {
        let shared = &self.engine.shared;
        let counted = self.engine.finished.push(self.number, end, shared.slack());
        self.after.excess |= shared.count_kept(counted);
    }

    /// Frees the slot of a job that was taken out of it.
    pub(super) fn bury(&mut self, slot: u32, remains: Remains) {
        self.engine.index.remove(remains.id, slot);
        self.engine.slab.give(slot, &mut self.stripe.free);
        if let Some(extras) = remains.keyed {
            self.after.free(extras, remains.id);
        }
        self.after.drop_later(remains.content);
    }
}

/// An overdue job that is in this slot.
pub(super) fn overdue(record: &Record, slot: u32) -> Overdue {
    Overdue {
        cause: record.cause(),
        at: record.located(slot),
    }
}

fn set_aside(record: &mut Record, found: Found<'_>) {
    record.list(Listed::Aside);
    found
        .lanes
        .set_aside(found.lane, record.kind(), record.order(), found.ticket);
}
