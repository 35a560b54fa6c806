//! Structs that the caller and the library may know in different sizes.
//!
//! The first field says how many bytes the caller knows. A smaller (older) struct is read as if the rest
//! were zero. Of a larger (newer) one, what this library does not know must be zero: a field that the
//! caller uses must not be ignored in silence.

use std::mem::{MaybeUninit, size_of};
use std::ops::Deref;

use forebay_core::{Error, ErrorKind, Result};

use crate::handle::null;

/// A struct whose first field is its size.
//
// SAFETY: an implementor is `repr(C)`, starts with `struct_size: usize`, has no padding, and any bytes are
// a valid value of it.
pub(crate) unsafe trait Record: Copy {}

/// No struct will ever be larger; a size above it is memory that was not initialised.
const LARGEST: usize = 4096;
const SMALLEST: usize = size_of::<usize>();

/// A struct of the caller's: where it stands, if it is as this library knows it, else as it was read.
pub(crate) enum View<'a, T> {
    There(&'a T),
    Read(T),
}

impl<T> Deref for View<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            View::There(value) => value,
            View::Read(value) => value,
        }
    }
}

impl<'a, T: Record> View<'a, T> {
    // SAFETY: `from` must point to as many readable bytes as its first field says, at least that field, which
    // nobody changes while `'a` lasts.
    #[inline]
    unsafe fn of(from: *const u8, what: &str) -> Result<Self> {
        // SAFETY: the first field is readable.
        let size = unsafe { from.cast::<usize>().read_unaligned() };
        let there = from.cast::<T>();
        if size == size_of::<T>() && there.is_aligned() {
            // SAFETY: aligned, readable in its whole size, and any bytes are a `T`.
            return Ok(View::There(unsafe { &*there }));
        }
        // SAFETY: as required of the caller.
        unsafe { read_sized(from, size, what) }.map(View::Read)
    }
}

/// Looks at a struct of the size it says it has, where it stands if it can.
//
// SAFETY: `from` must be NULL or point to as many readable bytes as its first field says, at least that
// field, which nobody changes while `'a` lasts.
#[inline]
pub(crate) unsafe fn view<'a, T: Record>(from: *const T, what: &str) -> Result<View<'a, T>> {
    if from.is_null() {
        return Err(null(what));
    }
    // SAFETY: as required of the caller.
    unsafe { View::of(from.cast(), what) }
}

/// Reads a struct by the size it says it has.
//
// SAFETY: `from` must be NULL or point to as many readable bytes as its first field says, at least that
// field.
pub(crate) unsafe fn read<T: Record>(from: *const T, what: &str) -> Result<T> {
    if from.is_null() {
        return Err(null(what));
    }
    // SAFETY: the first field is readable.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    // SAFETY: as required of the caller.
    unsafe { read_sized(from.cast(), size, what) }
}

/// Reads a struct, or one of zeros where NULL stands for it.
//
// SAFETY: as `read`.
pub(crate) unsafe fn read_or_zero<T: Record>(from: *const T, what: &str) -> Result<T> {
    if from.is_null() {
        // SAFETY: any bytes are a `T`.
        return Ok(unsafe { MaybeUninit::zeroed().assume_init() });
    }
    // SAFETY: as required of the caller.
    unsafe { read(from, what) }
}

/// Looks at element `i` of an array whose elements are `size` bytes.
//
// SAFETY: the array must have been checked by `check_array`, hold more than `i` elements, and nobody may change it
// while `'a` lasts.
#[inline]
pub(crate) unsafe fn view_at<'a, T: Record>(
    array: *const T,
    size: usize,
    i: usize,
    what: &str,
) -> Result<View<'a, T>> {
    // SAFETY: the element is within the array.
    let element = unsafe { array.cast::<u8>().add(i * size) };
    // SAFETY: an element is at least as large as its first field.
    let says = unsafe { element.cast::<usize>().read_unaligned() };
    if says != size {
        let text = format!("{what} {i}: struct_size is {says} in an array of elements of {size} bytes");
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    // SAFETY: the element has `size` bytes.
    unsafe { View::of(element, what) }
}

