//! JSON, when a value must leave the process or has come from outside.
//!
//! What values mostly are, the types of the language themselves, is written and read here. Everything else, a
//! subclass, a NaN, a text that is not quite JSON, a value nested deeper than anybody means to, goes to
//! Python's own `json` module, whose text and whose answers are the measure for ours: exact for integers of
//! any size, strict about NaN. The Python side (`forebay/_codec.py`) also names the part of a value that JSON
//! cannot hold.

mod reader;
mod writer;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::call::Call;
use crate::errors::guard;
use crate::imports::Imported;
use reader::Reader;
use writer::Writer;

/// Deeper values are left to the `json` module, which has a limit of its own and an error for it. This one
/// keeps the stack of the smallest thread safe.
const DEEPEST: usize = 100;

/// `value` as JSON text. Fails with an `EncodeError` that names the path of what cannot be written.
pub fn write(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    Writer::text(|writer| writer.value(value, 0)).map_or_else(|| dumps(value), Ok)
}

/// The same for the object that a call is written as.
pub fn write_call(py: Python<'_>, call: &Call) -> PyResult<Bytes> {
    Writer::text(|writer| writer.call(py, call)).map_or_else(|| dumps(&call.object(py)?), Ok)
}

/// The value that JSON text stands for.
pub fn read<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Reader::whole(py, text).map_or_else(|| loads(py, text), Ok)
}

/// A value as it is written into a dump; for tests.
#[pyfunction]
pub fn to_json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    guard(value.py(), || Ok(PyBytes::new(value.py(), &write(value)?)))
}

/// The value that is read for a text in a dump; for tests.
#[pyfunction]
pub fn from_json<'py>(text: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    guard(text.py(), || read(text.py(), text.as_bytes()))
}

fn dumps(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = ENCODE
        .find(value.py(), "forebay._codec", "encode")?
        .call1((value,))?;
    Ok(Bytes::copy_from_slice(text.cast::<PyBytes>()?.as_bytes()))
}

fn loads<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.find(py, "json", "loads")?.call1((PyBytes::new(py, text),))
}
