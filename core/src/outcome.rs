//! What a handler answers ([`Outcome`]) and what follows from it ([`decide`]): the only place where a
//! state is chosen.
//!
//! [`decide`] is pure. A [`Transition`] carries a delay, never an instant, so that only the engine's
//! clock counts, and the fence of the claim it answers, so that a late answer changes nothing.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::job::{JobRef, State};
use crate::payload::Payload;
use crate::retry::RetryPolicy;

/// Which rule against overload gave a job up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ShedReason {
    /// Its queue was full, and the newcomer had to go.
    Newest = 1,
    /// Its queue was full, and the one that had waited longest had to go.
    Oldest = 2,
    /// Its queue was full, and the lowest priority had to go.
    Lowest = 3,
    /// Its queue was full, and a newer job of the same concurrency key took its place.
    Coalesced = 4,
    /// Its queue was full, and it was not in the sample that is taken all the same.
    Sampled = 5,
    /// It had waited too long in a queue that is overloaded.
    Delayed = 6,
}

impl ShedReason {
    /// Every reason.
    pub const ALL: &'static [ShedReason] = &[
        ShedReason::Newest,
        ShedReason::Oldest,
        ShedReason::Lowest,
        ShedReason::Coalesced,
        ShedReason::Sampled,
        ShedReason::Delayed,
    ];

    /// The stable number, as in C; 0 is none of them.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The name in lower case, as in dumps, statistics and every binding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ShedReason::Newest => "shed_newest",
            ShedReason::Oldest => "shed_oldest",
            ShedReason::Lowest => "shed_lowest",
            ShedReason::Coalesced => "shed_coalesced",
            ShedReason::Sampled => "shed_sampled",
            ShedReason::Delayed => "shed_delayed",
        }
    }

    /// A sentence about what happened.
    const fn text(self) -> &'static str {
        match self {
            ShedReason::Newest => "the queue was full when it came",
            ShedReason::Oldest => "the queue was full, and it had waited longest",
            ShedReason::Lowest => "the queue was full, and its priority was the lowest",
            ShedReason::Coalesced => {
                "the queue was full, and a newer job of its concurrency key took its place"
            }
            ShedReason::Sampled => "the queue was full, and it was not in the sample",
            ShedReason::Delayed => "it had waited too long in an overloaded queue",
        }
    }

    /// The failure of a job that was shed for this.
    #[must_use]
    pub fn failure(self) -> Failure {
        Failure::new(FailureKind::Shed(self), self.text())
    }
}

/// Why an attempt, or a job, ended badly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler answered with an error.
    Error,
    /// The handler panicked, or raised what nobody expected.
    Panic,
    /// The handler said that no further attempt can help.
    Fatal,
    /// The attempt took longer than its timeout.
    TimedOut,
    /// The lease ended without an answer: its holder died, or hung.
    LeaseLost,
    /// The process died while the attempt ran.
    Crashed,
    /// The dispatcher stopped while the attempt ran.
    Interrupted,
    /// The handler asked to run again after the last allowed attempt.
    OverMaxAttempts,
    /// The job was cancelled.
    Cancelled,
    /// The deadline passed before an attempt could start.
    Expired,
    /// The queue was purged.
    Purged,
    /// A rule against overload gave the job up.
    Shed(ShedReason),
}

impl FailureKind {
    /// Every kind.
    pub const ALL: &'static [FailureKind] = &[
        FailureKind::Error,
        FailureKind::Panic,
        FailureKind::Fatal,
        FailureKind::TimedOut,
        FailureKind::LeaseLost,
        FailureKind::Crashed,
        FailureKind::Interrupted,
        FailureKind::OverMaxAttempts,
        FailureKind::Cancelled,
        FailureKind::Expired,
        FailureKind::Purged,
        FailureKind::Shed(ShedReason::Newest),
        FailureKind::Shed(ShedReason::Oldest),
        FailureKind::Shed(ShedReason::Lowest),
        FailureKind::Shed(ShedReason::Coalesced),
        FailureKind::Shed(ShedReason::Sampled),
        FailureKind::Shed(ShedReason::Delayed),
    ];

    /// The name in lower case, as in dumps and every binding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FailureKind::Error => "error",
            FailureKind::Panic => "panic",
            FailureKind::Fatal => "fatal",
            FailureKind::TimedOut => "timed_out",
            FailureKind::LeaseLost => "lease_lost",
            FailureKind::Crashed => "crashed",
            FailureKind::Interrupted => "interrupted",
            FailureKind::OverMaxAttempts => "over_max_attempts",
            FailureKind::Cancelled => "cancelled",
            FailureKind::Expired => "expired",
            FailureKind::Purged => "purged",
            FailureKind::Shed(reason) => reason.name(),
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<FailureKind> {
        Self::ALL.iter().copied().find(|k| k.name() == name)
    }
}

