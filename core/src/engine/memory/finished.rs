//! Finished jobs in the order of their ends.
//!
//! Each stripe has a part of its own, behind a lock that is held for a moment only: pushers take slots out of
//! the part with the oldest job, and must not wait for whoever has the stripe. A part has two lines, because
//! succeeded jobs and others may be kept for different times.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::latch::Mutex;
use super::stripe::STRIPES;
use crate::job::State;
use crate::time::Timestamp;

/// Slots of finished jobs.
#[derive(Debug, Default)]
pub(super) struct Finished([CachePadded<Part>; STRIPES]);

#[derive(Debug)]
struct Part {
    /// When the oldest job here ended, for a look without the lock.
    first: AtomicI64,
    lines: Mutex<Lines>,
}

/// Slots of the jobs that ended in one stripe, oldest first.
#[derive(Debug, Default)]
struct Lines {
    succeeded: Line,
    others: Line,
    /// How many have come here that the count of all parts does not have yet.
    uncounted: usize,
    /// How many have come here: puts those in order that ended at the same instant.
    count: u32,
}

/// One of the two lines.
type Line = VecDeque<End>;

/// When a job ended, and its slot.
#[derive(Clone, Copy, Debug)]
struct End {
    at: Timestamp,
    count: u32,
    slot: u32,
}

/// Which of the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Succeeded,
    Other,
}

impl Fate {
    pub(super) fn of(state: State) -> Self {
        match state {
            State::Succeeded => Self::Succeeded,
            _ => Self::Other,
        }
    }
}

impl Default for Part {
    fn default() -> Self {
        Self {
            first: AtomicI64::new(Timestamp::MAX.as_micros()),
            lines: Mutex::default(),
        }
    }
}

impl Finished {
    /// Notes a job that ended. If more than `slack` are to be counted, they are: returns how many.
    #[inline(always)]
    pub(super) fn push(
        &self,
        stripe: usize,
        (fate, end, slot): (Fate, Timestamp, u32),
        slack: usize,
    ) -> usize {
        let part = &self.0[stripe];
        let mut lines = part.lines.lock();
        if lines.push(fate, end, slot) {
            part.publish(&lines);
        }
        lines.uncounted += 1;
        if lines.uncounted > slack {
            return std::mem::take(&mut lines.uncounted);
        }
        0
    }

    /// How many have come that were not counted; they are now.
    pub(super) fn take_uncounted(&self) -> usize {
        let uncounted = |part: &CachePadded<Part>| std::mem::take(&mut part.lines.lock().uncounted);
        self.0.iter().map(uncounted).sum()
    }

    /// Takes up to `most` jobs out, oldest first. A part is left only when another has an older one.
    pub(super) fn take_oldest(&self, most: usize) -> Vec<u32> {
        let mut slots = Vec::with_capacity(most);
        while slots.len() < most {
            let mut heads: Vec<_> = self
                .0
                .iter()
                .map(|part| part.first.load(Relaxed))
                .zip(0..)
                .collect();
            heads.sort_unstable();
            let ((first, number), (other, _)) = (heads[0], heads[1]);
            if first == Timestamp::MAX.as_micros() {
                break;
            }
            self.0[number].take_oldest(most, Timestamp::from_micros(other), &mut slots);
        }
        slots
    }

    /// Takes out jobs of one fate that ended before an instant, until there are `most` slots.
    pub(super) fn take_before(&self, (fate, before): (Fate, Timestamp), most: usize, slots: &mut Vec<u32>) {
        for part in &self.0 {
            let mut lines = part.lines.lock();
            while slots.len() < most
                && let Some(slot) = lines.pop_before(fate, before)
            {
                slots.push(slot);
            }
            part.publish(&lines);
        }
    }
}

impl Part {
    fn publish(&self, lines: &Lines) {
        let first = lines.oldest().map_or(Timestamp::MAX, |(end, _)| end);
        self.first.store(first.as_micros(), Relaxed);
    }

