//! The timers of waiting jobs: when scheduled ones may start, and when those with a deadline are overdue.
//!
//! Most jobs have neither, and never come here. The rest are spread over a few parts by slot. A part is
//! locked after the record whose timer is set, and nothing is locked after it.

use super::latch::{Mutex, MutexGuard};
use super::timers::{Timer, Timers};
use crate::time::Timestamp;

const PARTS: u32 = 16;

/// The timers of all waiting jobs.
#[derive(Debug, Default)]
pub(super) struct Agenda([Mutex<Part>; PARTS as usize]);

#[derive(Debug, Default)]
struct Part {
    /// Scheduled jobs by the time they may start.
    starts: Timers,
    /// Waiting jobs by their deadline.
    ends: Timers,
}

impl Agenda {
    /// Sets both timers of a job; [`Timestamp::MAX`] is none.
    pub(super) fn set(&self, slot: u32, start: Timestamp, end: Timestamp, order: u64) {
        let mut part = self.0[(slot % PARTS) as usize].lock();
        part.starts.set(slot / PARTS, start, order);
        part.ends.set(slot / PARTS, end, order);
    }

    /// The scheduled job that may start first: its timer, and its slot.
    pub(super) fn first_start(&self) -> Option<(Timer, u32)> {
        let firsts = self.parts().filter_map(|(number, part)| {
            let timer = *part.starts.first()?;
            Some((timer, timer.slot * PARTS + number))
        });
        firsts.min()
    }

    /// The first deadline.
    pub(super) fn first_end(&self) -> Timestamp {
        let ends = self.parts().map(|(_, part)| part.ends.next());
        ends.min().unwrap_or(Timestamp::MAX)
    }

    /// The slots of jobs whose deadline has passed, at most `limit`.
    pub(super) fn overdue(&self, limit: usize, now: Timestamp) -> Vec<u32> {
        let mut slots = Vec::new();
        for (number, part) in self.parts() {
            part.ends.due(now, |slot| {
                let room = slots.len() < limit;
                if room {
                    slots.push(slot * PARTS + number);
                }
                room
            });
        }
        slots
    }

    fn parts(&self) -> impl Iterator<Item = (u32, MutexGuard<'_, Part>)> {
        (0..).zip(self.0.iter().map(Mutex::lock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_all_parts_comes_first() {
        let (agenda, at) = (Agenda::default(), Timestamp::from_micros);
        for slot in 0..100u32 {
            agenda.set(
                slot,
                at(1000 - i64::from(slot)),
                at(2000 + i64::from(slot)),
                u64::from(slot),
            );
        }
        let (timer, slot) = agenda.first_start().unwrap();
        assert_eq!((timer.at, slot), (at(901), 99));
        assert_eq!(agenda.first_end(), at(2000));
        let mut slots = agenda.overdue(usize::MAX, at(2033));
        slots.sort_unstable();
        assert_eq!(slots, (0..34).collect::<Vec<_>>());
        assert_eq!(agenda.overdue(5, at(2033)).len(), 5);
        (0..100).for_each(|slot| agenda.set(slot, Timestamp::MAX, Timestamp::MAX, 0));
        assert!(agenda.first_start().is_none() && agenda.first_end() == Timestamp::MAX);
    }
}
