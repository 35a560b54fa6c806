//! Dump and restore: unfinished jobs as versioned, checksummed JSON lines, from any engine into any
//! other.
//!
//! The first line is a header, then one line per job in the order in which they would start, then one with
//! the number of jobs and the xxh3 checksum of everything before it. A dump is written aside, synced, renamed over
//! the old one, and the directory is synced: at every instant the path holds one whole dump, the old or the new. Two dumps
//! to one path never meet, and a later one is never replaced by one that began earlier.
//!
//! What a job had comes back: attempts, fence, key, priority, times, headers, history. A job that was
//! running when the dump was written had its lease end with the process: that counts as one attempt.
//!
//! The option `dump_interval` writes the file whenever something of an unfinished job has changed since it was
//! last written, and leaves it alone otherwise. A dump that fails then is an event, and is tried again at the
//! next interval.
//!
//! A dump is believed whole or not at all. What a push would refuse is damage here too, and so are counters
//! that no job ever reaches: an attempt above 2³¹ - 1, a fence above 2⁶³ - 1. A counter that should have come
//! that far all the same is written as that bound.

mod aside;

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crossbeam_channel::{RecvTimeoutError, Sender};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::dispatcher::{Dispatcher, RestoredJob};
use crate::engine::Inserted;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::fork::Birth;
use crate::history::LineAttempt;
use crate::id::JobId;
use crate::job::{Extras, Job, State};
use crate::names::check_name;
use crate::panics::caught;
use crate::payload::{Encoded, Payload};
use crate::planted::{Bug, planted};
use crate::retry::RetryPolicy;
use crate::threads;
use crate::time::Timestamp;
use aside::{Aside, beside, sync_folder};

/// The version this build writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// What a dump or a restore did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DumpReport {
    /// Jobs written, or read and accepted.
    pub jobs: usize,
    /// Jobs of the file that were already here, waiting, running or finished, and were left as they are.
    pub known: usize,
    /// Jobs of the file whose key belongs to another job here, of another kind or payload. They were not
    /// accepted; the file still has them.
    pub conflicts: usize,
}

#[derive(Serialize, Deserialize)]
struct Header {
    forebay_dump: u32,
    created_us: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    paused_queues: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Footer {
    jobs: usize,
    xxh3: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    queue: String,
    kind: String,
    state: String,
    #[serde(default, skip_serializing_if = "is_default")]
    priority: i8,
    #[serde(default, skip_serializing_if = "is_default")]
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    fence: u64,
    created_us: i64,
    run_at_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_us: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waits: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    cancel_requested: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    crashes: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<LineAttempt>,
    content_type: String,
    #[serde(flatten)]
    payload: LinePayload,
}

/// Text where the bytes are text, so that a person can read and edit a dump; base64 otherwise.
#[derive(Serialize, Deserialize)]
enum LinePayload {
    #[serde(rename = "text")]
    Text(String),
    #[serde(rename = "base64")]
    Base64(String),
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A dump takes the place of what stands at its path: that must not be a device, a pipe or a socket.
fn check_target(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() && !there.is_dir() => {
            let text = format!(
                "{} is no regular file, which a dump would replace; name another path",
                path.display()
            );
            Err(Error::invalid(text))
        }
        // What cannot be looked at, or is a folder, fails by itself when the file is put in place.
        _ => Ok(()),
    }
}

/// A dump is read to its end: a pipe or a device may have none.
fn check_source(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            let text = format!("{} is no regular file, and so no dump", path.display());
            Err(Error::invalid(text))
        }
        // What cannot be looked at fails by itself when it is opened.
        _ => Ok(()),
    }
}

impl Dispatcher {
    /// Writes every unfinished job to `path`, as of one instant. The former file stays until the new one
    /// is whole and synced. Of several dumps to one path at once, the one that began last stays.
    ///
    /// # Errors
    /// `Invalid` if a device, a pipe or a socket stands at the path; `Encode` if a payload cannot be encoded
    /// (the job is named); `Storage` if the file cannot be written. The former file is then untouched, but
    /// for one case, of which the text tells: when only its folder cannot be synced, the new one is in
    /// place, and might not survive a power cut.
    pub fn dump(&self, path: impl AsRef<Path>) -> Result<DumpReport> {
        self.check_process()?;
        let path = path.as_ref();
        check_target(path)?;
        let turn = self.0.dumps.begin(path);
        let aside = Aside::create(path)?;
        let jobs = self.write_dump(aside.file())?;
        if !planted(Bug::DumpBeforeSync) {
            aside.sync()?;
        }
        turn.end(|| aside.put_in_place())?;
        sync_folder(path)?;
        Ok(DumpReport {
            jobs,
            ..DumpReport::default()
        })
    }

