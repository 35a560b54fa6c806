//! What happens, told as sentences: the log, and streams that event loops wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Make;
use super::stage::{Stage, at_once, job, soon};
use crate::config::QueueOptions;
use crate::dispatcher::Dispatcher;
use crate::error::ErrorKind;
use crate::event::{EventKind, Level, Log, Report};
use crate::outcome::Outcome;
use crate::time::ManualClock;
use crate::wakeup::readable;
use crate::{Deadline, Options};

type Lines = Arc<Mutex<Vec<(Level, String)>>>;

/// Keeps what it is told, and counts how often it was dropped.
struct Book {
    lines: Lines,
    then: Box<dyn Fn(&Report<'_>) + Send + Sync>,
    dropped: Arc<AtomicUsize>,
}

impl Log for Book {
    fn log(&self, report: &Report<'_>) {
        self.lines.lock().push((report.level(), report.to_string()));
        (self.then)(report);
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn book(then: impl Fn(&Report<'_>) + Send + Sync + 'static) -> (Arc<Book>, Lines, Arc<AtomicUsize>) {
    let (lines, dropped) = (Lines::default(), Arc::<AtomicUsize>::default());
    let book = Book {
        lines: lines.clone(),
        then: Box::new(then),
        dropped: dropped.clone(),
    };
    (Arc::new(book), lines, dropped)
}

/// Each event is a sentence that names the job, its kind, its queue, the attempt, and why.
pub fn a_log_is_told_in_words(make: Make<'_>) {
    let stage = Stage::new(make);
    let (book, lines, _) = book(|_| ());
    stage.d.log_to(Level::Debug, book).unwrap();
    let id = stage.push(
        job()
            .queue("mails")
            .max_attempts(2)
            .retry(crate::RetryPolicy::none()),
    );
    stage
        .take()
        .complete(Outcome::failed("the line is dead"))
        .unwrap();
    stage.run(Outcome::failed("and stays so"));
    let told = std::mem::take(&mut *lines.lock());
    let levels: Vec<Level> = told.iter().map(|(level, _)| *level).collect();
    assert_eq!(
        levels,
        [
            Level::Debug,
            Level::Debug,
            Level::Warn,
            Level::Debug,
            Level::Error
        ]
    );
    for (_, line) in &told {
        assert!(line.starts_with(&format!("job {id} (k in mails) ")), "{line}");
    }
    assert!(told[2].1.contains("attempt 1 after ") && told[2].1.ends_with(": the line is dead"));
    assert!(told[4].1.contains("for good with attempt 2") && told[4].1.ends_with(": and stays so"));
    // A level that is not asked for is not told of.
    let (grave, lines, _) = self::book(|_| ());
    stage.d.log_to(Level::Error, grave).unwrap();
    stage.push(job());
    stage.run(Outcome::done());
    assert!(lines.lock().is_empty());
    assert!(stage.d.log_off().unwrap() && !stage.d.log_off().unwrap());
}

/// A log may push, which is not told to it; it cannot wait for what would wait for it.
pub fn a_log_may_call_the_dispatcher(make: Make<'_>) {
    let stage = Stage::new(make);
    let d = stage.d.idle_handle();
    let (book, lines, _) = book(move |_| {
        d.push(job().queue("other")).unwrap();
        assert_eq!(
            d.stop(Duration::ZERO).unwrap_err().kind(),
            ErrorKind::WouldDeadlock
        );
    });
    stage.d.log_to(Level::Debug, book).unwrap();
    stage.push(job());
    stage.run(Outcome::done());
    let told = lines.lock().len();
    assert_eq!(told, 3, "pushed, started, succeeded");
    assert_eq!(stage.counts().queued, 3);
    assert_eq!(stage.d.stats().unwrap().hook_failures, 0);
}

/// A panic in it goes no further, and is counted.
pub fn a_log_that_panics_changes_nothing(make: Make<'_>) {
    let stage = Stage::new(make);
    let (book, lines, _) = book(|report| panic!("{report}"));
    stage.d.log_to(Level::Debug, book).unwrap();
    stage.push(job());
    stage.run(Outcome::done());
    let stats = stage.d.stats().unwrap();
    assert_eq!((lines.lock().len(), stats.hook_failures), (3, 3));
    assert_eq!(stats.total().totals.succeeded, 1);
}

/// Replaced, taken away, or let go by the stop, which is the last that it hears of.
pub fn a_log_is_let_go_once(make: Make<'_>) {
    let stage = Stage::new(make);
    let drops = |drops: &AtomicUsize| drops.load(Ordering::SeqCst);
    let (first, _, gone) = book(|_| ());
    stage.d.log_to(Level::Info, first).unwrap();
    let (second, lines, let_go) = book(|_| ());
    stage.d.log_to(Level::Info, second).unwrap();
    assert_eq!((drops(&gone), drops(&let_go)), (1, 0));
    stage.push(job());
    let body = stage.take();
    stage.d.stop(Duration::ZERO).unwrap();
    assert_eq!((drops(&gone), drops(&let_go)), (1, 1));
    let lines = std::mem::take(&mut *lines.lock());
    assert_eq!(
        lines,
        [(
            Level::Info,
            "the dispatcher stops, and nothing runs any more: 1 handed back, 1 wait".to_owned()
        )]
    );
    drop(body);
    let (late, _, gone) = book(|_| ());
    assert_eq!(
        stage.d.log_to(Level::Info, late).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(drops(&gone), 1);
}

/// Readable when there is an event of its level, and when the dispatcher has stopped.
pub fn a_stream_has_a_descriptor(make: Make<'_>) {
    let stage = Stage::new(make);
    let stream = stage.d.subscribe_from(Level::Error, 10);
    let lit = || readable(stream.descriptor().unwrap());
    let poll = |max| {
        let mut events = Vec::new();
        let got = stream.poll(max, at_once(), &mut events);
        got.map(|_| events.into_iter().map(|event| event.kind).collect::<Vec<_>>())
    };
    assert!(lit() && poll(9).unwrap().is_empty() && !lit());
    stage.push(job());
    stage.run(Outcome::done());
    assert!(!lit(), "that is not grave");
    for _ in 0..3 {
        stage.push(job());
        stage.run(Outcome::fatal("no"));
    }
    assert!(lit());
    assert_eq!(poll(2).unwrap(), [EventKind::Failed; 2]);
    assert!(lit());
    assert_eq!(
        (poll(2).unwrap().len(), poll(2).unwrap().len(), lit()),
        (1, 0, false)
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut events = Vec::new();
            stream.poll(9, soon(), &mut events).map(|_| events.len())
        });
        stage.push(job());
        stage.run(Outcome::fatal("no"));
        assert_eq!(waiting.join().unwrap().unwrap(), 1);
    });
    stage.d.stop(Duration::ZERO).unwrap();
    for _ in 0..2 {
        assert!(lit());
        assert_eq!(poll(9).unwrap_err().kind(), ErrorKind::Closed);
    }
    assert!(stream.next(Deadline::NEVER).is_none(), "nothing more will come");
}

/// What a former dispatcher left is what every stream and every log of the next one begins with.
pub fn what_was_there_before_is_told_first(make: Make<'_>) {
    let engine = make();
    let open = || {
        let clock = Arc::new(ManualClock::new());
        Dispatcher::with_clock(engine.clone(), Options::default(), clock).unwrap()
    };
    let first = open();
    assert_eq!(first.subscribe(9).drain().count(), 0);
    first.push(job()).unwrap();
    let second = open();
    let (book, lines, _) = book(|_| ());
    second.log_to(Level::Info, book).unwrap();
    let stream = second.subscribe(9);
    let event = stream.next(at_once()).expect("a job is there");
    assert_eq!(event.kind, EventKind::Opened);
    let text = event.report(&second).to_string();
    assert!(text.contains("1 wait, 0 r"), "{text}");
    assert_eq!(*lines.lock(), [(Level::Info, text)]);
    assert_eq!(second.subscribe_from(Level::Warn, 9).drain().count(), 0);
}

/// Watermarks are told of also where nobody asks for what happens to each job.
pub fn pressure_is_told_whatever_the_level(make: Make<'_>) {
    if make().capabilities().shared {
        return;
    }
    let stage = Stage::new(make);
    let mut options = QueueOptions::new().capacity(2);
    options.set("high_watermark", "1").unwrap();
    stage.d.configure_queue("default", options).unwrap();
    let stream = stage.d.subscribe_from(Level::Warn, 9);
    stage.push(job());
    stage.push(job());
    let told: Vec<EventKind> = stream.drain().map(|event| event.kind).collect();
    assert_eq!(told, [EventKind::HighWatermark]);
}
