//! The job: what a caller pushes ([`NewJob`]), what can be asked about it ([`Job`]), and where it
//! stands ([`State`], one picture and one row per edge in `docs/states.md`).

mod listing;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::names::{KindId, QueueId, check_name};
use crate::outcome::{Failure, FailureKind, ShedReason};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

pub use listing::{Filter, Page};

/// Where a job stands.
///
/// A job that waits for its next attempt is [`State::Scheduled`] with `attempt > 0`; [`Job::retrying`]
/// tells the two apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum State {
    /// Waits for tokens that other jobs or events deliver.
    Blocked = 1,
    /// Waits for its time: a delay, a run-at, or the pause before the next attempt.
    Scheduled = 2,
    /// Waits for a free slot and a worker that knows its kind.
    Queued = 3,
    /// A worker holds its lease.
    Running = 4,
    /// Ended well; the result is kept for the retention time.
    Succeeded = 10,
    /// Ended badly: attempts used up, a fatal error, or a lost lease too many.
    Failed = 11,
    /// Ended by an operator or its owner.
    Cancelled = 12,
    /// Its deadline passed before an attempt could start.
    Expired = 13,
    /// Given up by a rule against overload, which its error names (see [`ShedReason`](crate::ShedReason)).
    Shed = 14,
}

impl State {
    /// Every state.
    pub const ALL: &'static [State] = &[
        State::Blocked,
        State::Scheduled,
        State::Queued,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
        State::Expired,
        State::Shed,
    ];

    /// The name in lower case, as in dumps, filters and every binding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Blocked => "blocked",
            State::Scheduled => "scheduled",
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
            State::Shed => "shed",
        }
    }

    /// The stable number of the state.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// Whether the job is over: no edge leads out of a final state.
    #[must_use]
    pub const fn is_final(self) -> bool {
        self as u8 >= State::Succeeded as u8
    }

    /// Whether the job waits and no worker holds it.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, State::Blocked | State::Scheduled | State::Queued)
    }

    /// Whether a job in this state gives its idempotency key back, so that the same work can be pushed again.
    #[must_use]
    pub const fn frees_key(self) -> bool {
        matches!(self, State::Cancelled | State::Shed)
    }

    /// Whether a job that ended so still has its payload: one that succeeded needs it no more, and one that was
    /// shed would hold what shedding is to save.
    #[must_use]
    pub const fn keeps_payload(self) -> bool {
        !matches!(self, State::Succeeded | State::Shed)
    }

    /// The state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<State> {
        Self::ALL.iter().copied().find(|s| s.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How urgent a job is within its queue: higher first, equal ones in the order they became ready.
pub type Priority = i8;

/// A name given as text, or as the number it was interned to (which saves a look-up per push).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name<'a, Id> {
    /// The text.
    Text(Cow<'a, str>),
    /// The number, from [`crate::Dispatcher::queue`] or [`crate::Dispatcher::kind`].
    Id(Id),
}

impl<'a, Id> From<&'a str> for Name<'a, Id> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a, Id> From<&'a String> for Name<'a, Id> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<Id> From<String> for Name<'_, Id> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<KindId> for Name<'_, KindId> {
    fn from(id: KindId) -> Self {
        Self::Id(id)
    }
}

impl From<QueueId> for Name<'_, QueueId> {
    fn from(id: QueueId) -> Self {
        Self::Id(id)
    }
}

/// When a job may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RunAt {
    /// As soon as there is a slot.
    #[default]
    Now,
    /// This long after the push.
    After(Duration),
    /// At this instant; one that has passed means now.
    At(Timestamp),
}

/// Whether a payload is short enough.
///
/// # Errors
/// `Invalid` if it is not.
#[inline]
pub(crate) fn check_payload(payload: &Payload, max: usize) -> Result<()> {
    match payload.len() {
        Some(len) if len > max => Err(Error::invalid(format!(
            "payload has {len} bytes; option max_payload allows {max}"
        ))),
        _ => payload.given_type().map_or(Ok(()), check_content_type),
    }
}

