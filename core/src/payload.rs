//! Payloads: opaque bytes with a content type, or an object of the host that is encoded only when it
//! must leave the process.
//!
//! The core never parses a payload: JSON libraries alter numbers, NaN and key order, bytes do not.
//!
//! A payload is one word. What it points to is a [block](block), for which jobs that come and go use the
//! same memory again (see [`pool`]).

mod block;
mod magazine;
mod pool;

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, ErrorKind, Result};
use crate::panics::caught;
use block::{Block, Host, Known, SMALL, View, no_memory};

/// A content type that says nothing: plain bytes.
pub const OCTETS: &str = "application/octet-stream";
/// The content type of JSON text.
pub const JSON: &str = "application/json";
/// The content type of a call, as languages with functions as handlers push it: the JSON object
/// `{"args": [...], "kwargs": {...}}`.
pub const CALL: &str = "application/vnd.forebay.call+json";

/// An object that belongs to the host language and travels by reference within the process.
///
/// It must not be changed once it has been handed over. Its first successful encoding is kept beside it, and
/// stands for it wherever bytes are asked for: what a dump holds is what was accepted at the push.
///
/// Threads: methods may be called, and the object dropped, on any thread.
pub trait HostObject: Send + Sync + 'static {
    /// The object as bytes with their content type. Called when the job must leave the process: a
    /// dump, a log, another language, another engine. Not called again once it has succeeded, unless two
    /// threads ask at the same time; the first to answer is then believed.
    ///
    /// # Errors
    /// `Encode`, naming the part that cannot be encoded. A panic counts as one.
    fn encode(&self) -> Result<Encoded>;

    /// The object itself, for the binding that made it.
    fn as_any(&self) -> &dyn Any;
}

/// Bytes and what they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The bytes, given back exactly as they came.
    pub bytes: Bytes,
    /// What the bytes are, as a MIME type.
    pub content_type: Cow<'static, str>,
}

/// What a job carries, and what a handler answers with. Cloning copies a reference.
///
/// It is one word. Up to 248 bytes of type [`OCTETS`], [`JSON`], [`CALL`] or `text/plain` are kept in memory that
/// payloads use over and over: once there has been room for as many as there are at a time, on whatever
/// threads they are made and dropped, no more is asked of the system, and none is given back to it. More
/// bytes, and other types, stay where they are.
#[derive(Clone)]
pub struct Payload(Block);

impl Host<'_> {
    /// The object is asked outside the cell: one who waited for the cell might hold a lock of the host that
    /// the encoding needs.
    fn encode(&self) -> Result<Encoded> {
        if let Some(encoded) = self.encoded.get() {
            return Ok(Encoded::clone(encoded));
        }
        let fresh = caught(|| self.object.encode()).unwrap_or_else(|text| {
            let text = format!("the object panicked while it was encoded: {text}");
            Err(Error::new(ErrorKind::Encode, text))
        })?;
        Ok(Encoded::clone(self.encoded.get_or_init(|| Box::new(fresh))))
    }
}

impl Payload {
    /// The longest payload, in bytes, unless the option `max_payload` says less: what a row of SQLite can hold,
    /// which is 1 000 000 000 bytes, with room for the rest of the job.
    pub const MAX_LEN: usize = 900 << 20;

