//! What is passed on, in which order, and what becomes of it when the sink does not take it.
#![cfg(not(shuttle))]

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Forwarder, Sink, SinkError, Target};
use crate::config::{ForwardOptions, Options};
use crate::dispatcher::{Dispatcher, Lease, Why};
use crate::error::ErrorKind;
use crate::event::Level;
use crate::id::JobId;
use crate::job::{Filter, NewJob, State};
use crate::outcome::FailureKind;
use crate::retry::RetryPolicy;
use crate::time::{Deadline, ManualClock, Timestamp};

const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(60);

/// A dispatcher with a clock that stands still.
struct Stage {
    d: Dispatcher,
    clock: Arc<ManualClock>,
}

impl Stage {
    fn new() -> Self {
        Self::with("memory:")
    }

    fn with(url: &str) -> Self {
        let clock = Arc::new(ManualClock::new());
        let d = Dispatcher::open_with_clock(url, Options::default(), clock.clone()).unwrap();
        Self { d, clock }
    }

    fn push(&self, numbers: impl IntoIterator<Item = u32>) -> Vec<JobId> {
        let jobs: Vec<_> = numbers.into_iter().map(job).collect();
        self.d.push_many(&jobs).unwrap().iter().map(|p| p.id).collect()
    }

    fn forward(&self, sink: impl Sink + 'static) -> Forwarder {
        self.d.forward("out", sink, options()).unwrap()
    }

    fn counts(&self) -> crate::engine::QueueCounts {
        let stats = self.d.stats().unwrap();
        let counts = stats.queue("out").unwrap().clone();
        assert!(counts.balanced(), "{counts:?}");
        counts
    }

    fn why(&self) -> Why {
        self.d.explain_queue("out").unwrap().reasons[0].clone()
    }
}

/// Batches of four, and a pause of one second, then two, and so on.
fn options() -> ForwardOptions {
    ForwardOptions {
        batch: 4,
        retry: RetryPolicy::linear(SECOND),
    }
}

fn job(number: u32) -> NewJob<'static> {
    NewJob::new("k", number.to_string()).queue("out")
}

