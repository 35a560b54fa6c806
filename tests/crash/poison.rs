//! A job that kills every process that runs it: it must not take the queue with it for ever.

use std::os::unix::process::ExitStatusExt;

use forebay::{Dispatcher, FailureKind, Filter, Options, State};

use crate::key::{Dice, Key, seed};
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
        d.stop(std::time::Duration::ZERO).expect("nothing runs");
    }
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
