//! Calls from handlers.

use std::sync::mpsc::{self};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::{Deadline, Dispatcher, ErrorKind, KindOptions, KindSet, Lease, NewJob, Options, State};

use crate::stage::*;

/// Runs `body` in a handler of `d` and gives what it said.
fn inside<R: Send + 'static>(
    d: &Dispatcher,
    body: impl Fn(&Dispatcher, &Lease) -> R + Send + Sync + 'static,
) -> R {
    let (said, heard) = mpsc::channel();
    let (said, own) = (Mutex::new(said), d.clone());
    d.register("inside", move |lease| {
        said.lock().unwrap().send(body(&own, lease)).unwrap()
    })
    .unwrap();
    d.start().unwrap();
    d.push(NewJob::new("inside", ())).unwrap();
    heard.recv_timeout(LONG).expect("the handler does not hang")
}

/// Whatever would wait for the handler that asks is refused at once, by kind.
#[test]
fn a_handler_cannot_wait_for_itself() {
    let d = open(|o| o.concurrency = 2);
    let kinds = inside(&d, |d, lease| {
        [
            d.stop(LONG).map(|_| ()).map_err(|e| e.kind()),
            d.drain(soon()).map_err(|e| e.kind()),
            d.wait(lease.id(), soon()).map(|_| ()).map_err(|e| e.kind()),
            d.consumer(Arc::new(KindSet::any()))
                .next(Deadline::NEVER)
                .map(|_| ())
                .map_err(|e| e.kind()),
        ]
    });
    assert_eq!(kinds, [Err(ErrorKind::WouldDeadlock); 4]);
    d.stop(LONG).unwrap();
}

/// A handler that waits for a child has one slot too few if it is the only one, and none too few if not.
#[test]
fn a_handler_may_wait_for_a_child_if_there_is_a_slot() {
    for (slots, want) in [(1, Err(ErrorKind::WouldDeadlock)), (2, Ok(State::Succeeded))] {
        let d = open(|o| o.concurrency = slots);
        d.register("child", |_| ()).unwrap();
        let got = inside(&d, |d, _| {
            let child = d.push(NewJob::new("child", ())).unwrap().id;
            d.wait(child, soon()).map(|job| job.state).map_err(|e| e.kind())
        });
        assert_eq!(got, want, "{slots} slots");
        d.drain(soon()).unwrap();
        d.stop(LONG).unwrap();
    }
}

/// When every slot is held by a handler that waits, the last one is refused, and all end.
#[test]
fn handlers_that_all_wait_do_not_hang() {
    let d = open(|o| o.concurrency = 3);
    d.register("child", |_| ()).unwrap();
    let own = d.clone();
    d.register_with("parent", KindOptions::new().max_attempts(50), move |_| {
        let child = own.push(NewJob::new("child", ())).unwrap().id;
        own.wait(child, soon()).map(|_| ())
    })
    .unwrap();
    let parents: Vec<_> = (0..6)
        .map(|_| d.push(NewJob::new("parent", ())).unwrap().id)
        .collect();
    d.start().unwrap();
    for id in parents {
        assert!(d.wait(id, soon()).unwrap().state.is_final());
    }
    d.drain(soon()).unwrap();
    d.stop(LONG).unwrap();
}

/// A push from a handler into its own full queue is refused or gives up; it never hangs.
#[test]
fn a_handler_may_push_into_its_full_queue() {
    let d = open(|o| (o.capacity, o.concurrency) = (1, 1));
    let (door, porter) = door();
    let own = d.clone();
    d.register("k", move |lease| {
        door.pass(lease);
        let short = own.push_within(NewJob::new("k", ()), Duration::from_millis(10));
        let endless = own.push_within(NewJob::new("k", ()), Duration::MAX);
        let kinds = [short, endless].map(|r| r.map(|_| ()).map_err(|e| e.kind()));
        assert_eq!(kinds, [Err(ErrorKind::Full), Err(ErrorKind::WouldDeadlock)]);
    })
    .unwrap();
    d.start().unwrap();
    let id = d.push(NewJob::new("k", ()).max_attempts(1)).unwrap().id;
    porter.meet();
    d.push(NewJob::new("other", ())).unwrap();
    porter.let_in();
    let job = d.wait(id, soon()).unwrap();
    assert_eq!((job.state, job.error), (State::Succeeded, None));
    d.stop(LONG).unwrap();
}

/// Everything else is allowed in a handler: push, look, cancel, pause, register, dump, restore, request a stop.
#[test]
fn a_handler_may_do_everything_else() {
    let (folder, d) = (Folder::new(), open(|o| o.concurrency = 1));
    let file = folder.file();
    inside(&d, move |d, lease| {
        let id = d.push(NewJob::new("k", ()).queue("q")).unwrap().id;
        assert_eq!(d.get(lease.id()).unwrap().state, State::Running);
        d.pause("q").unwrap();
        d.resume("q").unwrap();
        d.register("k", |_| ()).unwrap();
        assert_eq!(d.dump(&file).unwrap().jobs, 2);
        assert_eq!(d.restore(&file).unwrap().known, 2);
        assert_eq!(d.cancel(id).unwrap(), State::Cancelled);
        assert_eq!(d.cancel(lease.id()).unwrap(), State::Running);
        assert!(lease.cancelled());
        assert!(!d.explain(lease.id()).unwrap().reasons.is_empty());
        assert!(d.upkeep().is_ok());
        d.request_stop();
    });
    let report = d.stop(LONG).unwrap();
    assert_eq!((report.handed_back, report.waiting), (0, 0));
}

/// A request to stop from a handler: it ends, is recorded, and whoever stops outside is not held up.
#[test]
fn a_handler_may_ask_for_the_stop() {
    let d = open(|o| o.concurrency = 2);
    inside(&d, |d, _| d.request_stop());
    d.push(NewJob::new("inside", ())).unwrap();
    let report = d.stop(LONG).unwrap();
    assert_eq!((report.handed_back, report.waiting), (0, 1));
    assert_eq!(d.stats().unwrap().total().totals.succeeded, 1);
}

/// A handler may drop the last handle: everything ends, and the dump is written.
#[test]
fn a_handler_may_drop_the_last_handle_and_the_dump_is_written() {
    let folder = Folder::new();
    let mut options = Options::default();
    options.dump_file = Some(folder.file());
    let d = Dispatcher::open("memory:", options.clone()).unwrap();
    let (give, take) = mpsc::channel::<Dispatcher>();
    let take = Mutex::new(take);
    d.register("k", move |_| {
        drop(take.lock().unwrap().recv_timeout(LONG).unwrap())
    })
    .unwrap();
    d.start().unwrap();
    d.push(NewJob::new("k", ())).unwrap();
    let left = d.push(NewJob::new("nobody's", ())).unwrap().id;
    give.send(d).unwrap();
    let mut again = None;
    until("the file is free", || {
        again = Dispatcher::open("memory:", options.clone()).ok();
        again.is_some()
    });
    assert_eq!(again.unwrap().state(left).unwrap(), State::Queued);
}
