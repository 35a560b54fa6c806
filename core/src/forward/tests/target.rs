//! A target that is another dispatcher: what it is given, and what it refuses.

use super::*;

#[test]
fn a_job_goes_to_the_target_with_all_it_has() {
    let (stage, target) = (Stage::new(), Stage::new());
    let deadline = stage.d.now().after(SECOND * 50);
    let policy = RetryPolicy::constant(SECOND * 3);
    let full = NewJob::new("mail", crate::Payload::json(&[1, 2]).unwrap())
        .queue("out")
        .priority(7)
        .key("order-1")
        .concurrency_key("tenant")
        .header("trace", "abc")
        .deadline(deadline)
        .retry(policy);
    let id = stage.d.push(full).unwrap().id;
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()).queue("in"));
    forwarder.pass().unwrap();
    let job = target.d.get(id).unwrap();
    assert_eq!((&*job.kind, &*job.queue, job.priority), ("mail", "in", 7));
    assert_eq!(job.payload.as_bytes(), Some(&b"[1,2]"[..]));
    assert_eq!(job.payload.content_type(), Some(crate::JSON));
    assert_eq!(
        (job.key(), job.concurrency_key()),
        (Some("order-1"), Some("tenant"))
    );
    assert_eq!(job.headers(), [("trace".to_owned(), "abc".to_owned())]);
    assert_eq!(job.deadline, Some(deadline));
    assert_eq!(job.extras.as_ref().unwrap().retry, Some(policy));
    assert_eq!(stage.d.get(id).unwrap().state, State::Succeeded);
}

#[test]
fn a_target_that_is_full_is_waited_for() {
    let (stage, target) = (Stage::new(), Stage::with("memory:?capacity=3"));
    stage.push(0..5);
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()));
    let next = forwarder.pass().unwrap();
    assert_eq!(next, stage.d.now().after(SECOND));
    let stats = forwarder.stats();
    assert_eq!((stats.delivered, stats.busy, stats.failing_since), (3, 1, None));
    target.d.purge("out").unwrap();
    stage.clock.advance(SECOND);
    forwarder.pass().unwrap();
    assert_eq!((forwarder.stats().delivered, target.counts().waiting()), (5, 2));
}

/// A batch that has a job the target cannot take: it alone fails, whatever its place in the batch.
#[test]
fn a_job_that_the_target_cannot_take_fails_alone() {
    let (stage, target) = (Stage::new(), Stage::with("memory:?max_payload=10"));
    target
        .d
        .push(NewJob::new("other", "x").queue("out").key("taken"))
        .unwrap();
    let long = |n: u32| NewJob::new("k", format!("{n:020}")).queue("out");
    let jobs = [job(0), long(1), job(2), job(3).key("taken"), job(4), long(5)];
    let pushed = stage.d.push_many(&jobs).unwrap();
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()));
    assert_eq!(forwarder.pass().unwrap(), Timestamp::MAX);
    let state = |i: usize| stage.d.get(pushed[i].id).unwrap().state;
    let states: Vec<_> = (0..6).map(state).collect();
    use State::{Failed as F, Succeeded as S};
    assert_eq!(states, [S, F, S, F, S, F]);
    let error = stage.d.get(pushed[1].id).unwrap().error.unwrap().message;
    assert!(error.contains("max_payload"), "{error}");
    assert_eq!((forwarder.stats().delivered, forwarder.stats().refused), (3, 3));
}

/// To push a job to where it comes from would be taken for a duplicate, and lose it.
#[test]
fn a_queue_is_not_forwarded_to_its_own_store() {
    let stage = Stage::new();
    let ids = stage.push(0..3);
    let forwarder = stage.forward(Target::dispatcher(stage.d.clone()).queue("elsewhere"));
    forwarder.pass().unwrap();
    assert!(forwarder.stats().last_error.unwrap().contains("another store"));
    assert_eq!(stage.d.get(ids[0]).unwrap().state, State::Queued);
    assert_eq!(stage.counts().queued, 3);
    stage.d.stop(Duration::ZERO).unwrap();
}

/// What was delivered before its end was stored is delivered again; the target knows its id.
#[test]
fn a_job_that_the_target_knows_makes_no_duplicate() {
    let (stage, target) = (Stage::new(), Stage::new());
    let ids = stage.push(0..3);
    target.d.push(job(0).id(ids[0])).unwrap();
    let forwarder = stage.forward(Target::dispatcher(target.d.clone()));
    forwarder.pass().unwrap();
    assert_eq!(
        (forwarder.stats().delivered, target.counts().totals.pushed),
        (3, 3)
    );
}

/// A target that is named wrongly is no reason to give up jobs.
#[test]
fn a_queue_that_no_target_can_have_costs_no_job() {
    let (stage, target) = (Stage::new(), Stage::new());
    stage.push(0..3);
    let to = |queue: &str| Target::dispatcher(target.d.clone()).queue(queue);
    for name in ["line\nbreak", "", &"long".repeat(100)] {
        let error = stage.d.forward("out", to(name), options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}");
    }
    assert_eq!((stage.counts().totals.failed, stage.counts().queued), (0, 3));
    let forwarder = stage.d.forward("out", to("in"), options()).unwrap();
    forwarder.pass().unwrap();
    assert_eq!(forwarder.stats().delivered, 3);
}
