//! What operators and owners do: look, list, cancel, pause, purge, count.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::cells::StopReason;
use super::settle::{Answer, Ended, Whose};
use super::wait::unknown;
use super::{Dispatcher, Inner};
use crate::engine::{Located, QueueCounts, Totals};
use crate::error::Result;
use crate::event::EventKind;
use crate::id::JobId;
use crate::job::{Filter, Job, JobRef, Page, State, Token};
use crate::names::{QueueId, check_name};
use crate::outcome::Outcome;

/// The counts of one queue, with its name.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct QueueStats {
    /// The name.
    pub name: Arc<str>,
    /// The most jobs that may wait; 0 is without bound.
    pub capacity: usize,
    /// How full it is, from 0 to 1 (see [`Dispatcher::pressure`]); a moment later than the counts.
    pub pressure: f64,
    /// The counts.
    pub counts: QueueCounts,
}

/// A dispatcher's counts: one consistent snapshot of every queue, and what is true of this process.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Every queue, by number.
    pub queues: Vec<QueueStats>,
    /// Bodies that run in this dispatcher now, timed-out ones included.
    pub bodies: usize,
    /// The most bodies at once.
    pub concurrency: usize,
    /// How often a hook panicked.
    pub hook_failures: u64,
    /// How often a consumer went to sleep for want of work.
    pub sleeps: u64,
}

impl Stats {
    /// The counts of the queue with this name, if it has been named.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&QueueCounts> {
        self.queues.iter().find(|q| &*q.name == name).map(|q| &q.counts)
    }

    /// The counts of all queues together.
    #[must_use]
    pub fn total(&self) -> QueueCounts {
        let mut sum = QueueCounts::new(QueueId(0));
        for c in self.queues.iter().map(|q| &q.counts) {
            sum.blocked += c.blocked;
            sum.scheduled += c.scheduled;
            sum.queued += c.queued;
            sum.running += c.running;
            sum.kept += c.kept;
            for ((_, add), (_, to)) in c.totals.named().into_iter().zip(sum.totals.named_mut()) {
                *to += add;
            }
        }
        sum
    }

    /// The counts in the text format of Prometheus.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        let labels: Vec<String> = self.queues.iter().map(|q| label(&q.name)).collect();
        let mut metric = |name: &str, kind: &str, help: &str, value: &dyn Fn(&QueueCounts) -> u64| {
            head(&mut text, name, kind, help);
            for (q, label) in self.queues.iter().zip(&labels) {
                let _ = writeln!(text, "forebay_{name}{{queue=\"{label}\"}} {}", value(&q.counts));
            }
        };
        metric("jobs_blocked", "gauge", "Jobs that wait for tokens.", &|c| {
            c.blocked
        });
        metric(
            "jobs_scheduled",
            "gauge",
            "Jobs that wait for their time.",
            &|c| c.scheduled,
        );
        metric("jobs_queued", "gauge", "Jobs that wait for a worker.", &|c| {
            c.queued
        });
        metric("jobs_running", "gauge", "Jobs that run.", &|c| c.running);
        let shed = "Jobs that a rule against overload gave up, for whatever reason.";
        metric("shed_total", "counter", shed, &|c| c.totals.shed());
        let names = Totals::default().named().map(|(name, _)| name);
        for (i, (name, help)) in names.into_iter().zip(Totals::described()).enumerate() {
            metric(&format!("{name}_total"), "counter", help.trim(), &|c| {
                c.totals.named()[i].1
            });
        }
        let help = "How full the queue is, from 0 to 1.";
        head(&mut text, "pressure", "gauge", help);
        for (q, label) in self.queues.iter().zip(&labels) {
            let _ = writeln!(text, "forebay_pressure{{queue=\"{label}\"}} {}", q.pressure);
        }
        let help = "Handlers that run in this process, those that have timed out among them.";
        head(&mut text, "bodies", "gauge", help);
        let _ = writeln!(text, "forebay_bodies {}", self.bodies);
        text
    }
}

