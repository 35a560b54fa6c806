//! Bugs that a test can switch on, to show that the proofs would find them: those of `tests/crash`, and for what an
//! overloaded queue does the engine suite.
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

            /// Whether it is for the engine suite to find.
            #[must_use]
            pub fn is_of_the_suite(self) -> bool {
                self as usize >= Bug::EvictedJobRuns as usize
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
    /// The same in a file that is shared.
    SharedNormal = "shared-normal",
    /// What is written so that a commit is synced is there already, and SQLite leaves the sync out.
    SilentSync = "silent-sync",
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
    /// That a job was evicted does not reach the file.
    ShedNotWritten = "shed-not-written",
    // From here on: for the engine suite.
    /// A job that was evicted can be claimed all the same.
    EvictedJobRuns = "evicted-job-runs",
    /// The bytes of a job that is cancelled while it waits are not given back.
    BytesKept = "bytes-kept",
    /// Two pushers that look at the same time both find the last room.
    RoomTakenTwice = "room-taken-twice",
    /// A concurrency key is not counted down when an attempt of it fails for good.
    KeyCountedUp = "key-counted-up",
    /// What has waited long is shed although its queue is not overloaded.
    ShedWithoutOverload = "shed-without-overload",
    /// Retries start whatever their budget says.
    BudgetIgnored = "budget-ignored",
    /// A retry that is put off for want of a budget has used up an attempt.
    PutOffCounts = "put-off-counts",
    /// A job that is evicted is not counted as shed.
    ShedNotCounted = "shed-not-counted",
    /// A newcomer that was shed is told to be accepted.
    ShedToldAccepted = "shed-told-accepted",
    /// That a job was evicted is told to nobody.
    ShedInSilence = "shed-in-silence",
    /// After its time a breaker lets everything start at once.
    ProbesUnbounded = "probes-unbounded",
    /// A start that a claim did not use is lost for its rate.
    StartsLost = "starts-lost",
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
