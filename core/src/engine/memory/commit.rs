//! Writes that belong together: all are checked, then all are made or none.
//!
//! The keys of the inserts are locked, then every shard. The check goes through the batch in the order in
//! which it is applied (transitions, inserts, signals) and notes what each step would change, so that a
//! step may rely on the ones before it: a batch may cancel a job and push another into the room it leaves.

use std::collections::HashMap;

use super::MemoryEngine;
use super::after::After;
use super::insert::{bound, key, keyed, refused};
use super::keys::Held;
use super::place::{Place, shard_of};
use super::shards::Locked;
use super::shared::Shared;
use crate::engine::{Applied, Batch, BatchReceipt, Insert, Inserted};
use crate::id::JobId;
use crate::job::State;
use crate::names::QueueId;
use crate::outcome::Transition;
use crate::time::Timestamp;

/// A batch that is being checked.
struct Plan<'p, 'e> {
    shared: &'e Shared,
    shards: &'p Locked<'e>,
    keys: &'p Held<'e>,
    /// The state of each job that a transition would change.
    states: HashMap<JobId, State>,
    /// The jobs that would be new.
    new: HashMap<JobId, &'p Insert<'p>>,
    /// The keys that would have a new holder.
    holders: HashMap<&'p str, JobId>,
    /// How many more jobs would wait.
    waiting: HashMap<QueueId, i64>,
}

impl MemoryEngine {
    /// Applies a batch whole or not at all.
    pub(super) fn commit_all(
        &self,
        batch: &mut Batch<'_>,
        now: Timestamp,
        receipt: &mut BatchReceipt,
        after: &mut After,
    ) {
        let mut keys = self.keys.lock_many(batch.inserts.iter().filter_map(key));
        let mut shards = self.shards.lock_all();
        let mut plan = Plan::new(&self.shared, &shards, &keys);
        receipt.transitions = batch.transitions.iter().map(|t| plan.transition(t)).collect();
        receipt.inserted = batch.inserts.iter().map(|job| plan.insert(job)).collect();
        drop(plan);
        receipt.applied = !self.shared.sealed()
            && receipt.transitions.iter().all(|a| *a == Applied::Yes)
            && !receipt.inserted.iter().any(|i| refused(*i));
        if receipt.applied {
            self.apply_all(batch, receipt, &mut shards, &mut keys, now, after);
        } else {
            count_refused(batch, receipt, &mut shards);
        }
    }

    fn apply_all(
        &self,
        batch: &mut Batch<'_>,
        receipt: &BatchReceipt,
        shards: &mut Locked<'_>,
        keys: &mut Held<'_>,
        now: Timestamp,
        after: &mut After,
    ) {
        let shared = &self.shared;
        let ends = shared.next_ends(batch.transitions.len());
        for (order, t) in (ends..).zip(&mut *batch.transitions) {
            let applied = shards[t.job.handle.shard()].apply(t, order, now, shared, after);
            debug_assert_eq!(applied, Applied::Yes, "the check said so");
        }
        let new = batch.inserts.iter().zip(&receipt.inserted);
        for (job, _) in new.filter(|(_, inserted)| **inserted == Inserted::New) {
            let queue = shared.queues.get(job.queue);
            queue.room.enter();
            if let Some(ticket) = shards[shard_of(job.id)].store(job, now, shared, after) {
                queue.lanes.push(queue.lanes.lane(job.priority), ticket);
            }
            if let Some(key) = key(job) {
                keys.set(key, job.id);
            }
        }
        for (id, token) in batch.signals {
            shards[shard_of(*id)].deliver((*id, token), now, shared, after);
        }
    }
}

impl<'p, 'e> Plan<'p, 'e> {
    fn new(shared: &'e Shared, shards: &'p Locked<'e>, keys: &'p Held<'e>) -> Self {
        Self {
            shared,
            shards,
            keys,
            states: HashMap::new(),
            new: HashMap::new(),
            holders: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    fn transition(&mut self, t: &Transition) -> Applied {
        let held = self.shards[t.job.handle.shard()].held(t.job);
        let Some(record) = held.filter(|_| !self.shared.sealed()) else {
            return Applied::Stale;
        };
        let state = *self.states.get(&record.id).unwrap_or(&record.state);
        let verdict = record.verdict(t, state);
        if verdict == Applied::Yes {
            self.states.insert(record.id, t.to);
            let waits = |yes: bool| i64::from(yes);
            *self.waiting.entry(record.queue).or_default() += waits(!t.to.is_final()) - waits(!t.running);
        }
        verdict
    }

    fn insert(&mut self, job: &'p Insert<'_>) -> Inserted {
        if self.new.contains_key(&job.id) || self.shards[shard_of(job.id)].find(job.id).is_some() {
            return Inserted::Duplicate;
        }
        if self.shared.sealed() {
            return Inserted::Sealed;
        }
        if let Some(answer) = key(job).and_then(|key| self.holds(key, job)) {
            return answer;
        }
        let more = self.waiting.entry(job.queue).or_default();
        let room = &self.shared.queues.get(job.queue).room;
        let waiting = (room.waiting() as i64 + *more).max(0) as usize;
        if bound(job) > 0 && waiting >= bound(job) {
            return Inserted::Full(waiting);
        }
        *more += 1;
        self.new.insert(job.id, job);
        if let Some(key) = key(job) {
            self.holders.insert(key, job.id);
        }
        Inserted::New
    }

    /// What the holder of `key` means for a job; `None` if there is none.
    fn holds(&self, key: &str, job: &Insert<'_>) -> Option<Inserted> {
        let print = |job: &Insert<'_>| (job.kind, job.extras.map(|e| e.fingerprint));
        if let Some(holder) = self.holders.get(key) {
            let other = self.new.get(holder)?;
            return Some(keyed(*holder, print(other) == print(job)));
        }
        let holder = self.keys.get(key)?;
        let record = self.shards[shard_of(holder)]
            .find(holder)
            .filter(|r| r.holds(key))?;
        if self.states.get(&holder) == Some(&State::Cancelled) {
            return None;
        }
        let theirs = (record.kind, record.extras.as_ref().map(|e| e.fingerprint));
        Some(keyed(holder, theirs == print(job)))
    }
}

/// Counts what was refused: a statistic, which a batch that was not applied leaves behind.
fn count_refused(batch: &Batch<'_>, receipt: &BatchReceipt, shards: &mut Locked<'_>) {
    for (t, applied) in batch.transitions.iter().zip(&receipt.transitions) {
        if *applied == Applied::Stale {
            shards[t.job.handle.shard()].count_stale(t.job);
        }
    }
    for (job, inserted) in batch.inserts.iter().zip(&receipt.inserted) {
        if matches!(inserted, Inserted::Full(_)) {
            shards[shard_of(job.id)].refuse(job.queue);
        }
    }
}
