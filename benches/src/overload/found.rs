//! What was seen in a run.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::engine::{QueueCounts, Totals};
use forebay::{ErrorKind, Pushed, Timestamp};

use super::traffic::Client;

/// What was seen of the jobs of one class.
#[derive(Clone, Debug, Default)]
pub struct Class {
    /// Those that came.
    pub arrived: u64,
    /// Those that were done while somebody waited for it.
    pub in_time: u64,
    /// Those that were done for nobody.
    pub late: u64,
    /// From the push to the start, of those that were done: microseconds.
    waits: Vec<u32>,
    /// From the push to the end, of those that were done: microseconds.
    answers: Vec<u32>,
}

/// Whose jobs they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Whose {
    /// The key, if there are keys.
    pub key: Option<u32>,
    /// Whether they matter more.
    pub important: bool,
}

/// What was seen in a run.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// By whose jobs they are.
    classes: BTreeMap<Whose, Class>,
    /// Pushes that were refused.
    pub refused: u64,
    /// The counts of the queue at the end.
    pub counts: Option<QueueCounts>,
    /// In each second: jobs done in time, and the limit of the kind at its end.
    pub seconds: Vec<Second>,
    /// The second that is not over.
    second: Second,
}

/// What was seen in a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// Jobs done in time.
    pub in_time: u32,
    /// How many may run at once, if that adapts.
    pub limit: Option<usize>,
}

impl Found {
    /// Every job.
    pub fn all(&self) -> Class {
        self.of(|_| true)
    }

    /// Some of the jobs.
    pub fn of(&self, mut which: impl FnMut(&Whose) -> bool) -> Class {
        let mut sum = Class::default();
        for (_, class) in self.classes.iter().filter(|(whose, _)| which(whose)) {
            sum.arrived += class.arrived;
            sum.in_time += class.in_time;
            sum.late += class.late;
            sum.waits.extend(&class.waits);
            sum.answers.extend(&class.answers);
        }
        sum
    }

    /// What has happened in the queue.
    ///
    /// # Panics
    /// If the run is not over.
    pub fn totals(&self) -> Totals {
        self.counts.as_ref().expect("the run is over").totals
    }

    /// What a push was answered.
    pub(super) fn pushed(&mut self, client: &Client, pushed: Result<&Pushed, ErrorKind>) {
        self.class(client).arrived += 1;
        match pushed {
            Ok(_) => {}
            Err(ErrorKind::Full) => self.refused += 1,
            Err(kind) => panic!("a push was answered {kind:?}"),
        }
    }

    /// A job was done.
    pub(super) fn finished(&mut self, client: &Client, in_time: bool, start: Timestamp, now: Timestamp) {
        let class = self.class(client);
        class.waits.push(micros(start.since(client.arrived)));
        class.answers.push(micros(now.since(client.arrived)));
        if in_time {
            class.in_time += 1;
            self.second.in_time += 1;
        } else {
            class.late += 1;
        }
    }

    /// When the next second is over.
    pub(super) fn next_sample(&self, start: Timestamp) -> Timestamp {
        start.after(Duration::from_secs(self.seconds.len() as u64 + 1))
    }

    /// A second is over.
    pub(super) fn sample(&mut self, limit: Option<usize>) {
        let second = std::mem::take(&mut self.second);
        self.seconds.push(Second { limit, ..second });
    }

    fn class(&mut self, client: &Client) -> &mut Class {
        let whose = Whose {
            key: client.key,
            important: client.important,
        };
        self.classes.entry(whose).or_default()
    }
}

impl Class {
    /// How long the jobs that were done waited to start, at most, but for this share of them.
    pub fn wait(&mut self, share: f64) -> Duration {
        quantile(&mut self.waits, share)
    }

    /// The same, until they ended.
    pub fn answer(&mut self, share: f64) -> Duration {
        quantile(&mut self.answers, share)
    }
}

/// The value that this share of them does not exceed; zero if there are none.
fn quantile(micros: &mut [u32], share: f64) -> Duration {
    if micros.is_empty() {
        return Duration::ZERO;
    }
    let place = ((micros.len() as f64 * share).ceil() as usize).clamp(1, micros.len()) - 1;
    let (_, found, _) = micros.select_nth_unstable(place);
    Duration::from_micros(u64::from(*found))
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_that_so_many_do_not_exceed() {
        let mut micros: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(quantile(&mut micros, 0.99), Duration::from_micros(99));
        assert_eq!(quantile(&mut micros, 0.5), Duration::from_micros(50));
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
    }
}