fn number(payload: &crate::Payload) -> u32 {
    let bytes = payload.as_bytes().unwrap();
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// What a sink is told to answer, and what it has taken.
#[derive(Default)]
struct Script {
    answer: Option<SinkError>,
    taken: Vec<u32>,
    /// The sizes of what it was given.
    given: Vec<usize>,
}

type Shared = Arc<Mutex<Script>>;

/// A sink that answers as it is told, for every delivery until it is told otherwise.
fn scripted() -> (Shared, impl Sink + 'static) {
    let shared = Shared::default();
    let script = shared.clone();
    let sink = move |batch: &[Lease]| {
        let mut script = script.lock();
        script.given.push(batch.len());
        let answer = script.answer.clone();
        let took = answer.as_ref().map_or(batch.len(), |e| e.delivered);
        script
            .taken
            .extend(batch[..took].iter().map(|l| number(l.payload())));
        answer.map_or(Ok(()), Err)
    };
    (shared, sink)
}

#[test]
fn a_sink_is_given_everything_in_order() {
    let (stage, (script, sink)) = (Stage::new(), scripted());
    stage.push(0..10);
    stage.d.push(job(99).priority(1)).unwrap();
    let forwarder = stage.forward(sink);
    assert_eq!(
        stage.why(),
        Why::Forwarded {
            sink: "a callback".into()
        }
    );
    assert_eq!(forwarder.pass().unwrap(), Timestamp::MAX);
    assert_eq!(script.lock().taken, [vec![99], (0..10).collect()].concat());
    assert_eq!(script.lock().given, [4, 4, 3]);
    let stats = forwarder.stats();
    assert_eq!(
        (stats.delivered, stats.deliveries, stats.failing_since),
        (11, 3, None)
    );
    assert_eq!(
        (stage.counts().totals.succeeded, stage.counts().waiting()),
        (11, 0)
    );
}

#[test]
fn while_the_sink_is_down_nothing_is_lost_used_up_or_overtaken() {
    let (stage, (script, sink)) = (Stage::new(), scripted());
    let forwarder = stage.forward(sink);
    let events = stage.d.subscribe_from(Level::Info, 99);
    script.lock().answer = Some(SinkError::down(0, "no route"));
    let ids = stage.push(0..6);
    let began = stage.d.now();
    for pause in 1..=4 {
        assert_eq!(forwarder.pass().unwrap(), stage.d.now().after(SECOND * pause));
        stage.clock.advance(SECOND * pause - Duration::from_millis(1));
        forwarder.pass().unwrap();
        assert_eq!(
            script.lock().given.len(),
            pause as usize,
            "not before the pause is over"
        );
        stage.clock.advance(Duration::from_millis(1));
    }
    stage.push(6..8);
    let first = stage.d.get(ids[0]).unwrap();
    assert_eq!(
        (first.state, first.attempt, first.history.len()),
        (State::Queued, 0, 0)
    );
    assert_eq!((stage.counts().queued, stage.d.stats().unwrap().bodies), (8, 0));
    let why = Why::SinkFails {
        sink: "a callback".into(),
        lasts: SECOND * 10,
        why: "no route".into(),
    };
    assert_eq!(stage.why(), why);
    assert_eq!(stage.d.explain(ids[5]).unwrap().reasons, [why]);
    let stats = forwarder.stats();
    assert_eq!(
        (stats.failing_since, stats.last_error.as_deref()),
        (Some(began), Some("no route"))
    );
    script.lock().answer = None;
    forwarder.pass().unwrap();
    assert_eq!(script.lock().taken, (0..8).collect::<Vec<_>>());
    assert_eq!(forwarder.stats().failing_since, None);
    let told: Vec<_> = events.drain().map(|e| e.report(&stage.d).to_string()).collect();
    assert_eq!(
        told,
        [
            "jobs of queue \"out\" cannot be passed on: no route",
            "jobs of queue \"out\" are passed on again"
        ],
        "each once"
    );
    assert_eq!(
        stage.why(),
        Why::Forwarded {
            sink: "a callback".into()
        }
    );
}

#[test]
fn what_the_sink_took_is_not_given_again() {
    let (stage, (script, sink)) = (Stage::new(), scripted());
    let forwarder = stage.forward(sink);
    stage.push(0..8);
    script.lock().answer = Some(SinkError::down(3, "in the middle"));
    for expected in 1..=2 {
        // Progress begins the pauses anew.
        assert_eq!(forwarder.pass().unwrap(), stage.d.now().after(SECOND));
        assert_eq!(stage.counts().totals.succeeded, 3 * expected);
        stage.clock.advance(SECOND);
    }
    script.lock().answer = None;
    forwarder.pass().unwrap();
    assert_eq!(script.lock().taken, (0..8).collect::<Vec<_>>());
}

#[test]
fn a_sink_without_room_does_not_fail() {
    let (stage, (script, sink)) = (Stage::new(), scripted());
    let forwarder = stage.forward(sink);
    stage.push(0..4);
    script.lock().answer = Some(SinkError::busy(1, Some(SECOND * 7), "full"));
    assert_eq!(forwarder.pass().unwrap(), stage.d.now().after(SECOND * 7));
    let stats = forwarder.stats();
    assert_eq!((stats.busy, stats.failing_since, stats.delivered), (1, None, 1));
    stage.clock.advance(SECOND * 7);
    script.lock().answer = Some(SinkError::busy(0, Some(Duration::ZERO), "full"));
    assert_eq!(
        forwarder.pass().unwrap(),
        stage.d.now().after(SECOND * 2),
        "that is no pause"
    );
    assert_eq!(
        stage.why(),
        Why::Forwarded {
            sink: "a callback".into()
        }
    );
}

#[test]
fn one_job_that_is_refused_fails_alone() {
    let (stage, (script, sink)) = (Stage::new(), scripted());
    let forwarder = stage.forward(sink);
    let ids = stage.push(0..5);
    script.lock().answer = Some(SinkError::refused(1, "too large"));
    // Each delivery takes one and refuses the next.
    assert_eq!(forwarder.pass().unwrap(), Timestamp::MAX);
    assert_eq!(script.lock().taken, [0, 2, 4]);
    let failed = stage.d.get(ids[1]).unwrap();
    let error = failed.error.unwrap();
    assert_eq!((failed.state, error.kind), (State::Failed, FailureKind::Fatal));
    assert!(error.message.contains("too large"), "{}", error.message);
    let stats = forwarder.stats();
    assert_eq!(
        (stats.delivered, stats.refused, stats.failing_since),
        (3, 2, None)
    );
    assert_eq!(
        (stage.counts().totals.failed, stage.counts().totals.succeeded),
        (2, 3)
    );
}

#[test]
fn a_sink_that_panics_is_down() {
    let stage = Stage::new();
    let mut calls = 0;
    let forwarder = stage.forward(move |_: &[Lease]| {
        calls += 1;
        assert!(calls > 1, "not yet");
        Ok(())
    });
    stage.push(0..2);
    forwarder.pass().unwrap();
    assert!(forwarder.stats().last_error.unwrap().contains("not yet"));
    stage.clock.advance(SECOND);
    forwarder.pass().unwrap();
    assert_eq!(forwarder.stats().delivered, 2);
}

#[test]
fn a_job_may_end_while_the_sink_is_down() {
    let (stage, (script, sink)) = (Stage::new(), scripted());
    let forwarder = stage.forward(sink);
    script.lock().answer = Some(SinkError::down(0, "down"));
    let mortal = stage.d.push(job(0).expires_after(SECOND)).unwrap().id;
    let ids = stage.push(1..4);
    forwarder.pass().unwrap();
    assert_eq!(stage.d.cancel(ids[0]).unwrap(), State::Cancelled);
    stage.clock.advance(SECOND * 2);
    stage.d.upkeep().unwrap();
    assert_eq!(stage.d.get(mortal).unwrap().state, State::Expired);
    script.lock().answer = None;
    forwarder.pass().unwrap();
    assert_eq!(script.lock().taken, [2, 3]);
}

#[test]
fn nobody_else_is_given_jobs_of_a_forwarded_queue() {
    let (stage, (script, sink)) = (Stage::with("memory:?concurrency=1"), scripted());
    stage.d.push(NewJob::new("k", "1").queue("mine")).unwrap();
    stage.push(2..3);
    let forwarder = stage.forward(sink);
    let again = stage
        .d
        .forward("out", |_: &[Lease]| Ok(()), options())
        .unwrap_err();
    assert!(
        again.kind() == ErrorKind::Invalid && again.to_string().contains("a callback"),
        "{again}"
    );
    let now = || Deadline::after(Duration::ZERO);
    let mut consumer = stage.d.consumer(Arc::new(crate::KindSet::any()));
    let body = consumer.next(now()).unwrap().unwrap();
    assert_eq!(number(body.payload()), 1);
    assert!(consumer.next(now()).unwrap().is_none());
    // The one slot is taken: what is passed on needs none.
    forwarder.pass().unwrap();
    assert_eq!(script.lock().taken, [2]);
    body.complete(()).unwrap();
    stage.push(3..4);
    assert!(consumer.next(now()).unwrap().is_none());
    forwarder.stop(SOON).unwrap();
    assert_eq!(forwarder.pass().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        number(consumer.next(now()).unwrap().unwrap().payload()),
        3,
        "it is everybody's again"
    );
}

/// What holds for those who run a kind does not concern those who pass it on.
#[test]
fn limits_of_a_kind_do_not_hold_its_jobs_back() {
    let (stage, (script, sink)) = (Stage::new(), scripted());
    let mut kind = crate::KindOptions::new().concurrency(1).timeout(SECOND);
    kind.set("rate", "1/m").unwrap();
    kind.set("breaker", "failures(1, open=1h)").unwrap();
    stage.d.declare("k", kind).unwrap();
    let forwarder = stage.forward(sink);
    stage.push(0..4);
    script.lock().answer = Some(SinkError::refused(0, "never"));
    forwarder.pass().unwrap();
    script.lock().answer = None;
    stage.push(4..8);
    forwarder.pass().unwrap();
    assert_eq!(script.lock().taken, [4, 5, 6, 7]);
    assert_eq!(script.lock().given, [4, 3, 2, 1, 4]);
}

#[test]
fn a_job_goes_to_the_target_with_all_it_has() {
    let (stage, target) = (Stage::new(), Stage::new());
    let deadline = stage.d.now().after(SECOND * 50);
    let policy = RetryPolicy::constant(SECOND * 3);
    let full = NewJob::new("mail", crate::Payload::json(&[1, 2]).unwrap())
        .queue("out")
        .priority(7)
        .key("order-1")
        .concurrency_key("tenant")
        .header("trace", "abc")
        .deadline(deadline)
        .retry(policy);
    let id = stage.d.push(full).unwrap().id;
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()).queue("in"));
    forwarder.pass().unwrap();
    let job = target.d.get(id).unwrap();
    assert_eq!((&*job.kind, &*job.queue, job.priority), ("mail", "in", 7));
    assert_eq!(job.payload.as_bytes(), Some(&b"[1,2]"[..]));
    assert_eq!(job.payload.content_type(), Some(crate::JSON));
    assert_eq!(
        (job.key(), job.concurrency_key()),
        (Some("order-1"), Some("tenant"))
    );
    assert_eq!(job.headers(), [("trace".to_owned(), "abc".to_owned())]);
    assert_eq!(job.deadline, Some(deadline));
    assert_eq!(job.extras.as_ref().unwrap().retry, Some(policy));
    assert_eq!(stage.d.get(id).unwrap().state, State::Succeeded);
}

