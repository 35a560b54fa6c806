//! Jobs by id: tables of slot numbers, each behind a lock of its own.
//!
//! Ids count up in their low bits, so 64 jobs in a row of one pusher are in one table and stand next to each
//! other in it: their entries share cache lines, and two pushers seldom meet. Which table and where is
//! chosen by a hash of the rest of the id with a secret, so that nobody can choose ids that meet.
//!
//! An entry is only a slot. Whether it is the job that was asked for is in the record.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crossbeam_utils::CachePadded;
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

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
    /// Enters a job whose record is written. False, and nothing is changed, if there is one with its id.
    pub(super) fn insert(&self, id: JobId, slot: u32, slab: &Slab) -> bool {
        let hash = self.hash(id);
        let mut table = self.table(hash).lock();
        if table.find(hash, |other| is(slab, *other, id)).is_some() {
            return false;
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
        let mixed = (product >> 64) as u64 ^ product as u64;
        // Neighbours stand side by side and differ in the tag, by which a table tells them apart.
        let tag = (low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mixed) >> 57;
        (mixed & ((1 << 57) - 1)).wrapping_add(low) & ((1 << 57) - 1) | tag << 57
    }

    fn hash_of(&self, slab: &Slab, slot: u32) -> u64 {
        slab.lock(slot).map_or(0, |record| self.hash(record.id()))
    }
}

fn is(slab: &Slab, slot: u32, id: JobId) -> bool {
    slab.lock(slot).is_some_and(|record| record.is(id))
}
