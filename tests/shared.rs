//! Several processes on one file: each job has one holder, nothing is lost, whoever lost its lease changes
//! nothing.
//!
//! The processes are this program once more: [`as_a_process`] is what they run, with their part in the
//! environment. They tell what happens on their standard output, so what is counted here is counted apart from
//! the store. Time passes as jobs with a delay, which are events like all others.

#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use forebay::engine::Engine;
use forebay::engine::sqlite::{Sharing, SqliteEngine};
use forebay::{
    Answer, Clock, Deadline, Dispatcher, ErrorKind, FailureKind, Filter, JobId, KindSet, Lease, ManualClock,
    NewJob, OnFull, Options, Outcome, State, SystemClock, Timestamp,
};
use forebay_tests::scratch::Scratch;

/// For what must happen: long enough for any machine.
const SOON: Duration = Duration::from_secs(60);
/// Short enough to be waited for, where a holder is gone.
const LEASE: Duration = Duration::from_secs(2);
/// Long enough that it is extended in time on a machine with other work, where a holder is to keep it.
const KEPT: Duration = Duration::from_secs(6);
/// More than that.
const LONGER: Duration = Duration::from_secs(8);

/// The payload of a job whose first attempt never ends.
const LAST: &[u8] = b"last";

/// The system's clock, and so much more or less.
#[derive(Debug)]
struct Skewed(i64);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(SystemClock.now().as_micros() + self.0 * 1_000_000)
    }
}

fn open(path: &Path, skew: i64, set: impl FnOnce(&mut Options)) -> Dispatcher {
    let clock = Arc::new(Skewed(skew));
    let engine = SqliteEngine::open(path, Sharing::default(), clock.now()).expect("the file can be shared");
    let mut options = Options::default();
    options.lease = Some(LEASE);
    options.retry = forebay::RetryPolicy::none();
    set(&mut options);
    Dispatcher::with_clock(Arc::new(engine), options, clock).expect("the options fit together")
}

fn take(d: &Dispatcher) -> Lease {
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let lease = consumer.next(Deadline::after(SOON)).expect("the store answers");
    lease.expect("a job comes")
}

// ---- the other processes ---------------------------------------------------------------------------------

/// A process with a part to play; it is killed when this is dropped.
struct Process {
    child: Child,
    said: Receiver<String>,
}

