//! The jobs of a dump, in memory.

use super::{Counted, Shelf};
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Filter, Job, Page};

/// Jobs in the order of a dump.
#[derive(Debug)]
pub(crate) struct Lines {
    jobs: Vec<Job>,
    paused: Vec<String>,
    /// Their places in `jobs`, newest first.
    newest: Vec<usize>,
}

impl Lines {
    pub(crate) fn new(jobs: Vec<Job>, paused: Vec<String>) -> Self {
        let mut newest: Vec<usize> = (0..jobs.len()).collect();
        newest.sort_unstable_by(|a, b| jobs[*b].id.cmp(&jobs[*a].id));
        Self { jobs, paused, newest }
    }
}

impl Shelf for Lines {
    fn name(&self) -> &'static str {
        "dump"
    }

    fn get(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.jobs.iter().find(|job| job.id == id).cloned())
    }

    fn list(&self, filter: &Filter) -> Result<Page> {
        let size = filter.page_size()?;
        let all = self.newest.iter().map(|at| &self.jobs[*at]);
        let matching: Vec<&Job> = all.filter(|job| matches(filter, job)).collect();
        let further = matching
            .iter()
            .filter(|job| filter.after.is_none_or(|after| job.id < after));
        Ok(Page {
            jobs: further.take(size).map(|job| Job::clone(job)).collect(),
            total: matching.len(),
        })
    }

    fn export(&self, each: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.jobs.iter().cloned().try_for_each(each)
    }

    fn counts(&self) -> Result<Vec<Counted>> {
        let one = |job: &Job| Counted {
            queue: job.queue.to_string(),
            state: job.state,
            why: None,
            jobs: 1,
        };
        Ok(self.jobs.iter().map(one).collect())
    }

    fn paused(&self) -> Result<Vec<String>> {
        Ok(self.paused.clone())
    }
}

fn matches(filter: &Filter, job: &Job) -> bool {
    let same = |asked: &Option<String>, has: &str| asked.as_deref().is_none_or(|asked| asked == has);
    same(&filter.queue, &job.queue)
        && same(&filter.kind, &job.kind)
        && (filter.states.is_empty() || filter.states.contains(&job.state))
        && (filter.key.is_none() || filter.key.as_deref() == job.key())
        && filter.created_from.is_none_or(|from| job.created >= from)
        && filter.created_before.is_none_or(|before| job.created < before)
}
