//! Leases behind numbers, for hosts that cannot own a Rust value, or answer on another thread than the
//! one that ran the handler: C, Go, an event loop.
//!
//! A ticket is a cell and a turn, never a pointer: an answer that comes twice, too late or with an
//! invented number finds nothing and is refused, whatever thread it comes from. (Completion handles that
//! were pointers have been a use-after-free in more than one library.)
//!
//! A ticket may be used while the handler of its lease still runs. Of the handler's own answer and the
//! ticket's, the first to come counts; the slot is free when both the answer has come and the body has
//! ended.

use std::sync::Arc;
use std::time::Duration;

use super::cells::{Redeemed, StopReason};
use super::settle::{Answer, Ended, Settling};
use super::{Dispatcher, Inner, Lease};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Extras, NewJob, State};
use crate::outcome::Outcome;

/// The number of one lease, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// Room for so many answers is made beforehand.
const MANY: usize = 1024;

impl Dispatcher {
    /// Answers for leases by their tickets, in one call to the store. One answer per ticket, in order:
    /// `Stale` for a ticket that has been answered, whose lease was lost, or that nobody gave out.
    ///
    /// # Errors
    /// `Forked`; of the store. Then the tickets are used up, and their leases end by themselves if they
    /// have an end.
    pub fn finish(&self, done: impl IntoIterator<Item = (Ticket, Outcome)>) -> Result<Vec<Answer>> {
        self.0.birth.check()?;
        let done = done.into_iter();
        let mut answers = Vec::with_capacity(done.size_hint().1.unwrap_or(0).min(MANY));
        Settling::lent(|settling| {
            for (ticket, outcome) in done {
                let end = self.0.redeem(ticket, outcome)?;
                // What is said of those that count comes from the store.
                answers.push(
                    end.as_ref()
                        .map_or(Answer::Stale, |_| Answer::Stored(State::Running)),
                );
                settling.ended.extend(end);
            }
            self.0.settle(settling)?;
            let counted = answers.iter_mut().filter(|answer| **answer != Answer::Stale);
            counted.zip(&settling.answers).for_each(|(to, from)| *to = *from);
            Ok(answers)
        })
    }

    /// Answers for a lease by its ticket, and pushes follow-up jobs in the same write: either both are stored or
    /// neither. See [`Lease::complete_and_push`]; here follow-ups that are not valid are found first.
    ///
    /// # Errors
    /// `Invalid` if a follow-up is not valid: then the ticket is still good. Else as [`Lease::complete_and_push`].
    pub fn finish_and_push(
        &self,
        ticket: Ticket,
        outcome: impl Into<Outcome>,
        jobs: &[NewJob<'_>],
    ) -> Result<Answer> {
        self.0.birth.check()?;
        let now = self.0.now();
        jobs.iter()
            .try_for_each(|job| self.0.prepare(job, now).map(drop))?;
        match self.0.redeem(ticket, outcome.into())? {
            Some(ended) => self.0.settle_with(ended, jobs),
            None => Ok(Answer::Stale),
        }
    }

    /// What holds the headers of the job of a ticket, which lives as long as its lease does; `None` for a job
    /// without headers.
    ///
    /// # Errors
    /// `Stale` if the ticket no longer counts; `Forked`.
    pub fn headers(&self, ticket: Ticket) -> Result<Option<Arc<Extras>>> {
        self.0.birth.check()?;
        self.0.cells.headers(ticket).ok_or_else(unknown)
    }

    /// Makes the lease of a ticket end `lease` from now.
    ///
    /// # Errors
    /// `Stale` if it is no longer held; `Forked`; of the store.
    pub fn extend(&self, ticket: Ticket, lease: Duration) -> Result<()> {
        self.0.birth.check()?;
        let (job, _) = self.0.cells.find(ticket).ok_or_else(unknown)?;
        self.0.extend(job, lease)
    }

    /// Why whoever works on the job of a ticket should stop, or might want to; `LeaseLost` for a ticket
    /// that no longer counts.
    #[must_use]
    pub fn stop_reason(&self, ticket: Ticket) -> Option<StopReason> {
        match self.0.cells.find(ticket) {
            Some((_, reason)) => reason,
            None => Some(StopReason::LeaseLost),
        }
    }
}

impl Lease {
    /// The number under which any thread can answer for this lease: see [`Dispatcher::finish`].
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.body().ticket()
    }

