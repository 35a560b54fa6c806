//! Connections to the file: the one that writes, and those that look.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};

use super::work::Step;
use crate::engine::sql::{failure, schema};
use crate::error::Result;

/// How long opening waits for other processes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Statements that a connection keeps prepared.
const PREPARED: usize = 64;
/// Connections that are kept to look with.
const READERS: usize = 4;

/// Opens the connection that writes, in a file that is made if it is not there, with the tables of today.
///
/// # Errors
/// As [`schema::migrate`].
pub(super) fn create(path: &Path, text: &str) -> Result<Connection> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Only to be there with its mode: payloads hold personal data. A file that is there is not opened by any
    // means but SQLite's, because closing it would take the locks away that SQLite has in this process.
    let _ = options.open(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(PATIENCE)?;
        db.set_prepared_statement_cache_capacity(PREPARED);
        Ok(db)
    };
    let mut db = open().map_err(|e| failure(&e, text))?;
    // Before the first change: a file of another program is left as it is.
    schema::check(&db, text)?;
    let prepare = |db: &Connection| -> rusqlite::Result<()> {
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;
             PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384;",
        )
    };
    prepare(&db).map_err(|e| failure(&e, text))?;
    schema::migrate(&mut db, text)?;
    Ok(db)
}

/// Connections that look, each used by one thread at a time.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::default(),
        }
    }

    /// Looks with a connection that nobody else uses meanwhile.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Connection) -> Step<T>) -> Step<T> {
        let idle = self.idle.lock().pop();
        let db = match idle {
            Some(db) => db,
            None => self.open()?,
        };
        let result = look(&db);
        let mut idle = self.idle.lock();
        if idle.len() < READERS && db.is_autocommit() {
            idle.push(db);
        }
        result
    }

    /// A new connection to look with.
    pub(super) fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(PATIENCE)?;
        db.set_prepared_statement_cache_capacity(PREPARED);
        db.execute_batch("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;")?;
        Ok(db)
    }
}
