//! The contract, written with a `BTreeMap` and no thought of speed.

use std::collections::BTreeMap;

use super::*;

/// A job of the model.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) queue: usize,
    pub(super) kind: usize,
    pub(super) priority: i8,
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    pub(super) fence: u64,
    pub(super) run_at: Timestamp,
    pub(super) deadline: Timestamp,
    pub(super) own_timeout: Option<Duration>,
    pub(super) timeout_at: Timestamp,
    pub(super) lease_until: Timestamp,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
    pub(super) waits: Vec<Token>,
    pub(super) key: Option<(String, u64)>,
    pub(super) cancel: bool,
    pub(super) history: Vec<(u32, bool)>,
    pub(super) ended_waiting: bool,
    pub(super) result: bool,
    /// Its place among the scheduled, the queued or the finished.
    pub(super) order: u64,
    pub(super) handle: JobRef,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<JobId, Entry>,
    pub(super) holders: BTreeMap<String, JobId>,
    pub(super) totals: [crate::engine::Totals; QUEUES],
    pub(super) paused: [bool; QUEUES],
    pub(super) clock: u64,
}

impl Entry {
    pub(super) fn holds(&self, key: &str) -> bool {
        self.state != State::Cancelled && self.key.as_ref().is_some_and(|(mine, _)| mine == key)
    }
}

