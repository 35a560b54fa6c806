//! Futures as handlers: one thread asks for work and spawns a task per job on a tokio runtime of the
//! caller's. A slot is held until the task has ended; a job that should stop has its future dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::config::KindOptions;
use crate::dispatcher::{Consumer, Dispatcher, KindSet, Lease, StopReason, panicked};
use crate::error::{ErrorKind, Result};
use crate::names::KindId;
use crate::outcome::{Failure, Outcome};
use crate::time::Deadline;

type Body = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Dispatcher {
    /// Registers an async handler for a kind and runs its jobs as tasks on `runtime`. Up to the option
    /// `concurrency` of them at once, together with all other handlers.
    ///
    /// When the attempt times out or the job is cancelled, the future is dropped at its next await.
    ///
    /// ```
    /// # use forebay::*;
    /// # use std::time::Duration;
    /// # let runtime = tokio::runtime::Runtime::new().unwrap();
    /// # let d = Dispatcher::in_memory()?;
    /// d.register_async("ping", KindOptions::new(), runtime.handle(), |lease| async move {
    ///     tokio::task::yield_now().await;
    ///     Ok::<_, std::io::Error>(format!("pong {}", lease.attempt()))
    /// })?;
    /// let pushed = d.push(NewJob::new("ping", ()))?;
    /// let job = d.wait(pushed.id, Deadline::after(Duration::from_secs(5)))?;
    /// assert_eq!(job.result.unwrap().as_bytes(), Some(&b"pong 1"[..]));
    /// # d.stop(Duration::from_secs(1))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Dispatcher::declare`]; `NoMemory` if no thread can be started.
    pub fn register_async<F, Fut, O>(
        &self,
        kind: &str,
        options: KindOptions,
        runtime: &Handle,
        handler: F,
    ) -> Result<KindId>
    where
        F: Fn(Arc<Lease>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: Into<Outcome>,
    {
        let id = self.declare(kind, options)?;
        let set = Arc::new(KindSet::new());
        set.add(id);
        self.give_kind(id, set.clone());
        let mut consumer = self.worker(set);
        let runtime = runtime.clone();
        let make = move |lease: Arc<Lease>| -> Body {
            let body = handler(lease);
            Box::pin(async move { body.await.into() })
        };
        let thread = crate::threads::spawn("futures", move || feed(&mut consumer, &runtime, &make))?;
        self.at_stop(Box::new(move |_, _| {
            // It waits for work only, never for a task, so it ends at once.
            crate::threads::join(thread);
            Ok(())
        }));
        Ok(id)
    }
}

fn feed(consumer: &mut Consumer, runtime: &Handle, make: &impl Fn(Arc<Lease>) -> Body) {
    loop {
        match consumer.next(Deadline::NEVER) {
            Ok(Some(lease)) => {
                let lease = Arc::new(lease);
                let body = catch_unwind(AssertUnwindSafe(|| make(lease.clone())));
                drop(runtime.spawn(run(lease, body.map_err(panicked))));
            }
            Ok(None) => {}
            Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Forked) => return,
            Err(_) => std::thread::park_timeout(std::time::Duration::from_millis(100)),
        }
    }
}

async fn run(lease: Arc<Lease>, body: std::result::Result<Body, Failure>) {
    if lease.is_expired() {
        // It has waited for a turn on the runtime.
        lease.answer_at_drop(Outcome::Expired);
        return;
    }
    // Hooks hear of the start; the thread is marked at every poll, because the body moves between threads.
    drop(lease.enter());
    let outcome = match body {
        Ok(body) => Guarded { lease: &lease, body }.await,
        Err(failure) => Outcome::Failed(failure),
    };
    lease.leave(&outcome);
    // The handler may have kept a clone of the lease; then it is answered when the last one goes.
    match Arc::try_unwrap(lease) {
        Ok(lease) => drop(lease.complete(outcome)),
        Err(shared) => shared.answer_at_drop(outcome),
    }
}

/// The body of a job, with its panics caught and its thread marked at every poll.
struct Guarded<'a> {
    lease: &'a Lease,
    body: Body,
}

impl Future for Guarded<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Poll::Ready(reason) = Pin::new(&mut self.lease.stopped()).poll(cx) {
            let why = match reason {
                StopReason::Cancelled => "cancelled while it ran",
                _ => "its answer no longer counts",
            };
            return Poll::Ready(Outcome::Cancelled(why.into()));
        }
        let _inside = self.lease.mark();
        match catch_unwind(AssertUnwindSafe(|| self.body.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Outcome::Failed(panicked(panic))),
        }
    }
}
