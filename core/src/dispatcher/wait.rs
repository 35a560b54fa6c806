//! Waiting for the end of a job.

use std::sync::atomic::Ordering;

use super::Inner;
use super::lease::handling;
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
        let _inside = if now.is_final() {
            None
        } else {
            self.wait_inside(id, now)?
        };
        // Asked before the state: what begins to run afterwards was claimed before the stop, and will be told of.
        let look = || match (self.stopping(), state(id)) {
            (_, Ok(s)) if s.is_final() => Some(Ok(())),
            (true, Ok(s)) if self.stopped() || !self.may_run(s) => Some(Err(Error::new(
                ErrorKind::Closed,
                format!("the dispatcher stopped while job {id} was {s}; nothing here will run it"),
            ))),
            (_, Ok(_)) => None,
            (_, Err(error)) => Some(Err(error)),
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

    /// Refuses a wait that cannot end: for the own job, or with every slot held by a handler that waits
    /// for a job which then has no slot to run in.
    fn wait_inside(&self, id: JobId, state: State) -> Result<Option<WaitingHandler<'_>>> {
        let Some(own) = handling(self) else {
            return Ok(None);
        };
        if own == id {
            return Err(Error::new(
                ErrorKind::WouldDeadlock,
                "a handler cannot wait for its own job",
            ));
        }
        let before = self.waiting_handlers.fetch_add(1, Ordering::SeqCst);
        let guard = WaitingHandler(self);
        // Elsewhere a running job goes on; here it may be one of the handlers that wait.
        let elsewhere = self.engine.capabilities().shared && state == State::Running;
        if !elsewhere && before + 1 >= self.slots.all.limit() as u64 {
            let text =
                "every slot would be held by a handler that waits for another job; raise option concurrency";
            return Err(Error::new(ErrorKind::WouldDeadlock, text));
        }
        Ok(Some(guard))
    }
}

/// Counts a handler that waits, until it waits no more.
struct WaitingHandler<'a>(&'a Inner);

impl Drop for WaitingHandler<'_> {
    fn drop(&mut self) {
        self.0.waiting_handlers.fetch_sub(1, Ordering::SeqCst);
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
