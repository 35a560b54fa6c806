//! Histories: random operations on the durable engine over a store that is simulated, with crashes, power
//! cuts and faults in between, checked against what was answered.
//!
//! There is no thread and no clock: every caller writes its own group. So a seed is a history, exactly. What
//! failed is shown as the shortest list of operations found that still fails.
//!
//! # Limit
//! The recovery of the simulation is its own: it reads rows and marks what ran, as `recovery` does with
//! SQLite. Nothing happens while a group is being written, and spilled jobs are not simulated.

mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use self::store::{Accident, SimFlight, SimStore, World};
use super::{DurableEngine, Settings};
use crate::durability::Durability;
use crate::engine::memory::MemoryEngine;
use crate::engine::{
    Applied, Batch, BatchReceipt, Claim, Claimed, Engine, Insert, Inserted, JobRef, KindClaim, Parcel,
};
use crate::error::ErrorKind;
use crate::id::JobId;
use crate::job::State;
use crate::names::{KindId, QueueId};
use crate::outcome::Transition;
use crate::payload::Payload;
use crate::time::Timestamp;

/// One operation. Numbers choose among what is there, so that a list from which some were taken still means
/// something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// Pushes so many jobs at this level.
    Push(u8, Durability),
    /// Claims a job, and forgets it: its worker is at it.
    Claim,
    /// The worker of a claimed job says that it is done; or that it wants to run again.
    End(u8, bool),
    /// The same, and pushes a follow-up in the same write.
    EndAndPush(u8, Durability),
    /// Everything so far is to be on disk.
    Flush,
    /// What nobody waits for is written.
    Write,
    /// The next write meets this.
    Fault(Accident),
    /// The process is killed and starts again.
    Kill,
    /// The power is cut.
    Cut(u8),
    /// It stops in order and starts again.
    Stop,
}

/// What histories did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Told {
    /// Histories and operations.
    pub histories: u64,
    /// Operations of all kinds.
    pub operations: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Stops in order.
    pub stops: u64,
    /// Writes that failed for want of room.
    pub full: u64,
    /// Writes that failed and were kept all the same.
    pub broken_kept: u64,
    /// Writes that failed and were not kept.
    pub broken_lost: u64,
}

/// Runs `count` histories from `seed` on.
///
/// # Errors
/// The shortest list of operations found that breaks a promise, and which promise.
pub fn histories(seed: u64, count: u64) -> Result<Told, String> {
    let mut told = Told::default();
    for number in 0..count {
        let ops = operations(&mut Dice(seed.wrapping_add(number)));
        told.histories += 1;
        told.operations += ops.len() as u64;
        if let Err(broken) = run(&ops, &mut told) {
            let (ops, broken) = shrink(ops, broken);
            let mut text = format!("history {number} of seed {seed}: {broken}\n");
            for op in ops {
                let _ = writeln!(text, "  {op:?}");
            }
            return Err(text);
        }
    }
    Ok(told)
}

/// Takes operations out as long as the rest still breaks a promise.
fn shrink(mut ops: Vec<Op>, mut broken: String) -> (Vec<Op>, String) {
    let mut piece = ops.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + piece).min(ops.len()));
            match run(&fewer, &mut Told::default()) {
                Err(text) => (ops, broken) = (fewer, text),
                Ok(()) => at += piece,
            }
        }
        piece /= 2;
    }
    (ops, broken)
}

/// Numbers that a seed determines: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % n
    }
}

fn operations(dice: &mut Dice) -> Vec<Op> {
    let len = 5 + dice.below(40);
    (0..len)
        .map(|_| {
            let level = Durability::ALL[dice.below(3) as usize];
            let pick = dice.below(8) as u8;
            match dice.below(20) {
                0..5 => Op::Push(1 + pick % 3, level),
                5..9 => Op::Claim,
                9..12 => Op::End(pick, pick.is_multiple_of(4)),
                12 => Op::EndAndPush(pick, level),
                13 => Op::Flush,
                14 => Op::Write,
                15 => Op::Fault(Accident::ALL[pick as usize % Accident::ALL.len()]),
                16 | 17 => Op::Kill,
                18 => Op::Cut(pick),
                _ => Op::Stop,
            }
        })
        .collect()
}

/// What is known of a job from the answers alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    level: Durability,
    /// Whether its push was answered well.
    acked: bool,
    /// Whether its push was refused.
    refused: bool,
    /// Whether an end for good was answered well.
    ended: bool,
    /// Whether that end must be there after a crash.
    closed: bool,
    /// After which crash.
    closed_at: Durability,
    /// The highest fence that a claim of it has shown.
    fence: u64,
    /// Whose follow-up it is.
    parent: Option<JobId>,
}

