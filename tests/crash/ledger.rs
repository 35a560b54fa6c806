//! The checker's books: what was attempted, acknowledged, delivered and ended over all lives of a driver,
//! and what may not be among it.
//!
//! Nothing here asks Forebay. The books are kept by a process that is never killed, from what the driver
//! told before it died, and compared with what the last life, which drains the queue, was given.

use std::collections::BTreeMap;

use crate::key::{Key, Temper, fingerprint};
use crate::report::{End, Level, Report};

/// What is known about one job.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// The level that was asked for; `None` if no driver ever spoke of the job.
    asked: Option<Level>,
    /// The level and the life in which a push of it returned.
    acked: Option<(Level, u32)>,
    /// Where among the reports that was.
    acked_at: u64,
    /// The kind of error its push returned.
    refused: Option<String>,
    /// Whether it must be there after whatever happens next.
    promised: bool,
    /// How often it was delivered.
    deliveries: u32,
    /// The life of the last delivery.
    life: u32,
    /// Under which fence that was.
    fence: u64,
    /// Whether that delivery has not been answered.
    held: bool,
    /// How the last body ended, if it did.
    end: Option<End>,
    /// Whether a body of it ever ended for good.
    over: bool,
    /// Where among the reports its answer for good returned.
    completed_at: Option<u64>,
    /// Whether that answer must be there after whatever happens next.
    closed: bool,
    /// Lives that ended while it ran.
    crashes: u32,
    /// In which life it was shed last, and where among the reports that was told.
    shed: Option<(u32, u64)>,
    /// Whether it must stay so after whatever happens next.
    shed_stored: bool,
    /// Whether the store says in the end that it was shed.
    gone: bool,
}

impl Entry {
    /// Whether it is known what became of it.
    fn is_accounted(&self) -> bool {
        self.over || self.gone || self.shed.is_some()
    }
}

/// Jobs beyond the bound that may be on their way: each worker may hold one that failed, for which another came.
const ON_THEIR_WAY: u64 = 4;

/// What the books count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Lives of drivers, and those that were killed.
    pub lives: u64,
    pub killed: u64,
    /// Jobs attempted, acknowledged, refused.
    pub attempted: u64,
    pub acked: u64,
    pub refused: u64,
    /// Deliveries; those of a job that had ended in a life that was killed.
    pub delivered: u64,
    pub repeated: u64,
    /// Jobs at `memory` that a kill took before they were flushed.
    pub forgone: u64,
    /// Calls that failed with an error.
    pub troubles: u64,
    /// Jobs that were told to be shed, and those that the store says were, in the end.
    pub shed: u64,
    pub gone: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.lives += other.lives;
        self.killed += other.killed;
        self.attempted += other.attempted;
        self.acked += other.acked;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.repeated += other.repeated;
        self.forgone += other.forgone;
        self.troubles += other.troubles;
        self.shed += other.shed;
        self.gone += other.gone;
    }
}

/// The books about one store.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The lowest level that survives what is done to the store: `Os` for a kill, `Disk` for a power cut.
    survives: Level,
    /// How often a job may be running when its process dies and still be run again.
    max_crashes: u32,
    /// The most jobs that may run at once.
    concurrency: u32,
    jobs: BTreeMap<Key, Entry>,
    life: u32,
    /// Reports so far.
    at: u64,
    /// Bodies that run now.
    running: u32,
    /// Where the flushes that have not returned began, by number.
    flushing: BTreeMap<u64, u64>,
    stopped: bool,
    /// Whether calls may fail in this life, as long as they say so.
    trouble_expected: bool,
    /// The most jobs that may wait, and how many more did because they ran when their process died.
    bound: Option<u64>,
    over: u64,
    /// Whether a queue of these lives sheds: what was pushed at `memory` may then be gone before it was ever written,
    /// and its driver dead before it could tell.
    sheds: bool,
    faults: Vec<String>,
    counts: Counts,
}

