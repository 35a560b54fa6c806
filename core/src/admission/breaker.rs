//! When to leave a dependency alone: a circuit breaker (M. Nygard, "Release It!").
//!
//! Closed, everything starts. After so many failures in a row it opens, and nothing starts for a time. Then a few
//! probes start: if all of them succeed it closes, if one fails it opens again. Attempts that started before
//! the present state did say nothing about it.

use std::fmt;
use std::time::Duration;

use super::call::{Call, count};
use crate::config::OptionValue;
use crate::retry::RetryPolicy;
use crate::time::{Timestamp, format_duration, parse_duration};

/// When a breaker opens, and for how long: `failures(5, open=30s, probes=1)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breaker {
    failures: u32,
    open: Duration,
    probes: u32,
}

impl Breaker {
    /// Opens after so many failures in a row, for 30 seconds, and closes after one probe that succeeds.
    ///
    /// # Errors
    /// A sentence, for 0 failures.
    pub fn failures(failures: u32) -> Result<Self, String> {
        if failures == 0 {
            return Err("a breaker that opens after 0 failures would always be open".into());
        }
        Ok(Self {
            failures,
            open: Duration::from_secs(30),
            probes: 1,
        })
    }

    /// How long it stays open.
    ///
    /// # Errors
    /// A sentence, for no time, or more than [`RetryPolicy::MAX_PAUSE`].
    pub fn open(self, open: Duration) -> Result<Self, String> {
        if open < Duration::from_millis(1) || open > RetryPolicy::MAX_PAUSE {
            return Err(format!(
                "open={} is not between 1ms and a hundred years",
                format_duration(open)
            ));
        }
        Ok(Self { open, ..self })
    }

    /// How many attempts have to succeed before it closes; as many run at once.
    ///
    /// # Errors
    /// A sentence, for 0 probes.
    pub fn probes(self, probes: u32) -> Result<Self, String> {
        if probes == 0 {
            return Err("with probes=0 a breaker would never close again".into());
        }
        Ok(Self { probes, ..self })
    }
}

impl fmt::Display for Breaker {
    /// The text that is read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            failures,
            open,
            probes,
        } = self;
        write!(
            f,
            "failures({failures}, open={}, probes={probes})",
            format_duration(*open)
        )
    }
}

impl OptionValue for Option<Breaker> {
    const FORM: &'static str = "`failures(5, open=30s, probes=1)` or `none`";
    fn read(text: &str) -> Result<Self, String> {
        let mut call = Call::read(text)?;
        let breaker = match call.name {
            "none" => None,
            "failures" => {
                let failures = call.next(count)?;
                let mut breaker =
                    Breaker::failures(failures.ok_or("give their number, for example failures(5)")?)?;
                if let Some(open) = call.named("open", parse_duration)? {
                    breaker = breaker.open(open)?;
                }
                if let Some(probes) = call.named("probes", count)? {
                    breaker = breaker.probes(probes)?;
                }
                Some(breaker)
            }
            _ => {
                return Err(format!(
                    "{text:?} is neither \"none\" nor for example \"failures(5, open=30s)\""
                ));
            }
        };
        call.end()?;
        Ok(breaker)
    }
    fn number(failures: f64) -> Result<Self, String> {
        Err(format!(
            "a breaker is written as text, for example \"failures({failures})\""
        ))
    }
    fn write(&self) -> String {
        self.map_or_else(|| "none".into(), |breaker| breaker.to_string())
    }
}

/// Where a [`Breaker`] stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stand {
    /// Everything starts; so many attempts in a row have failed.
    Closed { failures: u32 },
    /// Nothing starts before this.
    Open { until: Timestamp },
    /// Probes start; so many have succeeded.
    HalfOpen { succeeded: u32 },
}

/// What a [`Breaker`] has seen, for one kind or one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circuit {
    stand: Stand,
    /// Since when it stands so: what started before is not counted.
    since: Timestamp,
    /// When it was last told of an attempt.
    heard: Timestamp,
}

/// What has become of a breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It has opened, until this instant.
    Opened(Timestamp),
    /// Its time has come: probes may start.
    Probing,
    /// It has closed.
    Closed,
}

