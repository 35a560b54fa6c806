//! A bell: how a thread waits for a condition that another thread makes true, without polling and
//! without a lock on the path where nobody waits.
//!
//! It is an eventcount. The waiter registers ([`Bell::listen`]), looks at the condition once more, and
//! only then sleeps; the other side makes the condition true and rings. Either the ringer sees the
//! registration, or the waiter sees the condition: a sequentially consistent fence on both sides rules
//! out that neither does. As in the eventcount of Vyukov's and of the crossbeam parkers, a ringer takes
//! the registration itself, so that ten rings wake ten waiters and never the same one twice.

use std::time::Duration;

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Mutex, lock};
use crate::time::Deadline;

/// Wakes threads that wait for a condition. Any thread.
#[derive(Debug, Default)]
pub struct Bell {
    /// Registered waiters that no ring has taken yet: a copy of `Register::unrung`, for a look without the lock.
    waiting: AtomicU32,
    /// Registered waiters that have not yet left the present round: a copy of `unrung` and `rung` together.
    present: AtomicU32,
    /// Whether members of more than one profile wait here: then every ring wakes everybody.
    mixed: AtomicBool,
    profiles: Mutex<Vec<(u64, usize)>>,
    register: Mutex<Register>,
    rung: Condvar,
    sleeps: AtomicU64,
}

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
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if self.mixed.load(Ordering::SeqCst) {
            return self.ring_all();
        }
        let mut register = lock(&self.register);
        if register.unrung == 0 {
            return;
        }
        register.unrung -= 1;
        register.rung += 1;
        self.publish(&register);
        drop(register);
        self.rung.notify_one();
    }

    /// Wakes every waiter.
    pub fn ring_all(&self) {
        fence(Ordering::SeqCst);
        // Not only those who are unrung: another may yet take the permit of one who was rung and sleeps.
        if self.present.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut register = lock(&self.register);
        *register = Register {
            round: register.round + 1,
            ..Register::default()
        };
        self.publish(&register);
        drop(register);
        self.rung.notify_all();
    }

    /// Copies what is looked at without the lock.
    fn publish(&self, register: &Register) {
        self.waiting.store(register.unrung, Ordering::SeqCst);
        self.present
            .store(register.unrung + register.rung, Ordering::SeqCst);
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
        self.mixed.store(profiles.len() > 1, Ordering::SeqCst);
    }

    /// Takes one [`Bell::join`] back.
    pub fn leave(&self, profile: u64) {
        let mut profiles = lock(&self.profiles);
        profiles.retain_mut(|(p, members)| {
            *members -= usize::from(*p == profile);
            *members > 0
        });
        self.mixed.store(profiles.len() > 1, Ordering::SeqCst);
    }

    /// Whether members of more than one profile exist.
    #[must_use]
    pub fn mixed(&self) -> bool {
        self.mixed.load(Ordering::SeqCst)
    }

    /// How many threads are registered and not yet rung.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst) as usize
    }

    /// How often a thread has gone to sleep here since the start: a count for tests and statistics.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        self.sleeps.load(Ordering::Relaxed)
    }
}

