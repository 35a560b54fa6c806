//! Every call that SQLite makes for a small workload, failed; and the power cut at each of them.
//!
//! The engine runs among the threads of this test, on a [`Disk`] that fails on demand. What it leaves is
//! opened again: the same folder after an error, an image of it after a cut.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use forebay::{Dispatcher, Durability, NewJob, Options};

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
                .filter(|at| {
                    meets(fault, *at, &mut dice, |folder, life, dice, ledger| {
                        live(folder, life, sync_done && life == 1, dice, ledger);
                    })
                })
                .count();
            say(&format!(
                "{fault:?} at {met} of {calls} calls of SQLite's ({tried} tried)"
            ));
            assert!(met > 0, "{fault:?} was never met");
        }
    }
}

/// The same in a file that others share, where nobody runs a job of the life that meets the fault: it would have to
/// lose its lease first.
#[test]
fn every_call_for_a_shared_file_failed_or_cut() {
    let mut dice = Dice::new(seed());
    let folder = Folder::in_memory("shared-count");
    let disk = Disk::under(folder.path());
    let mut ledger = Ledger::new(Level::Os);
    live_shared(folder.path(), 1, &mut dice, &mut ledger);
    let calls = disk.calls();
    let budget = size("FOREBAY_FAULTS", 160) / (4 * Fault::ALL.len() as u64);
    for fault in Fault::ALL {
        let tried = chosen(calls, budget, &mut dice);
        let all = tried.len();
        let met = tried
            .into_iter()
            .filter(|at| meets(fault, *at, &mut dice, live_shared))
            .count();
        say(&format!(
            "shared: {fault:?} at {met} of {calls} calls ({all} tried)"
        ));
        assert!(met > 0, "{fault:?} was never met");
    }
}

/// Pushes at `os`, with a flush behind each, and a cut at every call: of what was flushed nothing may be missing.
#[test]
fn what_was_flushed_survives_a_cut() {
    let mut dice = Dice::new(seed());
    for at in 1.. {
        let folder = Folder::in_memory("flushes");
        let disk = Disk::under(folder.path());
        disk.plan(Fault::Cut, at);
        let flushed = flushes(folder.path(), 6);
        let image = Folder::in_memory("flushes-image");
        disk.image(image.path(), &mut dice);
        let found = waiting(image.path());
        assert!(
            found >= flushed,
            "a cut at call {at}: {flushed} jobs flushed, found {found}"
        );
        if disk.fired() == 0 {
            assert_eq!(flushed, 6);
            assert!(at > 20, "{at} calls are no workload");
            break;
        }
    }
}

/// Pushes so many jobs that nobody runs; how many of them were flushed.
fn flushes(folder: &Path, jobs: u64) -> u64 {
    let Ok(d) = Dispatcher::open(&url(folder), Options::default()) else {
        return 0;
    };
    let one = || NewJob::new("nobody's", b"x").durability(Durability::Os);
    let flushed = (0..jobs).take_while(|_| d.push(one()).is_ok() && d.flush().is_ok());
    let flushed = flushed.count() as u64;
    // After a cut it fails.
    let _ = d.stop(Duration::from_secs(60));
    flushed
}

fn waiting(folder: &Path) -> u64 {
    let d = Dispatcher::open(&url(folder), Options::default()).expect("an image can be opened");
    let waiting = d.stats().expect("it is open").total().queued;
    d.stop(Duration::from_secs(60)).expect("nothing runs");
    waiting
}

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("jobs.db").display())
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
    let mut plan = Plan::new(url(folder), life, dice.next());
    plan.workers = 1 + life % 2;
    plan.finish = Finish::Drains;
    plan.sync_done = sync_done;
    hear(plan, ledger);
}

/// One life on a store that may have others beside it.
fn live_shared(folder: &Path, life: u32, dice: &mut Dice, ledger: &mut Ledger) {
    let mut plan = Plan::new(format!("{}?shared=true", url(folder)), life, dice.next());
    if life == 1 {
        plan.finish = Finish::Stops;
    } else {
        (plan.workers, plan.finish) = (2, Finish::Drains);
    }
    hear(plan, ledger);
}

/// Lives by this plan, of which the first life pushes.
fn hear(mut plan: Plan, ledger: &mut Ledger) {
    if plan.life == 1 {
        plan.pushers = 1;
        plan.pushes = PUSHES;
        plan.level = None;
    }
    ledger.born(plan.life);
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
fn meets(fault: Fault, at: u64, dice: &mut Dice, live: impl Fn(&Path, u32, &mut Dice, &mut Ledger)) -> bool {
    let folder = Folder::in_memory("faults");
    let disk = Disk::under(folder.path());
    let cut = fault == Fault::Cut;
    // An error that is reported loses nothing that was written; a cut takes what was not synced.
    let mut ledger = Ledger::new(if cut { Level::Disk } else { Level::Os });
    ledger.expect_trouble(true);
    disk.plan(fault, at);
    live(folder.path(), 1, dice, &mut ledger);
    let met = disk.fired() > 0;
    ledger.expect_trouble(false);
    if cut {
        for _ in 0..IMAGES {
            let image = Folder::in_memory("faults-image");
            disk.image(image.path(), dice);
            let mut ledger = ledger.clone();
            live(image.path(), 2, dice, &mut ledger);
            assert_sound(&mut ledger, &format!("{fault:?} at call {at}"));
        }
    } else {
        disk.heal();
        live(folder.path(), 2, dice, &mut ledger);
        assert_sound(&mut ledger, &format!("{fault:?} at call {at}"));
    }
    met
}

fn assert_sound(ledger: &mut Ledger, when: &str) {
    let faults = ledger.verdict();
    assert!(faults.is_empty(), "{when}:\n{}", faults.join("\n"));
}
