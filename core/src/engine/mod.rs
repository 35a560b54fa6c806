//! The contract between the dispatcher, which has the rules, and an engine, which stores.
//!
//! # What every engine promises
//!
//! * **One holder.** A job that is running is held by one lease: the one with the highest fence. The
//!   fence is a counter per job that grows by one at each claim and never shrinks, not by a retry, not
//!   by a restore.
//! * **Guarded writes.** A [`Transition`] applies only if the job stands where the transition says
//!   (running or waiting) under the fence it names. Anything else changes nothing and is reported as
//!   [`Applied::Stale`].
//! * **Order.** Within a queue, the jobs a claim may take are taken by priority, highest first, then in
//!   the order in which they became ready. A `run_at` that has passed means *now*. A job that comes back and
//!   [keeps its place](Transition::keeps_place) stands where it stood before it was claimed.
//! * **Time is an argument.** `now` is given to every call that needs it. An engine shared by several
//!   processes may use its own clock instead and says so in [`Capabilities::own_clock`].
//! * **No rules.** An engine never decides whether a job is retried, when, or which final state it gets.
//!   It moves jobs only along the mechanical edges: inserted → blocked, scheduled or queued; blocked →
//!   scheduled or queued, when the last token arrived; scheduled → queued, when its time came; queued →
//!   running, by a claim. Every other edge is a transition that was decided elsewhere.
//! * **Waiting is an event.** Whatever makes a job claimable rings [`Signals::work`]; whatever makes room
//!   rings [`Signals::space`]; whatever brings the next due time forward rings [`Signals::upkeep`]; every
//!   job that ends rings [`Signals::finished`] with its id. Nobody polls.
//! * **Errors keep.** A call that returns an error has changed nothing that the caller did not hear of.
//!
//! Calls may come from any number of threads at once, and no call blocks on a handler, a binding or
//! another call's caller. `core/src/conformance` holds the promises as tests; an engine that passes them
//! is an engine.

#[cfg(feature = "sqlite")]
pub mod durable;
pub mod memory;
#[cfg(feature = "sqlite")]
pub(crate) mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub(crate) mod still;
pub(crate) mod terms;

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::Rate;
use crate::bell::Bell;
use crate::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::finished::Finished;
use crate::id::JobId;
use crate::job::{Attempt, Extras, Filter, Job, Page, Priority, State, Token};
pub use crate::job::{Handle, JobRef};
use crate::names::{KindId, Names, QueueId};
use crate::outcome::{ShedReason, Transition};
use crate::payload::Payload;
use crate::time::Timestamp;

/// A place where jobs are kept. See the [module's text](self) for the promises.
pub trait Engine: Send + Sync + Debug {
    /// The name of the kind of engine, for people: `memory`, `sqlite`, ...
    fn name(&self) -> &'static str;

    /// What this engine can do beyond the base contract.
    fn capabilities(&self) -> Capabilities;

    /// The numbers of queue and kind names in this engine.
    fn names(&self) -> &Names;

    /// The bells of this engine.
    fn signals(&self) -> &Signals;

