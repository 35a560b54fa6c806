//! Random numbers with a seed: the same seed, the same run, on every machine.

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.unit() * bound as f64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// From the exponential distribution with mean 1.
    pub fn exponential(&mut self) -> f64 {
        // 1 - x is never 0, whose logarithm there is not.
        -(1.0 - self.unit()).ln()
    }

    /// From the normal distribution with mean 0 and deviation 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(7);
        let n = 100_000;
        let mean = |sum: f64| sum / f64::from(n);
        let uniform = mean((0..n).map(|_| rng.unit()).sum());
        let exponential = mean((0..n).map(|_| rng.exponential()).sum());
        let normal: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let variance = mean(normal.iter().map(|x| x * x).sum());
        assert!((uniform - 0.5).abs() < 0.01, "{uniform}");
        assert!((exponential - 1.0).abs() < 0.02, "{exponential}");
        assert!(mean(normal.iter().sum()).abs() < 0.02 && (variance - 1.0).abs() < 0.02);
    }
}
