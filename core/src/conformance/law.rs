//! The conservation law (row 62): every job that is accepted comes to one end, and every end is counted, whatever is
//! done with a queue, by one thread and by many.
//!
//! The seed is printed; `FOREBAY_SEED=<seed>` draws the same operations again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Make;
use super::dice::{Dice, seed};
use super::dump::Folder;
use super::stage::{SECOND, Stage, at_once, soon};
use crate::Subscription;
use crate::config::QueueOptions;
use crate::dispatcher::{Answer, Consumer, Lease};
use crate::error::{Error, ErrorKind};
use crate::event::EventKind;
use crate::job::{NewJob, State};
use crate::outcome::{FailureKind, Outcome};
use crate::{JobId, RetryPolicy};

const QUEUES: [&str; 3] = ["default", "a", "b"];

/// A dispatcher that many work with, and what they have seen.
struct World {
    stage: Stage,
    events: Subscription,
    policies: Vec<&'static str>,
    weighs: bool,
    /// The jobs that were accepted.
    accepted: Mutex<Vec<JobId>>,
}

/// One who works with it.
struct Actor<'w> {
    world: &'w World,
    dice: Dice,
    consumer: Consumer,
    /// What it runs.
    held: Vec<Lease>,
}

impl World {
    fn new(make: Make<'_>) -> Self {
        let engine = make();
        let can = engine.capabilities();
        let stage = Stage::over(engine, |o| {
            (o.concurrency, o.max_attempts) = (12, 3);
            o.retry = RetryPolicy::constant(Duration::from_millis(2));
        });
        let mut policies = vec!["reject", "block(1ms)", "drop_newest"];
        if can.evicts {
            policies.extend(["drop_oldest", "drop_lowest", "sample(0.5)"]);
        }
        if can.evicts && can.keys {
            policies.push("coalesce");
        }
        Self {
            events: stage.d.subscribe(1 << 16),
            stage,
            policies,
            weighs: can.weighs,
            accepted: Mutex::default(),
        }
    }

    fn actor(&self, seed: u64) -> Actor<'_> {
        Actor {
            world: self,
            dice: Dice::new(seed),
            consumer: self.stage.consumer(),
            held: Vec::new(),
        }
    }

    /// Lets everything that is left come to an end.
    fn settle(&self) {
        let deadline = soon();
        for queue in QUEUES {
            self.stage.d.resume(queue).unwrap();
            self.stage.d.configure_queue(queue, QueueOptions::new()).unwrap();
        }
        for id in self.accepted.lock().iter() {
            let _ = self.stage.d.signal(*id, "token");
        }
        let mut consumer = self.stage.consumer();
        while self.stage.counts().waiting() > 0 {
            assert!(
                !deadline.passed(),
                "what is left comes to an end: {:?}",
                self.stage.counts()
            );
            self.stage.advance(SECOND);
            while let Some(lease) = consumer.next(at_once()).unwrap() {
                lease.complete(Outcome::done()).unwrap();
            }
        }
    }

    /// Every job by itself, what was told of it, and what was counted, say the same.
    fn check(&self) {
        let accepted = self.accepted.lock();
        let mut told: BTreeMap<JobId, Option<FailureKind>> = BTreeMap::new();
        for event in self.events.drain().filter(|event| event.kind == EventKind::Shed) {
            let before = told.insert(event.id, event.failure);
            assert!(before.is_none(), "{} is told to be shed twice", event.id);
        }
        assert_eq!(self.events.dropped(), 0);
        let (mut ends, mut shed): (BTreeMap<&str, u64>, BTreeMap<&str, u64>) = Default::default();
        for id in accepted.iter() {
            let job = self.stage.get(*id);
            assert!(job.state.is_final(), "{id} is {}", job.state);
            let why = job.error.as_ref().map(|error| error.kind);
            assert_eq!(
                told.remove(id),
                (job.state == State::Shed).then_some(why),
                "{id}: {why:?}"
            );
            *ends.entry(job.state.name()).or_default() += 1;
            if let Some(FailureKind::Shed(reason)) = why {
                *shed.entry(reason.name()).or_default() += 1;
            }
        }
        assert!(told.is_empty(), "told of jobs that were not accepted: {told:?}");
        let (counts, of) = (self.stage.counts(), |state: State| {
            *ends.get(state.name()).unwrap_or(&0)
        });
        let t = counts.totals;
        assert_eq!(
            (t.pushed + t.restored, counts.running),
            (accepted.len() as u64, 0)
        );
        assert_eq!(
            (t.succeeded, t.failed, t.cancelled, t.expired, t.shed()),
            (
                of(State::Succeeded),
                of(State::Failed),
                of(State::Cancelled),
                of(State::Expired),
                of(State::Shed)
            )
        );
        for (reason, count) in t.shed_by() {
            assert_eq!(count, *shed.get(reason.name()).unwrap_or(&0), "{}", reason.name());
        }
        self.stage.check_balance();
    }

    /// What has not ended, taken into another dispatcher of its own.
    fn moved(&self, make: Make<'_>) -> World {
        let (folder, other) = (Folder::new(), World::new(make));
        self.stage.d.dump(folder.file()).unwrap();
        self.stage.d.restore(folder.file()).unwrap();
        assert_eq!(
            self.stage.counts().totals.restored,
            0,
            "all of it is here already"
        );
        other.stage.d.restore(folder.file()).unwrap();
        other.stage.check_balance();
        let over = |id: &JobId| self.stage.state(*id).is_final();
        let left = self
            .accepted
            .lock()
            .iter()
            .copied()
            .filter(|id| !over(id))
            .collect();
        *other.accepted.lock() = left;
        other
    }
}

