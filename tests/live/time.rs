//! Time that passes by itself.

use std::sync::mpsc::{self};
use std::time::Duration;

use forebay::{Deadline, ErrorKind, FailureKind, NewJob, RetryPolicy, State};

use crate::stage::*;

/// Row 18 and R-27: a delayed job starts by itself, not early; text without a unit is refused.
#[test]
fn delayed_jobs_start_by_themselves() {
    let d = open(|_| ());
    d.register("k", |_| ()).unwrap();
    d.start().unwrap();
    let delay = forebay::parse_duration("30ms").unwrap();
    assert!(forebay::parse_duration("30").is_err());
    let job = d
        .wait(d.push(NewJob::new("k", ()).delay(delay)).unwrap().id, soon())
        .unwrap();
    let waited = job.started.unwrap().since(job.created);
    assert!(waited >= delay, "{waited:?} is early");
    assert_eq!(job.run_at, job.created.after(delay));
    d.stop(LONG).unwrap();
}

/// Row 12: retries come by themselves after their pause.
#[test]
fn retries_come_by_themselves() {
    let d = open(|o| o.retry = RetryPolicy::linear(Duration::from_millis(10)));
    d.register("flaky", |lease| {
        if lease.attempt() < 3 {
            Err("not yet")
        } else {
            Ok("done")
        }
    })
    .unwrap();
    d.start().unwrap();
    let job = d
        .wait(d.push(NewJob::new("flaky", ())).unwrap().id, soon())
        .unwrap();
    assert_eq!((job.state, job.attempt), (State::Succeeded, 3));
    let pauses: Vec<_> = job
        .history
        .windows(2)
        .map(|w| w[1].started.since(w[0].ended))
        .collect();
    assert!(
        pauses[0] >= Duration::from_millis(10) && pauses[1] >= Duration::from_millis(20),
        "{pauses:?}"
    );
    d.stop(LONG).unwrap();
}

/// a body that does not listen is timed out by itself; its slot is held, its late answer refused.
#[test]
fn a_deaf_body_is_timed_out() {
    let d = open(|o| o.concurrency = 1);
    let (door, porter) = door();
    d.register("deaf", move |lease| door.pass(lease)).unwrap();
    d.register("next", |_| ()).unwrap();
    d.start().unwrap();
    let slow = NewJob::new("deaf", ())
        .timeout(Duration::from_millis(20))
        .max_attempts(1);
    let id = d.push(slow).unwrap().id;
    porter.meet();
    let next = d.push(NewJob::new("next", ())).unwrap().id;
    let job = d.wait(id, soon()).unwrap();
    assert_eq!(
        (job.state, job.error.unwrap().kind),
        (State::Failed, FailureKind::TimedOut)
    );
    assert_eq!(
        d.wait(next, Deadline::after(SHORT)).unwrap_err().kind(),
        ErrorKind::Timeout,
        "the slot is held"
    );
    porter.let_in();
    assert_eq!(d.wait(next, soon()).unwrap().state, State::Succeeded);
    assert_eq!(
        (d.state(id).unwrap(), d.stats().unwrap().total().totals.stale),
        (State::Failed, 1)
    );
    assert_eq!(d.get(id).unwrap().attempt, 1, "it ran once");
    d.stop(LONG).unwrap();
}

/// Row 20: a handler that listens hears of its timeout and of a cancellation.
#[test]
fn a_handler_that_listens_stops() {
    let d = open(|o| o.concurrency = 1);
    let (said, heard) = mpsc::channel();
    d.register("listens", move |lease| {
        said.send(()).unwrap();
        until("the signal", || lease.cancelled());
        Err::<(), _>("stopped")
    })
    .unwrap();
    d.start().unwrap();
    let timed = NewJob::new("listens", ())
        .timeout(Duration::from_millis(10))
        .max_attempts(1);
    let job = d.wait(d.push(timed).unwrap().id, soon()).unwrap();
    assert_eq!(job.error.unwrap().kind, FailureKind::TimedOut);
    heard.recv_timeout(LONG).unwrap();
    let id = d.push(NewJob::new("listens", ())).unwrap().id;
    heard.recv_timeout(LONG).unwrap();
    assert_eq!(d.cancel(id).unwrap(), State::Running);
    assert_eq!(d.wait(id, soon()).unwrap().state, State::Cancelled);
    d.stop(LONG).unwrap();
}

/// Row 53: jobs expire, and are forgotten, by themselves.
#[test]
fn jobs_expire_by_themselves() {
    let d = open(|_| ());
    let id = d
        .push(NewJob::new("nobody's", ()).expires_after(Duration::from_millis(10)))
        .unwrap()
        .id;
    assert_eq!(d.wait(id, soon()).unwrap().state, State::Expired);
    d.drain(soon()).unwrap();
    d.stop(LONG).unwrap();
}

/// a wait returns when the job ends, or when its own time is over.
#[test]
fn a_wait_ends_in_time() {
    let d = open(|o| o.concurrency = 1);
    let (door, porter) = door();
    d.register("k", move |lease| door.pass(lease)).unwrap();
    d.start().unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    porter.meet();
    assert_eq!(
        d.wait(id, Deadline::after(SHORT)).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    porter.let_in();
    assert_eq!(d.wait(id, soon()).unwrap().state, State::Succeeded);
    d.stop(LONG).unwrap();
}
