//! The engine under random schedules: whatever the order in which threads take its locks, no flow is forgotten
//! and no job has two ends. Every schedule ends, so no ring is lost: a consumer that waits in vain would wait
//! for ever.

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Arc as Shared;
use shuttle::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use shuttle::{Config, Runner};

use super::flows::{keyed_job, limits, of_key};
use super::*;
use crate::time::Deadline;

/// An engine, the time, and what is known of its jobs from outside.
struct Scene {
    engine: MemoryEngine,
    now: AtomicI64,
    limits: KeyLimits,
    running: AtomicUsize,
    ended: AtomicUsize,
    total: usize,
}

const SCHEDULES: usize = 500;

fn explore(model: fn()) {
    // A chunk of records is made on the stack, where nothing is optimised away.
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(SCHEDULES), config.clone()).run(model);
    Runner::new(PctScheduler::new(3, SCHEDULES), config).run(model);
}

impl Scene {
    fn new(limits: KeyLimits, total: usize) -> Shared<Self> {
        let engine = MemoryEngine::new(0);
        engine.names.queue("q").unwrap();
        engine.names.kind("k").unwrap();
        Shared::new(Self {
            engine,
            now: AtomicI64::new(1_000_000),
            limits,
            running: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            total,
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(SeqCst))
    }

    fn push(&self, key: &str, numbers: std::ops::Range<u128>) {
        let extras = of_key(key);
        for n in numbers {
            let mut receipt = Vec::new();
            let job = keyed_job(n, &extras);
            self.engine.insert(&[job], self.now(), &mut receipt).unwrap();
            assert_eq!(receipt, [Inserted::New]);
        }
    }

    fn claim(&self) -> Option<Claimed> {
        let mut kinds = [KindClaim {
            allowance: 9,
            max_attempts: 9,
            timeout: None,
        }];
        let mut out = Vec::new();
        let mut claim = Claim {
            queue: Q,
            kinds: &mut kinds,
            limit: 1,
            lease: None,
            node: &"here".into(),
            worker: 1,
            keys: self.limits,
            relays: false,
            out: &mut out,
        };
        self.engine
            .turn(&mut [], &mut Vec::new(), Some(&mut claim), self.now())
            .unwrap();
        out.pop()
    }

    fn answer(&self, job: &Claimed, to: State) {
        let (mut done, mut applied) = ([says(job.job, true, to)], Vec::new());
        self.engine
            .turn(&mut done, &mut applied, None, self.now())
            .unwrap();
        assert_eq!(applied, [Applied::Yes]);
    }

    /// A job has ended for good.
    fn end(&self) {
        if self.ended.fetch_add(1, SeqCst) + 1 == self.total {
            self.engine.signals.work.ring_all();
        }
    }

    fn over(&self) -> bool {
        self.ended.load(SeqCst) == self.total
    }

    /// Runs jobs of one key until all have ended; no two at once. The first attempt of number 0 is retried.
    fn consume(&self) {
        while !self.over() {
            let listener = self.engine.signals.work.listen();
            let Some(job) = self.claim() else {
                if !self.over() {
                    listener.wait(Deadline::NEVER);
                }
                continue;
            };
            drop(listener);
            assert_eq!(self.running.fetch_add(1, SeqCst), 0, "two jobs of a key run");
            self.running.fetch_sub(1, SeqCst);
            if job.job.id == id(0) && job.attempt == 1 {
                self.answer(&job, State::Scheduled);
            } else {
                self.answer(&job, State::Succeeded);
                self.end();
            }
        }
    }

    fn is_empty(&self) {
        let counts = self.engine.counts().unwrap().swap_remove(0);
        assert!(counts.balanced(), "{counts:?}");
        assert_eq!((counts.waiting(), counts.running), (0, 0));
        assert_eq!(self.engine.key_standing(Q, "a").unwrap(), None);
    }
}

fn spawn(
    scene: &Shared<Scene>,
    act: impl FnOnce(&Scene) + Send + 'static,
) -> shuttle::thread::JoinHandle<()> {
    let scene = scene.clone();
    shuttle::thread::spawn(move || act(&scene))
}

#[test]
fn a_key_that_may_start_again_is_noticed() {
    explore(|| {
        let scene = Scene::new(limits(1, None), 3);
        let threads = [
            spawn(&scene, Scene::consume),
            spawn(&scene, Scene::consume),
            spawn(&scene, |scene| scene.push("a", 0..3)),
        ];
        threads.into_iter().for_each(|t| t.join().unwrap());
        scene.is_empty();
    });
}

#[test]
fn a_limit_that_is_taken_away_is_noticed() {
    explore(|| {
        let scene = Scene::new(limits(1, None), 2);
        scene.engine.limit_key(Q, "a", Some(0)).unwrap();
        let threads = [
            spawn(&scene, Scene::consume),
            spawn(&scene, |scene| scene.push("a", 0..2)),
            spawn(&scene, |scene| scene.engine.limit_key(Q, "a", None).unwrap()),
        ];
        threads.into_iter().for_each(|t| t.join().unwrap());
        scene.is_empty();
    });
}

/// The clock is moved on whenever somebody has been told a time, as the one does who keeps it.
#[test]
fn a_time_that_comes_is_noticed() {
    explore(|| {
        let scene = Scene::new(limits(1, Some("1/s burst=1")), 2);
        let threads = [
            spawn(&scene, Scene::consume),
            spawn(&scene, |scene| scene.push("a", 1..3)),
            spawn(&scene, |scene| {
                while !scene.over() {
                    let listener = scene.engine.signals.upkeep.listen();
                    let next = scene.engine.tick(9, scene.now()).unwrap().next;
                    if next < Timestamp::MAX {
                        scene.now.fetch_max(next.as_micros(), SeqCst);
                        scene.engine.tick(9, scene.now()).unwrap();
                        return;
                    }
                    // The first start makes the time known.
                    listener.wait(Deadline::NEVER);
                }
            }),
        ];
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn a_job_has_one_end_whoever_wants_it() {
    explore(|| {
        let scene = Scene::new(limits(1, None), 3);
        let threads = [
            spawn(&scene, |scene| scene.push("a", 1..4)),
            spawn(&scene, |scene| {
                let shed = |_| {
                    let victim = Victim::OfKey("a");
                    let shed = scene.engine.evict(Q, victim, ShedReason::Coalesced, scene.now());
                    if shed.unwrap().is_some() {
                        scene.end();
                    }
                };
                (0..2).for_each(shed);
            }),
            spawn(&scene, |scene| {
                if let Some(at) = scene.engine.standing(id(2)).unwrap() {
                    let mut done = [says(at.job, false, State::Cancelled)];
                    let mut applied = Vec::new();
                    scene
                        .engine
                        .turn(&mut done, &mut applied, None, scene.now())
                        .unwrap();
                    if applied == [Applied::Yes] {
                        scene.end();
                    }
                }
            }),
            spawn(&scene, Scene::consume),
        ];
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(scene.ended.load(SeqCst), 3);
        scene.is_empty();
    });
}
