//! Who has a database open, by its lock file, without taking the lock for even a moment.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::real::real;

/// Who has a database open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Holder {
    /// No process.
    Nobody,
    /// One process, which owns it.
    One(Owner),
    /// Processes that share it.
    Many,
}

/// The process that owns a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Owner {
    /// Its number, if it wrote it down; a child that it forked may have taken its place.
    pub pid: Option<u32>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// Who has the database at `path` open now.
///
/// # Errors
/// `Storage` if the lock file is there and cannot be looked at.
pub fn holder(path: &Path) -> Result<Holder> {
    let mut lock = real(path).into_os_string();
    lock.push(".lock");
    let failed = |e| {
        let text = format!("cannot look at {}", Path::new(&lock).display());
        Error::new(ErrorKind::Storage, text).caused_by(e)
    };
    let mut file = match File::open(&lock) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        file => file.map_err(failed)?,
    };
    match conflicting(&file).map_err(failed)? {
        libc::F_UNLCK => Ok(Holder::Nobody),
        libc::F_RDLCK => Ok(Holder::Many),
        _ => Ok(Holder::One(Owner {
            pid: signed(&mut file),
        })),
    }
}

/// What lock another holds on the byte by which a database is owned or shared.
fn conflicting(file: &File) -> io::Result<libc::c_int> {
    // SAFETY: all zeros is a valid flock: it names the first byte from the start of the file.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as _;
    range.l_whence = libc::SEEK_SET as _;
    range.l_len = 1;
    // SAFETY: the descriptor is open, and the range may be written for the time of the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), GET_LOCK, &raw mut range) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(range.l_type.into())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const GET_LOCK: libc::c_int = libc::F_OFD_GETLK;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const GET_LOCK: libc::c_int = libc::F_GETLK;

/// The process that the owner wrote down.
fn signed(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(200).read_to_string(&mut text).ok()?;
    text.split_whitespace().find_map(|word| word.parse().ok())
}
