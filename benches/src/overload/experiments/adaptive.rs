//! How many jobs should call a dependency at once: found out by the dispatcher, or by trying every number.

use std::time::Duration;

use super::{Size, side_by_side};
use crate::overload::arrivals::{Pattern, Trace};
use crate::overload::chart::{Axis, Chart, Line};
use crate::overload::downstream::{Downstream, Slow, Spread};
use crate::overload::found::Found;
use crate::overload::report::{Report, millis, percent, table};
use crate::overload::traffic::Traffic;
use crate::overload::world::Scenario;

/// The fixed limits that are tried.
const FIXED: [usize; 10] = [2, 4, 6, 8, 10, 12, 15, 20, 35, 100];
/// The limits that find themselves, as they come: floor and ceiling are those of the fixed ones.
const LAWS: [&str; 2] = ["gradient(min=1, max=100)", "aimd(min=1, max=100)"];
/// Jobs a second on average: what the dependency can do, so that half of the time there is too much.
const RATE: f64 = 200.0;
/// What it can work on at once, and how long it takes for one: two hundred a second.
const CAPACITY: usize = 10;
const MEAN: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);

/// A dependency, and what it is called.
struct Kind {
    name: &'static str,
    title: &'static str,
    downstream: Downstream,
}

fn kinds(seconds: u64) -> Vec<Kind> {
    let base = |spread| Downstream {
        capacity: CAPACITY,
        contention: 0.5,
        ..Downstream::workers(MEAN, spread)
    };
    let at = |share: f64| Duration::from_secs_f64(seconds as f64 * share);
    let slow = Slow {
        from: at(1.0 / 3.0),
        until: at(2.0 / 3.0),
        times: 2.5,
    };
    vec![
        Kind {
            name: "steady",
            title: "ten at once; more get in each other's way",
            downstream: base(Spread::Exponential),
        },
        Kind {
            name: "spread",
            title: "the same, one call in ten takes ten times as long",
            downstream: base(Spread::Bimodal(0.1, 10.0)),
        },
        Kind {
            name: "long-tailed",
            title: "the same, run times log-normal (σ = 1)",
            downstream: base(Spread::LogNormal(1.0)),
        },
        Kind {
            name: "slower",
            title: "the same, 2.5 times as slow in the middle third",
            downstream: Downstream {
                slow: Some(slow),
                ..base(Spread::Exponential)
            },
        },
        Kind {
            name: "refusing",
            title: "answers 429 above 150 calls a second",
            downstream: Downstream {
                most: 150.0,
                ..base(Spread::Exponential)
            },
        },
    ]
}

