//! Bugs that are planted in the engine, one at a time: the harness that is there for each must fail.
//!
//! The harness runs in a process of its own with `FOREBAY_PLANTED` set; see `core/src/planted.rs`.

use forebay::planted::Bug;
use forebay_tests::trap::{Trap, caught};

macro_rules! traps {
    ($($name:ident: $bug:ident, $test:literal, $says:literal;)*) => {
        /// Which harness is there for a bug, and what it says.
        const TRAPS: &[(Bug, Trap)] = &[$((Bug::$bug, Trap { test: $test, says: $says }),)*];

        $(#[test]
        fn $name() {
            let (bug, trap) = TRAPS.iter().find(|(bug, _)| *bug == Bug::$bug).expect("the macro made both");
            caught(bug.name(), bug.describe(), trap, &[("FOREBAY_KILLS", "400"), ("FOREBAY_FAULTS", "400")]);
        })*
    };
}

traps! {
    ack_before_commit: AckBeforeCommit, "kill::no_kill_loses_what_was_acknowledged", "is lost";
    normal_for_full: NormalForFull, "faults::every_call_of_sqlites_failed_or_cut", "is lost";
    shared_normal: SharedNormal, "promises::a_push_is_as_safe_as_it_says", "is broken";
    silent_sync: SilentSync, "faults::what_was_flushed_survives_a_cut", "flushed, found";
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
    shed_not_written: ShedNotWritten, "kill::no_kill_breaks_the_books_of_a_queue_that_sheds", "that it was shed was stored|jobs wait where";
    strange_kind_dropped: StrangeKindDropped, "kill::no_kill_loses_what_was_acknowledged", "is lost";
}

#[test]
fn every_bug_has_a_trap() {
    for bug in Bug::ALL.iter().filter(|bug| !bug.is_of_the_suite()) {
        let traps = TRAPS.iter().filter(|(of, _)| of == bug).count();
        assert_eq!(traps, 1, "{}: {}", bug.name(), bug.describe());
    }
    assert!(TRAPS.len() >= 15);
}
