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
    /// Registered waiters that no ring has taken yet.
    waiting: AtomicU32,
    /// Whether members of more than one profile wait here: then every ring wakes everybody.
    mixed: AtomicBool,
    profiles: Mutex<Vec<(u64, usize)>>,
    /// Rings that were given to a registration and not yet consumed by its owner.
    permits: Mutex<Permits>,
    rung: Condvar,
    sleeps: AtomicU64,
}

/// Permits are not addressed: a waiter may take the one that was meant for another. Whoever leaves and finds
/// its permit gone therefore leaves a debt instead of waiting for it.
#[derive(Debug, Default)]
struct Permits {
    /// Given and not yet consumed.
    free: u32,
    /// Consumed by a waiter in the place of one that has left: as many future permits go to nobody.
    owed: u32,
}

/// A registration with a bell. Dropping it takes it back.
#[derive(Debug)]
#[must_use = "a listener that is dropped at once hears nothing"]
pub struct Listener<'a> {
    bell: &'a Bell,
    live: bool,
}

impl Bell {
    /// Registers this thread. Look at the condition after this, then call [`Listener::wait`].
    pub fn listen(&self) -> Listener<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Listener {
            bell: self,
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
            self.ring_all();
        } else if self.take() {
            self.grant(1);
        }
    }

    /// Wakes every waiter.
    pub fn ring_all(&self) {
        fence(Ordering::SeqCst);
        let taken = self.waiting.swap(0, Ordering::SeqCst);
        if taken > 0 {
            self.grant(taken);
        }
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

    /// Takes one registration; false if there is none.
    fn take(&self) -> bool {
        let less = |n: u32| n.checked_sub(1);
        self.waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
    }

    fn grant(&self, permits: u32) {
        let mut account = lock(&self.permits);
        let absorbed = permits.min(account.owed);
        account.owed -= absorbed;
        account.free += permits - absorbed;
        drop(account);
        if permits == 1 {
            self.rung.notify_one()
        } else {
            self.rung.notify_all()
        }
    }

    /// Gives up a permit that a ringer has given, or is about to give, to this registration, and passes
    /// the ring on. Never waits. The ring also settles the debt: it takes the registration of whoever
    /// consumed our permit, so a debt never swallows a ring that somebody else needs.
    fn leave_rung(&self) {
        let mut permits = lock(&self.permits);
        match permits.free.checked_sub(1) {
            Some(free) => permits.free = free,
            None => permits.owed += 1,
        }
        drop(permits);
        self.ring();
    }

    /// Waits for a permit; false if `deadline` passed first.
    fn sleep(&self, deadline: Deadline) -> bool {
        let mut permits = lock(&self.permits);
        while permits.free == 0 {
            self.sleeps.fetch_add(1, Ordering::Relaxed);
            permits = match deadline.left() {
                None => self.rung.wait(permits).unwrap_or_else(|p| p.into_inner()),
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    self.rung
                        .wait_timeout(permits, left)
                        .unwrap_or_else(|p| p.into_inner())
                        .0
                }
            };
        }
        permits.free -= 1;
        true
    }
}

impl Listener<'_> {
    /// Sleeps until the bell rings for this registration; false if `deadline` passed first.
    pub fn wait(mut self, deadline: Deadline) -> bool {
        self.live = false;
        if self.bell.sleep(deadline) {
            return true;
        }
        // Too late to be rung? Then a ringer has taken the registration and the permit is ours.
        let rung = !self.bell.take();
        if rung {
            self.bell.leave_rung();
        }
        rung
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if self.live && !self.bell.take() {
            // A ring has chosen us, who no longer need it: pass it on.
            self.bell.leave_rung();
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
}
