//! What is done at random to an engine and its model.

use super::super::dice::Dice;

/// One operation. Numbers choose among what is there, so that a list from which some were taken still means
/// something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Insert {
        kind: u8,
        priority: i8,
        delay_ms: u64,
        deadline_ms: u64,
        timeout_ms: u64,
        key: u8,
        blocked: bool,
        capacity: u8,
        /// Which concurrency key, if the engine knows them; 0 for none.
        flow: u8,
        bytes: u8,
        /// The bound in bytes, if the engine knows one.
        most: u8,
        /// Accepted only to be shed.
        shed: bool,
    },
    Evict {
        whom: u8,
    },
    Repeat {
        job: u16,
    },
    Claim {
        limit: u8,
        kinds: u8,
        lease_ms: u64,
    },
    Limit {
        flow: u8,
        limit: u8,
    },
    End {
        job: u16,
        state: u8,
    },
    Again {
        job: u16,
        delay_ms: u64,
        refund: bool,
        keeps_place: bool,
    },
    Stale {
        job: u16,
        ahead: bool,
    },
    EndWaiting {
        job: u16,
        state: u8,
    },
    RequestCancel {
        job: u16,
    },
    Extend {
        job: u16,
        lease_ms: u64,
    },
    Signal {
        job: u16,
    },
    Advance {
        ms: u64,
    },
    Pause {
        paused: bool,
    },
}

/// A random one.
pub(super) fn random(dice: &mut Dice) -> Op {
    let job = dice.below(64) as u16;
    let sometimes = |dice: &mut Dice, n: u64| if dice.one_in(3) { 1 + dice.below(n) } else { 0 };
    match dice.below(28) {
        0..=6 => Op::Insert {
            kind: dice.below(2) as u8,
            priority: dice.below(3) as i8 - 1,
            delay_ms: sometimes(dice, 20),
            deadline_ms: sometimes(dice, 40),
            timeout_ms: sometimes(dice, 20),
            key: sometimes(dice, 6) as u8,
            blocked: dice.one_in(6),
            capacity: sometimes(dice, 12) as u8,
            flow: sometimes(dice, 3) as u8,
            bytes: dice.below(12) as u8,
            most: sometimes(dice, 60) as u8,
            shed: dice.one_in(12),
        },
        7 => Op::Repeat { job },
        8..=11 => Op::Claim {
            limit: dice.below(5) as u8,
            kinds: dice.below(4) as u8,
            lease_ms: sometimes(dice, 20),
        },
        12..=14 => Op::End {
            job,
            state: dice.below(4) as u8,
        },
        15..=16 => Op::Again {
            job,
            delay_ms: sometimes(dice, 20),
            refund: dice.one_in(3),
            keeps_place: dice.one_in(3),
        },
        17 => Op::Stale {
            job,
            ahead: dice.one_in(2),
        },
        18 => Op::EndWaiting {
            job,
            state: dice.below(4) as u8,
        },
        19 => Op::RequestCancel { job },
        20 => Op::Extend {
            job,
            lease_ms: 1 + dice.below(20),
        },
        21 => Op::Signal { job },
        22 => Op::Advance { ms: dice.below(15) },
        23..=25 => Op::Evict {
            whom: dice.below(12) as u8,
        },
        26 => Op::Limit {
            flow: dice.below(3) as u8,
            limit: dice.below(6) as u8,
        },
        _ => Op::Pause {
            paused: dice.one_in(2),
        },
    }
}
