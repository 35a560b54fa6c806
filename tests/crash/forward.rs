//! A process that forwards while it is killed, over and over: nothing that was acknowledged is lost, each key
//! keeps its order, and what arrives twice does so only where `docs/forwarding.md` says it can.
//!
//! The process pushes into one file and forwards it, to another file or to a log that a callback appends to. The
//! checker keeps what was acknowledged, and in the end reads what arrived.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay::{
    Deadline, Dispatcher, Durability, Filter, ForwardOptions, JobId, KindSet, Lease, NewJob, Options,
    Outcome, SinkError, State, Target,
};

use crate::key::{Dice, say, seed, size};
use crate::life::Folder;

/// Tells this test program that it is the process that gets killed, and its plan.
const VARIABLE: &str = "FOREBAY_FORWARDER";

const KEYS: [&str; 3] = ["a", "b", "c"];

/// The most jobs of a delivery.
const BATCH: usize = 8;

/// How long anything may take before it counts as hung.
const LONG: Duration = Duration::from_secs(60);

/// What a life does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    life: u64,
    seed: u64,
    /// Whether the jobs go to a log rather than to another dispatcher.
    to_log: bool,
    /// Whether the sink is not there all this life.
    down: bool,
    /// Whether it ends when everything has arrived, instead of pushing until it is killed.
    drains: bool,
}

/// A job, by where it stands in its key: first by life, then by number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Mark {
    key: String,
    life: u64,
    number: u64,
}

impl Mark {
    fn read(text: &str) -> Self {
        let mut parts = text.split('.');
        let mut next = || parts.next().expect("a mark has three parts");
        let key = next().to_owned();
        let (life, number) = (next().parse(), next().parse());
        Self {
            key,
            life: life.expect("a number"),
            number: number.expect("a number"),
        }
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.key, self.life, self.number)
    }
}

#[test]
fn process() {
    let Ok(text) = std::env::var(VARIABLE) else {
        return;
    };
    let (folder, plan) = text.split_once('|').expect("the checker wrote it");
    let numbers: Vec<u64> = plan.split(' ').filter_map(|n| n.parse().ok()).collect();
    let plan = Plan {
        life: numbers[0],
        seed: numbers[1],
        to_log: numbers[2] == 1,
        down: numbers[3] == 1,
        drains: numbers[4] == 1,
    };
    // The test runner has begun a line of its own.
    println!();
    live(Path::new(folder), plan);
    std::process::exit(0);
}

fn url(folder: &Path, name: &str) -> String {
    format!("sqlite:{}?control=false", folder.join(name).display())
}

fn live(folder: &Path, plan: Plan) {
    let d = Dispatcher::open(&url(folder, "outbox.db"), Options::default()).expect("the owner is dead");
    let mut options = ForwardOptions::default();
    options.batch = BATCH;
    options.set("retry", "constant(2ms)").expect("it is a policy");
    let started = match (plan.to_log, plan.down) {
        (true, _) => d.forward("out", log(folder, plan), options),
        (false, true) => d.forward("out", central(&folder.join("missing")), options),
        (false, false) => d.forward("out", central(folder), options),
    };
    started.expect("it is forwarded once");
    if plan.drains {
        return drain(&d);
    }
    let mut dice = Dice::new(plan.seed);
    for number in 0.. {
        let key = KEYS[dice.below(3) as usize];
        let mark = Mark {
            key: key.to_owned(),
            life: plan.life,
            number,
        };
        let level = if dice.one_in(4) {
            Durability::Disk
        } else {
            Durability::Os
        };
        let job = NewJob::new("k", mark.text())
            .queue("out")
            .concurrency_key(key)
            .durability(level);
        d.push(job).expect("it accepts whatever the sink does");
        tell(&format!("acked {}", mark.text()));
    }
}

fn central(folder: &Path) -> Target {
    Target::url(url(folder, "central.db"), Options::default())
}

