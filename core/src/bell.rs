//! A bell: how a thread waits for a condition that another thread makes true, without polling and
//! without a lock on the path where nobody waits.
//!
//! It is an eventcount. The waiter registers ([`Bell::listen`]), looks at the condition once more, and
//! only then sleeps; the other side makes the condition true and rings. Either the ringer sees the
//! registration, or the waiter sees the condition: a sequentially consistent fence on both sides rules
//! out that neither does. As in the eventcount of Vyukov's and of the crossbeam parkers, a ringer takes
//! the registration itself, so that ten rings wake ten waiters and never the same one twice.
//!
//! One waiter at a time may be the *searcher* ([`Listener::search`]): it stays awake for some microseconds
//! before it sleeps, and looks at a word that nobody writes but to call it. While there is a searcher, a ring is
//! one write to that word, and no system call; the searcher does the rest when it leaves: one of the calls is
//! its own, and for each other it wakes somebody. (Schedulers that keep one spinning worker, as those of Go and
//! of tokio do, have the same rule for the same reason: whoever takes up work passes the wake on.)
//!
//! Who does not wait in here but for a descriptor leaves a [`Pager`]: a registration that lasts until it is rung.

mod pager;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;

pub(crate) use pager::Pager;

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard, lock, spin_loop, yield_now};
use crate::time::Deadline;

/// Wakes threads that wait for a condition. Any thread.
#[derive(Debug, Default)]
pub struct Bell {
    board: CachePadded<Board>,
    /// 0 without a searcher, else [`SEARCHING`], [`EVERYBODY`] if all are rung, and [`CALL`] for each ring that is
    /// not in the register yet. Set and cleared under the lock of the register.
    search: CachePadded<AtomicU32>,
    profiles: Mutex<Vec<(u64, usize)>>,
    register: Mutex<Register>,
    rung: Condvar,
    sleeps: AtomicU64,
}

/// What every ring looks at.
#[derive(Debug, Default)]
struct Board {
    /// Registered waiters that no ring has taken yet, pagers among them: a copy of what the register says, for a
    /// look without the lock.
    waiting: AtomicU32,
    /// Registered waiters that have not yet left the present round: `rung` beside those.
    present: AtomicU32,
    /// Whether members of more than one profile wait here: then every ring wakes everybody.
    mixed: AtomicBool,
}

const SEARCHING: u32 = 1;
const EVERYBODY: u32 = 2;
const CALL: u32 = 4;

/// How long a searcher stays awake: first it only waits, less than two microseconds in all; then it lets others
/// run in between, some microseconds more.
const SPINS: usize = if cfg!(shuttle) { 1 } else { 64 };
const YIELDS: usize = if cfg!(shuttle) { 2 } else { 16 };

/// Who is registered. Of those who registered in the present round, as many as have not yet left are either
/// `unrung` or `rung`; those of former rounds have all been rung.
///
/// Within a round the permits are not addressed: any of its waiters may take one, because all of them can use
/// what the bell announces. A ring for everybody must reach each waiter, so it is no pile of permits, of which
/// a quick waiter could take two, but the end of the round.
#[derive(Debug, Default)]
struct Register {
    round: u64,
    unrung: u32,
    rung: u32,
    /// How many sleep, rung or not.
    asleep: u32,
    /// Those who wait elsewhere, and that no ring has taken yet. A ring takes a thread if there is one: that one
    /// comes for certain.
    pagers: Vec<Arc<Pager>>,
}

/// A registration with a bell. Dropping it takes it back.
#[derive(Debug)]
#[must_use = "a listener that is dropped at once hears nothing"]
pub struct Listener<'a> {
    bell: &'a Bell,
    round: u64,
    live: bool,
}

