//! Handles: what a push returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::{Deadline, Durability, ErrorKind, JobId, Pushed, ShedReason, State};
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::{OrRaise, guard, raise};
use crate::imports::Imported;
use crate::record::JobInfo;
use crate::shared::Shared;
use crate::{graveyard, patience, read};

/// A pushed job: ask for its state, wait for its result, cancel it.
///
/// It holds no Python object, so that the garbage collector need not look at a million of them.
#[pyclass(frozen, generic, module = "forebay")]
pub struct Handle {
    pub id: JobId,
    made: bool,
    level: Durability,
    shed: Option<ShedReason>,
    /// Of the dispatcher it was pushed to.
    pub shared: Arc<Shared>,
}

/// How many bytes after the beginning of a handle its fields begin, once that is known.
static FIELDS: AtomicUsize = AtomicUsize::new(0);

impl Handle {
    /// The handle of a pushed job.
    #[inline]
    pub fn new(py: Python<'_>, shared: &Arc<Shared>, pushed: Pushed) -> PyResult<Py<Self>> {
        let handle = Self {
            id: pushed.id,
            made: pushed.created,
            level: pushed.durability,
            shed: pushed.shed,
            shared: shared.clone(),
        };
        match FIELDS.load(Ordering::Relaxed) {
            0 => handle.first(py),
            // SAFETY: it is where they are.
            fields => unsafe { handle.another(py, fields) },
        }
    }

    /// Makes the object as PyO3 does, and notes where it has put the fields.
    #[cold]
    fn first(self, py: Python<'_>) -> PyResult<Py<Self>> {
        let handle = Py::new(py, self)?;
        // SAFETY: the object is whole, and holds no reference that a collector could follow. Not tracked,
        // a long list of handles costs a collection nothing.
        unsafe { ffi::PyObject_GC_UnTrack(handle.as_ptr().cast()) };
        let fields = std::ptr::from_ref(handle.get()) as usize - handle.as_ptr() as usize;
        let size: usize = py.get_type::<Self>().getattr("__basicsize__")?.extract()?;
        if size == fields + size_of::<Self>() {
            FIELDS.store(fields, Ordering::Relaxed);
        }
        Ok(handle)
    }

    /// Makes the object at half the price: no arguments are looked for that `object` does not take, and no collector
    /// is told to look at it, only to be told not to.
    ///
    /// # Safety
    /// The fields of an object of this class begin so many bytes after it, and it has no others.
    #[inline]
    unsafe fn another(self, py: Python<'_>, fields: usize) -> PyResult<Py<Self>> {
        // SAFETY: the thread is attached, and the class is one whose objects a collector may look at. What is returned
        // is new, nobody else's, and has room for the fields, with which it is whole.
        unsafe {
            let object: *mut ffi::PyObject = ffi::PyObject_GC_New(Self::type_object_raw(py));
            let object = Bound::from_owned_ptr_or_err(py, object)?;
            object.as_ptr().byte_add(fields).cast::<Self>().write(self);
            Ok(object.cast_into_unchecked().unbind())
        }
    }
}

