//! Dump files: no damage is accepted in silence, and a new one takes the place of the old only once it is
//! on the disk.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forebay::{Dispatcher, ErrorKind, NewJob};

use crate::key::{Dice, say, seed, skip};
use crate::ledger::Ledger;
use crate::life::{Folder, Kill, driver, live_as};
use crate::plan::{Finish, Plan};
use crate::report::Level;

/// A dump of a few jobs of every shape.
fn small_dump(path: &Path) -> Vec<u8> {
    let d = Dispatcher::in_memory().expect("a dispatcher in memory");
    d.push(NewJob::new("mail", "plain text").key("order-17").priority(3))
        .expect("there is room");
    d.push(NewJob::new("mail", vec![0_u8, 255, 10, 13]).header("tenant", "blue"))
        .expect("there is room");
    d.push(NewJob::new("later", ()).delay(Duration::from_secs(60)))
        .expect("there is room");
    d.push(NewJob::new("held", ()).waits_for("go"))
        .expect("there is room");
    d.dump(path).expect("the folder is ours");
    std::fs::read(path).expect("just written")
}

/// What comes of reading these bytes as a dump.
fn restored(bytes: &[u8], path: &Path) -> Result<usize, ErrorKind> {
    std::fs::write(path, bytes).expect("the folder is ours");
    let d = Dispatcher::in_memory().expect("a dispatcher in memory");
    d.restore(path)
        .map(|report| report.jobs)
        .map_err(|error| error.kind())
}

/// Every bit of a small dump flipped, and every length cut: none is taken for a dump.
#[test]
fn a_damaged_dump_is_never_taken() {
    let folder = Folder::in_memory("dump-bits");
    let whole = small_dump(&folder.file("whole"));
    let path = folder.file("damaged");
    assert_eq!(restored(&whole, &path), Ok(4), "the whole one is sound");
    let mut flips = 0;
    for at in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let came = restored(&bytes, &path);
        let refused = matches!(came, Err(ErrorKind::Corrupt | ErrorKind::FutureFormat));
        assert!(refused, "bit {} of byte {}: {came:?}", at % 8, at / 8);
        flips += 1;
    }
    for len in 0..whole.len() {
        assert_eq!(
            restored(&whole[..len], &path),
            Err(ErrorKind::Corrupt),
            "cut to {len} bytes"
        );
    }
    say(&format!(
        "{flips} flipped bits and {} cuts of a dump, all refused",
        whole.len()
    ));
}

/// The order of the calls that decides what a power cut leaves: the new file's bytes, its name, the folder.
#[test]
fn a_dump_is_synced_before_it_has_its_name() {
    if !can_trace() {
        return skip("no strace on this machine, or no leave to trace");
    }
    let folder = Folder::new("dump-order");
    let (dump, log) = (folder.file("jobs.dump"), folder.file("trace"));
    let url = format!("memory:?dump_file={}", dump.display());
    let mut plan = Plan::new(url, 1, Dice::new(seed()).next());
    (plan.pushers, plan.pushes, plan.level) = (1, 10, Some(Level::Memory));
    plan.finish = Finish::Stops;
    let plain = driver(&plan);
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-qq",
        "-e",
        "trace=write,fsync,fdatasync,rename,renameat2",
        "-o",
    ]);
    command.arg(&log).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    live_as(command, &plan, Kill::Never, &mut Ledger::new(Level::Disk));
    let trace = std::fs::read_to_string(&log).expect("strace wrote it");
    let calls: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains(&*folder.path().to_string_lossy()))
        .collect();
    let last = |what: &dyn Fn(&str) -> bool| calls.iter().rposition(|call| what(call));
    let written = last(&|call| call.contains(" write(") && call.contains(".new."));
    let synced = last(&|call| call.contains("sync(") && call.contains(".new."));
    let renamed = last(&|call| call.contains("rename"));
    let folder_synced =
        last(&|call| call.contains("sync(") && !call.contains(".new.") && !call.contains("jobs.dump"));
    let order = [written, synced, renamed, folder_synced];
    assert!(
        order.iter().all(Option::is_some),
        "{order:?} in\n{}",
        calls.join("\n")
    );
    assert!(
        order.is_sorted(),
        "not synced before it has its name: {order:?} in\n{}",
        calls.join("\n")
    );
}

/// Whether programs can be traced here.
pub fn can_trace() -> bool {
    let traced = Command::new("strace")
        .args(["-qq", "-e", "trace=none", "true"])
        .status();
    traced.is_ok_and(|status| status.success())
}
