//! Pushes for callers that must not wait, such as event loops: handed over at once, made by a thread, and
//! answered by a call.
//!
//! What is handed over while the store syncs is pushed together afterwards, so a loop with many pushes under way
//! shares its syncs as threads would.

use parking_lot::Mutex;

use super::pushed::PushManyError;
use super::{Dispatcher, Inner, Pushed, closed};
use crate::bell::Bell;
use crate::error::{Error, ErrorKind, Result};
use crate::job::NewJob;
use crate::names::QueueId;
use crate::panics::caught;
use crate::threads;
use crate::time::Deadline;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The most submitted jobs that may wait for their answer at once.
const MOST: usize = 1 << 16;

/// What was submitted, and the thread that pushes it. Any thread.
#[derive(Debug, Default)]
pub(crate) struct Submissions {
    line: Mutex<Line>,
    more: Bell,
}

#[derive(Debug, Default)]
struct Line {
    /// In the order in which they came.
    jobs: Vec<Submitted>,
    /// How many have no answer yet, those in `jobs` among them.
    open: usize,
    /// Whether the thread waits for room, and so listens to another bell.
    for_room: bool,
    thread: Option<JoinHandle<()>>,
}

/// A job, and whom to tell what became of it.
struct Submitted {
    job: NewJob<'static>,
    then: Then,
}

/// What is to be done with a job beside pushing it.
struct Then {
    queue: QueueId,
    /// How long it may wait for room, and until when, once it has found none.
    wait: Option<Duration>,
    until: Option<Deadline>,
    tell: Box<dyn FnOnce(Result<Pushed>) + Send>,
}

impl Then {
    /// Tells what became of the job. Whom it tells may panic; that is not ours to suffer from.
    fn tell(self, inner: &Inner, answer: Result<Pushed>) {
        inner.submissions.line.lock().open -= 1;
        let _ = caught(|| (self.tell)(answer));
    }
}

impl std::fmt::Debug for Submitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.job.fmt(f)
    }
}

impl Dispatcher {
    /// Pushes a job without making the caller wait for anything: a thread pushes it, together with what else is
    /// submitted meanwhile, and calls `tell` with what a [push](Dispatcher::push) would have returned. `tell`
    /// should be quick: all that are submitted share the thread. It is called exactly once, by the end of the
    /// stop at the latest, if this returns `Ok`, and not at all otherwise.
    ///
    /// Jobs submitted one after the other are pushed in that order, except those that wait for room.
    ///
    /// # Errors
    /// As [`Dispatcher::push`] for what can be seen at once; `Full` also if 65 536 submitted jobs have no answer
    /// yet; `NoMemory` if there is no thread to be had.
    ///
    /// ```
    /// # use forebay::{Dispatcher, NewJob};
    /// # let d = Dispatcher::in_memory()?;
    /// let (said, heard) = std::sync::mpsc::channel();
    /// d.submit(NewJob::new("mail", b"hello"), move |pushed| drop(said.send(pushed)))?;
    /// assert!(heard.recv().unwrap()?.created);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn submit(
        &self,
        job: NewJob<'static>,
        tell: impl FnOnce(Result<Pushed>) + Send + 'static,
    ) -> Result<()> {
        let wait = self.patience(&job);
        self.0.submit(job, wait, Box::new(tell))
    }

    /// The same, waiting up to `timeout` for room if the queue is full, whatever its policy.
    ///
    /// # Errors
    /// As [`Dispatcher::submit`].
    pub fn submit_within(
        &self,
        job: NewJob<'static>,
        timeout: Duration,
        tell: impl FnOnce(Result<Pushed>) + Send + 'static,
    ) -> Result<()> {
        self.0.submit(job, Some(timeout), Box::new(tell))
    }
}

impl Inner {
    fn submit(
        self: &Arc<Self>,
        job: NewJob<'static>,
        wait: Option<Duration>,
        tell: Box<dyn FnOnce(Result<Pushed>) + Send>,
    ) -> Result<()> {
        self.check_open()?;
        let queue = self.prepare(&job, self.now())?.queue;
        let then = Then {
            queue,
            wait,
            until: None,
            tell,
        };
        let mut line = self.submissions.line.lock();
        if line.open >= MOST {
            let text = format!("{MOST} submitted jobs have no answer yet; wait for some of them");
            return Err(Error::new(ErrorKind::Full, text));
        }
        // The stop takes the thread out when nothing is accepted any more: none must be started after that.
        self.check_open()?;
        if line.thread.is_none() {
            let inner = self.clone();
            line.thread = Some(threads::spawn("push", move || inner.push_submitted())?);
        }
        line.open += 1;
        line.jobs.push(Submitted { job, then });
        let for_room = line.for_room;
        drop(line);
        match for_room {
            true => self.engine.signals().space.ring_all(),
            false => self.submissions.more.ring_all(),
        }
        Ok(())
    }

