//! Why is this job not running, why does nothing come out of this queue?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Dispatcher, Inner, QueueStats, Relay};
use crate::engine::QueueCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Filter, Job, State, Token};
use crate::names::{KindId, QueueId};
use crate::outcome::{Failure, ShedReason};
use crate::time::{Timestamp, format_duration};

/// Where a job stands and what holds it back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// Which job.
    pub id: JobId,
    /// Its state.
    pub state: State,
    /// What holds it back, the most decisive first. One entry for a job that runs or is over.
    pub reasons: Vec<Why>,
}

/// What a queue holds and what holds it back.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct QueueExplanation {
    /// Which queue, and its counts.
    pub queue: QueueStats,
    /// What keeps its queued jobs from starting, the most decisive first; never empty.
    pub reasons: Vec<Why>,
}

/// One reason.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// It runs, for this long.
    Running(Duration),
    /// It runs and has been asked to stop.
    Stopping(Duration),
    /// It is over.
    Over(Option<Failure>),
    /// It waits for these tokens.
    Blocked(Vec<Token>),
    /// Its time comes after this long.
    NotYet {
        /// How long.
        after: Duration,
        /// Whether it waits for another attempt rather than for its first.
        retry: bool,
    },
    /// Its queue is paused.
    QueuePaused(Arc<str>),
    /// Workers take the jobs of other queues only, as [`Dispatcher::serve`] has said.
    QueueNotServed(Arc<str>),
    /// No handler for its kind is registered here.
    NoHandler(Arc<str>),
    /// The dispatcher is stopping.
    DispatcherStopping,
    /// As many bodies run as may, of this kind, of this concurrency key, in this queue, or in all.
    Limit {
        /// What is limited: `the dispatcher`, a queue, a kind or a concurrency key.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// As many run as the limit that was found for them allows.
    Adaptive {
        /// What is limited: a kind or a concurrency key.
        what: String,
        /// The limit as it is now.
        limit: usize,
    },
    /// Its rate allows the next start after this long.
    Rate {
        /// What has a rate: a queue, a kind or a concurrency key.
        what: String,
        /// How long.
        after: Duration,
    },
    /// So much has failed that nothing starts for this long.
    Breaker {
        /// What has a breaker that is open: a kind or a concurrency key.
        what: String,
        /// How long.
        after: Duration,
    },
    /// There is no budget for retries of its kind.
    RetryBudget {
        /// The kind.
        kind: Arc<str>,
        /// When there is some even without fresh work; `None` if it takes fresh work.
        after: Option<Duration>,
    },
    /// Nothing asks for work: no worker was started and no consumer waits.
    NoWorker,
    /// Nothing holds it back: it is next, or behind others.
    Waiting {
        /// Jobs that are queued in the same queue, itself among them.
        queued: u64,
    },
    /// No job of the queue is queued, so there is nothing to start.
    NothingQueued,
    /// The jobs of its queue are not run here but passed on.
    Forwarded {
        /// Where to.
        sink: Arc<str>,
    },
    /// The jobs of its queue are passed on, and the sink takes none.
    SinkFails {
        /// Which.
        sink: Arc<str>,
        /// For how long it has taken none.
        lasts: Duration,
        /// What it says.
        why: Arc<str>,
    },
}

impl Why {
    /// The name of the reason, the same whatever it is about: for programs that look at it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Why::Running(_) => "running",
            Why::Stopping(_) => "stopping",
            Why::Over(_) => "over",
            Why::Blocked(_) => "blocked",
            Why::NotYet { .. } => "not_yet",
            Why::QueuePaused(_) => "queue_paused",
            Why::QueueNotServed(_) => "queue_not_served",
            Why::NoHandler(_) => "no_handler",
            Why::DispatcherStopping => "dispatcher_stopping",
            Why::Limit { .. } => "limit",
            Why::Adaptive { .. } => "adaptive_limit",
            Why::Rate { .. } => "rate",
            Why::Breaker { .. } => "breaker",
            Why::RetryBudget { .. } => "retry_budget",
            Why::NoWorker => "no_worker",
            Why::Waiting { .. } => "waiting",
            Why::NothingQueued => "nothing_queued",
            Why::Forwarded { .. } => "forwarded",
            Why::SinkFails { .. } => "sink_fails",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |d: &Duration| format_duration(Duration::from_millis(d.as_millis() as u64));
        match self {
            Why::Running(d) => write!(f, "it has been running for {}", time(d)),
            Why::Stopping(d) => write!(f, "it has been running for {} and was asked to stop", time(d)),
            Why::Over(None) => f.write_str("it is over"),
            Why::Over(Some(failure)) => write!(f, "it is over ({failure})"),
            Why::Blocked(tokens) => write!(f, "it waits for {}", tokens.join(", ")),
            Why::NotYet { after, retry: false } => write!(f, "it is scheduled for {} from now", time(after)),
            Why::NotYet { after, retry: true } => {
                write!(f, "its next attempt starts {} from now", time(after))
            }
            Why::QueuePaused(queue) => write!(f, "queue {queue:?} is paused; resume it"),
            Why::QueueNotServed(queue) => write!(f, "no worker here serves queue {queue:?}"),
            Why::NoHandler(kind) => write!(f, "no handler for kind {kind:?} is registered here"),
            Why::DispatcherStopping => f.write_str("the dispatcher is stopping and starts nothing"),
            Why::Limit { what, limit } => write!(f, "{what} runs as many bodies as it may ({limit})"),
            Why::Adaptive { what, limit } => {
                write!(
                    f,
                    "{what} runs as many bodies as its adaptive limit allows now ({limit})"
                )
            }
            Why::Rate { what, after } => {
                write!(f, "the rate of {what} allows the next start in {}", time(after))
            }
            Why::Breaker { what, after } => {
                write!(f, "the breaker of {what} is open for {}", time(after))
            }
            Why::RetryBudget {
                kind,
                after: Some(after),
            } => {
                write!(
                    f,
                    "retries of kind {kind:?} have used up their budget; the next is due in {}",
                    time(after)
                )
            }
            Why::RetryBudget { kind, after: None } => {
                write!(
                    f,
                    "retries of kind {kind:?} have used up their budget; fresh work refills it"
                )
            }
            Why::NoWorker => f.write_str("nothing asks for work: start workers or a consumer"),
            Why::Waiting { queued } => write!(f, "nothing holds it back; {queued} jobs are queued with it"),
            Why::NothingQueued => f.write_str("no job of it is queued"),
            Why::Forwarded { sink } => write!(f, "its jobs are forwarded to {sink}"),
            Why::SinkFails { sink, lasts, why } => {
                write!(
                    f,
                    "its jobs are forwarded to {sink}, which has failed for {}: {why}",
                    time(lasts)
                )
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} is {}: ", self.id, self.state)?;
        write_all(&self.reasons, f)
    }
}

