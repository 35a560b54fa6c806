//! What a push does when its queue is full: the policies, and which step each of them takes.

use std::time::Duration;

use crate::config::OptionValue;
use crate::error::{Error, Result};
use crate::outcome::ShedReason;
use crate::time::{format_duration, parse_duration};

/// What a push does when the queue is full.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum OnFull {
    /// The push fails at once and the job comes back with the error.
    Reject,
    /// The push waits this long for room, then fails.
    Block(Duration),
    /// The newcomer is shed.
    DropNewest,
    /// The job that has been ready longest is shed to make room; where jobs have concurrency keys, the first of
    /// a key that has many.
    DropOldest,
    /// The first job of the lowest priority is shed to make room; the newcomer, if none has a lower one than it.
    DropLowest,
    /// The first job with the newcomer's concurrency key is shed to make room; if there is none, the push fails.
    Coalesce,
    /// This share of the newcomers, from 0 to 1, is let in as [`OnFull::DropOldest`] does; the others are shed.
    Sample(f64),
    /// There is no bound: what is above it waits in the file only. Only where there is a file.
    Spill,
}

impl OnFull {
    /// The names without what stands in brackets, for messages.
    const NAMES: &'static str =
        "reject, block(5s), drop_newest, drop_oldest, drop_lowest, coalesce, sample(0.1) or spill";

    /// How long a push waits for room; `None` for not at all.
    #[must_use]
    pub fn patience(self) -> Option<Duration> {
        match self {
            OnFull::Block(patience) => Some(patience),
            _ => None,
        }
    }

    /// What to do with a newcomer that found the queue full. `random` is uniform in 0..1.
    #[must_use]
    pub fn step(self, random: f64) -> Overflow {
        match self {
            OnFull::Reject | OnFull::Block(_) | OnFull::Spill => Overflow::Refuse,
            OnFull::DropNewest => Overflow::ShedNewcomer(ShedReason::Newest),
            OnFull::DropOldest => Overflow::MakeRoom(ShedReason::Oldest),
            OnFull::DropLowest => Overflow::MakeRoom(ShedReason::Lowest),
            OnFull::Coalesce => Overflow::MakeRoom(ShedReason::Coalesced),
            OnFull::Sample(share) if random < share => Overflow::MakeRoom(ShedReason::Oldest),
            OnFull::Sample(_) => Overflow::ShedNewcomer(ShedReason::Sampled),
        }
    }

    /// What to do with a newcomer for whom no job could be shed.
    #[must_use]
    pub fn otherwise(self) -> Overflow {
        match self {
            OnFull::DropLowest => Overflow::ShedNewcomer(ShedReason::Lowest),
            OnFull::DropOldest | OnFull::Sample(_) => Overflow::ShedNewcomer(ShedReason::Newest),
            _ => Overflow::Refuse,
        }
    }

    /// Whether it has another way than to refuse a newcomer that finds the queue full.
    #[must_use]
    pub fn yields(self) -> bool {
        !matches!(self, OnFull::Reject | OnFull::Spill)
    }

    /// Whether it takes out jobs that wait.
    #[must_use]
    pub fn evicts(self) -> bool {
        !matches!(
            self,
            OnFull::Reject | OnFull::Block(_) | OnFull::Spill | OnFull::DropNewest
        )
    }

    pub(crate) fn check(self) -> Result<()> {
        match self {
            OnFull::Sample(share) if !(0.0..=1.0).contains(&share) => Err(Error::invalid(format!(
                "on_full is sample({share}); the share must be from 0 to 1"
            ))),
            _ => Ok(()),
        }
    }
}

/// What becomes of a newcomer that found the queue full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// It is not accepted.
    Refuse,
    /// It is accepted and shed.
    ShedNewcomer(ShedReason),
    /// A job that waits is shed for it, for this reason.
    MakeRoom(ShedReason),
}

impl OptionValue for OnFull {
    const FORM: &'static str = "`reject`, `block(5s)`, `drop_newest`, `drop_oldest`, `drop_lowest`, `coalesce`, \
                                `sample(0.1)` or `spill`";

    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let of = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(patience) = of("block") {
            return parse_duration(patience).map(OnFull::Block);
        }
        if let Some(share) = of("sample") {
            let share = f64::read(share)?;
            OnFull::Sample(share).check().map_err(|e| e.to_string())?;
            return Ok(OnFull::Sample(share));
        }
        let plain = [
            OnFull::Reject,
            OnFull::DropNewest,
            OnFull::DropOldest,
            OnFull::DropLowest,
            OnFull::Coalesce,
            OnFull::Spill,
        ];
        let found = plain.into_iter().find(|policy| policy.write() == text);
        found.ok_or_else(|| format!("{text:?} is not one of {}", Self::NAMES))
    }

    fn write(&self) -> String {
        match self {
            OnFull::Reject => "reject".into(),
            OnFull::Block(d) => format!("block({})", format_duration(*d)),
            OnFull::DropNewest => "drop_newest".into(),
            OnFull::DropOldest => "drop_oldest".into(),
            OnFull::DropLowest => "drop_lowest".into(),
            OnFull::Coalesce => "coalesce".into(),
            OnFull::Sample(share) => format!("sample({share})"),
            OnFull::Spill => "spill".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [OnFull; 8] = [
        OnFull::Reject,
        OnFull::Block(Duration::from_secs(5)),
        OnFull::DropNewest,
        OnFull::DropOldest,
        OnFull::DropLowest,
        OnFull::Coalesce,
        OnFull::Sample(0.25),
        OnFull::Spill,
    ];

    #[test]
    fn every_policy_is_read_back() {
        for policy in ALL {
            assert_eq!(OnFull::read(&policy.write()), Ok(policy));
        }
        for bad in [
            "",
            "drop",
            "block",
            "block(5)",
            "sample",
            "sample(2)",
            "sample(x)",
            "sample(NaN)",
        ] {
            assert!(OnFull::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sample_lets_in_its_share() {
        let policy = OnFull::Sample(0.25);
        assert_eq!(policy.step(0.2), Overflow::MakeRoom(ShedReason::Oldest));
        assert_eq!(policy.step(0.25), Overflow::ShedNewcomer(ShedReason::Sampled));
        assert_eq!(
            OnFull::Sample(0.0).step(0.0),
            Overflow::ShedNewcomer(ShedReason::Sampled)
        );
        assert_eq!(
            OnFull::Sample(1.0).step(0.999),
            Overflow::MakeRoom(ShedReason::Oldest)
        );
    }

    #[test]
    fn who_can_make_no_room_refuses_or_sheds_the_newcomer() {
        for policy in ALL {
            let makes_room = matches!(policy.step(0.0), Overflow::MakeRoom(_));
            assert_eq!(makes_room, policy.evicts(), "{policy:?}");
            assert!(
                !matches!(policy.otherwise(), Overflow::MakeRoom(_)),
                "it would never end"
            );
        }
        assert_eq!(
            OnFull::Coalesce.otherwise(),
            Overflow::Refuse,
            "another key's job is not given up for it"
        );
    }
}
