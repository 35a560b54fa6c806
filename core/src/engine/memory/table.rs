//! A table that only grows: reading takes no lock, because an entry that is there stays where it is.

use std::fmt;
use std::sync::OnceLock;

/// Up to `OUTER * INNER` entries, made when they are first asked for.
pub(super) struct Table<T, const OUTER: usize, const INNER: usize> {
    blocks: [OnceLock<Box<Block<T, INNER>>>; OUTER],
}

type Block<T, const INNER: usize> = [OnceLock<Box<T>>; INNER];

impl<T, const OUTER: usize, const INNER: usize> Default for Table<T, OUTER, INNER> {
    fn default() -> Self {
        Self {
            blocks: std::array::from_fn(|_| OnceLock::new()),
        }
    }
}

impl<T, const OUTER: usize, const INNER: usize> Table<T, OUTER, INNER> {
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        Some(self.blocks[index / INNER].get()?[index % INNER].get()?)
    }

    pub(super) fn get_or(&self, index: usize, make: impl FnOnce() -> T) -> &T {
        let block =
            self.blocks[index / INNER].get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        block[index % INNER].get_or_init(|| Box::new(make()))
    }
}

impl<T, const OUTER: usize, const INNER: usize> fmt::Debug for Table<T, OUTER, INNER> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table of {}", OUTER * INNER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_made_once() {
        let table = Table::<usize, 4, 4>::default();
        assert_eq!(table.get(15), None);
        assert_eq!(*table.get_or(15, || 7), 7);
        assert_eq!(*table.get_or(15, || 8), 7);
        assert_eq!((table.get(15), table.get(14)), (Some(&7), None));
    }
}
