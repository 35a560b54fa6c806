//! What a driver is to do with its life: given by the checker in one environment variable.

use std::fmt::Write as _;

use crate::report::Level;

/// The variable that makes the test program a driver.
pub const VARIABLE: &str = "FOREBAY_CRASH_DRIVER";

/// How a driver's life is meant to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// It works until it is killed.
    Killed,
    /// It stops once it has pushed everything, done or not.
    Stops,
    /// It works until nothing is left, says what the store counts, and stops.
    Drains,
}

/// One life of a driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What it opens.
    pub url: String,
    /// Which of the lives on this store it is, from 1.
    pub life: u32,
    /// Decides everything it does that is left to chance.
    pub seed: u64,
    /// Threads that push.
    pub pushers: u32,
    /// Jobs that each of them pushes.
    pub pushes: u32,
    /// Threads that run jobs.
    pub workers: u32,
    /// The level it asks for; `None` is a different one for each push.
    pub level: Option<Level>,
    /// Whether the end of an attempt is answered only when it is stored.
    pub sync_done: bool,
    /// Whether the first job of the first life kills the process that runs it.
    pub poison: bool,
    /// How it ends.
    pub finish: Finish,
}

impl Plan {
    /// A life that does nothing yet.
    pub fn new(url: impl Into<String>, life: u32, seed: u64) -> Self {
        Self {
            url: url.into(),
            life,
            seed,
            pushers: 0,
            pushes: 0,
            workers: 0,
            level: Some(Level::Disk),
            sync_done: false,
            poison: false,
            finish: Finish::Killed,
        }
    }

    /// Whether its queue sheds what it has no room for.
    pub fn sheds(&self) -> bool {
        self.url.contains("on_full=")
    }

    /// As the text of the variable.
    pub fn write(&self) -> String {
        let mut text = String::new();
        let level = self.level.map_or("mixed", Level::name);
        let finish = match self.finish {
            Finish::Killed => "killed",
            Finish::Stops => "stops",
            Finish::Drains => "drains",
        };
        let Plan {
            url,
            life,
            seed,
            pushers,
            pushes,
            workers,
            ..
        } = self;
        let (sync_done, poison) = (u8::from(self.sync_done), u8::from(self.poison));
        // The URL is last: it may hold anything but a line's end.
        let _ = write!(
            text,
            "{life} {seed} {pushers} {pushes} {workers} {level} {sync_done} {poison} {finish} {url}"
        );
        text
    }

    /// The plan that this text says.
    pub fn read(text: &str) -> Option<Self> {
        let mut fields = text.splitn(10, ' ');
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (life, seed, pushers) = (number()? as u32, number()?, number()? as u32);
        let (pushes, workers) = (number()? as u32, number()? as u32);
        Some(Self {
            life,
            seed,
            pushers,
            pushes,
            workers,
            level: match fields.next()? {
                "mixed" => None,
                name => Some(Level::read(name).ok()?),
            },
            sync_done: fields.next()? == "1",
            poison: fields.next()? == "1",
            finish: match fields.next()? {
                "killed" => Finish::Killed,
                "stops" => Finish::Stops,
                "drains" => Finish::Drains,
                _ => return None,
            },
            url: fields.next()?.into(),
        })
    }
}

#[test]
fn a_plan_is_read_as_it_is_written() {
    let mut plan = Plan::new("sqlite:/tmp/with a space.db?a=b", 7, u64::MAX);
    for (level, finish) in [
        (None, Finish::Killed),
        (Some(Level::Os), Finish::Stops),
        (Some(Level::Memory), Finish::Drains),
    ] {
        (plan.level, plan.finish, plan.poison) = (level, finish, level.is_none());
        assert_eq!(Plan::read(&plan.write()).as_ref(), Some(&plan));
    }
}
