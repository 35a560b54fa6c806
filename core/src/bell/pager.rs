//! A registration that lasts: of one who does not wait in the bell but for a descriptor.

use std::sync::Arc;

use super::{Bell, Register};
use crate::error::Result;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::lock;
use crate::wakeup::Wakeup;

/// What a ring makes readable. Its owner hangs it up at a bell ([`Bell::hang_up`]) when it has found nothing, and
/// takes it down ([`Bell::take_down`]) before it looks again. A ring takes it down, too, so that the next ring is
/// for somebody else: whoever was rung and does not come has to pass the ring on, which [`Bell::retire`] does.
#[derive(Debug)]
pub(crate) struct Pager {
    pub(crate) wakeup: Wakeup,
    /// Where it hangs, or [`DOWN`]. Changed while the register is locked.
    place: AtomicUsize,
    /// Whether a ring took it down and its owner has not looked since.
    rung: AtomicBool,
}

const DOWN: usize = usize::MAX;

impl Pager {
    /// One that is readable, so that its owner looks first.
    ///
    /// # Errors
    /// As [`Wakeup::new`].
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            wakeup: Wakeup::new()?,
            place: AtomicUsize::new(DOWN),
            rung: AtomicBool::new(false),
        }))
    }
}

impl Bell {
    /// Registers a pager until a ring takes it. Its descriptor is not readable until then, but for rings that are
    /// late. Look at the condition after this; if it is true, take it down and make it readable.
    pub(crate) fn hang_up(&self, pager: &Arc<Pager>) {
        pager.wakeup.rearm();
        let mut register = lock(&self.register);
        if pager.place.load(Ordering::SeqCst) == DOWN {
            pager.place.store(register.pagers.len(), Ordering::SeqCst);
            register.pagers.push(pager.clone());
            self.publish(&register);
        }
        drop(register);
        fence(Ordering::SeqCst);
    }

    /// Takes a pager down, if it hangs here: its owner is about to look. True if it had been rung.
    pub(crate) fn take_down(&self, pager: &Pager) -> bool {
        if pager.place.load(Ordering::SeqCst) != DOWN {
            let mut register = lock(&self.register);
            register.remove(pager);
            self.publish(&register);
        }
        pager.rung.swap(false, Ordering::SeqCst)
    }

    /// Takes a pager down for good. If it was rung and its owner has not come, somebody else is.
    pub(crate) fn retire(&self, pager: &Pager) {
        if self.take_down(pager) {
            self.ring();
        }
    }
}

impl Register {
    /// Takes down up to `count` pagers that are to be rung.
    pub(super) fn page(&mut self, count: usize) -> Vec<Arc<Pager>> {
        let left = self.pagers.len().saturating_sub(count);
        if left == self.pagers.len() {
            return Vec::new();
        }
        let paged = self.pagers.split_off(left);
        for pager in &paged {
            // In this order: its owner, who sees without the lock that it is down, must see why.
            pager.rung.store(true, Ordering::SeqCst);
            pager.place.store(DOWN, Ordering::SeqCst);
        }
        paged
    }

    fn remove(&mut self, pager: &Pager) {
        let place = pager.place.load(Ordering::SeqCst);
        // A ring may have been quicker.
        if place != DOWN {
            self.pagers.swap_remove(place);
            pager.place.store(DOWN, Ordering::SeqCst);
            if let Some(moved) = self.pagers.get(place) {
                moved.place.store(place, Ordering::SeqCst);
            }
        }
    }
}
