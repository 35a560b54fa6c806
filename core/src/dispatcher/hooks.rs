//! Hooks: calls around each attempt and once at the end of a job. A hook that panics is counted and
//! reported; it never changes the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use super::Lease;
use crate::id::JobId;
use crate::job::State;
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, Outcome};
use crate::panics::caught;

/// Calls around the life of every job of a dispatcher. Each has an empty default. Any thread; they run
/// on the thread that runs or finishes the job, so they should be quick.
pub trait Hooks: Send + Sync + 'static {
    /// Before an attempt, on the thread that runs it.
    fn before(&self, lease: &Lease) {
        let _ = lease;
    }

    /// After an attempt, on the same thread, with what the handler answered.
    fn after(&self, lease: &Lease, outcome: &Outcome, took: Duration) {
        let _ = (lease, outcome, took);
    }

    /// Once per job, after its final state is stored.
    fn finished(&self, end: &End) {
        let _ = end;
    }
}

/// The end of a job, as [`Hooks::finished`] is told of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct End {
    /// Which job.
    pub id: JobId,
    /// Its queue.
    pub queue: QueueId,
    /// Its kind.
    pub kind: KindId,
    /// Its final state.
    pub state: State,
    /// How many attempts it took.
    pub attempts: u32,
    /// Why, unless it succeeded.
    pub failure: Option<Failure>,
}

/// The hooks of one dispatcher.
#[derive(Default)]
pub(crate) struct HookList {
    hooks: RwLock<Vec<Arc<dyn Hooks>>>,
    present: AtomicBool,
    failures: AtomicU64,
}

impl HookList {
    pub(crate) fn add(&self, hooks: Arc<dyn Hooks>) {
        self.hooks.write().push(hooks);
        self.present.store(true, Ordering::Release);
    }

    /// Every hook there is.
    pub(crate) fn all(&self) -> Vec<Arc<dyn Hooks>> {
        self.hooks.read().clone()
    }

    /// Lets every hook go.
    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut *self.hooks.write());
        drop(old);
    }

    #[inline]
    pub(crate) fn present(&self) -> bool {
        self.present.load(Ordering::Acquire)
    }

    /// A log, which is called as hooks are, panicked.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a hook panicked.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Calls `f` for every hook; false if one panicked.
    pub(crate) fn call(&self, f: impl Fn(&dyn Hooks)) -> bool {
        if !self.present() {
            return true;
        }
        let hooks = self.hooks.read().clone();
        let failed = hooks.iter().filter(|h| caught(|| f(h.as_ref())).is_err()).count();
        self.failures.fetch_add(failed as u64, Ordering::Relaxed);
        failed == 0
    }
}
