//! What concurrency keys cost when there are many: a backlog of jobs, each key's in turn, pushed and then run by one
//! thread.

use std::fmt::Write;
use std::sync::Arc;

use forebay::{Consumer, Deadline, Dispatcher, KindId, KindSet, Lease, NewJob, Options, Outcome};
use forebay_benches::figures::Figures;
use forebay_benches::measure::{resident_bytes, seconds};

const JOBS: usize = 1_000_000;
const BATCH: usize = 64;

/// What a contender's jobs carry, and the options of its queue.
#[derive(Clone, Copy)]
enum Carried {
    Nothing,
    /// What a key is kept in, without one.
    Header,
    /// One of so many keys.
    Keys(usize),
}

fn contender(name: &str) -> (Carried, &'static str) {
    match name {
        "plain" => (Carried::Nothing, ""),
        "header" => (Carried::Header, ""),
        "one-key" => (Carried::Keys(1), ""),
        "1000-keys" => (Carried::Keys(1000), ""),
        "million-keys" => (Carried::Keys(JOBS), ""),
        "million-limited" => (Carried::Keys(JOBS), "&key_concurrency=1"),
        "million-rated" => (Carried::Keys(JOBS), "&key_rate=1000/s"),
        _ => panic!("no contender is called {name:?}"),
    }
}

/// Pushes a million jobs, looks how much the process has grown, and runs them.
pub fn backlog(name: &str) -> Figures {
    let (carried, options) = contender(name);
    let url = format!("memory:?concurrency={BATCH}&capacity=0&keep_finished=0{options}");
    let d = Dispatcher::open(&url, Options::default()).expect("the options fit together");
    let kind = d.kind("noop").expect("a valid name");
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    // So that what is needed once is there before the counting begins.
    push(&d, kind, 1000, Carried::Nothing);
    run(&mut consumer, 1000);
    let before = resident_bytes();
    let pushed = seconds(|| push(&d, kind, JOBS, carried));
    let after = resident_bytes();
    let ran = seconds(|| run(&mut consumer, JOBS));
    let per_second = |seconds: f64| JOBS as f64 / seconds;
    Figures::from([
        ("pushed/s".into(), per_second(pushed)),
        ("run/s".into(), per_second(ran)),
        ("jobs/s in all".into(), per_second(pushed + ran)),
        ("bytes per job".into(), (after - before) as f64 / JOBS as f64),
    ])
}

fn push(d: &Dispatcher, kind: KindId, jobs: usize, carried: Carried) {
    let mut key = String::new();
    for number in 0..jobs {
        let job = NewJob::new(kind, [7; 100].as_slice());
        let job = match carried {
            Carried::Nothing => job,
            Carried::Header => job.header("tenant", "none"),
            Carried::Keys(keys) => {
                key.clear();
                write!(key, "tenant-{:07}", number % keys).expect("there is memory");
                job.concurrency_key(key.as_str())
            }
        };
        d.push(job).expect("the queue has no bound");
    }
}

fn run(consumer: &mut Consumer, jobs: usize) {
    let (mut leases, mut next, mut left) = (Vec::new(), Vec::new(), jobs);
    let first = consumer.next_many(BATCH, Deadline::NEVER, &mut leases);
    first.expect("memory does not fail");
    loop {
        left -= leases.len();
        let done = leases.drain(..).map(|lease: Lease| (lease, Outcome::done()));
        let claimed = consumer.complete_and_next_many(done, BATCH.min(left), &mut next);
        claimed.expect("memory does not fail");
        std::mem::swap(&mut leases, &mut next);
        if left == 0 {
            return;
        }
    }
}
