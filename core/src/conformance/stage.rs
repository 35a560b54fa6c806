//! What the cases stand on: an engine by itself ([`Raw`]), and one with a dispatcher and a clock that stands
//! still ([`Stage`]).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::Make;
use crate::dispatcher::{Answer, Consumer, Dispatcher, KindSet, Lease};
use crate::durability::Durability;
use crate::engine::{
    Applied, Batch, BatchReceipt, Cause, Claim, Claimed, Engine, Insert, Inserted, KeyLimits, KindClaim,
    Located, Overdue, Parcel, QueueCounts, Restored,
};
use crate::job::{Extras, Job, JobRef, NewJob, Priority, State, Token};
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, FailureKind, Outcome, ShedReason, Transition};
use crate::payload::Payload;
use crate::time::{Clock, Deadline, ManualClock, Timestamp};
use crate::{JobId, Options};

/// For what must happen: long enough for any machine.
pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// For what must have happened already.
pub(super) fn at_once() -> Deadline {
    Deadline::after(Duration::ZERO)
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// An engine without a dispatcher: one queue, one kind, and a `now` that the case moves.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) queue: QueueId,
    pub(super) kind: KindId,
    now: Cell<Timestamp>,
    node: Arc<str>,
}

/// An [`Insert`] that owns what it shows.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) id: JobId,
    pub(super) queue: QueueId,
    pub(super) kind: KindId,
    pub(super) payload: Payload,
    pub(super) priority: Priority,
    pub(super) run_at: Timestamp,
    pub(super) max_attempts: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Timestamp,
    pub(super) extras: Option<Arc<Extras>>,
    pub(super) waits: Vec<Token>,
    pub(super) capacity: usize,
    pub(super) capacity_bytes: usize,
    pub(super) shed: Option<ShedReason>,
    pub(super) durability: Durability,
    pub(super) restored: Option<Restored>,
}

impl Spec {
    pub(super) fn insert(&self) -> Insert<'_> {
        Insert {
            id: self.id,
            fresh: false,
            queue: self.queue,
            kind: self.kind,
            payload: Parcel::Shared(&self.payload),
            priority: self.priority,
            run_at: self.run_at,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            deadline: self.deadline,
            extras: self.extras.as_ref(),
            waits: &self.waits,
            capacity: self.capacity,
            capacity_bytes: self.capacity_bytes,
            undecided: false,
            resident: crate::engine::Resident::default(),
            shed: self.shed,
            durability: self.durability,
            restored: self.restored.as_ref(),
        }
    }

    /// The same job under a concurrency key.
    pub(super) fn of(self, key: &str) -> Self {
        let extras = Extras {
            concurrency_key: Some(key.into()),
            ..Extras::default()
        };
        Self {
            extras: Some(Arc::new(extras)),
            ..self
        }
    }

    /// The same job under a key; the fingerprint stands for the payload.
    pub(super) fn key(self, key: &str, fingerprint: u64) -> Self {
        let extras = Extras {
            key: Some(key.into()),
            fingerprint,
            ..Extras::default()
        };
        Self {
            extras: Some(Arc::new(extras)),
            ..self
        }
    }
}

