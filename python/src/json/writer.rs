//! Values as JSON text, byte for byte as `json.dumps` writes them without spaces and without escapes that
//! UTF-8 does not need.
//!
//! A value is walked by borrowed pointers: nothing of Python runs meanwhile, as every type is one of the
//! language's own, so nothing changes or goes away under the walk.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::io::Write as _;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::DEEPEST;
use super::scan::{is_odd, plain};
use crate::call::Call;

/// Text longer than this is not kept room for.
const KEPT: usize = 64 * 1024;

/// Writes one value. Each step answers `None` for what it leaves to the `json` module; then what has been
/// written so far is worth nothing.
pub struct Writer {
    text: Vec<u8>,
}

thread_local! {
    /// Room for the next text of this thread.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.text.capacity() <= KEPT {
            // A thread that is ending does without.
            let _ = ROOM.try_with(|room| room.set(std::mem::take(&mut self.text)));
        }
    }
}

impl Writer {
    /// With nothing written yet.
    pub fn new() -> Self {
        let mut text = ROOM.try_with(Cell::take).unwrap_or_default();
        text.clear();
        Self { text }
    }

    /// What has been written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// A value.
    pub fn value(&mut self, value: &Bound<'_, PyAny>) -> Option<()> {
        // SAFETY: the thread is attached, and the caller holds the value.
        unsafe { self.any(value.as_ptr(), 0) }
    }

