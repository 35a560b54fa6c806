//! How fast jobs start: a rate as people write it, and the one number that holds starts to it.
//!
//! [`Gcra`] is the generic cell rate algorithm in its virtual scheduling form (ITU-T I.371): it remembers when
//! the next start would be due if starts came evenly. The crate `governor` knows the same algorithm, but its
//! limiters own their clock and their one quota for all keys, and what was taken cannot be given back, which
//! a claim that found fewer jobs than it asked for must do.

use std::fmt;
use std::time::Duration;

use crate::config::OptionValue;
use crate::time::{Timestamp, format_duration, parse_duration};

/// So many starts in so much time, and how many of them may come at once.
///
/// The text form is `100/s`, `6000/m`, `1/10s`, or `100/s burst=20`. Without `burst=` it is what the rate
/// allows in a tenth of a second, but at least 1: short enough to spare what is called, long enough that a
/// claim of many is not cut into single ones. In any time `t` no more than `burst + t * rate` jobs start.
///
/// ```
/// use forebay::admission::Rate;
/// let rate: Rate = "6000/m".parse().unwrap();
/// assert_eq!((rate.burst(), rate.to_string().as_str()), (10, "6000/m"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    count: u32,
    per: Duration,
    /// 0 for the one that follows from the rate.
    burst: u32,
}

impl Rate {
    /// The longest time a rate can be over: a year of 365 days.
    pub const MAX_PER: Duration = Duration::from_secs(365 * 86_400);

    /// `count` starts in each `per`.
    ///
    /// # Errors
    /// A sentence, for a rate of nothing, one over no time or over more than [`Rate::MAX_PER`], and one of more
    /// than one start in a nanosecond.
    pub fn new(count: u32, per: Duration) -> Result<Self, String> {
        if count == 0 {
            return Err("a rate of 0 would let nothing start; pause the queue instead".into());
        }
        if per.is_zero() || per > Self::MAX_PER {
            let most = format_duration(Self::MAX_PER);
            return Err(format!("a rate is over a time above zero and up to {most}"));
        }
        if per.as_nanos() < u128::from(count) {
            return Err("a rate is of no more than one start in a nanosecond".into());
        }
        Ok(Self { count, per, burst: 0 })
    }

    /// The same rate with so many starts at once after a rest.
    ///
    /// # Errors
    /// A sentence, for a burst of 0.
    pub fn with_burst(self, burst: u32) -> Result<Self, String> {
        if burst == 0 {
            return Err("burst=0 would let nothing start; it is at least 1".into());
        }
        Ok(Self { burst, ..self })
    }

    /// How many may start at once after a rest.
    #[must_use]
    pub fn burst(&self) -> u32 {
        match self.burst {
            0 => (100_000_000 / self.gap()).clamp(1, i64::from(u32::MAX)) as u32,
            burst => burst,
        }
    }

    /// How many starts there may be in a second, on average.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }

    /// Nanoseconds from one even start to the next: rounded up, so that a rate is never exceeded.
    fn gap(&self) -> i64 {
        let per = self.per.as_secs() * 1_000_000_000 + u64::from(self.per.subsec_nanos());
        per.div_ceil(u64::from(self.count)) as i64
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not a rate; write for example \"100/s\" or \"100/s burst=20\"");
        let mut words = text.split_whitespace();
        let (count, per) = words.next().and_then(|w| w.split_once('/')).ok_or_else(form)?;
        let count = count.replace('_', "").parse().map_err(|_| form())?;
        let one = if per.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            ""
        } else {
            "1"
        };
        let rate = Rate::new(count, parse_duration(&format!("{one}{per}"))?)?;
        match (words.next().map(|w| w.strip_prefix("burst=")), words.next()) {
            (None, _) => Ok(rate),
            (Some(Some(burst)), None) => rate.with_burst(burst.parse().map_err(|_| form())?),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Rate {
    /// The text that is read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = format_duration(self.per);
        // One of a unit is written as the unit; `10s` keeps its number.
        let unit = per
            .strip_prefix('1')
            .filter(|u| !u.starts_with(|c: char| c.is_ascii_digit()));
        write!(f, "{}/{}", self.count, unit.unwrap_or(&per))?;
        match self.burst {
            0 => Ok(()),
            burst => write!(f, " burst={burst}"),
        }
    }
}

