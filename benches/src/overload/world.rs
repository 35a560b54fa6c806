//! One run: clients, a dispatcher, a dependency, and the clock that goes from one event to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use forebay::engine::QueueCounts;
use forebay::engine::memory::MemoryEngine;
use forebay::{
    Clock, Consumer, Dispatcher, KindOptions, KindSet, Lease, ManualClock, NewJob, Options, Outcome, QueueId,
    QueueOptions, Timestamp, Why,
};

use super::arrivals::{Arrivals, Pattern};
use super::downstream::{Busy, Call, Downstream};
use super::found::Found;
use super::traffic::{Client, Traffic};

/// An option of the queue or of the kind: its name and its text.
pub type Setting = (&'static str, String);

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How jobs arrive.
    pub pattern: Pattern,
    /// How many a second, on average.
    pub rate: f64,
    /// What the jobs are like.
    pub traffic: Traffic,
    /// How long.
    pub seconds: u64,
    /// How many handlers there are.
    pub handlers: usize,
    /// What they call.
    pub downstream: Downstream,
    /// How long a client waits for the end of its job. Later it is of no use to anybody.
    pub patience: Duration,
    /// Options of the queue.
    pub queue: Vec<Setting>,
    /// Options of the kind.
    pub kind: Vec<Setting>,
    /// The seed of all that is random here.
    pub seed: u64,
}

/// How long a call of upkeep may be late for what it does not know of yet.
const UPKEEP: Duration = Duration::from_millis(5);
/// The queue, and the kind, of all jobs.
const NAME: &str = "work";
/// Jobs claimed in one call; there is another one while there are more.
const AT_ONCE: usize = 64;

impl Scenario {
    /// Runs it.
    ///
    /// # Panics
    /// If an option does not fit, or the dispatcher answers anything that it should not.
    pub fn run(&self) -> Found {
        let mut world = World::new(self);
        world.run(self);
        world.close()
    }

    fn queue_options(&self) -> QueueOptions {
        let mut options = QueueOptions::new();
        for (name, text) in &self.queue {
            options.set(name, text).expect("an option of a queue");
        }
        options
    }

    fn kind_options(&self) -> KindOptions {
        let mut options = KindOptions::new();
        for (name, text) in &self.kind {
            options.set(name, text).expect("an option of a kind");
        }
        options
    }
}

/// A job that runs.
struct Running {
    lease: Lease,
    client: Client,
    started: Timestamp,
    outcome: Outcome,
}

