//! Where an event loop runs the jobs of async handlers.
//!
//! One consumer for all of them. The loop watches its descriptor, and does nothing while there is no job. When
//! there is one, a [carrier](crate::carrier) is woken, which asks for jobs and runs them one after the other until
//! one has to wait; then another carrier is woken to ask for more, and so on up to as many as jobs may run at once.
//! At any time, either
//!
//! * a carrier *hunts*: it asks, or has been woken to ask;
//! * or the consumer is *armed*: the last one to ask found nothing, and the descriptor will tell;
//! * or all carriers have a job, and the first to finish asks.
//!
//! All of it happens on the loop's thread, one thing at a time. The lock of the desk is for those who look on, and
//! is never held while anything of Python runs.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay::{Consumer, Deadline, ErrorKind, Lease, Outcome, StopReason, Ticket};
use parking_lot::Mutex;
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::carrier::Carrier;
use crate::errors::{OrRaise, guard};
use crate::graveyard::{self, Near};
use crate::handlers::Known;
use crate::shared::Shared;

/// How long a store is left alone that has failed, in seconds.
const PAUSE: f64 = 0.1;
/// How many leases that should stop are asked for at once.
const STOPS: usize = 256;

/// What a station needs of its loop, each a function.
pub struct Loop {
    /// Makes a task of a carrier.
    pub spawn: Py<PyAny>,
    /// Makes a future.
    pub future: Py<PyAny>,
    /// Calls `wake` after so many seconds.
    pub later: Py<PyAny>,
    /// Hears that nothing runs here any more.
    pub ended: Py<PyAny>,
}

/// Where one event loop runs jobs.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Station {
    pub shared: Arc<Shared>,
    on: Loop,
    desk: Mutex<Desk>,
}

/// What asks for jobs, and knows their handlers. Whoever uses it has it.
pub struct Till {
    pub consumer: Consumer,
    pub handlers: Known,
}

#[derive(Default)]
struct Desk {
    /// Where it is while nobody uses it.
    till: Option<Box<Till>>,
    /// What carriers without a job wait for.
    parked: Vec<Py<PyAny>>,
    /// Every carrier and its task.
    roster: HashMap<u64, (Py<Carrier>, Py<PyAny>)>,
    /// How many carriers there have been.
    carriers: u64,
    hunting: bool,
    armed: bool,
    /// Whether nothing is started any more.
    closed: bool,
}

/// How another carrier is set to work.
enum Another {
    Wake(Py<PyAny>),
    Spawn(u64),
}

/// What asking for a job came to.
pub enum Asked {
    /// A job.
    Job(Lease),
    /// There is none; somebody will tell.
    Nothing,
    /// There will be none.
    Closed,
}

impl Station {
    /// For the async handlers of this dispatcher.
    pub fn new(py: Python<'_>, shared: &Arc<Shared>, on: Loop) -> PyResult<Py<Self>> {
        let mut consumer = shared.core.worker(shared.async_kinds.clone());
        consumer.descriptor().or_raise(py)?;
        // From now on it hears of leases that should stop.
        consumer.stopped(0).or_raise(py)?;
        let till = Box::new(Till {
            consumer,
            handlers: Known::default(),
        });
        let desk = Desk {
            till: Some(till),
            ..Desk::default()
        };
        // A dispatcher is begun on one loop, and not again.
        let _ = shared.loop_thread.set(std::thread::current().id());
        let station = Self {
            shared: shared.clone(),
            on,
            desk: Mutex::new(desk),
        };
        Py::new(py, station)
    }

    /// What asks for jobs, from whoever does so now.
    pub fn take_till(&self) -> Option<Box<Till>> {
        let mut desk = self.desk.lock();
        desk.hunting = false;
        desk.till.take()
    }

    /// Puts it back. `hunting` if its user will ask again, in the loop's next turn.
    pub fn put_till(&self, till: Box<Till>, hunting: bool) {
        let mut desk = self.desk.lock();
        desk.hunting |= hunting;
        desk.till = Some(till);
    }

