//! Which job holds which idempotency key.
//!
//! A key's lock is taken before any stripe's and never after one. An entry is only a hint: it counts if its
//! job is here and was not cancelled, so removing entries may wait until other locks are gone.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crossbeam_utils::CachePadded;

use super::latch::{Mutex, MutexGuard};
use crate::id::JobId;

const SHARDS: usize = 16;

/// The holders of some keys.
pub(super) type Holders = HashMap<Box<str>, JobId>;

/// The holders of all keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    shards: [CachePadded<Mutex<Holders>>; SHARDS],
    hasher: RandomState,
}

/// The locks of several keys, taken in one order by everybody.
pub(super) struct Held<'a> {
    keys: &'a Keys,
    held: Vec<(usize, MutexGuard<'a, Holders>)>,
}

impl Keys {
    /// Locks the part that holds `key`.
    pub(super) fn lock(&self, key: &str) -> MutexGuard<'_, Holders> {
        self.shards[self.shard(key)].lock()
    }

    /// Locks the parts that hold these keys.
    pub(super) fn lock_many<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Held<'_> {
        let mut shards: Vec<usize> = keys.map(|k| self.shard(k)).collect();
        shards.sort_unstable();
        shards.dedup();
        let held = shards.into_iter().map(|s| (s, self.shards[s].lock())).collect();
        Held { keys: self, held }
    }

    fn shard(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }

    /// How many keys are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }
}

impl Held<'_> {
    /// Who holds `key`.
    pub(super) fn get(&self, key: &str) -> Option<JobId> {
        let shard = self.keys.shard(key);
        let (_, holders) = self.held.iter().find(|(s, _)| *s == shard)?;
        holders.get(key).copied()
    }

    /// Gives `key` to a job.
    pub(super) fn set(&mut self, key: &str, id: JobId) {
        let shard = self.keys.shard(key);
        if let Some((_, holders)) = self.held.iter_mut().find(|(s, _)| *s == shard) {
            holders.insert(key.into(), id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_are_locked_at_once() {
        let keys = Keys::default();
        let names: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let mut held = keys.lock_many(names.iter().map(String::as_str));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(held.get(name), None);
            held.set(name, JobId::from_u128(i as u128));
        }
        assert_eq!(held.get("17"), Some(JobId::from_u128(17)));
        drop(held);
        assert_eq!(keys.lock("18").get("18"), Some(&JobId::from_u128(18)));
        assert_eq!(keys.len(), 100);
    }
}
