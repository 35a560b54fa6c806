//! What this process knows about kinds: their policies, their limits, and their Rust handlers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::gate::KindGate;
use super::slots::Permits;
use crate::config::{KindOptions, Options};
use crate::engine::KindClaim;
use crate::error::Result;
use crate::names::KindId;
use crate::outcome::Outcome;
use crate::time::Timestamp;

use super::{Inner, Lease};

/// What runs a job of some kind. Called from any number of threads at once.
///
/// A panic is a failed attempt with the panic's text.
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt.
    fn run(&self, lease: &Lease) -> Outcome;
}

#[derive(Clone, Default)]
pub(crate) struct Entry {
    pub(crate) options: KindOptions,
    pub(crate) permits: Option<Arc<Permits>>,
    pub(crate) handler: Option<Arc<dyn Handler>>,
}

/// What holds where a kind says nothing, and what the rules of a kind need to begin.
pub(crate) struct Defaults<'a> {
    pub(crate) options: &'a Options,
    /// Whether the engine can limit concurrency keys.
    pub(crate) keys: bool,
    pub(crate) now: Timestamp,
}

/// The table of kinds.
#[derive(Default)]
pub(crate) struct Kinds {
    table: RwLock<Vec<Option<Arc<Entry>>>>,
    /// What holds back the starts of kinds, where anything does.
    gates: RwLock<Vec<Option<Arc<KindGate>>>>,
    version: AtomicU64,
    /// The kinds that have a Rust handler here.
    pub(crate) handled: Arc<KindSet>,
    /// The kinds that have consumers of their own, as those with an async handler do.
    owners: Mutex<HashMap<KindId, Arc<KindSet>>>,
}

impl Kinds {
    pub(crate) fn get(&self, kind: KindId) -> Option<Arc<Entry>> {
        self.table.read().get(kind.index()).cloned().flatten()
    }

    /// The kinds of which something is known, with what they have of their own.
    pub(super) fn declared(&self) -> Vec<(KindId, KindOptions)> {
        let table = self.table.read();
        let known = table
            .iter()
            .enumerate()
            .filter_map(|(i, entry)| Some((i, entry.as_ref()?)));
        known
            .map(|(i, entry)| (KindId(i as u16), entry.options))
            .collect()
    }

    /// Adds or replaces what is known of a kind. The permits survive, so that a replaced handler cannot
    /// exceed the limit together with the new one.
    pub(crate) fn set(
        &self,
        kind: KindId,
        options: KindOptions,
        handler: Option<Arc<dyn Handler>>,
        defaults: &Defaults<'_>,
    ) -> Result<()> {
        options.check(&defaults.options.retry, defaults.options.max_attempts)?;
        let handled = handler.is_some();
        let mut table = self.table.write();
        if table.len() <= kind.index() {
            table.resize(kind.index() + 1, None);
        }
        let old = table[kind.index()].take();
        let counted = options.concurrency.is_some() || KindGate::counts(&options);
        let limit = options.concurrency.unwrap_or(usize::MAX);
        let permits = match (counted, old.as_ref().and_then(|e| e.permits.clone())) {
            // Also without a limit they are counted on: another limit may come while bodies run.
            (_, Some(permits)) => Some(permits),
            (true, None) => Some(Arc::new(Permits::new(limit))),
            (false, None) => None,
        };
        self.set_gate(kind, &options, permits.clone(), defaults);
        table[kind.index()] = Some(Arc::new(Entry {
            options,
            permits,
            handler,
        }));
        drop(table);
        // What the old handler owns may run code of the host as it goes: never under the lock.
        drop(old);
        self.version.fetch_add(1, Ordering::SeqCst);
        self.hand_over(kind, None);
        if handled {
            self.handled.add(kind);
        } else {
            self.handled.remove(kind);
        }
        Ok(())
    }

    /// What holds back the starts of a kind, if anything does.
    pub(super) fn gate(&self, kind: KindId) -> Option<Arc<KindGate>> {
        self.gates.read().get(kind.index()).cloned().flatten()
    }

    fn set_gate(
        &self,
        kind: KindId,
        options: &KindOptions,
        permits: Option<Arc<Permits>>,
        defaults: &Defaults<'_>,
    ) {
        let budget = options.retry_budget.or(Some(defaults.options.retry_budget));
        let options = KindOptions {
            retry_budget: budget,
            ..*options
        };
        let mut gates = self.gates.write();
        if gates.len() <= kind.index() {
            gates.resize(kind.index() + 1, None);
        }
        let gate = &mut gates[kind.index()];
        if let Some(last) = gate {
            last.retire();
        }
        // The one limit or the other: none in between, through which jobs would slip.
        let (limit, plain) = (options.concurrency.unwrap_or(usize::MAX), permits.clone());
        *gate = KindGate::new(
            kind,
            &options,
            defaults.keys,
            permits,
            gate.as_deref(),
            defaults.now,
        )
        .map(Arc::new);
        if let (None, Some(permits)) = (&gate, plain) {
            permits.set_limit(limit);
        }
    }

