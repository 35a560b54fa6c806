//! Looking at many jobs: lists, filters, pages (row 7, R-44), and what a dump is made from.

use super::Make;
use super::stage::{Raw, SECOND, Spec, Stage, job};
use crate::error::{Error, ErrorKind};
use crate::job::{Filter, NewJob, State};
use crate::outcome::Outcome;
use crate::{JobId, Page};

fn ids(page: &Page) -> Vec<JobId> {
    page.jobs.iter().map(|j| j.id).collect()
}

/// Pages go from the newest job to the oldest, and together show each job once.
pub fn pages_show_each_job_once(make: Make<'_>) {
    let stage = Stage::new(make);
    let mut want: Vec<JobId> = (0..50).map(|_| stage.push(job())).collect();
    want.reverse();
    let first = stage.d.list(&Filter::default()).unwrap();
    assert_eq!(
        (first.total, ids(&first)),
        (50, want[..20].to_vec()),
        "twenty to a page"
    );
    let (mut all, mut filter) = (
        Vec::new(),
        Filter {
            limit: Some(7),
            ..Filter::default()
        },
    );
    loop {
        let page = stage.d.list(&filter).unwrap();
        assert_eq!(page.total, 50, "the total does not depend on the page");
        let Some(last) = page.jobs.last() else { break };
        filter.after = Some(last.id);
        all.extend(ids(&page));
    }
    assert_eq!(all, want);
}

/// Pages stay what they were when newer jobs come in between.
pub fn pages_are_stable(make: Make<'_>) {
    let stage = Stage::new(make);
    let old: Vec<JobId> = (0..4).map(|_| stage.push(job())).collect();
    let mut filter = Filter {
        limit: Some(2),
        ..Filter::default()
    };
    let page = stage.d.list(&filter).unwrap();
    filter.after = page.jobs.last().map(|j| j.id);
    for _ in 0..3 {
        stage.push(job());
    }
    assert_eq!(ids(&stage.d.list(&filter).unwrap()), [old[1], old[0]]);
}

/// each filter alone, and all of them together.
pub fn each_filter_alone_and_together(make: Make<'_>) {
    let stage = Stage::new(make);
    let start = stage.d.now();
    let plain = stage.push(NewJob::new("a", ()));
    let other_queue = stage.push(NewJob::new("a", ()).queue("other"));
    stage.advance(SECOND);
    let other_kind = stage.push(NewJob::new("b", ()));
    let keyed = stage.push(NewJob::new("a", ()).key("key"));
    let scheduled = stage.push(NewJob::new("a", ()).delay(SECOND * 60));
    let later = start.after(SECOND);
    let list = |filter: Filter| {
        let page = stage.d.list(&filter).unwrap();
        assert_eq!(page.total, page.jobs.len());
        ids(&page)
    };
    let all = Filter::default;
    assert_eq!(
        list(Filter {
            queue: Some("other".into()),
            ..all()
        }),
        [other_queue]
    );
    assert_eq!(
        list(Filter {
            kind: Some("b".into()),
            ..all()
        }),
        [other_kind]
    );
    assert_eq!(
        list(Filter {
            key: Some("key".into()),
            ..all()
        }),
        [keyed]
    );
    assert_eq!(
        list(Filter {
            states: vec![State::Scheduled],
            ..all()
        }),
        [scheduled]
    );
    assert_eq!(
        list(Filter {
            states: vec![State::Scheduled, State::Queued],
            ..all()
        })
        .len(),
        5,
        "several states are alternatives"
    );
    assert_eq!(
        list(Filter {
            created_from: Some(later),
            ..all()
        }),
        [scheduled, keyed, other_kind]
    );
    assert_eq!(
        list(Filter {
            created_before: Some(later),
            ..all()
        }),
        [other_queue, plain]
    );
    for (name, value) in [
        ("queue", "never named"),
        ("kind", "never named"),
        ("key", "never used"),
    ] {
        let mut filter = all();
        match name {
            "queue" => filter.queue = Some(value.into()),
            "kind" => filter.kind = Some(value.into()),
            _ => filter.key = Some(value.into()),
        }
        assert!(list(filter).is_empty(), "{name}");
    }
    let together = Filter {
        queue: Some("default".into()),
        kind: Some("a".into()),
        states: vec![State::Queued],
        key: Some("key".into()),
        created_from: Some(later),
        created_before: Some(later.after(SECOND)),
        ..all()
    };
    assert_eq!(list(together.clone()), [keyed]);
    assert!(
        list(Filter {
            queue: Some("other".into()),
            ..together
        })
        .is_empty()
    );
}