    /// Stores new jobs, in order, and stops after the first that is refused ([`Inserted::Full`],
    /// [`Inserted::FullBytes`], [`Inserted::Conflict`] or [`Inserted::Sealed`]). Appends one [`Inserted`] to `receipt` for every job up to
    /// and including that one: a job is stored if and only if its receipt is [`Inserted::New`]. What is
    /// refused still belongs to the caller. Returns when every stored job is as safe as it is to be
    /// ([`Insert::durability`]) or as this engine can make it ([`Capabilities::durability`]); a job for which
    /// that takes time cannot be claimed before.
    ///
    /// # Errors
    /// Of the store. Then nothing was stored and `receipt` is as it was; but after `Unknown`, whether the jobs
    /// were stored shows only when the store is opened again.
    fn insert(&self, jobs: &[Insert<'_>], now: Timestamp, receipt: &mut Vec<Inserted>) -> Result<()>;

    /// The same for one job, which an engine can spare the lists.
    ///
    /// # Errors
    /// As [`Engine::insert`].
    fn insert_one(&self, job: &Insert<'_>, now: Timestamp) -> Result<Inserted> {
        thread_local! {
            static RECEIPT: Cell<Vec<Inserted>> = const { Cell::new(Vec::new()) };
        }
        // Nothing is kept while the thread ends.
        let mut receipts = RECEIPT.try_with(Cell::take).unwrap_or_default();
        receipts.clear();
        self.insert(std::slice::from_ref(job), now, &mut receipts)?;
        let receipt = receipts[0];
        let _ = RECEIPT.try_with(|kept| kept.set(receipts));
        Ok(receipt)
    }

    /// The hot path: applies what ended and claims what is next, in one call.
    ///
    /// Each transition is taken alone; its fate is appended to `applied`. The engine may move the result
    /// and the failure out of a transition it applies. Then, if there is a claim, up to its limit of jobs
    /// are leased and appended to [`Claim::out`].
    ///
    /// # Errors
    /// Of the store. Then no transition was applied and nothing was claimed.
    fn turn(
        &self,
        done: &mut [Transition],
        applied: &mut Vec<Applied>,
        claim: Option<&mut Claim<'_>>,
        now: Timestamp,
    ) -> Result<()>;

    /// Applies a batch whole or not at all: if one transition is refused, one insert conflicts or one
    /// queue is full, nothing of it is applied. An insert whose id or key is already here is not a
    /// conflict if it is the same job. Returns when the batch is as safe as [`Batch::durability`] says.
    ///
    /// # Errors
    /// Of the store. Then nothing was applied; but after `Unknown` that shows only when the store is opened
    /// again.
    fn commit(&self, batch: &mut Batch<'_>, now: Timestamp, receipt: &mut BatchReceipt) -> Result<()>;

    /// Makes leases end `lease` from `now` instead of when they would; one [`Held`] per lease.
    ///
    /// # Errors
    /// Of the store. Then no lease was changed.
    fn extend(&self, leases: &[JobRef], lease: Duration, now: Timestamp, held: &mut Vec<Held>) -> Result<()>;

    /// Stores a request to cancel a running job. Returns whether the job was running under that fence.
    ///
    /// # Errors
    /// Of the store.
    fn request_cancel(&self, job: JobRef) -> Result<bool>;

    /// Queues up to `limit` scheduled jobs whose time has come, in the order of (time, push).
    ///
    /// # Errors
    /// Of the store.
    fn tick(&self, limit: usize, now: Timestamp) -> Result<Tick>;

    /// Appends up to `limit` jobs to `out` that are overdue and need a decision: running ones past
    /// their timeout or lease, waiting ones past their deadline. Changes nothing: a job is reported
    /// again until a transition applies to it.
    ///
    /// # Errors
    /// Of the store.
    fn expired(&self, limit: usize, now: Timestamp, out: &mut Vec<Overdue>) -> Result<()>;

    /// Forgets up to `limit` finished jobs that ended before these instants. Returns how many.
    ///
    /// # Errors
    /// Of the store.
    fn prune(&self, keep: Retention, limit: usize, now: Timestamp) -> Result<usize>;

    /// The job with this id, if it is known.
    ///
    /// # Errors
    /// Of the store.
    fn get(&self, id: JobId) -> Result<Option<Job>>;

    /// Where the job with this id stands, if it is known: cheaper than [`Engine::get`].
    ///
    /// # Errors
    /// Of the store.
    fn standing(&self, id: JobId) -> Result<Option<Located>>;

    /// One page of the jobs that match, newest first, and how many match in all.
    ///
    /// # Errors
    /// `Invalid` for a page size out of range; of the store.
    fn list(&self, filter: &Filter) -> Result<Page>;

    /// Calls `each` for every unfinished job, as of one instant, in the order in which they would start:
    /// inserted elsewhere one after the other, they keep it. First come the queued jobs, queue by queue (by
    /// name), as claims would take them; then those that run, in the order they were claimed, since one that
    /// loses its lease stands behind those that wait; then scheduled ones by (time, push); then blocked
    /// ones, oldest first.
    ///
    /// # Errors
    /// What `each` returned first; of the store.
    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()>;

    /// What waits in a queue: cheap, and true of one instant only for each number by itself.
    ///
    /// # Errors
    /// Of the store.
    fn load(&self, queue: QueueId) -> Result<Load> {
        let counts = self.counts()?.into_iter().find(|c| c.queue == queue);
        Ok(Load {
            jobs: counts.map_or(0, |c| c.waiting() as usize),
            bytes: 0,
        })
    }

    /// Ends one queued job as shed, and says which one it was. It is never one that a claim gives out, or that
    /// another call ends. `None` if there is none such; jobs that have not reached the store as yet are not
    /// taken.
    ///
    /// # Errors
    /// `Unsupported` where [`Capabilities::evicts`] is not set, or where a key is given and
    /// [`Capabilities::keys`] is not; of the store.
    fn evict(
        &self,
        _queue: QueueId,
        _victim: Victim<'_>,
        _reason: ShedReason,
        _now: Timestamp,
    ) -> Result<Option<Located>> {
        Err(unsupported("shed jobs that wait"))
    }

    /// Whether claims take the newest first of the jobs that are queued from now on, and those that were
    /// queued before after them.
    ///
    /// # Errors
    /// `Unsupported` where [`Capabilities::evicts`] is not set; of the store.
    fn set_newest_first(&self, _queue: QueueId, _on: bool) -> Result<()> {
        Err(unsupported("give out the newest jobs first"))
    }

    /// How much of a queue may wait in memory, before a push says so ([`Insert::resident`]): what waits in the file
    /// is taken back no faster. Without a file for the rest it means nothing.
    ///
    /// # Errors
    /// Of the store.
    fn set_resident(&self, _queue: QueueId, _most: Resident) -> Result<()> {
        Ok(())
    }

    /// Limits how many jobs of one concurrency key run at once, instead of [`KeyLimits::running`]; 0 starts
    /// none, `None` takes the limit away. Nothing keeps it beyond this handle of the engine.
    ///
    /// # Errors
    /// `Unsupported` where [`Capabilities::keys`] is not set; of the store.
    fn limit_key(&self, _queue: QueueId, _key: &str, _limit: Option<u32>) -> Result<()> {
        Err(unsupported("limit concurrency keys"))
    }

    /// Where a concurrency key stands, by the limits of the last claim; `None` if nothing is known of it.
    ///
    /// # Errors
    /// Of the store.
    fn key_standing(&self, _queue: QueueId, _key: &str) -> Result<Option<KeyStanding>> {
        Ok(None)
    }

    /// Counts, per queue, in one consistent snapshot.
    ///
    /// # Errors
    /// Of the store.
    fn counts(&self) -> Result<Vec<QueueCounts>>;

    /// Pauses or resumes a queue: a paused queue accepts jobs and gives none out.
    ///
    /// # Errors
    /// Of the store.
    fn set_paused(&self, queue: QueueId, paused: bool) -> Result<()>;

    /// From now on this handle of the engine changes nothing: inserts answer [`Inserted::Sealed`],
    /// transitions are stale. A write that was answered before is in whatever is read after. Called
    /// before the last dump, so that nothing is accepted that the dump does not hold.
    ///
    /// # Errors
    /// Of the store.
    fn seal(&self) -> Result<()>;

    /// The named leases of this engine.
    fn coordinator(&self) -> &dyn Coordinator;

    /// Returns when everything that was answered before is this safe, or as safe as the engine can make it.
    ///
    /// # Errors
    /// Of the store.
    fn flush(&self, _level: Durability) -> Result<()> {
        Ok(())
    }

    /// Ends the engine's own threads and connections. Idempotent.
    ///
    /// # Errors
    /// Of the store.
    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// What an engine answers that cannot do something.
fn unsupported(what: &str) -> Error {
    let text = format!("this engine cannot {what}; use memory: or a file that one process owns");
    Error::new(ErrorKind::Unsupported, text)
}

/// Named leases with a term that only grows: who leads, among all who use the store.
///
/// A lease is an advantage, not a proof: its holder may be suspended when it ends. Whoever writes as a leader
/// names the term, and what it writes to refuses a lower one than it has seen.
pub trait Coordinator: Send + Sync + Debug {
    /// Takes the lease for `ttl` from now, with a term above all before it. `None` if somebody holds it, even
    /// a holder of this name.
    ///
    /// # Errors
    /// Of the store.
    fn acquire(&self, name: &str, holder: &str, ttl: Duration, now: Timestamp) -> Result<Option<Term>>;

    /// Makes it end `ttl` from now. `None` if it has ended: then it is lost, whoever has it.
    ///
    /// # Errors
    /// Of the store.
    fn renew(&self, term: &Term, ttl: Duration, now: Timestamp) -> Result<Option<Term>>;

    /// Ends it. Returns whether it was held.
    ///
    /// # Errors
    /// Of the store.
    fn release(&self, term: &Term) -> Result<bool>;
}

/// A named lease that somebody holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// Its name.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Grows with every holder of the name.
    pub term: u64,
    /// When it ends unless it is renewed.
    pub until: Timestamp,
}

/// What an engine can do beyond the base contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// The most that an accepted job can survive.
    pub durability: Durability,
    /// Several processes work on the same jobs.
    pub shared: bool,
    /// The engine uses its own clock and ignores `now`.
    pub own_clock: bool,
    /// Payloads and results that are host objects are kept as they are, not encoded.
    pub host_objects: bool,
    /// Jobs with one concurrency key take turns with others, and can be limited ([`Claim::keys`]).
    pub keys: bool,
    /// Queued jobs can be taken out to make room ([`Engine::evict`]), and the newest be given out first.
    pub evicts: bool,
    /// The bytes that wait in a queue can be bounded ([`Insert::capacity_bytes`]).
    pub weighs: bool,
}

/// How an engine says that something changed.
#[derive(Debug, Default)]
pub struct Signals {
    /// A job can be claimed.
    pub work: Bell,
    /// A queue has room again.
    pub space: Bell,
    /// The next due time came forward.
    pub upkeep: Bell,
    /// A running job may have been asked to stop by another process, or may have lost its lease: whoever holds
    /// leases should ask for them. Only engines that are shared ring it.
    pub leases: Bell,
    /// Jobs that ended for good, by id.
    pub finished: Finished,
}

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

/// What became of a transition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It is stored.
    Yes,
    /// The job no longer stands where the transition says; nothing changed.
    Stale,
    /// A request to cancel was stored first and the transition does not answer it; nothing changed.
    CancelRequested,
}

/// What became of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// It is still held, until the new end.
    Yes,
    /// It is still held, and the job has been asked to stop.
    CancelRequested,
    /// It is no longer held.
    Lost,
}

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

