//! A discrete-event simulation of a queue under load.
//!
//! Time is a [`ManualClock`](forebay::ManualClock) and moves from one event to the next: an arrival, the end of a
//! job, upkeep. Nothing sleeps and there is one thread, so a quarter of an hour at a thousand jobs a second takes a
//! second or two, and a seed gives the same arrivals and the same lengths of jobs to everybody. What decides is no
//! model: every arrival is a push to a real [`Dispatcher`](forebay::Dispatcher) over the memory engine, every
//! start a claim of it. Only the [clients](arrivals) and the [dependency](downstream) are made up.

pub mod arrivals;
pub mod books;
pub mod chart;
pub mod downstream;
pub mod experiments;
pub mod found;
pub mod report;
pub mod rng;
pub mod traffic;
pub mod world;
