//! What a full queue does with a newcomer: the policies of `on_full` (row 61).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Make;
use super::stage::{Raw, SECOND, Spec, Stage, at_once, job, soon};
use crate::admission::OnFull;
use crate::config::QueueOptions;
use crate::engine::Victim;
use crate::error::ErrorKind;
use crate::event::{Event, EventKind};
use crate::job::{NewJob, Priority, State};
use crate::outcome::{FailureKind, Outcome, ShedReason};
use crate::{JobId, Options, Pushed, RetryPolicy};

const MOMENT: Duration = Duration::from_millis(1);

/// A dispatcher whose queues hold so many jobs, under this policy.
pub(super) fn bounded(make: Make<'_>, capacity: usize, on_full: OnFull) -> Stage {
    Stage::with(make, |o| (o.capacity, o.on_full) = (capacity, on_full))
}

/// Pushes one job that may be shed as it comes.
pub(super) fn offer(stage: &Stage, job: NewJob<'_>) -> Pushed {
    let pushed = stage.d.push(job).unwrap();
    assert!(pushed.created, "it is accepted, shed or not");
    pushed
}

/// The job has ended as shed for this, and whoever asks is told so.
pub(super) fn assert_shed(stage: &Stage, id: JobId, reason: ShedReason) {
    let job = stage.d.wait(id, at_once()).unwrap();
    assert_eq!((job.state, job.attempt), (State::Shed, 0), "{id}");
    assert_eq!(
        job.error.as_ref().map(|e| e.kind),
        Some(FailureKind::Shed(reason))
    );
    assert!(job.finished.is_some() && job.started.is_none() && job.result.is_none());
    let error = job.into_result().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shed);
    assert!(error.to_string().contains(reason.name()), "{error}");
}

/// Every job that waits, in the order in which it would start; they run to their end.
pub(super) fn run_all(stage: &Stage) -> Vec<JobId> {
    let mut consumer = stage.consumer();
    let mut ids = Vec::new();
    while let Some(lease) = consumer.next(at_once()).unwrap() {
        ids.push(lease.id());
        lease.complete(Outcome::done()).unwrap();
    }
    ids
}

/// The jobs that events say were shed, and for what.
pub(super) fn told(events: impl Iterator<Item = Event>) -> Vec<(JobId, Option<FailureKind>)> {
    let shed = events.filter(|event| event.kind == EventKind::Shed);
    shed.map(|event| (event.id, event.failure)).collect()
}

fn total(stage: &Stage, reason: ShedReason) -> u64 {
    *stage.counts().totals.of_mut(reason)
}

// ---- another goes ----------------------------------------------------------------------------------------

/// `drop_oldest`: the one that has been ready longest makes room, once per newcomer.
pub fn the_oldest_makes_room(make: Make<'_>) {
    let stage = bounded(make, 3, OnFull::DropOldest);
    let events = stage.d.subscribe(64);
    let ids: Vec<JobId> = (0..5).map(|_| offer(&stage, job())).map(|p| p.id).collect();
    for id in &ids[..2] {
        assert_shed(&stage, *id, ShedReason::Oldest);
    }
    let why = Some(FailureKind::Shed(ShedReason::Oldest));
    assert_eq!(told(events.drain()), [(ids[0], why), (ids[1], why)]);
    let counts = stage.counts();
    assert_eq!(
        (counts.queued, counts.totals.pushed, counts.totals.shed_oldest),
        (3, 5, 2)
    );
    assert_eq!(counts.totals.refused, 0, "nobody was refused");
    stage.check_balance();
    assert_eq!(run_all(&stage), ids[2..]);
}

