//! How many bytes may wait (row 60).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Make;
use super::dice::{Dice, seed};
use super::overflow::{assert_shed, check_fates, offer, run_all, told};
use super::stage::{Raw, SECOND, Spec, Stage, again, job, to, until, waiting};
use crate::admission::OnFull;
use crate::config::QueueOptions;
use crate::engine::{Inserted, Restored, Victim};
use crate::error::ErrorKind;
use crate::job::{NewJob, State};
use crate::outcome::{Outcome, ShedReason, Transition};
use crate::payload::Payload;
use crate::{JobId, RetryPolicy};

/// A job of so many bytes, in a queue that holds `bound`.
fn heavy(raw: &Raw, bytes: usize, bound: usize) -> Spec {
    Spec {
        payload: Payload::from(vec![7; bytes]),
        capacity_bytes: bound,
        ..raw.spec()
    }
}

fn weighs(raw: &Raw) -> usize {
    raw.engine.load(raw.queue).unwrap().bytes
}

fn sized(bytes: usize) -> NewJob<'static> {
    NewJob::new("k", vec![7; bytes])
}

/// A dispatcher whose queues hold so many bytes, under this policy.
fn bounded(make: Make<'_>, bytes: usize, on_full: OnFull) -> Stage {
    Stage::with(make, |o| {
        (o.capacity, o.capacity_bytes, o.on_full) = (0, bytes, on_full);
        o.retry = RetryPolicy::none();
    })
}

/// To the byte: what fits is taken, what is one byte over is refused, and what comes after it is not looked at.
pub fn bytes_are_bounded_exactly(make: Make<'_>) {
    let raw = Raw::new(make);
    let of = |bytes| heavy(&raw, bytes, 100);
    assert_eq!(
        raw.put(&[of(60), of(39), of(2), of(1)]),
        [Inserted::New, Inserted::New, Inserted::FullBytes(99)]
    );
    assert_eq!(
        raw.put(&[of(1)]),
        [Inserted::New],
        "the last byte is there to be used"
    );
    assert_eq!(raw.put(&[of(1)]), [Inserted::FullBytes(100)]);
    assert_eq!(raw.put(&[of(0)]), [Inserted::New], "nothing needs no room");
    assert_eq!(
        raw.put(&[of(101)]),
        [Inserted::FullBytes(100)],
        "longer than the bound alone"
    );
    let counts = raw.counts();
    assert_eq!(
        (
            weighs(&raw),
            counts.queued,
            counts.totals.pushed,
            counts.totals.refused
        ),
        (100, 4, 4, 3)
    );
}

/// Jobs and bytes are two bounds: either may be the one that is reached.
pub fn both_bounds_hold(make: Make<'_>) {
    let raw = Raw::new(make);
    let of = |bytes| Spec {
        capacity: 2,
        ..heavy(&raw, bytes, 100)
    };
    assert_eq!(raw.put(&[of(10)]), [Inserted::New]);
    assert_eq!(raw.put(&[of(91)]), [Inserted::FullBytes(10)]);
    assert_eq!(raw.put(&[of(10), of(1)]), [Inserted::New, Inserted::Full(2)]);
    assert_eq!((weighs(&raw), raw.counts().queued), (20, 2));
}

/// Bytes are given back once, whatever takes a job out of those that wait: a claim, a cancellation, a deadline, an
/// eviction. A job that comes back is not refused, and counts.
pub fn bytes_are_given_back_once(make: Make<'_>) {
    let raw = Raw::new(make);
    let ids: Vec<JobId> = [1, 2, 4, 8, 16, 32]
        .map(|bytes| raw.add(heavy(&raw, bytes, 63)))
        .into();
    assert_eq!(weighs(&raw), 63);
    let running = raw.claim(2);
    assert_eq!(weighs(&raw), 60, "two run");
    raw.apply(waiting(raw.at(ids[2]).job, State::Cancelled));
    assert_eq!(weighs(&raw), 56);
    raw.apply(waiting(raw.at(ids[3]).job, State::Expired));
    assert_eq!(weighs(&raw), 48);
    raw.end(running[0].job, State::Succeeded);
    assert_eq!(weighs(&raw), 48, "its room was given back at the claim");
    raw.add(heavy(&raw, 15, 63));
    raw.apply(again(running[1].job, Duration::ZERO));
    assert_eq!(weighs(&raw), 65, "what comes back is over the bound");
    assert_eq!(raw.put(&[heavy(&raw, 1, 63)]), [Inserted::FullBytes(65)]);
    let back = raw.claim(2);
    raw.apply(Transition {
        keeps_place: true,
        refund: true,
        ..again(back[0].job, Duration::ZERO)
    });
    raw.apply(again(back[1].job, SECOND));
    assert_eq!(
        weighs(&raw),
        65,
        "one stands where it stood, one waits for its time"
    );
    raw.claim(9);
    assert_eq!(weighs(&raw), 32, "the one that waits for its time");
    let evicted = raw
        .engine
        .evict(raw.queue, Victim::Oldest, ShedReason::Oldest, raw.now())
        .unwrap();
    assert!(evicted.is_none() && weighs(&raw) == 32);
    assert!(raw.counts().balanced());
}