#[pymethods]
impl Handle {
    /// The job's id.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        read::uuid(py, self.id)
    }

    /// Whether this push made the job; false if its id or key was there before.
    #[getter]
    fn created(&self) -> bool {
        self.made
    }

    /// What the job survived when its push was answered: "memory" until the process ends, "os" until the
    /// power goes, "disk" even that.
    #[getter]
    fn durability(&self) -> &'static str {
        self.level.name()
    }

    /// Why the job was shed as it came, by the policy of its full queue: "shed_newest" and so on; None if it
    /// was taken. One that was taken may still be shed later: `status` tells.
    #[getter]
    fn shed(&self) -> Option<&'static str> {
        self.shed.map(ShedReason::name)
    }

    /// Where the job stands: "queued", "running", "succeeded" and so on.
    #[getter]
    fn status(&self, py: Python<'_>) -> PyResult<&'static str> {
        guard(py, || {
            let state = self.shared.look(py, |core| core.state(self.id));
            state.or_raise(py).map(State::name)
        })
    }

    /// Waits for the end of the job and returns what its handler returned.
    ///
    /// Raises JobFailed, JobCancelled or Shed if it did not succeed, and WaitTimeout if it has not ended after
    /// `timeout`. Raises WouldDeadlock where it could not end meanwhile: on the event loop that runs it, where the
    /// handle is to be awaited, and in a handler that needs the last slot for its own wait.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(py, || Self::outcome(py, &self.shared, &self.wait(py, timeout)?))
    }

    /// For an event loop: what is awaited becomes the result, or raises what `result` raises. Who gives up waiting
    /// leaves the job as it is. An async handler that awaits another job keeps its slot: it raises WouldDeadlock where
    /// all slots would be held so.
    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let awaited = AWAITED.find(slf.py(), "forebay._loop", "awaited")?;
        Ok(awaited.call1((slf,))?.unbind())
    }

    /// The same, and raises WaitTimeout if the job has not ended after `timeout`.
    #[pyo3(signature = (timeout=None))]
    fn aresult(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        static RESULT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let result = RESULT.find(slf.py(), "forebay._loop", "result")?;
        Ok(result.call1((slf, timeout))?.unbind())
    }

    /// Cancels the job, and returns its state after that: "cancelled"; "running" if its handler has been
    /// asked to stop; or the final state it already had.
    fn cancel(&self, py: Python<'_>) -> PyResult<&'static str> {
        guard(py, || {
            let state = self.shared.change(py, |core| core.cancel(self.id));
            state.or_raise(py).map(State::name)
        })
    }

    /// Everything known about the job.
    fn job(&self, py: Python<'_>) -> PyResult<JobInfo> {
        guard(py, || {
            let job = self.shared.look(py, |core| core.get(self.id));
            job.or_raise(py).map(JobInfo::from)
        })
    }

    /// It does not change, so that one is as good as two.
    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'_, PyAny>) -> Bound<'py, Self> {
        slf
    }

    /// It belongs to its process.
    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        let text = "a forebay.Handle cannot be pickled: it belongs to the dispatcher of this process; send \
                    str(handle.id), and ask a dispatcher on the same file there: get(id)";
        Err(PyTypeError::new_err(text))
    }

    fn __repr__(&self) -> String {
        format!("<forebay.Handle {}>", self.id)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.id == other.id
    }

    fn __hash__(&self) -> u64 {
        let bits = self.id.as_u128();
        (bits >> 64) as u64 ^ bits as u64
    }
}

impl Handle {
    /// What an ended job returned, or the exception that waiting for it raises.
    pub fn outcome<'py>(py: Python<'py>, shared: &Shared, job: &forebay::Job) -> PyResult<Bound<'py, PyAny>> {
        match (&job.result, job.state) {
            (Some(result), _) => shared.returned(py, &job.kind, result),
            (None, State::Succeeded) => Ok(py.None().into_bound(py)),
            (None, _) => Err(bad_end(py, job)?),
        }
    }

    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<forebay::Job> {
        graveyard::drain(py);
        let timeout = timeout.map(|t| read::duration("timeout", t)).transpose()?;
        let state = self.shared.look(py, |core| core.state(self.id));
        if state.or_raise(py)?.is_final() {
            return self.shared.look(py, |core| core.get(self.id)).or_raise(py);
        }
        self.refuse_on_its_loop(py)?;
        let deadline = Deadline::maybe(timeout);
        patience::wait(py, &self.shared, deadline, ErrorKind::Timeout, |until| {
            self.shared.core.wait(self.id, until)
        })?
        .or_raise(py)
    }
}

impl Handle {
    /// A wait on the event loop that would run the job keeps it from running.
    fn refuse_on_its_loop(&self, py: Python<'_>) -> PyResult<()> {
        static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let shared = &self.shared;
        if shared.loop_thread.get() != Some(&std::thread::current().id()) || shared.core.capabilities().shared
        {
            return Ok(());
        }
        let running = RUNNING.find(py, "asyncio", "_get_running_loop")?.call0()?;
        let kind = shared
            .look(py, |core| core.kind(&core.get(self.id)?.kind))
            .or_raise(py)?;
        if running.is_none() || !shared.handlers.get(kind).is_some_and(|handler| handler.is_async) {
            return Ok(());
        }
        let text = "this call waits for a job that runs on this event loop: await the handle";
        Err(raise(py, ErrorKind::WouldDeadlock, text.into()))
    }
}

/// The exception of a job that did not succeed.
fn bad_end(py: Python<'_>, job: &forebay::Job) -> PyResult<PyErr> {
    static ENDED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (kind, message) = match &job.error {
        Some(failure) => (failure.kind.name(), &*failure.message),
        None => (job.state.name(), ""),
    };
    let ended = ENDED.find(py, "forebay.errors", "ended")?;
    let id = read::uuid(py, job.id)?;
    let error = ended.call1((job.state.name(), id, &*job.kind, kind, message, job.attempt))?;
    Ok(PyErr::from_value(error))
}