/// A sink that appends to a file, and now and then takes only some.
fn log(folder: &Path, plan: Plan) -> impl FnMut(&[Lease]) -> Result<(), SinkError> + Send + 'static {
    let mut how = std::fs::OpenOptions::new();
    let log = how.create(true).append(true).open(folder.join("log"));
    let mut file = log.expect("there is room");
    let mut dice = Dice::new(plan.seed ^ 1);
    move |batch| {
        if plan.down {
            return Err(SinkError::down(0, "not in this life"));
        }
        let most = if dice.one_in(4) {
            dice.below(BATCH as u64) as usize
        } else {
            BATCH
        };
        for (place, lease) in batch.iter().enumerate() {
            if place == most {
                return Err(SinkError::down(place, "not now"));
            }
            let mark = std::str::from_utf8(lease.payload().as_bytes().unwrap_or_default());
            let line = format!("{} {} {}\n", plan.life, mark.unwrap_or_default(), lease.id());
            let written = file.write_all(line.as_bytes());
            written.map_err(|e| SinkError::down(place, e.to_string()))?;
        }
        Ok(())
    }
}

/// Lives until everything has arrived.
fn drain(d: &Dispatcher) {
    let (deadline, events) = (Deadline::after(LONG), d.subscribe(64));
    loop {
        let counts = d.stats().expect("it is open").total();
        if counts.waiting() + counts.running == 0 {
            break;
        }
        assert!(!deadline.passed(), "{} jobs do not arrive", counts.waiting());
        // Whatever ends is an event; what a look came too early for is looked at again.
        let _ = events.next(Deadline::after(Duration::from_millis(5)));
    }
    d.stop(LONG).expect("it ends in order");
    tell("drained");
}

/// One write per fact, so that a kill leaves no half of one.
fn tell(fact: &str) {
    let _ = std::io::stdout().write_all(format!("{fact}\n").as_bytes());
}

// ---- the checker --------------------------------------------------------------------------------------

/// Many lives over one pair of stores.
fn lives(folder: &Folder, to_log: bool, count: u64, dice: &mut Dice) -> Vec<Mark> {
    let mut acked = Vec::new();
    for life in 1..=count {
        let plan = Plan {
            life,
            seed: dice.next(),
            to_log,
            down: dice.one_in(5),
            drains: false,
        };
        let facts = 1 + dice.below(150) as usize;
        let mut child = start(folder.path(), plan);
        let heard = hear(&mut child, facts);
        acked.extend(
            heard
                .iter()
                .filter_map(|f| f.strip_prefix("acked "))
                .map(Mark::read),
        );
    }
    let plan = Plan {
        life: count + 1,
        seed: 0,
        to_log,
        down: false,
        drains: true,
    };
    let mut child = start(folder.path(), plan);
    let heard = hear(&mut child, usize::MAX);
    assert_eq!(heard.last().map(String::as_str), Some("drained"));
    acked
}

