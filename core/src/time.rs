//! Instants and clocks. This is the only module that asks the system for the time.
//!
//! Everything else takes `now` as an argument, so that tests move time by
//! [`ManualClock::advance`] and never sleep.

mod ticks;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: microseconds since the Unix epoch, UTC.
///
/// Arithmetic saturates, so no delay, however large, can overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// The last instant there is; as a deadline it means *never*.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// The instant that is `us` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(us: i64) -> Self {
        Self(us)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The instant `delay` later (saturating).
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long from `earlier` to this instant; zero if it is not later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Timestamp::MAX => f.write_str("never"),
            Timestamp(us) => write!(f, "{}.{:06}s", us.div_euclid(1_000_000), us.rem_euclid(1_000_000)),
        }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(t: SystemTime) -> Self {
        match t.duration_since(UNIX_EPOCH) {
            Ok(d) => Timestamp::EPOCH.after(d),
            Err(e) => Self(-i64::try_from(e.duration().as_micros()).unwrap_or(i64::MAX)),
        }
    }
}

/// Where `now` comes from, and how a thread waits for a later `now`.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant. Never goes backwards.
    fn now(&self) -> Timestamp;

    /// Whether time moves by itself. A clock that does not (a test's) has no upkeep thread:
    /// whoever moves it runs the upkeep.
    fn runs(&self) -> bool {
        true
    }

    /// Moves the clock forward, if it can be moved; says whether.
    fn step(&self, _by: Duration) -> bool {
        false
    }
}

/// The system's clock: the wall clock as it was when the process first asked, plus monotonic time since.
///
/// Steps of the wall clock therefore never move a job: delays, leases and timeouts are honoured in
/// elapsed time. The wall clock is read again when the process starts again.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        static OFFSET: OnceLock<i64> = OnceLock::new();
        let offset = OFFSET.get_or_init(|| wall().0 - monotonic() / 1000);
        // Nanoseconds since boot fit an `i64` for three centuries, and one division makes microseconds of them.
        Timestamp(offset + ticks::nanos(monotonic) / 1000)
    }
}

#[allow(clippy::disallowed_methods)]
fn wall() -> Timestamp {
    SystemTime::now().into()
}

/// Nanoseconds on a clock that only goes forward.
#[cfg(unix)]
#[allow(clippy::unnecessary_cast, reason = "the fields are shorter on some systems")]
fn monotonic() -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` may be written, and this clock exists on every system there is, so that the call, which
    // can fail for no other reason, succeeds.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as i64 * 1_000_000_000 + now.tv_nsec as i64
}

#[cfg(not(unix))]
#[allow(clippy::disallowed_methods)]
fn monotonic() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    i64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(i64::MAX)
}

/// A clock that stands still until it is told to move.
///
/// ```
/// use forebay::{Clock, ManualClock};
/// use std::time::Duration;
/// let clock = ManualClock::new();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now().since(start), Duration::from_secs(5));
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Where a new clock stands: an arbitrary instant in 2023.
    pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

    /// A clock that stands at [`ManualClock::START`].
    #[must_use]
    pub fn new() -> Self {
        Self::at(Self::START)
    }

    /// Where every clock ends: before [`Timestamp::MAX`], because what is due *never* is not to become due.
    const END: Timestamp = Timestamp(i64::MAX - 1);

    /// A clock that stands at `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.min(Self::END).as_micros()))
    }

    /// Moves the clock forward; from several threads at once, by the sum.
    pub fn advance(&self, by: Duration) {
        let later = |us| Some(Timestamp(us).after(by).min(Self::END).as_micros());
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn runs(&self) -> bool {
        false
    }

    fn step(&self, by: Duration) -> bool {
        self.advance(by);
        true
    }
}

