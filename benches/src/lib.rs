//! What the benchmark programs share: two ways of doing one thing are run in turn, round after round, and
//! compared by their medians. On a machine shared with others only such ratios mean anything; a figure by
//! itself mostly measures the neighbours.

use std::time::{Duration, Instant};

/// The middle one of some measurements, or the mean of the two in the middle.
///
/// ```
/// # use std::time::Duration;
/// use forebay_benches::median;
///
/// let secs = |n| Duration::from_secs(n);
/// assert_eq!(median(&mut [secs(9), secs(1), secs(2)]), Some(secs(2)));
/// assert_eq!(median(&mut []), None);
/// ```
pub fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    let upper = *times.get(times.len() / 2)?;
    match times.len() % 2 {
        0 => Some((times[times.len() / 2 - 1] + upper) / 2),
        _ => Some(upper),
    }
}

/// Something measured: a name for the table and one run of it over a given number of jobs.
pub struct Contender<'a> {
    /// The first column of its row.
    pub name: &'a str,
    /// Does the work once.
    pub run: &'a mut dyn FnMut(u64),
}

/// One row of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The contender's name.
    pub name: String,
    /// The median time of one run.
    pub median: Duration,
    /// Jobs per second at the median.
    pub per_second: f64,
    /// How many times as fast as the first contender.
    pub ratio: f64,
}

/// Runs the contenders in turn for `rounds` rounds of `jobs` jobs, after one round that does not count.
///
/// Nothing is compared when `rounds` is 0 or there are no contenders: the result is empty.
pub fn in_turn(contenders: &mut [Contender<'_>], rounds: usize, jobs: u64) -> Vec<Row> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let time = stopwatch(|| (contender.run)(jobs));
            if round > 0 {
                times.push(time);
            }
        }
    }
    let medians: Vec<Duration> = times.iter_mut().filter_map(|times| median(times)).collect();
    let speed = |median: &Duration| jobs as f64 / median.as_secs_f64().max(f64::MIN_POSITIVE);
    contenders
        .iter()
        .zip(&medians)
        .map(|(contender, median)| Row {
            name: contender.name.to_owned(),
            median: *median,
            per_second: speed(median),
            ratio: speed(median) / speed(&medians[0]),
        })
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is the one place that wants the real clock"
)]
fn stopwatch(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The rows as a markdown table, ready for the performance page.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| what | jobs/s (median) | ns per job | ratio |\n|---|---|---|---|\n");
    for Row {
        name,
        per_second,
        ratio,
        ..
    } in rows
    {
        let nanos = 1e9 / per_second;
        text.push_str(&format!(
            "| {name} | {per_second:.0} | {nanos:.0} | {ratio:.2} |\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_run_in_turn_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let mut a = |_| order.borrow_mut().push('a');
        let mut b = |_| order.borrow_mut().push('b');
        let mut contenders = [
            Contender {
                name: "a",
                run: &mut a,
            },
            Contender {
                name: "b",
                run: &mut b,
            },
        ];
        let rows = in_turn(&mut contenders, 3, 1);
        assert_eq!(*order.borrow(), "abababab");
        assert_eq!(
            rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!((rows[0].ratio - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn nothing_to_compare_is_an_empty_result() {
        assert_eq!(in_turn(&mut [], 3, 1), []);
        let mut work = |_| {};
        assert_eq!(
            in_turn(
                &mut [Contender {
                    name: "a",
                    run: &mut work
                }],
                0,
                1
            ),
            []
        );
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        let row = Row {
            name: "x".into(),
            median: Duration::from_secs(1),
            per_second: 1e6,
            ratio: 2.5,
        };
        assert_eq!(
            table(&[row]).lines().last(),
            Some("| x | 1000000 | 1000 | 2.50 |")
        );
    }
}
