//! How much waits in a queue, jobs and the bytes of their payloads, and whether one more may: exact however many
//! push at once.
//!
//! Pushers count arrivals on one cache line; claimers count departures, each stripe on a line of its own. A
//! pusher compares the arrivals with the departures that were seen last, and looks at the claimers' lines
//! only when those would not do. Departures only grow, so an old count can only refuse too much, and then a
//! fresh one is fetched before anything is refused.
//!
//! Bytes are counted the same way, but only in a queue that ever had a bound for them: until then they cost one
//! look at a line that nobody writes. The first to come with such a bound locks every stripe and
//! [counts](super::MemoryEngine::weigh) what is there, so whoever has a stripe sees the one or the other.

use std::sync::OnceLock;

use crossbeam_utils::CachePadded;

use super::stripe::STRIPES;
use crate::planted::{Bug, planted};
use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What waits in one queue.
#[derive(Debug, Default)]
pub(super) struct Room {
    jobs: Count,
    /// The bytes of the payloads, if anybody bounds them.
    bytes: OnceLock<Box<Count>>,
}

/// The most that may wait; 0 is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Bound {
    pub(super) jobs: usize,
    pub(super) bytes: usize,
}

/// Of what there is too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// So many jobs wait.
    Jobs(usize),
    /// So many bytes wait.
    Bytes(usize),
    /// The same; and others may have been told, in between, that there is no room for a job.
    Raced(usize),
}

impl Room {
    /// Counts a job in, whether there is room or not.
    pub(super) fn enter(&self, weight: usize) {
        self.jobs.enter(1);
        if let Some(bytes) = self.bytes.get() {
            bytes.enter(weight);
        }
    }

    /// Counts a job in if there is room for it; else says how much waits. `stripe` is the caller's.
    pub(super) fn try_enter(&self, bound: Bound, weight: usize, stripe: usize) -> Result<(), Refused> {
        let Some(bytes) = self.bytes.get() else {
            return self.jobs.try_enter(1, bound.jobs).map_err(Refused::Jobs);
        };
        // First only a look: those who wait for bytes try again and again, and must not seem to come and go.
        bytes.look(weight, bound.bytes).map_err(Refused::Bytes)?;
        self.jobs.try_enter(1, bound.jobs).map_err(Refused::Jobs)?;
        bytes.try_enter(weight, bound.bytes).map_err(|waiting| {
            self.jobs.leave(stripe, 1);
            Refused::Raced(waiting)
        })
    }

    /// Counts jobs out, and their bytes: claimed, or ended while they waited. `stripe` is the caller's.
    pub(super) fn leave(&self, stripe: usize, jobs: usize, bytes: usize) {
        self.jobs.leave(stripe, jobs);
        if bytes > 0
            && let Some(count) = self.bytes.get()
        {
            count.leave(stripe, bytes);
        }
    }

    /// Whether bytes are counted. A stripe must be locked for the answer to stay true.
    pub(super) fn weighs(&self) -> bool {
        self.bytes.get().is_some()
    }

    /// Counts bytes from now on, and that so many are there. Every stripe must be locked.
    pub(super) fn weigh(&self, there: usize) {
        self.bytes.get_or_init(|| {
            let count = Count::default();
            count.enter(there);
            Box::new(count)
        });
    }

    /// How many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.there()
    }

    /// How many bytes their payloads have, if that is counted; else 0.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get().map_or(0, |bytes| bytes.there())
    }
}

/// How often a count is looked at that does not stand still.
const LOOKS: usize = 16;

/// What has come and what has gone.
#[derive(Debug, Default)]
struct Count {
    arrivals: CachePadded<Arrivals>,
    departures: [CachePadded<AtomicU64>; STRIPES],
}

#[derive(Debug, Default)]
struct Arrivals {
    count: AtomicU64,
    /// The departures as a pusher last saw them.
    seen: AtomicU64,
}

impl Count {
    fn enter(&self, amount: usize) {
        self.arrivals.count.fetch_add(amount as u64, SeqCst);
    }

    /// Counts this much in if no more than `bound` is there then (0 is no bound); else says how much is there.
    fn try_enter(&self, amount: usize, bound: usize) -> Result<(), usize> {
        if bound == 0 {
            self.enter(amount);
            return Ok(());
        }
        let add = |more: &dyn Fn(u64) -> Option<u64>| {
            if planted(Bug::RoomTakenTwice) {
                let come = self.arrivals.count.load(SeqCst);
                let added = more(come).ok_or(come);
                std::thread::yield_now();
                return added.map(|_| {
                    self.arrivals.count.fetch_add(amount as u64, SeqCst);
                });
            }
            let added = self.arrivals.count.fetch_update(SeqCst, SeqCst, more);
            added.map(drop)
        };
        self.bounded(amount, bound, add)
    }

    /// Whether there is room for this much, without taking it; else says how much is there.
    fn look(&self, amount: usize, bound: usize) -> Result<(), usize> {
        if bound == 0 {
            return Ok(());
        }
        let look = |more: &dyn Fn(u64) -> Option<u64>| {
            let come = self.arrivals.count.load(SeqCst);
            more(come).map(drop).ok_or(come)
        };
        self.bounded(amount, bound, look)
    }

    /// Asks until there is room, or until nothing has gone between two looks.
    #[inline]
    fn bounded(
        &self,
        amount: usize,
        bound: usize,
        ask: impl Fn(&dyn Fn(u64) -> Option<u64>) -> Result<(), u64>,
    ) -> Result<(), usize> {
        let (amount, bound) = (amount as u64, bound as u64);
        let mut gone = self.arrivals.seen.load(SeqCst);
        loop {
            let more = |come: u64| {
                let there = come.saturating_sub(gone);
                (there.saturating_add(amount) <= bound).then(|| come + amount)
            };
            let Err(come) = ask(&more) else {
                return Ok(());
            };
            let fresh = self.gone();
            if fresh == gone {
                return Err((come - gone) as usize);
            }
            self.arrivals.seen.fetch_max(fresh, SeqCst);
            gone = fresh;
        }
    }

