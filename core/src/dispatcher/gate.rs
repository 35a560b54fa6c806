//! What holds starts back beside bounded concurrency: rates, delay control, retry budgets, breakers and limits that
//! find themselves. The rules are in [`crate::admission`]; here they meet claims and ends.
//!
//! A dispatcher without such options pays one load for it at a claim, and one at an end. Where a rule says *not
//! before*, the claimer leaves that instant for the [sweeper](super::sweeper), which rings for work then: nobody
//! polls.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::Inner;
use super::ask::Room;
use super::governor::{Governor, Heard, Rules, answer};
use super::keys::{Keys, Met};
use super::pace::{Pace, Starts};
use super::settle::{Ended, Settling, Whose, random};
use super::slots::Permits;
use crate::admission::{Budget, Codel, Delay, RetryBudget, Turn};
use crate::config::{KindOptions, QueueOptions};
use crate::engine::{Claimed, KeyLimits, KindClaim};
use crate::event::EventKind;
use crate::names::{KindId, QueueId};
use crate::outcome::{Outcome, ShedReason};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// How long a retry that there is no budget for is put off at least, so that a policy without pauses does not have
/// the same jobs claimed and put off without end.
const LEAST_PUT_OFF: Duration = Duration::from_secs(1);

/// All of one dispatcher.
#[derive(Debug)]
pub(crate) struct Gates {
    queues: RwLock<Vec<Option<Arc<QueueGate>>>>,
    /// Whether any queue has such a rule.
    of_queues: AtomicBool,
    /// Whether any kind learns from what its attempts come to.
    of_ends: AtomicBool,
    /// When somebody whom a rule holds back may start, in microseconds.
    next: AtomicI64,
    /// The breakers that are open, by when probes may start.
    open: Mutex<BinaryHeap<Reverse<Open>>>,
    pub(super) keys: Keys,
}

/// An open breaker: until when, of which kind, and of which key if it is that of one.
type Open = (Timestamp, KindId, Option<(QueueId, Box<str>)>);

impl Gates {
    /// Those of a dispatcher whose queues are held to `defaults` where they have nothing of their own.
    pub(super) fn new(defaults: &QueueOptions) -> Self {
        Self {
            queues: RwLock::default(),
            of_queues: AtomicBool::new(QueueGate::is_needed(defaults)),
            of_ends: AtomicBool::new(false),
            next: AtomicI64::new(i64::MAX),
            open: Mutex::default(),
            keys: Keys::default(),
        }
    }

    /// Puts the rules of a queue in force.
    pub(super) fn set_queue(&self, queue: QueueId, rules: &QueueOptions) {
        let mut queues = self.queues.write();
        let gate = place(&mut queues, queue);
        *gate = Some(Arc::new(QueueGate::new(rules, gate.as_deref())));
        if QueueGate::is_needed(rules) {
            self.of_queues.store(true, Ordering::SeqCst);
        }
    }

    /// The rules in force in a queue; if nobody has looked before, those that are told here. They are asked for under
    /// the lock, so that they cannot take the place of newer ones.
    fn found_or(&self, queue: QueueId, rules: impl FnOnce() -> QueueOptions) -> Arc<QueueGate> {
        let mut queues = self.queues.write();
        let gate = place(&mut queues, queue);
        gate.get_or_insert_with(|| Arc::new(QueueGate::new(&rules(), None)))
            .clone()
    }

    /// Whether no queue and no kind has such a rule, nor ever had one.
    #[inline]
    pub(super) fn are_open(&self) -> bool {
        !self.of_queues.load(Ordering::Acquire) && !self.of_ends.load(Ordering::Acquire)
    }

    /// From now on what attempts come to is heard.
    pub(super) fn listen(&self) {
        self.of_ends.store(true, Ordering::SeqCst);
    }

    fn found(&self, queue: QueueId) -> Option<Arc<QueueGate>> {
        self.queues.read().get(queue.index()).cloned().flatten()
    }
}

fn place(queues: &mut Vec<Option<Arc<QueueGate>>>, queue: QueueId) -> &mut Option<Arc<QueueGate>> {
    if queues.len() <= queue.index() {
        queues.resize(queue.index() + 1, None);
    }
    &mut queues[queue.index()]
}

