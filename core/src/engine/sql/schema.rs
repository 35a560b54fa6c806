//! The tables, and how an older file gets those of today.
//!
//! A migration is a text that is applied once, in order, each in a transaction of its own together with the
//! number it leads to (`user_version` in SQLite). A file with a higher number was written by a newer version
//! and is left alone.
//!
//! `docs/durable.md` explains the tables to people who ask them questions; it changes with this file.

use rusqlite::{Connection, TransactionBehavior};

use crate::engine::sql::{failure, shared};
use crate::error::{Error, ErrorKind, Result};

/// "FBAY": how a file of ours is told from any other SQLite file.
pub(crate) const APPLICATION: i32 = 0x4642_4159;

/// What leads from one version to the next; the first makes the tables.
pub(crate) const MIGRATIONS: &[&str] = &[FIRST, shared::TABLES, SHEDDING];

/// The version of the tables after every migration.
pub(crate) const VERSION: usize = MIGRATIONS.len();

const FIRST: &str = "
CREATE TABLE jobs (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    created INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER,
    fence INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    lease_until INTEGER,
    deadline INTEGER,
    timeout INTEGER,
    key TEXT,
    fingerprint INTEGER,
    retry TEXT,
    headers TEXT,
    waits TEXT,
    node TEXT,
    worker INTEGER,
    payload BLOB,
    content_type TEXT,
    result BLOB,
    result_type TEXT,
    error TEXT,
    error_kind TEXT,
    history TEXT,
    spilled INTEGER
) STRICT;
CREATE INDEX spilled_ids ON jobs (id) WHERE spilled = 1;
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE VIEW readable AS SELECT
    row,
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
        || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
    queue, kind, state, priority, attempt, max_attempts, crashes, key,
    strftime('%Y-%m-%dT%H:%M:%fZ', created / 1000000.0, 'unixepoch') AS created,
    strftime('%Y-%m-%dT%H:%M:%fZ', run_at / 1000000.0, 'unixepoch') AS run_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', started / 1000000.0, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', finished / 1000000.0, 'unixepoch') AS finished,
    error_kind, error, content_type, payload, result_type, result
FROM jobs;
";

/// Concurrency keys, and counts of what is shed and of the bytes that wait, which a file that is shared at the time
/// must have at once.
const SHEDDING: &str = "
ALTER TABLE jobs ADD COLUMN concurrency_key TEXT;
ALTER TABLE counters ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN shed_newest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN shed_oldest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN shed_lowest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN shed_coalesced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN shed_sampled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN shed_delayed INTEGER NOT NULL DEFAULT 0;
UPDATE counters SET bytes = waiting.bytes FROM (
    SELECT queue, sum(length(payload)) AS bytes FROM jobs
        WHERE state IN ('blocked', 'scheduled', 'queued') GROUP BY queue
) AS waiting WHERE waiting.queue = counters.queue;
DROP VIEW readable;
CREATE VIEW readable AS SELECT
    row,
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
        || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
    queue, kind, state, priority, attempt, max_attempts, crashes, key, concurrency_key,
    strftime('%Y-%m-%dT%H:%M:%fZ', created / 1000000.0, 'unixepoch') AS created,
    strftime('%Y-%m-%dT%H:%M:%fZ', run_at / 1000000.0, 'unixepoch') AS run_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', started / 1000000.0, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', finished / 1000000.0, 'unixepoch') AS finished,
    error_kind, error, content_type, payload, result_type, result
FROM jobs;
";

/// Brings the tables up to date, or makes them in an empty file.
///
/// # Errors
/// `FutureFormat` for a file of a newer version; `Corrupt` for a file that is not ours; of the store.
pub(crate) fn migrate(db: &mut Connection, path: &str) -> Result<()> {
    let version = check(db, path)?;
    for (done, text) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| failure(&e, path))?;
        // Another process may have come first.
        if number(&transaction, "user_version", path)? as usize == done {
            let mark = format!(
                "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};",
                done + 1
            );
            transaction.execute_batch(text).map_err(|e| failure(&e, path))?;
            transaction.execute_batch(&mark).map_err(|e| failure(&e, path))?;
        }
        transaction.commit().map_err(|e| failure(&e, path))?;
    }
    Ok(())
}

