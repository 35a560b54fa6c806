//! Opening a database: what stood there is read into memory, and what ran when the process died is marked.
//!
//! First the marks, in one transaction: every job that the [flight table](super::flight) names gets its
//! attempt, its fence and one more crash, and the run gets the next number, so that the table is believed
//! once. Then the jobs are read. Whoever dies on the way, and opens again, finds either the old marks and the
//! table, or the new marks and a table that no longer counts.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::flight::{Run, Table};
use super::store::{SET, Sqlite};
use crate::engine::Engine;
use crate::engine::memory::MemoryEngine;
use crate::engine::memory::journal::Takeoff;
use crate::engine::sql::{failure, row, schema};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Job, State};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// Whether the rows are in the order in which their jobs may start, and then reading them needs no sorting; and the
/// last instant at which one of them was queued, which had come by the end of the last run.
const ORDERED: &str = "SELECT count(*) FILTER (WHERE run_at < before), max(run_at) FILTER (WHERE state = 'queued') \
                       FROM (SELECT run_at, state, lag(run_at) OVER (ORDER BY row) AS before \
                       FROM jobs WHERE finished IS NULL AND spilled IS NULL)";
const CRASHED: &str = "UPDATE jobs SET state = 'running', attempt = max(attempt, ?2), fence = max(fence, ?3), \
                       started = ?4, max_attempts = coalesce(max_attempts, ?5), crashes = crashes + 1, spilled = NULL WHERE row = ?1 AND finished IS NULL";
/// Fences that are above what the former runs of this file can have given: of jobs that came from elsewhere.
const FOREIGN: &str = "UPDATE jobs SET fence = min(fence, ?2) + ?3 WHERE finished IS NULL AND fence >= ?1";
const QUEUES: &str = "SELECT name FROM queues WHERE paused = 1";
/// In the order of their rows, which is that of their pushes: none of them has run.
const SPILLED: &str = "SELECT row, queue, priority, kind, coalesce(length(payload), 0) FROM jobs WHERE spilled = 1 AND finished IS NULL ORDER BY row";
const LAST: &str = "SELECT coalesce(max(row), 0) FROM jobs";
const GET: &str = "SELECT value FROM meta WHERE name = ?";

/// How far fences move on after a run that did not end well: more than any job can have been claimed since
/// its row was written last, so that no fence is given twice.
const FENCES: u32 = 20;

/// What the run before left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// How many runs did not end well.
    deaths: u64,
}

impl Opened {
    /// The least fence that no former run can have given.
    pub(crate) fn fences(self) -> u64 {
        self.deaths << FENCES
    }
}

/// Whether the last run of the owner of this file did not end well, and nobody has set it right.
///
/// # Errors
/// Of the store.
pub(crate) fn died(path: &Path) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let name = path.display().to_string();
    let failed = |e: rusqlite::Error| failure(&e, &name);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.busy_timeout(PATIENCE).map_err(failed)?;
    if schema::check(&db, &name)? == 0 {
        return Ok(false);
    }
    Ok(number(&db, "clean", &name)? == Some(0))
}

