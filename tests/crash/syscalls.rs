//! Every write and sync of a small workload, killed or failed by strace.
//!
//! The driver runs under `strace -e inject=`, which stands between it and the kernel and touches only calls
//! on the store's own files. A second life without it finds what is left.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use crate::dumps::can_trace;
use crate::faults::chosen;
use crate::key::{Dice, say, seed, size, skip};
use crate::kill::drain;
use crate::ledger::Ledger;
use crate::life::{Folder, Kill, beside, driver, live_as};
use crate::plan::{Finish, Plan};
use crate::report::Level;

/// What is done to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The process dies instead of making it.
    Kill,
    /// It fails with an I/O error.
    Error,
    /// It fails for want of room.
    Full,
    /// It is said to have been made, and was not: a disk that lies.
    Lost,
}

impl Fault {
    const ALL: [Fault; 4] = [Fault::Kill, Fault::Error, Fault::Full, Fault::Lost];

    /// The calls it is done to.
    fn calls(self) -> &'static str {
        match self {
            Fault::Kill | Fault::Error => {
                "write,pwrite64,fsync,fdatasync,ftruncate,fallocate,unlink,rename,link"
            }
            Fault::Full => "write,pwrite64,ftruncate,fallocate",
            Fault::Lost => "write,pwrite64",
        }
    }

    /// The files it is done to. A number of bytes that nobody gave would break other programs than SQLite.
    fn files(self) -> &'static [&'static str] {
        if self == Fault::Lost { SQLITES } else { FILES }
    }

    /// What strace is told to do.
    fn injection(self) -> &'static str {
        match self {
            Fault::Kill => "signal=KILL",
            Fault::Error => "error=EIO",
            Fault::Full => "error=ENOSPC",
            // As long as a page: SQLite is content with that for anything shorter.
            Fault::Lost => "retval=4096",
        }
    }
}

/// Jobs of the workload: with their claims and ends, two hundred operations.
const PUSHES: u32 = 66;

/// The store's files: what strace watches.
const FILES: &[&str] = &["", "-wal", "-shm", ".lock", ".flight", ".reserve"];
/// Those that SQLite writes, always less than a page at a time.
const SQLITES: &[&str] = &["", "-wal"];

#[test]
fn every_call_killed_or_failed() {
    if !can_trace() {
        return skip("no strace on this machine, or no leave to trace");
    }
    let mut dice = Dice::new(seed());
    let budget = size("FOREBAY_SYSCALLS", 120);
    for fault in Fault::ALL {
        let calls = count(fault, &mut dice);
        assert!(calls > 50, "{fault:?}: {calls} calls are no workload");
        let all = calls as u64;
        let mut hit = 0;
        for at in chosen(all, budget / Fault::ALL.len() as u64, &mut dice) {
            hit += u64::from(inject(fault, at, &mut dice));
        }
        say(&format!("{hit} of {all} calls met {fault:?}"));
        assert!(hit > 0, "{fault:?} was never met");
    }
}

fn plan(db: &Path, dice: &mut Dice) -> Plan {
    let mut plan = Plan::new(format!("sqlite:{}", db.display()), 1, dice.next());
    plan.pushers = 1;
    plan.pushes = PUSHES;
    plan.workers = 1;
    plan.finish = Finish::Drains;
    plan
}

/// The driver under strace.
fn traced(fault: Fault, plan: &Plan, (db, log): (&Path, &Path), options: &[String]) -> Command {
    let plain = driver(plan);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(log).args(options);
    if fault != Fault::Kill {
        // Faster, but strace 6.1 sends no signals then.
        command.arg("--seccomp-bpf");
    }
    for file in fault.files() {
        command.arg("-P").arg(beside(db, file));
    }
    command.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
}

/// How many calls of the workload this fault can meet: strace counts for each thread alone, so it is those
/// of the busiest one.
fn count(fault: Fault, dice: &mut Dice) -> usize {
    let folder = Folder::new("syscalls-count");
    let (db, log) = (folder.file("jobs.db"), folder.file("trace"));
    let plan = plan(&db, dice);
    let mut ledger = Ledger::new(Level::Os);
    let options = ["-e".into(), format!("trace={}", fault.calls())];
    live_as(
        traced(fault, &plan, (&db, &log), &options),
        &plan,
        Kill::Never,
        &mut ledger,
    );
    let faults = ledger.verdict();
    assert!(faults.is_empty(), "without any fault:\n{}", faults.join("\n"));
    let mut threads: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).expect("strace wrote it").lines() {
        if let Some((thread, _)) = line.split_once(' ') {
            *threads.entry(thread.into()).or_default() += 1;
        }
    }
    threads.into_values().max().unwrap_or(0)
}

/// One life whose `at`-th call meets the fault, and one that finds what is left. Whether the call came.
fn inject(fault: Fault, at: u64, dice: &mut Dice) -> bool {
    let folder = Folder::new("syscalls");
    let (db, log) = (folder.file("jobs.db"), folder.file("trace"));
    let plan = plan(&db, dice);
    // Nothing is promised on a disk that lies, but that nothing is made up.
    let survives = if fault == Fault::Lost {
        Level::Never
    } else {
        Level::Os
    };
    let mut ledger = Ledger::new(survives);
    ledger.expect_trouble(true);
    let (calls, injection) = (fault.calls(), fault.injection());
    let options = [
        "-e".into(),
        format!("trace={calls}"),
        "-e".into(),
        format!("inject={calls}:{injection}:when={at}"),
    ];
    let command = traced(fault, &plan, (&db, &log), &options);
    let status = live_as(command, &plan, Kill::Never, &mut ledger);
    let trace = std::fs::read_to_string(&log).expect("strace wrote it");
    // strace dies as the program did.
    let met = trace.contains("(INJECTED)") || status.signal() == Some(libc::SIGKILL);
    ledger.expect_trouble(fault == Fault::Lost);
    drain(&mut ledger, dice, 2, &plan.url);
    let faults = if fault == Fault::Lost {
        ledger.inventions()
    } else {
        ledger.verdict()
    };
    assert!(
        faults.is_empty(),
        "{fault:?} at call {at}:\n{}",
        faults.join("\n")
    );
    met
}
