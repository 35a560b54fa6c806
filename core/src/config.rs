//! The options, in one table: the struct, its defaults, setting by name and the reference page
//! (`docs/configuration.md`) all come from it, so that they cannot drift apart.

mod own;
mod value;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::own::check_endless;
pub use self::own::{KindOptions, QueueOptions};
pub use self::value::{Control, OptionValue, TimeSource, UnknownKinds};
use crate::admission::{OnFull, Rate, RetryBudget};
use crate::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::payload::Payload;
use crate::retry::RetryPolicy;

/// One row of the options table.
#[derive(Clone, Debug)]
pub struct OptionDoc {
    /// The name.
    pub name: &'static str,
    /// What its text looks like.
    pub form: &'static str,
    /// Its default, as text.
    pub default: String,
    /// What it does.
    pub text: &'static str,
}

macro_rules! options {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $ty,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $name {
            /// The names of all options.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            /// Every option, for the reference page and `--help` texts.
            #[must_use]
            pub fn docs() -> Vec<OptionDoc> {
                let defaults = Self::default();
                vec![$(OptionDoc {
                    name: stringify!($field),
                    form: <$ty as OptionValue>::FORM,
                    default: defaults.$field.write(),
                    text: concat!($($doc),+),
                }),+]
            }

            /// Sets the option `name` from text.
            ///
            /// # Errors
            /// `NotFound` for a name that no option has, with the nearest one; `Invalid` for a text that
            /// is not of the option's form.
            pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
                let bad = |why: String| Error::invalid(format!("option {name}: {why}"));
                match name {
                    $(stringify!($field) => self.$field = <$ty as OptionValue>::read(value).map_err(bad)?,)+
                    _ => return Err(unknown(name, Self::NAMES)),
                }
                Ok(())
            }

            /// Sets the option `name` from a number: seconds where a duration is wanted.
            ///
            /// # Errors
            /// As [`Self::set`].
            pub fn set_number(&mut self, name: &str, value: f64) -> Result<()> {
                let bad = |why: String| Error::invalid(format!("option {name}: {why}"));
                match name {
                    $(stringify!($field) => self.$field = <$ty as OptionValue>::number(value).map_err(bad)?,)+
                    _ => return Err(unknown(name, Self::NAMES)),
                }
                Ok(())
            }

            /// Sets options from text as the query of a URL has it: `concurrency=4&retry=linear(1s)`.
            ///
            /// # Errors
            /// As [`Self::set`]; `Invalid` for what is not `name=value`. Those before it are set.
            pub fn set_all(&mut self, query: &str) -> Result<()> {
                pairs(query).try_for_each(|pair| pair.and_then(|(name, value)| self.set(name, value)))
            }

            /// The text of the option `name`.
            ///
            /// # Errors
            /// `NotFound` for a name that no option has.
            pub fn text(&self, name: &str) -> Result<String> {
                match name {
                    $(stringify!($field) => Ok(self.$field.write()),)+
                    _ => Err(unknown(name, Self::NAMES)),
                }
            }
        }
    };
}

/// The names and values of a query.
fn pairs(query: &str) -> impl Iterator<Item = Result<(&str, &str)>> {
    let pair = |pair| str::split_once(pair, '=').ok_or_else(|| not_a_pair(pair));
    query.split('&').filter(|pair| !pair.is_empty()).map(pair)
}

fn not_a_pair(text: &str) -> Error {
    Error::invalid(format!(
        "{text:?} is not name=value; several of them stand between &"
    ))
}

fn unknown(name: &str, names: &[&str]) -> Error {
    let near = names
        .iter()
        .max_by_key(|n| common(name, n))
        .copied()
        .unwrap_or_default();
    Error::new(
        ErrorKind::NotFound,
        format!("there is no option {name:?}; the nearest is {near:?}"),
    )
}

/// How many letters two names share at their beginning and end.
fn common(a: &str, b: &str) -> usize {
    let front = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let back = a
        .bytes()
        .rev()
        .zip(b.bytes().rev())
        .take_while(|(x, y)| x == y)
        .count();
    front + back
}

