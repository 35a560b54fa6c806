//! Jobs with a concurrency key: they take turns with others, and only so many of one key start (row 68).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Make;
use super::overflow::{assert_shed, bounded, offer, run_all};
use super::stage::{Raw, SECOND, Spec, Stage, again, at_once, job, soon, to, until};
use crate::JobId;
use crate::admission::{OnFull, Rate};
use crate::engine::{Applied, Claimed, JobRef, KeyLimits, KeyStanding, Victim};
use crate::error::ErrorKind;
use crate::job::{Extras, State};
use crate::outcome::{Outcome, ShedReason, Transition};

/// At most so many of one key at once.
fn at_most(running: u32) -> KeyLimits {
    KeyLimits { running, rate: None }
}

fn rate(text: &str) -> KeyLimits {
    KeyLimits {
        running: 0,
        rate: Some(text.parse::<Rate>().unwrap()),
    }
}

/// The concurrency keys of what was claimed, in order; `-` for none.
fn keys(claimed: &[Claimed]) -> String {
    let key = |extras: Option<&Extras>| {
        extras
            .and_then(|e| e.concurrency_key.as_deref())
            .map(str::to_owned)
    };
    let keys = claimed.iter().map(|c| key(c.extras.as_deref()));
    keys.map(|key| key.unwrap_or_else(|| "-".into())).collect()
}

/// Adds one job for each letter, `-` for one without a key.
fn add(raw: &Raw, letters: &str) -> Vec<JobId> {
    let spec = |letter| match letter {
        '-' => raw.spec(),
        _ => raw.spec().of(&letter.to_string()),
    };
    letters.chars().map(|letter| raw.add(spec(letter))).collect()
}

fn standing(raw: &Raw, key: &str) -> KeyStanding {
    raw.engine
        .key_standing(raw.queue, key)
        .unwrap()
        .unwrap_or_default()
}

// ---- turns -----------------------------------------------------------------------------------------------

/// Keys take turns, in the order in which they came, one job at each turn; within a key the first comes first.
pub fn keys_take_turns(make: Make<'_>) {
    for limit in [1, 2, 3, 99] {
        let raw = Raw::new(make);
        let ids = add(&raw, "aaaabbcaa");
        let mut claimed = Vec::new();
        while claimed.len() < ids.len() {
            claimed.extend(raw.claim(limit));
        }
        assert_eq!(keys(&claimed), "abcabaaaa", "by {limit}");
        let order: Vec<JobId> = claimed.iter().map(|c| c.job.id).collect();
        let want = [0, 4, 6, 1, 5, 2, 3, 7, 8].map(|n| ids[n]);
        assert_eq!(order, want, "by {limit}");
    }
}

/// Jobs without a key are one more flow: in every round each flow that has a job gives one.
pub fn jobs_without_a_key_are_one_flow(make: Make<'_>) {
    let raw = Raw::new(make);
    let ids = add(&raw, "--a---ab-");
    let rounds = ["-ab", "-a", "-", "-", "-", "-"];
    for round in rounds {
        let claimed = raw.claim(round.len());
        let mut sorted: Vec<char> = keys(&claimed).chars().collect();
        sorted.sort_unstable();
        assert_eq!(String::from_iter(sorted), round);
    }
    assert!(raw.claim(1).is_empty());
    assert_eq!(raw.counts().running, ids.len() as u64);
}

/// A key with a thousand jobs does not keep one with a single job waiting for longer than a turn.
pub fn a_noisy_key_starves_nobody(make: Make<'_>) {
    let raw = Raw::new(make);
    add(&raw, &"n".repeat(1000));
    assert_eq!(keys(&raw.claim(3)), "nnn");
    add(&raw, "q-");
    let next = keys(&raw.claim(3));
    assert!(
        next.contains('q') && next.contains('-') && next.contains('n'),
        "{next}"
    );
    assert_eq!(keys(&raw.claim(4)), "nnnn");
    add(&raw, "q");
    assert!(keys(&raw.claim(2)).contains('q'));
}

