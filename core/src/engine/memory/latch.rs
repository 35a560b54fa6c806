//! The engine's locks: those of parking_lot. In tests they are counted, because how many a job takes is an
//! exact measure of its way, whatever the machine.

#[cfg(not(test))]
pub(super) use parking_lot::{Mutex, MutexGuard};

#[cfg(test)]
pub(super) use counted::{Mutex, MutexGuard, taken};

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    use parking_lot::{RawMutex, lock_api};

    thread_local! {
        static TAKEN: Cell<u64> = const { Cell::new(0) };
    }

    pub(in super::super) type Mutex<T> = lock_api::Mutex<Counted, T>;
    pub(in super::super) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, Counted, T>;

    /// How many locks this thread has taken.
    pub(in super::super) fn taken() -> u64 {
        TAKEN.get()
    }

    /// parking_lot's lock, counted by the thread that takes it.
    pub(in super::super) struct Counted(RawMutex);

    // SAFETY: every call is passed on to a lock that keeps the promises.
    unsafe impl lock_api::RawMutex for Counted {
        // As in the lock itself: it is a value to start from, not one to share.
        #[allow(clippy::declare_interior_mutable_const)]
        const INIT: Self = Self(<RawMutex as lock_api::RawMutex>::INIT);
        type GuardMarker = <RawMutex as lock_api::RawMutex>::GuardMarker;

        fn lock(&self) {
            TAKEN.set(TAKEN.get() + 1);
            self.0.lock();
        }

        fn try_lock(&self) -> bool {
            TAKEN.set(TAKEN.get() + 1);
            self.0.try_lock()
        }

        unsafe fn unlock(&self) {
            // SAFETY: the caller holds the lock.
            unsafe { self.0.unlock() }
        }
    }
}
