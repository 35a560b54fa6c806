//! The live leases of one dispatcher: one cell each, reused, with the flag its handler looks at.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::task::Waker;

use crossbeam_queue::SegQueue;

use super::consumer::Hail;
use super::lease::Lease;
use super::tickets::Ticket;
use super::told::Listeners;
use super::unheard::Unheard;
use crate::bell::Bell;
use crate::engine::Claimed;
use crate::job::{Extras, JobRef};
use crate::outcome::Outcome;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use crate::sync::quick::{Mutex, MutexGuard, RwLock};
use crate::time::Timestamp;

/// Why a handler should stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled = 1,
    /// The attempt's timeout passed; its answer no longer counts.
    TimedOut = 2,
    /// The lease was lost or handed back; its answer no longer counts.
    LeaseLost = 3,
    /// The dispatcher is stopping; an answer within the grace still counts.
    Stopping = 4,
}

impl StopReason {
    /// The name in lower case, as in every binding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StopReason::Cancelled => "cancelled",
            StopReason::TimedOut => "timed_out",
            StopReason::LeaseLost => "lease_lost",
            StopReason::Stopping => "stopping",
        }
    }

    /// The reason with this number, which is that of the C library.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        [Self::Cancelled, Self::TimedOut, Self::LeaseLost, Self::Stopping]
            .into_iter()
            .find(|r| *r as i32 == code)
    }
}

/// The cell of one lease.
#[derive(Debug)]
pub(crate) struct Cell {
    /// Its place among the cells.
    place: u32,
    stop: AtomicU8,
    /// Whether its ticket has answered, for a look without the lock of the seat, which says so for certain.
    answered: AtomicBool,
    /// Whether its lease is being [passed on](Cells::pass_on): the seat still names a job that is over, and not yet
    /// the one that has been claimed.
    passing: AtomicBool,
    seat: Mutex<Seat>,
}

/// Who has a cell, and who answers for it. Whoever changes this under its lock has won: there is one answer.
#[derive(Debug)]
struct Seat {
    /// Grows with every lease of the cell, so that a ticket is good for one of them only.
    turn: u32,
    /// Whose lease it is; `None` while the cell is free.
    job: Option<JobRef>,
    /// When it was claimed.
    claimed: Timestamp,
    /// The number of the consumer that claimed it.
    worker: u32,
    /// What holds the headers of the job, if it has any.
    headers: Option<Arc<Extras>>,
    /// What the holder of the ticket answered while the body still ran.
    answered: Option<Outcome>,
    /// The lease, once its body has left it to the holder of the ticket.
    parked: Option<Lease>,
    /// Whether nobody can use tickets any more.
    abandoned: bool,
    /// Those who want to hear of a reason to stop, and of the end.
    wakers: Vec<Waker>,
}

/// What a lease leaves in its seat that is to be dropped without the lock: the answer of its ticket, who waits for a
/// reason to stop, and its headers.
type Left = (Option<Outcome>, Vec<Waker>, Option<Arc<Extras>>);

/// Wakes and drops what a lease has left. Whether its ticket had not answered.
#[cold]
fn let_go((answered, wakers, headers): Left) -> bool {
    drop(headers);
    wakers.into_iter().for_each(Waker::wake);
    answered.is_none()
}

impl Seat {
    /// Gives the seat to a lease.
    #[inline]
    fn take(&mut self, claimed: &Claimed, worker: u32) {
        (self.job, self.claimed, self.worker) = (Some(claimed.job), claimed.started, worker);
        let headers = claimed
            .extras
            .as_ref()
            .filter(|extras| !extras.headers.is_empty());
        if let Some(headers) = headers {
            self.headers = Some(headers.clone());
        }
    }

    /// Takes the seat from its lease. What was left, if anything was.
    #[inline]
    fn leave(&mut self, cell: &Cell) -> Option<Left> {
        self.job = None;
        cell.passing.store(false, Ordering::Release);
        self.turn = self.turn.wrapping_add(1);
        if self.answered.is_none() && self.wakers.is_empty() && self.headers.is_none() {
            return None;
        }
        cell.answered.store(false, Ordering::Release);
        let wakers = std::mem::take(&mut self.wakers);
        Some((self.answered.take(), wakers, self.headers.take()))
    }
}

