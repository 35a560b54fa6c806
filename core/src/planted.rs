//! Bugs that a test can switch on, to show that the proofs of `tests/crash` would find them.
//!
//! Each stands at the place where it would be made. The switch exists only under the feature
//! `conformance`: without it [`planted`] is a constant `false`, and nothing of a bug is compiled. With it,
//! the environment variable `FOREBAY_PLANTED` names the one bug that is active, for the whole process.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Bug { $($(#[doc = $doc])+ $name,)* }

        #[cfg(feature = "conformance")]
        impl Bug {
            /// Every bug there is.
            pub const ALL: &'static [Bug] = &[$(Bug::$name),*];

            /// Its name, as in `FOREBAY_PLANTED`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$name => $text,)* }
            }

            /// What is wrong with it, taken from its documentation.
            #[must_use]
            pub fn describe(self) -> &'static str {
                match self { $(Bug::$name => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

bugs! {
    /// A push is answered before its group is committed.
    AckBeforeCommit = "ack-before-commit",
    /// A group for which `disk` was promised is committed without a sync.
    NormalForFull = "normal-for-full",
    /// A group that could not be written counts as written.
    LostGroup = "lost-group",
    /// The end of a job is written before what was pushed with it, in a transaction of its own.
    EndBeforePush = "end-before-push",
    /// What ran when the process died is not counted.
    NoCrashCounter = "no-crash-counter",
    /// A transition applies whatever the fence of its claim.
    NoFence = "no-fence",
    /// What ran in the run before still counts as running in the next one.
    FlightNotCleared = "flight-not-cleared",
    /// Deaths are counted in a transaction of their own, before the run has its number.
    RecoveredTwice = "recovered-twice",
    /// A change of a job that has a row is not noted.
    LostMark = "lost-mark",
    /// A job can be claimed before its group is committed.
    HeldJobRuns = "held-job-runs",
    /// A job whose push was refused for want of room stays, and runs.
    WithdrawnJobRuns = "withdrawn-job-runs",
    /// The space that is kept for a full disk is not given back when the disk is full.
    ReserveKept = "reserve-kept",
    /// A dump has its name before it is on the disk.
    DumpBeforeSync = "dump-before-sync",
    /// The checksum of a dump is not compared.
    DumpUnchecked = "dump-unchecked",
    /// A flush returns before anything is written.
    EarlyFlush = "early-flush",
    /// A run gives the rows again that the run before gave.
    RowsAgain = "rows-again",
    /// A claim after a crash has a fence that was given before.
    FencesAgain = "fences-again",
    /// The last byte of a payload is not written.
    PayloadCut = "payload-cut",
    /// What was noted in the last moment before a stop is not written.
    LostAtStop = "lost-at-stop",
    /// Jobs of a kind that nobody asks for are dropped when the file is read.
    StrangeKindDropped = "strange-kind-dropped",
}

/// Whether this bug is active.
#[cfg(feature = "conformance")]
pub(crate) fn planted(bug: Bug) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let active = ACTIVE.get_or_init(|| {
        let name = std::env::var("FOREBAY_PLANTED").ok()?;
        let found = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
        Some(found.unwrap_or_else(|| panic!("FOREBAY_PLANTED={name}: there is no such bug")))
    });
    *active == Some(bug)
}

/// Whether this bug is active: never.
#[cfg(not(feature = "conformance"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
