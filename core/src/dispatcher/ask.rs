//! What a consumer asks the engine for: of which queues and kinds, and how much of each the limits leave room
//! for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::Inner;
use super::gate::{KindGate, QueueGate};
use super::keys::Met;
use super::kinds::{Asked, Handler, KindSet};
use super::lease::Lease;
use super::pace::Pace;
use super::settle::{Ended, Settling};
use super::slots::{Baton, Held, Permits, Place};
use crate::engine::{Applied, Claim, Claimed, KeyLimits, KindClaim};
use crate::error::Result;
use crate::names::{KindId, QueueId};
use crate::outcome::Outcome;
use crate::time::Timestamp;

/// What a consumer asks for, and the buffers it asks with.
#[derive(Debug)]
pub(super) struct Ask {
    kinds: Arc<KindSet>,
    /// The queues it takes from; empty is every queue, known now or later.
    pub(super) queues: Vec<QueueId>,
    pub(super) lease: Option<Duration>,
    pub(super) worker: u32,
    /// Whether it passes jobs on, so that they take no slot.
    pub(super) relays: bool,
    pub(super) profile: u64,
    /// Where the next claim starts, so that queues take turns.
    pub(super) turn: usize,
    pub(super) asked: Vec<Asked>,
    /// The versions of what `asked` was made from.
    asked_at: (u64, u64, usize),
    /// The kinds that have a limit or a rate of their own.
    pub(super) limited: Vec<Limited>,
    /// Whether the jobs of some kind are looked at before they run.
    pub(super) sifts: bool,
    /// What the engine is asked for. It counts the allowances down; they are put right after each claim.
    pub(super) claims: Vec<KindClaim>,
    pub(super) claimed: Vec<Claimed>,
    /// What has become of the end of one attempt.
    pub(super) applied: Vec<Applied>,
    /// Claimed jobs that are not to run, what becomes of each, and the buffers for that.
    turned: Vec<Claimed>,
    outcomes: Vec<Outcome>,
    turning: Settling,
    /// What takes the lease of a call that asks for one.
    pub(super) leases: Vec<Lease>,
}

/// A kind with a limit or a rate, and how many starts of it are reserved for the claim.
#[derive(Debug)]
pub(super) struct Limited {
    kind: usize,
    permits: Option<Arc<Permits>>,
    gate: Option<Arc<KindGate>>,
    reserved: usize,
}

/// When what is asked for was looked up, if it was not.
const NEVER: (u64, u64, usize) = (u64::MAX, 0, 0);

impl Ask {
    /// Asks a dispatcher, which has this number, for these kinds in every queue.
    pub(super) fn new(kinds: Arc<KindSet>, lease: Option<Duration>, serial: u64) -> Self {
        static WORKERS: AtomicU32 = AtomicU32::new(1);
        let mut ask = Self {
            kinds,
            queues: Vec::new(),
            lease,
            worker: WORKERS.fetch_add(1, Ordering::Relaxed),
            relays: false,
            profile: 0,
            turn: 0,
            asked: Vec::new(),
            asked_at: NEVER,
            limited: Vec::new(),
            sifts: false,
            claims: Vec::new(),
            claimed: Vec::new(),
            turned: Vec::new(),
            applied: Vec::new(),
            outcomes: Vec::new(),
            turning: Settling::default(),
            leases: Vec::new(),
        };
        ask.profile = ask.profile_in(serial);
        ask
    }

    /// Asks for these kinds from now on.
    pub(super) fn ask_for(&mut self, kinds: Arc<KindSet>) {
        (self.kinds, self.asked_at) = (kinds, NEVER);
    }

    /// Those who ask alike have the same number (see [`Bell::join`](crate::Bell::join)): a fingerprint of what they
    /// ask for. That two who do not have the same one is as likely as with any of 64 bits.
    pub(super) fn profile_in(&self, serial: u64) -> u64 {
        let mut queues = self.queues.clone();
        queues.sort_unstable();
        queues.dedup();
        let mut fingerprint = DefaultHasher::new();
        (serial, self.kinds.profile(), queues, self.relays).hash(&mut fingerprint);
        fingerprint.finish()
    }

