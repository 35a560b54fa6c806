//! Where queued jobs stand in line: one lane per priority of a queue.
//!
//! A lane is a [line](super::line) of tickets plus a small sorted store, *aside*, of jobs that stood at the
//! head but could not be given out because the claimer had no slot for their kind. A claim looks at those
//! aside first, so the order among the jobs it may take is kept. Only while a claimer has a ticket in hand that
//! it is about to set aside can others, with a slot for its kind, overtake it.
//!
//! A job that is cancelled in the line leaves its ticket behind. Tickets are checked when they are popped;
//! when too many of them are stale, the owner moves the live ones aside and the line starts empty. Aside,
//! removal is exact: whoever holds a job's record may add it or take it out, so nothing stale is there.

use std::collections::BTreeMap;

use crossbeam_utils::CachePadded;

use super::flags::Listed;
use super::latch::{Mutex, MutexGuard};
use super::line::{First, Line};
use super::place::Ticket;
use super::table::Table;
use super::tail::Tail;
use crate::engine::KindClaim;
use crate::job::Priority;
use crate::names::{KindId, QueueId};
use crate::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// This many lanes of a queue may be empty and marked as busy.
const FEW: u32 = 3;

/// The lanes of one queue.
#[derive(Debug)]
pub(super) struct Lanes {
    queue: QueueId,
    lanes: Table<Lane, 16, 16>,
    /// One bit per lane that may hold a ticket, highest priority in the highest bit.
    busy: [CachePadded<AtomicU64>; 4],
}

/// The line of one priority.
#[derive(Debug)]
pub(super) struct Lane {
    queue: QueueId,
    priority: Priority,
    line: Line,
    aside: Mutex<BTreeMap<KindId, BTreeMap<u64, Ticket>>>,
    /// How many jobs are aside.
    set_aside: AtomicUsize,
    /// How many strands of [flows](super::flows) have a turn here.
    flowing: AtomicUsize,
    /// How many tickets in the line are stale.
    stale: AtomicI64,
    /// Held by the one who moves live tickets aside.
    tidying: Mutex<()>,
    /// What comes after the line, in the store underneath only.
    pub(super) tail: Mutex<Tail>,
    /// How many jobs are in the tail.
    pub(super) spilled: AtomicUsize,
}

/// The lanes of a queue that may hold a job, highest priority first.
pub(super) struct Busy<'a> {
    lanes: &'a Lanes,
    /// Which word of marks was looked at last, and what is left of it.
    word: usize,
    bits: u64,
}

impl<'a> Iterator for Busy<'a> {
    type Item = &'a Lane;

    #[inline]
    fn next(&mut self) -> Option<&'a Lane> {
        let bit = loop {
            if let Some(bit) = self.bits.checked_ilog2() {
                break bit;
            }
            self.word = self.word.checked_sub(1)?;
            self.bits = self.lanes.busy[self.word].load(SeqCst);
        };
        self.bits &= !(1 << bit);
        self.lanes.lanes.get(64 * self.word + bit as usize)
    }
}

/// What [`Lanes::pop`] found.
pub(super) struct Popped {
    pub(super) first: Option<First>,
    /// A pusher may have rung for a job that looked, for a moment, as if it were not there.
    pub(super) ring: bool,
}

impl Lanes {
    pub(super) fn new(queue: QueueId) -> Self {
        Self {
            queue,
            lanes: Table::default(),
            busy: Default::default(),
        }
    }

    /// The lane of this priority.
    pub(super) fn lane(&self, priority: Priority) -> &Lane {
        self.lanes
            .get_or(rank(priority), || Lane::new(self.queue, priority))
    }

