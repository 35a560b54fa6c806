//! What happened, as a stream: bounded buffers that count what they drop, never a brake on the queue.

mod feed;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::id::JobId;
use crate::names::{KindId, QueueId};
use crate::outcome::FailureKind;
use crate::time::Timestamp;

pub(crate) use feed::Feed;
pub use report::Report;

/// How much an event matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// The life of jobs that do what they should.
    Debug = 1,
    /// What an operator may want to know.
    Info = 2,
    /// What is handled, and should not happen often.
    Warn = 3,
    /// What somebody has to look at.
    Error = 4,
}

impl Level {
    /// Every level, from the least.
    pub const ALL: &'static [Level] = &[Level::Debug, Level::Info, Level::Warn, Level::Error];

    /// The level of a name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.name() == name)
    }

    /// The name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The level of a number, if there is one.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.code() == code)
    }
}

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A job was accepted.
    Pushed,
    /// An attempt started.
    Started,
    /// The job ended well.
    Succeeded,
    /// The job ended badly.
    Failed,
    /// An attempt failed; another follows.
    Retried,
    /// The attempt was given back: snoozed, or handed back by a stop.
    Returned,
    /// The job was cancelled or purged.
    Cancelled,
    /// The job's deadline passed.
    Expired,
    /// A rule against overload gave the job up.
    Shed,
    /// A running job was asked to stop.
    CancelRequested,
    /// An answer came too late: the lease was lost, and nothing changed.
    Stale,
    /// A hook panicked; the job is not affected.
    HookFailed,
    /// A dump that was due could not be written; the queue goes on.
    DumpFailed,
    /// The pressure of a queue has risen to its high watermark.
    HighWatermark,
    /// The pressure of a queue has fallen to its low watermark, after it had been high.
    LowWatermark,
    /// Too many attempts failed: a kind, or one concurrency key of it, starts no more for a while.
    BreakerOpened,
    /// A probe worked: the kind, or the key, starts again.
    BreakerClosed,
    /// Jobs of a former process were found when the store was opened. Every stream and every log begins with it.
    Opened,
    /// The dispatcher stops: nothing runs any more, and what did not end in time was handed back.
    Stopped,
    /// The store fails. Told once, until it works again.
    StoreFailed,
    /// The store works again.
    StoreRecovered,
    /// Jobs of a queue cannot be passed on. Told once, until they can be again.
    ForwardFailed,
    /// Jobs of a queue are passed on again.
    ForwardRecovered,
}

