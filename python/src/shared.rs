//! What the Python objects of one dispatcher share: the core, the handlers, and counts of our own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use forebay::engine::Capabilities;
use forebay::{
    Dispatcher, Durability, Error, ErrorKind, KindId, KindSet, Name, NewJob, Payload, Result, StopReport,
};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::call::Call;
use crate::codec::Codec;
use crate::coroutine;
use crate::crew::Crew;
use crate::errors::OrRaise;
use crate::format::{self, Format};
use crate::handlers::Handlers;
use crate::hooks::PushHooks;
use crate::interrupt::Interrupts;
use crate::json::Whose;
use crate::value;

/// One per dispatcher. It holds no reference to the Python object `Dispatcher`, so worker threads and
/// handles, which hold this, keep nobody from collecting that one.
pub struct Shared {
    /// The core.
    pub core: Dispatcher,
    waits: Waits,
    /// Whether payloads and results leave this process, and so must be bytes.
    encodes: AtomicBool,
    /// How values are written of which no handler here says it; as JSON if there is nothing.
    common: Option<Py<Format>>,
    /// The kinds that Python handles.
    pub kinds: Arc<KindSet>,
    /// The kinds whose handlers are coroutines.
    pub async_kinds: Arc<KindSet>,
    /// What is called for each of them.
    pub handlers: Handlers,
    /// What is called before each push.
    pub push_hooks: PushHooks,
    /// Its workers.
    pub crew: Crew,
    /// The thread of the event loop that runs async handlers, once there is one.
    pub loop_thread: OnceLock<ThreadId>,
    /// Which of its jobs may have to be interrupted.
    pub interrupts: Arc<Interrupts>,
    /// The numbers of the kinds that were pushed by name.
    numbers: Numbers,
    /// How often a worker attached to the interpreter.
    pub attaches: AtomicU64,
    /// How long workers waited for that, in microseconds.
    pub attach_wait: AtomicU64,
    detaches: AtomicU64,
}

impl Shared {
    /// Around this core, without handlers.
    pub fn new(core: Dispatcher, common: Option<Py<Format>>, by_reference: bool) -> Self {
        let can = core.capabilities();
        Self {
            waits: Waits::of(can),
            encodes: AtomicBool::new(!can.host_objects || !by_reference),
            common,
            core,
            kinds: Arc::new(KindSet::new()),
            async_kinds: Arc::new(KindSet::new()),
            handlers: Handlers::default(),
            push_hooks: PushHooks::default(),
            crew: Crew::default(),
            loop_thread: OnceLock::new(),
            interrupts: Arc::default(),
            numbers: Numbers::default(),
            attaches: AtomicU64::new(0),
            attach_wait: AtomicU64::new(0),
            detaches: AtomicU64::new(0),
        }
    }

    /// Makes a call of the core that changes nothing: detached if it may wait for other processes.
    pub fn look<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&Dispatcher) -> T + Send) -> T {
        self.detached_if(self.waits >= Waits::Always, py, call)
    }

    /// Makes a call of the core that changes something: detached if it may wait for a disk.
    pub fn change<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&Dispatcher) -> T + Send) -> T {
        self.detached_if(self.waits >= Waits::ToChange, py, call)
    }

    /// Whether a push of these jobs waits for anything but room.
    pub fn push_waits(&self, jobs: &[NewJob<'_>]) -> bool {
        let waits = |job| self.core.durability_of(job) > Durability::Memory;
        match self.waits {
            Waits::Never => false,
            Waits::ToChange => jobs.iter().any(waits),
            Waits::Always => true,
        }
    }

    /// Whether the end of an attempt waits for anything.
    pub fn ends_wait(&self) -> bool {
        match self.waits {
            Waits::Never => false,
            Waits::ToChange => self.core.options().sync_done,
            Waits::Always => true,
        }
    }

    /// What a job of this kind carries, as the store takes it.
    pub fn payload(&self, py: Python<'_>, kind: &Kind<'_>, value: Bound<'_, PyAny>) -> PyResult<Payload> {
        if !self.writes() && self.common.is_none() && self.handlers.are_plain() {
            return Ok(value::payload(value));
        }
        let format = self.format(py, kind.id(self)?);
        if self.writes() && !value::is_bytes(&value) {
            return match format {
                Some(format) => format.get().write_one(&value, format::payload(py)),
                None => format::write_with(None, &value, Whose::Payload, format::payload(py)),
            };
        }
        Ok(match format {
            Some(format) => value::formed(value, &format),
            None => value::payload(value),
        })
    }

    /// Whether payloads and results must be bytes here.
    pub fn writes(&self) -> bool {
        self.encodes.load(Ordering::Relaxed)
    }

    /// Has payloads and results be bytes although this store could keep objects, as a test wants it.
    pub fn write_values(&self, yes: bool) {
        self.encodes.fetch_or(yes, Ordering::Relaxed);
    }

    /// What a job that makes this call carries, as the store takes it.
    pub fn call(&self, py: Python<'_>, call: Call, format: &Py<Format>) -> PyResult<Payload> {
        format.get().check(py, &call)?;
        match self.writes() {
            false => Ok(value::call(py, call, format)),
            true => format.get().write_call(py, &call, format::payload(py)),
        }
    }

    /// What the handler of a kind has returned, as the store takes it. It refuses a coroutine, whose work nobody would
    /// ever do.
    pub fn result(&self, value: Bound<'_, PyAny>, kind: KindId) -> PyResult<Payload> {
        if coroutine::is(&value) {
            return Err(coroutine::unawaited(&value));
        }
        if !self.writes() || value::is_bytes(&value) {
            return Ok(value::payload(value));
        }
        let py = value.py();
        match self.format(py, kind) {
            Some(format) => format.get().write_result(&value, format::payload(py)),
            None => format::write_with(None, &value, Whose::Result, format::payload(py)),
        }
    }

    /// What the handler of a kind has returned, which may be another process's.
    pub fn returned<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        result: &Payload,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kind = self.core.kind(kind).or_raise(py)?;
        value::result(py, result, self.format(py, kind).as_ref().map(Py::get))
    }

    /// How the values of a kind are written, if anybody says it.
    fn format(&self, py: Python<'_>, kind: KindId) -> Option<Py<Format>> {
        let common = || self.common.as_ref().map(|common| common.clone_ref(py));
        self.handlers.format(py, kind).or_else(common)
    }

    /// What payloads and results are written with where no handler says another codec, if that is not JSON.
    pub fn codec(&self) -> Option<Arc<Codec>> {
        self.common.as_ref().and_then(|common| common.get().codec())
    }

    /// Makes a call of the core: detached if it waits.
    pub fn detached_if<T: Send>(
        &self,
        waits: bool,
        py: Python<'_>,
        call: impl FnOnce(&Dispatcher) -> T + Send,
    ) -> T {
        match waits {
            true => self.detached(py, || call(&self.core)),
            false => call(&self.core),
        }
    }

    /// Stops, except for Python's threads, which end then.
    pub fn stop(&self, py: Python<'_>, grace: Duration) -> Result<StopReport> {
        let stopped = self.detached(py, || self.core.stop(grace));
        let refused = |e: &Error| matches!(e.kind(), ErrorKind::WouldDeadlock | ErrorKind::Forked);
        if !stopped.as_ref().is_err_and(refused) {
            // By now every handler has been told that its job is no longer its own.
            self.interrupts.close();
        }
        stopped
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

/// Which calls of the core may wait for more than memory. A call that waits attached would keep every thread of the program
/// waiting, among them those whose pushes could share its sync; a call that does not is cheaper attached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waits {
    /// None: everything is in memory.
    Never,
    /// Those that change something, for the disk. Questions are answered from memory.
    ToChange,
    /// All: each asks a store in which other processes work.
    Always,
}

