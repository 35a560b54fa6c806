//! How processes that share a file hear of each other: a small mapped file beside it, `PATH.wake`, with a row of
//! bells per process.
//!
//! Whoever commits looks at the rows of the others, notes there what became true, and wakes the one thread per
//! process that sleeps on its row (`forebay-wake`, a futex that processes share). That thread rings the bells of
//! its own process. Nobody looks into the store meanwhile.
//!
//! What is noted here is a hint and never the truth: a process that is killed between its commit and the note
//! leaves the others unaware, and so does a program that knows nothing of this file. So the thread also asks
//! SQLite once a second whether the file has changed unheard, while anybody waits; that is the only polling
//! there is. Where there are no futexes (not on Linux), and for more processes than there are rows, it asks
//! twice a second and there is no file.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use super::after::After;
use crate::bell::Bell;
use crate::engine::sql::lock::Lock;
use crate::error::Result;
use crate::time::{Deadline, Timestamp};

/// What a process is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Told {
    /// So many jobs became ready.
    pub(super) ready: u32,
    /// Everybody should look for work.
    pub(super) everyone: bool,
    /// A queue has room.
    pub(super) space: bool,
    /// The next due time came forward.
    pub(super) upkeep: bool,
    /// Jobs ended.
    pub(super) finished: bool,
    /// Somebody was asked to stop.
    pub(super) leases: bool,
    /// There is a new queue.
    pub(super) names: bool,
}

impl Told {
    fn flags(self) -> u32 {
        [
            self.everyone,
            self.space,
            self.upkeep,
            self.finished,
            self.leases,
            self.names,
        ]
        .into_iter()
        .enumerate()
        .map(|(bit, set)| u32::from(set) << bit)
        .sum()
    }

    fn of(ready: u32, flags: u32) -> Self {
        let has = |bit: u32| flags >> bit & 1 == 1;
        Self {
            ready,
            everyone: has(0),
            space: has(1),
            upkeep: has(2),
            finished: has(3),
            leases: has(4),
            names: has(5),
        }
    }
}

/// The row of one process.
#[repr(C, align(128))]
struct Row {
    /// Grows with every note; the word that the process sleeps on.
    rings: AtomicU32,
    /// Whether it sleeps, or is about to.
    asleep: AtomicU32,
    /// Whether there is a process.
    open: AtomicU32,
    /// Whether it waits for the right to write.
    contends: AtomicU32,
    ready: AtomicU32,
    flags: AtomicU32,
    /// When it means to look after what is due.
    next: AtomicI64,
}

/// The whole file.
#[repr(C)]
struct Table {
    rows: [Row; Lock::SEATS as usize],
}

/// The bells of this process and of those beside it.
#[derive(Debug)]
pub(super) struct Wake {
    /// The mapped file, and which row is ours.
    shared: Option<(system::Mapped, usize)>,
    /// The next instant that is due, as this process knows it, if it has no row.
    next: AtomicI64,
    closed: AtomicBool,
    /// Ends the nap of a process without a row.
    nap: Bell,
}

impl Wake {
    /// Maps the file beside the database, if this process has a seat. `lives` says whether another process has
    /// a seat: what those left that were killed is cleared.
    ///
    /// # Errors
    /// `Storage` if it cannot be made.
    pub(super) fn open(path: &Path, seat: Option<u32>, lives: impl Fn(u32) -> bool) -> Result<Self> {
        let shared = match seat {
            None => None,
            Some(seat) => system::map(path)?.map(|mapped| (mapped, seat as usize)),
        };
        let wake = Self {
            shared,
            next: AtomicI64::new(i64::MAX),
            closed: AtomicBool::new(false),
            nap: Bell::default(),
        };
        if let Some((mapped, own)) = &wake.shared {
            for (place, row) in mapped.table().rows.iter().enumerate() {
                if place != *own && row.open.load(SeqCst) == 1 {
                    row.open.store(lives(place as u32).into(), SeqCst);
                }
            }
        }
        if let Some(row) = wake.row() {
            row.ready.store(0, SeqCst);
            row.flags.store(0, SeqCst);
            row.next.store(i64::MAX, SeqCst);
            row.contends.store(0, SeqCst);
            row.open.store(1, SeqCst);
        }
        Ok(wake)
    }

    fn row(&self) -> Option<&Row> {
        let (mapped, place) = self.shared.as_ref()?;
        Some(&mapped.table().rows[*place])
    }

