//! Stopping, and a store that fails (rows 24 and 1; ).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::Make;
use super::dump::Folder;
use super::stage::{SECOND, Stage, at_once, job, soon, until};
use super::wrap::{Call, Watched};
use crate::config::KindOptions;
use crate::dispatcher::{Answer, StopReport};
use crate::error::{Error, ErrorKind};
use crate::event::{EventKind, Level};
use crate::job::{NewJob, State};
use crate::outcome::{FailureKind, Outcome};
use crate::{Deadline, StopReason};

const LONG: Duration = Duration::from_secs(60);

/// A stopped dispatcher accepts and hands out nothing; what it knows can still be read.
pub fn a_stopped_dispatcher_only_answers_questions(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    let report = stage.d.stop(Duration::ZERO).unwrap();
    assert_eq!((report.handed_back, report.waiting), (0, 1));
    assert!(stage.d.stopping());
    let refused = [
        stage.d.push(job()).map(|_| ()).map_err(Error::from),
        stage.d.declare("k", KindOptions::new()).map(|_| ()),
        stage.d.start(),
        stage.d.pause("default"),
        stage.d.signal(id, "t"),
        stage.consumer().next(at_once()).map(|_| ()),
        stage.d.wait(id, soon()).map(|_| ()),
    ];
    for (i, result) in refused.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed, "call {i}");
    }
    assert_eq!(
        (stage.state(id), stage.d.stats().unwrap().bodies),
        (State::Queued, 0)
    );
}

/// What could only loop behind a stop ends: cancelling, purging, upkeep with much that is overdue.
pub fn nothing_loops_behind_a_stop(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    let running = stage.push(job());
    let done = stage.push(job());
    stage.run(Outcome::done());
    let body = stage.take();
    let mortal: Vec<NewJob<'_>> = (0..3000).map(|_| job().expires_after(SECOND)).collect();
    stage.d.push_many(&mortal).unwrap();
    stage.d.stop(Duration::ZERO).unwrap();
    for open in [running, done] {
        assert_eq!(stage.d.cancel(open).unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(stage.d.cancel(id).unwrap(), State::Succeeded);
    assert_eq!(stage.d.purge("default").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(stage.d.drain(soon()).unwrap_err().kind(), ErrorKind::Closed);
    stage.clock.advance(SECOND * 2);
    stage.d.upkeep().unwrap();
    assert_eq!(body.complete(Outcome::done()).unwrap(), Answer::Stale);
    assert_eq!((stage.counts().queued, stage.counts().totals.expired), (3002, 0));
}

/// what runs beyond the grace is handed back, its attempt too; the late answer is refused.
pub fn what_outlives_the_grace_is_handed_back(make: Make<'_>) {
    let stage = Stage::new(make);
    let events = stage.d.subscribe(100);
    let id = stage.push(job());
    let body = stage.take();
    let report = stage.d.stop(Duration::ZERO).unwrap();
    assert_eq!((report.handed_back, report.waiting), (1, 1));
    let job = stage.get(id);
    assert_eq!(
        (job.state, job.attempt),
        (State::Queued, 0),
        "claimable at once, the attempt is not charged"
    );
    assert_eq!(
        job.history[0].failure.as_ref().map(|f| f.kind),
        Some(FailureKind::Interrupted)
    );
    assert_eq!(body.stop_reason(), Some(StopReason::LeaseLost));
    assert_eq!(body.complete(Outcome::done()).unwrap(), Answer::Stale);
    assert_eq!(stage.state(id), State::Queued);
    let kinds: Vec<EventKind> = events.drain().map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Pushed,
            EventKind::Started,
            EventKind::Returned,
            EventKind::Stopped,
            EventKind::Stale
        ]
    );
    stage.check_balance();
}

/// What a stop hands back stands before what waited behind it, in its old order, also where a dump takes it.
pub fn what_is_handed_back_comes_first(make: Make<'_>) {
    let (folder, stage) = (Folder::new(), Stage::new(make));
    let ids: Vec<_> = (0..5).map(|_| stage.push(job())).collect();
    let bodies = [stage.take(), stage.take(), stage.take()];
    stage.d.stop(Duration::ZERO).unwrap();
    stage.d.dump(folder.file()).unwrap();
    drop(bodies);
    let next = Stage::new(make);
    next.d.restore(folder.file()).unwrap();
    let again: Vec<_> = (0..5).map(|_| next.take().id()).collect();
    assert_eq!(again, ids);
}

/// by another policy the attempt is charged, and the last one fails the job.
pub fn an_interrupted_attempt_may_count(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.count_interrupted = true);
    let two = stage.push(job().max_attempts(2));
    let one = stage.push(job().max_attempts(1));
    let bodies = [stage.take(), stage.take()];
    let report = stage.d.stop(Duration::ZERO).unwrap();
    assert_eq!((report.handed_back, report.waiting), (1, 1));
    assert_eq!((stage.state(two), stage.get(two).attempt), (State::Queued, 1));
    assert_eq!(stage.state(one), State::Failed);
    drop(bodies);
}

