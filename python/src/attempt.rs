//! The job as its handler sees it.

use std::sync::Arc;

use forebay::{
    Deadline, Error, ErrorKind, Inside, JobId, Lease, Payload, Priority, StopReason, Ticket, Timestamp,
};
use parking_lot::RwLock;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{OrRaise, guard, raise};
use crate::shared::Shared;
use crate::{patience, read, value};

/// One attempt of a job, for handlers registered with `pass_job=True`.
///
/// What it tells stays readable after the attempt; only `check` and `extend` need it to go on.
#[pyclass(frozen, subclass, module = "forebay")]
pub struct Job {
    id: JobId,
    queue: Arc<str>,
    pub kind: Arc<str>,
    attempt: u32,
    max_attempts: u32,
    priority: Priority,
    fence: u64,
    created: Timestamp,
    due: Option<Timestamp>,
    key: Option<String>,
    concurrency_key: Option<String>,
    headers: Vec<(String, String)>,
    pub payload: Payload,
    /// Held while the attempt runs. Never locked for writing while anything of Python runs.
    lease: RwLock<Option<Lent>>,
}

/// What an attempt has while it runs.
struct Lent {
    lease: Lease,
    shared: Arc<Shared>,
}

impl Job {
    /// What there is to tell of this lease, without the lease.
    pub fn of(lease: &Lease) -> Self {
        Self {
            id: lease.id(),
            queue: lease.queue(),
            kind: lease.kind(),
            attempt: lease.attempt(),
            max_attempts: lease.max_attempts(),
            priority: lease.priority(),
            fence: lease.fence(),
            created: lease.created(),
            due: lease.due(),
            key: lease.key().map(str::to_owned),
            concurrency_key: lease.concurrency_key().map(str::to_owned),
            headers: lease.headers().to_vec(),
            payload: lease.payload().clone(),
            lease: RwLock::new(None),
        }
    }

    /// Puts the lease in, for the time of the attempt.
    pub fn lend(&self, lease: Lease, shared: &Arc<Shared>) {
        let shared = shared.clone();
        *self.lease.write() = Some(Lent { lease, shared });
    }

    /// Takes the lease out again.
    pub fn take_back(&self) -> Lease {
        let lent = self.lease.write().take();
        lent.expect("lent by the worker that takes it back, once").lease
    }

    /// The job of a lease that it has from now on.
    pub fn lent<'py>(py: Python<'py>, lease: Lease, shared: &Arc<Shared>) -> PyResult<Bound<'py, Self>> {
        // Without memory for the object the lease is dropped, and that is a failed attempt.
        let job = Bound::new(py, Self::of(&lease))?;
        job.get().lend(lease, shared);
        Ok(job)
    }

    /// Marks this thread as running the handler of the job, which goes on.
    pub fn go_on(&self) -> Option<Inside> {
        self.lease.read().as_ref().map(|lent| lent.lease.go_on())
    }

    /// The ticket of the lease.
    pub fn ticket(&self) -> Option<Ticket> {
        self.lease.read().as_ref().map(|lent| lent.lease.ticket())
    }

    fn leased<T>(&self, py: Python<'_>, call: impl FnOnce(&Lent) -> forebay::Result<T>) -> PyResult<T> {
        match &*self.lease.read() {
            Some(lent) => call(lent).or_raise(py),
            None => {
                let text = format!("the attempt of job {} has ended", self.id);
                Err(raise(py, ErrorKind::Stale, text))
            }
        }
    }
}

