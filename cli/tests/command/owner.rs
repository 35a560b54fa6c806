//! A process that owns a file: the test program itself, started once more.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use forebay::{Deadline, Dispatcher, Filter, JobId, KindSet, Lease, NewJob, Options, Outcome};

const URL: &str = "FOREBAY_TEST_OWNER";
/// What a handler said that wants to repaint the terminal of whoever looks.
const HOSTILE: &str = "\u{1b}[2J\u{1b}[31mno such \u{202e}address\u{7}\r\nat all";

/// A process that has a file open, with a job in each state.
pub(crate) struct Owner {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<std::process::ChildStdout>,
    ids: BTreeMap<String, String>,
}

impl Owner {
    pub(crate) fn of(path: &Path) -> Self {
        Self::with(path, "")
    }

    /// The same with options of a URL.
    pub(crate) fn with(path: &Path, options: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "owner::owner_process", "--nocapture"])
            .env(URL, format!("sqlite:{}{options}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut owner = Self {
            child,
            commands,
            answers,
            ids: BTreeMap::new(),
        };
        owner.ids = serde_json::from_str(&owner.hear("ids ")).unwrap();
        owner
    }

    /// The id of the job in this state.
    pub(crate) fn id(&self, state: &str) -> &str {
        &self.ids[state]
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as it should.
    pub(crate) fn stop(mut self) -> BTreeMap<String, String> {
        self.say("stop");
        self.hear("stopped");
        self.child.wait().unwrap();
        std::mem::take(&mut self.ids)
    }

    /// Ends it as it should not.
    pub(crate) fn kill(mut self) -> BTreeMap<String, String> {
        // What is behind by up to `write_behind` is written first, so that the tests know what to find.
        self.say("flush");
        self.hear("flushed");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.ids)
    }

    fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// Reads up to the line that begins like this, and returns the rest of it.
    fn hear(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.answers.read_line(&mut line).unwrap() > 0,
                "the owner ended early"
            );
            if let Some(at) = line.find(start) {
                return line[at + start.len()..].trim().to_owned();
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the started program does; in all others this is nothing.
#[test]
fn owner_process() {
    let Ok(url) = std::env::var(URL) else { return };
    let d = Dispatcher::open(&url, Options::default()).unwrap();
    // One that opens a file again finds the jobs of the one before.
    let filled = (d.list(&Filter::default()).unwrap().total == 0).then(|| fill(&d));
    let (ids, lease) = filled.unzip();
    d.flush().unwrap();
    println!(
        "\nids {}",
        serde_json::to_string(&ids.unwrap_or_default()).unwrap()
    );
    for command in std::io::stdin().lines() {
        match command.unwrap().as_str() {
            "flush" => {
                d.flush().unwrap();
                println!("\nflushed");
            }
            _ => break,
        }
    }
    drop(lease);
    d.stop(Duration::ZERO).unwrap();
    println!("\nstopped");
}

/// A job in each state; the one that runs is held.
fn fill(d: &Dispatcher) -> (BTreeMap<&'static str, String>, Lease) {
    let push = |job| d.push(job).unwrap().id;
    let to = |queue| {
        NewJob::new("send", r#"{"to":"you"}"#)
            .queue(queue)
            .max_attempts(1)
    };
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let mut take = |id: JobId| {
        let lease = consumer
            .next(Deadline::after(Duration::from_secs(30)))
            .unwrap()
            .unwrap();
        assert_eq!(lease.id(), id);
        lease
    };
    let mut ids = BTreeMap::new();
    let mut is = |state, id: JobId| ids.insert(state, id.to_string());
    let id = push(to("mail"));
    take(id).complete(Outcome::Success("sent".into())).unwrap();
    is("succeeded", id);
    let id = push(to("mail"));
    take(id).complete(Outcome::failed(HOSTILE)).unwrap();
    is("failed", id);
    let id = push(to("mail"));
    let lease = take(id);
    is("running", id);
    let id = push(to("mail"));
    d.cancel(id).unwrap();
    is("cancelled", id);
    is(
        "queued",
        push(to("mail").key("order-17").header("tenant", HOSTILE).priority(3)),
    );
    is("scheduled", push(to("slow").delay(Duration::from_secs(3600))));
    is("blocked", push(to("slow").waits_for("paid")));
    (ids, lease)
}
