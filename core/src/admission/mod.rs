//! Admission: which jobs get in, which start now, which are let go, as pure rules over counted facts.
//!
//! Nothing here has a clock, a thread or an engine: `now` and randomness are arguments, and the dispatcher
//! feeds each rule and does what it says. One file is one rule: what is configured, with its text form, and
//! beside it the small state it needs.

mod rate;

pub use rate::{Gcra, Rate};
