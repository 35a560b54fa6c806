//! A transaction in progress: what the calls of one group do to the tables, and what is left to say when it is
//! committed.
//!
//! Every change of a job's state is made through this file's [`Work`], together with its count, its place among
//! those it waits with and the bell that announces it.

use std::cell::RefCell;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};

use super::Store;
use super::after::After;
use super::tally::{Column, Tally};
use crate::durability::Durability;
use crate::engine::Load;
use crate::engine::sql::statements as sql;
use crate::error::Error;
use crate::job::{JobRef, State};
use crate::names::{KindId, QueueId};
use crate::payload::Payload;
use crate::time::Timestamp;

/// Why a step failed: SQLite, or something of our own.
#[derive(Debug)]
pub(super) enum Fault {
    Store(rusqlite::Error),
    Other(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

pub(super) type Step<T> = std::result::Result<T, Fault>;

/// The instants of the store, as a transaction finds them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Clock {
    /// The latest instant that any process has worked at.
    pub(super) now: i64,
    /// The last place given to a job that waits.
    pub(super) place: i64,
}

/// The instants of the store as they are committed, or as this transaction finds them.
pub(super) fn clock(db: &Connection) -> Step<Clock> {
    let clock = |row: &Row<'_>| {
        Ok(Clock {
            now: row.get(0)?,
            place: row.get(1)?,
        })
    };
    Ok(db.prepare_cached(sql::CLOCK)?.query_row([], clock)?)
}

/// A transaction in progress.
pub(super) struct Work<'w> {
    pub(super) engine: &'w Store,
    pub(super) db: &'w Connection,
    clock: Clock,
    found: Clock,
    /// The instant of the present call.
    pub(super) now: Timestamp,
    pub(super) tally: Tally,
    pub(super) after: After,
    /// When the next scheduled job may start, if that is known.
    next_start: Option<i64>,
    /// The statements that were used, each with where its text is: most are used once per job.
    statements: RefCell<Vec<(*const u8, CachedStatement<'w>)>>,
}

/// What a call has done so far, to be taken back.
pub(super) struct Mark {
    tally: Tally,
    after: After,
}

impl<'w> Work<'w> {
    /// Begins: the transaction is open.
    pub(super) fn begin(engine: &'w Store, db: &'w Connection) -> Step<Self> {
        let clock = clock(db)?;
        engine.time.saw(clock.now);
        Ok(Self {
            engine,
            db,
            clock,
            found: clock,
            now: Timestamp::from_micros(clock.now),
            tally: Tally::default(),
            after: After::default(),
            next_start: None,
            statements: RefCell::default(),
        })
    }

    /// The next call begins, whose caller said that it is `now` when it had not yet `waited`.
    pub(super) fn at(&mut self, now: Option<Timestamp>, waited: Duration) {
        if let Some(now) = now {
            let now = self.engine.time.of_store(now, waited).as_micros();
            self.clock.now = self.clock.now.max(now);
        }
        self.now = Timestamp::from_micros(self.clock.now);
    }