/// Checks what a caller says that a payload is.
fn check_content_type(text: &str) -> Result<()> {
    let (len, max) = (text.len(), NewJob::MAX_CONTENT_TYPE);
    if len > max {
        let text = format!("content type has {len} bytes; {max} are allowed");
        return Err(Error::invalid(text));
    }
    if text.chars().any(char::is_control) {
        let text = format!("content type {text:?} has a control character");
        return Err(Error::invalid(text));
    }
    Ok(())
}

/// Refuses a list of more than it may be.
fn check_count(len: usize, max: usize, what: &str) -> Result<()> {
    if len > max {
        return Err(Error::invalid(format!(
            "{len} {what} are given; {max} are allowed"
        )));
    }
    Ok(())
}

/// A job to be pushed: a kind, a payload, and what the caller wants to say about them.
///
/// ```
/// use forebay::NewJob;
/// use std::time::Duration;
/// let job = NewJob::new("mail", b"to: you")
///     .queue("outgoing")
///     .priority(5)
///     .delay(Duration::from_secs(10))
///     .max_attempts(8)
///     .key("order-17");
/// assert!(job.check(1 << 20).is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a job does nothing until it is pushed"]
pub struct NewJob<'a> {
    /// [`JobId::NIL`] has one made.
    pub(crate) id: JobId,
    pub(crate) kind: Name<'a, KindId>,
    pub(crate) queue: Option<Name<'a, QueueId>>,
    pub(crate) payload: Payload,
    pub(crate) priority: Priority,
    pub(crate) run_at: RunAt,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) durability: Option<Durability>,
    pub(crate) rare: Option<Box<Rare<'a>>>,
}

/// What most jobs are pushed without. It stands apart because a job on its way to the engine is moved by every
/// hand that it passes through, and the rest of it is moved in registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare<'a> {
    pub(crate) deadline: Option<RunAt>,
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) concurrency_key: Option<Cow<'a, str>>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) waits: Vec<Token>,
}

