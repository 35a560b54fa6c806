//! What an engine says when it stores jobs and is asked for them.

use std::sync::Arc;
use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Spec, again, to};
use crate::engine::{Applied, Inserted, Restored};
use crate::job::{Attempt, Extras, State};
use crate::names::QueueId;
use crate::outcome::{Failure, FailureKind, Transition};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;
use crate::{JSON, JobId};

/// A stored job is there at once, queued, and its receipt says that it is new.
pub fn insert_stores(make: Make<'_>) {
    let raw = Raw::new(make);
    let specs = raw.specs(3);
    assert_eq!(raw.put(&specs), [Inserted::New; 3]);
    for spec in &specs {
        let job = raw.get(spec.id);
        assert_eq!(
            (job.state, job.attempt, job.fence, job.id),
            (State::Queued, 0, 0, spec.id)
        );
        assert_eq!((&*job.queue, &*job.kind), ("q", "k"));
        assert_eq!(job.started.or(job.finished).or(job.lease_until), None);
        assert!(job.history.is_empty() && job.result.is_none() && job.error.is_none());
    }
}

/// Every field that a push set is given back as it was.
pub fn insert_keeps_every_field(make: Make<'_>) {
    let raw = Raw::new(make);
    let extras = Extras {
        key: Some("key".into()),
        fingerprint: 9,
        concurrency_key: None,
        retry: Some(RetryPolicy::linear(SECOND)),
        headers: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
    };
    let id = raw.add(Spec {
        payload: Payload::json(&[1.5, 2.5]).unwrap(),
        priority: -3,
        run_at: raw.in_(SECOND),
        max_attempts: 7,
        timeout: Some(SECOND * 9),
        deadline: raw.in_(SECOND * 60),
        extras: Some(Arc::new(extras.clone())),
        waits: vec!["x".into(), "y".into()],
        ..raw.spec()
    });
    let job = raw.get(id);
    assert_eq!(job.payload.as_bytes(), Some(&b"[1.5,2.5]"[..]));
    assert_eq!(job.payload.encode().unwrap().content_type, JSON);
    assert_eq!(
        (job.priority, job.max_attempts, job.timeout),
        (-3, Some(7), Some(SECOND * 9))
    );
    assert_eq!((job.created, job.run_at), (raw.now(), raw.in_(SECOND)));
    assert_eq!(job.deadline, Some(raw.in_(SECOND * 60)));
    assert_eq!(job.extras.as_deref(), Some(&extras));
    assert_eq!(job.waits, [Arc::from("x"), Arc::from("y")]);
    assert_eq!(job.state, State::Blocked);
    assert_eq!(raw.at(id).extras.as_deref(), Some(&extras));
}

/// A job of which nothing was said has nothing.
pub fn insert_adds_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    let job = raw.get(raw.add(Spec {
        max_attempts: 0,
        ..raw.spec()
    }));
    assert_eq!((job.max_attempts, job.timeout, job.deadline), (None, None, None));
    assert!(job.extras.is_none() && job.waits.is_empty() && !job.cancel_requested);
}

/// Whatever became of a job, its id is not taken twice.
pub fn a_known_id_is_a_duplicate(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = raw.spec();
    raw.add(spec.clone());
    let other = Spec {
        payload: Payload::from("other"),
        ..spec.clone()
    };
    let again = || raw.put(std::slice::from_ref(&other));
    assert_eq!(again(), [Inserted::Duplicate], "while it is queued");
    let claimed = raw.claim_one();
    assert_eq!(again(), [Inserted::Duplicate], "while it runs");
    raw.end(claimed.job, State::Failed);
    assert_eq!(again(), [Inserted::Duplicate], "when it is over");
    let job = raw.get(spec.id);
    assert_eq!(
        (job.payload.as_bytes(), job.state),
        (Some(&b"payload"[..]), State::Failed)
    );
    assert_eq!(raw.counts().totals.pushed, 1);
}

/// A batch may name a job twice: it is stored once.
pub fn a_batch_may_repeat_itself(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = raw.spec();
    let receipt = raw.put(&[spec.clone(), spec.clone(), raw.spec()]);
    assert_eq!(receipt, [Inserted::New, Inserted::Duplicate, Inserted::New]);
    assert_eq!(raw.counts().queued, 2);
}

