//! Where groups of changes go: a small trait, and SQLite behind it. A simulated store takes its place in tests.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::lock::{beside, cannot_open, open_or_make};
use crate::crash::{self, CrashPoint};
use crate::durability::Durability;
use crate::engine::memory::journal::Change;
use crate::engine::sql::row::columns;
use crate::engine::sql::{failure, row, schema, shared};
use crate::error::{Error, ErrorKind, Result};
use crate::job::Job;
use crate::planted::{Bug, planted};

/// Takes groups of changes, each whole or not at all.
pub(crate) trait Store: Send {
    /// Writes the changes and the pauses in one transaction. When it returns, they survive what `level` says.
    fn write(&mut self, changes: &[&Change], pauses: &[Pause], level: Durability) -> Result<(), Fault>;

    /// Makes everything written before survive a power cut.
    fn sync(&mut self) -> Result<(), Fault>;

    /// Calls `each` for the jobs of these rows, in this order.
    fn read(&mut self, rows: &[i64], each: &mut dyn FnMut(i64, Job) -> Result<()>) -> Result<(), Fault>;

    /// Nothing has come for a while: puts the house in order.
    fn rest(&mut self) -> Result<(), Fault>;

    /// Gives back the space that was kept for this moment; false if there was none.
    fn give_up_reserve(&mut self) -> bool;

    /// Keeps space for the next time the disk is full.
    fn restore_reserve(&mut self);

    /// Writes that the run ended well, and closes.
    fn close(&mut self) -> Result<(), Fault>;
}

/// A queue that was paused or resumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pause {
    pub(crate) queue: std::sync::Arc<str>,
    pub(crate) paused: bool,
}

/// Why a group is not written.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The disk is full; nothing of the group was written.
    Full(Error),
    /// Somebody else has the file; nothing of the group was written, and it may be tried again.
    Busy(Error),
    /// The store failed. Whether the group was written shows only when it is opened again.
    Broken(Error),
}

/// A row that stays where it is found: the same statement adds a job and changes it.
const PUT: &str = concat!(
    "INSERT OR REPLACE INTO jobs (",
    columns!(),
    ", spilled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
     ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);
const READ: &str = concat!("SELECT ", columns!(), " FROM jobs WHERE row = ?");
const REMOVE: &str = "DELETE FROM jobs WHERE row = ?";
const PAUSE: &str = "INSERT OR REPLACE INTO queues (name, paused) VALUES (?, ?)";
/// The smallest write there is. SQLite syncs no commit that changes no page, and what is written over itself
/// changes none: so it counts.
const TOUCH: &str = "INSERT INTO meta (name, value) VALUES ('touched', '1') \
                     ON CONFLICT (name) DO UPDATE SET value = value + 1";
/// The same as it was once: nothing is changed by the second.
const TOUCH_ONCE: &str = "INSERT OR REPLACE INTO meta (name, value) VALUES ('touched', '')";
pub(super) const SET: &str = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)";

/// The length of the header of a SQLite database.
const HEADER: u64 = 100;
/// How much space is kept for ends of jobs on a full disk.
const RESERVE: usize = 1 << 20;
/// Pages in the log before SQLite moves them into the file, within a commit: 4 MiB.
const CHECKPOINT_PAGES: u32 = 1000;
/// Bytes of the log that are kept when it is empty.
const LOG_KEPT: u32 = 16 << 20;

/// The database of one owner.
#[derive(Debug)]
pub(crate) struct Sqlite {
    db: Option<Connection>,
    path: PathBuf,
    name: String,
    /// Which file it is: one that was deleted or moved away takes writes without a word.
    file: (u64, u64),
    /// What the connection is set to; syncs cost, so groups for which nobody waits do without.
    level: Option<Durability>,
    /// Whether the log has pages that are not in the file.
    logged: bool,
}

