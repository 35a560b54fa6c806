//! Dumps: everything that is unfinished comes back, once, or the file is refused (row 71; D7).

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Make;
use super::stage::{SECOND, Stage, at_once, job, soon};
use crate::error::{ErrorKind, Result};
use crate::job::{Filter, Job, NewJob, State};
use crate::outcome::{FailureKind, Outcome};
use crate::payload::{Encoded, HostObject, Payload};
use crate::{JobId, RetryPolicy, Timestamp};

/// A folder of its own for a case, gone afterwards.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-dump-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.join("jobs.dump")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything unfinished, in the order of its start, as text that shows all there is to a job.
fn unfinished(stage: &Stage) -> Vec<String> {
    let mut seen = Vec::new();
    stage
        .d
        .0
        .engine
        .export(&mut |job: Job| {
            let payload = job.payload.encode()?;
            seen.push(format!("{job:?} {payload:?}"));
            Ok(())
        })
        .unwrap();
    seen
}

/// A stage with one job of every unfinished kind that is not running.
fn furnished(make: Make<'_>) -> (Stage, Vec<JobId>) {
    let stage = Stage::with(make, |o| o.retry = RetryPolicy::linear(SECOND * 100));
    let mut ids = vec![stage.push(job().max_attempts(9))];
    stage.run(Outcome::failed("first"));
    ids.push(stage.push(NewJob::new("k", vec![0, 255, 10, 13])));
    ids.push(
        stage.push(
            job()
                .queue("other")
                .priority(-7)
                .timeout(SECOND * 3)
                .max_attempts(2),
        ),
    );
    ids.push(stage.push(job().key("key \"1\"").header("b", "2\n").header("a", "1")));
    ids.push(
        stage.push(
            job()
                .delay(SECOND * 50)
                .retry(RetryPolicy::exponential(SECOND).capped(SECOND * 9)),
        ),
    );
    ids.push(stage.push(job().waits_for("x").waits_for("y")));
    ids.push(stage.push(job().deadline(stage.d.now().after(SECOND * 500))));
    stage.d.pause("paused").unwrap();
    ids.push(stage.push(job().queue("paused")));
    (stage, ids)
}

/// Row 71: attempts, fences, keys, priorities, times, headers, histories: all of it comes back, in order.
pub fn a_dump_keeps_everything(make: Make<'_>) {
    let (folder, (first, ids)) = (Folder::new(), furnished(make));
    assert_eq!(first.d.dump(folder.file()).unwrap().jobs, ids.len());
    let second = Stage::new(make);
    let report = second.d.restore(folder.file()).unwrap();
    assert_eq!((report.jobs, report.known), (ids.len(), 0));
    assert_eq!(unfinished(&second), unfinished(&first));
    assert!(second.d.stats().unwrap().queue("paused").unwrap().paused);
    second.check_balance();
    let again = folder.0.join("again.dump");
    second.d.dump(&again).unwrap();
    assert_eq!(
        std::fs::read(again).unwrap(),
        std::fs::read(folder.file()).unwrap(),
        "and out again the same"
    );
}

/// What was restored goes on where it stopped: attempts count on, keys hold, tokens free, fences grow.
pub fn restored_jobs_go_on(make: Make<'_>) {
    let (folder, (first, ids)) = (Folder::new(), furnished(make));
    first.d.dump(folder.file()).unwrap();
    let stage = Stage::new(make);
    stage.d.restore(folder.file()).unwrap();
    let before = stage.get(ids[0]);
    assert!(before.retrying() && before.attempt == 1 && before.fence == 1);
    assert_eq!(stage.d.push(job().key("key \"1\"")).unwrap().id, ids[3]);
    assert_eq!(
        stage
            .d
            .push(NewJob::new("k", b"other").key("key \"1\""))
            .unwrap_err()
            .kind(),
        ErrorKind::Conflict
    );
    stage.d.signal(ids[5], "x").unwrap();
    stage.d.signal(ids[5], "y").unwrap();
    stage.d.resume("paused").unwrap();
    stage.advance(SECOND * 100);
    let mut attempts = Vec::new();
    while let Some(lease) = stage.try_take() {
        if lease.id() == ids[0] {
            attempts.push((lease.attempt(), lease.fence()));
        }
        lease.complete(Outcome::done()).unwrap();
    }
    assert_eq!(attempts, [(2, 2)]);
    assert!(ids.iter().all(|id| stage.state(*id) == State::Succeeded));
}

