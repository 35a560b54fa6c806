//! Handlers: C functions that the library's threads call.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use forebay_core::{Failure, Handler, KindOptions, Lease, Outcome, Payload, Result, RetryPolicy};

use crate::bytes::{fby_bytes, fby_id, some_time};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::handle::{borrow_mut, null, put};
use crate::push::payload;
use crate::record::{Record, read_or_zero};

/// What became of a job: one of FBY_DONE to FBY_RATE_LIMITED. A number that is none of them is a failed attempt
/// that says so.
pub type fby_verdict = i32;

/// The number of one delivery of one job: never a pointer, never 0, and good for one answer.
pub type fby_ticket = u64;

const DONE: fby_verdict = 0;
const FAILED: fby_verdict = 1;
const FATAL: fby_verdict = 2;
const RETRY: fby_verdict = 3;
const SNOOZE: fby_verdict = 4;
const CANCELLED: fby_verdict = 5;
const PENDING: fby_verdict = 6;
const RATE_LIMITED: fby_verdict = 7;

/// One delivery of a job.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_job {
    /// How many bytes of this struct the library has filled.
    pub struct_size: usize,
    /// The number of this delivery.
    pub ticket: fby_ticket,
    /// The job's id.
    pub id: fby_id,
    /// Its kind.
    pub kind: fby_bytes,
    /// Its queue.
    pub queue: fby_bytes,
    /// What it carries.
    pub payload: fby_bytes,
    /// What the payload is, as a MIME type.
    pub content_type: fby_bytes,
    /// Its idempotency key; empty for none.
    pub key: fby_bytes,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// How often it may run in all; FBY_UNLIMITED for no limit.
    pub max_attempts: u32,
    /// Its priority.
    pub priority: i32,
    /// Zero.
    pub reserved: u32,
    /// Grows with every claim of the job: lets what the handler writes to refuse a late writer.
    pub fence: u64,
    /// When it was pushed, in milliseconds since 1970.
    pub created_ms: i64,
    /// When this attempt is overdue, in milliseconds since 1970; 0 for never.
    pub due_ms: i64,
    /// Its concurrency key; empty for none.
    pub concurrency_key: fby_bytes,
}

// SAFETY: repr(C), size first, no padding, integers and pointers only.
unsafe impl Record for fby_job {}

impl fby_job {
    /// A lease as C sees it. What it points to lives as long as the lease.
    #[inline(always)]
    pub(crate) fn of(lease: &Lease) -> Self {
        let payload = lease.payload();
        let text = |text: &str| fby_bytes::of(text.as_bytes());
        Self {
            struct_size: size_of::<Self>(),
            ticket: lease.ticket().0,
            id: lease.id().into(),
            // The tables of names only grow, and live as long as any lease.
            kind: text(lease.kind_text()),
            queue: text(lease.queue_text()),
            payload: fby_bytes::of(
                payload
                    .as_bytes()
                    .expect("C pushes bytes only, dumps hold bytes only"),
            ),
            content_type: text(payload.content_type().unwrap_or_default()),
            key: text(lease.key().unwrap_or_default()),
            attempt: lease.attempt(),
            max_attempts: lease.max_attempts(),
            priority: lease.priority().into(),
            reserved: 0,
            fence: lease.fence(),
            created_ms: lease.created().as_millis(),
            due_ms: lease.due().map_or(0, |at| at.as_millis()),
            concurrency_key: text(lease.concurrency_key().unwrap_or_default()),
        }
    }
}

/// What a handler says beside its verdict. It lives until the handler returns, and is the handler's thread's
/// alone.
pub struct fby_reply {
    max_payload: usize,
    said: Said,
}

/// What is said beside a verdict.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) result: Option<Payload>,
    pub(crate) error: Option<String>,
    pub(crate) delay: Option<Duration>,
}

impl Said {
    /// What a verdict and what was said with it mean to the core.
    #[inline(always)]
    pub(crate) fn outcome(self, verdict: fby_verdict) -> Outcome {
        match verdict {
            DONE => Outcome::Success(self.result.unwrap_or_default()),
            other => self.otherwise(other),
        }
    }

    fn otherwise(self, verdict: fby_verdict) -> Outcome {
        let text = |otherwise: &'static str| self.error.map_or(otherwise.into(), std::borrow::Cow::Owned);
        match verdict {
            FAILED => Outcome::failed(text("the handler answered FBY_FAILED")),
            FATAL => Outcome::fatal(text("the handler answered FBY_FATAL")),
            RETRY => Outcome::Retry {
                after: self.delay,
                reason: text("the handler answered FBY_RETRY"),
            },
            SNOOZE => Outcome::snooze(self.delay.unwrap_or_default()),
            CANCELLED => Outcome::Cancelled(text("the handler answered FBY_CANCELLED")),
            PENDING => Outcome::Pending,
            RATE_LIMITED => Outcome::RateLimited { after: self.delay },
            other => Outcome::failed(format!("the handler answered {other}, which is no verdict")),
        }
    }
}

