//! When the next thing is due, over all jobs, for the price of one load.
//!
//! The instants are lower bounds: taking a timer away does not move them, only looking at all of
//! them does. They are lowered by whoever holds a stripe and sets a timer, and raised only while all
//! stripes are locked, so no timer is ever overlooked.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use crossbeam_utils::CachePadded;

use crate::time::Timestamp;

/// The next due times.
#[derive(Debug)]
pub(super) struct Due {
    /// When the next scheduled job may start.
    pub(super) start: Next,
    /// When the next job is overdue.
    pub(super) end: Next,
    /// When the next job may start that only the rate of its concurrency key holds back.
    pub(super) keys: Next,
}

/// An instant that many may bring forward.
#[derive(Debug)]
pub(super) struct Next(CachePadded<AtomicI64>);

impl Default for Due {
    fn default() -> Self {
        let never = || Next(AtomicI64::new(Timestamp::MAX.as_micros()).into());
        Self {
            start: never(),
            end: never(),
            keys: never(),
        }
    }
}

impl Due {
    /// The earliest of all.
    pub(super) fn next(&self) -> Timestamp {
        self.start.get().min(self.end.get()).min(self.keys.get())
    }

    /// Takes note of a job's times; says whether one of them is now the next of all.
    pub(super) fn note(&self, start: Timestamp, end: Timestamp) -> bool {
        let sooner = start.min(end) < self.next();
        self.start.lower(start);
        self.end.lower(end);
        sooner
    }

    /// Takes note of when a concurrency key may start; says whether that is now the next of all.
    pub(super) fn note_keys(&self, at: Timestamp) -> bool {
        let sooner = at < self.next();
        self.keys.lower(at);
        sooner
    }
}

impl Next {
    pub(super) fn get(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(SeqCst))
    }

    /// Sets the instant; only with every stripe locked.
    pub(super) fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), SeqCst);
    }

    fn lower(&self, at: Timestamp) {
        if at < self.get() {
            self.0.fetch_min(at.as_micros(), SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_of_all_is_sooner() {
        let (due, at) = (Due::default(), Timestamp::from_micros);
        assert!(!due.note(Timestamp::MAX, Timestamp::MAX));
        assert!(due.note(at(9), Timestamp::MAX));
        assert!(!due.note(Timestamp::MAX, at(9)));
        assert!(due.note(Timestamp::MAX, at(7)));
        assert!(!due.note(at(8), Timestamp::MAX));
        assert_eq!(
            (due.start.get(), due.end.get(), due.next()),
            (at(8), at(7), at(7))
        );
        due.end.set(Timestamp::MAX);
        assert_eq!(due.next(), at(8));
        assert!(due.note_keys(at(6)) && !due.note_keys(at(6)));
        assert_eq!((due.keys.get(), due.next()), (at(6), at(6)));
    }
}
