//! Jobs with a concurrency key: each key is a *flow*, first in, first out within a priority, and flows take
//! turns.
//!
//! # The protocol
//!
//! A queue gets a desk for its flows with the first job that has a key; queues without such jobs pay one look
//! for it. What the desk keeps is [`Turns`], behind one lock:
//!
//! * **Push.** A job that is queued gets a ticket with the desk instead of one in its [lane](super::lane), under
//!   its record's lock. The record notes the number of the entry, so taking it out again (cancelled, evicted,
//!   expired) is exact and leaves nothing stale.
//! * **Claim.** The claimer takes the next turn of a lane: the ticket leaves the desk and its key counts one
//!   more running *before* the record is locked, so a limit holds at every instant. If the record says that
//!   the job is not to be started after all, the count is given back.
//! * **End.** Whatever takes a job out of running (an answer, a retry, a lost lease) counts its key down, under
//!   its record's lock. A job that ran when its process died counts as running until somebody decides.
//! * **Waking.** A change that lets a key start jobs again (an end, a higher limit, its time) puts its strands
//!   into the rings, marks their lanes, and rings [`Signals::work`](crate::engine::Signals::work) for them. A
//!   claim looks at a lane after it has seen the mark, and a waiter looks once more after it has registered,
//!   so no job that may start is overlooked.
//!
//! Rates need no thread: the next time at which a key may start is in the engine's [due times](super::due), and
//! a claim that comes later than that lets the keys in by itself.
//!
//! # Limits
//!
//! Jobs with a key are never [spilled](super::spill) and are not among those that take the newest first: a flow
//! keeps its order. A flow has one turn per priority. A turn looks at the ring of every kind of which the lane
//! ever had such a job, and a key that begins or stops to be able to start moves a strand for each of its
//! priorities and kinds. Other limits for all keys than at the last claim are a look at every key. A key without
//! jobs is forgotten, unless it has a limit of its own; one whose rate is partly used up is kept until that is
//! over, and looked for about once a second.

mod book;
mod chain;
mod pool;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::hash_map::RandomState;
use std::sync::OnceLock;

use self::book::Print;
use self::turns::Turns;
pub(super) use self::turns::{Taken, Turn};
use super::MemoryEngine;
use super::after::After;
use super::due::Due;
use super::flags::Listed;
use super::lane::{Lane, Lanes};
use super::latch::{Mutex, MutexGuard};
use super::place::Ticket;
use super::queue::Queue;
use super::record::Record;
use super::session::Session;
use crate::engine::{Claim, KeyLimits, KeyStanding};
use crate::job::{Priority, State};
use crate::names::QueueId;
use crate::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use crate::time::Timestamp;

/// A queued job of a flow: its slot, and its record.
pub(super) type InFlow<'a> = (u32, MutexGuard<'a, Record>);

/// The flows of one queue, if it ever had one.
#[derive(Debug, Default)]
pub(super) struct Flows(OnceLock<Box<Desk>>);

#[derive(Debug)]
struct Desk {
    turns: Mutex<Turns>,
    secret: RandomState,
    /// When a key may start that only time holds back.
    wake: AtomicI64,
    /// How many keys have jobs and may start none.
    parked: AtomicUsize,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            turns: Mutex::default(),
            secret: RandomState::new(),
            wake: AtomicI64::new(Timestamp::MAX.as_micros()),
            parked: AtomicUsize::new(0),
        }
    }
}

impl Flows {
    fn desk(&self) -> &Desk {
        self.0.get_or_init(Box::default)
    }

    /// When a key may start that only time holds back.
    fn wake(&self) -> Timestamp {
        let desk = self.0.get();
        desk.map_or(Timestamp::MAX, |desk| {
            Timestamp::from_micros(desk.wake.load(SeqCst))
        })
    }
}

impl Desk {
    /// One look at the turns, and word of what it changed.
    fn visit<R>(&self, due: &Due, after: &mut After, act: impl FnOnce(&mut Turns) -> R) -> R {
        let mut turns = self.turns.lock();
        let result = act(&mut turns);
        after.ready += std::mem::take(&mut turns.news);
        if turns.parked != self.parked.load(SeqCst) {
            self.parked.store(turns.parked, SeqCst);
        }
        let wake = turns.next_wake();
        if wake.as_micros() != self.wake.load(SeqCst) {
            self.wake.store(wake.as_micros(), SeqCst);
            after.sooner |= due.note_keys(wake);
        }
        result
    }
}

