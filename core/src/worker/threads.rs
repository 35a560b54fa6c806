//! The worker threads of the Rust handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bell::Bell;
use crate::dispatcher::{Consumer, Dispatcher, Handler, Lease};
use crate::error::{ErrorKind, Result};
use crate::outcome::Outcome;
use crate::time::Deadline;

/// How many threads of a pool still live, and a bell for when one ends.
#[derive(Default)]
struct Alive {
    threads: AtomicUsize,
    ended: Bell,
}

pub(super) fn start(dispatcher: &Dispatcher) -> Result<()> {
    dispatcher.check_open()?;
    if dispatcher.mark_started() {
        return Ok(());
    }
    let (alive, mut pool) = (Arc::<Alive>::default(), Vec::new());
    for i in 0..dispatcher.options().concurrency {
        let (mut consumer, alive) = (dispatcher.worker(dispatcher.handled()), alive.clone());
        alive.threads.fetch_add(1, Ordering::SeqCst);
        let thread = crate::threads::spawn(&format!("worker-{i}"), move || {
            work(&mut consumer);
            drop(consumer);
            alive.threads.fetch_sub(1, Ordering::SeqCst);
            alive.ended.ring_all();
        });
        match thread {
            Ok(thread) => pool.push(thread),
            Err(error) => {
                dispatcher.request_stop();
                return Err(error);
            }
        }
    }
    dispatcher.at_stop(Box::new(move |dispatcher, grace| {
        join(pool, &alive, dispatcher, grace.at_least(LEAST));
        Ok(())
    }));
    Ok(())
}

/// Runs jobs until the dispatcher stops.
fn work(consumer: &mut Consumer) {
    let mut next = None;
    loop {
        let lease = match next.take() {
            Some(lease) => lease,
            None => match consumer.next(Deadline::NEVER) {
                Ok(Some(lease)) => lease,
                Ok(None) => continue,
                Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Forked) => return,
                // A store that fails is asked again, but not in a hot loop.
                Err(_) => {
                    std::thread::park_timeout(Duration::from_millis(100));
                    continue;
                }
            },
        };
        let outcome = run_one(consumer.handler(&lease), &lease);
        // A store that fails has been reported to the sweeper as well; the lease ends by itself.
        next = consumer
            .complete_and_next(lease, outcome)
            .map_or(None, |(_, next)| next);
    }
}

/// Runs one attempt. A kind without a handler is not asked for; where it was taken away since, the job goes back
/// to where it stood.
fn run_one(handler: Option<&Arc<dyn Handler>>, lease: &Lease) -> Outcome {
    match handler {
        Some(handler) => lease.run(|lease| handler.run(lease)),
        None => Outcome::Returned,
    }
}

/// How long a stop without a grace waits for threads that are not inside a handler.
const LEAST: Duration = Duration::from_secs(1);

/// Waits for the threads that are not inside a handler. They end at once, but on a busy machine that may take its
/// time, and when they have ended nobody has a handler any more: so as long as the grace. A thread whose handler
/// has outlived that is left to itself: Rust cannot end it, and its answer no longer counts.
fn join(pool: Vec<JoinHandle<()>>, alive: &Alive, dispatcher: &Dispatcher, deadline: Deadline) {
    loop {
        let listener = alive.ended.listen();
        let hung = dispatcher.bodies();
        if alive.threads.load(Ordering::SeqCst) <= hung || !listener.wait(deadline) {
            break;
        }
    }
    for thread in pool {
        if thread.is_finished() {
            // A panic here is a defect of ours that the runtime has already reported.
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    use parking_lot::Mutex;

    use super::*;
    use crate::job::{NewJob, State};

    /// What takes its time to be let go: until somebody says that he has not waited, or longer than a stop waits
    /// without a grace.
    struct Slow(Mutex<mpsc::Receiver<()>>, Arc<AtomicBool>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.0.get_mut().recv_timeout(LEAST + Duration::from_millis(100));
            self.1.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_stop_waits_for_workers_as_long_as_its_grace() {
        let d = Dispatcher::open("memory:?concurrency=1", crate::Options::default()).unwrap();
        let gone = Arc::new(AtomicBool::new(false));
        let (not_waited, hears) = mpsc::channel();
        let owned = Slow(Mutex::new(hears), gone.clone());
        d.register("k", move |_| {
            let _owned = &owned;
        })
        .unwrap();
        d.start().unwrap();
        let id = d.push(NewJob::new("k", ())).unwrap().id;
        d.wait(id, Deadline::NEVER).unwrap();
        // The worker is the last that has the handler.
        d.unregister("k").unwrap();
        d.stop(Duration::from_secs(60)).unwrap();
        let waited = gone.load(Ordering::SeqCst);
        let _ = not_waited.send(());
        assert!(waited, "the worker has let the handler go");
    }

    #[test]
    fn a_handler_that_was_taken_away_gets_no_job() {
        let d = Dispatcher::in_memory().unwrap();
        d.register("k", |_| Outcome::done()).unwrap();
        let id = d.push(NewJob::new("k", ())).unwrap().id;
        let mut worker = d.consumer(d.handled());
        let lease = worker
            .next(Deadline::after(Duration::ZERO))
            .unwrap()
            .expect("a job is there");
        d.unregister("k").unwrap();
        let outcome = run_one(worker.handler(&lease), &lease);
        let (_, next) = worker.complete_and_next(lease, outcome).unwrap();
        assert!(next.is_none(), "nobody here runs it any more");
        let job = d.get(id).unwrap();
        assert_eq!((job.state, job.attempt), (State::Queued, 0));
    }
}
