//! Magazines: free blocks in handfuls, and the stacks on which handfuls change hands.
//!
//! A magazine is an array of pointers, not a chain through the blocks: to take the next block nobody has to
//! wait for the last one to come over from the other processor's cache.
//!
//! A stack is Treiber's, its head a number instead of a pointer, so that a count of changes fits beside it
//! and a head that went and came back is not mistaken for one that stayed. No step waits for another
//! thread, so the child of a fork finds every stack whole. What it may lose is one magazine that a thread of
//! the parent was holding.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32};

use crate::prefetch::prefetch;
use crate::sync::atomic::{AtomicU64, Ordering};

/// How many blocks a magazine holds: it fills 512 bytes.
pub(super) const ROUNDS: usize = 62;
/// How many blocks before its turn one is fetched: whoever laid it in did so on another core.
const AHEAD: usize = 2;

/// Some free blocks of one class, or a place for them. Its memory is never given back.
struct Magazine {
    /// The number of the magazine below it on the stack. Whoever lost a race for this one may still read it.
    next: AtomicU32,
    rounds: UnsafeCell<Rounds>,
}

// SAFETY: `rounds` is only reached through the one `Held` of the magazine.
unsafe impl Sync for Magazine {}

/// What only the holder sees. All zeros is a valid, empty one.
struct Rounds {
    /// The number of the magazine, from 1.
    id: u32,
    len: u32,
    blocks: [Option<NonNull<u8>>; ROUNDS],
}

/// A magazine in one's own hands.
pub(super) struct Held<'d>(&'d Magazine);

// SAFETY: the blocks are memory that nobody else points to; they may be handed over with the magazine.
unsafe impl Send for Held<'_> {}

impl Held<'_> {
    fn rounds(&mut self) -> &mut Rounds {
        // SAFETY: there is one `Held` per magazine, and it is borrowed mutably.
        unsafe { &mut *self.0.rounds.get() }
    }

    fn id(&self) -> u32 {
        // SAFETY: there is one `Held` per magazine, and no borrow of its rounds outlives a method.
        unsafe { (*self.0.rounds.get()).id }
    }

    pub(super) fn len(&self) -> usize {
        // SAFETY: as in `id`.
        unsafe { (*self.0.rounds.get()).len as usize }
    }

    /// The block laid in last.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<NonNull<u8>> {
        let rounds = self.rounds();
        let last = (rounds.len as usize).checked_sub(1)?;
        rounds.len = last as u32;
        if let Some(Some(soon)) = last.checked_sub(AHEAD).and_then(|at| rounds.blocks.get(at)) {
            prefetch(soon.as_ptr().cast::<[u8; 2 * 64]>());
        }
        rounds.blocks.get(last).copied().flatten()
    }

    /// Lays a block in, unless the magazine is full.
    #[inline]
    #[must_use]
    pub(super) fn push(&mut self, block: NonNull<u8>) -> bool {
        let rounds = self.rounds();
        let Some(place) = rounds.blocks.get_mut(rounds.len as usize) else {
            return false;
        };
        *place = Some(block);
        rounds.len += 1;
        true
    }
}

/// Magazines that nobody holds.
pub(super) struct Stack {
    /// The number of the top magazine, or 0, and above it the count of changes.
    head: AtomicU64,
}

impl Stack {
    pub(super) const fn new() -> Self {
        Self {
            head: AtomicU64::new(0),
        }
    }

    pub(super) fn push(&self, held: Held<'_>) {
        let id = held.id();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            held.0.next.store(head as u32, Ordering::Relaxed);
            // Release: whoever takes the magazine finds what was laid in.
            let pushed =
                self.head
                    .compare_exchange_weak(head, above(head, id), Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(super) fn pop<'d>(&self, magazines: &'d Magazines) -> Option<Held<'d>> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let top = magazines.get(head as u32)?;
            let next = top.next.load(Ordering::Relaxed);
            let popped = self.head.compare_exchange_weak(
                head,
                above(head, next),
                Ordering::Acquire,
                Ordering::Acquire,
            );
            match popped {
                Ok(_) => return Some(Held(top)),
                Err(now) => head = now,
            }
        }
    }
}

/// The head that follows `head` when the magazine `id` comes to the top.
fn above(head: u64, id: u32) -> u64 {
    (head & !u64::from(u32::MAX)).wrapping_add(1 << 32) | u64::from(id)
}

/// Every magazine there is, by number. They stand in segments of which each is twice the one before.
pub(super) struct Magazines {
    segments: [AtomicPtr<Magazine>; SEGMENTS],
    made: AtomicU32,
}

const SEGMENTS: usize = 26;
const FIRST_SEGMENT: u32 = 16;
const MOST: u32 = (FIRST_SEGMENT << SEGMENTS) - FIRST_SEGMENT;

