//! Files that are looked at: what they show, and that they stay as they are.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::dispatcher::KindSet;
use crate::job::{Filter, NewJob, State};
use crate::outcome::Outcome;
use crate::time::Deadline;

/// A folder of its own for a test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-file-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Every file with what is in it.
    fn all(&self) -> BTreeMap<OsString, Vec<u8>> {
        let files = fs::read_dir(&self.0).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name(), fs::read(entry.path()).unwrap_or_default())
        });
        files.collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A dispatcher with a job in each state, and one queue paused.
fn busy() -> (Dispatcher, Vec<crate::JobId>) {
    let d = Dispatcher::in_memory().unwrap();
    let push = |job| d.push(job).unwrap().id;
    let to = |queue| NewJob::new("k", b"in").queue(queue);
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let mut take = |id| {
        let lease = consumer
            .next(Deadline::after(Duration::from_secs(60)))
            .unwrap()
            .unwrap();
        assert_eq!(lease.id(), id);
        lease
    };
    let succeeded = push(to("mail"));
    take(succeeded).complete(Outcome::Success(b"out".into())).unwrap();
    let failed = push(to("mail"));
    take(failed).complete(Outcome::fatal("no such address")).unwrap();
    let running = push(to("mail").header("h", "v"));
    let lease = take(running);
    let cancelled = push(to("mail"));
    d.cancel(cancelled).unwrap();
    let queued = push(
        NewJob::new("other", b"\xff")
            .queue("mail")
            .key("order-17")
            .priority(3),
    );
    let scheduled = push(to("slow").delay(Duration::from_secs(3600)));
    let blocked = push(to("slow").waits_for("token"));
    d.pause("slow").unwrap();
    // Its lease is held until the test is over.
    std::mem::forget(lease);
    let ids = vec![succeeded, failed, running, cancelled, queued, scheduled, blocked];
    (d, ids)
}

fn all(d: &Dispatcher) -> Vec<String> {
    let page = d.list(&Filter::default()).unwrap();
    assert_eq!(page.total, page.jobs.len());
    page.jobs.iter().map(crate::Job::to_json).collect()
}

#[test]
fn a_dump_shows_what_it_holds() {
    let folder = Folder::new();
    let (d, ids) = busy();
    let path = folder.file("jobs.dump");
    d.dump(&path).unwrap();
    let before = folder.all();
    let seen = inspect(&path).unwrap();
    for id in &ids {
        let is = d.get(*id).unwrap();
        match seen.get(*id) {
            Ok(job) => {
                assert_eq!(
                    (job.state, job.attempt, job.fence),
                    (is.state, is.attempt, is.fence)
                );
                assert_eq!((job.key(), job.headers()), (is.key(), is.headers()));
                assert_eq!(job.payload.as_bytes(), is.payload.as_bytes());
            }
            Err(e) => assert!(is.state.is_final() && e.kind() == ErrorKind::NotFound, "{e}"),
        }
    }
    let stats = seen.stats().unwrap();
    let (mail, slow) = (stats.queue("mail").unwrap(), stats.queue("slow").unwrap());
    assert_eq!((mail.queued, mail.running, mail.paused), (1, 1, false));
    assert_eq!((slow.scheduled, slow.blocked, slow.paused), (1, 1, true));
    assert!(mail.balanced() && slow.balanced());
    look_around(&seen, &ids);
    drop(seen);
    assert!(folder.all() == before);
}

