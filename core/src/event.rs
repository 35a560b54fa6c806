//! What happened, as a stream: bounded buffers that count what they drop, never a brake on the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::RwLock;

use crate::id::JobId;
use crate::names::{KindId, QueueId};
use crate::outcome::FailureKind;
use crate::time::{Deadline, Timestamp};

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
    ];

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
}

/// The fan-out of one dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Events {
    sinks: RwLock<Vec<Sink>>,
    count: AtomicUsize,
}

#[derive(Debug)]
struct Sink {
    sender: Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Whether anyone listens: look before building an event.
    pub(crate) fn wanted(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn publish(&self, event: &Event) {
        let mut gone = false;
        for sink in self.sinks.read().iter() {
            match sink.sender.try_send(event.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => drop(sink.dropped.fetch_add(1, Ordering::Relaxed)),
                Err(TrySendError::Disconnected(_)) => gone = true,
            }
        }
        if gone {
            self.forget_closed();
        }
    }

    /// Drops the sinks whose subscription is gone. A sink only learns that by a failed send, so a probe
    /// with the count of live handles decides.
    fn forget_closed(&self) {
        let mut sinks = self.sinks.write();
        sinks.retain(|sink| Arc::strong_count(&sink.dropped) > 1);
        self.count.store(sinks.len(), Ordering::Relaxed);
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Subscription {
        let (sender, receiver) = bounded(capacity.clamp(1, Subscription::MAX_CAPACITY));
        let dropped = Arc::new(AtomicU64::new(0));
        let mut sinks = self.sinks.write();
        sinks.retain(|sink| Arc::strong_count(&sink.dropped) > 1);
        sinks.push(Sink {
            sender,
            dropped: dropped.clone(),
        });
        self.count.store(sinks.len(), Ordering::Relaxed);
        Subscription { receiver, dropped }
    }
}

/// A bounded buffer of events. Dropping it ends the subscription. Any thread.
#[derive(Debug)]
pub struct Subscription {
    receiver: Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// The largest buffer, in events; a larger one would take its memory at once.
    pub const MAX_CAPACITY: usize = 1 << 20;

    /// The next event, or `None` if `deadline` passed first or the dispatcher is gone.
    pub fn next(&self, deadline: Deadline) -> Option<Event> {
        match deadline.instant() {
            None => self.receiver.recv().ok(),
            Some(at) => self.receiver.recv_deadline(at).ok(),
        }
    }

    /// The events that are there now.
    pub fn drain(&self) -> impl Iterator<Item = Event> + '_ {
        self.receiver.try_iter()
    }

    /// How many events found the buffer full and were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(attempt: u32) -> Event {
        Event {
            kind: EventKind::Pushed,
            id: JobId::NIL,
            queue: None,
            job_kind: None,
            attempt,
            at: Timestamp::EPOCH,
            took: None,
            failure: None,
        }
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        let events = Events::default();
        assert!(!events.wanted());
        let sub = events.subscribe(2);
        for i in 0..5 {
            events.publish(&event(i));
        }
        assert_eq!(sub.drain().map(|e| e.attempt).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(sub.dropped(), 3);
        drop(sub);
        events.publish(&event(0));
        assert!(!events.wanted(), "a subscription that is gone costs nothing");
        drop(events.subscribe(usize::MAX));
    }

    #[test]
    fn event_names_are_unique() {
        for (i, kind) in EventKind::ALL.iter().enumerate() {
            assert!(EventKind::ALL[..i].iter().all(|k| k.name() != kind.name()));
        }
    }
}
