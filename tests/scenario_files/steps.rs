//! What each step does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::{
    Answer, Deadline, Dispatcher, Error, ErrorKind, Filter, ForwardOptions, KindOptions, KindSet, NewJob,
    Outcome, QueueOptions, State, StopReason, Target,
};
use serde_json::{Map, Value, json};

use crate::fields::{Failure, Fields, Step, failed, mistaken, object, outcome, payload, text};
use crate::stage::Stage;

/// For what must happen soon: long enough for any machine.
const SOON: u64 = 60_000;

impl Stage<'_> {
    pub(crate) fn step(&mut self, name: &str, fields: &mut Fields) -> Step {
        match name {
            "push" | "push_many" | "next" | "complete" | "extend" | "stop_reason" => self.work(name, fields),
            "cancel" | "retry" | "signal" | "state" | "get" | "result" | "explain" | "list" => {
                self.look(name, fields)
            }
            "pause" | "resume" | "purge" | "len" | "pressure" | "stats" | "metrics" | "explain_queue"
            | "configure_queue" | "queue_options" | "declare" | "forward" => self.queue(name, fields),
            _ => self.life(name, fields),
        }
    }

    /// Pushing and working.
    fn work(&mut self, name: &str, fields: &mut Fields) -> Step {
        match name {
            "push" => {
                let wait = fields.ms("wait_ms")?;
                let (job, label) = self.job(fields)?;
                let pushed = match wait {
                    Some(wait) => self.d()?.push_within(job, wait),
                    None => self.d()?.push(job),
                };
                Ok(self.pushed(pushed.map_err(Error::from)?, label))
            }
            "push_many" => {
                let wait = fields.ms("wait_ms")?;
                let (jobs, labels): (Vec<_>, Vec<_>) = self.batch(fields.take("jobs")?)?.into_iter().unzip();
                let pushed = match wait {
                    Some(wait) => self.d()?.push_many_within(&jobs, wait),
                    None => self.d()?.push_many(&jobs),
                };
                let (pushed, error) = match pushed {
                    Ok(pushed) => (pushed, None),
                    Err(stopped) => (stopped.pushed, Some(stopped.error)),
                };
                let jobs = pushed.into_iter().zip(labels);
                let jobs: Vec<Value> = jobs.map(|(pushed, label)| self.pushed(pushed, label)).collect();
                let mut answer = error.map_or_else(Map::new, |error| failed(&error));
                answer.extend(object(json!({"accepted": jobs.len(), "jobs": jobs})));
                Ok(answer.into())
            }
            "next" => {
                let kinds = fields.take::<Vec<String>>("kinds")?.unwrap_or_default();
                let queues = fields.take::<Vec<String>>("queues")?.unwrap_or_default();
                let (max, lease) = (fields.take("max")?.unwrap_or(1), fields.ms("lease_ms")?);
                let label: Option<String> = fields.take("as")?;
                let wait = fields.ms("wait_ms")?.unwrap_or_default();
                let d = self.d()?;
                let set = if kinds.is_empty() {
                    KindSet::any()
                } else {
                    KindSet::new()
                };
                for kind in &kinds {
                    set.add(d.kind(kind)?);
                }
                let queues: Result<Vec<_>, Error> = queues.iter().map(|queue| d.queue(queue)).collect();
                let mut consumer = d.consumer(Arc::new(set)).queues(queues?);
                consumer = consumer.lease(lease.or(d.options().lease));
                let mut leases = Vec::new();
                consumer.next_many(max, Deadline::after(wait), &mut leases)?;
                let jobs = leases
                    .into_iter()
                    .map(|lease| self.delivery(lease, label.as_deref()));
                let jobs = jobs.collect::<Result<Vec<Value>, Failure>>()?;
                let ids: Vec<&Value> = jobs.iter().map(|job| &job["id"]).collect();
                Ok(json!({"ids": ids, "jobs": jobs}))
            }
            "complete" => {
                let ticket = self.ticket(&fields.need::<String>("job")?)?;
                // Labels of jobs that come with an answer are those of ids that the file gives.
                let then = self.batch(fields.take("then")?)?.into_iter();
                let then: Vec<NewJob<'_>> = then.map(|(job, _)| job).collect();
                let (d, outcome) = (self.d()?, outcome(fields)?);
                let answer = match then.is_empty() {
                    true => d.finish([(ticket, outcome)])?[0],
                    false => d.finish_and_push(ticket, outcome, &then)?,
                };
                if answer == Answer::Stale {
                    return Err(Error::new(ErrorKind::Stale, "the answer came too late").into());
                }
                Ok(json!({}))
            }
            "extend" => {
                let ticket = self.ticket(&fields.need::<String>("job")?)?;
                self.d()?
                    .extend(ticket, Duration::from_millis(fields.need("lease_ms")?))?;
                Ok(json!({}))
            }
            _ => {
                let reason = self
                    .d()?
                    .stop_reason(self.ticket(&fields.need::<String>("job")?)?);
                Ok(json!({"reason": reason.map(StopReason::name)}))
            }
        }
    }

    /// What is asked and done about single jobs.
    fn look(&mut self, name: &str, fields: &mut Fields) -> Step {
        if name == "state" {
            let mut states = Map::new();
            for label in fields.need::<Vec<String>>("jobs")? {
                let state = self.d()?.state(self.id(&label)?)?;
                states.insert(label, state.name().into());
            }
            return Ok(states.into());
        }
        if name == "list" {
            return self.list(fields);
        }
        let id = self.id(&fields.need::<String>("job")?)?;
        let d = self.d()?;
        Ok(match name {
            "cancel" => json!({"state": d.cancel(id)?.name()}),
            "retry" => {
                let pushed = d.retry(id, payload(fields)?)?;
                self.name(fields.take("as")?, pushed.id);
                json!({"id": self.label(pushed.id)})
            }
            "signal" => {
                d.signal(id, fields.need::<String>("token")?)?;
                json!({})
            }
            "get" => self.told(&d.get(id)?)?,
            "result" => {
                let result = d.wait(id, Deadline::after(Duration::ZERO))?.into_result()?;
                let mut told = text(&result);
                told.insert("result".to_owned(), told["payload"].clone());
                told.into()
            }
            _ => json!({"text": d.explain(id)?.to_string()}),
        })
    }

    fn list(&self, fields: &mut Fields) -> Step {
        let states = fields.take::<Vec<String>>("states")?.unwrap_or_default();
        let state = |name: &String| match State::from_name(name) {
            Some(state) => Ok(state),
            None => mistaken(format!("no state {name:?}")),
        };
        let after: Option<String> = fields.take("after")?;
        let filter = Filter {
            queue: fields.take("queue")?,
            kind: fields.take("kind")?,
            key: fields.take("key")?,
            states: states.iter().map(state).collect::<Result<_, Failure>>()?,
            created_from: fields.ms("created_from_ms")?.map(|after| self.at(after)),
            created_before: fields.ms("created_before_ms")?.map(|after| self.at(after)),
            after: after.map(|label| self.id(&label)).transpose()?,
            limit: fields.take("limit")?,
        };
        let page = self.d()?.list(&filter)?;
        let ids: Vec<&str> = page.jobs.iter().map(|job| self.label(job.id)).collect();
        Ok(json!({"ids": ids, "total": page.total}))
    }

    /// What is asked and done about queues and kinds.
    fn queue(&mut self, name: &str, fields: &mut Fields) -> Step {
        let d = self.d()?;
        if name == "metrics" {
            return Ok(json!({"text": d.stats()?.to_prometheus()}));
        }
        let options = |fields: &mut Fields| fields.need::<BTreeMap<String, String>>("options");
        if name == "declare" {
            let mut own = KindOptions::new();
            let kind: String = fields.need("kind")?;
            options(fields)?
                .iter()
                .try_for_each(|(name, value)| own.set(name, value))?;
            d.declare(&kind, own)?;
            return Ok(json!({}));
        }
        let queue = fields.queue()?;
        Ok(match name {
            "pause" => d.pause(&queue).map(|()| json!({}))?,
            "resume" => d.resume(&queue).map(|()| json!({}))?,
            "purge" => json!({"count": d.purge(&queue)?}),
            "len" => json!({"len": d.len(&queue)?}),
            "pressure" => json!({"pressure": d.pressure(&queue)?}),
            "stats" => {
                let all: Value = serde_json::from_str(&d.stats()?.to_json()).expect("it is JSON");
                let found = all["queues"].as_array().into_iter().flatten();
                match found.into_iter().find(|found| found["name"] == queue) {
                    Some(found) => {
                        let mut counts = object(found.clone());
                        let totals = counts.remove("totals");
                        counts.extend(object(totals.expect("each queue has them")));
                        counts.into()
                    }
                    None => return mistaken(format!("no queue is called {queue:?}")),
                }
            }
            "forward" => {
                let url: String = fields.need("url")?;
                let mut target = Target::url(self.filled(&url), forebay::Options::default());
                if let Some(to) = fields.take::<String>("to_queue")? {
                    target = target.queue(to);
                }
                let mut own = ForwardOptions::default();
                let said: BTreeMap<String, String> = fields.take("options")?.unwrap_or_default();
                said.iter().try_for_each(|(name, value)| own.set(name, value))?;
                d.forward(&queue, target, own)?;
                json!({})
            }
            "explain_queue" => json!({"text": d.explain_queue(&queue)?.to_string()}),
            "configure_queue" => {
                let options = options(fields)?;
                let mut set = options.iter();
                d.adjust_queue(&queue, |own| {
                    set.try_for_each(|(name, value)| own.set(name, value))
                })?;
                json!({})
            }
            _ => {
                let own = d.queue_options(&queue)?;
                let said = QueueOptions::NAMES
                    .iter()
                    .map(|name| Ok((*name, own.text(name)?)));
                json!(said.collect::<Result<BTreeMap<&str, String>, Error>>()?)
            }
        })
    }

    /// What is asked and done about the dispatcher.
    fn life(&mut self, name: &str, fields: &mut Fields) -> Step {
        if name == "open" {
            if let Some(options) = fields.take("options")? {
                self.options = options;
            }
            let url = fields
                .take("url")?
                .map_or_else(|| self.url(), |url: String| self.filled(&url));
            return self.open(&url);
        }
        let file = |fields: &mut Fields, stage: &Self| {
            fields
                .need::<String>("file")
                .map(|name| stage.scratch.path(&name))
        };
        let done = Ok(json!({}));
        let d = self.d()?;
        match name {
            "handle" => return handle(d, fields).and(done),
            "start" => d.start()?,
            "drain" => d.drain(Deadline::after(Duration::from_millis(
                fields.take("wait_ms")?.unwrap_or(SOON),
            )))?,
            "subscribe" => self.events = Some(d.subscribe(fields.need("capacity")?)),
            "events" => return self.happened(),
            "dump" => return Ok(json!({"jobs": d.dump(file(fields, self)?)?.jobs})),
            "restore" => return Ok(json!({"jobs": d.restore(file(fields, self)?)?.jobs})),
            "cut" => cut(&file(fields, self)?)?,
            "flush" => return Ok(json!({"durability": d.flush()?.name()})),
            "request_stop" => d.request_stop(),
            "stop" => {
                let report = d.stop(fields.ms("grace_ms")?.unwrap_or_default())?;
                return Ok(json!({"handed_back": report.handed_back, "waiting": report.waiting}));
            }
            "release" => (self.d, self.events) = (None, None),
            "advance" => {
                let by = Duration::from_millis(fields.need("ms")?);
                d.advance(by)?;
                self.advanced += by;
            }
            other => return mistaken(format!("unknown step {other:?}")),
        }
        done
    }

    fn happened(&self) -> Step {
        let (d, Some(events)) = (self.d()?, &self.events) else {
            return mistaken("nobody has subscribed");
        };
        let told = events.drain().map(|event| {
            json!({
                "event": event.kind.name(), "id": self.label(event.id), "attempt": event.attempt,
                "queue": event.queue.map(|queue| d.queue_name(queue)).as_deref(),
                "kind": event.job_kind.map(|kind| d.kind_name(kind)).as_deref(),
            })
        });
        Ok(json!({"events": told.collect::<Vec<Value>>(), "dropped": events.dropped()}))
    }
}

/// Registers a handler that says for each attempt what the file has for it.
fn handle(d: &Dispatcher, fields: &mut Fields) -> Result<(), Failure> {
    let kind: String = fields.need("kind")?;
    let mut own = KindOptions::new();
    let options: Option<BTreeMap<String, String>> = fields.take("options")?;
    options
        .unwrap_or_default()
        .iter()
        .try_for_each(|(name, value)| own.set(name, value))?;
    let answers: Vec<Value> = fields.need("answers")?;
    d.register_with(&kind, own, move |lease| {
        let turn = answers.len().min(lease.attempt() as usize) - 1;
        let answer = Fields::of(answers[turn].clone()).and_then(|mut fields| {
            let outcome = outcome(&mut fields)?;
            fields.end().map(|()| outcome)
        });
        answer.unwrap_or_else(|_| Outcome::fatal("the file has a mistake in this answer"))
    })?;
    Ok(())
}

fn cut(path: &Path) -> Result<(), Failure> {
    let halved = std::fs::read(path).and_then(|bytes| std::fs::write(path, &bytes[..bytes.len() / 2]));
    halved.or_else(|error| mistaken(format!("{}: {error}", path.display())))
}
