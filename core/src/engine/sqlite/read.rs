//! Parts of rows as values of ours.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::Row;

use super::work::{Fault, Step};
use crate::JSON;
use crate::engine::{Handle, JobRef, Located};
use crate::error::{Error, ErrorKind};
use crate::id::JobId;
use crate::job::{Extras, State};
use crate::names::Names;
use crate::payload::{OCTETS, Payload};
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

/// The bytes in this column, of the type in the next.
pub(super) fn payload(row: &Row<'_>, at: usize) -> Step<Option<Payload>> {
    let damaged = |e: rusqlite::types::FromSqlError| damaged(format!("column {at}: {e}"));
    let Some(bytes) = row.get_ref(at)?.as_blob_or_null().map_err(damaged)? else {
        return Ok(None);
    };
    let content_type = row.get_ref(at + 1)?.as_str_or_null().map_err(damaged)?;
    let known = [OCTETS, JSON, "text/plain"];
    let content_type = match content_type {
        None => Cow::Borrowed(OCTETS),
        Some(text) => match known.into_iter().find(|known| *known == text) {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(text.to_owned()),
        },
    };
    Ok(Some(Payload::copy(bytes, content_type, usize::MAX)?))
}

/// Key, fingerprint, retry policy, headers and concurrency key, in this order from this column on.
pub(super) fn extras(row: &Row<'_>, at: usize) -> Step<Option<Extras>> {
    let key: Option<String> = row.get(at)?;
    let retry: Option<String> = row.get(at + 2)?;
    let headers: Option<String> = row.get(at + 3)?;
    let concurrency_key: Option<String> = row.get(at + 4)?;
    if key.is_none() && retry.is_none() && headers.is_none() && concurrency_key.is_none() {
        return Ok(None);
    }
    let headers = headers.map(|text| serde_json::from_str(&text)).transpose();
    Ok(Some(Extras {
        key: key.map(String::into_boxed_str),
        fingerprint: row.get::<_, Option<i64>>(at + 1)?.unwrap_or(0) as u64,
        concurrency_key: concurrency_key.map(String::into_boxed_str),
        retry: retry.as_deref().map(RetryPolicy::parse).transpose()?,
        headers: headers
            .map_err(|e| damaged(format!("headers: {e}")))?
            .unwrap_or_default(),
    }))
}

/// The state in this column.
pub(super) fn state(row: &Row<'_>, at: usize) -> Step<State> {
    let text = row
        .get_ref(at)?
        .as_str()
        .map_err(|e| damaged(format!("state: {e}")))?;
    State::from_name(text).ok_or_else(|| damaged(format!("state {text:?}")))
}

/// Where the job stands of a row that begins like [`STANDING`](crate::engine::sql::statements::STANDING).
pub(super) fn located(row: &Row<'_>, names: &Names) -> Step<Located> {
    let state = state(row, 5)?;
    let started: Option<i64> = row.get(9)?;
    Ok(Located {
        job: JobRef {
            id: JobId::from_bytes(row.get(1)?),
            handle: Handle(row.get::<_, i64>(0)? as u64),
            fence: row.get::<_, i64>(2)?.unsigned_abs(),
        },
        queue: names.queue(&row.get::<_, String>(3)?)?,
        kind: names.kind(&row.get::<_, String>(4)?)?,
        state,
        attempt: row.get(6)?,
        max_attempts: row.get::<_, Option<u32>>(7)?.unwrap_or(0),
        cancel_requested: row.get(8)?,
        started: started
            .filter(|_| state == State::Running)
            .map(Timestamp::from_micros),
        extras: extras(row, 10)?.map(Arc::new),
    })
}

/// An instant of a row; the end of time for none.
pub(super) fn or_never(at: Option<i64>) -> Timestamp {
    at.map_or(Timestamp::MAX, Timestamp::from_micros)
}

/// A row that no job can have.
pub(super) fn damaged(what: String) -> Fault {
    Fault::Other(Error::new(
        ErrorKind::Corrupt,
        format!("a row of jobs is damaged: {what}"),
    ))
}
