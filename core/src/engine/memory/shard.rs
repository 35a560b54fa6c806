//! One shard: the jobs whose ids fall here, under one lock. Every change of a job's state is made in this
//! file, together with its count, its timers and its entry in a lane.

use super::after::After;
use super::finished::{Fate, Finished};
use super::lane::{Lane, Lanes};
use super::place::{Place, Ticket, handle};
use super::record::{Listed, Record, Start};
use super::shared::Shared;
use super::slab::Slab;
use super::tally::Tally;
use super::timers::{Timer, Timers};
use crate::engine::{Applied, Claim, Claimed, Handle, Held, Insert, JobRef, Located, Overdue, QueueCounts};
use crate::id::JobId;
use crate::job::State;
use crate::names::QueueId;
use crate::outcome::Transition;
use crate::time::Timestamp;
use std::time::Duration;

/// The jobs of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    number: usize,
    slab: Slab,
    /// Scheduled jobs by the time they may start.
    starts: Timers,
    /// Jobs by the time they are overdue.
    ends: Timers,
    /// By queue.
    tallies: Vec<Tally>,
    finished: Finished,
}

/// A ticket that was taken out of its lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) ticket: Ticket,
    pub(super) lane: &'a Lane,
    pub(super) lanes: &'a Lanes,
    /// Out of which part of the lane.
    pub(super) listed: Listed,
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

