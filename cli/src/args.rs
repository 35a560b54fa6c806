//! The arguments, and the help that explains them.

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as Group, Parser, Subcommand};
use forebay::{State, parse_duration};

const AFTER: &str = "\
Exit codes:
  0  done
  1  the job or queue is not there
  2  the arguments make no sense
  3  the file cannot be read or written, or is damaged
  4  refused: in use, full, in the wrong state, not confirmed

DB is the path of a SQLite file of jobs, the same as a URL (sqlite:PATH), or the path of a dump, which can only
be looked at. A verb reaches a file that a process has open through that process; what only looks never changes
a file.";

/// Look at the jobs of a file and take care of them, whether a process has it open or not.
#[derive(Parser, Debug)]
#[command(name = "forebay", version, after_help = AFTER, arg_required_else_help = true)]
pub(crate) struct Args {
    /// The file: a path or a URL. Also: --db, or the environment variable FOREBAY_DB
    #[arg(value_name = "DB")]
    pub(crate) first: Option<String>,
    /// The file, when it is not the first argument
    #[arg(long, global = true, value_name = "DB")]
    pub(crate) db: Option<String>,
    /// Write JSON: one object, or one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Do not ask before something that cannot be undone
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// How long the process that has the file open may take to answer [default: 10s; dump, restore, purge: 10m]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// How many jobs of each queue wait, run and have ended
    Stats,
    /// The counts and the running jobs, shown again and again until Ctrl-C
    Top(Top),
    /// Jobs, newest first
    List(List),
    /// Everything about one job
    Show(Show),
    /// Why a job is not running, or why nothing comes out of a queue
    Explain {
        /// The id of a job, or the name of a queue
        #[arg(value_name = "ID|QUEUE")]
        what: String,
    },
    /// Run a finished job again, as a new job with the same or another input
    Retry(Retry),
    /// Cancel a job: at once if it waits, otherwise it is asked to stop
    Cancel {
        /// Its id
        id: String,
    },
    /// Hand out no more jobs of a queue
    Pause {
        /// Its name
        queue: String,
    },
    /// Hand out the jobs of a queue again
    Resume {
        /// Its name
        queue: String,
    },
    /// Cancel every job that waits in a queue
    Purge {
        /// Its name
        queue: String,
    },
    /// Write every unfinished job to a file that any dispatcher can restore
    Dump {
        /// Where to; a dump that is there is replaced
        file: PathBuf,
    },
    /// Accept the jobs of a dump; those that are here already stay as they are
    Restore {
        /// The dump
        file: PathBuf,
    },
    /// Look for damage: the file, its version, every row
    Check,
    /// Copy every job that can still be read into a new file
    Salvage {
        /// The new file, which must not be there yet
        new: PathBuf,
    },
}

#[derive(Group, Debug)]
pub(crate) struct Top {
    /// The time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) interval: Duration,
    /// How often to look [default: until Ctrl-C; once where no terminal watches]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// How many running jobs to show
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = limit)]
    pub(crate) limit: usize,
}

#[derive(Group, Debug)]
pub(crate) struct List {
    /// Only jobs of this queue
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// Only jobs of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only jobs in these states, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = state)]
    pub(crate) state: Vec<State>,
    /// Only the job with this idempotency key
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Only jobs pushed longer ago than this, as 30s, 5m, 1h, 2d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) older: Option<Duration>,
    /// Only jobs pushed within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) newer: Option<Duration>,
    /// Go on after this job: the last one of the page before
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// How many jobs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit)]
    pub(crate) limit: usize,
    /// Every job that matches, however many there are
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Only how many jobs match
    #[arg(long, conflicts_with_all = ["limit", "all", "after"])]
    pub(crate) count: bool,
}

#[derive(Group, Debug)]
pub(crate) struct Show {
    /// Its id
    pub(crate) id: String,
    /// Write its input, byte for byte, and nothing else
    #[arg(long, conflicts_with = "json")]
    pub(crate) input: bool,
    /// Write its result, byte for byte, and nothing else
    #[arg(long, conflicts_with_all = ["json", "input"])]
    pub(crate) result: bool,
}

#[derive(Group, Debug)]
pub(crate) struct Retry {
    /// The id of the finished job
    pub(crate) id: String,
    /// Another input, as text
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "input_file",
        allow_hyphen_values = true
    )]
    pub(crate) input: Option<String>,
    /// Another input, from a file; - is the standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) input_file: Option<PathBuf>,
    /// The type of the other input [default: that of the old one]
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
}

/// The options about a file, for a verb of the host's own: they are for all verbs, and its help is not to tell of
/// them.
pub(crate) fn of_files_only() -> [Arg; 3] {
    let hidden = |id, action| Arg::new(id).long(id).action(action).hide(true);
    [
        hidden("db", ArgAction::Set),
        hidden("timeout", ArgAction::Set),
        hidden("yes", ArgAction::SetTrue),
    ]
}

/// What these arguments say about a file, if they say anything.
pub(crate) fn about_a_file(parsed: &ArgMatches) -> Option<&'static str> {
    let given = |id: &str| {
        matches!(parsed.try_contains_id(id), Ok(true))
            && parsed.value_source(id) == Some(ValueSource::CommandLine)
    };
    [
        ("first", "a file before it"),
        ("db", "--db"),
        ("timeout", "--timeout"),
        ("yes", "--yes"),
    ]
    .into_iter()
    .find_map(|(id, name)| given(id).then_some(name))
}

fn state(name: &str) -> Result<State, String> {
    State::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.iter().map(|s| s.name()).collect();
        format!("there are {}", names.join(", "))
    })
}

fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it must be a whole number from 1".to_owned()),
        Ok(limit) => Ok(limit),
    }
}
