//! Pushing.

use std::time::Duration;

use forebay_core::{
    Dispatcher, Durability, Error, ErrorKind, JobId, KindId, Name, NewJob, Payload, Priority, Pushed,
    QueueId, Result, RetryPolicy, ShedReason, Timestamp,
};

use crate::bytes::{fby_bytes, fby_id, some_time, texts};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::handle::put;
use crate::headers::{fby_header, with_headers};
use crate::jobs::fby_shed;
use crate::record::{Record, check_array, view, view_at, write_at};

/// What an accepted job survives: FBY_DURABILITY_MEMORY, _OS or _DISK; a higher one survives all that a lower
/// one does.
pub type fby_durability = i32;

/// A job to be pushed. Only kind is needed; zero leaves a field to the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_job_spec {
    /// sizeof(fby_job_spec).
    pub struct_size: usize,
    /// Which handler runs it.
    pub kind: fby_bytes,
    /// What it carries: any bytes, which are copied.
    pub payload: fby_bytes,
    /// What the payload is, as a MIME type of at most 255 bytes; empty is "application/octet-stream".
    pub content_type: fby_bytes,
    /// The queue; empty is the option queue.
    pub queue: fby_bytes,
    /// The idempotency key: of several pushes with one key, the first makes the job and the others get its
    /// id; another kind or payload under the same key is FBY_E_CONFLICT. Empty is none.
    pub key: fby_bytes,
    /// The pause between attempts, for example "exponential(1s, cap=5m)"; empty leaves it to the kind.
    pub retry: fby_bytes,
    /// The id; zero has one made. Pushing the same id again changes nothing.
    pub id: fby_id,
    /// From -128 to 127, higher first.
    pub priority: i32,
    /// How often the job may run in all; FBY_UNLIMITED needs a retry policy that pauses.
    pub max_attempts: u32,
    /// Start no earlier than this long after the push.
    pub delay_ms: i64,
    /// Start no earlier than at this instant, in milliseconds since 1970. Not together with delay_ms.
    pub run_at_ms: i64,
    /// How long one attempt may take.
    pub timeout_ms: i64,
    /// An attempt that has not started this long after the push never starts: the job expires.
    pub expires_after_ms: i64,
    /// What the job must survive before the push is answered; 0 is the option durability. An engine that
    /// cannot do so much does what it can.
    pub durability: fby_durability,
    /// Zero.
    pub reserved: u32,
    /// The concurrency key: jobs of a queue that share it are started in turn with those of other keys, and
    /// within the queue's options key_concurrency and key_rate. Empty is none.
    pub concurrency_key: fby_bytes,
    /// Headers, which travel with the job.
    pub headers: *const fby_header,
    /// How many they are: at most 256.
    pub header_count: usize,
    /// Tokens: the job is blocked until fby_signal has delivered each of them once.
    pub waits_for: *const fby_bytes,
    /// How many they are: at most 1024.
    pub waits_for_count: usize,
}

// SAFETY: repr(C), size first, no padding, integers and pointers only.
unsafe impl Record for fby_job_spec {}

impl fby_job_spec {
    // Most jobs say nothing else than here, and a job is moved by every call that is not inlined.
    //
    // SAFETY: its bytes must be valid while `'a` lasts.
    #[inline(always)]
    unsafe fn new_job<'a>(&self, d: &Dispatcher) -> Result<NewJob<'a>> {
        // SAFETY: as required of the caller.
        let (kind, payload) = unsafe {
            let max = d.options().max_payload;
            (self.kind(d)?, payload(self.payload, self.content_type, max)?)
        };
        let mut job = NewJob::new(kind, payload).priority(priority(self.priority)?);
        if self.queue.len > 0 {
            // SAFETY: as required of the caller.
            job = job.queue(unsafe { self.queue(d) }?);
        }
        if self.says_more() {
            // SAFETY: as required of the caller.
            unsafe { self.rest(&mut job) }?;
        }
        Ok(job)
    }

    /// Whether it says anything that [`fby_job_spec::rest`] is about.
    #[inline(always)]
    fn says_more(&self) -> bool {
        let texts = self.key.len | self.concurrency_key.len | self.retry.len;
        let times = self.run_at_ms | self.delay_ms | self.timeout_ms | self.expires_after_ms;
        let numbers = self.max_attempts | self.durability as u32 | self.reserved;
        let arrays = self.header_count | self.waits_for_count;
        (texts | arrays) != 0 || times != 0 || numbers != 0 || self.id.job() != JobId::NIL
    }

