//! Counts as Python sees them.

use forebay::Stats;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Counts as a dict: of each queue by its name, and of the dispatcher.
pub fn dict<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let queues = PyDict::new(py);
    for queue in &stats.queues {
        let (dict, counts) = (PyDict::new(py), &queue.counts);
        dict.set_item("capacity", queue.capacity)?;
        dict.set_item("paused", counts.paused)?;
        dict.set_item("pressure", queue.pressure)?;
        let gauges = [
            ("blocked", counts.blocked),
            ("scheduled", counts.scheduled),
            ("queued", counts.queued),
            ("running", counts.running),
            ("kept", counts.kept),
            ("shed", counts.totals.shed()),
        ];
        for (name, value) in gauges.into_iter().chain(counts.totals.named()) {
            dict.set_item(name, value)?;
        }
        queues.set_item(&*queue.name, dict)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("queues", queues)?;
    dict.set_item("bodies", stats.bodies)?;
    dict.set_item("concurrency", stats.concurrency)?;
    dict.set_item("hook_failures", stats.hook_failures)?;
    dict.set_item("sleeps", stats.sleeps)?;
    Ok(dict)
}
