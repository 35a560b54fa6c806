//! Answering by ticket, from any thread.

use std::time::Duration;

use forebay_core::{Answer, Dispatcher, Error, ErrorKind, Outcome, Result, StopReason, Ticket};

use crate::bytes::{deadline, fby_bytes, some_time};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{OK, contain, fby_error, fby_status, guard};
use crate::handle::put;
use crate::handler::{Said, error_text, fby_ticket, fby_verdict};
use crate::push::{fby_job_spec, new_jobs, no_reserved, payload};
use crate::record::{Record, View, check_array, read, view_at};

/// What became of one delivery.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_outcome {
    /// sizeof(fby_outcome).
    pub struct_size: usize,
    /// Which delivery.
    pub ticket: fby_ticket,
    /// The result that goes with FBY_DONE: any bytes.
    pub result: fby_bytes,
    /// What the result is, as a MIME type; empty is "application/octet-stream".
    pub content_type: fby_bytes,
    /// The text that goes with FBY_FAILED, FBY_FATAL, FBY_RETRY and FBY_CANCELLED.
    pub error: fby_bytes,
    /// The pause that goes with FBY_RETRY, FBY_SNOOZE and FBY_RATE_LIMITED; 0 for the pause of the retry policy
    /// (none for FBY_SNOOZE).
    pub delay_ms: i64,
    /// What became of it. FBY_PENDING is FBY_E_INVALID here.
    pub verdict: fby_verdict,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, integers and pointers only.
unsafe impl Record for fby_outcome {}

/// Why a job should stop: 0 while it may go on, else one of FBY_STOP_CANCELLED to FBY_STOP_STOPPING.
pub type fby_stop_reason = i32;

impl fby_outcome {
    // SAFETY: its bytes must be valid.
    #[inline]
    unsafe fn answer(&self, max: usize) -> Result<(Ticket, Outcome)> {
        no_reserved(self.reserved, "outcome")?;
        // SAFETY: as required of the caller.
        let said = unsafe {
            Said {
                result: Some(payload(self.result, self.content_type, max)?),
                error: Some(error_text(self.error)?).filter(|text| !text.is_empty()),
                delay: some_time(self.delay_ms, "delay_ms")?,
            }
        };
        match said.outcome(self.verdict) {
            Outcome::Pending => {
                let text = "FBY_PENDING is no answer; finish the ticket when there is one";
                Err(Error::new(ErrorKind::Invalid, text))
            }
            outcome => Ok((Ticket(self.ticket), outcome)),
        }
    }
}

/// Answers for deliveries: polled ones, and those whose handler returned FBY_PENDING, or will, or has not
/// returned yet. Each ticket counts once. Of a handler's own verdict and this, the first to come counts.
///
/// Parameters: dispatcher; outcomes, each outcome_size bytes, which is sizeof(fby_outcome) and their
/// struct_size; count of them; codes may be NULL, else takes one code per outcome: FBY_OK;
/// FBY_E_STALE for a ticket that was answered before, whose lease was lost, timed out or handed back, or
/// that nobody gave out, and then nothing has changed; FBY_E_INVALID and FBY_E_NO_MEMORY for an outcome that
/// cannot be used, whose ticket is still good.
/// Returns: the first code that is not FBY_OK; FBY_E_FORKED; FBY_E_INVALID for a bad array; FBY_E_STORAGE.
/// Memory: everything is copied. But for a ticket that is still good, the memory of the delivery ends here,
/// unless its handler has not returned yet.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_finish(
    dispatcher: *const fby_dispatcher,
    outcomes: *const fby_outcome,
    outcome_size: usize,
    count: usize,
    codes: *mut fby_status,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        check_array(outcomes, outcome_size, count, "outcomes")?;
        // SAFETY: checked, and as the header asks.
        let read = |i| unsafe { view_at(outcomes, outcome_size, i, "outcome") };
        // SAFETY: the header asks for room for `count` codes, or NULL.
        let say = |i, code| unsafe { put(if codes.is_null() { codes } else { codes.add(i) }, code) };
        finish(d, count, read, say)
    })
}

/// Answers what can be read, says a code for each, and returns the first failure.
fn finish<'o>(
    d: &Dispatcher,
    count: usize,
    read: impl Fn(usize) -> Result<View<'o, fby_outcome>>,
    say: impl Fn(usize, fby_status),
) -> Result<()> {
    let max = d.options().max_payload;
    let (mut first, mut unusable) = (Ok(()), Vec::new());
    let usable = |i| {
        // SAFETY: the header asks for valid bytes in each outcome.
        match read(i).and_then(|outcome| unsafe { outcome.answer(max) }) {
            Ok(answer) => Some(answer),
            Err(error) => {
                say(i, error.kind().code());
                unusable.push(i);
                keep_first(&mut first, || error);
                None
            }
        }
    };
    let finished = d.finish((0..count).filter_map(usable));
    let mut places = (0..count).filter(|i| unusable.binary_search(i).is_err());
    let answers = match finished {
        Ok(answers) => answers,
        Err(error) => {
            places.for_each(|i| say(i, error.kind().code()));
            return Err(error);
        }
    };
    for (i, answer) in places.by_ref().zip(answers) {
        match answer {
            Answer::Stored(_) => say(i, OK),
            Answer::Stale => {
                say(i, ErrorKind::Stale.code());
                keep_first(&mut first, || stale(read(i).map_or(0, |outcome| outcome.ticket)));
            }
        }
    }
    first
}

