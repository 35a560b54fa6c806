//! How many attempts of a kind should run at once: found out while they run.
//!
//! Whoever calls something with a capacity that nobody knows, or that changes, gives a floor and a ceiling instead
//! of a number. Two laws look for the number between them: [`aimd`](Law::Aimd) backs off when it is told to, or
//! when attempts take longer; [`gradient`](Law::Gradient) tries out what more, and what less, does to the work
//! that gets done.

mod aimd;
mod gradient;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use super::call::{Call, count};
use crate::config::OptionValue;
use crate::time::Timestamp;
use aimd::Aimd;
use gradient::Gradient;

/// By which law a limit moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Law {
    /// One more for every round that went well, a share less for one that did not.
    Aimd,
    /// Up or down the slope of what gets done.
    Gradient,
}

/// A limit that finds itself: `aimd(min=1, max=100)`, `gradient(min=1, max=100)`, with `per=key` one for each
/// concurrency key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adaptive {
    law: Law,
    min: u32,
    max: u32,
    per_key: bool,
}

impl Adaptive {
    /// Where limits start, if floor and ceiling allow: work begins at once, and nothing is flooded.
    const START: u32 = 8;

    /// A limit between 1 and 100 that moves by this law.
    #[must_use]
    pub fn new(law: Law) -> Self {
        Self {
            law,
            min: 1,
            max: 100,
            per_key: false,
        }
    }

    /// Sets floor and ceiling.
    ///
    /// # Errors
    /// A sentence, for a floor of 0 or one above the ceiling.
    pub fn between(self, min: u32, max: u32) -> Result<Self, String> {
        if min == 0 || min > max {
            return Err(format!(
                "min={min} and max={max} are not a floor of at least 1 and a ceiling above it"
            ));
        }
        Ok(Self { min, max, ..self })
    }

    /// One limit for each concurrency key instead of one for the kind.
    #[must_use]
    pub fn per_key(self) -> Self {
        Self {
            per_key: true,
            ..self
        }
    }

    /// Whether there is one for each concurrency key.
    #[must_use]
    pub fn is_per_key(&self) -> bool {
        self.per_key
    }

    /// The limit before anything is known.
    #[must_use]
    pub fn start(&self) -> u32 {
        Self::START.clamp(self.min, self.max)
    }

    fn clamp(&self, limit: f64) -> f64 {
        limit.clamp(f64::from(self.min), f64::from(self.max))
    }
}

impl fmt::Display for Adaptive {
    /// The text that is read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let law = match self.law {
            Law::Aimd => "aimd",
            Law::Gradient => "gradient",
        };
        let per = if self.per_key { ", per=key" } else { "" };
        write!(f, "{law}(min={}, max={}{per})", self.min, self.max)
    }
}

impl OptionValue for Option<Adaptive> {
    const FORM: &'static str =
        "`aimd(min=1, max=100)`, `gradient(min=1, max=100)`, either with `per=key`, or `none`";
    fn read(text: &str) -> Result<Self, String> {
        let mut call = Call::read(text)?;
        let law = match call.name {
            "none" => {
                call.end()?;
                return Ok(None);
            }
            "aimd" => Law::Aimd,
            "gradient" => Law::Gradient,
            _ => {
                return Err(format!(
                    "{text:?} is neither \"none\" nor for example \"gradient(min=1, max=100)\""
                ));
            }
        };
        let default = Adaptive::new(law);
        let min = call.named("min", count)?.unwrap_or(default.min);
        let max = call.named("max", count)?.unwrap_or(default.max.max(min));
        let per = call.named("per", |per| match per {
            "key" => Ok(true),
            "kind" => Ok(false),
            _ => Err(format!("{per:?} is neither \"key\" nor \"kind\"")),
        })?;
        call.end()?;
        let adaptive = default.between(min, max)?;
        Ok(Some(Adaptive {
            per_key: per.unwrap_or(false),
            ..adaptive
        }))
    }
    fn number(number: f64) -> Result<Self, String> {
        Err(format!(
            "an adaptive limit is written as text, for example \"gradient(max={number})\""
        ))
    }
    fn write(&self) -> String {
        self.map_or_else(|| "none".into(), |adaptive| adaptive.to_string())
    }
}

/// What an attempt that has ended says about the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It did what it should.
    Ok,
    /// It failed, which may have any cause.
    Failed,
    /// It was told to come back later.
    Limited,
    /// It took longer than it may.
    TimedOut,
}

impl Answer {
    /// Whether it says by itself that there is too much.
    fn is_strain(self) -> bool {
        matches!(self, Answer::Limited | Answer::TimedOut)
    }
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How long it took.
    pub took: Duration,
    /// How many ran when it ended, itself among them.
    pub inflight: usize,
    /// What came of it.
    pub answer: Answer,
    /// When it ended.
    pub now: Timestamp,
}

/// What has been learned of one limit.
#[derive(Clone, Debug)]
pub struct Limiter {
    adaptive: Adaptive,
    mind: Mind,
}

#[derive(Clone, Debug)]
enum Mind {
    Aimd(Aimd),
    Gradient(Gradient),
}

impl Limiter {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(adaptive: Adaptive) -> Self {
        let start = f64::from(adaptive.start());
        let mind = match adaptive.law {
            Law::Aimd => Mind::Aimd(Aimd::new(start)),
            Law::Gradient => Mind::Gradient(Gradient::new(start)),
        };
        Self { adaptive, mind }
    }

    /// Learns from an attempt that has ended; returns the limit from now on.
    pub fn sample(&mut self, sample: Sample) -> usize {
        match &mut self.mind {
            Mind::Aimd(aimd) => aimd.sample(&self.adaptive, &sample),
            Mind::Gradient(gradient) => gradient.sample(&self.adaptive, &sample),
        }
        self.limit()
    }

    /// The present limit.
    #[must_use]
    pub fn limit(&self) -> usize {
        let limit = match &self.mind {
            Mind::Aimd(aimd) => aimd.limit(),
            Mind::Gradient(gradient) => gradient.limit(),
        };
        self.adaptive.clamp(limit) as usize
    }
}

/// Whether as many ran as may, but for what comes and goes: else the limit is not what holds the work back.
fn is_used(inflight: usize, limit: usize) -> bool {
    inflight * 10 >= limit * 9
}
