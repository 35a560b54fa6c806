//! The lock file beside a database: who has the jobs.
//!
//! It is a file of its own, because SQLite's locks vanish as soon as anything in the process opens and closes
//! the database file; and the lock belongs to the open file (`F_OFD_SETLK`), not to the process, so that the
//! same process cannot take it twice and closing some other descriptor does not let go of it. It ends with the
//! process, however that ends.
//!
//! Each of those who share a database also has a *seat*: a byte of the file that only it has locked, so that
//! anybody can tell at any time whether it still lives.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Birth;
use crate::real::real;
use crate::time::Deadline;

/// How the jobs are had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// By this process alone.
    Alone,
    /// By any number of processes.
    Shared,
}

/// The lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    birth: Birth,
}

/// The databases that this process has open, as often as it has.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Whether this process has the database at `path` open. Then nobody here may open the file but through SQLite:
/// closing it again would take SQLite's own locks away.
pub(crate) fn is_open_here(path: &Path) -> bool {
    OPEN.lock().contains(&real(path))
}

impl Lock {
    /// Takes the lock that belongs to the database at `path`.
    ///
    /// # Errors
    /// `AlreadyOpen` with the process that has it; `Storage`, also for a database with two names.
    pub(crate) fn take(path: &Path, hold: Hold) -> Result<Self> {
        let beside = beside(path, "lock");
        let failed = |e| Error::new(ErrorKind::Storage, format!("{beside:?} cannot be locked")).caused_by(e);
        let mut file = lock_file(&beside)?;
        if let Err(error) = try_lock(&file, OWNER, hold) {
            return Err(match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EACCES) => in_use(path, &mut file),
                _ => failed(error),
            });
        }
        one_name(path)?;
        match hold {
            Hold::Alone => sign(&mut file).map_err(failed)?,
            // The last owner is one no more.
            Hold::Shared => file.set_len(0).map_err(failed)?,
        }
        let path = real(path);
        OPEN.lock().push(path.clone());
        Ok(Self {
            file,
            path,
            birth: Birth::here(),
        })
    }

    /// How many seats there are.
    pub(crate) const SEATS: u32 = 128;

    /// Takes the first free seat. `None` if there is none, or if this system cannot tell one open file from
    /// another.
    pub(crate) fn sit(&self) -> Option<u32> {
        let free = |seat: &u32| try_lock(&self.file, FIRST_SEAT + i64::from(*seat), Hold::Alone).is_ok();
        (0..Self::SEATS).find(|seat| OF_FILES && free(seat))
    }

    /// Whether somebody else has this seat.
    pub(crate) fn is_taken(&self, seat: u32) -> bool {
        let mut range = range(FIRST_SEAT + i64::from(seat), Hold::Alone);
        // SAFETY: the descriptor is open, and the range, which the kernel writes, lives through the call.
        let asked = unsafe { libc::fcntl(self.file.as_raw_fd(), GET_LOCK, &raw mut range) };
        OF_FILES && asked == 0 && libc::c_int::from(range.l_type) != libc::F_UNLCK
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.birth.is_here() {
            // The lock is the parent's: it belongs to the open file, which parent and child have in common.
            return;
        }
        let mut open = OPEN.lock();
        if let Some(place) = open.iter().position(|path| *path == self.path) {
            open.swap_remove(place);
        }
        drop(open);
        let mut whole = range(OWNER, Hold::Alone);
        whole.l_len = 0;
        unlock(&self.file, whole);
    }
}

/// Runs `body` while none of the others who come to share the database at `path` runs theirs, in any process; waits
/// for that. Where locks are the process's, two of one process may do so at once.
///
/// # Errors
/// Those of `body`; `Storage`, also if another one takes longer than [`PATIENCE`].
pub(crate) fn one_by_one<T>(path: &Path, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = lock_file(&beside(path, "lock"))?;
    let result = behind_the_door(path, &file, body);
    if !OF_FILES {
        // To close it would let go of whatever this process has locked in the file.
        std::mem::forget(file);
    }
    result
}

fn behind_the_door<T>(path: &Path, file: &File, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let deadline = Deadline::after(PATIENCE);
    while let Err(e) = try_lock(file, DOOR, Hold::Alone) {
        let busy = matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR));
        if !busy || deadline.passed() {
            let text =
                format!("{path:?} cannot be opened: another process is still opening it; end that one");
            return Err(Error::new(ErrorKind::Storage, text).caused_by(e));
        }
        // Nobody can be woken by another process's lock without a thread that waits for it.
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let result = body();
    unlock(file, range(DOOR, Hold::Alone));
    result
}

/// How long one who comes waits for those who came before. One of them may have to read all jobs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lock file.
fn lock_file(path: &Path) -> Result<File> {
    open_or_make(path).map_err(|e| cannot_open(path, e))
}

/// The byte that says how the database is had.
const OWNER: i64 = 0;
/// The byte that whoever comes to share the database has meanwhile.
const DOOR: i64 = FIRST_SEAT - 1;
/// The byte of the first seat, far behind the text.
const FIRST_SEAT: i64 = 1 << 20;

