//! How the workers of one dispatcher share the interpreter.
//!
//! Only one thread runs Python code at a time, and to pass that right from core to core costs more than a
//! handler that does nearly nothing. So while one worker gets through such jobs one after the other, *the
//! runner*, the others stand by: they neither claim jobs nor ask for the interpreter. Where handlers take
//! longer, because they block or because they compute, there is no runner, and every worker works.
//!
//! Nothing is left behind a runner that gets stuck. The first who stands by looks every millisecond whether
//! the runner still gets on, and if not, sends everybody to work; there is no runner again for a while, so
//! that handlers of which one in a hundred blocks do not stop all the others each time. It sends everybody to
//! work as well when there is no runner any more: nobody wakes up periodically while there is nothing to do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::{Deadline, Dispatcher};
use parking_lot::{Condvar, Mutex};

/// How often the watcher looks.
const TICK: Duration = Duration::from_millis(1);
/// How long there is no runner after one was stuck.
const PAUSE: Duration = Duration::from_millis(100);
/// A worker shows that its jobs are quick by so many of them,
const STREAK: u32 = 16;
/// within this time. A handler that waits for anything takes longer, and for one that only computes a second
/// worker is no help.
const QUICK: Duration = Duration::from_micros(10 * STREAK as u64);

/// The workers of one dispatcher.
#[derive(Default)]
pub struct Crew {
    members: AtomicU64,
    /// Twice the number of the runner, 0 if there is none; and 1 more while only its own handler can keep it:
    /// while it does not wait for the interpreter.
    post: AtomicU64,
    /// Grows while the runner gets on.
    progress: AtomicU64,
    stands: Mutex<Stands>,
    released: Condvar,
}

#[derive(Default)]
struct Stands {
    /// Whether somebody watches the runner.
    watched: bool,
    /// Grows when everybody is sent to work.
    round: u64,
    /// There is no runner before this.
    barred: Option<Deadline>,
}

impl Crew {
    /// Waits while there is a runner that gets on. Call it detached, and without a job.
    pub fn stand_by(&self, core: &Dispatcher) {
        let mut stands = self.stands.lock();
        if self.post.load(Ordering::SeqCst) == 0 {
            return;
        }
        if stands.watched {
            let round = stands.round;
            self.released.wait_while(&mut stands, |now| now.round == round);
            return;
        }
        stands.watched = true;
        let (mut before, mut stuck) = ((0, 0), false);
        while !stuck && !core.stopping() {
            let post = self.post.load(Ordering::SeqCst);
            let now = (post, self.progress.load(Ordering::SeqCst));
            if post == 0 {
                break;
            }
            stuck = now == before && post & 1 == 1;
            before = now;
            if !stuck {
                self.released.wait_for(&mut stands, TICK);
            }
        }
        // A runner that is stuck is none.
        self.post.store(0, Ordering::SeqCst);
        if stuck {
            stands.barred = Some(Deadline::after(PAUSE));
        }
        stands.watched = false;
        stands.round += 1;
        self.released.notify_all();
    }

    /// Makes this member the runner, if there may be one and there is none.
    fn appoint(&self, member: u64) {
        let mut stands = self.stands.lock();
        if stands.barred.is_some_and(|until| !until.passed()) {
            return;
        }
        stands.barred = None;
        // Whoever is the runner already stays it.
        let _ = self
            .post
            .compare_exchange(0, 2 * member + 1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// One worker among the others. Dropping it is a [`Member::rest`].
pub struct Member<'a> {
    crew: &'a Crew,
    number: u64,
    /// How many jobs the present streak has, and how long it may take.
    jobs: u32,
    quick: Deadline,
}

impl<'a> Member<'a> {
    /// Another worker.
    pub fn new(crew: &'a Crew) -> Self {
        Self {
            crew,
            number: crew.members.fetch_add(1, Ordering::Relaxed) + 1,
            jobs: 0,
            quick: Deadline::NEVER,
        }
    }

    fn runs(&self) -> bool {
        self.crew.post.load(Ordering::Relaxed) >> 1 == self.number
    }

    /// Whether another one is the runner: then this one should stand by.
    pub fn is_spare(&self) -> bool {
        let post = self.crew.post.load(Ordering::Relaxed);
        post != 0 && post >> 1 != self.number
    }

    /// It has the interpreter, and a job.
    pub fn begin(&mut self) {
        (self.jobs, self.quick) = (0, Deadline::after(QUICK));
        self.turn(0, 1);
    }

    /// It has run a job. True if it is worth looking at the clock: if jobs are quick, not after each.
    pub fn ran(&mut self) -> bool {
        self.jobs += 1;
        if self.jobs < STREAK {
            return !self.runs();
        }
        if self.quick.passed() {
            self.rest();
        } else if self.runs() {
            self.crew.progress.fetch_add(1, Ordering::SeqCst);
        } else {
            self.crew.appoint(self.number);
        }
        (self.jobs, self.quick) = (0, Deadline::after(QUICK));
        true
    }

    /// It lets others have the interpreter, and will ask for it again: what keeps it is not its handler.
    pub fn pause(&self) {
        self.turn(1, 0);
    }

    /// It runs no more, for now.
    pub fn rest(&self) {
        for inside in [0, 1] {
            let post = 2 * self.number + inside;
            let _ = self
                .crew
                .post
                .compare_exchange(post, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// If it is the runner, it is no longer in the one place but in the other.
    fn turn(&self, from: u64, to: u64) {
        let (from, to) = (2 * self.number + from, 2 * self.number + to);
        if self.crew.post.load(Ordering::Relaxed) == from {
            let _ = self
                .crew
                .post
                .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.rest();
    }
}
