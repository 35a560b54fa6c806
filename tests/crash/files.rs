//! What may stand in the way of the files: another process, a fork, damage, a full or missing folder.

use std::path::Path;
use std::time::Duration;

use forebay::{Deadline, Dispatcher, Error, ErrorKind, KindSet, NewJob, Options, Outcome};

use crate::disk::{Disk, Fault};
use crate::key::{Dice, say, seed, skip};
use crate::life::{Folder, beside, driver};
use crate::mounts::{make_read_only, mount_small};
use crate::plan::{Finish, Plan};
use crate::report::Report;

/// As long as a flight file.
const FLIGHT: usize = 64 + 65_536 * 32;

const LONG: Duration = Duration::from_secs(30);

fn open(db: &Path) -> Result<Dispatcher, Error> {
    Dispatcher::open(&format!("sqlite:{}", db.display()), Options::default())
}

/// A store with this many jobs in it, closed.
fn filled(db: &Path, jobs: usize) {
    let d = open(db).expect("a new file");
    for n in 0..jobs {
        d.push(NewJob::new("k", format!("job {n}")))
            .expect("there is room");
    }
    d.stop(LONG).expect("nothing runs");
}

fn stop(d: &Dispatcher) {
    d.stop(LONG).expect("it can be closed");
}

/// Runs everything that waits; the payloads, in the order in which they ran.
fn drain(d: &Dispatcher) -> Vec<String> {
    let mut consumer = d.consumer(std::sync::Arc::new(KindSet::any()));
    let mut seen = Vec::new();
    while let Some(lease) = consumer
        .next(Deadline::after(Duration::ZERO))
        .expect("the store works")
    {
        seen.push(String::from_utf8_lossy(lease.payload().as_bytes().expect("bytes")).into_owned());
        lease.complete(Outcome::done()).expect("the store works");
    }
    seen
}

fn names(jobs: usize) -> Vec<String> {
    (0..jobs).map(|n| format!("job {n}")).collect()
}

#[test]
fn a_second_process_is_told_who_has_the_file() {
    let folder = Folder::new("second");
    let db = folder.file("jobs.db");
    let d = open(&db).expect("a new file");
    let here = open(&db).expect_err("the same process");
    assert_eq!(here.kind(), ErrorKind::AlreadyOpen, "{here}");
    let mut plan = Plan::new(format!("sqlite:{}", db.display()), 1, 1);
    plan.finish = Finish::Stops;
    let output = driver(&plan).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let trouble = told
        .lines()
        .filter_map(Report::on)
        .find_map(|report| match report {
            Report::Trouble(text) => Some(text),
            _ => None,
        });
    let trouble = trouble.unwrap_or_else(|| panic!("another process opened it: {told}"));
    assert!(trouble.contains("AlreadyOpen"), "{trouble}");
    assert!(
        trouble.contains(&std::process::id().to_string()),
        "names the owner: {trouble}"
    );
    stop(&d);
    stop(&open(&db).expect("it is free again"));
}

#[test]
fn a_forked_child_is_refused_and_the_parent_goes_on() {
    let folder = Folder::new("fork");
    let db = folder.file("jobs.db");
    let d = open(&db).expect("a new file");
    d.push(NewJob::new("k", "job 0")).expect("there is room");
    // SAFETY: the child calls nothing but what is under test, which must not lock, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let push = d
            .push(NewJob::new("k", "of the child"))
            .map_err(|error| error.kind());
        let flush = d.flush().map_err(|error| error.kind());
        let stop = d.stop(Duration::ZERO).map(drop).map_err(|error| error.kind());
        let refused = matches!(push, Err(ErrorKind::Forked))
            && matches!(flush, Err(ErrorKind::Forked))
            && matches!(stop, Err(ErrorKind::Forked));
        drop(d);
        // SAFETY: ends the process at once, without what the parent's memory would have it do.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    assert!(child > 0, "a process can be forked");
    let mut status = 0;
    // SAFETY: our child, a valid place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "the child said {status:#x}"
    );
    d.push(NewJob::new("k", "job 1")).expect("the parent goes on");
    assert_eq!(
        open(&db).expect_err("and still has the file").kind(),
        ErrorKind::AlreadyOpen
    );
    assert_eq!(drain(&d), names(2));
    stop(&d);
}

// ---- damage ------------------------------------------------------------------------------------------

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let folder = Folder::new("foreign");
    for (name, bytes) in [
        ("text.db", b"a letter, and no database at all\n".repeat(200)),
        ("short.db", b"x".to_vec()),
    ] {
        let db = folder.file(name);
        std::fs::write(&db, &bytes).expect("the folder is ours");
        let error = open(&db).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert!(error.to_string().contains(name), "names the file: {error}");
        assert_eq!(
            std::fs::read(&db).expect("it is still there"),
            bytes,
            "{name} was changed"
        );
    }
}

