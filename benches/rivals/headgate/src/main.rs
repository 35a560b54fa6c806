//! headgate over SQLite: jobs pushed in batches of 500, run by one worker. It opens its file in WAL mode and leaves
//! `synchronous` at SQLite's own FULL, so it is durable.
//!
//! `rival-headgate JOBS FILE full`

#[path = "../../measure.rs"]
mod measure;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headgate::{Client, JobCtx, Registry, Task, Worker, WorkerConfig};
use headgate_core::{BoxError, CodecError, Envelope, Store};
use headgate_sqlite::SqliteStore;
use measure::{NOTE, RUN, Run, arguments};

struct Noop(Vec<u8>);

impl Task for Noop {
    const TYPE: &'static str = "noop";

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(self.0.clone())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(Self(bytes.to_vec()))
    }
}

fn envelope() -> Envelope {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    headgate::prepare_envelope(Envelope {
        id: format!("job-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        kind: Noop::TYPE.into(),
        payload: format!("\"{NOTE}\"").into_bytes(),
        queue: "default".into(),
        scheduled_at_ms: 1,
        retention_ms: 0,
        ..Default::default()
    })
    .expect("a sound job")
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (jobs, file, mode) = arguments();
    assert_eq!(mode, "full", "it has no other mode");
    let store = Arc::new(SqliteStore::open(&file).await.expect("a new file"));
    let client = Client::new(store.clone() as Arc<dyn Store>);
    let run = Run::of(jobs);
    let mut left = jobs;
    while left > 0 {
        let batch: Vec<_> = (0..left.min(500)).map(|_| envelope()).collect();
        client.enqueue(&batch).await.expect("there is room");
        left -= batch.len() as u64;
    }
    let mut registry = Registry::new();
    registry
        .register::<Noop, _, _>(|_: JobCtx, _: Noop| async {
            RUN.fetch_add(1, Ordering::Relaxed);
            Ok::<(), BoxError>(())
        })
        .expect("a new kind");
    let config = WorkerConfig {
        queues: vec!["default".into()],
        capacity: 100,
        ..Default::default()
    };
    let (worker, _handle) = Worker::new(store, registry, config);
    tokio::spawn(async move { worker.run().await.expect("the file works") });
    run.ended().await;
    std::process::exit(0);
}