/// What holds back the starts of one queue.
#[derive(Debug)]
pub(crate) struct QueueGate {
    pub(super) pace: Option<Pace>,
    pub(super) delay: Option<Delay>,
    pub(super) keys: KeyLimits,
    codel: Mutex<Codel>,
    /// The kind of the job that was looked at last.
    kind: AtomicU16,
    /// Whether the engine was told to give out the newest first.
    reversed: Arc<Mutex<bool>>,
}

impl QueueGate {
    fn is_needed(rules: &QueueOptions) -> bool {
        let keys = rules.key_concurrency.unwrap_or(0) > 0 || rules.key_rate.flatten().is_some();
        keys || rules.rate.flatten().is_some() || rules.delay_target.flatten().is_some()
    }

    fn new(rules: &QueueOptions, last: Option<&QueueGate>) -> Self {
        let last_pace = last.and_then(|last| last.pace.as_ref());
        let delay = rules.delay_target.flatten().map(|target| Delay {
            target,
            interval: rules.delay_interval.unwrap_or(target),
            newest_first: rules.newest_first.unwrap_or(false),
        });
        let codel = last
            .filter(|last| last.delay == delay)
            .map(|last| *last.codel.lock());
        Self {
            pace: rules.rate.flatten().map(|rate| Pace::new(rate, last_pace)),
            delay,
            keys: KeyLimits {
                running: u32::try_from(rules.key_concurrency.unwrap_or(0)).unwrap_or(u32::MAX),
                rate: rules.key_rate.flatten(),
            },
            codel: Mutex::new(codel.unwrap_or_default()),
            kind: AtomicU16::default(),
            reversed: last.map(|last| last.reversed.clone()).unwrap_or_default(),
        }
    }

    /// Whether a job has waited too long, since it could have started, to be worth it.
    pub(super) fn sheds(&self, claimed: &Claimed, now: Timestamp) -> bool {
        let waited = now.since(claimed.ready);
        let sheds = |delay: &Delay| {
            self.kind.store(claimed.kind.index() as u16, Ordering::Relaxed);
            let long = planted(Bug::ShedWithoutOverload) && waited > delay.most();
            self.codel.lock().sheds(delay, waited, now) || long
        };
        self.delay.as_ref().is_some_and(sheds)
    }

    /// How much of the longest allowed wait jobs have waited lately, from 0 to 1.
    pub(super) fn pressure(&self, now: Timestamp) -> f64 {
        let pressure = |delay| self.codel.lock().pressure(delay, now);
        self.delay.as_ref().map_or(0.0, pressure)
    }

    fn may_reverse(&self) -> bool {
        self.delay.is_some_and(|delay| delay.newest_first)
    }

    fn is_reversed(&self) -> bool {
        self.may_reverse() && self.codel.lock().overloaded()
    }
}

/// What holds back the starts of one kind, and what it learns from their ends.
#[derive(Debug)]
pub(crate) struct KindGate {
    kind: KindId,
    pub(super) pace: Option<Pace>,
    budget: Option<(RetryBudget, Mutex<Budget>)>,
    /// The rules of all its jobs together, and those of each concurrency key.
    of_kind: Rules,
    of_key: Rules,
    governor: Mutex<Governor>,
    /// Whether another one has taken its place: then it sets no limits any more. Changed and read while `governor` is
    /// locked.
    retired: AtomicBool,
    /// The limit that does not change, and what it is counted by.
    concurrency: usize,
    permits: Option<Arc<Permits>>,
}

impl KindGate {
    /// That of a kind with these options, `None` if they hold nothing back. `keys` says whether the engine can
    /// limit concurrency keys, `permits` counts what runs.
    pub(super) fn new(
        kind: KindId,
        options: &KindOptions,
        keys: bool,
        permits: Option<Arc<Permits>>,
        last: Option<&KindGate>,
        now: Timestamp,
    ) -> Option<Self> {
        let (rate, budget) = (options.rate.flatten(), options.retry_budget.flatten());
        let (of_kind, of_key) = Self::rules(options, keys);
        if rate.is_none() && budget.is_none() && !of_kind.any() && !of_key.any() {
            return None;
        }
        let last_pace = last.and_then(|last| last.pace.as_ref());
        let last_budget = last
            .and_then(|last| last.budget.as_ref())
            .map(|(_, state)| *state.lock());
        let learned = last.filter(|last| last.of_kind == of_kind);
        let learned = learned.map(|last| last.governor.lock().clone());
        let gate = Self {
            kind,
            pace: rate.map(|rate| Pace::new(rate, last_pace)),
            budget: budget.map(|budget| (budget, Mutex::new(last_budget.unwrap_or_default()))),
            governor: Mutex::new(learned.unwrap_or_else(|| Governor::new(&of_kind, now))),
            retired: AtomicBool::new(false),
            of_kind,
            of_key,
            concurrency: options.concurrency.unwrap_or(usize::MAX),
            permits,
        };
        gate.enforce(&gate.governor.lock());
        Some(gate)
    }

