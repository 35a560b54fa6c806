//! JSON, by Python's own `json` module: exact for integers of any size, strict about NaN. The Python side
//! (`forebay/_codec.py`) also names the part of a value that JSON cannot hold.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// `value` as JSON text. Fails with an `EncodeError` that names the path of what cannot be written.
pub fn write(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = ENCODE
        .import(value.py(), "forebay._codec", "encode")?
        .call1((value,))?;
    Ok(Bytes::copy_from_slice(text.cast::<PyBytes>()?.as_bytes()))
}

/// The value that JSON text stands for.
pub fn read<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS
        .import(py, "json", "loads")?
        .call1((PyBytes::new(py, text),))
}
