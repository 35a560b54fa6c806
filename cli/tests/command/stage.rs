//! What the tests stand on: a folder, the command, and what it wrote.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A folder of its own for a test, gone afterwards.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-command-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Every file with its length and a hash of what is in it.
    pub(crate) fn all(&self) -> BTreeMap<String, (usize, u64)> {
        let files = fs::read_dir(&self.0).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let bytes = fs::read(entry.path()).unwrap_or_default();
            let mut hash = DefaultHasher::new();
            bytes.hash(&mut hash);
            (
                entry.file_name().into_string().unwrap(),
                (bytes.len(), hash.finish()),
            )
        });
        files.collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the command did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ended it"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// That it ended with this code, and that nothing it wrote could move a cursor.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        let both = format!("{}{}", self.out, self.err);
        let harmless = both
            .chars()
            .all(|c| c == '\n' || !c.is_control() && c != '\u{202e}');
        assert!(harmless, "{both:?}");
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        let run = self.code(0);
        assert_eq!(run.err, "", "nothing to complain of");
        run
    }

    /// The one object that it wrote.
    #[track_caller]
    pub(crate) fn object(&self) -> Value {
        let lines = self.lines();
        assert_eq!(lines.len(), 1, "{}", self.out);
        lines[0].clone()
    }

    /// The objects that it wrote, a line each.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        self.out.lines().map(parse).collect()
    }

    /// Whether each of these texts is in the output.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.out.contains(text),
                "{text:?} is not in\n{}\n{}",
                self.out,
                self.err
            );
        }
        self
    }

    /// Whether each of these texts is in what it complains of.
    #[track_caller]
    pub(crate) fn complains(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.err.contains(text),
                "{text:?} is not in\n{}\n{}",
                self.out,
                self.err
            );
        }
        self
    }
}

/// The command, ready to be run.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command
        .args(arguments)
        .env_remove("FOREBAY_DB")
        .stdin(Stdio::null());
    command
}

/// Runs the command with these arguments.
pub(crate) fn forebay<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    Run::new(command(arguments).output().unwrap())
}

/// Runs the command with something to read.
pub(crate) fn forebay_reading(arguments: &[&str], input: &[u8]) -> Run {
    let mut command = command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Run::new(child.wait_with_output().unwrap())
}

/// A file, and the command about it.
pub(crate) struct On<'p>(pub(crate) &'p Path);

impl On<'_> {
    pub(crate) fn text(&self, arguments: &[&str]) -> Run {
        let first = [self.0.to_str().unwrap()];
        forebay(first.iter().chain(arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Run {
        let first = [self.0.to_str().unwrap(), "--json"];
        forebay(first.iter().chain(arguments))
    }
}
