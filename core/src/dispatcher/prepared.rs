//! Checking a job and resolving its names and defaults, before an engine sees it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inner;
use super::queues::Bounds;
use crate::config::{UnknownKinds, check_endless};
use crate::durability::Durability;
use crate::engine::{Insert, JobRef, Located, Parcel};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Extras, Name, NewJob, Priority, RunAt, State, check_payload};
use crate::names::{KindId, QueueId};
use crate::outcome::ShedReason;
use crate::payload::Payload;
use crate::time::Timestamp;

/// A checked job with its names and defaults resolved.
pub(crate) struct Prepared<'j> {
    pub(crate) id: JobId,
    pub(crate) queue: QueueId,
    pub(crate) kind: KindId,
    run_at: Timestamp,
    deadline: Timestamp,
    pub(super) extras: Option<Arc<Extras>>,
    pub(super) durability: Durability,
    /// The bytes of its payload, as a bound counts them.
    pub(super) weight: usize,
    job: &'j NewJob<'j>,
}

impl Prepared<'_> {
    /// The payload, which stays the job's.
    pub(crate) fn shared(&self) -> Parcel<'_> {
        Parcel::Shared(&self.job.payload)
    }

    pub(super) fn priority(&self) -> Priority {
        self.job.priority
    }

    /// Whether its id was made for it.
    fn is_fresh(&self) -> bool {
        self.job.id == JobId::NIL
    }

    /// Whether there can be no such job as yet.
    pub(super) fn is_new(&self) -> bool {
        let key = self.extras.as_ref().and_then(|extras| extras.key.as_ref());
        self.is_fresh() && key.is_none()
    }

    pub(super) fn concurrency_key(&self) -> Option<&str> {
        self.extras.as_ref()?.concurrency_key.as_deref()
    }

    /// The form the engine takes of a job that is stored only as one that was shed.
    pub(super) fn shed<'i>(&'i self, nothing: &'i Payload, reason: ShedReason) -> Insert<'i> {
        Insert {
            shed: Some(reason),
            // What is lost of it in a crash is the news that it was shed.
            durability: Durability::Memory,
            ..self.insert(Parcel::Shared(nothing), Bounds::default())
        }
    }

    /// Where it stands once it is stored so. The engine is not asked, which may remember none that are over.
    pub(super) fn standing_shed(&self) -> Located {
        let job = JobRef {
            id: self.id,
            ..JobRef::default()
        };
        Located {
            job,
            queue: self.queue,
            kind: self.kind,
            state: State::Shed,
            attempt: 0,
            max_attempts: self.job.max_attempts.unwrap_or(0),
            cancel_requested: false,
            started: None,
            extras: self.extras.clone(),
        }
    }

    /// The form the engine takes.
    pub(crate) fn insert<'i>(&'i self, payload: Parcel<'i>, bounds: Bounds) -> Insert<'i> {
        Insert {
            id: self.id,
            fresh: self.is_fresh(),
            queue: self.queue,
            kind: self.kind,
            payload,
            priority: self.job.priority,
            run_at: self.run_at,
            max_attempts: self.job.max_attempts.unwrap_or(0),
            timeout: self.job.timeout,
            deadline: self.deadline,
            extras: self.extras.as_ref(),
            waits: self.job.waits(),
            capacity: bounds.jobs,
            capacity_bytes: bounds.bytes,
            undecided: bounds.yields,
            resident: bounds.resident,
            shed: None,
            durability: self.durability,
            restored: None,
        }
    }
}

impl Inner {
    /// Checks a job and resolves its names and defaults.
    pub(crate) fn prepare<'j>(&self, job: &'j NewJob<'j>, now: Timestamp) -> Result<Prepared<'j>> {
        self.prepare_with(job, &job.payload, now)
    }

