//! A queue: its lanes, its room, and whether it is paused. Found by number without a lock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::lane::Lanes;
use super::room::Room;
use super::table::Table;
use crate::names::QueueId;

/// What all threads share about a queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) lanes: Lanes,
    pub(super) room: Room,
    paused: AtomicBool,
    /// How many jobs wait in the store underneath only.
    pub(super) spilled: AtomicUsize,
}

impl Queue {
    fn new(id: QueueId) -> Self {
        Self {
            lanes: Lanes::new(id),
            room: Room::default(),
            paused: AtomicBool::new(false),
            spilled: AtomicUsize::new(0),
        }
    }

    pub(super) fn paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }
}

/// The queues by number.
#[derive(Debug, Default)]
pub(super) struct Queues(Table<Queue, 256, 256>);

impl Queues {
    /// The queue, if anything was ever done with it.
    pub(super) fn find(&self, id: QueueId) -> Option<&Queue> {
        self.0.get(id.index())
    }

    /// The queue.
    pub(super) fn get(&self, id: QueueId) -> &Queue {
        self.0.get_or(id.index(), || Queue::new(id))
    }
}