/// The version of the tables in a file; 0 if there are none yet.
///
/// # Errors
/// As [`migrate`].
pub(crate) fn check(db: &Connection, path: &str) -> Result<usize> {
    // One look: another process may be making the tables, and what is seen of them must fit together.
    let _one = match db.is_autocommit() {
        true => Some(db.unchecked_transaction().map_err(|e| failure(&e, path))?),
        false => None,
    };
    let version = number(db, "user_version", path)?;
    let ours = number(db, "application_id", path)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = db
        .query_row(tables, [], |r| r.get(0))
        .map_err(|e| failure(&e, path))?;
    if ours != APPLICATION && (tables > 0 || version > 0 || ours != 0) {
        let text = format!("{path:?} is a database of another program; give a path of its own to Forebay");
        return Err(Error::new(ErrorKind::Corrupt, text));
    }
    match usize::try_from(version) {
        Ok(version) if version <= VERSION => Ok(version),
        _ => {
            let text = format!(
                "{path:?} was written by a newer version (tables {version}, this one knows {VERSION}); \
                 open it with that version"
            );
            Err(Error::new(ErrorKind::FutureFormat, text))
        }
    }
}

fn number(db: &Connection, pragma: &str, path: &str) -> Result<i32> {
    db.pragma_query_value(None, pragma, |row| row.get(0))
        .map_err(|e| failure(&e, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sql::row;

    fn fresh() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    /// Every migration ever released, by the hash of its text: a released one never changes, a change is a
    /// new one.
    #[test]
    fn released_migrations_stay_as_they_are() {
        let prints: Vec<u64> = MIGRATIONS
            .iter()
            .map(|m| xxhash_rust::xxh3::xxh3_64(m.as_bytes()))
            .collect();
        assert_eq!(prints.len(), VERSION);
        assert_eq!(prints, PRINTS, "add a migration instead of changing one");
    }
    const PRINTS: [u64; 3] = [
        2_505_884_980_321_869_615,
        12_874_118_547_558_540_562,
        596_747_849_069_284_996,
    ];

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut db = fresh();
        migrate(&mut db, "x").unwrap();
        db.execute("INSERT INTO queues VALUES ('q', 1)", []).unwrap();
        migrate(&mut db, "x").unwrap();
        assert_eq!(check(&db, "x").unwrap(), VERSION);
        let count: i64 = db
            .query_row("SELECT count(*) FROM queues", [], |r| r.get(0))
            .unwrap();
        assert_eq!(count, 1);
    }

    /// A file of the version before concurrency keys and shed jobs, shared at the time.
    #[test]
    fn an_older_file_is_read_as_it_is_and_then_brought_up_to_date() {
        let mut db = fresh();
        for text in [FIRST, shared::TABLES] {
            db.execute_batch(text).unwrap();
        }
        db.execute_batch(
            "INSERT INTO jobs (row, id, queue, kind, state, priority, run_at, created, attempt, fence, crashes,
                cancel_requested, payload, content_type)
                VALUES (1, zeroblob(16), 'q', 'k', 'queued', 0, 0, 0, 0, 0, 0, 0, x'01020304050607', 'x');
            INSERT INTO counters VALUES ('q', 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
                ('empty', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);",
        )
        .unwrap();
        db.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 2"
        ))
        .unwrap();
        let job = |db: &Connection| {
            let text = format!("SELECT {} FROM jobs", row::columns_of(db));
            let read = |row: &rusqlite::Row<'_>| Ok(row::read(row, &mut row::Texts::default()).unwrap().1);
            db.query_row(&text, [], read).unwrap()
        };
        assert_eq!(
            (job(&db).payload.len(), job(&db).concurrency_key()),
            (Some(7), None)
        );
        migrate(&mut db, "x").unwrap();
        assert_eq!(
            (job(&db).payload.len(), job(&db).concurrency_key()),
            (Some(7), None)
        );
        let mut counted = db.prepare("SELECT bytes FROM counters ORDER BY queue").unwrap();
        let bytes = counted.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(bytes.map(Result::unwrap).collect::<Vec<_>>(), [0, 7]);
    }

    /// Who looks while the tables are made sees a file of ours, or an empty one.
    #[test]
    fn a_file_is_ours_while_another_makes_its_tables() {
        let folder = crate::engine::durable::testing::Folder::new();
        for round in 0..20 {
            let path = folder.path(&format!("{round}.db"));
            let open = || {
                let db = Connection::open(&path).unwrap();
                db.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
                db
            };
            let mut maker = open();
            maker.execute_batch("PRAGMA journal_mode = WAL").unwrap();
            let looker = open();
            std::thread::scope(|scope| {
                let look = move || while check(&looker, "x").unwrap() < VERSION {};
                let looking = scope.spawn(look);
                migrate(&mut maker, "x").unwrap();
                looking.join().unwrap();
            });
        }
    }

    #[test]
    fn files_of_others_and_of_the_future_are_left_alone() {
        let mut db = fresh();
        db.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(migrate(&mut db, "x").unwrap_err().kind(), ErrorKind::Corrupt);
        let mut db = fresh();
        migrate(&mut db, "x").unwrap();
        db.execute_batch(&format!("PRAGMA user_version = {}", VERSION + 1))
            .unwrap();
        let error = migrate(&mut db, "jobs.db").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FutureFormat);
        assert!(error.to_string().contains("jobs.db"));
    }
}