impl Process {
    fn start(part: &str, path: &Path, skew: i64) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args([
                "as_a_process",
                "--exact",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("FOREBAY_PART", part)
            .env("FOREBAY_FILE", path)
            .env("FOREBAY_SKEW", skew.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let out = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (say, said) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("@ ") {
                    // Nobody listens any more when the test is over.
                    let _ = say.send(line.to_owned());
                }
            }
        });
        Self { child, said }
    }

    /// The next thing that it says.
    fn hear(&self) -> Vec<String> {
        let line = self.said.recv_timeout(SOON).expect("it says something");
        line.split(' ').map(str::to_owned).collect()
    }

    fn tell(&mut self, line: &str) {
        let to = self.child.stdin.as_mut().expect("it is a pipe");
        writeln!(to, "{line}").expect("it listens");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("there is a kill").success());
    }

    fn kill(&mut self) {
        self.signal("-KILL");
        self.child.wait().expect("it was ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(words: impl std::fmt::Display) {
    println!("\n@ {words}");
}

/// What the other processes run.
#[test]
#[ignore = "started by the others, as a process"]
fn as_a_process() {
    let Ok(part) = std::env::var("FOREBAY_PART") else {
        return;
    };
    let path = PathBuf::from(std::env::var("FOREBAY_FILE").expect("the file"));
    let skew = std::env::var("FOREBAY_SKEW")
        .expect("the skew")
        .parse()
        .expect("a number");
    let d = match &*part {
        "owner" => {
            let url = format!("sqlite:{}", path.display());
            Dispatcher::open(&url, Options::default()).expect("nobody has the file")
        }
        "keeper" | "listener" => open(&path, skew, |o| o.lease = Some(KEPT)),
        "steady" => open(&path, skew, |o| (o.concurrency, o.lease) = (4, Some(SOON))),
        _ => open(&path, skew, |o| o.concurrency = 4),
    };
    let mut orders = std::io::stdin().lines().map_while(Result::ok);
    match &*part {
        "worker" | "steady" => {
            d.register("k", |lease| {
                say(format_args!("ran {} {}", lease.id(), lease.attempt()));
                while lease.payload().as_bytes() == Some(LAST) && lease.attempt() == 1 {
                    std::thread::park();
                }
            })
            .expect("it is open");
            // Before it begins: the first job may be there.
            say("ready");
            d.start().expect("threads can be had");
            orders.next();
            d.stop(SOON).expect("the store answers");
        }
        "owner" => {
            let id = d.push(NewJob::new("k", b"payload")).expect("there is room").id;
            let lease = take(&d);
            say(format_args!("took {id} {}", lease.attempt()));
            orders.next();
        }
        "holder" | "keeper" => {
            say("ready");
            let lease = take(&d);
            say(format_args!(
                "took {} {} {}",
                lease.id(),
                lease.attempt(),
                lease.fence()
            ));
            orders.next();
            let reason = lease.stop_reason().map_or("none", |reason| reason.name());
            let answer = lease
                .complete(Outcome::Success("late".into()))
                .expect("the store answers");
            say(format_args!("answered {answer:?} {reason}"));
            orders.next();
        }
        "listener" => {
            let lease = take(&d);
            say("took");
            let deadline = Deadline::after(SOON);
            while !lease.cancelled() && !deadline.passed() {
                std::thread::yield_now();
            }
            say(format_args!("heard {:?}", lease.stop_reason()));
        }
        "answerer" => {
            let there = d.queue("there").expect("a valid name");
            let mut consumer = d.consumer(Arc::new(KindSet::any())).queues([there]);
            while let Some(lease) = consumer.next(Deadline::NEVER).expect("the store answers") {
                d.push(NewJob::new("answer", b"payload").queue("back"))
                    .expect("there is room");
                lease.complete(Outcome::done()).expect("the store answers");
            }
        }
        other => panic!("nobody plays {other:?}"),
    }
}

// ---- the tests -------------------------------------------------------------------------------------------

/// Rows 10 and 23 among processes: of jobs that several workers take, each runs once, and all do.
#[test]
fn each_job_runs_in_one_process() {
    const JOBS: usize = 900;
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let d = open(&path, 0, |_| ());
    let mut workers: Vec<Process> = (0..3).map(|_| Process::start("steady", &path, 0)).collect();
    workers
        .iter()
        .for_each(|worker| assert_eq!(worker.hear(), ["ready"]));
    let mut pushed = Vec::new();
    for _ in 0..JOBS / 30 {
        let jobs: Vec<_> = (0..30).map(|_| NewJob::new("k", b"payload")).collect();
        pushed.extend(
            d.push_many(&jobs)
                .expect("there is room")
                .into_iter()
                .map(|p| p.id),
        );
    }
    for id in &pushed {
        assert_eq!(
            d.wait(*id, Deadline::after(SOON)).expect("it ends").state,
            State::Succeeded
        );
    }
    let mut ran: HashMap<String, usize> = HashMap::new();
    let mut shares = Vec::new();
    for worker in &mut workers {
        worker.tell("stop");
        let mut share = 0;
        for line in worker.said.iter() {
            *ran.entry(line).or_default() += 1;
            share += 1;
        }
        shares.push(share);
    }
    let want: HashMap<String, usize> = pushed.iter().map(|id| (format!("ran {id} 1"), 1)).collect();
    assert_eq!(ran, want, "shares {shares:?}");
    let total = d.stats().expect("the store answers").total();
    assert_eq!(
        (total.totals.succeeded, total.totals.claimed),
        (JOBS as u64, JOBS as u64)
    );
    assert!(total.balanced(), "{total:?}");
}

/// Processes that are killed in the midst of work lose nothing: every job ends well, once, and whatever ran twice
/// ran in a process that was killed.
#[test]
fn killed_workers_lose_nothing() {
    const KILLS: usize = 8;
    const EACH: usize = 180;
    const JOBS: usize = KILLS * (EACH + 1);
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let d = open(&path, 0, |_| ());
    let start = || {
        let worker = Process::start("worker", &path, 0);
        assert_eq!(worker.hear(), ["ready"]);
        worker
    };
    let mut workers = [start(), start(), start()];
    let mut pushed = Vec::new();
    let mut ran: HashMap<String, usize> = HashMap::new();
    for _ in 0..KILLS {
        let work = || (0..EACH / 2).map(|_| NewJob::new("k", b"payload"));
        let jobs: Vec<_> = work().chain([NewJob::new("k", LAST)]).chain(work()).collect();
        let some = d.push_many(&jobs).expect("there is room");
        // The one in the middle is the last that its worker begins before it is killed.
        let last = format!("ran {} 1", some[EACH / 2].id);
        pushed.extend(some.into_iter().map(|p| p.id.to_string()));
        let deadline = Deadline::after(SOON);
        let worker = loop {
            let mut says_it = |worker: &Process| {
                let before = ran.contains_key(&last);
                for line in worker.said.try_iter() {
                    *ran.entry(line).or_default() += 1;
                }
                !before && ran.contains_key(&last)
            };
            if let Some(found) = workers.iter_mut().find(|worker| says_it(worker)) {
                break found;
            }
            assert!(!deadline.passed(), "no worker runs it");
            std::thread::yield_now();
        };
        worker.kill();
        for line in worker.said.iter() {
            *ran.entry(line).or_default() += 1;
        }
        *worker = start();
    }
    for id in &pushed {
        let job = d.wait(id.parse().expect("an id"), Deadline::after(SOON));
        assert_eq!(job.expect("it ends").state, State::Succeeded);
    }
    for worker in &mut workers {
        worker.tell("stop");
        for line in worker.said.iter() {
            *ran.entry(line).or_default() += 1;
        }
    }
    let runs_of = |id: &String| {
        ran.iter()
            .filter(|(line, _)| line.contains(&**id))
            .map(|(_, n)| n)
            .sum()
    };
    let runs: Vec<usize> = pushed.iter().map(runs_of).collect();
    assert!(runs.iter().all(|runs| *runs > 0), "each of them ran");
    let again = runs.iter().sum::<usize>() - JOBS;
    println!("{again} of {JOBS} ran twice");
    // A worker that is killed holds as many as it claims at once.
    assert!(again <= KILLS * 64, "{again} ran twice");
    let total = d.stats().expect("the store answers").total();
    assert_eq!(
        (total.totals.pushed, total.totals.succeeded),
        (JOBS as u64, JOBS as u64)
    );
    assert_eq!(
        total.totals.claimed,
        JOBS as u64 + total.totals.retried + total.totals.returned
    );
    assert!(
        total.totals.retried >= KILLS as u64,
        "each kill met a job that ran"
    );
    assert!(total.balanced() && total.running == 0, "{total:?}");
}

/// the job of a process that is killed runs again when its lease has ended, as its second attempt.
#[test]
fn the_job_of_a_killed_process_runs_again() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let mut holder = Process::start("holder", &path, 0);
    assert_eq!(holder.hear(), ["ready"]);
    let d = open(&path, 0, |_| ());
    let id = d.push(NewJob::new("k", b"payload")).expect("there is room").id;
    assert_eq!(holder.hear(), ["took", &id.to_string(), "1", "1"]);
    holder.kill();
    let lease = take(&d);
    assert_eq!((lease.id(), lease.attempt(), lease.fence()), (id, 2, 2));
    lease.complete(Outcome::done()).expect("the store answers");
    let job = d.get(id).expect("it is kept");
    let failures: Vec<_> = job
        .history
        .iter()
        .map(|a| a.failure.as_ref().map(|f| f.kind))
        .collect();
    assert_eq!(failures, [Some(FailureKind::LeaseLost), None]);
}

