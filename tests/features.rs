//! The feature table keeps its word: every case that `docs/features.md` names exists and runs.
//!
//! The page has tables with the columns `| # | feature | state | cases |`. `#` is the number of a feature, or
//! `R-` and the number of a regression scenario. The state begins with `shown`, `partly` or `not yet`; a row
//! that shows something names at least one case, a row that does not names none. A case is written in
//! backticks, prefixed with the place where its name is looked up:
//!
//! | prefix | what it names |
//! |---|---|
//! | `conformance::` | a case of the engine suite, in the suite's list |
//! | `unit::` | a `#[test]` beside the code: `unit::retry::grows`, or `unit::grows` when that is unique |
//! | `scenario::` | a `#[test]` of a file in `tests/` |
//! | `command::` | a `#[test]` of the command `forebay`, in `cli/tests` |
//! | `python::`, `example::` | a `def test_…` below `tests/python`, below `examples` |
//! | `go::` | a `func Test…` in a `_test.go` file of the module in `cbind/go` |
//! | `c::`, `cpp::` | an entry of the `cases[]` table of a program in `tests/c`, `tests/cpp` |
//! | `scenario_file::` | a file of `tests/scenarios`, which every language runs on every engine |
//!
//! Engines may be named before their cases: ``memory: `conformance::a`, `unit::b` ``.

use std::collections::BTreeMap;

use forebay_tests::source::{Token, tokens};
use forebay_tests::{files, root};

const PAGE: &str = "docs/features.md";
const FEATURES: u32 = 78;
const REGRESSIONS: u32 = 48;

#[test]
fn every_named_case_exists_and_runs() {
    let path = root().join(PAGE);
    // As in the Makefile: what has not been written yet is missed where nothing may be missing.
    if !path.exists() && std::env::var_os("CI").is_none() {
        return;
    }
    let page = std::fs::read_to_string(path).expect("the feature table can be read");
    assert_eq!(faults(&page, &Cases::of_the_repository()), Vec::<String>::new());
}

/// Other pages name cases too, by the same prefixes.
#[test]
fn every_case_that_a_page_names_exists() {
    let cases = Cases::of_the_repository();
    let page = std::fs::read_to_string(root().join("docs/reliability.md")).expect("the page can be read");
    let quoted = page.split('`').skip(1).step_by(2);
    let named: Vec<&str> = quoted
        .filter(|name| name.contains("::") && !name.contains(' '))
        .collect();
    assert!(named.len() > 40, "the page names cases");
    for name in named {
        assert!(
            !cases.look_up(name).is_empty(),
            "docs/reliability.md: there is no {name}"
        );
    }
}

// ---- the scenario files ------------------------------------------------------------------------------

const SCENARIOS: &str = "tests/scenarios";
/// The heading of the part of the page that is made of the scenario files.
const BY_FILE: &str = "## In every language";

/// The page tells which scenario files show which row, as they say themselves.
#[test]
fn the_rows_of_the_scenario_files_are_listed() {
    let page = std::fs::read_to_string(root().join(PAGE)).expect("the feature table can be read");
    let at = page
        .find(BY_FILE)
        .expect("the page has the part that is made of the scenario files");
    let wanted = by_file(&scenario_files());
    assert!(
        page[at..] == wanted,
        "{PAGE} does not tell what the scenario files show; from {BY_FILE:?} on it should be\n{wanted}"
    );
}

/// The scenario files with their texts; those that are wrong on purpose show nothing.
fn scenario_files() -> Vec<(String, String)> {
    let mut all = files(SCENARIOS, "json");
    all.retain(|(file, _)| !file.contains("/wrong/"));
    all
}

/// That part of the page.
fn by_file(all: &[(String, String)]) -> String {
    let mut rows: BTreeMap<(bool, u32), Vec<String>> = BTreeMap::new();
    for (file, text) in all {
        let scenario: serde_json::Value = serde_json::from_str(text).expect("a scenario file is JSON");
        let stem = file
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(".json"));
        for row in scenario["shows"].as_array().expect("it shows rows") {
            let row = row.as_str().filter(|row| is_row_number(row));
            let row = row.unwrap_or_else(|| panic!("{file} shows no row of the tables"));
            let number = row
                .trim_start_matches("R-")
                .parse()
                .expect("it is a row's number");
            let names = rows.entry((row.starts_with('R'), number)).or_default();
            names.push(format!("`{}`", stem.expect("it has a name")));
        }
    }
    let mut part = format!(
        "{BY_FILE}\n\nWhat the {} files of `tests/scenarios` show, each run in every language on every engine that has \
         what it needs.\nThis part is made of the files: the test of this page prints it anew.\n\n| row | files |\n|---|---|\n",
        all.len()
    );
    for ((regression, number), names) in rows {
        let prefix = if regression { "R-" } else { "" };
        part += &format!("| {prefix}{number} | {} |\n", names.join(", "));
    }
    part
}

