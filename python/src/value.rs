//! Payloads and results of Python: `bytes` as they are, everything else by reference.
//!
//! A reference becomes bytes only when the core asks for them ([`HostObject::encode`]): for a dump, for
//! the fingerprint of a keyed push, for a reader in another language. A value is then JSON, unless its handler
//! says another codec; what `Handler.push` was called with is a *call*, with a content type of its own, so that
//! a restored job calls its handler as the first one would have. What the annotations of a handler make of its
//! values is [`crate::format`]'s to say.

use std::any::Any;
use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::sync::OnceLock;

use bytes::Bytes;
use forebay::{CALL, Encoded, Error, ErrorKind, HostObject, JSON, Payload};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::call::{self, Call};
use crate::codec::{self, Codec, Must};
use crate::format::{self, Format};
use crate::graveyard::{bury, bury_all};
use crate::imports::Imported;
use crate::json::{self, Whose};

/// The content type of text.
const TEXT: &str = "text/plain";
/// Shorter `bytes` are copied: cheaper than another owner, and nothing of Python is kept alive.
const COPY_BELOW: usize = 16 * 1024;

/// What a payload can hold by reference: a Python object, or what a call was made with; with a format if they
/// are not written as anybody's are.
///
/// Several types, and not several cases of one: most payloads are the first, and need one word.
trait Carried: Send + Sync + 'static {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded>;
    fn bury(self);
}

impl Carried for Py<PyAny> {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded> {
        format::write_with(None, self.bind(py), Whose::Payload, encoded)
    }

    fn bury(self) {
        bury(self);
    }
}

impl Carried for Call {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded> {
        json::write_call(py, self, |text| encoded(text, CALL.into()))
    }

    fn bury(self) {
        bury_all(self.into_references());
    }
}

/// A value, or a call, of a handler that has a say in how it is written.
struct Formed<C> {
    carried: C,
    format: Py<Format>,
}

impl Carried for Formed<Py<PyAny>> {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded> {
        self.format.get().write_one(self.carried.bind(py), encoded)
    }

    fn bury(self) {
        bury(self.carried);
        bury(self.format.into_any());
    }
}

impl Carried for Formed<Call> {
    fn write(&self, py: Python<'_>) -> PyResult<Encoded> {
        self.format.get().write_call(py, &self.carried, encoded)
    }

    fn bury(self) {
        self.carried.bury();
        bury(self.format.into_any());
    }
}

