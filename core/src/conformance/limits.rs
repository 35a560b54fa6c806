//! How many bodies may run at once: in all, per queue, per kind (row 10).

use std::sync::Arc;
use std::time::Duration;

use super::Make;
use super::stage::{SECOND, Stage, at_once, job, soon, until};
use crate::config::{KindOptions, QueueOptions};
use crate::dispatcher::{KindSet, Lease};
use crate::error::ErrorKind;
use crate::job::NewJob;
use crate::outcome::Outcome;

fn take_all(stage: &Stage) -> Vec<Lease> {
    let mut leases = Vec::new();
    stage
        .consumer()
        .next_many(usize::MAX, at_once(), &mut leases)
        .unwrap();
    leases
}

/// No more bodies than the dispatcher allows, however much is asked for.
pub fn bodies_are_limited_in_all(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 3);
    for _ in 0..10 {
        stage.push(job());
    }
    let mut bodies = take_all(&stage);
    assert_eq!((bodies.len(), stage.d.stats().unwrap().bodies), (3, 3));
    assert!(stage.try_take().is_none());
    bodies.pop().unwrap().complete(Outcome::done()).unwrap();
    assert_eq!(take_all(&stage).len(), 1, "one has ended, one may start");
}

/// A queue may allow fewer; other queues are not held up by it.
pub fn bodies_are_limited_per_queue(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 5);
    stage
        .d
        .configure_queue("narrow", QueueOptions::new().concurrency(2))
        .unwrap();
    for _ in 0..4 {
        stage.push(job().queue("narrow"));
    }
    let narrow = take_all(&stage);
    assert_eq!(narrow.len(), 2);
    stage.push(job().queue("wide"));
    let wide = take_all(&stage);
    assert_eq!((wide.len(), &*wide[0].queue()), (1, "wide"));
    drop(narrow);
    assert_eq!(take_all(&stage).len(), 2);
}

/// A kind may allow fewer; other kinds of the same queue go past it.
pub fn bodies_are_limited_per_kind(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 9);
    stage
        .d
        .declare("slow", KindOptions::new().concurrency(1))
        .unwrap();
    for _ in 0..3 {
        stage.push(NewJob::new("slow", ()).priority(9));
        stage.push(NewJob::new("quick", ()));
    }
    let bodies = take_all(&stage);
    let slow = bodies.iter().filter(|l| &*l.kind() == "slow").count();
    assert_eq!((slow, bodies.len()), (1, 4));
    for body in bodies {
        body.complete(Outcome::done()).unwrap();
    }
    assert_eq!(take_all(&stage).len(), 1);
}

/// The slots of a claim that found nothing are free again.
pub fn an_empty_claim_costs_no_slot(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 2);
    stage.d.declare("k", KindOptions::new().concurrency(1)).unwrap();
    stage
        .d
        .configure_queue("default", QueueOptions::new().concurrency(1))
        .unwrap();
    for _ in 0..10 {
        assert!(take_all(&stage).is_empty());
    }
    stage.push(job());
    let bodies = take_all(&stage);
    assert_eq!((bodies.len(), stage.d.stats().unwrap().bodies), (1, 1));
}

/// Limits can be changed while bodies run: a lower one runs out, a higher one counts at once.
pub fn limits_can_be_changed(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 9);
    let limit = |n| stage.d.declare("k", KindOptions::new().concurrency(n)).unwrap();
    limit(3);
    for _ in 0..12 {
        stage.push(job());
    }
    let mut bodies = take_all(&stage);
    assert_eq!(bodies.len(), 3);
    limit(1);
    bodies.pop().unwrap().complete(Outcome::done()).unwrap();
    assert_eq!(take_all(&stage).len(), 0, "two still run, one may");
    limit(4);
    bodies.extend(take_all(&stage));
    assert_eq!(bodies.len(), 4);
}

/// A limit that is taken away and given again still counts the bodies that ran all the while.
pub fn a_limit_that_comes_back_still_counts(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.concurrency = 9);
    let limited = KindOptions::new().concurrency(1);
    stage.d.declare("k", limited).unwrap();
    let queue = |options| drop(stage.d.configure_queue("default", options));
    queue(QueueOptions::new().concurrency(1));
    for _ in 0..3 {
        stage.push(job());
    }
    let first = take_all(&stage);
    stage.d.declare("k", KindOptions::new()).unwrap();
    queue(QueueOptions::new());
    stage.d.declare("k", limited).unwrap();
    queue(QueueOptions::new().concurrency(1));
    assert_eq!((first.len(), take_all(&stage).len()), (1, 0));
    stage.d.declare("k", KindOptions::new()).unwrap();
    queue(QueueOptions::new());
    assert_eq!(take_all(&stage).len(), 2, "without a limit there is none");
}

