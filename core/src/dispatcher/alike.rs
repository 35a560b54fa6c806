//! Dispatchers that behave like another one: what a test runs instead of the one that a program has.

use super::Dispatcher;
use crate::config::KindOptions;
use crate::error::{ErrorKind, Result};
use crate::names::KindId;

impl Dispatcher {
    /// Takes over what `other` has been told of its kinds, its queues and its hooks, by their names; jobs and Rust
    /// handlers stay where they are. What this engine cannot keep of a queue is left to its own options.
    ///
    /// Answers of every kind that `other` has named the number there, the one here, and what it was declared with:
    /// for hosts that run handlers themselves, and move those as well.
    ///
    /// ```
    /// use forebay::{Dispatcher, KindOptions};
    /// let real = Dispatcher::in_memory()?;
    /// real.declare("mail", KindOptions::new().max_attempts(7))?;
    /// let double = Dispatcher::in_memory()?;
    /// double.take_after(&real)?;
    /// assert_eq!(double.declared(), [(double.kind("mail")?, KindOptions::new().max_attempts(7))]);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed` if this one has stopped; `Forked`.
    pub fn take_after(&self, other: &Dispatcher) -> Result<Vec<(KindId, KindId, KindOptions)>> {
        for (_, queue) in other.0.engine.names().queues() {
            let own = other.queue_options(&queue)?;
            match self.configure_queue(&queue, own) {
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                done => drop(done?),
            }
        }
        other
            .0
            .hooks
            .all()
            .into_iter()
            .for_each(|hooks| self.add_hooks(hooks));
        let kinds = other.0.engine.names().kinds().into_iter();
        kinds
            .map(|(there, name)| {
                let options = other.0.kinds.get(there).map(|entry| entry.options);
                let here = match options {
                    Some(options) => self.declare(&name, options)?,
                    None => self.kind(&name)?,
                };
                Ok((there, here, options.unwrap_or_default()))
            })
            .collect()
    }
}

/// For tests: what jitter and sampling draw on this thread from now on, the same again for the same seed.
pub fn seed(seed: u64) {
    super::settle::seed(seed);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::settle::random;
    use super::*;
    use crate::{Hooks, Lease, NewJob, Options, Outcome, QueueOptions};

    #[derive(Default)]
    struct Counts(AtomicU32);

    impl Hooks for Counts {
        fn before(&self, _: &Lease) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn opened() -> Dispatcher {
        Dispatcher::open("memory:?clock=manual", Options::default()).expect("memory opens")
    }

    #[test]
    fn a_double_has_the_rules_and_none_of_the_jobs() {
        let (real, double) = (opened(), opened());
        // The same kind has another number here.
        double.kind("first").expect("a name");
        real.declare("mail", KindOptions::new().max_attempts(7))
            .expect("open");
        real.configure_queue("slow", QueueOptions::new().capacity(1))
            .expect("open");
        let counts = Arc::new(Counts::default());
        real.add_hooks(counts.clone());
        real.push(NewJob::new("mail", b"")).expect("there is room");

        let kinds = double.take_after(&real).expect("open");
        let there = real.kind("mail").expect("a name");
        let (_, here, options) = *kinds.iter().find(|kind| kind.0 == there).expect("it was named");
        assert_eq!(&*double.kind_name(here), "mail");
        assert_eq!(options.max_attempts, Some(7));
        assert_eq!(double.declared(), [(here, options)]);
        assert_eq!(double.len("default").expect("open"), 0);
        double
            .push(NewJob::new("mail", b"").queue("slow"))
            .expect("there is room");
        double
            .push(NewJob::new("mail", b"").queue("slow"))
            .expect_err("it is full");
        let lease = double
            .consumer(Arc::new(crate::KindSet::any()))
            .next(crate::Deadline::NEVER);
        let lease = lease.expect("open").expect("one waits");
        let outcome = lease.run(|_| Outcome::done());
        lease.complete(outcome).expect("open");
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let draw = |with| {
            seed(with);
            [random(), random(), random()]
        };
        assert_eq!(draw(0), draw(0));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