    // SAFETY: its bytes must be valid while `'a` lasts.
    unsafe fn rest<'a>(&self, to: &mut NewJob<'a>) -> Result<()> {
        let mut job = std::mem::replace(to, NewJob::new("", ()));
        // SAFETY: as required of the caller.
        unsafe {
            if let Some(key) = self.key.some_text("key")? {
                job = job.key(key);
            }
            if let Some(key) = self.concurrency_key.some_text("concurrency_key")? {
                job = job.concurrency_key(key);
            }
            if let Some(retry) = self.retry.some_text("retry")? {
                job = job.retry(RetryPolicy::parse(retry)?);
            }
        }
        if self.id.job() != JobId::NIL {
            job = job.id(self.id.job());
        }
        if self.max_attempts != 0 {
            job = job.max_attempts(self.max_attempts);
        }
        if let Some(level) = durability(self.durability)? {
            job = job.durability(level);
        }
        no_reserved(self.reserved, "job")?;
        if self.header_count > 0 || self.waits_for_count > 0 {
            // SAFETY: as required of the caller.
            job = unsafe { self.arrays(job) }?;
        }
        *to = self.times(job)?;
        Ok(())
    }

    /// What few jobs have.
    //
    // SAFETY: its arrays must be valid.
    #[cold]
    unsafe fn arrays<'a>(&self, job: NewJob<'a>) -> Result<NewJob<'a>> {
        // SAFETY: as required of the caller.
        let (job, tokens) = unsafe {
            let tokens = texts(self.waits_for, self.waits_for_count, "waits_for")?;
            (with_headers(job, self.headers, self.header_count)?, tokens)
        };
        Ok(tokens.into_iter().fold(job, NewJob::waits_for))
    }

    /// The kind: by its number if it has been named before, and then its name needs no check.
    //
    // SAFETY: its bytes must be valid while `'a` lasts.
    #[inline(always)]
    unsafe fn kind<'a>(&self, d: &Dispatcher) -> Result<Name<'a, KindId>> {
        // SAFETY: as required of the caller.
        match d.look_up_kind(unsafe { self.kind.slice("kind") }?) {
            Some(known) => Ok(known.into()),
            // SAFETY: as required of the caller.
            None => unsafe { self.kind.text("kind") }.map(Name::from),
        }
    }

    /// The queue, in the same way.
    //
    // SAFETY: its bytes must be valid while `'a` lasts.
    unsafe fn queue<'a>(&self, d: &Dispatcher) -> Result<Name<'a, QueueId>> {
        // SAFETY: as required of the caller.
        match d.look_up_queue(unsafe { self.queue.slice("queue") }?) {
            Some(known) => Ok(known.into()),
            // SAFETY: as required of the caller.
            None => unsafe { self.queue.text("queue") }.map(Name::from),
        }
    }

    fn times<'a>(&self, mut job: NewJob<'a>) -> Result<NewJob<'a>> {
        let at = some_time(self.run_at_ms, "run_at_ms")?;
        match (some_time(self.delay_ms, "delay_ms")?, at) {
            (Some(_), Some(_)) => return Err(invalid("delay_ms and run_at_ms are both set; set one")),
            (Some(delay), None) => job = job.delay(delay),
            (None, Some(at)) => job = job.run_at(Timestamp::EPOCH.after(at)),
            (None, None) => {}
        }
        if let Some(timeout) = some_time(self.timeout_ms, "timeout_ms")? {
            job = job.timeout(timeout);
        }
        if let Some(after) = some_time(self.expires_after_ms, "expires_after_ms")? {
            job = job.expires_after(after);
        }
        Ok(job)
    }
}

/// A copy of bytes as a payload.
//
// SAFETY: the bytes must be valid during the call.
#[inline(always)]
pub(crate) unsafe fn payload(bytes: fby_bytes, content_type: fby_bytes, max: usize) -> Result<Payload> {
    // SAFETY: as required of the caller.
    let (bytes, content_type) = unsafe { (bytes.slice("payload")?, content_type.some_text("content_type")?) };
    match content_type {
        None => Payload::copy_octets(bytes, max),
        Some(content_type) => Payload::copy(bytes, content_type.to_owned().into(), max),
    }
}