// ---- the page ----------------------------------------------------------------------------------------

/// One row of a feature table.
#[derive(Debug, PartialEq)]
struct Row {
    line: usize,
    number: String,
    state: String,
    cases: Vec<String>,
}

/// Everything that is wrong with the page, as `file:line: what`.
fn faults(page: &str, cases: &Cases) -> Vec<String> {
    let (rows, mut faults) = rows(page);
    let mut seen = BTreeMap::new();
    for Row {
        line,
        number,
        state,
        cases: named,
    } in &rows
    {
        let mut fault = |what: String| faults.push(format!("{PAGE}:{line}: row {number}: {what}"));
        if !is_row_number(number) {
            fault(format!(
                "not a feature from 1 to {FEATURES} nor R-1 to R-{REGRESSIONS}"
            ));
        }
        if let Some(first) = seen.insert(number.clone(), *line) {
            fault(format!("stands in line {first} already"));
        }
        let shows = ["shown", "partly"].iter().any(|word| state.starts_with(word));
        match (shows, state.starts_with("not yet"), named.is_empty()) {
            (false, false, _) => fault(format!(
                "the state {state:?} is neither shown, partly nor not yet"
            )),
            (true, _, true) => fault("shows something and names no case".to_owned()),
            (_, true, false) => fault("shows nothing yet and names cases".to_owned()),
            _ => {}
        }
        for name in named {
            match cases.look_up(name).as_slice() {
                [Case { runs: Ok(()), .. }] => {}
                [
                    Case {
                        runs: Err(why),
                        place,
                        ..
                    },
                ] => fault(format!("`{name}` in {place} does not run: {why}")),
                [] => fault(format!("there is no `{name}`")),
                many => {
                    let places: Vec<&str> = many.iter().map(|case| case.place.as_str()).collect();
                    fault(format!("`{name}` could be any of those in {}", places.join(", ")));
                }
            }
        }
    }
    for number in (1..=FEATURES).filter(|number| !seen.contains_key(&number.to_string())) {
        faults.push(format!("{PAGE}: row {number} is missing"));
    }
    faults
}

fn is_row_number(text: &str) -> bool {
    let (digits, last) = match text.strip_prefix("R-") {
        Some(digits) => (digits, REGRESSIONS),
        None => (text, FEATURES),
    };
    // Compared as text, so that "07" is no second way of writing 7.
    digits
        .parse()
        .is_ok_and(|number: u32| (1..=last).contains(&number) && number.to_string() == digits)
}

/// The rows of every feature table of the page, and what could not be read.
fn rows(page: &str) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut in_table = false;
    for (index, text) in page.lines().enumerate() {
        let line = index + 1;
        let cells = cells(text);
        if cells.is_empty() {
            in_table = false;
        } else if cells == ["#", "feature", "state", "cases"] {
            in_table = true;
        } else if in_table
            && !cells
                .iter()
                .all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')))
        {
            match cells.as_slice() {
                [number, _, state, cases] => match named_cases(cases) {
                    Ok(cases) => {
                        rows.push(Row {
                            line,
                            number: number.clone(),
                            state: state.to_lowercase(),
                            cases,
                        });
                    }
                    Err(why) => faults.push(format!("{PAGE}:{line}: row {number}: {why}")),
                },
                _ => faults.push(format!("{PAGE}:{line}: {} cells in a row of 4", cells.len())),
            }
        }
    }
    (rows, faults)
}

