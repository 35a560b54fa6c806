//! How what one handler is called with, and what it returns, is written and read.
//!
//! Where nothing leaves the process nothing of this is used: values travel by reference. What the annotations
//! of a function say about its values is worked out when it is first needed, once per handler
//! (`forebay/_typed.py`), and not at all where they say nothing that JSON does not know by itself.

use std::borrow::Cow;
use std::sync::Arc;

use forebay::{CALL, JSON, Payload};
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::call::Call;
use crate::codec::Codec;
use crate::errors::OrRaise;
use crate::imports::Imported;
use crate::json::{self, Whose};
use crate::shape::Shape;

/// What takes what has been written, with its content type.
pub trait Take<T>: FnOnce(&[u8], Cow<'static, str>) -> PyResult<T> {}
impl<T, F: FnOnce(&[u8], Cow<'static, str>) -> PyResult<T>> Take<T> for F {}

/// How the values of one handler are written and read.
#[pyclass(frozen, module = "forebay._forebay")]
pub struct Format {
    function: Py<PyAny>,
    pass_job: bool,
    fresh: bool,
    /// What it writes with; JSON if there is none.
    codec: Option<Arc<Codec>>,
    /// What its dispatcher writes with, which it reads as well.
    common: Option<Arc<Codec>>,
    /// Whether its annotations may say anything.
    annotated: bool,
    plan: PyOnceLock<Option<Plan>>,
    shape: Option<Shape>,
}

/// What the annotations of a function say; each function is missing where they say nothing.
struct Plan {
    /// `(args, kwargs)` to the object of a call.
    write_call: Option<Py<PyAny>>,
    /// The object of a call to `(args, kwargs)`.
    read_call: Option<Py<PyAny>>,
    /// What a job carries that is no call.
    write_one: Option<Py<PyAny>>,
    read_one: Option<Py<PyAny>>,
    write_result: Option<Py<PyAny>>,
    read_result: Option<Py<PyAny>>,
}

impl Plan {
    fn of(found: &Bound<'_, PyAny>) -> PyResult<Self> {
        let part = |name| {
            let part = found.getattr(name)?;
            Ok::<_, PyErr>((!part.is_none()).then(|| part.unbind()))
        };
        Ok(Self {
            write_call: part("write_call")?,
            read_call: part("read_call")?,
            write_one: part("write_one")?,
            read_one: part("read_one")?,
            write_result: part("write_result")?,
            read_result: part("read_result")?,
        })
    }
}

impl Format {
    /// Of this function, which writes with `codec`, or else as its dispatcher does.
    pub fn new(
        function: &Bound<'_, PyAny>,
        pass_job: bool,
        fresh: bool,
        codec: Option<&Bound<'_, PyAny>>,
        common: Option<Arc<Codec>>,
    ) -> PyResult<Self> {
        static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = function.py();
        let describe = DESCRIBE.find(py, "forebay._function", "describe")?;
        let (annotated, shape): (bool, Option<Bound<'_, PyAny>>) =
            describe.call1((function, pass_job, fresh))?.extract()?;
        Ok(Self {
            function: function.clone().unbind(),
            pass_job,
            fresh,
            codec: codec.map_or_else(|| Ok(common.clone()), Codec::read)?,
            common,
            annotated,
            plan: PyOnceLock::new(),
            shape: shape.map(|shape| Shape::read(&shape)).transpose()?,
        })
    }

    /// Of whatever no handler has a say in, where a dispatcher has.
    pub fn common(py: Python<'_>, codec: Arc<Codec>) -> Self {
        Self {
            function: py.None(),
            pass_job: false,
            fresh: false,
            codec: Some(codec),
            common: None,
            annotated: false,
            plan: PyOnceLock::new(),
            shape: None,
        }
    }

    /// What it writes with, if that is not JSON.
    pub fn codec(&self) -> Option<Arc<Codec>> {
        self.codec.clone()
    }

    /// Whether its values are written as anybody's are.
    pub fn is_plain(&self) -> bool {
        self.codec.is_none() && !self.annotated
    }

    /// Refuses a call that the function would refuse.
    pub fn check(&self, py: Python<'_>, call: &Call) -> PyResult<()> {
        match &self.shape {
            Some(shape) if !shape.takes(py, call) => self.complain(py, call),
            _ => Ok(()),
        }
    }

    /// Says what is wrong with a call that does not look right, if anything is.
    #[cold]
    fn complain(&self, py: Python<'_>, call: &Call) -> PyResult<()> {
        static COMPLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let complain = COMPLAIN.find(py, "forebay._function", "complain")?;
        let (args, kwargs) = call.arguments(py)?;
        complain.call1((&self.function, self.pass_job, self.fresh, args, kwargs))?;
        Ok(())
    }

    /// A call, written.
    pub fn write_call<T>(&self, py: Python<'_>, call: &Call, take: impl Take<T>) -> PyResult<T> {
        match self.plan(py)?.and_then(|plan| plan.write_call.as_ref()) {
            Some(write) => {
                let object = write.bind(py).call1(call.arguments(py)?)?;
                write_with(self.codec.as_deref(), &object, Whose::Call, take)
            }
            None => match &self.codec {
                None => json::write_call(py, call, |text| take(text, CALL.into())),
                Some(codec) => write_with(Some(codec), &call.object(py)?, Whose::Call, take),
            },
        }
    }

    /// What a job carries that is no call, written.
    pub fn write_one<T>(&self, value: &Bound<'_, PyAny>, take: impl Take<T>) -> PyResult<T> {
        let plan = self.plan(value.py())?;
        self.write_by(
            plan.and_then(|plan| plan.write_one.as_ref()),
            value,
            Whose::Payload,
            take,
        )
    }

    /// What the function has returned, written.
    pub fn write_result<T>(&self, value: &Bound<'_, PyAny>, take: impl Take<T>) -> PyResult<T> {
        let plan = self.plan(value.py())?;
        self.write_by(
            plan.and_then(|plan| plan.write_result.as_ref()),
            value,
            Whose::Result,
            take,
        )
    }

    fn write_by<T>(
        &self,
        write: Option<&Py<PyAny>>,
        value: &Bound<'_, PyAny>,
        whose: Whose,
        take: impl Take<T>,
    ) -> PyResult<T> {
        let codec = self.codec.as_deref();
        match write {
            None => write_with(codec, value, whose, take),
            Some(write) => write_with(codec, &write.bind(value.py()).call1((value,))?, whose, take),
        }
    }

    /// The arguments of a call that has been read.
    pub fn read_call<'py>(
        &self,
        call: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let py = call.py();
        match self.plan(py)?.and_then(|plan| plan.read_call.as_ref()) {
            Some(read) => read.bind(py).call1((call,))?.extract(),
            None => {
                static ARGUMENTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                let arguments = ARGUMENTS.find(py, "forebay._codec", "arguments")?;
                arguments.call1((call,))?.extract()
            }
        }
    }

    /// What a job carries that is no call, as the function takes it.
    pub fn read_one<'py>(&self, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let plan = self.plan(value.py())?;
        read_by(plan.and_then(|plan| plan.read_one.as_ref()), value)
    }

    /// What the function has returned.
    pub fn read_result<'py>(&self, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let plan = self.plan(value.py())?;
        read_by(plan.and_then(|plan| plan.read_result.as_ref()), value)
    }

    /// What it can read beside what everybody can.
    pub fn codecs(&self) -> impl Iterator<Item = &Codec> {
        self.codec.as_deref().into_iter().chain(self.common.as_deref())
    }

    fn plan(&self, py: Python<'_>) -> PyResult<Option<&Plan>> {
        if !self.annotated {
            return Ok(None);
        }
        if let Some(plan) = self.plan.get(py) {
            return Ok(plan.as_ref());
        }
        let takes = self.codec.as_ref().map_or("json", |codec| codec.takes());
        let found = py.import("forebay._typed")?.getattr("plan")?.call1((
            &self.function,
            self.pass_job,
            self.fresh,
            takes,
        ))?;
        let plan = match found.is_none() {
            true => None,
            false => Some(Plan::of(&found)?),
        };
        // Nothing of Python runs in here. Another thread may have been first, with the same answer.
        Ok(self.plan.get_or_init(py, || plan).as_ref())
    }
}

#[pymethods]
impl Format {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)
    }
}

fn read_by<'py>(read: Option<&Py<PyAny>>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match read {
        None => Ok(value),
        Some(read) => read.bind(value.py()).call1((value,)),
    }
}

/// A value, or a call as its object, written with a codec.
pub fn write_with<T>(
    codec: Option<&Codec>,
    value: &Bound<'_, PyAny>,
    whose: Whose,
    take: impl Take<T>,
) -> PyResult<T> {
    let call = matches!(whose, Whose::Call);
    match codec {
        None => {
            let content_type = if call { CALL } else { JSON };
            json::write(value, whose, |text| take(text, content_type.into()))
        }
        Some(codec) => take(codec.write(value)?.as_bytes(), codec.content_type(call)),
    }
}

/// What has been written, as a payload.
pub fn payload(py: Python<'_>) -> impl Take<Payload> {
    move |bytes, content_type| Payload::copy(bytes, content_type, usize::MAX).or_raise(py)
}
