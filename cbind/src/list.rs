//! Listing jobs, page by page.

use forebay_core::{Filter, JSON, JobId, Result, State, Timestamp};

use crate::buffer::fby_buffer;
use crate::bytes::{fby_bytes, fby_id, some_time};
use crate::dispatcher::{dispatcher, fby_dispatcher};
use crate::error::{fby_error, fby_status, guard};
use crate::jobs::{fby_state, state};
use crate::push::no_reserved;
use crate::record::{Record, check_values, read_or_zero};

/// Which jobs a listing shows: those that every field fits; zero leaves a field out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fby_filter {
    /// sizeof(fby_filter).
    pub struct_size: usize,
    /// Only this queue.
    pub queue: fby_bytes,
    /// Only this kind.
    pub kind: fby_bytes,
    /// Only the job with this idempotency key.
    pub key: fby_bytes,
    /// Only these states; none is all.
    pub states: *const fby_state,
    /// How many they are.
    pub state_count: usize,
    /// Only jobs pushed at or after this instant, in milliseconds since 1970.
    pub created_from_ms: i64,
    /// Only jobs pushed before this instant, in milliseconds since 1970.
    pub created_before_ms: i64,
    /// Go on after this id: the "next" of the page before.
    pub after: fby_id,
    /// The most jobs on the page, up to 10000; 0 is 20.
    pub limit: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, integers and pointers only.
unsafe impl Record for fby_filter {}

impl fby_filter {
    // SAFETY: its bytes and its array must be valid.
    unsafe fn filter(&self) -> Result<Filter> {
        no_reserved(self.reserved, "filter")?;
        check_values(self.states, self.state_count, "states")?;
        // SAFETY: checked, and as required of the caller.
        let code = |i| unsafe { self.states.add(i).read_unaligned() };
        let instant = |ms, what| some_time(ms, what).map(|at| at.map(|at| Timestamp::EPOCH.after(at)));
        // SAFETY: as required of the caller.
        let text = |bytes: fby_bytes, what| unsafe { bytes.some_text(what) }.map(|t| t.map(str::to_owned));
        Ok(Filter {
            queue: text(self.queue, "queue")?,
            kind: text(self.kind, "kind")?,
            states: (0..self.state_count)
                .map(|i| state(code(i)))
                .collect::<Result<Vec<State>>>()?,
            key: text(self.key, "key")?,
            created_from: instant(self.created_from_ms, "created_from_ms")?,
            created_before: instant(self.created_before_ms, "created_before_ms")?,
            after: Some(self.after.job()).filter(|id| *id != JobId::NIL),
            limit: Some(self.limit as usize).filter(|n| *n > 0),
        })
    }
}

/// One page of the jobs that a filter shows, newest first, as a JSON object: "jobs" are objects as fby_get makes
/// them, "total" is how many the filter shows on all pages, and "next" is what after must be for the next page, or
/// null on the last one. A page that is full to the last job may be followed by an empty one.
///
/// Parameters: dispatcher; filter may be NULL for all jobs; json may be NULL, else takes the text.
/// Returns: FBY_OK; FBY_E_FORKED; FBY_E_INVALID; FBY_E_STORAGE.
/// Memory: *json is yours; free it with fby_buffer_free. It is written on FBY_OK only.
/// Threads: any, also in a handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_list(
    dispatcher: *const fby_dispatcher,
    filter: *const fby_filter,
    json: *mut *mut fby_buffer,
    err: *mut *mut fby_error,
) -> fby_status {
    // SAFETY: the header asks for valid pointers or NULL, and for a valid struct.
    guard(err, || unsafe {
        let filter = read_or_zero(filter, "filter")?.filter()?;
        let page = self::dispatcher(dispatcher)?.list(&filter)?;
        fby_buffer::put_text(json, page.to_json(&filter), JSON);
        Ok(())
    })
}
