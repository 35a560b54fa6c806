//! Who answers: the process that owns the file, this one, or a look that changes nothing.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::control::{Client, Done, Request, answer};
use forebay::file::{self, Holder, Kind};
use forebay::{Dispatcher, Error, ErrorKind, Options, Result};

use crate::failure::{Failure, of_file};

/// The file that the arguments name.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) path: PathBuf,
    /// What a URL says beside the path.
    query: String,
}

impl Target {
    /// Reads a path or a URL. What is there under that name is a path.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let path = |path: &str, query: &str| Self {
            path: path.into(),
            query: query.to_owned(),
        };
        if text.is_empty() {
            return Err(Failure::Usage("the path of the file is empty".to_owned()));
        }
        if let Some(rest) = text.strip_prefix("sqlite:") {
            let (file, query) = rest.split_once('?').unwrap_or((rest, ""));
            // As other libraries write it.
            let file = match file.strip_prefix("///") {
                Some(file) => format!("/{file}"),
                None => file.to_owned(),
            };
            return Ok(path(&file, query));
        }
        if text.starts_with("memory:") {
            let text = "memory: lives inside its process; name the file of its dump instead";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(path(text, ""))
    }

    /// The URL by which this process opens the file, alone or with others.
    fn url(&self, shared: bool) -> String {
        let path = self.path.display();
        let query = if shared { "?shared=true" } else { "" };
        let more = match (self.query.as_str(), shared) {
            ("", _) => String::new(),
            (more, true) => format!("&{more}"),
            (more, false) => format!("?{more}"),
        };
        format!("sqlite:{path}{query}{more}")
    }
}

/// Who answers.
#[derive(Debug)]
pub(crate) enum Source {
    /// The owner of the file.
    Owner(Asked),
    /// This process, which has opened the file.
    Own(Dispatcher),
    /// Nobody: the file is looked at.
    Look(Dispatcher, Seen),
}

/// The owner of a file, and how it is asked: over a connection of its own each time.
#[derive(Debug)]
pub(crate) struct Asked {
    path: PathBuf,
    patience: Duration,
    /// The connection by which it was found.
    first: RefCell<Option<Client>>,
}

impl Asked {
    /// How often an owner is asked again that has too much to do.
    const TRIES: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(50);

    fn ask(&self, request: &Request, input: &[u8], each: &mut dyn FnMut(&str) -> Result<()>) -> Result<Done> {
        for _ in 1..Self::TRIES {
            match self.client()?.ask(request, input, each) {
                // Said before anything else is, so no line of an answer is told twice.
                Err(e) if e.kind() == ErrorKind::AlreadyOpen => std::thread::sleep(Self::PAUSE),
                answer => return answer,
            }
        }
        self.client()?.ask(request, input, each)
    }

    fn client(&self) -> Result<Client> {
        let first = self.first.take();
        let client = match first {
            Some(client) => Some(client),
            None => Client::connect(&self.path, self.patience)?,
        };
        client.ok_or_else(|| {
            let text = format!("the process that had {:?} open has ended; ask again", self.path);
            Error::new(ErrorKind::Closed, text)
        })
    }
}

/// What is known of a file that is only looked at.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// It is a dump.
    Dump,
    /// Nobody has it open.
    Idle(PathBuf),
    /// Somebody has it open who cannot be asked: their process, if it is known.
    Silent(String),
}

impl Source {
    /// Finds out who answers a request about a file.
    ///
    /// # Errors
    /// If nobody can: there is no such file, it is not one of ours, or somebody has it open who does not
    /// listen and a change is asked for.
    pub(crate) fn of(target: &Target, request: &Request, patience: Duration) -> Result<Self, Failure> {
        if let Some(client) = Client::connect(&target.path, patience)? {
            return Ok(Self::Owner(Asked {
                path: target.path.clone(),
                patience,
                first: RefCell::new(Some(client)),
            }));
        }
        if let Request::Restore { path } = request
            && !target.path.exists()
        {
            // A dump that cannot be read makes no database.
            file::inspect(Path::new(path)).map_err(of_file)?;
            return Ok(Self::Own(open(target, false)?));
        }
        if Kind::of(&target.path).map_err(of_file)? == Kind::Dump {
            return Self::dump(target, request);
        }
        match (file::holder(&target.path).map_err(of_file)?, request.changes()) {
            (Holder::Nobody, true) => Ok(Self::Own(open(target, false)?)),
            (Holder::Nobody, false) => {
                let seen = Seen::Idle(target.path.clone());
                Ok(Self::Look(file::inspect(&target.path).map_err(of_file)?, seen))
            }
            (Holder::Many, _) => Ok(Self::Own(open(target, true)?)),
            (Holder::One(who), false) => {
                let look = file::inspect(&target.path).map_err(of_file)?;
                Ok(Self::Look(look, Seen::Silent(who.to_string())))
            }
            (Holder::One(who), true) => {
                let text = format!(
                    "{:?} is in use by {who}, which does not listen on its control socket; do it there, or \
                     stop it first",
                    target.path
                );
                Err(Error::new(ErrorKind::AlreadyOpen, text).into())
            }
            (_, _) => Err(Failure::Usage(
                "the file is held in a way this version does not know".into(),
            )),
        }
    }

