//! Stopping: no new claims, running jobs finish within the grace and are recorded, the rest goes back
//! to the queue, then the threads end and the dump is written. Idempotent.

use std::cell::{Cell, OnceCell};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cells::StopReason;
use super::lease::handling;
use super::settle::{Answer, Ended, Settling};
use super::{Dispatcher, Inner, OPEN, SEALED, STOPPED, STOPPING};
use crate::engine::QueueCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::job::State;
use crate::outcome::Outcome;
use crate::threads;
use crate::time::Deadline;

/// The longest that a stop waits for calls to the store that began before it: longer than a busy machine keeps a thread
/// from going on, as what such a call claims behind the stop is nobody's. A store that hangs is not waited for.
const CALL: Duration = Duration::from_secs(10);

/// What a stop did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct StopReport {
    /// Running jobs that did not finish within the grace and went back to the queue.
    pub handed_back: usize,
    /// Jobs that still wait, those handed back among them.
    pub waiting: u64,
}

/// The first stop and what it came to, for those that come after it.
#[derive(Default)]
pub(crate) struct StopOnce {
    begun: Cell<bool>,
    report: OnceCell<std::result::Result<StopReport, (ErrorKind, String)>>,
}

/// Something that must end with the dispatcher: worker threads, a dump file.
pub(crate) type AtStop = Box<dyn FnOnce(&Dispatcher, Deadline) -> Result<()> + Send>;

/// One of those, and whether it has ended before.
pub(crate) struct Ending {
    pub(crate) is_over: Box<dyn Fn() -> bool + Send>,
    pub(crate) end: AtStop,
}

impl Dispatcher {
    /// Stops: hands out no more jobs, waits up to `grace` for running ones, hands the others back, ends
    /// the threads, and writes the dump file if there is one.
    ///
    /// A second call waits for the first and reports the same. Pushes are accepted until the running jobs
    /// have ended or been handed back, so that handlers can push follow-ups; then the dump is written.
    ///
    /// # Errors
    /// `WouldDeadlock` from a handler of this dispatcher (use [`Dispatcher::request_stop`] there);
    /// `Forked`; of the dump or store, after everything else has ended.
    pub fn stop(&self, grace: Duration) -> Result<StopReport> {
        self.0.birth.check()?;
        if handling(&self.0).is_some() {
            let text =
                "stop waits for the handler that calls it; call request_stop there, or stop from outside";
            return Err(Error::new(ErrorKind::WouldDeadlock, text));
        }
        // Whoever comes second returns when the first is through, handlers and what they own included. What they
        // own may run code of the host as it goes, and that may ask to stop: the same thread passes this lock.
        let once = self.0.stop_once.lock();
        if let Some(report) = once.report.get() {
            return report.clone().map_err(|(kind, text)| Error::new(kind, text));
        }
        if once.begun.replace(true) {
            let text = "stop is called by something that this very stop waits for";
            return Err(Error::new(ErrorKind::WouldDeadlock, text));
        }
        let result = self.stop_now(Deadline::after(grace));
        once.report
            .get_or_init(|| result.as_ref().map_err(|e| (e.kind(), e.to_string())).copied());
        self.0.kinds.clear();
        self.0.hooks.clear();
        self.0.events.end();
        self.0.let_go_of_the_log();
        result
    }

    /// The stop itself. It goes on to the end whatever fails on the way; the first error is kept.
    fn stop_now(&self, deadline: Deadline) -> Result<StopReport> {
        let inner = &self.0;
        self.request_stop();
        inner.wait_idle(deadline);
        inner.wait_for_calls();
        let handed_back = inner.hand_back();
        // A body that ended before it could be handed back has an answer on its way: it must be stored
        // before nothing can be stored any more.
        inner.wait_for_calls();
        // Before the seal: whoever sees that it is sealed has heard of it.
        inner.announce_stop(*handed_back.as_ref().unwrap_or(&0));
        // Whatever is accepted before this is in the dump, and nothing is accepted after it.
        inner.phase.store(SEALED, Ordering::SeqCst);
        let sealed = inner.engine.seal();
        let ended = self.end_everything(deadline);
        let counts = inner.engine.counts();
        inner.phase.store(STOPPED, Ordering::SeqCst);
        inner.ring_everything();
        if let Some(sweeper) = inner.sweeper.lock().take() {
            // It ends within one step: it never runs a handler.
            threads::join(sweeper);
        }
        if let Some(renewal) = inner.renewal.lock().take() {
            threads::join(renewal);
        }
        inner.end_submissions();
        // Whatever has failed before: a store that is not closed cannot be opened again.
        let closed = inner.engine.close();
        let handed_back = handed_back?;
        sealed.and(ended).and(closed)?;
        let waiting = counts?.iter().map(QueueCounts::waiting).sum();
        Ok(StopReport { handed_back, waiting })
    }

