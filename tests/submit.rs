//! Pushes that are handed over: one thread makes them, as many at a time as there are, and each has its answer.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::conformance::wrap::{Call, Watched};
use forebay::engine::memory::MemoryEngine;
use forebay::{Deadline, Dispatcher, ErrorKind, KindSet, NewJob, Options, Outcome, Pushed, Result};

const LONG: Duration = Duration::from_secs(60);

type Answers = (Sender<(usize, Result<Pushed>)>, Receiver<(usize, Result<Pushed>)>);

fn submit(d: &Dispatcher, said: &Answers, number: usize, job: NewJob<'static>) -> Result<()> {
    let said = said.0.clone();
    d.submit(job, move |answer| drop(said.send((number, answer))))
}

fn heard(answers: &Answers) -> (usize, Result<(), ErrorKind>) {
    let (number, answer) = answers.1.recv_timeout(LONG).expect("it is answered");
    (number, answer.map(drop).map_err(|e| e.kind()))
}

fn accepted(answers: &Answers) -> usize {
    let (number, answer) = answers.1.recv_timeout(LONG).expect("it is answered");
    answer.expect("it was accepted");
    number
}

/// A dispatcher, whose first insert waits for a word and tells of each.
fn held() -> (Dispatcher, Sender<()>, Receiver<usize>) {
    let ((go, wait), (said, inserts)) = (mpsc::channel::<()>(), mpsc::channel());
    let wait = Mutex::new(Some(wait));
    let engine = Watched::new(Arc::new(MemoryEngine::new(100)), move |call| {
        if let Call::Insert(jobs) = call {
            let _ = said.send(jobs);
            if let Some(wait) = wait.lock().expect("nobody panics with it").take() {
                wait.recv_timeout(LONG).expect("the test lets it go on");
            }
        }
        Ok(())
    });
    let d = Dispatcher::with_engine(engine, Options::default()).expect("the options fit together");
    (d, go, inserts)
}

#[test]
fn what_is_submitted_meanwhile_is_pushed_together() {
    let (d, go, inserts) = held();
    let answers: Answers = mpsc::channel();
    submit(&d, &answers, 0, NewJob::new("k", ())).unwrap();
    assert_eq!(inserts.recv_timeout(LONG), Ok(1));
    for number in 1..=10 {
        submit(&d, &answers, number, NewJob::new("k", ())).unwrap();
    }
    go.send(()).unwrap();
    assert_eq!(inserts.recv_timeout(LONG), Ok(10));
    let order: Vec<_> = (0..=10).map(|_| accepted(&answers)).collect();
    assert_eq!(order, (0..=10).collect::<Vec<_>>());
    d.stop(LONG).unwrap();
}

#[test]
fn each_job_has_its_own_answer() {
    let (d, go, inserts) = held();
    let answers: Answers = mpsc::channel();
    let bad = submit(&d, &answers, 0, NewJob::new("", ()));
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::Invalid);
    submit(&d, &answers, 0, NewJob::new("k", "a").key("key")).unwrap();
    assert_eq!(inserts.recv_timeout(LONG), Ok(1));
    submit(&d, &answers, 1, NewJob::new("k", ())).unwrap();
    submit(&d, &answers, 2, NewJob::new("k", "b").key("key")).unwrap();
    submit(&d, &answers, 3, NewJob::new("k", ())).unwrap();
    go.send(()).unwrap();
    let mut all: Vec<_> = (0..4).map(|_| heard(&answers)).collect();
    all.sort_by_key(|(number, _)| *number);
    assert_eq!(
        all,
        [
            (0, Ok(())),
            (1, Ok(())),
            (2, Err(ErrorKind::Conflict)),
            (3, Ok(()))
        ]
    );
}

#[test]
fn what_waits_for_room_holds_nobody_up() {
    let d = Dispatcher::open("memory:?capacity=1", Options::default()).unwrap();
    let answers: Answers = mpsc::channel();
    submit(&d, &answers, 0, NewJob::new("k", ())).unwrap();
    assert_eq!(accepted(&answers), 0);
    let said = answers.0.clone();
    let tell = move |answer| drop(said.send((1, answer)));
    d.submit_within(NewJob::new("k", ()), LONG, tell).unwrap();
    submit(&d, &answers, 2, NewJob::new("k", ())).unwrap();
    assert_eq!(heard(&answers), (2, Err(ErrorKind::Full)), "it does not wait");
    submit(&d, &answers, 3, NewJob::new("k", ()).queue("other")).unwrap();
    assert_eq!(accepted(&answers), 3);
    let mut consumer = d.consumer(Arc::new(KindSet::any()));
    let lease = consumer
        .next(Deadline::after(LONG))
        .unwrap()
        .expect("there is a job");
    assert_eq!(accepted(&answers), 1, "there was room");
    lease.complete(Outcome::done()).unwrap();
    let said = answers.0.clone();
    let tell = move |answer| drop(said.send((4, answer)));
    d.submit_within(NewJob::new("k", ()), Duration::from_millis(1), tell)
        .unwrap();
    assert_eq!(heard(&answers), (4, Err(ErrorKind::Full)), "its time was up");
}

#[test]
fn a_stop_answers_everybody() {
    let d = Dispatcher::open("memory:?capacity=1", Options::default()).unwrap();
    let answers: Answers = mpsc::channel();
    submit(&d, &answers, 0, NewJob::new("k", ())).unwrap();
    assert_eq!(accepted(&answers), 0);
    let said = answers.0.clone();
    let tell = move |answer| {
        let _ = said.send((1, answer));
        panic!("whoever is told may panic");
    };
    d.submit_within(NewJob::new("k", ()), LONG, tell).unwrap();
    d.stop(Duration::ZERO).unwrap();
    assert_eq!(heard(&answers), (1, Err(ErrorKind::Closed)));
    let late = submit(&d, &answers, 2, NewJob::new("k", ()));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed);
}