impl Model {
    pub(super) fn next(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn waiting(&self, queue: usize) -> usize {
        let waits = |e: &&Entry| e.queue == queue && e.state.is_waiting();
        self.jobs.values().filter(waits).count()
    }

    pub(super) fn promote(&mut self, limit: usize, now: Timestamp) -> usize {
        let due = |e: &Entry| e.state == State::Scheduled && e.run_at <= now;
        let mut ids: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, e)| due(e))
            .map(|(i, e)| (e.run_at, e.order, *i))
            .collect();
        ids.sort_unstable();
        ids.truncate(limit);
        for (_, _, id) in &ids {
            self.stand(*id, now);
        }
        ids.len()
    }

    pub(super) fn stand(&mut self, id: JobId, now: Timestamp) {
        let order = self.next();
        let e = self.jobs.get_mut(&id).unwrap();
        e.state = if e.run_at <= now {
            State::Queued
        } else {
            State::Scheduled
        };
        e.order = order;
    }

    pub(super) fn insert(&mut self, job: &Insert<'_>, now: Timestamp) -> Inserted {
        if self.jobs.contains_key(&job.id) {
            return Inserted::Duplicate;
        }
        let key = job
            .extras
            .map(|e| (e.key.clone().unwrap().to_string(), e.fingerprint));
        if let Some((key, print)) = &key
            && let Some(holder) = self.holders.get(key)
            && let Some(e) = self.jobs.get(holder).filter(|e| e.holds(key))
        {
            let same = e.kind == job.kind.index() && e.key.as_ref().unwrap().1 == *print;
            return if same {
                Inserted::Keyed(*holder)
            } else {
                Inserted::Conflict(*holder)
            };
        }
        let (queue, here) = (job.queue.index(), self.waiting(job.queue.index()));
        if job.restored.is_none() && job.capacity > 0 && here >= job.capacity {
            self.totals[queue].refused += 1;
            return Inserted::Full(here);
        }
        match job.restored {
            None => self.totals[queue].pushed += 1,
            Some(_) => self.totals[queue].restored += 1,
        }
        let restored = job.restored.cloned().unwrap_or_default();
        if let Some((key, _)) = &key {
            self.holders.insert(key.clone(), job.id);
        }
        let entry = Entry {
            queue,
            kind: job.kind.index(),
            priority: job.priority,
            state: State::Blocked,
            attempt: restored.attempt,
            max_attempts: job.max_attempts,
            fence: restored.fence,
            run_at: job.run_at,
            deadline: job.deadline,
            own_timeout: job.timeout,
            timeout_at: FOREVER,
            lease_until: FOREVER,
            started: None,
            finished: None,
            waits: job.waits.to_vec(),
            key,
            cancel: false,
            history: Vec::new(),
            ended_waiting: false,
            result: false,
            order: 0,
            handle: JobRef::default(),
        };
        self.jobs.insert(job.id, entry);
        if job.waits.is_empty() {
            self.stand(job.id, now);
        }
        Inserted::New
    }

    pub(super) fn apply(&mut self, t: &Transition, now: Timestamp) -> Applied {
        let order = self.next();
        let found = self
            .jobs
            .get_mut(&t.job.id)
            .filter(|e| e.handle.handle == t.job.handle);
        let Some(e) = found else { return Applied::Stale };
        let stands = if t.running {
            e.state == State::Running
        } else {
            e.state.is_waiting()
        };
        let edge = t.to.is_final() || t.to == State::Scheduled || t.to == State::Queued;
        let totals = &mut self.totals[e.queue];
        if !stands || !edge || e.fence != t.job.fence {
            totals.stale += 1;
            return Applied::Stale;
        }
        if e.cancel && !t.answers_cancel {
            return Applied::CancelRequested;
        }
        if t.running {
            let noted = t.to == State::Succeeded || !t.refund || t.failure.is_some();
            if noted {
                e.history.push((e.attempt, t.failure.is_some()));
            }
            e.attempt -= u32::from(t.refund && e.attempt > 0);
            e.cancel = false;
            (e.timeout_at, e.lease_until) = (FOREVER, FOREVER);
            match t.to {
                to if to.is_final() => {}
                _ if t.refund => totals.returned += 1,
                _ => totals.retried += 1,
            }
        }
        e.waits.clear();
        if !t.to.is_final() {
            if t.keeps_place && t.running {
                e.state = State::Queued;
            } else {
                e.run_at = now.after(t.delay);
                self.stand(t.job.id, now);
            }
            return Applied::Yes;
        }
        e.state = t.to;
        e.finished = Some(now);
        e.order = order;
        e.ended_waiting = !t.running && t.failure.is_some();
        e.result = t.to == State::Succeeded && t.result.is_some();
        let ends = match t.to {
            State::Succeeded => &mut totals.succeeded,
            State::Failed => &mut totals.failed,
            State::Cancelled => &mut totals.cancelled,
            _ => &mut totals.expired,
        };
        *ends += 1;
        Applied::Yes
    }

    pub(super) fn claim(&mut self, ask: &Ask, now: Timestamp) -> Vec<JobId> {
        let mut left = ask.allowances.clone();
        let mut ready: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, e)| e.queue == ask.queue && e.state == State::Queued)
            .map(|(id, e)| (-e.priority, e.order, *id))
            .collect();
        ready.sort_unstable();
        let mut out = Vec::new();
        for (_, _, id) in ready {
            let e = self.jobs.get_mut(&id).unwrap();
            let allowed = left.get(e.kind).is_some_and(|n| *n > 0) && out.len() < ask.limit;
            if self.paused[ask.queue] || !allowed || e.deadline <= now {
                continue;
            }
            left[e.kind] -= 1;
            e.state = State::Running;
            (e.attempt, e.fence) = (e.attempt + 1, e.fence + 1);
            e.started = Some(now);
            e.max_attempts = if e.max_attempts == 0 { 3 } else { e.max_attempts };
            let timeout = e.own_timeout.or(ask.timeout.map(us));
            e.timeout_at = timeout.map_or(FOREVER, |t| now.after(t));
            e.lease_until = ask.lease.map_or(FOREVER, |l| now.after(us(l)));
            self.totals[ask.queue].claimed += 1;
            out.push(id);
        }
        out
    }

    pub(super) fn deliver(&mut self, id: JobId, token: &str, now: Timestamp) {
        let Some(e) = self.jobs.get_mut(&id).filter(|e| e.state == State::Blocked) else {
            return;
        };
        e.waits.retain(|t| **t != *token);
        if e.waits.is_empty() {
            self.stand(id, now);
        }
    }

    pub(super) fn forget_excess(&mut self, keep: usize, limit: usize) -> usize {
        let mut ended: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, e)| e.state.is_final())
            .map(|(i, e)| (e.order, *i))
            .collect();
        ended.sort_unstable();
        let excess = ended.len().saturating_sub(keep).min(limit);
        ended[..excess]
            .iter()
            .for_each(|(_, id)| _ = self.jobs.remove(id));
        excess
    }

    /// By age: oldest first in each stripe, succeeded ones first. Returns how many at most may go.
    pub(super) fn too_old(&self, keep: Retention) -> Vec<JobId> {
        let old = |e: &Entry| {
            let before = if e.state == State::Succeeded {
                keep.succeeded_before
            } else {
                keep.others_before
            };
            e.finished.is_some_and(|at| at < before)
        };
        self.jobs
            .iter()
            .filter(|(_, e)| old(e))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn overdue(&self, now: Timestamp) -> Vec<(JobId, Cause)> {
        let cause = |e: &Entry| match e.state {
            State::Running if e.timeout_at <= now && e.timeout_at <= e.lease_until => Some(Cause::Timeout),
            State::Running if e.lease_until <= now => Some(Cause::Lease),
            s if s.is_waiting() && e.deadline <= now => Some(Cause::Deadline),
            _ => None,
        };
        self.jobs
            .iter()
            .filter_map(|(id, e)| Some((*id, cause(e)?)))
            .collect()
    }

    pub(super) fn next_due(&self) -> Timestamp {
        let next = |e: &Entry| match e.state {
            State::Running => e.timeout_at.min(e.lease_until),
            State::Scheduled => e.run_at.min(e.deadline),
            s if s.is_waiting() => e.deadline,
            _ => FOREVER,
        };
        self.jobs.values().map(next).min().unwrap_or(FOREVER)
    }
}
