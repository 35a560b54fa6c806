//! What is there after a clean end, after a crash, and on a store that fails.
//!
//! A crash is made without a second process: the files are copied while the engine has them open, and the copy
//! is opened. That is what a killed process leaves behind, page for page.

mod flows;
mod shed;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::testing::Folder;
use super::{DurableEngine, Settings};
use crate::durability::Durability;
use crate::engine::{Engine, Insert, Restored};
use crate::error::ErrorKind;
use crate::job::{Filter, NewJob, State};
use crate::outcome::{FailureKind, Outcome};
use crate::time::Deadline;
use crate::{Dispatcher, JobId, KindSet, Lease, Options, Timestamp};

const NEVER: Settings = Settings {
    keep_finished: 100,
    // What nobody waits for is not written by itself.
    write_behind: Duration::from_secs(3600),
    resident: 0,
};

struct Rig {
    folder: Folder,
}

impl Rig {
    fn new() -> Self {
        Self {
            folder: Folder::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path("jobs.db")
    }

    fn open(&self) -> Dispatcher {
        open(&self.path())
    }

    /// What a process that was killed now would leave.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        for what in ["", "-wal", ".flight"] {
            let name = format!("jobs.db{what}");
            if self.folder.path(&name).exists() {
                std::fs::copy(self.folder.path(&name), copy.folder.path(&name)).unwrap();
            }
        }
        copy
    }
}

fn open(path: &Path) -> Dispatcher {
    let engine = Arc::new(DurableEngine::open(path, NEVER).unwrap());
    Dispatcher::with_engine(engine, Options::default()).unwrap()
}

fn job() -> NewJob<'static> {
    NewJob::new("k", b"payload")
}

fn push(d: &Dispatcher) -> JobId {
    d.push(job()).unwrap().id
}

fn claim(d: &Dispatcher) -> Option<Lease> {
    d.consumer(Arc::new(KindSet::any()))
        .next(Deadline::after(Duration::ZERO))
        .unwrap()
}

