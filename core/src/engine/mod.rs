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

mod claim;
mod counts;
#[cfg(feature = "sqlite")]
pub mod durable;
mod insert;
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

pub use claim::{Claim, Claimed, KeyLimits, KeyStanding, KindClaim};
pub use counts::{QueueCounts, Totals};
pub use insert::{Insert, Inserted, Parcel, Resident, Restored};

use crate::bell::Bell;
use crate::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::finished::Finished;
use crate::id::JobId;
use crate::job::{Extras, Filter, Job, Page, Priority, State, Token};
pub use crate::job::{Handle, JobRef};
use crate::names::{KindId, Names, QueueId};
use crate::outcome::{ShedReason, Transition};
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
