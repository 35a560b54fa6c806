//! JSON, when a value must leave the process or has come from outside.
//!
//! What values mostly are, the types of the language themselves, is written and read here. Everything else, a
//! subclass, a NaN, a text that is not quite JSON, a value nested deeper than anybody means to, goes to
//! Python's own `json` module, whose text and whose answers are the measure for ours: exact for integers of
//! any size. The Python side (`forebay/_codec.py`) also names the part of a value that JSON cannot hold.

mod names;
mod reader;
mod scan;
mod writer;

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

/// What is written, for the text of an error.
#[derive(Clone, Copy)]
pub enum Whose {
    /// The object of a call.
    Call,
    /// What a job carries.
    Payload,
    /// What a handler has returned.
    Result,
}

/// `value` as JSON text. Fails with an `EncodeError` that names the path of what cannot be written.
pub fn write<T>(
    value: &Bound<'_, PyAny>,
    whose: Whose,
    take: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    let mut writer = Writer::new();
    match writer.value(value) {
        Some(()) => take(writer.text()),
        None => take(dumps(value, whose)?.as_bytes()),
    }
}

/// The same for the object that a call is written as.
pub fn write_call<T>(py: Python<'_>, call: &Call, take: impl FnOnce(&[u8]) -> PyResult<T>) -> PyResult<T> {
    let mut writer = Writer::new();
    match writer.call(py, call) {
        Some(()) => take(writer.text()),
        None => take(dumps(&call.object(py)?, Whose::Call)?.as_bytes()),
    }
}

/// The value that JSON text stands for. Fails with a `DecodeError`.
pub fn read<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Reader::whole(py, text).map_or_else(|| loads(py, text), Ok)
}

/// A value as it is written into a dump; for tests.
#[pyfunction]
pub fn to_json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    guard(py, || {
        write(value, Whose::Payload, |text| Ok(PyBytes::new(py, text)))
    })
}

/// The value that is read for a text in a dump; for tests.
#[pyfunction]
pub fn from_json<'py>(text: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    guard(text.py(), || read(text.py(), text.as_bytes()))
}

fn dumps<'py>(value: &Bound<'py, PyAny>, whose: Whose) -> PyResult<Bound<'py, PyBytes>> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let whose = match whose {
        Whose::Call | Whose::Payload => "parameter",
        Whose::Result => "result",
    };
    let encode = ENCODE.find(value.py(), "forebay._codec", "encode")?;
    Ok(encode.call1((value, whose))?.cast_into::<PyBytes>()?)
}

fn loads<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let decode = DECODE.find(py, "forebay._codec", "decode")?;
    decode.call1((PyBytes::new(py, text),))
}
