//! Every engine of this build, held to the suite.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay::Timestamp;
use forebay::engine::durable::{DurableEngine, Settings};
use forebay::engine::memory::MemoryEngine;
use forebay::engine::sqlite::{Sharing, SqliteEngine};
use forebay::planted::Bug;
use forebay_tests::scratch::Scratch;
use forebay_tests::trap::{Trap, caught};

forebay::conformance_suite!(
    memory,
    || Arc::new(MemoryEngine::new(100_000)),
    given_time,
    host_objects,
    alone,
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
    alone,
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

macro_rules! traps {
    ($($name:ident: $bug:ident, $test:literal, $says:literal;)*) => {
        /// Which case is there for a bug, and what it says.
        const TRAPS: &[(Bug, Trap)] = &[$((Bug::$bug, Trap { test: $test, says: $says }),)*];

        $(#[test]
        fn $name() {
            let (bug, trap) = TRAPS.iter().find(|(bug, _)| *bug == Bug::$bug).expect("the macro made both");
            caught(bug.name(), bug.describe(), trap, &[]);
        })*
    };
}

// Bugs that are planted in what an overloaded queue does: the case that is there for each must fail.
traps! {
    evicted_job_runs: EvictedJobRuns, "memory::the_oldest_makes_room", "is still queued";
    bytes_kept: BytesKept, "memory::bytes_are_given_back_once", "left: 60";
    room_taken_twice: RoomTakenTwice, "memory::capacity_is_exact_among_pushers", "right: (500, 500)";
    key_counted_up: KeyCountedUp, "memory::a_key_runs_no_more_than_it_may", "one goes on after failure";
    shed_without_overload: ShedWithoutOverload, "memory::a_burst_is_no_overload", "there is a job to take";
    budget_ignored: BudgetIgnored, "memory::retries_keep_to_their_budget", "four fresh starts have paid for two";
    put_off_counts: PutOffCounts, "memory::retries_keep_to_their_budget", "(Scheduled, 2)";
    shed_not_counted: ShedNotCounted, "memory::the_oldest_makes_room", "right: (3, 5, 2)";
    shed_told_accepted: ShedToldAccepted, "memory::a_newcomer_is_shed", "right: Some(Newest)";
    shed_in_silence: ShedInSilence, "memory::the_oldest_makes_room", "left: []";
    probes_unbounded: ProbesUnbounded, "memory::a_breaker_opens_probes_and_closes", "one probe";
    starts_lost: StartsLost, "memory::an_empty_claim_uses_up_no_rate", "right: 1";
}

#[test]
fn every_bug_of_overload_has_a_trap() {
    for bug in Bug::ALL.iter().filter(|bug| bug.is_of_the_suite()) {
        let traps = TRAPS.iter().filter(|(of, _)| of == bug).count();
        assert_eq!(traps, 1, "{}: {}", bug.name(), bug.describe());
    }
    assert!(TRAPS.len() >= 8);
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