    /// The Rust handler of a kind. It is the one that is registered now: between the look at the kinds and the
    /// claim there may have come another one, and a job that was pushed for it, or it may have been taken away.
    pub(super) fn handler(&mut self, inner: &Inner, kind: KindId) -> Option<&Arc<dyn Handler>> {
        let asked = self.asked.get_mut(kind.index())?;
        if inner.kinds.version() != self.asked_at.0
            && let Some(entry) = inner.kinds.get(kind)
        {
            asked.handler.clone_from(&entry.handler);
        }
        asked.handler.as_ref()
    }

    /// One round over the queues, with whatever has ended settled on the way.
    pub(super) fn claim(
        &mut self,
        inner: &Arc<Inner>,
        settling: &mut Settling,
        baton: &mut Baton<'_>,
        place: &mut Place<'_>,
        max: usize,
        out: &mut Vec<Lease>,
    ) -> Result<usize> {
        let before = out.len();
        let wanted = if self.relays {
            baton.enter(max)
        } else {
            baton.take(max, place)
        };
        // The slots are taken before the phase is read: a stop that set it first is obeyed here, and one
        // that sets it later sees the slots and waits for them.
        let wanted = if inner.stopping() { 0 } else { wanted };
        self.refresh(inner);
        let result = self.round(inner, settling, baton, wanted, out);
        match (result, out.len() - before) {
            (Err(error), 0) => Err(error),
            // What was claimed before the store failed must be run, not lost.
            (_, got) => Ok(got),
        }
    }

    fn round(
        &mut self,
        inner: &Arc<Inner>,
        settling: &mut Settling,
        baton: &mut Baton<'_>,
        wanted: usize,
        out: &mut Vec<Lease>,
    ) -> Result<()> {
        let (mut left, mut settled) = (wanted, false);
        let all = self.queues.is_empty();
        let known = if all {
            inner.engine.names().queue_count()
        } else {
            self.queues.len()
        };
        for i in 0..known {
            if left == 0 {
                break;
            }
            let place = (self.turn + i) % known;
            let queue = if all {
                QueueId(place as u16)
            } else {
                self.queues[place]
            };
            if !self.relays && inner.relays.has(queue) {
                continue;
            }
            let Some(room) = self.reserve(inner, queue, left) else {
                continue;
            };
            // Each time anew: the store may have taken its time over the queue before.
            let now = inner.now();
            let got = self.claim_from(inner, settling, baton, room, now, out)?;
            settled = true;
            if got > 0 {
                left -= got;
                self.turn = place + 1;
            }
        }
        if settled || settling.ended.is_empty() {
            return Ok(());
        }
        inner.settle_and_claim(settling, None, baton, inner.now())
    }

    /// Claims jobs of one queue, up to the room in it and the limit of each kind.
    fn claim_from(
        &mut self,
        inner: &Arc<Inner>,
        settling: &mut Settling,
        baton: &mut Baton<'_>,
        room: Room,
        now: Timestamp,
        out: &mut Vec<Lease>,
    ) -> Result<usize> {
        let mut result = self.draw(inner, settling, baton, &room, now);
        if result.is_ok() && self.looks_at(&room) {
            result = self.sift(inner, baton, &room, now);
        }
        let got = self.claimed.len();
        self.give_back(inner, &room, got);
        baton.spend(got);
        for claimed in &mut self.claimed {
            let asked = &self.asked[claimed.kind.index()];
            self.claims[claimed.kind.index()].allowance = asked.claim.allowance;
            let held = Held {
                queue: room.permits.clone(),
                kind: asked.permits.clone().filter(|_| !self.relays),
                slotless: self.relays,
            };
            let body = settling.body(inner);
            out.push(Lease::begin(body, claimed, held, self.worker));
        }
        inner.cells.hear(&out[out.len() - got..]);
        // The leases have taken what was in there.
        self.claimed.clear();
        result.map(|()| got)
    }