    /// The rules of a kind, and those of each of its keys.
    fn rules(options: &KindOptions, keys: bool) -> (Rules, Rules) {
        let (adaptive, breaker) = (options.adaptive.flatten(), options.breaker.flatten());
        let of_kind = Rules {
            adaptive: adaptive.filter(|a| !a.is_per_key()),
            breaker,
        };
        let of_key = Rules {
            adaptive: adaptive.filter(|a| a.is_per_key()),
            breaker: breaker.filter(|_| keys),
        };
        (of_kind, of_key)
    }

    /// Whether what runs of a kind with these options has to be counted.
    pub(super) fn counts(options: &KindOptions) -> bool {
        Self::rules(options, true).0.any()
    }

    /// Whether anything is learned from ends.
    pub(super) fn hears(&self) -> bool {
        self.of_kind.any() || self.of_key.any()
    }

    /// Whether claimed jobs have to be looked at before they run.
    pub(super) fn sifts(&self) -> bool {
        self.budget.is_some() || self.of_key.adaptive.is_some()
    }

    /// A job is about to start. False if it is a retry and the budget for those is used up. A job pays in once, when
    /// it is claimed for the first time: one that comes back because it was told to wait is no fresh work.
    pub(super) fn affords(&self, claimed: &Claimed, now: Timestamp) -> bool {
        let Some((budget, state)) = &self.budget else {
            return true;
        };
        let mut state = state.lock();
        if claimed.attempt > 1 {
            return state.withdraw(budget, now) || planted(Bug::BudgetIgnored);
        }
        if claimed.job.fence == 1 {
            state.deposit(budget);
        }
        true
    }

    /// When the next retry may start, if the budget holds it back now; [`Timestamp::MAX`] if it takes fresh work.
    pub(super) fn retries_at(&self, now: Timestamp) -> Option<Timestamp> {
        let (budget, state) = self.budget.as_ref()?;
        let next = state.lock().next(budget, now);
        (next > now).then_some(next)
    }

    /// The rules of each concurrency key.
    pub(super) fn key_rules(&self) -> &Rules {
        &self.of_key
    }

    /// The rules of each concurrency key, if its limit has to be found.
    pub(super) fn adapts_keys(&self) -> Option<&Rules> {
        self.of_key.adaptive.is_some().then_some(&self.of_key)
    }

    /// Until when the breaker of the kind is open, if it is.
    pub(super) fn open_until(&self) -> Option<Timestamp> {
        self.governor.lock().open_until()
    }

    /// The limit that was found for the kind, if one is looked for.
    pub(super) fn adaptive_limit(&self) -> Option<u32> {
        self.governor.lock().adaptive_limit()
    }

    /// Another one takes its place, and begins with what this one has learned.
    pub(super) fn retire(&self) {
        let _governor = self.governor.lock();
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Makes the limit that follows from what was learned hold. True if somebody may have waited for it.
    fn enforce(&self, governor: &Governor) -> bool {
        let permits = self.permits.as_ref();
        let Some(permits) = permits.filter(|_| !self.retired.load(Ordering::SeqCst)) else {
            return false;
        };
        let limit = governor
            .limit(&self.of_kind)
            .map_or(usize::MAX, |limit| limit as usize);
        permits.resize(limit.min(self.concurrency))
    }
}

impl Inner {
    /// What holds back the starts of a queue, if anything does.
    #[inline]
    pub(super) fn gate(&self, queue: QueueId) -> Option<Arc<QueueGate>> {
        if !self.gates.of_queues.load(Ordering::Acquire) {
            return None;
        }
        self.gate_in_force(queue)
    }

