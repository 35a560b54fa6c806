//! Lists through the values of a [`Pool`]: joining at the end, leaving from anywhere, and no allocation.

use super::pool::{NIL, Pool};

/// The neighbours of one value in its list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: u32,
    after: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            before: NIL,
            after: NIL,
        }
    }
}

/// A value that can be in one list.
pub(super) trait Linked {
    fn links(&self) -> Links;
    fn links_mut(&mut self) -> &mut Links;
}

/// A list: who is first and who is last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    last: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            first: NIL,
            last: NIL,
        }
    }
}

impl Chain {
    pub(super) fn is_empty(self) -> bool {
        self.first == NIL
    }

    /// The first of all, if there is one.
    pub(super) fn first(self) -> Option<u32> {
        (self.first != NIL).then_some(self.first)
    }

    /// Adds a value at the end.
    pub(super) fn push<T: Linked>(&mut self, pool: &mut Pool<T>, number: u32) {
        *pool[number].links_mut() = Links {
            before: self.last,
            after: NIL,
        };
        match self.last {
            NIL => self.first = number,
            last => pool[last].links_mut().after = number,
        }
        self.last = number;
    }

    /// Adds a value before one that is in the list.
    pub(super) fn insert<T: Linked>(&mut self, pool: &mut Pool<T>, number: u32, after: u32) {
        let before = pool[after].links().before;
        *pool[number].links_mut() = Links { before, after };
        pool[after].links_mut().before = number;
        match before {
            NIL => self.first = number,
            before => pool[before].links_mut().after = number,
        }
    }

    /// Takes a value out that is in the list.
    pub(super) fn remove<T: Linked>(&mut self, pool: &mut Pool<T>, number: u32) {
        let Links { before, after } = pool[number].links();
        match before {
            NIL => self.first = after,
            before => pool[before].links_mut().after = after,
        }
        match after {
            NIL => self.last = before,
            after => pool[after].links_mut().before = before,
        }
    }
}

/// The value that comes after this one, if there is one.
pub(super) fn next<T: Linked>(pool: &Pool<T>, number: u32) -> Option<u32> {
    let after = pool[number].links().after;
    (after != NIL).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Bead(Links);

    impl Linked for Bead {
        fn links(&self) -> Links {
            self.0
        }
        fn links_mut(&mut self) -> &mut Links {
            &mut self.0
        }
    }

    proptest! {
        #[test]
        fn it_is_a_list(steps in prop::collection::vec(0..8usize, 1..200)) {
            let (mut pool, mut chain, mut model) = (Pool::<Bead>::default(), Chain::default(), Vec::new());
            for step in steps {
                if step < 5 || model.is_empty() {
                    let number = pool.add(Bead::default());
                    let place = step * model.len() / 4;
                    match model.get(place) {
                        Some(after) => chain.insert(&mut pool, number, *after),
                        None => chain.push(&mut pool, number),
                    }
                    model.insert(place.min(model.len()), number);
                } else {
                    let number = model.remove(step * 7 % model.len());
                    chain.remove(&mut pool, number);
                    pool.remove(number);
                }
                let seen: Vec<u32> = std::iter::successors(chain.first(), |n| next(&pool, *n)).collect();
                prop_assert_eq!(&seen, &model);
                prop_assert_eq!(chain.is_empty(), model.is_empty());
            }
        }
    }
}