    /// The same for a job whose payload is given away.
    #[inline(always)]
    pub(super) fn prepare_given<'j>(
        &self,
        job: &'j NewJob<'j>,
        payload: &Cell<Payload>,
        now: Timestamp,
    ) -> Result<Prepared<'j>> {
        let carried = payload.take();
        let prepared = self.prepare_with(job, &carried, now);
        payload.set(carried);
        prepared
    }

    /// The same for a job whose payload has been taken out.
    #[inline(always)]
    fn prepare_with<'j>(
        &self,
        job: &'j NewJob<'j>,
        payload: &Payload,
        now: Timestamp,
    ) -> Result<Prepared<'j>> {
        job.check(self.options.max_payload)?;
        check_payload(payload, self.options.max_payload)?;
        let names = self.engine.names();
        let kind = self.kind_of(job)?;
        let queue = match &job.queue {
            None => self.default_queue,
            Some(Name::Id(id)) if id.index() < names.queue_count() => *id,
            Some(Name::Id(_)) => return Err(foreign("queue")),
            Some(Name::Text(name)) => names.queue(name)?,
        };
        let weight = payload.len().unwrap_or(0);
        self.check_weight(queue, weight)?;
        if job.max_attempts.is_some() || job.rare().is_some() {
            self.check_attempts(job, kind)?;
        }
        let at = |when: RunAt| match when {
            RunAt::Now => now,
            RunAt::After(d) => now.after(d),
            RunAt::At(t) => t.max(now),
        };
        let deadline = job.rare().and_then(|rare| rare.deadline);
        let deadline = deadline.map_or(Timestamp::MAX, |d| match d {
            RunAt::At(t) => t,
            other => at(other),
        });
        let id = match job.id {
            JobId::NIL => JobId::new(now),
            id => id,
        };
        if self.must_encode.load(Ordering::Relaxed) || self.relays.encodes(queue) {
            // Nothing is accepted that the file, or whoever gets the job in the end, could not hold.
            payload.encode()?;
        }
        let extras = self.extras(job, payload)?;
        Ok(Prepared {
            id,
            queue,
            kind,
            run_at: at(job.run_at),
            deadline,
            extras,
            durability: self.level(job.durability),
            weight,
            job,
        })
    }

    /// Checks the attempts and the pause that will apply, whoever said them: the job, its kind, the options.
    fn check_attempts(&self, job: &NewJob<'_>, kind: KindId) -> Result<()> {
        let options = self.kinds.get(kind).map(|e| e.options).unwrap_or_default();
        let runs = job.max_attempts.or(options.max_attempts);
        let retry = job.rare().and_then(|rare| rare.retry).or(options.retry);
        check_endless(
            runs.unwrap_or(self.options.max_attempts),
            &retry.unwrap_or(self.options.retry),
        )
    }

    fn extras(&self, job: &NewJob<'_>, payload: &Payload) -> Result<Option<Arc<Extras>>> {
        let Some(rare) = job.rare() else {
            return Ok(None);
        };
        let plain = rare.key.is_none() && rare.concurrency_key.is_none();
        if plain && rare.retry.is_none() && rare.headers.is_empty() {
            return Ok(None);
        }
        let fingerprint = match rare.key {
            Some(_) => payload.fingerprint()?,
            None => 0,
        };
        Ok(Some(Arc::new(Extras {
            key: rare.key.as_deref().map(Box::from),
            fingerprint,
            concurrency_key: rare.concurrency_key.as_deref().map(Box::from),
            retry: rare.retry,
            headers: rare.headers.clone(),
        })))
    }

    /// The number of a job's kind, if this dispatcher accepts it.
    fn kind_of(&self, job: &NewJob<'_>) -> Result<KindId> {
        let names = self.engine.names();
        let picky = self.options.unknown_kinds == UnknownKinds::Reject;
        let known = |id: &KindId| !picky || self.kinds.get(*id).is_some();
        match &job.kind {
            Name::Id(id) if id.index() >= names.kind_count() => Err(foreign("kind")),
            Name::Id(id) if known(id) => Ok(*id),
            Name::Id(id) => Err(self.unknown_kind(&names.kind_name(*id))),
            // A name that is refused is given no number: there are not many of them.
            Name::Text(name) if picky => {
                let id = names.find_kind(name).filter(known);
                id.ok_or_else(|| self.unknown_kind(name))
            }
            Name::Text(name) => names.kind(name),
        }
    }

    fn unknown_kind(&self, kind: &str) -> Error {
        let names = self.engine.names().kinds().into_iter();
        let known = names.filter(|(id, _)| self.kinds.get(*id).is_some());
        let known: Vec<String> = known.map(|(_, name)| format!("{name:?}")).take(20).collect();
        let text = format!(
            "no handler for kind {kind:?} is registered here; known: [{}]",
            known.join(", ")
        );
        Error::new(ErrorKind::UnknownKind, text)
    }
}

/// The answer to a number that another dispatcher gave.
fn foreign(what: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("the {what} number is not one of this dispatcher; ask it for the number, or give the name"),
    )
}
