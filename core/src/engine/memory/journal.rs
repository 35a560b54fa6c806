//! What a store underneath has to know: which records changed since it looked last, and which row each has.
//!
//! The engine works the same without one. With one, every change marks its record and notes the record's slot
//! with its stripe; the store's writer [collects](MemoryEngine::collect) what has been noted, as a *group*. It
//! gets the present state of each record, not the way there: a job that came and went between two groups never
//! reaches the store, and what was done last is what is written last, whoever did it.
//!
//! * A group is complete: what was noted before it began is in it or was in one before. Groups are numbered;
//!   whoever changes something learns the number of the first group that has it.
//! * What nobody waits for may be put off: a *patient* group has only what was noted before the last one began, so
//!   that a job which ends soon never reaches the store. Somebody who waits makes the group whole.
//! * A [batch](super::commit) is in one group, whole: the reading of a group and a batch exclude each other by
//!   the latch. Single changes need no such care, since a record is read under its lock.
//! * A job whose push waits for the store is *held*: it has its place (id, key, room) and cannot be claimed.
//!   When its group is written it is [released](MemoryEngine::release); if it cannot be, it is
//!   [withdrawn](MemoryEngine::withdraw) and was never there.
//! * The row of a record is given when it is first collected. Rows grow, in the order of the pushes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use super::MemoryEngine;
use super::after::After;
use super::flags::{CRASHED, DIRTY, HELD, JOINED, ROWED, SPILLED};
use super::latch::{Mutex, MutexGuard};
use super::record::Record;
use super::session::Session;
use super::slab::{CHUNK, WIDTH};
use super::spill::Spill;
use super::stripe;
use super::table::Table;
use crate::bell::Bell;
use crate::durability::Durability;
use crate::id::JobId;
use crate::job::{Job, State};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// Notes which rows run, so that a killed process leaves word of it.
pub(crate) trait Flight: Send + Sync + fmt::Debug {
    /// The job of this row begins to run.
    fn enter(&self, row: i64, takeoff: Takeoff);
    /// It runs no more.
    fn leave(&self, row: i64);
}

/// How a job stood when it began to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Takeoff {
    /// Under which claim.
    pub(crate) fence: u64,
    /// The number of the attempt.
    pub(crate) attempt: u32,
    /// How often it may run in all, which its first claim may have decided.
    pub(crate) max_attempts: u32,
    /// When it began.
    pub(crate) started: Timestamp,
}

/// The link of a memory engine to the store underneath.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) flight: Box<dyn Flight>,
    /// The row of the job in each slot, where there is one.
    rows: Table<[AtomicI64; CHUNK], WIDTH, WIDTH>,
    next: AtomicI64,
    /// How many jobs were held so far: puts those in order that a group releases.
    held: AtomicU64,
    /// Held while a group is read, and by batches.
    latch: Mutex<()>,
    pub(super) spill: Spill,
    /// Whether a lane should be filled up.
    pub(super) hungry: AtomicBool,
    /// Whether something was noted since the last group began.
    noted: AtomicBool,
    /// Whether somebody waits for the next group.
    urgent: AtomicBool,
    /// Rings when one of the two becomes true.
    pub(super) bell: Bell,
    /// Whether there was a batch since the last group began: what it changed must not be torn apart by age.
    batched: AtomicBool,
}

/// What one thread has changed and no group has yet.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Slots of changed records.
    dirty: Vec<u32>,
    /// Those that a patient group has left for the next one.
    aged: Vec<u32>,
    /// Rows whose job is forgotten, and whether by a batch.
    gone: Vec<(i64, bool)>,
    /// The most that somebody wants to hear of these changes.
    want: Durability,
    /// The last group that began.
    group: u64,
}

impl Notes {
    /// The group that will have what is noted now.
    pub(super) fn next_group(&self) -> u64 {
        self.group + 1
    }
}

/// What has changed.
#[derive(Debug)]
pub(crate) enum Change {
    /// This is how the job of a row stands now.
    Put(Box<Put>),
    /// The job of this row is forgotten.
    Remove {
        /// Which row.
        row: i64,
        /// Whether that belongs to a batch.
        joined: bool,
    },
}

impl Change {
    /// Whether it adds a row.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Change::Put(put) if put.new)
    }
}

/// A job to be written.
#[derive(Debug)]
pub(crate) struct Put {
    /// Its row.
    pub(crate) row: i64,
    /// How it stands.
    pub(crate) job: Job,
    /// Whether it is held until it is written.
    pub(crate) held: bool,
    /// Whether that belongs to a batch.
    pub(crate) joined: bool,
    /// Whether its row has not been written before.
    pub(crate) new: bool,
    /// Whether it is to be in the store only.
    pub(crate) spill: bool,
    /// Its place among those that are held.
    order: u64,
    pub(super) slot: u32,
}

