//! The pull side: whoever runs handlers asks for leases here. Rust workers, Python threads, C callbacks
//! and goroutines all come through this door.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::gate::{KindGate, QueueGate};
use super::keys::Met;
use super::kinds::{Asked, Handler, KindSet};
use super::lease::{Body, Lease, handling};
use super::pace::Pace;
use super::settle::{Answer, Ended, Settling};
use super::slots::{Baton, Held, Permits, Place};
use super::{Dispatcher, Inner};
use crate::engine::{Claim, Claimed, KeyLimits, KindClaim};
use crate::error::{Error, ErrorKind, Result};
use crate::names::QueueId;
use crate::outcome::Outcome;
use crate::time::{Deadline, Timestamp};

/// Asks for work. One thread at a time; make one per thread.
#[derive(Debug)]
pub struct Consumer {
    pub(super) inner: Arc<Inner>,
    ask: Ask,
    settling: Settling,
    interrupted: Arc<AtomicBool>,
    /// Whether its last claim has found no job, a moment ago.
    dry: bool,
}

/// Ends the wait of one consumer, from any thread.
#[derive(Clone, Debug)]
pub struct Interrupt {
    inner: Arc<Inner>,
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    /// As [`Dispatcher::check_process`], for bindings whose consumer may be in use elsewhere.
    ///
    /// # Errors
    /// `Forked`.
    pub fn check_process(&self) -> Result<()> {
        self.inner.birth.check()
    }

    /// Makes the consumer's present wait answer `Interrupted`, or its next one if it does not wait now.
    pub fn raise(&self) {
        if self.inner.birth.is_here() {
            self.raised.store(true, Ordering::SeqCst);
            self.inner.engine.signals().work.ring_all();
        }
    }
}

/// Of how many ended leases a consumer keeps what they were made of.
const SPARES: usize = 64;

/// What a consumer asks for, and the buffers it asks with.
#[derive(Debug)]
struct Ask {
    kinds: Arc<KindSet>,
    /// The queues it takes from; empty is every queue, known now or later.
    queues: Vec<QueueId>,
    lease: Option<Duration>,
    worker: u32,
    /// Whether it passes jobs on, so that they take no slot.
    relays: bool,
    profile: u64,
    /// Where the next claim starts, so that queues take turns.
    turn: usize,
    asked: Vec<Asked>,
    /// The versions of what `asked` was made from.
    asked_at: (u64, u64, usize),
    /// The kinds that have a limit or a rate of their own.
    limited: Vec<Limited>,
    /// Whether the jobs of some kind are looked at before they run.
    sifts: bool,
    /// What the engine is asked for. It counts the allowances down; they are put right after each claim.
    claims: Vec<KindClaim>,
    claimed: Vec<Claimed>,
    /// Claimed jobs that are not to run, what becomes of each, and the buffers for that.
    turned: Vec<Claimed>,
    outcomes: Vec<Outcome>,
    turning: Settling,
    leases: Vec<Lease>,
}

/// A kind with a limit or a rate, and how many starts of it are reserved for the claim.
#[derive(Debug)]
struct Limited {
    kind: usize,
    permits: Option<Arc<Permits>>,
    gate: Option<Arc<KindGate>>,
    reserved: usize,
}

impl Dispatcher {
    /// A consumer of these kinds from every queue.
    ///
    /// ```
    /// # use forebay::{Deadline, Dispatcher, KindSet, NewJob, Outcome};
    /// # use std::sync::Arc;
    /// # let d = Dispatcher::in_memory()?;
    /// d.push(NewJob::new("mail", b"hello"))?;
    /// let mut consumer = d.consumer(Arc::new(KindSet::any()));
    /// let lease = consumer.next(Deadline::NEVER)?.expect("there is a job");
    /// assert_eq!(lease.payload().as_bytes(), Some(&b"hello"[..]));
    /// lease.complete(Outcome::done())?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn consumer(&self, kinds: Arc<KindSet>) -> Consumer {
        Consumer::new(self.0.clone(), kinds)
    }
}

