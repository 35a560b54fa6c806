//! The C ABI of Forebay.
//!
//! Nothing is decided here. Every exported function is a panic boundary, a conversion of its arguments,
//! one call into the core, and a conversion of the answer. `include/forebay.h` is generated from these
//! files by cbindgen, so `///` speaks to a C programmer; what concerns Rust is said in `//`.
//!
//! The rules of the ABI:
//!
//! * A handle is an opaque pointer. A type has one kind of owner for all its handles ([`handle`]).
//! * A lease is a number, never a pointer: the core's `Ticket`.
//! * A struct starts with its size, and grows at its end only; a field that is zero means what it meant
//!   before the field was there ([`record`]). Arrays come with the size of their elements.
//! * Codes are `int32_t`, so that a new one is no undefined behaviour for an old caller.
//! * Errors are objects that the caller owns. Nothing is kept per thread: a goroutine may be on another
//!   one at its next call.

// The names of exported types are their names in C.
#![allow(non_camel_case_types)]
// `///` is the header's text; what a caller must see to is said there in the words of C.
#![allow(clippy::missing_safety_doc)]

#[cfg(not(panic = "unwind"))]
compile_error!("libforebay turns panics into codes and needs panic = \"unwind\"");

mod bytes;
mod error;
#[cfg(feature = "failpoints")]
mod failpoint;
mod handle;
mod record;

mod buffer;
mod consumer;
mod dispatcher;
mod events;
mod forward;
mod handler;
mod headers;
mod jobs;
mod list;
mod options;
mod push;
mod queues;
mod tickets;
mod watcher;
