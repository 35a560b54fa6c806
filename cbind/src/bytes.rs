//! Bytes, texts, ids and times on their way in and out.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::time::Duration;

use forebay_core::{Deadline, Error, ErrorKind, JobId, Result};

use crate::error::{fby_error, fby_status, guard};
use crate::handle::{borrow, null, put};
use crate::record::check_values;

/// Bytes that belong to somebody else. With len 0 they are empty, whatever ptr is. A name or another text
/// is UTF-8; it needs no NUL at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct fby_bytes {
    /// Where they begin.
    pub ptr: *const c_void,
    /// How many they are.
    pub len: usize,
}

/// The id of a job: a UUID, most significant byte first. All zero is no id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct fby_id {
    /// The bytes.
    pub b: [u8; 16],
}

impl fby_bytes {
    /// Bytes that live as long as `bytes` does.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            ptr: bytes.as_ptr().cast(),
            len: bytes.len(),
        }
    }

    pub(crate) const EMPTY: Self = Self {
        ptr: std::ptr::null(),
        len: 0,
    };

    // SAFETY: `ptr` must be NULL or good for `len` bytes, which nobody changes while `'a` lasts.
    #[inline]
    pub(crate) unsafe fn slice<'a>(self, what: &str) -> Result<&'a [u8]> {
        if self.len == 0 {
            return Ok(&[]);
        }
        if self.ptr.is_null() {
            let text = format!("{what} is NULL with a length of {}", self.len);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        if isize::try_from(self.len).is_err() {
            let text = format!("{what} has a length of {}, which no memory has", self.len);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        // SAFETY: not NULL, not too long, and good as required of the caller.
        Ok(unsafe { std::slice::from_raw_parts(self.ptr.cast(), self.len) })
    }

    // SAFETY: as `slice`.
    pub(crate) unsafe fn text<'a>(self, what: &str) -> Result<&'a str> {
        // SAFETY: as required of the caller.
        let bytes = unsafe { self.slice(what) }?;
        std::str::from_utf8(bytes)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("{what} is not UTF-8")).caused_by(e))
    }

    /// The text, or `None` for an empty one.
    //
    // SAFETY: as `slice`.
    #[inline]
    pub(crate) unsafe fn some_text<'a>(self, what: &str) -> Result<Option<&'a str>> {
        if self.len == 0 {
            return Ok(None);
        }
        // SAFETY: as required of the caller.
        unsafe { self.text(what) }.map(Some)
    }

    /// A path: any bytes where the system takes any.
    //
    // SAFETY: as `slice`.
    pub(crate) unsafe fn path<'a>(self, what: &str) -> Result<&'a Path> {
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            // SAFETY: as required of the caller.
            let bytes = unsafe { self.slice(what) }?;
            Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
        }
        #[cfg(not(unix))]
        // SAFETY: as required of the caller.
        unsafe {
            self.text(what).map(Path::new)
        }
    }
}

/// The texts of an array.
//
// SAFETY: the array must be NULL or hold `count` valid texts while `'a` lasts.
pub(crate) unsafe fn texts<'a>(array: *const fby_bytes, count: usize, what: &str) -> Result<Vec<&'a str>> {
    check_values(array, count, what)?;
    // SAFETY: checked, and as required of the caller.
    let text = |i| unsafe { array.add(i).read_unaligned().text(what) };
    (0..count).map(text).collect()
}

impl From<JobId> for fby_id {
    fn from(id: JobId) -> Self {
        Self { b: id.to_bytes() }
    }
}

impl fby_id {
    pub(crate) fn job(self) -> JobId {
        JobId::from_bytes(self.b)
    }
}

/// The id behind a pointer.
//
// SAFETY: the pointer must be NULL or point to an id.
pub(crate) unsafe fn job_id(id: *const fby_id) -> Result<JobId> {
    // SAFETY: as required of the caller; bytes have no alignment.
    Ok(unsafe { borrow(id, "id") }?.job())
}

/// A time to wait: negative for ever.
pub(crate) fn deadline(timeout_ms: i64) -> Deadline {
    match u64::try_from(timeout_ms) {
        Ok(ms) => Deadline::after(Duration::from_millis(ms)),
        Err(_) => Deadline::NEVER,
    }
}

/// A time that 0 leaves to others.
#[inline]
pub(crate) fn some_time(ms: i64, what: &str) -> Result<Option<Duration>> {
    match u64::try_from(ms) {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) => Err(Error::new(
            ErrorKind::Invalid,
            format!("{what} is negative: {ms}"),
        )),
    }
}

/// Writes an id as text, for example 01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e.
///
/// Parameters: id; buf takes 36 characters and a NUL; cap is how many bytes buf has, at least 37.
/// Returns: FBY_OK; FBY_E_INVALID.
/// Memory: nothing is kept.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_id_format(
    id: *const fby_id,
    buf: *mut c_char,
    cap: usize,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a valid pointer or NULL.
        let text = unsafe { job_id(id) }?.to_string();
        if buf.is_null() {
            return Err(null("buf"));
        }
        if cap <= text.len() {
            let text = format!("buf has {cap} bytes; an id needs {}", text.len() + 1);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        // SAFETY: buf has room for the text and its NUL.
        unsafe {
            text.as_ptr().copy_to_nonoverlapping(buf.cast(), text.len());
            buf.add(text.len()).write(0);
        }
        Ok(())
    })
}

/// Reads an id from text, with hyphens or without.
///
/// Parameters: text; id takes the answer.
/// Returns: FBY_OK; FBY_E_INVALID.
/// Memory: nothing is kept.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_id_parse(
    text: fby_bytes,
    id: *mut fby_id,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for valid bytes and a valid pointer or NULL.
        unsafe {
            let parsed: JobId = text.text("text")?.parse()?;
            borrow(id, "id")?;
            put(id, parsed.into());
        }
        Ok(())
    })
}
