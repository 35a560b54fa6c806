//! Bounded concurrency: how many bodies may run at once, in all, per queue and per kind.
//!
//! A permit is held from the claim until the body has really ended, whatever became of the job in the
//! meantime. The limits are exact: a claim takes its permits first and gives back what it did not use.
//!
//! A claimer that found no permit of a queue or a kind raises the flag of that limit, looks once more, and goes
//! to wait; whoever gives such a permit back looks at the flag afterwards. One of the two sees the other, so no
//! wake is lost. Each limit has a flag of its own: a claimer that is refused by a kind gives back what it took
//! of the others, and must not wake itself by that.
//!
//! The limit of all bodies has a [line](Pool) instead, because the permits of ended bodies are passed straight
//! on to the next bodies of the same consumer (a [`Baton`]): others would never find one free. Those who wait
//! for something else than that consumer does have a permit kept for them when they are in line.

use std::sync::Arc;

use parking_lot::RwLock;

use super::Inner;
use crate::names::QueueId;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The counted limit of a queue or a kind.
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

    /// The same. True if the limit is a higher one now and somebody found no permit before: ring the bell.
    #[must_use]
    pub(super) fn resize(&self, limit: usize) -> bool {
        let before = self.limit.swap(limit, Ordering::SeqCst);
        limit > before && self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst)
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

/// The limit of all bodies, and the line of those who wait for a permit. A permit that comes back can be kept
/// for the line: those who are not in it do not get it.
#[derive(Debug)]
pub(crate) struct Pool {
    limit: usize,
    /// A [`Tally`].
    tally: AtomicU64,
}

/// What a [`Pool`] counts, in one word: all three change together.
#[derive(Clone, Copy)]
struct Tally {
    /// Permits that are out or kept.
    used: usize,
    /// How many are in line.
    line: usize,
    /// Permits that are kept for them; never more than there are in line.
    kept: usize,
}

impl Tally {
    const BITS: u32 = 20;
    const MASK: u64 = (1 << Self::BITS) - 1;

    fn unpack(word: u64) -> Self {
        Self {
            used: (word >> (2 * Self::BITS)) as usize,
            line: (word >> Self::BITS & Self::MASK) as usize,
            kept: (word & Self::MASK) as usize,
        }
    }

    fn pack(self) -> u64 {
        (self.used as u64) << (2 * Self::BITS) | (self.line as u64) << Self::BITS | self.kept as u64
    }
}

impl Pool {
    /// As many as the tally has room for.
    const MOST: usize = (1 << (u64::BITS - 2 * Tally::BITS)) - 1;

    fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(Self::MOST),
            tally: AtomicU64::new(0),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many permits are out.
    pub(crate) fn used(&self) -> usize {
        let tally = self.look();
        tally.used - tally.kept
    }

    fn look(&self) -> Tally {
        Tally::unpack(self.tally.load(Ordering::SeqCst))
    }

    /// Changes the tally by `change`, which may answer `None` to leave it. True if it was changed.
    fn update(&self, mut change: impl FnMut(Tally) -> Option<Tally>) -> bool {
        let change = |word| change(Tally::unpack(word)).map(Tally::pack);
        self.tally
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, change)
            .is_ok()
    }

    /// Takes up to `want` permits.
    pub(crate) fn take(&self, want: usize) -> usize {
        let mut got = 0;
        self.update(|t| {
            got = want.min(self.limit - t.used);
            let used = t.used + got;
            (got > 0).then_some(Tally { used, ..t })
        });
        got
    }

    /// Takes a permit, or a place in line if there is none: true for a permit.
    fn take_or_join(&self) -> bool {
        let mut got = false;
        self.update(|t| {
            got = t.used < self.limit;
            let (used, line) = (t.used + usize::from(got), t.line + usize::from(!got));
            Some(Tally { used, line, ..t })
        });
        got
    }

    /// Takes a permit that is kept or free, and leaves the line with it. True if there was one.
    fn take_in_line(&self) -> bool {
        self.update(|t| match (t.line - 1, t.kept) {
            (line, 0) if t.used < self.limit => Some(Tally {
                used: t.used + 1,
                line,
                kept: 0,
            }),
            (_, 0) => None,
            (line, kept) => Some(Tally {
                line,
                kept: kept - 1,
                ..t
            }),
        })
    }

    /// Leaves the line without a permit. True if one is kept for those who stay, who may not know: ring the bell.
    #[must_use]
    fn leave(&self) -> bool {
        let mut left = false;
        self.update(|t| {
            let line = t.line - 1;
            let freed = t.kept.saturating_sub(line);
            left = t.kept > freed;
            Some(Tally {
                used: t.used - freed,
                line,
                kept: t.kept - freed,
            })
        });
        left
    }

    /// Gives permits back, to be kept for those in line if `keep` says so. True if somebody is in line who has
    /// none kept as yet: ring the bell.
    #[must_use]
    pub(crate) fn give(&self, count: usize, keep: bool) -> bool {
        let mut wanted = false;
        self.update(|t| {
            let short = t.line - t.kept;
            wanted = short > 0;
            let kept = if keep { count.min(short) } else { 0 };
            (count > 0).then_some(Tally {
                used: t.used - (count - kept),
                kept: t.kept + kept,
                ..t
            })
        });
        wanted && count > 0
    }

    /// Whether somebody is in line who has no permit kept for him.
    #[inline]
    pub(super) fn wanted(&self) -> bool {
        let tally = self.look();
        tally.line > tally.kept
    }
}

