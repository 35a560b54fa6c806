//! The dispatcher: the face of Forebay, and the one place where the rules meet an engine.
//!
//! A job's way through this folder is told in `README.md` beside this file; each arrow there is one call
//! here: [`push`](Dispatcher::push) → [`Consumer::next`] → [`Lease::run`] → [`Lease::complete`], with
//! upkeep beside it.

mod again;
mod alarm;
mod alike;
mod ask;
mod cells;
mod consumer;
mod dumps;
mod events;
mod explain;
mod gate;
mod governor;
mod handover;
mod held;
mod home;
mod hooks;
mod keys;
mod kinds;
mod lease;
mod manage;
mod overflow;
mod pace;
mod prepared;
mod pressure;
mod push;
mod pushed;
mod queues;
mod relays;
mod renewal;
mod restore;
mod room;
mod served;
mod settle;
mod slots;
mod stop;
mod submit;
mod sweeper;
mod tickets;
mod told;
mod unheard;
mod wait;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, ReentrantMutex, RwLock};

pub use alike::seed;
pub use cells::StopReason;
pub use consumer::{Consumer, Interrupt};
pub use events::Subscription;
pub use explain::{Explanation, QueueExplanation, Why};
pub use hooks::{End, Hooks};
pub use kinds::{Handler, KindSet};
#[cfg(feature = "tokio")]
pub(crate) use lease::panicked;
pub use lease::{Inside, Lease, Stopped};
pub use manage::{QueueStats, Stats};
pub use pushed::{PushError, PushManyError, Pushed};
pub(crate) use relays::Relay;
pub(crate) use restore::RestoredJob;
pub use settle::Answer;
pub(crate) use settle::random;
pub use stop::StopReport;
pub use tickets::Ticket;
pub use wait::Awaits;
pub use watcher::Watcher;

use crate::config::{KindOptions, Options, QueueOptions};
use crate::durability::Durability;
use crate::engine::{Capabilities, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Events;
use crate::fork::Birth;
use crate::names::{KindId, QueueId};
use crate::time::{Clock, SystemClock, Timestamp};
use cells::Cells;
use dumps::Dumps;
use gate::Gates;
use hooks::HookList;
use kinds::{Defaults, Kinds};
use queues::{Bounds, Own, check_capable};
use relays::Relays;
use served::Served;
use slots::Slots;
use stop::{AtStop, Ending, StopOnce};
use submit::Submissions;
use sweeper::AtAdvance;

const OPEN: u8 = 0;
const STOPPING: u8 = 1;
/// Nothing is accepted any more; the threads are ending and the dump is being written.
const SEALED: u8 = 2;
const STOPPED: u8 = 3;

/// A queue of jobs with everything around it. Cloning is cheap and gives another handle to the same
/// dispatcher; when the last one is dropped it stops without a grace.
///
/// Threads: any, at once.
#[derive(Clone)]
pub struct Dispatcher(
    pub(crate) Arc<Inner>,
    #[expect(dead_code, reason = "it is held for what its drop does")] Arc<LastHandle>,
);

/// What a dispatcher is made of. Leases and threads hold it; handles of the user hold [`LastHandle`] too.
pub(crate) struct Inner {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) node: Arc<str>,
    /// The most that the engine can make a job survive.
    most_durable: Durability,
    /// Whether results leave the memory, so that every one must be encodable.
    encodes: bool,
    pub(crate) kinds: Kinds,
    pub(crate) slots: Slots,
    gates: Gates,
    pub(crate) cells: Cells,
    pub(crate) events: Events,
    pub(crate) hooks: HookList,
    pub(crate) dumps: Dumps,
    pub(crate) relays: Relays,
    served: Served,
    submissions: Submissions,
    pub(crate) birth: Birth,
    /// Which dispatcher of this process, from 1.
    serial: u64,
    default_queue: QueueId,
    /// What holds for queues that have nothing of their own.
    queue_defaults: QueueOptions,
    default_bounds: Bounds,
    queues: RwLock<Vec<Own>>,
    /// Held by whoever changes one of these.
    adjusting: Mutex<()>,
    /// Which queues were last said to be above their high watermark.
    highs: Mutex<Vec<bool>>,
    /// Whether any queue has options of its own.
    own_options: AtomicBool,
    phase: crate::sync::atomic::AtomicU8,
    prune_armed: AtomicBool,
    /// Whether payloads leave the memory, so that every one must be encodable.
    must_encode: AtomicBool,
    sweeper: Mutex<Option<JoinHandle<()>>>,
    renewal: Mutex<Option<JoinHandle<()>>>,
    at_stop: Mutex<Vec<Ending>>,
    at_advance: Mutex<Vec<AtAdvance>>,
    stop_once: ReentrantMutex<StopOnce>,
    /// Whether worker threads have been started.
    pub(crate) started: AtomicBool,
    /// What handlers of this dispatcher wait for, each for another job.
    awaited: Mutex<Vec<crate::JobId>>,
    /// Where the store fails: a [`StorePlace`](events::StorePlace), or 0.
    store_failing: AtomicU8,
}

