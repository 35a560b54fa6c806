//! The pull side: for event loops and threads of the host's own that ask for jobs instead of being called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::{
    Answer, Deadline, Error, ErrorKind, KindId, KindSet, Lease, NewJob, Outcome, StopReason, Ticket,
};
use parking_lot::Mutex;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::attempt::{Job, wait_stop};
use crate::errors::{OrRaise, guard, invalid, raise};
use crate::graveyard::{self, Near};
use crate::shared::Shared;
use crate::{outcome, patience, push, read};

/// Asks for jobs. Make one per thread that asks.
#[pyclass(frozen, module = "forebay")]
pub struct Consumer {
    shared: Arc<Shared>,
    /// Held while a thread asks.
    consumer: Mutex<forebay::Consumer>,
}

impl Consumer {
    /// A consumer of these kinds in these queues; of all where nothing is said.
    pub fn new(
        shared: &Arc<Shared>,
        kinds: Option<Vec<String>>,
        queues: Option<Vec<String>>,
        lease: Option<Duration>,
    ) -> forebay::Result<Self> {
        let core = &shared.core;
        let set = kinds.as_ref().map_or_else(KindSet::any, |_| KindSet::new());
        for kind in kinds.iter().flatten() {
            set.add(core.kind(kind)?);
        }
        let queues = queues.iter().flatten().map(|queue| core.queue(queue));
        let queues = queues.collect::<forebay::Result<Vec<_>>>()?;
        let consumer = core.consumer(Arc::new(set)).queues(queues);
        Ok(Self {
            shared: shared.clone(),
            consumer: Mutex::new(consumer.lease(lease.or(core.options().lease))),
        })
    }

    /// Up to `max` jobs, of which only the first is waited for.
    fn ask(
        &self,
        py: Python<'_>,
        max: usize,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Delivery>>> {
        graveyard::drain(py);
        let timeout = timeout.map(|t| read::duration("timeout", t)).transpose()?;
        let Some(mut held) = self.consumer.try_lock() else {
            let text = "another thread asks this consumer; make one per thread";
            return Err(invalid(py, text.into()));
        };
        let (consumer, mut leases) = (&mut *held, Vec::new());
        let ask = |until| match consumer.next_many(max, until, &mut leases)? {
            0 if max > 0 => Err(Error::new(ErrorKind::Timeout, "no job came")),
            _ => Ok(()),
        };
        match patience::wait(
            py,
            &self.shared,
            Deadline::maybe(timeout),
            ErrorKind::Timeout,
            ask,
        )? {
            Err(e) if e.kind() == ErrorKind::Timeout => {}
            answer => answer.or_raise(py)?,
        }
        drop(held);
        let deliver = |lease| Delivery::of(py, &self.shared, lease);
        leases.into_iter().map(deliver).collect()
    }
}

#[pymethods]
impl Consumer {
    /// The next job, or None if there is none after `timeout`. Raises ClosedError once the dispatcher stops.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<Delivery>>> {
        guard(py, || Ok(self.ask(py, 1, timeout)?.pop()))
    }

    /// Up to `max` jobs: waits for the first, for as long as `timeout`, and takes what else is there.
    #[pyo3(signature = (max, timeout=None))]
    fn next_many(
        &self,
        py: Python<'_>,
        max: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Delivery>>> {
        guard(py, || self.ask(py, read::count("max", max)?, timeout))
    }
}

/// One delivery of a job: everything a `Job` tells, and the ways to answer for it. The first answer counts; a
/// later one raises StaleLease. A delivery that is let go unanswered is a failed attempt.
#[pyclass(frozen, extends = Job, module = "forebay")]
pub struct Delivery {
    shared: Arc<Shared>,
    ticket: Ticket,
    kind: KindId,
    answered: AtomicBool,
}

impl Delivery {
    fn of(py: Python<'_>, shared: &Arc<Shared>, lease: Lease) -> PyResult<Py<Self>> {
        drop(lease.enter());
        let job = Job::of(&lease);
        let delivery = Self {
            shared: shared.clone(),
            kind: lease.kind_id(),
            ticket: lease.park(),
            answered: AtomicBool::new(false),
        };
        Py::new(py, PyClassInitializer::from(job).add_subclass(delivery))
    }

    fn answer(&self, py: Python<'_>, outcome: Outcome, then: &[NewJob<'_>]) -> PyResult<()> {
        let _near = Near::new(py);
        let (shared, ticket) = (&self.shared, self.ticket);
        let answer = match then {
            [] => shared.detached_if(shared.ends_wait(), py, |core| {
                core.finish([(ticket, outcome)]).map(|answers| answers[0])
            }),
            then => shared.change(py, |core| core.finish_and_push(ticket, outcome, then)),
        };
        let answer = answer.or_raise(py)?;
        self.answered.store(true, Ordering::Relaxed);
        match answer {
            Answer::Stored(_) => Ok(()),
            Answer::Stale => {
                let text =
                    "the answer came too late: the attempt was answered, timed out, lost or handed back";
                Err(raise(py, ErrorKind::Stale, text.into()))
            }
        }
    }
}

