//! Chance that a seed repeats.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The seed of this run: `FOREBAY_SEED`, or a new one.
pub(super) fn seed() -> u64 {
    let given = std::env::var("FOREBAY_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().hash_one(0u8),
        |text| text.trim().parse().expect("FOREBAY_SEED is a number"),
    );
    // Shown by the test's runner if the case fails.
    println!("replay with FOREBAY_SEED={seed}");
    seed
}

/// Numbers that a seed determines: splitmix64.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_follow_their_seed() {
        let throw = |seed| {
            let mut dice = Dice::new(seed);
            (0..20).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
    }
}
