//! Looking at jobs: one, a page, all, counts. Every look is of one instant and holds up nobody.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::Store;
use super::read::located;
use super::tally;
use super::work::Step;
use crate::engine::sql::row::{self, COLUMNS, Texts};
use crate::engine::sql::statements as sql;
use crate::engine::{Located, QueueCounts};
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Filter, Job, Page};

impl Store {
    pub(super) fn find(&self, db: &Connection, id: JobId) -> Step<Option<Job>> {
        let text = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        let mut statement = db.prepare_cached(&text)?;
        let read = |row: &rusqlite::Row<'_>| Ok(row::read(row, &mut Texts::default()));
        let found = statement.query_row([id.to_bytes()], read).optional()?;
        Ok(found.transpose()?.map(|(_, job)| job))
    }

    pub(super) fn locate(&self, db: &Connection, id: JobId) -> Step<Option<Located>> {
        let mut statement = db.prepare_cached(sql::STANDING)?;
        let read = |row: &rusqlite::Row<'_>| Ok(located(row, &self.names));
        statement.query_row([id.to_bytes()], read).optional()?.transpose()
    }

    pub(super) fn page(&self, db: &Connection, filter: &Filter, size: usize) -> Step<Page> {
        let (mut clauses, mut values) = conditions(filter);
        let all = clauses.join(" AND ");
        let count = format!("SELECT count(*) FROM jobs WHERE {all}");
        let whole = db.unchecked_transaction()?;
        let total: i64 = whole
            .prepare_cached(&count)?
            .query_row(params_from_iter(values.iter()), |row| row.get(0))?;
        if let Some(after) = filter.after {
            clauses.push("id < ?".into());
            values.push(Value::Blob(after.to_bytes().to_vec()));
        }
        values.push(Value::Integer(size as i64));
        let all = clauses.join(" AND ");
        let text = format!("SELECT {COLUMNS} FROM jobs WHERE {all} ORDER BY id DESC LIMIT ?");
        let mut statement = whole.prepare_cached(&text)?;
        let mut rows = statement.query(params_from_iter(values.iter()))?;
        let (mut jobs, mut names) = (Vec::new(), Texts::default());
        while let Some(row) = rows.next()? {
            jobs.push(row::read(row, &mut names)?.1);
        }
        Ok(Page {
            jobs,
            total: usize::try_from(total).unwrap_or(0),
        })
    }

    pub(super) fn export_to(&self, db: &Connection, each: &mut dyn FnMut(Job) -> Result<()>) -> Step<()> {
        let whole = db.unchecked_transaction()?;
        let mut names = Texts::default();
        for (state, order) in sql::EXPORT {
            let text = format!("SELECT {COLUMNS} FROM jobs WHERE state = '{state}' ORDER BY {order}");
            let mut statement = whole.prepare_cached(&text)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row::read(row, &mut names)?.1)?;
            }
        }
        Ok(())
    }

    pub(super) fn count(&self, db: &Connection) -> Step<Vec<QueueCounts>> {
        let whole = db.unchecked_transaction()?;
        let mut all: Vec<QueueCounts> = Vec::new();
        let mut statement = whole.prepare_cached(sql::COUNTS)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let queue = self.names.queue(row.get_ref(0)?.as_str().unwrap_or_default())?;
            all.push(tally::read(row, 1, queue)?);
        }
        let mut statement = whole.prepare_cached(sql::ALL_PAUSED)?;
        let mut rows = statement.query([])?;
        let mut paused = Vec::new();
        while let Some(row) = rows.next()? {
            let queue = self.names.queue(&row.get::<_, String>(0)?)?;
            if row.get(1)? {
                paused.push(queue);
            }
        }
        // After the look: a queue that is named later has no jobs in it.
        for (queue, _) in self.names.queues() {
            if !all.iter().any(|c| c.queue == queue) {
                all.push(QueueCounts::new(queue));
            }
        }
        for counts in &mut all {
            counts.paused = paused.contains(&counts.queue);
        }
        all.sort_unstable_by_key(|c| c.queue);
        Ok(all)
    }
}

/// What a filter asks for, but for the page: conditions, and the values in them.
fn conditions(filter: &Filter) -> (Vec<String>, Vec<Value>) {
    let (mut clauses, mut values) = (vec!["1".to_owned()], Vec::new());
    let mut add = |clause: &str, value: Value| {
        clauses.push(clause.to_owned());
        values.push(value);
    };
    if let Some(queue) = &filter.queue {
        add("queue = ?", queue.clone().into());
    }
    if let Some(kind) = &filter.kind {
        add("kind = ?", kind.clone().into());
    }
    if let Some(key) = &filter.key {
        add("key = ?", key.clone().into());
    }
    if let Some(from) = filter.created_from {
        add("created >= ?", from.as_micros().into());
    }
    if let Some(before) = filter.created_before {
        add("created < ?", before.as_micros().into());
    }
    if !filter.states.is_empty() {
        let names: Vec<String> = filter.states.iter().map(|s| format!("'{s}'")).collect();
        clauses.push(format!("state IN ({})", names.join(", ")));
    }
    (clauses, values)
}
