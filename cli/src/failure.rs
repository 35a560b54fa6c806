//! Why a command failed, and the exit code that says so.

use std::io;

use forebay::{Error, ErrorKind};

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong, or was refused.
    Error(Error),
    /// The arguments make no sense together.
    Usage(String),
    /// Whoever read the output has seen enough.
    Closed,
    /// The answer is no, and has been told already.
    Told(u8),
}

impl Failure {
    /// The job or queue is not there.
    pub(crate) const ABSENT: u8 = 1;
    /// The arguments make no sense.
    pub(crate) const USAGE: u8 = 2;
    /// The file or the store failed.
    pub(crate) const STORE: u8 = 3;
    /// The answer is no: in use, full, in the wrong state.
    pub(crate) const REFUSED: u8 = 4;

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Error(e) => code(e.kind()),
            Self::Usage(_) => Self::USAGE,
            Self::Closed => 0,
            Self::Told(code) => *code,
        }
    }
}

fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => Failure::ABSENT,
        ErrorKind::Storage
        | ErrorKind::Corrupt
        | ErrorKind::FutureFormat
        | ErrorKind::Unknown
        | ErrorKind::Encode
        | ErrorKind::NoMemory
        | ErrorKind::Panic => Failure::STORE,
        _ => Failure::REFUSED,
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::Error(Error::new(ErrorKind::Storage, "cannot write the output").caused_by(e))
    }
}

/// A file that is not there is a failure of the store: the exit code for what is not there is for jobs and
/// queues.
pub(crate) fn of_file(e: Error) -> Failure {
    match e.kind() {
        ErrorKind::NotFound => Failure::Error(Error::new(ErrorKind::Storage, e.to_string())),
        _ => Failure::Error(e),
    }
}
