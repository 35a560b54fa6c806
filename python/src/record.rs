//! What can be asked about a job.

use forebay::Timestamp;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{attempt, read, value};

/// Everything known about a job, as of one moment.
#[pyclass(frozen, module = "forebay")]
pub struct JobInfo(forebay::Job);

impl From<forebay::Job> for JobInfo {
    fn from(job: forebay::Job) -> Self {
        Self(job)
    }
}

fn maybe(py: Python<'_>, at: Option<Timestamp>) -> PyResult<Option<Bound<'_, PyAny>>> {
    at.map(|at| read::datetime(py, at)).transpose()
}

#[pymethods]
impl JobInfo {
    /// The job's id.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::uuid(py, self.0.id)
    }

    /// Its queue.
    #[getter]
    fn queue(&self) -> &str {
        &self.0.queue
    }

    /// Its kind.
    #[getter]
    fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Where it stands: "blocked", "scheduled", "queued", "running", "succeeded", "failed", "cancelled",
    /// "expired" or "shed".
    #[getter]
    fn status(&self) -> &'static str {
        self.0.state.name()
    }

    /// Whether it is over.
    #[getter]
    fn finished(&self) -> bool {
        self.0.state.is_final()
    }

    /// Whether it waits for its next attempt after a failed one.
    #[getter]
    fn retrying(&self) -> bool {
        self.0.retrying()
    }

    /// Whether it runs and has been asked to stop.
    #[getter]
    fn cancel_requested(&self) -> bool {
        self.0.cancel_requested
    }

    /// Higher runs first.
    #[getter]
    fn priority(&self) -> i8 {
        self.0.priority
    }

    /// How many attempts have started; those given back do not count.
    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// How often it may run in all; None until the first claim decides, 2**32-1 without limit.
    #[getter]
    fn max_attempts(&self) -> Option<u32> {
        self.0.max_attempts
    }

    /// When it was pushed.
    #[getter]
    fn created<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::datetime(py, self.0.created)
    }

    /// When it may start, or might have.
    #[getter]
    fn run_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::datetime(py, self.0.run_at)
    }

    /// When the present or last attempt started.
    #[getter]
    fn started_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe(py, self.0.started)
    }

    /// When it ended for good.
    #[getter]
    fn finished_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe(py, self.0.finished)
    }

    /// No attempt starts after this.
    #[getter]
    fn deadline<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe(py, self.0.deadline)
    }

    /// How long one attempt may take, in seconds.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.0.timeout.map(|d| d.as_secs_f64())
    }

    /// The idempotency key.
    #[getter]
    fn key(&self) -> Option<&str> {
        self.0.key()
    }

    /// The concurrency key: jobs of a queue that share it are started in turn with those of other keys.
    #[getter]
    fn concurrency_key(&self) -> Option<&str> {
        self.0.concurrency_key()
    }

    /// Which rule against overload gave it up: "shed_oldest" and so on; None if none did.
    #[getter]
    fn shed(&self) -> Option<&'static str> {
        self.0.shed().map(forebay::ShedReason::name)
    }

    /// How often its process died while it ran.
    #[getter]
    fn crashes(&self) -> u32 {
        self.0.crashes
    }

    /// The headers.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        attempt::headers(py, self.0.headers())
    }

    /// The tokens it still waits for.
    #[getter]
    fn waits_for(&self) -> Vec<&str> {
        self.0.waits.iter().map(|token| &**token).collect()
    }

    /// What it carries; for a call, a dict of "args" and "kwargs". Nothing once it has succeeded.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        value::object(py, &self.0.payload)
    }

    /// What the handler returned, once succeeded.
    #[getter]
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .result
            .as_ref()
            .map(|result| value::object(py, result))
            .transpose()
    }

    /// The text of the last failure.
    #[getter]
    fn error(&self) -> Option<&str> {
        self.0.error.as_ref().map(|failure| &*failure.message)
    }

    /// The kind of the last failure: "error", "fatal", "timed_out", "expired" and so on.
    #[getter]
    fn error_kind(&self) -> Option<&'static str> {
        self.0.error.as_ref().map(|failure| failure.kind.name())
    }

    /// The attempts so far, oldest first; the last 16.
    #[getter]
    fn history(&self) -> Vec<Attempt> {
        self.0.history.iter().cloned().map(Attempt).collect()
    }

    fn __repr__(&self) -> String {
        format!(
            "<forebay.JobInfo {} kind={:?} status={:?}>",
            self.0.id,
            self.0.kind,
            self.0.state.name()
        )
    }
}

/// One attempt, as the history of its job tells it.
#[pyclass(frozen, module = "forebay")]
pub struct Attempt(forebay::Attempt);

#[pymethods]
impl Attempt {
    /// Its number, from 1.
    #[getter]
    fn number(&self) -> u32 {
        self.0.number
    }

    /// The node that ran it.
    #[getter]
    fn node(&self) -> &str {
        &self.0.node
    }

    /// The worker of that node.
    #[getter]
    fn worker(&self) -> u32 {
        self.0.worker
    }

    /// When it started.
    #[getter]
    fn started_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::datetime(py, self.0.started)
    }

    /// When it ended.
    #[getter]
    fn ended_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::datetime(py, self.0.ended)
    }

    /// The text of its failure; None if it succeeded.
    #[getter]
    fn error(&self) -> Option<&str> {
        self.0.failure.as_ref().map(|failure| &*failure.message)
    }

    /// The kind of its failure; None if it succeeded.
    #[getter]
    fn error_kind(&self) -> Option<&'static str> {
        self.0.failure.as_ref().map(|failure| failure.kind.name())
    }

    fn __repr__(&self) -> String {
        let end = self
            .0
            .failure
            .as_ref()
            .map_or("succeeded", |failure| failure.kind.name());
        format!("<forebay.Attempt {} {end}>", self.0.number)
    }
}
