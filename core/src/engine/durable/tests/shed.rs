//! What is shed, what is weighed and what waits in the file only, across a crash.

use super::*;
use crate::OnFull;
use crate::engine::{Inserted, Load, Victim};
use crate::names::QueueId;
use crate::outcome::ShedReason;
use crate::payload::Payload;

fn with(path: &Path, options: Options) -> (Arc<DurableEngine>, Dispatcher) {
    let engine = Arc::new(DurableEngine::open(path, NEVER).unwrap());
    let d = Dispatcher::with_engine(engine.clone(), options).unwrap();
    (engine, d)
}

fn states(d: &Dispatcher, ids: &[JobId]) -> Vec<State> {
    ids.iter().map(|id| d.get(*id).unwrap().state).collect()
}

/// The jobs of a queue that wait in memory, and their bytes.
fn resident(engine: &DurableEngine, queue: QueueId, each: usize) -> Load {
    let load = engine.load(queue).unwrap();
    let spilled = engine.memory.spilled();
    Load {
        jobs: load.jobs.saturating_sub(spilled),
        bytes: load.bytes.saturating_sub(spilled * each),
    }
}

#[test]
fn what_was_shed_stays_shed() {
    let rig = Rig::new();
    let options = Options {
        capacity: 2,
        on_full: OnFull::DropOldest,
        ..Options::default()
    };
    let (engine, d) = with(&rig.path(), options);
    let ids: Vec<_> = (0..3).map(|_| push(&d)).collect();
    engine.flush(Durability::Disk).unwrap();
    let again = rig.crashed().open();
    assert_eq!(states(&again, &ids), [State::Shed, State::Queued, State::Queued]);
    let job = again.get(ids[0]).unwrap();
    assert_eq!(job.error.unwrap().kind, FailureKind::Shed(ShedReason::Oldest));
    assert!(job.payload.is_empty() && job.history.is_empty() && job.finished.is_some());
    assert!(again.stats().unwrap().total().balanced());
    let ran: Vec<_> = std::iter::from_fn(|| claim(&again))
        .map(|lease| lease.id())
        .collect();
    assert_eq!(ran, ids[1..]);
}

#[test]
fn what_was_shed_and_is_not_written_waits_again() {
    let rig = Rig::new();
    let (engine, d) = with(&rig.path(), Options::default());
    let ids = [push(&d), push(&d)];
    let queue = d.queue("default").unwrap();
    let at = engine
        .evict(queue, Victim::Oldest, ShedReason::Oldest, d.now())
        .unwrap();
    assert_eq!(at.map(|at| at.job.id), Some(ids[0]));
    let again = rig.crashed().open();
    assert_eq!(states(&again, &ids), [State::Queued, State::Queued]);
    let lease = claim(&again).expect("it runs");
    assert_eq!(lease.id(), ids[0]);
}

/// What the engine takes of a job that is shed as it comes.
fn born_shed(id: JobId, payload: &Payload, durability: Durability) -> Insert<'_> {
    Insert {
        fresh: true,
        shed: Some(ShedReason::Newest),
        durability,
        ..Insert::plain(id, payload)
    }
}

#[test]
fn a_job_that_is_shed_as_it_comes_is_as_safe_as_it_is_to_be() {
    let rig = Rig::new();
    let engine = DurableEngine::open(&rig.path(), NEVER).unwrap();
    engine.names().queue("q").unwrap();
    engine.names().kind("k").unwrap();
    let (payload, mut receipt) = (Payload::from(b"payload"), Vec::new());
    let ids = [JobId::from_u128(1), JobId::from_u128(2)];
    for (id, level) in ids.into_iter().zip([Durability::Disk, Durability::Memory]) {
        let job = born_shed(id, &payload, level);
        engine.insert(&[job], Timestamp::EPOCH, &mut receipt).unwrap();
    }
    assert_eq!(receipt, [Inserted::New, Inserted::New]);
    let counts = engine.counts().unwrap().remove(0);
    assert_eq!((counts.totals.pushed, counts.totals.shed_newest), (2, 2));
    let copy = rig.crashed();
    let again = DurableEngine::open(&copy.path(), NEVER).unwrap();
    let job = again.get(ids[0]).unwrap().expect("it was answered at disk");
    assert_eq!((job.state, job.payload.len()), (State::Shed, Some(0)));
    assert!(again.get(ids[1]).unwrap().is_none());
    engine.close().unwrap();
    let reopened = DurableEngine::open(&rig.path(), NEVER).unwrap();
    let kept = reopened.get(ids[1]).unwrap();
    assert!(kept.is_none(), "nobody was told that it would be there");
}

