//! Values as JSON text, byte for byte as `json.dumps` writes them without spaces and without escapes that
//! UTF-8 does not need.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::io::Write as _;
use std::ptr;

use bytes::Bytes;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::DEEPEST;
use crate::call::Call;

/// Text longer than this is not kept room for.
const KEPT: usize = 64 * 1024;

/// Writes one value. Each step answers `None` for what it leaves to the `json` module; then what has been
/// written so far is worth nothing. No code of a user runs meanwhile, so nothing changes under it.
pub struct Writer {
    text: Vec<u8>,
}

impl Writer {
    /// What `body` writes.
    pub fn text(body: impl FnOnce(&mut Self) -> Option<()>) -> Option<Bytes> {
        thread_local! {
            static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        let mut writer = Self { text: ROOM.take() };
        writer.text.clear();
        let text = body(&mut writer).map(|()| Bytes::copy_from_slice(&writer.text));
        if writer.text.capacity() <= KEPT {
            ROOM.set(writer.text);
        }
        text
    }

    /// A value, `depth` levels down.
    pub fn value(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> Option<()> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.string(text.to_str().ok()?);
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.int(number)?;
        } else if value.is_none() {
            self.text.extend_from_slice(b"null");
        } else if let Ok(flag) = value.cast_exact::<PyBool>() {
            self.text
                .extend_from_slice(if flag.is_true() { b"true" } else { b"false" });
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.float(number.value())?;
        } else if depth == DEEPEST {
            return None;
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            let members = dict.iter();
            self.object(
                members.map(|(name, value)| Some((name.cast_into_exact::<PyString>().ok()?, value))),
                depth,
            )?;
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.array(list.iter(), depth)?;
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.array(tuple.iter(), depth)?;
        } else {
            return None;
        }
        Some(())
    }

    /// A call, as the object `{"args": [...], "kwargs": {...}}`.
    pub fn call(&mut self, py: Python<'_>, call: &Call) -> Option<()> {
        self.text.extend_from_slice(br#"{"args":"#);
        self.array(call.positional(py).iter().map(|value| value.bind(py)), 1)?;
        self.text.extend_from_slice(br#","kwargs":"#);
        let named = call.named(py);
        self.object(
            named.map(|(name, value)| Some((name.cast_into_exact::<PyString>().ok()?, value.bind(py)))),
            1,
        )?;
        self.text.push(b'}');
        Some(())
    }

    fn array<'py>(
        &mut self,
        values: impl Iterator<Item = impl AsRef<Bound<'py, PyAny>>>,
        depth: usize,
    ) -> Option<()> {
        self.text.push(b'[');
        for (i, value) in values.enumerate() {
            if i > 0 {
                self.text.push(b',');
            }
            self.value(value.as_ref(), depth + 1)?;
        }
        self.text.push(b']');
        Some(())
    }

    fn object<'py>(
        &mut self,
        members: impl Iterator<Item = Option<(Bound<'py, PyString>, impl AsRef<Bound<'py, PyAny>>)>>,
        depth: usize,
    ) -> Option<()> {
        self.text.push(b'{');
        for (i, member) in members.enumerate() {
            let (name, value) = member?;
            if i > 0 {
                self.text.push(b',');
            }
            self.string(name.to_str().ok()?);
            self.text.push(b':');
            self.value(value.as_ref(), depth + 1)?;
        }
        self.text.push(b'}');
        Some(())
    }

    fn string(&mut self, text: &str) {
        self.text.push(b'"');
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let clean = clean(rest);
            self.text.extend_from_slice(&rest[..clean]);
            if let Some(odd) = rest.get(clean) {
                self.escape(*odd);
            }
            rest = &rest[rest.len().min(clean + 1)..];
        }
        self.text.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => {
                write!(self.text, "\\u{byte:04x}").expect("a vector takes everything");
                return;
            }
        };
        self.text.extend_from_slice(&[b'\\', short]);
    }

    fn int(&mut self, number: &Bound<'_, PyInt>) -> Option<()> {
        match number.extract::<i64>() {
            Ok(small) => write!(self.text, "{small}").expect("a vector takes everything"),
            // So long a number that Python refuses to write it is an error, which names its path.
            Err(_) => self
                .text
                .extend_from_slice(number.str().ok()?.to_str().ok()?.as_bytes()),
        }
        Some(())
    }

    /// As `repr` writes it: the shortest text that reads back as the same number. So does Rust, quicker; but it
    /// goes over to powers of ten elsewhere, and of two texts that are as short and as near it takes the other.
    /// With up to 15 digits there is but one.
    fn float(&mut self, number: f64) -> Option<()> {
        if !number.is_finite() {
            return None;
        }
        if number == 0.0 || (1e-4..1e16).contains(&number.abs()) {
            let start = self.text.len();
            write!(self.text, "{number:?}").expect("a vector takes everything");
            if self.text.len() - start <= 16 {
                return Some(());
            }
            self.text.truncate(start);
        }
        const DOT_0: c_int = ffi::Py_DTSF_ADD_DOT_0;
        // SAFETY: the thread is attached; the answer is null or text that is ours until it is freed.
        unsafe {
            let text = ffi::PyOS_double_to_string(number, b'r' as _, 0, DOT_0, ptr::null_mut());
            if text.is_null() {
                return None;
            }
            self.text.extend_from_slice(CStr::from_ptr(text).to_bytes());
            ffi::PyMem_Free(text.cast());
        }
        Some(())
    }
}

/// Whether a byte needs an escape.
const ODD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = byte < 0x20 || byte == b'"' as usize || byte == b'\\' as usize;
        byte += 1;
    }
    table
};

/// How many bytes at the beginning need no escape.
fn clean(text: &[u8]) -> usize {
    let odd = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // All of a stretch at once, and byte by byte only in the one that has something odd.
    let stretches = text.chunks_exact(16);
    let whole = stretches.take_while(|s| !s.iter().fold(false, |any, byte| any | odd(*byte)));
    let start = 16 * whole.count();
    let rest = &text[start..];
    let first = rest.iter().position(|byte| ODD[usize::from(*byte)]);
    start + first.unwrap_or(rest.len())
}
