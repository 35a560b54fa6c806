//! What a claim takes, in which order, and what it gives out.

use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND, Spec, again};
use crate::JobId;
use crate::engine::KindClaim;
use crate::job::State;

/// Row 8: jobs of one priority are claimed in the order of their push.
pub fn equal_jobs_are_claimed_in_order(make: Make<'_>) {
    let raw = Raw::new(make);
    let specs = raw.specs(200);
    let want: Vec<JobId> = specs.iter().map(|s| s.id).collect();
    raw.put(&specs[..150]);
    let mut got = raw.claimed_ids(70);
    raw.put(&specs[150..]);
    got.extend(raw.claimed_ids(1000));
    assert_eq!(got, want);
}

/// Row 9: higher priorities first, equal ones in order, the extremes too.
pub fn higher_priorities_go_first(make: Make<'_>) {
    let raw = Raw::new(make);
    let priorities = [0, 5, -128, 127, 5, 0, -1, 127];
    let specs: Vec<Spec> = priorities
        .into_iter()
        .map(|priority| Spec {
            priority,
            ..raw.spec()
        })
        .collect();
    raw.put(&specs);
    let mut want: Vec<&Spec> = specs.iter().collect();
    want.sort_by_key(|s| std::cmp::Reverse(s.priority));
    assert_eq!(raw.claimed_ids(99), want.iter().map(|s| s.id).collect::<Vec<_>>());
}

/// A job of a higher priority that comes later overtakes those that still wait.
pub fn an_urgent_job_overtakes(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(5));
    raw.claim_one();
    let urgent = raw.add(Spec {
        priority: 1,
        ..raw.spec()
    });
    assert_eq!(raw.claimed_ids(1), [urgent]);
}

/// A job that comes back stands behind those that were ready before it.
pub fn a_job_that_comes_back_stands_behind(make: Make<'_>) {
    let raw = Raw::new(make);
    let specs = raw.specs(2);
    raw.put(&specs);
    let first = raw.claim_one().job;
    raw.apply(again(first, Duration::ZERO));
    assert_eq!(raw.claimed_ids(2), [specs[1].id, specs[0].id]);
}

/// A claim takes no more than it asks for, and all there is if it asks for more.
pub fn a_claim_keeps_to_its_limit(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.put(&raw.specs(7));
    assert_eq!(raw.claim(0).len(), 0);
    assert_eq!(raw.claim(3).len(), 3);
    assert_eq!(raw.claim(99).len(), 4);
    assert_eq!(raw.claim(99).len(), 0);
}

/// A claim takes from its own queue only.
pub fn a_claim_names_its_queue(make: Make<'_>) {
    let raw = Raw::new(make);
    let other = raw.engine.names().queue("other").unwrap();
    let elsewhere = raw.add(Spec {
        queue: other,
        priority: 9,
        ..raw.spec()
    });
    let here = raw.add(raw.spec());
    assert_eq!(raw.claimed_ids(9), [here]);
    assert_eq!(raw.state(elsewhere), State::Queued);
}

/// Row 2 and R-17: jobs of a kind that is not asked for stay queued, and do not hold up the others.
pub fn kinds_not_asked_for_stay(make: Make<'_>) {
    let raw = Raw::new(make);
    let strange = raw.engine.names().kind("strange").unwrap();
    let unknown: Vec<JobId> = (0..20)
        .map(|_| {
            raw.add(Spec {
                kind: strange,
                priority: 3,
                ..raw.spec()
            })
        })
        .collect();
    let known = raw.add(raw.spec());
    let mut kinds = raw.any();
    kinds[strange.index()].allowance = 0;
    let got: Vec<JobId> = raw
        .claim_as(9, &mut kinds.clone(), None)
        .into_iter()
        .map(|c| c.job.id)
        .collect();
    assert_eq!(got, [known]);
    kinds.truncate(strange.index());
    assert!(
        raw.claim_as(9, &mut kinds, None).is_empty(),
        "a kind beyond the end is not asked for"
    );
    assert!(unknown.iter().all(|id| raw.state(*id) == State::Queued));
    assert_eq!(raw.counts().queued, 20);
    assert_eq!(
        raw.claimed_ids(99),
        unknown,
        "whoever knows them gets them, in order"
    );
}

/// A claim takes no more of a kind than it allows, counts that down, and goes on with other kinds.
pub fn allowances_are_counted_down(make: Make<'_>) {
    let raw = Raw::new(make);
    let b = raw.engine.names().kind("b").unwrap();
    let c = raw.engine.names().kind("c").unwrap();
    let specs: Vec<Spec> = (0..12)
        .map(|i| Spec {
            kind: [raw.kind, b, c][i % 3],
            ..raw.spec()
        })
        .collect();
    raw.put(&specs);
    let mut kinds = raw.any();
    kinds[raw.kind.index()].allowance = 2;
    kinds[b.index()].allowance = 1;
    let got: Vec<JobId> = raw
        .claim_as(100, &mut kinds, None)
        .into_iter()
        .map(|c| c.job.id)
        .collect();
    let want = [0, 1, 2, 3, 5, 8, 11].map(|i: usize| specs[i].id);
    assert_eq!(got, want);
    assert_eq!(
        (kinds[raw.kind.index()].allowance, kinds[b.index()].allowance),
        (0, 0)
    );
    assert_eq!(
        raw.claimed_ids(99),
        [4, 6, 7, 9, 10].map(|i: usize| specs[i].id),
        "order is kept"
    );
}

