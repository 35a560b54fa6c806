//! What the executor, its threads and its futures share.

use std::any::Any;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use forebay::{
    Deadline, Dispatcher, Encoded, ErrorKind, FailureKind, HostObject, JobId, KindId, KindSet, Options,
    State, Watcher,
};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::future::{End, Promise, untrack};
use crate::call::Call;
use crate::errors::{OrRaise, raise};
use crate::graveyard::{self, bury};
use crate::imports::Imported;
use crate::read;
use crate::shared::Shared;

/// The kind of all calls.
const KIND: &str = "call";

/// Whether Python ends, and no call is accepted any more.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Python ends: no executor accepts calls any more.
#[pyfunction]
pub fn refuse_calls() {
    ENDING.store(true, Ordering::Relaxed);
}

/// The calls of one executor. Threads and futures hold it, and nothing in it holds the executor.
pub struct Pool {
    pub shared: Arc<Shared>,
    pub kind: KindId,
    pub kinds: Arc<KindSet>,
    /// The most threads.
    pub most: usize,
    /// How many threads there are, those that are about to begin among them.
    pub threads: AtomicUsize,
    /// How many threads wait for a call,
    waiting: AtomicI64,
    /// and how many of them are not taken yet by a submit, whose call they have not seen.
    idle: AtomicI64,
    /// How many calls have not ended.
    open: AtomicU64,
    closed: AtomicBool,
    /// Whether what waits is cancelled when the core lets go of it.
    cancels: AtomicBool,
    /// Why no call is accepted: a thread could not begin.
    broken: OnceLock<String>,
    /// Calls that the core has let go of before anybody began them.
    orphans: SegQueue<Orphan>,
    /// Those whose end the core may decide by itself.
    watched: OnceLock<Watched>,
}

struct Watched {
    watcher: Watcher,
    next: AtomicU64,
    calls: Mutex<HashMap<u64, Orphan>>,
}

/// A future for which nobody else answers.
struct Orphan(ManuallyDrop<Py<Promise>>);

impl Orphan {
    fn take(mut self) -> Py<Promise> {
        // SAFETY: it is not used again: the drop is forgotten below.
        let future = unsafe { ManuallyDrop::take(&mut self.0) };
        std::mem::forget(self);
        future
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // SAFETY: it is not used again: this is the drop.
        bury(unsafe { ManuallyDrop::take(&mut self.0) }.into_any());
    }
}

/// A call, as the core carries it.
pub struct Task {
    pub future: ManuallyDrop<Py<Promise>>,
    pub function: ManuallyDrop<Py<PyAny>>,
    pub arguments: ManuallyDrop<Call>,
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: none of them is used again: this is the drop.
        let (future, function, arguments) = unsafe {
            (
                ManuallyDrop::take(&mut self.future),
                ManuallyDrop::take(&mut self.function),
                ManuallyDrop::take(&mut self.arguments),
            )
        };
        bury(function);
        arguments.into_references().for_each(bury);
        let pool = future.get().pool().filter(|_| future.get().is_pending()).cloned();
        match pool {
            None => bury(future.into_any()),
            Some(pool) => pool.orphans.push(Orphan(ManuallyDrop::new(future))),
        }
    }
}

