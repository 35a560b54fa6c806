//! Pushing: a job is prepared and given to the engine, and its receipt becomes the answer.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::overflow::Next;
use super::prepared::Prepared;
use super::pushed::{PushError, PushManyError, Pushed, refused};
use super::room::{AT_ONCE, Last, full};
use super::{Dispatcher, Inner};
use crate::config::{OptionValue, UnknownKinds};
use crate::durability::Durability;
use crate::engine::{Insert, Inserted, Parcel};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::id::JobId;
use crate::job::{Name, NewJob, RunAt};
use crate::names::{KindId, QueueId};
use crate::payload::Payload;
use crate::time::{Deadline, Timestamp};

impl Dispatcher {
    /// Accepts a job. What happens when the queue is full is the queue's policy (option `on_full`).
    ///
    /// # Errors
    /// `Full`, `Invalid`, `Conflict` (the key belongs to another job), `UnknownKind` (if so configured),
    /// `Closed`, `Forked`; of the store. The job comes back with the error.
    ///
    /// ```
    /// # let d = forebay::Dispatcher::in_memory()?;
    /// let pushed = d.push(forebay::NewJob::new("mail", b"hello"))?;
    /// assert_eq!(d.get(pushed.id)?.state, forebay::State::Queued);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn push<'a>(&self, mut job: NewJob<'a>) -> Result<Pushed, PushError<'a>> {
        let wait = self.patience(&job);
        let pushed = self.0.push_one(&mut job, wait);
        pushed.map_err(|error| refused(error, job))
    }

    /// Accepts a job; waits up to `timeout` for room if the queue is full, whatever its policy.
    ///
    /// # Errors
    /// As [`Dispatcher::push`]; `Full` when no room came in time.
    pub fn push_within<'a>(&self, mut job: NewJob<'a>, timeout: Duration) -> Result<Pushed, PushError<'a>> {
        let pushed = self.0.push_one(&mut job, Some(timeout));
        pushed.map_err(|error| refused(error, job))
    }

    /// How long a push to a queue waits for room, as its option `on_full` says; `None` if it does not wait. For hosts
    /// that do the waiting themselves: see [`Dispatcher::try_push`].
    #[must_use]
    pub fn waits_for_room(&self, queue: &str) -> Option<Duration> {
        self.patience(&NewJob::new("", ()).queue(queue))
    }

    /// Accepts a job without waiting: as [`Dispatcher::push`], but where the policy of a full queue is to wait for
    /// room, this is refused.
    ///
    /// # Errors
    /// As [`Dispatcher::push`].
    pub fn try_push<'a>(&self, mut job: NewJob<'a>) -> Result<Pushed, PushError<'a>> {
        let pushed = self.0.push_one(&mut job, None);
        pushed.map_err(|error| refused(error, job))
    }

    /// As [`Dispatcher::try_push`], and takes the payload out of `job` if it was accepted: for hosts that would only
    /// move the job to and fro.
    ///
    /// # Errors
    /// As [`Dispatcher::push`]; `job` is then as it was.
    pub fn try_push_from(&self, job: &mut NewJob<'_>) -> Result<Pushed> {
        self.0.push_one(job, None)
    }

    /// How long the policy of its queue lets the push of this job wait for room; `None` for not at all.
    /// For hosts that have to do the waiting themselves.
    #[must_use]
    pub fn patience(&self, job: &NewJob<'_>) -> Option<Duration> {
        self.0.patience(job)
    }

    /// What this job will survive when its push is answered; beyond [`Durability::Memory`] the push waits for
    /// the store. For hosts that have to do the waiting themselves.
    #[must_use]
    pub fn durability_of(&self, job: &NewJob<'_>) -> Durability {
        self.0.level(job.durability)
    }

    /// The name of the queue that a push of this job puts it into.
    #[must_use]
    pub fn queue_of<'a>(&'a self, job: &'a NewJob<'_>) -> &'a str {
        match &job.queue {
            None => self.0.engine.names().queue_text(self.0.default_queue),
            Some(Name::Id(id)) => self.0.engine.names().queue_text(*id),
            Some(Name::Text(name)) => name,
        }
    }

    /// The name of the kind of this job.
    #[must_use]
    pub fn kind_of<'a>(&'a self, job: &'a NewJob<'_>) -> &'a str {
        match &job.kind {
            Name::Id(id) => self.0.engine.names().kind_text(*id),
            Name::Text(name) => name,
        }
    }

    /// Accepts jobs in order and stops at the first refusal. All are checked first: if one is not valid,
    /// none is accepted.
    ///
    /// # Errors
    /// Which jobs were accepted, and why the next one was not.
    pub fn push_many(&self, jobs: &[NewJob<'_>]) -> Result<Vec<Pushed>, PushManyError> {
        let wait = jobs.first().and_then(|job| self.patience(job));
        self.0.push_all(jobs, &[], wait.map(Deadline::after))
    }

    /// The same without waiting: where the policy of a full queue is to wait for room, that job is refused.
    ///
    /// # Errors
    /// As [`Dispatcher::push_many`].
    pub fn try_push_many(&self, jobs: &[NewJob<'_>]) -> Result<Vec<Pushed>, PushManyError> {
        self.0.push_all(jobs, &[], None)
    }

    /// The same, waiting up to `timeout` in all for room.
    ///
    /// # Errors
    /// As [`Dispatcher::push_many`].
    pub fn push_many_within(
        &self,
        jobs: &[NewJob<'_>],
        timeout: Duration,
    ) -> Result<Vec<Pushed>, PushManyError> {
        self.0.push_all(jobs, &[], Some(Deadline::after(timeout)))
    }

    /// As [`Dispatcher::push_many`], and takes the jobs that were accepted out of `jobs`: their payloads become the
    /// queue's alone, which is cheaper than to share them with the caller.
    ///
    /// # Errors
    /// As [`Dispatcher::push_many`]; what was not accepted is still in `jobs`.
    ///
    /// ```
    /// # use forebay::NewJob;
    /// # let d = forebay::Dispatcher::in_memory()?;
    /// let mut jobs: Vec<_> = (0..3).map(|i| NewJob::new("mail", format!("to {i}"))).collect();
    /// assert_eq!(d.push_from(&mut jobs).expect("there is room").len(), 3);
    /// assert!(jobs.is_empty());
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn push_from(&self, jobs: &mut Vec<NewJob<'_>>) -> Result<Vec<Pushed>, PushManyError> {
        let wait = jobs.first().and_then(|job| self.patience(job));
        self.0.push_from(jobs, wait.map(Deadline::after))
    }

    /// The same, waiting up to `timeout` in all for room.
    ///
    /// # Errors
    /// As [`Dispatcher::push_from`].
    pub fn push_from_within(
        &self,
        jobs: &mut Vec<NewJob<'_>>,
        timeout: Duration,
    ) -> Result<Vec<Pushed>, PushManyError> {
        self.0.push_from(jobs, Some(Deadline::after(timeout)))
    }
}

impl Inner {
    fn patience(&self, job: &NewJob<'_>) -> Option<Duration> {
        let queue = match &job.queue {
            _ if !self.own_options.load(Ordering::Acquire) => None,
            None => Some(self.default_queue),
            Some(Name::Id(id)) => Some(*id),
            Some(Name::Text(name)) => self.engine.names().find_queue(name),
        };
        let on_full = queue.and_then(|q| self.rules(q).on_full);
        on_full.unwrap_or(self.options.on_full).patience()
    }

    /// The hot path of a single push: nothing is allocated here.
    fn push_one(&self, job: &mut NewJob<'_>, wait: Option<Duration>) -> Result<Pushed> {
        match self.push_plain(job)? {
            Some(pushed) => Ok(pushed),
            None => self.push_any(job, wait),
        }
    }

    /// Pushes a job about which nothing is said that has to be checked, if it can be stored at once. Where it cannot,
    /// the general way finds out why.
    #[inline]
    fn push_plain(&self, job: &mut NewJob<'_>) -> Result<Option<Pushed>> {
        let Some((kind, queue)) = self.plain_names(job) else {
            return Ok(None);
        };
        self.check_open()?;
        let (bounds, weight) = (self.bounds(queue), job.payload.len().unwrap_or(0));
        let fits = weight <= self.options.max_payload && (bounds.bytes == 0 || weight <= bounds.bytes);
        if !fits || self.must_encode.load(Ordering::Relaxed) || self.relays.any() {
            return Ok(None);
        }
        let (now, durability) = (self.now(), self.level(job.durability));
        let id = JobId::new(now);
        let payload = Cell::new(std::mem::take(&mut job.payload));
        let insert = Insert {
            id,
            fresh: true,
            queue,
            kind,
            payload: Parcel::Given(&payload),
            priority: job.priority,
            run_at: now,
            max_attempts: 0,
            timeout: None,
            deadline: Timestamp::MAX,
            extras: None,
            waits: &[],
            capacity: bounds.jobs,
            capacity_bytes: bounds.bytes,
            // The general way tries again, and is counted then.
            undecided: true,
            resident: bounds.resident,
            shed: None,
            durability,
            restored: None,
        };
        let receipt = self.engine.insert_one(&insert, now);
        if matches!(receipt, Ok(Inserted::New)) {
            self.announce_new(id, queue, kind, now);
            return Ok(Some(Pushed {
                id,
                created: true,
                durability,
                shed: None,
            }));
        }
        job.payload = payload.into_inner();
        receipt.map(|_| None)
    }

    /// The numbers of its kind and its queue, if nothing else is said about a job than what needs no check.
    #[inline]
    fn plain_names(&self, job: &NewJob<'_>) -> Option<(KindId, QueueId)> {
        let plain = job.id == JobId::NIL
            && job.run_at == RunAt::Now
            && job.max_attempts.is_none()
            && job.timeout.is_none()
            && job.rare.is_none();
        let Name::Id(kind) = job.kind else { return None };
        let names = self.engine.names();
        let queue = match job.queue {
            None => self.default_queue,
            Some(Name::Id(queue)) if queue.index() < names.queue_count() => queue,
            Some(_) => return None,
        };
        let known = kind.index() < names.kind_count() && self.options.unknown_kinds != UnknownKinds::Reject;
        (plain && known).then_some((kind, queue))
    }

    fn push_any(&self, job: &mut NewJob<'_>, wait: Option<Duration>) -> Result<Pushed> {
        let payload = Cell::new(std::mem::take(&mut job.payload));
        let answer = self.give_one(job, &payload, wait);
        // What the engine has not taken goes back with the error.
        job.payload = payload.into_inner();
        answer
    }

    fn give_one(&self, job: &NewJob<'_>, payload: &Cell<Payload>, wait: Option<Duration>) -> Result<Pushed> {
        self.check_open()?;
        let mut now = self.now();
        let prepared = self.prepare_given(job, payload, now)?;
        // The wait begins when the queue is found full: most pushes never ask what time it is for that.
        let (mut deadline, mut last) = (None, Last::No);
        loop {
            let bounds = self.bounds_of_try(prepared.queue, wait.is_some(), &last);
            let insert = prepared.insert(Parcel::Given(payload), bounds);
            let receipt = self.engine.insert_one(&insert, now)?;
            if !full(receipt) || !bounds.yields {
                return last.or(self.receive(&prepared, receipt, now));
            }
            match self.overflow(&prepared, 1, now)? {
                Next::Again => {}
                Next::Shed(reason) => {
                    let shed = self.shed_newcomer(&prepared, reason, now)?;
                    payload.take();
                    return Ok(shed);
                }
                Next::Refuse => {
                    let until = wait.map(|wait| *deadline.get_or_insert_with(|| Deadline::after(wait)));
                    last = self.wait_or_try_last(&prepared, until)?;
                }
            }
            // An engine that others use as well takes an old instant for a clock that is behind.
            now = self.now();
        }
    }

    fn push_from(
        &self,
        jobs: &mut Vec<NewJob<'_>>,
        wait: Option<Deadline>,
    ) -> Result<Vec<Pushed>, PushManyError> {
        let payloads = jobs
            .iter_mut()
            .map(|job| Cell::new(std::mem::take(&mut job.payload)));
        let payloads: Vec<_> = payloads.collect();
        let answer = self.push_all(jobs, &payloads, wait);
        let accepted = match &answer {
            Ok(pushed) => pushed.len(),
            Err(refused) => refused.pushed.len(),
        };
        jobs.drain(..accepted);
        // What the engine has not taken stays with its job.
        for (job, payload) in jobs.iter_mut().zip(payloads.into_iter().skip(accepted)) {
            job.payload = payload.into_inner();
        }
        answer
    }

    /// Pushes jobs whose payloads are given away in `given`, or are their own if that is empty.
    pub(super) fn push_all(
        &self,
        jobs: &[NewJob<'_>],
        given: &[Cell<Payload>],
        wait: Option<Deadline>,
    ) -> Result<Vec<Pushed>, PushManyError> {
        let refuse = |error| PushManyError {
            pushed: Vec::new(),
            error,
        };
        self.check_open().map_err(refuse)?;
        let began = self.now();
        let mut prepared = Vec::with_capacity(jobs.len());
        for (i, job) in jobs.iter().enumerate() {
            let ready = match given.get(i) {
                None => self.prepare(job, began),
                Some(payload) => self.prepare_given(job, payload, began),
            };
            prepared.push(ready.map_err(refuse)?);
        }
        // Where payloads were encoded that may have taken long, and an engine that others use as well takes an old
        // instant for a clock that is behind.
        let mut now = if self.encodes { self.now() } else { began };
        let mut pushed = Vec::with_capacity(prepared.len());
        let mut receipts = Vec::with_capacity(prepared.len());
        // Once the queue was full, few at a time: each try names all that it tries.
        let (mut at_once, mut last) = (prepared.len(), Last::No);
        loop {
            let rest = &prepared[pushed.len()..];
            let parcel = |i, p| {
                given
                    .get(pushed.len() + i)
                    .map_or_else(|| Prepared::shared(p), Parcel::Given)
            };
            let inserts: Vec<_> = rest
                .iter()
                .take(at_once)
                .enumerate()
                .map(|(i, p)| p.insert(parcel(i, p), self.bounds_of_try(p.queue, wait.is_some(), &last)))
                .collect();
            receipts.clear();
            if let Err(error) = self.engine.insert(&inserts, now, &mut receipts) {
                return Err(PushManyError { pushed, error });
            }
            let mut refused = None;
            for (prepared, receipt) in rest.iter().zip(&receipts) {
                match self.receive(prepared, *receipt, now) {
                    Ok(p) => pushed.push(p),
                    Err(error) => refused = Some((*receipt, error)),
                }
            }
            let tried = std::mem::take(&mut last);
            if let Some((receipt, error)) = refused {
                if !full(receipt) || !inserts[receipts.len() - 1].undecided {
                    let error = tried.instead_of(error);
                    return Err(PushManyError { pushed, error });
                }
                let rest = &prepared[pushed.len()..];
                match self.find_room(rest, receipt, wait, now, &mut pushed) {
                    Ok(found) => last = found,
                    Err(error) => return Err(PushManyError { pushed, error }),
                }
                at_once = if last.is_no() { AT_ONCE } else { 1 };
                now = self.now();
            }
            if pushed.len() == prepared.len() {
                return Ok(pushed);
            }
        }
    }

    /// Turns a receipt into the caller's answer.
    #[inline]
    pub(super) fn receive(
        &self,
        prepared: &Prepared<'_>,
        receipt: Inserted,
        now: Timestamp,
    ) -> Result<Pushed> {
        if receipt == Inserted::New {
            self.announce_push(prepared, now);
            return Ok(Pushed {
                id: prepared.id,
                created: true,
                durability: prepared.durability,
                shed: None,
            });
        }
        self.receive_other(prepared, receipt)
    }

    #[inline(never)]
    fn receive_other(&self, prepared: &Prepared<'_>, receipt: Inserted) -> Result<Pushed> {
        let pushed = |id, created| Pushed {
            id,
            created,
            durability: prepared.durability,
            shed: None,
        };
        match receipt {
            Inserted::New => Ok(pushed(prepared.id, true)),
            Inserted::Duplicate => Ok(pushed(prepared.id, false)),
            Inserted::Keyed(id) => Ok(pushed(id, false)),
            Inserted::Conflict(id) => {
                let key = prepared
                    .extras
                    .as_ref()
                    .and_then(|e| e.key.as_deref())
                    .unwrap_or_default();
                let text = format!("key {key:?} belongs to job {id}, which has another kind or payload");
                Err(Error::new(ErrorKind::Conflict, text))
            }
            Inserted::Sealed => Err(super::closed()),
            Inserted::Full(_) | Inserted::FullBytes(_) => {
                let (queue, of) = (
                    self.engine.names().queue_name(prepared.queue),
                    self.bounds(prepared.queue),
                );
                let what = match receipt {
                    Inserted::FullBytes(len) => format!("{len} of {} bytes wait", of.bytes),
                    Inserted::Full(len) => format!("{len} of {} jobs wait", of.jobs),
                    _ => String::new(),
                };
                let policy = self.rules(prepared.queue).on_full.unwrap_or(self.options.on_full);
                let text = format!("queue {queue:?} is full: {what}, policy {}", policy.write());
                Err(Error::new(ErrorKind::Full, text))
            }
        }
    }

    #[inline]
    pub(crate) fn announce_push(&self, prepared: &Prepared<'_>, now: Timestamp) {
        self.announce_new(prepared.id, prepared.queue, prepared.kind, now);
    }

    #[inline]
    fn announce_new(&self, id: JobId, queue: QueueId, kind: KindId, now: Timestamp) {
        if self.events.any_wanted() {
            self.tell_of_push(id, queue, kind, now);
        }
    }

    #[inline(never)]
    fn tell_of_push(&self, id: JobId, queue: QueueId, kind: KindId, now: Timestamp) {
        if self.events.wanted(EventKind::Pushed) {
            self.emit(&Event {
                id,
                queue: Some(queue),
                job_kind: Some(kind),
                ..Event::of_all(EventKind::Pushed, now)
            });
        }
        if self.events.wanted(EventKind::HighWatermark) {
            self.watch_pressure(queue, now);
        }
    }
}
