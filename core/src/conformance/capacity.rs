//! How many jobs may wait.

use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Spec, Stage, again, at_once, job, soon, until, waiting};
use crate::admission::OnFull;
use crate::config::QueueOptions;
use crate::engine::{Inserted, Restored};
use crate::error::ErrorKind;
use crate::job::State;
use crate::outcome::Outcome;

fn bounded(raw: &Raw, capacity: usize) -> Spec {
    Spec {
        capacity,
        ..raw.spec()
    }
}

/// A full queue refuses a job and says how many wait; what comes after it in the batch is not looked at.
pub fn a_full_queue_refuses(make: Make<'_>) {
    let raw = Raw::new(make);
    let other = raw.engine.names().queue("other").unwrap();
    let mut specs: Vec<Spec> = (0..4).map(|_| bounded(&raw, 2)).collect();
    specs.push(Spec {
        queue: other,
        ..raw.spec()
    });
    assert_eq!(raw.put(&specs), [Inserted::New, Inserted::New, Inserted::Full(2)]);
    for spec in &specs[2..] {
        assert!(
            raw.engine.get(spec.id).unwrap().is_none(),
            "what is refused is not there"
        );
    }
    let counts = raw.counts();
    assert_eq!(
        (counts.queued, counts.totals.pushed, counts.totals.refused),
        (2, 2, 1)
    );
    assert_eq!(raw.counts_of(other).totals.pushed, 0);
}

/// Blocked, scheduled and queued jobs take room; running and finished ones do not.
pub fn only_waiting_jobs_take_room(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(bounded(&raw, 3));
    raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..bounded(&raw, 3)
    });
    raw.add(Spec {
        waits: vec!["t".into()],
        ..bounded(&raw, 3)
    });
    assert_eq!(raw.put(&[bounded(&raw, 3)]), [Inserted::Full(3)]);
    let claimed = raw.claim_one();
    let last = raw.add(bounded(&raw, 3));
    assert_eq!(raw.put(&[bounded(&raw, 3)]), [Inserted::Full(3)]);
    raw.end(claimed.job, State::Succeeded);
    assert_eq!(
        raw.put(&[bounded(&raw, 3)]),
        [Inserted::Full(3)],
        "its room was given away at the claim"
    );
    raw.apply(waiting(raw.at(last).job, State::Cancelled));
    assert_eq!(raw.put(&[bounded(&raw, 3)]), [Inserted::New]);
}

/// Jobs that come back, or come from a dump, are never refused; pushes then find the queue over-full.
pub fn a_job_that_comes_back_is_not_refused(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(bounded(&raw, 1));
    let first = raw.claim_one().job;
    raw.add(bounded(&raw, 1));
    raw.apply(again(first, Duration::ZERO));
    let restored = Some(Restored::default());
    raw.add(Spec {
        restored,
        ..bounded(&raw, 1)
    });
    assert_eq!(raw.counts().queued, 3);
    assert_eq!(raw.put(&[bounded(&raw, 1)]), [Inserted::Full(3)]);
}

/// A capacity of zero is no bound.
pub fn no_capacity_is_no_bound(make: Make<'_>) {
    let raw = Raw::new(make);
    assert_eq!(raw.put(&raw.specs(3000)).len(), 3000);
    assert_eq!(raw.counts().queued, 3000);
}

/// Row 60: of many pushers at once, exactly as many get in as there is room for.
pub fn capacity_is_exact_among_pushers(make: Make<'_>) {
    let raw = Raw::new(make);
    let inserted: usize = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..4)
            .map(|_| {
                let specs: Vec<Spec> = (0..300).map(|_| bounded(&raw, 500)).collect();
                let (engine, now) = (raw.engine.clone(), raw.now());
                scope.spawn(move || {
                    let mut receipt = Vec::new();
                    for spec in &specs {
                        engine.insert(&[spec.insert()], now, &mut receipt).unwrap();
                    }
                    receipt.into_iter().filter(|r| *r == Inserted::New).count()
                })
            })
            .collect();
        pushers.into_iter().map(|p| p.join().unwrap()).sum()
    });
    assert_eq!((inserted, raw.counts().queued), (500, 500));
    assert_eq!(raw.counts().totals.refused, 700);
}

/// Row 54: a full queue is an error of the push, which gives the job back.
pub fn a_refused_push_gives_the_job_back(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 1);
    stage.push(job());
    let refused = stage.d.push(job().key("mine")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    let text = refused.to_string();
    assert!(text.contains("\"default\"") && text.contains("1 of 1"), "{text}");
    stage.run(Outcome::done());
    let pushed = stage.d.push(refused.into_job()).unwrap();
    assert_eq!(stage.get(pushed.id).key(), Some("mine"));
}

