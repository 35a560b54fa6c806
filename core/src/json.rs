//! What is known of jobs and queues as JSON text, for C, command lines and web pages.
//!
//! The names are those of the Rust fields; instants and durations are in microseconds, as in dumps. A
//! payload is told of by its length and type only: its bytes may be large, and may be no text.

use serde::Serialize;

use crate::config::QueueOptions;
use crate::dispatcher::{Explanation, QueueExplanation, QueueStats, Stats, Why};
use crate::job::{Attempt, Filter, Job, Page};
use crate::outcome::Failure;
use crate::payload::Payload;
use crate::time::Timestamp;

impl Job {
    /// Everything known about the job, as one JSON object.
    ///
    /// ```
    /// # let d = forebay::Dispatcher::in_memory()?;
    /// let pushed = d.push(forebay::NewJob::new("mail", b"hello"))?;
    /// let text = d.get(pushed.id)?.to_json();
    /// assert!(text.contains(r#""kind":"mail""#) && text.contains(r#""state":"queued""#), "{text}");
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        write(&JobText::from(self))
    }
}

impl Page {
    /// The page as one JSON object: its jobs, how many match the filter in all, and the id after which the next
    /// page begins. `filter` is the one that it was asked for with.
    ///
    /// ```
    /// # let d = forebay::Dispatcher::in_memory()?;
    /// let filter = forebay::Filter::default();
    /// assert_eq!(d.list(&filter)?.to_json(&filter), r#"{"jobs":[],"total":0,"next":null}"#);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self, filter: &Filter) -> String {
        write(&PageText {
            jobs: self.jobs.iter().map(JobText::from).collect(),
            total: self.total,
            next: self.next(filter).map(|id| id.to_string()),
        })
    }
}

impl QueueOptions {
    /// The options as one JSON object: each with its text, `default` for what is left to the dispatcher.
    ///
    /// ```
    /// let options = forebay::QueueOptions::new().capacity(7).to_json();
    /// assert!(options.contains(r#""capacity":"7""#) && options.contains(r#""rate":"default""#), "{options}");
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = |name: &&str| {
            let text = self.text(name).expect("the table has every one of its names");
            ((*name).to_owned(), text.into())
        };
        write(&Self::NAMES.iter().map(text).collect::<serde_json::Map<_, _>>())
    }
}

impl Stats {
    /// The counts as one JSON object.
    ///
    /// ```
    /// # let d = forebay::Dispatcher::in_memory()?;
    /// d.push(forebay::NewJob::new("mail", b"hello"))?;
    /// let text = d.stats()?.to_json();
    /// assert!(text.contains(r#""name":"default""#) && text.contains(r#""queued":1"#), "{text}");
    /// # Ok::<(), forebay::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        write(&StatsText {
            queues: self.queues.iter().map(QueueText::from).collect(),
            bodies: self.bodies,
            concurrency: self.concurrency,
            hook_failures: self.hook_failures,
            sleeps: self.sleeps,
        })
    }
}

impl Explanation {
    /// The explanation as one JSON object: each reason has a name for programs and a text for people.
    #[must_use]
    pub fn to_json(&self) -> String {
        write(&ExplanationText {
            id: self.id.to_string(),
            state: self.state.name(),
            reasons: reasons(&self.reasons),
        })
    }
}

impl QueueExplanation {
    /// The explanation as one JSON object: the counts of the queue, and the reasons as those of a job.
    #[must_use]
    pub fn to_json(&self) -> String {
        write(&QueueExplanationText {
            queue: QueueText::from(&self.queue),
            reasons: reasons(&self.reasons),
        })
    }
}

fn reasons(reasons: &[Why]) -> Vec<ReasonText> {
    let reason = |why: &Why| ReasonText {
        name: why.name(),
        text: why.to_string(),
    };
    reasons.iter().map(reason).collect()
}

fn write(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("only maps with text keys, and numbers that are no fractions")
}

