//! How many jobs have run: counted by every handler, at a price that is the same for every contender and as
//! small as it can be, because it is paid once per job.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use forebay::Deadline;

/// More threads than ever count in one process, all contenders of all rounds together.
const THREADS: usize = 1024;

/// The number of the next thread that counts for the first time.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A counter with a place for every thread, so that counting is a plain store to a line of its own.
#[derive(Debug, Default)]
pub struct Tally {
    places: Box<[CachePadded<AtomicU64>]>,
}

impl Tally {
    /// A counter at 0 that lives as long as the process: handlers borrow it without counting references.
    pub fn leaked() -> &'static Self {
        let places = (0..THREADS).map(|_| CachePadded::default()).collect();
        Box::leak(Box::new(Self { places }))
    }

    /// One job has run on this thread.
    ///
    /// # Panics
    /// If more threads count than a process of ours ever has.
    #[inline]
    pub fn count(&self) {
        let place = &self.places[thread_number()];
        // No thread but this one writes here.
        place.store(place.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// How many jobs have run.
    pub fn sum(&self) -> u64 {
        let counting = NEXT.load(Ordering::Acquire);
        self.places[..counting]
            .iter()
            .map(|place| place.load(Ordering::Acquire))
            .sum()
    }

    /// Returns once `jobs` have run in all. Looks twenty thousand times a second: often enough not to be seen in
    /// a run of many milliseconds, seldom enough not to take a core from the contenders.
    ///
    /// # Panics
    /// If it takes minutes: then jobs have been lost.
    pub fn wait_for(&self, jobs: u64) {
        let deadline = Deadline::after(Duration::from_secs(200));
        while self.sum() < jobs {
            assert!(!deadline.passed(), "{} of {jobs} jobs have run", self.sum());
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// The number of this thread among those that have counted so far.
#[inline]
fn thread_number() -> usize {
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::AcqRel));
        }
        number.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_of_every_thread_is_counted_once() {
        let tally = Tally::leaked();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| tally.count()));
            }
        });
        tally.wait_for(4000);
        assert_eq!(tally.sum(), 4000);
    }
}
