//! What runs the jobs of async handlers: an awaitable that one long-lived task of an event loop drives.
//!
//! A task per job would cost more than most jobs do. A carrier runs coroutines itself, in its task: one after the
//! other as long as they do not have to wait, and for at most [`JOBS`] jobs or [`TURN`] before it lets the loop do
//! something else. When a coroutine waits, what it waits for is handed through to the task, so that everything of
//! asyncio's works as in a task of its own: `current_task`, `timeout`, `TaskGroup`, cancellation. The carrier then
//! stays with that job until it ends, and another one goes on with the jobs that come ([`crate::station`]).
//!
//! A task that somebody has asked to cancel and that has not been ended by it keeps that request: the next time it
//! waits it may be cancelled. So a carrier whose job leaves such a request behind takes no other job.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Failure, FailureKind, Inside, Lease, Outcome, StopReason, Ticket};
use parking_lot::Mutex;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::attempt::Job;
use crate::context::Context;
use crate::coroutine::{self, Piece};
use crate::errors::guard;
use crate::graveyard::{self, Near};
use crate::hooks::Raised;
use crate::imports::Imported;
use crate::outcome;
use crate::shared::Shared;
use crate::station::{Asked, Station, Till};
use crate::worker::call;

/// The most jobs of one turn of the loop.
const JOBS: usize = 64;
/// The longest time of one turn, if handlers are shorter: CPython's own switch interval.
const TURN: Duration = Duration::from_millis(5);

/// Runs one job at a time, in a task of its own.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Carrier {
    number: u64,
    station: Py<Station>,
    /// The ticket of the job that waits in it; 0 if none does.
    pub ticket: AtomicU64,
    seat: Mutex<Seat>,
}

/// What a carrier has between two turns.
struct Seat {
    at: At,
    /// Asks its task whether somebody has asked to cancel it.
    cancelling: Option<Py<PyAny>>,
}

enum At {
    /// It has no job.
    Idle,
    /// It has a job that has not begun: the turn was over.
    Held(Lease),
    /// Its job waits.
    Waiting(Body),
    /// Its turn is now.
    Running,
    /// It is over.
    Ended,
}

/// A job that has begun.
struct Body {
    lease: Holding,
    coroutine: Py<PyAny>,
    context: Context,
}

/// The lease of a job; nothing only while it is passed on.
struct Holding(Option<Held>);

/// The lease, or the job that has it, where the handler takes that.
enum Held {
    Own(Lease),
    Lent(Py<Job>),
}

impl Holding {
    fn go_on(&self) -> Option<Inside> {
        match self.0.as_ref()? {
            Held::Own(lease) => Some(lease.go_on()),
            Held::Lent(job) => job.get().go_on(),
        }
    }

    fn ticket(&self) -> Option<Ticket> {
        match self.0.as_ref()? {
            Held::Own(lease) => Some(lease.ticket()),
            Held::Lent(job) => job.get().ticket(),
        }
    }

    fn take(&mut self) -> Option<Lease> {
        self.0.take().map(|held| match held {
            Held::Own(lease) => lease,
            Held::Lent(job) => job.get().take_back(),
        })
    }
}

/// One that is let go before its end was in a loop that has ended, or with a carrier that nobody drives any more.
/// The job goes back to the queue; its coroutine is closed as it goes, which is Python's doing.
impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(lease) = self.take() {
            // A store that fails has its own way to tell. In the child of a fork it is refused, as it should be.
            let _ = lease.complete(Outcome::Interrupted);
        }
    }
}

impl Carrier {
    /// One of this station.
    pub fn new(station: &Bound<'_, Station>, number: u64) -> Self {
        Self {
            number,
            station: station.clone().unbind(),
            ticket: AtomicU64::new(0),
            seat: Mutex::new(Seat {
                at: At::Idle,
                cancelling: None,
            }),
        }
    }

    /// The task that drives it.
    pub fn belongs_to(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let cancelling = task.getattr("cancelling")?.unbind();
        self.seat.lock().cancelling = Some(cancelling);
        Ok(())
    }

    /// Nobody drives it any more: its job goes back.
    pub fn abandon(&self, py: Python<'_>) {
        let mut seat = self.seat.lock();
        if matches!(seat.at, At::Running) {
            return;
        }
        let former = (mem::replace(&mut seat.at, At::Ended), seat.cancelling.take());
        drop(seat);
        let _near = Near::new(py);
        self.ticket.store(0, Ordering::Relaxed);
        drop(former);
    }

