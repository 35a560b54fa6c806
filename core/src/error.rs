//! What can go wrong, as one numbered table.
//!
//! Every binding derives its own form from [`ErrorKind`]: a C status code is the number, a Python
//! exception class has the name. Numbers are never reused.

use std::borrow::Cow;
use std::fmt;

/// The result of a Forebay call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! error_kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $retryable:literal;)+) => {
        /// The kind of an [`Error`]: stable numbers shared by every binding.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl ErrorKind {
            /// Every kind, in the order of its number.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name),+];

            /// The stable number of this kind (the C status code).
            #[must_use]
            pub const fn code(self) -> i32 {
                self as i32
            }

            /// The name of this kind, in CamelCase.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ErrorKind::$name => stringify!($name),)+ }
            }

            /// One sentence about this kind, taken from its documentation.
            #[must_use]
            pub fn describe(self) -> String {
                match self { $(ErrorKind::$name => concat!($($doc),+).trim().to_owned(),)+ }
            }

            /// Whether the same call may succeed later without a change by the caller.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(ErrorKind::$name => $retryable,)+ }
            }

            /// The kind with this number, if there is one.
            #[must_use]
            pub fn from_code(code: i32) -> Option<ErrorKind> {
                Self::ALL.iter().copied().find(|k| k.code() == code)
            }
        }
    };
}

error_kinds! {
    /// An argument, a name, an option or a job is not valid.
    Invalid = 1, false;
    /// Memory for a value of this size could not be had.
    NoMemory = 2, true;
    /// The queue holds as many jobs as it may; nothing was accepted.
    Full = 3, true;
    /// The dispatcher has stopped and accepts nothing more.
    Closed = 4, false;
    /// The deadline of the call passed first.
    Timeout = 5, true;
    /// The lease is no longer held: the job timed out, was taken over or is finished.
    Stale = 6, false;
    /// The idempotency key belongs to another job with another kind or payload.
    Conflict = 7, false;
    /// There is no job, queue or file of that name or id.
    NotFound = 8, false;
    /// The store or the file system failed.
    Storage = 9, true;
    /// The dispatcher was opened before a fork and cannot be used in the child.
    Forked = 10, false;
    /// The call would wait for the handler that makes it.
    WouldDeadlock = 11, false;
    /// The engine or this build cannot do that.
    Unsupported = 12, false;
    /// A wait was interrupted by the host.
    Interrupted = 13, true;
    /// The job failed, was cancelled or expired; the message is its error.
    JobFailed = 14, false;
    /// No handler for this kind is registered here.
    UnknownKind = 15, false;
    /// The file or record is damaged; nothing was changed.
    Corrupt = 16, false;
    /// The file was written by a newer version; nothing was changed.
    FutureFormat = 17, false;
    /// The file is in use by another process or dispatcher.
    AlreadyOpen = 18, true;
    /// The payload or result cannot be encoded.
    Encode = 19, false;
    /// The job was cancelled.
    Cancelled = 20, false;
    /// The store failed before it could say whether the write was kept: the job may or may not run.
    Unknown = 21, true;
    /// The job was shed: a rule against overload gave it up.
    Shed = 22, false;
    /// The payload or result cannot be decoded, or is not what the handler takes.
    Decode = 23, false;
    /// A defect of Forebay itself: a panic was caught.
    Panic = 100, false;
}

/// An error: its kind, a sentence that names the thing and the mend, and what caused it.
pub struct Error {
    kind: ErrorKind,
    context: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `context` is a lower-case fragment that names the thing and the mend.
    pub fn new(kind: ErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// The same error, with the error that caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, without the kind and without the cause.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }

    pub(crate) fn invalid(context: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, context)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({self})", self.kind.name())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind, kind.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_round_trip() {
        for (i, kind) in ErrorKind::ALL.iter().enumerate() {
            assert!(kind.code() > 0, "{}: 0 means success in C", kind.name());
            assert_eq!(ErrorKind::from_code(kind.code()), Some(*kind));
            assert!(ErrorKind::ALL[..i].iter().all(|k| k.code() != kind.code()));
            assert!(kind.describe().ends_with('.'));
        }
        assert_eq!(ErrorKind::from_code(0), None);
    }

    #[test]
    fn text_names_the_cause() {
        let e = Error::new(ErrorKind::Storage, "cannot write jobs.dump").caused_by("disk gone");
        assert_eq!(e.to_string(), "cannot write jobs.dump: disk gone");
        assert_eq!(format!("{e:?}"), "Storage(cannot write jobs.dump: disk gone)");
    }
}