#[inline]
fn priority(number: i32) -> Result<Priority> {
    Priority::try_from(number).map_err(|_| invalid(format!("priority {number} is not between -128 and 127")))
}

/// 0 is none.
fn durability(code: fby_durability) -> Result<Option<Durability>> {
    match Durability::from_code(code) {
        None if code != 0 => Err(invalid(format!(
            "durability {code} is none of FBY_DURABILITY_MEMORY, FBY_DURABILITY_OS and FBY_DURABILITY_DISK"
        ))),
        level => Ok(level),
    }
}

/// Refuses a struct whose room for later fields is in use, or was never cleared.
pub(crate) fn no_reserved(reserved: u32, what: &str) -> Result<()> {
    match reserved {
        0 => Ok(()),
        _ => Err(invalid(format!(
            "reserved of {what} is not zero; initialise the struct with FBY_INIT"
        ))),
    }
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

/// Pushes a job.
///
/// Parameters: dispatcher; job; wait_ms is how long to wait for room if the queue is full: 0 not at all,
/// FBY_DEFAULT as the option on_full says; id may be NULL, else takes the job's id, which is another one's
/// if the key was known; reached may be NULL, else takes what the job now survives.
/// Returns: FBY_OK, once the job is as safe as it is to be, also for one that the option on_full has shed as it
/// came (fby_job_shed tells); FBY_E_FULL, also for a full disk; FBY_E_CONFLICT;
/// FBY_E_UNKNOWN_KIND if so configured; FBY_E_CLOSED; FBY_E_FORKED; FBY_E_NO_MEMORY; FBY_E_WOULD_DEADLOCK;
/// FBY_E_STORAGE; FBY_E_INVALID. On any of these but FBY_OK the job was not accepted. FBY_E_UNKNOWN if the
/// store failed first: whether the job was kept shows when it is opened again. Who gave the job an id or a
/// key may push it again, then or now, and has it once.
/// Memory: everything is copied. *id and *reached are written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_push(
    dispatcher: *const fby_dispatcher,
    job: *const fby_job_spec,
    wait_ms: i64,
    id: *mut fby_id,
    reached: *mut fby_durability,
    err: *mut *mut fby_error,
) -> fby_status {
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher and a valid struct, or NULL.
        let (d, job) = unsafe {
            let d = self::dispatcher(dispatcher)?;
            (d, view(job, "job")?.new_job(d)?)
        };
        let pushed = match u64::try_from(wait_ms) {
            Err(_) => d.push(job),
            Ok(ms) => d.push_within(job, Duration::from_millis(ms)),
        };
        let pushed = pushed.map_err(Error::from)?;
        // SAFETY: the header asks for room for an id and a level, or NULL.
        unsafe {
            put(id, pushed.id.into());
            put(reached, pushed.durability.code());
        }
        Ok(())
    })
}

/// Pushes jobs in order and stops at the first refusal. All are checked first: if one is not valid, none is
/// accepted.
///
/// Parameters: dispatcher; jobs, each spec_size bytes, which is sizeof(fby_job_spec) and their struct_size;
/// count of them; wait_ms as for fby_push, for all together; ids may be NULL, else takes the ids of those
/// accepted; accepted may be NULL, else takes their number, whatever is returned; reached may be NULL, else
/// takes what each of those accepted now survives at least, unless there is none.
/// Returns: as fby_push, for the first job that was refused.
/// Memory: everything is copied.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_push_many(
    dispatcher: *const fby_dispatcher,
    jobs: *const fby_job_spec,
    spec_size: usize,
    count: usize,
    wait_ms: i64,
    ids: *mut fby_id,
    accepted: *mut usize,
    reached: *mut fby_durability,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for room for a number, or NULL.
    unsafe { put(accepted, 0) };
    guard(err, || {
        // SAFETY: the header asks for a live dispatcher or NULL, and for an array as it is said to be.
        let (pushed, result) = unsafe { push_all(dispatcher, jobs, spec_size, count, wait_ms) }?;
        // SAFETY: the header asks for room for a number, and for `count` ids, or NULL.
        unsafe {
            put(accepted, pushed.len());
            put_ids(ids, &pushed);
        }
        if let Some(least) = pushed.iter().map(|p| p.durability).min() {
            // SAFETY: the header asks for room for a level, or NULL.
            unsafe { put(reached, least.code()) };
        }
        result
    })
}