fn keep_first(first: &mut Result<()>, error: impl FnOnce() -> Error) {
    if first.is_ok() {
        *first = Err(error());
    }
}

fn stale(ticket: fby_ticket) -> Error {
    let text = format!("ticket {ticket} no longer counts: nothing has changed");
    Error::new(ErrorKind::Stale, text)
}

/// Answers for one delivery as fby_finish does, and pushes jobs that follow from it: either both are stored or
/// neither. A full queue does not refuse them. Where the answer does not become what it says, because the job was
/// cancelled meanwhile, nothing is pushed.
///
/// Parameters: dispatcher; outcome; jobs, each spec_size bytes, which is sizeof(fby_job_spec) and their
/// struct_size; count of them.
/// Returns: FBY_OK; FBY_E_STALE as for fby_finish, with nothing pushed; FBY_E_INVALID and FBY_E_UNKNOWN_KIND for
/// an outcome or a job that cannot be used, and then the ticket is still good; FBY_E_CONFLICT for a key that
/// belongs to another job, FBY_E_CLOSED behind a stop, and then the attempt has failed with that text;
/// FBY_E_FORKED; FBY_E_NO_MEMORY; FBY_E_STORAGE.
/// Memory: everything is copied. But for a ticket that is still good, the memory of the delivery ends here,
/// unless its handler has not returned yet.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_finish_and_push(
    dispatcher: *const fby_dispatcher,
    outcome: *const fby_outcome,
    jobs: *const fby_job_spec,
    spec_size: usize,
    count: usize,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher, a valid struct and an array as it is said to be, or NULL.
        let (d, (ticket, outcome), jobs) = unsafe {
            let d = self::dispatcher(dispatcher)?;
            let answer = read(outcome, "outcome")?.answer(d.options().max_payload)?;
            (d, answer, new_jobs(d, jobs, spec_size, count)?)
        };
        match d.finish_and_push(ticket, outcome, &jobs)? {
            Answer::Stored(_) => Ok(()),
            Answer::Stale => Err(stale(ticket.0)),
        }
    })
}

/// Makes the lease of a delivery end lease_ms from now, for handlers that take long.
///
/// Parameters: dispatcher; ticket; lease_ms, more than 0.
/// Returns: FBY_OK; FBY_E_STALE if the ticket no longer counts; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_extend(
    dispatcher: *const fby_dispatcher,
    ticket: fby_ticket,
    lease_ms: i64,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        let lease: Option<Duration> = some_time(lease_ms, "lease_ms")?;
        let lease = lease.ok_or_else(|| Error::new(ErrorKind::Invalid, "lease_ms is 0"))?;
        d.extend(Ticket(ticket), lease)
    })
}

/// Whether whoever works on a delivery should stop, and why. Cheap: long handlers should ask often.
///
/// Parameters: dispatcher; ticket.
/// Returns: 0 to go on; FBY_STOP_CANCELLED; FBY_STOP_TIMED_OUT and FBY_STOP_LEASE_LOST, after which an
/// answer no longer counts; FBY_STOP_STOPPING, when an answer within the grace still counts.
/// FBY_STOP_LEASE_LOST also for a ticket that nobody gave out, a NULL dispatcher, and in the child of a fork.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_cancelled(
    dispatcher: *const fby_dispatcher,
    ticket: fby_ticket,
) -> fby_stop_reason {
    let reason = contain(|| {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        Ok(d.stop_reason(Ticket(ticket))
            .map_or(0, |reason| reason as fby_stop_reason))
    });
    reason.unwrap_or(LEASE_LOST)
}

const LEASE_LOST: fby_stop_reason = StopReason::LeaseLost as fby_stop_reason;

/// Waits until whoever works on a delivery should stop: for handlers that have nothing to do but wait.
///
/// Parameters: dispatcher; ticket; known, 0 or a reason that the caller has heard already: after
/// FBY_STOP_STOPPING a handler may go on, and wait for more; timeout_ms, FBY_FOREVER for no limit; reason may
/// be NULL, else takes why, as fby_cancelled tells it, or 0 if the time was over first.
/// Returns: FBY_OK, also when the time is over; FBY_E_INVALID; FBY_E_FORKED.
/// FBY_STOP_LEASE_LOST comes at once for a ticket that no longer counts, and for one that nobody gave out.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_wait_stop(
    dispatcher: *const fby_dispatcher,
    ticket: fby_ticket,
    known: fby_stop_reason,
    timeout_ms: i64,
    reason: *mut fby_stop_reason,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        let why = d.wait_stop(Ticket(ticket), stop_reason(known)?, deadline(timeout_ms))?;
        // SAFETY: the header asks for room for a reason, or NULL.
        unsafe { put(reason, why.map_or(0, |why| why as fby_stop_reason)) };
        Ok(())
    })
}

/// A reason by its number; none for 0.
fn stop_reason(code: fby_stop_reason) -> Result<Option<StopReason>> {
    match (code, StopReason::from_code(code)) {
        (0, _) => Ok(None),
        (_, None) => Err(Error::new(ErrorKind::Invalid, format!("{code} is no FBY_STOP_"))),
        (_, known) => Ok(known),
    }
}
