//! Attempts as JSON: what dumps and databases keep of a job's past.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::job::Attempt;
use crate::outcome::{Failure, FailureKind};
use crate::time::Timestamp;

/// One attempt, with plain fields.
#[derive(Serialize, Deserialize)]
pub(crate) struct LineAttempt {
    number: u32,
    node: String,
    worker: u32,
    started_us: i64,
    ended_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<(String, String)>,
}

impl From<&Attempt> for LineAttempt {
    fn from(a: &Attempt) -> Self {
        let failure = a.failure.as_ref();
        Self {
            number: a.number,
            node: a.node.to_string(),
            worker: a.worker,
            started_us: a.started.as_micros(),
            ended_us: a.ended.as_micros(),
            failure: failure.map(|f| (f.kind.name().to_owned(), f.message.to_string())),
        }
    }
}

impl LineAttempt {
    /// The attempt it tells of.
    ///
    /// # Errors
    /// `Invalid` for a kind of failure that this version does not know.
    pub(crate) fn read(self) -> Result<Attempt> {
        let failure = self.failure.map(|(kind, text)| failure(&kind, text));
        Ok(Attempt {
            number: self.number,
            node: self.node.into(),
            worker: self.worker,
            started: Timestamp::from_micros(self.started_us),
            ended: Timestamp::from_micros(self.ended_us),
            failure: failure.transpose()?,
        })
    }
}

/// A failure by the name of its kind.
///
/// # Errors
/// `Invalid` for a name that this version does not know.
pub(crate) fn failure(kind: &str, text: String) -> Result<Failure> {
    let known = FailureKind::from_name(kind);
    let kind = known.ok_or_else(|| Error::invalid(format!("failure {kind:?}")))?;
    Ok(Failure::new(kind, text))
}