/// A place in the line for a permit, or none so far. Left when it goes.
#[derive(Debug)]
pub(super) struct Place<'a> {
    inner: &'a Inner,
    /// Whether it is in line.
    stands: bool,
    /// Whether to get in line when there is no permit.
    pub(super) patient: bool,
}

impl<'a> Place<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self {
            inner,
            stands: false,
            patient: false,
        }
    }

    /// A place that was [kept](Place::keep).
    pub(super) fn resume(inner: &'a Inner, stands: bool) -> Self {
        Self {
            stands,
            ..Self::new(inner)
        }
    }

    /// Keeps the place, if it has one, for somebody who comes again.
    pub(super) fn keep(mut self) -> bool {
        std::mem::take(&mut self.stands)
    }

    /// Takes up to `want` permits.
    pub(super) fn take(&mut self, want: usize) -> usize {
        let pool = &self.inner.slots.all;
        if self.stands {
            if !pool.take_in_line() {
                return 0;
            }
            self.stands = false;
            return 1 + pool.take(want - 1);
        }
        let got = pool.take(want);
        if got > 0 || !self.patient || want == 0 {
            return got;
        }
        self.stands = !pool.take_or_join();
        usize::from(!self.stands)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.stands && self.inner.birth.is_here() {
            if self.inner.slots.all.leave() {
                self.inner.engine.signals().work.ring_all();
            }
            if self.inner.stopping() {
                // The stop may have seen the permit that was kept.
                self.inner.cells.idle.ring_all();
            }
        }
    }
}

/// Permits, and places among the active leases, that belong to no lease: those of leases that have ended, for
/// the next ones of the same consumer. What is left when it goes is given back.
///
/// A lease that follows on another so writes nothing that other threads read, and whoever waits until nothing
/// is active sees no gap between the two.
#[derive(Debug)]
pub(super) struct Baton<'a> {
    inner: &'a Inner,
    pub(super) permits: usize,
    pub(super) places: usize,
    /// Whether the next leases need no permits.
    slotless: bool,
}

impl<'a> Baton<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self {
            inner,
            permits: 0,
            places: 0,
            slotless: false,
        }
    }

    /// What one lease has passed on: its permit and its place.
    pub(super) fn of_one(inner: &'a Inner) -> Self {
        Self {
            inner,
            permits: 1,
            places: 1,
            slotless: false,
        }
    }

    /// Counts this many leases in that need no permits, before any is claimed: a stop sees them as it sees the
    /// permits of others.
    pub(super) fn enter(&mut self, count: usize) -> usize {
        self.slotless = true;
        let missing = count.saturating_sub(self.places);
        self.inner.cells.enter(missing);
        self.places += missing;
        count
    }

    /// Takes permits until there are `want`, if there are so many. Those that were passed on are given back
    /// first if somebody is in line for them who does not wait for the same as everybody else.
    pub(super) fn take(&mut self, want: usize, place: &mut Place<'_>) -> usize {
        if self.permits > 0 && self.inner.slots.all.wanted() && self.inner.engine.signals().work.mixed() {
            self.inner.give_permits(std::mem::take(&mut self.permits));
        }
        if self.permits < want {
            self.permits += place.take(want - self.permits);
        }
        self.permits.min(want)
    }

    /// Hands permits and places to this many leases that begin.
    pub(super) fn spend(&mut self, leases: usize) {
        if !self.slotless {
            self.permits -= leases;
        }
        match self.places.checked_sub(leases) {
            Some(places) => self.places = places,
            None => {
                self.inner.cells.enter(leases - self.places);
                self.places = 0;
            }
        }
    }
}

impl Drop for Baton<'_> {
    fn drop(&mut self) {
        self.inner.give_permits(self.permits);
        // Also without any: a stop may have seen the permits that were just given back.
        self.inner.settled(self.places);
    }
}

