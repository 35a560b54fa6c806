//! Renewing leases, where other processes work on the same jobs: one thread extends all leases of this
//! dispatcher in one call, three times per lease.
//!
//! A lease is trusted until its time is over as *this* process counts it, from the moment at which the request
//! was sent and less a margin: a process that was suspended, or whose store did not answer, tells its handlers
//! to stop before another process can have claimed their jobs. A success that comes late gives no trust back.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Inner;
use super::cells::StopReason;
use crate::engine::Held;
use crate::error::Result;
use crate::job::JobRef;
use crate::threads;
use crate::time::{Deadline, Timestamp};

/// Leases that are extended in one call, so that it never holds the engine for long.
const SLICE: usize = 1024;

/// What is known of the leases of this dispatcher.
#[derive(Debug, Default)]
struct Leases {
    /// Since when each is held, at least: when the request was sent that got or extended it. `None` for one
    /// that is given up.
    since: HashMap<JobRef, Option<Timestamp>>,
}

/// For how long a lease of this length is trusted after it was sent for.
fn trust(lease: Duration) -> Duration {
    let margin = (lease / 10).max(Duration::from_secs(1));
    lease - margin.min(lease / 2)
}

impl Inner {
    /// Starts the thread, if leases have an end here and others could take the jobs.
    pub(super) fn start_renewal(self: &Arc<Self>) -> Result<Option<JoinHandle<()>>> {
        let shared = self.engine.capabilities().shared && self.clock.runs();
        let Some(lease) = self.options.lease.filter(|_| shared) else {
            return Ok(None);
        };
        let inner = self.clone();
        threads::spawn("leases", move || inner.renew(lease)).map(Some)
    }

    fn renew(&self, lease: Duration) {
        let mut leases = Leases::default();
        loop {
            let listener = self.engine.signals().leases.listen();
            if self.stopped() {
                return;
            }
            let extended = self.renew_all(lease, &mut leases);
            // A store that fails is asked again soon; what its leases come to is a matter of time.
            let pause = match extended {
                Ok(()) => lease / 3,
                Err(_) => Duration::from_millis(500),
            };
            listener.wait(Deadline::after(pause.min(leases.left(lease, self.now()))));
        }
    }

    fn renew_all(&self, lease: Duration, leases: &mut Leases) -> Result<()> {
        leases.look(self.cells.held());
        for job in leases.take_overdue(lease, self.now()) {
            self.cells.signal(job, StopReason::LeaseLost);
        }
        let mut held = Vec::new();
        for slice in leases.trusted().chunks(SLICE) {
            held.clear();
            let sent = self.now();
            self.engine.extend(slice, lease, sent, &mut held)?;
            for (job, held) in slice.iter().zip(&held) {
                match held {
                    Held::Yes => leases.extended(*job, Some(sent)),
                    Held::CancelRequested => {
                        leases.extended(*job, Some(sent));
                        self.cells.signal(*job, StopReason::Cancelled);
                    }
                    Held::Lost => {
                        leases.extended(*job, None);
                        self.cells.signal(*job, StopReason::LeaseLost);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Leases {
    /// Takes note of the leases that there are, with when each was claimed.
    fn look(&mut self, held: Vec<(JobRef, Timestamp)>) {
        let since = std::mem::take(&mut self.since);
        self.since = held
            .into_iter()
            .map(|(job, claimed)| (job, since.get(&job).copied().unwrap_or(Some(claimed))))
            .collect();
    }

    /// Gives up the leases that are trusted no more.
    fn take_overdue(&mut self, lease: Duration, now: Timestamp) -> Vec<JobRef> {
        let mut overdue = Vec::new();
        for (job, since) in &mut self.since {
            if since.is_some_and(|since| since.after(trust(lease)) <= now) {
                *since = None;
                overdue.push(*job);
            }
        }
        overdue
    }

    fn trusted(&self) -> Vec<JobRef> {
        let trusted = self.since.iter().filter(|(_, since)| since.is_some());
        trusted.map(|(job, _)| *job).collect()
    }

    fn extended(&mut self, job: JobRef, since: Option<Timestamp>) {
        self.since.insert(job, since);
    }

    /// How long every one of them is trusted yet.
    fn left(&self, lease: Duration, now: Timestamp) -> Duration {
        let ends = self
            .since
            .values()
            .flatten()
            .map(|since| since.after(trust(lease)));
        let left = ends.map(|end| end.since(now)).min();
        left.unwrap_or(Duration::MAX).max(Duration::from_millis(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;

    fn job(n: u128) -> JobRef {
        JobRef {
            id: JobId::from_u128(n),
            ..JobRef::default()
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_lease_is_trusted_for_less_than_it_lasts() {
        assert_eq!(trust(LEASE), Duration::from_secs(27));
        assert_eq!(trust(Duration::from_secs(5)), Duration::from_secs(4));
    }

    #[test]
    fn trust_counts_from_the_request_and_never_comes_back() {
        let mut leases = Leases::default();
        leases.look(vec![(job(1), at(0)), (job(2), at(20))]);
        assert_eq!(leases.left(LEASE, at(20)), Duration::from_secs(7));
        assert!(leases.take_overdue(LEASE, at(26)).is_empty());
        assert_eq!(leases.take_overdue(LEASE, at(27)), [job(1)]);
        assert_eq!(leases.trusted(), [job(2)], "what is given up is extended no more");
        leases.extended(job(2), Some(at(40)));
        leases.look(vec![(job(1), at(0)), (job(2), at(20)), (job(3), at(41))]);
        assert!(
            leases.take_overdue(LEASE, at(50)).is_empty(),
            "a look changes nothing"
        );
        assert_eq!(leases.left(LEASE, at(50)), Duration::from_secs(17));
        leases.look(vec![(job(3), at(41))]);
        assert_eq!(leases.since.len(), 1, "what has ended is forgotten");
    }
}
