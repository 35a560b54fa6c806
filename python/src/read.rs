//! How values of Python are read: durations, instants, ids, options.

use std::time::Duration;

use forebay::{ForwardOptions, JobId, KindOptions, Options, QueueOptions, State, Timestamp, parse_duration};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDelta, PyDict, PyFloat, PyInt, PyString, PyType};

use crate::errors::{OrRaise, invalid};
use crate::imports::Imported;

/// A duration: seconds, a `timedelta`, or a text with its unit. Infinity is longer than anything.
pub fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let py = value.py();
    if let Ok(text) = value.cast::<PyString>() {
        return parse_duration(text.to_str()?).map_err(|why| invalid(py, format!("{name}: {why}")));
    }
    let Some(seconds) = seconds(value)? else {
        let kind = value.get_type().name()?;
        let text = format!("{name} is a {kind}; give seconds, a timedelta, or a text such as \"5s\"");
        return Err(PyTypeError::new_err(text));
    };
    if seconds == f64::INFINITY {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        invalid(
            py,
            format!("{name} is {seconds} seconds; it must be 0 or more and finite"),
        )
    })
}

/// The seconds of a number or a `timedelta`; `None` for anything else.
fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_instance_of::<PyBool>() {
        Ok(None)
    } else if value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>() {
        value.extract().map(Some)
    } else if value.is_instance_of::<PyDelta>() {
        value.call_method0("total_seconds")?.extract().map(Some)
    } else {
        Ok(None)
    }
}

/// How many: an int that is not negative.
pub fn count(name: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    value.extract().map_err(|error: PyErr| {
        let py = value.py();
        match error.is_instance_of::<PyOverflowError>(py) {
            true => invalid(
                py,
                format!("{name} is {value}; it must be 0 or more, and less than 2**64"),
            ),
            false => error,
        }
    })
}

/// An instant, if `value` is a `datetime`. One without a time zone is refused: nobody can tell which it
/// means.
pub fn instant(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Timestamp>> {
    let py = value.py();
    if !value.is_instance(datetime_class(py)?)? {
        return Ok(None);
    }
    if value.getattr("tzinfo")?.is_none() {
        let text = format!("{name} has no time zone; use for example datetime.now(UTC)");
        return Err(invalid(py, text));
    }
    let seconds: f64 = value.call_method0("timestamp")?.extract()?;
    Ok(Some(Timestamp::from_micros((seconds * 1e6).round() as i64)))
}

fn datetime_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    DATETIME.find(py, "datetime", "datetime")
}

/// The last whole second that a `datetime` can tell, in the year 9999.
const LAST: Timestamp = Timestamp::from_micros(253_402_300_799_000_000);

/// An instant as a `datetime` in UTC; what is later than that can tell, such as the time of a job that is never to
/// run, is the last one.
pub fn datetime(py: Python<'_>, at: Timestamp) -> PyResult<Bound<'_, PyAny>> {
    let at = at.min(LAST);
    static UTC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let utc = UTC.find(py, "datetime", "UTC")?;
    datetime_class(py)?.call_method1("fromtimestamp", (at.as_micros() as f64 / 1e6, utc))
}

/// A job id: a `uuid.UUID`, a handle, or text.
pub fn id(value: &Bound<'_, PyAny>) -> PyResult<JobId> {
    let py = value.py();
    if let Ok(handle) = value.cast::<crate::handle::Handle>() {
        return Ok(handle.get().id);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return text.to_str()?.parse::<JobId>().or_raise(py);
    }
    match value.getattr("bytes").and_then(|b| b.extract::<[u8; 16]>()) {
        Ok(bytes) => Ok(JobId::from_bytes(bytes)),
        Err(_) => {
            let text = format!(
                "{} is not a job id; give a uuid.UUID, a Handle, or text",
                value.repr()?
            );
            Err(PyTypeError::new_err(text))
        }
    }
}

/// An id as a `uuid.UUID`.
pub fn uuid(py: Python<'_>, id: JobId) -> PyResult<Bound<'_, PyAny>> {
    static UUID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (none, bytes) = (py.None(), pyo3::types::PyBytes::new(py, &id.to_bytes()));
    UUID.find(py, "uuid", "UUID")?.call1((none, bytes))
}

/// The URL of an engine: text, or the path of a file, which is a `sqlite:` one.
pub fn url(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_str()?.to_owned());
    }
    let path = value.py().import("os")?.call_method1("fspath", (value,));
    let Ok(path) = path.and_then(|p| p.extract::<String>()) else {
        let kind = value.get_type().name()?;
        let text = format!("url is a {kind}; give a text such as \"sqlite:jobs.db\", or a path");
        return Err(PyTypeError::new_err(text));
    };
    match path.contains('?') {
        // What follows it in a URL are options.
        true => Err(invalid(
            value.py(),
            format!("{path:?} has a \"?\", which no URL can name; rename the file"),
        )),
        false => Ok(format!("sqlite:{path}")),
    }
}

