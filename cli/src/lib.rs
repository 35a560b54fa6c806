//! The command `forebay`: looks at the jobs of a file and takes care of them, whether a process has the file
//! open or not. `docs/cli.md` tells what each verb does.
//!
//! [`main`] is the whole command as a function, so that a package of another language can bring it along
//! without a second program.
//!
//! A verb becomes a [`Request`](forebay::control::Request). Who answers it is found out by `source`: the
//! process that owns the file, through its control socket; this process, which opens the file itself; or a
//! look at the file that changes nothing. The answer is the same lines of JSON in each case, and is written
//! as it is or shown to a person by `show`.

mod args;
mod care;
mod failure;
mod out;
mod show;
mod source;
mod table;
mod text;
mod top;
mod verbs;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use args::Args;
use failure::Failure;
use out::Out;

/// The arguments that the command takes, for those who write help pages and completions.
#[must_use]
pub fn arguments() -> clap::Command {
    Args::command()
}

/// Runs the command with these arguments, of which the first is the name of the program. Writes to the
/// standard output and the standard error of the process, and returns the exit code: 0 for success, 1 if the
/// job or queue is not there, 2 for arguments that make no sense, 3 if the file or the store failed, 4 if
/// the answer was no.
///
/// A host with signal handlers of its own should let SIGINT end the process while this runs: `top` goes on
/// until then.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            // Help and version are no failures, and whoever closed the pipe has seen enough.
            let _ = e.print();
            return u8::try_from(e.exit_code()).unwrap_or(Failure::USAGE);
        }
    };
    let mut out = Out::new(args.json);
    match verbs::run(&args, &mut out).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(failure) => out.fail(&failure),
    }
}
