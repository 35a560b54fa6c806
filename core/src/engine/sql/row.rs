//! A job as a row of the table `jobs`, and back.
//!
//! Times are microseconds since 1970, an id is its sixteen bytes, lists are JSON. Payloads and results are
//! the bytes that were given, whatever they are.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{Null, ToSql};
use rusqlite::{Connection, Row, Statement};

use crate::error::{Error, ErrorKind, Result};
use crate::history::{LineAttempt, failure};
use crate::id::JobId;
use crate::job::{Attempt, Extras, Job, State, Token};
use crate::payload::{Encoded, Payload};
use crate::planted::{Bug, planted};
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

/// The same as [`COLUMNS`], to be part of a longer constant.
macro_rules! columns {
    () => {
        "row, id, queue, kind, state, priority, run_at, created, attempt, \
     max_attempts, fence, crashes, cancel_requested, started, finished, lease_until, deadline, timeout, key, \
     fingerprint, retry, headers, waits, node, worker, payload, content_type, result, result_type, error, \
     error_kind, history, concurrency_key"
    };
}
pub(crate) use columns;

/// Every column, in the order in which [`bind`] gives and [`read`] takes them.
pub(crate) const COLUMNS: &str = columns!();

/// The same for a file that is only read, and may have the tables of an older version.
pub(crate) fn columns_of(db: &Connection) -> Cow<'static, str> {
    let known = "SELECT 1 FROM pragma_table_info('jobs') WHERE name = 'concurrency_key'";
    match db.query_row(known, [], |_| Ok(())) {
        // Of a table that cannot be read, whoever reads it will hear.
        Err(rusqlite::Error::QueryReturnedNoRows) => COLUMNS.replace("concurrency_key", "NULL").into(),
        _ => COLUMNS.into(),
    }
}

/// Who runs a job, or ran it last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Holder<'a> {
    pub(crate) node: Option<&'a str>,
    pub(crate) worker: u32,
}

/// Gives a statement with one parameter per column its values.
///
/// # Errors
/// `Encode` for a payload that the host cannot encode; of SQLite.
pub(crate) fn bind(statement: &mut Statement<'_>, row: i64, job: &Job, holder: Holder<'_>) -> Result<()> {
    let mut to = Binder { statement, next: 1 };
    let extras = job.extras.as_deref();
    to.put(row)?;
    to.put(job.id.to_bytes().as_slice())?;
    to.put(&*job.queue)?;
    to.put(&*job.kind)?;
    to.put(job.state.name())?;
    to.put(job.priority)?;
    to.put(job.run_at.as_micros())?;
    to.put(job.created.as_micros())?;
    to.put(job.attempt)?;
    to.put(job.max_attempts)?;
    to.put(number(job.fence))?;
    to.put(job.crashes)?;
    to.put(job.cancel_requested)?;
    to.put(job.started.map(Timestamp::as_micros))?;
    to.put(job.finished.map(Timestamp::as_micros))?;
    to.put(job.lease_until.map(Timestamp::as_micros))?;
    to.put(job.deadline.map(Timestamp::as_micros))?;
    to.put(
        job.timeout
            .map(|t| i64::try_from(t.as_micros()).unwrap_or(i64::MAX)),
    )?;
    to.put(job.key())?;
    // A fingerprint is 64 bits, and SQLite's numbers have a sign: only the bits count.
    to.put(extras.filter(|e| e.key.is_some()).map(|e| e.fingerprint as i64))?;
    to.put(extras.and_then(|e| e.retry).map(|r| r.to_string()))?;
    to.put(list(job.headers())?)?;
    to.put(list(&job.waits.iter().map(|t| &**t).collect::<Vec<&str>>())?)?;
    to.put(holder.node)?;
    to.put(holder.node.map(|_| holder.worker))?;
    let has_payload = !matches!(job.state, State::Succeeded | State::Shed);
    to.content(Some(&job.payload).filter(|_| has_payload))?;
    to.content(job.result.as_ref())?;
    to.put(job.error.as_ref().map(|e| &*e.message))?;
    to.put(job.error.as_ref().map(|e| e.kind.name()))?;
    to.put(list(
        &job.history.iter().map(LineAttempt::from).collect::<Vec<_>>(),
    )?)?;
    to.put(job.concurrency_key())
}

/// The parameters of a statement, one after the other.
struct Binder<'a, 's> {
    statement: &'a mut Statement<'s>,
    next: usize,
}

impl Binder<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> Result<()> {
        let bound = self.statement.raw_bind_parameter(self.next, value);
        self.next += 1;
        bound.map_err(|e| Error::new(ErrorKind::Storage, "cannot give a row its values").caused_by(e))
    }

    fn content(&mut self, content: Option<&Payload>) -> Result<()> {
        let Some(content) = content else {
            self.put(Null)?;
            return self.put(Null);
        };
        if let (Some(bytes), Some(kind)) = (content.as_bytes(), content.content_type()) {
            let end = bytes.len().saturating_sub(usize::from(planted(Bug::PayloadCut)));
            self.put(&bytes[..end])?;
            return self.put(kind);
        }
        let encoded = content.encode()?;
        self.put(&*encoded.bytes)?;
        self.put(&*encoded.content_type)
    }
}

