//! What it costs when there is nothing to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::conformance::wrap::{Call, Watched};
use forebay::engine::Engine;
use forebay::{Deadline, Dispatcher, KindSet, NewJob, Options};

use crate::stage::*;

/// An engine whose calls are told to a channel while somebody listens.
fn overheard() -> (Arc<dyn Engine>, Arc<AtomicBool>, Receiver<Call>) {
    let (listening, (said, heard)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
    let (armed, said) = (listening.clone(), Mutex::new(said));
    let engine = Watched::new(memory(), move |call| {
        if armed.load(Ordering::SeqCst) {
            // The test may have heard enough.
            let _ = said.lock().unwrap().send(call);
        }
        Ok(())
    });
    (engine, listening, heard)
}

/// Nobody calls the engine any more, but for those who were just about to, however long they are kept from it: a time
/// of silence comes that a poll twice a second would never leave.
fn assert_silence(listening: &AtomicBool, heard: &Receiver<Call>) {
    listening.store(true, Ordering::SeqCst);
    until("silence", || {
        heard.recv_timeout(SHORT * 4) == Err(RecvTimeoutError::Timeout)
    });
    listening.store(false, Ordering::SeqCst);
}

/// R-38 and row 11: idle workers, an idle upkeep thread and finished jobs make no call to the engine at all.
#[test]
fn idle_workers_call_nobody() {
    let (engine, listening, heard) = overheard();
    let d = Dispatcher::with_engine(engine, Options::default()).unwrap();
    d.register("k", |_| ()).unwrap();
    d.start().unwrap();
    for _ in 0..20 {
        d.wait(d.push(NewJob::new("k", ())).unwrap().id, soon()).unwrap();
    }
    d.push(NewJob::new("k", ()).delay(Duration::from_secs(3600)))
        .unwrap();
    d.push(NewJob::new("unknown", ())).unwrap();
    until("a silence in which nobody even wakes", || {
        let sleeps = d.stats().unwrap().sleeps;
        assert_silence(&listening, &heard);
        d.stats().unwrap().sleeps == sleeps
    });
    d.stop(LONG).unwrap();
}

/// with every slot taken and a backlog, nobody calls either; and a free slot is used at once.
#[test]
fn saturated_workers_call_nobody() {
    let (engine, listening, heard) = overheard();
    let mut options = Options::default();
    options.concurrency = 2;
    let d = Dispatcher::with_engine(engine, options).unwrap();
    let (door, porter) = door();
    d.register("k", move |lease| door.pass(lease)).unwrap();
    d.start().unwrap();
    let jobs: Vec<_> = (0..50).map(|_| NewJob::new("k", ())).collect();
    d.push_many(&jobs).unwrap();
    porter.meet();
    porter.meet();
    let mut idle = d.consumer(Arc::new(KindSet::any()));
    let waiter = std::thread::spawn(move || drop(idle.next(Deadline::NEVER)));
    assert!(d.settle_to(1, LONG));
    assert_silence(&listening, &heard);
    porter.let_in();
    until("the first end", || {
        d.stats().unwrap().total().totals.succeeded == 1
    });
    d.request_stop();
    drop(porter);
    d.stop(LONG).unwrap();
    waiter.join().unwrap();
}
