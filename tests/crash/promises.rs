//! What each call promises when it returns, with the power cut at every call that SQLite makes for it.
//!
//! A scene is a few calls of one thread, on a file with one owner or on one that several dispatchers share. Each
//! call that returns is a promise; the image of the disk after the cut must keep all that were made until then. The
//! worst moment is the one in which a promise was made, and the worst disk has nothing but what was synced: that is
//! tried for each of them; other moments and other disks are drawn by lot.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::{
    Answer, Deadline, Dispatcher, Durability, ForwardOptions, JobId, KindSet, Lease, NewJob, Options,
    Outcome, Result, State, Target,
};

use crate::disk::{Disk, Fault};
use crate::faults::chosen;
use crate::key::{Dice, say, seed, size};
use crate::life::Folder;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// The ways to open a file.
const OWNED: &str = "?max_crashes=unlimited";
const SHARED: &str = "?shared=true";

/// What somebody was told, and what must be so in every image from then on.
enum Promise {
    /// The job is known.
    Known(JobId),
    /// It has not ended: no answer of its was stored, or it is to run again.
    Pending(JobId),
    /// It has ended like this.
    Ended(JobId, State),
    /// Nobody runs it to its end any more.
    ToBeCancelled(JobId),
    /// It waits for this token no more.
    Signalled(JobId, &'static str),
    Paused(&'static str, bool),
    /// It is known here, or in the file beside it.
    Somewhere(JobId),
}

impl Promise {
    fn is_kept(&self, d: &Dispatcher, beside: Option<&Dispatcher>) -> bool {
        let (is, known) = (
            |id: &JobId| d.get(*id).ok(),
            |d: &Dispatcher, id| d.get(id).is_ok(),
        );
        match self {
            Promise::Known(id) => known(d, *id),
            Promise::Pending(id) => is(id).is_some_and(|job| !job.state.is_final()),
            Promise::Ended(id, state) => is(id).is_some_and(|job| job.state == *state),
            Promise::ToBeCancelled(id) => {
                is(id).is_some_and(|job| job.cancel_requested || job.state == State::Cancelled)
            }
            Promise::Signalled(id, token) => {
                is(id).is_some_and(|job| job.waits.iter().all(|t| **t != **token))
            }
            Promise::Paused(queue, paused) => {
                let stats = d.stats().expect("it is open");
                stats.queue(queue).is_some_and(|counts| counts.paused) == *paused
            }
            Promise::Somewhere(id) => known(d, *id) || beside.is_some_and(|d| known(d, *id)),
        }
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Promise::Known(id) => write!(f, "{id} is known"),
            Promise::Pending(id) => write!(f, "{id} has not ended"),
            Promise::Ended(id, state) => write!(f, "{id} has {state}"),
            Promise::ToBeCancelled(id) => write!(f, "{id} is to be cancelled"),
            Promise::Signalled(id, token) => write!(f, "{id} has its {token:?}"),
            Promise::Paused(queue, paused) => write!(f, "{queue:?} is paused: {paused}"),
            Promise::Somewhere(id) => write!(f, "{id} is here or there"),
        }
    }
}

/// Where a scene is played.
struct Stage<'s> {
    folder: &'s Path,
    disk: &'s Disk,
    query: &'s str,
    /// The call at which the power goes, counted from [`Stage::begin`]; without one it goes behind every promise.
    at: Option<u64>,
    /// How many calls there were before.
    before: Cell<u64>,
    opened: RefCell<Vec<Dispatcher>>,
    promises: RefCell<Vec<Promise>>,
}

