//! No-op jobs with a 100-byte payload through two workers: push them all from one thread, wait until every
//! handler has run and every outcome is stored. Forebay keeps an id, a state, attempts, times and a result
//! per job; the peers keep nothing, and that is the comparison.
//!
//! `make bench`, or `cargo bench -p forebay-benches -- JOBS ROUNDS`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Deadline, Dispatcher, NewJob, Options};
use forebay_benches::{Contender, in_turn};

const WORKERS: usize = 2;
const PAYLOAD: [u8; 100] = [7; 100];

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (jobs, rounds) = (
        numbers.first().copied().unwrap_or(200_000),
        numbers.get(1).copied().unwrap_or(5),
    );
    let rows = in_turn(
        &mut [
            Contender {
                name: "crossbeam pool of boxed payloads",
                run: &mut crossbeam_pool,
            },
            Contender {
                name: "rayon::spawn",
                run: &mut rayon_pool(),
            },
            Contender {
                name: "threadpool",
                run: &mut thread_pool(),
            },
            Contender {
                name: "forebay push",
                run: &mut |n| forebay(n, 1),
            },
            Contender {
                name: "forebay push_many(64)",
                run: &mut |n| forebay(n, 64),
            },
        ],
        rounds as usize,
        jobs,
    );
    println!(
        "{jobs} no-op jobs of 100 bytes, {WORKERS} workers, {rounds} rounds in turn, durability: memory"
    );
    println!("| contender | jobs/s (median) | ratio to the first |\n|---|---|---|");
    for row in rows {
        println!("| {} | {:.0} | {:.2} |", row.name, row.per_second, row.ratio);
    }
}

/// Waits until `count` has reached `n`.
fn wait_for(count: &AtomicU64, n: u64) {
    while count.load(Ordering::Acquire) < n {
        std::thread::yield_now();
    }
}

fn crossbeam_pool(n: u64) {
    let (sender, receiver) = crossbeam_channel::unbounded::<Box<[u8; 100]>>();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let receiver = receiver.clone();
            std::thread::spawn(move || receiver.iter().for_each(|job| drop(black_box(job))))
        })
        .collect();
    for _ in 0..n {
        sender
            .send(Box::new(PAYLOAD))
            .expect("the workers live as long as the sender");
    }
    drop(sender);
    for worker in workers {
        worker.join().expect("the workers do not panic");
    }
}

fn rayon_pool() -> impl FnMut(u64) {
    let pool = rayon_core::ThreadPoolBuilder::new()
        .num_threads(WORKERS)
        .build()
        .expect("two threads can be had");
    move |n| {
        let done = Arc::new(AtomicU64::new(0));
        for _ in 0..n {
            let (done, job) = (done.clone(), Box::new(PAYLOAD));
            pool.spawn(move || {
                black_box(job);
                done.fetch_add(1, Ordering::AcqRel);
            });
        }
        wait_for(&done, n);
    }
}

fn thread_pool() -> impl FnMut(u64) {
    let pool = threadpool::ThreadPool::new(WORKERS);
    move |n| {
        for _ in 0..n {
            let job = Box::new(PAYLOAD);
            pool.execute(move || drop(black_box(job)));
        }
        pool.join();
    }
}

fn forebay(n: u64, batch: u64) {
    let mut options = Options::default();
    options.concurrency = WORKERS;
    options.capacity = 0;
    let d = Dispatcher::open("memory:", options).expect("the options fit together");
    let kind = d
        .register("noop", |lease| {
            black_box(lease.payload().len());
        })
        .expect("a valid name");
    d.start().expect("two threads can be had");
    let job = || NewJob::new(kind, &PAYLOAD);
    for _ in 0..n / batch {
        if batch == 1 {
            d.push(job()).expect("the queue has no bound");
        } else {
            let jobs: Vec<_> = (0..batch).map(|_| job()).collect();
            d.push_many(&jobs).expect("the queue has no bound");
        }
    }
    d.drain(Deadline::after(Duration::from_secs(60)))
        .expect("no-op jobs end");
    assert_eq!(
        d.stats().expect("memory does not fail").total().totals.succeeded,
        n / batch * batch
    );
    d.stop(Duration::ZERO).expect("nothing runs any more");
}
