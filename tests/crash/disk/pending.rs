//! What a disk holds of one file: what was synced, and what was written since.

use crate::key::Dice;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A change that has not been synced.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct Tracked {
    synced: Vec<u8>,
    changes: Vec<Change>,
    /// Whether it has ever been synced, and its name with it.
    known: bool,
    /// Whether it has been deleted, which nobody has synced.
    deleted: bool,
}

impl Tracked {
    /// A file that is on the disk with this content.
    pub fn stable(synced: Vec<u8>) -> Self {
        Self {
            synced,
            known: true,
            ..Self::default()
        }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.deleted = false;
        self.changes.push(Change::Write(offset, bytes.to_vec()));
    }

    pub fn truncate(&mut self, size: usize) {
        self.changes.push(Change::Truncate(size));
    }

    /// All that was written is on the disk. Whether it is for the first time.
    pub fn sync(&mut self) -> bool {
        for change in self.changes.drain(..) {
            match change {
                Change::Write(offset, bytes) => put(&mut self.synced, offset, &bytes),
                Change::Truncate(size) => self.synced.resize(size, 0),
            }
        }
        !std::mem::replace(&mut self.known, true)
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub fn delete(&mut self) {
        self.deleted = true;
    }

    /// What is on the disk for certain, if its name is.
    pub fn synced(&self) -> Option<&[u8]> {
        self.known.then_some(&self.synced)
    }

    /// What a power cut may leave of it; `None` if the file may be gone and is.
    pub fn image(&self, dice: &mut Dice) -> Option<Vec<u8>> {
        if (self.deleted || !self.known) && dice.one_in(2) {
            return None;
        }
        let mut bytes = self.synced.clone();
        // Nothing, everything, or anything between: each shows other mistakes.
        let luck = [0, 1, 4, 7, 8][dice.below(5) as usize];
        for change in &self.changes {
            match change {
                Change::Truncate(size) if dice.below(8) < luck => bytes.resize(*size, 0),
                Change::Truncate(_) => {}
                Change::Write(offset, written) => {
                    for (at, part) in sectors(*offset, written) {
                        if dice.below(8) < luck {
                            put(&mut bytes, at, part);
                        }
                    }
                }
            }
        }
        Some(bytes)
    }
}

/// A write, cut where sectors meet.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(bytes.len());
    let (head, tail) = bytes.split_at(first);
    std::iter::once((offset, head)).chain(
        tail.chunks(SECTOR)
            .enumerate()
            .map(move |(n, part)| (offset + first + n * SECTOR, part)),
    )
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

/// A file that nobody ever synced: any of its sectors may still be as empty as when it was made.
pub fn forget_sectors(bytes: &mut [u8], dice: &mut Dice) {
    let luck = [0, 4, 8, 8][dice.below(4) as usize];
    for sector in bytes.chunks_mut(SECTOR) {
        if dice.below(8) >= luck {
            sector.fill(0);
        }
    }
}

#[test]
fn sectors_meet_where_they_should() {
    let bytes = [7; 1300];
    let parts: Vec<_> = sectors(500, &bytes).map(|(at, part)| (at, part.len())).collect();
    assert_eq!(parts, [(500, 12), (512, 512), (1024, 512), (1536, 264)]);
    assert_eq!(sectors(512, &bytes[..24]).count(), 1);
}

#[test]
fn what_was_synced_stays() {
    let mut dice = Dice::new(1);
    let mut file = Tracked::default();
    file.write(0, &[1; 2000]);
    file.sync();
    file.write(600, &[2; 10]);
    for _ in 0..100 {
        let image = file.image(&mut dice).expect("nobody deleted it");
        assert_eq!((image.len(), image[0], image[1999]), (2000, 1, 1));
        assert!(image[600] == 1 || image[600] == 2);
    }
}