/// What became of one job of a push.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_pushed {
    /// How many bytes of this struct the library has filled.
    pub struct_size: usize,
    /// The job's id: of the new job, or of the one that had the id or key already.
    pub id: fby_id,
    /// What the job now survives.
    pub durability: fby_durability,
    /// The rule against overload that gave the job up as it came; 0 for none.
    pub shed: fby_shed,
    /// 1 if this push made the job; 0 if the id or key was known.
    pub created: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, integers only.
unsafe impl Record for fby_pushed {}

impl From<&Pushed> for fby_pushed {
    fn from(pushed: &Pushed) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            id: pushed.id.into(),
            durability: pushed.durability.code(),
            shed: pushed.shed.map_or(0, ShedReason::code),
            created: pushed.created.into(),
            reserved: 0,
        }
    }
}

/// Pushes jobs as fby_push_many does, and tells of each what became of it.
///
/// Parameters: dispatcher; jobs, spec_size, count and wait_ms as for fby_push_many; pushed may be NULL, else takes
/// what became of those accepted, each pushed_size bytes, which is sizeof(fby_pushed), and has room for count of
/// them; accepted may be NULL, else takes their number, whatever is returned.
/// Returns: as fby_push, for the first job that was refused.
/// Memory: everything is copied.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_push_report(
    dispatcher: *const fby_dispatcher,
    jobs: *const fby_job_spec,
    spec_size: usize,
    count: usize,
    wait_ms: i64,
    pushed: *mut fby_pushed,
    pushed_size: usize,
    accepted: *mut usize,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for room for a number, or NULL.
    unsafe { put(accepted, 0) };
    guard(err, || {
        if !pushed.is_null() {
            check_array(pushed.cast_const(), pushed_size, count, "pushed")?;
        }
        // SAFETY: the header asks for a live dispatcher or NULL, and for an array as it is said to be.
        let (told, result) = unsafe { push_all(dispatcher, jobs, spec_size, count, wait_ms) }?;
        // SAFETY: the header asks for room for a number, or NULL.
        unsafe { put(accepted, told.len()) };
        for (i, one) in told.iter().enumerate().filter(|_| !pushed.is_null()) {
            // SAFETY: checked, and there are at most `count`.
            unsafe { write_at(pushed, pushed_size, i, one.into()) };
        }
        result
    })
}

/// Pushes the jobs of an array: what became of those accepted, and why the next one was not.
//
// SAFETY: the dispatcher must be NULL or live, and the array as it is said to be.
unsafe fn push_all(
    dispatcher: *const fby_dispatcher,
    jobs: *const fby_job_spec,
    size: usize,
    count: usize,
    wait_ms: i64,
) -> Result<(Vec<Pushed>, Result<()>)> {
    // SAFETY: as required of the caller.
    let (d, mut jobs) = unsafe {
        let d = self::dispatcher(dispatcher)?;
        (d, new_jobs(d, jobs, size, count)?)
    };
    let result = match u64::try_from(wait_ms) {
        Err(_) => d.push_from(&mut jobs),
        Ok(ms) => d.push_from_within(&mut jobs, Duration::from_millis(ms)),
    };
    Ok(match result {
        Ok(pushed) => (pushed, Ok(())),
        Err(refused) => (refused.pushed, Err(refused.error)),
    })
}

// SAFETY: the array must be as it is said to be, and the bytes valid while `'a` lasts.
pub(crate) unsafe fn new_jobs<'a>(
    d: &Dispatcher,
    jobs: *const fby_job_spec,
    size: usize,
    count: usize,
) -> Result<Vec<NewJob<'a>>> {
    check_array(jobs, size, count, "jobs")?;
    let mut list = Vec::new();
    list.try_reserve_exact(count)
        .map_err(|e| Error::new(ErrorKind::NoMemory, format!("no room for {count} jobs")).caused_by(e))?;
    for i in 0..count {
        // SAFETY: checked, and as required of the caller.
        list.push(unsafe { view_at(jobs, size, i, "job")?.new_job(d)? });
    }
    Ok(list)
}

// SAFETY: `ids` must be NULL or have room for as many as were pushed.
unsafe fn put_ids(ids: *mut fby_id, pushed: &[Pushed]) {
    if !ids.is_null() {
        for (i, pushed) in pushed.iter().enumerate() {
            // SAFETY: as required of the caller.
            unsafe { put(ids.add(i), pushed.id.into()) };
        }
    }
}
