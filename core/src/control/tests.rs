//! The socket, asked by clients that behave and by ones that do not.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may")]

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::dispatcher::Dispatcher;
use crate::error::{ErrorKind, Result};
use crate::fork::testing::Child;
use crate::job::NewJob;
use crate::time::Deadline;

const LONG: Duration = Duration::from_secs(60);

/// A folder for one test, and an owner that listens in it.
struct Owner {
    folder: PathBuf,
    file: PathBuf,
    d: Dispatcher,
}

impl Owner {
    fn new() -> Self {
        Self::at("jobs.db")
    }

    fn at(name: &str) -> Self {
        let folder = folder();
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let d = Dispatcher::in_memory().unwrap();
        serve(&d, &file).unwrap();
        Self { folder, file, d }
    }

    fn ask(&self, request: &Request) -> Result<Vec<String>> {
        self.ask_with(request, b"")
    }

    fn ask_with(&self, request: &Request, input: &[u8]) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let client = Client::connect(&self.file, LONG)?;
        let client = client.expect("the owner listens");
        client.ask(request, input, &mut |line| {
            lines.push(line.to_owned());
            Ok(())
        })?;
        Ok(lines)
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(socket_path(&self.file)).unwrap()
    }

    /// What comes back for these bytes.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may have closed before it read all of it.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The thread of a client that has gone may not have ended yet: then it says to come again.
    fn still_answers(&self) {
        let until = Deadline::after(LONG);
        loop {
            match self.ask(&Request::Stats {}) {
                Err(e) if e.kind() == ErrorKind::AlreadyOpen && !until.passed() => std::thread::yield_now(),
                answer => return assert_eq!(answer.unwrap(), [self.d.stats().unwrap().to_json()]),
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.d.stop(Duration::ZERO);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("forebay-control-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn kind(answer: Result<Vec<String>>) -> ErrorKind {
    answer.unwrap_err().kind()
}

#[test]
fn each_verb_is_answered() {
    let owner = Owner::new();
    let id = owner.d.push(NewJob::new("k", b"in\xff")).unwrap().id.to_string();
    let one = |request: Request| {
        let lines = owner.ask(&request).unwrap();
        assert_eq!(lines.len(), 1, "{request:?}: {lines:?}");
        serde_json::from_str::<serde_json::Value>(&lines[0]).unwrap()
    };
    assert_eq!(one(Request::About {})["pid"], std::process::id());
    assert_eq!(one(Request::List(Listing::default()))["id"], id);
    assert_eq!(one(Request::Show { id: id.clone() })["payload"]["len"], 3);
    assert_eq!(
        one(Request::Explain { what: id.clone() })["reasons"][0]["name"],
        "no_handler"
    );
    let queue = || "default".to_owned();
    assert_eq!(one(Request::Explain { what: queue() })["queue"]["queued"], 1);
    assert_eq!(one(Request::Pause { queue: queue() })["paused"], true);
    assert_eq!(one(Request::Resume { queue: queue() })["paused"], false);
    let path = owner.folder.join("dump").display().to_string();
    assert_eq!(one(Request::Dump { path: path.clone() })["jobs"], 1);
    assert_eq!(one(Request::Restore { path })["known"], 1);
    assert_eq!(one(Request::Cancel { id: id.clone() })["state"], "cancelled");
    let input = None;
    let again = one(Request::Retry {
        id: id.clone(),
        input,
    });
    assert_eq!(
        (&again["created"], &again["state"]),
        (&true.into(), &"queued".into())
    );
    assert_eq!(one(Request::Purge { queue: queue() })["purged"], 1);
    owner.still_answers();
}

#[test]
fn bytes_come_and_go_as_they_are() {
    let owner = Owner::new();
    let long: Vec<u8> = (0..200_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let id = owner.d.push(NewJob::new("k", long.clone())).unwrap().id;
    let get = |id: String, most| {
        let of = Part::Input;
        let lines = owner.ask(&Request::Bytes { id, of, most }).unwrap();
        let head: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        let bytes = lines[1..].iter().flat_map(|line| {
            let piece: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = piece["base64"].as_str().unwrap();
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap()
        });
        (head["len"].as_u64().unwrap(), bytes.collect::<Vec<u8>>())
    };
    assert!(get(id.to_string(), None) == (200_000, long.clone()));
    assert!(get(id.to_string(), Some(10)) == (200_000, long[..10].to_vec()));
    owner.d.cancel(id).unwrap();
    let other: Vec<u8> = long.iter().rev().copied().collect();
    let input = Input {
        len: other.len(),
        content_type: "x/y".into(),
    };
    let retry = Request::Retry {
        id: id.to_string(),
        input: Some(input),
    };
    let lines = owner.ask_with(&retry, &other).unwrap();
    let again: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let again: crate::JobId = again["id"].as_str().unwrap().parse().unwrap();
    let payload = owner.d.get(again).unwrap().payload;
    assert_eq!(payload.content_type(), Some("x/y"));
    assert!(payload.as_bytes() == Some(&other[..]));
}

#[test]
fn what_is_not_there_is_said_so() {
    let owner = Owner::new();
    let nil = || crate::JobId::NIL.to_string();
    let input = None;
    for request in [
        Request::Show { id: nil() },
        Request::Cancel { id: nil() },
        Request::Retry { id: nil(), input },
        Request::Explain { what: nil() },
        Request::Explain { what: "q".into() },
        Request::Pause { queue: "q".into() },
        Request::Purge { queue: "q".into() },
        Request::Restore {
            path: "/no/such/file".into(),
        },
    ] {
        assert_eq!(kind(owner.ask(&request)), ErrorKind::NotFound, "{request:?}");
    }
    assert_eq!(owner.d.stats().unwrap().queue("q"), None, "asking named no queue");
    let id = "no id".to_owned();
    assert_eq!(kind(owner.ask(&Request::Show { id })), ErrorKind::Invalid);
    let states = vec!["happy".to_owned()];
    let listing = Listing {
        states,
        ..Listing::default()
    };
    assert_eq!(kind(owner.ask(&Request::List(listing))), ErrorKind::Invalid);
    owner.still_answers();
}

#[test]
fn what_is_no_request_does_no_harm() {
    let owner = Owner::new();
    let nested = "[".repeat(50_000) + "\n";
    let long = "x".repeat(MAX_REQUEST + 10);
    let announced = r#"{"verb":"retry","id":"00000000-0000-0000-0000-000000000000","input":{"len":LEN,"content_type":"x"}}"#;
    let short = announced.replace("LEN", "9") + "\nshort";
    let huge = announced.replace("LEN", "99999999999") + "\n";
    let negative = announced.replace("LEN", "-1") + "\n";
    for bytes in [
        "\n",
        "{}\n",
        "{\"verb\":\"stats\"}",
        "{\"verb\":\"nothing\"}\n",
        "{\"verb\":\"show\"}\n",
        "{\"verb\":\"show\",\"id\":7}\n",
        "{\"verb\":\"list\",\"limit\":-1}\n",
        "[1,2]\n",
        "null\n",
        "\0\0\0\n",
        &nested,
        &long,
        &short,
        &huge,
        &negative,
    ] {
        let answer = owner.say(bytes.as_bytes());
        let shown = &bytes[..bytes.len().min(80)];
        assert!(
            answer.starts_with(r#"{"error":{"code":1,"#),
            "{shown:?}: {answer}"
        );
        assert!(answer.ends_with("}}\n") && answer.len() < 1000, "{answer}");
        owner.still_answers();
    }
    drop(owner.connect());
    owner.still_answers();
}

/// Requests with bytes changed, cut and doubled at random: whatever is answered, the owner goes on, and the
/// one job that is there is not lost.
#[test]
fn random_bytes_do_no_harm() {
    let owner = Owner::new();
    let id = owner.d.push(NewJob::new("k", ())).unwrap().id;
    let requests: Vec<Vec<u8>> = [
        Request::Stats {},
        Request::Show { id: id.to_string() },
        Request::List(Listing::default()),
        Request::Explain {
            what: "default".into(),
        },
    ]
    .iter()
    .map(|request| serde_json::to_vec(request).unwrap())
    .collect();
    let seed = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 1);
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..500 {
        let mut bytes = requests[random(requests.len())].clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, b"{}[]\",:\\\n0"[random(10)]),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes.push(b'\n');
        let answer = owner.say(&bytes);
        let last = answer.lines().last().unwrap_or_default();
        let ended = last.starts_with(r#"{"done":"#) || last.starts_with(r#"{"error":"#);
        assert!(ended, "{:?}: {answer}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(owner.d.state(id).unwrap(), crate::State::Queued);
    owner.still_answers();
}

#[test]
fn too_many_at_once_are_told_to_come_again() {
    let owner = Owner::new();
    let silent: Vec<UnixStream> = (0..MAX_PEERS).map(|_| owner.connect()).collect();
    let asked = owner.ask(&Request::Stats {});
    assert_eq!(kind(asked), ErrorKind::AlreadyOpen);
    drop(silent);
    owner.still_answers();
}

#[test]
fn a_stop_ends_it() {
    let owner = Owner::new();
    let mut silent = owner.connect();
    owner.still_answers();
    owner.d.stop(Duration::ZERO).unwrap();
    assert!(!socket_path(&owner.file).exists());
    assert!(Client::connect(&owner.file, LONG).unwrap().is_none());
    let mut text = String::new();
    silent.read_to_string(&mut text).unwrap();
    assert!(!text.contains("done"), "{text}");
}

/// A child that was forked has the owner's sockets, too, and may live for ever.
#[test]
fn a_stop_waits_for_no_forked_child() {
    let owner = Owner::new();
    let mut silent = owner.connect();
    owner.still_answers();
    let child = Child::new();
    owner.d.stop(Duration::ZERO).unwrap();
    let mut text = String::new();
    silent.read_to_string(&mut text).unwrap();
    assert!(child.lives(), "the stop has waited for it");
    assert!(Client::connect(&owner.file, LONG).unwrap().is_none());
}

#[test]
fn the_last_handle_ends_it() {
    let folder = folder();
    let file = folder.join("jobs.db");
    let d = Dispatcher::in_memory().unwrap();
    serve(&d, &file).unwrap();
    drop(d);
    assert!(!socket_path(&file).exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_socket_that_was_left_is_replaced() {
    let folder = folder();
    let file = folder.join("jobs.db");
    let left = UnixListener::bind(socket_path(&file)).unwrap();
    // To close it would not do while a child that another test forked has it open, too.
    // SAFETY: the descriptor is open.
    assert_eq!(unsafe { libc::shutdown(left.as_raw_fd(), libc::SHUT_RDWR) }, 0);
    drop(left);
    assert!(Client::connect(&file, LONG).unwrap().is_none(), "nobody listens");
    let d = Dispatcher::in_memory().unwrap();
    serve(&d, &file).unwrap();
    assert!(Client::connect(&file, LONG).unwrap().is_some());
    let mode = fs::metadata(socket_path(&file)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::remove_file(socket_path(&file)).unwrap();
    fs::write(socket_path(&file), "mine").unwrap();
    d.stop(Duration::ZERO).unwrap();
    assert_eq!(
        fs::read(socket_path(&file)).unwrap(),
        b"mine",
        "what is no longer ours stays"
    );
    let refused = serve(&Dispatcher::in_memory().unwrap(), &file).unwrap_err();
    assert!(refused.to_string().contains("is no socket"), "{refused}");
    assert_eq!(fs::read(socket_path(&file)).unwrap(), b"mine");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_path_too_long_for_a_socket_is_reached_through_its_folder() {
    let deep = format!("{}/{}/jobs.db", "a".repeat(120), "b".repeat(120));
    let owner = Owner::at(&deep);
    assert!(socket_path(&owner.file).exists());
    owner.still_answers();
    owner.d.stop(Duration::ZERO).unwrap();
    assert!(!socket_path(&owner.file).exists());
    let name = Path::new(&"c".repeat(120)).with_extension("db");
    let refused = serve(&Dispatcher::in_memory().unwrap(), &owner.folder.join(name)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
}