    /// Leaves the lease to whoever holds its ticket; it keeps its slot until they answer. If they have
    /// answered already, it ends now.
    pub fn park(self) -> Ticket {
        let (ticket, cell) = (self.ticket(), self.body().cell.clone());
        if let Some(back) = cell.park(self) {
            let (lease, answered) = *back;
            if let Some(outcome) = answered {
                lease.leave(&outcome);
            }
        }
        ticket
    }
}

impl Inner {
    /// Takes the right to answer for the lease of a ticket; `None` if somebody has it already.
    fn redeem(&self, ticket: Ticket, outcome: Outcome) -> Result<Option<Ended>> {
        match self.cells.redeem(ticket, &outcome) {
            None => Ok(None),
            Some(Redeemed::Parked(lease)) => {
                lease.leave(&outcome);
                Ok(lease.end(outcome))
            }
            Some(Redeemed::Running(job)) => {
                let at = self.engine.standing(job.id)?;
                let at = at.filter(|at| at.state == State::Running && at.job.fence == job.fence);
                Ok(at.map(|at| Ended::located(&at, outcome)))
            }
        }
    }
}

fn unknown() -> Error {
    Error::new(
        ErrorKind::Stale,
        "the ticket no longer counts: it was answered, its lease was lost, or nobody gave it out",
    )
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::Options;
    use crate::dispatcher::KindSet;
    use crate::time::{Deadline, ManualClock};

    const SOON: Duration = Duration::from_secs(60);

    fn claim(d: &Dispatcher) -> Lease {
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let next = consumer.next(Deadline::after(SOON));
        next.expect("the engine answers").expect("a job waits")
    }

    fn finish(d: &Dispatcher, ticket: Ticket) -> Answer {
        d.finish([(ticket, Outcome::done())]).expect("the engine answers")[0]
    }

    #[test]
    fn a_ticket_counts_once() {
        let d = Dispatcher::in_memory().unwrap();
        let id = d.push(NewJob::new("k", ())).unwrap().id;
        let ticket = claim(&d).park();
        let won = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for i in 0..8u64 {
                let (d, won) = (&d, &won);
                scope.spawn(move || {
                    for j in 0..200u64 {
                        let invented = Ticket(ticket.0 ^ (i * 200 + j + 1) << 20);
                        assert_eq!(finish(d, invented), Answer::Stale);
                        if finish(d, ticket) == Answer::Stored(State::Succeeded) {
                            won.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), 1);
        assert_eq!(d.state(id).unwrap(), State::Succeeded);
        assert_eq!(d.stats().unwrap().bodies, 0);
        assert_eq!(finish(&d, Ticket(0)), Answer::Stale);
        assert_eq!(d.stop_reason(ticket), Some(StopReason::LeaseLost));
        assert_eq!(d.extend(ticket, SOON).unwrap_err().kind(), ErrorKind::Stale);
    }

    #[test]
    fn follow_ups_come_with_the_answer_of_a_ticket() {
        let d = Dispatcher::in_memory().unwrap();
        let push = |job| d.push(job).unwrap().id;
        let follow_ups = [NewJob::new("next", ()), NewJob::new("next", ()).key("key")];
        let first = push(NewJob::new("k", ()).priority(1));
        let ticket = claim(&d).park();
        let bad = [NewJob::new("next", ()), NewJob::new("\n", ())];
        let error = d.finish_and_push(ticket, Outcome::done(), &bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(d.len("default").unwrap(), 0, "neither");
        let answer = d.finish_and_push(ticket, Outcome::done(), &follow_ups);
        assert_eq!(answer.unwrap(), Answer::Stored(State::Succeeded));
        assert_eq!(
            (d.state(first).unwrap(), d.len("default").unwrap()),
            (State::Succeeded, 2)
        );
        let again = d.finish_and_push(ticket, Outcome::done(), &follow_ups);
        assert_eq!((again.unwrap(), d.len("default").unwrap()), (Answer::Stale, 2));
        push(NewJob::new("k", ()).priority(1));
        let conflict = [NewJob::new("other", ()).key("key")];
        let error = d.finish_and_push(claim(&d).park(), Outcome::done(), &conflict);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn a_ticket_knows_the_headers_while_it_counts() {
        let d = Dispatcher::in_memory().unwrap();
        for header in [Some("trace"), None, Some("span")] {
            let job = NewJob::new("k", ());
            d.push(match header {
                Some(name) => job.header(name, "1"),
                None => job,
            })
            .unwrap();
            let ticket = claim(&d).park();
            let extras = d.headers(ticket).unwrap();
            let found = extras.as_ref().map(|extras| extras.headers[0].0.as_str());
            assert_eq!(found, header, "not those of the lease before");
            finish(&d, ticket);
            assert_eq!(d.headers(ticket).unwrap_err().kind(), ErrorKind::Stale);
        }
    }

    /// A handler that gives its ticket away, and returns *pending* when it is let go.
    fn held_open() -> (Dispatcher, mpsc::Receiver<Ticket>, mpsc::Sender<()>) {
        let (tickets, given) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let gone = parking_lot::Mutex::new(gone);
        let d = Dispatcher::in_memory().expect("memory opens");
        d.register("k", move |lease| {
            tickets.send(lease.ticket()).expect("the test listens");
            let _ = gone.lock().recv_timeout(SOON);
            Outcome::Pending
        })
        .expect("a valid name");
        d.start().expect("threads start");
        (d, given, go)
    }

    #[test]
    fn follow_ups_may_come_before_the_handler_returns() {
        let (d, given, go) = held_open();
        d.push(NewJob::new("k", ())).unwrap();
        let ticket = given.recv_timeout(SOON).unwrap();
        let follow_up = [NewJob::new("later", ()).delay(SOON)];
        let answer = d.finish_and_push(ticket, Outcome::done(), &follow_up);
        assert_eq!(answer.unwrap(), Answer::Stored(State::Succeeded));
        assert_eq!(d.0.cells.active(), 1, "the body still runs");
        go.send(()).unwrap();
        d.stop(SOON).unwrap();
        assert_eq!(d.0.cells.active(), 0);
    }

    #[test]
    fn a_ticket_may_answer_before_the_handler_returns() {
        let (d, given, go) = held_open();
        let id = d.push(NewJob::new("k", ())).unwrap().id;
        let ticket = given.recv_timeout(SOON).unwrap();
        assert_eq!(finish(&d, ticket), Answer::Stored(State::Succeeded));
        assert_eq!(d.state(id).unwrap(), State::Succeeded, "at once");
        assert_eq!(finish(&d, ticket), Answer::Stale);
        assert!(d.stats().unwrap().bodies >= 1, "the body still runs");
        go.send(()).unwrap();
        let report = d.stop(SOON).unwrap();
        assert_eq!((report.handed_back, d.stats().unwrap().bodies), (0, 0));
    }

    #[test]
    fn of_the_two_answers_the_first_counts() {
        let d = Dispatcher::in_memory().unwrap();
        let id = d.push(NewJob::new("k", ())).unwrap().id;
        let lease = claim(&d);
        let failed = [(lease.ticket(), Outcome::fatal("by ticket"))];
        assert_eq!(d.finish(failed).unwrap(), [Answer::Stored(State::Failed)]);
        assert_eq!(lease.complete(Outcome::done()).unwrap(), Answer::Stale);
        assert_eq!(d.state(id).unwrap(), State::Failed);

        d.push(NewJob::new("k", ())).unwrap();
        let lease = claim(&d);
        let ticket = lease.ticket();
        assert_eq!(
            lease.complete(Outcome::done()).unwrap(),
            Answer::Stored(State::Succeeded)
        );
        assert_eq!(finish(&d, ticket), Answer::Stale);
        assert_eq!(d.stats().unwrap().bodies, 0);
    }

    #[test]
    fn a_pending_answer_may_time_out() {
        let clock = Arc::new(ManualClock::new());
        let d = Dispatcher::open_with_clock("memory:?timeout=1s", Options::default(), clock.clone()).unwrap();
        let id = d.push(NewJob::new("k", ())).unwrap().id;
        let lease = claim(&d);
        let ticket = lease.ticket();
        assert_eq!(
            lease.complete(Outcome::Pending).unwrap(),
            Answer::Stored(State::Running)
        );
        assert_eq!(d.stop_reason(ticket), None);
        clock.advance(Duration::from_secs(2));
        d.upkeep().unwrap();
        assert_eq!(d.stop_reason(ticket), Some(StopReason::TimedOut));
        assert_eq!(d.state(id).unwrap(), State::Scheduled);
        assert_eq!(
            d.stats().unwrap().bodies,
            1,
            "whoever has the ticket still works on it"
        );
        assert_eq!(finish(&d, ticket), Answer::Stale);
        assert_eq!(d.stats().unwrap().bodies, 0);
    }

    #[test]
    fn answers_keep_the_order_of_their_tickets() {
        let d = Dispatcher::in_memory().unwrap();
        for _ in 0..3 {
            d.push(NewJob::new("k", ())).unwrap();
        }
        let tickets: Vec<Ticket> = (0..3).map(|_| claim(&d).park()).collect();
        assert_eq!(finish(&d, tickets[1]), Answer::Stored(State::Succeeded));
        let all = tickets.iter().map(|t| (*t, Outcome::fatal("no")));
        let (failed, stale) = (Answer::Stored(State::Failed), Answer::Stale);
        assert_eq!(d.finish(all).unwrap(), [failed, stale, failed]);
    }

    #[test]
    fn nothing_outlives_the_last_handle() {
        let owned = Arc::new(());
        for stop_first in [true, false] {
            let d = Dispatcher::in_memory().unwrap();
            let own = owned.clone();
            d.register("k", move |_| {
                let _ = &own;
            })
            .unwrap();
            d.push(NewJob::new("k", ())).unwrap();
            let ticket = claim(&d).park();
            if stop_first {
                assert_eq!(d.stop(Duration::ZERO).unwrap().handed_back, 1);
                assert_eq!(finish(&d, ticket), Answer::Stale);
                assert_eq!(d.stop_reason(ticket), Some(StopReason::LeaseLost));
            }
            drop(d);
            assert_eq!(Arc::strong_count(&owned), 1, "stop first: {stop_first}");
        }
    }

    #[test]
    fn a_handler_may_drop_the_last_handle() {
        let (gone, told) = mpsc::channel();
        struct Tell(mpsc::Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let tell = Tell(gone);
        let cell = Arc::new(parking_lot::Mutex::new(None));
        let d = Dispatcher::in_memory().unwrap();
        let handle = cell.clone();
        d.register("k", move |_| {
            let _ = &tell;
            drop(handle.lock().take());
        })
        .unwrap();
        d.push(NewJob::new("k", ())).unwrap();
        let mut last = cell.lock();
        d.start().unwrap();
        *last = Some(d);
        drop(last);
        told.recv_timeout(SOON)
            .expect("the handler is dropped once everything has ended");
    }
}