impl OptionValue for Option<Rate> {
    const FORM: &'static str = "a rate, as `100/s`, `6000/m` or `100/s burst=20`, or `none`";
    fn read(text: &str) -> Result<Self, String> {
        match text.trim() {
            "none" => Ok(None),
            rate => rate.parse().map(Some),
        }
    }
    fn number(number: f64) -> Result<Self, String> {
        if number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number) {
            return Rate::new(number as u32, Duration::from_secs(1)).map(Some);
        }
        Err(format!(
            "{number} is not a whole number of starts in a second; write for example \"1/10s\""
        ))
    }
    fn write(&self) -> String {
        self.map_or_else(|| "none".into(), |rate| rate.to_string())
    }
}

/// How far a [`Rate`] has been used up: one number, because there may be one for each of a million keys.
///
/// It is the instant, in nanoseconds since the epoch, at which the next start is due if starts come evenly;
/// one in the past is as good as now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gcra(i64);

impl Default for Gcra {
    fn default() -> Self {
        Self(i64::MIN)
    }
}

impl Gcra {
    /// Takes up to `want` starts at `now`; returns how many there are.
    pub fn take(&mut self, rate: Rate, now: Timestamp, want: u32) -> u32 {
        let (gap, due) = (rate.gap(), self.due(rate, now));
        let room = nanos(now).saturating_add(gap.saturating_mul(rate.burst().into())) - due;
        let got = want.min(u32::try_from(room / gap).unwrap_or(u32::MAX));
        self.0 = due.saturating_add(gap.saturating_mul(got.into()));
        got
    }

    /// Counts starts that were made at `at`, whatever has been counted since.
    pub fn note(&mut self, rate: Rate, at: Timestamp, count: u32) {
        let due = self.0.max(nanos(at));
        self.0 = due.saturating_add(rate.gap().saturating_mul(count.into()));
    }

    /// Gives back starts that were taken and not used.
    pub fn give_back(&mut self, rate: Rate, count: u32) {
        self.0 = self.0.saturating_sub(rate.gap().saturating_mul(count.into()));
    }

    /// When the next start may be: `now` if one may be at once.
    #[must_use]
    pub fn next(&self, rate: Rate, now: Timestamp) -> Timestamp {
        let early = rate.gap().saturating_mul(i64::from(rate.burst()) - 1);
        let at = self.due(rate, now).saturating_sub(early);
        // Instants are microseconds: rounded up, or it would be asked for too soon.
        now.max(Timestamp::from_micros(
            at.div_euclid(1000) + i64::from(at.rem_euclid(1000) > 0),
        ))
    }

    /// When whoever waits should look again: when the next start may be, but where starts come closer than a
    /// millisecond a whole millisecond's worth of them, if the burst has as many.
    #[must_use]
    pub fn worth_waking(&self, rate: Rate, now: Timestamp) -> Timestamp {
        let rested = Timestamp::from_micros(self.due(rate, now).div_euclid(1000));
        let pause = now.after(Duration::from_millis(1));
        self.next(rate, now).max(pause.min(rested))
    }

    /// Whether it is as good as new, so that it need not be remembered.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.0 <= nanos(now)
    }

    /// The due time, if starts before `now` no longer count. A rate that was lower before, or a clock that
    /// stood later, leaves no more than this rate's own burst to wait for.
    fn due(&self, rate: Rate, now: Timestamp) -> i64 {
        let now = nanos(now);
        let last = now.saturating_add(rate.gap().saturating_mul(rate.burst().into()));
        self.0.clamp(now, last)
    }
}

