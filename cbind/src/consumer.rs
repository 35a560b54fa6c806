//! The pull side: hosts that run jobs on threads of their own.

use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use forebay_core::{
    Consumer, Dispatcher, Error, ErrorKind, Interrupt, KindId, KindSet, Lease, QueueId, Result,
};
use parking_lot::{Mutex, MutexGuard};

use crate::bytes::{deadline, fby_bytes, some_time, texts};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::handle::{Boxed, Homed, null, put};
use crate::handler::{fby_job, fby_ticket};
use crate::record::{Record, check_array, read_or_zero, write_at};
use crate::tickets::fby_stop_reason;

/// Asks for jobs. Make one per thread that polls.
pub struct fby_consumer {
    polling: Mutex<Polling>,
    interrupt: Interrupt,
}

impl Boxed for fby_consumer {}

impl Homed for fby_consumer {
    const NAME: &'static str = "consumer";

    fn check_process(&self) -> Result<()> {
        self.interrupt.check_process()
    }
}

/// What one poll at a time has.
struct Polling {
    consumer: Consumer,
    /// Room for leases on their way out.
    leases: Vec<Lease>,
}

impl fby_consumer {
    fn lock(&self) -> Result<MutexGuard<'_, Polling>> {
        self.polling.try_lock().ok_or_else(|| {
            let text = "another thread polls this consumer; make one per thread";
            Error::new(ErrorKind::Invalid, text)
        })
    }
}

/// What a consumer asks for; zero leaves a field to the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_consumer_options {
    /// sizeof(fby_consumer_options).
    pub struct_size: usize,
    /// The queues to take jobs from; none is every queue.
    pub queues: *const fby_bytes,
    /// How many they are.
    pub queue_count: usize,
    /// Leases end this long after the poll unless they are extended; 0 leaves it to the option lease.
    pub lease_ms: i64,
}

// SAFETY: repr(C), size first, no padding, integers and pointers only.
unsafe impl Record for fby_consumer_options {}

// SAFETY: the array must be valid during the call.
unsafe fn kind_set(
    kinds: *const fby_bytes,
    count: usize,
    known: impl Fn(&str) -> Result<KindId>,
) -> Result<Arc<KindSet>> {
    // SAFETY: as required of the caller.
    let kinds = unsafe { texts(kinds, count, "kinds") }?;
    let kinds = kinds.into_iter().map(known).collect::<Result<Vec<KindId>>>()?;
    Ok(Arc::new(match kinds.is_empty() {
        true => KindSet::any(),
        false => KindSet::of(kinds),
    }))
}

// SAFETY: the arrays must be valid during the call.
unsafe fn consumer(
    d: &Dispatcher,
    kinds: *const fby_bytes,
    count: usize,
    options: fby_consumer_options,
) -> Result<Consumer> {
    // SAFETY: as required of the caller.
    let (set, queues) = unsafe {
        let queues = texts(options.queues, options.queue_count, "queues")?;
        (kind_set(kinds, count, |name| d.kind(name))?, queues)
    };
    let queues = queues
        .into_iter()
        .map(|name| d.queue(name))
        .collect::<Result<Vec<QueueId>>>()?;
    let lease = some_time(options.lease_ms, "lease_ms")?.or(d.options().lease);
    Ok(d.consumer(set).queues(queues).lease(lease))
}

/// A consumer of these kinds, for a thread that polls.
///
/// Parameters: dispatcher; kinds, none for every kind; kind_count of them; options may be NULL; out takes
/// the consumer.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: *out is yours; free it with fby_consumer_free. It does not keep the dispatcher from stopping. It
/// is written on FBY_OK only.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_consumer_new(
    dispatcher: *const fby_dispatcher,
    kinds: *const fby_bytes,
    kind_count: usize,
    options: *const fby_consumer_options,
    out: *mut *mut fby_consumer,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        if out.is_null() {
            return Err(null("out"));
        }
        // SAFETY: the header asks for a live dispatcher, valid arrays and a valid struct, or NULL.
        let made = unsafe {
            let d = self::dispatcher(dispatcher)?;
            consumer(d, kinds, kind_count, read_or_zero(options, "options")?)?
        };
        let made = fby_consumer {
            interrupt: made.interrupt(),
            polling: Mutex::new(Polling {
                consumer: made,
                leases: Vec::new(),
            }),
        };
        // SAFETY: the header asks for room for one pointer.
        unsafe { put(out, made.into_handle()) };
        Ok(())
    })
}

/// Takes up to max jobs; waits for the first one only. No more are out at once than the option concurrency
/// says. Answer for each with fby_finish.
///
/// Parameters: consumer; jobs takes them, each job_size bytes, which is sizeof(fby_job); max of them, at least 1 for
/// any to be taken and for the descriptor to be looked after; timeout_ms is how long to wait for the first: 0 not at all, FBY_FOREVER without limit; count may be NULL,
/// else takes their number, 0 on any but FBY_OK.
/// Returns: FBY_OK, with a count of 0 if the time was up; FBY_E_CLOSED once the dispatcher stops;
/// FBY_E_INTERRUPTED by fby_consumer_wake; FBY_E_WOULD_DEADLOCK for an endless wait in a handler;
/// FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Memory: what a job points to lives until fby_finish has been called with its ticket, whatever that
/// returned, or the last reference to the dispatcher is released.
/// Threads: one at a time for the same consumer; a second one gets FBY_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_poll(
    consumer: *mut fby_consumer,
    jobs: *mut fby_job,
    job_size: usize,
    max: usize,
    timeout_ms: i64,
    count: *mut usize,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for room for a number, or NULL.
    unsafe { put(count, 0) };
    guard(err, || {
        // SAFETY: the header asks for a live consumer or NULL.
        let polled = unsafe { fby_consumer::live(consumer) }?;
        check_array(jobs.cast_const(), job_size, max, "jobs")?;
        let Polling { consumer, leases } = &mut *polled.lock()?;
        consumer.next_many(max, deadline(timeout_ms), leases)?;
        // SAFETY: the header asks for room for a number, or NULL.
        unsafe { put(count, leases.len()) };
        for (i, lease) in leases.drain(..).enumerate() {
            lease.hand_out();
            // SAFETY: checked, and there are at most `max`.
            unsafe { write_at(jobs, job_size, i, fby_job::of(&lease)) };
            lease.park();
        }
        Ok(())
    })
}