    /// The next turn, which begins with this exception if there is one. What it waits for, or `None` at its end.
    fn turn<'py>(
        slf: &Bound<'py, Self>,
        thrown: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, carrier) = (slf.py(), slf.get());
        let mut seat = carrier.seat.lock();
        match seat.at {
            At::Running => return Err(PyValueError::new_err("the carrier is running")),
            // It was given up before its task was.
            At::Ended => return thrown.map_or(Ok(None), |thrown| Err(PyErr::from_value(thrown))),
            _ => {}
        }
        let at = mem::replace(&mut seat.at, At::Running);
        let cancelling = seat.cancelling.take();
        drop(seat);
        graveyard::drain(py);
        let near = Near::new(py);
        let mut turn = Turn {
            py,
            carrier,
            station: carrier.station.bind(py),
            near,
            till: None,
            cancelling,
        };
        let then = turn.run(at, thrown);
        turn.end(then)
    }
}

/// How a turn ends.
enum Then<'py> {
    /// In the next turn of the loop, go on there.
    Again(At),
    /// It waits for this.
    Wait(At, Bound<'py, PyAny>),
    /// It has ended.
    End(PyResult<()>),
}

/// What is next in a turn.
enum Next {
    Ask,
    Begin(Lease),
    GoOn(Body),
}

/// What running a piece of a job came to.
enum Ran<'py> {
    Waits(Body, Bound<'py, PyAny>),
    Ended(Lease, Outcome),
    /// The handler asks for the end of the loop.
    Leaves(Lease, PyErr),
    /// The job is somebody else's by now.
    Gone,
}

struct Turn<'a, 'py> {
    py: Python<'py>,
    carrier: &'a Carrier,
    station: &'a Bound<'py, Station>,
    near: Near<'py>,
    till: Option<Box<Till>>,
    cancelling: Option<Py<PyAny>>,
}

