//! The file of a process that lives: it is asked, and does what is to be done.

use crate::owner::Owner;
use crate::stage::{Folder, On, command, forebay, forebay_reading};

#[test]
fn what_only_looks_is_answered_by_the_owner() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::of(&path);
    let on = On(&path);
    let pid = owner.pid().to_string();
    on.text(&["stats"]).ok().says(&[&pid, "QUEUE", "mail", "slow"]);
    let stats = on.json(&["stats"]).ok().object();
    let mail = &stats["queues"]
        .as_array()
        .unwrap()
        .iter()
        .find(|q| q["name"] == "mail")
        .unwrap();
    assert_eq!((&mail["running"], &mail["queued"]), (&1.into(), &1.into()));
    let totals = &mail["totals"];
    let ended = ["succeeded", "failed", "cancelled"].map(|name| totals[name].as_u64().unwrap());
    assert_eq!(ended, [1, 1, 1]);

    let all = on.json(&["list"]).ok().lines();
    assert_eq!(all.len(), 7);
    for state in [
        "succeeded",
        "failed",
        "running",
        "cancelled",
        "queued",
        "scheduled",
        "blocked",
    ] {
        let found = on.json(&["list", "--state", state]).ok().object();
        assert_eq!(
            (&found["id"], &found["state"]),
            (&owner.id(state).into(), &state.into())
        );
        let shown = on.json(&["show", owner.id(state)]).ok().object();
        assert_eq!(shown, found, "a job is shown as it is listed");
        on.text(&["show", owner.id(state)])
            .ok()
            .says(&[owner.id(state), state, "send"]);
        on.text(&["list", "--state", state])
            .ok()
            .says(&[owner.id(state), state]);
        let why = on.json(&["explain", owner.id(state)]).ok().object();
        assert_eq!(
            (&why["id"], &why["state"]),
            (&owner.id(state).into(), &state.into())
        );
        assert!(why["reasons"][0]["text"].is_string(), "{why}");
    }
    on.text(&["explain", owner.id("running")])
        .ok()
        .says(&["has been running"]);
    on.text(&["explain", owner.id("blocked")])
        .ok()
        .says(&["it waits for paid"]);
    on.text(&["explain", "mail"])
        .ok()
        .says(&["no handler for kind \"send\""]);
    let why = on.json(&["explain", "slow"]).ok().object();
    assert_eq!(why["reasons"][0]["name"], "nothing_queued");
}

#[test]
fn a_list_is_filtered_and_paged() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::of(&path);
    let on = On(&path);
    let ids = |arguments: &[&str]| -> Vec<String> {
        let lines = on.json(&[&["list"], arguments].concat()).ok().lines();
        lines
            .iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (slow, scheduled) = (ids(&["--queue", "slow"]), owner.id("scheduled"));
    assert_eq!(slow, [owner.id("blocked"), scheduled]);
    assert_eq!(ids(&["--key", "order-17"]), [owner.id("queued")]);
    assert_eq!(
        ids(&["--state", "queued,scheduled"]),
        [scheduled, owner.id("queued")]
    );
    assert_eq!(ids(&["--kind", "nothing"]), [""; 0]);
    assert_eq!(ids(&["--older", "1h"]), [""; 0]);
    assert_eq!(ids(&["--newer", "1h"]).len(), 7);
    let all = ids(&["--all"]);
    assert_eq!(ids(&["--limit", "2"]), all[..2]);
    assert_eq!(ids(&["--limit", "2", "--after", &all[1]]), all[2..4]);
    assert_eq!(
        on.json(&["list", "--count", "--queue", "mail"]).ok().object()["total"],
        5
    );
    assert_eq!(on.text(&["list", "--count"]).ok().out, "7\n");
    on.text(&["list", "--limit", "2"])
        .code(0)
        .complains(&["2 of 7 jobs", "--after"]);
    on.text(&["list", "--kind", "nothing"])
        .code(0)
        .complains(&["no job matches"]);
}

