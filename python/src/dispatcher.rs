//! The native half of `forebay.Dispatcher`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay::{
    Deadline, Dispatcher, ErrorKind, Filter, KindOptions, Level, NewJob, Payload, QueueOptions, State,
};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::codec::Codec;
use crate::consumer::Consumer;
use crate::errors::{OrRaise, guard, invalid};
use crate::events::Subscription;
use crate::format::Format;
use crate::forward::Forwarder;
use crate::given::{self, Given, Method};
use crate::handle::Handle;
use crate::handler::Handler;
use crate::handlers::Registered;
use crate::hooks::PyHooks;
use crate::interrupt::Interrupter;
use crate::outbox::{self, Outbox};
use crate::pulse::Pulse;
use crate::push::{self, PushOptions};
use crate::record::JobInfo;
use crate::rehearse::Overseen;
use crate::shared::{Kind, Shared};
use crate::station::{Loop, Station};
use crate::worker::Worker;
use crate::{graveyard, patience, read, stats};

/// The base of `forebay.Dispatcher`, which adds the threads; use that one.
#[pyclass(frozen, subclass, module = "forebay._forebay")]
pub struct Core {
    pub shared: Arc<Shared>,
    pub overseen: Overseen,
}

impl Core {
    /// Pushes a job: a kind, a payload, and options by name. Returns its handle.
    fn push(&self, given: Given<'_, '_>) -> PyResult<Py<Handle>> {
        let py = given.py;
        let (kind, payload) = self.named(given)?;
        let pushed = match given.names() {
            None => push::push(py, &self.shared, NewJob::new(kind.name()?, payload), None)?,
            Some(_) => {
                let options = PushOptions::default().with(given.named())?;
                let job = options.job(kind.name()?, payload);
                push::push(py, &self.shared, job, options.wait)?
            }
        };
        kind.note(&self.shared)?;
        Ok(pushed)
    }

    /// Pushes a job and returns what an event loop awaits.
    fn apush(slf: &Bound<'_, Self>, given: Given<'_, '_>) -> PyResult<Py<PyAny>> {
        let shared = &slf.get().shared;
        let (kind, payload) = slf.get().named(given)?;
        let kind = kind.id(shared)?;
        let options = PushOptions::default().with(given.named())?;
        outbox::awaited(slf, kind, payload, Some(&options))
    }

    /// The kind and the payload of a push.
    fn named<'py>(&self, given: Given<'_, 'py>) -> PyResult<(Kind<'py>, Payload)> {
        let py = given.py;
        let (kind, payload) = match given.positional() {
            [kind] => (kind, py.None().into_bound(py)),
            [kind, payload] => (kind, (*payload).to_owned()),
            other => {
                let text = format!(
                    "a push takes a kind and a payload by position, not {} values",
                    other.len()
                );
                return Err(PyTypeError::new_err(text));
            }
        };
        let kind = Kind::of(&self.shared, kind.cast::<PyString>()?.to_owned());
        let payload = self.shared.payload(py, &kind, payload)?;
        Ok((kind, payload))
    }

    fn core(&self) -> &Dispatcher {
        &self.shared.core
    }
}

/// The method `push`.
// SAFETY: its body is nothing but that call.
pub static PUSH: Method<Core> = unsafe {
    Method::new(
        c"push",
        c"push($self, kind, payload=None, /, **options)\n--\n\nPushes a job: a kind, a payload, and options by name. Returns its handle.",
        push_body,
    )
};

unsafe extern "C" fn push_body(
    core: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let body = |core: &Bound<'_, Core>, given: Given<'_, '_>| Ok(core.get().push(given)?.into_any());
    // SAFETY: these are the arguments of this very method.
    unsafe { given::call(core, args, positional, names, body) }
}

/// The method `apush`.
// SAFETY: its body is nothing but that call.
pub static APUSH: Method<Core> = unsafe {
    Method::new(
        c"apush",
        c"apush($self, kind, payload=None, /, **options)\n--\n\nThe same as push for an event loop: what is awaited becomes the handle.",
        apush_body,
    )
};

unsafe extern "C" fn apush_body(
    core: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: these are the arguments of this very method.
    unsafe { given::call(core, args, positional, names, Core::apush) }
}

