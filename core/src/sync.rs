//! The primitives of the concurrency protocols: the real ones, or shuttle's when the protocols are
//! explored under random schedules (`RUSTFLAGS="--cfg shuttle"`).

#[cfg(not(shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};

/// Tells the processor that this thread waits for a write of another.
#[cfg(not(shuttle))]
pub(crate) use std::hint::spin_loop;
/// Lets another thread run that wants to.
#[cfg(not(shuttle))]
pub(crate) use std::thread::yield_now;

#[cfg(shuttle)]
pub(crate) use shuttle::{hint::spin_loop, thread::yield_now};

/// Locks, ignoring poison: the data under these locks is valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}