    /// Kinds that nobody has declared keep to the dispatcher's retry budget, too.
    fn hold_undeclared(&self, known: usize, defaults: &Defaults<'_>) {
        if defaults.options.retry_budget.is_none() {
            return;
        }
        // Held, so that nobody declares one of them between the look and the rule.
        let table = self.table.read();
        let undeclared = |kind: &KindId| table.get(kind.index()).is_none_or(Option::is_none);
        for kind in (0..known).map(|i| KindId(i as u16)).filter(undeclared) {
            if self.gate(kind).is_none() {
                self.set_gate(kind, &KindOptions::new(), None, defaults);
            }
        }
    }

    /// Gives a kind to consumers of its own, or to the common ones: who had it for his own asks for it no
    /// more.
    pub(crate) fn hand_over(&self, kind: KindId, to: Option<Arc<KindSet>>) {
        let mut owners = self.owners.lock();
        let former = match to {
            Some(set) => owners.insert(kind, set),
            None => owners.remove(&kind),
        };
        drop(owners);
        if let Some(former) = former {
            former.remove(kind);
        }
    }

    /// Lets every handler go. A handler that pushes owns a handle to its dispatcher; this ends the cycle.
    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut *self.table.write());
        // What handlers own may run code of the host as it goes: never under the lock.
        drop(old);
    }

    /// Takes the handler of a kind away; the options stay. True if there was one.
    pub(crate) fn remove(&self, kind: KindId) -> bool {
        self.handled.remove(kind);
        let mut table = self.table.write();
        let Some(old) = table.get_mut(kind.index()).and_then(Option::take) else {
            return false;
        };
        table[kind.index()] = Some(Arc::new(Entry {
            handler: None,
            ..(*old).clone()
        }));
        drop(table);
        self.version.fetch_add(1, Ordering::SeqCst);
        // `old` goes only here, outside the lock.
        old.handler.is_some()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// What a consumer of `set` asks of each kind when every permit is free.
    pub(crate) fn claims(&self, set: &KindSet, known: usize, defaults: &Defaults<'_>) -> Vec<Asked> {
        self.hold_undeclared(known, defaults);
        let table = self.table.read();
        (0..known)
            .map(|i| {
                let kind = KindId(i as u16);
                let entry = table.get(i).cloned().flatten();
                let options = entry.as_ref().map(|e| e.options).unwrap_or_default();
                let claim = KindClaim {
                    allowance: if set.has(kind) { u32::MAX } else { 0 },
                    max_attempts: options.max_attempts.unwrap_or(defaults.options.max_attempts),
                    timeout: options.timeout.or(defaults.options.timeout),
                };
                let (permits, handler) =
                    entry.map_or((None, None), |e| (e.permits.clone(), e.handler.clone()));
                Asked {
                    claim,
                    permits,
                    gate: self.gate(kind),
                    handler,
                }
            })
            .collect()
    }
}

/// What a consumer asks of one kind, and the limit it must respect.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) claim: KindClaim,
    pub(crate) permits: Option<Arc<Permits>>,
    pub(super) gate: Option<Arc<KindGate>>,
    pub(crate) handler: Option<Arc<dyn Handler>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked")
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

