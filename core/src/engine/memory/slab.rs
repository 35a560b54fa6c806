//! The records, found by slot.
//!
//! Every record has a lock of its own. It is one byte in the record's own cache line, so taking it costs
//! nothing that touching the record would not: a push, a claim and a finish of different jobs never meet.
//! Records stand in chunks, so that growing copies none and a slot's place is known without a lock.
//!
//! Free slots are handed round in [magazines](MAGAZINE): each [stripe](super::stripe) keeps some for itself,
//! and the list that all share is touched once per magazine.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::latch::{Mutex, MutexGuard};
use super::place::Ticket;
use super::record::Record;
use super::table::Table;
use crate::prefetch::prefetch;

/// Records per chunk.
pub(super) const CHUNK: usize = 256;
/// How many chunks there can be, in two steps: 2^28 jobs.
pub(super) const WIDTH: usize = 1024;
/// How many free slots change hands at once.
pub(super) const MAGAZINE: usize = 64;
/// How many pushes before its own a slot is fetched.
const AHEAD: usize = 2;

type Chunk = [Mutex<Record>; CHUNK];

/// Records by slot.
#[derive(Debug, Default)]
pub(super) struct Slab {
    chunks: Table<Chunk, WIDTH, WIDTH>,
    shared: CachePadded<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The first slot that was never used.
    fresh: AtomicU32,
    /// Free slots that no stripe keeps.
    spare: Mutex<Vec<u32>>,
}

/// The free slots that one stripe keeps.
#[derive(Debug, Default)]
pub(super) struct Free(Vec<u32>);

impl Free {
    /// Whether the next push must look for a slot elsewhere.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Slab {
    /// The most jobs there can be.
    pub(super) const MOST: usize = CHUNK * WIDTH * WIDTH;

    /// A free slot: nobody else has it until it is [given](Slab::give) back. `None` if there are as many
    /// jobs as there can be.
    pub(super) fn take(&self, free: &mut Free) -> Option<u32> {
        if free.0.is_empty() {
            self.load(free);
        }
        let slot = free.0.pop();
        if let Some(soon) = free.0.len().checked_sub(AHEAD) {
            self.prefetch(free.0[soon]);
        }
        slot
    }

    /// Says whose records, and whose payload, a claimer will need before long. By the time the payload is asked
    /// for, the record that leads to it has come.
    pub(super) fn fetch(&self, soon: Option<Ticket>, later: Option<Ticket>) {
        if let Some(ticket) = later {
            self.prefetch(ticket.slot());
        }
        let record = soon.and_then(|ticket| self.at(ticket.slot())?.try_lock());
        if let Some(record) = record {
            record.fetch_payload();
        }
    }

    /// Says that the record in this slot is about to be written.
    pub(super) fn prefetch(&self, slot: u32) {
        if let Some(record) = self.at(slot) {
            prefetch(record);
        }
    }

    /// Takes a slot back.
    pub(super) fn give(&self, slot: u32, free: &mut Free) {
        free.0.push(slot);
        if free.0.len() >= 2 * MAGAZINE {
            let keep = free.0.len() - MAGAZINE;
            self.shared.spare.lock().extend(free.0.drain(keep..));
        }
    }

    /// The record in this slot, locked; `None` if there never was one.
    pub(super) fn lock(&self, slot: u32) -> Option<MutexGuard<'_, Record>> {
        Some(self.at(slot)?.lock())
    }

    fn at(&self, slot: u32) -> Option<&Mutex<Record>> {
        let slot = slot as usize;
        Some(&self.chunks.get(slot / CHUNK)?[slot % CHUNK])
    }

    /// Every slot that was ever used.
    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        0..self.shared.fresh.load(Relaxed).min(Self::MOST as u32)
    }

    #[cold]
    fn load(&self, free: &mut Free) {
        let mut spare = self.shared.spare.lock();
        let keep = spare.len().saturating_sub(MAGAZINE);
        free.0.extend(spare.drain(keep..));
        drop(spare);
        if free.0.is_empty() {
            self.grow(free);
        }
    }

    fn grow(&self, free: &mut Free) {
        let more = |first| (first < Self::MOST as u32).then_some(first + MAGAZINE as u32);
        let Ok(first) = self.shared.fresh.fetch_update(Relaxed, Relaxed, more) else {
            return;
        };
        // A magazine never spans two chunks.
        self.chunks.get_or(first as usize / CHUNK, || {
            std::array::from_fn(|_| Mutex::default())
        });
        // The even ones are taken first: neighbours share a cache line, and of two jobs pushed one after the
        // other one may still be written while the other already runs.
        let all = first..first + MAGAZINE as u32;
        free.0.extend(all.clone().skip(1).step_by(2).rev());
        free.0.extend(all.step_by(2).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn slots_are_used_again_and_never_twice_at_once() {
        let (slab, mut mine, mut theirs) = (Slab::default(), Free::default(), Free::default());
        let taken: Vec<u32> = (0..1000).map(|_| slab.take(&mut mine).unwrap()).collect();
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 1000);
        assert!(slab.lock(999).is_some() && slab.lock(10_000).is_none());
        taken.iter().for_each(|slot| slab.give(*slot, &mut theirs));
        let again: BTreeSet<u32> = (0..1000).map(|_| slab.take(&mut mine).unwrap()).collect();
        let known = slab.slots().end as usize;
        assert!(again.len() == 1000 && known <= 1024 + 2 * MAGAZINE, "{known}");
    }

    #[test]
    fn a_stripe_hoards_little() {
        let (slab, mut free) = (Slab::default(), Free::default());
        let taken: Vec<u32> = (0..1000).map(|_| slab.take(&mut free).unwrap()).collect();
        for slot in taken {
            slab.give(slot, &mut free);
            assert!(free.0.len() < 2 * MAGAZINE);
        }
    }
}
