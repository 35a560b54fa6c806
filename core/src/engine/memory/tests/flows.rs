//! Jobs with a concurrency key, through the engine: whatever happens to a job, its key is counted right and the
//! next one starts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::super::journal::{Change, Flight, Takeoff};
use super::*;
use crate::engine::KeyStanding;
use crate::time::Deadline;

pub(super) fn of_key(key: &str) -> Arc<Extras> {
    Arc::new(Extras {
        concurrency_key: Some(key.into()),
        ..Extras::default()
    })
}

pub(super) fn keyed_job(n: u128, extras: &Arc<Extras>) -> Insert<'_> {
    Insert {
        extras: Some(extras),
        ..plain(id(n))
    }
}

pub(super) fn limits(running: u32, rate: Option<&str>) -> KeyLimits {
    let rate = rate.map(|text| text.parse().unwrap());
    KeyLimits { running, rate }
}

impl Rig {
    fn push_keyed(&self, key: &str, ids: impl IntoIterator<Item = u128>) {
        let extras = of_key(key);
        for n in ids {
            assert_eq!(self.push(keyed_job(n, &extras)), Inserted::New);
        }
    }

    fn limit(&self, running: u32, rate: Option<&str>) {
        self.limits.set(limits(running, rate));
    }

    fn standing(&self, key: &str) -> KeyStanding {
        self.engine.key_standing(Q, key).unwrap().unwrap_or_default()
    }

    /// Whether the bell for work rings while something is done.
    fn rings(&self, act: impl FnOnce()) -> bool {
        let listener = self.engine.signals.work.listen();
        act();
        listener.wait(Deadline::after(Duration::ZERO))
    }
}

#[test]
fn keys_take_turns_with_each_other_and_with_jobs_without() {
    let rig = Rig::new();
    rig.push_keyed("a", 10..14);
    rig.push_keyed("b", 20..22);
    rig.push_ids(30..33);
    assert_eq!(rig.claim_all(), [30, 10, 20, 31, 11, 21, 32, 12, 13]);
    assert_eq!(rig.counts().running, 9);
}

#[test]
fn one_who_sends_a_hundred_times_as_much_gets_a_share() {
    let rig = Rig::new();
    rig.push_keyed("loud", 0..1000);
    for n in 0..10 {
        rig.push_keyed(&n.to_string(), [2000 + n]);
    }
    let first: Vec<_> = (0..11).flat_map(|_| rig.claim_kinds(&[1], 1)).collect();
    assert_eq!(first.iter().filter(|n| **n >= 2000).count(), 10, "{first:?}");
}

#[test]
fn a_higher_priority_comes_first_whatever_the_key() {
    let rig = Rig::new();
    let extras = of_key("a");
    rig.push_ids([1]);
    rig.push(keyed_job(2, &extras));
    rig.push(Insert {
        priority: 1,
        ..keyed_job(3, &extras)
    });
    assert_eq!(rig.claim_all(), [3, 1, 2]);
}

#[test]
fn every_way_out_of_running_lets_the_next_one_start() {
    let says_so: [fn(&Rig, &Claimed); 7] = [
        |rig, job| rig.finish(job),
        |rig, job| _ = rig.apply(says(job.job, true, State::Failed)),
        |rig, job| _ = rig.apply(says(job.job, true, State::Cancelled)),
        |rig, job| {
            let shed = Transition {
                failure: Some(ShedReason::Delayed.failure()),
                ..says(job.job, true, State::Shed)
            };
            assert_eq!(rig.apply(shed), Applied::Yes);
        },
        |rig, job| {
            let later = Transition {
                delay: us(5),
                refund: true,
                ..says(job.job, true, State::Scheduled)
            };
            assert_eq!(rig.apply(later), Applied::Yes);
        },
        |rig, job| {
            let mut done = [says(job.job, true, State::Succeeded)];
            let mut batch = Batch {
                transitions: &mut done,
                ..Batch::default()
            };
            let mut receipt = BatchReceipt::default();
            rig.engine.commit(&mut batch, rig.now(), &mut receipt).unwrap();
            assert!(receipt.applied);
        },
        |rig, job| {
            let back = Transition {
                keeps_place: true,
                ..says(job.job, true, State::Queued)
            };
            assert_eq!(rig.apply(back), Applied::Yes);
        },
    ];
    for (n, ends) in says_so.iter().enumerate() {
        let rig = Rig::new();
        rig.limit(1, None);
        rig.push_keyed("a", [1, 2]);
        let first = rig.claim_one();
        assert_eq!((first.job.id, rig.claim(9).len()), (id(1), 0), "{n}");
        assert!(rig.rings(|| ends(&rig, &first)), "{n}");
        let next = rig.claim_one().job.id.as_u128();
        assert_eq!(next, if n == 6 { 1 } else { 2 }, "{n}");
        assert_eq!((rig.standing("a").running, rig.claim(9).len()), (1, 0), "{n}");
        rig.counts();
    }
}