/// How long a look waits for other processes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Marks what ran when the process died, and begins a run.
///
/// # Errors
/// `Corrupt`; of the store.
pub(crate) fn begin(store: &mut Sqlite, table: &Table) -> Result<Opened> {
    let name = store.name().to_owned();
    let failed = |e: rusqlite::Error| failure(&e, &name);
    let db = store.db()?;
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let before = Run {
        database: number(&transaction, "database", &name)?.unwrap_or_else(fresh),
        generation: number(&transaction, "generation", &name)?.unwrap_or(0),
    };
    let clean = number(&transaction, "clean", &name)?.unwrap_or(1) == 1;
    let deaths = number(&transaction, "deaths", &name)?.unwrap_or(0) + u64::from(!clean);
    if !clean && !planted(Bug::NoCrashCounter) {
        mark(&transaction, &table.survivors(before)).map_err(failed)?;
        raise(&transaction, Opened { deaths }).map_err(failed)?;
    }
    let run = Run {
        generation: before.generation + 1,
        ..before
    };
    let transaction = if planted(Bug::RecoveredTwice) {
        transaction.commit().map_err(failed)?;
        db.transaction().map_err(failed)?
    } else {
        transaction
    };
    for (name, value) in [
        ("database", run.database),
        ("generation", run.generation),
        ("deaths", deaths),
        ("clean", 0),
    ] {
        // SQLite's numbers have a sign; text has not.
        transaction
            .execute(SET, (name, value.to_string()))
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    table.begin(run);
    Ok(Opened { deaths })
}

/// Moves those fences on that the least fence of this run does not reach: a claim of them may be unwritten, too.
fn raise(db: &Connection, opened: Opened) -> rusqlite::Result<()> {
    let (least, by) = (
        i64::try_from(opened.fences()).unwrap_or(i64::MAX),
        1_i64 << FENCES,
    );
    db.execute(FOREIGN, (least, i64::MAX - by, by)).map(drop)
}

fn mark(db: &Connection, survivors: &[(i64, Takeoff)]) -> rusqlite::Result<()> {
    let mut crashed = db.prepare(CRASHED)?;
    for (row, takeoff) in survivors {
        let fence = i64::try_from(takeoff.fence).unwrap_or(i64::MAX);
        let started = takeoff.started.as_micros();
        crashed.execute((row, takeoff.attempt, fence, started, takeoff.max_attempts))?;
    }
    Ok(())
}

/// Reads every job into memory.
///
/// # Errors
/// `Corrupt` for rows that no job can be; of the store.
pub(crate) fn load(store: &mut Sqlite, engine: &MemoryEngine, opened: Opened) -> Result<()> {
    let name = store.name().to_owned();
    let failed = |e: rusqlite::Error| failure(&e, &name);
    let db = store.db()?;
    let last: i64 = db.query_row(LAST, [], |r| r.get(0)).map_err(failed)?;
    if !planted(Bug::RowsAgain) {
        engine.skip_rows(last);
    }
    let (disorder, last_queued) = db
        .query_row(ORDERED, [], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, Option<i64>>(1)?))
        })
        .map_err(failed)?;
    let past = Timestamp::from_micros(last_queued.unwrap_or(i64::MIN));
    let order = if disorder == 0 { "row" } else { "run_at, row" };
    let columns = row::COLUMNS;
    let live =
        format!("SELECT {columns} FROM jobs WHERE finished IS NULL AND spilled IS NULL ORDER BY {order}");
    let over = format!("SELECT {columns} FROM jobs WHERE finished IS NOT NULL ORDER BY finished, row");
    let floor = opened.fences();
    for text in [live, over] {
        read(db, &text, &name, &mut |row, mut job| {
            if !planted(Bug::FencesAgain) {
                job.fence = job.fence.max(floor);
            }
            // That a job's time has come is not written: it stands before those that were queued after that.
            if job.state == State::Scheduled && job.run_at <= past {
                job.state = State::Queued;
            }
            if planted(Bug::StrangeKindDropped) && &*job.kind == "strange" {
                return Ok(());
            }
            if engine.load(row, &job)? {
                return Ok(());
            }
            let text = format!("{name:?}: row {row} has the id of another, {}", job.id);
            Err(Error::new(ErrorKind::Corrupt, text))
        })?;
    }
    adopt(db, engine).map_err(failed)??;
    let mut queues = db.prepare(QUEUES).map_err(failed)?;
    let names = queues.query_map([], |r| r.get::<_, String>(0)).map_err(failed)?;
    for queue in names {
        let queue = engine.names().queue(&queue.map_err(failed)?)?;
        engine.set_paused(queue, true)?;
    }
    drop(queues);
    // Every page was read once and few are needed again.
    db.execute_batch("PRAGMA shrink_memory").map_err(failed)
}

/// Notes the rows of jobs that stay in the file.
fn adopt(db: &Connection, engine: &MemoryEngine) -> rusqlite::Result<Result<()>> {
    let mut statement = db.prepare(SPILLED)?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        let (queue, kind) = (found.get_ref(1)?.as_str()?, found.get_ref(3)?.as_str()?);
        let weight = found.get::<_, i64>(4)?.unsigned_abs() as usize;
        if let Err(error) = engine.adopt((found.get(0)?, weight), (queue, kind), found.get(2)?) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Calls `each` for every job that a query finds.
fn read(db: &Connection, text: &str, name: &str, each: &mut dyn FnMut(i64, Job) -> Result<()>) -> Result<()> {
    let failed = |e: rusqlite::Error| failure(&e, name);
    let mut statement = db.prepare(text).map_err(failed)?;
    let (mut rows, mut texts) = (statement.query([]).map_err(failed)?, row::Texts::default());
    while let Some(found) = rows.next().map_err(failed)? {
        let (row, job) = row::read(found, &mut texts)?;
        each(row, job)?;
    }
    Ok(())
}

fn number(db: &Connection, what: &str, name: &str) -> Result<Option<u64>> {
    let text: Option<String> = db
        .query_row(GET, [what], |r| r.get(0))
        .optional()
        .map_err(|e| failure(&e, name))?;
    let bad = |_| {
        Error::new(
            ErrorKind::Corrupt,
            format!("{name:?}: meta.{what} is not a number"),
        )
    };
    text.map(|text| text.parse().map_err(bad)).transpose()
}

/// A number that no other database has.
fn fresh() -> u64 {
    use std::hash::BuildHasher;
    std::collections::hash_map::RandomState::new().hash_one(std::process::id())
}
