//! Bugs that are planted in the engine, one at a time: the harness that is there for each must fail.
//!
//! The harness runs in a process of its own with `FOREBAY_PLANTED` set; see `core/src/planted.rs`.

use std::process::Command;

use forebay::planted::Bug;

/// Which harness is there for a bug, at which sizes, and what it says.
struct Trap {
    bug: Bug,
    test: &'static str,
    says: &'static str,
}

macro_rules! traps {
    ($($name:ident: $bug:ident, $test:literal, $says:literal;)*) => {
        const TRAPS: &[Trap] = &[$(Trap { bug: Bug::$bug, test: $test, says: $says },)*];

        $(#[test]
        fn $name() {
            caught(Bug::$bug);
        })*
    };
}

traps! {
    ack_before_commit: AckBeforeCommit, "kill::no_kill_loses_what_was_acknowledged", "is lost";
    normal_for_full: NormalForFull, "faults::every_call_of_sqlites_failed_or_cut", "is lost";
    lost_group: LostGroup, "faults::every_call_of_sqlites_failed_or_cut", "whose end was stored";
    end_before_push: EndBeforePush, "faults::every_call_of_sqlites_failed_or_cut", "its follow-up is lost";
    no_crash_counter: NoCrashCounter, "poison::a_job_that_kills_its_process_is_given_up", "left: false";
    no_fence: NoFence, "fences::a_late_answer_changes_nothing", "Stale";
    flight_not_cleared: FlightNotCleared, "poison::only_what_ran_is_counted", "one job, one death";
    recovered_twice: RecoveredTwice, "poison::a_recovery_that_is_broken_off_counts_once", "broken off at call";
    lost_mark: LostMark, "kill::no_kill_loses_what_was_acknowledged", "whose end was stored";
    held_job_runs: HeldJobRuns, "kill::no_kill_loses_what_was_acknowledged", "is lost";
    withdrawn_job_runs: WithdrawnJobRuns, "files::a_full_disk_refuses_pushes_and_drains", "and no other";
    reserve_kept: ReserveKept, "files::a_full_file_system_refuses_pushes_and_drains", "fit into the space";
    dump_before_sync: DumpBeforeSync, "dumps::a_dump_is_synced_before_it_has_its_name", "sync";
    dump_unchecked: DumpUnchecked, "dumps::a_damaged_dump_is_never_taken", "Ok(4)";
    early_flush: EarlyFlush, "kill::no_kill_loses_what_was_acknowledged", "whose end was stored";
    rows_again: RowsAgain, "kill::no_kill_loses_what_was_acknowledged", "is lost";
    fences_again: FencesAgain, "kill::no_kill_loses_what_was_acknowledged", "under fence";
    payload_cut: PayloadCut, "kill::no_kill_loses_what_was_acknowledged", "another payload";
    lost_at_stop: LostAtStop, "kill::no_kill_loses_what_was_acknowledged", "whose end was stored";
    strange_kind_dropped: StrangeKindDropped, "kill::no_kill_loses_what_was_acknowledged", "is lost";
}

#[test]
fn every_bug_has_a_trap() {
    for bug in Bug::ALL {
        let traps = TRAPS.iter().filter(|trap| trap.bug == *bug).count();
        assert_eq!(traps, 1, "{}: {}", bug.name(), bug.describe());
    }
    assert!(TRAPS.len() >= 15);
}

/// Runs the bug's harness with the bug: it must fail, and for that reason.
fn caught(bug: Bug) {
    let trap = TRAPS
        .iter()
        .find(|trap| trap.bug == bug)
        .expect("the macro made both");
    let this = std::env::current_exe().expect("a running program has a file");
    let mut command = Command::new(this);
    command.args([trap.test, "--exact", "--test-threads=1"]);
    command
        .env("FOREBAY_PLANTED", bug.name())
        .env("RUST_BACKTRACE", "0");
    command.env("FOREBAY_KILLS", "400").env("FOREBAY_FAULTS", "400");
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let name = bug.name();
    assert!(
        said.contains("running 1 test"),
        "{name}: there is no harness {}",
        trap.test
    );
    assert!(
        !output.status.success(),
        "{name} is not caught: {}\n{said}",
        bug.describe()
    );
    assert!(
        said.contains(trap.says),
        "{name} is caught for another reason than {:?}:\n{said}",
        trap.says
    );
}
