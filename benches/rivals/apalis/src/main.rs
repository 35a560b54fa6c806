//! apalis over SQLite: jobs pushed in batches of 500, fetched a hundred at a time, results not kept. Its own set-up
//! switches SQLite's syncs off, so as it comes it is not durable; in mode `full` they are on.
//!
//! `rival-apalis JOBS FILE off|full`

#[path = "../../measure.rs"]
mod measure;

use std::sync::atomic::Ordering;

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use measure::{NOTE, RUN, Run, arguments};

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Noop(String);

async fn handler(_: Noop) -> Result<(), BoxDynError> {
    RUN.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (jobs, file, mode) = arguments();
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true);
    let made = SqlitePool::connect_with(options.clone())
        .await
        .expect("a new file");
    SqliteStorage::setup(&made).await.expect("a new file");
    let pool = match mode.as_str() {
        "off" => made,
        "full" => {
            made.close().await;
            let options = options
                .pragma("synchronous", "FULL")
                .pragma("cache_size", "64000");
            SqlitePoolOptions::new()
                .connect_with(options)
                .await
                .expect("the file is there")
        }
        _ => panic!("{mode:?} is neither off nor full"),
    };
    let config = Config::default().batch_size(100).persist_results(false);
    let mut storage: SqliteStorage<Noop> = SqliteStorage::new(&pool).with_config(config);
    let run = Run::of(jobs);
    let mut left = jobs;
    while left > 0 {
        let batch: Vec<_> = (0..left.min(500)).map(|_| Noop(NOTE.to_owned())).collect();
        left -= batch.len() as u64;
        storage.push_bulk(batch).await.expect("there is room");
    }
    let worker = WorkerBuilder::new("bench")
        .backend(storage)
        .concurrency(100)
        .build(handler);
    tokio::spawn(async move { worker.run().await.expect("the file works") });
    run.ended().await;
    std::process::exit(0);
}