/// What the format says of a metric before its values. `help` has nothing that would have to be escaped.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP forebay_{name} {help}\n# TYPE forebay_{name} {kind}");
}

/// A label's value, with what the format reserves escaped.
fn label(name: &str) -> String {
    name.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Dispatcher {
    /// Everything known about a job.
    ///
    /// # Errors
    /// `NotFound` for an id that is unknown or forgotten; of the store.
    pub fn get(&self, id: JobId) -> Result<Job> {
        self.0.get(id)
    }

    /// Where a job stands: cheaper than [`Dispatcher::get`].
    ///
    /// # Errors
    /// As [`Dispatcher::get`].
    pub fn state(&self, id: JobId) -> Result<State> {
        self.0.birth.check()?;
        Ok(self.0.engine.standing(id)?.ok_or_else(|| unknown(id))?.state)
    }

    /// One page of the jobs that match, newest first, and how many match in all.
    ///
    /// # Errors
    /// `Invalid` for a page size out of range; of the store.
    pub fn list(&self, filter: &Filter) -> Result<Page> {
        self.0.birth.check()?;
        self.0.engine.list(filter)
    }

    /// Cancels a job. One that waits is cancelled at once. One that runs is asked to stop and is cancelled
    /// when its body ends, whatever the body answers. Returns the state after the call: `Cancelled`, or
    /// `Running` when the request has been passed on, or the final state the job already had.
    ///
    /// # Errors
    /// `NotFound` for an id that is unknown or forgotten; `Closed` for an unfinished job behind a stop; of
    /// the store.
    pub fn cancel(&self, id: JobId) -> Result<State> {
        self.0.birth.check()?;
        loop {
            let at = self.0.engine.standing(id)?.ok_or_else(|| unknown(id))?;
            if at.state.is_final() {
                return Ok(at.state);
            }
            // Behind a stop nothing changes any more, however often one looks.
            self.0.check_open()?;
            if at.state == State::Running {
                if self.0.engine.request_cancel(at.job)? {
                    self.0.dumps.note_uncounted();
                    self.0.tell_cancelled(at.job);
                    self.0
                        .publish(EventKind::CancelRequested, Whose::located(&at), None, self.now());
                    self.0.harden()?;
                    return Ok(State::Running);
                }
            } else if self
                .0
                .end_waiting(&at, Outcome::Cancelled("cancelled while it waited".into()))?
            {
                self.0.harden()?;
                return Ok(State::Cancelled);
            }
            // It moved between the look and the write: look again.
        }
    }

    /// Delivers a token to a blocked job; when its last one has come, the job is queued (or scheduled). A
    /// token that the job does not wait for changes nothing.
    ///
    /// # Errors
    /// `Invalid` for a token that cannot be one; `NotFound` for an id that is unknown or forgotten; of the store.
    pub fn signal(&self, id: JobId, token: impl Into<Token>) -> Result<()> {
        let token = token.into();
        check_name(&token, "token")?;
        self.0.check_open()?;
        self.state(id)?;
        let mut batch = crate::engine::Batch {
            signals: &[(id, token)],
            durability: self.0.level(None),
            ..Default::default()
        };
        let receipt = &mut crate::engine::BatchReceipt::default();
        let delivered = self.0.engine.commit(&mut batch, self.now(), receipt);
        self.0.dumps.note_uncounted();
        delivered
    }

    /// Stops handing out jobs of a queue; pushes go on, running jobs too.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one; of the store.
    pub fn pause(&self, queue: &str) -> Result<()> {
        self.set_paused(queue, true)
    }

    /// Hands out jobs of a queue again.
    ///
    /// # Errors
    /// As [`Dispatcher::pause`].
    pub fn resume(&self, queue: &str) -> Result<()> {
        self.set_paused(queue, false)
    }

    fn set_paused(&self, queue: &str, paused: bool) -> Result<()> {
        self.0.check_open()?;
        let queue = self.queue(queue)?;
        self.0.engine.set_paused(queue, paused)?;
        self.0.harden()
    }

    /// Cancels every job that waits in a queue; running ones go on. Returns how many.
    ///
    /// # Errors
    /// `Closed`; of the store: jobs purged before it stay purged.
    pub fn purge(&self, queue: &str) -> Result<usize> {
        self.0.check_open()?;
        let states = vec![State::Blocked, State::Scheduled, State::Queued];
        let mut filter = Filter {
            queue: Some(queue.into()),
            states,
            limit: Some(Filter::MAX_LIMIT),
            ..Filter::default()
        };
        let mut purged = 0;
        loop {
            let page = self.0.engine.list(&filter)?;
            let Some(last) = page.jobs.last() else {
                self.0.harden()?;
                return Ok(purged);
            };
            filter.after = Some(last.id);
            for job in &page.jobs {
                if let Some(at) = self.0.engine.standing(job.id)?.filter(|at| at.state.is_waiting()) {
                    purged += usize::from(self.0.end_waiting(&at, Outcome::Purged)?);
                }
            }
        }
    }

    /// How many jobs wait in a queue: blocked, scheduled and queued ones.
    ///
    /// # Errors
    /// Of the store.
    pub fn len(&self, queue: &str) -> Result<u64> {
        Ok(self.stats()?.queue(queue).map_or(0, QueueCounts::waiting))
    }

    /// Counts, in one consistent snapshot.
    ///
    /// # Errors
    /// Of the store; `Forked`.
    pub fn stats(&self) -> Result<Stats> {
        self.0.birth.check()?;
        let names = self.0.engine.names();
        let counts = self.0.engine.counts()?;
        let queues = counts
            .into_iter()
            .map(|c| QueueStats {
                name: names.queue_name(c.queue),
                capacity: self.0.bounds(c.queue).jobs,
                pressure: self.0.counted_pressure(&c),
                counts: c,
            })
            .collect();
        Ok(Stats {
            queues,
            bodies: self.bodies(),
            concurrency: self.0.slots.all.limit(),
            hook_failures: self.0.hooks.failures(),
            sleeps: self.0.engine.signals().work.sleeps(),
        })
    }

    /// How many handlers run, or are about to: [`Stats::bodies`] without the store, and so also of one that fails.
    #[must_use]
    pub fn bodies(&self) -> usize {
        self.0.slots.all.used()
    }

    /// Waits until `idle` consumers are asleep for want of work, or until `timeout`: a way for tests to
    /// know that everything has settled. True if so.
    #[doc(hidden)]
    #[must_use]
    pub fn settle_to(&self, idle: usize, timeout: Duration) -> bool {
        let deadline = crate::time::Deadline::after(timeout);
        while self.0.engine.signals().work.asleep() < idle {
            if deadline.passed() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

impl Inner {
    /// Tells the handler of a claim that its job is cancelled.
    fn tell_cancelled(&self, job: JobRef) {
        if self.engine.capabilities().shared {
            // It may run in another process. Wherever it does, the renewal of its lease tells it if this does not.
            self.cells.signal(job, StopReason::Cancelled);
        } else if !self.cells.signal_when_begun(job, StopReason::Cancelled) {
            let standing = self.engine.standing(job.id);
            let runs = |at: Located| at.state == State::Running && at.job == job;
            if !standing.is_ok_and(|at| at.is_some_and(runs)) {
                self.cells.forget(job);
            }
        }
    }

    /// Ends a job that waits; false if it no longer stood there.
    fn end_waiting(&self, at: &Located, outcome: Outcome) -> Result<bool> {
        let answer = self.settle_one(Ended::located(at, outcome))?;
        // Whoever waits for an empty queue should look again.
        self.cells.idle.ring_all();
        Ok(answer != Answer::Stale)
    }
}
