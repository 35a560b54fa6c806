//! The counts of one queue in one stripe. They change under the stripe's lock together with what they count,
//! so the sum over all stripes, all locked, is a true picture of one instant. A single stripe's count may be
//! below zero, which wraps: only the sum means anything.

use crate::engine::{QueueCounts, Totals};
use crate::job::State;

/// The jobs of one queue in one stripe.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    blocked: u64,
    scheduled: u64,
    queued: u64,
    running: u64,
    kept: u64,
    /// Jobs that were shed, for whatever reason.
    shed: u64,
    pub(super) totals: Totals,
}

impl Tally {
    /// The count of the jobs in this state; for a final state, of those that ever reached it.
    pub(super) fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Blocked => &mut self.blocked,
            State::Scheduled => &mut self.scheduled,
            State::Queued => &mut self.queued,
            State::Running => &mut self.running,
            State::Succeeded => &mut self.totals.succeeded,
            State::Failed => &mut self.totals.failed,
            State::Cancelled => &mut self.totals.cancelled,
            State::Expired => &mut self.totals.expired,
            // Jobs that were shed are counted by reason: see `shed`.
            State::Shed => &mut self.shed,
        }
    }

    /// Counts a new job.
    pub(super) fn add(&mut self, state: State) {
        let into = self.of(state);
        *into = into.wrapping_add(1);
    }

    /// Counts a job out of one state and into another.
    pub(super) fn step(&mut self, from: State, to: State) {
        let out = self.of(from);
        *out = out.wrapping_sub(1);
        self.add(to);
    }

    /// Counts a job out that was counted in with [`Self::add`], as if it had never been.
    pub(super) fn take(&mut self, state: State) {
        let out = self.of(state);
        *out = out.wrapping_sub(1);
    }

    /// Counts a push; or one less, when a store underneath could not keep it.
    pub(super) fn push(&mut self, change: i64) {
        self.totals.pushed = self.totals.pushed.wrapping_add_signed(change);
    }

    /// Counts finished jobs that are kept, in or out.
    pub(super) fn keep(&mut self, change: i64) {
        self.kept = self.kept.wrapping_add_signed(change);
    }

    /// Adds these counts to `sum`.
    pub(super) fn add_to(&self, sum: &mut QueueCounts) {
        sum.blocked = sum.blocked.wrapping_add(self.blocked);
        sum.scheduled = sum.scheduled.wrapping_add(self.scheduled);
        sum.queued = sum.queued.wrapping_add(self.queued);
        sum.running = sum.running.wrapping_add(self.running);
        sum.kept = sum.kept.wrapping_add(self.kept);
        let from = self.totals.named();
        for ((_, to), (_, from)) in sum.totals.named_mut().into_iter().zip(from) {
            *to = to.wrapping_add(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::QueueId;

    #[test]
    fn every_state_is_counted_once() {
        let mut tally = Tally::default();
        for state in State::ALL {
            *tally.of(*state) += 1;
            tally.totals.pushed += 1;
        }
        // Those that were shed are counted by reason as well, which is what is shown.
        tally.totals.shed_oldest += 1;
        let mut sum = QueueCounts::new(QueueId(0));
        tally.add_to(&mut sum);
        tally.add_to(&mut sum);
        assert!(sum.balanced());
        assert_eq!((sum.waiting(), sum.running, sum.totals.expired), (6, 2, 2));
    }
}
