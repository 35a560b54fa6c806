//! Watchers: the end of each of many jobs is told once, without a thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Make;
use super::stage::{SECOND, Stage, at_once, job, soon, until};
use super::wrap::Watched;
use crate::config::QueueOptions;
use crate::dispatcher::Watcher;
use crate::ends::WatchedEnd;
use crate::error::ErrorKind;
use crate::job::{NewJob, State};
use crate::outcome::Outcome;
use crate::wakeup::{readable, wait_readable};
use crate::{Deadline, JobId};

fn poll(watcher: &Watcher) -> Vec<(u64, Option<State>)> {
    let mut ends = Vec::new();
    let got = watcher.poll(usize::MAX, at_once(), &mut ends).unwrap();
    assert_eq!(got, ends.len());
    ends.into_iter().map(|end| (end.tag, end.state)).collect()
}

fn interests(stage: &Stage) -> usize {
    stage.d.0.engine.signals().finished.waiters()
}

/// Every way to end is told, once, and nothing is left of it.
pub fn each_end_is_told_once(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.max_attempts = 1);
    let watcher = stage.d.watcher();
    let watch = |tag, job: NewJob<'_>| {
        let id = stage.push(job);
        watcher.add(id, tag).unwrap();
        id
    };
    for (tag, outcome, state) in [
        (1, Outcome::done(), State::Succeeded),
        (2, Outcome::failed("no"), State::Failed),
        (3, Outcome::Cancelled("no".into()), State::Cancelled),
    ] {
        watch(tag, job());
        assert_eq!(poll(&watcher), [], "it has not ended");
        stage.run(outcome);
        assert_eq!(poll(&watcher), [(tag, Some(state))]);
        assert_eq!((poll(&watcher), interests(&stage)), (vec![], 0));
    }
    let cancelled = watch(4, job());
    stage.d.cancel(cancelled).unwrap();
    assert_eq!(poll(&watcher), [(4, Some(State::Cancelled))]);
    watch(5, job().queue("purged"));
    stage.d.purge("purged").unwrap();
    assert_eq!(poll(&watcher), [(5, Some(State::Cancelled))]);
    // An attempt that is followed by another one is no end.
    let again = watch(6, job().max_attempts(2).retry(crate::RetryPolicy::none()));
    let retried = stage.take().complete(Outcome::Snooze {
        after: Duration::ZERO,
    });
    retried.unwrap();
    assert_eq!((poll(&watcher), stage.state(again)), (vec![], State::Queued));
    stage.run(Outcome::done());
    assert_eq!(poll(&watcher), [(6, Some(State::Succeeded))]);
    assert_eq!(interests(&stage), 0);
}

/// Time ends a job, too.
pub fn an_expiry_is_told(make: Make<'_>) {
    let stage = Stage::new(make);
    let watcher = stage.d.watcher();
    let id = stage.push(job().expires_after(SECOND));
    watcher.add(id, 1).unwrap();
    stage.advance(SECOND);
    assert_eq!(poll(&watcher), [(1, Some(State::Expired))]);
    assert_eq!(interests(&stage), 0);
}

/// A job that has ended is told of at once, an unknown one is refused, and a tag has one job.
pub fn what_has_ended_is_told_at_once(make: Make<'_>) {
    let stage = Stage::new(make);
    let watcher = stage.d.watcher();
    let (over, open) = (stage.push(job()), stage.push(job()));
    stage.run(Outcome::done());
    watcher.add(over, 1).unwrap();
    watcher.add(over, 2).unwrap();
    watcher.add(open, 3).unwrap();
    watcher.add(open, 4).unwrap();
    for (id, tag, kind) in [
        (open, 1, ErrorKind::Invalid),
        (open, 3, ErrorKind::Invalid),
        (JobId::from_u128(1), 9, ErrorKind::NotFound),
    ] {
        assert_eq!(watcher.add(id, tag).unwrap_err().kind(), kind, "{tag}");
    }
    let mut ends = Vec::new();
    assert_eq!(
        watcher.poll(1, at_once(), &mut ends).unwrap(),
        1,
        "no more than that"
    );
    assert_eq!(watcher.poll(9, at_once(), &mut ends).unwrap(), 1);
    assert_eq!(watcher.poll(0, Deadline::NEVER, &mut ends).unwrap(), 0);
    assert_eq!(
        ends.iter().map(|end| (end.tag, end.id)).collect::<Vec<_>>(),
        [(1, over), (2, over)]
    );
    stage.run(Outcome::done());
    let mut both = poll(&watcher);
    both.sort_unstable_by_key(|(tag, _)| *tag);
    assert_eq!(both, [3, 4].map(|tag| (tag, Some(State::Succeeded))));
    watcher.add(over, 1).unwrap();
    assert_eq!(
        (poll(&watcher).len(), interests(&stage)),
        (1, 0),
        "the tag was free again"
    );
}