    /// Takes out jobs that ended no later than `other`, and the first in any case.
    fn take_oldest(&self, most: usize, other: Timestamp, slots: &mut Vec<u32>) {
        let mut lines = self.lines.lock();
        let mut first = true;
        while slots.len() < most
            && let Some((end, fate)) = lines.oldest()
            && (first || end <= other)
        {
            slots.extend(lines.pop(fate));
            first = false;
        }
        self.publish(&lines);
    }
}

impl Lines {
    /// True if it is now the oldest of its line.
    fn push(&mut self, fate: Fate, ended: Timestamp, slot: u32) -> bool {
        self.count = self.count.wrapping_add(1);
        let count = self.count;
        let line = self.line(fate);
        line.push_back(End {
            at: ended,
            count,
            slot,
        });
        line.len() == 1
    }

    /// When the oldest job ended, and in which line it is.
    fn oldest(&self) -> Option<(Timestamp, Fate)> {
        if self.others.is_empty() {
            return Some((self.succeeded.front()?.at, Fate::Succeeded));
        }
        let first = |line: &Line, fate| Some((*line.front()?, fate));
        let both = [
            first(&self.succeeded, Fate::Succeeded),
            first(&self.others, Fate::Other),
        ];
        let oldest = both
            .into_iter()
            .flatten()
            .min_by_key(|(end, _)| (end.at, end.count));
        oldest.map(|(end, fate)| (end.at, fate))
    }

    /// Takes the oldest job out of this line.
    fn pop(&mut self, fate: Fate) -> Option<u32> {
        Some(self.line(fate).pop_front()?.slot)
    }

    /// Takes the oldest job out of this line if it ended before an instant.
    fn pop_before(&mut self, fate: Fate, before: Timestamp) -> Option<u32> {
        let line = self.line(fate);
        line.front().is_some_and(|end| end.at < before).then_some(())?;
        Some(line.pop_front()?.slot)
    }

    fn line(&mut self, fate: Fate) -> &mut Line {
        match fate {
            Fate::Succeeded => &mut self.succeeded,
            Fate::Other => &mut self.others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(us)
    }

    #[test]
    fn the_oldest_of_both_lines_comes_first() {
        let finished = Finished::default();
        let ends = [
            (1, State::Failed),
            (2, State::Succeeded),
            (2, State::Failed),
            (2, State::Succeeded),
            (4, State::Expired),
        ];
        for ((end, state), slot) in ends.into_iter().zip(11..) {
            finished.push(3, (Fate::of(state), at(end), slot), usize::MAX);
        }
        let mut slots = Vec::new();
        finished.take_before((Fate::Other, at(1)), 9, &mut slots);
        assert!(slots.is_empty());
        assert_eq!(finished.take_oldest(2), [11, 12]);
        assert_eq!(finished.take_oldest(9), [13, 14, 15]);
        assert!(finished.take_oldest(9).is_empty());
    }

    #[test]
    fn the_oldest_of_all_parts_comes_first() {
        let finished = Finished::default();
        for n in 0..100u32 {
            let part = (n / 7) as usize % STRIPES;
            finished.push(part, (Fate::Succeeded, at(n.into()), n), usize::MAX);
        }
        assert_eq!(finished.take_oldest(50), (0..50).collect::<Vec<_>>());
        let mut slots = Vec::new();
        finished.take_before((Fate::Succeeded, at(60)), 99, &mut slots);
        slots.sort_unstable();
        assert_eq!(slots, (50..60).collect::<Vec<_>>());
        assert_eq!(finished.take_oldest(99).len(), 40);
    }

    #[test]
    fn they_are_counted_by_and_by() {
        let finished = Finished::default();
        let push = |n: u32| finished.push(0, (Fate::Other, at(n.into()), n), 3);
        assert_eq!((0..6).map(push).collect::<Vec<_>>(), [0, 0, 0, 4, 0, 0]);
        assert_eq!((finished.take_uncounted(), finished.take_uncounted()), (2, 0));
    }
}