impl Waits {
    fn of(can: Capabilities) -> Self {
        match (can.shared, can.durability) {
            (true, _) => Waits::Always,
            (false, Durability::Memory) => Waits::Never,
            (false, _) => Waits::ToChange,
        }
    }
}

/// A kind, as a push names it.
pub struct Kind<'py> {
    text: Bound<'py, PyString>,
    number: Option<KindId>,
}

impl<'py> Kind<'py> {
    /// The kind of this name.
    pub fn of(shared: &Shared, text: Bound<'py, PyString>) -> Self {
        let number = shared.numbers.find(&text);
        Self { text, number }
    }

    /// By its number if that has been noted, by its text otherwise.
    pub fn name(&self) -> PyResult<Name<'_, KindId>> {
        Ok(match self.number {
            Some(number) => Name::from(number),
            None => Name::from(self.text.to_str()?),
        })
    }

    /// Its number, which it gets if it has none.
    pub fn id(&self, shared: &Shared) -> PyResult<KindId> {
        match self.number {
            Some(number) => Ok(number),
            None => shared.core.kind(self.text.to_str()?).or_raise(self.text.py()),
        }
    }

    /// A job of it was accepted, so it has a number.
    pub fn note(&self, shared: &Shared) -> PyResult<()> {
        if self.number.is_none() {
            let number = shared.core.kind(self.text.to_str()?).or_raise(self.text.py())?;
            shared.numbers.note(&self.text, number);
        }
        Ok(())
    }
}

/// The numbers of kinds, by the text objects that name them.
///
/// A program names a kind by the same few objects every time, and text never changes: once an object has
/// been looked up, its address is enough. A place that is taken stays taken; what finds none is looked up
/// by its text, as the core does it.
struct Numbers([OnceLock<(Py<PyString>, KindId)>; Self::PLACES]);

impl Default for Numbers {
    fn default() -> Self {
        Self([const { OnceLock::new() }; Self::PLACES])
    }
}

impl Numbers {
    const PLACES: usize = 64;

    /// The number of the kind that this text names, if it has been noted.
    fn find(&self, name: &Bound<'_, PyString>) -> Option<KindId> {
        let (noted, number) = self.place(name).get()?;
        noted.is(name).then_some(*number)
    }

    /// Notes the number of the kind that this text names, if its place is free.
    fn note(&self, name: &Bound<'_, PyString>, number: KindId) {
        self.place(name).get_or_init(|| (name.clone().unbind(), number));
    }

    /// Objects lie at multiples of 16, next to each other as often as not: the middle bits of a product tell
    /// them apart.
    fn place(&self, name: &Bound<'_, PyString>) -> &OnceLock<(Py<PyString>, KindId)> {
        let address = name.as_ptr() as u64;
        let mixed = (address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.0[mixed as usize % Self::PLACES]
    }
}
