//! Waiting. Everything that blocks is detached from the interpreter, and on the main thread, where Python
//! delivers signals, it looks for them after each slice.

use std::time::Duration;

use forebay::{Deadline, Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::imports::Imported;
use crate::shared::Shared;

/// How long the main thread is deaf to signals.
const SLICE: Duration = Duration::from_millis(50);

/// Runs `attempt`, which waits until the deadline it is given, until it answers with anything but an error
/// of kind `not_yet`, or until `deadline`. The outer error is a signal handler's: a Ctrl-C.
pub fn wait<T: Send>(
    py: Python<'_>,
    shared: &Shared,
    deadline: Deadline,
    not_yet: ErrorKind,
    mut attempt: impl FnMut(Deadline) -> Result<T, Error> + Send,
) -> PyResult<Result<T, Error>> {
    let slices = is_main_thread(py)?;
    loop {
        let until = if slices { slice(deadline) } else { deadline };
        match shared.detached(py, || attempt(until)) {
            Err(e) if e.kind() == not_yet && !deadline.passed() => py.check_signals()?,
            answer => return Ok(answer),
        }
    }
}

/// The same for an `attempt` that says itself whether it has got what it waits for; false if it has not by
/// `deadline`.
pub fn until(
    py: Python<'_>,
    deadline: Deadline,
    mut attempt: impl FnMut(Deadline) -> bool + Send,
) -> PyResult<bool> {
    let slices = is_main_thread(py)?;
    loop {
        let until = if slices { slice(deadline) } else { deadline };
        if py.detach(|| attempt(until)) {
            return Ok(true);
        }
        if deadline.passed() {
            return Ok(false);
        }
        py.check_signals()?;
    }
}

fn slice(deadline: Deadline) -> Deadline {
    Deadline::after(deadline.left().map_or(SLICE, |left| left.min(SLICE)))
}

/// Whether this is the thread on which Python runs signal handlers.
pub fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static MAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let main = MAIN.find(py, "threading", "main_thread")?.call0()?;
    main.getattr("ident")?
        .eq(HERE.find(py, "threading", "get_ident")?.call0()?)
}
