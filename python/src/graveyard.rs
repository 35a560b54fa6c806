//! Where references to Python objects wait for their end.
//!
//! The core may let a payload go on any thread, attached or not, and while it is in the middle of
//! something. To drop the last reference to a Python object is to run its destructor, which is Python
//! code: it may push a job, and so call the core again. So a reference is only laid down here, and
//! attached Forebay code drops it between two calls to the core: what was laid down in a call of its own at the
//! end of that ([`Near`]), and what was laid down by others when it comes by.

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

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

static GRAVES: AtomicPtr<SegQueue<Dead>> = AtomicPtr::new(ptr::null_mut());

/// Whether something may be there: to ask the queue itself costs a fence.
static ANY: AtomicBool = AtomicBool::new(false);

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
pub struct Near<'py> {
    py: Python<'py>,
    /// Looked up once: in a library that is loaded at run time each look is a call.
    here: NonNull<Here>,
}

impl<'py> Near<'py> {
    /// From now on.
    #[inline]
    pub fn new(py: Python<'py>) -> Self {
        HERE.with(|here| {
            here.near.update(|near| near + 1);
            Self {
                py,
                here: NonNull::from(here),
            }
        })
    }

    #[inline]
    fn here(&self) -> &Here {
        // SAFETY: a token of being attached stays on its thread, and so does this; what is kept per thread is there
        // as long as its functions run.
        unsafe { self.here.as_ref() }
    }

    /// Drops what this thread has laid down. Call it where no core call is under way on this thread.
    #[inline]
    pub fn drain(&self) {
        self.here().drain(self.py);
    }
}

impl Drop for Near<'_> {
    #[inline]
    fn drop(&mut self) {
        self.drain();
        self.here().near.update(|near| near - 1);
    }
}

impl Here {
    #[inline]
    fn drain(&self, py: Python<'_>) {
        if !self.dead.borrow().is_empty() {
            self.drop_all(py);
        }
    }

    fn drop_all(&self, py: Python<'_>) {
        if self.draining.replace(true) {
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
    // SAFETY: what is there was made by `Box::into_raw`, and is never freed.
    unsafe { GRAVES.load(Ordering::Acquire).as_ref() }.unwrap_or_else(|| {
        let fresh = Box::into_raw(Box::default());
        let set = GRAVES.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire);
        let at = set.map_or_else(
            |other| {
                // SAFETY: `fresh` was made above and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                other
            },
            |_| fresh,
        );
        // SAFETY: it is not null, was made by `Box::into_raw`, and is never freed.
        unsafe { &*at }
    })
}

/// Lays a reference down. Any thread, attached or not.
#[inline]
pub fn bury(object: Py<PyAny>) {
    bury_all([object]);
}

/// Lays references down. Any thread, attached or not.
#[inline]
pub fn bury_all(objects: impl IntoIterator<Item = Py<PyAny>>) {
    let dead = |object: Py<PyAny>| Dead(NonNull::new(object.into_ptr()).expect("a Py is never null"));
    let dead = objects.into_iter().map(dead);
    HERE.with(|here| match here.near.get() {
        0 => {
            dead.for_each(|dead| graves().push(dead));
            ANY.store(true, Ordering::Release);
        }
        _ => here.dead.borrow_mut().extend(dead),
    });
}

/// Drops what was laid down elsewhere. Call it where no core call is under way on this thread.
#[inline]
pub fn drain(py: Python<'_>) {
    if ANY.load(Ordering::Relaxed) {
        drain_all(py);
    }
}

#[inline(never)]
fn drain_all(py: Python<'_>) {
    if HERE.with(|here| here.draining.replace(true)) {
        return;
    }
    // Before the look: who lays something down after it says so again.
    ANY.swap(false, Ordering::AcqRel);
    let graves = graves();
    while let Some(dead) = graves.pop() {
        dead.drop(py);
    }
    HERE.with(|here| here.draining.set(false));
}

/// Starts afresh in the child of a fork. A thread that is gone may have been in the middle of laying
/// something down, and whoever waited for it would wait for ever.
#[pyfunction]
pub fn forked() {
    GRAVES.store(ptr::null_mut(), Ordering::Release);
}