/// Checks that an array of structs that may have another size may be what the caller says.
pub(crate) fn check_array<T>(array: *const T, size: usize, count: usize, what: &str) -> Result<()> {
    if count > 0 && (!(SMALLEST..=LARGEST).contains(&size) || !size.is_multiple_of(SMALLEST)) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("an element of {what} cannot have {size} bytes; pass the sizeof of its type"),
        ));
    }
    check_memory(array, size, count, what)
}

/// Checks that an array of values whose size never changes may be what the caller says.
pub(crate) fn check_values<T>(array: *const T, count: usize, what: &str) -> Result<()> {
    check_memory(array, size_of::<T>(), count, what)
}

fn check_memory<T>(array: *const T, size: usize, count: usize, what: &str) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    if array.is_null() {
        return Err(null(what));
    }
    match size.checked_mul(count) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Invalid,
            format!("{count} elements of {what} fit into no memory"),
        )),
    }
}

/// Writes a struct in the size that the one at `to` says it has; NULL takes nothing.
//
// SAFETY: `to` must be NULL or point to as many writable bytes as its first field says, at least that
// field.
pub(crate) unsafe fn write<T: Record>(to: *mut T, value: T, what: &str) -> Result<()> {
    if to.is_null() {
        return Ok(());
    }
    // SAFETY: the first field is readable.
    let size = unsafe { to.cast::<usize>().read_unaligned() };
    check_size(size, what)?;
    // SAFETY: as required of the caller.
    unsafe { write_sized(to.cast(), size, value) };
    Ok(())
}

/// Writes element `i` of an array whose elements are `size` bytes.
//
// SAFETY: the array must have been checked by `check_array`, and hold more than `i` elements.
#[inline]
pub(crate) unsafe fn write_at<T: Record>(array: *mut T, size: usize, i: usize, value: T) {
    // SAFETY: the element is within the array.
    unsafe { write_sized(array.cast::<u8>().add(i * size), size, value) };
}

fn check_size(size: usize, what: &str) -> Result<()> {
    if (SMALLEST..=LARGEST).contains(&size) {
        return Ok(());
    }
    let text = format!("struct_size of {what} is {size}; initialise the struct with FBY_INIT");
    Err(Error::new(ErrorKind::Invalid, text))
}

