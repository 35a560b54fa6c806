//! What holders of leases say: transitions, extensions, requests to stop.

use std::time::Duration;

use rusqlite::params;

use super::read::{damaged, state};
use super::tally::Column;
use super::work::{Step, Work, instant, number, row_of};
use crate::engine::sql::row::list;
use crate::engine::sql::statements as sql;
use crate::engine::{Applied, Held, JobRef};
use crate::history::LineAttempt;
use crate::job::{Attempt, Job, State};
use crate::names::QueueId;
use crate::outcome::{Failure, Transition};
use crate::time::Timestamp;

/// Where a job stands, and of its past what the end of an attempt adds to.
struct Stands {
    state: State,
    fence: u64,
    cancel_requested: bool,
    queue: QueueId,
    attempt: u32,
    node: Option<String>,
    worker: u32,
    started: Option<i64>,
    deadline: Option<i64>,
    history: Option<String>,
    /// The bytes of its payload.
    weight: i64,
}

impl Stands {
    fn verdict(&self, t: &Transition) -> Applied {
        let stands = if t.running {
            self.state == State::Running
        } else {
            self.state.is_waiting()
        };
        let possible = t.to.is_final() || matches!(t.to, State::Scheduled | State::Queued);
        if !stands || !possible || self.fence != t.job.fence {
            return Applied::Stale;
        }
        if self.cancel_requested && !t.answers_cancel {
            return Applied::CancelRequested;
        }
        Applied::Yes
    }

    /// The history with the attempt that ends, unless it leaves no trace: a first success is written when
    /// somebody asks, and an attempt that is given back without a failure did not happen.
    fn history(&self, t: &Transition, now: Timestamp) -> Step<Option<String>> {
        let unremarkable = match t.to {
            State::Succeeded => self.history.is_none(),
            _ => t.refund && t.failure.is_none(),
        };
        if !t.running {
            // A job that succeeds without an attempt must not seem to have had one.
            let none = || (t.to == State::Succeeded).then(|| "[]".to_owned());
            return Ok(self.history.clone().or_else(none));
        }
        if unremarkable {
            return Ok(self.history.clone());
        }
        let mut lines: Vec<LineAttempt> = match &self.history {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).map_err(|e| damaged(format!("history: {e}")))?,
        };
        if lines.len() >= Job::HISTORY {
            lines.drain(..=lines.len() - Job::HISTORY);
        }
        lines.push(LineAttempt::from(&Attempt {
            number: self.attempt,
            node: self.node.as_deref().unwrap_or_default().into(),
            worker: self.worker,
            started: Timestamp::from_micros(self.started.unwrap_or_default()),
            ended: now,
            failure: t.failure.clone(),
        }));
        Ok(list(&lines)?)
    }

    /// What the job shows as its error after a transition: the last failure. `None` for no change.
    fn error<'t>(&self, t: &'t Transition) -> Option<Option<&'t Failure>> {
        match (t.running, &t.failure) {
            _ if t.to == State::Succeeded => Some(None),
            (true, None) if t.refund => None,
            (true, failure) => Some(failure.as_ref()),
            (false, Some(failure)) if t.to.is_final() => Some(Some(failure)),
            (false, _) => None,
        }
    }

    fn attempt(&self, t: &Transition) -> u32 {
        self.attempt.saturating_sub(u32::from(t.running && t.refund))
    }
}

