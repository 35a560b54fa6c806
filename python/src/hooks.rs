//! Calls around each attempt and each push, into Python. Workers are attached when the core makes the former.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::{Dispatcher, Hooks, Lease, NewJob, Outcome};
use parking_lot::RwLock;
use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTraceback};

use crate::attempt::{self, Job};
use crate::graveyard::bury;
use crate::handle::Handle;

/// Python functions called before and after each attempt.
pub struct PyHooks {
    /// Called with the job.
    pub before: Option<Py<PyAny>>,
    /// Called with the job, the name of the outcome, and the seconds it took.
    pub after: Option<Py<PyAny>>,
}

impl Hooks for PyHooks {
    fn before(&self, lease: &Lease) {
        if let Some(hook) = &self.before {
            Python::attach(|py| report(py, hook, hook.call1(py, (Job::of(lease),))));
        }
    }

    fn after(&self, lease: &Lease, outcome: &Outcome, took: Duration) {
        if let Some(hook) = &self.after {
            let seconds = took.as_secs_f64();
            Python::attach(|py| {
                report(
                    py,
                    hook,
                    hook.call1(py, (Job::of(lease), outcome.name(), seconds)),
                )
            });
        }
    }
}

/// The core lets them go at a stop, on whatever thread that is.
impl Drop for PyHooks {
    fn drop(&mut self) {
        self.before
            .take()
            .into_iter()
            .chain(self.after.take())
            .for_each(bury);
    }
}

/// An exception in a hook is told to `sys.unraisablehook`, and to the core in the way it knows: it counts
/// hooks that panic. Unwinding without the panic hook, nothing is printed.
fn report(py: Python<'_>, hook: &Py<PyAny>, result: PyResult<Py<PyAny>>) {
    if let Err(error) = result {
        error.write_unraisable(py, Some(hook.bind(py)));
        std::panic::resume_unwind(Box::new("a hook raised"));
    }
}

/// What a handler raised, for the hooks that come after it.
pub struct Raised<'py> {
    error: Bound<'py, PyBaseException>,
    trace: Option<Bound<'py, PyTraceback>>,
}

impl<'py> Raised<'py> {
    /// To be asked before the outcome is made of it, which takes its traceback away.
    pub fn of<T>(py: Python<'py>, result: &PyResult<T>) -> Option<Self> {
        let error = result.as_ref().err()?;
        Some(Self {
            error: error.value(py).clone(),
            trace: error.traceback(py),
        })
    }

    /// Runs `body`, in which `sys.exception()` is what was raised. Then its traceback is gone again: that holds
    /// every frame and all that was in them.
    pub fn during(raised: Option<Self>, body: impl FnOnce()) {
        let Some(Self { error, trace }) = raised else {
            return body();
        };
        let py = error.py();
        // SAFETY: this thread is attached; the call gives a reference of its own, or null for none.
        let former = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyErr_GetHandledException()) };
        error.as_any().setattr("__traceback__", trace).ok();
        // SAFETY: as above; an exception is set, and none is stolen.
        unsafe { ffi::PyErr_SetHandledException(error.as_ptr()) };
        body();
        let former = former.map_or(std::ptr::null_mut(), |former| former.as_ptr());
        // SAFETY: as above; null is none.
        unsafe { ffi::PyErr_SetHandledException(former) };
        error.as_any().setattr("__traceback__", py.None()).ok();
    }
}

/// Python functions that are called before each push.
#[derive(Default)]
pub struct PushHooks {
    present: AtomicBool,
    hooks: RwLock<Vec<Py<PyAny>>>,
}

/// Who wants to hear what became of one push.
#[derive(Default)]
pub struct Listeners(Vec<Py<PyAny>>);

impl PushHooks {
    /// Whether there are none.
    #[inline]
    pub fn none(&self) -> bool {
        !self.present.load(Ordering::Acquire)
    }

    /// One more.
    pub fn add(&self, hook: Py<PyAny>) {
        self.hooks.write().push(hook);
        self.present.store(true, Ordering::Release);
    }

    /// Those of another dispatcher as well.
    pub fn take_after(&self, py: Python<'_>, other: &Self) {
        let theirs: Vec<_> = other.hooks.read().iter().map(|hook| hook.clone_ref(py)).collect();
        theirs.into_iter().for_each(|hook| self.add(hook));
    }

    /// Takes all of them out, to be dropped without the lock.
    pub fn take(&self) -> Vec<Py<PyAny>> {
        std::mem::take(&mut *self.hooks.write())
    }

    /// Calls `each` with every hook; with none if the list is in use: see [`crate::handlers::Handlers::visit`].
    pub fn visit<E>(&self, each: impl FnMut(&Py<PyAny>) -> Result<(), E>) -> Result<(), E> {
        match self.hooks.try_read() {
            Some(hooks) => hooks.iter().try_for_each(each),
            None => Ok(()),
        }
    }

    /// Tells them of the push of this job, which may get other headers by that. An exception is told to
    /// `sys.unraisablehook` and is not in the way of the push.
    pub fn ask<'a>(&self, py: Python<'_>, core: &Dispatcher, job: NewJob<'a>) -> (NewJob<'a>, Listeners) {
        let hooks: Vec<_> = self.hooks.read().iter().map(|hook| hook.clone_ref(py)).collect();
        let mut listeners = Listeners::default();
        let asked = attempt::headers(py, job.headers()).and_then(|headers| {
            for hook in &hooks {
                match hook.call1(py, (core.kind_of(&job), core.queue_of(&job), &headers)) {
                    Ok(listener) if listener.is_none(py) => {}
                    Ok(listener) => listeners.0.push(listener),
                    Err(error) => error.write_unraisable(py, Some(hook.bind(py))),
                }
            }
            pairs(&headers)
        });
        match asked {
            Ok(headers) if headers == job.headers() => (job, listeners),
            Ok(headers) => (job.with_headers(headers), listeners),
            Err(error) => {
                error.write_unraisable(py, None);
                (job, listeners)
            }
        }
    }
}

fn pairs(headers: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    headers
        .iter()
        .map(|(name, text)| Ok((name.extract()?, text.extract()?)))
        .collect()
}

/// Who has it last may be detached.
impl Drop for PushHooks {
    fn drop(&mut self) {
        self.take().into_iter().for_each(bury);
    }
}

impl Listeners {
    /// Whether there are none.
    pub fn none(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells each of them what became of the push: its handle, or the error.
    pub fn tell(self, py: Python<'_>, answer: Result<&Py<Handle>, &PyErr>) {
        for listener in self.0 {
            let (handle, error) = (answer.ok(), answer.err().map(|error| error.value(py)));
            if let Err(odd) = listener.call1(py, (handle, error)) {
                odd.write_unraisable(py, Some(listener.bind(py)));
            }
        }
    }
}
