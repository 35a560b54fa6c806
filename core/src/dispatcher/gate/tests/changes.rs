//! Rules that are changed or taken away while they hold something back, and rules at their edges.

use super::*;
use crate::Timestamp;
use crate::dispatcher::pace::{Pace, Starts};

#[test]
fn the_newest_go_first_no_longer_than_delay_is_held_to() {
    let mut s = Stand::new(&[]);
    let rules = [("delay_target", "50ms"), ("newest_first", "true")];
    s.d.configure_queue("default", queue(&rules)).unwrap();
    s.push_many("k", 4);
    s.pass(60);
    finish(s.take(1), Outcome::done);
    s.pass(100);
    s.push_many("k", 2);
    s.pass(20);
    finish(s.take(1), Outcome::done);
    assert_eq!(s.total("shed_delayed"), 3, "overloaded");
    s.d.configure_queue("default", queue(&[])).unwrap();
    let calm = s.push_many("k", 3);
    let leases = s.take(9);
    let ids: Vec<_> = leases.iter().skip(1).map(Lease::id).collect();
    assert_eq!(ids, calm, "in order again");
    finish(leases, Outcome::done);
}

#[test]
fn an_interval_without_end_is_an_interval() {
    let mut s = Stand::new(&[]);
    let rules = QueueOptions::new()
        .delay_target(Some(Duration::from_millis(5)))
        .delay_interval(Duration::MAX);
    s.d.configure_queue("default", rules).unwrap();
    s.push("k");
    assert!(s.d.pressure("default").unwrap() >= 0.0);
    finish(s.take(1), Outcome::done);
    assert!(s.d.pressure("default").unwrap() >= 0.0);
}

#[test]
fn an_overload_ends_although_a_job_is_left_that_nobody_takes() {
    let mut s = Stand::new(&[("delay_target", "50ms"), ("newest_first", "true")]);
    let set = KindSet::new();
    set.add(s.d.kind("k").unwrap());
    s.consumer = s.d.consumer(Arc::new(set));
    s.push("nobody's");
    s.push_many("k", 4);
    s.pass(60);
    finish(s.take(1), Outcome::done);
    s.pass(120);
    finish(s.take(9), Outcome::done);
    assert_eq!(
        (s.total("shed_delayed"), s.d.pressure("default").unwrap()),
        (3, 1.0)
    );
    s.pass(1000);
    assert!(
        s.d.pressure("default").unwrap() < 0.1,
        "who is told to wait would wait for ever"
    );
    s.push("k");
    finish(s.take(1), Outcome::done);
    let calm = s.push_many("k", 2);
    let leases = s.take(2);
    let ids: Vec<_> = leases.iter().map(Lease::id).collect();
    assert_eq!(ids, calm, "in order again");
    finish(leases, Outcome::done);
}

#[test]
fn starts_given_back_late_are_not_had_twice() {
    let pace = Pace::new("10/s burst=10".parse().unwrap(), None);
    let at = |s| Timestamp::EPOCH.after(Duration::from_secs(s));
    let take = |now, want| match pace.take(now, want) {
        Starts::Some(got) => got,
        Starts::NotBefore(_) => 0,
    };
    assert_eq!(take(at(0), 10), 10);
    // That claim takes its time. Meanwhile all of them would be there again.
    assert_eq!(take(at(100), 10), 0, "they may yet be used");
    assert!(pace.settle(at(0), 3, 7), "somebody found none");
    assert_eq!(take(at(100), 7), 7);
    assert_eq!(take(at(100), 7), 3);
    assert!(!pace.settle(at(100), 1, 2));
    assert!(!pace.settle(at(100), 7, 0));
    assert_eq!((take(at(100), 9), take(at(100), 9)), (2, 0));
    let _ = pace.settle(at(100), 0, 2);
    let slower = Pace::new("1/s".parse().unwrap(), Some(&pace));
    let next = at(100).after(Duration::from_millis(800));
    assert_eq!(slower.next(at(100)), next, "what was used counts at another rate");
}

#[test]
fn the_first_claim_of_a_key_keeps_to_where_limits_start() {
    let mut s = Stand::new(&[("concurrency", "100")]);
    s.d.declare("k", kind(&[("adaptive", "aimd(min=1, max=4, per=key)")]))
        .unwrap();
    let ids: Vec<_> = (0..20).map(|_| push_key(&s, "x")).collect();
    let running = s.take(50);
    let taken: Vec<_> = running.iter().map(Lease::id).collect();
    assert_eq!(taken, ids[..4], "the first of them");
    finish(running, Outcome::done);
    let running = s.take(50);
    let taken: Vec<_> = running.iter().map(Lease::id).collect();
    assert_eq!(taken, ids[4..8], "in order");
    assert!(running.iter().all(|lease| lease.attempt() == 1));
    finish(running, Outcome::done);
    assert_eq!(s.total("failed"), 0);
    s.check_balance();
}

#[test]
fn a_lower_limit_of_every_key_holds_for_one_with_a_limit_of_its_own() {
    let mut s = Stand::new(&[("concurrency", "100")]);
    s.d.declare("k", kind(&[("adaptive", "aimd(per=key)")])).unwrap();
    (0..20).for_each(|_| _ = push_key(&s, "x"));
    finish(s.take(1), Outcome::done);
    s.d.configure_queue("default", queue(&[("key_concurrency", "2")]))
        .unwrap();
    let running = s.take(50);
    assert_eq!(running.len(), 2);
    s.d.configure_queue("default", queue(&[])).unwrap();
    let more = s.take(50);
    assert_eq!(running.len() + more.len(), 8, "what was found holds again");
    finish(running, Outcome::done);
    finish(more, Outcome::done);
}

#[test]
fn a_breaker_of_a_kind_closes_although_only_jobs_with_keys_are_left() {
    let mut s = Stand::new(&[("concurrency", "100"), ("max_attempts", "1")]);
    s.d.declare("k", kind(&[("breaker", "failures(1, open=10s, probes=1)")]))
        .unwrap();
    s.push("k");
    finish(s.take(1), || Outcome::failed("down"));
    (0..5).for_each(|n| _ = push_key(&s, &n.to_string()));
    s.pass(10_000);
    let probe = s.take(9);
    assert_eq!(probe.len(), 1);
    finish(probe, Outcome::done);
    let rest = s.take(9);
    assert_eq!(rest.len(), 4);
    finish(rest, Outcome::done);
}