/// A set of kinds that consumers share and that can grow while they run. Any thread.
#[derive(Debug)]
pub struct KindSet {
    extent: Extent,
    members: RwLock<Vec<bool>>,
    version: AtomicU64,
    /// The same for sets that always have the same members.
    profile: u64,
    /// The dispatchers whose consumers take from this set.
    users: Mutex<Vec<Weak<Inner>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extent {
    Any,
    /// What it was made of.
    Fixed,
    Growing,
}

impl Default for KindSet {
    fn default() -> Self {
        Self::new()
    }
}

impl KindSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self::with(Extent::Growing, Vec::new(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Every kind, known now or later.
    #[must_use]
    pub fn any() -> Self {
        Self::with(Extent::Any, Vec::new(), 0)
    }

    /// Just these kinds, for good. A job wakes one of the consumers that ask for the same, whether they share a set
    /// like this or have one each; consumers of sets that can grow only ask for the same if they share it.
    #[must_use]
    pub fn of(kinds: impl IntoIterator<Item = KindId>) -> Self {
        let mut members = Vec::new();
        kinds.into_iter().for_each(|kind| insert(&mut members, kind));
        let mut fingerprint = DefaultHasher::new();
        members.hash(&mut fingerprint);
        // Growing sets count from below.
        let profile = fingerprint.finish() | 1 << 63;
        Self::with(Extent::Fixed, members, profile)
    }

    fn with(extent: Extent, members: Vec<bool>, profile: u64) -> Self {
        Self {
            extent,
            members: RwLock::new(members),
            version: AtomicU64::new(0),
            profile,
            users: Mutex::default(),
        }
    }

    /// Adds a kind; consumers that sleep look again. A set that was made by [`any`](KindSet::any) or
    /// [`of`](KindSet::of) stays as it is.
    pub fn add(&self, kind: KindId) {
        if self.extent != Extent::Growing {
            return;
        }
        insert(&mut self.members.write(), kind);
        self.version.fetch_add(1, Ordering::SeqCst);
        let users: Vec<_> = self.users.lock().iter().filter_map(Weak::upgrade).collect();
        for user in users {
            user.engine.signals().work.ring_all();
        }
    }

    /// Notes that consumers of this dispatcher take from the set.
    pub(crate) fn serve(&self, user: &Arc<Inner>) {
        let mut users = self.users.lock();
        users.retain(|u| u.strong_count() > 0);
        if !users.iter().any(|u| u.as_ptr() == Arc::as_ptr(user)) {
            users.push(Arc::downgrade(user));
        }
    }

    /// Takes a kind away, if the set is one that grows.
    pub fn remove(&self, kind: KindId) {
        if self.extent != Extent::Growing {
            return;
        }
        if let Some(member) = self.members.write().get_mut(kind.index()) {
            *member = false;
        }
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the kind is in the set.
    #[must_use]
    pub fn has(&self, kind: KindId) -> bool {
        self.extent == Extent::Any || self.members.read().get(kind.index()).copied().unwrap_or(false)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    pub(crate) fn profile(&self) -> u64 {
        self.profile
    }
}

fn insert(members: &mut Vec<bool>, kind: KindId) {
    if members.len() <= kind.index() {
        members.resize(kind.index() + 1, false);
    }
    members[kind.index()] = true;
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;
    use crate::Dispatcher;
    use crate::job::NewJob;
    use crate::time::Deadline;

    /// A handler that uses the dispatcher as it goes.
    struct Busy(Dispatcher);

    impl Handler for Busy {
        fn run(&self, _: &Lease) -> Outcome {
            Outcome::done()
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            self.0
                .declare("other", KindOptions::new())
                .expect("no lock is held");
        }
    }

    #[test]
    fn a_sleeping_consumer_hears_of_a_new_kind() {
        let d = Dispatcher::in_memory().expect("a thread can be had");
        d.push(crate::NewJob::new("k", ())).expect("there is room");
        let set = Arc::new(KindSet::new());
        let mut consumer = d.consumer(set.clone());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| consumer.next(Deadline::after(Duration::from_secs(60))));
            assert!(d.settle_to(1, Duration::from_secs(60)), "it waits");
            set.add(d.kind("k").expect("a valid name"));
            let lease = waiting
                .join()
                .expect("it does not panic")
                .expect("the store works");
            assert!(lease.is_some());
        });
    }

    #[test]
    fn a_handler_goes_without_a_lock() {
        let d = Dispatcher::in_memory().unwrap();
        let register = || d.register_handler("k", KindOptions::new(), Arc::new(Busy(d.clone())));
        let kind = register().unwrap();
        register().unwrap();
        assert!(d.handled().has(kind));
        assert!(d.unregister("k").unwrap());
        assert!(!d.handled().has(kind) && d.handler(kind).is_none());
        assert!(!d.unregister("k").unwrap(), "once");
        assert!(!d.unregister("unheard of").unwrap());
        register().unwrap();
        d.declare("k", KindOptions::new()).unwrap();
        assert!(
            !d.handled().has(kind),
            "a host that runs the kind itself takes it over"
        );
    }

    /// A handler that waits in its call, and tells when it goes.
    struct Slow {
        called: mpsc::Sender<()>,
        go: Mutex<mpsc::Receiver<()>>,
        gone: mpsc::Sender<()>,
    }

    impl Handler for Slow {
        fn run(&self, _: &Lease) -> Outcome {
            let _ = self.called.send(());
            let _ = self.go.lock().recv_timeout(LONG);
            Outcome::done()
        }
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.gone.send(());
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_handler_goes_when_its_last_call_has_returned() {
        for replace in [false, true] {
            let (called, calls) = mpsc::channel();
            let (go, wait) = mpsc::channel();
            let (gone, goes) = mpsc::channel();
            let handler = Slow {
                called,
                go: Mutex::new(wait),
                gone,
            };
            let d = Dispatcher::in_memory().unwrap();
            d.register_handler("k", KindOptions::new(), Arc::new(handler))
                .unwrap();
            d.start().unwrap();
            d.push(NewJob::new("k", ())).unwrap();
            calls.recv_timeout(LONG).unwrap();
            if replace {
                d.register("k", |_| ()).unwrap();
            } else {
                assert!(d.unregister("k").unwrap());
            }
            assert!(goes.try_recv().is_err(), "not during its call");
            go.send(()).unwrap();
            goes.recv_timeout(LONG).expect("no worker keeps it");
        }
    }
}
