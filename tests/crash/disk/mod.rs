//! A disk that fails on demand: what SQLite writes in a folder goes through here.
//!
//! [`vfs`] puts itself between SQLite and the operating system for the whole process; files in a folder
//! that has a [`Disk`] are counted, failed or cut there, all others pass. The disk remembers for each file
//! what has been synced and what has merely been written, so that a power cut can be shown as an *image*: a
//! copy of the folder with all that was synced and any part of the rest, sector by sector.

mod pending;
mod vfs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::key::Dice;
use pending::Tracked;

/// What happens to a call of SQLite's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails with an I/O error, and those after it do what they should.
    Error,
    /// It fails with an I/O error, and so does every write after it.
    Broken,
    /// There is no room from this write on, until [`Disk::heal`].
    Full,
    /// The power goes: nothing of this call or any later one reaches the disk.
    Cut,
}

impl Fault {
    pub const ALL: [Fault; 4] = [Fault::Error, Fault::Broken, Fault::Full, Fault::Cut];
}

/// The calls that change something on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Write,
    Truncate,
    Sync,
    Delete,
}

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Passes,
    Fails,
    Full,
}

/// The disk under one folder.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Calls so far.
    calls: u64,
    /// The fault to come, and the call it comes at, from 1.
    plan: Option<(Fault, u64)>,
    /// The fault that goes on.
    present: Option<Fault>,
    /// How many calls have failed for it.
    fired: u64,
    files: BTreeMap<PathBuf, Tracked>,
}

impl Disk {
    /// Stands under `folder` from now on, until it is dropped.
    pub fn under(folder: &Path) -> Arc<Self> {
        vfs::install();
        let disk = Arc::new(Self {
            folder: folder.to_owned(),
            state: Mutex::default(),
        });
        disks().push(Arc::downgrade(&disk));
        disk
    }

    /// The disk under this file, if one was put there.
    fn of(file: &Path) -> Option<Arc<Self>> {
        let mut disks = disks();
        disks.retain(|disk| disk.strong_count() > 0);
        // A folder may have had another disk before, that somebody still holds.
        disks
            .iter()
            .rev()
            .filter_map(std::sync::Weak::upgrade)
            .find(|disk| file.parent() == Some(&disk.folder))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics holding it")
    }

    /// From the `at`-th call from now, `fault`.
    pub fn plan(&self, fault: Fault, at: u64) {
        let mut state = self.state();
        state.plan = Some((fault, state.calls + at));
    }

