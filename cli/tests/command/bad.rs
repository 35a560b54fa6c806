//! Arguments and files that cannot be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::owner::Owner;
use crate::stage::{Folder, On, Run, forebay};

#[test]
fn arguments_that_make_no_sense() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::of(&path);
    let name = path.to_str().unwrap();
    let id = owner.id("queued");
    for (arguments, text) in [
        (vec![], "Usage"),
        (vec![name], "Usage"),
        (vec!["stats"], "no file is named"),
        (vec!["", "stats"], "empty"),
        (vec!["memory:", "stats"], "its dump"),
        (vec![name, "dance"], "unrecognized subcommand"),
        (vec![name, "stats", "more"], "unexpected argument"),
        (vec![name, "show"], "<ID>"),
        (vec![name, "show", id, id], "unexpected argument"),
        (vec![name, "show", "garbage"], "must be a UUID"),
        (vec![name, "cancel", "\u{1b}[31m"], "must be a UUID"),
        (
            vec![name, "retry", id, "--input", "a", "--input-file", "b"],
            "cannot be used with",
        ),
        (
            vec![name, "retry", id, "--content-type", "x/y"],
            "type of another input",
        ),
        (
            vec![name, "list", "--state", "happy"],
            "there are blocked, scheduled",
        ),
        (vec![name, "list", "--limit", "0"], "from 1"),
        (vec![name, "list", "--limit", "many"], "from 1"),
        (vec![name, "list", "--older", "soon"], "soon"),
        (vec![name, "list", "--after", "garbage"], "must be a UUID"),
        (vec![name, "list", "--all", "--limit", "3"], "cannot be used with"),
        (vec![name, "show", id, "--input", "--json"], "cannot be used with"),
        (vec![name, "pause"], "<QUEUE>"),
    ] {
        let run = forebay(&arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}{}", run.out, run.err);
        assert_eq!(run.out, "");
        assert!(run.err.contains(text), "{arguments:?}: {}", run.err);
        assert!(!run.err.contains('\u{1b}'), "{:?}", run.err);
    }
    let nobody = "00000000-0000-7000-8000-000000000000";
    let on = On(&path);
    for arguments in [
        vec!["show", nobody],
        vec!["show", nobody, "--input"],
        vec!["explain", nobody],
        vec!["explain", "no-queue"],
        vec!["retry", nobody],
        vec!["retry", nobody, "--input", "x"],
        vec!["cancel", nobody],
        vec!["pause", "no-queue"],
        vec!["resume", "no-queue"],
        vec!["purge", "no-queue", "--yes"],
    ] {
        let run = on.text(&arguments).code(1);
        assert!(
            run.out.is_empty() && run.err.starts_with("forebay: "),
            "{arguments:?}: {}",
            run.err
        );
    }
    // A URL would end there, and name another file.
    let strange = folder.path("jobs?shared=true");
    fs::copy(&path, &strange).unwrap();
    forebay([strange.to_str().unwrap(), "pause", "mail"])
        .code(4)
        .complains(&["question mark"]);
    assert!(!folder.path("jobs").exists());
    let run = on.json(&["show", nobody]).code(1);
    let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(
        (&error["error"]["kind"], &error["error"]["exit_code"]),
        (&"NotFound".into(), &1.into())
    );
}

