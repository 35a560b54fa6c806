//! The names of those who claim, as numbers.
//!
//! A record notes who runs it. A shared name would cost two writes per job to one counter that every
//! claimer uses; a number costs none. Names are not forgotten: a process has few dispatchers.

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

/// The names of nodes in the order they came.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Mostly there is only this one, and it is found without a lock.
    first: OnceLock<Arc<str>>,
    others: RwLock<Vec<Arc<str>>>,
}

impl Nodes {
    /// The number of this node.
    pub(super) fn number(&self, node: &Arc<str>) -> u16 {
        let first = self.first.get_or_init(|| node.clone());
        if Arc::ptr_eq(first, node) || first == node {
            return 0;
        }
        let at = |names: &[Arc<str>]| names.iter().position(|n| n == node);
        let known = at(&self.others.read());
        let place = known.unwrap_or_else(|| {
            let mut others = self.others.write();
            at(&others).unwrap_or_else(|| {
                others.push(node.clone());
                others.len() - 1
            })
        });
        u16::try_from(place + 1).unwrap_or(u16::MAX)
    }

    /// The name with this number.
    pub(super) fn name(&self, number: u16) -> Arc<str> {
        let name = match number.checked_sub(1) {
            None => self.first.get().cloned(),
            Some(place) => self.others.read().get(usize::from(place)).cloned(),
        };
        name.unwrap_or_else(|| Arc::from(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_keep_their_numbers() {
        let nodes = Nodes::default();
        assert_eq!(&*nodes.name(0), "", "nobody has claimed yet");
        let names: Vec<Arc<str>> = ["a", "b", "c", "a", "c"].map(Arc::from).into();
        let numbers: Vec<u16> = names.iter().map(|n| nodes.number(n)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 2]);
        assert!(names.iter().zip(numbers).all(|(n, i)| nodes.name(i) == *n));
    }
}