    /// Begins to stop and returns at once: nothing more is handed out, and handlers that ask hear it.
    /// Somebody must still call [`Dispatcher::stop`]. Safe from a handler.
    pub fn request_stop(&self) {
        let inner = &self.0;
        if !inner.birth.is_here() {
            return;
        }
        if inner
            .phase
            .compare_exchange(OPEN, STOPPING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            inner.cells.signal_all(StopReason::Stopping, |_| true);
            inner.ring_everything();
        }
    }

    /// Waits until nothing runs whose answer would count: after a stop nothing does. After
    /// [`Dispatcher::request_stop`] that is the time to call [`Dispatcher::stop`], for hosts that have to do
    /// the waiting themselves.
    ///
    /// # Errors
    /// `Timeout` if the deadline passed first; `WouldDeadlock` from a handler; `Forked`.
    pub fn wait_idle(&self, deadline: Deadline) -> Result<()> {
        self.0.birth.check()?;
        if handling(&self.0).is_some() {
            let text = "a handler cannot wait for itself to end";
            return Err(Error::new(ErrorKind::WouldDeadlock, text));
        }
        if self.0.stopped() {
            return Ok(());
        }
        self.0.wait_idle(deadline);
        match self.0.cells.active() {
            0 => Ok(()),
            n => Err(Error::new(
                ErrorKind::Timeout,
                format!("{n} jobs are still running"),
            )),
        }
    }

    /// Runs the things that end with the dispatcher, last added first; the first error is kept.
    fn end_everything(&self, deadline: Deadline) -> Result<()> {
        let mut result = Ok(());
        loop {
            let Some(end) = self.0.at_stop.lock().pop() else {
                return result;
            };
            let ended = (end.end)(self, deadline);
            result = result.and(ended);
        }
    }

    /// Waits until no job is queued and none runs, or until `deadline`: for tests, and for programs that
    /// end when the work is done. Scheduled jobs are not waited for.
    ///
    /// # Errors
    /// `Timeout` if the deadline passed first; `WouldDeadlock` from a handler; `Closed` if the dispatcher
    /// stopped first; of the store.
    pub fn drain(&self, deadline: Deadline) -> Result<()> {
        self.0.birth.check()?;
        if handling(&self.0).is_some() {
            return Err(Error::new(
                ErrorKind::WouldDeadlock,
                "a handler cannot wait for itself to end",
            ));
        }
        // The end of a job that another process runs is heard of by looking.
        let most = match self.0.engine.capabilities().shared {
            true => Duration::from_millis(500),
            false => Duration::MAX,
        };
        loop {
            let listener = self.0.cells.idle.listen();
            self.0.check_open()?;
            let busy: u64 = self.0.engine.counts()?.iter().map(|c| c.queued + c.running).sum();
            if busy == 0 && self.0.cells.active() == 0 {
                return Ok(());
            }
            if !listener.wait(deadline.at_most(most)) && deadline.passed() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("{busy} jobs are still queued or running"),
                ));
            }
        }
    }
}

impl Inner {
    /// Wakes everyone who waits for anything, so that they look at the phase.
    fn ring_everything(&self) {
        let signals = self.engine.signals();
        signals.work.ring_all();
        signals.space.ring_all();
        signals.upkeep.ring_all();
        signals.finished.ring_all();
        signals.leases.ring_all();
        self.cells.idle.ring_all();
    }

    /// Waits until no lease is live, and none is about to be: a claimer that holds a slot may have missed
    /// the stop.
    fn wait_idle(&self, deadline: Deadline) {
        loop {
            let listener = self.cells.idle.listen();
            // Once it has stopped, what still runs is nobody's to wait for.
            let busy = !self.stopped() && (self.cells.active() > 0 || self.slots.all.used() > 0);
            if !busy || !listener.wait(deadline) {
                return;
            }
        }
    }

    /// Waits until no call is under way that began before the stop: what a claim takes must be there to be
    /// handed back, and an answer that was given must be stored. That is one call to the engine each, whatever
    /// the grace; a store that hangs is not waited for.
    fn wait_for_calls(&self) {
        let deadline = Deadline::after(CALL);
        loop {
            let listener = self.cells.idle.listen();
            // A claim holds slots that belong to no lease yet, a lease lets its slot go before its answer is
            // stored, and it is active until then.
            let (slots, active) = (self.slots.all.used(), self.cells.active());
            if slots.max(active) <= self.cells.live() || !listener.wait(deadline) {
                return;
            }
        }
    }

