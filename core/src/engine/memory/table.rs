//! A table that only grows: reading takes no lock, because an entry that is there stays where it is.

use std::fmt;

use once_cell::race::OnceBox;

/// Up to `OUTER * INNER` entries, made when they are first asked for.
pub(super) struct Table<T, const OUTER: usize, const INNER: usize> {
    blocks: [OnceBox<Block<T, INNER>>; OUTER],
}

type Block<T, const INNER: usize> = [OnceBox<T>; INNER];

impl<T, const OUTER: usize, const INNER: usize> Default for Table<T, OUTER, INNER> {
    fn default() -> Self {
        Self {
            blocks: std::array::from_fn(|_| OnceBox::new()),
        }
    }
}

impl<T, const OUTER: usize, const INNER: usize> Table<T, OUTER, INNER> {
    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.blocks[index / INNER].get()?[index % INNER].get()
    }

    /// The entry, made if there is none. Two threads that find none both make one, and one of the two is dropped.
    #[inline]
    pub(super) fn get_or(&self, index: usize, make: impl FnOnce() -> T) -> &T {
        match self.get(index) {
            Some(entry) => entry,
            None => self.add(index, make),
        }
    }

    #[cold]
    fn add(&self, index: usize, make: impl FnOnce() -> T) -> &T {
        let block =
            self.blocks[index / INNER].get_or_init(|| Box::new(std::array::from_fn(|_| OnceBox::new())));
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
