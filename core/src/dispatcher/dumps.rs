//! The dumps of a dispatcher that are under way, and whether another one would differ.
//!
//! Two dumps to one path may overlap, as the one at the interval and one that somebody asks for. Each is of an
//! instant after it began, so whatever its caller saw happen is also in every dump that began later: once a
//! later one is in place, an earlier one must not take its place.

use std::path::{Path, PathBuf};

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Dispatcher;
use crate::engine::QueueCounts;
use crate::error::Result;

/// The dumps of one dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Dumps {
    begun: Mutex<Begun>,
    /// How many changes were made that no count shows.
    uncounted: AtomicU64,
}

/// What a dump depends on. While it stays the same, so does what a dump holds.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Basis {
    uncounted: u64,
    counts: Vec<QueueCounts>,
}

impl Dispatcher {
    /// What a dump that begins now depends on.
    pub(crate) fn dump_basis(&self) -> Result<Basis> {
        // Before the counts: a change is made first and noted then.
        let uncounted = self.0.dumps.uncounted.load(Ordering::SeqCst);
        let mut counts = self.0.engine.counts()?;
        for count in &mut counts {
            // These change without a change of an unfinished job.
            (count.kept, count.totals.stale, count.totals.refused) = (0, 0, 0);
        }
        Ok(Basis { uncounted, counts })
    }
}

/// The dumps under way, those that began first in front.
#[derive(Debug, Default)]
struct Begun {
    last: u64,
    under_way: Vec<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    path: PathBuf,
    /// Whether a later one to the same path is in place.
    overtaken: bool,
}

impl Dumps {
    /// Begins a dump to `path`.
    pub(crate) fn begin(&self, path: &Path) -> Turn<'_> {
        let mut begun = self.begun.lock();
        begun.last += 1;
        let number = begun.last;
        begun.under_way.push(UnderWay {
            number,
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            overtaken: false,
        });
        Turn { dumps: self, number }
    }

    /// Notes a change of an unfinished job that no count shows: a token was delivered, a running job was asked
    /// to stop. To be called after it was made.
    pub(crate) fn note_uncounted(&self) {
        self.uncounted.fetch_add(1, Ordering::SeqCst);
    }
}

/// A dump under way.
#[derive(Debug)]
pub(crate) struct Turn<'d> {
    dumps: &'d Dumps,
    number: u64,
}

impl Turn<'_> {
    /// Has the dump put in place, unless a later one to the same path already is.
    pub(crate) fn end(self, put_in_place: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut begun = self.dumps.begun.lock();
        let Some(at) = begun.under_way.iter().position(|u| u.number == self.number) else {
            return Ok(());
        };
        let (earlier, rest) = begun.under_way.split_at_mut(at);
        if rest[0].overtaken {
            return Ok(());
        }
        let ended = put_in_place();
        if ended.is_ok() {
            let same = earlier.iter_mut().filter(|u| u.path == rest[0].path);
            same.for_each(|u| u.overtaken = true);
        }
        drop(begun);
        ended
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.dumps
            .begun
            .lock()
            .under_way
            .retain(|u| u.number != self.number);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::error::ErrorKind;
    use crate::job::NewJob;
    use crate::outcome::Outcome;
    use crate::time::Deadline;
    use crate::{KindSet, Options};

    #[test]
    fn a_later_one_is_not_replaced_by_an_earlier_one() {
        let dumps = Dumps::default();
        let turn = |path: &str| dumps.begin(Path::new(path));
        let never = || panic!("a later one is in place");
        let (one, other, two, three) = (turn("a"), turn("b"), turn("./a"), turn("a"));
        two.end(|| Ok(())).unwrap();
        one.end(never).unwrap();
        let mut ended = 0;
        for (turn, result) in [(other, Ok(())), (three, Err(ErrorKind::Storage))] {
            let answer = turn.end(|| {
                ended += 1;
                result.map_err(Into::into)
            });
            assert_eq!(answer.map_err(|e| e.kind()), result);
        }
        assert_eq!(ended, 2, "a later one, and one to another path");
        assert!(dumps.begun.lock().under_way.is_empty());
    }

    #[test]
    fn the_basis_tells_of_what_a_dump_holds_and_of_nothing_else() {
        let options = Options {
            capacity: 3,
            ..Options::default()
        };
        let d = Dispatcher::open("memory:", options).unwrap();
        let mut last = d.dump_basis().unwrap();
        let mut changed = |d: &Dispatcher| {
            let now = d.dump_basis().unwrap();
            std::mem::replace(&mut last, now) != d.dump_basis().unwrap()
        };
        let mut consumer = d.consumer(Arc::new(KindSet::any()));
        let mut take = || consumer.next(Deadline::after(Duration::ZERO)).unwrap();
        let blocked = d
            .push(NewJob::new("k", ()).waits_for("a").waits_for("b"))
            .unwrap();
        assert!(changed(&d));
        assert!(!changed(&d), "nothing has happened");
        assert!(take().is_none());
        assert!(!changed(&d), "a consumer found nothing");
        d.signal(blocked.id, "a").unwrap();
        assert!(changed(&d), "a token was delivered");
        let running = d.push(NewJob::new("k", ())).unwrap();
        assert!(changed(&d));
        let lease = take().unwrap();
        assert!(changed(&d));
        d.cancel(running.id).unwrap();
        assert!(changed(&d), "a job was asked to stop");
        lease.complete(Outcome::done()).unwrap();
        assert!(changed(&d));
        d.push(NewJob::new("k", ())).unwrap();
        d.push(NewJob::new("k", ())).unwrap();
        assert!(changed(&d));
        assert_eq!(d.push(NewJob::new("k", ())).unwrap_err().kind(), ErrorKind::Full);
        assert!(!changed(&d), "a push was refused");
        d.pause("default").unwrap();
        assert!(changed(&d), "a queue was paused");
    }

    #[test]
    fn one_that_failed_overtakes_none() {
        let dumps = Dumps::default();
        let (one, two) = (dumps.begin(Path::new("a")), dumps.begin(Path::new("a")));
        assert!(two.end(|| Err(ErrorKind::Storage.into())).is_err());
        let mut ended = false;
        one.end(|| {
            ended = true;
            Ok(())
        })
        .unwrap();
        assert!(ended);
    }
}
