//! Files that nobody has open: of a process that ended, of one that was killed, and dumps.

use std::fs;

use crate::owner::Owner;
use crate::stage::{Folder, On};

#[test]
fn a_file_at_rest_is_looked_at_and_stays_as_it_is() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let ids = Owner::of(&path).stop();
    let on = On(&path);
    let before = folder.all();
    assert!(!before.contains_key("jobs.db.sock"), "the owner took it away");
    on.text(&["stats"])
        .ok()
        .says(&["no process has it open", "mail", "slow"]);
    assert_eq!(on.json(&["list"]).ok().lines().len(), 7);
    on.text(&["show", &ids["failed"]])
        .ok()
        .says(&["failed", "no such \\u{202e}address"]);
    let why = on.json(&["explain", &ids["queued"]]).ok().object();
    assert_eq!(why["reasons"][0]["name"], "not_open");
    on.text(&["explain", "mail"])
        .ok()
        .says(&["no process has the file open"]);
    on.json(&["top"]).code(0);
    on.text(&["check"]).ok().says(&["sound; a database"]);
    assert_eq!(folder.all(), before);
    assert_eq!(
        on.json(&["dump", folder.path("dump").to_str().unwrap()])
            .ok()
            .object()["jobs"],
        3
    );
    let mut after = folder.all();
    after.remove("dump");
    assert_eq!(after, before);
}

#[test]
fn a_file_at_rest_is_changed_by_the_command_itself() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let ids = Owner::of(&path).stop();
    let on = On(&path);
    let state = |id: &str| on.json(&["show", id]).ok().object()["state"].clone();
    assert_eq!(
        on.json(&["cancel", &ids["queued"]]).ok().object()["state"],
        "cancelled"
    );
    assert_eq!(state(&ids["queued"]), "cancelled");
    on.text(&["pause", "mail"]).ok();
    on.text(&["stats"]).ok().says(&["paused"]);
    on.text(&["resume", "mail"]).ok();
    let again = on
        .json(&["retry", &ids["failed"], "--input", "other"])
        .ok()
        .object();
    assert_eq!(state(again["id"].as_str().unwrap()), "queued");
    assert_eq!(on.json(&["purge", "slow", "--yes"]).ok().object()["purged"], 2);
    assert_eq!(state(&ids["scheduled"]), "cancelled");
    assert_eq!(
        state(&ids["succeeded"]),
        "succeeded",
        "nothing was forgotten meanwhile"
    );
    on.text(&["check"]).ok();
    // And its owner finds all of it.
    let owner = Owner::of(&path);
    assert_eq!(on.json(&["list", "--count"]).ok().object()["total"], 8);
    drop(owner);
}

#[test]
fn the_file_of_a_killed_process_is_looked_at_and_recovered() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let ids = Owner::of(&path).kill();
    assert!(path.with_extension("db.sock").exists(), "nobody took it away");
    let on = On(&path);
    let before = fs::read(&path).unwrap();
    let log = fs::read(path.with_extension("db-wal")).unwrap();
    assert!(!log.is_empty());
    on.text(&["stats"]).ok().says(&["no process has it open"]);
    assert_eq!(on.json(&["list"]).ok().lines().len(), 7);
    assert_eq!(
        on.json(&["show", &ids["failed"]]).ok().object()["state"],
        "failed"
    );
    on.text(&["check"]).ok();
    assert!(fs::read(&path).unwrap() == before);
    assert!(fs::read(path.with_extension("db-wal")).unwrap() == log);

    // A change opens it as its owner would: the job that ran has lost its process, and its last attempt.
    on.text(&["cancel", &ids["queued"]]).ok();
    let ran = on.json(&["show", &ids["running"]]).ok().object();
    assert_eq!(
        (&ran["crashes"], &ran["attempt"]),
        (&1.into(), &1.into()),
        "{ran}"
    );
    on.text(&["check"]).ok();
    assert!(!path.with_extension("db.sock").exists() || on.json(&["stats"]).code == 0);
}

#[test]
fn a_dump_is_only_looked_at() {
    let folder = Folder::new();
    let (path, dump) = (folder.path("jobs.db"), folder.path("jobs.dump"));
    let owner = Owner::of(&path);
    On(&path).text(&["dump", dump.to_str().unwrap()]).ok();
    let ids = owner.stop();
    let on = On(&dump);
    let before = fs::read(&dump).unwrap();
    on.text(&["stats"]).ok().says(&["a dump", "mail", "slow"]);
    assert_eq!(on.json(&["list"]).ok().lines().len(), 4);
    assert_eq!(
        on.json(&["list", "--state", "running"]).ok().object()["id"],
        ids["running"]
    );
    let why = on.json(&["explain", &ids["queued"]]).ok().object();
    assert_eq!(why["reasons"][0]["name"], "dump");
    assert_eq!(
        on.text(&["show", &ids["queued"], "--input"]).ok().out,
        "{\"to\":\"you\"}"
    );
    on.text(&["show", &ids["failed"]])
        .code(1)
        .complains(&["there is no job"]);
    on.text(&["check"])
        .ok()
        .says(&["a dump of version 1 with 4 sound jobs"]);
    on.text(&["cancel", &ids["queued"]])
        .code(4)
        .complains(&["only looked at", "restore it"]);
    on.text(&["salvage", folder.path("new").to_str().unwrap()])
        .code(4)
        .complains(&["is a dump"]);
    assert!(fs::read(&dump).unwrap() == before);
    let copy = folder.path("copy");
    on.text(&["dump", copy.to_str().unwrap()]).ok();
    let jobs = |bytes: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[1..lines.len() - 1].to_vec()
    };
    assert_eq!(jobs(fs::read(copy).unwrap()), jobs(before));
}
