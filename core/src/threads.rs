//! How Forebay starts a thread: named, and deaf to signals, which belong to the host's threads.

use std::thread::{Builder, JoinHandle};

use crate::error::{Error, ErrorKind, Result};

/// Starts a thread named `forebay-<role>`.
///
/// # Errors
/// `NoMemory` if the system refuses another thread.
pub(crate) fn spawn(role: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let run = move || {
        deafen();
        body();
    };
    Builder::new()
        .name(format!("forebay-{role}"))
        .spawn(run)
        .map_err(|e| {
            Error::new(ErrorKind::NoMemory, format!("cannot start thread forebay-{role}")).caused_by(e)
        })
}

/// Waits for the end of a thread, unless it is the one that asks: that one cannot wait for itself, and ends
/// by itself. A panic in it has been reported by the runtime.
pub(crate) fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() {
        let _ = thread.join();
    }
}

/// Blocks every signal in this thread, except those a fault of its own raises.
#[cfg(unix)]
fn deafen() {
    // SAFETY: both calls only read and write the local set and this thread's mask.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for fault in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
        ] {
            libc::sigdelset(&mut set, fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

#[cfg(not(unix))]
fn deafen() {}
