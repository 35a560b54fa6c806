//! The shards, and how they are locked: one at a time along a run of jobs, or all of them in order.

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::place::{SHARDS, shard_of};
use super::shard::Shard;
use crate::id::JobId;

/// All shards.
#[derive(Debug)]
pub(super) struct Shards([CachePadded<Mutex<Shard>>; SHARDS]);

/// Every shard, locked.
pub(super) type Locked<'a> = [MutexGuard<'a, Shard>; SHARDS];

/// Holds the lock of one shard and moves from shard to shard. Jobs that are pushed together share a shard,
/// so a batch takes few locks.
pub(super) struct Cursor<'a> {
    shards: &'a Shards,
    held: Option<(usize, MutexGuard<'a, Shard>)>,
}

impl Default for Shards {
    fn default() -> Self {
        Self(std::array::from_fn(|number| {
            CachePadded::new(Mutex::new(Shard::new(number)))
        }))
    }
}

impl Shards {
    /// Locks the shard of this job.
    pub(super) fn of(&self, id: JobId) -> MutexGuard<'_, Shard> {
        self.lock(shard_of(id))
    }

    /// Locks one shard.
    pub(super) fn lock(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.0[number].lock()
    }

    /// Locks every shard, in order.
    pub(super) fn lock_all(&self) -> Locked<'_> {
        std::array::from_fn(|number| self.lock(number))
    }

    /// Locks none yet.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            shards: self,
            held: None,
        }
    }
}

impl<'a> Cursor<'a> {
    /// The shard with this number, locked; the one before is unlocked first.
    pub(super) fn at(&mut self, number: usize) -> &mut Shard {
        if self.held.as_ref().is_none_or(|(held, _)| *held != number) {
            self.held = None;
        }
        let shards = self.shards;
        &mut self.held.get_or_insert_with(|| (number, shards.lock(number))).1
    }

    /// Unlocks.
    pub(super) fn release(&mut self) {
        self.held = None;
    }
}