#[test]
fn changes_are_made_by_the_owner() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::of(&path);
    let on = On(&path);
    let state = |id: &str| on.json(&["show", id]).ok().object()["state"].clone();
    assert_eq!(on.json(&["pause", "mail"]).ok().object()["paused"], true);
    on.text(&["explain", "mail"])
        .ok()
        .says(&["queue \"mail\" is paused"]);
    on.text(&["stats"]).ok().says(&["paused"]);
    on.text(&["resume", "mail"]).ok().says(&["not paused"]);
    on.text(&["pause", "slow"]).ok().says(&["is paused"]);
    assert_eq!(on.json(&["resume", "slow"]).ok().object()["paused"], false);

    let cancelled = on.json(&["cancel", owner.id("queued")]).ok().object();
    assert_eq!(
        (&cancelled["state"], &state(owner.id("queued"))),
        (&"cancelled".into(), &"cancelled".into())
    );
    on.text(&["cancel", owner.id("running")])
        .ok()
        .says(&["was asked to stop"]);
    on.text(&["explain", owner.id("running")])
        .ok()
        .says(&["was asked to stop"]);
    let late = on.json(&["cancel", owner.id("succeeded")]).code(4);
    assert_eq!(late.object()["state"], "succeeded");
    on.text(&["cancel", owner.id("failed")])
        .code(4)
        .says(&["has failed already"]);

    let again = on.json(&["retry", owner.id("failed")]).ok().object();
    assert_eq!(
        (&again["created"], &again["state"]),
        (&true.into(), &"queued".into())
    );
    on.text(&["retry", owner.id("failed")])
        .ok()
        .says(&["was retried before", again["id"].as_str().unwrap()]);

    on.text(&["purge", "slow"]).code(4).complains(&["--yes"]);
    assert_eq!(state(owner.id("scheduled")), "scheduled", "nobody confirmed it");
    assert_eq!(on.json(&["purge", "slow", "--yes"]).ok().object()["purged"], 2);
    on.text(&["purge", "slow", "--yes"])
        .ok()
        .says(&["0 jobs cancelled"]);
    on.text(&["check"]).ok().says(&["sound"]);
}

#[test]
fn an_input_is_replaced_exactly() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::of(&path);
    let on = On(&path);
    let file = folder.path("input");
    let input: Vec<u8> = (0..300_000u32).map(|n| (n % 256) as u8).collect();
    std::fs::write(&file, &input).unwrap();
    let retry = |arguments: &[&str]| {
        let again = on.json(&[&["retry"], arguments].concat()).ok().object();
        again["id"].as_str().unwrap().to_owned()
    };
    let again = retry(&[owner.id("failed"), "--input-file", file.to_str().unwrap()]);
    assert!(on.text(&["show", &again, "--input"]).bytes == input);
    assert_eq!(
        on.json(&["show", &again]).ok().object()["payload"]["content_type"],
        "text/plain"
    );
    on.text(&["show", &again])
        .ok()
        .says(&["300000 bytes", "show --input"]);
    on.text(&["retry", owner.id("failed"), "--input", "x"])
        .code(4)
        .complains(&["another input"]);

    on.text(&["retry", owner.id("succeeded")])
        .code(4)
        .complains(&["give an input"]);
    let again = retry(&[owner.id("succeeded"), "--input", "{\"to\":\"me\"}"]);
    let shown = on.json(&["show", &again]).ok().object();
    assert_eq!(shown["payload"]["content_type"], "application/json");
    on.text(&["show", &again]).ok().says(&["{\"to\":\"me\"}"]);
    assert_eq!(
        on.text(&["show", owner.id("succeeded"), "--result"]).ok().out,
        "sent"
    );
    on.text(&["show", owner.id("succeeded"), "--input"])
        .code(1)
        .complains(&["no longer kept"]);
    on.text(&["show", owner.id("queued"), "--result"])
        .code(1)
        .complains(&["has no result"]);

    let arguments = [
        path.to_str().unwrap(),
        "--json",
        "retry",
        owner.id("cancelled"),
        "--input-file",
        "-",
    ];
    let again = forebay_reading(&arguments, b"\xff\x00").ok().object();
    let id = again["id"].as_str().unwrap();
    assert_eq!(on.text(&["show", id, "--input"]).bytes, b"\xff\x00");
    on.text(&["show", id]).ok().says(&["ff 00"]);
    on.text(&["retry", id])
        .code(4)
        .complains(&["is queued", "cancel it first"]);
}

