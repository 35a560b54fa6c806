//! What time brings: jobs that are overdue, finished jobs that are forgotten.

use rusqlite::{Connection, Row};

use super::Store;
use super::read::{located, or_never, state};
use super::tally::Column;
use super::work::{Step, Work};
use crate::engine::sql::statements as sql;
use crate::engine::{Cause, Overdue, Retention};
use crate::job::State;
use crate::time::Timestamp;

/// The states of finished jobs.
const FINISHED: [State; 5] = [
    State::Succeeded,
    State::Failed,
    State::Cancelled,
    State::Expired,
    State::Shed,
];
/// The most finished jobs that are forgotten beyond what must be, so that not every end of a job has to.
const EXTRA: usize = 256;
/// So long a process leaves a decision to the one whose it is first, in microseconds.
const COURTESY: i64 = 1_000_000;

/// Whose decisions come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct First {
    /// Of all processes this one looks after lost leases and deadlines.
    leads: bool,
    /// It runs the attempt.
    own: bool,
}

/// When a job needs a decision, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Due {
    at: Timestamp,
    cause: Cause,
}

impl Due {
    /// From what is in a row. The timeout of an attempt is decided by the process that runs it, which knows the
    /// retry policy of the kind, and the rest by one of all processes, so that they do not race each other. The
    /// others come in when that one does not.
    fn of(state: State, due: Timestamp, (lease, timeout): (Timestamp, Timestamp), first: First) -> Self {
        let (at, cause, mine) = match state {
            State::Running if lease < timeout => (lease, Cause::Lease, first.leads),
            State::Running => (timeout, Cause::Timeout, first.own),
            _ => (due, Cause::Deadline, first.leads),
        };
        let later = if mine { 0 } else { COURTESY };
        Self {
            at: Timestamp::from_micros(at.as_micros().saturating_add(later)),
            cause,
        }
    }
}

impl Store {
    /// When something is to be done next, as the store's clock counts: a scheduled job may start, or a job needs
    /// a decision.
    pub(super) fn next_due(&self, db: &Connection) -> Step<Timestamp> {
        let mut next = Timestamp::MAX;
        let mut starts = db.prepare_cached(sql::NEXT_START)?;
        for start in starts.query_map([], |row| row.get(0))? {
            next = Timestamp::from_micros(start?);
        }
        let mut due = db.prepare_cached(sql::DUE)?;
        let mut rows = due.query([Self::LOOK])?;
        while let Some(row) = rows.next()? {
            let found = or_never(row.get(0)?);
            if found >= next {
                break;
            }
            next = next.min(self.due(row, found, (1, 2, 3, 4))?.at);
        }
        Ok(next)
    }

    /// So many jobs are looked at to find out which is due first: those whose timeout has passed and is left to
    /// others for a moment may stand before it.
    const LOOK: i64 = 256;

    /// Appends jobs that need a decision.
    pub(super) fn overdue(
        &self,
        db: &Connection,
        limit: usize,
        now: Timestamp,
        out: &mut Vec<Overdue>,
    ) -> Step<()> {
        let mut due = db.prepare_cached(sql::OVERDUE)?;
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = due.query((now.as_micros(), most))?;
        while let Some(row) = rows.next()? {
            let found = self.due(row, or_never(row.get(19)?), (5, 15, 16, 17))?;
            if found.at <= now {
                // Nobody has leased what ran when the owner of the file died.
                let crashed = found.cause == Cause::Lease && row.get::<_, Option<i64>>(17)?.is_none();
                let crashes = if crashed { row.get(18)? } else { 0 };
                out.push(Overdue {
                    cause: if crashes > 0 {
                        Cause::Crash(crashes)
                    } else {
                        found.cause
                    },
                    at: located(row, &self.names)?,
                });
            }
        }
        Ok(())
    }