impl HostObject for Task {
    /// For the comparison of two calls with one key: whether they are of one function.
    fn encode(&self) -> forebay::Result<Encoded> {
        Ok(Encoded {
            bytes: format!("{:p}", self.function.as_ptr()).into_bytes().into(),
            content_type: "text/plain".into(),
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Pool {
    /// A pool of up to so many threads.
    pub fn open(py: Python<'_>, most: usize, mut options: Options) -> PyResult<Arc<Self>> {
        options.concurrency = most;
        // A future keeps its own result.
        options.keep_finished = 0;
        let core = py.detach(|| Dispatcher::open("memory:", options)).or_raise(py)?;
        let (kind, kinds) = (core.kind(KIND).or_raise(py)?, Arc::new(KindSet::new()));
        kinds.add(kind);
        Ok(Arc::new(Self {
            shared: Arc::new(Shared::new(core, None, true)),
            kind,
            kinds,
            most,
            threads: AtomicUsize::new(0),
            waiting: AtomicI64::new(0),
            idle: AtomicI64::new(0),
            open: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            cancels: AtomicBool::new(false),
            broken: OnceLock::new(),
            orphans: SegQueue::new(),
            watched: OnceLock::new(),
        }))
    }

    fn core(&self) -> &Dispatcher {
        &self.shared.core
    }

    /// A future for a call of this pool.
    pub fn promise<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, Promise>> {
        static FUTURE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static NOTHING: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
        let class = FUTURE.find(py, "forebay.executor", "Future")?;
        let nothing = NOTHING.get_or_init(py, || PyTuple::empty(py).unbind());
        // SAFETY: the class derives from `Promise`, whose own `__new__` this calls, with no arguments; the
        // `__init__` of the original, which would make all its parts, is not called.
        let made = unsafe {
            let new = ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_new);
            let new: ffi::newfunc = std::mem::transmute(new);
            Bound::from_owned_ptr_or_err(
                py,
                new(class.as_type_ptr(), nothing.as_ptr(), std::ptr::null_mut()),
            )?
        };
        untrack(&made);
        // SAFETY: see above.
        let promise = unsafe { made.cast_into_unchecked::<Promise>() };
        promise.get().belong_to(self);
        Ok(promise)
    }

    /// One more call; to be taken back by `ended`.
    pub fn begin(&self, py: Python<'_>) -> PyResult<()> {
        self.core().check_process().or_raise(py)?;
        self.open.fetch_add(1, Ordering::SeqCst);
        let closed = self.closed.load(Ordering::SeqCst) || ENDING.load(Ordering::Relaxed);
        if !closed && self.broken.get().is_none() {
            return Ok(());
        }
        self.ended();
        Err(self.refusal(py))
    }

    fn refusal(&self, py: Python<'_>) -> PyErr {
        let after = match ENDING.load(Ordering::Relaxed) {
            true => "interpreter shutdown",
            false => "shutdown",
        };
        match self.broken(py) {
            Some(broken) => PyErr::from_value(broken),
            None => PyRuntimeError::new_err(format!("cannot schedule new futures after {after}")),
        }
    }

    /// What becomes of calls once a thread could not begin.
    fn broken<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        static BROKEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let text = self.broken.get()?;
        let class = BROKEN.find(py, "concurrent.futures.thread", "BrokenThreadPool");
        class.and_then(|class| class.call1((text,))).ok()
    }

    /// Why it accepts no call, if a thread could not begin.
    pub fn why_broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// A call has ended, or has come to nothing.
    pub fn ended(&self) {
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 && self.closed.load(Ordering::SeqCst) {
            self.core().request_stop();
        }
    }

    /// Accepts no more calls; its threads end when none is left.
    pub fn close(&self) {
        if self.core().check_process().is_err() || self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.open.load(Ordering::SeqCst) == 0 {
            self.core().request_stop();
        }
    }

    /// Cancels what waits.
    pub fn cancel_all(&self, py: Python<'_>) -> PyResult<()> {
        self.cancels.store(true, Ordering::SeqCst);
        self.let_go(py)
    }

    /// Accepts no more calls, and has none made any more, for this reason.
    pub fn give_up(&self, py: Python<'_>, why: String) -> PyResult<()> {
        let _ = self.broken.set(why);
        self.let_go(py)?;
        self.close();
        Ok(())
    }

    fn let_go(&self, py: Python<'_>) -> PyResult<()> {
        let queue = self.core().options().queue.clone();
        let purged = self.core().purge(&queue);
        self.settle_orphans(py)?;
        graveyard::drain(py);
        match purged {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            purged => purged.or_raise(py).map(drop),
        }
    }

    /// Takes a call that was cancelled out of the queue.
    pub fn take_out(&self, py: Python<'_>, id: JobId) {
        // If it has begun meanwhile, the thread sees that it was cancelled.
        let _ = self.core().cancel(id);
        graveyard::drain(py);
    }

    /// Ends the futures of calls that the core has let go of. Call it where no core call is under way on this thread.
    pub fn settle_orphans(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(orphan) = self.orphans.pop() {
            let future = orphan.take().into_bound(py);
            if !future.get().is_pending() {
                continue;
            }
            let end = if let Some(broken) = self.broken(py) {
                End::Exception(broken.unbind())
            } else if self.cancels.load(Ordering::SeqCst) {
                End::Cancelled(true)
            } else if let Some(last) = future.get().last_exception(py) {
                End::Exception(last)
            } else {
                End::Exception(shed(py))
            };
            Promise::settle(&future, end)?;
        }
        Ok(())
    }

    /// A thread is about to wait for a call.
    pub fn rests(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.idle.fetch_add(1, Ordering::SeqCst);
    }

    /// It has one, which may have come by itself, or just before it waited: then no submit has taken it.
    pub fn wakes(&self) {
        let waiting = self.waiting.fetch_sub(1, Ordering::SeqCst) - 1;
        self.idle.fetch_min(waiting, Ordering::SeqCst);
    }

    /// How many threads wait for a call, and are not taken by a submit.
    pub fn idle(&self) -> i64 {
        self.idle.load(Ordering::SeqCst)
    }

    /// Takes one of the threads that wait; false if all have something to do.
    pub fn rouse(&self) -> bool {
        let take = |idle: i64| (idle > 0).then_some(idle - 1);
        self.idle
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, take)
            .is_ok()
    }

    /// The core may decide the end of this call by itself: by its timeout, or its deadline. True the first time: then
    /// somebody has to `listen`.
    pub fn watch(&self, py: Python<'_>, future: Py<Promise>, id: JobId) -> PyResult<bool> {
        let mut first = false;
        let watched = self.watched.get_or_init(|| {
            first = true;
            Watched {
                watcher: self.core().watcher(),
                next: AtomicU64::new(0),
                calls: Mutex::default(),
            }
        });
        let number = watched.next.fetch_add(1, Ordering::Relaxed);
        let orphan = Orphan(ManuallyDrop::new(future));
        watched.calls.lock().insert(number, orphan);
        if watched.watcher.add(id, number).is_err() {
            // It has ended already. If nobody has told its future, the core has decided that.
            let call = watched.calls.lock().remove(&number);
            if let Some(future) = call.map(|call| call.take().into_bound(py)) {
                let end = match future.get().is_pending() {
                    true => End::Exception(failed(py, id, State::Expired)?),
                    false => End::Exception(failed(py, id, State::Failed)?),
                };
                Promise::settle(&future, end)?;
            }
        }
        Ok(first)
    }

    /// Ends the futures of calls whose end the core decides, until the pool stops. For a thread of its own.
    pub fn listen(&self, py: Python<'_>) -> PyResult<()> {
        let Some(watched) = self.watched.get() else {
            return Ok(());
        };
        let mut ends = Vec::new();
        loop {
            let poll = || watched.watcher.poll(256, Deadline::NEVER, &mut ends);
            if self.shared.detached(py, poll).is_err() {
                return Ok(());
            }
            for end in ends.drain(..) {
                let call = watched.calls.lock().remove(&end.tag);
                let Some(future) = call.map(|call| call.take().into_bound(py)) else {
                    continue;
                };
                // Whoever made the call has told its future before this thread could have the interpreter.
                if let Some(state @ (State::Failed | State::Expired)) = end.state {
                    Promise::settle(&future, End::Exception(failed(py, end.id, state)?))?;
                }
            }
        }
    }

    /// A thread ends. With the last one of a pool that is closed, the core stops.
    pub fn leave(&self, py: Python<'_>) {
        if self.threads.fetch_sub(1, Ordering::SeqCst) == 1 && self.core().stopping() {
            self.stop(py);
        }
    }

    /// Ends the threads of the core.
    pub fn stop(&self, py: Python<'_>) {
        // In the child of a fork there is nothing to stop.
        let _ = self.shared.detached(py, || self.core().stop(Duration::ZERO));
        graveyard::drain(py);
    }

    /// Whether the core may decide the end of some of its calls by itself.
    pub fn is_watched(&self) -> bool {
        self.watched.get().is_some()
    }

    /// The future of a call that has not ended.
    pub fn find<'py>(&self, py: Python<'py>, id: JobId) -> Option<Bound<'py, Promise>> {
        let job = self.core().get(id).ok()?;
        let task = job.payload.as_host::<Task>()?;
        Some(task.future.bind(py).clone())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Nobody holds it: no thread, no call. What the core has of its own ends here.
        let _ = self.shared.core.stop(Duration::ZERO);
    }
}

/// What becomes of a call that had to go for another one.
pub fn shed(py: Python<'_>) -> Py<PyAny> {
    let text =
        "the call was given up for another one, as the policy on_full of the executor says; raise capacity";
    raise(py, ErrorKind::Shed, text.into()).into_value(py).into_any()
}

/// What becomes of a call whose end the core has decided.
fn failed(py: Python<'_>, id: JobId, state: State) -> PyResult<Py<PyAny>> {
    static ENDED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ended = ENDED.find(py, "forebay.errors", "ended")?;
    let (kind, why) = match state {
        State::Expired => (FailureKind::Expired, "its deadline passed before it could begin"),
        _ => (
            FailureKind::TimedOut,
            "it took longer than its timeout; its thread goes on until the function returns",
        ),
    };
    let error = ended.call1((state.name(), read::uuid(py, id)?, KIND, kind.name(), why, 0))?;
    Ok(error.unbind())
}
