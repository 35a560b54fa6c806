//! Queues whose jobs are passed on to another dispatcher.

use std::time::Duration;

use forebay_core::{ForwardOptions, Forwarder, Options, Result, Target};

use crate::bytes::fby_bytes;
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::handle::{Boxed, Homed, put};

/// A queue whose jobs are passed on. Any thread.
pub struct fby_forwarder(Forwarder);

impl Boxed for fby_forwarder {}

impl Homed for fby_forwarder {
    const NAME: &'static str = "forwarder";

    fn check_process(&self) -> Result<()> {
        self.0.check_process()
    }
}

/// Passes the jobs of a queue on to another dispatcher from now on, in order and whatever their kinds; nobody
/// here is given jobs of it. While the other one is down or full they wait here. See docs/forwarding.md.
///
/// Parameters: dispatcher; queue; url of the other dispatcher, as for fby_open, which is opened when the first
/// job is there; to_queue is the queue there, empty for one of the same name; options by name, as in a URL, for
/// example "batch=100&retry=constant(1s)", empty for the defaults; out may be NULL, else takes the forwarder.
/// Returns: FBY_OK, also if the other one cannot be opened just now: fby_explain_queue tells; FBY_E_NOT_FOUND
/// for an option that there is not; FBY_E_INVALID also for a queue that is forwarded already; FBY_E_CLOSED;
/// FBY_E_FORKED; FBY_E_NO_MEMORY.
/// Memory: *out is yours; free it with fby_forwarder_free. It is written on FBY_OK only. Without it the queue is
/// passed on until the dispatcher stops.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_forward(
    dispatcher: *const fby_dispatcher,
    queue: fby_bytes,
    url: fby_bytes,
    to_queue: fby_bytes,
    options: fby_bytes,
    out: *mut *mut fby_forwarder,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL, and for valid bytes.
        let (d, queue, url, there, said) = unsafe {
            (
                self::dispatcher(dispatcher)?,
                queue.text("queue")?,
                url.text("url")?,
                to_queue.some_text("to_queue")?,
                options.text("options")?,
            )
        };
        let mut options = ForwardOptions::default();
        options.set_all(said)?;
        let target = Target::url(url, Options::default()).queue(there.unwrap_or(queue));
        let made = fby_forwarder(d.forward(queue, target, options)?);
        if !out.is_null() {
            // SAFETY: the header asks for room for one pointer.
            unsafe { put(out, made.into_handle()) };
        }
        Ok(())
    })
}

/// Passes on no more: waits for the delivery that is under way; then the queue is everybody's again.
///
/// Parameters: forwarder; grace_ms is how long to wait.
/// Returns: FBY_OK; FBY_E_TIMEOUT if the delivery is still under way, with which it ends all the same;
/// FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_forwarder_stop(
    forwarder: *const fby_forwarder,
    grace_ms: i64,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live forwarder or NULL.
        let forwarder = &unsafe { fby_forwarder::live(forwarder) }?.0;
        forwarder.stop(u64::try_from(grace_ms).map_or(Duration::MAX, Duration::from_millis))
    })
}

/// Frees the handle of a forwarder, which goes on. In the child of a fork nothing is freed.
///
/// Parameters: forwarder may be NULL.
/// Threads: one at a time for the same forwarder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_forwarder_free(forwarder: *mut fby_forwarder) {
    // SAFETY: the header asks for a forwarder that is not used again, or NULL.
    unsafe { fby_forwarder::free_at_home(forwarder) };
}