/// The oldest is the one that became ready first, whatever its priority: not the one that was pushed first.
pub fn the_oldest_became_ready_first(make: Make<'_>) {
    let stage = bounded(make, 4, OnFull::DropOldest);
    stage
        .d
        .declare("k", crate::KindOptions::new().retry(RetryPolicy::none()))
        .unwrap();
    let back = stage.push(job());
    let late = stage.push(job().delay(SECOND));
    let lease = stage.take();
    stage.advance(MOMENT);
    let urgent = stage.push(job().priority(9));
    stage.advance(MOMENT);
    let plain = stage.push(job());
    stage.advance(MOMENT);
    lease.complete(Outcome::failed("once more")).unwrap();
    stage.advance(SECOND);
    let mut gone = Vec::new();
    for expected in [urgent, plain, back, late] {
        offer(&stage, job().priority(-1));
        gone.push(expected);
        let shed: Vec<JobId> = [back, late, urgent, plain]
            .into_iter()
            .filter(|id| stage.state(*id) == State::Shed)
            .collect();
        assert_eq!(BTreeSet::from_iter(shed), BTreeSet::from_iter(gone.clone()));
    }
    assert_eq!(stage.get(back).attempt, 1, "the attempt it had counts");
    stage.check_balance();
}

/// Whoever waits for an evicted job is woken, with an error of its own kind.
pub fn who_waits_for_a_shed_job_is_told(make: Make<'_>) {
    let stage = bounded(make, 1, OnFull::DropOldest);
    let id = stage.push(job());
    std::thread::scope(|scope| {
        let d = stage.d.clone();
        let waiter = scope.spawn(move || d.wait(id, soon()).unwrap().into_result().unwrap_err().kind());
        super::stage::until("the wait", || stage.d.0.engine.signals().finished.waiters() > 0);
        offer(&stage, job());
        assert_eq!(waiter.join().unwrap(), ErrorKind::Shed);
    });
}

/// Scheduled, blocked and running jobs are not evicted: where there are no others, the newcomer is shed.
pub fn nothing_to_evict_sheds_the_newcomer(make: Make<'_>) {
    for (policy, reason) in [
        (OnFull::DropOldest, ShedReason::Newest),
        (OnFull::DropLowest, ShedReason::Lowest),
        (OnFull::Sample(1.0), ShedReason::Newest),
        (OnFull::Sample(0.0), ShedReason::Sampled),
    ] {
        let stage = bounded(make, 2, policy);
        let running = stage.push(job());
        let lease = stage.take();
        let waiting = [stage.push(job().delay(SECOND)), stage.push(job().waits_for("t"))];
        let shed = offer(&stage, job().priority(9));
        assert_eq!(shed.shed, Some(reason), "{policy:?}");
        assert_shed(&stage, shed.id, reason);
        assert!(waiting.iter().all(|id| stage.state(*id).is_waiting()));
        lease.complete(Outcome::done()).unwrap();
        assert_eq!(stage.state(running), State::Succeeded);
        stage.check_balance();
    }
}

/// `drop_lowest`: the first of the lowest priority makes room, if that is below the newcomer's.
pub fn the_lowest_makes_room(make: Make<'_>) {
    let stage = bounded(make, 5, OnFull::DropLowest);
    let at = |priority: Priority| offer(&stage, job().priority(priority));
    let ids: Vec<JobId> = [1, 0, -1, 0, -1].map(|p| at(p).id).into();
    for (newcomer, victim) in [
        (0, Some(2)),
        (-1, None),
        (0, Some(4)),
        (0, None),
        (1, Some(1)),
        (2, Some(3)),
    ] {
        let pushed = at(newcomer);
        match victim {
            Some(n) => {
                assert_eq!(pushed.shed, None);
                assert_shed(&stage, ids[n], ShedReason::Lowest);
            }
            None => {
                assert_eq!(pushed.shed, Some(ShedReason::Lowest), "nobody is below it");
                assert_shed(&stage, pushed.id, ShedReason::Lowest);
            }
        }
        assert_eq!(stage.counts().queued, 5);
    }
    assert_eq!(at(Priority::MIN).shed, Some(ShedReason::Lowest));
    assert_eq!(
        (total(&stage, ShedReason::Lowest), stage.counts().totals.shed()),
        (7, 7)
    );
    stage.check_balance();
}

