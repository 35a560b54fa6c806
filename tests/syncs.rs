//! Exact counts of what a durable job costs the disk: at most one sync for its whole life, and its share of those
//! with which the log is moved into the file now and then. Nothing here is timed.
//!
//! The C library's two functions are replaced for this whole program, SQLite's calls included, by ones that count
//! and do the same.

#![cfg(target_os = "linux")]

use std::ffi::{c_int, c_long};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use forebay::{Clock, Deadline, Dispatcher, Durability, JobId, NewJob, Options, SystemClock};
use forebay_tests::scratch::Scratch;

/// Longer than any of this takes on the slowest machine.
const LONG: Duration = Duration::from_secs(120);

/// Syncs of the log, in which a group becomes durable.
static LOG: AtomicU64 = AtomicU64::new(0);
/// Syncs of all other files: the database, when the log is moved into it, and what is made at the start.
static OTHER: AtomicU64 = AtomicU64::new(0);
/// The pushers that a sync waits for.
static CROWD: Mutex<Crowd> = Mutex::new(Crowd {
    there: 0,
    inside: Vec::new(),
});

/// Pushers of which none leaves a push before all wait in one: what a disk does that takes its time.
struct Crowd {
    /// Those that have not pushed all they want to.
    there: usize,
    /// The threads that are in a push.
    inside: Vec<libc::pid_t>,
}

impl Crowd {
    fn change(change: impl FnOnce(&mut Self)) {
        change(&mut CROWD.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Waits until everybody sleeps in a push, but for the one who asks, or is through. Whoever is in one and does not
    /// sleep may have pushed nothing yet.
    fn gather() {
        let (me, deadline) = (this_thread(), Deadline::after(LONG));
        let mut are_there = false;
        while !are_there {
            assert!(!deadline.passed(), "a pusher neither pushes nor ends");
            std::thread::yield_now();
            Self::change(|crowd| {
                let mut inside = crowd.inside.iter();
                are_there = crowd.inside.len() >= crowd.there && inside.all(|it| *it == me || sleeps(*it));
            });
        }
    }
}

fn this_thread() -> libc::pid_t {
    // SAFETY: it takes nothing, and cannot fail.
    unsafe { libc::gettid() }
}

/// Whether a thread of this process waits for something.
fn sleeps(thread: libc::pid_t) -> bool {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    status
        .rsplit_once(") ")
        .is_some_and(|(_, state)| state.starts_with('S'))
}

fn counted(call: c_long, file: c_int) -> c_int {
    let name = std::fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default();
    let is_log = name.to_string_lossy().ends_with("-wal");
    if is_log { &LOG } else { &OTHER }.fetch_add(1, Ordering::SeqCst);
    Crowd::gather();
    // SAFETY: both calls take a file descriptor, and any number is safe to give.
    let status = unsafe { libc::syscall(call, file) };
    c_int::try_from(status).expect("0 or -1")
}

/// In place of the C library's.
// SAFETY: it takes and returns what the C library's function of this name does, and does the same.
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    counted(libc::SYS_fsync, file)
}

/// In place of the C library's.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    counted(libc::SYS_fdatasync, file)
}

/// The counters are the process's, so tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What there was between two looks.
#[derive(Clone, Copy, Debug)]
struct Syncs {
    log: u64,
    other: u64,
    /// The whole seconds between: one in which nothing comes has a sync of its own.
    seconds: u64,
}

impl Syncs {
    fn now() -> Self {
        Self {
            log: LOG.load(Ordering::SeqCst),
            other: OTHER.load(Ordering::SeqCst),
            seconds: 0,
        }
    }

    /// Those of `work`.
    fn of(work: impl FnOnce()) -> Self {
        let (began, before) = (SystemClock.now(), Self::now());
        work();
        let after = Self::now();
        Self {
            log: after.log - before.log,
            other: after.other - before.other,
            seconds: SystemClock.now().since(began).as_secs(),
        }
    }

    /// The log's, without the two that go with every move of it into the file: one before, so that nothing is
    /// moved that could still be lost, and one for its head when it begins anew.
    fn of_groups(self) -> u64 {
        self.log.saturating_sub(2 * self.other)
    }
}

/// What follows the path of a file in its URL, for each of the modes that has one.
const MODES: [&str; 2] = ["", "?shared=true"];

fn open(folder: &Path) -> Dispatcher {
    open_mode(folder, "")
}

fn open_mode(folder: &Path, mode: &str) -> Dispatcher {
    let mut options = Options::default();
    options.concurrency = 2;
    let url = format!("sqlite:{}{mode}", folder.join("jobs.db").display());
    let dispatcher = Dispatcher::open(&url, options).expect("a new file");
    dispatcher.register("noop", |_| ()).expect("a valid name");
    dispatcher.start().expect("a few threads");
    dispatcher
}

