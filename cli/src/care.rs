//! Looking for damage, and saving what is left.

use std::path::Path;

use forebay::file::{self, Kind};
use serde_json::json;

use crate::failure::{Failure, of_file};
use crate::out::{Colour, Out, Progress};
use crate::text::harmless;

/// How many jobs pass between two words of progress.
const STEP: u64 = 10_000;

fn every_step(progress: &Progress) -> impl FnMut(u64) {
    move |jobs| {
        if jobs.is_multiple_of(STEP) {
            progress.tell(|| format!("{jobs} jobs"));
        }
    }
}

/// Looks for damage, and says whether there is some.
///
/// # Errors
/// If it cannot be looked at, or is damaged.
pub(crate) fn check(path: &Path, out: &mut Out) -> Result<(), Failure> {
    let kind = match Kind::of(path).map_err(of_file)? {
        Kind::Dump => "dump",
        _ => "database",
    };
    let progress = out.progress("checking");
    let report = file::check(path, &mut every_step(&progress));
    drop(progress);
    let report = report.map_err(of_file)?;
    if out.json {
        let (sound, version, jobs) = (report.is_sound(), report.version, report.jobs);
        let (problems, more) = (&report.problems, report.more);
        let object = json!({
            "kind": kind, "sound": sound, "version": version, "jobs": jobs, "problems": problems,
            "more_problems": more,
        });
        out.object(&object.to_string())?;
    } else {
        for problem in &report.problems {
            let problem = harmless(problem).into_owned();
            out.line(&out.paint(&problem, Some(Colour::Bad)))?;
        }
        if report.more > 0 {
            out.line(&format!("and {} more", report.more))?;
        }
        let (version, jobs) = (report.version, report.jobs);
        let verdict = if report.is_sound() { "sound" } else { "damaged" };
        let shown = path.display().to_string();
        out.line(&harmless(&format!(
            "{shown}: {verdict}; a {kind} of version {version} with {jobs} sound jobs"
        )))?;
    }
    if report.is_sound() {
        return Ok(());
    }
    out.note("to save what is left: forebay DB salvage NEWFILE");
    Err(Failure::Told(Failure::STORE))
}

/// Copies what can be read into a new file, and says what was lost.
///
/// # Errors
/// If nothing could be copied; with the code of a damaged file if something was lost.
pub(crate) fn salvage(path: &Path, new: &Path, out: &mut Out) -> Result<(), Failure> {
    let progress = out.progress("saving");
    let report = file::salvage(path, new, &mut every_step(&progress));
    drop(progress);
    let report = report.map_err(of_file)?;
    if out.json {
        let (jobs, damaged, gaps) = (report.jobs, report.damaged, report.gaps);
        let (whole, losses) = (report.is_whole(), &report.losses);
        let object = json!({
            "path": new.display().to_string(), "whole": whole, "jobs": jobs, "damaged": damaged, "gaps": gaps,
            "losses": losses,
        });
        out.object(&object.to_string())?;
    } else {
        for loss in &report.losses {
            let loss = harmless(&format!("lost: {loss}")).into_owned();
            out.line(&out.paint(&loss, Some(Colour::Bad)))?;
        }
        let (jobs, shown) = (report.jobs, new.display().to_string());
        out.line(&harmless(&format!("{jobs} jobs are in {shown}")))?;
    }
    if report.is_whole() {
        Ok(())
    } else {
        Err(Failure::Told(Failure::STORE))
    }
}