/// What is the same for every file that is looked at.
fn look_around(seen: &Dispatcher, ids: &[crate::JobId]) {
    let find = |filter: Filter| {
        let page = seen.list(&filter).unwrap();
        (page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), page.total)
    };
    let [queued, scheduled, blocked] = ids[4..] else {
        panic!("the last three wait");
    };
    let by = |set: fn(&mut Filter)| {
        let mut filter = Filter::default();
        set(&mut filter);
        find(filter)
    };
    assert_eq!(
        by(|f| f.queue = Some("slow".into())),
        (vec![blocked, scheduled], 2)
    );
    assert_eq!(by(|f| f.kind = Some("other".into())), (vec![queued], 1));
    assert_eq!(by(|f| f.key = Some("order-17".into())), (vec![queued], 1));
    assert_eq!(
        by(|f| f.states = vec![State::Queued, State::Blocked]),
        (vec![blocked, queued], 2)
    );
    assert_eq!(by(|f| f.created_before = Some(Timestamp::EPOCH)), (vec![], 0));
    assert!(by(|f| f.created_from = Some(Timestamp::EPOCH)).1 >= 4);
    let (all, total) = by(|_| ());
    let mut paged = Vec::new();
    let mut after = None;
    while paged.len() < total {
        let limit = Some(1);
        let (page, same) = find(Filter {
            after,
            limit,
            ..Filter::default()
        });
        assert_eq!(same, total);
        paged.extend_from_slice(&page);
        after = page.last().copied();
        assert!(after.is_some(), "{paged:?} of {total}");
    }
    assert_eq!(paged, all);
    assert!(
        seen.list(&Filter {
            limit: Some(0),
            ..Filter::default()
        })
        .is_err()
    );
    let unknown = seen.get(crate::JobId::NIL).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let refused = [
        seen.push(NewJob::new("k", ())).unwrap_err().kind(),
        seen.cancel(queued).unwrap_err().kind(),
        seen.purge("mail").unwrap_err().kind(),
        seen.pause("mail").unwrap_err().kind(),
    ];
    assert_eq!(refused, [ErrorKind::Unsupported; 4]);
    assert!(seen.explain(queued).is_ok() && seen.explain_queue("mail").is_ok());
}

#[cfg(feature = "sqlite")]
mod database {
    use super::*;
    use crate::engine::sql::{row, schema};
    use rusqlite::Connection;