    #[inline(never)]
    fn gate_in_force(&self, queue: QueueId) -> Option<Arc<QueueGate>> {
        let found = self.gates.found(queue);
        found.or_else(|| Some(self.gates.found_or(queue, || self.rules(queue))))
    }

    /// Takes up to `want` starts; leaves word for the sweeper if there are none.
    pub(super) fn start_by(&self, pace: &Pace, want: usize, now: Timestamp) -> usize {
        if want == 0 {
            return 0;
        }
        match pace.take(now, want) {
            Starts::Some(got) => got,
            Starts::NotBefore(at) => {
                self.wake_at(at);
                0
            }
        }
    }

    /// Has work rung for at this instant.
    pub(super) fn wake_at(&self, at: Timestamp) {
        let at = at.as_micros();
        if self.gates.next.fetch_min(at, Ordering::SeqCst) > at {
            self.engine.signals().upkeep.ring_all();
        }
    }

    /// Lets those start whom a rule has held back until now. When to come again.
    pub(super) fn open_gates(&self) -> Timestamp {
        let (now, next) = (self.now(), || {
            Timestamp::from_micros(self.gates.next.load(Ordering::SeqCst))
        });
        if next() <= now {
            // Taken back first: who finds nothing from here on says so again.
            self.gates.next.store(i64::MAX, Ordering::SeqCst);
            self.probe(now);
            self.forget_keys(now);
            self.engine.signals().work.ring_all();
        }
        next()
    }

    /// Lets probes start where a breaker has been open long enough.
    fn probe(&self, now: Timestamp) {
        loop {
            let mut open = self.gates.open.lock();
            match open.peek() {
                Some(Reverse((at, ..))) if *at <= now => {}
                Some(Reverse((at, ..))) => return self.wake_at(*at),
                None => return,
            }
            let Some(Reverse((_, kind, key))) = open.pop() else {
                return;
            };
            drop(open);
            match key {
                Some((queue, key)) => {
                    self.tick_key((queue, &key), kind, now);
                }
                None => {
                    if let Some(gate) = self.kinds.gate(kind) {
                        let mut governor = gate.governor.lock();
                        governor.tick(now);
                        gate.enforce(&governor);
                    }
                }
            }
        }
    }

    /// The jobs of a claim have been looked at; `dry` says whether it found fewer than it might have had, and
    /// `claims` what it might have had more of.
    pub(super) fn after_look(&self, room: &Room, dry: bool, claims: &[KindClaim]) {
        let Some(gate) = room.gate.as_deref().filter(|gate| gate.delay.is_some()) else {
            return;
        };
        if dry && gate.codel.lock().overloaded() {
            let kind = usize::from(gate.kind.load(Ordering::Relaxed));
            if !self.has_any_queued(room.queue) {
                gate.codel.lock().drained();
            } else if claims.get(kind).is_some_and(|claim| claim.allowance > 0) {
                gate.codel.lock().dry();
            }
        }
        if gate.may_reverse() {
            self.tell_order(room.queue);
        }
    }

    /// Tells the engine whether the newest of a queue go first, if that is not what it was told last.
    pub(super) fn tell_order(&self, queue: QueueId) {
        let Some(gate) = self.gates.found(queue) else {
            return;
        };
        // One at a time, so that the last to look is the last to tell. An engine that fails is told again at the
        // next claim.
        let mut reversed = gate.reversed.lock();
        // Looked up again: the rules may have become others before the lock was had.
        let wanted = self.gates.found(queue).is_some_and(|gate| gate.is_reversed());
        if *reversed != wanted && self.engine.set_newest_first(queue, wanted).is_ok() {
            *reversed = wanted;
        }
    }

    /// Whether jobs are left in a queue that a claim was not for.
    fn has_any_queued(&self, queue: QueueId) -> bool {
        let counts = self.engine.counts();
        counts.is_ok_and(|counts| counts.iter().any(|c| c.queue == queue && c.queued > 0))
    }