fn start(folder: &Path, plan: Plan) -> Child {
    let this = std::env::current_exe().expect("a running program has a file");
    let numbers = [
        plan.life,
        plan.seed,
        plan.to_log.into(),
        plan.down.into(),
        plan.drains.into(),
    ];
    let numbers = numbers.map(|n| n.to_string()).join(" ");
    Command::new(this)
        .args(["forward::process", "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, format!("{}|{numbers}", folder.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program that runs can be started again")
}

/// Hears a life to its end, which comes after so many facts.
fn hear(child: &mut Child, facts: usize) -> Vec<String> {
    let pipe = child.stdout.take().expect("it is a pipe");
    let lines = BufReader::new(pipe).lines().map_while(Result::ok);
    let mut heard = Vec::new();
    for line in lines.filter(|l| l.starts_with("acked ") || l == "drained") {
        heard.push(line);
        if heard.len() == facts {
            child.kill().expect("it is our child");
        }
    }
    child.wait().expect("it is our child");
    heard
}

/// What is wrong with what arrived, in the order in which it did.
fn faults(acked: &[Mark], arrived: &[Mark]) -> Vec<String> {
    let there: HashSet<&Mark> = arrived.iter().collect();
    let lost = acked.iter().filter(|mark| !there.contains(mark));
    let mut faults: Vec<_> = lost.map(|mark| format!("{mark:?} is lost")).collect();
    let mut last: HashMap<&str, &Mark> = HashMap::new();
    for mark in arrived {
        if let Some(before) = last.insert(&mark.key, mark).filter(|before| *before >= mark) {
            faults.push(format!("{mark:?} came after {before:?}"));
        }
    }
    faults
}

#[test]
fn what_is_forwarded_to_a_file_survives_every_kill_once_and_in_order() {
    let (mut dice, folder) = (Dice::new(seed()), Folder::new("forward-file"));
    let count = size("FOREBAY_KILLS", 2_000) / 40;
    let acked = lives(&folder, false, count, &mut dice);
    nothing_has_failed(&folder);
    let d = Dispatcher::open(&url(folder.path(), "central.db"), Options::default()).expect("nobody has it");
    let (arrived, ids) = run_all(&d);
    d.stop(LONG).expect("nothing runs");
    say(&format!(
        "{count} kills of a forwarder: {} of {} arrived",
        arrived.len(),
        acked.len()
    ));
    assert!(acked.len() as u64 > count, "the harness shows nothing");
    assert_eq!(
        ids.iter().collect::<HashSet<_>>().len(),
        arrived.len(),
        "a job ran twice"
    );
    nothing_is_wrong(&acked, &arrived);
}

#[test]
fn what_is_forwarded_to_a_callback_repeats_only_what_a_kill_left_open() {
    let (mut dice, folder) = (Dice::new(seed() ^ 2), Folder::new("forward-log"));
    let count = size("FOREBAY_KILLS", 2_000) / 40;
    let acked = lives(&folder, true, count, &mut dice);
    nothing_has_failed(&folder);
    let log = std::fs::read_to_string(folder.file("log")).expect("something arrived");
    let (mut firsts, mut repeats, mut early) = (Vec::new(), 0, 0);
    let (mut seen, mut fresh): (HashMap<&str, u64>, HashSet<(u64, String)>) = Default::default();
    for line in log.lines() {
        let [life, mark, id] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("half a line: {line:?}");
        };
        let (life, mark) = (life.parse::<u64>().expect("a number"), Mark::read(mark));
        let Some(before) = seen.insert(id, life) else {
            fresh.insert((life, mark.key.clone()));
            early += u64::from(life <= count);
            firsts.push(mark);
            continue;
        };
        repeats += 1;
        // Only a death leaves it open whether a job has arrived; and then it comes before all that come after it.
        assert!(before < life, "{line:?} came twice in one life");
        assert!(
            !fresh.contains(&(life, mark.key.clone())),
            "{line:?} came again after newer ones"
        );
    }
    say(&format!(
        "{count} kills: {} arrived, {repeats} of them again",
        firsts.len()
    ));
    assert!(
        early > 0,
        "nothing was forwarded before the end: the harness shows nothing"
    );
    nothing_is_wrong(&acked, &firsts);
}

fn nothing_is_wrong(acked: &[Mark], arrived: &[Mark]) {
    let faults = faults(acked, arrived);
    assert!(
        faults.is_empty(),
        "{} faults, such as {:?}",
        faults.len(),
        &faults[..faults.len().min(5)]
    );
}

/// A harness that cannot fail shows nothing.
#[test]
fn the_checker_notices_what_is_lost_or_overtaken() {
    let marks: Vec<_> = ["a.1.0", "b.1.1", "a.1.2", "a.2.0"].map(Mark::read).into();
    assert!(faults(&marks, &marks).is_empty());
    assert!(faults(&marks, &marks[1..])[0].contains("is lost"));
    let [first, second, third, fourth] = marks.clone().try_into().expect("four");
    let swapped = [second, third, first, fourth];
    assert!(faults(&marks, &swapped)[0].contains("came after"));
}

/// A death in a delivery is not held against the jobs.
fn nothing_has_failed(folder: &Folder) {
    let d = Dispatcher::open(&url(folder.path(), "outbox.db"), Options::default()).expect("nobody has it");
    let failed = Filter {
        states: vec![State::Failed],
        ..Filter::default()
    };
    let page = d.list(&failed).expect("it can be read");
    assert_eq!(page.total, 0, "{:?}", page.jobs.first());
    d.stop(LONG).expect("nothing runs");
}

/// Everything that waits, as it starts.
fn run_all(d: &Dispatcher) -> (Vec<Mark>, Vec<JobId>) {
    let mut consumer = d.consumer(std::sync::Arc::new(KindSet::any()));
    let (mut marks, mut ids) = (Vec::new(), Vec::new());
    while let Some(lease) = consumer
        .next(Deadline::after(Duration::ZERO))
        .expect("it is open")
    {
        let text = std::str::from_utf8(lease.payload().as_bytes().unwrap_or_default());
        marks.push(Mark::read(text.expect("it is text")));
        ids.push(lease.id());
        lease.complete(Outcome::done()).expect("it can be stored");
    }
    (marks, ids)
}
