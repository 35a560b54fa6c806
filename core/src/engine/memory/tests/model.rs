//! The engine against a model: random calls, and after each of them everything that can be seen is the
//! same.

mod contract;
mod steps;

use proptest::prelude::*;

use contract::{Entry, Model};
use steps::{Ask, Push, Say, Step, steps};

use super::*;
use crate::engine::{Batch, BatchReceipt, Cause, Held, Retention, Tick};
use crate::job::Token;

const QUEUES: usize = 2;
const KEEP: usize = 12;
const FOREVER: Timestamp = Timestamp::MAX;

/// An engine and its model, side by side.
struct Pair {
    rig: Rig,
    model: Model,
    /// Every claim ever made.
    claims: Vec<JobRef>,
    ids: Vec<JobId>,
}

impl Pair {
    fn new() -> Self {
        let model = Model::default();
        Self {
            rig: Rig::keeping(KEEP),
            model,
            claims: Vec::new(),
            ids: Vec::new(),
        }
    }

    fn with_inserts<R>(&mut self, pushes: &[Push], act: impl FnOnce(&mut Self, &[Insert<'_>]) -> R) -> R {
        let now = self.rig.now();
        let payload = Payload::from("p");
        let extras: Vec<_> = pushes
            .iter()
            .map(|p| p.key.map(|(key, print)| keyed(&format!("key{key}"), print)))
            .collect();
        let waits: Vec<Vec<Token>> = pushes
            .iter()
            .map(|p| p.waits.iter().map(|w| w.to_string().into()).collect())
            .collect();
        let restored = crate::engine::Restored {
            attempt: 1,
            fence: 5,
            created: Timestamp::EPOCH,
            crashes: 0,
            history: Vec::new(),
        };
        let jobs: Vec<_> = pushes
            .iter()
            .zip(&extras)
            .zip(&waits)
            .map(|((p, extras), waits)| Insert {
                fresh: false,
                id: id(p.id),
                queue: QueueId(p.queue as u16),
                kind: KindId(p.kind as u16),
                payload: Parcel::Shared(&payload),
                priority: p.priority,
                run_at: now.after(us(p.delay)),
                max_attempts: p.max_attempts,
                timeout: p.timeout.map(us),
                deadline: p.deadline.map_or(FOREVER, |d| now.after(us(d))),
                extras: extras.as_ref(),
                waits,
                capacity: p.capacity,
                capacity_bytes: 0,
                undecided: false,
                resident: crate::engine::Resident::default(),
                shed: None,
                durability: Durability::Memory,
                restored: p.restored.then_some(&restored),
            })
            .collect();
        self.ids.extend(jobs.iter().map(|j| j.id));
        act(self, &jobs)
    }

    /// Which job somebody speaks about: one that was claimed lately, or one that was pushed.
    fn meant(&self, say: &Say) -> (JobRef, bool) {
        let back = |n: usize| Some(self.claims[self.claims.len().checked_sub(n + 1)?]);
        if let Some(job) = say.claim.and_then(back) {
            return (job, true);
        }
        let id = id(say.job as u128 * 61);
        match self.rig.engine.standing(id).unwrap() {
            Some(at) => (at.job, false),
            None => (
                JobRef {
                    id,
                    ..JobRef::default()
                },
                false,
            ),
        }
    }

    fn transitions(&self, says_them: &[Say]) -> Vec<Transition> {
        let one = |say: &Say| {
            let (job, running) = self.meant(say);
            Transition {
                delay: us(say.delay),
                refund: say.refund && say.to == State::Scheduled,
                keeps_place: say.keeps_place,
                answers_cancel: say.answers,
                result: say.failure.then(|| Payload::from("r")),
                failure: (say.failure && say.to != State::Succeeded)
                    .then(|| Failure::new(FailureKind::Error, "f")),
                ..says(job, running, say.to)
            }
        };
        says_them.iter().map(one).collect()
    }

    fn step(&mut self, step: &Step) {
        let now = self.rig.now();
        match step {
            Step::Insert(pushes) => self.with_inserts(pushes, |pair, jobs| pair.insert(jobs)),
            Step::Turn(says_them, ask) => self.turn(says_them, ask.as_ref()),
            Step::Commit(pushes, says_them, tokens) => {
                let transitions = self.transitions(says_them);
                self.with_inserts(pushes, |pair, jobs| pair.commit(jobs, transitions, tokens));
            }
            Step::Advance(by) => self.rig.advance(*by),
            Step::Tick(limit) => {
                let promoted = self.model.promote(*limit, now);
                let next = self.model.next_due();
                assert_eq!(
                    self.rig.engine.tick(*limit, now).unwrap(),
                    Tick { promoted, next }
                );
            }
            Step::Pause(queue, paused) => {
                self.model.paused[*queue] = *paused;
                self.rig
                    .engine
                    .set_paused(QueueId(*queue as u16), *paused)
                    .unwrap();
            }
            Step::Extend(back, lease) => self.extend(*back, us(*lease)),
            Step::RequestCancel(back) => self.request_cancel(*back),
            Step::Prune(succeeded, others, most, limit) => self.prune((*succeeded, *others), *most, *limit),
        }
        self.model.forget_excess(KEEP, usize::MAX);
        self.note_handles();
    }

    fn insert(&mut self, jobs: &[Insert<'_>]) {
        let (now, mut receipt) = (self.rig.now(), Vec::new());
        self.rig.engine.insert(jobs, now, &mut receipt).unwrap();
        self.model.promote(usize::MAX, now);
        let mut want = Vec::new();
        for job in jobs {
            want.push(self.model.insert(job, now));
            if matches!(want.last(), Some(Inserted::Full(_) | Inserted::Conflict(_))) {
                break;
            }
        }
        assert_eq!(receipt, want);
    }

    fn turn(&mut self, says_them: &[Say], ask: Option<&Ask>) {
        let (now, mut applied, mut out) = (self.rig.now(), Vec::new(), Vec::new());
        let mut done = self.transitions(says_them);
        self.model.promote(usize::MAX, now);
        let want: Vec<_> = done.iter().map(|t| self.model.apply(t, now)).collect();
        let claimed = ask.map_or(Vec::new(), |ask| self.model.claim(ask, now));
        let mut kinds: Vec<_> = ask
            .map_or(&[][..], |a| &a.allowances)
            .iter()
            .map(|n| KindClaim {
                allowance: *n,
                max_attempts: 3,
                timeout: ask.and_then(|a| a.timeout).map(us),
            })
            .collect();
        let mut claim = ask.map(|ask| Claim {
            queue: QueueId(ask.queue as u16),
            kinds: &mut kinds,
            limit: ask.limit,
            lease: ask.lease.map(us),
            node: &self.rig.node,
            worker: 7,
            keys: crate::engine::KeyLimits::default(),
            relays: false,
            out: &mut out,
        });
        self.rig
            .engine
            .turn(&mut done, &mut applied, claim.as_mut(), now)
            .unwrap();
        assert_eq!(applied, want);
        assert_eq!(out.iter().map(|c| c.job.id).collect::<Vec<_>>(), claimed);
        for c in &out {
            let e = &self.model.jobs[&c.job.id];
            assert_eq!(
                (c.job.fence, c.attempt, c.max_attempts),
                (e.fence, e.attempt, e.max_attempts)
            );
            assert_eq!((c.due, c.deadline), (e.timeout_at.min(e.lease_until), e.deadline));
            assert_eq!(c.payload.len(), Some(1));
            self.claims.push(c.job);
        }
    }

    fn commit(
        &mut self,
        inserts: &[Insert<'_>],
        mut transitions: Vec<Transition>,
        tokens: &[(usize, usize)],
    ) {
        let now = self.rig.now();
        let signals: Vec<(JobId, Token)> = tokens
            .iter()
            .map(|(job, token)| (id(*job as u128 * 61), token.to_string().into()))
            .collect();
        self.model.promote(usize::MAX, now);
        let mut after = self.model.clone();
        let mut want = BatchReceipt {
            applied: false,
            transitions: transitions.iter().map(|t| after.apply(t, now)).collect(),
            inserted: inserts.iter().map(|job| after.insert(job, now)).collect(),
        };
        signals
            .iter()
            .for_each(|(id, token)| after.deliver(*id, token, now));
        let refused = |i: &Inserted| matches!(i, Inserted::Conflict(_) | Inserted::Full(_));
        want.applied =
            want.transitions.iter().all(|a| *a == Applied::Yes) && !want.inserted.iter().any(refused);
        let mut receipt = BatchReceipt::default();
        let mut batch = Batch {
            inserts,
            transitions: &mut transitions,
            signals: &signals,
            durability: Durability::Memory,
        };
        self.rig.engine.commit(&mut batch, now, &mut receipt).unwrap();
        assert_eq!(receipt, want);
        if want.applied {
            self.model = after;
        } else {
            for (mine, theirs) in self.model.totals.iter_mut().zip(&after.totals) {
                (mine.stale, mine.refused) = (theirs.stale, theirs.refused);
            }
        }
    }

    fn extend(&mut self, back: usize, lease: Duration) {
        let Some(job) = self.claims.len().checked_sub(back + 1).map(|n| self.claims[n]) else {
            return;
        };
        let now = self.rig.now();
        let mine =
            self.model.jobs.get_mut(&job.id).filter(|e| {
                e.state == State::Running && e.fence == job.fence && e.handle.handle == job.handle
            });
        let want = match mine {
            None => Held::Lost,
            Some(e) => {
                e.lease_until = now.after(lease);
                if e.cancel {
                    Held::CancelRequested
                } else {
                    Held::Yes
                }
            }
        };
        let mut held = Vec::new();
        self.rig.engine.extend(&[job], lease, now, &mut held).unwrap();
        assert_eq!(held, [want]);
    }

    fn request_cancel(&mut self, back: usize) {
        let Some(job) = self.claims.len().checked_sub(back + 1).map(|n| self.claims[n]) else {
            return;
        };
        let mine =
            self.model.jobs.get_mut(&job.id).filter(|e| {
                e.state == State::Running && e.fence == job.fence && e.handle.handle == job.handle
            });
        let want = mine.map(|e| e.cancel = true).is_some();
        assert_eq!(self.rig.engine.request_cancel(job).unwrap(), want);
    }

    fn prune(&mut self, ages: (u64, u64), most: usize, limit: usize) {
        let now = self.rig.now();
        let before = |age: u64| Timestamp::from_micros(now.as_micros() - age as i64);
        let keep = Retention {
            succeeded_before: before(ages.0),
            others_before: before(ages.1),
            most,
        };
        let old = self.model.too_old(keep);
        let count = self.rig.engine.prune(keep, limit, now).unwrap();
        // Which of the old ones go first is not promised.
        let gone: Vec<_> = old
            .iter()
            .filter(|id| self.rig.engine.get(**id).unwrap().is_none())
            .collect();
        let by_age = old.len().min(limit);
        assert!(gone.len() >= by_age);
        if old.len() >= limit {
            assert_eq!(gone.len(), limit);
        }
        let (all, by_age) = (gone.len(), if old.len() > limit { limit } else { old.len() });
        gone.into_iter().for_each(|id| _ = self.model.jobs.remove(id));
        assert_eq!(all, by_age);
        assert_eq!(count, by_age + self.model.forget_excess(most, limit - by_age));
    }

    /// Handles are the engine's business: the model learns them.
    fn note_handles(&mut self) {
        for (id, e) in &mut self.model.jobs {
            let at = self
                .rig
                .engine
                .standing(*id)
                .unwrap()
                .expect("the model knows it");
            e.handle = at.job;
        }
    }

    fn compare(&self) {
        for id in &self.ids {
            let (job, e) = (self.rig.engine.get(*id).unwrap(), self.model.jobs.get(id));
            assert_eq!(job.is_some(), e.is_some(), "{id}");
            if let (Some(job), Some(e)) = (job, e) {
                self.compare_one(&job, e);
            }
        }
        for (number, counts) in self.rig.engine.counts().unwrap().iter().enumerate() {
            let of = |state| {
                self.model
                    .jobs
                    .values()
                    .filter(|e| e.queue == number && e.state == state)
                    .count() as u64
            };
            assert!(counts.balanced(), "{counts:?}");
            assert_eq!(
                (counts.blocked, counts.scheduled, counts.queued, counts.running),
                (
                    of(State::Blocked),
                    of(State::Scheduled),
                    of(State::Queued),
                    of(State::Running)
                )
            );
            assert_eq!(
                counts.kept,
                State::ALL
                    .iter()
                    .filter(|s| s.is_final())
                    .map(|s| of(*s))
                    .sum::<u64>()
            );
            assert_eq!(
                (counts.totals, counts.paused),
                (self.model.totals[number], self.model.paused[number])
            );
            let room = self
                .rig
                .engine
                .shared
                .queues
                .find(counts.queue)
                .map_or(0, |q| q.room.waiting());
            assert_eq!(room, self.model.waiting(number));
        }
        let mut overdue: Vec<_> = self
            .rig
            .overdue()
            .iter()
            .map(|o| (o.at.job.id, o.cause))
            .collect();
        overdue.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(overdue, self.model.overdue(self.rig.now()));
        let holds = |(key, id): &(&String, &JobId)| self.model.jobs.get(id).is_some_and(|e| e.holds(key));
        let holders = self.model.holders.iter().filter(holds);
        assert_eq!(self.rig.engine.keys.len(), holders.count());
    }

    fn compare_one(&self, job: &Job, e: &Entry) {
        let over = e.state.is_final();
        assert_eq!(
            (job.state, job.fence, job.attempt),
            (e.state, e.fence, e.attempt),
            "{job:?}"
        );
        assert_eq!(
            (job.started, job.finished, job.run_at),
            (e.started, e.finished, e.run_at)
        );
        assert_eq!(job.max_attempts.unwrap_or(0), e.max_attempts);
        assert_eq!(
            job.lease_until,
            (!over && e.lease_until != FOREVER).then_some(e.lease_until)
        );
        assert_eq!((&job.waits, job.cancel_requested), (&e.waits, e.cancel));
        assert_eq!(
            (job.result.is_some(), job.payload.is_empty()),
            (e.result, e.state == State::Succeeded)
        );
        let history: Vec<_> = job
            .history
            .iter()
            .map(|a| (a.number, a.failure.is_some()))
            .collect();
        assert_eq!(history, e.history);
        let failed = e.history.last().is_some_and(|(_, failed)| *failed);
        assert_eq!(
            job.error.is_some(),
            e.state != State::Succeeded && (failed || e.ended_waiting)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 300 } else { 3000 },
        // A failure prints its steps, which say more than a seed in a file.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn it_is_the_contract(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
            pair.compare();
        }
    }
}
