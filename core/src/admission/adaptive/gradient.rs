//! Up the slope of what gets done.
//!
//! Netflix' concurrency-limits (Vegas, Gradient2) take the time an attempt needs at rest for known and infer from
//! the present times how far a limit is beyond what is good. Jobs are harder than requests: they are of several
//! sorts, their times drift, and many get slower with every one beside them long before less gets done. So the
//! slope is measured instead, by trials, as PCC Vivace does for a sender (M. Dong et al., NSDI 2018) and as
//! H.-U. Heiss and R. Wagner proposed for transactions (VLDB 1991): a little more, a little less, a little less, a
//! little more; the two sides are compared by what succeeded in their time. A drift is on both sides in equal
//! measure, and so is whatever fails for a reason of its own.
//!
//! Where more does not get more done the limit sinks, until less would get less done: that is the knee, where
//! nothing waits in what is called rather than in the queue. Times in which the limit is not used say nothing.

use super::{Adaptive, Sample, is_used};
use crate::time::Timestamp;

/// How far the two sides of a trial are from the limit between them.
const SWING: f64 = 0.08;
/// By how much (of a doubling for a doubling) what gets done must grow with the limit to be worth it.
const WORTH: f64 = 0.05;
/// How much of the slope is followed after one trial.
const GAIN: f64 = 0.1;
/// The same where less would get more done: what is too much does harm at once, what is too little only waits.
const GAIN_DOWN: f64 = 0.2;
/// How much a new measure of chance counts beside those before.
const HEED: f64 = 0.2;
/// How much one more run time counts beside those before.
const MEMORY: f64 = 1.0 / 256.0;
/// The furthest that one trial moves the limit, as a logarithm.
const STRIDE: f64 = 0.4;
/// The fewest rounds that are counted in one part of a trial; while chance is large they are up to eight times as
/// many. A round is as many answers as may run at once, and more where their times are uneven.
const ROUNDS: f64 = 2.0;
/// The fewest answers that are counted in one part of a trial.
const FEWEST: u32 = 16;
/// The growth that justifies to double the limit again, at the beginning.
const LEAP: f64 = 1.4;
/// How much of the limit stays when what is called says that it is too much.
const KEPT: f64 = 0.7;

/// What it has learned.
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    /// The limit between the two sides of a trial.
    center: f64,
    /// The one of the present part.
    limit: f64,
    phase: Phase,
    window: Window,
    /// Answers that said it is too much, less those that did not.
    strain: u32,
    /// The last step, as a logarithm.
    step: f64,
    /// The square of how far a slope is off by chance, smoothed.
    noise: f64,
    /// How many rounds make one part of a trial at present.
    rounds: f64,
    /// The mean of the run times and of their squares, smoothed.
    times: (f64, f64),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Doubling; what got done in a second at the last limit.
    Leap(Option<f64>),
    /// Comparing.
    Trial(Trial),
}

/// Both sides of a trial: a limit each, and what got done at it in a second, as logarithms, in each part.
#[derive(Clone, Copy, Debug)]
struct Trial {
    low: f64,
    high: f64,
    /// Whether it starts with the high side, which every other one does.
    high_first: bool,
    /// Which part it is at.
    part: usize,
    done: [f64; 4],
}

/// What is counted at one limit.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Answers to let pass, because they belong to the limit before.
    settle: u32,
    began: Option<Timestamp>,
    answers: u32,
    good: u32,
    used: u32,
}

impl Gradient {
    pub(super) fn new(start: f64) -> Self {
        Self {
            center: start,
            limit: start,
            phase: Phase::Leap(None),
            window: Window::default(),
            strain: 0,
            step: 0.0,
            noise: 0.0,
            rounds: ROUNDS,
            times: (0.0, 0.0),
        }
    }

    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    pub(super) fn sample(&mut self, adaptive: &Adaptive, sample: &Sample) {
        if self.is_strained(sample) {
            self.center = adaptive.clamp(self.center.min(self.limit) * KEPT);
            self.step = 0.0;
            return self.try_around(adaptive, true);
        }
        self.time(sample);
        let rounds = match self.phase {
            Phase::Leap(_) => self.unevenness(),
            Phase::Trial(_) => self.unevenness() * self.rounds,
        };
        let counted = self.window.add(sample, self.limit as usize, rounds);
        let Some((good, seconds)) = counted else {
            return;
        };
        match &mut self.phase {
            Phase::Leap(before) => {
                let rate = good / seconds;
                let grown = before.is_none_or(|before| rate > before * LEAP);
                let next = adaptive.clamp(self.limit * 2.0);
                if grown && next > self.limit {
                    *before = Some(rate);
                    self.set(next);
                } else {
                    // What the last doubling was worth is not known: start between.
                    self.center = if grown {
                        self.limit
                    } else {
                        adaptive.clamp(self.limit / 1.4)
                    };
                    self.try_around(adaptive, true);
                }
            }
            Phase::Trial(trial) => {
                // Half an answer more: none at all is not infinitely less than one.
                trial.done[trial.part] = ((good + 0.5) / seconds).ln();
                trial.part += 1;
                let trial = *trial;
                if trial.part < trial.done.len() {
                    self.set(trial.limit());
                } else {
                    self.follow(adaptive, &trial);
                }
            }
        }
    }