#[test]
fn a_target_that_is_full_is_waited_for() {
    let (stage, target) = (Stage::new(), Stage::with("memory:?capacity=3"));
    stage.push(0..5);
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()));
    let next = forwarder.pass().unwrap();
    assert_eq!(next, stage.d.now().after(SECOND));
    let stats = forwarder.stats();
    assert_eq!((stats.delivered, stats.busy, stats.failing_since), (3, 1, None));
    target.d.purge("out").unwrap();
    stage.clock.advance(SECOND);
    forwarder.pass().unwrap();
    assert_eq!((forwarder.stats().delivered, target.counts().waiting()), (5, 2));
}

/// A batch that has a job the target cannot take: it alone fails, whatever its place in the batch.
#[test]
fn a_job_that_the_target_cannot_take_fails_alone() {
    let (stage, target) = (Stage::new(), Stage::with("memory:?max_payload=10"));
    target
        .d
        .push(NewJob::new("other", "x").queue("out").key("taken"))
        .unwrap();
    let long = |n: u32| NewJob::new("k", format!("{n:020}")).queue("out");
    let jobs = [job(0), long(1), job(2), job(3).key("taken"), job(4), long(5)];
    let pushed = stage.d.push_many(&jobs).unwrap();
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()));
    assert_eq!(forwarder.pass().unwrap(), Timestamp::MAX);
    let state = |i: usize| stage.d.get(pushed[i].id).unwrap().state;
    let states: Vec<_> = (0..6).map(state).collect();
    use State::{Failed as F, Succeeded as S};
    assert_eq!(states, [S, F, S, F, S, F]);
    let error = stage.d.get(pushed[1].id).unwrap().error.unwrap().message;
    assert!(error.contains("max_payload"), "{error}");
    assert_eq!((forwarder.stats().delivered, forwarder.stats().refused), (3, 3));
}

