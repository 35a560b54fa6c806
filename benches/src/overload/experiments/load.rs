//! More work than can be done: what each policy makes of it.

use std::time::Duration;

use forebay::engine::Totals;

use super::{Size, side_by_side};
use crate::overload::arrivals::{Arrivals, Pattern, Trace};
use crate::overload::chart::{Axis, Chart, Line};
use crate::overload::downstream::{Downstream, Spread};
use crate::overload::found::Found;
use crate::overload::report::{Report, millis, percent, table};
use crate::overload::traffic::{Keys, Traffic};
use crate::overload::world::{Scenario, Setting};

/// A way to deal with too much work.
struct Policy {
    name: &'static str,
    title: &'static str,
    queue: &'static [(&'static str, &'static str)],
    /// Whether jobs carry their client's deadline.
    deadlines: bool,
    /// Whether it is one of Forebay's answers to overload, or what they are compared with.
    sheds: bool,
}

const fn policy(
    name: &'static str,
    title: &'static str,
    queue: &'static [(&'static str, &'static str)],
) -> Policy {
    Policy {
        name,
        title,
        queue,
        deadlines: false,
        sheds: true,
    }
}

/// What CoDel aims at.
const TARGET: Duration = Duration::from_millis(50);
const LONG: (&str, &str) = ("capacity", "10000");
const SHORT: (&str, &str) = ("capacity", "100");
const CODEL: (&str, &str) = ("delay_target", "50ms");
const UNBOUND: (&str, &str) = ("capacity", "0");

const POLICIES: [Policy; 11] = [
    Policy {
        sheds: false,
        ..policy("none", "no bound, nothing shed", &[UNBOUND])
    },
    Policy {
        sheds: false,
        ..policy("long", "`reject`, room for 10 000", &[LONG])
    },
    Policy {
        deadlines: true,
        sheds: false,
        ..policy("deadlines", "no bound, deadlines only", &[UNBOUND])
    },
    policy("reject", "`reject`", &[SHORT]),
    policy(
        "drop_newest",
        "`drop_newest`",
        &[SHORT, ("on_full", "drop_newest")],
    ),
    policy(
        "drop_oldest",
        "`drop_oldest`",
        &[SHORT, ("on_full", "drop_oldest")],
    ),
    policy(
        "drop_lowest",
        "`drop_lowest`",
        &[SHORT, ("on_full", "drop_lowest")],
    ),
    policy("coalesce", "`coalesce`", &[SHORT, ("on_full", "coalesce")]),
    policy("sample", "`sample(0.5)`", &[SHORT, ("on_full", "sample(0.5)")]),
    policy("codel", "CoDel", &[UNBOUND, CODEL]),
    policy(
        "newest",
        "CoDel, newest first",
        &[
            ("capacity", "1000"),
            ("on_full", "drop_oldest"),
            CODEL,
            ("newest_first", "true"),
        ],
    ),
];

const LOADS: [f64; 10] = [0.5, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0];
/// Handlers, and how long each takes for a job: a thousand jobs a second.
const HANDLERS: usize = 10;
const MEAN: Duration = Duration::from_millis(10);
const CAPACITY: f64 = 1000.0;
const PATIENCE: Duration = Duration::from_millis(500);

impl Policy {
    fn scenario(&self, pattern: Pattern, load: f64, seconds: u64) -> Scenario {
        let mut traffic = Traffic::plain(5);
        traffic.deadlines = self.deadlines;
        // Newer jobs take the place of older ones of the same key, so there must be keys.
        if self.name == "coalesce" {
            (traffic.keys, traffic.keyed) = (Keys::Alike(200), true);
        }
        Scenario {
            pattern,
            rate: load * CAPACITY,
            traffic,
            seconds,
            handlers: HANDLERS,
            downstream: Downstream::workers(MEAN, Spread::Exponential),
            patience: PATIENCE,
            queue: settings(self.queue),
            kind: Vec::new(),
            seed: 11,
        }
    }
}

