//! Forwarding: a queue whose jobs are not run here but passed on to a [`Sink`], in order: another dispatcher
//! ([`Target`]), or whatever a callback writes to. `docs/forwarding.md` says what is promised.
//!
//! While the sink fails nobody holds the jobs: they wait where they stood, can be cancelled and expire, take no
//! slot from handlers and use up no attempt. A job is leased only for the time of one delivery.
//!
//! # Limits
//!
//! One thread per queue. In a file that several processes share, a process that is killed in a delivery leaves
//! jobs whose leases have to end, which counts as an attempt and puts them behind the others.

mod drain;
mod sink;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

pub use self::sink::{Sink, SinkError, Trouble};
pub use self::target::Target;

use self::drain::{Drain, Next};
use crate::bell::Bell;
use crate::config::ForwardOptions;
use crate::dispatcher::{Dispatcher, Interrupt};
use crate::error::{Error, ErrorKind, Result};
use crate::threads;
use crate::time::{Deadline, Timestamp};

/// A queue that is being passed on, until [`Forwarder::stop`] or the stop of its dispatcher. Dropping this does not
/// end it.
#[derive(Debug)]
pub struct Forwarder(Arc<Shared>);

/// What a forwarder has done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ForwardStats {
    /// Jobs that the sink took.
    pub delivered: u64,
    /// Jobs that the sink would never take, which have failed.
    pub refused: u64,
    /// How often the sink was given jobs.
    pub deliveries: u64,
    /// How often it had no room for all of them.
    pub busy: u64,
    /// Since when it has failed, if it does.
    pub failing_since: Option<Timestamp>,
    /// What it said when it failed last, also if it works again.
    pub last_error: Option<String>,
}

/// What the handle, the thread and the stop of the dispatcher share.
#[derive(Debug)]
struct Shared {
    control: Arc<Control>,
    /// What does the work, while nobody is at it; `None` for good once it has ended.
    drain: Mutex<Option<Drain>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    interrupt: Interrupt,
}

/// What is looked at from outside while a delivery is under way.
#[derive(Debug, Default)]
struct Control {
    stopping: AtomicBool,
    /// Whether the thread has ended, or whoever passes on without one.
    ended: AtomicBool,
    /// Rings when one of the two becomes true.
    bell: Bell,
    stats: Mutex<ForwardStats>,
}

impl Dispatcher {
    /// Passes the jobs of a queue on to `sink` from now on, whatever their kinds, in the order in which they would
    /// start. Nothing else is given jobs of that queue. A queue is passed on once.
    ///
    /// With a clock that stands still there is no thread: [`Dispatcher::advance`] passes on what there is.
    ///
    /// # Errors
    /// `Invalid` for a bad name, options or [sink](Sink::check), and for a queue that is forwarded already; `Closed`, `Forked`;
    /// `NoMemory` if there is no thread to be had.
    ///
    /// ```
    /// # use forebay::{Deadline, Dispatcher, ForwardOptions, Lease, NewJob, SinkError};
    /// # use std::time::Duration;
    /// let d = Dispatcher::in_memory()?;
    /// let (send, written) = std::sync::mpsc::channel();
    /// d.push(NewJob::new("line", "hello").queue("log"))?;
    /// d.forward("log", move |batch: &[Lease]| {
    ///     for (place, job) in batch.iter().enumerate() {
    ///         send.send(job.id()).map_err(|_| SinkError::down(place, "the log is closed"))?;
    ///     }
    ///     Ok(())
    /// }, ForwardOptions::default())?;
    /// written.recv_timeout(Duration::from_secs(5)).expect("the sink was given the job");
    /// # d.stop(Duration::from_secs(5))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn forward(
        &self,
        queue: &str,
        sink: impl Sink + 'static,
        options: ForwardOptions,
    ) -> Result<Forwarder> {
        options.check()?;
        sink.check()?;
        let control = Arc::<Control>::default();
        let (relay, consumer) = self.relay(queue, sink.name().into(), sink.encodes())?;
        let interrupt = consumer.interrupt();
        let drain = Drain::new((consumer, relay), Box::new(sink), options, control.clone());
        let shared = Arc::new(Shared {
            control,
            drain: Mutex::new(Some(drain)),
            thread: Mutex::default(),
            interrupt,
        });
        if self.clock_runs() {
            let theirs = shared.clone();
            let thread = threads::spawn("forward", move || theirs.run());
            *shared.thread.lock() = Some(thread?);
        } else {
            let theirs = Arc::downgrade(&shared);
            self.at_advance(Arc::new(move || {
                theirs.upgrade().map_or(Ok(false), |shared| shared.due())
            }));
        }
        let (ending, over) = (shared.clone(), shared.control.clone());
        self.at_stop_unless(
            Box::new(move || over.is_over()),
            Box::new(move |_, _| {
                // What is under way now was handed back, or its answer is stored. A sink that hangs is left to itself.
                ending.stop(Deadline::after(Duration::from_secs(1)));
                Ok(())
            }),
        );
        Ok(Forwarder(shared))
    }
}

