//! Calls around each attempt, into Python. Workers are attached when the core makes them.

use std::time::Duration;

use forebay::{Hooks, Lease, Outcome};
use pyo3::prelude::*;

use crate::attempt::Job;
use crate::graveyard::bury;

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