/// Turns are taken among equal priorities: a higher one goes first, whosever turn it is.
pub fn a_higher_priority_takes_no_turns(make: Make<'_>) {
    let raw = Raw::new(make);
    add(&raw, "aabb");
    for key in ["b", "b", "a"] {
        raw.add(Spec {
            priority: 1,
            ..raw.spec().of(key)
        });
    }
    raw.add(Spec {
        priority: -1,
        ..raw.spec().of("c")
    });
    assert_eq!(keys(&raw.claim(3)), "bab", "of priority 1");
    assert_eq!(keys(&raw.claim(4)), "abab");
    assert_eq!(keys(&raw.claim(4)), "c");
}

/// A job that comes back stands at the end of its flow, one that keeps its place at its front, and neither changes
/// the others' turns for good.
pub fn a_job_comes_back_to_its_own_flow(make: Make<'_>) {
    let raw = Raw::new(make);
    let ids = add(&raw, "aaabb");
    let first = raw.claim_one();
    raw.apply(again(first.job, Duration::ZERO));
    assert_eq!(raw.claimed_ids(1), [ids[3]]);
    let second = raw.claim_one();
    assert_eq!(second.job.id, ids[1]);
    raw.apply(Transition {
        keeps_place: true,
        refund: true,
        ..again(second.job, Duration::ZERO)
    });
    let mut of_a = Vec::new();
    for claimed in raw.claim(9) {
        if keys(std::slice::from_ref(&claimed)) == "a" {
            of_a.push(claimed.job.id);
        }
    }
    assert_eq!(of_a, [ids[1], ids[2], ids[0]]);
}

/// Kinds that a claim does not ask for stay where they are, and their keys' other jobs go on.
pub fn turns_pass_over_kinds_not_asked_for(make: Make<'_>) {
    let raw = Raw::new(make);
    let other = raw.engine.names().kind("other").unwrap();
    raw.add(Spec {
        kind: other,
        ..raw.spec().of("a")
    });
    add(&raw, "aab");
    let mut only = raw.any();
    only[other.index()].allowance = 0;
    assert_eq!(keys(&raw.claim_as(9, &mut only, None)), "aba");
    assert_eq!(keys(&raw.claim(9)), "a");
}

// ---- limits ----------------------------------------------------------------------------------------------

/// No more jobs of a key run than it may; the others are passed over, and go on as soon as one ends, in whatever way.
pub fn a_key_runs_no_more_than_it_may(make: Make<'_>) {
    let raw = Raw::new(make);
    type End = fn(&Raw, JobRef) -> Applied;
    let ways: [(&str, End); 8] = [
        ("success", |raw, job| raw.end(job, State::Succeeded)),
        ("failure", |raw, job| raw.end(job, State::Failed)),
        ("cancellation", |raw, job| raw.end(job, State::Cancelled)),
        ("shedding", |raw, job| raw.end(job, State::Shed)),
        ("another attempt", |raw, job| raw.apply(again(job, SECOND * 900))),
        ("a pause", |raw, job| {
            raw.apply(Transition {
                refund: true,
                ..again(job, SECOND * 900)
            })
        }),
        ("a commit", |raw, job| {
            raw.commit(&[], &mut [to(job, State::Succeeded)], &[]).transitions[0]
        }),
        ("a request to cancel", |raw, job| {
            assert!(raw.engine.request_cancel(job).unwrap());
            raw.end(job, State::Cancelled)
        }),
    ];
    add(&raw, &"a".repeat(30));
    let mut running = raw.claim_keyed(9, at_most(2));
    assert_eq!(keys(&running), "aa");
    for (how, end) in ways {
        assert!(raw.claim_keyed(9, at_most(2)).is_empty(), "before {how}");
        assert_eq!(end(&raw, running.remove(0).job), Applied::Yes);
        let next = raw.claim_keyed(9, at_most(2));
        assert_eq!(next.len(), 1, "one goes on after {how}");
        running.extend(next);
        assert_eq!(standing(&raw, "a").running, 2);
    }
    add(&raw, "bb-");
    assert_eq!(
        raw.claim_keyed(9, at_most(1)).len(),
        2,
        "one of b, and one without a key"
    );
    assert_eq!(
        raw.claim_keyed(99, at_most(0)).len(),
        21,
        "without a limit there is none"
    );
}

