//! apalis with its storage in memory. The storage belongs to the worker that it is given to and cannot be pushed to
//! from elsewhere, so every producer fills one of its own and then has it worked off.

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::{BoxDynError, MemoryStorage, TaskSink, WorkerBuilder};
use tokio::runtime::Runtime;

use super::{Contender, Work};

/// Workers of apalis on tokio's runtime.
pub struct Apalis<W> {
    runtime: Runtime,
    workers: usize,
    work: W,
}

impl<W: Work> Apalis<W> {
    /// Starts the runtime.
    pub fn open(workers: usize, work: W) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build();
        Self {
            runtime: runtime.expect("a few threads can be had"),
            workers,
            work,
        }
    }
}

impl<W: Work> Contender for Apalis<W> {
    fn produce(&self, payload: &[u8], jobs: u64) {
        let work = self.work;
        let mut storage = MemoryStorage::<Box<[u8]>>::new();
        self.runtime.block_on(async {
            for _ in 0..jobs {
                storage
                    .push(payload.into())
                    .await
                    .expect("the storage has no bound");
            }
        });
        let worker = WorkerBuilder::new("bench")
            .backend(storage)
            .concurrency(self.workers)
            .build(move |job: Box<[u8]>| async move {
                work(&job);
                Ok::<(), BoxDynError>(())
            });
        self.runtime.spawn(worker.run());
    }
}
