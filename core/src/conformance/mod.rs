//! The engine suite: what every engine promises, as cases that know none of them.
//!
//! [`conformance_suite!`](crate::conformance_suite) makes one `#[test]` of each case:
//!
//! ```ignore
//! forebay::conformance_suite!(memory, || Arc::new(MemoryEngine::new(100_000)), given_time, host_objects);
//! ```
//!
//! The closure makes an empty engine; each case makes its own. The names behind it are the groups of cases
//! that apply to this engine beyond those that apply to all; a group that is not named is listed and shown
//! as ignored. One more test compares the groups with what the engine says of itself, so none can be left
//! out by mistake.
//!
//! | group | its cases apply to an engine that |
//! |---|---|
//! | `given_time` | takes `now` from its caller (not [`own_clock`](crate::engine::Capabilities::own_clock)) |
//! | `host_objects` | keeps [`host_objects`](crate::engine::Capabilities::host_objects) by reference |
//! | `encodes` | does not, so that what cannot be encoded must be refused |
//! | `alone` | nobody shares ([`shared`](crate::engine::Capabilities::shared)) |
//! | `evicts` | sheds jobs that wait ([`evicts`](crate::engine::Capabilities::evicts)) |
//! | `weighs` | bounds the bytes that wait ([`weighs`](crate::engine::Capabilities::weighs)) |
//! | `evicts_and_weighs` | does both |
//! | `flows` | knows concurrency keys ([`keys`](crate::engine::Capabilities::keys)) |
//! | `coalesces` | knows concurrency keys and sheds jobs that wait |
//!
//! Time moves by [`ManualClock::advance`](crate::ManualClock::advance); what another thread does is waited
//! for as an event, with a deadline. Cases that draw at random print their seed and are replayed by
//! `FOREBAY_SEED`.

// These are tests: a case fails by a panic.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod batches;
pub mod bells;
pub mod capacity;
pub mod claims;
pub mod contract;
pub mod crowd;
mod dice;
pub mod dump;
pub mod flows;
pub mod keys;
pub mod law;
pub mod life;
pub mod limits;
pub mod listing;
pub mod manage;
pub mod model;
pub mod newcomer;
pub mod news;
pub mod overflow;
pub mod overload;
pub mod payloads;
pub mod pressure;
pub mod readiness;
pub mod retry;
pub mod sealing;
mod stage;
pub mod stop;
pub mod storing;
mod suite;
pub mod terms;
pub mod time;
pub mod watching;
pub mod weight;
pub mod wrap;

use std::sync::Arc;

use crate::engine::{Capabilities, Engine};

/// How a case makes the engine it tests: a new and empty one at each call.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn Engine>;

/// The groups that apply to an engine with these capabilities.
fn groups(of: Capabilities) -> Vec<&'static str> {
    let all = [
        ("given_time", !of.own_clock),
        ("host_objects", of.host_objects),
        ("encodes", !of.host_objects),
        ("alone", !of.shared),
        ("evicts", of.evicts),
        ("weighs", of.weighs),
        ("evicts_and_weighs", of.evicts && of.weighs),
        ("flows", of.keys),
        ("coalesces", of.keys && of.evicts),
    ];
    all.into_iter()
        .filter(|(_, applies)| *applies)
        .map(|(name, _)| name)
        .collect()
}

/// The groups named in the suite's invocation are those that apply to the engine.
pub fn check_groups(make: Make<'_>, named: &[&str]) {
    let engine = make();
    let mut named = named.to_vec();
    let mut apply = groups(engine.capabilities());
    named.sort_unstable();
    apply.sort_unstable();
    assert_eq!(
        named,
        apply,
        "the groups to name for the engine {:?}",
        engine.name()
    );
}
