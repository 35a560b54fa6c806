//! Fetching memory before it is needed.
//!
//! The memory of the next push was last written by whoever finished the job that had it, mostly on another
//! core. Asked for in time, its cache lines arrive while the present push is still at work; asked for by the
//! write itself, each makes it wait for about a hundred nanoseconds.

/// Bytes per cache line.
const LINE: usize = 64;

/// Begins to fetch a value that is about to be written. A hint: it changes nothing, and does nothing where
/// the machine has no such instruction.
pub(crate) fn prefetch<T>(value: *const T) {
    let start = value.cast::<i8>();
    for offset in (0..size_of::<T>().next_multiple_of(LINE)).step_by(LINE) {
        fetch(start.wrapping_add(offset));
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn fetch(at: *const i8) {
    // The instruction that asks for the line to be written has no intrinsic that needs no processor feature;
    // processors without it take it for one that does nothing.
    // SAFETY: a prefetch reads nothing and cannot fault, whatever the address.
    unsafe { std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly)) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn fetch(_: *const i8) {}
