//! Buffers: bytes that the library hands out for keeps.

use forebay_core::{Bytes, Encoded, Payload, Result};

use crate::bytes::fby_bytes;
use crate::error::{answer, quietly};
use crate::handle::{Boxed, put};

/// Bytes that belong to whoever received them: a result, a text.
pub struct fby_buffer(Encoded);

impl Boxed for fby_buffer {}

impl fby_buffer {
    /// Writes a text to where C wants it.
    //
    // SAFETY: `out` must be NULL or good for a pointer.
    pub(crate) unsafe fn put_text(out: *mut *mut Self, text: String, content_type: &'static str) {
        let bytes = Bytes::from(text);
        let content_type = content_type.into();
        // SAFETY: as required of the caller.
        unsafe { Self::put(out, Encoded { bytes, content_type }) };
    }

    /// Writes a payload to where C wants it.
    //
    // SAFETY: `out` must be NULL or good for a pointer.
    pub(crate) unsafe fn put_payload(out: *mut *mut Self, payload: &Payload) -> Result<()> {
        // SAFETY: as required of the caller.
        unsafe { Self::put(out, payload.encode()?) };
        Ok(())
    }

    unsafe fn put(out: *mut *mut Self, encoded: Encoded) {
        if !out.is_null() {
            // SAFETY: as required of the caller.
            unsafe { put(out, Self(encoded).into_handle()) };
        }
    }
}

/// The bytes of a buffer.
///
/// Parameters: buffer may be NULL.
/// Returns: the bytes, without a NUL at their end; empty for NULL.
/// Memory: they live as long as the buffer.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_buffer_bytes(buffer: *const fby_buffer) -> fby_bytes {
    // SAFETY: the header asks for a live buffer or NULL.
    let bytes = || unsafe { buffer.as_ref() }.map(|b| fby_bytes::of(&b.0.bytes));
    answer(None, bytes).unwrap_or(fby_bytes::EMPTY)
}

/// What the bytes of a buffer are, as a MIME type.
///
/// Parameters: buffer may be NULL.
/// Returns: the type, for example "application/octet-stream"; empty for NULL.
/// Memory: it lives as long as the buffer.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_buffer_content_type(buffer: *const fby_buffer) -> fby_bytes {
    // SAFETY: the header asks for a live buffer or NULL.
    let text = || unsafe { buffer.as_ref() }.map(|b| fby_bytes::of(b.0.content_type.as_bytes()));
    answer(None, text).unwrap_or(fby_bytes::EMPTY)
}

/// Frees a buffer.
///
/// Parameters: buffer may be NULL.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_buffer_free(buffer: *mut fby_buffer) {
    // SAFETY: the header asks for a buffer that is not used again, or NULL.
    quietly(|| unsafe { fby_buffer::free(buffer) });
}