/// The path of a file that belongs to the database at `path`.
pub(crate) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// Opens a file to read and to write, or makes it, empty, for its owner alone: payloads hold personal data.
pub(crate) fn open_or_make(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

/// The error of a file that could be neither opened nor made.
pub(crate) fn cannot_open(path: &Path, error: std::io::Error) -> Error {
    let text = format!("{path:?} cannot be opened; its directory must exist and be writable");
    Error::new(ErrorKind::Storage, text).caused_by(error)
}

/// Identifies this start of the machine.
pub(crate) fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Refuses a file with a second name: by each it would have a lock and a log of its own.
fn one_name(path: &Path) -> Result<()> {
    let names = match std::fs::metadata(path) {
        Ok(there) if there.is_file() => there.nlink(),
        _ => 1,
    };
    if names < 2 {
        return Ok(());
    }
    let text = format!(
        "{path:?} has {names} names (hard links), and could be opened by each at once; remove all but one"
    );
    Err(Error::new(ErrorKind::Storage, text))
}

fn sign(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{} {}", std::process::id(), boot())
}

fn read_owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(200).read_to_string(&mut text).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn in_use(path: &Path, file: &mut File) -> Error {
    let who = match read_owner(file) {
        Some(pid) if pid == std::process::id() => "this process".to_owned(),
        Some(pid) => format!("process {pid}"),
        None => "other processes, which share it".to_owned(),
    };
    let text = format!(
        "{path:?} is in use by {who}; stop that one, or open it with shared=true in every process that needs it"
    );
    Error::new(ErrorKind::AlreadyOpen, text)
}

/// One byte of the file.
fn range(byte: i64, hold: Hold) -> libc::flock {
    // SAFETY: all zeros is a valid flock: it names the rest of the file from its start, for nobody.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = match hold {
        Hold::Alone => libc::F_WRLCK as _,
        Hold::Shared => libc::F_RDLCK as _,
    };
    range.l_whence = libc::SEEK_SET as _;
    range.l_start = byte as _;
    range.l_len = 1;
    range
}

/// Locks a byte.
fn try_lock(file: &File, byte: i64, hold: Hold) -> std::io::Result<()> {
    let range = range(byte, hold);
    // SAFETY: the descriptor is open and the range is valid for the time of the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), SET_LOCK, &raw const range) };
    if done == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Lets go of a range at once, whoever else has the open file: a child that was forked just now, and has not yet begun
/// its own program.
fn unlock(file: &File, mut range: libc::flock) {
    range.l_type = libc::F_UNLCK as _;
    // SAFETY: the descriptor is open and the range is valid for the time of the call. It cannot fail.
    unsafe { libc::fcntl(file.as_raw_fd(), SET_LOCK, &raw const range) };
}

/// Whether locks belong to open files.
const OF_FILES: bool = cfg!(any(target_os = "linux", target_os = "android"));
#[cfg(any(target_os = "linux", target_os = "android"))]
const SET_LOCK: libc::c_int = libc::F_OFD_SETLK;
#[cfg(any(target_os = "linux", target_os = "android"))]
const GET_LOCK: libc::c_int = libc::F_OFD_GETLK;
/// Elsewhere the lock is the process's: a second open in it is not noticed.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SET_LOCK: libc::c_int = libc::F_SETLK;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const GET_LOCK: libc::c_int = libc::F_GETLK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_or_many_sharers() {
        let folder = crate::engine::durable::testing::Folder::new();
        let path = folder.path("jobs.db");
        let first = Lock::take(&path, Hold::Alone).unwrap();
        for hold in [Hold::Alone, Hold::Shared] {
            let error = Lock::take(&path, hold).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
            assert!(error.to_string().contains("this process"), "{error}");
        }
        drop(first);
        let sharers = [Hold::Shared; 2].map(|hold| Lock::take(&path, hold).unwrap());
        assert_eq!(
            Lock::take(&path, Hold::Alone).unwrap_err().kind(),
            ErrorKind::AlreadyOpen
        );
        drop(sharers);
        Lock::take(&path, Hold::Alone).unwrap();
    }

    #[test]
    fn a_file_with_two_names_is_refused() {
        let folder = crate::engine::durable::testing::Folder::new();
        let (path, other) = (folder.path("jobs.db"), folder.path("other.db"));
        std::fs::write(&path, "").unwrap();
        std::fs::hard_link(&path, &other).unwrap();
        for hold in [Hold::Alone, Hold::Shared] {
            let error = Lock::take(&other, hold).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Storage);
            assert!(error.to_string().contains("2 names"), "{error}");
        }
        std::fs::remove_file(other).unwrap();
        Lock::take(&path, Hold::Alone).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_seat_is_free_when_its_holder_is_gone() {
        let folder = crate::engine::durable::testing::Folder::new();
        let path = folder.path("jobs.db");
        let [one, two] = [Hold::Shared; 2].map(|hold| Lock::take(&path, hold).unwrap());
        assert_eq!((one.sit(), two.sit()), (Some(0), Some(1)));
        assert_eq!((two.is_taken(0), two.is_taken(2)), (true, false));
        drop(one);
        assert!(!two.is_taken(0));
        assert_eq!(Lock::take(&path, Hold::Shared).unwrap().sit(), Some(0));
    }
}