/// Runs one attempt of a job. The job, and all it points to, live until the handler returns, or, if it
/// returns FBY_PENDING, until fby_finish has been called with the ticket. It must return: no exception and
/// no longjmp may leave it. It may call any function of this header; those that would wait for itself
/// answer FBY_E_WOULD_DEADLOCK. Several threads may be in it at once, with no lock of the library held.
pub type fby_handler = Option<
    unsafe extern "C-unwind" fn(
        user_data: *mut c_void,
        job: *const fby_job,
        reply: *mut fby_reply,
    ) -> fby_verdict,
>;

/// Frees the user_data of a handler. It is called exactly once, after the last call of the handler has
/// returned, with no lock of the library held: by fby_register when that fails, by whoever replaces or
/// removes the handler, by fby_stop, by fby_release, or by the worker that was the last to run it.
pub type fby_drop = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// How jobs of a kind are run; zero leaves a field to the options of the dispatcher.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_kind_options {
    /// sizeof(fby_kind_options).
    pub struct_size: usize,
    /// The pause between attempts, for example "exponential(1s, cap=5m)".
    pub retry: fby_bytes,
    /// How long one attempt may take.
    pub timeout_ms: i64,
    /// The most bodies of this kind at once.
    pub concurrency: u32,
    /// How often a job may run in all; FBY_UNLIMITED needs a retry policy that pauses.
    pub max_attempts: u32,
    /// These and more options by name, as in a URL, for example
    /// "rate=100/s&breaker=failures(5, open=30s)&adaptive=aimd(max=100)"; docs/configuration.md lists them. They
    /// go before the fields above.
    pub options: fby_bytes,
}

// SAFETY: repr(C), size first, no padding, integers and pointers only.
unsafe impl Record for fby_kind_options {}

impl fby_kind_options {
    // SAFETY: its bytes must be valid.
    unsafe fn options(&self) -> Result<KindOptions> {
        let mut options = KindOptions::new();
        // SAFETY: as required of the caller.
        let retry = unsafe { self.retry.some_text("retry") }?;
        options.retry = retry.map(RetryPolicy::parse).transpose()?;
        options.timeout = some_time(self.timeout_ms, "timeout_ms")?;
        options.concurrency = Some(self.concurrency as usize).filter(|n| *n > 0);
        options.max_attempts = Some(self.max_attempts).filter(|n| *n > 0);
        // SAFETY: as required of the caller.
        options.set_all(unsafe { self.options.text("options") }?)?;
        Ok(options)
    }
}

/// A C function with its data.
struct Callback {
    call: fby_handler,
    user_data: *mut c_void,
    drop: fby_drop,
    max_payload: usize,
}

// SAFETY: the header says that the handler may be called from any thread, several at once, and that the
// data is dropped on any thread.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Handler for Callback {
    fn run(&self, lease: &Lease) -> Outcome {
        let call = self.call.expect("registration refuses NULL");
        let job = fby_job::of(lease);
        let mut reply = fby_reply {
            max_payload: self.max_payload,
            said: Said::default(),
        };
        // SAFETY: job and reply live until the call returns; the rest is the promise of whoever registered.
        let verdict = unsafe { call(self.user_data, &raw const job, &raw mut reply) };
        reply.said.outcome(verdict)
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: nobody calls the handler any more, and this runs once.
            unsafe { drop(self.user_data) };
        }
    }
}

/// Registers a handler for a kind; fby_start starts the threads that run it. A second call replaces the
/// handler for attempts that start later.
///
/// Parameters: dispatcher; kind; options may be NULL; handler; user_data is passed to it; drop may be NULL,
/// else frees user_data.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for an option that there is not; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: user_data belongs to the library from here on, also when the call fails: drop is called once in
/// any case.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_register(
    dispatcher: *const fby_dispatcher,
    kind: fby_bytes,
    options: *const fby_kind_options,
    handler: fby_handler,
    user_data: *mut c_void,
    drop: fby_drop,
    err: *mut *mut fby_error,
) -> fby_status {
    // Made before anything can fail, so that every way out drops the data.
    let mut callback = Callback {
        call: handler,
        user_data,
        drop,
        max_payload: 0,
    };
    guard(err, move || {
        // SAFETY: the header asks for a live dispatcher, valid bytes and a valid struct, or NULL.
        let (d, kind, options) = unsafe {
            let options = read_or_zero(options, "options")?.options()?;
            (self::dispatcher(dispatcher)?, kind.text("kind")?, options)
        };
        if handler.is_none() {
            return Err(null("handler"));
        }
        callback.max_payload = d.options().max_payload;
        d.register_handler(kind, options, Arc::new(callback)).map(|_| ())
    })
}