/// Blocked and scheduled jobs have their bytes in the count, and so have jobs from a dump, which are never refused.
pub fn all_that_waits_is_weighed(make: Make<'_>) {
    let raw = Raw::new(make);
    let of = |bytes| heavy(&raw, bytes, 10);
    raw.add(Spec {
        waits: vec!["t".into()],
        ..of(3)
    });
    raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..of(4)
    });
    assert_eq!(raw.put(&[of(4)]), [Inserted::FullBytes(7)]);
    raw.add(Spec {
        restored: Some(Restored::default()),
        ..of(20)
    });
    assert_eq!(weighs(&raw), 27);
    let shed = raw.add(Spec {
        shed: Some(ShedReason::Newest),
        ..of(500)
    });
    assert_eq!(
        (raw.state(shed), weighs(&raw)),
        (State::Shed, 27),
        "what has ended takes no room"
    );
    let other = raw.engine.names().queue("other").unwrap();
    assert_eq!(
        raw.put(&[Spec {
            queue: other,
            ..of(10)
        }]),
        [Inserted::New],
        "each queue has its own"
    );
}

/// A batch that is refused for its bytes is refused whole, and leaves no byte behind.
pub fn a_batch_is_weighed_whole(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(heavy(&raw, 50, 100));
    let receipt = raw.commit(&[heavy(&raw, 30, 100), heavy(&raw, 30, 100)], &mut [], &[]);
    assert!(!receipt.applied);
    assert_eq!(receipt.inserted, [Inserted::New, Inserted::FullBytes(80)]);
    assert_eq!((weighs(&raw), raw.counts().queued), (50, 1));
    let running = raw.claim_one().job;
    let receipt = raw.commit(
        &[heavy(&raw, 100, 100)],
        &mut [to(running, State::Succeeded)],
        &[],
    );
    assert!(receipt.applied);
    assert_eq!((weighs(&raw), raw.counts().queued), (100, 1));
}

/// Row 60: of many pushers at once, exactly as many bytes get in as there is room for.
pub fn bytes_are_exact_among_pushers(make: Make<'_>) {
    let raw = Raw::new(make);
    let (bound, done) = (500, AtomicBool::new(false));
    let inserted: usize = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..3)
            .map(|_| {
                let specs: Vec<Spec> = (0..200).map(|_| heavy(&raw, 5, bound)).collect();
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
        let (engine, queue, done) = (raw.engine.clone(), raw.queue, &done);
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                let load = engine.load(queue).unwrap();
                assert!(load.bytes <= bound, "{load:?}");
            }
        });
        let counts: Vec<_> = pushers.into_iter().map(|p| p.join()).collect();
        done.store(true, Ordering::SeqCst);
        counts.into_iter().map(|count| count.unwrap()).sum()
    });
    assert_eq!((inserted, weighs(&raw)), (100, 500));
    assert_eq!(raw.counts().totals.refused, 500);
}

/// Row 60: with sizes of every kind, claims, cancellations and evictions among the pushes, there is never a byte over
/// the bound, and in the end none is left over.
pub fn no_byte_is_lost_or_found(make: Make<'_>) {
    const BOUND: usize = 300;
    let (stage, seed, done) = (
        bounded(make, BOUND, OnFull::DropOldest),
        seed(),
        AtomicBool::new(false),
    );
    let (queue, events) = (stage.d.queue("default").unwrap(), stage.d.subscribe(1 << 14));
    let (mut pushed, mut ran) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..2)
            .map(|n| {
                let stage = &stage;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed ^ n);
                    let mut ids = Vec::new();
                    for _ in 0..250 {
                        let mut new =
                            sized(dice.below(BOUND as u64 + 1) as usize / (1 + dice.below(20) as usize));
                        if dice.one_in(6) {
                            new = new.delay(SECOND);
                        }
                        ids.push(offer(stage, new).id);
                        if dice.one_in(8) {
                            stage
                                .d
                                .cancel(ids[dice.below(ids.len() as u64) as usize])
                                .unwrap();
                        }
                    }
                    ids
                })
            })
            .collect();
        let worker = scope.spawn(|| {
            let (mut consumer, mut ids) = (stage.consumer(), Vec::new());
            while !done.load(Ordering::SeqCst) {
                let Some(lease) = consumer.next(super::stage::at_once()).unwrap() else {
                    std::thread::yield_now();
                    continue;
                };
                ids.push(lease.id());
                lease.complete(Outcome::done()).unwrap();
            }
            ids
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let load = stage.d.0.engine.load(queue).unwrap();
                assert!(load.bytes <= BOUND, "{load:?}");
                stage.check_balance();
            }
        });
        let ended: Vec<_> = pushers.into_iter().map(|p| p.join()).collect();
        done.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|ids| pushed.extend(ids.unwrap()));
        ran.extend(worker.join().unwrap());
    });
    stage.advance(SECOND);
    ran.extend(run_all(&stage));
    assert_eq!(stage.d.0.engine.load(queue).unwrap().bytes, 0);
    let shed: Vec<JobId> = told(events.drain()).into_iter().map(|(id, _)| id).collect();
    check_fates(&stage, &pushed, &ran, &shed);
}

