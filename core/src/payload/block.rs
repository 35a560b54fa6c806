//! What a payload points to: a block with a count of its references, then bytes, a large payload's
//! [`Encoded`], or an object of the host.
//!
//! One thin pointer for all three keeps a payload at one word wherever it is stored, and one kind of memory
//! (see [`pool`]) keeps pushes from asking the system for any. Everything that is not safe about payloads is
//! here and in the pool.

use std::alloc::{Layout, handle_alloc_error};
use std::any::TypeId;
use std::process::abort;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use once_cell::race::OnceBox;

use super::{CALL, Encoded, HostObject, JSON, OCTETS, pool};

/// The most bytes that are kept in the block itself.
pub(super) const SMALL: usize = pool::LARGEST - size_of::<Header>();

/// More references than this are a leak in a loop.
const MOST: u32 = u32::MAX / 4;
/// As many as a block has whose references are not counted: it is there for ever, and all processors would want its
/// line.
const UNCOUNTED: u32 = 1 << 31;

/// A counted reference to a block.
pub(super) struct Block(NonNull<Header>);

// SAFETY: the count is atomic, and what a block holds is never changed, is `Send` and is `Sync`: bytes,
// an `Encoded`, a `HostObject`.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// What a block holds.
pub(super) enum View<'a> {
    Small(&'a [u8], Known),
    Large(&'a Encoded),
    Host(Host<'a>),
}

/// An object of the host, and its encoding once there is one.
pub(super) struct Host<'a> {
    pub(super) object: &'a dyn HostObject,
    pub(super) encoded: &'a OnceBox<Encoded>,
}

/// The content types that a small block can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Known {
    Octets,
    Json,
    Text,
    Call,
}