    /// The lanes that may hold a job, highest priority first.
    #[inline]
    pub(super) fn busy(&self) -> Busy<'_> {
        Busy {
            lanes: self,
            word: self.busy.len(),
            bits: 0,
        }
    }

    /// Puts a ticket at the end of the line.
    pub(super) fn push(&self, lane: &Lane, ticket: Ticket) {
        lane.line.push(ticket);
        self.mark(lane);
    }

    /// Sets a job aside. Under its record's lock.
    pub(super) fn set_aside(&self, lane: &Lane, kind: KindId, order: u64, ticket: Ticket) {
        let mut aside = lane.aside.lock();
        aside.entry(kind).or_default().insert(order, ticket);
        lane.set_aside.fetch_add(1, SeqCst);
        drop(aside);
        self.mark(lane);
    }

    /// Counts a strand in that has a turn. Under the lock of the queue's flows.
    pub(super) fn flow_in(&self, lane: &Lane) {
        lane.flowing.fetch_add(1, SeqCst);
        self.mark(lane);
    }

    /// Counts a strand out. Under the lock of the queue's flows.
    pub(super) fn flow_out(&self, lane: &Lane) {
        lane.flowing.fetch_sub(1, SeqCst);
    }

    /// Takes the first ticket of the line.
    #[inline(always)]
    pub(super) fn pop(&self, lane: &Lane) -> Popped {
        match lane.line.pop() {
            first @ Some(_) => Popped { first, ring: false },
            None => self.rest(lane),
        }
    }

    fn few(&self) -> bool {
        let marks = self.busy.iter().map(|word| word.load(Relaxed).count_ones());
        marks.sum::<u32>() <= FEW
    }

    /// Says that the lane is busy. A pusher writes only if the lane was at rest.
    pub(super) fn mark(&self, lane: &Lane) {
        let (word, bit) = lane.bit();
        if self.busy[word].load(SeqCst) & bit == 0 {
            self.busy[word].fetch_or(bit, SeqCst);
        }
    }

    /// Says that the lane is at rest, unless it is not. Of a pusher, which adds and then reads the bit, and
    /// this, which clears the bit and then reads the lane, one sees the other.
    ///
    /// While few lanes are busy none is put to rest: looking at an empty one costs less than a mark that
    /// pushers and claimers take turns to write.
    fn rest(&self, lane: &Lane) -> Popped {
        let (word, bit) = lane.bit();
        if lane.has_aside() || lane.flows() || lane.spilled.load(SeqCst) > 0 || self.few() {
            return Popped {
                first: None,
                ring: false,
            };
        }
        self.busy[word].fetch_and(!bit, SeqCst);
        let first = lane.line.pop();
        let ring = first.is_some() || lane.has_aside() || lane.flows();
        if ring {
            self.busy[word].fetch_or(bit, SeqCst);
        }
        Popped { first, ring }
    }
}

impl Lane {
    /// Fewer stale tickets than this are never worth the work.
    pub(super) const LITTER: usize = 1024;

    fn new(queue: QueueId, priority: Priority) -> Self {
        Self {
            queue,
            priority,
            line: Line::default(),
            aside: Mutex::default(),
            set_aside: AtomicUsize::new(0),
            flowing: AtomicUsize::new(0),
            stale: AtomicI64::new(0),
            tidying: Mutex::default(),
            tail: Mutex::default(),
            spilled: AtomicUsize::new(0),
        }
    }

    /// Whether jobs of this queue and priority stand here.
    pub(super) fn is_for(&self, queue: QueueId, priority: Priority) -> bool {
        self.queue == queue && self.priority == priority
    }

    /// The next place in the line.
    pub(super) fn next_order(&self) -> u64 {
        self.line.next_order()
    }

    /// Whether flows may have a job for a claim.
    pub(super) fn flows(&self) -> bool {
        self.flowing.load(SeqCst) > 0
    }

    pub(super) fn has_aside(&self) -> bool {
        self.set_aside.load(SeqCst) > 0
    }

    /// Takes the first of the jobs aside that the claim may have, or the last.
    pub(super) fn take_aside(&self, kinds: &[KindClaim], newest: bool) -> Option<Ticket> {
        let mut aside = self.aside.lock();
        let asked = |kind: &KindId| kinds.get(kind.index()).is_some_and(|k| k.allowance > 0);
        let heads = aside.iter().filter(|(kind, _)| asked(kind));
        let kind = if newest {
            let lasts = heads.filter_map(|(k, jobs)| Some((*jobs.last_key_value()?.0, *k)));
            lasts.max()?.1
        } else {
            let firsts = heads.filter_map(|(k, jobs)| Some((*jobs.first_key_value()?.0, *k)));
            firsts.min()?.1
        };
        let jobs = aside.get_mut(&kind)?;
        let (_, ticket) = if newest { jobs.pop_last() } else { jobs.pop_first() }?;
        self.removed(&mut aside, kind);
        Some(ticket)
    }

