//! What callers hear and what is kept when the store is full, slow or broken: over a store that does as it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::store::{Fault, Pause, Store};
use super::{DurableEngine, Settings};
use crate::durability::Durability;
use crate::engine::memory::MemoryEngine;
use crate::engine::memory::journal::{Change, Flight, Takeoff};
use crate::engine::{Batch, BatchReceipt, Engine, JobRef};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Job, NewJob, State};
use crate::outcome::{Outcome, Transition};
use crate::time::Deadline;
use crate::{Dispatcher, JobId, KindSet, Lease, Options};

const LONG: Duration = Duration::from_secs(60);

const SETTINGS: Settings = Settings {
    keep_finished: 100,
    write_behind: Duration::from_millis(2),
    resident: 0,
};

/// Nobody is interested in what runs.
#[derive(Debug)]
struct Blind;

impl Flight for Blind {
    fn enter(&self, _: i64, _: Takeoff) {}
    fn leave(&self, _: i64) {}
}

/// What a write is to come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mood {
    #[default]
    Well,
    /// It waits until the mood is another.
    Slow,
    Full,
    Broken,
}

/// What the store has, and what is to become of the next write.
#[derive(Default)]
struct Disk {
    mood: Mood,
    rows: BTreeMap<i64, Job>,
    /// How many writes were tried.
    tries: usize,
}

/// A store in memory, and the test's hold on it.
#[derive(Clone, Default)]
struct Fake(Arc<(Mutex<Disk>, Condvar)>);

impl Fake {
    fn set(&self, mood: Mood) {
        self.0.0.lock().mood = mood;
        self.0.1.notify_all();
    }

    /// Returns when this is so, or fails.
    fn until(&self, what: &str, so: impl Fn(&Disk) -> bool) {
        let mut disk = self.0.0.lock();
        while !so(&disk) {
            let late = self.0.1.wait_for(&mut disk, LONG).timed_out();
            assert!(!late, "{what}");
        }
    }

    fn tries(&self) -> usize {
        self.0.0.lock().tries
    }

    /// Waits until writes were tried beyond the first so many.
    fn tried(&self, beyond: usize) {
        self.until("the store is asked again", |disk| disk.tries > beyond);
    }

    fn has(&self, id: JobId) -> bool {
        self.0.0.lock().rows.values().any(|job| job.id == id)
    }
}

impl Store for Fake {
    fn write(&mut self, changes: &[&Change], _: &[Pause], _: Durability) -> Result<(), Fault> {
        let mut disk = self.0.0.lock();
        disk.tries += 1;
        self.0.1.notify_all();
        while disk.mood == Mood::Slow {
            self.0.1.wait(&mut disk);
        }
        match disk.mood {
            Mood::Full => return Err(Fault::Full(ErrorKind::Full.into())),
            Mood::Broken => return Err(Fault::Broken(ErrorKind::Storage.into())),
            _ => {}
        }
        for change in changes {
            match change {
                Change::Put(put) => drop(disk.rows.insert(put.row, put.job.clone())),
                Change::Remove { row, .. } => drop(disk.rows.remove(row)),
            }
        }
        self.0.1.notify_all();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.write(&[], &[], Durability::Disk)
    }

    fn read(&mut self, rows: &[i64], each: &mut dyn FnMut(i64, Job) -> Result<()>) -> Result<(), Fault> {
        let disk = self.0.0.lock();
        for row in rows {
            each(*row, disk.rows[row].clone()).map_err(Fault::Broken)?;
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn give_up_reserve(&mut self) -> bool {
        false
    }

    fn restore_reserve(&mut self) {}

    fn close(&mut self) -> Result<(), Fault> {
        self.write(&[], &[], Durability::Disk)
    }
}

struct Rig {
    disk: Fake,
    engine: Arc<DurableEngine>,
    d: Dispatcher,
}

fn rig(settings: Settings, options: Options) -> Rig {
    let disk = Fake::default();
    let memory = MemoryEngine::journaled(settings.keep_finished, settings.resident, Box::new(Blind));
    let store = Box::new(disk.clone());
    let engine = Arc::new(DurableEngine::with_store(memory, store, Path::new("none"), settings).unwrap());
    let d = Dispatcher::with_engine(engine.clone(), options).unwrap();
    Rig { disk, engine, d }
}

fn job() -> NewJob<'static> {
    NewJob::new("k", b"payload")
}

fn claim(d: &Dispatcher, within: Duration) -> Option<Lease> {
    d.consumer(Arc::new(KindSet::any()))
        .next(Deadline::after(within))
        .unwrap()
}

/// What it returns, unless it hangs.
fn soon<R: Send + 'static>(act: impl FnOnce() -> R + Send + 'static) -> R {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || said.send(act()));
    heard.recv_timeout(LONG).expect("it does not hang")
}

