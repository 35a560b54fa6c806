//! Simulated histories: a store in memory that fails, is killed and loses power, under the real engine.

use forebay::engine::durable::sim::histories;

use crate::key::{say, seed, size};

#[test]
fn no_history_breaks_a_promise() {
    let (seed, count) = (seed(), size("FOREBAY_HISTORIES", 10_000));
    match histories(seed, count) {
        Ok(told) => {
            say(&format!("{told:?}"));
            let met = [
                told.kills,
                told.cuts,
                told.stops,
                told.full,
                told.broken_kept,
                told.broken_lost,
            ];
            assert!(
                met.iter().all(|times| *times > 0),
                "a fault was never met: {told:?}"
            );
        }
        Err(broken) => panic!("{broken}"),
    }
}
