//! The end of an engine: sealed, closed, and nothing left of it for the next one.

use std::sync::Arc;

use super::Make;
use super::stage::{Raw, Spec, to};
use crate::JobId;
use crate::engine::{Applied, Engine, Inserted};
use crate::job::State;

/// A sealed engine changes nothing any more, and can still be read.
pub fn a_sealed_engine_changes_nothing(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(2));
    let job = raw.claim_one().job;
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let before = (
        raw.counts().waiting(),
        raw.counts().running,
        raw.counts().totals.pushed,
    );
    raw.engine.seal().unwrap();
    raw.engine.seal().unwrap();
    let late = raw.spec();
    assert_eq!(raw.put(&[late.clone(), raw.spec()]), [Inserted::Sealed]);
    assert_eq!(raw.end(job, State::Succeeded), Applied::Stale);
    let receipt = raw.commit(
        std::slice::from_ref(&late),
        &mut [to(job, State::Succeeded)],
        &[(blocked, "t".into())],
    );
    assert!(!receipt.applied);
    raw.signal(blocked, "t");
    let after = (
        raw.counts().waiting(),
        raw.counts().running,
        raw.counts().totals.pushed,
    );
    assert_eq!(before, after);
    assert!(raw.engine.get(late.id).unwrap().is_none());
    assert_eq!(
        (raw.state(job.id), raw.state(blocked)),
        (State::Running, State::Blocked)
    );
    let mut seen = 0;
    raw.engine
        .export(&mut |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, 3);
    assert!(raw.claim(9).is_empty(), "nothing is given out either");
}

/// What races with a seal is either refused or there to be read: nothing is accepted behind it.
pub fn a_seal_misses_nothing(make: Make<'_>) {
    for _ in 0..20 {
        let raw = Raw::new(make);
        let (engine, now) = (&raw.engine, raw.now());
        let (accepted, exported) = std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..2)
                .map(|_| {
                    let spec = raw.spec();
                    scope.spawn(move || {
                        let mut accepted = 0;
                        loop {
                            let mut receipt = Vec::new();
                            let id = JobId::new(now);
                            let job = Spec { id, ..spec.clone() };
                            engine.insert(&[job.insert()], now, &mut receipt).unwrap();
                            if receipt == [Inserted::Sealed] {
                                return accepted;
                            }
                            accepted += 1;
                        }
                    })
                })
                .collect();
            super::stage::until("some pushes", || raw.counts().queued > 50);
            engine.seal().unwrap();
            let mut exported = 0;
            engine
                .export(&mut |_| {
                    exported += 1;
                    Ok(())
                })
                .unwrap();
            let accepted: usize = pushers.into_iter().map(|p| p.join().unwrap()).sum();
            (accepted, exported)
        });
        assert_eq!(accepted, exported);
    }
}

/// Closing twice is closing once.
pub fn close_is_idempotent(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(raw.spec());
    raw.engine.close().unwrap();
    raw.engine.close().unwrap();
}

/// Engines made one after the other share nothing.
pub fn each_engine_is_empty(make: Make<'_>) {
    Raw::new(make).add(Raw::new(make).spec());
    let engine: Arc<dyn Engine> = make();
    assert!(
        engine
            .counts()
            .unwrap()
            .iter()
            .all(|c| c.totals.pushed == 0 && c.waiting() == 0)
    );
    assert_eq!(engine.list(&crate::Filter::default()).unwrap().total, 0);
}