    /// All is well again.
    pub fn heal(&self) {
        let mut state = self.state();
        state.plan = None;
        state.present = None;
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many calls have failed.
    pub fn fired(&self) -> u64 {
        self.state().fired
    }

    /// Copies to `to` what a power cut may leave behind: of every file what was synced, and of what was
    /// written since, any sectors. What SQLite knows nothing of (a mapping, a reserve) has never been
    /// synced; any of its sectors may be there.
    pub fn image(&self, to: &Path, dice: &mut Dice) {
        std::fs::create_dir_all(to).expect("a folder for the image");
        let state = self.state();
        for entry in std::fs::read_dir(&self.folder).expect("the folder is ours") {
            let path = entry.expect("it can be read").path();
            let name = path.file_name().expect("an entry has a name");
            // SQLite's shared memory is not on the disk at all, nor is a socket.
            let is_there = path.is_file() && !name.to_string_lossy().ends_with("-shm");
            if state.files.contains_key(&path) || !is_there {
                continue;
            }
            let mut bytes = std::fs::read(&path).expect("it can be read");
            pending::forget_sectors(&mut bytes, dice);
            std::fs::write(to.join(name), bytes).expect("the folder is ours");
        }
        for (path, file) in &state.files {
            let name = path.file_name().expect("a file has a name");
            if let Some(bytes) = file.image(dice) {
                std::fs::write(to.join(name), bytes).expect("the folder is ours");
            }
        }
    }

    /// The same with nothing but what has been synced.
    pub fn synced_image(&self, to: &Path) {
        for (path, file) in &self.state().files {
            let name = path.file_name().expect("a file has a name");
            if let Some(bytes) = file.synced() {
                std::fs::write(to.join(name), bytes).expect("the folder is ours");
            }
        }
    }

    /// Decides the fate of a call, before it is made.
    fn fate(&self, call: Call) -> Fate {
        let mut state = self.state();
        state.calls += 1;
        let calls = state.calls;
        if let Some((fault, at)) = state.plan
            && calls >= at
        {
            // A disk is found full by what needs room.
            if fault == Fault::Full && call != Call::Write {
                return Fate::Passes;
            }
            state.plan = None;
            if fault == Fault::Error {
                state.fired += 1;
                return Fate::Fails;
            }
            state.present = Some(fault);
        }
        let fate = match (state.present, call) {
            (Some(Fault::Full), Call::Write) => Fate::Full,
            (Some(Fault::Broken | Fault::Cut), _) => Fate::Fails,
            _ => Fate::Passes,
        };
        state.fired += u64::from(fate != Fate::Passes);
        fate
    }

    /// Remembers what a call has done to a file.
    fn note(&self, file: &Path, note: impl FnOnce(&mut Tracked)) {
        note(self.state().files.entry(file.to_owned()).or_default());
    }

    /// A file was synced. SQLite syncs the folder too when it first syncs a journal that it has made, and
    /// with it every deletion before.
    fn synced(&self, file: &Path) {
        let mut state = self.state();
        let first = state.files.entry(file.to_owned()).or_default().sync();
        if first && file.extension().is_none_or(|it| it != "db") {
            state.files.retain(|_, file| !file.is_deleted());
        }
    }

    /// A file was deleted, and the folder synced if that was asked for.
    fn deleted(&self, file: &Path, synced: bool) {
        let mut state = self.state();
        if synced {
            state.files.remove(file);
        } else if let Some(file) = state.files.get_mut(file) {
            file.delete();
        }
    }

    /// A file is opened: what is in it before anything is written was synced long ago, unless it is new.
    fn opened(&self, file: &Path) {
        let bytes = std::fs::read(file).unwrap_or_default();
        let mut state = self.state();
        state
            .files
            .entry(file.to_owned())
            .or_insert_with(|| match bytes.len() {
                0 => Tracked::default(),
                _ => Tracked::stable(bytes),
            });
    }
}

type Disks = Vec<std::sync::Weak<Disk>>;

/// The disks of this process.
fn disks() -> MutexGuard<'static, Disks> {
    static DISKS: Mutex<Disks> = Mutex::new(Vec::new());
    DISKS.lock().expect("nobody panics holding it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::Folder;
    use rusqlite::Connection;

    /// One insert per transaction, at this synchronous level; how many were acknowledged.
    fn fill(folder: &Path, synchronous: &str, rows: u32) -> u32 {
        let db = Connection::open(folder.join("t.db")).expect("it opens");
        let begin = format!("PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};");
        let begun = db.execute_batch(&format!("{begin} CREATE TABLE IF NOT EXISTS t (x)"));
        if begun.is_err() {
            return 0;
        }
        (0..rows)
            .take_while(|n| db.execute("INSERT INTO t VALUES (?1)", [n]).is_ok())
            .count() as u32
    }

    /// The rows in an image, which must be whole.
    fn rows(folder: &Path) -> u32 {
        let db = Connection::open(folder.join("t.db")).expect("it opens");
        let whole: String = db
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("it is checked");
        assert_eq!(whole, "ok");
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap_or(0)
    }

    /// Power cuts at every call of a small fill; how many images had lost an acknowledged row.
    fn losses(synchronous: &str, seed: u64) -> u32 {
        let mut dice = Dice::new(seed);
        let mut lost = 0;
        for at in 1.. {
            let folder = Folder::new(&format!("disk-{synchronous}-{at}"));
            let disk = Disk::under(folder.path());
            disk.plan(Fault::Cut, at);
            let acked = fill(folder.path(), synchronous, 20);
            if disk.fired() == 0 {
                assert!(at > 20, "there are more calls in it than that");
                break;
            }
            let image = Folder::new(&format!("disk-{synchronous}-{at}-image"));
            disk.image(image.path(), &mut dice);
            lost += u32::from(rows(image.path()) < acked);
        }
        lost
    }

    /// The disk itself is held to what is known: SQLite at FULL keeps what it acknowledged, at NORMAL or OFF
    /// it need not. A disk that finds no loss there would find none anywhere.
    #[test]
    fn a_cut_takes_what_was_not_synced() {
        let seed = crate::key::seed();
        assert_eq!(losses("FULL", seed), 0);
        assert!(losses("NORMAL", seed) > 0);
    }

    #[test]
    fn each_fault_comes_when_it_is_due() {
        for (fault, code) in [
            (Fault::Error, rusqlite::ErrorCode::SystemIoFailure),
            (Fault::Broken, rusqlite::ErrorCode::SystemIoFailure),
            (Fault::Full, rusqlite::ErrorCode::DiskFull),
        ] {
            let folder = Folder::new(&format!("fault-{fault:?}"));
            let disk = Disk::under(folder.path());
            assert_eq!(fill(folder.path(), "FULL", 5), 5);
            let db = Connection::open(folder.file("t.db")).expect("it opens");
            db.execute("INSERT INTO t VALUES (1)", [])
                .expect("nothing is wrong yet");
            disk.plan(fault, 1);
            let error = db
                .execute("INSERT INTO t VALUES (2)", [])
                .expect_err("the disk fails");
            assert_eq!(error.sqlite_error_code(), Some(code), "{fault:?}");
            assert!(disk.fired() > 0);
            disk.heal();
            db.execute("INSERT INTO t VALUES (3)", [])
                .expect("the disk is well again");
        }
    }
}
