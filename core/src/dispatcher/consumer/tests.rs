use super::*;
use crate::Options;
use crate::job::NewJob;
use crate::time::{Clock, ManualClock, Timestamp};
use std::sync::atomic::AtomicU32;

#[test]
fn a_wait_can_be_interrupted() {
    let d = Dispatcher::in_memory().unwrap();
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let interrupt = consumer.interrupt();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.next(Deadline::NEVER).map(|_| ()));
        assert!(d.settle_to(1, Duration::from_secs(60)), "it waits");
        interrupt.raise();
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    });
    interrupt.raise();
    d.push(NewJob::new("k", ())).unwrap();
    let lease = consumer.next(Deadline::NEVER).unwrap();
    assert!(lease.is_some(), "work goes before an interrupt");
    let error = consumer.next(Deadline::NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "and the interrupt is kept");
}

#[test]
fn a_handler_does_not_wait_for_work_for_ever() {
    let d = Dispatcher::in_memory().unwrap();
    d.push(NewJob::new("k", ())).unwrap();
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let lease = consumer.next(Deadline::NEVER).unwrap().unwrap();
    let inside = lease.enter();
    let error = consumer.next(Deadline::NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldDeadlock);
    drop(inside);
}

const SOON: Duration = Duration::from_secs(60);

fn one_slot() -> Dispatcher {
    Dispatcher::open("memory:?concurrency=1", crate::Options::default()).expect("the options fit")
}

fn kinds(d: &Dispatcher, kind: &str) -> Arc<KindSet> {
    let set = KindSet::new();
    set.add(d.kind(kind).expect("a valid name"));
    Arc::new(set)
}

/// Answers for a lease and for those that follow on it, until there is none.
fn work(consumer: &mut Consumer, first: Option<Lease>, mut body: impl FnMut()) {
    let mut next = first;
    while let Some(lease) = next {
        body();
        let answer = consumer.complete_and_next(lease, Outcome::done());
        next = answer.expect("the engine answers").1;
    }
}

#[test]
fn a_consumer_of_another_kind_gets_its_turn() {
    let d = one_slot();
    let (mut busy, mut other) = (d.consumer(kinds(&d, "endless")), d.consumer(kinds(&d, "rare")));
    d.push(NewJob::new("endless", ())).unwrap();
    let served = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let first = busy.next(Deadline::NEVER).unwrap();
        d.push(NewJob::new("rare", ())).unwrap();
        let waiting = scope.spawn(|| {
            let lease = other.next(Deadline::after(SOON)).unwrap();
            served.store(true, Ordering::SeqCst);
            lease.expect("a permit is kept for it").complete(Outcome::done())
        });
        let mut next = first;
        while !served.load(Ordering::SeqCst) {
            work(&mut busy, next, || {
                if !served.load(Ordering::SeqCst) {
                    d.push(NewJob::new("endless", ())).unwrap();
                }
            });
            next = busy.next(Deadline::after(Duration::ZERO)).unwrap();
        }
        waiting.join().unwrap().unwrap();
        work(&mut busy, next, || ());
    });
    assert_eq!(d.stats().unwrap().bodies, 0);
}

/// Two are in line; a permit is kept for one of them, who leaves without it: the other one must hear of it.
#[test]
fn a_permit_that_is_left_behind_is_announced() {
    let d = one_slot();
    let _profiles = (d.consumer(kinds(&d, "one")), d.consumer(kinds(&d, "two")));
    let inner = &d.0;
    assert_eq!(inner.slots.all.take(1), 1);
    let (mut first, mut second) = (Place::new(inner), Place::new(inner));
    (first.patient, second.patient) = (true, true);
    assert_eq!(first.take(1), 0);
    inner.give_permit();
    let listener = inner.engine.signals().work.listen();
    assert_eq!(second.take(1), 0, "it is kept for the first");
    drop(first);
    assert!(listener.wait(Deadline::after(Duration::ZERO)));
    assert_eq!(second.take(1), 1);
    inner.give_permit();
}

