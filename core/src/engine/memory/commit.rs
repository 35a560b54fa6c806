//! Writes that belong together: all are checked, then all are made or none.
//!
//! The keys of the inserts are locked, then every stripe. The check goes through the batch in the order in
//! which it is applied (transitions, inserts, signals) and notes what each step would change, so that a
//! step may rely on the ones before it: a batch may cancel a job and push another into the room it leaves.

use std::collections::HashMap;

use super::MemoryEngine;
use super::after::After;
use super::insert::{bound, key, keyed, refused, weighs};
use super::keys::Held;
use super::place::slot_of;
use super::room::Bound;
use super::session::Session;
use super::stripe;
use crate::engine::{Applied, Batch, BatchReceipt, Insert, Inserted};
use crate::id::JobId;
use crate::job::State;
use crate::names::QueueId;
use crate::outcome::Transition;
use crate::time::Timestamp;

/// A batch that is being checked.
struct Plan<'p, 'e> {
    engine: &'e MemoryEngine,
    keys: &'p Held<'e>,
    /// The state of each job that a transition would change.
    states: HashMap<JobId, State>,
    /// The jobs that would be new.
    new: HashMap<JobId, &'p Insert<'p>>,
    /// The keys that would have a new holder.
    holders: HashMap<&'p str, JobId>,
    /// How many more jobs would wait, and how many more bytes.
    waiting: HashMap<QueueId, (i64, i64)>,
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
        let mut stripes = self.stripes.lock_all();
        for job in batch.inserts.iter().filter(|job| weighs(job)) {
            self.weigh_now(job.queue);
        }
        let mut plan = Plan::new(self, &keys);
        receipt.transitions = batch.transitions.iter().map(|t| plan.transition(t)).collect();
        receipt.inserted = batch.inserts.iter().map(|job| plan.insert(job)).collect();
        drop(plan);
        receipt.applied = !self.shared.sealed()
            && receipt.transitions.iter().all(|a| *a == Applied::Yes)
            && !receipt.inserted.iter().any(|i| refused(*i));
        let number = stripe::number();
        let mut session = Session::new(self, (number, &mut stripes[number]), after, now);
        (session.joins, session.level) = (true, Some(batch.durability));
        if receipt.applied {
            session.apply_all(batch, receipt, &mut keys);
        } else {
            session.count_refused(batch, receipt);
        }
    }
}

impl Session<'_> {
    fn apply_all(&mut self, batch: &mut Batch<'_>, receipt: &BatchReceipt, keys: &mut Held<'_>) {
        for t in &mut *batch.transitions {
            let applied = self.apply(t);
            debug_assert_eq!(applied, Applied::Yes, "the check said so");
        }
        let new = batch.inserts.iter().zip(&receipt.inserted);
        for (job, _) in new.filter(|(_, inserted)| **inserted == Inserted::New) {
            let inserted = self.insert(job, Bound::default());
            debug_assert_eq!(inserted, Inserted::New, "the check said so");
            if let Some(key) = key(job).filter(|_| job.shed.is_none()) {
                keys.set(key, job.id);
            }
        }
        for (id, token) in batch.signals {
            self.deliver(*id, token);
        }
    }

    /// Counts what was refused: a statistic, which a batch that was not applied leaves behind.
    fn count_refused(&mut self, batch: &Batch<'_>, receipt: &BatchReceipt) {
        for (t, applied) in batch.transitions.iter().zip(&receipt.transitions) {
            if *applied == Applied::Stale {
                self.count_stale(t.job);
            }
        }
        for (job, inserted) in batch.inserts.iter().zip(&receipt.inserted) {
            if matches!(inserted, Inserted::Full(_) | Inserted::FullBytes(_)) {
                self.refuse(job);
            }
        }
    }
}

impl<'p, 'e> Plan<'p, 'e> {
    fn new(engine: &'e MemoryEngine, keys: &'p Held<'e>) -> Self {
        Self {
            engine,
            keys,
            states: HashMap::new(),
            new: HashMap::new(),
            holders: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    fn transition(&mut self, t: &Transition) -> Applied {
        let record = self.engine.slab.lock(slot_of(t.job.handle));
        let held = record.filter(|record| record.is_held_by(t.job));
        let Some(record) = held.filter(|_| !self.engine.shared.sealed()) else {
            return Applied::Stale;
        };
        let state = *self.states.get(&record.id()).unwrap_or(&record.state());
        let verdict = record.verdict(t, state);
        if verdict == Applied::Yes {
            self.states.insert(record.id(), t.to);
            let waits = |yes: bool| i64::from(yes);
            let more = waits(!t.to.is_final()) - waits(!t.running);
            let (jobs, bytes) = self.waiting.entry(record.queue()).or_default();
            *jobs += more;
            *bytes += more * record.weight() as i64;
        }
        verdict
    }

    fn insert(&mut self, job: &'p Insert<'_>) -> Inserted {
        if self.new.contains_key(&job.id) || self.engine.index.has(job.id, &self.engine.slab) {
            return Inserted::Duplicate;
        }
        if self.engine.shared.sealed() {
            return Inserted::Sealed;
        }
        if let Some(answer) = key(job).and_then(|key| self.holds(key, job)) {
            return answer;
        }
        if job.shed.is_none() {
            if let Some(refused) = self.enter(job) {
                return refused;
            }
            if let Some(key) = key(job) {
                self.holders.insert(key, job.id);
            }
        }
        self.new.insert(job.id, job);
        Inserted::New
    }

    /// Counts a job in, unless there is no room for it.
    fn enter(&mut self, job: &Insert<'_>) -> Option<Inserted> {
        let room = &self.engine.shared.queues.get(job.queue).room;
        let (jobs, bytes) = self.waiting.entry(job.queue).or_default();
        let there = |counted: usize, more: i64| (counted as i64 + more).max(0) as usize;
        let (waiting, weight) = (there(room.waiting(), *jobs), job.payload.weight());
        let bound = bound(job);
        if bound.jobs > 0 && waiting >= bound.jobs {
            return Some(Inserted::Full(waiting));
        }
        let weighed = there(room.bytes(), *bytes);
        if bound.bytes > 0 && weighed.saturating_add(weight) > bound.bytes {
            return Some(Inserted::FullBytes(weighed));
        }
        *jobs += 1;
        *bytes += weight as i64;
        None
    }

    /// What the holder of `key` means for a job; `None` if there is none.
    fn holds(&self, key: &str, job: &Insert<'_>) -> Option<Inserted> {
        let print = |job: &Insert<'_>| (job.kind, job.extras.map(|e| e.fingerprint));
        if let Some(holder) = self.holders.get(key) {
            let other = self.new.get(holder)?;
            return Some(keyed(*holder, print(other) == print(job)));
        }
        let holder = self.keys.get(key)?;
        let (_, record) = self.engine.index.find(holder, &self.engine.slab)?;
        if !record.holds(key) || self.states.get(&holder).is_some_and(|state| state.frees_key()) {
            return None;
        }
        let theirs = (record.kind(), record.extras().map(|e| e.fingerprint));
        Some(keyed(holder, theirs == print(job)))
    }
}
