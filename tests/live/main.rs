//! The dispatcher over the engine in memory with everything real: worker threads, the upkeep thread, the
//! system's clock, files. What needs no threads of its own is a case of the engine suite.

// Helpers of a test fail as the test does: by a panic.
#![allow(clippy::unwrap_used)]

mod dump;
mod idle;
mod inside;
mod stage;
mod stop;
mod time;
mod work;
