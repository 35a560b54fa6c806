//! Dumps that nobody wrote: whole, but with lines that are not what a job can be.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::dispatcher::KindSet;
use crate::error::ErrorKind;
use crate::event::EventKind;
use crate::names::Names;
use crate::outcome::Outcome;
use crate::time::{Clock, Deadline, Timestamp};
use crate::{Dispatcher, JobId, ManualClock, NewJob, Options, State, engine::memory::MemoryEngine};

/// A folder of its own for a test, gone afterwards.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-dump-unit-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for such things can be written");
        Self(path)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.join("jobs.dump")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A dispatcher whose clock stands still, so that nothing but the test does the upkeep.
fn still() -> (Dispatcher, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let engine = Arc::new(MemoryEngine::new(100));
    let d = Dispatcher::with_clock(engine, Options::default(), clock.clone());
    (d.expect("the defaults fit together"), clock)
}

/// A whole dump with these lines, and more in its header.
fn forge(more: &str, lines: &[String]) -> Vec<u8> {
    let mut text = format!("{{\"forebay_dump\":1,\"created_us\":1{more}}}\n");
    for line in lines {
        text += line;
        text.push('\n');
    }
    let sum = xxh3_64(text.as_bytes());
    text += &format!("{{\"jobs\":{},\"xxh3\":\"{sum:016x}\"}}\n", lines.len());
    text.into_bytes()
}

/// The line of a good job, where `field` has this value.
fn line(number: u32, field: &str, value: &str) -> String {
    let mut fields = vec![
        ("id", format!("\"00000000-0000-7000-8000-{number:012}\"")),
        ("queue", "\"default\"".into()),
        ("kind", "\"k\"".into()),
        ("state", "\"queued\"".into()),
        ("created_us", "1".into()),
        ("run_at_us", "1".into()),
        ("content_type", "\"text/plain\"".into()),
        ("text", "\"payload\"".into()),
    ];
    fields.retain(|(name, _)| *name != field);
    if !field.is_empty() {
        fields.push((field, value.into()));
    }
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name:?}:{value}"))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// A child that was forked has the file of the lock open, too, and may live for ever.
#[test]
#[cfg(unix)]
fn a_forked_child_does_not_keep_the_file() {
    let folder = Folder::new();
    let open = || {
        let options = Options {
            dump_file: Some(folder.file()),
            ..Options::default()
        };
        Dispatcher::open("memory:", options)
    };
    let d = open().unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    let child = crate::fork::testing::Child::new();
    d.stop(Duration::ZERO).unwrap();
    assert_eq!(open().unwrap().state(id).unwrap(), State::Queued);
    assert!(child.lives());
}

