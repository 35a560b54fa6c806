//! What the tables need beyond [`schema`](super::schema) when several processes claim by SQL: the indexes by
//! which every unfinished job is found, and counts that are true for all.
//!
//! A file that one process owns has neither, because its process knows where each job stands and every index
//! costs a write per change. So they are made when a file is opened to be shared, in one transaction, and taken
//! away again by whoever opens it to own it. Making them costs one pass over the jobs.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

/// The rows of `meta` that say how the file was last used.
const MODE: &str = "mode";

/// The tables, which stay: made by a migration, so that every version knows them.
pub(crate) const TABLES: &str = "
ALTER TABLE jobs ADD COLUMN place INTEGER;
ALTER TABLE jobs ADD COLUMN overdue INTEGER;
ALTER TABLE jobs ADD COLUMN due INTEGER;
ALTER TABLE jobs ADD COLUMN owner INTEGER;
CREATE TABLE counters (
    queue TEXT PRIMARY KEY,
    blocked INTEGER NOT NULL,
    scheduled INTEGER NOT NULL,
    queued INTEGER NOT NULL,
    running INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    pushed INTEGER NOT NULL,
    restored INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    retried INTEGER NOT NULL,
    returned INTEGER NOT NULL,
    stale INTEGER NOT NULL,
    refused INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    now INTEGER NOT NULL,
    place INTEGER NOT NULL
) STRICT;
INSERT INTO clock VALUES (1, 0, 0);
CREATE TABLE nodes (
    node INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT,
    seat INTEGER,
    pid INTEGER NOT NULL,
    boot TEXT NOT NULL,
    opened INTEGER NOT NULL,
    closed INTEGER
) STRICT;
CREATE TABLE terms (
    name TEXT PRIMARY KEY,
    holder TEXT,
    term INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// What a shared file has and an owned one has not.
const INDEXES: &str = "
CREATE UNIQUE INDEX IF NOT EXISTS jobs_id ON jobs (id);
CREATE INDEX IF NOT EXISTS jobs_key ON jobs (key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_queued ON jobs (queue, kind, priority DESC, place) WHERE state = 'queued';
CREATE INDEX IF NOT EXISTS jobs_scheduled ON jobs (run_at, place) WHERE state = 'scheduled';
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (state, finished) WHERE finished IS NOT NULL;
";

/// Takes them away.
const NO_INDEXES: &str = "
DROP INDEX IF EXISTS jobs_id;
DROP INDEX IF EXISTS jobs_key;
DROP INDEX IF EXISTS jobs_queued;
DROP INDEX IF EXISTS jobs_scheduled;
DROP INDEX IF EXISTS jobs_due;
DROP INDEX IF EXISTS jobs_finished;
";

/// Gives every unfinished job what a shared file needs of it: its place in the order of (time, row), and when it
/// needs a decision. A job that ran has no lease and nobody who holds it: it ends now.
const ADOPT: &str = "
UPDATE jobs SET place = run_at, spilled = NULL, due = CASE WHEN state = 'running' THEN coalesce(min(overdue, lease_until), lease_until, overdue, 0)
        ELSE deadline END
    WHERE state IN ('blocked', 'scheduled', 'queued', 'running');
UPDATE jobs SET lease_until = coalesce(lease_until, 0) WHERE state = 'running';
UPDATE jobs SET spilled = NULL WHERE spilled = 1;
UPDATE clock SET place = max(place, (SELECT coalesce(max(place), 0) FROM jobs WHERE state = 'queued'));
";

/// An owner that died has given out fences that were not written: the next ones are behind all of them.
const AFTER_A_DEATH: &str = "
UPDATE jobs SET fence = fence + (1 << 20) WHERE finished IS NULL;
UPDATE meta SET value = '1' WHERE name = 'clean';
";

/// Counts what is there. Totals that were kept stay; accepted jobs are those that ended and those that have not.
const RECOUNT: &str = "
CREATE TEMP TABLE recount AS SELECT queue,
    sum(state = 'blocked') AS blocked, sum(state = 'scheduled') AS scheduled, sum(state = 'queued') AS queued,
    sum(state = 'running') AS running, sum(finished IS NOT NULL) AS kept,
    sum(state = 'succeeded') AS succeeded, sum(state = 'failed') AS failed,
    sum(state = 'cancelled') AS cancelled, sum(state = 'expired') AS expired,
    sum(state = 'shed' AND error_kind IS 'shed_newest') AS shed_newest,
    sum(state = 'shed' AND error_kind IS 'shed_oldest') AS shed_oldest,
    sum(state = 'shed' AND error_kind IS 'shed_lowest') AS shed_lowest,
    sum(state = 'shed' AND error_kind IS 'shed_coalesced') AS shed_coalesced,
    sum(state = 'shed' AND error_kind IS 'shed_sampled') AS shed_sampled,
    sum(state = 'shed' AND error_kind IS 'shed_delayed') AS shed_delayed,
    sum(CASE WHEN state IN ('blocked', 'scheduled', 'queued') THEN length(payload) ELSE 0 END) AS bytes
    FROM jobs GROUP BY queue;
INSERT OR IGNORE INTO counters (queue, blocked, scheduled, queued, running, kept, pushed, restored, claimed, succeeded,
    failed, cancelled, expired, retried, returned, stale, refused)
    SELECT queue, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM recount;
UPDATE counters SET blocked = 0, scheduled = 0, queued = 0, running = 0, kept = 0, bytes = 0;
UPDATE counters SET blocked = r.blocked, scheduled = r.scheduled, queued = r.queued, running = r.running,
    kept = r.kept, succeeded = max(counters.succeeded, r.succeeded), failed = max(counters.failed, r.failed),
    cancelled = max(counters.cancelled, r.cancelled), expired = max(counters.expired, r.expired),
    shed_newest = max(counters.shed_newest, r.shed_newest),
    shed_oldest = max(counters.shed_oldest, r.shed_oldest),
    shed_lowest = max(counters.shed_lowest, r.shed_lowest),
    shed_coalesced = max(counters.shed_coalesced, r.shed_coalesced),
    shed_sampled = max(counters.shed_sampled, r.shed_sampled),
    shed_delayed = max(counters.shed_delayed, r.shed_delayed), bytes = coalesce(r.bytes, 0)
    FROM temp.recount AS r WHERE r.queue = counters.queue;
UPDATE counters SET pushed = succeeded + failed + cancelled + expired + shed_newest + shed_oldest + shed_lowest
    + shed_coalesced + shed_sampled + shed_delayed + blocked + scheduled + queued + running - restored;
UPDATE counters SET restored = restored + pushed, pushed = 0 WHERE pushed < 0;
DROP TABLE temp.recount;
";

/// Makes a file ready to be shared. Inside a transaction that may write.
///
/// # Errors
/// Of SQLite.
pub(crate) fn share(db: &Connection) -> rusqlite::Result<()> {
    if mode(db)?.as_deref() == Some("shared") {
        return Ok(());
    }
    if value(db, "clean")?.as_deref() == Some("0") {
        db.execute_batch(AFTER_A_DEATH)?;
    }
    db.execute_batch(ADOPT)?;
    db.execute_batch(INDEXES)?;
    db.execute_batch(RECOUNT)?;
    set_mode(db, "shared")
}

/// Makes a file ready to be owned by one process, if it was shared.
///
/// # Errors
/// Of SQLite.
pub(crate) fn own(db: &mut Connection) -> rusqlite::Result<()> {
    if mode(db)?.as_deref() != Some("shared") {
        return Ok(());
    }
    let whole = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    whole.execute_batch(NO_INDEXES)?;
    set_mode(&whole, "owned")?;
    whole.commit()
}

fn mode(db: &Connection) -> rusqlite::Result<Option<String>> {
    value(db, MODE)
}

fn value(db: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let text = "SELECT value FROM meta WHERE name = ?1";
    db.query_row(text, [name], |row| row.get(0)).optional()
}

fn set_mode(db: &Connection, mode: &str) -> rusqlite::Result<()> {
    let text = "INSERT INTO meta (name, value) VALUES (?1, ?2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    db.execute(text, [MODE, mode]).map(|_| ())
}
