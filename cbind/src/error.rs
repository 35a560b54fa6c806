//! Codes, error objects, and the boundary that no panic crosses.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use forebay_core::{Error, ErrorKind, Result, panic_text};

use crate::bytes::fby_bytes;
use crate::handle::{Boxed, put};

/// What a call answers: FBY_OK, or one of the FBY_E_ codes. A later version may have codes that this
/// header does not name: treat them as failures.
pub type fby_status = i32;

pub(crate) const OK: fby_status = 0;

/// An error: its code, its text, and whether the same call may work later. It belongs to whoever received
/// it.
pub struct fby_error {
    kind: ErrorKind,
    message: String,
}

impl Boxed for fby_error {}

impl From<Error> for fby_error {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
        }
    }
}

/// Runs the body of an exported function: panics stop here, and a failure becomes a code and, if the
/// caller wants one, an object.
pub(crate) fn guard(err: *mut *mut fby_error, body: impl FnOnce() -> Result<()>) -> fby_status {
    let result = contain(body);
    let status = result.as_ref().map_or_else(|e| e.kind().code(), |()| OK);
    if !err.is_null() {
        let error = match result {
            Ok(()) => std::ptr::null_mut(),
            Err(error) => fby_error::from(error).into_handle(),
        };
        // SAFETY: the header asks for NULL or room for one pointer.
        unsafe { put(err, error) };
    }
    status
}

/// Turns a panic into an error.
pub(crate) fn contain<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let body = || {
        #[cfg(feature = "failpoints")]
        crate::failpoint::pass();
        body()
    };
    catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|panic| Err(Error::new(ErrorKind::Panic, panic_text(panic.as_ref()))))
}

/// Runs the body of an exported function that has no way to fail.
pub(crate) fn quietly(body: impl FnOnce()) {
    let _ = contain(|| {
        body();
        Ok(())
    });
}

/// Runs the body of an exported function that answers no code: `otherwise` stands for a panic.
pub(crate) fn answer<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    contain(|| Ok(body())).unwrap_or(otherwise)
}

/// The code of an error.
///
/// Parameters: error may be NULL.
/// Returns: the code; FBY_OK for NULL.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_error_code(error: *const fby_error) -> fby_status {
    // SAFETY: the header asks for a live error or NULL.
    let code = || unsafe { error.as_ref() }.map_or(OK, |e| e.kind.code());
    answer(ErrorKind::Panic.code(), code)
}

/// What happened: a sentence that names the thing and the mend.
///
/// Parameters: error may be NULL.
/// Returns: the text; empty for NULL.
/// Memory: the text lives as long as the error.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_error_message(error: *const fby_error) -> fby_bytes {
    // SAFETY: the header asks for a live error or NULL.
    let text = || unsafe { error.as_ref() }.map(|e| fby_bytes::of(e.message.as_bytes()));
    answer(None, text).unwrap_or(fby_bytes::EMPTY)
}

/// Whether the same call may work later without a change by the caller.
///
/// Parameters: error may be NULL.
/// Returns: true or false; false for NULL.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_error_retryable(error: *const fby_error) -> bool {
    // SAFETY: the header asks for a live error or NULL.
    let retryable = || unsafe { error.as_ref() }.is_some_and(|e| e.kind.retryable());
    answer(false, retryable)
}

/// Frees an error.
///
/// Parameters: error may be NULL.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fby_error_free(error: *mut fby_error) {
    // SAFETY: the header asks for an error that is not used again, or NULL.
    quietly(|| unsafe { fby_error::free(error) });
}

/// The version of the library: major, minor and patch in a byte each, from the top.
///
/// Returns: for example 0x00010000 for 0.1.0.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn fby_version() -> u32 {
    let [major, minor, patch] = VERSION;
    answer(0, || major << 24 | minor << 16 | patch << 8)
}

/// The version of the library as text, for example "0.1.0".
///
/// Returns: the text, with a NUL at its end.
/// Memory: static.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn fby_version_string() -> *const c_char {
    let text = concat!(env!("CARGO_PKG_VERSION"), "\0");
    answer(c"".as_ptr(), || text.as_ptr().cast())
}

