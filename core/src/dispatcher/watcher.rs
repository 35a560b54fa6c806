//! Being told of the ends of many jobs, without a thread for each: for event loops, and for hosts that have a
//! promise or a channel per job.

use std::sync::Arc;

use super::lease::handling;
use super::wait::unknown;
use super::{Dispatcher, Inner};
use crate::ends::{Ends, Tag, WatchedEnd};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::State;
use crate::time::Deadline;

/// Is told of the end of every job that it was given, once each. Any thread, several at once.
///
/// Whoever drops it is told nothing more. It does not keep the dispatcher from stopping, and starts no thread.
#[derive(Debug)]
pub struct Watcher {
    inner: Arc<Inner>,
    ends: Arc<Ends>,
}

impl Dispatcher {
    /// A watcher that watches nothing yet.
    ///
    /// ```
    /// # use forebay::{Deadline, Dispatcher, KindSet, NewJob, Outcome, State};
    /// # use std::sync::Arc;
    /// # let d = Dispatcher::in_memory()?;
    /// let watcher = d.watcher();
    /// watcher.add(d.push(NewJob::new("mail", ()))?.id, 7)?;
    /// let mut consumer = d.consumer(Arc::new(KindSet::any()));
    /// let lease = consumer.next(Deadline::NEVER)?.expect("there is a job");
    /// lease.complete(Outcome::done())?;
    /// let mut ends = Vec::new();
    /// watcher.poll(100, Deadline::NEVER, &mut ends)?;
    /// assert_eq!((ends[0].tag, ends[0].state), (7, Some(State::Succeeded)));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn watcher(&self) -> Watcher {
        let ends = Arc::new(Ends::default());
        self.0.engine.signals().finished.enrol(&ends);
        Watcher {
            inner: self.0.clone(),
            ends,
        }
    }
}