/// A history under way.
struct History {
    world: Arc<World>,
    engine: DurableEngine,
    names: (QueueId, KindId),
    known: BTreeMap<JobId, Known>,
    held: Vec<Claimed>,
    deaths: u64,
    now: Timestamp,
    /// Whether the store has failed, so that calls may.
    broken: bool,
}

fn run(ops: &[Op], told: &mut Told) -> Result<(), String> {
    let mut history = History::new();
    for op in ops {
        history.step(*op, told)?;
    }
    history.drain(told)
}

/// The engine, as it starts on what is in the store.
fn start(world: &Arc<World>, deaths: u64) -> (DurableEngine, (QueueId, KindId)) {
    let memory = MemoryEngine::journaled(1000, 0, Box::new(SimFlight(world.clone())));
    for (row, mut job) in world.load() {
        job.fence = job.fence.max(deaths << 20);
        assert!(
            memory.load(row, &job).expect("the names are good"),
            "an id is there once"
        );
    }
    let settings = Settings {
        keep_finished: 1000,
        write_behind: Duration::ZERO,
        resident: 0,
    };
    let engine = DurableEngine::simulated(memory, Box::new(SimStore(world.clone())), settings);
    let names = (
        engine.names().queue("q").expect("a valid name"),
        engine.names().kind("k").expect("a valid name"),
    );
    (engine, names)
}

impl History {
    fn new() -> Self {
        let world = Arc::new(World::default());
        let (engine, names) = start(&world, 0);
        Self {
            world,
            engine,
            names,
            known: BTreeMap::new(),
            held: Vec::new(),
            deaths: 0,
            now: Timestamp::from_micros(1_000_000),
            broken: false,
        }
    }

    fn step(&mut self, op: Op, told: &mut Told) -> Result<(), String> {
        self.now = self.now.after(Duration::from_millis(1));
        match op {
            Op::Push(count, level) => self.push(count, level),
            Op::Claim => self.claim(1),
            Op::End(which, again) => self.end(which, again),
            Op::EndAndPush(which, level) => self.end_and_push(which, level),
            Op::Flush => self.flush(),
            Op::Write => {
                self.engine.write_now();
                self.look();
                Ok(())
            }
            Op::Fault(accident) => {
                self.world.plan(accident);
                Ok(())
            }
            Op::Kill => {
                told.kills += 1;
                self.restart(told, None)
            }
            Op::Cut(luck) => {
                told.cuts += 1;
                self.restart(told, Some(luck))
            }
            Op::Stop => self.stop(told),
        }
    }

    fn push(&mut self, count: u8, level: Durability) -> Result<(), String> {
        let ids: Vec<JobId> = (0..count).map(|_| JobId::new(self.now)).collect();
        for id in &ids {
            self.learn(*id, level, None);
        }
        let payload = Payload::empty();
        let jobs: Vec<Insert<'_>> = ids.iter().map(|id| self.insert(*id, &payload, level)).collect();
        let mut receipt = Vec::new();
        let answer = self.engine.insert(&jobs, self.now, &mut receipt);
        self.look();
        match answer {
            Ok(()) => {
                for (id, inserted) in ids.iter().zip(&receipt) {
                    if *inserted != Inserted::New {
                        return Err(format!("a push was answered {inserted:?}"));
                    }
                    self.know(*id).acked = true;
                    self.must_be_stored(*id, level, "acknowledged")?;
                }
                Ok(())
            }
            Err(error) => {
                let unknown = error.kind() == ErrorKind::Unknown;
                for id in &ids {
                    self.know(*id).refused = !unknown;
                }
                self.failure(error.kind(), "push")
            }
        }
    }