/// What a ticket was good for.
pub(crate) enum Redeemed {
    /// The lease, which had been left to the ticket.
    Parked(Lease),
    /// The right to answer; the body still runs and keeps its slot.
    Running(JobRef),
}

impl Cell {
    fn new(place: u32) -> Self {
        // A turn that starts anywhere makes an invented ticket, or one of another dispatcher, a bad guess.
        let turn = RandomState::new().hash_one(place) as u32;
        let seat = Seat {
            turn,
            job: None,
            claimed: Timestamp::EPOCH,
            worker: 0,
            headers: None,
            answered: None,
            parked: None,
            abandoned: false,
            wakers: Vec::new(),
        };
        Self {
            place,
            stop: AtomicU8::new(0),
            answered: AtomicBool::new(false),
            passing: AtomicBool::new(false),
            seat: Mutex::new(seat),
        }
    }

    /// The number of the lease that has its turn.
    pub(crate) fn ticket(&self, turn: u32) -> Ticket {
        // The place counts from 1, so that no ticket is 0.
        Ticket(u64::from(turn) << 32 | u64::from(self.place + 1))
    }

    /// Why the handler should stop, if it should.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        StopReason::from_code(self.stop.load(Ordering::Acquire).into())
    }

    /// Whether nobody has said anything of the lease: neither that its handler should stop, nor an answer.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.stop.load(Ordering::Acquire) == 0 && !self.answered.load(Ordering::Acquire)
    }

    /// Says that its lease is about to be passed on, until it is or has ended: it does not count as live meanwhile.
    /// Whoever says so looks afterwards whether the dispatcher stops: either that look sees the stop, or the stop
    /// sees this.
    #[inline]
    pub(super) fn begin_passing(&self) {
        self.passing.store(true, Ordering::SeqCst);
    }

    /// The lease is not passed on after all.
    pub(super) fn stay(&self) {
        self.passing.store(false, Ordering::Release);
    }

    /// Raises the flag that tells the handler to stop; false if it was up. Stronger reasons replace a mere
    /// stopping; the first of those stays.
    pub(crate) fn raise(&self, reason: StopReason) -> bool {
        let stronger = |old: u8| match StopReason::from_code(old.into()) {
            None | Some(StopReason::Stopping) => Some(reason as u8),
            Some(_) => None,
        };
        self.stop
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, stronger)
            .is_ok()
    }

    /// Leaves a lease to the holder of its ticket, or gives it back with what the holder has answered
    /// already; also if nobody can answer any more.
    pub(crate) fn park(&self, lease: Lease) -> Option<Box<(Lease, Option<Outcome>)>> {
        let mut seat = self.seat.lock();
        if seat.answered.is_some() || seat.abandoned {
            return Some(Box::new((lease, seat.answered.clone())));
        }
        seat.parked = Some(lease);
        None
    }

    /// Wakes `waker` at the next signal, or when the lease ends. Look at the reason after this.
    pub(crate) fn listen(&self, waker: &Waker) {
        self.seat.lock().listen(waker);
    }
}

impl Seat {
    fn listen(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|w| w.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }
}

/// The cells of one dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    all: RwLock<Vec<Arc<Cell>>>,
    free: SegQueue<Arc<Cell>>,
    active: AtomicUsize,
    /// The consumers that want to be told which of their leases should stop.
    listeners: Listeners,
    unheard: Unheard,
    /// Rings when the last lease has ended.
    pub(crate) idle: Bell,
}

impl Cells {
    /// A cell that no lease has.
    pub(crate) fn take(&self) -> Arc<Cell> {
        self.free.pop().unwrap_or_else(|| {
            let mut all = self.all.write();
            let cell = Arc::new(Cell::new(all.len() as u32));
            all.push(cell.clone());
            cell
        })
    }

    /// Takes a cell back whose lease has ended.
    pub(crate) fn give(&self, cell: Arc<Cell>) {
        self.free.push(cell);
    }

    /// Counts leases in that are about to begin: before they are live, so that whoever compares the two never
    /// sees fewer active than live ones.
    pub(crate) fn enter(&self, count: usize) {
        self.active.fetch_add(count, Ordering::SeqCst);
    }