impl Known {
    pub(super) fn name(self) -> &'static str {
        match self {
            Known::Octets => OCTETS,
            Known::Json => JSON,
            Known::Text => "text/plain",
            Known::Call => CALL,
        }
    }

    pub(super) fn find(name: &str) -> Option<Self> {
        [Known::Octets, Known::Json, Known::Text, Known::Call]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Form {
    /// `len` bytes follow.
    Small,
    /// The block is a [`LargeBlock`].
    Large,
    /// The block is a [`HostBlock`].
    Host,
}

#[repr(C, align(8))]
struct Header {
    refs: AtomicU32,
    len: u16,
    known: Known,
    form: Form,
}

impl Header {
    const fn new(form: Form, known: Known, len: u16) -> Self {
        Self {
            refs: AtomicU32::new(1),
            len,
            known,
            form,
        }
    }
}

/// The block of every empty payload.
static EMPTY: Header = Header {
    refs: AtomicU32::new(UNCOUNTED),
    ..Header::new(Form::Small, Known::Octets, 0)
};

#[repr(C)]
struct LargeBlock {
    header: Header,
    encoded: Encoded,
}

#[repr(C)]
struct HostBlock<T> {
    head: HostHead,
    object: T,
}

/// The part of a [`HostBlock`] that does not depend on the object's type.
#[repr(C)]
struct HostHead {
    header: Header,
    encoded: OnceBox<Encoded>,
    glue: &'static Glue,
}

/// What has to be known about the type of a host object. Both functions want a block of that type.
struct Glue {
    object: unsafe fn(NonNull<Header>) -> *const dyn HostObject,
    kind: TypeId,
    /// Drops what the block holds and frees it.
    destroy: unsafe fn(NonNull<Header>),
}

impl Block {
    /// Begins to fetch the header, whose count is about to change.
    #[inline]
    pub(super) fn prefetch(&self) {
        crate::prefetch::prefetch(self.0.as_ptr().cast_const());
    }

    /// Nothing, of no particular type.
    pub(super) const fn empty() -> Self {
        Self(NonNull::from_ref(&EMPTY))
    }

    /// A copy of at most [`SMALL`] bytes; `None` if there is no memory for it.
    #[inline]
    pub(super) fn small(bytes: &[u8], known: Known) -> Option<Self> {
        assert!(bytes.len() <= SMALL, "more bytes than a block holds");
        if bytes.is_empty() && known == Known::Octets {
            return Some(Self::empty());
        }
        let block = pool::allocate(small_layout(bytes.len()))?;
        // SAFETY: the memory is ours and has room for a header and the bytes.
        unsafe {
            let header = Header::new(Form::Small, known, bytes.len() as u16);
            block.cast().write(header);
            let body = block.add(size_of::<Header>());
            body.copy_from_nonoverlapping(NonNull::from_ref(bytes).cast(), bytes.len());
        }
        Some(Self(block.cast()))
    }

    /// Bytes that stay where they are; `None` if there is no memory for the block.
    pub(super) fn large(encoded: Encoded) -> Option<Self> {
        let header = Header::new(Form::Large, Known::Octets, 0);
        Self::write(LargeBlock { header, encoded })
    }

    /// An object of the host; `None` if there is no memory for the block.
    pub(super) fn host<T: HostObject>(object: T) -> Option<Self> {
        let head = HostHead {
            header: Header::new(Form::Host, Known::Octets, 0),
            encoded: OnceBox::new(),
            glue: const {
                &Glue {
                    object: object_of::<T>,
                    kind: TypeId::of::<T>(),
                    destroy: destroy::<HostBlock<T>>,
                }
            },
        };
        Self::write(HostBlock { head, object })
    }

    /// Makes this the block of a value that lasts as long as the process: from now on its references are not counted.
    pub(super) fn keep(self) -> Self {
        self.header().refs.store(UNCOUNTED, Ordering::Relaxed);
        self
    }

    /// The object of the host, if it is a `T`.
    #[inline]
    pub(super) fn host_as<T: HostObject>(&self) -> Option<&T> {
        if !matches!(self.header().form, Form::Host) {
            return None;
        }
        // SAFETY: the form says that it is a host block, of which nothing changes while there is a reference.
        let head = unsafe { self.0.cast::<HostHead>().as_ref() };
        if head.glue.kind != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: the glue was made for a block of this type.
        Some(unsafe { &self.0.cast::<HostBlock<T>>().as_ref().object })
    }

    /// `T` must begin with a header.
    fn write<T>(block: T) -> Option<Self> {
        let memory = pool::allocate(Layout::new::<T>())?;
        // SAFETY: the memory is ours and has the layout of a `T`.
        unsafe { memory.cast().write(block) };
        Some(Self(memory.cast()))
    }

    /// What the block holds.
    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        let Header { len, known, form, .. } = *self.header();
        // SAFETY: the form says what was written after the header, and nothing of it changes while there
        // is a reference; `self` is one.
        unsafe {
            match form {
                Form::Small => {
                    let body = self.0.cast::<u8>().add(size_of::<Header>());
                    View::Small(slice::from_raw_parts(body.as_ptr(), usize::from(len)), known)
                }
                Form::Large => View::Large(&self.0.cast::<LargeBlock>().as_ref().encoded),
                Form::Host => {
                    let HostHead { encoded, glue, .. } = self.0.cast::<HostHead>().as_ref();
                    let object = &*(glue.object)(self.0);
                    View::Host(Host { object, encoded })
                }
            }
        }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: every block begins with a header, and lives as long as a reference to it.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn is_counted(&self) -> bool {
        self.header().refs.load(Ordering::Relaxed) & UNCOUNTED == 0
    }

    /// Drops what the block holds and frees it.
    ///
    /// # Safety
    /// This was the last reference.
    unsafe fn destroy(&mut self) {
        let Header { len, form, .. } = *self.header();
        // SAFETY: the form says what was written; as required of the caller, nobody uses it any more.
        unsafe {
            match form {
                Form::Small => pool::free(self.0.cast(), small_layout(usize::from(len))),
                Form::Large => destroy::<LargeBlock>(self.0),
                Form::Host => (self.0.cast::<HostHead>().as_ref().glue.destroy)(self.0),
            }
        }
    }
}

impl Clone for Block {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: whoever gets the new reference gets it by way of something that orders.
        if self.is_counted() && self.header().refs.fetch_add(1, Ordering::Relaxed) > MOST {
            abort();
        }
        Self(self.0)
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        let refs = &self.header().refs;
        let seen = refs.load(Ordering::Acquire);
        // Who sees one reference, which is its own, needs no exclusive look at it: nobody can add another.
        if seen != 1 {
            if seen & UNCOUNTED != 0 || refs.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            // What others did with their references happened before.
            fence(Ordering::Acquire);
        }
        // SAFETY: the last reference was this one.
        unsafe { self.destroy() };
    }
}

#[inline]
fn small_layout(len: usize) -> Layout {
    let size = size_of::<Header>() + len;
    Layout::from_size_align(size, align_of::<Header>()).expect("a small block has a valid size")
}

/// The object of a host block.
///
/// # Safety
/// The block is a live `HostBlock<T>`.
unsafe fn object_of<T: HostObject>(block: NonNull<Header>) -> *const dyn HostObject {
    // SAFETY: as required of the caller.
    unsafe { &raw const (*block.cast::<HostBlock<T>>().as_ptr()).object }
}

/// Drops a `T` and frees its memory, even if the drop panics: it may be the host's.
///
/// # Safety
/// The block is a `T` that nobody uses any more.
unsafe fn destroy<T>(block: NonNull<Header>) {
    struct Memory(NonNull<u8>, Layout);
    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: the block was had with this layout, and its content has been dropped.
            unsafe { pool::free(self.0, self.1) };
        }
    }
    let _memory = Memory(block.cast(), Layout::new::<T>());
    // SAFETY: as required of the caller.
    unsafe { block.cast::<T>().drop_in_place() };
}

/// Ends the program, as any collection does for which there is no memory.
pub(super) fn no_memory() -> ! {
    handle_alloc_error(small_layout(SMALL))
}