    /// Writes a dump to anything that takes bytes. Returns the number of jobs.
    fn write_dump(&self, to: impl Write) -> Result<usize> {
        let failed = |e: io::Error| Error::new(ErrorKind::Storage, "cannot write the dump").caused_by(e);
        let mut out = Summed {
            to: BufWriter::new(to),
            sum: Xxh3::new(),
        };
        let paused_queues = self.paused_queues()?;
        let header = Header {
            forebay_dump: VERSION,
            created_us: self.now().as_micros(),
            paused_queues,
        };
        out.line(&header).map_err(failed)?;
        let mut jobs = 0;
        self.export(&mut |job| {
            jobs += 1;
            out.line(&line(&job)?).map_err(failed)
        })?;
        let footer = Footer {
            jobs,
            xxh3: format!("{:016x}", out.sum.digest()),
        };
        out.line(&footer).map_err(failed)?;
        out.to.flush().map_err(failed)?;
        Ok(jobs)
    }

    /// Reads a dump and accepts its jobs. Jobs that are already here are left as they are, so that
    /// restoring twice makes no duplicates and a finished job never comes back. The whole file is checked
    /// before the first job is accepted.
    ///
    /// # Errors
    /// `NotFound` if there is no such file; `Corrupt` if it is damaged, `FutureFormat` if a newer version
    /// wrote it, `Invalid` if it is no regular file, or if there are not as many names to be had as it needs (in
    /// these cases nothing was accepted and the file is left alone); `Storage`; `Closed`; of the store.
    pub fn restore(&self, path: impl AsRef<Path>) -> Result<DumpReport> {
        self.check_process()?;
        let (header, jobs) = open(path.as_ref())?;
        self.check_names(&jobs, &header.paused_queues)?;
        // Before the jobs: none of them may be handed out in the moment until their queue is paused.
        for queue in &header.paused_queues {
            self.pause(queue)?;
        }
        let mut report = DumpReport::default();
        for job in &jobs {
            match self.accept_restored(job)? {
                Inserted::New => report.jobs += 1,
                Inserted::Conflict(_) => report.conflicts += 1,
                _ => report.known += 1,
            }
        }
        // Whoever hears that it went well may delete the dump.
        self.0.harden()?;
        Ok(report)
    }
}

/// The jobs of a dump as they stood, and the names of the paused queues.
///
/// # Errors
/// As [`Dispatcher::restore`].
pub(crate) fn look(path: &Path) -> Result<(Vec<Job>, Vec<String>)> {
    let (header, jobs) = open(path)?;
    let jobs = jobs.into_iter().map(RestoredJob::into_job).collect();
    Ok((jobs, header.paused_queues))
}

fn open(path: &Path) -> Result<(Header, Vec<RestoredJob>)> {
    check_source(path)?;
    let file = fs::File::open(path).map_err(|e| {
        let kind = if e.kind() == io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Storage
        };
        Error::new(kind, format!("cannot open the dump {}", path.display())).caused_by(e)
    })?;
    read(BufReader::new(file), path)
}

/// A writer that sums what goes through it.
struct Summed<W> {
    to: W,
    sum: Xxh3,
}

impl<W: Write> Summed<W> {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(value)?;
        text.push(b'\n');
        self.sum.update(&text);
        self.to.write_all(&text)
    }
}

