//! Answers, as people read them.

use std::path::Path;

use forebay::control::Request;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::out::{Colour, Out};
use crate::source::{Seen, Source};
use crate::table::{Cell, Table};
use crate::text::{duration, harmless, instant, now_us};
use crate::verbs::one;

/// How many bytes of an input or a result are shown.
pub(crate) const PREVIEW: usize = 4096;
/// How many characters of a name, and of an error in a list.
const NAME: usize = 40;
const ERROR: usize = 60;

/// The text of a JSON value that is one; nothing for one that is not.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn colour(state: &str) -> Option<Colour> {
    match state {
        "succeeded" => Some(Colour::Good),
        "failed" | "expired" | "shed" => Some(Colour::Bad),
        "running" => Some(Colour::Busy),
        "cancelled" => Some(Colour::Dim),
        _ => None,
    }
}

/// Whose answer it is.
pub(crate) fn about(source: &Source, path: &Path, out: &mut Out) -> Result<(), Failure> {
    let path = path.display().to_string();
    let text = match source {
        Source::Owner(_) => {
            let about = one(source, &Request::About {}, &[])?;
            let (pid, version) = (&about["pid"], text(&about["version"]));
            format!("{path}: open in process {pid} (forebay {version}), totals since it was opened")
        }
        Source::Own(_) => format!("{path}: shared by several processes"),
        Source::Look(_, Seen::Dump) => format!("{path}: a dump"),
        Source::Look(_, Seen::Idle(_)) => {
            format!("{path}: no process has it open; ended jobs are those kept")
        }
        Source::Look(_, Seen::Silent(who)) => {
            format!("{path}: open in {who}, which cannot be asked; jobs that run now are shown as queued")
        }
    };
    let text = harmless(&text).into_owned();
    out.line(&out.paint(&text, Some(Colour::Dim)))
}

/// What is known here of why nothing runs: not which handlers another process has, nor what they have to do.
pub(crate) fn seen_from(source: &Source, mut answer: Value) -> Value {
    let instead = match source {
        Source::Owner(_) => return answer,
        Source::Own(_) => json!({
            "name": "elsewhere",
            "text": "nothing in the file holds it back; the processes that share it know what they are waiting for",
        }),
        Source::Look(_, Seen::Dump) => {
            json!({"name": "dump", "text": "it is in a dump; restore it to have it run"})
        }
        Source::Look(_, Seen::Idle(_)) => json!({"name": "not_open", "text": "no process has the file open"}),
        Source::Look(_, Seen::Silent(who)) => json!({
            "name": "owner_unreachable",
            "text": format!("{who} has the file open and cannot be asked; the job may run already"),
        }),
    };
    let Some(reasons) = answer["reasons"].as_array_mut() else {
        return answer;
    };
    let elsewhere = ["queue_not_served", "no_handler", "no_worker", "limit", "waiting"];
    let before = reasons.len();
    reasons.retain(|reason| !elsewhere.contains(&reason["name"].as_str().unwrap_or_default()));
    // A pause that is in the file says enough.
    if reasons.len() < before && (reasons.is_empty() || matches!(source, Source::Look(..))) {
        reasons.push(instead);
    }
    answer
}