fn settings(of: &[(&'static str, &str)]) -> Vec<Setting> {
    of.iter()
        .map(|(name, text)| (*name, (*text).to_owned()))
        .collect()
}

/// All of it.
pub fn run(size: Size, report: &mut Report) {
    sweep(size, report);
    recorded(size, report);
    important(size, report);
    report.close("goals-load");
}

/// What is looked at of one run.
struct Seen {
    goodput: f64,
    late: f64,
    half: Duration,
    most: Duration,
    arrived: f64,
    refused: f64,
    totals: Totals,
}

impl Seen {
    fn of(found: &Found, possible: f64) -> Self {
        let mut all = found.all();
        Self {
            goodput: all.in_time as f64 / possible,
            late: all.late as f64 / possible,
            half: all.wait(0.5),
            most: all.wait(0.99),
            arrived: all.arrived as f64,
            refused: found.refused as f64 / all.arrived as f64,
            totals: found.totals(),
        }
    }
}

/// Every policy at every load.
fn sweep(size: Size, report: &mut Report) {
    let seconds = size.pick(30, 1);
    let loads: &[f64] = size.pick(&LOADS, &[1.0, 10.0]);
    let runs: Vec<Vec<Seen>> = side_by_side(&POLICIES, |policy| {
        let run = |load: &f64| {
            let found = policy.scenario(Pattern::Steady, *load, seconds).run();
            Seen::of(&found, CAPACITY * seconds as f64)
        };
        loads.iter().map(run).collect()
    });
    let lines = |figure: fn(&Seen) -> f64| {
        let points = |seen: &Vec<Seen>| loads.iter().copied().zip(seen.iter().map(figure)).collect();
        let line = |(policy, seen): (&Policy, &Vec<Seen>)| Line {
            name: policy.title.replace('`', ""),
            points: points(seen),
            dashed: !policy.sheds,
        };
        POLICIES.iter().zip(&runs).map(line).collect::<Vec<_>>()
    };
    let load = || Axis::log("offered load, in parts of what can be done", (loads[0], 10.0));
    report.chart(
        "goodput",
        Chart {
            title: "Work done while somebody waited for it".to_owned(),
            x: load(),
            y: Axis::linear("part of what can be done", (0.0, 1.1)),
            lines: lines(|seen| seen.goodput),
        },
    );
    report.chart(
        "waits",
        Chart {
            title: "How long 99 of 100 finished jobs waited to start, at most".to_owned(),
            x: load(),
            y: Axis::log("milliseconds", (1.0, 100_000.0)),
            lines: lines(|seen| seen.most.as_secs_f64() * 1000.0),
        },
    );
    let last: Vec<&Seen> = runs.iter().filter_map(|seen| seen.last()).collect();
    report.block("load", at_ten(&last));
    goals(loads, &runs, &last, report);
}

fn at_ten(last: &[&Seen]) -> String {
    let head = [
        "policy",
        "in time",
        "too late",
        "median wait",
        "p99 wait",
        "refused",
        "shed",
        "expired",
    ];
    let rows = POLICIES.iter().zip(last).map(|(policy, seen)| {
        vec![
            policy.title.to_owned(),
            percent(seen.goodput),
            percent(seen.late),
            millis(seen.half),
            millis(seen.most),
            percent(seen.refused),
            percent(seen.totals.shed() as f64 / seen.arrived),
            percent(seen.totals.expired as f64 / seen.arrived),
        ]
    });
    table(&head, rows)
}

fn goals(loads: &[f64], runs: &[Vec<Seen>], last: &[&Seen], report: &mut Report) {
    let of = |name: &str| {
        POLICIES
            .iter()
            .position(|policy| policy.name == name)
            .expect("a policy")
    };
    let shedding = || POLICIES.iter().zip(last).filter(|(policy, _)| policy.sheds);
    let (worst, least) = shedding()
        .map(|(policy, seen)| (policy.title, seen.goodput))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .expect("there are policies");
    report.goal(
        "ten times as much work as can be done: done in time, of what can be, the worst policy that sheds",
        "≥ 90 %",
        format!("{} ({worst})", percent(least)),
        least >= 0.9,
    );
    let collapse = last[of("none")].goodput;
    report.goal(
        "the same where nothing is shed: the collapse that it is about",
        "shown",
        percent(collapse),
        collapse < 0.5,
    );
    for name in ["codel", "newest"] {
        let place = of(name);
        let mut goal = |at: &str, most: Duration| {
            report.goal(
                &format!("p99 wait of finished jobs, {}, {at}", POLICIES[place].title),
                &format!("≤ {}", millis(TARGET * 2)),
                millis(most),
                most <= TARGET * 2,
            );
        };
        goal("at ten times the load", last[place].most);
        let worst = loads.iter().zip(&runs[place]).max_by_key(|(_, seen)| seen.most);
        let (load, seen) = worst.expect("there are loads");
        goal(&format!("at the worst of all loads, {load}"), seen.most);
    }
}

/// The policies that one would choose from, with arrivals as recorded.
fn recorded(size: Size, report: &mut Report) {
    let chosen = ["none", "reject", "drop_oldest", "codel", "newest"];
    let policies: Vec<&Policy> = POLICIES
        .iter()
        .filter(|policy| chosen.contains(&policy.name))
        .collect();
    let seconds = size.pick(60, 1);
    let mut head = vec!["arrivals", "bursts", "could be done"];
    head.extend(policies.iter().map(|policy| policy.title));
    let rows = side_by_side(&Trace::all(), |trace| {
        let pattern = Pattern::Recorded(trace.clone(), 20);
        let scenario = |policy: &Policy| policy.scenario(pattern.clone(), 10.0, seconds);
        let possible = possible(&scenario(policies[0]));
        let mut row = vec![
            trace.title.to_owned(),
            format!("{:.1}", trace.peak()),
            percent(possible / (CAPACITY * seconds as f64)),
        ];
        row.extend(policies.iter().map(|policy| {
            let seen = Seen::of(&scenario(policy).run(), possible);
            format!("{}, {}", percent(seen.goodput), millis(seen.most))
        }));
        row
    });
    let text = table(&head, rows);
    report.block("recorded", text);
}

/// How many jobs can be done when they arrive as they do: none before it is there.
fn possible(scenario: &Scenario) -> f64 {
    let start = forebay::Timestamp::EPOCH;
    let mut seconds = vec![0.0_f64; scenario.seconds as usize];
    for at in Arrivals::new(scenario.pattern.clone(), scenario.rate, scenario.seed, start) {
        let Some(second) = seconds.get_mut((at.as_micros() / 1_000_000) as usize) else {
            break;
        };
        *second += 1.0;
    }
    seconds.into_iter().map(|arrived| arrived.min(CAPACITY)).sum()
}

/// What becomes of the few jobs that matter more.
fn important(size: Size, report: &mut Report) {
    let chosen = [
        "none",
        "reject",
        "drop_newest",
        "drop_oldest",
        "drop_lowest",
        "codel",
    ];
    let seconds = size.pick(30, 1);
    let rows = POLICIES
        .iter()
        .filter(|policy| chosen.contains(&policy.name))
        .map(|policy| {
            let mut scenario = policy.scenario(Pattern::Steady, 10.0, seconds);
            scenario.traffic.important = 0.05;
            let found = scenario.run();
            let share = |important: bool| {
                let class = found.of(|whose| whose.important == important);
                percent(class.in_time as f64 / class.arrived as f64)
            };
            vec![policy.title.to_owned(), share(true), share(false)]
        });
    let text = table(&["policy", "important jobs done in time", "others"], rows);
    report.block("important", text);
}
