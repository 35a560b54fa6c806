//! Programs that are made of tables: each compares some contenders by figures of its own.

use std::process::ExitCode;

use crate::allocator;
use crate::arguments::Arguments;
use crate::figures::{Figures, medians, table};
use crate::round::{in_process, in_turn};

/// A table: what is measured, of whom, and how.
pub struct Table {
    /// Its name as an argument.
    pub name: &'static str,
    /// What it shows, for people.
    pub title: &'static str,
    /// Who has a row: the name of each, and what it is for people.
    pub contenders: &'static [(&'static str, &'static str)],
    /// One run of the contender of this name, in a process that is its own.
    pub measure: fn(&str, &Arguments) -> Figures,
}

/// The program: prints the tables that its arguments ask for, or makes the one run that it was started for.
pub fn run(tables: &[Table]) -> ExitCode {
    let arguments = Arguments::of_process();
    if let Some(name) = arguments.text("alone") {
        let measured = arguments
            .text("table")
            .and_then(|table| tables.iter().find(|t| t.name == table));
        let figures = (measured.expect("a table of this program").measure)(name, &arguments);
        println!(
            "{}",
            serde_json::to_string(&figures).expect("numbers can be written")
        );
        // Contenders whose workers are blocked cannot be dropped.
        std::process::exit(0);
    }
    let known = tables
        .iter()
        .map(|table| table.name)
        .collect::<Vec<_>>()
        .join(",");
    let wanted: Vec<String> = arguments.list("table", &known);
    for name in &wanted {
        let Some(table) = tables.iter().find(|table| table.name == name) else {
            eprintln!("no table is called {name:?}; there are {known}");
            return ExitCode::from(2);
        };
        compare(&arguments, table);
    }
    ExitCode::SUCCESS
}

/// Prints one table.
fn compare(arguments: &Arguments, measured: &Table) {
    let only: Vec<String> = arguments.list("only", "");
    let chosen: Vec<(&str, &str)> = measured
        .contenders
        .iter()
        .copied()
        .filter(|(name, _)| only.is_empty() || only.iter().any(|wanted| wanted == name))
        .collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let rounds = arguments.value("rounds", 5);
    let runs = in_turn(&names, rounds, |name| {
        // The first one of two equal arguments counts.
        let mut command = ["--table", measured.name, "--alone", name]
            .map(str::to_owned)
            .to_vec();
        command.extend(arguments.all().iter().cloned());
        in_process::<Figures>(&command)
    });
    let found = runs.iter().map(|runs| medians(runs));
    let rows: Vec<(&str, &str, Figures)> = chosen
        .into_iter()
        .zip(found)
        .map(|((name, title), f)| (name, title, f))
        .collect();
    if arguments.has("json") {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, title, figures)| serde_json::json!({"name": name, "title": title, "figures": figures}))
            .collect();
        let line = serde_json::json!({
            "table": measured.name, "title": measured.title, "allocator": allocator(), "rounds": rounds, "rows": rows,
        });
        println!("{line}");
    } else {
        println!(
            "\n{}, {}, medians of {rounds} in turn\n",
            measured.title,
            allocator()
        );
        let rows: Vec<_> = rows.iter().map(|(_, title, figures)| (*title, figures)).collect();
        print!("{}", table(&rows));
    }
}
