//! Workers that take over directly, under random schedules: while jobs are pushed, cancelled, answered for by their
//! ticket, and while the dispatcher stops.
//!
//! The bodies of these jobs are loops that end when they are told to: a word that gets lost is a schedule without an
//! end. A worker whom nobody wakes is one, too.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::SeqCst;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::{Runner, thread};

use crate::dispatcher::cells::StopReason;
use crate::dispatcher::settle::Answer;
use crate::dispatcher::{Consumer, Dispatcher, KindSet, Lease};
use crate::id::JobId;
use crate::job::{NewJob, State};
use crate::outcome::Outcome;
use crate::payload::Payload;
use crate::time::Deadline;

/// Few, since a dispatcher is much to make.
const ROUNDS: usize = 300;

fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    let mut config = shuttle::Config::new();
    // An engine is made on the stack before it goes where it stays.
    config.stack_size = 1 << 20;
    config.max_steps = shuttle::MaxSteps::FailAfter(200_000);
    Runner::new(RandomScheduler::new(ROUNDS), config.clone()).run(model.clone());
    Runner::new(PctScheduler::new(3, ROUNDS), config).run(model);
}

/// A dispatcher without threads of its own, and what has run in it.
#[derive(Clone)]
struct Stage {
    d: Dispatcher,
    ran: Arc<Mutex<Vec<JobId>>>,
    /// How many leases were handed over.
    direct: Arc<Count>,
}

impl Stage {
    fn new() -> Self {
        let d = Dispatcher::open("memory:?clock=manual&concurrency=4", crate::Options::default());
        Self {
            d: d.expect("the options fit"),
            ran: Arc::default(),
            direct: Arc::default(),
        }
    }

    fn push(&self) -> JobId {
        self.d.push(NewJob::new("k", ())).expect("it is open").id
    }

    fn consumer(&self) -> Consumer {
        self.d.consumer(Arc::new(KindSet::any()))
    }

    /// Runs jobs, each with `body`, until the dispatcher stops.
    fn work(&self, body: impl Fn(&Lease)) {
        let mut consumer = self.consumer();
        while let Ok(next) = consumer.next(Deadline::NEVER) {
            let mut next = next.expect("it waits until there is one");
            loop {
                self.ran.lock().unwrap().push(next.id());
                body(&next);
                let direct = consumer.can_hand_over(&next, &Payload::empty());
                let (_, after) = consumer
                    .complete_and_next(next, Outcome::done())
                    .expect("memory does not fail");
                let Some(after) = after else { break };
                self.direct.fetch_add(usize::from(direct), SeqCst);
                next = after;
            }
        }
    }

    /// That every job ran as often as its end says, and that nothing is held any more.
    fn check(&self, ids: &[JobId]) {
        let ran = self.ran.lock().unwrap();
        for id in ids {
            let times = ran.iter().filter(|it| *it == id).count();
            let state = self.d.state(*id).expect("every job is kept");
            match state {
                State::Succeeded => assert_eq!(times, 1, "{id} ran {times} times"),
                State::Queued => assert_eq!(times, 0, "{id} ran, and waits"),
                State::Cancelled => assert!(times <= 1, "{id} ran {times} times"),
                other => panic!("{id} is {other}"),
            }
        }
        let inner = &self.d.0;
        let held = (inner.slots.all.used(), inner.cells.active(), inner.cells.live());
        assert_eq!(held, (0, 0, 0));
        assert!(inner.cells.nothing_unheard());
    }

    fn stop(&self) {
        self.d.stop(std::time::Duration::MAX).expect("it ends");
    }
}

/// Two workers and two pushers, one of which comes late: every job runs once, and whoever sleeps is woken.
fn pushes() {
    let stage = Stage::new();
    let first = stage.push();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let stage = stage.clone();
            thread::spawn(move || stage.work(|_| {}))
        })
        .collect();
    let pushers: Vec<_> = (0..2)
        .map(|_| {
            let stage = stage.clone();
            thread::spawn(move || [stage.push(), stage.push()])
        })
        .collect();
    let mut ids = vec![first];
    for pusher in pushers {
        ids.extend(pusher.join().unwrap());
    }
    stage.d.drain(Deadline::NEVER).expect("nobody stops it");
    for id in &ids {
        assert_eq!(stage.d.state(*id).unwrap(), State::Succeeded);
    }
    stage.stop();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    stage.check(&ids);
}