type Scene = fn(&Stage<'_>) -> Result<()>;

impl Stage<'_> {
    fn open_at(&self, name: &str, more: &str) -> Result<Dispatcher> {
        let url = format!("sqlite:{}{}{more}", self.folder.join(name).display(), self.query);
        let d = Dispatcher::open(&url, Options::default())?;
        self.opened.borrow_mut().push(d.clone());
        Ok(d)
    }

    fn open(&self, more: &str) -> Result<Dispatcher> {
        self.open_at("jobs.db", more)
    }

    /// What was done until now is done, and from now on the power may go.
    fn begin(&self) -> Result<()> {
        for d in &*self.opened.borrow() {
            d.flush()?;
        }
        self.before.set(self.disk.calls());
        if let Some(at) = self.at {
            self.disk.plan(Fault::Cut, at);
        }
        Ok(())
    }

    fn promise(&self, promise: Promise) {
        self.promises.borrow_mut().push(promise);
        if self.at.is_none() {
            let image = Folder::in_memory("promises-synced");
            self.disk.synced_image(image.path());
            check(
                image.path(),
                self.query,
                &self.promises.borrow(),
                "behind its promise",
            );
        }
    }

    /// Each of these, made true by a flush.
    fn flushed(&self, d: &Dispatcher, promises: impl IntoIterator<Item = Promise>) -> Result<()> {
        d.flush()?;
        promises.into_iter().for_each(|it| self.promise(it));
        Ok(())
    }
}

fn job(level: Durability) -> NewJob<'static> {
    NewJob::new("work", b"payload").durability(level)
}

fn pushed(d: &Dispatcher, level: Durability) -> Result<JobId> {
    Ok(d.push(job(level))?.id)
}

fn next(d: &Dispatcher) -> Result<Lease> {
    let lease = d.consumer(Arc::new(KindSet::any())).next(Deadline::after(LONG))?;
    Ok(lease.expect("there is a job"))
}

/// Plays a scene with the power cut at `at`, or behind every promise; how many calls SQLite made for it.
fn play(scene: Scene, query: &str, at: Option<u64>, dice: &mut Dice) -> u64 {
    let folder = Folder::in_memory("promises");
    let disk = Disk::under(folder.path());
    let stage = Stage {
        folder: folder.path(),
        disk: &disk,
        query,
        at,
        before: Cell::default(),
        opened: RefCell::default(),
        promises: RefCell::default(),
    };
    let played = scene(&stage);
    let (calls, cut) = (disk.calls() - stage.before.get(), disk.fired() > 0);
    assert!(cut || played.is_ok(), "without a cut: {played:?}");
    // As it is at this instant, before anybody comes to an end.
    let image = Folder::in_memory("promises-image");
    disk.image(image.path(), dice);
    for d in stage.opened.take() {
        let _ = d.stop(Duration::ZERO);
    }
    let promises = stage.promises.take();
    assert!(cut || !promises.is_empty(), "a scene that promises nothing");
    check(image.path(), query, &promises, &format!("{at:?}"));
    calls
}

/// What an image keeps.
fn check(image: &Path, query: &str, promises: &[Promise], at: &str) {
    let open = |name: &str| {
        let url = format!("sqlite:{}{query}", image.join(name).display());
        Dispatcher::open(&url, Options::default()).expect("an image can be opened")
    };
    let d = open("jobs.db");
    let beside = image.join("beside.db").exists().then(|| open("beside.db"));
    for (n, promise) in promises.iter().enumerate() {
        let state = format!("{:?}", d.list(&forebay::Filter::default()).map(|page| page.jobs));
        assert!(
            promise.is_kept(&d, beside.as_ref()),
            "a cut at {at}: promise {n}, {promise:?}, is broken: {state}"
        );
    }
    for d in beside.iter().chain([&d]) {
        d.stop(LONG).expect("nothing runs");
    }
}

/// The scene with a cut behind every promise, and at every call, or at a few of them by day.
fn at_every_call(name: &str, scene: Scene, modes: &[&str]) {
    let mut dice = Dice::new(seed());
    for query in modes {
        let calls = play(scene, query, None, &mut dice);
        let tried = chosen(calls, size("FOREBAY_PROMISES", 4), &mut dice);
        say(&format!("{name}{query}: cut at {} of {calls} calls", tried.len()));
        for at in tried {
            play(scene, query, Some(at), &mut dice);
        }
    }
}

