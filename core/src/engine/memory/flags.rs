//! What a [record](super::record) says with single bits: all of it in two bytes.

/// Where a queued job can be found by a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Listed {
    /// Nowhere: it is not queued, or its deadline has passed.
    No = 0,
    /// In its lane.
    Lane = 1,
    /// Among those set aside from its lane.
    Aside = 2,
    /// In its flow.
    Flow = 3,
}

/// Several yes and no in one byte, and where the job is listed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags(pub(super) u16);

/// There is a job here.
pub(super) const TAKEN: u16 = 1;
/// It is asked to stop.
pub(super) const CANCEL_REQUESTED: u16 = 2;
/// It ended with a result.
pub(super) const HAS_RESULT: u16 = 4;
/// `until` is the end of a lease and not a timeout.
pub(super) const BY_LEASE: u16 = 8;
/// It has a timer as a waiting job, or is noted as a running one that can be overdue.
pub(super) const TIMED: u16 = 16;
/// Its push said a timeout, which is where the record finds it.
pub(super) const OWN_TIMEOUT: u16 = 32;
/// It has changed since the store underneath looked last.
pub(super) const DIRTY: u16 = 256;
/// It has a row in the store underneath.
pub(super) const ROWED: u16 = 512;
/// It cannot be claimed before the store underneath has it.
pub(super) const HELD: u16 = 1024;
/// It ran when its process died, and nobody has decided about it yet.
pub(super) const CRASHED: u16 = 2048;
/// It was changed by a batch since the store underneath looked last.
pub(super) const JOINED: u16 = 4096;
/// Its row says that it is in the store only.
pub(super) const SPILLED: u16 = 8192;
/// It is held only to be put in the store: its push was answered.
pub(super) const ANSWERED: u16 = 16384;
/// It runs only to be passed on.
pub(super) const RELAYED: u16 = 32768;
/// The first of the two bits of [`Listed`].
const LISTED: u32 = 6;
/// Both of them.
const LISTED_BITS: u16 = 3 << LISTED;

impl Flags {
    pub(super) fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    pub(super) fn set(&mut self, flag: u16, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    pub(super) fn listed(self) -> Listed {
        match (self.0 & LISTED_BITS) >> LISTED {
            1 => Listed::Lane,
            2 => Listed::Aside,
            3 => Listed::Flow,
            _ => Listed::No,
        }
    }

    pub(super) fn list(&mut self, listed: Listed) {
        self.0 = self.0 & !LISTED_BITS | (listed as u16) << LISTED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_listing_do_not_meet() {
        let mut flags = Flags(TAKEN);
        for listed in [Listed::Aside, Listed::No, Listed::Flow, Listed::Lane] {
            flags.list(listed);
            for flag in [
                CANCEL_REQUESTED,
                HAS_RESULT,
                BY_LEASE,
                TIMED,
                OWN_TIMEOUT,
                DIRTY,
                ROWED,
                HELD,
                CRASHED,
                JOINED,
                SPILLED,
                ANSWERED,
                RELAYED,
            ] {
                assert!(!flags.has(flag));
                flags.set(flag, true);
                assert!(flags.has(flag) && flags.has(TAKEN) && flags.listed() == listed);
                flags.set(flag, false);
            }
        }
    }
}