/// The cells of a table's line; none when the line is not one. A `|` in backticks or after `\` is text.
fn cells(line: &str) -> Vec<String> {
    let Some(inner) = line
        .trim()
        .strip_prefix('|')
        .and_then(|rest| rest.strip_suffix('|'))
    else {
        return Vec::new();
    };
    let (mut cells, mut code, mut escaped) = (vec![String::new()], false, false);
    for c in inner.chars() {
        code ^= c == '`';
        if c == '|' && !code && !escaped {
            cells.push(String::new());
        } else if let Some(cell) = cells.last_mut() {
            cell.push(c);
        }
        escaped = c == '\\';
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The names in backticks; what stands between them may only be commas and labels such as `memory:`.
fn named_cases(cell: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for (index, part) in cell.split('`').enumerate() {
        if index % 2 == 1 {
            names.push(part.to_owned());
        } else if let Some(word) = part
            .split([' ', ',', ';'])
            .find(|word| !matches!(*word, "" | "-" | "–" | "<br>") && !word.ends_with(':'))
        {
            return Err(format!("{word:?} is not a case: write its name in backticks"));
        }
    }
    if cell.matches('`').count() % 2 == 1 {
        return Err("a backtick is not closed".to_owned());
    }
    Ok(names)
}

// ---- the cases ---------------------------------------------------------------------------------------

/// A test somebody could name.
#[derive(Clone, Debug, PartialEq)]
struct Case {
    /// Its full name: `unit::engine::memory::lanes::keeps_order`.
    name: String,
    /// The file it stands in.
    place: String,
    /// Whether a plain run of the tests runs it, or why not.
    runs: Result<(), &'static str>,
}

/// All of them.
#[derive(Debug, Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn of_the_repository() -> Cases {
        let mut cases = Cases::default();
        for (file, text) in files("core/src", "rs").iter().chain(&files("cbind/src", "rs")) {
            cases.add_rust("unit", file, text);
        }
        for (file, text) in files("cli/tests", "rs") {
            cases.add_rust("command", &file, &text);
        }
        let suites = files("tests", "rs");
        for (file, text) in &suites {
            cases.add_rust("scenario", file, text);
        }
        cases.add_conformance(&files("core/src/conformance", "rs"), &suites);
        for (prefix, folder) in [("python", "tests/python"), ("example", "examples")] {
            for (file, text) in files(folder, "py") {
                cases.add_python(prefix, &file, &text);
            }
        }
        for (file, text) in files("cbind/go", "go") {
            cases.add_go(&file, &text);
        }
        for (prefix, folder) in [("c", "tests/c"), ("cpp", "tests/cpp")] {
            for (file, text) in [files(folder, "c"), files(folder, "cpp")].concat() {
                cases.add_c(prefix, &file, &text);
            }
        }
        for (file, _) in scenario_files() {
            let stem = file.trim_start_matches(SCENARIOS).trim_end_matches(".json");
            let name = format!("scenario_file::{}", stem.trim_start_matches('/'));
            cases.0.push(Case {
                name,
                place: file,
                runs: Ok(()),
            });
        }
        cases
    }

    /// The cases that `name` may mean: the prefix says where to look, the rest is the end of the full name.
    fn look_up(&self, name: &str) -> Vec<Case> {
        let Some((prefix, rest)) = name.split_once("::") else {
            return Vec::new();
        };
        let ending = format!("::{rest}");
        let fits = |case: &&Case| {
            case.name
                .strip_prefix(prefix)
                .is_some_and(|full| full.starts_with("::") && full.ends_with(&ending))
        };
        self.0.iter().filter(fits).cloned().collect()
    }

    fn add(&mut self, prefix: &str, file: &str, test: &str, runs: Result<(), &'static str>) {
        // `core/src/engine/memory/mod.rs` is known as engine::memory, `tests/python/test_push.py` as test_push.
        let folders = [
            "core/src/",
            "cbind/src/",
            "cbind/go/",
            "tests/python/",
            "tests/",
            "examples/",
        ];
        let below = folders
            .iter()
            .find_map(|folder| file.strip_prefix(folder))
            .unwrap_or(file);
        let stem = below.rsplit_once('.').map_or(below, |(stem, _)| stem);
        let stem = stem.strip_suffix("/mod").unwrap_or(stem).replace('/', "::");
        self.0.push(Case {
            name: format!("{prefix}::{stem}::{test}"),
            place: file.to_owned(),
            runs,
        });
    }

    fn add_rust(&mut self, prefix: &str, file: &str, text: &str) {
        for (test, ignored) in rust_tests(&tokens(text)) {
            self.add(
                prefix,
                file,
                &test,
                if ignored { Err("it is ignored") } else { Ok(()) },
            );
        }
    }

    /// A case of the suite is a function that the suite's list names too. It runs when one of `users` calls
    /// the macro that makes a test of each.
    fn add_conformance(&mut self, suite: &[(String, String)], users: &[(String, String)]) {
        let suite: Vec<(&String, Vec<Token>)> =
            suite.iter().map(|(file, text)| (file, tokens(text))).collect();
        let makers: Vec<&str> = suite.iter().flat_map(|(_, tokens)| test_makers(tokens)).collect();
        let used = users.iter().any(|(_, text)| {
            let tokens = tokens(text);
            makers.iter().any(|maker| {
                tokens
                    .windows(2)
                    .any(|pair| pair[0].text == *maker && pair[1].text == "!")
            })
        });
        let listed: Vec<&str> = suite
            .iter()
            .flat_map(|(_, tokens)| inside_macros(tokens))
            .collect();
        for (file, tokens) in &suite {
            for pair in tokens.windows(2).filter(|pair| pair[0].text == "fn") {
                let name = pair[1].text.as_str();
                if listed.contains(&name) {
                    let runs = if used {
                        Ok(())
                    } else {
                        Err("no test calls the suite's macro")
                    };
                    self.0.push(Case {
                        name: format!("conformance::{name}"),
                        place: (*file).clone(),
                        runs,
                    });
                }
            }
        }
    }

    fn add_python(&mut self, prefix: &str, file: &str, text: &str) {
        if !file
            .rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with("test_"))
        {
            return;
        }
        let mut decorators = String::new();
        for line in text.lines().map(str::trim) {
            let definition = line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ");
            if let Some((test, _)) = definition.and_then(|rest| rest.split_once('(')) {
                if test.starts_with("test_") {
                    let skipped = ["mark.skip(", "mark.skip\n", "mark.xfail"]
                        .iter()
                        .any(|mark| decorators.contains(mark));
                    self.add(
                        prefix,
                        file,
                        test,
                        if skipped { Err("it is skipped") } else { Ok(()) },
                    );
                }
                decorators.clear();
            } else if line.starts_with('@') || !decorators.is_empty() {
                // A decorator may go on over several lines; it ends where the definition begins.
                decorators.push_str(line);
                decorators.push('\n');
            }
        }
    }

    /// Go runs every `func Test…` of a `_test.go` file. One that begins by skipping never runs.
    fn add_go(&mut self, file: &str, text: &str) {
        if !file.ends_with("_test.go") {
            return;
        }
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let name = line
                .strip_prefix("func Test")
                .and_then(|rest| rest.split_once("(t *testing.T)"));
            if let Some((name, _)) = name {
                let skips = lines
                    .peek()
                    .is_some_and(|body| body.trim_start().starts_with("t.Skip"));
                let runs = if skips { Err("it is skipped") } else { Ok(()) };
                self.add("go", file, &format!("Test{name}"), runs);
            }
        }
    }

    fn add_c(&mut self, prefix: &str, file: &str, text: &str) {
        let tokens = tokens(text);
        let text = |i: usize| tokens.get(i).map_or("", |token: &Token| token.text.as_str());
        for start in (0..tokens.len()).filter(|&i| text(i) == "cases" && text(i + 1) == "[") {
            let Some(open) = (start..tokens.len())
                .take_while(|&i| text(i) != ";")
                .find(|&i| text(i) == "{")
            else {
                continue;
            };
            let mut entries: Vec<&str> = (open..closing(&tokens, open))
                .map(text)
                .filter(|word| is_name(word))
                .collect();
            entries.sort_unstable();
            entries.dedup();
            for entry in entries {
                // The table may wrap an entry in a macro; what counts is that there is such a function.
                let defined = (0..tokens.len())
                    .any(|i| text(i) == entry && text(i + 1) == "(" && !(open..).contains(&i));
                if defined {
                    self.add(prefix, file, entry, Ok(()));
                }
            }
        }
    }
}

