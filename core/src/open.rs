//! Opening: an engine is chosen by its URL, and nowhere else.

use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "sqlite")]
use std::time::Duration;

use crate::config::{Control, Options, TimeSource};
use crate::dispatcher::Dispatcher;
#[cfg(feature = "sqlite")]
use crate::dispatcher::this_node;
use crate::dump;
#[cfg(feature = "sqlite")]
use crate::durability::Durability;
use crate::engine::Engine;
#[cfg(feature = "sqlite")]
use crate::engine::durable::{self, DurableEngine};
use crate::engine::memory::MemoryEngine;
#[cfg(feature = "sqlite")]
use crate::engine::sqlite::{Sharing, SqliteEngine};
use crate::error::{Error, ErrorKind, Result};
use crate::real::real;
use crate::time::{Clock, ManualClock, SystemClock, Timestamp};

impl Dispatcher {
    /// Opens a dispatcher on the engine that `url` names. Options after a `?` in the URL override
    /// `options`.
    ///
    /// | URL | engine |
    /// |---|---|
    /// | `memory:` | in this process; gone with it, unless the option `dump_file` is set |
    /// | `sqlite:PATH` | in this process and in a SQLite file, which this process has for itself |
    /// | `sqlite:PATH?shared=true` | in a SQLite file from which any number of processes claim |
    ///
    /// # Errors
    /// `Unsupported` for a URL that names no engine of this build; `Invalid` and `NotFound` for bad
    /// options; `Corrupt`, `FutureFormat` and `AlreadyOpen` for a dump file that cannot be used (it is left
    /// alone); of the store.
    ///
    /// ```
    /// use forebay::{Dispatcher, Options};
    /// let d = Dispatcher::open("memory:?concurrency=2&retry=linear(1s)", Options::default())?;
    /// assert_eq!(d.options().concurrency, 2);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn open(url: &str, mut options: Options) -> Result<Self> {
        let scheme = split(url, &mut options)?;
        let clock: Arc<dyn Clock> = match options.clock {
            TimeSource::System => Arc::new(SystemClock),
            TimeSource::Manual(start) => Arc::new(ManualClock::at(start)),
        };
        Self::open_on(scheme, options, clock)
    }

    /// The same with a clock of the caller's, whatever the option `clock` says: several dispatchers may share one
    /// [`ManualClock`].
    ///
    /// # Errors
    /// As [`Dispatcher::open`].
    pub fn open_with_clock(url: &str, mut options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let scheme = split(url, &mut options)?;
        Self::open_on(scheme, options, clock)
    }

    fn open_on(scheme: &str, mut options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let engine: Arc<dyn Engine> = match scheme {
            "memory:" => Arc::new(MemoryEngine::new(options.keep_finished)),
            other => on_file(other, &mut options, clock.now())?,
        };
        // The file is locked and read before anything is handed out.
        let file = options.dump_file.clone().map(dump::File::claim).transpose()?;
        let owned = scheme.strip_prefix("sqlite:").filter(|_| !options.shared);
        let control = owned.map(|path| (path, options.control));
        let dispatcher = Self::with_clock(engine, options, clock)?;
        if let Some((path, control)) = control {
            listen(&dispatcher, Path::new(path), control)?;
        }
        if let Some(file) = file {
            dump::keep(&dispatcher, file)?;
        }
        Ok(dispatcher)
    }

    /// A dispatcher in memory with the default options.
    ///
    /// # Errors
    /// `NoMemory` if no thread can be started.
    pub fn in_memory() -> Result<Self> {
        Self::open("memory:", Options::default())
    }
}

/// What a URL names; the options in it are set.
fn split<'a>(url: &'a str, options: &mut Options) -> Result<&'a str> {
    let (scheme, query) = url.split_once('?').unwrap_or((url, ""));
    options.set_all(query)?;
    options.check()?;
    Ok(scheme)
}

/// Answers other processes on the control socket of a file.
#[cfg(unix)]
fn listen(dispatcher: &Dispatcher, path: &Path, control: Control) -> Result<()> {
    match control {
        Control::Off => Ok(()),
        Control::On => crate::control::serve(dispatcher, path),
        Control::Auto => {
            // The queue is worth more than the commands that could look at it.
            let _ = crate::control::serve(dispatcher, path);
            Ok(())
        }
    }
}

#[cfg(not(unix))]
fn listen(_: &Dispatcher, _: &Path, control: Control) -> Result<()> {
    match control {
        Control::On => Err(Error::new(
            ErrorKind::Unsupported,
            "option control: there are no such sockets on this system",
        )),
        Control::Auto | Control::Off => Ok(()),
    }
}

/// The engine on a file that a URL without its options names.
fn on_file(url: &str, options: &mut Options, now: Timestamp) -> Result<Arc<dyn Engine>> {
    let unknown = || {
        let text =
            format!("{url:?} names no engine of this build; there are \"memory:\" and \"sqlite:PATH\"");
        Error::new(ErrorKind::Unsupported, text)
    };
    let path = url.strip_prefix("sqlite:").ok_or_else(unknown)?;
    if path.is_empty() {
        let text = format!("{url:?} names no file; write \"sqlite:/var/lib/app/jobs.db\"");
        return Err(Error::invalid(text));
    }
    sqlite(&real(Path::new(path)), options, now)
}

#[cfg(feature = "sqlite")]
fn sqlite(path: &Path, options: &mut Options, now: Timestamp) -> Result<Arc<dyn Engine>> {
    if options.shared {
        return Ok(Arc::new(shared(path, options, now)?));
    }
    let settings = durable::Settings {
        keep_finished: options.keep_finished,
        write_behind: options.write_behind,
        resident: options.resident,
    };
    Ok(Arc::new(DurableEngine::open(path, settings)?))
}

