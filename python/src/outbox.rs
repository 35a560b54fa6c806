//! Pushes that an event loop awaits: the core's own thread makes them, and says so through a socket that the
//! loop watches. That thread never attaches to the interpreter, and a loop with many pushes under way wakes
//! once for all that were answered meanwhile.

use std::io::{ErrorKind as Io, Read, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Error, ErrorKind, KindId, NewJob, Payload, Pushed};
use parking_lot::Mutex;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::dispatcher::Core;
use crate::errors::{OrRaise, exception, guard, raise};
use crate::graveyard::{self, Near};
use crate::handle::Handle;
use crate::hooks::Listeners;
use crate::imports::Imported;
use crate::push::PushOptions;
use crate::ready::ready;
use crate::shared::Shared;

/// A job that is about to be pushed.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Submission {
    shared: Arc<Shared>,
    job: Mutex<Option<NewJob<'static>>>,
    wait: Option<Duration>,
    listeners: Mutex<Listeners>,
}

/// What an event loop awaits of the push of a job of this kind: most pushes need not wait, and then the loop has nothing
/// to do with it.
pub fn awaited(
    dispatcher: &Bound<'_, Core>,
    kind: KindId,
    payload: Payload,
    options: Option<&PushOptions>,
) -> PyResult<Py<PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (py, shared) = (dispatcher.py(), &dispatcher.get().shared);
    let mut job = match options {
        None => NewJob::new(kind, payload),
        Some(options) => options.owned(&shared.core, kind, payload).or_raise(py)?,
    };
    let wait = options.and_then(|options| options.wait);
    // Whether a push waits is no reason to work without a loop.
    RUNNING.find(py, "asyncio", "get_running_loop")?.call0()?;
    if shared.push_hooks.none() {
        return match now(py, shared, &mut job, wait)? {
            Some(handle) => ready(py, handle),
            None => Submission::new(shared, job, wait, Listeners::default()).sent(dispatcher),
        };
    }
    let (mut job, listeners) = shared.push_hooks.ask(py, &shared.core, job);
    match now(py, shared, &mut job, wait) {
        Ok(Some(handle)) => {
            listeners.tell(py, Ok(&handle));
            ready(py, handle)
        }
        Ok(None) => Submission::new(shared, job, wait, listeners).sent(dispatcher),
        Err(error) => {
            listeners.tell(py, Err(&error));
            Err(error)
        }
    }
}

/// Pushes the job if that means no waiting; None if it does, and then it is as it was.
#[inline]
fn now(
    py: Python<'_>,
    shared: &Arc<Shared>,
    job: &mut NewJob<'_>,
    wait: Option<Duration>,
) -> PyResult<Option<Py<Handle>>> {
    if shared.push_waits(std::slice::from_ref(job)) {
        return Ok(None);
    }
    graveyard::drain(py);
    let _near = Near::new(py);
    match shared.core.try_push_from(job) {
        Ok(pushed) => Handle::new(py, shared, pushed).map(Some),
        Err(refused) if refused.kind() == ErrorKind::Full && patience(shared, job, wait).is_some() => {
            Ok(None)
        }
        Err(refused) => Err(exception(py, &refused)),
    }
}

/// How long a push waits for room, if it does.
fn patience(shared: &Shared, job: &NewJob<'_>, wait: Option<Duration>) -> Option<Duration> {
    let wait = wait.or_else(|| shared.core.patience(job));
    wait.filter(|wait| !wait.is_zero())
}

impl Submission {
    fn new(shared: &Arc<Shared>, job: NewJob<'static>, wait: Option<Duration>, listeners: Listeners) -> Self {
        Self {
            shared: shared.clone(),
            job: Mutex::new(Some(job)),
            wait,
            listeners: Mutex::new(listeners),
        }
    }

    /// What an event loop awaits of it.
    #[cold]
    fn sent(self, dispatcher: &Bound<'_, Core>) -> PyResult<Py<PyAny>> {
        static PUSH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let push = PUSH.find(dispatcher.py(), "forebay._aio", "push")?;
        Ok(push.call1((dispatcher, self))?.unbind())
    }

