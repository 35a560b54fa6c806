//! Pushing: [`MemoryEngine::store_all`] behind [`Engine::insert`](crate::engine::Engine::insert).

use super::MemoryEngine;
use super::after::After;
use super::room::{Bound, Refused};
use crate::engine::{Insert, Inserted};
use crate::id::JobId;
use crate::time::Timestamp;

impl MemoryEngine {
    /// Stores jobs in order until one is refused; a receipt for each, the refused one included.
    pub(super) fn store_all(
        &self,
        jobs: &[Insert<'_>],
        now: Timestamp,
        receipt: &mut Vec<Inserted>,
        after: &mut After,
    ) {
        if let [job] = jobs {
            return receipt.push(self.store_one(job, now, after));
        }
        for job in jobs.iter().filter(|job| weighs(job)) {
            self.weigh(job.queue);
        }
        receipt.reserve(jobs.len());
        let mut left = jobs;
        while let Some(first) = left.first() {
            let (some, rest) = match key(first) {
                Some(_) => left.split_at(1),
                None => left.split_at(
                    left.iter()
                        .position(|job| key(job).is_some())
                        .unwrap_or(left.len()),
                ),
            };
            left = rest;
            let before = receipt.len();
            match key(first) {
                Some(key) => receipt.push(self.store_keyed(first, key, now, after)),
                None => self.store_run(some, now, receipt, after),
            }
            if receipt[before..].iter().any(|inserted| refused(*inserted)) {
                return;
            }
        }
    }

    /// Stores one job: the most frequent push of all.
    #[inline]
    pub(super) fn store_one(&self, job: &Insert<'_>, now: Timestamp, after: &mut After) -> Inserted {
        if weighs(job) {
            self.weigh(job.queue);
        }
        if let Some(key) = key(job) {
            return self.store_keyed(job, key, now, after);
        }
        let mut stripe = self.stripes.mine();
        self.session(&mut stripe, after, now).insert(job, bound(job))
    }

    /// Stores jobs without keys.
    fn store_run(&self, jobs: &[Insert<'_>], now: Timestamp, receipt: &mut Vec<Inserted>, after: &mut After) {
        let mut stripe = self.stripes.mine();
        let mut session = self.session(&mut stripe, after, now);
        for job in jobs {
            let inserted = session.insert(job, bound(job));
            receipt.push(inserted);
            if refused(inserted) {
                break;
            }
        }
    }

    /// Stores a job that has a key. The key stays locked until the job is stored, so of many who push it
    /// at once one succeeds.
    fn store_keyed(&self, job: &Insert<'_>, key: &str, now: Timestamp, after: &mut After) -> Inserted {
        let mut holders = self.keys.lock(key);
        if self.index.has(job.id, &self.slab) {
            return Inserted::Duplicate;
        }
        let holder = holders.get(key).copied();
        if let Some(answer) = holder.and_then(|holder| self.holds(holder, key, job)) {
            return answer;
        }
        let mut stripe = self.stripes.mine();
        let inserted = self.session(&mut stripe, after, now).insert(job, bound(job));
        if inserted == Inserted::New && job.shed.is_none() {
            holders.insert(key.into(), job.id);
        }
        inserted
    }

    /// What the holder of its key means for a job; `None` if the holder no longer is.
    fn holds(&self, holder: JobId, key: &str, job: &Insert<'_>) -> Option<Inserted> {
        let (_, record) = self.index.find(holder, &self.slab)?;
        if !record.holds(key) {
            return None;
        }
        let print = record.extras().map(|e| e.fingerprint);
        let same = record.kind() == job.kind && print == job.extras.map(|e| e.fingerprint);
        Some(keyed(holder, same))
    }
}

/// The receipt of a job whose key belongs to another.
pub(super) fn keyed(holder: JobId, same: bool) -> Inserted {
    if same {
        Inserted::Keyed(holder)
    } else {
        Inserted::Conflict(holder)
    }
}

/// Whether this is the end of a push of several jobs, or of a batch.
pub(super) fn refused(inserted: Inserted) -> bool {
    matches!(
        inserted,
        Inserted::Full(_) | Inserted::FullBytes(_) | Inserted::Conflict(_) | Inserted::Sealed
    )
}

/// The idempotency key, if the job has one.
pub(super) fn key<'j>(job: &Insert<'j>) -> Option<&'j str> {
    job.extras?.key.as_deref()
}

/// Whether a job asks for its queue's bytes to be counted.
pub(super) fn weighs(job: &Insert<'_>) -> bool {
    job.capacity_bytes > 0 || job.resident.bytes > 0
}

/// The most that may wait, this job included; nothing if it is never refused.
pub(super) fn bound(job: &Insert<'_>) -> Bound {
    if job.restored.is_some() || job.shed.is_some() {
        return Bound::default();
    }
    Bound {
        jobs: job.capacity,
        bytes: job.capacity_bytes,
    }
}

impl From<Refused> for Inserted {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Jobs(waiting) => Inserted::Full(waiting),
            Refused::Bytes(waiting) | Refused::Raced(waiting) => Inserted::FullBytes(waiting),
        }
    }
}
