//! The scenario files of `tests/scenarios`, run in Rust on every engine; `tests/scenarios/README.md` tells
//! what they say. The runners of the other languages have the same parts.

mod expect;
mod fields;
mod stage;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use forebay::Durability;
use forebay_tests::root;
use serde_json::{Value, json};

use crate::expect::differs;
use crate::fields::{Failure, Fields, failed, mistaken};
use crate::stage::{Place, Stage};

/// Runs one scenario on one engine: nothing, or what is wrong.
fn run(scenario: &mut Fields, place: &Place) -> Result<(), String> {
    let steps = scenario.need::<Vec<Value>>("steps").map_err(why)?;
    let mut stage = Stage::new(place, scenario.take("open").map_err(why)?.unwrap_or_default());
    stage.open(&stage.url()).map_err(why)?;
    for (number, step) in steps.into_iter().enumerate() {
        let taken = Fields::of(step).and_then(|mut fields| Ok((fields.need::<String>("do")?, fields)));
        let (name, mut fields) = taken.map_err(why)?;
        let here = |what: String| format!("step {} ({name}): {what}", number + 1);
        let wanted = fields.0.remove("expect").unwrap_or_else(|| json!({}));
        let answer = match stage.step(&name, &mut fields) {
            Ok(answer) => answer,
            Err(Failure::Answered(error)) => failed(&error).into(),
            Err(mistake) => return Err(here(why(mistake))),
        };
        fields.end().map_err(|mistake| here(why(mistake)))?;
        let failed = answer.get("error");
        if let Some(error) = failed.filter(|_| wanted.get("error").is_none()) {
            return Err(here(format!("failed with {error}: {}", answer["message"])));
        }
        if let Some(difference) = differs("answer", &wanted, Some(&answer)) {
            return Err(here(format!("{difference}; the answer was {answer}")));
        }
    }
    Ok(())
}

fn why(failure: Failure) -> String {
    match failure {
        Failure::Answered(error) => error.to_string(),
        Failure::Mistaken(text) => text,
    }
}

/// A file, or every file of a folder, in the order of their names.
fn files(at: &Path) -> Vec<PathBuf> {
    if at.is_file() {
        return vec![at.to_owned()];
    }
    let entries = std::fs::read_dir(at).expect("the folder of the scenarios can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|found| found == "json"))
        .collect();
    files.sort();
    files
}

/// A scenario as its file has it.
struct Scenario {
    name: String,
    /// The options and the steps.
    rest: Fields,
    needs: BTreeSet<String>,
    /// What a wrong one must be found out by.
    fails: Vec<String>,
}

impl Scenario {
    fn read(path: &Path) -> Result<Self, String> {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let value = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        Self::of(name.clone(), value).map_err(|failure| format!("{name}: {}", why(failure)))
    }

    fn of(name: String, value: Value) -> Result<Self, Failure> {
        let mut rest = Fields::of(value)?;
        let (called, said): (String, String) = (rest.need("scenario")?, rest.need("text")?);
        let shows: Vec<String> = rest.take("shows")?.unwrap_or_default();
        let needs = rest.take("needs")?.unwrap_or_default();
        let fails: Vec<String> = rest.take("fails")?.unwrap_or_default();
        if called != name || said.is_empty() || shows.is_empty() == fails.is_empty() {
            return mistaken("it must have its file's name, say something, and show rows or fail");
        }
        Ok(Self {
            name,
            rest,
            needs,
            fails,
        })
    }

    /// Runs it on one engine: what is wrong with that.
    fn run(&self, place: &Place) -> Option<String> {
        let mut rest = Fields(self.rest.0.clone());
        let ran = run(&mut rest, place).and_then(|()| rest.end().map_err(why));
        let fault = match (ran, self.fails.is_empty()) {
            (Ok(()), true) => return None,
            (Err(what), false) if self.fails.iter().all(|text| what.contains(text)) => return None,
            (Ok(()), false) => "it should have failed".to_owned(),
            (Err(what), _) => what,
        };
        Some(format!("{} on {}: {fault}", self.name, place.engine))
    }
}

/// Runs the files on every engine that has what they need, and says how many runs that were.
fn run_all(files: &[PathBuf]) {
    let places = std::fs::read(root().join("tests/engines.json")).expect("the engines are listed");
    let places: Vec<Place> = serde_json::from_slice(&places).expect("the list can be read");
    let (mut faults, mut runs) = (Vec::new(), 0);
    for path in files {
        let scenario = match Scenario::read(path) {
            Ok(scenario) => scenario,
            Err(what) => {
                faults.push(what);
                continue;
            }
        };
        let fit: Vec<&Place> = places
            .iter()
            .filter(|place| scenario.needs.is_subset(&place.has))
            .collect();
        if fit.is_empty() {
            faults.push(format!("{}: no engine has {:?}", scenario.name, scenario.needs));
        }
        runs += fit.len();
        faults.extend(fit.iter().filter_map(|place| scenario.run(place)));
    }
    println!("Rust: {} scenarios, {runs} runs", files.len());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(!files.is_empty(), "no scenario was found");
}

#[test]
fn every_scenario_on_every_engine() {
    let at = std::env::var_os("FOREBAY_SCENARIOS");
    run_all(&files(
        &at.map_or_else(|| root().join("tests/scenarios"), PathBuf::from),
    ));
}

/// What is wrong in them is found out, at the step where it is.
#[test]
fn every_wrong_scenario_fails() {
    run_all(&files(&root().join("tests/scenarios/wrong")));
}

/// The capabilities that the list of engines tells of are those that they have.
#[test]
fn the_engines_are_what_the_list_says() {
    let places = std::fs::read(root().join("tests/engines.json")).expect("the engines are listed");
    let places: Vec<Place> = serde_json::from_slice(&places).expect("the list can be read");
    for place in &places {
        let mut stage = Stage::new(place, BTreeMap::new());
        let opened = stage.open(&stage.url());
        assert!(opened.is_ok(), "{}", place.engine);
        let has = stage.d.as_ref().expect("it is open").capabilities();
        let file = has.durability > Durability::Memory;
        let names = [
            ("keys", has.keys),
            ("evicts", has.evicts),
            ("weighs", has.weighs),
            ("alone", !has.shared),
            ("file", file),
            ("memory", !file),
            // Of the language: Rust has it.
            ("waits", true),
        ];
        let names: BTreeSet<String> = names
            .iter()
            .filter(|(_, has)| *has)
            .map(|(name, _)| (*name).to_owned())
            .collect();
        assert_eq!(place.has, names, "{}", place.engine);
    }
}
