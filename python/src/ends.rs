//! The ends of many jobs of one dispatcher, for a thread or an event loop that waits for them.
//!
//! One [`Watcher`] of the core behind one descriptor, whatever the number of jobs: a loop wakes once for all
//! that have ended meanwhile, and threads of the core never attach to tell it.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Awaits, Deadline, Error, ErrorKind, JobId, State, WatchedEnd, Watcher};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::errors::{OrRaise, guard};
use crate::handle::Handle;
use crate::shared::Shared;
use crate::{graveyard, patience, read};

/// The most ends that are taken in one go.
const MOST: usize = 1 << 16;

/// What somebody waits for, of one dispatcher.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Ends {
    shared: Arc<Shared>,
    watcher: Watcher,
}

impl Ends {
    /// Takes what has ended, as far as it is there.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<WatchedEnd>> {
        graveyard::drain(py);
        let (mut ends, now) = (Vec::new(), Deadline::after(Duration::ZERO));
        let taken = self.shared.look(py, |_| {
            // The answer 0 is what makes the descriptor unreadable.
            while ends.len() < MOST && self.watcher.poll(MOST - ends.len(), now, &mut ends)? > 0 {}
            Ok(())
        });
        match taken {
            // What was taken before must be told; the error comes again.
            Err(_) if !ends.is_empty() => Ok(ends),
            taken => taken.or_raise(py).map(|()| ends),
        }
    }
}

/// What a job returned, and what waiting for it raises.
type Ended<'py> = (Option<Bound<'py, PyAny>>, Option<Py<PyAny>>);

/// The same, after the number that it is told under.
type Told<'py> = (u64, Option<Bound<'py, PyAny>>, Option<Py<PyAny>>);

fn ended<'py>(py: Python<'py>, id: JobId, shared: &Shared) -> Ended<'py> {
    let job = shared.look(py, |core| core.get(id)).or_raise(py);
    match job.and_then(|job| Handle::outcome(py, shared, &job)) {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error.into_value(py).into_any())),
    }
}

#[pymethods]
impl Ends {
    /// For jobs of the dispatcher of this one.
    #[new]
    fn new(py: Python<'_>, handle: &Handle) -> PyResult<Self> {
        guard(py, || {
            handle.shared.core.check_process().or_raise(py)?;
            Ok(Self {
                shared: handle.shared.clone(),
                watcher: handle.shared.core.watcher(),
            })
        })
    }

    /// Has the end of a job told, under the number that is returned. No other has that number.
    fn add(&self, py: Python<'_>, handle: &Handle) -> PyResult<u64> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        guard(py, || {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let added = self.shared.look(py, |_| self.watcher.add(handle.id, number));
            added.or_raise(py).map(|()| number)
        })
    }

    /// Nobody wants to hear of this number any more.
    fn remove(&self, py: Python<'_>, number: u64) -> PyResult<bool> {
        guard(py, || self.watcher.remove(number).or_raise(py))
    }

    /// The descriptor that can be read when something may have ended.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        guard(py, || {
            self.watcher.descriptor().or_raise(py).map(|fd| fd.as_raw_fd())
        })
    }

    /// Waits for the first end, and returns what has ended: numbers, and whether the job succeeded, which is
    /// None for one that was forgotten meanwhile. Nothing if nothing has ended after `timeout`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(u64, Option<bool>)>> {
        guard(py, || {
            graveyard::drain(py);
            let deadline = Deadline::maybe(timeout.map(|t| read::duration("timeout", t)).transpose()?);
            let mut ends = Vec::new();
            let answer = patience::wait(py, &self.shared, deadline, ErrorKind::Timeout, |until| match self
                .watcher
                .poll(MOST, until, &mut ends)?
            {
                0 => Err(Error::new(ErrorKind::Timeout, "nothing has ended")),
                _ => Ok(()),
            })?;
            match answer {
                Err(e) if e.kind() == ErrorKind::Timeout => {}
                answer => answer.or_raise(py)?,
            }
            let told = |end: WatchedEnd| (end.tag, end.state.map(|state| state == State::Succeeded));
            Ok(ends.into_iter().map(told).collect())
        })
    }

    /// What has ended: numbers, what the job returned, and what waiting for it raises. Does not wait.
    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Vec<Told<'py>>> {
        guard(py, || {
            let told = |end: WatchedEnd| {
                let (value, error) = ended(py, end.id, &self.shared);
                (end.tag, value, error)
            };
            Ok(self.take(py)?.into_iter().map(told).collect())
        })
    }
}

/// Notes that the handler on this thread is suspended until a job has ended, as long as it is kept.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Awaiting {
    awaits: Mutex<Option<Awaits>>,
}

#[pymethods]
impl Awaiting {
    /// It is not any more.
    fn end(&self) {
        drop(self.awaits.lock().take());
    }
}

/// Notes that the handler on this thread is about to await a job; None if none runs here, or the job has ended. Raises
/// WouldDeadlock if the job could not run then.
#[pyfunction]
pub fn awaiting(py: Python<'_>, handle: &Handle) -> PyResult<Option<Awaiting>> {
    guard(py, || {
        let awaits = handle
            .shared
            .look(py, |core| core.awaits(handle.id))
            .or_raise(py)?;
        Ok(awaits.map(|awaits| Awaiting {
            awaits: Mutex::new(Some(awaits)),
        }))
    })
}

/// Which dispatcher a job was pushed to: the same number for two handles of the same one, while either lives.
#[pyfunction]
pub fn home(handle: &Handle) -> usize {
    Arc::as_ptr(&handle.shared).addr()
}

/// What the job returned, and what waiting for it raises; None while it has not ended.
#[pyfunction]
pub fn outcome<'py>(py: Python<'py>, handle: &Handle) -> PyResult<Option<Ended<'py>>> {
    guard(py, || {
        graveyard::drain(py);
        let state = handle.shared.look(py, |core| core.state(handle.id));
        let over = state.or_raise(py)?.is_final();
        Ok(over.then(|| ended(py, handle.id, &handle.shared)))
    })
}

/// The seconds of a duration in any form; None for one without end.
#[pyfunction]
pub fn seconds(py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    guard(py, || {
        let duration = read::duration(name, value)?;
        Ok((duration != Duration::MAX).then_some(duration.as_secs_f64()))
    })
}
