//! What the Python objects of one dispatcher share: the core, the handlers, and counts of our own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::{Dispatcher, KindId, KindSet};
use parking_lot::RwLock;
use pyo3::prelude::*;

/// One per dispatcher. It holds no reference to the Python object `Dispatcher`, so worker threads and
/// handles, which hold this, keep nobody from collecting that one.
pub struct Shared {
    /// The core.
    pub core: Dispatcher,
    /// The kinds that Python handles.
    pub kinds: Arc<KindSet>,
    handlers: RwLock<Vec<Option<Registered>>>,
    /// How often a worker attached to the interpreter.
    pub attaches: AtomicU64,
    /// How long workers waited for that, in microseconds.
    pub attach_wait: AtomicU64,
    detaches: AtomicU64,
}

/// A handler as workers see it.
pub struct Registered {
    /// What is called.
    pub function: Py<PyAny>,
    /// Whether the job is the first argument.
    pub pass_job: bool,
    /// Whether `function` is a class, of which each attempt calls a new instance.
    pub fresh: bool,
}

impl Registered {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            function: self.function.clone_ref(py),
            pass_job: self.pass_job,
            fresh: self.fresh,
        }
    }
}

impl Shared {
    /// Around this core, without handlers.
    pub fn new(core: Dispatcher) -> Self {
        Self {
            core,
            kinds: Arc::new(KindSet::new()),
            handlers: RwLock::default(),
            attaches: AtomicU64::new(0),
            attach_wait: AtomicU64::new(0),
            detaches: AtomicU64::new(0),
        }
    }

    /// Sets or removes the handler of a kind. Gives back the former one, to be dropped without the lock.
    pub fn set_handler(&self, kind: KindId, handler: Option<Registered>) -> Option<Registered> {
        let mut handlers = self.handlers.write();
        if handlers.len() <= kind.index() {
            handlers.resize_with(kind.index() + 1, || None);
        }
        std::mem::replace(&mut handlers[kind.index()], handler)
    }

    /// The handler of a kind.
    pub fn handler(&self, py: Python<'_>, kind: KindId) -> Option<Registered> {
        self.handlers
            .read()
            .get(kind.index())?
            .as_ref()
            .map(|h| h.clone_ref(py))
    }

    /// Takes all handlers out, for the garbage collector.
    pub fn take_handlers(&self) -> Vec<Option<Registered>> {
        std::mem::take(&mut self.handlers.write())
    }

    /// Calls `each` with every handler's function; with none if the table is in use: the garbage collector
    /// must not wait, and takes what it is not shown for alive.
    pub fn visit<E>(&self, mut each: impl FnMut(&Py<PyAny>) -> Result<(), E>) -> Result<(), E> {
        match self.handlers.try_read() {
            Some(handlers) => handlers.iter().flatten().try_for_each(|h| each(&h.function)),
            None => Ok(()),
        }
    }

    /// Runs `body` detached from the interpreter, and counts that.
    pub fn detached<T: Send>(&self, py: Python<'_>, body: impl FnOnce() -> T + Send) -> T {
        self.detaches.fetch_add(1, Ordering::Relaxed);
        py.detach(body)
    }

    /// How often a caller had to detach, to wait.
    pub fn detaches(&self) -> u64 {
        self.detaches.load(Ordering::Relaxed)
    }
}