/// When a blocking call gives up, in real (not job) time.
///
/// Host threads block in real time even when jobs live on a [`ManualClock`].
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Never give up.
    pub const NEVER: Deadline = Deadline(None);

    /// Give up after `timeout` from now; a timeout too long to represent is never.
    #[must_use]
    #[allow(clippy::disallowed_methods)]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// As [`Deadline::after`], where `None` is never.
    #[must_use]
    pub fn maybe(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::NEVER, Self::after)
    }

    /// The instant, unless it is never.
    #[must_use]
    pub fn instant(self) -> Option<Instant> {
        self.0
    }

    /// How long is left: zero when it has passed, `None` when it is never.
    #[must_use]
    #[allow(clippy::disallowed_methods)]
    pub fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// This one, or `time` from now if that is later.
    pub(crate) fn at_least(self, time: Duration) -> Self {
        match self.left() {
            Some(left) if left < time => Self::after(time),
            _ => self,
        }
    }

    /// This one, or `time` from now if that is sooner.
    #[must_use]
    pub(crate) fn at_most(self, time: Duration) -> Self {
        match (self.0, Self::after(time).0) {
            (Some(own), Some(other)) => Self(Some(own.min(other))),
            (own, other) => Self(own.or(other)),
        }
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}

/// The units of durations, longest first, each in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("ns", 1),
];

/// A duration written with its unit: `250ms`, `5s`, `1.5m`, `2h`, `7d`, `10us`, `1ns`. A whole number of
/// units is read exactly, however long.
///
/// A bare number is refused: nobody can tell whether `5` means seconds or milliseconds.
///
/// # Errors
/// A sentence that names the text and the mend.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit.trim() {
        "" => {
            return Err(format!(
                "{text:?} has no unit; write for example \"{text}s\" or \"{text}ms\""
            ));
        }
        "min" => "m",
        unit => unit,
    };
    let Some((_, size)) = UNITS.into_iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "{text:?} has the unknown unit {unit:?}; use ns, us, ms, s, m, h or d"
        ));
    };
    let out_of_range = || format!("{text:?} is out of range");
    if let Ok(count) = number.parse::<u128>() {
        let nanos = count.checked_mul(size.into()).ok_or_else(out_of_range)?;
        return from_nanos(nanos).ok_or_else(out_of_range);
    }
    let value: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a duration; write for example \"30s\""))?;
    let seconds = value * (size as f64 / 1e9);
    Duration::try_from_secs_f64(seconds).map_err(|_| out_of_range())
}

/// The shortest text in one unit that [`parse_duration`] reads back as `d`.
#[must_use]
pub fn format_duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let fits = |(_, size): &(&str, u64)| nanos.is_multiple_of((*size).into());
    let (unit, size) = UNITS.into_iter().find(fits).unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / u128::from(size))
}

/// `None` for more than a [`Duration`] can hold.
fn from_nanos(nanos: u128) -> Option<Duration> {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / SECOND).ok()?;
    Some(Duration::new(seconds, (nanos % SECOND) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration(" 1.5m "), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("5").unwrap_err().contains("no unit"));
        assert!(parse_duration("5 parsecs").unwrap_err().contains("unknown unit"));
        for bad in ["", "s", "-1s", "1e9d", "999999999999999999999d", "..s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_round_trip() {
        for us in [
            0,
            1,
            999,
            1000,
            1_500_000,
            60_000_000,
            86_400_000_000,
            3_600_000_001,
        ] {
            let d = Duration::from_micros(us);
            assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }
        for (ns, text) in [(0, "0s"), (1, "1ns"), (1500, "1500ns"), (90_000_000_000, "90s")] {
            assert_eq!(format_duration(Duration::from_nanos(ns)), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_duration_round_trips(seconds in 0..=u64::MAX, nanos in 0..1_000_000_000u32, zeros in 0..64u32) {
            let d = Duration::new(seconds >> zeros, nanos);
            proptest::prop_assert_eq!(parse_duration(&format_duration(d)), Ok(d));
            let d = Duration::from_secs(seconds >> zeros);
            proptest::prop_assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::from_micros(-1).as_millis(), -1);
    }

    #[test]
    fn a_manual_clock_never_reaches_never() {
        for clock in [ManualClock::new(), ManualClock::at(Timestamp::MAX)] {
            clock.advance(Duration::MAX);
            clock.advance(Duration::MAX);
            assert!(clock.now() < Timestamp::MAX);
        }
    }

    #[test]
    fn a_manual_clock_is_moved_by_several_threads_at_once() {
        let clock = ManualClock::at(Timestamp::EPOCH);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..20_000).for_each(|_| clock.advance(Duration::from_micros(1))));
            }
        });
        assert_eq!(clock.now(), Timestamp::from_micros(40_000));
    }

    #[test]
    fn system_clock_does_not_go_backwards() {
        let a = SystemClock.now();
        let b = SystemClock.now();
        assert!(b >= a);
    }
}
