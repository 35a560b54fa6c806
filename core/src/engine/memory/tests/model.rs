//! The engine against a model: random calls, and after each of them everything that can be seen is the
//! same. The model is the contract written with a `BTreeMap` and no thought of speed.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::engine::{Batch, BatchReceipt, Cause, Held, Retention, Tick};
use crate::job::Token;

const QUEUES: usize = 2;
const KEEP: usize = 12;
const FOREVER: Timestamp = Timestamp::MAX;

/// A job of the model.
#[derive(Clone, Debug)]
struct Entry {
    queue: usize,
    kind: usize,
    priority: i8,
    state: State,
    attempt: u32,
    max_attempts: u32,
    fence: u64,
    run_at: Timestamp,
    deadline: Timestamp,
    own_timeout: Option<Duration>,
    timeout_at: Timestamp,
    lease_until: Timestamp,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    waits: Vec<Token>,
    key: Option<(String, u64)>,
    cancel: bool,
    history: Vec<(u32, bool)>,
    ended_waiting: bool,
    result: bool,
    /// Its place among the scheduled, the queued or the finished.
    order: u64,
    handle: JobRef,
}

#[derive(Clone, Debug, Default)]
struct Model {
    jobs: BTreeMap<JobId, Entry>,
    holders: BTreeMap<String, JobId>,
    totals: [crate::engine::Totals; QUEUES],
    paused: [bool; QUEUES],
    clock: u64,
}

/// What a push says.
#[derive(Clone, Debug)]
struct Push {
    id: u128,
    queue: usize,
    kind: usize,
    priority: i8,
    delay: u64,
    deadline: Option<u64>,
    timeout: Option<u64>,
    max_attempts: u32,
    key: Option<(usize, u64)>,
    waits: Vec<usize>,
    capacity: usize,
    restored: bool,
}

/// What somebody says about a job: which (by number of claim or of push), what, and after which delay.
#[derive(Clone, Debug)]
struct Say {
    claim: Option<usize>,
    job: usize,
    to: State,
    delay: u64,
    refund: bool,
    keeps_place: bool,
    answers: bool,
    failure: bool,
}

#[derive(Clone, Debug)]
struct Ask {
    queue: usize,
    allowances: Vec<u32>,
    limit: usize,
    lease: Option<u64>,
    timeout: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<Push>),
    Turn(Vec<Say>, Option<Ask>),
    Commit(Vec<Push>, Vec<Say>, Vec<(usize, usize)>),
    Extend(usize, u64),
    RequestCancel(usize),
    Tick(usize),
    Advance(u64),
    Pause(usize, bool),
    Prune(u64, u64, usize, usize),
}

fn pushes(most: usize) -> impl Strategy<Value = Vec<Push>> {
    let times = (
        0..12u64,
        prop::option::weighted(0.3, 0..25u64),
        prop::option::weighted(0.3, 1..20u64),
    );
    let names = (
        0..QUEUES,
        0..KINDS as usize,
        -1..2i8,
        prop::option::weighted(0.3, (0..3usize, 0..2u64)),
    );
    let rest = (
        // Ids of several tables, some of them twice.
        (0..40u128).prop_map(|n| n * 61),
        0..3u32,
        vec(0..3usize, 0..2),
        prop_oneof![Just(0usize), 3..8usize],
        prop::bool::weighted(0.1),
    );
    let push = (times, names, rest).prop_map(
        |(
            (delay, deadline, timeout),
            (queue, kind, priority, key),
            (id, max_attempts, waits, capacity, restored),
        )| {
            Push {
                id,
                queue,
                kind,
                priority,
                delay: delay.saturating_sub(6),
                deadline,
                timeout,
                max_attempts,
                key,
                waits,
                capacity,
                restored,
            }
        },
    );
    vec(push, 0..most)
}

fn says_some(most: usize) -> impl Strategy<Value = Vec<Say>> {
    let to = prop_oneof![
        4 => Just(State::Succeeded),
        4 => Just(State::Scheduled),
        1 => Just(State::Queued),
        1 => Just(State::Failed),
        2 => Just(State::Cancelled),
        1 => Just(State::Expired),
        1 => Just(State::Running),
    ];
    let claim = prop::option::weighted(0.8, 0..8usize);
    let say = (
        claim,
        0..40usize,
        to,
        0..4u64,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(claim, job, to, delay, refund, keeps_place, answers, failure)| Say {
                claim,
                job,
                to,
                delay: delay * 3,
                refund,
                keeps_place,
                answers,
                failure,
            },
        );
    vec(say, 0..most)
}

