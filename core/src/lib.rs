//! **Forebay** is a job queue that lives inside your program: push jobs, register handlers, and get
//! retries with backoff, deadlines, priorities, bounded concurrency, results and a clean stop, without a
//! broker beside you.
//!
//! # A tour
//!
//! Open a [`Dispatcher`], register a handler for a *kind* of job, start the workers, push:
//!
//! ```
//! use forebay::{Deadline, Dispatcher, KindOptions, NewJob, Options, RetryPolicy, State};
//! use std::time::Duration;
//!
//! let d = Dispatcher::open("memory:", Options::default())?;
//! let options = KindOptions::new().max_attempts(3).retry(RetryPolicy::constant(Duration::from_millis(1)));
//! d.register_with("flaky", options, |lease| {
//!     if lease.attempt() < 3 { Err("not yet") } else { Ok("done") }
//! })?;
//! d.start()?;
//! let pushed = d.push(NewJob::new("flaky", b"any bytes"))?;
//! let job = d.wait(pushed.id, Deadline::after(Duration::from_secs(5)))?;
//! assert_eq!((job.state, job.attempt), (State::Succeeded, 3));
//! d.stop(Duration::from_secs(5))?;
//! # Ok::<(), forebay::Error>(())
//! ```
//!
//! A host that runs handlers on its own threads asks for work instead:
//!
//! ```
//! use forebay::{Deadline, Dispatcher, KindSet, NewJob, Outcome};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! let d = Dispatcher::in_memory()?;
//! d.push(NewJob::new("mail", b"hello").priority(5))?;
//! let mut consumer = d.consumer(Arc::new(KindSet::any()));
//! while let Some(lease) = consumer.next(Deadline::after(Duration::ZERO))? {
//!     let outcome = lease.run(|lease| Outcome::Success(lease.payload().clone()));
//!     lease.complete(outcome)?;
//! }
//! # Ok::<(), forebay::Error>(())
//! ```
//!
//! # Where things are
//!
//! [`NewJob`] is what you push, [`Job`] what you can ask about it, [`State`] where it stands. A handler
//! sees a [`Lease`] and answers with an [`Outcome`]; [`decide`] turns that into the next state, and is the
//! only place that does. Jobs are kept by an [`engine::Engine`]; its contract is worth reading. Everything
//! is configured by [`Options`], failures are an [`Error`] of some [`ErrorKind`], and what happens can be
//! followed by [`Dispatcher::subscribe`], [`Hooks`] and [`Dispatcher::stats`].

pub mod admission;
mod bell;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(unix)]
pub mod control;
mod crash;
mod dispatcher;
mod dump;
mod durability;
mod ends;
pub mod engine;
mod error;
mod event;
pub mod file;
mod finished;
mod fork;
mod forward;
mod history;
mod id;
mod job;
mod json;
mod names;
mod open;
mod outcome;
mod panics;
mod payload;
#[cfg(feature = "conformance")]
pub mod planted;
#[cfg(not(feature = "conformance"))]
mod planted;
mod prefetch;
mod real;
mod retry;
mod sync;
mod threads;
mod time;
mod wakeup;
mod worker;

pub use admission::{OnFull, Rate};
pub use bell::{Bell, Listener};
pub use bytes::Bytes;
pub use config::{
    Control, ForwardOptions, KindOptions, OptionDoc, OptionValue, Options, QueueOptions, TimeSource,
    UnknownKinds,
};
pub use crash::{CrashPoint, crash_at};
pub use dispatcher::{
    Answer, Awaits, Consumer, Dispatcher, End, Explanation, Handler, Hooks, Inside, Interrupt, KindSet,
    Lease, PushError, PushManyError, Pushed, QueueExplanation, QueueStats, Stats, StopReason, StopReport,
    Stopped, Subscription, Ticket, Watcher, Why, seed,
};
pub use dump::{DumpReport, VERSION as DUMP_VERSION};
pub use durability::Durability;
pub use ends::WatchedEnd;
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind, Level, Log, Report};
pub use finished::{Finished, Wait};
pub use forward::{ForwardStats, Forwarder, Sink, SinkError, Target, Trouble};
pub use id::JobId;
pub use job::{Attempt, Extras, Filter, Job, Name, NewJob, Page, Priority, RunAt, State, Token};
pub use names::{KindId, Names, QueueId, check_name};
pub use outcome::{Failure, FailureKind, Outcome, ShedReason, Standing, Transition, decide};
pub use panics::panic_text;
pub use payload::{CALL, Encoded, HostObject, JSON, OCTETS, Payload};
pub use retry::{Backoff, RetryPolicy};
pub use time::{Clock, Deadline, ManualClock, SystemClock, Timestamp, format_duration, parse_duration};

/// The README's Rust example, compiled and run with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