/// To push a job to where it comes from would be taken for a duplicate, and lose it.
#[test]
fn a_queue_is_not_forwarded_to_its_own_store() {
    let stage = Stage::new();
    let ids = stage.push(0..3);
    let forwarder = stage.forward(Target::dispatcher(stage.d.clone()).queue("elsewhere"));
    forwarder.pass().unwrap();
    assert!(forwarder.stats().last_error.unwrap().contains("another store"));
    assert_eq!(stage.d.get(ids[0]).unwrap().state, State::Queued);
    assert_eq!(stage.counts().queued, 3);
    stage.d.stop(Duration::ZERO).unwrap();
}

/// What was delivered before its end was stored is delivered again; the target knows its id.
#[test]
fn a_job_that_the_target_knows_makes_no_duplicate() {
    let (stage, target) = (Stage::new(), Stage::new());
    let ids = stage.push(0..3);
    target.d.push(job(0).id(ids[0])).unwrap();
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()));
    forwarder.pass().unwrap();
    assert_eq!(
        (forwarder.stats().delivered, target.counts().totals.pushed),
        (3, 3)
    );
}

#[test]
fn a_dispatcher_that_stops_takes_its_forwarder_along() {
    let d = Dispatcher::in_memory().unwrap();
    let (said, heard) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let sink = move |batch: &[Lease]| {
        said.send(batch.len()).unwrap();
        let _ = wait.recv_timeout(SOON);
        Err(SinkError::down(1, "stopped in the middle"))
    };
    d.forward("out", sink, options()).unwrap();
    let jobs: Vec<_> = (0..4).map(job).collect();
    let pushed = d.push_many(&jobs).unwrap();
    heard.recv_timeout(SOON).unwrap();
    let stopping = d.clone();
    let stop = std::thread::spawn(move || stopping.stop(SOON).unwrap());
    let deadline = Deadline::after(SOON);
    while !d.stopping() {
        assert!(!deadline.passed());
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    let report = stop.join().unwrap();
    assert_eq!(
        (report.handed_back, report.waiting),
        (0, 3),
        "the delivery had the grace"
    );
    assert_eq!(d.get(pushed[0].id).unwrap().state, State::Succeeded);
    drop(go);
}

/// A sink that hangs keeps nobody from stopping; what it was given goes back to where it stood.
#[test]
fn a_stop_takes_jobs_from_a_sink_that_hangs() {
    let d = Dispatcher::in_memory().unwrap();
    let (said, heard) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let sink = move |batch: &[Lease]| {
        said.send(batch.len()).unwrap();
        let _ = wait.recv_timeout(SOON);
        Ok(())
    };
    let forwarder = d.forward("out", sink, options()).unwrap();
    let pushed = d.push_many(&[job(0), job(1)]).unwrap();
    heard.recv_timeout(SOON).unwrap();
    let early = forwarder.stop(Duration::ZERO).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout);
    let report = d.stop(Duration::ZERO).unwrap();
    assert_eq!(report.waiting, 2);
    go.send(()).unwrap();
    forwarder.stop(SOON).unwrap();
    let job = d.get(pushed[0].id).unwrap();
    assert_eq!(
        (job.state, job.attempt),
        (State::Queued, 0),
        "the late answer changes nothing"
    );
}

