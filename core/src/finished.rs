//! Who waits for the end of which job: a bell per awaited id, or a place where many ends are told, and nothing at
//! all on the path of a job that nobody waits for.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::bell::Bell;
use crate::ends::{Ends, Tag};
use crate::id::JobId;
use crate::job::State;
use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::time::Deadline;

const SHARDS: usize = 16;

/// The bells of the jobs that somebody waits for. Any thread.
#[derive(Debug, Default)]
pub struct Finished {
    waiters: AtomicUsize,
    shards: [Mutex<HashMap<JobId, Awaited>>; SHARDS],
    /// Everybody who is told of many ends.
    ends: Mutex<Vec<Weak<Ends>>>,
}

#[derive(Debug, Default)]
struct Awaited {
    bell: Arc<Bell>,
    waiters: usize,
    told: Vec<(Arc<Ends>, Tag)>,
}

impl Finished {
    /// Registers an interest in the end of a job. Look at the job's state after this, then wait.
    pub fn listen(&self, id: JobId) -> Wait<'_> {
        let mut shard = self.shard(id);
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

    /// Tells whoever waits for this job, and in which state it has ended if it has. Call it after that can be read.
    pub fn ring(&self, id: JobId, state: Option<State>) {
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut shard = self.shard(id);
        let Some(awaited) = shard.get_mut(&id) else { return };
        let bell = (awaited.waiters > 0).then(|| awaited.bell.clone());
        let told = match state {
            Some(_) => std::mem::take(&mut awaited.told),
            None => awaited.told.clone(),
        };
        if awaited.waiters == 0 && awaited.told.is_empty() {
            shard.remove(&id);
        }
        drop(shard);
        if state.is_some() {
            self.waiters.fetch_sub(told.len(), Ordering::SeqCst);
        }
        if let Some(bell) = bell {
            bell.ring_all();
        }
        told.iter().for_each(|(ends, tag)| ends.tell(*tag, state));
    }

    /// Wakes everybody, whatever they wait for.
    pub fn ring_all(&self) {
        for shard in &self.shards {
            let bells: Vec<_> = lock(shard).values().map(|a| a.bell.clone()).collect();
            bells.iter().for_each(|b| b.ring_all());
        }
        let ends: Vec<_> = lock(&self.ends).iter().filter_map(Weak::upgrade).collect();
        ends.iter().for_each(|ends| ends.tell_all());
    }

    /// How many interests are registered.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.waiters.load(Ordering::SeqCst)
    }

    /// From now on this is told when everybody is.
    pub(crate) fn enrol(&self, ends: &Arc<Ends>) {
        let mut enrolled = lock(&self.ends);
        enrolled.retain(|ends| ends.strong_count() > 0);
        enrolled.push(Arc::downgrade(ends));
    }

    /// Has the end of a job told, once. Look at the job's state after this.
    pub(crate) fn watch(&self, id: JobId, ends: &Arc<Ends>, tag: Tag) {
        let told = (ends.clone(), tag);
        // Counted first: whoever rings takes those off that he finds.
        self.waiters.fetch_add(1, Ordering::SeqCst);
        self.shard(id).entry(id).or_default().told.push(told);
        fence(Ordering::SeqCst);
    }

    /// Takes that back, if it has not been told.
    pub(crate) fn unwatch(&self, id: JobId, tag: Tag) {
        let mut shard = self.shard(id);
        let Some(awaited) = shard.get_mut(&id) else { return };
        let place = awaited.told.iter().position(|(_, told)| *told == tag);
        let gone = place.map(|place| awaited.told.swap_remove(place));
        if awaited.waiters == 0 && awaited.told.is_empty() {
            shard.remove(&id);
        }
        drop(shard);
        if gone.is_some() {
            self.waiters.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn shard(&self, id: JobId) -> MutexGuard<'_, HashMap<JobId, Awaited>> {
        lock(&self.shards[id.as_u128() as usize % SHARDS])
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
        let mut shard = self.finished.shard(self.id);
        if let Some(awaited) = shard.get_mut(&self.id) {
            awaited.waiters -= 1;
            if awaited.waiters == 0 && awaited.told.is_empty() {
                shard.remove(&self.id);
            }
        }
        drop(shard);
        self.finished.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    fn is_empty(finished: &Finished) -> bool {
        finished.waiters() == 0 && finished.shards.iter().all(|shard| lock(shard).is_empty())
    }

    #[test]
    fn only_the_awaited_job_wakes() {
        let (finished, done) = (Finished::default(), AtomicBool::new(false));
        let id = JobId::from_u128(7);
        let wait = finished.listen(id);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                finished.ring(JobId::from_u128(8), None);
                done.store(true, Ordering::SeqCst);
                finished.ring(id, Some(State::Succeeded));
            });
            let seen = wait.until(Deadline::NEVER, || done.load(Ordering::SeqCst).then_some(()));
            assert_eq!(seen, Some(()));
        });
        assert_eq!(wait.until(Deadline::after(Duration::ZERO), || None::<()>), None);
        drop(wait);
        assert!(is_empty(&finished));
    }

    #[test]
    fn nothing_is_left_of_what_was_told_or_taken_back() {
        let (finished, ends) = (Finished::default(), Arc::new(Ends::default()));
        let [one, two] = [1, 2].map(JobId::from_u128);
        let tags = [(one, 10), (one, 11), (two, 12)].map(|(id, tag)| {
            let tag = ends.expect(id, tag).expect("the tag is free");
            finished.watch(id, &ends, tag);
            tag
        });
        let wait = finished.listen(one);
        finished.ring(one, None);
        assert_eq!(finished.waiters(), 4, "it has not ended");
        finished.ring(one, Some(State::Failed));
        assert_eq!(finished.waiters(), 2);
        drop(wait);
        finished.unwatch(one, tags[0]);
        finished.unwatch(two, tags[2]);
        finished.unwatch(two, tags[2]);
        assert!(is_empty(&finished));
    }
}