/// `sample(0)` lets nobody in, `sample(1)` everybody, at the cost of the oldest.
pub fn a_sample_of_none_and_of_all(make: Make<'_>) {
    let stage = bounded(make, 2, OnFull::Sample(0.0));
    let first = [offer(&stage, job()).id, offer(&stage, job()).id];
    for _ in 0..50 {
        assert_eq!(offer(&stage, job()).shed, Some(ShedReason::Sampled));
    }
    assert_eq!(run_all(&stage), first);
    assert_eq!(total(&stage, ShedReason::Sampled), 50);
    let stage = bounded(make, 2, OnFull::Sample(1.0));
    let ids: Vec<JobId> = (0..50)
        .map(|_| offer(&stage, job()))
        .inspect(|pushed| assert_eq!(pushed.shed, None))
        .map(|pushed| pushed.id)
        .collect();
    assert_eq!(
        (
            total(&stage, ShedReason::Oldest),
            total(&stage, ShedReason::Sampled)
        ),
        (48, 0)
    );
    assert_eq!(run_all(&stage), ids[48..]);
}

/// `sample(p)` lets in its share of those that find the queue full. The bounds are six standard deviations wide:
/// one run in half a thousand million is outside of them by chance.
pub fn a_sample_keeps_its_share(make: Make<'_>) {
    const OFFERED: usize = 2000;
    let stage = bounded(make, 10, OnFull::Sample(0.25));
    for _ in 0..10 {
        stage.push(job());
    }
    let shed = (0..OFFERED)
        .filter(|_| offer(&stage, job()).shed.is_some())
        .count();
    let taken = OFFERED - shed;
    let deviation = (OFFERED as f64 * 0.25 * 0.75).sqrt();
    assert!(
        (taken as f64 - OFFERED as f64 * 0.25).abs() < 6.0 * deviation,
        "{taken} of {OFFERED} were let in"
    );
    let (sampled, oldest) = (
        total(&stage, ShedReason::Sampled),
        total(&stage, ShedReason::Oldest),
    );
    assert_eq!(
        (sampled, oldest, stage.counts().queued),
        (shed as u64, taken as u64, 10)
    );
    stage.check_balance();
}