impl EventKind {
    /// Every kind.
    pub const ALL: &'static [EventKind] = &[
        EventKind::Pushed,
        EventKind::Started,
        EventKind::Succeeded,
        EventKind::Failed,
        EventKind::Retried,
        EventKind::Returned,
        EventKind::Cancelled,
        EventKind::Expired,
        EventKind::Shed,
        EventKind::CancelRequested,
        EventKind::Stale,
        EventKind::HookFailed,
        EventKind::DumpFailed,
        EventKind::HighWatermark,
        EventKind::LowWatermark,
        EventKind::BreakerOpened,
        EventKind::BreakerClosed,
        EventKind::Opened,
        EventKind::Stopped,
        EventKind::StoreFailed,
        EventKind::StoreRecovered,
        EventKind::ForwardFailed,
        EventKind::ForwardRecovered,
    ];

    /// Its number, which no other kind will ever have.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32 + 1
    }

    /// The kind of a number, if there is one.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// How much it matters.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            EventKind::Pushed | EventKind::Started | EventKind::Succeeded | EventKind::Returned => {
                Level::Debug
            }
            EventKind::Cancelled
            | EventKind::CancelRequested
            | EventKind::LowWatermark
            | EventKind::BreakerClosed
            | EventKind::Opened
            | EventKind::Stopped
            | EventKind::StoreRecovered
            | EventKind::ForwardRecovered => Level::Info,
            EventKind::Retried
            | EventKind::Expired
            | EventKind::Shed
            | EventKind::Stale
            | EventKind::HighWatermark
            | EventKind::BreakerOpened
            | EventKind::ForwardFailed => Level::Warn,
            EventKind::Failed | EventKind::HookFailed | EventKind::DumpFailed | EventKind::StoreFailed => {
                Level::Error
            }
        }
    }

    /// The name in lower case, as in every binding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Pushed => "pushed",
            EventKind::Started => "started",
            EventKind::Succeeded => "succeeded",
            EventKind::Failed => "failed",
            EventKind::Retried => "retried",
            EventKind::Returned => "returned",
            EventKind::Cancelled => "cancelled",
            EventKind::Expired => "expired",
            EventKind::Shed => "shed",
            EventKind::CancelRequested => "cancel_requested",
            EventKind::Stale => "stale",
            EventKind::HookFailed => "hook_failed",
            EventKind::DumpFailed => "dump_failed",
            EventKind::HighWatermark => "high_watermark",
            EventKind::LowWatermark => "low_watermark",
            EventKind::BreakerOpened => "breaker_opened",
            EventKind::BreakerClosed => "breaker_closed",
            EventKind::Opened => "opened",
            EventKind::Stopped => "stopped",
            EventKind::StoreFailed => "store_failed",
            EventKind::StoreRecovered => "store_recovered",
            EventKind::ForwardFailed => "forward_failed",
            EventKind::ForwardRecovered => "forward_recovered",
        }
    }
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// To which job; [`JobId::NIL`] for events of the dispatcher.
    pub id: JobId,
    /// In which queue.
    pub queue: Option<QueueId>,
    /// Of which kind.
    pub job_kind: Option<KindId>,
    /// The number of the attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// How long the attempt took, when one ended.
    pub took: Option<Duration>,
    /// Why, when something failed.
    pub failure: Option<FailureKind>,
    /// The same in words, or how much, where the kind says too little.
    pub text: Option<Arc<str>>,
}

impl Event {
    /// One that concerns no single job.
    pub(crate) fn of_all(kind: EventKind, at: Timestamp) -> Self {
        Self {
            kind,
            id: JobId::NIL,
            queue: None,
            job_kind: None,
            attempt: 0,
            at,
            took: None,
            failure: None,
            text: None,
        }
    }
}

/// Is told of what happens: see [`Dispatcher::log_to`](crate::Dispatcher::log_to).
pub trait Log: Send + Sync + 'static {
    /// Something happened. On whichever thread it happened, several at once, with no lock of Forebay's held. It may
    /// call anything but what waits for handlers to end; what happens through these calls is not told to it. A
    /// panic goes no further.
    fn log(&self, report: &Report<'_>);
}

/// A log and what it is told of.
struct Logging {
    level: Level,
    log: Arc<dyn Log>,
}

/// The fan-out of one dispatcher.
#[derive(Default)]
pub(crate) struct Events {
    feeds: RwLock<Vec<Arc<Feed>>>,
    log: RwLock<Option<Logging>>,
    /// The least level that anyone wants to hear of; none if it is 0.
    least: AtomicI32,
    /// What everybody hears first.
    opening: RwLock<Option<Event>>,
}

impl Events {
    /// Whether anyone listens to this: look before building an event.
    #[inline]
    pub(crate) fn wanted(&self, kind: EventKind) -> bool {
        let least = self.least.load(Ordering::Relaxed);
        least != 0 && kind.level().code() >= least
    }

    /// Whether anyone listens to anything.
    pub(crate) fn any_wanted(&self) -> bool {
        self.least.load(Ordering::Relaxed) != 0
    }

    /// Puts an event into the buffers.
    pub(crate) fn publish(&self, event: &Event) {
        let mut gone = false;
        for feed in self.feeds.read().iter() {
            feed.put(event);
            gone |= feed.is_left();
        }
        if gone {
            let mut feeds = self.feeds.write();
            feeds.retain(|feed| !feed.is_left());
            self.count(&feeds);
        }
    }

