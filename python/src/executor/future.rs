//! The native half of `forebay.Future`: a `concurrent.futures.Future` that is made of one object.
//!
//! The original has a condition, a lock, a deque and two lists from the start. Here they are made when somebody
//! looks at them: `concurrent.futures.wait` and `as_completed` do, by the names that the original keeps them
//! under, and find what they expect. Whoever merely asks for the result does not.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forebay::{Deadline, JobId};
use parking_lot::{Condvar, Mutex, MutexGuard};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};
use pyo3::{PyTraverseError, ffi};

use super::pool::Pool;
use crate::errors::{guard, raise};
use crate::imports::Imported;
use crate::{patience, read};

/// Where a future stands; the names are those of the original.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nobody has begun.
    #[default]
    Pending,
    /// Somebody has.
    Running,
    /// It was cancelled, and waiters have not heard of it.
    Cancelled,
    /// They have.
    CancelledAndNotified,
    /// It has a result or an exception.
    Finished,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Pending => "PENDING",
            Phase::Running => "RUNNING",
            Phase::Cancelled => "CANCELLED",
            Phase::CancelledAndNotified => "CANCELLED_AND_NOTIFIED",
            Phase::Finished => "FINISHED",
        }
    }

    fn is_cancelled(self) -> bool {
        matches!(self, Phase::Cancelled | Phase::CancelledAndNotified)
    }

    fn is_over(self) -> bool {
        self.is_cancelled() || self == Phase::Finished
    }
}

/// How a future ends.
pub enum End {
    /// With this.
    Result(Py<PyAny>),
    /// With this exception.
    Exception(Py<PyAny>),
    /// It was cancelled; whether waiters hear of it now.
    Cancelled(bool),
}

/// One call, and what became of it.
#[pyclass(frozen, subclass, generic, module = "forebay._forebay")]
#[derive(Default)]
pub struct Promise {
    /// Whose call it is; nobody's, if somebody made it by hand.
    pool: OnceLock<Arc<Pool>>,
    /// Never locked while anything of Python runs.
    cell: Mutex<Cell>,
}

#[derive(Default)]
struct Cell {
    phase: Phase,
    id: Option<JobId>,
    result: Option<Py<PyAny>>,
    exception: Option<Py<PyAny>>,
    /// What somebody has looked at, or left here.
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    condition: Option<Py<PyAny>>,
    waiters: Option<Py<PyList>>,
    callbacks: Vec<Py<PyAny>>,
    parked: Option<Arc<Parked>>,
}

/// Where threads wait for one future.
#[derive(Default)]
struct Parked {
    over: Mutex<bool>,
    told: Condvar,
}

impl Cell {
    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}

impl Promise {
    /// It is a call of this pool, which hears of its end.
    pub fn belong_to(&self, pool: &Arc<Pool>) {
        self.pool.get_or_init(|| pool.clone());
    }

