//! Values that can be written as text, in the forms that every host uses.

use std::path::PathBuf;
use std::time::Duration;

use crate::durability::Durability;
use crate::retry::RetryPolicy;
use crate::time::{ManualClock, Timestamp, format_duration, parse_duration};

/// A value that can be written as text: in an environment variable, a C call, a URL.
pub trait OptionValue: Sized {
    /// What the text looks like, for the reference page.
    const FORM: &'static str;

    /// Reads the text.
    ///
    /// # Errors
    /// A sentence that names the text and the mend.
    fn read(text: &str) -> std::result::Result<Self, String>;

    /// Reads a number, as hosts with numbers of their own give it: seconds where a duration is wanted.
    ///
    /// # Errors
    /// As [`OptionValue::read`].
    fn number(number: f64) -> std::result::Result<Self, String> {
        Self::read(&number.to_string())
    }

    /// The text that [`OptionValue::read`] reads back.
    fn write(&self) -> String;
}

impl OptionValue for usize {
    const FORM: &'static str = "a whole number";
    fn read(text: &str) -> std::result::Result<Self, String> {
        text.trim()
            .replace('_', "")
            .parse()
            .map_err(|_| format!("{text:?} is not a whole number"))
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for u32 {
    const FORM: &'static str = "a whole number, or `unlimited`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        match text.trim() {
            "unlimited" => Ok(u32::MAX),
            t => t
                .parse()
                .map_err(|_| format!("{text:?} is neither a whole number nor \"unlimited\"")),
        }
    }
    fn write(&self) -> String {
        if *self == u32::MAX {
            "unlimited".into()
        } else {
            self.to_string()
        }
    }
}

impl OptionValue for f64 {
    const FORM: &'static str = "a number";
    fn read(text: &str) -> std::result::Result<Self, String> {
        let number = text.trim().parse().ok().filter(|n: &f64| n.is_finite());
        number.ok_or_else(|| format!("{text:?} is not a number"))
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for bool {
    const FORM: &'static str = "`true` or `false`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        match text.trim() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for String {
    const FORM: &'static str = "text";
    fn read(text: &str) -> std::result::Result<Self, String> {
        Ok(text.to_owned())
    }
    fn write(&self) -> String {
        self.clone()
    }
}

impl OptionValue for Duration {
    const FORM: &'static str = "a duration with its unit, as `250ms`, `30s`, `5m`, `1h`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        parse_duration(text)
    }
    fn number(seconds: f64) -> std::result::Result<Self, String> {
        if seconds == f64::INFINITY {
            return Ok(Duration::MAX);
        }
        Duration::try_from_secs_f64(seconds).map_err(|_| format!("{seconds} seconds is out of range"))
    }
    fn write(&self) -> String {
        format_duration(*self)
    }
}

impl OptionValue for Option<Duration> {
    const FORM: &'static str = "a duration with its unit, or `none`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        if text.trim() == "none" {
            Ok(None)
        } else {
            parse_duration(text).map(Some)
        }
    }
    fn number(seconds: f64) -> std::result::Result<Self, String> {
        Duration::number(seconds).map(Some)
    }
    fn write(&self) -> String {
        self.map_or_else(|| "none".into(), format_duration)
    }
}

impl OptionValue for Option<PathBuf> {
    const FORM: &'static str = "a path, or `none`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        match text.trim() {
            "none" => Ok(None),
            "" => Err("the path is empty; write none for no file".into()),
            path => Ok(Some(path.into())),
        }
    }
    fn write(&self) -> String {
        self.as_ref()
            .map_or_else(|| "none".into(), |p| p.display().to_string())
    }
}

impl OptionValue for RetryPolicy {
    const FORM: &'static str =
        "`none`, `constant(5s)`, `linear(1s)` or `exponential(1s, cap=5m, jitter=0.1)`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        RetryPolicy::parse(text).map_err(|e| e.to_string())
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for Durability {
    const FORM: &'static str = "`memory`, `os` or `disk`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        Self::from_name(text.trim())
            .ok_or_else(|| format!("{text:?} is neither \"memory\", \"os\" nor \"disk\""))
    }
    fn write(&self) -> String {
        self.name().into()
    }
}

/// What a push does with a kind for which no handler is registered here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UnknownKinds {
    /// The job is accepted and waits, visibly, for a worker that knows its kind.
    Queue,
    /// The push fails and names the kinds that are known.
    Reject,
}

impl OptionValue for UnknownKinds {
    const FORM: &'static str = "`queue` or `reject`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        match text.trim() {
            "queue" => Ok(UnknownKinds::Queue),
            "reject" => Ok(UnknownKinds::Reject),
            _ => Err(format!("{text:?} is neither \"queue\" nor \"reject\"")),
        }
    }
    fn write(&self) -> String {
        match self {
            UnknownKinds::Queue => "queue".into(),
            UnknownKinds::Reject => "reject".into(),
        }
    }
}

/// Where a dispatcher's time comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TimeSource {
    /// The system's clock.
    System,
    /// A clock that stands at this instant until [`Dispatcher::advance`](crate::Dispatcher::advance) moves it.
    Manual(Timestamp),
}

impl OptionValue for TimeSource {
    const FORM: &'static str = "`system`, `manual` or `manual(1700000000000)`, in milliseconds since 1970";
    fn read(text: &str) -> std::result::Result<Self, String> {
        match text.trim() {
            "system" => return Ok(TimeSource::System),
            "manual" => return Ok(TimeSource::Manual(ManualClock::START)),
            _ => {}
        }
        let at = text
            .trim()
            .strip_prefix("manual(")
            .and_then(|rest| rest.strip_suffix(')'));
        let millis = at.and_then(|at| at.trim().parse::<i64>().ok());
        match millis.and_then(|ms| ms.checked_mul(1000)).filter(|us| *us >= 0) {
            Some(micros) => Ok(TimeSource::Manual(Timestamp::from_micros(micros))),
            None => Err(format!(
                "{text:?} is neither \"system\", \"manual\" nor such as \"manual(1700000000000)\""
            )),
        }
    }
    fn write(&self) -> String {
        match self {
            TimeSource::System => "system".into(),
            TimeSource::Manual(at) if *at == ManualClock::START => "manual".into(),
            TimeSource::Manual(at) => format!("manual({})", at.as_millis()),
        }
    }
}

/// Whether the owner of a file answers the command `forebay`, and other processes of its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Control {
    /// If there can be a socket beside the file; if not, all else works without.
    Auto,
    /// Opening fails if there can be no socket.
    On,
    /// No.
    Off,
}

impl OptionValue for Control {
    const FORM: &'static str = "`auto`, `true` or `false`";
    fn read(text: &str) -> std::result::Result<Self, String> {
        if text.trim() == "auto" {
            return Ok(Control::Auto);
        }
        match bool::read(text) {
            Ok(true) => Ok(Control::On),
            Ok(false) => Ok(Control::Off),
            Err(_) => Err(format!("{text:?} is neither \"auto\", \"true\" nor \"false\"")),
        }
    }
    fn write(&self) -> String {
        match self {
            Control::Auto => "auto".into(),
            Control::On => "true".into(),
            Control::Off => "false".into(),
        }
    }
}
