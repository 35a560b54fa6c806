//! A bare SQLite table: prepared statements, nothing else.

use std::path::Path;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::Store;
use super::log::{Sink, each};

/// A table of records in a file of its own; a push is a transaction.
pub struct Sqlite(Mutex<Table>);

impl Sqlite {
    /// A new file in the folder.
    pub fn open(folder: &Path) -> Self {
        Self(Mutex::new(Table::open(folder)))
    }
}

impl Store for Sqlite {
    fn push(&self, record: &[u8]) {
        self.0.lock().insert([record].into_iter());
    }

    fn push_many(&self, records: &[&[u8]]) {
        self.0.lock().insert(records.iter().copied());
    }
}

/// The table.
pub(super) struct Table(Connection);

impl Table {
    /// A new file in the folder, with the settings that are best for it among those that are durable.
    pub(super) fn open(folder: &Path) -> Self {
        let connection = Connection::open(folder.join("records.db")).expect("the folder is new");
        let settings = "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA locking_mode = EXCLUSIVE;
             CREATE TABLE records (row INTEGER PRIMARY KEY, record BLOB NOT NULL)";
        connection.execute_batch(settings).expect("the file is new");
        Self(connection)
    }

    fn insert<'a>(&mut self, records: impl Iterator<Item = &'a [u8]>) {
        let transaction = self.0.transaction().expect("no other is open");
        let mut insert = transaction
            .prepare_cached("INSERT INTO records (record) VALUES (?1)")
            .expect("the table is there");
        for record in records {
            insert.execute([record]).expect("there is room");
        }
        drop(insert);
        transaction.commit().expect("the disk works");
    }
}

impl Sink for Table {
    fn write(&mut self, records: &[u8]) {
        self.insert(each(records));
    }
}
