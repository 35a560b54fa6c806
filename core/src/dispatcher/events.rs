//! Who hears of what happens: streams of events, and one log.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lease::{Inside, handling};
use super::settle::Whose;
use super::{Dispatcher, Inner};
use crate::engine::QueueCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind, Feed, Level, Log, Report};
use crate::outcome::Failure;
use crate::panics::caught;
use crate::time::{Deadline, Timestamp};

/// A bounded buffer of events, which counts what it drops. Dropping it ends the subscription; it does not keep the
/// dispatcher from stopping. Any thread.
#[derive(Debug)]
pub struct Subscription {
    inner: Arc<Inner>,
    feed: Arc<Feed>,
}

impl Dispatcher {
    /// A stream of what happens from now on, through a buffer of `capacity` events (at most
    /// [`Subscription::MAX_CAPACITY`]) that counts what it drops.
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.subscribe_from(Level::Debug, capacity)
    }

    /// The same of events of this level and above: what nobody wants to hear of costs nothing.
    #[must_use]
    pub fn subscribe_from(&self, level: Level, capacity: usize) -> Subscription {
        let feed = self.0.events.subscribe(level, capacity);
        if self.0.stopped() {
            feed.end();
        }
        let inner = self.0.clone();
        Subscription { inner, feed }
    }

    /// Has what happens told to `log` from now on, if it is of this level or above, instead of to the former one.
    /// When the dispatcher has stopped the log is let go.
    ///
    /// # Errors
    /// `Closed`, `Forked`; `log` is dropped then.
    ///
    /// ```
    /// # use forebay::{Dispatcher, Level, Log, Report};
    /// # use std::sync::Arc;
    /// struct Lines;
    /// impl Log for Lines {
    ///     fn log(&self, report: &Report<'_>) {
    ///         eprintln!("{}: {report}", report.level().name());
    ///     }
    /// }
    /// let d = Dispatcher::in_memory()?;
    /// d.log_to(Level::Warn, Arc::new(Lines))?;
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn log_to(&self, level: Level, log: Arc<dyn Log>) -> Result<()> {
        self.0.check_open()?;
        let former = self.0.events.set_log(Some((level, log)));
        drop(former);
        if let Some(opening) = self.0.events.opening() {
            self.0.log(&opening);
        }
        if self.0.stopped() {
            // It came while the others were let go.
            self.0.let_go_of_the_log();
        }
        Ok(())
    }

    /// Takes the log away; true if there was one.
    ///
    /// # Errors
    /// `Forked`.
    pub fn log_off(&self) -> Result<bool> {
        self.0.birth.check()?;
        Ok(self.0.let_go_of_the_log())
    }
}

impl Subscription {
    /// The largest buffer, in events; a larger one would take its memory at once.
    pub const MAX_CAPACITY: usize = Feed::MAX_CAPACITY;

    /// The next event, or `None` if `deadline` passed first. Without a deadline also if the dispatcher has stopped:
    /// answers that come too late are told of even then, but maybe there are none.
    pub fn next(&self, deadline: Deadline) -> Option<Event> {
        self.feed.next(deadline, deadline.instant().is_some())
    }

    /// The events that are there now.
    pub fn drain(&self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.feed.take())
    }

    /// Appends up to `max` events to `out`; waits for the first one only. Returns how many.
    ///
    /// # Errors
    /// `Closed` if there are none and the dispatcher has stopped; `WouldDeadlock` for an endless wait in a handler of
    /// the same dispatcher; `Forked`.
    pub fn poll(&self, max: usize, deadline: Deadline, out: &mut Vec<Event>) -> Result<usize> {
        self.check_process()?;
        if max == 0 {
            return Ok(0);
        }
        let before = out.len();
        out.extend(self.drain().take(max));
        if out.len() == before && !self.feed.is_over() && !deadline.passed() {
            self.check_wait(deadline)?;
            out.extend(self.feed.next(deadline, false));
            out.extend(self.drain().take(max - (out.len() - before)));
        }
        // Asked before the last look: what was told before the stop is handed out.
        let over = self.feed.is_over();
        if out.len() == before && self.feed.wakeup.rearm() | over {
            out.extend(self.drain().take(max));
        }
        match out.len() - before {
            0 if over => {
                self.feed.wakeup.ring();
                Err(super::closed())
            }
            0 => Ok(0),
            got => {
                self.feed.wakeup.ring();
                Ok(got)
            }
        }
    }

    fn check_wait(&self, deadline: Deadline) -> Result<()> {
        if deadline.instant().is_none() && handling(&self.inner).is_some() {
            let text = "a handler must not wait for events without a deadline: it may hold the last slot";
            return Err(Error::new(ErrorKind::WouldDeadlock, text));
        }
        Ok(())
    }

    /// A descriptor for an event loop, readable when there may be an event and when the dispatcher has stopped. Wait
    /// until it is readable, call [`Subscription::poll`] with a deadline that has passed until it answers 0, and wait
    /// again: that answer is what makes it unreadable, and it may be readable for nothing. It is the subscription's:
    /// non-blocking, close-on-exec, gone when that is dropped.
    ///
    /// # Errors
    /// `NoMemory` if the process may have no more descriptors; `Forked`.
    #[cfg(all(unix, not(shuttle)))]
    pub fn descriptor(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.check_process()?;
        Ok(self.feed.wakeup.get()?.fd())
    }

    /// Ends it, for all who have it: what is in the buffer can still be had, nothing more comes, and whoever waits for
    /// ever returns; [`Subscription::poll`] is `Closed` then.
    pub fn close(&self) {
        self.feed.leave();
        self.feed.end();
    }

    /// Whether it was closed, or the dispatcher has stopped: at most answers that come too late are told of then.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.feed.is_over()
    }

    /// How many events found the buffer full and were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.feed.dropped()
    }

    /// An event of this dispatcher in words.
    #[must_use]
    pub fn report<'a>(&'a self, event: &'a Event) -> Report<'a> {
        Report::new(event, self.inner.engine.names())
    }

    /// As [`Dispatcher::check_process`].
    ///
    /// # Errors
    /// `Forked`.
    pub fn check_process(&self) -> Result<()> {
        self.inner.birth.check()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.leave();
    }
}

