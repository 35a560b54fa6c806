//! Many threads at once: nothing is lost, nothing is held twice, and the counts are true at every instant.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use super::*;

const PRODUCERS: usize = 4;
const CLAIMERS: usize = 3;

/// Random numbers for tests: splitmix64, so that a seed tells all.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// From FOREBAY_SEED, or new.
fn seed() -> u64 {
    let given = std::env::var("FOREBAY_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("FOREBAY_SEED={seed}");
    seed
}

/// What the threads of the storm share.
struct Storm {
    rig: Rig2,
    /// Who holds which job: the fence under which it is held.
    holders: Mutex<HashMap<JobId, u64>>,
    /// The final states that were accepted.
    ends: Mutex<HashMap<JobId, State>>,
    ended: AtomicUsize,
    clock: AtomicU64,
    total: usize,
}

/// An engine and a node: what of a [`Rig`] threads can share.
struct Rig2 {
    engine: MemoryEngine,
    node: Arc<str>,
}

impl Storm {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000 + self.clock.fetch_add(1, SeqCst) as i64)
    }

    fn produce(&self, thread: usize, mut random: Random) {
        let count = self.total / PRODUCERS;
        for n in 0..count {
            let now = self.now();
            let job = Insert {
                kind: KindId(random.below(KINDS.into()) as u16),
                priority: random.below(3) as i8,
                run_at: match random.below(4) {
                    0 => now.after(us(random.below(200))),
                    _ => now,
                },
                ..plain(id((thread as u128) << 64 | n as u128))
            };
            let mut receipt = Vec::new();
            self.rig
                .engine
                .insert(std::slice::from_ref(&job), now, &mut receipt)
                .unwrap();
            assert_eq!(receipt, [Inserted::New]);
            if random.below(8) == 0
                && let Some(at) = self.rig.engine.standing(job.id).unwrap()
            {
                self.meddle(at.job, &mut random);
            }
        }
    }

    /// Somebody cancels, from outside.
    fn meddle(&self, job: JobRef, random: &mut Random) {
        let engine = &self.rig.engine;
        if random.below(2) == 0 {
            engine.request_cancel(job).unwrap();
            return;
        }
        let (mut done, mut applied) = ([says(job, false, State::Cancelled)], Vec::new());
        engine.turn(&mut done, &mut applied, None, self.now()).unwrap();
        if applied == [Applied::Yes] {
            self.end(job.id, State::Cancelled);
        }
    }

    fn end(&self, id: JobId, state: State) {
        assert_eq!(
            self.ends.lock().unwrap().insert(id, state),
            None,
            "{id} ended twice"
        );
        self.ended.fetch_add(1, SeqCst);
    }

    /// Answers for each held job, with something random.
    fn answers(&self, held: Vec<Claimed>, random: &mut Random) -> Vec<Transition> {
        let one = |c: Claimed| {
            let again = |delay, refund| Transition {
                delay: us(delay),
                refund,
                ..says(c.job, true, State::Scheduled)
            };
            match random.below(10) {
                0 | 1 if c.attempt < 5 => again(0, false),
                2 if c.attempt < 5 => again(random.below(100), false),
                3 if c.job.fence < 8 => again(random.below(50), true),
                4 => says(c.job, true, State::Failed),
                5 => says(c.job, true, State::Cancelled),
                _ => says(c.job, true, State::Succeeded),
            }
        };
        held.into_iter().map(one).collect()
    }

    fn consume(&self, mut random: Random) {
        let (mut old, mut done) = (Vec::<JobRef>::new(), Vec::<Transition>::new());
        while self.ended.load(SeqCst) < self.total || !done.is_empty() {
            let stale = old
                .len()
                .checked_sub(1)
                .map(|last| random.below(last as u64 + 1) as usize);
            let extra = stale.map(|i| says(old.swap_remove(i), true, State::Succeeded));
            let honest = done.len();
            done.extend(extra);
            let mut kinds = [KindClaim::default(); KINDS as usize];
            kinds.iter_mut().for_each(|k| {
                k.allowance = random.below(4) as u32;
                k.max_attempts = 3;
            });
            let (mut out, mut applied) = (Vec::new(), Vec::new());
            let mut claim = Claim {
                queue: Q,
                kinds: &mut kinds,
                limit: 1 + random.below(6) as usize,
                lease: (random.below(2) == 0).then(|| us(1_000_000)),
                node: &self.rig.node,
                worker: 1,
                keys: crate::engine::KeyLimits::default(),
                relays: false,
                out: &mut out,
            };
            // Before the answers: another may claim a job as soon as it is given back.
            self.release(&done[..honest]);
            self.rig
                .engine
                .turn(&mut done, &mut applied, Some(&mut claim), self.now())
                .unwrap();
            let again = self.judge(&done, &applied, honest);
            self.hold(&out);
            old.extend(
                done.iter()
                    .take(honest)
                    .filter(|t| !again.iter().any(|a| a.job == t.job))
                    .map(|t| t.job),
            );
            old.truncate(50);
            done = again;
            done.extend(self.answers(out, &mut random));
        }
    }

    fn release(&self, done: &[Transition]) {
        let mut holders = self.holders.lock().unwrap();
        for t in done {
            assert_eq!(holders.remove(&t.job.id), Some(t.job.fence), "held by another");
        }
    }

    fn hold(&self, out: &[Claimed]) {
        let mut holders = self.holders.lock().unwrap();
        for c in out {
            let before = holders.insert(c.job.id, c.job.fence);
            assert_eq!(before, None, "{} is held twice", c.job.id);
        }
    }

    /// Checks the fates of the answers; returns those that must be given again, as cancellations.
    fn judge(&self, done: &[Transition], applied: &[Applied], honest: usize) -> Vec<Transition> {
        let mut again = Vec::new();
        for (i, (t, fate)) in done.iter().zip(applied).enumerate() {
            match fate {
                Applied::Yes if i < honest && t.to.is_final() => self.end(t.job.id, t.to),
                Applied::Yes => assert!(i < honest, "a stale answer was taken"),
                Applied::Stale => assert!(i >= honest, "an answer in time was refused"),
                Applied::CancelRequested => again.push(says(t.job, true, State::Cancelled)),
            }
        }
        let mut holders = self.holders.lock().unwrap();
        for t in &again {
            assert_eq!(holders.insert(t.job.id, t.job.fence), None);
        }
        again
    }

    fn watch(&self) {
        while self.ended.load(SeqCst) < self.total {
            for counts in self.rig.engine.counts().unwrap() {
                assert!(counts.balanced(), "{counts:?}");
            }
            self.rig.engine.tick(10, self.now()).unwrap();
            std::thread::yield_now();
        }
    }
}