/// `block`: a push waits for room, and fails when none came in time; the policy may be a queue's own.
pub fn a_policy_may_be_to_wait(make: Make<'_>) {
    let stage = bounded(make, 1, OnFull::Reject);
    let patience = OnFull::Block(Duration::from_millis(20));
    stage
        .d
        .configure_queue("patient", QueueOptions::new().on_full(patience))
        .unwrap();
    stage.push(job().queue("patient"));
    let refused = stage.d.push(job().queue("patient")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    assert!(refused.to_string().contains("no room came in time"), "{refused}");
    assert_eq!(
        stage.d.try_push(job().queue("patient")).unwrap_err().kind(),
        ErrorKind::Full
    );
    stage.push(job());
    assert!(
        stage
            .d
            .push(job())
            .unwrap_err()
            .to_string()
            .contains("policy reject")
    );
    let counts = stage.counts();
    assert_eq!(
        (counts.queued, counts.totals.pushed, counts.totals.shed()),
        (2, 2, 0)
    );
}

/// Each queue has its own policy and bound; what is shed is counted where it was.
pub fn each_queue_sheds_by_its_own_policy(make: Make<'_>) {
    let stage = bounded(make, 1, OnFull::Reject);
    let policies = [
        ("newest", OnFull::DropNewest, ShedReason::Newest),
        ("oldest", OnFull::DropOldest, ShedReason::Oldest),
        ("lowest", OnFull::DropLowest, ShedReason::Lowest),
        ("sample", OnFull::Sample(0.0), ShedReason::Sampled),
    ];
    for (queue, policy, _) in policies {
        stage
            .d
            .configure_queue(queue, QueueOptions::new().on_full(policy).capacity(2))
            .unwrap();
        for _ in 0..5 {
            offer(&stage, job().queue(queue));
        }
    }
    let stats = stage.d.stats().unwrap();
    for (queue, _, reason) in policies {
        let mut counts = stats.queue(queue).unwrap().clone();
        assert_eq!((counts.queued, counts.totals.pushed), (2, 5), "{queue}");
        assert_eq!(
            (*counts.totals.of_mut(reason), counts.totals.shed()),
            (3, 3),
            "{queue}"
        );
    }
    stage.check_balance();
}

/// A bound that is lowered while jobs wait holds from the next push on: as many go as are over it.
pub fn a_lower_bound_holds_at_the_next_push(make: Make<'_>) {
    let stage = bounded(make, 0, OnFull::DropOldest);
    let mut ids: Vec<JobId> = (0..6).map(|_| stage.push(job())).collect();
    stage
        .d
        .configure_queue("default", QueueOptions::new().capacity(2))
        .unwrap();
    assert_eq!(stage.counts().queued, 6, "nothing happens by itself");
    ids.push(offer(&stage, job()).id);
    assert_eq!((stage.counts().queued, total(&stage, ShedReason::Oldest)), (2, 5));
    assert_eq!(run_all(&stage), ids[5..]);
}

/// A push of many evicts as many as it needs, and those of its own jobs that are then the oldest.
pub fn a_batch_makes_room_for_itself(make: Make<'_>) {
    let stage = bounded(make, 4, OnFull::DropOldest);
    let mut ids: Vec<JobId> = (0..3).map(|_| stage.push(job())).collect();
    let jobs: Vec<_> = (0..600).map(|_| job()).collect();
    let pushed = stage.d.push_many(&jobs).unwrap();
    assert!(pushed.iter().all(|p| p.created && p.shed.is_none()));
    ids.extend(pushed.iter().map(|p| p.id));
    assert_eq!(
        (stage.counts().queued, total(&stage, ShedReason::Oldest)),
        (4, 599)
    );
    assert_eq!(run_all(&stage), ids[599..]);
    stage.check_balance();
}

/// A retry that comes back, and a job from a dump, are not shed: the next push finds the queue over-full.
pub fn what_comes_back_is_not_shed(make: Make<'_>) {
    let stage = bounded(make, 1, OnFull::DropOldest);
    stage
        .d
        .declare("k", crate::KindOptions::new().retry(RetryPolicy::none()))
        .unwrap();
    let first = stage.push(job());
    let lease = stage.take();
    let second = stage.push(job());
    lease.complete(Outcome::failed("again")).unwrap();
    assert_eq!((stage.counts().queued, stage.counts().totals.shed()), (2, 0));
    let third = offer(&stage, job()).id;
    assert_eq!(
        (stage.state(first), stage.state(second)),
        (State::Shed, State::Shed)
    );
    assert_eq!(run_all(&stage), [third]);
}

// ---- the engine's part -----------------------------------------------------------------------------------

/// An eviction takes one queued job, says which, rings for its end and for the room, and drops its payload.
pub fn an_eviction_ends_one_job(make: Make<'_>) {
    let raw = Raw::new(make);
    let evict = |victim| {
        let shed = raw.engine.evict(raw.queue, victim, ShedReason::Oldest, raw.now());
        shed.unwrap().map(|at| at.job.id)
    };
    assert_eq!(evict(Victim::Oldest), None);
    let ids: Vec<JobId> = (0..4).map(|_| raw.add(raw.spec())).collect();
    raw.engine.set_paused(raw.queue, true).unwrap();
    let (ended, space) = (
        raw.engine.signals().finished.listen(ids[0]),
        raw.engine.signals().space.listen(),
    );
    assert_eq!(
        evict(Victim::Oldest),
        Some(ids[0]),
        "a paused queue can be full, too"
    );
    assert!(space.wait(at_once()), "there is room");
    let over = ended.until(at_once(), || raw.state(ids[0]).is_final().then_some(()));
    assert_eq!(over, Some(()));
    raw.engine.set_paused(raw.queue, false).unwrap();
    let job = raw.get(ids[0]);
    assert_eq!(
        (job.state, job.payload.len(), job.attempt),
        (State::Shed, Some(0), 0)
    );
    assert_eq!(raw.claimed_ids(1), [ids[1]]);
    assert_eq!(evict(Victim::Oldest), Some(ids[2]));
    assert_eq!(evict(Victim::Lowest { below: 0 }), None, "nobody is below 0");
    assert_eq!(evict(Victim::Lowest { below: 1 }), Some(ids[3]));
    assert_eq!(evict(Victim::Oldest), None, "the one that runs is not taken");
    let counts = raw.counts();
    assert_eq!(
        (counts.running, counts.waiting(), counts.totals.shed_oldest),
        (1, 0, 3)
    );
    assert!(counts.balanced());
}

/// Another queue's jobs, and those whose time has not come, are not taken; those whose time has come are.
pub fn an_eviction_keeps_to_what_is_queued(make: Make<'_>) {
    let raw = Raw::new(make);
    let other = raw.engine.names().queue("other").unwrap();
    raw.add(Spec {
        queue: other,
        ..raw.spec()
    });
    raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let late = raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec()
    });
    let evict = || {
        let shed = raw
            .engine
            .evict(raw.queue, Victim::Oldest, ShedReason::Oldest, raw.now());
        shed.unwrap().map(|at| at.job.id)
    };
    assert_eq!(evict(), None);
    raw.advance(SECOND);
    raw.tick();
    assert_eq!((evict(), evict()), (Some(late), None));
    assert_eq!(raw.counts_of(other).queued, 1);
}