    /// The first job of the lane, aside or in line, and where it is; it stays there. In the line it may be stale.
    pub(super) fn first(&self) -> Option<(Ticket, Listed)> {
        let line = self.line.peek().map(|ticket| (ticket, Listed::Lane));
        if !self.has_aside() {
            return line;
        }
        let aside = self.aside.lock();
        let heads = aside.values().filter_map(|jobs| jobs.first_key_value());
        let aside = heads
            .min_by_key(|(order, _)| **order)
            .map(|(_, ticket)| (*ticket, Listed::Aside));
        match (aside, line) {
            (Some(a), Some(l)) if l.0.is_before(a.0) => Some(l),
            (aside, line) => aside.or(line),
        }
    }

    /// Takes the first ticket of the line out if it is this one.
    pub(super) fn take_if_first(&self, ticket: Ticket) -> bool {
        self.line.take_if(ticket)
    }

    /// Higher ones go first.
    pub(super) fn priority(&self) -> Priority {
        self.priority
    }

    /// Takes a job out of those aside, if it is there. Under its record's lock.
    pub(super) fn forget_aside(&self, kind: KindId, order: u64) {
        let mut aside = self.aside.lock();
        if aside
            .get_mut(&kind)
            .is_some_and(|jobs| jobs.remove(&order).is_some())
        {
            self.removed(&mut aside, kind);
        }
    }

    fn removed(&self, aside: &mut BTreeMap<KindId, BTreeMap<u64, Ticket>>, kind: KindId) {
        if aside.get(&kind).is_some_and(BTreeMap::is_empty) {
            aside.remove(&kind);
        }
        self.set_aside.fetch_sub(1, SeqCst);
    }

    /// Counts a ticket that has become stale; says whether there are too many.
    pub(super) fn litter(&self) -> bool {
        self.stale.fetch_add(1, Relaxed);
        self.littered()
    }

    /// Counts a stale ticket that has been popped.
    pub(super) fn swept(&self) {
        self.stale.fetch_sub(1, Relaxed);
    }

    /// Whether too many tickets in the line are stale.
    pub(super) fn littered(&self) -> bool {
        let stale = self.stale.load(Relaxed);
        stale > Self::LITTER as i64 && stale as usize > self.line.len() / 2
    }

    /// The right to move live tickets aside, if nobody has it.
    pub(super) fn tidy(&self) -> Option<MutexGuard<'_, ()>> {
        self.tidying.try_lock()
    }

    /// How many tickets are in the line, good or stale.
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// About how many jobs are in the lane, but for those of flows: exact while nobody comes or goes.
    pub(super) fn live(&self) -> usize {
        let stale = usize::try_from(self.stale.load(Relaxed)).unwrap_or(0);
        self.line.len().saturating_sub(stale) + self.set_aside.load(SeqCst)
    }

    /// How many tickets in the line are stale.
    #[cfg(test)]
    pub(super) fn stale(&self) -> i64 {
        self.stale.load(SeqCst)
    }

    fn bit(&self) -> (usize, u64) {
        let rank = rank(self.priority);
        (rank / 64, 1 << (rank % 64))
    }
}