impl fmt::Display for QueueExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, counts) = (&self.queue.name, &self.queue.counts);
        let (waiting, running) = (counts.waiting(), counts.running);
        let wait = if waiting == 1 {
            "job that waits"
        } else {
            "jobs that wait"
        };
        let run = if running == 1 { "runs" } else { "run" };
        write!(
            f,
            "queue {name:?} has {waiting} {wait} and {running} that {run}: "
        )?;
        write_all(&self.reasons, f)?;
        for (i, (reason, jobs)) in self.shed().into_iter().enumerate() {
            write!(
                f,
                "{} {jobs} {}",
                if i == 0 { ". So far shed:" } else { "," },
                reason.name()
            )?;
        }
        Ok(())
    }
}

impl QueueExplanation {
    /// How many of its jobs each rule against overload has given up.
    #[must_use]
    pub fn shed(&self) -> Vec<(ShedReason, u64)> {
        let mut shed = self.queue.counts.totals.shed_by();
        shed.retain(|(_, jobs)| *jobs > 0);
        shed
    }
}

fn write_all(reasons: &[Why], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, why) in reasons.iter().enumerate() {
        write!(f, "{}{why}", if i == 0 { "" } else { "; " })?;
    }
    Ok(())
}

impl Dispatcher {
    /// Says why a job is not running, or how it ended.
    ///
    /// # Errors
    /// `NotFound` for an id that is unknown or forgotten; of the store.
    pub fn explain(&self, id: JobId) -> Result<Explanation> {
        let job = self.0.get(id)?;
        let now = self.now();
        let ran = || now.since(job.started.unwrap_or(now));
        let reasons = match job.state {
            State::Running if job.cancel_requested => vec![Why::Stopping(ran())],
            State::Running => vec![Why::Running(ran())],
            State::Blocked => vec![Why::Blocked(job.waits.clone())],
            State::Scheduled => self.0.why_scheduled(&job, now)?,
            State::Queued => self.0.why_queued(&job)?,
            _ => vec![Why::Over(job.error.clone())],
        };
        Ok(Explanation {
            id,
            state: job.state,
            reasons,
        })
    }

    /// Says what a queue holds and what keeps its jobs from starting.
    ///
    /// # Errors
    /// `NotFound` for a queue that nobody has named; of the store.
    ///
    /// ```
    /// # let d = forebay::Dispatcher::in_memory()?;
    /// d.push(forebay::NewJob::new("mail", b"hello"))?;
    /// d.pause("default")?;
    /// let why = d.explain_queue("default")?;
    /// assert_eq!((why.queue.counts.queued, why.reasons[0].name()), (1, "queue_paused"));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn explain_queue(&self, queue: &str) -> Result<QueueExplanation> {
        let stats = self.stats()?.queues.into_iter().find(|q| &*q.name == queue);
        let stats =
            stats.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no queue {queue:?}")))?;
        let reasons = match stats.counts.queued {
            0 => self.0.whole_queue(&stats.name, &stats.counts),
            _ => self.0.why_none_starts(&stats)?,
        };
        Ok(QueueExplanation {
            reasons: if reasons.is_empty() {
                vec![Why::NothingQueued]
            } else {
                reasons
            },
            queue: stats,
        })
    }
}

