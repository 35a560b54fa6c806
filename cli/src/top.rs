//! The counts and what runs, again and again.

use std::path::Path;
use std::time::Duration;

use forebay::control::{Listing, Request};
use serde_json::{Value, json};

use crate::args::Top;
use crate::failure::Failure;
use crate::out::{Colour, Out};
use crate::show::{self, text};
use crate::source::Source;
use crate::table::{Cell, Table};
use crate::text::{duration, instant, now_us};
use crate::verbs::{lines, one};

/// The shortest time between two looks.
const LEAST: Duration = Duration::from_millis(100);

/// Shows until the count is reached, or for ever.
///
/// # Errors
/// When the answers end.
pub(crate) fn run(source: &Source, path: &Path, options: &Top, out: &mut Out) -> Result<(), Failure> {
    let looks = options.count.unwrap_or(if out.terminal { u64::MAX } else { 1 });
    let mut before = None;
    for look in 0..looks {
        if look > 0 {
            std::thread::sleep(options.interval.max(LEAST));
        }
        let now = Look::take(source, options)?;
        if out.json {
            out.object(&json!({"at_us": now.at, "stats": now.stats, "running": now.running}).to_string())?;
        } else {
            if out.terminal {
                out.clear()?;
            }
            show::about(source, path, out)?;
            now.print(before.as_ref(), out)?;
        }
        out.flush()?;
        before = Some(now);
    }
    Ok(())
}

/// What there was to see at one instant.
#[derive(Debug)]
struct Look {
    at: i64,
    stats: Value,
    running: Vec<Value>,
}

impl Look {
    fn take(source: &Source, options: &Top) -> Result<Self, Failure> {
        let stats = one(source, &Request::Stats {}, &[])?;
        let running = Request::List(Listing {
            states: vec!["running".to_owned()],
            limit: Some(options.limit.min(forebay::Filter::MAX_LIMIT)),
            ..Listing::default()
        });
        let (running, _) = lines(source, &running, &[])?;
        let running = running
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_default());
        Ok(Self {
            at: now_us(),
            stats,
            running: running.collect(),
        })
    }

    fn print(&self, before: Option<&Look>, out: &mut Out) -> Result<(), Failure> {
        out.line(&self.rates(before))?;
        show::stats(&self.stats, out)?;
        if self.running.is_empty() {
            return Ok(());
        }
        out.line("")?;
        let mut table = Table::new(&["RUNNING", "QUEUE", "KIND", ">ATTEMPT", ">FOR"]);
        for job in &self.running {
            let started = job["started_us"].as_i64().unwrap_or(self.at);
            table.row(vec![
                Cell::text(&text(&job["id"]), 40).colour(Some(Colour::Busy)),
                Cell::text(&text(&job["queue"]), 40),
                Cell::text(&text(&job["kind"]), 40),
                Cell::number(&job["attempt"]),
                Cell::number(duration(self.at.saturating_sub(started))),
            ]);
        }
        table.print(out)
    }

    /// How much happened each second since the look before.
    fn rates(&self, before: Option<&Look>) -> String {
        let mut line = instant(self.at);
        let Some(before) = before else {
            return line;
        };
        let seconds = self.at.saturating_sub(before.at).max(1) as f64 / 1e6;
        for (name, total) in [
            ("pushed", "pushed"),
            ("started", "claimed"),
            ("succeeded", "succeeded"),
            ("failed", "failed"),
        ] {
            let grown = self.total(total).saturating_sub(before.total(total));
            line += &format!("  {name} {:.0}/s", grown as f64 / seconds);
        }
        line
    }

    fn total(&self, name: &str) -> u64 {
        let queues = self.stats["queues"].as_array().into_iter().flatten();
        queues.filter_map(|queue| queue["totals"][name].as_u64()).sum()
    }
}
