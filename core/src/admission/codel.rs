//! Which jobs have waited too long to be worth running: controlled delay.
//!
//! CoDel (RFC 8289) tells a queue that works off a burst, whose shortest wait soon falls, from one that only
//! ever makes everybody wait. This is the variant for requests rather than packets that Facebook runs in
//! folly (B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015): while a queue is overloaded, what has waited more
//! than twice the target is let go, at once and not at a growing pace, because the callers of a service do
//! not slow down when it drops.
//!
//! Two things differ. The wait that ends an interval is judged with those in it, so that a queue found at rest
//! after a burst is not called overloaded for its past. And while the newest jobs go first, short waits say nothing
//! of the backlog: then an overload lasts until nothing is left to claim, for whoever claims.

use std::time::Duration;

use crate::time::Timestamp;

/// What one queue is held to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delay {
    /// What the shortest wait in an interval should be under; jobs that wait twice as long may be shed.
    pub target: Duration,
    /// How long the waits must be above the target.
    pub interval: Duration,
    /// Whether the newest jobs start first while the queue is overloaded.
    pub newest_first: bool,
}

impl Delay {
    /// The longest wait of a job that runs while the queue is overloaded.
    #[must_use]
    pub fn most(&self) -> Duration {
        self.target.saturating_mul(2)
    }
}

/// What has been seen of the waits of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codel {
    /// When the present interval ends, and the shortest wait in it; `None` before the first wait.
    interval: Option<(Timestamp, Duration)>,
    /// The last wait, and when it was seen.
    last: Option<(Timestamp, Duration)>,
    /// Whether in the present interval somebody found nothing to claim.
    dry: bool,
    overloaded: bool,
}

impl Codel {
    /// A job is about to start that has waited this long. True if it should be shed instead.
    pub fn sheds(&mut self, delay: &Delay, waited: Duration, now: Timestamp) -> bool {
        self.last = Some((now, waited));
        let (end, least) = match self.interval {
            Some((end, least)) if now < end => (end, least.min(waited)),
            Some((_, least)) => {
                // While the newest go first, a short wait does not mean that there is no backlog.
                let held = self.overloaded && delay.newest_first && !self.dry;
                self.dry = false;
                self.overloaded = held || least.min(waited) > delay.target;
                (now.after(delay.interval), waited)
            }
            None => (now.after(delay.interval), waited),
        };
        self.interval = Some((end, least));
        self.overloaded && waited > delay.most()
    }

    /// Somebody found nothing to claim of what was claimed last. Others may know more: if all waits in the interval
    /// are short as well, there is no backlog.
    pub fn dry(&mut self) {
        self.dry = true;
    }

    /// Nothing is left that could be claimed.
    pub fn drained(&mut self) {
        *self = Self::default();
    }

    /// Whether waits have been above the target for a whole interval.
    #[must_use]
    pub fn overloaded(&self) -> bool {
        self.overloaded
    }

    /// How near the queue is to shedding, from 0 to 1: the last wait as a share of the longest allowed. One that
    /// was seen two intervals ago says nothing any more.
    #[must_use]
    pub fn pressure(&self, delay: &Delay, now: Timestamp) -> f64 {
        match self.last {
            Some(_) if self.overloaded && delay.newest_first && !self.is_over(now) => 1.0,
            Some((at, waited)) if now.since(at) <= delay.interval.saturating_mul(2) => {
                (waited.as_secs_f64() / delay.most().as_secs_f64()).min(1.0)
            }
            _ => 0.0,
        }
    }

