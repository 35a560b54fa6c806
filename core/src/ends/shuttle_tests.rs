//! A job ends while somebody begins to wait for it, takes that back, or is told of something else.

use super::*;
use crate::finished::Finished;
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::thread::{JoinHandle, spawn};

const JOB: u128 = 1;

/// Some jobs that end, and one who waits for them. The store is a flag per job.
#[derive(Debug, Default)]
struct World {
    finished: Finished,
    over: [AtomicBool; 3],
}

impl World {
    fn new() -> (std::sync::Arc<Ends>, Arc<Self>) {
        let (ends, world) = (std::sync::Arc::new(Ends::default()), Arc::new(Self::default()));
        ends.wakeup.get().unwrap();
        world.finished.enrol(&ends);
        (ends, world)
    }

    fn end(&self, job: u128) {
        self.over[job as usize].store(true, Ordering::SeqCst);
        self.finished.ring(JobId::from_u128(job), Some(State::Succeeded));
    }

    fn state(&self, id: JobId) -> State {
        match self.over[id.as_u128() as usize].load(Ordering::SeqCst) {
            true => State::Succeeded,
            false => State::Running,
        }
    }

    /// As [`Watcher::add`](crate::Watcher::add).
    fn add(&self, ends: &std::sync::Arc<Ends>, job: u128, name: u64) {
        let id = JobId::from_u128(job);
        let tag = ends.expect(id, name).expect("the name is free");
        self.finished.watch(id, ends, tag);
        if self.state(id).is_final() {
            self.finished.unwatch(id, tag);
            ends.tell(tag, Some(self.state(id)));
        }
    }

    fn take(&self, ends: &Ends) -> usize {
        let settled = |id, tag| self.finished.unwatch(id, tag);
        let taken = ends.take(|id| Ok(Some(self.state(id))), settled);
        usize::from(taken.unwrap().is_some())
    }

    /// Waits for the descriptor until so many ends were told, as an event loop does.
    fn told(&self, ends: &Ends, count: usize) {
        let mut told = 0;
        while told < count {
            ends.wakeup.get().unwrap().wait();
            let mut got = self.take(ends);
            if got == 0 {
                ends.wakeup.rearm();
                got = self.take(ends);
            }
            if got > 0 {
                ends.wakeup.ring();
            }
            told += got;
        }
        assert_eq!(self.take(ends), 0, "told twice");
    }
}

fn explore(model: fn()) {
    shuttle::check_random(model, 2_000);
    shuttle::check_pct(model, 2_000, 3);
}

fn end_later(world: &Arc<World>, job: u128) -> JoinHandle<()> {
    let world = world.clone();
    spawn(move || world.end(job))
}

/// Whenever the job ends, and whatever else rings for everybody: it is told once.
#[test]
fn each_end_is_told_once() {
    explore(|| {
        let (ends, world) = World::new();
        let enders = [0, 1].map(|job| end_later(&world, job));
        let shouter = {
            let world = world.clone();
            spawn(move || world.finished.ring_all())
        };
        for job in 0..2 {
            world.add(&ends, job, job as u64);
        }
        world.told(&ends, 2);
        shouter.join().unwrap();
        for ender in enders {
            ender.join().unwrap();
        }
        assert_eq!((world.take(&ends), world.finished.waiters()), (0, 0));
    });
}

/// Removed and not told, or told and not removed.
#[test]
fn an_end_is_told_or_taken_back() {
    explore(|| {
        let (ends, world) = World::new();
        world.add(&ends, JOB, 7);
        let (ender, removed) = (end_later(&world, JOB), Arc::new(AtomicUsize::new(0)));
        let remover = {
            let (ends, world, removed) = (ends.clone(), world.clone(), removed.clone());
            spawn(move || {
                if let Some((id, tag)) = ends.take_back(7) {
                    world.finished.unwatch(id, tag);
                    removed.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let early = world.take(&ends);
        ender.join().unwrap();
        remover.join().unwrap();
        let told = early + world.take(&ends);
        assert_eq!(told + removed.load(Ordering::SeqCst), 1);
        assert_eq!(world.finished.waiters(), 0);
    });
}
