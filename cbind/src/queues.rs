//! What owners of queues do: configure, pause, purge, count, explain, dump and restore.

use forebay_core::{DumpReport, JSON};

use crate::buffer::fby_buffer;
use crate::bytes::fby_bytes;
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::handle::put;
use crate::record::{Record, write};

/// What a dump or a restore did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_dump_report {
    /// sizeof(fby_dump_report).
    pub struct_size: usize,
    /// Jobs written, or read and accepted.
    pub jobs: u64,
    /// Jobs of the file that were here already and were left as they are.
    pub known: u64,
}

// SAFETY: repr(C), size first, no padding, integers only.
unsafe impl Record for fby_dump_report {}

impl From<DumpReport> for fby_dump_report {
    fn from(report: DumpReport) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            jobs: report.jobs as u64,
            known: report.known as u64,
        }
    }
}

/// Sets one option of a queue by its name; what was said of the others stays. docs/configuration.md lists them
/// with the form of their values.
///
/// Parameters: dispatcher; queue; name, for example "on_full"; value, for example "drop_oldest" or "100/s", or
/// "default", which leaves it to the dispatcher's options.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for a name that no option has; FBY_E_INVALID for a value that is not of its
/// form, or does not go with the other options; FBY_E_UNSUPPORTED for one that the engine cannot keep;
/// FBY_E_CLOSED; FBY_E_FORKED. On any but FBY_OK nothing was changed.
/// Memory: nothing is kept.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_queue_option(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    name: fby_bytes,
    value: fby_bytes,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live dispatcher or NULL, and for valid bytes.
    guard(err, || unsafe {
        let (name, value) = (name.text("name")?, value.text("value")?);
        let d = self::dispatcher(dispatcher)?;
        d.adjust_queue(queue.text("queue")?, |own| own.set(name, value))
            .map(|_| ())
    })
}

/// What a queue has of its own, as a JSON object: each option by its name with its text, "default" for one that is
/// left to the dispatcher's options.
///
/// Parameters: dispatcher; queue; json may be NULL, else takes the text.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *json is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_queue_options(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    json: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let own = self::dispatcher(dispatcher)?.queue_options(queue.text("queue")?)?;
        fby_buffer::put_text(json, own.to_json(), JSON);
        Ok(())
    })
}

/// How long a push to a queue waits for room when it is full, as its option on_full says: for hosts that push with a
/// wait_ms of 0 and do the waiting themselves.
///
/// Parameters: dispatcher; queue, empty for the option queue; wait_ms may be NULL, else takes the time, 0 if a push
/// does not wait.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_queue_patience(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    wait_ms: *mut i64,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let d = self::dispatcher(dispatcher)?;
        let queue = match queue.text("queue")? {
            "" => &d.options().queue,
            name => name,
        };
        let wait = d.waits_for_room(queue).map_or(0, |wait| wait.as_millis());
        put(wait_ms, i64::try_from(wait).unwrap_or(i64::MAX));
        Ok(())
    })
}

/// How full a queue is, from 0 to 1: the greatest of its jobs and its bytes to what it takes, and, with the
/// option delay_target, of how long its jobs wait to how long they may. Cheap: ask before every push, if you
/// like.
///
/// Parameters: dispatcher; queue; pressure may be NULL, else takes it, 0 for a queue nobody has named.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_pressure(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    pressure: *mut f64,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        put(
            pressure,
            self::dispatcher(dispatcher)?.pressure(queue.text("queue")?)?,
        );
        Ok(())
    })
}

/// What a queue holds and what keeps its jobs from starting, as a sentence.
///
/// Parameters: dispatcher; queue; text may be NULL, else takes it.
/// Returns: FBY_OK; FBY_E_NOT_FOUND for a queue nobody has named; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Memory: *text is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_explain_queue(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    text: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let why = self::dispatcher(dispatcher)?.explain_queue(queue.text("queue")?)?;
        fby_buffer::put_text(text, why.to_string(), "text/plain");
        Ok(())
    })
}

/// Stops handing out jobs of a queue. Pushes go on, running jobs too.
///
/// Parameters: dispatcher; queue.
/// Returns: FBY_OK; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_pause(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live dispatcher or NULL, and for valid bytes.
    guard(err, || unsafe {
        self::dispatcher(dispatcher)?.pause(queue.text("queue")?)
    })
}

/// Hands out jobs of a queue again.
///
/// Parameters: dispatcher; queue.
/// Returns: FBY_OK; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_resume(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for a live dispatcher or NULL, and for valid bytes.
    guard(err, || unsafe {
        self::dispatcher(dispatcher)?.resume(queue.text("queue")?)
    })
}

/// Cancels every job that waits in a queue. Running ones go on.
///
/// Parameters: dispatcher; queue; count may be NULL, else takes how many.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_purge(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    count: *mut u64,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        put(
            count,
            self::dispatcher(dispatcher)?.purge(queue.text("queue")?)? as u64,
        );
        Ok(())
    })
}

/// How many jobs wait in a queue: blocked, scheduled and queued ones.
///
/// Parameters: dispatcher; queue; len may be NULL, else takes the number, 0 for a queue nobody has named.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_len(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    len: *mut u64,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        put(len, self::dispatcher(dispatcher)?.len(queue.text("queue")?)?);
        Ok(())
    })
}

/// The counts of every queue, as a JSON object: one consistent snapshot.
///
/// Parameters: dispatcher; json may be NULL, else takes the text.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Memory: *json is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_stats(
    dispatcher: *const fby_dispatcher,
    json: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL.
    guard(err, || unsafe {
        fby_buffer::put_text(json, self::dispatcher(dispatcher)?.stats()?.to_json(), JSON);
        Ok(())
    })
}

/// The counts of every queue in the text format of Prometheus.
///
/// Parameters: dispatcher; text may be NULL, else takes it.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Memory: *text is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_stats_prometheus(
    dispatcher: *const fby_dispatcher,
    text: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    const TYPE: &str = "text/plain; version=0.0.4";
    // SAFETY: the header asks for valid pointers or NULL.
    guard(err, || unsafe {
        fby_buffer::put_text(text, self::dispatcher(dispatcher)?.stats()?.to_prometheus(), TYPE);
        Ok(())
    })
}

/// Writes every unfinished job to a file, as of one instant. The former file stays until the new one is
/// whole and synced.
///
/// Parameters: dispatcher; path; report may be NULL.
/// Returns: FBY_OK; FBY_E_STORAGE if the file cannot be written, and the former one is untouched;
/// FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_dump(
    dispatcher: *const fby_dispatcher,
    path: fby_bytes,
    report: *mut fby_dump_report,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let done = self::dispatcher(dispatcher)?.dump(path.path("path")?)?;
        write(report, done.into(), "report")
    })
}

/// Reads a dump and accepts its jobs. Jobs that are here already are left as they are, so restoring twice
/// makes no duplicates. The whole file is checked before the first job is accepted.
///
/// Parameters: dispatcher; path; report may be NULL.
/// Returns: FBY_OK; FBY_E_NOT_FOUND if there is no such file; FBY_E_CORRUPT and FBY_E_FUTURE_FORMAT for one
/// that cannot be used, which is left alone; FBY_E_STORAGE; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_restore(
    dispatcher: *const fby_dispatcher,
    path: fby_bytes,
    report: *mut fby_dump_report,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for valid bytes.
    guard(err, || unsafe {
        let done = self::dispatcher(dispatcher)?.restore(path.path("path")?)?;
        write(report, done.into(), "report")
    })
}
