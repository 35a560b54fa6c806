//! The one thread that writes: it takes what has changed since the last time as a group, writes the group in
//! one transaction, lets go of the jobs that were held for it, and wakes whoever waits.
//!
//! While it writes, others change jobs; that is the next group. So the more callers there are, the more share
//! a sync, without a timer. Only groups that nobody waits for are put off a little (`write_behind`), which
//! gives jobs time to end before they ever reach the disk.
//!
//! When the disk is full the new jobs of the group are withdrawn and the rest is written without them, if need
//! be into the space that was reserved for it. When the store breaks, nothing is acknowledged any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;

use super::desk::Desk;
use super::store::{Fault, Pause, Store};
use crate::crash::{self, CrashPoint};
use crate::durability::Durability;
use crate::engine::memory::MemoryEngine;
use crate::engine::memory::journal::{Change, Group, Put};
use crate::error::{Error, ErrorKind};
use crate::panics::{let_go, panic_text};
use crate::planted::{Bug, planted};
use crate::time::Deadline;

/// How long nothing must have come before the log is moved into the file.
const CALM: Duration = Duration::from_secs(1);
/// So many groups of one caller each come in a row only where there is one: of many callers, now and then one is
/// first, and a group of its own would make all the others wait.
const LONELY: u32 = 4;
/// The pause before a group is tried again that could not be written.
const AGAIN: Duration = Duration::from_millis(100);

/// Why the writer wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// Somebody waits.
    Urgent,
    /// It is time for what nobody waits for.
    Due,
    /// The engine is being closed.
    Last,
}

/// Writes groups: a thread of its own does, and now and then a caller.
pub(crate) struct Writer {
    engine: Arc<MemoryEngine>,
    desk: Arc<Desk>,
    write_behind: Duration,
    /// Whether something was written that a power cut could take.
    unsynced: AtomicBool,
    /// How many groups in a row, of those that somebody waited for, were one caller's: then the next may be, too.
    lonely: AtomicU32,
    /// Whether there is no thread, as in a simulation: every caller writes its own group.
    alone: bool,
    /// Held by the one who writes.
    pen: Mutex<Pen>,
}

/// What only the one who writes has.
struct Pen {
    store: Box<dyn Store>,
    /// Whether the last group was refused for want of space.
    full: bool,
}

impl Writer {
    pub(crate) fn new(
        engine: Arc<MemoryEngine>,
        desk: Arc<Desk>,
        store: Box<dyn Store>,
        write_behind: Duration,
    ) -> Self {
        Self {
            engine,
            desk,
            write_behind,
            unsynced: AtomicBool::new(false),
            lonely: AtomicU32::new(0),
            alone: false,
            pen: Mutex::new(Pen { store, full: false }),
        }
    }

    /// Whether a caller may try to write its group itself: where there is one caller at a time, waking another
    /// thread and being woken by it costs more than the rest of the way to the disk.
    pub(crate) fn is_lonely(&self) -> bool {
        self.alone || self.lonely.load(SeqCst) >= LONELY
    }

    /// The same without a thread.
    #[cfg(feature = "conformance")]
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Whether there is no thread.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Writes a group on the caller's thread, if nobody is at it.
    pub(crate) fn try_step(&self) -> bool {
        let pen = self.pen.try_lock().filter(|_| !self.desk.is_closing());
        let Some(mut pen) = pen else { return false };
        self.guarded(|| self.step(&mut pen, false));
        true
    }