options! {
    /// What a dispatcher is opened with.
    ///
    /// ```
    /// use forebay::Options;
    /// let mut options = Options::default();
    /// options.concurrency = 4;
    /// options.set("retry", "linear(1s)")?;
    /// assert_eq!(options.text("retry")?, "linear(1s)");
    /// assert!(options.set("concurency", "4").unwrap_err().to_string().contains("\"concurrency\""));
    /// # Ok::<(), forebay::Error>(())
    /// ```
    Options {
        /// Jobs that may run at once in this dispatcher, over all queues and kinds; a timed-out body counts
        /// until it ends.
        concurrency: usize = 8;
        /// Jobs that may wait in one queue (blocked, scheduled and queued ones); 0 is without bound. A queue
        /// can have its own.
        capacity: usize = 1_000_000;
        /// The most bytes that the payloads of the jobs that wait in one queue may have together; 0 is without
        /// bound. A payload that is an object of the host has no length and counts nothing. A queue can have its
        /// own.
        capacity_bytes: usize = 0;
        /// What a push does when its queue is full; see `docs/overload.md`. A queue can have its own.
        on_full: OnFull = OnFull::Reject;
        /// How long jobs of a queue should wait at most when it is overloaded: when for a whole `delay_interval`
        /// none has waited less, those that have waited twice as long are shed before their handler sees them.
        /// A queue can have its own.
        delay_target: Option<Duration> = None;
        /// How long the waits of a queue must be above `delay_target` for it to be overloaded. A queue can have
        /// its own.
        delay_interval: Duration = Duration::from_millis(100);
        /// Whether the newest jobs of an overloaded queue start first; needs `delay_target`. A queue can have its
        /// own.
        newest_first: bool = false;
        /// The most jobs of one concurrency key of a queue that run at once; 0 is without limit. A queue can have
        /// its own.
        key_concurrency: usize = 0;
        /// How fast jobs of one concurrency key of a queue start. A queue can have its own.
        key_rate: Option<Rate> = None;
        /// The pressure, from 0 to 1, at which a queue raises the event `high_watermark`. A queue can have its
        /// own.
        high_watermark: f64 = 0.8;
        /// The pressure at which a queue that was above `high_watermark` raises `low_watermark`. A queue can
        /// have its own.
        low_watermark: f64 = 0.5;
        /// What a push does with a kind for which no handler is registered here.
        unknown_kinds: UnknownKinds = UnknownKinds::Queue;
        /// The queue of a push that names none.
        queue: String = "default".into();
        /// How often a job may run in all, unless the job or its kind says otherwise; at least 1.
        max_attempts: u32 = 5;
        /// The pause between attempts, unless the job or its kind says otherwise.
        retry: RetryPolicy = RetryPolicy::DEFAULT;
        /// How many retries of a kind there may be for the jobs of it that are new, so that what it calls does not
        /// have to carry more when it fails; those above it are put off, not lost. A kind can have its own.
        retry_budget: Option<RetryBudget> = None;
        /// How long one attempt may take, unless the job or its kind says otherwise.
        timeout: Option<Duration> = None;
        /// When a lease ends unless it is extended. Where one process has the jobs a lease needs no end: its
        /// holder lives exactly as long as the queue. With option `shared` it is `30s` unless it is set, is
        /// extended three times in that time, and is at least `5s`.
        lease: Option<Duration> = None;
        /// What an accepted job survives, unless its push says otherwise: the push is answered when this is
        /// reached, or whatever less the engine can do. See `docs/durable.md`.
        durability: Durability = Durability::Disk;
        /// The longest that a durable engine waits before it writes what nobody waits for: ends of attempts,
        /// pushes at `memory`. A killed process forgets no more than that.
        write_behind: Duration = Duration::from_millis(20);
        /// The most jobs of one queue that wait in the memory of a durable engine; those after them wait in its
        /// file only, until there is room again. 0 is without bound.
        resident: usize = 1_000_000;
        /// Whether the end of an attempt is answered only when it is as safe as option `durability` says. If
        /// not, a job that ended just before a crash may run again.
        sync_done: bool = false;
        /// How often the process may die while a job runs before the job fails for it; at least 1. Only a
        /// durable engine can count that.
        max_crashes: u32 = 3;
        /// Whether several processes work on the same `sqlite:` file at once.
        shared: bool = false;
        /// Whether the process that owns a file answers the command `forebay` on a socket beside it; `auto` is
        /// where there can be one, `true` refuses to open where there cannot.
        control: Control = Control::Auto;
        /// The longest payload or result, in bytes.
        max_payload: usize = 64 << 20;
        /// How long succeeded jobs and their results can be asked about.
        retention: Duration = Duration::from_secs(3600);
        /// How long failed, cancelled and expired jobs can be asked about.
        retention_failed: Duration = Duration::from_secs(86_400);
        /// The most finished jobs to remember; the oldest are forgotten first, up to a tenth of them before
        /// they must be.
        keep_finished: usize = 100_000;
        /// How long a stop without an explicit grace waits for running jobs.
        grace: Duration = Duration::from_secs(30);
        /// Whether an attempt that a stop interrupts counts. If not, the job gets it back; if so, and it was the
        /// last one, the job fails.
        count_interrupted: bool = false;
        /// The name of this node in histories; `auto` is host name and process id.
        node: String = "auto".into();
        /// Where unfinished jobs are written at a stop (and at the interval), and read from at the start.
        dump_file: Option<PathBuf> = None;
        /// How often the dump file is written while jobs change; `none` is only at a stop.
        dump_interval: Option<Duration> = None;
        /// Where time comes from. `manual` is for tests: a clock that stands still until it is moved, and then
        /// does all that has become due.
        clock: TimeSource = TimeSource::System;
    }
}