fn nanos(at: Timestamp) -> i64 {
    // Half the range is left for what is added: no instant that a clock shows is near.
    at.as_micros()
        .saturating_mul(1000)
        .clamp(i64::MIN / 2, i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + us)
    }

    #[test]
    fn rates_are_read_as_written() {
        for (text, per_second, burst) in [
            ("100/s", 100.0, 10),
            ("6000/m", 100.0, 10),
            ("1/10s", 0.1, 1),
            ("1_000_000/s", 1e6, 100_000),
            (" 100/s  burst=20 ", 100.0, 20),
            ("5/min", 5.0 / 60.0, 1),
            ("36/h burst=1", 0.01, 1),
        ] {
            let rate = rate(text);
            assert_eq!((rate.per_second(), rate.burst()), (per_second, burst), "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate), "{text}");
        }
        assert_eq!(rate("6000/1m burst=3").to_string(), "6000/m burst=3");
        assert_eq!(rate("1/10s").to_string(), "1/10s");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for bad in [
            "",
            "100",
            "100/",
            "/s",
            "0/s",
            "-1/s",
            "100/parsec",
            "100/s burst=0",
            "100/s 20",
            "1/0s",
            "100/s burst=20 more",
            "1/400d",
            "1000/1ns",
            "1.5/s",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        let none: Option<Rate> = OptionValue::read("none").unwrap();
        assert_eq!((none, none.write().as_str()), (None, "none"));
        assert_eq!(OptionValue::number(250.0), Ok(Some(rate("250/s"))));
        assert!(Option::<Rate>::number(0.5).is_err());
    }

    #[test]
    fn starts_are_even_after_the_burst() {
        let (r, mut gcra) = (rate("10/s burst=3"), Gcra::default());
        let takes = [
            (0, 5, 3),
            (0, 1, 0),
            (99_999, 1, 0),
            (100_000, 2, 1),
            (350_000, 9, 2),
            (10_000_000, 9, 3),
        ];
        for (now, want, got) in takes {
            assert_eq!(gcra.take(r, at(now), want), got, "at {now}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (r, mut gcra) = (rate("10/s burst=3"), Gcra::default());
        assert_eq!(gcra.take(r, at(0), 3), 3);
        gcra.give_back(r, 2);
        assert_eq!(gcra.next(r, at(0)), at(0));
        assert_eq!(gcra.take(r, at(0), 3), 2);
        assert_eq!(gcra.next(r, at(0)), at(100_000));
    }

    #[test]
    fn nobody_is_woken_for_each_of_a_million_starts() {
        for (text, first, wake) in [
            ("10/s burst=1", 100_000, 100_000),
            ("1000000/s", 1, 1000),
            ("1000000/s burst=1", 1, 1),
            ("1000000/s burst=50", 1, 50),
        ] {
            let (r, mut gcra) = (rate(text), Gcra::default());
            gcra.take(r, at(0), u32::MAX);
            assert_eq!(
                (gcra.next(r, at(0)), gcra.worth_waking(r, at(0))),
                (at(first), at(wake)),
                "{text}"
            );
        }
    }

    #[test]
    fn another_rate_does_not_wait_for_the_last() {
        let mut gcra = Gcra::default();
        assert_eq!(gcra.take(rate("1/h"), at(0), 1), 1);
        assert_eq!(gcra.next(rate("10/s burst=1"), at(1)), at(100_001));
        assert!(!gcra.is_idle(at(3_599_999_999)) && gcra.is_idle(at(3_600_000_000)));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for r in ["1/365d burst=4294967295", "1000000000/s", "1/s"].map(rate) {
            for now in [i64::MIN, 0, i64::MAX].map(Timestamp::from_micros) {
                let mut gcra = Gcra::default();
                assert!(gcra.take(r, now, u32::MAX) > 0);
                let _ = gcra.next(r, now);
                gcra.give_back(r, u32::MAX);
            }
        }
    }

    proptest! {
        /// No window holds more starts than the burst and what its length is worth, nobody waits longer than
        /// that, and `next` names the very first instant.
        #[test]
        fn no_window_has_too_many_and_nobody_waits_too_long(
            count in 1..2_000u32,
            per in 1..100_000u64,
            burst in 1..50u32,
            steps in prop::collection::vec((0..200_000i64, 0..30u32, 0..5u32), 1..60),
        ) {
            let r = Rate::new(count, Duration::from_millis(per)).unwrap().with_burst(burst).unwrap();
            let (mut gcra, mut now, mut starts) = (Gcra::default(), 0, Vec::new());
            for (step, want, back) in steps {
                now += step;
                let got = gcra.take(r, at(now), want);
                let back = back.min(got);
                gcra.give_back(r, back);
                starts.push((now, i64::from(got - back)));
                let next = gcra.next(r, at(now));
                prop_assert_eq!(next > at(now), gcra.clone().take(r, at(now), 1) == 0);
                prop_assert!(gcra.clone().take(r, next, 1) == 1, "there is one when it says");
                if next > at(now) {
                    let before = Timestamp::from_micros(next.as_micros() - 1);
                    prop_assert_eq!(gcra.clone().take(r, before, 1), 0, "and none before");
                }
            }
            for (i, (from, _)) in starts.iter().enumerate() {
                let mut sum = 0;
                for (to, n) in &starts[i..] {
                    sum += n;
                    let even = (to - from) * 1000 / r.gap();
                    prop_assert!(sum <= i64::from(burst) + even, "{} in {} us", sum, to - from);
                }
            }
        }
    }
}
