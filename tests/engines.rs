//! Every engine of this build, held to the suite.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay::Timestamp;
use forebay::engine::durable::{DurableEngine, Settings};
use forebay::engine::memory::MemoryEngine;
use forebay::engine::sqlite::{Sharing, SqliteEngine};
use forebay_tests::scratch::Scratch;

forebay::conformance_suite!(
    memory,
    || Arc::new(MemoryEngine::new(100_000)),
    given_time,
    host_objects,
    evicts,
    weighs,
    evicts_and_weighs,
    flows,
    coalesces
);

forebay::conformance_suite!(
    sqlite,
    on_a_file,
    given_time,
    encodes,
    evicts,
    weighs,
    evicts_and_weighs,
    flows,
    coalesces
);
forebay::conformance_suite!(sqlite_shared, on_a_shared_file, given_time, encodes, weighs);

/// A folder of its own, which goes with the thread of the test.
fn fresh_file() -> PathBuf {
    thread_local! {
        static FOLDERS: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
    }
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    FOLDERS.with(|folders| folders.borrow_mut().push(folder));
    path
}

/// A durable engine on a file of its own.
fn on_a_file() -> Arc<DurableEngine> {
    let settings = Settings {
        keep_finished: 100_000,
        write_behind: Duration::from_millis(20),
        resident: 0,
    };
    Arc::new(DurableEngine::open(&fresh_file(), settings).expect("a new file can be opened"))
}

/// An engine that shares a file with nobody, for the time being.
fn on_a_shared_file() -> Arc<SqliteEngine> {
    let engine = SqliteEngine::open(&fresh_file(), Sharing::default(), Timestamp::EPOCH);
    Arc::new(engine.expect("a new file can be opened"))
}

/// A case that nobody lists would never run.
#[test]
fn every_case_is_listed() {
    let suite = forebay_tests::files("core/src/conformance", "rs");
    let (_, list) = suite
        .iter()
        .find(|(file, _)| file.ends_with("/suite.rs"))
        .expect("the list is there");
    let listed: Vec<&str> = list.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let cases: Vec<&str> = suite
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.strip_prefix("pub fn ")?.split_once("(make: Make<"))
        .map(|(name, _)| name)
        .collect();
    let forgotten: Vec<&&str> = cases.iter().filter(|case| !listed.contains(case)).collect();
    assert!(cases.len() > 100, "the cases are found at all");
    assert_eq!(forgotten, Vec::<&&str>::new());
}
