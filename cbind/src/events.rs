//! What happens, as a stream and as a log.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use forebay_core::{Error, ErrorKind, Event, EventKind, Level, Log, Report, Result, Subscription};
use parking_lot::Mutex;

use crate::bytes::{deadline, fby_bytes, fby_id};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{answer, contain, fby_error, fby_status, guard};
use crate::handle::{Boxed, Homed, null, put};
use crate::handler::fby_drop;
use crate::record::{Record, check_array, write_at};

/// How much an event matters: one of FBY_LEVEL_DEBUG to FBY_LEVEL_ERROR.
pub type fby_level = i32;

/// What happened: one of FBY_EVENT_PUSHED and so on. A later version may have kinds that this header does not name.
pub type fby_event_kind = i32;

/// A stream of what happens, through a buffer that counts what it drops.
pub struct fby_events {
    stream: Subscription,
    /// What the events of the last poll point to.
    told: Mutex<Told>,
}

impl Boxed for fby_events {}

impl Homed for fby_events {
    const NAME: &'static str = "events";

    fn check_process(&self) -> Result<()> {
        self.stream.check_process()
    }
}

#[derive(Default)]
struct Told {
    events: Vec<Event>,
    texts: Vec<Texts>,
}

/// What an event points to.
struct Texts {
    queue: Option<Arc<str>>,
    job_kind: Option<Arc<str>>,
    message: String,
}

impl Texts {
    fn of(report: &Report<'_>) -> Self {
        Self {
            queue: report.queue(),
            job_kind: report.job_kind(),
            message: report.to_string(),
        }
    }
}

/// Something that happened.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_event {
    /// How many bytes of this struct the library has filled.
    pub struct_size: usize,
    /// What.
    pub kind: fby_event_kind,
    /// How much it matters.
    pub level: fby_level,
    /// To which job; all zero for what concerns no single one.
    pub id: fby_id,
    /// In which queue; empty for what concerns the dispatcher.
    pub queue: fby_bytes,
    /// Of which kind the job is; empty for what concerns no single one.
    pub job_kind: fby_bytes,
    /// All of it in a sentence, with the error of the attempt if it failed.
    pub message: fby_bytes,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long the attempt took that has ended, in microseconds; -1 where none has.
    pub took_us: i64,
    /// The number of the attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, integers and pointers only.
unsafe impl Record for fby_event {}

impl fby_event {
    /// An event as C sees it. What it points to lives as long as the texts.
    fn of(event: &Event, texts: &Texts) -> Self {
        let name = |name: &Option<Arc<str>>| {
            name.as_ref()
                .map_or(fby_bytes::EMPTY, |n| fby_bytes::of(n.as_bytes()))
        };
        let took = event
            .took
            .map(|took| i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        Self {
            struct_size: size_of::<Self>(),
            kind: event.kind.code(),
            level: event.kind.level().code(),
            id: event.id.into(),
            queue: name(&texts.queue),
            job_kind: name(&texts.job_kind),
            message: fby_bytes::of(texts.message.as_bytes()),
            at_ms: event.at.as_millis(),
            took_us: took.unwrap_or(-1),
            attempt: event.attempt,
            reserved: 0,
        }
    }
}

fn level(level: fby_level) -> Result<Level> {
    Level::from_code(level).ok_or_else(|| {
        let text = format!(
            "level is {level}; it is FBY_LEVEL_DEBUG, FBY_LEVEL_INFO, FBY_LEVEL_WARN or FBY_LEVEL_ERROR"
        );
        Error::new(ErrorKind::Invalid, text)
    })
}

/// A stream of what happens from now on. It never holds the dispatcher up: what finds the buffer full is dropped and
/// counted. Levels that nobody wants to hear of cost nothing.
///
/// Parameters: dispatcher; level of the least event that is wanted; capacity of the buffer, in events, at most
/// 1048576; out takes the stream.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *out is yours; free it with fby_events_free. It does not keep the dispatcher from stopping. It is written
/// on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_events_new(
    dispatcher: *const fby_dispatcher,
    level: fby_level,
    capacity: usize,
    out: *mut *mut fby_events,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        if out.is_null() {
            return Err(null("out"));
        }
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        d.check_process()?;
        let made = fby_events {
            stream: d.subscribe_from(self::level(level)?, capacity),
            told: Mutex::default(),
        };
        // SAFETY: the header asks for room for one pointer.
        unsafe { put(out, made.into_handle()) };
        Ok(())
    })
}

