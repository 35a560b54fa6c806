//! Saving what is left of a damaged database: every job that can still be read goes into a new one.
//!
//! The table is walked in the order of its rows. Where a page cannot be read, the walk looks for the next row
//! behind it that can: one by one at first, then farther and farther, and by halves for the first of those it
//! finds. What is on a lost page is not guessed at.
//!
//! Not supported: a file whose first page, or whose root page of the table, is lost. What is left of it is for
//! tools that read single pages, as the `.recover` of SQLite's shell.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::{Holder, Kind, at_rest, holder};
use crate::engine::sql::row::{COLUMNS, Holder as Worker, Texts, bind, columns_of, read};
use crate::engine::sql::{failure, schema};
use crate::engine::still::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::job::Job;

/// How many rows behind a lost one are looked at one by one.
const NEAR: i64 = 4096;

/// What was saved.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Jobs that are in the new file.
    pub jobs: u64,
    /// Rows that could be read and are no job: they are not in the new file.
    pub damaged: u64,
    /// Stretches of the table that could not be read, with as many rows as there were between.
    pub gaps: u64,
    /// What was lost, at most [`SalvageReport::MOST`] of it.
    pub losses: Vec<String>,
}

impl SalvageReport {
    /// How many losses are told one by one.
    pub const MOST: usize = 100;

    /// Whether everything is in the new file.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damaged == 0 && self.gaps == 0 && self.losses.is_empty()
    }

    fn lost(&mut self, text: String) {
        if self.losses.len() < Self::MOST {
            self.losses.push(text);
        }
    }
}

/// Copies every job that can be read from a database that nobody has open into a new one. `progress` hears of
/// the jobs as they are saved.
///
/// # Errors
/// `AlreadyOpen` if a process has the file, or the new one is there; `Unsupported` for a dump; as
/// [`inspect`](super::inspect) otherwise; of the new file, of which nothing is left then.
pub fn salvage(from: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<SalvageReport> {
    if Kind::of(from)? == Kind::Dump {
        let text = format!("{from:?} is a dump: lines of text, of which each is a job; edit it instead");
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    if holder(from)? != Holder::Nobody {
        let text = format!("{from:?} is in use; stop the processes that have it open first");
        return Err(Error::new(ErrorKind::AlreadyOpen, text));
    }
    let (old, name) = (rows::open(from, at_rest(from))?, from.display().to_string());
    schema::check(&old, &name)?;
    let mut new = make(to)?;
    let saved = copy(&old, &mut new, to, progress);
    drop(new);
    if saved.is_err() {
        // It is ours, and of no use.
        let _ = std::fs::remove_file(to);
    }
    saved
}

/// A new database with the tables of today, for its owner only.
fn make(to: &Path) -> Result<Connection> {
    let name = to.display().to_string();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(to).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let text = format!("{to:?} is there already; give the path of a new file");
            Error::new(ErrorKind::AlreadyOpen, text)
        }
        _ => Error::new(ErrorKind::Storage, format!("cannot make {to:?}")).caused_by(e),
    })?;
    let mut db = Connection::open(to).map_err(|e| failure(&e, &name))?;
    schema::migrate(&mut db, &name)?;
    Ok(db)
}

fn copy(
    old: &Connection,
    new: &mut Connection,
    to: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<SalvageReport> {
    let name = to.display().to_string();
    let failed = |e: rusqlite::Error| failure(&e, &name);
    let transaction = new.transaction().map_err(failed)?;
    let mut report = SalvageReport::default();
    let mut copy = Copy {
        old,
        new: &transaction,
        name: &name,
        texts: Texts::default(),
        seen: HashSet::new(),
        taken: HashSet::new(),
        last: 0,
        report: &mut report,
        progress,
    };
    copy.jobs()?;
    copy.queues()?;
    copy.deaths()?;
    transaction.commit().map_err(failed)?;
    Ok(report)
}

/// A copy under way.
struct Copy<'c> {
    old: &'c Connection,
    new: &'c Connection,
    name: &'c str,
    texts: Texts,
    seen: HashSet<crate::JobId>,
    /// The numbers that were given, and one behind which most are free.
    taken: HashSet<i64>,
    last: i64,
    report: &'c mut SalvageReport,
    progress: &'c mut dyn FnMut(u64),
}

/// A stretch of the table that was read up to here, and why not farther.
struct Stretch {
    /// The last row that could be read.
    last: i64,
    end: std::result::Result<(), rusqlite::Error>,
}

