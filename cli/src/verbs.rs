//! What each verb does: the request, the answer, and what is made of it.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use forebay::control::{Done, Input, Listing, Part, Request};
use forebay::file::Kind;
use forebay::{Error, ErrorKind};
use serde_json::Value;

use crate::args::{Args, List, Retry, Show, Verb};
use crate::failure::Failure;
use crate::out::Out;
use crate::source::{Source, Target, absolute};
use crate::text::now_us;
use crate::{care, show, top};

/// How long the owner may take, unless the arguments say.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for what takes long.
const LONG: Duration = Duration::from_secs(600);
/// How many jobs are asked for at a time: each page of a file without an index costs a walk over all of it.
const PAGE: usize = forebay::Filter::MAX_LIMIT;

/// Does what the arguments say.
///
/// # Errors
/// Why it could not be done.
pub(crate) fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let target = target(args)?;
    let desk = Desk { args, target };
    match &args.verb {
        Verb::Stats => desk.simple(Request::Stats {}, out, |desk, answer, out| {
            show::about(desk.source, &desk.target.path, out)?;
            show::stats(answer, out)
        }),
        Verb::Top(options) => {
            let source = desk.source(&Request::Stats {})?;
            top::run(&source, &desk.target.path, options, out)?;
            Ok(source.close()?)
        }
        Verb::List(options) => desk.list(options, out),
        Verb::Show(options) => desk.show(options, out),
        Verb::Explain { what } => {
            let request = Request::Explain { what: what.clone() };
            desk.simple(request, out, |_, answer, out| show::explanation(answer, out))
        }
        Verb::Retry(options) => desk.retry(options, out),
        Verb::Cancel { id } => desk.cancel(id, out),
        Verb::Pause { queue } => {
            let queue = queue.clone();
            desk.simple(Request::Pause { queue }, out, |_, answer, out| {
                show::paused(answer, out)
            })
        }
        Verb::Resume { queue } => {
            let queue = queue.clone();
            desk.simple(Request::Resume { queue }, out, |_, answer, out| {
                show::paused(answer, out)
            })
        }
        Verb::Purge { queue } => {
            out.confirm(
                &format!("cancel every job that waits in queue {queue:?}"),
                args.yes,
            )?;
            let queue = queue.clone();
            desk.simple(Request::Purge { queue }, out, |_, answer, out| {
                show::purged(answer, out)
            })
        }
        Verb::Dump { file } => {
            not_itself(file, &desk.target.path)?;
            replaceable(file, args.yes)?;
            let path = absolute(file)?;
            desk.simple(Request::Dump { path }, out, |_, answer, out| {
                show::dumped(answer, out)
            })
        }
        Verb::Restore { file } => {
            let path = absolute(file)?;
            Kind::of(file).map_err(crate::failure::of_file)?;
            desk.simple(Request::Restore { path }, out, |_, answer, out| {
                show::restored(answer, out)
            })
        }
        Verb::Check => care::check(&desk.target.path, out),
        Verb::Salvage { new } => care::salvage(&desk.target.path, new, out),
    }
}

fn target(args: &Args) -> Result<Target, Failure> {
    match (&args.first, &args.db) {
        (Some(_), Some(_)) => {
            let text = "the file is named twice: as the first argument and with --db";
            Err(Failure::Usage(text.to_owned()))
        }
        (Some(db), None) | (None, Some(db)) => Target::parse(db),
        (None, None) => match std::env::var("FOREBAY_DB") {
            Ok(db) if !db.is_empty() => Target::parse(&db),
            _ => Err(Failure::Usage(
                "no file is named: give its path as the first argument, or with --db".to_owned(),
            )),
        },
    }
}

/// A dump in the place of the database, or of a file beside it, would take the jobs that have ended, and the file
/// from under its owner: nobody means that.
fn not_itself(file: &Path, target: &Path) -> Result<(), Failure> {
    let (Ok(file), Ok(target)) = (real(file), real(target)) else {
        return Ok(());
    };
    let beside = |name: &[u8]| matches!(name.first(), Some(b'-' | b'.')) && BESIDE.contains(&&name[1..]);
    let own = file
        .as_os_str()
        .as_bytes()
        .strip_prefix(target.as_os_str().as_bytes());
    if own.is_none_or(|name| !name.is_empty() && !beside(name)) || matches!(Kind::of(&target), Ok(Kind::Dump))
    {
        return Ok(());
    }
    let text = format!("{file:?} is the database itself, or a file that belongs to it; give another path");
    Err(Error::new(ErrorKind::AlreadyOpen, text).into())
}

/// What the files beside a database are called, after its name.
const BESIDE: [&[u8]; 7] = [b"wal", b"shm", b"lock", b"flight", b"reserve", b"wake", b"sock"];

/// Where a file is that is there, or its folder.
fn real(file: &Path) -> std::io::Result<PathBuf> {
    file.canonicalize().or_else(|_| {
        let absolute = std::path::absolute(file)?;
        let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Ok(absolute);
        };
        Ok(folder.canonicalize()?.join(name))
    })
}