impl Inner {
    /// Gives one permit back.
    pub(super) fn give_permit(&self) {
        self.give_permits(1);
    }

    /// Gives permits back, and wakes those who are in line for one.
    fn give_permits(&self, count: usize) {
        let work = &self.engine.signals().work;
        if count > 0 && self.slots.all.give(count, work.mixed()) {
            work.ring_all();
        }
    }
}

/// The limits of one dispatcher.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) all: Pool,
    queues: RwLock<Vec<Option<Arc<Permits>>>>,
    /// Whether any queue has a limit.
    queues_limited: AtomicBool,
}

/// The permits of its queue and its kind that one running body holds, beside the one of all bodies.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) queue: Option<Arc<Permits>>,
    pub(crate) kind: Option<Arc<Permits>>,
    /// Whether it does not even hold the one of all bodies: nothing runs, a job is passed on.
    pub(crate) slotless: bool,
}

impl Slots {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            all: Pool::new(concurrency),
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

    /// Whether any queue has a limit, or had one.
    #[inline]
    pub(super) fn limits_queues(&self) -> bool {
        self.queues_limited.load(Ordering::SeqCst)
    }

    /// The limit of one queue, if it has one.
    pub(crate) fn queue(&self, queue: QueueId) -> Option<Arc<Permits>> {
        if !self.limits_queues() {
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

    /// Gives back what one body held of its queue and its kind. True if somebody may be waiting.
    #[must_use]
    pub(crate) fn release(&self, held: &Held) -> bool {
        let queue = held.queue.as_ref().is_some_and(|p| self.give(p, 1));
        let kind = held.kind.as_ref().is_some_and(|p| self.give(p, 1));
        queue || kind
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn permits_are_exact_under_contention() {
        let (pool, peak, inside) = (Pool::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        let limit = Permits::new(3);
        let body = |take: &dyn Fn() -> usize, give: &dyn Fn(usize) -> bool| {
            let got = take();
            let now = inside.fetch_add(got, Ordering::SeqCst) + got;
            peak.fetch_max(now, Ordering::SeqCst);
            inside.fetch_sub(got, Ordering::SeqCst);
            let _ = give(got);
        };
        for of_kind in [false, true] {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for i in 0..5_000 {
                            if of_kind {
                                body(&|| limit.take(2), &|n| limit.give(n));
                            } else {
                                body(&|| pool.take(2), &|n| pool.give(n, i % 2 == 0));
                            }
                        }
                    });
                }
            });
        }
        assert!(peak.into_inner() <= 3);
        assert_eq!((pool.used(), limit.used()), (0, 0));
    }

    #[test]
    fn who_found_nothing_is_remembered() {
        let slots = Slots::new(1);
        let limit = Permits::new(1);
        assert_eq!(slots.take(&limit, 5), 1);
        assert_eq!(slots.take(&limit, 1), 0);
        assert!(slots.give(&limit, 1), "somebody waits");
        assert_eq!(slots.take(&limit, 1), 1);
        assert!(!slots.give(&limit, 1), "nobody waits");
    }

    #[test]
    fn a_lower_limit_runs_out() {
        let limit = Permits::new(2);
        assert_eq!(limit.take(2), 2);
        limit.set_limit(1);
        let _ = limit.give(1);
        assert_eq!(limit.take(1), 0);
        let _ = limit.give(1);
        assert_eq!(limit.take(1), 1);
    }

    #[test]
    fn a_kept_permit_is_for_the_line() {
        let pool = Pool::new(1);
        assert!(pool.take_or_join(), "there is one");
        assert!(!pool.take_or_join());
        assert!(pool.wanted());
        assert!(pool.give(1, true), "somebody is in line");
        assert_eq!(
            (pool.take(1), pool.used()),
            (0, 0),
            "it is out of the line's reach, and not out"
        );
        assert!(!pool.wanted(), "whoever is in line has one kept");
        assert!(pool.take_in_line());
        assert!(!pool.give(1, true), "nobody is in line any more");
        assert_eq!(pool.take(2), 1);
    }

    #[test]
    fn a_permit_that_is_not_kept_goes_to_the_first_to_come() {
        let pool = Pool::new(1);
        assert_eq!(pool.take(1), 1);
        assert!(!pool.take_or_join());
        assert!(pool.give(1, false), "somebody is in line");
        assert_eq!(pool.take(1), 1);
        assert!(!pool.take_in_line(), "too late");
        assert!(pool.give(1, false), "he is still in line");
        assert!(pool.take_in_line());
        assert_eq!(pool.used(), 1);
    }

    #[test]
    fn who_leaves_the_line_leaves_his_permit() {
        let pool = Pool::new(2);
        assert_eq!(pool.take(2), 2);
        assert!(!pool.take_or_join() && !pool.take_or_join());
        assert!(pool.give(2, true));
        assert!(pool.leave(), "somebody else is in line, for whom one is kept");
        assert_eq!(pool.take(2), 1, "the other one is still kept");
        assert!(!pool.leave(), "nobody is in line any more");
        assert_eq!((pool.take(2), pool.used()), (1, 2));
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
    fn a_slot_that_comes_back(keep: bool) {
        let (pool, work) = (Arc::new(Pool::new(1)), Arc::new(Bell::default()));
        let bodies = Arc::new(AtomicUsize::new(1));
        assert_eq!(pool.take(1), 1);
        let claimers: Vec<_> = (0..2)
            .map(|_| {
                let (pool, work, bodies) = (pool.clone(), work.clone(), bodies.clone());
                shuttle::thread::spawn(move || {
                    let mut stands = false;
                    loop {
                        let listener = work.listen();
                        let got = if stands {
                            pool.take_in_line()
                        } else {
                            pool.take_or_join()
                        };
                        if got {
                            break;
                        }
                        stands = true;
                        listener.wait(Deadline::NEVER);
                    }
                    assert_eq!(bodies.fetch_add(1, Ordering::SeqCst), 0, "two bodies, one slot");
                    end_body(&pool, &work, &bodies, keep);
                })
            })
            .collect();
        end_body(&pool, &work, &bodies, keep);
        for claimer in claimers {
            claimer.join().unwrap();
        }
        assert_eq!(
            pool.look().pack(),
            0,
            "nobody is in line, and nothing is kept or out"
        );
    }

    fn end_body(pool: &Pool, work: &Bell, bodies: &AtomicUsize, keep: bool) {
        bodies.fetch_sub(1, Ordering::SeqCst);
        if pool.give(1, keep) {
            work.ring_all();
        }
    }

    #[test]
    fn a_slot_that_comes_back_is_noticed() {
        for keep in [false, true] {
            shuttle::check_random(move || a_slot_that_comes_back(keep), 10_000);
            shuttle::check_pct(move || a_slot_that_comes_back(keep), 10_000, 3);
        }
    }

    /// A consumer that passes its permit on from body to body as long as there is work of its own, and one of
    /// another kind that wants the only slot once, or gives up when it has looked twice. The first one has more
    /// work than the second one waits for: were the permit not given up, the second one would never end.
    fn a_permit_passed_on(gives_up: bool) {
        let (pool, work) = (Arc::new(Pool::new(1)), Arc::new(Bell::default()));
        let (served, bodies) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (pool, work, served, bodies) = (pool.clone(), work.clone(), served.clone(), bodies.clone());
            shuttle::thread::spawn(move || {
                let (mut stands, mut looks) = (false, 0);
                loop {
                    let listener = work.listen();
                    if if stands {
                        pool.take_in_line()
                    } else {
                        pool.take_or_join()
                    } {
                        end_one(&bodies);
                        if pool.give(1, true) {
                            work.ring_all();
                        }
                        break;
                    }
                    (stands, looks) = (true, looks + 1);
                    if gives_up && looks == 2 {
                        assert!(!pool.leave(), "there is nobody else in line");
                        break;
                    }
                    listener.wait(Deadline::NEVER);
                }
                served.store(true, Ordering::SeqCst);
            })
        };
        while !served.load(Ordering::SeqCst) {
            let mut has = pool.take(1) == 1;
            while has {
                end_one(&bodies);
                if pool.wanted() {
                    if pool.give(1, true) {
                        work.ring_all();
                    }
                    has = pool.take(1) == 1;
                } else if served.load(Ordering::SeqCst) {
                    has = false;
                    let _ = pool.give(1, true);
                } else {
                    shuttle::thread::yield_now();
                }
            }
            shuttle::thread::yield_now();
        }
        other.join().unwrap();
        assert_eq!(
            pool.look().pack(),
            0,
            "nobody is in line, and nothing is kept or out"
        );
    }

    fn end_one(bodies: &AtomicUsize) {
        assert_eq!(bodies.fetch_add(1, Ordering::SeqCst), 0, "two bodies, one slot");
        bodies.fetch_sub(1, Ordering::SeqCst);
    }

    #[test]
    fn a_permit_that_is_passed_on_is_given_up_for_the_line() {
        for gives_up in [false, true] {
            shuttle::check_random(move || a_permit_passed_on(gives_up), 5_000);
            shuttle::check_pct(move || a_permit_passed_on(gives_up), 5_000, 3);
        }
    }
}
