//! Many threads at once: one holder per job, nothing lost, no limit exceeded, no snapshot that does not add up.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Make;
use super::dice::{Dice, seed};
use super::stage::{Stage, at_once, job, until};
use crate::config::{KindOptions, QueueOptions};
use crate::error::ErrorKind;
use crate::job::{NewJob, State};
use crate::outcome::Outcome;
use crate::{Answer, Deadline, JobId, RetryPolicy};

/// Counts those who are inside at once, and the most there ever were.
#[derive(Default)]
struct Room {
    inside: AtomicUsize,
    peak: AtomicUsize,
}

impl Room {
    fn enter(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(inside, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

fn soon_enough() -> Deadline {
    Deadline::after(Duration::from_millis(5))
}

/// Rows 10 and 23: pushers, workers, cancellers and a clock that makes attempts time out, all at once. Each job
/// has one live holder, each ends exactly once, no limit is exceeded (bodies that timed out are counted until
/// they end), and everything adds up.
pub fn a_crowd_keeps_every_promise(make: Make<'_>) {
    const PUSHERS: usize = 3;
    const EACH: usize = 250;
    let stage = Stage::with(make, |o| {
        o.concurrency = 6;
        o.max_attempts = 4;
        o.retry = RetryPolicy::none();
    });
    let (d, seed) = (&stage.d, seed());
    d.declare("narrow", KindOptions::new().concurrency(2)).unwrap();
    d.configure_queue("small", QueueOptions::new().concurrency(3))
        .unwrap();
    let [all, of_kind, of_queue] = <[Room; 3]>::default();
    // Who has held a job: the fences, each of which is given once. Which of two holders gets here first says nothing
    // of which had it first, as one may be on its way while its attempt times out.
    let holders: Mutex<HashMap<JobId, BTreeSet<u64>>> = Mutex::default();
    let (pushed, stored, done) = (Mutex::new(Vec::new()), AtomicU64::new(0), AtomicBool::new(false));
    let over = |ids: &[JobId]| ids.iter().all(|id| stage.state(*id).is_final());
    let work = |number: u64| {
        let mut dice = Dice::new(seed ^ number << 32);
        let mut consumer = stage.consumer();
        let mut next = None;
        while next.is_some() || !done.load(Ordering::SeqCst) {
            let Some(lease) = next.take().or_else(|| consumer.next(soon_enough()).unwrap()) else {
                continue;
            };
            all.enter();
            let (narrow, small) = (&*lease.kind() == "narrow", &*lease.queue() == "small");
            let rooms = [(narrow, &of_kind), (small, &of_queue)];
            rooms.iter().filter(|r| r.0).for_each(|r| r.1.enter());
            let given = holders
                .lock()
                .entry(lease.id())
                .or_default()
                .insert(lease.fence());
            assert!(
                given,
                "{} is held twice under fence {}",
                lease.id(),
                lease.fence()
            );
            let until_told = dice.one_in(8);
            for _ in 0..dice.below(200) {
                if until_told && lease.cancelled() {
                    break;
                }
                std::thread::yield_now();
            }
            rooms.iter().filter(|r| r.0).for_each(|r| r.1.leave());
            all.leave();
            let outcome = match dice.below(10) {
                0 => Outcome::failed("bad luck"),
                1 => Outcome::retry(Duration::ZERO),
                2 => Outcome::snooze(Duration::ZERO),
                3 => Outcome::fatal("very bad luck"),
                4 => {
                    drop(lease);
                    continue;
                }
                5 => {
                    let answer = lease.complete(Outcome::done()).unwrap();
                    stored.fetch_add(
                        u64::from(answer == Answer::Stored(State::Succeeded)),
                        Ordering::SeqCst,
                    );
                    continue;
                }
                _ => Outcome::done(),
            };
            let (answer, found) = consumer.complete_and_next(lease, outcome).unwrap();
            stored.fetch_add(
                u64::from(answer == Answer::Stored(State::Succeeded)),
                Ordering::SeqCst,
            );
            next = found;
        }
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            let work = &work;
            scope.spawn(move || work(number));
        }
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|number| {
                let pushed = &pushed;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed ^ (99 + number as u64));
                    for i in 0..EACH {
                        let kind = if dice.one_in(3) { "narrow" } else { "wide" };
                        let queue = if dice.one_in(3) { "small" } else { "default" };
                        let mut new = NewJob::new(kind, ()).queue(queue).priority(dice.below(3) as i8);
                        if dice.one_in(2) {
                            new = new.timeout(Duration::from_millis(1 + dice.below(3)));
                        }
                        if dice.one_in(5) {
                            new = new.delay(Duration::from_millis(dice.below(5)));
                        }
                        let id = d.push(new).unwrap().id;
                        pushed.lock().push(id);
                        if dice.one_in(10) {
                            d.cancel(id).unwrap();
                        }
                        if i % 50 == 0 {
                            assert!(d.stats().unwrap().queues.iter().all(|q| q.counts.balanced()));
                        }
                    }
                })
            })
            .collect();
        let clock = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                stage.advance(Duration::from_millis(1));
                std::thread::yield_now();
            }
        });
        pushers.into_iter().for_each(|p| p.join().unwrap());
        let ids = pushed.lock().clone();
        until("every job ends", || over(&ids));
        done.store(true, Ordering::SeqCst);
        clock.join().unwrap();
    });
    stage.check_balance();
    let totals = stage.counts().totals;
    assert_eq!(
        (totals.pushed, stage.counts().waiting(), stage.counts().running),
        ((PUSHERS * EACH) as u64, 0, 0)
    );
    assert_eq!(
        totals.succeeded + totals.failed + totals.cancelled,
        totals.pushed,
        "each job ended once"
    );
    assert_eq!(
        totals.succeeded,
        stored.into_inner(),
        "and every success was told to its own holder"
    );
    let peaks = [all, of_kind, of_queue].map(|room| room.peak.into_inner());
    assert!(
        peaks[0] <= 6 && peaks[1] <= 2 && peaks[2] <= 3,
        "{peaks:?} of [6, 2, 3]"
    );
    assert_eq!(stage.d.stats().unwrap().bodies, 0, "no slot was lost");
}

