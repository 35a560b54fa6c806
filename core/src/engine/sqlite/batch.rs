//! Writes that belong together: all are made inside a part of the transaction, which is taken back if one is
//! refused.

use super::insert::{Draft, is_full, refused};
use super::read::damaged;
use super::tally::Column;
use super::work::{Step, Work, row_of};
use crate::engine::sql::row::list;
use crate::engine::sql::statements as sql;
use crate::engine::{Applied, BatchReceipt, JobRef};
use crate::id::JobId;
use crate::job::{State, Token};
use crate::names::QueueId;
use crate::outcome::Transition;
use crate::time::Timestamp;

impl Work<'_> {
    /// Applies a batch whole or not at all.
    pub(super) fn commit(
        &mut self,
        drafts: &[Draft<'_>],
        transitions: &[Transition],
        signals: &[(JobId, Token)],
    ) -> Step<BatchReceipt> {
        self.promote(Self::SOME)?;
        let mark = self.open_part()?;
        let mut receipt = BatchReceipt {
            applied: !self.engine.sealed(),
            ..BatchReceipt::default()
        };
        for t in transitions {
            let applied = self.apply(t)?;
            receipt.applied &= applied == Applied::Yes;
            receipt.transitions.push(applied);
        }
        for draft in drafts {
            let inserted = self.insert(draft)?;
            receipt.applied &= !refused(inserted);
            receipt.inserted.push(inserted);
        }
        if receipt.applied {
            for (id, token) in signals {
                self.deliver(*id, token)?;
            }
            self.keep_part()?;
            return Ok(receipt);
        }
        self.undo_part(mark)?;
        self.count_refused(drafts, transitions, &receipt)?;
        Ok(receipt)
    }

    /// Counts what was refused: a statistic, which a batch that was not applied leaves behind.
    fn count_refused(
        &mut self,
        drafts: &[Draft<'_>],
        transitions: &[Transition],
        receipt: &BatchReceipt,
    ) -> Step<()> {
        for (t, applied) in transitions.iter().zip(&receipt.transitions) {
            if *applied == Applied::Stale
                && let Some(queue) = self.queue_of(t.job)?
            {
                self.tally.add(queue, Column::Stale, 1);
            }
        }
        for (draft, inserted) in drafts.iter().zip(&receipt.inserted) {
            if is_full(*inserted) && !draft.undecided {
                self.tally.add(draft.queue, Column::Refused, 1);
            }
        }
        Ok(())
    }

    fn queue_of(&self, job: JobRef) -> Step<Option<QueueId>> {
        let queue = self.first(sql::QUEUE_OF, (row_of(job), job.id.to_bytes()), |row| {
            row.get::<_, String>(0)
        })?;
        Ok(queue.map(|name| self.engine.names.queue(&name)).transpose()?)
    }

    /// Takes a token off a job's list; a job that waits for no more tokens is scheduled or queued.
    fn deliver(&mut self, id: JobId, token: &str) -> Step<()> {
        let blocked = self.first(sql::BLOCKED, [id.to_bytes().as_slice()], |row| {
            let (queue, waits): (String, Option<String>) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, i64>(0)?, queue, waits, row.get::<_, i64>(3)?))
        })?;
        let Some((row, queue, waits, run_at)) = blocked else {
            return Ok(());
        };
        let waits = waits.unwrap_or_else(|| "[]".into());
        let waits: Vec<String> = serde_json::from_str(&waits).map_err(|e| damaged(format!("waits: {e}")))?;
        let left: Vec<&String> = waits.iter().filter(|t| **t != *token).collect();
        if left.len() == waits.len() {
            return Ok(());
        }
        if !left.is_empty() {
            self.run(sql::SET_WAITS, (row, list(&left)?))?;
            return Ok(());
        }
        let (to, place) = self.line_up(Timestamp::from_micros(run_at));
        self.run(sql::UNBLOCK, (row, to.name(), place, self.now.as_micros()))?;
        let queue = self.engine.names.queue(&queue)?;
        self.step(queue, State::Blocked, to);
        Ok(())
    }
}
