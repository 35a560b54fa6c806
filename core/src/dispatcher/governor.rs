//! A limit that follows from what attempts come to: adaptive concurrency and the circuit breaker, of one kind or of
//! one concurrency key.

use crate::admission::{Adaptive, Answer, Breaker, Circuit, Limiter, Sample, Turn};
use crate::outcome::Outcome;
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

/// The rules that it follows.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Rules {
    pub(super) adaptive: Option<Adaptive>,
    pub(super) breaker: Option<Breaker>,
}

impl Rules {
    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        self.adaptive.is_some() || self.breaker.is_some()
    }
}

/// What is learned from an attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) answer: Answer,
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
    /// How many ran when it ended, itself among them.
    pub(super) inflight: usize,
    /// Whether it was a failure that no retry mends, which says nothing of what was called.
    pub(super) fatal: bool,
}

/// What an outcome says of the load, if anything.
pub(super) fn answer(outcome: &Outcome) -> Option<Answer> {
    match outcome {
        Outcome::Success(_) => Some(Answer::Ok),
        Outcome::Failed(_) | Outcome::Fatal(_) | Outcome::Retry { .. } => Some(Answer::Failed),
        Outcome::LeaseLost | Outcome::Crashed { .. } => Some(Answer::Failed),
        Outcome::RateLimited { .. } => Some(Answer::Limited),
        Outcome::TimedOut => Some(Answer::TimedOut),
        _ => None,
    }
}

/// What has been learned, and the limit that follows.
#[derive(Clone, Debug)]
pub(super) struct Governor {
    limiter: Option<Limiter>,
    circuit: Circuit,
    heard: Timestamp,
}

impl Governor {
    pub(super) fn new(rules: &Rules, now: Timestamp) -> Self {
        Self {
            limiter: rules.adaptive.map(Limiter::new),
            circuit: Circuit::default(),
            heard: now,
        }
    }

    /// Learns from an attempt. What has become of the breaker, if anything.
    pub(super) fn hear(&mut self, rules: &Rules, heard: &Heard) -> Option<Turn> {
        self.heard = heard.now;
        if let Some(limiter) = &mut self.limiter {
            limiter.sample(Sample {
                took: heard.now.since(heard.started),
                inflight: heard.inflight,
                answer: heard.answer,
                now: heard.now,
            });
        }
        let breaker = rules.breaker?;
        let succeeded = match heard.answer {
            Answer::Ok => true,
            // Being told to wait is an answer, too: what was called is there.
            Answer::Limited => return None,
            _ if heard.fatal => return None,
            Answer::Failed | Answer::TimedOut => false,
        };
        self.circuit.record(&breaker, succeeded, heard.started, heard.now)
    }

    /// Lets probes start if the breaker has been open long enough.
    pub(super) fn tick(&mut self, now: Timestamp) -> Option<Turn> {
        self.circuit.tick(now)
    }

    /// Whether its breaker, if there is one, holds nothing back.
    pub(super) fn is_closed(&self, rules: &Rules) -> bool {
        let limit = rules.breaker.and_then(|breaker| self.circuit.limit(&breaker));
        limit.is_none()
    }

    /// How many may run at once: the smaller of both limits, `None` for none.
    pub(super) fn limit(&self, rules: &Rules) -> Option<u32> {
        let adaptive = self.adaptive_limit();
        let breaker = rules.breaker.and_then(|breaker| self.circuit.limit(&breaker));
        let breaker = breaker.filter(|limit| *limit == 0 || !planted(Bug::ProbesUnbounded));
        adaptive.into_iter().chain(breaker).min()
    }

    /// The limit that was found, if one is looked for.
    pub(super) fn adaptive_limit(&self) -> Option<u32> {
        let limiter = self.limiter.as_ref()?;
        Some(u32::try_from(limiter.limit()).unwrap_or(u32::MAX))
    }

    /// Until when nothing starts, if the breaker is open.
    pub(super) fn open_until(&self) -> Option<Timestamp> {
        self.circuit.open_until()
    }

    /// Whether nothing would be lost with it that a minute's work would not find again.
    pub(super) fn is_idle(&self, rules: &Rules, now: Timestamp) -> bool {
        let rested = self.limiter.is_none() || now.since(self.heard) > super::keys::MEMORY;
        rested
            && rules
                .breaker
                .is_none_or(|breaker| self.circuit.is_idle(&breaker, now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::OptionValue;

    #[test]
    fn the_smaller_limit_holds() {
        let rules = Rules {
            adaptive: OptionValue::read("gradient(min=3, max=3)").unwrap(),
            breaker: OptionValue::read("failures(2, open=1s, probes=2)").unwrap(),
        };
        let at = |ms| Timestamp::EPOCH.after(Duration::from_millis(ms));
        let mut governor = Governor::new(&rules, at(0));
        let heard = |answer, fatal, ms| Heard {
            answer,
            started: at(ms),
            now: at(ms),
            inflight: 1,
            fatal,
        };
        for quiet in [heard(Answer::Limited, false, 0), heard(Answer::Failed, true, 0)] {
            assert_eq!(
                (governor.hear(&rules, &quiet), governor.limit(&rules)),
                (None, Some(3))
            );
        }
        assert_eq!(governor.hear(&rules, &heard(Answer::Failed, false, 0)), None);
        let opened = governor.hear(&rules, &heard(Answer::TimedOut, false, 0));
        assert_eq!(
            (opened, governor.limit(&rules)),
            (Some(Turn::Opened(at(1000))), Some(0))
        );
        assert_eq!(
            (governor.tick(at(1000)), governor.limit(&rules)),
            (Some(Turn::Probing), Some(2))
        );
        assert!(!governor.is_idle(&rules, at(1_500)));
        for turn in [None, Some(Turn::Closed)] {
            assert_eq!(governor.hear(&rules, &heard(Answer::Ok, false, 1000)), turn);
        }
        assert_eq!(governor.limit(&rules), Some(3));
        assert!(!governor.is_idle(&rules, at(1001)) && governor.is_idle(&rules, at(100_000)));
    }
}
