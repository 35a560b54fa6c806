//! Counts per queue: what one transaction adds to the table `counters`.
//!
//! They are written once per transaction and queue, in the transaction of the changes they count, so they are
//! true for every process at every instant.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::Store;
use super::work::Step;
use crate::engine::sql::statements as sql;
use crate::engine::{QueueCounts, Totals};
use crate::job::State;
use crate::names::QueueId;
use crate::outcome::{FailureKind, ShedReason, Transition};

/// The states that are counted, the finished jobs that are kept and the bytes that wait.
const STATES: usize = 6;
/// How many columns there are.
pub(super) const COLUMNS: usize = STATES + Totals::COUNT;

/// A column of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Blocked,
    Scheduled,
    Queued,
    Running,
    Kept,
    Bytes,
    Pushed,
    Restored,
    Claimed,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
    Retried,
    Returned,
    Stale,
    Refused,
    ShedNewest,
    ShedOldest,
    ShedLowest,
    ShedCoalesced,
    ShedSampled,
    ShedDelayed,
}

impl Column {
    /// Where jobs are counted that were shed for this.
    pub(super) fn of_shed(reason: ShedReason) -> Self {
        match reason {
            ShedReason::Newest => Self::ShedNewest,
            ShedReason::Oldest => Self::ShedOldest,
            ShedReason::Lowest => Self::ShedLowest,
            ShedReason::Coalesced => Self::ShedCoalesced,
            ShedReason::Sampled => Self::ShedSampled,
            ShedReason::Delayed => Self::ShedDelayed,
        }
    }

    /// Where a job is counted that a transition ends.
    pub(super) fn of_end(t: &Transition) -> Self {
        match t.failure.as_ref().map(|failure| failure.kind) {
            Some(FailureKind::Shed(reason)) => Self::of_shed(reason),
            _ => Self::of(t.to),
        }
    }

    /// Where jobs in this state are counted.
    pub(super) fn of(state: State) -> Self {
        match state {
            State::Blocked => Self::Blocked,
            State::Scheduled => Self::Scheduled,
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Expired => Self::Expired,
            // Whoever sheds says why.
            State::Shed => Self::of_shed(ShedReason::Newest),
        }
    }
}

/// What a transaction adds.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    added: Vec<(QueueId, [i64; COLUMNS])>,
    /// How many waited when the transaction began, and how many bytes, by queue.
    waited: HashMap<QueueId, (i64, i64)>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Anything.
    pub(super) any: bool,
    /// A queue that had no row.
    pub(super) new: bool,
}

impl Tally {
    pub(super) fn add(&mut self, queue: QueueId, column: Column, count: i64) {
        let place = match self.added.iter().position(|(q, _)| *q == queue) {
            Some(place) => place,
            None => {
                self.added.push((queue, [0; COLUMNS]));
                self.added.len() - 1
            }
        };
        self.added[place].1[column as usize] += count;
    }

    /// What is added to a column, over all queues.
    pub(super) fn sum(&self, column: Column) -> i64 {
        self.added.iter().map(|(_, added)| added[column as usize]).sum()
    }

    /// How many jobs wait in a queue, and how many bytes.
    pub(super) fn waiting(&mut self, db: &Connection, engine: &Store, queue: QueueId) -> Step<(i64, i64)> {
        let before = match self.waited.get(&queue) {
            Some(before) => *before,
            None => {
                let before = waiting(db, engine.names.queue_text(queue))?;
                self.waited.insert(queue, before);
                before
            }
        };
        let added = self.added.iter().find(|(q, _)| *q == queue);
        let of = |columns: &[Column]| {
            let added = added.iter();
            let sums = added.map(|(_, added)| columns.iter().map(|c| added[*c as usize]).sum::<i64>());
            sums.sum::<i64>()
        };
        let jobs = of(&[Column::Blocked, Column::Scheduled, Column::Queued]);
        Ok((before.0 + jobs, before.1 + of(&[Column::Bytes])))
    }

    /// Writes what was added.
    pub(super) fn write(&self, db: &Connection, engine: &Store) -> Step<Counted> {
        let mut counted = Counted::default();
        for (queue, added) in &self.added {
            if added.iter().all(|count| *count == 0) {
                continue;
            }
            counted.any = true;
            let name = engine.names.queue_text(*queue);
            let mut values = vec![rusqlite::types::Value::from(name.to_owned())];
            values.extend(added.iter().map(|count| rusqlite::types::Value::from(*count)));
            let mut statement = db.prepare_cached(sql::COUNT)?;
            let changed = statement.execute(params_from_iter(values.iter()))?;
            if changed == 0 {
                db.prepare_cached(sql::COUNT_FIRST)?
                    .execute(params_from_iter(values.iter()))?;
                counted.new = true;
            }
        }
        Ok(counted)
    }
}

/// How many jobs wait in a queue, and how many bytes.
pub(super) fn waiting(db: &Connection, queue: &str) -> Step<(i64, i64)> {
    let mut statement = db.prepare_cached(sql::WAITING)?;
    let waiting = statement.query_row([queue], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(waiting.optional()?.unwrap_or((0, 0)))
}

/// The counts in a row of the table, from this column on.
pub(super) fn read(row: &rusqlite::Row<'_>, from: usize, queue: QueueId) -> rusqlite::Result<QueueCounts> {
    let mut counts = QueueCounts::new(queue);
    let get = |at: Column| row.get::<_, i64>(from + at as usize).map(i64::unsigned_abs);
    counts.blocked = get(Column::Blocked)?;
    counts.scheduled = get(Column::Scheduled)?;
    counts.queued = get(Column::Queued)?;
    counts.running = get(Column::Running)?;
    counts.kept = get(Column::Kept)?;
    for (at, (_, total)) in counts.totals.named_mut().into_iter().enumerate() {
        *total = row.get::<_, i64>(from + STATES + at)?.unsigned_abs();
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_stand_in_the_order_of_the_totals() {
        let names = Totals::default().named();
        for (column, name) in [
            (Column::Pushed, "pushed"),
            (Column::Claimed, "claimed"),
            (Column::Expired, "expired"),
            (Column::Refused, "refused"),
            (Column::of_shed(ShedReason::Newest), "shed_newest"),
            (Column::of_shed(ShedReason::Sampled), "shed_sampled"),
        ] {
            assert_eq!(names[column as usize - STATES].0, name);
        }
        assert_eq!(Column::ShedDelayed as usize, COLUMNS - 1);
    }
}
