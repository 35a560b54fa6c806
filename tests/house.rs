//! The house rules that a compiler cannot see: who may know whom, and who may ask what time it is.
//!
//! An arrow points at what may be imported:
//!
//! ```text
//! id, time, error ← job, retry, outcome, config, event ← engine (trait) ← engine/{memory, …}
//! engine (trait), outcome, admission ← dispatcher ← worker, stats ← dump ← python | cbind
//! ```
//!
//! An import against the arrow is how a core stops being small: a store that knows retry rules has to be
//! written once per store. Code that is compiled for tests only may look anywhere.

use forebay_tests::source::{Mention, Sources};
use forebay_tests::{files, root};

/// What a module and everything below it must never mention.
struct Rule {
    from: &'static str,
    never: &'static [&'static str],
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        from: "forebay::job",
        never: ABOVE_THE_MODEL,
        because: "the model is values: now and randomness are arguments",
    },
    Rule {
        from: "forebay::outcome",
        never: ABOVE_THE_MODEL,
        because: "decide() is a pure function: now and randomness are arguments",
    },
    Rule {
        from: "forebay::retry",
        never: ABOVE_THE_MODEL,
        because: "a retry policy is a pure function: now and randomness are arguments",
    },
    Rule {
        from: "forebay::admission",
        never: ABOVE_THE_MODEL,
        because: "a rule against overload is a pure function of what was counted: now and randomness are arguments",
    },
    Rule {
        from: "forebay::engine::memory",
        never: &[
            "forebay::dispatcher",
            "forebay::worker",
            "forebay::retry",
            "forebay::config",
            "forebay::dump",
            "forebay::conformance",
            "forebay::engine::sql",
            "forebay::engine::redis",
            "forebay::engine::durable",
        ],
        because: "an engine only stores: rules it knows would have to be repeated in every other engine",
    },
    Rule {
        from: "forebay::engine::durable",
        never: &[
            "forebay::dispatcher",
            "forebay::worker",
            "forebay::retry",
            "forebay::config",
            "forebay::dump",
            "forebay::conformance",
            "forebay::engine::sqlite",
        ],
        because: "the durable engine stores what the memory engine holds, and decides nothing",
    },
    Rule {
        from: "forebay::engine::still",
        never: &[
            "forebay::dispatcher",
            "forebay::worker",
            "forebay::retry",
            "forebay::config",
            "forebay::dump",
            "forebay::file",
            "forebay::conformance",
            "forebay::engine::memory",
        ],
        because: "an engine only stores: what it shows is given to it",
    },
    Rule {
        from: "forebay::engine::sqlite",
        never: &[
            "forebay::dispatcher",
            "forebay::worker",
            "forebay::config",
            "forebay::dump",
            "forebay::conformance",
            "forebay::engine::memory",
            "forebay::engine::durable",
            "forebay::time::SystemClock",
        ],
        because: "an engine only stores, and knows neither rules nor other engines nor what time it is",
    },
    Rule {
        from: "forebay::dispatcher",
        never: &[
            "forebay::engine::memory",
            "forebay::engine::durable",
            "forebay::engine::sqlite",
            "forebay::dump",
            "forebay::conformance",
        ],
        because: "the dispatcher knows the trait; an engine is chosen by its URL, in open.rs",
    },
    Rule {
        from: "forebay::worker",
        never: &["forebay::engine"],
        because: "a worker sees a dispatcher and leases, nothing below them",
    },
    Rule {
        from: "forebay::forward",
        never: &["forebay::engine", "forebay::dump", "forebay::worker"],
        because: "a forwarder sees a dispatcher and leases, and another dispatcher behind a sink",
    },
    Rule {
        from: "forebay::control",
        never: &[
            "forebay::engine",
            "forebay::dump",
            "forebay::config",
            "forebay::conformance",
        ],
        because: "the control socket answers through the dispatcher, whatever engine that has",
    },
    Rule {
        from: "forebay::conformance",
        never: &["forebay::engine::memory", "forebay::engine::sqlite"],
        because: "the suite tests the contract, so that every engine can be held to it",
    },
    Rule {
        from: CLI,
        never: &["forebay::engine", PYTHON, CBIND, "rusqlite"],
        because: "the command asks: of what a file is made it need not know",
    },
    Rule {
        from: PYTHON,
        never: &["forebay::engine::memory", CBIND],
        because: "a binding only translates: engines are chosen by URL, and no binding stands on another",
    },
    Rule {
        from: CBIND,
        never: &["forebay::engine::memory", PYTHON, "pyo3"],
        because: "a binding only translates: engines are chosen by URL, and no binding stands on another",
    },
];

const ABOVE_THE_MODEL: &[&str] = &[
    "forebay::engine",
    "forebay::dispatcher",
    "forebay::worker",
    "forebay::time::Clock",
];

/// Mentions that break a rule and are let be for now, as (module, what it mentions). `JobRef` is a plain
/// value, a job under one claim, that stands in the engine's module only because engines need it most.
const PARDONED: &[(&str, &str)] = &[];