/// R-10 and B2: what a process says that was stopped for longer than its lease changes nothing, and its handler
/// is told.
#[test]
fn a_late_answer_is_refused_by_the_fence() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let mut holder = Process::start("holder", &path, 0);
    assert_eq!(holder.hear(), ["ready"]);
    let d = open(&path, 0, |o| o.lease = Some(KEPT));
    let id = d.push(NewJob::new("k", b"payload")).expect("there is room").id;
    assert_eq!(holder.hear()[0], "took");
    holder.signal("-STOP");
    let lease = take(&d);
    assert_eq!(
        (lease.id(), lease.attempt()),
        (id, 2),
        "the lease ended by itself"
    );
    // More than the lease has passed when a job comes that was to wait as long.
    d.push(NewJob::new("k", b"timer").delay(LONGER))
        .expect("there is room");
    take(&d).complete(Outcome::done()).expect("the store answers");
    holder.signal("-CONT");
    holder.tell("answer");
    let answer = holder.hear();
    assert_eq!(answer[1], "Stale", "{answer:?}");
    assert_eq!(
        lease
            .complete(Outcome::Success("in time".into()))
            .expect("the store answers"),
        Answer::Stored(State::Succeeded)
    );
    let job = d.get(id).expect("it is kept");
    assert_eq!(
        job.result.expect("it succeeded").as_bytes(),
        Some(&b"in time"[..])
    );
    let total = d.stats().expect("the store answers").total();
    assert!(total.totals.stale > 0 && total.balanced(), "{total:?}");
}