impl Options {
    /// What holds for every queue that has nothing of its own.
    #[must_use]
    pub fn of_queues(&self) -> QueueOptions {
        QueueOptions {
            concurrency: None,
            rate: None,
            capacity: Some(self.capacity),
            capacity_bytes: Some(self.capacity_bytes),
            on_full: Some(self.on_full),
            delay_target: Some(self.delay_target),
            delay_interval: Some(self.delay_interval),
            newest_first: Some(self.newest_first),
            key_concurrency: Some(self.key_concurrency),
            key_rate: Some(self.key_rate),
            high_watermark: Some(self.high_watermark),
            low_watermark: Some(self.low_watermark),
        }
    }

    /// Checks the options against each other.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that names the option and the mend.
    pub fn check(&self) -> Result<()> {
        let invalid = |text: &str| Err(Error::invalid(text.to_owned()));
        if self.concurrency == 0 {
            return invalid("option concurrency is 0; it must be at least 1");
        }
        if self.max_attempts == 0 {
            return invalid("option max_attempts is 0; it counts all runs and must be at least 1");
        }
        self.retry.check()?;
        if self.max_attempts == u32::MAX && !self.retry.pauses() {
            return invalid(
                "option max_attempts is unlimited, so option retry must pause, as constant(1s) does",
            );
        }
        if self.timeout == Some(Duration::ZERO) || self.lease == Some(Duration::ZERO) {
            return invalid("options timeout and lease must be longer than zero; write none for no limit");
        }
        if self.shared && self.lease.is_some_and(|lease| lease < Duration::from_secs(5)) {
            return invalid(
                "option lease is below 5s, which is too short to be extended in time by processes that share jobs",
            );
        }
        if self.max_crashes == 0 {
            return invalid(
                "option max_crashes is 0; it counts deaths of the process and must be at least 1",
            );
        }
        if self.max_payload > Payload::MAX_LEN {
            return Err(Error::invalid(format!(
                "option max_payload is above {}",
                Payload::MAX_LEN
            )));
        }
        if self.dump_interval.is_some() && self.dump_file.is_none() {
            return invalid("option dump_interval needs option dump_file");
        }
        if self.dump_interval == Some(Duration::ZERO) {
            return invalid("option dump_interval is zero; write none for no interval");
        }
        self.of_queues().check()?;
        crate::names::check_name(&self.queue, "queue")?;
        crate::names::check_name(&self.node, "node")
    }

    /// The reference page: every option with its form, default and meaning, as Markdown.
    #[must_use]
    pub fn reference() -> String {
        let mut page = String::from(
            "# Options\n\nGenerated from the options table in `core/src/config.rs`; do not edit.\n\n\
             The same names work everywhere: `Options` fields in Rust, keywords of `Dispatcher` in Python,\n\
             `fby_options_set` in C, query parameters of the URL (`memory:?concurrency=4`).\n\n\
             | option | form | default | meaning |\n|---|---|---|---|\n",
        );
        page.extend(Self::docs().iter().map(OptionDoc::with_default));
        page += &own_reference("queue", &QueueOptions::docs());
        page += &own_reference("kind", &KindOptions::docs());
        page += "\n## Of a forwarder\n\n| option | form | default | meaning |\n|---|---|---|---|\n";
        page.extend(ForwardOptions::docs().iter().map(OptionDoc::with_default));
        page
    }
}

/// The part of the reference page about what one queue or one kind has of its own.
fn own_reference(what: &str, docs: &[OptionDoc]) -> String {
    let mut page = format!(
        "\n## Of one {what}\n\nWhat is not said, or is `default`, is left to the dispatcher.\n\n\
         | option | form | meaning |\n|---|---|---|\n"
    );
    for row in docs {
        page += &format!("| `{}` | {} | {} |\n", row.name, row.form, row.meaning());
    }
    page
}

impl OptionDoc {
    /// Its row of a table with defaults.
    fn with_default(&self) -> String {
        format!(
            "| `{}` | {} | `{}` | {} |\n",
            self.name,
            self.form,
            self.default,
            self.meaning()
        )
    }

