//! Queues whose jobs are passed on: to another dispatcher, or to a function of Python's.
//!
//! The core's thread never attaches. It hands what is to be delivered to a thread of Python's ([`Courier`]), which
//! calls the function, and waits for its answer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use forebay::{Deadline, ErrorKind, ForwardStats, Lease, Options, Outcome, Sink, SinkError, Target};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList};

use crate::attempt::Job;
use crate::dispatcher::Core;
use crate::errors::{OrRaise, guard, invalid};
use crate::graveyard::{self, Near};
use crate::shared::Shared;
use crate::{outcome, patience, read};

/// Jobs on their way to a function, and where its answer goes.
struct Batch {
    jobs: Vec<Job>,
    answer: SyncSender<Result<(), SinkError>>,
}

/// The core's end of a courier.
struct Call {
    batches: Sender<Batch>,
    name: String,
}

impl Sink for Call {
    fn deliver(&mut self, batch: &[Lease]) -> Result<(), SinkError> {
        let gone = || SinkError::down(0, "the thread that calls the function has ended");
        let (answer, answered) = sync_channel(1);
        let jobs = batch.iter().map(Job::of).collect();
        let sent = self.batches.send(Batch { jobs, answer });
        sent.map_err(|_| gone())?;
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// The body of a thread that calls a function with the jobs of a queue.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Courier {
    function: Py<PyAny>,
    batches: Mutex<Option<Receiver<Batch>>>,
    call: Mutex<Option<Call>>,
}

#[pymethods]
impl Courier {
    #[new]
    fn new(function: Bound<'_, PyAny>) -> PyResult<Self> {
        let (sender, batches) = channel();
        let name = function.getattr_opt("__qualname__")?.unwrap_or(function.clone());
        let call = Call {
            batches: sender,
            name: name.str()?.to_string(),
        };
        Ok(Self {
            function: function.unbind(),
            batches: Mutex::new(Some(batches)),
            call: Mutex::new(Some(call)),
        })
    }

    /// Calls the function until the queue is passed on no longer.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let Some(mut batches) = self.batches.lock().take() else {
            return Ok(());
        };
        guard(py, || {
            loop {
                let waited = py.detach(move || {
                    let batch = batches.recv();
                    (batches, batch)
                });
                let Ok(batch) = waited.1 else {
                    return Ok(());
                };
                batches = waited.0;
                graveyard::drain(py);
                let _near = Near::new(py);
                let answer = self.deliver(py, batch.jobs);
                // Nobody waits for it if the dispatcher was stopped meanwhile.
                let _ = batch.answer.send(answer);
            }
        })
    }
}

impl Courier {
    fn deliver(&self, py: Python<'_>, jobs: Vec<Job>) -> Result<(), SinkError> {
        let count = jobs.len();
        let call = || {
            let jobs = PyList::new(py, jobs)?;
            let taken = self.function.bind(py).call1((jobs,))?;
            // A bool is a number to Python, and would be one job or none.
            match taken.cast::<PyBool>() {
                Ok(all) => Ok(Some(if all.is_true() { count } else { 0 })),
                Err(_) => taken.extract::<Option<usize>>(),
            }
        };
        match call() {
            Ok(None) => Ok(()),
            Ok(Some(taken)) if taken == count => Ok(()),
            Ok(Some(taken)) if taken < count => {
                let text = format!("the function took {taken} of {count} jobs");
                Err(SinkError::busy(taken, None, text))
            }
            Ok(Some(taken)) => {
                let text = format!("the function was given {count} jobs and says that it took {taken}");
                Err(SinkError::down(0, text))
            }
            Err(error) => Err(trouble(outcome::of_error(py, error).0)),
        }
    }
}

/// What an exception says of the first job of a delivery, as a handler's would of its own.
fn trouble(outcome: Outcome) -> SinkError {
    match outcome {
        Outcome::RateLimited { after } => SinkError::busy(0, after, "the function is rate limited"),
        Outcome::Snooze { after } => SinkError::busy(0, Some(after), "the function said when to come again"),
        Outcome::Retry { after, reason } => SinkError::busy(0, after, reason),
        Outcome::Fatal(failure) => SinkError::refused(0, failure.message),
        Outcome::Failed(failure) => SinkError::down(0, first_line(&failure.message)),
        other => SinkError::down(0, format!("the function ended by {}", other.name())),
    }
}

/// Of a text with a traceback, what was said.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// A queue whose jobs are passed on.
#[pyclass(frozen, module = "forebay")]
pub struct Forwarder {
    forwarder: forebay::Forwarder,
    shared: Arc<Shared>,
}

impl Forwarder {
    /// Begins to pass the jobs of a queue on: to a courier, to a dispatcher, or to the one that a URL names.
    pub fn begin(
        py: Python<'_>,
        shared: &Arc<Shared>,
        queue: &str,
        to: &Bound<'_, PyAny>,
        to_queue: Option<String>,
        options: forebay::ForwardOptions,
    ) -> PyResult<Self> {
        let core = &shared.core;
        let forwarder = if let Ok(courier) = to.cast::<Courier>() {
            if to_queue.is_some() {
                let text = "to_queue is a queue of another dispatcher; a function has none";
                return Err(invalid(py, text.into()));
            }
            let taken = || invalid(py, "the courier is on its way already".into());
            let call = courier.get().call.lock().take().ok_or_else(taken)?;
            shared.detached(py, || core.forward(queue, call, options))
        } else {
            let target = match to.cast::<Core>() {
                Ok(other) => Target::dispatcher(other.get().shared.core.clone()),
                Err(_) => Target::url(read::url(to)?, Options::default()),
            };
            let target = target.queue(to_queue.unwrap_or_else(|| queue.to_owned()));
            shared.detached(py, || core.forward(queue, target, options))
        };
        Ok(Self {
            forwarder: forwarder.or_raise(py)?,
            shared: shared.clone(),
        })
    }

    fn stats(&self) -> ForwardStats {
        self.forwarder.stats()
    }
}

#[pymethods]
impl Forwarder {
    /// How many jobs were taken.
    #[getter]
    fn delivered(&self) -> u64 {
        self.stats().delivered
    }

    /// How many jobs would never be taken, and have failed.
    #[getter]
    fn refused(&self) -> u64 {
        self.stats().refused
    }

    /// How often jobs were offered.
    #[getter]
    fn deliveries(&self) -> u64 {
        self.stats().deliveries
    }

    /// How often there was no room for all of them.
    #[getter]
    fn busy(&self) -> u64 {
        self.stats().busy
    }

    /// Since when nothing can be delivered; None while it can.
    #[getter]
    fn failing_since<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let since = self.stats().failing_since;
        since.map(|at| read::datetime(py, at)).transpose()
    }

    /// What was said when a delivery failed last, also if they work again.
    #[getter]
    fn last_error(&self) -> Option<String> {
        self.stats().last_error
    }

    /// Passes on no more; the queue is then everybody's again. Waits for the delivery that is under way, and
    /// raises WaitTimeout if that takes longer than `grace`, with which it ends all the same.
    #[pyo3(signature = (grace=None))]
    fn stop(&self, py: Python<'_>, grace: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(py, || {
            self.forwarder.check_process().or_raise(py)?;
            let grace = grace.map(|t| read::duration("grace", t)).transpose()?;
            let deadline = Deadline::after(grace.unwrap_or(self.shared.core.options().grace));
            patience::wait(py, &self.shared, deadline, ErrorKind::Timeout, |until| {
                self.forwarder.stop(until.left().unwrap_or_default())
            })?
            .or_raise(py)
        })
    }
}