impl Bell {
    /// Registers this thread. Look at the condition after this, then call [`Listener::wait`].
    pub fn listen(&self) -> Listener<'_> {
        let mut register = lock(&self.register);
        register.unrung += 1;
        self.publish(&register);
        let round = register.round;
        drop(register);
        fence(Ordering::SeqCst);
        Listener {
            bell: self,
            round,
            live: true,
        }
    }

    /// Wakes one waiter, or all of them while members of several profiles exist (see [`Bell::join`]). Call
    /// it after the condition became true. Costs a fence and a load when nobody waits.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.board.waiting.load(Ordering::SeqCst) > 0 {
            self.ring_one();
        }
    }

    fn ring_one(&self) {
        if self.mixed() {
            return self.ring_all();
        }
        if self.call() {
            return;
        }
        let register = lock(&self.register);
        // Somebody may have begun to search since.
        if self.call() {
            return;
        }
        self.wake(register, 1);
    }

    /// Calls the searcher, if there is one: true if all is done.
    fn call(&self) -> bool {
        let waiting = self.board.waiting.load(Ordering::SeqCst);
        let mut seen = self.search.load(Ordering::SeqCst);
        // As many calls as there are waiters wake all of them, and that is enough.
        while seen & SEARCHING != 0 && seen / CALL < waiting {
            let called = self
                .search
                .compare_exchange(seen, seen + CALL, Ordering::SeqCst, Ordering::SeqCst);
            match called {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        seen & SEARCHING != 0
    }

    /// Wakes every waiter.
    pub fn ring_all(&self) {
        self.end_round(usize::MAX);
    }

    /// Wakes every waiter that is a thread.
    pub(crate) fn ring_threads(&self) {
        self.end_round(0);
    }

    fn end_round(&self, pagers: usize) {
        fence(Ordering::SeqCst);
        // Not only those who are unrung: another may yet take the permit of one who was rung and sleeps.
        if self.board.present.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut register = lock(&self.register);
        register.round += 1;
        (register.unrung, register.rung) = (0, 0);
        if self.search.load(Ordering::SeqCst) & SEARCHING != 0 {
            self.search.fetch_or(EVERYBODY, Ordering::SeqCst);
        }
        let paged = register.page(pagers);
        self.publish(&register);
        self.notify(register, u32::MAX, &paged);
    }

    /// Copies what is looked at without the lock.
    fn publish(&self, register: &Register) {
        let waiting = register.unrung + register.pagers.len() as u32;
        self.board.waiting.store(waiting, Ordering::SeqCst);
        self.board
            .present
            .store(waiting + register.rung, Ordering::SeqCst);
    }

    /// Rings up to `count` of those who are unrung.
    fn wake(&self, mut register: MutexGuard<'_, Register>, count: u32) {
        let rung = register.ring(count);
        let paged = register.page((count - rung) as usize);
        self.publish(&register);
        self.notify(register, rung, &paged);
    }

    /// Wakes up to `count` of those who sleep, and these others. Whoever is registered and not asleep looks before
    /// he sleeps.
    fn notify(&self, register: MutexGuard<'_, Register>, count: u32, paged: &[Arc<Pager>]) {
        let asleep = register.asleep;
        drop(register);
        if count < asleep {
            (0..count).for_each(|_| self.rung.notify_one());
        } else if asleep > 0 {
            self.rung.notify_all();
        }
        paged.iter().for_each(|pager| pager.wakeup.ring());
    }

    /// Says that waiters of this profile exist, until [`Bell::leave`]. Waiters of one profile can all use
    /// whatever the bell announces; as soon as there are two profiles, a ring that woke just one waiter
    /// might wake the wrong one, so every ring wakes everybody.
    pub fn join(&self, profile: u64) {
        let mut profiles = lock(&self.profiles);
        match profiles.iter_mut().find(|(p, _)| *p == profile) {
            Some((_, members)) => *members += 1,
            None => profiles.push((profile, 1)),
        }
        let mixed = profiles.len() > 1;
        let was_mixed = self.board.mixed.swap(mixed, Ordering::SeqCst);
        drop(profiles);
        if mixed && !was_mixed {
            // A ring that nobody has taken yet could now be taken by one who has no use for it.
            self.ring_all();
        }
    }

    /// Takes one [`Bell::join`] back.
    pub fn leave(&self, profile: u64) {
        let mut profiles = lock(&self.profiles);
        profiles.retain_mut(|(p, members)| {
            *members -= usize::from(*p == profile);
            *members > 0
        });
        self.board.mixed.store(profiles.len() > 1, Ordering::SeqCst);
    }

    /// Whether members of more than one profile exist.
    #[must_use]
    pub fn mixed(&self) -> bool {
        self.board.mixed.load(Ordering::SeqCst)
    }

    /// How many are registered and not yet rung.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.board.waiting.load(Ordering::SeqCst) as usize
    }

    /// How many threads sleep and are not yet rung.
    #[must_use]
    pub fn asleep(&self) -> usize {
        let register = lock(&self.register);
        register.asleep.min(register.unrung) as usize
    }

    /// How often a thread has gone to sleep here since the start: a count for tests and statistics.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        self.sleeps.load(Ordering::Relaxed)
    }
}