fn stop(d: &Dispatcher) {
    d.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn everything_is_there_after_a_clean_end() {
    let rig = Rig::new();
    let d = rig.open();
    let full = d
        .push(
            job()
                .key("key")
                .header("h", "v")
                .priority(7)
                .max_attempts(9)
                .waits_for("token"),
        )
        .unwrap()
        .id;
    let plain = push(&d);
    let done = push(&d);
    claim(&d)
        .unwrap()
        .complete(Outcome::Success(b"result".into()))
        .unwrap();
    d.pause("closed").unwrap();
    let before: Vec<_> = d.list(&Filter::default()).unwrap().jobs;
    stop(&d);
    drop(d);
    let d = rig.open();
    let after: Vec<_> = d.list(&Filter::default()).unwrap().jobs;
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!(
        d.get(plain).unwrap().state,
        State::Succeeded,
        "the first of the two ran"
    );
    assert_eq!(d.get(done).unwrap().state, State::Queued);
    assert!(d.stats().unwrap().queue("closed").unwrap().paused);
    assert!(
        !d.push(job().key("key").max_attempts(9).header("h", "v"))
            .unwrap()
            .created
    );
    d.signal(full, "token").unwrap();
    assert_eq!(claim(&d).unwrap().id(), full, "the higher priority first");
    assert!(d.stats().unwrap().queues.iter().all(|q| q.counts.balanced()));
    stop(&d);
}

#[test]
fn an_answered_push_survives_a_crash_and_keeps_its_order() {
    let rig = Rig::new();
    let d = rig.open();
    let ids: Vec<JobId> = (0..50).map(|_| push(&d)).collect();
    let late = d.push(job().durability(Durability::Memory)).unwrap();
    assert_eq!(late.durability, Durability::Memory);
    let copy = rig.crashed();
    let again = copy.open();
    let claimed: Vec<JobId> = std::iter::from_fn(|| claim(&again).map(|lease| lease.id())).collect();
    assert_eq!(claimed, ids);
    assert!(again.get(late.id).is_err(), "nothing said that it was written");
    d.flush().unwrap();
    assert_eq!(rig.crashed().open().get(late.id).unwrap().state, State::Queued);
}

/// That a job's time has come is not written: the file has it as scheduled.
#[test]
fn what_has_become_due_stands_before_what_was_pushed_later() {
    let rig = Rig::new();
    let url = format!("sqlite:{}?clock=manual", rig.path().display());
    let open = || Dispatcher::open(&url, Options::default()).unwrap();
    let d = open();
    let pushed = |job: NewJob<'_>| d.push(job).unwrap().id;
    let due = pushed(job().delay(Duration::from_secs(10)));
    let keyed = pushed(job().delay(Duration::from_secs(10)).concurrency_key("key"));
    let later = pushed(job().delay(Duration::from_secs(30)));
    d.advance(Duration::from_secs(20)).unwrap();
    let after = [pushed(job()), pushed(job().concurrency_key("key"))];
    stop(&d);
    let d = open();
    assert_eq!(d.state(due).unwrap(), State::Queued);
    assert_eq!(d.state(later).unwrap(), State::Scheduled);
    let counts = d.stats().unwrap().total();
    assert_eq!((counts.queued, counts.scheduled), (4, 1));
    let ran = run_all(&d);
    let place = |id: &JobId| ran.iter().position(|it| it == id).unwrap();
    assert!(
        place(&due) < place(&after[0]) && place(&keyed) < place(&after[1]),
        "{ran:?}"
    );
    stop(&d);
}

#[test]
fn what_a_stop_hands_back_is_first_when_the_file_is_opened_again() {
    let rig = Rig::new();
    let d = rig.open();
    // With it the rows are not in the order of their times.
    d.push(job().delay(Duration::from_secs(3600))).unwrap();
    let mut ids: Vec<_> = (0..3).map(|_| push(&d)).collect();
    let running = [claim(&d).unwrap(), claim(&d).unwrap()];
    assert_eq!(running.each_ref().map(Lease::id), [ids[0], ids[1]]);
    ids.push(push(&d));
    d.stop(Duration::ZERO).unwrap();
    drop(running);
    let d = rig.open();
    assert_eq!(run_all(&d), ids);
    stop(&d);
}

#[test]
fn a_crash_counts_for_what_ran_and_only_once() {
    let rig = Rig::new();
    let d = rig.open();
    let (ran, waited) = (push(&d), push(&d));
    let lease = claim(&d).unwrap();
    let fence = lease.fence();
    let mut copy = rig.crashed();
    for _ in 0..3 {
        // Opened, and died before anything was decided: the marks are there, the table counts no more.
        let engine = DurableEngine::open(&copy.path(), NEVER).unwrap();
        let job = engine.get(ran).unwrap().unwrap();
        assert_eq!((job.state, job.crashes, job.attempt), (State::Running, 1, 1));
        assert_eq!(engine.get(waited).unwrap().unwrap().crashes, 0);
        copy = copy.crashed();
    }
    let d = copy.open();
    d.upkeep().unwrap();
    let job = d.get(ran).unwrap();
    assert_eq!((job.state, job.crashes, job.attempt), (State::Queued, 1, 1));
    assert_eq!(
        job.history[0].failure.as_ref().unwrap().kind,
        FailureKind::Crashed
    );
    assert_eq!(
        claim(&d).unwrap().id(),
        waited,
        "it lost its place to those who waited"
    );
    let again = claim(&d).unwrap();
    assert_eq!((again.id(), again.attempt()), (ran, 2));
    assert!(again.fence() > fence);
    drop(lease);
}

#[test]
fn a_timeout_of_its_own_outlives_a_crash() {
    let (mut rig, hour) = (Rig::new(), Duration::from_secs(3600));
    let id = rig.open().push(job().timeout(hour).max_attempts(9)).unwrap().id;
    for _ in 0..2 {
        let d = rig.open();
        d.upkeep().unwrap();
        let lease = claim(&d).unwrap();
        assert_eq!(lease.due(), Some(d.get(id).unwrap().started.unwrap().after(hour)));
        d.flush().unwrap();
        rig = rig.crashed();
    }
    let d = rig.open();
    d.upkeep().unwrap();
    assert_eq!(d.get(id).unwrap().timeout, Some(hour));
}

#[test]
fn a_job_that_kills_its_process_fails_in_the_end() {
    let mut rig = Rig::new();
    let id = {
        let d = rig.open();
        let id = d.push(job().max_attempts(10)).unwrap().id;
        let _lease = claim(&d).unwrap();
        rig = rig.crashed();
        id
    };
    for crashes in 1..=3 {
        let d = rig.open();
        d.upkeep().unwrap();
        let job = d.get(id).unwrap();
        assert_eq!(job.crashes, crashes);
        if crashes == 3 {
            assert_eq!(job.state, State::Failed);
            assert_eq!(job.error.unwrap().kind, FailureKind::Crashed);
            assert!(claim(&d).is_none());
            return;
        }
        let _lease = claim(&d).unwrap();
        d.flush().unwrap();
        rig = rig.crashed();
    }
}

#[test]
fn what_may_run_once_does_not_run_again_after_a_crash() {
    let rig = Rig::new();
    let d = rig.open();
    let id = d.push(job().max_attempts(1)).unwrap().id;
    let _lease = claim(&d).unwrap();
    let d = rig.crashed().open();
    d.upkeep().unwrap();
    assert_eq!(d.get(id).unwrap().state, State::Failed);
    assert!(claim(&d).is_none());
}

#[test]
fn fences_grow_over_lost_writes() {
    let rig = Rig::new();
    let d = rig.open();
    let id = push(&d);
    let mut last = 0;
    for _ in 0..5 {
        let lease = claim(&d).unwrap();
        last = lease.fence();
        lease.complete(Outcome::snooze(Duration::ZERO)).unwrap();
    }
    // The snoozes were never written.
    let d = rig.crashed().open();
    let lease = claim(&d).unwrap();
    assert!(lease.id() == id && lease.fence() > last);
}

#[test]
fn a_job_that_ends_before_its_group_never_reaches_the_disk() {
    let rig = Rig::new();
    let engine = DurableEngine::open(
        &rig.path(),
        Settings {
            keep_finished: 0,
            ..NEVER
        },
    )
    .unwrap();
    let d = Dispatcher::with_engine(Arc::new(engine), Options::default()).unwrap();
    for _ in 0..100 {
        d.push(job().durability(Durability::Memory)).unwrap();
        claim(&d).unwrap().complete(Outcome::done()).unwrap();
    }
    d.flush().unwrap();
    let db = rusqlite::Connection::open(rig.path()).unwrap();
    let highest: Option<i64> = db
        .query_row("SELECT max(row) FROM jobs", [], |r| r.get(0))
        .unwrap();
    assert_eq!(highest, None);
    let last = push(&d);
    let row: i64 = db
        .query_row("SELECT max(row) FROM jobs", [], |r| r.get(0))
        .unwrap();
    assert_eq!(row, 1, "{last}: no row was given before");
}

#[test]
fn what_ended_before_is_forgotten_in_its_time() {
    let rig = Rig::new();
    let d = rig.open();
    let id = push(&d);
    claim(&d).unwrap().complete(Outcome::done()).unwrap();
    stop(&d);
    drop(d);
    let clock = Arc::new(crate::ManualClock::at(crate::Clock::now(&crate::SystemClock)));
    let engine = Arc::new(DurableEngine::open(&rig.path(), NEVER).unwrap());
    let d = Dispatcher::with_clock(engine, Options::default(), clock.clone()).unwrap();
    assert_eq!(d.get(id).unwrap().state, State::Succeeded);
    clock.advance(Options::default().retention * 2);
    d.upkeep().unwrap();
    assert_eq!(d.get(id).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_restored_job_is_in_the_file_when_the_restore_is_answered() {
    let rig = Rig::new();
    let from = Dispatcher::in_memory().unwrap();
    let id = push(&from);
    let dump = rig.folder.path("dump");
    from.dump(&dump).unwrap();
    let d = rig.open();
    assert_eq!(d.restore(&dump).unwrap().jobs, 1);
    let after = rig.crashed();
    assert_eq!(after.open().state(id).unwrap(), State::Queued);
}

#[test]
fn of_a_pause_and_a_resume_at_once_the_same_is_last_everywhere() {
    let rig = Rig::new();
    let d = rig.open();
    for _ in 0..50 {
        std::thread::scope(|scope| {
            for paused in [true, false] {
                let d = &d;
                scope.spawn(move || {
                    (0..20).for_each(|_| if paused { d.pause("q") } else { d.resume("q") }.unwrap());
                });
            }
        });
        let in_memory = d.stats().unwrap().queue("q").unwrap().paused;
        let again = rig.crashed().open().stats().unwrap();
        let in_file = again.queue("q").is_some_and(|counts| counts.paused);
        assert_eq!(in_file, in_memory);
    }
}

#[test]
fn one_file_has_one_owner() {
    let rig = Rig::new();
    let d = rig.open();
    let error = DurableEngine::open(&rig.path(), NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
    stop(&d);
    drop(d);
    rig.open();
}

#[test]
fn strange_files_are_left_alone() {
    let rig = Rig::new();
    let text = b"this is not a database, and long enough to be looked at as one ".repeat(40);
    std::fs::write(rig.path(), &text).unwrap();
    let error = DurableEngine::open(&rig.path(), NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("jobs.db"));
    assert_eq!(std::fs::read(rig.path()).unwrap(), text);
    let error = DurableEngine::open(&rig.folder.path("no/such/jobs.db"), NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    let error = DurableEngine::open(&rig.folder.path(""), NEVER).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Storage),
        "{error:?}"
    );
}

/// Few wait in memory; the lanes are filled up by the thousand, so some thousands must wait.
const SPILLING: Settings = Settings {
    resident: 10,
    ..NEVER
};
const MANY: usize = 5000;

fn spilling(path: &Path) -> (Arc<DurableEngine>, Dispatcher) {
    let engine = Arc::new(DurableEngine::open(path, SPILLING).unwrap());
    let d = Dispatcher::with_engine(engine.clone(), Options::default()).unwrap();
    (engine, d)
}

fn push_priorities(d: &Dispatcher, count: usize) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|n| job().priority((n % 2) as i8)).collect();
    let mut ids: Vec<_> = d.push_many(&jobs).unwrap().iter().map(|p| p.id).collect();
    let odd = ids.iter().copied().skip(1).step_by(2);
    ids = odd.chain(ids.iter().copied().step_by(2)).collect();
    ids
}

/// Claims and ends everything; waits while the writer brings more.
fn run_all(d: &Dispatcher) -> Vec<JobId> {
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let mut ran = Vec::new();
    while d.stats().unwrap().total().queued > 0 {
        let lease = consumer.next(Deadline::after(Duration::from_secs(60))).unwrap();
        let lease = lease.expect("a job that is queued can be claimed in the end");
        ran.push(lease.id());
        lease.complete(Outcome::done()).unwrap();
    }
    ran
}

#[test]
fn spilled_jobs_keep_their_order_and_their_counts() {
    let rig = Rig::new();
    let (engine, d) = spilling(&rig.path());
    let ids = push_priorities(&d, MANY);
    assert!(engine.memory.spilled() > MANY / 2, "{}", engine.memory.spilled());
    assert_eq!(d.stats().unwrap().total().queued, MANY as u64);
    assert_eq!(run_all(&d), ids);
    assert_eq!(engine.memory.spilled(), 0);
    let total = d.stats().unwrap().total();
    assert!(total.balanced() && total.totals.succeeded == MANY as u64);
}

#[test]
fn spilled_jobs_survive_a_crash_in_their_order() {
    let rig = Rig::new();
    let (_engine, d) = spilling(&rig.path());
    let ids = push_priorities(&d, MANY);
    let copy = rig.crashed();
    let (engine, again) = spilling(&copy.path());
    assert!(engine.memory.spilled() > MANY / 2);
    assert_eq!(again.stats().unwrap().total().queued, MANY as u64);
    assert_eq!(run_all(&again), ids);
    stop(&again);
    drop((again, engine));
    let (_engine, d) = spilling(&copy.path());
    assert_eq!(d.stats().unwrap().total().queued, 0, "what ended is not back");
}

#[test]
fn a_spilled_job_can_be_looked_at_cancelled_and_pushed_again() {
    let rig = Rig::new();
    let (engine, d) = spilling(&rig.path());
    let ids = push_priorities(&d, MANY);
    let (some, other) = (ids[MANY - 1], ids[MANY - 2]);
    assert!(!engine.memory.knows(some));
    assert_eq!(d.get(some).unwrap().state, State::Queued);
    assert!(!engine.memory.knows(some), "a look moves nothing");
    assert!(!d.push(job().id(other)).unwrap().created);
    assert_eq!(d.cancel(some).unwrap(), State::Cancelled);
    assert_eq!(d.cancel(some).unwrap(), State::Cancelled);
    let page = d.list(&Filter::default()).unwrap();
    assert_eq!(page.total, MANY);
    let mut newest = ids.clone();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let listed: Vec<_> = page.jobs.iter().map(|j| j.id).collect();
    assert_eq!(listed, newest[..Filter::DEFAULT_LIMIT]);
    let mut exported = Vec::new();
    engine
        .export(&mut |job| {
            exported.push(job.id);
            Ok(())
        })
        .unwrap();
    assert_eq!(exported.len(), MANY - 1);
    assert_eq!(exported[..100], ids[..100]);
    let ran = run_all(&d);
    assert!(!ran.contains(&some) && ran.contains(&other) && ran.len() == MANY - 1);
    assert!(d.stats().unwrap().total().balanced());
}

#[test]
fn a_purge_reaches_spilled_jobs() {
    let rig = Rig::new();
    let (engine, d) = spilling(&rig.path());
    push_priorities(&d, MANY);
    assert_eq!(d.purge("default").unwrap(), MANY);
    assert!(engine.memory.spilled() == 0 && claim(&d).is_none());
    assert!(d.stats().unwrap().total().balanced());
}

#[test]
fn a_follow_up_does_not_run_before_it_is_written() {
    let rig = Rig::new();
    let engine = Arc::new(DurableEngine::open(&rig.path(), NEVER).unwrap());
    let options = Options {
        sync_done: true,
        ..Options::default()
    };
    let d = Dispatcher::with_engine(engine.clone(), options).unwrap();
    let parent = push(&d);
    let lease = claim(&d).unwrap();
    // Nothing is written as long as somebody else holds the pen.
    let pen = engine.writer.pause();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| lease.complete_and_push(Outcome::done(), &[job()]));
        let deadline = Deadline::after(Duration::from_secs(60));
        while d.state(parent).unwrap() != State::Succeeded {
            assert!(!deadline.passed());
            std::thread::yield_now();
        }
        assert!(
            claim(&d).is_none(),
            "a crash now would run the parent again, and the child twice"
        );
        drop(pen);
        answer.join().unwrap().unwrap();
    });
    assert!(claim(&d).is_some());
}

