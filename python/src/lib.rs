//! `forebay._forebay`: the Python skin of Forebay.
//!
//! It translates and decides nothing: every rule is the core's. What is special about Python is here:
//!
//! * **Values travel by reference** ([`value`]) and are written as JSON only when they must leave the
//!   process. A reference that the core lets go is dropped later, by attached code and outside of every
//!   call to the core ([`graveyard`]): a destructor is Python code, which may push a job.
//! * **Workers are Python threads** that loop in here ([`worker`]): they stay attached to the interpreter
//!   while there is work, and wait detached when there is none. Threads of the core never attach.
//! * **Waiting is detached, and on the main thread in slices** ([`patience`]), so that Ctrl-C is heard. A
//!   push detaches only when it has to wait for room.
//! * **No panic leaves as a panic** ([`errors::guard`]): it becomes an `InternalError`.
//!
//! The face that users see is the Python package beside this crate; `_forebay.pyi` is its contract with
//! this module.

mod attempt;
mod call;
mod carrier;
mod codec;
mod command;
mod consumer;
mod context;
mod coroutine;
mod crew;
mod dispatcher;
mod ends;
mod errors;
mod events;
mod executor;
mod format;
mod forward;
mod given;
mod graveyard;
mod handle;
mod handler;
mod handlers;
mod hooks;
mod imports;
mod interrupt;
mod json;
mod outbox;
mod outcome;
mod patience;
mod pulse;
mod push;
mod read;
mod ready;
mod record;
mod rehearse;
mod shape;
mod shared;
mod station;
mod stats;
mod value;
mod worker;

use pyo3::prelude::*;

/// The native half of the package `forebay`; use that one.
#[pymodule(gil_used = true)]
mod _forebay {
    #[pymodule_export]
    use crate::attempt::Job;
    #[pymodule_export]
    use crate::carrier::Carrier;
    #[pymodule_export]
    use crate::command::{cli_main, cli_or_worker};
    #[pymodule_export]
    use crate::consumer::{Consumer, Delivery};
    #[pymodule_export]
    use crate::dispatcher::Core;
    #[pymodule_export]
    use crate::ends::{Awaiting, Ends, awaiting, home, outcome, seconds};
    #[pymodule_export]
    use crate::errors::{error_kinds, provoke_panic};
    #[pymodule_export]
    use crate::events::{Event, Subscription};
    #[pymodule_export]
    use crate::executor::{Hand, Promise, Submitter, refuse_calls};
    #[pymodule_export]
    use crate::forward::{Courier, Forwarder};
    #[pymodule_export]
    use crate::graveyard::forked;
    #[pymodule_export]
    use crate::handle::Handle;
    #[pymodule_export]
    use crate::handler::{AsyncHandler, AsyncJobHandler, Handler, JobHandler};
    #[pymodule_export]
    use crate::interrupt::Interrupter;
    #[pymodule_export]
    use crate::json::{from_json, to_json};
    #[pymodule_export]
    use crate::outbox::{Outbox, Submission};
    #[pymodule_export]
    use crate::pulse::Pulse;
    #[pymodule_export]
    use crate::read::option_names;
    #[pymodule_export]
    use crate::record::{Attempt, JobInfo};
    #[pymodule_export]
    use crate::rehearse::{
        call_handler, crash_at, oversee, rebound, registered, seed, take_after, write_values,
    };
    #[pymodule_export]
    use crate::station::Station;
    #[pymodule_export]
    use crate::worker::Worker;

    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        // SAFETY: an attached thread has a current interpreter, and both calls only read.
        let interpreter = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
        if interpreter != 0 {
            // Objects of one interpreter would end up in the workers of another.
            return Err(PyImportError::new_err(
                "forebay works in the main interpreter only",
            ));
        }
        crate::dispatcher::PUSH.add(m.py())?;
        crate::dispatcher::APUSH.add(m.py())?;
        crate::executor::SUBMIT.add(m.py())?;
        crate::handler::PUSH.add(m.py())?;
        crate::handler::APUSH.add(m.py())?;
        m.add("Ready", crate::ready::class(m.py())?)?;
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