impl Session<'_> {
    fn visit<R>(
        &mut self,
        queue: &Queue,
        act: impl FnOnce(&mut Turns, &RandomState, &Lanes, Timestamp) -> R,
    ) -> R {
        let (desk, now) = (queue.flows.desk(), self.now);
        desk.visit(&self.engine.shared.due, self.after, |turns| {
            act(turns, &desk.secret, &queue.lanes, now)
        })
    }

    /// Puts a queued job that has a concurrency key at the end of its flow; or, if it comes `back`, where it stood.
    pub(super) fn join_flow(&mut self, record: &mut Record, slot: u32, back: bool) {
        let shared = &self.engine.shared;
        let queue = shared.queues.get(record.queue());
        let (lane, desk) = (queue.lanes.lane(record.priority()), queue.flows.desk());
        let name = record.concurrency_key().unwrap_or_default();
        let named = (name, Print::of(name, &desk.secret));
        let what = (record.kind(), record.priority());
        let (now, place) = (self.now, record.order());
        let (order, entry) = desk.visit(&shared.due, self.after, |turns| {
            // Under the lock: the order of the places is that of the flow.
            let order = if back { place } else { lane.next_order() };
            let ticket = Ticket::new(order, slot);
            (order, turns.push(&queue.lanes, named, what, (ticket, back), now))
        });
        record.line_up(order, Listed::Flow);
        record.set_flow(entry);
    }

    /// Takes a queued job out of its flow.
    pub(super) fn leave_flow(&mut self, record: &Record, slot: u32) {
        let queue = self.engine.shared.queues.get(record.queue());
        let entry = (record.flow(), Ticket::new(record.order(), slot));
        self.visit(queue, |turns, _, lanes, now| turns.remove(lanes, entry, now));
    }

    /// Counts a job as running no more.
    pub(super) fn end_in_flow(&mut self, record: &Record) {
        let key = record.flow();
        let queue = self.engine.shared.queues.get(record.queue());
        self.visit(queue, |turns, _, lanes, now| turns.end(lanes, key, now));
    }

    /// Counts a job as running that a store underneath says ran.
    pub(super) fn adopt_in_flow(&mut self, record: &mut Record) {
        let Some(name) = record.concurrency_key() else {
            return;
        };
        let queue = self.engine.shared.queues.get(record.queue());
        let key = self.visit(queue, |turns, secret, lanes, now| {
            turns.adopt(lanes, (name, Print::of(name, secret)), now)
        });
        record.set_flow(key);
    }

    /// Whose turn it is in a lane that has flows.
    pub(super) fn next_turn(&mut self, queue: &Queue, lane: &Lane, claim: &Claim<'_>) -> Turn {
        self.visit(queue, |turns, _, lanes, now| {
            turns.clock = now;
            turns.limit_all(lanes, claim.keys, now);
            turns.take(lanes, lane.priority(), claim.kinds, now)
        })
    }

    /// Gives back a turn whose job could not be started.
    pub(super) fn give_turn_back(&mut self, queue: &Queue, key: u32) {
        self.visit(queue, |turns, _, lanes, now| turns.give_back(lanes, key, now));
    }

    /// Lets those keys of a queue start jobs whose time has come.
    #[inline]
    pub(super) fn wake_flows(&mut self, queue: &Queue) {
        if queue.flows.wake() <= self.now {
            self.wake_due(queue);
        }
    }

    #[cold]
    fn wake_due(&mut self, queue: &Queue) {
        self.visit(queue, |turns, _, lanes, now| {
            turns.clock = now;
            turns.wake(lanes, now);
        });
    }

    /// Whether a claim that found too little says other limits than the last one, by which keys were parked.
    #[inline]
    pub(super) fn limits_changed(&mut self, queue: &Queue, limits: KeyLimits) -> bool {
        let desk = queue.flows.0.get();
        let parked = desk.is_some_and(|desk| desk.parked.load(SeqCst) > 0);
        parked && self.visit(queue, |turns, _, lanes, now| turns.limit_all(lanes, limits, now))
    }
}