/// B3: processes whose clocks differ by ten minutes keep one holder per job: a lease that is extended is not
/// lost, whoever is ahead.
#[test]
fn clocks_that_differ_keep_one_holder() {
    std::thread::scope(|scope| {
        for (ours, theirs) in [(300, -300), (-300, 300)] {
            scope.spawn(move || keep_one_holder(ours, theirs));
        }
    });
}

fn keep_one_holder(ours: i64, theirs: i64) {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let d = open(&path, ours, |o| o.lease = Some(KEPT));
    let mut holder = Process::start("keeper", &path, theirs);
    assert_eq!(holder.hear(), ["ready"]);
    let id = d.push(NewJob::new("k", b"payload")).expect("there is room").id;
    assert_eq!(holder.hear(), ["took", &id.to_string(), "1", "1"]);
    let timer = d.push(NewJob::new("k", b"timer").delay(LONGER));
    let lease = take(&d);
    assert_eq!(
        lease.id(),
        timer.expect("there is room").id,
        "the job that is held elsewhere is not given out"
    );
    lease.complete(Outcome::done()).expect("the store answers");
    holder.tell("answer");
    assert_eq!(holder.hear(), ["answered", "Stored(Succeeded)", "none"]);
    assert_eq!(
        d.wait(id, Deadline::after(SOON)).expect("it has ended").attempt,
        1
    );
}

/// a job that loses its lease each time fails after its attempts, and says why.
#[test]
fn a_job_that_always_loses_its_lease_fails() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let d = open(&path, 0, |_| ());
    let job = NewJob::new("k", b"payload").max_attempts(3);
    let id = d.push(job).expect("there is room").id;
    for attempt in 1..=3 {
        let mut holder = Process::start("holder", &path, 0);
        assert_eq!(holder.hear(), ["ready"]);
        assert_eq!(holder.hear()[2], attempt.to_string());
        holder.kill();
    }
    let job = d.wait(id, Deadline::after(SOON)).expect("it ends");
    let error = job.error.expect("it failed");
    assert_eq!(
        (job.state, job.attempt, error.kind),
        (State::Failed, 3, FailureKind::LeaseLost)
    );
}

/// however often a process starts again, no number of a node and no fence is given twice.
#[test]
fn nothing_is_given_twice_over_restarts() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let (mut last_node, mut last_fence, mut job) = (0, 0, None);
    for _ in 0..100 {
        let engine = SqliteEngine::open(&path, Sharing::default(), SystemClock.now()).expect("a file");
        assert!(engine.node() > last_node);
        last_node = engine.node();
        let mut options = Options::default();
        options.lease = Some(LEASE);
        let d = Dispatcher::with_engine(Arc::new(engine), options).expect("the options fit together");
        let id: JobId = *job.get_or_insert_with(|| d.push(NewJob::new("k", ())).expect("there is room").id);
        let lease = take(&d);
        assert_eq!(lease.id(), id);
        assert!(lease.fence() > last_fence);
        last_fence = lease.fence();
        lease
            .complete(Outcome::snooze(Duration::ZERO))
            .expect("the store answers");
        d.stop(Duration::ZERO).expect("the store answers");
    }
}

/// Two live nodes of one name are told apart from one that was killed.
#[test]
fn two_live_nodes_have_two_names() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let url = format!("sqlite:{}?shared=true&node=one", path.display());
    let first = Dispatcher::open(&url, Options::default()).expect("nobody has this name");
    let error = Dispatcher::open(&url, Options::default()).expect_err("the name is taken");
    assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
    assert!(error.to_string().contains("\"one\""), "{error}");
    let other = format!("sqlite:{}?shared=true", path.display());
    let unnamed = Dispatcher::open(&other, Options::default()).expect("no name is taken");
    assert!(unnamed.node().contains('#'), "{}", unnamed.node());
    first.stop(Duration::ZERO).expect("the store answers");
    Dispatcher::open(&url, Options::default()).expect("the name is free again");
}

