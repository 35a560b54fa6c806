//! Which job goes if one has to: the first of a key, of the lowest priority, or of the key that has most.

use super::{Print, Priority, Rings, Strand, Ticket, Turns};
use crate::engine::memory::flows::pool::Pool;

/// How many keys [`Turns::first_of_longest`] looks at beside the one it remembers.
const SAMPLE: u32 = 16;

impl Turns {
    /// The job that was queued first of those that a key has at its lowest priority.
    pub(in super::super) fn first_of(&self, (name, print): (&str, Print)) -> Option<Ticket> {
        self.least(self.find(name, print)?)
    }

    /// The same of a key that has more queued jobs than `than` and, as far as a look at some tells, than any
    /// other.
    pub(in super::super) fn first_of_longest(&mut self, than: usize) -> Option<Ticket> {
        let end = self.keys.end();
        for _ in 0..SAMPLE.min(end) {
            self.cursor = (self.cursor + 1) % end;
            self.compare(self.cursor);
        }
        let fullest = self.fullest;
        let long = fullest < end && self.keys[fullest].queued as usize > than;
        if long { self.least(fullest) } else { None }
    }

    /// The lowest priority that has a job with a key, and the first of one of its flows: of one that may start
    /// nothing, if there is such a one.
    pub(in super::super) fn first_of_lowest(&self) -> Option<(Priority, Ticket)> {
        let some = |(priority, rings): (&Priority, &Rings)| Some((*priority, rings.some(&self.strands)?));
        let (priority, strand) = self.rings.iter().find_map(some)?;
        let entry = self.strands[strand].entries.first()?;
        Some((priority, self.entries[entry].ticket))
    }

    /// Remembers the key if more of its jobs are queued than of the one remembered.
    pub(super) fn compare(&mut self, key: u32) {
        if self.keys[key].queued > self.keys[self.fullest].queued {
            self.fullest = key;
        }
    }

    fn least(&self, key: u32) -> Option<Ticket> {
        let lowest = self.strands_of(key).map(|s| self.strands[s].priority).min()?;
        let entry = self.first_entry(key, |s| s.priority == lowest)?;
        Some(self.entries[entry].ticket)
    }
}

impl Rings {
    /// A strand that can give a job away.
    fn some(&self, strands: &Pool<Strand>) -> Option<u32> {
        let firsts = self.rings.iter().filter_map(|ring| ring.strands.first());
        let first = firsts.min_by_key(|strand| strands[*strand].stamp);
        self.parked.first().or(first)
    }
}