    /// Asks for a job, unless somebody else does or will.
    pub fn ask(&self, py: Python<'_>, till: &mut Till) -> PyResult<Asked> {
        {
            let desk = self.desk.lock();
            if desk.closed {
                return Ok(Asked::Closed);
            }
            if desk.armed || desk.hunting {
                return Ok(Asked::Nothing);
            }
        }
        match till.consumer.next(Deadline::after(Duration::ZERO)) {
            Ok(Some(lease)) => return Ok(Asked::Job(lease)),
            Ok(None) => self.desk.lock().armed = true,
            Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Forked) => {
                self.close_desk(py);
                return Ok(Asked::Closed);
            }
            Err(_) => {
                // A store that fails has its own way to tell.
                self.desk.lock().armed = true;
                self.on.later.call1(py, (PAUSE,))?;
            }
        }
        self.cancel_stopped(py, till)?;
        Ok(Asked::Nothing)
    }

    /// Answers for a job, and asks for the next one. A store that fails has its own way to tell; the lease then
    /// ends by itself.
    pub fn finish(
        &self,
        py: Python<'_>,
        till: Option<&mut Till>,
        lease: Lease,
        outcome: Outcome,
    ) -> Option<Lease> {
        let waits = self.shared.ends_wait();
        match till {
            Some(till) => {
                let consumer = &mut till.consumer;
                let next = |_: &_| consumer.complete_and_next(lease, outcome);
                self.shared.detached_if(waits, py, next).ok()?.1
            }
            None => {
                let _ = self.shared.detached_if(waits, py, |_| lease.complete(outcome));
                None
            }
        }
    }

    /// What a carrier without a job waits for.
    pub fn park<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.on.future.bind(py).call0()?;
        // As a future says itself when it is awaited.
        future.setattr("_asyncio_future_blocking", true)?;
        self.desk.lock().parked.push(future.clone().unbind());
        Ok(future)
    }

    /// Whoever had been woken to ask for jobs is gone, or cannot.
    pub fn give_up_hunting(&self, py: Python<'_>) -> PyResult<()> {
        let mut desk = self.desk.lock();
        desk.hunting = false;
        desk.armed = false;
        drop(desk);
        self.on.later.call1(py, (0.0,)).map(drop)
    }

    /// Has another carrier ask for jobs, unless somebody does or will.
    pub fn call_another(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, station) = (slf.py(), slf.get());
        loop {
            match station.another() {
                None => return Ok(()),
                Some(Another::Wake(parked)) => {
                    // One that is cancelled is on its way out.
                    if parked.call_method1(py, "set_result", (py.None(),)).is_ok() {
                        return Ok(());
                    }
                    station.desk.lock().hunting = false;
                }
                Some(Another::Spawn(number)) => {
                    let spawned = station.spawn(slf, number);
                    if spawned.is_err() {
                        station.desk.lock().hunting = false;
                    }
                    return spawned;
                }
            }
        }
    }

    fn another(&self) -> Option<Another> {
        let mut desk = self.desk.lock();
        if desk.closed || desk.armed || desk.hunting {
            return None;
        }
        let another = match desk.parked.pop() {
            Some(parked) => Another::Wake(parked),
            None if desk.roster.len() < self.shared.core.options().concurrency => {
                desk.carriers += 1;
                Another::Spawn(desk.carriers)
            }
            None => return None,
        };
        desk.hunting = true;
        Some(another)
    }

    fn spawn(&self, slf: &Bound<'_, Self>, number: u64) -> PyResult<()> {
        let py = slf.py();
        let carrier = Bound::new(py, Carrier::new(slf, number))?;
        let task = self.on.spawn.bind(py).call1((&carrier,))?;
        carrier.get().belongs_to(&task)?;
        let entry = (carrier.unbind(), task.unbind());
        self.desk.lock().roster.insert(number, entry);
        Ok(())
    }

    /// A carrier has ended.
    pub fn leave(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        let mut desk = self.desk.lock();
        let entry = desk.roster.remove(&number);
        let last = desk.closed && desk.roster.is_empty();
        drop(desk);
        drop(entry);
        match last {
            true => self.on.ended.call0(py).map(drop),
            false => Ok(()),
        }
    }

    /// Starts nothing any more. Those who wait for a job are let go.
    fn close_desk(&self, py: Python<'_>) {
        let mut desk = self.desk.lock();
        desk.closed = true;
        let parked = std::mem::take(&mut desk.parked);
        drop(desk);
        for future in parked {
            // One that is cancelled is on its way out.
            let _ = future.call_method1(py, "set_result", (py.None(),));
        }
    }

    /// Cancels the tasks of jobs that should stop: cancelled, over their time, or not ours any more. That the
    /// dispatcher stops is no reason yet.
    fn cancel_stopped(&self, py: Python<'_>, till: &mut Till) -> PyResult<()> {
        loop {
            let stopped = till.consumer.stopped(STOPS).or_raise(py)?;
            let all = stopped.len() < STOPS;
            let mut why: HashMap<Ticket, StopReason> = stopped.into_iter().collect();
            why.retain(|_, reason| *reason != StopReason::Stopping);
            if !why.is_empty() {
                for (task, reason) in self.tasks_of(py, &why) {
                    task.call_method1(py, "cancel", (reason.name(),))?;
                }
            }
            if all {
                return Ok(());
            }
        }
    }

    fn tasks_of(&self, py: Python<'_>, why: &HashMap<Ticket, StopReason>) -> Vec<(Py<PyAny>, StopReason)> {
        let desk = self.desk.lock();
        let tasks = desk.roster.values().filter_map(|(carrier, task)| {
            let ticket = Ticket(carrier.get().ticket.load(Ordering::Relaxed));
            why.get(&ticket).map(|reason| (task.clone_ref(py), *reason))
        });
        tasks.collect()
    }

    /// Looks why the descriptor is readable.
    fn look(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, station) = (slf.py(), slf.get());
        let mut desk = station.desk.lock();
        desk.armed = false;
        let Some(mut till) = desk.till.take() else {
            // Somebody asks just now.
            return Ok(());
        };
        drop(desk);
        till.consumer.hush();
        let told = station.cancel_stopped(py, &mut till);
        station.desk.lock().till = Some(till);
        told?;
        if !station.shared.core.stopping() {
            return Self::call_another(slf);
        }
        station.close_desk(py);
        let empty = station.desk.lock().roster.is_empty();
        match empty {
            true => station.on.ended.call0(py).map(drop),
            false => Ok(()),
        }
    }
}

