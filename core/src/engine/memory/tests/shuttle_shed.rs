//! Pushes, evictions and claims under random schedules, on the engine itself: its locks and the counts of a room
//! are what gives way to another thread.

use std::time::Duration;

use shuttle::Runner;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Arc;
use shuttle::thread;

use crate::durability::Durability;
use crate::engine::memory::MemoryEngine;
use crate::engine::{
    Claim, Claimed, Engine, Insert, Inserted, KeyLimits, KindClaim, Parcel, Resident, Victim,
};
use crate::id::JobId;
use crate::job::State;
use crate::names::{KindId, QueueId};
use crate::outcome::ShedReason;
use crate::payload::Payload;
use crate::time::{Deadline, Timestamp};

const Q: QueueId = QueueId(0);
const NOW: Timestamp = Timestamp::EPOCH;
/// Few, since an engine is much to make.
const ROUNDS: usize = 600;

/// An engine with one queue of this capacity, in jobs and in bytes.
#[derive(Clone)]
struct Stage {
    engine: Arc<MemoryEngine>,
    capacity: (usize, usize),
}

impl Stage {
    fn new(jobs: usize, bytes: usize) -> Self {
        let engine = MemoryEngine::new(100);
        engine.names().queue("q").unwrap();
        engine.names().kind("k").unwrap();
        Self {
            engine: Arc::new(engine),
            capacity: (jobs, bytes),
        }
    }

    fn push(&self, n: u128, bytes: usize) -> Inserted {
        let payload = Payload::from(vec![0; bytes]);
        let job = Insert {
            id: JobId::from_u128(n),
            fresh: true,
            queue: Q,
            kind: KindId(0),
            payload: Parcel::Shared(&payload),
            priority: 0,
            run_at: NOW,
            max_attempts: 1,
            timeout: None,
            deadline: Timestamp::MAX,
            extras: None,
            waits: &[],
            capacity: self.capacity.0,
            capacity_bytes: self.capacity.1,
            undecided: false,
            resident: Resident::default(),
            shed: None,
            durability: Durability::Memory,
            restored: None,
        };
        let mut receipt = Vec::new();
        self.engine.insert(&[job], NOW, &mut receipt).unwrap();
        receipt[0]
    }

    fn evict(&self) -> Option<JobId> {
        let shed = self.engine.evict(Q, Victim::Oldest, ShedReason::Oldest, NOW);
        shed.unwrap().map(|at| at.job.id)
    }

    fn claim(&self, limit: usize) -> Vec<JobId> {
        let (mut out, node) = (Vec::<Claimed>::new(), "here".into());
        let mut kinds = [KindClaim {
            allowance: u32::MAX,
            max_attempts: 1,
            timeout: None,
        }];
        let mut claim = Claim {
            queue: Q,
            kinds: &mut kinds,
            limit,
            lease: None::<Duration>,
            node: &node,
            worker: 1,
            keys: KeyLimits::default(),
            relays: false,
            out: &mut out,
        };
        self.engine
            .turn(&mut [], &mut Vec::new(), Some(&mut claim), NOW)
            .unwrap();
        out.iter().map(|claimed| claimed.job.id).collect()
    }

    /// As of one instant: what waits keeps to the bounds, and every job is somewhere.
    fn check(&self) {
        let counts = self.engine.counts().unwrap().remove(0);
        assert!(counts.balanced(), "{counts:?}");
        assert!(counts.waiting() <= self.capacity.0 as u64, "{counts:?}");
    }

    fn state(&self, n: u128) -> State {
        let job = self.engine.get(JobId::from_u128(n)).unwrap();
        job.expect("every job is kept").state
    }
}

fn explore(model: impl Fn() + Send + Sync + Clone + 'static, rounds: usize) {
    let mut config = shuttle::Config::new();
    // An engine is made on the stack before it goes where it stays.
    config.stack_size = 1 << 20;
    let random = RandomScheduler::new(rounds);
    Runner::new(random, config.clone()).run(model.clone());
    Runner::new(PctScheduler::new(3, rounds), config).run(model);
}