fn scenario(trace: &Trace, kind: &Kind, limit: (&'static str, String), seconds: u64) -> Scenario {
    let queue = [
        ("capacity", "0"),
        ("delay_target", "200ms"),
        ("delay_interval", "1s"),
    ];
    Scenario {
        pattern: Pattern::Recorded(trace.clone(), 5),
        rate: RATE,
        traffic: Traffic::plain(9),
        seconds,
        handlers: 200,
        downstream: kind.downstream.clone(),
        patience: PATIENCE,
        queue: queue.map(|(name, text)| (name, text.to_owned())).to_vec(),
        kind: vec![
            limit,
            ("timeout", "2s".to_owned()),
            ("max_attempts", "1".to_owned()),
        ],
        seed: 23,
    }
}

/// One trace against one dependency.
struct Match {
    trace: Trace,
    kind: usize,
    /// The fixed limit that got most done in time, and that run.
    best: (usize, Found),
    /// What no limit at all gets done.
    unlimited: u64,
    laws: Vec<Found>,
}

impl Match {
    fn run(trace: Trace, kind: (usize, &Kind), size: Size) -> Self {
        let seconds = seconds(size);
        let run = |limit| scenario(&trace, kind.1, limit, seconds).run();
        let fixed = |limit: usize| run(("concurrency", limit.to_string()));
        let tried: &[usize] = size.pick(&FIXED, &[10]);
        let best = tried
            .iter()
            .map(|limit| (*limit, fixed(*limit)))
            .max_by_key(|(_, found)| found.all().in_time)
            .expect("limits are tried");
        Self {
            unlimited: fixed(200).all().in_time,
            laws: LAWS
                .iter()
                .map(|law| run(("adaptive", (*law).to_owned())))
                .collect(),
            trace,
            kind: kind.0,
            best,
        }
    }

    /// What a law got done, in parts of what the best fixed limit did.
    fn ratio(&self, law: usize) -> f64 {
        self.laws[law].all().in_time as f64 / self.best.1.all().in_time as f64
    }
}

fn seconds(size: Size) -> u64 {
    size.pick(240, 20)
}

/// All of it.
pub fn run(size: Size, report: &mut Report) {
    let kinds = kinds(seconds(size));
    let traces: Vec<Trace> = Trace::all().into_iter().take(size.pick(5, 1)).collect();
    let pairs: Vec<(usize, &Trace)> = (0..kinds.len())
        .flat_map(|kind| traces.iter().map(move |trace| (kind, trace)))
        .collect();
    let matches = side_by_side(&pairs, |(kind, trace)| {
        Match::run((*trace).clone(), (*kind, &kinds[*kind]), size)
    });
    tables(&kinds, &matches, report);
    for found in &matches {
        let name = kinds[found.kind].name;
        let shown = [("nasa", "steady"), ("azure-conv", "slower")];
        let quick = size == Size::Quick && shown.iter().any(|(_, shown)| *shown == name);
        if quick || shown.contains(&(found.trace.name, name)) {
            report.chart(&format!("limit-{name}"), limits(found, &kinds[found.kind]));
        }
    }
    for (law, text) in LAWS.iter().enumerate() {
        let ratio = |found: &&Match| found.ratio(law);
        let worst = |which: &dyn Fn(&&Match) -> bool| {
            matches
                .iter()
                .filter(which)
                .map(|found| ratio(&found))
                .fold(f64::MAX, f64::min)
        };
        let name = text.split('(').next().unwrap_or(text);
        let plain = worst(&|found| found.kind == 0);
        report.goal(
            &format!("`{name}`: jobs done in time, to the best fixed limit, the worst of five traces"),
            "≥ 0.90",
            format!("{plain:.3}"),
            plain >= 0.9,
        );
        let all = worst(&|_| true);
        report.goal(
            &format!("`{name}`: the same, the worst of five traces and five dependencies"),
            "≥ 0.90",
            format!("{all:.3}"),
            all >= 0.9,
        );
    }
    report.close("goals-adaptive");
}

fn tables(kinds: &[Kind], matches: &[Match], report: &mut Report) {
    let mut text = String::new();
    for (place, kind) in kinds.iter().enumerate() {
        let rows = matches.iter().filter(|found| found.kind == place).map(|found| {
            let mut best = found.best.1.all();
            let mut row = vec![
                found.trace.title.to_owned(),
                found.best.0.to_string(),
                percent(best.in_time as f64 / best.arrived as f64),
                millis(best.answer(0.99)),
                format!("{:.3}", found.unlimited as f64 / best.in_time as f64),
            ];
            for law in 0..LAWS.len() {
                let mut all = found.laws[law].all();
                row.push(format!("{:.3}", found.ratio(law)));
                row.push(millis(all.answer(0.99)));
            }
            row
        });
        let head = [
            "arrivals",
            "best fixed limit",
            "done in time",
            "p99",
            "no limit, to it",
            "gradient, to it",
            "p99",
            "aimd, to it",
            "p99",
        ];
        text += &format!("{}:\n\n{}\n", kind.title, table(&head, rows));
    }
    report.block("adaptive", text.trim_end().to_owned() + "\n");
}

/// The limits of a run over time.
fn limits(found: &Match, kind: &Kind) -> Chart {
    let line = |(law, run): (&&str, &Found)| Line {
        name: law.split('(').next().unwrap_or(law).to_owned(),
        points: run
            .seconds
            .iter()
            .enumerate()
            .filter_map(|(second, seen)| Some((second as f64, seen.limit? as f64)))
            .collect(),
        dashed: false,
    };
    let mut lines: Vec<Line> = LAWS.iter().zip(&found.laws).map(line).collect();
    let end = found.best.1.seconds.len() as f64;
    lines.push(Line {
        name: "the best fixed limit".to_owned(),
        points: vec![(0.0, found.best.0 as f64), (end, found.best.0 as f64)],
        dashed: true,
    });
    Chart {
        title: format!("{}: {}", found.trace.title, kind.title),
        x: Axis::linear("seconds", (0.0, end)),
        y: Axis::linear("jobs at once, at most", (0.0, 40.0)),
        lines,
    }
}
