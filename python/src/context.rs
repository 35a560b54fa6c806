//! The contexts (`contextvars`) that handlers run in: each job has one of its own, so that nothing that a handler
//! sets is seen by another.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;

// CPython has exported them since 3.7, but the headers of the stable interface leave them out.
unsafe extern "C" {
    fn PyContext_CopyCurrent() -> *mut ffi::PyObject;
    fn PyContext_Enter(context: *mut ffi::PyObject) -> c_int;
    fn PyContext_Exit(context: *mut ffi::PyObject) -> c_int;
}

/// A context.
pub struct Context(pub Py<PyAny>);

impl Context {
    /// A copy of the one that this thread is in.
    pub fn copy(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: this thread is attached; the answer is a new reference or null with an exception.
        let copy = unsafe { Bound::from_owned_ptr_or_err(py, PyContext_CopyCurrent())? };
        Ok(Self(copy.unbind()))
    }

    /// Runs `body` in it. An error if somebody runs in it already.
    pub fn run<T>(&self, py: Python<'_>, body: impl FnOnce() -> T) -> PyResult<T> {
        // SAFETY: this thread is attached, and the pointer is to a context, which `self` holds.
        if unsafe { PyContext_Enter(self.0.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        let _inside = Inside(self.0.bind(py));
        Ok(body())
    }
}

/// That this thread is in a context, also while a panic unwinds.
struct Inside<'a, 'py>(&'a Bound<'py, PyAny>);

impl Drop for Inside<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: this thread is attached and has entered this context, and whatever it entered since it has left.
        if unsafe { PyContext_Exit(self.0.as_ptr()) } != 0 {
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), None);
        }
    }
}