    fn take(&self, py: Python<'_>) -> PyResult<NewJob<'static>> {
        let gone = || raise(py, ErrorKind::Invalid, "the job has been pushed before".into());
        self.job.lock().take().ok_or_else(gone)
    }
}

#[pymethods]
impl Submission {
    /// Whether a hook wants to hear what becomes of the push.
    #[getter]
    fn heard(&self) -> bool {
        !self.listeners.lock().none()
    }

    /// Tells the hooks what became of the push.
    #[pyo3(signature = (handle, error))]
    fn tell(&self, py: Python<'_>, handle: Option<Py<Handle>>, error: Option<Bound<'_, PyBaseException>>) {
        // The lock is free again before Python runs.
        let listeners = mem::take(&mut *self.listeners.lock());
        let error = error.map(|error| PyErr::from_value(error.into_any()));
        match (&handle, &error) {
            (Some(handle), _) => listeners.tell(py, Ok(handle)),
            (None, Some(error)) => listeners.tell(py, Err(error)),
            (None, None) => {}
        }
    }

    /// Has the job pushed. The answer, under the number returned, comes to the outbox.
    fn send(&self, py: Python<'_>, outbox: &Outbox) -> PyResult<u64> {
        guard(py, || {
            let job = self.take(py)?;
            let (number, mail) = (outbox.next.fetch_add(1, Ordering::Relaxed), outbox.mail.clone());
            let tell = move |answer| mail.drop_in(number, answer);
            let sent = match patience(&self.shared, &job, self.wait) {
                Some(patience) => self.shared.core.submit_within(job, patience, tell),
                None => self.shared.core.submit(job, tell),
            };
            sent.or_raise(py).map(|()| number)
        })
    }
}

/// Answers on their way to a loop.
struct Mail {
    answers: Mutex<Vec<(u64, forebay::Result<Pushed>)>>,
    /// Whether the loop has been called and has not come yet.
    called: AtomicBool,
    bell: UnixStream,
}

impl Mail {
    fn drop_in(&self, number: u64, answer: forebay::Result<Pushed>) {
        self.answers.lock().push((number, answer));
        if !self.called.swap(true, Ordering::SeqCst) {
            // There is room: no more than one byte is ever under way. Without a loop nobody listens.
            let _ = (&self.bell).write(&[1]);
        }
    }
}

/// Where one loop gets its answers.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Outbox {
    shared: Arc<Shared>,
    mail: Arc<Mail>,
    ear: UnixStream,
    next: AtomicU64,
}

impl Outbox {
    /// For the pushes of this dispatcher.
    pub fn new(py: Python<'_>, shared: &Arc<Shared>) -> PyResult<Self> {
        let pair = UnixStream::pair().and_then(|(ear, bell)| {
            ear.set_nonblocking(true)?;
            bell.set_nonblocking(true)?;
            Ok((ear, bell))
        });
        let no_pair = |e| Error::new(ErrorKind::NoMemory, "cannot make a pair of sockets").caused_by(e);
        let (ear, bell) = pair.map_err(no_pair).or_raise(py)?;
        Ok(Self {
            shared: shared.clone(),
            mail: Arc::new(Mail {
                answers: Mutex::default(),
                called: AtomicBool::new(false),
                bell,
            }),
            ear,
            next: AtomicU64::new(0),
        })
    }
}

/// The number of a push, and its handle or its error.
type Answer = (u64, Option<Py<Handle>>, Option<Py<PyAny>>);

#[pymethods]
impl Outbox {
    /// The descriptor that can be read when there are answers.
    fn fileno(&self) -> i32 {
        self.ear.as_raw_fd()
    }

    /// The answers that are there now.
    fn drain(&self, py: Python<'_>) -> PyResult<Vec<Answer>> {
        guard(py, || {
            while matches!((&self.ear).read(&mut [0; 8]), Err(e) if e.kind() == Io::Interrupted) {}
            // Whoever comes from now on calls again, and whoever came before is among these.
            self.mail.called.store(false, Ordering::SeqCst);
            let answers = mem::take(&mut *self.mail.answers.lock());
            let answer = |(number, answer): (u64, forebay::Result<Pushed>)| {
                Ok(match answer {
                    Ok(pushed) => (number, Some(Handle::new(py, &self.shared, pushed)?), None),
                    Err(error) => {
                        let error = exception(py, &error).into_value(py).into_any();
                        (number, None, Some(error))
                    }
                })
            };
            answers.into_iter().map(answer).collect()
        })
    }
}