/// An error of a job: its kind and its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// What the handler said, or a sentence about what happened; at most [`Failure::MAX_TEXT`] bytes.
    pub message: Cow<'static, str>,
}

impl Failure {
    /// Longer texts are cut here, so that kept errors cannot fill the memory.
    pub const MAX_TEXT: usize = 16 * 1024;

    /// A failure of this kind with this text, cut to [`Failure::MAX_TEXT`].
    pub fn new(kind: FailureKind, message: impl Into<Cow<'static, str>>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MAX_TEXT {
            let end = (0..=Self::MAX_TEXT)
                .rev()
                .find(|i| message.is_char_boundary(*i))
                .unwrap_or(0);
            message = Cow::Owned(format!("{}...", &message[..end]));
        }
        Self { kind, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return f.write_str(self.kind.name());
        }
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

/// What became of an attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It worked; the payload is the job's result.
    Success(Payload),
    /// It failed; the retry policy says whether and when it runs again.
    Failed(Failure),
    /// It failed and no further attempt can help: the job fails now, attempts left or not.
    Fatal(Failure),
    /// It wants to run again: after this pause, or after the policy's. The attempt counts.
    Retry {
        /// The pause; `None` leaves it to the policy.
        after: Option<Duration>,
        /// Why, for the history.
        reason: Cow<'static, str>,
    },
    /// It is not time yet: run again after this pause, and the attempt does not count.
    Snooze {
        /// The pause.
        after: Duration,
    },
    /// What the handler needs said "not now" (an HTTP 429, a busy gate): run again after the pause, and the
    /// attempt does not count. Not a failure, but a sign of overload for limits that adapt.
    RateLimited {
        /// The pause; `None` leaves it to the retry policy.
        after: Option<Duration>,
    },
    /// The handler gave up because it was asked to, or on its own: the job is cancelled.
    Cancelled(Cow<'static, str>),
    /// The work goes on elsewhere: whoever holds the lease's ticket will answer. Until then the attempt
    /// runs.
    Pending,
    /// The attempt's timeout passed. Chosen by the dispatcher.
    TimedOut,
    /// The lease ended without an answer. Chosen by the dispatcher.
    LeaseLost,
    /// The process died while the attempt ran. Chosen by the dispatcher.
    Crashed {
        /// Whether that happened as often as the option `max_crashes` allows: the job fails, attempts left or
        /// not.
        too_often: bool,
    },
    /// The dispatcher stopped before the attempt ended. Chosen by the dispatcher.
    Interrupted,
    /// It was not tried after all: the job stands again where it stood, as if it had not been claimed. Chosen by
    /// a forwarder whose sink takes nothing; a handler should answer [`Outcome::Snooze`], or it is asked again at
    /// once.
    Returned,
    /// The deadline passed before an attempt could start. Chosen by the dispatcher.
    Expired,
    /// The queue was purged. Chosen by the dispatcher.
    Purged,
    /// A rule against overload gives the job up. Chosen by the dispatcher.
    Shed(ShedReason),
}

impl Outcome {
    /// Success without a result.
    #[must_use]
    pub fn done() -> Self {
        Self::Success(Payload::empty())
    }