macro_rules! scenes {
    ($($name:ident on $modes:expr => $scene:ident;)*) => {
        $(#[test]
        fn $name() {
            at_every_call(stringify!($scene), $scene, &$modes);
        })*
    };
}

scenes! {
    a_push_is_as_safe_as_it_says on [OWNED, SHARED] => pushes;
    what_is_flushed_is_on_the_disk on [OWNED, SHARED] => flushes;
    a_push_of_a_known_job_is_as_safe_as_it_says on [OWNED, SHARED] => duplicates;
    what_an_operator_does_is_on_the_disk on [OWNED, SHARED] => operators;
    what_an_operator_does_can_be_flushed on [OWNED, SHARED] => operators_at_os;
    an_end_with_sync_done_is_on_the_disk on [OWNED, SHARED] => ends;
    an_end_can_be_flushed on [OWNED, SHARED] => ends_at_once;
    a_follow_up_comes_with_the_end on [OWNED, SHARED] => follow_ups;
    what_was_restored_is_on_the_disk on [OWNED, SHARED] => restores;
    what_was_spilled_is_on_the_disk on [OWNED] => spills;
    what_is_forwarded_is_here_or_there on [OWNED] => forwards;
    dispatchers_of_one_file_sync_for_each_other on [SHARED] => several;
}

fn pushes(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("")?;
    stage.begin()?;
    for _ in 0..3 {
        pushed(&d, Durability::Os)?;
        let id = pushed(&d, Durability::Disk)?;
        stage.promise(Promise::Pending(id));
    }
    let many: Vec<_> = (0..5).map(|_| job(Durability::Disk)).collect();
    for pushed in d.push_many(&many).map_err(|stopped| stopped.error)? {
        stage.promise(Promise::Pending(pushed.id));
    }
    let id = d.push(job(Durability::Disk).delay(LONG * 60))?.id;
    stage.promise(Promise::Pending(id));
    Ok(())
}

fn flushes(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("")?;
    stage.begin()?;
    for level in [
        Durability::Memory,
        Durability::Os,
        Durability::Os,
        Durability::Memory,
    ] {
        let id = pushed(&d, level)?;
        stage.flushed(&d, [Promise::Pending(id)])?;
    }
    Ok(())
}

fn duplicates(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("")?;
    stage.begin()?;
    for (level, key) in [
        (Durability::Os, "a"),
        (Durability::Memory, "b"),
        (Durability::Os, "c"),
    ] {
        let id = pushed(&d, level)?;
        d.push(job(Durability::Disk).id(id))?;
        stage.promise(Promise::Pending(id));
        let id = d.push(job(level).key(key))?.id;
        assert_eq!(d.push(job(Durability::Disk).key(key))?.id, id);
        stage.promise(Promise::Pending(id));
    }
    Ok(())
}

/// Jobs for an operator, and what he does with them: each is promised as soon as `done` says so.
fn operate(d: &Dispatcher, stage: &Stage<'_>, done: impl Fn(Promise) -> Result<()>) -> Result<()> {
    let ids: Vec<JobId> = (0..4).map(|_| pushed(d, Durability::Os)).collect::<Result<_>>()?;
    let blocked = d.push(job(Durability::Os).waits_for("a").waits_for("b"))?.id;
    d.push(job(Durability::Os).queue("purged").priority(-1))?;
    let lease = next(d)?;
    stage.begin()?;
    d.pause("default")?;
    done(Promise::Paused("default", true))?;
    d.cancel(ids[1])?;
    done(Promise::Ended(ids[1], State::Cancelled))?;
    d.cancel(ids[0])?;
    done(Promise::ToBeCancelled(ids[0]))?;
    d.signal(blocked, "a")?;
    done(Promise::Signalled(blocked, "a"))?;
    d.signal(blocked, "b")?;
    done(Promise::Signalled(blocked, "b"))?;
    let again = d.retry(ids[1], None)?.id;
    done(Promise::Pending(again))?;
    d.pause("other")?;
    done(Promise::Paused("other", true))?;
    // What is so already is promised again.
    pushed(d, Durability::Os)?;
    d.pause("other")?;
    done(Promise::Paused("other", true))?;
    let last = d.push(job(Durability::Os).queue("purged"))?.id;
    assert!(d.purge("purged")? > 0);
    done(Promise::Ended(last, State::Cancelled))?;
    drop(lease);
    Ok(())
}

