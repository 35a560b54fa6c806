//! The answers about jobs of which some are in the file only.

use std::collections::{BTreeMap, HashSet};

use super::DurableEngine;
use crate::engine::Engine;
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Filter, Job, Page, Priority, State};

impl DurableEngine {
    /// Takes the job with this id back into memory, if it is in the file only: whoever wants to change it needs
    /// its record.
    pub(super) fn fetch(&self, id: JobId) -> Result<()> {
        if self.memory.spilled() == 0 || self.memory.knows(id) {
            return Ok(());
        }
        let _one = self.desk.refilling.lock();
        if self.memory.knows(id) {
            return Ok(());
        }
        let Some((row, mut job)) = self.reader.find(id)? else {
            return Ok(());
        };
        if self.memory.pick_row(row, &job.queue, job.priority) {
            job = self.raised(job);
            self.memory.take_back(row, &job)?;
        }
        Ok(())
    }

    /// The job with a fence that no former run can have given, which its row does not tell.
    fn raised(&self, job: Job) -> Job {
        let fence = job.fence.max(self.desk.fences());
        Job { fence, ..job }
    }

    /// A job that is in the file only.
    pub(super) fn peek(&self, id: JobId) -> Result<Option<Job>> {
        let found = match self.memory.spilled() {
            0 => None,
            _ => self.reader.find(id)?,
        };
        match found {
            Some((_, job)) => Ok(Some(self.raised(job))),
            // It may have been taken back since it was looked for in memory.
            None => self.memory.get(id),
        }
    }

    /// One page of both: those in memory and those in the file only.
    pub(super) fn page(&self, filter: &Filter) -> Result<Page> {
        let mut page = self.memory.list(filter)?;
        let asked = filter.states.is_empty() || filter.states.contains(&State::Queued);
        // No job with a key is in the file only.
        if self.memory.spilled() == 0 || !asked || filter.key.is_some() {
            return Ok(page);
        }
        let size = filter.page_size()?;
        let (spilled, total) = self.reader.page(filter, size)?;
        page.total += total.saturating_sub(self.memory.taken_back(filter));
        let known: HashSet<JobId> = page.jobs.iter().map(|job| job.id).collect();
        let new = |job: &Job| !known.contains(&job.id) && !self.memory.knows(job.id);
        page.jobs
            .extend(spilled.into_iter().filter(new).map(|job| self.raised(job)));
        page.jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
        page.jobs.truncate(size);
        Ok(page)
    }

    /// Every unfinished job, those in the file only at the end of their lanes.
    pub(super) fn export_all(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        if self.memory.spilled() == 0 {
            return self.memory.export(each);
        }
        // Jobs that are taken back meanwhile must not be told of twice, or not at all.
        let _one = self.desk.refilling.lock();
        let mut lanes: BTreeMap<(String, std::cmp::Reverse<Priority>), Vec<Job>> = BTreeMap::new();
        for (queue, priority) in self.reader.lanes()? {
            lanes.insert((queue, std::cmp::Reverse(priority)), Vec::new());
        }
        let (mut others, mut known) = (Vec::new(), HashSet::new());
        self.memory.export(&mut |job| {
            known.insert(job.id);
            if job.state == State::Queued {
                let lane = (job.queue.to_string(), std::cmp::Reverse(job.priority));
                lanes.entry(lane).or_default().push(job);
            } else {
                others.push(job);
            }
            Ok(())
        })?;
        for ((queue, priority), jobs) in lanes {
            jobs.into_iter().try_for_each(&mut *each)?;
            self.reader.lane(&queue, priority.0, &mut |_, job| {
                if known.contains(&job.id) {
                    Ok(())
                } else {
                    each(self.raised(job))
                }
            })?;
        }
        others.into_iter().try_for_each(each)
    }
}
