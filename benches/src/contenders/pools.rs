//! The pools that run a job and keep nothing about it. Each is used in the way that is fastest for it: jobs own
//! their payload and nothing else that would have to be counted.

use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded, unbounded};

use super::{Contender, Work};

/// A pool of rayon's, given its jobs from outside.
pub struct Rayon<W> {
    pool: rayon_core::ThreadPool,
    work: W,
}

impl<W: Work> Rayon<W> {
    /// Starts the workers.
    pub fn open(workers: usize, work: W) -> Self {
        let pool = rayon_core::ThreadPoolBuilder::new().num_threads(workers).build();
        Self {
            pool: pool.expect("a few threads can be had"),
            work,
        }
    }
}

impl<W: Work> Contender for Rayon<W> {
    fn produce(&self, payload: &[u8], jobs: u64) {
        let work = self.work;
        for _ in 0..jobs {
            let job: Box<[u8]> = payload.into();
            self.pool.spawn(move || work(&job));
        }
    }
}

/// The crate `threadpool`.
pub struct ThreadPool<W> {
    pool: threadpool::ThreadPool,
    work: W,
}

impl<W: Work> ThreadPool<W> {
    /// Starts the workers.
    pub fn open(workers: usize, work: W) -> Self {
        Self {
            pool: threadpool::ThreadPool::new(workers),
            work,
        }
    }
}

impl<W: Work> Contender for ThreadPool<W> {
    fn produce(&self, payload: &[u8], jobs: u64) {
        let work = self.work;
        for _ in 0..jobs {
            let job: Box<[u8]> = payload.into();
            self.pool.execute(move || work(&job));
        }
    }
}

/// Tasks on tokio's runtime, spawned from outside it.
pub struct Tokio<W> {
    runtime: tokio::runtime::Runtime,
    work: W,
}

impl<W: Work> Tokio<W> {
    /// Starts the workers.
    pub fn open(workers: usize, work: W) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .build();
        Self {
            runtime: runtime.expect("a few threads can be had"),
            work,
        }
    }
}

impl<W: Work> Contender for Tokio<W> {
    fn produce(&self, payload: &[u8], jobs: u64) {
        let work = self.work;
        for _ in 0..jobs {
            let job: Box<[u8]> = payload.into();
            self.runtime.spawn(async move { work(&job) });
        }
    }
}

/// The least that a pool of one's own can be: threads that take boxed payloads from one channel.
pub struct Crossbeam {
    // Dropped first, which is what ends the workers.
    sender: Option<Sender<Box<[u8]>>>,
    workers: Vec<JoinHandle<()>>,
}

impl Crossbeam {
    /// Starts the workers; `bound` is the most jobs that may wait.
    pub fn open(workers: usize, bound: Option<usize>, work: impl Work) -> Self {
        let (sender, receiver) = bound.map_or_else(unbounded, bounded::<Box<[u8]>>);
        let worker = |_| {
            let receiver = receiver.clone();
            std::thread::spawn(move || receiver.iter().for_each(|job| work(&job)))
        };
        Self {
            workers: (0..workers).map(worker).collect(),
            sender: Some(sender),
        }
    }
}

impl Contender for Crossbeam {
    fn produce(&self, payload: &[u8], jobs: u64) {
        let sender = self.sender.as_ref().expect("it is there until the drop");
        for _ in 0..jobs {
            sender
                .send(payload.into())
                .expect("the workers live as long as the sender");
        }
    }
}

impl Drop for Crossbeam {
    fn drop(&mut self) {
        self.sender = None;
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker does not panic");
        }
    }
}