/// Reads and checks a whole dump.
fn read(mut from: impl BufRead, path: &Path) -> Result<(Header, Vec<RestoredJob>)> {
    let damaged = |what: String| {
        let text = format!(
            "the dump {} is damaged: {what}; it was left alone and nothing was restored",
            path.display()
        );
        Error::new(ErrorKind::Corrupt, text)
    };
    let (mut sum, mut before_last) = (Xxh3::new(), 0);
    let (mut header, mut jobs, mut footer) = (None, Vec::new(), None::<Footer>);
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let read = from.read_until(b'\n', &mut text).map_err(|e| {
            let text = format!("cannot read the dump {}", path.display());
            Error::new(ErrorKind::Storage, text).caused_by(e)
        })?;
        if read == 0 {
            break;
        }
        let broken = |e: serde_json::Error| damaged(format!("line {number}: {e}"));
        if footer.is_some() {
            return Err(damaged(format!("line {number} comes after the end")));
        }
        if text.pop() != Some(b'\n') {
            return Err(damaged(format!("line {number} is cut off")));
        }
        if number == 1 {
            let read = read_header(&text, path).map_err(|e| e.unwrap_or_else(&broken))?;
            for queue in &read.paused_queues {
                check_name(queue, "queue").map_err(|e| damaged(format!("line 1: {e}")))?;
            }
            header = Some(read);
        } else if text.starts_with(b"{\"jobs\":") {
            footer = Some(serde_json::from_slice(&text).map_err(broken)?);
            before_last = sum.digest();
        } else {
            let line: Line = serde_json::from_slice(&text).map_err(broken)?;
            jobs.push(job(line).map_err(|e| damaged(format!("line {number}: {e}")))?);
        }
        sum.update(&text);
        sum.update(b"\n");
    }
    let header = header.ok_or_else(|| damaged("it is empty".into()))?;
    let footer = footer.ok_or_else(|| damaged("its end is missing".into()))?;
    if footer.jobs != jobs.len() {
        return Err(damaged(format!(
            "it should hold {} jobs and holds {}",
            footer.jobs,
            jobs.len()
        )));
    }
    if footer.xxh3 != format!("{before_last:016x}") && !planted(Bug::DumpUnchecked) {
        return Err(damaged("its checksum does not match".into()));
    }
    Ok((header, jobs))
}

/// The header, or why there is none: an error of its own, or broken JSON.
fn read_header(text: &[u8], path: &Path) -> Result<Header, std::result::Result<Error, serde_json::Error>> {
    #[derive(Deserialize)]
    struct Version {
        forebay_dump: u32,
    }
    let version: Version = serde_json::from_slice(text).map_err(Err)?;
    if version.forebay_dump == 0 {
        return Err(Err(serde::de::Error::custom("there is no version 0")));
    }
    if version.forebay_dump > VERSION {
        let (theirs, path) = (version.forebay_dump, path.display());
        let text = format!(
            "the dump {path} has version {theirs}, this build reads up to {VERSION}; use a newer build"
        );
        return Err(Ok(Error::new(ErrorKind::FutureFormat, text)));
    }
    serde_json::from_slice(text).map_err(Err)
}

fn line(job: &Job) -> Result<Line> {
    let encoded = job.payload.encode().map_err(|e| {
        let text = format!(
            "the payload of job {} (kind {:?}) cannot be written to a dump",
            job.id, job.kind
        );
        Error::new(ErrorKind::Encode, text).caused_by(e)
    })?;
    let payload = match std::str::from_utf8(&encoded.bytes) {
        Ok(text) => LinePayload::Text(text.to_owned()),
        Err(_) => LinePayload::Base64(BASE64.encode(&encoded.bytes)),
    };
    let extras = job.extras.as_deref();
    Ok(Line {
        id: job.id.to_string(),
        queue: job.queue.to_string(),
        kind: job.kind.to_string(),
        state: job.state.name().to_owned(),
        priority: job.priority,
        attempt: job.attempt.min(RestoredJob::MAX_ATTEMPT),
        max_attempts: job.max_attempts,
        fence: job.fence.min(RestoredJob::MAX_FENCE),
        created_us: job.created.as_micros(),
        run_at_us: job.run_at.as_micros(),
        deadline_us: job.deadline.map(Timestamp::as_micros),
        timeout_us: job
            .timeout
            .map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)),
        key: job.key().map(str::to_owned),
        fingerprint: extras.filter(|e| e.key.is_some()).map(|e| e.fingerprint),
        concurrency_key: job.concurrency_key().map(str::to_owned),
        retry: extras.and_then(|e| e.retry).map(|r| r.to_string()),
        headers: job.headers().to_vec(),
        waits: job.waits.iter().map(|t| t.to_string()).collect(),
        cancel_requested: job.cancel_requested,
        crashes: job.crashes,
        history: job.history.iter().map(LineAttempt::from).collect(),
        content_type: encoded.content_type.into_owned(),
        payload,
    })
}

