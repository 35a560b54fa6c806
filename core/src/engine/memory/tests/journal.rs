//! What a store underneath is told, and when.

use super::super::journal::{Change, Flight, Takeoff};
use super::*;

/// Nobody is interested in what runs.
#[derive(Debug)]
struct Blind;

impl Flight for Blind {
    fn enter(&self, _: i64, _: Takeoff) {}
    fn leave(&self, _: i64) {}
}

fn rig() -> Rig {
    Rig::with(MemoryEngine::journaled(1000, 0, Box::new(Blind)))
}

/// The jobs of the next group, as they are to be written.
fn group(rig: &Rig, patient: bool) -> Vec<(u128, State)> {
    let group = rig.engine.collect(patient, rig.now());
    let puts = group.changes.iter().map(|change| match change {
        Change::Put(put) => (put.job.id.as_u128(), put.job.state),
        Change::Remove { .. } => panic!("nothing was forgotten"),
    });
    puts.collect()
}

fn push_at(rig: &Rig, n: u128, durability: Durability) {
    let job = Insert {
        durability,
        ..plain(id(n))
    };
    let mut receipt = Vec::new();
    rig.engine.insert_noted(&[job], rig.now(), &mut receipt, false);
    assert_eq!(receipt, [Inserted::New]);
}

#[test]
fn a_job_that_came_and_went_is_never_written() {
    let rig = rig();
    rig.push_ids([1]);
    rig.finish(&rig.claim_one());
    assert_eq!(group(&rig, false), []);
    assert_eq!(rig.state(1), Some(State::Succeeded));
}

#[test]
fn a_job_that_failed_is_written_for_whoever_asks_later() {
    let rig = rig();
    rig.push_ids([1]);
    let job = rig.claim_one().job;
    assert_eq!(rig.apply(says(job, true, State::Failed)), Applied::Yes);
    assert_eq!(group(&rig, false), [(1, State::Failed)]);
}

#[test]
fn the_end_of_a_job_that_was_written_is_written() {
    let rig = rig();
    rig.push_ids([1]);
    assert_eq!(group(&rig, false), [(1, State::Queued)]);
    rig.finish(&rig.claim_one());
    assert_eq!(group(&rig, false), [(1, State::Succeeded)]);
    assert_eq!(group(&rig, false), []);
}

#[test]
fn a_patient_group_leaves_what_is_young_to_the_next() {
    let rig = rig();
    rig.push_ids([1]);
    assert_eq!(group(&rig, true), []);
    assert_eq!(rig.engine.has_news(), (true, false));
    rig.push_ids([2]);
    assert_eq!(group(&rig, true), [(1, State::Queued)]);
    assert_eq!(group(&rig, true), [(2, State::Queued)]);
    assert_eq!(rig.engine.has_news(), (false, false));
}

#[test]
fn somebody_who_waits_makes_a_group_whole() {
    let rig = rig();
    rig.push_ids([1]);
    assert_eq!(group(&rig, true), []);
    rig.push_ids([2]);
    push_at(&rig, 3, Durability::Os);
    let queued = State::Queued;
    assert_eq!(group(&rig, true), [(1, queued), (2, queued), (3, queued)]);
    rig.push_ids([4]);
    rig.engine.demand(Durability::Disk);
    assert_eq!(group(&rig, true), [(4, queued)]);
}

#[test]
fn a_batch_is_in_one_group_whatever_its_age() {
    let rig = rig();
    rig.push_ids([1]);
    assert_eq!(group(&rig, true), []);
    let mut done = [says(rig.claim_one().job, true, State::Failed)];
    let mut batch = Batch {
        inserts: &[plain(id(2))],
        transitions: &mut done,
        ..Batch::default()
    };
    let mut receipt = BatchReceipt::default();
    rig.engine.commit_noted(&mut batch, rig.now(), &mut receipt);
    assert!(receipt.applied);
    assert_eq!(group(&rig, true), [(1, State::Failed), (2, State::Queued)]);
}

#[test]
fn a_batch_that_could_not_be_written_stays_whole() {
    let rig = Rig::with(MemoryEngine::journaled(0, 0, Box::new(Blind)));
    rig.push_ids([1]);
    assert_eq!(group(&rig, false), [(1, State::Queued)]);
    let mut done = [says(rig.claim_one().job, true, State::Succeeded)];
    let mut batch = Batch {
        inserts: &[plain(id(2))],
        transitions: &mut done,
        ..Batch::default()
    };
    let mut receipt = BatchReceipt::default();
    rig.engine.commit_noted(&mut batch, rig.now(), &mut receipt);
    assert!(receipt.applied);
    for _ in 0..3 {
        // As the writer does when the disk is full.
        let refused = rig.engine.collect(true, rig.now()).changes;
        let (puts, rows): (Vec<_>, Vec<_>) = refused.iter().partition(|c| matches!(c, Change::Put(_)));
        assert_eq!(
            (puts.len(), rows.len()),
            (1, 1),
            "the end of the one, and the other"
        );
        let rows = rows.into_iter().filter_map(|change| match change {
            Change::Remove { row, joined } => Some((*row, *joined)),
            Change::Put(_) => None,
        });
        rig.engine.remove_again(rows);
        let puts = puts.into_iter().filter_map(|change| match change {
            Change::Put(put) => Some(&**put),
            Change::Remove { .. } => None,
        });
        assert_eq!(rig.engine.withdraw(puts), []);
    }
}