// No larger than what compilers move without a call.
const _: () = assert!(size_of::<NewJob<'_>>() <= 128);

impl<'a> NewJob<'a> {
    /// A job of this kind with this payload, for the default queue, at once.
    #[inline]
    pub fn new(kind: impl Into<Name<'a, KindId>>, payload: impl Into<Payload>) -> Self {
        Self {
            id: JobId::NIL,
            kind: kind.into(),
            queue: None,
            payload: payload.into(),
            priority: 0,
            run_at: RunAt::Now,
            max_attempts: None,
            timeout: None,
            durability: None,
            rare: None,
        }
    }

    /// What it has of that which most jobs do not have.
    #[inline]
    pub(crate) fn rare(&self) -> Option<&Rare<'a>> {
        self.rare.as_deref()
    }

    pub(crate) fn rare_mut(&mut self) -> &mut Rare<'a> {
        self.rare.get_or_insert_default()
    }

    /// The tokens it waits for.
    pub(crate) fn waits(&self) -> &[Token] {
        self.rare().map_or(&[], |rare| &rare.waits)
    }

    /// The job's id; one is made at push otherwise, and for [`JobId::NIL`]. Pushing the same id twice is safe: the
    /// second push changes nothing.
    #[inline]
    pub fn id(mut self, id: JobId) -> Self {
        self.id = id;
        self
    }

    /// The queue, instead of the default one.
    #[inline]
    pub fn queue(mut self, queue: impl Into<Name<'a, QueueId>>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// The priority, from -128 to 127: higher first. Default 0.
    #[inline]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Start no earlier than this long after the push.
    #[inline]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.run_at = RunAt::After(delay);
        self
    }

    /// Start no earlier than this instant.
    #[inline]
    pub fn run_at(mut self, at: Timestamp) -> Self {
        self.run_at = RunAt::At(at);
        self
    }

    /// How often the job may run in all (at least 1; `u32::MAX` is without limit and needs a retry
    /// policy that pauses).
    #[inline]
    pub fn max_attempts(mut self, runs: u32) -> Self {
        self.max_attempts = Some(runs);
        self
    }

    /// How long one attempt may take.
    #[inline]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// An attempt that has not started this long after the push never starts: the job expires.
    #[inline]
    pub fn expires_after(mut self, after: Duration) -> Self {
        self.rare_mut().deadline = Some(RunAt::After(after));
        self
    }

    /// An attempt that has not started at this instant never starts: the job expires.
    #[inline]
    pub fn deadline(mut self, at: Timestamp) -> Self {
        self.rare_mut().deadline = Some(RunAt::At(at));
        self
    }

    /// The idempotency key: of several pushes with one key, the first makes the job and the others get
    /// its id; another kind or payload under the same key is a conflict. The key is free again when the
    /// job is cancelled or forgotten (see the retention options).
    #[inline]
    pub fn key(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.rare_mut().key = Some(key.into());
        self
    }

    /// Whose turn the job takes: jobs of a queue with one concurrency key (a tenant, an account, a host) start
    /// in the order in which they became ready and take turns with those of other keys, so that nobody starves
    /// for somebody who pushes much. See the queue options `key_concurrency` and `key_rate` for limits.
    #[inline]
    pub fn concurrency_key(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.rare_mut().concurrency_key = Some(key.into());
        self
    }

    /// The retry policy of this job, instead of its kind's.
    #[inline]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.rare_mut().retry = Some(policy);
        self
    }

    /// A header: a name and a text that travel with the job (trace ids, tenant, ...). At most
    /// [`MAX_HEADERS`](Self::MAX_HEADERS).
    #[inline]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.rare_mut().headers.push((name.into(), value.into()));
        self
    }

    /// The headers it has so far.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        self.rare().map_or(&[], |rare| &rare.headers)
    }

    /// With these headers instead of those it has.
    pub fn with_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.rare_mut().headers = headers;
        self
    }

    /// The job is blocked until a signal has delivered each of its tokens once. At most
    /// [`MAX_TOKENS`](Self::MAX_TOKENS).
    #[inline]
    pub fn waits_for(mut self, token: impl Into<Token>) -> Self {
        self.rare_mut().waits.push(token.into());
        self
    }

    /// What the job must survive before its push is answered, instead of the option `durability`. An engine
    /// that cannot do so much does what it can; [`Pushed::durability`](crate::Pushed::durability) tells.
    #[inline]
    pub fn durability(mut self, level: Durability) -> Self {
        self.durability = Some(level);
        self
    }

    /// Checks what can be checked without an engine.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that names the field and the mend.
    #[inline]
    pub fn check(&self, max_payload: usize) -> Result<()> {
        if let Name::Text(kind) = &self.kind {
            check_name(kind, "kind")?;
        }
        if let Some(Name::Text(queue)) = &self.queue {
            check_name(queue, "queue")?;
        }
        check_payload(&self.payload, max_payload)?;
        if self.max_attempts == Some(0) {
            return Err(Error::invalid(
                "max_attempts is 0; it counts all runs and must be at least 1",
            ));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(Error::invalid("timeout is zero; leave it out for no timeout"));
        }
        self.rare().map_or(Ok(()), Rare::check)
    }

    /// The longest value of a header, in bytes.
    pub const MAX_HEADER: usize = 8 * 1024;
    /// The most headers of a job.
    pub const MAX_HEADERS: usize = 256;
    /// The most tokens that a job can wait for.
    pub const MAX_TOKENS: usize = 1024;
    /// The longest content type, in bytes. It has no control characters.
    pub const MAX_CONTENT_TYPE: usize = 255;
}

impl Rare<'_> {
    fn check(&self) -> Result<()> {
        if let Some(key) = &self.key {
            check_name(key, "key")?;
        }
        if let Some(key) = &self.concurrency_key {
            check_name(key, "concurrency key")?;
        }
        if let Some(policy) = &self.retry {
            policy.check()?;
        }
        check_count(self.headers.len(), NewJob::MAX_HEADERS, "headers")?;
        for (name, value) in &self.headers {
            check_name(name, "header")?;
            if value.len() > NewJob::MAX_HEADER {
                let (len, max) = (value.len(), NewJob::MAX_HEADER);
                return Err(Error::invalid(format!(
                    "header {name:?} has {len} bytes; {max} are allowed"
                )));
            }
        }
        check_count(self.waits.len(), NewJob::MAX_TOKENS, "tokens")?;
        for token in &self.waits {
            check_name(token, "token")?;
        }
        Ok(())
    }
}