#[pymethods]
impl Station {
    /// The descriptor that the loop watches.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        guard(py, || {
            let mut desk = self.desk.lock();
            let till = desk.till.as_mut();
            let till = till.expect("nobody asks for jobs before the loop watches");
            Ok(till.consumer.descriptor().or_raise(py)?.as_raw_fd())
        })
    }

    /// The descriptor is readable.
    fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        guard(slf.py(), || {
            graveyard::drain(slf.py());
            let _near = Near::new(slf.py());
            Self::look(slf)
        })
    }

    /// How many carriers there are: as many as jobs have waited at the same time.
    #[getter]
    fn carriers(&self) -> usize {
        self.desk.lock().roster.len()
    }

    /// Lets everything go, with a loop that will not run again: jobs that run here go back to the queue.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || {
            let mut desk = self.desk.lock();
            let former = std::mem::take(&mut *desk);
            desk.closed = true;
            drop(desk);
            for (carrier, _) in former.roster.values() {
                carrier.get().abandon(py);
            }
            // Here goes what calls destructors, which may do anything.
            drop(former);
            Ok(())
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let on = &self.on;
        for function in [&on.spawn, &on.future, &on.later, &on.ended] {
            visit.call(function)?;
        }
        // What is in use is alive.
        let Some(desk) = self.desk.try_lock() else {
            return Ok(());
        };
        desk.parked.iter().try_for_each(|future| visit.call(future))?;
        desk.roster.values().try_for_each(|(carrier, task)| {
            visit.call(carrier)?;
            visit.call(task)
        })
    }

    fn __clear__(&self) {
        let former = std::mem::take(&mut *self.desk.lock());
        drop(former);
    }
}
