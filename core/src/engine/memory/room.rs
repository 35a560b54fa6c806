//! How many jobs wait in a queue, and whether one more may: exact however many push at once.
//!
//! Pushers count arrivals on one cache line; claimers count departures, each stripe on a line of its own. A
//! pusher compares the arrivals with the departures that were seen last, and looks at the claimers' lines
//! only when those would not do. Departures only grow, so an old count can only refuse too much, and then a
//! fresh one is fetched before anything is refused.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crossbeam_utils::CachePadded;

use super::stripe::STRIPES;

/// The jobs that wait in one queue.
#[derive(Debug, Default)]
pub(super) struct Room {
    arrivals: CachePadded<Arrivals>,
    departures: [CachePadded<AtomicU64>; STRIPES],
}

#[derive(Debug, Default)]
struct Arrivals {
    count: AtomicU64,
    /// The departures as a pusher last saw them.
    seen: AtomicU64,
}

impl Room {
    /// Counts a job in, whether there is room or not.
    pub(super) fn enter(&self) {
        self.arrivals.count.fetch_add(1, SeqCst);
    }

    /// Counts a job in if fewer than `capacity` wait (0 is no bound); else says how many wait.
    pub(super) fn try_enter(&self, capacity: usize) -> Result<(), usize> {
        if capacity == 0 {
            self.enter();
            return Ok(());
        }
        let capacity = capacity as u64;
        let mut gone = self.arrivals.seen.load(SeqCst);
        loop {
            let one_more = |here: u64| (here.saturating_sub(gone) < capacity).then_some(here + 1);
            let Err(here) = self.arrivals.count.fetch_update(SeqCst, SeqCst, one_more) else {
                return Ok(());
            };
            let fresh = self.gone();
            if fresh == gone {
                return Err((here - gone) as usize);
            }
            self.arrivals.seen.fetch_max(fresh, SeqCst);
            gone = fresh;
        }
    }

    /// Counts jobs out: claimed, or ended while they waited. `stripe` is the caller's.
    pub(super) fn leave(&self, stripe: usize, jobs: usize) {
        self.departures[stripe].fetch_add(jobs as u64, SeqCst);
    }

    /// How many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        let gone = self.gone();
        self.arrivals.count.load(SeqCst).saturating_sub(gone) as usize
    }

    fn gone(&self) -> u64 {
        self.departures.iter().map(|d| d.load(SeqCst)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted() {
        let room = Room::default();
        assert_eq!(room.try_enter(2), Ok(()));
        assert_eq!(room.try_enter(2), Ok(()));
        assert_eq!(room.try_enter(2), Err(2));
        room.enter();
        assert_eq!(room.try_enter(2), Err(3), "those who come back are not refused");
        room.leave(3, 2);
        assert_eq!((room.waiting(), room.try_enter(2)), (1, Ok(())));
        assert_eq!(room.try_enter(0), Ok(()));
        assert_eq!(room.waiting(), 3);
    }

    #[test]
    fn the_bound_holds_while_many_come_and_go() {
        const CAPACITY: usize = 5;
        let (room, inside) = (&Room::default(), &std::sync::atomic::AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        if room.try_enter(CAPACITY).is_ok() {
                            assert!(inside.fetch_add(1, SeqCst) < CAPACITY);
                            inside.fetch_sub(1, SeqCst);
                            room.leave(thread, 1);
                        }
                    }
                });
            }
        });
        assert_eq!(room.waiting(), 0);
    }
}
