//! The file that is the disk: it knows which sectors have been flushed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};

use crate::key::Dice;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How long the kernel may remember what the file is: for good.
const ALWAYS: Duration = Duration::from_secs(3600);

const DISK: INodeNo = INodeNo(2);

/// A disk of one file.
#[derive(Clone, Debug)]
pub struct Platter(Arc<Mutex<Sectors>>);

#[derive(Debug)]
struct Sectors {
    /// As the machine sees it.
    seen: Vec<u8>,
    /// What was flushed.
    flushed: Vec<u8>,
    /// What was written since, by the number of the sector.
    written: BTreeMap<usize, [u8; SECTOR]>,
}

impl Platter {
    /// The name of the file.
    pub const FILE: &'static str = "disk";

    /// A disk with this on it.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Sectors {
            seen: bytes.clone(),
            flushed: bytes,
            written: BTreeMap::new(),
        })))
    }

    /// Serves it as a file in the folder `at`, until the answer is dropped.
    pub fn serve(&self, at: &Path) -> std::io::Result<BackgroundSession> {
        fuser::spawn_mount(self.clone(), at, &Config::default())
    }

    /// What a power cut may leave now: what was flushed, and any of what was written since.
    pub fn image(&self, dice: &mut Dice) -> Vec<u8> {
        let sectors = self.sectors();
        let mut bytes = sectors.flushed.clone();
        // Nothing, everything, or anything between: each shows other mistakes.
        let luck = [0, 1, 4, 7, 8][dice.below(5) as usize];
        for (number, sector) in &sectors.written {
            if dice.below(8) < luck {
                bytes[number * SECTOR..][..SECTOR].copy_from_slice(sector);
            }
        }
        bytes
    }

    fn sectors(&self) -> MutexGuard<'_, Sectors> {
        self.0.lock().expect("nobody panics holding it")
    }

    fn attributes(&self, node: INodeNo) -> FileAttr {
        let size = self.sectors().seen.len() as u64;
        let file = node == DISK;
        FileAttr {
            ino: node,
            size: if file { size } else { 0 },
            blocks: size / SECTOR as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if file {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

impl Sectors {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let end = offset + bytes.len();
        if end > self.seen.len() {
            return false;
        }
        self.seen[offset..end].copy_from_slice(bytes);
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            let sector = &self.seen[number * SECTOR..][..SECTOR];
            self.written
                .insert(number, sector.try_into().expect("of this length"));
        }
        true
    }

    fn flush(&mut self) {
        for (number, sector) in std::mem::take(&mut self.written) {
            self.flushed[number * SECTOR..][..SECTOR].copy_from_slice(&sector);
        }
    }
}

impl Filesystem for Platter {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == Self::FILE {
            reply.entry(&ALWAYS, &self.attributes(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&ALWAYS, &self.attributes(node));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let sectors = self.sectors();
        let from = (offset as usize).min(sectors.seen.len());
        let to = (from + size as usize).min(sectors.seen.len());
        reply.data(&sectors.seen[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.sectors().write(offset as usize, bytes) {
            reply.written(bytes.len() as u32);
        } else {
            reply.error(Errno::ENOSPC);
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A file is closed; the disk is not asked for anything.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sectors().flush();
        reply.ok();
    }
}