/// large payloads pushed to workers that wait: all are executed, and each is what it was.
pub fn large_payloads_all_arrive(make: Make<'_>) {
    const LARGE: usize = 1 << 20;
    for (jobs, len) in [(200u64, LARGE), (40, 4 * LARGE)] {
        let (stage, sum) = (Stage::with(make, |o| o.capacity = 4), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut consumer = stage.consumer();
                    while let Ok(Some(lease)) = consumer.next(super::stage::soon()) {
                        let bytes = lease.payload().as_bytes().unwrap();
                        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                        assert!(bytes.len() == len && bytes[len - 1] == number as u8);
                        sum.fetch_add(number, Ordering::SeqCst);
                        lease.complete(Outcome::done()).unwrap();
                    }
                });
            }
            for number in 1..=jobs {
                let mut bytes = vec![0; len];
                bytes[..8].copy_from_slice(&number.to_le_bytes());
                bytes[len - 1] = number as u8;
                stage
                    .d
                    .push_within(NewJob::new("k", bytes), Duration::from_secs(60))
                    .unwrap();
            }
            stage.d.drain(super::stage::soon()).unwrap();
            stage.d.stop(Duration::from_secs(60)).unwrap();
        });
        assert_eq!(
            (stage.counts().totals.succeeded, sum.into_inner()),
            (jobs, jobs * (jobs + 1) / 2)
        );
    }
}

/// Row 62: whoever looks while others work sees counts that add up, at every instant.
pub fn every_snapshot_adds_up(make: Make<'_>) {
    let (stage, done) = (
        Stage::with(make, |o| o.retry = RetryPolicy::none()),
        AtomicBool::new(false),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut consumer = stage.consumer();
            let mut turn = 0;
            // Until the request to stop: whoever pushes may take his time.
            while let Ok(Some(lease)) = consumer.next(super::stage::soon()) {
                turn += 1;
                let outcome = [
                    Outcome::done(),
                    Outcome::failed("no"),
                    Outcome::snooze(Duration::ZERO),
                ];
                lease.complete(outcome[turn % 3].clone()).unwrap();
            }
        });
        scope.spawn(|| {
            for i in 0..1500 {
                let id = stage.push(job().queue(["a", "b"][i % 2]));
                if i % 7 == 0 {
                    stage.d.cancel(id).unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut last = 0;
        while !done.load(Ordering::SeqCst) {
            stage.check_balance();
            let now = stage.counts().totals.pushed;
            assert!(now >= last, "counters never go back");
            last = now;
        }
        stage.d.drain(super::stage::soon()).unwrap();
        stage.d.request_stop();
    });
    stage.check_balance();
    assert_eq!(stage.counts().totals.pushed, 1500);
}

/// C21: a stop in the midst of pushes and work: afterwards nothing runs, and every job is accounted for.
pub fn a_stop_in_a_crowd_loses_nothing(make: Make<'_>) {
    for _ in 0..10 {
        let stage = Stage::new(make);
        let accepted = AtomicU64::new(0);
        let finished = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        match stage.d.push(job()) {
                            Ok(_) => drop(accepted.fetch_add(1, Ordering::SeqCst)),
                            Err(error) => return assert_eq!(error.kind(), ErrorKind::Closed),
                        }
                    }
                });
            }
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut consumer = stage.consumer();
                    loop {
                        match consumer.next(super::stage::soon()) {
                            Ok(lease) => {
                                let answer = lease.unwrap().complete(Outcome::done()).unwrap();
                                finished.fetch_add(u64::from(answer != Answer::Stale), Ordering::SeqCst);
                            }
                            Err(error) => return assert_eq!(error.kind(), ErrorKind::Closed),
                        }
                    }
                });
            }
            until("some work", || finished.load(Ordering::SeqCst) > 20);
            stage.d.stop(Duration::ZERO).unwrap();
            let counts = stage.counts();
            assert_eq!(counts.running, 0, "nothing runs on behind a stop");
        });
        let counts = stage.counts();
        assert_eq!(
            (counts.running, counts.totals.succeeded),
            (0, finished.into_inner())
        );
        assert_eq!(counts.totals.pushed, accepted.into_inner());
        assert_eq!(counts.waiting() + counts.totals.succeeded, counts.totals.pushed);
    }
}

/// D5: thousands of queues and kinds are told apart.
pub fn many_names_are_told_apart(make: Make<'_>) {
    const NAMES: usize = 2000;
    let stage = Stage::new(make);
    for i in 0..NAMES {
        stage.push(NewJob::new(format!("kind {i}"), ()).queue(format!("queue {i}")));
    }
    let mut consumer = stage.consumer();
    for i in 0..NAMES {
        let lease = consumer.next(at_once()).unwrap().expect("each queue has one");
        assert_eq!(
            (&*lease.queue(), &*lease.kind()),
            (&*format!("queue {i}"), &*format!("kind {i}"))
        );
        lease.complete(Outcome::done()).unwrap();
    }
    assert_eq!(
        stage
            .d
            .stats()
            .unwrap()
            .queues
            .iter()
            .filter(|q| q.counts.totals.succeeded == 1)
            .count(),
        NAMES
    );
}