/// A group of changes.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Its number.
    pub(crate) number: u64,
    /// The most that somebody wants to hear of it.
    pub(crate) want: Durability,
    /// What has changed; new jobs in the order of their rows.
    pub(crate) changes: Vec<Change>,
}

impl Journal {
    pub(super) fn new(flight: Box<dyn Flight>, resident: usize) -> Self {
        Self {
            flight,
            rows: Table::default(),
            next: AtomicI64::new(1),
            held: AtomicU64::new(0),
            latch: Mutex::default(),
            spill: Spill {
                resident,
                ..Spill::default()
            },
            hungry: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            bell: Bell::default(),
            batched: AtomicBool::new(false),
        }
    }

    /// Keeps groups from being read while a batch is applied.
    pub(super) fn batch(&self) -> MutexGuard<'_, ()> {
        let latch = self.latch.lock();
        self.batched.store(true, Relaxed);
        latch
    }

    /// Says that something was noted. Without a write if that is known.
    pub(super) fn nudge(&self, want: Durability) {
        let news = !self.noted.load(SeqCst) && !self.noted.swap(true, SeqCst);
        let urgent =
            want > Durability::Memory && !self.urgent.load(SeqCst) && !self.urgent.swap(true, SeqCst);
        if news || urgent {
            self.bell.ring();
        }
    }

    /// The place of a job among those that are held.
    pub(super) fn next_held(&self) -> u64 {
        self.held.fetch_add(1, Relaxed)
    }

    /// Says that a lane should be filled up.
    pub(super) fn ask_for_more(&self) {
        if !self.hungry.load(SeqCst) && !self.hungry.swap(true, SeqCst) {
            self.bell.ring();
        }
    }

    fn row(&self, slot: u32) -> &AtomicI64 {
        let slot = slot as usize;
        let chunk = self
            .rows
            .get_or(slot / CHUNK, || [const { AtomicI64::new(0) }; CHUNK]);
        &chunk[slot % CHUNK]
    }

    /// Gives a job its row; the record is locked.
    pub(super) fn enroll(&self, record: &mut Record, slot: u32, row: i64) {
        self.row(slot).store(row, Relaxed);
        record.mark(ROWED, true);
        if record.state() == State::Running && !record.marked(CRASHED) && !record.relayed() {
            self.take_off(record, row);
        }
    }

    fn take_off(&self, record: &Record, row: i64) {
        self.flight.enter(row, record.takeoff());
    }

    /// The job of this record begins to run.
    pub(super) fn begins(&self, record: &Record, slot: u32) {
        if record.marked(ROWED) && !record.relayed() {
            self.take_off(record, self.row(slot).load(Relaxed));
        }
    }

    /// The job of this record runs no more.
    pub(super) fn ends(&self, record: &mut Record, slot: u32) {
        if record.marked(ROWED) && !record.marked(CRASHED) && !record.relayed() {
            self.flight.leave(self.row(slot).load(Relaxed));
        }
        record.mark(CRASHED, false);
    }
}

impl Session<'_> {
    /// Notes that this record has changed. Without a store underneath, one look.
    #[inline]
    pub(super) fn touch(&mut self, record: &mut Record, slot: u32) {
        if self.engine.journal.is_some() {
            self.note(record, slot);
        }
    }

    fn note(&mut self, record: &mut Record, slot: u32) {
        if record.marked(ROWED) && planted(Bug::LostMark) {
            return;
        }
        let notes = &mut self.stripe.notes;
        if !record.marked(DIRTY) {
            record.mark(DIRTY, true);
            notes.dirty.push(slot);
        }
        if self.joins {
            record.mark(JOINED, true);
        }
        self.after.group = notes.next_group();
    }

    /// Notes what somebody wants to hear of the next group.
    pub(super) fn demand(&mut self, want: Durability) {
        let notes = &mut self.stripe.notes;
        notes.want = notes.want.max(want);
        self.after.group = notes.next_group();
        self.after.want = self.after.want.max(want);
    }

    /// Notes that the job of this record is about to be forgotten.
    #[inline]
    pub(super) fn strike(&mut self, record: &mut Record, slot: u32) {
        let Some(journal) = &self.engine.journal else {
            return;
        };
        if record.marked(ROWED) {
            let joined = self.joins || record.marked(JOINED);
            let row = journal.row(slot).load(Relaxed);
            self.stripe.notes.gone.push((row, joined));
            self.after.group = self.stripe.notes.next_group();
        }
        record.clear_marks();
    }
}

impl MemoryEngine {
    pub(super) fn journal(&self) -> &Journal {
        self.journal
            .as_ref()
            .expect("only a store underneath asks, and then there is one")
    }

