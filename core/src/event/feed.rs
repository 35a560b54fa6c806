//! A bounded buffer of events, for threads and for event loops.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use super::{Event, Level};
use crate::bell::Bell;
use crate::time::Deadline;
use crate::wakeup::LateWakeup;

/// The buffer of one subscription. Any thread.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(super) level: Level,
    events: ArrayQueue<Event>,
    dropped: AtomicU64,
    bell: Bell,
    pub(crate) wakeup: LateWakeup,
    /// Whether nobody reads it any more.
    left: AtomicBool,
    /// Whether the dispatcher has stopped.
    over: AtomicBool,
}

impl Feed {
    /// The largest buffer, in events; a larger one would take its memory at once.
    pub(crate) const MAX_CAPACITY: usize = 1 << 20;

    pub(super) fn new(level: Level, capacity: usize) -> Self {
        Self {
            level,
            events: ArrayQueue::new(capacity.clamp(1, Self::MAX_CAPACITY)),
            dropped: AtomicU64::new(0),
            bell: Bell::default(),
            wakeup: LateWakeup::default(),
            left: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Puts an event in, if it matters enough and there is room.
    pub(super) fn put(&self, event: &Event) {
        if event.kind.level() < self.level || self.is_left() {
            return;
        }
        if self.events.push(event.clone()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.bell.ring();
        self.wakeup.ring();
    }

    /// The next event that is there.
    pub(crate) fn take(&self) -> Option<Event> {
        self.events.pop()
    }

    /// The next event; `None` if `deadline` passed first, or if the dispatcher has stopped and late answers are not
    /// `awaited`.
    pub(crate) fn next(&self, deadline: Deadline, awaited: bool) -> Option<Event> {
        loop {
            // Without a registration first: while there are events, nobody waits.
            if let Some(event) = self.take() {
                return Some(event);
            }
            if deadline.passed() {
                return None;
            }
            let listener = self.bell.listen();
            let over = self.is_over();
            if let Some(event) = self.take() {
                return Some(event);
            }
            if over && !awaited {
                return None;
            }
            listener.wait(deadline);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Nobody reads it any more.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// The dispatcher has stopped. Late answers may still be told of.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.bell.ring_all();
        self.wakeup.ring();
    }

    /// Whether the dispatcher has stopped.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}
