//! A bare log: a record is written behind the last one and the file is synced. Nothing can be durable with less.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;

use super::Store;

/// What precedes a record: its length and its place, as a log that can be read again needs.
const HEAD: usize = 16;

/// How the file gets its room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Room {
    /// With every write, so that every sync has to write down the new size as well.
    AsItGrows,
    /// 256 MiB of zeros beforehand, which are overwritten: nothing but the data is synced.
    Beforehand,
}

impl Room {
    const BEFOREHAND: usize = 256 << 20;

    fn make(self, file: &File) {
        if self == Room::Beforehand {
            let zeros = vec![0; 1 << 20];
            for start in (0..Self::BEFOREHAND).step_by(zeros.len()) {
                file.write_all_at(&zeros, start as u64).expect("there is room");
            }
        }
        file.sync_all().expect("the file is new");
    }
}

/// Where a group of records, each with its head, is written and synced.
pub(super) trait Sink: Send {
    /// Returns when they are on the disk.
    fn write(&mut self, records: &[u8]);
}

/// The file of a log, and where its next record goes.
pub(super) struct Tail {
    file: File,
    next: u64,
    room: Room,
}

impl Tail {
    pub(super) fn open(folder: &Path, room: Room) -> Self {
        let path = folder.join("records.log");
        let file = File::options().create_new(true).read(true).write(true).open(path);
        let file = file.expect("the folder is new");
        room.make(&file);
        Self { file, next: 0, room }
    }
}

impl Sink for Tail {
    fn write(&mut self, records: &[u8]) {
        self.file.write_all_at(records, self.next).expect("there is room");
        self.file.sync_data().expect("the disk works");
        self.next += records.len() as u64;
        if self.room == Room::Beforehand && self.next as usize > Room::BEFOREHAND - (16 << 20) {
            // A log of segments would take one that is done with.
            self.next = 0;
        }
    }
}

/// Puts a record with its head behind others.
pub(super) fn add(records: &mut Vec<u8>, record: &[u8]) {
    let place = records.len() as u64;
    records.extend_from_slice(&(record.len() as u64).to_le_bytes());
    records.extend_from_slice(&place.to_le_bytes());
    records.extend_from_slice(record);
}

/// The records behind their heads.
pub(super) fn each(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u64::from_le_bytes(*records.first_chunk()?) as usize;
        let (record, rest) = records[HEAD..].split_at(length);
        records = rest;
        Some(record)
    })
}

/// A log whose callers stand in line: each writes and syncs for itself.
pub struct Log(Mutex<(Tail, Vec<u8>)>);

impl Log {
    /// A new log in the folder.
    pub fn open(folder: &Path, room: Room) -> Self {
        Self(Mutex::new((
            Tail::open(folder, room),
            Vec::with_capacity(HEAD + 100),
        )))
    }
}

impl Store for Log {
    fn push(&self, record: &[u8]) {
        self.push_many(&[record]);
    }

    fn push_many(&self, records: &[&[u8]]) {
        let (tail, buffer) = &mut *self.0.lock();
        buffer.clear();
        for record in records {
            add(buffer, record);
        }
        tail.write(buffer);
    }
}
