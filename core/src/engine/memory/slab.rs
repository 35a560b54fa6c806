//! The records of one shard, found by slot or by id.
//!
//! Records stand in chunks, so that growing neither copies them nor needs twice the memory. The index by
//! id is a table of chain heads; the links are in the slots, beside the records they lead to, so an entry
//! costs eight bytes. Ids that count up fall into neighbouring buckets (the low six bits are not hashed),
//! the rest of the id is hashed with a secret, so that nobody can choose ids that meet.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

use super::record::Record;
use crate::id::JobId;

/// Records per chunk.
const CHUNK: usize = 256;
const END: u32 = u32::MAX;

/// Records by slot and by id.
#[derive(Debug)]
pub(super) struct Slab {
    chunks: Vec<Vec<Slot>>,
    /// The first free slot.
    free: u32,
    /// Chain heads; their number is a power of two.
    buckets: Vec<u32>,
    len: usize,
    secret: [u64; 2],
}

#[derive(Debug)]
struct Slot {
    record: Option<Record>,
    /// Grows when the record goes, so that old handles are recognised.
    generation: u32,
    /// The next slot of the chain, or the next free one.
    next: u32,
}

impl Default for Slab {
    fn default() -> Self {
        let state = RandomState::new();
        Self {
            chunks: Vec::new(),
            free: END,
            buckets: vec![END; 64],
            len: 0,
            secret: [state.hash_one(1), state.hash_one(2)],
        }
    }
}

impl Slab {
    /// Keeps the record; its id must not be here yet.
    pub(super) fn insert(&mut self, record: Record) -> u32 {
        if self.len == self.buckets.len() {
            self.grow();
        }
        let bucket = self.bucket(record.id);
        let slot = self.take_free();
        self.len += 1;
        let next = std::mem::replace(&mut self.buckets[bucket], slot);
        let place = self.slot_mut(slot);
        (place.record, place.next) = (Some(record), next);
        slot
    }

    /// Gives the record back and frees its slot.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Record> {
        let record = self.slot_mut(slot).record.take()?;
        self.unlink(record.id, slot);
        let free = std::mem::replace(&mut self.free, slot);
        let place = self.slot_mut(slot);
        place.next = free;
        place.generation = place.generation.wrapping_add(1);
        self.len -= 1;
        Some(record)
    }

    /// The slot of the record with this id.
    pub(super) fn find(&self, id: JobId) -> Option<u32> {
        let mut at = self.buckets[self.bucket(id)];
        while at != END {
            let slot = self.slot(at);
            if slot.record.as_ref().is_some_and(|r| r.id == id) {
                return Some(at);
            }
            at = slot.next;
        }
        None
    }

    /// The record in this slot, if there is one.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Record> {
        let slot = slot as usize;
        self.chunks
            .get_mut(slot / CHUNK)?
            .get_mut(slot % CHUNK)?
            .record
            .as_mut()
    }

    /// The record in this slot and the slot's generation, if there is one.
    pub(super) fn get(&self, slot: u32) -> Option<(&Record, u32)> {
        let slot = self
            .chunks
            .get(slot as usize / CHUNK)?
            .get(slot as usize % CHUNK)?;
        Some((slot.record.as_ref()?, slot.generation))
    }

    /// How often this slot has changed its record.
    pub(super) fn generation(&self, slot: u32) -> u32 {
        self.slot(slot).generation
    }

    /// Every record with its slot, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Record)> {
        let slots = (0u32..).zip(self.chunks.iter().flatten());
        slots.filter_map(|(number, slot)| Some((number, slot.record.as_ref()?)))
    }

    fn slot(&self, slot: u32) -> &Slot {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn bucket(&self, id: JobId) -> usize {
        let bits = id.as_u128();
        let block = bits >> 6;
        let (low, high) = (
            block as u64 ^ self.secret[0],
            (block >> 64) as u64 ^ self.secret[1],
        );
        let product = u128::from(low) * u128::from(high);
        let hash = (product >> 64) as u64 ^ product as u64;
        (hash as usize).wrapping_add(bits as usize & 63) & (self.buckets.len() - 1)
    }

    fn take_free(&mut self) -> u32 {
        if self.free != END {
            let slot = self.free;
            self.free = self.slot(slot).next;
            return slot;
        }
        if self.chunks.last().is_none_or(|c| c.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let first = (self.chunks.len() - 1) * CHUNK;
        let chunk = self
            .chunks
            .last_mut()
            .expect("a chunk was just added if there was none");
        chunk.push(Slot {
            record: None,
            // Not 0, so that the handle that nobody was given is never valid.
            generation: 1,
            next: END,
        });
        (first + chunk.len() - 1) as u32
    }

    fn unlink(&mut self, id: JobId, slot: u32) {
        let next = self.slot(slot).next;
        let bucket = self.bucket(id);
        let mut at = self.buckets[bucket];
        if at == slot {
            self.buckets[bucket] = next;
            return;
        }
        while at != END {
            let link = self.slot_mut(at);
            if link.next == slot {
                link.next = next;
                return;
            }
            at = link.next;
        }
    }

    fn grow(&mut self) {
        self.buckets = vec![END; 2 * self.buckets.len()];
        let ids: Vec<_> = self.iter().map(|(slot, record)| (slot, record.id)).collect();
        for (slot, id) in ids {
            let bucket = self.bucket(id);
            let next = std::mem::replace(&mut self.buckets[bucket], slot);
            self.slot_mut(slot).next = next;
        }
    }
}

impl Index<u32> for Slab {
    type Output = Record;

    fn index(&self, slot: u32) -> &Record {
        let record = self.slot(slot).record.as_ref();
        record.expect("a slot taken from the index or a timer holds a record")
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, slot: u32) -> &mut Record {
        let record = self.slot_mut(slot).record.as_mut();
        record.expect("a slot taken from the index or a timer holds a record")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::memory::tests::plain;
    use crate::time::Timestamp;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn record(id: u128) -> Record {
        Record::new(&plain(JobId::from_u128(id)), Timestamp::EPOCH)
    }

    #[test]
    fn a_slot_is_used_again_under_another_generation() {
        let mut slab = Slab::default();
        let slot = slab.insert(record(1));
        let generation = slab.generation(slot);
        assert_eq!(slab.remove(slot).unwrap().id, JobId::from_u128(1));
        assert!(slab.remove(slot).is_none() && slab.get(slot).is_none() && slab.get_mut(99_999).is_none());
        assert_eq!(slab.insert(record(2)), slot);
        assert_ne!(slab.generation(slot), generation);
        assert_eq!(slab.find(JobId::from_u128(1)), None);
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..600u128), 1..2000)) {
            let (mut slab, mut model) = (Slab::default(), HashMap::new());
            for (insert, n) in steps {
                // Two thirds of the ids differ in their high bits only.
                let id = if n % 3 == 0 { n } else { n << 90 };
                match (insert, model.get(&id).copied()) {
                    (true, None) => { model.insert(id, slab.insert(record(id))); }
                    (false, Some(slot)) => { slab.remove(slot); model.remove(&id); }
                    _ => {}
                }
            }
            for n in 0..600u128 {
                for id in [n, n << 90] {
                    prop_assert_eq!(slab.find(JobId::from_u128(id)), model.get(&id).copied());
                }
            }
            prop_assert_eq!(slab.iter().count(), model.len());
        }
    }
}