    fn beside(path: &Path, suffix: &str) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }

    /// A database as an engine leaves it.
    fn write(path: &Path, d: &Dispatcher, log: bool) -> Connection {
        let mut db = Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        schema::migrate(&mut db, "x").unwrap();
        if log {
            // What is written from here on stays in the log.
            db.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        }
        let marks = row::COLUMNS
            .split(", ")
            .map(|_| "?")
            .collect::<Vec<_>>()
            .join(", ");
        let text = format!("INSERT INTO jobs ({}) VALUES ({marks})", row::COLUMNS);
        for (number, job) in (1..).zip(d.list(&Filter::default()).unwrap().jobs.iter().rev()) {
            let mut statement = db.prepare(&text).unwrap();
            row::bind(&mut statement, number, job, row::Holder::default()).unwrap();
            statement.raw_execute().unwrap();
        }
        db.execute("INSERT INTO queues VALUES ('slow', 1)", []).unwrap();
        db
    }

    #[test]
    fn a_database_shows_what_it_holds() {
        let folder = Folder::new();
        let (d, ids) = busy();
        let path = folder.file("a b?c#d%41.db");
        write(&path, &d, false).close().unwrap();
        let before = folder.all();
        assert_eq!(before.len(), 1);
        let seen = inspect(&path).unwrap();
        assert_eq!(all(&seen), all(&d));
        for id in &ids {
            assert_eq!(seen.get(*id).unwrap().to_json(), d.get(*id).unwrap().to_json());
        }
        let stats = seen.stats().unwrap();
        let (mail, slow) = (stats.queue("mail").unwrap(), stats.queue("slow").unwrap());
        assert_eq!((mail.queued, mail.running, mail.kept), (1, 1, 3));
        assert_eq!(
            (mail.totals.succeeded, mail.totals.failed, mail.totals.cancelled),
            (1, 1, 1)
        );
        assert_eq!((slow.scheduled, slow.blocked, slow.paused), (1, 1, true));
        assert!(mail.balanced() && slow.balanced());
        look_around(&seen, &ids);
        drop(seen);
        assert!(folder.all() == before);
    }

    /// The same jobs, in the same order, whether they are dumped from memory or from the file.
    #[test]
    fn a_database_is_dumped_as_its_owner_would() {
        let folder = Folder::new();
        let (d, _) = busy();
        write(&folder.file("jobs.db"), &d, false).close().unwrap();
        d.dump(folder.file("one")).unwrap();
        inspect(&folder.file("jobs.db"))
            .unwrap()
            .dump(folder.file("two"))
            .unwrap();
        let lines = |name| {
            let text = fs::read_to_string(folder.file(name)).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines[1..lines.len() - 1].to_vec()
        };
        assert_eq!(lines("one"), lines("two"));
        assert_eq!(lines("one").len(), 4);
    }

    #[test]
    fn what_is_still_in_the_log_is_shown() {
        let folder = Folder::new();
        let (d, _) = busy();
        let path = folder.file("jobs.db");
        let owner = write(&path, &d, true);
        assert_eq!(all(&inspect(&path).unwrap()), all(&d), "while it is written to");
        // As the file of a process that was killed: with its log, and without whoever had it open.
        let left = folder.file("left.db");
        for suffix in ["", "-wal"] {
            fs::copy(beside(&path, suffix), beside(&left, suffix)).unwrap();
        }
        drop(owner);
        let before = fs::read(&left).unwrap();
        assert_eq!(all(&inspect(&left).unwrap()), all(&d));
        assert!(fs::read(&left).unwrap() == before);
        assert!(fs::metadata(beside(&left, "-wal")).unwrap().len() > 0);
    }

    #[test]
    fn other_databases_are_left_alone() {
        let folder = Folder::new();
        let path = |name: &str| folder.file(name);
        let db = Connection::open(path("theirs")).unwrap();
        db.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let mut db = Connection::open(path("future")).unwrap();
        schema::migrate(&mut db, "x").unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        let mut db = Connection::open(path("damaged")).unwrap();
        schema::migrate(&mut db, "x").unwrap();
        drop(db);
        let mut bytes = fs::read(path("damaged")).unwrap();
        bytes.truncate(5000);
        bytes[1000..].fill(0xee);
        fs::write(path("damaged"), bytes).unwrap();
        fs::write(path("short"), "SQLite format 3\0").unwrap();
        for (name, kind) in [
            ("theirs", ErrorKind::Corrupt),
            ("future", ErrorKind::FutureFormat),
            ("damaged", ErrorKind::Corrupt),
            ("short", ErrorKind::Corrupt),
        ] {
            let error = inspect(&path(name))
                .map(|d| d.stats().map(drop))
                .and_then(|r| r)
                .unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

/// Whoever opens and closes a database by hand takes the locks away by which SQLite keeps other processes from
/// deleting its log. What this process has open is not opened by hand.
#[cfg(all(target_os = "linux", feature = "sqlite"))]
#[test]
fn a_look_at_an_open_database_leaves_its_locks() {
    let folder = Folder::new();
    let path = folder.file("jobs.db");
    let d = Dispatcher::open(&format!("sqlite:{}", path.display()), Options::default()).unwrap();
    d.push(NewJob::new("k", b"in")).unwrap();
    let locks = || {
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
        let table = fs::read_to_string("/proc/locks").unwrap();
        let ours = format!(":{inode} ");
        table.lines().filter(|lock| lock.contains(&ours)).count()
    };
    let before = locks();
    assert!(before > 0, "SQLite holds a lock while the log is in use");
    assert_eq!(Kind::of(&path).unwrap(), Kind::Database);
    assert_eq!(inspect(&path).unwrap().stats().unwrap().total().queued, 1);
    assert_eq!(locks(), before);
    d.stop(Duration::ZERO).unwrap();
}

#[test]
fn what_is_no_file_of_jobs_is_said_so() {
    let folder = Folder::new();
    fs::write(folder.file("empty"), "").unwrap();
    fs::write(folder.file("text"), "hello").unwrap();
    fs::write(folder.file("dump"), "{\"forebay_dump\":1}\n").unwrap();
    for (name, kind) in [
        ("none", ErrorKind::NotFound),
        ("empty", ErrorKind::Corrupt),
        ("text", ErrorKind::Corrupt),
        ("dump", ErrorKind::Corrupt),
        (".", ErrorKind::Storage),
    ] {
        let error = inspect(&folder.file(name)).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}
