//! The store's clock: the latest instant that any process has worked at, which never goes back.
//!
//! A caller whose `now` is behind works at the latest instant instead. One that is far behind what another
//! process wrote has a clock of its own opinion: its instants are moved by the difference from then on, so that
//! the store's time goes on at the usual pace however the clocks differ, and what a delay or a lease lasts is
//! measured in elapsed time.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use crate::time::Timestamp;

/// Differences below this are how long calls take, not how clocks differ.
const NOISE: i64 = 500_000;

/// What one process knows of the store's clock, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Time {
    /// How far the store's clock is before this process's.
    ahead: AtomicI64,
    /// The latest instant that this process wrote or has taken note of.
    known: AtomicI64,
    /// The latest instant that another process wrote, once.
    theirs: AtomicI64,
}

impl Time {
    /// The clock was found to show this.
    pub(super) fn saw(&self, now: i64) {
        if self.known.fetch_max(now, SeqCst) < now {
            self.theirs.store(now, SeqCst);
        }
    }

    /// This process has set it.
    pub(super) fn wrote(&self, now: i64) {
        self.known.fetch_max(now, SeqCst);
    }

    /// A caller's instant as one of the store, if the call has `waited` so long since.
    pub(super) fn of_store(&self, now: Timestamp, waited: Duration) -> Timestamp {
        let theirs = self.theirs.swap(0, SeqCst);
        let elapsed = now.after(waited).as_micros();
        if theirs > 0 && theirs.saturating_sub(elapsed) - self.ahead.load(SeqCst) > NOISE {
            self.ahead.store(theirs.saturating_sub(elapsed), SeqCst);
        }
        Timestamp::from_micros(now.as_micros().saturating_add(self.ahead.load(SeqCst)))
    }

    /// What the store's clock shows at a caller's `now`, as far as this process knows.
    pub(super) fn present(&self, now: Timestamp) -> Timestamp {
        let known = Timestamp::from_micros(self.known.load(SeqCst));
        self.of_store(now, Duration::ZERO).max(known)
    }

    /// An instant of this process's clock as one of the store.
    pub(super) fn stored(&self, at: Timestamp) -> Timestamp {
        match at {
            Timestamp::MAX => at,
            at => Timestamp::from_micros(at.as_micros().saturating_add(self.ahead.load(SeqCst))),
        }
    }

    /// An instant of the store as one of this process's clock.
    pub(super) fn shown(&self, at: Timestamp) -> Timestamp {
        match at {
            Timestamp::MAX => at,
            at => Timestamp::from_micros(at.as_micros().saturating_sub(self.ahead.load(SeqCst))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(us)
    }

    #[test]
    fn a_clock_that_is_behind_goes_on_from_the_stores() {
        let time = Time::default();
        time.saw(10 * MINUTE);
        assert_eq!(time.of_store(at(5 * MINUTE), Duration::ZERO), at(10 * MINUTE));
        assert_eq!(
            time.of_store(at(6 * MINUTE), Duration::ZERO),
            at(11 * MINUTE),
            "at the usual pace"
        );
        assert_eq!(time.shown(at(11 * MINUTE)), at(6 * MINUTE));
        assert_eq!(time.stored(Timestamp::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_clock_that_is_ahead_leads() {
        let time = Time::default();
        time.saw(5 * MINUTE);
        assert_eq!(time.of_store(at(10 * MINUTE), Duration::ZERO), at(10 * MINUTE));
    }

    #[test]
    fn what_a_call_waits_is_no_difference_of_clocks() {
        let time = Time::default();
        time.saw(MINUTE + 30_000_000);
        assert_eq!(
            time.of_store(at(MINUTE), Duration::from_millis(29_800)),
            at(MINUTE)
        );
        time.wrote(3 * MINUTE);
        time.saw(3 * MINUTE);
        assert_eq!(
            time.of_store(at(2 * MINUTE), Duration::ZERO),
            at(2 * MINUTE),
            "its own step back"
        );
    }
}