    /// Settles, and claims what there is room for beside what has been claimed already. In place, because every
    /// job comes this way.
    #[inline(always)]
    fn draw(
        &mut self,
        inner: &Inner,
        settling: &mut Settling,
        baton: &mut Baton<'_>,
        room: &Room,
        now: Timestamp,
    ) -> Result<()> {
        let mut claim = Claim {
            queue: room.queue,
            kinds: &mut self.claims,
            limit: room.limit - self.claimed.len(),
            lease: self.lease,
            node: &inner.node,
            worker: self.worker,
            keys: room
                .gate
                .as_ref()
                .map_or_else(KeyLimits::default, |gate| gate.keys),
            relays: self.relays,
            out: &mut self.claimed,
        };
        inner.settle_and_claim(settling, Some(&mut claim), baton, now)
    }

    /// Whether claimed jobs have to be looked at before they run.
    fn looks_at(&self, room: &Room) -> bool {
        self.sifts || room.gate.as_ref().is_some_and(|gate| gate.delay.is_some())
    }

    /// Turns away what was claimed and is not to run, and claims on until there is as much as was wanted, or
    /// nothing left.
    #[inline(never)]
    fn sift(&mut self, inner: &Inner, baton: &mut Baton<'_>, room: &Room, mut now: Timestamp) -> Result<()> {
        let (mut from, mut turning) = (0, std::mem::take(&mut self.turning));
        let result = loop {
            self.pick(inner, room, from, now);
            let dry = self.claimed.len() + self.turned.len() < room.limit;
            inner.after_look(room, dry, &self.claims);
            if self.turned.is_empty() {
                break Ok(());
            }
            from = self.claimed.len();
            turning.clear();
            let ends = self.turned.iter().zip(self.outcomes.drain(..));
            let ends = ends.map(|(claimed, outcome)| Ended::claimed(claimed, outcome));
            turning.ended.extend(ends);
            now = inner.now();
            let settled = if from < room.limit && !inner.stopping() {
                self.draw(inner, &mut turning, baton, room, now)
            } else {
                inner.settle_and_claim(&mut turning, None, baton, now)
            };
            if settled.is_err() {
                // Nothing was stored: they are held still, and nobody else would answer for them.
                self.claimed.append(&mut self.turned);
                break settled;
            }
            self.turned.clear();
        };
        self.turning = turning;
        result
    }

    /// Moves what is not to run from the claimed jobs, of which those before `from` have been looked at, to those
    /// that are turned away.
    fn pick(&mut self, inner: &Inner, room: &Room, from: usize, now: Timestamp) {
        let (asked, outcomes, mut met) = (&self.asked, &mut self.outcomes, Met::default());
        let leaves = self.claimed.extract_if(from.., |claimed| {
            let gate = asked[claimed.kind.index()].gate.as_deref();
            let outcome = inner.turns_away(room.gate.as_deref(), gate, claimed, &mut met, now);
            let leaves = outcome.is_some();
            outcomes.extend(outcome);
            leaves
        });
        for claimed in leaves {
            // It used up none of what was allowed.
            let allowance = &mut self.claims[claimed.kind.index()].allowance;
            *allowance = allowance.saturating_add(1);
            self.turned.push(claimed);
        }
    }

    /// Takes a permit of the queue, if it has a limit, and of every limited kind for each job that might be
    /// claimed, and a start where there is a rate. `None` if the queue has no room.
    fn reserve(&mut self, inner: &Inner, queue: QueueId, limit: usize) -> Option<Room> {
        let permits = inner.slots.queue(queue).filter(|_| !self.relays);
        let gate = inner.gate(queue);
        let (pace, mut since) = (pace_of(gate.as_deref()), None);
        let limit = reserve(inner, permits.as_deref(), pace, limit, &mut since);
        if limit == 0 {
            return None;
        }
        for limited in &mut self.limited {
            let asked = self.asked[limited.kind].claim.allowance;
            let want = if asked > 0 { limit } else { 0 };
            let (permits, pace) = (limited.permits.as_deref(), limited.pace());
            limited.reserved = reserve(inner, permits, pace, want, &mut since);
            self.claims[limited.kind].allowance = limited.reserved as u32;
        }
        Some(Room {
            queue,
            since: since.unwrap_or(Timestamp::EPOCH),
            limit,
            permits,
            gate,
        })
    }

