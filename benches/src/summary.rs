//! The summary of several runs of several contenders: a row each, as a table for people and as JSON for the
//! program that writes the performance page.

use serde::Serialize;

use crate::measure::{Sample, median};

/// One contender's runs: medians.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The contender's name, as in the arguments.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// Jobs per second.
    pub rate: f64,
    /// The slowest and the fastest run.
    pub range: (f64, f64),
    /// Microseconds on the processors per job.
    pub cpu: f64,
    /// The most memory in the machine at any time, in megabytes.
    pub peak: f64,
}

impl Row {
    /// Sums up the runs of one contender; `None` if there was none.
    pub fn of(name: &str, title: &str, samples: &[Sample]) -> Option<Self> {
        let rates = || samples.iter().map(Sample::rate);
        Some(Self {
            name: name.to_owned(),
            title: title.to_owned(),
            rate: median(rates())?,
            range: (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max)),
            cpu: median(samples.iter().map(Sample::cpu_per_job))?,
            peak: median(samples.iter().map(|sample| sample.peak as f64 / 1e6))?,
        })
    }

    /// How many times as fast as `other`.
    pub fn ratio(&self, other: &Row) -> f64 {
        self.rate / other.rate
    }
}

/// The rows as a markdown table, with a column of ratios for each of the names in `against` that has a row.
pub fn table(rows: &[Row], against: &[&str]) -> String {
    let references: Vec<&Row> = against
        .iter()
        .filter_map(|name| rows.iter().find(|row| row.name == *name))
        .collect();
    let mut text = String::from("| what | jobs/s (median) | from–to | CPU µs/job | peak RSS MB |");
    text.extend(references.iter().map(|row| format!(" ratio to {} |", row.name)));
    text.push_str("\n|---|---|---|---|---|");
    text.push_str(&"---|".repeat(references.len()));
    for row in rows {
        let (low, high) = row.range;
        text.push_str(&format!(
            "\n| {} | {} | {}–{} | {:.3} | {:.0} |",
            row.title,
            millions(row.rate),
            millions(low),
            millions(high),
            row.cpu,
            row.peak,
        ));
        text.extend(
            references
                .iter()
                .map(|other| format!(" {:.2} |", row.ratio(other))),
        );
    }
    text.push('\n');
    text
}

fn millions(rate: f64) -> String {
    format!("{:.2} M", rate / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64) -> Sample {
        Sample {
            jobs: 1_000_000,
            seconds,
            cpu: 2.0,
            peak: 3_000_000,
        }
    }

    #[test]
    fn a_row_is_the_median_of_its_runs_and_the_table_compares() {
        let slow = Row::of("slow", "slow one", &[sample(1.0), sample(2.0), sample(4.0)]);
        let fast = Row::of("fast", "fast one", &[sample(0.5)]);
        let rows = [slow.expect("three runs"), fast.expect("one run")];
        assert_eq!(rows[0].rate, 500_000.0);
        let text = table(&rows, &["slow", "absent"]);
        let last = "| fast one | 2.00 M | 2.00 M–2.00 M | 2.000 | 3 | 4.00 |";
        assert_eq!(text.lines().last(), Some(last));
        assert!(text.starts_with(
            "| what | jobs/s (median) | from–to | CPU µs/job | peak RSS MB | ratio to slow |\n"
        ));
    }

    #[test]
    fn no_runs_are_no_row() {
        assert_eq!(Row::of("a", "a", &[]), None);
    }
}
