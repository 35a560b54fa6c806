//! The work: claim a batch, give it to the sink, store what became of it.

use std::sync::Arc;
use std::time::Duration;

use super::Control;
use super::sink::{Sink, SinkError, Trouble};
use crate::config::ForwardOptions;
use crate::dispatcher::{Consumer, Lease, Relay, random};
use crate::error::Result;
use crate::outcome::{Failure, FailureKind, Outcome};
use crate::panics::caught;
use crate::time::{Deadline, Timestamp};

/// A queue and its sink. One thread at a time.
pub(super) struct Drain {
    consumer: Consumer,
    relay: Arc<Relay>,
    sink: Box<dyn Sink>,
    options: ForwardOptions,
    control: Arc<Control>,
    /// Claimed together with the end of those before.
    next: Vec<Lease>,
    /// Deliveries in a row that took nothing.
    vain: u32,
    /// Not before this.
    not_before: Timestamp,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// There may be more.
    Work,
    /// There was nothing.
    Nothing,
    /// To try again, from this instant on.
    At(Timestamp),
}

impl Drain {
    pub(super) fn new(
        (consumer, relay): (Consumer, Arc<Relay>),
        sink: Box<dyn Sink>,
        options: ForwardOptions,
        control: Arc<Control>,
    ) -> Self {
        Self {
            consumer,
            relay,
            sink,
            options,
            control,
            next: Vec::new(),
            vain: 0,
            not_before: Timestamp::EPOCH,
        }
    }

    /// How long it is until then.
    pub(super) fn left(&self, time: Timestamp) -> Duration {
        time.since(self.consumer.now())
    }

    /// One delivery, of what there is by the deadline.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub(super) fn round(&mut self, deadline: Deadline) -> Result<Next> {
        if self.left(self.not_before) > Duration::ZERO {
            return Ok(Next::At(self.not_before));
        }
        let (most, next) = (self.options.batch, &mut self.next);
        // What is claimed before the store fails stays there, or it would be dropped without an answer.
        if next.is_empty() && self.consumer.next_many(most, deadline, next)? == 0 {
            return Ok(Next::Nothing);
        }
        let batch = std::mem::take(next);
        let sink = &mut self.sink;
        let answer = caught(|| sink.deliver(&batch))
            .unwrap_or_else(|text| Err(SinkError::down(0, format!("it panicked: {text}"))));
        // One that took them all has no trouble, whatever it says.
        let trouble = answer.err().filter(|e| e.delivered < batch.len());
        let pause = self.judge(batch.len(), trouble.as_ref());
        let taken = trouble.as_ref().map_or(batch.len(), |e| e.delivered);
        let refused = trouble
            .filter(|e| e.trouble == Trouble::Refused)
            .map(|e| e.message);
        let done = batch.into_iter().enumerate().map(|(place, lease)| {
            let outcome = match &refused {
                _ if place < taken => Outcome::done(),
                Some(why) if place == taken => {
                    let text = format!("the sink will not take it: {why}");
                    Outcome::Fatal(Failure::new(FailureKind::Fatal, text))
                }
                _ => Outcome::Returned,
            };
            (lease, outcome)
        });
        // What is handed back must not be claimed again before the pause is over, or after a stop.
        let more = if pause.is_none() { self.options.batch } else { 0 };
        self.consumer.complete_and_next_many(done, more, &mut self.next)?;
        Ok(match pause {
            None => Next::Work,
            Some(pause) => {
                self.not_before = self.consumer.now().after(pause);
                Next::At(self.not_before)
            }
        })
    }

    /// Takes note of what became of a delivery of so many jobs; how long to wait before the next.
    fn judge(&mut self, jobs: usize, trouble: Option<&SinkError>) -> Option<Duration> {
        let now = self.consumer.now();
        let taken = trouble.map_or(jobs, |e| e.delivered);
        let mut stats = self.control.stats.lock();
        stats.deliveries += 1;
        stats.delivered += taken as u64;
        let trouble = trouble.filter(|e| {
            stats.refused += u64::from(e.trouble == Trouble::Refused);
            e.trouble != Trouble::Refused
        });
        let Some(trouble) = trouble else {
            self.vain = 0;
            stats.failing_since = None;
            drop(stats);
            self.works();
            return None;
        };
        self.vain = if taken > 0 { 1 } else { self.vain.saturating_add(1) };
        let pause = self.options.retry.pause(self.vain, random());
        match trouble.trouble {
            Trouble::Busy { after } => {
                stats.busy += 1;
                stats.failing_since = None;
                drop(stats);
                self.works();
                // No pause at all would keep a core busy.
                Some(after.filter(|after| !after.is_zero()).unwrap_or(pause))
            }
            _ => {
                let news = self.relay.fails(trouble.message.as_ref().into(), now);
                stats.failing_since = self.relay.failing().map(|f| f.since);
                stats.last_error = Some(trouble.message.to_string());
                drop(stats);
                if news {
                    self.consumer.tell_of_relay(&self.relay, Some(&trouble.message));
                }
                Some(pause)
            }
        }
    }

    fn works(&self) {
        if self.relay.works() {
            self.consumer.tell_of_relay(&self.relay, None);
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // What was claimed and not given to the sink goes back to where it stood. If the store fails now, the
        // jobs come back when it is opened again.
        let back = self.next.drain(..).map(|lease| (lease, Outcome::Returned));
        let _ = self.consumer.complete_and_next_many(back, 0, &mut Vec::new());
        self.consumer.end_relay(&self.relay);
    }
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain")
            .field("sink", &self.sink.name())
            .finish_non_exhaustive()
    }
}
