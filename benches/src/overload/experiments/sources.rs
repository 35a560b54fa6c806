//! Where the recordings come from, as their files say it.

use super::Size;
use crate::overload::arrivals::Trace;
use crate::overload::report::Report;

/// A paragraph for each.
pub fn run(_: Size, report: &mut Report) {
    let paragraph = |trace: Trace| {
        let text = trace.source.join("\n  ");
        format!(
            "* **{}** (`{}.txt`, {} steps of {}). {text}\n",
            trace.title,
            trace.name,
            trace.counts.len(),
            trace.step
        )
    };
    report.block("sources", Trace::all().into_iter().map(paragraph).collect());
}
