//! Bounded concurrency: how many bodies may run at once, in all, per queue and per kind.
//!
//! A permit is held from the claim until the body has really ended, whatever became of the job in the
//! meantime. The limits are exact: a claim takes its permits first and gives back what it did not use.
//!
//! A claimer that found no permit raises the flag of that limit, looks once more, and goes to wait; whoever
//! gives such a permit back looks at the flag afterwards. One of the two sees the other, so no wake is lost.
//! Each limit has a flag of its own: a claimer that is refused by a kind gives back what it took of the
//! others, and must not wake itself by that.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::names::QueueId;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A counted limit.
#[derive(Debug)]
pub(crate) struct Permits {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Whether somebody found none since one was given back last.
    starved: AtomicBool,
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
        }
    }

    /// Changes the limit. Permits above a lower limit run out as they are given back.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Takes up to `want` permits.
    fn take(&self, want: usize) -> usize {
        let mut got = 0;
        let _ = self
            .used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                got = want.min(self.limit().saturating_sub(used));
                (got > 0).then_some(used + got)
            });
        got
    }

    /// Gives permits back. True if somebody found none before.
    fn give(&self, count: usize) -> bool {
        self.used.fetch_sub(count, Ordering::SeqCst);
        self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst)
    }
}

/// The limits of one dispatcher.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) global: Permits,
    queues: RwLock<Vec<Option<Arc<Permits>>>>,
    /// Whether any queue has a limit.
    queues_limited: AtomicBool,
}

/// The permits that one running body holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) queue: Option<Arc<Permits>>,
    pub(crate) kind: Option<Arc<Permits>>,
}

impl Slots {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            global: Permits::new(concurrency),
            queues: RwLock::default(),
            queues_limited: AtomicBool::new(false),
        }
    }

    /// Limits the bodies of one queue, or takes its limit away.
    pub(crate) fn limit_queue(&self, queue: QueueId, limit: Option<usize>) {
        let mut queues = self.queues.write();
        if queues.len() <= queue.index() {
            queues.resize(queue.index() + 1, None);
        }
        match (&queues[queue.index()], limit) {
            // Also without a limit they are counted on: another limit may come while bodies run.
            (Some(permits), limit) => permits.set_limit(limit.unwrap_or(usize::MAX)),
            (None, Some(limit)) => queues[queue.index()] = Some(Arc::new(Permits::new(limit))),
            (None, None) => return,
        }
        self.queues_limited.store(true, Ordering::SeqCst);
    }

    /// The limit of one queue, if it has one.
    pub(crate) fn queue(&self, queue: QueueId) -> Option<Arc<Permits>> {
        if !self.queues_limited.load(Ordering::SeqCst) {
            return None;
        }
        self.queues.read().get(queue.index()).cloned().flatten()
    }

    /// Takes up to `want` permits; raises the flag if there were fewer.
    pub(crate) fn take(&self, permits: &Permits, want: usize) -> usize {
        let got = permits.take(want);
        if got > 0 || want == 0 {
            return got;
        }
        permits.starved.store(true, Ordering::SeqCst);
        permits.take(want)
    }

    /// Gives permits back. True if somebody may be waiting for one: ring the bell.
    #[must_use]
    pub(crate) fn give(&self, permits: &Permits, count: usize) -> bool {
        count > 0 && permits.give(count)
    }

    /// Gives back all that one body held. True if somebody may be waiting.
    #[must_use]
    pub(crate) fn release(&self, held: &Held) -> bool {
        let queue = held.queue.as_ref().is_some_and(|p| self.give(p, 1));
        let kind = held.kind.as_ref().is_some_and(|p| self.give(p, 1));
        self.give(&self.global, 1) || queue || kind
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn permits_are_exact_under_contention() {
        let slots = Slots::new(3);
        let (inside, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let got = slots.take(&slots.global, 2);
                        let now = inside.fetch_add(got, Ordering::SeqCst) + got;
                        peak.fetch_max(now, Ordering::SeqCst);
                        inside.fetch_sub(got, Ordering::SeqCst);
                        let _ = slots.give(&slots.global, got);
                    }
                });
            }
        });
        assert!(peak.into_inner() <= 3);
        assert_eq!(slots.global.used(), 0);
    }

    #[test]
    fn who_found_nothing_is_remembered() {
        let slots = Slots::new(1);
        assert_eq!(slots.take(&slots.global, 5), 1);
        assert_eq!(slots.take(&slots.global, 1), 0);
        assert!(slots.give(&slots.global, 1), "somebody waits");
        assert_eq!(slots.take(&slots.global, 1), 1);
        assert!(!slots.give(&slots.global, 1), "nobody waits");
    }

    #[test]
    fn a_lower_limit_runs_out() {
        let slots = Slots::new(2);
        assert_eq!(slots.take(&slots.global, 2), 2);
        slots.global.set_limit(1);
        let _ = slots.give(&slots.global, 1);
        assert_eq!(slots.take(&slots.global, 1), 0);
        let _ = slots.give(&slots.global, 1);
        assert_eq!(slots.take(&slots.global, 1), 1);
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    use super::*;
    use crate::bell::Bell;
    use crate::time::Deadline;
    use shuttle::sync::Arc;

    /// One slot, held at first by a body that ends; two claimers that each want it once. Nobody pushes and
    /// nobody rings but for a slot that came back: every schedule ends, so no such wake is lost.
    #[test]
    fn a_slot_that_comes_back_is_noticed() {
        let model = || {
            let slots = Arc::new(Slots::new(1));
            let (work, bodies) = (Arc::new(Bell::default()), Arc::new(AtomicUsize::new(1)));
            assert_eq!(slots.take(&slots.global, 1), 1);
            let claimers: Vec<_> = (0..2)
                .map(|_| {
                    let (slots, work, bodies) = (slots.clone(), work.clone(), bodies.clone());
                    shuttle::thread::spawn(move || {
                        loop {
                            let listener = work.listen();
                            if slots.take(&slots.global, 1) == 1 {
                                break;
                            }
                            listener.wait(Deadline::NEVER);
                        }
                        assert_eq!(bodies.fetch_add(1, Ordering::SeqCst), 0, "two bodies, one slot");
                        end_body(&slots, &work, &bodies);
                    })
                })
                .collect();
            end_body(&slots, &work, &bodies);
            for claimer in claimers {
                claimer.join().unwrap();
            }
        };
        shuttle::check_random(model, 10_000);
        shuttle::check_pct(model, 10_000, 3);
    }

    fn end_body(slots: &Slots, work: &Bell, bodies: &AtomicUsize) {
        bodies.fetch_sub(1, Ordering::SeqCst);
        if slots.give(&slots.global, 1) {
            work.ring_all();
        }
    }
}