/// A list as JSON; nothing for an empty one.
pub(crate) fn list<T: serde::Serialize>(items: &[T]) -> Result<Option<String>> {
    if items.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(items);
    text.map(Some)
        .map_err(|e| Error::new(ErrorKind::Encode, "cannot write a list as JSON").caused_by(e))
}

/// As far as a database's numbers go.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The number and the job of a row with every column.
///
/// # Errors
/// `Corrupt`, with the row, for what no job can be.
pub(crate) fn read(row: &Row<'_>, names: &mut Texts) -> Result<(i64, Job)> {
    let number: i64 = row.get(0).map_err(|e| bad(0, "row", e))?;
    job(row, names)
        .map(|job| (number, job))
        .map_err(|e| Error::new(ErrorKind::Corrupt, format!("row {number} of jobs is damaged")).caused_by(e))
}

fn job(row: &Row<'_>, names: &mut Texts) -> Result<Job> {
    let from = Reader { row };
    let state: String = from.get(4, "state")?;
    let id: Vec<u8> = from.get(1, "id")?;
    let id = <[u8; 16]>::try_from(id).map_err(|_| Error::invalid("the id has not 16 bytes"))?;
    let error_kind: Option<String> = from.get(30, "error_kind")?;
    let error: Option<String> = from.get(29, "error")?;
    Ok(Job {
        id: JobId::from_bytes(id),
        queue: names.shared(&from.get::<String>(2, "queue")?, "queue")?,
        kind: names.shared(&from.get::<String>(3, "kind")?, "kind")?,
        payload: from.content(25)?.unwrap_or_default(),
        state: State::from_name(&state).ok_or_else(|| Error::invalid(format!("state {state:?}")))?,
        priority: from.get(5, "priority")?,
        attempt: from.get(8, "attempt")?,
        max_attempts: from.get(9, "max_attempts")?,
        crashes: from.get(11, "crashes")?,
        fence: from.get::<i64>(10, "fence")?.unsigned_abs(),
        created: from.time(7, "created")?.unwrap_or(Timestamp::EPOCH),
        run_at: from.time(6, "run_at")?.unwrap_or(Timestamp::EPOCH),
        started: from.time(13, "started")?,
        finished: from.time(14, "finished")?,
        deadline: from.time(16, "deadline")?,
        timeout: from
            .get::<Option<i64>>(17, "timeout")?
            .map(|us| Duration::from_micros(us.unsigned_abs())),
        lease_until: from.time(15, "lease_until")?,
        extras: from.extras()?.map(Arc::new),
        waits: from
            .list::<String>(22, "waits")?
            .into_iter()
            .map(Token::from)
            .collect(),
        cancel_requested: from.get(12, "cancel_requested")?,
        result: from.content(27)?,
        error: match error_kind {
            Some(kind) => Some(failure(&kind, error.unwrap_or_default())?),
            None => None,
        },
        history: from.history()?,
    })
}

/// The columns of a row.
struct Reader<'a, 'r> {
    row: &'a Row<'r>,
}

impl Reader<'_, '_> {
    fn get<T: rusqlite::types::FromSql>(&self, at: usize, name: &str) -> Result<T> {
        self.row.get(at).map_err(|e| bad(at, name, e))
    }

    fn time(&self, at: usize, name: &str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(at, name)?.map(Timestamp::from_micros))
    }

    fn list<T: serde::de::DeserializeOwned>(&self, at: usize, name: &str) -> Result<Vec<T>> {
        match self.get::<Option<String>>(at, name)? {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str(&text).map_err(|e| bad(at, name, e)),
        }
    }

    /// The attempts. Of a job that succeeded at once, which most do, none is written: the rest of the row tells
    /// of it.
    fn history(&self) -> Result<Vec<Attempt>> {
        if let Some(text) = self.get::<Option<String>>(31, "history")? {
            let lines: Vec<LineAttempt> = serde_json::from_str(&text).map_err(|e| bad(31, "history", e))?;
            return lines.into_iter().map(LineAttempt::read).collect();
        }
        let (started, ended) = (self.time(13, "started")?, self.time(14, "finished")?);
        let succeeded = self.get::<String>(4, "state")? == State::Succeeded.name();
        let (Some(started), Some(ended), true) = (started, ended, succeeded) else {
            return Ok(Vec::new());
        };
        Ok(vec![Attempt {
            number: self.get(8, "attempt")?,
            node: self.get::<Option<String>>(23, "node")?.unwrap_or_default().into(),
            worker: self.get::<Option<u32>>(24, "worker")?.unwrap_or(0),
            started,
            ended,
            failure: None,
        }])
    }

    /// The bytes in this column, of the type in the next.
    fn content(&self, at: usize) -> Result<Option<Payload>> {
        let Some(bytes) = self.get::<Option<Vec<u8>>>(at, "content")? else {
            return Ok(None);
        };
        let content_type: Option<String> = self.get(at + 1, "content type")?;
        Ok(Some(Payload::encoded(Encoded {
            bytes: bytes.into(),
            content_type: content_type.map_or(Cow::Borrowed(crate::payload::OCTETS), Cow::Owned),
        })))
    }

    fn extras(&self) -> Result<Option<Extras>> {
        let retry: Option<String> = self.get(20, "retry")?;
        let extras = Extras {
            key: self.get::<Option<String>>(18, "key")?.map(String::into_boxed_str),
            fingerprint: self.get::<Option<i64>>(19, "fingerprint")?.unwrap_or(0) as u64,
            concurrency_key: self
                .get::<Option<String>>(32, "concurrency_key")?
                .map(String::into_boxed_str),
            retry: retry.as_deref().map(RetryPolicy::parse).transpose()?,
            headers: self.list(21, "headers")?,
        };
        Ok((extras != Extras::default()).then_some(extras))
    }
}

