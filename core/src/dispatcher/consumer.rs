//! The pull side: whoever runs handlers asks for leases here. Rust workers, Python threads, C callbacks
//! and goroutines all come through this door.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::kinds::{Asked, Handler, KindSet};
use super::lease::{Lease, handling};
use super::settle::{Answer, Settling};
use super::slots::{Held, Permits};
use super::{Dispatcher, Inner};
use crate::engine::{Claim, Claimed, KindClaim};
use crate::error::{Error, ErrorKind, Result};
use crate::names::QueueId;
use crate::outcome::Outcome;
use crate::time::Deadline;

/// Asks for work. One thread at a time; make one per thread.
#[derive(Debug)]
pub struct Consumer {
    inner: Arc<Inner>,
    ask: Ask,
    settling: Settling,
    interrupted: Arc<AtomicBool>,
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

/// What a consumer asks for, and the buffers it asks with.
#[derive(Debug)]
struct Ask {
    kinds: Arc<KindSet>,
    /// The queues it takes from; empty is every queue, known now or later.
    queues: Vec<QueueId>,
    lease: Option<Duration>,
    worker: u32,
    profile: u64,
    /// Where the next claim starts, so that queues take turns.
    turn: usize,
    asked: Vec<Asked>,
    /// The versions of what `asked` was made from.
    asked_at: (u64, u64, usize),
    /// Whether any kind has a limit of its own.
    limited: bool,
    claims: Vec<KindClaim>,
    reserved: Vec<usize>,
    claimed: Vec<Claimed>,
    leases: Vec<Lease>,
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
            profile,
            turn: 0,
            asked: Vec::new(),
            asked_at: (u64::MAX, 0, 0),
            limited: false,
            claims: Vec::new(),
            reserved: Vec::new(),
            claimed: Vec::new(),
            leases: Vec::new(),
        };
        Self {
            inner,
            ask,
            settling: Settling::default(),
            interrupted: Arc::default(),
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
        loop {
            self.inner.check_claims()?;
            let got = self.claim(max, out)?;
            if got > 0 || max == 0 {
                return Ok(got);
            }
            let Self {
                inner,
                ask,
                settling,
                interrupted,
            } = self;
            let listener = inner.engine.signals().work.listen();
            let got = ask.claim(inner, settling, max, out)?;
            if got > 0 || deadline.passed() {
                return Ok(got);
            }
            if !inner.stopping() {
                inner.check_wait(interrupted, deadline)?;
                listener.wait(deadline);
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
        self.settling.clear();
        let mut known = Vec::new();
        for (place, (lease, outcome)) in done.into_iter().enumerate() {
            match lease.end_or_park(outcome) {
                Ok(ended) => self.settling.ended.push(ended),
                Err(answer) => known.push((place, answer)),
            }
        }
        self.claim(max, out)?;
        for (place, answer) in known {
            self.settling.answers.insert(place, answer);
        }
        Ok(&self.settling.answers)
    }

    /// The Rust handler of a lease's kind, as this consumer last looked it up.
    pub(crate) fn handler(&self, lease: &Lease) -> Option<&Arc<dyn Handler>> {
        self.ask.asked.get(lease.kind_id().index())?.handler.as_ref()
    }

    fn claim(&mut self, max: usize, out: &mut Vec<Lease>) -> Result<usize> {
        self.ask.claim(&self.inner, &mut self.settling, max, out)
    }
}

impl Ask {
    /// One round over the queues, with whatever has ended settled on the way.
    fn claim(
        &mut self,
        inner: &Arc<Inner>,
        settling: &mut Settling,
        max: usize,
        out: &mut Vec<Lease>,
    ) -> Result<usize> {
        let before = out.len();
        let mut left = inner.slots.take(&inner.slots.global, max);
        // The slots are taken before the phase is read: a stop that set it first is obeyed here, and one
        // that sets it later sees the slots and waits for them.
        let stopping = inner.stopping();
        self.refresh(inner);
        let mut wanted = if stopping { 0 } else { left };
        let result = self.round(inner, settling, &mut wanted, out);
        left -= out.len() - before;
        if inner.slots.give(&inner.slots.global, left) {
            inner.engine.signals().work.ring_all();
        }
        if inner.stopping() {
            // The stop may have seen the slots that were just given back, whether it was seen here or not.
            inner.cells.idle.ring_all();
        }
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
        left: &mut usize,
        out: &mut Vec<Lease>,
    ) -> Result<()> {
        let all = self.queues.is_empty();
        let known = if all {
            inner.engine.names().queue_count()
        } else {
            self.queues.len()
        };
        for i in 0..known {
            if *left == 0 {
                break;
            }
            let place = (self.turn + i) % known;
            let queue = if all {
                QueueId(place as u16)
            } else {
                self.queues[place]
            };
            let got = self.claim_from(inner, settling, queue, *left, out)?;
            if got > 0 {
                *left -= got;
                self.turn = place + 1;
            }
        }
        if settling.ended.is_empty() {
            return Ok(());
        }
        inner.settle(settling)
    }

    /// Claims up to `limit` jobs of one queue, within the limits of the queue and of each kind.
    fn claim_from(
        &mut self,
        inner: &Arc<Inner>,
        settling: &mut Settling,
        queue: QueueId,
        limit: usize,
        out: &mut Vec<Lease>,
    ) -> Result<usize> {
        let of_queue = inner.slots.queue(queue);
        let room = of_queue.as_ref().map_or(limit, |p| inner.slots.take(p, limit));
        if room == 0 {
            return Ok(0);
        }
        self.reserve(inner, room);
        let mut claim = Claim {
            queue,
            kinds: &mut self.claims,
            limit: room,
            lease: self.lease,
            node: &inner.node,
            worker: self.worker,
            out: &mut self.claimed,
        };
        let result = inner.settle_and_claim(settling, Some(&mut claim));
        let got = self.claimed.len();
        self.give_back(inner, of_queue.as_ref(), room - got);
        for claimed in self.claimed.drain(..) {
            let kind = self.asked[claimed.kind.index()].permits.clone();
            out.push(Lease::new(
                inner,
                claimed,
                Held {
                    queue: of_queue.clone(),
                    kind,
                },
            ));
        }
        result.map(|()| got)
    }

    /// Takes a permit of every limited kind for each job that might be claimed.
    fn reserve(&mut self, inner: &Inner, limit: usize) {
        self.claims.clear();
        self.claims.extend(self.asked.iter().map(|asked| asked.claim));
        if !self.limited {
            return;
        }
        self.reserved.clear();
        for (asked, claim) in self.asked.iter().zip(&mut self.claims) {
            let taken = match &asked.permits {
                Some(permits) if claim.allowance > 0 => {
                    let taken = inner.slots.take(permits, limit);
                    claim.allowance = taken as u32;
                    taken
                }
                _ => 0,
            };
            self.reserved.push(taken);
        }
    }

    /// Gives back the permits that the claim did not use.
    fn give_back(&self, inner: &Inner, of_queue: Option<&Arc<Permits>>, unused: usize) {
        let mut wanted = of_queue.is_some_and(|p| inner.slots.give(p, unused));
        let limited = self.asked.iter().enumerate().filter(|_| self.limited);
        for (i, permits) in limited.filter_map(|(i, asked)| Some((i, asked.permits.as_ref()?))) {
            let used = self.claimed.iter().filter(|c| c.kind.index() == i).count();
            wanted |= inner.slots.give(permits, self.reserved[i] - used);
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
            let default = KindClaim {
                allowance: 0,
                max_attempts: inner.options.max_attempts,
                timeout: inner.options.timeout,
            };
            self.asked = inner.kinds.claims(&self.kinds, known, default);
            self.limited = self.asked.iter().any(|asked| asked.permits.is_some());
            self.asked_at = at;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if !self.inner.birth.is_here() {
            // In the child of a fork the bell may be locked for ever.
            return;
        }
        self.inner.engine.signals().work.leave(self.ask.profile);
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
}