    /// Begins to fetch what a clone will write.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.0.prefetch();
    }

    /// No bytes at all.
    #[must_use]
    #[inline]
    pub const fn empty() -> Self {
        Self(Block::empty())
    }

    /// These bytes, of this content type.
    #[must_use]
    pub fn bytes(bytes: Bytes, content_type: &'static str) -> Self {
        Self::encoded(Encoded {
            bytes,
            content_type: Cow::Borrowed(content_type),
        })
    }

    /// These bytes, of a content type known only at run time.
    #[must_use]
    pub fn encoded(encoded: Encoded) -> Self {
        match Known::find(&encoded.content_type) {
            Some(known) if encoded.bytes.len() <= SMALL => Self::small(&encoded.bytes, known),
            _ => Self::large(encoded),
        }
    }

    /// A copy of bytes of type [`OCTETS`] that belong to somebody else; see [`Payload::copy`].
    ///
    /// # Errors
    /// As [`Payload::copy`].
    #[inline]
    pub fn copy_octets(bytes: &[u8], max: usize) -> Result<Self> {
        if bytes.len() > max.min(SMALL) {
            return Self::copy(bytes, OCTETS.into(), max);
        }
        let block = Block::small(bytes, Known::Octets);
        block.map(Self).ok_or_else(|| cannot_copy(bytes.len()))
    }

    /// A copy of bytes that belong to somebody else, as whoever answers for the memory of another
    /// language needs it: the length is checked first, and memory that cannot be had is an error.
    ///
    /// # Errors
    /// `Invalid` for more than `max` bytes; `NoMemory`.
    pub fn copy(bytes: &[u8], content_type: Cow<'static, str>, max: usize) -> Result<Self> {
        let len = bytes.len();
        if len > max {
            return Err(Error::invalid(format!(
                "payload has {len} bytes; option max_payload allows {max}"
            )));
        }
        let known = Known::find(&content_type).filter(|_| len <= SMALL);
        let block = match known {
            Some(known) => Block::small(bytes, known),
            None => {
                let mut copy = Vec::new();
                copy.try_reserve_exact(len)
                    .map_err(|e| cannot_copy(len).caused_by(e))?;
                copy.extend_from_slice(bytes);
                Block::large(Encoded {
                    bytes: copy.into(),
                    content_type,
                })
            }
        };
        block.map(Self).ok_or_else(|| cannot_copy(len))
    }

    /// `value` as JSON text.
    ///
    /// # Errors
    /// `Encode` if serde cannot write the value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        thread_local!(static TEXT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
        let mut text = TEXT.try_with(Cell::take).unwrap_or_default();
        text.reserve(128);
        serde_json::to_writer(&mut text, value)
            .map_err(|e| Error::new(ErrorKind::Encode, "the value cannot be written as JSON").caused_by(e))?;
        if text.len() > SMALL {
            return Ok(Self::owned(text, Known::Json));
        }
        let payload = Self::small(&text, Known::Json);
        text.clear();
        // A thread that is ending does without.
        let _ = TEXT.try_with(|kept| kept.set(text));
        Ok(payload)
    }

    /// An object of the host, by reference.
    #[must_use]
    pub fn host(object: impl HostObject) -> Self {
        Self(Block::host(object).unwrap_or_else(|| no_memory()))
    }

    /// An object of the host that is never dropped, and whose references nobody counts: for a value that half the
    /// jobs carry, of which there is one.
    #[must_use]
    pub fn host_forever(object: impl HostObject) -> Self {
        Self(Block::host(object).unwrap_or_else(|| no_memory()).keep())
    }

    /// A copy of at most [`SMALL`] bytes.
    fn small(bytes: &[u8], known: Known) -> Self {
        Self(Block::small(bytes, known).unwrap_or_else(|| no_memory()))
    }

    fn large(encoded: Encoded) -> Self {
        Self(Block::large(encoded).unwrap_or_else(|| no_memory()))
    }

    /// A copy of bytes, however many.
    fn of(bytes: &[u8], known: Known) -> Self {
        if bytes.len() <= SMALL {
            return Self::small(bytes, known);
        }
        Self::large(Encoded {
            bytes: Bytes::copy_from_slice(bytes),
            content_type: Cow::Borrowed(known.name()),
        })
    }

    /// Bytes that may be kept, however many.
    fn owned(bytes: Vec<u8>, known: Known) -> Self {
        if bytes.len() <= SMALL {
            return Self::small(&bytes, known);
        }
        Self::large(Encoded {
            bytes: bytes.into(),
            content_type: Cow::Borrowed(known.name()),
        })
    }

    /// The bytes, if the payload is bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self.0.view() {
            View::Small(bytes, _) => Some(bytes),
            View::Large(encoded) => Some(&encoded.bytes),
            View::Host(_) => None,
        }
    }

    /// What the bytes are, if the payload is bytes.
    #[must_use]
    #[inline]
    pub fn content_type(&self) -> Option<&str> {
        match self.0.view() {
            View::Small(_, known) => Some(known.name()),
            View::Large(encoded) => Some(&encoded.content_type),
            View::Host(_) => None,
        }
    }

    /// What the bytes are, if a caller has said so in words of its own.
    pub(crate) fn given_type(&self) -> Option<&str> {
        match self.0.view() {
            View::Large(Encoded {
                content_type: Cow::Owned(text),
                ..
            }) => Some(text),
            _ => None,
        }
    }

    /// The host's object, if the payload is one of type `T`.
    #[must_use]
    #[inline]
    pub fn as_host<T: HostObject>(&self) -> Option<&T> {
        self.0.host_as().or_else(|| self.shown_as())
    }

    /// The same of an object that shows something else for itself.
    fn shown_as<T: HostObject>(&self) -> Option<&T> {
        match self.0.view() {
            View::Host(host) => host.object.as_any().downcast_ref(),
            View::Small(..) | View::Large(_) => None,
        }
    }

    /// The payload as bytes: at once if it is bytes or has been encoded before, by [`HostObject::encode`]
    /// otherwise.
    ///
    /// # Errors
    /// `Encode` if the host cannot encode its object.
    pub fn encode(&self) -> Result<Encoded> {
        match self.0.view() {
            View::Small(bytes, known) => Ok(Encoded {
                bytes: if bytes.is_empty() {
                    Bytes::new()
                } else {
                    Bytes::from_owner(Shared(self.clone()))
                },
                content_type: Cow::Borrowed(known.name()),
            }),
            View::Large(encoded) => Ok(encoded.clone()),
            View::Host(host) => host.encode(),
        }
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// `Encode` if the host cannot encode its object; `Decode` if the bytes are not the JSON of a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let refused = |e| {
            let text = "the payload is not the JSON this handler takes";
            Error::new(ErrorKind::Decode, text).caused_by(e)
        };
        self.read(|bytes| serde_json::from_slice(bytes))?.map_err(refused)
    }

    /// Looks at the bytes, which only an object of the host has to make.
    fn read<R>(&self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.as_bytes() {
            Some(bytes) => Ok(look(bytes)),
            None => Ok(look(&self.encode()?.bytes)),
        }
    }

    /// How many bytes the payload holds, if that is known without encoding.
    #[must_use]
    #[inline]
    pub fn len(&self) -> Option<usize> {
        self.as_bytes().map(<[u8]>::len)
    }

    /// Whether the payload is bytes and there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// A number that differs when the bytes differ (xxh3, 64 bits): tells a repeated keyed push from a
    /// conflicting one.
    ///
    /// # Errors
    /// `Encode` if the host cannot encode its object.
    pub fn fingerprint(&self) -> Result<u64> {
        self.read(xxh3_64)
    }
}

