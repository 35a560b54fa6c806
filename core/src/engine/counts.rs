//! What an engine counts of each queue.

use crate::names::QueueId;
use crate::outcome::ShedReason;

/// The counts of one queue. At every instant, `pushed + restored` is the sum of the jobs in every state:
/// `blocked + scheduled + queued + running + succeeded + failed + cancelled + expired + shed`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct QueueCounts {
    /// Which queue.
    pub queue: QueueId,
    /// Whether it is paused.
    pub paused: bool,
    /// Jobs that wait for tokens.
    pub blocked: u64,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that wait for a worker.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
    /// Finished jobs that are still known.
    pub kept: u64,
    /// What has happened since the start.
    pub totals: Totals,
}

macro_rules! totals {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What has happened in a queue since the engine was opened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct Totals { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Totals {
            /// How many totals there are.
            pub const COUNT: usize = [$(stringify!($name)),+].len();

            /// Every total with its name, in a fixed order.
            #[must_use]
            pub fn named(&self) -> [(&'static str, u64); Self::COUNT] {
                [$((stringify!($name), self.$name)),+]
            }

            /// What each of them counts, in the same order, in a sentence.
            #[must_use]
            pub const fn described() -> [&'static str; Self::COUNT] {
                [$(concat!($($doc),+)),+]
            }

            /// The same, to be changed.
            pub fn named_mut(&mut self) -> [(&'static str, &mut u64); Self::COUNT] {
                [$((stringify!($name), &mut self.$name)),+]
            }
        }
    };
}

totals! {
    /// Jobs stored by a push.
    pushed,
    /// Jobs stored by a restore.
    restored,
    /// Attempts started.
    claimed,
    /// Jobs that ended well.
    succeeded,
    /// Jobs that ended badly.
    failed,
    /// Jobs that were cancelled or purged.
    cancelled,
    /// Jobs whose deadline passed.
    expired,
    /// Attempts that failed and are followed by another.
    retried,
    /// Attempts given back: snoozed, or handed back by a stop.
    returned,
    /// Answers that came too late and changed nothing.
    stale,
    /// Pushes refused because the queue was full.
    refused,
    /// Jobs shed as they came, because the queue was full.
    shed_newest,
    /// Jobs shed because the queue was full and they had waited longest.
    shed_oldest,
    /// Jobs shed because the queue was full and their priority was the lowest.
    shed_lowest,
    /// Jobs shed because the queue was full and a newer one of their concurrency key came.
    shed_coalesced,
    /// Jobs shed because the queue was full and they were not in the sample.
    shed_sampled,
    /// Jobs shed because they had waited too long in an overloaded queue.
    shed_delayed,
}

impl Totals {
    /// The jobs that were shed for this reason.
    pub fn of_mut(&mut self, reason: ShedReason) -> &mut u64 {
        match reason {
            ShedReason::Newest => &mut self.shed_newest,
            ShedReason::Oldest => &mut self.shed_oldest,
            ShedReason::Lowest => &mut self.shed_lowest,
            ShedReason::Coalesced => &mut self.shed_coalesced,
            ShedReason::Sampled => &mut self.shed_sampled,
            ShedReason::Delayed => &mut self.shed_delayed,
        }
    }

    /// The jobs that were shed, by reason.
    #[must_use]
    pub fn shed_by(mut self) -> Vec<(ShedReason, u64)> {
        ShedReason::ALL.iter().map(|r| (*r, *self.of_mut(*r))).collect()
    }

    /// The jobs that were shed.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed_newest
            .wrapping_add(self.shed_oldest)
            .wrapping_add(self.shed_lowest)
            .wrapping_add(self.shed_coalesced)
            .wrapping_add(self.shed_sampled)
            .wrapping_add(self.shed_delayed)
    }
}

impl QueueCounts {
    /// A queue in which nothing has happened yet.
    #[must_use]
    pub fn new(queue: QueueId) -> Self {
        Self {
            queue,
            paused: false,
            blocked: 0,
            scheduled: 0,
            queued: 0,
            running: 0,
            kept: 0,
            totals: Totals::default(),
        }
    }

    /// Jobs that wait, in whatever way: the length of the queue.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.blocked + self.scheduled + self.queued
    }

    /// Whether every accepted job is accounted for.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let t = &self.totals;
        let ended = t.succeeded + t.failed + t.cancelled + t.expired + t.shed();
        t.pushed + t.restored == ended + self.waiting() + self.running
    }
}
