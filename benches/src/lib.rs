//! What the benchmark programs share.
//!
//! A figure by itself mostly measures the neighbours of the machine, so everything here is about pairs: the
//! [contenders] do the same work, one after the other, round after round, each run in a fresh
//! process so that none inherits the heap or the threads of another, and they are compared by their medians.

pub mod arguments;
pub mod contenders;
pub mod figures;
pub mod measure;
pub mod overload;
pub mod round;
pub mod stores;
pub mod summary;
pub mod syncs;
pub mod tables;
pub mod tally;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator of this process, for the head of a table.
pub const fn allocator() -> &'static str {
    if cfg!(feature = "jemalloc") {
        "jemalloc"
    } else if cfg!(feature = "mimalloc") {
        "mimalloc"
    } else {
        "glibc"
    }
}
