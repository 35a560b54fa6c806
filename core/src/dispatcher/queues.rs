//! What holds for one queue: its own options, or else the dispatcher's.

use std::sync::atomic::Ordering;

use super::{Dispatcher, Inner};
use crate::admission::OnFull;
use crate::config::QueueOptions;
use crate::durability::Durability;
use crate::engine::{Capabilities, Resident};
use crate::error::{Error, ErrorKind, Result};
use crate::names::QueueId;

/// How much may wait in a queue; 0 is without bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bounds {
    pub(super) jobs: usize,
    pub(super) bytes: usize,
    /// How much of it may wait in memory, where the rest goes to the file.
    pub(super) resident: Resident,
    /// Whether there is another way than to refuse who finds it full.
    pub(super) yields: bool,
}

/// What a queue has of its own, and the bounds that follow from it: worked out once, not at each push.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    options: QueueOptions,
    /// `None` as long as it has nothing of its own.
    bounds: Option<Bounds>,
}

impl Bounds {
    pub(super) fn of(rules: &QueueOptions) -> Self {
        let (jobs, bytes) = (rules.capacity.unwrap_or(0), rules.capacity_bytes.unwrap_or(0));
        match rules.on_full {
            Some(OnFull::Spill) => Self {
                resident: Resident { jobs, bytes },
                ..Self::default()
            },
            on_full => Self {
                jobs,
                bytes,
                yields: on_full.is_some_and(OnFull::yields),
                ..Self::default()
            },
        }
    }

    /// What is full when it is reached, whatever happens then.
    pub(super) fn full(&self) -> Resident {
        match self.resident {
            Resident { jobs: 0, bytes: 0 } => Resident {
                jobs: self.jobs,
                bytes: self.bytes,
            },
            resident => resident,
        }
    }
}

impl Dispatcher {
    /// Gives a queue options of its own, instead of those that were given before.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one, or options that do not fit together; `Unsupported` for one that
    /// the engine cannot keep; `Closed`.
    pub fn configure_queue(&self, queue: &str, options: QueueOptions) -> Result<QueueId> {
        self.adjust_queue(queue, |own| {
            *own = options;
            Ok(())
        })
    }

    /// Changes what a queue has of its own, and leaves what `change` does not touch as it was said before. What
    /// it makes of them holds as a whole, or, with an error, not at all.
    ///
    /// ```
    /// # let d = forebay::Dispatcher::in_memory()?;
    /// d.adjust_queue("mail", |own| own.set("capacity", "1000"))?;
    /// d.adjust_queue("mail", |own| own.set("concurrency", "2"))?;
    /// assert_eq!(d.queue_options("mail")?.capacity, Some(1000));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Dispatcher::configure_queue`]; that of `change`.
    pub fn adjust_queue(
        &self,
        queue: &str,
        change: impl FnOnce(&mut QueueOptions) -> Result<()>,
    ) -> Result<QueueId> {
        self.0.check_open()?;
        // One at a time, so that none is lost.
        let adjusting = self.0.adjusting.lock();
        let known = self.0.engine.names().find_queue(queue);
        let mut own = known.map(|id| self.0.own_of(id)).unwrap_or_default();
        change(&mut own)?;
        let rules = own.or(&self.0.queue_defaults);
        rules.check()?;
        check_capable(&rules, &self.0.engine.capabilities())?;
        let id = self.queue(queue)?;
        let bounds = Bounds::of(&rules);
        self.0.engine.set_resident(id, bounds.resident)?;
        self.0.slots.limit_queue(id, own.concurrency);
        let mut queues = self.0.queues.write();
        if queues.len() <= id.index() {
            queues.resize(id.index() + 1, Own::default());
        }
        queues[id.index()] = Own {
            options: own,
            bounds: Some(bounds),
        };
        self.0.own_options.store(true, Ordering::Release);
        drop(queues);
        self.0.gates.set_queue(id, &rules);
        self.0.tell_order(id);
        self.0.tell_keys(id);
        drop(adjusting);
        // A higher limit or capacity may be what somebody waits for.
        self.0.engine.signals().work.ring_all();
        self.0.engine.signals().space.ring_all();
        Ok(id)
    }