impl Magazines {
    pub(super) const fn new() -> Self {
        Self {
            segments: [const { AtomicPtr::new(ptr::null_mut()) }; SEGMENTS],
            made: AtomicU32::new(0),
        }
    }

    /// An empty magazine, unless there is no memory for it.
    pub(super) fn make(&self) -> Option<Held<'_>> {
        if self.made.load(Ordering::Relaxed) >= MOST {
            return None;
        }
        let id = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        self.grow(place(id).0)?;
        let mut held = Held(self.get(id)?);
        held.rounds().id = id;
        Some(held)
    }

    /// The magazine with this number; none has 0.
    fn get(&self, id: u32) -> Option<&Magazine> {
        if id == 0 {
            return None;
        }
        let (segment, index) = place(id);
        let first = self.segments.get(segment)?.load(Ordering::Acquire);
        // SAFETY: the segment is there: its pointer is set before a number in it is given out, and the
        // number came here by way of the stack's head. `index` lies inside it, and it is never given back.
        Some(unsafe { &*first.add(index) })
    }

    /// Makes a segment, unless it is there.
    fn grow(&self, segment: usize) -> Option<()> {
        let place = self.segments.get(segment)?;
        if !place.load(Ordering::Acquire).is_null() {
            return Some(());
        }
        let layout = segment_layout(segment)?;
        // SAFETY: the layout is not empty.
        let fresh = unsafe { alloc_zeroed(layout) }.cast::<Magazine>();
        if fresh.is_null() {
            return None;
        }
        let set = place.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire);
        if set.is_err() {
            // SAFETY: just made with this layout, and another thread's stands there instead.
            unsafe { dealloc(fresh.cast(), layout) };
        }
        Some(())
    }
}

#[cfg(test)]
impl Magazines {
    pub(super) fn made(&self) -> u32 {
        self.made.load(Ordering::Relaxed)
    }
}

/// In which segment a magazine stands, and where in it.
fn place(id: u32) -> (usize, usize) {
    let number = id - 1 + FIRST_SEGMENT;
    let segment = number.ilog2() - FIRST_SEGMENT.ilog2();
    (segment as usize, (number - (FIRST_SEGMENT << segment)) as usize)
}

fn segment_layout(segment: usize) -> Option<Layout> {
    Layout::array::<Magazine>((FIRST_SEGMENT as usize) << segment).ok()
}

impl Drop for Magazines {
    fn drop(&mut self) {
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let first = *segment.get_mut();
            let layout = segment_layout(number).filter(|_| !first.is_null());
            // SAFETY: a segment that is there was made with this layout, and nobody holds a magazine any
            // more: that would borrow `self`.
            layout
                .into_iter()
                .for_each(|layout| unsafe { dealloc(first.cast(), layout) });
        }
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    use super::*;
    use shuttle::sync::atomic::AtomicUsize;

    /// Three threads move magazines between two stacks, each holding two at a time so that one comes back
    /// while the one below it is away: no magazine is with two of them, and in the end all are there.
    #[test]
    fn a_magazine_is_with_one_thread_at_a_time() {
        const ALL: usize = 4;
        let model = || {
            let magazines = Magazines::new();
            let stacks = [Stack::new(), Stack::new()];
            let holders: [_; ALL] = std::array::from_fn(|_| AtomicUsize::new(0));
            (0..ALL).for_each(|_| stacks[0].push(magazines.make().unwrap()));
            let holder = |held: &Held<'_>| &holders[held.id() as usize - 1];
            let pop = |stack: &Stack| {
                let held = stack.pop(&magazines)?;
                assert_eq!(holder(&held).fetch_add(1, Ordering::SeqCst), 0, "two hold one");
                Some(held)
            };
            let push = |stack: &Stack, held: Held<'_>| {
                holder(&held).fetch_sub(1, Ordering::SeqCst);
                stack.push(held);
            };
            shuttle::thread::scope(|scope| {
                for me in 0..3 {
                    let (pop, push, stacks) = (&pop, &push, &stacks);
                    scope.spawn(move || {
                        for round in 0..2 {
                            let from = &stacks[(me + round) % 2];
                            let (one, two) = (pop(from), pop(from));
                            one.into_iter().for_each(|held| push(from, held));
                            two.into_iter().for_each(|held| push(&stacks[round], held));
                        }
                    });
                }
            });
            let there = stacks.iter().flat_map(|stack| std::iter::from_fn(|| pop(stack)));
            assert_eq!(there.count(), ALL);
        };
        shuttle::check_random(model, 10_000);
        shuttle::check_pct(model, 10_000, 3);
    }
}