/// A limit of zero is an error: a queue can be paused instead.
pub fn a_limit_of_zero_is_refused(make: Make<'_>) {
    let stage = Stage::new(make);
    let refused = stage
        .d
        .declare("k", KindOptions::new().concurrency(0))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let refused = stage
        .d
        .configure_queue("q", QueueOptions::new().concurrency(0))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

/// Who waits for a slot is woken when one is given back: of the dispatcher, a queue, or a kind.
pub fn a_free_slot_wakes_who_waits(make: Make<'_>) {
    for limited in ["dispatcher", "queue", "kind"] {
        let stage = Stage::with(make, |o| {
            o.concurrency = if limited == "dispatcher" { 1 } else { 9 }
        });
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
        std::thread::scope(|scope| {
            let mut consumer = stage.consumer();
            let waiter = scope.spawn(move || consumer.next(soon()).unwrap().map(|l| l.id()));
            assert!(stage.d.settle_to(1, Duration::from_secs(60)));
            body.complete(Outcome::done()).unwrap();
            assert_eq!(waiter.join().unwrap(), Some(second), "{limited}");
        });
    }
}

/// Consumers of different kinds do not take each other's wake-ups.
pub fn each_kind_wakes_its_own_consumer(make: Make<'_>) {
    let stage = Stage::new(make);
    let kinds = ["a", "b", "c"];
    std::thread::scope(|scope| {
        let consumers: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let set = KindSet::new();
                set.add(stage.d.kind(kind).unwrap());
                let mut consumer = stage.d.consumer(Arc::new(set));
                scope.spawn(move || {
                    let lease = consumer.next(soon()).unwrap().expect("a job of its kind comes");
                    assert_eq!(&*lease.kind(), *kind);
                    lease.complete(Outcome::done()).unwrap();
                })
            })
            .collect();
        assert!(stage.d.settle_to(3, Duration::from_secs(60)));
        for kind in kinds.iter().rev() {
            stage.push(NewJob::new(*kind, ()));
        }
        consumers.into_iter().for_each(|c| c.join().unwrap());
    });
}

/// R-7 and row 11: a worker that comes later finds what was pushed before; one that waits is woken at once.
pub fn a_consumer_that_waits_is_woken(make: Make<'_>) {
    let stage = Stage::new(make);
    std::thread::scope(|scope| {
        let mut consumer = stage.consumer();
        let waiter = scope.spawn(move || {
            for _ in 0..100 {
                consumer
                    .next(soon())
                    .unwrap()
                    .expect("a job comes")
                    .complete(Outcome::done())
                    .unwrap();
            }
        });
        for done in 0..100 {
            assert!(stage.d.settle_to(1, Duration::from_secs(60)));
            stage.push(job());
            until("the job is done", || stage.counts().totals.succeeded == done + 1);
        }
        waiter.join().unwrap();
    });
}

/// A batch of jobs wakes as many consumers as can use it, here such that each might ask for something else.
pub fn a_batch_wakes_many(make: Make<'_>) {
    let stage = Stage::new(make);
    let kind = stage.d.kind("k").unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let set = KindSet::new();
                set.add(kind);
                let mut consumer = stage.d.consumer(Arc::new(set));
                scope.spawn(move || consumer.next(soon()).unwrap())
            })
            .collect();
        assert!(stage.d.settle_to(4, Duration::from_secs(60)));
        stage.d.push_many(&[job(), job(), job(), job()]).unwrap();
        let held: Vec<Lease> = waiters
            .into_iter()
            .map(|w| w.join().unwrap().expect("each gets one"))
            .collect();
        assert_eq!(held.len(), 4);
    });
}

/// The same with consumers that ask for the same, of which each ring wakes one.
pub fn a_batch_wakes_many_of_one_set(make: Make<'_>) {
    let stage = Stage::new(make);
    let set = Arc::new(KindSet::any());
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let mut consumer = stage.d.consumer(set.clone());
                scope.spawn(move || consumer.next(soon()).unwrap())
            })
            .collect();
        assert!(stage.d.settle_to(4, Duration::from_secs(60)));
        stage.d.push_many(&[job(), job(), job(), job()]).unwrap();
        let held: Vec<Lease> = waiters
            .into_iter()
            .map(|w| w.join().unwrap().expect("each gets one"))
            .collect();
        assert_eq!(held.len(), 4);
    });
}

/// Queues take turns: one that is never empty does not starve another.
pub fn queues_take_turns(make: Make<'_>) {
    let stage = Stage::new(make);
    for _ in 0..20 {
        stage.push(job().queue("busy"));
    }
    let other = stage.push(job().queue("other"));
    let mut consumer = stage.consumer();
    let mut turns = 0;
    loop {
        let lease = consumer.next(at_once()).unwrap().expect("there are jobs");
        turns += 1;
        let found = lease.id() == other;
        lease.complete(Outcome::done()).unwrap();
        if found {
            break;
        }
    }
    assert!(turns <= 3, "it waited for {turns} turns");
}

/// A consumer that names queues takes from those only.
pub fn a_consumer_may_name_its_queues(make: Make<'_>) {
    let stage = Stage::new(make);
    stage.push(job().queue("a"));
    let wanted = stage.push(job().queue("b"));
    let mut consumer = stage.consumer().queues([stage.d.queue("b").unwrap()]);
    assert_eq!(consumer.next(at_once()).unwrap().unwrap().id(), wanted);
    assert!(consumer.next(at_once()).unwrap().is_none());
}

/// B2 and row 21: a lease that ends frees the job, not the slot of a body that still runs.
pub fn a_lost_lease_keeps_its_slot(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.concurrency = 1;
        o.lease = Some(SECOND);
    });
    stage.push(job());
    let body = stage.take();
    stage.advance(SECOND * 2);
    assert_eq!(stage.counts().queued, 1, "the job is free");
    assert!(stage.try_take().is_none(), "the slot is not");
    body.complete(Outcome::done()).unwrap();
    assert!(stage.try_take().is_some());
}
