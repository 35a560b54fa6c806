//! What the jobs of a run are like: whose they are, how much they matter, and whether they say when they are late.

use forebay::{Priority, Timestamp};

use super::rng::Rng;

/// Whose jobs they are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Keys {
    /// Nobody's: they have no key.
    None,
    /// One of so many, at random.
    Alike(u32),
    /// The first one's `times` as often as each of the `others`.
    Noisy {
        /// How many others there are.
        others: u32,
        /// How many times as often as one of them.
        times: f64,
    },
}

/// The jobs of a run.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Whose they are.
    pub keys: Keys,
    /// Whether the keys are given to the dispatcher, or only known here.
    pub keyed: bool,
    /// The share of those that matter more, and have a higher priority.
    pub important: f64,
    /// Whether they carry the deadline of their client.
    pub deadlines: bool,
    rng: Rng,
    names: Vec<String>,
}

impl Traffic {
    /// Jobs without keys, of one priority, without deadlines.
    pub fn plain(seed: u64) -> Self {
        Self {
            keys: Keys::None,
            keyed: false,
            important: 0.0,
            deadlines: false,
            rng: Rng::new(seed),
            names: Vec::new(),
        }
    }

    /// The client that comes now.
    pub(super) fn next(&mut self, now: Timestamp) -> Client {
        let key = match self.keys {
            Keys::None => None,
            Keys::Alike(keys) => Some(self.rng.below(keys.into()) as u32),
            Keys::Noisy { others, times } => {
                let noisy = self.rng.chance(times / (times + f64::from(others)));
                Some(if noisy {
                    0
                } else {
                    1 + self.rng.below(others.into()) as u32
                })
            }
        };
        Client {
            arrived: now,
            key,
            important: self.important > 0.0 && self.rng.chance(self.important),
        }
    }

    /// The name of a key, if jobs carry it.
    pub(super) fn name(&mut self, key: u32) -> Option<&str> {
        if !self.keyed {
            return None;
        }
        while self.names.len() <= key as usize {
            self.names.push(format!("key-{}", self.names.len()));
        }
        Some(&self.names[key as usize])
    }
}

/// Who waits for a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// When it came.
    pub arrived: Timestamp,
    /// Its key, if jobs have keys.
    pub key: Option<u32>,
    /// Whether it matters more.
    pub important: bool,
}

const NO_KEY: u32 = u32::MAX;
/// The length of the payload.
const BYTES: usize = 13;

impl Client {
    /// The priority of its job.
    pub(super) fn priority(&self) -> Priority {
        Priority::from(i8::from(self.important))
    }

    /// The payload of its job.
    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.arrived.as_micros().to_le_bytes());
        bytes[8..12].copy_from_slice(&self.key.unwrap_or(NO_KEY).to_le_bytes());
        bytes[12] = u8::from(self.important);
        bytes
    }

    /// Who waits for the job of this payload.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let (at, rest) = bytes.split_at(8);
        let at = i64::from_le_bytes(at.try_into().expect("eight bytes"));
        let key = u32::from_le_bytes(rest[..4].try_into().expect("four bytes"));
        Self {
            arrived: Timestamp::from_micros(at),
            key: (key != NO_KEY).then_some(key),
            important: rest[4] == 1,
        }
    }
}
