//! Queues and targets that are files.

use super::*;

/// Files of their own for a test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-forward-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn url(&self, name: &str) -> String {
        format!("sqlite:{}?write_behind=1h", self.0.join(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Row 64: it accepts while the target cannot be opened, survives a restart, and drains in order when it can.
#[test]
fn a_target_that_cannot_be_opened_is_opened_later() {
    let folder = Folder::new("later");
    let (here, there) = (folder.url("here.db"), folder.url("there.db"));
    let holder = Dispatcher::open(&there, Options::default()).unwrap();
    let target = || Target::url(&there, Options::default());
    let first = Stage::with(&here);
    let mut ids = first.push(0..6);
    let forwarder = first.forward(target());
    for _ in 0..5 {
        first.clock.advance(SECOND * 10);
        forwarder.pass().unwrap();
    }
    ids.extend(first.push(6..9));
    let error = forwarder.stats().last_error.unwrap();
    assert!(error.contains("in use"), "{error}");
    assert!(matches!(first.why(), Why::SinkFails { why, .. } if *why == *error));
    first.d.stop(Duration::ZERO).unwrap();
    let second = Stage::with(&here);
    let forwarder = second.forward(target());
    forwarder.pass().unwrap();
    assert_eq!((forwarder.stats().delivered, second.counts().queued), (0, 9));
    holder.stop(SOON).unwrap();
    second.clock.advance(SECOND * 10);
    forwarder.pass().unwrap();
    assert_eq!((forwarder.stats().delivered, second.counts().waiting()), (9, 0));
    second.d.stop(SOON).unwrap();
    drop(forwarder);
    let there = Dispatcher::open(&there, Options::default()).unwrap();
    assert_eq!(in_order(&there), ids);
    there.stop(SOON).unwrap();
}

/// In a file that others share the jobs are leased, and come back to where they stood all the same.
#[test]
fn a_queue_of_a_shared_file_is_forwarded_in_order() {
    let folder = Folder::new("shared");
    let stage = Stage::with(&format!("{}&shared=true", folder.url("jobs.db")));
    let (script, sink) = scripted();
    let forwarder = stage.forward(sink);
    let ids = stage.push(0..6);
    script.lock().answer = Some(SinkError::down(1, "down"));
    for _ in 0..3 {
        forwarder.pass().unwrap();
        stage.clock.advance(SECOND * 5);
    }
    let job = stage.d.get(ids[3]).unwrap();
    assert_eq!((job.state, job.attempt, job.history.len()), (State::Queued, 0, 0));
    script.lock().answer = None;
    forwarder.pass().unwrap();
    assert_eq!(script.lock().taken, (0..6).collect::<Vec<_>>());
    stage.d.stop(SOON).unwrap();
}

/// The ids of what waits, as it would start.
fn in_order(d: &Dispatcher) -> Vec<JobId> {
    let mut ids = Vec::new();
    let each = &mut |job: crate::Job| {
        ids.push(job.id);
        Ok(())
    };
    d.export(each).unwrap();
    ids
}

/// A process that dies in a delivery leaves no mark on the jobs: they are no culprits, and stand where they stood.
#[test]
fn a_death_in_a_delivery_costs_the_jobs_nothing() {
    let folder = Folder::new("death");
    let stage = Stage::with(&folder.url("jobs.db"));
    let ids = stage.push(0..6);
    let copy = folder.0.join("copy");
    std::fs::create_dir_all(&copy).unwrap();
    let (from, to) = (folder.0.clone(), copy.clone());
    let forwarder = stage.forward(move |_: &[Lease]| {
        // What a process that was killed now would leave, page for page.
        for name in ["jobs.db", "jobs.db-wal", "jobs.db.flight"] {
            std::fs::copy(from.join(name), to.join(name)).map_err(|e| SinkError::down(0, e.to_string()))?;
        }
        Ok(())
    });
    stage.d.push(NewJob::new("k", "0").queue("run")).unwrap();
    let mut consumer = stage.d.consumer(Arc::new(crate::KindSet::any()));
    let body = consumer.next(Deadline::after(Duration::ZERO)).unwrap().unwrap();
    forwarder.pass().unwrap();
    assert_eq!(forwarder.stats().last_error, None);
    let url = format!("sqlite:{}", copy.join("jobs.db").display());
    let next = Stage::with(&url);
    next.d.upkeep().unwrap();
    let jobs: Vec<_> = ids.iter().map(|id| next.d.get(*id).unwrap()).collect();
    assert!(
        jobs.iter()
            .all(|j| (j.state, j.attempt, j.crashes) == (State::Queued, 0, 0))
    );
    assert_eq!(
        next.d.get(body.id()).unwrap().crashes,
        1,
        "a body is what may have done it"
    );
    assert_eq!(in_order(&next.d)[..6], ids);
    next.d.stop(SOON).unwrap();
    stage.d.stop(Duration::ZERO).unwrap();
}