#[test]
fn another_programs_database_is_left_alone() {
    let folder = Folder::new("others");
    let db = folder.file("mail.db");
    let other = rusqlite::Connection::open(&db).expect("a new file");
    other
        .execute_batch("CREATE TABLE letters (x); INSERT INTO letters VALUES (1)")
        .expect("it is theirs");
    drop(other);
    let before = std::fs::read(&db).expect("it is there");
    let error = open(&db).expect_err("it is not ours");
    assert!(error.to_string().contains("mail.db"), "names the file: {error}");
    assert_eq!(
        std::fs::read(&db).expect("it is still there"),
        before,
        "their file was changed"
    );
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let folder = Folder::new("newer");
    let db = folder.file("jobs.db");
    filled(&db, 1);
    let raw = rusqlite::Connection::open(&db).expect("it is a database");
    raw.execute_batch("PRAGMA user_version = 99")
        .expect("it can be written");
    drop(raw);
    let error = open(&db).expect_err("it is of the future");
    assert_eq!(error.kind(), ErrorKind::FutureFormat, "{error}");
}

/// Every page of a small file overwritten in turn: the store opens with its jobs as they were, or says that
/// it is damaged. It never gives out what nobody pushed.
#[test]
fn a_damaged_page_is_never_a_job() {
    let folder = Folder::new("pages");
    let db = folder.file("jobs.db");
    filled(&db, 200);
    let whole = std::fs::read(&db).expect("it is closed");
    let (mut refused, mut opened) = (0, 0);
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
        let folder = Folder::new("page");
        let db = folder.file("jobs.db");
        std::fs::write(&db, bytes).expect("the folder is ours");
        match open(&db) {
            Ok(d) => {
                opened += 1;
                let seen = drain(&d);
                let ours = names(200);
                assert!(
                    seen.iter().all(|name| ours.contains(name)),
                    "page {page}: {seen:?}"
                );
                assert_eq!(
                    seen.len(),
                    200,
                    "page {page}: jobs are missing, and nobody said so"
                );
                stop(&d);
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::Corrupt, "page {page}: {error}");
            }
        }
    }
    say(&format!(
        "{refused} of {} damaged pages refused, {opened} did no harm",
        refused + opened
    ));
    assert!(refused > 0, "no page was ever missed");
}

/// Garbage in each file beside the database: the jobs are there all the same, or the file is named.
#[test]
fn garbage_beside_the_file_costs_no_job() {
    let mut dice = Dice::new(seed());
    for ending in [".lock", ".flight", ".reserve", ".sock", "-wal", "-shm"] {
        for len in [0, 1, 100, 4096, 40_000, FLIGHT] {
            let folder = Folder::new("beside");
            let db = folder.file("jobs.db");
            filled(&db, 3);
            let garbage: Vec<u8> = (0..len).map(|_| dice.below(256) as u8).collect();
            std::fs::write(beside(&db, ending), &garbage).expect("the folder is ours");
            match open(&db) {
                Ok(d) => {
                    assert_eq!(drain(&d), names(3), "{len} bytes of garbage in {ending}");
                    stop(&d);
                }
                Err(error) => {
                    panic!("{len} bytes of garbage in {ending} keep the jobs from being read: {error:?}")
                }
            }
        }
    }
}

/// What ran in another store says nothing about the jobs of this one.
#[test]
fn the_flight_file_of_another_store_counts_nothing() {
    let folder = Folder::new("strange-flight");
    let (ours, theirs) = (folder.file("ours.db"), folder.file("theirs.db"));
    filled(&ours, 3);
    filled(&theirs, 3);
    // A copy of the other's flight file while all its jobs run.
    let d = open(&theirs).expect("it is closed");
    let mut consumer = d.consumer(std::sync::Arc::new(KindSet::any()));
    let now = Deadline::after(Duration::ZERO);
    let leases: Vec<_> = (0..3)
        .map(|_| consumer.next(now).expect("the store works"))
        .collect();
    assert!(leases.iter().all(Option::is_some), "three jobs wait");
    std::fs::copy(beside(&theirs, ".flight"), beside(&ours, ".flight")).expect("there is one");
    let d = open(&ours).expect("it is closed");
    let mut consumer = d.consumer(std::sync::Arc::new(KindSet::any()));
    for _ in 0..3 {
        let lease = consumer
            .next(now)
            .expect("the store works")
            .expect("three jobs wait");
        assert_eq!(lease.attempt(), 1, "nobody has ever run it");
        let crashes = d.get(lease.id()).expect("it is known").crashes;
        assert_eq!(crashes, 0);
        lease.complete(Outcome::done()).expect("the store works");
    }
    stop(&d);
}