/// An attempt that is overdue, by its timeout or its lease, counts until somebody has decided; then no more.
pub fn an_overdue_attempt_counts_until_it_is_decided(make: Make<'_>) {
    let raw = Raw::new(make);
    raw.add(Spec {
        timeout: Some(SECOND),
        ..raw.spec().of("a")
    });
    add(&raw, "a");
    let first = raw.claim_keyed(9, at_most(1)).pop().unwrap();
    raw.advance(SECOND);
    assert_eq!(raw.overdue().len(), 1);
    assert!(raw.claim_keyed(9, at_most(1)).is_empty());
    raw.apply(to(first.job, State::Failed));
    assert_eq!(raw.claim_keyed(9, at_most(1)).len(), 1);
    assert_eq!(raw.end(first.job, State::Succeeded), Applied::Stale);
    assert_eq!(
        standing(&raw, "a").running,
        1,
        "a late answer counts nothing down"
    );
}

/// What can start again is told: the end of a job, a higher limit, none any more.
pub fn a_key_that_goes_on_rings(make: Make<'_>) {
    let raw = Raw::new(make);
    let heard = |what: &str, act: &dyn Fn()| {
        let listener = raw.engine.signals().work.listen();
        act();
        assert!(listener.wait(at_once()), "{what} rings");
    };
    let limit = |limit| raw.engine.limit_key(raw.queue, "a", limit).unwrap();
    add(&raw, "aaaaaa");
    let first = raw.claim_keyed(9, at_most(1)).pop().unwrap();
    assert!(raw.claim_keyed(9, at_most(1)).is_empty());
    heard("an end", &|| {
        raw.end(first.job, State::Succeeded);
    });
    assert_eq!(raw.claim_keyed(9, at_most(1)).len(), 1);
    assert!(raw.claim_keyed(9, at_most(1)).is_empty());
    heard("a higher limit", &|| limit(Some(2)));
    assert_eq!(raw.claim_keyed(9, at_most(1)).len(), 1);
    limit(Some(0));
    assert!(raw.claim_keyed(9, at_most(5)).is_empty());
    heard("no limit of its own", &|| {
        limit(None);
        assert_eq!(raw.claim_keyed(1, at_most(5)).len(), 1);
        limit(Some(0));
        limit(Some(9));
    });
}

/// One key may have a limit of its own, above or below that of all, or none of it may start.
pub fn one_key_may_have_its_own_limit(make: Make<'_>) {
    let raw = Raw::new(make);
    let limit = |limit| raw.engine.limit_key(raw.queue, "a", limit).unwrap();
    limit(Some(0));
    add(&raw, "aaaaabbb");
    assert_eq!(keys(&raw.claim_keyed(9, at_most(2))), "bb");
    assert_eq!(
        standing(&raw, "a"),
        KeyStanding {
            queued: 5,
            running: 0,
            limit: Some(0),
            ready_at: None
        }
    );
    limit(Some(3));
    let running = raw.claim_keyed(9, at_most(2));
    assert_eq!(keys(&running), "aaa");
    limit(Some(1));
    for job in &running[..2] {
        raw.end(job.job, State::Succeeded);
        assert!(raw.claim_keyed(9, at_most(2)).is_empty(), "more run than may");
    }
    raw.end(running[2].job, State::Succeeded);
    assert_eq!(keys(&raw.claim_keyed(9, at_most(2))), "a");
    limit(None);
    assert_eq!(keys(&raw.claim_keyed(9, at_most(2))), "a");
    assert_eq!(standing(&raw, "a").limit, Some(2), "that of all holds again");
}

