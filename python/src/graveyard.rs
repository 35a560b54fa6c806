//! Where references to Python objects wait for their end.
//!
//! The core may let a payload go on any thread, attached or not, and while it is in the middle of
//! something. To drop the last reference to a Python object is to run its destructor, which is Python
//! code: it may push a job, and so call the core again. So a reference is only laid down here, and
//! attached Forebay code drops it between two calls to the core. A worker, which does so after each job, has
//! a place of its own for that.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use crossbeam_queue::SegQueue;
use pyo3::ffi;
use pyo3::prelude::*;

/// A reference that nobody needs any more.
struct Dead(NonNull<ffi::PyObject>);

// SAFETY: the pointer is only carried; it is dereferenced by `drain` alone, on an attached thread.
unsafe impl Send for Dead {}

static GRAVES: AtomicPtr<SegQueue<Dead>> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// Whether this thread is draining: a destructor that pushes must not drain again, one level deeper
    /// for every object that has such a destructor.
    static DRAINING: Cell<bool> = const { Cell::new(false) };
    /// What this thread has laid down, if it is a worker in a series of jobs.
    static NEAR: RefCell<Option<Vec<Dead>>> = const { RefCell::new(None) };
}

/// While it lives, what this thread lays down is dropped by this thread, at its next [`drain`]: for a thread
/// that drains often.
pub struct Near(());

impl Near {
    /// From now on.
    pub fn new() -> Self {
        NEAR.with_borrow_mut(|near| *near = Some(Vec::new()));
        Self(())
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        // Nothing, unless a panic came in between.
        let left = NEAR.take().unwrap_or_default();
        left.into_iter().for_each(|dead| graves().push(dead));
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
    let far = NEAR.with_borrow_mut(|near| match near {
        Some(near) => {
            near.push(dead);
            None
        }
        None => Some(dead),
    });
    if let Some(dead) = far {
        graves().push(dead);
    }
}

/// Drops what was laid down. Call it where no core call is under way on this thread.
pub fn drain(py: Python<'_>) {
    if DRAINING.replace(true) {
        return;
    }
    let far = graves();
    loop {
        // One after the other: a destructor may lay down more.
        let near = NEAR.with_borrow_mut(|near| near.as_mut()?.pop());
        let next = near.or_else(|| if far.is_empty() { None } else { far.pop() });
        let Some(Dead(pointer)) = next else {
            break;
        };
        // SAFETY: `bury` gave up an owned reference, and this thread is attached.
        drop(unsafe { Bound::from_owned_ptr(py, pointer.as_ptr()) });
    }
    DRAINING.set(false);
}

/// Starts afresh in the child of a fork. A thread that is gone may have been in the middle of laying
/// something down, and whoever waited for it would wait for ever.
#[pyfunction]
pub fn forked() {
    GRAVES.store(std::ptr::null_mut(), Ordering::Release);
}