    /// The name in lower case, as in every binding.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Success(_) => "success",
            Outcome::Failed(_) => "failed",
            Outcome::Fatal(_) => "fatal",
            Outcome::Retry { .. } => "retry",
            Outcome::Snooze { .. } => "snooze",
            Outcome::RateLimited { .. } => "rate_limited",
            Outcome::Cancelled(_) => "cancelled",
            Outcome::TimedOut => "timed_out",
            Outcome::LeaseLost => "lease_lost",
            Outcome::Crashed { .. } => "crashed",
            Outcome::Interrupted => "interrupted",
            Outcome::Returned => "returned",
            Outcome::Expired => "expired",
            Outcome::Purged => "purged",
            Outcome::Shed(_) => "shed",
            Outcome::Pending => "pending",
        }
    }

    /// A failed attempt with this text.
    pub fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(Failure::new(FailureKind::Error, message))
    }

    /// A failure that no retry can mend.
    pub fn fatal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Fatal(Failure::new(FailureKind::Fatal, message))
    }

    /// Run again after this pause; the attempt counts.
    #[must_use]
    pub fn retry(after: Duration) -> Self {
        Self::Retry {
            after: Some(after),
            reason: Cow::Borrowed("the handler asked to run again"),
        }
    }

    /// Run again after this pause; the attempt does not count.
    #[must_use]
    pub fn snooze(after: Duration) -> Self {
        Self::Snooze { after }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::done()
    }
}

impl From<Payload> for Outcome {
    fn from(result: Payload) -> Self {
        Self::Success(result)
    }
}

impl<T: Into<Payload>, E: fmt::Display> From<Result<T, E>> for Outcome {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::Success(value.into()),
            Err(error) => Self::failed(error.to_string()),
        }
    }
}

/// How far a job has come: what [`decide`] looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which job, under which claim.
    pub job: JobRef,
    /// Whether a worker holds it.
    pub running: bool,
    /// How many attempts have started.
    pub attempt: u32,
    /// How many may start in all; `u32::MAX` is without limit.
    pub max_attempts: u32,
    /// Whether it was asked to stop.
    pub cancel_requested: bool,
}

/// A change of state, to be stored by an engine if the job still stands where it stood.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Which job, under which claim: a job with another fence is not touched.
    pub job: JobRef,
    /// Whether the job must be running (else it must be waiting) for the transition to apply.
    pub running: bool,
    /// The new state. `Scheduled` with a zero delay becomes `Queued`.
    pub to: State,
    /// How long after the engine's now the job may start again.
    pub delay: Duration,
    /// Give the attempt back: it does not count.
    pub refund: bool,
    /// A running job that is queued again stands where it stood, before those that came after it; its time is
    /// what it was, and the delay is zero.
    pub keeps_place: bool,
    /// Whether the transition answers a request to cancel; one that does not is refused once such a
    /// request is stored, so that a late success cannot overwrite it.
    pub answers_cancel: bool,
    /// The result of a success.
    pub result: Option<Payload>,
    /// Why, when it is not a success.
    pub failure: Option<Failure>,
}

impl Transition {
    /// The state of the job once this is applied.
    #[must_use]
    pub fn lands_in(&self) -> State {
        match self.to {
            State::Scheduled if self.delay.is_zero() => State::Queued,
            state => state,
        }
    }
}

/// Chooses what follows from an outcome. Pure: `random` is uniform in 0..1 and only feeds the jitter.
#[must_use]
#[inline]
pub fn decide(at: &Standing, outcome: Outcome, policy: &RetryPolicy, random: f64) -> Transition {
    match outcome {
        // By far the most frequent one: made where it is needed, and not copied there.
        Outcome::Success(result) if !at.cancel_requested => Transition {
            result: Some(result),
            ..to(at, State::Succeeded)
        },
        outcome => decide_otherwise(at, outcome, policy, random),
    }
}

