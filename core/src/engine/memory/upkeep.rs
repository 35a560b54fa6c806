//! What time brings: scheduled jobs that may start, jobs that are overdue, finished jobs that are
//! forgotten, lanes that are tidied.

use super::MemoryEngine;
use super::after::After;
use super::finished::Fate;
use super::flags::Listed;
use super::session::{Found, Session, overdue};
use super::slab::MAGAZINE;
use super::stripe::{self, STRIPES};
use crate::engine::{Overdue, Retention, Tick};
use crate::job::Priority;
use crate::names::QueueId;
use crate::time::Timestamp;

/// The most jobs that are handled while all stripes are locked.
const SESSION: usize = 64;
/// The most finished jobs that are forgotten beyond what must be, so that not every end of a job has to.
const EXTRA: usize = 256;

impl MemoryEngine {
    /// Queues up to `limit` scheduled jobs whose time has come, in the order of (time, push). One load if
    /// there are none.
    #[inline]
    pub(super) fn promote(&self, limit: usize, now: Timestamp, after: &mut After) -> usize {
        if self.shared.due.start.get() > now {
            return 0;
        }
        self.promote_due(limit, now, after)
    }

    #[cold]
    fn promote_due(&self, limit: usize, now: Timestamp, after: &mut After) -> usize {
        let mut promoted = 0;
        while promoted < limit && self.shared.due.start.get() <= now {
            let (mut stripes, number) = (self.stripes.lock_all(), stripe::number());
            let mut session = Session::new(self, (number, &mut stripes[number]), after, now);
            promoted += self.promote_some(&mut session, SESSION.min(limit - promoted));
            self.shared.due.start.set(self.next_start());
        }
        promoted
    }

    fn promote_some(&self, session: &mut Session<'_>, most: usize) -> usize {
        for count in 0..most {
            match self.agenda.first_start() {
                Some((timer, slot)) if timer.at <= session.now => session.promote(slot),
                _ => return count,
            }
        }
        most
    }

    fn next_start(&self) -> Timestamp {
        self.agenda
            .first_start()
            .map_or(Timestamp::MAX, |(timer, _)| timer.at)
    }

    /// As [`Self::promote`], and finds out when to come back.
    pub(super) fn tick_to(&self, limit: usize, now: Timestamp, after: &mut After) -> Tick {
        let promoted = self.promote(limit, now, after);
        let mut stripes = self.stripes.lock_all();
        if self.shared.due.keys.get() <= now {
            let number = stripe::number();
            let mut session = Session::new(self, (number, &mut stripes[number]), after, now);
            let keys = self.wake_all_flows(&mut session);
            self.shared.due.keys.set(keys);
        }
        let mut end = self.agenda.first_end();
        for (number, stripe) in stripes.iter_mut().enumerate() {
            end = end.min(Session::new(self, (number, stripe), after, now).next_end());
        }
        self.shared.due.start.set(self.next_start());
        self.shared.due.end.set(end);
        let next = self.shared.due.next();
        Tick { promoted, next }
    }

    /// Appends up to `limit` overdue jobs.
    pub(super) fn find_overdue(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) {
        if self.shared.due.end.get() > now {
            return;
        }
        let full = out.len().saturating_add(limit);
        let mut after = After::default();
        for number in 0..STRIPES {
            let mut stripe = self.stripes.lock(number);
            Session::new(self, (number, &mut stripe), &mut after, now).overdue(full, out);
        }
        for slot in self.agenda.overdue(full - out.len(), now) {
            let record = self
                .slab
                .lock(slot)
                .filter(|r| r.taken() && r.state().is_waiting());
            out.extend(record.filter(|r| r.deadline() <= now).map(|r| overdue(&r, slot)));
        }
    }