/// The tests of a Rust file: a name, and whether it is ignored.
fn rust_tests(tokens: &[Token]) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let (mut test, mut ignored) = (false, false);
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "#" if tokens.get(i + 1).is_some_and(|token| token.text == "[") => {
                let end = closing(tokens, i + 1);
                // The last name before any argument: `test`, `tokio::test`, `ignore`.
                let path = tokens[i + 2..end]
                    .iter()
                    .take_while(|token| is_name(&token.text) || token.text == "::");
                match path.last().map(|token| token.text.as_str()) {
                    Some("test") => test = true,
                    Some("ignore") => ignored = true,
                    _ => {}
                }
                i = end;
                continue;
            }
            "fn" => {
                if let (true, Some(name)) = (test, tokens.get(i + 1).filter(|name| is_name(&name.text))) {
                    found.push((name.text.clone(), ignored));
                }
                (test, ignored) = (false, false);
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// The macros of a file that make tests.
fn test_makers(tokens: &[Token]) -> Vec<&str> {
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        if tokens[i].text == "macro_rules" && tokens.get(i + 3).is_some() {
            let body = &tokens[i + 3..closing(tokens, i + 3)];
            let makes = |at: &[Token]| {
                at[0].text == "#" && at[1].text == "[" && at[2].text == "test" && at[3].text == "]"
            };
            if body.windows(4).any(makes) {
                found.push(tokens[i + 2].text.as_str());
            }
        }
    }
    found
}