/// Stops the dispatcher when the last handle goes.
struct LastHandle {
    inner: Arc<Inner>,
    /// Whether this is the user's, rather than one for the time of a stop.
    stops: bool,
}

impl Dispatcher {
    /// A dispatcher over `engine`, with the system's clock.
    ///
    /// # Errors
    /// `Invalid` for options that do not fit together; `NoMemory` if no thread can be started.
    pub fn with_engine(engine: Arc<dyn Engine>, options: Options) -> Result<Self> {
        Self::with_clock(engine, options, Arc::new(SystemClock))
    }

    /// A dispatcher over `engine`, with this clock.
    ///
    /// # Errors
    /// As [`Dispatcher::with_engine`].
    pub fn with_clock(engine: Arc<dyn Engine>, options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        options.check()?;
        let can = engine.capabilities();
        let queue_defaults = options.of_queues();
        check_capable(&queue_defaults, &can)?;
        let default_queue = engine.names().queue(&options.queue)?;
        let default_bounds = Bounds::of(&queue_defaults);
        // Those that are there already: each other one hears of it with its first push.
        for (queue, _) in engine.names().queues() {
            engine.set_resident(queue, default_bounds.resident)?;
        }
        let node = if options.node == "auto" {
            this_node()
        } else {
            Arc::from(options.node.as_str())
        };
        let inner = Arc::new(Inner {
            slots: Slots::new(options.concurrency),
            gates: Gates::new(&queue_defaults),
            most_durable: can.durability,
            encodes: !can.host_objects,
            engine,
            clock,
            options,
            node,
            kinds: Kinds::default(),
            cells: Cells::default(),
            events: Events::default(),
            hooks: HookList::default(),
            dumps: Dumps::default(),
            relays: Relays::default(),
            served: Served::default(),
            submissions: Submissions::default(),
            birth: Birth::here(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            default_queue,
            default_bounds,
            queue_defaults,
            queues: RwLock::default(),
            adjusting: Mutex::default(),
            highs: Mutex::default(),
            own_options: AtomicBool::new(false),
            phase: crate::sync::atomic::AtomicU8::new(OPEN),
            prune_armed: AtomicBool::new(false),
            must_encode: AtomicBool::new(!can.host_objects),
            sweeper: Mutex::new(None),
            renewal: Mutex::new(None),
            at_stop: Mutex::default(),
            at_advance: Mutex::default(),
            stop_once: ReentrantMutex::default(),
            started: AtomicBool::new(false),
            awaited: Mutex::default(),
            store_failing: AtomicU8::new(0),
        });
        let counts = inner.engine.counts()?;
        inner.note_opening(&counts);
        if counts.iter().any(|counts| counts.kept > 0) {
            // Jobs that ended before this was opened are forgotten in their time, too.
            inner.arm_prune();
        }
        let sweeper = inner.start_sweeper()?;
        *inner.sweeper.lock() = sweeper;
        let handle = LastHandle {
            inner: inner.clone(),
            stops: true,
        };
        let dispatcher = Self(inner, Arc::new(handle));
        let renewal = dispatcher.0.start_renewal()?;
        *dispatcher.0.renewal.lock() = renewal;
        Ok(dispatcher)
    }

    /// The options it was opened with.
    #[must_use]
    #[inline]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// The name of the engine's kind: `memory`, `sqlite`, ...
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.0.engine.name()
    }

