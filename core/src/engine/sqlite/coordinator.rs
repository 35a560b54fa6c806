//! Named leases in the table `terms`: one row per name, which stays, so that its term never shrinks.

use std::time::Duration;

use rusqlite::params;

use super::SqliteEngine;
use super::work::{Step, Work, number};
use crate::durability::Durability;
use crate::engine::sql::statements as sql;
use crate::engine::{Coordinator, Term};
use crate::error::Result;
use crate::time::Timestamp;

impl Work<'_> {
    fn acquire(&mut self, name: &str, holder: &str, ttl: Duration) -> Step<Option<Term>> {
        let last = self.first(sql::TERM, [name], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
        let (term, until) = last.unwrap_or((0, 0));
        if until > self.now.as_micros() {
            return Ok(None);
        }
        let until = self.now.after(ttl);
        let begun = self.run(sql::SET_TERM, params![name, holder, term + 1, until.as_micros()])?;
        Ok((begun > 0).then(|| Term {
            name: name.to_owned(),
            holder: holder.to_owned(),
            term: (term + 1).unsigned_abs(),
            until: self.engine.time.shown(until),
        }))
    }

    fn renew(&mut self, term: &Term, ttl: Duration) -> Step<Option<Term>> {
        let until = self.now.after(ttl);
        let (held, now) = (number(term.term), self.now.as_micros());
        let renewed = self.run(
            sql::RENEW_TERM,
            params![term.name, term.holder, held, until.as_micros(), now],
        )?;
        Ok((renewed > 0).then(|| Term {
            until: self.engine.time.shown(until),
            ..term.clone()
        }))
    }
}

impl Coordinator for SqliteEngine {
    fn acquire(&self, name: &str, holder: &str, ttl: Duration, now: Timestamp) -> Result<Option<Term>> {
        let call = |work: &mut Work<'_>| work.acquire(name, holder, ttl);
        self.store.writer.call(Durability::Disk, Some(now), call)
    }

    fn renew(&self, term: &Term, ttl: Duration, now: Timestamp) -> Result<Option<Term>> {
        let call = |work: &mut Work<'_>| work.renew(term, ttl);
        self.store.writer.call(Durability::Os, Some(now), call)
    }

    fn release(&self, term: &Term) -> Result<bool> {
        self.store.writer.call(Durability::Os, None, |work| {
            let parameters = params![term.name, term.holder, number(term.term)];
            Ok(work.run(sql::END_TERM, parameters)? > 0)
        })
    }
}
