//! Names of queues and kinds, interned once to small numbers.
//!
//! A push names its queue and its kind; the hot path must not hash or compare text more than once.
//! Names are never forgotten: a process has few of them, and [`Names::LIMIT`] says what *few* means.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::error::{Error, ErrorKind, Result};

/// A queue's number within one engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueueId(pub(crate) u16);

/// A kind's number within one engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KindId(pub(crate) u16);

impl QueueId {
    /// The number, for use as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl KindId {
    /// The number, for use as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The interned names of one engine. Any thread.
#[derive(Debug, Default)]
pub struct Names {
    queues: Table,
    kinds: Table,
}

impl Names {
    /// How many queues, and how many kinds, one engine can tell apart.
    pub const LIMIT: usize = u16::MAX as usize;
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The number of the queue `name`; a new name is given the next number.
    ///
    /// # Errors
    /// `Invalid` if the name is empty, longer than [`Names::MAX_LEN`], has a control character, or is
    /// one too many.
    pub fn queue(&self, name: &str) -> Result<QueueId> {
        self.queues.intern(name, "queue").map(QueueId)
    }

    /// The number of the kind `name`; a new name is given the next number.
    ///
    /// # Errors
    /// As [`Names::queue`].
    pub fn kind(&self, name: &str) -> Result<KindId> {
        self.kinds.intern(name, "kind").map(KindId)
    }

    /// The number of the queue `name`, if anyone has named it.
    #[must_use]
    pub fn find_queue(&self, name: &str) -> Option<QueueId> {
        self.queues.find(name.as_bytes()).map(QueueId)
    }

    /// The number of the kind `name`, if anyone has named it.
    #[must_use]
    pub fn find_kind(&self, name: &str) -> Option<KindId> {
        self.kinds.find(name.as_bytes()).map(KindId)
    }

    /// The number of the queue whose name is these bytes, if anyone has named it: what nobody has checked can be
    /// looked for.
    #[must_use]
    pub fn look_up_queue(&self, name: &[u8]) -> Option<QueueId> {
        self.queues.find(name).map(QueueId)
    }

    /// The number of the kind whose name is these bytes, if anyone has named it.
    #[must_use]
    pub fn look_up_kind(&self, name: &[u8]) -> Option<KindId> {
        self.kinds.find(name).map(KindId)
    }

    /// The text of a queue's name.
    #[must_use]
    pub fn queue_name(&self, id: QueueId) -> Arc<str> {
        self.queues.name(id.0).clone()
    }

    /// The text of a kind's name.
    #[must_use]
    pub fn kind_name(&self, id: KindId) -> Arc<str> {
        self.kinds.name(id.0).clone()
    }

    /// The text of a queue's name, where it stands. Takes no lock.
    #[must_use]
    #[inline]
    pub fn queue_text(&self, id: QueueId) -> &str {
        self.queues.name(id.0)
    }

    /// The text of a kind's name, where it stands. Takes no lock.
    #[must_use]
    #[inline]
    pub fn kind_text(&self, id: KindId) -> &str {
        self.kinds.name(id.0)
    }

    /// How many queues have been named so far.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.count.load(Ordering::Acquire)
    }

    /// How many kinds have been named so far.
    #[must_use]
    pub fn kind_count(&self) -> usize {
        self.kinds.count.load(Ordering::Acquire)
    }

    /// Every queue named so far, in the order of their numbers.
    #[must_use]
    pub fn queues(&self) -> Vec<(QueueId, Arc<str>)> {
        self.queues
            .all()
            .into_iter()
            .enumerate()
            .map(|(i, n)| (QueueId(i as u16), n))
            .collect()
    }

    /// Every kind named so far, in the order of their numbers.
    #[must_use]
    pub fn kinds(&self) -> Vec<(KindId, Arc<str>)> {
        self.kinds
            .all()
            .into_iter()
            .enumerate()
            .map(|(i, n)| (KindId(i as u16), n))
            .collect()
    }
}

/// Checks a name of a queue, a kind, a key or a node.
///
/// # Errors
/// `Invalid`, with a sentence that says what is wrong with which name.
pub fn check_name(name: &str, what: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(format!(
            "{what} name is empty; give it at least one character"
        )));
    }
    if name.len() > Names::MAX_LEN {
        let (len, max) = (name.len(), Names::MAX_LEN);
        return Err(Error::invalid(format!(
            "{what} name has {len} bytes; {max} are allowed"
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{what} name {name:?} has a control character"
        )));
    }
    Ok(())
}