    /// What is due in a row with state, end of the lease, end of the timeout and owner in these columns.
    fn due(&self, row: &Row<'_>, due: Timestamp, at: (usize, usize, usize, usize)) -> Step<Due> {
        let ends = (or_never(row.get(at.1)?), or_never(row.get(at.2)?));
        let owner: Option<i64> = row.get(at.3)?;
        let first = First {
            leads: self.leads(),
            own: owner.is_none_or(|owner| owner == self.node()),
        };
        Ok(Due::of(state(row, at.0)?, due, ends, first))
    }
}

impl Work<'_> {
    /// Forgets up to `limit` finished jobs, by age first, then by number.
    pub(super) fn prune(&mut self, keep: Retention, limit: usize) -> Step<usize> {
        let mut count = 0;
        for state in FINISHED {
            let before = match state {
                State::Succeeded => keep.succeeded_before,
                _ => keep.others_before,
            };
            let before = self.engine.time.stored(before).as_micros();
            let most = (limit - count) as i64;
            let rows: Vec<(i64, String)> = {
                let mut old = self.prepare(sql::ENDED_BEFORE)?;
                let rows =
                    old.query_map((state.name(), before, most), |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<rusqlite::Result<_>>()?
            };
            count += self.forget_all(rows)?;
        }
        let excess = self.kept()?.saturating_sub(keep.most).min(limit - count);
        Ok(count + self.forget_oldest(excess)?)
    }

    /// Keeps to the number of finished jobs that are to be kept.
    pub(super) fn trim(&mut self) -> Step<()> {
        let keep = self.engine.keep;
        if self.after.ended.is_empty() || keep == 0 {
            return Ok(());
        }
        let kept = self.kept()?;
        if kept > keep {
            self.forget_oldest(kept - keep + (keep / 16).min(EXTRA))?;
        }
        Ok(())
    }

    fn kept(&self) -> Step<usize> {
        let before: i64 = self.first(sql::KEPT, [], |row| row.get(0))?.unwrap_or(0);
        Ok(usize::try_from(before + self.tally.sum(Column::Kept)).unwrap_or(0))
    }

    /// Forgets this many jobs, oldest first.
    fn forget_oldest(&mut self, count: usize) -> Step<usize> {
        if count == 0 {
            return Ok(0);
        }
        let mut oldest: Vec<(i64, i64, String)> = Vec::new();
        for state in FINISHED {
            let mut first = self.prepare(sql::OLDEST)?;
            let rows = first.query_map((state.name(), count as i64), |row| {
                Ok((row.get(2)?, row.get(0)?, row.get(1)?))
            })?;
            for row in rows {
                oldest.push(row?);
            }
        }
        oldest.sort_unstable();
        oldest.truncate(count);
        self.forget_all(oldest.into_iter().map(|(_, row, queue)| (row, queue)))
    }

    fn forget_all(&mut self, rows: impl IntoIterator<Item = (i64, String)>) -> Step<usize> {
        let mut count = 0;
        for (row, queue) in rows {
            count += self.run(sql::FORGET, [row])?;
            let queue = self.engine.names.queue(&queue)?;
            self.tally.add(queue, Column::Kept, -1);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_decision_is_one_processs_first() {
        let at = Timestamp::from_micros;
        let late = |us| at(us + COURTESY);
        let (never, due) = (Timestamp::MAX, at(5));
        let mine = First {
            leads: true,
            own: true,
        };
        let theirs = First {
            leads: false,
            own: false,
        };
        for (state, ends, cause, us) in [
            (State::Running, (at(7), never), Cause::Lease, 7),
            (State::Running, (at(7), at(6)), Cause::Timeout, 6),
            (State::Queued, (never, never), Cause::Deadline, 5),
        ] {
            let of = |first| Due::of(state, due, ends, first);
            assert_eq!(of(mine), Due { at: at(us), cause });
            assert_eq!(of(theirs), Due { at: late(us), cause });
        }
        let runs = First { own: true, ..theirs };
        assert_eq!(Due::of(State::Running, due, (at(9), at(8)), runs).at, at(8));
    }
}
