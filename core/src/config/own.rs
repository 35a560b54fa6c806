//! What one queue or one kind has of its own: tables of options of which each may be left to the dispatcher.

use std::time::Duration;

use super::value::OptionValue;
use super::{OptionDoc, pairs, unknown};
use crate::admission::{Adaptive, Breaker, OnFull, Rate, RetryBudget};
use crate::error::{Error, Result};
use crate::retry::RetryPolicy;

/// A table of what one queue or one kind has of its own: every field an `Option`, of which `None` leaves it to the
/// dispatcher.
macro_rules! own_options {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name { $($(#[doc = $doc])+ pub $field: Option<$ty>,)+ }

        impl $name {
            /// The names of all of them.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            /// Nothing said.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $field(mut self, value: $ty) -> Self {
                    self.$field = Some(value);
                    self
                }
            )+

            /// Every one, for the reference page and `--help` texts.
            #[must_use]
            pub fn docs() -> Vec<OptionDoc> {
                vec![$(OptionDoc {
                    name: stringify!($field),
                    form: <$ty as OptionValue>::FORM,
                    default: "default".into(),
                    text: concat!($($doc),+),
                }),+]
            }

            /// Sets `name` from text; `default` leaves it to the dispatcher.
            ///
            /// # Errors
            /// `NotFound` for a name that there is not, with the nearest one; `Invalid` for a text that is not
            /// of the form.
            pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
                let bad = |why: String| Error::invalid(format!("option {name}: {why}"));
                let own = value.trim() != "default";
                match name {
                    $(stringify!($field) => {
                        self.$field = own.then(|| <$ty as OptionValue>::read(value)).transpose().map_err(bad)?;
                    })+
                    _ => return Err(unknown(name, Self::NAMES)),
                }
                Ok(())
            }

            /// Sets `name` from a number: seconds where a duration is wanted.
            ///
            /// # Errors
            /// As [`Self::set`].
            pub fn set_number(&mut self, name: &str, value: f64) -> Result<()> {
                let bad = |why: String| Error::invalid(format!("option {name}: {why}"));
                match name {
                    $(stringify!($field) => {
                        self.$field = Some(<$ty as OptionValue>::number(value).map_err(bad)?);
                    })+
                    _ => return Err(unknown(name, Self::NAMES)),
                }
                Ok(())
            }

            /// Sets options from text as the query of a URL has it: `concurrency=4&rate=100/s`.
            ///
            /// # Errors
            /// As [`Self::set`]; `Invalid` for what is not `name=value`. Those before it are set.
            pub fn set_all(&mut self, query: &str) -> Result<()> {
                pairs(query).try_for_each(|pair| pair.and_then(|(name, value)| self.set(name, value)))
            }

            /// The text of `name`; `default` if it is left to the dispatcher.
            ///
            /// # Errors
            /// `NotFound` for a name that there is not.
            pub fn text(&self, name: &str) -> Result<String> {
                match name {
                    $(stringify!($field) => {
                        Ok(self.$field.as_ref().map_or_else(|| "default".into(), OptionValue::write))
                    })+
                    _ => Err(unknown(name, Self::NAMES)),
                }
            }
        }
    };
}

own_options! {
    /// What one queue has of its own; `None` leaves it to the dispatcher's options.
    ///
    /// ```
    /// use forebay::{OnFull, QueueOptions};
    /// let mut options = QueueOptions::new().capacity(1000).on_full(OnFull::DropOldest);
    /// options.set("delay_target", "50ms")?;
    /// assert_eq!(options.text("on_full")?, "drop_oldest");
    /// # Ok::<(), forebay::Error>(())
    /// ```
    QueueOptions {
        /// The most bodies of this queue at once.
        concurrency: usize;
        /// How fast jobs of this queue start.
        rate: Option<Rate>;
        /// The most jobs that may wait in this queue; 0 is without bound.
        capacity: usize;
        /// The most bytes that the payloads of the waiting jobs may have together; 0 is without bound.
        capacity_bytes: usize;
        /// What a push does when the queue is full.
        on_full: OnFull;
        /// How long its jobs should wait at most when it is overloaded.
        delay_target: Option<Duration>;
        /// How long the waits must be above `delay_target` for it to be overloaded.
        delay_interval: Duration;
        /// Whether its newest jobs start first while it is overloaded; needs `delay_target`.
        newest_first: bool;
        /// The most jobs of one concurrency key that run at once; 0 is without limit.
        key_concurrency: usize;
        /// How fast jobs of one concurrency key start.
        key_rate: Option<Rate>;
        /// The pressure at which it raises the event `high_watermark`.
        high_watermark: f64;
        /// The pressure at which it raises `low_watermark`, after it was high.
        low_watermark: f64;
    }
}

