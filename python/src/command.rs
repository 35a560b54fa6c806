//! The command `forebay`, which the package brings along as a function.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::errors::guard;

/// Runs the command with these arguments, of which the first is the name of the program, and returns its exit
/// code. It writes to the standard output and the standard error of the process.
#[pyfunction]
pub fn cli_main(py: Python<'_>, args: Vec<OsString>) -> PyResult<u8> {
    guard(py, || Ok(py.detach(|| forebay_cli::main(args))))
}
