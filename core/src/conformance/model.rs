//! Random operations on an engine beside a model of one that is too simple to be wrong.
//!
//! The seed is printed when a run fails; `FOREBAY_SEED=<seed>` runs it again. What failed is shown as the
//! shortest list of operations found that still fails.

mod op;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Make;
use super::dice::{Dice, seed};
use super::stage::{Raw, Spec, again, waiting};
use crate::JobId;
use crate::engine::{Applied, Cause, Held, Inserted, JobRef, KeyLimits, KindClaim, Victim};
use crate::job::{Extras, State};
use crate::outcome::{ShedReason, Transition};
use crate::panics::panic_text;
use crate::payload::Payload;
use crate::time::Timestamp;
use op::Op;

/// A job as the model sees it.
#[derive(Clone, Debug)]
struct Modelled {
    id: JobId,
    spec: Spec,
    state: State,
    attempt: u32,
    fence: u64,
    /// When it became ready: its place among equal priorities.
    ready: u64,
    /// Since when it was.
    since: Timestamp,
    pushed: u64,
    run_at: Timestamp,
    until: Timestamp,
    timeout_at: Timestamp,
    cancel_requested: bool,
}

impl Modelled {
    /// Its concurrency key.
    fn flow(&self) -> Option<&str> {
        self.spec.extras.as_ref()?.concurrency_key.as_deref()
    }
}

/// An engine of one queue, by search.
struct Model {
    raw: Raw,
    jobs: Vec<Modelled>,
    clock: u64,
    paused: bool,
    refused: u64,
    stale: u64,
    /// Whether anybody has bounded the bytes.
    weighed: bool,
    /// How many jobs of one concurrency key may run; 0 for any number.
    running: u32,
    /// The limits of single ones.
    limits: [Option<u32>; 3],
}

const FLOWS: [&str; 3] = ["x", "y", "z"];

const FINAL: [State; 4] = [State::Succeeded, State::Failed, State::Cancelled, State::Expired];

impl Model {
    fn new(make: Make<'_>, running: u32) -> Self {
        let raw = Raw::new(make);
        raw.engine.names().kind("other").unwrap();
        Self {
            raw,
            jobs: Vec::new(),
            clock: 0,
            paused: false,
            refused: 0,
            stale: 0,
            weighed: false,
            running,
            limits: [None; 3],
        }
    }

    fn next(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn at(&self, job: u16) -> Option<usize> {
        (!self.jobs.is_empty()).then(|| usize::from(job) % self.jobs.len())
    }

    /// The `job`-th of those in a state.
    fn nth(&self, job: u16, fits: impl Fn(&Modelled) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.jobs.len()).filter(|i| fits(&self.jobs[*i])).collect();
        (!fitting.is_empty()).then(|| fitting[usize::from(job) % fitting.len()])
    }

    fn job_ref(&self, i: usize) -> JobRef {
        self.raw.at(self.jobs[i].id).job
    }

