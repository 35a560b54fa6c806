//! Random operations on an engine beside a model of one that is too simple to be wrong.
//!
//! The seed is printed when a run fails; `FOREBAY_SEED=<seed>` runs it again. What failed is shown as the
//! shortest list of operations found that still fails.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Make;
use super::stage::{Raw, Spec, again, waiting};
use crate::JobId;
use crate::engine::{Applied, Cause, Held, Inserted, JobRef, KindClaim};
use crate::job::State;
use crate::outcome::Transition;
use crate::panics::panic_text;
use crate::time::Timestamp;

/// The seed of this run: `FOREBAY_SEED`, or a new one.
pub(super) fn seed() -> u64 {
    let given = std::env::var("FOREBAY_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().hash_one(0u8),
        |text| text.trim().parse().expect("FOREBAY_SEED is a number"),
    );
    // Shown by the test's runner if the case fails.
    println!("replay with FOREBAY_SEED={seed}");
    seed
}

/// Numbers that a seed determines: splitmix64.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// One operation. Numbers choose among what is there, so that a list from which some were taken still means
/// something.
#[derive(Clone, Copy, Debug)]
enum Op {
    Insert {
        kind: u8,
        priority: i8,
        delay_ms: u64,
        deadline_ms: u64,
        timeout_ms: u64,
        key: u8,
        blocked: bool,
        capacity: u8,
    },
    Repeat {
        job: u16,
    },
    Claim {
        limit: u8,
        kinds: u8,
        lease_ms: u64,
    },
    End {
        job: u16,
        state: u8,
    },
    Again {
        job: u16,
        delay_ms: u64,
        refund: bool,
        keeps_place: bool,
    },
    Stale {
        job: u16,
        ahead: bool,
    },
    EndWaiting {
        job: u16,
        state: u8,
    },
    RequestCancel {
        job: u16,
    },
    Extend {
        job: u16,
        lease_ms: u64,
    },
    Signal {
        job: u16,
    },
    Advance {
        ms: u64,
    },
    Pause {
        paused: bool,
    },
}

fn op(dice: &mut Dice) -> Op {
    let job = dice.below(64) as u16;
    let sometimes = |dice: &mut Dice, n: u64| if dice.one_in(3) { 1 + dice.below(n) } else { 0 };
    match dice.below(24) {
        0..=6 => Op::Insert {
            kind: dice.below(2) as u8,
            priority: dice.below(3) as i8 - 1,
            delay_ms: sometimes(dice, 20),
            deadline_ms: sometimes(dice, 40),
            timeout_ms: sometimes(dice, 20),
            key: sometimes(dice, 6) as u8,
            blocked: dice.one_in(6),
            capacity: sometimes(dice, 12) as u8,
        },
        7 => Op::Repeat { job },
        8..=11 => Op::Claim {
            limit: dice.below(5) as u8,
            kinds: dice.below(4) as u8,
            lease_ms: sometimes(dice, 20),
        },
        12..=14 => Op::End {
            job,
            state: dice.below(4) as u8,
        },
        15..=16 => Op::Again {
            job,
            delay_ms: sometimes(dice, 20),
            refund: dice.one_in(3),
            keeps_place: dice.one_in(3),
        },
        17 => Op::Stale {
            job,
            ahead: dice.one_in(2),
        },
        18 => Op::EndWaiting {
            job,
            state: dice.below(4) as u8,
        },
        19 => Op::RequestCancel { job },
        20 => Op::Extend {
            job,
            lease_ms: 1 + dice.below(20),
        },
        21 => Op::Signal { job },
        22 => Op::Advance { ms: dice.below(15) },
        _ => Op::Pause {
            paused: dice.one_in(2),
        },
    }
}

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
    pushed: u64,
    run_at: Timestamp,
    until: Timestamp,
    timeout_at: Timestamp,
    cancel_requested: bool,
}

/// An engine of one queue, by search.
struct Model {
    raw: Raw,
    jobs: Vec<Modelled>,
    clock: u64,
    paused: bool,
    refused: u64,
    stale: u64,
}

const FINAL: [State; 4] = [State::Succeeded, State::Failed, State::Cancelled, State::Expired];

