//! Retry policies: how long to pause after the n-th failed attempt. Pure: randomness is an argument.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::{format_duration, parse_duration};

/// How the pause before the next attempt grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Backoff {
    /// No pause: the next attempt may start at once.
    None,
    /// The same pause each time.
    Constant(Duration),
    /// After the i-th failure, i times this pause.
    Linear(Duration),
    /// After the i-th failure, this pause doubled i - 1 times.
    Exponential(Duration),
}

/// When and how long to wait between the attempts of a job.
///
/// The text form, read by [`RetryPolicy::parse`], is `none`, `constant(5s)`, `linear(1s)` or
/// `exponential(1s)`, each with optional `cap=` and `jitter=`: `exponential(1s, cap=5m, jitter=0.1)`.
///
/// What is pushed, declared or configured with a policy that [`RetryPolicy::check`] refuses is refused
/// with it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryPolicy {
    /// How the pause grows.
    pub backoff: Backoff,
    /// The longest pause; [`Duration::MAX`] for no cap but [`RetryPolicy::MAX_PAUSE`].
    pub cap: Duration,
    /// The share of the pause that is random, from 0 (none) to 1: a pause `p` becomes a number between
    /// `p * (1 - jitter)` and `p`, so that jobs which failed together do not come back together.
    pub jitter: f64,
}

impl RetryPolicy {
    /// The default: 1 s doubled after each failure up to 5 minutes, a tenth of it random.
    pub const DEFAULT: RetryPolicy = RetryPolicy {
        backoff: Backoff::Exponential(Duration::from_secs(1)),
        cap: Duration::from_secs(300),
        jitter: 0.1,
    };

    /// The longest pause of any policy: a hundred years of 365 days. Growing pauses end here.
    pub const MAX_PAUSE: Duration = Duration::from_secs(36_500 * 86_400);

    /// A policy without pauses.
    #[must_use]
    pub const fn none() -> Self {
        Self::of(Backoff::None)
    }

    /// The same pause after each failure, without jitter.
    #[must_use]
    pub const fn constant(pause: Duration) -> Self {
        Self::of(Backoff::Constant(pause))
    }

    /// After the i-th failure i times `gap`, without jitter.
    #[must_use]
    pub const fn linear(gap: Duration) -> Self {
        Self::of(Backoff::Linear(gap))
    }

    /// `base` doubled after each failure, without jitter.
    #[must_use]
    pub const fn exponential(base: Duration) -> Self {
        Self::of(Backoff::Exponential(base))
    }

    const fn of(backoff: Backoff) -> Self {
        Self {
            backoff,
            cap: Duration::MAX,
            jitter: 0.0,
        }
    }

    /// The same policy with pauses no longer than `cap`.
    #[must_use]
    pub const fn capped(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// The same policy with this share of each pause random (clamped to 0..=1; what is not a number is
    /// refused by [`RetryPolicy::check`]).
    #[must_use]
    pub const fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter.clamp(0.0, 1.0);
        self
    }

    /// The pause after attempt `attempt` (counted from 1) failed; `random` is uniform in 0..1. Never longer
    /// than [`RetryPolicy::MAX_PAUSE`], and never a panic, whatever the fields hold.
    #[must_use]
    pub fn pause(&self, attempt: u32, random: f64) -> Duration {
        let full = match self.backoff {
            Backoff::None => Duration::ZERO,
            Backoff::Constant(d) => d,
            Backoff::Linear(d) => d.saturating_mul(attempt),
            Backoff::Exponential(d) => doubled(d, attempt.saturating_sub(1)),
        };
        let full = full.min(self.cap).min(Self::MAX_PAUSE);
        let less = self.jitter * random;
        if less > 0.0 {
            // Rounding must not lengthen it.
            full.mul_f64(1.0 - less.min(1.0)).min(full)
        } else {
            full
        }
    }

    /// Whether every pause is long enough to be noticed, as unlimited attempts require: a microsecond.
    #[must_use]
    pub fn pauses(&self) -> bool {
        self.jitter < 1.0 && self.pause(1, 1.0) >= Duration::from_micros(1)
    }

    /// Checks that the fields are within their bounds: pause and cap up to [`RetryPolicy::MAX_PAUSE`], jitter
    /// from 0 to 1. What is within them reads back from its text as it was.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that names the part and the mend.
    pub fn check(&self) -> Result<()> {
        self.within_bounds()
            .map_err(|why| Error::invalid(format!("retry policy: {why}")))
    }