#[test]
fn a_lost_lease_and_a_timeout_count_when_they_are_decided() {
    let rig = Rig::new();
    rig.limit(1, None);
    let extras = of_key("a");
    rig.push(Insert {
        timeout: Some(us(10)),
        ..keyed_job(1, &extras)
    });
    rig.push(keyed_job(2, &extras));
    let job = rig.claim_one();
    rig.advance(10);
    assert_eq!((rig.overdue().len(), rig.claim(9).len()), (1, 0));
    rig.apply(says(job.job, true, State::Scheduled));
    assert_eq!(rig.claim_all(), [2]);
    assert_eq!(rig.apply(says(job.job, true, State::Succeeded)), Applied::Stale);
    assert_eq!(rig.standing("a").running, 1, "a late answer counts nothing down");
}

#[test]
fn retried_scheduled_and_blocked_jobs_come_to_their_flow_in_time() {
    let rig = Rig::new();
    rig.limit(1, None);
    let extras = of_key("a");
    rig.push(Insert {
        run_at: rig.later(5),
        ..keyed_job(1, &extras)
    });
    rig.push(Insert {
        waits: &["t".into()],
        ..keyed_job(2, &extras)
    });
    rig.push(keyed_job(3, &extras));
    assert_eq!(rig.standing("a").queued, 1);
    let third = rig.claim_one();
    rig.advance(5);
    let mut batch = Batch {
        signals: &[(id(2), "t".into())],
        ..Batch::default()
    };
    rig.engine
        .commit(&mut batch, rig.now(), &mut BatchReceipt::default())
        .unwrap();
    rig.engine.tick(9, rig.now()).unwrap();
    assert_eq!(rig.standing("a").queued, 2);
    rig.apply(says(third.job, true, State::Scheduled));
    let mut order = Vec::new();
    while let Some(job) = rig.claim(9).pop() {
        order.push(job.job.id.as_u128());
        rig.finish(&job);
    }
    assert_eq!(order, [1, 2, 3]);
    assert_eq!(
        rig.engine.key_standing(Q, "a").unwrap(),
        None,
        "nothing is left of it"
    );
}

#[test]
fn cancelled_and_late_jobs_leave_their_flow() {
    let rig = Rig::new();
    rig.limit(1, None);
    let extras = of_key("a");
    rig.push(Insert {
        deadline: rig.later(5),
        ..keyed_job(1, &extras)
    });
    for n in 2..5 {
        rig.push(keyed_job(n, &extras));
    }
    assert_eq!(rig.cancel(3), Applied::Yes);
    assert_eq!(rig.standing("a").queued, 3);
    rig.advance(5);
    assert_eq!(rig.claim_all(), [2], "the first is too late, and takes no place");
    assert_eq!(rig.overdue().len(), 1);
    assert_eq!(
        rig.apply(says(rig.waiting(1), false, State::Expired)),
        Applied::Yes
    );
    assert_eq!(rig.cancel(4), Applied::Yes);
    rig.finish(&Claimed {
        job: rig.waiting(2),
        ..rig.get_claimed(2)
    });
    assert_eq!(rig.engine.key_standing(Q, "a").unwrap(), None);
}

