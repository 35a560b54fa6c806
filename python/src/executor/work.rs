//! The body of one thread of an executor.
//!
//! As a worker of a dispatcher does it ([`crate::worker`]): attached while there are calls, one at a time, and
//! detached to wait and, between two calls, to let others in.

use std::sync::Arc;
use std::time::Duration;

use forebay::{Answer, Consumer, Deadline, ErrorKind, Failure, FailureKind, Lease, Outcome};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use super::future::{End, Promise};
use super::pool::{Pool, Task};
use crate::crew::Member;
use crate::errors::guard;
use crate::graveyard::{self, Near};
use crate::outcome;

/// The most calls between two detachments.
const CALLS: usize = 64;
/// The longest time between two detachments, if calls are shorter: CPython's own switch interval.
const TURN: Duration = Duration::from_millis(5);

/// One thread of an executor: call `run` on a thread of its own.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Hand {
    pool: Arc<Pool>,
}

impl Hand {
    /// For the calls of this pool.
    pub fn new(pool: &Arc<Pool>) -> Self {
        Self { pool: pool.clone() }
    }
}

#[pymethods]
impl Hand {
    /// Makes calls until the pool is closed and none is left.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || {
            let pool = &*self.pool;
            let turns = Turns {
                pool,
                consumer: pool.shared.core.consumer(pool.kinds.clone()),
                member: Member::new(&pool.shared.crew),
                held: None,
            };
            turns.run(py);
            Ok(())
        })
    }

    /// This thread ends, or could not begin.
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || {
            self.pool.leave(py);
            Ok(())
        })
    }

    /// Ends the futures of calls whose end the core decides, until the pool stops.
    fn listen(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || self.pool.listen(py))
    }

    /// Has the pool accept no more calls.
    fn close(&self) {
        self.pool.close();
    }

    /// Has the pool make no more calls, for this reason.
    fn give_up(&self, py: Python<'_>, why: String) -> PyResult<()> {
        guard(py, || self.pool.give_up(py, why))
    }
}

struct Turns<'a> {
    pool: &'a Pool,
    consumer: Consumer,
    member: Member<'a>,
    /// The call that is made, or comes after others have been let in.
    held: Option<Lease>,
}

impl Turns<'_> {
    fn run(mut self, py: Python<'_>) {
        while self.claim(py) {
            self.series(py);
            if self.pool.shared.core.check_process().is_err() {
                // This is the child of a fork: nothing of the parent's may be touched, not even to free it.
                std::mem::forget(self);
                return;
            }
        }
    }

    /// Lets others in, and waits for the next call; false once there is none.
    fn claim(&mut self, py: Python<'_>) -> bool {
        let Self {
            pool,
            consumer,
            member,
            held,
        } = self;
        let shared = &pool.shared;
        if held.is_some() {
            member.pause();
            shared.detached(py, || ());
            return true;
        }
        member.rest();
        if let Ok(found @ Some(_)) = consumer.next(Deadline::after(Duration::ZERO)) {
            *held = found;
            shared.detached(py, || ());
            return true;
        }
        pool.rests();
        let next = shared.detached(py, || {
            loop {
                if member.is_spare() {
                    shared.crew.stand_by(&shared.core);
                }
                match consumer.next(Deadline::NEVER) {
                    Ok(None) => {}
                    Ok(lease) => return lease,
                    Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Forked) => return None,
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        pool.wakes();
        *held = next;
        held.is_some()
    }

    /// Makes calls while there are any, but not for long.
    fn series(&mut self, py: Python<'_>) {
        let (turn, mut calls) = (Deadline::after(TURN), 0);
        self.member.begin();
        graveyard::drain(py);
        let near = Near::new(py);
        while let Some(lease) = self.held.take() {
            let Some((future, outcome, end)) = make(py, &lease) else {
                // It was cancelled as it was claimed.
                let _ = lease.complete(Outcome::Cancelled("".into()));
                return;
            };
            if self.pool.shared.core.check_process().is_err() {
                std::mem::forget(lease);
                return;
            }
            let spare = self.member.is_spare();
            let answer = match spare {
                true => lease.complete(outcome),
                false => {
                    let next = self.consumer.complete_and_next(lease, outcome);
                    next.map(|(answer, next)| {
                        self.held = next;
                        answer
                    })
                }
            };
            self.tell(py, &future, end, answer);
            near.drain();
            calls += 1;
            let look = self.member.ran();
            if spare || calls == CALLS || (look && turn.passed()) {
                return;
            }
        }
    }

    /// Tells the future what became of its call.
    fn tell(&self, py: Python<'_>, future: &Bound<'_, Promise>, end: End, answer: forebay::Result<Answer>) {
        let over = match answer {
            Ok(Answer::Stored(state)) => state.is_final(),
            // It was overdue, and whoever decided that has told.
            Ok(Answer::Stale) => !self.pool.is_watched(),
            Err(_) => true,
        };
        if over && let Err(odd) = Promise::settle(future, end) {
            odd.write_unraisable(py, Some(future));
        }
    }
}

/// Makes a call: its future, what the core is told of it, and what the future is. `None` if it was cancelled.
fn make<'py>(py: Python<'py>, lease: &Lease) -> Option<(Bound<'py, Promise>, Outcome, End)> {
    let task = lease.payload().as_host::<Task>()?;
    let future = task.future.bind(py).clone();
    if !future.get().begin() {
        return None;
    }
    let (outcome, end) = match task.arguments.call(task.function.bind(py), None) {
        Ok(result) => (Outcome::done(), End::Result(result.unbind())),
        Err(error) => {
            let error = error.into_value(py).into_bound(py).into_any();
            let outcome = outcome_of(&error);
            if lease.attempt() < lease.max_attempts() {
                drop(future.get().stand_back(error.clone().unbind()));
            }
            (outcome, End::Exception(error.unbind()))
        }
    };
    Some((future, outcome, end))
}

/// What the core is told of a call that raised this. The exception itself stays with the future.
fn outcome_of(error: &Bound<'_, PyAny>) -> Outcome {
    let text = || error.get_type().to_string();
    if !error.is_instance_of::<PyException>() {
        return Outcome::fatal(text());
    }
    outcome::control(error).unwrap_or_else(|| Outcome::Failed(Failure::new(FailureKind::Error, text())))
}