/// The owner is gone: nobody can start, stop or drain it any more, though handles may still ask. If it goes
/// in a handler, the stop is finished by whoever drops the last handle or worker. In the child of a fork the
/// core refuses both, as it should.
impl Drop for Core {
    fn drop(&mut self) {
        // Detached, as a function that is passed jobs may be in the middle of a delivery.
        let stop = || self.core().stop(Duration::ZERO);
        let stopped = Python::attach(|py| self.shared.detached(py, stop));
        if stopped.is_err() {
            self.core().request_stop();
        }
        if self.core().check_process().is_ok() {
            self.shared.interrupts.close();
        }
    }
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (url=None, *, codec=None, by_reference=true, **options))]
    fn new(
        py: Python<'_>,
        url: Option<&Bound<'_, PyAny>>,
        codec: Option<&Bound<'_, PyAny>>,
        by_reference: bool,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        guard(py, || {
            let url = url.map_or_else(|| Ok("memory:".into()), read::url)?;
            let options = read::options(py, options)?;
            let common = match codec.map_or(Ok(None), Codec::read)? {
                Some(codec) => Some(Py::new(py, Format::common(py, codec))?),
                None => None,
            };
            let core = py.detach(|| Dispatcher::open(&url, options)).or_raise(py)?;
            Ok(Self {
                shared: Arc::new(Shared::new(core, common, by_reference)),
                overseen: Overseen::default(),
            })
        })
    }

    /// Pushes jobs in order, each a pair of kind and payload or a mapping with the names of push's
    /// parameters. Stops at the first refusal; the exception's attribute `pushed` has the handles before.
    #[pyo3(signature = (jobs, /, *, wait=None))]
    fn push_many(
        &self,
        py: Python<'_>,
        jobs: &Bound<'_, PyAny>,
        wait: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Handle>>> {
        guard(py, || {
            let wait = wait.map(|w| read::duration("wait", w)).transpose()?;
            let rows = jobs
                .try_iter()?
                .map(|row| push::Row::read(&self.shared, &row?))
                .collect::<PyResult<Vec<_>>>()?;
            let jobs = rows.iter().map(push::Row::job).collect::<PyResult<Vec<_>>>()?;
            let pushed = push::push_many(py, &self.shared, &jobs, wait)?;
            rows.iter().try_for_each(|row| row.note(&self.shared))?;
            Ok(pushed)
        })
    }

    /// Registers `function` as the handler of a kind.
    #[pyo3(signature = (function, kind, *, pass_job=false, fresh=false, interrupt=false, is_async=false, codec=None, **options))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python, one for one")]
    fn register(
        slf: &Bound<'_, Self>,
        function: Bound<'_, PyAny>,
        kind: &str,
        pass_job: bool,
        fresh: bool,
        interrupt: bool,
        is_async: bool,
        codec: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        guard(py, || {
            let options = read::options::<KindOptions>(py, options)?;
            let shared = &slf.get().shared;
            let id = shared.core.kind(kind).or_raise(py)?;
            let format = Format::new(&function, pass_job, fresh, codec, shared.codec())?;
            let registered = Arc::new(Registered {
                function: function.clone().unbind(),
                pass_job,
                fresh,
                interrupt,
                is_async,
                format: Py::new(py, format)?,
            });
            let former = shared.handlers.set(id, Some(registered.clone()));
            let kinds = if is_async {
                &shared.async_kinds
            } else {
                &shared.kinds
            };
            if let Err(error) = shared.core.declare_in(kinds, kind, options).or_raise(py) {
                drop(shared.handlers.set(id, former));
                return Err(error);
            }
            let kind = shared.core.kind_name(id);
            Handler::new(slf, function.unbind(), kind, id, &registered).into_object(py)
        })
    }

    /// Says how jobs of a kind are to be run, by name as for a handler, without one: for consumers.
    #[pyo3(signature = (kind, /, **options))]
    fn declare(&self, py: Python<'_>, kind: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        guard(py, || {
            let options = read::options::<KindOptions>(py, options)?;
            self.core().declare(kind, options).or_raise(py).map(drop)
        })
    }

    /// The kinds that have a handler here, each with its own options as text; "default" is what it leaves to the
    /// dispatcher's.
    fn handlers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard(py, || {
            let handlers = PyDict::new(py);
            for (kind, options) in self.core().declared() {
                if self.shared.handlers.has(kind) {
                    handlers.set_item(&*self.core().kind_name(kind), read::texts(py, &options)?)?;
                }
            }
            Ok(handlers)
        })
    }

    /// Asks for jobs of these kinds in these queues, or of all: for event loops, and threads that are not ours.
    /// What it gets has a lease of the option `lease`, or of `lease`. Make one per thread.
    #[pyo3(signature = (kinds=None, *, queues=None, lease=None))]
    fn consumer(
        &self,
        py: Python<'_>,
        kinds: Option<Vec<String>>,
        queues: Option<Vec<String>>,
        lease: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Consumer> {
        guard(py, || {
            let lease = lease.map(|lease| read::duration("lease", lease)).transpose()?;
            Consumer::new(&self.shared, kinds, queues, lease).or_raise(py)
        })
    }

    /// Has workers take jobs of these queues only.
    fn serve(&self, py: Python<'_>, queues: Vec<String>) -> PyResult<()> {
        guard(py, || self.core().serve(queues).or_raise(py))
    }

    /// Where an event loop gets the answers of its pushes.
    fn outbox(&self, py: Python<'_>) -> PyResult<Outbox> {
        guard(py, || Outbox::new(py, &self.shared))
    }

    /// A worker for a thread of its own.
    fn worker(&self, py: Python<'_>) -> PyResult<Worker> {
        guard(py, || {
            self.core().check_open().or_raise(py)?;
            Ok(Worker::new(&self.shared))
        })
    }

    /// Where an event loop runs the jobs of async handlers. `spawn(carrier)` makes a task of the loop and returns
    /// it, `later()` has `wake` called again soon, and `ended()` is called when nothing runs here any more.
    fn station(
        &self,
        py: Python<'_>,
        spawn: Py<PyAny>,
        future: Py<PyAny>,
        later: Py<PyAny>,
        ended: Py<PyAny>,
    ) -> PyResult<Py<Station>> {
        guard(py, || {
            self.core().check_open().or_raise(py)?;
            Station::new(
                py,
                &self.shared,
                Loop {
                    spawn,
                    future,
                    later,
                    ended,
                },
            )
        })
    }

    /// Whether its handlers run, for who must not keep it.
    fn pulse(&self) -> Pulse {
        Pulse::of(&self.shared)
    }

    /// What interrupts handlers, for a thread of its own.
    fn interrupter(&self, py: Python<'_>) -> PyResult<Interrupter> {
        guard(py, || {
            self.core().check_open().or_raise(py)?;
            Ok(Interrupter::new(&self.shared))
        })
    }

    /// Everything known about a job.
    fn get(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<JobInfo> {
        guard(py, || {
            let id = read::id(id)?;
            let job = self.shared.look(py, |core| core.get(id));
            job.or_raise(py).map(JobInfo::from)
        })
    }

    /// One page of the jobs that match, newest first, and how many match in all.
    #[pyo3(signature = (*, queue=None, kind=None, status=None, key=None, created_from=None, created_before=None, after=None, limit=None))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python, one for one")]
    fn list_jobs(
        &self,
        py: Python<'_>,
        queue: Option<String>,
        kind: Option<String>,
        status: Option<&Bound<'_, PyAny>>,
        key: Option<String>,
        created_from: Option<&Bound<'_, PyAny>>,
        created_before: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyAny>>,
        limit: Option<usize>,
    ) -> PyResult<(Vec<JobInfo>, usize)> {
        guard(py, || {
            let filter = Filter {
                queue,
                kind,
                states: status.map_or_else(|| Ok(Vec::new()), read::states)?,
                key,
                created_from: created_from.map(|t| read::at("created_from", t)).transpose()?,
                created_before: created_before
                    .map(|t| read::at("created_before", t))
                    .transpose()?,
                after: after.map(read::id).transpose()?,
                limit,
            };
            let page = self.shared.look(py, |core| core.list(&filter)).or_raise(py)?;
            Ok((page.jobs.into_iter().map(JobInfo::from).collect(), page.total))
        })
    }

    /// Cancels a job, and returns its state after that: "cancelled"; "running" if its handler has been
    /// asked to stop; or the final state it already had.
    fn cancel(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        guard(py, || {
            let id = read::id(id)?;
            let state = self.shared.change(py, |core| core.cancel(id));
            state.or_raise(py).map(State::name)
        })
    }

    /// Runs a finished job again, as a new one with the same settings: with the same payload, or with `input`.
    /// The same retry twice makes one job. A job that succeeded needs an input, as its payload is not kept.
    #[pyo3(signature = (id, /, *input))]
    fn retry(
        &self,
        py: Python<'_>,
        id: &Bound<'_, PyAny>,
        input: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        guard(py, || {
            let id = read::id(id)?;
            let input = match input.len() {
                0 => None,
                1 => {
                    let job = self.shared.look(py, |core| core.get(id)).or_raise(py)?;
                    let kind = Kind::of(&self.shared, PyString::new(py, &job.kind));
                    Some(self.shared.payload(py, &kind, input.get_item(0)?)?)
                }
                n => {
                    let text = format!("retry() takes an id and at most one input, not {n}");
                    return Err(PyTypeError::new_err(text));
                }
            };
            let pushed = self.shared.change(py, |core| core.retry(id, input));
            Handle::new(py, &self.shared, pushed.or_raise(py)?)
        })
    }

    /// Delivers a token to a job that waits for it.
    fn signal(&self, py: Python<'_>, id: &Bound<'_, PyAny>, token: &str) -> PyResult<()> {
        guard(py, || {
            let id = read::id(id)?;
            self.shared.change(py, |core| core.signal(id, token)).or_raise(py)
        })
    }

    /// Gives a queue options of its own, by name; what is not named stays as it was said before, and `None`
    /// leaves it to the dispatcher's options again.
    ///
    /// Numbers are seconds where a duration is wanted, starts per second where a rate is, and shares from 0 to
    /// 1 for the watermarks. All of it holds, or, with an error, nothing.
    #[pyo3(signature = (queue, /, **options))]
    fn configure_queue(
        &self,
        py: Python<'_>,
        queue: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        guard(py, || {
            let said = read::Said::read::<QueueOptions>(options)?;
            let done = self
                .shared
                .change(py, |core| core.adjust_queue(queue, |own| said.set(own)));
            done.or_raise(py).map(drop)
        })
    }

    /// What a queue has of its own, as text; "default" is what it leaves to the dispatcher's options.
    #[pyo3(signature = (queue="default"))]
    fn queue_options<'py>(&self, py: Python<'py>, queue: &str) -> PyResult<Bound<'py, PyDict>> {
        guard(py, || {
            let own = self.shared.look(py, |core| core.queue_options(queue));
            read::texts(py, &own.or_raise(py)?)
        })
    }

    /// How full a queue is, from 0 to 1: the greatest of its jobs and its bytes to what it takes, and, with
    /// `delay_target`, of how long its jobs wait to how long they may.
    ///
    /// A few counters are read: ask before every push, if you like.
    #[pyo3(signature = (queue="default"))]
    fn pressure(&self, py: Python<'_>, queue: &str) -> PyResult<f64> {
        // Attached where nothing but memory is read. Only a file that other processes write has to be asked.
        guard(py, || {
            self.shared.look(py, |core| core.pressure(queue)).or_raise(py)
        })
    }

    /// Begins to pass the jobs of a queue on: to a courier, which needs a thread, or to another dispatcher.
    #[pyo3(signature = (queue, to, *, to_queue=None, **options))]
    fn begin_forward(
        &self,
        py: Python<'_>,
        queue: &str,
        to: &Bound<'_, PyAny>,
        to_queue: Option<String>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Forwarder> {
        guard(py, || {
            let options = read::options(py, options)?;
            Forwarder::begin(py, &self.shared, queue, to, to_queue, options)
        })
    }

    /// Starts no more jobs of a queue; pushes go on, and so do running jobs.
    #[pyo3(signature = (queue="default"))]
    fn pause(&self, py: Python<'_>, queue: &str) -> PyResult<()> {
        guard(py, || {
            self.shared.change(py, |core| core.pause(queue)).or_raise(py)
        })
    }

    /// Starts jobs of a queue again.
    #[pyo3(signature = (queue="default"))]
    fn resume(&self, py: Python<'_>, queue: &str) -> PyResult<()> {
        guard(py, || {
            self.shared.change(py, |core| core.resume(queue)).or_raise(py)
        })
    }

    /// Cancels every job that waits in a queue, and returns how many.
    #[pyo3(signature = (queue="default"))]
    fn purge(&self, py: Python<'_>, queue: &str) -> PyResult<usize> {
        guard(py, || {
            let purged = self.shared.change(py, |core| core.purge(queue)).or_raise(py);
            graveyard::drain(py);
            purged
        })
    }

    /// How many jobs wait in a queue.
    #[pyo3(signature = (queue="default"))]
    fn len(&self, py: Python<'_>, queue: &str) -> PyResult<u64> {
        guard(py, || self.shared.look(py, |core| core.len(queue)).or_raise(py))
    }

    /// Why a job is not running, or where it stands.
    fn explain(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<String> {
        guard(py, || {
            let id = read::id(id)?;
            let why = self.shared.look(py, |core| core.explain(id)).or_raise(py)?;
            Ok(why.to_string())
        })
    }

    /// What a queue holds, and what keeps its jobs from starting.
    #[pyo3(signature = (queue="default"))]
    fn explain_queue(&self, py: Python<'_>, queue: &str) -> PyResult<String> {
        guard(py, || {
            let why = self.shared.look(py, |core| core.explain_queue(queue));
            Ok(why.or_raise(py)?.to_string())
        })
    }

    /// Counts, in one consistent snapshot of all queues.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard(py, || {
            graveyard::drain(py);
            let stats = self.shared.look(py, |core| core.stats()).or_raise(py)?;
            let dict = stats::dict(py, &stats)?;
            dict.set_item("python", self.own_counts(py)?)?;
            Ok(dict)
        })
    }

    /// The counts in the text format of Prometheus.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        guard(py, || {
            let stats = self.shared.look(py, |core| core.stats()).or_raise(py)?;
            Ok(stats.to_prometheus())
        })
    }

    /// What happens from now on, through a buffer of `capacity` events: those of `level` and above, which is
    /// "debug", "info", "warn" or "error". What nobody listens to costs nothing.
    #[pyo3(signature = (capacity=1024, *, level="debug"))]
    fn subscribe(&self, py: Python<'_>, capacity: usize, level: &str) -> PyResult<Subscription> {
        guard(py, || {
            let unknown = || {
                let text =
                    format!("level is {level:?}; it must be \"debug\", \"info\", \"warn\" or \"error\"");
                invalid(py, text)
            };
            let level = Level::from_name(level).ok_or_else(unknown)?;
            Ok(Subscription::new(&self.shared, level, capacity))
        })
    }

    /// Adds functions that are called around each attempt, on the thread that runs it, and before each push.
    ///
    /// They should be quick, and must not raise: that is told to `sys.unraisablehook`, changes nothing for the
    /// job, and is counted in `stats()["hook_failures"]` for the former two.
    ///
    /// Args:
    ///     before: `before(job)`, before an attempt.
    ///     after: `after(job, outcome, seconds)`, after it; `sys.exception()` is what the handler raised.
    ///     push: `push(kind, queue, headers)`, before a push, on the thread that pushes. It may change the headers,
    ///         a dict. What it returns, if anything, is called with what became of the push: `(handle, None)`, or
    ///         `(None, error)`.
    #[pyo3(signature = (*, before=None, after=None, push=None))]
    fn add_hooks(&self, before: Option<Py<PyAny>>, after: Option<Py<PyAny>>, push: Option<Py<PyAny>>) {
        if before.is_some() || after.is_some() {
            self.core().add_hooks(Arc::new(PyHooks { before, after }));
        }
        if let Some(push) = push {
            self.shared.push_hooks.add(push);
        }
    }

    /// Writes every unfinished job to a file, and returns how many.
    fn dump(&self, py: Python<'_>, path: PathBuf) -> PyResult<usize> {
        guard(py, || {
            let report = self.shared.detached(py, || self.core().dump(path)).or_raise(py)?;
            Ok(report.jobs)
        })
    }

    /// Accepts the jobs of a dump, and returns how many were new here.
    fn restore(&self, py: Python<'_>, path: PathBuf) -> PyResult<usize> {
        guard(py, || {
            let report = self
                .shared
                .detached(py, || self.core().restore(path))
                .or_raise(py)?;
            Ok(report.jobs)
        })
    }

    /// Returns when everything that was accepted, finished or changed before is on the disk; says how safe that
    /// is with this engine.
    fn flush(&self, py: Python<'_>) -> PyResult<&'static str> {
        guard(py, || {
            let reached = self.shared.detached(py, || self.core().flush()).or_raise(py)?;
            Ok(reached.name())
        })
    }

    /// The present instant of its clock.
    fn now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guard(py, || read::datetime(py, self.core().now()))
    }

    /// For tests: moves the clock of a dispatcher opened with clock="manual" forward, and does all that has become
    /// due before it returns.
    fn advance(&self, py: Python<'_>, by: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(py, || {
            let by = read::duration("by", by)?;
            self.shared.detached(py, || self.core().advance(by)).or_raise(py)
        })
    }

    /// What a job can survive at most with this engine: "memory", "os" or "disk".
    #[getter]
    fn durability(&self) -> &'static str {
        self.core().capabilities().durability.name()
    }

    /// The options it was opened with, as text.
    #[getter]
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        read::texts(py, self.core().options())
    }

    /// The most jobs that run at once.
    #[getter]
    fn concurrency(&self) -> usize {
        self.core().options().concurrency
    }

    /// Raises ClosedError once it has stopped, and ForkedError in the child of a fork.
    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || self.core().check_open().or_raise(py))
    }

    /// Whether it is stopping or has stopped.
    #[getter]
    fn stopping(&self) -> bool {
        self.core().stopping()
    }

    /// Waits until no job is queued or running; for jobs scheduled for later it does not wait.
    #[pyo3(signature = (timeout=None))]
    fn drain(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(py, || {
            graveyard::drain(py);
            let timeout = timeout.map(|t| read::duration("timeout", t)).transpose()?;
            let deadline = Deadline::maybe(timeout);
            patience::wait(py, &self.shared, deadline, ErrorKind::Timeout, |until| {
                self.core().drain(until)
            })?
            .or_raise(py)
        })
    }

    /// Waits until nothing runs, for as long as `timeout`; true if nothing does.
    fn wait_idle(&self, py: Python<'_>, timeout: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(py, || {
            let timeout = read::duration("timeout", timeout)?;
            self.wait_until_idle(py, Deadline::after(timeout))
        })
    }

    /// Begins to stop and returns at once: nothing more is started.
    fn begin_stop(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || {
            self.core().check_process().or_raise(py)?;
            self.core().request_stop();
            Ok(())
        })
    }

    /// Stops, except for the threads. Returns how many jobs were handed back, and how many wait.
    #[pyo3(signature = (grace=None))]
    fn finish_stop(&self, py: Python<'_>, grace: Option<&Bound<'_, PyAny>>) -> PyResult<(usize, u64)> {
        guard(py, || {
            let grace = grace.map(|t| read::duration("grace", t)).transpose()?;
            let grace = grace.unwrap_or(self.core().options().grace);
            if patience::is_main_thread(py)? {
                self.begin_stop(py)?;
                self.wait_until_idle(py, Deadline::after(grace))?;
                return self.stop_within(py, Duration::ZERO);
            }
            self.stop_within(py, grace)
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.overseen.visit(&visit)?;
        self.shared.handlers.visit(|function| visit.call(function))?;
        self.shared.push_hooks.visit(|hook| visit.call(hook))
    }

    fn __clear__(&self) {
        self.overseen.set(None);
        drop(self.shared.handlers.take());
        drop(self.shared.push_hooks.take());
    }

    fn __repr__(&self) -> String {
        format!("<forebay.Dispatcher {:?}>", self.core().node())
    }
}

impl Core {
    /// Waits until nothing runs; false if something still does at the deadline.
    fn wait_until_idle(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let answer = patience::wait(py, &self.shared, deadline, ErrorKind::Timeout, |until| {
            self.core().wait_idle(until)
        })?;
        match answer {
            Err(e) if e.kind() == ErrorKind::Timeout => Ok(false),
            answer => answer.or_raise(py).map(|()| true),
        }
    }

    fn stop_within(&self, py: Python<'_>, grace: Duration) -> PyResult<(usize, u64)> {
        let report = self.shared.stop(py, grace).or_raise(py)?;
        graveyard::drain(py);
        Ok((report.handed_back, report.waiting))
    }

    fn own_counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("attaches", self.shared.attaches.load(Ordering::Relaxed))?;
        dict.set_item("attach_wait_us", self.shared.attach_wait.load(Ordering::Relaxed))?;
        dict.set_item("detaches", self.shared.detaches())?;
        Ok(dict)
    }
}
