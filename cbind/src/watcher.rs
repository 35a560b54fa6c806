//! The ends of many jobs, for event loops and for hosts that have a promise per job.

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use forebay_core::{Result, State, WatchedEnd, Watcher};

use crate::bytes::{deadline, fby_id, job_id};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::handle::{Boxed, Homed, null, put};
use crate::jobs::fby_state;
use crate::record::{Record, check_array, write_at};

/// Is told of the end of every job that it is given. Any thread.
pub struct fby_watcher(Watcher);

impl Boxed for fby_watcher {}

impl Homed for fby_watcher {
    const NAME: &'static str = "watcher";

    fn check_process(&self) -> Result<()> {
        self.0.check_process()
    }
}

/// The end of a job.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_end {
    /// How many bytes of this struct the library has filled.
    pub struct_size: usize,
    /// What the job was added under.
    pub tag: u64,
    /// Which job.
    pub id: fby_id,
    /// Its final state; 0 if it was forgotten before anybody looked, as a job may be that another process ran.
    pub state: fby_state,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, integers only.
unsafe impl Record for fby_end {}

impl From<&WatchedEnd> for fby_end {
    fn from(end: &WatchedEnd) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            tag: end.tag,
            id: end.id.into(),
            state: end.state.map_or(0, State::code),
            reserved: 0,
        }
    }
}

/// A watcher: is told of the ends of any number of jobs, without a thread.
///
/// Parameters: dispatcher; out takes the watcher.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *out is yours; free it with fby_watcher_free. It does not keep the dispatcher from stopping. It is
/// written on FBY_OK only.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_watcher_new(
    dispatcher: *const fby_dispatcher,
    out: *mut *mut fby_watcher,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        if out.is_null() {
            return Err(null("out"));
        }
        // SAFETY: the header asks for a live dispatcher or NULL, and for room for one pointer.
        unsafe {
            let made = fby_watcher(self::dispatcher(dispatcher)?.watcher());
            put(out, made.into_handle());
        }
        Ok(())
    })
}

/// A descriptor for an event loop: readable when fby_watcher_poll may find an end, and when the dispatcher stops.
/// Wait until it is readable, call fby_watcher_poll with a timeout of 0 until the count is 0, and wait again. That
/// count makes it unreadable; it may be readable for nothing. Never read from it or write to it.
///
/// Parameters: watcher; fd may be NULL, else takes the descriptor, the same at each call.
/// Returns: FBY_OK; FBY_E_NO_MEMORY if the process may have no more descriptors; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: the descriptor belongs to the watcher and is closed when it is freed: take it out of the event loop
/// before. It is non-blocking and close-on-exec.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_watcher_fd(
    watcher: *const fby_watcher,
    fd: *mut c_int,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live watcher or NULL, and for room for a number, or NULL.
        unsafe { put(fd, fby_watcher::live(watcher)?.0.descriptor()?.as_raw_fd()) };
        Ok(())
    })
}

/// Has the end of a job told, once. One that has ended is told of at once.
///
/// Parameters: watcher; id; tag, any number that no other job of this watcher has: it is free again when its end
/// was polled or it was removed. A job may have several tags.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_INVALID for a tag that is in
/// use; FBY_E_CLOSED if the dispatcher stops and the job will not end here any more; FBY_E_FORKED.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_watcher_add(
    watcher: *const fby_watcher,
    id: *const fby_id,
    tag: u64,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live watcher and a valid id, or NULL.
    guard(err, || unsafe {
        fby_watcher::live(watcher)?.0.add(job_id(id)?, tag)
    })
}

/// Takes back what was added under a tag.
///
/// Parameters: watcher; tag; removed may be NULL, else takes true if the end will not be told, and false if it has
/// been or will be with the next polls, or if there is no such tag: so it is told or removed, never both.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_watcher_remove(
    watcher: *const fby_watcher,
    tag: u64,
    removed: *mut bool,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live watcher or NULL, and for room for a bool, or NULL.
        unsafe { put(removed, fby_watcher::live(watcher)?.0.remove(tag)?) };
        Ok(())
    })
}

/// Takes up to max ends; waits for the first one only. fby_wait with a timeout of 0 then gets a result.
///
/// Parameters: watcher; ends takes them, each end_size bytes, which is sizeof(fby_end); max of them; timeout_ms
/// is how long to wait for the first: 0 not at all, FBY_FOREVER without limit; count may be NULL, else takes
/// their number, 0 on any but FBY_OK.
/// Returns: FBY_OK, with a count of 0 if the time was up; FBY_E_CLOSED if there are none and the dispatcher has
/// stopped, or stops and none of the jobs will end here any more; FBY_E_WOULD_DEADLOCK for an endless wait in a
/// handler; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: nothing is kept.
/// Threads: any; several share the ends among them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_watcher_poll(
    watcher: *const fby_watcher,
    ends: *mut fby_end,
    end_size: usize,
    max: usize,
    timeout_ms: i64,
    count: *mut usize,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for room for a number, or NULL.
    unsafe { put(count, 0) };
    guard(err, || {
        // SAFETY: the header asks for a live watcher or NULL.
        let watcher = &unsafe { fby_watcher::live(watcher) }?.0;
        check_array(ends.cast_const(), end_size, max, "ends")?;
        let mut told = Vec::new();
        watcher.poll(max, deadline(timeout_ms), &mut told)?;
        // SAFETY: the header asks for room for a number, or NULL.
        unsafe { put(count, told.len()) };
        for (i, end) in told.iter().enumerate() {
            // SAFETY: checked, and there are at most `max`.
            unsafe { write_at(ends, end_size, i, end.into()) };
        }
        Ok(())
    })
}

/// Frees a watcher; what it has not told is told to nobody. In the child of a fork nothing is freed.
///
/// Parameters: watcher may be NULL.
/// Threads: one, with no other call on it under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_watcher_free(watcher: *mut fby_watcher) {
    // SAFETY: the header asks for a watcher that is not used again, or NULL.
    unsafe { fby_watcher::free_at_home(watcher) };
}
