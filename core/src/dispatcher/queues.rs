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
}

impl Bounds {
    pub(super) fn of(rules: &QueueOptions) -> Self {
        let (jobs, bytes) = (rules.capacity.unwrap_or(0), rules.capacity_bytes.unwrap_or(0));
        match rules.on_full {
            Some(OnFull::Spill) => Self {
                resident: Resident { jobs, bytes },
                ..Self::default()
            },
            _ => Self {
                jobs,
                bytes,
                ..Self::default()
            },
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
        self.0.check_open()?;
        let rules = options.or(&self.0.queue_defaults);
        rules.check()?;
        check_capable(&rules, &self.0.engine.capabilities())?;
        let id = self.queue(queue)?;
        self.0.slots.limit_queue(id, options.concurrency);
        let mut queues = self.0.queues.write();
        if queues.len() <= id.index() {
            queues.resize(id.index() + 1, QueueOptions::default());
        }
        queues[id.index()] = options;
        self.0.own_options.store(true, Ordering::Release);
        drop(queues);
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
        self.queues.read().get(queue.index()).copied().unwrap_or_default()
    }

    /// What holds for a queue: every field is said.
    pub(crate) fn rules(&self, queue: QueueId) -> QueueOptions {
        self.own_of(queue).or(&self.queue_defaults)
    }

    /// How much may wait in a queue. On the way of every push.
    pub(super) fn bounds(&self, queue: QueueId) -> Bounds {
        match self.own_options.load(Ordering::Acquire) {
            false => self.default_bounds,
            true => Bounds::of(&self.rules(queue)),
        }
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
