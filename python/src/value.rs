//! Payloads and results of Python: `bytes` as they are, everything else by reference.
//!
//! A reference becomes bytes only when the core asks for them ([`HostObject::encode`]): for a dump, for
//! the fingerprint of a keyed push, for a reader in another language. A value is then JSON; what
//! `Handler.push` was called with is a *call*, JSON with its own content type, so that a restored job
//! calls its handler as the first one would have.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::sync::OnceLock;

use bytes::Bytes;
use forebay::{Encoded, Error, ErrorKind, HostObject, JSON, Payload};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::call::{self, Call};
use crate::graveyard::bury;
use crate::json;

/// The content type of a call: `{"args": [...], "kwargs": {...}}`.
const CALL: &str = "application/vnd.forebay.call+json";
/// The content type of text.
const TEXT: &str = "text/plain";
/// Shorter `bytes` are copied: cheaper than another owner, and nothing of Python is kept alive.
const COPY_BELOW: usize = 16 * 1024;

/// What a payload can hold by reference: a Python object, or what a call was made with.
///
/// Two types, and not two cases of one: most payloads are the former, and need one word.
trait Carried: Send + Sync + 'static {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded>;
    fn bury(self);
}

impl Carried for Py<PyAny> {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded> {
        Ok(Encoded {
            bytes: json::write(self.bind(py))?,
            content_type: JSON.into(),
        })
    }

    fn bury(self) {
        bury(self);
    }
}

impl Carried for Call {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded> {
        Ok(Encoded {
            bytes: json::write_call(py, self)?,
            content_type: CALL.into(),
        })
    }

    fn bury(self) {
        self.into_references().for_each(bury);
    }
}

/// What a payload holds by reference.
struct Value<C: Carried>(ManuallyDrop<C>);

impl<C: Carried> Value<C> {
    fn payload(carried: C) -> Payload {
        Payload::host(Self(ManuallyDrop::new(carried)))
    }

    /// What this payload holds, if it is one of these.
    fn find(payload: &Payload) -> Option<&C> {
        payload.as_host::<Self>().map(|value| &*value.0)
    }
}

impl<C: Carried> HostObject for Value<C> {
    /// Never from a thread of the core: what a dump configured by option writes was encoded at its push, and the
    /// core keeps that.
    fn encode(&self) -> forebay::Result<Encoded> {
        let encoded = Python::try_attach(|py| {
            self.0
                .write(py)
                .map_err(|e| Error::new(ErrorKind::Encode, e.value(py).to_string()))
        });
        encoded.unwrap_or_else(|| Err(Error::new(ErrorKind::Encode, "the interpreter is ending")))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<C: Carried> Drop for Value<C> {
    fn drop(&mut self) {
        // SAFETY: it is not used again: this is the drop.
        unsafe { ManuallyDrop::take(&mut self.0) }.bury();
    }
}

/// The memory of a large `bytes` object, kept alive without a copy.
struct Kept {
    object: ManuallyDrop<Py<PyAny>>,
    data: *const u8,
    len: usize,
}

// SAFETY: the memory of a `bytes` object never moves or changes while a reference to it is held, and the
// reference is only laid down, never dropped, by whatever thread this ends on.
unsafe impl Send for Kept {}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: see `Send`: the memory lives and stands still as long as `object` is held.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: `object` is not used again: this is the drop.
        bury(unsafe { ManuallyDrop::take(&mut self.object) });
    }
}

/// The payload, or result, that `value` is.
pub fn payload(value: Bound<'_, PyAny>) -> Payload {
    if value.is_none() {
        return none(value.py());
    }
    match value.cast::<PyBytes>() {
        Ok(bytes) => octets(bytes),
        Err(_) => Value::payload(value.unbind()),
    }
}

/// The payload of a call.
pub fn call(call: Call) -> Payload {
    Value::payload(call)
}

/// Nothing, the most frequent value of all: one for the whole process.
fn none(py: Python<'_>) -> Payload {
    static NONE: OnceLock<Payload> = OnceLock::new();
    NONE.get_or_init(|| Value::payload(py.None())).clone()
}

fn octets(bytes: &Bound<'_, PyBytes>) -> Payload {
    let slice = bytes.as_bytes();
    if slice.len() < COPY_BELOW {
        return slice.into();
    }
    let object = ManuallyDrop::new(bytes.clone().into_any().unbind());
    let kept = Kept {
        object,
        data: slice.as_ptr(),
        len: slice.len(),
    };
    Bytes::from_owner(kept).into()
}

/// What a handler is called with.
pub enum Arguments<'a, 'py> {
    /// One value.
    One(Bound<'py, PyAny>),
    /// What a call was made with.
    Call(&'a Call),
    /// What a call was made with, as it was written down.
    Written(Bound<'py, PyTuple>, Bound<'py, PyDict>),
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// The arguments that a payload stands for.
    pub fn of(py: Python<'py>, payload: &'a Payload) -> PyResult<Self> {
        if let Some(value) = Value::<Py<PyAny>>::find(payload) {
            return Ok(Self::One(value.bind(py).clone()));
        }
        if let Some(call) = Value::<Call>::find(payload) {
            return Ok(Self::Call(call));
        }
        let encoded = encode(py, payload)?;
        if encoded.content_type != CALL {
            return decode(py, &encoded).map(Self::One);
        }
        let call = json::read(py, &encoded.bytes)?;
        let args = call.get_item("args")?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let kwargs = call.get_item("kwargs")?.cast_into::<PyDict>()?;
        Ok(Self::Written(PyTuple::new(py, args)?, kwargs))
    }

    /// Calls `function` with these, after `first` if there is one.
    pub fn call(
        self,
        function: &Bound<'py, PyAny>,
        first: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match (self, first) {
            (Self::One(value), first) => call::one(function, first, &value),
            (Self::Call(call), first) => call.call(function, first),
            (Self::Written(args, kwargs), None) => function.call(args, Some(&kwargs)),
            (Self::Written(args, kwargs), Some(first)) => {
                let all = std::iter::once(first.clone())
                    .chain(args.iter())
                    .collect::<Vec<_>>();
                function.call(PyTuple::new(function.py(), all)?, Some(&kwargs))
            }
        }
    }
}

/// The Python value of a payload or result. A call is shown as its JSON object.
pub fn object<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyAny>> {
    if let Some(value) = Value::<Py<PyAny>>::find(payload) {
        return Ok(value.bind(py).clone());
    }
    match Value::<Call>::find(payload) {
        Some(call) => call.object(py),
        None => decode(py, &encode(py, payload)?),
    }
}

fn encode(py: Python<'_>, payload: &Payload) -> PyResult<Encoded> {
    payload.encode().map_err(|e| crate::errors::exception(py, &e))
}

fn decode<'py>(py: Python<'py>, encoded: &Encoded) -> PyResult<Bound<'py, PyAny>> {
    match &*encoded.content_type {
        JSON | CALL => json::read(py, &encoded.bytes),
        TEXT => PyString::from_encoded_object(&PyBytes::new(py, &encoded.bytes), Some(c"utf-8"), None)
            .map(Bound::into_any),
        _ => Ok(PyBytes::new(py, &encoded.bytes).into_any()),
    }
}