/// The number of the ABI. A program that runs with another number than FBY_ABI_VERSION must not go on.
///
/// Returns: the number.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn fby_abi_version() -> u32 {
    answer(0, || ABI_VERSION)
}

/// The name of a code as in this header, for example "FBY_E_FULL".
///
/// Parameters: status.
/// Returns: the name, with a NUL at its end; "FBY_E_?" for a number that is no code.
/// Memory: static.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn fby_status_name(status: fby_status) -> *const c_char {
    answer(c"FBY_E_?", || status_name(status)).as_ptr()
}

const ABI_VERSION: u32 = 2;
const VERSION: [u32; 3] = [
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
];

const fn number(text: &str) -> u32 {
    let (mut n, mut i) = (0, 0);
    while i < text.len() {
        n = n * 10 + (text.as_bytes()[i] - b'0') as u32;
        i += 1;
    }
    n
}

fn status_name(status: fby_status) -> &'static CStr {
    if status == OK {
        return c"FBY_OK";
    }
    match ErrorKind::from_code(status) {
        Some(ErrorKind::Invalid) => c"FBY_E_INVALID",
        Some(ErrorKind::NoMemory) => c"FBY_E_NO_MEMORY",
        Some(ErrorKind::Full) => c"FBY_E_FULL",
        Some(ErrorKind::Closed) => c"FBY_E_CLOSED",
        Some(ErrorKind::Timeout) => c"FBY_E_TIMEOUT",
        Some(ErrorKind::Stale) => c"FBY_E_STALE",
        Some(ErrorKind::Conflict) => c"FBY_E_CONFLICT",
        Some(ErrorKind::NotFound) => c"FBY_E_NOT_FOUND",
        Some(ErrorKind::Storage) => c"FBY_E_STORAGE",
        Some(ErrorKind::Forked) => c"FBY_E_FORKED",
        Some(ErrorKind::WouldDeadlock) => c"FBY_E_WOULD_DEADLOCK",
        Some(ErrorKind::Unsupported) => c"FBY_E_UNSUPPORTED",
        Some(ErrorKind::Interrupted) => c"FBY_E_INTERRUPTED",
        Some(ErrorKind::JobFailed) => c"FBY_E_JOB_FAILED",
        Some(ErrorKind::UnknownKind) => c"FBY_E_UNKNOWN_KIND",
        Some(ErrorKind::Corrupt) => c"FBY_E_CORRUPT",
        Some(ErrorKind::FutureFormat) => c"FBY_E_FUTURE_FORMAT",
        Some(ErrorKind::AlreadyOpen) => c"FBY_E_ALREADY_OPEN",
        Some(ErrorKind::Encode) => c"FBY_E_ENCODE",
        Some(ErrorKind::Cancelled) => c"FBY_E_CANCELLED",
        Some(ErrorKind::Unknown) => c"FBY_E_UNKNOWN",
        Some(ErrorKind::Shed) => c"FBY_E_SHED",
        Some(ErrorKind::Decode) => c"FBY_E_DECODE",
        Some(ErrorKind::Panic) => c"FBY_E_PANIC",
        // A kind that was added to the core and not here is found by the test below.
        _ => c"FBY_E_?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_core::{Durability, EventKind, Level, ShedReason, State, StopReason};

    const HEADER: &str = include_str!("../include/forebay.h");

    /// `WouldDeadlock` → `WOULD_DEADLOCK`.
    fn screaming(name: &str) -> String {
        let mut text = String::new();
        for c in name.chars() {
            if c.is_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.extend(c.to_uppercase());
        }
        text
    }

    /// The constants of the header that start with `prefix`, in order.
    fn constants(prefix: &str) -> Vec<(String, i32)> {
        let lines = HEADER.lines().filter_map(|line| line.trim().strip_prefix(prefix));
        let pair = |rest: &str| -> Option<(String, i32)> {
            let (name, value) = rest.split_once('=')?;
            let value = value.split([',', '/']).next()?;
            Some((name.trim().to_owned(), value.trim().parse().ok()?))
        };
        lines.filter_map(pair).collect()
    }

    #[test]
    fn the_header_has_every_code_and_no_other() {
        let kinds = ErrorKind::ALL.iter();
        let expected: Vec<_> = kinds.map(|k| (screaming(k.name()), k.code())).collect();
        assert_eq!(constants("FBY_E_"), expected);
        assert_eq!(constants("FBY_OK"), [(String::new(), OK)]);
        for (name, code) in expected {
            assert_eq!(status_name(code).to_str(), Ok(format!("FBY_E_{name}").as_str()));
        }
        for invented in [-1, 99, 1000, i32::MIN] {
            assert_eq!(status_name(invented), c"FBY_E_?");
        }
    }

    #[test]
    fn the_header_has_every_state_reason_and_level() {
        let states: Vec<_> = State::ALL
            .iter()
            .map(|s| (s.name().to_uppercase(), s.code()))
            .collect();
        assert_eq!(constants("FBY_STATE_"), states);
        let reasons = [
            StopReason::Cancelled,
            StopReason::TimedOut,
            StopReason::LeaseLost,
            StopReason::Stopping,
        ];
        let reasons = reasons.map(|r| (r.name().to_uppercase(), r as i32));
        assert_eq!(constants("FBY_STOP_"), reasons);
        let rules = ShedReason::ALL
            .iter()
            .map(|r| (r.name().trim_start_matches("shed_").to_uppercase(), r.code()));
        assert_eq!(constants("FBY_SHED_"), rules.collect::<Vec<_>>());
        let levels = Durability::ALL
            .iter()
            .map(|l| (l.name().to_uppercase(), l.code()));
        assert_eq!(constants("FBY_DURABILITY_"), levels.collect::<Vec<_>>());
        let levels = Level::ALL.iter().map(|l| (l.name().to_uppercase(), l.code()));
        assert_eq!(constants("FBY_LEVEL_"), levels.collect::<Vec<_>>());
        let events = EventKind::ALL.iter().map(|k| (k.name().to_uppercase(), k.code()));
        assert_eq!(constants("FBY_EVENT_"), events.collect::<Vec<_>>());
    }

    #[test]
    fn the_header_has_the_versions() {
        let define = |name: &str| {
            let start = format!("#define {name} ");
            let line = HEADER.lines().find_map(|l| l.strip_prefix(&start));
            line.and_then(|l| l.trim().parse::<u32>().ok())
        };
        assert_eq!(define("FBY_ABI_VERSION"), Some(ABI_VERSION));
        let names = ["FBY_VERSION_MAJOR", "FBY_VERSION_MINOR", "FBY_VERSION_PATCH"];
        assert_eq!(names.map(define), VERSION.map(Some));
    }

    #[test]
    fn a_panic_becomes_a_code() {
        let mut error = std::ptr::null_mut();
        assert_eq!(guard(&raw mut error, || panic!("boom")), ErrorKind::Panic.code());
        // SAFETY: the guard has written an error, which is freed once.
        unsafe {
            assert_eq!(fby_error_code(error), ErrorKind::Panic.code());
            assert_eq!(fby_error_message(error).slice("it").unwrap(), b"boom");
            fby_error_free(error);
        }
        assert_eq!(
            guard(std::ptr::null_mut(), || panic!("boom")),
            ErrorKind::Panic.code()
        );
        quietly(|| panic!("boom"));
    }

    #[test]
    fn every_exported_function_is_a_boundary() {
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let mut exported = 0;
        for file in std::fs::read_dir(sources).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let marked = concat!("#[unsafe(", "no_mangle)]\n");
            for function in text.split(marked).skip(1) {
                let body = function.split("\n}\n").next().unwrap();
                let name = body.split('(').next().unwrap();
                let guards = ["guard(", "contain(", "quietly(", "answer(", "free_at_home("];
                let guarded = guards.iter().any(|guard| body.contains(guard));
                assert!(guarded || name.ends_with("fby_failpoint"), "{name}");
                exported += 1;
            }
        }
        assert_eq!(exported, include_str!("../symbols.txt").lines().count() + 1);
    }

    #[test]
    fn success_writes_that_there_is_no_error() {
        let mut error = std::ptr::dangling_mut();
        assert_eq!(guard(&raw mut error, || Ok(())), OK);
        assert!(error.is_null());
    }
}