/// What waits in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Jobs that are blocked, scheduled or queued.
    pub jobs: usize,
    /// The bytes of their payloads, if the queue has a bound for them; 0 otherwise.
    pub bytes: usize,
}

/// Which queued job goes to make room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim<'a> {
    /// The one that has been ready longest; where jobs have concurrency keys, the first of a key that has many.
    Oldest,
    /// The first of the lowest priority that is queued, if that is below this.
    Lowest {
        /// The priority of the job that room is made for.
        below: Priority,
    },
    /// The first of a concurrency key.
    OfKey(&'a str),
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

/// A job that needs a decision because time has passed.
#[derive(Clone, Debug)]
pub struct Overdue {
    /// Why.
    pub cause: Cause,
    /// Where it stands.
    pub at: Located,
}

/// Why a job is overdue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The attempt took longer than its timeout.
    Timeout,
    /// The lease ended.
    Lease,
    /// The process died while the job ran; how often it has by now.
    Crash(u32),
    /// The deadline passed before an attempt started.
    Deadline,
}

/// Where a job stands, without what it carries.
#[derive(Clone, Debug)]
pub struct Located {
    /// Which job, under which claim.
    pub job: JobRef,
    /// Its queue.
    pub queue: QueueId,
    /// Its kind.
    pub kind: KindId,
    /// Its state.
    pub state: State,
    /// How many attempts have started.
    pub attempt: u32,
    /// How often it may run in all; 0 if no claim has decided yet.
    pub max_attempts: u32,
    /// Whether it was asked to stop.
    pub cancel_requested: bool,
    /// When the present attempt started, if there is one.
    pub started: Option<Timestamp>,
    /// Key, retry policy and headers.
    pub extras: Option<Arc<Extras>>,
}