impl Actor<'_> {
    fn act(&mut self) {
        let d = &self.world.stage.d;
        let queue = QUEUES[self.dice.below(3) as usize];
        match self.dice.below(26) {
            0..=8 => self.push(1, queue),
            9 => {
                let count = 2 + self.dice.below(6) as usize;
                self.push(count, queue);
            }
            10..=13 => self.claim(),
            14..=18 => self.end(),
            19 => {
                if let Some(id) = self.any() {
                    d.cancel(id).unwrap();
                }
            }
            20 if self.dice.one_in(4) => drop(d.purge(queue).unwrap()),
            20 => d.pause(queue).unwrap(),
            21 => d.resume(queue).unwrap(),
            22 => self.configure(queue),
            23 => {
                if let Some(id) = self.any() {
                    d.signal(id, "token").unwrap();
                }
            }
            24 => {
                if let Some(id) = self.any() {
                    self.again(id);
                }
            }
            _ => {
                let step = Duration::from_millis(1 + self.dice.below(8));
                self.world.stage.advance(step);
            }
        }
    }

    /// One that was accepted.
    fn any(&mut self) -> Option<JobId> {
        let accepted = self.world.accepted.lock();
        let len = accepted.len() as u64;
        (len > 0).then(|| accepted[self.dice.below(len) as usize])
    }

    fn job(&mut self, queue: &'static str) -> NewJob<'static> {
        let dice = &mut self.dice;
        let mut job = NewJob::new("k", vec![7; dice.below(40) as usize])
            .queue(queue)
            .priority(dice.below(3) as i8 - 1);
        let ms = |dice: &mut Dice| Duration::from_millis(1 + dice.below(12));
        if dice.one_in(6) {
            job = job.delay(ms(dice));
        }
        if dice.one_in(6) {
            job = job.deadline(self.world.stage.d.now().after(ms(dice)));
        }
        if dice.one_in(12) {
            job = job.waits_for("token");
        }
        if dice.one_in(2) {
            job = job.concurrency_key(["x", "y", "z"][dice.below(3) as usize]);
        }
        if dice.one_in(10) {
            job = job.key(["k1", "k2", "k3"][dice.below(3) as usize]);
        }
        job
    }

    fn push(&mut self, count: usize, queue: &'static str) {
        let jobs: Vec<_> = (0..count).map(|_| self.job(queue)).collect();
        let expected = |error: &Error| {
            let kinds = [ErrorKind::Full, ErrorKind::Conflict, ErrorKind::Invalid];
            assert!(kinds.contains(&error.kind()), "{error:?}");
        };
        let pushed = match self.world.stage.d.push_many(&jobs) {
            Ok(pushed) => pushed,
            Err(stopped) => {
                expected(&stopped.error);
                stopped.pushed
            }
        };
        let new = pushed.iter().filter(|pushed| pushed.created);
        self.world.accepted.lock().extend(new.map(|pushed| pushed.id));
    }

    /// Runs one again by hand that is over.
    fn again(&mut self, id: JobId) {
        match self.world.stage.d.retry(id, Some(b"again".into())) {
            Ok(pushed) if pushed.created => self.world.accepted.lock().push(pushed.id),
            Ok(_) => {}
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Full | ErrorKind::Invalid),
                "{error:?}"
            ),
        }
    }

    fn claim(&mut self) {
        let most = 1 + self.dice.below(3) as usize;
        self.consumer.next_many(most, at_once(), &mut self.held).unwrap();
    }

    fn end(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.dice.below(self.held.len() as u64) as usize;
        let lease = self.held.swap_remove(at);
        let moment = Duration::from_millis(3);
        let outcome = match self.dice.below(12) {
            0 => Outcome::failed("bad luck"),
            1 => Outcome::fatal("very bad luck"),
            2 => Outcome::retry(moment),
            3 => Outcome::snooze(moment),
            4 => Outcome::RateLimited { after: Some(moment) },
            5 => Outcome::Cancelled("not wanted".into()),
            _ => Outcome::done(),
        };
        // No attempt here times out: one that is stale had been ended by somebody else while it ran.
        assert_ne!(
            lease.complete(outcome).unwrap(),
            Answer::Stale,
            "it ran, and was ended by another"
        );
    }

    fn configure(&mut self, queue: &str) {
        let dice = &mut self.dice;
        let policy = self.world.policies[dice.below(self.world.policies.len() as u64) as usize];
        let mut options = QueueOptions::new().capacity(1 + dice.below(8) as usize);
        options.set("on_full", policy).unwrap();
        if self.world.weighs && dice.one_in(2) {
            options.capacity_bytes = Some(40 + dice.below(60) as usize);
        }
        if dice.one_in(3) {
            options.set("delay_target", "4ms").unwrap();
            options.set("delay_interval", "4ms").unwrap();
        }
        self.world.stage.d.configure_queue(queue, options).unwrap();
    }

    /// Ends what it holds.
    fn leave(mut self) {
        while !self.held.is_empty() {
            self.end();
        }
    }
}

