//! Opening: an engine is chosen by its URL, and nowhere else.

use std::sync::Arc;

use crate::config::Options;
use crate::dispatcher::Dispatcher;
use crate::dump;
use crate::engine::Engine;
use crate::engine::memory::MemoryEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{Clock, SystemClock};

impl Dispatcher {
    /// Opens a dispatcher on the engine that `url` names. Options after a `?` in the URL override
    /// `options`.
    ///
    /// | URL | engine |
    /// |---|---|
    /// | `memory:` | in this process; gone with it, unless the option `dump_file` is set |
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
    pub fn open(url: &str, options: Options) -> Result<Self> {
        Self::open_with_clock(url, options, Arc::new(SystemClock))
    }

    /// The same with a clock of the caller's: a [`ManualClock`](crate::ManualClock) in tests.
    ///
    /// # Errors
    /// As [`Dispatcher::open`].
    pub fn open_with_clock(url: &str, mut options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let (scheme, query) = url.split_once('?').unwrap_or((url, ""));
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(Error::invalid(format!("{pair:?} in {url:?} is not name=value")));
            };
            options.set(name, value)?;
        }
        options.check()?;
        let engine: Arc<dyn Engine> = match scheme {
            "memory:" => Arc::new(MemoryEngine::new(options.keep_finished)),
            other => {
                let text = format!("{other:?} names no engine of this build; there is \"memory:\"");
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
        };
        // The file is locked and read before anything is handed out.
        let file = options.dump_file.clone().map(dump::File::claim).transpose()?;
        let dispatcher = Self::with_clock(engine, options, clock)?;
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