/// Whatever the former runs gave out of a job that came from elsewhere.
#[test]
fn a_job_from_a_dump_gets_no_fence_twice() {
    let rig = Rig::new();
    let engine = DurableEngine::open(&rig.path(), NEVER).unwrap();
    let (queue, kind) = (
        engine.names().queue("default").unwrap(),
        engine.names().kind("k").unwrap(),
    );
    let restored = Restored {
        fence: 5 << 20,
        ..Restored::default()
    };
    let payload = crate::Payload::empty();
    let insert = Insert {
        queue,
        kind,
        durability: Durability::Disk,
        restored: Some(&restored),
        ..Insert::plain(JobId::from_u128(1), &payload)
    };
    engine
        .insert(&[insert], Timestamp::EPOCH, &mut Vec::new())
        .unwrap();
    let d = Dispatcher::with_engine(Arc::new(engine), Options::default()).unwrap();
    let (mut last, mut rig) = (fence(&d), rig.crashed());
    drop(d);
    for _ in 0..3 {
        // As after a power cut: nobody knows what ran.
        std::fs::remove_file(rig.folder.path("jobs.db.flight")).unwrap();
        let d = rig.open();
        let fence = fence(&d);
        assert!(fence > last, "{fence} after {last}");
        (last, rig) = (fence, rig.crashed());
    }
}