impl Consumer {
    fn new(inner: Arc<Inner>, kinds: Arc<KindSet>) -> Self {
        static WORKERS: AtomicU32 = AtomicU32::new(1);
        let profile = inner.serial << 32 ^ kinds.profile();
        inner.engine.signals().work.join(profile);
        kinds.serve(&inner);
        let ask = Ask {
            kinds,
            queues: Vec::new(),
            lease: inner.options.lease,
            worker: WORKERS.fetch_add(1, Ordering::Relaxed),
            relays: false,
            profile,
            turn: 0,
            asked: Vec::new(),
            asked_at: (u64::MAX, 0, 0),
            limited: Vec::new(),
            sifts: false,
            claims: Vec::new(),
            claimed: Vec::new(),
            turned: Vec::new(),
            outcomes: Vec::new(),
            turning: Settling::default(),
            leases: Vec::new(),
        };
        Self {
            inner,
            ask,
            settling: Settling::keeping(SPARES),
            interrupted: Arc::default(),
            dry: false,
        }
    }

    /// Takes only from these queues.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = QueueId>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 48);
        self.ask.queues = queues.into_iter().collect();
        let work = &self.inner.engine.signals().work;
        work.leave(self.ask.profile);
        self.ask.profile = NEXT.fetch_add(1, Ordering::Relaxed);
        work.join(self.ask.profile);
        self
    }

    /// Its leases end this long after the claim unless they are extended; `None` for never.
    #[must_use]
    pub fn lease(mut self, lease: Option<Duration>) -> Self {
        self.ask.lease = lease;
        self
    }

    /// It passes jobs on instead of running them: they take no slot, and no timeout counts.
    #[must_use]
    pub(super) fn relaying(mut self) -> Self {
        self.ask.relays = true;
        self
    }

    /// The number of this consumer in histories, unique in the process.
    #[must_use]
    pub fn worker(&self) -> u32 {
        self.ask.worker
    }

    /// What ends a wait of this consumer from outside.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        Interrupt {
            inner: self.inner.clone(),
            raised: self.interrupted.clone(),
        }
    }

    /// The next job; `None` if `deadline` passed first.
    ///
    /// # Errors
    /// `Closed` once the dispatcher stops; `Interrupted` by [`Consumer::interrupt`]; `WouldDeadlock` for an
    /// endless wait in a handler of the same dispatcher; `Forked`; of the store.
    pub fn next(&mut self, deadline: Deadline) -> Result<Option<Lease>> {
        let mut leases = std::mem::take(&mut self.ask.leases);
        let result = self.next_many(1, deadline, &mut leases);
        let lease = leases.pop();
        self.ask.leases = leases;
        result.map(|_| lease)
    }

    /// Appends up to `max` leases to `out`; waits for the first one only. Returns how many.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub fn next_many(&mut self, max: usize, deadline: Deadline, out: &mut Vec<Lease>) -> Result<usize> {
        let Self {
            inner,
            ask,
            settling,
            interrupted,
            dry,
        } = self;
        settling.clear();
        let mut place = Place::new(inner);
        let mut claim = |place: &mut Place<'_>| {
            let mut baton = Baton::new(inner);
            ask.claim(inner, settling, &mut baton, place, max, out)
        };
        loop {
            inner.check_claims()?;
            if !std::mem::take(dry) {
                let got = claim(&mut place)?;
                if got > 0 || max == 0 {
                    return Ok(got);
                }
            }
            let listener = inner.engine.signals().work.listen();
            place.patient = true;
            let got = claim(&mut place)?;
            if got > 0 || deadline.passed() {
                return Ok(got);
            }
            if !inner.stopping() {
                inner.check_wait(interrupted, deadline)?;
                listener.search(deadline);
            }
        }
    }

    /// Answers for a lease and asks for the next job in one call to the engine; does not wait.
    ///
    /// # Errors
    /// Of the store.
    pub fn complete_and_next(&mut self, lease: Lease, outcome: Outcome) -> Result<(Answer, Option<Lease>)> {
        let mut leases = std::mem::take(&mut self.ask.leases);
        let result = self.complete_and_next_many([(lease, outcome)], 1, &mut leases);
        let answer = result.map(|answers| answers.first().copied().unwrap_or(Answer::Stale));
        let lease = leases.pop();
        self.ask.leases = leases;
        answer.map(|answer| (answer, lease))
    }

    /// Answers for leases and appends up to `max` new ones to `out`, in one call to the engine; does not
    /// wait. One answer per lease, in order.
    ///
    /// # Errors
    /// Of the store.
    pub fn complete_and_next_many(
        &mut self,
        done: impl IntoIterator<Item = (Lease, Outcome)>,
        max: usize,
        out: &mut Vec<Lease>,
    ) -> Result<&[Answer]> {
        let Self {
            inner,
            ask,
            settling,
            dry,
            ..
        } = self;
        settling.clear();
        let mut baton = Baton::new(inner);
        let mut known = Vec::new();
        for (place, (lease, outcome)) in done.into_iter().enumerate() {
            let ended = if Arc::ptr_eq(lease.inner(), inner) {
                lease.pass_or_park(outcome, &mut baton)
            } else {
                // It is another dispatcher's. If the store there fails, the lease ends by itself.
                Err(lease.complete(outcome).unwrap_or(Answer::Stale))
            };
            match ended {
                Ok(ended) => settling.ended.push(ended),
                Err(answer) => known.push((place, answer)),
            }
        }
        let ended = settling.ended.len();
        inner.hear_first(settling);
        let got = ask.claim(inner, settling, &mut baton, &mut Place::new(inner), max, out)?;
        *dry = got == 0 && max > 0;
        drop(baton);
        // Those whose store failed after others had been claimed are not answered: their leases end by themselves.
        settling.answers.resize(ended, Answer::Stale);
        for (place, answer) in known {
            settling.answers.insert(place, answer);
        }
        Ok(&settling.answers)
    }

    /// The Rust handler of a lease's kind. It is the one that is registered now: between the look at the kinds and
    /// the claim there may have come another one, and a job that was pushed for it.
    pub(crate) fn handler(&mut self, lease: &Lease) -> Option<&Arc<dyn Handler>> {
        let kind = lease.kind_id();
        let asked = self.ask.asked.get_mut(kind.index())?;
        if self.inner.kinds.version() != self.ask.asked_at.0
            && let Some(newer) = self.inner.kinds.get(kind).and_then(|entry| entry.handler.clone())
        {
            asked.handler = Some(newer);
        }
        asked.handler.as_ref()
    }
}