/// A pipe may never end, or never begin: nobody waits for what is no file.
#[test]
fn what_is_no_regular_file_is_not_restored() {
    let folder = Folder::new();
    let (d, _) = still();
    let pipe = folder.file();
    // The null device comes first: it is read to its end at once where the others would not be.
    for path in [
        "/dev/null".as_ref(),
        folder.0.as_path(),
        pipe.as_path(),
        "/dev/zero".as_ref(),
    ] {
        if path == pipe {
            let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
            // SAFETY: the name ends with a zero and lives through the call.
            assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        }
        let error = d.restore(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}

#[test]
fn one_bad_line_and_nothing_is_accepted() {
    let (folder, (d, _)) = (Folder::new(), still());
    let long = format!("\"{}\"", "x".repeat(300));
    for (field, value, want) in [
        ("id", "\"7\"", "id"),
        ("queue", "\"\"", "queue name is empty"),
        ("queue", &long, "255 are allowed"),
        ("kind", "\"a\\u0001\"", "control character"),
        ("state", "\"succeeded\"", "state"),
        ("state", "\"asleep\"", "state"),
        ("priority", "128", "i8"),
        ("attempt", "4294967295", "above 2147483647"),
        ("attempt", "2147483648", "above 2147483647"),
        ("attempt", "4294967296", "u32"),
        ("fence", "18446744073709551615", "above 9223372036854775807"),
        ("fence", "-1", "u64"),
        ("max_attempts", "0", "at least 1"),
        ("run_at_us", "9223372036854775808", "i64"),
        ("timeout_us", "0", "timeout is zero"),
        ("key", "\"\"", "key name is empty"),
        ("key", &long, "255 are allowed"),
        ("retry", "\"often\"", "often"),
        ("retry", "\"constant(36501d)\"", "too long"),
        ("retry", "\"constant(1s, jitter=NaN)\"", "between 0 and 1"),
        ("headers", "[[\"\",\"v\"]]", "header name is empty"),
        ("waits", "[\"\\n\"]", "control character"),
        ("text", "7", "string"),
        ("base64", "\"?\"", "base64"),
    ] {
        let good = line(1, "", "");
        // Only one of the two forms of a payload may be there.
        let bad = line(2, field, value).replace(",\"text\":\"payload\",\"base64\"", ",\"base64\"");
        std::fs::write(folder.file(), forge("", &[good, bad])).unwrap();
        let error = d.restore(folder.file()).expect_err(value);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let text = error.to_string();
        assert!(text.contains("line 3") && text.contains(want), "{text} / {want}");
        assert!(
            d.stats()
                .unwrap()
                .queues
                .iter()
                .all(|q| q.counts.totals.restored == 0)
        );
    }
    std::fs::write(folder.file(), forge(",\"paused_queues\":[\"\"]", &[])).unwrap();
    assert_eq!(d.restore(folder.file()).unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(folder.file(), forge("", &[line(1, "", "")])).unwrap();
    assert_eq!(d.restore(folder.file()).unwrap().jobs, 1, "the good line is good");
}

#[test]
fn the_ends_of_what_is_allowed_are_harmless() {
    let (folder, (d, clock)) = (Folder::new(), still());
    let extremes = [
        ("fence", "9223372036854775807"),
        ("attempt", "2147483647"),
        ("created_us", "-9223372036854775808"),
        ("created_us", "9223372036854775807"),
        ("run_at_us", "-9223372036854775808"),
        ("deadline_us", "-9223372036854775808"),
        ("deadline_us", "9223372036854775807"),
        ("timeout_us", "18446744073709551615"),
        ("max_attempts", "4294967295"),
        ("retry", "\"exponential(36500d, cap=36500d)\""),
    ];
    let lines = extremes.iter().enumerate();
    let lines: Vec<String> = lines
        .map(|(n, (field, value))| line(n as u32, field, value))
        .collect();
    std::fs::write(folder.file(), forge("", &lines)).unwrap();
    assert_eq!(d.restore(folder.file()).unwrap().jobs, extremes.len());
    let again = folder.0.join("again.dump");
    d.dump(&again).unwrap();
    assert_eq!(still().0.restore(&again).unwrap().jobs, extremes.len());
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let mut held = Vec::new();
    consumer
        .next_many(2, Deadline::after(Duration::ZERO), &mut held)
        .unwrap();
    assert!(
        held.iter().any(|l| l.fence() > i64::MAX as u64)
            && held.iter().any(|l| l.attempt() > i32::MAX as u32)
    );
    d.dump(&again).unwrap();
    still()
        .0
        .restore(&again)
        .expect("a counter beyond its bound is written as the bound");
    for lease in held {
        lease.complete(Outcome::failed("no")).unwrap();
    }
    let mut attempts = 0;
    for _ in 0..20 {
        d.upkeep().unwrap();
        while let Some(lease) = consumer.next(Deadline::after(Duration::ZERO)).unwrap() {
            attempts += 1;
            lease.complete(Outcome::failed("no")).unwrap();
        }
        clock.advance(Duration::from_secs(1_000_000_000));
    }
    assert!(attempts > extremes.len());
    assert!(d.stats().unwrap().total().balanced());
    d.dump(&again).unwrap();
    still().0.restore(&again).unwrap();
}

/// A clock that fails once, when it is told to, as a dump asks for the time.
#[derive(Debug)]
struct Fragile {
    clock: ManualClock,
    whole: AtomicBool,
}

impl Clock for Fragile {
    fn now(&self) -> Timestamp {
        let writer = std::thread::current().name() == Some("forebay-dump");
        assert!(!writer || self.whole.swap(true, Ordering::SeqCst), "once");
        self.clock.now()
    }

    fn runs(&self) -> bool {
        false
    }
}

/// Options by which the file is written all the time.
fn often(folder: &Folder) -> Options {
    Options {
        dump_file: Some(folder.file()),
        dump_interval: Some(Duration::from_millis(1)),
        ..Options::default()
    }
}

/// Reads the file again and again until it shows what it should.
fn until_restored(folder: &Folder, what: &str, shows: impl Fn(&Dispatcher) -> bool) {
    let deadline = Deadline::after(Duration::from_secs(60));
    loop {
        let other = still().0;
        if other.restore(folder.file()).is_ok() && shows(&other) {
            return;
        }
        assert!(!deadline.passed(), "the dump shows {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_does_not_end_the_dumps_at_the_interval() {
    let folder = Folder::new();
    let clock = Arc::new(Fragile {
        clock: ManualClock::new(),
        whole: AtomicBool::new(true),
    });
    let d = Dispatcher::open_with_clock("memory:", often(&folder), clock.clone()).unwrap();
    let events = d.subscribe(100);
    clock.whole.store(false, Ordering::SeqCst);
    d.push(NewJob::new("k", ())).unwrap();
    let deadline = Deadline::after(Duration::from_secs(60));
    let failed = std::iter::from_fn(|| events.next(deadline)).any(|e| e.kind == EventKind::DumpFailed);
    assert!(failed, "it is told of");
    until_restored(&folder, "the job", |d| d.len("default").unwrap() == 1);
}

#[test]
fn a_delivered_token_is_dumped_at_the_interval() {
    let folder = Folder::new();
    let d = Dispatcher::open("memory:", often(&folder)).unwrap();
    let pushed = d
        .push(NewJob::new("k", ()).waits_for("a").waits_for("b"))
        .unwrap();
    let waits = |d: &Dispatcher| d.get(pushed.id).map_or(0, |job| job.waits.len());
    until_restored(&folder, "two tokens", |d| waits(d) == 2);
    d.signal(pushed.id, "a").unwrap();
    until_restored(&folder, "one token", |d| waits(d) == 1);
}

#[test]
fn names_that_are_too_many_are_refused_before_the_first_job() {
    let (folder, (d, _)) = (Folder::new(), still());
    for number in 0..Names::LIMIT - 1 {
        d.kind(&number.to_string()).unwrap();
    }
    let lines: Vec<String> = (1..3).map(|n| line(n, "kind", &format!("\"new {n}\""))).collect();
    std::fs::write(folder.file(), forge("", &lines)).unwrap();
    let error = d.restore(folder.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(d.len("default").unwrap(), 0);
    assert!(d.get(JobId::from_u128(1)).is_err());
    std::fs::write(folder.file(), forge("", &lines[..1])).unwrap();
    assert_eq!(d.restore(folder.file()).unwrap().jobs, 1);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let folder = Folder::new();
    let path = folder.file();
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("the folder can be written");
    let (d, _clock) = still();
    assert_eq!(d.dump(&path).unwrap_err().kind(), ErrorKind::Invalid);
    let there = std::fs::metadata(&path)
        .expect("it still stands there")
        .file_type();
    assert!(there.is_socket());
}
