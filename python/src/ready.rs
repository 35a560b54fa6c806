//! A push that has been made, for who awaits it: goes on at once.
//!
//! An object for every awaited push, looked at once. So it is none of PyO3's, which come with a header for the
//! garbage collector, with which it would have nothing to do (a handle holds nothing of Python's), and end what is
//! awaited with an exception. This one answers by the slot that coroutines answer by.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::ffi::PySendResult;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::handle::Handle;

/// The object: what every object begins with, and the handle, which it owns.
#[repr(C)]
struct Ready {
    head: ffi::PyObject,
    handle: *mut ffi::PyObject,
}

/// What is awaited of a push that has been made.
#[inline]
pub fn ready(py: Python<'_>, handle: Py<Handle>) -> PyResult<Py<PyAny>> {
    let class = class(py)?.as_type_ptr();
    // SAFETY: this thread is attached, and the class has this size and no collector. The object is new and nobody
    // else's, and whole once it has its handle.
    unsafe {
        let object = Bound::from_owned_ptr_or_err(py, ffi::PyObject_New::<ffi::PyObject>(class))?;
        (*object.as_ptr().cast::<Ready>()).handle = handle.into_ptr();
        Ok(object.unbind())
    }
}

/// The class.
pub fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || make(py)).map(|class| class.bind(py))
}

fn make(py: Python<'_>) -> PyResult<Py<PyType>> {
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let text = c"A push that has been made.";
    let mut slots = [
        slot(ffi::Py_tp_doc, text.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_dealloc, dealloc as ffi::destructor as *mut c_void),
        slot(ffi::Py_am_await, itself as ffi::unaryfunc as *mut c_void),
        slot(ffi::Py_am_send, send as Send as *mut c_void),
        slot(ffi::Py_tp_iter, itself as ffi::getiterfunc as *mut c_void),
        slot(ffi::Py_tp_iternext, next as ffi::iternextfunc as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: c"forebay._forebay.Ready".as_ptr(),
        basicsize: size_of::<Ready>() as c_int,
        itemsize: 0,
        flags: (flags | ffi::Py_TPFLAGS_IMMUTABLETYPE) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: this thread is attached; each slot has a function of its kind, and the list ends with 0. Python copies
    // both, but for the name, which is there for ever.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    Ok(class.cast_into::<PyType>()?.unbind())
}

type Send =
    unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut *mut ffi::PyObject) -> PySendResult;

/// Another reference to the handle.
///
/// # Safety
/// On a thread that is attached, with one of these.
unsafe fn handle(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: it has its handle from the beginning to its end.
    unsafe { ffi::Py_NewRef((*object.cast::<Ready>()).handle) }
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: Python calls it on a thread that is attached, with an object that the caller holds.
    unsafe { ffi::Py_NewRef(object) }
}

unsafe extern "C" fn send(
    object: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    answer: *mut *mut ffi::PyObject,
) -> PySendResult {
    // SAFETY: as above; and the answer is to be written.
    unsafe { *answer = handle(object) };
    PySendResult::PYGEN_RETURN
}

unsafe extern "C" fn next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: Python calls it on a thread that is attached, with one of these.
    Python::attach(|py| unsafe {
        let handle = Bound::from_owned_ptr(py, handle(object));
        let end = py.get_type::<PyStopIteration>();
        // Made into an exception only if somebody looks at it.
        ffi::PyErr_SetObject(end.as_ptr(), handle.as_ptr());
    });
    ptr::null_mut()
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: Python calls it on a thread that is attached, once, when nobody has the object any more. The memory is
    // what `PyObject_New` took, and the class was held by it.
    unsafe {
        let class = ffi::Py_TYPE(object);
        ffi::Py_DECREF((*object.cast::<Ready>()).handle);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}
