//! Whose turn it is: the flows of one queue, without a lock.
//!
//! A *key* has a *strand* of tickets for every priority and kind of which it has a queued job. While the key
//! may start a job, its strands are in *rings*, one ring per priority and kind, so a claim never looks at a
//! flow that it cannot take from. A flow that had its turn goes to the end of its rings with a new stamp;
//! of several rings the one whose first stamp is lowest is next, so flows take turns across kinds as well.
//! Jobs without a key are one more flow of their priority, whose stamp is kept beside the rings.
//!
//! A key that may start nothing, because enough of its jobs run or because its rate is used up, has its
//! strands in no ring: it costs a claim nothing. It is looked at again when one of its jobs ends, when its
//! time comes and when its limit changes.

mod victims;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::lane::Lanes;
use super::super::place::Ticket;
use super::super::timers::Timers;
use super::book::{Book, Print};
use super::chain::{Chain, Linked, Links, next};
use super::pool::{NIL, Pool};
use crate::admission::Gcra;
use crate::engine::{KeyLimits, KeyStanding, KindClaim};
use crate::job::Priority;
use crate::names::KindId;
use crate::time::Timestamp;

/// Keys that only their rate keeps here are looked through no more often than this.
const SWEEP: Duration = Duration::from_secs(1);
/// And no more of them at once.
const SWEPT: usize = 4096;

/// The flows of one queue.
#[derive(Debug, Default)]
pub(super) struct Turns {
    keys: Pool<Key>,
    book: Book,
    strands: Pool<Strand>,
    entries: Pool<Entry>,
    rings: BTreeMap<Priority, Rings>,
    /// The last stamp that was given.
    stamp: u64,
    /// What the last claim said.
    limits: KeyLimits,
    /// The time that the last claim or tick said, for calls that say none.
    pub(super) clock: Timestamp,
    /// When those keys may start a job that only their rate holds back.
    starts: Timers,
    /// Keys of which nothing is here but a rate that is partly used up, and some that are in use again.
    resting: VecDeque<u32>,
    /// When the resting ones are looked through.
    sweep: Timestamp,
    /// The key that had the most queued jobs when one of its own came last.
    fullest: u32,
    /// Where the search for a longer flow goes on.
    cursor: u32,
    /// How many jobs may start that could not when somebody looked last.
    pub(super) news: usize,
    /// How many keys have jobs and may start none.
    pub(super) parked: usize,
}

/// What is known about one key.
#[derive(Debug)]
struct Key {
    name: Box<str>,
    print: Print,
    /// How far its rate is used up.
    used: Gcra,
    queued: u32,
    running: u32,
    /// The most that may run, if it has a limit of its own.
    limit: Option<u32>,
    /// The first of its strands.
    strands: u32,
    standing: Standing,
    /// Whether it is among the resting ones.
    resting: bool,
}

/// Whether a key may start a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It may: its strands are in the rings.
    Free,
    /// As many run as may.
    Full,
    /// Not before its time.
    Waits,
    /// There is no such key any more.
    Gone,
}

/// The queued jobs of one key, priority and kind, in order.
#[derive(Debug)]
struct Strand {
    /// When its flow had its last turn, as a number that grows.
    stamp: u64,
    entries: Chain,
    /// Its neighbours in the ring, or among those that are in none.
    links: Links,
    key: u32,
    /// The next strand of the key.
    sibling: u32,
    kind: KindId,
    priority: Priority,
    in_ring: bool,
}

/// A queued job.
#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    links: Links,
    /// Nobody's once the job has left.
    strand: u32,
}

/// The rings of one priority.
#[derive(Debug, Default)]
struct Rings {
    /// The stamp of the jobs without a key.
    line: u64,
    rings: Vec<Ring>,
    /// The strands whose keys may start nothing.
    parked: Chain,
}

/// The strands of one priority and kind whose keys may start a job, least recently served first.
#[derive(Debug)]
struct Ring {
    kind: KindId,
    strands: Chain,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Turn {
    /// This job's: it counts as running from now on.
    Flow(Taken),
    /// One of the jobs without a key, if there is one.
    Line,
    /// No flow has a job for this claim.
    Nobody,
}

/// A job that was taken out of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Taken {
    pub(in super::super) ticket: Ticket,
    /// The number of its key, for [`Turns::end`] or [`Turns::give_back`].
    pub(in super::super) key: u32,
    /// One that is to be taken a little later, if nobody comes in between.
    pub(in super::super) later: Option<Ticket>,
}

