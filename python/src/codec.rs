//! What payloads are written with where a dispatcher or a handler says another codec than JSON.
//!
//! A codec is an object of Python (`forebay.Codec`). The content type travels with what it has written, so a
//! payload is read by what wrote it, whatever is said here now.

use std::borrow::Cow;
use std::sync::Arc;

use forebay::{CALL, JSON};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};

use crate::imports::Imported;

/// What the content type of a call has after that of the codec.
const OF_CALL: &str = ";forebay=call";

/// A codec that is not JSON.
pub struct Codec {
    content_type: String,
    encode: Py<PyAny>,
    decode: Py<PyAny>,
    /// What it takes: "json", what JSON can hold; "bytes", and `bytes` too; "objects", whatever there is.
    takes: String,
}

impl Codec {
    /// The codec that somebody says: a name or an object. `None` for JSON.
    pub fn read(said: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        if said.is_none() || said.cast::<PyString>().is_ok_and(|name| name == "json") {
            return Ok(None);
        }
        static RESOLVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let resolve = RESOLVE.find(said.py(), "forebay._codec", "resolve")?;
        let (content_type, encode, decode, takes) = resolve.call1((said,))?.extract()?;
        Ok(Some(Arc::new(Self {
            content_type,
            encode,
            decode,
            takes,
        })))
    }

    /// What it takes.
    pub fn takes(&self) -> &str {
        &self.takes
    }

    /// A value, or a call as its object, in bytes.
    pub fn write<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(self
            .encode
            .bind(value.py())
            .call1((value,))?
            .cast_into::<PyBytes>()?)
    }

    /// The content type of what it writes.
    pub fn content_type(&self, call: bool) -> Cow<'static, str> {
        match call {
            false => self.content_type.clone().into(),
            true => format!("{}{OF_CALL}", self.content_type).into(),
        }
    }

    /// The value that bytes stand for.
    fn value<'py>(&self, bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        self.decode.bind(bytes.py()).call1((bytes,))
    }
}

/// What bytes of a content type are.
pub struct Kind<'a> {
    /// The content type of the value.
    pub plain: &'a str,
    /// Whether it is a call.
    pub call: bool,
}

impl<'a> Kind<'a> {
    /// By their content type.
    pub fn of(content_type: &'a str) -> Self {
        match content_type.strip_suffix(OF_CALL) {
            _ if content_type == CALL => Self {
                plain: JSON,
                call: true,
            },
            Some(plain) => Self { plain, call: true },
            None => Self {
                plain: content_type,
                call: false,
            },
        }
    }
}

/// How much it matters that bytes can be read.
#[derive(Clone, Copy)]
pub enum Must {
    /// They are only looked at.
    Not = 0,
    /// They are given to somebody, who may know bytes that nobody else does.
    Maybe = 1,
    /// Bytes will not do.
    Be = 2,
}

/// The value that bytes of this content type stand for: by one of these codecs, or by one that everybody has.
/// `None` if nobody knows; an error if somebody `must`, or if it is one that is read only by who says so.
pub fn read<'py>(
    py: Python<'py>,
    bytes: &[u8],
    content_type: &str,
    codecs: &[&Codec],
    must: Must,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let bytes = PyBytes::new(py, bytes);
    if let Some(codec) = codecs.iter().find(|codec| codec.content_type == content_type) {
        return codec.value(&bytes).map(Some);
    }
    static READ: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let read = READ.find(py, "forebay._codec", "read")?;
    let read = read.call1((content_type, bytes, must as u8))?;
    let (found, value): (bool, Bound<'py, PyAny>) = read.extract()?;
    Ok(found.then_some(value))
}
