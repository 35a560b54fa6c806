//! What an engine is asked for, and what it gives out.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Rate;
use crate::job::{Extras, JobRef, Priority};
use crate::names::{KindId, QueueId};
use crate::payload::Payload;
use crate::time::Timestamp;

/// A request for work from one queue.
#[derive(Debug)]
pub struct Claim<'a> {
    /// The queue.
    pub queue: QueueId,
    /// What is asked of each kind, by [`KindId::index`]; kinds beyond the end are not asked for. The
    /// engine counts the allowances down.
    pub kinds: &'a mut [KindClaim],
    /// The most jobs to claim.
    pub limit: usize,
    /// When the lease ends unless it is extended; `None` for a lease that holds until it is answered.
    pub lease: Option<Duration>,
    /// Who claims.
    pub node: &'a Arc<str>,
    /// Which worker of that node; 0 for none.
    pub worker: u32,
    /// What holds for each concurrency key.
    pub keys: KeyLimits,
    /// The jobs are claimed to be passed on, not to be run: no timeout counts. Where only one process has the
    /// jobs, they stand in a dump, and after the death of the process, where they stood before the claim.
    pub relays: bool,
    /// Where the claimed jobs go.
    pub out: &'a mut Vec<Claimed>,
}

/// How much of one concurrency key a queue starts. A key at its limit is passed over, however many of its jobs
/// wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyLimits {
    /// The most jobs of one key that run at once; 0 for no limit.
    pub running: u32,
    /// How fast jobs of one key start.
    pub rate: Option<Rate>,
}

/// Where a concurrency key stands in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyStanding {
    /// Its jobs that are queued.
    pub queued: usize,
    /// Its jobs that run.
    pub running: usize,
    /// The most of its jobs that may run, if there is a limit.
    pub limit: Option<u32>,
    /// When its next job may start, if its rate holds it back.
    pub ready_at: Option<Timestamp>,
}

/// What a claim asks of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KindClaim {
    /// The most jobs of this kind; 0 if the claimer has no handler or no free slot for it.
    pub allowance: u32,
    /// The attempts of a job whose push did not say.
    pub max_attempts: u32,
    /// The timeout of a job whose push did not say.
    pub timeout: Option<Duration>,
}

/// A claimed job: all that a handler and [`crate::decide`] need, so that finishing needs no look-up.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Which job, under which claim.
    pub job: JobRef,
    /// Its queue.
    pub queue: QueueId,
    /// Its kind.
    pub kind: KindId,
    /// Higher first.
    pub priority: Priority,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// How often it may run in all.
    pub max_attempts: u32,
    /// When it was pushed.
    pub created: Timestamp,
    /// Since when it could have started.
    pub ready: Timestamp,
    /// When this attempt started.
    pub started: Timestamp,
    /// When the attempt is overdue, by its timeout or its lease; [`Timestamp::MAX`] for never.
    pub due: Timestamp,
    /// No attempt starts after this.
    pub deadline: Timestamp,
    /// What it carries.
    pub payload: Payload,
    /// Key, retry policy and headers.
    pub extras: Option<Arc<Extras>>,
}