/// Jobs start in the same order where they are restored, at once or long after: what the pusher's ids say does
/// not count, what waited for tokens or came back stands behind, what has a later time comes later.
pub fn a_dump_keeps_the_order(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::new(make));
    let numbered = |number| job().id(JobId::from_u128(number));
    let blocked = first.push(numbered(1).waits_for("token"));
    first.advance(SECOND);
    let back = first.push(numbered(90).priority(100));
    for number in [80, 70, 75] {
        first.push(numbered(number));
    }
    first.push(numbered(60).priority(1));
    first.push(numbered(65).queue("other"));
    first.push(numbered(61).queue("other"));
    for (number, seconds) in [(50, 30), (40, 20), (30, 30), (20, 20)] {
        first.push(numbered(number).delay(SECOND * seconds));
    }
    first.run(Outcome::snooze(Duration::ZERO));
    first.d.signal(blocked, "token").unwrap();
    let running = first.take();
    assert_eq!(running.id(), back, "the highest priority");
    first.d.dump(folder.file()).unwrap();
    running.complete(Outcome::snooze(Duration::ZERO)).unwrap();
    let want = starts(&first);
    assert_eq!(want[0], [90, 60, 80, 70, 75, 1, 40, 20, 50, 30]);
    assert_eq!(want[1], [65, 61]);
    for later in [SECOND, SECOND * 1000] {
        let second = Stage::new(make);
        second.advance(later);
        second.d.restore(folder.file()).unwrap();
        assert_eq!(starts(&second), want, "{later:?} later");
    }
}

/// In which order the jobs of two queues start, in the end all.
fn starts(stage: &Stage) -> [Vec<u128>; 2] {
    ["default", "other"].map(|queue| {
        let queue = stage.d.queue(queue).unwrap();
        let mut consumer = stage.consumer().queues([queue]);
        let mut order = Vec::new();
        for _ in 0..2 {
            while let Some(lease) = consumer.next(at_once()).unwrap() {
                order.push(lease.id().as_u128());
                lease.complete(Outcome::done()).unwrap();
            }
            stage.advance(SECOND * 100);
        }
        order
    })
}

/// Restoring twice makes no duplicates, and what is finished here does not come back.
pub fn restoring_twice_changes_nothing(make: Make<'_>) {
    let (folder, (first, ids)) = (Folder::new(), furnished(make));
    first.d.dump(folder.file()).unwrap();
    let stage = Stage::new(make);
    stage.d.restore(folder.file()).unwrap();
    let done = stage.take();
    let id = done.id();
    done.complete(Outcome::done()).unwrap();
    let running = stage.take();
    let before = unfinished(&stage);
    let report = stage.d.restore(folder.file()).unwrap();
    assert_eq!((report.jobs, report.known), (0, ids.len()));
    assert_eq!(unfinished(&stage), before);
    assert_eq!(
        (stage.state(id), stage.state(running.id())),
        (State::Succeeded, State::Running)
    );
    let report = first.d.restore(folder.file()).unwrap();
    assert_eq!(
        (report.jobs, report.known),
        (0, ids.len()),
        "also not where it was written"
    );
}

/// Finished jobs are not in a dump.
pub fn finished_jobs_stay_finished(make: Make<'_>) {
    let (folder, stage) = (Folder::new(), Stage::new(make));
    for outcome in [
        Outcome::done(),
        Outcome::fatal("no"),
        Outcome::Cancelled("no".into()),
    ] {
        stage.push(job());
        stage.run(outcome);
    }
    assert_eq!(stage.d.dump(folder.file()).unwrap().jobs, 0);
    let second = Stage::new(make);
    assert_eq!(second.d.restore(folder.file()).unwrap().jobs, 0);
    assert_eq!(second.d.list(&Filter::default()).unwrap().total, 0);
}

/// A dump may be restored where other jobs are; those stay, also when the queue is full.
pub fn a_dump_may_join_others(make: Make<'_>) {
    let (folder, (first, ids)) = (Folder::new(), furnished(make));
    first.d.dump(folder.file()).unwrap();
    let stage = Stage::with(make, |o| o.capacity = 1);
    let own = stage.push(job());
    assert_eq!(stage.d.restore(folder.file()).unwrap().jobs, ids.len());
    assert_eq!(stage.counts().waiting(), ids.len() as u64 + 1);
    assert_eq!(
        (stage.get(own).state, stage.counts().totals.restored),
        (State::Queued, ids.len() as u64)
    );
}