    fn dump(target: &Target, request: &Request) -> Result<Self, Failure> {
        if request.changes() {
            let text = format!(
                "{:?} is a dump, which is only looked at; restore it into a database",
                target.path
            );
            return Err(Error::new(ErrorKind::Unsupported, text).into());
        }
        Ok(Self::Look(
            file::inspect(&target.path).map_err(of_file)?,
            Seen::Dump,
        ))
    }

    /// Has a request answered, with the input that it announces.
    ///
    /// # Errors
    /// What the answer says.
    pub(crate) fn ask(
        &self,
        request: &Request,
        input: &[u8],
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Done> {
        match self {
            Self::Owner(owner) => owner.ask(request, input, each),
            Self::Own(d) | Self::Look(d, _) => answer(d, request, input.to_vec().into(), each),
        }
    }

    /// Ends what was opened. An error means that a change may not be kept.
    pub(crate) fn close(self) -> Result<()> {
        match self {
            Self::Owner(_) => Ok(()),
            Self::Own(d) => d.stop(Duration::ZERO).map(drop),
            Self::Look(d, seen) => {
                d.stop(Duration::ZERO)?;
                still_idle(&seen)
            }
        }
    }
}

/// A file at rest is read as if nobody could change it. Whoever opens it meanwhile makes what was read doubtful.
fn still_idle(seen: &Seen) -> Result<()> {
    if let Seen::Idle(path) = seen
        && !matches!(file::holder(path), Ok(Holder::Nobody))
    {
        let text = format!("{path:?} was opened by another process meanwhile; ask again");
        return Err(Error::new(ErrorKind::AlreadyOpen, text));
    }
    Ok(())
}

/// Opens the file as its owner does, or as one of several. What the owner's options would decide is left to
/// the owner: nothing is forgotten, refused for want of room, or given up because its process died.
fn open(target: &Target, shared: bool) -> Result<Dispatcher, Failure> {
    if target.path.as_os_str().as_encoded_bytes().contains(&b'?') {
        let text = format!(
            "{:?} has a question mark in it, behind which a URL has options; open it by another path, as a \
             symbolic link",
            target.path
        );
        return Err(Error::new(ErrorKind::Unsupported, text).into());
    }
    let mut options = Options::default();
    let ages = Duration::from_secs(100 * 365 * 86_400);
    (options.retention, options.retention_failed) = (ages, ages);
    options.keep_finished = usize::MAX;
    options.capacity = 0;
    options.max_crashes = u32::MAX;
    options.max_payload = forebay::Payload::MAX_LEN;
    options.control = forebay::Control::Off;
    Dispatcher::open(&target.url(shared), options).map_err(of_file)
}

/// An absolute path, as whoever answers may be in another folder.
pub(crate) fn absolute(path: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(path)?;
    match absolute.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Failure::Usage(format!("the path {path:?} is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_a_path_or_a_url() {
        for (text, path, url) in [
            ("jobs.db", "jobs.db", "sqlite:jobs.db"),
            ("/a b/jobs.db", "/a b/jobs.db", "sqlite:/a b/jobs.db"),
            ("sqlite:jobs.db", "jobs.db", "sqlite:jobs.db"),
            (
                "sqlite:/x/jobs.db?shared=true",
                "/x/jobs.db",
                "sqlite:/x/jobs.db?shared=true",
            ),
            ("sqlite:///x/jobs.db", "/x/jobs.db", "sqlite:/x/jobs.db"),
            ("./memory", "./memory", "sqlite:./memory"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(
                (target.path.to_str(), target.url(false)),
                (Some(path), url.to_owned())
            );
        }
        let shared = Target::parse("sqlite:jobs.db?node=a").unwrap().url(true);
        assert_eq!(shared, "sqlite:jobs.db?shared=true&node=a");
        for bad in ["", "memory:", "memory:?concurrency=2"] {
            assert_eq!(Target::parse(bad).unwrap_err().code(), Failure::USAGE);
        }
    }
}
