//! The registered handlers of one dispatcher, as its workers find them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forebay::KindId;
use parking_lot::RwLock;
use pyo3::prelude::*;

use crate::format::Format;

/// A handler as workers see it.
pub struct Registered {
    /// What is called.
    pub function: Py<PyAny>,
    /// Whether the job is the first argument.
    pub pass_job: bool,
    /// Whether `function` is a class, of which each attempt calls a new instance.
    pub fresh: bool,
    /// Whether the call is interrupted when its job should stop.
    pub interrupt: bool,
    /// Whether a call makes a coroutine, which an event loop runs.
    pub is_async: bool,
    /// How its values are written and read.
    pub format: Py<Format>,
}

/// The handlers, by the number of their kind.
///
/// Workers look at copies of the table ([`Known`]). A copy shares the entries, so each function is
/// referenced once whatever the number of workers: the garbage collector counts on that.
#[derive(Default)]
pub struct Handlers {
    /// Grows with every change.
    version: AtomicU64,
    /// Whether one of them has, or has had, a say in how its values are written.
    formed: AtomicBool,
    table: RwLock<Vec<Option<Arc<Registered>>>>,
}

impl Handlers {
    /// Sets or removes the handler of a kind. Gives back the former one, to be dropped without the lock.
    pub fn set(&self, kind: KindId, handler: Option<Arc<Registered>>) -> Option<Arc<Registered>> {
        if handler
            .as_ref()
            .is_some_and(|handler| !handler.format.get().is_plain())
        {
            self.formed.store(true, Ordering::Release);
        }
        let mut table = self.table.write();
        if table.len() <= kind.index() {
            table.resize_with(kind.index() + 1, || None);
        }
        self.version.fetch_add(1, Ordering::Release);
        std::mem::replace(&mut table[kind.index()], handler)
    }

    /// The handler of a kind.
    pub fn get(&self, kind: KindId) -> Option<Arc<Registered>> {
        self.table.read().get(kind.index())?.clone()
    }

    /// Whether a kind has one.
    pub fn has(&self, kind: KindId) -> bool {
        self.table.read().get(kind.index()).is_some_and(Option::is_some)
    }

    /// Whether the values of all kinds are written as anybody's are.
    pub fn are_plain(&self) -> bool {
        !self.formed.load(Ordering::Acquire)
    }

    /// How the values of a kind are written and read.
    pub fn format(&self, py: Python<'_>, kind: KindId) -> Option<Py<Format>> {
        let table = self.table.read();
        Some(table.get(kind.index())?.as_ref()?.format.clone_ref(py))
    }

    /// Takes all handlers out, for the garbage collector.
    pub fn take(&self) -> Vec<Option<Arc<Registered>>> {
        let mut table = self.table.write();
        self.version.fetch_add(1, Ordering::Release);
        std::mem::take(&mut *table)
    }

    /// Calls `each` with everything of Python that the handlers hold; with nothing if the table is in use: the garbage collector
    /// must not wait, and takes what it is not shown for alive.
    pub fn visit<E>(&self, mut each: impl FnMut(&Py<PyAny>) -> Result<(), E>) -> Result<(), E> {
        match self.table.try_read() {
            Some(table) => table.iter().flatten().try_for_each(|h| {
                each(&h.function)?;
                each(h.format.as_any())
            }),
            None => Ok(()),
        }
    }
}

/// The handlers as one worker knows them. To be dropped attached.
#[derive(Default)]
pub struct Known {
    /// 0 is no version of a table that has a handler.
    version: u64,
    table: Vec<Option<Arc<Registered>>>,
}

impl Known {
    /// The handler of a kind, as of now.
    pub fn find(&mut self, handlers: &Handlers, kind: KindId) -> Option<&Registered> {
        if self.version != handlers.version.load(Ordering::Acquire) {
            self.refresh(handlers);
        }
        self.table.get(kind.index())?.as_deref()
    }

    fn refresh(&mut self, handlers: &Handlers) {
        let table = handlers.table.read();
        // Under the lock no change is half done.
        self.version = handlers.version.load(Ordering::Acquire);
        let (fresh, _lock) = (table.clone(), drop(table));
        // What goes here may be the last reference to a function, whose destructor may register another.
        let old = std::mem::replace(&mut self.table, fresh);
        drop(old);
    }
}