fn ask() -> impl Strategy<Value = Ask> {
    let times = (prop::option::of(1..20u64), prop::option::weighted(0.3, 1..20u64));
    (0..QUEUES, vec(0..3u32, 0..4), 0..5usize, times).prop_map(
        |(queue, allowances, limit, (lease, timeout))| Ask {
            queue,
            allowances,
            limit,
            lease,
            timeout,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => pushes(5).prop_map(Step::Insert),
        8 => (says_some(4), prop::option::weighted(0.8, ask())).prop_map(|(s, a)| Step::Turn(s, a)),
        3 => (pushes(3), says_some(3), vec((0..40usize, 0..3usize), 0..3))
            .prop_map(|(p, s, t)| Step::Commit(p, s, t)),
        1 => (0..8usize, 0..20u64).prop_map(|(n, lease)| Step::Extend(n, lease)),
        1 => (0..8usize).prop_map(Step::RequestCancel),
        1 => (0..4usize).prop_map(Step::Tick),
        4 => (0..6u64).prop_map(Step::Advance),
        1 => (0..QUEUES, prop::bool::weighted(0.3)).prop_map(|(q, p)| Step::Pause(q, p)),
        1 => (0..30u64, 0..30u64, 6..KEEP + 1, 0..5usize).prop_map(|(s, o, m, l)| Step::Prune(s, o, m, l)),
    ];
    vec(step, 1..80)
}

impl Entry {
    fn holds(&self, key: &str) -> bool {
        self.state != State::Cancelled && self.key.as_ref().is_some_and(|(mine, _)| mine == key)
    }
}

impl Model {
    fn next(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn waiting(&self, queue: usize) -> usize {
        let waits = |e: &&Entry| e.queue == queue && e.state.is_waiting();
        self.jobs.values().filter(waits).count()
    }

    fn promote(&mut self, limit: usize, now: Timestamp) -> usize {
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

    fn stand(&mut self, id: JobId, now: Timestamp) {
        let order = self.next();
        let e = self.jobs.get_mut(&id).unwrap();
        e.state = if e.run_at <= now {
            State::Queued
        } else {
            State::Scheduled
        };
        e.order = order;
    }

    fn insert(&mut self, job: &Insert<'_>, now: Timestamp) -> Inserted {
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

    fn apply(&mut self, t: &Transition, now: Timestamp) -> Applied {
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

    fn claim(&mut self, ask: &Ask, now: Timestamp) -> Vec<JobId> {
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

    fn deliver(&mut self, id: JobId, token: &str, now: Timestamp) {
        let Some(e) = self.jobs.get_mut(&id).filter(|e| e.state == State::Blocked) else {
            return;
        };
        e.waits.retain(|t| **t != *token);
        if e.waits.is_empty() {
            self.stand(id, now);
        }
    }

    fn forget_excess(&mut self, keep: usize, limit: usize) -> usize {
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
    fn too_old(&self, keep: Retention) -> Vec<JobId> {
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

    fn overdue(&self, now: Timestamp) -> Vec<(JobId, Cause)> {
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

    fn next_due(&self) -> Timestamp {
        let next = |e: &Entry| match e.state {
            State::Running => e.timeout_at.min(e.lease_until),
            State::Scheduled => e.run_at.min(e.deadline),
            s if s.is_waiting() => e.deadline,
            _ => FOREVER,
        };
        self.jobs.values().map(next).min().unwrap_or(FOREVER)
    }
}

/// An engine and its model, side by side.
struct Pair {
    rig: Rig,
    model: Model,
    /// Every claim ever made.
    claims: Vec<JobRef>,
    ids: Vec<JobId>,
}

impl Pair {
    fn new() -> Self {
        let model = Model::default();
        Self {
            rig: Rig::keeping(KEEP),
            model,
            claims: Vec::new(),
            ids: Vec::new(),
        }
    }

    fn with_inserts<R>(&mut self, pushes: &[Push], act: impl FnOnce(&mut Self, &[Insert<'_>]) -> R) -> R {
        let now = self.rig.now();
        let payload = Payload::from("p");
        let extras: Vec<_> = pushes
            .iter()
            .map(|p| p.key.map(|(key, print)| keyed(&format!("key{key}"), print)))
            .collect();
        let waits: Vec<Vec<Token>> = pushes
            .iter()
            .map(|p| p.waits.iter().map(|w| w.to_string().into()).collect())
            .collect();
        let restored = crate::engine::Restored {
            attempt: 1,
            fence: 5,
            created: Timestamp::EPOCH,
            crashes: 0,
            history: Vec::new(),
        };
        let jobs: Vec<_> = pushes
            .iter()
            .zip(&extras)
            .zip(&waits)
            .map(|((p, extras), waits)| Insert {
                fresh: false,
                id: id(p.id),
                queue: QueueId(p.queue as u16),
                kind: KindId(p.kind as u16),
                payload: Parcel::Shared(&payload),
                priority: p.priority,
                run_at: now.after(us(p.delay)),
                max_attempts: p.max_attempts,
                timeout: p.timeout.map(us),
                deadline: p.deadline.map_or(FOREVER, |d| now.after(us(d))),
                extras: extras.as_ref(),
                waits,
                capacity: p.capacity,
                capacity_bytes: 0,
                undecided: false,
                resident: crate::engine::Resident::default(),
                shed: None,
                durability: Durability::Memory,
                restored: p.restored.then_some(&restored),
            })
            .collect();
        self.ids.extend(jobs.iter().map(|j| j.id));
        act(self, &jobs)
    }

    /// Which job somebody speaks about: one that was claimed lately, or one that was pushed.
    fn meant(&self, say: &Say) -> (JobRef, bool) {
        let back = |n: usize| Some(self.claims[self.claims.len().checked_sub(n + 1)?]);
        if let Some(job) = say.claim.and_then(back) {
            return (job, true);
        }
        let id = id(say.job as u128 * 61);
        match self.rig.engine.standing(id).unwrap() {
            Some(at) => (at.job, false),
            None => (
                JobRef {
                    id,
                    ..JobRef::default()
                },
                false,
            ),
        }
    }

    fn transitions(&self, says_them: &[Say]) -> Vec<Transition> {
        let one = |say: &Say| {
            let (job, running) = self.meant(say);
            Transition {
                delay: us(say.delay),
                refund: say.refund && say.to == State::Scheduled,
                keeps_place: say.keeps_place,
                answers_cancel: say.answers,
                result: say.failure.then(|| Payload::from("r")),
                failure: (say.failure && say.to != State::Succeeded)
                    .then(|| Failure::new(FailureKind::Error, "f")),
                ..says(job, running, say.to)
            }
        };
        says_them.iter().map(one).collect()
    }

    fn step(&mut self, step: &Step) {
        let now = self.rig.now();
        match step {
            Step::Insert(pushes) => self.with_inserts(pushes, |pair, jobs| pair.insert(jobs)),
            Step::Turn(says_them, ask) => self.turn(says_them, ask.as_ref()),
            Step::Commit(pushes, says_them, tokens) => {
                let transitions = self.transitions(says_them);
                self.with_inserts(pushes, |pair, jobs| pair.commit(jobs, transitions, tokens));
            }
            Step::Advance(by) => self.rig.advance(*by),
            Step::Tick(limit) => {
                let promoted = self.model.promote(*limit, now);
                let next = self.model.next_due();
                assert_eq!(
                    self.rig.engine.tick(*limit, now).unwrap(),
                    Tick { promoted, next }
                );
            }
            Step::Pause(queue, paused) => {
                self.model.paused[*queue] = *paused;
                self.rig
                    .engine
                    .set_paused(QueueId(*queue as u16), *paused)
                    .unwrap();
            }
            Step::Extend(back, lease) => self.extend(*back, us(*lease)),
            Step::RequestCancel(back) => self.request_cancel(*back),
            Step::Prune(succeeded, others, most, limit) => self.prune((*succeeded, *others), *most, *limit),
        }
        self.model.forget_excess(KEEP, usize::MAX);
        self.note_handles();
    }

    fn insert(&mut self, jobs: &[Insert<'_>]) {
        let (now, mut receipt) = (self.rig.now(), Vec::new());
        self.rig.engine.insert(jobs, now, &mut receipt).unwrap();
        self.model.promote(usize::MAX, now);
        let mut want = Vec::new();
        for job in jobs {
            want.push(self.model.insert(job, now));
            if matches!(want.last(), Some(Inserted::Full(_) | Inserted::Conflict(_))) {
                break;
            }
        }
        assert_eq!(receipt, want);
    }

    fn turn(&mut self, says_them: &[Say], ask: Option<&Ask>) {
        let (now, mut applied, mut out) = (self.rig.now(), Vec::new(), Vec::new());
        let mut done = self.transitions(says_them);
        self.model.promote(usize::MAX, now);
        let want: Vec<_> = done.iter().map(|t| self.model.apply(t, now)).collect();
        let claimed = ask.map_or(Vec::new(), |ask| self.model.claim(ask, now));
        let mut kinds: Vec<_> = ask
            .map_or(&[][..], |a| &a.allowances)
            .iter()
            .map(|n| KindClaim {
                allowance: *n,
                max_attempts: 3,
                timeout: ask.and_then(|a| a.timeout).map(us),
            })
            .collect();
        let mut claim = ask.map(|ask| Claim {
            queue: QueueId(ask.queue as u16),
            kinds: &mut kinds,
            limit: ask.limit,
            lease: ask.lease.map(us),
            node: &self.rig.node,
            worker: 7,
            keys: crate::engine::KeyLimits::default(),
            relays: false,
            out: &mut out,
        });
        self.rig
            .engine
            .turn(&mut done, &mut applied, claim.as_mut(), now)
            .unwrap();
        assert_eq!(applied, want);
        assert_eq!(out.iter().map(|c| c.job.id).collect::<Vec<_>>(), claimed);
        for c in &out {
            let e = &self.model.jobs[&c.job.id];
            assert_eq!(
                (c.job.fence, c.attempt, c.max_attempts),
                (e.fence, e.attempt, e.max_attempts)
            );
            assert_eq!((c.due, c.deadline), (e.timeout_at.min(e.lease_until), e.deadline));
            assert_eq!(c.payload.len(), Some(1));
            self.claims.push(c.job);
        }
    }

    fn commit(
        &mut self,
        inserts: &[Insert<'_>],
        mut transitions: Vec<Transition>,
        tokens: &[(usize, usize)],
    ) {
        let now = self.rig.now();
        let signals: Vec<(JobId, Token)> = tokens
            .iter()
            .map(|(job, token)| (id(*job as u128 * 61), token.to_string().into()))
            .collect();
        self.model.promote(usize::MAX, now);
        let mut after = self.model.clone();
        let mut want = BatchReceipt {
            applied: false,
            transitions: transitions.iter().map(|t| after.apply(t, now)).collect(),
            inserted: inserts.iter().map(|job| after.insert(job, now)).collect(),
        };
        signals
            .iter()
            .for_each(|(id, token)| after.deliver(*id, token, now));
        let refused = |i: &Inserted| matches!(i, Inserted::Conflict(_) | Inserted::Full(_));
        want.applied =
            want.transitions.iter().all(|a| *a == Applied::Yes) && !want.inserted.iter().any(refused);
        let mut receipt = BatchReceipt::default();
        let mut batch = Batch {
            inserts,
            transitions: &mut transitions,
            signals: &signals,
            durability: Durability::Memory,
        };
        self.rig.engine.commit(&mut batch, now, &mut receipt).unwrap();
        assert_eq!(receipt, want);
        if want.applied {
            self.model = after;
        } else {
            for (mine, theirs) in self.model.totals.iter_mut().zip(&after.totals) {
                (mine.stale, mine.refused) = (theirs.stale, theirs.refused);
            }
        }
    }

    fn extend(&mut self, back: usize, lease: Duration) {
        let Some(job) = self.claims.len().checked_sub(back + 1).map(|n| self.claims[n]) else {
            return;
        };
        let now = self.rig.now();
        let mine =
            self.model.jobs.get_mut(&job.id).filter(|e| {
                e.state == State::Running && e.fence == job.fence && e.handle.handle == job.handle
            });
        let want = match mine {
            None => Held::Lost,
            Some(e) => {
                e.lease_until = now.after(lease);
                if e.cancel {
                    Held::CancelRequested
                } else {
                    Held::Yes
                }
            }
        };
        let mut held = Vec::new();
        self.rig.engine.extend(&[job], lease, now, &mut held).unwrap();
        assert_eq!(held, [want]);
    }

    fn request_cancel(&mut self, back: usize) {
        let Some(job) = self.claims.len().checked_sub(back + 1).map(|n| self.claims[n]) else {
            return;
        };
        let mine =
            self.model.jobs.get_mut(&job.id).filter(|e| {
                e.state == State::Running && e.fence == job.fence && e.handle.handle == job.handle
            });
        let want = mine.map(|e| e.cancel = true).is_some();
        assert_eq!(self.rig.engine.request_cancel(job).unwrap(), want);
    }

    fn prune(&mut self, ages: (u64, u64), most: usize, limit: usize) {
        let now = self.rig.now();
        let before = |age: u64| Timestamp::from_micros(now.as_micros() - age as i64);
        let keep = Retention {
            succeeded_before: before(ages.0),
            others_before: before(ages.1),
            most,
        };
        let old = self.model.too_old(keep);
        let count = self.rig.engine.prune(keep, limit, now).unwrap();
        // Which of the old ones go first is not promised.
        let gone: Vec<_> = old
            .iter()
            .filter(|id| self.rig.engine.get(**id).unwrap().is_none())
            .collect();
        let by_age = old.len().min(limit);
        assert!(gone.len() >= by_age);
        if old.len() >= limit {
            assert_eq!(gone.len(), limit);
        }
        let (all, by_age) = (gone.len(), if old.len() > limit { limit } else { old.len() });
        gone.into_iter().for_each(|id| _ = self.model.jobs.remove(id));
        assert_eq!(all, by_age);
        assert_eq!(count, by_age + self.model.forget_excess(most, limit - by_age));
    }

    /// Handles are the engine's business: the model learns them.
    fn note_handles(&mut self) {
        for (id, e) in &mut self.model.jobs {
            let at = self
                .rig
                .engine
                .standing(*id)
                .unwrap()
                .expect("the model knows it");
            e.handle = at.job;
        }
    }

    fn compare(&self) {
        for id in &self.ids {
            let (job, e) = (self.rig.engine.get(*id).unwrap(), self.model.jobs.get(id));
            assert_eq!(job.is_some(), e.is_some(), "{id}");
            if let (Some(job), Some(e)) = (job, e) {
                self.compare_one(&job, e);
            }
        }
        for (number, counts) in self.rig.engine.counts().unwrap().iter().enumerate() {
            let of = |state| {
                self.model
                    .jobs
                    .values()
                    .filter(|e| e.queue == number && e.state == state)
                    .count() as u64
            };
            assert!(counts.balanced(), "{counts:?}");
            assert_eq!(
                (counts.blocked, counts.scheduled, counts.queued, counts.running),
                (
                    of(State::Blocked),
                    of(State::Scheduled),
                    of(State::Queued),
                    of(State::Running)
                )
            );
            assert_eq!(
                counts.kept,
                State::ALL
                    .iter()
                    .filter(|s| s.is_final())
                    .map(|s| of(*s))
                    .sum::<u64>()
            );
            assert_eq!(
                (counts.totals, counts.paused),
                (self.model.totals[number], self.model.paused[number])
            );
            let room = self
                .rig
                .engine
                .shared
                .queues
                .find(counts.queue)
                .map_or(0, |q| q.room.waiting());
            assert_eq!(room, self.model.waiting(number));
        }
        let mut overdue: Vec<_> = self
            .rig
            .overdue()
            .iter()
            .map(|o| (o.at.job.id, o.cause))
            .collect();
        overdue.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(overdue, self.model.overdue(self.rig.now()));
        let holds = |(key, id): &(&String, &JobId)| self.model.jobs.get(id).is_some_and(|e| e.holds(key));
        let holders = self.model.holders.iter().filter(holds);
        assert_eq!(self.rig.engine.keys.len(), holders.count());
    }

    fn compare_one(&self, job: &Job, e: &Entry) {
        let over = e.state.is_final();
        assert_eq!(
            (job.state, job.fence, job.attempt),
            (e.state, e.fence, e.attempt),
            "{job:?}"
        );
        assert_eq!(
            (job.started, job.finished, job.run_at),
            (e.started, e.finished, e.run_at)
        );
        assert_eq!(job.max_attempts.unwrap_or(0), e.max_attempts);
        assert_eq!(
            job.lease_until,
            (!over && e.lease_until != FOREVER).then_some(e.lease_until)
        );
        assert_eq!((&job.waits, job.cancel_requested), (&e.waits, e.cancel));
        assert_eq!(
            (job.result.is_some(), job.payload.is_empty()),
            (e.result, e.state == State::Succeeded)
        );
        let history: Vec<_> = job
            .history
            .iter()
            .map(|a| (a.number, a.failure.is_some()))
            .collect();
        assert_eq!(history, e.history);
        let failed = e.history.last().is_some_and(|(_, failed)| *failed);
        assert_eq!(
            job.error.is_some(),
            e.state != State::Succeeded && (failed || e.ended_waiting)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 300 } else { 3000 },
        // A failure prints its steps, which say more than a seed in a file.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn it_is_the_contract(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
            pair.compare();
        }
    }
}
