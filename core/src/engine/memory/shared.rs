//! What all shards share. Nothing here is behind a lock that a push, a claim or a finish must wait for.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::due::Due;
use super::nodes::Nodes;
use super::queue::Queues;

/// Queues, due times, and the counters that put jobs of different shards in order.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) queues: Queues,
    pub(super) nodes: Nodes,
    pub(super) due: Due,
    /// The most finished jobs kept.
    pub(super) keep: usize,
    /// Held by the one who forgets finished jobs, so that two do not forget twice as many.
    pub(super) forgetting: Mutex<()>,
    /// Changed with every shard locked, read with one of them locked.
    sealed: AtomicBool,
    scheduled: CachePadded<AtomicU64>,
    ended: CachePadded<Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    order: AtomicU64,
    kept: AtomicI64,
}

impl Shared {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// Nothing changes from now on. Every shard must be locked.
    pub(super) fn seal(&self) {
        self.sealed.store(true, SeqCst);
    }

    /// Whether nothing may change any more. A shard must be locked.
    pub(super) fn sealed(&self) -> bool {
        self.sealed.load(Relaxed)
    }

    /// The next place in the order of scheduled jobs.
    pub(super) fn next_scheduled(&self) -> u64 {
        self.scheduled.fetch_add(1, Relaxed)
    }

    /// The first of `count` places in the order of ends; not all need be used.
    pub(super) fn next_ends(&self, count: usize) -> u64 {
        self.ended.order.fetch_add(count as u64, Relaxed)
    }

    /// Counts finished jobs in (or out, if negative); returns how many are kept.
    pub(super) fn count_kept(&self, change: i64) -> usize {
        let before = self.ended.kept.fetch_add(change, SeqCst);
        usize::try_from(before + change).unwrap_or(0)
    }
}
