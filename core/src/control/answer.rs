//! The answer to a request: what it says is done by the dispatcher, what comes of it is told as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Input, Listing, Part, Request};
use crate::dispatcher::Dispatcher;
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Filter, Job, State};
use crate::payload::{Encoded, Payload};
use crate::time::Timestamp;

/// What is known when an answer is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Done {
    /// How many jobs match in all, if the request was for a page of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
}

/// How each line of an answer leaves: a JSON object.
pub type Each<'e> = dyn FnMut(&str) -> Result<()> + 'e;

/// How many bytes of a payload one line holds.
const PIECE: usize = 48 * 1024;

/// Does what a request asks for, and tells `each` line of the answer; `input` is what the request announced.
///
/// # Errors
/// `Invalid` for a request that cannot be; `NotFound` for a job or a queue that is not there; what the
/// dispatcher's method answers; what `each` returned first.
///
/// ```
/// use forebay::control::{Request, answer};
/// let d = forebay::Dispatcher::in_memory()?;
/// d.push(forebay::NewJob::new("mail", b"hello"))?;
/// let mut lines = Vec::new();
/// answer(&d, &Request::Stats {}, Default::default(), &mut |line| {
///     lines.push(line.to_owned());
///     Ok(())
/// })?;
/// assert!(lines[0].contains(r#""queued":1"#));
/// # Ok::<(), forebay::Error>(())
/// ```
pub fn answer(d: &Dispatcher, request: &Request, input: Bytes, each: &mut Each<'_>) -> Result<Done> {
    match request {
        Request::About {} => each(&about(d))?,
        Request::Stats {} => each(&d.stats()?.to_json())?,
        Request::List(listing) => return list(d, listing, each),
        Request::Show { id } => each(&d.get(id.parse()?)?.to_json())?,
        Request::Bytes { id, of, most } => bytes(&d.get(id.parse()?)?, *of, *most, each)?,
        Request::Explain { what } => each(&explain(d, what)?)?,
        Request::Retry { id, input: announced } => {
            each(&retry(d, id.parse()?, announced.as_ref(), input)?)?;
        }
        Request::Cancel { id } => {
            let state = d.cancel(id.parse()?)?;
            each(&json!({"id": id, "state": state.name()}).to_string())?;
        }
        Request::Pause { queue } => each(&pause(d, queue, true)?)?,
        Request::Resume { queue } => each(&pause(d, queue, false)?)?,
        Request::Purge { queue } => {
            known(d, queue)?;
            each(&json!({"queue": queue, "purged": d.purge(queue)?}).to_string())?;
        }
        Request::Dump { path } => {
            each(&json!({"path": path, "jobs": d.dump(path)?.jobs}).to_string())?;
        }
        Request::Restore { path } => {
            let report = d.restore(path)?;
            let (jobs, known, conflicts) = (report.jobs, report.known, report.conflicts);
            let text = json!({"path": path, "jobs": jobs, "known": known, "conflicts": conflicts});
            each(&text.to_string())?;
        }
    }
    Ok(Done::default())
}

fn about(d: &Dispatcher) -> String {
    let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION"));
    json!({"pid": pid, "version": version, "engine": d.engine_name(), "node": d.node()}).to_string()
}

fn list(d: &Dispatcher, listing: &Listing, each: &mut Each<'_>) -> Result<Done> {
    let page = d.list(&filter(listing)?)?;
    page.jobs.iter().try_for_each(|job| each(&job.to_json()))?;
    Ok(Done {
        total: Some(page.total),
    })
}

fn filter(listing: &Listing) -> Result<Filter> {
    let state = |name: &String| {
        let state = State::from_name(name);
        state.ok_or_else(|| {
            let names: Vec<&str> = State::ALL.iter().map(|s| s.name()).collect();
            Error::invalid(format!("{name:?} is no state; there are {}", names.join(", ")))
        })
    };
    Ok(Filter {
        queue: listing.queue.clone(),
        kind: listing.kind.clone(),
        states: listing.states.iter().map(state).collect::<Result<_>>()?,
        key: listing.key.clone(),
        created_from: listing.created_from_us.map(Timestamp::from_micros),
        created_before: listing.created_before_us.map(Timestamp::from_micros),
        after: listing.after.as_deref().map(str::parse).transpose()?,
        limit: listing.limit,
    })
}

fn bytes(job: &Job, of: Part, most: Option<usize>, each: &mut Each<'_>) -> Result<()> {
    let payload = match of {
        Part::Input if !job.state.keeps_payload() => None,
        Part::Input => Some(&job.payload),
        Part::Result => job.result.as_ref(),
    };
    let Some(payload) = payload else {
        let (id, state) = (job.id, job.state);
        let text = match of {
            Part::Input => format!("the input of job {id} is no longer kept, as the job has {state}"),
            Part::Result => format!("job {id} has no result, as it is {state}"),
        };
        return Err(Error::new(ErrorKind::NotFound, text));
    };
    let Encoded { bytes, content_type } = payload.encode()?;
    each(&json!({"len": bytes.len(), "content_type": content_type}).to_string())?;
    let shown = bytes.len().min(most.unwrap_or(usize::MAX));
    bytes[..shown]
        .chunks(PIECE)
        .try_for_each(|piece| each(&json!({"base64": BASE64.encode(piece)}).to_string()))
}

/// A queue may have a name like an id: what is not the id of a job is looked up as a queue.
fn explain(d: &Dispatcher, what: &str) -> Result<String> {
    if let Ok(id) = what.parse::<JobId>() {
        match d.explain(id) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return d.explain_queue(what).map(|q| q.to_json()).map_err(|_| e);
            }
            explained => return explained.map(|e| e.to_json()),
        }
    }
    d.explain_queue(what).map(|q| q.to_json())
}

fn retry(d: &Dispatcher, id: JobId, announced: Option<&Input>, input: Bytes) -> Result<String> {
    let input = announced.map(|announced| {
        Payload::encoded(Encoded {
            bytes: input,
            content_type: announced.content_type.clone().into(),
        })
    });
    let again = d.retry(id, input)?;
    let (new, created, state) = (again.id.to_string(), again.created, d.state(again.id)?.name());
    Ok(json!({"id": new, "retry_of": id.to_string(), "created": created, "state": state}).to_string())
}

fn pause(d: &Dispatcher, queue: &str, paused: bool) -> Result<String> {
    known(d, queue)?;
    if paused { d.pause(queue) } else { d.resume(queue) }?;
    Ok(json!({"queue": queue, "paused": paused}).to_string())
}

/// A name that nobody has used is more likely a slip than a queue of tomorrow.
fn known(d: &Dispatcher, queue: &str) -> Result<()> {
    match d.stats()?.queue(queue) {
        Some(_) => Ok(()),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no queue {queue:?}"),
        )),
    }
}
