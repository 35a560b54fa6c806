//! Waiting for a reason to stop: for handlers that would rather wait than ask again and again.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::cells::StopReason;
use super::tickets::Ticket;
use super::{Dispatcher, Inner};
use crate::bell::Bell;
use crate::error::Result;
use crate::time::Deadline;

impl Dispatcher {
    /// Waits until whoever works on the job of a ticket should stop, and says why; `None` when the time is over.
    ///
    /// `known` is a reason that the caller has heard already, and does not want to hear again: a handler that was
    /// told [`StopReason::Stopping`] may go on, and be told more. `LeaseLost` for a ticket that no longer counts,
    /// as by [`Dispatcher::stop_reason`], and at once, whatever is known.
    ///
    /// # Errors
    /// `Forked`.
    pub fn wait_stop(
        &self,
        ticket: Ticket,
        known: Option<StopReason>,
        deadline: Deadline,
    ) -> Result<Option<StopReason>> {
        self.0.birth.check()?;
        let alarm = Alarm::set(&self.0, ticket);
        let mut context = Context::from_waker(&alarm.waker);
        loop {
            let listener = alarm.bell.0.listen();
            if let Poll::Ready(reason) = self.poll_stop(ticket, known, &mut context) {
                return Ok(Some(reason));
            }
            if !listener.wait(deadline) {
                return Ok(None);
            }
        }
    }

    /// The same for those who do not wait in here: without a reason, the waker is woken once there may be one. It
    /// is kept until then, or until the ticket no longer counts.
    pub fn poll_stop(
        &self,
        ticket: Ticket,
        known: Option<StopReason>,
        context: &mut Context<'_>,
    ) -> Poll<StopReason> {
        let reason = self.0.cells.reason_or_listen(ticket, known, context.waker());
        reason.map_or(Poll::Pending, Poll::Ready)
    }
}

/// Wakes a thread that waits for a ticket, until it is dropped.
struct Alarm<'a> {
    bell: Arc<Ring>,
    waker: Waker,
    inner: &'a Inner,
    ticket: Ticket,
}

#[derive(Default)]
struct Ring(Bell);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }
}

impl<'a> Alarm<'a> {
    fn set(inner: &'a Inner, ticket: Ticket) -> Self {
        let bell = Arc::new(Ring::default());
        Self {
            waker: bell.clone().into(),
            bell,
            inner,
            ticket,
        }
    }
}

/// A handler that waits again and again leaves nothing behind.
impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.inner.cells.unlisten(self.ticket, &self.waker);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;
