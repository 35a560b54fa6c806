//! Claiming: of each kind that is asked for, the jobs that come first; of those, the first of all.
//!
//! Jobs of a kind that the claimer does not ask for are never looked at, however many there are.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Store;
use super::read::{extras, payload};
use super::tally::Column;
use super::work::{Fault, Step, Work, instant, weight};
use crate::engine::sql::statements as sql;
use crate::engine::{Claimed, Handle, JobRef, KindClaim};
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Priority, State};
use crate::names::{KindId, QueueId};
use crate::time::Timestamp;

/// What a [`Claim`](crate::engine::Claim) asks, without where its jobs go.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) queue: QueueId,
    /// Counted down as jobs are claimed.
    pub(super) kinds: Vec<KindClaim>,
    pub(super) limit: usize,
    pub(super) lease: Option<Duration>,
    pub(super) node: Arc<str>,
    pub(super) worker: u32,
    /// Whether the jobs are only passed on, so that no timeout counts.
    pub(super) relays: bool,
}

impl Ask {
    /// The most jobs of a kind that may be claimed.
    fn most(&self, kind: KindId) -> usize {
        let allowance = self.kinds.get(kind.index()).map_or(0, |k| k.allowance as usize);
        allowance.min(self.limit)
    }
}

impl Store {
    /// Calls `each` for every kind of which a job is queued, until it says that it has heard enough. Kinds that
    /// this process has never heard of are named.
    fn queued_kinds(
        &self,
        db: &Connection,
        queue: QueueId,
        mut each: impl FnMut(KindId, &str) -> Step<bool>,
    ) -> Step<()> {
        let (queue, mut last) = (self.names.queue_text(queue), String::new());
        let mut next = db.prepare_cached(sql::NEXT_KIND)?;
        while let Some(kind) = next
            .query_row((queue, &last), |row| row.get::<_, String>(0))
            .optional()?
        {
            let number = match self.names.find_kind(&kind) {
                Some(number) => number,
                None => {
                    let number = self.names.kind(&kind)?;
                    // Whoever takes every kind is to ask for this one from now on.
                    self.signals.work.ring_all();
                    number
                }
            };
            if each(number, &kind)? {
                break;
            }
            last = kind;
        }
        Ok(())
    }

    /// Whether a claim might find something, for the price of a look: one that finds nothing must not hold up
    /// those who write.
    pub(super) fn anything_for(&self, ask: &Ask, now: Timestamp) -> Result<bool> {
        if ask.limit == 0 {
            return Ok(false);
        }
        let now = self.time.present(now).as_micros();
        self.look(|db| {
            let mut starts = db.prepare_cached(sql::NEXT_START)?;
            let start = starts.query_row([], |row| row.get::<_, i64>(0)).optional()?;
            let mut found = start.is_some_and(|start| start <= now);
            self.queued_kinds(db, ask.queue, |kind, _| {
                found |= ask.most(kind) > 0;
                Ok(found)
            })?;
            Ok(found)
        })
    }
}

/// A job that may be claimed, and its place among the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Candidate {
    urgency: i64,
    place: i64,
    row: i64,
    kind: KindId,
}

