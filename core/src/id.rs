//! Job ids: UUID version 7, made by the pusher, growing within a thread.
//!
//! The pusher makes the id so that a push whose answer was lost can be repeated safely. The layout is
//! RFC 9562: 48 bits of milliseconds, then 74 bits that here start at a random number per thread and
//! count up, so that two ids of one thread are ordered and two threads do not meet.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::str::FromStr;

use crate::error::Error;
use crate::fork::Birth;
use crate::time::Timestamp;

/// The id of a job: a UUID (version 7 when Forebay made it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u128);

impl JobId {
    /// The id that no job has.
    pub const NIL: JobId = JobId(0);

    /// A new id, larger than every id this thread made before, unless the clock `now` is from a
    /// different clock.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        thread_local! {
            static LAST: Cell<(Birth, u64, u128)> = Cell::new((Birth::here(), 0, seed()));
        }
        LAST.with(|last| {
            let (birth, ms, mut count) = last.get();
            if !birth.is_here() {
                // The child of a fork would otherwise make its parent's ids again.
                count = seed();
            }
            let ms = ms.max(now.as_millis().clamp(0, (1 << 48) - 1) as u64);
            let count = (count + 1) & ((1 << 74) - 1);
            last.set((Birth::here(), ms, count));
            let (high, low) = (count >> 62, count & ((1 << 62) - 1));
            Self(u128::from(ms) << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low)
        })
    }

    /// The id with these 128 bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// The id as 128 bits.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The id with these bytes, most significant first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The id as 16 bytes, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// A random start that leaves room to count for ever: the top bit of the 74 is clear.
fn seed() -> u128 {
    let state = RandomState::new();
    u128::from(state.hash_one(1u8)) << 9 ^ u128::from(state.hash_one(2u8)) & ((1 << 73) - 1)
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (v >> 96) as u32,
            (v >> 80) as u16,
            (v >> 64) as u16,
            (v >> 48) as u16,
            v & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Reads the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, or the same without hyphens.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("{text:?} is not a job id; it must be a UUID"));
        let hex: String = match text.len() {
            32 => text.to_owned(),
            36 if [8, 13, 18, 23].iter().all(|&i| text.as_bytes()[i] == b'-') => text.replace('-', ""),
            _ => return Err(bad()),
        };
        if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(&hex, 16).map(Self).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_grow() {
        let now = Timestamp::from_micros(1_700_000_000_123_456);
        let ids: Vec<JobId> = (0..1000).map(|_| JobId::new(now)).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
        for id in &ids {
            assert_eq!(id.as_u128() >> 80, 1_700_000_000_123);
            assert_eq!(id.as_u128() >> 76 & 0xf, 7);
            assert_eq!(id.as_u128() >> 62 & 0b11, 0b10);
        }
        assert!(
            JobId::new(Timestamp::EPOCH) > ids[999],
            "a clock that goes back does not disorder ids"
        );
    }

    #[test]
    fn threads_do_not_meet() {
        let now = Timestamp::from_micros(1);
        let make = move || (0..10_000).map(|_| JobId::new(now)).collect::<Vec<_>>();
        let other = std::thread::spawn(make);
        let mut all = make();
        all.extend(other.join().unwrap());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 20_000);
    }

    #[test]
    fn text_round_trips() {
        let id = JobId::new(Timestamp::from_micros(1_700_000_000_000_000));
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert_eq!(id.to_string().replace('-', "").parse::<JobId>().unwrap(), id);
        for bad in [
            "",
            "a12",
            "0190-",
            "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz",
            "+0000000000000000000000000000001",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
