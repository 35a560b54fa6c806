//! What is passed on, in which order, and what becomes of it when the sink does not take it.
#![cfg(not(shuttle))]

#[cfg(feature = "sqlite")]
mod file;
mod stop;
mod target;

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
