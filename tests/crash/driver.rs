//! The process that gets killed: it pushes jobs and runs them, and tells each step as it takes it.
//!
//! It is this same test program, started again with [`VARIABLE`] set: the one test here is then its main
//! function, and does nothing otherwise. Harnesses that break the disk instead of the process let it live
//! among their own threads ([`Driver::live`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use forebay::engine::QueueCounts;
use forebay::{
    Deadline, Dispatcher, Durability, ErrorKind, EventKind, Filter, Job, KindSet, Lease, NewJob, Options,
    Outcome, Pushed, RetryPolicy, State,
};

use crate::key::{Dice, Key, Temper, fingerprint};
use crate::plan::{Finish, Plan, VARIABLE};
use crate::report::{End, Level, Report};

/// The kind of most jobs.
const KIND: &str = "work";

/// A kind that only a life that drains asks for: it must be left alone until then.
const STRANGE: &str = "strange";

/// How long a call may take before the driver calls it hung.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn process() {
    if let Ok(text) = std::env::var(VARIABLE) {
        let plan = Plan::read(&text).expect("the checker wrote it");
        // The test runner has begun a line of its own.
        println!();
        Driver::new(&plan, &|report: Report| report.tell()).live();
        // Nothing of the test runner is of interest any more.
        std::process::exit(0);
    }
}

/// One life, by its plan.
pub struct Driver<'a> {
    plan: &'a Plan,
    tell: &'a (dyn Fn(Report) + Sync),
    /// Whether a call has failed: what is left is to stop.
    troubled: AtomicBool,
    flushes: AtomicU64,
    fills: AtomicU64,
    /// Whether the dispatcher has stopped.
    stopped: AtomicBool,
}