    /// Gives back the permits and starts that the claim did not use.
    fn give_back(&self, inner: &Inner, room: &Room, got: usize) {
        let give = |permits: Option<&Permits>, pace: Option<&Pace>, used: usize, reserved: usize| {
            let permit = permits.is_some_and(|permits| inner.slots.give(permits, reserved - used));
            let start = pace.is_some_and(|pace| pace.settle(room.since, used, reserved - used));
            permit || start
        };
        let pace = pace_of(room.gate.as_deref());
        let mut wanted = give(room.permits.as_deref(), pace, got, room.limit);
        for limited in &self.limited {
            let used = self.claimed.iter().filter(|c| c.kind.index() == limited.kind);
            let (permits, pace) = (limited.permits.as_deref(), limited.pace());
            wanted |= give(permits, pace, used.count(), limited.reserved);
        }
        if wanted {
            inner.engine.signals().work.ring_all();
        }
    }

    /// What all that it asks for is made from: grows when anything of it changes.
    #[inline]
    fn state_of(&self, inner: &Inner) -> (u64, u64, usize) {
        let known = inner.engine.names().kind_count();
        (inner.kinds.version(), self.kinds.version(), known)
    }

    /// Whether nothing has changed since it last asked.
    #[inline]
    pub(super) fn is_fresh(&self, inner: &Inner) -> bool {
        self.asked_at == self.state_of(inner)
    }

    /// Looks up again what to ask for, if kinds were registered or named since.
    fn refresh(&mut self, inner: &Inner) {
        let at = self.state_of(inner);
        if self.asked_at != at {
            let known = at.2;
            self.asked = inner.kinds.claims(&self.kinds, known, &inner.kind_defaults());
            self.claims.clear();
            self.claims.extend(self.asked.iter().map(|asked| asked.claim));
            // What is passed on does not run: no limit of its kind concerns it.
            let own = self.asked.iter().enumerate().filter(|_| !self.relays);
            self.limited = own.filter_map(Limited::of).collect();
            let sifts = |asked: &Asked| asked.gate.as_ref().is_some_and(|gate| gate.sifts());
            self.sifts = !self.relays && self.asked.iter().any(sifts);
            self.asked_at = at;
        }
    }
}

impl Limited {
    /// The limits of a kind that is asked for, if it has any.
    fn of((kind, asked): (usize, &Asked)) -> Option<Self> {
        let gate = asked.gate.clone().filter(|gate| gate.pace.is_some());
        if asked.permits.is_none() && gate.is_none() {
            return None;
        }
        Some(Self {
            kind,
            permits: asked.permits.clone(),
            gate,
            reserved: 0,
        })
    }

    fn pace(&self) -> Option<&Pace> {
        self.gate.as_ref()?.pace.as_ref()
    }
}

#[inline]
fn pace_of(gate: Option<&QueueGate>) -> Option<&Pace> {
    gate?.pace.as_ref()
}

/// Takes up to `want` permits where there is a limit, and a start for each where there is a rate.
#[inline]
fn reserve(
    inner: &Inner,
    permits: Option<&Permits>,
    pace: Option<&Pace>,
    want: usize,
    since: &mut Option<Timestamp>,
) -> usize {
    let got = permits.map_or(want, |permits| inner.slots.take(permits, want));
    let Some(pace) = pace else { return got };
    let now = *since.get_or_insert_with(|| inner.now());
    let starts = inner.start_by(pace, got, now);
    if permits.is_some_and(|permits| inner.slots.give(permits, got - starts)) {
        inner.engine.signals().work.ring_all();
    }
    starts
}

/// How many jobs of a queue may be claimed.
pub(super) struct Room {
    pub(super) queue: QueueId,
    /// When its starts were taken, if there is a rate.
    since: Timestamp,
    limit: usize,
    permits: Option<Arc<Permits>>,
    pub(super) gate: Option<Arc<QueueGate>>,
}
