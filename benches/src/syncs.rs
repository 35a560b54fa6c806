//! How often this process has told the disk to write down what it was given.
//!
//! The two functions of the C library are replaced for the whole program, SQLite's calls included, by ones that
//! count and do the same. So every contender is counted in the same way and nothing has to watch from outside.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How many calls of `fsync` and `fdatasync` there were so far.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

fn counted(call: libc::c_long, file: c_int) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: both calls take a file descriptor, and any number is safe to give.
    let status = unsafe { libc::syscall(call, file) };
    c_int::try_from(status).expect("0 or -1")
}

/// In place of the C library's.
// SAFETY: it takes and returns what the C library's function of this name does, and does the same.
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    counted(libc::SYS_fsync, file)
}

/// In place of the C library's.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    counted(libc::SYS_fdatasync, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_of_the_standard_library_and_one_of_sqlite_are_counted() {
        let folder = crate::stores::Scratch::new(None);
        let file = std::fs::File::create(folder.path().join("file")).expect("a file");
        let before = syncs();
        file.sync_data().expect("it can be written");
        file.sync_all().expect("it can be written");
        assert!(syncs() >= before + 2);
        let before = syncs();
        let database = rusqlite::Connection::open(folder.path().join("db")).expect("a database");
        database.execute_batch("CREATE TABLE t (a)").expect("a table");
        assert!(syncs() > before);
    }
}