/// The stop of a forwarded queue is no attempt, whatever it is for a job that a handler runs.
#[test]
fn a_stop_that_counts_for_handlers_uses_up_nothing() {
    let options = Options {
        count_interrupted: true,
        max_attempts: 1,
        ..Options::default()
    };
    let d = Dispatcher::open("memory:", options).unwrap();
    let (said, heard) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let sink = move |_: &[Lease]| {
        said.send(()).unwrap();
        let _ = wait.recv_timeout(SOON);
        Ok(())
    };
    let forwarder = d.forward("out", sink, self::options()).unwrap();
    let id = d.push(job(0)).unwrap().id;
    heard.recv_timeout(SOON).unwrap();
    assert_eq!(d.stop(Duration::ZERO).unwrap().waiting, 1);
    go.send(()).unwrap();
    forwarder.stop(SOON).unwrap();
    let job = d.get(id).unwrap();
    assert_eq!((job.state, job.attempt), (State::Queued, 0), "{:?}", job.error);
}

/// Whoever has less patience does not wait for whoever has more.
#[test]
fn two_who_stop_it_wait_as_long_as_each_of_them_says() {
    let d = Dispatcher::in_memory().unwrap();
    let (said, heard) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let sink = move |_: &[Lease]| {
        said.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    };
    let forwarder = d.forward("out", sink, options()).unwrap();
    d.push(job(0)).unwrap();
    heard.recv_timeout(SOON).unwrap();
    let (answer, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| forwarder.stop(Duration::MAX));
        // Each comes while the one before may already wait.
        scope.spawn(|| {
            let mut last = Ok(());
            for _ in 0..100 {
                last = forwarder.stop(Duration::from_millis(1));
            }
            answer.send(last.unwrap_err().kind()).unwrap();
        });
        let heard = answered.recv_timeout(SOON);
        drop(go);
        assert_eq!(heard, Ok(ErrorKind::Timeout));
    });
    d.stop(SOON).unwrap();
}

