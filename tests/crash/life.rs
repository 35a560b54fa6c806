//! Starting a driver, listening to it, and ending it at a moment of the checker's choice.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use forebay::Deadline;

use crate::ledger::Ledger;
use crate::plan::{Plan, VARIABLE};
use crate::report::Report;

/// When a driver is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kill {
    /// So long after it was started: while it opens and recovers, as often as not.
    After(Duration),
    /// After so many reports: it has come to do something. Or when it falls silent, with nothing left to do.
    Reports(u32),
    /// So long after it said that it is about to stop.
    Stopping(Duration),
    /// Not at all.
    Never,
}

/// How long a driver is silent that has nothing left to do.
const QUIET: Duration = Duration::from_millis(30);

/// How long a driver may be silent before it counts as hung.
const SILENCE: Duration = Duration::from_secs(120);

/// Lets one driver live by its plan, and hears it to the end.
pub fn live(plan: &Plan, kill: Kill, ledger: &mut Ledger) -> ExitStatus {
    live_as(driver(plan), plan, kill, ledger)
}

/// The command that starts a driver.
pub fn driver(plan: &Plan) -> Command {
    let this = std::env::current_exe().expect("a running program has a file");
    let mut command = Command::new(this);
    command.args(["driver::process", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(VARIABLE, plan.write()).env("RUST_BACKTRACE", "0");
    command
}

/// The same with a command that starts the driver in its own way.
pub fn live_as(command: Command, plan: &Plan, kill: Kill, ledger: &mut Ledger) -> ExitStatus {
    live_watched(command, plan, kill, ledger, &mut Unwatched)
}

/// Looks at a driver while it lives.
pub trait Watch {
    /// Whether to hold it still now; asked after every report.
    fn wants(&mut self) -> bool;

    /// It is held still, and all that it has told is in the books.
    fn look(&mut self, ledger: &Ledger);
}

/// Nobody looks.
struct Unwatched;

impl Watch for Unwatched {
    fn wants(&mut self) -> bool {
        false
    }

    fn look(&mut self, _: &Ledger) {}
}

/// The same, with somebody who looks at it now and then.
pub fn live_watched(
    mut command: Command,
    plan: &Plan,
    kill: Kill,
    ledger: &mut Ledger,
    watch: &mut dyn Watch,
) -> ExitStatus {
    ledger.born(plan.life);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    hear(&mut child, kill, ledger, watch);
    let status = child.wait().expect("it is our child");
    ledger.died();
    status
}

/// Hears a driver until the pipe ends, and kills it in time.
fn hear(child: &mut Child, kill: Kill, ledger: &mut Ledger, watch: &mut dyn Watch) {
    let mut pipe = Lines::of(child);
    let mut reports = 0;
    let mut due = match kill {
        Kill::After(time) => Deadline::after(time),
        _ => Deadline::NEVER,
    };
    loop {
        let heard = pipe.next(due);
        match heard {
            Heard::End => return,
            Heard::Late => {
                child.kill().expect("it is our child");
                due = Deadline::NEVER;
            }
            Heard::Silence => {
                let _ = child.kill();
                panic!("the driver has been silent for {SILENCE:?}: it hangs");
            }
            Heard::Line(line) => {
                let Some(report) = Report::on(&line) else { continue };
                ledger.hear(&report);
                if watch.wants() && hold_still(child) {
                    while let Heard::Line(line) = pipe.next(Deadline::after(Duration::ZERO)) {
                        if let Some(report) = Report::on(&line) {
                            ledger.hear(&report);
                            reports += 1;
                        }
                    }
                    watch.look(ledger);
                    signal(child, libc::SIGCONT);
                }
                reports += 1;
                match kill {
                    Kill::Reports(n) if reports >= n => due = Deadline::after(Duration::ZERO),
                    Kill::Reports(_) => due = Deadline::after(QUIET),
                    Kill::Stopping(time) if report == Report::Stopping => due = Deadline::after(time),
                    _ => {}
                }
            }
        }
    }
}

/// Stops a driver between two instructions; false if it has ended.
fn hold_still(child: &Child) -> bool {
    signal(child, libc::SIGSTOP);
    // SAFETY: all zeros is a valid one.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // What has ended is left to be waited for.
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
    // SAFETY: our child, a valid place for what is known of it.
    let waited = unsafe { libc::waitid(libc::P_PID, child.id(), &mut info, flags) };
    assert_eq!(waited, 0, "it is our child");
    info.si_code == libc::CLD_STOPPED
}

fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: our child, which has not been waited for, so that nobody else has its number.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// What came of waiting for a line.
enum Heard {
    Line(String),
    /// The time given has passed.
    Late,
    /// Nothing came for too long.
    Silence,
    /// The other side is closed, and everything in the pipe has been read.
    End,
}

/// The lines of a driver's output.
struct Lines {
    pipe: std::process::ChildStdout,
    buffer: Vec<u8>,
    /// How much of the buffer has been handed out.
    taken: usize,
}

impl Lines {
    fn of(child: &mut Child) -> Self {
        Self {
            pipe: child.stdout.take().expect("it is a pipe"),
            buffer: Vec::new(),
            taken: 0,
        }
    }

    fn next(&mut self, due: Deadline) -> Heard {
        loop {
            let rest = &self.buffer[self.taken..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                self.taken += end + 1;
                return Heard::Line(line);
            }
            match self.ready(due) {
                Some(true) => {}
                Some(false) => return Heard::Silence,
                None => return Heard::Late,
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            let mut chunk = [0; 1 << 16];
            match self.pipe.read(&mut chunk).expect("a pipe can be read") {
                0 => return Heard::End,
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Whether there is something to read; `None` if the deadline passed first.
    fn ready(&self, due: Deadline) -> Option<bool> {
        let patience = due.left().unwrap_or(SILENCE).min(SILENCE);
        let mut poll = libc::pollfd {
            fd: self.pipe.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let wait = libc::timespec {
            tv_sec: patience.as_secs() as libc::time_t,
            tv_nsec: patience.subsec_nanos().into(),
        };
        // SAFETY: one valid entry, a valid time, no signal mask.
        let ready = unsafe { libc::ppoll(&mut poll, 1, &wait, std::ptr::null()) };
        match ready {
            0 if due.passed() => None,
            0 => Some(false),
            _ => Some(true),
        }
    }
}

/// The store's file of this ending beside its database.
pub fn beside(db: &Path, ending: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A folder of this test's own, on the disk the build is on; gone afterwards unless the test failed.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
    }

    /// One whose files cost no disk: where a fault is simulated anyway.
    pub fn in_memory(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory
        } else {
            Path::new(env!("CARGO_TARGET_TMPDIR"))
        };
        Self::within(parent, name)
    }

    fn within(parent: &Path, name: &str) -> Self {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);
        let number = FOLDERS.fetch_add(1, Relaxed);
        let path = parent.join(format!("crash-{}-{number}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of this name in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("kept for a look: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
