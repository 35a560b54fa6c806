//! Random pushes, claims, ends, returns, cancels and limits, and after each of them the turns are what a few
//! sorted lists say.

use proptest::collection::vec;

use super::*;

const KEYS: usize = 5;
const PRIORITIES: [Priority; 2] = [0, 1];

#[derive(Clone, Debug)]
enum Step {
    Push(usize, usize, usize),
    /// Priority, kinds as bits.
    Take(usize, usize),
    End(usize),
    GiveBack(usize),
    /// Ends, and the job stands where it stood.
    Return(usize),
    Remove(usize),
    LimitAll(u32, usize),
    Limit(usize, Option<u32>),
    Advance(i64),
}

const RATES: [Option<&str>; 3] = [None, Some("10/s burst=1"), Some("20/s burst=3")];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..KEYS, 0..KINDS, 0..2usize).prop_map(|(k, kind, p)| Step::Push(k, kind, p)),
        8 => (0..2usize, 1..8usize).prop_map(|(p, kinds)| Step::Take(p, kinds)),
        5 => (0..9usize).prop_map(Step::End),
        1 => (0..9usize).prop_map(Step::GiveBack),
        1 => (0..9usize).prop_map(Step::Return),
        2 => (0..9usize).prop_map(Step::Remove),
        1 => (0..3u32, 0..3usize).prop_map(|(n, rate)| Step::LimitAll(n, rate)),
        1 => (0..KEYS, prop::option::of(0..3u32)).prop_map(|(k, n)| Step::Limit(k, n)),
        2 => (0..120_000i64).prop_map(Step::Advance),
    ];
    vec(step, 1..150)
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    key: usize,
    kind: usize,
    priority: usize,
    number: u32,
    entry: u32,
}

#[derive(Default)]
struct Model {
    queued: Vec<Queued>,
    running: Vec<(Queued, Taken)>,
    limits: (u32, usize),
    own: BTreeMap<usize, u32>,
    used: BTreeMap<usize, crate::admission::Gcra>,
    /// How many turns others have had since a flow that may start had its last, by (flow, other flow).
    since: BTreeMap<(usize, usize, usize), u32>,
}

impl Model {
    fn rate(&self) -> Option<crate::admission::Rate> {
        RATES[self.limits.1].map(|text| text.parse().unwrap())
    }

    fn most(&self, key: usize) -> u32 {
        let all = if self.limits.0 == 0 {
            u32::MAX
        } else {
            self.limits.0
        };
        self.own.get(&key).copied().unwrap_or(all)
    }

    fn runs(&self, key: usize) -> u32 {
        self.running.iter().filter(|(q, _)| q.key == key).count() as u32
    }

    fn may(&self, key: usize, now: Timestamp) -> bool {
        let used = self.used.get(&key).copied().unwrap_or_default();
        let in_time = self.rate().is_none_or(|rate| used.next(rate, now) <= now);
        self.runs(key) < self.most(key) && in_time
    }

    /// Flows of a priority that may give a job of these kinds.
    fn able(&self, priority: usize, kinds: usize, now: Timestamp) -> Vec<usize> {
        let fits = |q: &&Queued| q.priority == priority && kinds & 1 << q.kind > 0;
        let mut keys: Vec<_> = self.queued.iter().filter(fits).map(|q| q.key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.may(*key, now));
        keys
    }
}

struct Pair {
    table: Table,
    model: Model,
}

fn kinds_of(bits: usize) -> Vec<usize> {
    (0..KINDS).filter(|kind| bits & 1 << kind > 0).collect()
}

