//! Logs: structured, to standard error, as text for people or as JSON for collectors.
//!
//! Set up once, by `main`; tests that need no log never call [`init`]. Modules log through
//! `tracing` and know nothing of formats. Nothing here may write to standard output, which
//! belongs to `--help`, `--version` and `health`.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, util::SubscriberInitExt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One compact line, coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Text or JSON.
    pub format: Format,
    /// A level, or filter directives such as `info,wsbcast::broker=debug`.
    pub level: String,
}

/// Logs could not be set up.
#[derive(Debug, Error)]
pub enum InitError {
    /// The level is none, and no filter either.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// This process logs already.
    #[error("logging is already set up: {0}")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// The text is neither a level nor a list of filter directives.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("off, error, warn, info, debug, trace, or directives such as info,wsbcast::broker=debug")]
pub struct InvalidFilter;

/// Starts logging to standard error.
///
/// # Errors
/// When the level is not valid, or something else has set up logging before.
pub fn init(settings: &Settings) -> Result<(), InitError> {
    let filter = parse_filter(&settings.level)?;
    // A line that can't be written is lost: to complain about it where it could not be written
    // would panic, and a log collector that dies must not take the service along.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false);
    match settings.format {
        Format::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.compact().with_ansi(colours).finish().try_init()?;
        }
        Format::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// Checks a level or filter.
///
/// The filter's own parser takes any word for a module's name, so that a misspelt level (of
/// `RUST_LOG`, too) would silently turn the log off; here each directive must be a level or end in
/// `=LEVEL`.
///
/// # Errors
/// When it is neither.
pub fn check_level(text: &str) -> Result<(), InvalidFilter> {
    let is_level = |word: &str| word.trim().parse::<LevelFilter>().is_ok() && !is_number(word);
    let is_directive = |part: &str| is_level(part.rsplit('=').next().unwrap_or(part));
    if !text.split(',').all(is_directive) {
        return Err(InvalidFilter);
    }
    parse_filter(text).map(drop)
}

fn parse_filter(text: &str) -> Result<EnvFilter, InvalidFilter> {
    EnvFilter::builder().parse(text).map_err(|_| InvalidFilter)
}

/// Levels as numbers exist in the parser, but nobody means them.
fn is_number(word: &str) -> bool {
    word.trim().bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused_and_not_taken_for_a_module() {
        for good in ["info", "off", "TRACE", "info,wsbcast::broker=debug", "wsbcast=trace,warn"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "inof", "3", "wsbcast", "info,", "wsbcast=loud", "a=b=c"] {
            assert_eq!(check_level(bad), Err(InvalidFilter), "{bad}");
        }
    }
}
