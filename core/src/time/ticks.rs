//! Nanoseconds on the system's monotonic clock, at half the price of asking it.
//!
//! Every push and every finish reads the clock. The kernel answers from the processor's counter of ticks, and
//! most of its answer's price is that it must be exact. Here each thread asks the kernel about once per
//! millisecond, and in between counts ticks at the rate at which they came last.
//!
//! A reading is within a microsecond of the kernel's. It errs to the past, because ticks are counted a little
//! slower than they were seen to come, and it never goes back in a thread. Where the kernel itself does not
//! trust the counter, or as long as the counter does not keep its pace, each reading is the kernel's. What else
//! was weighed: `docs/decisions/0007-the-clock-counts-ticks.md`.

use std::cell::Cell;

/// What a thread has seen of the counter and of the clock.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Anchor {
    ticks: u64,
    nanos: i64,
    /// Nanoseconds in 2^32 ticks, a little fewer than were seen.
    rate: u64,
    /// For how many ticks the anchor holds: about as many as come in [`SPAN`]; 0 if the rate is not known.
    span: u64,
}

/// How many nanoseconds an anchor holds, and the fewest from which a rate is taken.
const SPAN: i64 = 1_000_000;
/// The most nanoseconds from which a rate is taken: in a longer time the machine may have slept.
const LONGEST: i64 = 1_000_000_000;
/// Ticks are counted slower by one part in this many, so that a reading is not ahead of the clock.
const SLOWER: u64 = 4096;
/// The most ticks for which an anchor holds, however slowly they seem to come: no counter is quicker than one that
/// makes so many in [`SPAN`]. Seen over a sleep of the machine that the clock leaves out, the first rate is wrong.
const MOST: u64 = 10_000_000;
/// A rate that differs by more than one part in this many from the last one is not trusted.
const STEADY: u64 = 1000;

impl Anchor {
    const NONE: Self = Self {
        ticks: 0,
        nanos: i64::MIN,
        rate: 0,
        span: 0,
    };

    /// The time at this count of ticks; `None` if the anchor does not hold there.
    #[inline]
    fn read(&self, ticks: u64) -> Option<i64> {
        let passed = ticks.wrapping_sub(self.ticks);
        (passed < self.span).then(|| self.at(passed))
    }

    /// The time so many ticks later, at most `span`: the product is at most that of span and rate, a millisecond
    /// in 2^32nds of a nanosecond.
    #[inline]
    fn at(&self, passed: u64) -> i64 {
        self.nanos + ((passed * self.rate) >> 32) as i64
    }

    /// What is known once the clock said `nanos` at this count of ticks.
    fn renew(&self, ticks: u64, nanos: i64) -> Self {
        let (passed, took) = (ticks.wrapping_sub(self.ticks), nanos.saturating_sub(self.nanos));
        if self.nanos != i64::MIN && self.span == 0 && took < SPAN {
            // Too early to tell the rate.
            return *self;
        }
        // Never before what was read last.
        let nanos = match self.span {
            0 => nanos,
            span => nanos.max(self.at(passed.min(span))),
        };
        let rate = self.rate_after(passed, took).unwrap_or(0);
        let span = match rate {
            0 => 0,
            rate => (((SPAN as u64) << 32) / rate).min(MOST),
        };
        Self {
            ticks,
            nanos,
            rate,
            span,
        }
    }

    /// The rate to go on with after so many ticks, which took so many nanoseconds; `None` if it has to be found.
    fn rate_after(&self, passed: u64, took: i64) -> Option<u64> {
        if took >= LONGEST {
            return Some(self.rate);
        }
        let took = u128::try_from(took).ok()?;
        let rate = u64::try_from((took << 32).checked_div(passed.into())?).ok()?;
        let rate = rate - rate / SLOWER;
        let steady = self.rate == 0 || rate.abs_diff(self.rate) <= self.rate / STEADY;
        steady.then_some(rate)
    }
}

thread_local! {
    static ANCHOR: Cell<Anchor> = const { Cell::new(Anchor::NONE) };
}

/// The time, in nanoseconds of the clock that `exact` reads: the same one in every call.
#[inline]
pub(super) fn nanos(exact: fn() -> i64) -> i64 {
    let anchor = ANCHOR.get();
    match anchor.read(counter()) {
        Some(nanos) => nanos,
        None => renewed(anchor, exact),
    }
}

