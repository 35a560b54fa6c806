//! The names of members, each made once.
//!
//! Objects that come one after the other have the same few names. A name that is found here costs no memory,
//! and brings its hash along for the dict that it goes into. A place is taken over by the last name that wanted
//! it, so no text, whatever it says, makes this grow.

use parking_lot::{Mutex, MutexGuard};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Longer names are not kept.
const LONGEST: usize = 32;
/// How many names there is room for.
const PLACES: usize = 256;

/// A name as an object, and what its text is told by.
struct Name {
    label: Label,
    text: [u8; LONGEST],
    object: Py<PyString>,
}

/// The length of a text, its first eight bytes and its last. Up to 16 bytes that is all of it.
#[derive(Clone, Copy, PartialEq)]
struct Label {
    first: u64,
    last: u64,
    len: usize,
}

impl Label {
    #[inline]
    fn of(text: &[u8]) -> Self {
        let (first, last) = match (text.first_chunk(), text.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => (text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        };
        let len = text.len();
        Self { first, last, len }
    }

    /// Whether it may be the label of another text as well.
    #[inline]
    fn is_part(&self) -> bool {
        self.len > 16
    }

    /// Where the name belongs. Whoever makes names collide makes them slow, and no more.
    #[inline]
    fn place(&self) -> usize {
        let mixed =
            (self.first ^ self.last.rotate_left(23) ^ self.len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize % PLACES
    }
}

/// The names that came last.
pub struct Names([Option<Name>; PLACES]);

static NAMES: Mutex<Names> = Mutex::new(Names([const { None }; PLACES]));

impl Names {
    /// The names, unless somebody is using them. Never waits: the holder may be letting other threads run, or
    /// be the caller of whoever asks, or have been left behind by a fork.
    pub fn borrow() -> Option<MutexGuard<'static, Self>> {
        NAMES.try_lock()
    }

    /// The object for this name.
    #[inline]
    pub fn get<'py>(&mut self, py: Python<'py>, text: &str) -> Bound<'py, PyString> {
        let bytes = text.as_bytes();
        let label = Label::of(bytes);
        if let Some(name) = &self.0[label.place()]
            && name.label == label
            && (!label.is_part() || name.text[..label.len] == *bytes)
        {
            return name.object.bind(py).clone();
        }
        self.keep(py, text, label)
    }

    /// An object for a name that is not there.
    #[cold]
    fn keep<'py>(&mut self, py: Python<'py>, text: &str, label: Label) -> Bound<'py, PyString> {
        let object = PyString::new(py, text);
        if label.len <= LONGEST {
            let mut kept = [0; LONGEST];
            kept[..label.len].copy_from_slice(text.as_bytes());
            // The former one is a plain string: nothing of Python runs when it goes.
            self.0[label.place()] = Some(Name {
                label,
                text: kept,
                object: object.clone().unbind(),
            });
        }
        object
    }
}
