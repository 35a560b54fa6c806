//! Looking at jobs: one, a page, all, counts.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::MemoryEngine;
use super::latch::MutexGuard;
use super::record::Record;
use crate::engine::QueueCounts;
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Filter, Job, Page, Priority, State};
use crate::names::{KindId, QueueId};

/// A filter with its names as numbers.
struct Search<'f> {
    filter: &'f Filter,
    queue: Option<QueueId>,
    kind: Option<KindId>,
}

impl MemoryEngine {
    fn to_job(&self, record: &Record) -> Job {
        record.to_job(&self.names, &self.shared.nodes)
    }

    pub(super) fn job(&self, id: JobId) -> Option<Job> {
        let (_, record) = self.index.find(id, &self.slab)?;
        Some(self.to_job(&record))
    }

    /// One page. Jobs are looked at one after the other, so that a long look holds nobody up.
    pub(super) fn page(&self, filter: &Filter) -> Result<Page> {
        let size = filter.page_size()?;
        let Some(search) = self.search(filter) else {
            return Ok(Page::default());
        };
        // A set: a job that is pushed again has, for a moment, two records.
        let (mut newest, mut total) = (BTreeSet::new(), 0);
        for record in self.records().filter(|r| search.matches(r)) {
            total += 1;
            if filter.after.is_none_or(|after| record.id() < after) {
                keep_largest(&mut newest, record.id(), size);
            }
        }
        let jobs = newest.into_iter().rev().filter_map(|id| {
            let (_, record) = self.index.find(id, &self.slab)?;
            search.matches(&record).then(|| self.to_job(&record))
        });
        Ok(Page {
            jobs: jobs.collect(),
            total,
        })
    }

    /// How many of the jobs that match have these marks.
    pub(super) fn count_marked(&self, filter: &Filter, marks: u16) -> usize {
        let Some(search) = self.search(filter) else {
            return 0;
        };
        let marked = self.records().filter(|r| r.marked(marks) && search.matches(r));
        marked.count()
    }

    /// The filter with its names as numbers; `None` if nobody ever used one of the names.
    fn search<'f>(&self, filter: &'f Filter) -> Option<Search<'f>> {
        let queue = filter.queue.as_deref().map(|name| self.names.find_queue(name));
        let kind = filter.kind.as_deref().map(|name| self.names.find_kind(name));
        Some(Search {
            filter,
            queue: flip(queue)?,
            kind: flip(kind)?,
        })
    }

    /// Every job, locked one after the other.
    pub(super) fn records(&self) -> impl Iterator<Item = MutexGuard<'_, Record>> {
        let slots = self.slab.slots().filter_map(|slot| self.slab.lock(slot));
        slots.filter(|record| record.taken())
    }

    /// Every unfinished job, as of one instant, in the order of [`Engine::export`].
    ///
    /// [`Engine::export`]: crate::engine::Engine::export
    pub(super) fn unfinished(&self) -> Vec<Record> {
        let stripes = self.stripes.lock_all();
        let unfinished = self.records().filter(|r| !r.state().is_final());
        let mut records: Vec<Record> = unfinished.map(|r| r.clone()).collect();
        drop(stripes);
        let ranks = self.ranks();
        records.sort_unstable_by_key(|r| place(r, &ranks));
        records
    }

    /// The rank of every queue in the order of the names, by number: numbers differ between engines.
    fn ranks(&self) -> Vec<usize> {
        let mut queues = self.names.queues();
        queues.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        let mut ranks = vec![0; queues.len()];
        for (rank, (queue, _)) in queues.iter().enumerate() {
            ranks[queue.index()] = rank;
        }
        ranks
    }

    /// Calls `each` for every unfinished job.
    pub(super) fn export_to(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        let records = self.unfinished();
        records
            .into_iter()
            .try_for_each(|record| each(record.at_rest(&self.names, &self.shared.nodes)))
    }

    /// The counts of every queue that has a name.
    pub(super) fn count(&self) -> Vec<QueueCounts> {
        let stripes = self.stripes.lock_all();
        // After the locks: whoever counted a job under one of them had named its queue before.
        let queues = self.names.queues();
        let mut sums: Vec<_> = queues.into_iter().map(|(id, _)| QueueCounts::new(id)).collect();
        stripes.iter().for_each(|s| s.count(&mut sums));
        drop(stripes);
        for sum in &mut sums {
            sum.paused = self.shared.queues.find(sum.queue).is_some_and(|q| q.paused());
        }
        sums
    }
}

impl Search<'_> {
    fn matches(&self, record: &Record) -> bool {
        record.matches(self.filter, self.queue, self.kind)
    }
}

/// Where an unfinished job stands among all of them: queued ones by queue and lane, then those that run, as
/// they were claimed, then scheduled ones by time and push, then blocked ones by age.
fn place(record: &Record, ranks: &[usize]) -> (u8, i64, Reverse<Priority>, u64, JobId) {
    let none = Reverse(0);
    let (group, first, priority, order) = match record.state() {
        state if state == State::Queued || record.rests() => (
            0,
            ranks[record.queue().index()] as i64,
            Reverse(record.priority()),
            record.order(),
        ),
        State::Running => (1, record.started().as_micros(), none, record.order()),
        State::Scheduled => (2, record.run_at().as_micros(), none, record.order()),
        _ => (3, record.created().as_micros(), none, 0),
    };
    (group, first, priority, order, record.id())
}

/// A name that was asked for must be known; none asked for is fine.
fn flip<T>(asked: Option<Option<T>>) -> Option<Option<T>> {
    match asked {
        Some(None) => None,
        Some(known) => Some(known),
        None => Some(None),
    }
}

fn keep_largest(ids: &mut BTreeSet<JobId>, id: JobId, size: usize) {
    if ids.len() < size {
        ids.insert(id);
    } else if ids.first().is_some_and(|smallest| *smallest < id) && ids.insert(id) {
        ids.pop_first();
    }
}