    /// Forgets up to `limit` finished jobs, by age first, then by number.
    pub(super) fn forget(&self, keep: Retention, limit: usize, after: &mut After) -> usize {
        let one = self.shared.forgetting.lock();
        let mut slots = Vec::new();
        for age in [
            (Fate::Succeeded, keep.succeeded_before),
            (Fate::Other, keep.others_before),
        ] {
            self.finished.take_before(age, limit, &mut slots);
        }
        let count = self.forget_all(&slots, after);
        let kept = self.kept();
        let count = count + self.forget_oldest(kept.saturating_sub(keep.most).min(limit - count), after);
        drop(one);
        after.excess |= self.too_many();
        count
    }

    /// Forgets the oldest finished jobs if there are too many, or if a pusher needs their slots before long
    /// and there will be too many soon.
    ///
    /// A pusher is the one to forget, if it can be: it is about to write those slots, and whoever forgets has to
    /// fetch them from far away.
    #[inline]
    pub(super) fn make_room(&self, after: &mut After) {
        if after.excess || after.hungry && self.shared.nearly_full() {
            self.forget_some(after);
        }
    }

    #[cold]
    fn forget_some(&self, after: &mut After) {
        let (mut excess, mut hungry) = (after.excess, after.hungry);
        (after.excess, after.hungry) = (false, false);
        let most = self.shared.most_kept();
        // Who finds another one at it leaves it to that one, who looks once more when it is done.
        while let Some(one) = self.shared.forgetting.try_lock() {
            let kept = if excess { self.kept() } else { 0 };
            let count = match kept.saturating_sub(most) {
                over if hungry => over.max(MAGAZINE),
                0 => 0,
                over => over + (self.shared.keep / 16).min(EXTRA),
            };
            let forgotten = self.forget_oldest(count, after);
            drop(one);
            if count > 0 && forgotten == 0 || !self.too_many() {
                break;
            }
            (excess, hungry) = (true, false);
        }
    }

    /// Whether more finished jobs are counted than are to be kept. Asked after leaving the right to forget:
    /// whoever was refused it has counted before, and this change of the count, which changes nothing, comes
    /// after that one or before its attempt.
    fn too_many(&self) -> bool {
        self.shared.kept_with(0) > self.shared.most_kept()
    }

    /// How many finished jobs are kept, those included that have not been counted in.
    fn kept(&self) -> usize {
        self.shared.kept_with(self.finished.take_uncounted() as i64)
    }

    /// Forgets this many jobs, oldest first.
    fn forget_oldest(&self, count: usize, after: &mut After) -> usize {
        if count == 0 {
            return 0;
        }
        self.forget_all(&self.finished.take_oldest(count), after)
    }

    /// Forgets jobs that were taken out of their lines.
    fn forget_all(&self, slots: &[u32], after: &mut After) -> usize {
        self.shared.kept_with(-(slots.len() as i64));
        for some in slots.chunks(SESSION) {
            let mut stripe = self.stripes.mine();
            let mut session = self.session(&mut stripe, after, Timestamp::EPOCH);
            some.iter().for_each(|slot| self.slab.prefetch(*slot));
            some.iter().for_each(|slot| session.forget(*slot));
        }
        slots.len()
    }

    /// Moves the live tickets of a lane aside if too many are stale, so that its line is empty. Returns
    /// whether a claimer may have looked for a job while it was in our hands.
    pub(super) fn tidy(&self, (queue, priority): (QueueId, Priority), after: &mut After) -> bool {
        let queue = self.shared.queues.get(queue);
        let lane = queue.lanes.lane(priority);
        let Some(_one) = lane.tidy().filter(|_| lane.littered()) else {
            return false;
        };
        let (mut ring, mut stripe) = (false, self.stripes.mine());
        let mut session = self.session(&mut stripe, after, Timestamp::EPOCH);
        for _ in 0..lane.len() {
            let popped = queue.lanes.pop(lane);
            ring |= popped.ring;
            let Some(first) = popped.first else { break };
            let found = Found {
                ticket: first.ticket,
                lane,
                lanes: &queue.lanes,
                listed: Listed::Lane,
                key: 0,
            };
            if session.tidy(found) {
                ring = true;
            } else {
                lane.swept();
            }
        }
        ring
    }
}
