//! Payloads: opaque bytes with a content type, or an object of the host that is encoded only when it
//! must leave the process.
//!
//! The core never parses a payload: JSON libraries alter numbers, NaN and key order, bytes do not.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, ErrorKind, Result};
use crate::panics::caught;

/// A content type that says nothing: plain bytes.
pub const OCTETS: &str = "application/octet-stream";
/// The content type of JSON text.
pub const JSON: &str = "application/json";

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
#[derive(Clone)]
pub struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Bytes(Encoded),
    Host(Arc<Host<dyn HostObject>>),
}

/// An object of the host, and its encoding once there is one.
struct Host<T: ?Sized> {
    encoded: OnceLock<Encoded>,
    object: T,
}

impl Host<dyn HostObject> {
    /// The object is asked outside the cell: one who waited for the cell might hold a lock of the host that
    /// the encoding needs.
    fn encode(&self) -> Result<Encoded> {
        if let Some(encoded) = self.encoded.get() {
            return Ok(encoded.clone());
        }
        let fresh = caught(|| self.object.encode()).unwrap_or_else(|text| {
            let text = format!("the object panicked while it was encoded: {text}");
            Err(Error::new(ErrorKind::Encode, text))
        })?;
        Ok(self.encoded.get_or_init(|| fresh).clone())
    }
}

impl Payload {
    /// The longest payload, in bytes, unless the option `max_payload` says less.
    pub const MAX_LEN: usize = 1 << 30;

    /// No bytes at all.
    #[must_use]
    pub const fn empty() -> Self {
        Self::bytes(Bytes::new(), OCTETS)
    }

    /// These bytes, of this content type.
    #[must_use]
    pub const fn bytes(bytes: Bytes, content_type: &'static str) -> Self {
        Self(Repr::Bytes(Encoded {
            bytes,
            content_type: Cow::Borrowed(content_type),
        }))
    }

    /// These bytes, of a content type known only at run time.
    #[must_use]
    pub fn encoded(encoded: Encoded) -> Self {
        Self(Repr::Bytes(encoded))
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
        let mut copy = Vec::new();
        copy.try_reserve_exact(len)
            .map_err(|e| Error::new(ErrorKind::NoMemory, format!("cannot copy {len} bytes")).caused_by(e))?;
        copy.extend_from_slice(bytes);
        Ok(Self::encoded(Encoded {
            bytes: copy.into(),
            content_type,
        }))
    }

    /// `value` as JSON text.
    ///
    /// # Errors
    /// `Encode` if serde cannot write the value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_vec(value)
            .map_err(|e| Error::new(ErrorKind::Encode, "the value cannot be written as JSON").caused_by(e))?;
        Ok(Self::bytes(text.into(), JSON))
    }

    /// An object of the host, by reference.
    #[must_use]
    pub fn host(object: impl HostObject) -> Self {
        let encoded = OnceLock::new();
        Self(Repr::Host(Arc::new(Host { encoded, object })))
    }

    /// The bytes, if the payload is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Bytes(e) => Some(&e.bytes),
            Repr::Host(_) => None,
        }
    }

    /// What the bytes are, if the payload is bytes.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        match &self.0 {
            Repr::Bytes(e) => Some(&e.content_type),
            Repr::Host(_) => None,
        }
    }

    /// The host's object, if the payload is one of type `T`.
    #[must_use]
    pub fn as_host<T: HostObject>(&self) -> Option<&T> {
        match &self.0 {
            Repr::Bytes(_) => None,
            Repr::Host(h) => h.object.as_any().downcast_ref(),
        }
    }

    /// The payload as bytes: at once if it is bytes or has been encoded before, by [`HostObject::encode`]
    /// otherwise.
    ///
    /// # Errors
    /// `Encode` if the host cannot encode its object.
    pub fn encode(&self) -> Result<Encoded> {
        match &self.0 {
            Repr::Bytes(e) => Ok(e.clone()),
            Repr::Host(h) => h.encode(),
        }
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// `Encode` if the host cannot encode its object; `Invalid` if the bytes are not the JSON of a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let encoded = self.encode()?;
        serde_json::from_slice(&encoded.bytes)
            .map_err(|e| Error::invalid("the payload is not the JSON this handler takes").caused_by(e))
    }

    /// How many bytes the payload holds, if that is known without encoding.
    #[must_use]
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
        Ok(xxh3_64(&self.encode()?.bytes))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // Never the content: payloads hold personal data and secrets.
            Repr::Bytes(e) => write!(f, "{} bytes of {}", e.bytes.len(), e.content_type),
            Repr::Host(_) => f.write_str("a host object"),
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
        Bytes::from(bytes).into()
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::bytes(Bytes::copy_from_slice(text.as_bytes()), "text/plain")
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::bytes(Bytes::from(text), "text/plain")
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
            ErrorKind::Invalid,
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
}