    /// What a queue has of its own; nothing, if it was never [configured](Dispatcher::configure_queue).
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one.
    pub fn queue_options(&self, queue: &str) -> Result<QueueOptions> {
        Ok(self.0.own_of(self.queue(queue)?))
    }
}

impl Inner {
    fn own_of(&self, queue: QueueId) -> QueueOptions {
        if !self.own_options.load(Ordering::Acquire) {
            return QueueOptions::default();
        }
        let queues = self.queues.read();
        queues
            .get(queue.index())
            .map(|own| own.options)
            .unwrap_or_default()
    }

    /// What holds for a queue: every field is said.
    pub(crate) fn rules(&self, queue: QueueId) -> QueueOptions {
        self.own_of(queue).or(&self.queue_defaults)
    }

    /// How much may wait in a queue. On the way of every push.
    pub(super) fn bounds(&self, queue: QueueId) -> Bounds {
        if !self.own_options.load(Ordering::Acquire) {
            return self.default_bounds;
        }
        let queues = self.queues.read();
        let own = queues.get(queue.index()).and_then(|own| own.bounds);
        own.unwrap_or(self.default_bounds)
    }
}

/// Whether the engine can do what the options ask of it.
pub(super) fn check_capable(rules: &QueueOptions, can: &Capabilities) -> Result<()> {
    let unsupported = |option: &str| {
        let text =
            format!("this engine cannot keep option {option}; use memory: or a file that one process owns");
        Err(Error::new(ErrorKind::Unsupported, text))
    };
    let policy = rules.on_full.unwrap_or(OnFull::Reject);
    if policy == OnFull::Spill && (can.durability < Durability::Disk || can.shared) {
        let text = "option on_full is spill, which needs a file that one process owns: open sqlite:PATH";
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    if policy.evicts() && !can.evicts {
        return unsupported("on_full, which sheds jobs that wait,");
    }
    if rules.newest_first == Some(true) && !can.evicts {
        return unsupported("newest_first");
    }
    if rules.capacity_bytes.unwrap_or(0) > 0 && !can.weighs {
        return unsupported("capacity_bytes");
    }
    let keys = rules.key_concurrency.unwrap_or(0) > 0 || rules.key_rate.flatten().is_some();
    if (keys || policy == OnFull::Coalesce) && !can.keys {
        return unsupported("key_concurrency, key_rate or coalesce");
    }
    Ok(())
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_as_it_was_said() {
        let d = Dispatcher::in_memory().unwrap();
        let set = |name: &str, text: &str| d.adjust_queue("mail", |own| own.set(name, text));
        set("capacity", "7").unwrap();
        set("concurrency", "2").unwrap();
        assert!(set("concurrency", "0").is_err());
        let refused = d.adjust_queue("mail", |own| {
            own.set("capacity", "9")?;
            own.set("capacty", "9")
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
        let own = d.queue_options("mail").unwrap();
        assert_eq!(
            (own.capacity, own.concurrency, own.on_full),
            (Some(7), Some(2), None)
        );
        set("capacity", "default").unwrap();
        assert_eq!(d.queue_options("mail").unwrap().capacity, None);
        assert_eq!(d.configure_queue("mail", own).unwrap(), d.queue("mail").unwrap());
        assert!(d.adjust_queue("\n", |_| Ok(())).is_err());
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let d = Dispatcher::in_memory().unwrap();
        for _ in 0..200 {
            d.configure_queue("mail", QueueOptions::new()).unwrap();
            std::thread::scope(|scope| {
                for (name, value) in [("capacity", "5"), ("concurrency", "5"), ("low_watermark", "0.1")] {
                    let d = &d;
                    scope.spawn(move || d.adjust_queue("mail", |own| own.set(name, value)).unwrap());
                }
            });
            let own = d.queue_options("mail").unwrap();
            let kept = (own.capacity, own.concurrency, own.low_watermark);
            assert_eq!(kept, (Some(5), Some(5), Some(0.1)));
        }
    }
}