fn decide_otherwise(at: &Standing, outcome: Outcome, policy: &RetryPolicy, random: f64) -> Transition {
    if at.cancel_requested && !matches!(outcome, Outcome::Cancelled(_)) {
        return finish(
            at,
            State::Cancelled,
            Failure::new(FailureKind::Cancelled, "cancelled while it ran"),
        );
    }
    match outcome {
        Outcome::Success(result) => Transition {
            result: Some(result),
            ..to(at, State::Succeeded)
        },
        Outcome::Fatal(failure) => finish(at, State::Failed, failure),
        Outcome::Cancelled(why) => finish(at, State::Cancelled, Failure::new(FailureKind::Cancelled, why)),
        Outcome::Expired => {
            let why = "the deadline passed before an attempt could start";
            Transition {
                // One that was claimed has waited for its handler, which never saw it.
                refund: at.running,
                ..finish(at, State::Expired, Failure::new(FailureKind::Expired, why))
            }
        }
        Outcome::Purged => finish(
            at,
            State::Cancelled,
            Failure::new(FailureKind::Purged, "the queue was purged"),
        ),
        Outcome::Shed(reason) => Transition {
            // Its handler never saw it.
            refund: at.running,
            ..finish(at, State::Shed, reason.failure())
        },
        Outcome::Crashed { too_often: true } => {
            let why = "its process died while it ran, once too often (option max_crashes)";
            finish(at, State::Failed, Failure::new(FailureKind::Crashed, why))
        }
        Outcome::Crashed { too_often: false } => {
            let failure = Failure::new(FailureKind::Crashed, "its process died while it ran");
            retry(at, failure, Duration::ZERO)
        }
        Outcome::Snooze { after } => Transition {
            refund: true,
            ..again(at, after)
        },
        Outcome::RateLimited { after } => Transition {
            refund: true,
            // Given back, it may be the attempt before the first.
            ..again(
                at,
                after.unwrap_or_else(|| policy.pause(at.attempt.max(1), random)),
            )
        },
        Outcome::Interrupted => {
            let failure = Failure::new(FailureKind::Interrupted, "the dispatcher stopped while it ran");
            Transition {
                failure: Some(failure),
                ..back(at)
            }
        }
        Outcome::Returned => back(at),
        Outcome::Failed(failure) => retry(at, failure, policy.pause(at.attempt, random)),
        Outcome::TimedOut => {
            let failure = Failure::new(FailureKind::TimedOut, "the attempt took longer than its timeout");
            retry(at, failure, policy.pause(at.attempt, random))
        }
        // A pending answer never comes here but as one that nobody will give any more.
        Outcome::LeaseLost | Outcome::Pending => {
            let failure = Failure::new(FailureKind::LeaseLost, "the lease ended without an answer");
            // Its holder is gone, so nothing is spared by waiting.
            retry(at, failure, Duration::ZERO)
        }
        Outcome::Retry { after, reason } => {
            let spent = at.attempt >= at.max_attempts;
            let kind = if spent {
                FailureKind::OverMaxAttempts
            } else {
                FailureKind::Error
            };
            let reason = if spent {
                Cow::Owned(format!("over max attempts: {reason}"))
            } else {
                reason
            };
            retry(
                at,
                Failure::new(kind, reason),
                after.unwrap_or_else(|| policy.pause(at.attempt, random)),
            )
        }
    }
}

/// Another attempt after `pause` if one is left, the end otherwise: no pause trails the last failure.
fn retry(at: &Standing, failure: Failure, pause: Duration) -> Transition {
    if at.attempt >= at.max_attempts {
        return finish(at, State::Failed, failure);
    }
    Transition {
        failure: Some(failure),
        ..again(at, pause)
    }
}

fn again(at: &Standing, delay: Duration) -> Transition {
    Transition {
        delay,
        ..to(at, State::Scheduled)
    }
}

/// To where it stood, as if nobody had claimed it.
fn back(at: &Standing) -> Transition {
    Transition {
        refund: true,
        keeps_place: at.running,
        ..again(at, Duration::ZERO)
    }
}

fn finish(at: &Standing, state: State, failure: Failure) -> Transition {
    Transition {
        failure: Some(failure),
        ..to(at, state)
    }
}

