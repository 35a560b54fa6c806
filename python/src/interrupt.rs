//! Interrupts: `JobCancelled`, raised in the thread of a sync handler that was registered with `interrupt=True`.
//!
//! Python can have an exception raised in another thread, between two of its bytecodes
//! (`PyThreadState_SetAsyncExc`), and knows nothing of jobs: what is asked for a moment too late is raised in
//! whatever the thread does next. So each worker has a [`Slot`], which says whose handler it is in, and both sides
//! look at it under its lock. The interrupter asks for the exception only while the slot names the job that should
//! stop. The worker takes the name away as soon as the handler has returned, before anything else of Python runs,
//! and takes an exception back that was asked for and not raised yet. A thread is in a handler when it is asked
//! to raise, so it lives.
//!
//! To take it back it has the exception raised in a function that does nothing. To say that none is asked for would
//! leave Python's note that there is one, for good: every thread then looks for it at every turn, and on 3.11 one
//! that is traced or profiled never gets past it.
//!
//! What should stop is heard of by wakers, on threads that must not attach. They hand the slot to a thread of
//! Python's, the interrupter, which asks the core whether that job should stop: a wake that comes late, for a job
//! that has ended, does no harm.

use std::collections::VecDeque;
use std::ffi::{c_long, c_ulong};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use forebay::{ErrorKind, StopReason, Ticket};
use parking_lot::{Condvar, Mutex};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::errors::{guard, raise};
use crate::imports::Imported;
use crate::shared::Shared;

/// The slots whose jobs may have to stop, on their way to the interrupter of one dispatcher.
#[derive(Default)]
pub struct Interrupts {
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Default)]
struct Line {
    slots: VecDeque<Arc<Slot>>,
    closed: bool,
}

impl Interrupts {
    fn push(&self, slot: Arc<Slot>) {
        let mut line = self.line.lock();
        if !line.closed {
            line.slots.push_back(slot);
            drop(line);
            self.changed.notify_one();
        }
    }

    /// The next one; none once it is closed and nothing is left.
    fn next(&self) -> Option<Arc<Slot>> {
        let mut line = self.line.lock();
        self.changed
            .wait_while(&mut line, |line| line.slots.is_empty() && !line.closed);
        line.slots.pop_front()
    }

    /// Nothing will have to stop any more.
    pub fn close(&self) {
        self.line.lock().closed = true;
        self.changed.notify_all();
    }
}

/// What one worker thread has to do with this.
pub struct Slot {
    shared: Arc<Shared>,
    /// As Python has it, though it means a number without a sign.
    thread: c_long,
    /// The ticket of the job in whose handler the thread is, for a look without the lock; 0 if in none.
    job: AtomicU64,
    /// Whether it is on its way to the interrupter.
    queued: AtomicBool,
    seat: Mutex<Seat>,
}

/// Locked by attached threads only, and never while anything of Python runs.
#[derive(Default)]
struct Seat {
    /// The ticket of the job in whose handler the thread is; 0 if in none.
    job: u64,
    /// Whether the exception was asked for.
    asked: bool,
}

impl Slot {
    /// The slot of this thread.
    pub fn new(py: Python<'_>, shared: &Arc<Shared>) -> PyResult<Arc<Self>> {
        static IDENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let thread: c_ulong = IDENT.find(py, "threading", "get_ident")?.call0()?.extract()?;
        Ok(Arc::new(Self {
            shared: shared.clone(),
            thread: thread.cast_signed(),
            job: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            seat: Mutex::default(),
        }))
    }

    /// Runs the handler of this job, which may be interrupted meanwhile.
    pub fn run<T>(
        self: &Arc<Self>,
        py: Python<'_>,
        ticket: Ticket,
        handler: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        let inside = Inside::enter(self, ticket);
        if self.should_stop(ticket) {
            drop(inside);
            return Err(raise(py, ErrorKind::Cancelled, "the job should stop".into()));
        }
        let result = handler();
        drop(inside);
        result
    }

    /// Whether the job should stop; if not yet, this hears of it.
    fn should_stop(self: &Arc<Self>, ticket: Ticket) -> bool {
        let waker = Waker::from(self.clone());
        let core = &self.shared.core;
        core.poll_stop(
            ticket,
            Some(StopReason::Stopping),
            &mut Context::from_waker(&waker),
        )
        .is_ready()
    }

    /// Has the exception raised, if the thread is in the handler of a job that should stop.
    fn interrupt(self: &Arc<Self>, class: &Bound<'_, PyType>) {
        // Whoever wakes from now on has it looked at again.
        self.queued.store(false, Ordering::SeqCst);
        let job = self.job.load(Ordering::SeqCst);
        if job == 0 || !self.should_stop(Ticket(job)) {
            return;
        }
        let mut seat = self.seat.lock();
        if seat.job == job && !seat.asked {
            seat.asked = true;
            // SAFETY: this thread is attached, and the class lives as long as the interpreter. It only sets a
            // pointer and a flag.
            unsafe { ffi::PyThreadState_SetAsyncExc(self.thread, class.as_ptr()) };
        }
    }
}

/// On any thread, in the middle of whatever the core does.
impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        if self.job.load(Ordering::SeqCst) != 0 && !self.queued.swap(true, Ordering::SeqCst) {
            self.shared.interrupts.clone().push(self);
        }
    }
}

/// While it lives, the thread is in the handler of a job. Made and dropped by that thread, attached.
struct Inside<'a>(&'a Slot);

impl<'a> Inside<'a> {
    fn enter(slot: &'a Slot, ticket: Ticket) -> Self {
        *slot.seat.lock() = Seat {
            job: ticket.0,
            asked: false,
        };
        slot.job.store(ticket.0, Ordering::SeqCst);
        Self(slot)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.job.store(0, Ordering::SeqCst);
        let mut seat = self.0.seat.lock();
        let asked = std::mem::take(&mut *seat).asked;
        drop(seat);
        if asked {
            // Nobody asks from now on. The worker that made this is attached.
            Python::attach(|py| take_back(py, self.0.thread));
        }
    }
}

/// Takes back what this thread was asked to raise, raised or not, and Python's note of it.
fn take_back(py: Python<'_>, thread: c_long) {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static NOTHING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.find(py, "forebay.errors", "JobCancelled");
    let nothing = NOTHING.find(py, "forebay._exit", "nothing");
    if let (Ok(class), Ok(nothing)) = (class, nothing) {
        // SAFETY: this thread is attached, and the class lives as long as the interpreter.
        unsafe { ffi::PyThreadState_SetAsyncExc(thread, class.as_ptr()) };
        if nothing.call0().is_err() {
            return;
        }
    }
    // SAFETY: as above. It has not been raised, and must not be raised later.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread, ptr::null_mut()) };
}

/// The body of a thread that interrupts the handlers of one dispatcher.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Interrupter(Arc<Interrupts>);

impl Interrupter {
    /// That of this dispatcher.
    pub fn new(shared: &Shared) -> Self {
        Self(shared.interrupts.clone())
    }
}

#[pymethods]
impl Interrupter {
    /// Interrupts handlers until the dispatcher has stopped.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        guard(py, || {
            let class = CLASS.find(py, "forebay.errors", "JobCancelled")?;
            while let Some(slot) = py.detach(|| self.0.next()) {
                slot.interrupt(class);
            }
            Ok(())
        })
    }
}
