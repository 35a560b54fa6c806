//! Listings: which jobs are asked for, and the page that answers.

use super::{Job, State};
use crate::error::{Error, Result};
use crate::id::JobId;
use crate::time::Timestamp;

/// Which jobs a listing shows. Every field that is set must match.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Filter {
    /// Only this queue.
    pub queue: Option<String>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only these states; empty is all.
    pub states: Vec<State>,
    /// Only the job with this idempotency key.
    pub key: Option<String>,
    /// Only jobs pushed at or after this instant.
    pub created_from: Option<Timestamp>,
    /// Only jobs pushed before this instant: with waiting states, the long-waiting ones.
    pub created_before: Option<Timestamp>,
    /// Continue after this id: the last one of the page before.
    pub after: Option<JobId>,
    /// The most jobs on a page, from 1 to 10 000; default 20.
    pub limit: Option<usize>,
}

impl Filter {
    /// Jobs on a page unless the filter says otherwise.
    pub const DEFAULT_LIMIT: usize = 20;
    /// The most jobs on a page.
    pub const MAX_LIMIT: usize = 10_000;

    /// The page size.
    ///
    /// # Errors
    /// `Invalid` when it is 0 or above [`Filter::MAX_LIMIT`].
    pub fn page_size(&self) -> Result<usize> {
        match self.limit.unwrap_or(Self::DEFAULT_LIMIT) {
            n @ 1..=Self::MAX_LIMIT => Ok(n),
            n => Err(Error::invalid(format!(
                "limit is {n}; it must be from 1 to {}",
                Self::MAX_LIMIT
            ))),
        }
    }
}

/// One page of a listing, newest job first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// How many jobs match the filter in all, on every page.
    pub total: usize,
}

impl Page {
    /// What [`Filter::after`] has to be for the page that follows this one, which was asked for with `filter`;
    /// `None` if this is the last. A page that is full to the last job may be followed by an empty one.
    #[must_use]
    pub fn next(&self, filter: &Filter) -> Option<JobId> {
        let full = self.jobs.len() >= filter.limit.unwrap_or(Filter::DEFAULT_LIMIT);
        let more = full && self.jobs.len() < self.total;
        self.jobs.last().filter(|_| more).map(|job| job.id)
    }
}