    /// A call, as the object `{"args": [...], "kwargs": {...}}`.
    pub fn call(&mut self, py: Python<'_>, call: &Call) -> Option<()> {
        self.text.extend_from_slice(br#"{"args":["#);
        let mut first = true;
        for value in call.positional(py) {
            self.comma(&mut first);
            // SAFETY: the thread is attached, and the call holds its values.
            unsafe { self.any(value.as_ptr(), 2) }?;
        }
        self.text.extend_from_slice(br#"],"kwargs":{"#);
        first = true;
        for (name, value) in call.named(py) {
            self.comma(&mut first);
            self.string(name.cast_into_exact::<PyString>().ok()?.to_str().ok()?);
            self.text.push(b':');
            // SAFETY: as above.
            unsafe { self.any(value.as_ptr(), 2) }?;
        }
        self.text.extend_from_slice(b"}}");
        Some(())
    }

    /// A value, `depth` levels down.
    ///
    /// # Safety
    /// The thread is attached, and somebody holds the value.
    unsafe fn any(&mut self, value: *mut ffi::PyObject, depth: usize) -> Option<()> {
        // SAFETY: the caller answers for the pointer; each body gets what its type says it is. The addresses of
        // the types are compared, never read.
        unsafe {
            let class = ffi::Py_TYPE(value);
            if class == &raw mut ffi::PyUnicode_Type {
                self.string(utf8(value)?);
            } else if class == &raw mut ffi::PyLong_Type {
                self.int(value)?;
            } else if class == &raw mut ffi::PyDict_Type {
                self.dict(value, depth)?;
            } else if class == &raw mut ffi::PyList_Type {
                self.array(ffi::PyList_Size(value), |i| ffi::PyList_GetItem(value, i), depth)?;
            } else if value == ffi::Py_None() {
                self.text.extend_from_slice(b"null");
            } else if class == &raw mut ffi::PyFloat_Type {
                self.float(ffi::PyFloat_AsDouble(value))?;
            } else if class == &raw mut ffi::PyBool_Type {
                let word: &[u8] = if value == ffi::Py_True() {
                    b"true"
                } else {
                    b"false"
                };
                self.text.extend_from_slice(word);
            } else if class == &raw mut ffi::PyTuple_Type {
                self.array(
                    ffi::PyTuple_Size(value),
                    |i| ffi::PyTuple_GetItem(value, i),
                    depth,
                )?;
            } else {
                return None;
            }
        }
        Some(())
    }

    /// # Safety
    /// As for `any`, and `item` answers with borrowed references for all numbers up to `len`.
    unsafe fn array(
        &mut self,
        len: ffi::Py_ssize_t,
        item: impl Fn(ffi::Py_ssize_t) -> *mut ffi::PyObject,
        depth: usize,
    ) -> Option<()> {
        if depth == DEEPEST {
            return None;
        }
        self.text.push(b'[');
        let mut first = true;
        for i in 0..len {
            self.comma(&mut first);
            // SAFETY: the caller answers for the items, which the array holds.
            unsafe { self.any(item(i), depth + 1) }?;
        }
        self.text.push(b']');
        Some(())
    }

    /// # Safety
    /// As for `any`, and `dict` is one.
    unsafe fn dict(&mut self, dict: *mut ffi::PyObject, depth: usize) -> Option<()> {
        if depth == DEEPEST {
            return None;
        }
        self.text.push(b'{');
        let (mut at, mut name, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        let mut first = true;
        // SAFETY: the caller answers for the dict, which nobody changes meanwhile and which holds both.
        unsafe {
            while ffi::PyDict_Next(dict, &mut at, &mut name, &mut value) != 0 {
                if ffi::Py_TYPE(name) != &raw mut ffi::PyUnicode_Type {
                    return None;
                }
                self.comma(&mut first);
                self.string(utf8(name)?);
                self.text.push(b':');
                self.any(value, depth + 1)?;
            }
        }
        self.text.push(b'}');
        Some(())
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.text.push(b',');
        }
    }

    fn string(&mut self, text: &str) {
        let text = text.as_bytes();
        self.text.reserve(text.len() + 2);
        self.text.push(b'"');
        let mut rest = text;
        loop {
            let clean = plain(rest);
            self.text.extend_from_slice(&rest[..clean]);
            let Some(odd) = rest.get(clean) else { break };
            self.escape(*odd);
            rest = &rest[clean + 1..];
        }
        self.text.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        debug_assert!(is_odd(byte));
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

    /// # Safety
    /// As for `any`, and `number` is an `int`.
    unsafe fn int(&mut self, number: *mut ffi::PyObject) -> Option<()> {
        let mut overflow = 0;
        // SAFETY: the caller answers for the pointer, and an `int` has no errors.
        let small = unsafe { ffi::PyLong_AsLongLongAndOverflow(number, &mut overflow) };
        if overflow == 0 {
            self.text
                .extend_from_slice(itoa::Buffer::new().format(small).as_bytes());
            return Some(());
        }
        // SAFETY: the caller answers for the pointer, and the text that is made is ours.
        let text = unsafe {
            let text = ffi::PyObject_Str(number);
            Bound::from_owned_ptr_or_opt(Python::assume_attached(), text)
        };
        match text {
            Some(text) => self
                .text
                .extend_from_slice(text.cast::<PyString>().ok()?.to_str().ok()?.as_bytes()),
            None => {
                // So long a number that Python refuses to write it: an error, which is to name its path.
                // SAFETY: the thread is attached.
                unsafe { ffi::PyErr_Clear() };
                return None;
            }
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
                ffi::PyErr_Clear();
                return None;
            }
            self.text.extend_from_slice(CStr::from_ptr(text).to_bytes());
            ffi::PyMem_Free(text.cast());
        }
        Some(())
    }
}

/// The text of a string, unless it has half of a pair alone.
///
/// # Safety
/// The thread is attached; `text` is a `str` that somebody holds for as long as the text is used.
unsafe fn utf8<'a>(text: *mut ffi::PyObject) -> Option<&'a str> {
    let mut len = 0;
    // SAFETY: the caller answers for the pointer; the bytes are UTF-8, and live as long as the object.
    unsafe {
        let bytes = ffi::PyUnicode_AsUTF8AndSize(text, &mut len);
        if bytes.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize);
        Some(std::str::from_utf8_unchecked(bytes))
    }
}
