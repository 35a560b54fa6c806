//! Jobs by id: tables of slot numbers, each behind a lock of its own.
//!
//! Ids count up in their low bits, so 64 jobs in a row of one pusher are in one table and stand in it by eights:
//! their entries share cache lines, and two pushers seldom meet. Which table and where is chosen by a hash of the
//! rest of the id with a secret, so that nobody can choose ids that meet.
//!
//! An entry is only a slot. Whether it is the job that was asked for is in the record.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crossbeam_utils::CachePadded;
use hashbrown::HashTable;

use super::latch::{Mutex, MutexGuard};
use super::record::Record;
use super::slab::Slab;
use crate::id::JobId;

/// How many tables there are; a power of two.
const TABLES: usize = 64;
/// The low bits of an id that only say which of its neighbours it is.
const RUN: u32 = 6;

/// Slots by id.
#[derive(Debug)]
pub(super) struct Index {
    tables: Box<[CachePadded<Mutex<HashTable<u32>>>]>,
    secret: [u64; 2],
}

impl Default for Index {
    fn default() -> Self {
        let state = RandomState::new();
        Self {
            tables: (0..TABLES).map(|_| CachePadded::default()).collect(),
            secret: [state.hash_one(1) | 1, state.hash_one(2) | 1],
        }
    }
}

impl Index {
    /// Enters a job whose record is written. False, and nothing is changed, if there is one with its id; a
    /// fresh id is not looked for.
    #[inline(always)]
    pub(super) fn insert(&self, (id, fresh): (JobId, bool), slot: u32, slab: &Slab) -> bool {
        let hash = self.hash(id);
        let mut table = self.table(hash).lock();
        if !fresh && table.find(hash, |other| is(slab, *other, id)).is_some() {
            return false;
        }
        if table.len() == table.capacity() {
            fetch_all(&table, slab);
        }
        table.insert_unique(hash, slot, |other| self.hash_of(slab, *other));
        true
    }

    /// Takes out the job that was in this slot. No record may be locked.
    pub(super) fn remove(&self, id: JobId, slot: u32) {
        let hash = self.hash(id);
        if let Ok(entry) = self.table(hash).lock().find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
    }

    /// The slot and the record, locked, of the job with this id. No record may be locked.
    pub(super) fn find<'s>(&self, id: JobId, slab: &'s Slab) -> Option<(u32, MutexGuard<'s, Record>)> {
        let hash = self.hash(id);
        let table = self.table(hash).lock();
        let slot = *table.find(hash, |other| is(slab, *other, id))?;
        // Forgetting a job locks its record first, and then this table, but never both at once: between
        // the two looks the job may have gone.
        let record = slab.lock(slot).filter(|record| record.is(id))?;
        Some((slot, record))
    }

    /// Whether there is a job with this id. No record may be locked.
    pub(super) fn has(&self, id: JobId, slab: &Slab) -> bool {
        self.find(id, slab).is_some()
    }

    fn table(&self, hash: u64) -> &Mutex<HashTable<u32>> {
        &self.tables[(hash >> 48) as usize % TABLES]
    }

    /// The table by bits 48 and up, the tag by the top seven, the place by the low ones.
    fn hash(&self, id: JobId) -> u64 {
        let bits = id.as_u128();
        let low = bits as u64 & ((1 << RUN) - 1);
        let block = bits >> RUN;
        let high = (block >> 64) as u64 ^ self.secret[1];
        let product = u128::from(block as u64 ^ self.secret[0]) * u128::from(high.rotate_left(29) | 1);
        let mixed = scramble((product >> 64) as u64 ^ product as u64);
        // Neighbours stand side by side, so none of them may have the tag of another: a tag that is the same
        // makes the table look into the record.
        let tag = (mixed >> 50 ^ low) & 0x7f;
        // Full stretches of a table fill up with marks of entries that are gone, and have to be cleaned all the time.
        let (together, apart) = (low & 7, (low >> 3).wrapping_mul(GOLDEN) >> 16);
        let place = mixed.wrapping_add(apart).wrapping_add(together) & ((1 << 48) - 1);
        place | mixed & (0x1ff << 48) | tag << 57
    }

    fn hash_of(&self, slab: &Slab, slot: u32) -> u64 {
        slab.lock(slot).map_or(0, |record| self.hash(record.id()))
    }
}

