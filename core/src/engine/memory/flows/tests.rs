//! The turns of one queue against a model without speed, and what the files of this folder cannot test alone.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::lane::Lanes;
use super::book::Print;
use super::turns::{Taken, Turn, Turns};
use super::*;
use crate::engine::KindClaim;
use crate::job::Priority;
use crate::names::KindId;

mod model;

pub(super) const KINDS: usize = 3;

/// The turns of one queue, with the rest of what a call has.
pub(super) struct Table {
    pub(super) turns: Turns,
    pub(super) lanes: Lanes,
    pub(super) now: Timestamp,
    secret: RandomState,
    next: u64,
}

pub(super) fn key(n: usize) -> String {
    format!("key-{n}")
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            turns: Turns::default(),
            lanes: Lanes::new(QueueId(0)),
            now: Timestamp::from_micros(1_000_000),
            secret: RandomState::new(),
            next: 0,
        }
    }

    fn print(&self, name: &str) -> Print {
        Print::of(name, &self.secret)
    }

    /// Queues a job; returns its number, which grows, and the number of its entry.
    pub(super) fn push(&mut self, name: &str, kind: usize, priority: Priority) -> (u32, u32) {
        self.next += 1;
        let number = self.next as u32;
        (number, self.put(name, (kind, priority), number, false))
    }

    pub(super) fn put(
        &mut self,
        name: &str,
        (kind, priority): (usize, Priority),
        number: u32,
        back: bool,
    ) -> u32 {
        let ticket = Ticket::new(u64::from(number), number);
        let (print, what) = (self.print(name), (KindId(kind as u16), priority));
        self.turns
            .push(&self.lanes, (name, print), what, (ticket, back), self.now)
    }

    pub(super) fn remove(&mut self, (number, entry): (u32, u32)) {
        let ticket = Ticket::new(u64::from(number), number);
        self.turns.remove(&self.lanes, (entry, ticket), self.now);
    }

    pub(super) fn turn(&mut self, priority: Priority, asked: &[usize]) -> Turn {
        let mut kinds = [KindClaim::default(); KINDS];
        asked.iter().for_each(|kind| kinds[*kind].allowance = 1);
        self.turns.take(&self.lanes, priority, &kinds, self.now)
    }

    /// The next job of a flow, whatever the line's turn is.
    pub(super) fn take(&mut self, priority: Priority, asked: &[usize]) -> Option<Taken> {
        let mut turn = self.turn(priority, asked);
        if turn == Turn::Line {
            turn = self.turn(priority, asked);
        }
        match turn {
            Turn::Flow(taken) => Some(taken),
            Turn::Nobody => None,
            Turn::Line => panic!("the line has two turns in a row"),
        }
    }

    fn take_any(&mut self) -> Option<u32> {
        self.take(0, &[0, 1, 2]).map(|taken| taken.ticket.slot())
    }

    pub(super) fn end(&mut self, taken: Taken) {
        self.turns.end(&self.lanes, taken.key, self.now);
    }

    pub(super) fn limits(&mut self, running: u32, rate: Option<&str>) {
        let rate = rate.map(|text| text.parse().unwrap());
        self.turns
            .limit_all(&self.lanes, KeyLimits { running, rate }, self.now);
    }

    pub(super) fn limit(&mut self, name: &str, limit: Option<u32>) {
        let print = self.print(name);
        self.turns.limit(&self.lanes, (name, print), limit, self.now);
    }

    pub(super) fn standing(&self, name: &str) -> Option<KeyStanding> {
        self.turns.standing((name, self.print(name)), self.now)
    }

    fn advance(&mut self, us: i64) {
        self.now = Timestamp::from_micros(self.now.as_micros() + us);
        self.turns.wake(&self.lanes, self.now);
    }

    /// How many strands have a turn, by the lanes and by the rings.
    fn flowing(&self) -> bool {
        (-1..=1).any(|p| self.lanes.lane(p).flows())
    }
}

#[test]
fn flows_take_turns_and_keep_their_order() {
    let mut table = Table::new();
    for name in ["a", "a", "a", "b", "c", "b"] {
        table.push(name, 0, 0);
    }
    let order: Vec<_> = std::iter::from_fn(|| table.take_any()).collect();
    assert_eq!(order, [1, 4, 5, 2, 6, 3]);
    assert!(!table.flowing());
}