impl Watcher {
    /// Has the end of a job told, under a tag of the caller's. A job that has ended is told of at once. A tag is
    /// free again when its end was told or it was [removed](Watcher::remove); a job may have several.
    ///
    /// # Errors
    /// `NotFound` for an id that is unknown or forgotten; `Invalid` for a tag that is in use; `Closed` if the
    /// dispatcher stops and the job will not end here any more; `Forked`; of the store.
    pub fn add(&self, id: JobId, tag: u64) -> Result<()> {
        self.inner.birth.check()?;
        let Some(tag) = self.ends.expect(id, tag) else {
            let text = format!("tag {tag} watches a job already; remove it first, or take another one");
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        let finished = &self.inner.engine.signals().finished;
        finished.watch(id, &self.ends, tag);
        // Asked before the state: what begins to run afterwards was claimed before the stop, and will end.
        let (stopping, stopped) = (self.inner.stopping(), self.inner.stopped());
        match self.inner.engine.standing(id) {
            Ok(Some(at)) if at.state.is_final() => {
                finished.unwatch(id, tag);
                self.ends.tell(tag, Some(at.state));
                Ok(())
            }
            Ok(Some(at)) if stopping && self.is_hopeless(at.state, stopped) => self.refuse(id, tag, over()),
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.refuse(id, tag, unknown(id)),
            Err(error) => self.refuse(id, tag, error),
        }
    }

    fn refuse(&self, id: JobId, tag: Tag, error: Error) -> Result<()> {
        if !self.ends.withdraw(tag) {
            // It was known, and has ended since.
            return Ok(());
        }
        self.inner.engine.signals().finished.unwatch(id, tag);
        Err(error)
    }

    /// Takes back what was added under a tag. True: the end will not be told. False: it has been told, or will be
    /// with the next polls, or there was no such tag.
    ///
    /// # Errors
    /// `Forked`.
    pub fn remove(&self, tag: u64) -> Result<bool> {
        self.inner.birth.check()?;
        let Some((id, tag)) = self.ends.take_back(tag) else {
            return Ok(false);
        };
        self.inner.engine.signals().finished.unwatch(id, tag);
        Ok(true)
    }

    /// Appends up to `max` ends to `out`; waits for the first one only. Returns how many.
    ///
    /// # Errors
    /// `Closed` if there are none and the dispatcher has stopped, or stops and none of the jobs will end here any
    /// more; `WouldDeadlock` for an endless wait in a handler of the same dispatcher; `Forked`; of the store.
    pub fn poll(&self, max: usize, deadline: Deadline, out: &mut Vec<WatchedEnd>) -> Result<usize> {
        self.inner.birth.check()?;
        if max == 0 {
            return Ok(0);
        }
        let found = self.look_out(max, deadline, out);
        if !matches!(found, Ok(0)) {
            self.ends.wakeup.ring();
        }
        found
    }

    fn look_out(&self, max: usize, deadline: Deadline, out: &mut Vec<WatchedEnd>) -> Result<usize> {
        loop {
            let late = deadline.passed();
            let listener = (!late).then(|| self.ends.bell.listen());
            let got = self.take(max, out)?;
            if got > 0 {
                return Ok(got);
            }
            let Some(listener) = listener else {
                return if self.ends.wakeup.rearm() {
                    self.take(max, out)
                } else {
                    Ok(0)
                };
            };
            if deadline.instant().is_none() && handling(&self.inner).is_some() {
                let text =
                    "a handler must not wait without a deadline for jobs to end: they may need its slot";
                return Err(Error::new(ErrorKind::WouldDeadlock, text));
            }
            listener.wait(deadline);
        }
    }

    /// Takes what there is. If there is nothing and will be nothing, that is an error.
    fn take(&self, max: usize, out: &mut Vec<WatchedEnd>) -> Result<usize> {
        let (engine, before) = (&self.inner.engine, out.len());
        // Asked before the look: what had ended by then has been told, or is found out.
        let stopped = self.inner.stopped();
        let look = |id| Ok(engine.standing(id)?.map(|at| at.state));
        let settled = |id, tag| engine.signals().finished.unwatch(id, tag);
        while out.len() - before < max {
            match self.ends.take(look, settled) {
                Ok(Some(end)) => out.push(end),
                // What was taken before the store failed must be told, not lost.
                Err(error) if out.len() == before => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        match out.len() - before {
            0 if stopped || (self.inner.stopping() && self.expects_nothing()?) => Err(over()),
            got => Ok(got),
        }
    }

    /// Whether no job that is watched will end here, since the dispatcher stops.
    fn expects_nothing(&self) -> Result<bool> {
        for (id, _) in self.ends.all() {
            let standing = self.inner.engine.standing(id)?;
            if standing.is_none_or(|at| !self.is_hopeless(at.state, false)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a job that was in this state when the stop had begun, or was over, will not end here.
    fn is_hopeless(&self, state: State, stopped: bool) -> bool {
        !state.is_final() && (stopped || !self.inner.may_run(state))
    }

    /// A descriptor for an event loop, readable when an end may be there to be taken and when the dispatcher stops.
    /// Wait until it is readable, call [`Watcher::poll`] with a deadline that has passed until it answers 0, and
    /// wait again: that answer is what makes it unreadable, and it may be readable for nothing. It is the watcher's:
    /// non-blocking, close-on-exec, gone when the watcher is dropped.
    ///
    /// # Errors
    /// `NoMemory` if the process may have no more descriptors; `Forked`.
    #[cfg(all(unix, not(shuttle)))]
    pub fn descriptor(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.inner.birth.check()?;
        Ok(self.ends.wakeup.get()?.fd())
    }

    /// Whether a thread waits in [`Watcher::poll`].
    #[cfg(feature = "conformance")]
    pub(crate) fn is_awaited(&self) -> bool {
        self.ends.bell.asleep() > 0
    }

    /// As [`Dispatcher::check_process`].
    ///
    /// # Errors
    /// `Forked`.
    pub fn check_process(&self) -> Result<()> {
        self.inner.birth.check()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.inner.birth.is_here() {
            let finished = &self.inner.engine.signals().finished;
            let all = self.ends.all();
            all.into_iter().for_each(|(id, tag)| finished.unwatch(id, tag));
        }
    }
}

fn over() -> Error {
    let text = "the dispatcher stopped: none of the jobs that are watched will end here any more";
    Error::new(ErrorKind::Closed, text)
}