/// A sink that panics when it is let go has ended all the same.
#[test]
fn a_stop_hears_of_a_thread_that_ended_by_a_panic() {
    struct Bad(mpsc::Sender<()>);
    impl Sink for Bad {
        fn deliver(&mut self, _: &[Lease]) -> Result<(), SinkError> {
            self.0.send(()).unwrap();
            Ok(())
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("it is let go");
        }
    }
    let d = Dispatcher::in_memory().unwrap();
    let (said, heard) = mpsc::channel();
    let forwarder = d.forward("out", Bad(said), options()).unwrap();
    d.push(job(0)).unwrap();
    heard.recv_timeout(SOON).unwrap();
    forwarder.stop(SOON).unwrap();
    // The queue is everybody's again.
    d.forward("out", |_: &[Lease]| Ok(()), options()).unwrap();
    d.stop(SOON).unwrap();
}

/// Without a thread, too, a sink that hangs keeps nobody from stopping.
#[test]
fn a_stop_does_not_wait_for_a_pass_that_hangs() {
    let stage = Stage::new();
    let (said, heard) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let sink = move |_: &[Lease]| {
        said.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    };
    let forwarder = stage.forward(sink);
    stage.push(0..9);
    let (answer, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        let pass = scope.spawn(|| forwarder.pass());
        heard.recv_timeout(SOON).unwrap();
        scope.spawn(|| answer.send(forwarder.stop(Duration::ZERO).map_err(|e| e.kind())));
        let heard = answered.recv_timeout(SOON);
        drop(go);
        assert_eq!(heard, Ok(Err(ErrorKind::Timeout)));
        pass.join().unwrap().unwrap();
    });
    assert_eq!(stage.counts().totals.succeeded, 4, "it ends with the delivery");
    assert_eq!(forwarder.pass().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(stage.counts().queued, 5);
}

/// A target that is named wrongly is no reason to give up jobs.
#[test]
fn a_queue_that_no_target_can_have_costs_no_job() {
    let (stage, target) = (Stage::new(), Stage::new());
    stage.push(0..3);
    let to = |queue: &str| Target::dispatcher(target.d.clone()).queue(queue);
    for name in ["line\nbreak", "", &"long".repeat(100)] {
        let error = stage.d.forward("out", to(name), options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}");
    }
    assert_eq!((stage.counts().totals.failed, stage.counts().queued), (0, 3));
    let forwarder = stage.d.forward("out", to("in"), options()).unwrap();
    forwarder.pass().unwrap();
    assert_eq!(forwarder.stats().delivered, 3);
}

#[test]
fn a_thread_delivers_what_is_pushed_and_wakes_from_its_pause() {
    let d = Dispatcher::in_memory().unwrap();
    let target = Dispatcher::in_memory().unwrap();
    let mut slow = options();
    slow.retry = RetryPolicy::constant(Duration::from_secs(3600));
    let mut down = true;
    let (said, heard) = mpsc::channel();
    let sink = move |_: &[Lease]| {
        said.send(()).unwrap();
        if std::mem::take(&mut down) {
            return Err(SinkError::down(0, "down"));
        }
        Ok(())
    };
    let forwarder = d.forward("out", sink, slow).unwrap();
    d.push(job(0)).unwrap();
    heard.recv_timeout(SOON).unwrap();
    // It sleeps for an hour, or is about to: a stop does not wait for that.
    forwarder.stop(SOON).unwrap();
    assert_eq!(forwarder.stats().delivered, 0);
    let forwarder = d
        .forward("out", Target::dispatcher(target.clone()), options())
        .unwrap();
    let id = d.push(job(1)).unwrap().id;
    d.wait(id, Deadline::after(SOON)).unwrap();
    let list = target.list(&Filter::default()).unwrap();
    assert_eq!((list.total, forwarder.stats().delivered), (2, 2));
    d.stop(SOON).unwrap();
}

