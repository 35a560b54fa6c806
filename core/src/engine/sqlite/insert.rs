//! Storing new jobs.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::tally::Column;
use super::work::{Step, Work, instant, number, weight};
use crate::engine::sql::row::list;
use crate::engine::sql::statements as sql;
use crate::engine::{Insert, Inserted, Load, Parcel, Restored};
use crate::error::Result;
use crate::history::LineAttempt;
use crate::id::JobId;
use crate::job::{Extras, Job, Priority, State, Token};
use crate::names::{KindId, QueueId};
use crate::outcome::ShedReason;
use crate::payload::Payload;
use crate::time::Timestamp;

/// A job on its way to the thread that writes: an [`Insert`] whose payload is bytes.
#[derive(Clone, Debug)]
pub(super) struct Draft<'a> {
    pub(super) id: JobId,
    pub(super) queue: QueueId,
    pub(super) kind: KindId,
    payload: Payload,
    priority: Priority,
    run_at: Timestamp,
    max_attempts: u32,
    timeout: Option<Duration>,
    deadline: Timestamp,
    extras: Option<&'a Arc<Extras>>,
    waits: &'a [Token],
    capacity: usize,
    capacity_bytes: usize,
    shed: Option<ShedReason>,
    /// Whether a refusal is not counted.
    pub(super) undecided: bool,
    restored: Option<&'a Restored>,
}

impl<'a> Draft<'a> {
    /// # Errors
    /// `Encode` for a payload that its host cannot encode.
    pub(super) fn of(job: &Insert<'a>) -> Result<Self> {
        let payload = match job.payload {
            Parcel::Shared(payload) => payload.clone(),
            Parcel::Given(cell) => {
                let payload = cell.take();
                cell.set(payload.clone());
                payload
            }
        };
        let payload = match payload.as_bytes() {
            Some(_) => payload,
            None => Payload::encoded(payload.encode()?),
        };
        Ok(Self {
            id: job.id,
            queue: job.queue,
            kind: job.kind,
            payload,
            priority: job.priority,
            run_at: job.run_at,
            max_attempts: job.max_attempts,
            timeout: job.timeout,
            deadline: job.deadline,
            extras: job.extras,
            waits: job.waits,
            capacity: job.capacity,
            capacity_bytes: job.capacity_bytes,
            shed: job.shed,
            undecided: job.undecided,
            restored: job.restored,
        })
    }

    fn key(&self) -> Option<&'a str> {
        self.extras?.key.as_deref()
    }

    /// The most that may wait, this job included; 0 is without bound.
    fn bound(&self) -> Load {
        if self.restored.is_some() || self.shed.is_some() {
            return Load::default();
        }
        Load {
            jobs: self.capacity,
            bytes: self.capacity_bytes,
        }
    }

    fn refused(&self, waiting: Load) -> Option<Inserted> {
        let (bound, weight) = (self.bound(), weight(&self.payload) as usize);
        if bound.jobs > 0 && waiting.jobs >= bound.jobs {
            return Some(Inserted::Full(waiting.jobs));
        }
        let over = bound.bytes > 0 && waiting.bytes.saturating_add(weight) > bound.bytes;
        over.then_some(Inserted::FullBytes(waiting.bytes))
    }
}

/// Whether there was no room.
pub(super) fn is_full(inserted: Inserted) -> bool {
    matches!(inserted, Inserted::Full(_) | Inserted::FullBytes(_))
}

/// Whether this is the end of a push of several jobs, or of a batch.
pub(super) fn refused(inserted: Inserted) -> bool {
    matches!(
        inserted,
        Inserted::Full(_) | Inserted::FullBytes(_) | Inserted::Conflict(_) | Inserted::Sealed
    )
}