    /// Makes a job wait for its time, or its turn.
    fn wait(&mut self, i: usize, run_at: Timestamp) {
        let (ready, now) = (self.next(), self.raw.now());
        let job = &mut self.jobs[i];
        job.run_at = run_at;
        job.state = if run_at > now {
            State::Scheduled
        } else {
            State::Queued
        };
        (job.ready, job.since) = (ready, run_at.max(now));
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Insert { .. } => self.insert(op),
            Op::Repeat { job } => {
                let Some(i) = self.at(job) else { return };
                let mut again = self.jobs[i].spec.clone();
                (again.capacity, again.waits) = (1, Vec::new());
                again.shed = None;
                assert_eq!(self.raw.put(&[again]), [Inserted::Duplicate]);
            }
            Op::Claim {
                limit,
                kinds,
                lease_ms,
            } => self.claim(limit, kinds, lease_ms),
            Op::Limit { flow, limit } => self.limit(usize::from(flow), u32::from(limit)),
            Op::Evict { whom } => self.evict(whom),
            Op::End { job, state } => {
                let Some(i) = self.nth(job, |j| j.state == State::Running) else {
                    return;
                };
                let state = FINAL[usize::from(state)];
                let refused = self.jobs[i].cancel_requested && state != State::Cancelled;
                let want = if refused {
                    Applied::CancelRequested
                } else {
                    Applied::Yes
                };
                assert_eq!(self.raw.end(self.job_ref(i), state), want);
                if !refused {
                    self.jobs[i].state = state;
                }
            }
            Op::Again {
                job,
                delay_ms,
                refund,
                keeps_place,
            } => {
                let Some(i) = self.nth(job, |j| j.state == State::Running) else {
                    return;
                };
                let delay = Duration::from_millis(delay_ms);
                let refused = self.jobs[i].cancel_requested;
                let want = if refused {
                    Applied::CancelRequested
                } else {
                    Applied::Yes
                };
                let transition = Transition {
                    refund,
                    keeps_place,
                    ..again(self.job_ref(i), delay)
                };
                assert_eq!(self.raw.apply(transition), want);
                if !refused {
                    self.jobs[i].attempt -= u32::from(refund);
                    if keeps_place {
                        self.jobs[i].state = State::Queued;
                    } else {
                        self.wait(i, self.raw.in_(delay));
                    }
                }
            }
            Op::Stale { job, ahead } => {
                let Some(i) = self.at(job) else { return };
                let here = self.job_ref(i);
                let fence = if ahead {
                    here.fence + 1
                } else {
                    here.fence.wrapping_sub(1)
                };
                let elsewhere = JobRef { fence, ..here };
                assert_eq!(self.raw.end(elsewhere, State::Succeeded), Applied::Stale);
                assert!(!self.raw.engine.request_cancel(elsewhere).unwrap());
                self.stale += 1;
            }
            Op::EndWaiting { job, state } => {
                let Some(i) = self.nth(job, |j| j.state.is_waiting()) else {
                    return;
                };
                let state = FINAL[usize::from(state)];
                assert_eq!(self.raw.apply(waiting(self.job_ref(i), state)), Applied::Yes);
                self.jobs[i].state = state;
            }
            Op::RequestCancel { job } => {
                let Some(i) = self.at(job) else { return };
                let runs = self.jobs[i].state == State::Running;
                assert_eq!(self.raw.engine.request_cancel(self.job_ref(i)).unwrap(), runs);
                self.jobs[i].cancel_requested |= runs;
            }
            Op::Extend { job, lease_ms } => {
                let Some(i) = self.at(job) else { return };
                let (lease, mut held) = (Duration::from_millis(lease_ms), Vec::new());
                self.raw
                    .engine
                    .extend(&[self.job_ref(i)], lease, self.raw.now(), &mut held)
                    .unwrap();
                let until = self.raw.in_(lease);
                let job = &mut self.jobs[i];
                let want = match (job.state == State::Running, job.cancel_requested) {
                    (false, _) => Held::Lost,
                    (true, true) => Held::CancelRequested,
                    (true, false) => Held::Yes,
                };
                assert_eq!(held, [want]);
                if want != Held::Lost {
                    job.until = until;
                }
            }
            Op::Signal { job } => {
                let Some(i) = self.at(job) else { return };
                self.raw.signal(self.jobs[i].id, "token");
                if self.jobs[i].state == State::Blocked {
                    self.wait(i, self.jobs[i].run_at);
                }
            }
            Op::Advance { ms } => self.advance(ms),
            Op::Pause { paused } => {
                self.raw.engine.set_paused(self.raw.queue, paused).unwrap();
                self.paused = paused;
            }
        }
    }

    fn insert(&mut self, op: Op) {
        let Op::Insert {
            kind,
            priority,
            delay_ms,
            deadline_ms,
            timeout_ms,
            key,
            blocked,
            capacity,
            flow,
            bytes,
            most,
            shed,
        } = op
        else {
            return;
        };
        let kind = self
            .raw
            .engine
            .names()
            .kind(["k", "other"][usize::from(kind)])
            .unwrap();
        let ms = Duration::from_millis;
        let mut spec = Spec {
            kind,
            priority,
            run_at: self.raw.in_(ms(delay_ms)),
            deadline: if deadline_ms == 0 {
                Timestamp::MAX
            } else {
                self.raw.in_(ms(deadline_ms))
            },
            timeout: (timeout_ms > 0).then_some(ms(timeout_ms)),
            waits: if blocked { vec!["token".into()] } else { Vec::new() },
            capacity: usize::from(capacity),
            payload: Payload::from(vec![1; usize::from(bytes)]),
            shed: shed.then_some(ShedReason::Newest),
            ..self.raw.spec()
        };
        let can = self.raw.engine.capabilities();
        if can.weighs {
            spec.capacity_bytes = usize::from(most);
            self.weighed |= most > 0;
        }
        let mut extras = Extras::default();
        if key > 0 {
            // Three keys, two payloads.
            extras.key = Some(["a", "b", "c"][usize::from(key) % 3].into());
            extras.fingerprint = u64::from(key % 2);
        }
        if flow > 0 && can.keys {
            extras.concurrency_key = Some(FLOWS[usize::from(flow) % 3].into());
        }
        if key > 0 || extras.concurrency_key.is_some() {
            spec.extras = Some(Arc::new(extras));
        }
        let wants = self.fates(&spec);
        let got = self.raw.put(std::slice::from_ref(&spec))[0];
        assert!(wants.contains(&got), "{got:?} is none of {wants:?}");
        self.refused += u64::from(matches!(got, Inserted::Full(_) | Inserted::FullBytes(_)));
        if got == Inserted::New {
            let pushed = self.next();
            self.jobs.push(Modelled {
                id: spec.id,
                state: if shed { State::Shed } else { State::Blocked },
                attempt: 0,
                fence: 0,
                ready: 0,
                since: Timestamp::EPOCH,
                pushed,
                run_at: spec.run_at,
                until: Timestamp::MAX,
                timeout_at: Timestamp::MAX,
                cancel_requested: false,
                spec,
            });
            if !blocked && !shed {
                self.wait(self.jobs.len() - 1, self.raw.in_(ms(delay_ms)));
            }
        }
    }

    /// What may become of an insert: the key is asked first, then the room. Where there is too much of both, either
    /// may be told.
    fn fates(&self, spec: &Spec) -> Vec<Inserted> {
        let key = |spec: &Spec| spec.extras.as_ref().and_then(|e| e.key.clone());
        let print = |spec: &Spec| (spec.kind, spec.extras.as_ref().map(|e| e.fingerprint));
        let frees = |state| matches!(state, State::Cancelled | State::Shed);
        if let Some(wanted) = key(spec) {
            let holder = self
                .jobs
                .iter()
                .rev()
                .find(|j| !frees(j.state) && key(&j.spec).as_ref() == Some(&wanted));
            if let Some(holder) = holder {
                let same = print(&holder.spec) == print(spec);
                return vec![if same {
                    Inserted::Keyed(holder.id)
                } else {
                    Inserted::Conflict(holder.id)
                }];
            }
        }
        let (waiting, bytes) = self.load();
        let mut refusals = Vec::new();
        if spec.shed.is_none() && spec.capacity > 0 && waiting >= spec.capacity {
            refusals.push(Inserted::Full(waiting));
        }
        let more = bytes + spec.payload.len().unwrap_or(0);
        if spec.shed.is_none() && spec.capacity_bytes > 0 && more > spec.capacity_bytes {
            refusals.push(Inserted::FullBytes(bytes));
        }
        if refusals.is_empty() {
            refusals.push(Inserted::New);
        }
        refusals
    }

    /// How many jobs wait, and the bytes of their payloads.
    fn load(&self) -> (usize, usize) {
        let waiting = self.jobs.iter().filter(|j| j.state.is_waiting());
        let bytes = waiting.clone().map(|j| j.spec.payload.len().unwrap_or(0));
        (waiting.count(), bytes.sum())
    }

    fn evict(&mut self, whom: u8) {
        let can = self.raw.engine.capabilities();
        let below = whom as i8 - 4;
        let (victim, reason) = match whom {
            0..3 => (Victim::Oldest, ShedReason::Oldest),
            3..8 => (Victim::Lowest { below }, ShedReason::Lowest),
            _ if !can.keys => return,
            _ => (Victim::OfKey(FLOWS[usize::from(whom) % 3]), ShedReason::Coalesced),
        };
        if !can.evicts {
            return;
        }
        let shed = self
            .raw
            .engine
            .evict(self.raw.queue, victim, reason, self.raw.now());
        let shed = shed.unwrap().map(|at| at.job.id);
        // One whose deadline has passed while it was queued may have been taken out of the line by then.
        let (now, taken) = (self.raw.now(), shed);
        let fits = self.victims(victim, |job| job.spec.deadline > now || Some(job.id) == taken);
        match shed.and_then(|id| self.jobs.iter().position(|j| j.id == id)) {
            None => assert!(
                shed.is_none() && fits.is_empty(),
                "{victim:?}: {shed:?} of {fits:?}"
            ),
            Some(i) => {
                assert!(fits.contains(&i), "{victim:?}: {i} of {fits:?}");
                self.jobs[i].state = State::Shed;
            }
        }
    }

    /// Gives one key a limit of its own: 0 to 3, or none.
    fn limit(&mut self, flow: usize, limit: u32) {
        if self.raw.engine.capabilities().keys {
            let limit = (limit < 4).then_some(limit);
            let of = self.raw.engine.limit_key(self.raw.queue, FLOWS[flow], limit);
            of.unwrap();
            self.limits[flow] = limit;
        }
    }

    /// Which queued jobs may be taken to make room, by their number.
    fn victims(&self, victim: Victim<'_>, stands: impl Fn(&Modelled) -> bool) -> Vec<usize> {
        let queued = || {
            let there = |job: &Modelled| job.state == State::Queued && stands(job);
            (0..self.jobs.len()).filter(move |i| there(&self.jobs[*i]))
        };
        // Only the first of its priority; of those with a key the first of its flow, where each kind has its own
        // unless the key itself is asked for.
        let first = |i: &usize| {
            let job = &self.jobs[*i];
            let alike = |j: &Modelled| {
                let kinds = j.flow().is_none() || victim == Victim::OfKey(j.flow().unwrap_or_default());
                let line = j.flow() == job.flow() && j.spec.priority == job.spec.priority;
                line && (kinds || j.spec.kind == job.spec.kind)
            };
            !queued().any(|o| alike(&self.jobs[o]) && self.jobs[o].ready < job.ready)
        };
        let all = queued().filter(first);
        match victim {
            Victim::Oldest if self.has_flows() => all.collect(),
            Victim::Oldest => {
                let oldest = queued().map(|i| self.jobs[i].since).min();
                all.filter(|i| Some(self.jobs[*i].since) == oldest).collect()
            }
            Victim::Lowest { below } => {
                let lowest = queued().map(|i| self.jobs[i].spec.priority).min();
                let lowest = lowest.filter(|priority| *priority < below);
                all.filter(|i| Some(self.jobs[*i].spec.priority) == lowest)
                    .collect()
            }
            Victim::OfKey(key) => all.filter(|i| self.jobs[*i].flow() == Some(key)).collect(),
        }
    }

    fn has_flows(&self) -> bool {
        self.jobs.iter().any(|job| job.flow().is_some())
    }

    fn claim(&mut self, limit: u8, kinds: u8, lease_ms: u64) {
        let lease = (lease_ms > 0).then(|| Duration::from_millis(lease_ms));
        // Of the first kind any number, one or none; of the second any number or none.
        let first = [u32::MAX, 1, 0, u32::MAX][usize::from(kinds)];
        let second = if kinds == 3 { 0 } else { u32::MAX };
        let ask = |allowance| KindClaim {
            allowance,
            max_attempts: 5,
            timeout: None,
        };
        let (mut asked, keys) = (
            [ask(first), ask(second)],
            KeyLimits {
                running: self.running,
                rate: None,
            },
        );
        let got = self
            .raw
            .claim_for((usize::from(limit), lease), &mut asked, (keys, false));
        let (mut left, now) = ([first, second], self.raw.now());
        for claimed in &got {
            let next = self.claimable(&left);
            let i = next.iter().copied().find(|i| self.jobs[*i].id == claimed.job.id);
            let i = i.unwrap_or_else(|| panic!("{:?} is none of {next:?}", claimed.job));
            left[self.jobs[i].spec.kind.index()] -= 1;
            let job = &mut self.jobs[i];
            (job.state, job.attempt, job.fence) = (State::Running, job.attempt + 1, job.fence + 1);
            job.until = lease.map_or(Timestamp::MAX, |lease| now.after(lease));
            job.timeout_at = job
                .spec
                .timeout
                .map_or(Timestamp::MAX, |timeout| now.after(timeout));
            job.cancel_requested = false;
            let told = (claimed.job.fence, claimed.attempt, claimed.due, claimed.ready);
            let want = (job.fence, job.attempt, job.until.min(job.timeout_at), job.since);
            assert_eq!(told, want, "what is claimed");
        }
        let more = self.claimable(&left);
        assert!(
            got.len() == usize::from(limit) || more.is_empty(),
            "{more:?} is left"
        );
    }

    /// Which jobs may be claimed next, by their number: the first of the highest priority; of those of one key the
    /// first, whichever key's turn it is.
    fn claimable(&self, left: &[u32; 2]) -> Vec<usize> {
        let now = self.raw.now();
        let of_key = |key: &str| {
            let runs = |j: &&Modelled| j.state == State::Running && j.flow() == Some(key);
            self.jobs.iter().filter(runs).count() as u32
        };
        let limit = |key: &str| {
            let own = FLOWS.iter().position(|flow| *flow == key);
            let all = if self.running == 0 { u32::MAX } else { self.running };
            own.and_then(|flow| self.limits[flow]).unwrap_or(all)
        };
        let may = |key: Option<&str>| key.is_none_or(|key| of_key(key) < limit(key));
        let fits = |j: &Modelled| {
            let asked = left[j.spec.kind.index()] > 0 && j.spec.deadline > now;
            !self.paused && j.state == State::Queued && asked && may(j.flow())
        };
        let fitting: Vec<usize> = (0..self.jobs.len()).filter(|i| fits(&self.jobs[*i])).collect();
        let highest = fitting.iter().map(|i| self.jobs[*i].spec.priority).max();
        let of_it = |i: &usize| Some(self.jobs[*i].spec.priority) == highest;
        let fitting: Vec<usize> = fitting.into_iter().filter(of_it).collect();
        let first = |i: &usize| {
            let job = &self.jobs[*i];
            let mut flow = fitting.iter().filter(|o| self.jobs[**o].flow() == job.flow());
            flow.all(|o| self.jobs[*o].ready >= job.ready)
        };
        fitting.iter().copied().filter(first).collect()
    }

    fn advance(&mut self, ms: u64) {
        self.raw.advance(Duration::from_millis(ms));
        let now = self.raw.now();
        let mut due: Vec<usize> = (0..self.jobs.len())
            .filter(|i| self.jobs[*i].state == State::Scheduled && self.jobs[*i].run_at <= now)
            .collect();
        due.sort_by_key(|i| (self.jobs[*i].run_at, self.jobs[*i].ready));
        for i in &due {
            let ready = self.next();
            (self.jobs[*i].state, self.jobs[*i].ready) = (State::Queued, ready);
            self.jobs[*i].since = self.jobs[*i].run_at;
        }
        let tick = self.raw.tick();
        assert_eq!(tick.promoted, due.len());
        let next = |job: &Modelled| match job.state {
            State::Running => job.until.min(job.timeout_at),
            State::Scheduled => job.run_at.min(job.spec.deadline),
            s if s.is_waiting() => job.spec.deadline,
            _ => Timestamp::MAX,
        };
        let next = self.jobs.iter().map(next).min().unwrap_or(Timestamp::MAX);
        assert!(tick.next <= next, "{:?} is later than {next:?}", tick.next);
    }

    /// Compares everything.
    fn check(&self) {
        let now = self.raw.now();
        let mut overdue = Vec::new();
        for job in &self.jobs {
            let at = self.raw.at(job.id);
            assert_eq!(
                (at.state, at.attempt, at.job.fence),
                (job.state, job.attempt, job.fence),
                "where job {} stands",
                job.pushed
            );
            assert_eq!(
                at.cancel_requested,
                job.cancel_requested && job.state == State::Running
            );
            let end = job.until.min(job.timeout_at);
            if job.state == State::Running && end <= now {
                let cause = if job.timeout_at <= job.until {
                    Cause::Timeout
                } else {
                    Cause::Lease
                };
                overdue.push((job.id, cause));
            }
            if job.state.is_waiting() && job.spec.deadline <= now {
                overdue.push((job.id, Cause::Deadline));
            }
        }
        let mut found = self.raw.causes();
        found.sort_unstable_by_key(|(id, _)| *id);
        overdue.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(found, overdue, "what is overdue");
        let (counts, of) = (self.raw.counts(), |s: State| {
            self.jobs.iter().filter(|j| j.state == s).count() as u64
        });
        assert_eq!(
            (counts.blocked, counts.scheduled, counts.queued, counts.running),
            (
                of(State::Blocked),
                of(State::Scheduled),
                of(State::Queued),
                of(State::Running)
            )
        );
        let t = counts.totals;
        assert_eq!(
            (t.succeeded, t.failed, t.cancelled, t.expired, t.shed()),
            (
                of(State::Succeeded),
                of(State::Failed),
                of(State::Cancelled),
                of(State::Expired),
                of(State::Shed)
            )
        );
        assert_eq!(
            (t.pushed, t.refused, t.stale),
            (self.jobs.len() as u64, self.refused, self.stale)
        );
        assert!(counts.balanced());
        let (load, want) = (self.raw.engine.load(self.raw.queue).unwrap(), self.load());
        assert_eq!(load.jobs, want.0, "how many wait");
        if self.weighed {
            assert_eq!(load.bytes, want.1, "how many bytes wait");
        }
    }
}

