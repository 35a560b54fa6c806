//! What a handler did, as an [`Outcome`].

use std::borrow::Cow;
use std::time::Duration;

use forebay::{Failure, FailureKind, KindId, Outcome};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::imports::Imported;
use crate::read;
use crate::shared::Shared;

/// The outcome of a call of the handler of a kind, and whether the worker that made it should end: `SystemExit` and
/// `KeyboardInterrupt` hand the job back and end the worker.
pub fn of<'py>(
    py: Python<'py>,
    shared: &Shared,
    kind: KindId,
    result: PyResult<Bound<'py, PyAny>>,
) -> (Outcome, bool) {
    match result {
        Ok(result) => (success(shared, kind, result), false),
        Err(error) => of_error(py, error),
    }
}

/// A result that cannot be written is a failed attempt.
fn success(shared: &Shared, kind: KindId, result: Bound<'_, PyAny>) -> Outcome {
    let py = result.py();
    match shared.result(result, kind) {
        Ok(result) => Outcome::Success(result),
        Err(error) => Outcome::failed(format!("the result cannot be stored: {}", text(error.value(py)))),
    }
}

/// The outcome of a call that raised, and whether the worker that made it should end.
pub fn of_error(py: Python<'_>, error: PyErr) -> (Outcome, bool) {
    if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
        return (Outcome::Interrupted, true);
    }
    let error = error.into_value(py).into_bound(py).into_any();
    let outcome = control(&error).unwrap_or_else(|| {
        let expected = error.is_instance_of::<PyException>();
        let kind = if expected {
            FailureKind::Error
        } else {
            FailureKind::Panic
        };
        Outcome::Failed(Failure::new(kind, describe(&error)))
    });
    // A traceback holds every frame and all that was in them; its text has been taken.
    if let Err(odd) = error.setattr("__traceback__", py.None()) {
        odd.write_unraisable(py, Some(&error));
    }
    (outcome, false)
}

/// The outcome that the handler asked for by raising `Retry`, `Snooze`, `RateLimited` or `Fatal`.
pub fn control(error: &Bound<'_, PyAny>) -> Option<Outcome> {
    static RETRY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static SNOOZE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static RATE_LIMITED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static FATAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let is = |class: &PyOnceLock<Py<PyType>>, name| {
        let class = class.find(error.py(), "forebay.errors", name);
        class.is_ok_and(|class| error.is_instance(class).unwrap_or(false))
    };
    let outcome = if is(&RETRY, "Retry") {
        retry(error)
    } else if is(&SNOOZE, "Snooze") {
        snooze(error)
    } else if is(&RATE_LIMITED, "RateLimited") {
        rate_limited(error)
    } else if is(&FATAL, "Fatal") {
        Ok(Outcome::fatal(text(error)))
    } else {
        return None;
    };
    let odd = |odd: PyErr| Outcome::failed(describe(odd.into_value(error.py()).bind(error.py())));
    Some(outcome.unwrap_or_else(odd))
}

fn retry(error: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let after = maybe_after(error, "after")?;
    let reason = error.getattr("reason")?.str()?.to_string();
    Ok(retry_after(after, reason))
}

/// Run again, after this pause or the policy's.
pub fn retry_after(after: Option<Duration>, reason: String) -> Outcome {
    let reason = if reason.is_empty() {
        Cow::Borrowed("the handler asked to run again")
    } else {
        Cow::Owned(reason)
    };
    Outcome::Retry { after, reason }
}

/// The pause that an exception asks for, if it asks for one.
fn maybe_after(error: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Duration>> {
    let after = error.getattr(name)?;
    match after.is_none() {
        true => Ok(None),
        false => read::duration(name, &after).map(Some),
    }
}

fn rate_limited(error: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let after = maybe_after(error, "retry_after")?;
    Ok(Outcome::RateLimited { after })
}

fn snooze(error: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    Ok(Outcome::snooze(read::duration(
        "after",
        &error.getattr("after")?,
    )?))
}

fn text(error: &Bound<'_, PyAny>) -> String {
    error
        .str()
        .map_or_else(|_| "the handler gave up".to_owned(), |text| text.to_string())
}

/// The exception as text, with its traceback. `describe` in `forebay/_trace.py` bounds its length, and
/// outlives errors whose own text raises.
fn describe(error: &Bound<'_, PyAny>) -> String {
    static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let described = DESCRIBE
        .find(error.py(), "forebay._trace", "describe")
        .and_then(|describe| describe.call1((error,))?.extract());
    described.unwrap_or_else(|_| error.get_type().to_string())
}
