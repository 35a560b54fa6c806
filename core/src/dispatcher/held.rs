//! Which rule holds starts back now, in words: rates, breakers, budgets, limits of concurrency keys and limits that
//! find themselves.

use std::time::Duration;

use super::Inner;
use super::explain::Why;
use crate::error::Result;
use crate::names::{KindId, QueueId};
use crate::time::Timestamp;

impl Inner {
    /// What holds back every start of a queue.
    pub(super) fn held_in_queue(&self, name: &str, queue: QueueId) -> Option<Why> {
        let gate = self.gate(queue)?;
        rate(
            format!("queue {name:?}"),
            gate.pace.as_ref()?.next(self.now()),
            self.now(),
        )
    }

    /// What holds back every start of a kind, the limit of its bodies among it.
    pub(super) fn held_in_kind(&self, name: &str, kind: KindId) -> Vec<Why> {
        let what = || format!("kind {name:?}");
        let limit = self.limit_of_kind(name, kind);
        let Some(gate) = self.kinds.gate(kind) else {
            return limit.into_iter().collect();
        };
        let now = self.now();
        let open = gate.open_until().map(|until| Why::Breaker {
            what: what(),
            after: until.since(now),
        });
        let limit = match (limit, gate.adaptive_limit()) {
            // What is open has a limit of nothing; to say so twice would only confuse.
            (Some(_), _) if open.is_some() => None,
            (Some(Why::Limit { what, limit }), Some(found)) if found as usize == limit => {
                Some(Why::Adaptive { what, limit })
            }
            (limit, _) => limit,
        };
        let pace = gate
            .pace
            .as_ref()
            .and_then(|pace| rate(what(), pace.next(now), now));
        open.into_iter().chain(limit).chain(pace).collect()
    }

    /// What holds back every start of a concurrency key.
    pub(super) fn held_in_key(&self, queue: QueueId, key: &str) -> Result<Vec<Why>> {
        let (what, now) = (|| format!("concurrency key {key:?}"), self.now());
        let state = self.key_state(queue, key);
        let mut reasons = Vec::new();
        reasons.extend(state.open_until.map(|until| Why::Breaker {
            what: what(),
            after: until.since(now),
        }));
        let Some(standing) = self.engine.key_standing(queue, key)? else {
            return Ok(reasons);
        };
        let reached = standing.limit.filter(|limit| standing.running >= *limit as usize);
        if let Some(limit) = reached.filter(|_| state.open_until.is_none()) {
            let (what, found) = (what(), state.adaptive == Some(limit));
            let limit = limit as usize;
            reasons.push(if found {
                Why::Adaptive { what, limit }
            } else {
                Why::Limit { what, limit }
            });
        }
        reasons.extend(standing.ready_at.and_then(|at| rate(what(), at, now)));
        Ok(reasons)
    }

    /// Whether retries of a kind are put off for want of a budget now.
    pub(super) fn held_by_budget(&self, name: &str, kind: KindId) -> Option<Why> {
        let now = self.now();
        let next = self.kinds.gate(kind)?.retries_at(now)?;
        Some(Why::RetryBudget {
            kind: name.into(),
            after: (next < Timestamp::MAX).then(|| next.since(now)),
        })
    }
}

fn rate(what: String, next: Timestamp, now: Timestamp) -> Option<Why> {
    let after = next.since(now);
    (after > Duration::ZERO).then_some(Why::Rate { what, after })
}
