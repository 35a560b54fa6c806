//! Batches: several jobs, ends and tokens in one call, all or nothing.

use std::sync::Arc;

use super::Make;
use super::stage::{Raw, Spec, to};
use crate::JobId;
use crate::engine::{Applied, Inserted};
use crate::job::State;

/// A batch is applied whole.
pub fn a_batch_is_applied_whole(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let job = raw.claim_one().job;
    let follow = raw.spec();
    let receipt = raw.commit(
        std::slice::from_ref(&follow),
        &mut [to(job, State::Succeeded)],
        &[(blocked, "t".into())],
    );
    assert!(receipt.applied);
    assert_eq!(
        (receipt.inserted, receipt.transitions),
        (vec![Inserted::New], vec![Applied::Yes])
    );
    assert_eq!(raw.state(job.id), State::Succeeded);
    assert_eq!(
        (raw.state(blocked), raw.state(follow.id)),
        (State::Queued, State::Queued)
    );
}

/// One refused part refuses the whole batch.
pub fn a_batch_is_refused_whole(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec().key("held", 1));
    let job = raw.claim_one().job;
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let other = raw.engine.names().queue("other").unwrap();
    let good = raw.spec();
    let signals = [(blocked, "t".into())];
    let full = Spec {
        queue: other,
        capacity: 1,
        ..raw.spec()
    };
    raw.add(full.clone());
    let stale = crate::engine::JobRef { fence: 99, ..job };
    for (what, bad, standing) in [
        ("a stale transition", raw.spec(), stale),
        ("a conflicting key", raw.spec().key("held", 2), job),
        (
            "a full queue",
            Spec {
                id: JobId::new(raw.now()),
                ..full.clone()
            },
            job,
        ),
    ] {
        let before = (raw.counts(), raw.counts_of(other).waiting());
        let mut transitions = [to(standing, State::Succeeded)];
        let receipt = raw.commit(&[good.clone(), bad.clone()], &mut transitions, &signals);
        assert!(!receipt.applied, "{what}");
        assert!(
            transitions[0].result.is_some(),
            "{what}: the result is still the caller's"
        );
        assert!(raw.engine.get(good.id).unwrap().is_none(), "{what}");
        assert!(raw.engine.get(bad.id).unwrap().is_none(), "{what}");
        assert_eq!(
            (raw.state(job.id), raw.state(blocked)),
            (State::Running, State::Blocked),
            "{what}"
        );
        let after = (raw.counts(), raw.counts_of(other).waiting());
        assert_eq!(
            (before.0.waiting(), before.1),
            (after.0.waiting(), after.1),
            "{what}"
        );
        assert!(raw.counts().balanced());
    }
}

/// A refused batch says which part was refused.
pub fn a_refused_batch_says_why(make: Make<'_>) {
    let raw = Raw::new(make);
    let holder = raw.add(raw.spec().key("held", 1));
    let job = raw.claim_one().job;
    let receipt = raw.commit(
        &[raw.spec().key("held", 2)],
        &mut [to(job, State::Succeeded)],
        &[],
    );
    assert_eq!(receipt.inserted, [Inserted::Conflict(holder)]);
    let stale = crate::engine::JobRef { fence: 99, ..job };
    let receipt = raw.commit(&[], &mut [to(stale, State::Succeeded)], &[]);
    assert_eq!(receipt.transitions, [Applied::Stale]);
    raw.engine.request_cancel(job).unwrap();
    let receipt = raw.commit(&[], &mut [to(job, State::Succeeded)], &[]);
    assert_eq!(
        (receipt.applied, receipt.transitions),
        (false, vec![Applied::CancelRequested])
    );
}

/// A batch that is repeated because its answer was lost stores nothing twice.
pub fn a_repeated_insert_is_no_conflict(make: Make<'_>) {
    let raw = Raw::new(make);
    let (plain, keyed) = (raw.spec(), raw.spec().key("key", 1));
    assert!(raw.commit(&[plain.clone(), keyed.clone()], &mut [], &[]).applied);
    let same_key = raw.spec().key("key", 1);
    let receipt = raw.commit(&[plain, keyed.clone(), same_key.clone()], &mut [], &[]);
    assert!(receipt.applied);
    assert_eq!(receipt.inserted[0], Inserted::Duplicate);
    assert_eq!(receipt.inserted[2], Inserted::Keyed(keyed.id));
    assert_eq!(raw.counts().queued, 2);
    assert!(raw.engine.get(same_key.id).unwrap().is_none());
}

/// A blocked job is queued by the last of its tokens, not before.
pub fn the_last_token_unblocks(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(Spec {
        waits: vec!["a".into(), "b".into()],
        ..raw.spec()
    });
    assert_eq!((raw.state(id), raw.counts().blocked), (State::Blocked, 1));
    assert!(raw.claim(1).is_empty());
    raw.signal(id, "a");
    assert_eq!(raw.get(id).waits, [Arc::from("b")]);
    raw.signal(id, "a");
    raw.signal(id, "never heard of");
    raw.signal(JobId::new(raw.now()), "b");
    assert_eq!(raw.state(id), State::Blocked);
    raw.signal(id, "b");
    assert_eq!(
        (raw.state(id), raw.counts().blocked, raw.counts().queued),
        (State::Queued, 0, 1)
    );
    assert_eq!(raw.claimed_ids(1), [id]);
    raw.signal(id, "b");
    assert_eq!(
        raw.state(id),
        State::Running,
        "a token that comes late changes nothing"
    );
}

/// One batch may bring several tokens, also for a job that it inserts.
pub fn one_batch_may_bring_all_tokens(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = Spec {
        waits: vec!["a".into(), "b".into()],
        ..raw.spec()
    };
    let signals = [(spec.id, "a".into()), (spec.id, "b".into())];
    assert!(raw.commit(std::slice::from_ref(&spec), &mut [], &signals).applied);
    assert_eq!(raw.state(spec.id), State::Queued);
}
