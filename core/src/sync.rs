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

/// Locks of a few instructions, which do not know of poison.
#[cfg(not(shuttle))]
pub(crate) mod quick {
    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
}

/// The same to explore.
#[cfg(shuttle)]
pub(crate) mod quick {
    pub(crate) use shuttle::sync::MutexGuard;
    use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            super::lock(&self.0)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(|poison| poison.into_inner())
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(|poison| poison.into_inner())
        }
    }
}
