//! What jobs wait for: workers, or a dependency that suffers under load.

use std::time::Duration;

use forebay::Timestamp;

use super::rng::Rng;

/// How the time that a call takes is spread, around its mean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Spread {
    /// Always the mean.
    Constant,
    /// Exponential.
    Exponential,
    /// Log-normal, with this deviation of the logarithm.
    LogNormal(f64),
    /// This share of the calls takes this many times as long as the others.
    Bimodal(f64, f64),
}

impl Spread {
    /// A factor whose mean is 1.
    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Spread::Constant => 1.0,
            Spread::Exponential => rng.exponential(),
            Spread::LogNormal(sigma) => (sigma * rng.normal() - sigma * sigma / 2.0).exp(),
            Spread::Bimodal(share, times) => {
                let quick = 1.0 / (1.0 - share + share * times);
                if rng.chance(share) { quick * times } else { quick }
            }
        }
    }
}

/// A time in which everything takes longer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Slow {
    /// When it begins, from the start of the run.
    pub from: Duration,
    /// When it ends.
    pub until: Duration,
    /// How many times as long calls take.
    pub times: f64,
}

/// A dependency.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// The mean time of a call when there is room.
    pub mean: Duration,
    /// How it is spread.
    pub spread: Spread,
    /// How many calls it can work on at once; more share it. 0 for any number.
    pub capacity: usize,
    /// What sharing costs it: at twice its capacity it does 1 / (1 + this) of what it could.
    pub contention: f64,
    /// A time in which it is slower.
    pub slow: Option<Slow>,
    /// More calls a second than this are refused at once; 0 for no such limit.
    pub most: f64,
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It is answered after this time.
    Answered(Duration),
    /// It is refused after this time: too many requests, come back later.
    Refused(Duration, Duration),
}

/// How long it takes to say no.
const REFUSAL: Duration = Duration::from_millis(1);

impl Downstream {
    /// Workers that do not get into each other's way.
    pub fn workers(mean: Duration, spread: Spread) -> Self {
        Self {
            mean,
            spread,
            capacity: 0,
            contention: 0.0,
            slow: None,
            most: 0.0,
        }
    }

    /// The calls a second that it can answer, at best.
    pub fn best_rate(&self) -> f64 {
        let calls = self.capacity as f64 / self.mean.as_secs_f64();
        if self.most > 0.0 {
            self.most.min(calls)
        } else {
            calls
        }
    }

    /// How many times as long a call takes while `calls` are worked on.
    fn crowding(&self, calls: usize) -> f64 {
        if self.capacity == 0 || calls <= self.capacity {
            return 1.0;
        }
        let load = calls as f64 / self.capacity as f64;
        load * (1.0 + self.contention * (load - 1.0))
    }

    /// How many times as long calls take `since` the start of the run.
    fn slowness(&self, since: Duration) -> f64 {
        self.slow
            .filter(|slow| (slow.from..slow.until).contains(&since))
            .map_or(1.0, |slow| slow.times)
    }
}

/// A dependency while it is used.
#[derive(Clone, Debug)]
pub struct Busy {
    downstream: Downstream,
    start: Timestamp,
    rng: Rng,
    calls: usize,
    /// When the next call is due at its greatest rate, as in GCRA.
    due: Timestamp,
}

impl Busy {
    /// From `start` on.
    pub fn new(downstream: Downstream, seed: u64, start: Timestamp) -> Self {
        Self {
            downstream,
            start,
            rng: Rng::new(seed),
            calls: 0,
            due: start,
        }
    }

    /// A call begins. How crowded it is then decides how long it takes.
    pub fn begin(&mut self, now: Timestamp) -> Call {
        self.calls += 1;
        let it = &self.downstream;
        if it.most > 0.0 {
            // A tenth of a second's worth may come at once.
            let burst = Duration::from_millis(100);
            let early = self.due.since(now);
            if early > burst {
                return Call::Refused(REFUSAL, early - burst);
            }
            self.due = self.due.max(now).after(Duration::from_secs_f64(1.0 / it.most));
        }
        let factor = it.crowding(self.calls) * it.slowness(now.since(self.start));
        Call::Answered(it.mean.mul_f64(factor * it.spread.draw(&mut self.rng)))
    }

    /// A call has ended, or its caller has hung up.
    pub fn end(&mut self) {
        self.calls -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: Duration = Duration::from_millis(10);

    #[test]
    fn every_spread_has_the_mean() {
        for spread in [
            Spread::Constant,
            Spread::Exponential,
            Spread::LogNormal(1.0),
            Spread::Bimodal(0.1, 10.0),
        ] {
            let mut rng = Rng::new(3);
            let mean = (0..200_000).map(|_| spread.draw(&mut rng)).sum::<f64>() / 200_000.0;
            assert!((mean - 1.0).abs() < 0.02, "{spread:?}: {mean}");
        }
    }

    #[test]
    fn a_crowd_costs_more_than_its_share() {
        let mut shared = Downstream::workers(MEAN, Spread::Constant);
        (shared.capacity, shared.contention) = (4, 0.5);
        let mut busy = Busy::new(shared, 1, Timestamp::EPOCH);
        let took: Vec<Call> = (0..8).map(|_| busy.begin(Timestamp::EPOCH)).collect();
        assert_eq!(took[3], Call::Answered(MEAN));
        assert_eq!(took[7], Call::Answered(MEAN * 3));
    }

    #[test]
    fn a_slow_time_begins_and_ends() {
        let mut changing = Downstream::workers(MEAN, Spread::Constant);
        let (from, until) = (Duration::from_secs(1), Duration::from_secs(2));
        changing.slow = Some(Slow {
            from,
            until,
            times: 3.0,
        });
        let mut busy = Busy::new(changing, 1, Timestamp::EPOCH);
        let mut at = |time| busy.begin(Timestamp::EPOCH.after(time));
        assert_eq!(at(Duration::ZERO), Call::Answered(MEAN));
        assert_eq!(at(from), Call::Answered(MEAN * 3));
        assert_eq!(at(until), Call::Answered(MEAN));
    }

    #[test]
    fn too_many_calls_are_refused_until_there_is_room() {
        let mut strict = Downstream::workers(MEAN, Spread::Constant);
        strict.most = 100.0;
        let mut busy = Busy::new(strict, 1, Timestamp::EPOCH);
        let refused = (0..50)
            .filter(|_| matches!(busy.begin(Timestamp::EPOCH), Call::Refused(..)))
            .count();
        assert_eq!(refused, 39);
        let later = Timestamp::EPOCH.after(Duration::from_millis(10));
        assert_eq!(busy.begin(later), Call::Answered(MEAN));
    }
}