fn job(line: Line) -> Result<RestoredJob> {
    let state = State::from_name(&line.state).filter(|s| !s.is_final());
    let state = state.ok_or_else(|| Error::invalid(format!("state {:?}", line.state)))?;
    let bytes = match line.payload {
        LinePayload::Text(text) => text.into_bytes(),
        LinePayload::Base64(text) => BASE64
            .decode(text)
            .map_err(|e| Error::invalid("the payload is not base64").caused_by(e))?,
    };
    let retry = line.retry.as_deref().map(RetryPolicy::parse).transpose()?;
    let extras = Extras {
        key: line.key.map(String::into_boxed_str),
        fingerprint: line.fingerprint.unwrap_or(0),
        concurrency_key: line.concurrency_key.map(String::into_boxed_str),
        retry,
        headers: line.headers,
    };
    let job = RestoredJob {
        id: line.id.parse::<JobId>()?,
        queue: line.queue,
        kind: line.kind,
        payload: Payload::encoded(Encoded {
            bytes: bytes.into(),
            content_type: line.content_type.into(),
        }),
        priority: line.priority,
        attempt: line.attempt,
        max_attempts: line.max_attempts,
        fence: line.fence,
        created: Timestamp::from_micros(line.created_us),
        run_at: Timestamp::from_micros(line.run_at_us),
        deadline: line.deadline_us.map(Timestamp::from_micros),
        timeout: line.timeout_us.map(Duration::from_micros),
        extras: (extras != Extras::default()).then(|| Arc::new(extras)),
        waits: line.waits.into_iter().map(Arc::from).collect(),
        state,
        cancel_requested: line.cancel_requested,
        crashes: line.crashes,
        history: line
            .history
            .into_iter()
            .map(LineAttempt::read)
            .collect::<Result<_>>()?,
    };
    job.check()?;
    Ok(job)
}

/// A dump file that one dispatcher has for itself, by a lock on a file beside it. What earlier ones left
/// half written is removed.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    lock: fs::File,
    birth: Birth,
}

impl File {
    /// Takes the file for this dispatcher.
    pub(crate) fn claim(path: PathBuf) -> Result<Self> {
        let beside = beside(&path, ".lock");
        let failed = |e: io::Error| {
            let text = format!("cannot lock the dump file {}", path.display());
            Error::new(ErrorKind::Storage, text).caused_by(e)
        };
        let mut options = fs::OpenOptions::new();
        options.create(true).read(true).append(true);
        // Whatever a link of that name leads to is not ours to empty.
        #[cfg(unix)]
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let lock = options.open(&beside).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&beside).unwrap_or_default();
                let (path, owner) = (path.display(), owner.trim());
                let text =
                    format!("the dump file {path} is in use by process {owner}; stop it or use another file");
                return Err(Error::new(ErrorKind::AlreadyOpen, text));
            }
            Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
        lock.set_len(0).map_err(failed)?;
        writeln!(&lock, "{}", std::process::id()).map_err(failed)?;
        Aside::remove_leftovers(&path);
        Ok(Self {
            path,
            lock,
            birth: Birth::here(),
        })
    }
}

impl Drop for File {
    /// Lets go of it at once: children that were forked have the open file, too, and with it the lock.
    fn drop(&mut self) {
        // In such a child the lock is the parent's.
        if self.birth.is_here() {
            // What cannot be unlocked is when the last one closes it.
            let _ = self.lock.unlock();
        }
    }
}

/// Restores from the file now, and writes it at the interval and at the stop.
pub(crate) fn keep(dispatcher: &Dispatcher, file: File) -> Result<()> {
    match dispatcher.restore(&file.path) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    dispatcher.require_encodable();
    let file = Arc::new(file);
    let writer = match dispatcher.options().dump_interval {
        Some(interval) => Some(write_each(dispatcher, interval, file.clone())?),
        None => None,
    };
    dispatcher.at_stop(Box::new(move |dispatcher, _| {
        if let Some((stop, thread)) = writer {
            drop(stop);
            // It ends within one dump.
            threads::join(thread);
        }
        dispatcher.dump(&file.path).map(|_| ())
    }));
    Ok(())
}

/// The thread that writes at the interval. It ends when its sender is dropped.
type Writer = (Sender<()>, JoinHandle<()>);

/// Writes the dump once per interval in which something changed.
fn write_each(dispatcher: &Dispatcher, interval: Duration, file: Arc<File>) -> Result<Writer> {
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let dispatcher = dispatcher.idle_handle();
    let thread = threads::spawn("dump", move || {
        let mut written = None;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
            let basis = dispatcher.dump_basis().ok();
            if basis.is_some() && basis == written {
                continue;
            }
            // A panic must not end the thread: the next dump may well succeed.
            match caught(|| dispatcher.dump(&file.path)) {
                Ok(Ok(_)) => written = basis,
                Ok(Err(error)) => dispatcher
                    .0
                    .announce_event(EventKind::DumpFailed, Some(error.to_string())),
                Err(panic) => dispatcher
                    .0
                    .announce_event(EventKind::DumpFailed, Some(format!("it panicked: {panic}"))),
            }
        }
    })?;
    Ok((stop, thread))
}

#[cfg(all(test, not(shuttle)))]
mod tests;
