//! The owner's side of the socket: one thread that is blocked until somebody connects, and one per client
//! for as long as it is answered.

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::place::{Place, cannot};
use super::{Done, Last, MAX_PEERS, MAX_REQUEST, Refusal, Request, answer, socket_path};
use crate::dispatcher::Dispatcher;
use crate::error::{Error, ErrorKind, Result};
use crate::panics::caught;
use crate::threads;
use crate::time::Deadline;

/// How long a client may take to say what it wants, its input included.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long a client may leave a piece of the answer unread.
const READ_TIME: Duration = Duration::from_secs(10);
/// How long nobody is let in when the system has no room for a connection.
const PAUSE_MS: i32 = 200;

/// Listens on the socket beside `file` until the dispatcher stops, and answers with it. Whoever calls this
/// has the file for itself: a socket that is there was left by a process that died, and is replaced.
///
/// # Errors
/// `Storage` and `Unsupported` if there can be no such socket; `NoMemory` if there can be no thread.
pub fn serve(dispatcher: &Dispatcher, file: &Path) -> Result<()> {
    let bound = Bound::new(socket_path(file))?;
    let failed = |e| cannot("watch", &bound.socket, e);
    let (ours, wake) = UnixStream::pair().map_err(failed)?;
    let listener = bound.listener.try_clone().map_err(failed)?;
    let door = Door {
        listener,
        wake,
        peers: Mutex::default(),
        dispatcher: dispatcher.idle_handle(),
    };
    let thread = threads::spawn("control", move || door.keep())?;
    dispatcher.at_stop(Box::new(move |_, _| {
        // The thread is blocked until the other end of its pair is shut: to close it would not do while a child that
        // was forked has it open, too.
        let _ = ours.shutdown(std::net::Shutdown::Both);
        threads::join(thread);
        drop(bound);
        Ok(())
    }));
    Ok(())
}

/// A socket in the file system, removed when it is dropped.
#[derive(Debug)]
struct Bound {
    listener: UnixListener,
    socket: PathBuf,
    /// Device and number: a socket that somebody else put there since is not ours to remove.
    identity: (u64, u64),
}

