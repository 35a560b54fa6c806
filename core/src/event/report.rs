//! An event in words.

use std::fmt;
use std::sync::Arc;

use super::{Event, EventKind, Level};
use crate::id::JobId;
use crate::names::Names;

/// An event and the names that are in it; its text is a sentence.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    event: &'a Event,
    names: &'a Names,
}

impl<'a> Report<'a> {
    pub(crate) fn new(event: &'a Event, names: &'a Names) -> Self {
        Self { event, names }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        self.event.kind.level()
    }

    /// The name of the queue, if it concerns one.
    #[must_use]
    pub fn queue(&self) -> Option<Arc<str>> {
        self.event.queue.map(|queue| self.names.queue_name(queue))
    }

    /// The name of the kind, if it concerns one.
    #[must_use]
    pub fn job_kind(&self) -> Option<Arc<str>> {
        self.event.job_kind.map(|kind| self.names.kind_name(kind))
    }

    /// Whom it is about.
    fn whom(&self) -> String {
        let kind = self.job_kind().unwrap_or_default();
        match (self.event.id == JobId::NIL, self.queue()) {
            (false, Some(queue)) => format!("job {} ({kind} in {queue})", self.event.id),
            (false, None) => format!("job {}", self.event.id),
            (true, Some(queue)) => format!("queue {queue:?}"),
            (true, None) => "the dispatcher".to_owned(),
        }
    }

    /// Why, with a colon before it.
    fn why(&self) -> String {
        match (&self.event.text, self.event.failure) {
            (Some(text), _) => format!(": {text}"),
            (None, Some(failure)) => format!(": {}", failure.name().replace('_', " ")),
            (None, None) => String::new(),
        }
    }

    /// Which attempt, and how long it took.
    fn attempt(&self) -> String {
        match self.event.took {
            Some(took) => format!("attempt {} after {took:.1?}", self.event.attempt),
            None => format!("attempt {}", self.event.attempt),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whom, why, attempt) = (self.whom(), self.why(), self.attempt());
        match self.event.kind {
            EventKind::Pushed => write!(f, "{whom} was pushed"),
            EventKind::Started => write!(f, "{whom} started {attempt}"),
            EventKind::Succeeded => write!(f, "{whom} succeeded with {attempt}"),
            EventKind::Failed if self.event.attempt == 0 => write!(f, "{whom} failed{why}"),
            EventKind::Failed => write!(f, "{whom} failed for good with {attempt}{why}"),
            EventKind::Retried => write!(f, "{whom} failed {attempt}, and will be tried again{why}"),
            EventKind::Returned => write!(f, "{whom} was given back by {attempt}{why}"),
            EventKind::Cancelled => write!(f, "{whom} was cancelled{why}"),
            EventKind::Expired => write!(f, "{whom} expired before it could end{why}"),
            EventKind::Shed => write!(f, "{whom} was given up by a rule against overload{why}"),
            EventKind::CancelRequested => write!(f, "{whom} was asked to stop"),
            EventKind::Stale => write!(
                f,
                "{whom}: the answer of {attempt} came too late and changed nothing"
            ),
            EventKind::HookFailed => write!(f, "a hook panicked at {whom}{why}"),
            EventKind::DumpFailed => write!(f, "the dump could not be written{why}"),
            EventKind::HighWatermark => write!(f, "{whom} has filled up to its high watermark"),
            EventKind::LowWatermark => write!(f, "{whom} has emptied down to its low watermark"),
            EventKind::BreakerOpened => write!(f, "too many attempts failed: the like of {whom} waits{why}"),
            EventKind::BreakerClosed => write!(f, "the like of {whom} starts again{why}"),
            EventKind::Opened => write!(f, "jobs were found in the store{why}"),
            EventKind::Stopped => write!(f, "the dispatcher stops, and nothing runs any more{why}"),
            EventKind::StoreFailed => write!(f, "the store fails{why}"),
            EventKind::StoreRecovered => write!(f, "the store works again"),
            EventKind::ForwardFailed => write!(f, "jobs of {whom} cannot be passed on{why}"),
            EventKind::ForwardRecovered => write!(f, "jobs of {whom} are passed on again"),
        }
    }
}
