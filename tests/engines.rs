//! Every engine of this build, held to the suite.

use std::sync::Arc;

use forebay::engine::memory::MemoryEngine;

forebay::conformance_suite!(
    memory,
    || Arc::new(MemoryEngine::new(100_000)),
    given_time,
    host_objects
);

/// A case that nobody lists would never run.
#[test]
fn every_case_is_listed() {
    let suite = forebay_tests::files("core/src/conformance", "rs");
    let (_, list) = suite
        .iter()
        .find(|(file, _)| file.ends_with("/suite.rs"))
        .expect("the list is there");
    let listed: Vec<&str> = list.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let cases: Vec<&str> = suite
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.strip_prefix("pub fn ")?.split_once("(make: Make<"))
        .map(|(name, _)| name)
        .collect();
    let forgotten: Vec<&&str> = cases.iter().filter(|case| !listed.contains(case)).collect();
    assert!(cases.len() > 100, "the cases are found at all");
    assert_eq!(forgotten, Vec::<&&str>::new());
}
