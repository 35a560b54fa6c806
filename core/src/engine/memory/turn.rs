//! What holders of leases say: transitions, extensions, and the keys that become free.

use super::MemoryEngine;
use super::after::After;
use super::session::Session;
use crate::engine::Applied;
use crate::outcome::Transition;

impl Session<'_> {
    /// Applies each transition by itself.
    pub(super) fn apply_each(&mut self, done: &mut [Transition], applied: &mut Vec<Applied>) {
        applied.extend(done.iter_mut().map(|t| self.apply(t)));
    }
}

impl MemoryEngine {
    /// Removes keys whose job was cancelled or forgotten, unless one with its id and key is back.
    pub(super) fn free_keys(&self, after: &After) {
        for (extras, id) in after.freed() {
            let Some(key) = extras.key.as_deref() else {
                continue;
            };
            let mut holders = self.keys.lock(key);
            let lives = || {
                let found = self.index.find(*id, &self.slab);
                found.is_some_and(|(_, record)| record.holds(key))
            };
            if holders.get(key) == Some(id) && !lives() {
                holders.remove(key);
            }
        }
    }
}
