//! The one thread of this process that writes (`forebay-sqlite`): it has the connection, and commits in one
//! transaction whatever calls have come while it was busy with the last one. So many callers share a sync.
//!
//! A call is a closure over what its caller owns. It runs on the writer's thread while the caller waits, inside a
//! part of the transaction that is taken back alone if the call fails. It is answered when the transaction is
//! committed, or is known not to be. Those who were served together go on together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::Store;
use super::gate::Gate;
use super::work::{Fault, Step, Work};
use crate::durability::Durability;
use crate::engine::sql::failure;
use crate::error::{Error, ErrorKind, Result};
use crate::panics::{let_go, panic_text};
use crate::planted::{Bug, planted};
use crate::time::{Deadline, Timestamp};

/// What a call does.
type Body<'a> = dyn FnMut(&mut Work<'_>) -> Step<()> + Send + 'a;

/// A call that waits for its answer.
struct Request {
    /// `None` once it will not run any more.
    body: Option<Box<Body<'static>>>,
    /// The instant of its caller, if it depends on one.
    now: Option<Timestamp>,
    since: Instant,
    level: Durability,
    /// What to answer; if nobody says, something went badly wrong.
    result: Result<()>,
    answer: Arc<Answer>,
}

impl Request {
    fn end(mut self, result: Result<()>) {
        self.result = result;
    }
}

/// However a request ends, its caller hears of it, once the closure that borrows from the caller is gone.
impl Drop for Request {
    fn drop(&mut self) {
        self.body = None;
        let result = std::mem::replace(&mut self.result, Ok(()));
        *self.answer.lock() = Some(result);
    }
}

/// Where the answer to a call is put, before the gate of its group opens.
type Answer = Mutex<Option<Result<()>>>;

/// The calls that wait, behind which gate, and the end.
#[derive(Default)]
struct Desk {
    calls: Vec<Request>,
    gate: Arc<Gate>,
    closed: bool,
}

/// Calls that are served together. Their callers go on when this is dropped, by which time all are answered.
#[derive(Default)]
struct Group {
    calls: Vec<Request>,
    gate: Arc<Gate>,
}

impl Drop for Group {
    fn drop(&mut self) {
        self.calls.clear();
        self.gate.open();
    }
}

/// The way to the writer.
#[derive(Default)]
pub(super) struct Writer {
    desk: Mutex<Desk>,
    bell: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn instant() -> Instant {
    Deadline::after(Duration::ZERO)
        .instant()
        .expect("a deadline after a time has an instant")
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the store has been closed; open another dispatcher",
    )
}

impl Writer {
    /// Starts the thread, which serves calls with this connection.
    ///
    /// # Errors
    /// `NoMemory` if the system refuses another thread.
    pub(super) fn start(engine: &Arc<Store>, db: Connection) -> Result<()> {
        let serving = engine.clone();
        let thread = crate::threads::spawn("sqlite", move || {
            Server {
                engine: &serving,
                db,
                level: None,
                poison: None,
            }
            .run();
        })?;
        *engine.writer.thread.lock() = Some(thread);
        Ok(())
    }

    /// Runs a call in a transaction that is as safe as `level` when this returns.
    ///
    /// # Errors
    /// What the call says; of the store: then the call has changed nothing, but for `Unknown`.
    pub(super) fn call<T: Send>(
        &self,
        level: Durability,
        now: Option<Timestamp>,
        mut body: impl FnMut(&mut Work<'_>) -> Step<T> + Send,
    ) -> Result<T> {
        let mut result = None;
        let answer = Arc::new(Answer::default());
        {
            let mut run = |work: &mut Work<'_>| {
                result = Some(body(work)?);
                Ok(())
            };
            let body: Box<Body<'_>> = Box::new(&mut run);
            // SAFETY: only the lifetime is changed. The closure and what it borrows live until this block ends,
            // which is after the answer; and a request drops its closure before it answers, however it ends.
            let body: Box<Body<'static>> = unsafe { std::mem::transmute(body) };
            let request = Request {
                body: Some(body),
                now,
                since: instant(),
                level,
                result: Err(ErrorKind::Panic.into()),
                answer: answer.clone(),
            };
            let mut desk = self.desk.lock();
            if desk.closed {
                return Err(closed());
            }
            desk.calls.push(request);
            let (gate, first) = (desk.gate.clone(), desk.calls.len() == 1);
            drop(desk);
            if first {
                self.bell.notify_one();
            }
            gate.wait();
        }
        let answered = answer.lock().take();
        answered.unwrap_or_else(|| Err(ErrorKind::Panic.into()))?;
        Ok(result.expect("a call that went well has left its result"))
    }