    /// What has been done, so that it can be taken back.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            tally: self.tally.clone(),
            after: self.after.clone(),
        }
    }

    /// Forgets what has been done since; the tables are rolled back by the caller.
    pub(super) fn back_to(&mut self, mark: Mark) {
        (self.tally, self.after) = (mark.tally, mark.after);
        self.next_start = None;
    }

    /// Writes what is left: the counts and the clock. The instants of the store if there is anything to commit: at
    /// [`Durability::Disk`] always, for what somebody committed before without a sync is to be synced, too.
    pub(super) fn finish(&mut self, level: Durability) -> Step<Option<Clock>> {
        self.trim()?;
        let counted = self.tally.write(self.db, self.engine)?;
        self.after.names |= counted.new;
        let changed = counted.any || self.after.changed || level == Durability::Disk;
        if self.after.undone || !changed {
            return Ok(None);
        }
        if self.clock == self.found {
            // No two commits have the same. And SQLite syncs no commit that changes no page, and what is written over
            // itself, as a change may be, changes none.
            self.next_place();
        }
        let mut statement = self.db.prepare_cached(sql::SET_CLOCK)?;
        statement.execute([self.clock.now, self.clock.place])?;
        self.engine.time.wrote(self.clock.now);
        Ok(Some(self.clock))
    }

    /// The place behind all those that wait so far: grows, and is near the time of the day, so that a file of
    /// which the clock was lost goes on behind what it has.
    pub(super) fn next_place(&mut self) -> i64 {
        self.clock.place = (self.clock.place + 1).max(self.clock.now);
        self.clock.place
    }

    pub(super) fn prepare(&self, text: &str) -> Step<CachedStatement<'_>> {
        Ok(self.db.prepare_cached(text)?)
    }

    /// Uses a statement, which is looked up once in a transaction.
    fn with<T>(
        &self,
        text: &'static str,
        each: impl FnOnce(&mut CachedStatement<'w>) -> rusqlite::Result<T>,
    ) -> Step<T> {
        let known = {
            let mut known = self.statements.borrow_mut();
            let place = known.iter().position(|(at, _)| *at == text.as_ptr());
            place.map(|place| known.swap_remove(place).1)
        };
        let mut statement = match known {
            Some(statement) => statement,
            None => self.db.prepare_cached(text)?,
        };
        let result = each(&mut statement);
        self.statements.borrow_mut().push((text.as_ptr(), statement));
        Ok(result?)
    }

    /// Runs a statement; how many rows it changed.
    pub(super) fn run(&mut self, text: &'static str, parameters: impl Params) -> Step<usize> {
        let changed = self.with(text, |statement| statement.execute(parameters))?;
        self.after.changed |= changed > 0;
        Ok(changed)
    }

    /// The first row of a query, if there is one.
    pub(super) fn first<T>(
        &self,
        text: &'static str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Step<Option<T>> {
        self.with(text, |statement| statement.query_row(parameters, read).optional())
    }

    pub(super) fn queue_text(&self, queue: QueueId) -> &'w str {
        self.engine.names.queue_text(queue)
    }

    pub(super) fn kind_text(&self, kind: KindId) -> &'w str {
        self.engine.names.kind_text(kind)
    }

    /// What waits in a queue.
    pub(super) fn waiting(&mut self, queue: QueueId) -> Step<Load> {
        let (jobs, bytes) = self.tally.waiting(self.db, self.engine, queue)?;
        Ok(Load {
            jobs: usize::try_from(jobs).unwrap_or(0),
            bytes: usize::try_from(bytes).unwrap_or(0),
        })
    }

    /// Counts bytes that begin to wait, or wait no more.
    pub(super) fn weigh(&mut self, queue: QueueId, bytes: i64) {
        self.tally.add(queue, Column::Bytes, bytes);
    }

    /// Counts a job that leaves one state for another.
    pub(super) fn step(&mut self, queue: QueueId, from: State, to: State) {
        self.tally.add(queue, Column::of(from), -1);
        self.tally.add(queue, Column::of(to), 1);
        if from.is_waiting() && !to.is_waiting() {
            self.after.room = true;
        }
    }

    /// Counts a job out of the state from which it ends.
    pub(super) fn leave(&mut self, queue: QueueId, from: State) {
        self.tally.add(queue, Column::of(from), -1);
        self.after.room |= from.is_waiting();
    }

    /// Where a job that nothing else blocks goes, and its place there.
    pub(super) fn line_up(&mut self, run_at: Timestamp) -> (State, i64) {
        let place = self.next_place();
        if run_at > self.now {
            self.scheduled(run_at);
            return (State::Scheduled, place);
        }
        self.after.ready += 1;
        (State::Queued, place)
    }

    /// A job now waits for this instant.
    fn scheduled(&mut self, run_at: Timestamp) {
        self.after.due(run_at);
        self.next_start = self.next_start.map(|next| next.min(run_at.as_micros()));
    }

    /// Queues up to `limit` scheduled jobs whose time has come, in the order of (time, place).
    pub(super) fn promote(&mut self, limit: usize) -> Step<usize> {
        if self.next_start()? > self.now.as_micros() {
            return Ok(0);
        }
        let now = self.now.as_micros();
        let mut promoted = 0;
        while promoted < limit {
            let most = (limit - promoted).min(Self::SLICE);
            let rows: Vec<(i64, String)> = {
                let mut due = self.prepare(sql::STARTS)?;
                let rows = due.query_map((now, most as i64), |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<rusqlite::Result<_>>()?
            };
            for (row, queue) in &rows {
                let place = self.next_place();
                self.run(sql::PROMOTE, (place, row))?;
                let queue = self.engine.names.queue(queue)?;
                self.step(queue, State::Scheduled, State::Queued);
            }
            self.after.ready += rows.len();
            promoted += rows.len();
            if rows.len() < most {
                break;
            }
        }
        self.next_start = None;
        Ok(promoted)
    }

    /// So many rows are read at a time.
    const SLICE: usize = 1024;

    /// When the next scheduled job may start; the end of time for none.
    pub(super) fn next_start(&mut self) -> Step<i64> {
        if let Some(next) = self.next_start {
            return Ok(next);
        }
        let next = self
            .first(sql::NEXT_START, [], |row| row.get(0))?
            .unwrap_or(i64::MAX);
        self.next_start = Some(next);
        Ok(next)
    }

    /// Opens the part of the transaction that belongs to one call. One that is alone needs no part: it can take
    /// everything back.
    pub(super) fn open_call(&self, alone: bool) -> Step<Mark> {
        if !alone {
            self.with("SAVEPOINT call", |s| s.execute([]))?;
        }
        Ok(self.mark())
    }

    /// Keeps what the call did.
    pub(super) fn keep_call(&self, alone: bool) -> Step<()> {
        if !alone {
            self.with("RELEASE call", |s| s.execute([]))?;
        }
        Ok(())
    }

    /// Takes back what the call did.
    pub(super) fn undo_call(&mut self, mark: Mark, alone: bool) -> Step<()> {
        self.back_to(mark);
        if !alone && !self.db.is_autocommit() {
            self.prepare("ROLLBACK TO call")?.execute([])?;
            self.prepare("RELEASE call")?.execute([])?;
        }
        self.after.undone |= alone;
        Ok(())
    }

    /// Opens a part of a call that can be taken back.
    pub(super) fn open_part(&self) -> Step<Mark> {
        self.prepare("SAVEPOINT part")?.execute([])?;
        Ok(self.mark())
    }

    /// Keeps the part.
    pub(super) fn keep_part(&self) -> Step<()> {
        self.prepare("RELEASE part")?.execute([])?;
        Ok(())
    }

    /// Takes the part back.
    pub(super) fn undo_part(&mut self, mark: Mark) -> Step<()> {
        self.prepare("ROLLBACK TO part")?.execute([])?;
        self.prepare("RELEASE part")?.execute([])?;
        self.back_to(mark);
        Ok(())
    }
}

