//! Forebay, in the ways it can be used. Every job has an id, a state, attempts, times, a priority, perhaps a
//! timeout, and a result that can be asked for afterwards; nothing of that is switched off unless the name of
//! the contender says so.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use forebay::{
    Consumer, Deadline, Dispatcher, KindId, KindSet, Lease, NewJob, OnFull, Options, Outcome, Payload,
};

use super::{Contender, Work};

/// How many jobs travel together where jobs travel together.
const BATCH: u64 = 64;

/// Longer than any run takes.
const AGES: Duration = Duration::from_secs(300);

/// What differs between the contenders whose handler is a closure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// One job per push.
    Single,
    /// 64 jobs per push.
    Many,
    /// One job per push; a push waits while 4096 jobs are queued.
    Bounded,
    /// One job per push, with a timeout, a priority and a result.
    Optioned,
    /// One job per push, and nothing is remembered of finished jobs.
    Unkept,
    /// One job per push, and a million finished jobs are remembered.
    Kept,
}

impl Way {
    /// The way of the contender of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "forebay" => Self::Single,
            "forebay-many" => Self::Many,
            "forebay-4096" => Self::Bounded,
            "forebay-options" => Self::Optioned,
            "forebay-unkept" => Self::Unkept,
            "forebay-kept" => Self::Kept,
            _ => return None,
        })
    }

    fn options(self, workers: usize) -> Options {
        let mut options = Options::default();
        options.concurrency = workers;
        options.capacity = 0;
        match self {
            Self::Bounded => {
                options.capacity = 4096;
                options.on_full = OnFull::Block(AGES);
            }
            Self::Unkept => options.keep_finished = 0,
            Self::Kept => options.keep_finished = 1_000_000,
            Self::Single | Self::Many | Self::Optioned => {}
        }
        options
    }
}

/// Closures as handlers, run by Forebay's own threads.
pub struct Forebay {
    /// For what a measurement asks beyond producing.
    pub dispatcher: Dispatcher,
    kind: KindId,
    way: Way,
}

impl Forebay {
    /// Starts the workers.
    pub fn open(workers: usize, way: Way, work: impl Work) -> Self {
        let forebay = Self::paused(workers, way, work);
        forebay.dispatcher.start().expect("a few threads can be had");
        forebay
    }

    /// As [`Forebay::open`], without any worker yet.
    pub fn paused(workers: usize, way: Way, work: impl Work) -> Self {
        let dispatcher = Dispatcher::open("memory:", way.options(workers)).expect("the options fit together");
        let kind = if way == Way::Optioned {
            dispatcher.register("noop", move |lease| {
                work(bytes(lease));
                Payload::from(b"done")
            })
        } else {
            dispatcher.register("noop", move |lease| work(bytes(lease)))
        };
        Self {
            kind: kind.expect("a valid name"),
            dispatcher,
            way,
        }
    }
}

impl Contender for Forebay {
    fn produce(&self, payload: &[u8], jobs: u64) {
        if self.way == Way::Many {
            return push_batches(&self.dispatcher, self.kind, payload, jobs);
        }
        for number in 0..jobs {
            let mut job = NewJob::new(self.kind, payload);
            if self.way == Way::Optioned {
                job = job.priority((number % 4) as i8).timeout(AGES);
            }
            self.dispatcher
                .push(job)
                .expect("there is room, at the latest in a while");
        }
    }

    fn settle(&self) {
        settle(&self.dispatcher);
    }
}

impl Drop for Forebay {
    fn drop(&mut self) {
        self.dispatcher
            .stop(Duration::ZERO)
            .expect("memory does not fail");
    }
}

/// Threads of the host's own, which claim jobs in batches and answer for them while they claim the next.
pub struct Pull {
    dispatcher: Dispatcher,
    kind: KindId,
    workers: Vec<JoinHandle<()>>,
}

impl Pull {
    /// Starts the workers.
    pub fn open(workers: usize, work: impl Work) -> Self {
        let dispatcher = Dispatcher::open("memory:", Way::Single.options(workers * BATCH as usize))
            .expect("the options fit together");
        let kind = dispatcher.kind("noop").expect("a valid name");
        let worker = |_| {
            let consumer = dispatcher.consumer(Arc::new(KindSet::any()));
            std::thread::spawn(move || pull(consumer, work))
        };
        Self {
            workers: (0..workers).map(worker).collect(),
            dispatcher,
            kind,
        }
    }
}

impl Contender for Pull {
    fn produce(&self, payload: &[u8], jobs: u64) {
        push_batches(&self.dispatcher, self.kind, payload, jobs);
    }

    fn settle(&self) {
        settle(&self.dispatcher);
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.dispatcher
            .stop(Duration::ZERO)
            .expect("memory does not fail");
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker does not panic");
        }
    }
}

/// Runs jobs in batches until the dispatcher stops.
fn pull(mut consumer: Consumer, work: impl Work) {
    let (mut leases, mut next) = (Vec::new(), Vec::new());
    while consumer
        .next_many(BATCH as usize, Deadline::NEVER, &mut leases)
        .is_ok()
    {
        while !leases.is_empty() {
            let done = leases.drain(..).map(|lease: Lease| {
                let outcome = lease.run(|lease| {
                    work(bytes(lease));
                    Outcome::from(())
                });
                (lease, outcome)
            });
            let claimed = consumer.complete_and_next_many(done, BATCH as usize, &mut next);
            claimed.expect("memory does not fail");
            std::mem::swap(&mut leases, &mut next);
        }
    }
}

fn push_batches(dispatcher: &Dispatcher, kind: KindId, payload: &[u8], jobs: u64) {
    let mut batch = Vec::new();
    let mut left = jobs;
    while left > 0 {
        let size = left.min(BATCH);
        batch.extend((0..size).map(|_| NewJob::new(kind, payload)));
        dispatcher.push_from(&mut batch).expect("the queue has no bound");
        left -= size;
    }
}

fn bytes(lease: &Lease) -> &[u8] {
    lease.payload().as_bytes().expect("it was pushed as bytes")
}

fn settle(dispatcher: &Dispatcher) {
    dispatcher.drain(Deadline::after(AGES)).expect("no-op jobs end");
    let total = dispatcher.stats().expect("memory does not fail").total().totals;
    assert_eq!(total.succeeded, total.pushed, "every job succeeded");
}