impl Sqlite {
    /// Opens or makes the database at `path`.
    ///
    /// # Errors
    /// `Corrupt`, `FutureFormat`; of the store.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        make_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags);
        let mut db = opened.map_err(|e| failure(&e, &name))?;
        // Before anything is set: the file of another program, or of a newer version, stays as it is.
        schema::check(&db, &name)?;
        set_up(&db).map_err(|e| failure(&e, &name))?;
        schema::migrate(&mut db, &name)?;
        // Nobody shares it any more: this process has the lock.
        shared::own(&mut db).map_err(|e| failure(&e, &name))?;
        Ok(Self {
            db: Some(db),
            path: path.to_owned(),
            name,
            file: identity(path)?,
            level: None,
            logged: true,
        })
    }

    /// The connection, for the recovery.
    ///
    /// # Errors
    /// `Closed`.
    pub(super) fn db(&mut self) -> Result<&mut Connection> {
        let closed = || Error::new(ErrorKind::Closed, "the database is closed");
        self.db.as_mut().ok_or_else(closed)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn check_file(&self) -> Result<()> {
        if identity(&self.path)? == self.file {
            return Ok(());
        }
        let text = format!(
            "{:?} is not the file any more that was opened: another took its place",
            self.path
        );
        Err(Error::new(ErrorKind::Storage, text))
    }

    fn transact(
        &mut self,
        level: Durability,
        write: impl FnOnce(&Connection) -> rusqlite::Result<(), Error2>,
    ) -> Result<(), Fault> {
        let name = self.name.clone();
        let fault = |e: rusqlite::Error| fault(&e, &name);
        self.check_file().map_err(Fault::Broken)?;
        if self.level != Some(level) {
            let mode = if level == Durability::Disk && !planted(Bug::NormalForFull) {
                "FULL"
            } else {
                "NORMAL"
            };
            let db = self.db().map_err(Fault::Broken)?;
            db.pragma_update(None, "synchronous", mode).map_err(fault)?;
            self.level = Some(level);
        }
        self.logged = true;
        let db = self.db().map_err(Fault::Broken)?;
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fault)?;
        match write(&transaction) {
            Ok(()) => {
                crash::pass(CrashPoint::Writing);
                transaction.commit().map_err(fault)
            }
            Err(Error2::Sql(e)) => Err(fault(e)),
            Err(Error2::Own(e)) => Err(of_row(e)),
        }
    }
}

/// An error of SQLite or one of a row.
pub(super) enum Error2 {
    Sql(rusqlite::Error),
    Own(Error),
}

impl From<rusqlite::Error> for Error2 {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sql(e)
    }
}

impl From<Error> for Error2 {
    fn from(e: Error) -> Self {
        Self::Own(e)
    }
}

