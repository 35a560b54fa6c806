//! Jobs in a SQL database: what every engine with one shares. Which tables there are is in [schema], how a
//! job is a row and back in [row].

pub(crate) mod lock;
pub(crate) mod row;
pub(crate) mod schema;
pub(crate) mod shared;
pub(crate) mod statements;

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};

/// An error of the database at `path`, as ours.
pub(crate) fn failure(error: &rusqlite::Error, path: &str) -> Error {
    let (kind, mend) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (ErrorKind::Full, "the disk is full; make room"),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Corrupt,
            "the file is damaged; look with `forebay check`, save what is left with `forebay salvage`",
        ),
        Some(ErrorCode::NotADatabase) => (ErrorKind::Corrupt, "the file is not a SQLite database"),
        Some(ErrorCode::CannotOpen) => (ErrorKind::Storage, "the file cannot be opened"),
        Some(ErrorCode::ReadOnly) => (ErrorKind::Storage, "the file or its directory is read-only"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Storage, "another program holds the file's lock")
        }
        Some(ErrorCode::OutOfMemory) => (ErrorKind::NoMemory, "memory could not be had"),
        _ => (ErrorKind::Storage, "the store failed"),
    };
    Error::new(kind, format!("{path:?}: {mend}")).caused_by(error.to_string())
}