/// Takes the handler of a kind away. Attempts that run go on with it, jobs of the kind wait from now on.
///
/// Parameters: dispatcher; kind; removed may be NULL, else takes whether there was a handler.
/// Returns: FBY_OK, also if there was none; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_unregister(
    dispatcher: *const fby_dispatcher,
    kind: fby_bytes,
    removed: *mut bool,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live dispatcher, valid bytes, and room for a bool, or NULL.
    guard(err, || unsafe {
        let gone = self::dispatcher(dispatcher)?.unregister(kind.text("kind")?)?;
        put(removed, gone);
        Ok(())
    })
}

/// Says how jobs of a kind are to be run by consumers of this process, without a handler.
///
/// Parameters: dispatcher; kind; options may be NULL.
/// Returns: FBY_OK; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: everything is copied.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_declare(
    dispatcher: *const fby_dispatcher,
    kind: fby_bytes,
    options: *const fby_kind_options,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live dispatcher, valid bytes and a valid struct, or NULL.
    guard(err, || unsafe {
        let options = read_or_zero(options, "options")?.options()?;
        let d = self::dispatcher(dispatcher)?;
        d.declare(kind.text("kind")?, options).map(|_| ())
    })
}

/// Sets the result that goes with FBY_DONE.
///
/// Parameters: reply; result is any bytes; content_type is a MIME type, empty for
/// "application/octet-stream".
/// Returns: FBY_OK; FBY_E_INVALID, also for a result above the option max_payload; FBY_E_NO_MEMORY.
/// Memory: everything is copied.
/// Threads: the handler's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_reply_set_result(
    reply: *mut fby_reply,
    result: fby_bytes,
    content_type: fby_bytes,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for the reply of the handler that runs, and for valid bytes.
    guard(err, || unsafe {
        let reply = borrow_mut(reply, "reply")?;
        reply.said.result = Some(payload(result, content_type, reply.max_payload)?);
        Ok(())
    })
}

/// Sets the text that goes with FBY_FAILED, FBY_FATAL, FBY_RETRY and FBY_CANCELLED.
///
/// Parameters: reply; text: what is not UTF-8 in it is replaced, and a long one is cut.
/// Returns: FBY_OK; FBY_E_INVALID.
/// Memory: everything is copied.
/// Threads: the handler's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_reply_set_error(
    reply: *mut fby_reply,
    text: fby_bytes,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for the reply of the handler that runs, and for valid bytes.
    guard(err, || unsafe {
        borrow_mut(reply, "reply")?.said.error = Some(error_text(text)?);
        Ok(())
    })
}

/// Sets the pause that goes with FBY_RETRY, FBY_SNOOZE and FBY_RATE_LIMITED.
///
/// Parameters: reply; delay_ms, 0 for the pause of the retry policy (none for FBY_SNOOZE).
/// Returns: FBY_OK; FBY_E_INVALID.
/// Threads: the handler's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_reply_set_delay(
    reply: *mut fby_reply,
    delay_ms: i64,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for the reply of the handler that runs.
    guard(err, || unsafe {
        borrow_mut(reply, "reply")?.said.delay = some_time(delay_ms, "delay_ms")?;
        Ok(())
    })
}

/// An error's text: of its end, nothing is kept that the core would cut anyway.
//
// SAFETY: the bytes must be valid during the call.
#[inline]
pub(crate) unsafe fn error_text(text: fby_bytes) -> Result<String> {
    if text.len == 0 {
        return Ok(String::new());
    }
    // SAFETY: as required of the caller.
    let bytes = unsafe { text.slice("text") }?;
    let most = bytes.len().min(2 * Failure::MAX_TEXT);
    Ok(String::from_utf8_lossy(&bytes[..most]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_core::FailureKind;

    const HEADER: &str = include_str!("../include/forebay.h");

    #[test]
    fn the_header_has_the_verdicts() {
        let verdicts = [
            ("DONE", DONE),
            ("FAILED", FAILED),
            ("FATAL", FATAL),
            ("RETRY", RETRY),
            ("SNOOZE", SNOOZE),
            ("CANCELLED", CANCELLED),
            ("PENDING", PENDING),
            ("RATE_LIMITED", RATE_LIMITED),
        ];
        for (name, number) in verdicts {
            assert!(HEADER.contains(&format!("  FBY_{name} = {number}")), "{name}");
        }
        assert!(HEADER.contains(&format!("#define FBY_UNLIMITED {}u", u32::MAX)));
    }

    #[test]
    fn an_unknown_verdict_is_a_failed_attempt_with_the_reason() {
        for number in [-1, 8, 100, i32::MAX, i32::MIN] {
            match Said::default().outcome(number) {
                Outcome::Failed(failure) => {
                    assert_eq!(failure.kind, FailureKind::Error);
                    assert!(
                        failure.message.contains(&number.to_string()),
                        "{}",
                        failure.message
                    );
                }
                other => panic!("{number}: {other:?}"),
            }
        }
    }
}