impl<'a> Driver<'a> {
    pub fn new(plan: &'a Plan, tell: &'a (dyn Fn(Report) + Sync)) -> Self {
        Self {
            plan,
            tell,
            troubled: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            fills: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Lives until the plan is done, or the process is killed.
    pub fn live(&self) {
        let mut options = Options::default();
        options.sync_done = self.plan.sync_done;
        // Jobs that happen to run at many kills are no poison.
        options.max_crashes = if self.plan.poison {
            options.max_crashes
        } else {
            u32::MAX
        };
        match Dispatcher::open(&self.plan.url, options) {
            Ok(d) => {
                self.tell(Report::Opened);
                if self.plan.sheds() {
                    self.count_waiting(&d);
                }
                self.live_on(&d);
            }
            Err(error) => self.trouble(format!("cannot open: {error:?}")),
        }
    }

    fn live_on(&self, d: &Dispatcher) {
        std::thread::scope(|scope| {
            if self.plan.sheds() {
                let events = d.subscribe(1 << 16);
                scope.spawn(move || self.watch(d, &events));
            }
            for n in 0..self.plan.workers {
                scope.spawn(move || self.work(d, n));
            }
            let pushers: Vec<_> = (0..self.plan.pushers)
                .map(|n| scope.spawn(move || self.push(d, n)))
                .collect();
            for pusher in pushers {
                pusher.join().expect("a pusher does not panic");
            }
            match self.plan.finish {
                Finish::Killed => loop {
                    std::thread::park();
                },
                Finish::Stops => self.stop(d),
                Finish::Drains => {
                    self.wait_idle(d);
                    self.balance(d);
                    self.show_shed(d);
                    self.stop(d);
                }
            }
        });
    }

    fn tell(&self, report: Report) {
        (self.tell)(report);
    }

    fn trouble(&self, text: String) {
        self.troubled.store(true, SeqCst);
        self.tell(Report::Trouble(text));
    }

    fn in_trouble(&self) -> bool {
        self.troubled.load(SeqCst)
    }

    /// Waits until no job is left that has not ended, or somebody is in trouble.
    fn wait_idle(&self, d: &Dispatcher) {
        let (deadline, events) = (Deadline::after(LONG), d.subscribe(64));
        while !self.in_trouble() {
            match pending(d) {
                Ok(0) => return,
                Ok(n) if deadline.passed() => self.trouble(format!("{n} jobs do not end")),
                // Whatever ends is an event; what a look came too early for is looked at again.
                Ok(_) => drop(events.next(Deadline::after(Duration::from_millis(5)))),
                Err(error) => self.trouble(format!("cannot count: {error:?}")),
            }
        }
    }

    fn stop(&self, d: &Dispatcher) {
        self.tell(Report::Stopping);
        let stopped = d.stop(LONG);
        self.stopped.store(true, SeqCst);
        match stopped {
            Ok(_) => self.tell(Report::Stopped),
            Err(error) => self.trouble(format!("cannot stop: {error:?}")),
        }
    }

    /// Tells of every job that is shed, until the dispatcher has stopped.
    fn watch(&self, d: &Dispatcher, events: &forebay::Subscription) {
        loop {
            // Asked first: what is there when it has stopped is told of, too.
            let stopped = self.stopped.load(SeqCst);
            let Some(event) = events.next(Deadline::after(Duration::from_millis(5))) else {
                if stopped {
                    return;
                }
                continue;
            };
            if event.kind != EventKind::Shed {
                continue;
            }
            let reason = event.failure.map_or("none", |kind| kind.name());
            // One that another pusher's jobs have pushed out of the store's memory of them by now is not told of.
            if let Some(key) = d.get(event.id).ok().and_then(|job| key_of(&job)) {
                self.tell(Report::Shed(key, reason.into()));
            }
        }
    }

    fn count_waiting(&self, d: &Dispatcher) {
        match d.stats() {
            Ok(stats) => self.tell(Report::Waiting(stats.total().waiting())),
            Err(error) => self.trouble(format!("cannot count: {error:?}")),
        }
    }

    /// Tells of every job that the store says was shed.
    fn show_shed(&self, d: &Dispatcher) {
        let mut filter = Filter {
            states: vec![State::Shed],
            limit: Some(1000),
            ..Filter::default()
        };
        loop {
            let page = match d.list(&filter) {
                Ok(page) => page,
                Err(error) => return self.trouble(format!("cannot list: {error:?}")),
            };
            for job in &page.jobs {
                let reason = job.error.as_ref().map_or("none", |e| e.kind.name());
                match key_of(job) {
                    Some(key) => self.tell(Report::Gone(key, reason.into())),
                    None => self.trouble(format!("a shed job without a key: {}", job.id)),
                }
            }
            match page.jobs.last() {
                Some(last) => filter.after = Some(last.id),
                None => return,
            }
        }
    }

    fn balance(&self, d: &Dispatcher) {
        match d.stats() {
            Ok(stats) => {
                let sum = stats.total();
                let totals = sum.totals;
                let ended =
                    totals.succeeded + totals.failed + totals.cancelled + totals.expired + totals.shed();
                let pending = waiting(&sum);
                self.tell(Report::Balance(totals.pushed + totals.restored, ended, pending));
            }
            Err(error) => self.trouble(format!("cannot count: {error:?}")),
        }
    }
}

/// The key of a job whose payload may be gone.
fn key_of(job: &Job) -> Option<Key> {
    let mut headers = job.headers().iter();
    headers
        .find(|(name, _)| name == "key")
        .and_then(|(_, key)| Key::read(key))
}

fn pending(d: &Dispatcher) -> forebay::Result<u64> {
    Ok(waiting(&d.stats()?.total()))
}

fn waiting(counts: &QueueCounts) -> u64 {
    counts.blocked + counts.scheduled + counts.queued + counts.running
}

// ---- pushing -----------------------------------------------------------------------------------------

impl Driver<'_> {
    /// Pushes this pusher's share, alone and in groups, and now and then asks for it to be on disk.
    fn push(&self, d: &Dispatcher, pusher: u32) {
        let plan = self.plan;
        let mut dice = Dice::new(plan.seed ^ u64::from(pusher) << 32);
        let mut keys = (0..plan.pushes).map(|number| Key::new(plan.life, pusher, number));
        while !self.in_trouble() {
            let any = [Level::Memory, Level::Os, Level::Disk][dice.below(3) as usize];
            let level = plan.level.unwrap_or(any);
            let many = if dice.one_in(4) { 1 + dice.below(8) } else { 1 };
            let group: Vec<Key> = keys.by_ref().take(many as usize).collect();
            match group[..] {
                [] => return,
                [key] => self.push_one(d, key, level),
                _ => self.push_group(d, &group, level),
            }
            if dice.one_in(32) {
                self.flush(d);
            }
        }
    }

    fn push_one(&self, d: &Dispatcher, key: Key, level: Level) {
        self.tell(Report::Intent(key, level));
        match d.push(job(key, level)) {
            Ok(pushed) => self.accepted(key, &pushed),
            Err(error) => self.refused(&[key], error.error()),
        }
    }

    fn push_group(&self, d: &Dispatcher, keys: &[Key], level: Level) {
        for key in keys {
            self.tell(Report::Intent(*key, level));
        }
        let jobs: Vec<NewJob<'_>> = keys.iter().map(|key| job(*key, level)).collect();
        let (pushed, error) = match d.push_many(&jobs) {
            Ok(pushed) => (pushed, None),
            Err(stopped) => (stopped.pushed, Some(stopped.error)),
        };
        for (key, pushed) in keys.iter().zip(&pushed) {
            self.accepted(*key, pushed);
        }
        if let Some(error) = error {
            self.refused(&keys[pushed.len()..], &error);
        }
    }

    fn accepted(&self, key: Key, pushed: &Pushed) {
        self.tell(match pushed.shed {
            Some(reason) => Report::Shed(key, reason.name().into()),
            None => Report::Acked(key, reached(pushed)),
        });
    }

    /// A full disk is no reason to stop, for a while; any other refusal is.
    fn refused(&self, keys: &[Key], error: &forebay::Error) {
        for key in keys {
            self.tell(Report::Refused(*key, error.kind().name().into()));
        }
        // There is no room, and there will be none: a few refusals tell as much as many.
        let full = error.kind() == ErrorKind::Full;
        let fills = full && (self.plan.sheds() || self.fills.fetch_add(1, SeqCst) < 3);
        if !fills {
            self.trouble(format!("cannot push: {error:?}"));
        }
    }

    /// Asks that everything be on disk.
    fn flush(&self, d: &Dispatcher) {
        let n = self.flushes.fetch_add(1, SeqCst);
        self.tell(Report::Flushing(n));
        match d.flush() {
            Ok(Durability::Disk) => self.tell(Report::Flushed(n)),
            // An engine that has no disk has promised nothing.
            Ok(_) => {}
            Err(error) => self.trouble(format!("cannot flush: {error:?}")),
        }
    }
}

fn job(key: Key, level: Level) -> NewJob<'static> {
    let strange = key.temper() == Temper::Strange;
    let job = NewJob::new(if strange { STRANGE } else { KIND }, key.payload())
        .durability(Durability::from_name(level.name()).expect("the names are the same"))
        .max_attempts(1_000_000)
        .retry(RetryPolicy::constant(Duration::from_millis(1)))
        .priority((fingerprint(&key.payload()) % 3) as i8)
        .concurrency_key(["a", "b", "c"][(fingerprint(&key.payload()) >> 9) as usize % 3])
        .header("key", key.to_string());
    match key.temper() {
        Temper::Late => job.delay(Duration::from_millis(2)),
        _ => job,
    }
}