    /// Begins a lease, which must have been counted, in a cell that no other has. Returns its turn.
    pub(crate) fn begin(&self, cell: &Cell, claimed: &Claimed, worker: u32) -> u32 {
        cell.stop.store(0, Ordering::Release);
        let mut seat = cell.seat.lock();
        seat.take(claimed, worker);
        seat.turn
    }

    /// The body has ended: the cell may have another lease. False if its ticket has answered before.
    pub(crate) fn end(&self, cell: &Cell) -> bool {
        let mut seat = cell.seat.lock();
        let left = seat.leave(cell);
        // What it holds may run code of an executor or of the host as it goes: not under the lock.
        drop(seat);
        left.is_none_or(let_go)
    }

    /// Both at once, for a body whose end has been stored. Returns the turn of the lease that begins. A ticket that
    /// has answered meanwhile has come too late, as the engine has told it.
    pub(crate) fn pass_on(&self, cell: &Cell, claimed: &Claimed, worker: u32) -> u32 {
        let mut seat = cell.seat.lock();
        let left = seat.leave(cell);
        // Under the lock, as whoever raises it looks whose lease it is.
        cell.stop.store(0, Ordering::Release);
        seat.take(claimed, worker);
        let turn = seat.turn;
        drop(seat);
        left.map(let_go);
        turn
    }

    /// Takes the right to answer for a lease: the first to come gets it, all others get `None`.
    pub(crate) fn redeem(&self, ticket: Ticket, outcome: &Outcome) -> Option<Redeemed> {
        let all = self.all.read();
        let (cell, mut seat) = find(&all, ticket)?;
        if let Some(lease) = seat.parked.take() {
            return Some(Redeemed::Parked(lease));
        }
        seat.answered = Some(outcome.clone());
        cell.answered.store(true, Ordering::Release);
        let (job, wakers) = (seat.job, std::mem::take(&mut seat.wakers));
        drop(seat);
        drop(all);
        wakers.into_iter().for_each(Waker::wake);
        job.map(Redeemed::Running)
    }

    /// Why whoever has this ticket should stop, if for another reason than `known`. Without one, `waker` is woken
    /// when there may be one: the reason is raised under the same lock.
    pub(crate) fn reason_or_listen(
        &self,
        ticket: Ticket,
        known: Option<StopReason>,
        waker: &Waker,
    ) -> Option<StopReason> {
        let all = self.all.read();
        let Some((cell, mut seat)) = find(&all, ticket) else {
            return Some(StopReason::LeaseLost);
        };
        let reason = cell.stop_reason().filter(|reason| Some(*reason) != known);
        if reason.is_none() {
            seat.listen(waker);
        }
        reason
    }

    /// Wakes this waker no more on account of this ticket.
    pub(crate) fn unlisten(&self, ticket: Ticket, waker: &Waker) {
        let all = self.all.read();
        if let Some((_, mut seat)) = find(&all, ticket) {
            seat.wakers.retain(|w| !w.will_wake(waker));
        }
    }

    /// The job of a ticket that still counts, and why its handler should stop.
    pub(crate) fn find(&self, ticket: Ticket) -> Option<(JobRef, Option<StopReason>)> {
        let all = self.all.read();
        let (cell, seat) = find(&all, ticket)?;
        seat.job.map(|job| (job, cell.stop_reason()))
    }

    /// What holds the headers of the job of a ticket that still counts, if it has any.
    pub(crate) fn headers(&self, ticket: Ticket) -> Option<Option<Arc<Extras>>> {
        let all = self.all.read();
        let (_, seat) = find(&all, ticket)?;
        Some(seat.headers.clone())
    }

    /// Every lease that was left to its ticket. None can be left from now on: it would hold the dispatcher, and
    /// with it this, for ever.
    pub(crate) fn abandon(&self) -> Vec<Lease> {
        let parked = |cell: &Arc<Cell>| {
            let mut seat = cell.seat.lock();
            seat.abandoned = true;
            seat.parked.take()
        };
        self.all.read().iter().filter_map(parked).collect()
    }

    /// What became of this many ended bodies has been stored, or has failed to be.
    pub(crate) fn settled(&self, count: usize) {
        if count > 0 && self.active.fetch_sub(count, Ordering::SeqCst) == count {
            self.idle.ring_all();
        }
    }

