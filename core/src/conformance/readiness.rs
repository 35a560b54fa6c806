//! Consumers that wait for a descriptor: whatever wakes one that sleeps makes it readable.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Make;
use super::stage::{SECOND, Stage, at_once, job, soon};
use crate::Deadline;
use crate::config::{KindOptions, QueueOptions};
use crate::dispatcher::{Consumer, KindSet, Lease};
use crate::error::{Error, ErrorKind, Result};
use crate::job::NewJob;
use crate::outcome::Outcome;
use crate::wakeup;

fn readable(consumer: &mut Consumer) -> bool {
    wakeup::readable(consumer.descriptor().unwrap())
}

/// Polls, without a wait.
fn poll(consumer: &mut Consumer) -> Result<Option<Lease>> {
    consumer.next(at_once())
}

/// One that has polled and found nothing.
fn idle(mut consumer: Consumer) -> Consumer {
    assert!(readable(&mut consumer), "so that it is polled first");
    assert!(poll(&mut consumer).unwrap().is_none());
    assert!(!readable(&mut consumer));
    consumer
}

/// Takes the job that the descriptor announces.
fn take(consumer: &mut Consumer) -> Lease {
    assert!(readable(consumer), "there is a job");
    poll(consumer).unwrap().expect("there is a job")
}

/// How many of them are readable.
fn lit(consumers: &mut [Consumer]) -> usize {
    consumers.iter_mut().map(|c| usize::from(readable(c))).sum()
}

/// The whole circle: readable with a job, until a poll has found nothing.
pub fn a_descriptor_says_that_there_is_a_job(make: Make<'_>) {
    let stage = Stage::new(make);
    let mut consumer = idle(stage.consumer());
    for _ in 0..3 {
        stage.push(job());
        stage.push(job());
        for _ in 0..2 {
            take(&mut consumer).complete(Outcome::done()).unwrap();
        }
        assert!(readable(&mut consumer), "nobody has found that there is nothing");
        assert!(poll(&mut consumer).unwrap().is_none() && !readable(&mut consumer));
    }
    // One that has heard is not called again before it has found that there is nothing.
    stage.push(job());
    assert!(readable(&mut consumer));
    consumer.hush();
    stage.push(job());
    assert!(!readable(&mut consumer));
    drop((
        poll(&mut consumer).unwrap().unwrap(),
        poll(&mut consumer).unwrap().unwrap(),
    ));
    assert!(poll(&mut consumer).unwrap().is_none());
    stage.push(job());
    take(&mut consumer).complete(Outcome::done()).unwrap();
    // One that polls though nothing was announced, and finds some of what there is.
    let mut late = idle(stage.consumer().queues([stage.d.queue("other").unwrap()]));
    stage.push(job().queue("other"));
    stage.push(job().queue("other"));
    assert!(poll(&mut late).unwrap().is_some() && readable(&mut late));
    stage.check_balance();
}

/// A job is announced to one of those who ask for the same, if only their descriptors wait, and a batch to as many
/// as there are jobs.
pub fn a_job_is_announced_to_one_descriptor(make: Make<'_>) {
    let stage = Stage::new(make);
    let kind = stage.d.kind("k").unwrap();
    let sets: [&dyn Fn() -> KindSet; 2] = [&KindSet::any, &|| KindSet::of([kind])];
    for set in sets {
        let idle = || idle(stage.d.consumer(Arc::new(set())).queues([]));
        let mut consumers: Vec<_> = (0..5).map(|_| idle()).collect();
        stage.push(job());
        assert_eq!(lit(&mut consumers), 1);
        stage.d.push_many(&[job(), job(), job()]).unwrap();
        assert_eq!(lit(&mut consumers), 4);
        for consumer in &mut consumers {
            while let Some(lease) = poll(consumer).unwrap() {
                lease.complete(Outcome::done()).unwrap();
            }
        }
        assert_eq!(lit(&mut consumers), 0);
    }
}

/// Those who ask for different things all hear of a job: it may be for any of them.
pub fn every_kind_reaches_its_descriptor(make: Make<'_>) {
    let stage = Stage::new(make);
    let kinds = ["a", "b", "c"];
    let mut consumers: Vec<_> = kinds
        .iter()
        .map(|kind| {
            let kind = stage.d.kind(kind).unwrap();
            idle(stage.d.consumer(Arc::new(KindSet::of([kind]))))
        })
        .collect();
    for (i, kind) in kinds.iter().enumerate() {
        stage.push(NewJob::new(*kind, ()));
        take(&mut consumers[i]).complete(Outcome::done()).unwrap();
        for consumer in &mut consumers {
            assert!(poll(consumer).unwrap().is_none() && !readable(consumer));
        }
    }
}