#[pymethods]
impl Delivery {
    /// It worked, with this result; the jobs of `then`, each as in push_many, are pushed with that, both or
    /// neither.
    #[pyo3(signature = (result=None, *, then=None))]
    fn complete(
        &self,
        py: Python<'_>,
        result: Option<Bound<'_, PyAny>>,
        then: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        guard(py, || {
            let result = result.unwrap_or_else(|| py.None().into_bound(py));
            let result = self.shared.result(result, self.kind)?;
            let rows = then.map(|then| then.try_iter()).transpose()?;
            let rows = rows.into_iter().flatten();
            let rows = rows.map(|row| push::Row::read(&self.shared, &row?));
            let rows = rows.collect::<PyResult<Vec<_>>>()?;
            let jobs = rows.iter().map(push::Row::job).collect::<PyResult<Vec<_>>>()?;
            self.answer(py, Outcome::Success(result), &jobs)?;
            rows.iter().try_for_each(|row| row.note(&self.shared))
        })
    }

    /// It failed with this text, or with what was raised, which counts as if a handler had raised it; the retry
    /// policy says whether and when it runs again.
    #[pyo3(signature = (error=None))]
    fn fail(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(py, || {
            let outcome = match error {
                None => Outcome::failed(""),
                Some(raised) if raised.is_instance_of::<PyBaseException>() => {
                    outcome::of_error(py, PyErr::from_value(raised.clone())).0
                }
                Some(text) => Outcome::failed(text.str()?.to_string()),
            };
            self.answer(py, outcome, &[])
        })
    }

    /// It failed and no attempt can help: the job fails now.
    #[pyo3(signature = (error=""))]
    fn fatal(&self, py: Python<'_>, error: &str) -> PyResult<()> {
        guard(py, || self.answer(py, Outcome::fatal(error.to_owned()), &[]))
    }

    /// Run it again, after this pause or that of the retry policy; the attempt counts.
    #[pyo3(signature = (after=None, reason=None))]
    fn retry(
        &self,
        py: Python<'_>,
        after: Option<&Bound<'_, PyAny>>,
        reason: Option<String>,
    ) -> PyResult<()> {
        guard(py, || {
            let after = after.map(|after| read::duration("after", after)).transpose()?;
            self.answer(py, outcome::retry_after(after, reason.unwrap_or_default()), &[])
        })
    }

    /// It is not time yet: run it again after this pause; the attempt does not count.
    fn snooze(&self, py: Python<'_>, after: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(py, || {
            let after = read::duration("after", after)?;
            self.answer(py, Outcome::snooze(after), &[])
        })
    }

    /// What it calls says "not now": run it again after this pause or that of the retry policy; no failure, and
    /// the attempt does not count.
    #[pyo3(signature = (after=None))]
    fn rate_limited(&self, py: Python<'_>, after: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(py, || {
            let after = after.map(|after| read::duration("after", after)).transpose()?;
            self.answer(py, Outcome::RateLimited { after }, &[])
        })
    }

    /// Whoever works on it gives up: the job is cancelled.
    #[pyo3(signature = (reason=""))]
    fn cancel(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        guard(py, || {
            self.answer(py, Outcome::Cancelled(reason.to_owned().into()), &[])
        })
    }

    /// Whether whoever works on it should stop: it was cancelled, timed out, or its lease is lost. Cheap; ask
    /// often.
    #[getter]
    fn cancelled(&self) -> bool {
        !matches!(
            self.shared.core.stop_reason(self.ticket),
            None | Some(StopReason::Stopping)
        )
    }

    /// Why to stop: "cancelled", "timed_out", "lease_lost", or "stopping" when the dispatcher stops and an
    /// answer within the grace still counts.
    #[getter]
    fn stop_reason(&self) -> Option<&'static str> {
        self.shared.core.stop_reason(self.ticket).map(StopReason::name)
    }

    /// Waits until whoever works on it should stop, and returns why, as `stop_reason` does; None if it may go on
    /// after `timeout`. With `stopping=False` a dispatcher that stops is no reason yet.
    #[pyo3(signature = (timeout=None, *, stopping=true))]
    fn wait_stop(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        stopping: bool,
    ) -> PyResult<Option<&'static str>> {
        guard(py, || wait_stop(py, &self.shared, self.ticket, timeout, stopping))
    }

    /// Raises JobCancelled if whoever works on it should stop.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        match self.cancelled() {
            false => Ok(()),
            true => {
                let why = self.stop_reason().unwrap_or_default();
                Err(raise(
                    py,
                    ErrorKind::Cancelled,
                    format!("the job should stop: {why}"),
                ))
            }
        }
    }

    /// Makes the lease end this long from now.
    fn extend(&self, py: Python<'_>, lease: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(py, || {
            let duration = read::duration("lease", lease)?;
            let extended = self.shared.change(py, |core| core.extend(self.ticket, duration));
            extended.or_raise(py)
        })
    }
}

/// Nobody can answer any more.
impl Drop for Delivery {
    fn drop(&mut self) {
        let core = &self.shared.core;
        // In the child of a fork nothing of the parent's may be touched.
        if *self.answered.get_mut() || core.check_process().is_err() {
            return;
        }
        let outcome = Outcome::failed("the delivery was let go without an answer");
        Python::attach(|py| {
            // A store that fails has its own way to tell; the lease then ends by itself.
            let _ = self.shared.detached_if(self.shared.ends_wait(), py, |core| {
                core.finish([(self.ticket, outcome)])
            });
        });
    }
}
