//! SIGKILL at random moments, over and over, on stores that live through many of them.
//!
//! The page cache survives the death of a process, so this shows what a *process* crash does, at `os` as
//! well as at `disk`; what a power cut does is shown elsewhere.

use std::time::Duration;

use crate::key::{Dice, say, seed, size};
use crate::ledger::{Counts, Ledger};
use crate::life::{Folder, Kill, live};
use crate::plan::{Finish, Plan};
use crate::report::Level;

/// Kills on one file before it is drained, judged and left.
const LIVES: u64 = 100;

/// Two lanes side by side, one per processor of a small machine.
const LANES: u64 = 2;

#[test]
fn no_kill_loses_what_was_acknowledged() {
    let (seed, cycles) = (seed(), size("FOREBAY_KILLS", 2_000));
    let counts = lanes(seed, cycles, None, |folder| {
        format!("sqlite:{}", folder.file("jobs.db").display())
    });
    say(&format!("{cycles} kills of a driver: {counts:?}"));
    for (what, count) in [
        ("kill", counts.killed),
        ("acknowledgement", counts.acked),
        ("repetition", counts.repeated),
    ] {
        assert!(
            count > 0,
            "no {what} in {cycles} cycles: the harness shows nothing"
        );
    }
}

/// The most jobs that wait in a queue that sheds.
const ROOM: u64 = 12;

#[test]
fn no_kill_breaks_the_books_of_a_queue_that_sheds() {
    let (seed, cycles) = (seed(), size("FOREBAY_KILLS", 2_000) / 8);
    let mut sum = Counts::default();
    let policies = [
        "drop_oldest",
        "drop_lowest",
        "coalesce",
        "drop_newest",
        "sample(0.5)",
    ];
    for (n, policy) in policies.into_iter().enumerate() {
        let query = format!("on_full={policy}&capacity={ROOM}&capacity_bytes=30000");
        let each = cycles / policies.len() as u64;
        let seed = seed ^ (n as u64) << 48;
        sum += lanes(seed, each.max(LANES), Some(ROOM), |folder| {
            format!("sqlite:{}?{query}", folder.file("jobs.db").display())
        });
    }
    say(&format!("{cycles} kills of a driver whose queue sheds: {sum:?}"));
    for (what, count) in [
        ("kill", sum.killed),
        ("shed job", sum.shed),
        ("one in a file", sum.gone),
    ] {
        assert!(
            count > 0,
            "no {what} in {cycles} cycles: the harness shows nothing"
        );
    }
}

/// A harness that cannot fail shows nothing: kept in memory, jobs are lost, and the books must say so.
#[test]
fn the_books_notice_a_store_that_loses() {
    let folder = Folder::new("lossy");
    let mut ledger = Ledger::new(Level::Memory);
    let mut dice = Dice::new(seed());
    cycle(&mut ledger, &mut dice, 1, "memory:", Kill::Reports(200));
    drain(&mut ledger, &mut dice, 2, "memory:");
    let faults = ledger.verdict();
    assert!(faults.iter().any(|fault| fault.contains("is lost")), "{faults:?}");
    drop(folder);
}

/// Cycles in lanes, each with its own file; what they counted together.
fn lanes(seed: u64, cycles: u64, bound: Option<u64>, url: impl Fn(&Folder) -> String + Sync) -> Counts {
    let mut sum = Counts::default();
    std::thread::scope(|scope| {
        let url = &url;
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| scope.spawn(move || run_lane(seed ^ lane << 56, lane, (cycles / LANES, bound), url)))
            .collect();
        for lane in lanes {
            sum += lane
                .join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        }
    });
    sum
}

fn run_lane(
    seed: u64,
    lane: u64,
    (cycles, bound): (u64, Option<u64>),
    url: &impl Fn(&Folder) -> String,
) -> Counts {
    let mut dice = Dice::new(seed);
    let mut sum = Counts::default();
    let mut left = cycles;
    while left > 0 {
        let folder = Folder::new(&format!("kill-{lane}-{left}"));
        let url = url(&folder);
        // Many lives, unless there are few in all.
        let lives = left.min(1 + dice.below(2 * LIVES.min(1 + cycles / 4)));
        let mut ledger = Ledger::new(Level::Os);
        if let Some(bound) = bound {
            ledger = ledger.bound(bound);
        }
        let mut life = 0;
        for _ in 0..lives {
            // Now and then one that is let to its end: what stops in order keeps everything, at any level.
            let kill = if dice.one_in(8) {
                Kill::Never
            } else {
                moment(&mut dice)
            };
            life += 1;
            cycle(&mut ledger, &mut dice, life, &url, kill);
            if kill == Kill::Never {
                life += 1;
                cycle(&mut ledger, &mut dice, life, &url, Kill::Reports(100));
            }
        }
        drain(&mut ledger, &mut dice, life + 1, &url);
        let faults = ledger.verdict();
        assert!(faults.is_empty(), "{url}:\n{}", faults.join("\n"));
        sum += ledger.counts();
        left -= lives;
    }
    sum
}

/// When to kill: mostly in the middle of work, often while it opens, sometimes while it stops.
fn moment(dice: &mut Dice) -> Kill {
    match dice.below(8) {
        0 | 1 => Kill::After(Duration::from_micros(dice.below(12_000))),
        2 => Kill::Stopping(Duration::from_micros(dice.below(3_000))),
        _ => Kill::Reports(1 + dice.below(150) as u32),
    }
}

/// One life that ends in a kill, or in a stop if there is none.
fn cycle(ledger: &mut Ledger, dice: &mut Dice, life: u32, url: &str, kill: Kill) {
    let mut plan = Plan::new(url, life, dice.next());
    plan.pushers = 1 + dice.below(4) as u32;
    plan.pushes = 12;
    plan.workers = dice.below(4) as u32;
    plan.level = match dice.below(4) {
        0 => Some(Level::Os),
        1 => None,
        _ => Some(Level::Disk),
    };
    plan.sync_done = dice.one_in(4);
    if matches!(kill, Kill::Stopping(_) | Kill::Never) {
        plan.finish = Finish::Stops;
    }
    live(&plan, kill, ledger);
}

/// The last life: runs what is left and says what the store counts.
pub fn drain(ledger: &mut Ledger, dice: &mut Dice, life: u32, url: &str) {
    let mut plan = Plan::new(url, life, dice.next());
    plan.workers = 4;
    plan.finish = Finish::Drains;
    live(&plan, Kill::Never, ledger);
}
