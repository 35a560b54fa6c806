//! Counts per queue: what one transaction adds to the table `counters`.
//!
//! They are written once per transaction and queue, in the transaction of the changes they count, so they are
//! true for every process at every instant.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::Store;
use super::work::Step;
use crate::engine::QueueCounts;
use crate::engine::sql::statements as sql;
use crate::job::State;
use crate::names::QueueId;

/// The states that are counted, and the finished jobs that are kept.
const STATES: usize = 5;
/// How many columns there are.
pub(super) const COLUMNS: usize = STATES + TOTALS;
/// How many totals the table has.
const TOTALS: usize = 11;

/// A column of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Blocked,
    Scheduled,
    Queued,
    Running,
    Kept,
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
}

impl Column {
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
            State::Expired | State::Shed => Self::Expired,
        }
    }
}

/// What a transaction adds.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    added: Vec<(QueueId, [i64; COLUMNS])>,
    /// How many waited when the transaction began, by queue.
    waited: HashMap<QueueId, i64>,
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

    /// How many jobs wait in a queue.
    pub(super) fn waiting(&mut self, db: &Connection, engine: &Store, queue: QueueId) -> Step<i64> {
        let before = match self.waited.get(&queue) {
            Some(before) => *before,
            None => {
                let mut statement = db.prepare_cached(sql::WAITING)?;
                let name = engine.names.queue_text(queue);
                let before = statement.query_row([name], |row| row.get(0)).optional()?;
                let before = before.unwrap_or(0);
                self.waited.insert(queue, before);
                before
            }
        };
        let added = self.added.iter().find(|(q, _)| *q == queue);
        let waiting = |a: &[i64; COLUMNS]| {
            a[Column::Blocked as usize] + a[Column::Scheduled as usize] + a[Column::Queued as usize]
        };
        Ok(before + added.map_or(0, |(_, added)| waiting(added)))
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

/// The counts in a row of the table, from this column on.
pub(super) fn read(row: &rusqlite::Row<'_>, from: usize, queue: QueueId) -> rusqlite::Result<QueueCounts> {
    let mut counts = QueueCounts::new(queue);
    let get = |at: Column| row.get::<_, i64>(from + at as usize).map(i64::unsigned_abs);
    counts.blocked = get(Column::Blocked)?;
    counts.scheduled = get(Column::Scheduled)?;
    counts.queued = get(Column::Queued)?;
    counts.running = get(Column::Running)?;
    counts.kept = get(Column::Kept)?;
    for (at, (_, total)) in counts.totals.named_mut().into_iter().take(TOTALS).enumerate() {
        *total = row.get::<_, i64>(from + STATES + at)?.unsigned_abs();
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Totals;

    #[test]
    fn the_columns_stand_in_the_order_of_the_totals() {
        let names = Totals::default().named();
        for (column, name) in [
            (Column::Pushed, "pushed"),
            (Column::Claimed, "claimed"),
            (Column::Expired, "expired"),
            (Column::Refused, "refused"),
        ] {
            assert_eq!(names[column as usize - STATES].0, name);
        }
        assert_eq!(Column::Refused as usize, COLUMNS - 1);
    }
}