#[test]
fn jobs_without_a_key_are_one_more_flow() {
    let mut table = Table::new();
    (0..6).for_each(|n| _ = table.push(&key(n % 3), 0, 0));
    let turns: Vec<_> = (0..8).map(|_| table.turn(0, &[0]) == Turn::Line).collect();
    assert_eq!(turns, [true, false, false, false, true, false, false, false]);
}

#[test]
fn of_several_kinds_a_flow_has_one_turn_and_one_order() {
    let mut table = Table::new();
    for (name, kind) in [("a", 0), ("a", 1), ("a", 0), ("b", 1), ("b", 0)] {
        table.push(name, kind, 0);
    }
    let order: Vec<_> = std::iter::from_fn(|| table.take_any()).collect();
    assert_eq!(order, [1, 4, 2, 5, 3]);
    for kind in [0, 1] {
        table.push("a", kind, 0);
    }
    assert_eq!(
        table.take(0, &[1]).map(|t| t.ticket.slot()),
        Some(7),
        "a claim that has no use for its first one is given the next"
    );
}

#[test]
fn a_key_at_its_limit_is_passed_over() {
    let mut table = Table::new();
    table.limits(1, None);
    (0..4).for_each(|n| _ = table.push(&key(n / 2), 0, 0));
    let (one, two) = (table.take(0, &[0]).unwrap(), table.take(0, &[0]).unwrap());
    assert_eq!((one.ticket.slot(), two.ticket.slot()), (1, 3));
    assert!(table.take_any().is_none() && !table.flowing() && table.turns.parked == 2);
    table.turns.news = 0;
    table.end(two);
    assert_eq!((table.turns.news, table.turns.parked), (1, 1));
    assert_eq!(table.take_any(), Some(4));
    table.limits(2, None);
    assert_eq!((table.turns.news, table.take_any()), (2, Some(2)));
}

#[test]
fn a_key_can_have_a_limit_of_its_own() {
    let mut table = Table::new();
    table.limit("a", Some(0));
    (0..3).for_each(|_| _ = table.push("a", 0, 0));
    assert_eq!(table.take_any(), None);
    table.limit("a", Some(2));
    assert_eq!(
        (table.take_any(), table.take_any(), table.take_any()),
        (Some(1), Some(2), None)
    );
    let standing = table.standing("a").unwrap();
    assert_eq!(
        (standing.queued, standing.running, standing.limit),
        (1, 2, Some(2))
    );
    table.limit("a", None);
    assert_eq!(
        (table.take_any(), table.standing("a").unwrap().limit),
        (Some(3), None)
    );
    table.limit("b", None);
    assert_eq!(table.standing("b"), None);
}

#[test]
fn a_key_at_its_rate_waits_for_its_time() {
    let mut table = Table::new();
    table.limits(0, Some("10/s burst=2"));
    (0..4).for_each(|_| _ = table.push("a", 0, 0));
    assert_eq!(
        (table.take_any(), table.take_any(), table.take_any()),
        (Some(1), Some(2), None)
    );
    let at = table.standing("a").unwrap().ready_at.unwrap();
    assert_eq!(at.since(table.now).as_millis(), 100);
    assert_eq!(table.turns.next_wake(), at);
    table.advance(99_999);
    assert_eq!(table.take_any(), None);
    table.advance(1);
    assert_eq!((table.take_any(), table.take_any()), (Some(3), None));
    table.limits(0, None);
    assert_eq!(
        (table.take_any(), table.turns.next_wake()),
        (Some(4), Timestamp::MAX)
    );
}

#[test]
fn a_clock_that_is_behind_starts_nothing_too_soon() {
    let mut table = Table::new();
    table.limits(0, Some("10/s burst=1"));
    (0..3).for_each(|_| _ = table.push("a", 0, 0));
    assert_eq!(table.take_any(), Some(1));
    table.advance(100_000);
    table.now = Timestamp::from_micros(table.now.as_micros() - 50_000);
    assert_eq!(table.take_any(), None);
    table.advance(50_000);
    assert_eq!(table.take_any(), Some(2));
}

