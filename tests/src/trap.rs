//! Running a test of this very program with a bug planted: it must fail, and for the right reason.

use std::process::Command;

/// Which test is there for a bug, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// The test, by its whole name.
    pub test: &'static str,
    /// What is in its output: one of these, with `|` between them.
    pub says: &'static str,
}

/// Runs the trap with the bug of this name, and these variables, in a process of its own.
///
/// # Panics
/// If there is no such test, if it passes, or fails for another reason.
pub fn caught(bug: &str, what: &str, trap: &Trap, variables: &[(&str, &str)]) {
    let this = std::env::current_exe().expect("a running program has a file");
    let mut command = Command::new(this);
    command.args([trap.test, "--exact", "--test-threads=1"]);
    command.env("FOREBAY_PLANTED", bug).env("RUST_BACKTRACE", "0");
    command.envs(variables.iter().copied());
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let test = trap.test;
    assert!(said.contains("running 1 test"), "{bug}: there is no test {test}");
    assert!(!output.status.success(), "{bug} is not caught: {what}\n{said}");
    assert!(
        trap.says.split('|').any(|reason| said.contains(reason)),
        "{bug} is caught for another reason than {:?}:\n{said}",
        trap.says
    );
}
