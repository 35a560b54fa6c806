//! Who is told which leases should stop: consumers that hold so many that they cannot look at each.

use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use super::cells::StopReason;
use super::consumer::Hail;
use super::tickets::Ticket;

/// The consumers that listen, by their number.
#[derive(Debug, Default)]
pub(crate) struct Listeners(RwLock<Vec<(u32, Weak<Hail>)>>);

impl Listeners {
    pub(super) fn add(&self, worker: u32, hail: &Arc<Hail>) {
        let mut all = self.0.write();
        all.retain(|(_, hail)| hail.strong_count() > 0);
        all.push((worker, Arc::downgrade(hail)));
    }

    /// Tells each of them of its own.
    pub(super) fn tell(&self, stopped: Vec<(u32, Ticket, StopReason)>) {
        if stopped.is_empty() {
            return;
        }
        for (worker, hail) in self.0.read().iter() {
            let own = || stopped.iter().filter(|(of, ..)| of == worker);
            if own().next().is_some()
                && let Some(hail) = hail.upgrade()
            {
                hail.tell(own().map(|(_, ticket, reason)| (*ticket, *reason)));
            }
        }
    }
}
