//! The part of a lane that is not in memory: the rows of jobs that only the store underneath has.
//!
//! Rows are kept as runs, so that a million jobs pushed in a row cost what one does, and jobs that take turns
//! with those of other lanes cost sixteen bytes each.

use std::collections::VecDeque;

/// Rows in the order in which their jobs are to run.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The first row of a run, and how many there are.
    runs: VecDeque<(i64, u32)>,
}

impl Tail {
    /// Adds a row at the end.
    pub(super) fn push(&mut self, row: i64) {
        match self.runs.back_mut() {
            Some((first, count)) if *first + i64::from(*count) == row && *count < u32::MAX => *count += 1,
            _ => self.runs.push_back((row, 1)),
        }
    }

    /// Takes up to `most` rows from the front.
    pub(super) fn take(&mut self, most: usize) -> Vec<i64> {
        let mut rows = Vec::new();
        while rows.len() < most {
            let Some((first, count)) = self.runs.front_mut() else {
                break;
            };
            rows.push(*first);
            (*first, *count) = (*first + 1, *count - 1);
            if *count == 0 {
                self.runs.pop_front();
            }
        }
        rows
    }

    /// Takes one row out, wherever it is; false if it is not here.
    pub(super) fn remove(&mut self, row: i64) -> bool {
        let within = |(first, count): &(i64, u32)| (*first..*first + i64::from(*count)).contains(&row);
        let Some(place) = self.runs.iter().position(within) else {
            return false;
        };
        let Some((first, count)) = self.runs.remove(place) else {
            return false;
        };
        let before = (row - first) as u32;
        let halves = [(row + 1, count - before - 1), (first, before)];
        for half in halves.into_iter().filter(|(_, count)| *count > 0) {
            self.runs.insert(place, half);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_list(steps in prop::collection::vec((0..4u8, 0..60i64), 1..300)) {
            let (mut tail, mut model, mut next) = (Tail::default(), Vec::new(), 0);
            for (step, n) in steps {
                match step {
                    0 => {
                        let rows = tail.take(n as usize);
                        prop_assert_eq!(rows, model.drain(..model.len().min(n as usize)).collect::<Vec<_>>());
                    }
                    1 => {
                        let place = model.iter().position(|row| *row == n);
                        prop_assert_eq!(tail.remove(n), place.is_some());
                        place.map(|place| model.remove(place));
                    }
                    _ => {
                        next += 1 + n / 50;
                        tail.push(next);
                        model.push(next);
                    }
                }
            }
            prop_assert_eq!(tail.take(usize::MAX), model);
        }
    }

    #[test]
    fn rows_in_a_row_cost_nothing() {
        let mut tail = Tail::default();
        (1..=1_000_000).for_each(|row| tail.push(row));
        assert_eq!(tail.runs.len(), 1);
    }
}
