//! The stream of events.

use std::sync::Arc;
use std::time::Duration;

use forebay::{Deadline, Level};
use pyo3::prelude::*;

use crate::errors::guard;
use crate::shared::Shared;
use crate::{patience, read};

/// How long a subscriber waits before it looks whether the dispatcher has stopped, and for signals.
const SLICE: Duration = Duration::from_millis(50);

/// Something that happened to a job.
#[pyclass(frozen, module = "forebay")]
pub struct Event {
    event: forebay::Event,
    shared: Arc<Shared>,
}

#[pymethods]
impl Event {
    /// What: "pushed", "started", "succeeded", "failed", "retried", "shed", "high_watermark" and so on.
    #[getter]
    fn kind(&self) -> &'static str {
        self.event.kind.name()
    }

    /// How much it matters: "debug", "info", "warn" or "error".
    #[getter]
    fn level(&self) -> &'static str {
        self.event.kind.level().name()
    }

    /// What happened, as a sentence that names the job or the queue.
    #[getter]
    fn message(&self) -> String {
        self.event.report(&self.shared.core).to_string()
    }

    /// To which job.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::uuid(py, self.event.id)
    }

    /// In which queue; None for events of the dispatcher.
    #[getter]
    fn queue(&self) -> Option<String> {
        self.event
            .queue
            .map(|queue| self.shared.core.queue_name(queue).to_string())
    }

    /// Of which kind of job; None for events of the dispatcher.
    #[getter]
    fn job_kind(&self) -> Option<String> {
        self.event
            .job_kind
            .map(|kind| self.shared.core.kind_name(kind).to_string())
    }

    /// The number of the attempt; 0 before the first.
    #[getter]
    fn attempt(&self) -> u32 {
        self.event.attempt
    }

    /// When.
    #[getter]
    fn at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::datetime(py, self.event.at)
    }

    /// How long the attempt took, in seconds, when one ended.
    #[getter]
    fn took(&self) -> Option<f64> {
        self.event.took.map(|d| d.as_secs_f64())
    }

    /// Why, when something failed or was shed: "error", "timed_out", "shed_oldest" and so on.
    #[getter]
    fn failure(&self) -> Option<&'static str> {
        self.event.failure.map(forebay::FailureKind::name)
    }

    fn __repr__(&self) -> String {
        format!("<forebay.Event {} {}>", self.event.kind.name(), self.event.id)
    }
}

/// A bounded buffer of events, which counts what it drops. Iterate over it to wait for them.
#[pyclass(frozen, module = "forebay")]
pub struct Subscription {
    events: forebay::Subscription,
    shared: Arc<Shared>,
}

impl Subscription {
    /// From now on, of this level and above.
    pub fn new(shared: &Arc<Shared>, level: Level, capacity: usize) -> Self {
        Self {
            events: shared.core.subscribe_from(level, capacity),
            shared: shared.clone(),
        }
    }

    fn event(&self, event: forebay::Event) -> Event {
        Event {
            event,
            shared: self.shared.clone(),
        }
    }
}

#[pymethods]
impl Subscription {
    /// The next event, or None if there is none after `timeout`.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Event>> {
        guard(py, || {
            let timeout = timeout.map(|t| read::duration("timeout", t)).transpose()?;
            let deadline = Deadline::maybe(timeout);
            // Only the main thread hears of signals, and a stop ends a wait without an end by itself.
            let sliced = deadline.instant().is_some() || patience::is_main_thread(py)?;
            loop {
                // Asked before the look: what was published before the stop is still handed out.
                let over = self.events.ended() || self.shared.core.check_open().is_err();
                let slice = match sliced || over {
                    true => Deadline::after(deadline.left().map_or(SLICE, |left| left.min(SLICE))),
                    false => Deadline::NEVER,
                };
                if let Some(event) = self.shared.detached(py, || self.events.next(slice)) {
                    return Ok(Some(self.event(event)));
                }
                py.check_signals()?;
                if over || deadline.passed() {
                    return Ok(None);
                }
            }
        })
    }

    /// The events that are there now.
    fn drain(&self) -> Vec<Event> {
        self.events.drain().map(|event| self.event(event)).collect()
    }

    /// Ends it: what is in the buffer can still be had, nothing more comes, and who waits for events returns.
    fn close(&self) {
        self.events.close();
    }

    /// How many events found the buffer full and were dropped.
    #[getter]
    fn dropped(&self) -> u64 {
        self.events.dropped()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Waits for the next event; ends when the dispatcher has stopped.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Event>> {
        self.next(py, None)
    }
}
