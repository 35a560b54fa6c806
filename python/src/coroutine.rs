//! Coroutines, a piece at a time: from one place where they wait to the next.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::imports::Imported;

/// How a piece ended.
pub enum Piece<'py> {
    /// It waits for this, which is its event loop's to understand.
    Waits(Bound<'py, PyAny>),
    /// It is over.
    Over(PyResult<Bound<'py, PyAny>>),
}

/// What is run for an awaitable: itself if it is a coroutine.
pub fn of<'py>(awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static COROUTINE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = COROUTINE.find(awaitable.py(), "types", "CoroutineType")?;
    match awaitable.get_type_ptr() == class.as_type_ptr() {
        true => Ok(awaitable),
        false => awaitable.call_method0("__await__"),
    }
}

/// Runs the next piece.
pub fn send<'py>(coroutine: &Bound<'py, PyAny>) -> Piece<'py> {
    let (py, mut answer) = (coroutine.py(), std::ptr::null_mut());
    // SAFETY: this thread is attached, and the answer is a new reference wherever there is one.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut answer) {
            ffi::PySendResult::PYGEN_NEXT => Piece::Waits(Bound::from_owned_ptr(py, answer)),
            ffi::PySendResult::PYGEN_RETURN => Piece::Over(Ok(Bound::from_owned_ptr(py, answer))),
            ffi::PySendResult::PYGEN_ERROR => Piece::Over(Err(PyErr::fetch(py))),
        }
    }
}

/// Runs the next piece, which begins with this exception where the coroutine waits.
pub fn throw<'py>(coroutine: &Bound<'py, PyAny>, raised: Bound<'py, PyAny>) -> Piece<'py> {
    let py = coroutine.py();
    let thrown = match coroutine.getattr_opt("throw") {
        Ok(Some(throw)) => throw.call1((raised,)),
        // What only iterates ends where it is.
        Ok(None) => Err(PyErr::from_value(raised)),
        Err(error) => Err(error),
    };
    match thrown {
        Ok(waits_for) => Piece::Waits(waits_for),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            Piece::Over(error.value(py).getattr("value"))
        }
        Err(error) => Piece::Over(Err(error)),
    }
}
