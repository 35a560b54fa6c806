//! The finished jobs of one stripe in the order of their ends: two lines, because succeeded jobs and others
//! may be kept for different times.

use std::collections::VecDeque;

use crate::job::State;
use crate::time::Timestamp;

/// Slots of finished jobs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Finished {
    succeeded: Line,
    others: Line,
    /// How many have come here that the count of all stripes does not have yet.
    pub(super) uncounted: usize,
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

impl Finished {
    pub(super) fn push(&mut self, fate: Fate, ended: Timestamp, slot: u32) {
        self.count = self.count.wrapping_add(1);
        let count = self.count;
        self.line(fate).push_back(End {
            at: ended,
            count,
            slot,
        });
    }

    /// When the oldest job ended, and in which line it is.
    pub(super) fn oldest(&self) -> Option<(Timestamp, Fate)> {
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
    pub(super) fn pop(&mut self, fate: Fate) -> Option<u32> {
        Some(self.line(fate).pop_front()?.slot)
    }

    /// Takes the oldest job out of this line if it ended before an instant.
    pub(super) fn pop_before(&mut self, fate: Fate, before: Timestamp) -> Option<u32> {
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

    #[test]
    fn the_oldest_of_both_lines_comes_first() {
        let (mut finished, at) = (Finished::default(), Timestamp::from_micros);
        assert_eq!(finished.oldest(), None);
        for (end, state) in [
            (1, State::Failed),
            (2, State::Succeeded),
            (2, State::Failed),
            (2, State::Succeeded),
            (4, State::Expired),
        ] {
            let slot = finished.count + 11;
            finished.push(Fate::of(state), at(end), slot);
        }
        assert_eq!(finished.pop_before(Fate::Other, at(1)), None);
        let mut slots = Vec::new();
        while let Some((_, fate)) = finished.oldest() {
            slots.extend(finished.pop(fate));
        }
        assert_eq!(slots, [11, 12, 13, 14, 15]);
    }
}
