use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::dispatcher::{KindSet, Lease};
use crate::job::{NewJob, State};
use crate::outcome::Outcome;
use crate::time::{ManualClock, Timestamp};
use crate::{ErrorKind, Options};

const SOON: Duration = Duration::from_secs(60);

fn claim(d: &Dispatcher) -> Lease {
    d.push(NewJob::new("k", ())).expect("there is room");
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let next = consumer.next(Deadline::after(SOON));
    next.expect("the engine answers").expect("a job waits")
}

fn wait(d: &Dispatcher, ticket: Ticket, known: Option<StopReason>) -> Option<StopReason> {
    let reason = d.wait_stop(ticket, known, Deadline::after(SOON));
    reason.expect("this is no fork")
}

/// What somebody hears who waits before `act` comes.
fn heard(d: &Dispatcher, ticket: Ticket, act: impl FnOnce()) -> Option<StopReason> {
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(d, ticket, None));
        while d.0.cells.listeners_of(ticket) == 0 {
            thread::yield_now();
        }
        act();
        waiter.join().expect("it does not panic")
    })
}

#[test]
fn each_reason_wakes() {
    let d = Dispatcher::in_memory().unwrap();
    let lease = claim(&d);
    let ticket = lease.ticket();
    let cancel = || assert_eq!(d.cancel(lease.id()).unwrap(), State::Running);
    assert_eq!(heard(&d, ticket, cancel), Some(StopReason::Cancelled));
    assert_eq!(wait(&d, ticket, None), Some(StopReason::Cancelled), "at once");
    drop(lease);

    let lease = claim(&d);
    let ticket = lease.ticket();
    let stopping = heard(&d, ticket, || d.request_stop());
    assert_eq!(stopping, Some(StopReason::Stopping));
    let lost = thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&d, ticket, Some(StopReason::Stopping)));
        d.stop(Duration::ZERO).unwrap();
        waiter.join().unwrap()
    });
    assert_eq!(lost, Some(StopReason::LeaseLost), "more than it knew");
}

/// Whoever is told that its answer no longer counts may answer at once: it does not count.
#[test]
fn who_gives_up_at_the_end_of_the_grace_is_handed_back() {
    for _ in 0..20 {
        let d = Dispatcher::in_memory().unwrap();
        let lease = claim(&d);
        let (id, ticket) = (lease.id(), lease.ticket());
        thread::scope(|scope| {
            let gives_up = || {
                wait(&d, ticket, Some(StopReason::Stopping));
                lease.complete(Outcome::done()).unwrap();
            };
            scope.spawn(gives_up);
            while d.0.cells.listeners_of(ticket) == 0 {
                thread::yield_now();
            }
            assert_eq!(d.stop(Duration::ZERO).unwrap().handed_back, 1);
        });
        assert_eq!(d.state(id).unwrap(), State::Queued);
    }
}

#[test]
fn a_timeout_wakes() {
    let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
    let d = Dispatcher::open_with_clock("memory:?timeout=1s", Options::default(), clock.clone()).unwrap();
    let lease = claim(&d);
    let reason = heard(&d, lease.ticket(), || {
        clock.advance(Duration::from_secs(2));
        d.upkeep().unwrap();
    });
    assert_eq!(reason, Some(StopReason::TimedOut));
}

#[test]
fn the_end_wakes() {
    let d = Dispatcher::in_memory().unwrap();
    for by_ticket in [false, true] {
        let lease = claim(&d);
        let (ticket, mut lease) = (lease.ticket(), Some(lease));
        let reason = heard(&d, ticket, || match by_ticket {
            // The body goes on, but what it has to say no longer counts.
            true => drop(d.finish([(ticket, Outcome::done())]).unwrap()),
            false => assert!(lease.take().unwrap().complete(Outcome::done()).is_ok()),
        });
        assert_eq!(reason, Some(StopReason::LeaseLost), "by ticket: {by_ticket}");
        let known = Some(StopReason::LeaseLost);
        assert_eq!(wait(&d, ticket, known), known, "there is nothing to come");
    }
    let ticket = claim(&d).park();
    let finish = || drop(d.finish([(ticket, Outcome::done())]).unwrap());
    assert_eq!(heard(&d, ticket, finish), Some(StopReason::LeaseLost));
}

#[test]
fn without_a_reason_the_time_passes_and_nothing_stays_behind() {
    let d = Dispatcher::in_memory().unwrap();
    let lease = claim(&d);
    for known in [None, Some(StopReason::Stopping)] {
        let over = d.wait_stop(lease.ticket(), known, Deadline::after(Duration::from_millis(1)));
        assert_eq!(over.unwrap(), None);
        assert_eq!(
            d.wait_stop(lease.ticket(), known, Deadline::after(Duration::ZERO))
                .unwrap(),
            None
        );
    }
    assert_eq!(d.0.cells.listeners_of(lease.ticket()), 0);
}

/// Signals and ends from one thread, waits from two others: each is woken, each time.
#[test]
fn no_reason_is_missed() {
    let d = Dispatcher::in_memory().unwrap();
    let (heard, rounds) = (AtomicUsize::new(0), 2000);
    thread::scope(|scope| {
        let (mut to, mut done) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (tickets, given) = mpsc::channel::<Ticket>();
            let (tell, told) = mpsc::channel::<()>();
            let (d, heard) = (&d, &heard);
            scope.spawn(move || {
                for ticket in given {
                    let reason = wait(d, ticket, None);
                    assert!(reason.is_some(), "it was never woken");
                    heard.fetch_add(1, Ordering::SeqCst);
                    let _ = tell.send(());
                }
            });
            to.push(tickets);
            done.push(told);
        }
        for round in 0..rounds {
            let lease = claim(&d);
            for waiter in &to {
                waiter.send(lease.ticket()).unwrap();
            }
            if round % 2 == 0 {
                d.cancel(lease.id()).unwrap();
            }
            lease.complete(Outcome::done()).unwrap();
            for waiter in &done {
                waiter.recv_timeout(SOON).expect("it has heard");
            }
        }
    });
    assert_eq!(heard.into_inner(), 2 * rounds);
}

#[test]
fn a_ticket_that_nobody_gave_out_is_lost() {
    let d = Dispatcher::in_memory().unwrap();
    assert_eq!(wait(&d, Ticket(0), None), Some(StopReason::LeaseLost));
    let kind = d.extend(Ticket(0), SOON).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Stale);
}
