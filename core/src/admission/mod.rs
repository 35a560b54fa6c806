//! Admission: which jobs get in, which start now, which are let go, as pure rules over counted facts.
//!
//! Nothing here has a clock, a thread or an engine: `now` and randomness are arguments, and the dispatcher
//! feeds each rule and does what it says. One file is one rule: what is configured, with its text form, and
//! beside it the small state it needs.

mod adaptive;
mod breaker;
mod budget;
mod call;
mod codel;
mod overflow;
mod pressure;
mod rate;

pub use adaptive::{Adaptive, Answer, Law, Limiter, Sample};
pub use breaker::{Breaker, Circuit, Turn};
pub use budget::{Budget, RetryBudget};
pub use codel::{Codel, Delay};
pub use overflow::{OnFull, Overflow};
pub use pressure::{Crossing, Fill, Watermarks, pressure};
pub use rate::{Gcra, Rate};
