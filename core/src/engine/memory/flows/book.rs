//! The numbers of the keys, by name.
//!
//! An entry holds 32 bits of the key's hash beside its number: growing the table, with a million keys in it,
//! looks at no key again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;

/// Numbers by name. The names are with the keys themselves.
#[derive(Debug, Default)]
pub(super) struct Book {
    table: HashTable<(u32, u32)>,
}

/// The hash of a name, to be made before a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Print(u32);

impl Print {
    pub(super) fn of(name: &str, secret: &RandomState) -> Self {
        Self(secret.hash_one(name) as u32)
    }
}

impl Book {
    /// The number of the key that `is` the one.
    pub(super) fn find(&self, print: Print, is: impl Fn(u32) -> bool) -> Option<u32> {
        let same = |(p, number): &(u32, u32)| *p == print.0 && is(*number);
        self.table.find(spread(print.0), same).map(|(_, number)| *number)
    }

    /// Enters a key that is not here.
    pub(super) fn add(&mut self, print: Print, number: u32) {
        self.table
            .insert_unique(spread(print.0), (print.0, number), |(print, _)| spread(*print));
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, print: Print, number: u32) {
        let entry = self.table.find_entry(spread(print.0), |(_, n)| *n == number);
        if let Ok(entry) = entry {
            entry.remove();
        }
    }
}

/// Spreads 32 bits over 64: the table takes the place from the low ones and a tag from the top seven.
fn spread(print: u32) -> u64 {
    u64::from(print).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_name_even_if_their_hashes_meet() {
        let (mut book, names) = (Book::default(), ["a", "b", "c"]);
        let print = Print(7);
        (0..3).for_each(|n| book.add(print, n));
        let find = |book: &Book, name| book.find(print, |n| names[n as usize] == name);
        assert_eq!((find(&book, "b"), find(&book, "d")), (Some(1), None));
        book.remove(print, 1);
        assert_eq!((find(&book, "b"), find(&book, "c")), (None, Some(2)));
        let secret = RandomState::new();
        assert_eq!(Print::of("x", &secret), Print::of("x", &secret));
    }
}