/// A descriptor for an event loop: readable when fby_events_poll may find an event, and when the dispatcher has
/// stopped. Wait until it is readable, call fby_events_poll with a timeout of 0 until the count is 0, and wait again.
/// That count makes it unreadable; it may be readable for nothing. Never read from it or write to it.
///
/// Parameters: events; fd may be NULL, else takes the descriptor, the same at each call.
/// Returns: FBY_OK; FBY_E_NO_MEMORY if the process may have no more descriptors; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: the descriptor belongs to the stream and is closed when it is freed: take it out of the event loop before.
/// It is non-blocking and close-on-exec.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_events_fd(
    events: *const fby_events,
    fd: *mut c_int,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live stream or NULL, and for room for a number, or NULL.
        unsafe { put(fd, fby_events::live(events)?.stream.descriptor()?.as_raw_fd()) };
        Ok(())
    })
}

/// Takes up to max events, the oldest first; waits for the first one only.
///
/// Parameters: events; out takes them, each event_size bytes, which is sizeof(fby_event); max of them; timeout_ms is
/// how long to wait for the first: 0 not at all, FBY_FOREVER without limit; count may be NULL, else takes their
/// number, 0 on any but FBY_OK.
/// Returns: FBY_OK, with a count of 0 if the time was up; FBY_E_CLOSED if there are none and the dispatcher has
/// stopped; FBY_E_WOULD_DEADLOCK for an endless wait in a handler; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: what the events point to lives until the next poll of the same stream, or until it is freed.
/// Threads: one at a time for the same stream; a second one gets FBY_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_events_poll(
    events: *const fby_events,
    out: *mut fby_event,
    event_size: usize,
    max: usize,
    timeout_ms: i64,
    count: *mut usize,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for room for a number, or NULL.
    unsafe { put(count, 0) };
    guard(err, || {
        // SAFETY: the header asks for a live stream or NULL.
        let polled = unsafe { fby_events::live(events) }?;
        check_array(out.cast_const(), event_size, max, "out")?;
        let mut told = polled.told.try_lock().ok_or_else(|| {
            let text = "another thread polls this stream; make one per thread";
            Error::new(ErrorKind::Invalid, text)
        })?;
        let Told { events, texts } = &mut *told;
        events.clear();
        texts.clear();
        polled.stream.poll(max, deadline(timeout_ms), events)?;
        texts.extend(events.iter().map(|event| Texts::of(&polled.stream.report(event))));
        // SAFETY: the header asks for room for a number, or NULL.
        unsafe { put(count, events.len()) };
        for (i, (event, texts)) in events.iter().zip(texts).enumerate() {
            // SAFETY: checked, and there are at most `max`.
            unsafe { write_at(out, event_size, i, fby_event::of(event, texts)) };
        }
        Ok(())
    })
}

/// How many events found the buffer full and were dropped.
///
/// Parameters: events may be NULL.
/// Returns: the number since the stream was made; 0 for NULL and in the child of a fork.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_events_dropped(events: *const fby_events) -> u64 {
    // SAFETY: the header asks for a live stream or NULL.
    contain(|| Ok(unsafe { fby_events::live(events) }?.stream.dropped())).unwrap_or(0)
}

/// Frees a stream. In the child of a fork nothing is freed.
///
/// Parameters: events may be NULL.
/// Threads: one, with no other call on it under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_events_free(events: *mut fby_events) {
    // SAFETY: the header asks for a stream that is not used again, or NULL.
    unsafe { fby_events::free_at_home(events) };
}

/// The name of a kind of event, for example "retried".
///
/// Parameters: kind.
/// Returns: the name, with a NUL at its end; "?" for a number that is no kind.
/// Memory: static.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn fby_event_name(kind: fby_event_kind) -> *const c_char {
    answer(c"?", || event_name(kind)).as_ptr()
}

