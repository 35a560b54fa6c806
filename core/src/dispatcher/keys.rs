//! Limits of concurrency keys that follow from what their attempts come to.
//!
//! A key is remembered while there is something to remember: under a breaker from its first failure until it has
//! closed or is forgiven, under an adaptive limit until it has been quiet for a while. All others cost nothing. The
//! limits of a key hold in its queue, for whatever kind: where several kinds have rules the smallest limit counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Inner;
use super::governor::{Governor, Heard, Rules};
use crate::admission::Turn;
use crate::engine::{Claimed, KeyStanding};
use crate::job::Extras;
use crate::names::{KindId, QueueId};
use crate::time::Timestamp;

/// How long an adaptive limit of a key is remembered that nothing is heard of.
pub(super) const MEMORY: Duration = Duration::from_secs(60);
/// So many keys with a limit are looked at under one lock, which every end of an attempt of a key needs.
const SLICE: usize = 256;

/// What is remembered of keys. The lock is held while the engine is told of a limit, so that the last to decide is
/// the last to tell; the engine calls nobody back.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    queues: HashMap<QueueId, HashMap<Box<str>, Key>>,
    /// When to look for keys to forget, while there are any.
    sweep: Timestamp,
}

impl Known {
    fn get(&self, queue: QueueId, key: &str) -> Option<&Key> {
        self.queues.get(&queue)?.get(key)
    }
}

/// One key.
#[derive(Debug, Default)]
struct Key {
    /// One for each kind that has rules.
    governors: Vec<(KindId, Rules, Governor)>,
    /// What the engine was told.
    told: Option<u32>,
}

/// What holds a key back that the engine does not know the reason of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyState {
    pub(super) adaptive: Option<u32>,
    pub(super) open_until: Option<Timestamp>,
}

impl Key {
    /// The governor of a kind, made anew if the rules are others than they were.
    fn governor(&mut self, kind: KindId, rules: &Rules, now: Timestamp) -> &mut Governor {
        let found = self.governors.iter().position(|(k, ..)| *k == kind);
        let at = found.unwrap_or_else(|| {
            self.governors.push((kind, *rules, Governor::new(rules, now)));
            self.governors.len() - 1
        });
        let (_, old, governor) = &mut self.governors[at];
        if old != rules {
            (*old, *governor) = (*rules, Governor::new(rules, now));
        }
        governor
    }

    fn limit(&self) -> Option<u32> {
        let limits = self.governors.iter().filter_map(|(_, rules, g)| g.limit(rules));
        limits.min()
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.governors.iter().all(|(_, rules, g)| g.is_idle(rules, now))
    }
}

/// How many jobs of each key a claim of one queue has found.
#[derive(Debug, Default)]
pub(super) struct Met(Vec<(Arc<Extras>, u32)>);

