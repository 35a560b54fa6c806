//! The store of a simulation: rows in memory, and what a crash makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Told;
use crate::durability::Durability;
use crate::engine::durable::store::{Fault, Pause, Store};
use crate::engine::memory::journal::{Change, Flight, Takeoff};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Job, State};

type Rows = BTreeMap<i64, Job>;

/// What a write can meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accident {
    /// There is no room; nothing is written. For so many writes.
    Full(u8),
    /// It fails, and was kept all the same.
    BrokenKept,
    /// It fails, and was not kept.
    BrokenLost,
    /// It is well, and the one after it fails and is not kept.
    SecondLost,
}

impl Accident {
    pub(super) const ALL: [Accident; 5] = [
        Accident::SecondLost,
        Accident::Full(1),
        Accident::Full(3),
        Accident::BrokenKept,
        Accident::BrokenLost,
    ];
}

/// What is outside of the process: the disk, and the system that writes to it.
#[derive(Debug, Default)]
pub(super) struct World(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    /// As the process sees it.
    rows: Rows,
    /// What a power cut leaves at least.
    synced: Rows,
    /// What was written since, one after the other: a cut leaves any number of them, the first ones.
    since: Vec<Rows>,
    flight: BTreeMap<i64, Takeoff>,
    plan: Option<Accident>,
    was_full: bool,
    failed: bool,
    met: Told,
}

impl World {
    /// The next write meets this.
    pub(super) fn plan(&self, accident: Accident) {
        self.0.lock().plan = Some(accident);
    }

    /// Whether there was no room for something in this life.
    pub(super) fn was_full(&self) -> bool {
        self.0.lock().was_full
    }

    /// Whether a write has failed in this life.
    pub(super) fn has_failed(&self) -> bool {
        self.0.lock().failed
    }

    /// The jobs that a killed process leaves.
    pub(super) fn written(&self) -> BTreeSet<JobId> {
        self.0.lock().rows.values().map(|job| job.id).collect()
    }

    /// The jobs that a power cut leaves.
    pub(super) fn synced(&self) -> BTreeSet<JobId> {
        self.0.lock().synced.values().map(|job| job.id).collect()
    }

    /// Whether the end of this job is written.
    pub(super) fn has_ended(&self, id: JobId) -> bool {
        let inside = self.0.lock();
        inside
            .rows
            .values()
            .any(|job| job.id == id && job.state.is_final())
    }

    /// The process is gone; with a cut, so is some of what was not synced, and all word of what ran.
    pub(super) fn die(&self, cut: Option<u8>, told: &mut Told) {
        let mut inside = self.0.lock();
        if let Some(luck) = cut {
            let left = usize::from(luck) % (inside.since.len() + 1);
            inside.rows = match left.checked_sub(1) {
                Some(last) => inside.since[last].clone(),
                None => inside.synced.clone(),
            };
            inside.flight.clear();
        }
        inside.plan = None;
        inside.was_full = false;
        inside.failed = false;
        let met = std::mem::take(&mut inside.met);
        told.full += met.full;
        told.broken_kept += met.broken_kept;
        told.broken_lost += met.broken_lost;
    }

    /// The jobs that are there, in the order in which they start, with the marks of what ran.
    pub(super) fn load(&self) -> Vec<(i64, Job)> {
        let mut inside = self.0.lock();
        for (row, takeoff) in std::mem::take(&mut inside.flight) {
            if let Some(job) = inside.rows.get_mut(&row).filter(|job| !job.state.is_final()) {
                job.state = State::Running;
                job.attempt = job.attempt.max(takeoff.attempt);
                job.fence = job.fence.max(takeoff.fence);
                job.started = Some(takeoff.started);
                job.crashes += 1;
            }
        }
        // A run begins with a write that is synced, and with it all before.
        inside.synced = inside.rows.clone();
        inside.since.clear();
        let mut jobs: Vec<_> = inside.rows.iter().map(|(row, job)| (*row, job.clone())).collect();
        jobs.sort_by_key(|(row, job)| (job.state.is_final(), job.run_at, *row));
        jobs
    }
}

/// What runs, as a killed process leaves word of it.
#[derive(Debug)]
pub(super) struct SimFlight(pub(super) Arc<World>);

impl Flight for SimFlight {
    fn enter(&self, row: i64, takeoff: Takeoff) {
        self.0.0.lock().flight.insert(row, takeoff);
    }

    fn leave(&self, row: i64) {
        self.0.0.lock().flight.remove(&row);
    }
}

/// The world, as the writer sees it.
#[derive(Debug)]
pub(super) struct SimStore(pub(super) Arc<World>);

impl Store for SimStore {
    fn write(
        &mut self,
        changes: &[&Change],
        _: &[Pause],
        level: Durability,
    ) -> std::result::Result<(), Fault> {
        let mut inside = self.0.0.lock();
        let inside = &mut *inside;
        let accident = match inside.plan.take() {
            Some(Accident::SecondLost) => {
                inside.plan = Some(Accident::BrokenLost);
                None
            }
            accident => accident,
        };
        let text = "a simulated fault";
        if let Some(Accident::Full(times)) = accident {
            inside.plan = (times > 1).then_some(Accident::Full(times - 1));
            inside.was_full = true;
            inside.met.full += 1;
            return Err(Fault::Full(Error::new(ErrorKind::Full, text)));
        }
        inside.failed |= accident.is_some();
        if accident == Some(Accident::BrokenLost) {
            inside.met.broken_lost += 1;
            return Err(Fault::Broken(Error::new(ErrorKind::Storage, text)));
        }
        for change in changes {
            match change {
                Change::Put(put) => drop(inside.rows.insert(put.row, put.job.clone())),
                Change::Remove { row, .. } => drop(inside.rows.remove(row)),
            }
        }
        inside.since.push(inside.rows.clone());
        if accident == Some(Accident::BrokenKept) {
            inside.met.broken_kept += 1;
            return Err(Fault::Broken(Error::new(ErrorKind::Storage, text)));
        }
        if level == Durability::Disk {
            inside.synced = inside.rows.clone();
            inside.since.clear();
        }
        Ok(())
    }

    fn sync(&mut self) -> std::result::Result<(), Fault> {
        self.write(&[], &[], Durability::Disk)
    }

    fn read(
        &mut self,
        _: &[i64],
        _: &mut dyn FnMut(i64, Job) -> Result<()>,
    ) -> std::result::Result<(), Fault> {
        Ok(())
    }

    fn rest(&mut self) -> std::result::Result<(), Fault> {
        Ok(())
    }

    fn give_up_reserve(&mut self) -> bool {
        false
    }

    fn restore_reserve(&mut self) {}

    fn close(&mut self) -> std::result::Result<(), Fault> {
        self.sync()
    }
}