fn operators(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("")?;
    operate(&d, stage, |promise| {
        stage.promise(promise);
        Ok(())
    })
}

fn operators_at_os(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("&durability=os")?;
    operate(&d, stage, |promise| stage.flushed(&d, [promise]))
}

/// How an attempt ends, and the state that the job has for good then, if it has one.
type Way = (fn() -> Outcome, Option<State>);

/// An answer of another kind promises nothing.
fn is_stored(answer: Answer) -> bool {
    matches!(answer, Answer::Stored(_))
}

/// Jobs that end in every way, each told of as soon as `done` says so.
fn end_all(d: &Dispatcher, stage: &Stage<'_>, done: impl Fn(Promise) -> Result<()>) -> Result<()> {
    let short = || job(Durability::Os).max_attempts(1);
    for _ in 0..8 {
        d.push(short())?;
    }
    stage.begin()?;
    let ways: [Way; 4] = [
        (Outcome::done, Some(State::Succeeded)),
        (|| Outcome::failed("once"), Some(State::Failed)),
        (|| Outcome::fatal("for good"), Some(State::Failed)),
        (|| Outcome::snooze(LONG * 60), None),
    ];
    let told = |id, state: Option<State>| match state {
        Some(state) => Promise::Ended(id, state),
        None => Promise::Pending(id),
    };
    for (outcome, state) in ways {
        let lease = next(d)?;
        let id = lease.id();
        if is_stored(lease.complete(outcome())?) {
            done(told(id, state))?;
        }
    }
    let lease = next(d)?;
    let id = lease.id();
    d.finish([(lease.ticket(), Outcome::done())])?;
    drop(lease);
    done(Promise::Ended(id, State::Succeeded))?;
    let lease = next(d)?;
    let id = lease.id();
    d.cancel(id)?;
    lease.complete(Outcome::done())?;
    done(Promise::Ended(id, State::Cancelled))?;
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let lease = consumer.next(Deadline::after(LONG))?.expect("there is a job");
    let id = lease.id();
    let (answer, last) = consumer.complete_and_next(lease, Outcome::done())?;
    if is_stored(answer) {
        done(Promise::Ended(id, State::Succeeded))?;
    }
    let last = last.expect("there is another");
    let id = last.id();
    consumer.complete_and_next(last, Outcome::done())?;
    done(Promise::Ended(id, State::Succeeded))
}

fn ends(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("&sync_done=true")?;
    end_all(&d, stage, |promise| {
        stage.promise(promise);
        Ok(())
    })
}

fn ends_at_once(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("")?;
    end_all(&d, stage, |promise| stage.flushed(&d, [promise]))
}

fn follow_ups(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("&sync_done=true")?;
    let ids: Vec<JobId> = (0..4)
        .map(|_| pushed(&d, Durability::Os))
        .collect::<Result<_>>()?;
    stage.begin()?;
    for id in ids {
        let lease = next(&d)?;
        let (child, ticket) = (JobId::new(lease.created()), lease.ticket());
        let child_job = || job(Durability::Disk).id(child).delay(LONG * 60);
        if child.to_bytes()[15] & 1 == 0 {
            lease.complete_and_push(Outcome::done(), &[child_job()])?;
        } else {
            d.finish_and_push(ticket, Outcome::done(), &[child_job()])?;
        }
        stage.promise(Promise::Ended(id, State::Succeeded));
        stage.promise(Promise::Pending(child));
    }
    Ok(())
}

