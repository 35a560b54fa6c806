//! The body of a worker thread.
//!
//! It is called once per thread and loops in here. While there is work it stays attached to the
//! interpreter, one job at a time, so that a handler that blocks keeps no other job waiting; it detaches
//! to wait, and between two jobs now and then to let others in. A thread that attached for each job would
//! make and free a Python stack each time, at fifty times the cost. Which of the workers of a dispatcher
//! work is [`crate::crew`]'s to say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay::{Consumer, Deadline, ErrorKind, Lease, Outcome, Payload, Ticket};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::attempt::Job;
use crate::crew::Member;
use crate::errors::guard;
use crate::graveyard::Near;
use crate::handlers::{Known, Registered};
use crate::hooks::Raised;
use crate::interrupt::Slot;
use crate::shared::Shared;
use crate::value::Arguments;
use crate::{graveyard, outcome};

/// The most jobs between two detachments.
const JOBS: usize = 64;
/// The longest time between two detachments, if handlers are shorter: CPython's own switch interval.
const TURN: Duration = Duration::from_millis(5);
/// How long a worker leaves a store alone that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// One worker of a dispatcher: call `run` on a thread of its own.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Worker {
    shared: Arc<Shared>,
    consumer: Mutex<Option<Consumer>>,
}

impl Worker {
    /// A worker for the handlers of this dispatcher.
    pub fn new(shared: &Arc<Shared>) -> Self {
        let consumer = shared.core.worker(shared.kinds.clone());
        Self {
            shared: shared.clone(),
            consumer: Mutex::new(Some(consumer)),
        }
    }
}

#[pymethods]
impl Worker {
    /// Runs jobs until the dispatcher stops; false if a handler asked this thread to end.
    fn run(&self, py: Python<'_>) -> PyResult<bool> {
        let consumer = self.consumer.lock().take();
        match consumer {
            Some(consumer) => guard(py, || {
                Ok(Turns {
                    shared: &self.shared,
                    consumer,
                    handlers: Known::default(),
                    slot: None,
                    member: Member::new(&self.shared.crew),
                    held: None,
                }
                .run(py))
            }),
            None => Ok(true),
        }
    }
}

/// Why a series of jobs ended.
enum Then {
    /// There is nothing to do, or it is time to let others in.
    Detach,
    /// A handler asked the thread to end.
    Leave,
    /// This is the child of a fork.
    Forked,
}

struct Turns<'a> {
    shared: &'a Arc<Shared>,
    consumer: Consumer,
    handlers: Known,
    /// By which handlers are interrupted, once there was one that may be.
    slot: Option<Arc<Slot>>,
    member: Member<'a>,
    /// The job that runs, or comes after others have been let in.
    held: Option<Lease>,
}

impl Turns<'_> {
    /// Runs jobs until the dispatcher stops; false if a handler asked the thread to end.
    fn run(mut self, py: Python<'_>) -> bool {
        while self.claim(py) {
            match self.series(py) {
                Then::Detach => {}
                Then::Leave => return false,
                Then::Forked => {
                    // Nothing of the parent's may be touched here, not even to free it.
                    std::mem::forget(self);
                    return true;
                }
            }
        }
        true
    }

    /// Lets others in, and waits for the next job; false once the dispatcher stops.
    fn claim(&mut self, py: Python<'_>) -> bool {
        if self.held.is_some() {
            self.member.pause();
            detached(py, self.shared, || ());
            return true;
        }
        self.member.rest();
        let Self {
            shared,
            consumer,
            member,
            ..
        } = self;
        loop {
            let next = || {
                if member.is_spare() {
                    shared.crew.stand_by(&shared.core);
                }
                consumer.next(Deadline::NEVER)
            };
            match detached(py, shared, next) {
                Ok(None) => {}
                Ok(lease) => {
                    self.held = lease;
                    return true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Forked) => return false,
                Err(_) => detached(py, shared, || std::thread::park_timeout(PAUSE)),
            }
        }
    }

    /// Runs jobs while there are any, but not for long.
    fn series(&mut self, py: Python<'_>) -> Then {
        let (turn, mut jobs) = (Deadline::after(TURN), 0);
        self.member.begin();
        graveyard::drain(py);
        let near = Near::new(py);
        loop {
            let Self {
                shared,
                handlers,
                slot,
                held,
                ..
            } = self;
            let (outcome, leave) = run_one(py, shared, handlers, slot, held);
            if self.shared.core.check_process().is_err() {
                return Then::Forked;
            }
            let Some(done) = self.held.take() else {
                return Then::Detach;
            };
            if leave || self.member.is_spare() {
                // A store that fails has its own way to tell; the lease then ends by itself.
                let _ = self
                    .shared
                    .detached_if(self.shared.ends_wait(), py, |_| done.complete(outcome));
                return if leave { Then::Leave } else { Then::Detach };
            }
            let Self { shared, consumer, .. } = self;
            let next = |_: &_| consumer.complete_and_next(done, outcome);
            let next = shared.detached_if(shared.ends_wait(), py, next);
            self.held = next.map_or(None, |(_, next)| next);
            near.drain();
            jobs += 1;
            let look = self.member.ran();
            if self.held.is_none() || jobs == JOBS || (look && turn.passed()) {
                return Then::Detach;
            }
        }
    }
}