#[test]
fn every_job_ends_once_and_is_held_by_one() {
    let seed = seed();
    let rig = Rig::keeping(1_000_000);
    let storm = Storm {
        rig: Rig2 {
            engine: rig.engine,
            node: rig.node,
        },
        holders: Mutex::default(),
        ends: Mutex::default(),
        ended: AtomicUsize::new(0),
        clock: AtomicU64::new(0),
        total: if cfg!(debug_assertions) { 20_000 } else { 200_000 },
    };
    let random = |n: usize| Random(seed.wrapping_add(n as u64 * 0x1234_5678_9abc));
    std::thread::scope(|scope| {
        let storm = &storm;
        for n in 0..PRODUCERS {
            scope.spawn(move || storm.produce(n, random(n)));
        }
        for n in 0..CLAIMERS {
            scope.spawn(move || storm.consume(random(100 + n)));
        }
        scope.spawn(move || storm.watch());
    });
    let counts = storm.rig.engine.counts().unwrap().swap_remove(0);
    assert!(
        counts.balanced() && counts.waiting() + counts.running == 0,
        "{counts:?}"
    );
    assert_eq!(counts.totals.pushed, storm.total as u64);
    for (id, state) in storm.ends.into_inner().unwrap() {
        assert_eq!(storm.rig.engine.get(id).unwrap().unwrap().state, state);
    }
    assert!(storm.holders.into_inner().unwrap().is_empty());
}

