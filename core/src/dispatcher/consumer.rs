//! The pull side: whoever runs handlers asks for leases here. Rust workers, Python threads, C callbacks
//! and goroutines all come through this door.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::ask::Ask;
use super::cells::StopReason;
use super::kinds::{Handler, KindSet};
use super::lease::{Lease, handling};
use super::settle::{Answer, Settling};
use super::slots::{Baton, Place};
use super::tickets::Ticket;
use super::{Dispatcher, Inner};
use crate::bell::Pager;
use crate::error::{Error, ErrorKind, Result};
use crate::names::{KindId, QueueId};
use crate::outcome::Outcome;
use crate::time::Deadline;

/// Asks for work. One thread at a time; make one per thread.
#[derive(Debug)]
pub struct Consumer {
    pub(super) inner: Arc<Inner>,
    pub(super) ask: Ask,
    pub(super) settling: Settling,
    hail: Arc<Hail>,
    /// Whether its last claim has found no job, a moment ago.
    pub(super) dry: bool,
    /// Whether it stands in line for a slot while its pager hangs at the bell.
    in_line: bool,
    /// Whether it has asked which of its leases should stop.
    listens: bool,
}

/// How a consumer is reached from outside.
#[derive(Debug, Default)]
pub(crate) struct Hail {
    interrupted: AtomicBool,
    /// What is rung for a consumer that waits for a descriptor.
    pager: OnceLock<Arc<Pager>>,
    /// Its leases that were told to stop since it asked.
    told: Mutex<Vec<(Ticket, StopReason)>>,
}

impl Hail {
    /// Lets the consumer know of leases that should stop.
    pub(super) fn tell(&self, stopped: impl Iterator<Item = (Ticket, StopReason)>) {
        self.told.lock().extend(stopped);
        if let Some(pager) = self.pager.get() {
            // Also to one that asks for no more jobs, and so rearms no more.
            pager.wakeup.insist();
        }
    }
}

/// Ends the wait of one consumer, from any thread.
#[derive(Clone, Debug)]
pub struct Interrupt {
    inner: Arc<Inner>,
    hail: Arc<Hail>,
}

impl Interrupt {
    /// As [`Dispatcher::check_process`], for bindings whose consumer may be in use elsewhere.
    ///
    /// # Errors
    /// `Forked`.
    pub fn check_process(&self) -> Result<()> {
        self.inner.birth.check()
    }

    /// As [`Dispatcher::kind`].
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one; `Forked`.
    pub fn kind(&self, name: &str) -> Result<KindId> {
        self.check_process()?;
        self.inner.engine.names().kind(name)
    }

    /// Makes the consumer's present wait answer `Interrupted`, or its next one if it does not wait now. Its
    /// [descriptor](Consumer::descriptor) becomes readable.
    pub fn raise(&self) {
        if self.inner.birth.is_here() {
            self.hail.interrupted.store(true, Ordering::SeqCst);
            self.inner.engine.signals().work.ring_threads();
            if let Some(pager) = self.hail.pager.get() {
                pager.wakeup.ring();
            }
        }
    }
}