/// By one thread: after every operation every queue adds up, and in the end every job by itself.
pub fn every_operation_keeps_the_law(make: Make<'_>) {
    let seed = seed();
    for round in 0..4 {
        let world = World::new(make);
        let mut actor = world.actor(seed.wrapping_add(round));
        for queue in QUEUES {
            actor.configure(queue);
        }
        for _ in 0..400 {
            actor.act();
            world.stage.check_balance();
        }
        actor.leave();
        for world in [world.moved(make), world] {
            world.settle();
            world.check();
        }
    }
}

/// By many threads: whoever looks meanwhile sees every queue add up, and in the end every job does by itself.
pub fn a_crowd_keeps_the_law(make: Make<'_>) {
    let seed = seed();
    let (world, done) = (World::new(make), AtomicBool::new(false));
    for queue in QUEUES {
        world.actor(seed).configure(queue);
    }
    std::thread::scope(|scope| {
        let (world, done) = (&world, &done);
        let actors: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn(move || {
                    let mut actor = world.actor(seed ^ (number + 1) << 40);
                    (0..300).for_each(|_| actor.act());
                    actor.leave();
                })
            })
            .collect();
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                world.stage.check_balance();
            }
        });
        let ended: Vec<_> = actors.into_iter().map(|actor| actor.join()).collect();
        done.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|end| end.unwrap());
    });
    world.settle();
    world.check();
    assert!(
        world.stage.counts().totals.shed() > 0,
        "nothing was shed: this shows nothing"
    );
}