impl Store for Sqlite {
    fn write(&mut self, changes: &[&Change], pauses: &[Pause], level: Durability) -> Result<(), Fault> {
        self.transact(level, |db| {
            let (mut put, mut remove) = (db.prepare_cached(PUT)?, db.prepare_cached(REMOVE)?);
            for change in changes {
                match change {
                    Change::Put(change) => {
                        row::bind(&mut put, change.row, &change.job, row::Holder::default())?;
                        put.raw_bind_parameter(34, change.spill.then_some(true))?;
                        put.raw_execute()?;
                    }
                    Change::Remove { row, .. } => {
                        remove.execute([row])?;
                    }
                }
            }
            let mut pause = db.prepare_cached(PAUSE)?;
            for queue in pauses {
                pause.execute((&*queue.queue, queue.paused))?;
            }
            // A new row is a page; anything else may say what the file said already.
            if level == Durability::Disk && !changes.iter().any(|change| change.is_new()) {
                touch(db)?;
            }
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.transact(Durability::Disk, |db| {
            touch(db)?;
            Ok(())
        })
    }

    fn read(&mut self, rows: &[i64], each: &mut dyn FnMut(i64, Job) -> Result<()>) -> Result<(), Fault> {
        let name = self.name.clone();
        let fault = |e: rusqlite::Error| fault(&e, &name);
        let db = self.db().map_err(Fault::Broken)?;
        let (mut statement, mut texts) = (db.prepare_cached(READ).map_err(fault)?, row::Texts::default());
        for row in rows {
            let mut found = statement.query([row]).map_err(fault)?;
            while let Some(found) = found.next().map_err(fault)? {
                let (row, job) = row::read(found, &mut texts).map_err(Fault::Broken)?;
                each(row, job).map_err(Fault::Broken)?;
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), Fault> {
        if !std::mem::take(&mut self.logged) {
            return Ok(());
        }
        let name = self.name.clone();
        let db = self.db().map_err(Fault::Broken)?;
        // What readers still need stays in the log; that is no fault.
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|e| fault(&e, &name))
    }

    fn give_up_reserve(&mut self) -> bool {
        if planted(Bug::ReserveKept) {
            return false;
        }
        fs::remove_file(beside(&self.path, "reserve")).is_ok()
    }

    fn restore_reserve(&mut self) {
        let path = beside(&self.path, "reserve");
        if path.exists() {
            return;
        }
        let made = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        // Without room for it the engine works on, and has less to give back the next time.
        let kept = made.and_then(|mut file| file.write_all(&vec![0xfb; RESERVE]));
        if kept.is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    fn close(&mut self) -> Result<(), Fault> {
        if self.db.is_none() {
            return Ok(());
        }
        let marked = self.transact(Durability::Disk, |db| {
            db.execute(SET, ("clean", "1"))?;
            Ok(())
        });
        let name = self.name.clone();
        let Some(db) = self.db.take() else { return marked };
        let closed = db
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|e| fault(&e, &name));
        let _ = db.close();
        marked.and(closed)
    }
}

/// Writes something that was not there, for a commit that is to be synced.
fn touch(db: &Connection) -> rusqlite::Result<()> {
    let text = if planted(Bug::SilentSync) {
        TOUCH_ONCE
    } else {
        TOUCH
    };
    db.prepare_cached(text)?.execute([]).map(drop)
}

/// What the connection needs, before anything is read.
fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_secs(1))?;
    db.set_prepared_statement_cache_capacity(32);
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -65_536)?;
    db.query_row(
        &format!("PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}"),
        [],
        |_| Ok(()),
    )?;
    db.query_row(&format!("PRAGMA journal_size_limit = {LOG_KEPT}"), [], |_| Ok(()))
}

/// Makes an empty file that only its owner can read, if there is none: SQLite gives the files beside it the
/// same rights.
fn make_private(path: &Path) -> Result<()> {
    let found = fs::metadata(path).ok();
    if found.as_ref().is_some_and(|found| !found.is_file()) {
        let text = format!("{path:?} is not a file; give the path of a file, or of none yet");
        return Err(Error::invalid(text));
    }
    // SQLite takes what is shorter than its header for an empty database, and writes over it.
    if found.is_some_and(|found| (1..HEADER).contains(&found.len())) {
        let text = format!("{path:?} is not a SQLite database; give a path of its own to Forebay");
        return Err(Error::new(ErrorKind::Corrupt, text));
    }
    open_or_make(path).map(drop).map_err(|e| cannot_open(path, e))
}

/// The device and the number of a file.
fn identity(path: &Path) -> Result<(u64, u64)> {
    let found = fs::metadata(path).map_err(|e| {
        let text = format!("{path:?} is gone: it was deleted or moved while it was open");
        Error::new(ErrorKind::Storage, text).caused_by(e)
    })?;
    Ok((found.dev(), found.ino()))
}

fn fault(error: &rusqlite::Error, name: &str) -> Fault {
    let ours = failure(error, name);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Full(ours),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Busy(ours),
        _ => Fault::Broken(ours),
    }
}

fn of_row(error: Error) -> Fault {
    Fault::Broken(error)
}
