//! Everything that is measured: the pools that people use without a queue, and Forebay in its several ways.
//!
//! All of them do the same: for each job a copy of the payload is made on the heap (or wherever the contender
//! keeps it), carried to a worker thread and given to the same handler there.

#[cfg(feature = "apalis")]
mod apalis;
mod forebay;
mod pools;

pub use forebay::{Forebay, Pull, Way};
pub use pools::{Crossbeam, Rayon, ThreadPool, Tokio};

/// What is done with the payload of a job. It is copied into every job, so whatever it captures should be a
/// reference that lives as long as the process.
pub trait Work: Fn(&[u8]) + Copy + Send + Sync + 'static {}

impl<F: Fn(&[u8]) + Copy + Send + Sync + 'static> Work for F {}

/// Something that runs jobs on a number of worker threads, from its opening until it is dropped.
pub trait Contender: Send + Sync {
    /// Pushes this many jobs with a copy of the payload each. Any number of threads at once.
    fn produce(&self, payload: &[u8], jobs: u64);

    /// Returns when the outcome of every job that has run is stored, for contenders that store one.
    fn settle(&self) {}
}

/// The name of each contender as an argument, and what it is in a table. The first two are what the others are
/// compared with.
pub const CONTENDERS: &[(&str, &str)] = &[
    ("rayon", "`rayon::spawn`"),
    ("crossbeam", "crossbeam channel of boxed payloads, unbounded"),
    (
        "crossbeam-4096",
        "crossbeam channel of boxed payloads, bounded 4096",
    ),
    ("threadpool", "`threadpool::execute`"),
    ("tokio", "`tokio::spawn`, multi-thread"),
    #[cfg(feature = "apalis")]
    ("apalis", "apalis, storage in memory"),
    ("forebay", "Forebay `push`"),
    ("forebay-many", "Forebay `push_many` (64)"),
    (
        "forebay-pull",
        "Forebay `push_many` (64), claimed and completed 64 at a time",
    ),
    ("forebay-4096", "Forebay `push`, capacity 4096, block"),
    (
        "forebay-options",
        "Forebay `push` with timeout, priority and result",
    ),
    ("forebay-unkept", "Forebay `push`, finished jobs not kept"),
    ("forebay-kept", "Forebay `push`, a million finished jobs kept"),
];

/// Opens the contender of this name; `None` if there is none.
pub fn open(name: &str, workers: usize, work: impl Work) -> Option<Box<dyn Contender>> {
    Some(match name {
        "rayon" => Box::new(Rayon::open(workers, work)),
        "crossbeam" => Box::new(Crossbeam::open(workers, None, work)),
        "crossbeam-4096" => Box::new(Crossbeam::open(workers, Some(4096), work)),
        "threadpool" => Box::new(ThreadPool::open(workers, work)),
        "tokio" => Box::new(Tokio::open(workers, work)),
        #[cfg(feature = "apalis")]
        "apalis" => Box::new(apalis::Apalis::open(workers, work)),
        "forebay-pull" => Box::new(Pull::open(workers, work)),
        _ => Box::new(Forebay::open(workers, Way::named(name)?, work)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    #[test]
    fn every_contender_runs_every_job_with_its_payload() {
        for &(name, _) in CONTENDERS {
            let tally = Tally::leaked();
            let contender = open(name, 2, |payload: &[u8]| {
                assert_eq!(payload, b"abc");
                tally.count();
            })
            .unwrap_or_else(|| panic!("{name} can be opened"));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| contender.produce(b"abc", 128));
                }
            });
            tally.wait_for(256);
            contender.settle();
            drop(contender);
            assert_eq!(tally.sum(), 256, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_no_contender() {
        assert!(open("abacus", 2, |_: &[u8]| {}).is_none());
    }
}