/// Of how many ended leases a consumer keeps what they were made of.
const SPARES: usize = 64;

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
        kinds.serve(&inner);
        let ask = Ask::new(kinds, inner.options.lease, inner.serial);
        inner.engine.signals().work.join(ask.profile);
        Self {
            inner,
            ask,
            settling: Settling::keeping(SPARES),
            hail: Arc::default(),
            dry: false,
            in_line: false,
            listens: false,
        }
    }

    /// Takes only from these queues; from every one if there are none.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = QueueId>) -> Self {
        self.ask.queues = queues.into_iter().collect();
        self.rejoin();
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
        self.rejoin();
        self
    }

    /// Takes jobs of these kinds from now on. Poll after this: its descriptor becomes readable, if it has one.
    pub fn ask_for(&mut self, kinds: Arc<KindSet>) {
        kinds.serve(&self.inner);
        self.ask.ask_for(kinds);
        self.rejoin();
        if let Some(pager) = self.hail.pager.get() {
            pager.wakeup.insist();
        }
    }

    /// It asks for something else than it did.
    fn rejoin(&mut self) {
        let work = &self.inner.engine.signals().work;
        work.leave(self.ask.profile);
        self.ask.profile = self.ask.profile_in(self.inner.serial);
        work.join(self.ask.profile);
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
            hail: self.hail.clone(),
        }
    }

    /// Takes up to `max` leases of this consumer that were told to stop since the last call, each with the reason; a
    /// stronger one may follow a mere [`StopReason::Stopping`]. For a holder of many leases, who would have to look
    /// at each. From the first call on the descriptor of the consumer becomes readable for this, too: so call this
    /// once more when [`Consumer::next_many`] has answered 0, and then wait.
    ///
    /// # Errors
    /// `Forked`.
    pub fn stopped(&mut self, max: usize) -> Result<Vec<(Ticket, StopReason)>> {
        self.inner.birth.check()?;
        if !std::mem::replace(&mut self.listens, true) {
            self.inner.cells.listen(self.ask.worker, &self.hail);
        }
        let mut told = self.hail.told.lock();
        let count = told.len().min(max);
        Ok(told.drain(..count).collect())
    }

    /// A descriptor for an event loop, readable when there may be a job, when the dispatcher stops, and after
    /// [`Interrupt::raise`]. Wait until it is readable, call [`Consumer::next_many`] with a deadline that has passed
    /// until it answers 0, and wait again: that answer is what makes it unreadable, and it may be readable for
    /// nothing. Polling and edge-triggered loops are the same to it.
    ///
    /// From the first call on the consumer counts as waiting while the descriptor is not readable: a job that comes
    /// is announced to it, and may be to nobody else, and a slot that becomes free may be kept for it. So poll when
    /// it is readable, or drop the consumer, which passes on what it was told. The descriptor is the consumer's:
    /// non-blocking, close-on-exec, gone when the consumer is dropped.
    ///
    /// # Errors
    /// `NoMemory` if the process may have no more descriptors; `Forked`.
    #[cfg(all(unix, not(shuttle)))]
    pub fn descriptor(&mut self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.inner.birth.check()?;
        let pager = match self.hail.pager.get() {
            Some(pager) => pager,
            None => {
                let made = Pager::new()?;
                self.hail.pager.get_or_init(|| made)
            }
        };
        Ok(pager.wakeup.fd())
    }

    /// Makes the descriptor unreadable, if there is one, for an owner that has heard: it is about to ask until the
    /// answer is 0, or the dispatcher stops, and until then only leases that [should stop](Consumer::stopped) make
    /// it readable again. So a loop that looks at its descriptors between two jobs is not called for this one.
    pub fn hush(&self) {
        if let Some(pager) = self.hail.pager.get() {
            pager.wakeup.hush();
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
        if max == 0 {
            return self.inner.check_claims().map(|()| 0);
        }
        match self.hail.pager.get().cloned() {
            None => self.look_out(max, deadline, None, out),
            Some(pager) => self.look_out_paged(max, deadline, &pager, out),
        }
    }

    /// Looks, and waits if there is nothing.
    fn look_out(
        &mut self,
        max: usize,
        deadline: Deadline,
        pager: Option<&Arc<Pager>>,
        out: &mut Vec<Lease>,
    ) -> Result<usize> {
        let Self {
            inner,
            ask,
            settling,
            hail,
            dry,
            in_line,
            ..
        } = self;
        settling.clear();
        let work = &inner.engine.signals().work;
        let mut place = Place::resume(inner, std::mem::take(in_line));
        let mut claim = |place: &mut Place<'_>| {
            let mut baton = Baton::new(inner);
            ask.claim(inner, settling, &mut baton, place, max, out)
        };
        loop {
            inner.check_claims()?;
            if !std::mem::take(dry) {
                let got = claim(&mut place)?;
                if got > 0 {
                    return Ok(got);
                }
            }
            if let Some(pager) = pager.filter(|_| deadline.passed()) {
                work.hang_up(pager);
                place.patient = true;
                let got = claim(&mut place)?;
                if got == 0 {
                    inner.check_claims()?;
                    *in_line = place.keep();
                }
                return Ok(got);
            }
            let listener = work.listen();
            place.patient = true;
            let got = claim(&mut place)?;
            let late = deadline.passed();
            if got > 0 || late && pager.is_none() {
                return Ok(got);
            }
            if !late && !inner.stopping() {
                inner.check_wait(&hail.interrupted, deadline)?;
                listener.search(deadline);
            }
        }
    }

    /// The same for one whose descriptor is waited for: the pager hangs at the bell afterwards if nothing was
    /// found, and else the descriptor is readable.
    fn look_out_paged(
        &mut self,
        max: usize,
        deadline: Deadline,
        pager: &Arc<Pager>,
        out: &mut Vec<Lease>,
    ) -> Result<usize> {
        let inner = self.inner.clone();
        let work = &inner.engine.signals().work;
        work.take_down(pager);
        let found = self.look_out(max, deadline, Some(pager), out);
        if !matches!(found, Ok(0)) {
            // A ring that came before it had looked again was for a job more than it has found.
            work.retire(pager);
            pager.wakeup.ring();
            return found;
        }
        check_interrupt(&self.hail.interrupted).map(|()| 0)
    }

    /// Answers for a lease and asks for the next job in one call to the engine; does not wait.
    ///
    /// # Errors
    /// Of the store.
    #[inline]
    pub fn complete_and_next(&mut self, lease: Lease, outcome: Outcome) -> Result<(Answer, Option<Lease>)> {
        match outcome {
            Outcome::Success(result)
                if self.can_hand_over(&lease, &result) && lease.body().begins_passing() =>
            {
                self.hand_over(lease.into_body(), result)
            }
            outcome => self.complete_and_next_any(lease, outcome),
        }
    }

    fn complete_and_next_any(&mut self, lease: Lease, outcome: Outcome) -> Result<(Answer, Option<Lease>)> {
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

    /// The Rust handler of a lease's kind, as it is registered now.
    pub(crate) fn handler(&mut self, lease: &Lease) -> Option<&Arc<dyn Handler>> {
        self.ask.handler(&self.inner, lease.kind_id())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if !self.inner.birth.is_here() {
            // In the child of a fork the bell may be locked for ever.
            return;
        }
        let work = &self.inner.engine.signals().work;
        work.leave(self.ask.profile);
        if let Some(pager) = self.hail.pager.get() {
            work.retire(pager);
            drop(Place::resume(&self.inner, self.in_line));
        }
        self.settling.dismiss();
    }
}

impl Inner {
    /// Whether a consumer may begin to wait.
    fn check_wait(&self, interrupted: &AtomicBool, deadline: Deadline) -> Result<()> {
        check_interrupt(interrupted)?;
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

/// Answers for an interrupt, once.
fn check_interrupt(interrupted: &AtomicBool) -> Result<()> {
    match interrupted.swap(false, Ordering::SeqCst) {
        true => Err(Error::new(
            ErrorKind::Interrupted,
            "the wait for work was interrupted",
        )),
        false => Ok(()),
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;
