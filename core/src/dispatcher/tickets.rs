//! Leases behind numbers, for hosts that cannot own a Rust value: C, Go, an event loop.
//!
//! A ticket is a slot and a generation, never a pointer: an answer that comes twice, too late or with an
//! invented number finds nothing and is refused, whatever thread it comes from. (Completion handles that
//! were pointers have been a use-after-free in more than one library.)

use parking_lot::Mutex;

use super::lease::Lease;

/// The number of one parked lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

const SHARDS: usize = 8;

/// Parked leases. Any thread.
#[derive(Debug, Default)]
pub struct Tickets {
    shards: [Mutex<Shard>; SHARDS],
    next: std::sync::atomic::AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    lease: Option<Lease>,
}

impl Tickets {
    /// No leases.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parks a lease and gives its number.
    pub fn park(&self, lease: Lease) -> Ticket {
        let shard_at = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % SHARDS;
        let mut shard = self.shards[shard_at].lock();
        let at = match shard.free.pop() {
            Some(at) => at as usize,
            None => {
                shard.slots.push(Slot {
                    generation: 1,
                    lease: None,
                });
                shard.slots.len() - 1
            }
        };
        let slot = &mut shard.slots[at];
        slot.lease = Some(lease);
        Ticket(u64::from(slot.generation) << 32 | (at * SHARDS + shard_at) as u64)
    }

    /// Takes the lease out: the one who gets it answers for it, all others get `None`.
    #[must_use]
    pub fn take(&self, ticket: Ticket) -> Option<Lease> {
        let (at, generation) = (ticket.0 as u32 as usize, (ticket.0 >> 32) as u32);
        let mut shard = self.shards[at % SHARDS].lock();
        let at = at / SHARDS;
        let slot = shard.slots.get_mut(at).filter(|s| s.generation == generation)?;
        let lease = slot.lease.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        shard.free.push(at as u32);
        Some(lease)
    }

    /// Calls `f` with the lease, which stays parked. `f` must not call back into these tickets.
    pub fn with<R>(&self, ticket: Ticket, f: impl FnOnce(&Lease) -> R) -> Option<R> {
        let (at, generation) = (ticket.0 as u32 as usize, (ticket.0 >> 32) as u32);
        let shard = self.shards[at % SHARDS].lock();
        let slot = shard
            .slots
            .get(at / SHARDS)
            .filter(|s| s.generation == generation)?;
        slot.lease.as_ref().map(f)
    }

    /// How many leases are parked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|s| s.lock().slots.iter().filter(|s| s.lease.is_some()).count())
            .sum()
    }

    /// Whether no lease is parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
