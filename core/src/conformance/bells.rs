//! Whom an engine rings, and when.

use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Spec, again, at_once, to, waiting};
use crate::JobId;
use crate::bell::Bell;
use crate::job::State;

fn heard<R>(bell: &Bell, what: &str, act: impl FnOnce() -> R) {
    let listener = bell.listen();
    act();
    assert!(listener.wait(at_once()), "{what} rings");
}

/// Whatever makes a job claimable rings for workers.
pub fn what_can_be_claimed_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    let work = &raw.engine.signals().work;
    heard(work, "an insert", || raw.put(&raw.specs(1)));
    let job = raw.claim_one().job;
    heard(work, "another attempt", || raw.apply(again(job, Duration::ZERO)));
    let job = raw.claim_one().job;
    let follow = raw.spec();
    heard(work, "a batch", || {
        raw.commit(&[follow], &mut [to(job, State::Succeeded)], &[])
    });
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    heard(work, "a last token", || raw.signal(blocked, "t"));
    raw.engine.set_paused(raw.queue, true).unwrap();
    heard(work, "a resumed queue", || {
        raw.engine.set_paused(raw.queue, false).unwrap()
    });
}

/// Every job that becomes claimable wakes a worker of its own.
pub fn each_job_rings_once(make: Make<'_>) {
    let raw = Raw::new(make);
    let work = &raw.engine.signals().work;
    let listeners = [work.listen(), work.listen(), work.listen()];
    raw.put(&raw.specs(3));
    assert!(listeners.into_iter().all(|l| l.wait(at_once())));
}

/// Whatever makes room rings for those who wait to push.
pub fn what_makes_room_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    let space = &raw.engine.signals().space;
    let full = |raw: &Raw| {
        let spec = Spec {
            capacity: 1,
            ..raw.spec()
        };
        assert_eq!(
            raw.put(&[
                spec.clone(),
                Spec {
                    id: JobId::new(raw.now()),
                    ..spec.clone()
                }
            ])
            .len(),
            2
        );
        spec.id
    };
    full(&raw);
    let mut claimed = None;
    heard(space, "a claim", || claimed = Some(raw.claim_one()));
    let id = full(&raw);
    heard(space, "a cancellation", || {
        raw.apply(waiting(raw.at(id).job, State::Cancelled))
    });
}

/// Everyone who waits for room hears of it: they may wait for different queues.
pub fn room_is_announced_to_all(make: Make<'_>) {
    let raw = Raw::new(make);
    let space = &raw.engine.signals().space;
    let spec = Spec {
        capacity: 1,
        ..raw.spec()
    };
    raw.put(&[
        spec.clone(),
        Spec {
            id: JobId::new(raw.now()),
            ..spec
        },
    ]);
    let waiting = [space.listen(), space.listen()];
    raw.claim_one();
    assert!(
        waiting.into_iter().all(|l| l.wait(at_once())),
        "a claim made room in one queue"
    );
}

/// Whatever brings the next due time forward rings for upkeep.
pub fn an_earlier_due_time_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.tick();
    let upkeep = &raw.engine.signals().upkeep;
    let scheduled = Spec {
        run_at: raw.in_(SECOND * 50),
        ..raw.spec()
    };
    heard(upkeep, "a scheduled job", || raw.add(scheduled));
    raw.tick();
    let sooner = Spec {
        run_at: raw.in_(SECOND * 40),
        ..raw.spec()
    };
    heard(upkeep, "a sooner one", || raw.add(sooner));
    raw.tick();
    let mortal = Spec {
        deadline: raw.in_(SECOND * 30),
        ..raw.spec()
    };
    heard(upkeep, "a deadline", || raw.add(mortal));
    raw.tick();
    let mut claimed = Vec::new();
    heard(upkeep, "a lease", || claimed = raw.claim_leased(1, SECOND * 20));
    raw.tick();
    heard(upkeep, "a retry", || {
        raw.apply(again(claimed[0].job, SECOND * 10))
    });
    raw.tick();
    raw.add(Spec {
        timeout: Some(SECOND),
        ..raw.spec()
    });
    heard(upkeep, "a timeout", || raw.claim_one());
    assert_eq!(raw.tick().next, raw.in_(SECOND));
}

/// The end of a job wakes who waits for it, by its id.
pub fn the_end_of_a_job_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    for state in [State::Succeeded, State::Failed, State::Cancelled, State::Expired] {
        let id = raw.add(raw.spec());
        let wait = raw.engine.signals().finished.listen(id);
        let ended = std::thread::scope(|scope| {
            let job = raw.claim_one().job;
            let (engine, now) = (raw.engine.clone(), raw.now());
            scope.spawn(move || {
                engine
                    .turn(&mut [to(job, state)], &mut Vec::new(), None, now)
                    .unwrap();
            });
            wait.until(super::stage::soon(), || raw.state(id).is_final().then_some(()))
        });
        assert_eq!(ended, Some(()), "{state}");
    }
}
