//! What keeps records on a disk: the least that can be done, SQLite as it is, and Forebay.
//!
//! All of them do the same: when a push returns, its record survives a power cut.

mod forebay;
mod gate;
mod grouped;
mod log;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use self::forebay::{Forebay, url};
use ::forebay::Durability;
pub use grouped::{Follow, GroupLog, Writer};
pub use log::{Log, Room};
pub use sqlite::Sqlite;

/// Keeps records on a disk.
pub trait Store: Send + Sync {
    /// Returns when the record is on the disk. Any number of threads at once.
    fn push(&self, record: &[u8]);

    /// Returns when all of them are on the disk.
    fn push_many(&self, records: &[&[u8]]) {
        for record in records {
            self.push(record);
        }
    }
}

/// Opens the store of this name in a folder; `None` if there is none.
pub fn open(name: &str, folder: &Path) -> Option<Box<dyn Store>> {
    Some(match name {
        "append" => Box::new(Log::open(folder, Room::AsItGrows)),
        "overwrite" => Box::new(Log::open(folder, Room::Beforehand)),
        "group-append" => Box::new(GroupLog::<Writer>::open(folder, Room::AsItGrows)),
        "group-overwrite" => Box::new(GroupLog::<Writer>::open(folder, Room::Beforehand)),
        "follow-append" => Box::new(GroupLog::<Follow>::open(folder, Room::AsItGrows)),
        "follow-overwrite" => Box::new(GroupLog::<Follow>::open(folder, Room::Beforehand)),
        "group-sqlite" => Box::new(GroupLog::<Writer>::over_sqlite(folder)),
        "sqlite" => Box::new(Sqlite::open(folder)),
        "forebay" => Box::new(Forebay::open(&url(folder), Durability::Disk)),
        "forebay-os" => Box::new(Forebay::open(&url(folder), Durability::Os)),
        "forebay-memory" => Box::new(Forebay::open(&url(folder), Durability::Memory)),
        _ => return None,
    })
}

/// A folder on the disk that is measured, gone when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder in `place`, or else where cargo has its own output: a RAM disk would make every figure
    /// meaningless, and the temporary folder of many machines is one.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(place: Option<&str>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = place.map_or_else(beside_the_program, PathBuf::from);
        let path = place.join(format!("forebay-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made where cargo builds");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it would only cost room.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn beside_the_program() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.parent().expect("a program is in a folder").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 9] = [
        "append",
        "overwrite",
        "group-append",
        "group-overwrite",
        "follow-append",
        "follow-overwrite",
        "group-sqlite",
        "sqlite",
        "forebay",
    ];

    #[test]
    fn every_record_of_every_caller_is_in_the_files() {
        for name in NAMES {
            let folder = Scratch::new(None);
            let store = open(name, folder.path()).expect(name);
            std::thread::scope(|scope| {
                for caller in 0..4_u8 {
                    let store = &store;
                    scope.spawn(move || (0..8_u8).for_each(|n| store.push(&[b'#', caller, n, b'!', 0xF5])));
                }
            });
            store.push_many(&[b"#first!\xF5".as_slice(), b"#second!\xF5".as_slice()]);
            drop(store);
            let mut everything = Vec::new();
            for entry in std::fs::read_dir(folder.path()).expect("a folder") {
                everything.extend(std::fs::read(entry.expect("an entry").path()).expect("a file"));
            }
            let has = |wanted: &[u8]| everything.windows(wanted.len()).any(|found| found == wanted);
            for caller in 0..4 {
                assert!((0..8).all(|n| has(&[b'#', caller, n, b'!', 0xF5])), "{name}");
            }
            assert!(has(b"#first!\xF5") && has(b"#second!\xF5"), "{name}");
        }
    }

    #[test]
    fn a_push_syncs_once() {
        for name in ["append", "overwrite", "sqlite", "forebay"] {
            let folder = Scratch::new(None);
            let store = open(name, folder.path()).expect(name);
            store.push(b"the first one may do more");
            let before = crate::syncs::syncs();
            (0..8).for_each(|_| store.push(b"abc"));
            // Other tests of this process sync too.
            assert!(crate::syncs::syncs() >= before + 8, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_no_store() {
        assert!(open("abacus", Path::new("/")).is_none());
    }
}