impl<'a> Session<'a> {
    /// The job that was queued first of those that a key has at its lowest priority.
    pub(super) fn first_of_key(&mut self, queue: &'a Queue, key: &str) -> Option<InFlow<'a>> {
        self.first_in_flow(queue, |turns, secret| {
            turns.first_of((key, Print::of(key, secret)))
        })
    }

    /// The same of the key with the most queued jobs, if they are more than `than`. Which key that is, is found
    /// by a look at some of them: a longer one is overlooked for a while if it has got no job since the longest
    /// one of its time became shorter.
    pub(super) fn first_of_long_flow(&mut self, queue: &'a Queue, than: usize) -> Option<InFlow<'a>> {
        self.first_in_flow(queue, |turns, _| turns.first_of_longest(than))
    }

    /// The first job of some flow of the lowest priority that has a job with a key, if it is under `below`.
    pub(super) fn first_of_lowest(&mut self, queue: &'a Queue, below: Priority) -> Option<InFlow<'a>> {
        self.first_in_flow(queue, |turns, _| {
            let (_, ticket) = turns
                .first_of_lowest()
                .filter(|(priority, _)| *priority < below)?;
            Some(ticket)
        })
    }

    /// The same, however high its priority is.
    pub(super) fn first_of_some_flow(&mut self, queue: &'a Queue) -> Option<InFlow<'a>> {
        self.first_in_flow(queue, |turns, _| Some(turns.first_of_lowest()?.1))
    }

    fn first_in_flow(
        &mut self,
        queue: &'a Queue,
        mut find: impl FnMut(&mut Turns, &RandomState) -> Option<Ticket>,
    ) -> Option<InFlow<'a>> {
        let slab = &self.engine.slab;
        queue.flows.0.get()?;
        loop {
            // The desk is locked after a record, so the record may have changed when it is locked in turn. Then
            // the job has left the desk, and another one is first.
            let ticket = self.visit(queue, |turns, secret, _, _| find(turns, secret))?;
            let record = slab.lock(ticket.slot()).filter(|record| {
                let queued = record.taken() && record.state() == State::Queued;
                let lane = queue.lanes.lane(record.priority());
                queued
                    && record.listed() == Listed::Flow
                    && lane.is_for(record.queue(), record.priority())
                    && ticket.is_of(record.order())
            });
            if let Some(record) = record {
                return Some((ticket.slot(), record));
            }
        }
    }
}

impl MemoryEngine {
    /// Lets the keys of all queues start jobs whose time has come; says when the next one's comes. Every stripe
    /// is locked.
    pub(super) fn wake_all_flows(&self, session: &mut Session<'_>) -> Timestamp {
        let queues = self.names.queues();
        let queues = queues.iter().filter_map(|(id, _)| self.shared.queues.find(*id));
        let wakes = queues.map(|queue| {
            session.wake_flows(queue);
            queue.flows.wake()
        });
        wakes.min().unwrap_or(Timestamp::MAX)
    }

    /// Gives one key a limit of its own, or takes it away.
    pub(super) fn limit_flow(&self, queue: QueueId, key: &str, limit: Option<u32>) {
        let (mut after, mut stripe) = (After::default(), self.stripes.mine());
        let mut session = self.session(&mut stripe, &mut after, Timestamp::EPOCH);
        let queue = self.shared.queues.get(queue);
        session.visit(queue, |turns, secret, lanes, _| {
            let now = turns.clock;
            turns.limit(lanes, (key, Print::of(key, secret)), limit, now);
        });
        drop(stripe);
        self.settle(&mut after);
    }

    /// Where a key stands.
    pub(super) fn flow_standing(&self, queue: QueueId, key: &str) -> Option<KeyStanding> {
        let desk = self.shared.queues.find(queue)?.flows.0.get()?;
        let turns = desk.turns.lock();
        turns.standing((key, Print::of(key, &desk.secret)), turns.clock)
    }
}
