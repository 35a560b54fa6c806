//! A forwarder that is to stop, by itself or with its dispatcher.

use super::*;

/// A sink that says that it was called, and answers when it is told to go on.
struct Hanging {
    said: mpsc::Sender<()>,
    wait: mpsc::Receiver<()>,
    answer: fn() -> Result<(), SinkError>,
}

impl Sink for Hanging {
    fn deliver(&mut self, _: &[Lease]) -> Result<(), SinkError> {
        self.said.send(()).unwrap();
        let _ = self.wait.recv_timeout(SOON);
        (self.answer)()
    }
}

/// Such a sink, where it is heard, and who tells it to go on.
fn hanging(answer: fn() -> Result<(), SinkError>) -> (Hanging, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (said, heard) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    (Hanging { said, wait, answer }, heard, go)
}

#[test]
fn a_dispatcher_that_stops_takes_its_forwarder_along() {
    let d = Dispatcher::in_memory().unwrap();
    let (sink, heard, go) = hanging(|| Err(SinkError::down(1, "stopped in the middle")));
    d.forward("out", sink, options()).unwrap();
    let jobs: Vec<_> = (0..4).map(job).collect();
    let pushed = d.push_many(&jobs).unwrap();
    heard.recv_timeout(SOON).unwrap();
    let stopping = d.clone();
    let stop = std::thread::spawn(move || stopping.stop(SOON).unwrap());
    let deadline = Deadline::after(SOON);
    while !d.stopping() {
        assert!(!deadline.passed());
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    let report = stop.join().unwrap();
    assert_eq!(
        (report.handed_back, report.waiting),
        (0, 3),
        "the delivery had the grace"
    );
    assert_eq!(d.get(pushed[0].id).unwrap().state, State::Succeeded);
    drop(go);
}

/// A sink that hangs keeps nobody from stopping; what it was given goes back to where it stood.
#[test]
fn a_stop_takes_jobs_from_a_sink_that_hangs() {
    let d = Dispatcher::in_memory().unwrap();
    let (sink, heard, go) = hanging(|| Ok(()));
    let forwarder = d.forward("out", sink, options()).unwrap();
    let pushed = d.push_many(&[job(0), job(1)]).unwrap();
    heard.recv_timeout(SOON).unwrap();
    let early = forwarder.stop(Duration::ZERO).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout);
    let report = d.stop(Duration::ZERO).unwrap();
    assert_eq!(report.waiting, 2);
    go.send(()).unwrap();
    forwarder.stop(SOON).unwrap();
    let job = d.get(pushed[0].id).unwrap();
    assert_eq!(
        (job.state, job.attempt),
        (State::Queued, 0),
        "the late answer changes nothing"
    );
}

/// The stop of a forwarded queue is no attempt, whatever it is for a job that a handler runs.
#[test]
fn a_stop_that_counts_for_handlers_uses_up_nothing() {
    let options = Options {
        count_interrupted: true,
        max_attempts: 1,
        ..Options::default()
    };
    let d = Dispatcher::open("memory:", options).unwrap();
    let (sink, heard, go) = hanging(|| Ok(()));
    let forwarder = d.forward("out", sink, self::options()).unwrap();
    let id = d.push(job(0)).unwrap().id;
    heard.recv_timeout(SOON).unwrap();
    assert_eq!(d.stop(Duration::ZERO).unwrap().waiting, 1);
    go.send(()).unwrap();
    forwarder.stop(SOON).unwrap();
    let job = d.get(id).unwrap();
    assert_eq!((job.state, job.attempt), (State::Queued, 0), "{:?}", job.error);
}

/// Whoever has less patience does not wait for whoever has more.
#[test]
fn two_who_stop_it_wait_as_long_as_each_of_them_says() {
    let d = Dispatcher::in_memory().unwrap();
    let (sink, heard, go) = hanging(|| Ok(()));
    let forwarder = d.forward("out", sink, options()).unwrap();
    d.push(job(0)).unwrap();
    heard.recv_timeout(SOON).unwrap();
    let (answer, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| forwarder.stop(Duration::MAX));
        // Each comes while the one before may already wait.
        scope.spawn(|| {
            let mut last = Ok(());
            for _ in 0..100 {
                last = forwarder.stop(Duration::from_millis(1));
            }
            answer.send(last.unwrap_err().kind()).unwrap();
        });
        let heard = answered.recv_timeout(SOON);
        drop(go);
        assert_eq!(heard, Ok(ErrorKind::Timeout));
    });
    d.stop(SOON).unwrap();
}

/// A sink that panics when it is let go has ended all the same.
#[test]
fn a_stop_hears_of_a_thread_that_ended_by_a_panic() {
    struct Bad(mpsc::Sender<()>);
    impl Sink for Bad {
        fn deliver(&mut self, _: &[Lease]) -> Result<(), SinkError> {
            self.0.send(()).unwrap();
            Ok(())
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("it is let go");
        }
    }
    let d = Dispatcher::in_memory().unwrap();
    let (said, heard) = mpsc::channel();
    let forwarder = d.forward("out", Bad(said), options()).unwrap();
    d.push(job(0)).unwrap();
    heard.recv_timeout(SOON).unwrap();
    forwarder.stop(SOON).unwrap();
    // The queue is everybody's again.
    d.forward("out", |_: &[Lease]| Ok(()), options()).unwrap();
    d.stop(SOON).unwrap();
}

/// Without a thread, too, a sink that hangs keeps nobody from stopping.
#[test]
fn a_stop_does_not_wait_for_a_pass_that_hangs() {
    let stage = Stage::new();
    let (sink, heard, go) = hanging(|| Ok(()));
    let forwarder = stage.forward(sink);
    stage.push(0..9);
    let (answer, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        let pass = scope.spawn(|| forwarder.pass());
        heard.recv_timeout(SOON).unwrap();
        scope.spawn(|| answer.send(forwarder.stop(Duration::ZERO).map_err(|e| e.kind())));
        let heard = answered.recv_timeout(SOON);
        drop(go);
        assert_eq!(heard, Ok(Err(ErrorKind::Timeout)));
        pass.join().unwrap().unwrap();
    });
    assert_eq!(stage.counts().totals.succeeded, 4, "it ends with the delivery");
    assert_eq!(forwarder.pass().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(stage.counts().queued, 5);
}