/// A restored job whose key belongs to another job here: the same job is known, another is not lost in silence.
pub fn a_restored_key_may_be_taken(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::new(make));
    first.push(job().key("same"));
    first.push(job().key("other"));
    first.d.dump(folder.file()).unwrap();
    let stage = Stage::new(make);
    stage.push(job().key("same"));
    stage.push(NewJob::new("k", b"different").key("other"));
    let report = stage.d.restore(folder.file()).unwrap();
    assert_eq!((report.jobs, report.known, report.conflicts), (0, 1, 1));
    assert_eq!(stage.counts().waiting(), 2);
}

/// A job that ran when the dump was written had its lease end with the process: one attempt.
pub fn a_running_job_is_restored_with_one_attempt_less(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::new(make));
    let id = first.push(job().max_attempts(2));
    let body = first.take();
    first.d.dump(folder.file()).unwrap();
    let stage = Stage::new(make);
    stage.d.restore(folder.file()).unwrap();
    let job = stage.get(id);
    assert_eq!((job.state, job.attempt, job.fence), (State::Queued, 1, 1));
    let lease = stage.take();
    assert_eq!((lease.attempt(), lease.fence()), (2, 2));
    assert_eq!(
        lease.complete(Outcome::failed("no")).unwrap(),
        crate::Answer::Stored(State::Failed)
    );
    drop(body);
}

/// a job whose process dies each time fails after its last attempt, as lease lost.
pub fn a_job_that_kills_its_process_fails_in_the_end(make: Make<'_>) {
    let folder = Folder::new();
    let mut stage = Stage::new(make);
    let id = stage.push(job().max_attempts(3));
    for attempt in 1..=3 {
        let body = stage.take();
        assert_eq!(body.attempt(), attempt);
        stage.d.dump(folder.file()).unwrap();
        let next = Stage::new(make);
        next.d.restore(folder.file()).unwrap();
        drop(body);
        stage = next;
    }
    assert!(stage.try_take().is_none());
    let job = stage.get(id);
    assert_eq!((job.state, job.attempt), (State::Failed, 3));
    assert_eq!(job.error.unwrap().kind, FailureKind::LeaseLost);
}

/// A job without attempts left is never handed out between its return and its end.
pub fn a_spent_job_is_not_handed_out(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::with(make, |o| o.concurrency = 200));
    for _ in 0..100 {
        first.push(job().max_attempts(1));
    }
    let mut bodies = Vec::new();
    first.consumer().next_many(200, at_once(), &mut bodies).unwrap();
    first.d.dump(folder.file()).unwrap();
    let stage = Stage::new(make);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut consumer = stage.consumer();
            while !done.load(Ordering::SeqCst) {
                assert!(
                    consumer.next(at_once()).unwrap().is_none(),
                    "its only attempt is spent"
                );
            }
        });
        stage.d.restore(folder.file()).unwrap();
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(
        (stage.counts().totals.failed, stage.counts().totals.claimed),
        (100, 0)
    );
}

/// A job that was asked to stop, and ran when the dump was written, is cancelled.
pub fn a_cancelled_job_is_not_restored_to_run(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::new(make));
    let id = first.push(job());
    let body = first.take();
    first.d.cancel(id).unwrap();
    first.d.dump(folder.file()).unwrap();
    let stage = Stage::new(make);
    stage.d.restore(folder.file()).unwrap();
    assert_eq!(stage.state(id), State::Cancelled);
    assert!(stage.try_take().is_none());
    drop(body);
}

/// stop while one job runs and one waits: the first is recorded once, the next process runs the second.
pub fn a_stop_and_its_dump_lose_and_repeat_nothing(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::with(make, |o| o.concurrency = 1));
    let (one, two) = (first.push(job()), first.push(job()));
    let body = first.take();
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| first.d.stop(Duration::from_secs(60)).unwrap());
        super::stage::until("the stop", || first.d.stopping());
        body.complete(Outcome::done()).unwrap();
        stop.join().unwrap();
    });
    assert_eq!(first.d.dump(folder.file()).unwrap().jobs, 1);
    assert_eq!(
        (first.state(one), first.counts().totals.claimed),
        (State::Succeeded, 1)
    );
    let second = Stage::new(make);
    second.d.restore(folder.file()).unwrap();
    let lease = second.consumer().next(soon()).unwrap().unwrap();
    assert_eq!(lease.id(), two);
    lease.complete(Outcome::done()).unwrap();
    assert!(second.try_take().is_none());
}