impl Default for Circuit {
    fn default() -> Self {
        Self {
            stand: Stand::Closed { failures: 0 },
            since: Timestamp::from_micros(i64::MIN),
            heard: Timestamp::EPOCH,
        }
    }
}

impl Circuit {
    /// An attempt that began at `started` has succeeded, or failed.
    pub fn record(
        &mut self,
        breaker: &Breaker,
        succeeded: bool,
        started: Timestamp,
        now: Timestamp,
    ) -> Option<Turn> {
        self.heard = now;
        if started < self.since {
            return None;
        }
        match (&mut self.stand, succeeded) {
            (Stand::Closed { failures }, true) => *failures = 0,
            (Stand::Closed { failures }, false) => {
                *failures += 1;
                if *failures >= breaker.failures {
                    return Some(self.open(breaker, now));
                }
            }
            // Nothing starts while it is open; what is over now started before, in this very microsecond.
            (Stand::Open { .. }, _) => {}
            (Stand::HalfOpen { .. }, false) => return Some(self.open(breaker, now)),
            (Stand::HalfOpen { succeeded }, true) => {
                *succeeded += 1;
                if *succeeded >= breaker.probes {
                    self.turn(Stand::Closed { failures: 0 }, now);
                    return Some(Turn::Closed);
                }
            }
        }
        None
    }

    /// Lets probes start if it has been open long enough.
    pub fn tick(&mut self, now: Timestamp) -> Option<Turn> {
        match self.stand {
            Stand::Open { until } if until <= now => {
                self.turn(Stand::HalfOpen { succeeded: 0 }, now);
                Some(Turn::Probing)
            }
            _ => None,
        }
    }

    /// How many may run at once: `None` for no limit.
    #[must_use]
    pub fn limit(&self, breaker: &Breaker) -> Option<u32> {
        match self.stand {
            Stand::Closed { .. } => None,
            Stand::Open { .. } => Some(0),
            Stand::HalfOpen { .. } => Some(breaker.probes),
        }
    }

