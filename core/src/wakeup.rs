//! A descriptor that an event loop waits for: readable when its owner should look, and quiet otherwise.
//!
//! The owner *rearms*: takes the readability away, says that it wants to hear of the next thing, and then looks
//! once more. Whoever makes something true *rings* afterwards, and the descriptor is written to only if its owner
//! has rearmed since the last ring: one write per time that it finds nothing, however many rings there are, and
//! no system call on either side while it is busy. Either the ringer sees that it is armed, or the owner's look
//! sees what was made true.
//!
//! An eventfd on Linux, a pair of sockets elsewhere. Non-blocking, and closed when another program is started.

use std::sync::OnceLock;

use crate::error::Result;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// The descriptor and whether a ring has to write to it. Any thread.
#[derive(Debug)]
pub(crate) struct Wakeup {
    line: Line,
    armed: AtomicBool,
}

impl Wakeup {
    /// One that is readable, so that its owner looks first.
    ///
    /// # Errors
    /// `NoMemory` if the process may have no more descriptors; `Unsupported` where there are none.
    pub(crate) fn new() -> Result<Self> {
        let wakeup = Self {
            line: Line::new()?,
            armed: AtomicBool::new(false),
        };
        wakeup.line.raise();
        Ok(wakeup)
    }

    /// Makes it readable, if it is not. Call it after what its owner will look for has become true.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            self.line.raise();
        }
    }

    /// Makes it readable, and says so once more if it is: for what its owner looks for without rearming.
    pub(crate) fn insist(&self) {
        self.line.raise();
    }

    /// Makes it unreadable without rearming: its owner is up, and looks.
    pub(crate) fn hush(&self) {
        self.line.lower();
    }

    /// Makes it readable by the next ring only. Look after this; it may be readable for nothing, if a ring that
    /// was meant for a former look is late.
    pub(crate) fn rearm(&self) {
        self.line.lower();
        self.armed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// What to wait for. It lives as long as this.
    #[cfg(all(unix, not(shuttle)))]
    pub(crate) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.line.fd()
    }

    /// Waits until it is readable, as an event loop does.
    #[cfg(all(test, shuttle))]
    pub(crate) fn wait(&self) {
        self.line.wait();
    }
}

/// One that is made when somebody asks for its descriptor; until then there is nobody to wake. Any thread.
#[derive(Debug, Default)]
pub(crate) struct LateWakeup(OnceLock<Wakeup>);

impl LateWakeup {
    /// The descriptor, which is made if there is none.
    ///
    /// # Errors
    /// As [`Wakeup::new`].
    pub(crate) fn get(&self) -> Result<&Wakeup> {
        match self.0.get() {
            Some(wakeup) => Ok(wakeup),
            None => {
                let made = Wakeup::new()?;
                Ok(self.0.get_or_init(|| made))
            }
        }
    }

    /// Makes the descriptor readable, if there is one.
    pub(crate) fn ring(&self) {
        if let Some(wakeup) = self.0.get() {
            wakeup.ring();
        }
    }

    /// Makes the descriptor readable by the next ring only. False if there is none; else look again.
    pub(crate) fn rearm(&self) -> bool {
        self.0.get().map(Wakeup::rearm).is_some()
    }
}

#[cfg(all(target_os = "linux", not(shuttle)))]
use eventfd::Line;
#[cfg(shuttle)]
use model::Line;
#[cfg(all(not(unix), not(shuttle)))]
use none::Line;
#[cfg(all(unix, not(target_os = "linux"), not(shuttle)))]
use pair::Line;

#[cfg(all(target_os = "linux", not(shuttle)))]
mod eventfd {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

    use crate::error::{Error, ErrorKind, Result};

    /// A counter of the kernel's: readable while it is not zero.
    #[derive(Debug)]
    pub(super) struct Line(File);