/// Whatever lets a job start that is there already.
pub fn what_lets_a_job_start_is_announced(make: Make<'_>) {
    let stage = Stage::new(make);
    let limit = |most| {
        let options = QueueOptions::new().concurrency(most);
        stage.d.configure_queue("default", options).unwrap();
    };
    limit(1);
    stage.push(job());
    stage.push(job());
    // A queue that goes on.
    stage.d.pause("default").unwrap();
    let mut consumer = idle(stage.consumer());
    stage.d.resume("default").unwrap();
    let first = take(&mut consumer);
    assert!(poll(&mut consumer).unwrap().is_none() && !readable(&mut consumer));
    // A limit that is raised.
    limit(2);
    drop((first, take(&mut consumer)));
    // A kind that is asked for from now on.
    let set = Arc::new(KindSet::new());
    let mut consumer = idle(stage.d.consumer(set.clone()));
    stage.push(NewJob::new("later", ()));
    assert!(poll(&mut consumer).unwrap().is_none() && !readable(&mut consumer));
    stage.d.declare_in(&set, "later", KindOptions::new()).unwrap();
    take(&mut consumer).complete(Outcome::done()).unwrap();
    // One that is given to others.
    let theirs = Arc::new(KindSet::new());
    let mut other = idle(stage.d.consumer(theirs.clone()));
    stage.d.declare_in(&theirs, "later", KindOptions::new()).unwrap();
    stage.push(NewJob::new("later", ()));
    assert!(poll(&mut consumer).unwrap().is_none());
    take(&mut other).complete(Outcome::done()).unwrap();
}

/// A slot that becomes free, of all, of the queue or of the kind, is announced, and not only to threads.
pub fn a_free_slot_is_announced(make: Make<'_>) {
    for limited in ["all", "queue", "kind"] {
        let stage = Stage::with(make, |o| o.concurrency = if limited == "all" { 1 } else { 8 });
        match limited {
            "queue" => drop(
                stage
                    .d
                    .configure_queue("default", QueueOptions::new().concurrency(1)),
            ),
            "kind" => drop(stage.d.declare("k", KindOptions::new().concurrency(1))),
            _ => {}
        }
        stage.push(job());
        let second = stage.push(job());
        let body = stage.take();
        let mut consumer = idle(stage.consumer());
        body.complete(Outcome::done()).unwrap();
        assert_eq!(take(&mut consumer).id(), second, "{limited}");
    }
}

/// A slot that is passed on from job to job by one consumer is given up for one that waits for another kind, and
/// kept until that one polls, or is dropped.
pub fn a_slot_is_kept_for_a_descriptor(make: Make<'_>) {
    for comes in [true, false] {
        let stage = Stage::with(make, |o| o.concurrency = 1);
        let of = |kind| {
            stage
                .d
                .consumer(Arc::new(KindSet::of([stage.d.kind(kind).unwrap()])))
        };
        let (mut busy, rare) = (of("endless"), of("rare"));
        for _ in 0..10 {
            stage.push(NewJob::new("endless", ()));
        }
        let mut next = busy.next(at_once()).unwrap();
        let mut rare = Some(idle(rare));
        stage.push(NewJob::new("rare", ()));
        let mut turns = 0;
        while let Some(lease) = next.take() {
            turns += 1;
            next = busy.complete_and_next(lease, Outcome::done()).unwrap().1;
        }
        assert!(turns < 10, "it would go on for ever");
        if comes {
            let lease = take(rare.as_mut().expect("it is there"));
            assert_eq!(&*lease.kind(), "rare");
            lease.complete(Outcome::done()).unwrap();
        } else {
            assert!(busy.next(at_once()).unwrap().is_none(), "the only slot is kept");
            rare = None;
        }
        assert!(busy.next(at_once()).unwrap().is_some());
        drop(rare);
    }
}

/// A consumer that was told of a job and goes without looking leaves it to another one.
pub fn a_consumer_that_goes_passes_it_on(make: Make<'_>) {
    let stage = Stage::new(make);
    let mut consumers: Vec<_> = (0..3).map(|_| idle(stage.consumer())).collect();
    stage.push(job());
    for left in (0..3).rev() {
        let told = consumers.iter_mut().position(readable).expect("one is told");
        drop(consumers.remove(told));
        assert_eq!(lit(&mut consumers), left.min(1), "and then the next one");
    }
    stage.run(Outcome::done());
    // Also to a thread.
    let mut told = idle(stage.consumer());
    stage.push(job());
    assert!(readable(&mut told));
    std::thread::scope(|scope| {
        let mut sleeper = stage.consumer();
        stage.run(Outcome::done());
        let sleeping = scope.spawn(move || sleeper.next(soon()).unwrap().map(|l| l.id()));
        assert!(stage.d.settle_to(1, Duration::from_secs(60)));
        let id = stage.push(job());
        drop(told);
        assert_eq!(sleeping.join().unwrap(), Some(id));
    });
}

/// A stop makes every descriptor readable, and every poll from then on says why.
pub fn a_stop_is_announced(make: Make<'_>) {
    let stage = Stage::new(make);
    let mut waiting = idle(stage.consumer());
    let mut fresh = stage.consumer();
    stage.d.request_stop();
    let closed = |consumer: &mut Consumer| {
        for _ in 0..2 {
            assert!(readable(consumer));
            assert_eq!(poll(consumer).unwrap_err().kind(), ErrorKind::Closed);
        }
    };
    closed(&mut waiting);
    closed(&mut fresh);
    stage.d.stop(Duration::ZERO).unwrap();
    closed(&mut waiting);
}

