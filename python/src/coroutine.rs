//! Coroutines, a piece at a time: from one place where they wait to the next.

use forebay::ErrorKind;
use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::errors::raise;
use crate::imports::Imported;

/// How a piece ended.
pub enum Piece<'py> {
    /// It waits for this, which is its event loop's to understand.
    Waits(Bound<'py, PyAny>),
    /// It is over.
    Over(PyResult<Bound<'py, PyAny>>),
}

/// Whether an object is a coroutine of Python's own.
#[inline]
pub fn is(object: &Bound<'_, PyAny>) -> bool {
    static COROUTINE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = COROUTINE.find(object.py(), "types", "CoroutineType");
    class.is_ok_and(|class| object.get_type_ptr() == class.as_type_ptr())
}

/// What is run for an awaitable: itself if it is a coroutine.
pub fn of<'py>(awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match is(&awaitable) {
        true => Ok(awaitable),
        false => awaitable.call_method0("__await__"),
    }
}

/// The error of one that was returned as if it were what it comes to. It is closed, so that Python does not tell of it
/// once more as of one that was never awaited.
#[cold]
pub fn unawaited(coroutine: &Bound<'_, PyAny>) -> PyErr {
    let text = "$: a coroutine, which nobody awaits: its work was not done. Make the handler an async def, or await \
                the coroutine there; a decorator around an async def has to be one, too";
    match coroutine.call_method0("close") {
        Ok(_) => raise(coroutine.py(), ErrorKind::Encode, text.into()),
        Err(error) => error,
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