    /// The name of this node in histories.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// The present instant of its clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// The number of a queue, for [`NewJob::queue`](crate::NewJob::queue).
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one.
    pub fn queue(&self, name: &str) -> Result<QueueId> {
        self.0.engine.names().queue(name)
    }

    /// The number of a kind, for [`NewJob::new`](crate::NewJob::new).
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one.
    pub fn kind(&self, name: &str) -> Result<KindId> {
        self.0.engine.names().kind(name)
    }

    /// The number of the queue whose name is these bytes, if anyone has named it: for bindings, which need to check
    /// only names that are new.
    #[must_use]
    pub fn look_up_queue(&self, name: &[u8]) -> Option<QueueId> {
        self.0.engine.names().look_up_queue(name)
    }

    /// The number of the kind whose name is these bytes, if anyone has named it.
    #[must_use]
    pub fn look_up_kind(&self, name: &[u8]) -> Option<KindId> {
        self.0.engine.names().look_up_kind(name)
    }

    /// The name of a queue.
    #[must_use]
    pub fn queue_name(&self, queue: QueueId) -> Arc<str> {
        self.0.engine.names().queue_name(queue)
    }

    /// The name of a kind.
    #[must_use]
    pub fn kind_name(&self, kind: KindId) -> Arc<str> {
        self.0.engine.names().kind_name(kind)
    }

    /// Says how jobs of a kind are to be run by this process, for hosts that run the handlers themselves
    /// (see [`Dispatcher::consumer`]). May be called again; later jobs follow the later options. A Rust
    /// handler of the kind is let go: the host runs it from now on.
    ///
    /// # Errors
    /// `Invalid` for a bad name or options; `Closed`; `Forked`.
    pub fn declare(&self, kind: &str, options: KindOptions) -> Result<KindId> {
        self.0.set_kind(kind, options, None)
    }

    /// The same, and gives the kind to the consumers of `set`, before anyone who waits for work of that set hears
    /// of it. A kind that was given to another set is taken out of that one.
    ///
    /// # Errors
    /// As [`Dispatcher::declare`]; the set is then as it was.
    pub fn declare_in(&self, set: &Arc<KindSet>, kind: &str, options: KindOptions) -> Result<KindId> {
        let id = self.declare(kind, options)?;
        self.0.kinds.hand_over(id, Some(set.clone()));
        set.add(id);
        self.0.engine.signals().work.ring_all();
        Ok(id)
    }

