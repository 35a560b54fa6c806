//! For tests, `forebay.testing`: handlers whose pushes go through somebody else, a dispatcher that behaves like another
//! one, and handlers that are called for a delivery by whoever asks.

use std::sync::atomic::{AtomicBool, Ordering};

use forebay::CrashPoint;
use parking_lot::Mutex;
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::attempt::Job;
use crate::consumer::Delivery;
use crate::dispatcher::Core;
use crate::errors::{OrRaise, guard, invalid, raise};
use crate::given::Given;
use crate::handler::Handler;
use crate::handlers::{Known, Registered};
use crate::worker;

/// Who is given the pushes of a dispatcher's handlers instead, if anybody is. Without one it costs a load.
#[derive(Default)]
pub struct Overseen {
    present: AtomicBool,
    by: Mutex<Option<Py<PyAny>>>,
}

impl Overseen {
    /// Whose pushes these are.
    pub fn by(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.present.load(Ordering::Relaxed) {
            false => None,
            true => self.by.lock().as_ref().map(|by| by.clone_ref(py)),
        }
    }

    /// For the garbage collector, which must not wait: what it is not shown it takes for alive.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.by.try_lock() {
            Some(by) => by.iter().try_for_each(|by| visit.call(by)),
            None => Ok(()),
        }
    }

    /// Whose they are from now on.
    pub fn set(&self, by: Option<Py<PyAny>>) {
        let mut held = self.by.lock();
        self.present.store(by.is_some(), Ordering::Relaxed);
        let former = std::mem::replace(&mut *held, by);
        drop(held);
        // Its destructor may be code of Python's, which may ask.
        drop(former);
    }
}

/// Calls `method` of whoever oversees a handler: with the handler, and with what the handler was given.
pub fn overseen(
    by: &Py<PyAny>,
    method: &str,
    handler: &Bound<'_, Handler>,
    given: Given<'_, '_>,
) -> PyResult<Py<PyAny>> {
    let py = given.py;
    let first = std::iter::once(handler.as_any().clone());
    let rest = given.positional().iter().map(|value| (*value).to_owned());
    let args = PyTuple::new(py, first.chain(rest).collect::<Vec<_>>())?;
    let kwargs = PyDict::new(py);
    for (name, value) in given.named() {
        kwargs.set_item(name, value)?;
    }
    by.call_method(py, method, args, Some(&kwargs))
}

/// Has the pushes of a dispatcher's handlers made by `by`, by its methods `push` and `apush`, which are given the
/// handler first; by themselves again with `None`.
#[pyfunction]
#[pyo3(signature = (dispatcher, by=None))]
pub fn oversee(dispatcher: &Bound<'_, Core>, by: Option<Py<PyAny>>) {
    dispatcher.get().overseen.set(by);
}

/// The same handler, with the same options, of a dispatcher that has one of its kind; nobody oversees its pushes.
#[pyfunction]
pub fn rebound(
    py: Python<'_>,
    handler: &Bound<'_, Handler>,
    dispatcher: &Bound<'_, Core>,
) -> PyResult<Py<PyAny>> {
    guard(py, || handler.get().rebound(dispatcher))
}

/// Has values leave a dispatcher in memory in writing, as if they went into a file.
#[pyfunction]
pub fn write_values(dispatcher: &Bound<'_, Core>) {
    dispatcher.get().shared.write_values(true);
}

/// Gives `double` the handlers of `real`, what was said of its kinds and its queues, and its hooks. Values leave it
/// in writing if they do there.
#[pyfunction]
pub fn take_after(py: Python<'_>, double: &Bound<'_, Core>, real: &Bound<'_, Core>) -> PyResult<()> {
    guard(py, || {
        let (double, real) = (&double.get().shared, &real.get().shared);
        double.write_values(real.writes());
        double.push_hooks.take_after(py, &real.push_hooks);
        for (there, here, options) in double.core.take_after(&real.core).or_raise(py)? {
            if let Some(handler) = real.handlers.get(there) {
                let kinds = match handler.is_async {
                    true => &double.async_kinds,
                    false => &double.kinds,
                };
                drop(double.handlers.set(here, Some(handler)));
                let name = double.core.kind_name(here);
                double.core.declare_in(kinds, &name, options).or_raise(py)?;
            }
        }
        Ok(())
    })
}

/// The handlers of a dispatcher, by their kinds: the function, whether it takes the job, whether it is a class of
/// which each attempt calls a new instance, whether it is async, and whether it is interrupted.
#[pyfunction]
pub fn registered<'py>(py: Python<'py>, dispatcher: &Bound<'py, Core>) -> PyResult<Bound<'py, PyDict>> {
    let (found, shared) = (PyDict::new(py), &dispatcher.get().shared);
    for (kind, _) in shared.core.declared() {
        if let Some(handler) = shared.handlers.get(kind) {
            let function = handler.function.bind(py);
            let Registered {
                pass_job,
                fresh,
                is_async,
                interrupt,
                ..
            } = *handler;
            let told = (function, pass_job, fresh, is_async, interrupt);
            found.set_item(&*shared.core.kind_name(kind), told)?;
        }
    }
    Ok(found)
}

/// Calls the handler of a delivery's kind with what the job carries, and returns what it returns: of one that is
/// async, what is to be awaited.
#[pyfunction]
pub fn call_handler<'py>(
    py: Python<'py>,
    dispatcher: &Bound<'py, Core>,
    delivery: &Bound<'py, Delivery>,
) -> PyResult<Bound<'py, PyAny>> {
    guard(py, || {
        let shared = &dispatcher.get().shared;
        let job: &Bound<'_, Job> = delivery.as_super();
        let kind = shared.core.kind(&job.get().kind).or_raise(py)?;
        let mut known = Known::default();
        let Some(handler) = known.find(&shared.handlers, kind) else {
            let text = format!("no handler of kind {:?} is registered", job.get().kind);
            return Err(raise(py, forebay::ErrorKind::UnknownKind, text));
        };
        let first = handler.pass_job.then_some(delivery.as_any());
        worker::call(py, handler, &job.get().payload, first)
    })
}

/// What jitter and sampling draw on this thread from now on, the same again for the same number.
#[pyfunction]
pub fn seed(seed: u64) {
    forebay::seed(seed);
}

/// Has this process die by SIGKILL when it comes to a point of the core for the `nth` time: "writing" or "written".
#[pyfunction]
pub fn crash_at(py: Python<'_>, point: &str, nth: u32) -> PyResult<()> {
    guard(py, || match CrashPoint::from_name(point) {
        Some(point) => {
            forebay::crash_at(point, nth);
            Ok(())
        }
        None => Err(invalid(
            py,
            format!("{point:?} is no point of the core; there are \"writing\" and \"written\""),
        )),
    })
}
