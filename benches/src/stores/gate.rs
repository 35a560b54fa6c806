//! A gate that opens once, for all who wait before it, with one call to the system.

use std::sync::atomic::{AtomicU32, Ordering};

const SHUT: u32 = 0;
const ONE_MAY: u32 = 1;
const OPEN: u32 = 2;

/// Shut until it is opened.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU32);

/// How one came through a gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Passed {
    /// It is open.
    Open,
    /// Alone, while it stays shut for the others.
    Alone,
}

impl Gate {
    /// Waits until it is open, or one may pass alone.
    pub(super) fn wait(&self) -> Passed {
        loop {
            match self.0.load(Ordering::Acquire) {
                OPEN => return Passed::Open,
                ONE_MAY => {
                    let taken = self
                        .0
                        .compare_exchange(ONE_MAY, SHUT, Ordering::Acquire, Ordering::Relaxed);
                    if taken.is_ok() {
                        return Passed::Alone;
                    }
                }
                state => self.call(libc::FUTEX_WAIT, state),
            }
        }
    }

    /// Lets everybody pass from now on.
    pub(super) fn open(&self) {
        self.0.store(OPEN, Ordering::Release);
        self.call(libc::FUTEX_WAKE, i32::MAX as u32);
    }

    /// Lets one pass alone.
    pub(super) fn let_one(&self) {
        self.0.store(ONE_MAY, Ordering::Release);
        self.call(libc::FUTEX_WAKE, 1);
    }

    fn call(&self, operation: libc::c_int, value: u32) {
        let no_timeout = std::ptr::null::<libc::timespec>();
        // SAFETY: the word is alive as long as `self` is borrowed. What the call answers (woken, in vain, no
        // longer this value) is all the same to callers that look at the word again.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                operation | libc::FUTEX_PRIVATE_FLAG,
                value,
                no_timeout,
            );
        }
    }
}