    /// The log, if it is told of such events.
    pub(crate) fn log(&self, kind: EventKind) -> Option<Arc<dyn Log>> {
        let log = self.log.read();
        let log = log.as_ref().filter(|log| kind.level() >= log.level)?;
        Some(log.log.clone())
    }

    /// Replaces the log, and gives the former one back, to be dropped without a lock.
    #[must_use]
    pub(crate) fn set_log(&self, log: Option<(Level, Arc<dyn Log>)>) -> Option<Arc<dyn Log>> {
        let log = log.map(|(level, log)| Logging { level, log });
        let former = std::mem::replace(&mut *self.log.write(), log);
        self.count(&self.feeds.write());
        former.map(|former| former.log)
    }

    /// What everybody hears first.
    pub(crate) fn opening(&self) -> Option<Event> {
        self.opening.read().clone()
    }

    pub(crate) fn set_opening(&self, event: Event) {
        *self.opening.write() = Some(event);
    }

    pub(crate) fn subscribe(&self, level: Level, capacity: usize) -> Arc<Feed> {
        let feed = Arc::new(Feed::new(level, capacity));
        if let Some(opening) = self.opening() {
            feed.put(&opening);
        }
        let mut feeds = self.feeds.write();
        feeds.retain(|feed| !feed.is_left());
        feeds.push(feed.clone());
        self.count(&feeds);
        feed
    }

    /// The dispatcher has stopped: whoever waits should look.
    pub(crate) fn end(&self) {
        self.feeds.read().iter().for_each(|feed| feed.end());
    }

    fn count(&self, feeds: &[Arc<Feed>]) {
        let least = feeds.iter().map(|feed| feed.level).min();
        let log = self.log.read().as_ref().map(|log| log.level);
        let least = least.into_iter().chain(log).min();
        self.least.store(least.map_or(0, Level::code), Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("least", &self.least)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn event(kind: EventKind, attempt: u32) -> Event {
        Event {
            attempt,
            ..Event::of_all(kind, Timestamp::EPOCH)
        }
    }

    fn drain(feed: &Feed) -> Vec<u32> {
        std::iter::from_fn(|| feed.take()).map(|e| e.attempt).collect()
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        let events = Events::default();
        assert!(!events.any_wanted());
        let feed = events.subscribe(Level::Debug, 2);
        for i in 0..5 {
            events.publish(&event(EventKind::Pushed, i));
        }
        assert_eq!((drain(&feed), feed.dropped()), (vec![0, 1], 3));
        feed.leave();
        events.publish(&event(EventKind::Pushed, 0));
        assert!(!events.any_wanted(), "a subscription that is gone costs nothing");
        assert!(drain(&feed).is_empty(), "and hears nothing more");
        drop(events.subscribe(Level::Debug, usize::MAX));
    }

    #[test]
    fn a_feed_hears_of_its_level_and_above() {
        let events = Events::default();
        let (all, grave) = (
            events.subscribe(Level::Debug, 9),
            events.subscribe(Level::Warn, 9),
        );
        for (i, kind) in [
            EventKind::Pushed,
            EventKind::Cancelled,
            EventKind::Shed,
            EventKind::Failed,
        ]
        .into_iter()
        .enumerate()
        {
            assert!(events.wanted(kind));
            events.publish(&event(kind, i as u32));
        }
        assert_eq!((drain(&all), drain(&grave)), (vec![0, 1, 2, 3], vec![2, 3]));
        all.leave();
        events.publish(&event(EventKind::Pushed, 0));
        assert!(events.wanted(EventKind::Shed) && !events.wanted(EventKind::Cancelled));
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for (i, kind) in EventKind::ALL.iter().enumerate() {
            assert!(EventKind::ALL[..i].iter().all(|k| k.name() != kind.name()));
            assert_eq!(
                (kind.code(), EventKind::from_code(kind.code())),
                (i as i32 + 1, Some(*kind))
            );
        }
        for level in Level::ALL {
            assert_eq!(Level::from_code(level.code()), Some(*level));
        }
        assert_eq!((EventKind::from_code(0), Level::from_code(5)), (None, None));
    }
}
