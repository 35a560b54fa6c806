//! The command `forebay`, which the package brings along as a function, with a verb of its own: `worker`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, FromArgMatches, value_parser};
use forebay_cli::Done;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::guard;

const AFTER: &str = "\
TARGET is where the dispatcher is, looked for from the present folder on:
  module            the only dispatcher in it
  module:name       the one of this name, or module:name.of.part
  module:make()     what this call returns

Exit codes:
  0    stopped as it was asked to: by SIGTERM, by Ctrl-C, by the program
  1    the module raised an error, and its traceback was shown
  2    the arguments make no sense, or there is no such dispatcher
  130  a second Ctrl-C: running jobs were handed back at once";

/// Run the jobs of a Python program: import it, and serve its dispatcher until somebody stops it
#[derive(Args, Debug)]
struct Worker {
    /// The dispatcher: module, module:name, module:make()
    target: String,
    /// How many threads run jobs [default: as many as jobs may run at once]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// How many processes run jobs; more than one need a file that is opened with shared=True
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..))]
    processes: u16,
    /// Serve these queues only, as mail,reports [default: every queue]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    queues: Option<Vec<String>>,
    /// Start again when a file of the program changes, for whoever is writing it
    #[arg(long)]
    reload: bool,
    /// How long running jobs have to end after a stop, as 30s or 5m [default: as the dispatcher says]
    #[arg(long, value_name = "TIME", value_parser = forebay::parse_duration)]
    grace: Option<Duration>,
    /// How often to tell the counts [default: 1s on a terminal, 1m elsewhere]
    #[arg(long, value_name = "TIME", value_parser = forebay::parse_duration)]
    interval: Option<Duration>,
    /// Tell only what goes wrong
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

/// Runs the command with these arguments, of which the first is the name of the program, and returns its exit
/// code. It writes to the standard output and the standard error of the process.
#[pyfunction]
pub fn cli_main(py: Python<'_>, args: Vec<OsString>) -> PyResult<u8> {
    guard(py, || Ok(py.detach(|| forebay_cli::main(args))))
}

/// The same with the verb `worker` among the others, for which it returns what its arguments say.
#[pyfunction]
pub fn cli_or_worker(py: Python<'_>, args: Vec<OsString>) -> PyResult<Py<PyAny>> {
    guard(py, || {
        let worker = Worker::augment_args(clap::Command::new("worker"))
            .after_help(AFTER)
            .display_order(0);
        match py.detach(|| forebay_cli::main_beside(args, [worker])) {
            Done::Exit(code) => Ok(code.into_pyobject(py)?.into_any().unbind()),
            Done::Guest(_, said) => {
                let given = Worker::from_arg_matches(&said).expect("these arguments have been checked");
                given
                    .dict(py, said.get_flag("json"))
                    .map(|dict| dict.into_any().unbind())
            }
        }
    })
}

impl Worker {
    fn dict<'py>(self, py: Python<'py>, json: bool) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("target", self.target)?;
        dict.set_item("threads", self.threads)?;
        dict.set_item("processes", self.processes)?;
        dict.set_item("queues", self.queues)?;
        dict.set_item("reload", self.reload)?;
        dict.set_item("grace", self.grace.map(|time| time.as_secs_f64()))?;
        dict.set_item("interval", self.interval.map(|time| time.as_secs_f64()))?;
        dict.set_item("quiet", self.quiet)?;
        dict.set_item("json", json)?;
        Ok(dict)
    }
}
