//! How full a queue is, in one figure and two events, and what is told of what it shed (rows 61 and 70).

use std::time::Duration;

use super::Make;
use super::dump::Folder;
use super::overflow::{bounded, offer};
use super::stage::{SECOND, Stage, job};
use crate::JobId;
use crate::admission::OnFull;
use crate::config::QueueOptions;
use crate::error::ErrorKind;
use crate::event::EventKind;
use crate::job::{Filter, NewJob, State};
use crate::outcome::{Outcome, ShedReason};

/// The figure is the share of the jobs that may wait; without a bound, or without a queue, there is no pressure.
pub fn pressure_is_the_share_of_jobs(make: Make<'_>) {
    let stage = bounded(make, 4, OnFull::Reject);
    let pressure = |queue: &str| stage.d.pressure(queue).unwrap();
    for share in [0.0, 0.25, 0.5, 0.75] {
        assert_eq!(pressure("default"), share);
        stage.push(job().delay(SECOND));
    }
    assert_eq!((pressure("default"), pressure("nobody's")), (1.0, 0.0));
    stage
        .d
        .configure_queue("default", QueueOptions::new().capacity(0))
        .unwrap();
    assert_eq!(pressure("default"), 0.0);
    stage
        .d
        .configure_queue("default", QueueOptions::new().capacity(2))
        .unwrap();
    assert_eq!(
        pressure("default"),
        1.0,
        "never above 1, however much is over the bound"
    );
}

/// The greatest of the shares counts: that of the bytes may be it.
pub fn pressure_counts_bytes(make: Make<'_>) {
    let stage = bounded(make, 10, OnFull::Reject);
    stage
        .d
        .configure_queue("default", QueueOptions::new().capacity_bytes(80))
        .unwrap();
    stage.push(NewJob::new("k", vec![0; 60]));
    assert_eq!(stage.d.pressure("default").unwrap(), 0.75);
    (0..8).for_each(|_| assert_ne!(stage.push(NewJob::new("k", ())), JobId::NIL));
    assert_eq!(stage.d.pressure("default").unwrap(), 0.9);
}

/// With a target the last wait is a share of the longest that is allowed, for a while.
pub fn pressure_counts_the_wait(make: Make<'_>) {
    let stage = Stage::new(make);
    let mut options = QueueOptions::new().capacity(0);
    options.set("delay_target", "50ms").unwrap();
    stage.d.configure_queue("default", options).unwrap();
    stage.push(job());
    stage.advance(Duration::from_millis(25));
    assert_eq!(
        stage.d.pressure("default").unwrap(),
        0.0,
        "nobody has seen it yet"
    );
    stage.run(Outcome::done());
    assert_eq!(stage.d.pressure("default").unwrap(), 0.25);
    stage.advance(SECOND);
    assert_eq!(stage.d.pressure("default").unwrap(), 0.0, "that was long ago");
}

/// The marks are told once each time they are crossed, in turns, at exactly their level.
pub fn watermarks_are_told_in_turns(make: Make<'_>) {
    let stage = bounded(make, 10, OnFull::DropNewest);
    let mut options = QueueOptions::new();
    options.set("high_watermark", "0.6").unwrap();
    options.set("low_watermark", "0.2").unwrap();
    stage.d.configure_queue("default", options).unwrap();
    let events = stage.d.subscribe(256);
    let marks = || -> Vec<EventKind> {
        let kinds = events.drain().map(|event| event.kind);
        kinds
            .filter(|kind| matches!(kind, EventKind::HighWatermark | EventKind::LowWatermark))
            .collect()
    };
    let push = |n: usize| (0..n).for_each(|_| assert!(offer(&stage, job()).created));
    let run = |n: usize| (0..n).for_each(|_| assert_ne!(stage.run(Outcome::done()), crate::Answer::Stale));
    push(5);
    assert_eq!(marks(), []);
    push(1);
    assert_eq!(marks(), [EventKind::HighWatermark]);
    push(6);
    run(7);
    assert_eq!(marks(), [], "between the two nothing is told");
    run(1);
    assert_eq!(marks(), [EventKind::LowWatermark]);
    push(3);
    run(3);
    assert_eq!(marks(), []);
    push(4);
    assert_eq!(marks(), [EventKind::HighWatermark]);
}

