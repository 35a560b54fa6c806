//! What time brings: scheduled jobs that may start, jobs that are overdue, finished jobs that are
//! forgotten, lanes that are tidied.

use super::MemoryEngine;
use super::after::After;
use super::finished::Fate;
use super::place::{Place, SHARDS};
use super::record::Listed;
use super::shard::Found;
use super::shards::Locked;
use crate::engine::{Overdue, Retention, Tick};
use crate::job::Priority;
use crate::names::QueueId;
use crate::time::Timestamp;

/// The most jobs that are handled while all shards are locked.
const SESSION: usize = 64;

impl MemoryEngine {
    /// Queues up to `limit` scheduled jobs whose time has come, in the order of (time, push) over all
    /// shards. One load if there are none.
    pub(super) fn promote(&self, limit: usize, now: Timestamp, after: &mut After) -> usize {
        let mut promoted = 0;
        while promoted < limit && self.shared.due.start.get() <= now {
            let mut shards = self.shards.lock_all();
            promoted += self.promote_some(&mut shards, SESSION.min(limit - promoted), now, after);
            self.shared.due.start.set(next_start(&shards));
        }
        promoted
    }

    fn promote_some(&self, shards: &mut Locked<'_>, most: usize, now: Timestamp, after: &mut After) -> usize {
        for count in 0..most {
            let firsts = (0..SHARDS).filter_map(|n| Some((*shards[n].next_start()?, n)));
            match firsts.min() {
                Some((timer, n)) if timer.at <= now => {
                    shards[n].promote(timer.slot, now, &self.shared, after);
                }
                _ => return count,
            }
        }
        most
    }

    /// As [`Self::promote`], and finds out when to come back.
    pub(super) fn tick_to(&self, limit: usize, now: Timestamp, after: &mut After) -> Tick {
        let promoted = self.promote(limit, now, after);
        let shards = self.shards.lock_all();
        let end = shards.iter().map(|s| s.next_end()).min();
        self.shared.due.start.set(next_start(&shards));
        self.shared.due.end.set(end.unwrap_or(Timestamp::MAX));
        let next = self.shared.due.next();
        Tick { promoted, next }
    }

    /// Appends up to `limit` overdue jobs.
    pub(super) fn find_overdue(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) {
        if self.shared.due.end.get() > now {
            return;
        }
        let full = out.len().saturating_add(limit);
        for number in 0..SHARDS {
            self.shards.lock(number).overdue(full, now, out);
        }
    }

    /// Forgets up to `limit` finished jobs, by age first, then by number.
    pub(super) fn forget(&self, keep: Retention, limit: usize, after: &mut After) -> usize {
        let _one = self.shared.forgetting.lock();
        let mut count = 0;
        let ages = [
            (Fate::Succeeded, keep.succeeded_before),
            (Fate::Other, keep.others_before),
        ];
        for number in 0..SHARDS {
            for age in ages {
                let mut shard = self.shards.lock(number);
                count += shard.forget_before(age, limit - count, after);
            }
        }
        let kept = self.shared.count_kept(-(count as i64));
        count + self.forget_oldest(kept.saturating_sub(keep.most).min(limit - count), after)
    }

    /// Forgets the oldest finished jobs if there are too many; a few more than needed, so that not every
    /// end of a job has to.
    pub(super) fn forget_excess(&self, after: &mut After) {
        let keep = self.shared.keep;
        if after.kept == 0 || self.shared.count_kept(after.kept as i64) <= keep {
            return;
        }
        let _one = self.shared.forgetting.lock();
        let kept = self.shared.count_kept(0);
        if kept > keep {
            self.forget_oldest(kept - keep + (keep / 16).min(SESSION), after);
        }
    }

    fn forget_oldest(&self, count: usize, after: &mut After) -> usize {
        let mut forgotten = 0;
        while forgotten < count {
            let some = forget_some(&mut self.shards.lock_all(), SESSION.min(count - forgotten), after);
            self.shared.count_kept(-(some as i64));
            forgotten += some;
            if some == 0 {
                break;
            }
        }
        forgotten
    }

    /// Moves the live tickets of a lane aside if too many are stale, so that its line is empty. Returns
    /// whether a claimer may have looked for a job while it was in our hands.
    pub(super) fn tidy(&self, (queue, priority): (QueueId, Priority)) -> bool {
        let queue = self.shared.queues.get(queue);
        let lane = queue.lanes.lane(priority);
        let Some(_one) = lane.tidy().filter(|_| lane.littered()) else {
            return false;
        };
        let mut ring = false;
        for _ in 0..lane.len() {
            let popped = queue.lanes.pop(lane);
            ring |= popped.ring;
            let Some(ticket) = popped.ticket else { break };
            let found = Found {
                ticket,
                lane,
                lanes: &queue.lanes,
                listed: Listed::Lane,
            };
            if self.shards.lock(ticket.shard()).tidy(found) {
                ring = true;
            } else {
                lane.swept();
            }
        }
        ring
    }
}

fn next_start(shards: &Locked<'_>) -> Timestamp {
    let next = shards.iter().filter_map(|s| Some(s.next_start()?.at)).min();
    next.unwrap_or(Timestamp::MAX)
}

/// Forgets up to `most` jobs, oldest first over all shards. Jobs in a row often share a shard, so a shard is
/// left only when another has an older one.
fn forget_some(shards: &mut Locked<'_>, most: usize, after: &mut After) -> usize {
    let mut count = 0;
    while count < most {
        let mut oldest: Vec<_> = (0..SHARDS)
            .filter_map(|n| Some((shards[n].oldest()?, n)))
            .collect();
        oldest.sort_unstable();
        let Some((_, shard)) = oldest.first().copied() else {
            break;
        };
        let other = oldest.get(1).map_or(u64::MAX, |(order, _)| *order);
        while count < most && shards[shard].oldest().is_some_and(|order| order < other) {
            shards[shard].forget_oldest(after);
            count += 1;
        }
    }
    count
}
