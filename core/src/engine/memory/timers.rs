//! Due times of jobs: a binary heap that knows where each job stands in it.
//!
//! Knowing the place makes removal exact, so a timer that is no longer wanted leaves nothing behind. A
//! lease that is answered in time, which is nearly every one, costs a push at the end and a removal.

use crate::time::Timestamp;

const NOWHERE: u32 = u32::MAX;

/// At most one due time per job.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<Timer>,
    /// By slot: where in the heap its timer is.
    places: Vec<u32>,
}

/// When a job is due, and which comes first of two that are due at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Timer {
    pub(super) at: Timestamp,
    pub(super) order: u64,
    pub(super) slot: u32,
}

impl Timers {
    /// The timer that is due first.
    pub(super) fn first(&self) -> Option<&Timer> {
        self.heap.first()
    }

    /// When the first timer is due; never if there is none.
    pub(super) fn next(&self) -> Timestamp {
        self.first().map_or(Timestamp::MAX, |t| t.at)
    }

    /// Sets the timer of `slot`, or takes it away: [`Timestamp::MAX`] is never.
    pub(super) fn set(&mut self, slot: u32, at: Timestamp, order: u64) {
        let timer = Timer { at, order, slot };
        match self.place(slot) {
            None if at < Timestamp::MAX => self.add(timer),
            None => {}
            Some(place) if at < Timestamp::MAX => self.replace(place, timer),
            Some(place) => self.remove(place),
        }
    }

    /// Calls `each` with the slots that are due, in no order, until it returns false.
    pub(super) fn due(&self, now: Timestamp, mut each: impl FnMut(u32) -> bool) {
        // A timer that is not due has none below it that is.
        let mut open = vec![0];
        while let Some(place) = open.pop() {
            match self.heap.get(place) {
                Some(timer) if timer.at <= now => {
                    if !each(timer.slot) {
                        return;
                    }
                    open.extend([2 * place + 2, 2 * place + 1]);
                }
                _ => {}
            }
        }
    }

    fn place(&self, slot: u32) -> Option<usize> {
        let place = *self.places.get(slot as usize)?;
        (place != NOWHERE).then_some(place as usize)
    }

    fn add(&mut self, timer: Timer) {
        let slot = timer.slot as usize;
        if slot >= self.places.len() {
            self.places.resize(slot + 1, NOWHERE);
        }
        self.heap.push(timer);
        self.rise(self.heap.len() - 1);
    }

    fn replace(&mut self, place: usize, timer: Timer) {
        let later = timer > self.heap[place];
        self.heap[place] = timer;
        if later { self.sink(place) } else { self.rise(place) }
    }

    fn remove(&mut self, place: usize) {
        let gone = self.heap.swap_remove(place);
        self.places[gone.slot as usize] = NOWHERE;
        if let Some(moved) = self.heap.get(place) {
            if *moved > gone {
                self.sink(place)
            } else {
                self.rise(place)
            }
        }
    }

    fn rise(&mut self, mut place: usize) {
        let timer = self.heap[place];
        while place > 0 {
            let above = (place - 1) / 2;
            if self.heap[above] <= timer {
                break;
            }
            self.put(place, self.heap[above]);
            place = above;
        }
        self.put(place, timer);
    }

    fn sink(&mut self, mut place: usize) {
        let timer = self.heap[place];
        loop {
            let mut below = 2 * place + 1;
            if below + 1 < self.heap.len() && self.heap[below + 1] < self.heap[below] {
                below += 1;
            }
            if below >= self.heap.len() || self.heap[below] >= timer {
                break;
            }
            self.put(place, self.heap[below]);
            place = below;
        }
        self.put(place, timer);
    }

    fn put(&mut self, place: usize, timer: Timer) {
        self.heap[place] = timer;
        self.places[timer.slot as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(us)
    }

    #[test]
    fn a_timer_is_set_moved_and_taken_away() {
        let mut timers = Timers::default();
        timers.set(3, at(10), 0);
        timers.set(4, at(10), 1);
        timers.set(5, at(5), 2);
        assert_eq!((timers.next(), timers.first().unwrap().slot), (at(5), 5));
        timers.set(5, at(20), 2);
        assert_eq!(
            timers.first().unwrap().slot,
            3,
            "of two due at once, the lower order"
        );
        timers.set(3, Timestamp::MAX, 0);
        timers.set(4, Timestamp::MAX, 0);
        timers.set(4, Timestamp::MAX, 0);
        assert_eq!(timers.next(), at(20));
        timers.set(5, Timestamp::MAX, 0);
        assert_eq!((timers.next(), timers.first()), (Timestamp::MAX, None));
    }

    proptest! {
        #[test]
        fn it_is_a_map_sorted_by_time(steps in prop::collection::vec((0..20u32, 0..30i64), 1..200)) {
            let (mut timers, mut model) = (Timers::default(), BTreeMap::new());
            for (order, (slot, us)) in steps.into_iter().enumerate() {
                if us == 0 {
                    timers.set(slot, Timestamp::MAX, 0);
                    model.remove(&slot);
                } else {
                    timers.set(slot, at(us), order as u64);
                    model.insert(slot, (at(us), order as u64));
                }
                let first = model.iter().map(|(slot, (at, order))| (*at, *order, *slot)).min();
                prop_assert_eq!(timers.first().map(|t| (t.at, t.order, t.slot)), first);
                let mut due = Vec::new();
                timers.due(at(15), |slot| { due.push(slot); true });
                due.sort_unstable();
                let want: Vec<u32> = model.iter().filter(|(_, t)| t.0 <= at(15)).map(|(s, _)| *s).collect();
                prop_assert_eq!(due, want);
            }
        }
    }
}