/// What is taken back before the end is not told; what has ended is told though it is taken back.
pub fn what_is_removed_is_not_told(make: Make<'_>) {
    let stage = Stage::new(make);
    let watcher = stage.d.watcher();
    let (first, second) = (stage.push(job()), stage.push(job()));
    watcher.add(first, 1).unwrap();
    assert!(watcher.remove(1).unwrap());
    assert!(!watcher.remove(1).unwrap() && !watcher.remove(2).unwrap());
    watcher.add(second, 1).unwrap();
    stage.run(Outcome::done());
    assert_eq!(poll(&watcher), [], "the tag is another job's now");
    stage.run(Outcome::done());
    assert!(!watcher.remove(1).unwrap(), "it has ended");
    assert_eq!(poll(&watcher), [(1, Some(State::Succeeded))]);
    assert!(!watcher.remove(1).unwrap());
    let third = stage.push(job());
    watcher.add(third, 3).unwrap();
    assert_eq!(interests(&stage), 1);
    drop(watcher);
    assert_eq!(interests(&stage), 0, "it takes its interests along");
    stage.run(Outcome::done());
}

/// The descriptor is readable when there is an end, until a poll has found none.
pub fn a_watcher_has_a_descriptor(make: Make<'_>) {
    let stage = Stage::new(make);
    let watcher = stage.d.watcher();
    let lit = || readable(watcher.descriptor().unwrap());
    assert!(lit(), "so that it is polled first");
    assert_eq!((poll(&watcher), lit()), (vec![], false));
    for tag in [1, 2, 3] {
        watcher.add(stage.push(job()), tag).unwrap();
    }
    assert!(!lit());
    stage.run(Outcome::done());
    stage.run(Outcome::done());
    let mut ends: Vec<WatchedEnd> = Vec::new();
    for _ in 0..2 {
        assert!(lit());
        assert_eq!(watcher.poll(1, at_once(), &mut ends).unwrap(), 1);
    }
    assert!(lit(), "nobody has found that there is nothing");
    assert_eq!((poll(&watcher), lit()), (vec![], false));
    // A poll that nothing announced.
    stage.run(Outcome::done());
    let over = ends[0].id;
    watcher.add(over, 4).unwrap();
    assert!(lit(), "an end that is there already");
    assert_eq!((poll(&watcher).len(), poll(&watcher).len(), lit()), (2, 0, false));
    // And a thread may wait in the call.
    let id = stage.push(job());
    watcher.add(id, 5).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut ends = Vec::new();
            watcher.poll(9, soon(), &mut ends).map(|_| ends[0].id)
        });
        until("it waits", || watcher.is_awaited());
        stage.run(Outcome::done());
        assert_eq!(waiting.join().unwrap().unwrap(), id);
    });
    let brief = Deadline::after(Duration::from_millis(1));
    assert_eq!(watcher.poll(1, brief, &mut ends).unwrap(), 0);
}

/// A job that is forgotten as it ends is told of all the same; one that was given up as it came, too.
pub fn what_is_forgotten_is_told(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.keep_finished = 1);
    let watcher = stage.d.watcher();
    for tag in 0..5 {
        watcher.add(stage.push(job()), tag).unwrap();
    }
    for _ in 0..5 {
        stage.run(Outcome::done());
    }
    // All but the last can be forgotten by now.
    stage.d.upkeep().unwrap();
    let mut told = poll(&watcher);
    told.sort_unstable_by_key(|(tag, _)| *tag);
    assert_eq!(told, [0, 1, 2, 3, 4].map(|tag| (tag, Some(State::Succeeded))));
    assert_eq!(interests(&stage), 0);
}

/// An eviction ends a job that waits.
pub fn an_eviction_is_told(make: Make<'_>) {
    let stage = Stage::new(make);
    let mut options = QueueOptions::new().capacity(1);
    options.set("on_full", "drop_oldest").unwrap();
    stage.d.configure_queue("default", options).unwrap();
    let watcher = stage.d.watcher();
    watcher.add(stage.push(job()), 1).unwrap();
    stage.push(job());
    assert_eq!(poll(&watcher), [(1, Some(State::Shed))]);
    assert_eq!(interests(&stage), 0);
}

