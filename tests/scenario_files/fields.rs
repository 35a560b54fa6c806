//! The fields of steps, read strictly, and what comes of a step.

use std::time::Duration;

use forebay::{Error, ErrorKind, Outcome, Payload};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// What comes of a step: an answer, an error of Forebay's, which is an answer too, or a mistake in the file.
pub(crate) enum Failure {
    Answered(Error),
    Mistaken(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Answered(error)
    }
}

pub(crate) fn mistaken<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Mistaken(text.into()))
}

pub(crate) type Step = Result<Value, Failure>;

pub(crate) fn read<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).or_else(|why| mistaken(format!("field {name:?}: {why}")))
}

/// The fields of a step, taken out one by one: what is left over is not known to this runner.
pub(crate) struct Fields(pub(crate) Map<String, Value>);

impl Fields {
    pub(crate) fn of(value: Value) -> Result<Fields, Failure> {
        match value {
            Value::Object(map) => Ok(Fields(map)),
            other => mistaken(format!("{other} is no object")),
        }
    }

    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        read(name, value).map(Some)
    }

    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        match self.take(name)? {
            Some(value) => Ok(value),
            None => mistaken(format!("field {name:?} is missing")),
        }
    }

    pub(crate) fn ms(&mut self, name: &str) -> Result<Option<Duration>, Failure> {
        Ok(self.take(name)?.map(Duration::from_millis))
    }

    pub(crate) fn queue(&mut self) -> Result<String, Failure> {
        Ok(self.take("queue")?.unwrap_or_else(|| "default".to_owned()))
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => mistaken(format!("unknown field {name:?}")),
        }
    }
}

pub(crate) fn octets(text: String) -> Payload {
    text.into_bytes().into()
}

/// What a push, a retry or a result carries.
pub(crate) fn payload(fields: &mut Fields) -> Result<Option<Payload>, Failure> {
    let text = fields.take::<String>("payload")?.map(octets);
    let size = fields.take("size")?.map(|size| Payload::from(vec![b'x'; size]));
    let json = fields
        .take::<Value>("json")?
        .map(|value| Payload::json(&value))
        .transpose()?;
    let hex = match fields.take::<String>("hex")? {
        Some(hex) => Some(Payload::from(bytes(&hex)?)),
        None => None,
    };
    Ok(text.or(size).or(json).or(hex))
}

pub(crate) fn bytes(hex: &str) -> Result<Vec<u8>, Failure> {
    let byte = |i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    bytes.map_or_else(|| mistaken(format!("{hex:?} is no hexadecimal number")), Ok)
}

/// What a payload is, in the ways that scenarios look at it.
pub(crate) fn text(payload: &Payload) -> Map<String, Value> {
    let bytes = payload.as_bytes().unwrap_or_default();
    let hex: String = bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    let json = payload.content_type() == Some(forebay::JSON);
    object(json!({
        "payload": std::str::from_utf8(bytes).ok(), "hex": hex, "size": bytes.len(),
        "content_type": payload.content_type(),
        "json": json.then(|| serde_json::from_slice::<Value>(bytes).ok()),
    }))
}

pub(crate) fn outcome(fields: &mut Fields) -> Result<Outcome, Failure> {
    let verdict: String = fields.need("verdict")?;
    let error = fields.take::<String>("error")?.unwrap_or_default();
    let after = fields.ms("after_ms")?;
    let result = match fields.take::<String>("result")? {
        Some(text) => Some(octets(text)),
        None => payload(fields)?,
    };
    Ok(match &*verdict {
        "done" => Outcome::Success(result.unwrap_or_default()),
        "failed" => Outcome::failed(error),
        "fatal" => Outcome::fatal(error),
        "retry" => Outcome::Retry {
            after,
            reason: error.into(),
        },
        "snooze" => Outcome::snooze(after.unwrap_or_default()),
        "cancelled" => Outcome::Cancelled(error.into()),
        "rate_limited" => Outcome::RateLimited { after },
        // Without the hook, which would print it.
        "throw" => std::panic::resume_unwind(Box::new(error)),
        other => return mistaken(format!("unknown verdict {other:?}")),
    })
}

pub(crate) fn failed(error: &Error) -> Map<String, Value> {
    object(json!({"error": name_of(error.kind()), "message": error.to_string()}))
}

/// `WouldDeadlock` is `would_deadlock`.
pub(crate) fn name_of(kind: ErrorKind) -> String {
    let mut name = String::new();
    for letter in kind.name().chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("written as an object"),
    }
}

pub(crate) fn attempts(most: u32) -> Value {
    match most {
        u32::MAX => json!("unlimited"),
        most => json!(most),
    }
}