/// Why a list of operations fails, if it does.
fn failure(make: Make<'_>, running: u32, ops: &[Op]) -> Option<String> {
    let run = || {
        let mut model = Model::new(make, running);
        for op in ops {
            model.step(*op);
            model.check();
        }
    };
    catch_unwind(AssertUnwindSafe(run))
        .err()
        .map(|panic| panic_text(panic.as_ref()).into_owned())
}

/// The shortest list found that still fails: takes pieces away, ever smaller ones, while it does.
fn shrunk(make: Make<'_>, running: u32, mut ops: Vec<Op>) -> Vec<Op> {
    let mut piece = ops.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut less = ops.clone();
            less.drain(at..(at + piece).min(ops.len()));
            match failure(make, running, &less) {
                Some(_) => ops = less,
                None => at += piece,
            }
        }
        piece /= 2;
    }
    ops
}

/// An engine does what the model does, operation by operation, on random lists of them.
pub fn the_engine_follows_the_model(make: Make<'_>) {
    let seed = seed();
    for round in 0..60 {
        let mut dice = Dice::new(seed.wrapping_add(round));
        // So many jobs of one concurrency key at once.
        let running = (round % 3) as u32;
        let ops: Vec<Op> = (0..120).map(|_| op::random(&mut dice)).collect();
        if failure(make, running, &ops).is_some() {
            let ops = shrunk(make, running, ops);
            let mut text = String::new();
            for op in &ops {
                writeln!(text, "  {op:?}").unwrap();
            }
            let why = failure(make, running, &ops).unwrap_or_default();
            panic!("FOREBAY_SEED={seed}, round {round}: {why}\nafter\n{text}");
        }
    }
}
