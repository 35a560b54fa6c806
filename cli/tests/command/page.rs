//! What docs/durable.md and docs/cli.md say is so.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::owner::Owner;
use crate::stage::{Folder, forebay};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(path).unwrap()
}

/// Each block of SQL with the line before it, which asks the question.
fn statements(page: &str) -> Vec<(String, String)> {
    let mut blocks = page.split("```sql\n");
    let mut before = blocks.next().unwrap();
    let mut found = Vec::new();
    for block in blocks {
        let question = before.trim_end().lines().last().unwrap().to_owned();
        let (statement, rest) = block.split_once("```").unwrap();
        found.push((question, statement.to_owned()));
        before = rest;
    }
    found
}

/// The statements a person is told to type: each finds something, in the file of a process that was killed or
/// in one that is shared.
#[test]
fn every_statement_finds_something() {
    let folder = Folder::new();
    let (owned, shared) = (folder.path("owned.db"), folder.path("shared.db"));
    let owner = Owner::of(&owned);
    let failed = owner.id("failed").to_owned();
    crate::stage::On(&owned).text(&["pause", "slow"]).ok();
    owner.kill();
    // The job that ran has brought its process down, which whoever opens the file next notes.
    crate::stage::On(&owned).text(&["resume", "mail"]).ok();
    let sharer = Owner::with(&shared, "?shared=true");
    let ids = [failed.as_str(), sharer.id("failed")];
    let files = [&owned, &shared].map(|path| Connection::open(path).unwrap());
    let statements = statements(&page("durable.md"));
    assert!(statements.len() >= 17, "{}", statements.len());
    for (question, statement) in statements {
        let found = files.iter().zip(ids).any(|(db, id)| finds(db, &statement, id));
        // Some questions are answered well by nothing.
        let none = question.contains("No row is the answer yes");
        assert_eq!(found, !none, "{question}\n{statement}");
    }
}

/// Whether a statement of the page, about this job where it is about one, finds something.
fn finds(db: &Connection, statement: &str, id: &str) -> bool {
    let example = "01980a3c-6f2e-7c31-a5b9-0d9e4c7b21f6";
    let plain = |id: &str| id.replace('-', "");
    let mine = statement
        .replace(example, id)
        .replace(&plain(example), &plain(id));
    let mut statement = db.prepare(&mine).unwrap_or_else(|e| panic!("{mine}\n{e}"));
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap().is_some()
}

/// Every column of the table is explained, and no other.
#[test]
fn every_column_is_explained() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    Owner::of(&path).stop();
    let db = Connection::open(&path).unwrap();
    let page = page("durable.md");
    let tables = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'
                  UNION SELECT name FROM pragma_table_info('jobs')";
    let mut statement = db.prepare(tables).unwrap();
    let names = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for name in names.map(Result::unwrap) {
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
}

/// Every verb and every option of the help is on the page, and each field of each answer.
#[test]
fn the_page_of_the_command_is_complete() {
    let page = page("cli.md");
    for verb in forebay_cli::arguments().get_subcommands() {
        let name = verb.get_name();
        assert!(
            page.contains(&format!("`{name}")),
            "the verb {name} is not on the page"
        );
        for option in verb.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(
                page.contains(&format!("--{option}")),
                "{name} --{option} is not on the page"
            );
        }
    }
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::of(&path);
    let on = crate::stage::On(&path);
    let dump = folder.path("dump");
    let dump = dump.to_str().unwrap();
    for arguments in [
        vec!["stats"],
        vec!["top"],
        vec!["show", owner.id("failed")],
        vec!["explain", owner.id("failed")],
        vec!["explain", "mail"],
        vec!["retry", owner.id("failed")],
        vec!["cancel", owner.id("queued")],
        vec!["pause", "mail"],
        vec!["purge", "mail", "--yes"],
        vec!["dump", dump],
        vec!["restore", dump],
        vec!["check"],
        vec!["list", "--count"],
    ] {
        let object = on.json(&arguments).ok().object();
        for field in object.as_object().unwrap().keys() {
            assert!(
                page.contains(&format!("`{field}`")),
                "{arguments:?}: {field} is not on the page"
            );
        }
    }
    drop(owner);
    let help = forebay(["--help"]).out;
    for code in 0..=4 {
        assert!(help.contains(&format!("\n  {code}  ")) && page.contains(&format!("\n| {code} | ")));
    }
}