/// A key stands where its jobs stand, and is forgotten with the last of them.
pub fn a_key_stands_where_its_jobs_stand(make: Make<'_>) {
    let raw = Raw::new(make);
    assert_eq!(raw.engine.key_standing(raw.queue, "a").unwrap(), None);
    add(&raw, "aaab");
    raw.add(Spec {
        run_at: raw.in_(SECOND),
        ..raw.spec().of("a")
    });
    let running = raw.claim_keyed(2, at_most(4));
    assert_eq!(keys(&running), "ab");
    let a = standing(&raw, "a");
    assert_eq!((a.queued, a.running, a.limit, a.ready_at), (2, 1, Some(4), None));
    raw.end(running[0].job, State::Succeeded);
    raw.apply_all(
        &mut raw
            .engine
            .list(&crate::job::Filter::default())
            .unwrap()
            .jobs
            .iter()
            .filter(|j| j.state.is_waiting())
            .map(|j| super::stage::waiting(raw.at(j.id).job, State::Cancelled))
            .collect::<Vec<_>>(),
    );
    let a = standing(&raw, "a");
    assert_eq!((a.queued, a.running), (0, 0));
    let other = raw.engine.names().queue("other").unwrap();
    assert_eq!(
        raw.engine.key_standing(other, "b").unwrap(),
        None,
        "keys are a queue's own"
    );
}

