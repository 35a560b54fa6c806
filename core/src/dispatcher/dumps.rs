//! The dumps of a dispatcher that are under way.
//!
//! Two dumps to one path may overlap, as the one at the interval and one that somebody asks for. Each is of an
//! instant after it began, so whatever its caller saw happen is also in every dump that began later: once a
//! later one is in place, an earlier one must not take its place.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::Result;

/// The dumps under way, those that began first in front.
#[derive(Debug, Default)]
pub(crate) struct Dumps(Mutex<Begun>);

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
        let mut begun = self.0.lock();
        begun.last += 1;
        let number = begun.last;
        begun.under_way.push(UnderWay {
            number,
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            overtaken: false,
        });
        Turn { dumps: self, number }
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
        let mut begun = self.dumps.0.lock();
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
        self.dumps.0.lock().under_way.retain(|u| u.number != self.number);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

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
        assert!(dumps.0.lock().under_way.is_empty());
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
