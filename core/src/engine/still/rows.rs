//! The rows of a database that is opened for reading.
//!
//! The file need have no index for any of this: a question is answered by a walk over the rows, which keeps
//! no more of them in memory than its answer has.

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::{Counted, Shelf};
use crate::engine::sql::row::{Texts, columns_of, read};
use crate::engine::sql::{failure, schema};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Filter, Job, Page, State};
use crate::outcome::FailureKind;
use crate::time::Timestamp;

/// How long a look waits for one who writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// A database that is only read.
#[derive(Debug)]
pub(crate) struct Rows {
    db: Mutex<Connection>,
    path: String,
}

/// Opens a database without writing to it. One that is `at_rest`, with nobody who has it open and nothing in
/// its log, is read as it lies there, so that no file appears beside it.
///
/// # Errors
/// `Storage`; `Corrupt` for a file that is no database.
pub(crate) fn open(path: &Path, at_rest: bool) -> Result<Connection> {
    let shown = path.display().to_string();
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let rest = if at_rest { "&immutable=1" } else { "" };
    let uri = format!("file:{}?mode=ro{rest}", escaped(path));
    let db = Connection::open_with_flags(uri, flags).map_err(|e| failure(&e, &shown))?;
    db.busy_timeout(PATIENCE).map_err(|e| failure(&e, &shown))?;
    Ok(db)
}

/// A path as a part of a URI.
fn escaped(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut text = String::new();
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => text.push(*byte as char),
            byte => text += &format!("%{byte:02x}"),
        }
    }
    text
}

impl Rows {
    /// The jobs of the database at `path`.
    ///
    /// # Errors
    /// As [`open`]; `Corrupt` for a database of another program; `FutureFormat`.
    pub(crate) fn open(path: &Path, at_rest: bool) -> Result<Self> {
        let (db, path) = (open(path, at_rest)?, path.display().to_string());
        if schema::check(&db, &path)? == 0 {
            let text = format!("{path:?} is an empty database: no dispatcher has used it yet");
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        Ok(Self {
            db: Mutex::new(db),
            path,
        })
    }

    /// Calls `each` for the jobs that the end of the statement names.
    fn select(&self, rest: &str, values: Vec<Value>, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        let failed = |e: rusqlite::Error| failure(&e, &self.path);
        let db = self.db.lock();
        let columns = columns_of(&db);
        let mut statement = db
            .prepare(&format!("SELECT {columns} FROM jobs {rest}"))
            .map_err(failed)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
        let mut texts = Texts::default();
        while let Some(row) = rows.next().map_err(failed)? {
            each(read(row, &mut texts)?.1)?;
        }
        Ok(())
    }

    fn collect<T>(
        &self,
        text: &str,
        values: Vec<Value>,
        each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let db = self.db.lock();
        let collected = db.prepare(text).and_then(|mut statement| {
            let rows = statement.query_map(params_from_iter(values), each)?;
            rows.collect()
        });
        collected.map_err(|e| failure(&e, &self.path))
    }
}

impl Shelf for Rows {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        let mut found = None;
        let id = Value::Blob(id.to_bytes().to_vec());
        self.select("WHERE id = ?1 LIMIT 1", vec![id], &mut |job| {
            found = Some(job);
            Ok(())
        })?;
        Ok(found)
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        let size = filter.page_size()?;
        let (mut clause, mut values) = clause(filter);
        let count = format!("SELECT count(*) FROM jobs WHERE {clause}");
        let total: Vec<i64> = self.collect(&count, values.clone(), |row| row.get(0))?;
        if let Some(after) = filter.after {
            values.push(Value::Blob(after.to_bytes().to_vec()));
            clause += &format!(" AND id < ?{}", values.len());
        }
        let mut jobs = Vec::new();
        // The rows are chosen first, so that nothing large is sorted.
        let rest = format!(
            "WHERE row IN (SELECT row FROM jobs WHERE {clause} ORDER BY id DESC LIMIT {size}) ORDER BY id DESC"
        );
        self.select(&rest, values, &mut |job| {
            jobs.push(job);
            Ok(())
        })?;
        let total = usize::try_from(total[0]).unwrap_or(usize::MAX);
        Ok(Page { jobs, total })
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        for (state, order) in [
            ("queued", "queue, priority DESC, run_at, row"),
            ("running", "started, row"),
            ("scheduled", "run_at, row"),
            ("blocked", "created, id"),
        ] {
            let rest = format!("WHERE state = '{state}' ORDER BY {order}");
            self.select(&rest, Vec::new(), each)?;
        }
        Ok(())
    }

    fn counts(&self) -> Result<Vec<Counted>> {
        let text =
            "SELECT queue, state, CASE state WHEN 'shed' THEN error_kind END AS why, count(*) FROM jobs
            GROUP BY queue, state, why";
        let rows = self.collect(text, Vec::new(), |row| {
            let why: Option<String> = row.get(2)?;
            Ok((row.get(0)?, row.get::<_, String>(1)?, why, row.get::<_, i64>(3)?))
        })?;
        let count = |(queue, state, why, jobs): (String, String, Option<String>, i64)| {
            let state = State::from_name(&state).ok_or_else(|| {
                let text = format!(
                    "{:?} has jobs in a state {state:?}; look with `forebay check`",
                    self.path
                );
                Error::new(ErrorKind::Corrupt, text)
            })?;
            Ok(Counted {
                queue,
                state,
                why: why.as_deref().and_then(FailureKind::from_name),
                jobs: jobs.unsigned_abs(),
            })
        };
        rows.into_iter().map(count).collect()
    }

    fn paused(&self) -> Result<Vec<String>> {
        let text = "SELECT name FROM queues WHERE paused <> 0";
        self.collect(text, Vec::new(), |row| row.get(0))
    }
}

/// What a filter asks of a row, without its page, and the values it names.
fn clause(filter: &Filter) -> (String, Vec<Value>) {
    let (mut clause, mut values) = ("TRUE".to_owned(), Vec::new());
    let mut ask = |column: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.push(value);
            clause += &format!(" AND {column} ?{}", values.len());
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::Text);
    let time = |at: Option<Timestamp>| at.map(|at| Value::Integer(at.as_micros()));
    ask("queue =", text(&filter.queue));
    ask("kind =", text(&filter.kind));
    ask("key =", text(&filter.key));
    ask("created >=", time(filter.created_from));
    ask("created <", time(filter.created_before));
    if !filter.states.is_empty() {
        // The names of states are ours and need no escape.
        let states: Vec<String> = filter.states.iter().map(|s| format!("'{s}'")).collect();
        clause += &format!(" AND state IN ({})", states.join(", "));
    }
    (clause, values)
}