fn bad(at: usize, name: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("column {at} ({name})")).caused_by(cause.to_string())
}

/// Names that rows have in common, each kept once.
#[derive(Debug, Default)]
pub(crate) struct Texts(std::collections::HashSet<Arc<str>>);

impl Texts {
    fn shared(&mut self, name: &str, what: &str) -> Result<Arc<str>> {
        if let Some(known) = self.0.get(name) {
            return Ok(known.clone());
        }
        crate::names::check_name(name, what)?;
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sql::schema;
    use crate::outcome::{Failure, FailureKind};
    use rusqlite::Connection;

    fn full() -> Job {
        let at = |us| Some(Timestamp::from_micros(us));
        let failure = Failure::new(FailureKind::Error, "it said \0 no \u{1b}[31m");
        Job {
            id: JobId::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            queue: "q'; DROP TABLE jobs".into(),
            kind: "k %s {} \u{e9}".into(),
            payload: Payload::from(b"\0\xff bytes".as_slice()),
            state: State::Failed,
            priority: -128,
            attempt: 3,
            max_attempts: Some(u32::MAX),
            crashes: 2,
            fence: 1 << 60,
            created: Timestamp::from_micros(-5),
            run_at: Timestamp::from_micros(i64::MAX),
            started: at(7),
            finished: at(8),
            deadline: at(9),
            timeout: Some(Duration::from_micros(11)),
            lease_until: at(12),
            extras: Some(Arc::new(Extras {
                key: Some("a key".into()),
                fingerprint: u64::MAX,
                concurrency_key: Some("tenant 7".into()),
                retry: Some(RetryPolicy::DEFAULT),
                headers: vec![("h".into(), "\"v\"".into())],
            })),
            waits: vec!["one".into(), "two".into()],
            cancel_requested: true,
            result: Some(Payload::bytes(vec![b'x'; 1000].into(), "application/x-own")),
            error: Some(failure.clone()),
            history: vec![Attempt {
                number: 3,
                node: "n".into(),
                worker: 4,
                started: Timestamp::from_micros(7),
                ended: Timestamp::from_micros(8),
                failure: Some(failure),
            }],
        }
    }

    fn round_trip(job: &Job) -> Job {
        let mut db = Connection::open_in_memory().unwrap();
        schema::migrate(&mut db, "x").unwrap();
        let marks = COLUMNS.split(", ").map(|_| "?").collect::<Vec<_>>().join(", ");
        let mut statement = db
            .prepare(&format!("INSERT INTO jobs ({COLUMNS}) VALUES ({marks})"))
            .unwrap();
        bind(&mut statement, 17, job, Holder::default()).unwrap();
        statement.raw_execute().unwrap();
        let mut names = Texts::default();
        let text = format!("SELECT {COLUMNS} FROM jobs");
        let (row, job) = db
            .query_row(&text, [], |row| Ok(read(row, &mut names).unwrap()))
            .unwrap();
        assert_eq!(row, 17);
        job
    }

    #[test]
    fn a_job_comes_back_as_it_was() {
        let job = full();
        assert_eq!(format!("{:?}", round_trip(&job)), format!("{job:?}"));
        let plain = Job {
            extras: None,
            waits: Vec::new(),
            history: Vec::new(),
            error: None,
            result: None,
            started: None,
            max_attempts: None,
            payload: Payload::empty(),
            state: State::Queued,
            ..full()
        };
        assert_eq!(format!("{:?}", round_trip(&plain)), format!("{plain:?}"));
    }

    #[test]
    fn a_damaged_row_is_named() {
        let mut db = Connection::open_in_memory().unwrap();
        schema::migrate(&mut db, "x").unwrap();
        db.execute_batch(
            "INSERT INTO jobs (row, id, queue, kind, state, priority, run_at, created, attempt, fence, \
             crashes, cancel_requested) VALUES (5, x'00', 'q', 'k', 'queued', 0, 0, 0, 0, 0, 0, 0)",
        )
        .unwrap();
        let text = format!("SELECT {COLUMNS} FROM jobs");
        let error = db
            .query_row(&text, [], |row| Ok(read(row, &mut Texts::default()).unwrap_err()))
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error.to_string().contains("row 5") && error.to_string().contains("16 bytes"),
            "{error}"
        );
    }
}