    /// Until when nothing starts, if it is open.
    #[must_use]
    pub fn open_until(&self) -> Option<Timestamp> {
        match self.stand {
            Stand::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Whether it is as good as new, so that it need not be remembered: closed, and nothing has failed; or not open,
    /// and nothing was heard for longer than it is open for.
    #[must_use]
    pub fn is_idle(&self, breaker: &Breaker, now: Timestamp) -> bool {
        let quiet = now.since(self.heard.max(self.since)) > breaker.open;
        match self.stand {
            Stand::Closed { failures } => failures == 0 || quiet,
            Stand::Open { .. } => false,
            Stand::HalfOpen { .. } => quiet,
        }
    }

    fn open(&mut self, breaker: &Breaker, now: Timestamp) -> Turn {
        let until = now.after(breaker.open);
        self.turn(Stand::Open { until }, now);
        Turn::Opened(until)
    }

    fn turn(&mut self, stand: Stand, now: Timestamp) {
        (self.stand, self.since) = (stand, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Breaker {
        <Option<Breaker> as OptionValue>::read(text).unwrap().unwrap()
    }

    fn at(s: u64) -> Timestamp {
        Timestamp::EPOCH.after(Duration::from_secs(s))
    }

    #[test]
    fn breakers_are_read_as_written() {
        assert_eq!(
            Some(read("failures(5)")).write(),
            "failures(5, open=30s, probes=1)"
        );
        assert_eq!(
            read("failures(2, probes=3, open=5s)").to_string(),
            "failures(2, open=5s, probes=3)"
        );
        assert_eq!(<Option<Breaker>>::read("none"), Ok(None));
        for bad in [
            "",
            "failures",
            "failures(0)",
            "failures(5, open=0s)",
            "failures(5, probes=0)",
            "failures(5, shut=1s)",
            "failures(5, 6)",
            "open(5)",
        ] {
            assert!(<Option<Breaker>>::read(bad).is_err(), "{bad}");
        }
        assert!(
            <Option<Breaker>>::number(5.0)
                .unwrap_err()
                .contains("failures(5)")
        );
    }

    #[test]
    fn it_opens_probes_and_closes() {
        let (b, mut c) = (read("failures(2, open=10s, probes=2)"), Circuit::default());
        assert_eq!(c.record(&b, false, at(0), at(1)), None);
        assert_eq!(
            c.record(&b, true, at(0), at(1)),
            None,
            "a success starts the count again"
        );
        assert_eq!(c.record(&b, false, at(1), at(2)), None);
        assert_eq!(c.record(&b, false, at(1), at(2)), Some(Turn::Opened(at(12))));
        assert_eq!(
            (c.limit(&b), c.open_until(), c.tick(at(11))),
            (Some(0), Some(at(12)), None)
        );
        assert_eq!(c.record(&b, true, at(1), at(3)), None, "it started before");
        assert_eq!(
            (c.tick(at(12)), c.limit(&b), c.tick(at(12))),
            (Some(Turn::Probing), Some(2), None)
        );
        assert_eq!(c.record(&b, false, at(1), at(13)), None, "it started before");
        assert_eq!(c.record(&b, true, at(12), at(13)), None);
        assert_eq!(c.record(&b, false, at(12), at(14)), Some(Turn::Opened(at(24))));
        assert_eq!(c.tick(at(30)), Some(Turn::Probing));
        assert_eq!(c.record(&b, true, at(30), at(31)), None);
        assert_eq!(c.record(&b, true, at(30), at(31)), Some(Turn::Closed));
        assert_eq!((c.limit(&b), c.is_idle(&b, at(31))), (None, true));
    }

    #[test]
    fn what_has_failed_long_ago_is_forgotten() {
        let (b, mut c) = (read("failures(3, open=10s)"), Circuit::default());
        assert!(c.is_idle(&b, at(0)));
        c.record(&b, false, at(0), at(1));
        assert!(!c.is_idle(&b, at(11)) && c.is_idle(&b, at(12)));
        c.record(&b, false, at(12), at(12));
        c.record(&b, false, at(12), at(12));
        assert!(!c.is_idle(&b, at(9_999)), "it is open until somebody looks");
        c.tick(at(9_999));
        assert!(
            !c.is_idle(&b, at(10_009)) && c.is_idle(&b, at(10_010)),
            "no probe came"
        );
    }

    proptest! {
        /// Checked against its definition: it opens at the n-th failure in a row and at no other time, nothing
        /// starts while it is open, and it closes only after enough probes.
        #[test]
        fn it_does_as_it_says(
            steps in prop::collection::vec((any::<bool>(), 0..4u64), 1..200),
            failures in 1..4u32,
            probes in 1..4u32,
        ) {
            let b = Breaker::failures(failures).unwrap().probes(probes).unwrap().open(Duration::from_secs(5)).unwrap();
            let (mut c, mut now, mut row, mut until, mut good) = (Circuit::default(), 0, 0, None, 0);
            for (ok, step) in steps {
                now += step;
                let turn = c.tick(at(now));
                prop_assert_eq!(turn.is_some(), until.is_some_and(|u| u <= now));
                if turn.is_some() {
                    (until, good) = (None, 0);
                }
                prop_assert_eq!(c.limit(&b) == Some(0), until.is_some());
                if until.is_some() {
                    continue;
                }
                let probing = c.limit(&b).is_some();
                match c.record(&b, ok, at(now), at(now)) {
                    Some(Turn::Opened(at_)) => {
                        prop_assert!(!ok && (probing || row + 1 == failures));
                        (row, until) = (0, Some(now + 5));
                        prop_assert_eq!(at_, at(now + 5));
                    }
                    Some(Turn::Closed) => {
                        prop_assert!(ok && probing && good + 1 == probes);
                        row = 0;
                    }
                    Some(Turn::Probing) => prop_assert!(false, "only time does that"),
                    None => {
                        prop_assert!(ok || (!probing && row + 1 < failures));
                        row = if ok { 0 } else { row + 1 };
                        good += u32::from(ok && probing);
                    }
                }
            }
        }
    }
}
