//! Named leases of engines that one process has: whoever asks is in this process, so they are kept in memory.
//!
//! A term is at least the microseconds of the instant at which it began, so terms go on growing when the process
//! starts again.

use std::collections::HashMap;

use std::time::Duration;

use parking_lot::Mutex;

use super::{Coordinator, Term};
use crate::error::Result;
use crate::time::Timestamp;

/// The named leases of one process.
#[derive(Debug, Default)]
pub(crate) struct Terms(Mutex<HashMap<String, Term>>);

impl Coordinator for Terms {
    fn acquire(&self, name: &str, holder: &str, ttl: Duration, now: Timestamp) -> Result<Option<Term>> {
        let mut terms = self.0.lock();
        let last = terms.get(name);
        if last.is_some_and(|last| last.until > now) {
            return Ok(None);
        }
        let least = u64::try_from(now.as_micros()).unwrap_or(0);
        let term = Term {
            name: name.to_owned(),
            holder: holder.to_owned(),
            term: last.map_or(1, |last| last.term + 1).max(least),
            until: now.after(ttl),
        };
        terms.insert(name.to_owned(), term.clone());
        Ok(Some(term))
    }

    fn renew(&self, term: &Term, ttl: Duration, now: Timestamp) -> Result<Option<Term>> {
        let mut terms = self.0.lock();
        let held = terms
            .get_mut(&term.name)
            .filter(|held| (held.term, &held.holder) == (term.term, &term.holder) && held.until > now);
        Ok(held.map(|held| {
            held.until = now.after(ttl);
            held.clone()
        }))
    }

    fn release(&self, term: &Term) -> Result<bool> {
        let mut terms = self.0.lock();
        let held = terms.get_mut(&term.name);
        let held = held.filter(|held| (held.term, &held.holder) == (term.term, &term.holder));
        let held = held.filter(|held| held.until > Timestamp::EPOCH);
        Ok(held.is_some_and(|held| {
            held.until = Timestamp::EPOCH;
            true
        }))
    }
}
