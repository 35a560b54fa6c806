//! How many locks a job takes. Exact, so that a lock more on the way of every job is noticed here first.

use super::*;
use crate::engine::memory::latch::taken;

const JOBS: u128 = 640;

/// Of the slots that change hands by the magazine, and the chunks of a line, each takes a lock more now and then.
const NOW_AND_THEN: u64 = JOBS as u64 / 16;

fn locks(work: impl FnOnce()) -> u64 {
    let before = taken();
    work();
    taken() - before
}

/// An engine that has had many jobs, so that nothing in it grows any more.
fn grown() -> Rig {
    let rig = Rig::keeping(0);
    rig.push_ids(0..8 * JOBS);
    rig.claim(usize::MAX).iter().for_each(|job| rig.finish(job));
    rig
}

/// A job whose id its pusher has just made.
fn fresh(n: u128) -> Insert<'static> {
    Insert {
        fresh: true,
        ..plain(id(n))
    }
}

#[test]
fn a_push_takes_four_locks() {
    // The stripe, the record, its table of the index, the end of the line.
    let rig = grown();
    let per_job = 4 * JOBS as u64;
    let count = locks(|| {
        for n in 0..JOBS {
            assert_eq!(rig.push(fresh(n)), Inserted::New);
        }
    });
    assert!((per_job..=per_job + NOW_AND_THEN).contains(&count), "{count}");
}

#[test]
fn completing_a_job_and_claiming_the_next_takes_six() {
    // The stripe, the record that ends, its line of finished ones, the front of the line, the next record, and
    // a try at the one after that.
    let rig = Rig::new();
    rig.push_ids(0..JOBS);
    let all = [u32::MAX; KINDS as usize];
    let mut job = rig.claim_one();
    let count = locks(|| {
        for _ in 1..JOBS {
            let done = vec![says(job.job, true, State::Succeeded)];
            job = rig.turn(done, Some((&all, 1))).1.remove(0);
        }
    });
    let per_job = 6 * (JOBS as u64 - 1);
    let few = NOW_AND_THEN;
    assert!((per_job - few..=per_job + few).contains(&count), "{count}");
}

#[test]
fn in_a_batch_they_share_the_stripe() {
    let rig = grown();
    let jobs: Vec<_> = (0..64).map(fresh).collect();
    let count = locks(|| rig.engine.insert(&jobs, rig.now(), &mut Vec::new()).unwrap());
    assert!((1 + 3 * 64..1 + 3 * 64 + 8).contains(&count), "{count}");
}
