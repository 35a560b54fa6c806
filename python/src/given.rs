//! Methods that take their arguments from where the caller has them.
//!
//! Where a method takes keywords of any name, PyO3 has Python collect the arguments in a tuple and a dict, and
//! copies the dict. That costs more than a push. These methods are called by the protocol beneath
//! (`METH_FASTCALL | METH_KEYWORDS`): one row of pointers, and a tuple with the names of the last ones.

use std::ffi::CStr;
use std::marker::PhantomData;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{Borrowed, PyClass};

use crate::errors::guard;

/// The arguments of one call.
#[derive(Clone, Copy)]
pub struct Given<'a, 'py> {
    /// Whose thread is attached.
    pub py: Python<'py>,
    values: &'a [Borrowed<'a, 'py, PyAny>],
    names: Option<Borrowed<'a, 'py, PyTuple>>,
}

impl<'a, 'py> Given<'a, 'py> {
    /// Those by position.
    pub fn positional(self) -> &'a [Borrowed<'a, 'py, PyAny>] {
        &self.values[..self.values.len() - self.names.map_or(0, |names| names.len())]
    }

    /// Those by name.
    pub fn named(self) -> impl Iterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let values = self.values[self.positional().len()..].iter();
        let names = self.names.into_iter().flat_map(|names| names.to_owned());
        names.zip(values.map(|value| (*value).to_owned()))
    }

    /// All but the first by position, of which there is one.
    pub fn after_first(self) -> Self {
        Self {
            values: &self.values[1..],
            ..self
        }
    }

    /// All of them, by position first.
    pub fn values(self) -> &'a [Borrowed<'a, 'py, PyAny>] {
        self.values
    }

    /// The names of the last ones, if any are named.
    pub fn names(self) -> Option<Borrowed<'a, 'py, PyTuple>> {
        self.names
    }
}

/// A method of `T`.
pub struct Method<T> {
    definition: ffi::PyMethodDef,
    class: PhantomData<fn(&T)>,
}

// SAFETY: neither we nor Python ever write to a definition.
unsafe impl<T> Sync for Method<T> {}

impl<T: PyClass> Method<T> {
    /// The method `name`. Its text begins with its signature, as `inspect` reads it.
    ///
    /// # Safety
    /// The body passes its four arguments to [`call`] with the same `T`, and does nothing else with them.
    pub const unsafe fn new(
        name: &'static CStr,
        text: &'static CStr,
        body: ffi::PyCFunctionFastWithKeywords,
    ) -> Self {
        let definition = ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: body,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: text.as_ptr(),
        };
        Self {
            definition,
            class: PhantomData,
        }
    }

    /// Gives the class this method.
    pub fn add(&'static self, py: Python<'_>) -> PyResult<()> {
        let class: Bound<'_, PyType> = py.get_type::<T>();
        // SAFETY: the definition is there for ever, and both pointers are to what they should be.
        let method = unsafe {
            let definition = (&raw const self.definition).cast_mut();
            let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
            Bound::from_owned_ptr_or_err(py, method)?
        };
        class.setattr(method.getattr("__name__")?.cast::<PyString>()?, method)
    }
}

/// The call of a method: `body` with the object and the arguments, and its answer or its exception.
///
/// # Safety
/// The arguments are those that Python passed to the body of a [`Method`] of `T`.
pub unsafe fn call<T: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, T>, Given<'_, '_>) -> PyResult<Py<PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: Python calls a method on a thread that is attached. PyO3 is not told, which costs as much as a push does
    // beside the core's part: a `Py` that is dropped meanwhile is let go later, and a `Bound` at once.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: a method is called with instances of its class only, and with a tuple of names or none; the
    // caller holds both, and each argument, until the method returns. A `Borrowed` is a pointer.
    let (object, given) = unsafe {
        let names = Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked::<PyTuple>());
        let count = positional as usize + names.map_or(0, |names| names.len());
        let values: &[Borrowed<'_, '_, PyAny>] = match count {
            0 => &[],
            count => std::slice::from_raw_parts(args.cast(), count),
        };
        (Borrowed::from_ptr(py, object), Given { py, values, names })
    };
    // SAFETY: as above.
    let object = unsafe { object.cast_unchecked::<T>() };
    match guard(py, || body(&object, given)) {
        Ok(answer) => answer.into_ptr(),
        Err(error) => {
            Python::attach(|py| error.restore(py));
            std::ptr::null_mut()
        }
    }
}