impl QueueOptions {
    /// Every field that is said here, or there.
    #[must_use]
    pub(crate) fn or(self, there: &QueueOptions) -> QueueOptions {
        QueueOptions {
            concurrency: self.concurrency.or(there.concurrency),
            rate: self.rate.or(there.rate),
            capacity: self.capacity.or(there.capacity),
            capacity_bytes: self.capacity_bytes.or(there.capacity_bytes),
            on_full: self.on_full.or(there.on_full),
            delay_target: self.delay_target.or(there.delay_target),
            delay_interval: self.delay_interval.or(there.delay_interval),
            newest_first: self.newest_first.or(there.newest_first),
            key_concurrency: self.key_concurrency.or(there.key_concurrency),
            key_rate: self.key_rate.or(there.key_rate),
            high_watermark: self.high_watermark.or(there.high_watermark),
            low_watermark: self.low_watermark.or(there.low_watermark),
        }
    }

    /// Checks what is said, against each other.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |text: &str| Err(Error::invalid(text.to_owned()));
        if self.concurrency == Some(0) {
            return invalid("concurrency of a queue is 0; pause the queue instead");
        }
        if self.delay_target == Some(Some(Duration::ZERO)) {
            return invalid("option delay_target is zero; write none for no target");
        }
        if self.delay_interval == Some(Duration::ZERO) {
            return invalid("option delay_interval is zero; it must be longer, as 100ms");
        }
        if self.newest_first == Some(true) && self.delay_target.is_none_or(|target| target.is_none()) {
            return invalid("option newest_first needs delay_target, which tells when a queue is overloaded");
        }
        let high = self.high_watermark.unwrap_or(1.0);
        let low = self.low_watermark.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&low) || !(0.0..=1.0).contains(&high) || low >= high {
            return invalid(
                "options low_watermark and high_watermark must be from 0 to 1, and the low one below the high one",
            );
        }
        if let Some(policy) = &self.on_full {
            policy.check()?;
        }
        Ok(())
    }
}

own_options! {
    /// What a worker says about a kind it handles; `None` leaves it to the dispatcher's options.
    KindOptions {
        /// The most bodies of this kind at once.
        concurrency: usize;
        /// How often a job may run in all (`u32::MAX` is without limit), unless its push said.
        max_attempts: u32;
        /// The pause between attempts, unless the push said.
        retry: RetryPolicy;
        /// How long one attempt may take, unless the push said.
        timeout: Duration;
        /// How fast jobs of this kind start.
        rate: Option<Rate>;
        /// A limit of bodies at once that finds itself: of the kind, or with `per=key` of one concurrency key.
        adaptive: Option<Adaptive>;
        /// When so many attempts fail that no more start for a while: of one concurrency key, or, where jobs without
        /// one failed, of the whole kind.
        breaker: Option<Breaker>;
        /// How many retries there may be for the jobs that are new; those above it are put off.
        retry_budget: Option<RetryBudget>;
    }
}

impl KindOptions {
    /// Checks what is said, with what holds where nothing is said.
    pub(crate) fn check(&self, fallback: &RetryPolicy, default_attempts: u32) -> Result<()> {
        if self.concurrency == Some(0) {
            return Err(Error::invalid(
                "concurrency of a kind is 0; leave it out for no limit of its own",
            ));
        }
        if self.max_attempts == Some(0) {
            return Err(Error::invalid(
                "max_attempts is 0; it counts all runs and must be at least 1",
            ));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(Error::invalid("timeout is zero; leave it out for no timeout"));
        }
        self.retry.as_ref().map_or(Ok(()), RetryPolicy::check)?;
        check_endless(
            self.max_attempts.unwrap_or(default_attempts),
            self.retry.as_ref().unwrap_or(fallback),
        )
    }
}

/// Unlimited attempts without a pause would be a busy loop.
pub(crate) fn check_endless(max_attempts: u32, policy: &RetryPolicy) -> Result<()> {
    if max_attempts == u32::MAX && !policy.pauses() {
        return Err(Error::invalid(
            "unlimited attempts need a retry policy that pauses, as constant(1s) does",
        ));
    }
    Ok(())
}
