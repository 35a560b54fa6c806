//! Workers: handlers of several shapes, and the threads that run them. All of it is sugar over
//! [`Consumer::next`](crate::Consumer::next), [`Lease::run`] and [`Lease::complete`].

#[cfg(feature = "tokio")]
mod futures;
mod handlers;
mod threads;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::KindOptions;
use crate::dispatcher::{Dispatcher, Lease};
use crate::error::Result;
use crate::names::KindId;
use crate::outcome::Outcome;

use handlers::{Closure, Fresh, Typed};

impl Dispatcher {
    /// Registers a closure as the handler of a kind, with the dispatcher's default options.
    ///
    /// ```
    /// use forebay::{Deadline, Dispatcher, NewJob, Outcome};
    /// use std::time::Duration;
    /// let d = Dispatcher::in_memory()?;
    /// d.register("shout", |lease| {
    ///     let text = String::from_utf8_lossy(lease.payload().as_bytes().unwrap_or_default()).to_uppercase();
    ///     Ok::<_, std::io::Error>(text)
    /// })?;
    /// d.start()?;
    /// let pushed = d.push(NewJob::new("shout", "hello"))?;
    /// let job = d.wait(pushed.id, Deadline::after(Duration::from_secs(5)))?;
    /// assert_eq!(job.result.unwrap().as_bytes(), Some(&b"HELLO"[..]));
    /// d.stop(Duration::from_secs(1))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Dispatcher::declare`].
    pub fn register<F, O>(&self, kind: &str, handler: F) -> Result<KindId>
    where
        F: Fn(&Lease) -> O + Send + Sync + 'static,
        O: Into<Outcome> + 'static,
    {
        self.register_with(kind, KindOptions::new(), handler)
    }

    /// The same, with options of the kind's own.
    ///
    /// # Errors
    /// As [`Dispatcher::declare`].
    pub fn register_with<F, O>(&self, kind: &str, options: KindOptions, handler: F) -> Result<KindId>
    where
        F: Fn(&Lease) -> O + Send + Sync + 'static,
        O: Into<Outcome> + 'static,
    {
        self.register_handler(kind, options, Arc::new(Closure::new(handler)))
    }

    /// Registers a typed handler: it takes the payload as JSON of an `A` and answers with a `R`, which is
    /// written as JSON. A payload that is not the JSON of an `A` is a failure that no retry mends.
    ///
    /// ```
    /// # use forebay::*;
    /// # let d = Dispatcher::in_memory()?;
    /// d.register_typed("add", KindOptions::new(), |(a, b): (i64, i64)| Ok::<i64, std::io::Error>(a + b))?;
    /// d.push(NewJob::new("add", Payload::json(&(2, 3))?))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Dispatcher::declare`].
    pub fn register_typed<F, A, R, E>(&self, kind: &str, options: KindOptions, handler: F) -> Result<KindId>
    where
        F: Fn(A) -> std::result::Result<R, E> + Send + Sync + 'static,
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        E: std::fmt::Display + 'static,
    {
        self.register_handler(kind, options, Arc::new(Typed::new(handler)))
    }

    /// Registers a handler that is made anew for every attempt, so that its state cannot leak from one
    /// job into the next.
    ///
    /// # Errors
    /// As [`Dispatcher::declare`].
    pub fn register_fresh<M, F, O>(&self, kind: &str, options: KindOptions, make: M) -> Result<KindId>
    where
        M: Fn() -> F + Send + Sync + 'static,
        F: FnOnce(&Lease) -> O + 'static,
        O: Into<Outcome> + 'static,
    {
        self.register_handler(kind, options, Arc::new(Fresh::new(make)))
    }

    /// Starts as many worker threads as the option `concurrency` says; they run the Rust handlers and end
    /// with the dispatcher. A second call changes nothing.
    ///
    /// # Errors
    /// `Closed`, `Forked`; `NoMemory` if the system refuses a thread (those that started end again).
    pub fn start(&self) -> Result<()> {
        threads::start(self)
    }
}
