//! A rate in force: what claims take starts from.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::admission::{Gcra, Rate};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// The rate of one queue or one kind, and how far it is used up.
///
/// What claims take is kept apart from what they use of it: while a claim is under way its starts may be had again
/// by the passing of time, and what is not used would else be had twice.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    /// Shared with the rates before and after it: claims that took from one are answered for at the other.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The starts that were used.
    used: Gcra,
    /// Those of claims that are under way.
    taken: u32,
    /// Whether somebody found none since some were given back last.
    starved: bool,
}

impl State {
    /// What has been used, if all that has been taken is.
    fn all(&self, rate: Rate, now: Timestamp) -> Gcra {
        let mut all = self.used;
        all.take(rate, now, self.taken);
        all
    }
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
        let state = last.map(|last| last.state.clone()).unwrap_or_default();
        Self { rate, state }
    }

    /// Takes up to `want` starts, to be [settled](Pace::settle).
    pub(super) fn take(&self, now: Timestamp, want: usize) -> Starts {
        let mut state = self.state.lock();
        let want = u32::try_from(want).unwrap_or(u32::MAX);
        let mut all = state.all(self.rate, now);
        match all.take(self.rate, now, want) {
            0 => {
                state.starved = true;
                Starts::NotBefore(all.worth_waking(self.rate, now))
            }
            got => {
                state.taken += got;
                Starts::Some(got as usize)
            }
        }
    }

    /// Of the starts that were taken at `since` so many were used, and the rest was not. True if somebody found none
    /// meanwhile who may have one now: ring the bell.
    #[must_use]
    pub(super) fn settle(&self, since: Timestamp, used: usize, unused: usize) -> bool {
        if used + unused == 0 {
            return false;
        }
        let (used, unused) = match planted(Bug::StartsLost) {
            true => (used + unused, 0),
            false => (used, unused),
        };
        let mut state = self.state.lock();
        // No more than were taken, which fit.
        state.taken -= (used + unused) as u32;
        state.used.note(self.rate, since, used as u32);
        unused > 0 && std::mem::take(&mut state.starved)
    }

    /// When the next start may be: `now` if one may be at once.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        self.state.lock().all(self.rate, now).next(self.rate, now)
    }
}