/// A batch stops at the first refusal and says what was accepted.
pub fn a_batch_says_how_far_it_came(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 2);
    let error = stage.d.push_many(&[job(), job(), job(), job()]).unwrap_err();
    assert_eq!((error.pushed.len(), error.error.kind()), (2, ErrorKind::Full));
    assert!(
        error
            .pushed
            .iter()
            .all(|p| p.created && stage.state(p.id) == State::Queued)
    );
    assert_eq!(stage.counts().queued, 2);
}

/// Each queue may have a capacity of its own, which can be changed.
pub fn queues_have_capacities_of_their_own(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 1);
    stage
        .d
        .configure_queue("wide", QueueOptions::new().capacity(3))
        .unwrap();
    for _ in 0..3 {
        stage.push(job().queue("wide"));
    }
    assert_eq!(
        stage.d.push(job().queue("wide")).unwrap_err().kind(),
        ErrorKind::Full
    );
    stage
        .d
        .configure_queue("wide", QueueOptions::new().capacity(0))
        .unwrap();
    stage.push(job().queue("wide"));
    let stats = stage.d.stats().unwrap();
    assert_eq!(
        stats.queues.iter().find(|q| &*q.name == "wide").unwrap().capacity,
        0
    );
}

/// `block`: a push waits for room, and goes on as soon as there is some.
pub fn a_blocked_push_goes_on(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.capacity = 1;
        o.on_full = OnFull::Block(Duration::from_secs(60));
    });
    stage.push(job());
    std::thread::scope(|scope| {
        let d = stage.d.clone();
        let pusher = scope.spawn(move || d.push(job()).map(|p| p.id).map_err(|e| e.kind()));
        until("the wait for room", || {
            stage.d.0.engine.signals().space.waiting() > 0
        });
        assert_eq!(stage.counts().queued, 1);
        stage.run(Outcome::done());
        let id = pusher.join().unwrap().unwrap();
        assert_eq!(stage.state(id), State::Queued);
    });
}

/// `block`: a push that finds no room in its time is refused, with its job.
pub fn a_blocked_push_gives_up(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 1);
    stage.push(job());
    let refused = stage.d.push_within(job(), Duration::from_millis(20)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    assert!(refused.to_string().contains("no room came in time"), "{refused}");
    assert_eq!(stage.counts().queued, 1);
}

/// Pushers that wait for different queues do not take each other's room.
pub fn pushers_of_two_queues_both_go_on(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 1);
    for queue in ["a", "b"] {
        stage.push(job().queue(queue));
    }
    std::thread::scope(|scope| {
        for queue in ["a", "b"] {
            let d = stage.d.clone();
            scope.spawn(move || {
                d.push_within(job().queue(queue), Duration::from_secs(60))
                    .unwrap()
                    .id
            });
        }
        until("both wait for room", || {
            stage.d.0.engine.signals().space.waiting() == 2
        });
        for queue in ["b", "a"] {
            let id = stage.d.queue(queue).unwrap();
            let mut consumer = stage.consumer().queues([id]);
            consumer
                .next(at_once())
                .unwrap()
                .unwrap()
                .complete(Outcome::done())
                .unwrap();
            // The next job of this queue comes only if its own pusher was woken.
            assert!(
                consumer.next(soon()).unwrap().is_some(),
                "the pusher of {queue} goes on"
            );
        }
    });
}

/// Many pushers on a small queue: all get in as it is emptied, and it never holds more than it may.
pub fn a_small_queue_lets_everyone_through(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        o.capacity = 2;
        o.on_full = OnFull::Block(Duration::from_secs(60));
    });
    const EACH: usize = 40;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let d = stage.d.clone();
            scope.spawn(move || (0..EACH).for_each(|_| assert!(d.push(job()).unwrap().created)));
        }
        let mut consumer = stage.consumer();
        for _ in 0..3 * EACH {
            let lease = consumer.next(soon()).unwrap().expect("a job comes");
            assert!(stage.counts().waiting() <= 2);
            lease.complete(Outcome::done()).unwrap();
        }
    });
    assert_eq!(stage.counts().totals.succeeded, 3 * EACH as u64);
}

/// A stop ends the wait for room.
pub fn a_stop_ends_the_wait_for_room(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.capacity = 1);
    stage.push(job());
    std::thread::scope(|scope| {
        let d = stage.d.clone();
        let pusher = scope.spawn(move || {
            d.push_within(job(), Duration::from_secs(60))
                .map(|_| ())
                .map_err(|e| e.kind())
        });
        until("the wait for room", || {
            stage.d.0.engine.signals().space.waiting() > 0
        });
        stage.d.stop(Duration::ZERO).unwrap();
        assert_eq!(pusher.join().unwrap(), Err(ErrorKind::Closed));
    });
}
