//! What it costs to keep jobs on the disk, beside the least that can be done: a bare log, a bare SQLite table.
//!
//! ```text
//! cargo bench -p forebay-benches --bench durable -- [options]
//!   --table one,callers-64,...   these tables     --rounds 5      runs of each contender, in turn
//!   --only append,sqlite         these contenders --json          a line per table instead
//!   --jobs 20000                 jobs of a run    --folder PATH   on this disk
//! ```

mod durable {
    pub mod backlog;
    pub mod idle;
    pub mod life;
    pub mod pushes;
    pub mod wal;
}

use std::process::ExitCode;

use durable::{backlog, idle, life, pushes};
use forebay_benches::tables::{Table, run};

const DISK: (&str, &str) = ("forebay", "Forebay, `disk`");
const OS: (&str, &str) = ("forebay-os", "Forebay, `os`");

/// What serves many callers at once.
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
    DISK,
    OS,
];

const TABLES: [Table; 9] = [
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
            DISK,
        ],
        measure: |name, arguments| pushes::by_callers(name, 1, arguments),
    },
    Table {
        name: "callers-64",
        title: "64 callers, each push returns when its 100-byte record is as safe as said",
        contenders: GROUPED,
        measure: |name, arguments| pushes::by_callers(name, 64, arguments),
    },
    Table {
        name: "callers-256",
        title: "256 callers, each push returns when its 100-byte record is as safe as said",
        contenders: GROUPED,
        measure: |name, arguments| pushes::by_callers(name, 256, arguments),
    },
    Table {
        name: "life",
        title: "jobs of 100 bytes pushed, run by 2 workers, and their ends on the disk",
        contenders: &[
            ("64-pushers", "`disk`, 64 pushers, one job per push"),
            ("many-64", "`disk`, one pusher, `push_many` of 64"),
            ("4-many-64", "`disk`, four pushers, `push_many` of 64"),
            ("many-1000", "`disk`, one pusher, `push_many` of 1000"),
            ("64-pushers-os", "`os`, 64 pushers, one job per push"),
            (
                "shared-64-pushers",
                "`?shared=true`, `disk`, 64 pushers, one job per push",
            ),
            (
                "shared-many-1000",
                "`?shared=true`, `disk`, one pusher, `push_many` of 1000",
            ),
        ],
        measure: life::pushed_run_done,
    },
    Table {
        name: "at-memory",
        title: "the same at `memory`, 2 pushers, beside the engine that has nothing else",
        contenders: &[
            ("memory-engine", "`memory:`"),
            ("at-memory", "`sqlite:`, pushes at `memory`"),
            ("memory-engine-4096", "`memory:`, capacity 4096, block"),
            (
                "at-memory-4096",
                "`sqlite:`, pushes at `memory`, capacity 4096, block",
            ),
        ],
        measure: life::pushed_run_done,
    },
    Table {
        name: "long-queue",
        title: "one job after the other while others wait, pushes at `memory`",
        contenders: &[("1000", "1 000 jobs wait"), ("1000000", "1 000 000 jobs wait")],
        measure: backlog::claims,
    },
    Table {
        name: "recovery",
        title: "1 000 000 jobs of 100 bytes, left by a process that died, are opened",
        contenders: &[("forebay", "Forebay")],
        measure: backlog::recovery,
    },
    Table {
        name: "spill",
        title: "10 000 000 jobs of 100 bytes wait, option `resident` 100 000",
        contenders: &[("forebay", "Forebay")],
        measure: backlog::spilled,
    },
    Table {
        name: "idle-store",
        title: "a file, two workers, nothing to do",
        contenders: &[
            ("forebay", "Forebay, `sqlite:`"),
            ("forebay-shared", "Forebay, `sqlite:`, `?shared=true`"),
        ],
        measure: idle::nothing_to_do,
    },
];

fn main() -> ExitCode {
    run(&TABLES)
}
