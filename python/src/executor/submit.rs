//! The native half of `forebay.Executor`.

use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use forebay::{NewJob, Options, Payload};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::future::{End, Promise};
use super::pool::{self, Pool, Task};
use super::work::Hand;
use crate::call::Call;
use crate::errors::guard;
use crate::given::{self, Given, Method};
use crate::imports::Imported;
use crate::push::{self, PushOptions};
use crate::read;

/// The base of `forebay.Executor`, which adds the threads; use that one.
#[pyclass(frozen, subclass, module = "forebay._forebay")]
#[derive(Default)]
pub struct Submitter {
    own: OnceLock<Own>,
}

struct Own {
    owner: Arc<Owner>,
    /// What `options` has said.
    options: Option<PushOptions>,
    ways: Ways,
}

/// What may happen to a call without anybody's doing.
#[derive(Clone, Copy)]
struct Ways {
    /// The core may decide its end.
    ends: bool,
    /// It may begin later than it is submitted, or once more: threads must be there for it.
    begins: bool,
}

/// The executors that share a pool. With the last one the pool is closed.
struct Owner {
    pool: Arc<Pool>,
    ways: Ways,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.pool.close();
        if self.pool.threads.load(Ordering::SeqCst) == 0 {
            Python::attach(|py| self.pool.stop(py));
        }
    }
}

impl Submitter {
    fn own(&self) -> PyResult<&Own> {
        let unmade = || PyRuntimeError::new_err("Executor.__init__() was not called");
        self.own.get().ok_or_else(unmade)
    }

    /// Has a function called with these arguments by one of the threads. Returns the future.
    fn submit(slf: &Bound<'_, Self>, given: Given<'_, '_>) -> PyResult<Py<PyAny>> {
        let (py, own) = (given.py, slf.get().own()?);
        let pool = &own.owner.pool;
        if given.positional().is_empty() {
            return Err(PyTypeError::new_err(
                "submit() missing 1 required positional argument: 'fn'",
            ));
        }
        loop {
            pool.begin(py)?;
            let future = pool.promise(py).inspect_err(|_| pool.ended())?;
            let task = Task {
                future: ManuallyDrop::new(future.clone().unbind()),
                function: ManuallyDrop::new((*given.values()[0]).to_owned().unbind()),
                arguments: ManuallyDrop::new(Call::of(given.after_first())),
            };
            if let Some(future) = own.push(py, future, Payload::host(task))? {
                own.hire(slf)?;
                return Ok(future.into_any().unbind());
            }
        }
    }
}

impl Own {
    /// Has another thread begin, if none is idle; all of them, if calls come by themselves.
    fn hire(&self, executor: &Bound<'_, Submitter>) -> PyResult<()> {
        let pool = &self.owner.pool;
        let more = || pool.threads.load(Ordering::SeqCst) < pool.most;
        if !pool.rouse() && more() {
            executor.call_method0("_hire")?;
        }
        while self.ways.begins && more() {
            executor.call_method0("_hire")?;
        }
        Ok(())
    }

    /// Pushes a call. `None` if there was another one with its key, which has ended meanwhile.
    fn push<'py>(
        &self,
        py: Python<'py>,
        future: Bound<'py, Promise>,
        payload: Payload,
    ) -> PyResult<Option<Bound<'py, Promise>>> {
        let pool = &self.owner.pool;
        let pushed = match &self.options {
            None => push::pushed(py, &pool.shared, NewJob::new(pool.kind, payload), None),
            Some(options) => push::pushed(py, &pool.shared, options.job(pool.kind, payload), options.wait),
        };
        let pushed = match pushed {
            Ok(pushed) if pushed.created => pushed,
            other => {
                // It will not be made.
                future.get().void();
                pool.ended();
                pool.settle_orphans(py)?;
                return other.map(|pushed| pool.find(py, pushed.id));
            }
        };
        future.get().name(pushed.id);
        if pushed.shed.is_some() {
            Promise::settle(&future, End::Exception(pool::shed(py)))?;
        } else if self.ways.ends && pool.watch(py, future.clone().unbind(), pushed.id)? {
            static LISTEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let listen = LISTEN.find(py, "forebay.executor", "listen")?;
            listen.call1((Hand::new(pool),))?;
        }
        // Whoever had to go for this one.
        pool.settle_orphans(py)?;
        Ok(Some(future))
    }
}

#[pymethods]
impl Submitter {
    /// One without a pool, whatever it is made with.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn unmade(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Gives it a pool of up to so many threads.
    #[pyo3(signature = (most, /, **options))]
    fn _open(&self, py: Python<'_>, most: usize, options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        guard(py, || {
            let options: Options = read::options(py, options)?;
            let ends = options.timeout.is_some();
            let begins = ends || options.max_attempts > 1;
            let (pool, ways) = (Pool::open(py, most, options)?, Ways { ends, begins });
            let own = Own {
                owner: Arc::new(Owner { pool, ways }),
                options: None,
                ways,
            };
            self.own.get_or_init(|| own);
            Ok(())
        })
    }

    /// Gives it the pool of another one, and options for its calls.
    fn _share(&self, py: Python<'_>, other: &Self, options: &Bound<'_, PyDict>) -> PyResult<()> {
        guard(py, || {
            let other = other.own()?;
            let given = other.options.clone().unwrap_or_default().with(options)?;
            let ways = other.owner.ways;
            let own = Own {
                owner: other.owner.clone(),
                ways: Ways {
                    ends: ways.ends || given.may_expire(),
                    begins: ways.begins || given.may_wait(),
                },
                options: Some(given),
            };
            self.own.get_or_init(|| own);
            Ok(())
        })
    }

    /// The most threads; by the name that this has in the original.
    #[getter]
    fn _max_workers(&self) -> PyResult<usize> {
        Ok(self.own()?.owner.pool.most)
    }

    /// How many threads wait for a call, and are not taken by a submit.
    #[getter]
    fn _idle(&self) -> PyResult<i64> {
        Ok(self.own()?.owner.pool.idle())
    }

    /// Why it accepts no call, if a thread could not begin; by the name that this has in the original.
    #[getter]
    fn _broken(&self) -> PyResult<Option<&str>> {
        Ok(self.own()?.owner.pool.why_broken())
    }

    /// Another thread for its pool, if it may have one.
    fn _hand(&self) -> PyResult<Option<Hand>> {
        let pool = &self.own()?.owner.pool;
        let more = |threads: usize| (threads < pool.most).then_some(threads + 1);
        let hired = pool
            .threads
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        Ok(hired.is_ok().then(|| Hand::new(pool)))
    }

    /// Accepts no more calls; cancels those that wait if `cancel` says so.
    fn _close(&self, py: Python<'_>, cancel: bool) -> PyResult<()> {
        guard(py, || {
            let pool = &self.own()?.owner.pool;
            pool.close();
            if cancel {
                pool.cancel_all(py)?;
            }
            if pool.threads.load(Ordering::SeqCst) == 0 && pool.shared.core.stopping() {
                pool.stop(py);
            }
            Ok(())
        })
    }
}

/// The method `submit`.
// SAFETY: its body is nothing but that call.
pub static SUBMIT: Method<Submitter> = unsafe {
    Method::new(
        c"submit",
        c"submit($self, fn, /, *args, **kwargs)\n--\n\nHas fn(*args, **kwargs) called by one of the threads. Returns its future.",
        submit_body,
    )
};

unsafe extern "C" fn submit_body(
    executor: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: these are the arguments of this very method.
    unsafe { given::call(executor, args, positional, names, Submitter::submit) }
}
