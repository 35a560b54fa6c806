//! What is measured of a whole process: memory of queued jobs, latency of a push at a steady rate, what a blocked
//! handler does to the others, what idling costs, what the rules against overload and concurrency keys cost.
//!
//! ```text
//! cargo bench -p forebay-benches --bench process -- [options]
//!   --table memory,latency,blocked,idle,policies,keys   these tables   --rounds 5   runs of each contender, in turn
//!   --only rayon,forebay                           these contenders   --json   a line per table instead
//! ```

mod process {
    pub mod idle;
    pub mod keys;
    pub mod latency;
    pub mod memory;
    pub mod policies;
}

use std::process::ExitCode;

use forebay_benches::tables::{Table, run};
use process::{idle, keys, latency, memory, policies};

const RAYON: (&str, &str) = ("rayon", "`rayon::spawn`");
const CROSSBEAM: (&str, &str) = ("crossbeam", "crossbeam channel of boxed payloads, unbounded");
const TOKIO: (&str, &str) = ("tokio", "`tokio::spawn`, multi-thread");
const FOREBAY: (&str, &str) = ("forebay", "Forebay `push`");

const TABLES: [Table; 6] = [
    Table {
        name: "memory",
        title: "1 000 000 queued jobs of 100 bytes, the only worker blocked",
        contenders: &[
            RAYON,
            CROSSBEAM,
            ("threadpool", "`threadpool::execute`"),
            TOKIO,
            FOREBAY,
            ("forebay-many", "Forebay `push_many` (64)"),
            (
                "forebay-options",
                "Forebay `push` with timeout, priority and result",
            ),
        ],
        measure: |name, _| memory::queued(name),
    },
    Table {
        name: "latency",
        title: "push to start of 100-byte jobs at 1 000 a second, two workers",
        contenders: &[RAYON, CROSSBEAM, TOKIO, FOREBAY],
        measure: |name, _| latency::steady(name),
    },
    Table {
        name: "blocked",
        title: "the same while one of the two workers is blocked in a handler",
        contenders: &[RAYON, CROSSBEAM, TOKIO, FOREBAY],
        measure: |name, _| latency::beside_a_blocked_handler(name),
    },
    Table {
        name: "idle",
        title: "two workers with nothing to do",
        contenders: &[RAYON, CROSSBEAM, TOKIO, FOREBAY],
        measure: |name, _| idle::nothing_to_do(name),
    },
    Table {
        name: "policies",
        title: "one thread that pushes 1 000 jobs of 100 bytes and runs them, in turns; nothing is ever stopped",
        contenders: &[
            ("plain", "no rule"),
            ("reject", "`capacity`, `reject`"),
            ("drop-oldest", "`capacity`, `drop_oldest`"),
            ("bytes", "`capacity_bytes`, `drop_oldest`"),
            ("delay", "`delay_target`, `newest_first`"),
            ("budget", "`retry_budget`"),
            ("all", "bytes, `drop_oldest`, delay and budget together"),
            ("keys-10", "10 concurrency keys, `key_concurrency`"),
            ("keys-1000", "1 000 concurrency keys, `key_concurrency`"),
        ],
        measure: |name, _| policies::unstopped(name),
    },
    Table {
        name: "keys",
        title: "1 000 000 jobs of 100 bytes pushed, then run 64 at a time, by one thread; no finished one is kept",
        contenders: &[
            ("plain", "no concurrency key"),
            ("header", "no concurrency key, but a header"),
            ("one-key", "one key"),
            ("1000-keys", "1 000 keys"),
            ("million-keys", "1 000 000 keys"),
            ("million-limited", "1 000 000 keys, `key_concurrency=1`"),
            ("million-rated", "1 000 000 keys, `key_rate=1000/s`"),
        ],
        measure: |name, _| keys::backlog(name),
    },
];

fn main() -> ExitCode {
    run(&TABLES)
}
