//! What holders of leases say: transitions, extensions, and the keys that become free.

use std::time::Duration;

use super::MemoryEngine;
use super::after::After;
use super::place::Place;
use super::shards::Cursor;
use crate::engine::{Applied, Held, JobRef};
use crate::outcome::Transition;
use crate::time::Timestamp;

impl MemoryEngine {
    /// Applies each transition by itself.
    pub(super) fn apply_each(
        &self,
        done: &mut [Transition],
        applied: &mut Vec<Applied>,
        cursor: &mut Cursor<'_>,
        now: Timestamp,
        after: &mut After,
    ) {
        if done.is_empty() {
            return;
        }
        let ends = self.shared.next_ends(done.len());
        for (order, t) in (ends..).zip(done) {
            let shard = cursor.at(t.job.handle.shard());
            applied.push(shard.apply(t, order, now, &self.shared, after));
        }
    }

    /// Moves the end of each lease.
    pub(super) fn extend_each(
        &self,
        leases: &[JobRef],
        lease: Duration,
        now: Timestamp,
        held: &mut Vec<Held>,
        after: &mut After,
    ) {
        let mut cursor = self.shards.cursor();
        for job in leases {
            let shard = cursor.at(job.handle.shard());
            held.push(shard.extend(*job, lease, now, &self.shared, after));
        }
    }

    /// Removes keys whose job was cancelled or forgotten, unless one with its id and key is back.
    pub(super) fn free_keys(&self, after: &After) {
        for (extras, id) in &after.freed {
            let Some(key) = extras.key.as_deref() else {
                continue;
            };
            let mut holders = self.keys.lock(key);
            let lives = || {
                let shard = self.shards.of(*id);
                shard.find(*id).is_some_and(|r| r.holds(key))
            };
            if holders.get(key) == Some(id) && !lives() {
                holders.remove(key);
            }
        }
    }
}
