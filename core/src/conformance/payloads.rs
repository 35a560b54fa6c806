//! Objects of the host that travel by reference.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Make;
use super::dump::Folder;
use super::stage::{Stage, job};
use crate::error::{Error, ErrorKind, Result};
use crate::job::NewJob;
use crate::outcome::Outcome;
use crate::payload::{Encoded, HostObject, Payload};

/// An object of which it is counted how many there are, and how often one was encoded.
struct Object {
    text: Option<&'static str>,
    alive: Arc<AtomicUsize>,
    encoded: Arc<AtomicUsize>,
}

impl Object {
    fn payload(text: Option<&'static str>, alive: &Arc<AtomicUsize>, encoded: &Arc<AtomicUsize>) -> Payload {
        alive.fetch_add(1, Ordering::SeqCst);
        Payload::host(Object {
            text,
            alive: alive.clone(),
            encoded: encoded.clone(),
        })
    }
}

impl HostObject for Object {
    fn encode(&self) -> Result<Encoded> {
        self.encoded.fetch_add(1, Ordering::SeqCst);
        let text = self
            .text
            .ok_or_else(|| Error::new(ErrorKind::Encode, "$.x is a socket"))?;
        Ok(Encoded {
            bytes: text.into(),
            content_type: "text/plain".into(),
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An object goes from push to handler and back as it is; nobody encodes it, and it is let go.
pub fn a_host_object_travels_by_reference(make: Make<'_>) {
    let (alive, encoded) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let stage = Stage::new(make);
    let id = stage.push(NewJob::new("k", Object::payload(None, &alive, &encoded)));
    let lease = stage.take();
    assert!(lease.payload().as_host::<Object>().is_some());
    let result = Object::payload(None, &alive, &encoded);
    lease.complete(Outcome::Success(result)).unwrap();
    assert_eq!(
        alive.load(Ordering::SeqCst),
        1,
        "the payload is let go at the end"
    );
    assert!(stage.get(id).result.unwrap().as_host::<Object>().is_some());
    assert_eq!(encoded.load(Ordering::SeqCst), 0);
    drop(stage);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "the result with the engine");
}

/// A dump encodes; what it cannot encode is named, and the former dump stays.
pub fn a_dump_names_what_it_cannot_encode(make: Make<'_>) {
    let (alive, encoded) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let (folder, stage) = (Folder::new(), Stage::new(make));
    stage.push(NewJob::new("k", Object::payload(Some("fine"), &alive, &encoded)));
    stage.d.dump(folder.file()).unwrap();
    let former = std::fs::read(folder.file()).unwrap();
    let second = Stage::new(make);
    second.d.restore(folder.file()).unwrap();
    assert_eq!(second.take().payload().as_bytes(), Some(&b"fine"[..]));
    let bad = stage.push(NewJob::new("k", Object::payload(None, &alive, &encoded)));
    let error = stage.d.dump(folder.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
    let text = error.to_string();
    assert!(
        text.contains(&bad.to_string()) && text.contains("$.x is a socket"),
        "{text}"
    );
    assert_eq!(std::fs::read(folder.file()).unwrap(), former);
}

/// What was encoded at its push is dumped as it was accepted, whatever has become of the object since: one that
/// can be encoded no more does not take the others with it.
pub fn a_dump_holds_what_was_accepted(make: Make<'_>) {
    struct Once(AtomicUsize);
    impl HostObject for Once {
        fn encode(&self) -> Result<Encoded> {
            assert_eq!(
                self.0.fetch_add(1, Ordering::SeqCst),
                0,
                "the object has changed since"
            );
            Payload::from("as it was").encode()
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }
    let (folder, stage) = (Folder::new(), Stage::new(make));
    stage.d.require_encodable();
    stage.push(NewJob::new("k", Payload::host(Once(AtomicUsize::new(0)))));
    stage.push(job());
    for _ in 0..2 {
        assert_eq!(stage.d.dump(folder.file()).unwrap().jobs, 2);
    }
    let second = Stage::new(make);
    second.d.restore(folder.file()).unwrap();
    assert_eq!(second.take().payload().as_bytes(), Some(&b"as it was"[..]));
}

/// A key needs the bytes of its payload: an object that has none is refused.
pub fn a_key_needs_bytes(make: Make<'_>) {
    let (alive, encoded) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let stage = Stage::new(make);
    let refused = stage
        .d
        .push(NewJob::new("k", Object::payload(None, &alive, &encoded)).key("key"))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Encode);
    drop(refused);
    assert_eq!(
        (alive.load(Ordering::SeqCst), stage.counts().totals.pushed),
        (0, 0)
    );
    let first = stage.push(NewJob::new("k", Object::payload(Some("same"), &alive, &encoded)).key("key"));
    let again = NewJob::new("k", "same").key("key");
    assert_eq!(
        stage.d.push(again).unwrap().id,
        first,
        "the same bytes are the same payload"
    );
}

/// An engine that cannot keep objects encodes them at the push, and refuses what cannot be encoded.
pub fn an_object_is_encoded_at_the_push(make: Make<'_>) {
    let (alive, encoded) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let stage = Stage::new(make);
    let refused = stage
        .d
        .push(NewJob::new("k", Object::payload(None, &alive, &encoded)))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Encode);
    assert_eq!(stage.counts().totals.pushed, 0);
    stage.push(NewJob::new("k", Object::payload(Some("text"), &alive, &encoded)));
    assert_eq!(stage.take().payload().as_bytes(), Some(&b"text"[..]));
    stage.push(job());
}

/// A result is encoded when the attempt ends: read at once or after a restart, it is the same bytes. One that
/// cannot be encoded is a failed attempt.
pub fn a_result_is_encoded_at_the_end(make: Make<'_>) {
    let (alive, encoded) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let stage = Stage::new(make);
    let id = stage.push(job());
    stage.run(Outcome::Success(Object::payload(Some("text"), &alive, &encoded)));
    let result = stage.d.get(id).unwrap().result.unwrap();
    assert_eq!(result.as_bytes(), Some(&b"text"[..]));
    assert_eq!(alive.load(Ordering::SeqCst), 0, "the object is let go");
    let id = stage.push(job());
    stage.run(Outcome::Success(Object::payload(None, &alive, &encoded)));
    let error = stage.d.get(id).unwrap().history[0].failure.clone().unwrap();
    assert!(error.message.contains("$.x is a socket"), "{error}");
}