#[test]
fn every_push_is_run_once() {
    explore(pushes);
}

/// A stop among jobs of which each but the first runs until it is told to stop: those that run hear of it, whenever
/// they began, and the others stay.
fn a_stop() {
    let stage = Stage::new();
    let ids: Vec<_> = (0..3).map(|_| stage.push()).collect();
    let worker = {
        let (stage, first) = (stage.clone(), ids[0]);
        thread::spawn(move || {
            stage.work(|lease| {
                while lease.id() != first && lease.stop_reason().is_none() {
                    thread::yield_now();
                }
            });
        })
    };
    stage.d.request_stop();
    worker.join().unwrap();
    stage.stop();
    stage.check(&ids);
}

#[test]
fn a_stop_is_heard_by_whoever_took_over() {
    explore(a_stop);
}

/// A cancel of the job that ends, or of the one that takes over: the one hears of it, and the other does not.
fn a_cancel(of: usize) {
    let stage = Stage::new();
    let ids = [stage.push(), stage.push()];
    let said = Arc::new(Mutex::new(None));
    let worker = {
        let (stage, said) = (stage.clone(), said.clone());
        thread::spawn(move || {
            stage.work(|lease| {
                if lease.id() == ids[of] && of == 1 {
                    // If it is to hear of it, it does; if it is not, that is known some time.
                    while lease.stop_reason() != Some(StopReason::Cancelled) {
                        let said = *said.lock().unwrap();
                        assert!(said != Some(State::Cancelled), "a cancelled job runs");
                        thread::yield_now();
                    }
                }
                if lease.id() != ids[of] {
                    thread::yield_now();
                    assert_eq!(lease.stop_reason(), None, "the other was cancelled");
                }
            });
        })
    };
    let answer = stage.d.cancel(ids[of]).expect("it is known");
    *said.lock().unwrap() = Some(answer);
    stage.d.drain(Deadline::NEVER).expect("nobody stops it");
    let end = stage.d.state(ids[of]).unwrap();
    match answer {
        // It was asked to stop before it had answered.
        State::Running | State::Cancelled => assert_eq!(end, State::Cancelled),
        other => assert_eq!(end, other),
    }
    assert_eq!(stage.d.state(ids[1 - of]).unwrap(), State::Succeeded);
    stage.stop();
    worker.join().unwrap();
    stage.check(&ids);
}

#[test]
fn a_cancel_is_heard_by_the_job_it_is_for() {
    explore(|| a_cancel(0));
    explore(|| a_cancel(1));
}

/// An answer by the ticket of the first job, while its body ends and hands over: one of the two counts, and the
/// second job is none of its business.
fn a_ticket() {
    let stage = Stage::new();
    let ids = [stage.push(), stage.push()];
    let mut consumer = stage.consumer();
    let first = consumer.next(Deadline::NEVER).unwrap().expect("there is a job");
    let ticket = first.ticket();
    let answerer = {
        let stage = stage.clone();
        thread::spawn(move || stage.d.finish([(ticket, Outcome::fatal("no"))]).unwrap()[0])
    };
    let (answer, second) = consumer.complete_and_next(first, Outcome::done()).unwrap();
    let other = answerer.join().unwrap();
    let counted = match stage.d.state(ids[0]).unwrap() {
        State::Succeeded => answer,
        State::Failed => other,
        state => panic!("it is {state}"),
    };
    assert!(matches!(counted, Answer::Stored(_)), "{answer:?} and {other:?}");
    assert!(
        [answer, other].contains(&Answer::Stale),
        "{answer:?} and {other:?}"
    );
    let second = second.expect("there is another job");
    assert_eq!(second.id(), ids[1]);
    assert!(second.stop_reason().is_none() && consumer.can_hand_over(&second, &Payload::empty()));
    let (answer, none) = consumer.complete_and_next(second, Outcome::done()).unwrap();
    assert!(answer == Answer::Stored(State::Succeeded) && none.is_none());
    let inner = &stage.d.0;
    let held = (inner.slots.all.used(), inner.cells.active(), inner.cells.live());
    assert_eq!(held, (0, 0, 0));
    drop(consumer);
    stage.stop();
}

#[test]
fn of_two_answers_one_counts_and_the_next_job_is_left_alone() {
    explore(a_ticket);
}
