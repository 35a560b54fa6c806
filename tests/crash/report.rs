//! What the driver tells the checker: one line per fact, written by one call of write(2).
//!
//! A line is shorter than a pipe's atomic size, so a driver that is killed has told a fact or has not. The
//! checker lives in another process and keeps what it was told, whatever becomes of the teller.

use std::fmt;
use std::str::FromStr;

use crate::key::Key;

/// One fact, told at the moment it is true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// The store is open.
    Opened,
    /// The driver is about to push this job, and asks for this level.
    Intent(Key, Level),
    /// A push of this job returned: it is accepted, at this level.
    Acked(Key, Level),
    /// A push of this job was refused, with this kind of error.
    Refused(Key, String),
    /// A rule against overload gave this job up, for this reason: the push said so, or an event.
    Shed(Key, String),
    /// So many jobs wait in a store that was just opened.
    Waiting(u64),
    /// The store says of this job that it was shed, and why.
    Gone(Key, String),
    /// A worker holds this job: what it was given, which attempt it is, and under which fence.
    Started(Key, u64, u32, u64),
    /// A payload was delivered that has no key any more.
    Garbled(u64),
    /// The body of this job under this fence is over, with this end. Told before anything is stored about it.
    Ended(Key, u64, End),
    /// The answer for this job under this fence returned.
    Completed(Key, u64),
    /// The same, and it was to return only when the answer is on disk.
    Stored(Key, u64),
    /// The answer for this job came back with this kind of error, or was stale.
    Unanswered(Key, u64, String),
    /// The driver is about to ask that everything be on disk.
    Flushing(u64),
    /// That call returned.
    Flushed(u64),
    /// The store's own counts: accepted, ended in any way, waiting or running.
    Balance(u64, u64, u64),
    /// The driver is about to stop.
    Stopping,
    /// The stop returned.
    Stopped,
    /// A call that must not fail did, with this text.
    Trouble(String),
}

/// How safe an accepted job is said to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Memory,
    Os,
    Disk,
    /// None at all: what a disk that lies promises.
    Never,
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Well.
    Good,
    /// Badly, for good.
    Fatal,
    /// It will run again.
    Again,
}

impl Report {
    /// Tells it on standard output, in one write.
    pub fn tell(&self) {
        let line = format!("{PREFIX}{self}\n");
        debug_assert!(line.len() < libc::PIPE_BUF);
        // SAFETY: the buffer is valid for its length for the time of the call.
        let written = unsafe { libc::write(libc::STDOUT_FILENO, line.as_ptr().cast(), line.len()) };
        if written != line.len() as isize {
            // The checker is gone; nobody would hear what we do from now on.
            std::process::exit(3);
        }
    }

    /// The fact on this line of the driver's output, if it is one.
    pub fn on(line: &str) -> Option<Self> {
        let line = line.strip_prefix(PREFIX)?;
        Some(line.parse().unwrap_or_else(|()| panic!("no report: {line:?}")))
    }
}

/// What tells reports from other output of a test program.
const PREFIX: &str = "#> ";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Opened => write!(f, "opened"),
            Report::Intent(key, level) => write!(f, "intent {key} {}", level.name()),
            Report::Acked(key, level) => write!(f, "acked {key} {}", level.name()),
            Report::Refused(key, kind) => write!(f, "refused {key} {kind}"),
            Report::Shed(key, reason) => write!(f, "shed {key} {reason}"),
            Report::Waiting(n) => write!(f, "waiting {n}"),
            Report::Gone(key, reason) => write!(f, "gone {key} {reason}"),
            Report::Started(key, bytes, attempt, fence) => {
                write!(f, "started {key} {bytes} {attempt} {fence}")
            }
            Report::Garbled(bytes) => write!(f, "garbled {bytes}"),
            Report::Ended(key, fence, end) => write!(f, "ended {key} {fence} {}", end.name()),
            Report::Completed(key, fence) => write!(f, "completed {key} {fence}"),
            Report::Stored(key, fence) => write!(f, "stored {key} {fence}"),
            Report::Unanswered(key, fence, kind) => write!(f, "unanswered {key} {fence} {kind}"),
            Report::Flushing(n) => write!(f, "flushing {n}"),
            Report::Flushed(n) => write!(f, "flushed {n}"),
            Report::Balance(accepted, ended, pending) => write!(f, "balance {accepted} {ended} {pending}"),
            Report::Stopping => write!(f, "stopping"),
            Report::Stopped => write!(f, "stopped"),
            Report::Trouble(text) => write!(f, "trouble {}", text.replace('\n', " ")),
        }
    }
}

