//! Upkeep: what must happen because time passes. One thread, parked until the next due time; with a
//! clock that stands still there is no thread, and whoever moves the clock calls [`Dispatcher::upkeep`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::cells::StopReason;
use super::events::StorePlace;
use super::settle::{Answer, Ended, Settling};
use super::{Dispatcher, Inner};
use crate::engine::{Cause, Retention};
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobRef;
use crate::outcome::Outcome;
use crate::panics::let_go;
use crate::threads;
use crate::time::{Deadline, Timestamp};

/// Jobs handled in one go, so that upkeep never holds the engine for long.
const SLICE: usize = 1024;

impl Dispatcher {
    /// Does what is due now: queues scheduled jobs, ends overdue attempts, expires jobs past their
    /// deadline, forgets finished ones past their retention, lets those start whom a rate or a breaker has held
    /// back. Returns when to come again
    /// ([`Timestamp::MAX`] for when something new is pushed).
    ///
    /// Only needed with a clock that stands still; otherwise a thread does it.
    ///
    /// # Errors
    /// Of the store.
    pub fn upkeep(&self) -> Result<Timestamp> {
        self.0.birth.check()?;
        self.0.upkeep()
    }

    /// Moves the clock of a test forward, and does all that has become due before it returns: jobs whose time has
    /// come are queued, attempts and leases that are overdue have ended, jobs past their deadline have expired, jobs
    /// of forwarded queues are passed on. Moving it by nothing does what is due now.
    ///
    /// ```
    /// use forebay::{Dispatcher, NewJob, Options, State};
    /// use std::time::Duration;
    /// let d = Dispatcher::open("memory:?clock=manual", Options::default())?;
    /// let later = d.push(NewJob::new("mail", b"").delay(Duration::from_secs(3600)))?;
    /// assert_eq!(d.state(later.id)?, State::Scheduled);
    /// d.advance(Duration::from_secs(3600))?;
    /// assert_eq!(d.state(later.id)?, State::Queued);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unsupported` if its clock is the system's: open it with the option `clock=manual`; of the store.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.0.birth.check()?;
        if !self.0.clock.step(by) {
            let text = "the clock of this dispatcher moves by itself; open it with the option clock=manual";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        self.0.upkeep()?;
        self.0.pass_on()
    }
}

/// Something that becomes due with time and has no thread where the clock stands still. It answers whether it is to
/// be asked again.
pub(crate) type AtAdvance = Arc<dyn Fn() -> Result<bool> + Send + Sync>;

impl Inner {
    /// Does what the threads of others would do.
    fn pass_on(&self) -> Result<()> {
        // It may run code of the host: not under the lock.
        let all = self.at_advance.lock().clone();
        for work in all {
            if !work()? {
                self.at_advance.lock().retain(|other| !Arc::ptr_eq(other, &work));
            }
        }
        Ok(())
    }

    pub(crate) fn upkeep(&self) -> Result<Timestamp> {
        self.expire()?;
        let next = loop {
            let tick = self.engine.tick(SLICE, self.now())?;
            if tick.promoted < SLICE {
                break tick.next;
            }
        };
        Ok(next.min(self.open_gates()).min(self.prune()?))
    }

    /// Decides about every job that time has overtaken.
    fn expire(&self) -> Result<()> {
        let (mut overdue, mut settling) = (Vec::new(), Settling::default());
        loop {
            overdue.clear();
            self.engine.expired(SLICE, self.now(), &mut overdue)?;
            settling.clear();
            let ended = overdue.iter().map(|found| {
                let outcome = match found.cause {
                    Cause::Timeout => Outcome::TimedOut,
                    Cause::Lease => Outcome::LeaseLost,
                    Cause::Crash(times) => Outcome::Crashed {
                        too_often: times >= self.options.max_crashes,
                    },
                    Cause::Deadline => Outcome::Expired,
                };
                Ended::located(&found.at, outcome)
            });
            settling.ended.extend(ended);
            self.settle(&mut settling)?;
            // Told only now: a handler that answers at once would otherwise come before its own timeout.
            for (found, answer) in overdue.iter().zip(&settling.answers) {
                let reason = match found.cause {
                    Cause::Timeout => StopReason::TimedOut,
                    Cause::Lease => StopReason::LeaseLost,
                    Cause::Deadline | Cause::Crash(_) => continue,
                };
                self.tell_overdue(found.at.job, reason, *answer);
            }
            if !overdue.is_empty() {
                // Whoever waits for an empty queue should look again.
                self.cells.idle.ring_all();
            }
            let applied = settling.answers.iter().any(|a| *a != Answer::Stale);
            // Once more after the last ones: an attempt that ended may have left a job past its deadline.
            if overdue.is_empty() || !applied {
                return Ok(());
            }
        }
    }