/// stopping twice is stopping once, with a backlog and with running work, also at the same time.
pub fn stopping_twice_is_stopping_once(make: Make<'_>) {
    let stage = Stage::new(make);
    for _ in 0..50 {
        stage.push(job());
    }
    let bodies = [stage.take(), stage.take()];
    let reports: Vec<StopReport> = std::thread::scope(|scope| {
        let stops: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| stage.d.stop(Duration::from_millis(1)).unwrap()))
            .collect();
        stops.into_iter().map(|s| s.join().unwrap()).collect()
    });
    for report in reports.into_iter().chain([stage.d.stop(LONG).unwrap()]) {
        assert_eq!((report.handed_back, report.waiting), (2, 50));
    }
    assert_eq!(
        (stage.counts().queued, stage.counts().running),
        (50, 0),
        "the backlog is there for others"
    );
    drop(bodies);
}

/// Row 24: what runs hears of the stop, may finish within the grace, and is recorded.
pub fn what_ends_within_the_grace_is_recorded(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job());
    let waiting = stage.push(job());
    let body = stage.take();
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| stage.d.stop(LONG).unwrap());
        until("the handler hears of it", || {
            body.stop_reason() == Some(StopReason::Stopping)
        });
        assert!(
            !body.cancelled() && body.check().is_ok(),
            "its answer still counts"
        );
        let follow = stage.push(job());
        assert_eq!(
            body.complete(Outcome::done()).unwrap(),
            Answer::Stored(State::Succeeded)
        );
        let report = stop.join().unwrap();
        assert_eq!((report.handed_back, report.waiting), (0, 2));
        assert_eq!(
            (stage.state(waiting), stage.state(follow)),
            (State::Queued, State::Queued)
        );
    });
    assert_eq!(
        (stage.state(id), stage.counts().totals.claimed),
        (State::Succeeded, 1)
    );
}

/// A request to stop returns at once; nothing more is handed out.
pub fn a_request_to_stop_returns_at_once(make: Make<'_>) {
    let stage = Stage::new(make);
    stage.push(job());
    stage.push(job());
    let body = stage.take();
    stage.d.request_stop();
    assert_eq!(
        stage.consumer().next(at_once()).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(body.stop_reason(), Some(StopReason::Stopping));
    body.complete(Outcome::done()).unwrap();
    assert_eq!(stage.d.stop(LONG).unwrap().waiting, 1);
}

/// A lease that is dropped while the dispatcher stops goes back; it is no failed attempt.
pub fn a_lease_dropped_at_a_stop_goes_back(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().max_attempts(1));
    let body = stage.take();
    stage.d.request_stop();
    drop(body);
    assert_eq!((stage.state(id), stage.get(id).attempt), (State::Queued, 0));
}

/// C21: a stop ends every wait: for work, for the end of a job, for an empty queue.
pub fn a_stop_ends_every_wait(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().delay(SECOND));
    stage.push(job().queue("never asked for"));
    let only = stage.d.queue("default").unwrap();
    std::thread::scope(|scope| {
        let mut consumer = stage.consumer().queues([only]);
        let worker = scope.spawn(move || consumer.next(soon()).map(|_| ()).map_err(|e| e.kind()));
        let waiter = scope.spawn(|| stage.d.wait(id, soon()).map(|_| ()).map_err(|e| e.kind()));
        assert!(stage.d.settle_to(1, LONG));
        until("the waiter", || {
            stage.d.0.engine.signals().finished.waiters() == 1
        });
        stage.d.stop(Duration::ZERO).unwrap();
        assert_eq!(worker.join().unwrap(), Err(ErrorKind::Closed));
        assert_eq!(waiter.join().unwrap(), Err(ErrorKind::Closed));
    });
}

/// What a gate lets through, and whom it holds up.
struct Gate {
    shut: AtomicBool,
    held: AtomicUsize,
}

