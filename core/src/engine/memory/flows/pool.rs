//! Values by number, in chunks: growing copies none, and a number that is free is given again.

use std::ops::{Index, IndexMut};

const BITS: u32 = 10;
const CHUNK: usize = 1 << BITS;

/// The number of nobody.
pub(super) const NIL: u32 = u32::MAX;

/// Values by number.
#[derive(Debug)]
pub(super) struct Pool<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Pool<T> {
    /// Keeps a value; returns its number.
    pub(super) fn add(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = value;
            return number;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            // The first chunk grows as it must, because most queues have few flows.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let chunks = self.chunks.len() - 1;
        let last = &mut self.chunks[chunks];
        last.push(value);
        (chunks * CHUNK + last.len() - 1) as u32
    }

    /// The number is free; the value stays until the number is given again.
    pub(super) fn remove(&mut self, number: u32) {
        self.free.push(number);
    }

    /// How many numbers have been given, those included that are free.
    pub(super) fn end(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        (full + self.chunks.last().map_or(0, Vec::len)) as u32
    }

    /// How many values there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.end() as usize - self.free.len()
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.chunks[(number >> BITS) as usize][number as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[(number >> BITS) as usize][number as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_again() {
        let mut pool = Pool::default();
        let numbers: Vec<u32> = (0..3000).map(|n| pool.add(n)).collect();
        assert!(numbers.iter().all(|n| pool[*n] == *n) && pool.len() == 3000);
        pool.remove(17);
        pool.remove(2048);
        assert_eq!((pool.add(5), pool.add(6)), (2048, 17));
        assert_eq!((pool[2048], pool[17], pool.len(), pool.end()), (5, 6, 3000, 3000));
    }
}