impl Listener<'_> {
    /// Sleeps until the bell rings for this registration; false if `deadline` passed first.
    pub fn wait(mut self, deadline: Deadline) -> bool {
        self.live = false;
        let bell = self.bell;
        let mut register = lock(&bell.register);
        loop {
            if register.round != self.round {
                return true;
            }
            if register.rung > 0 {
                register.rung -= 1;
                bell.publish(&register);
                return true;
            }
            bell.sleeps.fetch_add(1, Ordering::Relaxed);
            register = match deadline.left() {
                None => bell.rung.wait(register).unwrap_or_else(|p| p.into_inner()),
                Some(Duration::ZERO) => {
                    self.unregister(&mut register);
                    return false;
                }
                Some(left) => {
                    let woken = bell.rung.wait_timeout(register, left);
                    woken.unwrap_or_else(|p| p.into_inner()).0
                }
            };
        }
    }

    /// Leaves the round as one who was not rung, if there is such a one: a ring that may have been ours is
    /// then another's. If all were rung, one ring less is needed.
    fn unregister(&self, register: &mut Register) {
        if register.round != self.round {
            return;
        }
        match register.unrung.checked_sub(1) {
            Some(unrung) => register.unrung = unrung,
            None => register.rung -= 1,
        }
        self.bell.publish(register);
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if self.live {
            self.unregister(&mut lock(&self.bell.register));
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_ring_before_the_wait_is_heard() {
        let bell = Bell::default();
        let listener = bell.listen();
        bell.ring();
        assert!(listener.wait(Deadline::after(Duration::ZERO)));
        assert!(
            !bell.listen().wait(Deadline::after(Duration::ZERO)),
            "and only once"
        );
        assert_eq!(bell.waiting(), 0);
    }

    #[test]
    fn a_dropped_listener_passes_the_ring_on() {
        let bell = Bell::default();
        let (first, second) = (bell.listen(), bell.listen());
        bell.ring();
        drop(first);
        // Which of the two was rung is not defined; after the drop it can only be the second.
        assert!(second.wait(Deadline::after(Duration::ZERO)) || bell.waiting() == 0);
    }

    #[test]
    fn a_ring_for_all_cannot_be_heard_twice() {
        let bell = Bell::default();
        let (quick, slow) = (bell.listen(), bell.listen());
        bell.ring_all();
        assert!(quick.wait(Deadline::after(Duration::ZERO)));
        let again = bell.listen();
        assert!(
            !again.wait(Deadline::after(Duration::ZERO)),
            "that was the ring of the slow one"
        );
        assert!(slow.wait(Deadline::after(Duration::ZERO)));
    }

    #[test]
    fn two_profiles_make_every_ring_loud() {
        let bell = Bell::default();
        for profile in [1, 1, 2] {
            bell.join(profile);
        }
        let listeners = [bell.listen(), bell.listen(), bell.listen()];
        bell.ring();
        assert!(
            listeners
                .into_iter()
                .all(|l| l.wait(Deadline::after(Duration::ZERO)))
        );
        bell.leave(2);
        let (a, b) = (bell.listen(), bell.listen());
        bell.ring();
        assert_eq!(bell.waiting(), 1);
        assert!(a.wait(Deadline::after(Duration::ZERO)));
        drop(b);
    }

    #[test]
    fn a_ring_for_everybody_reaches_who_was_rung_before() {
        let bell = Bell::default();
        let slow = bell.listen();
        bell.ring();
        // It was rung and sleeps on; the ring for everybody comes, and then one who takes its permit.
        bell.ring_all();
        let quick = bell.listen();
        assert!(
            !quick.wait(Deadline::after(Duration::ZERO)),
            "registered after it"
        );
        assert!(slow.wait(Deadline::after(Duration::ZERO)));
        assert_eq!(bell.waiting(), 0);
    }

    #[test]
    fn no_item_is_left_behind() {
        let (bell, items, taken) = (Bell::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        const N: usize = 20_000;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < N {
                        let listener = bell.listen();
                        let less = |n: usize| n.checked_sub(1);
                        if items
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                            .is_ok()
                        {
                            drop(listener);
                            if taken.fetch_add(1, Ordering::SeqCst) + 1 == N {
                                bell.ring_all();
                            }
                        } else if taken.load(Ordering::SeqCst) < N {
                            listener.wait(Deadline::NEVER);
                        }
                    }
                });
            }
            for _ in 0..N {
                items.fetch_add(1, Ordering::SeqCst);
                bell.ring();
            }
        });
        assert_eq!((taken.into_inner(), bell.waiting()), (N, 0));
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    use super::*;
    use shuttle::sync::Arc;
    use shuttle::sync::atomic::AtomicUsize;

    /// Two consumers, three items: every schedule ends, so no ring is lost.
    #[test]
    fn no_ring_is_lost() {
        let model = || {
            let bell = Arc::new(Bell::default());
            let items = Arc::new(AtomicUsize::new(0));
            let left = Arc::new(AtomicUsize::new(3));
            let consumers: Vec<_> = (0..2)
                .map(|_| {
                    let (bell, items, left) = (bell.clone(), items.clone(), left.clone());
                    shuttle::thread::spawn(move || {
                        while left.load(Ordering::SeqCst) > 0 {
                            let listener = bell.listen();
                            let less = |n: usize| n.checked_sub(1);
                            if items
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                                .is_ok()
                            {
                                drop(listener);
                                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                                    bell.ring_all();
                                }
                            } else if left.load(Ordering::SeqCst) > 0 {
                                listener.wait(Deadline::NEVER);
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..3 {
                items.fetch_add(1, Ordering::SeqCst);
                bell.ring();
            }
            for consumer in consumers {
                consumer.join().unwrap();
            }
        };
        shuttle::check_random(model, 5_000);
        shuttle::check_pct(model, 5_000, 3);
    }

    /// Two who wait for different things: every schedule ends, so a ring for all reaches both.
    #[test]
    fn a_ring_for_all_reaches_everyone() {
        let model = || {
            let bell = Arc::new(Bell::default());
            let flags = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let waiters: Vec<_> = (0..2)
                .map(|i| {
                    let (bell, flags) = (bell.clone(), flags.clone());
                    shuttle::thread::spawn(move || {
                        loop {
                            let listener = bell.listen();
                            if flags[i].load(Ordering::SeqCst) == 1 {
                                return;
                            }
                            listener.wait(Deadline::NEVER);
                        }
                    })
                })
                .collect();
            for flag in flags.iter() {
                flag.store(1, Ordering::SeqCst);
                bell.ring_all();
            }
            for waiter in waiters {
                waiter.join().unwrap();
            }
        };
        shuttle::check_random(model, 5_000);
        shuttle::check_pct(model, 5_000, 3);
    }
}