impl Bound {
    fn new(socket: PathBuf) -> Result<Self> {
        let place = Place::of(&socket)?;
        let failed = |e| cannot("make", &socket, e);
        match fs::symlink_metadata(&socket) {
            Ok(there) if there.file_type().is_socket() => fs::remove_file(&socket).map_err(failed)?,
            Ok(_) => {
                let text = format!("{socket:?} is no socket, and where the control socket would be; move it");
                return Err(Error::new(ErrorKind::Storage, text));
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(place.path()).map_err(failed)?;
        // Whoever of another user comes in between is turned away by who it is.
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let identity = identity(&socket).map_err(failed)?;
        Ok(Self {
            listener,
            socket,
            identity,
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if identity(&self.socket).is_ok_and(|there| there == self.identity) {
            // One that stays is replaced by the next owner.
            let _ = fs::remove_file(&self.socket);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|there| (there.dev(), there.ino()))
}

/// Where clients come in.
struct Door {
    listener: UnixListener,
    /// Readable, because its other end is shut, when it is over.
    wake: UnixStream,
    peers: Mutex<Vec<Peer>>,
    dispatcher: Dispatcher,
}

/// A client that is being answered.
struct Peer {
    thread: JoinHandle<()>,
    /// Its connection, until it has been answered.
    stream: Arc<Mutex<Option<UnixStream>>>,
}

impl Door {
    /// Lets clients in until the wake socket is shut, then ends them.
    fn keep(self) {
        let mut patience = -1;
        while !self.wait(patience) {
            patience = match self.listener.accept() {
                Ok((stream, _)) => {
                    self.let_in(stream);
                    -1
                }
                Err(e) => self.pause_after(&e),
            };
        }
        for peer in self.peers.lock().drain(..) {
            if let Some(stream) = &*peer.stream.lock() {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
            threads::join(peer.thread);
        }
    }

    /// Blocks until there is a client, or for `patience` milliseconds without looking for one. True when it
    /// is over.
    fn wait(&self, patience: i32) -> bool {
        let watch = |fd, on| libc::pollfd {
            fd: if on { fd } else { -1 },
            events: libc::POLLIN,
            revents: 0,
        };
        let mut both = [
            watch(self.wake.as_raw_fd(), true),
            watch(self.listener.as_raw_fd(), patience < 0),
        ];
        // SAFETY: the array is as long as said, and both descriptors are open as long as `self` is.
        unsafe { libc::poll(both.as_mut_ptr(), both.len() as libc::nfds_t, patience) };
        both[0].revents != 0
    }

    /// How long to let nobody in: a connection that the system has no room for stays there to be let in.
    fn pause_after(&self, e: &io::Error) -> i32 {
        match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => -1,
            _ => PAUSE_MS,
        }
    }

    fn let_in(&self, stream: UnixStream) {
        let mut peers = self.peers.lock();
        peers.retain(|peer| !peer.thread.is_finished());
        if let Err(e) = prepare(&stream).and_then(|()| has_room(peers.len())) {
            // A client that does not listen to the reason misses it.
            let _ = send_last(&stream, Err(e));
            return;
        }
        let stream = Arc::new(stream);
        let kept = stream.try_clone().ok();
        let Some(kept) = kept.map(|s| Arc::new(Mutex::new(Some(s)))) else {
            return;
        };
        let (dispatcher, own) = (self.dispatcher.clone(), kept.clone());
        let thread = threads::spawn("control-peer", move || {
            serve_one(&dispatcher, &stream);
            own.lock().take();
        });
        // Without a thread the client finds its connection closed.
        peers.extend(thread.ok().map(|thread| Peer { thread, stream: kept }));
    }
}

fn has_room(peers: usize) -> Result<()> {
    if peers < MAX_PEERS {
        return Ok(());
    }
    let text = format!("{MAX_PEERS} requests are being answered; ask again in a moment");
    Err(Error::new(ErrorKind::AlreadyOpen, text))
}

/// Checks who it is, and sets how long it may keep us waiting.
fn prepare(stream: &UnixStream) -> Result<()> {
    let failed = |e| Error::new(ErrorKind::Storage, "cannot use the connection").caused_by(e);
    stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_write_timeout(Some(READ_TIME)))
        .map_err(failed)?;
    let theirs = user(stream).map_err(failed)?;
    // SAFETY: the call cannot fail and touches no memory.
    let ours = unsafe { libc::geteuid() };
    if theirs == ours || theirs == 0 {
        return Ok(());
    }
    let text = format!("the file belongs to user {ours}, and user {theirs} may not ask its owner");
    Err(Error::new(ErrorKind::Invalid, text))
}

/// The user who connected.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn user(stream: &UnixStream) -> io::Result<libc::uid_t> {
    let mut who = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both may be written, and `len` is the size of `who`.
    let answer = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut len,
        )
    };
    if answer == 0 {
        Ok(who.uid)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn user(stream: &UnixStream) -> io::Result<libc::uid_t> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: both may be written.
    let answer = unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if answer == 0 {
        Ok(uid)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Answers one client. What cannot be written to it is its own loss.
fn serve_one(dispatcher: &Dispatcher, stream: &UnixStream) {
    let mut out = BufWriter::new(stream);
    let answered = caught(|| {
        let (request, input) = read_request(dispatcher, stream)?;
        answer(dispatcher, &request, input, &mut |line| {
            out.write_all(line.as_bytes())
                .and_then(|()| out.write_all(b"\n"))
                .map_err(|e| Error::new(ErrorKind::Storage, "cannot write the answer").caused_by(e))
        })
    });
    let answered = answered.unwrap_or_else(|panic| {
        let text = format!("the owner of the file panicked over the request: {panic}");
        Err(Error::new(ErrorKind::Panic, text))
    });
    let _ = out.flush().and_then(|()| send_last(stream, answered));
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn send_last(mut to: &UnixStream, answered: Result<Done>) -> io::Result<()> {
    let last = match answered {
        Ok(done) => Last::Done(done),
        Err(e) => Last::Error(Refusal {
            code: e.kind().code(),
            kind: e.kind().name().to_owned(),
            message: e.to_string(),
        }),
    };
    let mut text = serde_json::to_vec(&last)?;
    text.push(b'\n');
    to.write_all(&text)
}

/// A request and its input, within the time and the size they may have.
fn read_request(dispatcher: &Dispatcher, stream: &UnixStream) -> Result<(Request, Bytes)> {
    let until = Deadline::after(REQUEST_TIME);
    let mut from = BufReader::new(Timed { stream, until });
    let failed = |e: io::Error| Error::new(ErrorKind::Storage, "cannot read the request").caused_by(e);
    let mut line = Vec::new();
    let read = (&mut from).take(MAX_REQUEST as u64).read_until(b'\n', &mut line);
    read.map_err(failed)?;
    if line.pop() != Some(b'\n') {
        let text = format!("a request is one line of at most {MAX_REQUEST} bytes");
        return Err(Error::invalid(text));
    }
    let request: Request = serde_json::from_slice(&line)
        .map_err(|e| Error::invalid("the request is none that this version knows").caused_by(e))?;
    let (len, most) = (request.input(), dispatcher.options().max_payload);
    if len > most {
        let text = format!("the input has {len} bytes; option max_payload of the owner allows {most}");
        return Err(Error::invalid(text));
    }
    let mut input = Vec::new();
    from.take(len as u64).read_to_end(&mut input).map_err(failed)?;
    if input.len() < len {
        return Err(Error::invalid("the input is shorter than the request says"));
    }
    Ok((request, input.into()))
}

/// A connection that is read for so long and no longer.
struct Timed<'s> {
    stream: &'s UnixStream,
    until: Deadline,
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.until.left();
        if left == Some(Duration::ZERO) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(left)?;
        self.stream.read(into)
    }
}