fn encoded(bytes: &[u8], content_type: Cow<'static, str>) -> PyResult<Encoded> {
    Ok(Encoded {
        bytes: Bytes::copy_from_slice(bytes),
        content_type,
    })
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
#[inline]
pub fn payload(value: Bound<'_, PyAny>) -> Payload {
    if value.is_none() {
        return none(value.py());
    }
    match value.cast::<PyBytes>() {
        Ok(bytes) => octets(bytes),
        Err(_) => Value::payload(value.unbind()),
    }
}

/// The payload that `value` is for a handler of this format.
pub fn formed(value: Bound<'_, PyAny>, format: &Py<Format>) -> Payload {
    match is_bytes(&value) || format.get().is_plain() {
        true => payload(value),
        false => Value::payload(Formed {
            format: format.clone_ref(value.py()),
            carried: value.unbind(),
        }),
    }
}

/// The payload of a call of a handler of this format.
pub fn call(py: Python<'_>, call: Call, format: &Py<Format>) -> Payload {
    match format.get().is_plain() {
        true => Value::payload(call),
        false => Value::payload(Formed {
            carried: call,
            format: format.clone_ref(py),
        }),
    }
}

/// Nothing, the most frequent value of all: one for the whole process.
#[inline]
fn none(py: Python<'_>) -> Payload {
    static NONE: OnceLock<Payload> = OnceLock::new();
    let forever = || Payload::host_forever(Value(ManuallyDrop::new(py.None())));
    NONE.get_or_init(forever).clone()
}

/// Whether a value is written as the bytes that it is.
pub fn is_bytes(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyBytes>()
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
    /// The arguments that a payload stands for, for a handler of this format. What cannot be read will not be
    /// read the next time either: the error is one that no attempt can help.
    pub fn of(py: Python<'py>, payload: &'a Payload, format: &Format) -> PyResult<Self> {
        if let Some(value) = one(payload) {
            return Ok(Self::One(value.bind(py).clone()));
        }
        match called(payload) {
            Some(call) => Ok(Self::Call(call)),
            None => Self::read(py, payload, format).map_err(|error| hopeless(py, error)),
        }
    }

    fn read(py: Python<'py>, payload: &Payload, format: &Format) -> PyResult<Self> {
        let codecs = format.codecs().collect::<Vec<_>>();
        let (value, call) = decode(py, payload, &codecs, true)?;
        if !call {
            return format.read_one(value).map(Self::One);
        }
        let (args, kwargs) = format.read_call(&value)?;
        Ok(Self::Written(args, kwargs))
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

/// The object that a payload holds by reference.
fn one(payload: &Payload) -> Option<&Py<PyAny>> {
    let formed = || Value::<Formed<Py<PyAny>>>::find(payload).map(|formed| &formed.carried);
    Value::<Py<PyAny>>::find(payload).or_else(formed)
}

/// The call that a payload holds by reference.
fn called(payload: &Payload) -> Option<&Call> {
    let formed = || Value::<Formed<Call>>::find(payload).map(|formed| &formed.carried);
    Value::<Call>::find(payload).or_else(formed)
}

/// The Python value of a payload or result, to look at. A call is shown as its object, and what was written by
/// a codec that only its handler knows as bytes.
pub fn object<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyAny>> {
    match (one(payload), called(payload)) {
        (Some(value), _) => Ok(value.bind(py).clone()),
        (None, Some(call)) => call.object(py),
        (None, None) => Ok(decode(py, payload, &[], false)?.0),
    }
}

/// What a handler has returned that has this format.
pub fn result<'py>(
    py: Python<'py>,
    payload: &Payload,
    format: Option<&Format>,
) -> PyResult<Bound<'py, PyAny>> {
    match (one(payload), format) {
        (Some(value), _) => Ok(value.bind(py).clone()),
        (None, None) => Ok(decode(py, payload, &[], true)?.0),
        (None, Some(format)) => {
            let codecs = format.codecs().collect::<Vec<_>>();
            format.read_result(decode(py, payload, &codecs, true)?.0)
        }
    }
}

/// The value of a payload that has been written, and whether it is the object of a call. What none of these
/// codecs has written is bytes; `strictly`, it is refused if only a codec that must be said can read it.
fn decode<'py>(
    py: Python<'py>,
    payload: &Payload,
    codecs: &[&Codec],
    strictly: bool,
) -> PyResult<(Bound<'py, PyAny>, bool)> {
    match (payload.as_bytes(), payload.content_type()) {
        (Some(bytes), Some(content_type)) => decode_bytes(py, bytes, content_type, codecs, strictly),
        _ => {
            let Encoded { bytes, content_type } =
                payload.encode().map_err(|e| crate::errors::exception(py, &e))?;
            decode_bytes(py, &bytes, &content_type, codecs, strictly)
        }
    }
}

fn decode_bytes<'py>(
    py: Python<'py>,
    bytes: &[u8],
    content_type: &str,
    codecs: &[&Codec],
    strictly: bool,
) -> PyResult<(Bound<'py, PyAny>, bool)> {
    let raw = || PyBytes::new(py, bytes).into_any();
    match content_type {
        JSON => Ok((json::read(py, bytes)?, false)),
        CALL => Ok((json::read(py, bytes)?, true)),
        forebay::OCTETS => Ok((raw(), false)),
        TEXT => {
            let text = PyString::from_encoded_object(&PyBytes::new(py, bytes), Some(c"utf-8"), None);
            match text {
                Err(error) if strictly => Err(error),
                text => Ok((text.map_or_else(|_| raw(), Bound::into_any), false)),
            }
        }
        other => {
            let codec::Kind { plain, call } = codec::Kind::of(other);
            let must = match (strictly, call) {
                (false, _) => Must::Not,
                (true, false) => Must::Maybe,
                (true, true) => Must::Be,
            };
            match codec::read(py, bytes, plain, codecs, must)? {
                Some(value) => Ok((value, call)),
                None => Ok((raw(), false)),
            }
        }
    }
}

/// The same error, as one that no further attempt can help.
#[cold]
fn hopeless(py: Python<'_>, error: PyErr) -> PyErr {
    static HOPELESS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = HOPELESS
        .find(py, "forebay._codec", "hopeless")
        .and_then(|hopeless| hopeless.call1((error.value(py),)));
    made.map_or_else(|odd| odd, PyErr::from_value)
}