#[test]
fn two_consumers_share_one_slot() {
    let d = one_slot();
    let same = kinds(&d, "k");
    for set in [same.clone(), kinds(&d, "k")] {
        const JOBS: usize = 2_000;
        for _ in 0..JOBS {
            d.push(NewJob::new("k", ())).unwrap();
        }
        let (inside, done) = (AtomicU32::new(0), AtomicU32::new(0));
        let drain = |mut consumer: Consumer| {
            while (done.load(Ordering::SeqCst) as usize) < JOBS {
                let lease = consumer.next(Deadline::after(Duration::from_millis(1))).unwrap();
                work(&mut consumer, lease, || {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one slot");
                    done.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| drain(d.consumer(same.clone())));
            scope.spawn(|| drain(d.consumer(set.clone())));
        });
        assert_eq!((done.into_inner() as usize, d.stats().unwrap().bodies), (JOBS, 0));
    }
}

#[test]
fn whoever_waits_for_nothing_active_sees_no_gap() {
    let d = Dispatcher::in_memory().unwrap();
    for _ in 0..20_000 {
        d.push(NewJob::new("k", ())).unwrap();
    }
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let first = consumer.next(Deadline::NEVER).unwrap();
    let ended = AtomicBool::new(false);
    let gaps = std::thread::scope(|scope| {
        let (inner, ended) = (&d.0, &ended);
        let watch = scope.spawn(move || {
            let mut gaps = 0;
            loop {
                let seen = (inner.cells.active(), inner.slots.all.used());
                if ended.load(Ordering::SeqCst) {
                    return gaps;
                }
                gaps += usize::from(seen != (1, 1));
            }
        });
        let mut left = 20_000;
        let mut next = first;
        while let Some(lease) = next {
            left -= 1;
            ended.store(left == 0, Ordering::SeqCst);
            next = consumer.complete_and_next(lease, Outcome::done()).unwrap().1;
        }
        watch.join().unwrap()
    });
    assert_eq!((gaps, d.0.cells.active(), d.0.slots.all.used()), (0, 0, 0));
}

#[test]
fn a_lease_that_follows_has_its_own_ticket_and_nothing_of_the_last() {
    let d = Dispatcher::in_memory().unwrap();
    for header in ["one", "two"] {
        d.push(NewJob::new("k", header).header("h", header)).unwrap();
    }
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let first = consumer.next(Deadline::NEVER).unwrap().unwrap();
    let ticket = first.ticket();
    let (_, second) = consumer.complete_and_next(first, Outcome::done()).unwrap();
    let second = second.unwrap();
    assert_ne!(second.ticket(), ticket);
    assert_eq!(d.finish([(ticket, Outcome::done())]).unwrap(), [Answer::Stale]);
    assert_eq!(second.headers(), [("h".to_owned(), "two".to_owned())]);
    let done = d.finish([(second.ticket(), Outcome::done())]).unwrap();
    assert_eq!(done, [Answer::Stored(crate::State::Succeeded)]);
    let (late, none) = consumer.complete_and_next(second, Outcome::done()).unwrap();
    assert_eq!((late, none.is_none()), (Answer::Stale, true));
    assert_eq!((d.0.cells.active(), d.0.slots.all.used()), (0, 0));
}

#[test]
fn a_lease_of_another_dispatcher_is_answered_there() {
    let (here, there) = (Dispatcher::in_memory().unwrap(), Dispatcher::in_memory().unwrap());
    let id = there.push(NewJob::new("k", ())).unwrap().id;
    let lease = there
        .consumer(Arc::new(KindSet::any()))
        .next(Deadline::NEVER)
        .unwrap();
    let mut consumer = here.consumer(Arc::new(KindSet::any()));
    let (answer, _) = consumer
        .complete_and_next(lease.unwrap(), Outcome::done())
        .unwrap();
    assert_eq!(answer, Answer::Stored(crate::State::Succeeded));
    assert_eq!(there.state(id).unwrap(), crate::State::Succeeded);
    assert_eq!((there.0.cells.active(), here.0.slots.all.used()), (0, 0));
}

#[test]
fn who_holds_many_leases_is_told_which_should_stop() {
    let d = Dispatcher::in_memory().unwrap();
    let all = Arc::new(KindSet::any());
    let (mut mine, mut other) = (d.consumer(all.clone()), d.consumer(all));
    let ids: Vec<_> = (0..4).map(|_| d.push(NewJob::new("k", ())).unwrap().id).collect();
    let mut leases = Vec::new();
    mine.next_many(2, Deadline::NEVER, &mut leases).unwrap();
    other.next_many(2, Deadline::NEVER, &mut leases).unwrap();
    let reason = |stopped: Vec<(Ticket, StopReason)>| stopped.iter().map(|(_, r)| *r).collect::<Vec<_>>();
    d.cancel(ids[0]).unwrap();
    assert_eq!(
        mine.stopped(8).unwrap(),
        [(leases[0].ticket(), StopReason::Cancelled)],
        "also before it asked"
    );
    d.cancel(ids[1]).unwrap();
    d.cancel(ids[2]).unwrap();
    assert_eq!(
        mine.stopped(8).unwrap(),
        [(leases[1].ticket(), StopReason::Cancelled)],
        "once"
    );
    d.request_stop();
    assert_eq!(
        reason(mine.stopped(8).unwrap()),
        [],
        "it has a better reason already"
    );
    assert_eq!(
        reason(other.stopped(1).unwrap()),
        [StopReason::Cancelled],
        "no more than are wanted"
    );
    assert_eq!(reason(other.stopped(8).unwrap()), [StopReason::Stopping]);
}

#[test]
fn a_consumer_may_ask_for_other_kinds() {
    let d = Dispatcher::in_memory().unwrap();
    let mut consumer = d.consumer(kinds(&d, "one"));
    d.push(NewJob::new("two", ())).unwrap();
    let now = Deadline::after(Duration::ZERO);
    assert!(consumer.next(now).unwrap().is_none());
    let both = KindSet::of(["one", "two"].map(|name| d.kind(name).unwrap()));
    consumer.ask_for(Arc::new(both));
    assert!(consumer.next(now).unwrap().is_some());
    assert!(
        !d.0.engine.signals().work.mixed(),
        "it left what it asked for before"
    );
}

/// A clock that stops a dispatcher when a claim that has begun asks what time it is.
#[derive(Debug, Default)]
struct Stopper(parking_lot::Mutex<Option<Dispatcher>>, ManualClock);

impl Clock for Stopper {
    fn now(&self) -> Timestamp {
        let stops = self.0.lock().take();
        stops.iter().for_each(Dispatcher::request_stop);
        self.1.now()
    }

    fn runs(&self) -> bool {
        false
    }
}

#[test]
fn a_lease_that_begins_as_the_dispatcher_stops_is_told_of_too() {
    let clock = Arc::new(Stopper::default());
    let d = Dispatcher::open_with_clock("memory:", Options::default(), clock.clone()).unwrap();
    d.push(NewJob::new("k", ())).unwrap();
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    assert_eq!(consumer.stopped(8).unwrap(), []);
    *clock.0.lock() = Some(d.clone());
    let lease = consumer.next(Deadline::after(Duration::ZERO)).unwrap();
    let lease = lease.expect("the claim had begun before the stop");
    let told = consumer.stopped(8).unwrap();
    assert_eq!(told, [(lease.ticket(), StopReason::Stopping)]);
}

/// Cancels a job as soon as another one starts.
struct Canceller(parking_lot::Mutex<Option<(Dispatcher, crate::JobId)>>);

impl crate::Log for Canceller {
    fn log(&self, report: &crate::Report<'_>) {
        if report.event().kind != crate::EventKind::Started {
            return;
        }
        if let Some((d, id)) = self.0.lock().take() {
            assert_eq!(d.cancel(id).ok(), Some(crate::State::Running));
        }
    }
}

#[test]
fn a_lease_that_is_cancelled_before_it_begins_hears_it() {
    let d = Dispatcher::in_memory().unwrap();
    d.push(NewJob::new("k", ())).unwrap();
    let second = d.push(NewJob::new("k", ())).unwrap().id;
    let canceller = Canceller(parking_lot::Mutex::new(Some((d.clone(), second))));
    d.log_to(crate::Level::Debug, Arc::new(canceller)).unwrap();
    let (mut consumer, mut leases) = (d.consumer(Arc::new(KindSet::any())), Vec::new());
    // Both are claimed at once, and the second is cancelled while the first begins.
    assert_eq!(consumer.next_many(2, Deadline::NEVER, &mut leases).unwrap(), 2);
    let reasons: Vec<_> = leases.iter().map(crate::Lease::stop_reason).collect();
    assert_eq!(reasons, [None, Some(crate::StopReason::Cancelled)]);
    assert!(d.0.cells.nothing_unheard());
    leases
        .drain(..)
        .for_each(|lease| assert!(lease.complete(crate::Outcome::done()).is_ok()));
    assert_eq!(d.state(second).unwrap(), crate::State::Cancelled);
    d.log_off().unwrap();
}

/// Moves the clock as soon as a job starts.
struct Mover(parking_lot::Mutex<Option<Dispatcher>>);

impl crate::Log for Mover {
    fn log(&self, report: &crate::Report<'_>) {
        if report.event().kind != crate::EventKind::Started {
            return;
        }
        if let Some(d) = self.0.lock().take() {
            assert!(d.advance(Duration::from_secs(1)).is_ok());
        }
    }
}

#[test]
fn a_lease_that_times_out_before_it_begins_hears_it() {
    let d = Dispatcher::open("memory:?clock=manual", Options::default()).unwrap();
    d.push(NewJob::new("k", ())).unwrap();
    let second = NewJob::new("k", ())
        .timeout(Duration::from_millis(500))
        .max_attempts(1);
    let second = d.push(second).unwrap().id;
    let mover = Mover(parking_lot::Mutex::new(Some(d.clone())));
    d.log_to(crate::Level::Debug, Arc::new(mover)).unwrap();
    let (mut consumer, mut leases) = (d.consumer(Arc::new(KindSet::any())), Vec::new());
    consumer.stopped(8).unwrap();
    // Both are claimed at once, and the time of the second is over while the first begins.
    assert_eq!(consumer.next_many(2, Deadline::NEVER, &mut leases).unwrap(), 2);
    let reasons: Vec<_> = leases.iter().map(crate::Lease::stop_reason).collect();
    assert_eq!(reasons, [None, Some(StopReason::TimedOut)]);
    assert_eq!(
        consumer.stopped(8).unwrap(),
        [(leases[1].ticket(), StopReason::TimedOut)]
    );
    assert!(d.0.cells.nothing_unheard());
    for lease in leases {
        lease.complete(crate::Outcome::done()).unwrap();
    }
    assert_eq!(d.state(second).unwrap(), crate::State::Failed);
    d.log_off().unwrap();
}