impl Forwarder {
    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> ForwardStats {
        self.0.control.stats.lock().clone()
    }

    /// Fails in the child of a fork, where the thread is not.
    ///
    /// # Errors
    /// `Forked`.
    pub fn check_process(&self) -> Result<()> {
        self.0.interrupt.check_process()
    }

    /// Passes on no more: waits for the delivery that is under way; then the queue is everybody's again.
    ///
    /// # Errors
    /// `Timeout` if that took longer than `grace`; it ends all the same.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        if self.0.stop(Deadline::after(grace)) {
            return Ok(());
        }
        let text = "the sink is still at work on a delivery; it ends with that";
        Err(Error::new(ErrorKind::Timeout, text))
    }

    /// Passes on what there is now, as far as the sink takes it. Returns when to come again
    /// ([`Timestamp::MAX`] for when something new is pushed).
    ///
    /// Only needed with a clock that stands still, and [`Dispatcher::advance`] does it there too; otherwise a thread
    /// does it.
    ///
    /// # Errors
    /// `Closed` once it has been stopped; of the store.
    pub fn pass(&self) -> Result<Timestamp> {
        self.0.pass(self.0.drain.lock())
    }
}

impl Shared {
    fn pass(&self, mut place: MutexGuard<'_, Option<Drain>>) -> Result<Timestamp> {
        loop {
            let Some(drain) = place.as_mut() else {
                return Err(Error::new(ErrorKind::Closed, "the forwarder has been stopped"));
            };
            let next = drain.round(Deadline::after(Duration::ZERO));
            if self.control.stopping.load(Ordering::SeqCst) {
                // Who stopped it did not wait for this delivery.
                drop(place.take());
                self.control.ended.store(true, Ordering::SeqCst);
                return next.map(|_| Timestamp::MAX);
            }
            match next? {
                Next::Work => {}
                Next::Nothing => return Ok(Timestamp::MAX),
                Next::At(time) => return Ok(time),
            }
        }
    }

    /// Passes on when the clock of a test was moved; false once it has been stopped.
    fn due(&self) -> Result<bool> {
        // Somebody passes on just now. It may be a sink that moves the clock, and must not wait for itself.
        let Some(place) = self.drain.try_lock() else {
            return Ok(true);
        };
        match self.pass(place) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::Closed => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The thread.
    fn run(&self) {
        // Also by a panic, as of a sink that is let go: nobody is to wait for it then.
        let _ends = Ends(&self.control);
        let Some(mut drain) = self.drain.lock().take() else {
            return;
        };
        while !self.control.stopping.load(Ordering::SeqCst) {
            match drain.round(Deadline::NEVER) {
                Ok(Next::Work | Next::Nothing) => {}
                Ok(Next::At(time)) => self.control.pause(drain.left(time)),
                Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Forked) => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // A store that fails is asked again, but not in a hot loop.
                Err(_) => self.control.pause(Duration::from_millis(100)),
            }
        }
    }

    /// Ends it; false if a delivery is still under way at `deadline`. The thread then ends with that.
    fn stop(&self, deadline: Deadline) -> bool {
        self.control.stopping.store(true, Ordering::SeqCst);
        self.control.bell.ring_all();
        self.interrupt.raise();
        let ended = self.control.ended.load(Ordering::SeqCst);
        if !ended && self.thread.lock().is_none() {
            return self.stop_passing(deadline);
        }
        // Others may wait for the same, each as long as it says: nothing is locked meanwhile.
        if !self.control.wait_ended(deadline) {
            return false;
        }
        let handle = self.thread.lock().take();
        handle.into_iter().for_each(threads::join);
        true
    }

    /// The same without a thread: whoever [passes on](Forwarder::pass) at the time ends it after the delivery.
    fn stop_passing(&self, deadline: Deadline) -> bool {
        let drain = match deadline.instant() {
            Some(instant) => self.drain.try_lock_until(instant),
            None => Some(self.drain.lock()),
        };
        let idle = drain.is_some();
        drop(drain.and_then(|mut drain| drain.take()));
        if idle {
            self.control.ended.store(true, Ordering::SeqCst);
        }
        idle
    }
}

/// Says that the thread has ended, when it has.
struct Ends<'a>(&'a Control);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.bell.ring_all();
    }
}

impl Control {
    /// Sleeps this long, or until it is to stop.
    fn pause(&self, time: Duration) {
        let deadline = Deadline::after(time);
        loop {
            let listener = self.bell.listen();
            if self.stopping.load(Ordering::SeqCst) || !listener.wait(deadline) {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn wait_ended(&self, deadline: Deadline) -> bool {
        loop {
            let listener = self.bell.listen();
            if self.ended.load(Ordering::SeqCst) {
                return true;
            }
            if !listener.wait(deadline) {
                return self.ended.load(Ordering::SeqCst);
            }
        }
    }
}
