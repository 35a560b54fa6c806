//! What a newcomer is that is shed as it comes (row 61): accepted, counted, and over.

use super::Make;
use super::overflow::{assert_shed, bounded, offer, run_all, told};
use super::stage::{Raw, SECOND, Spec, job};
use crate::JobId;
use crate::admission::OnFull;
use crate::event::{Event, EventKind};
use crate::job::{NewJob, Priority, State};
use crate::outcome::{FailureKind, Outcome, ShedReason};

/// `drop_newest`: the newcomer is accepted and ends at once as shed; those that wait are not touched.
pub fn a_newcomer_is_shed(make: Make<'_>) {
    let stage = bounded(make, 2, OnFull::DropNewest);
    let (first, second) = (stage.push(job()), stage.push(job()));
    let events = stage.d.subscribe(16);
    let pushed = offer(&stage, job().priority(Priority::MAX));
    assert_eq!(pushed.shed, Some(ShedReason::Newest));
    assert_shed(&stage, pushed.id, ShedReason::Newest);
    let of_it = |event: &Event| event.id == pushed.id;
    let seen: Vec<Event> = events.drain().filter(of_it).collect();
    let kinds: Vec<EventKind> = seen.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Pushed, EventKind::Shed], "in this order");
    assert_eq!(
        told(seen.into_iter()),
        [(pushed.id, Some(FailureKind::Shed(ShedReason::Newest)))]
    );
    let counts = stage.counts();
    assert_eq!((counts.queued, counts.totals.pushed), (2, 3));
    assert_eq!((counts.totals.shed_newest, counts.totals.shed()), (1, 1));
    assert_eq!(counts.totals.refused, 0, "it was not refused");
    stage.check_balance();
    assert_eq!(run_all(&stage), [first, second]);
    assert_eq!(stage.push(job()).to_string().len(), 36, "there is room again");
}

/// A shed newcomer holds no idempotency key and can be pushed again; one whose key is held is the one that holds it.
pub fn a_shed_newcomer_holds_no_key(make: Make<'_>) {
    let stage = bounded(make, 1, OnFull::DropNewest);
    let held = stage.push(job().key("held"));
    let again = stage.d.push(job().key("held")).unwrap();
    assert_eq!((again.id, again.created, again.shed), (held, false, None));
    let shed = offer(&stage, job().key("free"));
    assert_eq!(shed.shed, Some(ShedReason::Newest));
    stage.run(Outcome::done());
    let taken = offer(&stage, NewJob::new("k", b"another payload").key("free"));
    assert_eq!(taken.shed, None);
    assert_ne!(taken.id, shed.id);
    stage.check_balance();
}

/// The id of a shed newcomer is known: pushed again, it changes nothing.
pub fn a_shed_newcomer_is_known_by_its_id(make: Make<'_>) {
    let stage = bounded(make, 1, OnFull::DropNewest);
    stage.push(job());
    let id = JobId::new(stage.d.now());
    assert_eq!(offer(&stage, job().id(id)).shed, Some(ShedReason::Newest));
    stage.run(Outcome::done());
    let again = stage.d.push(job().id(id)).unwrap();
    assert_eq!((again.id, again.created), (id, false));
    assert_eq!((stage.state(id), stage.counts().totals.pushed), (State::Shed, 2));
}

/// Of a batch as many are taken as there is room for, in order; each of the others is told apart.
pub fn a_batch_sheds_what_does_not_fit(make: Make<'_>) {
    let stage = bounded(make, 3, OnFull::DropNewest);
    let jobs: Vec<_> = (0..300).map(|_| job()).collect();
    let pushed = stage.d.push_many(&jobs).unwrap();
    assert_eq!(pushed.len(), 300);
    let (taken, shed) = pushed.split_at(3);
    assert!(taken.iter().all(|p| p.created && p.shed.is_none()));
    assert!(
        shed.iter()
            .all(|p| p.created && p.shed == Some(ShedReason::Newest))
    );
    for p in shed {
        assert_shed(&stage, p.id, ShedReason::Newest);
    }
    let counts = stage.counts();
    assert_eq!(
        (counts.queued, counts.totals.pushed, counts.totals.shed_newest),
        (3, 300, 297)
    );
    stage.check_balance();
}

/// The mark of a shed newcomer: it takes no room, waits for nothing, and is never due.
pub fn a_shed_newcomer_takes_no_room(make: Make<'_>) {
    let raw = Raw::new(make);
    let spec = Spec {
        capacity: 1,
        shed: Some(ShedReason::Sampled),
        run_at: raw.in_(SECOND),
        deadline: raw.in_(SECOND),
        waits: vec!["token".into()],
        ..raw.spec()
    };
    raw.put(&[Spec {
        capacity: 1,
        ..raw.spec()
    }]);
    let shed: Vec<Spec> = (0..3)
        .map(|_| Spec {
            id: JobId::new(raw.now()),
            ..spec.clone()
        })
        .collect();
    for spec in &shed {
        raw.add(spec.clone());
    }
    assert_eq!(raw.engine.load(raw.queue).unwrap().jobs, 1);
    raw.advance(SECOND * 2);
    raw.tick();
    assert!(raw.causes().is_empty());
    raw.signal(shed[0].id, "token");
    assert_eq!(raw.claim(9).len(), 1, "only the one that was there");
    let counts = raw.counts();
    assert_eq!((counts.totals.pushed, counts.totals.shed_sampled), (4, 3));
    assert!(counts.balanced());
    for spec in &shed {
        let job = raw.get(spec.id);
        assert_eq!(
            (job.state, job.payload.len()),
            (State::Shed, Some(0)),
            "its payload is dropped"
        );
    }
}
