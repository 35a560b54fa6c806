//! The attempt of a record: its start, its timeout and its lease, its end.

use std::time::Duration;

use super::super::flags::{BY_LEASE, CANCEL_REQUESTED, CRASHED, OWN_TIMEOUT, RELAYED};
use super::super::journal::Takeoff;
use super::super::nodes::Nodes;
use super::{Ends, Record, micros};
use crate::engine::Cause;
use crate::job::{Attempt, State};
use crate::outcome::{Failure, Transition};
use crate::time::Timestamp;

/// What a claim says about the attempt it starts.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Start {
    pub(in super::super) max_attempts: u32,
    pub(in super::super) timeout: Option<Duration>,
    pub(in super::super) lease: Option<Duration>,
    pub(in super::super) node: u16,
    pub(in super::super) worker: u32,
    pub(in super::super) relays: bool,
}

impl Record {
    /// How it stands at the beginning of its attempt.
    pub(in super::super) fn takeoff(&self) -> Takeoff {
        Takeoff {
            fence: self.fence,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            started: self.started,
        }
    }

    /// When it needs a decision because time has passed; [`Timestamp::MAX`] for never.
    pub(in super::super) fn overdue_at(&self) -> Timestamp {
        match self.state {
            State::Running => self.until,
            s if s.is_waiting() => self.deadline(),
            _ => Timestamp::MAX,
        }
    }

    /// Why it needs a decision when it is overdue.
    pub(in super::super) fn cause(&self) -> Cause {
        match self.state {
            State::Running if self.flags.has(CRASHED) => {
                Cause::Crash(self.rare.as_ref().map_or(0, |r| r.crashes))
            }
            State::Running if self.by_lease() => Cause::Lease,
            State::Running => Cause::Timeout,
            _ => Cause::Deadline,
        }
    }

    /// Starts an attempt.
    pub(in super::super) fn start(&mut self, start: &Start, now: Timestamp) {
        self.attempt = self.attempt.saturating_add(1);
        self.fence += 1;
        self.started = now;
        if self.max_attempts == 0 {
            self.max_attempts = start.max_attempts;
        }
        (self.node, self.worker) = (start.node, start.worker);
        let timeout = self.timeout().or(start.timeout).map(|t| now.after(t));
        self.flags.set(RELAYED, start.relays);
        self.set_ends(timeout, start.lease.map(|l| now.after(l)));
    }

    /// Makes its lease end at `lease`.
    pub(in super::super) fn extend(&mut self, lease: Timestamp) {
        let timeout = match self.ends() {
            Some(ends) => Some(ends.timeout),
            // Its own timeout may be too long ever to pass, but it is kept here.
            None => {
                let timed = self.flags.has(OWN_TIMEOUT) || self.until < Timestamp::MAX;
                (!self.by_lease() && timed).then_some(self.until)
            }
        };
        self.set_ends(timeout, Some(lease));
    }

    pub(super) fn set_ends(&mut self, timeout: Option<Timestamp>, lease: Option<Timestamp>) {
        if self.relayed() {
            return self.set_lease(timeout, lease);
        }
        let by_lease = lease.unwrap_or(Timestamp::MAX) < timeout.unwrap_or(Timestamp::MAX);
        self.flags.set(BY_LEASE, by_lease);
        self.until = match (timeout, lease) {
            (None, None) => Timestamp::MAX,
            (Some(at), None) | (None, Some(at)) => at,
            (Some(timeout), Some(lease)) => {
                self.rare().ends = Some(Ends { timeout, lease });
                timeout.min(lease)
            }
        };
    }

    /// For one that is only passed on: a timeout of its own is kept, and does not count.
    fn set_lease(&mut self, timeout: Option<Timestamp>, lease: Option<Timestamp>) {
        let until = lease.unwrap_or(Timestamp::MAX);
        if let Some(timeout) = timeout.filter(|_| self.flags.has(OWN_TIMEOUT)) {
            self.rare().ends = Some(Ends {
                timeout,
                lease: until,
            });
        }
        self.flags.set(BY_LEASE, until < Timestamp::MAX);
        self.until = until;
    }

    /// Whether it runs only to be passed on.
    pub(in super::super) fn relayed(&self) -> bool {
        self.flags.has(RELAYED)
    }

    /// Whether it stands, for whoever comes after this process, where it stood before it was claimed. One that
    /// was asked to stop does not: somebody has to answer that.
    pub(in super::super) fn rests(&self) -> bool {
        self.relayed() && !self.cancel_requested()
    }

    fn by_lease(&self) -> bool {
        self.flags.has(BY_LEASE)
    }

    fn ends(&self) -> Option<Ends> {
        self.rare.as_ref()?.ends
    }

    pub(super) fn lease_until(&self) -> Option<Timestamp> {
        match self.ends() {
            _ if self.state != State::Running => None,
            Some(ends) => Some(ends.lease).filter(|end| *end < Timestamp::MAX),
            None => self.by_lease().then_some(self.until),
        }
    }

    /// Ends the present attempt. A first attempt that succeeds leaves no trace: its entry is written when
    /// somebody asks. One that is given back without a failure did not happen.
    #[inline(always)]
    pub(in super::super) fn end_attempt(&mut self, t: &mut Transition, now: Timestamp, nodes: &Nodes) {
        let (failure, timeout) = (t.failure.take(), self.timeout());
        let unremarkable = match t.to {
            State::Succeeded => !self.has_past(),
            _ => t.refund && failure.is_none(),
        };
        if !unremarkable {
            let attempt = self.present(now, failure, nodes);
            self.rare().add(attempt);
        }
        if t.refund {
            self.attempt = self.attempt.saturating_sub(1);
        }
        self.flags.set(CANCEL_REQUESTED | BY_LEASE | RELAYED, false);
        self.until = timeout.map_or(Timestamp::MAX, |t| Timestamp::from_micros(micros(t)));
        if let Some(rare) = &mut self.rare {
            rare.ends = None;
        }
    }

    pub(super) fn present(&self, ended: Timestamp, failure: Option<Failure>, nodes: &Nodes) -> Attempt {
        Attempt {
            number: self.attempt,
            node: nodes.name(self.node),
            worker: self.worker,
            started: self.started,
            ended,
            failure,
        }
    }

    /// What its push said. It has no field of its own: it is kept where nothing else is at the time.
    pub(super) fn timeout(&self) -> Option<Duration> {
        if !self.flags.has(OWN_TIMEOUT) {
            return None;
        }
        Some(match self.state {
            State::Running => self
                .ends()
                .map_or(self.until, |ends| ends.timeout)
                .since(self.started),
            state if state.is_final() => Duration::from_micros(self.order),
            _ => Duration::from_micros(self.until.as_micros().unsigned_abs()),
        })
    }
}
