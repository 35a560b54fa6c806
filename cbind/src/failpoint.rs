//! Panics on demand, for tests of the boundary that no panic crosses. Only with the feature `failpoints`, which no
//! library that is shipped has: the list of exported symbols says so.

use std::cell::Cell;

thread_local! {
    static NEXT: Cell<bool> = const { Cell::new(false) };
}

/// Has the next call of this thread panic, or no longer. Answers whether one was to panic until now.
#[unsafe(no_mangle)]
pub extern "C" fn fby_failpoint(panic: bool) -> bool {
    NEXT.replace(panic)
}

/// Panics if that was asked for.
pub(crate) fn pass() {
    assert!(!NEXT.take(), "a failpoint");
}
