//! What a push does whose queue is full: it has room made, waits for it, or tries a last time.

use super::lease::handling;
use super::overflow::Next;
use super::prepared::Prepared;
use super::queues::Bounds;
use super::{Inner, Pushed};
use crate::engine::Inserted;
use crate::error::{Error, ErrorKind, Result};
use crate::names::QueueId;
use crate::time::{Deadline, Timestamp};

/// How many jobs of a push of many are tried at once when their queue was full.
pub(super) const AT_ONCE: usize = 256;

impl Inner {
    /// Finds room for the first of these, or sheds it; or says that the next try is its last.
    pub(super) fn find_room(
        &self,
        rest: &[Prepared<'_>],
        receipt: Inserted,
        wait: Option<Deadline>,
        now: Timestamp,
        pushed: &mut Vec<Pushed>,
    ) -> Result<Last> {
        let Some((first, others)) = rest.split_first() else {
            return Ok(Last::No);
        };
        // Those of whom it is sure that each needs a place of its own.
        let also = others.iter().take(AT_ONCE - 1);
        let also = also.take_while(|p| p.queue == first.queue && p.is_new());
        let count = match receipt {
            // Who knows how many have to go for them.
            Inserted::FullBytes(_) => 1,
            _ => 1 + also.count(),
        };
        match self.overflow(first, count, now)? {
            Next::Again => {}
            Next::Shed(reason) => pushed.push(self.shed_newcomer(first, reason, now)?),
            Next::Refuse => return self.wait_or_try_last(first, wait),
        }
        Ok(Last::No)
    }

    /// The bounds of a queue for one try: if it is the last, or there is no other way, a refusal counts.
    pub(super) fn bounds_of_try(&self, queue: QueueId, waits: bool, last: &Last) -> Bounds {
        let bounds = self.bounds(queue);
        Bounds {
            yields: (bounds.yields || waits) && last.is_no(),
            ..bounds
        }
    }

    /// Waits for room until the deadline, if there is one. Who has none left tries once more, to be let in or counted
    /// as refused.
    pub(super) fn wait_or_try_last(&self, newcomer: &Prepared<'_>, until: Option<Deadline>) -> Result<Last> {
        let Some(until) = until else {
            return Ok(Last::Try);
        };
        match self.wait_for_room(newcomer, until) {
            Ok(()) => Ok(Last::No),
            Err(error) if error.kind() == ErrorKind::Full => Ok(Last::TryAfter(error)),
            Err(error) => Err(error),
        }
    }

    /// Waits until the queue has room; the error of a full queue when the deadline passes first.
    fn wait_for_room(&self, newcomer: &Prepared<'_>, deadline: Deadline) -> Result<()> {
        let (queue, len) = (newcomer.queue, newcomer.weight);
        if deadline.instant().is_none() && handling(self).is_some() {
            let text = "the queue is full, and a handler must not wait for room without a deadline";
            return Err(Error::new(ErrorKind::WouldDeadlock, text));
        }
        loop {
            let listener = self.engine.signals().space.listen();
            self.check_open()?;
            // The bound may have become lower since: then no room would ever be enough.
            self.check_weight(queue, len)?;
            let (load, most) = (self.engine.load(queue)?, self.bounds(queue));
            let room_for_jobs = most.jobs == 0 || load.jobs < most.jobs;
            let room_for_bytes = most.bytes == 0 || load.bytes + len <= most.bytes;
            if room_for_jobs && room_for_bytes {
                return Ok(());
            }
            if deadline.passed() {
                let name = self.engine.names().queue_name(queue);
                let what = match room_for_jobs {
                    false => format!("{} of {} jobs wait", load.jobs, most.jobs),
                    true => format!("{} of {} bytes wait", load.bytes, most.bytes),
                };
                let text = format!("queue {name:?} is full: {what}, and no room came in time");
                return Err(Error::new(ErrorKind::Full, text));
            }
            listener.wait(deadline);
        }
    }
}

/// Whether a try to push a job is its last.
#[derive(Debug, Default)]
pub(super) enum Last {
    /// There may be others.
    #[default]
    No,
    /// It is.
    Try,
    /// It is, after a wait that came to this.
    TryAfter(Error),
}

impl Last {
    pub(super) fn is_no(&self) -> bool {
        matches!(self, Last::No)
    }

    /// The answer to the try.
    pub(super) fn or<T>(self, answer: Result<T>) -> Result<T> {
        answer.map_err(|error| self.instead_of(error))
    }

    /// What the wait came to says more than one more refusal.
    pub(super) fn instead_of(self, refusal: Error) -> Error {
        match self {
            Last::TryAfter(waited) if refusal.kind() == ErrorKind::Full => waited,
            _ => refusal,
        }
    }
}

/// Whether a job was refused for want of room.
pub(super) fn full(receipt: Inserted) -> bool {
    matches!(receipt, Inserted::Full(_) | Inserted::FullBytes(_))
}