/// A claimed job runs: attempt, fence, start, node and worker are there, for whoever looks.
pub fn a_claimed_job_runs(make: Make<'_>) {
    let raw = Raw::new(make);
    let id = raw.add(raw.spec());
    raw.advance(SECOND);
    let claimed = raw.claim_one();
    assert_eq!(
        (claimed.attempt, claimed.max_attempts, claimed.started),
        (1, 5, raw.now())
    );
    assert_eq!(
        (claimed.queue, claimed.kind, claimed.job.id),
        (raw.queue, raw.kind, id)
    );
    assert!(claimed.job.fence > 0);
    let job = raw.get(id);
    assert_eq!(
        (job.state, job.attempt, job.fence),
        (State::Running, 1, claimed.job.fence)
    );
    assert_eq!((job.started, job.lease_until), (Some(raw.now()), None));
    let at = raw.at(id);
    assert_eq!((at.job, at.state, at.attempt), (claimed.job, State::Running, 1));
    assert_eq!(
        (at.started, at.max_attempts, at.cancel_requested),
        (Some(raw.now()), 5, false)
    );
}

/// What the push left open is decided by the first claim, and stays.
pub fn the_first_claim_fills_in(make: Make<'_>) {
    let raw = Raw::new(make);
    let open = raw.add(Spec {
        max_attempts: 0,
        ..raw.spec()
    });
    let said = raw.add(Spec {
        max_attempts: 2,
        timeout: Some(SECOND),
        ..raw.spec()
    });
    let ask = |max_attempts| KindClaim {
        allowance: 9,
        max_attempts,
        timeout: Some(SECOND * 3),
    };
    let claimed = raw.claim_as(9, &mut [ask(7)], None);
    assert_eq!(
        claimed
            .iter()
            .map(|c| (c.job.id, c.max_attempts))
            .collect::<Vec<_>>(),
        [(open, 7), (said, 2)]
    );
    assert_eq!(
        (claimed[0].due, claimed[1].due),
        (raw.in_(SECOND * 3), raw.in_(SECOND))
    );
    assert_eq!(raw.get(open).max_attempts, Some(7));
    raw.apply(again(claimed[0].job, Duration::ZERO));
    assert_eq!(
        raw.claim_as(1, &mut [ask(99)], None)[0].max_attempts,
        7,
        "once decided, it stays"
    );
}

/// A lease that ends is due at its end, or at the timeout if that is sooner; one without either never is.
pub fn a_claim_says_when_it_is_due(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(Spec {
        timeout: Some(SECOND * 5),
        ..raw.spec()
    });
    assert_eq!(raw.claim_leased(1, SECOND * 3)[0].due, raw.in_(SECOND * 3));
    raw.add(Spec {
        timeout: Some(SECOND * 5),
        ..raw.spec()
    });
    assert_eq!(raw.claim_leased(1, SECOND * 9)[0].due, raw.in_(SECOND * 5));
    raw.add(raw.spec());
    assert_eq!(raw.claim_one().due, crate::Timestamp::MAX);
    let id = raw.add(raw.spec());
    raw.claim_leased(1, SECOND);
    assert_eq!(raw.get(id).lease_until, Some(raw.in_(SECOND)));
}

/// Row 23: of many claimers at once, each job goes to exactly one.
pub fn each_job_has_one_holder(make: Make<'_>) {
    let raw = Raw::new(make);
    const JOBS: usize = 2000;
    raw.put(&raw.specs(JOBS));
    let (engine, now, queue) = (&raw.engine, raw.now(), raw.queue);
    let mut all: Vec<JobId> = std::thread::scope(|scope| {
        let claimers: Vec<_> = (0..4)
            .map(|worker| {
                scope.spawn(move || {
                    let (mut mine, mut out) = (Vec::new(), Vec::new());
                    let node = "n".into();
                    loop {
                        let mut kinds = [KindClaim {
                            allowance: u32::MAX,
                            max_attempts: 1,
                            timeout: None,
                        }];
                        let mut claim = crate::engine::Claim {
                            queue,
                            kinds: &mut kinds,
                            limit: 1 + worker as usize,
                            lease: None,
                            node: &node,
                            worker,
                            keys: crate::engine::KeyLimits::default(),
                            relays: false,
                            out: &mut out,
                        };
                        engine
                            .turn(&mut [], &mut Vec::new(), Some(&mut claim), now)
                            .unwrap();
                        if out.is_empty() {
                            return mine;
                        }
                        mine.extend(out.drain(..).map(|c| c.job.id));
                    }
                })
            })
            .collect();
        claimers.into_iter().flat_map(|c| c.join().unwrap()).collect()
    });
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), raw.counts().running), (JOBS, JOBS as u64));
}