/// So many names are compared one by one.
const FEW: usize = 8;

#[derive(Debug, Default)]
struct Table {
    numbers: RwLock<HashMap<Arc<str>, u16>>,
    names: Texts,
    /// How many numbers have been given.
    count: AtomicUsize,
}

impl Table {
    fn find(&self, name: &[u8]) -> Option<u16> {
        let count = self.count.load(Ordering::Acquire);
        if count <= FEW {
            // Texts that nobody writes, instead of a lock that every push by name would.
            return (0..count as u16).find(|number| self.name(*number).as_bytes() == name);
        }
        let name = std::str::from_utf8(name).ok()?;
        self.numbers.read().get(name).copied()
    }

    fn intern(&self, name: &str, what: &str) -> Result<u16> {
        if let Some(number) = self.find(name.as_bytes()) {
            return Ok(number);
        }
        check_name(name, what)?;
        let mut numbers = self.numbers.write();
        if let Some(number) = numbers.get(name) {
            return Ok(*number);
        }
        if numbers.len() >= Names::LIMIT {
            let message = format!("{what} {name:?} is one too many: {} are in use", Names::LIMIT);
            return Err(Error::new(ErrorKind::Invalid, Cow::Owned(message)));
        }
        let (number, name) = (numbers.len() as u16, Arc::<str>::from(name));
        self.names.set(number, name.clone());
        numbers.insert(name, number);
        self.count.store(numbers.len(), Ordering::Release);
        Ok(number)
    }

    #[inline]
    fn name(&self, number: u16) -> &Arc<str> {
        self.names
            .get(number)
            .expect("a number is given after its name is stored")
    }

    fn all(&self) -> Vec<Arc<str>> {
        let count = self.count.load(Ordering::Acquire);
        (0..count)
            .map(|number| self.name(number as u16).clone())
            .collect()
    }
}

/// Texts by number, read without a lock: a text never moves and never goes. Each chunk is as large as all
/// before it together.
#[derive(Debug, Default)]
struct Texts([OnceLock<Chunk>; u16::BITS as usize]);

type Chunk = Box<[OnceLock<Arc<str>>]>;

impl Texts {
    /// Which chunk a number is in, and where. The chunks have room for every number below `u16::MAX`.
    #[inline]
    fn place(number: u16) -> (usize, usize) {
        let n = usize::from(number) + 1;
        let chunk = n.ilog2();
        (chunk as usize, n - (1 << chunk))
    }

    #[inline]
    fn get(&self, number: u16) -> Option<&Arc<str>> {
        let (chunk, at) = Self::place(number);
        self.0[chunk].get()?[at].get()
    }

    fn set(&self, number: u16, text: Arc<str>) {
        let (chunk, at) = Self::place(number);
        let chunk = self.0[chunk].get_or_init(|| (0..1 << chunk).map(|_| OnceLock::new()).collect());
        // One thread sets, under the lock of the numbers, and each number once.
        let _ = chunk[at].set(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers() {
        let names = Names::default();
        let mail = names.queue("mail").unwrap();
        assert_eq!(names.queue("mail").unwrap(), mail);
        assert_ne!(names.queue("other").unwrap(), mail);
        assert_eq!(&*names.queue_name(mail), "mail");
        assert_eq!(names.queue_text(mail), "mail");
        assert_eq!(names.find_kind("mail"), None, "queues and kinds are apart");
        assert_eq!(names.queues().len(), 2);
    }

    #[test]
    fn bad_names_are_refused() {
        let names = Names::default();
        let long = "x".repeat(256);
        for bad in ["", "a\nb", "nul\0", long.as_str()] {
            assert_eq!(names.kind(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
        for good in [
            "../",
            "a:b",
            "{tag}",
            "'; drop table",
            "%s%n",
            "名前",
            &long[..255],
        ] {
            assert!(names.kind(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let names = Names::default();
        for i in 0..Names::LIMIT {
            names.kind(&i.to_string()).unwrap();
        }
        assert!(
            names
                .kind("one more")
                .unwrap_err()
                .to_string()
                .contains("one too many")
        );
        assert!(names.kind("17").is_ok());
        for i in [0, 1, 2, 3, 255, 256, Names::LIMIT - 1] {
            let kind = names.find_kind(&i.to_string()).unwrap();
            assert_eq!((kind.index(), names.kind_text(kind)), (i, i.to_string().as_str()));
        }
        assert_eq!(names.kinds().len(), Names::LIMIT);
    }
}