impl Rig {
    /// Some claimed job, for the sake of its other fields.
    fn get_claimed(&self, n: u128) -> Claimed {
        let (slot, record) = self.engine.index.find(id(n), &self.engine.slab).unwrap();
        record.to_claimed(slot)
    }
}

#[test]
fn a_rate_is_kept_and_its_next_time_is_told() {
    let rig = Rig::new();
    rig.limit(0, Some("1000/s burst=1"));
    rig.push_keyed("a", [1, 2, 3]);
    rig.push_keyed("b", [4]);
    let upkeep = rig.engine.signals.upkeep.listen();
    assert_eq!(rig.claim_all(), [1, 4]);
    assert!(
        upkeep.wait(Deadline::after(Duration::ZERO)),
        "the next time came forward"
    );
    assert_eq!(rig.standing("a").ready_at, Some(rig.later(1000)));
    rig.advance(999);
    let tick = rig.engine.tick(9, rig.now()).unwrap();
    assert_eq!((tick.next, rig.claim(9).len()), (rig.later(1), 0));
    rig.advance(1);
    assert!(rig.rings(|| _ = rig.engine.tick(9, rig.now()).unwrap()));
    assert_eq!(rig.claim_all(), [2]);
    rig.advance(1000);
    assert_eq!(rig.claim_all(), [3], "a claim in time needs no tick");
}

#[test]
fn other_limits_let_those_start_that_were_held_back() {
    let rig = Rig::new();
    rig.limit(1, None);
    rig.push_keyed("a", 1..6);
    assert_eq!(rig.claim_all(), [1]);
    rig.limit(3, None);
    assert_eq!(rig.claim_all(), [2, 3]);
    assert!(rig.rings(|| rig.engine.limit_key(Q, "a", Some(4)).unwrap()));
    assert_eq!(rig.claim_all(), [4]);
    rig.engine.limit_key(Q, "a", Some(0)).unwrap();
    rig.finish(&rig.get_claimed(1));
    rig.limit(0, None);
    assert_eq!(rig.claim_all(), [0; 0], "its own limit counts");
    assert_eq!(rig.standing("a").limit, Some(0));
    assert!(rig.rings(|| rig.engine.limit_key(Q, "a", None).unwrap()));
    assert_eq!((rig.claim_all(), rig.standing("a").limit), (vec![5], None));
}

#[test]
fn a_claim_does_not_look_at_flows_of_other_kinds() {
    let rig = Rig::new();
    let extras = of_key("a");
    for n in 0..4 {
        rig.push(Insert {
            kind: KindId(n as u16 % 2),
            ..keyed_job(n, &extras)
        });
    }
    assert_eq!(rig.claim_kinds(&[0, 9], 9), [1, 3]);
    assert_eq!(rig.claim_kinds(&[0, 0, 9], 9), [0; 0]);
    assert_eq!(rig.claim_kinds(&[1, 0, 9], 9), [0]);
    assert_eq!(rig.claim_kinds(&[1, 1], 9), [2]);
}

