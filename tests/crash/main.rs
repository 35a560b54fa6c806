//! Crashes: what is promised to survive them, and whether it does.
//!
//! A *driver* process pushes and runs jobs and tells each step through a pipe; the *checker* lives in the
//! process that started it, kills it, breaks its disk, and compares what was told with what a last life
//! finds in the store. `docs/reliability.md` says which harness shows what.

mod disk;
mod driver;
mod dumps;
mod faults;
mod fences;
mod files;
mod forward;
mod histories;
mod key;
mod kill;
mod ledger;
mod life;
mod mounts;
mod plan;
mod planted;
mod poison;
mod power;
mod promises;
mod report;
mod syscalls;