/// A token that a blocked job waits for.
pub type Token = Arc<str>;

/// The parts of a job that most jobs do not have, shared between the record and its leases.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Extras {
    /// The idempotency key.
    pub key: Option<Box<str>>,
    /// The fingerprint of kind and payload that a repeated keyed push must match.
    pub fingerprint: u64,
    /// Whose turn the job takes.
    pub concurrency_key: Option<Box<str>>,
    /// The retry policy of this job.
    pub retry: Option<RetryPolicy>,
    /// Headers, in the order they were given.
    pub headers: Vec<(String, String)>,
}

/// An engine's own name for where it keeps a job: opaque, only good together with id and fence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Handle(pub u64);

/// A job under one claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct JobRef {
    /// Which job.
    pub id: JobId,
    /// Where the engine keeps it.
    pub handle: Handle,
    /// Under which claim.
    pub fence: u64,
}

impl Default for JobRef {
    fn default() -> Self {
        Self {
            id: JobId::NIL,
            handle: Handle(0),
            fence: 0,
        }
    }
}

/// One run of a job, as its history tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct Attempt {
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The node that ran it.
    pub node: Arc<str>,
    /// The worker of that node; 0 when the lease was taken by a consumer without a number.
    pub worker: u32,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What became of it; `None` for success.
    pub failure: Option<Failure>,
}

/// Everything known about a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its kind: which handler runs it.
    pub kind: Arc<str>,
    /// What it carries. Empty once it has succeeded.
    pub payload: Payload,
    /// Where it stands.
    pub state: State,
    /// Higher first.
    pub priority: Priority,
    /// How many attempts have started (those given back do not count).
    pub attempt: u32,
    /// How often it may run in all; `None` until the first claim decides, if the push did not say.
    pub max_attempts: Option<u32>,
    /// How often its process died while it ran.
    pub crashes: u32,
    /// How often it has been claimed: only ever grows, and guards every write.
    pub fence: u64,
    /// When it was pushed.
    pub created: Timestamp,
    /// When it may start, or might have.
    pub run_at: Timestamp,
    /// When the present or last attempt started.
    pub started: Option<Timestamp>,
    /// When it ended for good.
    pub finished: Option<Timestamp>,
    /// No attempt starts after this.
    pub deadline: Option<Timestamp>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// When the present lease ends, if it does.
    pub lease_until: Option<Timestamp>,
    /// The key, retry policy and headers.
    pub extras: Option<Arc<Extras>>,
    /// The tokens it still waits for.
    pub waits: Vec<Token>,
    /// Whether a running job has been asked to stop.
    pub cancel_requested: bool,
    /// What the handler answered, once succeeded.
    pub result: Option<Payload>,
    /// The last failure, if the last attempt failed or the job ended badly.
    pub error: Option<Failure>,
    /// The attempts so far, oldest first; at most the last [`Job::HISTORY`].
    pub history: Vec<Attempt>,
}

impl Job {
    /// How many attempts the history keeps.
    pub const HISTORY: usize = 16;

    /// Whether the job waits for its next attempt after a failed one.
    #[must_use]
    pub fn retrying(&self) -> bool {
        self.state == State::Scheduled && self.attempt > 0
    }

