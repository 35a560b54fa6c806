//! Looking for damage in a database: what SQLite says of it, and whether every row is a job.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::Connection;

use super::{Holder, Kind, at_rest, holder};
use crate::dump;
use crate::engine::durable::flight;
use crate::engine::sql::row::{Texts, columns_of, read};
use crate::engine::sql::{failure, schema};
use crate::engine::still::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::Job;
use crate::real::real;

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// The version of the tables, or of the dump.
    pub version: usize,
    /// Jobs that are as they should be.
    pub jobs: u64,
    /// What is wrong, at most [`CheckReport::MOST`] of it.
    pub problems: Vec<String>,
    /// How much more is wrong.
    pub more: u64,
}

impl CheckReport {
    /// How many problems are told one by one.
    pub const MOST: usize = 100;

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, text: String) {
        if self.problems.len() < Self::MOST {
            self.problems.push(text);
        } else {
            self.more += 1;
        }
    }
}

/// Looks for damage in a database or a dump, which may be in use. `progress` hears of the jobs as they are
/// read.
///
/// # Errors
/// As [`inspect`](super::inspect): what can be looked at and is damaged is told of in the report. `AlreadyOpen`
/// if a file that nobody had open is opened meanwhile: then the report might be wrong.
pub fn check(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    match Kind::of(path)? {
        Kind::Dump => check_dump(path, &mut report)?,
        Kind::Database => check_database(path, &mut report, progress)?,
    }
    Ok(report)
}

/// A dump is believed whole or not at all.
fn check_dump(path: &Path, report: &mut CheckReport) -> Result<()> {
    match dump::look(path) {
        Ok((jobs, _)) => {
            report.version = dump::VERSION as usize;
            report.jobs = jobs.len() as u64;
        }
        Err(e) if e.kind() == ErrorKind::Corrupt => report.problem(e.to_string()),
        Err(e) => return Err(e),
    }
    Ok(())
}

fn check_database(path: &Path, report: &mut CheckReport, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let at_rest = at_rest(path);
    let db = rows::open(path, at_rest)?;
    let name = path.display().to_string();
    match schema::check(&db, &name) {
        Ok(version) => report.version = version,
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            report.problem(e.to_string());
            return Ok(());
        }
        Err(e) => return Err(e),
    }
    // Everything below is of one instant, while an owner goes on.
    let failed = |e: rusqlite::Error| failure(&e, &name);
    db.execute_batch("BEGIN").map_err(failed)?;
    for walked in [
        integrity(&db, report),
        jobs(&db, report, progress),
        counts(&db, report),
    ] {
        if let Err(e) = walked {
            report.problem(failure(&e, &name).to_string());
        }
    }
    flight_table(path, report);
    if at_rest && holder(path)? != Holder::Nobody {
        let text = format!("{name:?} was opened by another process meanwhile; check it again");
        return Err(Error::new(ErrorKind::AlreadyOpen, text));
    }
    Ok(())
}

/// What SQLite finds in its pages.
fn integrity(db: &Connection, report: &mut CheckReport) -> rusqlite::Result<()> {
    let mut statement = db.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text != "ok" {
            report.problem(format!("SQLite: {text}"));
        }
    }
    Ok(())
}

/// Whether each row is a job, and no other row is the same job.
fn jobs(db: &Connection, report: &mut CheckReport, progress: &mut dyn FnMut(u64)) -> rusqlite::Result<()> {
    let mut statement = db.prepare(&format!("SELECT {} FROM jobs", columns_of(db)))?;
    let mut rows = statement.query([])?;
    let (mut texts, mut seen, mut walked) = (Texts::default(), HashSet::new(), 0);
    while let Some(row) = rows.next()? {
        walked += 1;
        progress(walked);
        match read(row, &mut texts) {
            Err(e) => report.problem(e.to_string()),
            Ok((number, job)) => match fault(&job, &mut seen) {
                Some(fault) => report.problem(format!("row {number}, job {}: {fault}", job.id)),
                None => report.jobs += 1,
            },
        }
    }
    Ok(())
}

/// What cannot be true of a job.
fn fault(job: &Job, seen: &mut HashSet<JobId>) -> Option<String> {
    if !seen.insert(job.id) {
        return Some("another row has the same id".to_owned());
    }
    if job.state.is_final() != job.finished.is_some() {
        let ended = if job.finished.is_some() {
            "an end"
        } else {
            "no end"
        };
        return Some(format!("it is {} and has {ended}", job.state));
    }
    if job.max_attempts == Some(0) {
        return Some("it may never run: max_attempts is 0".to_owned());
    }
    None
}

/// Whether the pages that count the jobs agree with those that hold them.
fn counts(db: &Connection, report: &mut CheckReport) -> rusqlite::Result<()> {
    let number = |text: &str| db.query_row(text, [], |row| row.get::<_, i64>(0));
    let all = number("SELECT count(*) FROM jobs")?;
    let by_state = number("SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM jobs GROUP BY state)")?;
    if all != by_state {
        report.problem(format!(
            "the table has {all} rows, and {by_state} when they are counted by state"
        ));
    }
    let paused = number("SELECT count(*) FROM queues WHERE paused NOT IN (0, 1)")?;
    if paused > 0 {
        report.problem(format!("{paused} queues are neither paused nor not"));
    }
    Ok(())
}

/// Whether the table of running jobs is one. Without it, or with a broken one, no crash is counted; nothing
/// is lost.
fn flight_table(path: &Path, report: &mut CheckReport) {
    let beside = flight::path(&real(path));
    let Ok(mut file) = File::open(&beside) else {
        return;
    };
    let len = file.metadata().map_or(0, |about| about.len());
    let mut first = [0; 8];
    let magic = file
        .read_exact(&mut first)
        .map(|()| u64::from_ne_bytes(first))
        .unwrap_or(0);
    if len != flight::SIZE || ![0, flight::MAGIC].contains(&magic) {
        let text = format!("{beside:?} is no table of running jobs; it is made anew when the file is opened");
        report.problem(text);
    }
}
