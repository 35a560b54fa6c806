//! Whether this process is a fork of the one that opened a dispatcher.
//!
//! The child of a fork has none of the parent's threads, and locks may be held for ever. Nothing is
//! joined or freed there: every entry point answers [`ErrorKind::Forked`](crate::ErrorKind::Forked). The
//! test costs one load of a counter that the child's side of `pthread_atfork` moves.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, ErrorKind, Result};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// In which process something was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Birth(u32);

impl Birth {
    /// Here and now.
    pub(crate) fn here() -> Self {
        watch();
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this is still the process of birth.
    pub(crate) fn is_here(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }

    /// As an error for entry points.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forked,
            "the dispatcher was opened before the fork; open one in the child, or start children with spawn",
        ))
    }
}

#[cfg(unix)]
fn watch() {
    static WATCH: Once = Once::new();
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    WATCH.call_once(|| {
        // SAFETY: the handler only touches an atomic, which is async-signal-safe; registering cannot
        // fail but for memory, and then forks go unnoticed, as without this module.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

#[cfg(not(unix))]
fn watch() {
    let _ = Once::new();
}

/// Children for tests.
#[cfg(all(test, unix, not(shuttle)))]
pub(crate) mod testing {
    /// A child of a fork that sleeps, and has open whatever was open here. It is killed when this is dropped, and ends
    /// by itself after a minute.
    pub(crate) struct Child(libc::pid_t);

    impl Child {
        pub(crate) fn new() -> Self {
            // SAFETY: the child calls nothing but what is safe in one.
            match unsafe { libc::fork() } {
                // SAFETY: as above; `_exit` ends it without the destructors of the parent.
                0 => unsafe {
                    libc::alarm(60);
                    libc::pause();
                    libc::_exit(0)
                },
                pid => {
                    assert!(pid > 0, "no child can be had");
                    Self(pid)
                }
            }
        }

        /// Whether it has not ended.
        pub(crate) fn lives(&self) -> bool {
            // SAFETY: all zeros is a valid siginfo_t, and it may be written; the child is not reaped.
            unsafe {
                let mut ended: libc::siginfo_t = std::mem::zeroed();
                let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
                libc::waitid(libc::P_PID, self.0 as libc::id_t, &raw mut ended, how) == 0
                    && ended.si_pid() == 0
            }
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            // SAFETY: the child is ours, and nobody else waits for it.
            unsafe {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, std::ptr::null_mut(), 0);
            }
        }
    }
}
