//! Errors of the core as Python exceptions. The classes are plain Python, in `forebay/errors.py`, one per
//! [`ErrorKind`]; a test checks that the two tables are complete both ways.

use std::panic::{AssertUnwindSafe, catch_unwind};

use forebay::{Error, ErrorKind, panic_text};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::imports::Imported;

/// The exception for an error of the core.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    raise(py, error.kind(), error.to_string())
}

/// The exception of this kind with this text.
pub fn raise(py: Python<'_>, kind: ErrorKind, text: String) -> PyErr {
    match class(py, kind) {
        Ok(class) => PyErr::from_type(class, (text,)),
        Err(error) => error,
    }
}

/// An exception about an argument.
pub fn invalid(py: Python<'_>, text: String) -> PyErr {
    raise(py, ErrorKind::Invalid, text)
}

fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Bound<'_, pyo3::types::PyType>> {
    static TABLE: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let table = TABLE.find(py, "forebay.errors", "BY_CODE")?;
    match table.get_item(kind.code())? {
        Some(class) => Ok(class.cast_into()?),
        None => Err(PyRuntimeError::new_err(format!(
            "no exception class for {}",
            kind.name()
        ))),
    }
}

/// Results of the core as results of Python.
pub trait OrRaise<T> {
    /// The value, or the error as an exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for forebay::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| exception(py, &e))
    }
}

/// Runs the body of an entry point. A panic in it is a defect of ours: it leaves as an `InternalError`,
/// which is an `Exception`, not as PyO3's `PanicException`, which is not.
pub fn guard<T>(py: Python<'_>, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = format!("a defect of Forebay: {}", panic_text(panic.as_ref()));
        Err(raise(py, ErrorKind::Panic, text))
    })
}

/// Every kind of error: its number, its name, whether it is worth another try, and what it means.
#[pyfunction]
pub fn error_kinds() -> Vec<(i32, &'static str, bool, String)> {
    let row = |kind: &ErrorKind| (kind.code(), kind.name(), kind.retryable(), kind.describe());
    ErrorKind::ALL.iter().map(row).collect()
}

/// Panics behind the boundary, so that a test can see what comes out.
#[pyfunction]
pub fn provoke_panic(py: Python<'_>) -> PyResult<()> {
    guard(py, || panic!("provoked"))
}
