//! Where jobs go, and what can come in the way.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::dispatcher::Lease;
use crate::error::Result;

/// What jobs are passed on to. A closure `FnMut(&[Lease]) -> Result<(), SinkError>` is one.
pub trait Sink: Send {
    /// Takes these jobs, in order, or the first ones of them: an error says how many. Those it did not take are
    /// given to it again, first of all, in the same order; a later one is never given to it before. What it has
    /// taken must be as safe as it is to be when it answers.
    ///
    /// A panic means that it took none of them.
    ///
    /// # Errors
    /// How many it has taken, and what is in the way of the next one.
    fn deliver(&mut self, batch: &[Lease]) -> Result<(), SinkError>;

    /// Looked at once, before it is given anything: whether it is such that it can ever take a job. What may yet
    /// become better is for [`Sink::deliver`] to say.
    ///
    /// # Errors
    /// What is wrong with it; then nothing is passed on.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it takes payloads as bytes only. Then every job of the queue must be one that can be written, and
    /// is written by whoever pushes it: an object of a host's is never looked into by a thread of Forebay's own.
    fn encodes(&self) -> bool {
        false
    }

    /// What it is, for people who ask why a queue does not move.
    fn name(&self) -> String {
        "a callback".to_owned()
    }
}

impl<F> Sink for F
where
    F: FnMut(&[Lease]) -> Result<(), SinkError> + Send,
{
    fn deliver(&mut self, batch: &[Lease]) -> Result<(), SinkError> {
        self(batch)
    }
}

/// Why a sink did not take all of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SinkError {
    /// How many it has taken: the first ones.
    pub delivered: usize,
    /// What is in the way of the next one.
    pub trouble: Trouble,
    /// The same in words.
    pub message: Cow<'static, str>,
}

/// What is in the way of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// The sink fails, whatever it is given: all is tried again after a pause that grows.
    Down,
    /// The sink has no room just now, which is no failure: tried again after this pause, or one that grows.
    Busy {
        /// How long, if the sink knows.
        after: Option<Duration>,
    },
    /// The sink will never take this one job: it fails, and the others go on.
    Refused,
}

impl SinkError {
    /// The sink took `delivered` of them and fails.
    pub fn down(delivered: usize, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(delivered, Trouble::Down, message)
    }

    /// The sink took `delivered` of them and has no room for more: for this long, if it knows.
    pub fn busy(delivered: usize, after: Option<Duration>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(delivered, Trouble::Busy { after }, message)
    }

    /// The sink took `delivered` of them and will never take the next one.
    pub fn refused(delivered: usize, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(delivered, Trouble::Refused, message)
    }

    fn new(delivered: usize, trouble: Trouble, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            delivered,
            trouble,
            message: message.into(),
        }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (after {} jobs)", self.message, self.delivered)
    }
}

impl std::error::Error for SinkError {}