    fn within_bounds(&self) -> std::result::Result<(), String> {
        let pause = match self.backoff {
            Backoff::None => Duration::ZERO,
            Backoff::Constant(d) | Backoff::Linear(d) | Backoff::Exponential(d) => d,
        };
        let cap = if self.cap == Duration::MAX {
            Duration::ZERO
        } else {
            self.cap
        };
        for (what, length) in [("pause", pause), ("cap", cap)] {
            if length > Self::MAX_PAUSE {
                let (length, max) = (format_duration(length), format_duration(Self::MAX_PAUSE));
                return Err(format!("the {what} {length} is too long; up to {max} is allowed"));
            }
        }
        if (0.0..=1.0).contains(&self.jitter) {
            Ok(())
        } else {
            Err(format!("jitter {} is not between 0 and 1", self.jitter))
        }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that names the part and the mend.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| Error::invalid(format!("retry policy {text:?}: {why}"));
        let (name, arguments) = match text.trim().split_once('(') {
            None => (text.trim(), None),
            Some((name, rest)) => {
                let inner = rest
                    .strip_suffix(')')
                    .ok_or_else(|| bad("the closing ) is missing".into()))?;
                (name.trim(), Some(inner))
            }
        };
        let mut base = None;
        let mut policy = Self::none();
        for argument in arguments
            .into_iter()
            .flat_map(|a| a.split(','))
            .map(str::trim)
            .filter(|a| !a.is_empty())
        {
            match argument.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
                None => base = Some(parse_duration(argument).map_err(bad)?),
                Some(("cap", v)) => policy.cap = parse_duration(v).map_err(bad)?,
                Some(("jitter", v)) => policy.jitter = parse_number(v).map_err(bad)?,
                Some((other, _)) => return Err(bad(format!("there is no {other:?}; use cap= or jitter="))),
            }
        }
        let pause = || base.ok_or_else(|| bad(format!("give the pause, for example {name}(1s)")));
        policy.backoff = match name {
            "none" => Backoff::None,
            "constant" => Backoff::Constant(pause()?),
            "linear" => Backoff::Linear(pause()?),
            "exponential" => Backoff::Exponential(pause()?),
            other => {
                return Err(bad(format!(
                    "{other:?} is not one of none, constant(..), linear(..), exponential(..)"
                )));
            }
        };
        policy.within_bounds().map_err(bad)?;
        Ok(policy)
    }
}

fn parse_number(text: &str) -> std::result::Result<f64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number between 0 and 1"))
}

