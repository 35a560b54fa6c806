//! A job that kills every process that runs it: it must not take the queue with it for ever.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use forebay::{Dispatcher, FailureKind, Filter, Options, State};

use crate::disk::{Disk, Fault};
use crate::key::{Dice, Key, say, seed};
use crate::ledger::Ledger;
use crate::life::{Folder, Kill, live};
use crate::plan::{Finish, Plan};
use crate::report::Level;

#[test]
fn a_job_that_kills_its_process_is_given_up() {
    for max_crashes in [1, 3] {
        let folder = Folder::new(&format!("poison-{max_crashes}"));
        let url = format!(
            "sqlite:{}?max_crashes={max_crashes}",
            folder.file("jobs.db").display()
        );
        poison(&url, max_crashes, &mut Dice::new(seed()));
        let d = Dispatcher::open(&url, Options::default()).expect("nobody else has it open");
        let page = d.list(&Filter::default()).expect("it can be read");
        let job = page
            .jobs
            .iter()
            .find(|job| {
                job.error
                    .as_ref()
                    .is_some_and(|error| error.kind == FailureKind::Crashed)
            })
            .expect("it is kept, with the reason");
        assert_eq!(
            (job.state, job.crashes, job.attempt),
            (State::Failed, max_crashes, max_crashes)
        );
        d.stop(Duration::ZERO).expect("nothing runs");
    }
}

/// A job is marked for the death of a process in which it ran, and for no other.
#[test]
fn only_what_ran_is_counted() {
    let (folder, mut dice) = (Folder::new("bystander"), Dice::new(seed()));
    let url = format!("sqlite:{}", folder.file("jobs.db").display());
    let mut ledger = Ledger::new(Level::Os).max_crashes(3);
    for life in 1..=6 {
        let mut plan = Plan::new(&url, life, dice.next());
        if life == 1 {
            (plan.pushers, plan.pushes, plan.workers, plan.poison) = (1, 10, 1, true);
            live(&plan, Kill::Never, &mut ledger);
        } else {
            // Nothing runs in these.
            live(&plan, Kill::Reports(1), &mut ledger);
        }
    }
    assert_eq!(ledger.crashes(Key::new(1, 0, 0)), 1, "it ran once");
    let d = Dispatcher::open(&url, Options::default()).expect("nobody else has it open");
    let jobs = d.list(&Filter::default()).expect("it can be read").jobs;
    let crashes: u32 = jobs.iter().map(|job| job.crashes).sum();
    assert_eq!(crashes, 1, "one job, one death");
    d.stop(Duration::ZERO).expect("nothing runs");
    let mut plan = Plan::new(&url, 7, dice.next());
    (plan.workers, plan.finish) = (1, Finish::Drains);
    live(&plan, Kill::Never, &mut ledger);
    let faults = ledger.verdict();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The recovery itself is broken off at each of its calls; whoever opens the file in the end finds one death
/// counted, not two and not none.
#[test]
fn a_recovery_that_is_broken_off_counts_once() {
    let (folder, mut dice) = (Folder::in_memory("recovery"), Dice::new(seed()));
    let url = |folder: &Folder| format!("sqlite:{}", folder.file("jobs.db").display());
    let mut plan = Plan::new(url(&folder), 1, dice.next());
    (plan.pushers, plan.pushes, plan.workers, plan.poison) = (1, 10, 1, true);
    live(&plan, Kill::Never, &mut Ledger::new(Level::Os));
    let mut broken = 0;
    for at in 1.. {
        let copy = Folder::in_memory("recovery-copy");
        for entry in std::fs::read_dir(folder.path()).expect("it is ours") {
            let entry = entry.expect("it can be read");
            // The socket of the dead owner cannot be copied, and nobody needs it.
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("there is room");
        }
        let disk = Disk::under(copy.path());
        disk.plan(Fault::Broken, at);
        let first = Dispatcher::open(&url(&copy), Options::default());
        let met = disk.fired() > 0;
        let failed = first.is_err();
        // Dies without a word, as a process would, as far as that can be had in one.
        drop(first);
        disk.heal();
        let d = Dispatcher::open(&url(&copy), Options::default()).expect("the disk is well again");
        let jobs = d.list(&Filter::default()).expect("it can be read").jobs;
        let crashes: u32 = jobs.iter().map(|job| job.crashes).sum();
        assert_eq!(crashes, 1, "broken off at call {at}");
        d.stop(Duration::ZERO).expect("nothing runs");
        broken += u32::from(failed);
        if !met {
            break;
        }
    }
    say(&format!(
        "{broken} recoveries broken off, each death counted once"
    ));
    assert!(broken > 2, "a recovery has more calls than that");
}

/// Lives that all but the last die of the same job.
fn poison(url: &str, max_crashes: u32, dice: &mut Dice) {
    let mut ledger = Ledger::new(Level::Os).max_crashes(max_crashes);
    let first = Key::new(1, 0, 0);
    for life in 1.. {
        let mut plan = Plan::new(url, life, dice.next());
        if life == 1 {
            plan.pushers = 1;
            plan.pushes = 20;
        }
        plan.workers = 1;
        plan.poison = true;
        plan.finish = Finish::Drains;
        let status = live(&plan, Kill::Never, &mut ledger);
        assert_eq!(status.success(), life > max_crashes, "life {life}: {status}");
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert_eq!(ledger.crashes(first), life, "each life dies of it");
    }
    assert_eq!(ledger.deliveries(first), max_crashes);
    let faults = ledger.verdict();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
