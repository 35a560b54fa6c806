//! What is measured of a whole process: memory of queued jobs, latency of a push at a steady rate, what a blocked
//! handler does to the others, what idling costs.
//!
//! ```text
//! cargo bench -p forebay-benches --bench process -- [options]
//!   --table memory,latency,blocked,idle   these tables     --rounds 5    runs of each contender, in turn
//!   --only rayon,forebay                  these contenders --json        a line per table instead
//! ```

mod process {
    pub mod idle;
    pub mod latency;
    pub mod memory;
}

use forebay_benches::allocator;
use forebay_benches::arguments::Arguments;
use forebay_benches::contenders::CONTENDERS;
use forebay_benches::figures::{Figures, medians, table};
use forebay_benches::round::{in_process, in_turn};
use process::{idle, latency, memory};

/// A table: what is measured, of whom, and how.
struct Table {
    name: &'static str,
    title: &'static str,
    contenders: &'static [&'static str],
    measure: fn(&str) -> Figures,
}

const TABLES: [Table; 4] = [
    Table {
        name: "memory",
        title: "1 000 000 queued jobs of 100 bytes, the only worker blocked",
        contenders: &[
            "rayon",
            "crossbeam",
            "threadpool",
            "tokio",
            "forebay",
            "forebay-many",
            "forebay-options",
        ],
        measure: memory::queued,
    },
    Table {
        name: "latency",
        title: "push to start of 100-byte jobs at 1 000 a second, two workers",
        contenders: &["rayon", "crossbeam", "tokio", "forebay"],
        measure: latency::steady,
    },
    Table {
        name: "blocked",
        title: "the same while one of the two workers is blocked in a handler",
        contenders: &["rayon", "crossbeam", "tokio", "forebay"],
        measure: latency::beside_a_blocked_handler,
    },
    Table {
        name: "idle",
        title: "two workers with nothing to do",
        contenders: &["rayon", "crossbeam", "tokio", "forebay"],
        measure: idle::nothing_to_do,
    },
];

fn main() {
    let arguments = Arguments::of_process();
    if let Some(name) = arguments.text("alone") {
        let measured = arguments
            .text("table")
            .and_then(|table| TABLES.iter().find(|t| t.name == table));
        let figures = (measured.expect("a table of this program").measure)(name);
        println!(
            "{}",
            serde_json::to_string(&figures).expect("numbers can be written")
        );
        // Contenders whose workers are blocked cannot be dropped.
        std::process::exit(0);
    }
    let wanted: Vec<String> = arguments.list("table", "memory,latency,blocked,idle");
    for table in TABLES
        .iter()
        .filter(|table| wanted.iter().any(|name| name == table.name))
    {
        compare(&arguments, table);
    }
}

/// Prints one table.
fn compare(arguments: &Arguments, measured: &Table) {
    let only: Vec<String> = arguments.list("only", "");
    let names: Vec<&str> = measured
        .contenders
        .iter()
        .copied()
        .filter(|name| only.is_empty() || only.iter().any(|wanted| wanted == name))
        .collect();
    let rounds = arguments.value("rounds", 5);
    let runs = in_turn(&names, rounds, |name| {
        in_process::<Figures>(&["--table", measured.name, "--alone", name].map(str::to_owned))
    });
    let rows: Vec<(&str, Figures)> = names
        .iter()
        .copied()
        .zip(runs.iter().map(|runs| medians(runs)))
        .collect();
    if arguments.has("json") {
        let rows: Vec<_> = rows
            .iter()
            .map(
                |(name, figures)| serde_json::json!({"name": name, "title": title(name), "figures": figures}),
            )
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
        print!(
            "{}",
            table(
                &rows
                    .iter()
                    .map(|(name, figures)| (title(name), figures))
                    .collect::<Vec<_>>()
            )
        );
    }
}

/// What a contender is, for people.
fn title(name: &str) -> &'static str {
    CONTENDERS
        .iter()
        .find(|(other, _)| *other == name)
        .map_or("?", |(_, title)| title)
}