/// While the newest go first, what is queued from then on is taken newest first, and the others afterwards.
pub fn the_newest_may_go_first(make: Make<'_>) {
    let raw = Raw::new(make);
    let before = [raw.add(raw.spec()), raw.add(raw.spec())];
    raw.engine.set_newest_first(raw.queue, true).unwrap();
    let after: Vec<JobId> = (0..4).map(|_| raw.add(raw.spec())).collect();
    let urgent = raw.add(Spec {
        priority: 1,
        ..raw.spec()
    });
    assert_eq!(raw.claimed_ids(3), [urgent, after[3], after[2]]);
    raw.engine.set_newest_first(raw.queue, false).unwrap();
    let mut rest = raw.claimed_ids(9);
    rest.sort_unstable();
    assert_eq!(rest, [before[0], before[1], after[0], after[1]]);
    assert_eq!(raw.counts().queued, 0);
}

// ---- all at once -----------------------------------------------------------------------------------------

/// Row 60: however many push at once and whatever they evict, never is one job more than the bound there.
pub fn a_bound_is_exact_while_it_sheds(make: Make<'_>) {
    const BOUND: usize = 20;
    for policy in [
        OnFull::DropOldest,
        OnFull::DropLowest,
        OnFull::DropNewest,
        OnFull::Sample(0.5),
    ] {
        let (stage, done) = (bounded(make, BOUND, policy), AtomicBool::new(false));
        let queue = stage.d.queue("default").unwrap();
        std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..3)
                .map(|n| {
                    let stage = &stage;
                    scope.spawn(move || {
                        for i in 0..60 {
                            offer(stage, job().priority((i % 3) as i8 + n));
                            let many = [job(), job(), job()];
                            assert_eq!(stage.d.push_many(&many).unwrap().len(), 3);
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let (load, counts) = (stage.d.0.engine.load(queue).unwrap(), stage.counts());
                    assert!(load.jobs <= BOUND, "{policy:?}: {} wait", load.jobs);
                    assert!(counts.waiting() <= BOUND as u64, "{policy:?}: {counts:?}");
                    assert!(counts.balanced(), "{policy:?}: {counts:?}");
                }
            });
            let ended: Vec<_> = pushers.into_iter().map(|p| p.join()).collect();
            done.store(true, Ordering::SeqCst);
            ended.into_iter().for_each(|e| e.unwrap());
        });
        let counts = stage.counts();
        assert_eq!(
            (counts.queued, counts.totals.pushed),
            (BOUND as u64, 720),
            "{policy:?}"
        );
        assert_eq!(counts.totals.shed(), 700, "{policy:?}");
        assert_eq!(run_all(&stage).len(), BOUND);
    }
}