#[pymethods]
impl Job {
    /// The job's id.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::uuid(py, self.id)
    }

    /// The job's queue.
    #[getter]
    fn queue(&self) -> &str {
        &self.queue
    }

    /// The job's kind.
    #[getter]
    fn kind(&self) -> &str {
        &self.kind
    }

    /// The number of this attempt, from 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often the job may run in all; 2**32-1 is without limit.
    #[getter]
    fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// When the job was pushed.
    #[getter]
    fn created<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::datetime(py, self.created)
    }

    /// When this attempt is overdue, by its timeout or the end of its lease as it was at the start; None for never.
    #[getter]
    fn due<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.due.map(|due| read::datetime(py, due)).transpose()
    }

    /// Its priority.
    #[getter]
    fn priority(&self) -> Priority {
        self.priority
    }

    /// Grows with every claim of the job: lets what the handler writes to refuse a late writer.
    #[getter]
    fn fence(&self) -> u64 {
        self.fence
    }

    /// The idempotency key the job was pushed with.
    #[getter]
    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The concurrency key the job was pushed with.
    #[getter]
    fn concurrency_key(&self) -> Option<&str> {
        self.concurrency_key.as_deref()
    }

    /// The headers the job was pushed with.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        headers(py, &self.headers)
    }

    /// What the job carries; for a call, a dict of "args" and "kwargs".
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        value::object(py, &self.payload)
    }

    /// Whether the handler should stop: the job was cancelled, the attempt timed out, or its lease is
    /// lost. Cheap; long handlers should ask often.
    #[getter]
    fn cancelled(&self) -> bool {
        self.lease
            .read()
            .as_ref()
            .is_none_or(|lent| lent.lease.cancelled())
    }

    /// Why the handler should stop, or might want to: "cancelled", "timed_out", "lease_lost", or
    /// "stopping" when the dispatcher stops and an answer within the grace still counts.
    #[getter]
    fn stop_reason(&self) -> Option<&'static str> {
        self.lease
            .read()
            .as_ref()?
            .lease
            .stop_reason()
            .map(StopReason::name)
    }

    /// Waits until the handler should stop, and returns why, as `stop_reason` does; None if it may go on after
    /// `timeout`. With `stopping=False` a dispatcher that stops is no reason yet.
    #[pyo3(signature = (timeout=None, *, stopping=true))]
    fn wait_stop(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        stopping: bool,
    ) -> PyResult<Option<&'static str>> {
        guard(py, || {
            // Nothing may be held here: the handler may end while another thread waits for it.
            let (shared, ticket) = self.leased(py, |lent| Ok((lent.shared.clone(), lent.lease.ticket())))?;
            wait_stop(py, &shared, ticket, timeout, stopping)
        })
    }

    /// Raises JobCancelled if the handler should stop.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || self.leased(py, |lent| lent.lease.check()))
    }

    /// Makes the lease end this long from now.
    fn extend(&self, py: Python<'_>, lease: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(py, || {
            let duration = read::duration("lease", lease)?;
            self.leased(py, |lent| lent.lease.extend(duration))
        })
    }

    fn __repr__(&self) -> String {
        format!(
            "<forebay.Job {} kind={:?} attempt={}>",
            self.id, self.kind, self.attempt
        )
    }
}

/// Waits until whoever works on the job of a ticket should stop.
pub fn wait_stop(
    py: Python<'_>,
    shared: &Shared,
    ticket: Ticket,
    timeout: Option<&Bound<'_, PyAny>>,
    stopping: bool,
) -> PyResult<Option<&'static str>> {
    let timeout = timeout.map(|t| read::duration("timeout", t)).transpose()?;
    let known = (!stopping).then_some(StopReason::Stopping);
    let wait = |until| {
        let reason = shared.core.wait_stop(ticket, known, until)?;
        reason.ok_or_else(|| Error::new(ErrorKind::Timeout, "the handler may go on"))
    };
    match patience::wait(py, shared, Deadline::maybe(timeout), ErrorKind::Timeout, wait)? {
        Err(e) if e.kind() == ErrorKind::Timeout => Ok(None),
        reason => reason.or_raise(py).map(|reason| Some(reason.name())),
    }
}

/// Headers as a dict.
pub fn headers<'py>(py: Python<'py>, headers: &[(String, String)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, text) in headers {
        dict.set_item(name, text)?;
    }
    Ok(dict)
}
