//! Which rows run now, in a file that is mapped into memory: a claim and an end cost a few writes to memory and
//! no system call, and what was written is there after `kill -9`, because the pages are the system's.
//!
//! The file is a header and a table of cells. A cell is found by its row: the first free one of a window that
//! starts at the row's place. A cell counts from the moment its row is in it, which is written last.
//!
//! After a power cut the pages may be from any time, so they are believed only on the same start of the
//! machine; and only together with the database they were written for, in the run they were written in. A job
//! that ran when the machine died runs again without a mark: that was not its doing.
//!
//! # Limit
//! The table has room for 65 536 running jobs. Those beyond run all the same, but a crash is not counted for
//! them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicI64, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};

use xxhash_rust::xxh3::xxh3_64;

use super::lock::{beside, boot, open_or_make};
use crate::engine::memory::journal::{Flight, Takeoff};
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

const CELLS: usize = 1 << 16;
/// How many cells a row may be in.
const WINDOW: usize = 64;
/// "FBFLIGHT", and the layout's number.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"FBFLIGH1");
/// A cell that is being filled.
const TAKEN: i64 = -1;

/// The first bytes of the file.
#[repr(C)]
struct Header {
    magic: AtomicU64,
    /// Of the start of the machine.
    boot: AtomicU64,
    /// Of the database.
    database: AtomicU64,
    /// Of the run.
    generation: AtomicU64,
    _rest: [AtomicU64; 4],
}

/// A running job.
#[repr(C)]
struct Cell {
    /// Its row; 0 for none.
    row: AtomicI64,
    fence: AtomicU64,
    started: AtomicI64,
    attempt: AtomicU32,
    max_attempts: AtomicU32,
}

#[repr(C)]
struct Layout {
    header: Header,
    cells: [Cell; CELLS],
}

/// How many bytes the file has.
pub(crate) const SIZE: u64 = size_of::<Layout>() as u64;

/// Where the table of the database at `path` is.
pub(crate) fn path(path: &Path) -> std::path::PathBuf {
    beside(path, "flight")
}

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Table {
    map: NonNull<Layout>,
}

// SAFETY: everything in the mapping is atomic, and it stays mapped until the table is dropped.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// Which run of which database a table belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) database: u64,
    pub(crate) generation: u64,
}

impl Table {
    /// Maps the table beside the database at `path`; makes it if there is none.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let beside = beside(path, "flight");
        let failed = |e| Error::new(ErrorKind::Storage, format!("{beside:?} cannot be mapped")).caused_by(e);
        let file = open_or_make(&beside).map_err(failed)?;
        let size = size_of::<Layout>() as u64;
        if file.metadata().map_err(failed)?.len() != size {
            // Not ours, or half made: nothing in it counts. Blocks are had now, because a page that finds no
            // room on the disk later would kill the process.
            file.set_len(0).map_err(failed)?;
            allocate(&file, size).map_err(failed)?;
        }
        Self::map(&file).map_err(failed)
    }

    fn map(file: &File) -> std::io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let size = size_of::<Layout>();
        // SAFETY: a fresh mapping of a file of this size, at a place of the system's choice.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(map.cast::<Layout>()) {
            Some(map) if map.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { map }),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    fn layout(&self) -> &Layout {
        // SAFETY: the mapping is of this size, aligned to a page, and any bytes are valid atomics.
        unsafe { self.map.as_ref() }
    }

    /// The rows that ran when this run ended, if it did on this start of the machine.
    pub(crate) fn survivors(&self, run: Run) -> Vec<(i64, Takeoff)> {
        let Layout { header, cells } = self.layout();
        let same = header.magic.load(Acquire) == MAGIC
            && header.boot.load(Relaxed) == boot_print()
            && header.database.load(Relaxed) == run.database
            && header.generation.load(Relaxed) == run.generation;
        if !same {
            return Vec::new();
        }
        let running = cells.iter().filter(|cell| cell.row.load(Acquire) > 0);
        running
            .map(|cell| {
                let takeoff = Takeoff {
                    fence: cell.fence.load(Relaxed),
                    attempt: cell.attempt.load(Relaxed),
                    max_attempts: cell.max_attempts.load(Relaxed),
                    started: Timestamp::from_micros(cell.started.load(Relaxed)),
                };
                (cell.row.load(Relaxed), takeoff)
            })
            .collect()
    }

    /// Begins a run: nothing runs.
    pub(crate) fn begin(&self, run: Run) {
        let Layout { header, cells } = self.layout();
        // Not believed while it is being emptied.
        header.magic.store(0, Release);
        cells
            .iter()
            .filter(|c| c.row.load(Relaxed) != 0 && !planted(Bug::FlightNotCleared))
            .for_each(|c| c.row.store(0, Release));
        header.boot.store(boot_print(), Relaxed);
        header.database.store(run.database, Relaxed);
        header.generation.store(run.generation, Relaxed);
        header.magic.store(MAGIC, Release);
    }

    /// The cells that a row may be in, from its place on.
    fn window(&self, row: i64) -> impl Iterator<Item = &Cell> {
        let cells = &self.layout().cells;
        let first = row as usize;
        (0..WINDOW).map(move |step| &cells[first.wrapping_add(step) % CELLS])
    }
}

