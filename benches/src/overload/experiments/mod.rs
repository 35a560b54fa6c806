//! What is simulated for the page `docs/overload.md`.

pub mod accounts;
pub mod adaptive;
pub mod fairness;
pub mod load;
pub mod sources;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::overload::report::Report;

/// How much of each experiment is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// What the page shows: several minutes.
    Full,
    /// A few seconds, to see that it runs; the figures mean little.
    Quick,
}

impl Size {
    /// One or the other.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Size::Full => full,
            Size::Quick => quick,
        }
    }
}

/// Does the same with each of them, on as many threads as there are processors; the results are in their order.
/// What comes of one depends on nothing but itself, so that the threads change no figure.
pub fn side_by_side<T: Sync, R: Send>(of: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some((place, item)) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    of.get(place).map(|item| (place, item))
                } {
                    let result = run(item);
                    done.lock().push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// An experiment, by its name.
pub type Experiment = (&'static str, fn(Size, &mut Report));

/// All of them.
pub const EXPERIMENTS: [Experiment; 5] = [
    ("load", load::run),
    ("adaptive", adaptive::run),
    ("fairness", fairness::run),
    ("books", accounts::run),
    ("sources", sources::run),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The command of the page, at a small size, on a copy of the page.
    #[test]
    fn everything_runs_and_has_its_place_on_the_page() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/overload.md");
        let folder = std::env::temp_dir().join(format!("forebay-overload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for a copy of the page");
        let copy = folder.join("overload.md");
        std::fs::copy(page, &copy).expect("the page is there");
        let mut report = Report::default();
        for (_, run) in EXPERIMENTS {
            run(Size::Quick, &mut report);
        }
        report.write(&copy).expect("the copy can be written");
        let written = std::fs::read_to_string(&copy).expect("the copy is there");
        for chart in written.split("](overload/").skip(1) {
            let name = chart.split(')').next().unwrap_or(chart);
            assert!(folder.join("overload").join(name).exists(), "no chart {name}");
        }
        let numbers = written.matches("| yes |").count() + written.matches("| **no** |").count();
        assert!(numbers >= 8, "goals are missing: {written}");
        std::fs::remove_dir_all(&folder).expect("the copy is ours");
    }
}