    /// Tells the other processes what has been committed.
    pub(super) fn tell(&self, after: &After) {
        let Some((mapped, own)) = &self.shared else { return };
        let told = Told {
            ready: after.ready as u32,
            everyone: after.everyone,
            space: after.room,
            upkeep: false,
            finished: !after.ended.is_empty(),
            leases: after.leases,
            names: after.names,
        };
        for (place, row) in mapped.table().rows.iter().enumerate() {
            if place == *own || row.open.load(SeqCst) == 0 {
                continue;
            }
            let upkeep = after
                .due
                .is_some_and(|due| row.next.fetch_min(due.as_micros(), SeqCst) > due.as_micros());
            let told = Told { upkeep, ..told };
            if told != Told::default() {
                tell(row, told);
            }
        }
    }

    /// Notes when something is due in this process; whether that is sooner than all before.
    pub(super) fn sooner(&self, due: Option<Timestamp>) -> bool {
        let Some(due) = due.map(Timestamp::as_micros) else {
            return false;
        };
        let next = self.row().map_or(&self.next, |row| &row.next);
        next.fetch_min(due, SeqCst) > due
    }

    /// This process is about to look what is due next: whatever comes from now on is news.
    pub(super) fn looks(&self) {
        let next = self.row().map_or(&self.next, |row| &row.next);
        next.store(i64::MAX, SeqCst);
    }

    /// Sleeps until this process is told something, for the time after which it looks by itself at the most.
    pub(super) fn sleep(&self) -> Told {
        const UNHEARD: Duration = Duration::from_secs(1);
        const DEAF: Duration = Duration::from_millis(500);
        let Some(row) = self.row() else {
            let listener = self.nap.listen();
            if !self.closed() {
                listener.wait(Deadline::after(DEAF));
            }
            return Told::default();
        };
        let seen = row.rings.load(SeqCst);
        row.asleep.store(1, SeqCst);
        let told = Told::of(row.ready.swap(0, SeqCst), row.flags.swap(0, SeqCst));
        if told == Told::default() && !self.closed() {
            system::wait(&row.rings, seen, UNHEARD);
        }
        row.asleep.store(0, SeqCst);
        match told {
            // What came while it slept.
            told if told == Told::default() => Told::of(row.ready.swap(0, SeqCst), row.flags.swap(0, SeqCst)),
            told => told,
        }
    }

    /// This process waits for the right to write, or does so no more.
    pub(super) fn contend(&self, waits: bool) {
        if let Some(row) = self.row() {
            row.contends.store(waits.into(), SeqCst);
        }
    }

    /// Whether another process waits for the right to write. One that was killed meanwhile counts until the
    /// next process opens the file, which costs the others a short pause per transaction.
    pub(super) fn contended(&self) -> bool {
        self.shared.as_ref().is_some_and(|(mapped, own)| {
            let mut rows = mapped.table().rows.iter().enumerate();
            let waits = |row: &Row| row.open.load(SeqCst) == 1 && row.contends.load(SeqCst) == 1;
            rows.any(|(place, row)| place != *own && waits(row))
        })
    }

    pub(super) fn closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Ends the sleep of this process for good.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        match self.row() {
            None => self.nap.ring_all(),
            Some(row) => {
                row.open.store(0, SeqCst);
                row.rings.fetch_add(1, SeqCst);
                system::wake(&row.rings);
            }
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use system::{sleep_while, wake_all};

fn tell(row: &Row, told: Told) {
    row.ready.fetch_add(told.ready, SeqCst);
    row.flags.fetch_or(told.flags(), SeqCst);
    row.rings.fetch_add(1, SeqCst);
    if row.asleep.swap(0, SeqCst) == 1 {
        system::wake(&row.rings);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::AsRawFd;
    use std::path::Path;
    use std::ptr::NonNull;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::Table;
    use crate::engine::sql::lock::{beside, open_or_make};
    use crate::error::{Error, ErrorKind, Result};

    const SIZE: usize = size_of::<Table>();

    /// The file in memory, until this is dropped.
    #[derive(Debug)]
    pub(super) struct Mapped(NonNull<Table>);

    // SAFETY: the memory belongs to the mapping, which any thread may use, and there are only atomics in it.
    unsafe impl Send for Mapped {}
    // SAFETY: as above.
    unsafe impl Sync for Mapped {}

    impl Mapped {
        pub(super) fn table(&self) -> &Table {
            // SAFETY: the mapping is as long as a table, begins at a page, and lives as long as this; any bytes
            // are a table, and other processes change them by atomics only.
            unsafe { self.0.as_ref() }
        }
    }

    impl Drop for Mapped {
        fn drop(&mut self) {
            // SAFETY: it was mapped with this address and size, and nobody borrows it any more.
            unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
        }
    }

    /// Maps the file, which is made if it is not there. It only ever holds hints, so it is never synced.
    pub(super) fn map(path: &Path) -> Result<Option<Mapped>> {
        let beside = beside(path, "wake");
        let failed = |e: std::io::Error| {
            let text = format!("cannot map {}: is there room on its disk?", beside.display());
            Error::new(ErrorKind::Storage, text).caused_by(e)
        };
        let file = open_or_make(&beside).map_err(failed)?;
        // Memory of a file without room for it would be a fatal signal when it is written.
        // SAFETY: the descriptor is open.
        let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, SIZE as libc::off_t) };
        if error != 0 {
            return Err(failed(std::io::Error::from_raw_os_error(error)));
        }
        // SAFETY: the file is open for both and at least this long; the kernel chooses the address.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(failed(std::io::Error::last_os_error()));
        }
        Ok(NonNull::new(memory.cast()).map(Mapped))
    }