fn reached(pushed: &Pushed) -> Level {
    Level::read(pushed.durability.name()).expect("the names are the same")
}

// ---- working -----------------------------------------------------------------------------------------

impl Driver<'_> {
    /// Runs jobs until the dispatcher ends.
    fn work(&self, d: &Dispatcher, worker: u32) {
        let mut dice = Dice::new(self.plan.seed ^ u64::from(worker) << 32 ^ 1);
        let mut consumer = d.consumer(match self.known(d) {
            Ok(kinds) => Arc::new(kinds),
            Err(error) => return self.trouble(format!("cannot name a kind: {error:?}")),
        });
        loop {
            match consumer.next(Deadline::NEVER) {
                Ok(Some(lease)) => self.run(lease, &mut dice),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => return self.trouble(format!("cannot claim: {error:?}")),
            }
        }
    }

    /// The kinds that this life runs.
    fn known(&self, d: &Dispatcher) -> forebay::Result<KindSet> {
        if self.plan.finish == Finish::Drains {
            return Ok(KindSet::any());
        }
        let kinds = KindSet::new();
        kinds.add(d.kind(KIND)?);
        Ok(kinds)
    }

    /// One attempt: what it does is the job's temper.
    fn run(&self, lease: Lease, dice: &mut Dice) {
        let bytes = lease.payload().as_bytes().unwrap_or_default();
        let Some(key) = Key::of_payload(bytes) else {
            return self.tell(Report::Garbled(fingerprint(bytes)));
        };
        self.tell(Report::Started(
            key,
            fingerprint(bytes),
            lease.attempt(),
            lease.fence(),
        ));
        if self.plan.poison && key.is_first() {
            // SAFETY: a signal to ourselves; there is nothing after it.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        // Bodies of different length, so that ends and starts meet in every order.
        for _ in 0..dice.below(64) {
            std::hint::spin_loop();
        }
        let (outcome, end) = match key.temper() {
            Temper::Flaky if lease.attempt() == 1 => (Outcome::failed("once"), End::Again),
            Temper::Sleepy if dice.one_in(2) => (Outcome::snooze(Duration::from_millis(1)), End::Again),
            Temper::Fatal => (Outcome::fatal("for good"), End::Fatal),
            _ => (Outcome::done(), End::Good),
        };
        let (outcome, fence) = (lease.run(|_| outcome), lease.fence());
        let child = (key.temper() == Temper::Parent).then(|| key.child());
        // A follow-up is as safe as the end of its parent, with which it is written, and starts no sooner.
        let level = if self.plan.sync_done {
            Level::Disk
        } else {
            Level::Memory
        };
        if let Some(child) = child {
            self.tell(Report::Intent(child, level));
        }
        self.tell(Report::Ended(key, fence, end));
        let answer = match child {
            Some(child) => lease.complete_and_push(outcome, &[job(child, level)]),
            None => lease.complete(outcome),
        };
        match answer {
            Ok(forebay::Answer::Stored(_)) if self.plan.sync_done => self.tell(Report::Stored(key, fence)),
            Ok(forebay::Answer::Stored(_)) => self.tell(Report::Completed(key, fence)),
            Ok(forebay::Answer::Stale) => self.tell(Report::Unanswered(key, fence, "Stale".into())),
            Err(error) => {
                self.tell(Report::Unanswered(key, fence, error.kind().name().into()));
                self.trouble(format!("cannot answer: {error:?}"));
            }
        }
    }
}