impl Register {
    /// Rings up to `count` of those who are unrung; returns how many.
    fn ring(&mut self, count: u32) -> u32 {
        let count = count.min(self.unrung);
        self.unrung -= count;
        self.rung += count;
        count
    }
}

impl Listener<'_> {
    /// Sleeps until the bell rings for this registration; false if `deadline` passed first.
    pub fn wait(self, deadline: Deadline) -> bool {
        let register = lock(&self.bell.register);
        self.sleep(register, deadline)
    }

    /// The same, but stays awake for a moment first, if no other waiter does.
    pub fn search(self, deadline: Deadline) -> bool {
        let bell = self.bell;
        let mut register = lock(&bell.register);
        if register.round == self.round && register.rung == 0 && bell.search.load(Ordering::SeqCst) == 0 {
            bell.search.store(SEARCHING, Ordering::SeqCst);
            drop(register);
            bell.stay_awake();
            register = lock(&bell.register);
            // The calls are rings that were not entered; one who was rung with everybody passes all of them on.
            let calls = bell.search.swap(0, Ordering::SeqCst) / CALL;
            if calls > 0 && register.round == self.round && register.ring(1) > 0 {
                return self.answer(register, calls - 1);
            }
            if calls > 0 {
                bell.wake(register, calls);
                register = lock(&bell.register);
            }
        }
        self.sleep(register, deadline)
    }

    /// Leaves with one permit, and wakes others for the rest.
    fn answer(mut self, mut register: MutexGuard<'_, Register>, others: u32) -> bool {
        self.live = false;
        register.rung -= 1;
        self.bell.wake(register, others);
        true
    }

    fn sleep(mut self, mut register: MutexGuard<'_, Register>, deadline: Deadline) -> bool {
        self.live = false;
        let bell = self.bell;
        loop {
            if register.round != self.round {
                return true;
            }
            if register.rung > 0 {
                register.rung -= 1;
                bell.publish(&register);
                return true;
            }
            let left = deadline.left();
            if left == Some(Duration::ZERO) {
                self.unregister(register);
                return false;
            }
            bell.sleeps.fetch_add(1, Ordering::Relaxed);
            register.asleep += 1;
            register = match left {
                None => bell.rung.wait(register).unwrap_or_else(|p| p.into_inner()),
                Some(left) => {
                    let woken = bell.rung.wait_timeout(register, left);
                    woken.unwrap_or_else(|p| p.into_inner()).0
                }
            };
            register.asleep -= 1;
        }
    }

    /// Leaves the round as one who was not rung, if there is such a one: a ring that may have been ours is
    /// then another's. If all were rung, one ring less is needed, unless somebody waits elsewhere.
    fn unregister(&self, mut register: MutexGuard<'_, Register>) {
        if register.round != self.round {
            return;
        }
        match register.unrung.checked_sub(1) {
            Some(unrung) => register.unrung = unrung,
            None => {
                register.rung -= 1;
                return self.bell.wake(register, 1);
            }
        }
        self.bell.publish(&register);
    }
}

impl Bell {
    /// Until the searcher is called, or has waited long enough.
    fn stay_awake(&self) {
        let called = || self.search.load(Ordering::Relaxed) != SEARCHING;
        for _ in 0..SPINS {
            if called() {
                return;
            }
            spin_loop();
        }
        for _ in 0..YIELDS {
            if called() {
                return;
            }
            yield_now();
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if self.live {
            self.unregister(lock(&self.bell.register));
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;

#[cfg(all(test, shuttle))]
mod shuttle_tests;
