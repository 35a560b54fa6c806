//! When jobs arrive: at random, or as recorded somewhere.

use forebay::Timestamp;

use super::rng::Rng;

/// A recording: how many requests arrived in each step, from a file beside the program.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name, that of its file.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// How long a step was when it was recorded, as text.
    pub step: &'static str,
    /// Where it comes from, as the file says it, a line each.
    pub source: Vec<&'static str>,
    /// The requests of each step.
    pub counts: Vec<u32>,
}

/// The recordings. Each file says whose it is and under which licence.
const FILES: [(&str, &str); 5] = [
    ("azure-code", include_str!("../../overload/traces/azure-code.txt")),
    ("azure-conv", include_str!("../../overload/traces/azure-conv.txt")),
    ("mooncake", include_str!("../../overload/traces/mooncake.txt")),
    ("nasa", include_str!("../../overload/traces/nasa.txt")),
    ("worldcup", include_str!("../../overload/traces/worldcup.txt")),
];

impl Trace {
    /// All of them.
    pub fn all() -> Vec<Trace> {
        FILES.iter().map(|(name, text)| Self::read(name, text)).collect()
    }

    /// # Panics
    /// If the file is not in the form that the others have.
    fn read(name: &'static str, text: &'static str) -> Self {
        let (head, body): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
        let mut said = head.iter().map(|line| line.trim_start_matches(['#', ' ']));
        let mut field = |label| {
            let value = said.next().and_then(|line| line.strip_prefix(label));
            value.unwrap_or_else(|| panic!("{name}: the head lacks {label:?}"))
        };
        let (title, step) = (field("title: "), field("step: "));
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?}"));
        Self {
            name,
            title,
            step,
            source: said.filter(|line| !line.is_empty()).collect(),
            counts: body.iter().flat_map(|line| line.split(' ')).map(number).collect(),
        }
    }

    /// The mean number of requests in a step.
    pub fn mean(&self) -> f64 {
        self.counts.iter().map(|&count| f64::from(count)).sum::<f64>() / self.counts.len() as f64
    }

    /// The greatest number of requests in a step, in means.
    pub fn peak(&self) -> f64 {
        let most = self.counts.iter().max().copied().unwrap_or_default();
        f64::from(most) / self.mean()
    }
}

/// What decides how many jobs arrive in a second.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Independently of each other, at one rate.
    Steady,
    /// As recorded: so many steps are replayed in a second, the counts scaled, the jobs of a step at random instants
    /// of it. The recording starts again when it has ended.
    Recorded(Trace, u32),
}

/// The instants of arrivals, in order.
#[derive(Clone, Debug)]
pub struct Arrivals {
    pattern: Pattern,
    rate: f64,
    rng: Rng,
    start: Timestamp,
    /// How many steps have been drawn; a second each, if nothing was recorded.
    step: usize,
    /// What is left of the step drawn last, latest first.
    drawn: Vec<i64>,
}

impl Arrivals {
    /// Arrivals from `start` on, `rate` a second on average.
    pub fn new(pattern: Pattern, rate: f64, seed: u64, start: Timestamp) -> Self {
        Self {
            pattern,
            rate,
            rng: Rng::new(seed),
            start,
            step: 0,
            drawn: Vec::new(),
        }
    }

    /// Draws the arrivals of the next step.
    fn draw(&mut self) {
        let (recorded, steps) = match &self.pattern {
            Pattern::Steady => (None, 1),
            Pattern::Recorded(trace, steps) => {
                let count = f64::from(trace.counts[self.step % trace.counts.len()]);
                (Some(count / trace.mean()), *steps)
            }
        };
        let length = 1_000_000 / i64::from(steps);
        let count = match recorded {
            None => self.poisson(),
            Some(part) => self.round(part * self.rate / f64::from(steps)),
        };
        let base = self.start.as_micros() + self.step as i64 * length;
        self.drawn
            .extend((0..count).map(|_| base + self.rng.below(length as u64) as i64));
        self.drawn.sort_unstable_by(|a, b| b.cmp(a));
        self.step += 1;
    }

    /// How many events of a Poisson process at the rate fall into a second.
    fn poisson(&mut self) -> usize {
        let (mut count, mut at) = (0, self.rng.exponential());
        while at < self.rate {
            at += self.rng.exponential();
            count += 1;
        }
        count
    }

    /// A whole number whose mean is `number`.
    fn round(&mut self, number: f64) -> usize {
        let up = self.rng.chance(number.fract());
        number as usize + usize::from(up)
    }
}

impl Iterator for Arrivals {
    type Item = Timestamp;

    /// The next one; there is always one.
    fn next(&mut self) -> Option<Timestamp> {
        while self.drawn.is_empty() {
            self.draw();
        }
        self.drawn.pop().map(Timestamp::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_seconds(pattern: Pattern, rate: f64, seconds: i64) -> Vec<i64> {
        Arrivals::new(pattern, rate, 1, Timestamp::EPOCH)
            .map(Timestamp::as_micros)
            .take_while(|&at| at < seconds * 1_000_000)
            .collect()
    }

    #[test]
    fn steady_arrivals_are_in_order_and_as_many_as_asked_for() {
        let at = in_seconds(Pattern::Steady, 500.0, 100);
        assert!(at.is_sorted());
        assert!((at.len() as f64 - 50_000.0).abs() < 1_000.0, "{}", at.len());
    }

    #[test]
    fn a_recording_keeps_its_shape_at_another_rate() {
        for (trace, steps) in Trace::all().into_iter().zip([1, 2, 4, 5, 20]) {
            assert!(
                trace.counts.len() > 1_000 && !trace.source.is_empty(),
                "{}",
                trace.name
            );
            let scale = 1000.0 / (trace.mean() * f64::from(steps));
            let peak = trace.counts.iter().enumerate().max_by_key(|(_, count)| **count);
            let (place, &most) = peak.expect("it has steps");
            let seconds = trace.counts.len() as i64 / i64::from(steps);
            let at = in_seconds(Pattern::Recorded(trace.clone(), steps), 1000.0, seconds);
            let length = 1_000_000 / i64::from(steps);
            let there = at.iter().filter(|&&at| at / length == place as i64).count();
            assert!(
                (there as f64 - f64::from(most) * scale).abs() <= 1.0,
                "{}",
                trace.name
            );
            let wanted = 1000.0 * seconds as f64;
            assert!((at.len() as f64 / wanted - 1.0).abs() < 0.01, "{}", trace.name);
        }
    }
}