impl<'py> Turn<'_, 'py> {
    fn run(&mut self, at: At, thrown: Option<Bound<'py, PyAny>>) -> Then<'py> {
        let mut next = match (at, thrown) {
            (At::Waiting(body), Some(thrown)) => match self.settle_piece(body, Some(thrown)) {
                Ok(next) => next,
                Err(then) => return then,
            },
            (At::Waiting(body), None) => Next::GoOn(body),
            (At::Held(lease), None) => Next::Begin(lease),
            (_, None) => Next::Ask,
            // Its task was cancelled by somebody else, and will run no more.
            (at, Some(thrown)) => {
                if let At::Held(lease) = at {
                    self.station.get().finish(self.py, None, lease, Outcome::Returned);
                }
                let gone = self.station.get().give_up_hunting(self.py);
                return Then::End(gone.and(Err(PyErr::from_value(thrown))));
            }
        };
        let (mut jobs, mut began) = (0, None);
        loop {
            let ran = match next {
                Next::Ask => match self.ask() {
                    Ok(Asked::Job(lease)) => Ok(Next::Begin(lease)),
                    Ok(Asked::Nothing) => Err(self.park()),
                    Ok(Asked::Closed) => Err(Then::End(Ok(()))),
                    Err(error) => Err(Then::End(Err(error))),
                },
                Next::Begin(lease) => self.begin(lease),
                Next::GoOn(body) => self.settle_piece(body, None),
            };
            next = match ran {
                Ok(next) => next,
                Err(then) => return then,
            };
            if let Next::Begin(_) | Next::Ask = next {
                jobs += 1;
            }
            // A job is claimed when the one before it has ended: no clock is asked.
            let over = match &next {
                Next::Begin(lease) => {
                    let now = lease.started();
                    now.since(*began.get_or_insert(now)) >= TURN
                }
                _ => false,
            };
            if over || jobs > JOBS {
                return Then::Again(match next {
                    Next::Begin(lease) => At::Held(lease),
                    _ => At::Idle,
                });
            }
        }
    }

    /// Ends the turn: what the carrier's task is told.
    fn end(mut self, then: Then<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (carrier, station, py) = (self.carrier, self.station, self.py);
        let had_till = self.till.is_some();
        if let Some(till) = self.till.take() {
            station.get().put_till(till, matches!(then, Then::Again(_)));
        }
        let sit = |at, cancelling| *carrier.seat.lock() = Seat { at, cancelling };
        match then {
            Then::Again(at) => {
                sit(at, self.cancelling.take());
                Ok(Some(py.None().into_bound(py)))
            }
            Then::Wait(at, waits_for) => {
                if let At::Waiting(body) = &at {
                    let ticket = body.lease.ticket().map_or(0, |ticket| ticket.0);
                    carrier.ticket.store(ticket, Ordering::Relaxed);
                }
                sit(at, self.cancelling.take());
                if had_till {
                    Station::call_another(station)?;
                }
                Ok(Some(waits_for))
            }
            Then::End(result) => {
                sit(At::Ended, None);
                station.get().leave(py, carrier.number)?;
                Station::call_another(station)?;
                result.map(|()| None)
            }
        }
    }

    fn ask(&mut self) -> PyResult<Asked> {
        let (py, station) = (self.py, self.station.get());
        match self.till() {
            Some(till) => station.ask(py, till),
            None => Ok(Asked::Nothing),
        }
    }

    /// What asks for jobs: taken when it is needed first. `None` while somebody else has it, up the stack.
    fn till(&mut self) -> Option<&mut Till> {
        if self.till.is_none() {
            self.till = self.station.get().take_till();
        }
        self.till.as_deref_mut()
    }

    fn park(&self) -> Then<'py> {
        match self.station.get().park(self.py) {
            Ok(future) => Then::Wait(At::Idle, future),
            Err(error) => Then::End(Err(error)),
        }
    }

    /// Runs the first piece of a job.
    fn begin(&mut self, lease: Lease) -> Result<Next, Then<'py>> {
        let ran = self.first_piece(lease);
        self.settle(ran)
    }

    /// Runs the next piece of a job.
    fn settle_piece(&mut self, body: Body, thrown: Option<Bound<'py, PyAny>>) -> Result<Next, Then<'py>> {
        self.carrier.ticket.store(0, Ordering::Relaxed);
        let ran = self.piece(body, thrown);
        self.settle(ran)
    }

    fn first_piece(&mut self, lease: Lease) -> Ran<'py> {
        let (py, station) = (self.py, self.station.get());
        // It may have waited for its turn.
        if lease.cancelled() {
            return Ran::Ended(lease, Outcome::failed("stopped before it began"));
        }
        if lease.is_expired() {
            return Ran::Ended(lease, Outcome::Expired);
        }
        if lease.is_overdue() {
            return Ran::Ended(lease, Outcome::TimedOut);
        }
        let handler = self
            .till()
            .and_then(|till| till.handlers.find(&station.shared.handlers, lease.kind_id()));
        let Some(handler) = handler.filter(|handler| handler.is_async) else {
            // Registered as something else after this job was claimed: a thread will claim it.
            return Ran::Ended(lease, Outcome::Returned);
        };
        let context = match Context::copy(py) {
            Ok(context) => context,
            Err(error) => return Ran::Leaves(lease, error),
        };
        let mut holding = Holding(None);
        let ran = context.run(py, || {
            // In there, so that the handler sees what a hook sets.
            let _inside = lease.enter();
            let made = match handler.pass_job {
                false => {
                    let made = call(py, handler, lease.payload(), None);
                    holding.0 = Some(Held::Own(lease));
                    made
                }
                true => {
                    let payload = lease.payload().clone();
                    let job = Job::lent(py, lease, &station.shared)?;
                    holding.0 = Some(Held::Lent(job.clone().unbind()));
                    call(py, handler, &payload, Some(job.as_any()))
                }
            };
            let coroutine = coroutine::of(made?)?;
            let piece = coroutine::send(&coroutine);
            Ok((coroutine, piece))
        });
        match ran.and_then(|ran| ran) {
            Ok((coroutine, Piece::Waits(waits_for))) => {
                let coroutine = coroutine.unbind();
                let body = Body {
                    lease: holding,
                    coroutine,
                    context,
                };
                Ran::Waits(body, waits_for)
            }
            Ok((_, Piece::Over(result))) => self.over(&context, holding, result),
            Err(error) => self.over(&context, holding, Err(error)),
        }
    }

    fn piece(&mut self, body: Body, thrown: Option<Bound<'py, PyAny>>) -> Ran<'py> {
        let py = self.py;
        let inside = body.lease.go_on();
        let coroutine = body.coroutine.bind(py);
        let piece = body.context.run(py, || match thrown {
            None => coroutine::send(coroutine),
            Some(raised) => coroutine::throw(coroutine, raised),
        });
        drop(inside);
        match piece {
            Ok(Piece::Waits(waits_for)) => Ran::Waits(body, waits_for),
            Ok(Piece::Over(result)) => self.over(&body.context, body.lease, result),
            Err(error) => self.over(&body.context, body.lease, Err(error)),
        }
    }

    /// A handler has ended, one way or the other.
    fn over(&self, context: &Context, mut holding: Holding, result: PyResult<Bound<'py, PyAny>>) -> Ran<'py> {
        let shared = &self.station.get().shared;
        if shared.core.check_process().is_err() {
            // The child of a fork: nothing of the parent's may be touched, not even to free it.
            mem::forget(holding);
            return Ran::Gone;
        }
        let Some(lease) = holding.take() else {
            return Ran::Gone;
        };
        let raised = Raised::of(self.py, &result);
        let leave = |lease: &Lease, outcome: &Outcome| {
            if lease.hooked() {
                let left = context.run(self.py, || Raised::during(raised, || lease.leave(outcome)));
                left.unwrap_or_else(|error| error.write_unraisable(self.py, None));
            }
        };
        match result {
            Err(error) if leaves(self.py, &error) => {
                leave(&lease, &Outcome::Interrupted);
                Ran::Leaves(lease, error)
            }
            result => {
                let outcome = outcome_of(self.py, shared, &lease, result);
                leave(&lease, &outcome);
                Ran::Ended(lease, outcome)
            }
        }
    }

    /// What comes after a piece.
    fn settle(&mut self, ran: Ran<'py>) -> Result<Next, Then<'py>> {
        let py = self.py;
        match ran {
            Ran::Waits(body, waits_for) => Err(Then::Wait(At::Waiting(body), waits_for)),
            Ran::Gone => Err(Then::End(Ok(()))),
            Ran::Leaves(lease, error) => {
                self.station.get().finish(py, None, lease, Outcome::Interrupted);
                Err(Then::End(Err(error)))
            }
            Ran::Ended(lease, outcome) => {
                let station = self.station.get();
                if self.is_cancelled() {
                    station.finish(py, None, lease, outcome);
                    return Err(Then::End(Ok(())));
                }
                let next = station.finish(py, self.till(), lease, outcome);
                self.near.drain();
                Ok(next.map_or(Next::Ask, Next::Begin))
            }
        }
    }

    /// Whether a request to cancel its task has been left behind.
    fn is_cancelled(&self) -> bool {
        let Some(cancelling) = &self.cancelling else {
            return false;
        };
        let left = cancelling
            .bind(self.py)
            .call0()
            .and_then(|count| count.is_truthy());
        left.unwrap_or(true)
    }
}

/// Whether an exception ends the loop, as it does from any task.
fn leaves(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// What became of an attempt. A `CancelledError` is what was asked for when the job should stop, and gives the job
/// back while the dispatcher stops; else it is a failure like any other.
fn outcome_of<'py>(
    py: Python<'py>,
    shared: &Shared,
    lease: &Lease,
    result: PyResult<Bound<'py, PyAny>>,
) -> Outcome {
    static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CANCELLED.find(py, "asyncio.exceptions", "CancelledError");
    let cancelled = match (&result, class) {
        (Err(error), Ok(class)) => error.matches(py, class).unwrap_or(false),
        _ => false,
    };
    let (outcome, _) = outcome::of(py, shared, lease.kind_id(), result);
    match (outcome, lease.stop_reason()) {
        (_, Some(StopReason::Stopping)) if cancelled => Outcome::Interrupted,
        (Outcome::Failed(failure), _) if cancelled => {
            Outcome::Failed(Failure::new(FailureKind::Error, failure.message.into_owned()))
        }
        (outcome, _) => outcome,
    }
}

#[pymethods]
impl Carrier {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        guard(slf.py(), || Self::turn(slf, None))
    }

    /// As of a coroutine; a task sends nothing.
    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let _ = value;
        let waits_for = guard(slf.py(), || Self::turn(slf, None))?;
        waits_for.ok_or_else(|| pyo3::exceptions::PyStopIteration::new_err(()))
    }

    /// As of a coroutine: what a task is cancelled by, and the exceptions of what it waits for.
    #[pyo3(signature = (raised, value=None, traceback=None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        raised: Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
        traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = traceback;
        let raised = match (raised.cast::<PyType>(), value) {
            (Ok(class), None) => class.call0()?,
            (Ok(_), Some(value)) => value,
            _ => raised,
        };
        let waits_for = guard(slf.py(), || Self::turn(slf, Some(raised)))?;
        waits_for.ok_or_else(|| pyo3::exceptions::PyStopIteration::new_err(()))
    }

    /// As of a coroutine: lets its job go back to the queue.
    fn close(&self, py: Python<'_>) {
        self.abandon(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.station)?;
        // What is in use is alive.
        let Some(seat) = self.seat.try_lock() else {
            return Ok(());
        };
        visit.call(&seat.cancelling)?;
        if let At::Waiting(body) = &seat.at {
            visit.call(&body.coroutine)?;
            visit.call(&body.context.0)?;
            if let Some(Held::Lent(job)) = &body.lease.0 {
                visit.call(job)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let mut seat = self.seat.lock();
        let former = (mem::replace(&mut seat.at, At::Ended), seat.cancelling.take());
        drop(seat);
        drop(former);
    }
}
