//! Where references to Python objects wait for their end.
//!
//! The core may let a payload go on any thread, attached or not, and while it is in the middle of
//! something. To drop the last reference to a Python object is to run its destructor, which is Python
//! code: it may push a job, and so call the core again. So a reference is only laid down here, and
//! attached Forebay code drops it between two calls to the core: what was laid down in a call of its own at the
//! end of that ([`Near`]), and what was laid down by others when it comes by.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use crossbeam_queue::SegQueue;
use pyo3::ffi;
use pyo3::prelude::*;

/// A reference that nobody needs any more.
struct Dead(NonNull<ffi::PyObject>);

// SAFETY: the pointer is only carried; it is dereferenced by `Dead::drop` alone, on an attached thread.
unsafe impl Send for Dead {}

impl Dead {
    fn drop(self, py: Python<'_>) {
        // SAFETY: `bury` gave up an owned reference, and this thread is attached.
        drop(unsafe { Bound::from_owned_ptr(py, self.0.as_ptr()) });
    }
}

static GRAVES: AtomicPtr<SegQueue<Dead>> = AtomicPtr::new(std::ptr::null_mut());

/// What one thread has to do with this.
struct Here {
    /// Whether it drops at present: a destructor that pushes must not do so again, one level deeper for
    /// every object that has such a destructor.
    draining: Cell<bool>,
    /// How many of its [`Near`]s live.
    near: Cell<u32>,
    dead: RefCell<Vec<Dead>>,
}

thread_local! {
    static HERE: Here = const {
        Here {
            draining: Cell::new(false),
            near: Cell::new(0),
            dead: RefCell::new(Vec::new()),
        }
    };
}

/// While it lives, what this thread lays down stays with this thread, which drops it by the end of this: for
/// attached threads, around what may let objects go.
pub struct Near<'py>(Python<'py>);

impl<'py> Near<'py> {
    /// From now on.
    pub fn new(py: Python<'py>) -> Self {
        HERE.with(|here| here.near.update(|near| near + 1));
        Self(py)
    }

    /// Drops what this thread has laid down. Call it where no core call is under way on this thread.
    pub fn drain(&self) {
        HERE.with(|here| here.drain(self.0));
    }
}

impl Drop for Near<'_> {
    fn drop(&mut self) {
        HERE.with(|here| {
            here.drain(self.0);
            here.near.update(|near| near - 1);
        });
    }
}

impl Here {
    fn drain(&self, py: Python<'_>) {
        if self.dead.borrow().is_empty() || self.draining.replace(true) {
            return;
        }
        // One after the other: a destructor may lay down more.
        while let Some(dead) = self.next() {
            dead.drop(py);
        }
        self.draining.set(false);
    }

    fn next(&self) -> Option<Dead> {
        self.dead.borrow_mut().pop()
    }
}

/// The queue of this process. It is never freed: threads of the core may still hold it at the very end.
fn graves() -> &'static SegQueue<Dead> {
    let mut at = GRAVES.load(Ordering::Acquire);
    if at.is_null() {
        let fresh = Box::into_raw(Box::default());
        match GRAVES.compare_exchange(at, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => at = fresh,
            Err(other) => {
                // SAFETY: `fresh` was made above and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                at = other;
            }
        }
    }
    // SAFETY: it is not null, was made by `Box::into_raw`, and is never freed.
    unsafe { &*at }
}

/// Lays a reference down. Any thread, attached or not.
pub fn bury(object: Py<PyAny>) {
    let dead = Dead(NonNull::new(object.into_ptr()).expect("a Py is never null"));
    HERE.with(|here| match here.near.get() {
        0 => graves().push(dead),
        _ => here.dead.borrow_mut().push(dead),
    });
}

/// Drops what was laid down elsewhere. Call it where no core call is under way on this thread.
pub fn drain(py: Python<'_>) {
    let graves = graves();
    if graves.is_empty() || HERE.with(|here| here.draining.replace(true)) {
        return;
    }
    while let Some(dead) = graves.pop() {
        dead.drop(py);
    }
    HERE.with(|here| here.draining.set(false));
}

/// Starts afresh in the child of a fork. A thread that is gone may have been in the middle of laying
/// something down, and whoever waited for it would wait for ever.
#[pyfunction]
pub fn forked() {
    GRAVES.store(std::ptr::null_mut(), Ordering::Release);
}