fn refused(stage: &Stage, path: &Path) -> ErrorKind {
    let kind = stage.d.restore(path).expect_err("the file is refused").kind();
    assert_eq!(
        stage.counts().totals.restored,
        0,
        "and nothing of it was accepted"
    );
    kind
}

/// A dump that is cut off, at whatever byte, is refused whole and left alone.
pub fn a_cut_dump_is_refused(make: Make<'_>) {
    let (folder, (first, _)) = (Folder::new(), furnished(make));
    first.d.dump(folder.file()).unwrap();
    let whole = std::fs::read(folder.file()).unwrap();
    let stage = Stage::new(make);
    for len in 0..whole.len() {
        std::fs::write(folder.file(), &whole[..len]).unwrap();
        assert_eq!(
            refused(&stage, &folder.file()),
            ErrorKind::Corrupt,
            "cut at {len}"
        );
        assert_eq!(std::fs::read(folder.file()).unwrap().len(), len);
    }
    std::fs::write(folder.file(), [&whole[..], b"\n"].concat()).unwrap();
    assert_eq!(
        refused(&stage, &folder.file()),
        ErrorKind::Corrupt,
        "one line too many"
    );
    std::fs::write(folder.file(), whole).unwrap();
    assert!(stage.d.restore(folder.file()).is_ok());
}

/// A dump with one bit flipped, in whatever byte, is refused whole.
pub fn a_flipped_bit_is_noticed(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::new(make));
    first.push(job().key("key").header("h", "v").priority(3));
    first.run(Outcome::failed("no"));
    first.push(NewJob::new("k", vec![0, 255]));
    first.d.pause("paused").unwrap();
    first.d.dump(folder.file()).unwrap();
    let whole = std::fs::read(folder.file()).unwrap();
    let stage = Stage::new(make);
    for at in 0..whole.len() {
        for bit in [at % 7, 7] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            std::fs::write(folder.file(), &bytes).unwrap();
            let kind = refused(&stage, &folder.file());
            assert!(
                matches!(kind, ErrorKind::Corrupt | ErrorKind::FutureFormat),
                "bit {bit} of byte {at}: {kind:?}"
            );
        }
    }
    assert!(!stage.d.stats().unwrap().queues.iter().any(|q| q.counts.paused));
}

/// Lines that are left out, doubled or swapped are noticed.
pub fn moved_lines_are_noticed(make: Make<'_>) {
    let (folder, (first, _)) = (Folder::new(), furnished(make));
    first.d.dump(folder.file()).unwrap();
    let whole = std::fs::read_to_string(folder.file()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let stage = Stage::new(make);
    for at in 0..lines.len() {
        let mut swapped = lines.clone();
        swapped.swap(at, (at + 1) % lines.len());
        let (mut less, mut more) = (lines.clone(), lines.clone());
        less.remove(at);
        more.insert(at, lines[at]);
        for changed in [swapped, less, more] {
            std::fs::write(folder.file(), changed.join("\n") + "\n").unwrap();
            assert_eq!(refused(&stage, &folder.file()), ErrorKind::Corrupt, "line {at}");
        }
    }
}

/// A dump of a newer version is refused as such, and left alone.
pub fn a_newer_dump_is_refused(make: Make<'_>) {
    let (folder, stage) = (Folder::new(), Stage::new(make));
    let newer = format!(
        "{{\"forebay_dump\":{},\"whatever\":[1]}}\nnot even JSON\n",
        crate::DUMP_VERSION + 1
    );
    std::fs::write(folder.file(), &newer).unwrap();
    assert_eq!(refused(&stage, &folder.file()), ErrorKind::FutureFormat);
    assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), newer);
    std::fs::write(
        folder.file(),
        "{\"forebay_dump\":0,\"created_us\":0}\n{\"jobs\":0,\"xxh3\":\"0\"}\n",
    )
    .unwrap();
    assert_eq!(refused(&stage, &folder.file()), ErrorKind::Corrupt);
}

/// Files that are no dumps: absent, empty, of another kind, no file at all.
pub fn what_is_no_dump_is_refused(make: Make<'_>) {
    let (folder, stage) = (Folder::new(), Stage::new(make));
    assert_eq!(refused(&stage, &folder.file()), ErrorKind::NotFound);
    assert_eq!(refused(&stage, &folder.0), ErrorKind::Invalid, "a folder");
    assert_eq!(refused(&stage, Path::new("")), ErrorKind::NotFound);
    assert_eq!(refused(&stage, Path::new("a\0b")), ErrorKind::Storage);
    for text in [
        "",
        "\n",
        "{}\n",
        "null\n",
        "[1]\n",
        "\u{0}\n",
        "{\"forebay_dump\":\"1\"}\n",
        "{\"forebay_dump\":-1}\n",
    ] {
        std::fs::write(folder.file(), text).unwrap();
        assert_eq!(refused(&stage, &folder.file()), ErrorKind::Corrupt, "{text:?}");
    }
}

