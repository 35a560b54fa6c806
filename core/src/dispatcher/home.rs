//! Where the bodies of a consumer's leases come back to.
//!
//! Whoever asks and answers on one thread uses the body of an ended lease for the next one by itself. Answers by
//! ticket come from anywhere: they leave the bodies here, and the consumer takes them all when it has none.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Inner;
use super::lease::Body;

/// The most bodies that wait for their consumer.
const ROOM: usize = 256;

/// The bodies of one consumer that have nothing to do; `None` once the consumer is gone.
#[derive(Debug)]
pub(super) struct Home(Mutex<Option<Bodies>>);

pub(super) type Bodies = Vec<Box<Body>>;

impl Home {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Vec::new()))))
    }

    /// Takes a body in that has been cleared, or gives it back for want of room.
    pub(super) fn take_in(&self, body: Box<Body>) -> Option<Box<Body>> {
        match &mut *self.0.lock() {
            Some(bodies) if bodies.len() < ROOM => {
                bodies.push(body);
                None
            }
            _ => Some(body),
        }
    }

    /// Gives all bodies to `spare`, which is empty.
    fn empty_into(&self, spare: &mut Bodies) {
        if let Some(bodies) = &mut *self.0.lock() {
            std::mem::swap(bodies, spare);
        }
    }

    /// Takes no more bodies in, and gives out those that it has. They know this home and would hold it, and the
    /// dispatcher, for ever.
    fn close(&self) -> Bodies {
        self.0.lock().take().unwrap_or_default()
    }
}

/// The bodies for a consumer's next leases.
#[derive(Debug)]
pub(super) struct Spares {
    bodies: Bodies,
    home: Arc<Home>,
    /// How many to keep at hand.
    most: usize,
}

impl Spares {
    /// Keeps up to this many at hand.
    pub(super) fn keeping(most: usize) -> Self {
        Self {
            bodies: Vec::new(),
            home: Home::new(),
            most,
        }
    }

    /// A body for a lease to come.
    pub(super) fn body(&mut self, inner: &Arc<Inner>) -> Box<Body> {
        if self.bodies.is_empty() {
            self.home.empty_into(&mut self.bodies);
        }
        let body = self.bodies.pop();
        body.unwrap_or_else(|| Body::new(inner, &self.home))
    }

    /// Keeps a body at hand that has been cleared, or gives it back for want of room.
    pub(super) fn keep(&mut self, body: Box<Body>) -> Option<Box<Body>> {
        if self.bodies.len() < self.most {
            self.bodies.push(body);
            return None;
        }
        Some(body)
    }

    /// There will be no more leases.
    pub(super) fn dismiss(self) {
        let left = self.home.close();
        self.bodies.into_iter().chain(left).for_each(Body::retire);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::dispatcher::{Dispatcher, KindSet, Lease};
    use crate::time::{Deadline, ManualClock};
    use crate::{NewJob, Options, Outcome};

    #[test]
    fn bodies_hold_no_dispatcher_once_their_consumer_is_gone() {
        // A clock that stands still has no upkeep thread, which would hold it as well.
        let clock = Arc::new(ManualClock::new());
        let d = Dispatcher::open_with_clock("memory:", Options::default(), clock).unwrap();
        let alone = Arc::strong_count(&d.0);
        for consumer_goes_first in [false, true] {
            for _ in 0..3 {
                d.push(NewJob::new("k", ())).unwrap();
            }
            let mut consumer = d.consumer(Arc::new(KindSet::any()));
            let mut leases = Vec::new();
            consumer.next_many(3, Deadline::NEVER, &mut leases).unwrap();
            let held = Arc::strong_count(&d.0);
            let tickets: Vec<_> = leases.into_iter().map(Lease::park).collect();
            let finish = || {
                let done = tickets.iter().map(|ticket| (*ticket, Outcome::done()));
                d.finish(done).unwrap()
            };
            if consumer_goes_first {
                drop(consumer);
                finish();
            } else {
                finish();
                assert_eq!(Arc::strong_count(&d.0), held, "they are at home");
                drop(consumer);
            }
            assert_eq!(Arc::strong_count(&d.0), alone);
        }
    }
}