// ---- room --------------------------------------------------------------------------------------------

/// A disk without room refuses pushes and nothing else; when there is room again, all goes on.
fn runs_full(d: &Dispatcher, reserve: bool, make_room: impl FnOnce()) {
    let payload = |n: usize| format!("{n:08} {}", "x".repeat(3000));
    let mut accepted = 0;
    let full = loop {
        assert!(accepted < 100_000, "the disk never fills");
        match d.push(NewJob::new("k", payload(accepted))) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Full, "{full}");
    assert!(accepted > 3, "there was room for some");
    assert_eq!(
        d.push(NewJob::new("k", payload(0))).expect_err("still").kind(),
        ErrorKind::Full
    );
    // What was accepted runs and ends, though there is no room.
    let seen = drain(d);
    assert_eq!(seen.len(), accepted, "each that was accepted, and no other");
    if reserve {
        d.flush()
            .expect("ends of jobs fit into the space that is kept for them");
    }
    make_room();
    d.push(NewJob::new("k", "after")).expect("there is room again");
    assert_eq!(drain(d), ["after"]);
    d.flush().expect("everything can be written");
}

#[test]
fn a_full_disk_refuses_pushes_and_drains() {
    let folder = Folder::in_memory("full");
    let disk = Disk::under(folder.path());
    let db = folder.file("jobs.db");
    let d = open(&db).expect("a new file");
    d.push(NewJob::new("k", "before")).expect("there is room");
    assert_eq!(drain(&d), ["before"]);
    disk.plan(Fault::Full, 40);
    runs_full(&d, false, || disk.heal());
    assert!(disk.fired() > 0);
    stop(&d);
    let d = open(&db).expect("it is closed");
    assert_eq!(drain(&d), Vec::<String>::new(), "nothing runs twice");
    stop(&d);
}

/// The same on a file system that is really full.
#[test]
fn a_full_file_system_refuses_pushes_and_drains() {
    let folder = Folder::new("tmpfs");
    let place = folder.path().to_owned();
    // In a thread, and what it starts, with mounts of its own.
    let done = std::thread::spawn(move || {
        mount_small(&place, "6m")?;
        let ballast = place.join("ballast");
        std::fs::write(&ballast, vec![1; 2 << 20]).expect("there is room");
        let db = place.join("jobs.db");
        let d = open(&db).expect("a new file");
        runs_full(&d, true, || std::fs::remove_file(&ballast).expect("it is there"));
        stop(&d);
        let d = open(&db).expect("it is closed");
        assert_eq!(drain(&d), Vec::<String>::new(), "nothing runs twice");
        stop(&d);
        Ok(())
    });
    let mounted: Result<(), String> = done
        .join()
        .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    if let Err(reason) = mounted {
        skip(&reason);
    }
}

// ---- folders -----------------------------------------------------------------------------------------

#[test]
fn a_missing_folder_is_named() {
    let folder = Folder::new("missing");
    let error = open(&folder.file("not-there/jobs.db")).expect_err("there is no folder");
    assert!(
        matches!(error.kind(), ErrorKind::Storage | ErrorKind::NotFound),
        "{error:?}"
    );
    assert!(error.to_string().contains("not-there"), "names it: {error}");
}

#[test]
fn a_read_only_file_system_is_an_error_that_says_so() {
    let folder = Folder::new("read-only");
    let place = folder.path().to_owned();
    let done = std::thread::spawn(move || {
        mount_small(&place, "6m")?;
        filled(&place.join("jobs.db"), 1);
        make_read_only(&place);
        let error = open(&place.join("jobs.db")).expect_err("nothing can be written");
        assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
        assert!(error.to_string().contains("jobs.db"), "names it: {error}");
        Ok(())
    });
    let mounted: Result<(), String> = done
        .join()
        .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    if let Err(reason) = mounted {
        skip(&reason);
    }
}

/// What is written to files that have no name any more is lost: nothing is acknowledged then.
#[test]
fn a_deleted_folder_ends_the_acknowledgements() {
    for renamed in [false, true] {
        let folder = Folder::new("deleted");
        let inner = folder.file("inner");
        std::fs::create_dir(&inner).expect("the folder is ours");
        let d = open(&inner.join("jobs.db")).expect("a new file");
        d.push(NewJob::new("k", "before")).expect("there is room");
        if renamed {
            std::fs::rename(&inner, folder.file("elsewhere")).expect("the folder is ours");
        } else {
            std::fs::remove_dir_all(&inner).expect("the folder is ours");
        }
        let error = d.push(NewJob::new("k", "after")).expect_err("it would be lost");
        assert!(
            matches!(error.kind(), ErrorKind::Storage | ErrorKind::Unknown),
            "{error}"
        );
        let _ = d.stop(Duration::ZERO);
    }
}
