//! Where a record lives, packed into 64 bits: a [`Handle`] for callers, a [`Ticket`] for lanes.
//!
//! Both have 28 bits of a counter, 4 bits of shard and 32 bits of slot. They differ in the counter. A
//! handle has the slot's generation, so it dies when the job is forgotten. A ticket has the job's place in
//! its lane, so it dies as soon as the job leaves that place, even if the same job comes back to the same
//! lane.

use crate::engine::Handle;
use crate::id::JobId;

/// How many shards hold the jobs; a power of two.
pub(super) const SHARDS: usize = 16;
/// The bits of a generation, and of the part of a lane order that a ticket remembers.
const COUNTER: u64 = (1 << 28) - 1;

/// The shard of a job.
///
/// Ids count up in their low bits, so 64 jobs in a row of one pusher share a shard, and with it a lock
/// and its cache lines. The high bits are for UUIDs of others, some of which have constant low bits.
pub(super) fn shard_of(id: JobId) -> usize {
    let bits = id.as_u128();
    ((bits >> 6) ^ (bits >> 96)) as usize % SHARDS
}

/// A word that says where a record is, or was.
pub(super) trait Place: Copy {
    fn bits(self) -> u64;

    /// The shard, whatever the word says a valid one.
    fn shard(self) -> usize {
        (self.bits() >> 32) as usize % SHARDS
    }

    fn slot(self) -> u32 {
        self.bits() as u32
    }

    /// Whether the word was made with this counter.
    fn is_of(self, counter: u64) -> bool {
        self.bits() >> 36 == counter & COUNTER
    }
}

impl Place for Handle {
    fn bits(self) -> u64 {
        self.0
    }
}

/// A job's entry in a lane. Each lane counts its places for itself, so a ticket means nothing without its
/// lane. That it is another's is overlooked once in 2^28 places, and does no harm: the job that it leads to
/// is in the same lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ticket(u64);

impl Place for Ticket {
    fn bits(self) -> u64 {
        self.0
    }
}

impl Ticket {
    pub(super) fn new(order: u64, shard: usize, slot: u32) -> Self {
        Self(pack(order, shard, slot))
    }
}

pub(super) fn handle(generation: u32, shard: usize, slot: u32) -> Handle {
    Handle(pack(generation.into(), shard, slot))
}

fn pack(counter: u64, shard: usize, slot: u32) -> u64 {
    debug_assert!(shard < SHARDS);
    (counter & COUNTER) << 36 | (shard as u64) << 32 | u64::from(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_tickets_round_trip() {
        let h = handle(7, 15, u32::MAX);
        assert_eq!((h.shard(), h.slot()), (15, u32::MAX));
        assert!(h.is_of(7) && !h.is_of(8));
        let t = Ticket::new(u64::from(u32::MAX), 3, 9);
        assert_eq!((t.shard(), t.slot()), (3, 9));
        assert!(t.is_of(u64::from(u32::MAX)) && !t.is_of(0));
    }

    #[test]
    fn shards_are_in_range_and_runs_share_one() {
        let id = |n: u128| JobId::from_u128(n);
        assert!((0..64).all(|n| shard_of(id(n)) == 0));
        assert_eq!(shard_of(id(64)), 1);
        // UUIDs of version 1 differ in their high bits only.
        let spread: std::collections::BTreeSet<_> = (0..64u128).map(|n| shard_of(id(n << 96 | 5))).collect();
        assert_eq!(spread.len(), SHARDS);
    }
}
