//! The law that no job is lost or counted twice, held against a dispatcher with every policy at once.
//!
//! A ledger beside the dispatcher notes what it was answered: how many jobs it accepted, refused, shed as they
//! came, and how many attempts it took the end of. After every slice of the run one snapshot must balance, queue
//! by queue, and agree with the ledger. At the end everything left is worked off, and nothing must remain.

use std::sync::Arc;
use std::time::Duration;

use forebay::engine::memory::MemoryEngine;
use forebay::engine::{QueueCounts, Totals};
use forebay::{
    Answer, Consumer, Dispatcher, ErrorKind, JobId, KindId, KindOptions, KindSet, Lease, ManualClock, NewJob,
    Options, Outcome, QueueId, QueueOptions, State,
};

use super::rng::Rng;

/// The queues: a name, and the options of each.
const QUEUES: [(&str, &[(&str, &str)]); 10] = [
    ("reject", &[("capacity", "500")]),
    ("bytes", &[("capacity_bytes", "20000")]),
    ("newest", &[("capacity", "500"), ("on_full", "drop_newest")]),
    ("oldest", &[("capacity", "500"), ("on_full", "drop_oldest")]),
    ("lowest", &[("capacity", "500"), ("on_full", "drop_lowest")]),
    (
        "coalesce",
        &[
            ("capacity", "500"),
            ("on_full", "coalesce"),
            ("key_concurrency", "4"),
        ],
    ),
    ("sample", &[("capacity", "500"), ("on_full", "sample(0.3)")]),
    ("delay", &[("delay_target", "5ms"), ("delay_interval", "20ms")]),
    (
        "newest-first",
        &[
            ("delay_target", "5ms"),
            ("delay_interval", "20ms"),
            ("newest_first", "true"),
        ],
    ),
    (
        "rate",
        &[
            ("capacity", "500"),
            ("on_full", "drop_oldest"),
            ("rate", "20000/s"),
        ],
    ),
];

/// What a run has accounted for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Books {
    /// Jobs that were accepted.
    pub accepted: u64,
    /// Snapshots that balanced and agreed with the ledger.
    pub snapshots: u64,
    /// What happened, over all queues.
    pub totals: Totals,
}

impl Books {
    /// Those of two runs together.
    #[must_use]
    pub fn and(mut self, other: &Books) -> Self {
        self.accepted += other.accepted;
        self.snapshots += other.snapshots;
        for ((_, sum), (_, count)) in self.totals.named_mut().into_iter().zip(other.totals.named()) {
            *sum += count;
        }
        self
    }
}

/// Pushes `jobs` jobs or a few more, `slice` of them between two looks at the counts.
///
/// # Errors
/// The first snapshot that does not balance, with what is wrong.
pub fn run(jobs: u64, slice: u64, seed: u64) -> Result<Books, String> {
    let mut till = Till::open(seed);
    let mut snapshots = 0;
    while till.ledger.accepted < jobs {
        let until = till.ledger.accepted + slice;
        while till.ledger.accepted < until {
            till.step();
        }
        till.audit()?;
        snapshots += 1;
    }
    till.work_off();
    let total = till.audit()?;
    if total.waiting() + total.running > 0 {
        return Err(format!("jobs remain that nothing gets out: {total:?}"));
    }
    Ok(Books {
        accepted: till.ledger.accepted,
        snapshots: snapshots + 1,
        totals: total.totals,
    })
}

/// What the dispatcher has answered.
#[derive(Clone, Copy, Default, Debug)]
struct Ledger {
    accepted: u64,
    refused: u64,
    shed_at_push: u64,
    succeeded: u64,
    failed_for_good: u64,
    cancelled: u64,
}

struct Till {
    dispatcher: Dispatcher,
    clock: Arc<ManualClock>,
    consumer: Consumer,
    queues: Vec<QueueId>,
    kinds: [KindId; 2],
    keys: Vec<String>,
    rng: Rng,
    ledger: Ledger,
    /// Leases that run.
    held: Vec<Lease>,
    claimed: Vec<Lease>,
    /// Some of the jobs that were pushed last.
    recent: Vec<JobId>,
}

