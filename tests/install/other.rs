//! Another Rust library in the same program: a run time of its own, threads, and panics that it catches.

use std::panic::catch_unwind;
use std::thread;

/// How many of so many threads panicked and were caught: all of them.
#[unsafe(no_mangle)]
pub extern "C" fn other_panics(threads: u32) -> u32 {
    std::panic::set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..threads)
        .map(|number| thread::spawn(move || catch_unwind(|| panic!("number {number}")).is_err()))
        .collect();
    threads
        .into_iter()
        .map(|thread| u32::from(thread.join().unwrap_or(false)))
        .sum()
}
