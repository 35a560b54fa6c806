//! How callers wait for their group: everybody who waits for one is woken by one call to the system, and
//! nobody else is.
//!
//! There are two words, for groups with even and with odd numbers, because while one group is written callers
//! wait for the next. A word holds the last group of its kind that is done; a caller sleeps on it until that is
//! its own or a later one. (A condition variable would wake them through one lock, one after the other.)

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crossbeam_utils::CachePadded;

/// The store broke: no group is done any more.
const BROKEN: u32 = 1 << 31;

/// Where callers wait for groups.
#[derive(Debug, Default)]
pub(super) struct Gates([CachePadded<AtomicU32>; 2]);

impl Gates {
    /// Waits until this group is done; false if the store broke first.
    pub(super) fn wait(&self, group: u64) -> bool {
        let word = self.word(group);
        loop {
            let seen = word.load(SeqCst);
            if seen == BROKEN {
                return false;
            }
            if reached(seen, number(group)) {
                return true;
            }
            sleep_on(word, seen);
        }
    }

    /// This group is done.
    pub(super) fn open(&self, group: u64) {
        let word = self.word(group);
        if word.load(SeqCst) != BROKEN {
            word.store(number(group), SeqCst);
            wake_all(word);
        }
    }

    /// No group will be done any more.
    pub(super) fn break_down(&self) {
        for word in &self.0 {
            word.store(BROKEN, SeqCst);
            wake_all(word);
        }
    }

    fn word(&self, group: u64) -> &AtomicU32 {
        &self.0[(group % 2) as usize]
    }
}

/// A group's number without the bit that says broken. It comes round after two thousand million groups.
fn number(group: u64) -> u32 {
    (group % u64::from(BROKEN)) as u32
}

/// Whether `seen` is this group or one after it, on a circle.
fn reached(seen: u32, group: u32) -> bool {
    seen.wrapping_sub(group) % BROKEN < BROKEN / 2
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn sleep_on(word: &AtomicU32, seen: u32) {
    futex(word, libc::FUTEX_WAIT, seen);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn wake_all(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE, i32::MAX as u32);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let no_timeout = std::ptr::null::<libc::timespec>();
    // SAFETY: the word is alive as long as it is borrowed. Whatever the call answers (woken, interrupted,
    // another value), callers look at the word again.
    unsafe {
        let private = operation | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, word.as_ptr(), private, value, no_timeout);
    }
}

/// Without futexes: one condition for all.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
static ROOM: (parking_lot::Mutex<()>, parking_lot::Condvar) =
    (parking_lot::Mutex::new(()), parking_lot::Condvar::new());

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn sleep_on(word: &AtomicU32, seen: u32) {
    let mut lock = ROOM.0.lock();
    if word.load(SeqCst) == seen {
        ROOM.1.wait(&mut lock);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn wake_all(_: &AtomicU32) {
    drop(ROOM.0.lock());
    ROOM.1.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_early_and_all_pass_in_the_end() {
        let gates = Gates::default();
        std::thread::scope(|scope| {
            for group in (1..=50u64).flat_map(|g| [g; 4]) {
                let gates = &gates;
                scope.spawn(move || {
                    assert!(gates.wait(group));
                    assert!(reached(gates.word(group).load(SeqCst), number(group)));
                });
            }
            (1..=50).for_each(|group| gates.open(group));
        });
        assert!(gates.wait(50) && gates.wait(1));
    }

    #[test]
    fn a_broken_store_lets_everybody_go() {
        let gates = Gates::default();
        std::thread::scope(|scope| {
            let gates = &gates;
            let waiters = [7, 8].map(|group| scope.spawn(move || gates.wait(group)));
            gates.break_down();
            assert!(waiters.into_iter().all(|w| !w.join().unwrap()));
        });
        gates.open(7);
        assert!(!gates.wait(7), "broken is for good");
    }

    #[test]
    fn numbers_come_round() {
        let last = u64::from(BROKEN) - 1;
        assert!(reached(number(last + 3), number(last)));
        assert!(!reached(number(last), number(last + 3)));
    }
}
