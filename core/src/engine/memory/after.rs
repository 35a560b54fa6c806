//! What a call still has to do once it holds no lock.
//!
//! Bells wake threads, payloads of the host run the host's code when they are dropped, and keys are locked
//! before stripes, never after: none of that may happen under a lock.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::bell::Bell;
use crate::durability::Durability;
use crate::engine::Signals;
use crate::id::JobId;
use crate::job::{Extras, Priority, State};
use crate::names::QueueId;
use crate::payload::Payload;

thread_local! {
    /// The emptied lists of this thread's last call: a finish must not allocate.
    static SPARE: Cell<Option<Box<Lists>>> = const { Cell::new(None) };
}

/// The room in its lists that a thread keeps.
const SPARE_CAPACITY: usize = 256;

/// Things left for later.
#[derive(Debug, Default)]
pub(super) struct After {
    /// Jobs that can now be claimed.
    pub(super) ready: usize,
    /// Whether jobs can be claimed by others than those who were told.
    pub(super) everyone: bool,
    /// Whether a queue has room again.
    pub(super) room: bool,
    /// Whether the next due time came forward.
    pub(super) sooner: bool,
    /// Whether more finished jobs are kept than should be.
    pub(super) excess: bool,
    /// Whether the next push finds no free slot in its stripe.
    pub(super) hungry: bool,
    /// Whether a lane should be filled up from the store underneath.
    pub(super) hungry_lane: bool,
    /// Whether the store underneath is not to be told that there is something for it.
    pub(super) quiet: bool,
    /// The group of the store underneath that will have what was changed.
    pub(super) group: u64,
    /// What somebody wants to hear of it.
    pub(super) want: Durability,
    /// The first of those that ended, and of the payloads that nobody needs: most calls have no second one, and
    /// then ask for no list.
    ended: Option<(JobId, State)>,
    trash: Option<Payload>,
    lists: Option<Box<Lists>>,
}

/// What most pushes and claims have none of.
#[derive(Debug, Default)]
struct Lists {
    /// Other jobs that ended, and how.
    ended: Vec<(JobId, State)>,
    /// Other payloads that nobody needs.
    trash: Vec<Payload>,
    /// Keys whose job was cancelled or forgotten.
    freed: Vec<(Arc<Extras>, JobId)>,
    /// Lanes with too many stale tickets.
    littered: Vec<(QueueId, Priority)>,
}

impl After {
    /// A job has ended in this state.
    #[inline(always)]
    pub(super) fn end(&mut self, id: JobId, state: State) {
        match self.ended {
            None => self.ended = Some((id, state)),
            Some(_) => self.lists().ended.push((id, state)),
        }
    }

    /// Nobody needs this payload any more.
    #[inline]
    pub(super) fn drop_later(&mut self, payload: Payload) {
        match self.trash {
            None => self.trash = Some(payload),
            Some(_) => self.lists().trash.push(payload),
        }
    }

    /// This job no longer holds the key of these extras.
    pub(super) fn free(&mut self, extras: Arc<Extras>, id: JobId) {
        self.lists().freed.push((extras, id));
    }

    /// This lane has too many stale tickets.
    pub(super) fn litter(&mut self, lane: (QueueId, Priority)) {
        let littered = &mut self.lists().littered;
        if littered.last() != Some(&lane) {
            littered.push(lane);
        }
    }

    /// The keys that jobs no longer hold.
    pub(super) fn freed(&self) -> &[(Arc<Extras>, JobId)] {
        self.lists.as_ref().map_or(&[], |lists| &lists.freed)
    }

    /// The lanes with too many stale tickets; there are none after that.
    pub(super) fn take_littered(&mut self) -> Vec<(QueueId, Priority)> {
        let lists = self.lists.as_mut();
        lists
            .map(|lists| std::mem::take(&mut lists.littered))
            .unwrap_or_default()
    }

    /// Whether there may be lanes or keys among what is left.
    #[inline]
    pub(super) fn has_lists(&self) -> bool {
        self.lists.is_some()
    }

    #[inline(never)]
    fn lists(&mut self) -> &mut Lists {
        // Nothing is spare while the thread ends, or in a call that such a payload makes when it is dropped.
        let spare = || SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default();
        self.lists.get_or_insert_with(spare)
    }

    /// Rings the bells.
    #[inline]
    pub(super) fn ring(&self, signals: &Signals) {
        // Whoever registers with a bell looks once more afterwards. He sees what was written before this
        // fence, or his registration is seen after it.
        fence(Ordering::SeqCst);
        if self.everyone {
            shout(&signals.work);
        } else if self.ready > 0 {
            // As many as there are jobs, and no more than there are waiters.
            let waiting = signals.work.waiting();
            (0..self.ready.min(waiting)).for_each(|_| signals.work.ring());
        }
        if self.room {
            shout(&signals.space);
        }
        if self.sooner {
            shout(&signals.upkeep);
        }
        if self.ended.is_some() && signals.finished.waiters() > 0 {
            let others = self.lists.as_ref().map_or(&[][..], |lists| &lists.ended);
            for (id, state) in self.ended.iter().chain(others) {
                signals.finished.ring(*id, Some(*state));
            }
        }
    }
}

impl Drop for After {
    #[inline]
    fn drop(&mut self) {
        if let Some(lists) = self.lists.take() {
            lists.put_away();
        }
    }
}

impl Lists {
    #[inline(never)]
    fn put_away(mut self: Box<Self>) {
        let lists = &mut self;
        // Dropping a payload may run code of the host that calls us again: these lists are nobody's then.
        lists.trash.clear();
        lists.ended.clear();
        lists.freed.clear();
        lists.littered.clear();
        if lists.trash.capacity().max(lists.ended.capacity()) <= SPARE_CAPACITY {
            // While the thread ends there is nowhere to put them.
            let _ = SPARE.try_with(|spare| spare.set(Some(self)));
        }
    }
}

/// Wakes everybody, without a write if there is nobody. After a fence.
pub(super) fn shout(bell: &Bell) {
    if bell.waiting() > 0 {
        bell.ring_all();
    }
}
