//! Asking the owner of a file.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::{Place, cannot};
use super::{Done, Last, Request, socket_path};
use crate::error::{Error, ErrorKind, Result};

/// The longest line of an answer, in bytes.
const MAX_LINE: u64 = 256 << 20;

/// A connection to the owner of a file, good for one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
}

impl Client {
    /// Connects to the owner of `file`, who may then take up to `patience` for each line of its answer.
    /// `None` if there is no socket, or nobody listens to it.
    ///
    /// # Errors
    /// `Storage` and `Unsupported` if the socket cannot be used.
    pub fn connect(file: &Path, patience: Duration) -> Result<Option<Self>> {
        let socket = socket_path(file);
        let place = match Place::of(&socket) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            place => place?,
        };
        let stream = match UnixStream::connect(place.path()) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            stream => stream.map_err(|e| cannot("connect to", &socket, e))?,
        };
        stream
            .set_read_timeout(Some(patience))
            .and_then(|()| stream.set_write_timeout(Some(patience)))
            .map_err(|e| cannot("use", &socket, e))?;
        Ok(Some(Self { stream, socket }))
    }

    /// Asks, with the input that the request announces, and tells `each` line of the answer: a JSON object.
    ///
    /// # Errors
    /// `AlreadyOpen` if the owner is answering as many as it may; `Timeout` if it does not answer in time;
    /// `Storage` if the connection breaks; what the owner answers; what `each` returned first.
    pub fn ask(
        self,
        request: &Request,
        input: &[u8],
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Done> {
        let mut text = serde_json::to_vec(request).expect("only texts and numbers");
        text.push(b'\n');
        let mut stream = &self.stream;
        // An owner that turns this away may have closed before it read: its reason is there to be read.
        match stream.write_all(&text).and_then(|()| stream.write_all(input)) {
            Err(e)
                if !matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Err(cannot("write to", &self.socket, e));
            }
            _ => {}
        }
        let answer = read_answer(BufReader::new(stream), each);
        answer.map_err(|e| e.unwrap_or_else(|e| cannot("read from", &self.socket, e)))
    }
}

/// Reads up to the last line. An error is one of the answer or of `each`, or one of reading.
fn read_answer(
    mut from: impl BufRead,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Done, Result<Error, io::Error>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut from)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(Err)?;
        if read == 0 || line.pop() != Some(b'\n') {
            let text = "the owner of the file ended the connection before its answer was complete";
            return Err(Ok(Error::new(ErrorKind::Storage, text)));
        }
        if line.starts_with(br#"{"done":"#) || line.starts_with(br#"{"error":"#) {
            return last(&line).map_err(Ok);
        }
        let line = std::str::from_utf8(&line).map_err(|e| Err(io::Error::other(e)))?;
        each(line).map_err(Ok)?;
    }
}

fn last(line: &[u8]) -> Result<Done> {
    let last = serde_json::from_slice(line).map_err(|e| {
        let text = "the owner of the file answered what this version does not understand";
        Error::new(ErrorKind::Storage, text).caused_by(e)
    })?;
    match last {
        Last::Done(done) => Ok(done),
        Last::Error(refusal) => {
            let kind = ErrorKind::from_code(refusal.code).unwrap_or(ErrorKind::Storage);
            Err(Error::new(kind, refusal.message))
        }
    }
}
