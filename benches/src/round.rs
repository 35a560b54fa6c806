//! Rounds: every contender has its turn, in a process of its own, before the first one has its next.

use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

/// Lets each of `names` run once per round and returns what came out, contender by contender.
pub fn in_turn<T>(names: &[&str], rounds: usize, mut run: impl FnMut(&str) -> T) -> Vec<Vec<T>> {
    let mut results: Vec<Vec<T>> = names.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for _ in 0..rounds {
        for (name, results) in names.iter().zip(&mut results) {
            results.push(run(name));
        }
    }
    results
}

/// Runs this program again, with these arguments, and reads the line of JSON that it prints.
///
/// # Panics
/// If the process fails or prints something else; the text says what it was run with.
pub fn in_process<T: DeserializeOwned>(arguments: &[String]) -> T {
    let program = std::env::current_exe().expect("a running program has a path");
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect("a program can be started again");
    assert!(
        output.status.success(),
        "{arguments:?} ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?} printed no result: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_two() {
        let mut order = String::new();
        let results = in_turn(&["a", "b"], 3, |name| {
            order.push_str(name);
            order.len()
        });
        assert_eq!(order, "ababab");
        assert_eq!(results, [[1, 3, 5], [2, 4, 6]]);
    }
}