    /// The pool whose call it is.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.get()
    }

    /// Which job of the core it is.
    pub fn name(&self, id: JobId) {
        self.cell.lock().id = Some(id);
    }

    /// Whether an attempt may begin now. One that goes on beside a former one, which is overdue, may.
    pub fn begin(&self) -> bool {
        let mut cell = self.cell.lock();
        let may = matches!(cell.phase, Phase::Pending | Phase::Running);
        if may {
            cell.phase = Phase::Running;
        }
        may
    }

    /// The attempt has failed and another may follow, until which it can be cancelled. What it failed with is kept,
    /// in case none follows. Returns what is not needed any more.
    pub fn stand_back(&self, exception: Py<PyAny>) -> Option<Py<PyAny>> {
        let mut cell = self.cell.lock();
        if cell.phase != Phase::Running {
            return Some(exception);
        }
        cell.phase = Phase::Pending;
        cell.exception.replace(exception)
    }

    /// Whether nobody has begun, or it waits for another attempt.
    pub fn is_pending(&self) -> bool {
        self.cell.lock().phase == Phase::Pending
    }

    /// What the last attempt failed with, if it waits for another.
    pub fn last_exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let cell = self.cell.lock();
        cell.exception.as_ref().map(|exception| exception.clone_ref(py))
    }

    /// It is nobody's call: another one stands for it.
    pub fn void(&self) {
        self.cell.lock().phase = Phase::CancelledAndNotified;
    }

    /// Ends it, if it has not ended, and tells everybody. False if it has, or if it is too late to cancel it.
    ///
    /// Nobody is there to hear of a callback that raises what ends a thread: it is printed.
    pub fn settle(slf: &Bound<'_, Self>, end: End) -> PyResult<bool> {
        let callbacks = Self::settled(slf, end)?;
        for callback in callbacks.iter().flatten() {
            let callback = callback.bind(slf.py());
            if let Err(error) = call_back(slf, callback) {
                error.write_unraisable(slf.py(), Some(callback));
            }
        }
        Ok(callbacks.is_some())
    }

    /// The same for who does it by hand, and hears of such a callback: the first one, after all have been called.
    fn settle_by_hand(slf: &Bound<'_, Self>, end: End) -> PyResult<(bool, PyResult<()>)> {
        let callbacks = Self::settled(slf, end)?;
        let mut called = Ok(());
        for callback in callbacks.iter().flatten() {
            called = called.and(call_back(slf, callback.bind(slf.py())));
        }
        Ok((callbacks.is_some(), called))
    }

    /// Ends it, and tells those who wait: then these are to be called back. `None` if it is too late for that.
    fn settled(slf: &Bound<'_, Self>, end: End) -> PyResult<Option<Vec<Py<PyAny>>>> {
        let py = slf.py();
        let this = slf.get();
        let mut condition: Option<Bound<'_, PyAny>> = None;
        let cell = loop {
            let cell = this.cell.lock();
            let too_late = match end {
                End::Cancelled(_) => cell.phase != Phase::Pending,
                _ => cell.phase.is_over(),
            };
            let found = cell.more.as_ref().and_then(|more| more.condition.as_ref());
            match (too_late, &condition, found) {
                (true, Some(held), _) => {
                    drop(cell);
                    held.call_method0("release")?;
                    return Ok(None);
                }
                (true, None, _) => return Ok(None),
                (false, None, Some(found)) => {
                    // Whoever holds it looks at the phase and must not see it change.
                    let found = found.clone_ref(py).into_bound(py);
                    drop(cell);
                    found.call_method0("acquire")?;
                    condition = Some(found);
                }
                (false, _, _) => break cell,
            }
        };
        this.end(slf, cell, end, condition).map(Some)
    }

    fn end(
        &self,
        slf: &Bound<'_, Self>,
        mut cell: MutexGuard<'_, Cell>,
        end: End,
        condition: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let py = slf.py();
        let former = cell.exception.take();
        let word = match end {
            End::Result(result) => {
                if tracked(&result) {
                    track(slf);
                }
                cell.result = Some(result);
                cell.phase = Phase::Finished;
                Some("add_result")
            }
            End::Exception(exception) => {
                track(slf);
                cell.exception = Some(exception);
                cell.phase = Phase::Finished;
                Some("add_exception")
            }
            End::Cancelled(true) => {
                cell.phase = Phase::CancelledAndNotified;
                Some("add_cancelled")
            }
            End::Cancelled(false) => {
                cell.phase = Phase::Cancelled;
                None
            }
        };
        let (parked, callbacks, waiters) = match &mut cell.more {
            None => Default::default(),
            Some(more) => (
                more.parked.take(),
                std::mem::take(&mut more.callbacks),
                more.waiters.as_ref().map(|waiters| waiters.clone_ref(py)),
            ),
        };
        drop(cell);
        drop(former);
        if let Some(pool) = self.pool.get() {
            pool.ended();
        }
        if let Some(parked) = parked {
            *parked.over.lock() = true;
            parked.told.notify_all();
        }
        if let Some(condition) = condition {
            if let (Some(word), Some(waiters)) = (word, waiters) {
                for waiter in waiters.bind(py).iter() {
                    waiter.call_method1(word, (slf,))?;
                }
            }
            condition.call_method0("notify_all")?;
            condition.call_method0("release")?;
        }
        Ok(callbacks)
    }

    /// Waits until it is over. False if it is not after `timeout`.
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let deadline = Deadline::maybe(timeout.map(patience_of).transpose()?);
        let parked = {
            let mut cell = self.cell.lock();
            if cell.phase.is_over() {
                return Ok(true);
            }
            cell.more().parked.get_or_insert_default().clone()
        };
        patience::until(py, deadline, |until| parked.wait(until))
    }

    fn over<'py, T>(
        &self,
        py: Python<'py>,
        timeout: Option<&Bound<'_, PyAny>>,
        read: impl FnOnce(&Cell) -> T,
    ) -> PyResult<T> {
        let late = !self.wait(py, timeout)?;
        let cell = self.cell.lock();
        let phase = cell.phase;
        // It may have ended just now.
        if late && !phase.is_over() {
            drop(cell);
            let text = "the call has not ended after the time to wait; wait longer, or cancel it";
            return Err(raise(py, forebay::ErrorKind::Timeout, text.into()));
        }
        if phase.is_cancelled() {
            drop(cell);
            return Err(cancelled(py));
        }
        Ok(read(&cell))
    }
}