    /// The idempotency key, if it was pushed with one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.extras.as_ref()?.key.as_deref()
    }

    /// The concurrency key, if it was pushed with one.
    #[must_use]
    pub fn concurrency_key(&self) -> Option<&str> {
        self.extras.as_ref()?.concurrency_key.as_deref()
    }

    /// The headers, in the order they were given.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        self.extras.as_ref().map_or(&[], |e| &e.headers)
    }

    /// Which rule against overload gave it up, if one did.
    #[must_use]
    pub fn shed(&self) -> Option<ShedReason> {
        match self.error.as_ref()?.kind {
            FailureKind::Shed(reason) => Some(reason),
            _ => None,
        }
    }

    /// What the handler answered, for callers that want the result or an error.
    ///
    /// # Errors
    /// `Shed` if a rule against overload gave it up; `JobFailed` with the job's own error if it ended otherwise
    /// than well; `Invalid` if it is not over.
    pub fn into_result(self) -> Result<Payload> {
        if !self.state.is_final() {
            let text = format!(
                "job {} is {} and has no result yet; wait for its end",
                self.id, self.state
            );
            return Err(Error::invalid(text));
        }
        if self.state == State::Succeeded {
            return Ok(self.result.unwrap_or_default());
        }
        let why = self.error.map(|e| format!(": {e}")).unwrap_or_default();
        let text = format!("job {} of kind {:?} has {}{why}", self.id, self.kind, self.state);
        let kind = match self.state {
            State::Shed => ErrorKind::Shed,
            _ => ErrorKind::JobFailed,
        };
        Err(Error::new(kind, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_unique_names_and_numbers() {
        for (i, s) in State::ALL.iter().enumerate() {
            assert_eq!(State::from_name(s.name()), Some(*s));
            assert!(State::ALL[..i].iter().all(|o| o.code() != s.code()));
            assert!(s.is_final() != (s.is_waiting() || *s == State::Running));
        }
        assert_eq!(State::from_name("unknown"), None);
    }

    #[test]
    fn the_last_page_has_no_next() {
        let d = crate::Dispatcher::in_memory().unwrap();
        for _ in 0..7 {
            d.push(NewJob::new("k", ())).unwrap();
        }
        let mut filter = Filter {
            limit: Some(3),
            ..Filter::default()
        };
        let mut sizes = Vec::new();
        loop {
            let page = d.list(&filter).unwrap();
            sizes.push(page.jobs.len());
            filter.after = page.next(&filter);
            if filter.after.is_none() {
                break;
            }
        }
        assert_eq!(sizes, [3, 3, 1]);
        filter.limit = Some(7);
        assert_eq!(d.list(&filter).unwrap().next(&filter), None, "all are on it");
    }

    fn many_headers(count: usize) -> NewJob<'static> {
        NewJob::new("k", ()).with_headers(vec![("h".into(), "v".into()); count])
    }

    fn many_tokens(count: usize) -> NewJob<'static> {
        (0..count).fold(NewJob::new("k", ()), |job, _| job.waits_for("t"))
    }

    fn typed(content_type: String) -> NewJob<'static> {
        let payload = Payload::copy(b"x", content_type.into(), 10);
        NewJob::new("k", payload.expect("it is short"))
    }

    #[test]
    fn as_many_as_may_be_are_accepted() {
        for job in [
            many_headers(NewJob::MAX_HEADERS),
            many_tokens(NewJob::MAX_TOKENS),
            typed("t".repeat(NewJob::MAX_CONTENT_TYPE)),
        ] {
            job.check(10).expect("it is within its bounds");
        }
    }

    #[test]
    fn bad_jobs_are_refused_with_the_mend() {
        let ok = || NewJob::new("k", ());
        for (job, want) in [
            (NewJob::new("", ()), "kind name is empty"),
            (ok().queue("\u{7}"), "control character"),
            (ok().max_attempts(0), "at least 1"),
            (ok().timeout(Duration::ZERO), "leave it out"),
            (ok().key(""), "key name is empty"),
            (
                ok().retry(RetryPolicy::DEFAULT.with_jitter(f64::NAN)),
                "between 0 and 1",
            ),
            (many_headers(NewJob::MAX_HEADERS + 1), "257 headers"),
            (many_tokens(NewJob::MAX_TOKENS + 1), "1025 tokens"),
            (typed("t".repeat(NewJob::MAX_CONTENT_TYPE + 1)), "256 bytes"),
            (typed("text/\n".into()), "control"),
            (ok().header("h", "x".repeat(NewJob::MAX_HEADER + 1)), "bytes"),
            (NewJob::new("k", vec![0; 11]), "max_payload"),
        ] {
            let error = job.check(10).unwrap_err();
            assert!(error.to_string().contains(want), "{error} / {want}");
        }
        assert!(NewJob::new("k", vec![0; 10]).check(10).is_ok());
    }
}
