//! What is imported from Python once, without waiting for another thread that does so.
//!
//! `PyOnceLock::import` makes all others wait for the first one, and an import lets other threads run: a child
//! that is forked meanwhile would wait for a thread that it does not have. Here several may import the same
//! thing, and the first to have it sets it.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::type_object::PyTypeCheck;

/// A place for something imported.
pub trait Imported<T> {
    /// The attribute `name` of `module`.
    fn find<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, T>>;
}

impl<T: PyTypeCheck> Imported<T> for PyOnceLock<Py<T>> {
    fn find<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, T>> {
        if let Some(known) = self.get(py) {
            return Ok(known.bind(py));
        }
        let found = py.import(module)?.getattr(name)?.cast_into::<T>()?.unbind();
        // Nothing of Python runs in here. If somebody else was first, that is the same object.
        Ok(self.get_or_init(py, || found).bind(py))
    }
}