/// How many jobs run at once.
const HANDLERS: usize = 256;

impl Till {
    fn open(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new());
        let mut options = Options::default();
        options.concurrency = HANDLERS;
        options.keep_finished = 1000;
        let engine = Arc::new(MemoryEngine::new(options.keep_finished));
        let dispatcher = Dispatcher::with_clock(engine, options, clock.clone()).expect("it opens");
        let queue = |(name, settings): &(&str, &[(&str, &str)])| {
            let mut options = QueueOptions::new();
            for (name, text) in *settings {
                options.set(name, text).expect("an option of a queue");
            }
            dispatcher.configure_queue(name, options).expect("a queue")
        };
        let queues = QUEUES.iter().map(queue).collect();
        let kind = |name: &str, settings: &[(&str, &str)]| {
            let mut options = KindOptions::new();
            for (name, text) in settings {
                options.set(name, text).expect("an option of a kind");
            }
            dispatcher.declare(name, options).expect("a kind")
        };
        let quick = ("retry", "constant(2ms)");
        let kinds = [
            kind("plain", &[("max_attempts", "3"), quick]),
            kind(
                "careful",
                &[
                    ("max_attempts", "3"),
                    quick,
                    ("adaptive", "gradient(min=2, max=64)"),
                    ("retry_budget", "share(0.2, floor=100/s)"),
                ],
            ),
        ];
        Self {
            consumer: dispatcher.consumer(Arc::new(KindSet::any())),
            dispatcher,
            clock,
            queues,
            kinds,
            keys: (0..50).map(|key| format!("key-{key}")).collect(),
            rng: Rng::new(seed),
            ledger: Ledger::default(),
            held: Vec::new(),
            claimed: Vec::new(),
            recent: Vec::new(),
        }
    }

    /// A little time passes: jobs come, some end, others start.
    fn step(&mut self) {
        // More and less than can be done, in turn, so that queues fill and empty.
        let flood = self.clock_phase();
        for _ in 0..self.rng.below(if flood { 600 } else { 40 }) {
            self.push();
        }
        for _ in 0..self.rng.below(3) {
            self.cancel();
        }
        self.turn();
        self.clock.advance(Duration::from_micros(self.rng.below(2000)));
        self.dispatcher
            .upkeep()
            .expect("the memory is no store that fails");
    }

    /// Whether it is a time in which more comes than can be done.
    fn clock_phase(&self) -> bool {
        self.dispatcher.now().as_millis() / 500 % 2 == 0
    }

    fn push(&mut self) {
        let rng = &mut self.rng;
        let payload = [0_u8; 64];
        let queue = self.queues[rng.below(self.queues.len() as u64) as usize];
        let kind = self.kinds[rng.below(2) as usize];
        let mut job = NewJob::new(kind, &payload[..1 + rng.below(64) as usize])
            .queue(queue)
            .priority(rng.below(4) as i8);
        if rng.chance(0.5) {
            job = job.concurrency_key(self.keys[rng.below(self.keys.len() as u64) as usize].as_str());
        }
        if rng.chance(0.2) {
            job = job.deadline(
                self.dispatcher
                    .now()
                    .after(Duration::from_micros(rng.below(20_000))),
            );
        }
        if rng.chance(0.1) {
            job = job.delay(Duration::from_micros(rng.below(5_000)));
        }
        match self.dispatcher.try_push(job) {
            Ok(pushed) => {
                self.ledger.accepted += 1;
                self.ledger.shed_at_push += u64::from(pushed.shed.is_some());
                let place = self.rng.below(64) as usize;
                if place < self.recent.len() {
                    self.recent[place] = pushed.id;
                } else {
                    self.recent.push(pushed.id);
                }
            }
            Err(refused) if refused.kind() == ErrorKind::Full => self.ledger.refused += 1,
            Err(refused) => panic!("{}", refused.error()),
        }
    }

    fn cancel(&mut self) {
        let place = self.rng.below(64) as usize;
        if place >= self.recent.len() {
            return;
        }
        // One that was cancelled before would answer the same again; one that is forgotten is not found.
        let id = self.recent.swap_remove(place);
        if let Ok(State::Cancelled) = self.dispatcher.cancel(id) {
            self.ledger.cancelled += 1;
        }
    }

    /// Ends some of the jobs that run, and starts others.
    fn turn(&mut self) {
        let ends = self.rng.below(self.held.len() as u64 + 1) as usize;
        let mut done = Vec::with_capacity(ends);
        for _ in 0..ends {
            let place = self.rng.below(self.held.len() as u64) as usize;
            let lease = self.held.swap_remove(place);
            let outcome = self.outcome();
            done.push((lease, outcome));
        }
        self.answer(done);
    }

    fn answer(&mut self, done: Vec<(Lease, Outcome)>) {
        let answers = self
            .consumer
            .complete_and_next_many(done, HANDLERS, &mut self.claimed)
            .expect("the memory is no store that fails");
        for answer in answers {
            match answer {
                Answer::Stored(State::Succeeded) => self.ledger.succeeded += 1,
                Answer::Stored(State::Failed) => self.ledger.failed_for_good += 1,
                Answer::Stored(State::Cancelled) => self.ledger.cancelled += 1,
                Answer::Stored(_) => {}
                Answer::Stale => panic!("nobody else can have taken a lease without an end"),
            }
        }
        self.held.append(&mut self.claimed);
    }

    fn outcome(&mut self) -> Outcome {
        let pause = Duration::from_micros(self.rng.below(3_000));
        match self.rng.below(100) {
            0..80 => Outcome::done(),
            80..86 => Outcome::failed("as it happens"),
            86..88 => Outcome::fatal("for good"),
            88..91 => Outcome::retry(pause),
            91..94 => Outcome::snooze(pause),
            94..97 => Outcome::RateLimited { after: Some(pause) },
            _ => Outcome::RateLimited { after: None },
        }
    }

    /// Nothing new comes, and what is there is done.
    fn work_off(&mut self) {
        for _ in 0..100_000 {
            let done = self
                .held
                .drain(..)
                .map(|lease| (lease, Outcome::done()))
                .collect();
            self.answer(done);
            self.clock.advance(Duration::from_millis(1));
            self.dispatcher
                .upkeep()
                .expect("the memory is no store that fails");
            let left = self
                .dispatcher
                .stats()
                .expect("the memory is no store that fails")
                .total();
            if left.waiting() + left.running == 0 {
                return;
            }
        }
    }

    /// Whether one snapshot balances and agrees with the ledger; the sum of its queues.
    fn audit(&self) -> Result<QueueCounts, String> {
        let stats = self.dispatcher.stats().map_err(|error| error.to_string())?;
        if let Some(counts) = stats
            .queues
            .iter()
            .map(|queue| &queue.counts)
            .find(|counts| !counts.balanced())
        {
            return Err(format!("unaccounted jobs: {counts:?}"));
        }
        let total = stats.total();
        let Ledger {
            accepted,
            refused,
            shed_at_push,
            succeeded,
            failed_for_good,
            cancelled,
        } = self.ledger;
        let t = &total.totals;
        let agreed = (t.pushed, t.refused, t.succeeded, t.failed, t.cancelled)
            == (accepted, refused, succeeded, failed_for_good, cancelled)
            && t.shed() >= shed_at_push
            && total.running == self.held.len() as u64;
        if agreed {
            Ok(total)
        } else {
            Err(format!("{:?} are not {total:?}", self.ledger))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_jobs_are_accounted_for_under_every_policy() {
        let books = run(1_000_000, 20_000, 1).expect("the books balance");
        assert!(books.accepted >= 1_000_000 && books.snapshots > 50);
        for (name, count) in books.totals.named() {
            let never = ["restored", "stale"].contains(&name);
            assert_eq!(count == 0, never, "{name}: {count}");
        }
    }
}