pub(crate) fn stats(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "QUEUE",
        ">QUEUED",
        ">SCHEDULED",
        ">BLOCKED",
        ">RUNNING",
        ">SUCCEEDED",
        ">FAILED",
        ">CANCELLED",
        ">EXPIRED",
        ">SHED",
        ">FULL",
        "",
    ]);
    let queues = answer["queues"].as_array().cloned().unwrap_or_default();
    for queue in &queues {
        let totals = &queue["totals"];
        let count = |value: &Value, alarm: Option<Colour>| {
            let count = number(value);
            Cell::number(count).colour(if count == 0 { Some(Colour::Dim) } else { alarm })
        };
        table.row(vec![
            Cell::text(&text(&queue["name"]), NAME),
            count(&queue["queued"], None),
            count(&queue["scheduled"], None),
            count(&queue["blocked"], None),
            count(&queue["running"], Some(Colour::Busy)),
            count(&totals["succeeded"], Some(Colour::Good)),
            count(&totals["failed"], Some(Colour::Bad)),
            count(&totals["cancelled"], None),
            count(&totals["expired"], Some(Colour::Bad)),
            count(&queue["shed"], Some(Colour::Bad)),
            full(&queue["pressure"]),
            match queue["paused"] == true {
                true => Cell::text("paused", NAME).colour(Some(Colour::Bad)),
                false => Cell::default(),
            },
        ]);
    }
    if queues.is_empty() {
        return out.line("no queue has been used yet");
    }
    table.print(out)
}

/// How full a queue is, as a percentage.
fn full(pressure: &Value) -> Cell {
    let percent = 100.0 * pressure.as_f64().unwrap_or(0.0);
    let colour = match percent {
        0.0 => Some(Colour::Dim),
        80.0.. => Some(Colour::Bad),
        _ => None,
    };
    Cell::number(format!("{percent:.0} %")).colour(colour)
}

/// A list of jobs, gathered page by page.
#[derive(Debug)]
pub(crate) struct Jobs {
    table: Table,
    last: Option<String>,
    count: usize,
    now: i64,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        Self {
            table: Table::new(&["ID", "STATE", "QUEUE", "KIND", ">ATTEMPT", ">PUSHED", "ERROR"]),
            last: None,
            count: 0,
            now: now_us(),
        }
    }

    pub(crate) fn add(&mut self, job: &Value) {
        let state = shown_state(job);
        let error = &job["error"];
        let pushed = job["created_us"].as_i64().unwrap_or(0);
        let id = text(&job["id"]);
        self.table.row(vec![
            Cell::text(&id, NAME),
            Cell::text(&state, NAME).colour(colour(&state)),
            Cell::text(&text(&job["queue"]), NAME),
            Cell::text(&text(&job["kind"]), NAME),
            Cell::number(attempts(job)),
            Cell::number(format!("{} ago", duration(self.now.saturating_sub(pushed)))),
            Cell::text(&text(&error["message"]), ERROR),
        ]);
        self.last = Some(id);
        self.count += 1;
    }

    /// Prints them, and how to see more.
    pub(crate) fn print(&self, total: usize, out: &mut Out) -> Result<(), Failure> {
        if out.json {
            return Ok(());
        }
        let Some(last) = &self.last else {
            out.note(if total == 0 {
                "no job matches"
            } else {
                "no more jobs"
            });
            return Ok(());
        };
        self.table.print(out)?;
        if self.count < total {
            let shown = self.count;
            out.note(&format!(
                "{shown} of {}; for more: --after {last}, --limit or --all",
                jobs(total as u64)
            ));
        }
        Ok(())
    }
}

/// So many jobs, in words.
fn jobs(count: u64) -> String {
    if count == 1 {
        "1 job".to_owned()
    } else {
        format!("{count} jobs")
    }
}

/// A job that waits for another attempt is shown as that.
fn shown_state(job: &Value) -> String {
    let state = text(&job["state"]);
    if state == "scheduled" && number(&job["attempt"]) > 0 {
        return "retrying".to_owned();
    }
    state
}

fn attempts(job: &Value) -> String {
    match job["max_attempts"].as_u64() {
        Some(most) if most < u64::from(u32::MAX) => format!("{}/{most}", number(&job["attempt"])),
        _ => number(&job["attempt"]).to_string(),
    }
}