    /// Ends the thread, after the calls that came before. Idempotent.
    pub(super) fn close(&self) {
        self.desk.lock().closed = true;
        self.bell.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            crate::threads::join(thread);
        }
    }

    /// The next group of calls; none at the end.
    fn next(&self) -> Option<Group> {
        let mut desk = self.desk.lock();
        while desk.calls.is_empty() {
            if desk.closed {
                return None;
            }
            self.bell.wait(&mut desk);
        }
        Some(Group {
            calls: std::mem::take(&mut desk.calls),
            gate: std::mem::take(&mut desk.gate),
        })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// The thread's own.
struct Server<'e> {
    engine: &'e Store,
    db: Connection,
    /// How safe the connection's commits are at present.
    level: Option<Durability>,
    /// Why nothing is written any more.
    poison: Option<String>,
}

impl Server<'_> {
    fn run(mut self) {
        while let Some(mut group) = self.engine.writer.next() {
            let served = catch_unwind(AssertUnwindSafe(|| self.serve(&mut group.calls)));
            if let Err(panic) = served {
                self.poison = Some(panic_text(panic.as_ref()).into_owned());
                let_go(panic);
            }
        }
    }

    fn serve(&mut self, group: &mut Vec<Request>) {
        if let Some(why) = &self.poison {
            for request in group.drain(..) {
                let text = format!("the store failed before ({why}) and takes no more; open it again");
                request.end(Err(Error::new(ErrorKind::Storage, text)));
            }
            return;
        }
        let level = group.iter().map(|r| r.level).max().unwrap_or_default();
        let mut waiting = Vec::with_capacity(group.len());
        match self.transact(level, group, &mut waiting) {
            Ok(()) => waiting.into_iter().for_each(|request| request.end(Ok(()))),
            Err(error) => {
                let (kind, text) = (error.kind(), error.to_string());
                for request in waiting.into_iter().chain(group.drain(..)) {
                    request.end(Err(Error::new(kind, text.clone())));
                }
            }
        }
    }

    /// One transaction. Calls that failed by themselves have been answered; the others are in `done`.
    fn transact(
        &mut self,
        level: Durability,
        group: &mut Vec<Request>,
        done: &mut Vec<Request>,
    ) -> Result<()> {
        self.set_level(level)?;
        self.begin()?;
        let engine = self.engine;
        let fail = |fault| engine.failed(fault);
        let committed = {
            let mut work = match Work::begin(engine, &self.db) {
                Ok(work) => work,
                Err(fault) => return self.give_up(fail(fault)),
            };
            let alone = group.len() == 1;
            for request in group.drain(..) {
                let failed = match one(&mut work, request, alone, done, &fail) {
                    Ok(failed) => failed,
                    Err(error) => return self.give_up(error),
                };
                if let Some((kind, text)) = failed
                    && self.db.is_autocommit()
                {
                    // What failed took the whole transaction with it, and the calls of the others.
                    return Err(Error::new(kind, text));
                }
            }
            match work.finish(level) {
                Ok(clock) => clock.map(|clock| (clock, work.after)),
                Err(fault) => return self.give_up(fail(fault)),
            }
        };
        let Some((clock, after)) = committed else {
            // Nothing to keep, and nothing to sync.
            let _ = self.db.execute_batch("ROLLBACK");
            return Ok(());
        };
        self.commit()?;
        if level == Durability::Disk {
            *engine.synced.lock() = Some(clock);
        }
        engine.announce(&after);
        Ok(())
    }

    /// Begins a transaction as a writer, when no other process is one.
    fn begin(&mut self) -> Result<()> {
        if self.engine.wake.contended() {
            // Whoever asks by trying has no chance against one who begins again at once.
            std::thread::sleep(Duration::from_micros(200));
        }
        let begun = self.try_begin();
        let Err(error) = begun else { return Ok(()) };
        if !is_busy(&error) {
            return Err(self.engine.failed(error.into()));
        }
        self.engine.wake.contend(true);
        let result = self.begin_among_others();
        self.engine.wake.contend(false);
        result.map_err(|error| self.engine.failed(error.into()))
    }

    fn begin_among_others(&self) -> rusqlite::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let (deadline, mut pause) = (Deadline::after(PATIENCE), Duration::from_micros(50));
        loop {
            std::thread::sleep(pause);
            match self.try_begin() {
                Err(error) if is_busy(&error) && !deadline.passed() => {
                    pause = (pause * 2).min(Duration::from_millis(2));
                }
                result => return result,
            }
        }
    }

    fn try_begin(&self) -> rusqlite::Result<()> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(|_| ())
    }

    fn commit(&mut self) -> Result<()> {
        let committed = self.db.prepare_cached("COMMIT").and_then(|mut s| s.execute([]));
        let Err(error) = committed else { return Ok(()) };
        if !self.db.is_autocommit() {
            let _ = self.db.execute_batch("ROLLBACK");
        }
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        if full || is_busy(&error) {
            return Err(self.engine.failed(error.into()));
        }
        // Whether it is on the disk cannot be told, and asking the disk again tells nothing.
        self.poison = Some(error.to_string());
        let text = format!(
            "{}: a write failed, and may or may not have been kept",
            self.engine.path
        );
        Err(Error::new(ErrorKind::Unknown, text).caused_by(error.to_string()))
    }

    fn give_up(&self, error: Error) -> Result<()> {
        if !self.db.is_autocommit() {
            let _ = self.db.execute_batch("ROLLBACK");
        }
        Err(error)
    }

    fn set_level(&mut self, level: Durability) -> Result<()> {
        if self.level == Some(level) {
            return Ok(());
        }
        let text = match level {
            Durability::Disk if !planted(Bug::SharedNormal) => "PRAGMA synchronous = FULL",
            _ => "PRAGMA synchronous = NORMAL",
        };
        self.db
            .execute_batch(text)
            .map_err(|e| failure(&e, &self.engine.path))?;
        self.level = Some(level);
        Ok(())
    }
}

