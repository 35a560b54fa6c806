//! What a record keeps, and where.

use super::super::nodes::Nodes;
use super::*;
use crate::engine::Cause;

#[test]
fn it_is_compact() {
    let slot = size_of::<crate::engine::memory::latch::Mutex<Record>>();
    assert!(slot <= 104, "{slot} bytes with its lock");
}

#[test]
fn timeouts_round_up() {
    for (ns, us) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
        assert_eq!(micros(Duration::from_nanos(ns)), us);
    }
    assert_eq!(micros(Duration::MAX), i64::MAX);
}

#[test]
fn a_timeout_of_its_own_is_kept_through_every_state() {
    let at = Timestamp::from_micros;
    let own = Some(Duration::from_micros(30));
    let insert = Insert {
        timeout: own,
        ..crate::engine::memory::tests::plain(JobId::from_u128(1))
    };
    let mut record = Record::default();
    record.fill(&insert, at(5));
    for lease in [
        None,
        Some(Duration::from_micros(20)),
        Some(Duration::from_micros(40)),
    ] {
        let start = Start {
            max_attempts: 3,
            timeout: Some(Duration::from_secs(9)),
            lease,
            node: 0,
            worker: 0,
            relays: false,
        };
        assert_eq!(record.timeout(), own);
        record.start(&start, at(100));
        record.enter(State::Running);
        let due = lease.map_or(30, |l| 30.min(l.as_micros() as i64));
        assert_eq!((record.timeout(), record.overdue_at()), (own, at(100 + due)));
        record.end_attempt(&mut says(&record, State::Queued), at(110), &Nodes::default());
        record.enter(State::Queued);
        record.line_up(7, Listed::Lane);
    }
    assert_eq!(record.timeout(), own);
    record.end(&mut says(&record, State::Failed), at(200));
    record.enter(State::Failed);
    assert_eq!(record.timeout(), own);
}

fn says(record: &Record, to: State) -> Transition {
    crate::engine::memory::tests::says(record.job_ref(0), true, to)
}

#[test]
fn a_timeout_and_a_lease_end_apart() {
    let (mut record, at) = (Record::default(), Timestamp::from_micros);
    record.state = State::Running;
    record.set_ends(Some(at(50)), None);
    assert_eq!(
        (record.overdue_at(), record.cause(), record.lease_until()),
        (at(50), Cause::Timeout, None)
    );
    record.extend(at(30));
    assert_eq!((record.overdue_at(), record.cause()), (at(30), Cause::Lease));
    record.extend(at(90));
    assert_eq!(
        (record.overdue_at(), record.cause(), record.lease_until()),
        (at(50), Cause::Timeout, Some(at(90)))
    );
    record.rare = None;
    record.set_ends(None, None);
    record.extend(at(20));
    assert_eq!(
        (record.overdue_at(), record.cause(), record.lease_until()),
        (at(20), Cause::Lease, Some(at(20)))
    );
}