/// A restored job brings its attempts, fence, birth and history along (row 71).
pub fn a_restored_job_keeps_its_past(make: Make<'_>) {
    let raw = Raw::new(make);
    let attempt = Attempt {
        number: 3,
        node: "elsewhere".into(),
        worker: 4,
        started: raw.now(),
        ended: raw.in_(SECOND),
        failure: Some(Failure::new(FailureKind::Panic, "boom")),
    };
    let restored = Restored {
        attempt: 3,
        fence: 8,
        created: Timestamp::from_micros(5),
        crashes: 2,
        history: vec![attempt.clone()],
    };
    let id = raw.add(Spec {
        restored: Some(restored),
        ..raw.spec()
    });
    let job = raw.get(id);
    assert_eq!(
        (job.attempt, job.fence, job.created),
        (3, 8, Timestamp::from_micros(5))
    );
    assert_eq!(job.history, [attempt]);
    let claimed = raw.claim_one();
    assert_eq!((claimed.attempt, claimed.job.fence), (4, 9), "the fence grows on");
    assert_eq!(claimed.created, Timestamp::from_micros(5));
    let totals = raw.counts().totals;
    assert_eq!((totals.pushed, totals.restored), (0, 1));
}

/// an id that nobody pushed is not known, in whatever way it is asked for.
pub fn an_unknown_id_is_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    let id = JobId::new(raw.now());
    assert!(raw.engine.get(id).unwrap().is_none());
    assert!(raw.engine.standing(id).unwrap().is_none());
    let ghost = crate::engine::JobRef {
        id,
        fence: 1,
        ..Default::default()
    };
    assert!(!raw.engine.request_cancel(ghost).unwrap());
    assert_eq!(raw.end(ghost, State::Succeeded), Applied::Stale);
}

/// Payloads of every kind of byte come back as they went (rows 4 and D2, D3 of the failure list).
pub fn payloads_come_back_as_they_went(make: Make<'_>) {
    let raw = Raw::new(make);
    let all: Vec<u8> = (0..=255).collect();
    let deep = "[".repeat(200_000);
    for bytes in [
        &[][..],
        b"\0",
        b"\xff\xfe\xed\xa0\x80",
        &all,
        b"NaN,1e400,{\"a\":1,\"a\":2}",
        deep.as_bytes(),
    ] {
        let id = raw.add(Spec {
            payload: Payload::from(bytes),
            ..raw.spec()
        });
        assert_eq!(raw.get(id).payload.as_bytes(), Some(bytes));
        let claimed = raw.claim_one();
        assert_eq!(claimed.payload.as_bytes(), Some(bytes));
        let result = Transition {
            result: Some(Payload::from(bytes)),
            ..to(claimed.job, State::Succeeded)
        };
        raw.apply(result);
        assert_eq!(raw.get(id).result.unwrap().as_bytes(), Some(bytes));
    }
}

/// The counts know each state, and add up.
pub fn counts_know_each_state(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(4));
    raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec()
    });
    raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let claimed = raw.claim(3);
    raw.end(claimed[0].job, State::Succeeded);
    raw.apply(again(claimed[1].job, SECOND));
    let c = raw.counts();
    assert_eq!(
        (c.blocked, c.scheduled, c.queued, c.running, c.kept),
        (1, 2, 1, 1, 1)
    );
    assert_eq!((c.totals.pushed, c.totals.claimed, c.totals.succeeded), (6, 3, 1));
    assert_eq!((c.totals.retried, c.totals.returned), (1, 0));
    raw.apply(Transition {
        refund: true,
        ..again(claimed[2].job, Duration::ZERO)
    });
    let c = raw.counts();
    assert_eq!((c.totals.retried, c.totals.returned, c.waiting()), (1, 1, 5));
    assert!(c.balanced());
}

/// Queues are counted apart.
pub fn queues_are_counted_apart(make: Make<'_>) {
    let raw = Raw::new(make);
    let other = raw.engine.names().queue("other").unwrap();
    raw.put(&raw.specs(2));
    raw.add(Spec {
        queue: other,
        ..raw.spec()
    });
    let of = |queue: QueueId| raw.counts_of(queue).queued;
    assert_eq!((of(raw.queue), of(other)), (2, 1));
}
