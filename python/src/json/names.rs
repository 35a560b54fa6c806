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

/// A name as it stands in a text, and as an object.
struct Name {
    text: [u8; LONGEST],
    len: usize,
    object: Py<PyString>,
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
    pub fn get<'py>(&mut self, py: Python<'py>, text: &str) -> Bound<'py, PyString> {
        let bytes = text.as_bytes();
        if bytes.len() > LONGEST {
            return PyString::new(py, text);
        }
        let place = &mut self.0[place(bytes)];
        if let Some(name) = place
            && name.len == bytes.len()
            && name.text[..name.len] == *bytes
        {
            return name.object.bind(py).clone();
        }
        let object = PyString::new(py, text);
        let mut kept = [0; LONGEST];
        kept[..bytes.len()].copy_from_slice(bytes);
        // The former one is a plain string: nothing of Python runs when it goes.
        *place = Some(Name {
            text: kept,
            len: bytes.len(),
            object: object.clone().unbind(),
        });
        object
    }
}

/// Where a name belongs, by its first and its last bytes. Whoever makes names collide makes them slow, and no more.
fn place(name: &[u8]) -> usize {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let (first, last) = match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (word(first), word(last)),
        _ => (name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
    };
    let mixed = (first ^ last.rotate_left(23) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % PLACES
}