/// The command.
const CLI: &str = "forebay_cli";
/// The crates of the bindings, by the names other crates would import them under.
const PYTHON: &str = "forebay_python";
const CBIND: &str = "forebay_cbind";

/// The only file of the core that may read a clock.
const CLOCK: &str = "core/src/time.rs";
const CLOCK_READERS: &[&str] = &["std::time::SystemTime::now", "std::time::Instant::now"];

#[test]
fn nobody_imports_against_the_arrow() {
    let mut mentions = real_sources().mentions();
    mentions.retain(|mention| !PARDONED.iter().any(|pardon| is_pardoned(mention, pardon)));
    assert_eq!(against_the_arrow(&mentions), Vec::<String>::new());
}

/// A pardon nobody needs any more would quietly cover the next violation.
#[test]
fn every_pardon_is_needed() {
    let mentions = real_sources().mentions();
    for pardon in PARDONED {
        assert!(
            mentions.iter().any(|mention| is_pardoned(mention, pardon)),
            "{pardon:?} is not mentioned any more: take it off the list"
        );
    }
}

#[test]
fn only_the_clock_reads_the_clock() {
    assert_eq!(clock_readers(&real_sources().mentions()), Vec::<String>::new());
}

/// Cargo looks for tests in `tests/tests/` here, so a file it was not told of would never run.
#[test]
fn every_test_file_is_a_target() {
    let manifest =
        std::fs::read_to_string(root().join("tests/Cargo.toml")).expect("the manifest of this test");
    for (file, text) in files("tests", "rs") {
        let below = file.strip_prefix("tests/").expect("below tests/");
        let own_target = !below.starts_with("src/") && text.contains("#[test]");
        assert!(
            !own_target || manifest.contains(&format!("path = \"{below}\"")) || is_module_of_another(&file),
            "{file} has tests that never run: give it a [[test]] in tests/Cargo.toml"
        );
    }
}

/// Whether a test file is brought in by a `mod` of one beside or above it.
fn is_module_of_another(file: &str) -> bool {
    let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let (folder, name) = stem.rsplit_once('/').expect("below tests/");
    files(folder, "rs")
        .into_iter()
        .chain(std::fs::read_to_string(root().join(format!("{folder}.rs"))).map(|text| (String::new(), text)))
        .any(|(other, text)| other != file && text.contains(&format!("mod {name};")))
}

fn real_sources() -> Sources {
    let core = files("core/src", "rs");
    assert!(
        !core.is_empty(),
        "no sources of the core found below {}",
        root().display()
    );
    let python = files("python/src", "rs");
    let cbind = files("cbind/src", "rs");
    let cli = files("cli/src", "rs");
    Sources::read(
        [
            ("forebay", &core),
            (CLI, &cli),
            (PYTHON, &python),
            (CBIND, &cbind),
        ]
        .into_iter()
        .flat_map(|(name, files)| {
            files
                .iter()
                .map(move |(file, text)| (file.as_str(), name, text.as_str()))
        }),
    )
}

fn against_the_arrow(mentions: &[Mention]) -> Vec<String> {
    let mut found = Vec::new();
    for mention in mentions.iter().filter(|mention| !mention.test) {
        for rule in RULES.iter().filter(|rule| is_below(&mention.from, rule.from)) {
            if rule.never.iter().any(|never| is_below(&mention.to, never)) {
                let Mention { file, line, to, .. } = mention;
                let (from, because) = (rule.from, rule.because);
                found.push(format!(
                    "{file}:{line}: {from} mentions {}: {because}",
                    to.join("::")
                ));
            }
        }
    }
    found
}

fn clock_readers(mentions: &[Mention]) -> Vec<String> {
    mentions
        .iter()
        .filter(|mention| mention.file.starts_with("core/src/") && mention.file != CLOCK)
        .filter(|mention| CLOCK_READERS.iter().any(|reader| is_below(&mention.to, reader)))
        .map(|mention| {
            let Mention { file, line, to, .. } = mention;
            format!(
                "{file}:{line}: {} outside {CLOCK}: take `now` as an argument",
                to.join("::")
            )
        })
        .collect()
}

fn is_pardoned(mention: &Mention, (from, to): &(&str, &str)) -> bool {
    is_below(&mention.from, from) && is_below(&mention.to, to)
}

/// Whether a path is `module` or leads below it.
fn is_below(path: &[String], module: &str) -> bool {
    let mut path = path.iter();
    module
        .split("::")
        .all(|part| path.next().is_some_and(|found| found == part))
}

// ---- the checker, on violations planted in front of it -----------------------------------------------