    fn insert<'a>(&self, id: JobId, payload: &'a Payload, level: Durability) -> Insert<'a> {
        Insert {
            id,
            fresh: true,
            queue: self.names.0,
            kind: self.names.1,
            payload: Parcel::Shared(payload),
            priority: 0,
            run_at: self.now,
            max_attempts: 1_000,
            timeout: None,
            deadline: Timestamp::MAX,
            extras: None,
            waits: &[],
            capacity: 0,
            capacity_bytes: 0,
            undecided: false,
            resident: crate::engine::Resident::default(),
            shed: None,
            durability: level,
            restored: None,
        }
    }

    fn learn(&mut self, id: JobId, level: Durability, parent: Option<JobId>) {
        let known = Known {
            level,
            acked: false,
            refused: false,
            ended: false,
            closed: false,
            closed_at: Durability::Disk,
            fence: 0,
            parent,
        };
        self.known.insert(id, known);
    }

    fn know(&mut self, id: JobId) -> &mut Known {
        self.known
            .get_mut(&id)
            .expect("every job was learned of before it was pushed")
    }

    /// A call failed: it may if the disk is full, or once the store has.
    fn failure(&mut self, kind: ErrorKind, what: &str) -> Result<(), String> {
        let excused = match kind {
            ErrorKind::Full => self.world.was_full(),
            ErrorKind::Unknown | ErrorKind::Storage => self.broken || self.world.was_full(),
            _ => false,
        };
        if excused {
            Ok(())
        } else {
            Err(format!("{what} failed without a cause: {kind:?}"))
        }
    }

    /// Notes whether the store has failed by now.
    fn look(&mut self) {
        self.broken |= self.world.has_failed();
    }

    fn must_be_stored(&self, id: JobId, level: Durability, what: &str) -> Result<(), String> {
        let stored = match level {
            Durability::Memory => true,
            Durability::Os => self.world.written().contains(&id),
            Durability::Disk => self.world.synced().contains(&id),
        };
        if stored {
            Ok(())
        } else {
            Err(format!("a job was {what} at {level} and is not stored"))
        }
    }

    /// Claims up to `limit` jobs and checks that each may be given out.
    fn claim(&mut self, limit: usize) -> Result<(), String> {
        let (mut out, node) = (Vec::new(), Arc::from("here"));
        let mut kinds = vec![KindClaim::default(); self.names.1.index() + 1];
        kinds[self.names.1.index()] = KindClaim {
            allowance: u32::MAX,
            max_attempts: 1_000,
            timeout: None,
        };
        let mut claim = Claim {
            queue: self.names.0,
            kinds: &mut kinds,
            limit,
            lease: None,
            node: &node,
            worker: 1,
            keys: crate::engine::KeyLimits::default(),
            relays: false,
            out: &mut out,
        };
        let turned = self
            .engine
            .turn(&mut [], &mut Vec::new(), Some(&mut claim), self.now);
        if let Err(error) = turned {
            return self.failure(error.kind(), "claim");
        }
        for claimed in out {
            self.given_out(&claimed)?;
            self.held.push(claimed);
        }
        Ok(())
    }

    fn given_out(&mut self, claimed: &Claimed) -> Result<(), String> {
        let id = claimed.job.id;
        let Some(known) = self.known.get(&id).copied() else {
            return Err("a job was given out that nobody pushed".into());
        };
        let wrong = if known.refused {
            "was refused"
        } else if known.closed && known.ended {
            "had ended, and its end was stored"
        } else if self.held.iter().any(|held| held.job.id == id) {
            "was held"
        } else if claimed.job.fence <= known.fence {
            "had had that fence"
        } else {
            ""
        };
        if !wrong.is_empty() {
            return Err(format!("a job was given out that {wrong}"));
        }
        self.know(id).fence = claimed.job.fence;
        // Of the jobs that a batch pushed, those wait that are to be safe; what is at `memory` never waits.
        self.must_be_stored(id, known.level, "given out")
    }

    fn transition(&self, job: JobRef, again: bool) -> Transition {
        Transition {
            job,
            running: true,
            to: if again { State::Scheduled } else { State::Succeeded },
            delay: Duration::ZERO,
            refund: false,
            keeps_place: false,
            answers_cancel: true,
            result: (!again).then(Payload::empty),
            failure: None,
        }
    }

    /// Takes a job from the workers that hold one.
    fn take(&mut self, which: u8) -> Option<JobRef> {
        let len = self.held.len();
        (len > 0).then(|| self.held.swap_remove(usize::from(which) % len).job)
    }

    fn end(&mut self, which: u8, again: bool) -> Result<(), String> {
        let Some(job) = self.take(which) else {
            return Ok(());
        };
        let mut done = [self.transition(job, again)];
        if let Err(error) = self.engine.turn(&mut done, &mut Vec::new(), None, self.now) {
            return self.failure(error.kind(), "end");
        }
        self.know(job.id).ended = !again;
        Ok(())
    }

    fn end_and_push(&mut self, which: u8, level: Durability) -> Result<(), String> {
        let Some(job) = self.take(which) else {
            return Ok(());
        };
        let child = JobId::new(self.now);
        self.learn(child, level, Some(job.id));
        let payload = Payload::empty();
        let inserts = [self.insert(child, &payload, level)];
        let mut transitions = [self.transition(job, false)];
        let mut batch = Batch {
            inserts: &inserts,
            transitions: &mut transitions,
            signals: &[],
            durability: level,
        };
        let mut receipt = BatchReceipt::default();
        let answer = self.engine.commit(&mut batch, self.now, &mut receipt);
        self.look();
        match answer {
            Ok(()) if !receipt.applied => Err("a batch of a held job was not applied".into()),
            Ok(()) => {
                self.know(child).acked = true;
                let parent = self.know(job.id);
                parent.ended = true;
                if level > Durability::Memory {
                    (parent.closed, parent.closed_at) = (true, level);
                }
                self.must_be_stored(child, level, "acknowledged")
            }
            Err(error) => {
                // Whether it was kept shows later; the worker knows nothing more.
                self.know(job.id).ended = true;
                self.failure(error.kind(), "batch")
            }
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        let answer = self.engine.flush(Durability::Disk);
        self.look();
        if let Err(error) = answer {
            return self.failure(error.kind(), "flush");
        }
        let pending: Vec<JobId> = self
            .known
            .iter()
            .filter(|(_, k)| k.acked && !k.ended)
            .map(|(id, _)| *id)
            .collect();
        for id in pending {
            self.must_be_stored(id, Durability::Disk, "flushed")?;
            // From now on it is promised, whatever was asked for.
            self.know(id).level = Durability::Disk;
        }
        for known in self.known.values_mut().filter(|known| known.ended && known.acked) {
            (known.closed, known.closed_at) = (true, Durability::Disk);
        }
        Ok(())
    }

    fn stop(&mut self, told: &mut Told) -> Result<(), String> {
        told.stops += 1;
        let held = std::mem::take(&mut self.held);
        for claimed in held {
            let mut back = [self.transition(claimed.job, true)];
            let _ = self.engine.turn(&mut back, &mut Vec::new(), None, self.now);
        }
        let stopped = self.engine.stop_now();
        self.look();
        match stopped {
            Ok(()) => {
                for known in self.known.values_mut().filter(|known| known.acked) {
                    (known.level, known.closed_at) = (Durability::Disk, Durability::Disk);
                    known.closed |= known.ended;
                }
            }
            Err(error) => self.failure(error.kind(), "stop")?,
        }
        self.restart(told, None)
    }

    /// The process is gone, and with it all that is not in the store; after a power cut, more than that.
    fn restart(&mut self, told: &mut Told, cut: Option<u8>) -> Result<(), String> {
        self.world.die(cut, told);
        self.held.clear();
        self.broken = false;
        self.deaths += 1;
        (self.engine, self.names) = start(&self.world, self.deaths);
        let survives = if cut.is_some() {
            Durability::Disk
        } else {
            Durability::Os
        };
        let there = self.world.written();
        for (id, known) in &mut self.known {
            let promised = known.acked && known.level >= survives;
            let has_ended = self.world.has_ended(*id);
            if promised && !known.ended && !there.contains(id) {
                return Err(format!("a job at {} was lost", known.level));
            }
            if known.closed && known.closed_at >= survives && there.contains(id) && !has_ended {
                return Err("an end that was stored was lost".into());
            }
            // From here on the store is all there is.
            known.ended = has_ended;
            known.closed &= has_ended;
            if !there.contains(id) {
                (known.acked, known.refused) = (false, true);
            }
        }
        self.families(&there)?;
        self.recover()
    }

    /// Jobs that ran when their process died wait for a decision: each runs again.
    fn recover(&mut self) -> Result<(), String> {
        let mut overdue = Vec::new();
        let found = self.engine.expired(usize::MAX, self.now, &mut overdue);
        found.map_err(|error| format!("cannot find what crashed: {error:?}"))?;
        let mut back: Vec<Transition> = overdue
            .iter()
            .map(|it| self.transition(it.at.job, true))
            .collect();
        let mut applied = Vec::new();
        let turned = self.engine.turn(&mut back, &mut applied, None, self.now);
        turned.map_err(|error| format!("cannot hand back what crashed: {error:?}"))?;
        match applied.iter().all(|it| *it == Applied::Yes) {
            true => Ok(()),
            false => Err("what crashed is not handed back".into()),
        }
    }

    /// A follow-up is there if its parent's end is, whatever was answered.
    fn families(&mut self, there: &BTreeSet<JobId>) -> Result<(), String> {
        for (id, known) in &mut self.known {
            let Some(parent) = known.parent else { continue };
            if !self.world.has_ended(parent) {
                // It runs again, and another end of it will have nothing to do with this job.
                known.parent = None;
            } else if !there.contains(id) {
                return Err("a parent has ended, and its follow-up is lost".into());
            }
        }
        Ok(())
    }

    /// Starts once more on a sound store and runs all that is there: what was promised is among it.
    fn drain(&mut self, told: &mut Told) -> Result<(), String> {
        told.kills += 1;
        self.restart(told, None)?;
        self.recover()?;
        self.claim(usize::MAX)?;
        let there: BTreeSet<JobId> = self.held.iter().map(|claimed| claimed.job.id).collect();
        for (id, known) in &self.known {
            let promised = known.acked && known.level >= Durability::Os && !known.ended;
            if promised && !there.contains(id) {
                return Err(format!("a job at {} is never given out", known.level));
            }
        }
        Ok(())
    }
}
