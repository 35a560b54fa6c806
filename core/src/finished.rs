//! Who waits for the end of which job: a bell per awaited id, and nothing at all on the path of a job
//! that nobody waits for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

use crate::bell::Bell;
use crate::id::JobId;
use crate::time::Deadline;

const SHARDS: usize = 16;

/// The bells of the jobs that somebody waits for. Any thread.
#[derive(Debug, Default)]
pub struct Finished {
    waiters: AtomicUsize,
    shards: [Mutex<HashMap<JobId, Awaited>>; SHARDS],
}

#[derive(Debug, Default)]
struct Awaited {
    bell: Arc<Bell>,
    waiters: usize,
}

impl Finished {
    /// Registers an interest in the end of a job. Look at the job's state after this, then wait.
    pub fn listen(&self, id: JobId) -> Wait<'_> {
        let mut shard = self.shard(id).lock();
        let awaited = shard.entry(id).or_default();
        awaited.waiters += 1;
        let bell = awaited.bell.clone();
        drop(shard);
        self.waiters.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Wait {
            finished: self,
            id,
            bell,
        }
    }

    /// Wakes whoever waits for this job. Call it after its final state can be read.
    pub fn ring(&self, id: JobId) {
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        let bell = self.shard(id).lock().get(&id).map(|a| a.bell.clone());
        if let Some(bell) = bell {
            bell.ring_all();
        }
    }

    /// Wakes everybody, whatever they wait for.
    pub fn ring_all(&self) {
        for shard in &self.shards {
            let bells: Vec<_> = shard.lock().values().map(|a| a.bell.clone()).collect();
            bells.iter().for_each(|b| b.ring_all());
        }
    }

    /// How many interests are registered.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.waiters.load(Ordering::SeqCst)
    }

    fn shard(&self, id: JobId) -> &Mutex<HashMap<JobId, Awaited>> {
        &self.shards[id.as_u128() as usize % SHARDS]
    }
}

/// An interest in the end of one job. Dropping it takes it back.
#[derive(Debug)]
#[must_use = "an interest that is dropped at once hears nothing"]
pub struct Wait<'a> {
    finished: &'a Finished,
    id: JobId,
    bell: Arc<Bell>,
}

impl Wait<'_> {
    /// Waits until `done` says so or `deadline` passes; returns what `done` said last.
    pub fn until<T>(&self, deadline: Deadline, mut done: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let listener = self.bell.listen();
            if let Some(answer) = done() {
                return Some(answer);
            }
            if deadline.passed() {
                return None;
            }
            listener.wait(deadline);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut shard = self.finished.shard(self.id).lock();
        if let Some(awaited) = shard.get_mut(&self.id) {
            awaited.waiters -= 1;
            if awaited.waiters == 0 {
                shard.remove(&self.id);
            }
        }
        drop(shard);
        self.finished.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    #[test]
    fn only_the_awaited_job_wakes() {
        let (finished, done) = (Finished::default(), AtomicBool::new(false));
        let id = JobId::from_u128(7);
        let wait = finished.listen(id);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                finished.ring(JobId::from_u128(8));
                done.store(true, Ordering::SeqCst);
                finished.ring(id);
            });
            let seen = wait.until(Deadline::NEVER, || done.load(Ordering::SeqCst).then_some(()));
            assert_eq!(seen, Some(()));
        });
        assert_eq!(wait.until(Deadline::after(Duration::ZERO), || None::<()>), None);
        drop(wait);
        assert_eq!(finished.waiters(), 0);
        assert!(finished.shards.iter().all(|s| s.lock().is_empty()));
    }
}