    /// The kinds that were declared here, or got a handler, with what each has of its own.
    ///
    /// ```
    /// use forebay::{Dispatcher, KindOptions, Options};
    /// let d = Dispatcher::open("memory:", Options::default())?;
    /// let mail = d.declare("mail", KindOptions::new().max_attempts(3))?;
    /// assert_eq!(d.declared(), [(mail, KindOptions::new().max_attempts(3))]);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn declared(&self) -> Vec<(KindId, KindOptions)> {
        self.0.kinds.declared()
    }

    /// Registers a Rust handler for a kind; see [`Dispatcher::start`] for the threads that run it. A
    /// second call replaces the handler for attempts that start later.
    ///
    /// # Errors
    /// As [`Dispatcher::declare`].
    pub fn register_handler(
        &self,
        kind: &str,
        options: KindOptions,
        handler: Arc<dyn Handler>,
    ) -> Result<KindId> {
        self.0.set_kind(kind, options, Some(handler))
    }

    /// Takes the handler of a kind away; true if there was one. Attempts that run go on with it, jobs of
    /// the kind wait from now on.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn unregister(&self, kind: &str) -> Result<bool> {
        self.0.check_open()?;
        let known = self.0.engine.names().find_kind(kind);
        let removed = known.is_some_and(|kind| self.0.kinds.remove(kind));
        // Consumers let go of the handler when they next look.
        self.0.engine.signals().work.ring_all();
        Ok(removed)
    }

    /// The Rust handler of a kind, if one is registered.
    #[must_use]
    pub fn handler(&self, kind: KindId) -> Option<Arc<dyn Handler>> {
        self.0.kinds.get(kind)?.handler.clone()
    }

    /// The kinds that have a Rust handler here; grows as handlers are registered.
    #[must_use]
    pub fn handled(&self) -> Arc<KindSet> {
        self.0.kinds.handled.clone()
    }

    /// Adds calls around the life of every job.
    pub fn add_hooks(&self, hooks: Arc<dyn Hooks>) {
        self.0.hooks.add(hooks);
    }

    /// Whether the dispatcher is stopping or has stopped.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.0.stopping()
    }

    /// Answers `Forked` in the child of a fork, `Ok` elsewhere: for bindings' own entry points.
    ///
    /// # Errors
    /// `Forked`.
    #[inline]
    pub fn check_process(&self) -> Result<()> {
        self.0.birth.check()
    }

    /// `Ok` until the dispatcher has stopped.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn check_open(&self) -> Result<()> {
        self.0.check_open()
    }

    /// What the engine can do beyond the base contract; for hosts that have to know which calls may wait.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.0.engine.capabilities()
    }

    /// Returns when everything that was accepted, finished or changed before is on the disk, or as safe as the
    /// engine can make it.
    ///
    /// # Errors
    /// `Forked`; of the store.
    pub fn flush(&self) -> Result<Durability> {
        self.0.birth.check()?;
        self.0.engine.flush(Durability::Disk)?;
        Ok(self.0.most_durable)
    }

    /// Gives a kind to consumers of its own; those that had it ask for it no more.
    #[cfg(feature = "tokio")]
    pub(crate) fn give_kind(&self, kind: KindId, set: Arc<KindSet>) {
        self.0.kinds.hand_over(kind, Some(set));
    }

    /// Whether its time moves by itself.
    pub(crate) fn clock_runs(&self) -> bool {
        self.0.clock.runs()
    }

    /// Notes that worker threads are started; true if they already were.
    pub(crate) fn mark_started(&self) -> bool {
        self.0.started.swap(true, Ordering::SeqCst)
    }

    /// Adds something that must end with the dispatcher.
    pub(crate) fn at_stop(&self, end: AtStop) {
        self.at_stop_unless(Box::new(|| false), end);
    }

    /// The same of something that may have ended before: whoever adds one takes out those that have.
    pub(crate) fn at_stop_unless(&self, is_over: Box<dyn Fn() -> bool + Send>, end: AtStop) {
        let mut all = self.0.at_stop.lock();
        let over: Vec<_> = all.extract_if(.., |ending| (ending.is_over)()).collect();
        all.push(Ending { is_over, end });
        drop(all);
        // What they hold may run code of the host as it goes: not under the lock.
        drop(over);
    }

    /// Adds something that a thread does where the clock runs, and else whoever moves it.
    pub(crate) fn at_advance(&self, work: AtAdvance) {
        self.0.at_advance.lock().push(work);
    }

    /// From now on refuses payloads that cannot be encoded.
    pub(crate) fn require_encodable(&self) {
        self.0.must_encode.store(true, Ordering::SeqCst);
    }

    /// A handle for a thread of Forebay's own: it does not keep the dispatcher from stopping, and dropping it
    /// stops nothing.
    pub(crate) fn idle_handle(&self) -> Self {
        Self(self.0.clone(), Arc::new(LastHandle::idle(&self.0)))
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn stopping(&self) -> bool {
        self.phase.load(Ordering::SeqCst) != OPEN
    }

    pub(crate) fn stopped(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == STOPPED
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        self.birth.check()?;
        if self.phase.load(Ordering::SeqCst) >= SEALED {
            return Err(closed());
        }
        Ok(())
    }

    /// What a job survives that is pushed at this level, or without one.
    pub(crate) fn level(&self, asked: Option<Durability>) -> Durability {
        asked.unwrap_or(self.options.durability).min(self.most_durable)
    }

    /// How safe the end of an attempt must be before it is answered.
    fn done_level(&self) -> Durability {
        if self.options.sync_done {
            self.level(None)
        } else {
            Durability::Memory
        }
    }

    /// Returns when what this call has changed is as safe as a push would be.
    pub(crate) fn harden(&self) -> Result<()> {
        match self.level(None) {
            Durability::Memory => Ok(()),
            level => self.engine.flush(level),
        }
    }

    /// What holds for kinds that say nothing.
    fn kind_defaults(&self) -> Defaults<'_> {
        Defaults {
            options: &self.options,
            keys: self.engine.capabilities().keys,
            now: self.now(),
        }
    }

    fn set_kind(
        &self,
        kind: &str,
        options: KindOptions,
        handler: Option<Arc<dyn Handler>>,
    ) -> Result<KindId> {
        self.check_open()?;
        let per_key = options
            .adaptive
            .flatten()
            .is_some_and(|adaptive| adaptive.is_per_key());
        if per_key && !self.engine.capabilities().keys {
            let text = "this engine cannot keep option adaptive with per=key; use memory: or a file that one process owns";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let id = self.engine.names().kind(kind)?;
        self.kinds.set(id, options, handler, &self.kind_defaults())?;
        let gate = self.kinds.gate(id);
        self.change_key_rules(id, gate.as_ref().map(|gate| gate.key_rules()));
        if gate.is_some_and(|gate| gate.hears()) {
            self.gates.listen();
        }
        // Jobs of this kind may be waiting for exactly this.
        self.engine.signals().work.ring_all();
        Ok(id)
    }
}