    impl Line {
        pub(super) fn new() -> Result<Self> {
            // SAFETY: it takes no pointers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if fd < 0 {
                let text = "cannot make a descriptor to wait for; raise the limit of open files";
                return Err(Error::new(ErrorKind::NoMemory, text).caused_by(std::io::Error::last_os_error()));
            }
            // SAFETY: it was made just now, and is nobody else's.
            Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }.into()))
        }

        pub(super) fn raise(&self) {
            // It only fails when the counter is as high as can be, and then it is readable.
            let _ = (&self.0).write(&1u64.to_ne_bytes());
        }

        pub(super) fn lower(&self) {
            // It fails when there is nothing to take away.
            let _ = (&self.0).read(&mut [0; 8]);
        }

        pub(super) fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(all(unix, not(target_os = "linux"), not(shuttle)))]
mod pair {
    use std::io::{ErrorKind as Io, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    use crate::error::{Error, ErrorKind, Result};

    /// Two sockets: the one is readable while there are bytes in it that were written to the other.
    #[derive(Debug)]
    pub(super) struct Line {
        near: UnixStream,
        far: UnixStream,
    }

    impl Line {
        pub(super) fn new() -> Result<Self> {
            let made = UnixStream::pair().and_then(|(near, far)| {
                near.set_nonblocking(true)?;
                far.set_nonblocking(true)?;
                Ok(Self { near, far })
            });
            made.map_err(|e| {
                let text = "cannot make a descriptor to wait for; raise the limit of open files";
                Error::new(ErrorKind::NoMemory, text).caused_by(e)
            })
        }

        pub(super) fn raise(&self) {
            // It only fails when no more fits in, and then it is readable.
            while (&self.far)
                .write(&[1])
                .is_err_and(|e| e.kind() == Io::Interrupted)
            {}
        }

        pub(super) fn lower(&self) {
            let mut bytes = [0; 64];
            loop {
                match (&self.near).read(&mut bytes) {
                    Ok(64) => {}
                    Err(e) if e.kind() == Io::Interrupted => {}
                    _ => return,
                }
            }
        }

        pub(super) fn fd(&self) -> BorrowedFd<'_> {
            self.near.as_fd()
        }
    }
}

#[cfg(all(not(unix), not(shuttle)))]
mod none {
    use crate::error::{Error, ErrorKind, Result};

    /// There is none here.
    #[derive(Debug)]
    pub(super) enum Line {}

    impl Line {
        pub(super) fn new() -> Result<Self> {
            let text = "there are no descriptors to wait for on this system; wait in the call instead";
            Err(Error::new(ErrorKind::Unsupported, text))
        }

        pub(super) fn raise(&self) {
            match *self {}
        }

        pub(super) fn lower(&self) {
            match *self {}
        }
    }
}

#[cfg(shuttle)]
mod model {
    use crate::error::Result;
    use crate::sync::{Condvar, Mutex, lock};

    /// The counter of the kernel, as a flag that can be waited for.
    #[derive(Debug, Default)]
    pub(super) struct Line {
        readable: Mutex<bool>,
        raised: Condvar,
    }

    impl Line {
        pub(super) fn new() -> Result<Self> {
            Ok(Self::default())
        }

        pub(super) fn raise(&self) {
            *lock(&self.readable) = true;
            self.raised.notify_all();
        }

        pub(super) fn lower(&self) {
            *lock(&self.readable) = false;
        }

        #[cfg(test)]
        pub(super) fn wait(&self) {
            let mut readable = lock(&self.readable);
            while !*readable {
                readable = self.raised.wait(readable).unwrap_or_else(|p| p.into_inner());
            }
        }
    }
}

/// Whether something can be read from a descriptor now.
#[cfg(all(any(test, feature = "conformance"), unix, not(shuttle)))]
pub(crate) fn readable(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    wait_readable(fd, crate::Deadline::after(std::time::Duration::ZERO))
}