impl Raw {
    pub(super) fn new(make: Make<'_>) -> Self {
        let engine = make();
        let (queue, kind) = (
            engine.names().queue("q").unwrap(),
            engine.names().kind("k").unwrap(),
        );
        let now = Cell::new(ManualClock::new().now());
        Self {
            engine,
            queue,
            kind,
            now,
            node: "node".into(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now.get()
    }

    pub(super) fn advance(&self, by: Duration) {
        self.now.set(self.now().after(by));
    }

    /// The same at another instant, earlier or later.
    pub(super) fn at_time(self, now: Timestamp) -> Self {
        self.now.set(now);
        self
    }

    pub(super) fn in_(&self, delay: Duration) -> Timestamp {
        self.now().after(delay)
    }

    /// A plain job that may run five times.
    pub(super) fn spec(&self) -> Spec {
        Spec {
            id: JobId::new(self.now()),
            queue: self.queue,
            kind: self.kind,
            payload: Payload::from(b"payload"),
            priority: 0,
            run_at: self.now(),
            max_attempts: 5,
            timeout: None,
            deadline: Timestamp::MAX,
            extras: None,
            waits: Vec::new(),
            capacity: 0,
            capacity_bytes: 0,
            shed: None,
            durability: self.engine.capabilities().durability,
            restored: None,
        }
    }

    pub(super) fn specs(&self, count: usize) -> Vec<Spec> {
        (0..count).map(|_| self.spec()).collect()
    }

    pub(super) fn put(&self, specs: &[Spec]) -> Vec<Inserted> {
        let inserts: Vec<_> = specs.iter().map(Spec::insert).collect();
        let mut receipt = Vec::new();
        self.engine.insert(&inserts, self.now(), &mut receipt).unwrap();
        receipt
    }

    /// Stores one job and gives its id.
    pub(super) fn add(&self, spec: Spec) -> JobId {
        assert_eq!(self.put(std::slice::from_ref(&spec)), [Inserted::New]);
        spec.id
    }

    /// What a claimer of every kind named so far asks for.
    pub(super) fn any(&self) -> Vec<KindClaim> {
        let one = KindClaim {
            allowance: u32::MAX,
            max_attempts: 5,
            timeout: None,
        };
        vec![one; self.engine.names().kind_count()]
    }

    pub(super) fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.claim_as(limit, &mut self.any(), None)
    }

    pub(super) fn claim_leased(&self, limit: usize, lease: Duration) -> Vec<Claimed> {
        self.claim_as(limit, &mut self.any(), Some(lease))
    }

    pub(super) fn claim_as(
        &self,
        limit: usize,
        kinds: &mut [KindClaim],
        lease: Option<Duration>,
    ) -> Vec<Claimed> {
        self.claim_for((limit, lease), kinds, (KeyLimits::default(), false))
    }

    /// Claims to pass on what there is.
    pub(super) fn claim_to_relay(&self, limit: usize) -> Vec<Claimed> {
        self.claim_for((limit, None), &mut self.any(), (KeyLimits::default(), true))
    }

    /// Claims under these limits of the concurrency keys.
    pub(super) fn claim_keyed(&self, limit: usize, keys: KeyLimits) -> Vec<Claimed> {
        self.claim_for((limit, None), &mut self.any(), (keys, false))
    }

    pub(super) fn claim_for(
        &self,
        (limit, lease): (usize, Option<Duration>),
        kinds: &mut [KindClaim],
        (keys, relays): (KeyLimits, bool),
    ) -> Vec<Claimed> {
        let (queue, node) = (self.queue, &self.node);
        let mut out = Vec::new();
        let mut claim = Claim {
            queue,
            kinds,
            limit,
            lease,
            node,
            worker: 7,
            keys,
            relays,
            out: &mut out,
        };
        self.engine
            .turn(&mut [], &mut Vec::new(), Some(&mut claim), self.now())
            .unwrap();
        out
    }

    /// Claims the one job that must be there.
    pub(super) fn claim_one(&self) -> Claimed {
        self.claim(1).pop().expect("there is a job to claim")
    }

    pub(super) fn claimed_ids(&self, limit: usize) -> Vec<JobId> {
        self.claim(limit).into_iter().map(|c| c.job.id).collect()
    }

    pub(super) fn apply(&self, transition: Transition) -> Applied {
        self.apply_all(&mut [transition])[0]
    }

    pub(super) fn apply_all(&self, transitions: &mut [Transition]) -> Vec<Applied> {
        let mut applied = Vec::new();
        self.engine
            .turn(transitions, &mut applied, None, self.now())
            .unwrap();
        applied
    }

    /// Ends a running job in this state.
    pub(super) fn end(&self, job: JobRef, state: State) -> Applied {
        self.apply(to(job, state))
    }

    pub(super) fn commit(
        &self,
        inserts: &[Spec],
        transitions: &mut [Transition],
        signals: &[(JobId, Token)],
    ) -> BatchReceipt {
        let inserts: Vec<_> = inserts.iter().map(Spec::insert).collect();
        let mut receipt = BatchReceipt::default();
        let mut batch = Batch {
            inserts: &inserts,
            transitions,
            signals,
            durability: Durability::Memory,
        };
        self.engine.commit(&mut batch, self.now(), &mut receipt).unwrap();
        receipt
    }

    pub(super) fn signal(&self, id: JobId, token: &str) {
        self.commit(&[], &mut [], &[(id, token.into())]);
    }

    pub(super) fn get(&self, id: JobId) -> Job {
        self.engine.get(id).unwrap().expect("the job is known")
    }

    pub(super) fn at(&self, id: JobId) -> Located {
        self.engine.standing(id).unwrap().expect("the job is known")
    }

    pub(super) fn state(&self, id: JobId) -> State {
        self.at(id).state
    }

    pub(super) fn counts(&self) -> QueueCounts {
        self.counts_of(self.queue)
    }

    pub(super) fn counts_of(&self, queue: QueueId) -> QueueCounts {
        let counts = self.engine.counts().unwrap();
        counts
            .into_iter()
            .find(|c| c.queue == queue)
            .unwrap_or_else(|| QueueCounts::new(queue))
    }

    pub(super) fn tick(&self) -> crate::engine::Tick {
        self.engine.tick(usize::MAX, self.now()).unwrap()
    }

    pub(super) fn overdue(&self) -> Vec<Overdue> {
        let mut out = Vec::new();
        self.engine.expired(1000, self.now(), &mut out).unwrap();
        out
    }

    pub(super) fn causes(&self) -> Vec<(JobId, Cause)> {
        self.overdue()
            .into_iter()
            .map(|o| (o.at.job.id, o.cause))
            .collect()
    }
}

/// A transition of a running job.
pub(super) fn to(job: JobRef, state: State) -> Transition {
    Transition {
        job,
        running: true,
        to: state,
        delay: Duration::ZERO,
        refund: false,
        keeps_place: false,
        answers_cancel: state == State::Cancelled,
        result: (state == State::Succeeded).then(|| Payload::from("result")),
        failure: (state != State::Succeeded).then(|| Failure::new(FailureKind::Error, "why")),
    }
}

/// A transition of a job that waits.
pub(super) fn waiting(job: JobRef, state: State) -> Transition {
    Transition {
        running: false,
        ..to(job, state)
    }
}

/// Back to the queue after `delay`.
pub(super) fn again(job: JobRef, delay: Duration) -> Transition {
    Transition {
        delay,
        ..to(job, State::Scheduled)
    }
}

/// A dispatcher over an engine, with a clock that stands still.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) d: Dispatcher,
    pub(super) clock: Arc<ManualClock>,
}