#[inline]
fn to(at: &Standing, state: State) -> Transition {
    Transition {
        job: at.job,
        running: at.running,
        to: state,
        delay: Duration::ZERO,
        refund: false,
        keeps_place: false,
        answers_cancel: state == State::Cancelled,
        result: None,
        failure: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(attempt: u32, max_attempts: u32) -> Standing {
        Standing {
            job: JobRef::default(),
            running: true,
            attempt,
            max_attempts,
            cancel_requested: false,
        }
    }

    fn go(at: &Standing, outcome: Outcome) -> Transition {
        decide(at, outcome, &RetryPolicy::linear(Duration::from_secs(1)), 0.5)
    }

    #[test]
    fn every_outcome_has_its_row() {
        use FailureKind as F;
        use State::{Cancelled, Expired, Failed, Scheduled, Succeeded};
        let s = Duration::from_secs;
        for (outcome, attempt, state, delay, refund, failure) in [
            (Outcome::done(), 1, Succeeded, 0, false, None),
            (Outcome::done(), 3, Succeeded, 0, false, None),
            (Outcome::failed("x"), 1, Scheduled, 1, false, Some(F::Error)),
            (Outcome::failed("x"), 2, Scheduled, 2, false, Some(F::Error)),
            (Outcome::failed("x"), 3, Failed, 0, false, Some(F::Error)),
            (Outcome::fatal("x"), 1, Failed, 0, false, Some(F::Fatal)),
            (Outcome::retry(s(9)), 1, Scheduled, 9, false, Some(F::Error)),
            (
                Outcome::retry(s(9)),
                3,
                Failed,
                0,
                false,
                Some(F::OverMaxAttempts),
            ),
            (Outcome::snooze(s(7)), 3, Scheduled, 7, true, None),
            (
                Outcome::Cancelled("why".into()),
                1,
                Cancelled,
                0,
                false,
                Some(F::Cancelled),
            ),
            (Outcome::TimedOut, 1, Scheduled, 1, false, Some(F::TimedOut)),
            (Outcome::TimedOut, 3, Failed, 0, false, Some(F::TimedOut)),
            (Outcome::LeaseLost, 1, Scheduled, 0, false, Some(F::LeaseLost)),
            (Outcome::LeaseLost, 3, Failed, 0, false, Some(F::LeaseLost)),
            (Outcome::Interrupted, 3, Scheduled, 0, true, Some(F::Interrupted)),
            (Outcome::Returned, 3, Scheduled, 0, true, None),
            (Outcome::Expired, 0, Expired, 0, true, Some(F::Expired)),
            (Outcome::Purged, 0, Cancelled, 0, false, Some(F::Purged)),
        ] {
            let text = format!("{outcome:?} at {attempt}");
            let t = go(&standing(attempt, 3), outcome);
            assert_eq!((t.to, t.delay, t.refund), (state, s(delay), refund), "{text}");
            assert_eq!(t.failure.map(|f| f.kind), failure, "{text}");
        }
    }

    #[test]
    fn what_was_not_tried_keeps_its_place() {
        for (outcome, keeps) in [
            (Outcome::Interrupted, true),
            (Outcome::Returned, true),
            (Outcome::snooze(Duration::ZERO), false),
            (Outcome::LeaseLost, false),
        ] {
            let text = outcome.name();
            assert_eq!(go(&standing(1, 3), outcome).keeps_place, keeps, "{text}");
        }
    }

    #[test]
    fn a_request_to_cancel_beats_every_answer() {
        let asked = Standing {
            cancel_requested: true,
            ..standing(1, 3)
        };
        for outcome in [
            Outcome::done(),
            Outcome::failed("x"),
            Outcome::snooze(Duration::ZERO),
            Outcome::TimedOut,
        ] {
            let t = go(&asked, outcome);
            assert_eq!((t.to, t.answers_cancel), (State::Cancelled, true));
            assert!(t.result.is_none());
        }
    }

    #[test]
    fn unlimited_attempts_never_end() {
        assert_eq!(
            go(&standing(u32::MAX - 1, u32::MAX), Outcome::failed("x")).to,
            State::Scheduled
        );
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let failure = Failure::new(FailureKind::Error, "é".repeat(Failure::MAX_TEXT));
        assert!(failure.message.len() <= Failure::MAX_TEXT + 3 && failure.message.ends_with("é..."));
    }

    #[test]
    fn handlers_answer_in_many_forms() {
        assert!(matches!(Outcome::from(()), Outcome::Success(p) if p.is_empty()));
        assert!(matches!(Outcome::from(Ok::<_, String>("r")), Outcome::Success(p) if p.len() == Some(1)));
        assert!(matches!(Outcome::from(Err::<(), _>("no")), Outcome::Failed(f) if f.message == "no"));
    }
}