/// Writes that belong together.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// Jobs to store.
    pub inserts: &'a [Insert<'a>],
    /// Transitions to apply.
    pub transitions: &'a mut [Transition],
    /// Tokens to deliver: a job that waits for the token waits for it no more. A token for a job that is
    /// unknown or does not wait for it changes nothing.
    pub signals: &'a [(JobId, Token)],
    /// What the batch is to survive before it is answered.
    pub durability: Durability,
}

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BatchReceipt {
    /// Whether the batch was applied, whole.
    pub applied: bool,
    /// One per insert: what became of it, or would have.
    pub inserted: Vec<Inserted>,
    /// One per transition: what became of it, or would have.
    pub transitions: Vec<Applied>,
}

/// What a tick did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// How many jobs were queued.
    pub promoted: usize,
    /// When the next job is due for [`Engine::tick`] or [`Engine::expired`]; [`Timestamp::MAX`] for none.
    pub next: Timestamp,
}

/// How long finished jobs are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Succeeded jobs that ended before this may be forgotten.
    pub succeeded_before: Timestamp,
    /// Other finished jobs that ended before this may be forgotten.
    pub others_before: Timestamp,
    /// The most finished jobs to keep; the oldest go first. Engines also keep to this by themselves.
    pub most: usize,
}

/// The counts of one queue. At every instant, `pushed + restored` is the sum of the jobs in every state:
/// `blocked + scheduled + queued + running + succeeded + failed + cancelled + expired + shed`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct QueueCounts {
    /// Which queue.
    pub queue: QueueId,
    /// Whether it is paused.
    pub paused: bool,
    /// Jobs that wait for tokens.
    pub blocked: u64,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that wait for a worker.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
    /// Finished jobs that are still known.
    pub kept: u64,
    /// What has happened since the start.
    pub totals: Totals,
}

