//! The counts of one queue in one shard. They change under the shard's lock together with what they count,
//! so the sum over all shards, all locked, is a true picture of one instant.

use crate::engine::{QueueCounts, Totals};
use crate::job::State;

/// The jobs of one queue in one shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    blocked: u64,
    scheduled: u64,
    queued: u64,
    running: u64,
    pub(super) kept: u64,
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
        }
    }

    /// Adds these counts to `sum`.
    pub(super) fn add_to(&self, sum: &mut QueueCounts) {
        sum.blocked += self.blocked;
        sum.scheduled += self.scheduled;
        sum.queued += self.queued;
        sum.running += self.running;
        sum.kept += self.kept;
        let (to, from) = (&mut sum.totals, &self.totals);
        to.pushed += from.pushed;
        to.restored += from.restored;
        to.claimed += from.claimed;
        to.succeeded += from.succeeded;
        to.failed += from.failed;
        to.cancelled += from.cancelled;
        to.expired += from.expired;
        to.retried += from.retried;
        to.returned += from.returned;
        to.stale += from.stale;
        to.refused += from.refused;
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
        let mut sum = QueueCounts::new(QueueId(0));
        tally.add_to(&mut sum);
        tally.add_to(&mut sum);
        assert!(sum.balanced());
        assert_eq!((sum.waiting(), sum.running, sum.totals.expired), (6, 2, 2));
    }
}