/// The store's time is that of those who use it: a push that has waited for room does not bring the instant at
/// which it began, which would seem to be a clock that is behind, and set the others' leases and delays forward.
#[test]
fn a_push_that_waited_moves_no_clock() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let clock = Arc::new(ManualClock::new());
    let open = |capacity| {
        let sharing = Sharing::default();
        let engine =
            Arc::new(SqliteEngine::open(&path, sharing, clock.now()).expect("the file can be shared"));
        let mut options = Options::default();
        (options.capacity, options.on_full) = (capacity, OnFull::Block(SOON));
        let d = Dispatcher::with_clock(engine.clone(), options, clock.clone()).expect("the options fit");
        (engine, d)
    };
    let ((engine, one), (_, two)) = (open(1), open(0));
    one.push(NewJob::new("k", b"first")).expect("there is room");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| one.push(NewJob::new("k", b"second")).map(|p| p.id));
        let deadline = Deadline::after(SOON);
        while engine.signals().space.asleep() == 0 {
            assert!(!deadline.passed(), "the queue is full");
            std::thread::yield_now();
        }
        clock.advance(Duration::from_secs(60));
        take(&two).complete(Outcome::done()).expect("the store answers");
        waiting.join().expect("no panic").expect("there is room again");
    });
    take(&two).complete(Outcome::done()).expect("the store answers");
    let delay = Duration::from_secs(10);
    let late = one
        .push(NewJob::new("k", b"late").delay(delay))
        .expect("there is room")
        .id;
    let starts = two.get(late).expect("it is there").run_at;
    assert_eq!(starts.since(clock.now()), delay);
}

/// A file is owned by one process or shared by many, never both; and it can be either, one after the other.
#[test]
fn a_file_is_owned_or_shared() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let owned = format!("sqlite:{}", path.display());
    let shared = format!("{owned}?shared=true");
    let open = |url: &str| Dispatcher::open(url, Options::default());
    let mut ids = Vec::new();
    for round in 0..3 {
        for (this, that) in [(&owned, &shared), (&shared, &owned)] {
            let d = open(this).expect("nobody has it");
            assert_eq!(
                open(that).expect_err("somebody has it").kind(),
                ErrorKind::AlreadyOpen
            );
            for id in &ids {
                // An owner queues what it has read a moment later.
                assert!(d.state(*id).expect("it came along").is_waiting(), "round {round}");
            }
            let total = d.stats().expect("the store answers").total();
            assert_eq!(total.waiting(), ids.len() as u64);
            assert!(total.balanced(), "{total:?}");
            ids.push(d.push(NewJob::new("k", b"payload")).expect("there is room").id);
            d.stop(Duration::ZERO).expect("the store answers");
        }
    }
    let d = open(&shared).expect("nobody has it");
    let order: Vec<JobId> = ids
        .iter()
        .map(|_| {
            let lease = take(&d);
            let id = lease.id();
            lease.complete(Outcome::done()).expect("the store answers");
            id
        })
        .collect();
    assert_eq!(order, ids, "they kept their order");
}

/// What an owner left that was killed is set right before others share it: what ran has crashed once.
#[test]
fn a_killed_owner_leaves_a_file_to_share() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let mut owner = Process::start("owner", &path, 0);
    let took = owner.hear();
    assert_eq!((&*took[0], &*took[2]), ("took", "1"));
    let url = format!("sqlite:{}?shared=true", path.display());
    let error = Dispatcher::open(&url, Options::default()).expect_err("its owner lives");
    assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
    owner.kill();
    let d = Dispatcher::open(&url, Options::default()).expect("its owner is gone");
    let lease = take(&d);
    assert_eq!((lease.id().to_string(), lease.attempt()), (took[1].clone(), 2));
    assert!(lease.fence() > 1, "no fence is given twice");
    let job = d.get(lease.id()).expect("it runs");
    assert_eq!(job.crashes, 1, "{job:?}");
    lease.complete(Outcome::done()).expect("the store answers");
}

/// However many come at once to a file whose owner was killed: one sets it right, and all share it.
#[test]
fn many_come_to_what_a_killed_owner_left() {
    const MANY: usize = 8;
    for round in 0..10 {
        let folder = Scratch::in_memory();
        let path = folder.path("jobs.db");
        let mut owner = Process::start("owner", &path, 0);
        assert_eq!(owner.hear()[0], "took");
        owner.kill();
        let url = format!("sqlite:{}?shared=true", path.display());
        let come = Barrier::new(MANY);
        let open = || {
            come.wait();
            Dispatcher::open(&url, Options::default()).map_err(|e| e.to_string())
        };
        let sharers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..MANY).map(|_| scope.spawn(open)).collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("nobody panics"))
                .collect()
        });
        for sharer in &sharers {
            let d = sharer.as_ref().unwrap_or_else(|e| panic!("round {round}: {e}"));
            let jobs = d.list(&Filter::default()).expect("the store answers").jobs;
            assert_eq!((jobs.len(), jobs[0].crashes), (1, 1), "round {round}");
        }
    }
}