    /// Writes nothing until the guard is dropped.
    #[cfg(test)]
    pub(super) fn pause(&self) -> impl Drop + use<'_> {
        self.pen.lock()
    }

    /// Writes until it is told to close.
    pub(crate) fn run(&self) {
        while !self.desk.is_broken() {
            let news = self.wait();
            if news == News::Last && planted(Bug::LostAtStop) {
                break;
            }
            let mut pen = self.pen.lock();
            self.guarded(|| self.step(&mut pen, news == News::Due));
            let full = pen.full;
            drop(pen);
            if news == News::Last {
                break;
            }
            if full {
                self.give_time();
            }
        }
        let mut pen = self.pen.lock();
        if !self.desk.is_broken() {
            self.guarded(|| self.end(&mut pen));
        }
        if !self.desk.is_broken() {
            self.desk.shut();
        }
    }

    /// Gives a full disk a moment.
    fn give_time(&self) {
        let listener = self.engine.news().listen();
        if !self.desk.is_closing() && !self.alone {
            listener.wait(Deadline::after(AGAIN));
            // On a caller's thread this may have taken the ring that was for the writer.
            self.engine.news().ring_all();
        }
    }

    fn end(&self, pen: &mut Pen) {
        // Changes of the last moment: ends of jobs whose dispatcher has been sealed by now.
        if !planted(Bug::LostAtStop) {
            self.step(pen, false);
        }
        if self.desk.is_incomplete() {
            let text =
                "the disk is full: what was acknowledged at memory, and ends of jobs, could not be written";
            return self.desk.poison(&Error::new(ErrorKind::Full, text));
        }
        if let Err(Fault::Full(e) | Fault::Busy(e) | Fault::Broken(e)) = pen.store.close() {
            self.desk.poison(&e);
        }
    }

    /// If this cannot go on, nobody waits for it any more.
    fn guarded(&self, act: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
            let text = format!("the writer panicked: {}", panic_text(&*panic));
            self.desk.poison(&Error::new(ErrorKind::Panic, text));
            let_go(panic);
        }
    }

    /// Returns when there is something to write.
    fn wait(&self) -> News {
        let mut behind = None;
        loop {
            let engine = self.engine.clone();
            let listener = engine.news().listen();
            let (noted, urgent) = engine.has_news();
            if self.desk.is_closing() || self.desk.is_broken() {
                return News::Last;
            }
            if urgent {
                return News::Urgent;
            }
            if engine.is_hungry() {
                drop(listener);
                let mut pen = self.pen.lock();
                self.guarded(|| self.refill(&mut pen));
                continue;
            }
            let until = if noted {
                // A patient group leaves what is younger than this to the next one.
                *behind.get_or_insert_with(|| Deadline::after(self.write_behind / 2))
            } else if self.unsynced.load(SeqCst) {
                Deadline::after(CALM)
            } else {
                Deadline::NEVER
            };
            if !listener.wait(until) {
                if noted {
                    return News::Due;
                }
                let mut pen = self.pen.lock();
                self.guarded(|| self.rest(&mut pen));
            }
        }
    }

    /// Nothing has come for a while.
    fn rest(&self, pen: &mut Pen) {
        if self.desk.is_broken() {
            return;
        }
        let done = pen.store.sync().and_then(|()| pen.store.rest());
        match done {
            Ok(()) => self.unsynced.store(false, SeqCst),
            Err(Fault::Broken(e)) => self.desk.poison(&e),
            Err(Fault::Full(_) | Fault::Busy(_)) => {}
        }
    }

    /// Takes jobs back that are in the file only, as far as lanes run low.
    fn refill(&self, pen: &mut Pen) {
        if self.desk.is_broken() {
            return;
        }
        let (desk, engine) = (self.desk.clone(), self.engine.clone());
        loop {
            let _one = desk.refilling.lock();
            let rows = engine.next_rows();
            if rows.is_empty() {
                return;
            }
            let read = pen.store.read(&rows, &mut |row, mut job| {
                job.fence = job.fence.max(desk.fences());
                engine.take_back(row, &job).map(drop)
            });
            if let Err(Fault::Full(e) | Fault::Busy(e) | Fault::Broken(e)) = read {
                return desk.poison(&e);
            }
        }
    }

    /// Writes one group, unless the store broke while the caller waited for the pen: it is not asked again.
    fn step(&self, pen: &mut Pen, patient: bool) {
        if self.desk.is_broken() {
            return;
        }
        if self.engine.is_hungry() {
            self.refill(pen);
        }
        let group = self.engine.collect(patient, self.desk.now());
        let pauses = self.desk.take_pauses();
        let changes: Vec<&Change> = group.changes.iter().collect();
        if planted(Bug::EndBeforePush) {
            let is_end = |change: &&Change| matches!(change, Change::Put(put) if put.joined && !put.new);
            let ends: Vec<&Change> = changes.iter().copied().filter(is_end).collect();
            let _ = self.put(pen, &ends, &[], group.want);
        }
        match self.put(pen, &changes, &pauses, group.want) {
            Ok(()) => self.written(pen, &group),
            Err(_) if planted(Bug::LostGroup) => self.written(pen, &group),
            Err(Fault::Full(_)) => self.write_without_new(pen, &group, pauses),
            Err(Fault::Busy(e) | Fault::Broken(e)) => self.desk.poison(&e),
        }
    }

    /// Writes changes; waits for whoever else has the file.
    fn put(
        &self,
        pen: &mut Pen,
        changes: &[&Change],
        pauses: &[Pause],
        want: Durability,
    ) -> Result<(), Fault> {
        loop {
            let done = if changes.is_empty() && pauses.is_empty() {
                if want == Durability::Disk && self.unsynced.load(SeqCst) {
                    pen.store.sync()
                } else {
                    return Ok(());
                }
            } else {
                pen.store.write(changes, pauses, want)
            };
            match done {
                Ok(()) => {
                    self.unsynced.store(want < Durability::Disk, SeqCst);
                    return Ok(());
                }
                Err(Fault::Busy(_)) if !self.desk.is_closing() => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    fn written(&self, pen: &mut Pen, group: &Group) {
        crash::pass(CrashPoint::Written);
        if std::mem::take(&mut pen.full) {
            pen.store.restore_reserve();
        }
        if group.want > Durability::Memory {
            let held = puts(group).filter(|put| put.held).take(2).count();
            let alone = self.lonely.load(SeqCst).saturating_add(1);
            self.lonely.store(if held == 1 { alone } else { 0 }, SeqCst);
        }
        self.engine.release(puts(group), self.desk.now());
        self.desk.finish(group.number);
    }

    /// The disk is full: what was pushed is refused, what ended is written.
    fn write_without_new(&self, pen: &mut Pen, group: &Group, pauses: Vec<Pause>) {
        pen.full = true;
        self.lonely.store(0, SeqCst);
        let old: Vec<&Change> = group
            .changes
            .iter()
            .filter(|change| !waits_for_space(change))
            .collect();
        let mut done = self.put(pen, &old, &pauses, group.want);
        if matches!(done, Err(Fault::Full(_))) && pen.store.give_up_reserve() {
            done = self.put(pen, &old, &pauses, group.want);
        }
        let complete = done.is_ok();
        let rows = group.changes.iter().filter_map(|change| match change {
            Change::Remove { row, joined } if *joined || !complete => Some((*row, *joined)),
            _ => None,
        });
        self.engine.remove_again(rows);
        let left: Vec<&Put> = match done {
            Ok(()) => puts(group).filter(|put| put.new || put.joined).collect(),
            Err(Fault::Full(_)) => {
                self.desk.return_pauses(pauses);
                puts(group).collect()
            }
            Err(Fault::Busy(e) | Fault::Broken(e)) => return self.desk.poison(&e),
        };
        let (withdrawn, left) = (self.engine.withdraw(left.iter().copied()), left.len());
        if withdrawn.len() < left || !complete {
            self.desk.leave_incomplete(group.number);
            // What is noted again was to be as safe as this, and is let go of when it is written.
            if group.want > Durability::Memory {
                self.engine.demand(group.want);
            }
        }
        self.desk.note_withdrawn(group.number, withdrawn);
        // What is left is noted again.
        self.desk.finish(group.number);
    }
}

/// Whether a change is not written while the disk is full: a new job, or what belongs to a batch, which is
/// written whole or not at all.
fn waits_for_space(change: &Change) -> bool {
    match change {
        Change::Put(put) => put.new || put.joined,
        Change::Remove { joined, .. } => *joined,
    }
}

fn puts(group: &Group) -> impl Iterator<Item = &Put> {
    group.changes.iter().filter_map(|change| match change {
        Change::Put(put) => Some(&**put),
        Change::Remove { .. } => None,
    })
}
