//! What the files of this folder cannot test alone.

mod batch;
mod flows;
mod jobs;
mod journal;
mod keys;
#[cfg(not(shuttle))]
mod locks;
mod model;
mod order;
mod races;
mod shed;
#[cfg(shuttle)]
mod shuttle_flows;
#[cfg(shuttle)]
mod shuttle_shed;
mod speed;
mod time;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::MemoryEngine;
use crate::durability::Durability;
use crate::engine::{
    Applied, Batch, BatchReceipt, Claim, Claimed, Engine, Insert, Inserted, JobRef, KeyLimits, KindClaim,
    Overdue, Parcel, QueueCounts, Victim,
};
use crate::id::JobId;
use crate::job::{Extras, Job, State};
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, FailureKind, ShedReason, Transition};
use crate::payload::Payload;
use crate::time::Timestamp;

pub(super) const Q: QueueId = QueueId(0);
pub(super) const KINDS: u16 = 3;

/// A job without anything special.
pub(super) fn plain(id: JobId) -> Insert<'static> {
    static EMPTY: Payload = Payload::empty();
    Insert::plain(id, &EMPTY)
}

fn id(n: u128) -> JobId {
    JobId::from_u128(n)
}

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn keyed(key: &str, fingerprint: u64) -> Arc<Extras> {
    Arc::new(Extras {
        key: Some(key.into()),
        fingerprint,
        ..Extras::default()
    })
}

/// What a running job's holder, or somebody about a waiting job, may say.
pub(super) fn says(job: JobRef, running: bool, to: State) -> Transition {
    let failure = (to != State::Succeeded).then(|| Failure::new(FailureKind::Error, "told so"));
    Transition {
        job,
        running,
        to,
        delay: Duration::ZERO,
        refund: false,
        keeps_place: false,
        answers_cancel: to == State::Cancelled,
        result: (to == State::Succeeded).then(|| Payload::from("result")),
        failure,
    }
}

/// An engine with one queue and a clock that stands still.
struct Rig {
    engine: MemoryEngine,
    now: Cell<Timestamp>,
    node: Arc<str>,
    /// What its claims say of concurrency keys.
    limits: Cell<KeyLimits>,
}

impl Rig {
    fn new() -> Self {
        Self::keeping(1000)
    }

    fn keeping(finished: usize) -> Self {
        Self::with(MemoryEngine::new(finished))
    }