/// Runs one call of a group. One that fails is taken back and answered; why is returned.
///
/// # Errors
/// If it cannot be taken back: then nothing of the transaction may be kept.
fn one(
    work: &mut Work<'_>,
    mut request: Request,
    alone: bool,
    done: &mut Vec<Request>,
    fail: &impl Fn(Fault) -> Error,
) -> Result<Option<(ErrorKind, String)>> {
    let waited = instant().saturating_duration_since(request.since);
    work.at(request.now, waited);
    let mark = match work.open_call(alone) {
        Ok(mark) => mark,
        Err(fault) => {
            done.push(request);
            return Err(fail(fault));
        }
    };
    let result = match &mut request.body {
        None => Ok(()),
        Some(body) => catch_unwind(AssertUnwindSafe(|| body(work))).unwrap_or_else(|panic| {
            let text = panic_text(panic.as_ref()).into_owned();
            let_go(panic);
            Err(Fault::Other(Error::new(ErrorKind::Panic, text)))
        }),
    };
    match result {
        Ok(()) => {
            done.push(request);
            work.keep_call(alone).map_err(fail)?;
            Ok(None)
        }
        Err(fault) => {
            let error = fail(fault);
            let why = (error.kind(), error.to_string());
            request.end(Err(error));
            work.undo_call(mark, alone).map_err(fail)?;
            Ok(Some(why))
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}
