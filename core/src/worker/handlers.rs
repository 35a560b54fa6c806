//! Shapes of handlers.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dispatcher::{Handler, Lease};
use crate::outcome::Outcome;
use crate::payload::Payload;

/// A closure that looks at the lease.
pub(super) struct Closure<F, O>(F, PhantomData<fn() -> O>);

impl<F, O> Closure<F, O> {
    pub(super) fn new(f: F) -> Self {
        Self(f, PhantomData)
    }
}

impl<F, O> Handler for Closure<F, O>
where
    F: Fn(&Lease) -> O + Send + Sync + 'static,
    O: Into<Outcome> + 'static,
{
    fn run(&self, lease: &Lease) -> Outcome {
        (self.0)(lease).into()
    }
}

/// A closure from JSON to JSON.
pub(super) struct Typed<F, A, R, E>(F, PhantomData<fn(A) -> (R, E)>);

impl<F, A, R, E> Typed<F, A, R, E> {
    pub(super) fn new(f: F) -> Self {
        Self(f, PhantomData)
    }
}

impl<F, A, R, E> Handler for Typed<F, A, R, E>
where
    F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
    E: std::fmt::Display + 'static,
{
    fn run(&self, lease: &Lease) -> Outcome {
        let argument = match lease.payload().parse::<A>() {
            Ok(argument) => argument,
            Err(error) => return Outcome::fatal(error.to_string()),
        };
        match (self.0)(argument) {
            Ok(value) => match Payload::json(&value) {
                Ok(result) => Outcome::Success(result),
                Err(error) => Outcome::failed(format!("the result is lost: {error}")),
            },
            Err(error) => Outcome::failed(error.to_string()),
        }
    }
}

/// A maker of handlers, one per attempt.
pub(super) struct Fresh<M, F, O>(M, PhantomData<fn() -> (F, O)>);

impl<M, F, O> Fresh<M, F, O> {
    pub(super) fn new(make: M) -> Self {
        Self(make, PhantomData)
    }
}

impl<M, F, O> Handler for Fresh<M, F, O>
where
    M: Fn() -> F + Send + Sync + 'static,
    F: FnOnce(&Lease) -> O + 'static,
    O: Into<Outcome> + 'static,
{
    fn run(&self, lease: &Lease) -> Outcome {
        (self.0)()(lease).into()
    }
}