/// Processes that share jobs must be told apart, and leases must end with their holder.
#[cfg(feature = "sqlite")]
fn shared(path: &Path, options: &mut Options, now: Timestamp) -> Result<SqliteEngine> {
    let named = options.node != "auto";
    let sharing = Sharing {
        keep_finished: options.keep_finished,
        node: named.then(|| options.node.clone()),
        done: match options.sync_done {
            true => options.durability,
            false => Durability::Os,
        },
    };
    durable::settle(path)?;
    let engine = SqliteEngine::open(path, sharing, now)?;
    if !named {
        // A process id is used again; this number is not.
        options.node = format!("{}#{}", this_node(), engine.node());
    }
    options.lease.get_or_insert(Duration::from_secs(30));
    Ok(engine)
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &Path, _: &mut Options, _: Timestamp) -> Result<Arc<dyn Engine>> {
    let text = "this build has no SQLite; build it with the feature \"sqlite\"";
    Err(Error::new(ErrorKind::Unsupported, text))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::job::NewJob;
    use crate::outcome::Outcome;
    use crate::time::Deadline;
    use parking_lot::Mutex;
    use std::sync::{Weak, mpsc};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    /// A dispatcher, and a way to see whether anything of it is left.
    fn observed() -> (Dispatcher, Weak<MemoryEngine>) {
        let engine = Arc::new(MemoryEngine::new(10));
        let weak = Arc::downgrade(&engine);
        let d = Dispatcher::with_engine(engine, Options::default()).expect("the defaults fit together");
        (d, weak)
    }

    /// The locks of a file are beside it, not beside a link to it.
    #[cfg(feature = "sqlite")]
    #[test]
    fn a_link_is_no_second_file() {
        let folder = std::env::temp_dir().join(format!("forebay-open-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (file, link) = (folder.join("jobs.db"), folder.join("link.db"));
        std::os::unix::fs::symlink("jobs.db", &link).unwrap();
        let open = |path: &Path| Dispatcher::open(&format!("sqlite:{}", path.display()), Options::default());
        for (first, second) in [(&link, &file), (&file, &link)] {
            let d = open(first).unwrap();
            let error = open(second).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyOpen, "{error}");
            d.stop(LONG).unwrap();
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A socket that cannot be made is in the way of those only who asked for it.
    #[cfg(all(unix, feature = "sqlite"))]
    #[test]
    fn the_control_socket_is_made_as_the_option_says() {
        let folder = std::env::temp_dir().join(format!("forebay-open-control-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("jobs.db.sock");
        let open = |control: &str| {
            let url = format!("sqlite:{}?control={control}", folder.join("jobs.db").display());
            Dispatcher::open(&url, Options::default())
        };
        for (control, made) in [("auto", true), ("true", true), ("false", false)] {
            let d = open(control).unwrap();
            assert_eq!(socket.exists(), made, "{control}");
            d.stop(LONG).unwrap();
            assert!(!socket.exists());
        }
        std::fs::write(&socket, "something else").unwrap();
        let error = open("true").unwrap_err();
        assert!(error.to_string().contains("is no socket"), "{error}");
        open("auto").unwrap().stop(LONG).unwrap();
        open("false").unwrap().stop(LONG).unwrap();
        assert_eq!(std::fs::read(&socket).unwrap(), b"something else");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_last_handle_takes_everything_with_it() {
        let (d, engine) = observed();
        d.register("k", |_| ()).unwrap();
        d.start().unwrap();
        d.push(NewJob::new("k", ())).unwrap();
        let other = d.clone();
        drop(d);
        other.push(NewJob::new("k", ())).unwrap();
        other.drain(Deadline::after(LONG)).unwrap();
        drop(other);
        assert!(engine.upgrade().is_none(), "no thread and no cycle keeps it");
    }

    #[test]
    fn a_stop_lets_handlers_go() {
        let (d, engine) = observed();
        // A handler that pushes owns a handle: a cycle, until the stop.
        let own = d.clone();
        d.register("k", move |_| drop(own.push(NewJob::new("other", ()))))
            .unwrap();
        d.start().unwrap();
        d.stop(LONG).unwrap();
        drop(d);
        assert!(engine.upgrade().is_none());
    }

    #[test]
    fn a_handler_may_drop_the_last_handle() {
        let (d, engine) = observed();
        let (give, take) = mpsc::channel::<Dispatcher>();
        let (said, heard) = mpsc::channel();
        let take = Mutex::new(take);
        d.register("k", move |_| {
            drop(take.lock().recv().expect("the test sends it"));
            said.send(()).expect("the test listens");
        })
        .unwrap();
        d.start().unwrap();
        d.push(NewJob::new("k", ())).unwrap();
        give.send(d).unwrap();
        heard
            .recv_timeout(LONG)
            .expect("dropping it in a handler does not hang");
        let deadline = Deadline::after(LONG);
        while engine.upgrade().is_some() {
            assert!(!deadline.passed(), "everything ends soon after");
            std::thread::yield_now();
        }
    }

    /// The job is left to its ticket when nobody can use that any more.
    #[test]
    fn a_handler_that_outlives_the_last_handle_leaves_nothing() {
        let (d, engine) = observed();
        let (called, calls) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        d.register("k", move |_| {
            called.send(()).expect("the test listens");
            let _ = wait.lock().recv_timeout(LONG);
            Outcome::Pending
        })
        .unwrap();
        d.start().unwrap();
        d.push(NewJob::new("k", ())).unwrap();
        calls.recv_timeout(LONG).expect("it is called");
        drop(d);
        go.send(()).expect("it waits");
        let deadline = Deadline::after(LONG);
        while engine.upgrade().is_some() {
            assert!(!deadline.passed(), "everything ends soon after");
            std::thread::yield_now();
        }
    }
}
