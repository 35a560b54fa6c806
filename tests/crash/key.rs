//! The jobs of the harness: what a key says about its job is a pure function, so that the checker knows
//! what a job must look like without having been told.

use std::fmt;

/// Which job: who pushed it, and how many that pusher had pushed before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// The life of the driver that pushed it.
    pub life: u32,
    /// Which of its pushers.
    pub pusher: u32,
    /// Which of that pusher's jobs.
    pub number: u32,
    /// Whether it is the follow-up of the job with the same numbers.
    pub follow_up: bool,
}

/// What the handler does with a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Temper {
    /// Succeeds.
    Good,
    /// Fails at its first attempt and succeeds later.
    Flaky,
    /// Fails for good.
    Fatal,
    /// Asks to be run again a little later, at its first attempt of a life, then succeeds.
    Sleepy,
    /// Succeeds, and pushes a follow-up in the same write.
    Parent,
    /// Succeeds; is pushed with a delay.
    Late,
    /// Succeeds; is of a kind that only the last life knows.
    Strange,
}

impl Key {
    pub fn new(life: u32, pusher: u32, number: u32) -> Self {
        Self {
            life,
            pusher,
            number,
            follow_up: false,
        }
    }

    /// The first of all: where a plan has a poison, this is it.
    pub fn is_first(self) -> bool {
        self == Self::new(1, 0, 0)
    }

    /// The job that this one pushes when it is done.
    pub fn child(self) -> Self {
        Self {
            follow_up: true,
            ..self
        }
    }

    /// The key that this text spells.
    pub fn read(text: &str) -> Option<Self> {
        let (numbers, follow_up) = match text.strip_suffix('c') {
            Some(numbers) => (numbers, true),
            None => (text, false),
        };
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
        let key = Self {
            life: parts.next()??,
            pusher: parts.next()??,
            number: parts.next()??,
            follow_up,
        };
        parts.next().is_none().then_some(key)
    }

    /// What the handler does with it.
    pub fn temper(self) -> Temper {
        if self.follow_up {
            return Temper::Good;
        }
        match fingerprint(self.to_string().as_bytes()) >> 7 & 15 {
            0 | 1 => Temper::Flaky,
            2 => Temper::Fatal,
            3 => Temper::Sleepy,
            4 | 5 => Temper::Parent,
            6 => Temper::Late,
            7 => Temper::Strange,
            _ => Temper::Good,
        }
    }

    /// Its payload: the key, and a filler of a length and content that only the key decides. Most are
    /// small, a few span several pages.
    pub fn payload(self) -> Vec<u8> {
        let mut bytes = format!("{self} ").into_bytes();
        let mut dice = Dice::new(fingerprint(&bytes));
        let filler = match dice.below(32) {
            0 => 9_000 + dice.below(3_000),
            1..4 => 0,
            _ => dice.below(200),
        };
        bytes.extend((0..filler).map(|_| dice.below(256) as u8));
        bytes
    }

    /// The key of a payload as it was delivered, if it still begins with one.
    pub fn of_payload(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|b| *b == b' ')?;
        Self::read(std::str::from_utf8(&bytes[..end]).ok()?)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key {
            life, pusher, number, ..
        } = self;
        write!(
            f,
            "{life}.{pusher}.{number}{}",
            if self.follow_up { "c" } else { "" }
        )
    }
}

/// FNV-1a, 64 bits: what is compared must not share code with what is tested.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Numbers that a seed determines: splitmix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The seed of a test: `FOREBAY_SEED`, or a new one. Printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    use std::hash::BuildHasher;
    let given = std::env::var("FOREBAY_SEED").ok();
    let seed = given.map_or_else(
        || std::hash::RandomState::new().hash_one(0u8) >> 1,
        |text| text.trim().parse().expect("FOREBAY_SEED is a number"),
    );
    println!("replay with FOREBAY_SEED={seed}");
    seed
}

/// Says something about a test that passes too, whatever the runner does with its output.
pub fn say(text: &str) {
    use std::io::Write;
    // One write, so that tests side by side do not mix their lines.
    let _ = std::io::stderr().write_all(format!("crash: {text}\n").as_bytes());
}

/// A test cannot run here. `make nightly` sets the variable that makes this a failure.
pub fn skip(reason: &str) {
    say(&format!("SKIP({reason})"));
    assert!(
        std::env::var_os("FOREBAY_NO_SKIPS").is_none(),
        "skipped: {reason}"
    );
}

/// A size of a test: `NAME` from the environment, or the size of a commit's test.
pub fn size(name: &str, per_commit: u64) -> u64 {
    std::env::var(name).map_or(per_commit, |text| {
        text.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
    })
}

#[test]
fn a_key_is_read_as_it_is_written() {
    for key in [Key::new(0, 0, 0), Key::new(12, 3, 456), Key::new(7, 1, 2).child()] {
        assert_eq!(Key::read(&key.to_string()), Some(key));
        assert_eq!(Key::of_payload(&key.payload()), Some(key));
    }
    for text in ["", "1.2", "1.2.3.4", "1.2.x", "c"] {
        assert_eq!(Key::read(text), None, "{text:?}");
    }
}

#[test]
fn payloads_tell_their_jobs_apart() {
    let (a, b) = (Key::new(1, 2, 3), Key::new(1, 2, 4));
    assert_ne!(fingerprint(&a.payload()), fingerprint(&b.payload()));
    assert_ne!(fingerprint(&a.payload()), fingerprint(&a.child().payload()));
}
