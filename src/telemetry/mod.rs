//! Logs: structured, to standard error, as text for people or as JSON for collectors.
//!
//! Logging is set up once, by `main`; tests that need no log never call [`init`]. Modules log
//! through `tracing` and know nothing of formats, and through `seldom!` where others decide how
//! often. Lines are handed to a thread that writes them (`queue`), so that logging never waits.
//! Nothing here may write to standard output, which belongs to `--help`, `--version` and `health`.

mod access;
mod queue;
mod seldom;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal, Write as _},
    panic,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use thiserror::Error;
use tracing::{Dispatch, callsite, dispatcher, error, warn};
use tracing_subscriber::{
    Layer as _, Registry,
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
};

use self::queue::{LogQueue, LostLines};
pub(crate) use self::{access::access, seldom::seldom};
pub use self::{
    access::{ACCESS, access_is_logged},
    queue::{hurry, lines_dropped},
    seldom::LogSite,
};
use crate::{limits::LOG_FLUSH_DEADLINE, spelling};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One compact line, coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// The choice of log lines and their format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: Format,
    /// A level, or filter directives such as `info,wsbcast::broker=debug`.
    pub level: String,
    /// Whether there are lines about clients and requests, at any level ([`ACCESS`]).
    pub access: bool,
}

/// Logs could not be set up.
#[derive(Debug, Error)]
pub enum InitError {
    /// The level is neither a level nor a filter.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// Logging is set up already.
    #[error("logging is already set up: {0}")]
    AlreadySet(#[from] dispatcher::SetGlobalDefaultError),
    /// The system refuses a thread.
    #[error("no thread for the log: {0}")]
    Thread(#[from] io::Error),
}

/// While this lives, log lines are written; when it is dropped, the waiting ones are, in bounded
/// time.
#[derive(Debug)]
#[must_use = "dropped last, so that the last lines are written"]
pub struct Log(LogQueue);

impl Drop for Log {
    fn drop(&mut self) {
        seldom::tell_all();
        self.0.flush();
    }
}

/// The text is neither a level nor a list of filter directives with an unambiguous meaning.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidFilter {
    /// A directive without a level, or with another word in its place.
    #[error(
        "off, error, warn, info, debug, trace, or directives such as info,wsbcast::broker=debug"
    )]
    NoLevel,
    /// A directive for a name that is nearly our own.
    #[error("{OURS}: nothing here logs as {0:?}")]
    Misspelt(String),
}

/// The target of our own lines.
const OURS: &str = "wsbcast";
/// The level where directives name none for the rest.
const BASE_LEVEL: &str = "info";

/// Starts logging to standard error.
///
/// # Errors
/// When the level is not valid, or logging has been set up before.
pub fn init(settings: &LogSettings) -> Result<Log, InitError> {
    let access = if settings.access { LevelFilter::INFO } else { LevelFilter::OFF };
    let filter = parse_filter(&settings.level)?.with_target(ACCESS, access);
    let look = LineStyle {
        format: settings.format,
        colours: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let notice = move |missing: &LostLines| look.line(|| tell(missing));
    let queue = LogQueue::start(seldom::clock(), io::stderr(), notice, seldom::tell_due)?;
    dispatcher::set_global_default(look.dispatch(filter, queue.clone()))?;
    log_panics(look, queue.clone());
    Ok(Log(queue))
}

fn tell(missing: &LostLines) {
    let LostLines { unread, unwritten, error } = missing;
    if *unwritten > 0 {
        let error = error.as_deref().unwrap_or("nothing was taken");
        warn!(error, lines = unwritten, "log lines could not be written");
    }
    if *unread > 0 {
        warn!(lines = unread, "log lines were dropped: nobody took them in time");
    }
}

/// Writes `text` to standard error where there is no log, and waits for its reader no longer than
/// the log would: an exit code must not hang on it.
pub fn say(text: String) {
    let (done, is_done) = mpsc::sync_channel(1);
    let write = move || {
        // There may be no reader; the exit code tells the outcome all the same.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    };
    // Without a thread there is nothing to wait for: the text is lost, and the exit code tells the
    // outcome.
    if thread::Builder::new().name("say".to_owned()).spawn(write).is_ok() {
        let _ = is_done.recv_timeout(LOG_FLUSH_DEADLINE);
    }
}

/// A panic's message goes where all lines go, whatever the level: std's own hook would wait for the
/// reader of standard error, and hold up the panic.
fn log_panics(look: LineStyle, queue: LogQueue) {
    panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        // Captured only if RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        let line = look.line(|| match trace.status() {
            BacktraceStatus::Captured => error!(thread = name, %trace, "{info}"),
            _ => error!(thread = name, "{info}"),
        });
        queue.push(&line);
    }));
}