    /// Whether the interval has ended in which somebody found nothing to claim.
    fn is_over(&self, now: Timestamp) -> bool {
        self.dry && self.interval.is_none_or(|(end, _)| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(t: u64) -> Timestamp {
        Timestamp::EPOCH.after(ms(t))
    }

    const FIFO: Delay = Delay {
        target: Duration::from_millis(50),
        interval: Duration::from_millis(100),
        newest_first: false,
    };
    const LIFO: Delay = Delay {
        newest_first: true,
        ..FIFO
    };

    /// (when, waited, whether it is shed, whether the queue is overloaded afterwards)
    fn follow(delay: &Delay, steps: &[(u64, u64, bool, bool)]) {
        let mut codel = Codel::default();
        for (now, waited, shed, overloaded) in steps {
            assert_eq!(codel.sheds(delay, ms(*waited), at(*now)), *shed, "at {now}");
            assert_eq!(codel.overloaded(), *overloaded, "at {now}");
        }
    }

    #[test]
    fn a_standing_queue_is_overloaded_after_an_interval() {
        follow(
            &FIFO,
            &[
                (0, 500, false, false),
                (99, 500, false, false),
                (100, 101, true, true),
                (110, 100, false, true),
                (120, 101, true, true),
                // One short wait ends it, with the interval.
                (130, 50, false, true),
                (199, 200, true, true),
                (200, 500, false, false),
            ],
        );
    }

    #[test]
    fn a_burst_that_is_worked_off_is_not() {
        follow(
            &FIFO,
            &[
                (0, 300, false, false),
                (50, 40, false, false),
                (100, 300, false, false),
            ],
        );
    }

    #[test]
    fn a_rest_is_not_an_overload() {
        follow(
            &FIFO,
            &[
                (0, 300, false, false),
                (90, 300, false, false),
                (60_000, 1, false, false),
                (60_100, 90, false, false),
            ],
        );
    }

    #[test]
    fn rare_claims_are_judged_by_two_in_a_row() {
        follow(
            &FIFO,
            &[
                (0, 300, false, false),
                (1000, 300, true, true),
                (2000, 40, false, false),
            ],
        );
    }

    #[test]
    fn with_the_newest_first_it_ends_when_nothing_is_left() {
        let mut codel = Codel::default();
        for (now, waited, shed) in [
            (0, 200, false),
            (100, 200, true),
            (110, 1, false),
            (400, 1, false),
            (401, 101, true),
        ] {
            assert_eq!(codel.sheds(&LIFO, ms(waited), at(now)), shed, "at {now}");
        }
        assert_eq!((codel.overloaded(), codel.pressure(&LIFO, at(9999))), (true, 1.0));
        codel.drained();
        assert_eq!((codel.overloaded(), codel.pressure(&LIFO, at(402))), (false, 0.0));
        assert!(!codel.sheds(&LIFO, ms(500), at(403)));
    }

    #[test]
    fn pressure_is_the_last_wait() {
        let mut codel = Codel::default();
        assert_eq!(codel.pressure(&FIFO, at(0)), 0.0);
        codel.sheds(&FIFO, ms(25), at(0));
        assert_eq!(codel.pressure(&FIFO, at(200)), 0.25);
        assert_eq!(codel.pressure(&FIFO, at(201)), 0.0);
        codel.sheds(&FIFO, ms(1000), at(201));
        assert_eq!(codel.pressure(&FIFO, at(201)), 1.0);
    }

    proptest! {
        /// What has waited no longer than twice the target is never shed; and nothing is while in every
        /// interval there is a wait within the target.
        #[test]
        fn only_what_waited_too_long_in_a_standing_queue_is_shed(
            steps in prop::collection::vec((0..30u64, 0..400u64), 1..200),
            newest_first in any::<bool>(),
            calm in any::<bool>(),
        ) {
            let delay = Delay { newest_first, ..FIFO };
            let (mut codel, mut now) = (Codel::default(), 0);
            for (i, (step, waited)) in steps.into_iter().enumerate() {
                now += step;
                // Steps are shorter than a third of an interval: two of three in a row are in one.
                let waited = if calm && i % 2 == 0 { waited % 51 } else { waited };
                let shed = codel.sheds(&delay, ms(waited), at(now));
                prop_assert!(!shed || (waited > 100 && codel.overloaded()));
                prop_assert!(!calm || !codel.overloaded());
            }
        }
    }
}
