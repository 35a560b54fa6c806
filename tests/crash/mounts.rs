//! Mounts that only one thread sees, and those it starts: nothing is left behind, however it ends.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Gives this thread mounts of its own.
///
/// # Errors
/// Why that cannot be had on this machine.
pub fn own_mounts() -> Result<(), String> {
    // SAFETY: it concerns this thread only, and those it will start.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(failed("no mounts of one's own on this machine"));
    }
    let none = std::ptr::null();
    // SAFETY: valid strings or none; the name space is this thread's own.
    if unsafe {
        libc::mount(
            none,
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            none.cast(),
        )
    } != 0
    {
        return Err(failed("mounts cannot be made private"));
    }
    Ok(())
}

/// Mounts a small file system at `place`.
///
/// # Errors
/// Why that cannot be had on this machine.
pub fn mount_small(place: &Path, size: &str) -> Result<(), String> {
    own_mounts()?;
    let (place, kind) = (c_path(place), c"tmpfs".as_ptr());
    let options = CString::new(format!("size={size}")).expect("no zero in it");
    // SAFETY: valid strings; the name space is this thread's own.
    if unsafe { libc::mount(kind, place.as_ptr(), kind, 0, options.as_ptr().cast()) } != 0 {
        return Err(failed("no tmpfs may be mounted"));
    }
    Ok(())
}

/// Nothing can be written any more to what is mounted at `place`.
pub fn make_read_only(place: &Path) {
    let (place, none, flags) = (
        c_path(place),
        std::ptr::null(),
        libc::MS_REMOUNT | libc::MS_RDONLY,
    );
    // SAFETY: a valid string; the mount is this thread's own.
    let done = unsafe { libc::mount(none, place.as_ptr(), none, flags, none.cast()) };
    assert_eq!(done, 0, "{}", failed("what we have mounted can be mounted again"));
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero in a path")
}

fn failed(what: &str) -> String {
    format!("{what}: {}", std::io::Error::last_os_error())
}
