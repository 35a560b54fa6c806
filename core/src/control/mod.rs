//! The control socket: how another process of the same user, above all the command `forebay`, asks the one
//! that owns a file.
//!
//! The owner of `jobs.db` listens on `jobs.db.sock`, which only its user may open. A client connects, writes
//! one [`Request`] as a line of JSON, and then, if the request announces an input, its bytes. It reads lines
//! of JSON: as many as the answer has, then one that ends it, `{"done":{...}}` or `{"error":{...}}`. Each
//! connection has one request.
//!
//! Nothing that a client does can hurt the owner: a request and its input are bounded, each side gives up on
//! one that says nothing, at most [`MAX_PEERS`] are answered at once, and a process of another user is turned
//! away before a byte of it is read (root is not). While nobody asks, one thread is blocked and never wakes.
//!
//! Requests are answered through [`Dispatcher`](crate::Dispatcher) alone; [`answer`] does it without any
//! socket, so that a program which has a dispatcher of its own, or one that only looks at a file, gives the
//! very same answers.
//!
//! Not supported: systems without Unix sockets; a socket in a folder on which the file system allows none.

mod answer;
mod client;
mod place;
mod server;
#[cfg(all(test, not(shuttle)))]
mod tests;

use serde::{Deserialize, Serialize};

pub use answer::{Done, answer};
pub use client::Client;
pub use place::socket_path;
pub use server::serve;

/// How many connections are answered at once; one more is told to come again.
pub const MAX_PEERS: usize = 4;
/// The longest request, in bytes, without its input.
pub const MAX_REQUEST: usize = 64 * 1024;

/// What can be asked. Ids are in the usual form of a UUID, instants in microseconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Who answers: one object with `pid`, `version`, `engine`, `node`.
    About {},
    /// The counts: one object, see [`Stats::to_json`](crate::Stats::to_json).
    Stats {},
    /// A page of jobs, newest first: one object per job, see [`Job::to_json`](crate::Job::to_json). How many
    /// match in all is in [`Done::total`].
    List(Listing),
    /// One job, as in a list.
    Show {
        /// Its id.
        id: String,
    },
    /// What a job carries or has answered: first an object with `len` and `content_type`, then its bytes,
    /// piece by piece, as objects with `base64`.
    Bytes {
        /// Its id.
        id: String,
        /// Which bytes.
        of: Part,
        /// How many of them at most; `len` tells of all.
        most: Option<usize>,
    },
    /// Why a job, or the jobs of a queue, are not running: one object, see
    /// [`Explanation::to_json`](crate::Explanation::to_json) and
    /// [`QueueExplanation::to_json`](crate::QueueExplanation::to_json).
    Explain {
        /// The id of a job, or the name of a queue.
        what: String,
    },
    /// Run a finished job again: one object with `id`, `retry_of`, `created`, `state`.
    Retry {
        /// The id of the finished job.
        id: String,
        /// What follows the request, if the input is to be another.
        input: Option<Input>,
    },
    /// Cancel a job: one object with `id` and `state`.
    Cancel {
        /// Its id.
        id: String,
    },
    /// Hand out no more jobs of a queue: one object with `queue` and `paused`.
    Pause {
        /// Its name.
        queue: String,
    },
    /// Hand them out again: one object with `queue` and `paused`.
    Resume {
        /// Its name.
        queue: String,
    },
    /// Cancel every job that waits in a queue: one object with `queue` and `purged`.
    Purge {
        /// Its name.
        queue: String,
    },
    /// Write a dump: one object with `path` and `jobs`.
    Dump {
        /// An absolute path.
        path: String,
    },
    /// Accept the jobs of a dump: one object with `path`, `jobs`, `known`, `conflicts`.
    Restore {
        /// An absolute path.
        path: String,
    },
}

impl Request {
    /// Whether the answer changes anything in the queue.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::About {}
            | Self::Stats {}
            | Self::List(_)
            | Self::Show { .. }
            | Self::Bytes { .. }
            | Self::Explain { .. }
            | Self::Dump { .. } => false,
            Self::Retry { .. }
            | Self::Cancel { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Purge { .. }
            | Self::Restore { .. } => true,
        }
    }

    /// How many bytes of input follow it.
    const fn input(&self) -> usize {
        match self {
            Self::Retry {
                input: Some(input), ..
            } => input.len,
            _ => 0,
        }
    }
}

/// Which jobs are listed: the fields of [`Filter`](crate::Filter), as text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    /// Only this queue.
    pub queue: Option<String>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only these states; empty is all.
    pub states: Vec<String>,
    /// Only the job with this idempotency key.
    pub key: Option<String>,
    /// Only jobs pushed at or after this instant.
    pub created_from_us: Option<i64>,
    /// Only jobs pushed before this instant.
    pub created_before_us: Option<i64>,
    /// Continue after this id.
    pub after: Option<String>,
    /// The most jobs.
    pub limit: Option<usize>,
}

/// Bytes of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What it carries.
    Input,
    /// What its handler answered.
    Result,
}

/// An input that follows a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Input {
    /// How many bytes.
    pub len: usize,
    /// Their type.
    pub content_type: String,
}

/// The last line of an answer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Last {
    Done(Done),
    Error(Refusal),
}

/// An [`Error`](crate::Error) on its way.
#[derive(Serialize, Deserialize)]
struct Refusal {
    code: i32,
    kind: String,
    message: String,
}