/// A dump that cannot be written leaves the former one alone, and nothing aside.
pub fn a_failed_dump_leaves_the_former(make: Make<'_>) {
    let (folder, (stage, _)) = (Folder::new(), furnished(make));
    let nowhere = folder.0.join("not there").join("jobs.dump");
    assert_eq!(stage.d.dump(nowhere).unwrap_err().kind(), ErrorKind::Storage);
    let occupied = folder.0.join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::write(occupied.join("x"), "x").unwrap();
    assert_eq!(stage.d.dump(&occupied).unwrap_err().kind(), ErrorKind::Storage);
    let left: Vec<_> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["occupied"], "nothing is left aside");
}

/// Two dumps to one path: neither spoils the other's file, and the one that began last stays.
pub fn dumps_to_one_path_do_not_meet(make: Make<'_>) {
    struct Slow(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>);
    impl HostObject for Slow {
        fn encode(&self) -> Result<Encoded> {
            // Only the first dump finds somebody to wait for.
            if self.0.send(()).is_ok() {
                let _ = self.1.lock().recv();
            }
            Payload::from("slow").encode()
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }
    let (folder, stage) = (Folder::new(), Stage::new(make));
    let (said, heard) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    stage.push(NewJob::new("k", Payload::host(Slow(said, Mutex::new(wait)))));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| stage.d.dump(folder.file()));
        heard.recv().unwrap();
        drop(heard);
        for _ in 0..5 {
            stage.push(job());
        }
        assert_eq!(stage.d.dump(folder.file()).unwrap().jobs, 6);
        go.send(()).unwrap();
        assert_eq!(first.join().unwrap().unwrap().jobs, 1, "as of when it began");
    });
    assert_eq!(Stage::new(make).d.restore(folder.file()).unwrap().jobs, 6);
}

/// A dump in the midst of work: what it tells is whole, whenever it is taken, and no job is in it twice.
pub fn a_dump_in_the_midst_of_work_is_whole(make: Make<'_>) {
    let (folder, stage) = (Folder::new(), Stage::new(make));
    const JOBS: usize = 400;
    let jobs: Vec<NewJob<'_>> = (0..JOBS).map(|_| job()).collect();
    stage.d.push_many(&jobs).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut consumer = stage.consumer();
                while let Some(lease) = consumer.next(at_once()).unwrap() {
                    lease.complete(Outcome::done()).unwrap();
                }
            });
        }
        loop {
            let before = stage.counts().totals.succeeded;
            let dumped = stage.d.dump(folder.file()).unwrap().jobs as u64;
            let after = stage.counts().totals.succeeded;
            let unfinished = JOBS as u64 - after..=JOBS as u64 - before;
            assert!(unfinished.contains(&dumped), "{dumped} of {unfinished:?}");
            let second = Stage::new(make);
            assert_eq!(second.d.restore(folder.file()).unwrap().jobs as u64, dumped);
            if after == JOBS as u64 {
                break;
            }
        }
    });
}

/// Instants and durations at the ends of what there is survive a dump.
pub fn extremes_survive_a_dump(make: Make<'_>) {
    let (folder, first) = (Folder::new(), Stage::new(make));
    first.push(job().run_at(Timestamp::MAX).priority(i8::MIN));
    first.push(
        job()
            .delay(Duration::MAX)
            .timeout(Duration::MAX)
            .max_attempts(u32::MAX),
    );
    first.push(
        job()
            .deadline(Timestamp::from_micros(i64::MAX - 1))
            .priority(i8::MAX),
    );
    first.d.dump(folder.file()).unwrap();
    let second = Stage::new(make);
    second.d.restore(folder.file()).unwrap();
    let times = |stage: &Stage| {
        let page = stage.d.list(&Filter::default()).unwrap().jobs;
        page.iter()
            .map(|j| (j.run_at, j.deadline, j.priority, j.max_attempts))
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&first), times(&second));
    assert!(
        second
            .get(second.d.list(&Filter::default()).unwrap().jobs[1].id)
            .timeout
            .unwrap()
            > SECOND * u32::MAX
    );
}