impl Pair {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push(k, kind, priority) => self.push(k, kind, priority),
            Step::Take(priority, kinds) => self.take(priority, kinds),
            Step::End(n) => _ = self.end(n, Turns::end),
            Step::GiveBack(n) => {
                let Some(gone) = self.end(n, Turns::give_back) else {
                    return;
                };
                if let (Some(rate), Some(used)) = (self.model.rate(), self.model.used.get_mut(&gone.key)) {
                    used.give_back(rate, 1);
                }
            }
            Step::Return(n) => {
                if let Some(job) = self.end(n, Turns::end) {
                    self.put(job, true);
                }
            }
            Step::Remove(n) if !self.model.queued.is_empty() => {
                let gone = self.model.queued.remove(n * 5 % self.model.queued.len());
                self.table.remove((gone.number, gone.entry));
                // Those of its kind may have been those that stood first.
                self.model.since.retain(|(_, other, _), _| *other != gone.key);
            }
            Step::Remove(_) => {}
            Step::LimitAll(most, rate) => {
                self.model.limits = (most, rate);
                self.table.limits(most, RATES[rate]);
            }
            Step::Limit(k, limit) => {
                match limit {
                    Some(n) => self.model.own.insert(k, n),
                    None => self.model.own.remove(&k),
                };
                self.table.limit(&key(k), limit);
            }
            Step::Advance(us) => self.table.advance(us),
        }
    }

    fn push(&mut self, k: usize, kind: usize, priority: usize) {
        self.table.next += 1;
        let job = Queued {
            key: k,
            kind,
            priority,
            number: self.table.next as u32,
            entry: 0,
        };
        self.put(job, false);
    }

    fn put(&mut self, job: Queued, back: bool) {
        let what = (job.kind, PRIORITIES[job.priority]);
        let entry = self.table.put(&key(job.key), what, job.number, back);
        self.model.queued.push(Queued { entry, ..job });
    }

    fn take(&mut self, priority: usize, kinds: usize) {
        let able = self.model.able(priority, kinds, self.table.now);
        let Some(taken) = self.table.take(PRIORITIES[priority], &kinds_of(kinds)) else {
            assert!(able.is_empty(), "a flow that may start is found: {able:?}");
            return;
        };
        let number = taken.ticket.slot();
        let place = self.model.queued.iter().position(|q| q.number == number);
        let job = self
            .model
            .queued
            .remove(place.expect("no job is given out twice"));
        assert!(able.contains(&job.key), "{job:?} of {able:?}");
        assert!(kinds & 1 << job.kind > 0 && job.priority == priority);
        let earlier = |q: &&Queued| {
            q.key == job.key && q.priority == priority && kinds & 1 << q.kind > 0 && q.number < number
        };
        assert_eq!(
            self.model.queued.iter().filter(earlier).count(),
            0,
            "first in, first out"
        );
        self.take_turns(priority, kinds, job.key, &able);
        let used = self.model.used.entry(job.key).or_default();
        if let Some(rate) = RATES[self.model.limits.1] {
            assert_eq!(used.take(rate.parse().unwrap(), self.table.now, 1), 1);
        }
        self.model.running.push((job, taken));
    }

    /// Between two turns of a flow, each other one that could have had one all the time has had one. What could
    /// have had one for a claim of some kinds cannot for one of others, so only turns for all kinds are counted.
    fn take_turns(&mut self, priority: usize, kinds: usize, chosen: usize, able: &[usize]) {
        for other in able.iter().filter(|k| **k != chosen) {
            let passed = self.model.since.entry((priority, *other, chosen)).or_default();
            *passed += u32::from(kinds == 7);
            assert!(*passed <= 1, "key {chosen} has a second turn while {other} waits");
        }
        let served = |(p, other, _): &(usize, usize, usize)| *p == priority && *other == chosen;
        self.model.since.retain(|turn, _| !served(turn));
    }

    fn end(&mut self, n: usize, how: fn(&mut Turns, &Lanes, u32, Timestamp)) -> Option<Queued> {
        let place = n.checked_rem(self.model.running.len())?;
        let (job, taken) = self.model.running.swap_remove(place);
        how(
            &mut self.table.turns,
            &self.table.lanes,
            taken.key,
            self.table.now,
        );
        Some(job)
    }

    fn compare(&mut self) {
        let (now, model) = (self.table.now, &mut self.model);
        // A flow that cannot start has no claim on a turn.
        let able: Vec<Vec<usize>> = (0..2).map(|p| model.able(p, 7, now)).collect();
        model.since.retain(|(p, other, _), _| able[*p].contains(other));
        let model = &self.model;
        let mut parked = 0;
        for k in 0..KEYS {
            let (queued, running) = (model.queued.iter().filter(|q| q.key == k).count(), model.runs(k));
            assert!(
                queued == 0 || model.may(k, now) || {
                    parked += 1;
                    true
                }
            );
            let standing = self.table.standing(&key(k)).unwrap_or_default();
            assert_eq!((standing.queued, standing.running), (queued, running as usize));
        }
        assert_eq!(self.table.turns.parked, parked);
        assert_eq!(self.table.turns.sizes()[2], model.queued.len());
        for (p, able) in able.iter().enumerate() {
            assert_eq!(self.table.lanes.lane(PRIORITIES[p]).flows(), !able.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 200 } else { 5000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn it_is_a_list_per_key(steps in steps()) {
        let mut pair = Pair { table: Table::new(), model: Model::default() };
        for step in &steps {
            pair.step(step);
            pair.compare();
        }
    }
}
