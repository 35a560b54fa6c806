//! Additive increase, multiplicative decrease (D.-M. Chiu and R. Jain, 1989): what TCP shares a line by.
//!
//! A round is as many answers as may run at once. A round without a sign of too much load, in which the limit
//! was used, earns one more (or twice as many, until the first such sign); one with it costs a share. Such a sign is an answer
//! that says so, or that attempts took a fifth longer than at rest, and more than chance explains. What they take at rest is learned: the
//! shortest round so far, which rises slowly, so that work that has become longer for good is not held to be
//! load for ever. Times are compared by their logarithms: run times that are of two sorts, or have a long tail,
//! then move the mean of a round by little, and how much is known from their spread.

use super::{Adaptive, Sample, is_used};

/// Longer than at rest by this factor, beyond what chance explains, is a sign of load.
const TOLERANCE: f64 = 1.2;
/// How much of the limit stays after a sign of load.
const KEPT: f64 = 0.75;
/// How much of the way to a shorter round the time at rest goes at once: not all of it, or it would end up as
/// short as the luckiest round of all.
const FALL: f64 = 0.25;
/// How much of the way to a longer round it goes.
const RISE: f64 = 0.01;
/// The fewest answers that make a round: the fewer, the less of a longer time is more than chance.
const FEWEST: u32 = 100;
/// The same where enough of them say that it is too much, which is no matter of chance.
const FEWEST_STRAINED: u32 = 30;

/// What it has learned.
#[derive(Clone, Debug)]
pub(super) struct Aimd {
    limit: f64,
    /// Whether there has been no sign of load yet.
    fresh: bool,
    /// Answers to let pass, because they belong to the limit before.
    settle: u32,
    /// The time at rest, as a logarithm.
    rest: Option<f64>,
    round: Round,
}

/// What was seen in a round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    answers: u32,
    strained: u32,
    used: u32,
    sum: f64,
    squares: f64,
}

impl Aimd {
    pub(super) fn new(limit: f64) -> Self {
        Self {
            limit,
            fresh: true,
            settle: 0,
            rest: None,
            round: Round::default(),
        }
    }

    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    pub(super) fn sample(&mut self, adaptive: &Adaptive, sample: &Sample) {
        if self.settle > 0 {
            self.settle -= 1;
            return;
        }
        self.round.add(sample, self.limit as usize);
        let whole = (self.limit as u32).max(FEWEST);
        let strained = self.round.strained * 10 > (self.limit as u32).max(FEWEST_STRAINED);
        if self.round.answers < whole && !strained {
            return;
        }
        let round = std::mem::take(&mut self.round);
        let before = self.limit;
        if self.is_loaded(&round) {
            self.fresh = false;
            self.limit *= KEPT;
        } else if round.used * 2 > round.answers {
            self.limit += if self.fresh { self.limit } else { 1.0 };
        }
        self.limit = adaptive.clamp(self.limit);
        if self.limit != before {
            self.settle = before as u32;
        }
    }

    /// Whether the round shows too much load; learns from it what attempts take at rest.
    fn is_loaded(&mut self, round: &Round) -> bool {
        let (mean, doubt) = round.mean();
        let rest = self.rest.map_or(mean, |rest| {
            let share = if mean < rest { FALL } else { RISE };
            rest + share * (mean - rest)
        });
        self.rest = Some(rest);
        // One in ten, so that a single slow answer of a small round is not enough.
        round.strained * 10 > round.answers || mean - rest > TOLERANCE.ln() + 2.0 * doubt
    }
}

impl Round {
    fn add(&mut self, sample: &Sample, limit: usize) {
        let log = (sample.took.as_secs_f64().max(1e-6)).ln();
        self.answers += 1;
        self.strained += u32::from(sample.answer.is_strain());
        self.used += u32::from(is_used(sample.inflight, limit));
        self.sum += log;
        self.squares += log * log;
    }

    /// The mean of the logarithms, and how far it may be off by chance.
    fn mean(&self) -> (f64, f64) {
        let n = f64::from(self.answers);
        let mean = self.sum / n;
        let variance = (self.squares / n - mean * mean).max(0.0);
        (mean, (variance / n).sqrt())
    }
}