impl Stage {
    pub(super) fn new(make: Make<'_>) -> Self {
        Self::with(make, |_| ())
    }

    pub(super) fn with(make: Make<'_>, options: impl FnOnce(&mut Options)) -> Self {
        Self::over(make(), options)
    }

    pub(super) fn over(engine: Arc<dyn Engine>, set: impl FnOnce(&mut Options)) -> Self {
        let clock = Arc::new(ManualClock::new());
        let mut options = Options::default();
        set(&mut options);
        let d = Dispatcher::with_clock(engine, options, clock.clone()).unwrap();
        Self { d, clock }
    }

    /// Moves the clock and does what is due then.
    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.d.upkeep().unwrap();
    }

    pub(super) fn push(&self, job: NewJob<'_>) -> JobId {
        let pushed = self.d.push(job).unwrap();
        assert!(pushed.created);
        pushed.id
    }

    /// A consumer of every kind.
    pub(super) fn consumer(&self) -> Consumer {
        self.d.consumer(Arc::new(KindSet::any()))
    }

    /// The next job, which must be there.
    pub(super) fn take(&self) -> Lease {
        self.try_take().expect("there is a job to take")
    }

    pub(super) fn try_take(&self) -> Option<Lease> {
        self.consumer().next(at_once()).unwrap()
    }

    /// Takes the next job and answers for it.
    pub(super) fn run(&self, outcome: Outcome) -> Answer {
        self.take().complete(outcome).unwrap()
    }

    pub(super) fn get(&self, id: JobId) -> Job {
        self.d.get(id).unwrap()
    }

    pub(super) fn state(&self, id: JobId) -> State {
        self.d.state(id).unwrap()
    }

    pub(super) fn counts(&self) -> QueueCounts {
        self.d.stats().unwrap().total()
    }

    /// Every queue accounts for every job.
    pub(super) fn check_balance(&self) {
        for queue in self.d.stats().unwrap().queues {
            assert!(queue.counts.balanced(), "{queue:?}");
        }
    }
}

/// A job of the kind `k`.
pub(super) fn job() -> NewJob<'static> {
    NewJob::new("k", b"payload")
}

/// Waits until `done`, looking again whenever another thread may have got on.
pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = soon();
    while !done() {
        assert!(!deadline.passed(), "{what} did not come to pass");
        std::thread::yield_now();
    }
}