impl Ledger {
    pub fn new(survives: Level) -> Self {
        Self {
            survives,
            max_crashes: u32::MAX,
            concurrency: u32::MAX,
            jobs: BTreeMap::new(),
            life: 0,
            at: 0,
            running: 0,
            flushing: BTreeMap::new(),
            stopped: false,
            trouble_expected: false,
            bound: None,
            over: 0,
            sheds: false,
            faults: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A job that was running in this many lives that were killed must not run again.
    pub fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = crashes;
        self
    }

    /// Never more bodies at once than this.
    pub fn concurrency(mut self, bodies: u32) -> Self {
        self.concurrency = bodies;
        self
    }

    /// Never more jobs that wait in a store that was just opened, but for those that were on their way to run or
    /// to run again.
    pub fn bound(mut self, jobs: u64) -> Self {
        self.bound = Some(jobs);
        self
    }

    /// Whether a job at `os` counts as promised.
    pub fn counts_os(&self) -> bool {
        self.survives <= Level::Os
    }

    /// Whether what is done to the next lives may make their calls fail.
    pub fn expect_trouble(&mut self, expected: bool) {
        self.trouble_expected = expected;
    }

    /// A driver is started.
    pub fn born(&mut self, life: u32) {
        self.life = life;
        self.running = 0;
        self.flushing.clear();
        self.stopped = false;
        self.counts.lives += 1;
    }

    /// It has ended, in whatever way; all it told has been heard.
    pub fn died(&mut self) {
        if !self.stopped {
            self.counts.killed += 1;
        }
        let life = self.life;
        self.over = 0;
        for entry in self.jobs.values_mut().filter(|e| e.life == life && e.held) {
            self.over += 1;
            entry.held = false;
            entry.crashes += u32::from(!self.stopped);
        }
    }

    /// How often the life that died last, or any before it, had this job running.
    pub fn crashes(&self, key: Key) -> u32 {
        self.jobs.get(&key).map_or(0, |entry| entry.crashes)
    }

    /// How often this job was delivered.
    pub fn deliveries(&self, key: Key) -> u32 {
        self.jobs.get(&key).map_or(0, |entry| entry.deliveries)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn fault(&mut self, text: String) {
        self.faults.push(format!("life {}: {text}", self.life));
    }

    /// Takes down a report.
    pub fn hear(&mut self, report: &Report) {
        self.at += 1;
        match report {
            Report::Intent(key, level) => self.intent(*key, *level),
            Report::Acked(key, level) => self.acked(*key, *level),
            Report::Refused(key, kind) => {
                self.counts.refused += 1;
                self.jobs.entry(*key).or_default().refused = Some(kind.clone());
            }
            Report::Shed(key, reason) => self.shed(*key, reason),
            Report::Gone(key, reason) => self.gone(*key, reason),
            Report::Waiting(jobs) => {
                self.sheds = true;
                let most = self.bound.map(|bound| bound + self.over + ON_THEIR_WAY);
                if most.is_some_and(|most| *jobs > most) {
                    self.fault(format!("{jobs} jobs wait where {:?} may", self.bound));
                }
            }
            Report::Started(key, bytes, attempt, fence) => self.started(*key, *bytes, *attempt, *fence),
            Report::Garbled(bytes) => {
                self.fault(format!("a job was delivered that nobody pushed ({bytes:x})"));
            }
            Report::Ended(key, fence, end) => {
                self.running = self.running.saturating_sub(1);
                if let Some(entry) = self.holder(*key, *fence) {
                    entry.end = Some(*end);
                    entry.over |= *end != End::Again;
                }
            }
            Report::Completed(key, fence) => self.completed(*key, *fence),
            Report::Stored(key, fence) => {
                self.completed(*key, *fence);
                if let Some(entry) = self.holder(*key, *fence) {
                    entry.closed |= entry.completed_at.is_some();
                }
            }
            Report::Unanswered(key, fence, _) => {
                if let Some(entry) = self.holder(*key, *fence) {
                    entry.held = false;
                }
            }
            Report::Flushing(n) => drop(self.flushing.insert(*n, self.at)),
            Report::Flushed(n) => {
                if let Some(since) = self.flushing.remove(n) {
                    self.settle(since);
                }
            }
            Report::Balance(accepted, ended, pending) => {
                if *accepted != ended + pending {
                    self.fault(format!(
                        "{accepted} accepted, but {ended} ended and {pending} pending"
                    ));
                }
            }
            Report::Stopped => {
                self.stopped = true;
                self.settle(self.at);
            }
            Report::Trouble(text) => {
                self.counts.troubles += 1;
                if !self.trouble_expected {
                    self.fault(text.clone());
                }
            }
            Report::Opened | Report::Stopping => {}
        }
    }

    fn intent(&mut self, key: Key, level: Level) {
        self.counts.attempted += 1;
        let entry = self.jobs.entry(key).or_default();
        // The body of a parent that runs again pushes its follow-up again.
        entry.asked = Some(level);
    }

    fn acked(&mut self, key: Key, level: Level) {
        let (life, at, survives) = (self.life, self.at, self.survives);
        self.counts.acked += 1;
        let entry = self.jobs.entry(key).or_default();
        let asked = entry.asked;
        entry.acked = Some((level, life));
        entry.acked_at = at;
        entry.promised |= level >= survives;
        if asked.is_none_or(|asked| level < asked) {
            self.fault(format!(
                "{key} was acknowledged at {level:?}, asked for {asked:?}"
            ));
        }
    }

    /// It was told to be shed.
    fn shed(&mut self, key: Key, reason: &str) {
        let (life, at) = (self.life, self.at);
        self.counts.shed += 1;
        let entry = self.jobs.entry(key).or_default();
        let here = entry.life == life;
        let wrong = [
            (entry.asked.is_none(), "which nobody pushed"),
            (entry.refused.is_some(), "which was refused"),
            (entry.closed, "whose end was stored"),
            (here && entry.held && entry.end.is_none(), "which is held"),
            (
                here && entry.end.is_some_and(|end| end != End::Again),
                "which ended in this life",
            ),
            (!reason.starts_with("shed_"), "for no reason"),
        ];
        // A newcomer's push and the event both tell of it.
        if entry.shed.is_none_or(|(shed, _)| shed != life) {
            entry.shed = Some((life, at));
        }
        for (_, what) in wrong.iter().filter(|(wrong, _)| *wrong) {
            self.fault(format!("{key} was shed, {what}"));
        }
    }

    /// The store says, once nothing is left to do, that it was shed.
    fn gone(&mut self, key: Key, reason: &str) {
        let life = self.life;
        self.counts.gone += 1;
        let entry = self.jobs.entry(key).or_default();
        entry.gone = true;
        let wrong = [
            (entry.asked.is_none(), "which nobody pushed"),
            (entry.closed, "whose end was stored"),
            (entry.life == life && entry.over, "which ended in this life"),
            (!reason.starts_with("shed_"), "for no reason"),
        ];
        for (_, what) in wrong.iter().filter(|(wrong, _)| *wrong) {
            self.fault(format!("{key} is shed in the store, {what}"));
        }
    }

    /// The job, if its last delivery was under this fence. Between an answer and the word of it, a job may
    /// have been delivered again.
    fn holder(&mut self, key: Key, fence: u64) -> Option<&mut Entry> {
        self.jobs.get_mut(&key).filter(|entry| entry.fence == fence)
    }

    fn started(&mut self, key: Key, bytes: u64, attempt: u32, fence: u64) {
        self.counts.delivered += 1;
        self.running += 1;
        if self.running > self.concurrency {
            self.fault(format!(
                "{} bodies at once, {} allowed",
                self.running, self.concurrency
            ));
        }
        if bytes != fingerprint(&key.payload()) {
            self.fault(format!("{key} was delivered with another payload"));
        }
        let (life, survives, max_crashes) = (self.life, self.survives, self.max_crashes);
        let killed = self.counts.killed;
        let entry = self.jobs.entry(key).or_default();
        let mut wrong = Vec::new();
        if entry.asked.is_none() {
            wrong.push("which nobody pushed".to_owned());
        }
        if let Some(kind) = entry.refused.as_ref().filter(|kind| *kind != "Unknown") {
            wrong.push(format!("which was refused ({kind})"));
        }
        if entry.shed_stored {
            wrong.push("and that it was shed was stored".to_owned());
        }
        if entry.shed.is_some_and(|(shed, _)| shed == life) {
            wrong.push("which was shed in this life".to_owned());
        }
        if entry.closed {
            wrong.push("whose end was stored".to_owned());
        } else if entry.life == life && entry.held && entry.end.is_none() {
            wrong.push("which is already held".to_owned());
        } else if entry.life == life && entry.end.is_some_and(|end| end != End::Again) {
            wrong.push("which ended in this life".to_owned());
        }
        // One that nobody promised may have gone with its process, and have been pushed again.
        if fence <= entry.fence && (entry.promised || entry.life == life) {
            wrong.push(format!("under fence {fence} after {}", entry.fence));
        }
        if entry.crashes >= max_crashes {
            wrong.push(format!("which {} processes have died of", entry.crashes));
        }
        // One that died between a claim and its body counts an attempt of which nobody heard.
        if attempt == 0 || u64::from(attempt) > u64::from(entry.deliveries) + 1 + killed {
            wrong.push(format!(
                "as attempt {attempt} after {} deliveries",
                entry.deliveries
            ));
        }
        self.counts.repeated += u64::from(entry.over);
        entry.deliveries += 1;
        entry.life = life;
        entry.fence = fence;
        entry.held = true;
        entry.end = None;
        entry.completed_at = None;
        // A job that is not stored yet is not given out, unless nobody asked for it to be stored.
        entry.promised |= entry.asked.is_some_and(|asked| asked >= survives);
        let stored = entry.promised;
        for wrong in wrong {
            self.fault(format!("{key} ran, {wrong}"));
        }
        if key.follow_up && stored {
            let parent = Key {
                follow_up: false,
                ..key
            };
            // It was stored in the same write as its parent's end.
            self.jobs.entry(parent).or_default().closed = true;
        }
    }

    fn completed(&mut self, key: Key, fence: u64) {
        let at = self.at;
        let Some(entry) = self.holder(key, fence) else {
            return;
        };
        entry.held = false;
        if entry.end.is_some_and(|end| end != End::Again) {
            entry.completed_at = Some(at);
        }
    }

    /// All that returned before this report is on disk.
    fn settle(&mut self, before: u64) {
        let (life, survives, sheds) = (self.life, self.survives, self.sheds);
        for entry in self.jobs.values_mut() {
            let written = !sheds || entry.asked.is_some_and(|asked| asked >= survives);
            entry.promised |=
                written && entry.acked.is_some_and(|(_, acked)| acked == life) && entry.acked_at <= before;
            entry.closed |= entry.life == life && entry.completed_at.is_some_and(|at| at <= before);
            entry.shed_stored |= entry.shed.is_some_and(|(shed, at)| shed == life && at <= before);
        }
    }

    /// What was made up or changed, whatever may be missing.
    pub fn inventions(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// What is wrong, once a last life has drained the queue: nothing, if every promise was kept.
    pub fn verdict(&mut self) -> Vec<String> {
        if !self.stopped {
            self.fault("the last life did not come to its end".into());
        }
        let mut lost = Vec::new();
        for (key, entry) in &self.jobs {
            // What was pushed at memory and shed before it was ever written needs no row to say so.
            let asked = entry.acked.is_some_and(|(level, _)| level >= self.survives);
            let shed = entry.gone || !asked && entry.shed.is_some();
            if entry.promised && !entry.over && !shed && entry.crashes < self.max_crashes {
                lost.push(format!(
                    "{key} is lost: acknowledged {:?}, delivered {} times, ended never",
                    entry.acked, entry.deliveries
                ));
            }
            // One whose end was not stored has run again by now, and pushed it again.
            // One that was shed when its process had died before its end was stored has none.
            let shed = entry.gone || entry.shed.is_some();
            let has_child = !key.follow_up && key.temper() == Temper::Parent && !shed;
            if entry.promised
                && entry.over
                && has_child
                && !self.jobs.get(&key.child()).is_some_and(|child| {
                    let unwritten = self.sheds && child.asked.is_some_and(|asked| asked < self.survives);
                    child.is_accounted() || unwritten
                })
            {
                lost.push(format!("{key} ended, and its follow-up is lost"));
            }
            self.counts.forgone += u64::from(entry.acked.is_some() && !entry.promised && !entry.over);
        }
        self.faults.append(&mut lost);
        std::mem::take(&mut self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        life: 1,
        pusher: 0,
        number: 0,
        follow_up: false,
    };

    fn intent() -> Report {
        Report::Intent(KEY, Level::Disk)
    }

    fn acked() -> Report {
        Report::Acked(KEY, Level::Disk)
    }

    fn started(attempt: u32) -> Report {
        Report::Started(KEY, fingerprint(&KEY.payload()), attempt, attempt.into())
    }

    fn ended(attempt: u32) -> Report {
        Report::Ended(KEY, attempt.into(), End::Good)
    }

    fn completed(attempt: u32) -> Report {
        Report::Completed(KEY, attempt.into())
    }

    /// What the books find wrong with these lives; all but the last end in a kill.
    fn judged(mut ledger: Ledger, lives: &[&[Report]]) -> Vec<String> {
        for (n, reports) in lives.iter().enumerate() {
            ledger.born(n as u32 + 1);
            for report in *reports {
                ledger.hear(report);
            }
            if n + 1 == lives.len() {
                ledger.hear(&Report::Stopped);
            }
            ledger.died();
        }
        ledger.verdict()
    }

    fn sound(lives: &[&[Report]]) {
        assert_eq!(judged(Ledger::new(Level::Os), lives), Vec::<String>::new());
    }

    fn wrong(lives: &[&[Report]], what: &str) {
        let faults = judged(Ledger::new(Level::Os), lives);
        assert!(
            faults.iter().any(|fault| fault.contains(what)),
            "no {what:?} in {faults:?}"
        );
    }

    #[test]
    fn what_may_happen_is_no_fault() {
        let done = [intent(), acked(), started(1), ended(1), completed(1)];
        sound(&[&done]);
        // The end was not stored when the process died.
        sound(&[&done, &[started(2), ended(2), completed(2)]]);
        sound(&[&done[..3], &[started(2), ended(2), completed(2)]]);
        // Nobody was told that it is there.
        sound(&[&[intent()], &[]]);
        sound(&[&[intent()], &[started(1), ended(1), completed(1)]]);
        // At memory it may go, until it is flushed.
        sound(&[
            &[
                Report::Intent(KEY, Level::Memory),
                Report::Acked(KEY, Level::Memory),
            ],
            &[],
        ]);
        sound(&[&[intent(), Report::Refused(KEY, "Full".into())], &[]]);
        sound(&[&[Report::Balance(3, 2, 1)]]);
    }

    #[test]
    fn a_lost_job_is_noticed() {
        wrong(&[&[intent(), acked()], &[]], "is lost");
        wrong(&[&[intent(), started(1)], &[]], "is lost");
        let memory = [
            Report::Intent(KEY, Level::Memory),
            Report::Acked(KEY, Level::Memory),
            Report::Flushing(1),
            Report::Flushed(1),
        ];
        wrong(&[&memory, &[]], "is lost");
        sound(&[&memory[..3], &[]]);
    }

    #[test]
    fn a_job_that_runs_too_often_is_noticed() {
        let done = [intent(), acked(), started(1), ended(1), completed(1)];
        let flushed = [&done[..], &[Report::Flushing(1), Report::Flushed(1)]].concat();
        wrong(&[&flushed, &[started(2)]], "whose end was stored");
        wrong(
            &[&[&done[..], &[started(2)]].concat()],
            "which ended in this life",
        );
        wrong(&[&[&done[..3], &[started(2)]].concat()], "already held");
        let poison = judged(
            Ledger::new(Level::Os).max_crashes(2),
            &[&done[..3], &[started(2)], &[started(3), ended(2)]],
        );
        assert!(
            poison.iter().any(|fault| fault.contains("have died of")),
            "{poison:?}"
        );
        wrong(&[&done[..3], &[started(9), ended(9)]], "as attempt 9");
        let again = Report::Started(KEY, fingerprint(&KEY.payload()), 2, 1);
        wrong(&[&done[..3], &[again, ended(1)]], "under fence 1 after 1");
    }

    #[test]
    fn what_is_shed_is_accounted_for() {
        let shed = || Report::Shed(KEY, "shed_oldest".into());
        let gone = || Report::Gone(KEY, "shed_oldest".into());
        let done = [started(1), ended(1), completed(1)];
        let flushed = [Report::Flushing(1), Report::Flushed(1)];
        sound(&[&[intent(), acked(), shed()], &[gone()]]);
        // That it was shed was not stored when the process died.
        sound(&[&[intent(), acked(), shed()], &done]);
        sound(&[&[intent(), shed()], &[]]);
        wrong(&[&[intent(), acked(), shed()], &[]], "is lost");
        let stored = [&[intent(), acked(), shed()], &flushed[..]].concat();
        wrong(&[&stored, &done], "that it was shed was stored");
        let run = [&[intent(), acked(), shed()], &done[..]].concat();
        wrong(&[&run], "which was shed in this life");
        wrong(&[&[intent(), acked(), started(1), shed()]], "which is held");
        let over = [&[intent(), acked()], &done[..], &[shed()]].concat();
        wrong(&[&over], "which ended in this life");
        let closed = [&[intent(), acked()], &done[..], &flushed].concat();
        wrong(&[&closed, &[gone()]], "whose end was stored");
        wrong(
            &[&[intent(), acked(), Report::Gone(KEY, "none".into())]],
            "for no reason",
        );
        wrong(&[&[shed()]], "which nobody pushed");
        let full = judged(Ledger::new(Level::Os).bound(20), &[&[Report::Waiting(25)]]);
        assert!(
            full.iter().any(|fault| fault.contains("25 jobs wait")),
            "{full:?}"
        );
    }

    #[test]
    fn an_invented_job_is_noticed() {
        wrong(&[&[started(1), ended(1)]], "which nobody pushed");
        wrong(&[&[Report::Garbled(1)]], "nobody pushed");
        wrong(
            &[&[intent(), acked(), Report::Started(KEY, 1, 1, 1), ended(1)]],
            "another payload",
        );
        let refused = [
            intent(),
            Report::Refused(KEY, "Full".into()),
            started(1),
            ended(1),
        ];
        wrong(&[&refused], "which was refused");
    }

    #[test]
    fn a_follow_up_belongs_to_its_parent() {
        let parent = (0..)
            .map(|n| Key::new(1, 0, n))
            .find(|key| key.temper() == Temper::Parent);
        let parent = parent.expect("one in eight is");
        let child = parent.child();
        let start = |key: Key| Report::Started(key, fingerprint(&key.payload()), 1, 1);
        let life = [
            Report::Intent(parent, Level::Disk),
            Report::Acked(parent, Level::Disk),
            start(parent),
            Report::Intent(child, Level::Disk),
            Report::Ended(parent, 1, End::Good),
            Report::Completed(parent, 1),
        ];
        wrong(&[&life], "its follow-up is lost");
        let both = [&life[..], &[start(child), Report::Ended(child, 1, End::Good)]].concat();
        sound(&[&both]);
        let again = Report::Started(parent, fingerprint(&parent.payload()), 2, 2);
        wrong(&[&both, &[again]], "whose end was stored");
    }

    #[test]
    fn other_faults_are_noticed() {
        wrong(
            &[&[intent(), Report::Acked(KEY, Level::Os), started(1), ended(1)]],
            "acknowledged at Os",
        );
        wrong(&[&[Report::Balance(3, 1, 1)]], "3 accepted");
        wrong(&[&[Report::Trouble("oh".into())]], "oh");
        let crowd = judged(
            Ledger::new(Level::Os).concurrency(0),
            &[&[intent(), started(1), ended(1)]],
        );
        assert!(crowd.iter().any(|fault| fault.contains("at once")), "{crowd:?}");
        let mut dead = Ledger::new(Level::Os);
        dead.born(1);
        dead.died();
        assert_eq!(dead.verdict().len(), 1, "the last life must come to its end");
    }
}