    /// Tells the handler of a claim whose time is over, also of one that has not begun yet. Its own answer, which is
    /// too late, takes back what it was to be told.
    fn tell_overdue(&self, job: JobRef, reason: StopReason, answer: Answer) {
        // In a shared store it may run in another process, and then nobody here would take the note.
        if answer == Answer::Stale || self.engine.capabilities().shared {
            self.cells.signal(job, reason);
        } else {
            self.cells.signal_when_begun(job, reason);
        }
    }

    /// Notes that there is a finished job to forget some day; wakes the sweeper the first time.
    pub(crate) fn arm_prune(&self) {
        if !self.prune_armed.load(Ordering::Relaxed) && !self.prune_armed.swap(true, Ordering::SeqCst) {
            self.engine.signals().upkeep.ring_all();
        }
    }

    /// Forgets what is past its retention; returns when to look again.
    fn prune(&self) -> Result<Timestamp> {
        if !self.prune_armed.load(Ordering::SeqCst) {
            return Ok(Timestamp::MAX);
        }
        let (now, options) = (self.now(), &self.options);
        let before = |keep: Duration| {
            let us = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(now.as_micros().saturating_sub(us))
        };
        let keep = Retention {
            succeeded_before: before(options.retention),
            others_before: before(options.retention_failed),
            most: options.keep_finished,
        };
        // Each time anew: an engine that others use as well takes an old instant for a clock that is behind.
        while self.engine.prune(keep, SLICE, self.now())? == SLICE {}
        // Disarmed before the look, so that a job which ends meanwhile arms it again.
        self.prune_armed.store(false, Ordering::SeqCst);
        if self.engine.counts()?.iter().any(|c| c.kept > 0) {
            self.prune_armed.store(true, Ordering::SeqCst);
        }
        // A quarter of the retention late is soon enough.
        let pause = options.retention.min(options.retention_failed) / 4;
        Ok(now.after(pause.clamp(Duration::from_secs(1), Duration::from_secs(3600))))
    }

    /// Starts the upkeep thread, unless the clock stands still.
    pub(crate) fn start_sweeper(self: &Arc<Self>) -> Result<Option<JoinHandle<()>>> {
        if !self.clock.runs() {
            return Ok(None);
        }
        let inner = self.clone();
        threads::spawn("sweeper", move || inner.sweep()).map(Some)
    }

    fn sweep(&self) {
        loop {
            let listener = self.engine.signals().upkeep.listen();
            if self.stopped() {
                return;
            }
            // A store that fails is asked again in a second; the push and finish paths report it.
            // So is one that panics, as a payload of the host may when it is dropped: upkeep must go on.
            let step = catch_unwind(AssertUnwindSafe(|| self.upkeep())).unwrap_or_else(|panic| {
                let_go(panic);
                Err(ErrorKind::Panic.into())
            });
            self.note_store(StorePlace::Upkeep, step.as_ref().err());
            let next = step.unwrap_or_else(|_| self.now().after(Duration::from_secs(1)));
            let deadline = match next {
                Timestamp::MAX => Deadline::NEVER,
                at => Deadline::after(at.since(self.now())),
            };
            listener.wait(deadline);
        }
    }
}