#[cold]
fn renewed(anchor: Anchor, exact: fn() -> i64) -> i64 {
    if !trusted() {
        return exact();
    }
    let before = counter();
    let nanos = exact();
    let ticks = counter();
    // Whoever was interrupted between the two does not know which belongs to which.
    if ticks.wrapping_sub(before) > 1000 {
        return nanos.max(anchor.at(anchor.span));
    }
    let anchor = anchor.renew(ticks, nanos);
    ANCHOR.set(anchor);
    nanos.max(anchor.nanos)
}

/// Whether the counter runs at one rate on all processors: the kernel has found out, and uses it if so.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn trusted() -> bool {
    static TRUSTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *TRUSTED.get_or_init(|| {
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        std::fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc")
    })
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[inline]
fn counter() -> u64 {
    // SAFETY: every processor of this architecture has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn trusted() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[inline]
fn counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks of a third of a nanosecond, seen from the start.
    fn anchored() -> Anchor {
        let first = Anchor::NONE.renew(100, 5_000);
        assert_eq!((first.span, first.read(100)), (0, None), "there is no rate yet");
        assert_eq!(first.renew(400, 5_100), first, "too early for a rate");
        first.renew(100 + 6_000_000, 5_000 + 2 * SPAN)
    }

    #[test]
    fn ticks_are_counted_at_the_rate_they_came() {
        let anchor = anchored();
        let start = 5_000 + 2 * SPAN;
        assert_eq!(anchor.read(anchor.ticks), Some(start));
        let read = anchor.read(anchor.ticks + 2_400_000).unwrap();
        assert!((start + 799_800..=start + 800_000).contains(&read), "{read}");
        assert_eq!(
            anchor.read(anchor.ticks + 3_100_000),
            None,
            "it holds for a millisecond"
        );
        assert_eq!(anchor.read(anchor.ticks - 1), None, "nor before");
    }

    #[test]
    fn a_counter_that_changes_its_pace_is_not_trusted() {
        let anchor = anchored();
        let same = anchor.renew(anchor.ticks + 4_500_000, anchor.nanos + 1_500_000);
        assert_eq!((same.rate, same.span > 0), (anchor.rate, true));
        for ticks in [4_000_000, 5_000_000, 0] {
            let other = anchor.renew(anchor.ticks + ticks, anchor.nanos + 1_500_000);
            assert_eq!((other.rate, other.span), (0, 0), "{ticks}");
        }
        let slept = anchor.renew(anchor.ticks + 7, anchor.nanos + 60 * LONGEST);
        assert_eq!(
            slept.rate, anchor.rate,
            "a machine that slept says nothing of the rate"
        );
    }

    /// An hour of ticks, of which the clock saw two milliseconds.
    #[test]
    fn a_rate_seen_over_a_sleep_does_not_hold_for_long() {
        let first = Anchor::NONE.renew(100, 5_000);
        let slept = first.renew(100 + 3 * 3_600_000_000_000, 5_000 + 2 * SPAN);
        assert_eq!(
            slept.read(slept.ticks + 30_000_000),
            None,
            "ten milliseconds later"
        );
        let next = slept.renew(slept.ticks + 30_000_000, slept.nanos + 10_000_000);
        assert_eq!(
            (next.nanos, next.span),
            (slept.nanos + 10_000_000, 0),
            "to be found anew"
        );
    }

    #[test]
    fn time_never_goes_back() {
        let anchor = anchored();
        let last = anchor.read(anchor.ticks + anchor.span - 1).unwrap();
        let next = anchor.renew(anchor.ticks + anchor.span, last - 300);
        assert!(next.nanos >= last);
        let mut before = 0;
        for _ in 0..1_000_000 {
            let now = nanos(crate::time::monotonic);
            assert!(now >= before);
            before = now;
        }
    }

    #[test]
    fn a_reading_is_the_clocks() {
        let mut seen = 0;
        for _ in 0..200_000 {
            let before = crate::time::monotonic();
            let now = nanos(crate::time::monotonic);
            let after = crate::time::monotonic();
            assert!(
                before - 2_000 <= now && now <= after + 2_000,
                "{before} {now} {after}"
            );
            seen += usize::from(ANCHOR.get().span > 0);
        }
        assert!(seen > 0 || !trusted(), "the counter is used");
    }
}