#[cold]
fn cannot_copy(len: usize) -> Error {
    Error::new(ErrorKind::NoMemory, format!("cannot copy {len} bytes"))
}

/// The bytes of a small payload, shared with a [`Bytes`].
struct Shared(Payload);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes().unwrap_or_default()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content: payloads hold personal data and secrets.
        match (self.len(), self.content_type()) {
            (Some(len), Some(content_type)) => write!(f, "{len} bytes of {content_type}"),
            _ => f.write_str("a host object"),
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes, OCTETS)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::owned(bytes, Known::Octets)
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::of(bytes, Known::Octets)
    }
}

impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::of(text.as_bytes(), Known::Text)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::owned(text.into_bytes(), Known::Text)
    }
}

impl From<()> for Payload {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Opaque;
    impl HostObject for Opaque {
        fn encode(&self) -> Result<Encoded> {
            Err(Error::new(ErrorKind::Encode, "$.x is a socket"))
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    /// An object that answers each call to encode it as `answers` says.
    struct Moody<F>(F, AtomicUsize);
    impl<F: Fn(usize) -> Result<Encoded> + Send + Sync + 'static> HostObject for Moody<F> {
        fn encode(&self) -> Result<Encoded> {
            (self.0)(self.1.fetch_add(1, Ordering::SeqCst))
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    fn moody(answers: impl Fn(usize) -> Result<Encoded> + Send + Sync + 'static) -> Payload {
        Payload::host(Moody(answers, AtomicUsize::new(0)))
    }

    #[test]
    fn the_first_encoding_that_succeeds_is_kept() {
        let p = moody(|call| match call {
            0 => Err(Error::new(ErrorKind::Encode, "not yet")),
            1 => panic!("nor now"),
            n => Payload::from(n.to_string()).encode(),
        });
        assert_eq!(p.encode().unwrap_err().to_string(), "not yet");
        let panic = p.encode().unwrap_err();
        assert_eq!(panic.kind(), ErrorKind::Encode);
        assert!(panic.to_string().contains("nor now"), "{panic}");
        for payload in [&p, &p.clone()] {
            assert_eq!(&payload.encode().unwrap().bytes[..], b"2");
        }
        assert_eq!(p.parse::<u32>().unwrap(), 2);
    }

    #[test]
    fn bytes_come_back_as_they_went() {
        let nasty = b"\x00\xff{\"a\":1e400,\"a\":NaN}\xf0\x9f";
        let p = Payload::from(nasty);
        assert_eq!(p.as_bytes(), Some(&nasty[..]));
        assert_eq!(&p.encode().unwrap().bytes[..], nasty);
        assert_eq!(
            p.fingerprint().unwrap(),
            Payload::from(nasty.to_vec()).fingerprint().unwrap()
        );
        assert_ne!(p.fingerprint().unwrap(), Payload::empty().fingerprint().unwrap());
    }

    #[test]
    fn copies_are_bounded() {
        let copy = |max| Payload::copy(b"four", OCTETS.into(), max);
        assert_eq!(copy(4).unwrap().as_bytes(), Some(&b"four"[..]));
        assert_eq!(copy(4).unwrap().content_type(), Some(OCTETS));
        assert_eq!(copy(3).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn json_keeps_big_numbers() {
        let p = Payload::json(&(9_007_199_254_740_993_i64, u64::MAX, 1.5)).unwrap();
        assert_eq!(
            p.parse::<(i64, u64, f64)>().unwrap(),
            (9_007_199_254_740_993, u64::MAX, 1.5)
        );
        assert_eq!(
            p.parse::<(i64, u64)>().unwrap_err().kind(),
            ErrorKind::Decode,
            "wrong arity"
        );
    }

    #[test]
    fn host_objects_travel_by_reference() {
        let p = Payload::host(Opaque);
        assert!(p.clone().as_host::<Opaque>().is_some());
        assert_eq!(p.as_bytes(), None);
        assert_eq!(p.encode().unwrap_err().kind(), ErrorKind::Encode);
        assert_eq!(
            format!("{p:?} {:?}", Payload::from("secret")),
            "a host object 6 bytes of text/plain"
        );
    }

    #[test]
    fn it_is_one_word() {
        assert_eq!(size_of::<Payload>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Payload>>(), size_of::<usize>());
    }

    /// An object that counts itself, with more alignment than the pool has.
    #[repr(align(64))]
    struct Wide(Arc<AtomicUsize>, [u8; 300]);
    impl HostObject for Wide {
        fn encode(&self) -> Result<Encoded> {
            Payload::from(&self.1).encode()
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }
    impl Drop for Wide {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_object_goes_with_its_last_reference() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let p = Payload::host(Wide(dropped.clone(), [7; 300]));
        let q = p.clone();
        assert!(std::ptr::eq(
            p.as_host::<Wide>().unwrap(),
            q.as_host::<Wide>().unwrap()
        ));
        assert_eq!(std::ptr::from_ref(p.as_host::<Wide>().unwrap()).addr() % 64, 0);
        let bytes = p.encode().unwrap().bytes;
        std::thread::spawn(move || drop(q)).join().unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        drop(p);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert_eq!(bytes, vec![7; 300]);
    }

    /// What is dropped when the thread has given its memory back already is given back too.
    #[test]
    fn a_payload_may_outlive_the_memory_of_its_thread() {
        struct Late(std::cell::Cell<Option<Payload>>);
        impl Drop for Late {
            fn drop(&mut self) {
                let kept = self.0.take().unwrap();
                let fresh = Payload::from(kept.as_bytes().unwrap());
                assert_eq!(fresh.as_bytes(), Some(&b"late"[..]));
            }
        }
        thread_local!(static LATE: Late = const { Late(std::cell::Cell::new(None)) });
        let rounds = if cfg!(miri) { 3 } else { 200 };
        for _ in 0..rounds {
            // The value that is made last goes first: here that is the thread's part of the pool.
            let thread = std::thread::spawn(|| LATE.with(|late| late.0.set(Some(Payload::from(b"late")))));
            thread.join().unwrap();
        }
    }

    /// The child of a fork makes and drops payloads, whatever the other threads were doing.
    #[test]
    #[cfg(all(unix, not(miri), not(shuttle)))]
    fn the_child_of_a_fork_is_never_held_up() {
        /// A child that is held up is ended by this.
        const SECONDS: u32 = 60;
        fn child(kept: Payload) -> ! {
            // SAFETY: `alarm` only sets a timer.
            unsafe { libc::alarm(SECONDS) };
            let all: Vec<_> = (0..1_000).map(|n| Payload::from(&[n as u8; 100])).collect();
            let sound = kept.as_bytes() == Some(&[9; 100]) && all.iter().all(|p| p.len() == Some(100));
            drop((kept, all));
            // SAFETY: the child ends here, without the destructors of the parent.
            unsafe { libc::_exit(i32::from(!sound)) }
        }
        let (stop, kept) = (
            std::sync::atomic::AtomicBool::new(false),
            Payload::from(&[9; 100]),
        );
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let all: Vec<_> = (0..300).map(|n| Payload::from(&[n as u8; 100])).collect();
                        drop((kept.clone(), all));
                    }
                });
            }
            let ended = (0..40).map(|_| {
                // SAFETY: the child calls nothing but what is safe in one: glibc's allocator is.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    child(kept.clone());
                }
                let mut status = -1;
                // SAFETY: `status` is there to be written to.
                let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
                (waited == pid, status)
            });
            let ended: Vec<_> = ended.collect();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(ended, [(true, 0); 40], "statuses of the children");
        });
    }

    /// Every way to make a payload of bytes.
    fn made(bytes: &[u8], way: usize) -> (Payload, &'static str) {
        let text = || String::from_utf8(bytes.iter().map(|b| b & 127).collect()).unwrap();
        let odd = "application/x-odd";
        match way {
            0 => (bytes.into(), OCTETS),
            1 => (bytes.to_vec().into(), OCTETS),
            2 => (Bytes::copy_from_slice(bytes).into(), OCTETS),
            3 => (Payload::bytes(Bytes::copy_from_slice(bytes), JSON), JSON),
            4 => (Payload::bytes(Bytes::copy_from_slice(bytes), odd), odd),
            5 => (Payload::copy(bytes, JSON.to_owned().into(), 600).unwrap(), JSON),
            6 => (Payload::copy(bytes, odd.into(), 600).unwrap(), odd),
            7 => (text().as_str().into(), "text/plain"),
            _ => (text().into(), "text/plain"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 12 } else { 512 }))]

        #[test]
        fn whatever_way_it_is_made_the_content_is_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            way in 0..9usize,
        ) {
            let (p, content_type) = made(&bytes, way);
            let expected: Vec<u8> = if way < 7 { bytes } else { bytes.iter().map(|b| b & 127).collect() };
            prop_assert_eq!(p.as_bytes(), Some(&expected[..]));
            prop_assert_eq!(p.content_type(), Some(content_type));
            prop_assert_eq!((p.len(), p.is_empty()), (Some(expected.len()), expected.is_empty()));
            prop_assert_eq!(p.fingerprint().unwrap(), xxh3_64(&expected));
            prop_assert_eq!(format!("{p:?}"), format!("{} bytes of {content_type}", expected.len()));
            let clone = p.clone();
            prop_assert_eq!(clone.as_bytes().unwrap().as_ptr(), p.as_bytes().unwrap().as_ptr());
            let encoded = p.encode().unwrap();
            prop_assert_eq!(encoded.bytes.as_ptr(), if expected.is_empty() { encoded.bytes.as_ptr() } else {
                p.as_bytes().unwrap().as_ptr()
            });
            drop((p, clone));
            prop_assert_eq!(&encoded.bytes[..], &expected[..]);
            prop_assert_eq!(encoded.content_type, content_type);
        }

        #[test]
        fn json_is_what_serde_writes(value in prop::collection::vec((any::<u64>(), ".{0,40}"), 0..20)) {
            let p = Payload::json(&value).unwrap();
            prop_assert_eq!(p.as_bytes().unwrap(), &serde_json::to_vec(&value).unwrap()[..]);
            prop_assert_eq!(p.content_type(), Some(JSON));
            prop_assert_eq!(p.parse::<Vec<(u64, String)>>().unwrap(), value);
        }

        /// Clones are made, sent about and dropped in any order; nobody's bytes change.
        #[test]
        fn threads_share_and_drop_in_any_order(
            sizes in prop::collection::vec((0..600usize, 0..4usize), 1..if cfg!(miri) { 20 } else { 300 }),
        ) {
            let (to, from): (Vec<_>, Vec<_>) = (0..2).map(|_| crossbeam_channel::unbounded()).unzip();
            let check = |p: &Payload, n: usize, size: usize| {
                assert!(p.as_bytes().unwrap().iter().all(|b| *b == n as u8), "payload {n}");
                assert_eq!(p.len(), Some(size));
            };
            std::thread::scope(|scope| {
                for from in from {
                    scope.spawn(move || {
                        let mut kept = Vec::new();
                        for (n, size, p) in from {
                            check(&p, n, size);
                            kept.push((n, size, p));
                            if n % 3 == 0 {
                                kept.drain(..).for_each(|(n, size, p)| check(&p, n, size));
                            }
                        }
                    });
                }
                for (n, (size, copies)) in sizes.into_iter().enumerate() {
                    let p = Payload::from(vec![n as u8; size]);
                    for copy in 0..copies {
                        to[copy % 2].send((n, size, p.clone())).unwrap();
                    }
                    check(&p, n, size);
                }
                drop(to);
            });
        }
    }
}