impl Event {
    /// The event in words, which names what it is about as `dispatcher` does: the one that it is of.
    #[must_use]
    pub fn report<'a>(&'a self, dispatcher: &'a Dispatcher) -> Report<'a> {
        Report::new(self, dispatcher.0.engine.names())
    }
}

impl Inner {
    pub(crate) fn publish(&self, kind: EventKind, about: Whose, failure: Option<&Failure>, at: Timestamp) {
        if self.events.wanted(kind) {
            self.emit(&Event {
                id: about.id,
                queue: Some(about.queue),
                job_kind: Some(about.kind),
                attempt: about.attempt,
                took: about
                    .started
                    .filter(|_| kind != EventKind::Started)
                    .map(|s| at.since(s)),
                failure: failure.map(|f| f.kind),
                text: failure.map(|f| f.message.as_ref().into()),
                ..Event::of_all(kind, at)
            });
        }
        if self.events.wanted(EventKind::HighWatermark) {
            self.watch_pressure(about.queue, at);
        }
    }

    /// Tells of something that concerns no single job.
    pub(crate) fn announce_event(&self, kind: EventKind, text: Option<String>) {
        if self.events.wanted(kind) {
            self.emit(&Event {
                text: text.map(Into::into),
                ..Event::of_all(kind, self.now())
            });
        }
    }

    /// Tells everybody. With no lock held: the log is the host's.
    pub(super) fn emit(&self, event: &Event) {
        self.events.publish(event);
        self.log(event);
    }

    pub(super) fn log(&self, event: &Event) {
        thread_local! {
            static LOGGING: Cell<bool> = const { Cell::new(false) };
        }
        let Some(log) = self.events.log(event.kind) else {
            return;
        };
        // What a log does itself is not told to it, or it might never end.
        if !LOGGING.replace(true) {
            let report = Report::new(event, self.engine.names());
            // It runs where a handler may run, which a stop or a wait in it would wait for.
            let inside = Inside::of(self, event.id);
            if caught(|| log.log(&report)).is_err() {
                self.hooks.count_failure();
            }
            drop(inside);
            LOGGING.set(false);
        }
    }

    pub(super) fn let_go_of_the_log(&self) -> bool {
        self.events.set_log(None).is_some()
    }

    /// Notes what was found in the store: whoever listens from now on hears of it first.
    pub(super) fn note_opening(&self, counts: &[QueueCounts]) {
        let waiting: u64 = counts.iter().map(QueueCounts::waiting).sum();
        let running: u64 = counts.iter().map(|c| c.running).sum();
        if waiting + running > 0 {
            let run = match self.engine.capabilities().shared {
                true => "run",
                false => "ran when their process ended",
            };
            let text = format!("{waiting} wait, {running} {run}");
            let opened = Event::of_all(EventKind::Opened, self.now());
            self.events.set_opening(Event {
                text: Some(text.into()),
                ..opened
            });
        }
    }

    /// Tells when the store begins to fail in `place`, and when it works there again.
    #[inline]
    pub(super) fn note_store(&self, place: StorePlace, error: Option<&Error>) {
        if error.is_some() || self.store_failing.load(Ordering::Relaxed) != WORKS {
            self.note_trouble(place as u8, error);
        }
    }

    #[cold]
    fn note_trouble(&self, place: u8, error: Option<&Error>) {
        let turn = |from, to| {
            let turned = self
                .store_failing
                .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
            turned.is_ok()
        };
        match error {
            Some(error) if is_of_the_store(error) && turn(WORKS, place) => {
                self.announce_event(EventKind::StoreFailed, Some(error.to_string()));
            }
            None if turn(place, WORKS) => self.announce_event(EventKind::StoreRecovered, None),
            _ => {}
        }
    }
}

/// Where the store is called for something that nobody is told of by an error. Only the place where it failed can tell
/// that it works again: reading may go well while writing does not.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum StorePlace {
    Answers = 1,
    Upkeep = 2,
}

/// What [`Inner::store_failing`] is while nothing fails.
const WORKS: u8 = 0;

fn is_of_the_store(error: &Error) -> bool {
    let kinds = [ErrorKind::Storage, ErrorKind::Unknown, ErrorKind::Corrupt];
    kinds.contains(&error.kind())
}