fn restores(stage: &Stage<'_>) -> Result<()> {
    let folder = Folder::in_memory("promises-dump");
    let dump = folder.file("dump");
    let from = Dispatcher::open("memory:", Options::default())?;
    let ids: Vec<JobId> = (0..4)
        .map(|_| pushed(&from, Durability::Memory))
        .collect::<Result<_>>()?;
    from.pause("held")?;
    from.dump(&dump)?;
    let d = stage.open("")?;
    stage.begin()?;
    for _ in 0..2 {
        pushed(&d, Durability::Os)?;
        d.restore(&dump)?;
        stage.promise(Promise::Paused("held", true));
        ids.iter().for_each(|id| stage.promise(Promise::Pending(*id)));
    }
    Ok(())
}

fn spills(stage: &Stage<'_>) -> Result<()> {
    let d = stage.open("&resident=2")?;
    stage.begin()?;
    let mut ids = Vec::new();
    for n in 0..6 {
        let level = if n % 2 == 0 {
            Durability::Disk
        } else {
            Durability::Os
        };
        let id = pushed(&d, level)?;
        if level == Durability::Disk {
            stage.promise(Promise::Known(id));
        }
        ids.push(id);
    }
    let known = || ids.iter().map(|id| Promise::Known(*id));
    stage.flushed(&d, known())?;
    // One that is in the file only.
    d.cancel(ids[4])?;
    stage.promise(Promise::Ended(ids[4], State::Cancelled));
    for _ in 0..3 {
        let lease = next(&d)?;
        let id = lease.id();
        lease.complete(Outcome::done())?;
        stage.flushed(&d, [Promise::Ended(id, State::Succeeded)])?;
    }
    stage.flushed(&d, known())
}

fn forwards(stage: &Stage<'_>) -> Result<()> {
    // Nothing is kept here of what has gone.
    let d = stage.open("&keep_finished=0")?;
    let target = stage.open_at("beside.db", "")?;
    stage.begin()?;
    let ids: Vec<JobId> = (0..4)
        .map(|_| pushed(&d, Durability::Disk))
        .collect::<Result<_>>()?;
    ids.iter().for_each(|id| stage.promise(Promise::Somewhere(*id)));
    d.forward("default", Target::dispatcher(target), ForwardOptions::default())?;
    let deadline = Deadline::after(LONG);
    while d.len("default")? > 0 && !deadline.passed() && stage.disk.fired() == 0 {
        std::thread::yield_now();
    }
    let id = pushed(&d, Durability::Disk)?;
    stage.promise(Promise::Somewhere(id));
    d.flush().map(drop)
}

fn several(stage: &Stage<'_>) -> Result<()> {
    let (one, two) = (stage.open("")?, stage.open("")?);
    stage.begin()?;
    for _ in 0..2 {
        let id = pushed(&one, Durability::Os)?;
        // Another's push is made safe by whoever flushes, and by whoever pushes it again.
        stage.flushed(&two, [Promise::Known(id)])?;
        let id = pushed(&two, Durability::Os)?;
        one.push(job(Durability::Disk).id(id))?;
        stage.promise(Promise::Known(id));
    }
    let lease = next(&one)?;
    let id = lease.id();
    two.cancel(id)?;
    stage.promise(Promise::ToBeCancelled(id));
    lease.complete(Outcome::done())?;
    stage.flushed(&two, [Promise::Ended(id, State::Cancelled)])?;
    two.pause("one")?;
    stage.promise(Promise::Paused("one", true));
    one.pause("two")?;
    stage.promise(Promise::Paused("two", true));
    Ok(())
}