/// Two pushers that make room where there is none, a claimer, and one who looks.
fn one_or_the_other() {
    let stage = Stage::new(1, 5);
    let pushers: Vec<_> = (1..=2)
        .map(|n| {
            let stage = stage.clone();
            thread::spawn(move || {
                let mut shed = Vec::new();
                while stage.push(n, 5) != Inserted::New {
                    shed.extend(stage.evict());
                    thread::yield_now();
                }
                shed
            })
        })
        .collect();
    let (claiming, looking) = (stage.clone(), stage.clone());
    let claimer = thread::spawn(move || [claiming.claim(1), claiming.claim(2)].concat());
    let looker = thread::spawn(move || looking.check());
    let shed: Vec<JobId> = pushers.into_iter().flat_map(|p| p.join().unwrap()).collect();
    let ran = claimer.join().unwrap();
    looker.join().unwrap();
    stage.check();
    for n in 1..=2 {
        let times = |ids: &[JobId]| ids.iter().filter(|id| id.as_u128() == n).count();
        let fate = match (times(&shed), times(&ran)) {
            (1, 0) => State::Shed,
            (0, 1) => State::Running,
            (0, 0) => State::Queued,
            other => panic!("job {n} was shed and run so often: {other:?}"),
        };
        assert_eq!(stage.state(n), fate);
    }
}

#[test]
fn an_evicted_job_never_runs_and_the_bound_holds() {
    explore(one_or_the_other, ROUNDS);
}

/// Two who wait for room, in jobs or in bytes, and one who makes it: for both, since half of it is enough for each.
fn room_is_noticed(evicts: bool) {
    let stage = Stage::new(2, 10);
    assert_eq!(stage.push(1, 10), Inserted::New);
    let waiters: Vec<_> = (2..=3)
        .map(|n| {
            let stage = stage.clone();
            thread::spawn(move || {
                loop {
                    let listener = stage.engine.signals().space.listen();
                    if stage.push(n, 5) == Inserted::New {
                        break;
                    }
                    listener.wait(Deadline::NEVER);
                }
            })
        })
        .collect();
    let maker = {
        let stage = stage.clone();
        thread::spawn(move || {
            let gone = if evicts {
                stage.evict().into_iter().collect()
            } else {
                stage.claim(1)
            };
            // Whoever came in between came after the room was there.
            assert_eq!(gone, [JobId::from_u128(1)]);
        })
    };
    maker.join().unwrap();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    stage.check();
    let load = Engine::load(&*stage.engine, Q).unwrap();
    assert_eq!((load.jobs, load.bytes), (2, 10));
}

#[test]
fn nobody_waits_for_room_that_is_there() {
    explore(|| room_is_noticed(true), ROUNDS);
    explore(|| room_is_noticed(false), ROUNDS);
}

/// The first bound in bytes comes while others push, claim and evict without one.
fn weighing_misses_nothing() {
    let stage = Stage::new(4, 0);
    let (pushing, claiming) = (stage.clone(), stage.clone());
    let pusher = thread::spawn(move || {
        for n in 1..=2 {
            assert_eq!(pushing.push(n, 3), Inserted::New);
        }
    });
    let claimer = thread::spawn(move || claiming.claim(1).len() + claiming.evict().into_iter().count());
    let weighing = Stage {
        capacity: (4, 100),
        ..stage.clone()
    };
    assert_eq!(weighing.push(3, 4), Inserted::New);
    pusher.join().unwrap();
    claimer.join().unwrap();
    let waits = |n: u128| stage.state(n) == State::Queued;
    let bytes = [(1, 3), (2, 3), (3, 4)]
        .iter()
        .filter(|(n, _)| waits(*n))
        .map(|(_, b)| b)
        .sum::<usize>();
    assert_eq!(Engine::load(&*stage.engine, Q).unwrap().bytes, bytes);
}

#[test]
fn bytes_are_exact_from_the_first_bound_on() {
    explore(weighing_misses_nothing, ROUNDS);
}