#[test]
fn a_dump_goes_out_and_comes_back() {
    let folder = Folder::new();
    let (path, dump) = (folder.path("jobs.db"), folder.path("jobs.dump"));
    let owner = Owner::of(&path);
    let on = On(&path);
    let file = dump.to_str().unwrap();
    assert_eq!(on.json(&["dump", file]).ok().object()["jobs"], 4);
    on.text(&["dump", file]).ok().says(&["4 jobs written to"]);
    let restored = on.json(&["restore", file]).ok().object();
    assert_eq!((&restored["jobs"], &restored["known"]), (&0.into(), &4.into()));
    let mine = folder.path("letter");
    std::fs::write(&mine, "dear reader").unwrap();
    on.text(&["dump", mine.to_str().unwrap()])
        .code(4)
        .complains(&["is no dump", "--yes"]);
    assert_eq!(std::fs::read(&mine).unwrap(), b"dear reader");
    on.text(&["dump", mine.to_str().unwrap(), "--yes"]).ok();
    // Not even then: the jobs that have ended would be gone, and the file pulled away under its owner.
    let link = folder.path("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for itself in [
        &path,
        &link,
        &folder.path("jobs.db-wal"),
        &folder.path("jobs.db.lock"),
    ] {
        on.text(&["dump", itself.to_str().unwrap(), "--yes"])
            .code(4)
            .complains(&["the database itself"]);
    }
    on.text(&["show", owner.id("queued")]).ok();
    let other = folder.path("other.db");
    On(&other)
        .text(&["restore", file])
        .ok()
        .says(&["4 jobs accepted"]);
    let job = On(&other).json(&["show", owner.id("queued")]).ok().object();
    assert_eq!((&job["key"], &job["priority"]), (&"order-17".into(), &3.into()));
    On(&other).text(&["check"]).ok();
}

#[test]
fn top_shows_what_runs() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::of(&path);
    let on = On(&path);
    on.text(&["top"])
        .ok()
        .says(&["RUNNING", owner.id("running"), "mail"]);
    let looks = on
        .json(&["top", "--count", "2", "--interval", "1ms"])
        .ok()
        .lines();
    assert_eq!(looks.len(), 2);
    assert_eq!(looks[1]["running"][0]["id"], owner.id("running"));
    let queues = looks[1]["stats"]["queues"].as_array().unwrap();
    assert!(queues.iter().any(|q| q["name"] == "mail" && q["running"] == 1));
}

#[test]
fn the_file_is_named_in_every_way() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let _owner = Owner::of(&path);
    let (name, url) = (path.to_str().unwrap(), format!("sqlite:{}", path.display()));
    let long = format!("sqlite://{}", path.display());
    for arguments in [
        vec![name, "list", "--count"],
        vec!["--db", name, "list", "--count"],
        vec!["list", "--count", "--db", name],
        vec![&url, "list", "--count"],
        vec![&long, "list", "--count"],
        vec!["list", "--db", &url, "--count"],
    ] {
        assert_eq!(forebay(&arguments).ok().out, "7\n", "{arguments:?}");
    }
    // However it is reached, it is the same file, with the same owner.
    let link = path.with_file_name("link.db");
    std::os::unix::fs::symlink("jobs.db", &link).unwrap();
    On(&link).text(&["stats"]).ok().says(&["open in process"]);
    let by_environment = command(["list", "--count"])
        .env("FOREBAY_DB", name)
        .output()
        .unwrap();
    assert_eq!(by_environment.stdout, b"7\n");
    let in_folder = command(["jobs.db", "list", "--count"])
        .current_dir(path.parent().unwrap())
        .output()
        .unwrap();
    assert_eq!(in_folder.stdout, b"7\n");
    forebay([name, "--db", name, "stats"])
        .code(2)
        .complains(&["named twice"]);
}