/// The answer to whoever comes too late.
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the dispatcher has stopped; open another one")
}

impl LastHandle {
    /// A handle that does not stop anything when it goes.
    fn idle(inner: &Arc<Inner>) -> Self {
        Self {
            inner: inner.clone(),
            stops: false,
        }
    }
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        let inner = &self.inner;
        if !self.stops || !inner.birth.is_here() {
            return;
        }
        let dispatcher = Dispatcher(inner.clone(), Arc::new(Self::idle(inner)));
        if inner.stopped() || lease::handling(inner).is_none() {
            return dispatcher.end(Duration::ZERO);
        }
        // A handler dropped the last handle, and cannot wait for itself: a thread does it. If there is no
        // thread to be had, at least nothing more is handed out.
        dispatcher.request_stop();
        let _ = crate::threads::spawn("stop", move || dispatcher.end(dispatcher.options().grace));
    }
}

impl Dispatcher {
    /// What the last handle does.
    fn end(&self, grace: Duration) {
        // Nobody is left to hear of a dump that fails; it has left the former file alone.
        let _ = self.stop(grace);
        // Leases that were left to tickets hold the dispatcher, and nobody can use the tickets any more.
        drop(self.0.cells.abandon());
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher")
            .field("engine", &self.0.engine.name())
            .field("node", &self.0.node)
            .finish()
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("engine", &self.engine.name())
            .finish_non_exhaustive()
    }
}

/// Host name and process id.
pub(crate) fn this_node() -> Arc<str> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!(
        "{}:{}",
        if host.is_empty() { "node" } else { host },
        std::process::id()
    )
    .into()
}
