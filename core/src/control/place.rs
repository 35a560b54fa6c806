//! Where the socket of a file is, also where its name is longer than a socket's may be.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::real::real;

/// The longest path of a socket: `sun_path` without the byte that ends it.
const MAX_PATH: usize = 107;

/// The path of the socket of the owner of `file`.
#[must_use]
pub fn socket_path(file: &Path) -> PathBuf {
    let mut path: OsString = real(file).into_os_string();
    path.push(".sock");
    path.into()
}

/// A socket's path in a form that is short enough, and what that form depends on.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _folder: Option<File>,
}

impl Place {
    /// The place of a socket. Where its path is too long, it is named through its open folder.
    ///
    /// # Errors
    /// `Unsupported` if it cannot be named at all; `NotFound` and `Storage` for its folder.
    pub(super) fn of(socket: &Path) -> Result<Self> {
        if socket.as_os_str().len() <= MAX_PATH {
            let path = socket.to_owned();
            return Ok(Self { path, _folder: None });
        }
        let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(too_long(socket));
        };
        let folder = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            })
            .map_err(|e| cannot("open the folder of", socket, e))?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        if !path.exists() || path.as_os_str().len() + 1 + name.as_bytes().len() > MAX_PATH {
            return Err(too_long(socket));
        }
        Ok(Self {
            path: path.join(name),
            _folder: Some(folder),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn too_long(socket: &Path) -> Error {
    let text = format!("the path {socket:?} is too long for a socket; move the file to a shorter path");
    Error::new(ErrorKind::Unsupported, text)
}

pub(super) fn cannot(what: &str, socket: &Path, e: io::Error) -> Error {
    let kind = match e.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Storage,
    };
    Error::new(kind, format!("cannot {what} the control socket {socket:?}")).caused_by(e)
}