#[test]
fn a_lane_of_flows_only_goes_to_rest_and_wakes() {
    let rig = Rig::new();
    rig.limit(1, None);
    let extras = of_key("a");
    // So many lanes are busy that those that give nothing are put to rest.
    for priority in -9..9 {
        rig.push(Insert {
            priority,
            kind: KindId(2),
            ..plain(id(100 + (priority + 10) as u128))
        });
    }
    (1..4).for_each(|n| _ = rig.push(keyed_job(n, &extras)));
    let mut order = Vec::new();
    while let Some(job) = rig.turn(Vec::new(), Some((&[9, 9], 9))).1.pop() {
        order.push(job.job.id.as_u128());
        assert_eq!(rig.claim_kinds(&[9, 9], 9), [0; 0]);
        rig.finish(&job);
    }
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn jobs_of_flows_are_exported_in_the_order_of_their_flow() {
    let rig = Rig::new();
    rig.push_keyed("a", [1, 2]);
    rig.push_ids([3]);
    rig.push_keyed("b", [4]);
    rig.push_keyed("a", [5]);
    let job = rig.claim_kinds(&[9], 1);
    assert_eq!(job, [3]);
    let mut seen = Vec::new();
    let each = &mut |job: Job| {
        seen.push((job.id.as_u128(), job.concurrency_key().map(str::to_owned)));
        Ok(())
    };
    rig.engine.export(each).unwrap();
    let a = || Some("a".to_owned());
    assert_eq!(
        seen,
        [(1, a()), (2, a()), (4, Some("b".into())), (5, a()), (3, None)]
    );
}

#[test]
fn the_longest_flow_loses_its_first_if_somebody_must() {
    let rig = Rig::new();
    let evict = |victim, n: Option<u128>| {
        assert_eq!(rig.evict(victim, ShedReason::Oldest), n, "{victim:?}");
    };
    rig.push_ids(1..5);
    rig.push_keyed("a", 10..13);
    rig.push_keyed("b", 20..25);
    evict(Victim::Oldest, Some(20));
    evict(Victim::Oldest, Some(1));
    evict(Victim::OfKey("a"), Some(10));
    evict(Victim::OfKey("nobody"), None);
    assert_eq!(
        (rig.state(20), rig.state(10)),
        (Some(State::Shed), Some(State::Shed))
    );
    evict(Victim::Oldest, Some(21));
    assert_eq!((rig.standing("a").queued, rig.standing("b").queued), (2, 3));
    rig.limit(1, None);
    let all = rig.claim(99).len();
    assert_eq!(all, 5, "three without a key, one of each");
    for n in [23, 24] {
        rig.cancel(n);
    }
    evict(Victim::Oldest, Some(12));
    evict(Victim::OfKey("b"), None);
    assert_eq!(rig.counts().queued, 0);
}

#[test]
fn of_the_lowest_priority_one_goes_with_a_key_or_without() {
    let rig = Rig::new();
    let extras = of_key("a");
    rig.limit(1, None);
    let put = |n: u128, priority, keyed: bool| {
        let extras = keyed.then_some(&extras);
        rig.push(Insert {
            priority,
            extras,
            ..plain(id(n))
        });
    };
    for (n, priority, keyed) in [
        (1, 2, true),
        (2, 0, true),
        (3, 1, false),
        (4, 0, false),
        (5, -1, true),
    ] {
        put(n, priority, keyed);
    }
    let order: Vec<_> =
        std::iter::from_fn(|| rig.evict(Victim::Lowest { below: 2 }, ShedReason::Lowest)).collect();
    assert_eq!(order, [5, 4, 2, 3]);
    assert_eq!(rig.claim_all(), [1]);
}

#[derive(Debug)]
struct Blind;

impl Flight for Blind {
    fn enter(&self, _: i64, _: Takeoff) {}
    fn leave(&self, _: i64) {}
}

#[test]
fn jobs_that_the_store_has_to_have_first_join_their_flow_then() {
    let rig = Rig::with(MemoryEngine::journaled(1000, 2, Box::new(Blind)));
    let extras = of_key("a");
    let mut receipt = Vec::new();
    for n in 1..9 {
        let durability = if n < 3 {
            Durability::Disk
        } else {
            Durability::Memory
        };
        let job = Insert {
            durability,
            ..keyed_job(n, &extras)
        };
        rig.engine.insert_noted(&[job], rig.now(), &mut receipt, false);
    }
    let group = rig.engine.collect(false, rig.now());
    let puts: Vec<_> = group
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Put(put) => Some(&**put),
            Change::Remove { .. } => None,
        })
        .collect();
    assert!(
        puts.iter().all(|put| !put.spill),
        "no job with a key is in the store only"
    );
    assert_eq!(rig.engine.withdraw(puts.iter().copied().take(1)), [id(1)]);
    rig.engine.release(puts.iter().copied(), rig.now());
    assert_eq!(rig.claim_all(), [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_job_that_ran_when_its_process_died_counts_until_somebody_decides() {
    let rig = Rig::with(MemoryEngine::journaled(1000, 0, Box::new(Blind)));
    let other = Rig::new();
    other.push_keyed("a", [1, 2]);
    let ran = other.claim_one();
    assert!(rig.engine.load(1, &other.get(1)).unwrap() && rig.engine.load(2, &other.get(2)).unwrap());
    rig.limit(1, None);
    assert_eq!((rig.standing("a").running, rig.claim(9).len()), (1, 0));
    let crashed = rig.overdue().pop().unwrap().at.job;
    assert_eq!(crashed.id, ran.job.id);
    assert_eq!(rig.apply(says(crashed, true, State::Scheduled)), Applied::Yes);
    assert_eq!(rig.claim_all(), [2]);
}

/// What many threads do at once, and what each job came to.
struct Crowd {
    engine: MemoryEngine,
    now: Timestamp,
    running: Vec<AtomicUsize>,
    /// How many ends each job had.
    ends: Vec<AtomicUsize>,
    ended: AtomicUsize,
    limit: Deadline,
}

const PUSHERS: usize = 2;
const EACH: usize = if cfg!(debug_assertions) { 3_000 } else { 30_000 };
const TOTAL: usize = PUSHERS * EACH;
const NAMES: usize = 7;
const MOST: usize = 2;

fn key_of(n: u128) -> usize {
    (n % NAMES as u128) as usize
}

impl Crowd {
    fn over(&self) -> bool {
        self.ended.load(SeqCst) == TOTAL || self.limit.passed()
    }

    fn end(&self, job: JobRef) {
        assert_eq!(
            self.ends[job.id.as_u128() as usize].fetch_add(1, SeqCst),
            0,
            "{job:?}"
        );
        if self.ended.fetch_add(1, SeqCst) + 1 == TOTAL {
            self.engine.signals.work.ring_all();
        }
    }

    fn answer(&self, t: Transition) -> Applied {
        let (mut done, mut applied) = ([t], Vec::new());
        self.engine.turn(&mut done, &mut applied, None, self.now).unwrap();
        applied[0]
    }

    fn push(&self, pusher: usize) {
        let keys: Vec<_> = (0..NAMES).map(|k| of_key(&k.to_string())).collect();
        for n in 0..EACH {
            let n = (n * PUSHERS + pusher) as u128;
            // The last name is for jobs without a key.
            let mut job = keyed_job(n, &keys[key_of(n)]);
            job.extras = job.extras.filter(|_| key_of(n) + 1 < NAMES);
            job.kind = KindId((n % 2) as u16);
            self.engine.insert(&[job], self.now, &mut Vec::new()).unwrap();
        }
    }

    /// Changes limits, cancels and evicts, wherever it hits.
    fn disturb(&self) {
        let mut n = 0;
        while !self.over() {
            n += 13;
            let key = (n % (NAMES - 1)).to_string();
            self.engine
                .limit_key(Q, &key, Some((n % (MOST + 1)) as u32))
                .unwrap();
            let waiting = self.engine.standing(id((n % TOTAL) as u128)).unwrap();
            if let Some(at) = waiting.filter(|at| at.state == State::Queued)
                && self.answer(says(at.job, false, State::Cancelled)) == Applied::Yes
            {
                self.end(at.job);
            }
            let victim = [Victim::OfKey(&key), Victim::Oldest][n % 2];
            if n % 5 == 0 {
                let shed = self
                    .engine
                    .evict(Q, victim, ShedReason::Oldest, self.now)
                    .unwrap();
                shed.into_iter().for_each(|at| self.end(at.job));
            }
            self.engine.limit_key(Q, &key, None).unwrap();
            std::thread::yield_now();
        }
    }

    fn claim(&self, limit: usize) -> Vec<Claimed> {
        let mut kinds = [KindClaim {
            allowance: 2,
            max_attempts: 9,
            timeout: None,
        }; 2];
        let mut out = Vec::new();
        let mut claim = Claim {
            queue: Q,
            kinds: &mut kinds,
            limit,
            lease: None,
            node: &"here".into(),
            worker: 1,
            keys: limits(MOST as u32, None),
            relays: false,
            out: &mut out,
        };
        self.engine
            .turn(&mut [], &mut Vec::new(), Some(&mut claim), self.now)
            .unwrap();
        out
    }

    fn consume(&self, consumer: usize) -> Vec<(u128, u32)> {
        let _over = AtPanic(|| {
            self.ended.store(TOTAL, SeqCst);
            self.engine.signals.work.ring_all();
        });
        let (mut starts, mut last) = (Vec::new(), HashMap::new());
        while !self.over() {
            let listener = self.engine.signals.work.listen();
            let jobs = self.claim(1 + consumer);
            if jobs.is_empty() {
                // Whoever ends the last job rings for all.
                assert!(
                    self.over() || listener.wait(self.limit),
                    "a job was waited for in vain"
                );
                continue;
            }
            drop(listener);
            for job in jobs {
                let n = job.job.id.as_u128();
                starts.push((n, job.attempt));
                // One without a key may be overtaken while a claimer that has no slot for its kind sets it aside.
                if job.attempt == 1 && key_of(n) + 1 < NAMES {
                    let before = last.insert((key_of(n), job.kind, n % PUSHERS as u128), n);
                    assert!(before.is_none_or(|before| before < n), "{n} after {before:?}");
                }
                self.run(&job);
            }
        }
        starts
    }

    fn run(&self, job: &Claimed) {
        let n = job.job.id.as_u128();
        let (key, running) = (key_of(n), &self.running[key_of(n)]);
        let here = running.fetch_add(1, SeqCst) + 1;
        assert!(key + 1 == NAMES || here <= MOST, "{here} of key {key} run");
        running.fetch_sub(1, SeqCst);
        let again = n.is_multiple_of(11) && job.attempt == 1;
        let to = if again { State::Scheduled } else { State::Succeeded };
        assert_eq!(self.answer(says(job.job, true, to)), Applied::Yes);
        if !again {
            self.end(job.job);
        }
    }
}

/// Does something if its thread panics, so that the others do not wait for it.
struct AtPanic<F: Fn()>(F);

impl<F: Fn()> Drop for AtPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// Many threads push, claim, answer, cancel, evict and change limits: a key never runs more than it may, its jobs
/// start in their order, and every job has one end. A claimer that fails ends the test for all.
#[test]
fn limits_and_order_hold_while_many_threads_work() {
    let counters = |count| (0..count).map(|_| AtomicUsize::new(0)).collect();
    let crowd = &Crowd {
        engine: Rig::keeping(0).engine,
        now: Timestamp::from_micros(1_000_000),
        running: counters(NAMES),
        ends: counters(TOTAL),
        ended: AtomicUsize::new(0),
        limit: Deadline::after(Duration::from_secs(60)),
    };
    let mut starts: Vec<_> = std::thread::scope(|scope| {
        (0..PUSHERS).for_each(|pusher| _ = scope.spawn(move || crowd.push(pusher)));
        scope.spawn(|| crowd.disturb());
        let consumers: Vec<_> = (0..3).map(|n| scope.spawn(move || crowd.consume(n))).collect();
        consumers.into_iter().flat_map(|c| c.join().unwrap()).collect()
    });
    assert_eq!(crowd.ended.load(SeqCst), TOTAL);
    let all = starts.len();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), all, "no attempt starts twice");
    let counts = crowd.engine.counts().unwrap().swap_remove(0);
    assert!(counts.balanced());
    assert_eq!((counts.waiting(), counts.running), (0, 0));
    for k in 0..NAMES {
        assert_eq!(crowd.engine.key_standing(Q, &k.to_string()).unwrap(), None);
    }
}

/// Of a thousand keys that are known, one has jobs, and none of them came last.
#[test]
fn the_oldest_is_found_among_keys_without_jobs() {
    let rig = Rig::new();
    for n in 0..1000 {
        rig.engine.limit_key(Q, &n.to_string(), Some(1)).unwrap();
    }
    rig.engine.limit_key(Q, "held", Some(0)).unwrap();
    rig.push_keyed("long", 10..15);
    rig.push_keyed("held", 20..22);
    assert_eq!(rig.claim_all(), [10, 11, 12, 13, 14]);
    assert_eq!(rig.evict(Victim::Oldest, ShedReason::Oldest), Some(20));
    assert_eq!(rig.evict(Victim::Oldest, ShedReason::Oldest), Some(21));
    assert_eq!(rig.evict(Victim::Oldest, ShedReason::Oldest), None);
    rig.counts();
}
