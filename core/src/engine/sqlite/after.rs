//! What a transaction has to say once it is committed.

use crate::engine::Signals;
use crate::id::JobId;
use crate::job::State;
use crate::time::Timestamp;

/// Things left for later.
#[derive(Clone, Debug, Default)]
pub(super) struct After {
    /// Whether a row was changed.
    pub(super) changed: bool,
    /// Whether nothing of the transaction is to be kept.
    pub(super) undone: bool,
    /// Jobs that can now be claimed.
    pub(super) ready: usize,
    /// Whether jobs can be claimed by others than those who were told.
    pub(super) everyone: bool,
    /// Whether a queue has room again.
    pub(super) room: bool,
    /// Whether a running job was asked to stop, or lost its lease.
    pub(super) leases: bool,
    /// Whether a queue was seen for the first time.
    pub(super) names: bool,
    /// The earliest instant at which something must be done that was not known before.
    pub(super) due: Option<Timestamp>,
    /// Jobs that ended, and how.
    pub(super) ended: Vec<(JobId, State)>,
}

impl After {
    /// Something must be done at this instant.
    pub(super) fn due(&mut self, at: Timestamp) {
        if at < Timestamp::MAX {
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }

    /// Rings the bells of this process. `sooner` says whether the next due time came forward.
    pub(super) fn ring(&self, signals: &Signals, sooner: bool) {
        if self.everyone {
            signals.work.ring_all();
        } else {
            let waiting = signals.work.waiting();
            (0..self.ready.min(waiting)).for_each(|_| signals.work.ring());
        }
        if self.room {
            signals.space.ring_all();
        }
        if sooner {
            signals.upkeep.ring_all();
        }
        if self.leases {
            signals.leases.ring_all();
        }
        if signals.finished.waiters() > 0 {
            let ring = |(id, state): &(JobId, State)| signals.finished.ring(*id, Some(*state));
            self.ended.iter().for_each(ring);
        }
    }
}