macro_rules! totals {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What has happened in a queue since the engine was opened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct Totals { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Totals {
            /// How many totals there are.
            pub const COUNT: usize = [$(stringify!($name)),+].len();

            /// Every total with its name, in a fixed order.
            #[must_use]
            pub fn named(&self) -> [(&'static str, u64); Self::COUNT] {
                [$((stringify!($name), self.$name)),+]
            }

            /// What each of them counts, in the same order, in a sentence.
            #[must_use]
            pub const fn described() -> [&'static str; Self::COUNT] {
                [$(concat!($($doc),+)),+]
            }

            /// The same, to be changed.
            pub fn named_mut(&mut self) -> [(&'static str, &mut u64); Self::COUNT] {
                [$((stringify!($name), &mut self.$name)),+]
            }
        }
    };
}

totals! {
    /// Jobs stored by a push.
    pushed,
    /// Jobs stored by a restore.
    restored,
    /// Attempts started.
    claimed,
    /// Jobs that ended well.
    succeeded,
    /// Jobs that ended badly.
    failed,
    /// Jobs that were cancelled or purged.
    cancelled,
    /// Jobs whose deadline passed.
    expired,
    /// Attempts that failed and are followed by another.
    retried,
    /// Attempts given back: snoozed, or handed back by a stop.
    returned,
    /// Answers that came too late and changed nothing.
    stale,
    /// Pushes refused because the queue was full.
    refused,
    /// Jobs shed as they came, because the queue was full.
    shed_newest,
    /// Jobs shed because the queue was full and they had waited longest.
    shed_oldest,
    /// Jobs shed because the queue was full and their priority was the lowest.
    shed_lowest,
    /// Jobs shed because the queue was full and a newer one of their concurrency key came.
    shed_coalesced,
    /// Jobs shed because the queue was full and they were not in the sample.
    shed_sampled,
    /// Jobs shed because they had waited too long in an overloaded queue.
    shed_delayed,
}

impl Totals {
    /// The jobs that were shed for this reason.
    pub fn of_mut(&mut self, reason: ShedReason) -> &mut u64 {
        match reason {
            ShedReason::Newest => &mut self.shed_newest,
            ShedReason::Oldest => &mut self.shed_oldest,
            ShedReason::Lowest => &mut self.shed_lowest,
            ShedReason::Coalesced => &mut self.shed_coalesced,
            ShedReason::Sampled => &mut self.shed_sampled,
            ShedReason::Delayed => &mut self.shed_delayed,
        }
    }

    /// The jobs that were shed, by reason.
    #[must_use]
    pub fn shed_by(mut self) -> Vec<(ShedReason, u64)> {
        ShedReason::ALL.iter().map(|r| (*r, *self.of_mut(*r))).collect()
    }

    /// The jobs that were shed.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed_newest
            .wrapping_add(self.shed_oldest)
            .wrapping_add(self.shed_lowest)
            .wrapping_add(self.shed_coalesced)
            .wrapping_add(self.shed_sampled)
            .wrapping_add(self.shed_delayed)
    }
}

impl QueueCounts {
    /// A queue in which nothing has happened yet.
    #[must_use]
    pub fn new(queue: QueueId) -> Self {
        Self {
            queue,
            paused: false,
            blocked: 0,
            scheduled: 0,
            queued: 0,
            running: 0,
            kept: 0,
            totals: Totals::default(),
        }
    }

    /// Jobs that wait, in whatever way: the length of the queue.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.blocked + self.scheduled + self.queued
    }

    /// Whether every accepted job is accounted for.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let t = &self.totals;
        let ended = t.succeeded + t.failed + t.cancelled + t.expired + t.shed();
        t.pushed + t.restored == ended + self.waiting() + self.running
    }
}
