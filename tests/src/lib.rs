//! What several of the tests share: the way to the repository's files, and a reader of Rust sources that
//! is just good enough to tell which module mentions which.

pub mod scratch;
pub mod source;
pub mod trap;

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate is a folder of the repository")
}

/// Every file under `folder` (relative to the root) whose name ends in `.extension`, sorted, as a path
/// relative to the root and its text.
pub fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        for path in entries(&next) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
                let name = path.strip_prefix(root()).expect("found below the root");
                found.push((name.to_str().expect("sources have UTF-8 names").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.expect("a folder can be listed").path())
            .collect(),
        // A folder that is not there has no files; a test that needs some says so itself.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("cannot list {}: {error}", folder.display()),
    }
}
