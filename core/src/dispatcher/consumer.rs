//! The pull side: whoever runs handlers asks for leases here. Rust workers, Python threads, C callbacks
//! and goroutines all come through this door.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::kinds::{Asked, KindSet};
use super::lease::Lease;
use super::settle::{Answer, Ended};
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
    kinds: Arc<KindSet>,
    /// The queues it takes from; empty is every queue, known now or later.
    queues: Vec<QueueId>,
    lease: Option<Duration>,
    worker: u32,
    profile: u64,
    /// Where the next claim starts, so that queues take turns.
    turn: usize,
    asked: Vec<Asked>,
    asked_at: (u64, u64, usize),
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    claims: Vec<KindClaim>,
    reserved: Vec<usize>,
    claimed: Vec<Claimed>,
    ended: Vec<Ended>,
    answers: Vec<Answer>,
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
        Self {
            lease: inner.options.lease,
            worker: WORKERS.fetch_add(1, Ordering::Relaxed),
            inner,
            kinds,
            queues: Vec::new(),
            profile,
            turn: 0,
            asked: Vec::new(),
            asked_at: (u64::MAX, 0, 0),
            scratch: Scratch::default(),
        }
    }

    /// Takes only from these queues.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = QueueId>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 48);
        self.queues = queues.into_iter().collect();
        let work = &self.inner.engine.signals().work;
        work.leave(self.profile);
        self.profile = NEXT.fetch_add(1, Ordering::Relaxed);
        work.join(self.profile);
        self
    }

    /// Its leases end this long after the claim unless they are extended; `None` for never.
    #[must_use]
    pub fn lease(mut self, lease: Option<Duration>) -> Self {
        self.lease = lease;
        self
    }

    /// The number of this consumer in histories, unique in the process.
    #[must_use]
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// The next job; `None` if `deadline` passed first.
    ///
    /// # Errors
    /// `Closed` once the dispatcher stops; `WouldDeadlock` for an endless wait in a handler of the same
    /// dispatcher; `Forked`; of the store.
    pub fn next(&mut self, deadline: Deadline) -> Result<Option<Lease>> {
        let mut leases = Vec::with_capacity(1);
        self.next_many(1, deadline, &mut leases)?;
        Ok(leases.pop())
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
            let inner = self.inner.clone();
            let listener = inner.engine.signals().work.listen();
            let got = self.claim(max, out)?;
            if got > 0 || deadline.passed() {
                return Ok(got);
            }
            if self.inner.stopping() {
                continue;
            }
            listener.wait(deadline);
        }
    }

    /// Answers for a lease and asks for the next job in one call to the engine; does not wait.
    ///
    /// # Errors
    /// Of the store.
    pub fn complete_and_next(&mut self, lease: Lease, outcome: Outcome) -> Result<(Answer, Option<Lease>)> {
        let mut next = Vec::with_capacity(1);
        let answers = self.complete_and_next_many([(lease, outcome)], 1, &mut next)?;
        Ok((answers.first().copied().unwrap_or(Answer::Stale), next.pop()))
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
        for (mut lease, outcome) in done {
            self.scratch.ended.extend(lease.end(outcome));
        }
        self.scratch.answers.clear();
        self.claim(max, out)?;
        Ok(&self.scratch.answers)
    }

    /// One round over the queues, with whatever is in `scratch.ended` settled on the way.
    fn claim(&mut self, max: usize, out: &mut Vec<Lease>) -> Result<usize> {
        let before = out.len();
        let inner = self.inner.clone();
        let max = if inner.stopping() { 0 } else { max };
        let wanted = inner.slots.take(&inner.slots.global, max);
        let mut left = wanted;
        self.refresh();
        let result = self.round(&mut left, out);
        if inner.slots.give(&inner.slots.global, left) {
            inner.engine.signals().work.ring_all();
        }
        result.map(|()| out.len() - before)
    }

    fn round(&mut self, left: &mut usize, out: &mut Vec<Lease>) -> Result<()> {
        let known = if self.queues.is_empty() {
            self.inner.engine.names().queue_count()
        } else {
            self.queues.len()
        };
        for i in 0..known {
            if *left == 0 {
                break;
            }
            let place = (self.turn + i) % known;
            let queue = if self.queues.is_empty() {
                QueueId(place as u16)
            } else {
                self.queues[place]
            };
            let got = self.claim_from(queue, *left, out)?;
            if got > 0 {
                *left -= got;
                self.turn = place + 1;
            }
        }
        if self.scratch.ended.is_empty() {
            return Ok(());
        }
        let Scratch { ended, answers, .. } = &mut self.scratch;
        self.inner.settle(ended, answers)
    }

    /// Claims up to `limit` jobs of one queue, within the limits of the queue and of each kind.
    fn claim_from(&mut self, queue: QueueId, limit: usize, out: &mut Vec<Lease>) -> Result<usize> {
        let inner = self.inner.clone();
        let of_queue = inner.slots.queue(queue);
        let room = of_queue.as_ref().map_or(limit, |p| inner.slots.take(p, limit));
        if room == 0 {
            return Ok(0);
        }
        self.reserve(room);
        let Scratch {
            claims,
            claimed,
            ended,
            answers,
            ..
        } = &mut self.scratch;
        let mut claim = Claim {
            queue,
            kinds: claims,
            limit: room,
            lease: self.lease,
            node: &inner.node,
            worker: self.worker,
            out: claimed,
        };
        let result = inner.settle_and_claim(ended, answers, Some(&mut claim));
        let got = self.scratch.claimed.len();
        self.give_back(of_queue.as_ref(), room - got);
        for claimed in self.scratch.claimed.drain(..) {
            let kind = self.asked[claimed.kind.index()].permits.clone();
            out.push(Lease::new(
                &inner,
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
    fn reserve(&mut self, limit: usize) {
        let Scratch { claims, reserved, .. } = &mut self.scratch;
        claims.clear();
        reserved.clear();
        for asked in &self.asked {
            let mut claim = asked.claim;
            let mut taken = 0;
            if let (Some(permits), true) = (&asked.permits, claim.allowance > 0) {
                taken = self.inner.slots.take(permits, limit);
                claim.allowance = taken as u32;
            }
            claims.push(claim);
            reserved.push(taken);
        }
    }

    /// Gives back the permits that the claim did not use.
    fn give_back(&self, of_queue: Option<&Arc<Permits>>, unused: usize) {
        let mut wanted = of_queue.is_some_and(|p| self.inner.slots.give(p, unused));
        for (i, asked) in self.asked.iter().enumerate() {
            if let Some(permits) = &asked.permits {
                let used = self
                    .scratch
                    .claimed
                    .iter()
                    .filter(|c| c.kind.index() == i)
                    .count();
                wanted |= self.inner.slots.give(permits, self.scratch.reserved[i] - used);
            }
        }
        if wanted {
            self.inner.engine.signals().work.ring_all();
        }
    }

    /// Looks up again what to ask for, if kinds were registered or named since.
    fn refresh(&mut self) {
        let inner = &self.inner;
        let at = (
            inner.kinds.version(),
            self.kinds.version(),
            inner.engine.names().kind_count(),
        );
        if self.asked_at != at {
            let options = &inner.options;
            let default = KindClaim {
                allowance: 0,
                max_attempts: options.max_attempts,
                timeout: options.timeout,
            };
            self.asked = inner.kinds.claims(&self.kinds, at.2, default);
            self.asked_at = at;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.inner.engine.signals().work.leave(self.profile);
    }
}

impl Inner {
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
