//! The simulation behind `docs/overload.md`: its tables and charts.
//!
//! ```text
//! cargo bench -p forebay-benches --bench overload -- [options]
//!   --quick             a few seconds, to see that it runs     --only load,fairness,...   these experiments
//!   --strict            fails if a goal is missed
//!   --write PAGE        into the page and the folder of its name, instead of the terminal
//! ```

use std::path::Path;
use std::process::ExitCode;

use forebay_benches::arguments::Arguments;
use forebay_benches::overload::experiments::{EXPERIMENTS, Size};
use forebay_benches::overload::report::Report;

fn main() -> ExitCode {
    let arguments = Arguments::of_process();
    let size = if arguments.has("quick") {
        Size::Quick
    } else {
        Size::Full
    };
    let known: Vec<&str> = EXPERIMENTS.iter().map(|(name, _)| *name).collect();
    let wanted: Vec<String> = arguments.list("only", &known.join(","));
    let mut report = Report::default();
    for (name, run) in EXPERIMENTS {
        if wanted.iter().any(|wanted| wanted == name) {
            run(size, &mut report);
        }
    }
    match arguments.text("write") {
        None => print!("{}", report.to_text()),
        Some(page) => {
            if let Err(error) = report.write(Path::new(page)) {
                eprintln!("{page}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if arguments.has("strict") && report.misses() > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
