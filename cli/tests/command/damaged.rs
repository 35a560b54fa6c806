//! Damage is found, and what is left is saved.

use std::fs;
use std::path::Path;

use forebay::{Dispatcher, NewJob, Options};
use rusqlite::Connection;

use crate::stage::{Folder, On};

const JOBS: usize = 2000;

/// A file with many jobs, closed as it should be.
fn write(path: &Path) {
    let d = Dispatcher::open(&format!("sqlite:{}", path.display()), Options::default()).unwrap();
    for number in 0..JOBS {
        d.push(NewJob::new("k", format!("payload of job {number}, with some length")).queue("mail"))
            .unwrap();
    }
    d.pause("mail").unwrap();
    d.stop(std::time::Duration::ZERO).unwrap();
}

fn pages(bytes: &[u8]) -> usize {
    bytes.len() / 4096
}

#[test]
fn a_sound_file_is_saved_whole() {
    let folder = Folder::new();
    let (path, new) = (folder.path("jobs.db"), folder.path("new.db"));
    write(&path);
    let saved = On(&path).json(&["salvage", new.to_str().unwrap()]).ok().object();
    assert_eq!((&saved["jobs"], &saved["whole"]), (&JOBS.into(), &true.into()));
    let lines = |path: &Path| On(path).json(&["list", "--all"]).ok().lines();
    assert_eq!(lines(&new), lines(&path));
    On(&new).text(&["check"]).ok().says(&["2000 sound jobs"]);
    On(&new).text(&["stats"]).ok().says(&["paused"]);
    On(&path)
        .text(&["salvage", new.to_str().unwrap()])
        .code(4)
        .complains(&["is there already"]);
    On(&new)
        .text(&["purge", "mail", "--yes"])
        .ok()
        .says(&["2000 jobs cancelled"]);
}

#[test]
fn what_is_left_of_a_damaged_file_is_saved() {
    let folder = Folder::new();
    let (path, new) = (folder.path("jobs.db"), folder.path("new.db"));
    write(&path);
    let mut bytes = fs::read(&path).unwrap();
    // Two pages in the middle, one of them far from the other.
    for page in [pages(&bytes) / 2, pages(&bytes) / 4] {
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
    }
    fs::write(&path, &bytes).unwrap();
    let checked = On(&path).json(&["check"]).code(3).object();
    assert_eq!(checked["sound"], false);
    On(&path)
        .text(&["check"])
        .code(3)
        .says(&["damaged"])
        .complains(&["salvage"]);
    let saved = On(&path)
        .json(&["salvage", new.to_str().unwrap()])
        .code(3)
        .object();
    let (jobs, gaps) = (saved["jobs"].as_u64().unwrap(), saved["gaps"].as_u64().unwrap());
    assert!(jobs < JOBS as u64 && jobs > JOBS as u64 - 100, "{saved}");
    assert_eq!((gaps, &saved["whole"]), (2, &false.into()), "{saved}");
    On(&new)
        .text(&["check"])
        .ok()
        .says(&[&format!("{jobs} sound jobs")]);
    assert!(
        fs::read(&path).unwrap() == bytes,
        "the damaged file stays as it is"
    );
    // A dispatcher takes it from there.
    On(&new).text(&["resume", "mail"]).ok();
}

#[test]
fn rows_that_are_no_jobs_are_named() {
    let folder = Folder::new();
    let (path, new) = (folder.path("jobs.db"), folder.path("new.db"));
    write(&path);
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "UPDATE jobs SET state = 'happy' WHERE row = 7;
         UPDATE jobs SET id = x'00' WHERE row = 8;
         UPDATE jobs SET history = '[{' WHERE row = 9;
         UPDATE jobs SET id = (SELECT id FROM jobs WHERE row = 1) WHERE row = 10;
         UPDATE jobs SET finished = 5 WHERE row = 11;",
    )
    .unwrap();
    drop(db);
    let checked = On(&path).json(&["check"]).code(3).object();
    let problems: Vec<&str> = checked["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    for row in ["row 7", "row 8", "row 9", "row 10", "row 11"] {
        assert!(problems.iter().any(|p| p.contains(row)), "{row}: {problems:?}");
    }
    assert_eq!(checked["jobs"], JOBS - 5);
    let saved = On(&path)
        .json(&["salvage", new.to_str().unwrap()])
        .code(3)
        .object();
    assert_eq!(
        (&saved["jobs"], &saved["damaged"]),
        (&(JOBS - 4).into(), &4.into()),
        "{saved}"
    );
    On(&new).text(&["check"]).ok();
}

/// Damage can give one number to two rows: both jobs are saved.
#[test]
fn rows_of_one_number_are_both_saved() {
    let folder = Folder::new();
    let (path, new) = (folder.path("jobs.db"), folder.path("new.db"));
    write(&path);
    // In a leaf of the table a cell is the length of its row, the row's number, and the row.
    let mut bytes = fs::read(&path).unwrap();
    let (seven, eight) = (cell_of(&bytes, 7), cell_of(&bytes, 8));
    bytes[eight] = bytes[seven];
    fs::write(&path, bytes).unwrap();
    let saved = On(&path)
        .json(&["salvage", new.to_str().unwrap()])
        .code(3)
        .object();
    assert_eq!(saved["jobs"], JOBS, "{saved}");
    On(&new).text(&["check"]).ok();
}

/// Where the number of a row of the table `jobs` stands.
fn cell_of(bytes: &[u8], number: u8) -> usize {
    let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let word = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    for start in (page..bytes.len()).step_by(page) {
        // Only the leaves of tables have rows.
        if bytes[start] != 13 {
            continue;
        }
        for cell in 0..word(start + 3) {
            let at = start + word(start + 8 + 2 * cell);
            let behind_length = at + bytes[at..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let row = &bytes[behind_length..(behind_length + 400).min(start + page)];
            if row[0] == number && row.windows(6).any(|w| w == b"queued") {
                return behind_length;
            }
        }
    }
    panic!("there is no row {number}");
}

/// Every byte of a small file in turn: whatever it was, no verb panics, hangs or believes in jobs that are
/// not there, and what only looks changes nothing.
#[test]
fn flipped_bytes_do_no_harm() {
    let folder = Folder::new();
    let path = folder.path("jobs.db");
    write(&path);
    let sound = fs::read(&path).unwrap();
    let seed = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 1);
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..20 {
        let mut bytes = sound.clone();
        let at = if round % 4 == 0 {
            random(200)
        } else {
            random(bytes.len())
        };
        bytes[at] ^= 1 << random(8);
        fs::write(&path, &bytes).unwrap();
        for arguments in [vec!["stats"], vec!["list", "--all"], vec!["check"]] {
            let run = On(&path).json(&arguments);
            assert!(
                [0, 3].contains(&run.code),
                "byte {at}: {arguments:?}: {}",
                run.err
            );
            assert!(!run.err.contains("panicked"), "byte {at}: {}", run.err);
        }
        let new = folder.path("new.db");
        let saved = On(&path).json(&["salvage", new.to_str().unwrap()]);
        assert!([0, 3].contains(&saved.code), "byte {at}: {}", saved.err);
        if saved.code == 0 {
            On(&new).text(&["check"]).ok();
        }
        let _ = fs::remove_file(&new);
        assert!(fs::read(&path).unwrap() == bytes);
    }
}