/// A descriptor for an event loop (epoll, poll, kqueue, libuv, Go's netpoller): readable when fby_poll may find
/// something, when the dispatcher stops, and after fby_consumer_wake. Wait until it is readable, call fby_poll with
/// a timeout of 0 until the count is 0, and wait again. That count makes it unreadable; it may be readable for
/// nothing. Level-triggered and edge-triggered loops may do the same. Never read from it or write to it.
///
/// From then on a poll with a timeout of 0 that finds nothing counts as waiting: jobs are announced to the consumer
/// and may be to nobody else, a slot may be kept for it, and FBY_E_INTERRUPTED answers fby_consumer_wake there. So
/// poll when it is readable, or free the consumer: it passes on what it was told.
///
/// Parameters: consumer; fd may be NULL, else takes the descriptor, the same at each call.
/// Returns: FBY_OK; FBY_E_NO_MEMORY if the process may have no more descriptors; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: the descriptor belongs to the consumer and is closed when it is freed: take it out of the event loop
/// before. It is non-blocking and close-on-exec.
/// Threads: one at a time for the same consumer, as fby_poll; waiting for the descriptor: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_consumer_fd(
    consumer: *mut fby_consumer,
    fd: *mut c_int,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live consumer or NULL.
        let mut polling = unsafe { fby_consumer::live(consumer) }?.lock()?;
        let descriptor = polling.consumer.descriptor()?.as_raw_fd();
        // SAFETY: the header asks for room for a number, or NULL.
        unsafe { put(fd, descriptor) };
        Ok(())
    })
}

/// Makes a waiting fby_poll return FBY_E_INTERRUPTED, or the next one that would wait, and the descriptor of the
/// consumer readable.
///
/// Parameters: consumer.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Threads: any, also while another one polls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_consumer_wake(
    consumer: *const fby_consumer,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live consumer or NULL.
        unsafe { fby_consumer::live(consumer) }?.interrupt.raise();
        Ok(())
    })
}

/// Has a consumer take jobs of these kinds from now on, instead of those it took. Poll after this: the descriptor
/// of the consumer becomes readable, if there is one.
///
/// Parameters: consumer; kinds, none for every kind; kind_count of them.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID, and then nothing has changed.
/// Memory: nothing is kept.
/// Threads: one at a time for the same consumer, as fby_poll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_consumer_kinds(
    consumer: *mut fby_consumer,
    kinds: *const fby_bytes,
    kind_count: usize,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live consumer or NULL, and for a valid array.
        unsafe {
            let consumer = fby_consumer::live(consumer)?;
            let set = kind_set(kinds, kind_count, |name| consumer.interrupt.kind(name))?;
            consumer.lock()?.consumer.ask_for(set);
        }
        Ok(())
    })
}

/// A delivery that was told to stop.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_stopped {
    /// sizeof(fby_stopped).
    pub struct_size: usize,
    /// Which delivery.
    pub ticket: fby_ticket,
    /// Why, as fby_cancelled says.
    pub reason: fby_stop_reason,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, integers only.
unsafe impl Record for fby_stopped {}

/// Takes the deliveries of a consumer that were told to stop since the last call: for a holder of thousands, who
/// would have to ask fby_cancelled for each. A delivery that was told FBY_STOP_STOPPING may be told more. From the
/// first call on the descriptor of the consumer becomes readable for this, too: call it after fby_poll has answered
/// a count of 0, and then wait.
///
/// Parameters: consumer; stopped takes them, each stopped_size bytes, which is sizeof(fby_stopped); max of them;
/// count may be NULL, else takes their number, 0 on any but FBY_OK. Fewer than max are all there are.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID.
/// Memory: nothing is kept.
/// Threads: one at a time for the same consumer, as fby_poll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_consumer_stopped(
    consumer: *mut fby_consumer,
    stopped: *mut fby_stopped,
    stopped_size: usize,
    max: usize,
    count: *mut usize,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for room for a number, or NULL.
    unsafe { put(count, 0) };
    guard(err, || {
        check_array(stopped.cast_const(), stopped_size, max, "stopped")?;
        // SAFETY: the header asks for a live consumer or NULL.
        let mut polling = unsafe { fby_consumer::live(consumer) }?.lock()?;
        let told = polling.consumer.stopped(max)?;
        for (i, (ticket, reason)) in told.iter().enumerate() {
            let told = fby_stopped {
                struct_size: size_of::<fby_stopped>(),
                ticket: ticket.0,
                reason: *reason as fby_stop_reason,
                reserved: 0,
            };
            // SAFETY: checked, and there are at most `max`.
            unsafe { write_at(stopped, stopped_size, i, told) };
        }
        // SAFETY: the header asks for room for a number, or NULL.
        unsafe { put(count, told.len()) };
        Ok(())
    })
}

/// Frees a consumer. Jobs that it polled can still be finished. In the child of a fork nothing is freed.
///
/// Parameters: consumer may be NULL.
/// Threads: one, with no poll under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_consumer_free(consumer: *mut fby_consumer) {
    // SAFETY: the header asks for a consumer that is not used again, or NULL.
    unsafe { fby_consumer::free_at_home(consumer) };
}