/// A stop is told when there is nothing else to tell.
pub fn a_stop_ends_the_watch(make: Make<'_>) {
    let stage = Stage::new(make);
    let watcher = stage.d.watcher();
    let lit = || readable(watcher.descriptor().unwrap());
    let (running, waiting) = (stage.push(job()), stage.push(job()));
    let body = stage.take();
    watcher.add(running, 1).unwrap();
    watcher.add(waiting, 2).unwrap();
    assert!(lit() && poll(&watcher).is_empty() && !lit());
    stage.d.request_stop();
    assert!(lit(), "somebody should look");
    assert_eq!(poll(&watcher), [], "one of them runs still");
    body.complete(Outcome::done()).unwrap();
    assert!(lit());
    assert_eq!(poll(&watcher), [(1, Some(State::Succeeded))]);
    stage.d.stop(Duration::ZERO).unwrap();
    for _ in 0..2 {
        let over = watcher.poll(9, soon(), &mut Vec::new());
        assert_eq!(over.unwrap_err().kind(), ErrorKind::Closed);
        assert!(lit());
    }
    assert_eq!(watcher.add(waiting, 3).unwrap_err().kind(), ErrorKind::Closed);
    watcher.add(running, 4).unwrap();
    assert_eq!(poll(&watcher), [(4, Some(State::Succeeded))]);
}

/// Whoever has seen a job run, and is then held up until it has ended and the stop is over, hears of its end.
pub fn an_end_counts_however_late_the_look(make: Make<'_>) {
    type Then = Mutex<Option<(usize, Box<dyn FnOnce() + Send>)>>;
    for (watches, looks) in [(false, 1), (false, 2), (true, 1), (true, 2), (true, 3)] {
        let then: Arc<Then> = Arc::default();
        let meanwhile = then.clone();
        let engine = Watched::held_up(make(), move || {
            let due = meanwhile.lock().take_if(|(left, _)| {
                *left -= 1;
                *left == 0
            });
            if let Some((_, end)) = due {
                end();
            }
        });
        let stage = Stage::over(engine, |_| ());
        let id = stage.push(job());
        let (body, d, watcher) = (stage.take(), stage.d.clone(), stage.d.watcher());
        watcher.add(id, 1).unwrap();
        stage.d.request_stop();
        let end = move || {
            body.complete(Outcome::done()).unwrap();
            d.stop(Duration::ZERO).unwrap();
        };
        *then.lock() = Some((looks, Box::new(end)));
        if watches {
            let mut ends = Vec::new();
            while ends.is_empty() {
                watcher.poll(9, at_once(), &mut ends).unwrap();
            }
            assert_eq!(ends[0].state, Some(State::Succeeded), "look {looks}");
        } else {
            let waited = stage.d.wait(id, soon()).map(|job| job.state);
            assert_eq!(waited.unwrap(), State::Succeeded, "look {looks}");
        }
        assert!(then.lock().is_none(), "look {looks} was never made");
    }
}

/// Ends race with removals, with adds, and with each other: each is told once, or was taken back.
pub fn a_crowd_is_watched(make: Make<'_>) {
    const JOBS: usize = 300;
    let stage = Stage::new(make);
    let watcher = stage.d.watcher();
    let (removed, pushing) = (AtomicUsize::new(0), AtomicBool::new(true));
    let told = std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut told = Vec::new();
                    loop {
                        let fd = watcher.descriptor().unwrap();
                        assert!(wait_readable(fd, soon()), "nothing is told any more");
                        match watcher.poll(7, at_once(), &mut told) {
                            Ok(_) => {}
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed);
                                return told;
                            }
                        }
                    }
                })
            })
            .collect();
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut consumer = stage.consumer();
                    let brief = Duration::from_millis(5);
                    while pushing.load(Ordering::SeqCst) || stage.counts().queued > 0 {
                        if let Some(lease) = consumer.next(Deadline::after(brief)).unwrap() {
                            lease.complete(Outcome::done()).unwrap();
                        }
                    }
                })
            })
            .collect();
        for tag in 0..JOBS as u64 {
            watcher.add(stage.push(job()), tag).unwrap();
            if tag % 3 == 0 && watcher.remove(tag - tag % 2).unwrap() {
                removed.fetch_add(1, Ordering::SeqCst);
            }
        }
        pushing.store(false, Ordering::SeqCst);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        stage.d.stop(Duration::ZERO).unwrap();
        let told = tellers.into_iter().map(|teller| teller.join().unwrap());
        told.flatten().collect::<Vec<_>>()
    });
    let mut times = HashMap::new();
    for end in &told {
        assert_eq!(end.state, Some(State::Succeeded));
        *times.entry(end.tag).or_insert(0) += 1;
    }
    assert!(times.values().all(|times| *times == 1), "told twice");
    assert_eq!(told.len() + removed.into_inner(), JOBS);
    assert_eq!(interests(&stage), 0);
}