/// The fence of a claim that is never answered.
fn fence(d: &Dispatcher) -> u64 {
    let lease = claim(d).unwrap();
    let fence = lease.fence();
    std::mem::forget(lease);
    fence
}

#[test]
fn a_batch_knows_spilled_jobs_by_their_ids() {
    let rig = Rig::new();
    let (engine, d) = spilling(&rig.path());
    let ids = push_priorities(&d, MANY);
    let known = ids[MANY - 1];
    assert!(!engine.memory.knows(known));
    let next = d
        .consumer(Arc::new(KindSet::any()))
        .next(Deadline::after(Duration::from_secs(60)));
    let lease = next.unwrap().unwrap();
    lease
        .complete_and_push(Outcome::done(), &[job().id(known)])
        .unwrap();
    assert_eq!(d.stats().unwrap().total().queued, MANY as u64 - 1);
    assert_eq!(run_all(&d).len(), MANY - 1);
    assert!(d.stats().unwrap().total().balanced());
}

#[test]
fn jobs_of_one_push_keep_their_order_whatever_their_ids() {
    let rig = Rig::new();
    let d = rig.open();
    for durability in [Durability::Memory, Durability::Disk] {
        let base = durability as u128 * 100;
        let ids: Vec<_> = [9, 2, 7, 1].map(|n| JobId::from_u128(base + n)).into();
        let jobs: Vec<_> = ids
            .iter()
            .map(|id| job().id(*id).durability(durability))
            .collect();
        d.push_many(&jobs).unwrap();
        d.flush().unwrap();
        let again = rig.crashed().open();
        let ran: Vec<_> = ids.iter().map(|_| claim(&d).unwrap().id()).collect();
        assert_eq!(ran, ids, "{durability:?}");
        let ran: Vec<_> = ids.iter().map(|_| claim(&again).unwrap().id()).collect();
        assert_eq!(ran, ids, "{durability:?}, after a crash");
    }
}