#[test]
fn an_owner_that_does_not_listen_is_read_past() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::with(&path, "?control=false");
    let on = On(&path);
    let pid = format!("process {}", owner.pid());
    on.text(&["stats"]).ok().says(&[&pid, "cannot be asked"]);
    assert_eq!(on.json(&["list"]).ok().lines().len(), 7);
    let why = on.json(&["explain", owner.id("queued")]).ok().object();
    assert_eq!(why["reasons"][0]["name"], "owner_unreachable");
    for change in [
        vec!["cancel", owner.id("queued")],
        vec!["pause", "mail"],
        vec!["retry", owner.id("failed")],
        vec!["purge", "mail", "--yes"],
    ] {
        on.text(&change).code(4).complains(&[&pid, "does not listen"]);
    }
    let dump = folder.path("dump");
    assert_eq!(
        on.json(&["dump", dump.to_str().unwrap()]).ok().object()["jobs"],
        4
    );
    on.text(&["check"]).ok();
    on.text(&["salvage", folder.path("new").to_str().unwrap()])
        .code(4)
        .complains(&["in use"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let _owner = Owner::of(&path);
    let mut child = command([
        path.to_str().unwrap(),
        "--json",
        "top",
        "--count",
        "1000",
        "--interval",
        "1ms",
    ]);
    let mut child = child
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

/// A file that several processes share is opened by the command as by one more of them.
#[test]
fn a_shared_file_is_shared_with_the_command() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let owner = Owner::with(&path, "?shared=true");
    let on = On(&path);
    on.text(&["stats"])
        .ok()
        .says(&["shared by several processes", "mail"]);
    assert_eq!(on.json(&["list"]).ok().lines().len(), 7);
    let running = on.json(&["show", owner.id("running")]).ok().object();
    assert_eq!(running["state"], "running");
    on.text(&["explain", owner.id("running")])
        .ok()
        .says(&["has been running"]);
    let why = on.json(&["explain", owner.id("queued")]).ok().object();
    assert_eq!(why["reasons"][0]["name"], "elsewhere", "{why}");
    assert_eq!(
        on.json(&["cancel", owner.id("queued")]).ok().object()["state"],
        "cancelled"
    );
    on.text(&["cancel", owner.id("running")])
        .ok()
        .says(&["was asked to stop"]);
    on.text(&["pause", "mail"]).ok();
    on.text(&["explain", "mail"]).ok().says(&["is paused"]);
    let again = on
        .json(&["retry", owner.id("failed"), "--input", "x"])
        .ok()
        .object();
    assert_eq!(
        on.text(&["show", again["id"].as_str().unwrap(), "--input"])
            .ok()
            .out,
        "x"
    );
    assert_eq!(on.json(&["purge", "slow", "--yes"]).ok().object()["purged"], 2);
    let dump = folder.path("dump");
    assert_eq!(
        on.json(&["dump", dump.to_str().unwrap()]).ok().object()["jobs"],
        2
    );
    on.text(&["check"]).ok().says(&["sound"]);
    assert_eq!(
        on.json(&["show", owner.id("running")]).ok().object()["state"],
        "running",
        "it still is"
    );
    on.text(&["salvage", folder.path("new").to_str().unwrap()])
        .code(4)
        .complains(&["in use"]);
    let stopped = owner.stop();
    assert_eq!(
        on.json(&["show", &stopped["running"]]).ok().object()["state"],
        "cancelled"
    );
}

/// More commands at once than the owner answers at once: each is answered.
#[test]
fn many_commands_at_once_are_all_answered() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    let _owner = Owner::of(&path);
    let count = || On(&path).text(&["list", "--count"]).ok().out;
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(count)).collect();
        for answer in asked {
            assert_eq!(answer.join().unwrap(), "7\n");
        }
    });
}