/// Jobs in every state can be listed by it.
pub fn every_state_can_be_listed(make: Make<'_>) {
    let stage = Stage::new(make);
    let done = stage.push(job());
    stage.run(Outcome::done());
    let failed = stage.push(job());
    stage.run(Outcome::fatal("no"));
    let running = stage.push(job());
    let lease = stage.take();
    let cancelled = stage.push(job());
    stage.d.cancel(cancelled).unwrap();
    let expired = stage.push(job().expires_after(SECOND));
    stage.advance(SECOND * 2);
    let blocked = stage.push(job().waits_for("t"));
    let scheduled = stage.push(job().delay(SECOND));
    let queued = stage.push(job());
    for (state, id) in [
        (State::Succeeded, done),
        (State::Failed, failed),
        (State::Running, running),
        (State::Cancelled, cancelled),
        (State::Expired, expired),
        (State::Blocked, blocked),
        (State::Scheduled, scheduled),
        (State::Queued, queued),
    ] {
        let page = stage
            .d
            .list(&Filter {
                states: vec![state],
                ..Filter::default()
            })
            .unwrap();
        assert_eq!((ids(&page), page.jobs[0].state), (vec![id], state));
    }
    drop(lease);
}

/// A page size that makes no sense is an error.
pub fn a_bad_page_size_is_refused(make: Make<'_>) {
    let stage = Stage::new(make);
    for limit in [0, Filter::MAX_LIMIT + 1, usize::MAX] {
        let error = stage
            .d
            .list(&Filter {
                limit: Some(limit),
                ..Filter::default()
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&limit.to_string()), "{error}");
    }
    let most = Filter {
        limit: Some(Filter::MAX_LIMIT),
        ..Filter::default()
    };
    assert_eq!(stage.d.list(&most).unwrap().total, 0);
}

/// A listing that goes on after an id nobody knows is empty or an error, never the first page again.
pub fn a_page_after_an_unknown_id_is_not_the_first(make: Make<'_>) {
    let stage = Stage::new(make);
    let ghost = JobId::from_u128(1);
    stage.push(job());
    let page = stage.d.list(&Filter {
        after: Some(ghost),
        ..Filter::default()
    });
    assert!(page.map_or(true, |p| p.jobs.is_empty()));
}

/// An export shows every unfinished job once, and nothing else: queued, running, scheduled, blocked ones.
pub fn an_export_shows_what_is_unfinished(make: Make<'_>) {
    let raw = Raw::new(make);
    let specs = raw.specs(40);
    raw.put(&specs);
    let claimed = raw.claim(10);
    for done in &claimed[..5] {
        raw.end(done.job, State::Succeeded);
    }
    raw.advance(SECOND);
    let scheduled = raw.add(Spec {
        run_at: raw.in_(SECOND * 10),
        ..raw.spec()
    });
    raw.advance(SECOND);
    let blocked = raw.add(Spec {
        waits: vec!["t".into()],
        ..raw.spec()
    });
    let mut got = Vec::new();
    let mut states = Vec::new();
    raw.engine
        .export(&mut |job| {
            states.push(job.state);
            got.push(job.id);
            Ok(())
        })
        .unwrap();
    let mut want: Vec<JobId> = specs[5..].iter().map(|s| s.id).collect();
    want.extend([scheduled, blocked]);
    let groups = [State::Queued, State::Running, State::Scheduled, State::Blocked];
    let group = |state: &State| groups.iter().position(|s| s == state);
    assert!(states.is_sorted_by_key(group), "{states:?}");
    assert_eq!(&got[35..], [scheduled, blocked]);
    got.sort_unstable();
    want.sort_unstable();
    assert_eq!(got, want);
    let running = states.iter().filter(|s| **s == State::Running).count();
    assert_eq!((running, states.len()), (5, 37));
}

/// An export ends with the first error of the one who listens.
pub fn an_export_ends_with_the_first_error(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(5));
    let mut seen = 0;
    let result = raw.engine.export(&mut |_| {
        seen += 1;
        if seen == 2 {
            Err(Error::new(ErrorKind::Storage, "the disk is gone"))
        } else {
            Ok(())
        }
    });
    assert_eq!((result.unwrap_err().kind(), seen), (ErrorKind::Storage, 2));
}

/// An export in the midst of work shows each job at most once, and every one that was there throughout.
pub fn an_export_is_of_one_instant(make: Make<'_>) {
    let stage = Stage::new(make);
    let engine = stage.d.0.engine.clone();
    let mut resting: Vec<JobId> = (0..300).map(|_| stage.push(job().queue("resting"))).collect();
    resting.sort_unstable();
    let busy = stage.d.queue("busy").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut consumer = stage.consumer().queues([busy]);
            // Each job comes with its successor: at every instant exactly one of them is unfinished.
            stage.push(job().queue("busy"));
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let lease = consumer.next(super::stage::at_once()).unwrap().unwrap();
                lease
                    .complete_and_push(Outcome::done(), &[job().queue("busy")])
                    .unwrap();
            }
        });
        super::stage::until("the first busy job", || {
            stage
                .d
                .stats()
                .unwrap()
                .queue("busy")
                .is_some_and(|c| c.totals.succeeded > 0)
        });
        for _ in 0..20 {
            let (mut seen, mut successors) = (Vec::new(), 0);
            engine
                .export(&mut |job| {
                    if &*job.queue == "busy" {
                        successors += 1
                    } else {
                        seen.push(job.id)
                    }
                    Ok(())
                })
                .unwrap();
            seen.sort_unstable();
            assert_eq!(seen, resting);
            assert_eq!(
                successors, 1,
                "a job and its successor are never both missing, nor both there"
            );
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}
