//! The live leases of one dispatcher: one cell each, reused, with the flag its handler looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::Waker;

use crossbeam_queue::SegQueue;
use parking_lot::{Mutex, RwLock};

use crate::bell::Bell;
use crate::job::JobRef;

/// Why a handler should stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled = 1,
    /// The attempt's timeout passed; its answer no longer counts.
    TimedOut = 2,
    /// The lease was lost or handed back; its answer no longer counts.
    LeaseLost = 3,
    /// The dispatcher is stopping; an answer within the grace still counts.
    Stopping = 4,
}

impl StopReason {
    /// The name in lower case, as in every binding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StopReason::Cancelled => "cancelled",
            StopReason::TimedOut => "timed_out",
            StopReason::LeaseLost => "lease_lost",
            StopReason::Stopping => "stopping",
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Cancelled, Self::TimedOut, Self::LeaseLost, Self::Stopping]
            .into_iter()
            .find(|r| *r as u8 == code)
    }
}

/// The cell of one lease.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    stop: AtomicU8,
    /// A future that wants to hear of a reason to stop.
    waker: Mutex<Option<Waker>>,
    /// Whose lease it is; `None` while it is free.
    job: Mutex<Option<JobRef>>,
}

impl Cell {
    /// Why the handler should stop, if it should.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        StopReason::from_code(self.stop.load(Ordering::Acquire))
    }

    /// Tells the handler to stop. Stronger reasons replace a mere stopping; the first of those stays.
    pub(crate) fn signal(&self, reason: StopReason) {
        let changed =
            self.stop.fetch_update(
                Ordering::AcqRel,
                Ordering::Acquire,
                |old| match StopReason::from_code(old) {
                    None | Some(StopReason::Stopping) => Some(reason as u8),
                    Some(_) => None,
                },
            );
        if changed.is_ok()
            && let Some(waker) = self.waker.lock().take()
        {
            waker.wake();
        }
    }

    /// Wakes `waker` at the next signal. Look at the reason after this.
    pub(crate) fn listen(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }
}

/// The cells of one dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    all: RwLock<Vec<Arc<Cell>>>,
    free: SegQueue<Arc<Cell>>,
    active: AtomicUsize,
    /// Rings when the last lease has ended.
    pub(crate) idle: Bell,
}

impl Cells {
    pub(crate) fn begin(&self, job: JobRef) -> Arc<Cell> {
        let cell = self.free.pop().unwrap_or_else(|| {
            let cell = Arc::<Cell>::default();
            self.all.write().push(cell.clone());
            cell
        });
        cell.stop.store(0, Ordering::Release);
        *cell.waker.lock() = None;
        *cell.job.lock() = Some(job);
        self.active.fetch_add(1, Ordering::SeqCst);
        cell
    }

    /// The body has ended: the cell is free for another lease.
    pub(crate) fn end(&self, cell: Arc<Cell>) {
        *cell.job.lock() = None;
        self.free.push(cell);
    }

    /// What became of this many ended bodies has been stored, or has failed to be.
    pub(crate) fn settled(&self, count: usize) {
        if count > 0 && self.active.fetch_sub(count, Ordering::SeqCst) == count {
            self.idle.ring_all();
        }
    }

    /// How many leases are live, or ended and not yet settled.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// Tells the handler of this claim, if it is ours, to stop.
    pub(crate) fn signal(&self, job: JobRef, reason: StopReason) {
        self.each(|cell, held| {
            if held == job {
                cell.signal(reason);
            }
        });
    }

    /// Calls `f` for every live lease.
    pub(crate) fn each(&self, mut f: impl FnMut(&Cell, JobRef)) {
        for cell in self.all.read().iter() {
            // The lock is held across `f`, so that the cell cannot pass to another lease meanwhile.
            if let Some(job) = *cell.job.lock() {
                f(cell, job);
            }
        }
    }
}
