//! Random calls, as values.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{KEEP, KINDS, QUEUES, State};

/// What a push says.
#[derive(Clone, Debug)]
pub(super) struct Push {
    pub(super) id: u128,
    pub(super) queue: usize,
    pub(super) kind: usize,
    pub(super) priority: i8,
    pub(super) delay: u64,
    pub(super) deadline: Option<u64>,
    pub(super) timeout: Option<u64>,
    pub(super) max_attempts: u32,
    pub(super) key: Option<(usize, u64)>,
    pub(super) waits: Vec<usize>,
    pub(super) capacity: usize,
    pub(super) restored: bool,
}

/// What somebody says about a job: which (by number of claim or of push), what, and after which delay.
#[derive(Clone, Debug)]
pub(super) struct Say {
    pub(super) claim: Option<usize>,
    pub(super) job: usize,
    pub(super) to: State,
    pub(super) delay: u64,
    pub(super) refund: bool,
    pub(super) keeps_place: bool,
    pub(super) answers: bool,
    pub(super) failure: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) queue: usize,
    pub(super) allowances: Vec<u32>,
    pub(super) limit: usize,
    pub(super) lease: Option<u64>,
    pub(super) timeout: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Insert(Vec<Push>),
    Turn(Vec<Say>, Option<Ask>),
    Commit(Vec<Push>, Vec<Say>, Vec<(usize, usize)>),
    Extend(usize, u64),
    RequestCancel(usize),
    Tick(usize),
    Advance(u64),
    Pause(usize, bool),
    Prune(u64, u64, usize, usize),
}

fn pushes(most: usize) -> impl Strategy<Value = Vec<Push>> {
    let times = (
        0..12u64,
        prop::option::weighted(0.3, 0..25u64),
        prop::option::weighted(0.3, 1..20u64),
    );
    let names = (
        0..QUEUES,
        0..KINDS as usize,
        -1..2i8,
        prop::option::weighted(0.3, (0..3usize, 0..2u64)),
    );
    let rest = (
        // Ids of several tables, some of them twice.
        (0..40u128).prop_map(|n| n * 61),
        0..3u32,
        vec(0..3usize, 0..2),
        prop_oneof![Just(0usize), 3..8usize],
        prop::bool::weighted(0.1),
    );
    let push = (times, names, rest).prop_map(
        |(
            (delay, deadline, timeout),
            (queue, kind, priority, key),
            (id, max_attempts, waits, capacity, restored),
        )| {
            Push {
                id,
                queue,
                kind,
                priority,
                delay: delay.saturating_sub(6),
                deadline,
                timeout,
                max_attempts,
                key,
                waits,
                capacity,
                restored,
            }
        },
    );
    vec(push, 0..most)
}

fn says_some(most: usize) -> impl Strategy<Value = Vec<Say>> {
    let to = prop_oneof![
        4 => Just(State::Succeeded),
        4 => Just(State::Scheduled),
        1 => Just(State::Queued),
        1 => Just(State::Failed),
        2 => Just(State::Cancelled),
        1 => Just(State::Expired),
        1 => Just(State::Running),
    ];
    let claim = prop::option::weighted(0.8, 0..8usize);
    let say = (
        claim,
        0..40usize,
        to,
        0..4u64,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(claim, job, to, delay, refund, keeps_place, answers, failure)| Say {
                claim,
                job,
                to,
                delay: delay * 3,
                refund,
                keeps_place,
                answers,
                failure,
            },
        );
    vec(say, 0..most)
}

fn ask() -> impl Strategy<Value = Ask> {
    let times = (prop::option::of(1..20u64), prop::option::weighted(0.3, 1..20u64));
    (0..QUEUES, vec(0..3u32, 0..4), 0..5usize, times).prop_map(
        |(queue, allowances, limit, (lease, timeout))| Ask {
            queue,
            allowances,
            limit,
            lease,
            timeout,
        },
    )
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => pushes(5).prop_map(Step::Insert),
        8 => (says_some(4), prop::option::weighted(0.8, ask())).prop_map(|(s, a)| Step::Turn(s, a)),
        3 => (pushes(3), says_some(3), vec((0..40usize, 0..3usize), 0..3))
            .prop_map(|(p, s, t)| Step::Commit(p, s, t)),
        1 => (0..8usize, 0..20u64).prop_map(|(n, lease)| Step::Extend(n, lease)),
        1 => (0..8usize).prop_map(Step::RequestCancel),
        1 => (0..4usize).prop_map(Step::Tick),
        4 => (0..6u64).prop_map(Step::Advance),
        1 => (0..QUEUES, prop::bool::weighted(0.3)).prop_map(|(q, p)| Step::Pause(q, p)),
        1 => (0..30u64, 0..30u64, 6..KEEP + 1, 0..5usize).prop_map(|(s, o, m, l)| Step::Prune(s, o, m, l)),
    ];
    vec(step, 1..80)
}