impl Work<'_> {
    /// Leases up to the limit of jobs.
    pub(super) fn claim(&mut self, ask: &mut Ask) -> Step<Vec<Claimed>> {
        let mut out = Vec::new();
        if self.engine.sealed() || ask.limit == 0 || self.is_paused(ask.queue)? {
            return Ok(out);
        }
        let mut candidates = self.candidates(ask)?;
        candidates.sort_unstable();
        for candidate in candidates.into_iter().take(ask.limit) {
            ask.kinds[candidate.kind.index()].allowance -= 1;
            out.push(self.lease(candidate, ask)?);
        }
        if !out.is_empty() {
            self.tally.add(ask.queue, Column::Claimed, out.len() as i64);
        }
        Ok(out)
    }

    fn is_paused(&self, queue: QueueId) -> Step<bool> {
        let paused = self.first(sql::PAUSED, [self.queue_text(queue)], |row| row.get(0))?;
        Ok(paused.unwrap_or(false))
    }

    /// Of each kind that is asked for, as many of the first jobs as could be claimed of it.
    fn candidates(&self, ask: &Ask) -> Step<Vec<Candidate>> {
        let (queue, mut found) = (self.queue_text(ask.queue), Vec::new());
        self.engine.queued_kinds(self.db, ask.queue, |number, kind| {
            let most = ask.most(number);
            if most > 0 {
                let mut first = self.prepare(sql::FIRST_OF_KIND)?;
                let mut rows = first.query((queue, kind, self.now.as_micros(), most as i64))?;
                while let Some(row) = rows.next()? {
                    found.push(Candidate {
                        urgency: -row.get::<_, i64>(1)?,
                        place: row.get(2)?,
                        row: row.get(0)?,
                        kind: number,
                    });
                }
            }
            Ok(false)
        })?;
        Ok(found)
    }

    fn lease(&mut self, candidate: Candidate, ask: &Ask) -> Step<Claimed> {
        let row = candidate.row;
        let kind = ask.kinds[candidate.kind.index()];
        let found = self.first(sql::CANDIDATE, [row], |row| Ok(self.claimed(row, candidate, ask)))?;
        let Some(found) = found else {
            let text = format!("the index jobs_queued names row {row}, which is not there");
            return Err(Fault::Other(crate::Error::new(crate::ErrorKind::Corrupt, text)));
        };
        let (mut claimed, own_timeout) = found?;
        let timeout = own_timeout
            .or(kind.timeout)
            .filter(|_| !ask.relays)
            .map(|t| self.now.after(t));
        let lease = ask.lease.map(|lease| self.now.after(lease));
        let due = timeout
            .unwrap_or(Timestamp::MAX)
            .min(lease.unwrap_or(Timestamp::MAX));
        if claimed.max_attempts == 0 {
            claimed.max_attempts = kind.max_attempts;
        }
        claimed.attempt += 1;
        claimed.job.fence += 1;
        claimed.due = self.engine.time.shown(due);
        self.run(
            sql::CLAIM,
            params![
                row,
                self.now.as_micros(),
                (claimed.max_attempts > 0).then_some(claimed.max_attempts),
                timeout.and_then(instant),
                lease.and_then(instant),
                instant(due),
                &*ask.node,
                ask.worker,
                self.engine.node(),
            ],
        )?;
        self.step(ask.queue, State::Queued, State::Running);
        self.weigh(ask.queue, -weight(&claimed.payload));
        self.after.due(due);
        Ok(claimed)
    }

    /// The job of a row of [`sql::CANDIDATE`] as it stands, and its own timeout.
    fn claimed(&self, row: &Row<'_>, candidate: Candidate, ask: &Ask) -> Step<(Claimed, Option<Duration>)> {
        let timeout: Option<i64> = row.get(7)?;
        let deadline: Option<i64> = row.get(6)?;
        let claimed = Claimed {
            job: JobRef {
                id: JobId::from_bytes(row.get(0)?),
                handle: Handle(candidate.row as u64),
                fence: row.get::<_, i64>(4)?.unsigned_abs(),
            },
            queue: ask.queue,
            kind: candidate.kind,
            priority: row.get::<_, Priority>(1)?,
            attempt: row.get(2)?,
            max_attempts: row.get::<_, Option<u32>>(3)?.unwrap_or(0),
            created: Timestamp::from_micros(row.get(5)?),
            ready: Timestamp::from_micros(row.get::<_, i64>(15)?.max(row.get(5)?)),
            started: self.engine.time.shown(self.now),
            due: Timestamp::MAX,
            deadline: deadline.map_or(Timestamp::MAX, Timestamp::from_micros),
            payload: payload(row, 8)?.unwrap_or_default(),
            extras: extras(row, 10)?.map(Arc::new),
        };
        Ok((
            claimed,
            timeout.map(|us| Duration::from_micros(us.unsigned_abs())),
        ))
    }
}
