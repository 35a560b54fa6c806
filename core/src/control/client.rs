//! Asking the owner of a file.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::place::{Place, cannot};
use super::{Done, Last, Request, socket_path};
use crate::error::{Error, ErrorKind, Result};

/// The longest line of an answer, in bytes.
const MAX_LINE: u64 = 256 << 20;

/// Asks the owner of `file` through its control socket, and tells `each` line of the answer: a JSON object.
/// Waits no longer than `patience` for each of them.
///
/// # Errors
/// `NotFound` if there is no socket or nobody listens to it; `Timeout` if the owner does not answer;
/// `Storage` if the connection breaks; what the owner answers; what `each` returned first.
pub fn ask(
    file: &Path,
    request: &Request,
    input: &[u8],
    patience: Duration,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Done> {
    let socket = socket_path(file);
    let failed = |what| move |e| cannot(what, &socket_path(file), e);
    let place = Place::of(&socket)?;
    let stream = connect(place.path()).map_err(failed("connect to"))?;
    stream
        .set_read_timeout(Some(patience))
        .and_then(|()| stream.set_write_timeout(Some(patience)))
        .map_err(failed("use"))?;
    let mut text = serde_json::to_vec(request).expect("only texts and numbers");
    text.push(b'\n');
    // An owner that turns this away may have closed before it read: its reason is there to be read.
    match (&stream)
        .write_all(&text)
        .and_then(|()| (&stream).write_all(input))
    {
        Err(e)
            if !matches!(
                e.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            return Err(failed("write to")(e));
        }
        _ => {}
    }
    read_answer(BufReader::new(&stream), each).map_err(|e| e.unwrap_or_else(failed("read from")))
}

/// A socket that nobody listens to is as good as none.
fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused => io::Error::new(io::ErrorKind::NotFound, e),
        _ => e,
    })
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