#[test]
fn capacity_is_exact_under_eight_pushers() {
    const CAPACITY: usize = 37;
    let rig = Rig::keeping(0);
    let (engine, node, now) = (&rig.engine, &rig.node, rig.now());
    let (pushed, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..8u128)
            .map(|thread| {
                let pushed = &pushed;
                scope.spawn(move || {
                    for n in 0..5_000u128 {
                        let job = Insert {
                            capacity: CAPACITY,
                            ..plain(id(thread << 64 | n))
                        };
                        let mut receipt = Vec::new();
                        engine.insert(&[job], now, &mut receipt).unwrap();
                        match receipt[0] {
                            Inserted::New => _ = pushed.fetch_add(1, SeqCst),
                            Inserted::Full(n) => assert!(n >= CAPACITY),
                            other => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(SeqCst) {
                assert!(engine.counts().unwrap()[0].waiting() <= CAPACITY as u64);
            }
        });
        scope.spawn(move || {
            let (mut done, mut applied) = (Vec::new(), Vec::new());
            while !stop.load(SeqCst) {
                let mut kinds = [KindClaim {
                    allowance: 1,
                    ..KindClaim::default()
                }];
                let mut out = Vec::new();
                let mut claim = Claim {
                    queue: Q,
                    kinds: &mut kinds,
                    limit: 1,
                    lease: None,
                    node,
                    worker: 1,
                    keys: crate::engine::KeyLimits::default(),
                    relays: false,
                    out: &mut out,
                };
                engine
                    .turn(&mut done, &mut applied, Some(&mut claim), now)
                    .unwrap();
                done = out.iter().map(|c| says(c.job, true, State::Succeeded)).collect();
            }
            engine.turn(&mut done, &mut applied, None, now).unwrap();
        });
        pushers.into_iter().for_each(|p| p.join().unwrap());
        stop.store(true, SeqCst);
    });
    let counts = rig.counts();
    assert_eq!(counts.totals.pushed, pushed.into_inner() as u64);
    assert_eq!(counts.totals.pushed + counts.totals.refused, 40_000);
    let room = CAPACITY - counts.waiting() as usize;
    for n in 0..room as u128 + 1 {
        let job = Insert {
            capacity: CAPACITY,
            ..plain(id(1 << 100 | n))
        };
        let want = if n == room as u128 {
            Inserted::Full(CAPACITY)
        } else {
            Inserted::New
        };
        assert_eq!(rig.push(job), want, "to the last place");
    }
}

/// Claimers that each know one kind sleep on the bell and share one lane: no job is left behind while
/// somebody who could take it sleeps.
#[test]
fn no_claimer_sleeps_while_there_is_work_for_it() {
    const EACH: usize = 3_000;
    let rig = Rig::keeping(0);
    let (engine, node, now) = (&rig.engine, &rig.node, rig.now());
    let work = &engine.signals.work;
    let left = [const { AtomicUsize::new(EACH) }; 2];
    std::thread::scope(|scope| {
        for kind in 0..2 {
            let left = &left[kind];
            scope.spawn(move || {
                work.join(kind as u64);
                while left.load(SeqCst) > 0 {
                    let listener = work.listen();
                    let mut kinds = [KindClaim::default(); 2];
                    kinds[kind].allowance = 3;
                    let mut out = Vec::new();
                    let mut claim = Claim {
                        queue: Q,
                        kinds: &mut kinds,
                        limit: 3,
                        lease: None,
                        node,
                        worker: 1,
                        keys: crate::engine::KeyLimits::default(),
                        relays: false,
                        out: &mut out,
                    };
                    engine
                        .turn(&mut [], &mut Vec::new(), Some(&mut claim), now)
                        .unwrap();
                    left.fetch_sub(out.len(), SeqCst);
                    if out.is_empty() {
                        let limit = crate::Deadline::after(Duration::from_secs(60));
                        assert!(listener.wait(limit), "nobody rang, {} left", left.load(SeqCst));
                    }
                }
                work.leave(kind as u64);
            });
        }
        scope.spawn(move || {
            for n in 0..2 * EACH as u128 {
                let job = Insert {
                    kind: KindId((n % 2) as u16),
                    ..plain(id(n))
                };
                engine.insert(&[job], now, &mut Vec::new()).unwrap();
            }
        });
    });
    assert_eq!(rig.counts().queued, 0);
}

/// Somebody asks a running job to stop while a batch ends it together with another: either the request comes
/// first, and nothing of the batch is applied, or the batch is applied whole.
#[test]
fn a_request_to_cancel_does_not_split_a_batch() {
    let rig = Rig::keeping(0);
    let (engine, now) = (&rig.engine, rig.now());
    for round in 0..3_000u128 {
        rig.push_ids([2 * round, 2 * round + 1]);
        let jobs: Vec<JobRef> = rig.claim(2).iter().map(|c| c.job).collect();
        let start = std::sync::Barrier::new(2);
        let receipt = std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                jobs.iter()
                    .rev()
                    .for_each(|job| _ = engine.request_cancel(*job).unwrap());
            });
            let mut done: Vec<_> = jobs
                .iter()
                .map(|job| says(*job, true, State::Succeeded))
                .collect();
            let mut batch = Batch {
                transitions: &mut done,
                ..Batch::default()
            };
            let mut receipt = BatchReceipt::default();
            start.wait();
            engine.commit(&mut batch, now, &mut receipt).unwrap();
            receipt
        });
        let running = rig.counts().running;
        assert_eq!(running, if receipt.applied { 0 } else { 2 }, "{receipt:?}");
        let rest = jobs.iter().map(|job| says(*job, true, State::Cancelled));
        rig.turn(rest.collect(), None);
    }
}

