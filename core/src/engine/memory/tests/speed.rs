//! Numbers, not tests: `cargo test --release -p forebay memory::tests::speed -- --ignored --nocapture
//! --test-threads 1`.

use super::*;
use crate::{Clock, SystemClock};

const JOBS: usize = 2_000_000;

#[test]
#[ignore = "a measurement"]
fn jobs_per_second() {
    for (batch, capacity, keep, lease) in [
        (1, 0, 0, None),
        (1, 4096, 0, None),
        (1, 4096, 10_000, None),
        (1, 4096, 10_000, Some(us(30_000_000))),
        (64, 0, 0, None),
        (64, 4096, 0, None),
        (64, 4096, 10_000, None),
        (64, 4096, 10_000, Some(us(30_000_000))),
    ] {
        let mut speeds: Vec<f64> = (0..5)
            .map(|_| {
                let rig = Rig::keeping(keep);
                let start = SystemClock.now();
                std::thread::scope(|scope| {
                    scope.spawn(|| produce(&rig.engine, batch, capacity));
                    scope.spawn(|| consume(&rig.engine, batch, lease));
                });
                JOBS as f64 / SystemClock.now().since(start).as_secs_f64() / 1e6
            })
            .collect();
        speeds.sort_by(f64::total_cmp);
        let lease = lease.is_some();
        println!(
            "1 producer, 1 consumer, batch {batch:2}, capacity {capacity:4}, keep {keep:5}, lease {lease:5}: {:.2} M/s (min {:.2}, max {:.2})",
            speeds[2], speeds[0], speeds[4]
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn nanoseconds_on_one_thread() {
    for (batch, keep) in [(1, 0), (64, 0), (1, 10_000), (64, 10_000)] {
        let rig = Rig::keeping(keep);
        let start = SystemClock.now();
        produce(&rig.engine, batch, 0);
        let pushed = SystemClock.now().since(start);
        consume(&rig.engine, batch, None);
        let (push, rest) = (
            pushed.as_nanos(),
            (SystemClock.now().since(start) - pushed).as_nanos(),
        );
        let per = |ns: u128| ns / JOBS as u128;
        println!(
            "alone, backlog of {JOBS}, batch {batch:2}, keep {keep:5}: push {} ns, claim and finish {} ns",
            per(push),
            per(rest)
        );
    }
}

/// One thread that pushes a batch and works it off: what a job costs when everything is in the cache and
/// nobody else is there.
#[test]
#[ignore = "a measurement"]
fn nanoseconds_without_a_backlog() {
    for (batch, capacity, keep) in [(1, 4096, 0), (64, 4096, 0), (1, 4096, 10_000), (64, 4096, 10_000)] {
        let rig = Rig::keeping(keep);
        let (node, now) = (&rig.node, rig.now());
        let payload = Payload::from(vec![7; 100]);
        let (mut done, mut applied, mut out, mut receipt) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let start = SystemClock.now();
        for _ in 0..JOBS / batch {
            let new = || Insert {
                payload: Parcel::Shared(&payload),
                capacity,
                ..plain(JobId::new(now))
            };
            receipt.clear();
            applied.clear();
            if batch == 1 {
                rig.engine.insert(&[new()], now, &mut receipt).unwrap();
            } else {
                let jobs: Vec<_> = (0..batch).map(|_| new()).collect();
                rig.engine.insert(&jobs, now, &mut receipt).unwrap();
            }
            let mut kinds = [KindClaim {
                allowance: 1000,
                max_attempts: 3,
                timeout: None,
            }];
            let mut claim = Claim {
                queue: Q,
                kinds: &mut kinds,
                limit: batch,
                lease: Some(us(30_000_000)),
                node,
                worker: 1,
                keys: crate::engine::KeyLimits::default(),
                relays: false,
                out: &mut out,
            };
            rig.engine
                .turn(&mut done, &mut applied, Some(&mut claim), now)
                .unwrap();
            done.clear();
            done.extend(out.drain(..).map(|c| says(c.job, true, State::Succeeded)));
        }
        let ns = SystemClock.now().since(start).as_nanos() / JOBS as u128;
        println!("alone, no backlog, batch {batch:2}, keep {keep:5}, with a lease: {ns} ns per job");
    }
}

fn produce(engine: &MemoryEngine, batch: usize, capacity: usize) {
    let payloads: Vec<Payload> = (0..batch).map(|_| Payload::from(vec![7; 100])).collect();
    let (mut receipt, now) = (Vec::new(), Timestamp::from_micros(1_000_000));
    let mut pushed = 0;
    while pushed < JOBS {
        let mut jobs: Vec<_> = payloads
            .iter()
            .map(|payload| Insert {
                payload: Parcel::Shared(payload),
                capacity,
                ..plain(JobId::new(now))
            })
            .collect();
        while !jobs.is_empty() {
            receipt.clear();
            engine.insert(&jobs, now, &mut receipt).unwrap();
            let new = receipt.iter().filter(|r| **r == Inserted::New).count();
            pushed += new;
            if new == jobs.len() {
                break;
            }
            // It stops at the first that is refused.
            jobs.drain(..new);
            std::thread::yield_now();
        }
    }
}

fn consume(engine: &MemoryEngine, batch: usize, lease: Option<Duration>) {
    let node: Arc<str> = "here".into();
    let now = Timestamp::from_micros(1_000_000);
    let (mut done, mut applied, mut out, mut finished) = (Vec::new(), Vec::new(), Vec::new(), 0);
    while finished < JOBS {
        applied.clear();
        let mut kinds = [KindClaim {
            allowance: 1000,
            max_attempts: 3,
            timeout: None,
        }; 3];
        let mut claim = Claim {
            queue: Q,
            kinds: &mut kinds,
            limit: batch,
            lease,
            node: &node,
            worker: 1,
            keys: crate::engine::KeyLimits::default(),
            relays: false,
            out: &mut out,
        };
        engine
            .turn(&mut done, &mut applied, Some(&mut claim), now)
            .unwrap();
        finished += done.len();
        done.clear();
        done.extend(out.drain(..).map(|c| says(c.job, true, State::Succeeded)));
    }
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

#[test]
#[ignore = "a measurement"]
fn bytes_per_queued_job() {
    let rig = Rig::new();
    let before = resident();
    const JOBS: usize = 1_000_000;
    let mut receipt = Vec::with_capacity(1);
    for _ in 0..JOBS {
        receipt.clear();
        let payload = Payload::from(vec![7; 100]);
        let job = Insert {
            payload: Parcel::Shared(&payload),
            ..plain(JobId::new(rig.now()))
        };
        rig.engine.insert(&[job], rig.now(), &mut receipt).unwrap();
    }
    let bytes = (resident() - before) / JOBS;
    println!("{bytes} bytes per queued job with a payload of 100");
    assert!(bytes < 400);
}
