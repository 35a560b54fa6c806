//! The dump file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Dispatcher, Encoded, Error, ErrorKind, HostObject, Lease, NewJob, Options, Payload, State};

use crate::stage::*;

/// a dump file that is not there is a fresh start, and is there after the stop.
#[test]
fn an_absent_dump_file_is_a_fresh_start() {
    let folder = Folder::new();
    let d = kept(&folder).unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    assert!(!folder.file().exists());
    d.stop(LONG).unwrap();
    assert!(folder.file().exists());
    assert_eq!(kept(&folder).unwrap().state(id).unwrap(), State::Queued);
}

/// two jobs that ran to their end do not run again, however often one starts and stops.
#[test]
fn finished_jobs_do_not_run_again() {
    let (folder, ran) = (Folder::new(), Arc::new(AtomicU64::new(0)));
    for round in 0..3 {
        let d = kept(&folder).unwrap();
        let count = ran.clone();
        let run = move |_: &Lease| {
            count.fetch_add(1, Ordering::SeqCst);
        };
        d.register("k", run).unwrap();
        d.start().unwrap();
        if round == 0 {
            for _ in 0..2 {
                d.push(NewJob::new("k", ())).unwrap();
            }
        }
        d.drain(soon()).unwrap();
        d.stop(LONG).unwrap();
    }
    assert_eq!(ran.load(Ordering::SeqCst), 2);
}

/// Dropping the last handle writes the dump, too.
#[test]
fn dropping_the_last_handle_writes_the_dump() {
    let folder = Folder::new();
    let d = kept(&folder).unwrap();
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    drop(d);
    assert_eq!(kept(&folder).unwrap().state(id).unwrap(), State::Queued);
}

/// A dump file has one owner at a time.
#[test]
fn a_dump_file_has_one_owner() {
    let folder = Folder::new();
    let first = kept(&folder).unwrap();
    let error = kept(&folder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    first.stop(LONG).unwrap();
    drop(first);
    kept(&folder).unwrap();
}

/// A damaged or newer dump file is a typed error, and is left alone.
#[test]
fn a_damaged_dump_file_is_left_alone() {
    let folder = Folder::new();
    for (text, kind) in [
        ("{\"forebay_dump\":1,\"created_us\":0}\n", ErrorKind::Corrupt),
        ("{\"forebay_dump\":99}\n", ErrorKind::FutureFormat),
    ] {
        std::fs::write(folder.file(), text).unwrap();
        assert_eq!(kept(&folder).unwrap_err().kind(), kind);
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), text);
    }
}

/// With an interval, the file follows the jobs without a stop.
#[test]
fn the_dump_is_written_at_its_interval() {
    let folder = Folder::new();
    let mut options = Options::default();
    (options.dump_file, options.dump_interval) = (Some(folder.file()), Some(Duration::from_millis(5)));
    let d = Dispatcher::open("memory:", options).unwrap();
    let holds = |id: forebay::JobId| {
        let text = std::fs::read_to_string(folder.file()).unwrap_or_default();
        text.contains(&id.to_string())
    };
    let id = d.push(NewJob::new("k", ())).unwrap().id;
    until("the job is in the file", || holds(id));
    d.cancel(id).unwrap();
    until("the job is in the file no more", || !holds(id));
    d.stop(LONG).unwrap();
}

/// An object that cannot be encoded.
struct Socket;

impl HostObject for Socket {
    fn encode(&self) -> forebay::Result<Encoded> {
        Err(Error::new(ErrorKind::Encode, "$ is a socket"))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// With a dump file, nothing is accepted that it could not hold.
#[test]
fn what_cannot_be_dumped_is_not_accepted() {
    let folder = Folder::new();
    let d = kept(&folder).unwrap();
    assert_eq!(
        d.push(NewJob::new("k", Payload::host(Socket)))
            .unwrap_err()
            .kind(),
        ErrorKind::Encode
    );
    d.push(NewJob::new("k", ())).unwrap();
    d.stop(LONG).unwrap();
}