impl Work<'_> {
    /// Stores jobs in order until one is refused; a receipt for each, the refused one included.
    pub(super) fn insert_all(&mut self, drafts: &[Draft<'_>]) -> Step<Vec<Inserted>> {
        self.promote(Self::SOME)?;
        let mut receipt = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let inserted = self.insert(draft)?;
            receipt.push(inserted);
            if refused(inserted) {
                if is_full(inserted) && !draft.undecided {
                    self.tally.add(draft.queue, Column::Refused, 1);
                }
                break;
            }
        }
        Ok(receipt)
    }

    /// Stores a job, if its id is new, its key is free and there is room. A refusal is not counted here.
    pub(super) fn insert(&mut self, draft: &Draft<'_>) -> Step<Inserted> {
        if self.engine.sealed() {
            return Ok(match self.knows(draft.id)? {
                true => Inserted::Duplicate,
                false => Inserted::Sealed,
            });
        }
        if let Some(key) = draft.key() {
            if self.knows(draft.id)? {
                return Ok(Inserted::Duplicate);
            }
            if let Some(answer) = self.key_holder(key, draft)? {
                return Ok(answer);
            }
        }
        if draft.bound() != Load::default() {
            let waiting = self.waiting(draft.queue)?;
            if let Some(refused) = draft.refused(waiting) {
                return Ok(match self.knows(draft.id)? {
                    true => Inserted::Duplicate,
                    false => refused,
                });
            }
        }
        if let Some(reason) = draft.shed
            && self.engine.keep == 0
        {
            return self.count_shed(draft, reason);
        }
        self.store(draft)
    }

    fn knows(&self, id: JobId) -> Step<bool> {
        let known = self.first(sql::KNOWN, [id.to_bytes().as_slice()], |_| Ok(()))?;
        Ok(known.is_some())
    }

    /// What the holder of its key means for a job; `None` if there is none.
    fn key_holder(&self, key: &str, draft: &Draft<'_>) -> Step<Option<Inserted>> {
        let holder = self.first(sql::KEY_HOLDER, [key], |row| {
            let (id, kind): ([u8; 16], String) = (row.get(0)?, row.get(1)?);
            Ok((id, kind, row.get::<_, Option<i64>>(2)?))
        })?;
        Ok(holder.map(|(id, kind, print)| {
            let own = draft.extras.map(|e| e.fingerprint as i64);
            let same = *kind == *self.kind_text(draft.kind) && print == own;
            let id = JobId::from_bytes(id);
            if same {
                Inserted::Keyed(id)
            } else {
                Inserted::Conflict(id)
            }
        }))
    }

    /// Writes the row, unless there is one with its id.
    fn store(&mut self, draft: &Draft<'_>) -> Step<Inserted> {
        let none = Restored::default();
        let past = draft.restored.unwrap_or(&none);
        let (created, run_at) = match draft.restored {
            None => (self.now, self.engine.time.stored(draft.run_at).max(self.now)),
            Some(restored) => (restored.created, draft.run_at),
        };
        let deadline = instant(self.engine.time.stored(draft.deadline));
        let ready = self.after.ready;
        let (state, place) = match draft.waits {
            _ if draft.shed.is_some() => (State::Shed, self.next_place()),
            [] => self.line_up(run_at),
            _ => (State::Blocked, self.next_place()),
        };
        let failure = draft.shed.map(ShedReason::failure);
        let extras = draft.extras.map(|e| &**e);
        let waits: Vec<&str> = draft.waits.iter().map(|t| &**t).collect();
        let history = &past.history[past.history.len().saturating_sub(Job::HISTORY)..];
        let history: Vec<LineAttempt> = history.iter().map(LineAttempt::from).collect();
        let started = past.history.last().map(|attempt| attempt.started.as_micros());
        let last = past.history.last().and_then(|attempt| attempt.failure.as_ref());
        let error = failure.as_ref().or(last);
        // What is shed is over, and carries nothing.
        let lives = failure.is_none();
        let payload = Some(&draft.payload).filter(|_| lives);
        let due = deadline.filter(|_| lives);
        let changed = self.run(
            sql::INSERT,
            params![
                draft.id.to_bytes().as_slice(),
                self.queue_text(draft.queue),
                self.kind_text(draft.kind),
                state.name(),
                draft.priority,
                run_at.as_micros(),
                created.as_micros(),
                past.attempt,
                (draft.max_attempts > 0).then_some(draft.max_attempts),
                number(past.fence),
                past.crashes,
                started,
                deadline,
                draft.timeout.map(micros),
                draft.key(),
                extras.filter(|e| e.key.is_some()).map(|e| e.fingerprint as i64),
                extras.and_then(|e| e.retry).map(|r| r.to_string()),
                list(extras.map_or(&[][..], |e| &e.headers))?,
                list(if lives { &waits } else { &[] })?,
                payload.and_then(Payload::as_bytes),
                payload.and_then(Payload::content_type),
                list(&history)?,
                place,
                due,
                error.map(|e| &*e.message),
                error.map(|e| e.kind.name()),
                extras.and_then(|e| e.concurrency_key.as_deref()),
                (!lives).then(|| self.now.as_micros()),
            ],
        )?;
        if changed == 0 {
            self.after.ready = ready;
            return Ok(Inserted::Duplicate);
        }
        let total = if draft.restored.is_some() {
            Column::Restored
        } else {
            Column::Pushed
        };
        self.tally.add(draft.queue, total, 1);
        if let Some(reason) = draft.shed {
            self.tally.add(draft.queue, Column::of_shed(reason), 1);
            self.tally.add(draft.queue, Column::Kept, 1);
            self.after.ended.push((draft.id, State::Shed));
            return Ok(Inserted::New);
        }
        self.tally.add(draft.queue, Column::of(state), 1);
        self.weigh(draft.queue, weight(&draft.payload));
        if let Some(deadline) = deadline {
            self.after.due(Timestamp::from_micros(deadline));
        }
        Ok(Inserted::New)
    }

    /// Counts a job that is shed as it comes and is forgotten in that moment.
    fn count_shed(&mut self, draft: &Draft<'_>, reason: ShedReason) -> Step<Inserted> {
        if self.knows(draft.id)? {
            return Ok(Inserted::Duplicate);
        }
        self.tally.add(draft.queue, Column::Pushed, 1);
        self.tally.add(draft.queue, Column::of_shed(reason), 1);
        self.after.ended.push((draft.id, State::Shed));
        Ok(Inserted::New)
    }

    /// So many scheduled jobs are queued by a call that came for something else.
    pub(super) const SOME: usize = 4096;
}

/// In microseconds, rounded up so that no timeout becomes none.
fn micros(timeout: Duration) -> i64 {
    let us = timeout.as_nanos().div_ceil(1000);
    i64::try_from(us).unwrap_or(i64::MAX).max(1)
}