    /// Tells that nothing runs any more, and what is left.
    fn announce_stop(&self, handed_back: usize) {
        if self.events.wanted(EventKind::Stopped) {
            let counts = self.engine.counts().unwrap_or_default();
            let waiting: u64 = counts.iter().map(QueueCounts::waiting).sum();
            let text = format!("{handed_back} handed back, {waiting} wait");
            self.announce_event(EventKind::Stopped, Some(text));
        }
    }

    /// What becomes of an attempt that a stop interrupts.
    pub(crate) fn interrupted(&self) -> Outcome {
        if self.options.count_interrupted {
            Outcome::LeaseLost
        } else {
            Outcome::Interrupted
        }
    }

    /// Puts what still runs back into the queue; late answers are refused by the fence.
    fn hand_back(&self) -> Result<usize> {
        let handed_back = self.interrupt_all();
        // Told only now: the answer of a handler that gives up at once would otherwise come first, and count.
        self.cells.signal_all(StopReason::LeaseLost, |_| true);
        handed_back
    }

    fn interrupt_all(&self) -> Result<usize> {
        let mut settling = Settling::default();
        for (job, _) in self.cells.held() {
            let standing = self.engine.standing(job.id)?;
            if let Some(at) = standing.filter(|at| at.state == State::Running && at.job.fence == job.fence) {
                // To be passed on is no attempt.
                let outcome = match self.relays.has(at.queue) {
                    true => Outcome::Returned,
                    false => self.interrupted(),
                };
                settling.ended.push(Ended::located(&at, outcome));
            }
        }
        self.settle(&mut settling)?;
        let back = |a: &&Answer| matches!(a, Answer::Stored(s) if !s.is_final());
        Ok(settling.answers.iter().filter(back).count())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use parking_lot::Mutex;

    use crate::{Dispatcher, ErrorKind, ForwardOptions, Lease, Options};

    const GRACE: Duration = Duration::from_secs(60);

    /// Calls a function when it is let go.
    struct AtEnd<F: FnMut()>(F);

    impl<F: FnMut()> Drop for AtEnd<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }

    #[test]
    fn a_second_stop_returns_when_what_the_handlers_own_is_gone() {
        let d = Dispatcher::open("memory:", Options::default()).unwrap();
        let gone = Arc::new(AtomicBool::new(false));
        let (going, hears) = mpsc::channel();
        let (comes, second) = mpsc::channel();
        let owned = Mutex::new(AtEnd({
            let (d, gone) = (d.clone(), gone.clone());
            move || {
                going.send(()).unwrap();
                second.recv().unwrap();
                // Time for the other stop to return too early; the same thread may ask again, and is not held up.
                (0..1_000).for_each(|_| std::thread::yield_now());
                assert_eq!(d.stop(GRACE).unwrap().waiting, 0);
                gone.store(true, Ordering::SeqCst);
            }
        }));
        d.register("k", move |_| {
            let _owned = &owned;
        })
        .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| d.stop(GRACE).unwrap());
            hears.recv().unwrap();
            comes.send(()).unwrap();
            d.stop(GRACE).unwrap();
            assert!(gone.load(Ordering::SeqCst));
        });
    }

    #[test]
    fn what_has_ended_is_not_kept_for_the_stop() {
        for clock in ["", "?clock=manual"] {
            let d = Dispatcher::open(&format!("memory:{clock}"), Options::default()).unwrap();
            let before = d.0.at_stop.lock().len();
            for _ in 0..10 {
                let sink = |_: &[Lease]| Ok(());
                let forwarder = d.forward("q", sink, ForwardOptions::default()).unwrap();
                forwarder.stop(GRACE).unwrap();
            }
            assert_eq!(d.0.at_stop.lock().len(), before + 1, "{clock}");
            d.stop(GRACE).unwrap();
        }
    }

    #[test]
    fn what_a_stop_waits_for_cannot_wait_for_the_stop() {
        let d = Dispatcher::open("memory:", Options::default()).unwrap();
        d.at_stop(Box::new(|d, _| match d.stop(GRACE) {
            Err(e) if e.kind() == ErrorKind::WouldDeadlock => Ok(()),
            other => panic!("{other:?}"),
        }));
        d.stop(GRACE).unwrap();
    }
}