/// What is evicted is never also run, and every job is told of once: by its handler, or by an event.
pub fn what_is_evicted_is_never_run(make: Make<'_>) {
    const EACH: usize = 300;
    let (stage, done) = (bounded(make, 8, OnFull::DropOldest), AtomicBool::new(false));
    let events = stage.d.subscribe(1 << 14);
    let (ran, pushed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..2)
            .map(|n| {
                let (stage, pushed) = (&stage, &pushed);
                scope.spawn(move || {
                    for i in 0..EACH {
                        let id = offer(stage, job()).id;
                        pushed.lock().push(id);
                        if i % 9 == n {
                            stage.d.cancel(id).unwrap();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                let mut consumer = stage.consumer();
                while !done.load(Ordering::SeqCst) {
                    let Some(lease) = consumer.next(at_once()).unwrap() else {
                        std::thread::yield_now();
                        continue;
                    };
                    ran.lock().push(lease.id());
                    lease.complete(Outcome::done()).unwrap();
                }
            });
        }
        let ended: Vec<_> = pushers.into_iter().map(|p| p.join()).collect();
        done.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|e| e.unwrap());
    });
    run_all(&stage).into_iter().for_each(|id| ran.lock().push(id));
    let shed: Vec<JobId> = told(events.drain()).into_iter().map(|(id, _)| id).collect();
    check_fates(&stage, &pushed.into_inner(), &ran.into_inner(), &shed);
    assert_eq!(events.dropped(), 0);
}

/// Every job that was pushed ran or was shed or was cancelled, and only one of these.
pub(super) fn check_fates(stage: &Stage, pushed: &[JobId], ran: &[JobId], shed: &[JobId]) {
    let once = |ids: &[JobId]| {
        let set = BTreeSet::from_iter(ids.iter().copied());
        assert_eq!(set.len(), ids.len(), "nothing is told twice");
        set
    };
    let (pushed, ran, shed) = (once(pushed), once(ran), once(shed));
    assert_eq!(ran.intersection(&shed).count(), 0, "what is shed has not run");
    let totals = stage.counts().totals;
    assert_eq!(
        (totals.pushed, totals.shed()),
        (pushed.len() as u64, shed.len() as u64)
    );
    for id in &pushed {
        let (state, known) = (stage.state(*id), (ran.contains(id), shed.contains(id)));
        match known {
            (true, _) => assert!(matches!(
                state,
                State::Succeeded | State::Failed | State::Cancelled
            )),
            (_, true) => assert_eq!(state, State::Shed),
            _ => assert!(
                matches!(state, State::Cancelled | State::Expired),
                "{id} is {state}"
            ),
        }
    }
    let left = stage.counts();
    assert_eq!((left.waiting(), left.running), (0, 0));
    stage.check_balance();
}

// ---- what an engine cannot do ----------------------------------------------------------------------------

/// An option that the engine cannot keep is refused, at the opening and for one queue; the others are taken.
pub fn options_that_cannot_be_kept_are_refused(make: Make<'_>) {
    let can = make().capabilities();
    let spills = can.durability >= crate::Durability::Disk && !can.shared;
    for (options, kept) in [
        ("on_full=drop_oldest", can.evicts),
        ("on_full=drop_lowest", can.evicts),
        ("on_full=sample(0.5)", can.evicts),
        ("on_full=coalesce", can.evicts && can.keys),
        ("on_full=spill", spills),
        ("capacity_bytes=1000", can.weighs),
        ("key_concurrency=1", can.keys),
        ("key_rate=1/s", can.keys),
        ("delay_target=50ms newest_first=true", can.evicts),
        ("delay_target=50ms", true),
        ("on_full=drop_newest", true),
        ("on_full=reject", true),
        ("on_full=block(1s)", true),
        ("rate=100/s", true),
        (
            "capacity_bytes=0 key_concurrency=0 key_rate=none newest_first=false",
            true,
        ),
    ] {
        let (stage, mut own, mut all) = (Stage::new(make), QueueOptions::new(), Options::default());
        let mut of_all = true;
        for option in options.split(' ') {
            let (name, value) = option.split_once('=').unwrap();
            own.set(name, value).unwrap();
            of_all &= all.set(name, value).is_ok();
        }
        let refused = stage
            .d
            .configure_queue("q", own)
            .map(|_| ())
            .map_err(|e| e.kind());
        let want = if kept { Ok(()) } else { Err(ErrorKind::Unsupported) };
        assert_eq!(refused, want, "{options} of a queue");
        if of_all {
            let opened = crate::Dispatcher::with_clock(make(), all, stage.clock.clone());
            assert_eq!(opened.map(|_| ()).map_err(|e| e.kind()), want, "{options} of all");
        }
    }
}