#[derive(Serialize)]
struct JobText<'a> {
    id: String,
    queue: &'a str,
    kind: &'a str,
    state: &'static str,
    priority: i8,
    attempt: u32,
    max_attempts: Option<u32>,
    crashes: u32,
    fence: u64,
    created_us: i64,
    run_at_us: i64,
    started_us: Option<i64>,
    finished_us: Option<i64>,
    deadline_us: Option<i64>,
    timeout_us: Option<u64>,
    lease_until_us: Option<i64>,
    key: Option<&'a str>,
    concurrency_key: Option<&'a str>,
    headers: &'a [(String, String)],
    waits: Vec<&'a str>,
    cancel_requested: bool,
    payload: PayloadText<'a>,
    result: Option<PayloadText<'a>>,
    error: Option<FailureText<'a>>,
    history: Vec<AttemptText<'a>>,
}

#[derive(Serialize)]
struct PageText<'a> {
    jobs: Vec<JobText<'a>>,
    total: usize,
    next: Option<String>,
}

#[derive(Serialize)]
struct PayloadText<'a> {
    len: Option<usize>,
    content_type: Option<&'a str>,
}

#[derive(Serialize)]
struct FailureText<'a> {
    kind: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct AttemptText<'a> {
    number: u32,
    node: &'a str,
    worker: u32,
    started_us: i64,
    ended_us: i64,
    failure: Option<FailureText<'a>>,
}

#[derive(Serialize)]
struct StatsText<'a> {
    queues: Vec<QueueText<'a>>,
    bodies: usize,
    concurrency: usize,
    hook_failures: u64,
    sleeps: u64,
}

#[derive(Serialize)]
struct QueueText<'a> {
    name: &'a str,
    capacity: usize,
    paused: bool,
    blocked: u64,
    scheduled: u64,
    queued: u64,
    running: u64,
    kept: u64,
    shed: u64,
    pressure: f64,
    totals: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct ExplanationText {
    id: String,
    state: &'static str,
    reasons: Vec<ReasonText>,
}

#[derive(Serialize)]
struct QueueExplanationText<'a> {
    queue: QueueText<'a>,
    reasons: Vec<ReasonText>,
}

#[derive(Serialize)]
struct ReasonText {
    name: &'static str,
    text: String,
}

impl<'a> From<&'a Job> for JobText<'a> {
    fn from(job: &'a Job) -> Self {
        let micros = |at: Option<Timestamp>| at.map(Timestamp::as_micros);
        Self {
            id: job.id.to_string(),
            queue: &job.queue,
            kind: &job.kind,
            state: job.state.name(),
            priority: job.priority,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            crashes: job.crashes,
            fence: job.fence,
            created_us: job.created.as_micros(),
            run_at_us: job.run_at.as_micros(),
            started_us: micros(job.started),
            finished_us: micros(job.finished),
            deadline_us: micros(job.deadline),
            timeout_us: job
                .timeout
                .map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)),
            lease_until_us: micros(job.lease_until),
            key: job.key(),
            concurrency_key: job.concurrency_key(),
            headers: job.headers(),
            waits: job.waits.iter().map(|token| &**token).collect(),
            cancel_requested: job.cancel_requested,
            payload: PayloadText::from(&job.payload),
            result: job.result.as_ref().map(PayloadText::from),
            error: job.error.as_ref().map(FailureText::from),
            history: job.history.iter().map(AttemptText::from).collect(),
        }
    }
}

impl<'a> From<&'a Payload> for PayloadText<'a> {
    fn from(payload: &'a Payload) -> Self {
        Self {
            len: payload.len(),
            content_type: payload.content_type(),
        }
    }
}

impl<'a> From<&'a Failure> for FailureText<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            kind: failure.kind.name(),
            message: &failure.message,
        }
    }
}

impl<'a> From<&'a Attempt> for AttemptText<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            node: &attempt.node,
            worker: attempt.worker,
            started_us: attempt.started.as_micros(),
            ended_us: attempt.ended.as_micros(),
            failure: attempt.failure.as_ref().map(FailureText::from),
        }
    }
}

impl<'a> From<&'a QueueStats> for QueueText<'a> {
    fn from(queue: &'a QueueStats) -> Self {
        let counts = &queue.counts;
        let totals = counts.totals.named().into_iter();
        Self {
            name: &queue.name,
            capacity: queue.capacity,
            paused: counts.paused,
            blocked: counts.blocked,
            scheduled: counts.scheduled,
            queued: counts.queued,
            running: counts.running,
            kept: counts.kept,
            shed: counts.totals.shed(),
            pressure: queue.pressure,
            totals: totals
                .map(|(name, count)| (name.to_owned(), count.into()))
                .collect(),
        }
    }
}
