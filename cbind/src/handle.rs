//! Handles: which C type is owned how. A type is `Boxed` (one owner) or `Counted` (references, retained
//! and released), so freeing one as the other does not compile.

use std::sync::Arc;

use forebay_core::{Error, ErrorKind, Result};

use crate::error::contain;

/// The value behind a pointer that C passed.
//
// SAFETY: the pointer must be NULL or point to a live value; `'a` must end with the call.
pub(crate) unsafe fn borrow<'a, T>(handle: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: as required of the caller.
    unsafe { handle.as_ref() }.ok_or_else(|| null(what))
}

/// The value behind a pointer that C passed, to be changed.
//
// SAFETY: as `borrow`, and nobody else may use the value during the call.
pub(crate) unsafe fn borrow_mut<'a, T>(handle: *mut T, what: &str) -> Result<&'a mut T> {
    // SAFETY: as required of the caller.
    unsafe { handle.as_mut() }.ok_or_else(|| null(what))
}

/// Writes an answer where C wants it.
//
// SAFETY: the pointer must be NULL or good for one value.
pub(crate) unsafe fn put<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: as required of the caller; C need not align what it gives.
        unsafe { out.write_unaligned(value) };
    }
}

pub(crate) fn null(what: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{what} is NULL"))
}

/// Handles with one owner.
pub(crate) trait Boxed: Sized {
    fn into_handle(self) -> *mut Self {
        Box::into_raw(Box::new(self))
    }

    // SAFETY: the handle must be NULL or come from `into_handle`, and not be used again.
    unsafe fn free(handle: *mut Self) {
        if !handle.is_null() {
            // SAFETY: as required of the caller.
            drop(unsafe { Box::from_raw(handle) });
        }
    }
}

/// Handles with one owner that stand for something of the process that made them.
pub(crate) trait Homed: Boxed {
    /// What the header calls its parameter.
    const NAME: &'static str;

    /// Fails in the child of a fork.
    fn check_process(&self) -> Result<()>;

    /// What is behind the handle, in its own process.
    //
    // SAFETY: the handle must be NULL or live; `'a` must end with the call.
    unsafe fn live<'a>(handle: *const Self) -> Result<&'a Self> {
        // SAFETY: as required of the caller.
        let value = unsafe { borrow(handle, Self::NAME) }?;
        value.check_process()?;
        Ok(value)
    }

    /// Frees it; does nothing for NULL and in the child of a fork, where nobody is to be told.
    //
    // SAFETY: the handle must be NULL or live, and not be used again.
    unsafe fn free_at_home(handle: *mut Self) {
        let _ = contain(|| {
            // SAFETY: as required of the caller.
            unsafe {
                Self::live(handle)?;
                Self::free(handle);
            }
            Ok(())
        });
    }
}

/// Handles that share what is behind them.
pub(crate) trait Counted: Sized {
    fn into_handle(self) -> *mut Self {
        Arc::into_raw(Arc::new(self)).cast_mut()
    }

    // SAFETY: the handle must come from `into_handle` and be live.
    unsafe fn retain(handle: *const Self) {
        // SAFETY: as required of the caller.
        unsafe { Arc::increment_strong_count(handle) };
    }

    // SAFETY: the handle must come from `into_handle` or `retain`, and not be used again.
    unsafe fn release(handle: *const Self) {
        // SAFETY: as required of the caller.
        drop(unsafe { Arc::from_raw(handle) });
    }
}
