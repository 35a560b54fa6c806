//! What an engine is given to store, and what became of it.

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::durability::Durability;
use crate::id::JobId;
use crate::job::{Attempt, Extras, Priority, Token};
use crate::names::{KindId, QueueId};
use crate::outcome::ShedReason;
use crate::payload::Payload;
use crate::time::Timestamp;

/// A job to be stored.
#[derive(Clone, Debug)]
pub struct Insert<'a> {
    /// Its id, unique.
    pub id: JobId,
    /// Whether the id was made for this very push, so that no other job can have it: then nobody need look.
    pub fresh: bool,
    /// Its queue.
    pub queue: QueueId,
    /// Its kind.
    pub kind: KindId,
    /// Its payload.
    pub payload: Parcel<'a>,
    /// Higher first.
    pub priority: Priority,
    /// When it may start.
    pub run_at: Timestamp,
    /// How often it may run; 0 if the first claim decides.
    pub max_attempts: u32,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// No attempt starts after this; [`Timestamp::MAX`] for none.
    pub deadline: Timestamp,
    /// Key, retry policy and headers.
    pub extras: Option<&'a Arc<Extras>>,
    /// Tokens it waits for.
    pub waits: &'a [Token],
    /// The most jobs that may wait (blocked, scheduled, queued) in the queue; 0 for no bound. Jobs that
    /// come back for another attempt, or from a dump, are never refused.
    pub capacity: usize,
    /// The most bytes that the payloads of the waiting jobs may have together, this one's included; 0 for no
    /// bound. A payload that has no length, as an object of the host, counts nothing.
    pub capacity_bytes: usize,
    /// The most that may wait in memory, if the engine has a file for the rest: what comes after waits there, and is
    /// not refused for it. Jobs with an idempotency key or a deadline stay in memory.
    pub resident: Resident,
    /// Whether the caller has another way if there is no room (it sheds a job, or waits): then the job is not counted
    /// as refused.
    pub undecided: bool,
    /// The job is stored only as one that was shed for this: it has ended, takes no room and holds no key, and
    /// its payload is dropped.
    pub shed: Option<ShedReason>,
    /// What the job is to survive before the insert is answered.
    pub durability: Durability,
    /// What the job brings along when it comes from a dump.
    pub restored: Option<&'a Restored>,
}

#[cfg(test)]
impl<'a> Insert<'a> {
    /// A job of the first queue and the first kind of which nothing else is said.
    pub(crate) fn plain(id: JobId, payload: &'a Payload) -> Self {
        Self {
            id,
            fresh: false,
            queue: QueueId(0),
            kind: KindId(0),
            payload: Parcel::Shared(payload),
            priority: 0,
            run_at: Timestamp::EPOCH,
            max_attempts: 0,
            timeout: None,
            deadline: Timestamp::MAX,
            extras: None,
            waits: &[],
            capacity: 0,
            capacity_bytes: 0,
            undecided: false,
            resident: Resident::default(),
            shed: None,
            durability: Durability::Memory,
            restored: None,
        }
    }
}

/// The most of one queue that waits in memory; 0 is without bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resident {
    /// Jobs.
    pub jobs: usize,
    /// The bytes of their payloads.
    pub bytes: usize,
}

/// A payload on its way into an engine.
#[derive(Clone, Copy)]
pub enum Parcel<'a> {
    /// The caller keeps it as well.
    Shared(&'a Payload),
    /// It is the engine's as soon as the job is stored, and the caller's if the job is refused. Nobody else
    /// counts references to it then, which two threads would do at the same time.
    Given(&'a Cell<Payload>),
}

impl Parcel<'_> {
    /// The payload, for the engine to keep. Take it once.
    #[must_use]
    pub fn take(self) -> Payload {
        match self {
            Parcel::Shared(payload) => payload.clone(),
            Parcel::Given(payload) => payload.take(),
        }
    }

    /// How many bytes it has; none if it has no length.
    #[must_use]
    pub fn weight(self) -> usize {
        let len = |payload: &Payload| payload.len().unwrap_or(0);
        match self {
            Parcel::Shared(payload) => len(payload),
            Parcel::Given(cell) => {
                let payload = cell.take();
                let weight = len(&payload);
                cell.set(payload);
                weight
            }
        }
    }
}

impl Debug for Parcel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Parcel::Shared(payload) => payload.fmt(f),
            Parcel::Given(_) => f.write_str("given"),
        }
    }
}

/// What a job had before it came here.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Its attempts so far.
    pub attempt: u32,
    /// Its fence so far.
    pub fence: u64,
    /// When it was pushed.
    pub created: Timestamp,
    /// How often its process died while it ran.
    pub crashes: u32,
    /// Its attempts, oldest first.
    pub history: Vec<Attempt>,
}

/// What became of an insert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The job is stored.
    New,
    /// A job with this id is already here; nothing changed.
    Duplicate,
    /// The key belongs to this job, of the same kind and payload; nothing changed.
    Keyed(JobId),
    /// The key belongs to this job, of another kind or payload; nothing changed.
    Conflict(JobId),
    /// The queue holds this many jobs, which is as many as it may; nothing changed.
    Full(usize),
    /// The jobs that wait in the queue have this many bytes, and with this one more than they may; nothing
    /// changed.
    FullBytes(usize),
    /// The engine has been sealed; nothing changed.
    Sealed,
}