/// Waits until something can be read from a descriptor, for so many milliseconds at the most.
fn readable(fd: impl AsRawFd, ms: i32) -> bool {
    let mut asked = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: it is one valid pollfd.
    unsafe { libc::poll(&raw mut asked, 1, ms) == 1 }
}

/// The same for those who wait for descriptors: of a consumer, for what another process pushes, and of a watcher,
/// for what another process ends.
#[test]
fn descriptors_hear_of_other_processes() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let d = open(&path, 0, |_| ());
    let back = d.queue("back").expect("a valid name");
    let mut consumer = d.consumer(Arc::new(KindSet::any())).queues([back]);
    let watcher = d.watcher();
    let now = || Deadline::after(Duration::ZERO);
    let soon = SOON.as_millis() as i32;
    let _answerer = Process::start("answerer", &path, 0);
    for tag in 0..20 {
        // Nothing is there, and both are to hear of what comes.
        loop {
            consumer.descriptor().expect("there are descriptors");
            if consumer.next(now()).expect("the store answers").is_none() {
                break;
            }
        }
        watcher.descriptor().expect("there are descriptors");
        assert_eq!(
            watcher
                .poll(1, now(), &mut Vec::new())
                .expect("the store answers"),
            0
        );
        let asked = d.push(NewJob::new("question", b"payload").queue("there"));
        let asked = asked.expect("there is room").id;
        watcher.add(asked, tag).expect("it is there");
        let lease = loop {
            assert!(
                readable(consumer.descriptor().expect("as before"), soon),
                "a job comes"
            );
            if let Some(lease) = consumer.next(now()).expect("the store answers") {
                break lease;
            }
        };
        assert_eq!(&*lease.kind(), "answer");
        lease.complete(Outcome::done()).expect("the store answers");
        let mut ends = Vec::new();
        while ends.is_empty() {
            assert!(
                readable(watcher.descriptor().expect("as before"), soon),
                "it ends"
            );
            watcher.poll(9, now(), &mut ends).expect("the store answers");
        }
        assert_eq!(
            (ends.len(), ends[0].tag, ends[0].id, ends[0].state),
            (1, tag, asked, Some(State::Succeeded))
        );
    }
}

/// What one process pushes, finishes or cancels is heard of by the others while they wait.
#[test]
fn processes_hear_of_each_other() {
    let folder = Scratch::in_memory();
    let path = folder.path("jobs.db");
    let d = open(&path, 0, |_| ());
    let listener = Process::start("listener", &path, 0);
    let id = d.push(
        NewJob::new("k", b"payload")
            .queue("never heard of")
            .max_attempts(1),
    );
    let id = id.expect("there is room").id;
    assert_eq!(listener.hear(), ["took"]);
    assert_eq!(d.cancel(id).expect("it runs"), State::Running);
    assert_eq!(listener.hear(), ["heard", "Some(Cancelled)"]);
    assert_eq!(
        d.wait(id, Deadline::after(SOON)).expect("it ends").state,
        State::Cancelled
    );
    let page = d.list(&Filter {
        queue: Some("never heard of".into()),
        ..Filter::default()
    });
    assert_eq!(page.expect("the store answers").total, 1);
}

/// A lease that is too short to be extended in time is refused.
#[test]
fn a_lease_has_a_least_length() {
    let folder = Scratch::in_memory();
    let url = format!("sqlite:{}?shared=true&lease=4s", folder.path("jobs.db").display());
    let error = Dispatcher::open(&url, Options::default()).expect_err("it is too short");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("5s"), "{error}");
    let url = format!("sqlite:{}?shared=true", folder.path("jobs.db").display());
    let d = Dispatcher::open(&url, Options::default()).expect("it can be opened");
    assert_eq!(d.options().lease, Some(Duration::from_secs(30)));
}

/// The engine says what it is.
#[test]
fn the_engine_is_shared_and_durable() {
    let folder = Scratch::in_memory();
    let engine = SqliteEngine::open(&folder.path("jobs.db"), Sharing::default(), SystemClock.now());
    let can = engine.expect("a new file").capabilities();
    assert!(can.shared && can.durability == forebay::Durability::Disk);
}
