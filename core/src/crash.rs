//! For tests of programs: places at which this process can be told to die, as `kill -9` would have it.
//!
//! They are in every build, as it is the build that a program uses whose promises are put to the test. One that
//! nobody has asked for costs a load per group that is written, and none per job.

use std::sync::atomic::{AtomicU32, Ordering};

/// A place at which the process can die while a file is written that it owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CrashPoint {
    /// A group of changes has been written, and its transaction is not committed.
    Writing,
    /// It is committed, and nobody has been told.
    Written,
}

/// How many more times each is passed, this one included; 0 is for ever.
static LEFT: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

impl CrashPoint {
    /// The point of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "writing" => Some(Self::Writing),
            "written" => Some(Self::Written),
            _ => None,
        }
    }
}

/// Has the process end by SIGKILL when it comes to this point for the `nth` time from now on, counted from 1; 0 takes
/// that back.
pub fn crash_at(point: CrashPoint, nth: u32) {
    LEFT[point as usize].store(nth, Ordering::SeqCst);
}

/// Dies here, if this is the time.
pub(crate) fn pass(point: CrashPoint) {
    let left = &LEFT[point as usize];
    if left.load(Ordering::Relaxed) == 0 {
        return;
    }
    // Never from 0 to the greatest number.
    let less = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if less == Ok(1) {
        die();
    }
}

fn die() -> ! {
    #[cfg(unix)]
    // SAFETY: both calls take numbers only.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_counted_down_and_then_let_be() {
        crash_at(CrashPoint::Writing, 3);
        pass(CrashPoint::Writing);
        pass(CrashPoint::Writing);
        assert_eq!(LEFT[0].load(Ordering::SeqCst), 1);
        crash_at(CrashPoint::Writing, 0);
        pass(CrashPoint::Writing);
        assert_eq!(LEFT[0].load(Ordering::SeqCst), 0);
    }
}
