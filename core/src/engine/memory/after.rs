//! What a call still has to do once it holds no lock.
//!
//! Bells wake threads, payloads of the host run the host's code when they are dropped, and keys are locked
//! before stripes, never after: none of that may happen under a lock.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::bell::Bell;
use crate::engine::Signals;
use crate::finished::Finished;
use crate::id::JobId;
use crate::job::{Extras, Priority};
use crate::names::QueueId;
use crate::payload::Payload;

thread_local! {
    /// The emptied lists of this thread's last call: a finish must not allocate.
    static SPARE: Cell<Lists> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// Jobs that ended, and payloads that nobody needs.
type Lists = (Vec<JobId>, Vec<Payload>);

/// The room in its lists that a thread keeps.
const SPARE_CAPACITY: usize = 256;

/// Things left for later.
#[derive(Debug, Default)]
pub(super) struct After {
    /// Jobs that can now be claimed.
    pub(super) ready: usize,
    /// Whether jobs can be claimed by others than those who were told.
    pub(super) everyone: bool,
    /// Whether a queue has room again.
    pub(super) room: bool,
    /// Whether the next due time came forward.
    pub(super) sooner: bool,
    /// Jobs that ended.
    ended: Vec<JobId>,
    /// Whether more finished jobs are kept than should be.
    pub(super) excess: bool,
    /// Whether the next push finds no free slot in its stripe.
    pub(super) hungry: bool,
    /// Keys whose job was cancelled or forgotten.
    pub(super) freed: Vec<(Arc<Extras>, JobId)>,
    /// Lanes with too many stale tickets.
    pub(super) littered: Vec<(QueueId, Priority)>,
    /// Payloads that nobody needs.
    trash: Vec<Payload>,
}

impl After {
    /// A job has ended.
    pub(super) fn end(&mut self, id: JobId) {
        self.lists();
        self.ended.push(id);
    }

    /// Nobody needs this payload any more.
    pub(super) fn drop_later(&mut self, payload: Payload) {
        self.lists();
        self.trash.push(payload);
    }

    /// Most calls end no job; the others find room for it here.
    fn lists(&mut self) {
        if self.ended.capacity() == 0 && self.trash.capacity() == 0 {
            // Nothing is spare while the thread ends.
            (self.ended, self.trash) = SPARE.try_with(Cell::take).unwrap_or_default();
        }
    }
    /// Rings the bells.
    pub(super) fn ring(&self, signals: &Signals) {
        if self.everyone {
            shout(&signals.work);
        } else {
            ring(&signals.work, self.ready);
        }
        if self.room {
            shout(&signals.space);
        }
        if self.sooner {
            shout(&signals.upkeep);
        }
        if !self.ended.is_empty() {
            announce(&signals.finished, &self.ended);
        }
    }
}

impl Drop for After {
    fn drop(&mut self) {
        if self.ended.capacity() == 0 && self.trash.capacity() == 0 {
            return;
        }
        // Dropping a payload may run code of the host that calls us again: the trash is nobody's then.
        let mut trash = std::mem::take(&mut self.trash);
        trash.clear();
        let mut ended = std::mem::take(&mut self.ended);
        ended.clear();
        if trash.capacity().max(ended.capacity()) <= SPARE_CAPACITY {
            // While the thread ends there is nowhere to put them.
            let _ = SPARE.try_with(|spare| spare.set((ended, trash)));
        }
    }
}

/// Wakes as many as there are jobs, and no more than there are waiters.
fn ring(bell: &Bell, jobs: usize) {
    if jobs > 1 {
        fence(Ordering::SeqCst);
        (0..jobs.min(bell.waiting())).for_each(|_| bell.ring());
    } else if jobs == 1 {
        bell.ring();
    }
}

/// Wakes whoever waits for one of these jobs, without a look at them if nobody waits for any job.
fn announce(finished: &Finished, jobs: &[JobId]) {
    fence(Ordering::SeqCst);
    if finished.waiters() > 0 {
        jobs.iter().for_each(|id| finished.ring(*id));
    }
}

/// Wakes everybody, without a write if there is nobody.
pub(super) fn shout(bell: &Bell) {
    fence(Ordering::SeqCst);
    if bell.waiting() > 0 {
        bell.ring_all();
    }
}