/// A table of options in the core.
pub trait Table {
    /// What `None` says of an option.
    const NONE: &'static str;
    /// Its names.
    const NAMES: &'static [&'static str];
    /// Sets one from text.
    fn set(&mut self, name: &str, text: &str) -> forebay::Result<()>;
    /// Sets one from a number.
    fn set_number(&mut self, name: &str, number: f64) -> forebay::Result<()>;
    /// The text of one.
    fn text(&self, name: &str) -> forebay::Result<String>;
}

macro_rules! tables {
    ($($table:ident: $none:literal),+) => {$(
        impl Table for $table {
            const NONE: &'static str = $none;
            const NAMES: &'static [&'static str] = $table::NAMES;
            fn set(&mut self, name: &str, text: &str) -> forebay::Result<()> {
                self.set(name, text)
            }
            fn set_number(&mut self, name: &str, number: f64) -> forebay::Result<()> {
                self.set_number(name, number)
            }
            fn text(&self, name: &str) -> forebay::Result<String> {
                self.text(name)
            }
        }
    )+};
}

tables!(Options: "none", QueueOptions: "default", KindOptions: "default", ForwardOptions: "none");

/// What keywords say of options: read while Python may run, to be set where it may not.
pub struct Said(Vec<(String, Value)>);

enum Value {
    Number(f64),
    Text(String),
}

impl Said {
    /// What these keywords say of options of the table `T`.
    pub fn read<T: Table>(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let said = keywords.into_iter().flatten().map(|(name, value)| {
            let name = name.extract::<String>()?;
            let value = match seconds(&value)? {
                Some(number) => Value::Number(number),
                None => Value::Text(option_text(&name, &value, T::NONE)?),
            };
            Ok((name, value))
        });
        said.collect::<PyResult<_>>().map(Self)
    }

    /// Says it of `table`, and leaves what is not named as it is.
    pub fn set<T: Table>(&self, table: &mut T) -> forebay::Result<()> {
        self.0.iter().try_for_each(|(name, value)| match value {
            Value::Number(number) => table.set_number(name, *number),
            Value::Text(text) => table.set(name, text),
        })
    }
}

/// Options from keywords.
pub fn options<T: Table + Default>(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<T> {
    let mut options = T::default();
    Said::read::<T>(keywords)?.set(&mut options).or_raise(py)?;
    Ok(options)
}

/// Every option of a table, as text.
pub fn texts<'py, T: Table>(py: Python<'py>, table: &T) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for name in T::NAMES {
        dict.set_item(name, table.text(name).or_raise(py)?)?;
    }
    Ok(dict)
}

/// The text of an option that is not a number.
fn option_text(name: &str, value: &Bound<'_, PyAny>, none: &str) -> PyResult<String> {
    if value.is_none() {
        return Ok(none.into());
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(flag.is_true().to_string());
    }
    let path = value.py().import("os")?.call_method1("fspath", (value,));
    path.and_then(|p| p.extract::<String>()).map_err(|_| {
        let kind = value.get_type();
        PyTypeError::new_err(format!(
            "option {name} is a {kind}; give a number, a text, a path, a timedelta or None"
        ))
    })
}

/// An argument that must be text.
pub fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => text.to_str().map(str::to_owned),
        Err(_) => Err(wrong(name, value, "text")),
    }
}

/// The error of an argument of a wrong type: what to give instead.
pub fn wrong(name: &str, value: &Bound<'_, PyAny>, give: &str) -> PyErr {
    match value.get_type().name() {
        Ok(kind) => PyTypeError::new_err(format!("{name} is a {kind}; give {give}")),
        Err(error) => error,
    }
}

/// States from one name, or several.
pub fn states(value: &Bound<'_, PyAny>) -> PyResult<Vec<State>> {
    let names = match value.cast::<PyString>() {
        Ok(one) => vec![one.to_str()?.to_owned()],
        Err(_) => value
            .try_iter()?
            .map(|name| name?.extract())
            .collect::<PyResult<Vec<String>>>()?,
    };
    let unknown = |name: &str| invalid(value.py(), format!("{name:?} is not a status of a job"));
    names
        .iter()
        .map(|name| State::from_name(name).ok_or_else(|| unknown(name)))
        .collect()
}

/// An instant, which nothing else will do for.
pub fn at(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Timestamp> {
    let wrong = || PyTypeError::new_err(format!("{name} must be a datetime with a time zone"));
    instant(name, value)?.ok_or_else(wrong)
}

/// The names of the options of a dispatcher, of one queue, of one kind, and of a forwarder.
#[pyfunction]
pub fn option_names() -> [Vec<&'static str>; 4] {
    let names = [
        Options::NAMES,
        QueueOptions::NAMES,
        KindOptions::NAMES,
        ForwardOptions::NAMES,
    ];
    names.map(<[_]>::to_vec)
}