/// Waits until something can be read from a descriptor; false if the deadline passed first.
#[cfg(all(any(test, feature = "conformance"), unix, not(shuttle)))]
pub(crate) fn wait_readable(fd: std::os::fd::BorrowedFd<'_>, deadline: crate::Deadline) -> bool {
    use std::os::fd::AsRawFd;
    let mut asked = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let ms = deadline.left().map_or(-1, |left| left.as_millis() as libc::c_int);
    // SAFETY: it is one valid pollfd.
    unsafe { libc::poll(&raw mut asked, 1, ms) == 1 }
}

#[cfg(all(test, unix, not(shuttle)))]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn it_is_readable_from_the_start_and_after_a_ring() {
        let wakeup = Wakeup::new().unwrap();
        assert!(readable(wakeup.fd()), "so that its owner looks first");
        wakeup.rearm();
        assert!(!readable(wakeup.fd()));
        wakeup.ring();
        assert!(
            readable(wakeup.fd()) && readable(wakeup.fd()),
            "until it is armed again"
        );
    }

    /// Only the first ring writes, so one read takes all of them away.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_ring_writes_only_if_it_is_armed() {
        let wakeup = Wakeup::new().unwrap();
        wakeup.rearm();
        for _ in 0..3 {
            wakeup.ring();
        }
        let mut counter = [0; 8];
        // SAFETY: the descriptor is open, and there is room for what is read.
        let got = unsafe { libc::read(wakeup.fd().as_raw_fd(), counter.as_mut_ptr().cast(), 8) };
        assert_eq!((got, u64::from_ne_bytes(counter)), (8, 1));
    }

    /// An edge for every time, or a loop that hears edges only would miss what it did not rearm for.
    #[cfg(target_os = "linux")]
    #[test]
    fn who_insists_is_heard_without_a_rearm() {
        let wakeup = Wakeup::new().unwrap();
        wakeup.rearm();
        for _ in 0..3 {
            wakeup.insist();
        }
        let mut counter = [0; 8];
        // SAFETY: the descriptor is open, and there is room for what is read.
        let got = unsafe { libc::read(wakeup.fd().as_raw_fd(), counter.as_mut_ptr().cast(), 8) };
        assert_eq!((got, u64::from_ne_bytes(counter)), (8, 3));
    }

    #[test]
    fn it_never_blocks_and_is_not_inherited() {
        let wakeup = Wakeup::new().unwrap();
        let fd = wakeup.fd().as_raw_fd();
        // SAFETY: both calls only ask for flags of an open descriptor.
        let (status, own) = unsafe { (libc::fcntl(fd, libc::F_GETFL), libc::fcntl(fd, libc::F_GETFD)) };
        assert!(status & libc::O_NONBLOCK != 0 && own & libc::FD_CLOEXEC != 0);
        (0..3).for_each(|_| wakeup.rearm());
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    use super::*;
    use shuttle::sync::Arc;
    use shuttle::sync::atomic::AtomicUsize;

    fn take(items: &AtomicUsize) -> bool {
        let less = |n: usize| n.checked_sub(1);
        items
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
    }

    /// Three items from two threads to one who waits for the descriptor: every schedule ends, so no ring is lost.
    fn three_items() {
        let (wakeup, items) = (Arc::new(Wakeup::new().unwrap()), Arc::new(AtomicUsize::new(0)));
        let ringers: Vec<_> = [1, 2]
            .map(|count| {
                let (wakeup, items) = (wakeup.clone(), items.clone());
                shuttle::thread::spawn(move || {
                    for _ in 0..count {
                        items.fetch_add(1, Ordering::SeqCst);
                        wakeup.ring();
                    }
                })
            })
            .into();
        let mut left = 3;
        while left > 0 {
            wakeup.wait();
            if take(&items) {
                left -= 1;
                continue;
            }
            wakeup.rearm();
            if take(&items) {
                left -= 1;
                wakeup.ring();
            }
        }
        for ringer in ringers {
            ringer.join().unwrap();
        }
    }

    #[test]
    fn no_ring_of_a_descriptor_is_lost() {
        shuttle::check_random(three_items, 5_000);
        shuttle::check_pct(three_items, 5_000, 3);
    }
}