#[test]
fn what_is_given_back_costs_no_rate() {
    let mut table = Table::new();
    table.limits(1, Some("10/s burst=1"));
    table.push("a", 0, 0);
    table.push("a", 0, 0);
    let taken = table.take(0, &[0]).unwrap();
    table.turns.give_back(&table.lanes, taken.key, table.now);
    assert_eq!(table.take_any(), Some(2));
}

#[test]
fn a_job_that_comes_back_stands_where_it_stood() {
    let mut table = Table::new();
    (0..5).for_each(|_| _ = table.push("a", 0, 0));
    let taken: Vec<_> = (0..3).map(|_| table.take(0, &[0]).unwrap()).collect();
    for n in [2, 0, 1] {
        table.end(taken[n]);
        table.put("a", (0, 0), taken[n].ticket.slot(), true);
    }
    let order: Vec<_> = std::iter::from_fn(|| table.take_any()).collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);
}

#[test]
fn a_job_that_a_claimer_has_is_not_taken_out_twice() {
    let mut table = Table::new();
    let first = table.push("a", 0, 0);
    table.push("a", 0, 0);
    let taken = table.take(0, &[0]).unwrap();
    table.remove(first);
    let third = table.push("b", 0, 0);
    assert_eq!(third.1, first.1, "its number is another's");
    table.remove(first);
    table.end(taken);
    assert_eq!(table.turns.sizes(), [2, 2, 2]);
    assert_eq!((table.take_any(), table.take_any()), (Some(2), Some(3)));
}

#[test]
fn nothing_is_left_of_a_key_without_jobs() {
    let mut table = Table::new();
    let mut entries = Vec::new();
    for n in 0..2000 {
        entries.push(table.push(&key(n), n % 3, (n % 2) as Priority));
    }
    entries.into_iter().for_each(|entry| table.remove(entry));
    assert_eq!(table.turns.sizes(), [0, 0, 0]);
    assert!(!table.flowing() && table.turns.parked == 0);
}

#[test]
fn a_key_is_kept_as_long_as_its_rate_is_partly_used_up() {
    let mut table = Table::new();
    table.limits(0, Some("10/s burst=1"));
    for n in 0..100 {
        table.push(&key(n), 0, 0);
        let taken = table.take(0, &[0]).unwrap();
        table.end(taken);
    }
    assert_eq!(table.turns.sizes()[0], 100);
    table.push(&key(7), 0, 0);
    assert_eq!(table.take_any(), None, "it is remembered how fast it was");
    let next = table.turns.next_wake();
    assert!(next < Timestamp::MAX);
    table.advance(100_000);
    assert!(table.take_any().is_some());
    table.advance(2_000_000);
    assert_eq!(table.turns.sizes()[0], 1, "the one that runs");
}

#[test]
fn the_longest_flow_loses_its_first() {
    let mut table = Table::new();
    for n in 0..500 {
        table.push(&key(n), 0, 0);
    }
    (0..10).for_each(|_| _ = table.push("fat", 0, 1));
    let low = table.push("fat", 0, -1).0;
    let lowest = table.turns.first_of_lowest();
    assert_eq!(lowest.map(|(p, ticket)| (p, ticket.slot())), Some((-1, low)));
    let slot = |ticket: Option<Ticket>| ticket.map(Ticket::slot);
    assert_eq!(slot(table.turns.first_of_longest(11)), None);
    assert_eq!(
        slot(table.turns.first_of_longest(10)),
        Some(low),
        "of its lowest priority"
    );
    let print = table.print("fat");
    assert_eq!(slot(table.turns.first_of(("fat", print))), Some(low));
    // It is emptied; the search finds the longer one that was never the longest while it grew.
    table.push(&key(3), 0, 0);
    while let Some(taken) = table.take(1, &[0]) {
        table.end(taken);
    }
    let found = (0..40).any(|_| slot(table.turns.first_of_longest(1)) == Some(4));
    assert!(found);
    assert_eq!(
        slot(table.turns.first_of(("nobody", table.print("nobody")))),
        None
    );
}
