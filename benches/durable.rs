//! What it costs to keep jobs on the disk, beside the least that can be done: a bare log, a bare SQLite table.
//!
//! ```text
//! cargo bench -p forebay-benches --bench durable -- [options]
//!   --table one,callers-64,...   these tables     --rounds 5      runs of each contender, in turn
//!   --only append,sqlite         these contenders --json          a line per table instead
//!   --jobs 20000                 jobs of a run    --folder PATH   on this disk
//! ```

mod durable {
    pub mod pushes;
}

use std::process::ExitCode;

use durable::pushes;
use forebay_benches::tables::{Table, run};

const TABLES: [Table; 3] = [
    Table {
        name: "one",
        title: "one caller, each push returns when its 100-byte record is on the disk",
        contenders: &[
            ("append", "bare log, appended"),
            ("overwrite", "bare log, overwritten"),
            (
                "sqlite",
                "bare SQLite table, a transaction per insert, `synchronous=FULL`",
            ),
        ],
        measure: |name, arguments| pushes::by_callers(name, 1, arguments),
    },
    Table {
        name: "callers-64",
        title: "64 callers, each push returns when its 100-byte record is on the disk",
        contenders: GROUPED,
        measure: |name, arguments| pushes::by_callers(name, 64, arguments),
    },
    Table {
        name: "callers-256",
        title: "256 callers, each push returns when its 100-byte record is on the disk",
        contenders: GROUPED,
        measure: |name, arguments| pushes::by_callers(name, 256, arguments),
    },
];

const GROUPED: &[(&str, &str)] = &[
    ("group-append", "bare log, appended, a thread writes groups"),
    ("group-overwrite", "bare log, overwritten, a thread writes groups"),
    ("follow-append", "bare log, appended, a caller writes the group"),
    (
        "follow-overwrite",
        "bare log, overwritten, a caller writes the group",
    ),
    (
        "group-sqlite",
        "bare SQLite table, `synchronous=FULL`, a thread writes groups",
    ),
];

fn main() -> ExitCode {
    run(&TABLES)
}