    fn leave(&self, stripe: usize, amount: usize) {
        self.departures[stripe].fetch_add(amount as u64, SeqCst);
    }

    /// How much is there, as of one instant: what comes and goes between two looks would count as more. Where they
    /// never cease to, it is what is left of what had come.
    fn there(&self) -> usize {
        let mut gone = self.gone();
        let mut come = 0;
        for _ in 0..LOOKS {
            come = self.arrivals.count.load(SeqCst);
            let fresh = self.gone();
            if fresh == gone {
                break;
            }
            gone = fresh;
        }
        come.saturating_sub(gone) as usize
    }

    fn gone(&self) -> u64 {
        self.departures.iter().map(|d| d.load(SeqCst)).sum()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn jobs(jobs: usize) -> Bound {
        Bound { jobs, bytes: 0 }
    }

    #[test]
    fn room_is_counted() {
        let room = Room::default();
        let enter = |bound| room.try_enter(jobs(bound), 9, 0);
        assert_eq!(enter(2), Ok(()));
        assert_eq!(enter(2), Ok(()));
        assert_eq!(enter(2), Err(Refused::Jobs(2)));
        room.enter(7);
        assert_eq!(
            enter(2),
            Err(Refused::Jobs(3)),
            "those who come back are not refused"
        );
        room.leave(3, 2, 7);
        assert_eq!((room.waiting(), enter(2)), (1, Ok(())));
        assert_eq!(enter(0), Ok(()));
        assert_eq!((room.waiting(), room.bytes(), room.weighs()), (3, 0, false));
    }

    #[test]
    fn bytes_are_counted_from_the_moment_they_are_bounded() {
        let room = Room::default();
        room.enter(5);
        room.weigh(5);
        room.weigh(99);
        let enter = |jobs, bytes, weight| room.try_enter(Bound { jobs, bytes }, weight, 1);
        assert_eq!(enter(0, 10, 6), Err(Refused::Bytes(5)), "not one byte over");
        assert_eq!(enter(0, 10, 5), Ok(()));
        assert_eq!(enter(0, 10, 0), Ok(()), "nothing is always room for");
        assert_eq!(enter(0, 10, 1), Err(Refused::Bytes(10)));
        assert_eq!(
            (room.waiting(), room.bytes()),
            (3, 10),
            "who is refused takes no room"
        );
        assert_eq!(enter(3, 10, 0), Err(Refused::Jobs(3)), "jobs are bounded as well");
        assert_eq!(
            enter(3, 10, 1),
            Err(Refused::Bytes(10)),
            "bytes are looked at first"
        );
        assert_eq!(
            enter(0, 4, usize::MAX),
            Err(Refused::Bytes(10)),
            "longer than any bound"
        );
        room.enter(100);
        room.leave(0, 2, 105);
        assert_eq!((room.waiting(), room.bytes()), (2, 5));
    }

    proptest! {
        /// Any order of comings and goings, against two plain numbers.
        #[test]
        fn it_is_two_numbers(steps in prop::collection::vec((0..4u8, 0..9usize, 0..STRIPES), 1..200)) {
            let (room, bound) = (Room::default(), Bound { jobs: 6, bytes: 20 });
            let (mut inside, mut weighs) = (Vec::new(), false);
            for (step, weight, stripe) in steps {
                let bytes: usize = inside.iter().sum();
                match step {
                    0 => {
                        let want = match () {
                            () if weighs && bytes + weight > bound.bytes => Err(Refused::Bytes(bytes)),
                            () if inside.len() >= bound.jobs => Err(Refused::Jobs(inside.len())),
                            () => Ok(()),
                        };
                        prop_assert_eq!(room.try_enter(bound, weight, stripe), want);
                        if want.is_ok() {
                            inside.push(weight);
                        }
                    }
                    1 => {
                        room.enter(weight);
                        inside.push(weight);
                    }
                    2 if weight == 0 => {
                        room.weigh(bytes);
                        weighs = true;
                    }
                    _ => if let Some(weight) = inside.pop() {
                        room.leave(stripe, 1, weight);
                    }
                }
                let bytes: usize = inside.iter().sum();
                prop_assert_eq!(room.waiting(), inside.len());
                prop_assert_eq!(room.bytes(), if weighs { bytes } else { 0 });
            }
        }
    }

    #[test]
    fn the_bounds_hold_while_many_come_and_go() {
        const BOUND: Bound = Bound { jobs: 5, bytes: 40 };
        let (room, inside) = (
            Room::default(),
            [const { std::sync::atomic::AtomicUsize::new(0) }; 2],
        );
        room.weigh(0);
        let [in_jobs, in_bytes] = &inside;
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let room = &room;
                scope.spawn(move || {
                    for n in 0..5_000 {
                        let weight = (n * 7 + thread) % 23;
                        if room.try_enter(BOUND, weight, thread).is_ok() {
                            assert!(in_jobs.fetch_add(1, SeqCst) < BOUND.jobs);
                            assert!(in_bytes.fetch_add(weight, SeqCst) + weight <= BOUND.bytes);
                            in_bytes.fetch_sub(weight, SeqCst);
                            in_jobs.fetch_sub(1, SeqCst);
                            room.leave(thread, 1, weight);
                        }
                    }
                });
            }
        });
        assert_eq!((room.waiting(), room.bytes()), (0, 0));
    }
}