impl Ask {
    /// One round over the queues, with whatever has ended settled on the way.
    fn claim(
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
            let body = settling.spare.pop().unwrap_or_else(|| Body::new(inner));
            out.push(Lease::begin(body, claimed, held));
        }
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

    /// Looks up again what to ask for, if kinds were registered or named since.
    fn refresh(&mut self, inner: &Inner) {
        let known = inner.engine.names().kind_count();
        let at = (inner.kinds.version(), self.kinds.version(), known);
        if self.asked_at != at {
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

impl Drop for Consumer {
    fn drop(&mut self) {
        if !self.inner.birth.is_here() {
            // In the child of a fork the bell may be locked for ever.
            return;
        }
        self.inner.engine.signals().work.leave(self.ask.profile);
        self.settling.spare.drain(..).for_each(|body| body.retire());
    }
}

impl Inner {
    /// Whether a consumer may begin to wait.
    fn check_wait(&self, interrupted: &AtomicBool, deadline: Deadline) -> Result<()> {
        if interrupted.swap(false, Ordering::SeqCst) {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "the wait for work was interrupted",
            ));
        }
        if deadline.instant().is_none() && handling(self).is_some() {
            let text = "a handler must not wait for work without a deadline: it may hold the last slot";
            return Err(Error::new(ErrorKind::WouldDeadlock, text));
        }
        Ok(())
    }

    /// Whether claims are answered: not after a stop began, not in a forked child.
    fn check_claims(&self) -> Result<()> {
        self.birth.check()?;
        if self.stopping() {
            return Err(Error::new(
                ErrorKind::Closed,
                "the dispatcher is stopping and hands out no more jobs",
            ));
        }
        Ok(())
    }
}
#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::job::NewJob;