/// Many jobs end at once: whoever leaves the forgetting to another must not be overlooked by that one.
#[test]
fn no_more_finished_jobs_stay_than_are_to_be_kept() {
    const THREADS: usize = 4;
    let rig = Rig::keeping(1);
    let (engine, now) = (&rig.engine, rig.now());
    for round in 0..2_000u128 {
        rig.push_ids((0..2 * THREADS as u128).map(|n| round << 8 | n));
        let jobs: Vec<JobRef> = rig.claim(2 * THREADS).iter().map(|c| c.job).collect();
        let start = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for some in jobs.chunks(2) {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for job in some {
                        let mut done = [says(*job, true, State::Succeeded)];
                        engine.turn(&mut done, &mut Vec::new(), None, now).unwrap();
                    }
                });
            }
        });
        assert_eq!(rig.counts().kept, 1, "round {round}");
    }
}

/// A job that is here already is pushed again and again: a listing shows it once.
#[test]
fn a_page_has_no_job_twice() {
    let rig = Rig::new();
    let (engine, now, stop) = (&rig.engine, rig.now(), &AtomicBool::new(false));
    rig.push_ids([1, 2]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    engine.insert(&[plain(id(1))], now, &mut Vec::new()).unwrap();
                }
            });
        }
        let pages = || -> Result<(), String> {
            for _ in 0..5_000 {
                let jobs = engine.list(&crate::job::Filter::default()).unwrap().jobs;
                let ids: Vec<u128> = jobs.iter().map(|job| job.id.as_u128()).collect();
                if ids != [2, 1] {
                    return Err(format!("{ids:?}"));
                }
            }
            Ok(())
        };
        let seen = pages();
        stop.store(true, SeqCst);
        assert_eq!(seen, Ok(()));
    });
}