#[test]
fn help_and_version_are_answers() {
    let help = forebay(["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    help.says(&["Exit codes:", "salvage", "FOREBAY_DB"]);
    forebay(["list", "--help"]).ok().says(&["--state", "--after"]);
    forebay(["--version"]).ok().says(&[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn files_that_are_none_of_ours() {
    let folder = Folder::new();
    fs::write(folder.path("empty"), "").unwrap();
    fs::write(folder.path("text"), "hello").unwrap();
    fs::write(folder.path("headless"), "SQLite format 3\0 and nothing else").unwrap();
    fs::write(folder.path("cut.dump"), "{\"forebay_dump\":1,\"created_us\":1}\n").unwrap();
    fs::write(
        folder.path("future.dump"),
        "{\"forebay_dump\":99,\"created_us\":1}\n",
    )
    .unwrap();
    let db = rusqlite::Connection::open(folder.path("theirs.db")).unwrap();
    db.execute_batch("CREATE TABLE jobs (x)").unwrap();
    let ours = folder.path("ours.db");
    Owner::of(&ours).stop();
    fs::copy(&ours, folder.path("future.db")).unwrap();
    let db = rusqlite::Connection::open(folder.path("future.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let before = folder.all();
    for (name, text) in [
        ("none", "No such file"),
        (".", "directory"),
        ("empty", "neither"),
        ("text", "neither"),
        ("headless", "headless"),
        ("theirs.db", "another program"),
        ("future.db", "newer version"),
        ("cut.dump", "damaged"),
        ("future.dump", "newer build"),
    ] {
        let path = folder.path(name);
        let id = "00000000-0000-7000-8000-000000000000";
        for arguments in [vec!["stats"], vec!["list"], vec!["show", id], vec!["top"]] {
            let run = On(&path).text(&arguments).code(3);
            assert!(run.err.contains(text), "{name} {arguments:?}: {}", run.err);
        }
        let changed = On(&path).text(&["cancel", id]);
        let code = if name == "cut.dump" || name == "future.dump" {
            4
        } else {
            3
        };
        assert_eq!(changed.code, code, "{name}: {}", changed.err);
        let checked = On(&path).text(&["check"]);
        assert_eq!(checked.code, 3, "{name}: {}{}", checked.out, checked.err);
    }
    let mut after = folder.all();
    // A lock is taken before a file is believed, and stays.
    after.retain(|name, _| !name.ends_with(".lock") || before.contains_key(name));
    let names = |all: &BTreeMap<String, (usize, u64)>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    assert!(after == before);
    On(&ours)
        .text(&["restore", folder.path("none").to_str().unwrap()])
        .code(3)
        .complains(&["No such file"]);
    On(&ours)
        .text(&["restore", folder.path("text").to_str().unwrap()])
        .code(3)
        .complains(&["neither"]);
    let new = folder.path("new.db");
    On(&new)
        .text(&["restore", folder.path("cut.dump").to_str().unwrap()])
        .code(3)
        .complains(&["damaged"]);
    assert!(!new.exists());
    let nowhere = folder.path("no/such/folder/dump");
    On(&ours).text(&["dump", nowhere.to_str().unwrap()]).code(3);
}

/// The command as another user; only root can become one.
fn as_another(folder: &Folder, arguments: &[&str]) -> Option<Run> {
    // SAFETY: the call cannot fail and touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        println!("SKIP: only root can run the command as another user");
        return None;
    }
    // Where the other user is sure to find it. Copied by another process: a program that this one has open for
    // writing, if only in a child that another test forks just then, cannot be run.
    let program = folder.path("forebay");
    let copied = Command::new("cp")
        .args([env!("CARGO_BIN_EXE_forebay").as_ref(), program.as_os_str()])
        .status();
    assert!(copied.unwrap().success());
    Some(Run::new(
        Command::new(program).args(arguments).uid(65534).output().unwrap(),
    ))
}

#[test]
fn a_file_that_may_not_be_read() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    Owner::of(&path).stop();
    if let Some(run) = as_another(&folder, &[path.to_str().unwrap(), "stats"]) {
        run.code(3).complains(&["Permission denied"]);
        return;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    On(&path)
        .text(&["stats"])
        .code(3)
        .complains(&["Permission denied"]);
}

/// Another user is turned away by who it is, even where the rights of the socket would let it in.
#[test]
fn another_user_may_not_ask_the_owner() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let _owner = Owner::of(&path);
    let arguments = [path.to_str().unwrap(), "stats"];
    let Some(run) = as_another(&folder, &arguments) else {
        return;
    };
    run.code(3).complains(&["Permission denied"]);
    let socket = forebay::control::socket_path(&path);
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    let run = as_another(&folder, &arguments).unwrap();
    run.code(4).complains(&["may not ask its owner"]);
    On(&path).text(&["stats"]).ok();
}
