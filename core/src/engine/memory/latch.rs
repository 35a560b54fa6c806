//! The engine's locks: those of parking_lot. In tests they are counted, because how many a job takes is an
//! exact measure of its way, whatever the machine; and where random schedules are explored, another thread may
//! run wherever one is taken.

#[cfg(not(any(test, shuttle)))]
pub(super) use parking_lot::{Mutex, MutexGuard};

#[cfg(all(test, not(shuttle)))]
pub(super) use counted::{Mutex, MutexGuard, taken};

#[cfg(shuttle)]
pub(super) use explored::{Mutex, MutexGuard};

#[cfg(shuttle)]
mod explored {
    use parking_lot::lock_api;
    use shuttle::sync::atomic::{AtomicBool, Ordering::SeqCst};

    pub(in super::super) type Mutex<T> = lock_api::Mutex<Explored, T>;
    pub(in super::super) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, Explored, T>;

    /// Whether somebody has the lock.
    pub(in super::super) struct Explored(AtomicBool);

    // SAFETY: of two swaps one finds that it was set.
    unsafe impl lock_api::RawMutex for Explored {
        // A value to start from, not one to share.
        #[allow(clippy::declare_interior_mutable_const)]
        const INIT: Self = Self(AtomicBool::new(false));
        type GuardMarker = lock_api::GuardNoSend;

        fn lock(&self) {
            while !self.try_lock() {
                shuttle::thread::yield_now();
            }
        }

        fn try_lock(&self) -> bool {
            !self.0.swap(true, SeqCst)
        }

        unsafe fn unlock(&self) {
            self.0.store(false, SeqCst);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
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
