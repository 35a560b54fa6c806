//! Handlers: registered functions.

use std::sync::Arc;

use forebay::{KindId, NewJob};
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyClassInitializer, PyTraverseError};

use crate::call::Call;
use crate::dispatcher::Core;
use crate::errors::OrRaise;
use crate::format::Format;
use crate::given::{self, Given, Method};
use crate::handle::Handle;
use crate::handlers::Registered;
use crate::imports::Imported;
use crate::outbox;
use crate::push::{self, PushOptions};
use crate::rehearse;
use crate::shared::Shared;

/// A registered function: call it to run it here and now, push it to have it run as a job.
#[pyclass(frozen, subclass, generic, module = "forebay")]
pub struct Handler {
    /// The dispatcher stays as long as somebody can push to it.
    dispatcher: Py<Core>,
    shared: Arc<Shared>,
    function: Py<PyAny>,
    kind: Arc<str>,
    kind_id: KindId,
    pass_job: bool,
    fresh: bool,
    is_async: bool,
    /// How its values are written and read.
    format: Py<Format>,
    /// What `options` has said.
    options: Option<PushOptions>,
    /// Whether nobody oversees its pushes, see [`rehearse`].
    alone: bool,
}

/// A handler whose function takes its job first, which `push` leaves out.
#[pyclass(frozen, extends = Handler, generic, module = "forebay")]
pub struct JobHandler;

/// A handler whose function makes a coroutine: a call returns it, and an event loop runs its jobs.
#[pyclass(frozen, extends = Handler, subclass, generic, module = "forebay")]
pub struct AsyncHandler;

/// An async handler whose function takes its job first, which `push` leaves out.
#[pyclass(frozen, extends = AsyncHandler, generic, module = "forebay")]
pub struct AsyncJobHandler;

impl Handler {
    /// Pushes a job that calls the function with these arguments.
    fn push(slf: &Bound<'_, Self>, given: Given<'_, '_>) -> PyResult<Py<PyAny>> {
        match slf.get().overseer(given.py) {
            None => Ok(slf.get().push_here(given)?.into_any()),
            Some(by) => rehearse::overseen(&by, "push", slf, given),
        }
    }

    fn push_here(&self, given: Given<'_, '_>) -> PyResult<Py<Handle>> {
        let py = given.py;
        let payload = self.shared.call(py, Call::of(given), &self.format)?;
        match &self.options {
            None => push::push(py, &self.shared, NewJob::new(self.kind_id, payload), None),
            Some(options) => {
                let job = options.job(self.kind_id, payload);
                push::push(py, &self.shared, job, options.wait)
            }
        }
    }

    /// The same for an event loop: what is awaited becomes the handle.
    fn apush(slf: &Bound<'_, Self>, given: Given<'_, '_>) -> PyResult<Py<PyAny>> {
        match slf.get().overseer(given.py) {
            None => slf.get().apush_here(given),
            Some(by) => rehearse::overseen(&by, "apush", slf, given),
        }
    }

    fn apush_here(&self, given: Given<'_, '_>) -> PyResult<Py<PyAny>> {
        let (py, shared) = (given.py, &self.shared);
        let payload = shared.call(py, Call::of(given), &self.format)?;
        outbox::awaited(
            self.dispatcher.bind(py),
            self.kind_id,
            payload,
            self.options.as_ref(),
        )
    }