/// `pause` doubled this many times, but no more than [`RetryPolicy::MAX_PAUSE`].
fn doubled(pause: Duration, times: u32) -> Duration {
    let max = RetryPolicy::MAX_PAUSE;
    // The longest pause has fewer than 64 bits: what is longer after one shift was too long before it.
    let nanos = pause.min(max).as_nanos().checked_shl(times.min(64)).unwrap_or(0);
    if nanos > max.as_nanos() {
        max
    } else {
        Duration::from_nanos_u128(nanos)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl std::fmt::Display for RetryPolicy {
    /// The text form that [`RetryPolicy::parse`] reads back.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, pause) = match self.backoff {
            Backoff::None => return f.write_str("none"),
            Backoff::Constant(d) => ("constant", d),
            Backoff::Linear(d) => ("linear", d),
            Backoff::Exponential(d) => ("exponential", d),
        };
        write!(f, "{name}({}", format_duration(pause))?;
        if self.cap != Duration::MAX {
            write!(f, ", cap={}", format_duration(self.cap))?;
        }
        if self.jitter > 0.0 {
            write!(f, ", jitter={}", self.jitter)?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_follow_the_table() {
        for (policy, want) in [
            (RetryPolicy::none(), [0, 0, 0, 0]),
            (RetryPolicy::constant(S), [1, 1, 1, 1]),
            (RetryPolicy::linear(S), [1, 2, 3, 4]),
            (RetryPolicy::exponential(S), [1, 2, 4, 8]),
            (RetryPolicy::exponential(S).capped(S * 3), [1, 2, 3, 3]),
        ] {
            for (i, want) in want.into_iter().enumerate() {
                assert_eq!(
                    policy.pause(i as u32 + 1, 0.7),
                    S * want,
                    "{policy} after {}",
                    i + 1
                );
            }
        }
    }

    #[test]
    fn huge_attempts_do_not_overflow() {
        let policy = RetryPolicy::exponential(Duration::MAX).capped(S * 9);
        assert_eq!(policy.pause(u32::MAX, 0.0), S * 9);
        assert_eq!(
            RetryPolicy::linear(Duration::MAX).pause(u32::MAX, 0.0),
            RetryPolicy::MAX_PAUSE
        );
        let least = RetryPolicy::exponential(Duration::from_nanos(1));
        assert_eq!(
            least.pause(41, 0.0),
            Duration::from_nanos(1 << 40),
            "doubled all the way"
        );
        assert_eq!(least.pause(u32::MAX, 0.0), RetryPolicy::MAX_PAUSE);
        assert_eq!(
            RetryPolicy::exponential(Duration::ZERO).pause(u32::MAX, 0.0),
            Duration::ZERO
        );
        assert_eq!(RetryPolicy::exponential(S).with_jitter(0.5).pause(0, 0.0), S);
    }

    #[test]
    fn jitter_only_shortens() {
        let policy = RetryPolicy::constant(S).with_jitter(0.25);
        assert_eq!(policy.pause(1, 0.0), S);
        assert_eq!(policy.pause(1, 1.0), Duration::from_millis(750));
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "none",
            "constant(5s)",
            "linear(1s)",
            "exponential(1s, cap=5m, jitter=0.1)",
        ] {
            assert_eq!(RetryPolicy::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(RetryPolicy::parse(" linear( 1s ,cap=2s ) ").unwrap().cap, S * 2);
        for bad in [
            "",
            "linear",
            "linear(1)",
            "linear(1s",
            "often(1s)",
            "linear(1s, jitter=2)",
            "linear(1s, x=2)",
        ] {
            assert!(RetryPolicy::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_and_harmless() {
        let long = RetryPolicy::MAX_PAUSE + Duration::from_nanos(1);
        let jitter = |jitter| RetryPolicy {
            jitter,
            ..RetryPolicy::constant(S)
        };
        for (policy, want) in [
            (RetryPolicy::constant(long), "the pause"),
            (RetryPolicy::linear(Duration::MAX), "the pause"),
            (RetryPolicy::exponential(S).capped(long), "the cap"),
            (jitter(f64::NAN), "jitter NaN"),
            (jitter(-0.1), "jitter -0.1"),
            (jitter(f64::INFINITY), "jitter inf"),
            (RetryPolicy::constant(S).with_jitter(f64::NAN), "jitter NaN"),
        ] {
            let error = policy.check().unwrap_err();
            assert!(error.to_string().contains(want), "{error} / {want}");
        }
        RetryPolicy::exponential(RetryPolicy::MAX_PAUSE)
            .capped(RetryPolicy::MAX_PAUSE)
            .check()
            .unwrap();
        assert!(
            RetryPolicy::constant(S).with_jitter(7.0).check().is_ok(),
            "clamped"
        );
    }

    fn any_policy() -> impl Strategy<Value = RetryPolicy> {
        let length = || {
            (any::<u64>(), 0..1_000_000_000u32, 0..64u32)
                .prop_map(|(seconds, nanos, less)| Duration::new(seconds >> less, nanos))
        };
        let cap = prop_oneof![Just(Duration::MAX), length()];
        let jitter = prop_oneof![0.0..=1.0f64, any::<f64>()];
        (0..4, length(), cap, jitter).prop_map(|(which, pause, cap, jitter)| RetryPolicy {
            backoff: match which {
                0 => Backoff::None,
                1 => Backoff::Constant(pause),
                2 => Backoff::Linear(pause),
                _ => Backoff::Exponential(pause),
            },
            cap,
            jitter,
        })
    }

    proptest! {
        #[test]
        fn pauses_are_bounded_whatever_the_fields_hold(
            policy in any_policy(),
            attempt in prop_oneof![0..100u32, any::<u32>()],
            random in prop_oneof![0.0..1.0f64, any::<f64>()],
        ) {
            prop_assert!(policy.pause(attempt, random) <= policy.cap.min(RetryPolicy::MAX_PAUSE));
        }

        #[test]
        fn what_is_within_its_bounds_reads_back(policy in any_policy()) {
            let read = RetryPolicy::parse(&policy.to_string());
            if policy.check().is_ok() {
                let read = read.unwrap();
                prop_assert_eq!(read.backoff, policy.backoff);
                if policy.backoff != Backoff::None {
                    prop_assert_eq!(read, policy);
                }
            }
        }
    }

    #[test]
    fn only_pausing_policies_pause() {
        assert!(
            !RetryPolicy::constant(Duration::from_nanos(999)).pauses(),
            "less than a clock tells apart"
        );

        assert!(RetryPolicy::DEFAULT.pauses());
        assert!(!RetryPolicy::none().pauses());
        assert!(!RetryPolicy::constant(Duration::ZERO).pauses());
        assert!(!RetryPolicy::constant(S).with_jitter(1.0).pauses());
    }
}