/// The files of a small core that keeps every rule, with one of them replaced.
fn planted(file: &str, crate_name: &str, text: &str) -> Vec<Mention> {
    let sound = [
        (
            "core/src/lib.rs",
            "pub use dispatcher::Dispatcher; pub use engine::memory::Memory;",
        ),
        (
            "core/src/time.rs",
            "pub struct Clock; pub struct Timestamp; fn f() { std::time::Instant::now(); }",
        ),
        ("core/src/job.rs", "use crate::time::Timestamp;"),
        ("core/src/outcome.rs", "use crate::job::Job;"),
        ("core/src/retry.rs", "use std::time::Duration;"),
        (
            "core/src/engine/mod.rs",
            "pub mod memory; pub use memory::Memory;",
        ),
        (
            "core/src/engine/memory/mod.rs",
            "use super::Engine; use crate::job::Job; pub struct Memory;",
        ),
        (
            "core/src/dispatcher/mod.rs",
            "use crate::engine::Engine; pub struct Dispatcher;",
        ),
        ("core/src/worker/mod.rs", "use crate::Dispatcher;"),
        ("core/src/conformance/mod.rs", "use crate::engine::Engine;"),
        ("core/src/open.rs", "use crate::engine::memory::Memory;"),
    ];
    let files = sound
        .into_iter()
        .filter(|(sound, _)| *sound != file)
        .map(|(file, text)| (file, "forebay", text));
    Sources::read(files.chain([(file, crate_name, text)])).mentions()
}

#[test]
fn a_sound_house_passes() {
    let mentions = planted("core/src/open.rs", "forebay", "");
    assert_eq!(against_the_arrow(&mentions), Vec::<String>::new());
    assert_eq!(clock_readers(&mentions), Vec::<String>::new());
}

#[test]
fn a_planted_violation_is_found() {
    for (file, crate_name, text) in [
        ("core/src/job.rs", "forebay", "use crate::engine::Engine;"),
        (
            "core/src/job.rs",
            "forebay",
            "use crate::time::{Clock, Timestamp};",
        ),
        (
            "core/src/outcome.rs",
            "forebay",
            "use super::dispatcher::Dispatcher;",
        ),
        ("core/src/outcome.rs", "forebay", "use crate::Dispatcher;"),
        ("core/src/retry.rs", "forebay", "fn f() { crate::worker::run(); }"),
        (
            "core/src/engine/memory/mod.rs",
            "forebay",
            "use crate::retry::RetryPolicy;",
        ),
        (
            "core/src/engine/memory/lanes.rs",
            "forebay",
            "use super::super::super::config::Options;",
        ),
        (
            "core/src/engine/memory/mod.rs",
            "forebay",
            "use super::sql::Schema;",
        ),
        (
            "core/src/dispatcher/mod.rs",
            "forebay",
            "use crate::engine::{Engine, memory::Memory};",
        ),
        (
            "core/src/dispatcher/mod.rs",
            "forebay",
            "use crate::engine::Memory;",
        ),
        (
            "core/src/dispatcher/slots.rs",
            "forebay",
            "use crate::engine as e; fn f() { e::memory::new(); }",
        ),
        (
            "core/src/dispatcher/slots.rs",
            "forebay",
            "use crate::dump::dump;",
        ),
        (
            "core/src/worker/threads.rs",
            "forebay",
            "use crate::engine::Engine;",
        ),
        ("core/src/conformance/mod.rs", "forebay", "use crate::Memory;"),
        (
            "python/src/lib.rs",
            PYTHON,
            "use forebay::engine::memory::Memory;",
        ),
        ("python/src/lib.rs", PYTHON, "use forebay::Memory;"),
        ("python/src/lib.rs", PYTHON, "fn f() { forebay_cbind::open(); }"),
        (
            "cbind/src/lib.rs",
            CBIND,
            "use forebay::{engine::{self, memory}};",
        ),
        (
            "cbind/src/lib.rs",
            CBIND,
            "use forebay_core::engine::memory::Memory;",
        ),
        ("cbind/src/lib.rs", CBIND, "use pyo3::prelude::*;"),
        ("cli/src/verbs.rs", CLI, "use forebay::engine::Engine;"),
    ] {
        let found = against_the_arrow(&planted(file, crate_name, text));
        assert_eq!(found.len(), 1, "{file}: {text}: {found:?}");
        assert!(found[0].starts_with(&format!("{file}:1: ")), "{}", found[0]);
    }
}

#[test]
fn what_only_tests_import_is_free() {
    let text = "#[cfg(test)] mod tests { use crate::engine::memory::Memory; }";
    assert!(against_the_arrow(&planted("core/src/dispatcher/mod.rs", "forebay", text)).is_empty());
}

#[test]
fn a_planted_clock_reader_is_found() {
    for text in [
        "use std::time::Instant; fn f() { Instant::now(); }",
        "use std::time::{self, Duration}; fn f() { time::SystemTime::now(); }",
        "fn f() { let _ = std::time::Instant::now; }",
        "#[cfg(test)] mod tests { use std::time::Instant as I; fn f() { I::now(); } }",
    ] {
        assert_eq!(
            clock_readers(&planted("core/src/retry.rs", "forebay", text)).len(),
            1,
            "{text}"
        );
    }
}
