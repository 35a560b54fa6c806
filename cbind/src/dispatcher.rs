//! The dispatcher: its life, from open to stop.

use std::time::Duration;

use forebay_core::{Dispatcher, Options, Result};

use crate::buffer::fby_buffer;
use crate::bytes::{deadline, fby_bytes, some_time};
use crate::error::{contain, fby_error, fby_status, guard, quietly};
use crate::handle::{Counted, borrow, null, put};
use crate::options::fby_options;
use crate::push::fby_durability;
use crate::record::{Record, write};

/// A queue of jobs with everything around it. Any thread.
pub struct fby_dispatcher(Dispatcher);

impl Counted for fby_dispatcher {}

/// What a stop did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_stop_report {
    /// sizeof(fby_stop_report).
    pub struct_size: usize,
    /// Running jobs that did not finish within the grace and went back to the queue.
    pub handed_back: u64,
    /// Jobs that still wait, those handed back among them.
    pub waiting: u64,
}

// SAFETY: repr(C), size first, no padding, integers only.
unsafe impl Record for fby_stop_report {}

/// The dispatcher behind a handle, in the process that opened it.
//
// SAFETY: the handle must be NULL or live; `'a` must end with the call.
pub(crate) unsafe fn dispatcher<'a>(handle: *const fby_dispatcher) -> Result<&'a Dispatcher> {
    // SAFETY: as required of the caller.
    let d = unsafe { borrow(handle, "dispatcher") }?;
    d.0.check_process()?;
    Ok(&d.0)
}

/// Opens a dispatcher on the engine that a URL names: "memory:" is in this process,
/// "sqlite:/var/lib/app/jobs.db" keeps every job in that file, which this process then has for itself, and
/// "sqlite:/var/lib/app/jobs.db?shared=true" shares it with other processes that say so. Options after a "?" in
/// the URL, as in "memory:?concurrency=4", override options.
///
/// Parameters: url; options may be NULL for the defaults; out takes the dispatcher.
/// Returns: FBY_OK; FBY_E_UNSUPPORTED for a URL that names no engine; FBY_E_INVALID and FBY_E_NOT_FOUND for
/// bad options; FBY_E_CORRUPT, FBY_E_FUTURE_FORMAT, FBY_E_ALREADY_OPEN and FBY_E_STORAGE for a file that
/// cannot be used, which is left alone; FBY_E_NO_MEMORY if no thread can be started.
/// Memory: *out is yours; give it up with fby_release. It is written on FBY_OK only.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_open(
    url: fby_bytes,
    options: *const fby_options,
    out: *mut *mut fby_dispatcher,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        if out.is_null() {
            return Err(null("out"));
        }
        // SAFETY: the header asks for valid bytes, and for live options or NULL.
        let (url, options) = unsafe { (url.text("url")?, options.as_ref()) };
        let options = options.map_or_else(Options::default, |o| o.0.clone());
        let opened = fby_dispatcher(Dispatcher::open(url, options)?);
        // SAFETY: the header asks for room for one pointer.
        unsafe { put(out, opened.into_handle()) };
        Ok(())
    })
}

/// Takes another reference to a dispatcher.
///
/// Parameters: dispatcher may be NULL.
/// Returns: the same dispatcher.
/// Memory: each reference is given up by its own fby_release.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_retain(dispatcher: *mut fby_dispatcher) -> *mut fby_dispatcher {
    if !dispatcher.is_null() {
        // SAFETY: the header asks for a live dispatcher.
        quietly(|| unsafe { fby_dispatcher::retain(dispatcher) });
    }
    dispatcher
}

/// Gives a reference to a dispatcher up. The last one stops it without a grace, unless it was stopped, and
/// ends all tickets. In the child of a fork nothing is freed.
///
/// Parameters: dispatcher may be NULL.
/// Threads: any; in a handler, the stop is left to a thread of the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_release(dispatcher: *mut fby_dispatcher) {
    let release = || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        unsafe { self::dispatcher(dispatcher) }?;
        // SAFETY: the header asks for a reference that is not used again.
        unsafe { fby_dispatcher::release(dispatcher) };
        Ok(())
    };
    // There is nothing to do for NULL and in the child of a fork, and nobody to tell.
    let _ = contain(release);
}

/// Starts the worker threads that run registered handlers: as many as the option concurrency says. A second
/// call changes nothing.
///
/// Parameters: dispatcher.
/// Returns: FBY_OK; FBY_E_NO_MEMORY if the system refuses a thread; FBY_E_CLOSED; FBY_E_FORKED;
/// FBY_E_INVALID.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_start(
    dispatcher: *const fby_dispatcher,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live dispatcher or NULL.
    guard(err, || unsafe { self::dispatcher(dispatcher) }?.start())
}

