//! Calls, without a tuple or a dict in between: how `Handler.push` is called, what it keeps of that, and how
//! workers call handlers.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use smallvec::SmallVec;

use crate::given::Given;

// CPython has exported it since 3.9 and keeps it stable since 3.12, which is why the headers of the stable
// interface of 3.11 leave it out.
unsafe extern "C" {
    fn PyObject_Vectorcall(
        callable: *mut ffi::PyObject,
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        kwnames: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// Says that the callee may use the place before the arguments while it runs.
const OFFSET: usize = 1 << (usize::BITS - 1);
/// So many arguments, and a free place before them, find room on the stack.
const FEW: usize = 8;
/// A call with no more values has no memory beside its payload's.
const MOSTLY: usize = 3;

/// What a function is called with: values by position, and after them those whose names are given.
///
/// Not an object of Python, so that the garbage collector need not look at a million of them; and the names
/// are those of the place in the program that made the call, shared by all calls it makes.
pub struct Call {
    values: SmallVec<[Py<PyAny>; MOSTLY]>,
    names: Option<Py<PyTuple>>,
}

impl Call {
    /// What a method has been called with.
    #[inline]
    pub fn of(given: Given<'_, '_>) -> Self {
        let values = given.values().iter().map(|value| (*value).to_owned().unbind());
        Self {
            values: values.collect(),
            names: given.names().map(|names| names.to_owned().unbind()),
        }
    }

    /// The values by position.
    pub fn positional(&self, py: Python<'_>) -> &[Py<PyAny>] {
        let named = self.names.as_ref().map_or(0, |names| names.bind(py).len());
        &self.values[..self.values.len() - named]
    }

    /// The values by name.
    pub fn named<'py>(&self, py: Python<'py>) -> impl Iterator<Item = (Bound<'py, PyAny>, &Py<PyAny>)> {
        let values = &self.values[self.positional(py).len()..];
        let names = self.names.iter().flat_map(move |names| names.bind(py).clone());
        names.zip(values)
    }

    /// The names of the last ones, if any are named.
    pub fn names(&self) -> Option<&Py<PyTuple>> {
        self.names.as_ref()
    }

    /// As a tuple and a dict.
    pub fn arguments<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let kwargs = PyDict::new(py);
        for (name, value) in self.named(py) {
            kwargs.set_item(name, value)?;
        }
        Ok((PyTuple::new(py, self.positional(py))?, kwargs))
    }

    /// As an object: `{"args": [...], "kwargs": {...}}`.
    pub fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (object, (args, kwargs)) = (PyDict::new(py), self.arguments(py)?);
        object.set_item("args", args.to_list())?;
        object.set_item("kwargs", kwargs)?;
        Ok(object.into_any())
    }

    /// Every reference in it.
    pub fn into_references(self) -> impl Iterator<Item = Py<PyAny>> {
        self.values
            .into_iter()
            .chain(self.names.map(|names| names.into_any()))
    }

    /// Calls `function` with these, after `first` if there is one.
    pub fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        first: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let before = 1 + usize::from(first.is_some());
        let all = before + self.values.len();
        let (mut few, mut many) = ([ptr::null_mut(); FEW], Vec::new());
        let places = match all <= FEW {
            true => &mut few[..all],
            false => {
                many.resize(all, ptr::null_mut());
                &mut many[..]
            }
        };
        if let Some(first) = first {
            places[1] = first.as_ptr();
        }
        for (place, value) in places[before..].iter_mut().zip(&self.values) {
            *place = value.as_ptr();
        }
        // SAFETY: the values and the names belong together since the call that was taken, and this holds them.
        unsafe { vectorcall(function, places, self.names.as_ref()) }
    }
}

/// Calls `function` with one value, after `first` if there is one.
#[inline]
pub fn one<'py>(
    function: &Bound<'py, PyAny>,
    first: Option<&Bound<'py, PyAny>>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let first = first.map_or(ptr::null_mut(), Bound::as_ptr);
    let mut places = [ptr::null_mut(), first, value.as_ptr()];
    // Without a first value its place is the free one.
    let places = &mut places[usize::from(first.is_null())..];
    // SAFETY: both values are borrowed from references that outlive the call.
    unsafe { vectorcall(function, places, None) }
}

/// Calls `function` with what `places` points to, but for the first place, which is free; the last of them are
/// named.
///
/// # Safety
/// The pointers are to objects that somebody holds for the time of the call, and there are not fewer of them
/// than names.
#[inline]
unsafe fn vectorcall<'py>(
    function: &Bound<'py, PyAny>,
    places: &mut [*mut ffi::PyObject],
    names: Option<&Py<PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let named = names.map_or(0, |names| names.bind(py).len());
    let positional = places.len() - 1 - named;
    let names = names.map_or(ptr::null_mut(), Py::as_ptr);
    // SAFETY: this thread is attached; the caller answers for the pointers; the free place is there.
    unsafe {
        let args = places.as_mut_ptr().add(1);
        let result = PyObject_Vectorcall(function.as_ptr(), args, positional | OFFSET, names);
        Bound::from_owned_ptr_or_err(py, result)
    }
}
