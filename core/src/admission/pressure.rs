//! How full a queue is, in one figure from 0 to 1, and the two marks at which somebody is told.

/// What of a queue is counted, and its bound; 0 is without bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fill {
    /// How much there is.
    pub used: usize,
    /// How much there may be.
    pub most: usize,
}

impl Fill {
    /// The share that is used; 0 without bound.
    #[must_use]
    pub fn share(self) -> f64 {
        match self.most {
            0 => 0.0,
            most => self.used as f64 / most as f64,
        }
    }
}

/// The greatest of what is used of the jobs and bytes that may wait, and of `delay`, how much of the longest
/// allowed wait the jobs have waited.
#[must_use]
pub fn pressure(jobs: Fill, bytes: Fill, delay: f64) -> f64 {
    jobs.share().max(bytes.share()).max(delay).clamp(0.0, 1.0)
}

/// Where a host is told that a queue fills up, and that it has emptied again. The gap between the two keeps a
/// queue that hovers at one of them from telling it again and again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Watermarks {
    /// The pressure that is high.
    pub high: f64,
    /// The pressure that is low again.
    pub low: f64,
}

/// The mark that a queue has crossed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// The high one, upwards.
    High,
    /// The low one, downwards.
    Low,
}

impl Watermarks {
    /// What has been crossed at this pressure by a queue that was last said to be `high`, or not.
    #[must_use]
    pub fn crossed(&self, high: bool, pressure: f64) -> Option<Crossing> {
        if !high && pressure >= self.high {
            Some(Crossing::High)
        } else if high && pressure <= self.low {
            Some(Crossing::Low)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pressure_is_the_greatest_share() {
        let fill = |used, most| Fill { used, most };
        for (jobs, bytes, delay, want) in [
            (fill(5, 0), fill(5, 0), 0.0, 0.0),
            (fill(5, 10), fill(5, 100), 0.0, 0.5),
            (fill(5, 10), fill(80, 100), 0.7, 0.8),
            (fill(5, 10), fill(8, 0), 0.7, 0.7),
            (fill(20, 10), fill(0, 0), 0.0, 1.0),
            (fill(0, 10), fill(0, 10), 3.0, 1.0),
        ] {
            assert_eq!(pressure(jobs, bytes, delay), want);
        }
    }

    proptest! {
        /// The marks are told in turns, each only at a pressure that is beyond it.
        #[test]
        fn marks_take_turns(levels in prop::collection::vec(0.0..1.0f64, 1..100)) {
            let marks = Watermarks { high: 0.8, low: 0.5 };
            let (mut high, mut told) = (false, Vec::new());
            for level in levels {
                if let Some(crossing) = marks.crossed(high, level) {
                    let upwards = crossing == Crossing::High;
                    prop_assert!(!upwards || level >= 0.8);
                    prop_assert!(upwards || level <= 0.5);
                    high = crossing == Crossing::High;
                    told.push(crossing);
                }
                prop_assert!(!high || level > 0.5);
                prop_assert!(high || level < 0.8);
            }
            prop_assert!(told.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