    /// Takes a step along the slope that a trial has shown, and begins the next one.
    fn follow(&mut self, adaptive: &Adaptive, trial: &Trial) {
        if let Some((slope, noise)) = trial.slope() {
            self.noise += if self.noise == 0.0 {
                noise
            } else {
                HEED * (noise - self.noise)
            };
            let beyond = slope - WORTH;
            // What chance may have made is followed the less, the likelier that is.
            let sure = beyond.powi(2) / (beyond.powi(2) + self.noise);
            // Two steps in one direction are no chance: the next may be longer.
            let gain = if beyond < 0.0 { GAIN_DOWN } else { GAIN };
            let gain = gain * if beyond * self.step > 0.0 { 2.0 } else { 1.0 };
            self.step = (gain * sure * beyond).clamp(-STRIDE, STRIDE);
            self.center = adaptive.clamp(self.center * self.step.exp());
            self.rounds =
                (self.rounds * if self.noise > 0.1 { 1.25 } else { 0.8 }).clamp(ROUNDS, 8.0 * ROUNDS);
        }
        self.try_around(adaptive, !trial.high_first);
    }

    /// Begins a trial around the present center.
    fn try_around(&mut self, adaptive: &Adaptive, high_first: bool) {
        let low = adaptive.clamp((self.center * (1.0 - SWING)).round());
        let high = adaptive.clamp((self.center * (1.0 + SWING)).round().max(low + 1.0));
        let low = if low < high {
            low
        } else {
            adaptive.clamp(high - 1.0)
        };
        let trial = Trial {
            low,
            high,
            high_first,
            part: 0,
            done: [0.0; 4],
        };
        self.phase = Phase::Trial(trial);
        self.set(trial.limit());
    }

    /// Sets the limit, and lets what was started under the last one end before anything is counted.
    fn set(&mut self, limit: f64) {
        let before = std::mem::replace(&mut self.limit, limit);
        self.strain = 0;
        let settle = if limit == before {
            0.0
        } else {
            before.max(limit) * self.unevenness()
        };
        self.window = Window {
            settle: settle as u32,
            ..Window::default()
        };
    }

    /// Learns how long attempts take.
    fn time(&mut self, sample: &Sample) {
        let took = sample.took.as_secs_f64().max(1e-6);
        let (mean, square) = &mut self.times;
        let share = if *mean == 0.0 { 1.0 } else { MEMORY };
        *mean += share * (took - *mean);
        *square += share * (took * took - *square);
    }

    /// How much longer than the mean the attempts are that one finds running at any instant: 1 if all are alike, 2 if
    /// they end at random, more if few of them take most of the time. So many rounds it takes until those that were
    /// started before have ended.
    fn unevenness(&self) -> f64 {
        let (mean, square) = self.times;
        if mean == 0.0 {
            1.0
        } else {
            (square / (mean * mean)).clamp(1.0, 16.0)
        }
    }

    /// Whether most of the last answers said that it is too much.
    fn is_strained(&mut self, sample: &Sample) -> bool {
        if sample.answer.is_strain() {
            self.strain += 1;
        } else {
            self.strain = self.strain.saturating_sub(1);
        }
        self.strain > (self.limit as u32 / 2).max(5)
    }
}

impl Window {
    /// Counts an answer. What got done in how many seconds, once there are enough and the limit was used.
    fn add(&mut self, sample: &Sample, limit: usize, rounds: f64) -> Option<(f64, f64)> {
        if self.settle > 0 {
            self.settle -= 1;
            return None;
        }
        let Some(began) = self.began else {
            self.began = Some(sample.now);
            return None;
        };
        self.answers += 1;
        self.good += u32::from(sample.answer == super::Answer::Ok);
        self.used += u32::from(is_used(sample.inflight, limit));
        if self.answers < ((limit as f64 * rounds) as u32).max(FEWEST) {
            return None;
        }
        let seen = std::mem::take(self);
        let seconds = sample.now.since(began).as_secs_f64().max(1e-6);
        (seen.used * 4 > seen.answers * 3).then(|| (f64::from(seen.good), seconds))
    }
}

impl Trial {
    /// The limit of the present part: high, low, low, high, or the other way round.
    fn limit(&self) -> f64 {
        let outer = self.part == 0 || self.part == 3;
        if outer == self.high_first {
            self.high
        } else {
            self.low
        }
    }

    /// How what gets done grows with the limit: 1 for as much as the limit, 0 for not at all. And the square of how
    /// far that is off by chance, judged by how far the two parts of one side are from each other.
    fn slope(&self) -> Option<(f64, f64)> {
        let span = (self.high / self.low).ln();
        if span <= 0.0 {
            return None;
        }
        let [a, b, c, d] = self.done;
        let (outer, inner) = (a + d, b + c);
        let more = if self.high_first {
            outer - inner
        } else {
            inner - outer
        };
        let noise = ((a - d).powi(2) + (b - c).powi(2)) / 4.0;
        Some(((more / 2.0 / span).clamp(-2.0, 2.0), noise / span.powi(2)))
    }
}
