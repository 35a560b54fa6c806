//! Which queues the workers of a dispatcher serve.

use std::sync::{Arc, OnceLock};

use super::{Consumer, Dispatcher, KindSet};
use crate::error::{Error, ErrorKind, Result};
use crate::names::QueueId;

/// The queues that workers take from; none for every one. Settled by the first worker, if nobody has said it.
#[derive(Default)]
pub(super) struct Served(OnceLock<Vec<QueueId>>);

impl Served {
    /// Whether workers leave the jobs of this queue to others.
    pub(super) fn leaves_out(&self, queue: QueueId) -> bool {
        self.0
            .get()
            .is_some_and(|served| !served.is_empty() && !served.contains(&queue))
    }
}

impl Dispatcher {
    /// Has workers take jobs of these queues only; the others are left to whoever has the same store, as other
    /// processes have a shared file. Pushes, [consumers](Dispatcher::consumer) of the program's own and queues that
    /// are passed on are none of its business. Say it once, before there are workers: before
    /// [`start`](Dispatcher::start), and before handlers that are futures.
    ///
    /// ```
    /// # use forebay::{Dispatcher, NewJob};
    /// let d = Dispatcher::in_memory()?;
    /// d.register("send", |_| ())?;
    /// d.serve(["mail"])?;
    /// d.start()?;
    /// let report = d.push(NewJob::new("send", ()).queue("reports"))?;
    /// assert_eq!(d.explain(report.id)?.reasons[0].name(), "queue_not_served");
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for no queue, for a name that cannot be one, and for a second time or a late one; `Closed`;
    /// `Forked`.
    pub fn serve<Q: AsRef<str>>(&self, queues: impl IntoIterator<Item = Q>) -> Result<()> {
        self.check_open()?;
        let ids = queues.into_iter().map(|queue| self.queue(queue.as_ref()));
        let mut ids = ids.collect::<Result<Vec<_>>>()?;
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Err(Error::invalid(
                "there is no queue to serve; name one, or leave it out to serve all",
            ));
        }
        self.0.served.0.set(ids).map_err(|_| {
            let text = "which queues its workers serve is settled; say it once, before they start";
            Error::new(ErrorKind::Invalid, text)
        })
    }

    /// A consumer for a worker: of these kinds, from the queues that are [served](Dispatcher::serve).
    #[must_use]
    pub fn worker(&self, kinds: Arc<KindSet>) -> Consumer {
        let served = self.0.served.0.get_or_init(Vec::new);
        self.consumer(kinds).queues(served.iter().copied())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::{NewJob, State};
    use crate::time::Deadline;

    fn dispatcher() -> Dispatcher {
        let d = Dispatcher::in_memory().expect("it has room");
        d.register("k", |_| ()).expect("the name is good");
        d
    }

    #[test]
    fn workers_leave_other_queues_alone() {
        let d = dispatcher();
        d.serve(["b", "a", "b"]).unwrap();
        let push = |queue: &'static str| d.push(NewJob::new("k", ()).queue(queue)).unwrap().id;
        let (other, served) = (push("c"), [push("a"), push("b")]);
        d.start().unwrap();
        let soon = Deadline::after(Duration::from_secs(20));
        for id in served {
            assert_eq!(d.wait(id, soon).unwrap().state, State::Succeeded);
        }
        assert_eq!(d.get(other).unwrap().state, State::Queued);
        let why = d.explain(other).unwrap().to_string();
        assert!(why.ends_with("no worker here serves queue \"c\""), "{why}");
        // A consumer of the program's own takes what it likes.
        let mut consumer = d.consumer(d.handled());
        let lease = consumer.next(soon).unwrap().expect("a job is there");
        assert_eq!(lease.id(), other);
    }

    #[test]
    fn it_is_said_once_and_in_time() {
        let refused = |d: &Dispatcher, queues: &[&str]| {
            let error = d.serve(queues).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            error.to_string()
        };
        let d = dispatcher();
        assert!(refused(&d, &[]).contains("name one"));
        refused(&d, &[""]);
        d.serve(["a"]).unwrap();
        assert!(refused(&d, &["a"]).contains("before they start"));
        let late = dispatcher();
        late.start().unwrap();
        assert!(refused(&late, &["a"]).contains("before they start"));
        late.stop(Duration::ZERO).unwrap();
        assert_eq!(late.serve(["a"]).unwrap_err().kind(), ErrorKind::Closed);
    }
}