impl Model {
    fn new(make: Make<'_>) -> Self {
        let raw = Raw::new(make);
        raw.engine.names().kind("other").unwrap();
        Self {
            raw,
            jobs: Vec::new(),
            clock: 0,
            paused: false,
            refused: 0,
            stale: 0,
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
        job.ready = ready;
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Insert { .. } => self.insert(op),
            Op::Repeat { job } => {
                let Some(i) = self.at(job) else { return };
                let mut again = self.jobs[i].spec.clone();
                (again.capacity, again.waits) = (1, Vec::new());
                assert_eq!(self.raw.put(&[again]), [Inserted::Duplicate]);
            }
            Op::Claim {
                limit,
                kinds,
                lease_ms,
            } => self.claim(limit, kinds, lease_ms),
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
            ..self.raw.spec()
        };
        if key > 0 {
            // Three keys, two payloads.
            spec = spec.key(["a", "b", "c"][usize::from(key) % 3], u64::from(key % 2));
        }
        let want = self.fate(&spec);
        assert_eq!(self.raw.put(std::slice::from_ref(&spec)), [want]);
        self.refused += u64::from(matches!(want, Inserted::Full(_)));
        if want == Inserted::New {
            let pushed = self.next();
            self.jobs.push(Modelled {
                id: spec.id,
                state: State::Blocked,
                attempt: 0,
                fence: 0,
                ready: 0,
                pushed,
                run_at: spec.run_at,
                until: Timestamp::MAX,
                timeout_at: Timestamp::MAX,
                cancel_requested: false,
                spec,
            });
            if !blocked {
                self.wait(self.jobs.len() - 1, self.raw.in_(ms(delay_ms)));
            }
        }
    }

    /// What should become of an insert: the key is asked first, then the room.
    fn fate(&self, spec: &Spec) -> Inserted {
        let key = |spec: &Spec| spec.extras.as_ref().and_then(|e| e.key.clone());
        let print = |spec: &Spec| (spec.kind, spec.extras.as_ref().map(|e| e.fingerprint));
        if let Some(wanted) = key(spec) {
            let holder = self
                .jobs
                .iter()
                .rev()
                .find(|j| j.state != State::Cancelled && key(&j.spec).as_ref() == Some(&wanted));
            if let Some(holder) = holder {
                let same = print(&holder.spec) == print(spec);
                return if same {
                    Inserted::Keyed(holder.id)
                } else {
                    Inserted::Conflict(holder.id)
                };
            }
        }
        let waiting = self.jobs.iter().filter(|j| j.state.is_waiting()).count();
        if spec.capacity > 0 && waiting >= spec.capacity {
            Inserted::Full(waiting)
        } else {
            Inserted::New
        }
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
        let got = self
            .raw
            .claim_as(usize::from(limit), &mut [ask(first), ask(second)], lease);
        let mut left = [first, second];
        let mut ready: Vec<usize> = (0..self.jobs.len())
            .filter(|i| self.jobs[*i].state == State::Queued)
            .collect();
        ready.sort_by_key(|i| (-self.jobs[*i].spec.priority, self.jobs[*i].ready));
        let now = self.raw.now();
        let mut want = Vec::new();
        for i in ready {
            let allowance = &mut left[self.jobs[i].spec.kind.index()];
            let fits = *allowance > 0 && self.jobs[i].spec.deadline > now;
            if self.paused || !fits || want.len() == usize::from(limit) {
                continue;
            }
            *allowance -= 1;
            let job = &mut self.jobs[i];
            (job.state, job.attempt, job.fence) = (State::Running, job.attempt + 1, job.fence + 1);
            job.until = lease.map_or(Timestamp::MAX, |lease| now.after(lease));
            job.timeout_at = job
                .spec
                .timeout
                .map_or(Timestamp::MAX, |timeout| now.after(timeout));
            job.cancel_requested = false;
            want.push((job.id, job.fence, job.attempt, job.until.min(job.timeout_at)));
        }
        let got: Vec<_> = got
            .iter()
            .map(|c| (c.job.id, c.job.fence, c.attempt, c.due))
            .collect();
        assert_eq!(got, want, "what is claimed, in which order");
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
            (t.succeeded, t.failed, t.cancelled, t.expired),
            (
                of(State::Succeeded),
                of(State::Failed),
                of(State::Cancelled),
                of(State::Expired)
            )
        );
        assert_eq!(
            (t.pushed, t.refused, t.stale),
            (self.jobs.len() as u64, self.refused, self.stale)
        );
        assert!(counts.balanced());
    }
}

/// Why a list of operations fails, if it does.
fn failure(make: Make<'_>, ops: &[Op]) -> Option<String> {
    let run = || {
        let mut model = Model::new(make);
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
fn shrunk(make: Make<'_>, mut ops: Vec<Op>) -> Vec<Op> {
    let mut piece = ops.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut less = ops.clone();
            less.drain(at..(at + piece).min(ops.len()));
            match failure(make, &less) {
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
        let ops: Vec<Op> = (0..120).map(|_| op(&mut dice)).collect();
        if failure(make, &ops).is_some() {
            let ops = shrunk(make, ops);
            let mut text = String::new();
            for op in &ops {
                writeln!(text, "  {op:?}").unwrap();
            }
            let why = failure(make, &ops).unwrap_or_default();
            panic!("FOREBAY_SEED={seed}, round {round}: {why}\nafter\n{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_follow_their_seed() {
        let throw = |seed| {
            let mut dice = Dice::new(seed);
            (0..20).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
    }
}