    /// What it does, on one line.
    fn meaning(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

options! {
    /// How the jobs of a queue are passed on; see [`Dispatcher::forward`](crate::Dispatcher::forward).
    ForwardOptions {
        /// The most jobs that the sink is given at once.
        batch: usize = 64;
        /// The pause after a delivery that failed, which counts from 1 again as soon as the sink takes a job.
        retry: RetryPolicy = RetryPolicy::exponential(Duration::from_millis(100))
            .capped(Duration::from_secs(30))
            .with_jitter(0.1);
    }
}

impl ForwardOptions {
    /// Checks what is said.
    pub(crate) fn check(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::invalid("option batch is 0; it must be at least 1"));
        }
        self.retry.check()?;
        if !self.retry.pauses() {
            let text =
                "option retry must pause, as constant(1s) does, or a sink that fails keeps a core busy";
            return Err(Error::invalid(text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reads_its_own_default() {
        let mut options = Options::default();
        options.check().unwrap();
        for row in Options::docs() {
            options.set(row.name, &row.default).unwrap();
            assert_eq!(options.text(row.name).unwrap(), row.default);
        }
    }

    #[test]
    fn bad_texts_are_refused_with_the_mend() {
        let mut options = Options::default();
        for (name, value, want) in [
            ("capacity", "many", "whole number"),
            ("timeout", "5", "no unit"),
            ("on_full", "explode", "reject"),
            ("retry", "linear", "give the pause"),
            ("unknown_kinds", "?", "queue"),
            ("durability", "full", "disk"),
            ("control", "perhaps", "auto"),
            ("clock", "manual(-1)", "system"),
            ("max_attempts", "-1", "unlimited"),
            ("capacty", "1", "\"capacity\""),
        ] {
            let error = options.set(name, value).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn numbers_are_seconds_where_a_duration_is_wanted() {
        let mut options = Options::default();
        for (name, value, text) in [
            ("grace", 1.5, "1500ms"),
            ("timeout", 5.0, "5s"),
            ("concurrency", 3.0, "3"),
            ("max_attempts", 7.0, "7"),
        ] {
            options.set_number(name, value).unwrap();
            assert_eq!(options.text(name).unwrap(), text);
        }
        for (name, value, want) in [
            ("grace", -1.0, "out of range"),
            ("grace", f64::NAN, "out of range"),
            ("concurrency", 2.5, "whole number"),
            ("retry", 5.0, "retry policy"),
            ("gracee", 5.0, "\"grace\""),
        ] {
            let error = options.set_number(name, value).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn several_options_stand_in_one_text() {
        let mut kind = KindOptions::new();
        kind.set_all("concurrency=4&rate=100/s burst=20&breaker=failures(5, open=30s)&")
            .unwrap();
        assert_eq!(kind.text("rate").unwrap(), "100/s burst=20");
        assert_eq!((kind.concurrency, kind.timeout), (Some(4), None));
        kind.set_all("").unwrap();
        kind.set_all("rate=default").unwrap();
        assert_eq!(kind.rate, None);
        for (bad, want) in [
            ("rate", "name=value"),
            ("rat=1/s", "\"rate\""),
            ("timeout=1s&concurrency=x", "whole"),
        ] {
            let error = kind.set_all(bad).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let mut options = Options::default();
        options.set_all("concurrency=2&on_full=drop_oldest").unwrap();
        assert_eq!((options.concurrency, options.on_full), (2, OnFull::DropOldest));
        options.set_number("timeout", f64::INFINITY).unwrap();
        assert_eq!(options.timeout, Some(Duration::MAX), "longer than anything");
    }

    #[test]
    fn options_are_checked_against_each_other() {
        for (name, value, want) in [
            ("concurrency", "0", "at least 1"),
            ("max_attempts", "0", "at least 1"),
            ("max_crashes", "0", "at least 1"),
            ("timeout", "0s", "longer than zero"),
            ("dump_interval", "1s", "dump_file"),
            ("queue", "", "empty"),
        ] {
            let mut options = Options::default();
            options.set(name, value).unwrap();
            assert!(
                options.check().unwrap_err().to_string().contains(want),
                "{name}={value}"
            );
        }
        let mut spread = Options::default();
        spread.retry.jitter = 1.5;
        assert!(
            spread
                .check()
                .unwrap_err()
                .to_string()
                .contains("between 0 and 1")
        );
        let mut endless = Options::default();
        endless.set("max_attempts", "unlimited").unwrap();
        assert!(endless.check().is_ok());
        endless.set("retry", "none").unwrap();
        assert!(endless.check().unwrap_err().to_string().contains("must pause"));
    }

    #[test]
    fn the_reference_page_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        if std::env::var_os("FOREBAY_WRITE_DOCS").is_some() {
            std::fs::write(path, Options::reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == Options::reference(),
            "run `FOREBAY_WRITE_DOCS=1 cargo test -p forebay reference_page`"
        );
    }
}