impl Parked {
    fn wait(&self, deadline: Deadline) -> bool {
        let mut over = self.over.lock();
        while !*over {
            let late = match deadline.instant() {
                None => {
                    self.told.wait(&mut over);
                    false
                }
                Some(at) => self.told.wait_until(&mut over, at).timed_out(),
            };
            if late {
                return *over;
            }
        }
        true
    }
}

/// How long somebody waits; a time that is over already is none, as with the original.
fn patience_of(timeout: &Bound<'_, PyAny>) -> PyResult<Duration> {
    match timeout.extract::<f64>() {
        Ok(seconds) if seconds < 0.0 => Ok(Duration::ZERO),
        _ => read::duration("timeout", timeout),
    }
}

fn cancelled(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.find(py, "concurrent.futures", "CancelledError") {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    }
}

/// Calls back. What goes wrong there is told in the log, as with the original, and nowhere else; but what is no
/// `Exception`, such as the `KeyboardInterrupt` that comes meanwhile, is returned.
fn call_back(future: &Bound<'_, Promise>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    static FAILED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = future.py();
    let Err(error) = callback.call1((future,)) else {
        return Ok(());
    };
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    let told = FAILED
        .find(py, "forebay.executor", "callback_failed")
        .and_then(|failed| failed.call1((future, error.into_value(py))));
    if let Err(odd) = told {
        odd.write_unraisable(py, Some(callback));
    }
    Ok(())
}

/// Whether a garbage collector could find something behind it.
fn tracked(object: &Py<PyAny>) -> bool {
    // SAFETY: it is an object, and whoever has it is attached.
    unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0 }
}

/// Has the garbage collector look at it from now on: it may be part of a circle.
fn track(future: &Bound<'_, Promise>) {
    // SAFETY: it is a whole object of a class with garbage collection, and not tracked twice.
    unsafe {
        if ffi::PyObject_GC_IsTracked(future.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(future.as_ptr().cast());
        }
    }
}

/// Has the garbage collector not look at it: nothing in it can be part of a circle so far.
pub fn untrack(future: &Bound<'_, PyAny>) {
    // SAFETY: it is a whole object of a class with garbage collection.
    unsafe { ffi::PyObject_GC_UnTrack(future.as_ptr().cast()) };
}

#[pymethods]
impl Promise {
    /// One that belongs to nobody: for those who run calls by themselves.
    #[new]
    fn by_hand() -> Self {
        Self::default()
    }