/// 2^64 divided by the golden ratio: an odd number without structure.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads what differs over all bits (the steps of MurmurHash3's finalizer).
fn scramble(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 32).wrapping_mul(GOLDEN);
    bits ^ bits >> 29
}

/// Says that the records of all entries will be looked into: those of a table that grows are, one after the other and
/// each behind its lock, so that without this it would wait for each of them anew.
#[cold]
fn fetch_all(table: &HashTable<u32>, slab: &Slab) {
    table.iter().for_each(|slot| slab.prefetch(*slot));
}

fn is(slab: &Slab, slot: u32, id: JobId) -> bool {
    slab.lock(slot).is_some_and(|record| record.is(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::memory::slab::Free;
    use crate::engine::memory::tests::plain;
    use crate::time::Timestamp;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// An index, and the records it leads to.
    #[derive(Default)]
    struct Rig {
        index: Index,
        slab: Slab,
        free: Free,
    }

    impl Rig {
        fn insert(&mut self, n: u128) -> bool {
            let (id, slot) = (JobId::from_u128(n), self.slab.take(&mut self.free).unwrap());
            self.slab.lock(slot).unwrap().fill(&plain(id), Timestamp::EPOCH);
            let new = self.index.insert((id, false), slot, &self.slab);
            if !new {
                self.slab.lock(slot).unwrap().vacate();
                self.slab.give(slot, &mut self.free);
            }
            new
        }

        fn remove(&mut self, n: u128) {
            let slot = self.slot(n).unwrap();
            self.slab.lock(slot).unwrap().vacate();
            self.index.remove(JobId::from_u128(n), slot);
            self.slab.give(slot, &mut self.free);
        }

        fn slot(&self, n: u128) -> Option<u32> {
            Some(self.index.find(JobId::from_u128(n), &self.slab)?.0)
        }

        fn entries(&self) -> usize {
            self.index.tables.iter().map(|t| t.lock().len()).sum()
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..600u128), 1..2000)) {
            let (mut rig, mut model) = (Rig::default(), HashMap::new());
            for (insert, n) in steps {
                // Two thirds of the ids differ in their high bits only.
                let id = if n % 3 == 0 { n } else { n << 90 };
                if insert {
                    prop_assert_eq!(rig.insert(id), !model.contains_key(&id));
                    model.insert(id, rig.slot(id).unwrap());
                } else if model.remove(&id).is_some() {
                    rig.remove(id);
                }
            }
            for n in 0..600u128 {
                for id in [n, n << 90] {
                    prop_assert_eq!(rig.slot(id), model.get(&id).copied());
                }
            }
            prop_assert_eq!(rig.entries(), model.len());
        }
    }

    #[test]
    fn an_entry_whose_job_has_just_gone_is_nobody() {
        let mut rig = Rig::default();
        assert!(rig.insert(7));
        let slot = rig.slot(7).unwrap();
        rig.slab.lock(slot).unwrap().vacate();
        assert_eq!(
            rig.slot(7),
            None,
            "the record says so before the entry is taken out"
        );
        assert!(rig.insert(7), "and another job may have the id");
        rig.index.remove(JobId::from_u128(7), slot);
        assert!(rig.slot(7).is_some_and(|other| other != slot) && rig.entries() == 1);
    }

    #[test]
    fn jobs_in_a_row_have_tags_of_their_own() {
        let rig = Rig::default();
        for run in 0..100u128 {
            let tags = (0..64).map(|n| rig.index.hash(JobId::from_u128(run << 6 | n)) >> 57);
            assert_eq!(tags.collect::<std::collections::BTreeSet<_>>().len(), 64);
        }
    }

    #[test]
    fn jobs_in_a_row_share_a_table() {
        let rig = Rig::default();
        let table = |n: u128| rig.index.hash(JobId::from_u128(n)) >> 48 & (TABLES as u64 - 1);
        let same = (0..6400u128).filter(|n| table(*n) == table(n & !63)).count();
        assert!(same > 6000, "{same}");
        let used: std::collections::BTreeSet<_> = (0..6400u128).map(table).collect();
        assert!(used.len() > TABLES / 2, "{}", used.len());
    }
}
