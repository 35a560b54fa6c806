//! What the threads of a dispatcher do, for who must not keep it.

use std::sync::{Arc, Weak};

use pyo3::prelude::*;

use crate::errors::{OrRaise, guard};
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

    /// Stops it within the grace of its options, if it has not been: for one whose dispatcher nobody can ask. Any thread
    /// but a handler's.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        guard(py, || {
            let stop = |shared: Arc<Shared>| shared.stop(py, shared.core.options().grace);
            self.0.upgrade().map(stop).transpose().or_raise(py).map(drop)
        })
    }
}