impl FromStr for Report {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut fields = Fields(rest.split(' '));
        Ok(match word {
            "opened" => Report::Opened,
            "intent" => Report::Intent(fields.key()?, Level::read(fields.word()?)?),
            "acked" => Report::Acked(fields.key()?, Level::read(fields.word()?)?),
            "refused" => Report::Refused(fields.key()?, fields.word()?.into()),
            "shed" => Report::Shed(fields.key()?, fields.word()?.into()),
            "waiting" => Report::Waiting(fields.number()?),
            "gone" => Report::Gone(fields.key()?, fields.word()?.into()),
            "started" => Report::Started(
                fields.key()?,
                fields.number()?,
                fields.number()?,
                fields.number()?,
            ),
            "garbled" => Report::Garbled(fields.number()?),
            "ended" => Report::Ended(fields.key()?, fields.number()?, End::read(fields.word()?)?),
            "completed" => Report::Completed(fields.key()?, fields.number()?),
            "stored" => Report::Stored(fields.key()?, fields.number()?),
            "unanswered" => Report::Unanswered(fields.key()?, fields.number()?, fields.word()?.into()),
            "flushing" => Report::Flushing(fields.number()?),
            "flushed" => Report::Flushed(fields.number()?),
            "balance" => Report::Balance(fields.number()?, fields.number()?, fields.number()?),
            "stopping" => Report::Stopping,
            "stopped" => Report::Stopped,
            "trouble" => Report::Trouble(rest.into()),
            _ => return Err(()),
        })
    }
}

/// What follows the first word of a line.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Result<&'a str, ()> {
        self.0.next().filter(|text| !text.is_empty()).ok_or(())
    }

    fn key(&mut self) -> Result<Key, ()> {
        Key::read(self.word()?).ok_or(())
    }

    fn number<T: FromStr>(&mut self) -> Result<T, ()> {
        self.word()?.parse().map_err(|_| ())
    }
}

macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl $name {
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            pub fn read(text: &str) -> Result<Self, ()> {
                match text { $($word => Ok($name::$variant),)+ _ => Err(()) }
            }
        }
    };
}

words!(Level { Memory = "memory", Os = "os", Disk = "disk", Never = "never", });
words!(End { Good = "good", Fatal = "fatal", Again = "again", });

#[test]
fn a_report_is_read_as_it_is_told() {
    let key = Key::new(1, 2, 3);
    for report in [
        Report::Opened,
        Report::Intent(key, Level::Disk),
        Report::Acked(key.child(), Level::Os),
        Report::Refused(key, "Full".into()),
        Report::Shed(key, "shed_oldest".into()),
        Report::Waiting(7),
        Report::Gone(key, "shed_newest".into()),
        Report::Started(key, u64::MAX, 2, 3),
        Report::Garbled(9),
        Report::Ended(key, 1, End::Again),
        Report::Completed(key, 2),
        Report::Stored(key, 3),
        Report::Unanswered(key, 5, "Storage".into()),
        Report::Flushing(1),
        Report::Flushed(1),
        Report::Balance(3, 2, 1),
        Report::Stopping,
        Report::Stopped,
        Report::Trouble("the disk is gone".into()),
    ] {
        assert_eq!(Report::on(&format!("{PREFIX}{report}")), Some(report));
    }
    assert_eq!(Report::on("running 1 test"), None);
}
