//! Where output goes: lines on the standard output, all else on the standard error, colours where a terminal
//! shows them.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use forebay::Error;
use serde_json::json;

use crate::failure::Failure;
use crate::text::{harmless, harmless_json};

/// The colours, by what they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Colour {
    Good,
    Bad,
    Busy,
    Dim,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Busy => "36",
            Self::Dim => "2",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Out {
    to: BufWriter<Stdout>,
    /// Whether programs read it.
    pub(crate) json: bool,
    /// Whether a person watches it.
    pub(crate) terminal: bool,
    colours: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            to: BufWriter::new(io::stdout()),
            json,
            terminal,
            colours: terminal && !plain && !json,
        }
    }

    /// A line of text, in which whatever comes from a job is harmless already.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.to, "{text}")?)
    }

    /// A JSON object in a line of its own.
    pub(crate) fn object(&mut self, json: &str) -> Result<(), Failure> {
        self.line(&harmless_json(json))
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.to.write_all(bytes)?)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }

    /// Begins the screen again.
    pub(crate) fn clear(&mut self) -> Result<(), Failure> {
        self.bytes(b"\x1b[H\x1b[2J")
    }

    /// Text in a colour, where there are colours.
    pub(crate) fn paint<'t>(&self, text: &'t str, colour: Option<Colour>) -> Cow<'t, str> {
        match colour.filter(|_| self.colours && !text.is_empty()) {
            Some(colour) => Cow::Owned(format!("\x1b[{}m{text}\x1b[0m", colour.code())),
            None => Cow::Borrowed(text),
        }
    }

    /// Something beside the answer, for people.
    pub(crate) fn note(&mut self, text: &str) {
        // What was written before it should be read before it, and whoever closed either has seen enough.
        let _ = self.to.flush();
        if !self.json {
            let _ = writeln!(io::stderr(), "{}", harmless(text));
        }
    }

    /// Says why it failed, and returns the exit code.
    pub(crate) fn fail(&mut self, failure: &Failure) -> u8 {
        let _ = self.to.flush();
        let (kind, text) = match failure {
            Failure::Closed | Failure::Told(_) => return failure.code(),
            Failure::Usage(text) => ("Invalid", text.clone()),
            Failure::Error(e) => (e.kind().name(), e.to_string()),
        };
        let _ = if self.json {
            let error = json!({"error": {"kind": kind, "exit_code": failure.code(), "message": text}});
            writeln!(io::stderr(), "{}", harmless_json(&error.to_string()))
        } else {
            writeln!(io::stderr(), "forebay: {}", harmless(&text))
        };
        failure.code()
    }

    /// Asks whether to go on, where somebody can answer; `yes` answers for them.
    pub(crate) fn confirm(&mut self, what: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        self.flush()?;
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(refused(format!(
                "{what}: not done, as nobody can confirm it; give --yes"
            )));
        }
        let _ = write!(io::stderr(), "{}? [y/N] ", harmless(what));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(refused("not done".to_owned())),
        }
    }

    /// Shows that something takes its time, if a person watches, until what is returned is dropped.
    pub(crate) fn progress(&mut self, what: &str) -> Progress {
        let _ = self.to.flush();
        Progress::new(what, !self.json && io::stderr().is_terminal())
    }
}

fn refused(text: String) -> Failure {
    Failure::Error(Error::new(forebay::ErrorKind::Cancelled, text))
}

/// A line that counts the seconds.
#[derive(Debug)]
pub(crate) struct Progress {
    news: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// How often the line changes; what takes less time shows none.
    const STEP: Duration = Duration::from_millis(500);

    fn new(what: &str, watched: bool) -> Self {
        let (news, heard) = channel::<String>();
        let what = harmless(what).into_owned();
        let shows = move || {
            let (mut steps, mut last) = (0, String::new());
            loop {
                match heard.recv_timeout(Self::STEP) {
                    Ok(text) => last = text,
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        steps += 1;
                        let seconds = steps / 2;
                        let _ = write!(io::stderr(), "\r\x1b[K{what} {last} ({seconds}s)");
                    }
                }
            }
            if steps > 0 {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        let thread = watched.then(|| {
            std::thread::Builder::new()
                .name("forebay-progress".into())
                .spawn(shows)
        });
        Self {
            news: watched.then_some(news),
            thread: thread.and_then(Result::ok),
        }
    }

    /// What to say beside the seconds.
    pub(crate) fn tell(&self, text: impl FnOnce() -> String) {
        if let Some(news) = &self.news {
            // Without a thread nobody hears it.
            let _ = news.send(text());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.news.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