impl Flight for Table {
    fn enter(&self, row: i64, takeoff: Takeoff) {
        let free = |cell: &&Cell| cell.row.compare_exchange(0, TAKEN, AcqRel, Relaxed).is_ok();
        if let Some(cell) = self.window(row).find(free) {
            cell.fence.store(takeoff.fence, Relaxed);
            cell.attempt.store(takeoff.attempt, Relaxed);
            cell.max_attempts.store(takeoff.max_attempts, Relaxed);
            cell.started.store(takeoff.started.as_micros(), Relaxed);
            cell.row.store(row, Release);
        }
    }

    fn leave(&self, row: i64) {
        if let Some(cell) = self.window(row).find(|cell| cell.row.load(Relaxed) == row) {
            cell.row.store(0, Release);
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: mapped with this size, and nobody has a reference any more.
        unsafe { libc::munmap(self.map.as_ptr().cast(), size_of::<Layout>()) };
    }
}

fn boot_print() -> u64 {
    xxh3_64(boot().as_bytes())
}

/// Gives the file this size, with blocks of the disk where the file system can.
fn allocate(file: &File, size: u64) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the descriptor is open; the call only reads its arguments.
        let done = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size as libc::off_t) };
        match done {
            0 => return Ok(()),
            libc::EOPNOTSUPP | libc::EINVAL => {}
            error => return Err(std::io::Error::from_raw_os_error(error)),
        }
    }
    file.set_len(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::durable::testing::Folder;

    const RUN: Run = Run {
        database: 7,
        generation: 3,
    };

    fn takeoff(n: u64) -> Takeoff {
        Takeoff {
            fence: n,
            attempt: n as u32,
            max_attempts: 5,
            started: Timestamp::from_micros(n as i64),
        }
    }

    #[test]
    fn what_ran_is_told_to_the_next_run_of_the_same_database() {
        let folder = Folder::new();
        let path = folder.path("jobs.db");
        let table = Table::open(&path).unwrap();
        assert!(table.survivors(RUN).is_empty(), "a new file tells nothing");
        table.begin(RUN);
        table.enter(5, takeoff(2));
        table.enter(5 + CELLS as i64, takeoff(3));
        table.enter(6, takeoff(4));
        table.leave(6);
        drop(table);
        let table = Table::open(&path).unwrap();
        let mut rows = table.survivors(RUN);
        rows.sort_unstable_by_key(|(row, _)| *row);
        assert_eq!(rows, [(5, takeoff(2)), (5 + CELLS as i64, takeoff(3))]);
        for other in [Run { database: 8, ..RUN }, Run { generation: 4, ..RUN }] {
            assert!(table.survivors(other).is_empty());
        }
        table.begin(Run { generation: 4, ..RUN });
        assert!(table.survivors(Run { generation: 4, ..RUN }).is_empty());
    }

    #[test]
    fn too_many_are_left_out_and_do_no_harm() {
        let folder = Folder::new();
        let table = Table::open(&folder.path("jobs.db")).unwrap();
        table.begin(RUN);
        let rows: Vec<i64> = (0..100).map(|n| 1 + n * CELLS as i64).collect();
        rows.iter().for_each(|row| table.enter(*row, takeoff(1)));
        assert_eq!(table.survivors(RUN).len(), WINDOW);
        rows.iter().for_each(|row| table.leave(*row));
        assert!(table.survivors(RUN).is_empty());
    }

    #[test]
    fn a_file_of_another_size_is_made_anew() {
        let folder = Folder::new();
        let path = folder.path("jobs.db");
        std::fs::write(beside(&path, "flight"), b"garbage").unwrap();
        assert!(Table::open(&path).unwrap().survivors(RUN).is_empty());
        let garbage = vec![0xa5; size_of::<Layout>()];
        std::fs::write(beside(&path, "flight"), garbage).unwrap();
        let table = Table::open(&path).unwrap();
        assert!(table.survivors(RUN).is_empty());
        table.begin(RUN);
        assert!(table.survivors(RUN).is_empty());
    }
}