    /// Who makes its pushes instead, in a test.
    fn overseer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.alone {
            false => self.dispatcher.get().overseen.by(py),
            true => None,
        }
    }

    /// The same handler of another dispatcher, whose pushes nobody oversees.
    pub fn rebound(&self, dispatcher: &Bound<'_, Core>) -> PyResult<Py<PyAny>> {
        let (py, shared) = (dispatcher.py(), &dispatcher.get().shared);
        let other = Self {
            dispatcher: dispatcher.clone().unbind(),
            shared: shared.clone(),
            function: self.function.clone_ref(py),
            kind: self.kind.clone(),
            kind_id: shared.core.kind(&self.kind).or_raise(py)?,
            format: self.format.clone_ref(py),
            options: self.options.clone(),
            alone: true,
            ..*self
        };
        other.into_object(py)
    }

    /// The handler of this function, which has been registered.
    pub fn new(
        dispatcher: &Bound<'_, Core>,
        function: Py<PyAny>,
        kind: Arc<str>,
        kind_id: KindId,
        registered: &Registered,
    ) -> Self {
        let shared = dispatcher.get().shared.clone();
        Self {
            dispatcher: dispatcher.clone().unbind(),
            shared,
            function,
            kind,
            kind_id,
            pass_job: registered.pass_job,
            fresh: registered.fresh,
            is_async: registered.is_async,
            format: registered.format.clone_ref(dispatcher.py()),
            options: None,
            alone: false,
        }
    }

    /// The Python object, of the class that fits.
    pub fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (pass_job, is_async) = (self.pass_job, self.is_async);
        let plain = PyClassInitializer::from(self);
        Ok(match (pass_job, is_async) {
            (false, false) => Py::new(py, plain)?.into_any(),
            (true, false) => Py::new(py, plain.add_subclass(JobHandler))?.into_any(),
            (false, true) => Py::new(py, plain.add_subclass(AsyncHandler))?.into_any(),
            (true, true) => {
                let plain = plain.add_subclass(AsyncHandler);
                Py::new(py, plain.add_subclass(AsyncJobHandler))?.into_any()
            }
        })
    }
}

#[pymethods]
impl Handler {
    /// The kind of its jobs.
    #[getter]
    fn kind(&self) -> &str {
        &self.kind
    }

    /// The function, or class, itself.
    #[getter]
    fn __wrapped__(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    /// The name of the function; of one that has none, the kind.
    #[getter]
    fn __name__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let name = self.function.bind(py).getattr_opt("__name__")?;
        Ok(name.map_or_else(
            || PyString::new(py, &self.kind).into_any().unbind(),
            Bound::unbind,
        ))
    }

    /// Calls the function here and now. Of a class, calls a new instance.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py);
        match self.fresh {
            false => function.call(args, kwargs.as_ref()),
            true => function.call0()?.call(args, kwargs.as_ref()),
        }
    }

    /// The same handler, whose pushes have these options: queue, priority, delay, run_at, deadline, key,
    /// concurrency_key, max_attempts, timeout, retry, headers, waits_for, id, durability, wait.
    #[pyo3(signature = (**options))]
    fn options(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Py<PyAny>> {
        let other = Self {
            dispatcher: self.dispatcher.clone_ref(py),
            shared: self.shared.clone(),
            function: self.function.clone_ref(py),
            kind: self.kind.clone(),
            format: self.format.clone_ref(py),
            options: Some(
                self.options
                    .clone()
                    .unwrap_or_default()
                    .with(options.into_iter().flatten())?,
            ),
            ..*self
        };
        other.into_object(py)
    }

    /// It does not change, so that one is as good as two.
    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'_, PyAny>) -> Bound<'py, Self> {
        slf
    }

    /// It is pickled as functions are: by where it is found.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static WHEREABOUTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let whereabouts = WHEREABOUTS.find(slf.py(), "forebay._function", "whereabouts")?;
        whereabouts.call1((slf,))
    }

    fn __repr__(&self) -> String {
        format!("<forebay.Handler kind={:?}>", self.kind)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.dispatcher)?;
        visit.call(&self.format)?;
        visit.call(&self.function)
    }
}

/// The method `push`.
// SAFETY: its body is nothing but that call.
pub static PUSH: Method<Handler> = unsafe {
    Method::new(
        c"push",
        c"push($self, /, *args, **kwargs)\n--\n\nPushes a job that calls the function with these arguments.",
        push_body,
    )
};

unsafe extern "C" fn push_body(
    handler: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: these are the arguments of this very method.
    unsafe { given::call(handler, args, positional, names, Handler::push) }
}

/// The method `apush`.
// SAFETY: its body is nothing but that call.
pub static APUSH: Method<Handler> = unsafe {
    Method::new(
        c"apush",
        c"apush($self, /, *args, **kwargs)\n--\n\nThe same as push for an event loop: what is awaited becomes the handle.",
        apush_body,
    )
};

unsafe extern "C" fn apush_body(
    handler: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: these are the arguments of this very method.
    unsafe { given::call(handler, args, positional, names, Handler::apush) }
}