/// Waits until no job is queued and none runs. Scheduled jobs are not waited for.
///
/// Parameters: dispatcher; timeout_ms, FBY_FOREVER for no limit.
/// Returns: FBY_OK; FBY_E_TIMEOUT; FBY_E_WOULD_DEADLOCK in a handler; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, but not in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_drain(
    dispatcher: *const fby_dispatcher,
    timeout_ms: i64,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        d.drain(deadline(timeout_ms))
    })
}

/// Returns when everything that was accepted, finished or changed before is on the disk, or as safe as the
/// engine can make it.
///
/// Parameters: dispatcher; reached may be NULL, else takes how safe that is.
/// Returns: FBY_OK; FBY_E_STORAGE and FBY_E_UNKNOWN if the store failed; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_flush(
    dispatcher: *const fby_dispatcher,
    reached: *mut fby_durability,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let level = unsafe { self::dispatcher(dispatcher) }?.flush()?;
        // SAFETY: the header asks for room for a level, or NULL.
        unsafe { put(reached, level.code()) };
        Ok(())
    })
}

/// Stops: hands out no more jobs, waits for running ones, gives the others back to the queue, ends the
/// threads, drops the handlers, and writes the dump file if there is one. A second call waits for the first
/// and reports the same. Pushes are accepted until the stop is complete.
///
/// Parameters: dispatcher; grace_ms is how long to wait for running jobs, FBY_DEFAULT for the option grace;
/// report may be NULL.
/// Returns: FBY_OK; FBY_E_WOULD_DEADLOCK in a handler, where fby_request_stop is to be used; FBY_E_FORKED;
/// FBY_E_INVALID; FBY_E_STORAGE or FBY_E_ENCODE if the dump could not be written, after all else has ended.
/// Memory: the dispatcher is still to be released.
/// Threads: any, but not in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_stop(
    dispatcher: *const fby_dispatcher,
    grace_ms: i64,
    report: *mut fby_stop_report,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        let grace = u64::try_from(grace_ms).map_or(d.options().grace, Duration::from_millis);
        let stopped = d.stop(grace)?;
        let value = fby_stop_report {
            struct_size: size_of::<fby_stop_report>(),
            handed_back: stopped.handed_back as u64,
            waiting: stopped.waiting,
        };
        // SAFETY: the header asks for a struct of its own size, or NULL.
        unsafe { write(report, value, "report") }
    })
}

/// Begins to stop and returns at once: nothing more is handed out, and handlers that ask hear it. Somebody
/// must still call fby_stop, or release the last reference.
///
/// Parameters: dispatcher.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_request_stop(
    dispatcher: *const fby_dispatcher,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        unsafe { self::dispatcher(dispatcher) }?.request_stop();
        Ok(())
    })
}

/// What time it is for a dispatcher.
///
/// Parameters: dispatcher; now_ms may be NULL, else takes milliseconds since 1970.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_now(
    dispatcher: *const fby_dispatcher,
    now_ms: *mut i64,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live dispatcher, and room for a number, or NULL.
    guard(err, || unsafe {
        put(now_ms, self::dispatcher(dispatcher)?.now().as_millis());
        Ok(())
    })
}

/// For tests: moves the clock of a dispatcher forward that was opened with the option clock=manual, and does all
/// that has become due before it returns: jobs whose time has come are queued, attempts and leases that are overdue
/// have ended, jobs past their deadline have expired, jobs of forwarded queues are passed on.
///
/// Parameters: dispatcher; by_ms, 0 or more.
/// Returns: FBY_OK; FBY_E_UNSUPPORTED if its clock is the system's; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_advance(
    dispatcher: *const fby_dispatcher,
    by_ms: i64,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        d.advance(some_time(by_ms, "by_ms")?.unwrap_or_default())
    })
}

/// What an option of a dispatcher is set to, as text in the form of docs/configuration.md.
///
/// Parameters: dispatcher; name, for example "grace"; text may be NULL, else takes it, for example "30s".
/// Returns: FBY_OK; FBY_E_NOT_FOUND for a name that no option has; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *text is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_option(
    dispatcher: *const fby_dispatcher,
    name: fby_bytes,
    text: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let value = self::dispatcher(dispatcher)?.options().text(name.text("name")?)?;
        fby_buffer::put_text(text, value, "text/plain");
        Ok(())
    })
}