/// A file that is no dump is more likely something that its owner wants to keep.
fn replaceable(file: &Path, yes: bool) -> Result<(), Failure> {
    if yes || !file.exists() || matches!(Kind::of(file), Ok(Kind::Dump)) {
        return Ok(());
    }
    let text = format!("{file:?} is there and is no dump; give another path, or --yes to replace it");
    Err(Error::new(ErrorKind::AlreadyOpen, text).into())
}

/// Where a verb is dealt with.
struct Desk<'a> {
    args: &'a Args,
    target: Target,
}

/// What is known when an answer is shown.
pub(crate) struct Context<'a> {
    pub(crate) source: &'a Source,
    pub(crate) target: &'a Target,
}

impl Desk<'_> {
    fn source(&self, request: &Request) -> Result<Source, Failure> {
        let long = matches!(
            request,
            Request::Dump { .. } | Request::Restore { .. } | Request::Purge { .. }
        );
        let patience = self.args.timeout.unwrap_or(if long { LONG } else { PATIENCE });
        Source::of(&self.target, request, patience.max(Duration::from_millis(1)))
    }

    /// A request whose answer is one object, and how it is shown to a person.
    fn simple(
        &self,
        request: Request,
        out: &mut Out,
        shown: impl FnOnce(&Context<'_>, &Value, &mut Out) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let source = self.source(&request)?;
        let answer = {
            let _progress = out.progress(name(&request));
            one(&source, &request, &[])?
        };
        let answer = show::seen_from(&source, answer);
        self.tell(&source, &answer, out, shown)?;
        Ok(source.close()?)
    }

    fn tell(
        &self,
        source: &Source,
        answer: &Value,
        out: &mut Out,
        shown: impl FnOnce(&Context<'_>, &Value, &mut Out) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if out.json {
            return out.object(&answer.to_string());
        }
        let target = &self.target;
        shown(&Context { source, target }, answer, out)
    }

    fn list(&self, options: &List, out: &mut Out) -> Result<(), Failure> {
        let listing = listing(options);
        let source = self.source(&Request::List(listing.clone()))?;
        if options.count {
            count(&source, listing, out)?;
        } else {
            let most = if options.all { usize::MAX } else { options.limit };
            pages(&source, listing, most, out)?;
        }
        Ok(source.close()?)
    }

    fn show(&self, options: &Show, out: &mut Out) -> Result<(), Failure> {
        let id = options.id.clone();
        let part = match (options.input, options.result) {
            (true, _) => Some(Part::Input),
            (_, true) => Some(Part::Result),
            _ => None,
        };
        let request = Request::Show { id: id.clone() };
        let source = self.source(&request)?;
        if let Some(of) = part {
            let (_, bytes) = bytes(&source, &id, of, None)?;
            out.bytes(&bytes)?;
            return Ok(source.close()?);
        }
        let job = one(&source, &request, &[])?;
        if out.json {
            out.object(&job.to_string())?;
            return Ok(source.close()?);
        }
        let preview = |of, present: bool| match present {
            true => bytes(&source, &id, of, Some(show::PREVIEW)).map(Some),
            false => Ok(None),
        };
        let input = preview(Part::Input, job["state"] != "succeeded")?;
        let result = preview(Part::Result, !job["result"].is_null())?;
        show::job(&job, input, result, out)?;
        Ok(source.close()?)
    }

    fn retry(&self, options: &Retry, out: &mut Out) -> Result<(), Failure> {
        let id = options.id.clone();
        let bytes = other_input(options)?;
        let request = Request::Retry {
            id: id.clone(),
            input: None,
        };
        let source = self.source(&request)?;
        let input = match &bytes {
            None if options.content_type.is_some() => {
                return Err(Failure::Usage(
                    "--content-type is the type of another input; give one".to_owned(),
                ));
            }
            None => None,
            Some(bytes) => Some(Input {
                len: bytes.len(),
                content_type: content_type(options, &source, bytes)?,
            }),
        };
        let request = Request::Retry { id, input };
        let answer = one(&source, &request, bytes.as_deref().unwrap_or_default())?;
        self.tell(&source, &answer, out, |_, answer, out| show::retried(answer, out))?;
        Ok(source.close()?)
    }

    /// Cancelling a job that has ended otherwise changes nothing: then the answer is no.
    fn cancel(&self, id: &str, out: &mut Out) -> Result<(), Failure> {
        let request = Request::Cancel { id: id.to_owned() };
        let source = self.source(&request)?;
        let answer = one(&source, &request, &[])?;
        self.tell(&source, &answer, out, |_, answer, out| {
            show::cancelled(answer, out)
        })?;
        source.close()?;
        match answer["state"].as_str() {
            Some("cancelled" | "running") => Ok(()),
            _ => Err(Failure::Told(Failure::REFUSED)),
        }
    }
}