/// Priorities from 0.
fn rank(priority: Priority) -> usize {
    (i32::from(priority) + 128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Deadline;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    impl Popped {
        fn ticket(&self) -> Option<Ticket> {
            self.first.map(|first| first.ticket)
        }
    }

    fn ticket(n: u64) -> Ticket {
        Ticket::new(n, n as u32)
    }

    #[test]
    fn the_busiest_come_first_and_resting_ones_not_at_all() {
        let lanes = Lanes::new(QueueId(0));
        for p in [0, -128, 127, 5, -1, -65] {
            lanes.push(lanes.lane(p), ticket(0));
        }
        let ranks = || lanes.busy().map(|l| l.priority).collect::<Vec<_>>();
        assert_eq!(ranks(), [127, 5, 0, -1, -65, -128]);
        let five = lanes.lane(5);
        assert!(lanes.pop(five).first.is_some());
        assert_eq!(ranks().len(), 6, "only a look at the empty lane tells");
        assert!(lanes.pop(five).first.is_none());
        assert_eq!(ranks(), [127, 0, -1, -65, -128]);
    }

    #[test]
    fn those_aside_are_taken_in_order_of_the_asked_kinds() {
        let (lanes, mut kinds) = (Lanes::new(QueueId(0)), [KindClaim::default(); 3]);
        let lane = lanes.lane(0);
        for (kind, order) in [(1, 4), (0, 3), (1, 2), (0, 1), (2, 0)] {
            lanes.set_aside(lane, KindId(kind), order, ticket(order));
        }
        assert!(lane.has_aside() && lanes.pop(lane).first.is_none());
        assert_eq!(lanes.busy().count(), 1, "a lane with jobs aside is busy");
        assert_eq!(lane.take_aside(&kinds, false), None);
        (kinds[0].allowance, kinds[1].allowance) = (1, 1);
        assert_eq!(lane.take_aside(&kinds, false), Some(ticket(1)));
        assert_eq!(lane.take_aside(&kinds, false), Some(ticket(2)));
        lane.forget_aside(KindId(0), 3);
        lane.forget_aside(KindId(0), 3);
        assert_eq!(lane.take_aside(&kinds, false), Some(ticket(4)));
        assert_eq!(lane.take_aside(&kinds, false), None);
        lane.forget_aside(KindId(2), 0);
        assert!(!lane.has_aside());
    }

    /// Lanes of which so many are busy that empty ones are put to rest.
    fn crowded() -> Lanes {
        let lanes = Lanes::new(QueueId(0));
        for p in 1..=FEW {
            lanes.push(lanes.lane(-(p as Priority)), ticket(0));
        }
        lanes
    }

    #[test]
    fn while_few_are_busy_none_is_put_to_rest() {
        let lanes = Lanes::new(QueueId(0));
        lanes.push(lanes.lane(0), ticket(0));
        assert!(lanes.pop(lanes.lane(0)).first.is_some() && lanes.pop(lanes.lane(0)).first.is_none());
        assert_eq!(lanes.busy().count(), 1);
    }

    #[test]
    fn a_lane_that_was_wrongly_thought_at_rest_is_busy_again() {
        let lanes = crowded();
        let lane = lanes.lane(0);
        let busy = |lanes: &Lanes| lanes.busy().count() - FEW as usize;
        (1..=2).for_each(|n| lanes.push(lane, ticket(n)));
        // As if both came after the first look, by a pusher that saw the mark still set.
        let popped = lanes.rest(lane);
        assert_eq!((popped.ticket(), popped.ring), (Some(ticket(1)), true));
        assert_eq!(busy(&lanes), 1);
        assert_eq!(lanes.pop(lane).ticket(), Some(ticket(2)));
        let popped = lanes.rest(lane);
        assert!(popped.first.is_none() && !popped.ring && busy(&lanes) == 0);
    }

    /// Few tickets at a time, and nobody who looks at the lane unless it is marked: one that is lost in
    /// the moment in which the lane goes to rest is never found.
    #[test]
    fn no_ticket_is_lost_between_mark_and_rest() {
        const ROUNDS: usize = 20_000;
        let (lanes, taken, stop) = (crowded(), AtomicUsize::new(0), AtomicBool::new(false));
        // Where both have one processor, a round is as long as a turn of the one that looks.
        let enough = Deadline::after(Duration::from_secs(10));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let busy = lanes.busy().find(|lane| lane.priority == 0);
                    let ticket = busy.and_then(|lane| lanes.pop(lane).first);
                    taken.fetch_add(usize::from(ticket.is_some()), SeqCst);
                }
            });
            let mut pushed = 0;
            for round in (0..ROUNDS).take_while(|_| !enough.passed()) {
                let limit = Deadline::after(Duration::from_secs(60));
                (0..=round % 3).for_each(|_| lanes.push(lanes.lane(0), ticket(0)));
                pushed += round % 3 + 1;
                while taken.load(SeqCst) < pushed && !limit.passed() {
                    std::thread::yield_now();
                }
                if limit.passed() {
                    break;
                }
            }
            stop.store(true, SeqCst);
            assert_eq!(taken.load(SeqCst), pushed);
        });
    }
}
