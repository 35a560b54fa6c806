//! The finished jobs of one shard in the order of their ends: two lines, because succeeded jobs and others
//! may be kept for different times.

use std::collections::VecDeque;

use crate::job::State;

/// Slots of finished jobs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Finished {
    succeeded: Line,
    others: Line,
}

/// One of the two lines: places in the order of ends, and slots.
type Line = VecDeque<(u64, u32)>;

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
    pub(super) fn push(&mut self, fate: Fate, order: u64, slot: u32) {
        self.line(fate).push_back((order, slot));
    }

    /// The place in the order of ends and the slot of the oldest job in this line.
    pub(super) fn first(&self, fate: Fate) -> Option<(u64, u32)> {
        match fate {
            Fate::Succeeded => self.succeeded.front().copied(),
            Fate::Other => self.others.front().copied(),
        }
    }

    /// The oldest job, and in which line it is.
    pub(super) fn oldest(&self) -> Option<(u64, Fate)> {
        let at = |fate| Some((self.first(fate)?.0, fate));
        let both = [at(Fate::Succeeded), at(Fate::Other)];
        both.into_iter().flatten().min_by_key(|(order, _)| *order)
    }

    /// Takes the oldest job out of this line.
    pub(super) fn pop(&mut self, fate: Fate) -> Option<u32> {
        Some(self.line(fate).pop_front()?.1)
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
        let mut finished = Finished::default();
        assert_eq!(finished.oldest(), None);
        for (order, state) in [
            (1, State::Failed),
            (2, State::Succeeded),
            (3, State::Succeeded),
            (4, State::Expired),
        ] {
            finished.push(Fate::of(state), order, order as u32 + 10);
        }
        let mut slots = Vec::new();
        while let Some((_, fate)) = finished.oldest() {
            slots.extend(finished.pop(fate));
        }
        assert_eq!(slots, [11, 12, 13, 14]);
    }
}