impl Met {
    /// Those of this key so far.
    fn of(&mut self, extras: &Arc<Extras>) -> &mut u32 {
        let same = |(e, _): &(Arc<Extras>, u32)| e.concurrency_key == extras.concurrency_key;
        let at = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push((extras.clone(), 0));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl Inner {
    /// A job has been claimed of a kind with limits of keys that have to be found: that of its key begins where limits
    /// begin. False if the same claim has found as many of it as may run: the engine did not know.
    pub(super) fn meets_key(&self, claimed: &Claimed, rules: &Rules, met: &mut Met, now: Timestamp) -> bool {
        let Some(extras) = &claimed.extras else {
            return true;
        };
        let Some(key) = extras.concurrency_key.as_deref() else {
            return true;
        };
        let limit = self.change_key(claimed.queue, key, now, |known| {
            known.governor(claimed.kind, rules, now);
            known.limit()
        });
        let found = met.of(extras);
        let may = limit.is_none_or(|limit| *found < limit);
        *found += u32::from(may);
        may
    }

    /// An attempt of a job with the key has ended. What has become of the breaker, if anything.
    pub(super) fn hear_key(
        &self,
        (queue, key): (QueueId, &str),
        kind: KindId,
        rules: &Rules,
        heard: &Heard,
    ) -> Option<Turn> {
        if rules.adaptive.is_none()
            && heard.answer == crate::admission::Answer::Ok
            && !self.knows_key(queue, key)
        {
            // Nothing has failed: there is nothing to remember.
            return None;
        }
        self.change_key(queue, key, heard.now, |known| {
            known.governor(kind, rules, heard.now).hear(rules, heard)
        })
    }

    /// Lets probes of a key start if its breaker has been open long enough.
    pub(super) fn tick_key(
        &self,
        (queue, key): (QueueId, &str),
        kind: KindId,
        now: Timestamp,
    ) -> Option<Turn> {
        self.change_key(queue, key, now, |known| {
            let of_kind = known.governors.iter_mut().find(|(k, ..)| *k == kind);
            of_kind.and_then(|(.., governor)| governor.tick(now))
        })
    }

    /// What is known of a key.
    pub(super) fn key_state(&self, queue: QueueId, key: &str) -> KeyState {
        let known = self.gates.keys.0.lock();
        let Some(key) = known.get(queue, key) else {
            return KeyState::default();
        };
        let governors = || key.governors.iter().map(|(.., governor)| governor);
        KeyState {
            adaptive: governors().filter_map(Governor::adaptive_limit).min(),
            open_until: governors().filter_map(Governor::open_until).max(),
        }
    }

    /// Forgets keys that there is nothing to remember of, if it is time to look.
    pub(super) fn forget_keys(&self, now: Timestamp) {
        let mut known = self.gates.keys.0.lock();
        if known.queues.is_empty() {
            return;
        }
        let mut limited = Vec::new();
        if known.sweep <= now {
            known.sweep = now.after(MEMORY);
            for (queue, keys) in &mut known.queues {
                // The engine is asked about those with a limit, which takes its time: not for all under one lock.
                keys.retain(|name, key| {
                    let idle = key.is_idle(now);
                    if idle && key.told.is_some() {
                        limited.push((*queue, name.clone()));
                    }
                    !idle || key.told.is_some()
                });
                keys.shrink_to(keys.len() * 2);
            }
            known.queues.retain(|_, keys| !keys.is_empty());
        }
        drop(known);
        for slice in limited.chunks(SLICE) {
            self.forget_limited(slice, now);
        }
        let known = self.gates.keys.0.lock();
        let next = (!known.queues.is_empty()).then_some(known.sweep);
        drop(known);
        if let Some(next) = next {
            self.wake_at(next);
        }
    }

    /// Forgets those of these keys of which there is nothing to remember now.
    fn forget_limited(&self, slice: &[(QueueId, Box<str>)], now: Timestamp) {
        let mut known = self.gates.keys.0.lock();
        for (queue, name) in slice {
            let Some(keys) = known.queues.get_mut(queue) else {
                continue;
            };
            let forgotten = keys
                .get_mut(name)
                .is_some_and(|key| self.forget_key(*queue, name, key, now));
            if forgotten {
                keys.remove(name);
            }
        }
        known.queues.retain(|_, keys| !keys.is_empty());
    }

    /// Whether a key is forgotten now; its limit is taken away then. One with a limit is kept while it has jobs: a
    /// slow probe may still say whether the limit is right.
    fn forget_key(&self, queue: QueueId, name: &str, key: &mut Key, now: Timestamp) -> bool {
        if !key.is_idle(now) {
            return false;
        }
        if key.told.is_some() {
            let standing = self.engine.key_standing(queue, name);
            let has_jobs = |standing: KeyStanding| standing.queued + standing.running > 0;
            if standing.is_ok_and(|standing| standing.is_some_and(has_jobs)) {
                return false;
            }
            key.governors.clear();
            self.tell(queue, name, key);
        }
        true
    }

    /// The rules of a kind are these now: what was learned by others holds no longer.
    pub(super) fn change_key_rules(&self, kind: KindId, rules: Option<&Rules>) {
        let mut known = self.gates.keys.0.lock();
        for (queue, keys) in &mut known.queues {
            for (name, key) in keys {
                key.governors
                    .retain(|(k, old, _)| *k != kind || Some(old) == rules);
                self.tell(*queue, name, key);
            }
        }
    }

    fn knows_key(&self, queue: QueueId, key: &str) -> bool {
        self.gates.keys.0.lock().get(queue, key).is_some()
    }

    #[cfg(test)]
    pub(super) fn known_keys(&self) -> usize {
        self.gates.keys.0.lock().queues.values().map(HashMap::len).sum()
    }

    /// Changes what is known of a key, and tells the engine if its limit is another one then.
    fn change_key<T>(
        &self,
        queue: QueueId,
        key: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Key) -> T,
    ) -> T {
        let mut known = self.gates.keys.0.lock();
        let first = known.queues.is_empty();
        if first {
            known.sweep = now.after(MEMORY);
        }
        let keys = known.queues.entry(queue).or_default();
        if !keys.contains_key(key) {
            keys.insert(key.into(), Key::default());
        }
        let state = keys.get_mut(key).expect("it was put in if it was not there");
        let result = change(state);
        self.tell(queue, key, state);
        drop(known);
        if first {
            self.wake_at(now.after(MEMORY));
        }
        result
    }

    /// Tells the engine the limits of the keys of a queue again: what holds for all of them has changed.
    pub(super) fn tell_keys(&self, queue: QueueId) {
        let mut known = self.gates.keys.0.lock();
        for (name, key) in known.queues.get_mut(&queue).into_iter().flatten() {
            self.tell(queue, name, key);
        }
    }

    /// Tells the engine the limit of a key if it is not what it was told last.
    fn tell(&self, queue: QueueId, name: &str, key: &mut Key) {
        let own = self.rules(queue).key_concurrency.filter(|limit| *limit > 0);
        let own = own.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        let limit = key.limit().map(|limit| limit.min(own.unwrap_or(u32::MAX)));
        // An engine that fails is told again when the limit changes next.
        if limit != key.told && self.engine.limit_key(queue, name, limit).is_ok() {
            let raised = key
                .told
                .is_some_and(|told| limit.is_none_or(|limit| limit > told));
            key.told = limit;
            if raised {
                self.engine.signals().work.ring_all();
            }
        }
    }
}