/// An interrupt is for one consumer, whether it waits or not; work goes before it.
pub fn an_interrupt_is_announced(make: Make<'_>) {
    let stage = Stage::new(make);
    let (mut consumer, mut other) = (idle(stage.consumer()), idle(stage.consumer()));
    let interrupt = consumer.interrupt();
    let interrupted = |polled: Result<Option<Lease>>| {
        let error: Error = polled.map(|_| ()).unwrap_err();
        error.kind() == ErrorKind::Interrupted
    };
    interrupt.raise();
    assert!(readable(&mut consumer) && !readable(&mut other));
    assert!(interrupted(poll(&mut consumer)));
    assert!(!readable(&mut consumer), "it waits again");
    stage.push(job());
    interrupt.raise();
    assert!(readable(&mut consumer));
    assert!(poll(&mut consumer).unwrap().is_some());
    assert!(readable(&mut consumer) && interrupted(poll(&mut consumer)));
    assert!(poll(&mut consumer).unwrap().is_none() && !readable(&mut consumer));
    assert!(!readable(&mut other) || poll(&mut other).unwrap().is_none());
}

/// One whose descriptor is waited for may also wait in the call.
pub fn a_descriptor_does_not_keep_from_waiting(make: Make<'_>) {
    let stage = Stage::new(make);
    let mut consumer = idle(stage.consumer());
    let brief = Deadline::after(Duration::from_millis(1));
    assert!(consumer.next(brief).unwrap().is_none() && !readable(&mut consumer));
    for _ in 0..20 {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| consumer.next(soon()).unwrap().map(|lease| lease.id()));
            assert!(stage.d.settle_to(1, Duration::from_secs(60)));
            let id = stage.push(job());
            assert_eq!(waiting.join().unwrap(), Some(id));
        });
        assert!(readable(&mut consumer), "there may be more");
        assert!(poll(&mut consumer).unwrap().is_none());
        assert!(!readable(&mut consumer));
    }
}

/// Time that makes a job start: its own, that of a rate, that of a lease that ends.
pub fn what_is_due_is_announced(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.lease = Some(SECOND * 5));
    stage.push(job().delay(SECOND));
    let mut consumer = idle(stage.consumer());
    stage.advance(SECOND);
    let body = take(&mut consumer);
    assert!(poll(&mut consumer).unwrap().is_none() && !readable(&mut consumer));
    stage.advance(SECOND * 10);
    assert!(readable(&mut consumer), "the job of a lease that is lost");
    drop(body);
    while let Some(lease) = poll(&mut consumer).unwrap() {
        lease.complete(Outcome::done()).unwrap();
    }
    let mut options = QueueOptions::new();
    options.set("rate", "1/s").unwrap();
    stage.d.configure_queue("default", options).unwrap();
    for _ in 0..3 {
        stage.push(job());
    }
    while let Some(lease) = poll(&mut consumer).unwrap() {
        lease.complete(Outcome::done()).unwrap();
    }
    assert!(!readable(&mut consumer), "not before its time");
    stage.advance(SECOND);
    take(&mut consumer).complete(Outcome::done()).unwrap();
}

/// Threads that wait for descriptors alone and threads that wait in the call, and those who push: every job is run
/// once, and nobody waits for ever while there is one.
pub fn a_crowd_waits_for_descriptors(make: Make<'_>) {
    const JOBS: usize = 400;
    let stage = Stage::with(make, |o| o.concurrency = 3);
    let done = AtomicUsize::new(0);
    let kinds = ["k", "l"].map(|kind| stage.d.kind(kind).unwrap());
    let run = |lease: Lease| {
        lease.complete(Outcome::done()).unwrap();
        if done.fetch_add(1, Ordering::SeqCst) + 1 == JOBS {
            stage.d.request_stop();
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..5 {
            let set = match worker {
                0 => KindSet::of([kinds[0]]),
                1 => KindSet::of([kinds[1]]),
                _ => KindSet::any(),
            };
            let (mut consumer, run) = (stage.d.consumer(Arc::new(set)), &run);
            scope.spawn(move || {
                loop {
                    let deadline = match worker {
                        4 => soon(),
                        _ => {
                            let fd = consumer.descriptor().unwrap();
                            assert!(wakeup::wait_readable(fd.as_fd(), soon()), "it waited for ever");
                            at_once()
                        }
                    };
                    match consumer.next(deadline) {
                        Ok(lease) => lease.into_iter().for_each(run),
                        Err(error) => return assert_eq!(error.kind(), ErrorKind::Closed),
                    }
                }
            });
        }
        for of in 0..2 {
            let stage = &stage;
            scope.spawn(move || {
                for i in 0..JOBS / 2 {
                    stage.push(NewJob::new(if (of + i) % 3 == 0 { "k" } else { "l" }, ()));
                }
            });
        }
    });
    assert_eq!(stage.counts().totals.succeeded, JOBS as u64);
    stage.check_balance();
}