impl Work<'_> {
    /// Applies each transition by itself.
    pub(super) fn apply_each(&mut self, done: &[Transition]) -> Step<Vec<Applied>> {
        done.iter().map(|t| self.apply(t)).collect()
    }

    /// Applies a transition if the job stands where it says.
    pub(super) fn apply(&mut self, t: &Transition) -> Step<Applied> {
        if self.engine.sealed() {
            return Ok(Applied::Stale);
        }
        if t.running && t.to == State::Succeeded && self.engine.keep > 0 && self.succeed(t)? {
            return Ok(Applied::Yes);
        }
        let Some(at) = self.stands(t.job)? else {
            return Ok(Applied::Stale);
        };
        let verdict = at.verdict(t);
        if verdict == Applied::Stale {
            self.tally.add(at.queue, Column::Stale, 1);
        }
        if verdict == Applied::Yes {
            if t.to.is_final() {
                self.end(&at, t)?;
            } else {
                self.again(&at, t)?;
            }
        }
        Ok(verdict)
    }

    /// The common case in one statement: a running job succeeds, and has no past.
    fn succeed(&mut self, t: &Transition) -> Step<bool> {
        let result = t.result.as_ref();
        let ended = self.first(
            sql::SUCCEED,
            params![
                row_of(t.job),
                t.job.id.to_bytes().as_slice(),
                number(t.job.fence),
                self.now.as_micros(),
                result.and_then(|r| r.as_bytes()),
                result.and_then(|r| r.content_type()),
            ],
            |row| Ok(self.engine.names.queue(row.get_ref(0)?.as_str()?)),
        )?;
        let Some(queue) = ended else { return Ok(false) };
        self.ended(queue?, State::Running, t);
        Ok(true)
    }

    fn stands(&self, job: JobRef) -> Step<Option<Stands>> {
        let found = self.first(sql::STANDS, (row_of(job), job.id.to_bytes().as_slice()), |row| {
            let stands = || -> Step<Stands> {
                Ok(Stands {
                    state: state(row, 0)?,
                    fence: row.get::<_, i64>(1)?.unsigned_abs(),
                    cancel_requested: row.get(2)?,
                    queue: self.engine.names.queue(&row.get::<_, String>(3)?)?,
                    attempt: row.get(4)?,
                    node: row.get(5)?,
                    worker: row.get::<_, Option<u32>>(6)?.unwrap_or(0),
                    started: row.get(7)?,
                    deadline: row.get(8)?,
                    history: row.get(9)?,
                    weight: row.get(10)?,
                })
            };
            Ok(stands())
        })?;
        found.transpose()
    }

    /// Ends a job for good.
    fn end(&mut self, at: &Stands, t: &Transition) -> Step<()> {
        let row = row_of(t.job);
        if self.engine.keep == 0 {
            self.run(sql::FORGET, [row])?;
        } else {
            let history = at.history(t, self.now)?;
            self.run(
                sql::END,
                params![
                    row,
                    t.job.id.to_bytes().as_slice(),
                    number(t.job.fence),
                    t.to.name(),
                    self.now.as_micros(),
                    at.attempt(t),
                    history,
                ],
            )?;
            self.set_error(at, t)?;
            // What is shed was given up to save what it takes.
            if matches!(t.to, State::Succeeded | State::Shed) {
                let result = t.result.as_ref();
                let bytes = result.and_then(|r| r.as_bytes());
                self.run(
                    sql::SET_RESULT,
                    (row, bytes, result.and_then(|r| r.content_type())),
                )?;
            }
        }
        if at.state.is_waiting() {
            self.weigh(at.queue, -at.weight);
        }
        self.ended(at.queue, at.state, t);
        Ok(())
    }

    /// Counts the end of a job.
    fn ended(&mut self, queue: QueueId, from: State, t: &Transition) {
        self.leave(queue, from);
        self.tally.add(queue, Column::of_end(t), 1);
        if self.engine.keep > 0 {
            self.tally.add(queue, Column::Kept, 1);
        }
        self.after.ended.push((t.job.id, t.to));
    }

    /// Lets a job wait again.
    fn again(&mut self, at: &Stands, t: &Transition) -> Step<()> {
        let (to, run_at, place) = if t.keeps_place && t.running {
            self.after.ready += 1;
            (State::Queued, None, None)
        } else {
            let run_at = self.now.after(t.delay);
            let (to, place) = self.line_up(run_at);
            (to, Some(run_at.as_micros()), Some(place))
        };
        let history = at.history(t, self.now)?;
        self.run(
            sql::AGAIN,
            params![
                row_of(t.job),
                t.job.id.to_bytes().as_slice(),
                number(t.job.fence),
                to.name(),
                run_at,
                place,
                at.attempt(t),
                history,
                at.deadline,
            ],
        )?;
        self.set_error(at, t)?;
        if let Some(deadline) = at.deadline {
            self.after.due(Timestamp::from_micros(deadline));
        }
        self.step(at.queue, at.state, to);
        if at.state == State::Running {
            self.weigh(at.queue, at.weight);
        }
        if t.running {
            let total = if t.refund {
                Column::Returned
            } else {
                Column::Retried
            };
            self.tally.add(at.queue, total, 1);
        }
        Ok(())
    }

    fn set_error(&mut self, at: &Stands, t: &Transition) -> Step<()> {
        let Some(error) = at.error(t) else { return Ok(()) };
        let (message, kind) = (error.map(|e| &*e.message), error.map(|e| e.kind.name()));
        self.run(sql::SET_ERROR, (row_of(t.job), message, kind))?;
        Ok(())
    }

    /// Notes that a running job is asked to stop; whether it runs under this claim.
    pub(super) fn request_cancel(&mut self, job: JobRef) -> Step<bool> {
        let parameters = (row_of(job), job.id.to_bytes(), number(job.fence));
        let asked = self.run(sql::REQUEST_CANCEL, parameters)? > 0;
        self.after.leases |= asked;
        Ok(asked)
    }

    /// Moves the ends of leases.
    pub(super) fn extend(&mut self, leases: &[JobRef], lease: Duration) -> Step<Vec<Held>> {
        let until = instant(self.now.after(lease));
        let mut held = Vec::with_capacity(leases.len());
        for job in leases {
            let parameters = (row_of(*job), job.id.to_bytes(), number(job.fence), until);
            let found = self.first(sql::EXTEND, parameters, |row| {
                Ok((row.get::<_, bool>(0)?, row.get::<_, Option<i64>>(1)?))
            })?;
            held.push(match found {
                None => Held::Lost,
                Some((asked, due)) => {
                    self.after.changed = true;
                    self.after.due(due.map_or(Timestamp::MAX, Timestamp::from_micros));
                    if asked { Held::CancelRequested } else { Held::Yes }
                }
            });
        }
        Ok(held)
    }
}