impl Shard {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            slab: Slab::default(),
            starts: Timers::default(),
            ends: Timers::default(),
            tallies: Vec::new(),
            finished: Finished::default(),
        }
    }

    /// The record of this job.
    pub(super) fn find(&self, id: JobId) -> Option<&Record> {
        Some(&self.slab[self.slab.find(id)?])
    }

    /// The record that this handle leads to, if it is still this job's.
    pub(super) fn held(&self, job: JobRef) -> Option<&Record> {
        let (record, generation) = self.slab.get(job.handle.slot())?;
        (record.id == job.id && job.handle.is_of(generation.into())).then_some(record)
    }

    /// Where this job stands.
    pub(super) fn locate(&self, id: JobId) -> Option<Located> {
        Some(self.located(self.slab.find(id)?))
    }

    /// Every record.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.slab.iter().map(|(_, record)| record)
    }

    /// Adds up the counts, by queue; `sums` is long enough.
    pub(super) fn count(&self, sums: &mut [QueueCounts]) {
        for (tally, sum) in self.tallies.iter().zip(sums) {
            tally.add_to(sum);
        }
    }

    /// Counts a push that was refused because the queue is full.
    pub(super) fn refuse(&mut self, queue: QueueId) {
        self.tally(queue).totals.refused += 1;
    }

    /// Counts an answer that came too late, if its job is still known.
    pub(super) fn count_stale(&mut self, job: JobRef) {
        if let Some(queue) = self.held(job).map(|record| record.queue) {
            self.tally(queue).totals.stale += 1;
        }
    }

    /// Keeps a new job. Returns its ticket, to be put in the lane, if it is ready.
    pub(super) fn store(
        &mut self,
        job: &Insert<'_>,
        now: Timestamp,
        shared: &Shared,
        after: &mut After,
    ) -> Option<Ticket> {
        let tally = self.tally(job.queue);
        match job.restored {
            None => tally.totals.pushed += 1,
            Some(_) => tally.totals.restored += 1,
        }
        *tally.of(State::Blocked) += 1;
        let slot = self.slab.insert(Record::new(job, now));
        if !job.waits.is_empty() {
            self.arm(slot, shared, after);
            return None;
        }
        let lane = shared.queues.get(job.queue).lanes.lane(job.priority);
        self.stand(slot, lane, now, shared, after)
    }

    /// Claims the job of a ticket.
    pub(super) fn lease(
        &mut self,
        found: Found<'_>,
        claim: &mut Claim<'_>,
        node: u32,
        now: Timestamp,
        shared: &Shared,
        after: &mut After,
    ) -> Leased {
        let slot = found.ticket.slot();
        let Some(record) = self.queued(found) else {
            return Leased::Gone;
        };
        record.listed = Listed::No;
        if record.deadline <= now {
            return Leased::Late;
        }
        let kind = claim.kinds.get_mut(record.kind.index());
        let Some(kind) = kind.filter(|k| k.allowance > 0) else {
            self.set_aside(found);
            return Leased::Aside;
        };
        kind.allowance -= 1;
        let start = Start {
            max_attempts: kind.max_attempts,
            timeout: kind.timeout,
            lease: claim.lease,
            node,
            worker: claim.worker,
        };
        record.start(&start, now);
        let queue = record.queue;
        self.enter(slot, State::Running);
        self.tally(queue).totals.claimed += 1;
        self.arm(slot, shared, after);
        claim.out.push(self.claimed(slot));
        Leased::Yes
    }

    /// Applies a transition if the job stands where it says. `order` is its place in the order of ends.
    pub(super) fn apply(
        &mut self,
        t: &mut Transition,
        order: u64,
        now: Timestamp,
        shared: &Shared,
        after: &mut After,
    ) -> Applied {
        let Some(record) = self.held(t.job).filter(|_| !shared.sealed()) else {
            return Applied::Stale;
        };
        let verdict = record.verdict(t, record.state);
        if verdict == Applied::Stale {
            self.count_stale(t.job);
        }
        if verdict == Applied::Yes {
            let slot = t.job.handle.slot();
            self.leave(slot, t, now, shared, after);
            if t.to.is_final() {
                self.finish(slot, t, order, now, shared, after);
            } else {
                self.again(slot, t.delay, now, shared, after);
            }
        }
        verdict
    }

    /// Takes a token off a job's list; a job that waits for no more tokens is scheduled or queued.
    pub(super) fn deliver(
        &mut self,
        (id, token): (JobId, &str),
        now: Timestamp,
        shared: &Shared,
        after: &mut After,
    ) {
        let Some(slot) = self.slab.find(id) else { return };
        let record = &mut self.slab[slot];
        if record.state != State::Blocked || !record.waits.iter().any(|t| **t == *token) {
            return;
        }
        record.waits = record.waits.iter().filter(|t| ***t != *token).cloned().collect();
        if record.waits.is_empty() {
            self.line_up(slot, now, shared, after);
        }
    }

    /// Moves the end of a lease.
    pub(super) fn extend(
        &mut self,
        job: JobRef,
        lease: Duration,
        now: Timestamp,
        shared: &Shared,
        after: &mut After,
    ) -> Held {
        let Some(slot) = self.running(job) else {
            return Held::Lost;
        };
        let record = &mut self.slab[slot];
        record.until = now.after(lease);
        let asked = record.cancel_requested;
        self.arm(slot, shared, after);
        if asked { Held::CancelRequested } else { Held::Yes }
    }

    /// Notes that a running job is asked to stop.
    pub(super) fn request_cancel(&mut self, job: JobRef) -> bool {
        let slot = self.running(job);
        if let Some(slot) = slot {
            self.slab[slot].cancel_requested = true;
        }
        slot.is_some()
    }

    /// The scheduled job that may start first.
    pub(super) fn next_start(&self) -> Option<&Timer> {
        self.starts.first()
    }

    /// When a job is overdue next.
    pub(super) fn next_end(&self) -> Timestamp {
        self.ends.next()
    }

    /// Queues a scheduled job whose time has come.
    pub(super) fn promote(&mut self, slot: u32, now: Timestamp, shared: &Shared, after: &mut After) {
        self.line_up(slot, now, shared, after);
    }

    /// Appends overdue jobs until `out` has `limit` of them.
    pub(super) fn overdue(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) {
        self.ends.due(now, |slot| {
            let room = out.len() < limit;
            if room {
                out.push(Overdue {
                    cause: self.slab[slot].cause(),
                    at: self.located(slot),
                });
            }
            room
        });
    }

    /// The place of the oldest finished job in the order of ends.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.finished.oldest().map(|(order, _)| order)
    }

    /// Forgets the oldest finished job.
    pub(super) fn forget_oldest(&mut self, after: &mut After) {
        if let Some((_, fate)) = self.finished.oldest() {
            self.forget_first(fate, after);
        }
    }

    /// Forgets up to `limit` finished jobs of one fate that ended before `before`; returns how many.
    pub(super) fn forget_before(
        &mut self,
        (fate, before): (Fate, Timestamp),
        limit: usize,
        after: &mut After,
    ) -> usize {
        let mut count = 0;
        while count < limit
            && let Some((_, slot)) = self.finished.first(fate)
            && self.slab[slot].until < before
        {
            self.forget_first(fate, after);
            count += 1;
        }
        count
    }

    fn tally(&mut self, queue: QueueId) -> &mut Tally {
        let index = queue.index();
        if index >= self.tallies.len() {
            self.tallies.resize(index + 1, Tally::default());
        }
        &mut self.tallies[index]
    }

    fn handle(&self, slot: u32) -> Handle {
        handle(self.slab.generation(slot), self.number, slot)
    }

    fn job_ref(&self, slot: u32) -> JobRef {
        let record = &self.slab[slot];
        JobRef {
            id: record.id,
            handle: self.handle(slot),
            fence: record.fence,
        }
    }

    fn located(&self, slot: u32) -> Located {
        self.slab[slot].located(self.job_ref(slot))
    }

    fn claimed(&self, slot: u32) -> Claimed {
        let record = &self.slab[slot];
        Claimed {
            job: self.job_ref(slot),
            queue: record.queue,
            kind: record.kind,
            priority: record.priority,
            attempt: record.attempt,
            max_attempts: record.max_attempts,
            created: record.created,
            started: record.started,
            due: record.overdue_at(),
            deadline: record.deadline,
            payload: record.content().clone(),
            extras: record.extras.clone(),
        }
    }

    /// The slot of this job if it runs under this claim.
    fn running(&self, job: JobRef) -> Option<u32> {
        let record = self.held(job)?;
        (record.state == State::Running && record.fence == job.fence).then_some(job.handle.slot())
    }

    /// Counts the job in another state.
    fn enter(&mut self, slot: u32, state: State) {
        let record = &mut self.slab[slot];
        let before = std::mem::replace(&mut record.state, state);
        let queue = record.queue;
        let tally = self.tally(queue);
        *tally.of(before) -= 1;
        *tally.of(state) += 1;
    }

    /// Sets the job's timers to what its state asks for.
    fn arm(&mut self, slot: u32, shared: &Shared, after: &mut After) {
        let record = &self.slab[slot];
        let (end, order) = (record.overdue_at(), record.order);
        let start = match record.state {
            State::Scheduled => record.run_at,
            _ => Timestamp::MAX,
        };
        self.starts.set(slot, start, order);
        self.ends.set(slot, end, order);
        if start.min(end) < Timestamp::MAX {
            after.sooner |= shared.due.note(start, end);
        }
    }

    /// Schedules or queues a job that nothing else blocks; returns its ticket if it is ready.
    fn stand(
        &mut self,
        slot: u32,
        lane: &Lane,
        now: Timestamp,
        shared: &Shared,
        after: &mut After,
    ) -> Option<Ticket> {
        let record = &mut self.slab[slot];
        let ready = record.run_at <= now;
        if ready {
            (record.order, record.listed) = (lane.next_order(), Listed::Lane);
        } else {
            record.order = shared.next_scheduled();
        }
        let order = record.order;
        self.enter(slot, if ready { State::Queued } else { State::Scheduled });
        self.arm(slot, shared, after);
        after.ready += usize::from(ready);
        ready.then(|| Ticket::new(order, self.number, slot))
    }

    /// As [`Self::stand`], and puts the ticket in its lane.
    fn line_up(&mut self, slot: u32, now: Timestamp, shared: &Shared, after: &mut After) {
        let record = &self.slab[slot];
        let lanes = &shared.queues.get(record.queue).lanes;
        let lane = lanes.lane(record.priority);
        if let Some(ticket) = self.stand(slot, lane, now, shared, after) {
            lanes.push(lane, ticket);
        }
    }

    /// The queued job that a ticket leads to, if it is still the job's.
    fn queued(&mut self, found: Found<'_>) -> Option<&mut Record> {
        let record = self.slab.get_mut(found.ticket.slot())?;
        let good = record.state == State::Queued
            && record.listed == found.listed
            && found.lane.is_for(record.queue, record.priority)
            && found.ticket.is_of(record.order);
        good.then_some(record)
    }

    fn set_aside(&mut self, found: Found<'_>) {
        let record = &mut self.slab[found.ticket.slot()];
        record.listed = Listed::Aside;
        found
            .lanes
            .set_aside(found.lane, record.kind, record.order, found.ticket);
    }

    /// Sets the job of a ticket aside, whatever its kind, if the ticket is good.
    pub(super) fn tidy(&mut self, found: Found<'_>) -> bool {
        let good = self.queued(found).is_some();
        if good {
            self.set_aside(found);
        }
        good
    }

    /// Takes a job out of the state in which a transition found it.
    fn leave(&mut self, slot: u32, t: &mut Transition, now: Timestamp, shared: &Shared, after: &mut After) {
        let record = &mut self.slab[slot];
        let queue = shared.queues.get(record.queue);
        if record.state == State::Running {
            record.end_attempt(t, now, &shared.nodes);
            if !t.to.is_final() {
                let totals = &mut self.tally(self.slab[slot].queue).totals;
                *(if t.refund {
                    &mut totals.returned
                } else {
                    &mut totals.retried
                }) += 1;
                queue.room.enter();
            }
            return;
        }
        match std::mem::replace(&mut record.listed, Listed::No) {
            Listed::No => {}
            Listed::Aside => queue
                .lanes
                .lane(record.priority)
                .forget_aside(record.kind, record.order),
            Listed::Lane => {
                let littered = queue.lanes.lane(record.priority).litter();
                let lane = (record.queue, record.priority);
                if littered && after.littered.last() != Some(&lane) {
                    after.littered.push(lane);
                }
            }
        }
        if t.to.is_final() {
            record.end_waiting(t);
            queue.room.leave(1);
            after.room = true;
        }
    }

    /// Schedules or queues a job again.
    fn again(&mut self, slot: u32, delay: Duration, now: Timestamp, shared: &Shared, after: &mut After) {
        let record = &mut self.slab[slot];
        record.run_at = now.after(delay);
        record.waits = Box::default();
        self.line_up(slot, now, shared, after);
    }

    /// Ends a job for good.
    fn finish(
        &mut self,
        slot: u32,
        t: &mut Transition,
        order: u64,
        now: Timestamp,
        shared: &Shared,
        after: &mut After,
    ) {
        self.enter(slot, t.to);
        let record = &mut self.slab[slot];
        after.trash.extend(record.end(t, now, order));
        after.ended.push(record.id);
        if t.to == State::Cancelled && record.key().is_some() {
            let id = record.id;
            after
                .freed
                .extend(record.extras.clone().map(|extras| (extras, id)));
        }
        let queue = record.queue;
        self.arm(slot, shared, after);
        if shared.keep == 0 {
            self.drop_record(slot, after);
            return;
        }
        self.finished.push(Fate::of(t.to), order, slot);
        self.tally(queue).kept += 1;
        after.kept += 1;
    }

    fn forget_first(&mut self, fate: Fate, after: &mut After) {
        if let Some(slot) = self.finished.pop(fate) {
            let queue = self.slab[slot].queue;
            self.tally(queue).kept -= 1;
            self.drop_record(slot, after);
        }
    }

    fn drop_record(&mut self, slot: u32, after: &mut After) {
        let Some(mut record) = self.slab.remove(slot) else {
            return;
        };
        if record.key().is_some() {
            let id = record.id;
            after
                .freed
                .extend(record.extras.take().map(|extras| (extras, id)));
        }
        after.trash.push(record.into_content());
    }
}
