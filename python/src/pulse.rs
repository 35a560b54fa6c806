//! Whether handlers run, for who must not keep their dispatcher.

use std::sync::{Arc, Weak};

use pyo3::prelude::*;

use crate::shared::Shared;

/// Of one dispatcher, which may be gone.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Pulse(Weak<Shared>);

impl Pulse {
    /// Of this dispatcher.
    pub fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }
}

#[pymethods]
impl Pulse {
    /// Whether a handler runs, or a job was handed out that has no answer yet. Any thread.
    fn beats(&self) -> bool {
        self.0.upgrade().is_some_and(|shared| shared.core.bodies() > 0)
    }
}