#[test]
fn options_are_checked() {
    let d = Dispatcher::in_memory().unwrap();
    for (name, value, want) in [("batch", "0", "at least 1"), ("retry", "none", "must pause")] {
        let mut options = ForwardOptions::default();
        options.set(name, value).unwrap();
        let error = d.forward("out", |_: &[Lease]| Ok(()), options).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    for row in ForwardOptions::docs() {
        ForwardOptions::default().set(row.name, &row.default).unwrap();
    }
}

/// Files of their own for a test.
#[cfg(feature = "sqlite")]
struct Folder(std::path::PathBuf);

#[cfg(feature = "sqlite")]
impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-forward-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn url(&self, name: &str) -> String {
        format!("sqlite:{}?write_behind=1h", self.0.join(name).display())
    }
}

#[cfg(feature = "sqlite")]
impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Row 64: it accepts while the target cannot be opened, survives a restart, and drains in order when it can.
#[cfg(feature = "sqlite")]
#[test]
fn a_target_that_cannot_be_opened_is_opened_later() {
    let folder = Folder::new("later");
    let (here, there) = (folder.url("here.db"), folder.url("there.db"));
    let holder = Dispatcher::open(&there, Options::default()).unwrap();
    let target = || Target::url(&there, Options::default());
    let first = Stage::with(&here);
    let mut ids = first.push(0..6);
    let forwarder = first.forward(target());
    for _ in 0..5 {
        first.clock.advance(SECOND * 10);
        forwarder.pass().unwrap();
    }
    ids.extend(first.push(6..9));
    let error = forwarder.stats().last_error.unwrap();
    assert!(error.contains("in use"), "{error}");
    assert!(matches!(first.why(), Why::SinkFails { why, .. } if *why == *error));
    first.d.stop(Duration::ZERO).unwrap();
    let second = Stage::with(&here);
    let forwarder = second.forward(target());
    forwarder.pass().unwrap();
    assert_eq!((forwarder.stats().delivered, second.counts().queued), (0, 9));
    holder.stop(SOON).unwrap();
    second.clock.advance(SECOND * 10);
    forwarder.pass().unwrap();
    assert_eq!((forwarder.stats().delivered, second.counts().waiting()), (9, 0));
    second.d.stop(SOON).unwrap();
    drop(forwarder);
    let there = Dispatcher::open(&there, Options::default()).unwrap();
    assert_eq!(in_order(&there), ids);
    there.stop(SOON).unwrap();
}

/// In a file that others share the jobs are leased, and come back to where they stood all the same.
#[cfg(feature = "sqlite")]
#[test]
fn a_queue_of_a_shared_file_is_forwarded_in_order() {
    let folder = Folder::new("shared");
    let stage = Stage::with(&format!("{}&shared=true", folder.url("jobs.db")));
    let (script, sink) = scripted();
    let forwarder = stage.forward(sink);
    let ids = stage.push(0..6);
    script.lock().answer = Some(SinkError::down(1, "down"));
    for _ in 0..3 {
        forwarder.pass().unwrap();
        stage.clock.advance(SECOND * 5);
    }
    let job = stage.d.get(ids[3]).unwrap();
    assert_eq!((job.state, job.attempt, job.history.len()), (State::Queued, 0, 0));
    script.lock().answer = None;
    forwarder.pass().unwrap();
    assert_eq!(script.lock().taken, (0..6).collect::<Vec<_>>());
    stage.d.stop(SOON).unwrap();
}

/// The ids of what waits, as it would start.
#[cfg(feature = "sqlite")]
fn in_order(d: &Dispatcher) -> Vec<JobId> {
    let mut ids = Vec::new();
    let each = &mut |job: crate::Job| {
        ids.push(job.id);
        Ok(())
    };
    d.export(each).unwrap();
    ids
}

