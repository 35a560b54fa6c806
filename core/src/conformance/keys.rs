//! Idempotency keys (row 28, R-13, case B6 of the failure list).

use std::sync::Barrier;
use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Stage, job};
use crate::dispatcher::Pushed;
use crate::engine::Inserted;
use crate::error::ErrorKind;
use crate::id::JobId;
use crate::job::{Filter, NewJob, State};
use crate::outcome::Outcome;

/// Which job answered a push, and whether the push made it.
fn answer(pushed: &Pushed) -> (JobId, bool) {
    (pushed.id, pushed.created)
}

/// A key makes one job: the same push again is given its id, another one is a conflict.
pub fn a_key_makes_one_job(make: Make<'_>) {
    let raw = Raw::new(make);
    let holder = raw.add(raw.spec().key("key", 1));
    assert_eq!(raw.put(&[raw.spec().key("key", 1)]), [Inserted::Keyed(holder)]);
    assert_eq!(raw.put(&[raw.spec().key("key", 2)]), [Inserted::Conflict(holder)]);
    let kind = raw.engine.names().kind("other").unwrap();
    let other_kind = super::stage::Spec {
        kind,
        ..raw.spec().key("key", 1)
    };
    assert_eq!(raw.put(&[other_kind]), [Inserted::Conflict(holder)]);
    assert_eq!(raw.put(&[raw.spec().key("other key", 2)]), [Inserted::New]);
    assert_eq!(raw.counts().totals.pushed, 2);
}

/// An insert stops at the first conflict; what comes after it is not stored.
pub fn a_conflict_ends_the_insert(make: Make<'_>) {
    let raw = Raw::new(make);
    let holder = raw.add(raw.spec().key("key", 1));
    let specs = [
        raw.spec(),
        raw.spec().key("key", 1),
        raw.spec().key("key", 2),
        raw.spec(),
    ];
    assert_eq!(
        raw.put(&specs),
        [Inserted::New, Inserted::Keyed(holder), Inserted::Conflict(holder)]
    );
    assert!(raw.engine.get(specs[3].id).unwrap().is_none());
    assert_eq!(raw.counts().totals.pushed, 2);
}

/// A key is held while the job waits, runs, and after it ended, but not after it was cancelled.
pub fn a_key_is_freed_by_cancelling(make: Make<'_>) {
    let stage = Stage::new(make);
    let first = stage.push(job().key("key"));
    let again = |stage: &Stage| stage.d.push(job().key("key")).unwrap();
    assert_eq!(answer(&again(&stage)), (first, false));
    let lease = stage.take();
    assert_eq!(again(&stage).id, first, "while it runs");
    lease.complete(Outcome::done()).unwrap();
    assert_eq!(again(&stage).id, first, "after it succeeded");
    let failed = stage.push(job().key("other"));
    stage.run(Outcome::fatal("no"));
    assert_eq!(
        stage.d.push(job().key("other")).unwrap().id,
        failed,
        "after it failed"
    );
    let waiting = stage.push(job().key("third"));
    stage.d.cancel(waiting).unwrap();
    assert!(
        stage.d.push(job().key("third")).unwrap().created,
        "after it was cancelled"
    );
}

/// A running job that was asked to stop holds its key until its body has ended (row 39).
pub fn a_key_is_held_until_the_body_ends(make: Make<'_>) {
    let stage = Stage::new(make);
    let first = stage.push(job().key("key"));
    let lease = stage.take();
    stage.d.cancel(first).unwrap();
    assert_eq!(answer(&stage.d.push(job().key("key")).unwrap()), (first, false));
    lease.complete(Outcome::done()).unwrap();
    assert_eq!(stage.state(first), State::Cancelled);
    let second = stage.push(job().key("key"));
    assert_eq!(stage.d.push(job().key("key")).unwrap().id, second);
}

