//! Headers: names and texts that travel with a job.

use forebay_core::{Error, ErrorKind, NewJob, Result, Ticket};

use crate::bytes::fby_bytes;
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::handle::put;
use crate::handler::fby_ticket;
use crate::record::check_values;

/// A name and a text that travel with a job: a trace id, a tenant.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_header {
    /// The name: what another name may be.
    pub name: fby_bytes,
    /// The text: UTF-8, at most 8 KiB.
    pub value: fby_bytes,
}

/// A job with the headers of an array.
//
// SAFETY: the array must be NULL or hold `count` headers of valid bytes.
pub(crate) unsafe fn with_headers<'a>(
    mut job: NewJob<'a>,
    array: *const fby_header,
    count: usize,
) -> Result<NewJob<'a>> {
    check_values(array, count, "headers")?;
    for i in 0..count {
        // SAFETY: checked, and as required of the caller.
        let (name, value) = unsafe {
            let header = array.add(i).read_unaligned();
            (
                header.name.text("header name")?,
                header.value.text("header value")?,
            )
        };
        job = job.header(name, value);
    }
    Ok(job)
}

/// One header of the job of a delivery; count index up from 0 for all of them, in the order they were given.
///
/// Parameters: dispatcher; ticket; index; out may be NULL, else takes the header.
/// Returns: FBY_OK; FBY_E_NOT_FOUND past the last one; FBY_E_STALE if the ticket no longer counts;
/// FBY_E_FORKED; FBY_E_INVALID.
/// Memory: what *out points to lives as long as the job's payload. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_job_header(
    dispatcher: *const fby_dispatcher,
    ticket: fby_ticket,
    index: usize,
    out: *mut fby_header,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let found = unsafe { self::dispatcher(dispatcher) }?.headers(Ticket(ticket))?;
        let headers = found.as_ref().map_or(&[][..], |extras| &extras.headers);
        let (name, value) = headers.get(index).ok_or_else(|| {
            let text = format!("the job has {} headers; there is none at {index}", headers.len());
            Error::new(ErrorKind::NotFound, text)
        })?;
        let header = fby_header {
            // The lease holds the headers too, and outlives the ticket.
            name: fby_bytes::of(name.as_bytes()),
            value: fby_bytes::of(value.as_bytes()),
        };
        // SAFETY: the header asks for room for one, or NULL.
        unsafe { put(out, header) };
        Ok(())
    })
}