/// How lines are formatted.
#[derive(Clone, Copy, Debug)]
struct LineStyle {
    format: Format,
    colours: bool,
}

impl LineStyle {
    fn dispatch<W>(self, filter: Targets, out: W) -> Dispatch
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        // A line that can't be written is lost: a complaint about it would panic if it could not be
        // written either, and a log collector that dies must not take the service along.
        let lines = fmt::layer().with_writer(out).log_internal_errors(false);
        let lines = match self.format {
            Format::Text => lines.compact().with_ansi(self.colours).boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        Registry::default().with(lines).with(filter).into()
    }

    /// The lines that are formatted for the events of `log`, regardless of level and queue.
    fn line(self, log: impl FnOnce()) -> Vec<u8> {
        let page = LineBuffer::default();
        let filter = Targets::new().with_default(LevelFilter::WARN);
        dispatcher::with_default(&self.dispatch(filter, page.clone()), log);
        // Each call site caches whether its lines are wanted by any filter.
        callsite::rebuild_interest_cache();
        let mut lines = page.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lines)
    }
}

/// Lines in memory.
#[derive(Clone, Default)]
struct LineBuffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for LineBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineBuffer {
    type Writer = Self;

    fn make_writer(&self) -> Self::Writer {
        self.clone()
    }
}

/// Checks a level or filter.
///
/// The filter's own parser takes any word for a module's name, so a misspelt level (also in
/// `RUST_LOG`) would silently turn the log off. Here each directive must be a level or end in
/// `=LEVEL`, and must not name a target that is nearly our own.
///
/// # Errors
/// When a directive is not valid.
pub fn check_level(text: &str) -> Result<(), InvalidFilter> {
    for part in text.split(',') {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        if !is_level(level) {
            return Err(InvalidFilter::NoLevel);
        }
        let target = target.trim();
        let name = target.split([':', '[']).next().unwrap_or_default();
        if name != OURS && spelling::is_near(name, OURS) {
            return Err(InvalidFilter::Misspelt(target.to_owned()));
        }
    }
    parse_filter(text).map(drop)
}

/// Reads the directives. The filter's own parser would log nothing for modules that they do not
/// name. Directives about spans are for other programs: there are no spans here.
fn parse_filter(text: &str) -> Result<Targets, InvalidFilter> {
    let base = if text.split(',').any(is_level) { None } else { Some(BASE_LEVEL) };
    let ours = text.split(',').map(str::trim).filter(|part| !part.contains(['[', '{', '}', ']']));
    let directives: Vec<_> = base.into_iter().chain(ours).collect();
    directives.join(",").parse().map_err(|_| InvalidFilter::NoLevel)
}

fn is_level(word: &str) -> bool {
    word.trim().parse::<LevelFilter>().is_ok() && !is_number(word)
}

/// The parser takes numbers as levels, but nobody means them.
fn is_number(word: &str) -> bool {
    word.trim().bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_our_own_look_like_all_others() {
        let json = LineStyle { format: Format::Json, colours: false };
        let line = json.line(|| warn!(lines = 3, "missing"));
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&line["level"], &line["lines"]), (&"WARN".into(), &3.into()), "{line}");
        let text = LineStyle { format: Format::Text, ..json };
        let line = String::from_utf8(text.line(|| error!("at\nonce"))).unwrap();
        assert!(line.contains("ERROR wsbcast::telemetry::tests:"), "{line}");
    }

    /// A misspelt level is refused, and not taken for a module.
    #[test]
    fn a_misspelt_level_is_no_module() {
        for good in ["info", "off", "TRACE", "info,wsbcast::broker=debug", "wsbcast=trace,warn"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "inof", "3", "wsbcast", "info,", "wsbcast=loud", "a=b=c"] {
            assert_eq!(check_level(bad), Err(InvalidFilter::NoLevel), "{bad}");
        }
    }

    /// Directives for others and misspelt ones do not silence our own lines.
    /// Regression: `wsbcsat=debug` was taken for another program's name, and silenced everything.
    #[test]
    fn other_directives_do_not_silence_our_lines() {
        for bad in ["wsbcsat=debug", "wsbcast_=info", "Wsbcast::broker=debug", "info,wsbcst=trace"]
        {
            let told = check_level(bad).unwrap_err().to_string();
            assert!(told.starts_with("wsbcast: nothing here logs as"), "{bad}: {told}");
        }
        for good in ["hyper=debug", "other=trace,[span]=debug", "wsbcast::broker=debug"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
            let filter = parse_filter(good).unwrap().to_string();
            assert!(filter.split(',').any(|one| one == "info"), "{good}: {filter}");
        }
        for all in ["warn,wsbcast::broker=debug", "off"] {
            let filter = parse_filter(all).unwrap().to_string();
            assert!(!filter.contains("info"), "{all}: {filter}");
        }
    }
}
