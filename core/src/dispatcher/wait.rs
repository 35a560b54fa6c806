//! Waiting for the end of a job.

use std::sync::Arc;

use super::lease::handling;
use super::{Dispatcher, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Job, State};
use crate::time::Deadline;

impl Inner {
    pub(crate) fn wait(&self, id: JobId, deadline: Deadline) -> Result<Job> {
        self.birth.check()?;
        let waiting = self.engine.signals().finished.listen(id);
        let state = |id| -> Result<State> { Ok(self.engine.standing(id)?.ok_or_else(|| unknown(id))?.state) };
        let now = state(id)?;
        let inside = !now.is_final() && self.wait_inside(id, now)?;
        let _inside = inside.then(|| WaitingHandler { inner: self, id });
        let look = || {
            // Asked before the state: what begins to run afterwards was claimed before the stop, and will be told of;
            // and what was seen to run may have ended by the time the stop is over.
            let (stopping, stopped) = (self.stopping(), self.stopped());
            match state(id) {
                Ok(s) if s.is_final() => Some(Ok(())),
                Ok(s) if stopped || (stopping && !self.may_run(s)) => Some(Err(Error::new(
                    ErrorKind::Closed,
                    format!("the dispatcher stopped while job {id} was {s}; nothing here will run it"),
                ))),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        };
        match waiting.until(deadline, look) {
            Some(ended) => ended?,
            None => {
                let text = format!(
                    "job {id} is still {} after the time to wait; wait longer, cancel it, or let explain say \
                     what it waits for",
                    state(id)?
                );
                return Err(Error::new(ErrorKind::Timeout, text));
            }
        }
        self.get(id)
    }

    /// Whether a job in this state may still come to an end once a stop has begun: one that runs, or one that
    /// another process may take.
    pub(super) fn may_run(&self, state: State) -> bool {
        state == State::Running || self.engine.capabilities().shared
    }

    pub(crate) fn get(&self, id: JobId) -> Result<Job> {
        self.birth.check()?;
        self.engine.get(id)?.ok_or_else(|| unknown(id))
    }

    /// Notes that a handler waits, and says whether one does here. Refuses a wait that cannot end: for the own job,
    /// or with every slot held by a handler that waits for a job which then has no slot to run in.
    fn wait_inside(&self, id: JobId, state: State) -> Result<bool> {
        let refused = |text| Err(Error::new(ErrorKind::WouldDeadlock, text));
        let Some(own) = handling(self) else {
            return Ok(false);
        };
        if own == id {
            return refused("a handler cannot wait for its own job");
        }
        let waiting = {
            let mut awaited = self.awaited.lock();
            awaited.push(id);
            awaited.len()
        };
        // Elsewhere a running job goes on; here it may be one of the handlers that wait.
        let elsewhere = self.engine.capabilities().shared && state == State::Running;
        let limit = self.slots.all.limit();
        if elsewhere || waiting < limit {
            return Ok(true);
        }
        let waiting = self.still_awaited();
        if waiting.as_ref().is_ok_and(|waiting| *waiting < limit) {
            return Ok(true);
        }
        self.await_no_more(id);
        waiting?;
        refused("every slot would be held by a handler that waits for another job; raise option concurrency")
    }

    /// For how many jobs that have not ended handlers wait. Who waits for another goes on in a moment, wherever he is.
    fn still_awaited(&self) -> Result<usize> {
        let awaited = self.awaited.lock().clone();
        let mut count = 0;
        for id in awaited {
            let standing = self.engine.standing(id)?;
            count += usize::from(standing.is_some_and(|at| !at.state.is_final()));
        }
        Ok(count)
    }

    fn await_no_more(&self, id: JobId) {
        // In the child of a fork the list is the parent's, and a thread that is not there may have it locked.
        if self.birth.check().is_ok() {
            let mut awaited = self.awaited.lock();
            let place = awaited.iter().position(|other| *other == id);
            if let Some(place) = place {
                awaited.swap_remove(place);
            }
        }
    }
}

/// Notes that a handler waits, until it waits no more.
struct WaitingHandler<'a> {
    inner: &'a Inner,
    id: JobId,
}

impl Drop for WaitingHandler<'_> {
    fn drop(&mut self) {
        self.inner.await_no_more(self.id);
    }
}

/// A handler waits for a job by means of its own, for as long as this lives: see [`Dispatcher::awaits`].
#[must_use = "the handler waits until this is dropped"]
pub struct Awaits {
    inner: Arc<Inner>,
    id: JobId,
}

impl Drop for Awaits {
    fn drop(&mut self) {
        self.inner.await_no_more(self.id);
    }
}

impl Dispatcher {
    /// Waits for the end of a job and returns it.
    ///
    /// # Errors
    /// `Timeout` if `deadline` passed first; `NotFound` for an id that is unknown or forgotten;
    /// `WouldDeadlock` from a handler that would wait for itself, or when every slot would be taken by a
    /// handler that waits; `Closed` if the dispatcher stopped first; of the store.
    pub fn wait(&self, id: JobId, deadline: Deadline) -> Result<Job> {
        self.0.wait(id, deadline)
    }

    /// Says that the handler on this thread is about to wait for a job by other means than [`Dispatcher::wait`], with a
    /// [`Watcher`](crate::Watcher) for example and suspended meanwhile. `None` if no handler of this dispatcher runs
    /// here, or the job has ended.
    ///
    /// # Errors
    /// `WouldDeadlock` as of [`Dispatcher::wait`], and `NotFound`; `Forked`; of the store.
    pub fn awaits(&self, id: JobId) -> Result<Option<Awaits>> {
        let inner = &self.0;
        inner.birth.check()?;
        if handling(inner).is_none() {
            return Ok(None);
        }
        let state = inner.engine.standing(id)?.ok_or_else(|| unknown(id))?.state;
        if state.is_final() {
            return Ok(None);
        }
        let waits = inner.wait_inside(id, state)?;
        Ok(waits.then(|| Awaits {
            inner: inner.clone(),
            id,
        }))
    }
}

pub(crate) fn unknown(id: JobId) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!(
            "there is no job {id}; it was never pushed here, or has ended and is forgotten: options \
             keep_finished and retention say how long one is kept"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::KindSet;
    use crate::job::NewJob;

    #[test]
    fn a_handler_that_waits_for_what_has_ended_takes_no_slot_from_others() {
        let d =
            Dispatcher::open("memory:?concurrency=2", crate::Options::default()).expect("the options fit");
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let push = || d.push(NewJob::new("k", ())).expect("there is room").id;
        let (_, _, first, second) = (push(), push(), push(), push());
        let mut next = || {
            consumer
                .next(Deadline::NEVER)
                .expect("it is open")
                .expect("a job")
        };
        let (one, other) = (next(), next());

        let inside = one.enter();
        let _waits = d.awaits(first).expect("a slot is left").expect("a handler waits");
        drop(inside);
        let inside = other.enter();
        for _ in 0..2 {
            let refused = d.awaits(second).err().expect("no slot would be left");
            assert_eq!(refused.kind(), ErrorKind::WouldDeadlock);
        }
        d.cancel(first).expect("it waits");
        assert!(d.awaits(second).expect("the first one goes on").is_some());
        drop(inside);
        assert!(d.awaits(second).expect("nobody's handler").is_none());
    }
}
