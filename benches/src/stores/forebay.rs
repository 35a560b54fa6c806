//! Forebay over a file, as it is meant to be used.

use std::path::Path;
use std::time::Duration;

use forebay::{Deadline, Dispatcher, Durability, KindId, NewJob, Options};

use super::Store;
use crate::contenders::Work;

/// Longer than any run takes.
const AGES: Duration = Duration::from_secs(300);

/// A dispatcher, and the kind and the level of what is pushed to it.
pub struct Forebay {
    /// For what a measurement asks beyond pushing.
    pub dispatcher: Dispatcher,
    kind: KindId,
    level: Durability,
    /// What a push says that it has reached: no more than memory with an engine that has nothing else.
    reached: Durability,
}

impl Forebay {
    /// Opens the engine of this URL, new or not, for pushes at this level; nothing runs yet.
    pub fn open(url: &str, level: Durability) -> Self {
        let mut options = Options::default();
        options.capacity = 0;
        Self::with(url, level, options)
    }

    /// The same with options of one's own.
    pub fn with(url: &str, level: Durability, options: Options) -> Self {
        let dispatcher = Dispatcher::open(url, options).expect("the folder is ours");
        Self {
            kind: dispatcher.kind("noop").expect("a valid name"),
            dispatcher,
            level,
            reached: if url == "memory:" {
                Durability::Memory
            } else {
                level
            },
        }
    }

    /// Starts threads that run jobs with closures.
    pub fn run(&self, work: impl Work) {
        let handler = move |lease: &forebay::Lease| {
            work(lease.payload().as_bytes().expect("it was pushed as bytes"));
        };
        self.dispatcher.register("noop", handler).expect("a valid name");
        self.dispatcher.start().expect("a few threads can be had");
    }

    /// Returns when every job has run and every outcome is on the disk.
    pub fn settle(&self) {
        self.dispatcher
            .drain(Deadline::after(AGES))
            .expect("no-op jobs end");
        self.dispatcher.flush().expect("the disk works");
        let total = self.dispatcher.stats().expect("counts can be had").total().totals;
        assert_eq!(total.succeeded, total.pushed, "every job succeeded");
    }

    fn job<'a>(&self, record: &'a [u8]) -> NewJob<'a> {
        NewJob::new(self.kind, record).durability(self.level)
    }
}

impl Store for Forebay {
    fn push(&self, record: &[u8]) {
        let pushed = self.dispatcher.push(self.job(record)).expect("there is room");
        assert_eq!(pushed.durability, self.reached, "as durable as it was to be");
    }

    fn push_many(&self, records: &[&[u8]]) {
        let jobs: Vec<_> = records.iter().map(|record| self.job(record)).collect();
        self.dispatcher.push_many(&jobs).expect("there is room");
    }
}

impl Drop for Forebay {
    fn drop(&mut self) {
        self.dispatcher
            .stop(Duration::ZERO)
            .expect("the disk still works");
    }
}

/// The URL of a file in this folder.
pub fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("jobs.db").display())
}