/// A stage whose claims wait at a gate while it is shut.
fn gated(make: Make<'_>) -> (Stage, Arc<Gate>) {
    let gate = Arc::new(Gate {
        shut: AtomicBool::new(false),
        held: AtomicUsize::new(0),
    });
    let door = gate.clone();
    let engine = Watched::new(make(), move |call| {
        if matches!(call, Call::Turn(_, limit) if limit > 0) && door.shut.load(Ordering::SeqCst) {
            door.held.fetch_add(1, Ordering::SeqCst);
            until("the gate opens", || !door.shut.load(Ordering::SeqCst));
        }
        Ok(())
    });
    (Stage::over(engine, |_| ()), gate)
}

/// A claim that is under way when a stop begins: the job it takes is waited for and recorded.
pub fn a_claim_under_way_is_waited_for(make: Make<'_>) {
    let (stage, gate) = gated(make);
    let id = stage.push(job());
    gate.shut.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let mut consumer = stage.consumer();
        let worker = scope.spawn(move || {
            let lease = consumer
                .next(at_once())
                .unwrap()
                .expect("the claim was under way");
            lease.complete(Outcome::done()).unwrap()
        });
        until("the claim", || gate.held.load(Ordering::SeqCst) == 1);
        let stop = scope.spawn(|| stage.d.stop(LONG).unwrap());
        until("the stop", || stage.d.stopping());
        gate.shut.store(false, Ordering::SeqCst);
        assert_eq!(worker.join().unwrap(), Answer::Stored(State::Succeeded));
        let report = stop.join().unwrap();
        assert_eq!((report.handed_back, report.waiting), (0, 0));
    });
    assert_eq!(stage.state(id), State::Succeeded);
}

/// The same when there is no grace at all: what the claim takes is handed back.
pub fn a_claim_under_way_is_handed_back(make: Make<'_>) {
    let (stage, gate) = gated(make);
    let id = stage.push(job());
    gate.shut.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let mut consumer = stage.consumer();
        let (done, wait) = mpsc::channel::<()>();
        let worker = scope.spawn(move || {
            let lease = consumer
                .next(at_once())
                .unwrap()
                .expect("the claim was under way");
            wait.recv_timeout(LONG).unwrap();
            lease.complete(Outcome::done()).unwrap()
        });
        until("the claim", || gate.held.load(Ordering::SeqCst) == 1);
        let stop = scope.spawn(|| stage.d.stop(Duration::ZERO).unwrap());
        until("the stop", || stage.d.stopping());
        gate.shut.store(false, Ordering::SeqCst);
        let report = stop.join().unwrap();
        assert_eq!((report.handed_back, report.waiting), (1, 1));
        done.send(()).unwrap();
        assert_eq!(worker.join().unwrap(), Answer::Stale);
    });
    assert_eq!((stage.state(id), stage.counts().running), (State::Queued, 0));
}

/// A claim under way that finds nothing does not hold the stop up, whatever its caller does next.
pub fn an_empty_claim_under_way_holds_nothing_up(make: Make<'_>) {
    let (stage, gate) = gated(make);
    stage.push(job());
    let mut consumer = stage.consumer();
    let lease = consumer.next(at_once()).unwrap().unwrap();
    gate.shut.store(true, Ordering::SeqCst);
    let (said, heard) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (answer, next) = consumer.complete_and_next(lease, Outcome::done()).unwrap();
            assert_eq!((answer, next.is_none()), (Answer::Stored(State::Succeeded), true));
        });
        until("the claim", || gate.held.load(Ordering::SeqCst) == 1);
        scope.spawn(|| {
            stage.d.stop(LONG * 10).unwrap();
            said.send(()).unwrap();
        });
        until("the stop", || stage.d.stopping());
        until("the stop waits", || stage.d.0.cells.idle.waiting() > 0);
        gate.shut.store(false, Ordering::SeqCst);
        heard
            .recv_timeout(LONG)
            .expect("the stop ends long before its grace");
    });
}

/// A drain waits until nothing is queued and nothing runs.
pub fn a_drain_waits_for_the_last_job(make: Make<'_>) {
    let stage = Stage::new(make);
    stage.d.drain(at_once()).unwrap();
    stage.push(job());
    stage.push(job());
    stage.push(job().delay(SECOND));
    let error = stage
        .d
        .drain(Deadline::after(Duration::from_millis(5)))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| stage.d.drain(soon()));
        until("the drain", || stage.d.0.cells.idle.waiting() > 0);
        stage.run(Outcome::done());
        stage.run(Outcome::done());
        drain.join().unwrap().unwrap();
    });
}