/// What the options of a list ask for.
fn listing(options: &List) -> Listing {
    let now = now_us();
    let before = |age: Duration| now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
    Listing {
        queue: options.queue.clone(),
        kind: options.kind.clone(),
        states: options.state.iter().map(|s| s.name().to_owned()).collect(),
        key: options.key.clone(),
        created_from_us: options.newer.map(before),
        created_before_us: options.older.map(before),
        after: options.after.clone(),
        limit: None,
    }
}

/// How many jobs match.
fn count(source: &Source, mut listing: Listing, out: &mut Out) -> Result<(), Failure> {
    listing.limit = Some(1);
    let (_, done) = lines(source, &Request::List(listing), &[])?;
    let total = done.total.unwrap_or(0);
    match out.json {
        true => out.object(&serde_json::json!({"total": total}).to_string()),
        false => out.line(&total.to_string()),
    }
}

/// The jobs that match, page by page, until there are as many as are wanted.
fn pages(source: &Source, mut listing: Listing, most: usize, out: &mut Out) -> Result<(), Failure> {
    let (mut left, mut shown) = (most, show::Jobs::new());
    loop {
        let asked = left.min(PAGE);
        listing.limit = Some(asked);
        let (jobs, done) = lines(source, &Request::List(listing.clone()), &[])?;
        let mut last = None;
        for line in &jobs {
            let job = parse(line)?;
            last = Some(show::text(&job["id"]));
            if out.json {
                out.object(line)?
            } else {
                shown.add(&job)
            }
        }
        left -= jobs.len();
        if jobs.len() < asked || left == 0 {
            return shown.print(done.total.unwrap_or(0), out);
        }
        listing.after = last;
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Dump { .. } => "writing the dump",
        Request::Restore { .. } => "restoring",
        Request::Purge { .. } => "cancelling",
        _ => "asking",
    }
}

/// The lines of an answer.
pub(crate) fn lines(
    source: &Source,
    request: &Request,
    input: &[u8],
) -> Result<(Vec<String>, Done), Failure> {
    let mut lines = Vec::new();
    let done = source.ask(request, input, &mut |line| {
        lines.push(line.to_owned());
        Ok(())
    });
    Ok((lines, done.map_err(by_argument)?))
}

/// What is refused as it stands in an argument is a matter of usage.
fn by_argument(e: Error) -> Failure {
    let of_argument = e.kind() == ErrorKind::Invalid && e.to_string().contains("it must be a UUID");
    if of_argument {
        Failure::Usage(e.to_string())
    } else {
        e.into()
    }
}

/// The one object of an answer.
pub(crate) fn one(source: &Source, request: &Request, input: &[u8]) -> Result<Value, Failure> {
    let (lines, _) = lines(source, request, input)?;
    match lines.first() {
        Some(line) => parse(line),
        None => Err(Error::new(ErrorKind::Storage, "the answer is empty").into()),
    }
}

fn parse(line: &str) -> Result<Value, Failure> {
    let failed = |e| Error::new(ErrorKind::Storage, "the answer is no JSON").caused_by(e);
    Ok(serde_json::from_str(line).map_err(failed)?)
}

/// Bytes of a job, with the object that tells of them.
fn bytes(source: &Source, id: &str, of: Part, most: Option<usize>) -> Result<(Value, Vec<u8>), Failure> {
    let id = id.to_owned();
    let (lines, _) = lines(source, &Request::Bytes { id, of, most }, &[])?;
    let mut lines = lines.iter().map(|line| parse(line));
    let head = lines.next().transpose()?.unwrap_or_default();
    let mut bytes = Vec::new();
    for piece in lines {
        let decoded = BASE64.decode(piece?["base64"].as_str().unwrap_or_default());
        let failed = |e| Error::new(ErrorKind::Storage, "the answer is no base64").caused_by(e);
        bytes.extend(decoded.map_err(failed)?);
    }
    Ok((head, bytes))
}

fn other_input(options: &Retry) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(text) = &options.input {
        return Ok(Some(text.clone().into_bytes()));
    }
    let Some(path) = &options.input_file else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes),
        _ => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(e) => Err(Error::new(ErrorKind::Storage, format!("cannot read {path:?}"))
            .caused_by(e)
            .into()),
    }
}

/// The type of another input: that of the old one, or what it looks like if the old one is no longer kept.
fn content_type(options: &Retry, source: &Source, bytes: &[u8]) -> Result<String, Failure> {
    if let Some(given) = &options.content_type {
        return Ok(given.clone());
    }
    let id = options.id.clone();
    let job = one(source, &Request::Show { id }, &[])?;
    let old = &job["payload"];
    if job["state"] != "succeeded"
        && let Some(known) = old["content_type"].as_str()
    {
        return Ok(known.to_owned());
    }
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    Ok(match (json, std::str::from_utf8(bytes)) {
        (true, _) => forebay::JSON,
        (false, Ok(_)) => "text/plain",
        (false, Err(_)) => forebay::OCTETS,
    }
    .to_owned())
}