impl Copy<'_> {
    fn jobs(&mut self) -> Result<()> {
        let mut from = i64::MIN;
        loop {
            let stretch = self.stretch(from)?;
            let Err(e) = stretch.end else {
                return Ok(());
            };
            let next = self.next_readable(stretch.last);
            self.report.gaps += 1;
            self.report.lost(match next {
                Some(next) => format!("rows {} to {}: {e}", stretch.last.saturating_add(1), next - 1),
                None => format!("every row from {}: {e}", stretch.last.saturating_add(1)),
            });
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Copies from this row on, as far as rows can be read.
    fn stretch(&mut self, from: i64) -> Result<Stretch> {
        let mut last = from.saturating_sub(1);
        let text = format!(
            "SELECT {} FROM jobs WHERE row >= ?1 ORDER BY row",
            columns_of(self.old)
        );
        let mut statement = match self.old.prepare(&text) {
            Ok(statement) => statement,
            Err(e) => return Ok(Stretch { last, end: Err(e) }),
        };
        let mut rows = match statement.query([from]) {
            Ok(rows) => rows,
            Err(e) => return Ok(Stretch { last, end: Err(e) }),
        };
        loop {
            match rows.next() {
                Err(e) => return Ok(Stretch { last, end: Err(e) }),
                Ok(None) => return Ok(Stretch { last, end: Ok(()) }),
                Ok(Some(row)) => {
                    last = row.get(0).unwrap_or(last);
                    match read(row, &mut self.texts) {
                        Ok((number, mut job)) => {
                            self.mend(number, &mut job);
                            self.save(number, &job)?;
                        }
                        Err(e) => {
                            self.report.damaged += 1;
                            self.report.lost(e.to_string());
                        }
                    }
                }
            }
        }
    }

    fn save(&mut self, number: i64, job: &Job) -> Result<()> {
        if !self.seen.insert(job.id) {
            self.report.damaged += 1;
            self.report
                .lost(format!("row {number}: another row has the same id, {}", job.id));
            return Ok(());
        }
        let number = self.place(number, job);
        let marks = COLUMNS.split(", ").map(|_| "?").collect::<Vec<_>>().join(", ");
        let text = format!("INSERT INTO jobs ({COLUMNS}) VALUES ({marks})");
        let mut insert = self
            .new
            .prepare_cached(&text)
            .map_err(|e| failure(&e, self.name))?;
        bind(&mut insert, number, job, Worker::default())?;
        insert.raw_execute().map_err(|e| failure(&e, self.name))?;
        self.report.jobs += 1;
        (self.progress)(self.report.jobs);
        Ok(())
    }

    /// Makes true what cannot be true of a job, so that nothing is wrong with the new file. Its state is believed.
    fn mend(&mut self, number: i64, job: &mut Job) {
        let is_over = job.state.is_final();
        if is_over != job.finished.is_some() {
            job.finished = is_over.then_some(job.run_at);
            let text = format!("row {number}, job {}: when it ended, if it did", job.id);
            self.report.lost(text);
        }
        if job.max_attempts == Some(0) {
            job.max_attempts = None;
            let text = format!("row {number}, job {}: how often it may run", job.id);
            self.report.lost(text);
        }
    }

    /// The number of a job in the new file. Where damage gave a number to two rows, the second comes last.
    fn place(&mut self, number: i64, job: &Job) -> i64 {
        if self.taken.insert(number) {
            self.last = self.last.max(number);
            return number;
        }
        let text = format!(
            "row {number}, job {}: another row has its number; it comes last",
            job.id
        );
        self.report.lost(text);
        // Numbers begin at 1, and none can be so high that there is none behind it but by damage.
        self.last = self.last.saturating_add(1);
        while !self.taken.insert(self.last) {
            self.last = self.last.wrapping_add(1).max(1);
        }
        self.last
    }

    /// The first row behind this one that can be read, with all that it holds.
    fn next_readable(&self, last: i64) -> Option<i64> {
        // Rows are numbered from 1, and a page has few of them: what is near is looked at row by row.
        let start = last.max(0);
        let (mut bad, mut good, mut step) = (start, None, 1_i64);
        while good.is_none() {
            let at = bad.checked_add(step)?;
            match self.first_from(at) {
                Ok(_) => good = Some(at),
                Err(_) => bad = at,
            }
            if at - start > NEAR {
                step = step.checked_mul(2)?;
            }
        }
        let mut good = good?;
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            match self.first_from(middle) {
                Ok(_) => good = middle,
                Err(_) => bad = middle,
            }
        }
        self.first_from(good).ok().flatten()
    }

    /// The first row from this one on, if what is there can be read.
    fn first_from(&self, row: i64) -> rusqlite::Result<Option<i64>> {
        let text = format!(
            "SELECT {} FROM jobs WHERE row >= ?1 ORDER BY row LIMIT 1",
            columns_of(self.old)
        );
        self.old.query_row(&text, [row], |row| row.get(0)).optional()
    }

    /// Which queues are paused. A table that cannot be read loses that alone.
    fn queues(&mut self) -> Result<()> {
        let mut paused: Vec<String> = Vec::new();
        let read = self
            .old
            .prepare("SELECT name FROM queues WHERE paused <> 0")
            .and_then(|mut statement| {
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    paused.push(row.get(0)?);
                }
                Ok(())
            });
        if let Err(e) = read {
            self.report.lost(format!("which queues are paused: {e}"));
        }
        for queue in paused {
            let text = "INSERT OR IGNORE INTO queues (name, paused) VALUES (?1, 1)";
            self.new
                .execute(text, [queue])
                .map_err(|e| failure(&e, self.name))?;
        }
        Ok(())
    }

    /// How many runs did not end well, with one more for this: no fence that a lost row had is given again.
    fn deaths(&mut self) -> Result<()> {
        let text = "SELECT value FROM meta WHERE name = 'deaths'";
        let deaths = self
            .old
            .query_row(text, [], |row| row.get::<_, String>(0))
            .optional();
        let deaths: u64 = match deaths {
            Ok(text) => text.and_then(|text| text.parse().ok()).unwrap_or(0),
            Err(e) => {
                self.report.lost(format!("how often the process died: {e}"));
                0
            }
        };
        let text = "INSERT INTO meta (name, value) VALUES ('deaths', ?1)";
        let written = self.new.execute(text, [(deaths + 1).to_string()]);
        written.map(drop).map_err(|e| failure(&e, self.name))
    }
}