/// A drain hears of the last job also when it is cancelled, purged, or expires.
pub fn a_drain_hears_of_every_end(make: Make<'_>) {
    for end in ["cancel", "purge", "expire"] {
        let stage = Stage::new(make);
        let id = stage.push(job().expires_after(SECOND));
        let (said, heard) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| said.send(stage.d.drain(soon()).map_err(|e| e.kind())).unwrap());
            until("the drain", || stage.d.0.cells.idle.waiting() > 0);
            match end {
                "cancel" => drop(stage.d.cancel(id)),
                "purge" => drop(stage.d.purge("default")),
                _ => stage.advance(SECOND),
            }
            assert_eq!(heard.recv_timeout(LONG), Ok(Ok(())), "{end}");
        });
    }
}

/// A stage whose store fails whenever `fails` says so.
fn failing(make: Make<'_>, fails: fn(Call) -> bool) -> (Stage, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let state = broken.clone();
    let engine = Watched::new(make(), move |call| {
        match fails(call) && state.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Storage, "the disk is gone")),
            false => Ok(()),
        }
    });
    (Stage::over(engine, |_| ()), broken)
}

/// R-3 and row 1: a store that fails is an error of the push, which gives the job back; there is no id.
pub fn a_push_into_a_broken_store_fails(make: Make<'_>) {
    let (stage, broken) = failing(make, |call| matches!(call, Call::Insert(_)));
    broken.store(true, Ordering::SeqCst);
    let refused = stage.d.push(NewJob::new("k", b"mine")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Storage);
    let error = stage.d.push_many(&[job(), job()]).unwrap_err();
    assert_eq!((error.pushed.len(), error.error.kind()), (0, ErrorKind::Storage));
    assert_eq!((stage.counts().totals.pushed, stage.counts().queued), (0, 0));
    broken.store(false, Ordering::SeqCst);
    let id = stage.push(refused.into_job());
    assert_eq!(stage.get(id).payload.as_bytes(), Some(&b"mine"[..]));
}

/// A store that fails when an answer comes: the caller hears of it, the slot is free, the job is not lost.
pub fn an_answer_into_a_broken_store_fails(make: Make<'_>) {
    let (stage, broken) = failing(make, |call| matches!(call, Call::Turn(done, _) if done > 0));
    let events = stage.d.subscribe_from(Level::Info, 100);
    let mut consumer = stage.consumer().lease(Some(SECOND));
    let id = stage.push(job());
    let lease = consumer.next(at_once()).unwrap().unwrap();
    broken.store(true, Ordering::SeqCst);
    assert_eq!(
        lease.complete(Outcome::done()).unwrap_err().kind(),
        ErrorKind::Storage
    );
    assert_eq!(
        (stage.state(id), stage.d.stats().unwrap().bodies),
        (State::Running, 0)
    );
    broken.store(false, Ordering::SeqCst);
    stage.advance(SECOND);
    assert_eq!(stage.state(id), State::Queued, "its lease ends by itself");
    stage.run(Outcome::done());
    let told: Vec<EventKind> = events.drain().map(|event| event.kind).collect();
    assert_eq!(
        told,
        [
            EventKind::StoreFailed,
            EventKind::Retried,
            EventKind::StoreRecovered
        ]
    );
    stage.d.stop(LONG).unwrap();
}

/// A store that fails when work is asked for: an error, and no slot is lost.
pub fn a_claim_from_a_broken_store_fails(make: Make<'_>) {
    let (stage, broken) = failing(make, |call| matches!(call, Call::Turn(_, limit) if limit > 0));
    stage.d.declare("k", KindOptions::new().concurrency(1)).unwrap();
    stage.push(job());
    broken.store(true, Ordering::SeqCst);
    let mut consumer = stage.consumer();
    for _ in 0..20 {
        assert_eq!(consumer.next(at_once()).unwrap_err().kind(), ErrorKind::Storage);
    }
    broken.store(false, Ordering::SeqCst);
    assert_eq!(stage.d.stats().unwrap().bodies, 0);
    assert_eq!(
        consumer
            .next(at_once())
            .unwrap()
            .unwrap()
            .complete(Outcome::done())
            .unwrap(),
        Answer::Stored(State::Succeeded)
    );
}

/// Follow-ups into a store that fails: neither they nor the answer are stored.
pub fn follow_ups_into_a_broken_store_fail_whole(make: Make<'_>) {
    let (stage, broken) = failing(make, |call| call == Call::Commit);
    let id = stage.push(job());
    let lease = stage.take();
    broken.store(true, Ordering::SeqCst);
    let error = lease.complete_and_push(Outcome::done(), &[job()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(
        (
            stage.state(id),
            stage.counts().totals.pushed,
            stage.d.stats().unwrap().bodies
        ),
        (State::Running, 1, 0)
    );
}