/// Pushes from some threads, waits until all jobs have ended and that is on the disk.
fn whole_lives(dispatcher: &Dispatcher, pushers: u64, jobs: u64, level: Durability) {
    let kind = dispatcher.kind("noop").expect("a valid name");
    Crowd::change(|crowd| crowd.there = pushers as usize);
    std::thread::scope(|scope| {
        for _ in 0..pushers {
            scope.spawn(|| {
                let me = this_thread();
                for _ in 0..jobs / pushers {
                    let job = NewJob::new(kind, &[7; 100]).durability(level);
                    Crowd::change(|crowd| crowd.inside.push(me));
                    let pushed = dispatcher.push(job);
                    Crowd::change(|crowd| crowd.inside.retain(|it| *it != me));
                    assert_eq!(pushed.expect("there is room").durability, level);
                }
                Crowd::change(|crowd| crowd.there -= 1);
            });
        }
    });
    dispatcher.drain(Deadline::after(LONG)).expect("no-op jobs end");
    dispatcher.flush().expect("the disk works");
}

/// Runs whole lives over a new file and counts.
fn count(pushers: u64, jobs: u64, level: Durability) -> Syncs {
    let _turn = alone();
    let folder = Scratch::in_memory();
    let dispatcher = open(folder.folder());
    let syncs = Syncs::of(|| whole_lives(&dispatcher, pushers, jobs, level));
    dispatcher.stop(LONG).expect("the disk works");
    println!("{jobs} jobs of {pushers} pushers at {level}: {syncs:?}");
    syncs
}

#[test]
fn a_job_costs_at_most_one_sync_for_its_whole_life() {
    let syncs = count(1, 1000, Durability::Disk);
    // Hardly less either: each push was answered before the next. One more is the flush.
    assert!(
        (990..=1001 + syncs.seconds).contains(&syncs.of_groups()),
        "{syncs:?}"
    );
    // A group of one is at most a handful of pages, and the log is moved a thousand pages at a time.
    assert!(syncs.other <= 8, "{syncs:?}");
}

#[test]
fn callers_at_once_share_their_syncs() {
    let syncs = count(16, 1600, Durability::Disk);
    // All that come while one group is written are the next one.
    assert!(syncs.of_groups() <= 1600 / 4, "{syncs:?}");
}

#[test]
fn a_push_at_os_costs_no_sync() {
    let syncs = count(1, 1000, Durability::Os);
    // The flush at the end, and what goes with moves of the log.
    assert!(syncs.of_groups() <= 2 + syncs.seconds, "{syncs:?}");
}

#[test]
fn a_batch_costs_one_sync() {
    let _turn = alone();
    let folder = Scratch::in_memory();
    let dispatcher = open(folder.folder());
    let kind = dispatcher.kind("other").expect("a valid name");
    let batch: Vec<_> = (0..100).map(|_| NewJob::new(kind, &[7; 100])).collect();
    let syncs = Syncs::of(|| {
        for _ in 0..20 {
            dispatcher.push_many(&batch).expect("there is room");
        }
    });
    assert_eq!(syncs.of_groups(), 20, "{syncs:?}");
    dispatcher.stop(LONG).expect("the disk works");
}

/// Pushes jobs at `os`, and counts the syncs of what `sync` does about each, in every mode that has a file: there is one
/// at least.
fn syncs_each_time(sync: impl Fn(&Dispatcher, JobId)) {
    let _turn = alone();
    for mode in MODES {
        let folder = Scratch::in_memory();
        let dispatcher = open_mode(folder.folder(), mode);
        for round in 0..20 {
            let pushed = dispatcher.push(idle_job(Durability::Os)).expect("there is room");
            let syncs = Syncs::of(|| sync(&dispatcher, pushed.id));
            assert!(syncs.log >= 1, "round {round} of {mode:?}: {syncs:?}");
        }
        dispatcher.stop(LONG).expect("the disk works");
    }
}

/// A job that nobody runs.
fn idle_job(level: Durability) -> NewJob<'static> {
    NewJob::new("other", &[7; 100]).durability(level)
}

/// The second of two flushes writes nothing that the first did not: SQLite syncs no commit that changes no page.
#[test]
fn every_flush_behind_a_push_at_os_syncs() {
    syncs_each_time(|dispatcher, _| {
        dispatcher.flush().expect("the disk works");
    });
}

/// Whoever pushes a job again that is at `os` is told `disk` when it is.
#[test]
fn a_job_that_is_pushed_again_is_as_safe_as_was_asked() {
    syncs_each_time(|dispatcher, id| {
        let again = dispatcher
            .push(idle_job(Durability::Disk).id(id))
            .expect("it is known");
        assert_eq!(again.durability, Durability::Disk);
    });
}
