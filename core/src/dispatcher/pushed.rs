//! The answer to a push: what was accepted, or why it was refused.

use std::fmt;

use crate::durability::Durability;
use crate::error::{Error, ErrorKind};
use crate::id::JobId;
use crate::job::NewJob;
use crate::outcome::ShedReason;

/// An accepted push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Pushed {
    /// The job's id: of the new job, or of the one that had the id or key already.
    pub id: JobId,
    /// Whether this push made the job.
    pub created: bool,
    /// What the job now survives.
    pub durability: Durability,
    /// Why it was shed as it came, if the policy of its full queue says so: it has ended, and no handler will
    /// see it.
    pub shed: Option<ShedReason>,
}

/// A refused push: the error, and the job it was for.
pub struct PushError<'a> {
    error: Error,
    job: Box<NewJob<'a>>,
}

impl<'a> PushError<'a> {
    /// Why.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The job, to be pushed again or elsewhere.
    pub fn into_job(self) -> NewJob<'a> {
        *self.job
    }
}

impl fmt::Debug for PushError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for PushError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for PushError<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<PushError<'_>> for Error {
    fn from(e: PushError<'_>) -> Self {
        e.error
    }
}

/// The answer to a push that was not accepted. Only here is the job moved: it is large.
#[cold]
pub(super) fn refused(error: Error, job: NewJob<'_>) -> PushError<'_> {
    PushError {
        error,
        job: Box::new(job),
    }
}

/// A push of several jobs that stopped at a refused one.
#[derive(Debug)]
pub struct PushManyError {
    /// The jobs before it, which were accepted.
    pub pushed: Vec<Pushed>,
    /// Why the next one was refused. It and all after it were not accepted.
    pub error: Error,
}

impl fmt::Display for PushManyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (job {} of the batch; those before it were accepted)",
            self.error,
            self.pushed.len()
        )
    }
}

impl std::error::Error for PushManyError {}
