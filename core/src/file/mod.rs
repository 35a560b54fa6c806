//! Files of jobs, looked at from outside: a database, or a dump.
//!
//! [`holder`] says who has a database open. [`inspect`] answers every question about a file without changing it,
//! whether a process has it open, has died with it, or is yet to open it. [`check`] looks for damage, [`salvage`]
//! saves what is left.

#[cfg(all(unix, feature = "sqlite"))]
mod check;
#[cfg(unix)]
mod holder;
#[cfg(all(unix, feature = "sqlite"))]
mod salvage;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::config::Options;
use crate::dispatcher::Dispatcher;
use crate::dump;
use crate::engine::Engine;
use crate::engine::still::Still;
use crate::engine::still::lines::Lines;
#[cfg(feature = "sqlite")]
use crate::engine::still::rows::Rows;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{Clock, SystemClock, Timestamp};

#[cfg(all(unix, feature = "sqlite"))]
pub use check::{CheckReport, check};
#[cfg(unix)]
pub use holder::{Holder, Owner, holder};
#[cfg(all(unix, feature = "sqlite"))]
pub use salvage::{SalvageReport, salvage};

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A SQLite database.
    Database,
    /// A dump.
    Dump,
}

impl Kind {
    /// What the file at `path` holds, by its first bytes.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `Storage` if it cannot be read, `Corrupt` if it is neither.
    pub fn of(path: &Path) -> Result<Self> {
        #[cfg(all(unix, feature = "sqlite"))]
        if crate::engine::sql::lock::is_open_here(path) {
            return Ok(Self::Database);
        }
        let mut first = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut first));
        read.map_err(|e| {
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Storage,
            };
            Error::new(kind, format!("cannot read {path:?}")).caused_by(e)
        })?;
        if first == b"SQLite format 3\0" {
            return Ok(Self::Database);
        }
        if first.starts_with(b"{\"forebay_dump\":") {
            return Ok(Self::Dump);
        }
        let text = format!("{path:?} is neither a database nor a dump of Forebay");
        Err(Error::new(ErrorKind::Corrupt, text))
    }
}

/// A dispatcher that shows the jobs of a file, and can change none: it answers what is asked, and refuses all
/// else as `Unsupported`. Of jobs that run now, a process that has the file open knows more than the file.
///
/// # Errors
/// As [`Kind::of`]; `Corrupt` for a damaged file, or one of another program; `FutureFormat`.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("forebay-doc-inspect-{}", std::process::id()));
/// let d = forebay::Dispatcher::in_memory()?;
/// d.push(forebay::NewJob::new("mail", b"hello"))?;
/// d.dump(&path)?;
/// let seen = forebay::file::inspect(&path)?;
/// assert_eq!(seen.stats()?.total().queued, 1);
/// assert_eq!(seen.pause("default").unwrap_err().kind(), forebay::ErrorKind::Unsupported);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), forebay::Error>(())
/// ```
pub fn inspect(path: &Path) -> Result<Dispatcher> {
    let engine: Arc<dyn Engine> = match Kind::of(path)? {
        Kind::Dump => {
            let (jobs, paused) = dump::look(path)?;
            Arc::new(Still::new(Lines::new(jobs, paused)))
        }
        #[cfg(feature = "sqlite")]
        Kind::Database => Arc::new(Still::new(Rows::open(path, at_rest(path))?)),
        #[cfg(not(feature = "sqlite"))]
        Kind::Database => {
            let text = "this build has no SQLite, so it cannot look at a database";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
    };
    Dispatcher::with_clock(engine, Options::default(), Arc::new(Looking))
}

/// Whether a database can be read as it lies there: nobody has it open, and all of it is in the file.
#[cfg(all(unix, feature = "sqlite"))]
fn at_rest(path: &Path) -> bool {
    let mut log = crate::real::real(path).into_os_string();
    log.push("-wal");
    let logged = fs::metadata(log).is_ok_and(|log| log.len() > 0);
    !logged && matches!(holder(path), Ok(Holder::Nobody))
}

#[cfg(all(not(unix), feature = "sqlite"))]
fn at_rest(_: &Path) -> bool {
    false
}

/// The system's clock for one to whom nothing is ever due, and who needs no thread to wait for it.
#[derive(Debug)]
struct Looking;

impl Clock for Looking {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn runs(&self) -> bool {
        false
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;