/// Everything about a job.
pub(crate) fn job(
    job: &Value,
    input: Option<(Value, Vec<u8>)>,
    result: Option<(Value, Vec<u8>)>,
    out: &mut Out,
) -> Result<(), Failure> {
    let facts = [settings(job), times(job), extras(job), attempts_made(job)].concat();
    for (name, text) in facts.iter().filter(|(_, text)| !text.is_empty()) {
        let name = format!("{name:<14}");
        let name = out.paint(&name, Some(Colour::Dim));
        out.line(&format!("{name}{}", harmless(text)))?;
    }
    for (name, bytes) in [("input", input), ("result", result)] {
        if let Some((head, bytes)) = bytes {
            content(name, &head, &bytes, out)?;
        }
    }
    Ok(())
}

/// Names with what is to be said of them, if there is something.
type Facts = Vec<(String, String)>;

fn fact(name: &str, text: impl Into<String>) -> (String, String) {
    (name.to_owned(), text.into())
}

fn settings(job: &Value) -> Facts {
    let asked = if job["cancel_requested"] == true {
        ", asked to stop"
    } else {
        ""
    };
    let crashes = number(&job["crashes"]);
    vec![
        fact("id", text(&job["id"])),
        fact("state", format!("{}{asked}", shown_state(job))),
        fact("queue", text(&job["queue"])),
        fact("kind", text(&job["kind"])),
        fact("priority", job["priority"].to_string()),
        fact("attempt", attempts(job)),
        fact(
            "crashes",
            if crashes > 0 {
                crashes.to_string()
            } else {
                String::new()
            },
        ),
    ]
}

fn times(job: &Value) -> Facts {
    let now = now_us();
    let time = |name: &str, field: &str| {
        let text = match job[field].as_i64() {
            Some(us) if us <= now => format!("{} ({} ago)", instant(us), duration(now.saturating_sub(us))),
            Some(us) => format!("{} (in {})", instant(us), duration(us.saturating_sub(now))),
            None => String::new(),
        };
        fact(name, text)
    };
    vec![
        time("pushed", "created_us"),
        time("may run at", "run_at_us"),
        time("started", "started_us"),
        time("ended", "finished_us"),
        time("deadline", "deadline_us"),
        fact(
            "timeout",
            job["timeout_us"].as_i64().map(duration).unwrap_or_default(),
        ),
        time("lease until", "lease_until_us"),
    ]
}

fn extras(job: &Value) -> Facts {
    let list = |name: &str| job[name].as_array().cloned().unwrap_or_default();
    let header = |pair: &Value| fact("header", format!("{}: {}", text(&pair[0]), text(&pair[1])));
    let mut facts = vec![
        fact("key", text(&job["key"])),
        fact("concurrency key", text(&job["concurrency_key"])),
    ];
    facts.extend(list("headers").iter().map(header));
    facts.extend(list("waits").iter().map(|token| fact("waits for", text(token))));
    facts
}

fn attempts_made(job: &Value) -> Facts {
    let failure = |failure: &Value| match failure["kind"].as_str() {
        Some(kind) => format!("{kind}: {}", text(&failure["message"])),
        None => "succeeded".to_owned(),
    };
    let attempt = |attempt: &Value| {
        let (started, ended) = (
            attempt["started_us"].as_i64().unwrap_or(0),
            attempt["ended_us"].as_i64(),
        );
        let took = duration(ended.unwrap_or(started).saturating_sub(started));
        let (by, end) = (text(&attempt["node"]), failure(&attempt["failure"]));
        let text = format!("{} by {by}, took {took}: {end}", instant(started));
        fact(&format!("attempt {}", number(&attempt["number"])), text)
    };
    let mut facts = Facts::new();
    if !job["error"].is_null() {
        facts.push(fact("error", failure(&job["error"])));
    }
    facts.extend(job["history"].as_array().into_iter().flatten().map(attempt));
    facts
}

