//! One name for one file, however it is reached: what lies beside a database is named after it, and two names
//! would be two locks.

use std::fs;
use std::path::{Path, PathBuf};

/// How many links are followed that lead to nothing yet.
const LINKS: usize = 40;

/// The path of a file without links and dots, also of one that is not there yet. Hard links remain two names.
pub(crate) fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(real) = fs::canonicalize(&path) {
            return real;
        }
        let Ok(to) = fs::read_link(&path) else { break };
        // Absolute ones replace the folder, others stand in it.
        path = folder(&path).join(to);
    }
    match (fs::canonicalize(folder(&path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => std::path::absolute(&path).unwrap_or(path),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_way_to_a_file_has_one_name() {
        let folder = std::env::temp_dir().join(format!("forebay-real-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("sub")).unwrap();
        let folder = fs::canonicalize(folder).unwrap();
        let file = folder.join("jobs.db");
        symlink("../jobs.db", folder.join("sub/link")).unwrap();
        symlink(folder.join("sub/link"), folder.join("link")).unwrap();
        symlink(&folder, folder.join("sub/up")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        let ways = [
            "jobs.db",
            "./jobs.db",
            "sub/../jobs.db",
            "sub/up/jobs.db",
            "sub/link",
            "link",
        ];
        let names = || ways.map(|way| real(&folder.join(way)));
        assert_eq!(names(), ways.map(|_| file.clone()), "before it is there");
        fs::write(&file, "").unwrap();
        assert_eq!(names(), ways.map(|_| file.clone()));
        assert_eq!(real(&folder.join("loop")), folder.join("loop"));
        assert_eq!(
            real(Path::new("no/such/folder")),
            std::path::absolute("no/such/folder").unwrap()
        );
        assert_eq!(
            real(Path::new("here")),
            fs::canonicalize(".").unwrap().join("here")
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