/// The state of a run.
struct World {
    clock: Arc<ManualClock>,
    start: Timestamp,
    now: Timestamp,
    dispatcher: Dispatcher,
    consumer: Consumer,
    queue: QueueId,
    kind: forebay::KindId,
    busy: Busy,
    traffic: Traffic,
    patience: Duration,
    /// Jobs that run, by place; a place is used again.
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    /// When which of them ends.
    ends: BinaryHeap<Reverse<(Timestamp, usize)>>,
    leases: Vec<Lease>,
    upkeep: Timestamp,
    found: Found,
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let clock = Arc::new(ManualClock::new());
        let start = clock.now();
        let mut options = Options::default();
        options.concurrency = scenario.handlers;
        // What ended is counted, and forgotten.
        options.keep_finished = 1000;
        let engine = Arc::new(MemoryEngine::new(options.keep_finished));
        let dispatcher = Dispatcher::with_clock(engine, options, clock.clone()).expect("it opens");
        let queue = dispatcher
            .configure_queue(NAME, scenario.queue_options())
            .expect("a queue");
        let kind = dispatcher.declare(NAME, scenario.kind_options()).expect("a kind");
        let kinds = KindSet::new();
        kinds.add(kind);
        Self {
            consumer: dispatcher.consumer(Arc::new(kinds)),
            dispatcher,
            clock,
            start,
            now: start,
            queue,
            kind,
            busy: Busy::new(scenario.downstream.clone(), scenario.seed ^ 1, start),
            traffic: scenario.traffic.clone(),
            patience: scenario.patience,
            running: Vec::new(),
            free: Vec::new(),
            ends: BinaryHeap::new(),
            leases: Vec::new(),
            upkeep: start,
            found: Found::default(),
        }
    }

    /// From event to event, until the time is over.
    fn run(&mut self, scenario: &Scenario) {
        let end = self.start.after(Duration::from_secs(scenario.seconds));
        let mut arrivals = Arrivals::new(scenario.pattern.clone(), scenario.rate, scenario.seed, self.start);
        let mut arrival = arrivals.next().expect("there is always one");
        loop {
            let done = self.ends.peek().map_or(Timestamp::MAX, |Reverse((at, _))| *at);
            let next = arrival.min(done).min(self.upkeep);
            if next >= end {
                break;
            }
            self.advance(next);
            if next == self.upkeep {
                self.keep_up();
                self.claim(None);
            } else if next == done {
                self.finish();
            } else {
                self.arrive();
                arrival = arrivals.next().expect("there is always one");
                self.claim(None);
            }
        }
        self.advance(end);
    }

    fn advance(&mut self, to: Timestamp) {
        while self.found.next_sample(self.start) <= to {
            self.found.sample(self.limit());
        }
        self.clock.advance(to.since(self.now));
        self.now = to;
    }

    fn keep_up(&mut self) {
        let due = self
            .dispatcher
            .upkeep()
            .expect("the memory is no store that fails");
        self.upkeep = due
            .max(self.now.after(Duration::from_micros(1)))
            .min(self.now.after(UPKEEP));
    }

    /// A client comes with a job.
    fn arrive(&mut self) {
        let client = self.traffic.next(self.now);
        let payload = client.to_bytes();
        let mut job = NewJob::new(self.kind, &payload[..])
            .queue(self.queue)
            .priority(client.priority());
        if self.traffic.deadlines {
            job = job.deadline(self.now.after(self.patience));
        }
        if let Some(key) = client.key.and_then(|key| self.traffic.name(key)) {
            job = job.concurrency_key(key);
        }
        let pushed = self.dispatcher.try_push(job);
        let answer = pushed.map_err(|refused| refused.kind());
        self.found.pushed(&client, answer.as_ref().map_err(|kind| *kind));
    }

    /// The job that is next to end does, and others start.
    fn finish(&mut self) {
        let Some(Reverse((_, place))) = self.ends.pop() else {
            return;
        };
        let Running {
            lease,
            client,
            started,
            outcome,
        } = self.running[place].take().expect("it runs");
        self.free.push(place);
        self.busy.end();
        if lease.due().is_some_and(|due| due <= self.now) {
            // The dispatcher finds that its time is over before the handler says so.
            self.keep_up();
        }
        if let Outcome::Success(_) = outcome {
            let in_time = self.now.since(client.arrived) <= self.patience;
            self.found.finished(&client, in_time, started, self.now);
        }
        self.claim(Some((lease, outcome)));
    }

    /// Starts whatever may start, after what has ended was answered for.
    fn claim(&mut self, mut done: Option<(Lease, Outcome)>) {
        loop {
            let mut leases = std::mem::take(&mut self.leases);
            self.consumer
                .complete_and_next_many(done.take(), AT_ONCE, &mut leases)
                .expect("the memory is no store that fails");
            let got = leases.len();
            for lease in leases.drain(..) {
                self.begin(lease);
            }
            self.leases = leases;
            if got < AT_ONCE {
                return;
            }
        }
    }

    /// A handler starts and calls the dependency.
    fn begin(&mut self, lease: Lease) {
        let client = Client::from_bytes(lease.payload().as_bytes().expect("it came as bytes"));
        let (takes, outcome) = match self.busy.begin(self.now) {
            Call::Answered(takes) => (takes, Outcome::done()),
            Call::Refused(takes, after) => (takes, Outcome::RateLimited { after: Some(after) }),
        };
        let end = self.now.after(takes);
        let (end, outcome) = match lease.due() {
            Some(due) if due < end => (due, Outcome::failed("the dependency did not answer in time")),
            _ => (end, outcome),
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() - 1
        });
        self.running[place] = Some(Running {
            lease,
            client,
            started: self.now,
            outcome,
        });
        self.ends.push(Reverse((end, place)));
    }

    /// How many jobs of the kind may run at once, if that adapts: as the dispatcher explains why no more start,
    /// or did when it was last so.
    fn limit(&self) -> Option<usize> {
        let explained = self.dispatcher.explain_queue(NAME).ok();
        let reasons = explained.map(|explained| explained.reasons).unwrap_or_default();
        let found = reasons.into_iter().find_map(|why| match why {
            Why::Adaptive { limit, .. } => Some(limit),
            _ => None,
        });
        found.or(self.found.seconds.last()?.limit)
    }

    /// Counts what is left.
    fn close(mut self) -> Found {
        let stats = self
            .dispatcher
            .stats()
            .expect("the memory is no store that fails");
        let counts: &QueueCounts = stats.queue(NAME).expect("jobs were pushed to it");
        assert!(counts.balanced(), "unaccounted jobs: {counts:?}");
        self.found.counts = Some(counts.clone());
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overload::downstream::Spread;

    /// Four times what ten workers of 10 ms can do.
    fn overloaded(queue: &[(&'static str, &str)]) -> Found {
        let scenario = Scenario {
            pattern: Pattern::Steady,
            rate: 4000.0,
            traffic: Traffic::plain(1),
            seconds: 5,
            handlers: 10,
            downstream: Downstream::workers(Duration::from_millis(10), Spread::Exponential),
            patience: Duration::from_millis(500),
            queue: queue
                .iter()
                .map(|(name, text)| (*name, (*text).to_owned()))
                .collect(),
            kind: Vec::new(),
            seed: 1,
        };
        scenario.run()
    }

    #[test]
    fn a_queue_without_bound_works_for_nobody() {
        let found = overloaded(&[("capacity", "0")]);
        let all = found.all();
        assert!(all.late > 5 * all.in_time, "{all:?}");
        assert!(found.counts.expect("they were counted").queued > 10_000);
    }

    #[test]
    fn a_short_queue_works_for_those_it_takes() {
        let found = overloaded(&[("capacity", "100")]);
        let mut all = found.all();
        assert!(all.in_time > 4_500 && all.late == 0, "{}", all.in_time);
        assert!(found.refused > 10_000);
        assert!(all.wait(0.99) < Duration::from_millis(150));
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let seen = |found: Found| (found.all().in_time, found.refused, found.counts);
        assert_eq!(
            seen(overloaded(&[("capacity", "100")])),
            seen(overloaded(&[("capacity", "100")]))
        );
    }
}