/// A key is free again when its job is forgotten.
pub fn a_key_is_freed_by_forgetting(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retention = SECOND * 10);
    let first = stage.push(job().key("key"));
    stage.run(Outcome::done());
    stage.advance(SECOND * 9);
    assert_eq!(answer(&stage.d.push(job().key("key")).unwrap()), (first, false));
    stage.advance(SECOND * 5);
    let second = stage.d.push(job().key("key")).unwrap();
    assert!(second.created && second.id != first);
}

/// Another payload or kind under a held key is a typed conflict that names the holder.
pub fn another_job_under_the_key_is_a_conflict(make: Make<'_>) {
    let stage = Stage::new(make);
    let first = stage.push(job().key("key"));
    for other in [
        NewJob::new("k", b"different").key("key"),
        NewJob::new("other", b"payload").key("key"),
    ] {
        let refused = stage.d.push(other).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        let text = refused.to_string();
        assert!(
            text.contains("\"key\"") && text.contains(&first.to_string()),
            "{text}"
        );
    }
    assert_eq!(stage.counts().totals.pushed, 1);
}

/// of many pushes of one key at once, one makes the job and all get its id.
pub fn many_pushes_of_a_key_make_one_job(make: Make<'_>) {
    let stage = Stage::new(make);
    for round in 0..20 {
        let (key, gate) = (format!("key {round}"), Barrier::new(4));
        let pushed: Vec<Pushed> = std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        gate.wait();
                        (0..5)
                            .map(|_| stage.d.push(job().key(&*key)).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            pushers.into_iter().flat_map(|p| p.join().unwrap()).collect()
        });
        assert_eq!(
            (pushed.len(), pushed.iter().filter(|p| p.created).count()),
            (20, 1)
        );
        assert!(pushed.iter().all(|p| p.id == pushed[0].id));
    }
    assert_eq!(stage.counts().totals.pushed, 20);
}

/// Pushes of a key race with its job being cancelled: at every instant one job at most holds it.
pub fn a_key_has_one_holder(make: Make<'_>) {
    let stage = Stage::new(make);
    let filter = Filter {
        key: Some("key".into()),
        states: vec![State::Queued],
        ..Filter::default()
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let id = stage.d.push(job().key("key")).unwrap().id;
                    stage.d.cancel(id).unwrap();
                }
            });
        }
        for _ in 0..100 {
            assert!(stage.d.list(&filter).unwrap().total <= 1);
        }
    });
    assert_eq!(stage.d.list(&filter).unwrap().total, 0);
    assert!(
        stage.d.push(job().key("key")).unwrap().created,
        "the key is free in the end"
    );
    stage.check_balance();
}

/// A job can be found by its key.
pub fn a_job_is_found_by_its_key(make: Make<'_>) {
    let stage = Stage::new(make);
    stage.push(job().key("other"));
    let id = stage.push(job().key("key"));
    let page = stage
        .d
        .list(&Filter {
            key: Some("key".into()),
            ..Filter::default()
        })
        .unwrap();
    assert_eq!(
        (page.total, page.jobs[0].id, page.jobs[0].key()),
        (1, id, Some("key"))
    );
}

/// A repeated push of one id changes nothing (a push whose answer was lost).
pub fn a_repeated_id_changes_nothing(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = crate::JobId::new(stage.d.now());
    assert_eq!(answer(&stage.d.push(job().id(id)).unwrap()), (id, true));
    assert_eq!(answer(&stage.d.push(job().id(id)).unwrap()), (id, false));
    stage.run(Outcome::done());
    assert_eq!(answer(&stage.d.push(job().id(id)).unwrap()), (id, false));
    assert_eq!(stage.state(id), State::Succeeded);
    assert!(stage.try_take().is_none());
}

/// A key survives retries and is not freed by them.
pub fn a_key_survives_retries(make: Make<'_>) {
    let stage = Stage::with(make, |o| o.retry = crate::RetryPolicy::none());
    let id = stage.push(job().key("key"));
    for _ in 0..3 {
        stage.run(Outcome::failed("again"));
        assert_eq!(stage.d.push(job().key("key")).unwrap().id, id);
    }
    stage.advance(Duration::ZERO);
    assert_eq!(stage.get(id).attempt, 3);
}