    /// The bell that rings when something was noted.
    pub(crate) fn news(&self) -> &Bell {
        &self.journal().bell
    }

    /// Whether something was noted since the last group began, and whether somebody waits for the next.
    pub(crate) fn has_news(&self) -> (bool, bool) {
        let journal = self.journal();
        (journal.noted.load(SeqCst), journal.urgent.load(SeqCst))
    }

    /// Says that something was noted, for whoever was quiet about it.
    pub(crate) fn announce(&self, want: Durability) {
        self.journal().nudge(want);
    }

    /// Whether a lane should be filled up.
    pub(crate) fn is_hungry(&self) -> bool {
        self.journal().hungry.load(SeqCst)
    }

    /// Asks for a group at this level; returns its number. Everything that was changed before is in it or was
    /// in one before.
    pub(crate) fn demand(&self, want: Durability) -> u64 {
        let mut after = After::default();
        let mut stripe = self.stripes.mine();
        self.session(&mut stripe, &mut after, Timestamp::EPOCH)
            .demand(want);
        drop(stripe);
        self.journal().nudge(want);
        after.group
    }

    /// Begins a group and reads all that has changed; if it may be patient and nobody waits, only what had changed
    /// when the last one began.
    pub(crate) fn collect(&self, patient: bool, now: Timestamp) -> Group {
        let journal = self.journal();
        let _alone = journal.latch.lock();
        journal.noted.store(false, SeqCst);
        journal.urgent.store(false, SeqCst);
        let (mut group, mut slots) = (Group::default(), Vec::new());
        let mut stripes = self.stripes.lock_all();
        let waited_for = stripes
            .iter()
            .any(|stripe| stripe.notes.want > Durability::Memory);
        let batched = journal.batched.swap(false, Relaxed);
        let whole = batched || waited_for || !patient;
        let mut left = false;
        for stripe in &mut stripes {
            let notes = &mut stripe.notes;
            notes.group += 1;
            group.number = notes.group;
            group.want = group.want.max(std::mem::take(&mut notes.want));
            slots.append(&mut notes.aged);
            if whole {
                slots.append(&mut notes.dirty);
            } else {
                std::mem::swap(&mut notes.aged, &mut notes.dirty);
                left |= !notes.aged.is_empty();
            }
            let gone = notes.gone.drain(..);
            group
                .changes
                .extend(gone.map(|(row, joined)| Change::Remove { row, joined }));
        }
        drop(stripes);
        if left {
            journal.noted.store(true, SeqCst);
        }
        let (mut new, mut puts) = (Vec::new(), Vec::new());
        for slot in slots {
            self.read(slot, now, &mut new, &mut puts);
        }
        new.sort_unstable_by_key(|(place, _)| *place);
        for ((.., id), slot) in new {
            puts.extend(self.read_new(id, slot, now));
        }
        group
            .changes
            .extend(puts.into_iter().map(|put| Change::Put(Box::new(put))));
        if batched {
            self.read_forgotten(&mut group);
        }
        group
    }

    /// Adds what belongs to a batch and was forgotten since its record was noted, before it was read. No batch can
    /// have come since.
    fn read_forgotten(&self, group: &mut Group) {
        for mut stripe in self.stripes.lock_all() {
            let gone = &mut stripe.notes.gone;
            let (theirs, others) = gone.drain(..).partition(|(_, joined)| *joined);
            *gone = others;
            let theirs: Vec<_> = theirs;
            let removed = theirs
                .into_iter()
                .map(|(row, joined)| Change::Remove { row, joined });
            group.changes.extend(removed);
        }
    }

    /// Reads a changed record that has a row; puts one that has none on the list of the new.
    fn read(&self, slot: u32, now: Timestamp, new: &mut Vec<(Place, u32)>, puts: &mut Vec<Put>) {
        let record = self.slab.lock(slot);
        let Some(mut record) = record.filter(|r| r.taken() && r.marked(DIRTY)) else {
            return;
        };
        if came_and_went(&record) {
            record.mark(DIRTY, false);
        } else if record.marked(ROWED) {
            puts.push(self.put(&mut record, slot, false, now));
        } else {
            new.push((place(&record), slot));
        }
    }

    fn read_new(&self, id: JobId, slot: u32, now: Timestamp) -> Option<Put> {
        let record = self.slab.lock(slot);
        let mut record = record.filter(|r| r.is(id) && r.marked(DIRTY))?;
        if came_and_went(&record) {
            record.mark(DIRTY, false);
            return None;
        }
        let journal = self.journal();
        let new = !record.marked(ROWED);
        if new {
            let row = journal.next.fetch_add(1, Relaxed);
            journal.enroll(&mut record, slot, row);
        }
        Some(self.put(&mut record, slot, new, now))
    }

