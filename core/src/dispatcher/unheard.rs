//! Reasons to stop for leases that were claimed and have not begun.
//!
//! The engine says that a job runs from its claim on, and the cell of its lease knows of it some microseconds
//! later. Whoever wants it to stop meanwhile leaves a note, and looks at the cells once more; whoever begins a lease
//! looks for notes afterwards. A fence on either side sees to it that one of the two finds the other.
//!
//! A lease may also have ended just before its note is left. Whoever leaves a note takes away those that nobody has
//! found for a long time.

use std::collections::HashMap;
use std::time::Duration;

use super::cells::StopReason;
use crate::job::JobRef;
use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Mutex, lock};
use crate::time::Deadline;

/// The notes. Any thread.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// How many there are: a copy for a look without the lock.
    count: AtomicUsize,
    notes: Mutex<HashMap<JobRef, Note>>,
}

#[derive(Debug)]
struct Note {
    reason: StopReason,
    /// When nobody can be about to look for it any more.
    until: Deadline,
}

/// Longer than a thread is kept from going on between a claim and the begin of its lease.
const KEPT: Duration = Duration::from_secs(600);

impl Unheard {
    /// Leaves a note. Look for the lease after this.
    pub(super) fn note(&self, job: JobRef, reason: StopReason) {
        let until = Deadline::after(KEPT);
        let mut notes = lock(&self.notes);
        notes.retain(|_, note| !note.until.passed());
        notes.insert(job, Note { reason, until });
        self.count.store(notes.len(), Ordering::SeqCst);
        drop(notes);
        fence(Ordering::SeqCst);
    }

    /// Whether there are none. Look after the lease has begun.
    pub(super) fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Takes the note about a claim.
    pub(super) fn take(&self, job: JobRef) -> Option<StopReason> {
        let mut notes = lock(&self.notes);
        let note = notes.remove(&job);
        self.count.store(notes.len(), Ordering::SeqCst);
        note.map(|note| note.reason)
    }
}