    /// Waits until everything that was submitted has its answer, and the thread has ended. Call it once the
    /// dispatcher has stopped.
    pub(super) fn end_submissions(&self) {
        self.submissions.more.ring_all();
        let thread = self.submissions.line.lock().thread.take();
        if let Some(thread) = thread {
            threads::join(thread);
        }
    }

    /// The body of the thread.
    fn push_submitted(&self) {
        let mut waiting: Vec<Submitted> = Vec::new();
        loop {
            let for_room = !waiting.is_empty();
            self.submissions.line.lock().for_room = for_room;
            let listener = match for_room {
                true => self.engine.signals().space.listen(),
                false => self.submissions.more.listen(),
            };
            // Asked before the look: what was submitted before the stop is among what is taken now.
            let stopped = self.stopped();
            waiting.append(&mut self.submissions.line.lock().jobs);
            if stopped {
                return waiting.into_iter().for_each(|s| s.then.tell(self, Err(closed())));
            }
            waiting = self.push_batch(waiting);
            if waiting.is_empty() == for_room {
                // It listens to the wrong bell now.
                continue;
            }
            let deadlines = waiting.iter().filter_map(|s| s.then.until?.left());
            listener.wait(Deadline::maybe(deadlines.min()));
        }
    }

    /// Pushes these; gives back those that wait for room.
    fn push_batch(&self, mut batch: Vec<Submitted>) -> Vec<Submitted> {
        let mut waiting = Vec::new();
        while !batch.is_empty() {
            let (jobs, then): (Vec<_>, Vec<_>) = batch.into_iter().map(|s| (s.job, s.then)).unzip();
            let (pushed, error) = match self.push_all(&jobs, &[], None) {
                Ok(pushed) => (pushed, None),
                Err(PushManyError { pushed, error }) => (pushed, Some(error)),
            };
            let mut rest = jobs.into_iter().zip(then);
            let accepted = pushed.len();
            for (pushed, (_, then)) in pushed.into_iter().zip(&mut rest) {
                then.tell(self, Ok(pushed));
            }
            let rest = rest.map(|(job, then)| Submitted { job, then }).collect();
            batch = match error {
                None => Vec::new(),
                Some(error) => self.refuse(error, accepted, rest, &mut waiting),
            };
        }
        waiting
    }

    /// Answers those that an error is about, and gives back the others, which are to be pushed again.
    fn refuse(
        &self,
        error: Error,
        accepted: usize,
        mut rest: Vec<Submitted>,
        waiting: &mut Vec<Submitted>,
    ) -> Vec<Submitted> {
        let again = |error: &Error| Error::new(error.kind(), error.to_string());
        match error.kind() {
            ErrorKind::Full => {
                // The first one found no room, and neither will the others of its queue.
                let queue = rest[0].then.queue;
                let (full, others) = rest.into_iter().partition(|s| s.then.queue == queue);
                let full: Vec<Submitted> = full;
                full.into_iter()
                    .for_each(|s| self.no_room(s, again(&error), waiting));
                others
            }
            ErrorKind::Conflict => {
                rest.remove(0).then.tell(self, Err(error));
                rest
            }
            // Found before anything was stored, about one of them: by itself each has its own answer.
            ErrorKind::Invalid | ErrorKind::UnknownKind | ErrorKind::Encode | ErrorKind::NoMemory
                if accepted == 0 && rest.len() > 1 =>
            {
                let single = |s| self.push_batch(vec![s]);
                waiting.extend(rest.into_iter().flat_map(single));
                Vec::new()
            }
            // Of the store, or of the dispatcher.
            _ => {
                rest.into_iter()
                    .for_each(|s| s.then.tell(self, Err(again(&error))));
                Vec::new()
            }
        }
    }

    fn no_room(&self, mut submitted: Submitted, error: Error, waiting: &mut Vec<Submitted>) {
        let Some(wait) = submitted.then.wait else {
            return submitted.then.tell(self, Err(error));
        };
        match submitted
            .then
            .until
            .get_or_insert_with(|| Deadline::after(wait))
            .passed()
        {
            true => submitted.then.tell(self, Err(error)),
            false => waiting.push(submitted),
        }
    }
}