/// A shed job is listed with its reason, is no part of a dump, and is run again by hand only with an input.
pub fn shed_jobs_are_shown(make: Make<'_>) {
    let stage = bounded(make, 1, OnFull::DropNewest);
    let kept = stage.push(job());
    let shed = [
        offer(&stage, job()).id,
        offer(&stage, job().queue("default").header("h", "1")).id,
    ];
    let filter = Filter {
        states: vec![State::Shed],
        ..Filter::default()
    };
    let page = stage.d.list(&filter).unwrap();
    let listed: Vec<JobId> = page.jobs.iter().map(|job| job.id).collect();
    assert_eq!((listed, page.total), (vec![shed[1], shed[0]], 2));
    assert_eq!(page.jobs[0].headers(), [("h".to_owned(), "1".to_owned())]);
    let text = stage.d.explain(shed[0]).unwrap().to_string();
    assert!(text.contains("shed_newest") && text.contains("full"), "{text}");
    let explained = stage.d.explain_queue("default").unwrap();
    assert_eq!(explained.shed(), [(ShedReason::Newest, 2)]);
    assert!(explained.to_string().contains("2 shed_newest"), "{explained}");
    let folder = Folder::new();
    stage.d.dump(folder.file()).unwrap();
    let second = Stage::new(make);
    second.d.restore(folder.file()).unwrap();
    assert_eq!(second.state(kept), State::Queued);
    assert_eq!(second.d.get(shed[0]).unwrap_err().kind(), ErrorKind::NotFound);
    stage.run(Outcome::done());
    let refused = stage.d.retry(shed[0], None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("give an input"), "{refused}");
    let again = stage.d.retry(shed[0], Some(b"once more".into())).unwrap();
    assert_eq!(
        (stage.state(again.id), stage.state(shed[0])),
        (State::Queued, State::Shed)
    );
    assert_eq!(stage.d.cancel(shed[1]).unwrap(), State::Shed, "it is over");
    stage.check_balance();
}

/// Jobs from a dump are let in whatever the policy of their queue, and nothing is shed for them.
pub fn a_restore_sheds_nothing(make: Make<'_>) {
    let (first, folder) = (Stage::new(make), Folder::new());
    let ids: Vec<JobId> = (0..5).map(|_| first.push(job())).collect();
    first.d.dump(folder.file()).unwrap();
    let stage = bounded(make, 2, OnFull::DropNewest);
    let own = [stage.push(job()), stage.push(job())];
    stage.d.restore(folder.file()).unwrap();
    assert!(ids.iter().chain(&own).all(|id| stage.state(*id) == State::Queued));
    assert_eq!((stage.counts().queued, stage.counts().totals.shed()), (7, 0));
    assert_eq!(offer(&stage, job()).shed, Some(ShedReason::Newest));
    assert_eq!(
        (stage.counts().totals.restored, stage.counts().totals.pushed),
        (5, 3)
    );
    stage.check_balance();
}

/// A shed job is forgotten as others that did not succeed.
pub fn a_shed_job_is_forgotten_in_time(make: Make<'_>) {
    let stage = Stage::with(make, |o| {
        (o.capacity, o.on_full) = (1, OnFull::DropNewest);
        o.retention_failed = SECOND * 60;
    });
    stage.push(job());
    let shed = offer(&stage, job()).id;
    stage.advance(SECOND * 60);
    assert_eq!(stage.state(shed), State::Shed);
    stage.advance(SECOND * 60);
    assert_eq!(stage.d.get(shed).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(stage.counts().totals.shed_newest, 1, "it still counts");
    stage.check_balance();
}