#[test]
fn a_refused_job_comes_back_as_it_was() {
    struct Object;
    impl crate::HostObject for Object {
        fn encode(&self) -> crate::Result<crate::Encoded> {
            crate::Payload::from("bytes").encode()
        }
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }
    let rig = Rig::new();
    let engine = Arc::new(DurableEngine::open(&rig.path(), NEVER).unwrap());
    let options = Options {
        capacity: 1,
        ..Options::default()
    };
    let d = Dispatcher::with_engine(engine, options).unwrap();
    let push = |n: u128, durability| {
        let object = crate::Payload::host(Object);
        d.try_push(
            NewJob::new("k", object)
                .id(JobId::from_u128(n))
                .durability(durability),
        )
    };
    push(1, Durability::Disk).unwrap();
    for durability in [Durability::Memory, Durability::Disk] {
        let error = push(2, durability).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(
            error.into_job().payload.as_host::<Object>().is_some(),
            "{durability:?}"
        );
    }
}

#[test]
fn the_longest_payload_fits_in_a_row() {
    let db = rusqlite::Connection::open_in_memory().unwrap();
    let with_the_rest = crate::Payload::MAX_LEN as i64 + (32 << 20);
    let held: i64 = db
        .query_row("SELECT length(zeroblob(?))", [with_the_rest], |r| r.get(0))
        .unwrap();
    assert_eq!(held, with_the_rest);
    let rig = Rig::new();
    let engine = Arc::new(DurableEngine::open(&rig.path(), NEVER).unwrap());
    let options = Options {
        max_payload: crate::Payload::MAX_LEN,
        ..Options::default()
    };
    let d = Dispatcher::with_engine(engine, options).unwrap();
    let long = vec![0; crate::Payload::MAX_LEN + 1];
    assert_eq!(
        d.push(NewJob::new("k", long)).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    push(&d);
}