/// Runs `body` detached, and counts how often, and how long, workers wait for the interpreter.
fn detached<T: Send>(py: Python<'_>, shared: &Shared, body: impl FnOnce() -> T + Send) -> T {
    let core = &shared.core;
    let (answer, ready) = py.detach(|| (body(), core.now()));
    shared.attaches.fetch_add(1, Ordering::Relaxed);
    let waited = core.now().since(ready).as_micros();
    shared
        .attach_wait
        .fetch_add(u64::try_from(waited).unwrap_or(u64::MAX), Ordering::Relaxed);
    answer
}

/// Runs one attempt of the job in `held`. Tells what became of it, and whether the thread should end.
fn run_one(
    py: Python<'_>,
    shared: &Arc<Shared>,
    handlers: &mut Known,
    slot: &mut Option<Arc<Slot>>,
    held: &mut Option<Lease>,
) -> (Outcome, bool) {
    let handler = held
        .as_ref()
        .and_then(|lease| handlers.find(&shared.handlers, lease.kind_id()));
    let (Some(lease), Some(handler)) = (&*held, handler) else {
        // Only while the garbage collector takes the dispatcher apart: the job is nobody's fault.
        return (Outcome::Interrupted, false);
    };
    if handler.is_async {
        // Registered as such after this job was claimed: a loop will claim it.
        return (Outcome::Returned, false);
    }
    let (inside, kind) = (lease.enter(), lease.kind_id());
    let interruption = Interruption::of(py, shared, slot, handler, lease);
    let result = match (interruption, handler.pass_job) {
        (Err(error), _) => Err(error),
        (Ok(interruption), false) => call_within(py, handler, lease.payload(), None, interruption),
        (Ok(interruption), true) => call_with_job(py, shared, handler, held, interruption),
    };
    let raised = Raised::of(py, &result);
    let (outcome, leave) = outcome::of(py, shared, kind, result);
    // In the child of a fork there is nobody to tell, and a lock of the parent's may be held for ever.
    if let (Some(lease), Ok(())) = (held, shared.core.check_process()) {
        Raised::during(raised, || lease.leave(&outcome));
    }
    drop(inside);
    (outcome, leave)
}

/// How the handler of a job is interrupted; none if it must not be.
struct Interruption<'a>(Option<(&'a Arc<Slot>, Ticket)>);

impl<'a> Interruption<'a> {
    fn of(
        py: Python<'_>,
        shared: &Arc<Shared>,
        slot: &'a mut Option<Arc<Slot>>,
        handler: &Registered,
        lease: &Lease,
    ) -> PyResult<Self> {
        if !handler.interrupt {
            return Ok(Self(None));
        }
        if slot.is_none() {
            *slot = Some(Slot::new(py, shared)?);
        }
        Ok(Self(slot.as_ref().map(|slot| (slot, lease.ticket()))))
    }
}

/// Calls a handler that takes the job, which has the lease meanwhile.
fn call_with_job<'py>(
    py: Python<'py>,
    shared: &Arc<Shared>,
    handler: &Registered,
    held: &mut Option<Lease>,
    interruption: Interruption<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(lease) = held.take() else {
        return Ok(py.None().into_bound(py));
    };
    let payload = lease.payload().clone();
    let job = Job::lent(py, lease, shared)?;
    let result = call_within(py, handler, &payload, Some(job.as_any()), interruption);
    *held = Some(job.get().take_back());
    result
}

/// Calls a handler with what a job carries, after the job if it takes one.
pub fn call<'py>(
    py: Python<'py>,
    handler: &Registered,
    payload: &Payload,
    job: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    call_within(py, handler, payload, job, Interruption(None))
}

/// The same for one that may be interrupted. Only the handler's own code is: its arguments are read before.
fn call_within<'py>(
    py: Python<'py>,
    handler: &Registered,
    payload: &Payload,
    job: Option<&Bound<'py, PyAny>>,
    interruption: Interruption<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let function = handler.function.bind(py);
    let args = Arguments::of(py, payload, handler.format.get())?;
    // It is let go after the interruptions have ended.
    let mut instance = None;
    let body = || match handler.fresh {
        false => args.call(function, job),
        true => args.call(instance.insert(function.call0()?), job),
    };
    match interruption.0 {
        None => body(),
        Some((slot, ticket)) => slot.run(py, ticket, body),
    }
}