    fn put(&self, record: &mut Record, slot: u32, new: bool, now: Timestamp) -> Put {
        let mut job = record.at_rest(&self.names, &self.shared.nodes);
        let (held, joined) = (record.marked(HELD), record.marked(JOINED));
        record.mark(DIRTY | JOINED | SPILLED, false);
        if held && job.state == State::Blocked && job.waits.is_empty() {
            job.state = if job.run_at > now.max(job.created) {
                State::Scheduled
            } else {
                State::Queued
            };
        }
        let spill = held && self.is_spillable(record, &job);
        Put {
            row: self.journal().row(slot).load(Relaxed),
            job,
            held,
            joined,
            new,
            spill,
            order: record.order(),
            slot,
        }
    }

    /// The held jobs among these can be claimed from now on.
    pub(crate) fn release<'p>(&self, puts: impl Iterator<Item = &'p Put>, now: Timestamp) {
        let mut after = After::default();
        let mut puts: Vec<&Put> = puts.filter(|put| put.held).collect();
        puts.sort_by_key(|put| put.order);
        let mut puts = puts.into_iter().peekable();
        while puts.peek().is_some() {
            let mut stripe = self.stripes.mine();
            let mut session = self.session(&mut stripe, &mut after, now);
            for put in puts.by_ref().take(SESSION) {
                if put.spill {
                    session.spill(put);
                } else {
                    session.release(put.slot, put.job.id);
                }
            }
        }
        self.settle(&mut after);
    }

    /// The held jobs among these were never pushed; the others are to be collected again. Returns the ids of
    /// the former.
    pub(crate) fn withdraw<'p>(&self, puts: impl Iterator<Item = &'p Put>) -> Vec<JobId> {
        let (mut after, mut withdrawn) = (After::default(), Vec::new());
        // What is tried again may belong together.
        self.journal().batched.store(true, Relaxed);
        for put in puts {
            let mut stripe = self.stripes.mine();
            let mut session = self.session(&mut stripe, &mut after, Timestamp::EPOCH);
            if session.withdraw(put) {
                withdrawn.push(put.job.id);
            }
        }
        self.settle(&mut after);
        withdrawn
    }

    /// Notes rows whose removal could not be written, to be collected again.
    pub(crate) fn remove_again(&self, rows: impl Iterator<Item = (i64, bool)>) {
        let mut stripe = self.stripes.lock(stripe::number());
        stripe.notes.gone.extend(rows);
        drop(stripe);
        self.journal().nudge(Durability::Memory);
    }

    /// Takes a job as the store has it. False, and nothing is changed, if there is one with its id.
    pub(crate) fn load(&self, row: i64, job: &Job) -> crate::error::Result<bool> {
        let journal = self.journal();
        if !planted(Bug::RowsAgain) {
            journal.next.fetch_max(row + 1, Relaxed);
        }
        let (queue, kind) = (self.names.queue(&job.queue)?, self.names.kind(&job.kind)?);
        // The engine has no clock: what stood in line had come to its time.
        let now = match job.state {
            State::Queued => job.run_at,
            _ => Timestamp::EPOCH,
        };
        let (mut after, mut stripe) = (After::default(), self.stripes.mine());
        let mut session = self.session(&mut stripe, &mut after, now);
        let loaded = session.load(job, (queue, kind), |record, slot| {
            journal.enroll(record, slot, row);
        });
        if loaded {
            session.count_in(job, queue);
        }
        drop(stripe);
        if let Some(key) = job.key().filter(|_| loaded && !job.state.frees_key()) {
            self.keys.lock(key).insert(key.into(), job.id);
        }
        self.settle(&mut after);
        Ok(loaded)
    }

    /// No row up to this one is given again.
    pub(crate) fn skip_rows(&self, last: i64) {
        self.journal().next.fetch_max(last + 1, Relaxed);
    }
}

/// Where a new job stands among the others of its group: as they may start, and in their lanes.
type Place = (Timestamp, bool, u64, JobId);

fn place(record: &Record) -> Place {
    // Of one that waits no more the order says something else.
    let order = if record.state().is_waiting() {
        record.order()
    } else {
        0
    };
    (record.run_at(), record.marked(HELD), order, record.id())
}

/// Whether a record without a row is of a job that was pushed at `memory` and has succeeded or was shed since: nobody
/// was told that it would survive this process, and there is nothing left to do for the next one. What went wrong
/// is written all the same, for whoever asks later; but what is shed is to cost as little as can be.
fn came_and_went(record: &Record) -> bool {
    let over = matches!(record.state(), State::Succeeded | State::Shed);
    over && ![ROWED, HELD, JOINED].iter().any(|mark| record.marked(*mark))
}

/// The most held jobs that are released while a stripe is locked.
const SESSION: usize = 64;
