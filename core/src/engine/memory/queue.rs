//! A queue: its lanes, its flows, its room, and whether it is paused. Found by number without a lock.

use crate::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use super::flows::Flows;
use super::lane::Lanes;
use super::room::Room;
use super::table::Table;
use crate::engine::Resident;
use crate::names::QueueId;

/// What all threads share about a queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) lanes: Lanes,
    pub(super) flows: Flows,
    pub(super) room: Room,
    paused: AtomicBool,
    /// Whether claims take the newest first.
    newest_first: AtomicBool,
    /// How many jobs wait in the store underneath only.
    pub(super) spilled: AtomicUsize,
    /// How many bytes their payloads have.
    spilled_bytes: AtomicIsize,
    /// What its pushes last said of how much may wait in memory.
    resident_jobs: AtomicUsize,
    resident_bytes: AtomicUsize,
}

impl Queue {
    fn new(id: QueueId) -> Self {
        Self {
            lanes: Lanes::new(id),
            flows: Flows::default(),
            room: Room::default(),
            paused: AtomicBool::new(false),
            newest_first: AtomicBool::new(false),
            spilled: AtomicUsize::new(0),
            spilled_bytes: AtomicIsize::new(0),
            resident_jobs: AtomicUsize::new(0),
            resident_bytes: AtomicUsize::new(0),
        }
    }

    /// The most of it that waits in memory, if it has a bound of its own.
    pub(super) fn resident(&self) -> Resident {
        Resident {
            jobs: self.resident_jobs.load(Relaxed),
            bytes: self.resident_bytes.load(Relaxed),
        }
    }

    /// Sets that bound, with a write only if it is another.
    pub(super) fn set_resident(&self, most: Resident) {
        if self.resident() != most {
            self.resident_jobs.store(most.jobs, Relaxed);
            self.resident_bytes.store(most.bytes, Relaxed);
        }
    }

    /// How many bytes the payloads have that are in the store underneath only.
    pub(super) fn spilled_bytes(&self) -> usize {
        usize::try_from(self.spilled_bytes.load(SeqCst)).unwrap_or(0)
    }

    pub(super) fn spill_bytes(&self, change: isize) {
        self.spilled_bytes.fetch_add(change, SeqCst);
    }

    pub(super) fn paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }

    /// Whether claims take the newest first of what is queued from now on.
    pub(super) fn newest_first(&self) -> bool {
        self.newest_first.load(Relaxed)
    }

    pub(super) fn set_newest_first(&self, on: bool) {
        self.newest_first.store(on, Relaxed);
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
