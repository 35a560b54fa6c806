//! A rate in force: what claims take starts from.

use parking_lot::Mutex;

use crate::admission::{Gcra, Rate};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// The rate of one queue or one kind, and how far it is used up.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    starts: Gcra,
    /// Whether somebody found none since some were given back last.
    starved: bool,
}

/// What a claim got of the starts it asked for.
pub(super) enum Starts {
    /// So many, at least one.
    Some(usize),
    /// None before this instant.
    NotBefore(Timestamp),
}

impl Pace {
    /// This rate; what the last one had used up still counts.
    pub(super) fn new(rate: Rate, last: Option<&Pace>) -> Self {
        let state = last.map(|last| *last.state.lock()).unwrap_or_default();
        Self {
            rate,
            state: Mutex::new(state),
        }
    }

    /// Takes up to `want` starts.
    pub(super) fn take(&self, now: Timestamp, want: usize) -> Starts {
        let mut state = self.state.lock();
        let want = u32::try_from(want).unwrap_or(u32::MAX);
        match state.starts.take(self.rate, now, want) {
            0 => {
                state.starved = true;
                Starts::NotBefore(state.starts.worth_waking(self.rate, now))
            }
            got => Starts::Some(got as usize),
        }
    }

    /// Gives starts back that were not used. True if somebody found none meanwhile: ring the bell.
    #[must_use]
    pub(super) fn give(&self, count: usize) -> bool {
        if count == 0 || planted(Bug::StartsLost) {
            return false;
        }
        let mut state = self.state.lock();
        state
            .starts
            .give_back(self.rate, u32::try_from(count).unwrap_or(u32::MAX));
        std::mem::take(&mut state.starved)
    }

    /// When the next start may be: `now` if one may be at once.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        self.state.lock().starts.next(self.rate, now)
    }
}