    fn with(engine: MemoryEngine) -> Self {
        engine.names.queue("q").unwrap();
        engine.names.queue("other").unwrap();
        for kind in 0..KINDS {
            engine.names.kind(&format!("k{kind}")).unwrap();
        }
        Self {
            engine,
            now: Cell::new(Timestamp::from_micros(1_000_000)),
            node: "here".into(),
            limits: Cell::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn advance(&self, by: u64) {
        self.now.set(self.now().after(us(by)));
    }

    fn later(&self, by: u64) -> Timestamp {
        self.now().after(us(by))
    }

    fn push(&self, job: Insert<'_>) -> Inserted {
        let mut receipt = Vec::new();
        self.engine.insert(&[job], self.now(), &mut receipt).unwrap();
        assert_eq!(receipt.len(), 1);
        receipt[0]
    }

    fn push_ids(&self, ids: impl IntoIterator<Item = u128>) {
        for n in ids {
            assert_eq!(self.push(plain(id(n))), Inserted::New);
        }
    }

    fn turn(&self, done: Vec<Transition>, claim: Option<(&[u32], usize)>) -> (Vec<Applied>, Vec<Claimed>) {
        self.turn_for(done, claim, false)
    }

    /// Claims up to `limit` jobs of any kind, to pass them on.
    fn relay(&self, limit: usize) -> Vec<Claimed> {
        self.turn_for(Vec::new(), Some((&[u32::MAX; KINDS as usize], limit)), true)
            .1
    }

    fn turn_for(
        &self,
        done: Vec<Transition>,
        claim: Option<(&[u32], usize)>,
        relays: bool,
    ) -> (Vec<Applied>, Vec<Claimed>) {
        let (mut done, mut applied, mut out) = (done, Vec::new(), Vec::new());
        let mut kinds: Vec<KindClaim> = claim
            .map_or(&[][..], |c| c.0)
            .iter()
            .map(|allowance| KindClaim {
                allowance: *allowance,
                max_attempts: 3,
                timeout: None,
            })
            .collect();
        let mut claim = claim.map(|(_, limit)| Claim {
            queue: Q,
            kinds: &mut kinds,
            limit,
            lease: None,
            node: &self.node,
            worker: 7,
            keys: self.limits.get(),
            relays,
            out: &mut out,
        });
        let now = self.now();
        self.engine
            .turn(&mut done, &mut applied, claim.as_mut(), now)
            .unwrap();
        (applied, out)
    }

    /// Claims up to `limit` jobs of any kind.
    fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.turn(Vec::new(), Some((&[u32::MAX; KINDS as usize], limit)))
            .1
    }

    fn claim_kinds(&self, allowances: &[u32], limit: usize) -> Vec<u128> {
        numbers(&self.turn(Vec::new(), Some((allowances, limit))).1)
    }

    fn claim_one(&self) -> Claimed {
        self.claim(1).pop().expect("a job is there")
    }

    fn claim_all(&self) -> Vec<u128> {
        numbers(&self.claim(usize::MAX))
    }

    fn apply(&self, t: Transition) -> Applied {
        self.turn(vec![t], None).0[0]
    }

    fn finish(&self, job: &Claimed) {
        assert_eq!(self.apply(says(job.job, true, State::Succeeded)), Applied::Yes);
    }

    fn waiting(&self, n: u128) -> JobRef {
        self.engine.standing(id(n)).unwrap().unwrap().job
    }

    fn cancel(&self, n: u128) -> Applied {
        self.apply(says(self.waiting(n), false, State::Cancelled))
    }

    fn get(&self, n: u128) -> Job {
        self.engine.get(id(n)).unwrap().expect("the job is known")
    }

    fn state(&self, n: u128) -> Option<State> {
        self.engine.get(id(n)).unwrap().map(|j| j.state)
    }

    fn counts(&self) -> QueueCounts {
        let counts = self.engine.counts().unwrap().swap_remove(0);
        assert!(counts.balanced(), "{counts:?}");
        let room = self.engine.shared.queues.get(Q).room.waiting();
        assert_eq!(counts.waiting(), room as u64);
        self.check_bytes();
        counts
    }

    /// The bytes that are counted are those that are there.
    fn check_bytes(&self) {
        let room = &self.engine.shared.queues.get(Q).room;
        let waiting = self
            .engine
            .records()
            .filter(|r| r.queue() == Q && r.state().is_waiting());
        let bytes: usize = waiting.map(|r| r.weight()).sum();
        assert_eq!(room.bytes(), if room.weighs() { bytes } else { 0 });
    }

    fn load(&self) -> (usize, usize) {
        let load = Engine::load(&self.engine, Q).unwrap();
        (load.jobs, load.bytes)
    }

    fn evict(&self, victim: Victim<'_>, reason: ShedReason) -> Option<u128> {
        let shed = self.engine.evict(Q, victim, reason, self.now()).unwrap();
        let at = shed?;
        assert_eq!((at.queue, at.state), (Q, State::Shed));
        Some(at.job.id.as_u128())
    }

    fn overdue(&self) -> Vec<Overdue> {
        let mut out = Vec::new();
        self.engine.expired(usize::MAX, self.now(), &mut out).unwrap();
        out
    }
}

fn numbers(claimed: &[Claimed]) -> Vec<u128> {
    claimed.iter().map(|c| c.job.id.as_u128()).collect()
}
