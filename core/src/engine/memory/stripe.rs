//! Stripes: what each thread keeps for itself, so that threads that work on different jobs share no cache
//! line.
//!
//! Every call takes the lock of its thread's stripe and holds it while it changes jobs, whosever they are.
//! So the lock is nearly always free; and whoever holds the locks of *all* stripes is alone with the jobs:
//! that is how the counts are true, and how a batch is applied whole or not at all.

#[cfg(not(shuttle))]
use std::cell::Cell;
#[cfg(not(shuttle))]
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::journal::Notes;
use super::latch::{Mutex, MutexGuard};
use super::running::Running;
use super::slab::Free;
use super::tally::Tally;
use crate::engine::QueueCounts;
use crate::names::QueueId;

/// How many stripes there are; threads beyond that share.
pub(super) const STRIPES: usize = 16;

/// One thread's share.
#[derive(Debug, Default)]
pub(super) struct Stripe {
    /// By queue. A count may be below zero here: one thread queues a job and another claims it.
    tallies: Vec<Tally>,
    pub(super) free: Free,
    /// Jobs that were claimed here and can be overdue.
    pub(super) running: Running,
    /// What the store underneath has to be told.
    pub(super) notes: Notes,
}

/// All stripes.
#[derive(Debug, Default)]
pub(super) struct Stripes([CachePadded<Mutex<Stripe>>; STRIPES]);

/// Every stripe, locked.
pub(super) type Locked<'a> = [MutexGuard<'a, Stripe>; STRIPES];

impl Stripe {
    /// The counts of a queue.
    pub(super) fn tally(&mut self, queue: QueueId) -> &mut Tally {
        let index = queue.index();
        if index >= self.tallies.len() {
            self.tallies.resize(index + 1, Tally::default());
        }
        &mut self.tallies[index]
    }

    /// Adds up the counts, by queue; `sums` is long enough.
    pub(super) fn count(&self, sums: &mut [QueueCounts]) {
        for (tally, sum) in self.tallies.iter().zip(sums) {
            tally.add_to(sum);
        }
    }
}

impl Stripes {
    /// Locks the stripe of this thread; tells its number.
    pub(super) fn mine(&self) -> (usize, MutexGuard<'_, Stripe>) {
        let number = number();
        (number, self.lock(number))
    }

    /// Locks one stripe.
    pub(super) fn lock(&self, number: usize) -> MutexGuard<'_, Stripe> {
        self.0[number].lock()
    }

    /// Locks every stripe, in order. No other may be held.
    pub(super) fn lock_all(&self) -> Locked<'_> {
        std::array::from_fn(|number| self.lock(number))
    }
}

/// The number of this thread's stripe.
#[cfg(shuttle)]
pub(super) fn number() -> usize {
    usize::from(shuttle::current::me()) % STRIPES
}

/// The number of this thread's stripe.
#[cfg(not(shuttle))]
pub(super) fn number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(THREADS.fetch_add(1, Relaxed) % STRIPES);
        }
        mine.get()
    })
}
