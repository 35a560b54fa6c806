//! A second connection, for jobs that are in the file only: callers look through it while the writer writes.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::engine::sql::{failure, row};
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Filter, Job, Priority};

/// What a job is asked for whose record is not in memory.
const SPILLED: &str = "spilled = 1 AND finished IS NULL";

/// Reads the file, through a connection that is opened when it is first needed.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    name: String,
    db: Mutex<Option<Connection>>,
}

impl Reader {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            name: path.display().to_string(),
            db: Mutex::default(),
        }
    }

    /// The spilled job with this id, and its row.
    ///
    /// # Errors
    /// Of the store.
    pub(super) fn find(&self, id: JobId) -> Result<Option<(i64, Job)>> {
        let mut found = None;
        let ids = vec![Value::Blob(id.to_bytes().to_vec())];
        self.read(&format!("WHERE {SPILLED} AND id = ?"), ids, &mut |row, job| {
            found = Some((row, job));
            Ok(())
        })?;
        Ok(found)
    }

    /// The newest spilled jobs that match a filter, at most a page, and how many match in all.
    ///
    /// # Errors
    /// Of the store.
    pub(super) fn page(&self, filter: &Filter, size: usize) -> Result<(Vec<Job>, usize)> {
        let (mut terms, mut values) = (vec![SPILLED.to_owned()], Vec::new());
        let mut term = |text: &str, value: Value| {
            terms.push(text.into());
            values.push(value);
        };
        if let Some(queue) = &filter.queue {
            term("queue = ?", Value::Text(queue.clone()));
        }
        if let Some(kind) = &filter.kind {
            term("kind = ?", Value::Text(kind.clone()));
        }
        if let Some(from) = filter.created_from {
            term("created >= ?", Value::Integer(from.as_micros()));
        }
        if let Some(before) = filter.created_before {
            term("created < ?", Value::Integer(before.as_micros()));
        }
        let matching = terms.join(" AND ");
        let count = format!("SELECT count(*) FROM jobs WHERE {matching}");
        let total: i64 = self.with(|db| {
            db.query_row(&count, params_from_iter(&values), |r| r.get(0))
                .map_err(|e| failure(&e, &self.name))
        })?;
        let mut after = String::new();
        if let Some(id) = filter.after {
            after = " AND id < ?".into();
            values.push(Value::Blob(id.to_bytes().to_vec()));
        }
        let mut jobs = Vec::new();
        let rest = format!("WHERE {matching}{after} ORDER BY id DESC LIMIT {size}");
        self.read(&rest, values, &mut |_, job| {
            jobs.push(job);
            Ok(())
        })?;
        Ok((jobs, usize::try_from(total).unwrap_or(0)))
    }

    /// Calls `each` for the spilled jobs of one lane, in their order.
    ///
    /// # Errors
    /// What `each` returned first; of the store.
    pub(super) fn lane(
        &self,
        queue: &str,
        priority: Priority,
        each: &mut dyn FnMut(i64, Job) -> Result<()>,
    ) -> Result<()> {
        let rest = format!("WHERE {SPILLED} AND queue = ? AND priority = ? ORDER BY row");
        let values = vec![Value::Text(queue.into()), Value::Integer(priority.into())];
        self.read(&rest, values, each)
    }

    /// The lanes that have spilled jobs.
    ///
    /// # Errors
    /// Of the store.
    pub(super) fn lanes(&self) -> Result<Vec<(String, Priority)>> {
        let text = format!("SELECT DISTINCT queue, priority FROM jobs WHERE {SPILLED}");
        self.with(|db| {
            let lanes = db.prepare(&text).and_then(|mut statement| {
                let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            });
            lanes.map_err(|e| failure(&e, &self.name))
        })
    }

    fn read(
        &self,
        rest: &str,
        values: Vec<Value>,
        each: &mut dyn FnMut(i64, Job) -> Result<()>,
    ) -> Result<()> {
        let failed = |e: rusqlite::Error| failure(&e, &self.name);
        self.with(|db| {
            let text = format!("SELECT {} FROM jobs {rest}", row::COLUMNS);
            let mut statement = db.prepare_cached(&text).map_err(failed)?;
            let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
            let mut texts = row::Texts::default();
            while let Some(found) = rows.next().map_err(failed)? {
                let (row, job) = row::read(found, &mut texts)?;
                each(row, job)?;
            }
            Ok(())
        })
    }

    fn with<R>(&self, act: impl FnOnce(&Connection) -> Result<R>) -> Result<R> {
        let mut held = self.db.lock();
        let db = match held.take() {
            Some(db) => db,
            None => Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
                .map_err(|e| failure(&e, &self.name))?,
        };
        let done = act(&db);
        *held = Some(db);
        done
    }
}
