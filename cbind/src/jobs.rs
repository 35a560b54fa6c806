//! Looking at jobs, waiting for them, cancelling them.

use std::ffi::{CStr, c_char};

use forebay_core::{Dispatcher, Error, ErrorKind, JSON, JobId, Result, ShedReason, State};

use crate::buffer::fby_buffer;
use crate::bytes::{deadline, fby_bytes, fby_id, job_id};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{answer, fby_error, fby_status, guard};
use crate::handle::put;
use crate::push::payload;

/// Where a job stands: one of FBY_STATE_BLOCKED to FBY_STATE_SHED. States of 10 and above are final.
pub type fby_state = i32;

/// Which rule against overload gave a job up: one of FBY_SHED_NEWEST to FBY_SHED_DELAYED; 0 for none.
pub type fby_shed = i32;

/// The dispatcher and the id that most of these functions begin with.
//
// SAFETY: each must be NULL or live and valid.
unsafe fn job<'a>(handle: *const fby_dispatcher, id: *const fby_id) -> Result<(&'a Dispatcher, JobId)> {
    // SAFETY: as required of the caller.
    unsafe { Ok((dispatcher(handle)?, job_id(id)?)) }
}

/// Waits for the end of a job.
///
/// Parameters: dispatcher; id; timeout_ms, FBY_FOREVER for no limit; state may be NULL, else takes the final
/// state on FBY_OK, FBY_E_JOB_FAILED and FBY_E_SHED; result may be NULL, else takes what the handler answered,
/// on FBY_OK.
/// Returns: FBY_OK if the job has succeeded; FBY_E_SHED if a rule against overload gave it up;
/// FBY_E_JOB_FAILED, with the job's own error, if it ended otherwise; FBY_E_TIMEOUT; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_WOULD_DEADLOCK in
/// a handler that would wait for itself, or with every slot taken by a handler that waits; FBY_E_CLOSED if
/// the dispatcher stopped first; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *result is yours; free it with fby_buffer_free.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_wait(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    timeout_ms: i64,
    state: *mut fby_state,
    result: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for valid pointers or NULL.
        let (d, id) = unsafe { job(dispatcher, id) }?;
        let job = d.wait(id, deadline(timeout_ms))?;
        // SAFETY: the header asks for room for a state and a pointer, or NULL.
        unsafe {
            put(state, job.state.code());
            fby_buffer::put_payload(result, &job.into_result()?)
        }
    })
}

/// Where a job stands.
///
/// Parameters: dispatcher; id; state may be NULL, else takes the state.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_job_state(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    state: *mut fby_state,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL.
    guard(err, || unsafe {
        let (d, id) = job(dispatcher, id)?;
        put(state, d.state(id)?.code());
        Ok(())
    })
}

/// Which rule against overload gave a job up, as it came or later.
///
/// Parameters: dispatcher; id; rule may be NULL, else takes the rule, 0 for a job that was not shed.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_job_shed(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    rule: *mut fby_shed,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL.
    guard(err, || unsafe {
        let (d, id) = job(dispatcher, id)?;
        put(rule, d.get(id)?.shed().map_or(0, ShedReason::code));
        Ok(())
    })
}

/// Everything known about a job, as a JSON object. Payload and result are told of by length and type only.
///
/// Parameters: dispatcher; id; json may be NULL, else takes the text.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *json is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_get(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    json: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL.
    guard(err, || unsafe {
        let (d, id) = job(dispatcher, id)?;
        fby_buffer::put_text(json, d.get(id)?.to_json(), JSON);
        Ok(())
    })
}

/// Why a job is not running, or how it ended, as a sentence.
///
/// Parameters: dispatcher; id; text may be NULL, else takes it.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *text is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_explain(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    text: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL.
    guard(err, || unsafe {
        let (d, id) = job(dispatcher, id)?;
        fby_buffer::put_text(text, d.explain(id)?.to_string(), "text/plain");
        Ok(())
    })
}

/// Cancels a job. One that waits is cancelled at once; one that runs is asked to stop, and is cancelled when
/// its handler returns, whatever that answers.
///
/// Parameters: dispatcher; id; state may be NULL, else takes the state after the call: FBY_STATE_CANCELLED,
/// FBY_STATE_RUNNING when the request was passed on, or the final state that the job had already.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_cancel(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    state: *mut fby_state,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL.
    guard(err, || unsafe {
        let (d, id) = job(dispatcher, id)?;
        put(state, d.cancel(id)?.code());
        Ok(())
    })
}

/// Runs a finished job again, as a new one with the same settings. The same retry twice makes one job.
///
/// Parameters: dispatcher; id; input may be NULL for the old payload, which a job that succeeded no longer has,
/// else is another one of type content_type; again may be NULL, else takes the id of the new job.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_INVALID also for a job that is
/// not over; FBY_E_CONFLICT if it was retried before with another input; as fby_push otherwise.
/// Memory: everything is copied. *again is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_retry(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    input: *const fby_bytes,
    content_type: fby_bytes,
    again: *mut fby_id,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let (d, id) = job(dispatcher, id)?;
        let copy = |input: &fby_bytes| payload(*input, content_type, d.options().max_payload);
        let input = input.as_ref().map(copy).transpose()?;
        put(again, d.retry(id, input)?.id.into());
        Ok(())
    })
}

/// Delivers a token to a job that waits for it; when its last one has come, the job is queued, or scheduled. A token
/// that the job does not wait for changes nothing.
///
/// Parameters: dispatcher; id; token.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an id that is unknown or forgotten; FBY_E_CLOSED; FBY_E_FORKED;
/// FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_signal(
    dispatcher: *const fby_dispatcher,
    id: *const fby_id,
    token: fby_bytes,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let (d, id) = job(dispatcher, id)?;
        d.signal(id, token.text("token")?)
    })
}

/// The name of a state, for example "succeeded".
///
/// Parameters: state.
/// Returns: the name, with a NUL at its end; "?" for a number that is no state.
/// Memory: static.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn fby_state_name(state: fby_state) -> *const c_char {
    answer(c"?", || state_name(state)).as_ptr()
}

/// The state of a code.
pub(crate) fn state(code: fby_state) -> Result<State> {
    let known = State::ALL.iter().find(|s| s.code() == code).copied();
    known.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{code} is no FBY_STATE_")))
}

fn state_name(code: fby_state) -> &'static CStr {
    match State::ALL.iter().find(|s| s.code() == code) {
        Some(State::Blocked) => c"blocked",
        Some(State::Scheduled) => c"scheduled",
        Some(State::Queued) => c"queued",
        Some(State::Running) => c"running",
        Some(State::Succeeded) => c"succeeded",
        Some(State::Failed) => c"failed",
        Some(State::Cancelled) => c"cancelled",
        Some(State::Expired) => c"expired",
        Some(State::Shed) => c"shed",
        // A state that was added to the core and not here is found by the test below.
        _ => c"?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_name() {
        for state in State::ALL {
            assert_eq!(state_name(state.code()).to_str(), Ok(state.name()));
        }
        assert_eq!(state_name(0), c"?");
    }
}
