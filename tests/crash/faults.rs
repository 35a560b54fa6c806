//! Every call that SQLite makes for a small workload, failed; and the power cut at each of them.
//!
//! The engine runs among the threads of this test, on a [`Disk`] that fails on demand. What it leaves is
//! opened again: the same folder after an error, an image of it after a cut.

use std::path::Path;
use std::sync::Mutex;

use crate::disk::{Disk, Fault};
use crate::driver::Driver;
use crate::key::{Dice, say, seed, size};
use crate::ledger::Ledger;
use crate::life::Folder;
use crate::plan::{Finish, Plan};
use crate::report::{Level, Report};

/// Jobs of the workload: with their claims and ends, two hundred operations.
const PUSHES: u32 = 66;

/// Images that are made of each cut: each has other sectors.
const IMAGES: u64 = 2;

/// Whether the workload waits for the ends of its jobs too: then each is a group of its own.
type SyncDone = bool;

#[test]
fn every_call_of_sqlites_failed_or_cut() {
    let mut dice = Dice::new(seed());
    let budget = size("FOREBAY_FAULTS", 160) / (2 * Fault::ALL.len() as u64);
    for sync_done in [true, false] {
        let calls = count(sync_done, &mut dice);
        assert!(calls > 50, "{calls} calls are no workload");
        for fault in Fault::ALL {
            let chosen = chosen(calls, budget, &mut dice);
            let tried = chosen.len();
            let met = chosen
                .into_iter()
                .filter(|at| meets(fault, *at, sync_done, &mut dice))
                .count();
            say(&format!(
                "{fault:?} at {met} of {calls} calls of SQLite's ({tried} tried)"
            ));
            assert!(met > 0, "{fault:?} was never met");
        }
    }
}

/// All numbers from 1 to `all`, or one of each stretch, so that no part of a workload is left out.
pub fn chosen(all: u64, most: u64, dice: &mut Dice) -> Vec<u64> {
    if all <= most {
        return (1..=all).collect();
    }
    (0..most)
        .map(|n| (n * all / most, (n + 1) * all / most))
        .map(|(from, to)| from + 1 + dice.below(to - from))
        .collect()
}

/// One life on the store in `folder`, heard by the books.
fn live(folder: &Path, life: u32, sync_done: SyncDone, dice: &mut Dice, ledger: &mut Ledger) {
    let mut plan = Plan::new(
        format!("sqlite:{}", folder.join("jobs.db").display()),
        life,
        dice.next(),
    );
    plan.workers = 1 + life % 2;
    plan.finish = Finish::Drains;
    plan.sync_done = sync_done;
    if life == 1 {
        plan.pushers = 1;
        plan.pushes = PUSHES;
        plan.level = None;
    }
    ledger.born(life);
    let books = Mutex::new(&mut *ledger);
    Driver::new(&plan, &|report: Report| {
        books.lock().expect("nobody panics holding it").hear(&report);
    })
    .live();
    ledger.died();
}

/// How many calls the workload makes when nothing is wrong.
fn count(sync_done: SyncDone, dice: &mut Dice) -> u64 {
    let folder = Folder::in_memory("faults-count");
    let disk = Disk::under(folder.path());
    let mut ledger = Ledger::new(Level::Os);
    live(folder.path(), 1, sync_done, dice, &mut ledger);
    assert_sound(&mut ledger, "without any fault");
    disk.calls()
}

/// One life whose `at`-th call meets the fault, and lives that find what is left. Whether the call came.
fn meets(fault: Fault, at: u64, sync_done: SyncDone, dice: &mut Dice) -> bool {
    let folder = Folder::in_memory("faults");
    let disk = Disk::under(folder.path());
    let cut = fault == Fault::Cut;
    // An error that is reported loses nothing that was written; a cut takes what was not synced.
    let mut ledger = Ledger::new(if cut { Level::Disk } else { Level::Os });
    ledger.expect_trouble(true);
    disk.plan(fault, at);
    live(folder.path(), 1, sync_done, dice, &mut ledger);
    let met = disk.fired() > 0;
    ledger.expect_trouble(false);
    if cut {
        for _ in 0..IMAGES {
            let image = Folder::in_memory("faults-image");
            disk.image(image.path(), dice);
            let mut ledger = ledger.clone();
            live(image.path(), 2, false, dice, &mut ledger);
            assert_sound(&mut ledger, &format!("{fault:?} at call {at}"));
        }
    } else {
        disk.heal();
        live(folder.path(), 2, false, dice, &mut ledger);
        assert_sound(&mut ledger, &format!("{fault:?} at call {at}"));
    }
    met
}

fn assert_sound(ledger: &mut Ledger, when: &str) {
    let faults = ledger.verdict();
    assert!(faults.is_empty(), "{when}:\n{}", faults.join("\n"));
}
