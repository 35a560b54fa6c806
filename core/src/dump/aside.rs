//! A file that is written aside, and put in the place of another one when it is whole.
//!
//! Each has a name of its own, `<path>.new.<process>.<number>`: two dumps never write to one file, and nothing
//! that is there already is followed or reused. It is locked while it is written, so that one which is found
//! unlocked was left by a process that died. (A process id alone would not tell: another may have it by now,
//! and two containers that share a folder may both be process 1.)

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// A file being written. It is removed again if it is dropped before it is put in place.
#[derive(Debug)]
pub(super) struct Aside<'p> {
    path: &'p Path,
    aside: PathBuf,
    file: File,
}

impl<'p> Aside<'p> {
    /// What comes between the name of a file and the numbers of one aside.
    const MARK: &'static str = ".new.";
    /// How many names are tried: leftovers of a process that had the same id may have the first ones.
    const TRIES: usize = 1000;

    /// A new file for what will be in the place of `path`, which only the owner may read: payloads hold
    /// personal data.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) fn create(path: &'p Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        for _ in 0..Self::TRIES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let aside = beside(path, &format!("{}{}.{number}", Self::MARK, std::process::id()));
            match options.open(&aside) {
                Ok(file) if is_ours(&file, &aside) => return Ok(Self { path, aside, file }),
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(cannot("create", path, e)),
                _ => {}
            }
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(cannot("create", path, taken))
    }

    /// The file, to be written.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| cannot("sync", self.path, e))
    }

    /// Puts it in place. To be followed by [`sync_folder`].
    ///
    /// # Errors
    /// `Storage`; what was in place is untouched.
    pub(super) fn put_in_place(self) -> Result<()> {
        fs::rename(&self.aside, self.path).map_err(|e| cannot("rename", self.path, e))
    }

    /// Removes what processes left that died while they wrote. What cannot be removed is in nobody's way.
    pub(super) fn remove_leftovers(path: &Path) {
        let Some(name) = path.file_name() else { return };
        for entry in fs::read_dir(folder(path)).into_iter().flatten().flatten() {
            let left = entry.file_name();
            let numbers = left.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
            let numbers = numbers.and_then(|rest| rest.strip_prefix(Self::MARK.as_bytes()));
            if numbers.is_some_and(are_numbers) && is_abandoned(&entry) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        // Once it is in place there is nothing of that name any more, and never will be again.
        let _ = fs::remove_file(&self.aside);
    }
}

/// This path with more behind its last name.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// Locks a new file. False if someone who looks for leftovers came between: that one is lost.
fn is_ours(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => false,
        // Where there are no locks nobody takes it for a leftover.
        Ok(()) | Err(TryLockError::Error(_)) => path.symlink_metadata().is_ok(),
    }
}

/// Whether nobody writes to the file any more. A link or a pipe of that name is none of ours.
fn is_abandoned(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file())
        && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
}

/// Whether this is `<process>.<number>`.
fn are_numbers(text: &[u8]) -> bool {
    let mut parts = text.split(|b| *b == b'.');
    let mut number = || {
        parts
            .next()
            .is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit))
    };
    number() && number() && parts.next().is_none()
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes what has been put in place survive a power cut.
///
/// # Errors
/// `Storage`.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(folder(path)).and_then(|f| f.sync_all()).map_err(|e| {
        let path = path.display();
        let text = format!(
            "the dump {path} is whole and in place, but its folder cannot be synced: a power cut may bring \
             the former one back"
        );
        Error::new(ErrorKind::Storage, text).caused_by(e)
    })
}

fn cannot(what: &str, path: &Path, e: io::Error) -> Error {
    let text = format!("cannot {what} the dump {}", path.display());
    Error::new(ErrorKind::Storage, text).caused_by(e)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::tests::Folder;
    use super::*;
    use std::io::Write;

    fn names(folder: &Folder) -> Vec<String> {
        let entries = fs::read_dir(&folder.0).expect("the folder is there").flatten();
        let mut names: Vec<String> = entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn two_at_once_do_not_meet() {
        let folder = Folder::new();
        let path = folder.file();
        let (one, two) = (Aside::create(&path).unwrap(), Aside::create(&path).unwrap());
        one.file().write_all(b"one").unwrap();
        two.file().write_all(b"two").unwrap();
        two.put_in_place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        one.put_in_place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        drop(Aside::create(&path).unwrap());
        assert_eq!(names(&folder), ["jobs.dump"], "nothing is left aside");
    }

    #[test]
    #[cfg(unix)]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new();
        let path = folder.file();
        fs::write(&path, "for all to read").unwrap();
        Aside::create(&path).unwrap().put_in_place().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_there_already_is_not_used() {
        let folder = Folder::new();
        let path = folder.file();
        // The names that would come next.
        let aside = Aside::create(&path).unwrap().aside.clone();
        let (stem, number) = aside.to_str().unwrap().rsplit_once('.').unwrap();
        let number: u64 = number.parse().unwrap();
        let taken = |n| PathBuf::from(format!("{stem}.{}", number + n));
        let victim = folder.0.join("victim");
        fs::write(&victim, "precious").unwrap();
        for n in 1..20 {
            #[cfg(unix)]
            std::os::unix::fs::symlink(&victim, taken(n)).unwrap();
            #[cfg(not(unix))]
            fs::write(taken(n), "other").unwrap();
        }
        let new = Aside::create(&path).unwrap();
        new.file().write_all(b"new").unwrap();
        new.put_in_place().unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_cannot_be_synced_is_told_truly() {
        let folder = Folder::new();
        sync_folder(&folder.file()).unwrap();
        sync_folder(Path::new("here")).unwrap();
        let error = sync_folder(&folder.0.join("gone").join("jobs.dump")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.to_string().contains("in place"), "{error}");
    }

    #[test]
    fn leftovers_go_and_others_stay() {
        let folder = Folder::new();
        let path = folder.file();
        let living = Aside::create(&path).unwrap();
        for name in ["jobs.dump.new.1.0", "jobs.dump.new.4194304.17"] {
            fs::write(folder.0.join(name), "left").unwrap();
        }
        let others = [
            "jobs.dump",
            "jobs.dump.new",
            "jobs.dump.new.1",
            "jobs.dump.new.1.x",
            "jobs.dump.new.1.2.3",
            "other.dump.new.1.0",
        ];
        for name in others {
            fs::write(folder.0.join(name), "other").unwrap();
        }
        fs::create_dir(folder.0.join("jobs.dump.new.2.0")).unwrap();
        Aside::remove_leftovers(&path);
        let mut stay: Vec<String> = others.map(String::from).into();
        stay.push("jobs.dump.new.2.0".into());
        stay.push(living.aside.file_name().unwrap().to_str().unwrap().into());
        stay.sort_unstable();
        assert_eq!(names(&folder), stay);
    }
}
