//! How full a queue is: a figure that a host reads before it takes more in, and an event when it is too high.

use super::{Dispatcher, Inner};
use crate::admission::{Crossing, Fill, Watermarks, pressure};
use crate::engine::{Load, QueueCounts};
use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::names::QueueId;
use crate::time::Timestamp;

impl Dispatcher {
    /// How full a queue is, from 0 to 1: the greatest share of its bounds that is used (options `capacity` and
    /// `capacity_bytes`; where `on_full` is `spill` it is 1 as soon as jobs wait in the file only), and with
    /// `delay_target` the share that jobs have waited lately of the longest wait it allows; 0 for a queue without
    /// bounds, or one that nobody has named as yet.
    ///
    /// A host that reads it before it takes work in can say "not now" to its own callers (HTTP 429) before the
    /// queue has to. It allocates nothing, and takes no lock but that of `delay_target`, on engines that keep
    /// their jobs in memory.
    ///
    /// # Errors
    /// Of the store; `Forked`.
    ///
    /// ```
    /// # use forebay::{Dispatcher, NewJob, Options};
    /// let mut options = Options::default();
    /// options.capacity = 4;
    /// let d = Dispatcher::open("memory:", options)?;
    /// d.push(NewJob::new("mail", b"hello"))?;
    /// assert_eq!(d.pressure("default")?, 0.25);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn pressure(&self, queue: &str) -> Result<f64> {
        self.0.birth.check()?;
        let queue = self.0.engine.names().find_queue(queue);
        queue.map_or(Ok(0.0), |queue| self.0.pressure(queue))
    }
}

impl Inner {
    pub(super) fn pressure(&self, queue: QueueId) -> Result<f64> {
        Ok(self.pressure_of(queue, self.engine.load(queue)?))
    }

    /// The same of what has been counted before.
    pub(super) fn counted_pressure(&self, counts: &QueueCounts) -> f64 {
        let bytes = match self.bounds(counts.queue).full().bytes {
            0 => 0,
            _ => self.engine.load(counts.queue).map_or(0, |load| load.bytes),
        };
        let jobs = counts.waiting() as usize;
        self.pressure_of(counts.queue, Load { jobs, bytes })
    }

    fn pressure_of(&self, queue: QueueId, load: Load) -> f64 {
        let bounds = self.bounds(queue).full();
        let fill = |used, most| Fill { used, most };
        let delay = self.gate(queue).map_or(0.0, |gate| gate.pressure(self.now()));
        pressure(
            fill(load.jobs, bounds.jobs),
            fill(load.bytes, bounds.bytes),
            delay,
        )
    }

    /// Tells whoever listens when the pressure of a queue has crossed a watermark. Whoever changes what waits
    /// calls it afterwards, so the last of them sees what is true in the end.
    ///
    /// A store that others use as well would have to be asked after every job: there are no such events of it.
    pub(super) fn watch_pressure(&self, queue: QueueId, at: Timestamp) {
        if self.engine.capabilities().shared {
            return;
        }
        let rules = self.rules(queue);
        let marks = Watermarks {
            high: rules.high_watermark.unwrap_or(1.0),
            low: rules.low_watermark.unwrap_or(0.0),
        };
        // One at a time, so that the two events take turns for whoever hears them.
        let mut highs = self.highs.lock();
        let Ok(pressure) = self.pressure(queue) else {
            return;
        };
        if highs.len() <= queue.index() {
            highs.resize(queue.index() + 1, false);
        }
        let Some(crossing) = marks.crossed(highs[queue.index()], pressure) else {
            return;
        };
        highs[queue.index()] = crossing == Crossing::High;
        let kind = match crossing {
            Crossing::High => EventKind::HighWatermark,
            Crossing::Low => EventKind::LowWatermark,
        };
        let event = Event {
            queue: Some(queue),
            ..Event::of_all(kind, at)
        };
        self.events.publish(&event);
        drop(highs);
        self.log(&event);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::{Deadline, Dispatcher, EventKind, KindSet, NewJob, Options, QueueOptions};
    use std::sync::Arc;

    #[test]
    fn watermarks_take_turns() {
        let d = Dispatcher::open("memory:?capacity=10", Options::default()).unwrap();
        let events = d.subscribe(100);
        let push = |n| (0..n).for_each(|_| assert!(d.push(NewJob::new("k", ())).unwrap().created));
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let mut take = |n| {
            let mut leases = Vec::new();
            consumer.next_many(n, Deadline::NEVER, &mut leases).unwrap();
            leases
        };
        push(8);
        assert_eq!(d.pressure("default").unwrap(), 0.8);
        push(1);
        let running = take(3);
        push(2);
        let more = take(3);
        let marks = [EventKind::HighWatermark, EventKind::LowWatermark];
        let told = events.drain().filter(|e| marks.contains(&e.kind));
        let told: Vec<_> = told
            .map(|e| (e.kind, e.queue.map(|q| d.queue_name(q).to_string())))
            .collect();
        let queue = || Some("default".to_owned());
        assert_eq!(
            told,
            [
                (EventKind::HighWatermark, queue()),
                (EventKind::LowWatermark, queue())
            ]
        );
        drop((running, more));
    }

    #[test]
    fn pressure_follows_the_bound_in_force() {
        let d = Dispatcher::in_memory().unwrap();
        d.configure_queue("q", QueueOptions::new().capacity(2)).unwrap();
        assert_eq!(d.pressure("unheard of").unwrap(), 0.0);
        d.push(NewJob::new("k", ()).queue("q")).unwrap();
        assert_eq!(d.pressure("q").unwrap(), 0.5);
        d.configure_queue("q", QueueOptions::new().capacity(0)).unwrap();
        assert_eq!(d.pressure("q").unwrap(), 0.0);
    }
}
