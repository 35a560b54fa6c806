//! How safe a job is when its push is answered.

use std::fmt;

/// What an acknowledged job survives. Levels are ordered: a higher one survives all that a lower one does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Durability {
    /// It is in the memory of this process, and lost with it unless it is written before. A durable engine
    /// writes it within the option `write_behind`.
    #[default]
    Memory = 1,
    /// It has been handed to the operating system: it survives the death of the process, `kill -9` included,
    /// but a power cut may take it.
    Os = 2,
    /// It is on the disk, as far as the disk tells the truth: it survives a power cut.
    Disk = 3,
}

impl Durability {
    /// Every level, the lowest first.
    pub const ALL: &'static [Durability] = &[Durability::Memory, Durability::Os, Durability::Disk];

    /// The name in lower case, as in options and every binding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::Os => "os",
            Durability::Disk => "disk",
        }
    }

    /// The stable number of the level.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The level with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Durability> {
        Self::ALL.iter().copied().find(|level| level.name() == name)
    }

    /// The level with this number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Durability> {
        Self::ALL.iter().copied().find(|level| level.code() == code)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_round_trip() {
        assert!(Durability::ALL.is_sorted());
        for level in Durability::ALL {
            assert_eq!(Durability::from_name(level.name()), Some(*level));
            assert_eq!(Durability::from_code(level.code()), Some(*level));
        }
    }
}