#[test]
fn what_was_acknowledged_at_memory_is_not_withdrawn() {
    let settings = Settings {
        resident: 2,
        ..SETTINGS
    };
    let Rig { disk, engine, d } = rig(settings, Options::default());
    disk.set(Mood::Full);
    let jobs: Vec<_> = (0..6).map(|_| job().durability(Durability::Memory)).collect();
    let ids: Vec<_> = d.push_many(&jobs).unwrap().iter().map(|p| p.id).collect();
    disk.tried(disk.tries() + 3);
    for id in &ids {
        assert!(engine.get(*id).unwrap().is_some(), "it was acknowledged");
    }
    let ran: Vec<_> = ids.iter().map(|_| claim(&d, LONG).unwrap()).collect();
    assert_eq!(ran.iter().map(Lease::id).collect::<Vec<_>>(), ids);
    disk.set(Mood::Well);
    soon(move || d.flush()).unwrap();
    assert!(ids.iter().all(|id| disk.has(*id)));
}

#[test]
fn a_push_that_was_withdrawn_is_nobodys_answer() {
    let Rig { disk, engine, d } = rig(SETTINGS, Options::default());
    let tries = disk.tries();
    disk.set(Mood::Slow);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| d.push(job().key("key")));
        disk.tried(tries);
        let second = scope.spawn(|| d.push(job().key("key")));
        while !engine.memory.has_news().1 {
            std::thread::yield_now();
        }
        disk.set(Mood::Full);
        assert_eq!(first.join().unwrap().unwrap_err().kind(), ErrorKind::Full);
        match second.join().unwrap() {
            Ok(pushed) => panic!("{:?} is the answer, and is not there", pushed.id),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Full),
        }
    });
    disk.set(Mood::Well);
    assert!(d.push(job().key("key")).unwrap().created);
}

#[test]
fn a_store_that_broke_is_not_written_again() {
    let Rig { disk, engine, d } = rig(SETTINGS, Options::default());
    let pushed = d.push(job()).unwrap();
    let lease = claim(&d, LONG).unwrap();
    assert_eq!(lease.id(), pushed.id);
    let tries = disk.tries();
    disk.set(Mood::Slow);
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| d.push(job()));
        disk.tried(tries);
        // Of the next group, which is not to be.
        lease.complete(Outcome::done()).unwrap();
        disk.set(Mood::Broken);
        assert_eq!(pushing.join().unwrap().unwrap_err().kind(), ErrorKind::Unknown);
    });
    disk.set(Mood::Well);
    let tries = disk.tries();
    assert_eq!(d.push(job()).unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(
        soon(move || engine.close()).unwrap_err().kind(),
        ErrorKind::Storage
    );
    assert_eq!(disk.tries(), tries);
}

#[test]
fn nobody_waits_for_a_store_that_is_closed() {
    let Rig { engine, d, .. } = rig(SETTINGS, Options::default());
    let id = d.push(job().id(JobId::from_u128(1))).unwrap().id;
    engine.seal().unwrap();
    let closing = engine.clone();
    soon(move || closing.close()).unwrap();
    let flushed = engine.clone();
    soon(move || flushed.flush(Durability::Disk)).unwrap();
    // A push that passed the dispatcher's door before it was closed.
    let pushed = soon(move || d.push(job().id(id)).map_err(Error::from));
    assert!(!pushed.unwrap().created);
}

#[test]
fn a_batch_that_changes_nothing_waits_for_nothing() {
    let Rig { disk, engine, d } = rig(SETTINGS, Options::default());
    d.push(job()).unwrap();
    disk.set(Mood::Full);
    let lease = claim(&d, LONG).unwrap();
    d.push(job().durability(Durability::Memory)).unwrap();
    let mut stale = [Transition {
        job: JobRef {
            fence: 99,
            ..engine.standing(lease.id()).unwrap().unwrap().job
        },
        running: true,
        to: State::Succeeded,
        delay: Duration::ZERO,
        refund: false,
        keeps_place: false,
        answers_cancel: false,
        result: None,
        failure: None,
    }];
    let mut batch = Batch {
        transitions: &mut stale,
        durability: Durability::Disk,
        ..Batch::default()
    };
    let (now, mut receipt) = (d.now(), BatchReceipt::default());
    engine.commit(&mut batch, now, &mut receipt).unwrap();
    assert!(!receipt.applied);
}
