//! How many retries there may be: a share of fresh work, so that a dead dependency does not double its load.
//!
//! Every first attempt that starts pays in a share of a retry, every retry that starts takes out a whole one. A
//! floor of so many in some time keeps retries alive where there is little fresh work. The idea is Finagle's
//! (`RetryBudget`); what is saved up is bounded by a number instead of by age.

use std::fmt;

use super::call::Call;
use super::rate::{Gcra, Rate};
use crate::config::OptionValue;
use crate::time::Timestamp;

/// How many retries may start: `share(0.2)`, or with a floor `share(0.2, floor=1/s)`.
///
/// No more than a hundred retries are ever saved up, so in any time there are at most
/// `100 + share * fresh starts + floor * time` of them, and the burst of the floor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryBudget {
    share: f64,
    floor: Option<Rate>,
}

impl RetryBudget {
    /// The most retries that are saved up.
    pub const CAP: u32 = 100;

    /// Retries for this share of fresh starts.
    ///
    /// # Errors
    /// A sentence, for a share that is not between 0 and 10.
    pub fn share(share: f64) -> Result<Self, String> {
        if (0.0..=10.0).contains(&share) {
            Ok(Self { share, floor: None })
        } else {
            Err(format!(
                "the share {share} is not between 0 and 10; 0.2 is one retry for five fresh starts"
            ))
        }
    }

    /// And so many in any case.
    #[must_use]
    pub fn with_floor(self, floor: Rate) -> Self {
        Self {
            floor: Some(floor),
            ..self
        }
    }

    /// What one fresh start pays in.
    fn deposit(&self) -> u64 {
        (self.share * ONE as f64).round() as u64
    }
}

impl fmt::Display for RetryBudget {
    /// The text that is read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share({}", self.share)?;
        if let Some(floor) = self.floor {
            write!(f, ", floor={floor}")?;
        }
        f.write_str(")")
    }
}

impl OptionValue for Option<RetryBudget> {
    const FORM: &'static str = "`share(0.2)`, `share(0.2, floor=1/s)` or `none`";
    fn read(text: &str) -> Result<Self, String> {
        let mut call = Call::read(text)?;
        let number = |t: &str| t.parse().map_err(|_| format!("{t:?} is not a number"));
        let budget = match call.name {
            "none" => None,
            "share" => {
                let share = call.next(number)?;
                let share = share.ok_or("give the share, for example share(0.2)")?;
                let floor = call.named("floor", str::parse)?;
                Some(RetryBudget {
                    floor,
                    ..RetryBudget::share(share)?
                })
            }
            _ => {
                return Err(format!(
                    "{text:?} is neither \"none\" nor for example \"share(0.2, floor=1/s)\""
                ));
            }
        };
        call.end()?;
        Ok(budget)
    }
    fn number(share: f64) -> Result<Self, String> {
        RetryBudget::share(share).map(Some)
    }
    fn write(&self) -> String {
        self.map_or_else(|| "none".into(), |budget| budget.to_string())
    }
}

/// One retry, in the millionths that shares are counted in.
const ONE: u64 = 1_000_000;

/// What is left of a [`RetryBudget`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    saved: u64,
    floor: Gcra,
}

impl Budget {
    /// A first attempt starts.
    pub fn deposit(&mut self, budget: &RetryBudget) {
        self.saved = (self.saved + budget.deposit()).min(u64::from(RetryBudget::CAP) * ONE);
    }

    /// A retry wants to start. False if there is nothing left for it.
    pub fn withdraw(&mut self, budget: &RetryBudget, now: Timestamp) -> bool {
        if let Some(left) = self.saved.checked_sub(ONE) {
            self.saved = left;
            return true;
        }
        budget
            .floor
            .is_some_and(|floor| self.floor.take(floor, now, 1) == 1)
    }

    /// When the next retry may start if no fresh work comes: `now` if one may at once, [`Timestamp::MAX`] if it
    /// takes fresh work.
    #[must_use]
    pub fn next(&self, budget: &RetryBudget, now: Timestamp) -> Timestamp {
        match budget.floor {
            _ if self.saved >= ONE => now,
            Some(floor) => self.floor.next(floor, now),
            None => Timestamp::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> RetryBudget {
        <Option<RetryBudget> as OptionValue>::read(text).unwrap().unwrap()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::EPOCH.after(Duration::from_millis(ms))
    }

    #[test]
    fn budgets_are_read_as_written() {
        for text in [
            "share(0.2)",
            "share(0.2, floor=1/s)",
            "share(0, floor=6/m burst=2)",
            "share(1.5)",
        ] {
            assert_eq!(Some(read(text)).write(), text);
        }
        assert_eq!(<Option<RetryBudget>>::read(" none "), Ok(None));
        assert_eq!(<Option<RetryBudget>>::number(0.5), Ok(Some(read("share(0.5)"))));
        for bad in [
            "",
            "share",
            "share()",
            "share(-1)",
            "share(11)",
            "share(NaN)",
            "share(0.1, 2)",
            "share(0.1, roof=1/s)",
            "share(0.1, floor=0/s)",
            "share(0.1",
            "none(1)",
        ] {
            assert!(<Option<RetryBudget>>::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn five_fresh_starts_pay_for_one_retry() {
        let (budget, mut state) = (read("share(0.2)"), Budget::default());
        assert!(!state.withdraw(&budget, at(0)), "nothing is given in advance");
        for _ in 0..4 {
            state.deposit(&budget);
        }
        assert!(!state.withdraw(&budget, at(0)));
        assert_eq!(state.next(&budget, at(0)), Timestamp::MAX);
        state.deposit(&budget);
        assert_eq!(state.next(&budget, at(0)), at(0));
        assert!(state.withdraw(&budget, at(0)) && !state.withdraw(&budget, at(0)));
    }

    #[test]
    fn the_floor_needs_no_fresh_work() {
        let (budget, mut state) = (read("share(0, floor=1/s)"), Budget::default());
        assert!(state.withdraw(&budget, at(0)) && !state.withdraw(&budget, at(999)));
        assert_eq!(state.next(&budget, at(999)), at(1000));
        assert!(state.withdraw(&budget, at(1000)));
    }

    proptest! {
        /// Whatever the order, no more retries start than the budget says, and none is refused below it.
        #[test]
        fn retries_keep_to_the_share(
            steps in prop::collection::vec((any::<bool>(), 0..2_000u64), 1..400),
            share in 0..30u32,
            floor in any::<bool>(),
        ) {
            let mut budget = RetryBudget::share(f64::from(share) / 10.0).unwrap();
            if floor {
                budget = budget.with_floor("1/s".parse().unwrap());
            }
            let (mut state, mut now) = (Budget::default(), 0);
            let (mut fresh, mut retries) = (0u64, 0u64);
            for (is_fresh, step) in steps {
                now += step;
                if is_fresh {
                    fresh += 1;
                    state.deposit(&budget);
                    continue;
                }
                let earned = fresh * u64::from(share);
                let may = state.next(&budget, at(now)) <= at(now);
                let started = state.withdraw(&budget, at(now));
                prop_assert_eq!(may, started);
                retries += u64::from(started);
                let most = earned / 10 + if floor { now / 1000 + 1 } else { 0 };
                prop_assert!(retries <= most, "{} of {}", retries, most);
                prop_assert!(started || (earned / 10).min(100) <= retries, "{} earned, {} started", earned / 10, retries);
            }
        }
    }
}
