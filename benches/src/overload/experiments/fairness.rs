//! One key that pushes a hundred times as much as each of the others.

use std::time::Duration;

use super::Size;
use crate::overload::arrivals::Pattern;
use crate::overload::downstream::{Downstream, Spread};
use crate::overload::found::Found;
use crate::overload::report::{Report, millis, percent, table};
use crate::overload::traffic::{Keys, Traffic};
use crate::overload::world::Scenario;

const OTHERS: u32 = 10;
const TIMES: f64 = 100.0;
/// What each of the others pushes, in jobs a second; all of them together are a fifth of what can be done.
const EACH: f64 = 20.0;

fn scenario(seconds: u64, noisy: bool, keyed: bool) -> Scenario {
    let mut traffic = Traffic::plain(3);
    let times = if noisy { TIMES } else { 0.0 };
    traffic.keys = Keys::Noisy {
        others: OTHERS,
        times,
    };
    traffic.keyed = keyed;
    let queue = [("capacity", "1000"), ("on_full", "drop_oldest")];
    Scenario {
        pattern: Pattern::Steady,
        rate: EACH * (f64::from(OTHERS) + times),
        traffic,
        seconds,
        handlers: 10,
        downstream: Downstream::workers(Duration::from_millis(10), Spread::Exponential),
        patience: Duration::from_millis(500),
        queue: queue.map(|(name, text)| (name, text.to_owned())).to_vec(),
        kind: Vec::new(),
        seed: 17,
    }
}

/// All of it.
pub fn run(size: Size, report: &mut Report) {
    let seconds = size.pick(120, 5);
    let cases = [
        ("the others alone", false, true),
        ("beside the noisy one, no keys", true, false),
        ("beside the noisy one, with `concurrency_key`", true, true),
    ];
    let runs = cases.map(|(title, noisy, keyed)| (title, scenario(seconds, noisy, keyed).run()));
    let rows = runs.iter().map(|(title, found)| {
        let mut others = others(found);
        let noisy = found.of(|whose| whose.key == Some(0));
        let share = noisy.in_time + noisy.late;
        vec![
            (*title).to_owned(),
            percent(others.in_time as f64 / others.arrived as f64),
            millis(others.answer(0.5)),
            millis(others.answer(0.99)),
            format!("{:.0}/s", share as f64 / seconds as f64),
        ]
    });
    let head = [
        "",
        "others' jobs done in time",
        "median from push to end",
        "p99",
        "the noisy one's jobs done",
    ];
    report.block("fairness", table(&head, rows));
    let p99 = |place: usize| others(&runs[place].1).answer(0.99).as_secs_f64();
    let ratio = p99(2) / p99(0);
    report.goal(
        "others' p99 from push to end beside a key that sends a hundred times as much, to being alone",
        "≤ 2",
        format!("{ratio:.2} (without keys {:.1})", p99(1) / p99(0)),
        ratio <= 2.0,
    );
    report.close("goals-fairness");
}

fn others(found: &Found) -> crate::overload::found::Class {
    found.of(|whose| whose.key != Some(0))
}