/// Every name that stands in the body or the arguments of a macro.
fn inside_macros(tokens: &[Token]) -> Vec<&str> {
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        let called = is_name(&tokens[i].text) && tokens.get(i + 1).is_some_and(|next| next.text == "!");
        let mut open = i + 2;
        if tokens[i].text == "macro_rules" {
            open += 1;
        }
        if called
            && tokens
                .get(open)
                .is_some_and(|token| matches!(token.text.as_str(), "(" | "[" | "{"))
        {
            let names = tokens[open..closing(tokens, open)]
                .iter()
                .map(|token| token.text.as_str());
            found.extend(names.filter(|name| is_name(name)));
        }
    }
    found
}

/// The index after the bracket that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

// ---- the reader, on pages and sources written for it -------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;

    fn some_cases() -> Cases {
        let mut cases = Cases::default();
        cases.add_rust(
            "unit",
            "core/src/retry.rs",
            "#[test] fn grows() {} #[test] #[ignore] fn waits() {}",
        );
        cases.add_rust("unit", "core/src/engine/memory/mod.rs", "#[test] fn grows() {}");
        cases.add_rust(
            "scenario",
            "tests/stop.rs",
            "#[tokio::test(flavor = \"x\")] async fn hands_back() {} fn helper() {}",
        );
        cases.add_python(
            "python",
            "tests/python/test_push.py",
            "@pytest.mark.parametrize(\n    'a', [1]\n)\ndef test_push(a):\n",
        );
        let go = "func TestPush(t *testing.T) {\n\tx()\n}\nfunc TestPull(t *testing.T) {\n\tt.Skip()\n}\n";
        cases.add_go("cbind/go/push_test.go", go);
        cases.add_go("cbind/go/push.go", "func TestNothing(t *testing.T) {\n}\n");
        cases.add_c(
            "c",
            "tests/c/api.c",
            "static void null(void) {} struct c cases[] = { CASE(null), CASE(gone) };",
        );
        cases
    }

    /// A page on which every feature but those in `changed` is not shown yet.
    fn page(changed: &[(&str, &str, &str)]) -> String {
        let rest = (1..=FEATURES).map(|number| number.to_string());
        let rest = rest.filter(|number| !changed.iter().any(|(changed, _, _)| changed == number));
        let rows = changed
            .iter()
            .map(|(number, state, cases)| format!("| {number} | x | {state} | {cases} |\n"));
        let rest = rest.map(|number| format!("| {number} | x | not yet | |\n"));
        let head = "# Features\n\n| # | feature | state | cases |\n|---|:-:|---|---|\n".to_owned();
        std::iter::once(head).chain(rows).chain(rest).collect()
    }

    fn fault_of(number: &str, state: &str, cases: &str) -> String {
        let faults = faults(&page(&[(number, state, cases)]), &some_cases());
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].clone()
    }

    #[test]
    fn a_true_page_has_no_faults() {
        let page = page(&[
            ("1", "shown", "`unit::retry::grows`, `unit::memory::grows`"),
            (
                "2",
                "partly: memory only",
                "memory: `scenario::hands_back`; `python::test_push::test_push`",
            ),
            ("3", "Shown", "`c::null`"),
            ("4", "shown", "`go::TestPush`, `go::push_test::TestPush`"),
            ("R-48", "shown", "`scenario::stop::hands_back`"),
        ]);
        assert_eq!(faults(&page, &some_cases()), Vec::<String>::new());
    }

    #[test]
    fn a_case_that_is_not_there_is_a_fault() {
        for name in [
            "unit::shrinks",
            "conformance::grows",
            "scenario::helper",
            "c::gone",
            "go::TestNothing",
            "grows",
            "unit::rows",
            "nowhere::a",
        ] {
            assert!(fault_of("1", "shown", &format!("`{name}`")).ends_with(&format!("there is no `{name}`")));
        }
    }

    #[test]
    fn a_case_that_does_not_run_is_a_fault() {
        assert!(fault_of("1", "shown", "`unit::waits`").ends_with("does not run: it is ignored"));
        assert!(fault_of("1", "shown", "`go::TestPull`").ends_with("does not run: it is skipped"));
    }

    #[test]
    fn a_name_with_two_meanings_is_a_fault() {
        assert!(
            fault_of("1", "shown", "`unit::grows`")
                .contains("could be any of those in core/src/retry.rs, core")
        );
    }

    #[test]
    fn state_and_cases_must_agree() {
        assert!(fault_of("1", "shown", "").contains("names no case"));
        assert!(fault_of("1", "partly", "–").contains("names no case"));
        assert!(fault_of("1", "not yet", "`unit::retry::grows`").contains("names cases"));
        assert!(fault_of("1", "done", "").contains("neither shown, partly nor not yet"));
    }

    #[test]
    fn a_row_that_cannot_be_read_is_a_fault() {
        let faults = |row: &str| {
            faults(
                &page(&[]).replacen("| 7 | x | not yet | |", row, 1),
                &some_cases(),
            )
        };
        assert!(faults("| 7 | x | shown | unit::retry::grows |")[0].contains("in backticks"));
        assert!(faults("| 7 | x | shown | `unit::retry::grows |")[0].contains("not closed"));
        assert!(faults("| 7 | x | not yet |")[0].contains("3 cells in a row of 4"));
        assert!(faults("| 07 | x | not yet | |")[0].contains("not a feature from 1 to 78"));
        assert!(faults("| 79 | x | not yet | |")[0].contains("not a feature from 1 to 78"));
        assert!(faults("| 6 | x | not yet | |")[0].contains("already"));
        assert_eq!(
            faults("| R-1 | x | not yet | |"),
            [format!("{PAGE}: row 7 is missing")]
        );
    }

    #[test]
    fn bars_in_code_and_after_a_backslash_are_text() {
        assert_eq!(cells(r"| a \| b | `c | d` |  |"), [r"a \| b", "`c | d`", ""]);
        assert!(cells("no table").is_empty());
    }

    #[test]
    fn the_suite_counts_what_its_list_names_and_a_test_uses() {
        let suite = [
            ("core/src/conformance/mod.rs".to_owned(), "macro_rules! conformance { ($e:expr) => { list! { $e; push_once } } } macro_rules! list { ($($n:ident)*) => { $(#[test] fn $n() {})* } }".to_owned()),
            ("core/src/conformance/push.rs".to_owned(), "pub fn push_once() {} pub fn forgotten() {}".to_owned()),
        ];
        let users = [(
            "tests/engines.rs".to_owned(),
            "forebay::list!(memory());".to_owned(),
        )];
        let mut cases = Cases::default();
        cases.add_conformance(&suite, &users);
        assert_eq!(cases.look_up("conformance::push_once").len(), 1);
        assert_eq!(cases.look_up("conformance::push_once")[0].runs, Ok(()));
        assert!(cases.look_up("conformance::forgotten").is_empty());

        let mut unused = Cases::default();
        unused.add_conformance(&suite, &[]);
        assert!(unused.look_up("conformance::push_once")[0].runs.is_err());
    }

    #[test]
    fn python_tests_that_never_run_are_told_apart() {
        let mut cases = Cases::default();
        let text = "@pytest.mark.skip(reason='x')\ndef test_a(): pass\nasync def test_b(): pass\n\
                    @pytest.mark.skipif(WINDOWS)\ndef test_c(): pass\n@pytest.mark.xfail\ndef test_d(): pass\n";
        cases.add_python("python", "tests/python/test_x.py", text);
        cases.add_python("python", "tests/python/conftest.py", "def test_e(): pass\n");
        let runs: Vec<_> = cases
            .0
            .iter()
            .map(|case| (case.name.as_str(), case.runs.is_ok()))
            .collect();
        assert_eq!(
            runs,
            [
                ("python::test_x::test_a", false),
                ("python::test_x::test_b", true),
                ("python::test_x::test_c", true),
                ("python::test_x::test_d", false),
            ]
        );
    }
}