/// A process that dies in a delivery leaves no mark on the jobs: they are no culprits, and stand where they stood.
#[cfg(feature = "sqlite")]
#[test]
fn a_death_in_a_delivery_costs_the_jobs_nothing() {
    let folder = Folder::new("death");
    let stage = Stage::with(&folder.url("jobs.db"));
    let ids = stage.push(0..6);
    let copy = folder.0.join("copy");
    std::fs::create_dir_all(&copy).unwrap();
    let (from, to) = (folder.0.clone(), copy.clone());
    let forwarder = stage.forward(move |_: &[Lease]| {
        // What a process that was killed now would leave, page for page.
        for name in ["jobs.db", "jobs.db-wal", "jobs.db.flight"] {
            std::fs::copy(from.join(name), to.join(name)).map_err(|e| SinkError::down(0, e.to_string()))?;
        }
        Ok(())
    });
    stage.d.push(NewJob::new("k", "0").queue("run")).unwrap();
    let mut consumer = stage.d.consumer(Arc::new(crate::KindSet::any()));
    let body = consumer.next(Deadline::after(Duration::ZERO)).unwrap().unwrap();
    forwarder.pass().unwrap();
    assert_eq!(forwarder.stats().last_error, None);
    let url = format!("sqlite:{}", copy.join("jobs.db").display());
    let next = Stage::with(&url);
    next.d.upkeep().unwrap();
    let jobs: Vec<_> = ids.iter().map(|id| next.d.get(*id).unwrap()).collect();
    assert!(
        jobs.iter()
            .all(|j| (j.state, j.attempt, j.crashes) == (State::Queued, 0, 0))
    );
    assert_eq!(
        next.d.get(body.id()).unwrap().crashes,
        1,
        "a body is what may have done it"
    );
    assert_eq!(in_order(&next.d)[..6], ids);
    next.d.stop(SOON).unwrap();
    stage.d.stop(Duration::ZERO).unwrap();
}

/// What cannot be written, and what is.
struct Object(bool, mpsc::Sender<()>);

impl crate::HostObject for Object {
    fn encode(&self) -> crate::Result<crate::Encoded> {
        self.1.send(()).unwrap();
        match self.0 {
            false => Err(crate::Error::new(ErrorKind::Encode, "it is a socket")),
            true => Ok(crate::Encoded {
                bytes: "written".into(),
                content_type: "text/plain".into(),
            }),
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn an_object_is_written_by_whoever_pushes_it() {
    let (stage, (wrote, writes)) = (Stage::new(), mpsc::channel());
    let other = Dispatcher::in_memory().unwrap();
    let push = |queue: &str, good| {
        let payload = crate::Payload::host(Object(good, wrote.clone()));
        let pushed = stage.d.push(NewJob::new("k", payload).queue(queue));
        pushed.map_err(crate::Error::from)
    };
    stage
        .d
        .forward("here", Target::dispatcher(other), options())
        .unwrap();
    stage
        .d
        .forward("called", |_: &[Lease]| Ok(()), options())
        .unwrap();
    let file = Target::url("sqlite:/nowhere/at/all.db", Options::default());
    let forwarder = stage.d.forward("out", file, options()).unwrap();
    assert_eq!(push("out", false).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(writes.try_iter().count(), 1);
    for queue in ["here", "called", "mine"] {
        push(queue, false).unwrap();
        assert_eq!(writes.try_iter().count(), 0, "{queue} needs no bytes");
    }
    push("out", true).unwrap();
    assert_eq!(writes.try_iter().count(), 1);
    forwarder.pass().unwrap();
    assert_eq!(writes.try_iter().count(), 0, "and by nobody else");
}

#[test]
fn who_moves_the_clock_passes_on() {
    let d = Dispatcher::open("memory:?clock=manual", Options::default()).unwrap();
    let (script, mut sink) = scripted();
    let again = d.clone();
    let sink = move |batch: &[Lease]| {
        // A sink may move the clock, and waits for nobody.
        again.advance(Duration::ZERO).unwrap();
        sink.deliver(batch)
    };
    let forwarder = d.forward("out", sink, options()).unwrap();
    d.push(job(0)).unwrap();
    d.push(job(1).delay(SECOND)).unwrap();
    assert_eq!(script.lock().taken, [0; 0]);
    d.advance(Duration::ZERO).unwrap();
    assert_eq!(script.lock().taken, [0]);
    script.lock().answer = Some(SinkError::down(0, "no route"));
    d.advance(SECOND).unwrap();
    script.lock().answer = None;
    d.advance(SECOND - Duration::from_millis(1)).unwrap();
    assert_eq!(script.lock().taken, [0], "the pause is not over");
    d.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(script.lock().taken, [0, 1]);
    forwarder.stop(SOON).unwrap();
    d.push(job(2)).unwrap();
    d.advance(SECOND).unwrap();
    assert_eq!(script.lock().taken, [0, 1], "it was stopped");
    d.stop(SOON).unwrap();
}