impl Linked for Strand {
    fn links(&self) -> Links {
        self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Linked for Entry {
    fn links(&self) -> Links {
        self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Turns {
    /// Puts a job at the end of its flow, or, if it comes `back`, where it stood before it was taken; returns the
    /// number of its entry.
    pub(super) fn push(
        &mut self,
        lanes: &Lanes,
        (name, print): (&str, Print),
        (kind, priority): (KindId, Priority),
        (ticket, back): (Ticket, bool),
        now: Timestamp,
    ) -> u32 {
        let key = self.find_or_add(name, print);
        let strand = self.strand(key, kind, priority);
        let entry = self.entries.add(Entry {
            ticket,
            links: Links::default(),
            strand,
        });
        let (mut after, entries) = (None, &mut self.strands[strand].entries);
        if back {
            // Few came back before it, or it would not have been taken.
            after = entries.first();
            while let Some(other) = after.filter(|other| self.entries[*other].ticket.is_before(ticket)) {
                after = next(&self.entries, other);
            }
        }
        match after {
            Some(after) => entries.insert(&mut self.entries, entry, after),
            None => entries.push(&mut self.entries, entry),
        }
        self.count(key, 1);
        if self.keys[key].standing == Standing::Free {
            self.news += 1;
            self.enter(lanes, strand);
        } else {
            self.review(lanes, key, now);
        }
        entry
    }

    /// Takes a queued job out of its flow, unless a claimer has just taken it, who will find that it is not to be
    /// started.
    pub(super) fn remove(&mut self, lanes: &Lanes, (entry, ticket): (u32, Ticket), now: Timestamp) {
        let there = &self.entries[entry];
        if there.strand != NIL && there.ticket == ticket {
            let key = self.detach(lanes, entry);
            self.settle(lanes, key, now);
        }
    }

    /// Whose turn it is among the flows of a priority that have a job of a kind that is asked for.
    pub(super) fn take(
        &mut self,
        lanes: &Lanes,
        priority: Priority,
        kinds: &[KindClaim],
        now: Timestamp,
    ) -> Turn {
        let asked = |kind: KindId| kinds.get(kind.index()).is_some_and(|k| k.allowance > 0);
        loop {
            let Some(rings) = self.rings.get_mut(&priority) else {
                return Turn::Nobody;
            };
            let firsts = rings.rings.iter().filter(|ring| asked(ring.kind));
            let firsts = firsts.filter_map(|ring| ring.strands.first());
            let Some((stamp, first)) = firsts.map(|s| (self.strands[s].stamp, s)).min() else {
                return Turn::Nobody;
            };
            if rings.line < stamp {
                self.stamp += 1;
                rings.line = self.stamp;
                return Turn::Line;
            }
            let (key, kind) = (self.strands[first].key, self.strands[first].kind);
            let Some(entry) = self.first_entry(key, |s| s.priority == priority && asked(s.kind)) else {
                return Turn::Nobody;
            };
            if self.start(key, now) {
                let ticket = self.entries[entry].ticket;
                self.detach(lanes, entry);
                self.review(lanes, key, now);
                self.pass_on(key, priority);
                let later = self.later(priority, kind);
                return Turn::Flow(Taken { ticket, key, later });
            }
            // The claimer's clock stands before that of the one who found that it may.
            self.review(lanes, key, now);
        }
    }

    /// A running job of the key has ended.
    pub(super) fn end(&mut self, lanes: &Lanes, key: u32, now: Timestamp) {
        self.keys[key].running -= 1;
        self.settle(lanes, key, now);
    }

    /// A job was taken that could not be started: it was not there any more, or too late.
    pub(super) fn give_back(&mut self, lanes: &Lanes, key: u32, now: Timestamp) {
        if let Some(rate) = self.limits.rate {
            self.keys[key].used.give_back(rate, 1);
        }
        self.end(lanes, key, now);
    }

    /// A job of the key runs that was not taken here.
    pub(super) fn adopt(&mut self, lanes: &Lanes, (name, print): (&str, Print), now: Timestamp) -> u32 {
        let key = self.find_or_add(name, print);
        self.keys[key].running += 1;
        self.review(lanes, key, now);
        key
    }

    /// Changes the limits of all keys; says whether they were others.
    pub(super) fn limit_all(&mut self, lanes: &Lanes, limits: KeyLimits, now: Timestamp) -> bool {
        if self.limits == limits {
            return false;
        }
        self.limits = limits;
        for key in 0..self.keys.end() {
            if self.keys[key].standing != Standing::Gone {
                self.settle(lanes, key, now);
            }
        }
        true
    }

    /// Gives one key a limit of its own, or takes it away.
    pub(super) fn limit(
        &mut self,
        lanes: &Lanes,
        (name, print): (&str, Print),
        limit: Option<u32>,
        now: Timestamp,
    ) {
        let known = self.find(name, print);
        let Some(key) = known.or_else(|| limit.map(|_| self.find_or_add(name, print))) else {
            return;
        };
        self.keys[key].limit = limit;
        self.settle(lanes, key, now);
    }

    /// Lets those keys start jobs whose time has come.
    pub(super) fn wake(&mut self, lanes: &Lanes, now: Timestamp) {
        while let Some(timer) = self.starts.first().copied().filter(|timer| timer.at <= now) {
            self.review(lanes, timer.slot, now);
        }
        if self.sweep <= now && !self.resting.is_empty() {
            let some = self.resting.len().min(SWEPT);
            let swept = (0..some).filter(|_| self.sweep_one(now)).count();
            self.sweep = if swept == some { now } else { now.after(SWEEP) };
        }
    }

    /// When [`Turns::wake`] has something to do.
    pub(super) fn next_wake(&self) -> Timestamp {
        let sweep = if self.resting.is_empty() {
            Timestamp::MAX
        } else {
            self.sweep
        };
        self.starts.next().min(sweep)
    }

    /// How a key stands, if anything is known about it.
    pub(super) fn standing(&self, (name, print): (&str, Print), now: Timestamp) -> Option<KeyStanding> {
        let key = &self.keys[self.find(name, print)?];
        let ready = self.limits.rate.map(|rate| key.used.next(rate, now));
        Some(KeyStanding {
            queued: key.queued as usize,
            running: key.running as usize,
            limit: self.most(key),
            ready_at: ready.filter(|at| *at > now),
        })
    }

    /// How many keys, strands and jobs there are.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.keys.len(), self.strands.len(), self.entries.len()]
    }

    fn find(&self, name: &str, print: Print) -> Option<u32> {
        self.book.find(print, |key| *self.keys[key].name == *name)
    }

    fn find_or_add(&mut self, name: &str, print: Print) -> u32 {
        if let Some(key) = self.find(name, print) {
            return key;
        }
        let key = self.keys.add(Key {
            name: name.into(),
            print,
            used: Gcra::default(),
            queued: 0,
            running: 0,
            limit: None,
            strands: NIL,
            standing: Standing::Free,
            resting: false,
        });
        self.book.add(print, key);
        key
    }

    /// The strand of a key for this kind and priority.
    fn strand(&mut self, key: u32, kind: KindId, priority: Priority) -> u32 {
        let mut strands = self.strands_of(key);
        let same = |s: &u32| (self.strands[*s].kind, self.strands[*s].priority) == (kind, priority);
        if let Some(strand) = strands.find(same) {
            return strand;
        }
        drop(strands);
        let strand = self.strands.add(Strand {
            stamp: 0,
            entries: Chain::default(),
            links: Links::default(),
            key,
            sibling: self.keys[key].strands,
            kind,
            priority,
            in_ring: false,
        });
        self.keys[key].strands = strand;
        let parked = &mut self.rings.entry(priority).or_default().parked;
        parked.push(&mut self.strands, strand);
        strand
    }

    fn strands_of(&self, key: u32) -> impl Iterator<Item = u32> {
        let real = |strand| (strand != NIL).then_some(strand);
        std::iter::successors(real(self.keys[key].strands), move |s| {
            real(self.strands[*s].sibling)
        })
    }

    /// The job that was queued first in those strands of a key that `wanted` names.
    fn first_entry(&self, key: u32, wanted: impl Fn(&Strand) -> bool) -> Option<u32> {
        let strands = self.strands_of(key).map(|s| &self.strands[s]);
        let firsts = strands.filter(|s| wanted(s)).filter_map(|s| s.entries.first());
        firsts.reduce(|a, b| {
            let (one, other) = (self.entries[a].ticket, self.entries[b].ticket);
            if other.is_before(one) { b } else { a }
        })
    }

    /// The job whose turn comes after the next one's, if claims go on asking for this kind.
    fn later(&self, priority: Priority, kind: KindId) -> Option<Ticket> {
        let rings = &self.rings.get(&priority)?.rings;
        let first = rings.iter().find(|ring| ring.kind == kind)?.strands.first()?;
        let strand = next(&self.strands, first)?;
        let entry = self.strands[strand].entries.first()?;
        Some(self.entries[entry].ticket)
    }

    /// Takes an entry away, and its strand if it was the last; returns the key.
    fn detach(&mut self, lanes: &Lanes, entry: u32) -> u32 {
        let number = std::mem::replace(&mut self.entries[entry].strand, NIL);
        let strand = &mut self.strands[number];
        let (key, sibling) = (strand.key, strand.sibling);
        strand.entries.remove(&mut self.entries, entry);
        let empty = strand.entries.is_empty();
        self.entries.remove(entry);
        self.count(key, -1);
        if !empty {
            return key;
        }
        self.leave(lanes, number);
        let priority = self.strands[number].priority;
        let parked = &mut self.rings.entry(priority).or_default().parked;
        parked.remove(&mut self.strands, number);
        let before = self.strands_of(key).find(|s| self.strands[*s].sibling == number);
        match before {
            Some(before) => self.strands[before].sibling = sibling,
            None => self.keys[key].strands = sibling,
        }
        self.strands.remove(number);
        key
    }

    /// Counts queued jobs of a key.
    fn count(&mut self, key: u32, change: i32) {
        let entry = &mut self.keys[key];
        let parked = entry.is_parked();
        entry.queued = entry.queued.wrapping_add_signed(change);
        self.parked = self.parked + usize::from(entry.is_parked()) - usize::from(parked);
        self.compare(key);
    }

    /// Counts a job of the key as running, unless its rate is used up.
    fn start(&mut self, key: u32, now: Timestamp) -> bool {
        let rate = self.limits.rate;
        let key = &mut self.keys[key];
        let may = rate.is_none_or(|rate| key.used.take(rate, now, 1) == 1);
        key.running += u32::from(may);
        may
    }

    /// The most jobs of a key that may run, if there is a limit.
    fn most(&self, key: &Key) -> Option<u32> {
        key.limit
            .or((self.limits.running > 0).then_some(self.limits.running))
    }

    /// Whether the key may start a job, and if only its rate is in the way, when.
    fn verdict(&self, key: &Key, now: Timestamp) -> (Standing, Timestamp) {
        if self.most(key).is_some_and(|most| key.running >= most) {
            return (Standing::Full, Timestamp::MAX);
        }
        let at = self.limits.rate.map(|rate| key.used.next(rate, now));
        match at.filter(|at| *at > now) {
            Some(at) => (Standing::Waits, at),
            None => (Standing::Free, Timestamp::MAX),
        }
    }

    /// Puts the strands of a key into their rings if it may start a job, else out of them.
    fn review(&mut self, lanes: &Lanes, number: u32, now: Timestamp) {
        let (standing, at) = self.verdict(&self.keys[number], now);
        let key = &mut self.keys[number];
        let at = if key.queued > 0 { at } else { Timestamp::MAX };
        let (before, parked) = (key.standing, key.is_parked());
        key.standing = standing;
        self.parked = self.parked + usize::from(key.is_parked()) - usize::from(parked);
        if standing == Standing::Waits || before == Standing::Waits {
            self.starts.set(number, at, 0);
        }
        if (before == Standing::Free) == (standing == Standing::Free) {
            return;
        }
        let mut next = self.keys[number].strands;
        while next != NIL {
            let strand = next;
            next = self.strands[strand].sibling;
            match standing {
                Standing::Free => self.enter(lanes, strand),
                _ => self.leave(lanes, strand),
            }
        }
        if standing == Standing::Free {
            let key = &self.keys[number];
            let may = self.most(key).map_or(u32::MAX, |most| most - key.running);
            self.news += key.queued.min(may) as usize;
        }
    }

    /// As [`Turns::review`], and forgets a key of which nothing is left.
    fn settle(&mut self, lanes: &Lanes, number: u32, now: Timestamp) {
        self.review(lanes, number, now);
        if self.keys[number].is_unused() && !self.keys[number].resting {
            self.rest(number, now);
            (0..2).for_each(|_| _ = self.sweep_one(now));
        }
    }

    /// Forgets a key, or keeps it for the sake of its rate.
    fn rest(&mut self, number: u32, now: Timestamp) {
        let key = &mut self.keys[number];
        if !key.used.is_idle(now) {
            key.resting = true;
            self.resting.push_back(number);
            if self.resting.len() == 1 {
                self.sweep = now.after(SWEEP);
            }
            return;
        }
        (key.standing, key.name) = (Standing::Gone, Box::default());
        self.book.remove(key.print, number);
        self.keys.remove(number);
    }

    /// Looks at the key that has rested longest; true if it rests no more.
    fn sweep_one(&mut self, now: Timestamp) -> bool {
        let Some(number) = self.resting.pop_front() else {
            return false;
        };
        self.keys[number].resting = false;
        if self.keys[number].is_unused() {
            self.rest(number, now);
        }
        !self.keys[number].resting
    }

    /// Puts a strand at the end of its ring.
    fn enter(&mut self, lanes: &Lanes, number: u32) {
        self.stamp += 1;
        let strand = &mut self.strands[number];
        if strand.in_ring {
            return;
        }
        (strand.in_ring, strand.stamp) = (true, self.stamp);
        let (kind, priority) = (strand.kind, strand.priority);
        let (ring, parked) = ring(&mut self.rings, priority, kind);
        parked.remove(&mut self.strands, number);
        ring.push(&mut self.strands, number);
        lanes.flow_in(lanes.lane(priority));
    }

    /// Takes a strand out of its ring, if it is there.
    fn leave(&mut self, lanes: &Lanes, number: u32) {
        let strand = &mut self.strands[number];
        if std::mem::take(&mut strand.in_ring) {
            let (kind, priority) = (strand.kind, strand.priority);
            let (ring, parked) = ring(&mut self.rings, priority, kind);
            ring.remove(&mut self.strands, number);
            parked.push(&mut self.strands, number);
            lanes.flow_out(lanes.lane(priority));
        }
    }

    /// Ends the turn of a flow: its strands go to the end of their rings.
    fn pass_on(&mut self, key: u32, priority: Priority) {
        self.stamp += 1;
        let mut next = self.keys[key].strands;
        while next != NIL {
            let strand = &mut self.strands[next];
            let number = std::mem::replace(&mut next, strand.sibling);
            if strand.priority == priority && strand.in_ring {
                strand.stamp = self.stamp;
                let (ring, _) = ring(&mut self.rings, priority, strand.kind);
                ring.remove(&mut self.strands, number);
                ring.push(&mut self.strands, number);
            }
        }
    }
}

impl Key {
    fn is_parked(&self) -> bool {
        self.queued > 0 && self.standing != Standing::Free
    }

    /// Whether nothing is known about it but its rate.
    fn is_unused(&self) -> bool {
        self.queued == 0 && self.running == 0 && self.limit.is_none() && self.standing != Standing::Gone
    }
}

/// The ring of a priority and kind, and the strands of the priority that are in none.
fn ring(rings: &mut BTreeMap<Priority, Rings>, priority: Priority, kind: KindId) -> (&mut Chain, &mut Chain) {
    let Rings { rings, parked, .. } = rings.entry(priority).or_default();
    let place = rings.iter().position(|ring| ring.kind == kind);
    let place = place.unwrap_or_else(|| {
        let strands = Chain::default();
        rings.push(Ring { kind, strands });
        rings.len() - 1
    });
    (&mut rings[place].strands, parked)
}
