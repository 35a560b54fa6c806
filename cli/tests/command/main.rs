//! The command from outside: every verb, as text and as JSON, on a file in every condition.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may")]

mod bad;
mod damaged;
mod files;
mod live;
mod owner;
mod page;
mod stage;
