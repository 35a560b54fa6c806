//! `forebay.Executor`: a `concurrent.futures.Executor` whose calls are jobs of a dispatcher in memory.
//!
//! A submitted call is one job, whose payload holds the function, its arguments and its future by reference. The
//! result and the exception stay in the future, so the core keeps nothing of a job that has ended, and whoever
//! asks for the result asks the future.

mod future;
mod pool;
mod submit;
mod work;

pub use future::Promise;
pub use pool::refuse_calls;
pub use submit::{SUBMIT, Submitter};
pub use work::Hand;