impl Inner {
    fn why_scheduled(&self, job: &Job, now: Timestamp) -> Result<Vec<Why>> {
        let retry = job.attempt > 0;
        let mut reasons = vec![Why::NotYet {
            after: job.run_at.since(now),
            retry,
        }];
        if retry {
            let kind = self.engine.names().kind(&job.kind)?;
            reasons.extend(self.held_by_budget(&job.kind, kind));
        }
        Ok(reasons)
    }

    fn why_queued(&self, job: &Job) -> Result<Vec<Why>> {
        let names = self.engine.names();
        let (queue, kind) = (names.queue(&job.queue)?, names.kind(&job.kind)?);
        let counts = self.engine.counts()?.into_iter().find(|c| c.queue == queue);
        let counts = counts.unwrap_or_else(|| QueueCounts::new(queue));
        let mut reasons = self.whole_queue(&job.queue, &counts);
        if self.relays.has(queue) {
            return Ok(reasons);
        }
        if self.kinds.get(kind).is_none() {
            reasons.push(Why::NoHandler(job.kind.clone()));
        }
        reasons.extend(self.limit_of_queue(&job.queue, queue));
        reasons.extend(self.held_in_queue(&job.queue, queue));
        reasons.extend(self.held_in_kind(&job.kind, kind));
        if let Some(key) = job.concurrency_key() {
            reasons.extend(self.held_in_key(queue, key)?);
        }
        if job.attempt > 0 {
            reasons.extend(self.held_by_budget(&job.kind, kind));
        }
        reasons.extend(self.limit_of_all());
        Ok(self.or_waiting(reasons, &counts))
    }

    /// What keeps the queued jobs of a queue from starting: what holds for each of them, and the kinds that
    /// are queued and held back by themselves.
    fn why_none_starts(&self, queue: &QueueStats) -> Result<Vec<Why>> {
        let mut reasons = self.whole_queue(&queue.name, &queue.counts);
        if self.relays.has(queue.counts.queue) {
            return Ok(reasons);
        }
        for (id, kind) in self.engine.names().kinds() {
            let held = self.held_in_kind(&kind, id);
            let known = self.kinds.get(id).is_some();
            if (!held.is_empty() || !known) && self.has_queued(&queue.name, &kind)? {
                reasons.extend(held);
                reasons.extend((!known).then_some(Why::NoHandler(kind)));
            }
        }
        reasons.extend(self.limit_of_queue(&queue.name, queue.counts.queue));
        reasons.extend(self.held_in_queue(&queue.name, queue.counts.queue));
        reasons.extend(self.limit_of_all());
        Ok(self.or_waiting(reasons, &queue.counts))
    }

    /// What holds back every job of a queue.
    fn whole_queue(&self, name: &Arc<str>, counts: &QueueCounts) -> Vec<Why> {
        let mut reasons = Vec::new();
        if self.stopping() {
            reasons.push(Why::DispatcherStopping);
        }
        if counts.paused {
            reasons.push(Why::QueuePaused(name.clone()));
        }
        match self.relays.find(counts.queue) {
            Some(relay) => reasons.push(self.why_relayed(&relay)),
            None if self.served.leaves_out(counts.queue) => reasons.push(Why::QueueNotServed(name.clone())),
            None => {}
        }
        reasons
    }

    fn why_relayed(&self, relay: &Relay) -> Why {
        let sink = relay.sink.clone();
        match relay.failing() {
            None => Why::Forwarded { sink },
            Some(failing) => Why::SinkFails {
                sink,
                lasts: self.now().since(failing.since),
                why: failing.why,
            },
        }
    }

    /// What is left to say when nothing else holds a job back.
    fn or_waiting(&self, mut reasons: Vec<Why>, counts: &QueueCounts) -> Vec<Why> {
        if reasons.is_empty() && self.slots.all.used() == 0 && self.engine.signals().work.waiting() == 0 {
            reasons.push(Why::NoWorker);
        }
        if reasons.is_empty() {
            reasons.push(Why::Waiting {
                queued: counts.queued,
            });
        }
        reasons
    }

    fn has_queued(&self, queue: &str, kind: &str) -> Result<bool> {
        let filter = Filter {
            queue: Some(queue.to_owned()),
            kind: Some(kind.to_owned()),
            states: vec![State::Queued],
            limit: Some(1),
            ..Filter::default()
        };
        Ok(self.engine.list(&filter)?.total > 0)
    }

    fn limit_of_queue(&self, name: &str, queue: QueueId) -> Option<Why> {
        let permits = self.slots.queue(queue)?;
        reached(format!("queue {name:?}"), permits.used(), permits.limit())
    }

    pub(super) fn limit_of_kind(&self, name: &str, kind: KindId) -> Option<Why> {
        let permits = self.kinds.get(kind)?.permits.clone()?;
        reached(format!("kind {name:?}"), permits.used(), permits.limit())
    }

    fn limit_of_all(&self) -> Option<Why> {
        let all = &self.slots.all;
        reached("the dispatcher".to_owned(), all.used(), all.limit())
    }
}

fn reached(what: String, used: usize, limit: usize) -> Option<Why> {
    (used >= limit).then_some(Why::Limit { what, limit })
}
