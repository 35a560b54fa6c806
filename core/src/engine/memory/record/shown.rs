//! A record as others see it: the job, what its claimer gets, where it stands.

use super::super::flags::HAS_RESULT;
use super::super::nodes::Nodes;
use super::Record;
use crate::engine::{Claimed, Located};
use crate::job::{Attempt, Filter, Job, State};
use crate::names::{KindId, Names, QueueId};
use crate::outcome::Failure;
use crate::payload::Payload;
use crate::time::Timestamp;

impl Record {
    /// The job as others see it.
    pub(in super::super) fn to_job(&self, names: &Names, nodes: &Nodes) -> Job {
        let over = self.state.is_final();
        let succeeded = self.state == State::Succeeded;
        let content = || self.content.clone();
        let deadline = self.deadline();
        Job {
            id: self.id(),
            queue: names.queue_name(self.queue),
            kind: names.kind_name(self.kind),
            payload: if succeeded { Payload::empty() } else { content() },
            state: self.state,
            priority: self.priority,
            attempt: self.attempt,
            max_attempts: (self.max_attempts > 0).then_some(self.max_attempts),
            crashes: self.rare.as_ref().map_or(0, |r| r.crashes),
            fence: self.fence,
            created: self.created,
            run_at: self.run_at(),
            started: self.has_started(),
            finished: over.then_some(self.until),
            deadline: (deadline != Timestamp::MAX).then_some(deadline),
            timeout: self.timeout(),
            lease_until: self.lease_until(),
            extras: self.extras().cloned(),
            waits: self.waits().to_vec(),
            cancel_requested: self.cancel_requested(),
            result: (succeeded && self.flags.has(HAS_RESULT)).then(content),
            error: self.error(),
            history: self.history(nodes),
        }
    }

    /// The job as whoever comes after this process is to find it.
    pub(in super::super) fn at_rest(&self, names: &Names, nodes: &Nodes) -> Job {
        let mut job = self.to_job(names, nodes);
        if self.rests() {
            (job.state, job.lease_until) = (State::Queued, None);
            job.attempt = job.attempt.saturating_sub(1);
        }
        job
    }

    /// The job as its claimer sees it. `slot` is where it is.
    pub(in super::super) fn to_claimed(&self, slot: u32) -> Claimed {
        Claimed {
            job: self.job_ref(slot),
            queue: self.queue,
            kind: self.kind,
            priority: self.priority,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            created: self.created,
            ready: self.ready(),
            started: self.started,
            due: self.until,
            deadline: self.deadline(),
            payload: self.content.clone(),
            extras: self.extras().cloned(),
        }
    }

    /// Where the job stands. `slot` is where it is.
    pub(in super::super) fn located(&self, slot: u32) -> Located {
        Located {
            job: self.job_ref(slot),
            queue: self.queue,
            kind: self.kind,
            state: self.state,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            cancel_requested: self.cancel_requested(),
            started: self.has_started().filter(|_| self.state == State::Running),
            extras: self.extras().cloned(),
        }
    }

    /// Whether a listing with this filter counts the job. Queue and kind are given as numbers.
    pub(in super::super) fn matches(
        &self,
        filter: &Filter,
        queue: Option<QueueId>,
        kind: Option<KindId>,
    ) -> bool {
        queue.is_none_or(|q| q == self.queue)
            && kind.is_none_or(|k| k == self.kind)
            && (filter.states.is_empty() || filter.states.contains(&self.state))
            && filter.key.as_deref().is_none_or(|k| self.key() == Some(k))
            && filter.created_from.is_none_or(|from| self.created >= from)
            && filter.created_before.is_none_or(|before| self.created < before)
    }

    fn history(&self, nodes: &Nodes) -> Vec<Attempt> {
        match &self.rare {
            Some(rare) if rare.past => rare.attempts.iter().cloned().collect(),
            _ if self.state == State::Succeeded => vec![self.present(self.until, None, nodes)],
            _ => Vec::new(),
        }
    }

    fn error(&self) -> Option<Failure> {
        let rare = self.rare.as_ref().filter(|_| self.state != State::Succeeded)?;
        let last = || rare.attempts.back()?.failure.clone();
        rare.ending.clone().or_else(last)
    }

    fn has_started(&self) -> Option<Timestamp> {
        (self.started != Timestamp::MAX).then_some(self.started)
    }
}