    /// How many leases are live, or ended and not yet settled.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// How many leases are live, and not about to be passed on.
    pub(crate) fn live(&self) -> usize {
        let is_live = |cell: &&Arc<Cell>| {
            let seat = cell.seat.lock();
            seat.job.is_some() && !cell.passing.load(Ordering::SeqCst)
        };
        self.all.read().iter().filter(is_live).count()
    }

    /// The live leases, with when each was claimed.
    pub(crate) fn held(&self) -> Vec<(JobRef, Timestamp)> {
        let all = self.all.read();
        let held = all.iter().filter_map(|cell| {
            let seat = cell.seat.lock();
            seat.job.map(|job| (job, seat.claimed))
        });
        held.collect()
    }

    /// Tells the handler of this claim to stop, if it is ours and has begun; says whether.
    pub(crate) fn signal(&self, job: JobRef, reason: StopReason) -> bool {
        let mut found = false;
        self.signal_all(reason, |held| {
            found |= held == job;
            held == job
        });
        found
    }

    /// Tells the handler of this claim to stop, now or as soon as it begins: between the engine's claim and the
    /// begin of the lease nobody can be told. False if it has not begun, and then [`Cells::forget`] a claim that
    /// will not.
    pub(crate) fn signal_when_begun(&self, job: JobRef, reason: StopReason) -> bool {
        if self.signal(job, reason) {
            return true;
        }
        self.unheard.note(job, reason);
        // It may have begun since, and have found no note.
        let begun = self.signal(job, reason);
        if begun {
            self.forget(job);
        }
        begun
    }

    /// How many are to be woken on account of this ticket.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn listeners_of(&self, ticket: Ticket) -> usize {
        find(&self.all.read(), ticket).map_or(0, |(_, seat)| seat.wakers.len())
    }

    /// Whether everybody has been told what there was to tell.
    #[cfg(test)]
    pub(crate) fn nothing_unheard(&self) -> bool {
        self.unheard.is_empty()
    }

    /// Forgets what a claim was to be told when it begins.
    pub(crate) fn forget(&self, job: JobRef) {
        if !self.unheard.is_empty() {
            self.unheard.take(job);
        }
    }

    /// Tells those that have just begun what they could not be told before. Either this sees the note, or whoever
    /// has written it sees that the lease has begun.
    pub(crate) fn hear(&self, begun: &[Lease]) {
        if begun.is_empty() || self.unheard.is_empty() {
            return;
        }
        for lease in begun {
            if let Some(reason) = self.unheard.take(lease.job()) {
                self.signal(lease.job(), reason);
            }
        }
    }

    /// Tells the handlers of the claims that `which` chooses to stop.
    pub(crate) fn signal_all(&self, reason: StopReason, mut which: impl FnMut(JobRef) -> bool) {
        let (mut woken, mut told) = (Vec::new(), Vec::new());
        for cell in self.all.read().iter() {
            // The seat stays locked, so that the cell cannot pass to another lease in between.
            let mut seat = cell.seat.lock();
            if seat.job.is_some_and(&mut which) && cell.raise(reason) {
                woken.append(&mut seat.wakers);
                told.push((seat.worker, cell.ticket(seat.turn), reason));
            }
        }
        self.listeners.tell(told);
        // Waking runs code of an executor: not under a lock.
        woken.into_iter().for_each(Waker::wake);
    }

    /// Has a consumer be told which of its leases should stop, from now on, and of those that should already.
    pub(crate) fn listen(&self, worker: u32, hail: &Arc<Hail>) {
        self.listeners.add(worker, hail);
        let should_stop = |cell: &Arc<Cell>| {
            let seat = cell.seat.lock();
            let reason = cell
                .stop_reason()
                .filter(|_| seat.worker == worker && seat.job.is_some());
            reason.map(|reason| (worker, cell.ticket(seat.turn), reason))
        };
        let told = self.all.read().iter().filter_map(should_stop).collect();
        self.listeners.tell(told);
    }
}

/// The cell and the seat of a ticket that still counts.
fn find(all: &[Arc<Cell>], ticket: Ticket) -> Option<(&Cell, MutexGuard<'_, Seat>)> {
    let place = (ticket.0 as u32).checked_sub(1)?;
    let cell = all.get(place as usize)?;
    let seat = cell.seat.lock();
    let counts = seat.job.is_some() && seat.answered.is_none() && cell.ticket(seat.turn) == ticket;
    counts.then_some((cell, seat))
}