#[test]
fn bytes_are_counted_again_after_a_crash() {
    let rig = Rig::new();
    let options = Options {
        capacity_bytes: 20,
        ..Options::default()
    };
    let (_engine, d) = with(&rig.path(), options.clone());
    let _two = [push(&d), push(&d)];
    let copy = rig.crashed();
    let (engine, again) = with(&copy.path(), options);
    let refused = again.push(job()).unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::Full,
        "14 bytes wait, and 7 are too many"
    );
    again.push(NewJob::new("k", b"six by")).unwrap();
    let queue = again.queue("default").unwrap();
    assert_eq!(engine.load(queue).unwrap(), Load { jobs: 3, bytes: 20 });
    while let Some(lease) = claim(&again) {
        lease.complete(Outcome::done()).unwrap();
    }
    assert_eq!(engine.load(queue).unwrap(), Load::default());
}

/// Pushes so many more than may wait in memory that most are in the file only, and ends them all.
fn spills(options: &Options, bound: Load) {
    const EACH: usize = 7;
    let rig = Rig::new();
    let (engine, d) = with(&rig.path(), options.clone());
    let queue = d.queue("default").unwrap();
    let jobs: Vec<_> = (0..MANY).map(|_| job()).collect();
    let ids: Vec<_> = d.push_many(&jobs).unwrap().iter().map(|p| p.id).collect();
    let check = |engine: &DurableEngine| {
        let here = resident(engine, queue, EACH);
        // A group that was collected at once may go beyond it by what its look did not see.
        assert!(
            here.jobs <= 2 * bound.jobs && here.bytes <= 2 * bound.bytes,
            "{here:?}"
        );
    };
    check(&engine);
    let weighed = options.capacity_bytes > 0;
    let load = engine.load(queue).unwrap();
    assert_eq!(
        (load.jobs, load.bytes),
        (MANY, if weighed { MANY * EACH } else { 0 })
    );
    let copy = rig.crashed();
    drop((engine, d));
    let (engine, d) = with(&copy.path(), options.clone());
    assert!(engine.memory.spilled() > MANY / 2);
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    for id in &ids {
        let lease = consumer.next(Deadline::after(Duration::from_secs(60))).unwrap();
        let lease = lease.expect("a job that is queued can be claimed in the end");
        assert_eq!(lease.id(), *id);
        lease.complete(Outcome::done()).unwrap();
        check(&engine);
    }
    assert_eq!(engine.load(queue).unwrap(), Load::default());
    assert_eq!(engine.memory.spilled(), 0);
    assert!(d.stats().unwrap().total().balanced());
}

#[test]
fn what_is_over_a_queues_own_capacity_waits_in_the_file() {
    let options = Options {
        capacity: 100,
        on_full: OnFull::Spill,
        ..Options::default()
    };
    spills(&options, Load { jobs: 100, bytes: 0 });
}

#[test]
fn what_is_over_a_queues_own_bytes_waits_in_the_file() {
    let options = Options {
        capacity_bytes: 2_000,
        on_full: OnFull::Spill,
        ..Options::default()
    };
    spills(
        &options,
        Load {
            jobs: 300,
            bytes: 2_000,
        },
    );
}

#[test]
fn the_oldest_in_memory_goes_where_most_are_in_the_file() {
    let rig = Rig::new();
    let options = Options {
        capacity: 100,
        on_full: OnFull::Spill,
        ..Options::default()
    };
    let (engine, d) = with(&rig.path(), options);
    let queue = d.queue("default").unwrap();
    // Those that come one by one stay in memory as long as there is room.
    let mut ids: Vec<_> = (0..10).map(|_| push(&d)).collect();
    let jobs: Vec<_> = (10..1000).map(|_| job()).collect();
    ids.extend(d.push_many(&jobs).unwrap().iter().map(|p| p.id));
    let evict = || engine.evict(queue, Victim::Oldest, ShedReason::Oldest, d.now());
    assert_eq!(evict().unwrap().map(|at| at.job.id), Some(ids[0]));
    let load = engine.load(queue).unwrap();
    assert_eq!(load.jobs, 999);
    assert_eq!(claim(&d).unwrap().id(), ids[1]);
}