    /// Cancels the call: it will not be made. False if it has begun or has ended.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        guard(py, || {
            let this = slf.get();
            // Those of a pool are out of it at once; of others somebody has to say that he has seen it.
            let (done, called) = Self::settle_by_hand(slf, End::Cancelled(this.pool.get().is_some()))?;
            if done {
                let id = this.cell.lock().id;
                if let (Some(pool), Some(id)) = (this.pool.get(), id) {
                    pool.take_out(py, id);
                }
                return called.map(|()| true);
            }
            Ok(this.cell.lock().phase.is_cancelled())
        })
    }

    /// Whether the call was cancelled.
    fn cancelled(&self) -> bool {
        self.cell.lock().phase.is_cancelled()
    }

    /// Whether the call is being made.
    fn running(&self) -> bool {
        self.cell.lock().phase == Phase::Running
    }

    /// Whether the call has ended or was cancelled.
    fn done(&self) -> bool {
        self.cell.lock().phase.is_over()
    }

    /// Waits for the end of the call, and returns what it returned or raises what it raised.
    ///
    /// Raises CancelledError if it was cancelled, and WaitTimeout, which is a TimeoutError, if it has not ended
    /// after `timeout`.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        guard(py, || {
            let read = |cell: &Cell| match (&cell.exception, &cell.result) {
                (Some(exception), _) => Err(exception.clone_ref(py)),
                (None, Some(result)) => Ok(result.clone_ref(py)),
                (None, None) => Ok(py.None()),
            };
            let ended = self.over(py, timeout, read)?;
            ended.map_err(|exception| PyErr::from_value(exception.into_bound(py)))
        })
    }

    /// Waits for the end of the call, and returns what it raised, or None. Raises as `result` does otherwise.
    #[pyo3(signature = (timeout=None))]
    fn exception(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        guard(py, || {
            self.over(py, timeout, |cell| {
                cell.exception.as_ref().map(|exception| exception.clone_ref(py))
            })
        })
    }

    /// Has `fn` called with the future when it has ended, or at once if it has; on the thread that ends it.
    #[pyo3(name = "add_done_callback", signature = (r#fn))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        let mut cell = slf.get().cell.lock();
        if cell.phase.is_over() {
            drop(cell);
            return call_back(slf, &r#fn);
        }
        cell.more().callbacks.push(r#fn.unbind());
        drop(cell);
        track(slf);
        Ok(())
    }

    /// For those who run calls: whether the call is to be made now.
    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let (condition, waiters) = {
            let mut cell = this.cell.lock();
            match cell.phase {
                Phase::Pending => {
                    cell.phase = Phase::Running;
                    return Ok(true);
                }
                Phase::Cancelled => cell.phase = Phase::CancelledAndNotified,
                phase => {
                    // Python writes the error, and looks at the future for that.
                    drop(cell);
                    return Err(unexpected_state(phase, slf));
                }
            }
            let more = cell.more();
            let waiters = more.waiters.as_ref().map(|waiters| waiters.clone_ref(py));
            (more.condition.as_ref().map(|c| c.clone_ref(py)), waiters)
        };
        if let (Some(condition), Some(waiters)) = (condition, waiters) {
            condition.call_method0(py, "acquire")?;
            for waiter in waiters.bind(py).iter() {
                waiter.call_method1("add_cancelled", (slf,))?;
            }
            condition.call_method0(py, "release")?;
        }
        Ok(false)
    }

    /// For those who run calls: what it returned.
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        Self::set(slf, End::Result(result))
    }

    /// For those who run calls: what it raised.
    fn set_exception(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        Self::set(slf, End::Exception(exception))
    }

    /// For `concurrent.futures`.
    #[getter]
    fn _state(&self) -> &'static str {
        self.cell.lock().phase.name()
    }

    /// For `concurrent.futures`.
    #[getter]
    fn _result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.cell
            .lock()
            .result
            .as_ref()
            .map(|result| result.clone_ref(py))
    }

    /// For `concurrent.futures`.
    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let cell = self.cell.lock();
        // What a former attempt failed with is nobody's business while another may follow.
        let exception = cell.exception.as_ref().filter(|_| cell.phase.is_over());
        exception.map(|exception| exception.clone_ref(py))
    }

    /// For `concurrent.futures`.
    #[getter]
    fn _condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CONDITION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let known = |cell: &Cell| Some(cell.more.as_ref()?.condition.as_ref()?.clone_ref(py));
        if let Some(known) = known(&slf.get().cell.lock()) {
            return Ok(known);
        }
        let fresh = CONDITION.find(py, "threading", "Condition")?.call0()?.unbind();
        track(slf);
        let mut cell = slf.get().cell.lock();
        Ok(cell.more().condition.get_or_insert(fresh).clone_ref(py))
    }

    /// For `concurrent.futures`.
    #[getter]
    fn _waiters(slf: &Bound<'_, Self>) -> Py<PyList> {
        let py = slf.py();
        let fresh = PyList::empty(py).unbind();
        track(slf);
        let mut cell = slf.get().cell.lock();
        cell.more().waiters.get_or_insert(fresh).clone_ref(py)
    }

    /// For `concurrent.futures`.
    #[getter]
    fn _done_callbacks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let cell = self.cell.lock();
        let callbacks = cell.more.iter().flat_map(|more| &more.callbacks);
        callbacks.map(|callback| callback.clone_ref(py)).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector must not wait, and takes what it is not shown for alive.
        let Some(cell) = self.cell.try_lock() else {
            return Ok(());
        };
        visit.call(&cell.result)?;
        visit.call(&cell.exception)?;
        if let Some(more) = &cell.more {
            visit.call(&more.condition)?;
            visit.call(&more.waiters)?;
            more.callbacks
                .iter()
                .try_for_each(|callback| visit.call(callback))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let gone = self
            .cell
            .try_lock()
            .map(|mut cell| (cell.result.take(), cell.exception.take(), cell.more.take()));
        drop(gone);
    }
}

impl Promise {
    fn set(slf: &Bound<'_, Self>, end: End) -> PyResult<()> {
        let py = slf.py();
        guard(py, || match Self::settle_by_hand(slf, end)? {
            (true, called) => called,
            (false, _) => {
                let phase = slf.get().cell.lock().phase;
                Err(invalid_state(py, phase, slf))
            }
        })
    }
}

fn invalid_state(py: Python<'_>, phase: Phase, future: &Bound<'_, Promise>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.find(py, "concurrent.futures", "InvalidStateError") {
        Ok(class) => PyErr::from_type(class.clone(), (standing(phase, future),)),
        Err(error) => error,
    }
}

/// As the original has it, for who would begin what has begun or ended.
fn unexpected_state(phase: Phase, future: &Bound<'_, Promise>) -> PyErr {
    let text = format!("Future in unexpected state: {}", standing(phase, future));
    PyRuntimeError::new_err(text)
}

/// Where a future stands, for a message. Nothing may be locked: its class may have been derived from.
fn standing(phase: Phase, future: &Bound<'_, Promise>) -> String {
    let shown = future.repr().map_or_else(|_| String::new(), |r| r.to_string());
    format!("{}: {shown}", phase.name())
}
