//! SQLite's file system, with a [`Disk`] in the way.
//!
//! It is registered as the process's default, so that the engine under test opens its files as it always
//! does; a file in a folder without a disk only pays a call. Memory mapping is not offered (version 2 of
//! the methods), so every byte comes through here.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rusqlite::ffi;

use super::{Call, Disk, Fate};

/// The system's own file system.
static REAL: OnceLock<Real> = OnceLock::new();

struct Real(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite's own file system is made for any thread, and stays for the life of the process.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

/// Puts this file system in front of the system's, once.
pub fn install() {
    REAL.get_or_init(|| {
        // SAFETY: a null name asks for the default; SQLite initialises itself first.
        let real = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
        assert!(!real.is_null(), "SQLite has a file system");
        // SAFETY: it is valid for the life of the process; its fields are copied.
        let mut ours = unsafe { *real };
        ours.zName = c"forebay-disk".as_ptr();
        ours.szOsFile += size_of::<File>() as c_int;
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        let ours = Box::leak(Box::new(ours));
        // SAFETY: it is valid for the life of the process.
        let code = unsafe { ffi::sqlite3_vfs_register(ours, 1) };
        assert_eq!(code, ffi::SQLITE_OK, "it can be registered");
        Real(real)
    });
}

fn real() -> *mut ffi::sqlite3_vfs {
    REAL.get().expect("nothing is opened before it is installed").0
}

/// One open file, as SQLite allocates it: this, and behind it the system's own.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    under: *mut Under,
}

/// What stands behind an open file.
struct Under {
    disk: Option<Arc<Disk>>,
    path: PathBuf,
}

impl File {
    /// The system's file behind ours.
    fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
        // SAFETY: SQLite allocated `szOsFile` bytes, ours first.
        unsafe { file.cast::<u8>().add(size_of::<File>()).cast() }
    }

    fn under<'a>(file: *mut ffi::sqlite3_file) -> &'a Under {
        // SAFETY: SQLite calls methods between open and close only, and the box lives as long.
        unsafe { &*(*file.cast::<File>()).under }
    }

    /// What is to become of a call on it.
    fn fate(file: *mut ffi::sqlite3_file, call: Call) -> Fate {
        let under = Self::under(file);
        under.disk.as_ref().map_or(Fate::Passes, |disk| disk.fate(call))
    }

    /// Makes a call unless the disk fails it with `error`, and notes what it did.
    fn guarded(
        file: *mut ffi::sqlite3_file,
        call: Call,
        error: c_int,
        make: impl FnOnce(&ffi::sqlite3_io_methods, *mut ffi::sqlite3_file) -> c_int,
        note: impl FnOnce(&Disk, &Path),
    ) -> c_int {
        match Self::fate(file, call) {
            Fate::Fails => return error,
            Fate::Full => return ffi::SQLITE_FULL,
            Fate::Passes => {}
        }
        let code = with(file, make);
        let under = Self::under(file);
        if let Some(disk) = under.disk.as_ref().filter(|_| code == ffi::SQLITE_OK) {
            note(disk, &under.path);
        }
        code
    }
}

/// Calls the system's file.
fn with(
    file: *mut ffi::sqlite3_file,
    make: impl FnOnce(&ffi::sqlite3_io_methods, *mut ffi::sqlite3_file) -> c_int,
) -> c_int {
    let real = File::real(file);
    // SAFETY: the system's open has succeeded and set its methods.
    make(unsafe { &*(*real).pMethods }, real)
}

const ABSENT: &str = "the system's file system has every method of version 2";

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for `szOsFile` bytes.
    unsafe { (*file).pMethods = std::ptr::null() };
    let path = if name.is_null() {
        PathBuf::new()
    } else {
        path_of(name)
    };
    // SAFETY: the arguments are SQLite's own, the file is the part that belongs to the system's.
    let code = unsafe { (*real()).xOpen.expect(ABSENT)(real(), name, File::real(file), flags, out) };
    if code != ffi::SQLITE_OK {
        return code;
    }
    let disk = Disk::of(&path);
    if let Some(disk) = &disk {
        disk.opened(&path);
    }
    let ours = file.cast::<File>();
    // SAFETY: as above; the box is freed by close.
    unsafe {
        (*ours).under = Box::into_raw(Box::new(Under { disk, path }));
        (*file).pMethods = &METHODS;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let path = path_of(name);
    let disk = Disk::of(&path);
    match disk.as_ref().map_or(Fate::Passes, |disk| disk.fate(Call::Delete)) {
        Fate::Passes => {}
        _ => return ffi::SQLITE_IOERR_DELETE,
    }
    // SAFETY: the arguments are SQLite's own.
    let code = unsafe { (*real()).xDelete.expect(ABSENT)(real(), name, sync) };
    if let Some(disk) = disk.filter(|_| code == ffi::SQLITE_OK) {
        disk.deleted(&path, sync != 0);
    }
    code
}

fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: SQLite's names are strings that end in a zero.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes())).to_owned()
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let code = with(file, |m, f| {
        // SAFETY: SQLite closes a file once.
        unsafe { m.xClose.expect(ABSENT)(f) }
    });
    // SAFETY: open made the box, and nothing is called on the file any more.
    drop(unsafe { Box::from_raw((*file.cast::<File>()).under) });
    code
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    File::guarded(
        file,
        Call::Write,
        ffi::SQLITE_IOERR_WRITE,
        // SAFETY: the arguments are SQLite's own.
        |m, f| unsafe { m.xWrite.expect(ABSENT)(f, bytes, len, offset) },
        |disk, path| {
            // SAFETY: SQLite's buffer has this length.
            let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize) };
            disk.note(path, |tracked| tracked.write(offset as usize, bytes));
        },
    )
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    File::guarded(
        file,
        Call::Truncate,
        ffi::SQLITE_IOERR_TRUNCATE,
        // SAFETY: the arguments are SQLite's own.
        |m, f| unsafe { m.xTruncate.expect(ABSENT)(f, size) },
        |disk, path| disk.note(path, |tracked| tracked.truncate(size as usize)),
    )
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    File::guarded(
        file,
        Call::Sync,
        ffi::SQLITE_IOERR_FSYNC,
        // SAFETY: the arguments are SQLite's own.
        |m, f| unsafe { m.xSync.expect(ABSENT)(f, flags) },
        Disk::synced,
    )
}

/// A method that only passes on.
macro_rules! passes {
    ($name:ident = $method:ident($($arg:ident: $ty:ty),*)) => {
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $arg: $ty)*) -> c_int {
            // SAFETY: the arguments are SQLite's own.
            with(file, |m, f| unsafe { m.$method.expect(ABSENT)(f $(, $arg)*) })
        }
    };
}

passes!(read = xRead(bytes: *mut c_void, len: c_int, offset: ffi::sqlite3_int64));
passes!(file_size = xFileSize(size: *mut ffi::sqlite3_int64));
passes!(lock = xLock(level: c_int));
passes!(unlock = xUnlock(level: c_int));
passes!(check_reserved = xCheckReservedLock(out: *mut c_int));
passes!(control = xFileControl(op: c_int, arg: *mut c_void));
passes!(sector_size = xSectorSize());
passes!(characteristics = xDeviceCharacteristics());
passes!(shm_map = xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void));
passes!(shm_lock = xShmLock(offset: c_int, n: c_int, flags: c_int));
passes!(shm_unmap = xShmUnmap(delete: c_int));

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    with(file, |m, f| {
        // SAFETY: the argument is SQLite's own.
        unsafe { m.xShmBarrier.expect(ABSENT)(f) };
        ffi::SQLITE_OK
    });
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
