//! A line of tickets: many put them in at one end, many take them out at the other.
//!
//! Each end has a lock of its own, and tickets change ends by the chunk: while there is a backlog, pushers and
//! claimers never meet. Whoever takes a ticket also sees some that come after it, and can have their records
//! fetched while the present job runs; a queue that gives out one value at a time hides them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::latch::Mutex;
use super::place::Ticket;

/// Tickets per chunk.
const CHUNK: usize = 512;

/// A line of tickets, first in, first out.
#[derive(Debug, Default)]
pub(super) struct Line {
    front: CachePadded<Mutex<Front>>,
    tail: CachePadded<Tail>,
}

/// What pushers write: together, because one needs all of it.
#[derive(Debug, Default)]
struct Tail {
    /// The next place in the line.
    next: AtomicU64,
    back: Mutex<Back>,
}

/// The end where tickets are taken out.
#[derive(Debug, Default)]
struct Front {
    chunk: Vec<Ticket>,
    /// How many of the chunk are gone.
    taken: usize,
}

/// The end where tickets are put in.
#[derive(Debug, Default)]
struct Back {
    /// Full chunks, oldest first.
    full: VecDeque<Vec<Ticket>>,
    last: Vec<Ticket>,
    /// An empty chunk, to be used again.
    spare: Vec<Ticket>,
}

/// A ticket that was first in the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    pub(super) ticket: Ticket,
    /// One that is to be taken soon.
    pub(super) soon: Option<Ticket>,
    /// One that is to be taken a little later.
    pub(super) later: Option<Ticket>,
}

/// How many places behind the first the two stand: two, so that of two claimers who take turns each sees its
/// own next one.
const SOON: usize = 2;
const LATER: usize = 4;

impl Line {
    /// The next place in the line.
    pub(super) fn next_order(&self) -> u64 {
        self.tail.next.fetch_add(1, Relaxed)
    }

    /// Puts a ticket in at the end.
    pub(super) fn push(&self, ticket: Ticket) {
        let mut back = self.tail.back.lock();
        if back.last.len() == CHUNK {
            let empty = std::mem::take(&mut back.spare);
            let full = std::mem::replace(&mut back.last, empty);
            back.full.push_back(full);
        }
        if back.last.capacity() == 0 {
            back.last.reserve_exact(CHUNK);
        }
        back.last.push(ticket);
    }

    /// Takes the first ticket out.
    pub(super) fn pop(&self) -> Option<First> {
        let mut front = self.front.lock();
        if front.taken == front.chunk.len() && !self.refill(&mut front) {
            return None;
        }
        let at = |ahead| front.chunk.get(front.taken + ahead).copied();
        let first = First {
            ticket: at(0)?,
            soon: at(SOON),
            later: at(LATER),
        };
        front.taken += 1;
        Some(first)
    }

    /// The first ticket, which stays where it is.
    pub(super) fn peek(&self) -> Option<Ticket> {
        let mut front = self.front.lock();
        if front.taken == front.chunk.len() && !self.refill(&mut front) {
            return None;
        }
        front.chunk.get(front.taken).copied()
    }

    /// Takes the first ticket out if it is this one.
    pub(super) fn take_if(&self, ticket: Ticket) -> bool {
        let mut front = self.front.lock();
        // Whoever has seen it has brought its chunk to the front.
        let first = front.chunk.get(front.taken) == Some(&ticket);
        front.taken += usize::from(first);
        first
    }

    /// Brings the next chunk to the front; false if there is none.
    fn refill(&self, front: &mut Front) -> bool {
        front.chunk.clear();
        front.taken = 0;
        let mut back = self.tail.back.lock();
        match back.full.pop_front() {
            Some(full) => back.spare = std::mem::replace(&mut front.chunk, full),
            None => std::mem::swap(&mut front.chunk, &mut back.last),
        }
        !front.chunk.is_empty()
    }

    /// How many tickets are in the line.
    pub(super) fn len(&self) -> usize {
        let front = self.front.lock();
        let back = self.tail.back.lock();
        front.chunk.len() - front.taken + back.full.len() * CHUNK + back.last.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket(n: u64) -> Ticket {
        Ticket::new(n, n as u32)
    }

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((any::<bool>(), 1..700usize), 1..30)) {
            let (line, mut model, mut next) = (Line::default(), VecDeque::new(), 0);
            for (push, count) in steps {
                for _ in 0..count {
                    if push {
                        line.push(ticket(next));
                        model.push_back(ticket(next));
                        next += 1;
                    } else {
                        prop_assert_eq!(line.peek(), model.front().copied());
                        prop_assert!(!line.take_if(ticket(u64::MAX)), "that one is not there");
                        if let Some(first) = model.front().filter(|first| first.order() % 3 == 0) {
                            prop_assert!(line.take_if(*first));
                            model.pop_front();
                        }
                        let first = line.pop();
                        prop_assert_eq!(first.map(|f| f.ticket), model.pop_front());
                        let soon = first.and_then(|f| f.soon);
                        prop_assert!(soon.is_none() || soon == model.get(SOON - 1).copied());
                    }
                    prop_assert_eq!(line.len(), model.len());
                }
            }
        }
    }

    #[test]
    fn every_ticket_comes_out_once_and_each_pusher_keeps_its_order() {
        const EACH: u64 = 50_000;
        let line = Line::default();
        let out: Vec<Vec<Ticket>> = std::thread::scope(|scope| {
            for pusher in 0..2u64 {
                let line = &line;
                scope.spawn(move || (0..EACH).for_each(|n| line.push(Ticket::new(n, pusher as u32))));
            }
            let take = || {
                let mut taken = Vec::new();
                while taken.len() < EACH as usize {
                    taken.extend(line.pop().map(|first| first.ticket));
                }
                taken
            };
            let claimers: Vec<_> = (0..2).map(|_| scope.spawn(take)).collect();
            claimers.into_iter().map(|c| c.join().unwrap()).collect()
        });
        assert!(line.pop().is_none() && line.len() == 0);
        for taken in &out {
            for pusher in 0..2 {
                let of_one: Vec<_> = taken.iter().filter(|t| t.slot() == pusher).collect();
                assert!(of_one.is_sorted_by_key(|t| t.order()));
            }
        }
        let mut all: Vec<_> = out.concat().iter().map(|t| (t.slot(), t.order())).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len() as u64, 2 * EACH);
    }
}