/// The first bytes of an input or a result, as text if they are some.
fn content(name: &str, head: &Value, bytes: &[u8], out: &mut Out) -> Result<(), Failure> {
    let (len, kind) = (number(&head["len"]), text(&head["content_type"]));
    let title = out.paint(&format!("{name:<14}"), Some(Colour::Dim)).into_owned();
    out.line(&format!("{title}{len} bytes, {}", harmless(&kind)))?;
    // A character may be cut at the end of the preview.
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) if (bytes.len() as u64) < len && e.error_len().is_none() => {
            std::str::from_utf8(&bytes[..e.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match valid {
        Some(text) => {
            for line in text.lines() {
                out.line(&format!("  {}", harmless(line)))?;
            }
        }
        None => {
            for row in bytes.chunks(32).take(8) {
                let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
                out.line(&format!("  {}", hex.join(" ")))?;
            }
        }
    }
    let shown = if valid.is_some() {
        bytes.len()
    } else {
        bytes.len().min(256)
    };
    if (shown as u64) < len {
        out.line(&format!("  … all of it: show --{name}"))?;
    }
    Ok(())
}

pub(crate) fn explanation(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let head = match answer["id"].as_str() {
        Some(id) => format!("job {id} is {}", text(&answer["state"])),
        None => {
            let queue = &answer["queue"];
            let waiting = number(&queue["queued"]) + number(&queue["scheduled"]) + number(&queue["blocked"]);
            let (name, running) = (text(&queue["name"]), number(&queue["running"]));
            let queued = number(&queue["queued"]);
            let waiting = jobs(waiting);
            format!("queue {name:?}: {waiting} waiting, {queued} of them queued; {running} running")
        }
    };
    out.line(&harmless(&head))?;
    for reason in answer["reasons"].as_array().into_iter().flatten() {
        out.line(&format!("  {}", harmless(&text(&reason["text"]))))?;
    }
    let totals = answer["queue"]["totals"].as_object().into_iter().flatten();
    let shed = totals.filter(|(name, count)| name.starts_with("shed_") && number(count) > 0);
    let shed: Vec<String> = shed.map(|(name, count)| format!("{count} {name}")).collect();
    if shed.is_empty() {
        return Ok(());
    }
    out.line(&harmless(&format!("  so far shed: {}", shed.join(", "))))
}

pub(crate) fn retried(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let (id, old, state) = (
        text(&answer["id"]),
        text(&answer["retry_of"]),
        text(&answer["state"]),
    );
    out.line(&match answer["created"] == true {
        true => format!("job {old} runs again as {id}, which is {state}"),
        false => format!("job {old} was retried before, as {id}, which is {state}"),
    })
}

pub(crate) fn cancelled(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let (id, state) = (text(&answer["id"]), text(&answer["state"]));
    out.line(&harmless(&match state.as_str() {
        "cancelled" => format!("job {id} is cancelled"),
        "running" => format!("job {id} runs and was asked to stop"),
        _ => format!("job {id} has {state} already; nothing was changed"),
    }))
}

pub(crate) fn paused(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let name = text(&answer["queue"]);
    out.line(&harmless(&match answer["paused"] == true {
        true => format!("queue {name:?} is paused"),
        false => format!("queue {name:?} is not paused"),
    }))
}

pub(crate) fn purged(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let (name, purged) = (text(&answer["queue"]), number(&answer["purged"]));
    out.line(&harmless(&format!("queue {name:?}: {} cancelled", jobs(purged))))
}

pub(crate) fn dumped(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let (path, count) = (text(&answer["path"]), number(&answer["jobs"]));
    out.line(&harmless(&format!("{} written to {path}", jobs(count))))
}

pub(crate) fn restored(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let (accepted, known) = (number(&answer["jobs"]), number(&answer["known"]));
    let conflicts = number(&answer["conflicts"]);
    let mut line = format!("{} accepted", jobs(accepted));
    if known > 0 {
        line += &format!(", {known} here already");
    }
    if conflicts > 0 {
        line += &format!(", {conflicts} not accepted, as their keys belong to other jobs");
    }
    out.line(&line)
}