/// The bytes of a payload.
pub(super) fn weight(payload: &Payload) -> i64 {
    payload
        .len()
        .map_or(0, |len| i64::try_from(len).unwrap_or(i64::MAX))
}

/// The row of a job, from the handle of whoever holds it.
pub(super) fn row_of(job: JobRef) -> i64 {
    job.handle.0 as i64
}

/// A number of a table, from one of ours.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An instant of a table: none for the end of time.
pub(super) fn instant(at: Timestamp) -> Option<i64> {
    (at != Timestamp::MAX).then_some(at.as_micros())
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::durable::testing::Folder;
    use crate::engine::sqlite::{Sharing, SqliteEngine};

    /// SQLite syncs no commit that changes no page, and what is written over itself changes none.
    #[test]
    fn a_commit_that_is_to_be_synced_changes_something() {
        let folder = Folder::new();
        let path = folder.path("jobs.db");
        let engine = SqliteEngine::open(&path, Sharing::default(), Timestamp::EPOCH).expect("a new file");
        let queue = engine.names().queue("q").expect("a valid name");
        let pause = |work: &mut Work<'_>| {
            let name = work.queue_text(queue);
            work.run(sql::SET_PAUSED, (name, true)).map(drop)
        };
        let mut last = Clock::default();
        for round in 0..3 {
            let written = engine.store.writer.call(Durability::Disk, None, pause);
            written.expect("the disk works");
            let clock = engine.store.look(clock).expect("it can be read");
            assert_ne!(clock, last, "round {round} has changed nothing");
            assert_eq!(*engine.store.synced.lock(), Some(clock));
            last = clock;
        }
    }
}
