//! Which calls a function takes, so that a wrong one is refused where it is made.
//!
//! A look at a few words tells the right calls from those that may be wrong. What is wrong with one of the
//! latter, if anything, is for Python to say.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::call::Call;

/// The parameters of a function; of one with more than 64 there is no shape.
pub struct Shape {
    /// The names of all that can be named, interned as those of a call are; where one cannot, nothing.
    names: Vec<Option<Py<PyString>>>,
    /// How many of them can be given by position.
    positional: usize,
    /// Those that have no default, one bit each.
    required: u64,
    /// Whether there is no limit to what is given by position.
    any_positional: bool,
    /// Whether any name will do.
    any_named: bool,
}

impl Shape {
    /// What `describe` in `forebay/_function.py` says.
    pub fn read(said: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (names, positional, required, any_positional, any_named) = said.extract()?;
        Ok(Self {
            names,
            positional,
            required,
            any_positional,
            any_named,
        })
    }

    /// Whether the function surely takes this call.
    pub fn takes(&self, py: Python<'_>, call: &Call) -> bool {
        let given = call.positional(py).len();
        if given > self.positional && !self.any_positional {
            return false;
        }
        let filled = match given.min(self.positional) {
            64 => u64::MAX,
            count => (1 << count) - 1,
        };
        let filled = match call.names() {
            None => Some(filled),
            Some(names) => self.named(names.bind(py), filled),
        };
        filled.is_some_and(|filled| filled & self.required == self.required)
    }

    /// Adds the parameters of these names to those that are filled.
    fn named(&self, names: &Bound<'_, PyTuple>, mut filled: u64) -> Option<u64> {
        for name in names {
            let known = |known: &Option<Py<PyString>>| known.as_ref().is_some_and(|known| known.is(&name));
            match self.names.iter().position(known) {
                Some(at) if filled & 1 << at == 0 => filled |= 1 << at,
                None if self.any_named => {}
                // Given twice, or not known; or it is ours in another object.
                _ => return None,
            }
        }
        Some(filled)
    }
}