    #[test]
    fn a_wait_can_be_interrupted() {
        let d = Dispatcher::in_memory().unwrap();
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let interrupt = consumer.interrupt();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| consumer.next(Deadline::NEVER).map(|_| ()));
            assert!(d.settle_to(1, Duration::from_secs(20)), "it waits");
            interrupt.raise();
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted);
        });
        interrupt.raise();
        d.push(NewJob::new("k", ())).unwrap();
        let lease = consumer.next(Deadline::NEVER).unwrap();
        assert!(lease.is_some(), "work goes before an interrupt");
        let error = consumer.next(Deadline::NEVER).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "and the interrupt is kept");
    }

    #[test]
    fn a_handler_does_not_wait_for_work_for_ever() {
        let d = Dispatcher::in_memory().unwrap();
        d.push(NewJob::new("k", ())).unwrap();
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let lease = consumer.next(Deadline::NEVER).unwrap().unwrap();
        let inside = lease.enter();
        let error = consumer.next(Deadline::NEVER).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldDeadlock);
        drop(inside);
    }

    const SOON: Duration = Duration::from_secs(20);

    fn one_slot() -> Dispatcher {
        Dispatcher::open("memory:?concurrency=1", crate::Options::default()).expect("the options fit")
    }

    fn kinds(d: &Dispatcher, kind: &str) -> Arc<KindSet> {
        let set = KindSet::new();
        set.add(d.kind(kind).expect("a valid name"));
        Arc::new(set)
    }

    /// Answers for a lease and for those that follow on it, until there is none.
    fn work(consumer: &mut Consumer, first: Option<Lease>, mut body: impl FnMut()) {
        let mut next = first;
        while let Some(lease) = next {
            body();
            let answer = consumer.complete_and_next(lease, Outcome::done());
            next = answer.expect("the engine answers").1;
        }
    }

    #[test]
    fn a_consumer_of_another_kind_gets_its_turn() {
        let d = one_slot();
        let (mut busy, mut other) = (d.consumer(kinds(&d, "endless")), d.consumer(kinds(&d, "rare")));
        d.push(NewJob::new("endless", ())).unwrap();
        let served = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let first = busy.next(Deadline::NEVER).unwrap();
            d.push(NewJob::new("rare", ())).unwrap();
            let waiting = scope.spawn(|| {
                let lease = other.next(Deadline::after(SOON)).unwrap();
                served.store(true, Ordering::SeqCst);
                lease.expect("a permit is kept for it").complete(Outcome::done())
            });
            let mut next = first;
            while !served.load(Ordering::SeqCst) {
                work(&mut busy, next, || {
                    if !served.load(Ordering::SeqCst) {
                        d.push(NewJob::new("endless", ())).unwrap();
                    }
                });
                next = busy.next(Deadline::after(Duration::ZERO)).unwrap();
            }
            waiting.join().unwrap().unwrap();
            work(&mut busy, next, || ());
        });
        assert_eq!(d.stats().unwrap().bodies, 0);
    }

    /// Two are in line; a permit is kept for one of them, who leaves without it: the other one must hear of it.
    #[test]
    fn a_permit_that_is_left_behind_is_announced() {
        let d = one_slot();
        let _profiles = (d.consumer(kinds(&d, "one")), d.consumer(kinds(&d, "two")));
        let inner = &d.0;
        assert_eq!(inner.slots.all.take(1), 1);
        let (mut first, mut second) = (Place::new(inner), Place::new(inner));
        (first.patient, second.patient) = (true, true);
        assert_eq!(first.take(1), 0);
        inner.give_permit();
        let listener = inner.engine.signals().work.listen();
        assert_eq!(second.take(1), 0, "it is kept for the first");
        drop(first);
        assert!(listener.wait(Deadline::after(Duration::ZERO)));
        assert_eq!(second.take(1), 1);
        inner.give_permit();
    }

    #[test]
    fn two_consumers_share_one_slot() {
        let d = one_slot();
        let same = kinds(&d, "k");
        for set in [same.clone(), kinds(&d, "k")] {
            const JOBS: usize = 2_000;
            for _ in 0..JOBS {
                d.push(NewJob::new("k", ())).unwrap();
            }
            let (inside, done) = (AtomicU32::new(0), AtomicU32::new(0));
            let drain = |mut consumer: Consumer| {
                while (done.load(Ordering::SeqCst) as usize) < JOBS {
                    let lease = consumer.next(Deadline::after(Duration::from_millis(1))).unwrap();
                    work(&mut consumer, lease, || {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one slot");
                        done.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(|| drain(d.consumer(same.clone())));
                scope.spawn(|| drain(d.consumer(set.clone())));
            });
            assert_eq!((done.into_inner() as usize, d.stats().unwrap().bodies), (JOBS, 0));
        }
    }

    #[test]
    fn whoever_waits_for_nothing_active_sees_no_gap() {
        let d = Dispatcher::in_memory().unwrap();
        for _ in 0..20_000 {
            d.push(NewJob::new("k", ())).unwrap();
        }
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let first = consumer.next(Deadline::NEVER).unwrap();
        let ended = AtomicBool::new(false);
        let gaps = std::thread::scope(|scope| {
            let (inner, ended) = (&d.0, &ended);
            let watch = scope.spawn(move || {
                let mut gaps = 0;
                loop {
                    let seen = (inner.cells.active(), inner.slots.all.used());
                    if ended.load(Ordering::SeqCst) {
                        return gaps;
                    }
                    gaps += usize::from(seen != (1, 1));
                }
            });
            let mut left = 20_000;
            let mut next = first;
            while let Some(lease) = next {
                left -= 1;
                ended.store(left == 0, Ordering::SeqCst);
                next = consumer.complete_and_next(lease, Outcome::done()).unwrap().1;
            }
            watch.join().unwrap()
        });
        assert_eq!((gaps, d.0.cells.active(), d.0.slots.all.used()), (0, 0, 0));
    }

    #[test]
    fn a_lease_that_follows_has_its_own_ticket_and_nothing_of_the_last() {
        let d = Dispatcher::in_memory().unwrap();
        for header in ["one", "two"] {
            d.push(NewJob::new("k", header).header("h", header)).unwrap();
        }
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let first = consumer.next(Deadline::NEVER).unwrap().unwrap();
        let ticket = first.ticket();
        let (_, second) = consumer.complete_and_next(first, Outcome::done()).unwrap();
        let second = second.unwrap();
        assert_ne!(second.ticket(), ticket);
        assert_eq!(d.finish([(ticket, Outcome::done())]).unwrap(), [Answer::Stale]);
        assert_eq!(second.headers(), [("h".to_owned(), "two".to_owned())]);
        let done = d.finish([(second.ticket(), Outcome::done())]).unwrap();
        assert_eq!(done, [Answer::Stored(crate::State::Succeeded)]);
        let (late, none) = consumer.complete_and_next(second, Outcome::done()).unwrap();
        assert_eq!((late, none.is_none()), (Answer::Stale, true));
        assert_eq!((d.0.cells.active(), d.0.slots.all.used()), (0, 0));
    }

    #[test]
    fn a_lease_of_another_dispatcher_is_answered_there() {
        let (here, there) = (Dispatcher::in_memory().unwrap(), Dispatcher::in_memory().unwrap());
        let id = there.push(NewJob::new("k", ())).unwrap().id;
        let lease = there
            .consumer(Arc::new(KindSet::any()))
            .next(Deadline::NEVER)
            .unwrap();
        let mut consumer = here.consumer(Arc::new(KindSet::any()));
        let (answer, _) = consumer
            .complete_and_next(lease.unwrap(), Outcome::done())
            .unwrap();
        assert_eq!(answer, Answer::Stored(crate::State::Succeeded));
        assert_eq!(there.state(id).unwrap(), crate::State::Succeeded);
        assert_eq!((there.0.cells.active(), here.0.slots.all.used()), (0, 0));
    }
}
