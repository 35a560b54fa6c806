//! Queues whose jobs are passed on and not run here: what the rest of the dispatcher has to know of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Consumer, Dispatcher, Inner, KindSet};
use crate::error::{Error, Result};
use crate::event::{Event, EventKind};
use crate::names::QueueId;
use crate::time::Timestamp;

/// The queues that are passed on.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    /// Whether there are any: claims look at this.
    any: AtomicBool,
    all: RwLock<Vec<Arc<Relay>>>,
}

/// A queue that is passed on, until this is ended.
#[derive(Debug)]
pub(crate) struct Relay {
    queue: QueueId,
    /// Where its jobs go, for people.
    pub(crate) sink: Arc<str>,
    /// Whether they go there as bytes.
    encodes: bool,
    failing: Mutex<Option<Failing>>,
}

/// Why nothing can be passed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failing {
    pub(crate) since: Timestamp,
    pub(crate) why: Arc<str>,
}

impl Relays {
    /// Whether the jobs of this queue are passed on.
    pub(crate) fn has(&self, queue: QueueId) -> bool {
        self.any() && self.find(queue).is_some()
    }

    /// Whether any queue is passed on, or was.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Whether payloads of this queue must be such as can be written.
    pub(crate) fn encodes(&self, queue: QueueId) -> bool {
        self.any.load(Ordering::Relaxed) && self.find(queue).is_some_and(|relay| relay.encodes)
    }

    pub(crate) fn find(&self, queue: QueueId) -> Option<Arc<Relay>> {
        self.all.read().iter().find(|relay| relay.queue == queue).cloned()
    }
}

impl Relay {
    /// Since when nothing can be passed on, and why.
    pub(crate) fn failing(&self) -> Option<Failing> {
        self.failing.lock().clone()
    }

    /// Nothing can be passed on, for this reason; `now` counts if it could before. True if it could.
    pub(crate) fn fails(&self, why: Arc<str>, now: Timestamp) -> bool {
        let mut failing = self.failing.lock();
        let worked = failing.is_none();
        let since = failing.as_ref().map_or(now, |f| f.since);
        *failing = Some(Failing { since, why });
        worked
    }

    /// Jobs can be passed on. True if they could not.
    pub(crate) fn works(&self) -> bool {
        self.failing.lock().take().is_some()
    }
}

impl Consumer {
    /// The present instant of its dispatcher's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// Tells that its jobs cannot be passed on, for this reason, or can be again.
    pub(crate) fn tell_of_relay(&self, relay: &Relay, why: Option<&str>) {
        let kind = match why {
            Some(_) => EventKind::ForwardFailed,
            None => EventKind::ForwardRecovered,
        };
        if self.inner.events.wanted(kind) {
            self.inner.emit(&Event {
                queue: Some(relay.queue),
                text: why.map(Into::into),
                ..Event::of_all(kind, self.inner.now())
            });
        }
    }

    /// Gives the jobs of a queue that was passed on back to everybody.
    pub(crate) fn end_relay(&self, relay: &Relay) {
        self.inner.end_relay(relay);
    }
}

impl Dispatcher {
    /// Takes the jobs of a queue out of everybody else's hands, to pass them on to `sink`.
    ///
    /// # Errors
    /// `Invalid` if they are passed on already; `Closed`, `Forked`.
    pub(crate) fn relay(&self, queue: &str, sink: Arc<str>, encodes: bool) -> Result<(Arc<Relay>, Consumer)> {
        let inner = &self.0;
        inner.check_open()?;
        let id = self.queue(queue)?;
        let relay = Arc::new(Relay {
            queue: id,
            sink,
            encodes,
            failing: Mutex::default(),
        });
        let mut all = inner.relays.all.write();
        if let Some(other) = all.iter().find(|other| other.queue == id) {
            let text = format!(
                "queue {queue:?} is forwarded to {} already; stop that first",
                other.sink
            );
            return Err(Error::invalid(text));
        }
        all.push(relay.clone());
        inner.relays.any.store(true, Ordering::SeqCst);
        drop(all);
        // Leases have an end only where other processes would have to take the jobs of a dead one.
        let lease = inner.options.lease.filter(|_| inner.engine.capabilities().shared);
        let consumer = self.consumer(Arc::new(KindSet::any()));
        Ok((relay, consumer.queues([id]).lease(lease).relaying()))
    }
}

impl Inner {
    fn end_relay(&self, relay: &Relay) {
        let mut all = self.relays.all.write();
        all.retain(|other| other.queue != relay.queue);
        self.relays.any.store(!all.is_empty(), Ordering::SeqCst);
        drop(all);
        self.engine.signals().work.ring_all();
    }
}