fn event_name(kind: fby_event_kind) -> &'static CStr {
    match EventKind::from_code(kind) {
        Some(EventKind::Pushed) => c"pushed",
        Some(EventKind::Started) => c"started",
        Some(EventKind::Succeeded) => c"succeeded",
        Some(EventKind::Failed) => c"failed",
        Some(EventKind::Retried) => c"retried",
        Some(EventKind::Returned) => c"returned",
        Some(EventKind::Cancelled) => c"cancelled",
        Some(EventKind::Expired) => c"expired",
        Some(EventKind::Shed) => c"shed",
        Some(EventKind::CancelRequested) => c"cancel_requested",
        Some(EventKind::Stale) => c"stale",
        Some(EventKind::HookFailed) => c"hook_failed",
        Some(EventKind::DumpFailed) => c"dump_failed",
        Some(EventKind::HighWatermark) => c"high_watermark",
        Some(EventKind::LowWatermark) => c"low_watermark",
        Some(EventKind::BreakerOpened) => c"breaker_opened",
        Some(EventKind::BreakerClosed) => c"breaker_closed",
        Some(EventKind::Opened) => c"opened",
        Some(EventKind::Stopped) => c"stopped",
        Some(EventKind::StoreFailed) => c"store_failed",
        Some(EventKind::StoreRecovered) => c"store_recovered",
        Some(EventKind::ForwardFailed) => c"forward_failed",
        Some(EventKind::ForwardRecovered) => c"forward_recovered",
        // A kind that was added to the core and not here is found by the test below.
        _ => c"?",
    }
}

/// Is told of what happens. On whichever thread it happened, several at once, with no lock of the library held. It
/// may call anything but what waits for handlers to end (FBY_E_WOULD_DEADLOCK); what happens through its own calls is
/// not told to it. The event and what it points to live until it returns. It must not throw or jump out.
pub type fby_logger = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, event: *const fby_event)>;

/// A C function with its data.
struct Logger {
    call: fby_logger,
    user_data: *mut c_void,
    drop: fby_drop,
}

// SAFETY: the header says that the function may be called from any thread, several at once, and that the data is
// dropped on any thread.
unsafe impl Send for Logger {}
// SAFETY: as above.
unsafe impl Sync for Logger {}

impl Log for Logger {
    fn log(&self, report: &Report<'_>) {
        if let Some(call) = self.call {
            let texts = Texts::of(report);
            let event = fby_event::of(report.event(), &texts);
            // SAFETY: the event lives until the call returns; the rest is the promise of whoever gave the function.
            unsafe { call(self.user_data, &raw const event) };
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: nobody calls the function any more, and this runs once.
            unsafe { drop(self.user_data) };
        }
    }
}

/// Has what happens told to a function from now on, instead of to the former one.
///
/// Parameters: dispatcher; level of the least event that is wanted; logger may be NULL, which takes the former one
/// away; user_data is passed to it; drop may be NULL, else frees user_data.
/// Returns: FBY_OK; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: user_data belongs to the library from here on, also when the call fails: drop is called once in any case,
/// after the last call has returned: when another one takes its place, or when the dispatcher has stopped.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_log(
    dispatcher: *const fby_dispatcher,
    level: fby_level,
    logger: fby_logger,
    user_data: *mut c_void,
    drop: fby_drop,
    err: *mut *mut fby_error,
) -> fby_status {
    // Made before anything can fail, so that every way out drops the data.
    let made = Logger {
        call: logger,
        user_data,
        drop,
    };
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL.
        let d = unsafe { self::dispatcher(dispatcher) }?;
        let level = self::level(level)?;
        match made.call {
            Some(_) => d.log_to(level, Arc::new(made)),
            None => d.log_off().map(|_| ()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_name() {
        for kind in EventKind::ALL {
            assert_eq!(event_name(kind.code()).to_str(), Ok(kind.name()));
        }
        for invented in [-1, 0, 99, i32::MAX] {
            assert_eq!(event_name(invented), c"?");
        }
    }
}