/// As many of the oldest go as the newcomer needs room for, and no more.
pub fn as_many_go_as_are_in_the_way(make: Make<'_>) {
    let stage = bounded(make, 10, OnFull::DropOldest);
    let ids: Vec<JobId> = (0..10).map(|_| offer(&stage, sized(1)).id).collect();
    let large = offer(&stage, sized(4));
    assert_eq!(large.shed, None);
    for id in &ids[..4] {
        assert_shed(&stage, *id, ShedReason::Oldest);
    }
    assert_eq!(offer(&stage, sized(0)).shed, None);
    assert_eq!(stage.counts().totals.shed_oldest, 4, "nothing needs no room");
    let all = offer(&stage, sized(10));
    assert_eq!(
        (all.shed, stage.counts().queued),
        (None, 2),
        "itself and the one of nothing, or itself alone"
    );
    assert_eq!(stage.counts().totals.shed(), 11);
    stage.check_balance();
}

/// A payload that is longer than the bound could never get in: it is refused as it is, whatever the policy, and
/// nothing is shed for it.
pub fn what_can_never_fit_is_refused(make: Make<'_>) {
    for policy in [
        OnFull::Reject,
        OnFull::DropNewest,
        OnFull::DropOldest,
        OnFull::Block(SECOND * 60),
    ] {
        let stage = bounded(make, 10, policy);
        let id = stage.push(sized(6));
        let refused = stage.d.push(sized(11)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{policy:?}");
        let text = refused.to_string();
        assert!(
            text.contains("11 bytes") && text.contains("capacity_bytes"),
            "{text}"
        );
        assert_eq!(refused.into_job().payload.len(), Some(11));
        let error = stage.d.push_many(&[sized(1), sized(11)]).unwrap_err();
        assert_eq!(
            (error.pushed.len(), error.error.kind()),
            (0, ErrorKind::Invalid),
            "checked first"
        );
        assert_eq!(
            (stage.state(id), stage.counts().totals.pushed),
            (State::Queued, 1)
        );
        if policy == OnFull::DropOldest {
            assert_eq!(offer(&stage, sized(10)).shed, None, "as long as the bound fits");
            assert_eq!((stage.state(id), stage.counts().waiting()), (State::Shed, 1));
        }
        stage.check_balance();
    }
}

/// A full queue says which of its bounds is reached; the job comes back with its payload.
pub fn a_refusal_names_the_bytes(make: Make<'_>) {
    let stage = bounded(make, 10, OnFull::Reject);
    stage.push(sized(8));
    let refused = stage.d.push(sized(3)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    assert!(refused.to_string().contains("8 of 10 bytes"), "{refused}");
    assert_eq!(refused.into_job().payload.len(), Some(3));
    let refused = stage
        .d
        .push_within(sized(3), Duration::from_millis(10))
        .unwrap_err();
    assert!(refused.to_string().contains("8 of 10 bytes"), "{refused}");
}

/// A push that waits for room in bytes goes on when there is enough for it, not before.
pub fn a_push_waits_for_enough_room(make: Make<'_>) {
    let stage = bounded(make, 10, OnFull::Block(SECOND * 60));
    stage.push(sized(6));
    stage.push(sized(4));
    std::thread::scope(|scope| {
        let d = stage.d.clone();
        let pusher = scope.spawn(move || d.push(sized(7)).map(|p| p.id).map_err(|e| e.kind()));
        let waits = || stage.d.0.engine.signals().space.waiting() > 0;
        until("the wait for room", waits);
        stage.run(Outcome::done());
        until("the wait for more room", waits);
        assert_eq!(stage.counts().queued, 1, "six bytes are not enough");
        stage.run(Outcome::done());
        let id = pusher.join().unwrap().unwrap();
        assert_eq!(stage.state(id), State::Queued);
    });
}

/// A queue that is given a bound in bytes while jobs wait in it counts those as well.
pub fn a_bound_counts_what_waits_already(make: Make<'_>) {
    let stage = bounded(make, 0, OnFull::Reject);
    for bytes in [10, 20] {
        stage.push(sized(bytes));
    }
    stage.push(sized(30).delay(SECOND));
    let lease = stage.take();
    let bound = |bytes| {
        let options = QueueOptions::new().capacity_bytes(bytes);
        stage.d.configure_queue("default", options).unwrap();
    };
    bound(60);
    stage.push(sized(10));
    let refused = stage.d.push(sized(1)).unwrap_err().to_string();
    assert!(refused.contains("60 of 60 bytes"), "{refused}");
    lease.complete(Outcome::failed("again")).unwrap();
    let refused = stage.d.push(job()).unwrap_err().to_string();
    assert!(refused.contains("70 of 60 bytes"), "{refused}");
    bound(0);
    stage.push(sized(100));
    bound(200);
    assert!(
        stage
            .d
            .push(sized(31))
            .unwrap_err()
            .to_string()
            .contains("170 of 200 bytes")
    );
    stage.push(sized(30));
}