// SAFETY: `from` must point to `size` readable bytes.
#[cold]
unsafe fn read_sized<T: Record>(from: *const u8, size: usize, what: &str) -> Result<T> {
    check_size(size, what)?;
    let known = size.min(size_of::<T>());
    for i in known..size {
        // SAFETY: within the struct.
        if unsafe { *from.add(i) } != 0 {
            let text = format!(
                "{what} has {size} bytes and uses a field that this library, which knows {known}, does not have; \
                 use a newer libforebay"
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both are good for `known` bytes, and any bytes are a `T`.
    unsafe {
        from.copy_to_nonoverlapping(value.as_mut_ptr().cast(), known);
        Ok(value.assume_init())
    }
}

// SAFETY: `to` must be good for `size` bytes.
#[inline]
unsafe fn write_sized<T: Record>(to: *mut u8, size: usize, value: T) {
    if size == size_of::<T>() {
        // SAFETY: as required of the caller.
        return unsafe {
            to.cast::<T>().write_unaligned(value);
            to.cast::<usize>().write_unaligned(size);
        };
    }
    let known = size.min(size_of::<T>());
    // SAFETY: within the struct; the first field then says how much of it is filled.
    unsafe {
        (&raw const value).cast::<u8>().copy_to_nonoverlapping(to, known);
        to.add(known).write_bytes(0, size - known);
        to.cast::<usize>().write_unaligned(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Small {
        struct_size: usize,
        a: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Large {
        struct_size: usize,
        a: u64,
        b: u64,
    }

    // SAFETY: repr(C), size first, no padding, integers only.
    unsafe impl Record for Small {}
    // SAFETY: as above.
    unsafe impl Record for Large {}

    const SMALL: usize = size_of::<Small>();
    const LARGE: usize = size_of::<Large>();

    fn small(struct_size: usize) -> Small {
        Small { struct_size, a: 7 }
    }

    #[test]
    fn an_older_struct_is_read_as_if_the_rest_were_zero() {
        let old = small(SMALL);
        // SAFETY: it is as large as it says.
        let new: Large = unsafe { read((&raw const old).cast(), "it") }.unwrap();
        assert_eq!((new.a, new.b), (7, 0));
    }

    #[test]
    fn a_struct_is_looked_at_wherever_it_stands() {
        let it = small(SMALL);
        // SAFETY: it is as large as it says.
        let there = unsafe { view(&raw const it, "it") }.unwrap();
        assert!(std::ptr::eq(&*there, &raw const it), "not copied");
        let mut room = [0u8; SMALL + size_of::<Small>()];
        for shift in 0..size_of::<usize>() {
            let at = room[shift..].as_mut_ptr().cast::<Small>();
            // SAFETY: the room is large enough for it there.
            let there = unsafe {
                at.write_unaligned(it);
                view(at.cast_const(), "it")
            };
            assert_eq!(*there.unwrap(), it, "{shift} bytes on");
        }
        // SAFETY: NULL is refused.
        assert!(unsafe { view::<Small>(std::ptr::null(), "it") }.is_err());
    }

    #[test]
    fn a_newer_struct_is_read_unless_it_uses_what_is_not_known() {
        for (b, fits) in [(0, true), (1, false), (u64::MAX, false)] {
            let new = Large {
                struct_size: LARGE,
                a: 7,
                b,
            };
            // SAFETY: it is as large as it says.
            let old: Result<Small> = unsafe { read((&raw const new).cast(), "it") };
            assert_eq!(old.is_ok(), fits, "{b}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for size in [0, SMALLEST - 1, LARGEST + 1, usize::MAX] {
            let it = small(size);
            // SAFETY: the size is refused before anything else is read.
            let error = unsafe { read::<Small>(&it, "it") }.unwrap_err().to_string();
            assert!(error.contains("FBY_INIT"), "{error}");
        }
        let it = small(SMALL);
        for (size, count, fits) in [
            (SMALL, 1, true),
            (SMALL, 0, true),
            (0, 0, true),
            (0, 1, false),
            (SMALLEST + 1, 1, false),
            (SMALL, usize::MAX, false),
            (SMALL, usize::MAX / SMALL, false),
            (LARGEST + SMALLEST, 1, false),
        ] {
            assert_eq!(
                check_array(&it, size, count, "them").is_ok(),
                fits,
                "{size} {count}"
            );
        }
        assert!(check_array::<Small>(std::ptr::null(), SMALL, 1, "them").is_err());
        assert!(check_array::<Small>(std::ptr::null(), SMALL, 0, "them").is_ok());
    }

    #[test]
    fn an_element_has_the_size_of_its_array() {
        let them = [small(SMALL), small(SMALL - 1)];
        // SAFETY: the array holds two.
        unsafe {
            assert!(view_at(them.as_ptr(), SMALL, 0, "them").is_ok());
            assert!(view_at(them.as_ptr(), SMALL, 1, "them").is_err());
        }
    }

    #[test]
    fn answers_fit_the_caller() {
        let value = Large {
            struct_size: LARGE,
            a: 1,
            b: 2,
        };
        let mut old = [small(SMALL), small(SMALL)];
        // SAFETY: it is as large as it says.
        unsafe { write((&raw mut old[0]).cast(), value, "it") }.unwrap();
        assert_eq!(
            old,
            [
                Small {
                    struct_size: SMALL,
                    a: 1
                },
                small(SMALL)
            ],
            "and no byte more"
        );
        let mut new = Large {
            struct_size: LARGE,
            a: 9,
            b: 9,
        };
        // SAFETY: it is as large as it says.
        unsafe { write((&raw mut new).cast(), small(SMALL), "it") }.unwrap();
        assert_eq!(
            (new.struct_size, new.a, new.b),
            (SMALL, 7, 0),
            "it says how much is filled"
        );
        // SAFETY: NULL is allowed.
        unsafe { write(std::ptr::null_mut(), value, "it") }.unwrap();
    }
}
