//! Where a record lives, packed into 64 bits: a [`Handle`] for callers, a [`Ticket`] for lanes.
//!
//! Both have a slot in their low half and a counter in the high one. A handle has the slot's generation, so
//! it dies when the job is forgotten. A ticket has the job's place in its lane, so it dies as soon as the
//! job leaves that place, even if the same job comes back to the same lane.

use crate::engine::Handle;

/// A job's entry in a lane. Each lane counts its places for itself, so a ticket means nothing without its
/// lane. That it is another's is overlooked once in 2^32 places, and does no harm: the job that it leads to
/// is in the same lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ticket(u64);

impl Ticket {
    pub(super) fn new(order: u64, slot: u32) -> Self {
        Self(pack(order as u32, slot))
    }

    pub(super) fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The low half of the place in the lane that it was made for.
    pub(super) fn order(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether its place in the lane comes before that of another ticket of the lane.
    pub(super) fn is_before(self, other: Ticket) -> bool {
        // Places are counted round, and two that are in a lane at once are never half the way apart.
        self.order().wrapping_sub(other.order()) > u32::MAX / 2
    }

    /// Whether the ticket was made for this place in the lane.
    pub(super) fn is_of(self, order: u64) -> bool {
        self.order() == order as u32
    }
}

/// The handle of the job that is in a slot in its present generation.
pub(super) fn handle(generation: u16, slot: u32) -> Handle {
    Handle(pack(generation.into(), slot))
}

/// The slot that a handle leads to.
pub(super) fn slot_of(handle: Handle) -> u32 {
    handle.0 as u32
}

/// Whether the handle was made in this generation of its slot.
pub(super) fn is_of(handle: Handle, generation: u16) -> bool {
    (handle.0 >> 32) as u32 == u32::from(generation)
}

fn pack(counter: u32, slot: u32) -> u64 {
    u64::from(counter) << 32 | u64::from(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_tickets_round_trip() {
        let h = handle(7, u32::MAX);
        assert_eq!(slot_of(h), u32::MAX);
        assert!(is_of(h, 7) && !is_of(h, 8));
        let t = Ticket::new(u64::from(u32::MAX) + 4, 9);
        assert_eq!(t.slot(), 9);
        assert!(t.is_of(3) && !t.is_of(4));
        let before = Ticket::new(u64::from(u32::MAX), 1);
        assert!(before.is_before(t) && !t.is_before(before) && !t.is_before(t));
    }
}
