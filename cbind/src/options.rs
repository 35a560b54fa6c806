//! Options by name: the core's table.

use forebay_core::Options;

use crate::bytes::fby_bytes;
use crate::error::{contain, fby_error, fby_status, guard, quietly};
use crate::handle::{Boxed, borrow_mut};

/// What a dispatcher is opened with.
pub struct fby_options(pub(crate) Options);

impl Boxed for fby_options {}

/// The default options.
///
/// Returns: the options; NULL only if the library has a defect.
/// Memory: yours; free them with fby_options_free.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn fby_options_new() -> *mut fby_options {
    contain(|| Ok(fby_options(Options::default()).into_handle())).unwrap_or(std::ptr::null_mut())
}

/// Sets one option by its name; docs/configuration.md lists them with the form of their values.
///
/// Parameters: options; name, for example "concurrency"; value, for example "4" or "250ms".
/// Returns: FBY_OK; FBY_E_NOT_FOUND for a name that no option has; FBY_E_INVALID for a value that is not of
/// its form. Then nothing was changed.
/// Memory: nothing is kept.
/// Threads: one at a time for the same options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_options_set(
    options: *mut fby_options,
    name: fby_bytes,
    value: fby_bytes,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for live options or NULL, and for valid bytes.
    guard(err, || unsafe {
        borrow_mut(options, "options")?
            .0
            .set(name.text("name")?, value.text("value")?)
    })
}

/// Frees options. A dispatcher that was opened with them keeps its own.
///
/// Parameters: options may be NULL.
/// Threads: one at a time for the same options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_options_free(options: *mut fby_options) {
    // SAFETY: the header asks for options that are not used again, or NULL.
    quietly(|| unsafe { fby_options::free(options) });
}