    /// What becomes of a job that was just claimed, if it is not to run: it has waited too long in an overloaded
    /// queue, is one too many of a key whose limit was not known before the claim, or is a retry that there is no
    /// budget for.
    pub(super) fn turns_away(
        &self,
        queue: Option<&QueueGate>,
        kind: Option<&KindGate>,
        claimed: &Claimed,
        met: &mut Met,
        now: Timestamp,
    ) -> Option<Outcome> {
        if queue.is_some_and(|gate| gate.sheds(claimed, now)) {
            return Some(Outcome::Shed(ShedReason::Delayed));
        }
        let gate = kind?;
        let extras = claimed.extras.as_deref();
        if let Some(rules) = gate.adapts_keys()
            && !self.meets_key(claimed, rules, met, now)
        {
            return Some(Outcome::Returned);
        }
        if !gate.affords(claimed, now) {
            // The attempt before it is the last that failed.
            let pause = self
                .policy(claimed.kind, extras)
                .pause(claimed.attempt - 1, random());
            let after = pause.max(LEAST_PUT_OFF);
            if planted(Bug::PutOffCounts) {
                return Some(Outcome::retry(after));
            }
            return Some(Outcome::Snooze { after });
        }
        None
    }

    /// Learns from attempts that have ended, once, and before what becomes of them is decided.
    #[inline]
    pub(super) fn hear(&self, settling: &mut Settling, now: Timestamp) {
        if self.gates.of_ends.load(Ordering::Acquire) {
            self.hear_all(settling, now);
        }
    }

    /// The same before anything is reserved for the claim that goes with it: what they say holds for that, too.
    #[inline]
    pub(super) fn hear_first(&self, settling: &mut Settling) {
        if self.gates.of_ends.load(Ordering::Acquire) {
            self.hear_all(settling, self.now());
        }
    }

    #[inline(never)]
    fn hear_all(&self, settling: &mut Settling, now: Timestamp) {
        let Some(ended) = settling.unheard() else {
            return;
        };
        let leased = ended.iter().filter(|e| e.is_leased()).count();
        for ended in ended {
            let gate = self.kinds.gate(ended.whose().kind);
            if let Some(gate) = gate.filter(|gate| gate.hears()) {
                self.hear_one(&gate, ended, leased, now);
            }
        }
    }

    fn hear_one(&self, gate: &KindGate, ended: &Ended, leased: usize, now: Timestamp) {
        let whose = ended.whose();
        let Some((outcome, started)) = ended.answered().zip(whose.started) else {
            return;
        };
        let Some(answer) = answer(outcome) else {
            return;
        };
        // Those of this call have given their permits back already.
        let used = gate.permits.as_ref().map_or(0, |permits| permits.used());
        let mut heard = Heard {
            answer,
            started,
            now,
            inflight: used + if ended.is_leased() { leased } else { 0 },
            fatal: matches!(outcome, Outcome::Fatal(_)),
        };
        let key = ended
            .extras()
            .and_then(|extras| extras.concurrency_key.as_deref());
        let key = key.filter(|_| gate.of_key.any());
        if gate.of_kind.any() {
            let mut governor = gate.governor.lock();
            let mut rules = gate.of_kind;
            // The breaker of a kind is for the jobs that have none of their own; but while it lets only probes
            // start, whatever starts is one.
            if key.is_some() && gate.of_key.breaker.is_some() && governor.is_closed(&rules) {
                rules.breaker = None;
            }
            let turn = governor.hear(&rules, &heard);
            let raised = gate.enforce(&governor);
            drop(governor);
            if raised {
                self.engine.signals().work.ring_all();
            }
            self.turned(turn, gate, None, whose, now);
        }
        if let Some(key) = key {
            if gate.of_key.adaptive.is_some() {
                let standing = self.engine.key_standing(whose.queue, key).ok().flatten();
                heard.inflight = standing.map_or(1, |standing| standing.running);
            }
            let turn = self.hear_key((whose.queue, key), gate.kind, &gate.of_key, &heard);
            self.turned(turn, gate, Some((whose.queue, key)), whose, now);
        }
    }

    /// Tells what has become of a breaker, and has probes start in time.
    fn turned(
        &self,
        turn: Option<Turn>,
        gate: &KindGate,
        key: Option<(QueueId, &str)>,
        whose: Whose,
        now: Timestamp,
    ) {
        match turn {
            Some(Turn::Opened(until)) => {
                let key = key.map(|(queue, key)| (queue, key.into()));
                self.gates.open.lock().push(Reverse((until, gate.kind, key)));
                self.wake_at(until);
                self.publish(EventKind::BreakerOpened, whose, None, now);
            }
            Some(Turn::Closed) => self.publish(EventKind::BreakerClosed, whose, None, now),
            Some(Turn::Probing) | None => {}
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;
