//! What a panic said, and how to let go of it.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; a panic in it is told as its text. What `body` shares with others must be sound also if it
/// was left half done.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, Cow<'static, str>> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        let text = panic_text(panic.as_ref());
        let_go(panic);
        text
    })
}

/// Drops what a panic carried, which may panic itself.
pub(crate) fn let_go(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // This one might go on for ever: it is given up.
        std::mem::forget(again);
    }
}

/// What a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> Cow<'static, str> {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        return Cow::Borrowed(text);
    }
    match panic.downcast_ref::<String>() {
        Some(text) => Cow::Owned(text.clone()),
        None => Cow::Borrowed("a panic without a text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_as_text() {
        struct Nasty;
        impl Drop for Nasty {
            fn drop(&mut self) {
                panic!("and again");
            }
        }
        assert_eq!(caught(|| 7), Ok(7));
        let number = 5;
        assert_eq!(
            caught(|| panic!("five is {number}")),
            Err::<(), _>("five is 5".into())
        );
        let nasty = caught(|| std::panic::panic_any(Nasty));
        assert_eq!(nasty, Err::<(), _>("a panic without a text".into()));
    }
}