/// However many claim and end at once, no key ever has more that run than it may, and all come to their turn.
pub fn key_limits_hold_in_a_crowd(make: Make<'_>) {
    const LIMIT: usize = 2;
    let raw = Raw::new(make);
    add(&raw, &"abcab-a".repeat(40));
    let (engine, queue, now) = (raw.engine.clone(), raw.queue, raw.now());
    let inside: [AtomicUsize; 3] = Default::default();
    let (ended, kinds) = (AtomicUsize::new(0), raw.any());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (mut kinds, node) = (kinds.clone(), "node".into());
                let deadline = soon();
                while ended.load(Ordering::SeqCst) < 280 {
                    assert!(!deadline.passed(), "all come to their turn");
                    let mut out = Vec::new();
                    let mut claim = crate::engine::Claim {
                        queue,
                        kinds: &mut kinds,
                        limit: 3,
                        lease: None,
                        node: &node,
                        worker: 1,
                        keys: at_most(LIMIT as u32),
                        relays: false,
                        out: &mut out,
                    };
                    engine
                        .turn(&mut [], &mut Vec::new(), Some(&mut claim), now)
                        .unwrap();
                    let rooms: Vec<usize> = keys(&out)
                        .bytes()
                        .filter(|k| *k != b'-')
                        .map(|k| usize::from(k - b'a'))
                        .collect();
                    for room in &rooms {
                        let more = inside[*room].fetch_add(1, Ordering::SeqCst);
                        assert!(more < LIMIT, "{} of a key run", more + 1);
                    }
                    std::thread::yield_now();
                    for room in &rooms {
                        inside[*room].fetch_sub(1, Ordering::SeqCst);
                    }
                    let mut done: Vec<Transition> = out.iter().map(|c| to(c.job, State::Succeeded)).collect();
                    engine.turn(&mut done, &mut Vec::new(), None, now).unwrap();
                    ended.fetch_add(out.len(), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!((raw.counts().queued, raw.counts().running), (0, 0));
    for key in ["a", "b", "c"] {
        assert_eq!(standing(&raw, key).running, 0);
    }
}

// ---- rates -----------------------------------------------------------------------------------------------

/// Jobs of a key start as fast as its rate allows, to the microsecond; each key has the rate for itself.
pub fn a_key_starts_at_its_rate(make: Make<'_>) {
    let raw = Raw::new(make);
    let limits = rate("10/s burst=2");
    add(&raw, &"ab".repeat(6));
    assert_eq!(keys(&raw.claim_keyed(9, limits)), "abab");
    let at = raw.in_(Duration::from_millis(100));
    assert_eq!(standing(&raw, "a").ready_at, Some(at));
    assert!(raw.tick().next <= at, "the engine knows when to look again");
    raw.advance(Duration::from_micros(99_999));
    assert!(raw.claim_keyed(9, limits).is_empty());
    raw.advance(Duration::from_micros(1));
    let listener = raw.engine.signals().work.listen();
    raw.tick();
    assert!(listener.wait(at_once()), "their time has come");
    assert_eq!(keys(&raw.claim_keyed(9, limits)), "ab");
    raw.advance(SECOND * 60);
    assert_eq!(
        keys(&raw.claim_keyed(9, limits)),
        "abab",
        "no more than the burst is saved up"
    );
    add(&raw, "-----");
    assert_eq!(
        keys(&raw.claim_keyed(9, limits)),
        "-----",
        "without a key there is no rate of one"
    );
}

/// Starts that count for the rate are those that happened: a limit of the claim takes nothing away.
pub fn only_what_starts_uses_the_rate(make: Make<'_>) {
    let raw = Raw::new(make);
    let limits = rate("1/s burst=3");
    add(&raw, "aaaaa");
    assert_eq!(keys(&raw.claim_keyed(1, limits)), "a");
    assert_eq!(keys(&raw.claim_keyed(1, limits)), "a");
    assert_eq!(keys(&raw.claim_keyed(0, limits)), "");
    assert_eq!(keys(&raw.claim_keyed(9, limits)), "a");
    raw.advance(SECOND);
    assert_eq!(keys(&raw.claim_keyed(9, limits)), "a");
    assert!(raw.claim_keyed(9, limits).is_empty());
}

// ---- making room -----------------------------------------------------------------------------------------

/// The first of a key is evicted, and no other's; a key without a queued job has none.
pub fn the_first_of_a_key_is_evicted(make: Make<'_>) {
    let raw = Raw::new(make);
    let ids = add(&raw, "aab-a");
    let evict = |key| {
        let shed = raw
            .engine
            .evict(raw.queue, Victim::OfKey(key), ShedReason::Coalesced, raw.now());
        shed.unwrap().map(|at| at.job.id)
    };
    assert_eq!(evict("a"), Some(ids[0]));
    assert_eq!((evict("z"), evict("-")), (None, None));
    let running = raw.claim(9);
    assert_eq!(keys(&running).len(), 4);
    assert_eq!(evict("a"), None, "what runs is not taken");
    raw.apply(again(running[0].job, SECOND));
    assert_eq!(evict("a"), None, "nor what waits for its time");
    assert_eq!(
        (raw.state(ids[0]), raw.counts().totals.shed_coalesced),
        (State::Shed, 1)
    );
    assert!(raw.counts().balanced());
}

/// Where jobs have keys the room is made at the cost of one that has many; those with one job keep theirs.
pub fn the_fattest_flow_makes_room(make: Make<'_>) {
    let stage = bounded(make, 20, OnFull::DropOldest);
    let quiet: Vec<JobId> = ["x", "y"]
        .map(|key| stage.push(job().concurrency_key(key)))
        .into();
    let noisy: Vec<JobId> = (0..40)
        .map(|_| offer(&stage, job().concurrency_key("n")).id)
        .collect();
    for id in quiet {
        assert_eq!(stage.state(id), State::Queued, "not the one to pay");
    }
    for id in &noisy[..22] {
        assert_shed(&stage, *id, ShedReason::Oldest);
    }
    assert_eq!(BTreeSet::from_iter(run_all(&stage)).len(), 20);
    stage.check_balance();
}

/// `coalesce`: the newer job of a key takes the place of the first one; who has none there is refused.
pub fn a_newer_job_takes_the_place_of_its_key(make: Make<'_>) {
    let stage = bounded(make, 3, OnFull::Coalesce);
    let of = |key: &'static str| job().concurrency_key(key);
    let ids = [of("a"), of("b"), of("a")].map(|j| stage.push(j));
    let newer = offer(&stage, of("a"));
    assert_eq!(newer.shed, None);
    assert_shed(&stage, ids[0], ShedReason::Coalesced);
    for refused in [of("c"), job()] {
        assert_eq!(stage.d.push(refused).unwrap_err().kind(), ErrorKind::Full);
    }
    let newest = offer(&stage, of("b"));
    assert_shed(&stage, ids[1], ShedReason::Coalesced);
    let left = BTreeSet::from_iter(run_all(&stage));
    assert_eq!(left, BTreeSet::from([ids[2], newer.id, newest.id]));
    let totals = stage.counts().totals;
    assert_eq!((totals.pushed, totals.shed_coalesced, totals.shed()), (5, 2, 2));
    stage.check_balance();
}

/// `coalesce` of a batch: each newcomer is looked at alone, and the first that finds none of its key ends it.
pub fn a_batch_coalesces_one_by_one(make: Make<'_>) {
    let stage = bounded(make, 2, OnFull::Coalesce);
    let of = |key: &'static str| job().concurrency_key(key);
    let jobs = [of("a"), of("b"), of("a"), of("a"), of("b"), of("c"), of("a")];
    let stopped = stage.d.push_many(&jobs).unwrap_err();
    assert_eq!((stopped.pushed.len(), stopped.error.kind()), (5, ErrorKind::Full));
    let ids: Vec<JobId> = stopped.pushed.iter().map(|p| p.id).collect();
    assert_eq!(
        BTreeSet::from_iter(run_all(&stage)),
        BTreeSet::from([ids[3], ids[4]])
    );
    assert_eq!(stage.counts().totals.shed_coalesced, 3);
    stage.check_balance();
}

/// Row 60 with keys: never one over the bound, and nothing of another key is shed for a newcomer.
pub fn coalescing_is_exact_among_pushers(make: Make<'_>) {
    let (stage, done) = (bounded(make, 6, OnFull::Coalesce), AtomicBool::new(false));
    for key in ["0", "1", "2"] {
        stage.push(job().concurrency_key(key));
        stage.push(job().concurrency_key(key));
    }
    std::thread::scope(|scope| {
        let pushers: Vec<_> = ["0", "1", "2"]
            .map(|key| {
                let stage = &stage;
                scope.spawn(move || {
                    // Each finds one of its own key to take the place of, or is refused while another takes it.
                    let of_key = || stage.d.push(job().concurrency_key(key));
                    (0..100)
                        .filter(|_| of_key().is_ok_and(|pushed| pushed.shed.is_none()))
                        .count()
                })
            })
            .into();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert!(stage.counts().waiting() <= 6);
                stage.check_balance();
            }
        });
        let taken: Vec<_> = pushers.into_iter().map(|p| p.join()).collect();
        done.store(true, Ordering::SeqCst);
        let taken: usize = taken.into_iter().map(|t| t.unwrap()).sum();
        assert!(taken > 0);
        assert_eq!(stage.counts().totals.pushed, 6 + taken as u64);
    });
    assert_eq!(
        stage.counts().waiting(),
        6 - (6 + stage.counts().totals.shed() - stage.counts().totals.pushed)
    );
    until("nothing is left", || {
        run_all(&stage);
        stage.counts().waiting() == 0
    });
    stage.check_balance();
}

// ---- what is kept ----------------------------------------------------------------------------------------

/// The concurrency key is the job's: told by whoever shows it, and kept by a dump and by a retry by hand.
pub fn a_concurrency_key_is_kept(make: Make<'_>) {
    let stage = Stage::new(make);
    let id = stage.push(job().concurrency_key("tenant 7").key("idem"));
    assert_eq!(stage.get(id).concurrency_key(), Some("tenant 7"));
    let page = stage.d.list(&crate::job::Filter::default()).unwrap();
    assert_eq!(page.jobs[0].concurrency_key(), Some("tenant 7"));
    let folder = super::dump::Folder::new();
    stage.d.dump(folder.file()).unwrap();
    let second = Stage::new(make);
    second.d.restore(folder.file()).unwrap();
    assert_eq!(second.get(id).concurrency_key(), Some("tenant 7"));
    second.run(Outcome::fatal("no"));
    let again = second.d.retry(id, None).unwrap();
    assert_eq!(second.get(again.id).concurrency_key(), Some("tenant 7"));
}
