//! What all stripes share. Nothing here is behind a lock that a push, a claim or a finish must wait for,
//! and nothing is written by every one of them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crossbeam_utils::CachePadded;

use super::due::Due;
use super::latch::Mutex;
use super::nodes::Nodes;
use super::queue::Queues;
use super::slab::MAGAZINE;
use super::stripe::STRIPES;

/// Queues, due times, and the counters that all threads use.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) queues: Queues,
    pub(super) nodes: Nodes,
    pub(super) due: Due,
    /// The most finished jobs kept.
    pub(super) keep: usize,
    /// Held by the one who forgets finished jobs, so that two do not forget twice as many.
    pub(super) forgetting: Mutex<()>,
    /// Changed with every stripe locked, read with one of them locked.
    sealed: AtomicBool,
    scheduled: CachePadded<AtomicU64>,
    /// Finished jobs that are kept, but for those that stripes have not counted in yet.
    kept: CachePadded<AtomicI64>,
}

impl Shared {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// Nothing changes from now on. Every stripe must be locked.
    pub(super) fn seal(&self) {
        self.sealed.store(true, SeqCst);
    }

    /// Whether nothing may change any more. A stripe must be locked.
    pub(super) fn sealed(&self) -> bool {
        self.sealed.load(Relaxed)
    }

    /// The next place in the order of scheduled jobs.
    pub(super) fn next_scheduled(&self) -> u64 {
        self.scheduled.fetch_add(1, Relaxed)
    }

    /// How many finished jobs a stripe may keep to itself before it counts them in: few enough that all
    /// stripes together never matter.
    pub(super) fn slack(&self) -> usize {
        (self.keep / 1024).min(64)
    }

    /// The most finished jobs that are kept by the count alone.
    pub(super) fn most_kept(&self) -> usize {
        self.keep - STRIPES * self.slack()
    }

    /// Whether so many finished jobs are kept that pushers take the slots of the oldest. Never where few are
    /// kept: there every one of them counts.
    pub(super) fn nearly_full(&self) -> bool {
        self.keep >= 1024 * MAGAZINE
            && self.kept.load(Relaxed).max(0) as usize + 8 * MAGAZINE > self.most_kept()
    }

    /// Counts finished jobs in, if there are any; true if too many are now kept.
    pub(super) fn count_kept(&self, jobs: usize) -> bool {
        jobs > 0 && self.kept_with(jobs as i64) > self.most_kept()
    }

    /// Changes how many finished jobs are counted; returns how many are.
    pub(super) fn kept_with(&self, change: i64) -> usize {
        let before = self.kept.fetch_add(change, SeqCst);
        usize::try_from(before + change).unwrap_or(0)
    }
}