    /// Sleeps while the word has this value, until it is woken. For one process only.
    pub(in crate::engine::sqlite) fn sleep_while(word: &AtomicU32, value: u32) {
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let never = std::ptr::null::<libc::timespec>();
        // SAFETY: the word is aligned and lives through the call; any return is fine, the caller looks.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, never) };
    }

    /// Wakes everybody of this process who sleeps on the word.
    pub(in crate::engine::sqlite) fn wake_all(word: &AtomicU32) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is aligned and lives through the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, i32::MAX) };
    }

    /// Sleeps while the word has this value, until it is woken or the time is over.
    pub(super) fn wait(word: &AtomicU32, value: u32, most: Duration) {
        let most = libc::timespec {
            tv_sec: most.as_secs() as libc::time_t,
            tv_nsec: most.subsec_nanos() as _,
        };
        // Not private: other processes have the word at other addresses. Any return is fine, the caller looks.
        // SAFETY: the word is mapped and aligned, and the time lives through the call.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                value,
                &raw const most,
            )
        };
    }

    /// Wakes whoever sleeps on the word.
    pub(super) fn wake(word: &AtomicU32) {
        // SAFETY: the word is mapped and aligned.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::Table;
    use crate::error::Result;

    /// There is none here.
    #[derive(Debug)]
    pub(super) enum Mapped {}

    impl Mapped {
        pub(super) fn table(&self) -> &Table {
            match *self {}
        }
    }

    pub(super) fn map(_path: &Path) -> Result<Option<Mapped>> {
        Ok(None)
    }

    pub(super) fn wait(_word: &AtomicU32, _value: u32, _most: Duration) {}

    pub(super) fn wake(_word: &AtomicU32) {}
}

#[cfg(all(test, target_os = "linux", not(shuttle)))]
mod tests {
    use super::*;

    fn two(name: &str) -> (Wake, Wake) {
        let folder = std::env::temp_dir().join(format!("forebay-wake-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let path = folder.join(name);
        let open = |seat| Wake::open(&path, Some(seat), |_| true).expect("the file can be mapped");
        (open(0), open(1))
    }

    #[test]
    fn one_that_was_killed_waits_no_more() {
        let (one, two) = two("killed.db");
        two.contend(true);
        assert_eq!((one.contended(), two.contended()), (true, false));
        two.contend(false);
        assert!(!one.contended());
        two.contend(true);
        // Nobody says that it waits no more: whoever gets its seat begins anew.
        let (_, _again) = super::tests::two("killed.db");
        assert!(!one.contended());
    }

    #[test]
    fn one_process_is_told_by_another() {
        let (one, two) = two("told.db");
        let after = After {
            ready: 3,
            room: true,
            ended: vec![(crate::JobId::NIL, crate::State::Succeeded)],
            ..After::default()
        };
        one.tell(&after);
        let told = two.sleep();
        assert_eq!(
            (told.ready, told.space, told.finished, told.everyone),
            (3, true, true, false)
        );
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                loop {
                    let told = two.sleep();
                    if told != Told::default() {
                        return told;
                    }
                }
            });
            one.tell(&after);
            assert_eq!(sleeper.join().expect("it wakes").ready, 3);
        });
    }

    #[test]
    fn only_a_sooner_instant_is_news() {
        let (one, two) = two("sooner.db");
        let due = |us| After {
            due: Some(Timestamp::from_micros(us)),
            ..After::default()
        };
        two.looks();
        one.tell(&due(50));
        assert!(two.sleep().upkeep);
        one.tell(&due(60));
        assert!(!two.sooner(Some(Timestamp::from_micros(50))));
        assert!(two.sooner(Some(Timestamp::from_micros(40))));
        one.tell(&due(45));
        one.tell(&After {
            room: true,
            ..After::default()
        });
        let told = two.sleep();
        assert_eq!((told.upkeep, told.space), (false, true));
    }

    #[test]
    fn a_closed_one_sleeps_no_more() {
        let (_one, two) = two("closed.db");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !two.closed() {
                    two.sleep();
                }
            });
            two.close();
        });
    }
}
