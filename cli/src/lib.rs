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

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use args::Args;
use failure::Failure;
use out::Out;

/// The arguments that the command takes, for those who write help pages and completions.
#[must_use]
pub fn arguments() -> clap::Command {
    Args::command()
}

/// What became of the arguments.
#[derive(Debug)]
pub enum Done {
    /// The command has run, and this is its exit code.
    Exit(u8),
    /// They are for a verb of the host's own, of this name.
    Guest(String, ArgMatches),
}

/// Runs the command with these arguments, of which the first is the name of the program. Writes to the
/// standard output and the standard error of the process, and returns the exit code: 0 for success, 1 if the
/// job or queue is not there, 2 for arguments that make no sense, 3 if the file or the store failed, 4 if
/// the answer was no.
///
/// A host with signal handlers of its own should let SIGINT end the process while this runs: `top` goes on
/// until then.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    match main_beside(args, []) {
        Done::Exit(code) => code,
        Done::Guest(..) => Failure::USAGE,
    }
}

/// The same, beside verbs that the host does itself. The help lists them with the others; what they share with
/// those is `--json`, and that arguments which make no sense are told and end with 2.
pub fn main_beside(
    args: impl IntoIterator<Item = OsString>,
    guests: impl IntoIterator<Item = clap::Command>,
) -> Done {
    let (mut command, mut names) = (Args::command(), Vec::new());
    for guest in guests {
        names.push(guest.get_name().to_owned());
        command = command.subcommand(guest.args(args::of_files_only()));
    }
    let parsed = match command.try_get_matches_from_mut(args) {
        Ok(parsed) => parsed,
        Err(e) => return Done::Exit(told(&e)),
    };
    if let Some((name, of_guest)) = parsed
        .subcommand()
        .filter(|(name, _)| names.iter().any(|n| n == name))
    {
        return match args::about_a_file(&parsed).or_else(|| args::about_a_file(of_guest)) {
            None => Done::Guest(name.to_owned(), of_guest.clone()),
            Some(what) => {
                let text = format!("{name} looks at no file, so {what} means nothing to it");
                Done::Exit(Out::new(parsed.get_flag("json")).fail(&Failure::Usage(text)))
            }
        };
    }
    match Args::from_arg_matches(&parsed) {
        Ok(args) => Done::Exit(run(&args)),
        Err(e) => Done::Exit(told(&e.format(&mut command))),
    }
}

fn run(args: &Args) -> u8 {
    let mut out = Out::new(args.json);
    match verbs::run(args, &mut out).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(failure) => out.fail(&failure),
    }
}

/// Shows a help, a version, or what is wrong with the arguments, and returns the exit code.
fn told(e: &clap::Error) -> u8 {
    // Help and version are no failures, and whoever closed the pipe has seen enough.
    let _ = e.print();
    u8::try_from(e.exit_code()).unwrap_or(Failure::USAGE)
}
